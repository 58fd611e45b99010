"""Figure of a region: what is drawn is what the tables hold, whatever is given or left out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from epiloom.plan.errors import InputError
from epiloom.show.canvas import save, svg
from epiloom.show.genes_lane import packed
from epiloom.show.plots_region import Place, means, region_figure

PLACE = Place("chr2", 127_060_224, 127_060_224 + 640 * 128)


def table(tracks: int = 2, observed: bool = True, bins: int = 640) -> pd.DataFrame:
    draw = np.random.default_rng(3)
    parts = []
    for k in range(tracks):
        starts = PLACE.start + 128 * np.arange(bins)
        values = draw.gamma(0.5, 2, bins)
        part = {"chrom": "chr2", "start": starts, "end": starts + 128, "track": f"cell $_{k}",
                "predicted": values}  # fmt: skip
        parts.append(pd.DataFrame(part))
        if observed:
            parts[-1]["observed"] = draw.poisson(values).astype(float)
    return pd.concat(parts, ignore_index=True)


def genes(count: int = 3) -> pd.DataFrame:
    starts = np.linspace(PLACE.start - 10_000, PLACE.end - 1, count).astype(int)
    strand = np.where(np.arange(count) % 2, "-", "+")
    return pd.DataFrame(
        {"gene_id": [f"ENSG{k}" for k in range(count)], "chrom": "chr2", "strand": strand,
         "gene_name": [f"NAME{k}" if k else None for k in range(count)],
         "tss": np.where(strand == "+", starts, starts + 19_999),
         "gene_start": starts, "gene_end": starts + 20_000}
    )  # fmt: skip


def texts(figure) -> list[str]:
    found = [t.get_text() for t in figure.texts]
    found += [t.get_text() for axis in figure.axes for t in axis.texts]
    return found + [t.get_text() for legend in figure.legends for t in legend.get_texts()]


@pytest.mark.parametrize("tracks", [1, 18])
def test_every_track_has_a_pair_of_rows_on_one_scale_and_its_correlation(tracks, tmp_path):
    data = table(tracks)
    figure = region_figure(data, PLACE, "reads per base")
    assert len(figure.axes) == 2 * tracks
    for k, name in enumerate(dict.fromkeys(data["track"])):
        top, low = figure.axes[2 * k : 2 * k + 2]
        own = data[data["track"] == name]
        assert top.get_ylim() == low.get_ylim()
        assert top.get_ylim()[1] >= own[["predicted", "observed"]].max().max()
        r = np.corrcoef(np.log2(own["observed"] + 1), np.log2(own["predicted"] + 1))[0, 1]
        assert f"r {r:.2f}" in texts(figure)
    said = texts(figure)
    assert "predicted (reads per base)" in said and "observed (reads per base)" in said
    assert "chr2:127,060,224–127,142,144 (81.9 kb)" in said
    save(figure, tmp_path / "x.png", dpi=50)
    assert (tmp_path / "x.png").stat().st_size > 1000


def test_heights_and_places_are_those_of_the_table():
    data = table(1)
    figure = region_figure(data, PLACE)
    for axis, kind in zip(figure.axes, ("predicted", "observed"), strict=True):
        (steps,) = axis.patches
        values, edges, _ = steps.get_data()
        np.testing.assert_allclose(values, data[kind])
        np.testing.assert_array_equal(edges, [*data["start"], PLACE.end])
        assert axis.get_xlim() == (PLACE.start, PLACE.end)


def test_without_observed_there_is_one_row_and_no_correlation():
    for data in (table(2, observed=False), table(2).assign(observed=np.nan)):
        figure = region_figure(data, PLACE)
        assert len(figure.axes) == 2
        assert not any(t.startswith(("r ", "observed")) for t in texts(figure))


def test_all_lanes_are_drawn_in_order_and_the_lowest_carries_the_coordinates():
    peaks = pd.DataFrame({"chrom": ["chr2", "chr2", "chr1"], "start": [PLACE.start + 500, 5, 5]})
    peaks["end"] = peaks["start"] + 1_000
    conservation = np.full(640 * 128, 51, np.uint8)
    figure = region_figure(table(1), PLACE, "signal", conservation, genes(), peaks, "BIN1 $x")
    said = texts(figure)
    for text in ("peaks", "conservation", "genes", "NAME1", "NAME2", "ENSG0"):
        assert text in said
    *_, peak_row, conserved, gene_row = figure.axes
    assert len(peak_row.patches) == 1
    np.testing.assert_allclose(conserved.patches[0].get_data()[0], 0.2)
    assert gene_row.get_xlabel() == "chr2 (kb)" and figure.axes[0].get_xlabel() == ""
    labels = [gene_row.xaxis.get_major_formatter()(t) for t in gene_row.get_xticks()]
    assert "127,080" in labels and len(set(labels)) == len(labels)
    svg(figure, "region", "a region", dpi=50)


def test_peaks_of_single_tracks_stand_under_their_track():
    peaks = pd.DataFrame({"chrom": "chr2", "start": [PLACE.start], "end": [PLACE.start + 900]})
    figure = region_figure(table(2), PLACE, peaks=peaks.assign(track="cell $_1"))
    assert [len(axis.patches) for axis in figure.axes] == [1, 1, 0, 1, 1, 1]


@pytest.mark.parametrize("count", [0, 1, 400])
def test_any_number_of_genes_fits(count):
    figure = region_figure(table(1), PLACE, genes=genes(count))
    height = figure.axes[-1].get_position().height * figure.get_figheight()
    assert height <= 6 * 0.3
    assert any("genes" in text for text in texts(figure))
    assert not any(text.startswith("NAME") for text in texts(figure)) or count < 400


def test_genes_in_one_lane_do_not_touch():
    assert packed([(0, 5), (1, 3), (4, 9), (5, 6), (6, 7)]) == [0, 1, 1, 2, 0]


def test_bins_that_were_not_predicted_stay_empty():
    data = table(1).iloc[[0, 1, 5, 6]]
    values = region_figure(data, PLACE).axes[0].patches[0].get_data()[0]
    assert np.isnan(values).tolist() == [False, False, True, True, True, False, False]


def test_the_short_last_bin_of_a_chromosome_is_drawn_where_it_lies():
    data = table(1).iloc[[639]].assign(end=PLACE.end - 100)
    edges = region_figure(data, PLACE).axes[0].patches[0].get_data()[1]
    assert edges.tolist() == [PLACE.end - 128, PLACE.end - 100]


def test_long_regions_are_drawn_as_means_and_say_so():
    place = Place("chr2", PLACE.start, PLACE.start + 5_000 * 128)
    figure = region_figure(table(1, bins=5_000), place)
    values, edges, _ = figure.axes[0].patches[0].get_data()
    assert len(values) == 1000 and edges[-1] == place.end
    assert any("means of 5 bins" in text for text in texts(figure))
    assert figure.axes[-1].get_xlabel() == "chr2 (Mb)"
    found = means(np.array([1.0, 3, np.nan, 5, np.nan, np.nan, 9]), 2)
    np.testing.assert_array_equal(found, [2, 5, np.nan, 9])


def test_constant_tracks_have_no_correlation():
    figure = region_figure(table(1).assign(observed=0.0), PLACE)
    assert "r undefined" in texts(figure)


def test_a_region_without_bins_or_with_other_conservation_is_refused():
    with pytest.raises(InputError, match="no bin there") as error:
        region_figure(table(1), Place("chr1", 0, 100), conservation=np.zeros(7))
    assert len(error.value.problems) == 2
