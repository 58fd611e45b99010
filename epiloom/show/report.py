"""The report: one HTML file that opens without a network, from whatever results are there."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from epiloom.data.files import atomic
from epiloom.plan.errors import InputError
from epiloom.show import report_figures as figures
from epiloom.show import report_tables as tables
from epiloom.show.answer import CLASSIFICATION, comparisons, models_of
from epiloom.show.asked_sections import asked_sections
from epiloom.show.canvas import fixed, marks_name, model_name, predictor_name
from epiloom.show.cell_results import read_cells
from epiloom.show.checks import curve_warnings, qc_warnings, worst_genes
from epiloom.show.compare import compare
from epiloom.show.latent_results import read_latents
from epiloom.show.marks import mark_table
from epiloom.show.missing import asked_tables, gaps, others, read_logs
from epiloom.show.missing_cells import asked as asked_of_cells
from epiloom.show.missing_latents import asked_tasks
from epiloom.show.plots_data import MAX_MISSING, duration, memory
from epiloom.show.report_cells import cell_part
from epiloom.show.report_latents import latent_part
from epiloom.show.report_tracks import track_part
from epiloom.show.results import Results, read, track_names
from epiloom.show.study_sections import sections
from epiloom.show.track_results import read_tracks
from epiloom.show.verdicts import chance_limit, verdicts

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
    logs = read_logs(found.work)
    missing = gaps(found, logs)
    plan = found.plan
    tracks = track_part(found, read_tracks(found))
    latents = latent_part(found, read_latents(found))
    cells = cell_part(found, read_cells(found))
    context = {
        **_data(found),
        **_models(found),
        "about_genes": found.about_genes,
        "tracks": tracks,
        "latents": latents,
        "cells": cells,
        "question": tables.question(found),
        "studies": [*asked_sections(found), *sections(found)],
        "plan": plan,
        "simulated": bool(plan.get("simulated")),
        "partial": partial,
        "digest": tables.digest(found),
        "config_text": yaml.safe_dump(_plain(plan.get("config") or {}), sort_keys=False),
        "folds": tables.folds(
            found, tracks.bins if tracks else {}, latents.bins if latents else {}
        ),
        "cell_name": found.cell_name,
        "commands": tables.commands(found),
        "gaps": missing,
        "expected": _expected(found),
        "other_logs": others(logs, missing),
        "cost": tables.cost(found.benchmarks),
        "cost_figures": figures.cost_figures(found),
        "chance_limit": chance_limit,
        "is_number": lambda value: isinstance(value, (int, float)) and bool(np.isfinite(value)),
    }
    return context | {"unreadable": list(dict.fromkeys(found.unreadable))}


def _expected(found: Results) -> int:
    """Runs, tracks, studies and questions of the plan."""
    runs, plan = len(found.runs) + len(found.sequence) + len(found.unprofiled), found.plan
    tracks = len(track_names(found)) + len(plan.get("targets") or {})
    asked = len(asked_of_cells(found)) + len(asked_tables(found))
    asked += len(found.frames) * (1 + len(asked_tasks(found)))
    return runs + tracks + len(plan.get("studies") or []) + asked


def _data(found: Results) -> dict[str, Any]:
    """What the sections on the tracks show."""
    warnings, flagged = qc_warnings(found.qc)
    return {
        "qc": found.qc.to_dict("records"),
        "qc_warnings": warnings,
        "flagged": set(flagged),
        "max_missing": MAX_MISSING,
        "qc_figures": list(figures.qc_figures(found, flagged)),
        "profile_figures": list(figures.profile_figures(found)),
    }


def _models(found: Results) -> dict[str, Any]:
    """What the sections on the models show."""
    rows = comparisons(found)
    pairs = compare(found, rows)
    marks = mark_table(found)
    chosen = figures.shown_keys(found, rows)
    return {
        "verdicts": verdicts(rows, found, pairs) if found.about_genes else [],
        "marks": tables.marks(marks),
        "mark_figures": figures.mark_figures(marks),
        "closing": tables.closing(found),
        "curve_figures": list(figures.curve_figures(found, rows, chosen)),
        "curve_warnings": curve_warnings(found),
        "not_drawn": figures.hidden(found, chosen),
        "comparisons": rows,
        "several_models": len(models_of(rows)) > 1,
        "classified": any(row.task == CLASSIFICATION for row in rows),
        "best": tables.best_keys(rows),
        "baselines": tables.baseline_columns(rows),
        "fold_rows": tables.fold_rows(found),
        "comparison_figures": list(figures.comparison_figures(found, rows)),
        "tables": sorted({f"results/tables/{run.model}.tsv" for run in found.runs}),
        "observed_figures": list(figures.observed_figures(found, rows, chosen)),
        "anchors": tables.anchors(found),
        "worst": worst_genes(found, rows),
    }


def _plain(value: Any) -> Any:
    """Tuples as lists, paths as text, so that YAML shows no Python types."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)
