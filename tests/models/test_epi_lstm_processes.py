"""Two processes that divide the lanes of a genome train the same network as one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from epiloom.learn import training
from tests.made_tiles import SPEC, examples, made_case, make_tiles, settings

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
from pathlib import Path
from tests.made_tiles import tile_files
from tests.models.test_epi_lstm_processes import trained
trained(Path(sys.argv[1]), tile_files(Path(sys.argv[2])))
"""


def trained(folder: Path, files: dict) -> None:
    run = settings(epochs=2, batch=5, warmup_frames=2)
    parts = [examples(files, part, batch=5) for part in ("train", "validation")]
    out = [folder / name for name in ("run", "weights.pt", "history.tsv")]
    training.fit(SPEC, run, *parts, *out, device="cpu", progress=False)


@pytest.mark.timeout(180)
def test_two_processes_equal_one(tmp_path):
    """Five lanes: one process has three of them, the other two; masked bins differ by lane."""
    store = tmp_path / "store"
    trained(tmp_path / "one", make_tiles(store, *made_case()))
    (tmp_path / "program.py").write_text(PROGRAM)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
    done = subprocess.run(
        [*launcher, f"--master_port={port}", tmp_path / "program.py", tmp_path / "two", store],
        **{"cwd": ROOT, "capture_output": True, "text": True},
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (
        torch.load(tmp_path / name / "weights.pt", weights_only=True)["state_dict"]
        for name in ("one", "two")
    )
    assert max(float((one[key] - two[key]).abs().max()) for key in one) < 1e-5
