"""What trained models of cells are asked by the configuration: cells, files, paths, refusals."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from epiloom.plan import sequence, unprofiled
from epiloom.plan.config import hint

if TYPE_CHECKING:
    from epiloom.plan.runs import Plan

OWN = "own_table"  # source key of tables of the user's own
PLACE = re.compile(r"([A-Za-z0-9_.]+):([\d,]+)")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")  # of a gene or cell that files are named by
NEW = ("matrix", "symbols", "aliases")  # files of new cells
LOOPS = ("loops.tsv", "loops.png")


# --- cells ----------------------------------------------------------------------------------------


def cells(plan: Plan, model: str, fold: str = "") -> list[str]:
    """Cells of the model that are asked about: those named, else the most telling there are.

    Without any in the configuration test cells, else validation cells, else training cells; those
    of the run's cell fold.
    """
    named = plan.config["interpret"]["cells"]
    parts = unprofiled.parts(plan, model, fold)
    return list(named or parts["test"] or parts["validation"] or parts["train"])


def question(plan: Plan, model: str, fold: str = "") -> dict:
    """What all rules that ask a model are told, of a run of a cell fold.

    `cells` of the model, `columns` of the table of new cells (None: all with numbers), `missing`
    (what a TF becomes that a new cell lacks), how motifs are scored (`scoring`, `tfs`) and where
    they were looked for (`scan`), `kind` of the signals, `scale` of what is written.
    """
    options, block = plan.config["models"][model], plan.config["interpret"]
    return {
        "cells": cells(plan, model, fold),
        "columns": block["expression"]["cells"],
        "missing": options["tf_expression"]["missing"],
        "scoring": unprofiled.motif_rule(plan),
        "tfs": unprofiled.motif_tfs(plan),
        "scan": options["motifs"]["scan"],
        "kind": options["signal"],
        "scale": block["scale"],
    }


def check(plan: Plan) -> Iterator[str]:
    """Cells and regions that the models do not have, as lines; once their tracks are known."""
    block = plan.config["interpret"]
    for model in unprofiled.models(plan):
        known = unprofiled.cells(plan, model)
        for cell in block["cells"] or ():
            if cell not in known:
                yield (
                    f"interpret.cells: '{cell}' is no cell of {model}{hint(cell, known)}; name "
                    f"some of {', '.join(known[:20])}, or give its expression with "
                    "interpret.expression"
                )
        for name in block["expression"]["cells"] or ():
            if name in known:
                yield (
                    f"interpret.expression.cells: '{name}' is the name of a cell of {model}; "
                    "rename the column, or ask that cell with interpret.cells"
                )
        seq_bp, _ = unprofiled.sizes(plan.config["models"][model])
        for text in filter(sequence.is_region, block["contacts"]):
            _, start, end = sequence.region_parts(text)
            if end - start > seq_bp:
                yield (
                    f"interpret.contacts: '{text}' is longer than the {seq_bp} bases that {model} "
                    "sees at once; give shorter regions"
                )


# --- files ----------------------------------------------------------------------------------------


def add(plan: Plan, add_file: Callable[..., str]) -> list[str]:
    """Put files of new cells into the plan; returns problems of what models of cells are asked."""
    if not unprofiled.models(plan):
        return []
    problems = list(_check_block(plan))
    own = plan.config["interpret"]["expression"]
    for key in NEW if own["matrix"] else ():
        if own[key]:
            where = {"cell": "new", "mark": key}
            path = add_file(OWN, f"interpret.expression.{key}", own[key], **where)
            plan.inputs[f"new_{key}"] = path
    return problems


def _check_block(plan: Plan) -> Iterator[str]:
    """Problems that need no cell of a model."""
    block = plan.config["interpret"]
    own = block["expression"]
    for key in (*NEW[1:], "cells"):
        if own[key] and not own["matrix"]:
            yield (
                f"interpret.expression.{key}: belongs to a table; give it with "
                "interpret.expression.matrix, or remove this key"
            )
    for name in own["cells"] or ():
        if not NAME.fullmatch(name):
            yield (
                f"interpret.expression.cells: '{name}' cannot name a file; rename the column to "
                "letters, digits, and _ . + - only"
            )
    genes = any(_annotated(plan, model) for model in unprofiled.models(plan))
    for text in block["factors"]:
        if PLACE.fullmatch(text):
            continue
        if not NAME.fullmatch(text):
            yield (
                f"interpret.factors: '{text}' is neither a gene symbol nor CHROM:POSITION; "
                "give such as GAPDH or chr1:1,000,000 (0-based)"
            )
        elif not genes:
            yield (
                f"interpret.factors: '{text}' is no CHROM:POSITION, and without annotation "
                "(tf_expression.symbols: none) no gene is known; give positions, or a GTF"
            )


def _annotated(plan: Plan, model: str) -> bool:
    return plan.config["models"][model]["tf_expression"]["symbols"] != "none"


def question_files(plan: Plan) -> dict[str, str | list[str]]:
    """Files of all questions beside those of the examples; [] where there is none.

    `annotation` tells where genes lie; `symbols` and `aliases` belong to `expression`, the table of
    new cells, and are the model's own unless others are given.
    """
    get = plan.inputs.get
    return {
        "motif_file": get("motif_file", []),
        "motif_table": get("motif_table", []),
        "annotation": get("tf_symbols", []),
        "expression": get("new_matrix", []),
        "symbols": get("new_symbols", get("tf_symbols", [])),
        "aliases": get("new_aliases", get("tf_aliases", [])),
    }


# --- paths ----------------------------------------------------------------------------------------


def place_name(text: str) -> str:
    """A place as part of a file's name: `chr1:1,000` is `chr1_1000`; a symbol stays."""
    found = PLACE.fullmatch(text)
    return f"{found[1]}_{found[2].replace(',', '')}" if found else text


def places(plan: Plan) -> list[str]:
    """What may be predicted as bigWigs (see `sequence.places`)."""
    return sequence.named_places(plan.config) if unprofiled.models(plan) else []


def with_loops(plan: Plan, model: str, fold: str = "") -> bool:
    """Whether attention can be held against loops of test or training cells."""
    parts = unprofiled.parts(plan, model, fold)
    there = unprofiled.loop_cells(plan, model)
    return any(cell in there for cell in (*parts["test"], *parts["train"]))


def asked(plan: Plan) -> list[str]:
    """Paths of what models of cells are asked by the configuration, and of their loops."""
    block, paths = plan.config["interpret"], []
    drawn = {
        "predict": [sequence.region_name(text) for text in block["regions"]],
        "factors": [place_name(text) for text in block["factors"]],
        "contacts": [sequence.region_name(text) for text in block["contacts"]],
    }
    for model, run in unprofiled.runs_of(plan):
        own = f"results/{model}/{run}"
        for kind, names in drawn.items():
            ends = ("png", "tsv") if kind == "factors" else sequence.DRAWN
            paths += [f"{own}/{kind}/{name}.{end}" for name in names for end in ends]
        wanted = [*block["tracks"], *(["bed"] if block["bed"] else [])]
        paths += [f"{own}/tracks/{place}" for place in wanted]
        if block["variants"]:
            paths += [f"{own}/variants.tsv", f"{own}/variants.vcf"]
        if block["variants"] == sequence.PLANTED:
            paths += [f"{own}/variants.truth.tsv", f"{own}/variants.truth.png"]
        if with_loops(plan, model, unprofiled.cell_fold(run)):
            paths += [f"{own}/{name}" for name in LOOPS]
    return list(dict.fromkeys(paths))


def described(plan: Plan) -> list[dict]:
    """Runs as the report knows them; `cell_fold` only where there are any."""
    rows = []
    for (model, run), settings in unprofiled.runs_of(plan).items():
        fold, of = sequence.of_chromosomes(run), unprofiled.cell_fold(run)
        row = {"model": model, "run": run, "fold": fold, "cells": settings["cells"]}
        row |= {"signals": settings["signals"]}
        rows.append(row | ({"cell_fold": of} if of else {}))
    return rows
