"""Which mark predicts best: r by mark, model (= distance) and group of cells, and second marks.

r is taken per fold over its test genes, then averaged over folds, then over cells (plain means, as
in the published comparison). Its 95% interval is over folds: per fold the mean over cells, plus and
minus Student's t times the standard error. Folds test disjoint chromosomes, but their training
sets overlap, so the interval is a little too narrow; fewer than three folds give none. Gaps and
gains are differences within the same fold and cell, treated the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from epiloom.data.files import atomic
from epiloom.show.answer import CLASSIFICATION, MEASURES, REGRESSION
from epiloom.show.facts import RECORDED_GAP, cell_group, is_active, model_order, published, reach
from epiloom.show.results import Results
from epiloom.studies.groups import GROUPS

FEWEST = 3  # folds from which an interval is given
ALL = "all cells"
COLUMNS = ("model", "distance", "measure", "level", "cells", "n_cells", "marks", "kind")
COLUMNS += ("n_folds", "value", "low", "high", "rank", "gap_to_all", "gap_low", "gap_high")
COLUMNS += ("second_mark", "gain", "gain_low", "gain_high", "gap_closed", "published")


@dataclass(frozen=True)
class Estimate:
    """A mean over folds and cells with its interval (NaN: none)."""

    value: float
    low: float
    high: float
    cells: int
    folds: int


NOTHING = Estimate(np.nan, np.nan, np.nan, 0, 0)


def estimate(values: np.ndarray) -> Estimate:
    """Mean and interval of values by fold and cell, [folds, cells], NaN = not there."""
    values = values[:, np.isfinite(values).any(axis=0)]
    values = values[np.isfinite(values).any(axis=1)]
    if not values.size:
        return NOTHING
    mean = float(np.nanmean(np.nanmean(values, axis=0)))
    complete = values[np.isfinite(values).all(axis=1)].mean(axis=1)
    k = len(complete)
    half = np.nan
    if k >= FEWEST:
        half = float(student.ppf(0.975, k - 1) * complete.std(ddof=1) / np.sqrt(k))
    return Estimate(mean, mean - half, mean + half, values.shape[1], len(values))


class Grid:
    """One model's values by fold, cell and mark set."""

    def __init__(self, model: str, task: str, rows: pd.DataFrame, plan: Mapping[str, Any]):
        self.model, self.task = model, task
        config = plan.get("config") or {}
        self.distance = reach(model, config)
        self.cells = list(dict.fromkeys(rows["cell"]))
        folds = list(dict.fromkeys(rows["fold"]))
        self.values = {
            marks: np.full((len(folds), len(self.cells)), np.nan)
            for marks in dict.fromkeys(rows["marks"])
        }
        measure = rows[MEASURES[task]].to_numpy(float)
        for fold, cell, marks, v in zip(
            rows["fold"], rows["cell"], rows["marks"], measure, strict=True
        ):
            self.values[marks][folds.index(fold), self.cells.index(cell)] = v
        self.singles = [marks for marks in self.values if "+" not in marks]
        self.whole = _all_marks(list(self.values), plan.get("marks") or config.get("marks"))
        self.pairs = [m for m in self.values if m.count("+") == 1 and m != self.whole]

    def kind(self, marks: str) -> str:
        """single, pair, all or set."""
        if marks == self.whole:
            return "all"
        return {0: "single", 1: "pair"}.get(marks.count("+"), "set")

    def of(self, marks: str, cells: Sequence[str]) -> np.ndarray:
        """[folds, cells] of some cells."""
        return self.values[marks][:, [self.cells.index(cell) for cell in cells]]

    def levels(self) -> Iterator[tuple[str, str, list[str]]]:
        """(level, name, cells): all cells, groups of cells, every cell."""
        yield "all", ALL, self.cells
        groups = {cell: cell_group(cell) for cell in self.cells}
        for group in GROUPS:
            cells = [cell for cell in self.cells if groups[cell] == group]
            if cells:
                yield "group", group, cells
        for cell in self.cells:
            yield "cell", cell, [cell]


def _all_marks(sets: Sequence[str], planned: Sequence[str] | None) -> str | None:
    """The set that holds all planned marks, or, without a plan, all marks of the others."""
    wanted = set(planned or {mark for marks in sets for mark in marks.split("+")})
    for marks in sets:
        if "+" in marks and set(marks.split("+")) == wanted:
            return marks
    return None


def grids(found: Results) -> list[Grid]:
    """Values of every model, the one that sees least first."""
    metrics = found.metrics
    rows = metrics[(metrics["predictor"] == metrics["model"]) & (metrics["fold"] != "pooled")]
    order = {cell: i for i, cell in enumerate(found.cells)}
    rows = rows.assign(place=rows["cell"].map(lambda cell: order.get(cell, len(order))))
    rows = rows.sort_values(["place", "fold"], kind="stable")
    made = []
    for model in sorted(set(rows["model"]), key=model_order):
        own = rows[rows["model"] == model]
        task = CLASSIFICATION if own["auc"].notna().any() else REGRESSION
        made.append(Grid(model, task, own.dropna(subset=[MEASURES[task]]), found.plan))
    return [grid for grid in made if grid.values]


# --- second marks --------------------------------------------------------------------------------


def partners(grid: Grid, mark: str) -> dict[str, str]:
    """Second mark -> the pair's name, of the pairs that hold `mark`."""
    named = {}
    for pair in grid.pairs:
        one, other = pair.split("+")
        if mark in (one, other):
            named[other if mark == one else one] = pair
    return named


def _second(grid: Grid, mark: str, cells: Sequence[str]) -> dict[str, Any]:
    """The second mark that adds most to one mark, and the share of the gap to all it closes."""
    alone = grid.of(mark, cells)
    gains = {
        other: estimate(grid.of(pair, cells) - alone)
        for other, pair in partners(grid, mark).items()
    }
    gains = {other: gain for other, gain in gains.items() if np.isfinite(gain.value)}
    if not gains:
        return {}
    best = max(gains, key=lambda other: gains[other].value)
    gain = gains[best]
    made = {"second_mark": best, "gain": gain.value, "gain_low": gain.low, "gain_high": gain.high}
    if grid.whole:
        both = grid.of(partners(grid, mark)[best], cells)
        gap = estimate(np.where(np.isfinite(both), grid.of(grid.whole, cells) - alone, np.nan))
        if gap.value > 0:
            made["gap_closed"] = gain.value / gap.value
    return made


@dataclass(frozen=True)
class Gap:
    """What is missing to all marks: by the active marks alone, and by the pairs that hold one."""

    marks: int
    all: float
    singles: float
    pairs: float  # NaN without pairs
    best: str  # the second mark that adds most, averaged over the active marks
    pair_count: int = 0

    @property
    def closed(self) -> float:
        """Share of the gap that a second mark closes; NaN without pairs or without a gap."""
        return 1 - self.pairs / self.singles if self.singles > 0 else np.nan


def gap(grid: Grid) -> Gap | None:
    """The gap to all marks, over all cells; None where the model did not see all marks at once."""
    active = [mark for mark in grid.singles if is_active(mark)]
    if not grid.whole or not active:
        return None
    whole = grid.values[grid.whole]
    pairs = [p for p in grid.pairs if any(is_active(mark) for mark in p.split("+"))]

    def missing(sets: Sequence[str]) -> float:
        found = [estimate(whole - grid.values[name]).value for name in sets]
        return float(np.mean(found)) if found else np.nan

    gains: dict[str, list[float]] = {}
    for mark in active:
        for other, pair in partners(grid, mark).items():
            gains.setdefault(other, []).append(
                estimate(grid.values[pair] - grid.values[mark]).value
            )
    best = max(gains, key=lambda other: float(np.mean(gains[other])), default="")
    count = grid.whole.count("+") + 1
    made = missing(active), missing(pairs)
    return Gap(count, estimate(whole).value, *made, best, len(pairs))


# --- recorded values -----------------------------------------------------------------------------


class Recorded:
    """Published values, given out only where model, marks and cells are the same as ours.

    Nothing is given for simulated data, nor for a model with another target.
    """

    def __init__(self, found: Results):
        table = published().iloc[:0] if found.plan.get("simulated") else published()
        self.values: dict[tuple[str, frozenset, str], float] = {
            (row.model, frozenset(row.marks.split("+")), row.cell): row.r
            for row in table.itertuples()
        }
        self.cells = set(table["cell"]) - {"mean"}

    def gap(self, grid: Grid) -> dict[str, float] | None:
        """The recorded gap to all marks; None unless all marks and all cells are on record."""
        known = grid.whole and np.isfinite(self.of(grid, grid.whole, grid.cells))
        return RECORDED_GAP if known and set(grid.cells) == self.cells else None

    def of(self, grid: Grid, marks: str, cells: Sequence[str]) -> float:
        """Mean over the very same cells, NaN where one of them is not on record."""
        if grid.task != REGRESSION:
            return np.nan
        names = ["mean"] if set(cells) == self.cells else cells
        key = grid.model, frozenset(marks.split("+"))
        return float(np.mean([self.values.get((*key, name), np.nan) for name in names]))


# --- the table -----------------------------------------------------------------------------------


def mark_table(found: Results) -> pd.DataFrame:
    """One row per model, level (all cells, a group, a cell) and mark set; columns `COLUMNS`."""
    recorded = Recorded(found)
    rows = [
        row
        for grid in grids(found)
        for level, name, cells in grid.levels()
        for row in _level(grid, level, name, cells, recorded)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _level(
    grid: Grid, level: str, name: str, cells: Sequence[str], recorded: Recorded
) -> list[dict[str, Any]]:
    rows = []
    for marks in grid.values:
        own = estimate(grid.of(marks, cells))
        if not own.cells:
            continue
        row = {
            **{"model": grid.model, "distance": grid.distance, "measure": MEASURES[grid.task]},
            **{"level": level, "cells": name, "n_cells": own.cells, "marks": marks},
            **{"kind": grid.kind(marks), "n_folds": own.folds, "value": own.value},
            **{"low": own.low, "high": own.high},
            "published": recorded.of(grid, marks, cells),
        }
        if grid.whole and marks != grid.whole:
            lack = estimate(grid.of(grid.whole, cells) - grid.of(marks, cells))
            row |= {"gap_to_all": lack.value, "gap_low": lack.low, "gap_high": lack.high}
        if grid.kind(marks) == "single":
            row |= _second(grid, marks, cells)
        rows.append(row)
    ranked = sorted((row for row in rows if row["kind"] == "single"), key=lambda row: -row["value"])
    for rank, row in enumerate(ranked, 1):
        row["rank"] = rank
    return rows


def write(table: pd.DataFrame, path: str | Path) -> None:
    """Write the table; numbers with six digits, undefined ones empty."""
    shown = table.astype({"rank": "Int64"})
    with atomic(path) as tmp:
        shown.to_csv(tmp, sep="\t", index=False, float_format="%.6g")
