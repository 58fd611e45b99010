"""Reads to depth, against a depth counted base by base."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyBigWig
import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epiloom.data.genome import Genome
from epiloom.data.reads import (
    Reads,
    bam_to_bigwig,
    open_signal,
    sort_reads,
    write_depth_bigwig,
)
from epiloom.data.signal import bin_bigwig, bin_reads, window_means
from epiloom.plan.errors import InputError

SHARED = Path(__file__).resolve().parents[3] / "shared"
GENOME = Genome("tiny", ("chr1", "chr2", "chrX"), (1005, 300, 99))


def lines(reads, end="\n"):
    return "".join(f"{c}\t{a}\t{b}\tN\t1000\t{s}{end}" for c, a, b, s in reads)


def make(folder, text, genome=GENOME, packed=True, **options):
    path = folder / "E001-H3K4me3.tagAlign.gz"
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    prefix = folder / "track"
    outs = [f"{prefix}.{side}" for side in ("starts.npy", "ends.npy", "json")]
    return sort_reads(path, genome, *outs, **options), Reads.open(prefix)


def counted(reads, genome=GENOME):
    """Depth of every base by adding reads one by one."""
    depth = {c: np.zeros(n) for c, n in zip(genome.chromosomes, genome.lengths, strict=True)}
    for chrom, a, b, _ in reads:
        depth[chrom][a:b] += 1
    return depth


def random_reads(rng, n, genome=GENOME):
    found = []
    for _ in range(n):
        i = rng.integers(len(genome.chromosomes) - 1)  # nothing on the last chromosome
        length = genome.lengths[i]
        a = int(rng.integers(0, length))
        b = int(min(a + rng.integers(1, 120), length))
        found.append((genome.chromosomes[i], a, b, rng.choice(["+", "-"])))
    return found


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), bin_bp=st.sampled_from([1, 3, 25, 100, 128, 1000, 5000]))
def test_depth_from_starts_and_ends_equals_depth_counted_base_by_base(
    tmp_path_factory, seed, bin_bp
):
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("reads")
    given_reads = random_reads(rng, int(rng.integers(1, 200)))
    _, reads = make(folder, lines(given_reads))
    depth = counted(given_reads)
    expected = [v[k : k + bin_bp].mean() for v in depth.values() for k in range(0, len(v), bin_bp)]
    np.testing.assert_allclose(reads.bin_means(GENOME, bin_bp), expected, rtol=1e-6)
    edges = np.sort(rng.integers(-200, 1300, (7, 9)), axis=1)
    found = reads.mean_depth("chr1", edges)
    for row, line in zip(edges, found, strict=True):
        for a, b, value in zip(row, row[1:], line, strict=False):
            inside = depth["chr1"][max(a, 0) : max(b, 0)]
            assert np.isnan(value) if len(inside) == 0 else np.isclose(value, inside.mean())


def test_windows_of_reads_across_both_ends_and_on_both_strands(tmp_path):
    rng = np.random.default_rng(1)
    given_reads = random_reads(rng, 300)
    _, reads = make(tmp_path, lines(given_reads))
    depth = counted(given_reads)["chr1"]
    padded = np.concatenate([np.full(1000, np.nan), depth, np.full(1000, np.nan)])
    starts = [-150, 0, 7, 500, 900, 1100]
    found = window_means(reads, ["chr1"] * 6, starts, ["+", "-"] * 3, 400, 100)
    assert found.dtype == np.float32
    for row, start, strand in zip(found, starts, "+-+-+-", strict=True):
        window = padded[1000 + start : 1400 + start].reshape(4, 100)
        full = ~np.isnan(window)
        expected = np.array(
            [w[f].mean() if f.any() else np.nan for w, f in zip(window, full, strict=True)]
        )
        np.testing.assert_allclose(row, expected[::-1] if strand == "-" else expected, rtol=1e-6)


def test_extension_goes_from_the_five_prime_end_and_stops_at_the_chromosome(tmp_path):
    given_reads = [
        ("chr1", 100, 136, "+"),
        ("chr1", 500, 536, "-"),
        ("chr1", 990, 1000, "+"),
        ("chr1", 10, 46, "-"),
    ]
    _, reads = make(tmp_path, lines(given_reads), extend=150)
    stretched = [
        ("chr1", 100, 250, "+"),
        ("chr1", 386, 536, "-"),
        ("chr1", 990, 1005, "+"),
        ("chr1", 0, 46, "-"),
    ]
    np.testing.assert_allclose(reads.chrom_bins("chr1", 1), counted(stretched)["chr1"])


def test_what_is_dropped_is_counted_by_reason(tmp_path, caplog):
    good = [("chr1", 5, 41, "+"), ("chr2", 264, 300, "-"), ("chrX", 0, 36, "+")]
    bad = [
        *[("chr9", 1, 37, "+")] * 4,
        *[("chrM", 1, 37, "+")] * 3,
        *[("chr2", 280, 301, "+")] * 2,
        ("chr1", -3, 33, "-"),
        ("chr1", 50, 50, "+"),
    ]
    about, reads = make(tmp_path, lines(bad + good), packed=False)
    assert about["dropped"] == {
        "other_chromosomes": 4,
        "mitochondrial": 3,
        "negative": 1,
        "beyond_end": 2,
        "empty": 1,
    }
    assert about["reads"] == len(reads) == 3
    assert about["offsets"] == [0, 1, 2, 3]
    assert "check that the reads were aligned to this assembly" in caplog.text


def test_order_chunks_and_header_lines_make_no_difference(tmp_path, monkeypatch):
    monkeypatch.setattr("epiloom.data.reads.CHUNK_LINES", 17)
    rng = np.random.default_rng(3)
    shuffled = random_reads(rng, 120)
    ordered = sorted(shuffled, key=lambda r: (GENOME.index(r[0]), r[1]))
    one, a = make(tmp_path, lines(shuffled))
    (tmp_path / "b").mkdir()
    two, b = make(tmp_path / "b", "track name=x\n#c\n" + lines(ordered, end="\r\n"))
    assert (one["sorted"], two["sorted"]) == (False, True)
    np.testing.assert_array_equal(a.starts, b.starts)
    np.testing.assert_array_equal(a.ends, b.ends)
    assert a.starts.dtype == np.uint32
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no read"),
        ("chr1 5 41\n", "1 tab-separated columns, 3 are needed"),
        ("chr1\t5\n", "2 tab-separated columns"),
        ("chr1\t5\t41\nchr1\tfive\t41\n", "whole numbers"),
        ("chr1\t5\t41\nchr1\t5\n", "whole numbers|malformed"),
        ("1\t5\t41\n", 'lack the "chr"'),
        ("chr1\t2000\t2036\n", "no read lies on tiny"),
        ("<html>\n", "1 tab-separated"),
    ],
)
def test_files_that_are_no_alignments_are_refused_with_a_remedy(tmp_path, text, said):
    with pytest.raises(InputError, match=said) as err:
        make(tmp_path, text)
    assert "tagAlign.gz" in str(err.value)
    assert not list(tmp_path.glob("track*"))


def test_a_gzip_that_is_cut_short_is_refused_and_leaves_nothing(tmp_path):
    rng = np.random.default_rng(0)
    data = gzip.compress(lines(random_reads(rng, 5000)).encode())
    path = tmp_path / "cut.tagAlign.gz"
    path.write_bytes(data[: len(data) // 2])
    outs = [tmp_path / f"t.{side}" for side in ("starts.npy", "ends.npy", "json")]
    with pytest.raises(InputError, match="cut short.*download it again"):
        sort_reads(path, GENOME, *outs)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut.tagAlign.gz"]
    with pytest.raises(InputError, match="no such file"):
        sort_reads(tmp_path / "none.gz", GENOME, *outs)


def test_strand_is_asked_for_only_when_reads_are_extended(tmp_path):
    _, reads = make(tmp_path, "chr1\t5\t41\n")
    assert len(reads) == 1
    with pytest.raises(InputError, match="6 are needed"):
        make(tmp_path, "chr1\t5\t41\n", extend=200)


def test_incomplete_reads_are_not_opened(tmp_path):
    make(tmp_path, lines([("chr1", 5, 41, "+"), ("chr1", 6, 42, "+")]))
    with pytest.raises(InputError, match="no chromosome 'chr7'"):
        Reads.open(tmp_path / "track").mean_depth("chr7", [0, 10])
    np.save(tmp_path / "track.ends.npy", np.array([41], np.uint32))
    with pytest.raises(InputError, match="make the reads again"):
        Reads.open(tmp_path / "track")
    (tmp_path / "track.json").unlink()
    with pytest.raises(InputError, match="not a complete set"):
        Reads.open(tmp_path / "track")


def test_a_signal_is_named_by_one_bigwig_or_three_read_files(tmp_path):
    make(tmp_path, lines([("chr1", 5, 41, "+")]))
    parts = [str(tmp_path / f"track.{side}") for side in ("starts.npy", "ends.npy", "json")]
    assert len(open_signal(parts)) == 1
    assert open_signal(["a.bw"]) == open_signal("a.bw") == "a.bw"


def test_reads_of_another_genome_are_refused(tmp_path):
    _, reads = make(tmp_path, lines([("chr1", 5, 41, "+")]))
    other = Genome("other", GENOME.chromosomes, (1006, 300, 99))
    with pytest.raises(InputError, match="1005 bases in the file, 1006 in other"):
        bin_reads(reads, other)
    with pytest.raises(InputError, match="1006 in other"):
        write_depth_bigwig(reads, other, tmp_path / "x.bw")


@pytest.mark.parametrize("slab", [64, 8_000_000])
def test_the_depth_bigwig_holds_every_base_and_gives_the_same_bins(tmp_path, slab):
    rng = np.random.default_rng(5)
    given_reads = random_reads(rng, 250)
    _, reads = make(tmp_path, lines(given_reads))
    write_depth_bigwig(reads, GENOME, tmp_path / "depth.bw", slab=slab)
    with pyBigWig.open(str(tmp_path / "depth.bw")) as file:
        for chrom, depth in counted(given_reads).items():
            np.testing.assert_array_equal(file.values(chrom, 0, len(depth), numpy=True), depth)
    bins = (25, 100, 128)
    from_reads = bin_reads(reads, GENOME, bins)
    from_file = bin_bigwig(tmp_path / "depth.bw", GENOME, bins)
    for b in bins:
        np.testing.assert_array_equal(from_reads.values[b], from_file.values[b])
    args = (["chr1"] * 3, [-50, 301, 900], ["+", "-", "-"], 200, 50)
    np.testing.assert_allclose(
        window_means(reads, *args), window_means(tmp_path / "depth.bw", *args), rtol=1e-6
    )


@pytest.mark.skipif(not SHARED.exists(), reason="shared data not here")
def test_real_reads_give_the_depth_that_bedtools_counts(tmp_path):
    source = SHARED / "data" / "hg19_encode_pilot" / "alignments" / "CTCF_ChIP.chr22.tagAlign.gz"
    genome = Genome("hg19", ("chr22",), (51304566,))
    outs = [tmp_path / f"t.{side}" for side in ("starts.npy", "ends.npy", "json")]
    about = sort_reads(source, genome, *outs)
    assert about["reads"] == 49622
    assert sum(about["dropped"].values()) == 0
    sizes = tmp_path / "sizes"
    sizes.write_text("chr22\t51304566\n")
    text = subprocess.run(
        ["bedtools", "genomecov", "-bga", "-i", source, "-g", sizes],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    depth = np.zeros(51304566, np.float32)
    for line in text.splitlines():
        _, a, b, value = line.split("\t")
        depth[int(a) : int(b)] = float(value)
    found = Reads.open(tmp_path / "t").chrom_bins("chr22", 100)
    whole = depth[: len(depth) // 100 * 100].reshape(-1, 100).mean(1, dtype=np.float64)
    np.testing.assert_allclose(found[: len(whole)], whole, atol=1e-9)


def write_bam(path, genome, reads):
    header = {
        "HD": {"VN": "1.6", "SO": "coordinate"},
        "SQ": [{"SN": c, "LN": n} for c, n in zip(genome.chromosomes, genome.lengths, strict=True)],
    }
    with pysam.AlignmentFile(str(path), "wb", header=header) as file:
        for i, (chrom, a, b, strand) in enumerate(reads):
            read = pysam.AlignedSegment(file.header)
            read.query_name, read.query_sequence = f"r{i}", "A" * (b - a)
            read.flag, read.mapping_quality = 16 * (strand == "-"), 60
            read.reference_id, read.reference_start = genome.index(chrom), a
            read.cigartuples = [(0, b - a)]
            file.write(read)


def test_a_bam_becomes_raw_coverage_equal_to_the_counted_depth(tmp_path):
    genome = Genome("toy", ("chr1", "chr2"), (20_000, 5_000))
    rng = np.random.default_rng(2)
    reads = [
        (c, a, a + 36, "+")
        for c, n in zip(genome.chromosomes, genome.lengths, strict=True)
        for a in sorted(set(rng.integers(0, n - 36, 400).tolist()))
    ]
    folder = tmp_path / "input"
    folder.mkdir()
    write_bam(folder / "x.bam", genome, reads)
    out = tmp_path / "x.bw"
    bam_to_bigwig(folder / "x.bam", out, genome, binsize=1, normalize=None)
    assert [p.name for p in folder.iterdir()] == ["x.bam"]
    depth = counted(reads, genome)
    with pyBigWig.open(str(out)) as file:
        for chrom, expected in depth.items():
            found = file.values(chrom, 0, len(expected), numpy=True)
            np.testing.assert_array_equal(found, expected)
    bam_to_bigwig(folder / "x.bam", out, genome)
    with pyBigWig.open(str(out)) as file:
        found = file.values("chr1", 0, 19_968, numpy=True).reshape(-1, 32)
    # RPKM of a bin: reads that touch it per kilobase of bin and million reads.
    touching = np.array(
        [
            sum(c == "chr1" and a < k + 32 and k < b for c, a, b, _ in reads)
            for k in range(0, 19_968, 32)
        ]
    )
    np.testing.assert_allclose(found[:, 0], touching / 0.032 / (len(reads) / 1e6), rtol=1e-4)


def test_unusable_bams_are_refused_with_a_remedy(tmp_path):
    genome = Genome("toy", ("chr1", "chr2"), (20_000, 5_000))
    path = tmp_path / "x.bam"
    with pytest.raises(InputError, match="choose one of RPKM"):
        bam_to_bigwig(path, tmp_path / "o.bw", genome, normalize="TPM")
    path.write_bytes(b"no bam")
    with pytest.raises(InputError, match="samtools sort"):
        bam_to_bigwig(path, tmp_path / "o.bw", genome)
    write_bam(path, genome, [("chr1", 900, 936, "+"), ("chr1", 100, 136, "+")])
    with pytest.raises(InputError, match="samtools sort"):
        bam_to_bigwig(path, tmp_path / "o.bw", genome)
    write_bam(path, genome, [])
    with pytest.raises(InputError, match="holds no read"):
        bam_to_bigwig(path, tmp_path / "o.bw", genome)
    other = Genome("toy", ("chr1", "chr2"), (21_000, 5_000))
    write_bam(path, genome, [("chr1", 100, 136, "+")])
    with pytest.raises(InputError, match="21000"):
        bam_to_bigwig(path, tmp_path / "o.bw", other)
    assert not (tmp_path / "o.bw").exists()
    assert Path(sys.executable).parent.joinpath("bamCoverage").exists()
