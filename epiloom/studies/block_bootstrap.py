"""Average precision in resamples of the genome.

Neighbouring windows are alike, so not windows but stretches of about 1 Mb are drawn again, with
replacement, as many per chromosome as there are. All folds, cells and predictors of a task see the
same draws: differences between them are paired, and a stretch whose windows a shuffled fold spreads
over all test sets comes or goes as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BLOCK_BP = 1_000_000
DRAWS = 1000
_CHUNK = 4_000_000  # resampled examples held at a time


@dataclass(frozen=True)
class Resamples:
    """How often each stretch of the genome is in each draw.

    Attributes:
        block: int64 [n], stretch of each example.
        counts: uint16 [draws, blocks].
    """

    block: np.ndarray
    counts: np.ndarray

    @classmethod
    def draw(
        cls,
        chroms: np.ndarray,
        positions: np.ndarray,
        seed: int,
        draws: int = DRAWS,
        block_bp: int = BLOCK_BP,
    ) -> Resamples:
        """Resamples of examples on `chroms` (text [n]) at `positions` (int64 [n], bases).

        The order of the examples does not matter.
        """
        names, chrom = np.unique(np.asarray(chroms, dtype=str), return_inverse=True)
        places = np.stack([chrom, np.asarray(positions, np.int64) // block_bp])
        blocks, block = np.unique(places, axis=1, return_inverse=True)
        rng = np.random.default_rng(seed)
        drawn = []
        for i in range(len(names)):
            here = int((blocks[0] == i).sum())
            drawn.append(rng.multinomial(here, np.full(here, 1 / here), size=draws))
        counts = np.concatenate(drawn, axis=1) if drawn else np.zeros((draws, 0))
        return cls(block.reshape(-1), counts.astype(np.uint16))

    def average_precision(
        self, rows: np.ndarray, positive: np.ndarray, score: np.ndarray
    ) -> np.ndarray:
        """Average precision of some examples in every draw, float64 [draws].

        Args:
            rows: int64 [m], numbers of the examples.
            positive: bool [m]; score: float [m], higher = likelier positive.

        Returns:
            NaN in draws without a positive example.
        """
        block, draws = self.block[rows], len(self.counts)
        step = max(1, _CHUNK // max(1, len(rows)))
        parts = [
            weighted_average_precision(self.counts[first : first + step, block], positive, score)
            for first in range(0, draws, step)
        ]
        return np.concatenate(parts)


def weighted_average_precision(
    weights: np.ndarray, positive: np.ndarray, score: np.ndarray
) -> np.ndarray:
    """Average precision under several weightings of the same examples.

    The sum over thresholds of precision x gain in recall; equal scores share one threshold, and
    nothing is interpolated (as in scikit-learn).

    Args:
        weights: whole numbers [draws, m]; positive: bool [m]; score: float [m].

    Returns:
        float64 [draws]; NaN where the positive examples weigh nothing.
    """
    order = np.argsort(-np.asarray(score, np.float64), kind="stable")
    score, positive = np.asarray(score)[order], np.asarray(positive, bool)[order]
    last = np.append(np.flatnonzero(score[1:] != score[:-1]), len(score) - 1)
    upto = np.cumsum(positive)[last]  # positive rows up to each threshold
    gains = np.diff(upto, prepend=0) > 0
    last, upto = last[gains], upto[gains]  # others add nothing to the sum
    if len(last) == 0:
        return np.full(len(weights), np.nan)
    ordered = np.take(weights, order, axis=1)
    total = np.cumsum(ordered, axis=1, dtype=np.int64)[:, last]
    true = np.cumsum(ordered[:, positive], axis=1, dtype=np.int64)[:, upto - 1]
    precision = np.divide(true, total, out=np.zeros(true.shape), where=total > 0)
    found = (np.diff(true, axis=1, prepend=0) * precision).sum(axis=1)
    whole = true[:, -1]
    return np.divide(found, whole, out=np.full(len(weights), np.nan), where=whole > 0)
