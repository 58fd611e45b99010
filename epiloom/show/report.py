"""The report: one HTML file that opens without a network, from whatever results are there."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from epiloom.data.files import atomic
from epiloom.plan.errors import InputError
from epiloom.show import plots
from epiloom.show import report_figures as figures
from epiloom.show.answer import (
    PUBLISHED,
    Comparison,
    chance_limit,
    comparisons,
    verdicts,
)
from epiloom.show.canvas import fixed, marks_name, model_name, predictor_name
from epiloom.show.checks import curve_warnings, qc_warnings, worst_genes
from epiloom.show.missing import gaps, others, read_logs
from epiloom.show.plots_data import MAX_MISSING, duration, memory
from epiloom.show.results import Results, Run, read, track_names

log = logging.getLogger("epiloom")

TEMPLATES = Path(__file__).parent / "templates"


def build_report(
    work_dir: str | Path,
    out_html: str | Path,
    plan: dict[str, Any] | None = None,
    partial: bool = False,
) -> Path:
    """Write the report of a working directory.

    Args:
        work_dir: holds `results/`, `logs/`, `benchmarks/`; any table in it may be absent.
        out_html: the file to write; it appears whole or not at all.
        plan: what was to be done (config, cells, marks, runs, tracks, versions, sources, ...); None
            takes `results/provenance.json`, and without that what the folders show.
        partial: the caller knows that results are missing, so the report says "so far" and does not
            warn about it.

    Returns:
        the path of the report.

    Raises:
        InputError: `work_dir` is not a folder.
    """
    work = Path(work_dir)
    if not work.is_dir():
        raise InputError(work, "no such folder; give the working directory that holds results/")
    found = read(work, plan)
    context = _context(found, partial)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"fixed": fixed, "duration": duration, "memory": memory}
    environment.filters |= {"predictor": predictor_name, "model": model_name, "marks": marks_name}
    text = environment.get_template("report.html.j2").render(context)
    with atomic(out_html) as tmp:
        tmp.write_text(text, encoding="utf-8")
    if context["gaps"] and not partial:
        log.warning("%s: %d planned results are missing", out_html, len(context["gaps"]))
    return Path(out_html)


def _context(found: Results, partial: bool) -> dict[str, Any]:
    """Everything the template shows, by name."""
    rows = comparisons(found)
    logs = read_logs(found.work)
    missing = gaps(found, logs)
    warnings, flagged = qc_warnings(found.qc)
    plan = found.plan
    return {
        "plan": plan,
        "simulated": bool(plan.get("simulated")),
        "partial": partial,
        "verdicts": verdicts(rows, found),
        "digest": _digest(found),
        "config_text": yaml.safe_dump(_plain(plan.get("config") or {}), sort_keys=False),
        "folds": _folds(found),
        "qc": found.qc.to_dict("records"),
        "qc_warnings": warnings,
        "flagged": set(flagged),
        "max_missing": MAX_MISSING,
        "qc_figures": list(figures.qc_figures(found, flagged)),
        "profile_figures": list(figures.profile_figures(found)),
        "curve_figures": list(figures.curve_figures(found)),
        "curve_warnings": curve_warnings(found),
        "comparisons": rows,
        "several_models": len({row.model for row in rows}) > 1,
        "best": _best_keys(rows),
        "baselines": _baseline_columns(rows),
        "fold_rows": _fold_rows(found),
        "comparison_figures": list(figures.comparison_figures(found, rows)),
        "tables": sorted({f"results/tables/{run.model}.tsv" for run in found.runs}),
        "observed_figures": list(figures.observed_figures(found, rows)),
        "anchors": _anchors(rows),
        "worst": worst_genes(found, rows),
        "cell_name": found.cell_name,
        "commands": _commands(found),
        "gaps": missing,
        "expected": len(found.runs) + len(track_names(found)),
        "other_logs": others(logs, missing),
        "unreadable": found.unreadable,
        "cost": _cost(found.benchmarks),
        "cost_figures": figures.cost_figures(found),
        "chance_limit": chance_limit,
        "is_number": lambda value: isinstance(value, (int, float)) and bool(np.isfinite(value)),
    }


def _plain(value: Any) -> Any:
    """Tuples as lists, paths as text, so that YAML shows no Python types."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)


# --- what was run --------------------------------------------------------------------------------


def _digest(found: Results) -> list[tuple[str, str]]:
    """(key, value) of what was run, in the order a reader asks for it."""
    plan = found.plan
    config = plan.get("config") or {}
    models = sorted({run.model for run in found.runs})
    marks = plan.get("marks") or sorted({m for run in found.runs for m in run.marks.split("+")})
    rows = [
        ("assembly", config.get("assembly", "")),
        ("cells", "; ".join(found.cell_name(cell) for cell in found.cells)),
        ("marks", ", ".join(marks)),
        ("models", ", ".join(model_name(model) for model in models)),
        ("runs", _count_runs(found.runs)),
        ("seed", plan.get("seed", "")),
        ("configuration", plan.get("config_file", "")),
        ("code", f"commit {plan['commit']}" if plan.get("commit") else ""),
        ("made", plan.get("date", "")),
    ]
    for name, settings in (config.get("models") or {}).items():
        listed = [f"{key} {_short(value)}" for key, value in (settings or {}).items()]
        rows.append((f"{model_name(name)} settings", "; ".join(listed)))
    return [(key, str(value)) for key, value in rows if value not in ("", None)]


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def _count_runs(runs: Sequence[Run]) -> str:
    if not runs:
        return ""
    controls = sum(run.shuffled for run in runs)
    text = f"{len(runs) - controls} training runs"
    return f"{text} and {controls} with shuffled labels" if controls else text


def _folds(found: Results) -> list[dict[str, Any]]:
    """name, validation, test (chromosomes) and the number of test genes, if known."""
    config = found.plan.get("config") or {}
    folds = {name: dict(fold) for name, fold in (config.get("folds") or {}).items()}
    for row in found.plan.get("runs") or []:
        if isinstance(row["fold"], dict):
            folds.setdefault(row["fold"]["name"], row["fold"])
    for run in found.runs:
        folds.setdefault(run.fold, {})
    made = []
    for name, fold in folds.items():
        n = found.metrics.loc[found.metrics["fold"] == name, "n"].dropna()
        chroms = {part: ", ".join(fold.get(part) or []) for part in ("validation", "test")}
        made.append({"name": name, **chroms, "genes": int(n.max()) if len(n) else None})
    return made


# --- tables --------------------------------------------------------------------------------------


def _best_keys(rows: Sequence[Comparison]) -> set[tuple[str, str, str]]:
    """(model, cell, marks) with the largest r of each cell."""
    best: dict[str, Comparison] = {}
    for row in rows:
        if row.usable and (row.cell not in best or row.score.r > best[row.cell].score.r):
            best[row.cell] = row
    return {(row.model, row.cell, row.marks) for row in best.values()}


def _baseline_columns(rows: Sequence[Comparison]) -> list[str]:
    found = {score.predictor for row in rows for score in row.baselines}
    return plots.predictor_order(sorted(found), "")


def _fold_rows(found: Results) -> list[dict[str, Any]]:
    metrics = found.metrics
    ours = metrics["predictor"].isin(
        {*metrics["model"], *(m + "_shuffled" for m in metrics["model"])}
    )
    return metrics[ours & (metrics["fold"] != "pooled")].to_dict("records")


def _anchors(rows: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Published and own r by single mark, own ones averaged over cells."""
    own: dict[str, list[float]] = {}
    for row in rows:
        if row.usable:
            own.setdefault(row.marks, []).append(row.score.r)
    return [
        {
            "mark": mark,
            "published": value,
            "own": float(np.mean(own[mark])) if mark in own else None,
            "cells": len(own.get(mark, [])),
        }
        for mark, value in PUBLISHED.items()
    ]


def _commands(found: Results) -> list[tuple[str, str]]:
    """(what for, command) that fit this very configuration."""
    config = found.plan.get("config_file")
    given = f" --configfile {shlex.quote(config)}" if config else ""
    options = found.plan.get("options", f"--cores all{given}")
    edited = config or "config/config.yaml"
    rows = []
    runs = [run for run in found.runs if not run.shuffled]
    if runs:
        folder = str(runs[0].folder)
        metrics, weights = (shlex.quote(f"{folder}/{n}") for n in ("metrics.tsv", "weights.pt"))
        rows.append(
            ("make or repeat one result and what it needs", f"snakemake {metrics} {options}")
        )
        rows.append(
            ("train one model again from the start", f"snakemake {weights} --force {options}")
        )
    rows.append(
        (
            f"add a mark or a cell: edit marks or cells in {edited}, then look",
            f"snakemake -n {options}",
        )
    )
    rows.append(("run it: only what is new is computed", f"snakemake {options}"))
    reads = [track for track in track_names(found) if track.endswith(".reads")]
    if reads:
        target = shlex.quote(f"results/tracks/{reads[0]}.depth.bw")
        rows.append(
            ("look at a track in a genome browser (bigWig)", f"snakemake {target} {options}")
        )
    return rows


def _cost(benchmarks: pd.DataFrame) -> dict[str, Any]:
    """Per rule and in total: jobs, seconds, longest job, peak memory."""
    if benchmarks.empty:
        return {}
    rules = []
    for rule, jobs in benchmarks.groupby("rule"):
        rules.append(
            {
                "rule": rule,
                "jobs": len(jobs),
                "total": jobs["seconds"].sum(),
                "median": jobs["seconds"].median(),
                "longest": jobs["seconds"].max(),
                "cpu": jobs["cpu_seconds"].sum(min_count=1),
                "memory": jobs["memory_mb"].max(),
            }
        )
    rules.sort(key=lambda row: -row["total"])
    return {
        "rules": rules,
        "jobs": len(benchmarks),
        "total": benchmarks["seconds"].sum(),
        "cpu": benchmarks["cpu_seconds"].sum(min_count=1),
        "memory": benchmarks["memory_mb"].max(),
    }
