"""What becomes of the bases of a bin: scale, one statistic, soft clip, clip; as in Basenji.

    sum, mean, median, max      over the bases that have a value
    sum_sqrt, mean_sqrt         -1 + sqrt(1 + x) of the sum or mean
    peak                        sqrt(4 mean), at most 1: height of a peak on a scale of 0..1
    clip_soft c                 x above c becomes c - 1 + sqrt(x - c + 1)
    clip c                      bounds 0 and c

A bin is missing (NaN) when fewer than half of its bases have a value.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

from epiloom.data.signal import bin_sums, mean
from epiloom.plan.errors import InputError
from epiloom.plan.targets import STATISTICS

MIN_COVERED = 0.5
_NOT_NEGATIVE = ("mean_sqrt", "sum_sqrt", "peak")


@dataclass(frozen=True)
class Statistic:
    """How the values of a target come about (see the top of this file).

    Raises:
        InputError: all that cannot be used.
    """

    sum_stat: str = "mean"
    scale: float = 1.0
    clip_soft: float | None = None
    clip: float | None = None

    def __post_init__(self) -> None:
        if self.sum_stat == "avg":  # Basenji's other name
            object.__setattr__(self, "sum_stat", "mean")
        problems = []
        if self.sum_stat not in STATISTICS:
            problems.append(f"sum_stat {self.sum_stat!r}; choose one of {', '.join(STATISTICS)}")
        for key in ("scale", "clip_soft", "clip"):
            value = getattr(self, key)
            if value is None and key != "scale":
                continue
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 < value < math.inf:
                problems.append(f"{key} {value!r}; give a number above 0")
        if problems:
            raise InputError("target", problems)

    @property
    def values(self) -> dict:
        """The settings as plain values."""
        return asdict(self)

    def of_bins(self, data: np.ndarray, bin_bp: int, where: object) -> np.ndarray:
        """Values of neighbouring bins.

        Args:
            data: float32 [bases] from the start of a bin on, NaN = no value; the last bin may be
                short.
            where: file, for the message.

        Returns:
            float64 [ceil(bases / bin_bp)], NaN = missing.

        Raises:
            InputError: negative values of a statistic that takes a root.
        """
        ordered = self.sum_stat in ("median", "max")
        found = _ranked(data, bin_bp, self.sum_stat) if ordered else self._summed(data, bin_bp)
        found *= self.scale
        with np.errstate(invalid="ignore"):
            if self.sum_stat in _NOT_NEGATIVE:
                if (found < 0).any():
                    raise InputError(
                        where,
                        f"a bin is negative ({np.nanmin(found):.4g}), {self.sum_stat} takes a "
                        "square root; choose mean, sum, median or max",
                    )
                peak = self.sum_stat == "peak"
                found = np.minimum(np.sqrt(4 * found), 1) if peak else np.sqrt(1 + found) - 1
            return self._clipped(found)

    def _summed(self, data: np.ndarray, bin_bp: int) -> np.ndarray:
        """Mean or sum of the bases that have a value."""
        n = len(data)
        room = np.empty(n), np.empty(n, bool), np.empty(n, np.float32)
        sums, covered, _ = bin_sums(data, [bin_bp], *room)
        there = covered.get(bin_bp, widths := _widths(n, bin_bp))
        if self.sum_stat in ("sum", "sum_sqrt"):
            return np.where(there >= MIN_COVERED * widths, sums[bin_bp], np.nan)
        return mean(sums[bin_bp], there, widths, "nan", MIN_COVERED)

    def _clipped(self, values: np.ndarray) -> np.ndarray:
        if self.clip_soft is not None:
            over = values > self.clip_soft
            values[over] = self.clip_soft - 1 + np.sqrt(values[over] - self.clip_soft + 1)
        return values if self.clip is None else np.clip(values, 0, self.clip)


def _widths(bases: int, bin_bp: int) -> np.ndarray:
    """Bases of each bin, float64; the last may be short."""
    starts = np.arange(0, bases, bin_bp)
    return np.minimum(starts + bin_bp, bases).astype(np.float64) - starts


def _ranked(data: np.ndarray, bin_bp: int, what: str) -> np.ndarray:
    """Median or max of the bases that have a value."""
    widths = _widths(len(data), bin_bp)
    rows = np.full((len(widths), bin_bp), np.nan, np.float32)
    rows.ravel()[: len(data)] = data
    rows.sort(axis=1)  # NaN last
    there = bin_bp - np.isnan(rows).sum(axis=1)
    last = np.maximum(there - 1, 0)
    line = np.arange(len(rows))
    if what == "max":
        found = rows[line, last].astype(np.float64)
    else:
        middle = rows[line, last // 2].astype(np.float64), rows[line, (last + 1) // 2]
        found = (middle[0] + middle[1]) / 2
    return np.where(there >= MIN_COVERED * widths, found, np.nan)
