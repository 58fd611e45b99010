"""Models that predict the signals of cells never profiled: parts of cells, runs, files.

What a run's settings hold beside the network's keys: `cells` (train, validation, test: names),
`signals` (in the order of the targets), `bin_bp`, `seq_bp`, `factors` (the TFs asked for, None for
all of the motif set), `motifs`, `tf_expression`, `regions` and `loops`. How many TFs there are is
known when the data are made: the examples tell (`example_files`), and the network is built for it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from epiloom.plan import sequence

if TYPE_CHECKING:
    from epiloom.plan.runs import Plan

DATASET = "regions"
SIGNALS = ("DNase", "CTCF", "H3K27ac", "H3K4me3", "H3K36me3", "H3K27me3", "H3K9me3", "H3K4me1")
SIZES = {"paper_dnase": (10_000, 200), "tiny": (2_048, 128)}  # preset -> bases of region and bin
USUAL = (128_000, 128)
PARTS = ("train", "validation", "test")
ONLY_ASKED = (
    "tfs",
    "test_cells",
    "validation_cells",
    "cell_groups",
    "cell_folds",
    "evaluate_regions",
)


def models(plan: Plan) -> list[str]:
    """Models of the configuration that predict the signals of cells."""
    return [m for m in plan.config["models"] if plan.cards[m]["dataset"] == DATASET]


def runs_of(plan: Plan) -> dict[tuple[str, str], dict]:
    """Their runs."""
    return {k: s for k, s in plan.runs.items() if s["examples"] == DATASET}


def sizes(options: Mapping) -> tuple[int, int]:
    """Bases of a region and of a bin."""
    seq_bp, size = SIZES.get(options["preset"], USUAL)
    return options["seq_bp"] or seq_bp, math.prod(options["pools"]) if options["pools"] else size


def bin_bp(plan: Plan) -> int:
    """Bases of a bin; all models of the kind have the same."""
    return next((sizes(plan.config["models"][m])[1] for m in models(plan)), USUAL[1])


def folds_of(plan: Plan, model: str) -> list[str]:
    """Names of the cell folds; [""] where one division of the cells holds for all runs."""
    return list(plan.cell_folds[model])


def cell_fold(run: str) -> str:
    """The cell fold of a run: `E003` of `fold1.E003`, "" of `fold1`."""
    return run.partition(".")[2]


def folder(model: str, fold: str = "") -> str:
    """Where files lie, below results/, that depend on which cells train."""
    return f"{model}/{fold}" if fold else model


def divisions(plan: Plan) -> dict[str, tuple[str, str]]:
    """Such folder -> model and cell fold; the rules' wildcard `division` is the folder."""
    return {folder(m, fold): (m, fold) for m in models(plan) for fold in folds_of(plan, m)}


def parts(plan: Plan, model: str, fold: str = "") -> dict[str, list[str]]:
    """Cells by part, in the order of the configuration, of one cell fold."""
    held = plan.cell_folds[model][fold]
    there = plan.cell_tracks[model]
    train = [cell for cell in there if not any(cell in names for names in held.values())]
    return {"train": train} | {p: [c for c in there if c in names] for p, names in held.items()}


def cells(plan: Plan, model: str, fold: str | None = None) -> list[str]:
    """All cells: those of training, then those of validation, then those of the test.

    They are the same in all cell folds but for their order; without one, that of the first.
    """
    fold = folds_of(plan, model)[0] if fold is None else fold
    return [cell for names in parts(plan, model, fold).values() for cell in names]


def signals(plan: Plan, model: str) -> list[str]:
    """Signals in the order of the targets: those named, or those of the eight that cells have.

    With cell folds those that training cells of every fold have, so that all runs are alike.
    """
    given = plan.config["models"][model]["signals"]
    there = [
        {s for c in parts(plan, model, fold)["train"] for s in plan.cell_tracks[model][c]}
        for fold in folds_of(plan, model)
    ]
    return given or [s for s in asked_signals(plan, model) if all(s in own for own in there)]


def tracks(plan: Plan, model: str, cell: str) -> dict[str, str]:
    """Track of each signal of a cell; a signal without a track is missing there."""
    known = signals(plan, model)
    return {s: t for s, t in plan.cell_tracks[model][cell].items() if s in known}


def asked_signals(plan: Plan, model: str) -> tuple[str, ...]:
    """Signals that are looked for: those named, or the eight (DNase alone in bins of 200 bp)."""
    options = plan.config["models"][model]
    return tuple(options["signals"] or (SIGNALS[:1] if sizes(options)[1] == 200 else SIGNALS))


def check(plan: Plan, known_marks: Mapping[str, dict], own: Mapping) -> Iterator[str]:
    """Problems of these models' settings, as lines (see `unprofiled_inputs`)."""
    from epiloom.plan import unprofiled_inputs

    return unprofiled_inputs.check(plan, known_marks, own)


def add(
    plan: Plan, root: Path, add_file: Callable[..., str], own: Mapping, folds: list[dict]
) -> list[str]:
    """Put all that these models read into the plan; returns problems (see `unprofiled_inputs`)."""
    from epiloom.plan import unprofiled_inputs

    return unprofiled_inputs.add(plan, root, add_file, own, folds)


# --- what the rules ask ---------------------------------------------------------------------------


def loop_cells(plan: Plan, model: str) -> list[str]:
    """Cells whose loops are read."""
    return [cell for cell in cells(plan, model) if f"loops.{cell}" in plan.inputs]


def motif_rule(plan: Plan) -> dict:
    """How sites are scored (see `epiloom.data.motif_sets.Rule`)."""
    asked = next((plan.config["models"][m]["motifs"] for m in models(plan)), {})
    return {k: asked[k] for k in ("threshold", "value", "pseudocount", "gc") if k in asked}


def motif_tfs(plan: Plan) -> list[str] | None:
    """The TFs that are asked for; None for all of the motif set."""
    return next((plan.config["models"][m]["tfs"] for m in models(plan)), None)


def loop_options(plan: Plan) -> dict:
    """Which loops count, and how much; `assembly` is the one that their table is on."""
    for model in models(plan):
        asked = plan.config["models"][model]["loops"]
        own = {key: asked[key] for key in ("max_q", "weight")}
        return own | {"assembly": loop_assembly(plan, model)}
    return {}


def loop_assembly(plan: Plan, model: str) -> str:
    """Assembly of the loops' table; a simulated genome has no other."""
    asked = plan.config["models"][model]["loops"]["assembly"]
    return plan.assembly if plan.config["simulate"] or not asked else asked


def motif_set(plan: Plan) -> str:
    """Name of the motif block: the file, the rule, and a digest of what else is not usual."""
    options = next((plan.config["models"][m] for m in models(plan)), None)
    if not options:
        return ""
    asked = options["motifs"]
    stem = Path(asked["file"]).name.partition(".")[0] if asked["file"] else "hocomoco"
    parts = [stem, asked["threshold"]]
    parts += [f"{asked['value']:g}"] if asked["threshold"] in ("p", "fraction") else []
    rest = [asked["pseudocount"], asked["gc"], asked["scan"], asked["table"], options["tfs"]]
    if rest != [0, 0.5, "genome", None, None]:
        parts.append(hashlib.sha256(json.dumps(rest).encode()).hexdigest()[:8])
    return re.sub(r"\W", "_", "_".join(parts))


def motif_regions(plan: Plan) -> str | list[str]:
    """The regions that motifs are looked for in; [] for the whole genome."""
    for model in models(plan):
        if plan.config["models"][model]["motifs"]["scan"] == "regions":
            return f"results/{model}/regions.bed"
    return []


def peak_files(plan: Plan) -> list[str]:
    """Peak files that tell the regions, if any do."""
    return [path for key, path in plan.inputs.items() if key.startswith("region_peaks.")]


def raw(plan: Plan, names: Mapping[str, str]) -> list[str]:
    """Files of binned tracks, of tracks by signal."""
    folder = f"results/store/{plan.assembly}/raw{bin_bp(plan)}"
    return [f"{folder}/{name}.{end}" for name in names.values() for end in ("npy", "json")]


def train_raw(plan: Plan, model: str, fold: str = "") -> list[str]:
    """The same of all training cells."""
    train = parts(plan, model, fold)["train"]
    return [file for cell in train for file in raw(plan, tracks(plan, model, cell))]


def described(plan: Plan, model: str, fold: str = "") -> dict:
    """Cells as the rule that settles the scales needs them: tracks, names and parts."""
    split = {cell: part for part, names in parts(plan, model, fold).items() for cell in names}
    return {
        "tracks": {cell: tracks(plan, model, cell) for cell in split},
        "names": {cell: plan.cells.get(cell, {}).get("name", cell) for cell in split},
        "parts": split,
        "signals": signals(plan, model),
        "force": plan.config["models"][model]["cell_groups"] == "none",
    }


def example_files(plan: Plan, model: str, fold: str = "") -> dict[str, str | list[str]]:
    """What the examples of a run of a cell fold are read from, by the names their reader knows.

    `signals` and `cell_facts` are in the order of `cells`, `loops` in that of `loop_cells`. TFs are
    those of `reference`; each is a column of `motifs`, whose order `motif_facts` tells (`tfs`), and
    a column of `vectors`. `motif_facts` has the step of the stored scores.
    """
    store, size = f"results/store/{plan.assembly}", bin_bp(plan)
    own, there = f"results/{folder(model, fold)}", cells(plan, model, fold)
    block = f"{store}/motifs{size}/{motif_set(plan)}"
    files: dict[str, str | list[str]] = {
        "manifest": f"{store}/manifest.json",
        "mask": f"{store}/mask/{size}.npy",
        "bases": f"{store}/sequence/bases.npy",
        "regions": f"results/{model}/regions.bed",
        "scales": f"{own}/signals/scales.json",
        "signals": [f"{own}/signals/{cell}.npy" for cell in there],
        "cell_facts": [f"{own}/signals/{cell}.json" for cell in there],
        "mean": f"{own}/signals/mean.npy",
        "mean_facts": f"{own}/signals/mean.json",
        "reference": f"{own}/factors/reference.json",
        "vectors": f"{own}/factors/vectors.npz",
        "motifs": f"{block}.npy",
        "motif_flags": f"{block}.flags.npy",
        "motif_facts": f"{block}.json",
    }
    if loop_cells(plan, model):
        loops = [f"{store}/loops{size}/{cell}.npz" for cell in loop_cells(plan, model)]
        files["loops"] = loops
    return files


def run_folds(plan: Plan, model: str, folds: list[dict]) -> list[dict]:
    """The folds by the names of the model's runs, of which each has one.

    Cells are the same in all runs, `fold1`; with cell folds there are `fold1.E003` and so on.
    """
    return [
        fold | {"name": f"{fold['name']}.{of}" if of else fold["name"]}
        for fold in folds
        for of in folds_of(plan, model)
    ]


def runs(plan: Plan, model: str, folds: list[dict], shared: dict) -> dict[tuple[str, str], dict]:
    """One run per fold (see `run_folds`), named by it."""
    options = plan.config["models"][model]
    kept = {key: v for key, v in shared.items() if key not in ONLY_ASKED}
    seq_bp, size = sizes(options)
    own = kept | {
        "model": model,
        "signals": signals(plan, model),
        "factors": options["tfs"],
        "seq_bp": seq_bp,
        "bin_bp": size,
        "loop_cells": loop_cells(plan, model),
    }
    return {
        (model, fold["name"]): own
        | {"fold": fold, "cells": parts(plan, model, cell_fold(fold["name"]))}
        for fold in sequence.trained(options, run_folds(plan, model, folds))
    }


def shown(plan: Plan) -> list[str]:
    """Paths of what the report reads."""
    paths = [f"results/{model}/{run}/history.tsv" for model, run in runs_of(plan)]
    for model in models(plan):
        for fold in folds_of(plan, model):
            files = example_files(plan, model, fold)
            paths += [files[name] for name in ("scales", "regions", "reference")]
    return list(dict.fromkeys(paths))


def data(plan: Plan) -> list[str]:
    """Paths of what the data rules make, whether or not anything is trained."""
    files = [f for of in divisions(plan).values() for f in example_files(plan, *of).values()]
    return list(dict.fromkeys(f for e in files for f in ([e] if isinstance(e, str) else e)))


def results(plan: Plan) -> list[str]:
    """Paths of what these models' runs come to."""
    return list(dict.fromkeys([*shown(plan), *data(plan)]))


def disk_bytes(plan: Plan, genome_bp: float, tfs: int = 700) -> float:
    """About how much the data of these models take beside the downloads."""
    total = 0.0
    for model in models(plan):
        bins = genome_bp / bin_bp(plan)
        there = [tracks(plan, model, cell) for cell in cells(plan, model)]
        total += genome_bp + bins * (tfs + 1) + 4 * bins * sum(map(len, there))
        divided = len(folds_of(plan, model))
        total += 2 * bins * len(signals(plan, model)) * (len(there) + 1) * divided
    return total


def track_names(plan: Plan) -> list[str]:
    """Tracks that are binned for these models."""
    return list(
        dict.fromkeys(
            name
            for model in models(plan)
            for cell in cells(plan, model)
            for name in tracks(plan, model, cell).values()
        )
    )
