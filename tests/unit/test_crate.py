"""A finished study as an RO-Crate, read back with the library that others read it with."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from urllib.parse import unquote

import pytest
from rocrate.rocrate import ROCrate

from epiloom.show import crate, done_jobs

PUBLIC = "https://example.org/reads/E003.gz"


def job(work, name, began, ended, inputs, outputs, rule="", last="done in 1.0 s"):
    """A job's log and job file, as `jobs.run` leaves them."""
    log = work / f"logs/{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    rule = rule or name.split("/")[-1]
    stamp = "2026-03-01 12:{}:00,000 INFO "
    log.write_text(f"{stamp.format(began)}{rule} begins\n{stamp.format(ended)}{rule}: {last}\n")
    told = {"rule": rule, "script": rule, "input": {"x": inputs}, "output": {"y": outputs}}
    Path(f"{log}.job.json").write_text(json.dumps(told))


@pytest.fixture
def study(tmp_path) -> Path:
    """Two downloads (one public, one local), a store, a training, a report; and strangers."""
    texts = {
        "resources/E003.gz": "public",
        "resources/own/my.bw": "mine",
        "results/store/a.npy": "numbers",
        "results/m/E003.fold1/weights.pt": "weights",
        "results/m/E003.fold1/run at 5:10+2.tsv": "odd name",
        "results/report.html": "<html>",
        "results/old.tsv": "of an earlier configuration",
    }
    for path, text in texts.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    weights, odd = "results/m/E003.fold1/weights.pt", "results/m/E003.fold1/run at 5:10+2.tsv"
    job(tmp_path, "download/E003", "01", "02", [], "resources/E003.gz", "download_file")
    job(tmp_path, "download/my", "01", "03", [], "resources/own/my.bw", "download_file")
    job(tmp_path, "store", "04", "06", ["resources/E003.gz", "resources/own/my.bw"],
        "results/store/a.npy", "bin_track")  # fmt: skip
    job(tmp_path, "m/E003.fold1/train_model", "06", "20", "results/store/a.npy", [weights, odd])
    job(tmp_path, "write_report", "20", "21", [weights], "results/report.html")
    job(tmp_path, "old", "01", "59", [], "results/old.tsv", "metrics_table")
    job(tmp_path, "other", "00", "59", [], "results/none.tsv", "metrics_table", last="ERROR x")
    (tmp_path / "logs/torn.log.job.json").write_text("{")
    sources = [
        {"key": "reads", "path": "resources/E003.gz", "url": PUBLIC, "bytes": 6, "md5": "ab"},
        {"key": "own", "path": "resources/own/my.bw", "url": "/home/me/my.bw", "bytes": 4},
    ]
    record = {"config": {"seed": 5}, "config_file": "c.yaml", "simulated": False}
    record |= {"versions": {"python": "3.11.7", "snakemake": "9.27.1"}, "commit": "abc+"}
    record |= {"date": "2026-03-01T12:30:00+00:00", "sources": sources}
    (tmp_path / "results/provenance.json").write_text(json.dumps(record))
    return tmp_path


def written(study) -> tuple[ROCrate, dict]:
    """The crate as the library reads it, and its entities by their id."""
    apart = ("old.tsv", "ro-crate-metadata.json")
    made = [p for p in (study / "results").rglob("*") if p.is_file() and p.name not in apart]
    wanted = [p.relative_to(study).as_posix() for p in made]
    out = "results/ro-crate-metadata.json"
    crate.copy_workflow(study / "results/workflow", {"seed": 5})
    crate.write(study, wanted, out, "results/workflow")
    graph = json.loads((study / out).read_text())["@graph"]
    return ROCrate(study / "results"), {entity["@id"]: entity for entity in graph}


def test_the_library_reads_workflow_inputs_outputs_and_times(study):
    read, graph = written(study)
    main = read.mainEntity
    assert main.id == "workflow/Snakefile" and main["programmingLanguage"]["name"] == "Snakemake"
    assert (study / "results" / main.id).read_text().startswith('"""epiloom')
    run = read.get("#run")
    assert run["instrument"] is main
    ids = {entity.id for entity in run["object"]}
    local = [i for i in ids if i.startswith("ni:///sha-256;")]
    assert {PUBLIC, "workflow/config.yaml"} < ids and len(local) == 1
    assert read.get(PUBLIC)["md5"] == "ab"
    assert read.get(PUBLIC)["sha256"] == hashlib.sha256(b"public").hexdigest()
    results = {entity.id for entity in run["result"]}
    assert {"report.html", "m/E003.fold1/weights.pt", "store/a.npy"} <= results
    assert run["startTime"].startswith("2026-03-01T12:01:00")
    assert run["endTime"].startswith("2026-03-01T12:21:00")
    assert not any("agent" in entity for entity in graph.values())
    software = {e["name"]: e["softwareVersion"] for e in main["softwareRequirements"]}
    assert software == {"python": "3.11.7", "snakemake": "9.27.1"}


def test_every_file_that_it_names_is_there_and_every_reference_is_described(study):
    _, graph = written(study)
    for key, entity in graph.items():
        if "File" in entity["@type"] and "://" not in key and key != "ro-crate-metadata.json":
            place = study / "results" / unquote(key)
            assert place.exists(), key
            if "sha256" in entity:
                assert entity["sha256"] == hashlib.sha256(place.read_bytes()).hexdigest()
    referred = {
        each["@id"]
        for entity in graph.values()
        for value in entity.values()
        for each in (value if isinstance(value, list) else [value])
        if isinstance(each, dict)
    }
    assert {i for i in referred if i not in graph and "://" not in i} == set()
    assert "/home/me" not in json.dumps(graph)


def test_each_job_is_an_action_of_its_script_and_a_step_of_the_workflow(study):
    read, graph = written(study)
    action = read.get("#job/m/E003.fold1/train_model")
    assert action["instrument"]["description"] == "Train one model on one run."
    assert action["object"].id == "store/a.npy" and len(action["result"]) == 2
    steps = [step["name"] for step in read.mainEntity["step"]]
    assert steps == ["download_file", "bin_track", "train_model", "write_report"]
    controls = [e for e in graph.values() if e["@type"] == "ControlAction"]
    assert len(controls) == 5  # two downloads are two jobs of one step
    assert len(read.get("#snakemake")["object"]) == 5
    assert "old.tsv" not in graph


def test_jobs_that_failed_or_made_nothing_of_it_are_left_out(study):
    names = [j.name for j in done_jobs.behind(study, ["results/report.html", "results/none.tsv"])]
    assert names == [
        *("download/E003", "download/my", "store", "m/E003.fold1/train_model", "write_report"),
    ]
    assert done_jobs.behind(study, ["results/none.tsv"]) == []


def test_a_second_crate_replaces_the_first(study):
    first, _ = written(study)
    again, graph = written(study)
    assert len(again.get_entities()) == len(graph) == len(first.get_entities())
    assert not list((study / "results").glob(".*"))
