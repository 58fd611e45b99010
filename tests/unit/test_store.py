"""The genome store: windows are slices, and nothing half-written is ever opened."""

from __future__ import annotations

import json

import numpy as np
import pyBigWig
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epiloom.data.genome import Genome, mask
from epiloom.data.reads import Reads, sort_reads
from epiloom.data.store import DATA_VERSION, GenomeStore, describe, write_mask, write_track
from epiloom.plan.errors import InputError

GENOME = Genome("tiny", ("chr1", "chr2", "chrX"), (1005, 300, 99))
A, B = "E001-H3K4me3.pval", "E001-H3K27ac.pval"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    GENOME.save(folder / "manifest.json")
    rng = np.random.default_rng(0)
    for track in (A, B):
        with pyBigWig.open(str(folder / "x.bw"), "w") as file:
            file.addHeader(list(zip(GENOME.chromosomes, GENOME.lengths, strict=True)))
            for chrom, length in zip(GENOME.chromosomes, GENOME.lengths, strict=True):
                places = np.unique(rng.integers(0, length, 40)).tolist()
                file.addEntries(
                    [chrom] * (len(places) - 1),
                    places[:-1],
                    ends=places[1:],
                    values=rng.random(len(places) - 1).tolist(),
                )
        write_track(folder, track, folder / "x.bw", GENOME, bins=(25, 100), missing="covered")
    (folder / "black.bed").write_text("chr2\t60\t70\n")
    write_mask(folder, mask(GENOME, 25, None, folder / "black.bed"), 25)
    return folder


@settings(max_examples=60)
@given(
    bin_bp=st.sampled_from([25, 100]),
    chrom=st.sampled_from(GENOME.chromosomes),
    first=st.integers(-60, 60),
    n=st.integers(0, 50),
    shift=st.integers(-5, 5),
)
def test_a_window_is_a_slice_padded_with_missing_outside_the_chromosome(
    store, bin_bp, chrom, first, n, shift
):
    opened = GenomeStore(store)
    i = GENOME.index(chrom)
    low, high = GENOME.offsets(bin_bp)[i : i + 2]
    whole = np.load(store / f"bins{bin_bp}" / f"{A}.npy")[low:high]
    padded = np.concatenate([np.full(200, np.nan), whole, np.full(200, np.nan)])
    found = opened.bins(A, bin_bp, chrom, first, n)
    np.testing.assert_array_equal(found, padded[200 + first : 200 + first + n])
    shifted = opened.bins(A, bin_bp, chrom, first + shift, n)
    np.testing.assert_array_equal(shifted, padded[200 + first + shift :][:n])


def test_a_batch_fills_the_given_array_with_the_same_values_as_single_windows(store):
    opened = GenomeStore(store)
    chroms, firsts = ["chr1", "chrX", "chr2"], [-2, 0, 9]
    out = np.zeros((3, 2, 6), np.float32)
    found = opened.bins([A, B], 25, chroms, firsts, 6, out=out)
    assert found is out
    for row, chrom, first in zip(out, chroms, firsts, strict=True):
        for line, track in zip(row, (A, B), strict=True):
            np.testing.assert_array_equal(line, opened.bins(track, 25, chrom, first, 6))
    turned = opened.bins(A, 25, chroms, firsts, 6, out=np.zeros((6, 3)).T)
    np.testing.assert_array_equal(turned, out[:, 0])
    assert opened.bins([A, B], 25, "chr1", 0, 6).shape == (2, 6)
    assert opened.bins(A, 25, "chr1", [0, 1], 6).shape == (2, 6)
    assert opened.bins(A, 25, "chr1", 0, 6).dtype == np.float16


def test_the_mask_flags_blacklist_and_outside(store):
    opened = GenomeStore(store)
    assert opened.mask(25, "chr2", -1, 5).tolist() == [4, 0, 0, 2, 0]
    assert opened.mask(25, "chr2", [10, 11], 3).tolist() == [[0, 0, 4], [0, 4, 4]]


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda s: s.bins("E9-x.pval", 25, "chr1", 0, 3), "not in the store; bin it first"),
        (lambda s: s.bins(A, 128, "chr1", 0, 3), "bins of 25, 100 bp; bin it at 128"),
        (lambda s: s.bins(A, 25, "chr7", 0, 3), "chromosome 'chr7' is not part"),
        (lambda s: s.bins(A, 25, ["chr1"], [0, 1], 3), "1 chromosomes for 2 starts"),
        (lambda s: s.bins(A, 25, "chr1", 0, 3, out=np.zeros(4)), "give an array of"),
        (lambda s: s.mask(100, "chr1", 0, 3), "cannot be opened"),
    ],
)
def test_what_is_not_there_is_refused_by_name(store, ask, said):
    with pytest.raises(InputError, match=said):
        ask(GenomeStore(store))


def test_a_track_of_wrong_length_type_version_or_assembly_is_never_opened(store, tmp_path):
    def copy(vector, **change):
        about = json.loads((store / "tracks" / f"{A}.json").read_text())
        for sub in ("tracks", "bins25"):
            (tmp_path / sub).mkdir(exist_ok=True)
        GENOME.save(tmp_path / "manifest.json")
        (tmp_path / "tracks" / f"{A}.json").write_text(json.dumps({**about, **change}))
        np.save(tmp_path / "bins25" / f"{A}.npy", vector)
        return GenomeStore(tmp_path).bins(A, 25, "chr1", 0, 2)

    good = np.load(store / "bins25" / f"{A}.npy")
    np.testing.assert_array_equal(copy(good), good[:2])
    for vector, change, said in (
        (good[:-1], {}, "the manifest asks for"),
        (good.astype(np.float32), {}, "float32"),
        (good, {"data_version": DATA_VERSION + 1}, "bin .* again"),
        (good, {"assembly": "hg38"}, "made on hg38"),
    ):
        with pytest.raises(InputError, match=said):
            copy(vector, **change)
    copy(good)
    path = tmp_path / "bins25" / f"{A}.npy"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match="cannot be opened"):
        GenomeStore(tmp_path).bins(A, 25, "chr1", 0, 2)


def test_a_failed_job_leaves_no_track_behind(tmp_path):
    GENOME.save(tmp_path / "manifest.json")
    (tmp_path / "cut.bw").write_bytes(b"\x26\xfc\x8f\x88" + b"0" * 100)
    with pytest.raises(InputError, match="cut short"):
        write_track(tmp_path, A, tmp_path / "cut.bw", GENOME, bins=(25, 100))
    left = [p.name for p in tmp_path.rglob("*") if p.is_file()]
    assert sorted(left) == ["cut.bw", "manifest.json"]


def test_reads_are_stored_in_the_same_form(tmp_path):
    GENOME.save(tmp_path / "manifest.json")
    (tmp_path / "r.bed").write_text("chr1\t0\t50\nchr1\t25\t75\n")
    outs = [tmp_path / f"r.{side}" for side in ("starts.npy", "ends.npy", "json")]
    sort_reads(tmp_path / "r.bed", GENOME, *outs)
    about = write_track(tmp_path, "E001-x.reads", Reads.open(tmp_path / "r"), GENOME, bins=(25,))
    assert about["source"] == {"name": "r.bed", "size": 21}
    assert about["bins"]["25"]["covered_fraction"] == 1
    found = GenomeStore(tmp_path).bins("E001-x.reads", 25, "chr1", 0, 4)
    assert found.tolist() == [1, 2, 1, 0]


@settings(max_examples=40)
@given(st.lists(st.one_of(st.floats(-65504, 65504, width=16), st.just(float("nan"))), max_size=80))
def test_counted_statistics_equal_sorted_ones(values):
    values = np.array(values, np.float16)
    quantiles = (0.0, 0.01, 0.37, 0.5, 0.999, 1.0)
    found = describe(values, quantiles)
    there = values[~np.isnan(values)].astype(np.float64)
    assert found["n"] == len(there)
    if len(there) == 0:
        assert found["mean"] is None
        return
    np.testing.assert_allclose(found["mean"], there.mean(), rtol=1e-9, atol=1e-7)
    np.testing.assert_allclose(found["std"], there.std(), rtol=1e-7, atol=1e-7)
    assert found["max"] == there.max()
    np.testing.assert_allclose(
        list(found["quantiles"].values()), np.quantile(there, quantiles), rtol=1e-9, atol=1e-9
    )
