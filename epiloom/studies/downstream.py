"""Does an annotation of the genome tell what windows of it do? Features -> classifier -> scores.

Epi-LSTM, downstream tasks: the mean of the annotation over a window (see
`epiloom.data.window_means`) is given to gradient-boosted trees, one classifier per task, cell and
fold; the score is the average precision of the positive class on rows that neither trained nor
stopped it. The published loop appended each fold to one training table, so that from the third fold
on the test rows had been trained on; here the rows of a fold are chosen before anything is fitted.

Beside the classifiers stand two predictors that look at labels only. `prevalence` is the share of
positives in the training rows, the same for every window: its average precision is what chance
scores. `cell_average` is the share of the other cells in which the window is positive: features
that are the same for all cells cannot tell cells apart, so it is the one to beat.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd

from epiloom.plan.errors import InputError
from epiloom.studies import block_bootstrap, downstream_folds, downstream_tables
from epiloom.studies.block_bootstrap import Resamples
from epiloom.studies.boosted_trees import BoostedTrees
from epiloom.studies.downstream_folds import SCHEMES, Fold
from epiloom.studies.downstream_tables import Outcome

log = logging.getLogger("epiloom")

PREVALENCE, CELL_AVERAGE = "prevalence", "cell_average"
Part = tuple[np.ndarray, np.ndarray]
Classify = Callable[[Part, Part, np.ndarray], tuple[np.ndarray, int]]
Features = Mapping[str, np.ndarray | Mapping[str, np.ndarray]]


class Labels(Protocol):
    """What is asked of labelled windows (n examples)."""

    task: str
    names: np.ndarray  # text [n]
    chroms: np.ndarray  # text [n]
    windows: Mapping[str, np.ndarray]  # name -> int64 [n, 2], bases, 0-based half-open
    labels: Mapping[str, np.ndarray]  # cell -> float32 [n]: 1, 0, NaN = not labelled there


@dataclass(frozen=True)
class Options:
    """How a task is evaluated.

    Attributes:
        schemes: which of `downstream_folds.SCHEMES`.
        parts: folds of the schemes shuffled and contiguous.
        reference: predictor that all others are compared with.
        trees, depth, learning_rate, patience: see `BoostedTrees`.
        threads: classifiers trained at the same time, each on one thread, so that the scores do not
            depend on it.
        draws, block_bp: resamples of the intervals and their stretches of the genome.
    """

    schemes: tuple[str, ...] = ("chromosomes", "shuffled")
    parts: int = 20
    reference: str = "latents"
    trees: int = 5000
    depth: int = 6
    learning_rate: float = 0.3
    patience: int = 20
    threads: int = 1
    draws: int = block_bootstrap.DRAWS
    block_bp: int = block_bootstrap.BLOCK_BP
    seed: int = 0

    def __post_init__(self) -> None:
        problems = [
            f"schemes: {name!r} is unknown; use {', '.join(SCHEMES)}"
            for name in self.schemes
            if name not in SCHEMES
        ]
        for key, least in (("parts", 3), ("threads", 1), ("draws", 1), ("block_bp", 1)):
            if getattr(self, key) < least:
                problems.append(f"{key}: {getattr(self, key)}; use {least} or more")
        if problems:
            raise InputError("downstream task", problems)

    def classifier(self) -> BoostedTrees:
        """The trees with these settings, on one thread."""
        return BoostedTrees(self.trees, self.depth, self.learning_rate, self.patience, self.seed)


class Evaluation(NamedTuple):
    """Tables of one task; columns in `downstream_tables`."""

    scores: pd.DataFrame
    metrics: pd.DataFrame
    differences: pd.DataFrame
    curves: pd.DataFrame


@dataclass(frozen=True)
class Examples:
    """Windows of a task in the order of the genome, with all that is known of them.

    Rows are sorted so that results do not depend on the order of a file, and neighbouring rows are
    neighbouring windows.

    Attributes:
        positions: int64 [n], middle of all that a window spans, bases.
        features: predictor -> cell -> float32 [n, k]; only cells that have them.
    """

    task: str
    names: np.ndarray
    chroms: np.ndarray
    positions: np.ndarray
    labels: Mapping[str, np.ndarray]
    features: Mapping[str, Mapping[str, np.ndarray]]

    @classmethod
    def of(cls, labels: Labels, features: Features) -> Examples:
        """Checked and sorted; raises InputError on labels or features that do not fit."""
        names, chroms = (np.asarray(v, dtype=str) for v in (labels.names, labels.chroms))
        by_cell = {
            name: values if isinstance(values, Mapping) else dict.fromkeys(labels.labels, values)
            for name, values in features.items()
        }
        problems = [
            *_odd_windows(labels, len(names)),
            *_odd_labels(labels.labels, len(names)),
            *_odd_features(by_cell, len(names)),
        ]
        if problems:
            raise InputError(f"task {labels.task}", problems)
        spans = np.concatenate([np.asarray(w, np.int64) for w in labels.windows.values()], axis=1)
        start, end = spans.min(axis=1), spans.max(axis=1)
        order = np.lexsort((names, end, start, chroms))
        sort = _Sorter(order)
        return cls(
            *(labels.task, names[order], chroms[order], ((start + end) // 2)[order]),
            {cell: np.asarray(y, np.float32)[order] for cell, y in labels.labels.items()},
            {
                name: {cell: sort(values) for cell, values in cells.items()}
                for name, cells in by_cell.items()
            },
        )

    def labelled(self, cell: str) -> np.ndarray:
        """Rows with a label in this cell, int64."""
        return np.flatnonzero(~np.isnan(self.labels[cell]))


class _Sorter:
    """Sorts an array once, however many cells share it."""

    def __init__(self, order: np.ndarray):
        self.order, self.made = order, {}

    def __call__(self, values: np.ndarray) -> np.ndarray:
        if id(values) not in self.made:
            # the original is kept as well, or another array could get its identity
            self.made[id(values)] = values, np.asarray(values, np.float32)[self.order]
        return self.made[id(values)][1]


def _odd_windows(labels: Labels, n: int) -> Iterator[str]:
    if not labels.windows or n == 0:
        yield "no window; give the intervals of the examples"
    for name, values in {"chroms": labels.chroms, **labels.windows}.items():
        wanted = (n,) if name == "chroms" else (n, 2)
        if np.shape(values) != wanted:
            yield f"{name}: shape {np.shape(values)} for {n} names; give {wanted}"


def _odd_labels(labels: Mapping[str, np.ndarray], n: int) -> Iterator[str]:
    for cell, values in labels.items():
        values = np.asarray(values, np.float32)
        if values.shape != (n,):
            yield f"labels of {cell}: {values.shape} values for {n} windows; give one each"
        elif not np.isin(values[~np.isnan(values)], [0, 1]).all():
            odd = values[~np.isnan(values) & ~np.isin(values, [0, 1])][0]
            yield f"labels of {cell}: {odd} is neither 0, 1 nor missing; give one of these"


def _odd_features(features: Mapping[str, Mapping[str, np.ndarray]], n: int) -> Iterator[str]:
    for name, cells in features.items():
        if name in (PREVALENCE, CELL_AVERAGE):
            yield f"features {name}: the name of a predictor from labels; use another"
        for values in {id(v): v for v in cells.values()}.values():
            if values.ndim != 2 or len(values) != n or values.shape[1] == 0:
                yield f"features {name}: shape {values.shape} for {n} windows; give [{n}, k]"
            elif np.isinf(values).any():
                yield f"features {name}: infinite values; mark what is missing as NaN"


# --- predictors ----------------------------------------------------------------------------------


def cell_average(labels: Mapping[str, np.ndarray], cell: str) -> np.ndarray | None:
    """Share of the other cells in which each window is positive, float32 [n].

    Cells without a label of the window are left out; NaN where no other cell has one, and None if
    that is so of all windows.
    """
    others = [np.asarray(values, np.float64) for name, values in labels.items() if name != cell]
    if not others:
        return None
    values = np.stack(others)
    known = (~np.isnan(values)).sum(axis=0)
    total = np.nansum(values, axis=0)
    share = np.divide(total, known, out=np.full(total.shape, np.nan), where=known > 0)
    return share.astype(np.float32) if known.any() else None


@dataclass(frozen=True)
class _Job:
    """One predictor, one fold."""

    cell: str
    scheme: str
    fold: Fold  # rows of `Examples`
    predictor: str


def plan(examples: Examples, folds: Sequence[Mapping[str, object]], options: Options) -> list[_Job]:
    """All that is to be scored; folds that cannot be are left out with a line in the log.

    Raises:
        InputError: nothing is left.
    """
    jobs = []
    for cell in examples.labels:
        names = [name for name, cells in examples.features.items() if cell in cells]
        absent = [name for name in examples.features if name not in names]
        if absent:
            log.warning("%s, %s: no %s of this cell", examples.task, cell, ", ".join(absent))
        names.append(PREVALENCE)
        if cell_average(examples.labels, cell) is not None:
            names.append(CELL_AVERAGE)
        for scheme in options.schemes:
            for fold in usable_folds(examples, cell, scheme, folds, options):
                jobs += [_Job(cell, scheme, fold, name) for name in names]
    if not jobs:
        raise InputError(
            f"task {examples.task}",
            "no fold has positive and negative examples in training, validation and test (the log "
            "names what is missing); give folds of other chromosomes, or more of them",
        )
    return jobs


def usable_folds(
    examples: Examples,
    cell: str,
    scheme: str,
    folds: Sequence[Mapping[str, object]],
    options: Options,
) -> list[Fold]:
    """Folds of a cell's labelled windows that can train and be scored."""
    rows = examples.labelled(cell)
    where = f"{examples.task}, {cell}, {scheme}"
    if scheme == "chromosomes":
        made = downstream_folds.chromosome_folds(examples.chroms[rows], folds)
    elif len(rows) < options.parts:
        log.warning("%s: left out, %d windows for %d folds", where, len(rows), options.parts)
        return []
    elif scheme == "shuffled":
        made = downstream_folds.shuffled_folds(len(rows), options.parts, options.seed)
    else:
        made = downstream_folds.contiguous_folds(len(rows), options.parts)
    positive, kept = examples.labels[cell][rows] == 1, []
    for fold in made:
        if why := fold.lacks(positive):
            log.warning("%s: fold %s left out, %s", where, fold.name, why)
        else:
            kept.append(fold.among(rows))
    return kept


def score(examples: Examples, job: _Job, classify: Classify, resamples: Resamples) -> Outcome:
    """Scores of the test rows of one fold by one predictor."""
    labels, fold, trees = examples.labels[job.cell], job.fold, None
    share = labels[fold.train].mean(dtype=np.float64)
    if job.predictor == PREVALENCE:
        scores = np.full(len(fold.test), share, np.float32)
    elif job.predictor == CELL_AVERAGE:
        scores = cell_average(
            {cell: values[fold.test] for cell, values in examples.labels.items()}, job.cell
        )
        # where no other cell says anything, what is known without looking at the window
        scores = np.full(len(fold.test), share) if scores is None else scores
        scores = np.where(np.isnan(scores), share, scores)
    else:
        x = examples.features[job.predictor][job.cell]
        train, stop = ((x[part], labels[part]) for part in (fold.train, fold.validation))
        scores, trees = classify(train, stop, x[fold.test])
    positive, scores = labels[fold.test] == 1, np.asarray(scores, np.float32)
    drawn = resamples.average_precision(fold.test, positive, scores)
    where = (job.cell, job.scheme, fold.name, job.predictor)
    return Outcome(*where, fold.test, positive, scores, drawn, trees)


# --- a task --------------------------------------------------------------------------------------


def evaluate(
    labels: Labels,
    features: Features,
    folds: Sequence[Mapping[str, object]],
    options: Options | None = None,
    trained_on: Mapping[str, Collection[str]] | None = None,
    classify: Classify | None = None,
) -> Evaluation:
    """Score every predictor in every cell and fold of one task.

    Args:
        labels: the windows; n examples.
        features: predictor -> [n, k] for all cells, or -> cell -> [n, k]; NaN = missing.
        folds: {"name", "validation", "test"} with lists of chromosomes, for the scheme chromosomes.
        trained_on: predictor -> chromosomes that the model behind its features trained on, which
            the table of metrics sets against each fold's test windows.
        classify: a classifier other than `options.classifier()`, same call.

    Raises:
        InputError: labels or features that do not fit each other, or no fold that can be scored.
    """
    options = options or Options()
    examples = Examples.of(labels, features)
    jobs = plan(examples, folds, options)
    resamples = Resamples.draw(
        *(examples.chroms, examples.positions, options.seed, options.draws, options.block_bp)
    )
    classify = classify or options.classifier()
    log.info(
        "task %s: %d windows, %d cells, %d scores of a fold to make",
        *(examples.task, len(examples.names), len(examples.labels), len(jobs)),
    )
    with ThreadPoolExecutor(options.threads) as pool:
        found = pool.map(lambda job: score(examples, job, classify, resamples), jobs)
        outcomes = list(_watched(found, len(jobs)))
    return Evaluation(
        downstream_tables.scores_table(examples.task, examples.names, examples.chroms, outcomes),
        downstream_tables.metrics_table(examples.task, examples.chroms, outcomes, trained_on or {}),
        downstream_tables.differences_table(examples.task, outcomes, options.reference),
        downstream_tables.curves_table(examples.task, outcomes),
    )


def _watched(outcomes: Iterator[Outcome], count: int) -> Iterator[Outcome]:
    """The same, with a line in the log now and then."""
    began = last = time.monotonic()
    for done, outcome in enumerate(outcomes, 1):
        yield outcome
        now = time.monotonic()
        if now - last > 20:
            last = now
            left = (now - began) / done * (count - done)
            log.info("%d of %d scores, about %.0f min left", done, count, left / 60)
