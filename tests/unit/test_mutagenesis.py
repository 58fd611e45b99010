"""Saturation mutagenesis against a predictor that is known exactly, and against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from epiloom.data.genome import Genome
from epiloom.plan.errors import InputError
from epiloom.studies import mutagenesis
from epiloom.studies.mutagenesis import Options, mutate
from tests.made_sequences import (
    GEOMETRY,
    HEIGHT,
    MOTIF,
    MadeGenome,
    Toy,
    other_strand,
    quiet,
    with_motif,
)

TRACKS = ("up", "down")
PLACE = 64 * 78 + 20
TEXT = quiet(10_000)


def scan(text: str, start: int, end: int, options=None, predict=None):
    predict = predict or Toy()
    return mutate("chr1", start, end, predict, MadeGenome(chr1=text), GEOMETRY, TRACKS, options)


@pytest.mark.parametrize("motif", [MOTIF, other_strand(MOTIF)])
@pytest.mark.parametrize("seed", range(3))
def test_all_substitutions_in_a_motif_lower_the_prediction_and_no_others_do(motif, seed):
    """Acceptance check 18, on a function that is known."""
    found = scan(with_motif(quiet(10_000, seed), PLACE, motif), PLACE - 40, PLACE + 50)
    inside = slice(40, 50)
    values = found.effect[0]
    changed = values[:, inside][mutagenesis.one_hot(found.bases[inside]) == 0]
    assert len(changed) == 30 and (changed < 0).all()
    largest = np.argsort(-np.abs(found.mean()[0]))[:10]
    assert sorted(largest) == list(range(40, 50))
    values = np.delete(values, np.arange(40, 50), axis=1)
    assert (values >= 0).all() and (values <= 2).all()  # some make a poor second motif


def test_effect_equals_prediction_by_prediction():
    """Every substitution predicted alone, on both strands, with a window made by hand."""
    text = "".join(np.random.default_rng(5).choice(list("ACGT"), 6000))
    text = with_motif(with_motif(text, 3000), 3030, other_strand(MOTIF))
    text = text[:3020] + "N" + text[3021:]
    genome, toy = MadeGenome(chr1=text), Toy(stranded=True)
    for sums in mutagenesis.SUMS:
        found = scan(text, 2990, 3050, Options(sums=sums, batch=7), Toy(stranded=True))
        window = GEOMETRY.around((2990 + 3049) // 2)
        score = genome.conservation("chr1", window, 2048)[None]
        origin = window + GEOMETRY.crop_bp

        def predict(bases, score=score, toy=toy):
            other = np.where(bases < 4, 3 - bases, 4).astype(np.uint8)[:, ::-1]
            return (toy(bases, score) + toy(other, score[:, ::-1])[:, :, ::-1])[0] / 2

        own = genome.bases("chr1", window, 2048)[None]
        for position in range(2990, 3050, 3):
            for alt in range(4):
                value = found.effect[:, alt, position - 2990]
                if text[position] == "N":
                    assert np.isnan(value).all()
                    continue
                changed = own.copy()
                changed[0, position - window] = alt
                if sums == "around":
                    middle = (position - origin) // 64
                    bins = slice(middle - 2, middle + 3)
                else:
                    bins = slice((2990 - origin) // 64, (3049 - origin) // 64 + 1)
                expected = (predict(changed) - predict(own))[:, bins].sum(axis=1)
                np.testing.assert_allclose(value, expected, atol=1e-5)


def test_long_intervals_are_tiled_without_a_seam():
    places = range(2000, 6000, 190)
    text = TEXT
    for place in places:
        text = with_motif(text, place)
    found = scan(text, 1900, 6100, Options(strands=False, batch=500))
    expected = np.zeros(4200, bool)
    for place in places:
        expected[place - 1900 : place - 1890] = True
    assert ((found.mean()[0] < 0) == expected).all()
    assert len(mutagenesis.tiles(1900, 6100, GEOMETRY)) == 6
    half = scan(text, 3000, 3500, Options(strands=False))
    np.testing.assert_array_equal(half.effect, found.effect[:, :, 1100:1600])


@pytest.mark.parametrize("length", [1, 63, 768, 769, 5000])
def test_tiles_cover_an_interval_once_and_lie_inside_the_predicted_bases(length):
    found = mutagenesis.tiles(1234, 1234 + length, GEOMETRY)
    assert found[0][0] == 1234 and found[-1][1] == 1234 + length
    assert all(a[1] == b[0] for a, b in zip(found[:-1], found[1:], strict=True))
    for first, last, window in found:
        origin = window + GEOMETRY.crop_bp
        assert origin + 2 * 64 <= first and last + 2 * 64 <= origin + GEOMETRY.target_bp
        assert window % GEOMETRY.bin_bp == 0


def test_table_logo_and_matrix_say_the_same():
    text = with_motif(TEXT, PLACE)
    text = text[: PLACE - 3] + "N" + text[PLACE - 2 :]
    found = scan(text, PLACE - 5, PLACE + 12)
    table = found.table()
    assert len(table) == 2 * 3 * 16 and set(table["track"]) == set(TRACKS)
    for row in table.itertuples():
        k = row.position - found.start
        assert text[row.position] == row.ref != row.alt
        assert found.effect[TRACKS.index(row.track), "ACGT".index(row.alt), k] == row.effect
    logo = found.logo()
    assert logo.shape == (2, 4, 17) and (logo[:, :, 2] == 0).all()
    mean = table[table["track"] == "up"].groupby("position")["effect"].mean()
    np.testing.assert_allclose(logo[0].sum(0)[5:15], -mean.loc[PLACE : PLACE + 9], rtol=1e-6)
    assert "".join("ACGT"[k] for k in logo[0, :, 5:15].argmax(0)) == MOTIF
    hypothetical = found.hypothetical()
    np.testing.assert_allclose(hypothetical.sum(axis=1), 0, atol=1e-5)
    assert (hypothetical[0].argmax(0)[5:15] == found.bases[5:15]).all()


def test_batches_are_bounded_and_change_nothing():
    text = with_motif(TEXT, PLACE)
    toy = Toy()
    one = scan(text, PLACE, PLACE + 20, Options(batch=11), toy)
    assert max(toy.calls) == 11 and sum(toy.calls) == 2 * (1 + 60)  # two strands
    two = scan(text, PLACE, PLACE + 20, Options(batch=1000))
    np.testing.assert_array_equal(one.effect, two.effect)


def test_gradient_estimate_is_exact_for_a_linear_model_and_compared_for_others():
    rng = np.random.default_rng(2)
    text = "".join(rng.choice(list("ACGT"), 6000))
    text = text[:3010] + "N" + text[3011:]
    slope = rng.normal(size=(4, GEOMETRY.seq_bp)).astype(np.float32)
    start, end = 2980, 3060
    window = mutagenesis.tiles(start, end, GEOMETRY)[0][2]
    bins = slice((start - window) // 64, -(-(end - window) // 64))

    def linear(bases, conservation):
        by_base = (mutagenesis.one_hot(bases) * slope).sum(axis=1)
        binned = by_base.reshape(len(bases), -1, 64).sum(2)[:, None]
        return binned[..., GEOMETRY.crop_bins : -GEOMETRY.crop_bins]

    def gradient(x):
        found = np.zeros_like(x)
        found[:, :, bins.start * 64 : bins.stop * 64] = slope[:, bins.start * 64 : bins.stop * 64]
        return found

    genome = MadeGenome(chr1=text)
    options = Options(sums="interval", strands=False)
    exact = mutate("chr1", start, end, linear, genome, GEOMETRY, ("x",), options)
    estimate = mutagenesis.estimated("chr1", start, end, gradient, genome, GEOMETRY)
    np.testing.assert_allclose(estimate.effect, exact.effect, atol=2e-4)
    assert mutagenesis.agreement(exact, estimate) == pytest.approx(1)
    noisy = mutagenesis.estimated(
        *("chr1", start, end, lambda x: rng.normal(size=x.shape), genome, GEOMETRY)
    )
    assert abs(mutagenesis.agreement(exact, noisy)) < 0.4
    assert np.isnan(mutagenesis.agreement(exact, scan(TEXT, start, end)))
    with pytest.raises(InputError, match="is expected"):
        mutagenesis.estimated("chr1", start, end, lambda x: x[0], genome, GEOMETRY)


def test_wrong_intervals_options_and_names_are_refused():
    genome = Genome("toy", ("chr1",), (100,))
    for interval, told in (
        (("chr2", 0, 5), "has no chr2"),
        (("chr1", 5, 5), "is empty"),
        (("chr1", 90, 101), "leaves chr1"),
    ):
        with pytest.raises(InputError, match=told):
            mutagenesis.check(*interval, genome)
    mutagenesis.check("chr1", 0, 100, genome)
    with pytest.raises(InputError, match="use around or interval"):
        Options(sums="all")
    with pytest.raises(InputError, match="is empty"):
        scan(TEXT, 10, 10)
    with pytest.raises(InputError, match="1 names for 2 outputs"):
        mutate("chr1", 10, 20, Toy(), MadeGenome(chr1=TEXT), GEOMETRY, ("x",))


def test_height_of_a_motif_is_what_its_loss_costs():
    found = scan(with_motif(TEXT, PLACE), PLACE, PLACE + 10)
    assert found.effect.min() == -HEIGHT / 2
