"""Predicted regions: each bin once, the same however the windows are laid, on either strand.

The toy predictor looks no further than the crop, so the right answer is known for every bin.
"""

from __future__ import annotations

import logging
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epiloom.data.genome import Genome
from epiloom.data.geometry import Geometry
from epiloom.learn import predict_regions as module
from epiloom.learn.predict_regions import both_strands, predict_regions, reverse_complement
from epiloom.learn.region_windows import (
    CENTRED,
    Tiling,
    edge_weights,
    read_regions,
    wanted,
    windows,
)
from epiloom.plan.errors import InputError

GENOME = Genome("toy", ("chr1", "chr2", "chrM"), (5_003, 2_048, 37))
WINDOW = Geometry(seq_bp=512, bin_bp=16, crop_bins=4)  # 24 predicted bins, 64 bp seen around them
REACH = 30  # bases that the toy predictor looks beyond a bin


class Made:
    """A made genome, read as a stored one is."""

    def __init__(self, genome: Genome = GENOME, seed: int = 1):
        draw = np.random.default_rng(seed)
        sizes = dict(zip(genome.chromosomes, genome.lengths, strict=True))
        self.base = {c: draw.integers(0, 5, n).astype(np.uint8) for c, n in sizes.items()}
        self.cons = {c: draw.integers(0, 256, n).astype(np.uint8) for c, n in sizes.items()}

    def bases(self, chrom: str, start: int, length: int) -> np.ndarray:
        return self._cut(self.base[chrom], start, length, 4)

    def conservation(self, chrom: str, start: int, length: int) -> np.ndarray:
        return self._cut(self.cons[chrom], start, length, 0)

    @staticmethod
    def _cut(whole: np.ndarray, start: int, length: int, outside: int) -> np.ndarray:
        out = np.full(length, outside, np.uint8)
        low, high = max(start, 0), min(start + length, len(whole))
        out[low - start : high - start] = whole[low:high]
        return out


def toy(bases: np.ndarray, conservation: np.ndarray, geometry: Geometry = WINDOW) -> np.ndarray:
    """Two tracks: conserved G and C around each bin, and A and T weighted by distance. The same on
    both strands."""
    kernel = 1.0 + np.minimum(np.arange(16 + 2 * REACH), np.arange(16 + 2 * REACH)[::-1])
    out = []
    for rows in (
        np.isin(bases, (1, 2)) * np.exp(conservation / 255.0),
        np.isin(bases, (0, 3)) * 1.0,
    ):
        seen = np.lib.stride_tricks.sliding_window_view(rows, len(kernel), axis=1)
        first = geometry.crop_bp - REACH
        out.append(seen[:, first :: geometry.bin_bp][:, : geometry.bins] @ kernel)
    return np.stack(out, axis=1).astype(np.float32)


def lopsided(bases: np.ndarray, conservation: np.ndarray) -> np.ndarray:
    """Differs between the strands."""
    return toy(np.where(bases == 0, 1, bases), conservation) + (bases[:, :1, None] == 1)


def truth(reader: Made, genome: Genome = GENOME) -> dict[str, np.ndarray]:
    """Every bin from a window of its own."""
    out = {}
    for chrom, count in zip(genome.chromosomes, genome.bins(16), strict=True):
        starts = (np.arange(count) - WINDOW.crop_bins) * 16
        bases = np.stack([reader.bases(chrom, s, 512) for s in starts])
        cons = np.stack([reader.conservation(chrom, s, 512) for s in starts])
        out[chrom] = toy(bases, cons)[:, :, 0].T
    return out


def collect(blocks, genome: Genome = GENOME) -> dict[str, np.ndarray]:
    """Values of every bin, NaN where none was predicted; in order and once, or it fails."""
    out = {
        c: np.full((2, n), np.nan, np.float32)
        for c, n in zip(genome.chromosomes, genome.bins(16), strict=True)
    }
    last = (-1, -1)
    for block in blocks:
        assert block.values.dtype == np.float32
        here = slice(block.first, block.first + block.values.shape[1])
        assert block.values.shape[1] > 0
        assert np.isnan(out[block.chrom][:, here]).all() and here.stop <= out[block.chrom].shape[1]
        assert last <= (genome.index(block.chrom), block.first)
        last = (genome.index(block.chrom), here.stop)
        out[block.chrom][:, here] = block.values
    return out


@pytest.mark.parametrize("strands", [False, True])
@pytest.mark.parametrize("overlap", [0, 1, 12, 23])
@pytest.mark.parametrize("anchor", [None, 0, 7, -5])
def test_the_genome_is_the_same_however_it_is_tiled(strands, overlap, anchor):
    reader = Made()
    tiling = Tiling(overlap, anchor)
    for batch in (1, 5, 64):
        found = collect(predict_regions(toy, reader, None, GENOME, WINDOW, tiling, strands, batch))
        for chrom, values in truth(reader).items():
            np.testing.assert_allclose(found[chrom], values, rtol=2e-6)


def test_without_blending_and_averaging_values_are_those_of_the_predictor_to_the_last_digit():
    reader = Made()
    found = collect(predict_regions(toy, reader, None, GENOME, WINDOW, strands=False))
    for chrom, values in truth(reader).items():
        np.testing.assert_array_equal(found[chrom], values)


region = st.sampled_from(GENOME.chromosomes).flatmap(
    lambda c: st.tuples(st.integers(0, GENOME.length(c) - 1), st.integers(1, 900)).map(
        lambda p: (c, p[0], min(p[0] + p[1], GENOME.length(c)))
    )
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(region, min_size=1, max_size=12),
    st.sampled_from([0, 5, 12]),
    st.sampled_from([None, 0, 11]),
)
def test_any_regions_get_their_bins_once_and_no_others(regions, overlap, anchor):
    reader, expected = Made(), truth(Made())
    found = collect(
        predict_regions(toy, reader, regions, GENOME, WINDOW, Tiling(overlap, anchor), False)
    )
    for chrom, values in expected.items():
        due = np.zeros(values.shape[1], bool)
        for c, start, end in regions:
            if c == chrom:
                due[start // 16 : -(-end // 16)] = True
        np.testing.assert_allclose(found[chrom][:, due], values[:, due], rtol=2e-6)
        assert np.isnan(found[chrom][:, ~due]).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(region, min_size=1, max_size=12), st.sampled_from([0, 5, 12, 23]), st.booleans())
def test_windows_come_in_order_and_leave_no_wanted_bin_uncovered(regions, overlap, fixed):
    runs = wanted(regions, GENOME, 16)
    found = windows(runs, GENOME, WINDOW, Tiling(overlap, 3 if fixed else None))
    for one, two in pairwise(found):
        assert one.chrom != two.chrom or one.start <= two.start
    for window in found:
        assert window.start <= window.first < window.last <= window.start + WINDOW.bins
        if fixed:
            assert (window.start - 3) % (24 - overlap) == 0
    for chrom, own in runs.items():
        due = {b for a, z in own for b in range(a, z)}
        covered = [b for w in found if w.chrom == chrom for b in range(w.first, w.last)]
        assert due <= set(covered)
        if overlap == 0:
            assert len(covered) == len(set(covered))


def test_a_short_region_lies_in_the_middle_of_one_window():
    (window,) = windows(wanted([("chr1", 1600, 1664)], GENOME, 16), GENOME, WINDOW)
    assert (window.start, window.first, window.last) == (90, 100, 104)


def test_close_regions_share_a_window_and_a_long_one_takes_as_few_as_possible():
    near = wanted([("chr1", 1900, 1910), ("chr1", 1600, 1610)], GENOME, 16)
    assert len(windows(near, GENOME, WINDOW)) == 1
    long = wanted([("chr1", 1600, 1600 + 3 * WINDOW.target_bp)], GENOME, 16)
    assert [w.start for w in windows(long, GENOME, WINDOW)] == [100, 124, 148]


def test_windows_stay_inside_the_chromosome_where_they_can():
    first, last = (windows(wanted([r], GENOME, 16), GENOME, WINDOW)[0] for r in
                   [("chr1", 70, 80), ("chr1", 4_900, 4_910)])  # fmt: skip
    total = -(-5_003 // 16)
    assert first.start == WINDOW.crop_bins and last.start == total - 24 - 4
    ends = [("chr1", 0, 16), ("chr1", 5_002, 5_003), ("chrM", 0, 37)]
    at = [w.start for w in windows(wanted(ends, GENOME, 16), GENOME, WINDOW)]
    assert at == [0, total - 24, 0]


def test_a_pulse_is_predicted_where_it_lies_on_both_strands():
    """The bin of the base looked for, whichever strand is read and however wide the crop is."""
    genome = Genome("one", ("chr1",), (3_000,))

    def finds(bases, conservation):
        inner = bases[:, WINDOW.crop_bp : -WINDOW.crop_bp].reshape(len(bases), 1, -1, 16)
        hits = np.isin(inner, (0, 3)).sum(-1).astype(np.float32)
        return np.concatenate([hits, hits], axis=1)

    for place in (0, 15, 16, 1_000, 1_007, 2_999):
        reader = Made(genome)
        reader.base["chr1"][:] = 2
        reader.base["chr1"][place] = 0
        backward = lambda b, c: finds(reverse_complement(b), c[:, ::-1])[..., ::-1]  # noqa: E731
        for predict in (finds, both_strands(finds), backward):
            found = collect(predict_regions(predict, reader, None, genome, WINDOW), genome)["chr1"]
            assert np.flatnonzero(found[0]).tolist() == [place // 16]
            assert found[0, place // 16] == 1


def test_strand_averaging_is_exact_and_the_plain_network_is_not_symmetric():
    draw = np.random.default_rng(5)
    bases = draw.integers(0, 5, (4, 512)).astype(np.uint8)
    cons = draw.integers(0, 256, (4, 512)).astype(np.uint8)
    other = reverse_complement(bases), cons[:, ::-1]
    mean = both_strands(lopsided)
    np.testing.assert_array_equal(mean(*other)[..., ::-1], mean(bases, cons))
    expected = (lopsided(bases, cons) + lopsided(*other)[..., ::-1]) / 2
    np.testing.assert_array_equal(mean(bases, cons), expected)
    assert not np.allclose(lopsided(*other)[..., ::-1], lopsided(bases, cons))
    assert not np.array_equal(mean(bases, cons), lopsided(bases, cons))


def test_the_reverse_complement_pairs_bases_and_keeps_unknown_ones():
    bases = np.array([[0, 1, 2, 3, 4, 4, 0]], np.uint8)
    assert reverse_complement(bases).tolist() == [[3, 4, 4, 0, 1, 2, 3]]
    np.testing.assert_array_equal(reverse_complement(reverse_complement(bases)), bases)


def test_blending_weights_rise_from_the_edges_and_add_up_to_one_between_neighbours():
    assert edge_weights(6, 0).tolist() == [1] * 6
    weights = edge_weights(24, 7)
    np.testing.assert_allclose(weights[-7:] + weights[:7], 1)
    assert (np.diff(weights[:8]) > 0).all() and (weights[7:-7] == 1).all()
    np.testing.assert_array_equal(weights, weights[::-1])


def test_blending_takes_away_the_step_between_windows():
    """A predictor that says which window it is in: without blending a step, with it a ramp."""
    reader = Made()
    region = [("chr1", 1600, 1600 + 16 * 40)]

    def whose(bases, conservation):
        level = (conservation[:, :1, None] > 127) * np.ones((1, 2, WINDOW.bins))
        return level.astype(np.float32)

    todo = windows(wanted(region, GENOME, 16), GENOME, WINDOW, Tiling(8))
    low, high = ((w.start - WINDOW.crop_bins) * 16 for w in todo)
    reader.cons["chr1"][[low, high]] = 0, 255
    found = collect(predict_regions(whose, reader, region, GENOME, WINDOW, Tiling(8), False))
    steps = np.diff(found["chr1"][0][100:140])
    assert steps.sum() == 1 and steps.min() >= 0 and 0 < steps.max() < 0.25


def test_all_faulty_regions_are_named_at_once():
    regions = [("chr9", 0, 10), ("chr1", 10, 10), ("chr1", 50, 40), ("chr1", -5, 40)]
    regions += [("chr2", 2_000, 2_049), ("chr1", 0, 16)]
    with pytest.raises(InputError) as error:
        predict_regions(toy, Made(), regions, GENOME, WINDOW)
    assert len(error.value.problems) == 5
    for said in ("chr9 is not in toy", "chr1:10-10", "chr1:50-40", "chr1:-5-40", "2048 bases"):
        assert said in str(error.value)
    with pytest.raises(InputError, match="give at least one"):
        predict_regions(toy, Made(), [], GENOME, WINDOW)


def test_regions_come_as_texts_with_commas_and_spaces_as_chromosomes_and_from_bed(tmp_path):
    (tmp_path / "x.bed").write_text("chr2\t5\t9\nchr1\t0\t16\n")
    given = ["chr1:1,000-2,000", " chr1 : 10 - 20 ", "chrM", str(tmp_path / "x.bed")]
    found = [("chr1", 1000, 2000), ("chr1", 10, 20), ("chrM", 0, 37), ("chr2", 5, 9)]
    found.append(("chr1", 0, 16))
    assert read_regions(given, GENOME) == found
    assert wanted(found, GENOME, 16) == {
        "chr1": [(0, 2), (62, 125)],
        "chr2": [(0, 1)],
        "chrM": [(0, 3)],
    }


def test_all_that_is_wrong_with_the_regions_given_is_told_at_once(tmp_path):
    (tmp_path / "x.bed").write_text("chr2\t9\t9\nchr2\t0\t9000\n")
    given = ["chr1:20-20", "chr1:30-20", "chr9:1-2", "chr2:0-2,049", "chr1:a-b", "chr1:1-2"]
    with pytest.raises(InputError) as error:
        read_regions([*given, str(tmp_path / "x.bed"), "absent.bed"], GENOME)
    assert len(error.value.problems) == 8
    for said in (
        "'chr1:20-20'",
        "chr9 is not",
        "beyond the end of chr2",
        "x.bed: line 1",
        "no such",
    ):
        assert said in str(error.value)


@pytest.mark.parametrize("overlap", [-1, 24])
def test_an_overlap_without_a_step_is_refused(overlap):
    with pytest.raises(InputError, match="0 to 23"):
        predict_regions(toy, Made(), None, GENOME, WINDOW, Tiling(overlap))


def test_a_prediction_that_cannot_be_right_is_refused():
    short = lambda b, c: toy(b, c)[..., 1:]  # noqa: E731
    with pytest.raises(InputError, match="do not belong together"):
        list(predict_regions(short, Made(), None, GENOME, WINDOW))
    broken = lambda b, c: np.full((len(b), 2, 24), np.nan, np.float32)  # noqa: E731
    with pytest.raises(InputError, match="chr1:1472 is not finite"):
        list(predict_regions(broken, Made(), [("chr1", 1600, 1700)], GENOME, WINDOW, CENTRED))


def test_only_the_windows_in_work_are_held(monkeypatch):
    """The buffer never grows beyond what one batch adds, so memory does not follow the genome."""
    sizes = []
    add = module._Pending.add

    def watched(self, *args):
        add(self, *args)
        sizes.append(len(self.weights))

    monkeypatch.setattr(module._Pending, "add", watched)
    for tiling in (CENTRED, Tiling(12), Tiling(0, 0)):
        list(predict_regions(toy, Made(), None, GENOME, WINDOW, tiling))
    assert max(sizes) <= 2 * WINDOW.bins


def test_the_log_says_how_much_there_is_to_do_and_how_long_it_takes(caplog, monkeypatch):
    monkeypatch.setattr(module, "EVERY", 0.0)
    with caplog.at_level(logging.INFO, "epiloom"):
        list(predict_regions(toy, Made(), [("chr1", 0, 5_003)], GENOME, WINDOW, batch=5))
    assert caplog.messages[0] == "prediction: 313 bins from 14 windows"
    assert "5 of 14 windows, at chr1" in caplog.messages[1] and "left" in caplog.messages[1]
    assert len(caplog.messages) == 4
    assert [module._duration(s) for s in (59, 600, 90_000)] == ["59 s", "10 min", "25 h 0 min"]
