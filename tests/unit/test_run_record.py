"""The record of a training: what it was made from, where, and its time over all attempts."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from datetime import datetime

import pytest

from epiloom.data import origin
from epiloom.learn import run_record
from epiloom.learn.interrupts import Preempted
from epiloom.show import provenance
from tests.models.small import Watched, fit, genes, settings


def record(folder, run, **files) -> dict:
    out = folder / "run.json"
    told = (folder / "run", folder / "history.tsv", 2, "python -m workflow_scripts.x y", 0.0)
    run_record.write(out, run, files, *told)
    return json.loads(out.read_text())


def test_a_finished_run_tells_settings_data_versions_machine_and_times(tmp_path):
    run = settings()
    fit(tmp_path, run)
    (tmp_path / "genes.tsv").write_bytes(b"a\tb\n")
    folder = tmp_path / "tiles"
    folder.mkdir()
    (folder / "chr1.npy").write_bytes(b"12345")
    many = [str(tmp_path / "genes.tsv"), str(folder)]
    told = record(tmp_path, run, genes=str(tmp_path / "genes.tsv"), features=many)

    assert told["settings"] == run and told["seed"] == 123
    assert told["command"] == "python -m workflow_scripts.x y"
    first, second = told["inputs"]["files"]  # each file once, a folder by its files
    assert first["bytes"] == 4 and first["sha256"] == hashlib.sha256(b"a\tb\n").hexdigest()
    assert second["path"].endswith("tiles/chr1.npy") and second["bytes"] == 5
    assert told["examples"]["train"]["examples"] == 21
    assert len(told["examples"]["validation"]["sha256"]) == 64
    assert {"python", "torch", "numpy", "snakemake"} <= set(told["versions"])
    assert told["code"]["version"] == "0.1.0" and set(told["code"]) == {
        *("version", "commit", "edited"),
    }
    assert told["hardware"]["cores"] == 2 and told["hardware"]["cpu"]
    training = told["training"]
    assert (training["epochs"], training["resumed"]) == (3, 0)
    assert training["best_epoch"] in (1, 2, 3) and training["peak_memory_mb"] > 0
    assert training["wall_s"] >= training["training_s"] > 0
    assert datetime.fromisoformat(training["began"]) <= datetime.fromisoformat(training["ended"])


def test_a_run_counts_its_interruptions_but_not_that_it_is_asked_again(tmp_path):
    run = settings(epochs=2)

    def end(number):
        if number == 3:
            os.kill(os.getpid(), 10)  # SIGUSR1, as a scheduler sends it

    with pytest.raises(Preempted):
        fit(tmp_path, run, train=Watched(genes(21, 0), end), prefetch=0)
    fit(tmp_path, run)
    training = record(tmp_path, run)["training"]
    assert (training["resumed"], training["epochs"]) == (1, 2)
    fit(tmp_path, run)  # its outputs were removed: the finished state gives them again
    again = record(tmp_path, run)["training"]
    assert {k: again[k] for k in ("resumed", "began", "ended", "wall_s")} == {
        k: training[k] for k in ("resumed", "began", "ended", "wall_s")
    }


def log(folder, *events) -> None:
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({"time": float(at), "event": kind}) for at, kind in events]
    (folder / "log.jsonl").write_text("\n".join([*lines, '{"time": 99, "ev']))


def test_wall_time_leaves_out_the_time_between_attempts_and_what_was_started_over(tmp_path):
    early = [(0, "started"), (7, "epoch"), (9, "finished")]
    log(tmp_path, *early, (100, "started"), (110, "epoch"), (500, "resumed"), (505, "finished"))
    assert run_record.attempts(tmp_path, 0.0) == {
        "began": "1970-01-01T00:01:40+00:00",
        "ended": "1970-01-01T00:08:25+00:00",
        "wall_s": 15.0,
        "resumed": 1,
    }
    log(tmp_path)  # nothing but a torn line
    assert run_record.attempts(tmp_path, 0.0)["resumed"] == 0


def test_large_inputs_are_told_by_size_and_time_missing_ones_by_name(tmp_path):
    path = tmp_path / "big.npy"
    path.write_bytes(b"123456")
    os.utime(path, (60, 60))
    (told, gone) = origin.file_facts([path, tmp_path / "gone"], largest=5)
    assert told == {"path": str(path), "bytes": 6, "modified": "1970-01-01T00:01:00+00:00"}
    assert gone == {"path": str(tmp_path / "gone")}


def test_only_the_first_of_several_processes_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    run_record.write(tmp_path / "run.json", settings(), {}, tmp_path, tmp_path / "h", 1, "", 0.0)
    assert not (tmp_path / "run.json").exists()


def test_the_commit_says_when_files_were_edited(tmp_path, monkeypatch):
    monkeypatch.setattr(origin, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "7.0"\n')
    assert origin.code() == {"version": "7.0", "commit": None, "edited": None}
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *words], check=True)
    clean = origin.code()
    assert clean["edited"] is False and len(clean["commit"]) == 12
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "7.1"\n')
    assert origin.code() == {"version": "7.1", "commit": clean["commit"], "edited": True}
    assert provenance.record({"sources": []})["commit"] == clean["commit"] + "+"
