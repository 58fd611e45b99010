"""From files to files: train one run, and predict its held-out genes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from epiloom.data.files import atomic
from epiloom.learn import starting, training
from epiloom.learn.evaluation import predictions
from epiloom.learn.history import write_history
from epiloom.learn.kinds import completed, open_table


def one_place(files: str | Sequence[str] | None) -> str | Path | None:
    """The file that a training begins with, or the folder of several; None without any."""
    if not files or isinstance(files, str):
        return files or None
    return Path(files[0]).parent


def train(
    spec: Any,
    settings: Mapping[str, Any],
    files: Mapping[str, Any],
    run_dir: str | Path,
    weights: str | Path,
    history: str | Path,
    threads: int | None = None,
    start: str | Path | None = None,
) -> None:
    """Train one run, from wherever an earlier attempt got to (see `training.fit`).

    Args:
        files: what the run's examples are read from, by the names that their reader knows.
        weights, history: files to write.
        start: weights to begin with; with `epochs: 0` they are the result.
    """
    settings = completed(settings, files)
    if not settings["epochs"]:

        def examples():
            return open_table(settings["examples"], settings, files).examples("train")

        starting.unchanged(spec, settings, start, weights, examples)
        write_history([], history)
        return
    table = open_table(settings["examples"], settings, files)
    training.fit(
        spec,
        settings,
        table.examples("train"),
        table.examples("validation"),
        run_dir=run_dir,
        weights_out=weights,
        history_out=history,
        threads=threads,
        start=start,
    )


def predict(
    spec: Any,
    settings: Mapping[str, Any],
    files: Mapping[str, Any],
    weights: str | Path,
    out: str | Path,
    threads: int | None = None,
) -> None:
    """Write the predictions of one run for its validation and test genes.

    Args as `train`; `out`: the table to write.
    """
    table = open_table(settings["examples"], settings, files)
    parts = [
        predictions(spec, weights, table.examples(part), part, threads=threads)
        for part in ("validation", "test")
    ]
    with atomic(out) as tmp:
        pd.concat(parts).to_csv(tmp, sep="\t", index=False)
