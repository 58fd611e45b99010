"""The tables of the report: what was run, marks, recorded values, commands, cost."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from epiloom.plan.sequence import of_chromosomes
from epiloom.show.answer import SYMBOLS, Comparison, best_rows
from epiloom.show.canvas import model_name
from epiloom.show.facts import full_name, model_order, published
from epiloom.show.marks import Recorded, gap, grids
from epiloom.show.missing_latents import asked_tasks
from epiloom.show.plots import predictor_order
from epiloom.show.plots_latent_tasks import task_name
from epiloom.show.results import Results, Run, track_names
from epiloom.studies.groups import GROUPS

# --- what was run --------------------------------------------------------------------------------


def question(found: Results) -> str:
    """What the study asks: the title of the page."""
    parts = ["which histone mark predicts expression"] if found.about_genes else []
    parts += ["how well does DNA predict the signal"] if found.sequence else []
    parts += [f"how much of the epigenome do {_numbers(found)} keep"] if found.frames else []
    parts += ["how well are cells predicted that were never profiled"] if found.unprofiled else []
    *first, last = parts
    text = f"{', '.join(first)}, and {last}?" if first else f"{last}?"
    return text[0].upper() + text[1:]


def _numbers(found: Results) -> str:
    sizes = {row.get("latent") for row in found.plan.get("frames") or []}
    size = sizes.pop() if len(sizes) == 1 else None
    return f"{size} numbers per 25 bp" if size else "a few numbers per 25 bp"


def digest(found: Results) -> list[tuple[str, str]]:
    """(key, value) of what was run, in the order a reader asks for it."""
    plan = found.plan
    config = plan.get("config") or {}
    runs = [*found.runs, *found.sequence, *found.frames, *found.unprofiled]
    models = sorted({run.model for run in runs}, key=model_order)
    marks = plan.get("marks") or sorted({m for run in found.runs for m in run.marks.split("+")})
    cells = "; ".join(found.cell_name(cell) for cell in found.cells)
    rows = [
        ("assembly", config.get("assembly", "")),
        ("cells", cells if found.about_genes else ""),
        ("marks", ", ".join(marks) if found.about_genes else ""),
        ("tracks predicted from DNA", _told_targets(plan)),
        ("tracks compressed", _told_channels(plan)),
        ("cells predicted", _told_cells(plan)),
        ("downstream tasks", ", ".join(map(task_name, asked_tasks(found)))),
        ("models", ", ".join(full_name(model, config) for model in models)),
        ("runs", _count_runs(runs)),
        ("seed", plan.get("seed", "")),
        ("configuration", plan.get("config_file", "")),
        ("code", f"commit {plan['commit']}" if plan.get("commit") else ""),
        ("made", plan.get("date", "")),
    ]
    for name, settings in (config.get("models") or {}).items():
        told = {key: value for key, value in (settings or {}).items() if value is not None}
        listed = [f"{key} {_short(value)}" for key, value in told.items()]
        rows.append((f"{model_name(name)} settings", "; ".join(listed)))
    return [(key, str(value)) for key, value in rows if value not in ("", None)]


def _told_targets(plan: dict[str, Any]) -> str:
    targets = plan.get("targets") or {}
    return "; ".join(f"{name} ({told})" if told else name for name, told in targets.items())


def _told_channels(plan: dict[str, Any]) -> str:
    """`1,014 tracks of 127 cell types and 24 assays, into 24 numbers per 25 bp`, by model."""
    told = {}
    for row in plan.get("frames") or []:
        names = [track.rpartition(".")[0].partition("-") for track in row.get("channels") or ()]
        cells, assays = {cell for cell, _, _ in names}, {assay for _, _, assay in names}
        told[row["model"]] = (
            f"{len(names):,} tracks of {len(cells)} cell type{'s' if len(cells) != 1 else ''} and "
            f"{len(assays)} assay{'s' if len(assays) != 1 else ''}, into {row['latent']} numbers "
            "per 25 bp"
        )
    if len(told) < 2:
        return "".join(told.values())
    return "; ".join(f"{model_name(model)}: {text}" for model, text in told.items())


def _told_cells(plan: dict[str, Any]) -> str:
    """`3 signals of 11 cells: 7 train, 1 validates, 3 are held out`, by model."""
    told: dict[str, str] = {}
    turns: dict[str, dict[str, list[str]]] = {}
    for row in plan.get("cell_models") or []:
        cells, model = row.get("cells") or {}, row["model"]
        train, chosen, test = (len(cells.get(s) or ()) for s in ("train", "validation", "test"))
        told[model] = f"{len(row.get('signals') or ())} signals of {train + chosen + test} cells: "
        if "cell_fold" in row:
            turns.setdefault(model, {})[row["cell_fold"]] = list(cells.get("test") or ())
            held = {cell for names in turns[model].values() for cell in names}
            told[model] += f"{len(held)} held out in turn, in {len(turns[model])} cell folds"
        else:
            told[model] += f"{train} for training, {chosen} for validation, {test} held out"
    if len(told) < 2:
        return "".join(told.values())
    return "; ".join(f"{model_name(model)}: {text}" for model, text in told.items())


def _short(value: Any) -> str:
    if isinstance(value, dict):
        told = {key: item for key, item in value.items() if item is not None}
        return ", ".join(f"{key} {_short(item)}" for key, item in told.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _count_runs(runs: Sequence[Run]) -> str:
    if not runs:
        return ""
    controls = sum(run.shuffled for run in runs)
    real = len(runs) - controls
    text = f"{real} training run{'s' if real != 1 else ''}"
    return f"{text} and {controls} with shuffled labels" if controls else text


def folds(
    found: Results, bins: Mapping[str, int], small: Mapping[str, int]
) -> list[dict[str, Any]]:
    """name, validation, test (chromosomes) and the numbers of test genes and bins, if known.

    Args:
        bins: fold -> test bins of models of DNA. small: the same of models that compress tracks.
    """
    config = found.plan.get("config") or {}
    folds = {name: dict(fold) for name, fold in (config.get("folds") or {}).items()}
    for row in found.plan.get("runs") or []:
        if isinstance(row["fold"], dict):
            folds.setdefault(row["fold"]["name"], row["fold"])
    if config.get("swap_folds"):
        swapped = {f"{name}s": fold for name, fold in folds.items()}
        for name, fold in swapped.items():
            turned = {"validation": fold.get("test"), "test": fold.get("validation")}
            folds.setdefault(name, turned)
    for run in (*found.runs, *found.sequence, *found.frames, *found.unprofiled):
        folds.setdefault(of_chromosomes(run.fold), {})
    made = []
    for name, fold in folds.items():
        n = found.metrics.loc[found.metrics["fold"] == name, "n"].dropna()
        chroms = {part: ", ".join(fold.get(part) or []) for part in ("validation", "test")}
        genes = int(n.max()) if len(n) else None
        counts = {"genes": genes, "bins": bins.get(name), "small": small.get(name)}
        made.append({"name": name, **chroms, **counts})
    return made


# --- tables --------------------------------------------------------------------------------------


def best_keys(rows: Sequence[Comparison]) -> set[tuple[str, str, str]]:
    """(model, cell, marks) of the best single mark of each model and cell."""
    return {group[0].key for group in best_rows(rows).values()}


def baseline_columns(rows: Sequence[Comparison]) -> list[str]:
    found = {score.predictor for row in rows for score in row.baselines}
    return predictor_order(sorted(found), "")


def fold_rows(found: Results) -> list[dict[str, Any]]:
    metrics = found.metrics
    ours = metrics["predictor"].isin(
        {*metrics["model"], *(m + "_shuffled" for m in metrics["model"])}
    )
    return metrics[ours & (metrics["fold"] != "pooled")].to_dict("records")


# --- which mark ----------------------------------------------------------------------------------


def marks(table: pd.DataFrame) -> dict[str, Any]:
    """Rows and columns of the table of marks: every mark alone, and all marks together.

    Empty without any. A row: model, distance, marks, kind, whole (the row of the table over all
    cells), groups (the rows of the groups, None where there is none).
    """
    shown = table[table["kind"].isin(["single", "all"])]
    whole = shown[shown["level"] == "all"]
    if whole.empty:
        return {}
    per_group = shown[shown["level"] == "group"]
    counts = {
        name: int(rows["n_cells"].max()) for name, rows in per_group.groupby("cells", sort=False)
    }
    groups = [name for name in GROUPS if name in counts]
    several = table.loc[table["level"] == "cell", "cells"].nunique() > 1
    places = {
        (row["model"], row["marks"], row["cells"]): row for row in per_group.to_dict("records")
    }
    ranked = whole.assign(last=whole["kind"] == "all", far=whole["model"].map(model_order))
    ranked = ranked.sort_values(["far", "last", "value"], ascending=[True, True, False])
    rows = [
        {
            "whole": row,
            "groups": [places.get((row["model"], row["marks"], name)) for name in groups],
        }
        for row in ranked.to_dict("records")
    ]
    return {
        "rows": rows,
        "groups": [(name, counts[name]) for name in groups] if several else [],
        "cells": int(whole["n_cells"].max()),
        "gap": bool(whole["gap_to_all"].notna().any()),
        "second": bool(whole["second_mark"].notna().any()),
        "published": bool(whole["published"].notna().any()),
        "measures": sorted({SYMBOLS[measure] for measure in whole["measure"]}, reverse=True),
    }


def closing(found: Results) -> list[dict[str, Any]]:
    """Per model: the gap of single active marks and of pairs to all marks, and what pairs close."""
    recorded = Recorded(found)
    return [
        {"model": grid.model, "gap": each, "recorded": recorded.gap(grid)}
        for grid in grids(found)
        if (each := gap(grid)) and each.pair_count
    ]


def anchors(found: Results) -> list[dict[str, Any]]:
    """Recorded means over cells (model, marks, r); none where data are simulated."""
    table = published()
    return [] if found.plan.get("simulated") else table[table["cell"] == "mean"].to_dict("records")


def commands(found: Results) -> list[tuple[str, str]]:
    """(what for, command) that fit this very configuration."""
    config = found.plan.get("config_file")
    given = f" --configfile {shlex.quote(config)}" if config else ""
    options = found.plan.get("options", f"--cores all{given}")
    edited = config or "config/config.yaml"
    rows = []
    runs = [*found.runs, *found.sequence, *found.frames, *found.unprofiled]
    runs = [run for run in runs if not run.shuffled]
    if runs:
        folder = str(runs[0].folder)
        metrics, weights = (shlex.quote(f"{folder}/{n}") for n in ("metrics.tsv", "weights.pt"))
        rows.append(
            ("make or repeat one result and what it needs", f"snakemake {metrics} {options}")
        )
        rows.append(
            ("train one model again from the start", f"snakemake {weights} --force {options}")
        )
    of_dna = found.sequence and not (found.about_genes or found.frames or found.unprofiled)
    add = "a track: edit targets" if of_dna else "a mark or a cell: edit marks or cells"
    if found.unprofiled and not (found.about_genes or found.frames or found.sequence):
        add = f"a cell or hold out another: edit models.{found.unprofiled[0].model}"
    rows.append((f"add {add} in {edited}, then look", f"snakemake -n {options}"))
    rows.append(("run it: only what is new is computed", f"snakemake {options}"))
    reads = [track for track in track_names(found) if track.endswith(".reads")]
    if reads:
        target = shlex.quote(f"results/tracks/{reads[0]}.depth.bw")
        rows.append(
            ("look at a track in a genome browser (bigWig)", f"snakemake {target} {options}")
        )
    return rows


def cost(benchmarks: pd.DataFrame) -> dict[str, Any]:
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
