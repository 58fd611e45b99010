"""The history of a training: one row per epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from epiloom.data.files import atomic

HISTORY = (
    *("epoch", "step", "train_loss", "validation_loss", "validation_r", "learning_rate"),
    *("samples_per_s", "seconds", "peak_memory_mb", "best"),
)


def write_history(history: list[dict[str, Any]], out: str | Path) -> None:
    """Write one row per epoch (`HISTORY`), whole or not at all."""
    with atomic(out) as tmp, tmp.open("w") as file:
        file.write("\t".join(HISTORY) + "\n")
        for row in history:
            file.write("\t".join(_cell(row[column]) for column in HISTORY) + "\n")


def _cell(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else repr(value)
