"""Features of the sequence of a bin and its surroundings, for regressions.

Computed piece by piece from one number per base: uint8 [genome.total(1)], A, C, G, T = 0..3 and
other letters 4; conservation uint8, 0 = none or unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from epiloom.learn.track_sums import Grid

AROUND = (1000, 10_000)  # bases around a bin's middle
OTHER = 4  # code of a base that is not A, C, G or T


def _stretch(grid: Grid, vector: np.ndarray, chrom: str, low: int, high: int, fill: int):
    """Bases low..high of a chromosome out of a vector, `fill` outside of it; uint8."""
    length = grid.genome.length(chrom)
    start = int(grid.genome.offsets(1)[grid.genome.index(chrom)])
    out = np.full(high - low, fill, np.uint8)
    inside = slice(max(low, 0), min(high, length))
    out[inside.start - low : inside.stop - low] = vector[start + inside.start : start + inside.stop]
    return out


@dataclass(frozen=True)
class GcConservation:
    """Share of GC, CpG per base, mean conservation: of a bin, and of 1 kb and 10 kb around it."""

    grid: Grid
    bases: np.ndarray
    conservation: np.ndarray | None = None

    def __call__(self, chrom: str, first: int, stop: int) -> np.ndarray:
        """Features of some bins of a chromosome, float64 [bins, 6 or 9]."""
        size, length = self.grid.bin_bp, self.grid.genome.length(chrom)
        margin = max(AROUND) // 2 + 1
        low, high = first * size - margin, stop * size + margin
        base = _stretch(self.grid, self.bases, chrom, low, high, OTHER)
        pair = np.append((base[:-1] == 1) & (base[1:] == 2), False)
        known, gc, cpg = (_upto(x) for x in (base < OTHER, (base == 1) | (base == 2), pair))
        if self.conservation is not None:
            conserved = _upto(_stretch(self.grid, self.conservation, chrom, low, high, 0))
        middle = np.arange(first, stop) * size + size // 2
        columns = []
        for width in (size, *(w for w in AROUND if w > size)):
            start = np.maximum(middle - width // 2, 0)
            end = np.minimum(middle - width // 2 + width, length)
            a, b = start - low, end - low
            bases = np.maximum(known[b] - known[a], 1)
            columns.append((gc[b] - gc[a]) / bases)
            columns.append((cpg[np.maximum(b - 1, a)] - cpg[a]) / bases)
            if self.conservation is not None:
                columns.append((conserved[b] - conserved[a]) / np.maximum(end - start, 1))
        return np.stack(columns, axis=1)


def _upto(values: np.ndarray) -> np.ndarray:
    """Sums of the first 0, 1, ... n values, int64 [n + 1]."""
    return np.concatenate([[0], np.cumsum(values, dtype=np.int64)])


@dataclass(frozen=True)
class Kmers:
    """Counts of k-mers, a k-mer and its reverse complement as one, in a bin and its neighbours.

    As many neighbours on each side as make at least `around` bases: 640 with bins of 128 bp.
    """

    grid: Grid
    bases: np.ndarray
    k: int = 5
    around: int = 500

    def __call__(self, chrom: str, first: int, stop: int) -> np.ndarray:
        """Features of some bins of a chromosome, float64 [bins, 512 for k = 5]."""
        size = self.grid.bin_bp
        flank = max(0, -(-(self.around - size) // (2 * size)))
        before, after = (self.k - 1) // 2, self.k // 2  # bases around the middle of a k-mer
        low, high = (first - flank) * size, (stop + flank) * size
        base = _stretch(self.grid, self.bases, chrom, low - before, high + after, OTHER)
        index = canonical(self.k)
        code, valid = np.zeros(high - low, np.int64), np.ones(high - low, bool)
        for j in range(self.k):
            here = base[j : j + high - low]
            code = code * 4 + here
            valid &= here < OTHER
        kinds, bins = int(index.max()) + 1, stop - first + 2 * flank
        place = np.repeat(np.arange(bins) * kinds, size)[valid] + index[code[valid]]
        counts = np.bincount(place, minlength=bins * kinds).reshape(bins, kinds)
        upto = np.concatenate([np.zeros((1, kinds), np.int64), np.cumsum(counts, axis=0)])
        return (upto[2 * flank + 1 :] - upto[: stop - first]).astype(np.float64)


def canonical(k: int) -> np.ndarray:
    """Number of the pair {k-mer, reverse complement}, int64 [4^k], by the k-mer read in base 4."""
    code = np.arange(4**k)
    reverse = np.zeros_like(code)
    for j in range(k):
        reverse = reverse * 4 + 3 - code // 4**j % 4
    return np.unique(np.minimum(code, reverse), return_inverse=True)[1]
