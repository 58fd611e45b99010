"""Everything the report reads, from one working directory; whatever is absent is simply not there.

A file that is there but cannot be understood is listed in `Results.unreadable` with the remedy, and
never stops the report: a partial answer is worth more than none.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

log = logging.getLogger("epiloom")

# the columns of metrics.tsv and of results/tables/*.tsv
METRICS = ["model", "cell", "marks", "fold", "part", "predictor"]
METRICS += ["n", "r", "r_low", "r_high", "spearman", "r2", "mse"]
RANKING = ["auc", "ap", "accuracy"]  # of classifiers; tables of regressions may lack them
NUMBERS = [*METRICS[6:], *RANKING]
HISTORY = ["epoch", "train_loss", "validation_loss", "learning_rate"]
PREDICTIONS = ["gene_id", "chrom", "part", "y", "y_hat"]
QC = ["track", "cell", "mark", "signal", "mean", "q01", "q50", "q99", "q999", "max"]
QC += ["missing_fraction", "promoter_share"]


@dataclass(frozen=True)
class Run:
    """One training job. `marks` is the joined name, e.g. H3K4me3+H3K27ac."""

    model: str
    name: str
    cell: str
    marks: str
    fold: str
    shuffled: bool = False

    @property
    def folder(self) -> Path:
        """Its folder, relative to the working directory."""
        return Path("results") / self.model / self.name


@dataclass
class Results:
    """What was found. Keys of `histories` are runs; of `predictions` (model, cell, marks)."""

    work: Path
    plan: dict[str, Any]
    runs: list[Run]
    metrics: pd.DataFrame
    histories: dict[Run, pd.DataFrame] = field(default_factory=dict)
    predictions: dict[tuple[str, str, str], pd.DataFrame] = field(default_factory=dict)
    qc: pd.DataFrame = field(default_factory=pd.DataFrame)
    genes: pd.DataFrame = field(default_factory=pd.DataFrame)
    benchmarks: pd.DataFrame = field(default_factory=pd.DataFrame)
    unreadable: list[str] = field(default_factory=list)
    sequence: list[Run] = field(default_factory=list)  # of models of DNA; no cell, no marks
    frames: list[Run] = field(default_factory=list)  # of models that compress all tracks; the same
    unprofiled: list[Run] = field(default_factory=list)  # of models that predict cells; the same

    @property
    def about_genes(self) -> bool:
        """Whether marks, genes and their models are part of it, beside or without other models."""
        others = self.sequence or self.frames or self.unprofiled
        return bool(self.runs or self.plan.get("tracks")) or not others

    @property
    def cells(self) -> dict[str, str]:
        """Cell id -> name, in the order of the plan; cells met only in tables come last."""
        known = dict(self.plan.get("cells") or {})
        return known | {run.cell: run.cell for run in self.runs if run.cell not in known}

    def cell_name(self, cell: str) -> str:
        """`H1 cells (E003)`, or the id where no name is known."""
        name = self.cells.get(cell, cell)
        return cell if name in ("", cell, None) else f"{name} ({cell})"


def read_metrics(work: str | Path, plan: dict[str, Any] | None) -> Results:
    """What was planned, and the metrics alone; arguments as of `read`."""
    work = Path(work)
    unreadable: list[str] = []
    plan = _plan(work, plan, unreadable)
    other = any(plan.get(kind) for kind in ("sequence", "frames", "cell_models"))
    runs = planned_runs(plan) or ([] if other else found_runs(work))
    found = Results(work, plan, runs, pd.DataFrame(), unreadable=unreadable)
    found.sequence, found.frames = sequence_runs(work, plan), frame_runs(work, plan)
    found.unprofiled = unprofiled_runs(work, plan)
    found.metrics = _metrics(found)
    return found


def read(work: str | Path, plan: dict[str, Any] | None) -> Results:
    """Read all tables of a working directory.

    Args:
        work: the directory that holds `results/`, `logs/` and `benchmarks/`.
        plan: what was meant to be done; taken from `results/provenance.json` when None, and
            guessed from the folders that exist when that is absent too.
    """
    found = read_metrics(work, plan)
    work, unreadable = found.work, found.unreadable
    for run in found.runs:
        table = table_of(work / run.folder / "history.tsv", HISTORY, unreadable)
        if table is not None and len(table):
            found.histories[run] = table
    found.predictions = _predictions(found)
    for name, path, columns in (
        ("genes", "results/genes/genes.tsv", ["gene_id", "gene_name", "chrom", "tss"]),
        ("qc", "results/qc/tracks.tsv", QC),
    ):
        table = table_of(work / path, columns, unreadable)
        if table is not None:
            setattr(found, name, table)
    if found.qc.empty:
        found.qc = _single_qc_rows(found)
    found.benchmarks = read_benchmarks(work)
    return found


def table_of(
    path: Path, columns: Sequence[str], unreadable: list[str], only: Sequence[str] | None = None
) -> pd.DataFrame | None:
    """A tab-separated table with at least these columns; None if it is absent or unusable.

    `only`: columns to read; None for all.
    """
    if not path.exists():
        return None
    text = {"cell": str, "marks": str, "mark": str, "fold": str, "gene_id": str, "gene_name": str}
    keep = (lambda name: name in set(only)) if only else None
    empty = {"keep_default_na": False, "na_values": ["", "nan", "NaN", "NA"]}
    try:
        table = pd.read_csv(path, sep="\t", dtype=text, usecols=keep, **empty)
    except (OSError, ValueError) as err:  # pandas' parser errors are ValueErrors
        reason = str(err).splitlines()[0]
        unreadable.append(
            f"{path}: cannot be read ({reason}); delete it and run the workflow again"
        )
        return None
    missing = [name for name in columns if name not in table.columns]
    if missing:
        unreadable.append(
            f"{path}: column(s) {', '.join(missing)} missing; delete it and run the workflow again"
        )
        return None
    return table


def numbers_of(
    path: Path, columns: Sequence[str], unreadable: list[str], text: Sequence[str]
) -> pd.DataFrame | None:
    """The same; columns but those of `text` are numbers, NaN where they cannot be read as such."""
    table = table_of(path, columns, unreadable)
    if table is None:
        return None
    for name in table.columns:
        if name in text:
            table[name] = table[name].astype("string").fillna("").astype(object)
        else:
            table[name] = pd.to_numeric(table[name], errors="coerce")
    return table


def planned_runs(plan: dict[str, Any]) -> list[Run]:
    """The runs the plan names."""
    runs = []
    for row in plan.get("runs") or []:
        fold, marks = row["fold"], row["marks"]
        runs.append(
            Run(
                model=row["model"],
                name=row["run"],
                cell=row["cell"],
                marks=marks if isinstance(marks, str) else "+".join(marks),
                fold=fold["name"] if isinstance(fold, dict) else str(fold),
                shuffled=bool(row.get("shuffled")),
            )
        )
    return runs


def sequence_runs(work: Path, plan: dict[str, Any]) -> list[Run]:
    """Runs of models of DNA, named {fold}[.shuffled]: those of the plan, else those with results.

    They have neither cell nor marks.
    """
    rows = [(row["model"], row["run"]) for row in plan.get("sequence") or []]
    if not plan:
        paths = sorted((work / "results").glob("*/*/predictions.npy"))
        rows = [(path.parent.parent.name, path.parent.name) for path in paths]
    suffix = ".shuffled"
    return [
        Run(model, run, "", "", run.removesuffix(suffix), run.endswith(suffix))
        for model, run in rows
    ]


def frame_runs(work: Path, plan: dict[str, Any]) -> list[Run]:
    """Runs of models that compress all tracks, named {fold}: of the plan, else with results."""
    rows = [(row["model"], row["run"]) for row in plan.get("frames") or []]
    if not plan:
        paths = [
            *work.glob("results/*/*/smoothness.tsv"),
            *work.glob("results/*/*/attribution.tsv"),
        ]
        rows = sorted({(path.parent.parent.name, path.parent.name) for path in paths})
    return [Run(model, run, "", "", run) for model, run in rows]


def unprofiled_runs(work: Path, plan: dict[str, Any]) -> list[Run]:
    """Runs of models that predict cells, named {fold}: those of the plan, else with results."""
    rows = [(row["model"], row["run"]) for row in plan.get("cell_models") or []]
    if not plan:
        models = [path.parent.name for path in work.glob("results/*/regions.bed")]
        ends = ("history.tsv", "metrics.tsv")
        paths = [path for m in models for end in ends for path in work.glob(f"results/{m}/*/{end}")]
        rows = sorted({(path.parent.parent.name, path.parent.name) for path in paths})
    return [Run(model, run, "", "", run) for model, run in rows]


def found_runs(work: Path) -> list[Run]:
    """The runs that left a table, from their folders' names {cell}.{marks}.{fold}[.shuffled]."""
    runs = {}
    for name in ("history.tsv", "predictions.tsv", "metrics.tsv"):
        for path in sorted((work / "results").glob(f"*/*/{name}")):
            parts = path.parent.name.split(".")
            shuffled = parts[-1] == "shuffled"
            parts = parts[:-1] if shuffled else parts
            if len(parts) < 3:
                continue
            # a mark may hold a dot (H2A.Z), so it is what remains between cell and fold
            marks = ".".join(parts[1:-1])
            model = path.parent.parent.name
            run = Run(model, path.parent.name, parts[0], marks, parts[-1], shuffled)
            runs[run.model, run.name] = run
    return [runs[key] for key in sorted(runs)]


def _plan(work: Path, plan: dict[str, Any] | None, unreadable: list[str]) -> dict[str, Any]:
    if plan is not None:
        return plan
    path = work / "results" / "provenance.json"
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as err:
        unreadable.append(f"{path}: cannot be read ({err}); delete it and run the workflow again")
        return {}


def _metrics(found: Results) -> pd.DataFrame:
    """The tables over runs; for a model without one, its runs' own rows.

    Only the test part is kept: validation genes chose the epoch, so their numbers flatter.
    """
    tables = []
    models = {run.model for run in found.runs} | set(_configured_models(found.plan))
    others = (*found.sequence, *found.frames, *found.unprofiled)  # theirs has other columns
    models = sorted(models - {run.model for run in others})
    for model in models:
        table = table_of(
            found.work / "results" / "tables" / f"{model}.tsv", METRICS, found.unreadable
        )
        tables.append(table if table is not None else _metrics_of_runs(found, model))
    tables = [table for table in tables if table is not None and len(table)]
    if not tables:
        return pd.DataFrame(columns=[*METRICS, *RANKING])
    metrics = pd.concat(tables, ignore_index=True)
    metrics[NUMBERS] = metrics.reindex(columns=NUMBERS).astype(float)
    metrics = metrics[metrics["part"] == "test"]
    keys = ["model", "cell", "marks", "fold", "predictor"]
    return metrics.drop_duplicates(keys).reset_index(drop=True)


def _configured_models(plan: dict[str, Any]) -> list[str]:
    models = (plan.get("config") or {}).get("models") or {}
    return list(models)


def _metrics_of_runs(found: Results, model: str) -> pd.DataFrame | None:
    tables = []
    for run in found.runs:
        if run.model != model:
            continue
        table = table_of(found.work / run.folder / "metrics.tsv", METRICS, found.unreadable)
        if table is None:
            continue
        if run.shuffled:  # its baselines, if any, were fitted to shuffled labels too: not baselines
            table = table[table["predictor"].isin([model, f"{model}_shuffled"])]
            table = table.assign(predictor=f"{model}_shuffled")
        tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else None


def _predictions(found: Results) -> dict[tuple[str, str, str], pd.DataFrame]:
    """Test genes of all folds by (model, cell, marks), without the shuffled controls."""
    parts: dict[tuple[str, str, str], list[pd.DataFrame]] = {}
    for run in found.runs:
        if run.shuffled:
            continue
        path = found.work / run.folder / "predictions.tsv"
        table = table_of(path, PREDICTIONS, found.unreadable)
        if table is None:
            continue
        table = table[table["part"] == "test"]
        kept = table[["gene_id", "chrom", "y", "y_hat"]].assign(fold=run.fold)
        parts.setdefault((run.model, run.cell, run.marks), []).append(kept)
    return {key: pd.concat(tables, ignore_index=True) for key, tables in parts.items()}


def track_names(found: Results) -> list[str]:
    """Names of the planned tracks (given as text, or as mappings with a name)."""
    tracks = found.plan.get("tracks") or []
    return [track if isinstance(track, str) else str(track["name"]) for track in tracks]


def _single_qc_rows(found: Results) -> pd.DataFrame:
    """Rows of the tracks that are finished, when the table over all tracks is not there yet."""
    folder = found.work / "results" / "qc"
    planned = [folder / f"{name}.tsv" for name in track_names(found)]
    paths = list(dict.fromkeys([*planned, *sorted(folder.glob("*.tsv"))]))
    rows = [table_of(path, QC, found.unreadable) for path in paths if path.name != "tracks.tsv"]
    rows = [row for row in rows if row is not None]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def read_benchmarks(work: str | Path) -> pd.DataFrame:
    """One row per measured job: rule, path, seconds, cpu_seconds, memory_mb (NaN = unknown)."""
    work = Path(work)
    rows = []
    for path in sorted((work / "benchmarks").rglob("*.tsv")):
        try:
            table = pd.read_csv(path, sep="\t", na_values=["-", "NA", ""])
        except (OSError, ValueError) as err:
            log.warning("%s: cannot be read (%s); its cost is not counted", path, err)
            continue
        if "s" not in table.columns:
            log.warning("%s: not a benchmark table (no column s); not counted", path)
            continue
        relative = path.relative_to(work / "benchmarks")
        for _, row in table.iterrows():
            rows.append(
                {
                    "rule": _rule_of(work, relative),
                    "path": str(Path("benchmarks") / relative),
                    "seconds": _number(row.get("s")),
                    "cpu_seconds": _number(row.get("cpu_time")),
                    "memory_mb": _number(row.get("max_rss")),
                }
            )
    return pd.DataFrame(rows, columns=["rule", "path", "seconds", "cpu_seconds", "memory_mb"])


def _rule_of(work: Path, relative: Path) -> str:
    """Rule of a benchmark: from the job file of the log of the same name, else from the path."""
    job = work / "logs" / relative.with_name(f"{relative.name.removesuffix('.tsv')}.log.job.json")
    if job.exists():
        try:
            return str(json.loads(job.read_text())["rule"])
        except (OSError, ValueError, KeyError, TypeError):
            log.warning("%s: not a job file; the rule is taken from the path", job)
    # {model}/{run}/train_model.tsv or sort_reads/{track}.tsv: rules are verb_object in lower case
    for name in (relative.name.removesuffix(".tsv"), *reversed(relative.parts[:-1])):
        if name.replace("_", "").isalpha() and name.islower():
            return name
    return relative.parts[0]


def _number(value: Any) -> float:
    number = pd.to_numeric(value, errors="coerce")
    return float(number) if number is not None else np.nan
