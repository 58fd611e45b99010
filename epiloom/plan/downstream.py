"""Downstream tasks of a compressed epigenome: which are asked for, in which cells, their files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from epiloom.plan import sources
from epiloom.plan.checks import chromosomes
from epiloom.plan.config import hint
from epiloom.plan.errors import InputError

if TYPE_CHECKING:
    from epiloom.plan.runs import Plan

TASKS = ("expression", "promoter_enhancer", "fire", "tad_boundary", "replication_timing")
SOURCE = {
    "promoter_enhancer": "enhancer_pairs",
    "fire": "fire_scores",
    "tad_boundary": "tad_boundaries",
    "replication_timing": "replication_timing",
}
NAMED = {"fire": "scores", "tad_boundary": "boundaries"}  # one file for all cells, by its input
LISTED = {"promoter_enhancer": "pairs", "replication_timing": "timing"}  # one file per cell
ALL_GENES = ("roadmap_rpkm", "roadmap_rpkm_nc", "roadmap_rpkm_rb")
# The sample that stands for each epigenome in the published tables.
SAMPLES = {
    **{"E116": "GM12878", "E003": "H1", "E017": "IMR90", "E004": "MES", "E006": "MSC"},
    **{"E007": "NPC", "E005": "TRO"},
}
LINES = {
    "promoter_enhancer": {"E116": "GM12878", "E117": "HeLa-S3", "E017": "IMR90", "E123": "K562"},
    "replication_timing": {
        **{"E017": "Imr90", "E116": "Gm12878", "E117": "Helas3", "E118": "Hepg2"},
        **{"E122": "Huvec", "E123": "K562", "E127": "Nhek"},
    },
}
# Embryonic stem cells are there as BG02 only, which is no epigenome; the simulation makes it E003.
SIMULATED_LINES = {"replication_timing": {"E003": "Bg02es"}}
# Files without a public address that the simulation writes.
SIMULATED = {
    "fire_scores": "simulated/local/fire_scores.xlsx",
    "tad_boundaries": "simulated/local/tad_boundaries.xlsx",
}


def tasks(plan: Plan) -> list[str]:
    """The tasks that are asked for, in the order of `TASKS`."""
    asked = plan.config["downstream"]["tasks"]
    return [task for task in TASKS if task in asked]


def asked_cells(plan: Plan) -> list[str]:
    """The cells in whose labels there is interest; of a simulation those that it makes."""
    cells = plan.config["downstream"]["cells"] or plan.config["cells"]
    made = plan.config["simulate"] and plan.config["simulate"]["cells"]
    return [cell for cell in cells if not made or cell in made]


def cells_of(plan: Plan, task: str) -> list[str]:
    """The cells that a task can label, in the order of the configuration."""
    return [cell for cell in asked_cells(plan) if _labelled(plan, task, cell)]


def _labelled(plan: Plan, task: str, cell: str) -> bool:
    local = plan.config["sources"]["local"]
    if task == "expression":
        known = plan.cells.get(cell, {}).get("expression") == "1"
        own = "roadmap_rpkm" in local or bool(_signal(plan))
        return known or own or bool(plan.config["simulate"])
    if task in NAMED:
        return cell in samples(plan)
    own = SOURCE[task] in local and "{cell_line}" not in local[SOURCE[task]]
    return own or cell in _lines(plan, task)


def samples(plan: Plan) -> dict[str, str]:
    """Cell -> its column (FIRE) or sheet (domain boundaries)."""
    return SAMPLES | plan.config["downstream"]["samples"]


def _lines(plan: Plan, task: str) -> dict[str, str]:
    """Cell -> its cell line in the public files of a task."""
    made = SIMULATED_LINES.get(task, {}) if plan.config["simulate"] else {}
    return LINES[task] | made


def _signal(plan: Plan) -> str:
    """The pattern of RNA signal that is read, or ""."""
    options = plan.config["downstream"]["expression"]
    return (options["rna_signal"] or "") if options["definition"] == "promoter" else ""


# --- checks ---------------------------------------------------------------------------------------


def checks(config: dict) -> Iterator[str]:
    """Problems of the block `downstream` that need no plan, as lines."""
    options = config["downstream"]
    if not options["tasks"]:
        return
    if not (options["cells"] or config["cells"]):
        yield "downstream.cells: neither this key nor `cells` names a cell; name at least one"
    signal = options["expression"]["rna_signal"]
    if signal and options["expression"]["definition"] != "promoter":
        yield (
            "downstream.expression.rna_signal: is not read with definition gene_body; set "
            "downstream.expression.definition to promoter, or remove rna_signal"
        )
    if signal and "{cell}" not in signal:
        yield (
            f"downstream.expression.rna_signal: '{signal}' holds no {{cell}}; write the place of "
            "the cell's name so (such as data/{cell}.rna.bw)"
        )
    if options["factors"] and "{chrom}" not in options["factors"]:
        yield (
            f"downstream.factors: '{options['factors']}' holds no {{chrom}}; write the place of "
            "the chromosome's name so (such as data/{chrom}.npy)"
        )


def _check_cells(plan: Plan) -> Iterator[str]:
    """Misspelt cells, and tasks for which no cell is left."""
    options = plan.config["downstream"]
    known = sorted({*plan.cells, *plan.config["cells"], *options["samples"]})
    asked = [("cells", cell) for cell in options["cells"]]
    made = plan.config["simulate"] and plan.config["simulate"]["cells"]
    for key, cell in asked + [("samples", cell) for cell in options["samples"]]:
        if key == "cells" and cell not in known:
            yield f"downstream.{key}: '{cell}' is no cell{hint(cell, known)}; correct or remove it"
        elif key == "cells" and made and cell not in made:
            yield f"downstream.cells: '{cell}' is not simulated; add it to simulate.cells"
    for task in tasks(plan):
        path = plan.config["sources"]["local"].get(SOURCE.get(task, ""), "")
        if task in LISTED and path and "{cell" not in path and len(cells_of(plan, task)) > 1:
            yield (
                f"sources.local.{SOURCE[task]}: '{path}' is one file for "
                f"{_few(cells_of(plan, task))}; write {{cell}} in the path, or name one cell in "
                "downstream.cells"
            )
        if asked_cells(plan) and not cells_of(plan, task):
            yield (
                f"downstream.tasks: {task} has labels for none of {_few(asked_cells(plan))}; "
                f"{_who(plan, task)}, or leave the task out"
            )


def _who(plan: Plan, task: str) -> str:
    """What to do where a task has no cell."""
    if task == "expression":
        return "add a cell with RNA-seq (config/cells.tsv), or give sources.local.roadmap_rpkm"
    if task in NAMED:
        where = "column" if task == "fire" else "sheet"
        return (
            f"add one of {_few(SAMPLES)} to downstream.cells, or say in downstream.samples which "
            f"{where} of sources.local.{SOURCE[task]} is which cell"
        )
    return (
        f"add one of {_few(_lines(plan, task))} to downstream.cells, or give your own files as "
        f"sources.local.{SOURCE[task]} with {{cell}} in the path"
    )


def _few(names) -> str:
    names = list(names)
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


# --- files ----------------------------------------------------------------------------------------


def add(plan: Plan, add_file: Callable[..., str]) -> list[str]:
    """Put the files that labels are made from into the plan; returns problems.

    Args:
        add_file: takes a source key (and its fields) into the plan and returns the file's path.
    """
    if not tasks(plan):
        return []
    problems = [*checks(plan.config), *_check_cells(plan)]
    for chrom in chromosomes(plan.config) if _factors(plan) and not problems else ():
        path = _factors(plan).replace("{chrom}", chrom)
        where = {"cell": "all", "mark": "factors"}
        plan.inputs[f"factors.{chrom}"] = add_file(
            "own_factors", "downstream.factors", path, **where
        )
    for task in [] if problems else tasks(plan):
        for name, key, fields in _wanted(plan, task):
            try:
                plan.inputs[name] = _add(plan, key, fields, add_file)
            except InputError as err:
                problems += [f"downstream.tasks: {task}: {line}" for line in err.problems]
    return problems


def _add(plan: Plan, key: str, fields: Mapping[str, str], add_file: Callable[..., str]) -> str:
    if "override" in fields or key not in SIMULATED or not plan.config["simulate"]:
        return add_file(key, **fields)
    if key in plan.config["sources"]["local"]:
        return add_file(key, **fields)
    path, told = SIMULATED[key], {"licence": "simulated", "used_for": "labels of a task"}
    kept = f"resources/local/{key}/{path.rpartition('/')[2]}"
    plan.files[kept] = sources.Source(key, path, (), None, "", "zip", path=kept, local=path, **told)
    return kept


def _wanted(plan: Plan, task: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Name in `plan.inputs`, source key and fields of every file of a task."""
    cells = cells_of(plan, task)
    if task == "expression":
        for cell in cells if _signal(plan) else ():
            named = {"named": "downstream.expression.rna_signal", "cell": cell}
            path = _signal(plan).replace("{cell}", cell)
            yield f"rna_signal.{cell}", "own_depth", named | {"override": path, "mark": "rna"}
        for key in _gene_sources(plan):
            if key not in plan.inputs:
                yield key, key, {}
    elif task in NAMED:
        yield SOURCE[task], SOURCE[task], {}
    else:
        for cell in cells:
            line = _lines(plan, task).get(cell)
            fields = {"cell": cell} | ({"cell_line": line} if line else {})
            yield f"{SOURCE[task]}.{cell}", SOURCE[task], fields


def _gene_sources(plan: Plan) -> list[str]:
    """Source keys of genes and their expression, if the tables of the runs do not have them."""
    if plan.config["downstream"]["expression"]["genes"] == "all":
        return ["roadmap_gene_info", *(() if _signal(plan) else ALL_GENES)]
    if _own_tables(plan):
        return []
    return ["roadmap_genes", *(() if _signal(plan) else ("roadmap_rpkm",))]


def _own_tables(plan: Plan) -> bool:
    """Whether results/genes/ has all that is needed: it has the cells of the runs only."""
    few = set(cells_of(plan, "expression")) <= set(plan.config["cells"])
    return plan.about_genes and (few or bool(_signal(plan)))


# --- what the rules ask ---------------------------------------------------------------------------


def label_inputs(plan: Plan, task: str) -> dict[str, str | list[str]]:
    """Named inputs of the rule that makes a task's labels; lists are in the order of `cells_of`."""
    files: dict[str, str | list[str]] = {"manifest": f"results/store/{plan.assembly}/manifest.json"}
    cells, inputs = cells_of(plan, task), plan.inputs
    if task == "expression":
        if _signal(plan):
            files["rna_signal"] = [inputs[f"rna_signal.{cell}"] for cell in cells]
        return files | _gene_files(plan)
    if task in NAMED:
        files[NAMED[task]] = inputs[SOURCE[task]]
        if task == "tad_boundary" and "gaps" in inputs:
            files["gaps"] = inputs["gaps"]
        return files
    files[LISTED[task]] = [inputs[f"{SOURCE[task]}.{cell}"] for cell in cells]
    return files


def _gene_files(plan: Plan) -> dict[str, str | list[str]]:
    keys = _gene_sources(plan)
    if not keys:
        return {
            "genes": "results/genes/genes.tsv",
            "expression": "results/genes/expression.tsv",
        }
    first = "gene_info" if keys[0] == "roadmap_gene_info" else "annotation"
    rpkm = [plan.inputs[key] for key in keys[1:]]
    files = {first: plan.inputs[keys[0]]}
    return files | ({"rpkm": rpkm if first == "gene_info" else rpkm[0]} if rpkm else {})


def label_settings(plan: Plan, task: str) -> dict:
    """Parameters of the same rule (see `epiloom.data.label_tasks.make`)."""
    options, cells = plan.config["downstream"], cells_of(plan, task)
    own = {"cells": cells}
    if task in NAMED:
        own["samples"] = {cell: samples(plan)[cell] for cell in cells}
    if task == "expression":
        chosen = ("definition", "threshold")
        own |= {"gene_type": plan.config["gene_type"]}
    else:
        chosen = tuple(options.get(task, {}))
    return own | {key: options[task][key] for key in chosen}


def labels(plan: Plan) -> list[str]:
    """Paths of the tables of labels."""
    return [f"results/labels/{task}.tsv" for task in tasks(plan)]


def evaluation(plan: Plan) -> dict:
    """How every task is evaluated (see `epiloom.studies.downstream.Options`)."""
    asked = plan.config["downstream"]
    kept = {key: asked[key] for key in ("trees", "depth", "patience")}
    return kept | {"parts": asked["shuffled_folds"]}


def factor_files(plan: Plan) -> list[str]:
    """Files of the annotation to compare with, one per chromosome in use."""
    return [plan.inputs[f"factors.{c}"] for c in chromosomes(plan.config)] if _factors(plan) else []


def _factors(plan: Plan) -> str:
    return plan.config["downstream"]["factors"] or ""
