"""How well signals of cell types are predicted: against the mean of the training cells, then alone.

Most of a signal is alike in all cells, so a predictor that knows no cell has a high correlation
along the genome. What counts is what it knows beyond the mean m of the training cells (log scale):

    skill      1 - sum (y - p)^2 / sum (y - m)^2; 0 for the mean itself, below 0 for worse
    delta_r    correlation of (p - m) with (y - m) over bins
    across_r   correlation of p with y over the held-out cells of one bin, mean over the bins in the
               upper half of the truth's variance over these cells; a predictor that gives all
               cells the same has 0 there, a bin where the truth is constant does not count
    mse, pearson, spearman   of y and p over bins: no proof, the mean of the training cells comes
               close to any model

Three predictors stand in every table: the model, `training_mean` (m) and `wrong_cell`, the model's
prediction for another held-out cell, whose skill must be far below the model's. The mean reads the
training cells' measured signal in the very bins it is scored in.

Rows: each cell and signal; cell "pooled": all cells' sums together; cell "mean": mean over the
cells' rows; signal "all" likewise over signals. A measure that does not exist is None.

Entries without a truth, or where no training cell has one, never count. Sums are float64 and can be
merged in any order. Spearman is that of values rounded to `LEVELS` steps (0 to 11.1, finer near 0:
0.01 at 0.1, 0.1 at 5), the halves of variance are found in steps of 3.7 %.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from epiloom.plan.errors import InputError

COLUMNS = ("model", "fold", "part", "cell", "signal", "predictor", "n", "skill", "delta_r")
COLUMNS += ("across_r", "across_bins", "mse", "pearson", "spearman")
MODEL, MEAN, WRONG = PREDICTORS = ("model", "training_mean", "wrong_cell")
POOLED, OVER_CELLS, ALL = "pooled", "mean", "all"
MIN_CELLS = 3  # of a bin with an across_r
LEVELS = 160
_HIGHEST = 11.1  # log(1 + the largest float16)
_STEPS, _PER_DECADE, _LOWEST = 1024, 64, -8.0  # of the variance; log10 of the smallest
_N, _E, _D, _EE, _DD, _DE, _SSE, _Y, _P, _YY, _PP, _YP = range(12)
_CONSTANT = 1e-12  # variance, relative to the mean square, that is rounding


def training_mean(values: np.ndarray) -> np.ndarray:
    """Mean of the cells that have a value, [cells, bins, signals] -> float64 [bins, signals]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no cell has a value: NaN
        return np.nanmean(np.asarray(values, np.float64), axis=0)


def leave_one_out(values: np.ndarray) -> np.ndarray:
    """The same of all cells but each: float64 [cells, bins, signals].

    For training cells scored in held-out regions: their own signal must not be in their baseline.
    """
    values = np.asarray(values, np.float64)
    known = ~np.isnan(values)
    filled = np.where(known, values, 0)
    others = known.sum(axis=0) - known
    total = filled.sum(axis=0) - filled
    return np.divide(total, others, out=np.full(values.shape, np.nan), where=others > 0)


def partners_of(groups: Sequence[str]) -> list[int]:
    """For each cell the place of the next one of another group (of any, if there is no other)."""
    n, found = len(groups), []
    for k, group in enumerate(groups):
        later = [(k + step) % n for step in range(1, n)]
        others = [place for place in later if groups[place] != group]
        found.append((others or later or [k])[0])
    return found


class CellMetrics:
    """Sums over the bins of one part (such as cross_cell), to which regions are added.

    Args:
        cells: names of the part's cells. signals: names, in the order of the arrays.
        partners: place of the cell whose prediction is each cell's wrong one; None: the next.
        ranks: whether Spearman is wanted; it takes 0.3 MB per cell and signal.

    Raises:
        InputError: names twice, partners that are none.
    """

    def __init__(
        self,
        cells: Sequence[str],
        signals: Sequence[str],
        partners: Sequence[int] | None = None,
        ranks: bool = True,
    ):
        self.cells, self.signals, self.ranks = list(cells), list(signals), ranks
        c, s = len(self.cells), len(self.signals)
        self.partners = np.roll(np.arange(c), -1) if partners is None else np.asarray(partners)
        problems = []
        if len(set(self.cells)) < c or len(set(self.signals)) < s or not c or not s:
            problems.append("cells and signals need names, each its own")
        if self.partners.shape != (c,) or not np.isin(self.partners, np.arange(c)).all():
            problems.append(f"partners {self.partners.tolist()}; give one place per cell")
        elif c > 1 and (self.partners == np.arange(c)).any():
            problems.append("a cell is its own partner; give another one")
        if problems:
            raise InputError("metrics of cells", problems)
        self.sums = np.zeros((len(PREDICTORS), c, s, 12))
        joint = (len(PREDICTORS), c, s, LEVELS, LEVELS) if ranks else (0,)
        self.joint = np.zeros(joint, np.int32)
        self.bins = np.zeros((s, _STEPS), np.int64)  # by variance over the cells
        self.across = np.zeros((len(PREDICTORS), s, _STEPS))  # sums of r of these bins

    def add(
        self,
        truth: np.ndarray,
        prediction: np.ndarray,
        mean: np.ndarray,
        wrong: np.ndarray | None = None,
    ) -> None:
        """Add some bins of all cells at once.

        Args:
            truth: [cells, bins, signals], log(1 + x), NaN = does not count.
            prediction: the same shape, finite.
            mean: of the training cells, [bins, signals], or per cell (see `leave_one_out`).
            wrong: each cell's prediction with the factors of its partner, for models that read the
                mean (which is each cell's own), and for a single cell; None: the partner's
                prediction.

        Raises:
            InputError: other shapes, or predictions that are not finite where the truth is known.
        """
        y, p = np.asarray(truth, np.float64), np.asarray(prediction, np.float64)
        m = np.asarray(mean, np.float64)
        shape = (len(self.cells), y.shape[1] if y.ndim > 1 else -1, len(self.signals))
        shapes = {y.shape, p.shape, p.shape if wrong is None else np.shape(wrong)}
        if shapes != {shape} or m.shape not in (shape, shape[1:]):
            raise InputError(
                "metrics of cells",
                f"truth {y.shape}, prediction {p.shape}, mean {m.shape}; give {shape} each "
                "(cells, bins, signals), the mean also without cells",
            )
        known = np.isfinite(y) & np.isfinite(m)
        bad = int(np.count_nonzero(~np.isfinite(p)))
        if bad:
            raise InputError("metrics of cells", f"{bad} predictions are not finite")
        y, m = np.where(known, y, 0), np.where(known, m, 0)
        other = p[self.partners] if wrong is None else np.asarray(wrong, np.float64)
        of = {MODEL: p, MEAN: m, WRONG: other}
        for k, name in enumerate(PREDICTORS):
            if name == WRONG and len(self.cells) < 2 and wrong is None:
                continue
            guess = np.where(known, of[name], 0)
            self.sums[k] += _sums(known, y, guess, m)
            if self.ranks:
                self._count(k, known, y, guess)
        # A mean without the cell itself falls where the cell is high: it must not count here.
        start = 0 if wrong is None else m
        self._add_across(known, y, [None if n == MEAN else of[n] - start for n in PREDICTORS])

    def _count(self, k: int, known: np.ndarray, y: np.ndarray, p: np.ndarray) -> None:
        cell, _, signal = np.nonzero(known)
        place = (cell * len(self.signals) + signal) * LEVELS**2
        np.add.at(
            self.joint[k].reshape(-1), place + _level(y[known]) * LEVELS + _level(p[known]), 1
        )

    def _add_across(self, known, y, predictions) -> None:
        """Correlation over cells of every bin and signal, by the truth's variance."""
        n = known.sum(axis=0)
        enough = n >= MIN_CELLS
        at = np.maximum(n, 1)
        dy = np.where(known, y - y.sum(axis=0) / at, 0)
        variance = (dy * dy).sum(axis=0) / at
        with np.errstate(divide="ignore"):
            step = np.floor((np.log10(variance) - _LOWEST) * _PER_DECADE)
        step = np.clip(step, 0, _STEPS - 1).astype(np.int64)  # 0: constant, has no r
        signal = np.broadcast_to(np.arange(y.shape[2]), n.shape)
        np.add.at(self.bins, (signal[enough], step[enough]), 1)
        use = enough & (step > 0)
        for k, p in enumerate(predictions):
            if p is None:
                continue
            dp = np.where(known, p - np.where(known, p, 0).sum(axis=0) / at, 0)
            spread = (dp * dp).sum(axis=0) / at
            scale = np.sqrt(variance * spread)
            varies = spread > _CONSTANT * np.maximum((np.where(known, p, 0) ** 2).max(axis=0), 1e-6)
            r = np.zeros(n.shape)
            np.divide((dy * dp).sum(axis=0) / at, scale, out=r, where=varies & use)
            np.add.at(self.across[k], (signal[use], step[use]), np.clip(r[use], -1, 1))

    def __add__(self, other: CellMetrics) -> CellMetrics:
        same = (self.cells, self.signals, self.partners.tolist(), self.ranks)
        if same != (other.cells, other.signals, other.partners.tolist(), other.ranks):
            raise InputError("metrics of cells", "sums of other cells or signals cannot be added")
        found = CellMetrics(self.cells, self.signals, self.partners, self.ranks)
        for name in ("sums", "joint", "bins", "across"):
            setattr(found, name, getattr(self, name) + getattr(other, name))
        return found

    def rows(self) -> pd.DataFrame:
        """The columns from `cell` on; see the top of this file."""
        rows = []
        for k, predictor in enumerate(PREDICTORS):
            if predictor == WRONG and len(self.cells) < 2 and not self.sums[k].any():
                continue
            single = [
                [self._measures(k, [c], [s]) for s in range(len(self.signals))]
                for c in range(len(self.cells))
            ]
            signals = [*self.signals, ALL]
            each = [[*row, _mean(row)] for row in single]
            over = [_mean(column) for column in zip(*each, strict=True)]
            every = range(len(self.cells))
            pooled = [self._measures(k, every, [s]) for s in range(len(self.signals))]
            pooled.append(self._measures(k, every, range(len(self.signals))))
            blocks = {**dict(zip(self.cells, each, strict=True)), POOLED: pooled, OVER_CELLS: over}
            for cell, block in blocks.items():
                for signal, found in zip(signals, block, strict=True):
                    told = {"cell": cell, "signal": signal, "predictor": predictor}
                    rows.append(told | found)
        return pd.DataFrame(rows, columns=list(COLUMNS[3:])).astype({"n": np.int64})

    def _measures(self, k: int, cells: Sequence[int], signals: Sequence[int]) -> dict[str, Any]:
        """All measures of some cells and signals together."""
        index = np.ix_(list(cells), list(signals))
        total = self.sums[k][index].sum(axis=(0, 1))
        n = int(total[_N])
        found: dict[str, Any] = {"n": n, "across_r": None, "across_bins": None, "spearman": None}
        found["mse"] = float(total[_SSE]) / n if n else None
        found["skill"] = 1 - float(total[_SSE] / total[_EE]) if total[_EE] > 0 else None
        found["delta_r"] = None if k == 1 else _r(total, _E, _D, _EE, _DD, _DE)
        found["pearson"] = _r(total, _Y, _P, _YY, _PP, _YP)
        if self.ranks and n:
            found["spearman"] = _spearman(self.joint[k][index].sum(axis=(0, 1), dtype=np.int64))
        if len(cells) == len(self.cells) >= MIN_CELLS and PREDICTORS[k] != MEAN:
            halves = [_upper_half(self.bins[s], self.across[k, s]) for s in signals]
            bins, r = sum(h[0] for h in halves), sum(h[1] for h in halves)
            found |= {"across_bins": int(round(bins)), "across_r": r / bins if bins else None}
        return found


def metrics_rows(
    parts: Mapping[str, CellMetrics], labels: Mapping[str, str], model: str = MODEL
) -> pd.DataFrame:
    """The metrics of one run (columns `COLUMNS`), part after part.

    Args:
        parts: part -> sums; labels: the columns model and fold; model: name of the predictor.
    """
    tables = [
        metrics.rows().assign(part=part, model=labels["model"], fold=labels["fold"])
        for part, metrics in parts.items()
    ]
    if not tables:
        return pd.DataFrame(columns=list(COLUMNS))
    found = pd.concat(tables, ignore_index=True)
    return found.assign(predictor=found["predictor"].replace(MODEL, model))[list(COLUMNS)]


def _sums(known, y, p, m) -> np.ndarray:
    """The columns of `CellMetrics.sums` of one predictor, [cells, signals, 12]."""
    e, d, off = y - m, p - m, y - p
    pairs = [(e, e), (d, d), (d, e), (off, off)]
    columns = [known.sum(axis=1), e.sum(axis=1), d.sum(axis=1)]
    columns += [np.einsum("cns,cns->cs", a, b) for a, b in pairs]
    columns += [y.sum(axis=1), p.sum(axis=1)]
    columns += [np.einsum("cns,cns->cs", a, b) for a, b in ((y, y), (p, p), (y, p))]
    return np.stack(columns, axis=-1)


def _r(total: np.ndarray, a: int, b: int, aa: int, bb: int, ab: int) -> float | None:
    """Pearson correlation from sums; None if a side is constant."""
    n = total[_N]
    if n < 2:
        return None
    spread = [
        total[square] / n - (total[one] / n) ** 2
        if total[square] / n - (total[one] / n) ** 2 > _CONSTANT * total[square] / n
        else 0.0
        for one, square in ((a, aa), (b, bb))
    ]
    if not min(spread) > 0:
        return None
    r = (total[ab] / n - total[a] * total[b] / n**2) / np.sqrt(spread[0] * spread[1])
    return float(np.clip(r, -1, 1))


def _level(values: np.ndarray) -> np.ndarray:
    """Step of each value from 0 to `LEVELS` - 1; steps are equal in the square root."""
    scaled = np.sqrt(np.clip(values, 0, _HIGHEST) / _HIGHEST) * (LEVELS - 1)
    return np.rint(scaled).astype(np.int64)


def _spearman(joint: np.ndarray) -> float | None:
    """Rank correlation from counts of pairs of steps, ties share their mean rank."""
    n = joint.sum()
    ranks = []
    for axis in (1, 0):
        counts = joint.sum(axis=axis)
        ranks.append((np.cumsum(counts) - (counts - 1) / 2 - (n + 1) / 2, counts))
    (of_y, n_y), (of_p, n_p) = ranks
    scale = np.sqrt(n_y @ of_y**2) * np.sqrt(n_p @ of_p**2)
    return float(of_y @ joint @ of_p / scale) if scale > 0 else None


def _upper_half(bins: np.ndarray, r: np.ndarray) -> tuple[float, float]:
    """Bins of the upper half of variance that have an r, and the sum of their r.

    The step that the median falls into counts in part; bins of step 0 (constant) have no r.
    """
    above = np.cumsum(bins[::-1])[::-1] - bins  # in higher steps
    left = np.clip(bins.sum() / 2 - above, 0, bins)
    share = np.divide(left, bins, out=np.zeros(len(bins)), where=bins > 0)
    share[0] = 0
    return float(share @ bins), float(share @ r)


def _mean(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean of each measure over the rows that have it; n is the sum."""
    rows = list(found)
    out: dict[str, Any] = {"n": sum(row["n"] for row in rows)}
    for name in COLUMNS[7:]:
        given = [row[name] for row in rows if row[name] is not None]
        out[name] = float(np.mean(given)) if given and "across" not in name else None
    return out
