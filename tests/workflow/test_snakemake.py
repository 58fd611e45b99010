"""Snakemake itself: dry runs of every example, bad input, one tiny run to the end."""

from __future__ import annotations

import html
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyBigWig
import pytest
import yaml
from rocrate.rocrate import ROCrate

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
TINY = """
simulate:
  {seed: 3, chromosomes: 6, length_bp: 300000, cells: [E003, E116], assays: [H3K4me3, H3K27ac]}
cells: [E003]
marks: [H3K4me3]
bins_bp: [100]
folds:
  fold1: {validation: [chr1], test: [chr2]}
  fold2: {validation: [chr3], test: [chr4]}
models:
  promoter_cnn: {epochs: 2, filters: [8, 8, 8], dense: [8, 8], shuffled_control: true}
"""


def snakemake(folder: Path, *args: str, env: dict | None = None) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    return subprocess.run(
        [*command, "--directory", str(folder), "--cores", "2", *args],
        cwd=ROOT,
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        timeout=280,
    )


def job_counts(text: str) -> dict[str, int]:
    """Rule -> number of jobs, from the table that Snakemake prints."""
    table = text.split("Job stats:")[1].split("total")[0]
    return {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", table, re.M)}


def test_the_paper_grid_is_planned_without_torch(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('torch must not be imported to plan')")
    paths = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    done = snakemake(
        *(tmp_path, "-n", "--configfile", "config/examples/paper_epi_to_express.yaml"),
        env={"PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
    counts = job_counts(done.stdout)
    assert counts["train_model"] == counts["predict_model"] == counts["evaluate_run"] == 1320
    assert counts["sort_reads"] == counts["promoter_features"] == counts["bin_track"] == 77
    assert counts["partner_features"] == 77 and counts["perturbation"] == 33
    assert counts["metrics_table"] == 2 and counts["eqtl_enrichment"] == 1


@pytest.mark.parametrize(
    ("name", "runs", "tracks"), [("demo", 4, 14), ("one_cell", 4, 1), ("real", 72, 15)]
)
def test_every_example_is_planned(tmp_path, name, runs, tracks):
    if name == "real" and not SHARED.exists():
        pytest.skip("shared data not here")
    done = snakemake(tmp_path, "-n", "--configfile", f"config/examples/{name}.yaml")
    assert done.returncode == 0, done.stderr
    counts = job_counts(done.stdout)
    together = [rule for rule in counts if re.match("evaluate_(promoter_cnn|chromoformer)_", rule)]
    assert counts.get("evaluate_run", len(together)) == runs and counts["bin_track"] == tracks


def test_all_of_roadmap_is_planned_for_its_annotation(tmp_path):
    done = snakemake(tmp_path, "-n", "--configfile", "config/examples/paper_epi_lstm.yaml")
    assert done.returncode == 0, done.stderr
    counts = job_counts(done.stdout)
    assert counts["bin_track"] == 1014 and counts["tile_tracks"] == counts["train_model"] == 1
    assert counts["downstream_task"] == counts["task_labels"] == 3


def test_a_bad_configuration_ends_with_its_problems_and_no_traceback(tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("cels: [E003]\nmarks: [H3K4me3]\n")
    done = snakemake(tmp_path, "-n", "--configfile", str(bad))
    assert done.returncode == 1
    assert "did you mean 'cells'" in done.stderr and "bad.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_outside_the_plan_is_refused_with_the_nearest(tmp_path):
    target = "results/promoter_cnn/E003.H3K4me3.fold9/metrics.tsv"
    done = snakemake(tmp_path, "-n", target, "--configfile", "config/examples/demo.yaml")
    assert done.returncode == 1
    assert "is not in the plan (did you mean 'E003.H3K4me3.fold" in done.stdout + done.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A tiny run in a folder with a space in its name, from simulation to report."""
    folder = tmp_path_factory.mktemp("tiny run")
    (folder / "tiny.yaml").write_text(TINY)
    done = snakemake(folder, "--configfile", str(folder / "tiny.yaml"))
    assert done.returncode == 0, done.stderr[-6000:]
    return folder


def test_a_tiny_run_ends_with_a_report_and_all_its_tables(finished):
    assert (finished / "results/report.html").stat().st_size > 50_000
    table = (finished / "results/tables/promoter_cnn.tsv").read_text()
    for word in ("promoter_cnn", "activity_6kb", "ridge_6kb", "pooled", "promoter_cnn_shuffled"):
        assert word in table
    assert "ridge_6kb_shuffled" not in table  # the control is of the model alone
    marks = pd.read_csv(finished / "results/tables/marks.tsv", sep="\t")
    assert set(marks["level"]) == {"all", "group", "cell"} and marks["published"].isna().all()
    for name in ("tables/marks.png", "tables/second_marks.png", "mark_activity/summary.tsv"):
        assert (finished / "results" / name).stat().st_size > 0


def test_a_second_run_has_nothing_to_do(finished):
    done = snakemake(finished, "-n", "--configfile", str(finished / "tiny.yaml"))
    assert "Nothing to be done" in done.stdout + done.stderr


def test_one_deleted_result_rebuilds_only_what_depends_on_it(finished):
    (finished / "results/promoter_cnn/E003.H3K4me3.fold1/predictions.tsv").unlink()
    config = str(finished / "tiny.yaml")
    done = snakemake(finished, "-n", "--configfile", config)
    assert job_counts(done.stdout) == {
        "all": 1,
        "predict_model": 1,
        "evaluate_run": 1,
        "metrics_table": 1,
        "mark_table": 1,
        "write_report": 1,
    }
    assert snakemake(finished, "--configfile", config).returncode == 0


def test_another_learning_rate_trains_again_but_reads_no_track_again(finished):
    changed = yaml.safe_load(TINY)
    changed["models"]["promoter_cnn"]["learning_rate"] = 0.01
    (finished / "changed.yaml").write_text(yaml.safe_dump(changed))
    done = snakemake(finished, "-n", "--configfile", str(finished / "changed.yaml"))
    counts = job_counts(done.stdout)
    assert counts["train_model"] == 4
    assert not {"simulate_epigenome", "sort_reads", "bin_track", "promoter_features"} & set(counts)


def test_one_job_per_cell_leaves_the_same_files(finished, tmp_path):
    together = tmp_path / "together"
    shutil.copytree(finished, together)
    for folder in ("results/promoter_cnn", "runs"):
        shutil.rmtree(together / folder)
    (together / "tiny.yaml").write_text(TINY + "one_job_per: cell\n")
    done = snakemake(together, "--configfile", str(together / "tiny.yaml"))
    assert done.returncode == 0, done.stderr[-6000:]
    assert "train_promoter_cnn_E003" in done.stderr + done.stdout
    names = ("predictions.tsv", "weights.pt", "metrics.tsv")
    for run in (finished / "results/promoter_cnn").iterdir():
        for name in names:
            other = together / "results/promoter_cnn" / run.name / name
            assert (run / name).read_bytes() == other.read_bytes(), (run.name, name)
        told = json.loads((together / "results/promoter_cnn" / run.name / "run.json").read_text())
        alone = json.loads((run / "run.json").read_text())
        assert told["examples"] == alone["examples"] and told["inputs"] == alone["inputs"]
        assert told["command"].startswith("python -m workflow_scripts.train_many logs/train_many/")


def test_a_finished_study_is_described_as_a_crate(finished):
    config = str(finished / "tiny.yaml")
    done = snakemake(finished, "ro_crate", "--configfile", config)
    assert done.returncode == 0, done.stderr[-3000:]
    read = ROCrate(finished / "results")
    actions = {e["name"]: e for e in read.get_by_type("CreateAction")}
    training = actions["promoter_cnn/E003.H3K4me3.fold1/train_model"]
    assert "promoter_cnn/E003.H3K4me3.fold1/run.json" in {e.id for e in training["result"]}
    assert training["object"] and training["startTime"] < training["endTime"]
    assert {e["name"] for e in read.mainEntity["step"]} > {"simulate_epigenome", "write_report"}
    assert "report.html" in {e.id for e in read.get("#run")["result"]}
    again = snakemake(finished, "-n", "--configfile", config)
    assert "Nothing to be done" in again.stdout + again.stderr


def test_a_training_job_repeated_by_hand_in_two_processes_gives_the_same_history(finished):
    log = "logs/promoter_cnn/E003.H3K4me3.fold2/train_model.log"
    job = json.loads((finished / f"{log}.job.json").read_text())
    job["params"]["settings"]["dropout"] = [0.0, 0.0]  # each process draws masks of its own
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    losses = []
    for name, launcher in (("one", []), ("two", two)):
        job["output"] = {k: f"{name}/{k}" for k in ("weights", "history", "record")}
        job["params"]["run_dir"], job["log"] = f"{name}/state", f"{name}/train.log"
        (finished / f"{name}.json").write_text(json.dumps(job))
        done = subprocess.run(
            [sys.executable, *launcher, "-m", "workflow_scripts.train_model", f"{name}.json"],
            cwd=finished,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        losses.append(pd.read_csv(finished / f"{name}/history", sep="\t")["validation_loss"])
        record = json.loads((finished / f"{name}/record").read_text())
        assert record["hardware"]["processes"] == 1 + bool(launcher)
    assert len(losses[0]) == 2 and losses[0].to_list() == pytest.approx(
        losses[1].to_list(), rel=1e-4
    )


def test_a_failed_job_leaves_a_report_of_the_rest_and_a_command_that_repeats_it(finished, tmp_path):
    config = yaml.safe_load(TINY)
    own = tmp_path / "own.bw"
    own.write_text("<!DOCTYPE html><html>moved</html>")
    (tmp_path / "tracks.tsv").write_text(f"cell\tmark\tkind\tfile\nE116\tH3K4me3\tdepth\t{own}\n")
    config |= {"tracks": str(tmp_path / "tracks.tsv"), "cells": ["E003", "E116"]}
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(config))
    for part in ("simulated", "resources", "results", "runs", "logs", ".snakemake"):
        shutil.copytree(finished / part, tmp_path / part)
    (tmp_path / "results/report.html").unlink()
    shutil.rmtree(tmp_path / "results/tables")
    done = snakemake(tmp_path, "--keep-going", "--configfile", str(tmp_path / "bad.yaml"))
    assert done.returncode == 1
    assert "HTML page" in done.stderr and "repeat this job by hand" in done.stderr
    assert not list((tmp_path / "resources").rglob("own.bw"))

    page = (tmp_path / "results/report.partial.html").read_text()
    text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())
    assert "HTML page instead of a bigWig" in text and "What failed or is missing" in text
    for name in ("E116-H3K4me3.depth", "promoter_cnn/E116.H3K4me3.fold1", "table of promoter_cnn"):
        row = rf"{re.escape(name)}( results/\S+)+ something it needs failed"
        assert re.search(row, text), re.findall(rf"{re.escape(name)}.{{0,200}}", text)
    assert "results/promoter_cnn/E003.H3K4me3.fold1/history.tsv" not in text  # that one is there
    command = re.search(r"python -m workflow_scripts.download_file \S+\.job\.json", text)[0]

    sizes = [(f"chr{k}", 300_000) for k in range(1, 7)]
    with pyBigWig.open(str(own), "w") as file:
        file.addHeader(sizes)
        for name, _ in sizes:
            file.addEntries(name, 0, values=[1.0] * 100, span=100, step=100)
    repeated = command.replace("python", shlex.quote(sys.executable), 1)
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(repeated, shell=True, cwd=tmp_path, env=env, check=True, timeout=100)
    assert [path.name for path in (tmp_path / "resources").rglob("own.bw")] == ["own.bw"]
