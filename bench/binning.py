"""bigWig to bins: ours (three bin sizes) against pyBigWig's own ways (one bin size).

The tracks imitate p-value tracks of two densities on one chromosome of 5 Mb with a hole of 0.3 Mb:
mid, 36 bp per interval (as Roadmap's files), and dense, 6.5 bp per interval. stats(nBins), which
takes half a millisecond per bin, is compared on the first 0.5 Mb, ours on the same bases.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyBigWig

from bench import Figure, paired
from epiloom.data.genome import Genome
from epiloom.data.signal import bin_bigwig

LENGTH, HOLE = 5_000_000, (2_000_000, 2_300_000)
SHORT, SHORT_HOLE = 500_000, (200_000, 230_000)
GENOME = Genome("synthetic", ("chr1",), (LENGTH,))
SHORT_GENOME = Genome("synthetic", ("chr1",), (SHORT,))
BINS = (25, 100, 128)
DENSITIES = {"mid": 36, "dense": 6.5}
ITEMS_PER_BLOCK = 1024  # of the bigWig writer


def make_track(
    path: Path, interval_bp: float, length: int = LENGTH, hole: tuple[int, int] = HOLE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write a synthetic track; returns starts, ends, values."""
    rng = np.random.default_rng(1)
    edges = np.cumsum(rng.geometric(1 / interval_bp, int(1.2 * length / interval_bp)))
    edges = np.concatenate([[0], edges[edges < length], [length]])
    starts, ends = edges[:-1], edges[1:]
    keep = (ends <= hole[0]) | (starts >= hole[1])
    starts, ends = starts[keep], ends[keep]
    values = np.round(rng.exponential(1.0, len(starts)), 5)
    with pyBigWig.open(str(path), "w") as file:
        file.addHeader([("chr1", length)])
        file.addEntries(np.repeat("chr1", len(starts)), starts, ends=ends, values=values)
    return starts, ends, values


def bare_loop(path: Path, bin_bp: int = 25, block: int = 1_000_000) -> np.ndarray:
    """The shortest correct use of pyBigWig: blocks of values, missing as 0, mean of each bin."""
    found = []
    with pyBigWig.open(str(path)) as file:
        for start in range(0, LENGTH, block):
            values = file.values("chr1", start, min(start + block, LENGTH), numpy=True)
            found.append(np.nan_to_num(values, copy=False).reshape(-1, bin_bp).mean(axis=1))
    return np.concatenate(found)


def library_stats(path: Path, bin_bp: int = 25) -> np.ndarray:
    """pyBigWig's own binning, exact."""
    with pyBigWig.open(str(path)) as file:
        length = file.chroms("chr1")
        found = file.stats("chr1", 0, length, nBins=length // bin_bp, exact=True)
    return np.array(found, dtype=np.float64)  # None becomes NaN


def packed_blocks(starts, ends, values) -> list[bytes]:
    """The same intervals as deflated blocks of the size a bigWig has."""
    items = np.empty(len(starts), [("start", "<u4"), ("end", "<u4"), ("value", "<f4")])
    items["start"], items["end"], items["value"] = starts, ends, values
    cuts = range(0, len(items), ITEMS_PER_BLOCK)
    return [zlib.compress(items[k : k + ITEMS_PER_BLOCK].tobytes()) for k in cuts]


def extra_memory(path: Path) -> float:
    """MB by which the peak memory of a fresh process grows while it bins the track."""
    code = (
        "import re, sys\n"
        "from pathlib import Path\n"
        "from bench.binning import BINS, GENOME, bin_bigwig\n"
        "def kb(key): return int(re.search(key + r':\\s+(\\d+)', "
        "Path('/proc/self/status').read_text())[1])\n"
        "Path('/proc/self/clear_refs').write_text('5')\n"
        "before = kb('VmRSS')\n"
        "bin_bigwig(sys.argv[1], GENOME, BINS)\n"
        "print((kb('VmHWM') - before) / 1024)\n"
    )
    # Linux: writing 5 sets the recorded peak back to what is in use after the imports.
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
        env=os.environ,
    )
    return float(done.stdout)


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        for name, interval_bp in DENSITIES.items():
            yield from _of_track(name, Path(folder) / f"{name}.bw", interval_bp)


def _of_track(name: str, path: Path, interval_bp: float) -> Iterator[Figure]:
    blocks = packed_blocks(*make_track(path, interval_bp))

    def ours():
        return bin_bigwig(path, GENOME, BINS, "zero")

    def inflate():
        for block in blocks:
            zlib.decompress(block)

    mine, bare, limit = paired([ours, lambda: bare_loop(path), inflate], 40)
    yield from _against_stats(name, path.with_suffix(".short.bw"), interval_bp)
    yield Figure(f"{name}: 3 bin sizes / bare block loop, 25 bp", mine, bare, "s")
    yield Figure(f"{name}: 3 bin sizes / inflating the blocks (the limit)", mine, limit, "s")
    yield Figure(f"{name}: extra memory / allowed", extra_memory(path), 150, "MB")


def _against_stats(name: str, path: Path, interval_bp: float) -> Iterator[Figure]:
    make_track(path, interval_bp, SHORT, SHORT_HOLE)
    (mine,) = paired([lambda: bin_bigwig(path, SHORT_GENOME, BINS, "zero")], 40)
    began = time.perf_counter()
    library = library_stats(path)
    spent = time.perf_counter() - began
    yield Figure(f"{name}: 3 bin sizes / stats(nBins), 25 bp, 0.5 Mb", mine, spent, "s")
    exact = bin_bigwig(path, SHORT_GENOME, (25,), "covered").values[25].astype(np.float64)
    if not np.array_equal(np.isnan(exact), np.isnan(library)):
        raise RuntimeError("ours and stats(nBins) disagree about which bins have a value")
    # Below 2^-14 float16 has a fixed step instead of a relative one.
    error = np.nanmax(np.abs(exact - library) / np.maximum(library, 2**-14))
    yield Figure(f"{name}: largest relative difference / float16 rounding", error, 2**-11, "")
