"""Weights and features of the int8 motif scan: what makes both strands one pair of products.

A base is three numbers x of 1 or -1 (BASES); its complement is Y x with Y = (-1, -1, 1). For the
bases l and r of a window that mirror each other, the features are l + Y r, which the reverse
complement of the window leaves alone, and l - Y r, which it turns. With u the weights of a motif
(log odds of a position = its mean + u x), the weights of the features are (u_l + Y u_r) / 2 and
(u_l - Y u_r) / 2. `pairs` count from the middle outwards; the middle base of an odd width is a
pair with itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

ROWS = 160  # motifs of one product, about: sums of CHUNK windows then stay in the shared cache
WIDEST = 37  # positions; sums of 2 x 127 x 3 x 19 = 14,478 stay above NONE
LINE = 64  # products are made for a multiple of so many windows
NONE = -15_000  # a lower sum tells a window with an N, whose sum has 2 x 127 x 127 taken off
# Columns A, C, G, T, anything else.
BASES = np.array([[1, 1, -1, -1, 0], [1, -1, 1, -1, 0], [1, -1, -1, 1, 0]], np.int8)
_FEATURES = BASES[:, :4].astype(float)
_TURN = np.array([-1, -1, 1])


@dataclass(frozen=True)
class Group:
    """Motifs of even or of odd widths that share their products.

    Attributes:
        rows: which motifs [n], narrow ones first; even: parity of the widths.
        pairs: of the widest; plus, minus: int8 [n, depth].
        widths: (width, first row, end) of each width.
    """

    rows: np.ndarray
    even: bool
    pairs: int
    plus: torch.Tensor
    minus: torch.Tensor
    widths: tuple[tuple[int, int, int], ...]

    @property
    def depth(self) -> int:
        """Rows of features: 3 per pair, and rows of 0 up to a multiple of 4."""
        return self.plus.shape[1]

    @property
    def low(self) -> int:
        """Bases of the narrowest window before its middle."""
        return self.widths[0][0] // 2

    def columns(self, sites: int) -> int:
        """Middles of windows that `sites` starts of every width have together, and some more.

        Whole lines of the cache: products whose rows begin within one take a third longer.
        """
        return -(-(sites + self.widths[-1][0] // 2 - self.low) // LINE) * LINE


def halves(log_odds: np.ndarray) -> np.ndarray:
    """Weights of both kinds of features, float64 [2, pairs, 3], of log odds [width, 4]."""
    u = log_odds @ _FEATURES.T / 4
    width = len(u)
    left, right = u[: (width + 1) // 2][::-1], u[width // 2 :]
    found = np.stack([left + _TURN * right, left - _TURN * right]) / 2
    if width % 2:
        found[:, 0] /= 2
    return found


def error(exact: np.ndarray, rounded: np.ndarray, odd: bool) -> float:
    """Largest |difference| of the scores of two such weights, over all sites."""
    plus, minus = exact - rounded
    left = (plus + minus) @ _FEATURES
    right = (_TURN * (plus - minus)) @ _FEATURES
    if odd:  # the middle base is both
        left[0], right[0] = left[0] + right[0], 0
    both = np.concatenate([left, right])
    return float(max(both.max(axis=1).sum(), -both.min(axis=1).sum()))


def groups(widths: np.ndarray, weights: list[np.ndarray]) -> Iterator[Group]:
    """All motifs in groups of one parity and at most about ROWS motifs.

    Args:
        widths: [M]; weights: int8 [2, pairs, 3] each.
    """
    for odd in (0, 1):
        order = np.flatnonzero(widths % 2 == odd)
        order = order[np.argsort(widths[order], kind="stable")]
        for rows in np.array_split(order, -(-len(order) // ROWS)) if len(order) else []:
            pairs = max(weights[m].shape[1] for m in rows)
            both = np.zeros((2, len(rows), -(-3 * pairs // 4) * 4), np.int8)
            for i, m in enumerate(rows):
                both[:, i, : weights[m][0].size] = weights[m].reshape(2, -1)
            plus, minus = torch.from_numpy(both)
            kinds, starts = np.unique(widths[rows], return_index=True)
            ends = [*starts[1:].tolist(), len(rows)]
            cuts = tuple(zip(kinds.tolist(), starts.tolist(), ends, strict=True))
            yield Group(rows, not odd, pairs, plus.contiguous(), minus.contiguous(), cuts)


def features(numbers: np.ndarray, at: int, out: np.ndarray, group: Group) -> None:
    """Fill both kinds of features of windows, int8 [2, depth, windows]; rows above are left alone.

    Args:
        numbers: int8 [3, bases], of BASES; at: middle of the first window (of an even width, the
            base after it).
    """
    size, row = out.shape[2], numbers.strides[0]
    shape, used = (group.pairs, 3, size), 3 * group.pairs
    left = np.ndarray(shape, np.int8, numbers, at - group.even, (-1, row, 1))
    right = np.ndarray(shape, np.int8, numbers, at, (1, row, 1))
    plus, minus = (half[:used].reshape(shape) for half in out)
    # The complement turns the first two numbers: their sum is the difference, and the reverse.
    np.subtract(left[:, :2], right[:, :2], out=plus[:, :2])
    np.add(left[:, 2], right[:, 2], out=plus[:, 2])
    np.add(left[:, :2], right[:, :2], out=minus[:, :2])
    np.subtract(left[:, 2], right[:, 2], out=minus[:, 2])


def with_other_letters(
    codes: np.ndarray, at: int, plus: np.ndarray, group: Group
) -> tuple[torch.Tensor, np.ndarray]:
    """Weights and features of the first kind, with rows that sink windows with an N.

    Two equal rows for every width: 127 where a window of this width holds a code above 3, and a
    weight of -127 for the motifs of this width.
    """
    size, before = plus.shape[1], np.concatenate([[0], np.cumsum(codes > 3)])
    rows, weights = [], torch.zeros((len(group.rows), 2 * len(group.widths)), dtype=torch.int8)
    for i, (width, first, end) in enumerate(group.widths):
        start = at - width // 2
        bad = before[start + width : start + width + size] > before[start : start + size]
        rows += [bad * np.int8(127)] * 2
        weights[first:end, 2 * i : 2 * i + 2] = -127
    return torch.cat([group.plus, weights], 1), np.concatenate([plus, np.stack(rows)])
