"""Ending a run on request: finish the step, save, leave with a status that asks for a retry."""

from __future__ import annotations

import logging
import math
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

log = logging.getLogger("epiloom")


class Preempted(SystemExit):
    """The run was asked to end (SIGTERM, SIGUSR1) and has saved its state; start it again."""

    STATUS = 75  # "temporary failure": a retry goes on where this attempt ended

    def __init__(self) -> None:
        super().__init__(self.STATUS)


def time_limit(margin: float = 60.0) -> float:
    """Clock time by which to leave this Slurm job: `margin` seconds before its end; inf elsewhere.

    Where Slurm tracks processes by cgroup, its signals before the limit reach the first process of
    a step only, which is not the training. Of short jobs a tenth is left for saving.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if not job:
        return math.inf
    try:
        ask = ["squeue", "-h", "-j", job, "-o", "%e"]
        told = subprocess.run(ask, capture_output=True, text=True, timeout=20)
        end = datetime.fromisoformat(told.stdout.strip()).timestamp()
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return math.inf
    return end - min(margin, 0.1 * (end - time.time()))


class Signals:
    """Within the block, SIGTERM and SIGUSR1 only set `asked`; the step in progress is finished.

    The end of a Slurm job's time sets it, too. Python delivers signals to the main thread only; in
    another thread nothing is changed.
    """

    def __init__(self) -> None:
        self._asked, self.limit = False, time_limit()
        self.before: dict[int, Callable | int | None] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGUSR1):
                self.before[number] = signal.signal(number, self._ask)
        return self

    @property
    def asked(self) -> bool:
        """Whether to end: after a signal, or when the job's time is nearly over."""
        if not self._asked and time.time() > self.limit:
            log.warning("the job's time is nearly over: finishing the step, then saving")
            self._asked = True
        return self._asked

    def _ask(self, number: int, frame: Any) -> None:
        log.warning("%s: finishing the step, then saving", signal.Signals(number).name)
        self._asked = True

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
