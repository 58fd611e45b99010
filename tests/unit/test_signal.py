"""bigWig to bins, against a mean taken base by base."""

from __future__ import annotations

import numpy as np
import pyBigWig
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epiloom.data import signal
from epiloom.data.genome import Genome
from epiloom.data.signal import TRANSFORMS, bin_bigwig, window_means
from epiloom.plan.errors import InputError

GENOME = Genome("tiny", ("chr1", "chr2", "chr3", "chrY"), (7013, 2500, 640, 300))
BINS = (1, 25, 100, 128, 1000, 8000)
KINDS = ("bedgraph", "varstep", "fixedstep")


def write(path, entries, kind="bedgraph", genome=GENOME, names=None):
    """entries: chromosome -> sorted list of (start, end, value)."""
    names = names or genome.chromosomes
    with pyBigWig.open(str(path), "w") as file:
        file.addHeader(list(zip(names, genome.lengths, strict=True)), maxZooms=2)
        for chrom in names:
            rows = entries.get(chrom, [])
            if not rows:
                continue
            starts, ends, values = (list(x) for x in zip(*rows, strict=True))
            if kind == "bedgraph":
                file.addEntries([chrom] * len(rows), starts, ends=ends, values=values)
            elif kind == "varstep":
                file.addEntries(chrom, starts, values=values, span=ends[0] - starts[0])
            else:
                step = starts[1] - starts[0] if len(starts) > 1 else 10
                file.addEntries(
                    chrom, starts[0], values=values, span=ends[0] - starts[0], step=step
                )


def entries_of(kind, rng, genome=GENOME):
    """Random intervals with holes at both ends and between; chr3 stays empty."""
    found = {}
    for chrom, length in list(zip(genome.chromosomes, genome.lengths, strict=True))[:2]:
        if kind == "bedgraph":
            places = np.unique(rng.integers(30, length - 30, 60)).tolist()
            rows = [
                (a, b, float(np.float32(rng.normal())))
                for a, b in zip(places, places[1:], strict=False)
            ]
            rows = [r for r in rows if rng.random() < 0.7] or rows
        else:
            span, step = (7, None) if kind == "varstep" else (5, int(rng.integers(5, 9)))
            starts = (
                np.unique(rng.integers(5, length // 8, 50)) * 7
                if step is None
                else np.arange(50, length // 2, step)
            )
            rows = [(int(a), int(a) + span, float(np.float32(rng.normal()))) for a in starts]
        found[chrom] = rows
    return found


def bases(entries, genome=GENOME):
    found = {c: np.full(n, np.nan) for c, n in zip(genome.chromosomes, genome.lengths, strict=True)}
    for chrom, rows in entries.items():
        for a, b, value in rows:
            found[chrom][a:b] = np.float32(value)
    return found


def slow_mean(values, missing, min_covered):
    """The missing policies in plain words, one bin at a time."""
    there = values[~np.isnan(values)]
    if missing == "zero":
        return there.sum() / len(values) if len(values) else np.nan
    if len(there) == 0 or (missing == "nan" and len(there) < min_covered * len(values)):
        return np.nan
    return there.mean()


def slow_bins(entries, b, missing, min_covered=0.5, genome=GENOME):
    return np.array(
        [
            slow_mean(v[k : k + b], missing, min_covered)
            for v in bases(entries, genome).values()
            for k in range(0, len(v), b)
        ]
    )


@pytest.mark.parametrize("block", [8000, 1_000_000])
@pytest.mark.parametrize("missing", signal.MISSING)
@pytest.mark.parametrize("kind", KINDS)
def test_bins_equal_means_taken_base_by_base(tmp_path, monkeypatch, kind, missing, block):
    monkeypatch.setattr(signal, "BLOCK_BP", block)
    entries = entries_of(kind, np.random.default_rng(KINDS.index(kind)))
    write(tmp_path / "x.bw", entries, kind)
    found = bin_bigwig(tmp_path / "x.bw", GENOME, BINS, missing, 0.4)
    for b in BINS:
        expected = slow_bins(entries, b, missing, 0.4)
        assert found.values[b].dtype == np.float16
        np.testing.assert_allclose(found.values[b], expected, rtol=2**-10, atol=1e-7)
        assert found.clipped[b] == 0
    there = sum((~np.isnan(v)).sum() for v in bases(entries).values())
    assert found.covered_fraction == there / sum(GENOME.lengths)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 99_999),
    bins=st.lists(st.sampled_from(BINS[:5]), min_size=1, max_size=4, unique=True),
)
def test_sums_are_exact_to_nine_digits_and_covered_bases_exactly(seed, bins):
    rng = np.random.default_rng(seed)
    data = rng.normal(size=int(rng.integers(1, 4000))).astype(np.float32) * 1000
    data[rng.random(len(data)) < rng.choice([0, 0.3, 0.9])] = np.nan
    room = [np.empty(len(data), kind) for kind in (np.float64, bool, np.float32)]
    sums, covered, n = signal.bin_sums(data, sorted(bins), *room)
    for b in bins:
        parts = [data[k : k + b].astype(np.float64) for k in range(0, len(data), b)]
        scale = [np.nansum(np.abs(p)) for p in parts]
        error = np.abs(sums[b] - [np.nansum(p) for p in parts])
        assert np.all(error <= 1e-12 * np.maximum(scale, 1))
        if n < len(data):
            assert covered[b].tolist() == [(~np.isnan(p)).sum() for p in parts]


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 99_999),
    missing=st.sampled_from(signal.MISSING),
    bin_bp=st.sampled_from([1, 7, 100]),
)
def test_windows_equal_means_taken_base_by_base(tmp_path_factory, seed, missing, bin_bp):
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("w") / "x.bw"
    entries = entries_of("bedgraph", rng)
    write(path, entries)
    window = 6 * bin_bp
    chroms = rng.choice(GENOME.chromosomes, 12)
    starts = rng.integers(-window - 3, 7100, 12)
    strands = rng.choice(["+", "-"], 12)
    found = window_means(path, chroms, starts, strands, window, bin_bp, missing, 0.3)
    for row, chrom, start, strand in zip(found, chroms, starts, strands, strict=True):
        values = bases(entries)[chrom]
        expected = []
        for k in range(start, start + window, bin_bp):
            expected.append(slow_mean(values[max(k, 0) : max(k + bin_bp, 0)], missing, 0.3))
        expected = expected[::-1] if strand == "-" else expected
        np.testing.assert_allclose(row, expected, rtol=1e-6, atol=1e-9)


def test_a_bigwig_made_of_bins_gives_the_same_bins_back(tmp_path):
    rng = np.random.default_rng(4)
    write(tmp_path / "a.bw", entries_of("bedgraph", rng))
    first = bin_bigwig(tmp_path / "a.bw", GENOME, (25,), "covered").values[25]
    again = {}
    for i, (chrom, length) in enumerate(zip(GENOME.chromosomes, GENOME.lengths, strict=True)):
        o = GENOME.offsets(25)
        again[chrom] = [
            (25 * k, min(25 * k + 25, length), float(v))
            for k, v in enumerate(first[o[i] : o[i + 1]])
            if not np.isnan(v)
        ]
    write(tmp_path / "b.bw", again)
    second = bin_bigwig(tmp_path / "b.bw", GENOME, (25, 100), "nan")
    np.testing.assert_array_equal(second.values[25], first)


def test_the_policies_differ_only_where_bases_have_no_value(tmp_path):
    genome = Genome("t", ("chr1",), (400,))
    write(
        tmp_path / "x.bw",
        {"chr1": [(0, 100, 2.0), (100, 160, 3.0), (200, 210, 4.0)]},
        "bedgraph",
        genome,
    )
    found = {
        m: bin_bigwig(tmp_path / "x.bw", genome, (100,), m).values[100].tolist()
        for m in signal.MISSING
    }
    nan = pytest.approx(float("nan"), nan_ok=True)
    assert found["zero"] == pytest.approx([2, 1.8, 0.4, 0], rel=1e-3)
    assert found["covered"] == [2, 3, 4, nan]
    assert found["nan"] == [2, 3, nan, nan]


def test_the_last_bin_is_divided_by_its_true_width(tmp_path):
    genome = Genome("t", ("chr1",), (250,))
    write(tmp_path / "x.bw", {"chr1": [(0, 250, 8.0)]}, "bedgraph", genome)
    found = bin_bigwig(tmp_path / "x.bw", genome, (100, 1000), "zero")
    assert found.values[100].tolist() == [8, 8, 8]
    assert found.values[1000].tolist() == [8]


def test_means_beyond_float16_are_clipped_and_counted_or_refused(tmp_path):
    genome = Genome("t", ("chr1",), (400,))
    rows = [(0, 100, 1e6), (100, 200, 65504.0), (200, 300, -1e5), (300, 400, float("inf"))]
    write(tmp_path / "x.bw", {"chr1": rows}, "bedgraph", genome)
    found = bin_bigwig(tmp_path / "x.bw", genome, (100,))
    assert found.values[100].tolist() == [65504, 65504, -65504, 65504]
    assert found.clipped == {100: 3}
    with pytest.raises(InputError, match="set overflow to clip"):
        bin_bigwig(tmp_path / "x.bw", genome, (100,), overflow="refuse")


def test_long_stretches_without_values_are_skipped_and_stay_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(signal, "BLOCK_BP", 100)
    genome = Genome("t", ("chr1", "chr2"), (5_050, 900))
    entries = {"chr1": [(2_310, 2_420, 1.5), (5_010, 5_050, 2.5)]}
    write(tmp_path / "x.bw", entries, "bedgraph", genome)
    found = bin_bigwig(tmp_path / "x.bw", genome, (20, 100), "covered")
    for b in (20, 100):
        np.testing.assert_array_equal(
            found.values[b], slow_bins(entries, b, "covered", genome=genome)
        )


def test_empty_foreign_and_damaged_files_are_refused_by_name(tmp_path):
    path = tmp_path / "E003-H3K4me3.bigwig"
    with pytest.raises(InputError, match="No such file"):
        bin_bigwig(path, GENOME)
    for content, said in (
        (b"", "not a bigWig"),
        (b"<html>sorry", "HTML"),
        (b"\x1f\x8b1234567", "gzip"),
        (b"\x88\x8f\xfc\x26" * 30, "big-endian"),
        (b"\x26\xfc\x8f\x88" * 30, "is damaged"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=said) as err:
            bin_bigwig(path, GENOME)
        assert "E003-H3K4me3.bigwig" in str(err.value)
    write(path, {})
    with pytest.raises(InputError, match="holds no value"):
        bin_bigwig(path, GENOME)


@pytest.mark.parametrize("kept", [0.05, 0.3, 0.6, 0.9, 0.999])
def test_a_bigwig_cut_anywhere_is_refused(tmp_path, kept):
    path = tmp_path / "x.bw"
    write(path, entries_of("bedgraph", np.random.default_rng(0)))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(InputError, match="cut short.*download it again"):
        bin_bigwig(path, GENOME)
    with pytest.raises(InputError, match="cut short"):
        window_means(path, ["chr1"], [0], ["+"], 100, 100)


def test_another_assembly_and_a_missing_prefix_are_refused(tmp_path):
    entries = entries_of("bedgraph", np.random.default_rng(0))
    write(tmp_path / "x.bw", entries)
    other = Genome("hg38", GENOME.chromosomes, (7014, *GENOME.lengths[1:]))
    with pytest.raises(InputError, match="7013 bases in the file, 7014 in hg38"):
        bin_bigwig(tmp_path / "x.bw", other)
    bare = {c.removeprefix("chr"): rows for c, rows in entries.items()}
    write(tmp_path / "y.bw", bare, names=["1", "2", "3", "Y"])
    with pytest.raises(InputError, match='lack the "chr"'):
        bin_bigwig(tmp_path / "y.bw", GENOME)


def test_a_file_without_chr_y_is_taken_and_chr_y_is_missing(tmp_path):
    smaller = Genome("tiny", GENOME.chromosomes[:3], GENOME.lengths[:3])
    write(tmp_path / "x.bw", {"chr1": [(0, 7013, 1.0)]}, genome=smaller)
    found = bin_bigwig(tmp_path / "x.bw", GENOME, (100,)).values[100]
    assert np.isnan(found[-3:]).all()
    assert np.isnan(window_means(tmp_path / "x.bw", ["chrY"], [0], ["+"], 200, 100)).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"missing": "mean"}, "choose one of nan, zero, covered"),
        ({"min_covered": 0}, "share above 0"),
        ({"bins": ()}, "give one or more"),
        ({"bins": (0, 25)}, "at least 1"),
        ({"bins": (4999, 5003)}, "bin them in two runs"),
        ({"overflow": "wrap"}, "clip, refuse"),
    ],
)
def test_unusable_settings_are_refused(tmp_path, options, said):
    write(tmp_path / "x.bw", entries_of("bedgraph", np.random.default_rng(0)))
    with pytest.raises(InputError, match=said):
        bin_bigwig(tmp_path / "x.bw", GENOME, **options)
    with pytest.raises(InputError, match="not a multiple"):
        window_means(tmp_path / "x.bw", ["chr1"], [0], ["+"], 250, 100)


@given(st.lists(st.floats(0, 60_000), min_size=1, max_size=30))
def test_every_transform_is_undone_by_its_inverse(values):
    values = np.array(values)
    for name, transform in TRANSFORMS.items():
        back = transform.inverse(transform.forward(values))
        np.testing.assert_allclose(back, values, rtol=1e-12, atol=1e-12, err_msg=name)


def test_transforms_widen_float16_and_keep_missing_values():
    values = np.array([0, 1, 1000, np.nan], np.float16)
    for name, function in (("none", lambda x: x), ("arcsinh", np.arcsinh), ("log1p", np.log1p)):
        found = TRANSFORMS[name].forward(values)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, function(values.astype(np.float64)), rtol=1e-6)
