"""Tiles: every track beside every other, against a reference that goes value by value."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyBigWig
import pytest

from epiloom.data import tiles as module
from epiloom.data.genome import Genome
from epiloom.data.signal import TRANSFORMS
from epiloom.data.store import GenomeStore, write_mask, write_track
from epiloom.data.tiles import MISSING, NO_DATA, Moments, arcsinh_codes, checksum, write_tiles
from epiloom.plan.errors import InputError
from tests.made_tiles import (
    BIN,
    CHANNELS,
    GENOME,
    made_case,
    make_tiles,
    opened,
    rows,
    tile_files,
)


@pytest.fixture(scope="module")
def case():
    return made_case()


@pytest.fixture(scope="module")
def files(case, tmp_path_factory):
    return make_tiles(tmp_path_factory.mktemp("store"), *case)


def stored(value: float) -> int:
    """One value of the tiles, the slow way."""
    if math.isnan(value):
        return MISSING
    return max(-32767, min(32767, round(1000 * math.log(value + math.sqrt(value**2 + 1)))))


def test_every_value_is_a_thousand_times_its_arcsinh(case, files):
    signal, _ = case
    found = opened(files).values
    assert found.dtype == np.int16 and found.shape == signal.shape
    for row, values in zip(found.tolist(), signal.tolist(), strict=True):
        assert row == [stored(value) for value in values]


def test_the_code_of_every_number_of_16_bits():
    codes = arcsinh_codes()
    numbers = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64)
    finite = np.isfinite(numbers)
    assert np.array_equal(codes[finite], np.rint(1000 * np.arcsinh(numbers[finite])))
    assert (codes[np.isnan(numbers)] == MISSING).all() and (codes == MISSING).sum() == 2046
    # beyond all numbers there is still no missing one
    assert not (codes[np.isinf(numbers)] == MISSING).any()


def test_flags_tell_gaps_blacklisted_bins_and_bins_without_data(case, files):
    signal, mask = case
    found = np.asarray(opened(files).flags)
    for row, flag in enumerate(found.tolist()):
        nothing = all(math.isnan(value) for value in signal[row].tolist())
        assert flag == int(mask[row]) + NO_DATA * nothing
    assert set(found.tolist()) == {0, 2, 8, 1 + 8}
    # a value of a single channel is enough
    assert (found[rows("chr2", 100, 130)] == 0).all()


def usable_moments(case, chrom: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """n, mean, m2 of every channel, of values as they are stored."""
    signal, mask = case
    found = []
    for k in range(signal.shape[1]):
        values = [
            stored(float(signal[row, k])) / 1000
            for row in range(rows(chrom).start, rows(chrom).stop)
            if mask[row] == 0 and not np.isnan(signal[row, k])
        ]
        found.append((len(values), np.mean(values), np.var(values) * len(values)))
    return tuple(np.array(found).T)


@pytest.mark.parametrize("chrom", GENOME.chromosomes)
def test_moments_are_those_of_the_usable_values_of_a_chromosome(chrom, case, files):
    found = opened(files).moments[chrom]
    n, mean, m2 = usable_moments(case, chrom)
    assert np.array_equal(found.n, n)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(found.m2, m2, rtol=1e-10)


def test_moments_of_several_chromosomes_are_those_of_all_their_values(files):
    tiles = opened(files)
    found = tiles.statistics(["chr1", "chr2", "chr4"])
    kept = np.r_[rows("chr1"), rows("chr2"), rows("chr4")]
    kept = kept[tiles.flags[kept] == 0]
    values = np.where(tiles.values[kept] == MISSING, np.nan, tiles.values[kept] * 0.001)
    np.testing.assert_allclose(found.mean, np.nanmean(values, axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.std, np.nanstd(values, axis=0), rtol=1e-12)
    assert np.array_equal(found.n, (~np.isnan(values)).sum(axis=0))


def test_moments_of_nothing_add_nothing():
    some = Moments(np.array([3.0]), np.array([0.7]), np.array([0.2]))
    none = Moments(*(np.zeros(1) for _ in range(3)))
    for total in (some + none, none + some):
        assert (total.n, total.mean, total.m2) == (some.n, some.mean, some.m2)
    assert (none + none).std == 0


def test_a_channel_without_values_where_it_trains_is_refused(case, tmp_path):
    signal, mask = case[0].copy(), case[1]
    signal[rows("chr2"), 2] = np.nan
    tiles = opened(make_tiles(tmp_path, signal, mask))
    assert tiles.statistics(["chr1", "chr2"]).n[2] > 0
    with pytest.raises(InputError, match="E116-H3K4me3.pval: no value(.|\n)*leave the track out"):
        tiles.statistics(["chr2"])


@pytest.mark.parametrize("threads", [2, 5])
def test_neither_threads_nor_blocks_change_the_tiles(threads, case, files, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 1)  # blocks of 256 bins
    other = make_tiles(tmp_path, *case, threads=threads)
    for key in ("tiles", "flags"):
        assert Path(other[key]).read_bytes() == Path(files[key]).read_bytes()
    for chrom in GENOME.chromosomes:
        one, two = opened(files).moments[chrom], opened(other).moments[chrom]
        assert np.array_equal(one.n, two.n)
        np.testing.assert_allclose(two.mean, one.mean, rtol=1e-12)
        np.testing.assert_allclose(two.m2, one.m2, rtol=1e-10)


def test_the_number_of_threads_changes_nothing_at_all(case, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 1)
    texts = [
        Path(make_tiles(tmp_path / str(n), *case, threads=n)["channels"]).read_bytes()
        for n in (1, 3)
    ]
    assert texts[0] == texts[1]


def test_a_shorter_last_bin_is_stored_but_not_a_row_of_its_chromosome(files):
    tiles = opened(files)
    assert len(tiles.values) == 650 + 200 + 173 + 152
    found = {chrom: tiles.rows(chrom) for chrom in GENOME.chromosomes}
    assert [s.stop - s.start for s in found.values()] == [650, 200, 172, 151]
    assert [s.start for s in found.values()] == [0, 650, 850, 1023]


def test_channels_keep_their_order_and_have_a_checksum_of_it(case, files, tmp_path):
    tiles = opened(files)
    assert tiles.channels == CHANNELS
    turned = CHANNELS[::-1]
    other = make_tiles(tmp_path, case[0][:, ::-1], case[1], turned)
    assert np.array_equal(opened(other).values, tiles.values[:, ::-1])
    told = [json.loads(Path(f["channels"]).read_text()) for f in (files, other)]
    assert told[0]["sha256_of_channels"] == checksum(CHANNELS) != checksum(turned)
    assert told[1]["sha256_of_channels"] == checksum(turned)


def test_only_tiles_without_any_gap_in_a_usable_bin_are_complete(case, files, tmp_path):
    signal, mask = case
    assert not opened(files).complete
    full = np.where(np.isnan(signal), 1, signal)
    whole = np.where((mask > 0)[:, None], np.nan, full)  # only where nothing counts
    assert opened(make_tiles(tmp_path, whole.astype(np.float16), mask)).complete


# ---- the published binning (A2) ------------------------------------------------------------------


def binned(folder: Path, missing: str):
    """Tiles of two bigWigs over chromosomes of 60 and 50 bases."""
    genome = Genome("toy", ("chr1", "chr2"), (60, 50))
    genome.save(folder / "manifest.json", [BIN])
    write_mask(folder, np.zeros(genome.total(BIN), np.uint8), BIN)
    spans = [(0, 10, 2.0), (10, 25, 4.0), (50, 60, 7.0)]
    for track in ("E001-a.pval", "E001-b.pval"):
        path = folder / f"{track}.bw"
        with pyBigWig.open(str(path), "w") as file:
            file.addHeader([("chr1", 60), ("chr2", 50)])
            starts, ends, values = (list(column) for column in zip(*spans, strict=True))
            file.addEntries(["chr1"] * 3, starts, ends=ends, values=values)
            file.addEntries(["chr2"], [0], ends=[25], values=[10.0])
        write_track(folder, track, path, genome, [BIN], missing=missing)
    files = tile_files(folder)
    own = [files[key] for key in ("tiles", "flags", "channels")]
    write_tiles(GenomeStore(folder), ["E001-a.pval", "E001-b.pval"], BIN, *own)
    return opened(files)


def test_means_of_bins_and_their_arcsinh_are_the_published_ones(tmp_path):
    tiles = binned(tmp_path, "zero")
    assert tiles.rows("chr1") == slice(0, 2)  # 60 bases
    first = tiles.values[tiles.rows("chr1"), 0]
    assert first.tolist() == [round(1000 * math.asinh(3.2)), 0]
    assert tiles.values[tiles.rows("chr2"), 1].tolist() == [2998, 0]
    assert abs(TRANSFORMS["arcsinh"].forward(np.array([10.0]))[0] - 2.998223) < 1e-6
    assert not tiles.flags.any()


def test_bins_without_data_are_missing_under_the_policy_that_says_so(tmp_path):
    tiles = binned(tmp_path, "nan")
    assert tiles.values[tiles.rows("chr1"), 0].tolist() == [round(1000 * math.asinh(3.2)), MISSING]
    assert tiles.flags[tiles.rows("chr1")].tolist() == [0, NO_DATA]


# ---- damaged and foreign files -------------------------------------------------------------------


@pytest.fixture
def own(case, tmp_path):
    return make_tiles(tmp_path, *case)


def changed(path: str, **changes) -> None:
    told = json.loads(Path(path).read_text())
    Path(path).write_text(json.dumps(told | changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"channels": CHANNELS[::-1]}, "the channels are not those of its checksum"),
        ({"data_version": 0}, "data version 0, this program reads"),
        ({"assembly": "hg38"}, "made on another genome than"),
        ({"chromosomes": {}}, "made on another genome than"),
        ({"bin_bp": None}, "is damaged"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(changes, said, own):
    changed(own["channels"], **changes)
    with pytest.raises(InputError) as refused:
        opened(own)
    assert said in str(refused.value) and "make the tiles again" in str(refused.value)


def test_all_that_does_not_fit_is_told_at_once(own):
    changed(own["channels"], data_version=0, assembly="hg38", channels=["x"])
    with pytest.raises(InputError) as refused:
        opened(own)
    assert len(refused.value.problems) == 3


@pytest.mark.parametrize("key", ["tiles", "flags"])
def test_arrays_of_another_size_or_cut_short_are_refused(key, own):
    array = np.load(own[key])
    np.save(own[key], array[:-1])
    with pytest.raises(InputError, match="holds(.|\n)*not(.|\n)*make the tiles again"):
        opened(own)
    np.save(own[key], array)
    Path(own[key]).write_bytes(Path(own[key]).read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be opened(.|\n)*make the tiles again"):
        opened(own)


@pytest.mark.parametrize("key", ["tiles", "flags", "channels"])
def test_files_that_are_not_there_say_so(key, own):
    Path(own[key]).unlink()
    with pytest.raises(InputError, match="there is no such file; make the tiles first"):
        opened(own)


def test_a_track_that_is_not_in_the_store_leaves_no_file(case, own):
    store, files = GenomeStore(Path(own["manifest"]).parent), tile_files(Path("x"), "two")
    folder = Path(own["tiles"]).parent
    paths = [folder / Path(files[key]).name for key in ("tiles", "flags", "channels")]
    with pytest.raises(InputError, match="'E009-DNase.pval' is not in the store"):
        write_tiles(store, [CHANNELS[0], "E009-DNase.pval"], BIN, *paths)
    assert not any(path.exists() for path in paths)
