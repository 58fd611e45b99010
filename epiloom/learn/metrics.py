"""r, Spearman, R2, MSE, AUC of predictions: on whole arrays, and as sums that can be merged.

Everything is computed in float64. A measure that does not exist (a constant array, fewer than two
values) is None, never 0 or NaN, so that it cannot slip into a mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, roc_auc_score

from epiloom.plan.errors import InputError

COLUMNS = ("model", "cell", "marks", "fold", "part", "predictor")
COLUMNS += ("n", "r", "r_low", "r_high", "spearman", "r2", "mse", "auc", "ap", "accuracy")
_TYPES = {"gene_id": str, "chrom": str, "y": np.float64, "y_hat": np.float64}
DRAWS = 1000  # bootstrap resamples
_CHUNK = 2_000_000  # resampled values held at a time


@dataclass(frozen=True)
class Moments:
    """Sums over pairs (truth, prediction) from which r, R2 and MSE follow.

    Kept as means and sums of squares about them, so that large offsets lose no digits. Parts can
    be merged in any order (Chan, Golub and LeVeque 1979).
    """

    n: int = 0
    mean_y: float = 0.0
    mean_p: float = 0.0
    m2_y: float = 0.0  # sum of (y - mean_y)^2
    m2_p: float = 0.0
    co: float = 0.0  # sum of (y - mean_y)(p - mean_p)
    sse: float = 0.0  # sum of (y - p)^2
    low_y: float = math.inf
    high_y: float = -math.inf
    low_p: float = math.inf
    high_p: float = -math.inf

    @classmethod
    def of(cls, truth: np.ndarray, prediction: np.ndarray) -> Moments:
        """The sums of two arrays of the same size.

        Raises:
            InputError: different sizes, or values that are not finite.
        """
        y = np.asarray(truth, np.float64).ravel()
        p = np.asarray(prediction, np.float64).ravel()
        _check(y, p)
        if y.size == 0:
            return cls()
        mean_y, mean_p = float(y.mean()), float(p.mean())
        dy, dp = y - mean_y, p - mean_p
        return cls(
            *(y.size, mean_y, mean_p, float(dy @ dy), float(dp @ dp), float(dy @ dp)),
            float(np.sum((y - p) ** 2)),
            *(float(y.min()), float(y.max()), float(p.min()), float(p.max())),
        )

    def __add__(self, other: Moments) -> Moments:
        if self.n == 0 or other.n == 0:
            return other if self.n == 0 else self
        n = self.n + other.n
        part = other.n / n
        dy, dp = other.mean_y - self.mean_y, other.mean_p - self.mean_p
        between = self.n * part  # = n_a n_b / n
        return Moments(
            n=n,
            mean_y=self.mean_y + dy * part,
            mean_p=self.mean_p + dp * part,
            m2_y=self.m2_y + other.m2_y + dy * dy * between,
            m2_p=self.m2_p + other.m2_p + dp * dp * between,
            co=self.co + other.co + dy * dp * between,
            sse=self.sse + other.sse,
            low_y=min(self.low_y, other.low_y),
            high_y=max(self.high_y, other.high_y),
            low_p=min(self.low_p, other.low_p),
            high_p=max(self.high_p, other.high_p),
        )

    @property
    def r(self) -> float | None:
        """Pearson correlation; None if either side is constant."""
        scale = math.sqrt(self.m2_y) * math.sqrt(self.m2_p)
        # rounding leaves a constant array a tiny variance, so its range is looked at
        if self.n < 2 or self.low_y == self.high_y or self.low_p == self.high_p or scale == 0:
            return None
        return max(-1.0, min(1.0, self.co / scale))

    @property
    def r2(self) -> float | None:
        """1 - squared error / variance of the truth; None if the truth is constant."""
        if self.n < 2 or self.low_y == self.high_y or self.m2_y == 0:
            return None
        return 1 - self.sse / self.m2_y

    @property
    def mse(self) -> float | None:
        """Mean squared error; None without values."""
        return self.sse / self.n if self.n else None


def pearson(truth: np.ndarray, prediction: np.ndarray) -> float | None:
    """Pearson correlation of two whole arrays."""
    return Moments.of(truth, prediction).r


def spearman(truth: np.ndarray, prediction: np.ndarray) -> float | None:
    """Rank correlation of two whole arrays; ties share their mean rank."""
    y, p = np.asarray(truth).ravel(), np.asarray(prediction).ravel()
    _check(y, p)
    return Moments.of(rankdata(y), rankdata(p)).r


def interval(
    truth: np.ndarray, prediction: np.ndarray, seed: int, draws: int = DRAWS
) -> tuple[float, float] | None:
    """95 % percentile bootstrap interval of r over the examples; None if r is undefined.

    Resamples in which r is undefined are left out.
    """
    y, p = np.asarray(truth, np.float64).ravel(), np.asarray(prediction, np.float64).ravel()
    if Moments.of(y, p).r is None:
        return None
    y, p = y - y.mean(), p - p.mean()  # so that the sums below keep their digits
    rng = np.random.default_rng(seed)
    found = []
    at_once = max(1, _CHUNK // y.size)
    for first in range(0, draws, at_once):
        picks = rng.integers(0, y.size, size=(min(at_once, draws - first), y.size))
        ys, ps = y[picks], p[picks]
        ys -= ys.mean(axis=1, keepdims=True)
        ps -= ps.mean(axis=1, keepdims=True)
        scale = np.sqrt(np.einsum("ij,ij->i", ys, ys) * np.einsum("ij,ij->i", ps, ps))
        defined = scale > 0
        found.append(np.einsum("ij,ij->i", ys, ps)[defined] / scale[defined])
    low, high = np.percentile(np.concatenate(found), [2.5, 97.5])
    return float(low), float(high)


def ranking(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float | None]:
    """Area under the ROC curve, average precision, and accuracy at a threshold of 0.5.

    For truths that are 0 or 1, both present; None otherwise.
    """
    y, p = np.asarray(truth, np.float64).ravel(), np.asarray(prediction, np.float64).ravel()
    if set(np.unique(y)) != {0.0, 1.0}:
        return {"auc": None, "ap": None, "accuracy": None}
    return {
        "auc": float(roc_auc_score(y, p)),
        "ap": float(average_precision_score(y, p)),
        "accuracy": float(np.mean((p >= 0.5) == (y == 1))),
    }


def measures(truth: np.ndarray, prediction: np.ndarray, seed: int) -> dict[str, Any]:
    """All columns of a metrics row from `n` on; None where a measure is undefined."""
    sums = Moments.of(truth, prediction)
    low, high = interval(truth, prediction, seed) or (None, None)
    return {
        "n": sums.n,
        "r": sums.r,
        "r_low": low,
        "r_high": high,
        "spearman": spearman(truth, prediction),
        "r2": sums.r2,
        "mse": sums.mse,
        **ranking(truth, prediction),
    }


def metrics_rows(table: pd.DataFrame, model: str, settings: Mapping[str, Any]) -> pd.DataFrame:
    """The metrics of one run: a row per part and predictor (columns `COLUMNS`).

    Args:
        table: predictions, the baselines' included (columns part, predictor, y, y_hat).
        settings: the run's settings; name the cell, marks and fold, and seed the intervals.

    In a run with shuffled labels every predictor's name ends in `_shuffled`.
    """
    labels = (model, settings["cell"], "+".join(settings["marks"]), settings["fold"]["name"])
    rows = []
    for (part, predictor), group in table.groupby(["part", "predictor"], sort=False):
        name = f"{predictor}_shuffled" if settings["shuffled"] else predictor
        row = dict(zip(COLUMNS, (*labels, part, name), strict=False))
        rows.append(row | measures(group["y"], group["y_hat"], settings["seed"]))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def pooled_rows(
    model: str,
    runs: Sequence[Mapping[str, Any]],
    predictions: Sequence[str | Path],
    baselines: Sequence[str | Path],
) -> pd.DataFrame:
    """Rows with fold "pooled": the test genes of all folds together, measured once.

    Args:
        runs: settings of each run.
        predictions, baselines: tables of each run, same order.

    Raises:
        InputError: a gene is in the test sets of two folds of the same cell and marks.
    """
    groups: dict[tuple, list[pd.DataFrame]] = {}
    first: dict[tuple, Mapping[str, Any]] = {}
    for settings, *paths in zip(runs, predictions, baselines, strict=True):
        key = (settings["cell"], tuple(settings["marks"]), bool(settings["shuffled"]))
        first.setdefault(key, settings)
        for path in paths:
            table = pd.read_csv(path, sep="\t", dtype=_TYPES)
            groups.setdefault(key, []).append(table[table["part"] == "test"])
    rows = []
    for key, tables in groups.items():
        tests = pd.concat(tables)
        twice = tests.duplicated(["gene_id", "predictor"])
        if twice.any():
            raise InputError(
                f"folds of {model}, {key[0]}, {'+'.join(key[1])}",
                f"gene {tests['gene_id'][twice].iloc[0]} is tested in two folds; give every"
                " chromosome to the test set of one fold at most",
            )
        rows.append(metrics_rows(tests, model, {**first[key], "fold": {"name": "pooled"}}))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=list(COLUMNS))


def _check(y: np.ndarray, p: np.ndarray) -> None:
    if y.size != p.size:
        raise InputError("metrics", f"{y.size} true values but {p.size} predictions")
    for name, values in (("truth", y), ("prediction", p)):
        bad = int(np.sum(~np.isfinite(values)))
        if bad:
            raise InputError(
                "metrics", f"{bad} of {values.size} values of the {name} are not finite"
            )
