"""Which of two predictors is better on the same test genes, for all questions of the report.

What is compared, cell by cell: every model with its best baseline, the best mark with the second of
the same model, and models that see further with the one that sees least, mark set by mark set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from epiloom.show import paired
from epiloom.show.answer import CLASSIFICATION, Comparison, Score, best_rows
from epiloom.show.facts import model_order
from epiloom.show.paired import Difference
from epiloom.show.results import Results, table_of

BASELINES = ["gene_id", "part", "predictor", "y_hat"]
SEED = 0  # of the draws; the same for all, so that a report is the same when made twice

Key = tuple[str, ...]  # (model, cell, marks), and the predictor's name for a baseline
Differences = dict[tuple[Key, Key], Difference]  # first minus second, on the genes of both


def compare(found: Results, rows: Sequence[Comparison]) -> Differences:
    """Every difference that the report tells of, where the predictions of both are there.

    Also fills in every row's `lead` over its best baseline and a classifier's interval.
    """
    made: Differences = {}
    known = [row for row in rows if row.usable and row.key in found.predictions]
    for task, cell in dict.fromkeys((row.task, row.cell) for row in known):
        here = [row for row in known if (row.task, row.cell) == (task, cell)]
        made |= _differences(found, here, list(_questions(here)))
    for row in known:
        best = row.best_baseline
        row.lead = made.get((row.key, (*row.key, best.predictor))) if best else None
        if row.task == CLASSIFICATION and row.scope == "pooled":
            row.score = _with_interval(row, found.predictions[row.key])
    return made


def by_reach(made: Differences) -> dict[tuple[str, str], dict[tuple[str, str], Difference]]:
    """(model that sees further, nearest model) -> (cell, marks) -> what the further one gains."""
    grouped: dict[tuple[str, str], dict] = {}
    for first, second in sorted(made, key=lambda pair: model_order(pair[0][0])):
        difference = made[first, second]
        if first[0] != second[0] and np.isfinite(difference.value):
            grouped.setdefault((first[0], second[0]), {})[first[1], first[2]] = difference
    return grouped


def _questions(rows: Sequence[Comparison]) -> Iterator[tuple[Key, Key]]:
    """What is compared among one cell's rows of one task."""
    for row in rows:
        if row.best_baseline is not None:
            yield row.key, (*row.key, row.best_baseline.predictor)
    for ranked in best_rows(rows).values():
        if len(ranked) > 1:
            yield ranked[0].key, ranked[1].key
    for marks in dict.fromkeys(row.marks for row in rows):
        same = {row.model: row.key for row in rows if row.marks == marks}
        nearest, *further = sorted(same, key=model_order)
        yield from ((same[model], same[nearest]) for model in further)


def _differences(
    found: Results, rows: Sequence[Comparison], asked: Sequence[tuple[Key, Key]]
) -> Differences:
    """The differences asked for whose predictors are there; `rows` are of one cell and task."""
    by_key = {row.key: row for row in rows}
    columns = {key: _column(found, key, by_key[key[:3]]) for pair in asked for key in pair}
    columns = {key: column for key, column in columns.items() if column is not None}
    asked = [(a, b) for a, b in asked if a in columns and b in columns]
    if not asked:
        return {}
    truth = pd.concat([_by_gene(found.predictions[row.key], "y") for row in rows])
    truth = truth[~truth.index.duplicated()].sort_index()
    wide = pd.DataFrame({str(key): column for key, column in columns.items()}, index=truth.index)
    place = {key: i for i, key in enumerate(columns)}
    pairs = [(place[a], place[b]) for a, b in asked]
    made = _on_shared_genes(truth.to_numpy(), wide.to_numpy(), pairs, rows[0].task)
    return dict(zip(asked, made, strict=True))


def _on_shared_genes(
    y: np.ndarray, wide: np.ndarray, pairs: Sequence[tuple[int, int]], task: str
) -> list[Difference]:
    """Differences of pairs of columns, each pair on the genes that both have."""
    known = np.isfinite(wide) & np.isfinite(y)[:, None]
    groups: dict[bytes, list[int]] = {}  # pairs with the same genes share their draws
    for i, (a, b) in enumerate(pairs):
        groups.setdefault((known[:, a] & known[:, b]).tobytes(), []).append(i)
    made: dict[int, Difference] = {}
    for mask, members in groups.items():
        shared = np.frombuffer(mask, bool)
        used = sorted({column for i in members for column in pairs[i]})
        inner = [(used.index(pairs[i][0]), used.index(pairs[i][1])) for i in members]
        part = wide[np.ix_(shared, used)]
        if task == CLASSIFICATION:
            found = paired.auc_differences(y[shared], part, inner)
        else:
            found = paired.r_differences(y[shared], part, inner, SEED)
        made |= dict(zip(members, found, strict=True))
    return [made[i] for i in range(len(pairs))]


def _column(found: Results, key: Key, row: Comparison) -> pd.Series | None:
    """Predictions by gene of a model, or of its best baseline, turned if it predicts by absence."""
    if key == row.key:
        return _by_gene(found.predictions[key], "y_hat")
    tables = []
    for run in found.runs:
        if (run.model, run.cell, run.marks) == row.key and not run.shuffled:
            path = found.work / run.folder / "baselines.tsv"
            table = table_of(path, BASELINES, found.unreadable, BASELINES)
            if table is not None:
                own = (table["part"] == "test") & (table["predictor"] == key[3])
                tables.append(table[own])
    best = row.best_baseline
    sign = 1 if best.strength == best.value else -1
    return sign * _by_gene(pd.concat(tables), "y_hat") if tables else None


def _by_gene(table: pd.DataFrame, column: str) -> pd.Series:
    return table.drop_duplicates("gene_id").set_index("gene_id")[column].astype(float)


def _with_interval(row: Comparison, table: pd.DataFrame) -> Score:
    known = table.dropna(subset=["y", "y_hat"])
    area = paired.auc(known["y"].to_numpy(float), known["y_hat"].to_numpy(float))
    return replace(row.score, low=area.low, high=area.high)
