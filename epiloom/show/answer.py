"""From the metrics tables to rows of the comparison: a model on one cell and mark set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from epiloom.show.canvas import predictor_name
from epiloom.show.facts import model_order
from epiloom.show.paired import Difference
from epiloom.show.results import NUMBERS, Results

REGRESSION, CLASSIFICATION = "regression", "classification"
MEASURES = {REGRESSION: "r", CLASSIFICATION: "auc"}  # what ranks the predictors of a row
SYMBOLS = {"r": "r", "auc": "AUC"}


@dataclass(frozen=True)
class Score:
    """One predictor's numbers on the test genes of one cell and mark set (NaN = undefined).

    `low` and `high` are the 95% interval of what `measure` names: r or auc.
    """

    predictor: str
    n: int
    r: float
    low: float
    high: float
    spearman: float
    r2: float
    mse: float
    auc: float = np.nan
    ap: float = np.nan
    accuracy: float = np.nan
    measure: str = "r"

    @property
    def name(self) -> str:
        """The predictor's name for people."""
        return predictor_name(self.predictor)

    @property
    def value(self) -> float:
        """r, or the area under the ROC curve of a classifier."""
        return self.auc if self.measure == "auc" else self.r

    @property
    def strength(self) -> float:
        """The value; |r| for the activity of a mark, which may predict by being absent."""
        by_size = self.measure == "r" and self.predictor.startswith("activity")
        return abs(self.r) if by_size else self.value

    @property
    def symbol(self) -> str:
        """`r`, `|r|` or `AUC`."""
        return SYMBOLS[self.measure] if self.strength == self.value else "|r|"


@dataclass
class Comparison:
    """One row of the comparison: a model on one cell and mark set, its baselines and control."""

    model: str
    cell: str
    marks: str
    scope: str  # "pooled", or what the numbers are when the folds were not pooled
    score: Score | None
    baselines: list[Score] = field(default_factory=list)
    shuffled: Score | None = None
    folds: dict[str, float] = field(default_factory=dict)  # fold -> value of the model
    task: str = REGRESSION
    lead: Difference | None = None  # over the best baseline, on the same genes; None: not known

    @property
    def key(self) -> tuple[str, str, str]:
        """(model, cell, marks)."""
        return self.model, self.cell, self.marks

    @property
    def best_baseline(self) -> Score | None:
        """The baseline with the largest strength, None if there is none."""
        known = [score for score in self.baselines if np.isfinite(score.value)]
        return max(known, key=lambda score: score.strength, default=None)

    @property
    def usable(self) -> bool:
        """Whether the model has a defined value."""
        return self.score is not None and bool(np.isfinite(self.score.value))

    @property
    def value(self) -> float:
        """The model's value, NaN without one."""
        return self.score.value if self.score is not None else np.nan

    @property
    def single(self) -> bool:
        """Whether the model sees one mark only."""
        return "+" not in self.marks


def comparisons(found: Results) -> list[Comparison]:
    """Rows by cell (order of the plan), model (how far it sees) and the best mark set first."""
    rows = []
    for (model, cell, marks), table in found.metrics.groupby(
        ["model", "cell", "marks"], sort=False
    ):
        rows.append(_comparison(str(model), str(cell), str(marks), table))
    order = {cell: i for i, cell in enumerate(found.cells)}

    def place(row: Comparison) -> tuple:
        value = row.value if row.usable else -2.0
        cell = (order.get(row.cell, len(order)), row.cell)
        return *cell, model_order(row.model), -value, row.marks

    return sorted(rows, key=place)


def models_of(rows: Iterable[Comparison]) -> list[str]:
    """The models of some rows, the one that sees least first."""
    return sorted({row.model for row in rows}, key=model_order)


def best_rows(rows: Iterable[Comparison]) -> dict[tuple[str, str], list[Comparison]]:
    """By (model, cell) the usable rows that answer which mark is best, the best one first.

    These are the single marks; the mark sets where a model saw no mark alone.
    """
    ranked: dict[tuple[str, str], list[Comparison]] = {}
    for row in rows:
        if row.usable:
            ranked.setdefault((row.model, row.cell), []).append(row)
    for key, group in ranked.items():
        group = [row for row in group if row.single] or group
        ranked[key] = sorted(group, key=lambda row: -row.value)
    return ranked


def _comparison(model: str, cell: str, marks: str, table: pd.DataFrame) -> Comparison:
    pooled = table[table["fold"] == "pooled"]
    single = table[table["fold"] != "pooled"]
    own = table[table["predictor"] == model]
    task = CLASSIFICATION if own["auc"].notna().any() else REGRESSION
    measure = MEASURES[task]
    ours = single[single["predictor"] == model].dropna(subset=[measure])
    folds = {str(fold): float(v) for fold, v in zip(ours["fold"], ours[measure], strict=True)}
    if (pooled["predictor"] == model).any():
        scope, shown = "pooled", pooled
    else:
        scope, shown = _unpooled(single, model)
    scores = {row["predictor"]: _score(row, measure) for _, row in shown.iterrows()}
    control = scores.pop(f"{model}_shuffled", None)
    if control is None:
        rest = table[table["predictor"] == f"{model}_shuffled"]
        control = _score(rest.iloc[0], measure) if len(rest) else None
    main = scores.pop(model, None)
    baselines = list(scores.values())
    return Comparison(model, cell, marks, scope, main, baselines, control, folds, task)


def _unpooled(single: pd.DataFrame, model: str) -> tuple[str, pd.DataFrame]:
    """One fold as it is; of several folds the mean, without an interval (they were not pooled).

    Baselines are taken over the folds that the model has, to be judged on the same genes.
    """
    folds = sorted(set(single.loc[single["predictor"] == model, "fold"]))
    control = single["predictor"] == f"{model}_shuffled"
    shown = single[single["fold"].isin(folds) | control] if folds else single
    groups = shown.groupby("predictor", sort=False)
    rows = groups[NUMBERS].mean().assign(n=groups["n"].sum())
    rows.loc[groups.size() > 1, ["r_low", "r_high"]] = np.nan
    scope = f"{folds[0]} only" if len(folds) == 1 else f"mean of {len(folds)} folds"
    return scope if folds else "no fold", rows.reset_index()


def _score(row: pd.Series, measure: str) -> Score:
    number = {key: float(row[key]) for key in NUMBERS[1:]}
    n = int(row["n"]) if np.isfinite(row["n"]) else 0
    # the interval in the tables is that of r
    low, high = (number.pop("r_low"), number.pop("r_high"))
    if measure != "r":
        low = high = np.nan
    return Score(str(row["predictor"]), n, low=low, high=high, measure=measure, **number)


def mean_of(rows: Sequence[Comparison]) -> float:
    """Mean value of some rows."""
    return float(np.mean([row.value for row in rows]))
