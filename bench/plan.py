"""Dry runs of studies of 1,000 to 20,000 jobs, against a bare Snakefile with as many jobs.

The bare one has a rule for each of three steps of a run, and one that collects: what Snakemake
itself takes to lay out such a graph. Wall time; jobs as Snakemake counts them.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from bench import Figure
from epiloom.plan.tracks import read_table

ROOT = Path(__file__).resolve().parents[1]
CORE = ["H3K4me1", "H3K4me3", "H3K9me3", "H3K27me3", "H3K36me3"]
STUDIES = (  # cells, mark sets, folds
    (9, ["each"], 7),
    (22, ["each", "pairs"], 5),
    (44, ["each", "pairs"], 10),
)
BARE = """
rule all:
    input: expand("c/{{n}}", n=range({runs}))
rule a:
    output: "a/{{n}}"
    shell: "touch {{output}}"
rule b:
    input: "a/{{n}}"
    output: "b/{{n}}"
    shell: "touch {{output}}"
rule c:
    input: "b/{{n}}"
    output: "c/{{n}}"
    shell: "touch {{output}}"
"""


def study(cells: int, sets: list[str], folds: int) -> dict:
    """A configuration of promoter CNNs: cells x mark sets x folds, three jobs each."""
    rows = read_table(ROOT / "config/cells.tsv", "cell")
    usable = [c for c, row in rows.items() if row["expression"] == "1"]
    usable = [c for c in usable if set(CORE) <= set(rows[c]["marks"].split(","))]
    pairs = [(f"chr{2 * k + 1}", f"chr{2 * k + 2}") for k in range(folds)]
    return {
        "cells": usable[:cells],
        "marks": CORE,
        "folds": {f"fold{k}": {"validation": [a], "test": [b]} for k, (a, b) in enumerate(pairs)},
        "models": {"promoter_cnn": {"mark_sets": sets}},
    }


def dry_run(folder: Path, *options: str) -> tuple[int, float, float]:
    """Jobs, seconds, and the largest memory so far in MB, of `snakemake -n`."""
    command = [sys.executable, "-m", "snakemake", "-n", "-q", "rules", "--directory", str(folder)]
    began = time.perf_counter()
    done = subprocess.run(
        [*command, *options], cwd=ROOT, capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - began
    jobs = int(re.search(r"^total\s+(\d+)", done.stdout + done.stderr, re.M)[1])
    return jobs, seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def figures() -> Iterator[Figure]:
    for asked in STUDIES:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "study.yaml").write_text(yaml.safe_dump(study(*asked)))
            jobs, ours, memory = dry_run(folder, "--configfile", str(folder / "study.yaml"))
            (folder / "Snakefile").write_text(BARE.format(runs=jobs // 3))
            _, bare, _ = dry_run(folder, "--snakefile", str(folder / "Snakefile"))
        what = f"dry run of {jobs:,} jobs (up to {memory:.0f} MB); bare Snakefile"
        yield Figure(what, ours, bare, "s")
