"""From the files of a task to its labels: what the rule `task_labels` calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from epiloom.data import label_regions
from epiloom.data.annotation import read_genes
from epiloom.data.genes import gene_table
from epiloom.data.genome import Genome
from epiloom.data.label_expression import expression, roadmap_genes
from epiloom.data.labels import Labels
from epiloom.plan.errors import InputError

Files = Mapping[str, "str | list[str]"]  # by the names of `epiloom.plan.downstream.label_inputs`


def make(task: str, files: Files, settings: Mapping, genome: Genome) -> Labels:
    """Labels of one task.

    Args:
        files, settings: as `epiloom.plan.downstream` gives them; lists are in the order of
            `settings["cells"]`.

    Raises:
        InputError: an unknown task, or what the task's own function raises.
    """
    if task not in TASKS:
        raise InputError("task", f"{task!r} is unknown; choose one of {', '.join(TASKS)}")
    return TASKS[task](files, settings, genome)


def _per_cell(files: Files, name: str, settings: Mapping) -> dict[str, str]:
    """cell -> file, of a list or of one file for one cell."""
    paths = [files[name]] if isinstance(files[name], str) else files[name]
    return dict(zip(settings["cells"], paths, strict=True))


def _expression(files: Files, settings: Mapping, genome: Genome) -> Labels:
    genes, rpkm = _genes(files, settings, genome)
    signal = _per_cell(files, "rna_signal", settings) if files.get("rna_signal") else None
    options = {key: settings[key] for key in ("definition", "threshold")}
    return expression(genes, rpkm, genome, settings["cells"], signal=signal, **options)


def _genes(files: Files, settings: Mapping, genome: Genome):
    """Genes and their RPKM; of the three forms in which they are given, the one that is there."""
    cells = None if files.get("rna_signal") else settings["cells"]
    if files.get("genes"):
        genes = read_genes(files["genes"], genome, "all")
        rpkm = pd.read_csv(files["expression"], sep="\t", dtype={"gene_id": str})
        return genes, rpkm
    if files.get("gene_info"):
        tables = [] if cells is None else files["rpkm"]
        return roadmap_genes(files["gene_info"], tables, genome, cells)
    if cells is None:
        return read_genes(files["annotation"], genome, settings["gene_type"]), None
    return gene_table(files["annotation"], files["rpkm"], genome, settings["gene_type"], cells)


def _promoter_enhancer(files: Files, settings: Mapping, genome: Genome) -> Labels:
    return label_regions.promoter_enhancer(_per_cell(files, "pairs", settings), genome)


def _fire(files: Files, settings: Mapping, genome: Genome) -> Labels:
    return label_regions.fire(files["scores"], genome, settings["samples"], settings["cutoff"])


def _tad_boundary(files: Files, settings: Mapping, genome: Genome) -> Labels:
    gaps = files.get("gaps") or None
    return label_regions.tad_boundary(files["boundaries"], genome, settings["samples"], gaps)


def _replication_timing(files: Files, settings: Mapping, genome: Genome) -> Labels:
    return label_regions.replication_timing(
        _per_cell(files, "timing", settings), genome, settings["window_bp"], settings["cutoff"]
    )


TASKS: dict[str, Callable[[Files, Mapping, Genome], Labels]] = {
    "expression": _expression,
    "promoter_enhancer": _promoter_enhancer,
    "fire": _fire,
    "tad_boundary": _tad_boundary,
    "replication_timing": _replication_timing,
}
