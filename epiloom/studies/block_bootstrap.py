"""Average precision in resamples of the genome.

Neighbouring windows are alike, so not windows but stretches of about 1 Mb are drawn again, with
replacement, as many per chromosome as there are. Chromosomes with examples in few stretches are
drawn from together, and of too few stretches in all no interval is made: a handful of draws that
are always the same would look like certainty. All folds, cells and predictors of a task see the
same draws: differences between them are paired, and a stretch whose windows a shuffled fold spreads
over all test sets comes or goes as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BLOCK_BP = 1_000_000
DRAWS = 1000
SHORT = 10  # stretches that the shortest chromosome is cut into; short ones get narrower stretches
ALONE = 5  # stretches with examples that a chromosome needs to be drawn from by itself
LEAST = 10  # stretches in all below which nothing is said
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
        positions = np.asarray(positions, np.int64)
        far = np.zeros(len(names), np.int64)
        np.maximum.at(far, chrom, positions + 1)
        width = np.minimum(block_bp, -(-far // SHORT))[chrom]
        blocks, block = np.unique(
            np.stack([chrom, positions // width]), axis=1, return_inverse=True
        )
        sizes = np.bincount(blocks[0], minlength=len(names))
        stratum = np.where(sizes >= ALONE, np.arange(len(names)), -1)[blocks[0]]
        rng, counts = np.random.default_rng(seed), np.zeros((draws, len(stratum)), np.uint16)
        for one in np.unique(stratum):
            here = np.flatnonzero(stratum == one)
            counts[:, here] = rng.multinomial(len(here), np.full(len(here), 1 / len(here)), draws)
        return cls(block.reshape(-1), counts)

    def average_precision(
        self, rows: np.ndarray, positive: np.ndarray, score: np.ndarray
    ) -> np.ndarray:
        """Average precision of some examples in every draw, float64 [draws].

        Args:
            rows: int64 [m], numbers of the examples.
            positive: bool [m]; score: float [m], higher = likelier positive.

        Returns:
            NaN in draws without a positive example, and everywhere if there are fewer than `LEAST`
            stretches.
        """
        if self.counts.shape[1] < LEAST:
            return np.full(len(self.counts), np.nan)
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
