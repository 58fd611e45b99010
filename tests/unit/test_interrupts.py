"""The end of a Slurm job's time, asked from a real program named squeue."""

from __future__ import annotations

import math
import os
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from epiloom.learn import interrupts


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """Puts a program on PATH that answers what it is told."""

    def answers(text: str, status: int = 0) -> None:
        path = Path(tmp_path, "squeue")
        path.write_text(f"#!/bin/sh\n[ \"$3\" = 7 ] && echo '{text}'\nexit {status}\n")
        path.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    return answers


def test_a_job_leaves_a_minute_before_its_end_and_a_short_one_a_tenth(squeue):
    end = datetime.now().replace(microsecond=0) + timedelta(hours=2)
    squeue(end.isoformat())
    assert interrupts.time_limit() == end.timestamp() - 60
    end = datetime.now().replace(microsecond=0) + timedelta(seconds=100)
    squeue(end.isoformat())
    assert interrupts.time_limit() == pytest.approx(end.timestamp() - 10, abs=2)


@pytest.mark.parametrize("text", ["N/A", "", "Invalid job id specified"])
def test_without_an_answer_there_is_no_limit(squeue, text):
    squeue(text, 1)
    assert interrupts.time_limit() == math.inf


def test_elsewhere_nobody_is_asked(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert interrupts.time_limit() == math.inf


def test_training_is_asked_to_end_when_the_time_is_over(squeue, caplog):
    squeue((datetime.now() + timedelta(seconds=3)).replace(microsecond=0).isoformat())
    with interrupts.Signals() as stop:
        assert not stop.asked or time.time() > stop.limit
        stop.limit = time.time() - 1
        assert stop.asked and stop.asked
    assert caplog.text.count("time is nearly over") == 1
