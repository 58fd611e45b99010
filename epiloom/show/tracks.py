"""The one writer of bigWig files from binned values (predictions, binned signal)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyBigWig

from epiloom.data.files import atomic
from epiloom.plan.errors import InputError

BLOCK = 500_000  # intervals handed to pyBigWig at once; bounds the memory of a whole-genome file
_NOTHING = "values: every bin is missing, and a bigWig needs at least one value"


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
    with open_bins(path, genome, bin_bp) as writer:
        first = 0
        for chrom, count in zip(genome.chromosomes, counts, strict=True):
            writer.add(chrom, 0, values[first : first + count])
            first += count
    return writer.written


@contextlib.contextmanager
def open_bins(path: str | Path, genome: Any, bin_bp: int) -> Iterator[BinWriter]:
    """A bigWig to add bins to, piece by piece in the order of the genome; see `write_bins`.

    It appears whole when the block ends, or not at all if the block fails.

    Raises:
        InputError: no value was added.
    """
    with atomic(path) as tmp:
        bigwig = pyBigWig.open(str(tmp), "w")
        try:
            writer = BinWriter(path, genome, bin_bp, bigwig)
            yield writer
        finally:
            bigwig.close()
        if not writer.written:
            raise InputError(path, _NOTHING)


class BinWriter:
    """Adds bins to an open bigWig (see `open_bins`); `written` counts its intervals."""

    def __init__(self, path: str | Path, genome: Any, bin_bp: int, bigwig: Any):
        self.path, self.bin_bp, self.bigwig, self.written = path, bin_bp, bigwig, 0
        self.lengths = {
            chrom: int(length)
            for chrom, length in zip(genome.chromosomes, genome.lengths, strict=True)
        }
        bigwig.addHeader(list(self.lengths.items()))

    def add(self, chrom: str, first: int, values: np.ndarray) -> None:
        """Append the bins `first`, `first` + 1, ... of a chromosome; NaN bins get no value.

        Raises:
            InputError: infinite values.
        """
        part = np.asarray(values, dtype=np.float32)
        if np.isinf(part).any():
            where = first + int(np.flatnonzero(np.isinf(part))[0])
            raise InputError(
                self.path, f"{chrom}: bin {where} is infinite; use NaN for bins without a value"
            )
        length = self.lengths[chrom]
        self.written += _add_bins(self.bigwig, chrom, length, self.bin_bp, first, part)


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
        problems.append(_NOTHING)
    if problems:
        raise InputError(path, problems)


def _add_bins(
    bigwig: Any, chrom: str, length: int, bin_bp: int, first: int, part: np.ndarray
) -> int:
    """Merge equal neighbours into intervals [start, end) and add them."""
    if not len(part):
        return 0
    same = (part[1:] == part[:-1]) | (np.isnan(part[1:]) & np.isnan(part[:-1]))
    starts = np.concatenate([[0], np.flatnonzero(~same) + 1])
    ends = np.concatenate([starts[1:], [len(part)]])
    keep = ~np.isnan(part[starts])
    heights = part[starts][keep].astype(np.float64)
    starts = (first + starts[keep].astype(np.int64)) * bin_bp
    ends = np.minimum((first + ends[keep].astype(np.int64)) * bin_bp, length)
    for at in range(0, len(starts), BLOCK):
        block = slice(at, at + BLOCK)
        bigwig.addEntries(
            [chrom] * len(starts[block]),
            starts[block].tolist(),
            ends=ends[block].tolist(),
            values=heights[block].tolist(),
        )
    return len(starts)


def write_bases(
    path: str | Path, genome: Any, pieces: Iterable[tuple[str, int, np.ndarray]]
) -> int:
    """Write one value per base of some stretches as a bigWig; NaN bases get no value.

    Args:
        path, genome: as in `write_bins`.
        pieces: (chromosome, first base, values), in any order, not overlapping.

    Returns:
        the number of intervals written.

    Raises:
        InputError: stretches that overlap or leave their chromosome, infinite or no values.
    """
    place = {chrom: i for i, chrom in enumerate(genome.chromosomes)}
    problems, known = [], []
    for chrom, start, values in pieces:
        if chrom in place and start >= 0 and start + len(values) <= genome.lengths[place[chrom]]:
            known.append((place[chrom], int(start), values))
        else:
            where = f"{chrom}:{start}-{start + len(values)}"
            problems.append(f"{where} is not on the genome; leave it out")
    known.sort(key=lambda piece: piece[:2])
    for one, two in zip(known[:-1], known[1:], strict=True):
        if one[0] == two[0] and one[1] + len(one[2]) > two[1]:
            where = f"{genome.chromosomes[two[0]]}:{two[1]}"
            problems.append(f"{where} is in two stretches; give each base once")
    if problems:
        raise InputError(path, problems)
    with open_bins(path, genome, 1) as writer:
        for chrom, start, values in known:
            writer.add(genome.chromosomes[chrom], start, values)
    return writer.written
