"""What a plan comes to: all results by path, the room they take, and the plan as plain values."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from epiloom.plan import activity, channels, sequence, studies, unprofiled, unprofiled_asked
from epiloom.plan.errors import InputError
from epiloom.plan.runs import Plan, example_files

MARKS = ("marks.tsv", "marks.png", "second_marks.png")  # which mark predicts best, of all models
PER_RUN = ("weights.pt", "run.json", "metrics.tsv")  # of every model


def shown(plan: Plan) -> list[str]:
    """Paths of everything that the report reads, beside the record of the plan."""
    per_run = ("history.tsv", "predictions.tsv", "baselines.tsv")
    genes = ("genes/genes.tsv", "genes/expression.tsv", "qc/tracks.tsv") if plan.tracks else ()
    return [
        *(f"results/{name}" for name in genes),
        *(f"results/features/{t}.npy" for t in plan.tracks if plan.gene_runs),
        *(f"results/tables/{model}.tsv" for model in plan.config["models"]),
        *channels.shown(plan),
        *unprofiled.shown(plan),
        *unprofiled_asked.asked(plan),
        *(f"results/{model}/{run}/{name}" for model, run in plan.gene_runs for name in per_run),
        *sequence.shown(plan),
        *activity.tables(plan),
        *studies.results(plan),
    ]


def results(plan: Plan) -> list[str]:
    """Paths of all results but the report."""
    store = f"results/store/{plan.assembly}"
    paths = [
        f"{store}/manifest.json",
        *(f"{store}/bins{size}/{t}.npy" for size in plan.config["bins_bp"] for t in plan.tracks),
        *(f"{store}/mask/{size}.npy" for size in plan.config["bins_bp"]),
        *(f"{store}/tracks/{t}.json" for t in plan.tracks),
        *(f"results/qc/{t}.tsv" for t in plan.tracks),
        *(path for s in plan.gene_runs.values() for path in _partner_files(plan, s)),
        *(path for s in plan.sequence_runs.values() for path in _flat(example_files(plan, s))),
        *(f"results/{m}/{r}/{n}" for m, r in plan.runs for n in PER_RUN),
        *sequence.asked(plan),
        *channels.results(plan),
        *unprofiled.results(plan),
        *activity.results(plan),
        *(f"results/tables/{name}" for name in MARKS if plan.gene_runs),
        "results/provenance.json",
    ]
    return list(dict.fromkeys([*shown(plan), *paths]))


def _partner_files(plan: Plan, settings: dict) -> list[str]:
    files = example_files(plan, settings)
    if "partners" not in files:
        return []
    return [files["partners"], files["regions"], *files["partner_bins"]]


def _flat(files: dict[str, str | list[str]]) -> list[str]:
    return [f for each in files.values() for f in ([each] if isinstance(each, str) else each)]


def disk_bytes(plan: Plan, genome_bp: float = 3.1e9, genes: int = 20_000) -> float:
    """About how much the results take beside the downloads (float16 bins, float32 features)."""
    sim = plan.config["simulate"]
    if sim:
        genome_bp, genes = sim["chromosomes"] * sim["length_bp"], 2_000
    bins = sum(2 * genome_bp / size for size in plan.config["bins_bp"])
    masks = sum(genome_bp / size for size in plan.config["bins_bp"])
    features = genes * 400 * 4 * (1.5 if plan.contacts else 1.0) if plan.gene_runs else 0
    per_run = 12e6 + genes * 200
    dna = 2 * genome_bp if plan.targets else 0  # bases and conservation
    targets = len(plan.targets) * 2 * genome_bp / sequence.bin_bp(plan)
    dna += targets * (1 + len(plan.sequence_runs))  # and what each run predicts
    tiled = [t for names in plan.channels.values() for t in names]
    dna += len({*tiled}) * bins + len(tiled) * 2 * genome_bp / channels.BIN_BP  # and tiles
    latents = {k: 4 * s["latent"] * genome_bp / channels.BIN_BP for k, s in plan.frame_runs.items()}
    dna += sum(latents.values()) + unprofiled.disk_bytes(plan, genome_bp)
    return len(plan.tracks) * (bins + features) + masks + dna + len(plan.runs) * 4 * per_run


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
            for (model, run), s in plan.gene_runs.items()
        ],
        "sequence": [
            {"model": model, "run": run, "fold": s["fold"]["name"], "shuffled": s["shuffled"]}
            for (model, run), s in plan.sequence_runs.items()
        ],
        "frames": [
            {
                "model": model,
                "run": run,
                "fold": s["fold"]["name"],
                "latent": s["latent"],
                "channels": s["channels"],
            }
            for (model, run), s in plan.frame_runs.items()
        ],
        "targets": {name: target.description for name, target in plan.targets.items()},
        "studies": [*activity.tables(plan), *studies.results(plan)],
        "asked": sequence.asked(plan),
        "cell_models": unprofiled_asked.described(plan),
        "asked_cells": unprofiled_asked.asked(plan),
        "sources": [
            {"key": s.key, "path": path, "url": s.local or s.url} for path, s in plan.files.items()
        ],
    }
