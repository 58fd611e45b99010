"""The models, one folder each. A model is known by its folder; nothing has to be registered."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from models.spec import ModelSpec

__all__ = ["ModelSpec", "load", "names"]


def names() -> list[str]:
    """Every folder that holds a `model.yaml`, sorted."""
    return sorted(card.parent.name for card in Path(__file__).parent.glob("*/model.yaml"))


def load(name: str) -> ModelSpec:
    """The interface of the model in folder `models/{name}`.

    Raises:
        LookupError: no such model; the message lists those that exist.
    """
    if name not in names():
        raise LookupError(f"model {name!r} does not exist; choose one of {', '.join(names())}")
    return import_module(f"models.{name}.model").SPEC
