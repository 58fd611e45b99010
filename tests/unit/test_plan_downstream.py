"""Which downstream tasks are planned, for which cells, on which files, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from epiloom.data import label_tasks
from epiloom.data.simulate import labels as simulated
from epiloom.plan import downstream, runs, sources
from epiloom.plan.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
ROWS = sources.catalogue(ROOT)


def config(example: str = "one_cell", local: dict | None = None, **block) -> dict:
    told = yaml.safe_load((ROOT / f"config/examples/{example}.yaml").read_text())
    told["sources"] = {"local": {**told.get("sources", {}).get("local", {}), **(local or {})}}
    return told | {"downstream": block}


def added(plan: runs.Plan) -> list[str]:
    """Take the files into the plan as the builder of plans does; returns the problems."""

    def add(key, named=None, override=None, **fields):
        local = {key: override} if override else plan.config["sources"]["local"]
        mirror = "simulated" if plan.config["simulate"] else None
        source = sources.resolve(
            ROWS, key, assembly=plan.assembly, local=local, mirror=mirror, **fields
        )
        plan.files[source.path] = source
        return source.path

    return downstream.add(plan, add)


def planned(told: dict) -> runs.Plan:
    plan = runs.build(told, ROOT)
    assert added(plan) == []
    return plan


def problems(told: dict) -> str:
    try:
        return "\n".join(added(runs.build(told, ROOT)))
    except InputError as err:
        return "\n".join(err.problems)


def addresses(plan: runs.Plan, task: str, name: str) -> list[str]:
    paths = downstream.label_inputs(plan, task)[name]
    return [plan.files[p].urls[0] for p in ([paths] if isinstance(paths, str) else paths)]


def test_without_tasks_nothing_is_planned():
    plan = runs.build(config(), ROOT)
    before = dict(plan.files)
    assert downstream.tasks(plan) == [] == added(plan)
    assert plan.files == before and downstream.labels(plan) == []


def test_planning_and_reading_know_the_same_tasks_files_and_cells():
    assert tuple(label_tasks.TASKS) == downstream.TASKS
    assert {
        "fire_scores": f"{runs.SIMULATED}/{simulated.FIRES}",
        "tad_boundaries": f"{runs.SIMULATED}/{simulated.BOUNDARIES}",
    } == downstream.SIMULATED
    known = runs.read_table(ROOT / "config/cells.tsv", "cell")
    named = [downstream.SAMPLES, *downstream.LINES.values()]
    assert {cell for cells in named for cell in cells} <= set(known)


def test_a_cell_without_labels_is_left_out_of_the_task_only():
    cells = ["E017", "E123", "E003", "E116"]
    tasks = ["replication_timing", "promoter_enhancer", "expression"]
    plan = planned(config(tasks=tasks, cells=cells))
    assert downstream.tasks(plan) == ["expression", "promoter_enhancer", "replication_timing"]
    assert downstream.cells_of(plan, "expression") == ["E123", "E003", "E116"]  # E017 has no RPKM
    assert downstream.cells_of(plan, "promoter_enhancer") == ["E017", "E123", "E116"]
    assert downstream.cells_of(plan, "replication_timing") == ["E017", "E123", "E116"]
    lines = ["IMR90", "K562", "GM12878"]
    found = addresses(plan, "promoter_enhancer", "pairs")
    assert [url.split("/")[-3] for url in found] == lines
    found = addresses(plan, "replication_timing", "timing")
    assert [line in url for line, url in zip(("Imr90", "K562", "Gm12878"), found, strict=True)]
    told = downstream.label_settings(plan, "replication_timing")
    assert told == {"cells": ["E017", "E123", "E116"], "window_bp": 50_000, "cutoff": None}


def test_genes_come_from_the_tables_of_the_runs_where_these_have_all_cells():
    own = config(tasks=["expression"])
    cells = own["cells"]
    files = downstream.label_inputs(planned(own), "expression")
    assert files["genes"] == "results/genes/genes.tsv" and "rpkm" not in files
    plan = planned(config(tasks=["expression"], cells=[*cells, "E123"]))
    files = downstream.label_inputs(plan, "expression")
    assert files["rpkm"] == plan.inputs["roadmap_rpkm"]
    assert files["annotation"] == plan.inputs["roadmap_genes"]
    plan = planned(config(tasks=["expression"], expression={"genes": "all"}))
    files = downstream.label_inputs(plan, "expression")
    assert [Path(path).name[:18] for path in files["rpkm"]] == ["57epigenomes.RPKM."] * 3
    assert files["gene_info"].endswith("gene_info")
    settings = downstream.label_settings(plan, "expression")
    assert settings["threshold"] == 0.5 and settings["definition"] == "gene_body"


def test_own_rna_signal_labels_every_cell_asked_for(tmp_path):
    for cell in ("E017", "E001"):
        (tmp_path / f"{cell}.bw").touch()
    block = {"definition": "promoter", "rna_signal": f"{tmp_path}/{{cell}}.bw"}
    plan = planned(config(tasks=["expression"], cells=["E017", "E001"], expression=block))
    assert downstream.cells_of(plan, "expression") == ["E017", "E001"]
    found = addresses(plan, "expression", "rna_signal")
    assert found == [f"{tmp_path}/E017.bw", f"{tmp_path}/E001.bw"]
    assert "rpkm" not in downstream.label_inputs(plan, "expression")


def test_tables_of_ones_own_name_their_cells(tmp_path):
    for name in ("fires.tsv", "tads.xlsx", "E123.txt", "E001.txt"):
        (tmp_path / name).touch()
    local = {
        "fire_scores": f"{tmp_path}/fires.tsv",
        "tad_boundaries": f"{tmp_path}/tads.xlsx",
        "replication_timing": f"{tmp_path}/{{cell}}.txt",
    }
    tasks, cells = ["fire", "tad_boundary", "replication_timing"], ["E123", "E001"]
    plan = planned(config(local=local, tasks=tasks, cells=cells, samples={"E123": "K562"}))
    assert downstream.cells_of(plan, "fire") == ["E123"]
    assert downstream.label_settings(plan, "fire")["samples"] == {"E123": "K562"}
    assert addresses(plan, "fire", "scores") == [f"{tmp_path}/fires.tsv"]
    files = downstream.label_inputs(plan, "tad_boundary")
    assert files["gaps"] == plan.inputs["gaps"] and files["boundaries"].endswith("tads.xlsx")
    found = addresses(plan, "replication_timing", "timing")
    assert found == [f"{tmp_path}/E123.txt", f"{tmp_path}/E001.txt"]
    formats = [plan.files[p].format for p in plan.files if "resources/local/" in p]
    assert sorted(formats) == ["text", "text", "tsv", "zip"]


def test_the_simulation_stands_in_for_every_file():
    plan = planned(config("demo", tasks=list(downstream.TASKS)))
    assert all(downstream.cells_of(plan, task) for task in downstream.TASKS)
    assert downstream.cells_of(plan, "promoter_enhancer") == ["E116"]
    assert downstream.cells_of(plan, "replication_timing") == ["E003", "E116"]
    for task in downstream.TASKS[1:]:
        for name, paths in downstream.label_inputs(plan, task).items():
            for path in [paths] if isinstance(paths, str) else paths:
                assert name == "manifest" or plan.files[path].urls[0].startswith("simulated/")
    assert len(downstream.labels(plan)) == 5


def test_tasks_without_a_file_are_refused_with_a_remedy():
    message = problems(config(tasks=["fire", "tad_boundary"], cells=["E116"]))
    assert "fire: fire_scores: no public address of this file is known" in message
    assert "set sources.local.fire_scores to its path" in message
    assert "set sources.local.tad_boundaries to its path" in message


def test_tasks_without_a_cell_are_refused_with_the_cells_there_are():
    tasks = ["fire", "promoter_enhancer", "expression"]
    message = problems(config(tasks=tasks, cells=["E001"]))
    assert "promoter_enhancer has labels for none of E001; add one of E116, E117" in message
    assert "downstream.samples which column of sources.local.fire_scores" in message
    assert "expression has labels for none of E001; add a cell with RNA-seq" in message


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"cells": ["E1166"]}, "downstream.cells: 'E1166' is no cell (did you mean 'E116'?)"),
        ({"expression": {"rna_signal": "{cell}.bw"}}, "rna_signal: is not read with definition"),
        (
            {"expression": {"rna_signal": "a.bw", "definition": "promoter"}},
            "'a.bw' holds no {cell}",
        ),
        ({"factors": "factors.npy"}, "downstream.factors: 'factors.npy' holds no {chrom}"),
    ],
)
def test_mistakes_are_told_with_their_key(block, words):
    assert words in problems(config(tasks=["expression"], **block))


def test_one_file_for_many_cells_is_refused(tmp_path):
    (tmp_path / "a.txt").touch()
    local = {"replication_timing": f"{tmp_path}/a.txt"}
    block = {"tasks": ["replication_timing"], "cells": ["E001", "E116"]}
    assert "is one file for E001, E116; write {cell}" in problems(config(local=local, **block))
    plan = planned(config(local=local, **(block | {"cells": ["E001"]})))
    assert addresses(plan, "replication_timing", "timing") == [f"{tmp_path}/a.txt"]


def test_a_cell_that_is_not_simulated_is_refused():
    message = problems(config("demo", tasks=["expression"], cells=["E003", "E114"]))
    assert "downstream.cells: 'E114' is not simulated; add it to simulate.cells" in message


def test_unknown_tasks_and_keys_are_refused_by_the_schema():
    assert "is not one of expression" in problems(config(tasks=["tads"]))
    assert "did you mean 'cutoff'" in problems(config(fire={"cutof": 1}))
