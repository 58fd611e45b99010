"""Two predictors on the same genes: how far they differ, with a 95% interval of the difference.

The genes are the same, so what is hard about them is hard for both; an interval of the difference
is therefore narrower than two separate intervals suggest. For r the genes are drawn again with
replacement (percentile bootstrap, all predictors in the same draws); for the area under the ROC
curve the interval is that of DeLong, DeLong and Clarke-Pearson (1988).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

DRAWS = 1000
Z = 1.959964  # half a 95% interval, in standard errors


@dataclass(frozen=True)
class Difference:
    """First minus second on `n` shared genes; NaN where it is undefined."""

    value: float
    low: float
    high: float
    n: int

    @property
    def ahead(self) -> bool:
        """The interval lies above zero."""
        return bool(self.low > 0)

    @property
    def behind(self) -> bool:
        """The interval lies below zero."""
        return bool(self.high < 0)


def r_differences(
    y: np.ndarray,
    predictions: np.ndarray,
    pairs: Sequence[tuple[int, int]],
    seed: int,
    draws: int = DRAWS,
) -> list[Difference]:
    """Difference of Pearson's r of pairs of predictors.

    Args:
        y: truth [n].
        predictions: [n, k], all finite.
        pairs: columns (first, second).
        seed: of the draws.
    """
    n = len(y)
    undefined = Difference(np.nan, np.nan, np.nan, n)
    if n < 3 or np.ptp(y) == 0:
        return [undefined] * len(pairs)
    flat = np.ptp(predictions, axis=0) == 0
    y, p = _standard(np.asarray(y, float)), _standard(np.asarray(predictions, float))
    sums = np.column_stack([y, y * y, p, p * p, y[:, None] * p])
    whole = _correlation(np.ones((1, n)) @ sums, n)[0]
    drawn = _correlation(_counts(n, seed, draws) @ sums, n)
    made = []
    for a, b in pairs:
        if flat[a] or flat[b]:
            made.append(undefined)
            continue
        low, high = np.nanpercentile(drawn[:, a] - drawn[:, b], [2.5, 97.5])
        made.append(Difference(float(whole[a] - whole[b]), float(low), float(high), n))
    return made


def _standard(values: np.ndarray) -> np.ndarray:
    """Mean 0, deviation 1, by column: the sums over draws then lose no digits."""
    values = values - values.mean(axis=0)
    spread = values.std(axis=0)
    return values / np.where(spread > 0, spread, 1)


def _counts(n: int, seed: int, draws: int) -> np.ndarray:
    """How often each gene is in each draw, [draws, n]."""
    picks = np.random.default_rng(seed).integers(0, n, size=(draws, n))
    picks += n * np.arange(draws)[:, None]
    return np.bincount(picks.ravel(), minlength=draws * n).reshape(draws, n).astype(float)


def _correlation(sums: np.ndarray, n: int) -> np.ndarray:
    """r [draws, k] from sums of y, y^2, p, p^2 and y p [draws, 2 + 3 k]."""
    k = (sums.shape[1] - 2) // 3
    y, yy = sums[:, :1], sums[:, 1:2]
    p, pp, yp = (sums[:, 2 + i * k : 2 + (i + 1) * k] for i in range(3))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (yp - y * p / n) / np.sqrt((yy - y * y / n) * (pp - p * p / n))


def auc_differences(
    y: np.ndarray, predictions: np.ndarray, pairs: Sequence[tuple[int, int]]
) -> list[Difference]:
    """Difference of the area under the ROC curve of pairs of predictors, as `r_differences`."""
    n = len(y)
    if set(np.unique(y)) != {0.0, 1.0}:
        return [Difference(np.nan, np.nan, np.nan, n)] * len(pairs)
    parts = [_placements(y, column) for column in np.asarray(predictions, float).T]
    made = []
    for a, b in pairs:
        positive, negative = parts[a][0] - parts[b][0], parts[a][1] - parts[b][1]
        made.append(_delong(positive, negative, n))
    return made


def auc(y: np.ndarray, prediction: np.ndarray) -> Difference:
    """The area under the ROC curve with its interval, as a difference from nothing."""
    if set(np.unique(y)) != {0.0, 1.0}:
        return Difference(np.nan, np.nan, np.nan, len(y))
    return _delong(*_placements(y, np.asarray(prediction, float)), len(y))


def _placements(y: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each positive the share of negatives below it, of each negative of positives above."""
    positive, negative = p[y == 1], p[y == 0]
    ranks = rankdata(np.concatenate([positive, negative]))
    above = (ranks[: len(positive)] - rankdata(positive)) / len(negative)
    below = 1 - (ranks[len(positive) :] - rankdata(negative)) / len(positive)
    return above, below


def _delong(positive: np.ndarray, negative: np.ndarray, n: int) -> Difference:
    value = float(positive.mean())
    if min(len(positive), len(negative)) < 2:
        return Difference(value, np.nan, np.nan, n)
    variance = positive.var(ddof=1) / len(positive) + negative.var(ddof=1) / len(negative)
    half = Z * float(np.sqrt(variance))
    return Difference(value, value - half, value + half, n)
