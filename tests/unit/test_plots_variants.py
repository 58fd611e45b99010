"""Figures of variants, maps and motifs: what they show is what the numbers say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from epiloom.show import canvas, plots_variants
from epiloom.studies import mutagenesis, variants
from epiloom.studies.motif_discovery import Found
from epiloom.studies.mutagenesis import Map
from tests.made_sequences import GEOMETRY, MOTIF, MadeGenome, Toy, quiet, with_motif

TEXT = with_motif(quiet(6000), 3000)
GENOME = MadeGenome(chr1=TEXT[:3030] + "N" + TEXT[3031:])


def saved(figure: Figure, path) -> None:
    canvas.save(figure, path / "x.png", dpi=50)
    assert (path / "x.png").read_bytes()[:4] == b"\x89PNG"
    text = canvas.svg(figure, "one", "what it shows")
    assert text.startswith("<svg") and 'aria-label="what it shows"' in text


def letters(axis) -> list[tuple[float, float, float]]:
    """(place, lowest, highest) of every letter."""
    boxes = [patch.get_path().get_extents() for patch in axis.patches]
    return [((box.x0 + box.x1) / 2, box.y0, box.y1) for box in boxes]


def test_letters_are_as_high_as_their_numbers_and_stacked_by_size():
    axis = Figure().subplots()
    heights = np.array([[1.0, 0, 0], [3.0, -2, 0], [0, -1, 0], [0, 0, 0]])
    plots_variants.draw_logo(axis, heights, start=10)
    np.testing.assert_allclose(
        letters(axis), [(10, 0, 1), (10, 1, 4), (11, -1, 0), (11, -3, -1)], atol=1e-9
    )
    low, high = axis.get_ylim()
    assert low < -3 and high > 4 and axis.get_xlim() == (9.5, 12.5)


def test_both_alleles_and_their_difference_are_drawn_for_every_track(tmp_path):
    table = pd.DataFrame(
        [("chr1", 3003, "C", "T", "rs$1"), ("chr1", 2900, TEXT[2900:2930], TEXT[2900], "")],
        columns=["chrom", "position", "ref", "alt", "id"],
    )
    for effect in variants.effects(table, Toy(), GENOME, GEOMETRY):
        row = table.iloc[effect.variant]
        figure = plots_variants.variant_figure(effect, row, GEOMETRY, ("up", "down"), 500)
        assert len(figure.axes) == 4
        lines = figure.axes[0].get_lines()
        bins = len(lines[0].get_ydata())
        assert 15 < bins <= 18  # 500 bp to each side, not all 24
        np.testing.assert_array_equal(lines[2].get_xdata(), [(effect.edit.first + 0.5) / 1000] * 2)
        saved(figure, tmp_path)
    assert len(plots_variants.variant_figure(effect, row, GEOMETRY, ("up", "down")).axes) == 4


def test_a_map_shows_effects_on_a_scale_around_zero_and_the_motif_as_letters(tmp_path):
    found = mutagenesis.mutate(
        "chr1", 2950, 3090, Toy(), GENOME, GEOMETRY, ("up", "down"), mutagenesis.Options(batch=500)
    )
    figure = plots_variants.map_figure(found)
    logo, heat, second = figure.axes[:3]
    tall = [round(place) for place, low, high in letters(logo) if high > 3]
    assert tall == list(range(50, 60))
    picture = heat.images[0]
    assert picture.norm.vmin == -picture.norm.vmax and picture.norm.vcenter == 0
    np.testing.assert_array_equal(
        np.ma.filled(picture.get_array(), np.nan), found.effect[0][:, :100]
    )
    ticks = dict(
        zip(heat.get_xticks(), (t.get_text() for t in heat.get_xticklabels()), strict=True)
    )
    assert ticks[49] == "3,000"  # 1-based: the base before the motif
    assert not second.patches
    saved(figure, tmp_path)
    part = plots_variants.map_figure(found, 1, (2990, 3020))
    hanging = [round(place) for place, low, _ in letters(part.axes[0]) if low < -1]
    assert len(part.axes) == 3 and hanging == list(range(10, 20))


def test_a_map_without_known_bases_says_so():
    none = Map("chr1", 0, ("up",), np.full(5, 4, np.uint8), np.full((1, 4, 5), np.nan))
    assert "No known base" in plots_variants.map_figure(none).texts[0].get_text()


@pytest.mark.parametrize(("strand", "offset"), [("+", 2), ("-", -1)])
def test_motifs_stand_under_what_they_are_like(tmp_path, strand, offset):
    hot = mutagenesis.one_hot(np.array(["ACGT".index(base) for base in MOTIF])).T
    own = Found("pos_1", hot * 2, hot * 0.97 + 0.0075, pd.DataFrame({"start": range(30)}))
    theirs = own.probabilities if strand == "+" else own.probabilities[::-1, ::-1]
    row = {"motif": "pos_1", "seqlets": 30, "consensus": MOTIF, "match": "AP1", "score": 0.99}
    row |= {"p": 0.01, "q": 0.01, "strand": strand, "offset": offset}
    figure = plots_variants.motifs_figure([own], pd.DataFrame([row]), {"AP1": theirs})
    tops = {round(place): high for place, low, high in letters(figure.axes[2])}
    assert sorted(tops) == list(range(offset, offset + 10))
    assert figure.axes[1].get_xlim() == figure.axes[2].get_xlim()
    saved(figure, tmp_path)
    assert "No motif" in plots_variants.motifs_figure([], pd.DataFrame(), {}).texts[0].get_text()


def test_losses_and_gains_differ_in_brightness_from_the_middle_on_both_sides():
    """The scale is readable without telling its two hues apart only by hue."""
    rgb = plots_variants.DIVERGING(np.linspace(0, 1, 9))[:, :3]
    light = rgb @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light[:5]) > 0).all() and (np.diff(light[4:]) < 0).all()
    assert light[4] == pytest.approx(1)
    assert (rgb[:3, 0] > rgb[:3, 2]).all() and (rgb[-3:, 0] < rgb[-3:, 2]).all()
