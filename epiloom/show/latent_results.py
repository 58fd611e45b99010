"""Results of models that compress all tracks: reconstruction, what latents are, what they tell.

Whatever is absent is left out; a file that is there but cannot be understood is listed in
`Results.unreadable`. Over several folds a track's R2 is the mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from epiloom.plan.channels import OWN_FOLDS
from epiloom.plan.downstream import TASKS
from epiloom.show.results import HISTORY, Results, Run, numbers_of
from epiloom.studies.downstream_folds import SCHEMES

KEYS = ["model", "fold", "part", "track", "predictor"]
COLUMNS = [*KEYS, "n", "r2", "r", "mse"]
# columns and names of `epiloom/studies/downstream_tables.py`, which needs more than drawing does
METRICS = ["task", "cell", "scheme", "fold", "predictor", "seen", "n", "positives", "prevalence"]
METRICS += ["chance", "ap", "ap_low", "ap_high", "auroc", "trees"]
DIFFERENCES = ["task", "cell", "scheme", "predictor", "reference", "cells"]
DIFFERENCES += ["difference", "low", "high", "verdict"]
CURVES = ["task", "cell", "scheme", "predictor", "recall", "precision"]
MEAN, POOLED = "mean", "all"  # the row of all folds, the row of all cells
ALL_TRACKS = "mean"  # the row of all tracks together
PCA = "pca"
LATENTS = "latents"
DESCRIBED = {
    "smoothness": ["lag", "bp", "r2", "pairs", "latents"],
    "correlations": ["latent", "value", "r", "bins"],
    "positions": ["chrom", "class", "cluster", "pc1", "pc2", "explained1", "explained2"],
    "attribution": ["kind", "name", "share", "channels"],
}
TEXT = {*KEYS, "run", "task", "cell", "scheme", "predictor", "reference", "seen", "verdict"}
TEXT |= {"value", "chrom", "class", "kind", "name"}
WHOLE = {"lag", "latent", "cluster", "channels", "epoch", "best"}  # columns of whole numbers


@dataclass
class LatentResults:
    """What was found of models that compress tracks.

    Attributes:
        latent, channels: run -> numbers per bin, names of the tracks; as planned, else as found.
        metrics: columns `COLUMNS`, validation and test.
        described: run -> name of a table of `DESCRIBED` -> table.
        tasks, differences, curves: columns as above, with model and run before them.
        lenient: models that began with weights which may have seen the test chromosomes.
    """

    runs: list[Run]
    latent: dict[Run, int] = field(default_factory=dict)
    channels: dict[Run, list[str]] = field(default_factory=dict)
    metrics: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=COLUMNS))
    histories: dict[Run, pd.DataFrame] = field(default_factory=dict)
    described: dict[Run, dict[str, pd.DataFrame]] = field(default_factory=dict)
    tasks: pd.DataFrame = field(default_factory=lambda: _empty(METRICS))
    differences: pd.DataFrame = field(default_factory=lambda: _empty(DIFFERENCES))
    curves: pd.DataFrame = field(default_factory=lambda: _empty(CURVES))
    lenient: set[str] = field(default_factory=set)

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(run.model for run in self.runs))

    def of(self, model: str) -> list[Run]:
        """The runs of a model."""
        return [run for run in self.runs if run.model == model]

    @property
    def judged(self) -> list[Run]:
        """Whose downstream tasks are judged: all runs of a model together, each fold by its own,
        where there is such a row; else each run."""
        found = []
        for model in self.models:
            whole = Run(model, OWN_FOLDS, "", "", OWN_FOLDS)
            pooled = (self.tasks["model"] == model) & (self.tasks["run"] == OWN_FOLDS)
            found += [whole] if pooled.any() else self.of(model)
        return found

    def tables(self, run: Run, name: str) -> pd.DataFrame | None:
        """A table of `DESCRIBED`; None if it is not there or has no row."""
        table = self.described.get(run, {}).get(name)
        return None if table is None or table.empty else table


@dataclass(frozen=True)
class Kept:
    """How much of the tracks comes back on the test chromosomes.

    Attributes:
        r2, pca: share of the variance of all tracks, mean over folds; NaN = unknown.
        better, compared: tracks with a higher R2 than PCA's, of those that have both.
        assays: assay, tracks, r2, pca, r (medians over tracks), best first.
    """

    model: str
    latent: int
    tracks: int
    done: int  # folds
    planned: int
    r2: float
    pca: float
    better: int
    compared: int
    assays: pd.DataFrame


def assay_of(track: str) -> str:
    """`E003-H2A.Z.pval` -> `H2A.Z`."""
    return track.partition("-")[2].rpartition(".")[0] or track


# --- reading -------------------------------------------------------------------------------------


def read_latents(found: Results) -> LatentResults:
    """Tables of all runs of models that compress tracks."""
    made = LatentResults(list(found.frames))
    if not made.runs:
        return made
    asked = (found.plan.get("config") or {}).get("models") or {}
    made.lenient = {m for m in made.models if (asked.get(m) or {}).get("start_seen") == "allow"}
    tables = [table for model in made.models for table in _metrics(found, made.of(model))]
    if tables:
        whole = pd.concat(tables, ignore_index=True)
        made.metrics = whole.reindex(columns=COLUMNS).drop_duplicates(KEYS, ignore_index=True)
    for run in made.runs:
        table = _table(found, found.work / run.folder / "history.tsv", HISTORY)
        if table is not None and len(table):
            made.histories[run] = table
        made.described[run] = _described(found, run)
    _read_tasks(found, made)
    _sizes(found, made)
    return made


def _table(found: Results, path: Any, columns: Sequence[str]) -> pd.DataFrame | None:
    """A table whose numbers are numbers: what cannot be read as one is NaN."""
    table = numbers_of(path, columns, found.unreadable, TEXT)
    if table is None:
        return None
    # the last line of a file that was cut short: half a row says nothing
    table = table.dropna(subset=[name for name in columns if name in WHOLE])
    return table.astype({name: int for name in columns if name in WHOLE}).reset_index(drop=True)


def _metrics(found: Results, runs: Sequence[Run]) -> list[pd.DataFrame]:
    """The table over all runs of a model; without it, the runs' own."""
    path = found.work / "results/tables" / f"{runs[0].model}.tsv"
    whole = _table(found, path, COLUMNS)
    if whole is not None:
        return [whole]
    tables = [_table(found, found.work / run.folder / "metrics.tsv", COLUMNS) for run in runs]
    return [table for table in tables if table is not None]


def _described(found: Results, run: Run) -> dict[str, pd.DataFrame]:
    tables = {
        name: _table(found, found.work / run.folder / f"{name}.tsv", columns)
        for name, columns in DESCRIBED.items()
    }
    return {name: table for name, table in tables.items() if table is not None}


def _read_tasks(found: Results, made: LatentResults) -> None:
    """Metrics, differences and curves of the downstream tasks; those over all runs first."""
    over = found.work / "results/tables"
    for name, end, columns in (
        ("tasks", "", METRICS),
        ("differences", ".differences", DIFFERENCES),
    ):
        whole = _table(found, over / f"downstream{end}.tsv", ["model", "run", *columns])
        if whole is None:
            kind = end.removeprefix(".") or "metrics"
            whole = _joined(_of_tasks(found, made.runs, kind, columns))
        if whole is not None:
            setattr(made, name, whole)
    curves = _joined(_of_tasks(found, made.runs, "curves", CURVES))
    made.curves = made.curves if curves is None else curves


def _of_tasks(
    found: Results, runs: Sequence[Run], kind: str, columns: Sequence[str]
) -> Iterable[pd.DataFrame]:
    for run in runs:
        paths = sorted((found.work / run.folder / "downstream").glob(f"*.{kind}.tsv"))
        order = {task: place for place, task in enumerate(TASKS)}
        for path in sorted(paths, key=lambda p: order.get(p.name.partition(".")[0], len(order))):
            table = _table(found, path, columns)
            if table is not None:
                told = {"model": run.model, "run": run.name}
                yield table.assign(**told)[[*told, *table.columns]]


def _joined(tables: Iterable[pd.DataFrame]) -> pd.DataFrame | None:
    tables = [table for table in tables if len(table)]
    return pd.concat(tables, ignore_index=True) if tables else None


def _empty(columns: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(columns=["model", "run", *columns])


def _sizes(found: Results, made: LatentResults) -> None:
    """Latents and tracks of each run: those of the plan, else those of the tables."""
    planned = {(row["model"], row["run"]): row for row in found.plan.get("frames") or []}
    for run in made.runs:
        row = planned.get((run.model, run.name), {})
        smooth = made.tables(run, "smoothness")
        seen = 0 if smooth is None else int(smooth["latents"].max())
        made.latent[run] = int(row.get("latent") or seen)
        own = made.metrics[
            (made.metrics["model"] == run.model) & (made.metrics["fold"] == run.fold)
        ]
        known = [track for track in dict.fromkeys(own["track"]) if track != ALL_TRACKS]
        made.channels[run] = list(row.get("channels") or known)


# --- reconstruction ------------------------------------------------------------------------------


def per_track(latents: LatentResults, model: str) -> pd.DataFrame:
    """track, assay, method, r2, r on the test chromosomes, means over folds."""
    own = latents.metrics
    own = own[(own["model"] == model) & (own["part"] == "test") & (own["track"] != ALL_TRACKS)]
    own = own[own["predictor"].isin([model, PCA])]
    means = own.groupby(["track", "predictor"], sort=False)[["r2", "r"]].mean().reset_index()
    means["assay"] = [assay_of(track) for track in means["track"]]
    return means.rename(columns={"predictor": "method"})


def kept(latents: LatentResults, model: str) -> Kept | None:
    """What a model keeps of the tracks; None before it has been evaluated."""
    rows = latents.metrics
    rows = rows[(rows["model"] == model) & (rows["part"] == "test") & (rows["track"] == ALL_TRACKS)]
    own = rows[(rows["predictor"] == model) & np.isfinite(rows["r2"].astype(float))]
    if own.empty:
        return None
    pca = rows.loc[(rows["predictor"] == PCA) & rows["fold"].isin(own["fold"]), "r2"]
    tracks = per_track(latents, model)
    wide = tracks.pivot_table(index=["assay", "track"], columns="method", values="r2")
    both = wide.reindex(columns=[model, PCA]).dropna()
    runs = latents.of(model)
    return Kept(
        model,
        max(latents.latent[run] for run in runs),
        int(tracks["track"].nunique()),
        int(own["fold"].nunique()),
        len(runs),
        float(own["r2"].mean()),
        float(pca.mean()) if len(pca) else float("nan"),
        int((both[model] > both[PCA]).sum()),
        len(both),
        _assays(tracks, model),
    )


def _assays(tracks: pd.DataFrame, model: str) -> pd.DataFrame:
    """assay, tracks, r2, pca, r: medians over tracks, best first."""
    own = tracks[tracks["method"] == model].groupby("assay", sort=False)
    pca = tracks[tracks["method"] == PCA].groupby("assay", sort=False)["r2"].median()
    made = pd.DataFrame({"tracks": own.size(), "r2": own["r2"].median(), "r": own["r"].median()})
    made = made.assign(pca=pca.reindex(made.index)).sort_values("r2", ascending=False)
    return made.reset_index()


def test_bins(latents: LatentResults) -> dict[str, int]:
    """Most test bins of a track by fold."""
    rows = latents.metrics
    rows = rows[(rows["part"] == "test") & (rows["track"] != ALL_TRACKS)].dropna(subset=["n"])
    return {str(fold): int(own["n"].max()) for fold, own in rows.groupby("fold")}


# --- downstream ----------------------------------------------------------------------------------


def headline(table: pd.DataFrame, task: str) -> str:
    """How the folds of a task's first result are cut: whole chromosomes if there are any."""
    there = set(table.loc[table["task"] == task, "scheme"])
    return next((name for name in SCHEMES if name in there), "")


def against(latents: LatentResults, run: Run, cell: str = POOLED) -> pd.DataFrame:
    """Paired differences of the latents of a run and every other predictor, with `word`."""
    own = latents.differences
    own = own[(own["model"] == run.model) & (own["run"] == run.name)]
    own = own[(own["reference"] == LATENTS) & (own["cell"] == cell)]
    return own.assign(word=[said(row) for row in own.to_dict("records")])


def said(row: Mapping[str, Any]) -> str:
    """better, worse, not clear, or open: what the interval of a difference allows to say.

    An interval without width comes of draws that are all the same: too little genome for one.
    """
    low, high = float(row["low"]), float(row["high"])
    if not (np.isfinite(low) and np.isfinite(high)) or high - low < 1e-9:
        return "open"
    return "better" if low > 0 else "worse" if high < 0 else "not clear"


def of_tasks(latents: LatentResults, run: Run) -> pd.DataFrame:
    """Means over folds: rows of `tasks` with fold "mean" of a run."""
    own = latents.tasks
    own = own[(own["model"] == run.model) & (own["run"] == run.name)]
    return own[own["fold"].astype(str) == MEAN]


def unseen(latents: LatentResults, run: Run) -> tuple[int, int]:
    """(whole-chromosome folds whose test chromosomes did not train the latents, all of them)."""
    own = latents.tasks
    own = own[(own["model"] == run.model) & (own["run"] == run.name)]
    own = own[(own["scheme"] == SCHEMES[0]) & (own["predictor"] == LATENTS)]
    own = own[own["fold"].astype(str) != MEAN].drop_duplicates(["fold"])
    return int((own["seen"] == "no").sum()), len(own)
