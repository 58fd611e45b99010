"""The part of the report on models that compress all tracks: figures with captions, and tables."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from epiloom.plan.channels import OWN_FOLDS
from epiloom.show import plots, plots_latents
from epiloom.show.canvas import model_name, svg
from epiloom.show.checks import curve_warnings
from epiloom.show.latent_captions import (
    ATTRIBUTION,
    CORRELATIONS,
    CURVES,
    POSITIONS,
    PRECISION,
    RECONSTRUCTION,
    RECORDED,
    REMARKS,
    SMOOTHNESS,
)
from epiloom.show.latent_results import (
    LATENTS,
    MEAN,
    PCA,
    POOLED,
    Kept,
    LatentResults,
    against,
    headline,
    kept,
    of_tasks,
    per_track,
    test_bins,
)
from epiloom.show.latent_verdicts import CELL_AVERAGE, COMPARED, called, latent_verdicts
from epiloom.show.missing_latents import asked_tasks
from epiloom.show.plots_latent_region import LATENT_REGION_CAPTION
from epiloom.show.plots_latent_tasks import HOW, TASKS_CAPTION, predictor_name, task_name
from epiloom.show.results import Results, Run
from epiloom.show.verdicts import Verdict
from epiloom.studies.downstream_folds import SCHEMES

PICTURES = 4  # regions in the report; more are files of their own
RUNS = 4  # runs whose downstream figures are drawn
AT_REST = 0.05  # of the highest learning rate: below it an epoch cannot learn much


@dataclass
class LatentPart:
    """What the page shows of models that compress tracks."""

    verdicts: list[Verdict]
    kept: list[Kept]
    score_figures: list[dict[str, Any]]
    curve_figures: list[dict[str, Any]]
    curve_warnings: list[str]
    region_figures: list[dict[str, Any]]
    regions_note: str
    smooth_figures: list[dict[str, Any]]
    position_figures: list[dict[str, Any]]
    correlation_figures: list[dict[str, Any]]
    attribution_figures: list[dict[str, Any]]
    asked: list[str]  # downstream tasks, by name
    task_figures: list[dict[str, Any]]
    precision_figures: list[dict[str, Any]]
    predictors: list[tuple[str, str]]  # key, name
    task_rows: list[dict[str, Any]]
    differences: list[dict[str, Any]]
    more_differences: list[dict[str, Any]]
    remarks: list[str]
    several: bool  # runs
    tables: list[str]
    folders: list[str]
    bins: dict[str, int]  # fold -> test bins


def latent_part(found: Results, latents: LatentResults) -> LatentPart | None:
    """The part of a study; None without models that compress tracks."""
    if not latents.runs:
        return None
    several = len(latents.runs) > 1
    shown = list(dict.fromkeys([*latents.judged, *latents.runs]))
    compared, compared_too = _differences(latents)
    regions, note = _regions(found, latents)
    return LatentPart(
        verdicts=latent_verdicts(latents),
        kept=[k for model in latents.models if (k := kept(latents, model))],
        score_figures=list(_scores(latents)),
        curve_figures=list(_curves(latents)),
        curve_warnings=warnings(latents),
        region_figures=regions,
        regions_note=note,
        smooth_figures=list(_smooth(latents)),
        position_figures=list(_positions(latents)),
        correlation_figures=list(_correlations(latents)),
        attribution_figures=list(_attribution(latents)),
        asked=[task_name(task) for task in asked_tasks(found)],
        task_figures=list(_task_figures(latents)),
        precision_figures=list(_precision_figures(latents)),
        predictors=_predictors(latents),
        task_rows=[row for run in shown for row in _task_rows(latents, run)],
        differences=compared,
        more_differences=compared_too,
        remarks=[*REMARKS, *(() if found.plan.get("simulated") else (RECORDED,))],
        several=several,
        tables=[f"results/tables/{model}.tsv" for model in latents.models],
        folders=[str(run.folder) for run in latents.runs],
        bins=test_bins(latents),
    )


def _figure(figure: Figure, name: str, alt: str, caption: str, heading: str = "") -> dict[str, Any]:
    made = {"svg": Markup(svg(figure, name, alt)), "caption": caption}
    return made | ({"heading": heading} if heading else {})


def _named(latents: LatentResults, run: Run) -> str:
    """`fold1`, with the model where there are several; empty for a single run."""
    if len(latents.runs) == 1:
        return ""
    if run.name == OWN_FOLDS:
        return "each fold by its own model"
    return f"{model_name(run.model)}, {run.name}" if len(latents.models) > 1 else run.name


def _head(latents: LatentResults, model: str) -> str:
    return model_name(model) if len(latents.models) > 1 else ""


# --- the annotation ------------------------------------------------------------------------------


def _scores(latents: LatentResults) -> Iterator[dict[str, Any]]:
    for model in latents.models:
        table = per_track(latents, model)
        if table["r2"].notna().any():
            alt = f"R² of {table['track'].nunique()} tracks by assay, {model_name(model)} and PCA"
            figure = plots_latents.reconstruction_figure(table, (model, PCA))
            yield _figure(figure, f"latents-{model}", alt, RECONSTRUCTION, _head(latents, model))


def _curves(latents: LatentResults) -> Iterator[dict[str, Any]]:
    if not latents.histories:
        return
    histories = {
        (model_name(run.model), run.fold): table for run, table in latents.histories.items()
    }
    alt = f"Training and validation loss by epoch of {len(histories)} runs"
    yield _figure(plots.learning_curves(histories), "latents-curves", alt, CURVES)


def warnings(latents: LatentResults) -> list[str]:
    """Trainings that look unfinished, unless the learning rate had come to rest."""

    class Moving:
        histories = {
            run: table
            for run, table in latents.histories.items()
            if not _rested(table) or table["validation_loss"].isna().all()
        }

    return curve_warnings(Moving)


def _rested(table: pd.DataFrame) -> bool:
    rate = table["learning_rate"].to_numpy(float)
    return bool(len(rate) and rate[-1] <= AT_REST * np.nanmax(rate))


def _regions(found: Results, latents: LatentResults) -> tuple[list[dict[str, Any]], str]:
    """Pictures of regions inside the page, and a line on those that are files of their own."""
    paths = [
        (run, path)
        for run in latents.runs
        for path in sorted((found.work / run.folder / "regions").glob("*.png"))
    ]
    made = []
    for run, path in paths[:PICTURES]:
        title = path.stem.replace("_", ":", 1)
        title += f" · {_named(latents, run)}" if _named(latents, run) else ""
        data = base64.b64encode(path.read_bytes()).decode()
        alt = escape(f"{title}. {LATENT_REGION_CAPTION}")
        image = Markup(f'<img src="data:image/png;base64,{data}" alt="{alt}">')
        made.append({"heading": title, "svg": image, "caption": LATENT_REGION_CAPTION})
    more = len(paths) - len(made)
    note = f"{more} more figures are files of their own, in regions/ of each run." if more else ""
    return made, note


def _smooth(latents: LatentResults) -> Iterator[dict[str, Any]]:
    """One curve per model, the mean over its runs."""
    curves = {}
    for model in latents.models:
        tables = [
            t for r in latents.of(model) if (t := latents.tables(r, "smoothness")) is not None
        ]
        if tables:
            curves[model] = pd.concat(tables).groupby("bp", as_index=False)["r2"].mean()
    if any(table["r2"].notna().any() for table in curves.values()):
        figure = plots_latents.smoothness_figure(curves)
        yield _figure(figure, "latents-smooth", "R² of latents by distance", SMOOTHNESS)


def _one_run(latents: LatentResults, name: str) -> Iterator[tuple[Run, pd.DataFrame, str]]:
    """The first run of each model that has a table, and a sentence where others are left out.

    Latents of two runs have nothing to do with one another, so they cannot share a figure.
    """
    for model in latents.models:
        runs = [run for run in latents.of(model) if latents.tables(run, name) is not None]
        if runs:
            told = f" Drawn: {runs[0].name}; the others have {name}.tsv of their own."
            yield runs[0], latents.tables(runs[0], name), told if len(runs) > 1 else ""


def _correlations(latents: LatentResults) -> Iterator[dict[str, Any]]:
    for run, table, told in _one_run(latents, "correlations"):
        known = table.dropna(subset=["r"]).drop_duplicates(["latent", "value"])
        if len(known):
            figure = plots_latents.correlation_figure(known)
            alt = "Pearson r of each latent with GC content and conservation"
            name = f"latents-correlations-{run.model}"
            yield _figure(figure, name, alt, CORRELATIONS + told, _head(latents, run.model))


def _positions(latents: LatentResults) -> Iterator[dict[str, Any]]:
    for run, table, told in _one_run(latents, "positions"):
        table = table.dropna(subset=["pc1", "pc2", "explained1", "explained2"])
        if table.empty:
            continue
        shares = table[["explained1", "explained2"]].iloc[0].tolist()
        figure = plots_latents.positions_figure(table, shares)
        alt = f"{len(table)} bins on the two main axes of their latents, by class and by cluster"
        name = f"latents-positions-{run.model}"
        yield _figure(figure, name, alt, POSITIONS + told, _head(latents, run.model))


def _attribution(latents: LatentResults) -> Iterator[dict[str, Any]]:
    """Shares by assay and epigenome, means over the runs of a model."""
    for model in latents.models:
        tables = [latents.tables(run, "attribution") for run in latents.of(model)]
        tables = [table for table in tables if table is not None]
        if not tables:
            continue
        whole = pd.concat(tables).groupby(["kind", "name"], sort=False, as_index=False)
        table = whole.agg({"share": "mean", "channels": "max"}).dropna()
        if table["kind"].isin(["assay", "epigenome"]).any():
            figure = plots_latents.attribution_figure(table)
            alt = "Shares of the attribution by assay and by epigenome"
            name = f"latents-attribution-{model}"
            yield _figure(figure, name, alt, ATTRIBUTION, _head(latents, model))


# --- downstream ----------------------------------------------------------------------------------


def _schemes(table: pd.DataFrame) -> list[str]:
    return [scheme for scheme in SCHEMES if (table["scheme"] == scheme).any()]


def _task_figures(latents: LatentResults) -> Iterator[dict[str, Any]]:
    for run in latents.judged[:RUNS]:
        own = of_tasks(latents, run).dropna(subset=["ap"])
        for place, scheme in enumerate(_schemes(own)):
            figure = plots_latents.tasks_figure(own, scheme)
            alt = f"Average precision by task, cell and predictor, {HOW.get(scheme, scheme)}"
            how = HOW.get(scheme, scheme)
            named = _named(latents, run)
            heading = f"{how[0].upper()}{how[1:]}" + (f" · {named}" if named else "")
            name = f"latents-tasks-{run.model}-{run.name}-{scheme}".replace(".", "-")
            caption = TASKS_CAPTION if place == 0 else f"As above, {how}."
            yield _figure(figure, name, alt, caption, heading)


def _precision_figures(latents: LatentResults) -> Iterator[dict[str, Any]]:
    """Curves of the first run that has any."""
    for run in latents.runs:
        curves, metrics = (
            table[(table["model"] == run.model) & (table["run"] == run.name)]
            for table in (latents.curves, latents.tasks)
        )
        curves = curves.dropna(subset=["recall", "precision"])
        if curves.empty:
            continue
        figure = plots_latents.curves_figure(curves, metrics if len(metrics) else None)
        named = _named(latents, run)
        caption = PRECISION + (f" Drawn: {named}." if named else "")
        yield _figure(figure, "latents-precision", "Precision by recall of each predictor", caption)
        return


def _predictors(latents: LatentResults) -> list[tuple[str, str]]:
    """Predictors of the tasks in the order of the columns."""
    there = set(latents.tasks["predictor"]) - {""}
    known = [name for name in (LATENTS, *COMPARED[:-1]) if name in there]
    others = sorted(there - {*known, COMPARED[-1]})
    return [(name, predictor_name(name)) for name in [*known, *others]]


def _task_rows(latents: LatentResults, run: Run) -> Iterator[dict[str, Any]]:
    """Average precision by task and kind of folds: means over cells."""
    own = of_tasks(latents, run)
    folds = latents.tasks
    folds = folds[(folds["model"] == run.model) & (folds["run"] == run.name)]
    folds = folds[(folds["fold"] != MEAN) & (folds["predictor"] == LATENTS)]
    pairs = [(t, s) for t in dict.fromkeys(own["task"]) for s in _schemes(own[own["task"] == t])]
    for task, scheme in pairs:
        rows = own[(own["task"] == task) & (own["scheme"] == scheme)]
        here = folds[(folds["task"] == task) & (folds["scheme"] == scheme)]
        fresh = here[here["seen"] == "no"]
        known = rows[rows["predictor"] == LATENTS]
        means = rows.groupby("predictor")["ap"].mean().to_dict()
        yield {
            "run": _named(latents, run),
            "task": task_name(task),
            "folds": scheme,
            "cells": int(rows["cell"].nunique()),
            "windows": int(known["n"].max()) if known["n"].notna().any() else None,
            "prevalence": float(rows.drop_duplicates("cell")["prevalence"].mean()),
            "ap": means,
            "top": max((v for v in means.values() if np.isfinite(v)), default=None),
            "unseen": float(fresh["ap"].mean()) if len(fresh) else None,
            "unseen_folds": f"{fresh['fold'].nunique()} of {here['fold'].nunique()}",
        }


def _differences(latents: LatentResults) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of paired differences: over all cells by the headline folds, and all the others.

    The others are cell by cell, and over all cells by folds that are there for comparison.
    """
    whole, shown, others = latents.differences, [], []
    cells = [cell for cell in dict.fromkeys(whole["cell"]) if cell]
    for run in dict.fromkeys([*latents.judged, *latents.runs]):
        for cell in sorted(cells, key=lambda name: name != POOLED):
            for row in against(latents, run, cell).to_dict("records"):
                first = row["scheme"] == headline(whole, row["task"])
                if first or cell == POOLED:
                    main = first and cell == POOLED and run in latents.judged
                    kind = shown if main else others
                    kind.append(_difference(row) | {"run": _named(latents, run)})
    return shown, others


def _difference(row: dict[str, Any]) -> dict[str, Any]:
    told = {key: row[key] for key in ("cell", "cells", "difference", "low", "high", "word")}
    told |= {"task": task_name(row["task"]), "folds": row["scheme"]}
    return told | {"other": called(row["predictor"]), "honest": row["predictor"] == CELL_AVERAGE}
