"""Ending a run on request: finish the step, save, leave with a status that asks for a retry."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from typing import Any

log = logging.getLogger("epiloom")


class Preempted(SystemExit):
    """The run was asked to end (SIGTERM, SIGUSR1) and has saved its state; start it again."""

    STATUS = 75  # "temporary failure": a retry goes on where this attempt ended

    def __init__(self) -> None:
        super().__init__(self.STATUS)


class Signals:
    """Within the block, SIGTERM and SIGUSR1 only set `asked`; the step in progress is finished.

    Python delivers signals to the main thread only; in another thread nothing is changed.
    """

    def __init__(self) -> None:
        self.asked = False
        self.before: dict[int, Callable | int | None] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGUSR1):
                self.before[number] = signal.signal(number, self._ask)
        return self

    def _ask(self, number: int, frame: Any) -> None:
        log.warning("%s: finishing the step, then saving", signal.Signals(number).name)
        self.asked = True

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
