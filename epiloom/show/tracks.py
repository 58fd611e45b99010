"""The one writer of bigWig files from binned values (predictions, binned signal)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyBigWig

from epiloom.data.files import atomic
from epiloom.plan.errors import InputError

BLOCK = 500_000  # intervals handed to pyBigWig at once; bounds the memory of a whole-genome file


def write_bins(path: str | Path, genome: Any, bin_bp: int, values: np.ndarray) -> int:
    """Write one value per bin as a bigWig; NaN bins are left out, so a reader sees "no value".

    Args:
        path: the bigWig to write; it appears whole or not at all.
        genome: has `chromosomes` (names) and `lengths` (bp), in the same order.
        bin_bp: bin width in bp. The last bin of a chromosome ends where the chromosome ends.
        values: [sum over chromosomes of ceil(length / bin_bp)], chromosome after chromosome.
            Equal neighbours become one interval.

    Returns:
        the number of intervals written.

    Raises:
        InputError: wrong number of values, infinite values, or no value at all.
    """
    counts = [-(-int(length) // bin_bp) for length in genome.lengths]
    _check(path, genome, bin_bp, values, sum(counts))
    written = 0
    with atomic(path) as tmp:
        bigwig = pyBigWig.open(str(tmp), "w")
        try:
            lengths = (int(length) for length in genome.lengths)
            bigwig.addHeader(list(zip(genome.chromosomes, lengths, strict=True)))
            first = 0
            for chrom, length, count in zip(
                genome.chromosomes, genome.lengths, counts, strict=True
            ):
                part = np.asarray(values[first : first + count], dtype=np.float32)
                first += count
                written += _add_chromosome(bigwig, chrom, int(length), bin_bp, part)
        finally:
            bigwig.close()
    return written


def _check(path: str | Path, genome: Any, bin_bp: int, values: np.ndarray, expected: int) -> None:
    problems = []
    if np.ndim(values) != 1 or len(values) != expected:
        problems.append(
            f"values: shape {np.shape(values)}, but {len(genome.chromosomes)} chromosomes in bins "
            f"of {bin_bp} bp have {expected} bins; give one value per bin of this genome"
        )
    elif np.isinf(values).any():
        where = int(np.flatnonzero(np.isinf(values))[0])
        problems.append(f"values: bin {where} is infinite; use NaN for bins without a value")
    elif np.isnan(values).all():
        problems.append("values: every bin is missing, and a bigWig needs at least one value")
    if problems:
        raise InputError(path, problems)


def _add_chromosome(bigwig: Any, chrom: str, length: int, bin_bp: int, part: np.ndarray) -> int:
    """Merge equal neighbours into intervals [start, end) and add them."""
    if not len(part):
        return 0
    same = (part[1:] == part[:-1]) | (np.isnan(part[1:]) & np.isnan(part[:-1]))
    starts = np.concatenate([[0], np.flatnonzero(~same) + 1])
    ends = np.concatenate([starts[1:], [len(part)]])
    keep = ~np.isnan(part[starts])
    heights = part[starts][keep].astype(np.float64)
    starts = starts[keep].astype(np.int64) * bin_bp
    ends = np.minimum(ends[keep].astype(np.int64) * bin_bp, length)
    for at in range(0, len(starts), BLOCK):
        block = slice(at, at + BLOCK)
        bigwig.addEntries(
            [chrom] * len(starts[block]),
            starts[block].tolist(),
            ends=ends[block].tolist(),
            values=heights[block].tolist(),
        )
    return len(starts)
