"""GPUs on a machine without a scheduler: real processes that take pretended GPUs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from epiloom.plan import gpus, jobs

ROOT = Path(__file__).resolve().parents[2]
JOB = """
import sys
from pathlib import Path
from epiloom.plan import gpus

folder, asked, shared, *present = sys.argv[1:]
taken = gpus.wait_for(present, int(asked), Path(folder), int(shared), every=0.05)
print(*taken, flush=True)
sys.stdin.read()
"""
TWO = ("GPU-aa", "GPU-bb")
LISTED = """GPU 0: NVIDIA H200 (UUID: GPU-1a2b)
  MIG 1g.18gb     Device  0: (UUID: MIG-77-x)
  MIG 1g.18gb     Device  1: (UUID: MIG-78-x)
GPU 1: NVIDIA H200 (UUID: GPU-3c4d)
"""


class Started:
    """A job of its own process, which holds what it takes until its input ends or it is killed."""

    def __init__(self, folder, asked=1, shared=1, present=TWO):
        command = [sys.executable, "-c", JOB, str(folder), str(asked), str(shared), *present]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(command, text=True, env=env, **pipes)

    def taken(self) -> list[str]:
        """What it took; waits for it."""
        return self.process.stdout.readline().split()

    def waits(self) -> str:
        """The line in which it says that it waits; waits for it."""
        return self.process.stderr.readline()


@pytest.fixture
def start(tmp_path):
    started = []

    def one(**given):
        started.append(Started(tmp_path / "locks", **given))
        return started[-1]

    yield one
    for each in started:
        with each.process:  # closes its pipes
            each.process.kill()


def test_each_job_gets_a_gpu_of_its_own_and_a_killed_one_leaves_its_gpu_to_the_next(start):
    first, second = start(), start()
    assert sorted(first.taken() + second.taken()) == list(TWO)
    third = start()
    assert "all 2 GPUs are taken" in third.waits()
    assert third.process.poll() is None
    os.kill(first.process.pid, signal.SIGKILL)
    got = third.taken()
    second.process.stdin.close()  # ends by itself
    assert len(got) == 1 and sorted(got + start().taken()) == list(TWO)


def test_several_share_a_gpu_only_when_asked_and_spread_first(start):
    pairs = [start(shared=2).taken() for _ in range(4)]
    assert pairs == [["GPU-aa"], ["GPU-bb"], ["GPU-aa"], ["GPU-bb"]]
    assert "--resources gpu=4" in start(shared=2).waits()


def test_a_job_of_two_gpus_takes_both_or_none(start):
    one = start()
    assert one.taken() == ["GPU-aa"]
    both = start(asked=2)
    assert "waiting" in both.waits()
    small = start()
    assert small.taken() == ["GPU-bb"]  # which the other does not sit on
    for each in (one, small):
        each.process.kill()
    assert both.taken() == list(TWO)


def test_more_than_there_are_means_all(start):
    assert start(asked=8).taken() == list(TWO)


def test_parts_of_a_divided_gpu_stand_for_it():
    assert gpus.identifiers(LISTED) == ["MIG-77-x", "MIG-78-x", "GPU-3c4d"]
    assert gpus.identifiers("") == []


DRIVER = """#!/bin/sh
echo 'GPU 0: Pretended (UUID: GPU-aa)'
echo 'GPU 1: Pretended (UUID: GPU-bb)'
"""
SCRIPT = """
import os, sys
from epiloom.plan import jobs

def main(job):
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
    with open(job.output["told"], "w") as file:
        file.write(f"{seen} {'torch' in sys.modules}")

jobs.run(main)
"""


@pytest.mark.parametrize(
    ("asked", "given", "seen"),
    [
        (1, {}, "GPU-aa"),
        (2, {}, "GPU-aa,GPU-bb"),
        (0, {}, ""),  # none of them: it may be another job's
        (0, {"CUDA_VISIBLE_DEVICES": "5"}, "5"),
        (1, {"CUDA_VISIBLE_DEVICES": "5"}, "5"),  # a scheduler's word
        (1, {"CUDA_VISIBLE_DEVICES": ""}, ""),  # the user wants none used
        (1, {"RANK": "0", "LOCAL_RANK": "0"}, "all"),  # one of several processes
    ],
)
def test_a_job_sees_the_gpus_it_asked_for_before_torch_is_loaded(tmp_path, asked, given, seen):
    driver = tmp_path / "bin/nvidia-smi"
    driver.parent.mkdir()
    driver.write_text(DRIVER)
    driver.chmod(0o755)
    (tmp_path / "script.py").write_text(SCRIPT)
    job = jobs.Job("told", output={"told": str(tmp_path / "told")}, gpus=asked)
    (tmp_path / "job.json").write_text(json.dumps(asdict(job)))
    env = {k: v for k, v in os.environ.items() if k not in ("CUDA_VISIBLE_DEVICES", "RANK")}
    env |= {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), **given}
    env["PATH"] = f"{driver.parent}:{env['PATH']}"
    command = [sys.executable, tmp_path / "script.py", tmp_path / "job.json"]
    subprocess.run(command, env=env, check=True)
    assert (tmp_path / "told").read_text() == f"{seen} False"
    locks = list((tmp_path / f"epiloom-gpus-{os.getuid()}").glob("GPU-*.lock"))
    assert len(locks) == (2 if asked == 2 else seen == "GPU-aa")
