"""From files to files: metrics of one run of a model of genes, and of its simple predictors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from epiloom.data.files import atomic
from epiloom.learn.baselines import baselines
from epiloom.learn.metrics import metrics_rows


def evaluate(
    model: str,
    settings: Mapping[str, Any],
    files: Mapping[str, Any],
    predictions: str | Path,
    baselines_out: str | Path,
    metrics_out: str | Path,
) -> None:
    """Write what simple predictors say of a run's held-out genes, and the metrics of all.

    Args:
        settings, files: as `kinds.open_table`. predictions: the run's own, as `one_run.predict`.
        baselines_out, metrics_out: tables to write.
    """
    simple = baselines(settings, files)
    both = pd.concat([pd.read_csv(predictions, sep="\t"), simple])
    metrics = metrics_rows(both, model, settings)
    for table, path in ((simple, baselines_out), (metrics, metrics_out)):
        with atomic(path) as tmp:
            table.to_csv(tmp, sep="\t", index=False)
