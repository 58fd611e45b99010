"""Tables of a downstream task: scores, metrics with intervals, paired differences, curves."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from epiloom.learn.metrics import ranking

SCORES = ("task", "cell", "scheme", "fold", "predictor", "name", "chrom", "label", "score")
METRICS = ("task", "cell", "scheme", "fold", "predictor", "seen", "n", "positives", "prevalence")
METRICS += ("chance", "ap", "ap_low", "ap_high", "auroc", "trees")
DIFFERENCES = ("task", "cell", "scheme", "predictor", "reference", "cells")
DIFFERENCES += ("difference", "low", "high", "verdict")
CURVES = ("task", "cell", "scheme", "predictor", "recall", "precision")
MEAN, POOLED = "mean", "all"  # the row of all folds, the row of all cells
POINTS = 200  # of a curve at most
_MEANS = ("chance", "ap", "auroc", "trees")


@dataclass(frozen=True)
class Outcome:
    """One predictor's scores of one test set.

    Attributes:
        rows: int64 [m], numbers of the test examples.
        positive: bool [m]; score: float32 [m].
        drawn: float64 [draws], average precision in each resample; NaN = undefined there.
        trees: that the classifier kept; None for a predictor that does not train.
    """

    cell: str
    scheme: str
    fold: str
    predictor: str
    rows: np.ndarray
    positive: np.ndarray
    score: np.ndarray
    drawn: np.ndarray
    trees: int | None

    @cached_property
    def measures(self) -> dict[str, float | None]:
        """Average precision (`ap`) and area under the ROC curve (`auc`)."""
        return ranking(self.positive, self.score)


def scores_table(
    task: str, names: np.ndarray, chroms: np.ndarray, outcomes: Sequence[Outcome]
) -> pd.DataFrame:
    """A row per test example and predictor (columns `SCORES`; text as categories)."""
    if not outcomes:
        return pd.DataFrame(columns=list(SCORES))
    sizes = [len(o.rows) for o in outcomes]
    rows = np.concatenate([o.rows for o in outcomes])
    columns = {"task": pd.Categorical.from_codes(np.zeros(len(rows), np.int8), [task])}
    for key in ("cell", "scheme", "fold", "predictor"):
        each = pd.Categorical([getattr(o, key) for o in outcomes])
        columns[key] = pd.Categorical.from_codes(np.repeat(each.codes, sizes), each.categories)
    columns["name"] = _taken(names, rows)
    columns["chrom"] = _taken(chroms, rows)
    columns["label"] = np.concatenate([o.positive for o in outcomes]).astype(np.int8)
    columns["score"] = np.concatenate([o.score for o in outcomes]).astype(np.float32)
    return pd.DataFrame(columns, columns=list(SCORES))


def _taken(values: np.ndarray, rows: np.ndarray) -> pd.Categorical:
    whole = pd.Categorical(np.asarray(values, dtype=str))
    return pd.Categorical.from_codes(whole.codes[rows], whole.categories)


def metrics_table(
    task: str,
    chroms: np.ndarray,
    outcomes: Sequence[Outcome],
    trained_on: Mapping[str, Collection[str]],
) -> pd.DataFrame:
    """A row per cell, scheme, predictor and fold, and one with fold "mean" (columns `METRICS`).

    chance, ap and auroc of "mean" are means over folds, n and positives sums; intervals of ap, of a
    fold and of the mean, are those of `interval`. `chance` is `random_ranking`, above prevalence
    where folds are small. `seen` says whether a model that trained on the test chromosomes made the
    features: yes, partly, no; empty where no model is named.

    Args:
        trained_on: predictor -> chromosomes that its model trained on.
    """
    rows = []
    for (cell, scheme, predictor), folds in grouped(outcomes).items():
        first = {"task": task, "cell": cell, "scheme": scheme, "predictor": predictor}
        model = trained_on.get(predictor)
        each = [first | _fold_row(fold, seen(model, chroms[fold.rows])) for fold in folds]
        rows += [*each, first | _mean_row(folds, each)]
    return pd.DataFrame(rows, columns=list(METRICS))


def grouped(outcomes: Sequence[Outcome]) -> dict[tuple[str, str, str], list[Outcome]]:
    """Outcomes of all folds by (cell, scheme, predictor)."""
    groups: dict[tuple[str, str, str], list[Outcome]] = {}
    for o in outcomes:
        groups.setdefault((o.cell, o.scheme, o.predictor), []).append(o)
    return groups


def seen(trained_on: Collection[str] | None, chroms: np.ndarray) -> str:
    """Whether test examples lie on chromosomes of the training: yes, partly, no, or unknown ""."""
    if trained_on is None:
        return ""
    hits = np.isin(chroms, list(trained_on))
    return "yes" if hits.all() else "partly" if hits.any() else "no"


def random_ranking(n: int, positives: int) -> float:
    """Average precision to expect of a ranking of n examples that knows nothing.

    The sum over ranks of the chance of a positive there times the precision then expected. It
    tends to the prevalence from above: 0.52 at 16 of 34, 0.471 at 470 of 1000.
    """
    harmonic = float(np.sum(1 / np.arange(1, n + 1)))
    return (harmonic + (positives - 1) / max(n - 1, 1) * (n - harmonic)) / n


def _fold_row(o: Outcome, seen: str) -> dict[str, object]:
    found = o.measures
    low, high = interval(o.drawn, found["ap"])
    return {
        **{"fold": o.fold, "seen": seen, "n": len(o.rows), "positives": int(o.positive.sum())},
        **{"prevalence": float(o.positive.mean()), "ap": found["ap"], "auroc": found["auc"]},
        "chance": random_ranking(len(o.rows), int(o.positive.sum())),
        **{"ap_low": max(low, 0.0), "ap_high": min(high, 1.0)},
        "trees": math.nan if o.trees is None else o.trees,
    }


def _mean_row(folds: Sequence[Outcome], rows: Sequence[Mapping]) -> dict[str, object]:
    n, positives = (sum(row[key] for row in rows) for key in ("n", "positives"))
    chance, ap, auroc, trees = (float(np.mean([row[key] for row in rows])) for key in _MEANS)
    low, high = interval(_mean_draws(folds), ap)
    seen = {row["seen"] for row in rows}
    return {
        **{"fold": MEAN, "n": n, "positives": positives, "prevalence": positives / n},
        **{"chance": chance, "ap": ap, "ap_low": max(low, 0.0), "ap_high": min(high, 1.0)},
        **{"auroc": auroc, "trees": trees, "seen": seen.pop() if len(seen) == 1 else "partly"},
    }


def _mean_draws(folds: Sequence[Outcome]) -> np.ndarray:
    """Mean over folds in each draw, [draws]; folds without a positive in a draw are left out."""
    drawn = np.stack([fold.drawn for fold in folds])
    known = ~np.isnan(drawn)
    total, count = np.where(known, drawn, 0).sum(axis=0), known.sum(axis=0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def interval(drawn: np.ndarray, value: float) -> tuple[float, float]:
    """95 % bootstrap interval of a figure: the percentiles of its draws, moved to stand around it.

    An example drawn twice outranks with itself, so the average precision of few positives is higher
    in a resample than in the data. The difference of the draws' mean from the figure is taken off:
    with 12 positives in each of 20 folds of independent examples, 94 % of such intervals held the
    truth, and 90 % without.

    Args:
        drawn: [draws]; NaN = undefined in that draw, left out.
    """
    drawn = drawn[~np.isnan(drawn)]
    if len(drawn) == 0:
        return math.nan, math.nan
    low, high = np.percentile(drawn, [2.5, 97.5]) + (value - drawn.mean())
    return float(low), float(high)


def differences_table(task: str, outcomes: Sequence[Outcome], reference: str) -> pd.DataFrame:
    """Mean average precision of `reference` minus that of every other predictor, paired.

    Rows per (cell, scheme, predictor), and with cell "all" the mean of the differences over the
    `cells` that have both (columns `DIFFERENCES`). `verdict`: the reference is better or worse
    where the 95 % interval excludes 0, else "not clear".
    """
    groups = grouped(outcomes)
    pairs: dict[tuple[str, str], dict[str, tuple[float, np.ndarray]]] = {}
    for (cell, scheme, predictor), folds in groups.items():
        own = groups.get((cell, scheme, reference))
        if predictor == reference or own is None:
            continue
        value = _mean_ap(own) - _mean_ap(folds)
        drawn = _mean_draws(own) - _mean_draws(folds)
        pairs.setdefault((scheme, predictor), {})[cell] = value, drawn
    rows = []
    for (scheme, predictor), cells in pairs.items():
        same = {"task": task, "scheme": scheme, "predictor": predictor, "reference": reference}
        pooled = tuple(np.mean(part, axis=0) for part in zip(*cells.values(), strict=True))
        for cell, (value, drawn), count in (
            *((cell, pair, 1) for cell, pair in cells.items()),
            (POOLED, pooled, len(cells)),
        ):
            low, high = interval(drawn, value)
            found = {"difference": float(value), "low": low, "high": high}
            rows.append({**same, "cell": cell, "cells": count, **found, "verdict": say(low, high)})
    return pd.DataFrame(rows, columns=list(DIFFERENCES))


def _mean_ap(folds: Sequence[Outcome]) -> float:
    return float(np.mean([fold.measures["ap"] for fold in folds]))


def say(low: float, high: float) -> str:
    """What an interval of a difference says: better, worse, not clear."""
    return "better" if low > 0 else "worse" if high < 0 else "not clear"


def curves_table(task: str, outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Precision-recall curves of the test examples of all folds together (columns `CURVES`).

    One curve over folds, so its area is near, not equal to, the mean average precision. At most
    `POINTS` points each, evenly spaced in recall.
    """
    tables = []
    for (cell, scheme, predictor), folds in grouped(outcomes).items():
        recall, precision = curve(
            np.concatenate([fold.positive for fold in folds]),
            np.concatenate([fold.score for fold in folds]),
        )
        same = {"task": task, "cell": cell, "scheme": scheme, "predictor": predictor}
        tables.append(pd.DataFrame({**same, "recall": recall, "precision": precision}))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(CURVES))


def curve(
    positive: np.ndarray, score: np.ndarray, points: int = POINTS
) -> tuple[np.ndarray, np.ndarray]:
    """Recall (ascending, 0 to 1) and precision at the thresholds of a score; at most `points`.

    The first point repeats the precision of the highest threshold at recall 0.
    """
    order = np.argsort(-np.asarray(score, np.float64), kind="stable")
    score, hits = np.asarray(score)[order], np.cumsum(np.asarray(positive, bool)[order])
    last = np.append(np.flatnonzero(score[1:] != score[:-1]), len(score) - 1)
    recall, precision = hits[last] / hits[-1], hits[last] / (last + 1)
    wanted = np.searchsorted(recall, np.linspace(recall[0], 1, points - 1))
    keep = np.unique(np.minimum(wanted, len(recall) - 1))
    return np.append(0.0, recall[keep]), np.append(precision[keep[0]], precision[keep])
