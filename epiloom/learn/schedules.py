"""Learning rate over time: two plateau rules, exponential, constant, warm-up with cosine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from epiloom.plan.errors import InputError

NAMES = ("plateau_keras", "plateau_torch", "exponential", "constant", "warmup_cosine")


class Schedule:
    """The learning rate of every update, as plain numbers that can be saved and read back.

    * `plateau_keras`: multiply by `factor` at the `patience`-th epoch in a row without an
      improvement of more than `min_delta` (absolute); not below `floor`.
    * `plateau_torch`: the same one epoch later (the epoch after `patience` stale ones), and
      `min_delta` is relative to the best loss. As torch's ReduceLROnPlateau, cuts below 1e-8 are
      not made.
    * `exponential`: multiply by `factor` after every epoch; not below `floor`.
    * `constant`.
    * `warmup_cosine`: per update; linear from a thousandth over the share `warmup` (default 0.1)
      of all updates, then half a cosine down to `floor`.
    """

    def __init__(self, base: float, settings: Mapping[str, Any], updates: int):
        """`base`: the first learning rate. `updates`: how many there are in all epochs."""
        if settings["name"] not in NAMES:
            raise InputError(
                "schedule", f"name {settings['name']!r} is unknown; use one of {', '.join(NAMES)}"
            )
        self.name, self.base, self.updates = settings["name"], base, max(1, updates)
        self.factor = settings.get("factor", 0.2)
        self.patience = settings.get("patience", 3)
        self.min_delta = settings.get("min_delta", 1e-4)
        self.floor = settings.get("floor", 0.0)
        self.warmup = settings.get("warmup", 0.1)
        self.current, self.best, self.stale = base, math.inf, 0

    def rate(self, update: int) -> float:
        """Learning rate of the `update`-th update (0-based) of the run."""
        if self.name != "warmup_cosine":
            return self.current
        rising = max(1, round(self.warmup * self.updates))
        if update < rising:
            return self.base * (0.001 + 0.999 * (update + 1) / rising)
        done = (update - rising) / max(1, self.updates - rising)
        return self.floor + (self.base - self.floor) * 0.5 * (1 + math.cos(math.pi * done))

    def epoch_ended(self, loss: float) -> None:
        """Take note of an epoch's validation loss; cut the rate if the plateau rule says so."""
        if self.name == "exponential":
            self.current = max(self.current * self.factor, self.floor)
            return
        if self.name == "plateau_keras":
            threshold, allowed = self.best - self.min_delta, self.patience
        elif self.name == "plateau_torch":
            # infinity times a factor is fine: the first epoch always counts as an improvement
            threshold, allowed = self.best * (1 - self.min_delta), self.patience + 1
        else:
            return
        if loss < threshold:
            self.best, self.stale = loss, 0
            return
        self.stale += 1
        if self.stale >= allowed:
            self.stale = 0
            lower = max(self.current * self.factor, self.floor)
            if self.name == "plateau_keras" or self.current - lower > 1e-8:
                self.current = min(self.current, lower)

    def state(self) -> dict[str, float]:
        return {"current": self.current, "best": self.best, "stale": self.stale}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.current, self.best, self.stale = state["current"], state["best"], state["stale"]
