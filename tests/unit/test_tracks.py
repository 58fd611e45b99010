"""The bigWig writer: what is written is what is read back, and missing stays missing."""

from __future__ import annotations

import math

import numpy as np
import pyBigWig
import pytest

from epiloom.data.genome import Genome
from epiloom.plan.errors import InputError
from epiloom.show import tracks
from epiloom.show.tracks import write_bins

GENOME = Genome("toy", ("chr1", "chr2", "chrM"), (1010, 500, 99))
BIN = 100
BINS = (11, 5, 1)


def values(seed: int = 3) -> np.ndarray:
    """A value for each of the 17 bins, some equal to their neighbour, some missing."""
    drawn = np.random.default_rng(seed).integers(0, 3, sum(BINS)).astype(np.float32)
    drawn[[2, 3, 10, 13]] = np.nan
    return drawn


def read_back(path) -> np.ndarray:
    """Mean of every bin, as a reader that knows nothing of the writer sees it."""
    means = []
    with pyBigWig.open(str(path)) as bigwig:
        assert bigwig.chroms() == dict(zip(GENOME.chromosomes, GENOME.lengths, strict=True))
        for chrom, length in zip(GENOME.chromosomes, GENOME.lengths, strict=True):
            bases = bigwig.values(chrom, 0, length, numpy=True)
            means += [bases[at : at + BIN].mean() for at in range(0, length, BIN)]
    return np.array(means)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_bins_come_back_and_missing_bins_have_no_value(tmp_path, dtype):
    path = tmp_path / "x.bw"
    written = values().astype(dtype)
    write_bins(path, GENOME, BIN, written)
    np.testing.assert_array_equal(read_back(path), written.astype(np.float64))


def test_fractions_come_back_in_single_precision(tmp_path):
    written = np.random.default_rng(1).normal(size=sum(BINS))
    write_bins(tmp_path / "x.bw", GENOME, BIN, written)
    np.testing.assert_allclose(read_back(tmp_path / "x.bw"), written, rtol=1e-6)


def test_the_last_bin_ends_with_its_chromosome(tmp_path):
    write_bins(tmp_path / "x.bw", GENOME, BIN, np.arange(sum(BINS)) + 1.0)
    with pyBigWig.open(str(tmp_path / "x.bw")) as bigwig:
        assert bigwig.intervals("chr1")[-1] == (1000, 1010, 11.0)
        assert bigwig.intervals("chrM") == ((0, 99, 17.0),)


def test_equal_neighbours_become_one_interval_but_not_across_a_gap_or_a_chromosome(tmp_path):
    written = np.ones(sum(BINS))
    written[4] = np.nan
    assert write_bins(tmp_path / "x.bw", GENOME, BIN, written) == 4
    with pyBigWig.open(str(tmp_path / "x.bw")) as bigwig:
        assert [i[:2] for i in bigwig.intervals("chr1")] == [(0, 400), (500, 1010)]


def test_a_chromosome_without_values_is_left_empty(tmp_path):
    written = values()
    written[BINS[0] : BINS[0] + BINS[1]] = np.nan
    write_bins(tmp_path / "x.bw", GENOME, BIN, written)
    with pyBigWig.open(str(tmp_path / "x.bw")) as bigwig:
        assert bigwig.intervals("chr2") is None
        assert math.isclose(bigwig.stats("chrM", exact=True)[0], written[-1])


def test_blocks_do_not_change_the_file(tmp_path, monkeypatch):
    write_bins(tmp_path / "a.bw", GENOME, BIN, values())
    monkeypatch.setattr(tracks, "BLOCK", 2)
    write_bins(tmp_path / "b.bw", GENOME, BIN, values())
    np.testing.assert_array_equal(read_back(tmp_path / "a.bw"), read_back(tmp_path / "b.bw"))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (np.ones(16), "17 bins"),
        (np.ones((17, 1)), "one value per bin"),
        (np.where(np.arange(17) == 5, np.inf, 1.0), "bin 5 is infinite"),
        (np.full(17, np.nan), "every bin is missing"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_no_file(tmp_path, bad, says):
    path = tmp_path / "x.bw"
    with pytest.raises(InputError, match=says) as error:
        write_bins(path, GENOME, BIN, bad)
    assert str(path) in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_pieces_in_order_make_the_same_track_as_the_whole(tmp_path):
    written = values()
    write_bins(tmp_path / "a.bw", GENOME, BIN, written)
    with tracks.open_bins(tmp_path / "b.bw", GENOME, BIN) as writer:
        for chrom, first, start, stop in [
            ("chr1", 0, 0, 4),
            ("chr1", 4, 4, 5),
            ("chr1", 5, 5, 11),
            ("chr2", 0, 11, 16),
            ("chrM", 0, 16, 17),
        ]:
            writer.add(chrom, first, written[start:stop])
    np.testing.assert_array_equal(read_back(tmp_path / "a.bw"), read_back(tmp_path / "b.bw"))


def test_pieces_may_leave_gaps(tmp_path):
    with tracks.open_bins(tmp_path / "x.bw", GENOME, BIN) as writer:
        writer.add("chr1", 9, np.array([1.0, 2.0]))
        writer.add("chrM", 0, np.array([3.0]))
    with pyBigWig.open(str(tmp_path / "x.bw")) as bigwig:
        assert bigwig.intervals("chr1") == ((900, 1000, 1.0), (1000, 1010, 2.0))
        assert bigwig.intervals("chr2") is None


def test_a_track_in_pieces_that_fails_or_stays_empty_leaves_no_file(tmp_path):
    with (
        pytest.raises(KeyboardInterrupt),
        tracks.open_bins(tmp_path / "x.bw", GENOME, BIN) as writer,
    ):
        writer.add("chr1", 0, np.ones(3))
        raise KeyboardInterrupt
    with (
        pytest.raises(InputError, match="chr1: bin 5 is infinite"),
        tracks.open_bins(tmp_path / "x.bw", GENOME, BIN) as writer,
    ):
        writer.add("chr1", 4, np.array([1.0, np.inf]))
    with (
        pytest.raises(InputError, match="at least one value"),
        tracks.open_bins(tmp_path / "x.bw", GENOME, BIN) as writer,
    ):
        writer.add("chr1", 4, np.array([np.nan]))
    assert list(tmp_path.iterdir()) == []


def test_values_per_base_of_some_stretches_come_back(tmp_path):
    one, two = np.arange(5, dtype=np.float32), np.array([1, np.nan, 3], np.float32)
    pieces = [("chr2", 497, two), ("chr1", 100, one), ("chr1", 105, one)]
    assert tracks.write_bases(tmp_path / "x.bw", GENOME, pieces) == 12
    with pyBigWig.open(str(tmp_path / "x.bw")) as bigwig:
        np.testing.assert_array_equal(bigwig.values("chr1", 100, 110), [*one, *one])
        found = bigwig.values("chr2", 496, 500)
        assert math.isnan(found[0]) and math.isnan(found[2]) and found[1::2] == [1, 3]
        assert not bigwig.intervals("chrM")


@pytest.mark.parametrize(
    ("pieces", "told"),
    [
        ([("chr1", 0, [1.0, 2]), ("chr1", 1, [1.0])], "is in two stretches"),
        ([("chr1", 1009, [1.0, 2])], "not on the genome"),
        ([("chr9", 0, [1.0])], "not on the genome"),
        ([("chr1", 0, [np.inf])], "infinite"),
        ([("chr1", 0, [np.nan])], "at least one"),
        ([], "at least one"),
    ],
)
def test_stretches_that_do_not_fit_are_refused(tmp_path, pieces, told):
    with pytest.raises(InputError, match=told):
        tracks.write_bases(tmp_path / "x.bw", GENOME, [(c, s, np.array(v)) for c, s, v in pieces])
    assert list(tmp_path.iterdir()) == []
