"""Means of an annotation over windows of the genome, whatever their size and overlap.

Every window is a difference of two prefix sums, so a gene that overlaps another one loses nothing
to it, and a window costs the same whether it has one bin or a million.
"""

from __future__ import annotations

import numpy as np

from epiloom.plan.errors import InputError

_BLOCK = 4_000_000  # values held in float64 at a time


def window_bins(windows: np.ndarray, bin_bp: int) -> np.ndarray:
    """First bin that each window touches and the one behind its last, int64 [n, 2].

    Args:
        windows: int64 [n, 2], bases, 0-based half-open.

    Raises:
        InputError: a window without a base, or one that begins before the chromosome.
    """
    windows = np.asarray(windows, np.int64).reshape(-1, 2)
    problems = []
    if bin_bp < 1:
        problems.append(f"bin_bp: {bin_bp} is no width; give the bases per bin, such as 25")
    for wrong, why in (
        (windows[:, 1] <= windows[:, 0], "have no base (end <= start)"),
        (windows[:, 0] < 0, "begin before base 0"),
    ):
        if wrong.any():
            start, end = windows[wrong][0]
            problems.append(
                f"{int(wrong.sum())} of {len(windows)} {why}, such as {start}-{end}; "
                "give 0-based half-open intervals"
            )
    if problems:
        raise InputError("windows", problems)
    return np.stack([windows[:, 0] // bin_bp, -(-windows[:, 1] // bin_bp)], axis=1)


def window_means(
    values: np.ndarray, windows: np.ndarray, bin_bp: int, usable: np.ndarray | None = None
) -> np.ndarray:
    """Mean of every column over the bins that each window touches.

    Windows are independent: they may overlap, repeat and come in any order. Bins that a window has
    beyond the end of `values` are left out, as missing ones are. `values` is read once, block by
    block, so it may be a memory map of a whole chromosome.

    Args:
        values: float [bins, k], one chromosome; NaN = missing, left out of that column's mean.
        windows: int64 [n, 2], bases, 0-based half-open.
        bin_bp: bases per bin.
        usable: bool [bins]; False = the bin is left out of all means.

    Returns:
        float32 [n, k]; NaN where a window has no bin with a value.

    Raises:
        InputError: windows that are none (see `window_bins`), infinite values, a mask of another
            length.
    """
    if usable is not None and len(usable) != len(values):
        raise InputError(
            "annotation",
            f"{len(usable)} marks of usable bins for {len(values)} bins; give one each",
        )
    bins = np.minimum(window_bins(windows, bin_bp), len(values))
    if len(bins) == 0:
        return np.full((0, values.shape[1]), np.nan, np.float32)
    edges, numbers = np.unique(bins, return_inverse=True)
    first, last = numbers.reshape(bins.shape).T
    sums, counts = _between(values, edges, usable)
    total, known = (np.concatenate([part[:1] * 0, part.cumsum(axis=0)]) for part in (sums, counts))
    total, known = total[last] - total[first], known[last] - known[first]
    # a column without a value anywhere in the window has no mean
    means = np.divide(total, known, out=np.full(total.shape, np.nan), where=known > 0)
    return means.astype(np.float32)


def _between(
    values: np.ndarray, edges: np.ndarray, usable: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Sums and numbers of values between neighbouring edges.

    Args:
        edges: int64 [e], sorted, without repeats.

    Returns:
        Sums, float64, and counts, int64, [max(e - 1, 1), k].
    """
    k = values.shape[1]
    sums = np.zeros((max(len(edges) - 1, 1), k))
    counts = np.zeros(sums.shape, np.int64)
    step = max(1, _BLOCK // max(k, 1))
    for begin in range(int(edges[0]), int(edges[-1]), step):
        end = min(begin + step, int(edges[-1]))
        block = np.asarray(values[begin:end], np.float64)
        if np.isinf(block).any():
            raise InputError(
                "annotation", f"infinite values in bins {begin}-{end}; make the annotation again"
            )
        known = ~np.isnan(block)
        if usable is not None:
            known &= np.asarray(usable[begin:end], bool)[:, None]
        inside = edges[(edges > begin) & (edges < end)]
        starts = np.concatenate([[begin], inside])
        segment = np.searchsorted(edges, starts, side="right") - 1
        sums[segment] += np.add.reduceat(np.where(known, block, 0), starts - begin, axis=0)
        counts[segment] += np.add.reduceat(known, starts - begin, axis=0, dtype=np.int64)
    return sums, counts
