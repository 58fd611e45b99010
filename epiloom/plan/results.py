"""What a plan comes to: all results by path, the room they take, and the plan as plain values."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from epiloom.plan import studies
from epiloom.plan.errors import InputError
from epiloom.plan.runs import Plan, example_files


def results(plan: Plan) -> list[str]:
    """Paths of all results that the report is made of."""
    store, tracks = f"results/store/{plan.assembly}", list(plan.tracks)
    per_run = ("weights.pt", "history.tsv", "predictions.tsv", "baselines.tsv", "metrics.tsv")
    paths = [
        f"{store}/manifest.json",
        "results/genes/genes.tsv",
        "results/genes/expression.tsv",
        "results/qc/tracks.tsv",
        "results/provenance.json",
        *(f"{store}/bins{size}/{t}.npy" for size in plan.config["bins_bp"] for t in tracks),
        *(f"{store}/mask/{size}.npy" for size in plan.config["bins_bp"]),
        *(f"{store}/tracks/{t}.json" for t in tracks),
        *(f"results/qc/{t}.tsv" for t in tracks),
        *(f"results/features/{t}.npy" for t in tracks if plan.runs),
        *(path for s in plan.runs.values() for path in _partner_files(plan, s)),
        *(f"results/tables/{model}.tsv" for model in plan.config["models"]),
        *(f"results/{model}/{run}/{name}" for model, run in plan.runs for name in per_run),
    ]
    return list(dict.fromkeys(paths + studies.results(plan)))


def _partner_files(plan: Plan, settings: dict) -> list[str]:
    files = example_files(plan, settings)
    if "partners" not in files:
        return []
    return [files["partners"], files["regions"], *files["partner_bins"]]


def disk_bytes(plan: Plan, genome_bp: float = 3.1e9, genes: int = 20_000) -> float:
    """About how much the results take beside the downloads (float16 bins, float32 features)."""
    sim = plan.config["simulate"]
    if sim:
        genome_bp, genes = sim["chromosomes"] * sim["length_bp"], 2_000
    bins = sum(2 * genome_bp / size for size in plan.config["bins_bp"])
    masks = sum(genome_bp / size for size in plan.config["bins_bp"])
    features = genes * 400 * 4 * (1.5 if plan.contacts else 1.0) if plan.runs else 0
    per_run = 12e6 + genes * 200
    return len(plan.tracks) * (bins + features) + masks + len(plan.runs) * 4 * per_run


def check_place(plan: Plan, folder: Path) -> None:
    """The working directory can be written and has room for the results that are not there yet.

    Raises:
        InputError: names the folder, what is needed and what is free.
    """
    problems = []
    for name in (".", "results", "resources", "runs", "logs"):
        if (folder / name).is_dir() and not os.access(folder / name, os.W_OK):
            problems.append(
                f"{name}: cannot be written; make it writable, or work elsewhere with "
                "`snakemake --directory FOLDER`"
            )
    done = sum(p.stat().st_size for p in (folder / "results").rglob("*") if p.is_file())
    needed, free = disk_bytes(plan) - done, shutil.disk_usage(folder).free
    if needed > free:
        problems.append(
            f"the results take about {needed / 1e9:.2f} GB more, {free / 1e9:.2f} GB are free; "
            "free some space, name fewer tracks or `bins_bp`, or work elsewhere with `snakemake "
            "--directory FOLDER`"
        )
    if problems:
        raise InputError(folder.absolute(), problems)


def as_dict(plan: Plan) -> dict:
    """The plan as plain values: what the report says was asked for."""
    return {
        "config": plan.config,
        "config_file": plan.where,
        "simulated": bool(plan.config["simulate"]),
        "cells": {c: plan.cells.get(c, {}).get("name", c) for c in plan.config["cells"]},
        "marks": plan.config["marks"],
        "seed": plan.config["seed"],
        "tracks": list(plan.tracks),
        "runs": [
            {
                "model": model,
                "run": run,
                "cell": s["cell"],
                "marks": s["marks"],
                "fold": s["fold"]["name"],
                "shuffled": s["shuffled"],
            }
            for (model, run), s in plan.runs.items()
        ],
        "sources": [
            {"key": s.key, "path": path, "url": s.local or s.url} for path, s in plan.files.items()
        ],
    }
