"""Two processes that divide the batches of EpiGePT train the same network as one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from epiloom.learn import one_run
from epiloom.learn.kinds import completed, open_table
from tests.made_cells import SPEC, settings, write_world

ROOT = Path(__file__).resolve().parents[2]
DRY = {"tower_dropout": 0.0, "dropout": 0.0, "attention_dropout": 0.0}
# With a small epsilon, the rounding of gradients near zero would become steps of full length.
ADAM = {"name": "adamw", "learning_rate": 5e-3, "decay": "matrices"}
ADAM |= {"epsilon": 1e-3, "weight_decay": 0.01}
BATCH, EPOCHS, STEPS = 3, 2, 28
PROGRAM = """
import json, sys
from pathlib import Path
from tests.models.test_epigept_processes import trained
trained(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()))
"""


def run() -> dict:
    return settings(batch=BATCH, epochs=EPOCHS, keep="last", optimizer=ADAM, **DRY)


def trained(folder: Path, files: dict) -> None:
    outs = [folder / name for name in ("run", "weights.pt", "history.tsv")]
    one_run.train(SPEC, run(), files, *outs, threads=1)


@pytest.mark.faults
@pytest.mark.timeout(180)
def test_two_processes_equal_one(tmp_path):
    """Batches are odd, the last is a single example; a cell lacks a signal, bins are masked."""
    files = write_world(tmp_path / "world")
    table = open_table("regions", completed(run(), files), files)
    sizes = [len(table.examples(part)) for part in ("train", "validation")]
    assert sizes == [40, 6]  # shares of 2 and 1; for the last update one process has nothing
    trained(tmp_path / "one", files)
    (tmp_path / "files.json").write_text(json.dumps(files))
    (tmp_path / "program.py").write_text(PROGRAM)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
    where = [tmp_path / name for name in ("program.py", "two", "files.json")]
    done = subprocess.run(
        [*launcher, f"--master_port={port}", *where],
        **{"cwd": ROOT, "capture_output": True, "text": True},
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    folders = [tmp_path / name for name in ("one", "two")]
    one, two = (torch.load(f / "weights.pt", weights_only=True)["state_dict"] for f in folders)
    assert max(float((one[key] - two[key]).abs().max()) for key in one) < 1e-5
    histories = [pd.read_csv(folder / "history.tsv", sep="\t") for folder in folders]
    assert list(histories[0]["step"])[-1] == list(histories[1]["step"])[-1] == STEPS
    # the validation loss is a mean over all examples: one counted twice, or not, would change it
    for column in ("train_loss", "validation_loss", "validation_r"):
        first, second = (list(history[column]) for history in histories)
        assert second == pytest.approx(first, rel=1e-5)
