"""bigWig tracks and reads as means over fixed bins, genome-wide or in windows.

The mean of a bin is a sum over its bases divided by a width; what counts as width when bases
have no value is the `missing` policy, because the common libraries silently disagree about it:

    zero      bases without a value count as 0; every bin has a value
    covered   mean over the bases that have a value; NaN where none has
    nan       as covered, but NaN also where fewer than `min_covered` of the bases have a value
"""

from __future__ import annotations

import contextlib
import logging
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyBigWig

from epiloom.data.genome import Genome, check_chromosomes
from epiloom.data.reads import Reads
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

MISSING = ("nan", "zero", "covered")
OVERFLOW = ("clip", "refuse")
BLOCK_BP = 256_000  # measured: larger blocks outgrow the cache, smaller ones cost calls
MAX_BLOCK_BP = 8_000_000
HALF_MAX = float(np.finfo(np.float16).max)  # 65,504
_MAGIC = b"\x26\xfc\x8f\x88"
_CHROM_TREE = b"\x91\x8c\xca\x78"
_INDEX = b"\xe0\xac\x68\x24"


class Transform(NamedTuple):
    """A function of raw bin means and its inverse; float16 is widened to float32 first."""

    forward: Callable[[np.ndarray], np.ndarray]
    inverse: Callable[[np.ndarray], np.ndarray]


def _wide(function: Callable) -> Callable[[np.ndarray], np.ndarray]:
    """Apply in float32, or in float64 if that is what comes in (float16 would lose digits)."""

    def apply(values: np.ndarray) -> np.ndarray:
        values = np.asarray(values)
        return function(values if values.dtype == np.float64 else values.astype(np.float32))

    return apply


TRANSFORMS = {
    "none": Transform(_wide(np.array), _wide(np.array)),
    "arcsinh": Transform(_wide(np.arcsinh), _wide(np.sinh)),
    "log1p": Transform(_wide(np.log1p), _wide(np.expm1)),
}


@dataclass
class Binned:
    """Bin means of one track.

    Attributes:
        values: bin size -> float16 [genome.total(bin size)], NaN = missing.
        clipped: bin size -> number of bins whose mean was beyond float16 and was set to +-65,504.
        covered_fraction: share of the genome's bases that have a value.
    """

    values: dict[int, np.ndarray]
    clipped: dict[int, int]
    covered_fraction: float


def check_policy(missing: str, min_covered: float, where: object) -> None:
    """Raise InputError unless `missing` and `min_covered` are usable."""
    problems = []
    if missing not in MISSING:
        problems.append(f"missing: {missing!r}; choose one of {', '.join(MISSING)}")
    if not 0 < min_covered <= 1:
        problems.append(f"min_covered: {min_covered!r}; give a share above 0, at most 1")
    if problems:
        raise InputError(where, problems)


def mean(
    sums: np.ndarray, covered: np.ndarray, widths: np.ndarray, missing: str, min_covered: float
) -> np.ndarray:
    """Bin means under a missing policy (see the top of this file).

    Args:
        sums, covered, widths: sum of the values, bases with a value, bases of the bin.

    Returns:
        float64, NaN = missing. A bin of width 0 (beyond the chromosome) is always NaN.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        if missing == "zero":
            return np.where(widths > 0, sums / widths, np.nan)
        least = min_covered * widths if missing == "nan" else 0
        return np.where((covered > 0) & (covered >= least), sums / covered, np.nan)


@contextlib.contextmanager
def open_bigwig(path: str | Path, genome: Genome | None = None) -> Iterator[pyBigWig.pyBigWig]:
    """Open a complete bigWig; read errors inside the block become InputError too.

    Raises:
        InputError: missing, cut short or foreign file, or chromosomes that do not fit `genome`.
    """
    _check_whole(path)
    try:
        file = pyBigWig.open(str(path))
    except RuntimeError as err:
        raise InputError(path, f"cannot be opened ({err}); download it again") from err
    try:
        if not file.isBigWig():
            raise InputError(path, "is a bigBed, not a bigWig; give the signal track")
        if genome is not None:
            check_chromosomes(dict(file.chroms()), path, genome)
        yield file
    except RuntimeError as err:
        raise InputError(path, f"is damaged ({err}); download it again") from err
    finally:
        file.close()


def _check_whole(path: str | Path) -> None:
    """The signature stands at both ends of a complete bigWig; opening alone misses a cut tail."""
    try:
        with Path(path).open("rb") as file:
            header = file.read(64)
            head = header[:4]
            size = file.seek(0, 2)
            file.seek(max(size - 4, 0))
            tail = file.read(4)
            fault = _fault(file, header, size)
    except OSError as err:
        raise InputError(path, f"cannot be read ({err.strerror}); check the path") from err
    if head == _MAGIC[::-1]:
        raise InputError(path, "is a big-endian bigWig; make it again on a usual machine")
    if head != _MAGIC:
        kind = {b"\x1f\x8b": "gzip", b"PK": "zip", b"<!": "HTML", b"<h": "HTML"}.get(head[:2])
        what = f"looks like {kind}" if kind else f"starts with {head!r}"
        raise InputError(path, f"is not a bigWig ({what}, {size} bytes); download it again")
    if tail != _MAGIC:
        raise InputError(
            path, f"is cut short (no signature at the end, {size} bytes); download it again"
        )
    if fault:
        raise InputError(path, f"{fault} ({size} bytes); download it again or give another track")


def _fault(file, header: bytes, size: int) -> str:
    """What is wrong with the places the header points at; reading on would crash the C library."""
    if len(header) < 64:
        return "is cut short"
    chroms, _, index = struct.unpack_from("<3Q", header, 8)
    if index == 0:
        return "holds no value"
    for offset, signature in ((chroms, _CHROM_TREE), (index, _INDEX)):
        file.seek(min(offset, size))
        if file.read(4) != signature:
            return "is damaged, its index is not where the header says"
    return ""


def bin_bigwig(
    path: str | Path,
    genome: Genome,
    bins: Sequence[int] = (25, 100, 128),
    missing: str = "nan",
    min_covered: float = 0.5,
    overflow: str = "clip",
    out: dict[int, np.ndarray] | None = None,
) -> Binned:
    """Means of a bigWig over several bin sizes, from one reading of the file.

    Values are read base by base in blocks of about 0.25 Mb and summed in float64, never through the
    zoom levels, which are approximate. The last bin of a chromosome is divided by its true width.

    Args:
        path: the file. A chromosome without values is missing (or 0, by policy).
        bins: bin sizes in bp.
        missing, min_covered: see the top of this file.
        overflow: means beyond float16 (65,504): "clip" and count them, or "refuse" the file.
        out: float16 arrays to fill (such as memory maps), bin size -> [genome.total(bin size)].

    Raises:
        InputError: foreign, damaged, empty file; another assembly; unusable arguments.
    """
    check_policy(missing, min_covered, path)
    if overflow not in OVERFLOW:
        raise InputError(path, f"overflow: {overflow!r}; choose one of {', '.join(OVERFLOW)}")
    bins = sorted({int(b) for b in bins})
    block = block_length(bins, path)
    values = out or {b: np.empty(genome.total(b), np.float16) for b in bins}
    for b in bins:
        values[b][:] = 0 if missing == "zero" else np.nan
    clipped = dict.fromkeys(bins, 0)
    covered_bases = 0
    with open_bigwig(path, genome) as file:
        # Made once: fresh pages for every block would cost a third of the time.
        base, gap, count = np.empty(block), np.empty(block, bool), np.empty(block, np.float32)
        for chrom, start, data in blocks(file, genome, block):
            n = len(data)
            sums, covered, n_covered = bin_sums(data, bins, base[:n], gap[:n], count[:n])
            covered_bases += n_covered
            for b in bins:
                widths = np.full(len(sums[b]), b, np.float64)
                widths[-1] = len(data) - (len(sums[b]) - 1) * b
                means = mean(sums[b], covered.get(b, widths), widths, missing, min_covered)
                first = genome.offsets(b)[genome.index(chrom)] + start // b
                target = values[b][first : first + len(means)]
                clipped[b] += to_half(means, target)
    if covered_bases == 0:
        raise InputError(
            path, f"holds no value on the chromosomes of {genome.assembly}; give another track"
        )
    if overflow == "refuse" and any(clipped.values()):
        raise InputError(path, f"bins beyond {HALF_MAX:.0f}: {clipped}; set overflow to clip")
    return Binned(values, clipped, covered_bases / sum(genome.lengths))


def block_length(bins: Sequence[int], path: str | Path) -> int:
    """About 0.25 Mb, and a multiple of every bin size, so that no bin lies across two blocks."""
    if not bins or bins[0] < 1:
        raise InputError(path, f"bin sizes {list(bins)}; give one or more, each at least 1")
    common = math.lcm(*bins)
    if common > MAX_BLOCK_BP:
        raise InputError(
            path,
            f"bin sizes {list(bins)} have {common} as smallest common multiple; at most "
            f"{MAX_BLOCK_BP} is possible in one reading: bin them in two runs",
        )
    return max(BLOCK_BP // common, 1) * common


def blocks(file, genome: Genome, block: int) -> Iterator[tuple[str, int, np.ndarray]]:
    """(chromosome, start, float32 values per base with NaN) of every block that has a value."""
    there = file.chroms()
    for chrom, length in zip(genome.chromosomes, genome.lengths, strict=True):
        if chrom not in there:
            continue
        empty = False
        for start in range(0, length, block):
            end = min(start + block, length)
            # After an empty block, asking for intervals is 20 times cheaper than for values.
            if empty and file.intervals(chrom, start, end) is None:
                continue
            data = file.values(chrom, start, end, numpy=True)
            empty = len(data) == 0 or bool(np.isnan(data[0]) and np.isnan(data).all())
            if not empty:
                yield chrom, start, data


def bin_sums(
    data: np.ndarray,
    bins: Sequence[int],
    base: np.ndarray,
    gap: np.ndarray,
    count: np.ndarray,
) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray], int]:
    """Sums and covered bases per bin, for every bin size; covered is empty if all bases are.

    The last three arguments are room to work in: float64, bool and float32, as long as `data`.
    """
    np.isnan(data, out=gap)
    np.copyto(base, data)
    if not gap.any():
        return _pyramid(base, bins), {}, len(data)
    np.copyto(base, 0, where=gap)
    np.logical_not(gap, out=gap)
    np.copyto(count, gap)  # float32 counts exactly up to 16 million
    return _pyramid(base, bins), _pyramid(count, bins), int(np.count_nonzero(gap))


def _pyramid(base: np.ndarray, bins: Sequence[int]) -> dict[int, np.ndarray]:
    """Sums over every bin size; a bin size that is a multiple of a smaller one reuses its sums.

    A product with a vector of ones is the fastest sum over short rows that numpy has.
    """
    sums: dict[int, np.ndarray] = {}
    for b in bins:
        finer = max((f for f in sums if b % f == 0), default=0)
        sums[b] = _fold(sums[finer], b // finer) if finer else _fold(base, b)
    return sums


def _fold(values: np.ndarray, k: int) -> np.ndarray:
    """Sums of k neighbours; the last group may be shorter."""
    n, rest = divmod(len(values), k)
    whole = values[: n * k].reshape(n, k) @ np.ones(k, values.dtype)
    return np.append(whole, values[n * k :].sum(dtype=values.dtype)) if rest else whole


def to_half(means: np.ndarray, target: np.ndarray) -> int:
    """Store float64 means as float16; returns how many had to be clipped."""
    over = int(np.count_nonzero(np.abs(means) > HALF_MAX))
    target[:] = np.clip(means, -HALF_MAX, HALF_MAX) if over else means
    return over


def bin_reads(
    reads: Reads,
    genome: Genome,
    bins: Sequence[int] = (25, 100, 128),
    out: dict[int, np.ndarray] | None = None,
) -> Binned:
    """Mean depth of reads over several bin sizes, as `bin_bigwig` does it; nothing is missing."""
    check_chromosomes(reads.lengths, reads.name, genome, ())
    bins = sorted({int(b) for b in bins})
    values = out or {b: np.empty(genome.total(b), np.float16) for b in bins}
    clipped = dict.fromkeys(bins, 0)
    for i, chrom in enumerate(genome.chromosomes):
        for b in bins:
            first, last = genome.offsets(b)[i : i + 2]
            clipped[b] += to_half(reads.chrom_bins(chrom, b), values[b][first:last])
    return Binned(values, clipped, 1.0)


def window_means(
    source: str | Path | Reads,
    chroms: Sequence[str],
    starts: Sequence[int],
    strands: Sequence[str],
    window_bp: int,
    bin_bp: int,
    missing: str = "nan",
    min_covered: float = 0.5,
) -> np.ndarray:
    """Bin means in windows that lie on no genome-wide grid, in the direction of transcription.

    Bin i covers start + i*bin_bp .. start + (i+1)*bin_bp; on the minus strand the order of the bins
    is then reversed. With start = TSS - window_bp/2 for both strands this is the promoter window
    of the published expression models (Lee, Yang, Kim, Nature Communications 2022).

    Args:
        source: a bigWig file, or reads (depth, never missing).
        chroms, starts, strands: per window [n]; a start may lie before the chromosome.
        window_bp, bin_bp: bases; the window must be a multiple of the bin.
        missing, min_covered: see the top of this file; used for bigWig.

    Returns:
        float32 [n, window_bp / bin_bp]. A bin across a chromosome's end is the mean over its bases
        inside; NaN = missing, beyond the chromosome, or a chromosome that the bigWig does not have.
    """
    check_policy(missing, min_covered, source)
    if bin_bp < 1 or window_bp < 1 or window_bp % bin_bp:
        raise InputError(
            "window", f"{window_bp} bp is not a multiple of bins of {bin_bp} bp; change one"
        )
    chroms, starts = np.asarray(chroms, dtype=str), np.asarray(starts, np.int64)
    out = np.full((len(starts), window_bp // bin_bp), np.nan, np.float32)
    edges = np.arange(0, window_bp + 1, bin_bp)
    if isinstance(source, Reads):
        for chrom in np.unique(chroms):
            rows = np.flatnonzero(chroms == chrom)
            for part in np.array_split(rows, -(-len(rows) // 1024)):
                out[part] = source.mean_depth(str(chrom), starts[part, None] + edges)
    else:
        with open_bigwig(source) as file:
            _bigwig_windows(file, chroms, starts, edges, out, missing, min_covered)
    minus = np.asarray(strands, dtype=str) == "-"
    out[minus] = out[minus, ::-1]
    return out


def _bigwig_windows(file, chroms, starts, edges, out, missing, min_covered) -> None:
    """Fill the rows of `out`, in file order so that neighbouring blocks are read once."""
    lengths = file.chroms()
    window, bin_bp = int(edges[-1]), int(edges[1])
    base = np.empty(window)
    for row in np.lexsort((starts, chroms)):
        chrom, start = str(chroms[row]), int(starts[row])
        length = lengths.get(chrom, 0)
        first, last = max(start, 0), min(start + window, length)
        if first >= last:
            continue
        base[:] = np.nan
        data = file.values(chrom, first, last, numpy=True)
        if len(data):
            base[first - start : last - start] = data
        gap = np.isnan(base)
        covered = _fold((~gap).astype(np.float32), bin_bp)
        base[gap] = 0
        widths = np.diff(np.clip(start + edges, 0, length))
        out[row] = mean(_fold(base, bin_bp), covered, widths, missing, min_covered)
