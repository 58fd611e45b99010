"""What a job's process is like before its work begins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from epiloom.plan import jobs

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import os, sys
from epiloom.plan import jobs

def main(job):
    with open(job.output["told"], "w") as file:
        file.write(os.environ["OMP_WAIT_POLICY"] + str("torch" in sys.modules))

jobs.run(main)
"""


@pytest.mark.parametrize("asked", [None, "active"])
def test_threads_do_not_wait_in_a_busy_loop_unless_asked_to(tmp_path, asked):
    given = {"OMP_WAIT_POLICY": asked} if asked else {}
    job = jobs.Job("told", output={"told": str(tmp_path / "told")}, log=str(tmp_path / "told.log"))
    (tmp_path / "job.json").write_text(json.dumps(asdict(job)))
    (tmp_path / "program.py").write_text(PROGRAM)
    env = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    subprocess.run(
        [sys.executable, tmp_path / "program.py", tmp_path / "job.json"],
        env=env | {"PYTHONPATH": str(ROOT)} | given,
        check=True,
    )
    assert (
        tmp_path / "told"
    ).read_text() == f"{asked or 'passive'}False"  # set before torch reads it
