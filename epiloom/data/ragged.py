"""Bins of regions of different lengths, one behind the other in one array."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Ragged:
    """R regions cut into bins of `bin_bp`; the last bin of a region may be shorter.

    A tenth of the memory of padded arrays: partners have 6 kb on average, at most 40.
    """

    lengths: np.ndarray  # int64 [R] bp
    values: np.ndarray  # float32 [bins, ...], means over the bases that a bin has; NaN = missing
    bin_bp: int = 100

    def __post_init__(self) -> None:
        if len(self.values) != self.first[-1]:
            raise ValueError(
                f"{len(self.values)} bins for {len(self.lengths)} regions of {self.first[-1]} bins"
            )

    @cached_property
    def counts(self) -> np.ndarray:
        """Bins of each region, int64 [R]."""
        return -(-self.lengths // self.bin_bp)

    @cached_property
    def first(self) -> np.ndarray:
        """Number of each region's first bin, with the total at the end, int64 [R + 1]."""
        return np.concatenate([[0], np.cumsum(self.counts)])

    def rows(self, regions: np.ndarray) -> np.ndarray:
        """Numbers of all bins of the given regions, one region after the other."""
        counts = self.counts[regions]
        ends = np.cumsum(counts)
        within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
        return np.repeat(self.first[:-1][regions], counts) + within

    def take(self, regions: np.ndarray) -> Ragged:
        """These regions alone, in the given order."""
        return Ragged(self.lengths[regions], self.values[self.rows(regions)], self.bin_bp)

    def coarsen(self, bin_bp: int) -> Ragged:
        """Exact means over bins of a multiple of the width.

        Fine bins are weighted by the bases they have, missing ones are left out; NaN where all are
        missing.
        """
        fold = bin_bp // self.bin_bp
        if fold == 1:
            return self
        counts = -(-self.lengths // bin_bp)
        if len(counts) == 0:
            return Ragged(self.lengths, self.values, bin_bp)
        width = np.full(int(self.first[-1]), float(self.bin_bp))
        width[self.first[1:] - 1] = self.lengths - (self.counts - 1) * self.bin_bp
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        starts = np.repeat(self.first[:-1], counts) + fold * within
        width = width.reshape(-1, *[1] * (self.values.ndim - 1))
        known = ~np.isnan(self.values)
        total = np.add.reduceat(np.where(known, self.values, 0) * width, starts, axis=0)
        bases = np.add.reduceat(known * width, starts, axis=0)
        means = np.divide(total, bases, out=np.full(total.shape, np.nan), where=bases > 0)
        return Ragged(self.lengths, means.astype(np.float32), bin_bp)

    def centred(self, slots: np.ndarray, bins: int) -> np.ndarray:
        """Regions in the middle of rows of `bins`, zeros around; an odd one more on the left.

        Args:
            slots: int64 [...], numbers of regions; -1 = a row of zeros.

        Returns:
            float32 [..., bins, values' other axes].
        """
        flat = slots.reshape(-1)
        used = np.flatnonzero(flat >= 0)
        regions = flat[used]
        counts = self.counts[regions]
        begin = used * bins + (bins - counts + 1) // 2
        ends = np.cumsum(counts)
        within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
        padded = np.zeros((len(flat) * bins, *self.values.shape[1:]), np.float32)
        padded[np.repeat(begin, counts) + within] = self.values[self.rows(regions)]
        return padded.reshape(*slots.shape, bins, *self.values.shape[1:])
