"""From the start of a training job to its first step, against the import of torch alone.

A promoter CNN of a small simulated study: its job by hand, and through Snakemake, which is started
as well. Medians of fresh processes in turns, with files in the page cache.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from bench import Figure

ROOT = Path(__file__).resolve().parents[1]
TURNS = 5
RUN = "promoter_cnn/E003.H3K4me3.fold1"
SIMULATED = {"chromosomes": 4, "length_bp": 300_000, "assays": ["H3K4me3", "H3K27ac"]}
STUDY = {
    "simulate": SIMULATED | {"cells": ["E003", "E116"]},
    "cells": ["E003"],
    "marks": ["H3K4me3"],
    "bins_bp": [100],
    "folds": {"fold1": {"validation": ["chr1"], "test": ["chr2"]}},
    "models": {"promoter_cnn": {"epochs": 1}},
}
TORCH = [sys.executable, "-c", "import torch"]


def figures() -> Iterator[Figure]:
    """Seconds until the first step, beside those of `import torch` in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "study.yaml").write_text(yaml.safe_dump(STUDY))
        command = [sys.executable, "-m", "snakemake", f"results/{RUN}/weights.pt", "--quiet", "all"]
        command += ["--snakefile", str(ROOT / "Snakefile"), "--cores", "1"]
        command += ["--configfile", "study.yaml", "--force"]
        _run(command, work)
        job = f"logs/{RUN}/train_model.log.job.json"
        by_hand = [sys.executable, "-m", "workflow_scripts.train_model", job]
        turns = [
            (_until_step(by_hand, work), _until_step(command, work), _run(TORCH, work))
            for _ in range(TURNS)
        ]
    hand, snakemake, torch = map(statistics.median, zip(*turns, strict=True))
    yield Figure("first step of a job by hand / import of torch", hand, torch, "s")
    yield Figure("the same, from the start of Snakemake / import of torch", snakemake, torch, "s")


def _run(command: Sequence[str], work: Path) -> float:
    """Seconds that a command takes."""
    began = time.time()
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=work, env=env, check=True, capture_output=True)
    return time.time() - began


def _until_step(command: Sequence[str], work: Path) -> float:
    """Seconds from the command's start to the training's, which begins anew."""
    shutil.rmtree(work / "runs")
    began = time.time()
    _run(command, work)
    (notes,) = (work / "runs").glob("*/*/*/log.jsonl")
    return json.loads(notes.read_text().splitlines()[0])["time"] - began
