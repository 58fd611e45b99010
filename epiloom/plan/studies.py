"""Which studies of trained models are asked for: perturbation of a mark, eQTLs in its bins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from epiloom.plan import contacts

if TYPE_CHECKING:
    from epiloom.plan.runs import Plan

EQTL_TABLE = "results/eqtl_enrichment/enrichment.tsv"


class Perturbed(NamedTuple):
    """One perturbation table: a mark, alone in its model, in one cell."""

    model: str
    cell: str
    mark: str

    @property
    def table(self) -> str:
        return f"results/{self.model}/perturbation/{self.cell}.{self.mark}.tsv.gz"


def narrow(config: dict) -> None:
    """Leave out what is asked of marks that are not chosen: `marks` narrows the studies too."""
    block = config["perturbation"]
    block["marks"] = {m: genes for m, genes in block["marks"].items() if m in config["marks"]}
    if config["eqtl"]["mark"] not in config["marks"]:
        config["eqtl"]["run"] = False


def distal_models(plan: Plan) -> list[str]:
    """Models of the configuration that see distal partners; these can be perturbed."""
    return [m for m in plan.config["models"] if plan.cards[m]["dataset"] == contacts.DATASET]


def perturbed(plan: Plan) -> list[Perturbed]:
    """All perturbation tables, by model, cell and mark."""
    return [
        Perturbed(model, cell, mark)
        for model in distal_models(plan)
        for cell in plan.config["cells"]
        for mark in plan.config["perturbation"]["marks"]
    ]


def runs_of(plan: Plan, model: str, cell: str, mark: str) -> list[str]:
    """The runs whose models predict, one per fold; exchanged folds hold out the same genes."""
    return [f"{cell}.{mark}.{fold}" for fold in plan.config["folds"]]


def options(plan: Plan, mark: str) -> dict:
    """How a mark is perturbed; one that the configuration does not name, at all genes."""
    block = plan.config["perturbation"]
    chosen = {key: value for key, value in block.items() if key != "marks"}
    return chosen | {"genes": block["marks"].get(mark, "all"), "seed": plan.config["seed"]}


def add(plan: Plan, add_file: Callable[..., str]) -> list[str]:
    """Put the files of the eQTL study into the plan, if it is asked for; returns problems."""
    if problems := list(check(plan)):
        return problems
    if plan.config["eqtl"]["run"]:
        keys = ["causal_eqtl", "genome_fasta"]
        if not plan.config["simulate"] and plan.config["eqtl"]["assembly"] != plan.assembly:
            keys.append("liftover_hg38_hg19")
        local = plan.config["sources"]["local"]
        plan.inputs.update({key: add_file(key) for key in keys if local.get(key) != "none"})
    return []


def check(plan: Plan) -> Iterator[str]:
    """Problems of the blocks `perturbation` and `eqtl`, as lines."""
    marks, eqtl = plan.config["perturbation"]["marks"], plan.config["eqtl"]
    models = distal_models(plan)
    if marks and not models:
        yield "perturbation: needs a model with distal partners; add chromoformer to `models`"
    for mark in marks:
        for model in models:
            known = {run for m, run in plan.runs if m == model}
            if not set(runs_of(plan, model, plan.config["cells"][0], mark)) <= known:
                yield (
                    f"perturbation.marks: {model} has no model of {mark} alone; add 'each' or "
                    f"'{mark}' to models.{model}.mark_sets"
                )
    for model in models:
        if marks and plan.config["models"][model]["objective"] != "regression":
            yield f"perturbation: needs models.{model}.objective: regression"
    if eqtl["run"] and marks.get(eqtl["mark"]) not in ("expressed", "all"):
        yield (
            f"eqtl: reads the perturbation of {eqtl['mark']} at expressed genes; add "
            f"'{eqtl['mark']}: expressed' to perturbation.marks"
        )
    if eqtl["run"] and plan.assembly != "hg19":
        yield "eqtl: the contacts and the table's lift-over are on hg19; set assembly: hg19"


def eqtl_tables(plan: Plan) -> list[Perturbed]:
    """The perturbation tables that the eQTL study reads: one model, one mark, all cells."""
    mark, models = plan.config["eqtl"]["mark"], distal_models(plan)
    return [each for each in perturbed(plan) if each.mark == mark and each.model == models[0]]


def eqtl_settings(plan: Plan) -> dict:
    """Settings of the eQTL study (see `epiloom.studies.eqtl_run`)."""
    block = plan.config["eqtl"]
    return {
        **{key: block[key] for key in ("mark", "effect", "draws", "tissues")},
        "eqtl_assembly": plan.assembly if plan.config["simulate"] else block["assembly"],
        "cells": plan.config["cells"],
        "label": 1,
        "assembly": plan.assembly,
        "seed": plan.config["seed"],
    }


def results(plan: Plan) -> list[str]:
    """Paths of all results of the studies."""
    tables = perturbed(plan)
    paths = [each.table for each in tables]
    if plan.config["simulate"]:
        paths += [
            f"results/{m}/perturbation/truth.tsv" for m in dict.fromkeys(t.model for t in tables)
        ]
    return paths + [EQTL_TABLE] * plan.config["eqtl"]["run"]
