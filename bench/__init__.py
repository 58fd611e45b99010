"""Speed against well-known tools on the same data: `python -m bench NAME`."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class Figure(NamedTuple):
    """One line of output; `ratio` is reference / ours, so more than 1 means ours is better."""

    name: str
    ours: float
    reference: float
    unit: str

    @property
    def ratio(self) -> float:
        return self.reference / self.ours if self.ours else float("inf")

    def __str__(self) -> str:
        return (
            f"{self.name:<58} {self.ours:10.4g} {self.unit:<3} "
            f"{self.reference:10.4g} {self.unit:<3} {self.ratio:8.3g}"
        )


def cpu_seconds() -> float:
    """Processor time of this process and of the children it has waited for."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def cpu_of(function: Callable[[], object]) -> float:
    """Processor seconds of one call."""
    began = cpu_seconds()
    function()
    return cpu_seconds() - began


def paired(functions: list[Callable[[], object]], repeats: int) -> list[float]:
    """Median wall seconds of each function; they take turns, so that noise hits all alike."""
    times: list[list[float]] = [[] for _ in functions]
    for turn in range(repeats + 1):
        for spent, function in zip(times, functions, strict=True):
            began = time.perf_counter()
            function()
            if turn:  # the first round only warms up
                spent.append(time.perf_counter() - began)
    return [statistics.median(spent) for spent in times]
