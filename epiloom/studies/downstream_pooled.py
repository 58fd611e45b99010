"""A task over the folds of several runs, each fold scored by the run that has not seen it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from epiloom.plan.channels import OWN_FOLDS
from epiloom.plan.errors import InputError
from epiloom.studies import downstream_tables
from epiloom.studies.block_bootstrap import Resamples
from epiloom.studies.downstream import Examples, Labels, Options
from epiloom.studies.downstream_tables import Outcome

__all__ = ["OWN_FOLDS", "pooled"]

CHROMOSOMES = "chromosomes"
ANNOTATIONS = ("latents", "pca")  # predictors of a run's own; they have not seen its test fold


def pooled(
    scores: Mapping[str, pd.DataFrame], labels: Labels, options: Options
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Metrics and paired differences of a task; no model has seen what it is tested on.

    Args:
        scores: name of a fold -> scores (`downstream_tables.SCORES`) of the run that held it out.
        labels: the task's windows. options: those of the runs.

    Returns:
        Tables with the columns `METRICS` and `DIFFERENCES` of `downstream_tables`.

    Raises:
        InputError: scores of windows that are not among the labels.
    """
    examples = Examples.of(labels, {})
    place = {name: row for row, name in enumerate(examples.names)}
    resamples = Resamples.draw(
        *(examples.chroms, examples.positions, options.seed, options.draws, options.block_bp)
    )
    outcomes = []
    for fold, table in scores.items():
        own = table[(table["scheme"] == CHROMOSOMES) & (table["fold"].astype(str) == fold)]
        for (cell, predictor), group in own.groupby(["cell", "predictor"], observed=True):
            rows = group["name"].astype(str).map(place)
            if rows.isna().any():
                raise InputError(
                    f"scores of fold {fold}", "windows that are not labelled; evaluate it again"
                )
            rows, score = rows.to_numpy(np.int64), group["score"].to_numpy(np.float32)
            positive = group["label"].to_numpy() == 1
            drawn = resamples.average_precision(rows, positive, score)
            where = (str(cell), CHROMOSOMES, fold, str(predictor))
            outcomes.append(Outcome(*where, rows, positive, score, drawn, None))
    unseen: dict[str, list[str]] = {name: [] for name in ANNOTATIONS}
    task = examples.task
    return (
        downstream_tables.metrics_table(task, examples.chroms, outcomes, unseen),
        downstream_tables.differences_table(task, outcomes, options.reference),
    )
