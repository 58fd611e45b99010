"""Two trainings at once in one folder: what is left when Snakemake is killed and started again."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from epiloom.learn import checkpoint
from tests.models.small import fit, genes, same, settings

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.faults
RUN = {"epochs": 12, "filters": [16, 32, 32], "dense": [64, 16], "stop_patience": 0}
PROGRAM = f"""
import sys
from pathlib import Path
from tests.models.small import fit, genes, settings
fit(Path(sys.argv[1]), settings(**{RUN}), genes(100, 0), genes(30, 1), save_minutes=0.0001)
"""


def started(folder: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, folder],
        **{"cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE},
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )


def test_two_at_once_and_a_kill_end_with_the_weights_of_one(tmp_path):
    """Each may break off because of the other; whoever is started afterwards has to end well."""
    run, dice = settings(**RUN), random.Random(1)
    folder = tmp_path / "shared"
    folder.mkdir()
    first = started(folder)
    log = folder / "run/log.jsonl"
    while first.poll() is None and not log.exists():
        time.sleep(0.005)
    second = started(folder)
    begun = log.stat().st_size
    while second.poll() is None and log.stat().st_size < begun + 600:
        time.sleep(0.005)
    time.sleep(dice.uniform(0, 0.5))
    dice.choice([first, second]).kill()
    for process in (first, second):
        process.communicate()
    fit(folder, run, genes(100, 0), genes(30, 1))
    fit(tmp_path / "straight", run, genes(100, 0), genes(30, 1))
    assert same(folder, tmp_path / "straight")


def test_a_state_without_the_weights_that_it_names_begins_again(tmp_path, caplog):
    """One process removed what it took for older weights before the other's state named them."""
    fit(tmp_path / "straight", settings())
    fit(tmp_path / "broken", settings())
    for name in ("weights.pt", "history.tsv"):
        (tmp_path / "broken" / name).unlink()
    progress = checkpoint.load(tmp_path / "broken/run/state.pt")["progress"]
    best = tmp_path / f"broken/run/best-{progress['best_epoch']:05d}.pt"
    best.unlink()
    fit(tmp_path / "broken", settings())
    assert f"{best} is not there; training starts again" in caplog.text
    assert same(tmp_path / "broken", tmp_path / "straight")
