"""Models that read all tracks of many cell types at once: their channels, runs and files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from epiloom.plan import checks, downstream, sequence
from epiloom.plan.checks import chromosomes
from epiloom.plan.config import hint
from epiloom.plan.tracks import SOURCE_OF, OwnTrack, Track, serves

if TYPE_CHECKING:
    from epiloom.plan.runs import Plan

DATASET = "frames"
BIN_BP = 25  # of the published annotation
ALL = "all"
AVOCADO24 = "avocado24"
ONLY_ASKED = (
    "cells",
    "marks",
    "regions",
    "tracks",
    "correlate_with",
)  # options that do not change a training
AVOCADO = (  # the assays of Schreiber et al. 2020, in their order
    *("H3K27me3", "H3K4me3", "H3K9me3", "H3K36me3", "H3K4me1", "H3K27ac", "H3K9ac", "DNase"),
    *("H3K4me2", "H2A.Z", "H3K79me2", "H4K20me1", "H3K79me1", "H3K4ac", "H4K8ac", "H3K23ac"),
    *("H3K18ac", "H2BK5ac", "H2BK120ac", "H2AK5ac", "H3K14ac", "H2BK12ac", "H4K91ac", "H2BK15ac"),
)
_REGION = re.compile(r"([A-Za-z0-9_.]+):([\d,]+)-([\d,]+)")
ANALYSES = (
    *("metrics.tsv", "pca.npz", "smoothness.tsv", "correlations.tsv", "attribution.tsv"),
    "positions.tsv",
)
OWN_FOLDS = "own_folds"  # stands for all runs of a model, each fold scored by its own
OUTCOMES = ("metrics.tsv", "differences.tsv", "curves.tsv", "scores.tsv.gz")  # of a task


def models(plan: Plan) -> list[str]:
    """Models of the configuration that read all tracks."""
    return [m for m in plan.config["models"] if plan.cards[m]["dataset"] == DATASET]


def asked_cells(plan: Plan, model: str, own: Mapping[tuple[str, str], OwnTrack]) -> list[str]:
    """Cell types whose tracks are read."""
    given = plan.config["models"][model]["cells"]
    if given == ALL:
        sim = plan.config["simulate"]
        known = sim["cells"] if sim else [*plan.cells, *(cell for cell, _ in own)]
        return list(dict.fromkeys(known))
    return given or plan.config["cells"]


def asked_marks(plan: Plan, model: str) -> list[str]:
    """Assays whose tracks are read."""
    given = plan.config["models"][model]["marks"]
    return list(AVOCADO) if given == AVOCADO24 else given or plan.config["marks"]


def check(
    plan: Plan, known_marks: Mapping[str, dict], own: Mapping[tuple[str, str], OwnTrack]
) -> Iterator[str]:
    """Problems of these models' settings, as lines."""
    for model in models(plan):
        options = plan.config["models"][model]
        if BIN_BP not in plan.config["bins_bp"]:
            yield f"bins_bp: {model} reads bins of {BIN_BP} bp; add {BIN_BP}"
        cells = {*plan.cells, *(cell for cell, _ in own)}
        marks = {*known_marks, *(mark for _, mark in own)}
        for key, asked, known in (
            ("cells", asked_cells(plan, model, own), cells),
            ("marks", asked_marks(plan, model), marks),
        ):
            for name in asked:
                if name not in known:
                    yield (
                        f"models.{model}.{key}: '{name}' is neither in config/{key}.tsv nor in "
                        f"your tracks table{hint(name, sorted(known))}; correct it"
                    )
            if not asked:
                yield f"models.{model}.{key}: neither this key nor `{key}` names any; name some"
        weights = options["assay_weights"]
        for mark in weights if isinstance(weights, dict) else ():
            if mark not in asked_marks(plan, model):
                yield (
                    f"models.{model}.assay_weights: '{mark}' is not read"
                    f"{hint(mark, asked_marks(plan, model))}; correct it or leave it out"
                )
        if options["bidirectional"] and options["latent"] % 2:
            yield (
                f"models.{model}.latent: {options['latent']} is odd; with bidirectional both "
                "directions have half of it"
            )
        there = chromosomes(plan.config)
        for text in options["regions"]:
            region = _REGION.fullmatch(text)
            if not region:
                yield (
                    f"models.{model}.regions: '{text}' is no region; give CHROM:START-END, 0-based"
                )
            elif region[1] not in there:
                yield (
                    f"models.{model}.regions: '{region[1]}' is no chromosome of the study"
                    f"{hint(region[1], there)}"
                )
        for place in options["tracks"]:
            if place not in (ALL, *there):
                yield (
                    f"models.{model}.tracks: '{place}' is no chromosome of the study"
                    f"{hint(place, [ALL, *there])}"
                )
        yield from checks.trained_folds(plan.config, model)
        if options["epochs"] == 0 and not options["start"]:
            yield f"models.{model}.epochs: 0 needs weights; name them in `start`"


def add(
    plan: Plan,
    root: Path,
    add_file: Callable[..., str],
    own: Mapping[tuple[str, str], OwnTrack],
    folds: list[dict],
) -> list[str]:
    """Put the channels of these models into the plan: every pair that exists.

    Returns:
        Problems, as lines.
    """
    problems = []
    for model in models(plan):
        signal = plan.config["models"][model]["signal"]
        found = []
        for cell in asked_cells(plan, model, own):
            for mark in asked_marks(plan, model):
                track = track_of(plan, root, add_file, own.get((cell, mark)), cell, mark, signal)
                if track:
                    plan.channel_tracks[track.name] = track
                    found.append(track.name)
        if len(found) < 2:
            problems.append(
                f"models.{model}: {len(found)} of its tracks exist with signal {signal}; name more "
                "cells or marks, or rows of that kind in your tracks table"
            )
        plan.channels[model] = found
        sequence.add_start(plan, model, folds, add_file)
        compared = plan.config["models"][model]["correlate_with"]
        if "gc" in compared:
            plan.inputs["genome_fasta"] = add_file("genome_fasta")
        if "conservation" in compared:
            plan.inputs["conservation"] = add_file(plan.config["sequence"]["conservation"])
    return problems


def track_of(
    plan: Plan,
    root: Path,
    add_file: Callable[..., str],
    row: OwnTrack | None,
    cell: str,
    mark: str,
    signal: str,
) -> Track | None:
    """One channel; None if no such track exists."""
    if row and serves(row.kind) == signal:
        key = {"bam": "own_bam", "depth": "own_depth"}.get(row.kind, SOURCE_OF[signal])
        named = f"{plan.config['tracks']} line {row.line}"
        return Track(cell, mark, row.kind, add_file(key, named, row.file, cell=cell, mark=mark))
    if not exists(plan, root, cell, mark, signal):
        return None
    return Track(cell, mark, signal, add_file(SOURCE_OF[signal], cell=cell, mark=mark))


def exists(plan: Plan, root: Path, cell: str, mark: str, signal: str) -> bool:
    """Whether there is a public (or simulated, or replaced) track of this kind of signal."""
    from epiloom.plan.runs import locate

    sim = plan.config["simulate"]
    if sim:
        return cell in sim["cells"] and mark in sim["assays"]
    local = plan.config["sources"]["local"].get(SOURCE_OF[signal])
    if local and "://" not in local:
        return locate(local.replace("{cell}", cell).replace("{mark}", mark), root).exists()
    return mark in plan.cells.get(cell, {}).get("marks", "").split(",")


def runs(plan: Plan, model: str, folds: list[dict], shared: dict) -> dict[tuple[str, str], dict]:
    """One run per fold, named by it."""
    options = plan.config["models"][model]
    kept = {key: v for key, v in shared.items() if key not in ONLY_ASKED}
    own = kept | {"channels": plan.channels[model], "bin_bp": BIN_BP, "model": model}
    return {
        (model, fold["name"]): own | {"fold": fold} for fold in sequence.trained(options, folds)
    }


def example_files(plan: Plan, model: str) -> dict[str, str]:
    """What the examples of a run are read from, by the names that their reader knows."""
    store = f"results/store/{plan.assembly}"
    tiles = f"{store}/tiles{BIN_BP}/{model}"
    return {
        "manifest": f"{store}/manifest.json",
        "tiles": f"{tiles}.npy",
        "flags": f"{tiles}.flags.npy",
        "channels": f"{tiles}.json",
    }


def compared_files(plan: Plan, model: str) -> dict[str, str]:
    """What latents are set beside, by name: vectors of the store."""
    store, asked = f"results/store/{plan.assembly}", plan.config["models"][model]["correlate_with"]
    kept = plan.config["sequence"]["conservation"]
    files = {
        "gc": f"{store}/sequence/bases.npy",
        "conservation": f"{store}/conservation/{kept}.npy",
    }
    return {name: files[name] for name in asked}


def outcomes(plan: Plan) -> list[str]:
    """Paths of what the downstream tasks tell, for every run."""
    return [
        f"results/{model}/{run}/downstream/{task}.{name}"
        for model, run in plan.frame_runs
        for task in downstream.tasks(plan)
        for name in OUTCOMES
    ]


def pooled(plan: Plan) -> list[tuple[str, str]]:
    """Models and tasks whose folds several runs divide among them."""
    several = [m for m in models(plan) if sum(model == m for model, _ in plan.frame_runs) > 1]
    return [(model, task) for model in several for task in downstream.tasks(plan)]


def shown(plan: Plan) -> list[str]:
    """Paths of what the report reads."""
    names = ("history.tsv", *(n for n in ANALYSES if n.endswith(".tsv")))
    paths = [f"results/{model}/{run}/{name}" for model, run in plan.frame_runs for name in names]
    for model, run in plan.frame_runs:
        options = plan.config["models"][model]
        paths += [
            f"results/{model}/{run}/regions/{sequence.region_name(r)}.png"
            for r in options["regions"]
        ]
    tables = ("downstream.tsv", "downstream.differences.tsv") if outcomes(plan) else ()
    return [*paths, *outcomes(plan), *(f"results/tables/{name}" for name in tables)]


def results(plan: Plan) -> list[str]:
    """Paths of what these models' runs come to."""
    paths = [*shown(plan), *(downstream.labels(plan) if plan.frame_runs else ())]
    for model, run in plan.frame_runs:
        own, options = f"results/{model}/{run}", plan.config["models"][model]
        paths += [f"{own}/{name}" for name in ("weights.pt", *ANALYSES)]
        paths += [f"{own}/latents", *example_files(plan, model).values()]
        paths += [f"{own}/tracks/{place}" for place in options["tracks"]]
    return list(dict.fromkeys(paths))
