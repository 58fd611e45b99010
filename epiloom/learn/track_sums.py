"""Sums from which the agreement of a predicted track with the measured one follows.

Vectors are genome-long (`Genome.offsets(bin_bp)`), float16, NaN = not predicted or no data. There
are only 31,744 float16 values from 0 up, and their bit patterns sort like the values, so a value
is handled as its pattern (a code): functions of a value are tables, and counts per code give exact
ranks. Bins are summed per window (a stretch of predicted bins); everything follows from the table
of window sums and the counts, which can be merged in any order and with any chunking. Sums are
float64. A measure that does not exist is None, never 0 or NaN.

* r, r2, mse: of log2(x + 1). r_linear: Pearson of x.
* deviance_explained = 1 - D / D0, D = 2 sum(y ln(y/p) - y + p), D0 the same with the mean of the
  evaluated bins for p; p is floored at 1e-6, y ln y is 0 at y = 0.
* spearman: exact, ties share their mean rank. The counts of the first pass give every value's
  rank, a second pass over the vectors sums the products.
* window_r: median over windows of the Pearson correlation of log2(x + 1) within the window.
* auroc, auprc (average precision): of bins against peak labels, exact, from counts per value.
* r_low, r_high: 95 % bootstrap interval of r. Blocks of consecutive windows are resampled (about
  1 Mb each), because neighbouring bins are far from independent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.special import xlogy

from epiloom.data.genome import Genome
from epiloom.plan.errors import InputError

FLOOR = 1e-6  # of a prediction, in the deviance
STRETCH = 640  # bins of a window if none are given: what Epiformer predicts at once
PER_BLOCK = 12  # windows of a block: 0.98 Mb with 640 bins of 128 bp
MIN_BINS = 16  # of a window that has an r of its own
MIN_BLOCKS = 8  # for an interval
DRAWS = 1000
CHUNK = 1 << 20  # bins held at a time

CODES = 0x7C00  # codes of the finite values from 0 up; what follows is infinite or NaN
LEVELS = np.arange(CODES, dtype=np.uint16).view(np.float16).astype(np.float64)
LOG = np.log2(LEVELS + 1)
_FLOORED = np.maximum(LEVELS, FLOOR)
_LN = np.log(_FLOORED)
_XLNX = xlogy(LEVELS, LEVELS)

_N, _Y, _P, _YY, _PP, _YP = range(6)  # of log2(x + 1)
_LIN = 5  # the same sums of x: columns _Y + _LIN ... _YP + _LIN
_YLNY, _DEVIANCE, _COLUMNS = 11, 12, 13


def codes(values: np.ndarray, what: str = "a track") -> tuple[np.ndarray, np.ndarray]:
    """Codes of float16 values, uint16 [n], and which are not NaN, bool [n] (their code is 0).

    Raises:
        InputError: values below 0, or infinite.
    """
    with np.errstate(over="ignore"):  # found below
        code = np.array(values, np.float16).view(np.uint16)
    code[code == 0x8000] = 0  # -0
    known = (code & 0x7FFF) <= CODES
    code[~known] = 0
    bad = int(np.count_nonzero(code >= CODES))
    if bad:
        raise InputError(
            what,
            f"{bad} values are below 0 or infinite, where a signal from 0 to 65,504 is expected;"
            " rescale the track, or leave it out",
        )
    return code, known


@dataclass(frozen=True)
class Grid:
    """Bins of a genome.

    mask: uint8 [genome.total(bin_bp)], bins that are not 0 never count; None: all do.
    """

    genome: Genome
    bin_bp: int
    mask: np.ndarray | None = None

    @cached_property
    def total(self) -> int:
        """Length of a vector."""
        return self.genome.total(self.bin_bp)

    def span(self, chrom: str) -> slice:
        """The bins of a chromosome in a vector."""
        offsets, i = self.genome.offsets(self.bin_bp), self.genome.index(chrom)
        return slice(int(offsets[i]), int(offsets[i + 1]))

    def usable(self, bins: slice) -> np.ndarray:
        """Which bins are not masked, bool."""
        if self.mask is None:
            return np.ones(bins.stop - bins.start, bool)
        return np.asarray(self.mask[bins]) == 0


@dataclass(frozen=True)
class Windows:
    """Sorted windows that share no bin: first bin, bin after the last, block; int64 [W] each."""

    starts: np.ndarray
    stops: np.ndarray
    blocks: np.ndarray

    def chunks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Bins to read at once, and the window (its first bin) of each, -1 for none."""
        cuts = np.flatnonzero(np.diff(self.starts // CHUNK)) + 1
        for first, last in zip([0, *cuts], [*cuts, len(self.starts)], strict=True):
            starts, stops = self.starts[first:last], self.stops[first:last]
            if not len(starts):
                continue
            gaps = starts[1:] - stops[:-1]
            names = np.stack([starts, np.full_like(starts, -1)], axis=1).ravel()[:-1]
            lengths = np.stack([stops - starts, np.append(gaps, 0)], axis=1).ravel()[:-1]
            yield slice(int(starts[0]), int(stops[-1])), np.repeat(names, lengths)


def windows_of(
    grid: Grid,
    chroms: list[str] | tuple[str, ...],
    table: pd.DataFrame | None = None,
    size: int = STRETCH,
    per_block: int = PER_BLOCK,
) -> Windows:
    """The windows of some chromosomes.

    Args:
        table: predicted intervals (chrom, start, end in bases); bins outside never count. None:
            each chromosome is cut into stretches of `size` bins.

    Raises:
        InputError: windows that overlap or leave their chromosome; an unknown chromosome.
    """
    starts, stops, blocks, used = [], [], [], 0
    for chrom in sorted(set(chroms), key=grid.genome.index):
        span = grid.span(chrom)
        if table is None:
            first = np.arange(span.start, span.stop, size)
            last = np.minimum(first + size, span.stop)
        else:
            rows = table[table["chrom"] == chrom].sort_values("start")
            first = span.start + rows["start"].to_numpy(np.int64) // grid.bin_bp
            last = span.start - (-rows["end"].to_numpy(np.int64) // grid.bin_bp)
            if (first[1:] < last[:-1]).any() or (first < span.start).any() or (last <= first).any():
                raise InputError(
                    "windows", f"some on {chrom} overlap or are empty; give each bin once"
                )
            if (last > span.stop).any():
                raise InputError("windows", f"one leaves {chrom}; give windows inside of it")
        block = used + np.arange(len(first)) // per_block
        used = int(block[-1]) + 1 if len(block) else used
        for found, values in ((starts, first), (stops, last), (blocks, block)):
            found.append(values.astype(np.int64))
    return Windows(*(np.concatenate([np.zeros(0, np.int64), *x]) for x in (starts, stops, blocks)))


@dataclass(frozen=True, eq=False)
class TrackSums:
    """Sums over the bins of one track, per window, and counts of its values.

    windows int64 [W] sorted; sums float64 [W, 13]; low, high uint16 [W, 2], smallest and largest
    code of truth and prediction; truth, predicted, at_peaks int64 [CODES], bins per code of the
    truth, of the prediction, and of the prediction in peaks.
    """

    windows: np.ndarray
    sums: np.ndarray
    low: np.ndarray
    high: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    at_peaks: np.ndarray

    @classmethod
    def of(
        cls,
        truth: np.ndarray,
        prediction: np.ndarray,
        windows: np.ndarray,
        peaks: np.ndarray | None = None,
    ) -> TrackSums:
        """The sums of some bins, arrays [n].

        Args:
            truth, prediction: float16; a bin that is NaN in one of them does not count.
            windows: window of each bin; a bin with -1 does not count.
            peaks: uint8, not 0 in a peak.
        """
        keep, y, p = _kept(truth, prediction, windows)
        windows = np.asarray(windows)[keep]
        first = np.flatnonzero(np.diff(windows, prepend=-1))
        sums = np.zeros((len(first), _COLUMNS))
        low, high = (np.zeros((len(first), 2), np.uint16) for _ in range(2))
        if len(first):
            for k, column in enumerate(_columns(y, p)):
                sums[:, k] = np.add.reduceat(column, first)
            for k, code in enumerate((y, p)):
                low[:, k] = np.minimum.reduceat(code, first)
                high[:, k] = np.maximum.reduceat(code, first)
        inside = p[:0] if peaks is None else p[np.asarray(peaks)[keep] != 0]
        counts = (np.bincount(x, minlength=CODES) for x in (y, p, inside))
        return cls(*_grouped(windows[first], sums, low, high), *counts)

    def __add__(self, other: TrackSums) -> TrackSums:
        pairs = [
            (getattr(self, name), getattr(other, name))
            for name in ("windows", "sums", "low", "high")
        ]
        return TrackSums(
            *_grouped(*(np.concatenate(pair) for pair in pairs)),
            self.truth + other.truth,
            self.predicted + other.predicted,
            self.at_peaks + other.at_peaks,
        )

    @cached_property
    def total(self) -> np.ndarray:
        return self.sums.sum(axis=0)

    @property
    def n(self) -> int:
        """Bins that count."""
        return int(self.truth.sum())

    @property
    def r(self) -> float | None:
        return self._r(0)

    @property
    def r_linear(self) -> float | None:
        return self._r(_LIN)

    def _r(self, shift: int) -> float | None:
        if not (_varies(self.truth) and _varies(self.predicted)):
            return None
        r = float(_correlation(self.total[None], shift)[0])
        return r if np.isfinite(r) else None

    @property
    def mse(self) -> float | None:
        """Mean squared error of log2(x + 1)."""
        if not self.n:
            return None
        total = self.total
        return max(0.0, float(total[_YY] - 2 * total[_YP] + total[_PP]) / self.n)

    @property
    def r2(self) -> float | None:
        if not _varies(self.truth):
            return None
        total = self.total
        return 1 - self.mse / float(total[_YY] / self.n - (total[_Y] / self.n) ** 2)

    @property
    def deviance_explained(self) -> float | None:
        """Share of the Poisson deviance; None if the truth is constant."""
        if not _varies(self.truth):
            return None
        y = float(self.total[_Y + _LIN])
        null = 2 * (float(self.total[_YLNY]) - y * np.log(y / self.n))
        return 1 - float(self.total[_DEVIANCE] / null)

    @property
    def window_r(self) -> np.ndarray:
        """r of every window that has one (at least 16 bins, neither side constant)."""
        has = (self.sums[:, _N] >= MIN_BINS) & (self.low < self.high).all(axis=1)
        return _correlation(self.sums[has], 0)

    def ranks(self) -> tuple[np.ndarray, np.ndarray]:
        """Rank per code less the mean rank, of the truth and of the prediction."""
        return tuple(
            np.cumsum(c) - (c - 1) / 2 - (self.n + 1) / 2 for c in (self.truth, self.predicted)
        )

    def rank_products(self, truth, prediction, windows) -> float:
        """Sum over some bins of the product of both ranks (the second pass of Spearman)."""
        _, y, p = _kept(truth, prediction, windows)
        of_y, of_p = self.ranks()
        return float(of_y[y] @ of_p[p])

    def spearman(self, products: float) -> float | None:
        """Rank correlation, given the `rank_products` of all bins."""
        if not (_varies(self.truth) and _varies(self.predicted)):
            return None
        of_y, of_p = self.ranks()
        return products / float(np.sqrt(self.truth @ of_y**2) * np.sqrt(self.predicted @ of_p**2))

    def interval(self, blocks: np.ndarray, seed: int, draws: int = DRAWS):
        """95 % bootstrap interval of r (low, high); None with fewer than 8 blocks.

        Args:
            blocks: block of each window [W]; blocks are drawn with replacement.
        """
        if self.r is None:
            return None
        names, place = np.unique(blocks, return_inverse=True)
        if len(names) < MIN_BLOCKS:
            return None
        sums = np.zeros((len(names), _COLUMNS))
        np.add.at(sums, place, self.sums)
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
        found = _correlation(drawn @ sums, 0)
        low, high = np.percentile(found[np.isfinite(found)], [2.5, 97.5])
        return float(low), float(high)

    def ranking(self) -> tuple[float | None, float | None]:
        """AUROC and average precision of the bins in peaks; None without bins of both kinds."""
        inside, outside = self.at_peaks[::-1], (self.predicted - self.at_peaks)[::-1]
        positive, negative = int(inside.sum()), int(outside.sum())
        if not positive or not negative:
            return None, None
        hits, misses = np.cumsum(inside), np.cumsum(outside)  # from the highest value down
        below = (negative - misses) + outside / 2
        auroc = float((inside / positive) @ (below / negative))
        precision = hits / np.maximum(hits + misses, 1)
        return auroc, float((inside / positive) @ precision)


def _kept(truth, prediction, windows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which bins count, and the codes of both sides there."""
    if not len(truth) == len(prediction) == len(windows):
        sizes = f"{len(truth)} true values, {len(prediction)} predictions, {len(windows)} windows"
        raise InputError("metrics", f"{sizes}; give vectors of one bin grid")
    y, known_y = codes(truth, "the truth")
    p, known_p = codes(prediction, "the prediction")
    keep = known_y & known_p & (np.asarray(windows) >= 0)
    return keep, y[keep], p[keep]


def _columns(y: np.ndarray, p: np.ndarray) -> Iterator[np.ndarray]:
    """The summands of each column of `TrackSums.sums`, one after the other."""
    yield np.ones(len(y))
    for table in (LOG, LEVELS):
        a, b = table[y], table[p]
        yield from (a, b)
        yield from (a * a, b * b, a * b)
    yield _XLNX[y]
    yield 2 * (_XLNX[y] - LEVELS[y] * _LN[p] - LEVELS[y] + _FLOORED[p])


def _grouped(windows, sums, low, high) -> tuple[np.ndarray, ...]:
    """One row per window, sorted."""
    names, place = np.unique(windows, return_inverse=True)
    total = np.zeros((len(names), _COLUMNS))
    np.add.at(total, place, sums)
    lowest, highest = (
        np.full((len(names), 2), CODES, np.uint16),
        np.zeros((len(names), 2), np.uint16),
    )
    np.minimum.at(lowest, place, low)
    np.maximum.at(highest, place, high)
    return names, total, lowest, highest


def _varies(counts: np.ndarray) -> bool:
    return np.count_nonzero(counts) > 1


def _correlation(sums: np.ndarray, shift: int) -> np.ndarray:
    """Pearson correlation of each row of sums; NaN where a side is constant."""
    n = np.maximum(sums[:, _N], 1)
    y, p, yy, pp, yp = (sums[:, k + shift] / n for k in (_Y, _P, _YY, _PP, _YP))
    scale = np.maximum(yy - y * y, 0) * np.maximum(pp - p * p, 0)
    r = np.full(len(sums), np.nan)
    np.divide(yp - y * p, np.sqrt(scale), out=r, where=scale > 0)
    return np.clip(r, -1, 1)
