"""The optimizers that trainings may use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from epiloom.plan.errors import InputError

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def made(net: torch.nn.Module, settings: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimizer of a run: name, learning_rate, epsilon, weight_decay, decay of `settings`.

    Raises:
        InputError: unknown name.
    """
    if settings["name"] not in OPTIMIZERS:
        raise InputError(
            "optimizer", f"name {settings['name']!r} is unknown; use {' or '.join(OPTIMIZERS)}"
        )
    return OPTIMIZERS[settings["name"]](
        _groups(net, settings),
        lr=settings["learning_rate"],
        eps=settings["epsilon"],
        weight_decay=settings["weight_decay"],
        fused=True,  # one pass over all weights: a third of the time of torch's default on a CPU
    )


def _groups(net: torch.nn.Module, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All weights, or, with `decay: matrices`, biases and normalisations apart, without decay."""
    weights = [w for w in net.parameters() if w.requires_grad]
    if settings.get("decay", "all") == "all":
        return [{"params": weights}]
    flat = [w for w in weights if w.ndim < 2]
    rest = [w for w in weights if w.ndim >= 2]
    return [{"params": rest}, {"params": flat, "weight_decay": 0.0}]
