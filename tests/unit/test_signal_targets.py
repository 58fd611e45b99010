"""Signals of many cells: counts and means against slow loops, depth, missing values, layout."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pyBigWig
import pysam
import pytest

from epiloom.data.genome import Genome
from epiloom.data.reads import Reads, sort_reads
from epiloom.data.signal_counts import bam_counts, overlap_counts, write_raw
from epiloom.data.signal_targets import CellSignals, Scales, write_cell, write_mean
from epiloom.plan.errors import InputError

GENOME = Genome("toy", ("chr1", "chr2"), (3000, 1290))
BIN = 128
SIGNALS = ("DNase", "CTCF", "H3K27ac")


def made_reads(seed: int, n: int = 400) -> list[tuple[str, int, int]]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        chrom = GENOME.chromosomes[int(rng.integers(2))]
        width = int(rng.integers(1, 300))
        start = int(rng.integers(0, GENOME.length(chrom) - width + 1))
        found.append((chrom, start, start + width))
    return found


def slow_counts(reads) -> np.ndarray:
    found = np.zeros(GENOME.total(BIN), np.int64)
    for chrom, start, end in reads:
        at = GENOME.offsets(BIN)[GENOME.index(chrom)]
        for k in range(GENOME.bins(BIN)[GENOME.index(chrom)]):
            found[at + k] += start < (k + 1) * BIN and end > k * BIN
    return found


def write_bam(path: Path, reads, flags=None, quality: int = 30) -> Path:
    header = {
        "HD": {"VN": "1.6"},
        "SQ": [{"SN": c, "LN": GENOME.length(c)} for c in GENOME.chromosomes],
    }
    with pysam.AlignmentFile(str(path), "wb", header=header) as file:
        for k, (chrom, start, end) in enumerate(reads):
            read = pysam.AlignedSegment(file.header)
            read.query_name, read.flag = f"r{k}", 0 if flags is None else flags[k]
            read.reference_id, read.reference_start = GENOME.index(chrom), start
            read.mapping_quality = quality
            read.query_sequence = "A" * (end - start)
            read.cigarstring = f"{end - start}M"
            file.write(read)
    return path


def write_bigwig(path: Path, values: dict[str, np.ndarray]) -> Path:
    file = pyBigWig.open(str(path), "w")
    file.addHeader([(c, GENOME.length(c)) for c in GENOME.chromosomes])
    for chrom in GENOME.chromosomes:
        there = np.flatnonzero(~np.isnan(values[chrom]))
        file.addEntries(
            [chrom] * len(there),
            there.tolist(),
            ends=(there + 1).tolist(),
            values=values[chrom][there].tolist(),
        )
    file.close()
    return path


def made_bases(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {c: rng.gamma(1, 2, GENOME.length(c)).astype(np.float32) for c in GENOME.chromosomes}


# ---- one file ------------------------------------------------------------------------------------


def test_counts_of_a_bam_are_those_of_the_slow_loop(tmp_path):
    reads = made_reads(1)
    found = bam_counts(write_bam(tmp_path / "a.bam", reads), GENOME, BIN)
    assert (found == slow_counts(reads)).all()


def test_a_read_that_ends_at_a_border_does_not_count_beyond_it():
    found = overlap_counts(np.array([0, 128]), np.array([128, 129]), 3, 128)
    assert found.tolist() == [1, 1, 0]


def test_bad_reads_do_not_count(tmp_path):
    reads = made_reads(2, 6)
    path = write_bam(tmp_path / "a.bam", reads, [0, 0x4, 0x100, 0x200, 0x400, 0x800])
    assert (bam_counts(path, GENOME, BIN) == slow_counts(reads[:1])).all()
    with pytest.raises(InputError, match="holds no read"):
        bam_counts(path, GENOME, BIN, min_quality=31)


def test_sorted_reads_count_like_the_bam(tmp_path):
    reads = made_reads(3)
    text = tmp_path / "a.tagAlign"
    text.write_text("".join(f"{c}\t{a}\t{b}\tN\t1000\t+\n" for c, a, b in reads))
    files = [tmp_path / f"r.{end}" for end in ("starts.npy", "ends.npy", "json")]
    sort_reads(text, GENOME, *files)
    told = write_raw(tmp_path / "raw", Reads.open(tmp_path / "r"), "reads", GENOME, BIN)
    assert (np.load(tmp_path / "raw.npy") == slow_counts(reads)).all()
    assert told["kind"] == "counts" and told["total"] == slow_counts(reads).sum()


def test_unusable_files_and_kinds_are_refused(tmp_path):
    (tmp_path / "a.bam").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read as BAM"):
        write_raw(tmp_path / "x", tmp_path / "a.bam", "bam", GENOME, BIN)
    other = Genome("toy", ("chr1", "chr2"), (3001, 1290))
    path = write_bam(tmp_path / "b.bam", made_reads(1, 5))
    with pytest.raises(InputError, match="3000 bases in the file"):
        write_raw(tmp_path / "x", path, "bam", other, BIN)
    with pytest.raises(InputError, match="kind 'bams'"):
        write_raw(tmp_path / "x", path, "bams", GENOME, BIN)
    with pytest.raises(InputError, match="does not fit"):
        write_raw(tmp_path / "x", path, "reads", GENOME, BIN)
    low = made_bases(1)
    low["chr1"][:300] = -1
    with pytest.raises(InputError, match="below 0"):
        path = write_bigwig(tmp_path / "a.bw", low)
        write_raw(tmp_path / "x", path, "depth", GENOME, BIN)
    assert not (tmp_path / "x.json").exists()


# ---- cells ---------------------------------------------------------------------------------------


@pytest.fixture
def study(tmp_path):
    """Two training cells and a held-out one; DNase as counts, CTCF and H3K27ac as bigWig."""
    raws = {}
    reads = {"a b": [11, 12], "c": [13], "new": [14]}
    for cell, seeds in reads.items():
        raws[cell] = {"DNase": [], "CTCF": []}
        for seed in seeds:
            path = write_bam(tmp_path / f"{seed}.bam", made_reads(seed, 100 * (seed - 9)))
            write_raw(tmp_path / f"raw{seed}", path, "bam", GENOME, BIN)
            raws[cell]["DNase"].append(tmp_path / f"raw{seed}")
            bases = made_bases(seed)
            bases["chr1"][128 * 3 : 128 * 4] = np.nan
            path = write_bigwig(tmp_path / f"{seed}.bw", bases)
            write_raw(tmp_path / f"bw{seed}", path, "fold_change", GENOME, BIN)
            raws[cell]["CTCF"].append(tmp_path / f"bw{seed}")
    raws["c"]["H3K27ac"] = [tmp_path / "bw14"]
    return tmp_path, raws


def made_cells(study) -> tuple[Scales, CellSignals]:
    folder, raws = study
    scales = Scales.settle({c: raws[c] for c in ("a b", "c")}, GENOME, SIGNALS)
    mask = np.zeros(GENOME.total(BIN), np.uint8)
    mask[5] = 2
    for cell, given in raws.items():
        write_cell(folder / "s" / cell, given, scales, GENOME, BIN, mask)
    return scales, CellSignals(folder / "s", list(raws), GENOME, BIN, scales)


def test_values_are_those_of_the_slow_loop(study):
    folder, raws = study
    scales, signals = made_cells(study)
    totals = {seed: slow_counts(made_reads(seed, 100 * (seed - 9))).sum() for seed in range(11, 15)}
    assert scales.kinds == ("counts", "fold_change", "fold_change")
    assert scales.depths == (min(totals[s] for s in (11, 12, 13)), None, None)
    for values, seeds in zip(signals.values, ([11, 12], [13], [14]), strict=True):
        for k in range(GENOME.total(BIN)):
            x = [slow_counts(made_reads(s, 100 * (s - 9)))[k] / totals[s] for s in seeds]
            dnase = np.log(1 + np.mean(x) * scales.depths[0])
            bigwigs = [np.load(folder / f"bw{s}.npy")[k] for s in seeds]
            expected = [dnase, np.log(1 + np.mean(bigwigs, dtype=float))]
            if k == 5:
                expected = [np.nan, np.nan]
            np.testing.assert_allclose(values[k, :2], expected, rtol=1e-3, atol=1e-3)


def test_missing_is_not_zero(study):
    _, signals = made_cells(study)
    first, third, held_out = signals.values
    assert np.isnan(first[:, 2]).all() and np.isnan(held_out[:, 2]).all()  # without a file
    assert np.isnan(third[3, 1]) and not np.isnan(third[3, 0])  # a gap of the bigWig
    assert np.isnan(third[5]).all()  # masked bin
    assert (first[:, 0] == 0).sum() < np.isfinite(first[:, 0]).sum()


def test_a_replicate_without_a_value_leaves_the_mean_of_the_others(tmp_path):
    for name, gap in (("one", True), ("two", False)):
        bases = made_bases(4)
        if gap:
            bases["chr1"][:128] = np.nan
        write_bigwig(tmp_path / f"{name}.bw", bases)
        write_raw(tmp_path / name, tmp_path / f"{name}.bw", "pval", GENOME, BIN)
    raws = {"CTCF": [tmp_path / "one", tmp_path / "two"]}
    scales = Scales.settle({"c": raws}, GENOME, SIGNALS)
    write_cell(tmp_path / "c", raws, scales, GENOME, BIN)
    found = np.load(tmp_path / "c.npy")[0, 1]
    assert found == np.float16(np.log1p(np.load(tmp_path / "two.npy")[0]))


def test_kinds_are_never_mixed_within_a_signal(study):
    folder, raws = study
    mixed = {"a b": raws["a b"], "c": {"DNase": raws["c"]["CTCF"], "CTCF": raws["c"]["DNase"]}}
    with pytest.raises(InputError) as err:
        Scales.settle(mixed | {"d": {"RNA": []}}, GENOME, SIGNALS)
    assert len(err.value.problems) == 3
    assert "DNase is of several kinds (counts in a b; fold_change in c)" in str(err.value)
    scales = Scales.settle({"a b": raws["a b"]}, GENOME, SIGNALS)
    with pytest.raises(InputError) as err:
        write_cell(folder / "x", {"DNase": raws["c"]["CTCF"], **raws["c"]}, scales, GENOME, BIN)
    assert "H3K27ac is fold_change, in the training cells none" in str(err.value)
    with pytest.raises(InputError, match="no file of any signal"):
        write_cell(folder / "x", {}, scales, GENOME, BIN)


def test_a_batch_is_regions_by_cells(study):
    _, signals = made_cells(study)
    found = signals.batch(["chr2", "chr1"], [2, 0], 6, cells=[2, 0])
    assert found.shape == (2, 2, 6, 3) and found.dtype == np.float16
    at = GENOME.offsets(BIN)[1] + 2
    np.testing.assert_array_equal(found[0, 0], signals.values[2][at : at + 6])
    np.testing.assert_array_equal(found[1, 1], signals.values[0][:6])
    edge = signals.batch(["chr1", "chr2"], [-2, 8], 4)
    assert np.isnan(edge[0, :, :2]).all() and np.isnan(edge[1, :, 3:]).all()
    np.testing.assert_array_equal(edge[0, 1, 2:], signals.values[1][:2])
    with pytest.raises(InputError, match="chr9"):
        signals.batch(["chr9"], [0], 4)


def test_the_mean_of_training_cells_is_over_those_that_have_a_value(study):
    folder, raws = study
    scales, _ = made_cells(study)
    train = CellSignals(folder / "s", ["a b", "c"], GENOME, BIN, scales)
    write_mean(folder / "s/mean.npy", train)
    both = np.stack([v.astype(float) for v in train.values])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = np.nanmean(both, axis=0)
    np.testing.assert_allclose(np.load(folder / "s/mean.npy"), expected, rtol=1e-3)


def test_cells_of_other_scales_bins_or_shapes_are_refused_together(study):
    folder, raws = study
    scales, _ = made_cells(study)
    other = Scales(scales.signals, scales.kinds, (1.0, None, None))
    np.save(folder / "s/c.npy", np.zeros((3, 3), np.float16))
    with pytest.raises(InputError) as err:
        CellSignals(folder / "s", ["a b", "none"], GENOME, BIN, other)
    assert len(err.value.problems) == 2 and "other signals, kinds or depths" in str(err.value)
    with pytest.raises(InputError, match="c: holds float16 .3, 3."):
        CellSignals(folder / "s", ["a b", "c"], GENOME, BIN, scales)
    with pytest.raises(InputError, match="bins of 128 bp, not 64"):
        CellSignals(folder / "s", ["a b"], GENOME, 64, scales)


def test_scales_are_kept_and_damage_is_seen(study, tmp_path):
    scales, _ = made_cells(study)
    scales.save(tmp_path / "scales.json")
    assert Scales.load(tmp_path / "scales.json") == scales
    told = json.loads((tmp_path / "scales.json").read_text())
    told["depths"][0] += 1
    (tmp_path / "scales.json").write_text(json.dumps(told))
    with pytest.raises(InputError, match="not as it was written"):
        Scales.load(tmp_path / "scales.json")


def test_real_tracks_become_targets(shared, tmp_path):
    folder = shared / "data/hg19_pilot_mini"
    if not folder.exists():
        pytest.skip("no pilot tracks")
    sizes = dict(line.split() for line in (folder / "chrom.sizes").read_text().splitlines())
    genome = Genome("pilot", tuple(sizes), tuple(map(int, sizes.values())))
    raws = {}
    for cell in ("E003", "E116"):
        write_raw(
            tmp_path / cell,
            folder / f"signal/{cell}-H3K4me3.pval.signal.bigwig",
            "pval",
            genome,
            BIN,
        )
        raws[cell] = {"H3K4me3": [tmp_path / cell]}
    scales = Scales.settle(raws, genome)
    for cell, given in raws.items():
        write_cell(tmp_path / "s" / cell, given, scales, genome, BIN)
    signals = CellSignals(tmp_path / "s", list(raws), genome, BIN, scales)
    found = signals.batch(["chr5"], [4000], 1000).astype(np.float32)
    assert found.shape == (1, 2, 1000, 8)
    place = scales.signals.index("H3K4me3")
    assert np.isfinite(found[..., place]).all() and np.isnan(np.delete(found, place, -1)).all()
    assert np.corrcoef(found[0, :, :, place])[0, 1] > 0.3
