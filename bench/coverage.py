"""tagAlign to 100-bp depth: ours against bedtools' chain and deepTools bamCoverage.

500,000 single-end reads of 36 bp on one chromosome of 10 Mb. Processor seconds, children included.
"""

from __future__ import annotations

import gzip
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyBigWig
import pysam

from bench import Figure, cpu_of
from epiloom.data.genome import Genome
from epiloom.data.reads import Reads, sort_reads

LENGTH, READS, READ_BP, BIN = 10_000_000, 500_000, 36, 100
GENOME = Genome("synthetic", ("chr1",), (LENGTH,))


def make_reads(folder: Path) -> Path:
    """A tagAlign.gz of uniformly placed reads, sorted by start; and the chromosome sizes."""
    rng = np.random.default_rng(1)
    starts = np.sort(rng.integers(0, LENGTH - READ_BP, READS))
    strands = rng.choice(["+", "-"], READS)
    path = folder / "reads.tagAlign.gz"
    with gzip.open(path, "wt", compresslevel=6) as file:
        file.writelines(
            f"chr1\t{a}\t{a + READ_BP}\tN\t1000\t{s}\n"
            for a, s in zip(starts.tolist(), strands, strict=True)
        )
    (folder / "sizes").write_text(f"chr1\t{LENGTH}\n")
    return path


def ours(path: Path, folder: Path) -> np.ndarray:
    outs = [folder / f"ours.{side}" for side in ("starts.npy", "ends.npy", "json")]
    sort_reads(path, GENOME, *outs)
    return Reads.open(folder / "ours").chrom_bins("chr1", BIN)


def to_sorted_bam(path: Path, folder: Path) -> Path:
    """bedtools bedtobam, then samtools sort and index (within pysam)."""
    with (folder / "raw.bam").open("wb") as out:
        command = ["bedtools", "bedtobam", "-i", str(path), "-g", str(folder / "sizes")]
        subprocess.run(command, stdout=out, check=True)
    pysam.sort("-o", str(folder / "sorted.bam"), str(folder / "raw.bam"))
    pysam.index(str(folder / "sorted.bam"))
    return folder / "sorted.bam"


def bedtools_chain(path: Path, folder: Path) -> np.ndarray:
    """BED to BAM, sort, genomecov, sort, a loop over rows: as Chromoformer prepares its depth."""
    bam = to_sorted_bam(path, folder)
    command = ["bedtools", "genomecov", "-bga", "-ibam", str(bam)]
    with (folder / "depth.bg").open("wb") as out:
        subprocess.run(command, stdout=out, check=True)
    with (folder / "sorted.bg").open("wb") as out:
        command = ["bedtools", "sort", "-i", str(folder / "depth.bg")]
        subprocess.run(command, stdout=out, check=True)
    depth = np.zeros(LENGTH, np.float16)
    with (folder / "sorted.bg").open() as rows:
        for row in rows:
            _, start, end, value = row.rstrip().split("\t")
            depth[int(start) : int(end)] = float(value)
    np.savez_compressed(folder / "depth.npz", chr1=depth)
    return depth.reshape(-1, BIN).mean(axis=1, dtype=np.float64)


def bam_coverage(folder: Path, bin_bp: int) -> np.ndarray:
    """deepTools on the sorted BAM, one process; values per bin of `bin_bp`."""
    out = folder / f"{bin_bp}.bw"
    command = [str(Path(sys.executable).parent / "bamCoverage"), "-b", str(folder / "sorted.bam")]
    command += ["-o", str(out), "--binSize", str(bin_bp), "-p", "1"]
    subprocess.run(command, check=True, capture_output=True)
    with pyBigWig.open(str(out)) as file:
        return file.values("chr1", 0, LENGTH, numpy=True)[::bin_bp]


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = make_reads(folder)
        results: dict[str, np.ndarray] = {}

        def keep(key, function, *args):
            return lambda: results.update({key: function(*args)})

        ours(path, folder)  # warm
        mine = min(cpu_of(keep("ours", ours, path, folder)) for _ in range(3))
        chain = cpu_of(keep("chain", bedtools_chain, path, folder))
        to_bam = cpu_of(lambda: to_sorted_bam(path, folder))
        tool = cpu_of(keep("tool", bam_coverage, folder, BIN))
        limit = min(cpu_of(lambda: gzip.decompress(path.read_bytes())) for _ in range(3))
    yield Figure("tagAlign to 100-bp depth / bedtools chain", mine, chain, "s")
    yield Figure("tagAlign to 100-bp depth / bamCoverage alone", mine, tool, "s")
    yield Figure("tagAlign to 100-bp depth / BAM + bamCoverage", mine, to_bam + tool, "s")
    yield Figure("tagAlign to 100-bp depth / gunzip alone (the limit)", mine, limit, "s")
    error = float(np.abs(results["ours"] - results["chain"]).max())
    yield Figure("largest difference to bedtools / one base of a bin", error, 1 / BIN, "")
    # bamCoverage counts the reads that touch a bin: it must never be below the mean depth.
    below = float(np.maximum(results["ours"] - results["tool"], 0).max())
    yield Figure("mean depth above bamCoverage's reads per bin / one base", below, 1 / BIN, "")
