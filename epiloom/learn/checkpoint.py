"""The state of a training run on disk, and the random streams that belong to it.

    {run_dir}/manifest.json    what is being trained: settings, model, data
    {run_dir}/state.pt         everything needed to continue, replaced as a whole
    {run_dir}/best-00007.pt    weights of the best epoch so far (the state names the file)

The best weights are written before the state that names them, and older ones are removed only
after that state is in place; so a run that is killed at any moment finds a state and the best
weights that belong to it.
"""

from __future__ import annotations

import json
import logging
import math
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from epiloom.data.files import atomic
from epiloom.learn.cell_settings import BELONGS
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")
SCHEMA = 1
# Settings that the data complete: they always agree with them (see `cell_settings.settings_from`).
TOLD_BY_DATA = (BELONGS, "tfs", "motif_step")


@dataclass
class Progress:
    """How far a run has come, in plain numbers."""

    epoch: int = 0  # epochs completed
    position: int = 0  # updates made inside the present epoch
    update: int = 0  # updates made in all
    loss_sum: float = 0.0  # sum over the examples that counted in the present epoch
    examples: int = 0  # examples seen in the present epoch
    counted: int = 0  # those among them that count in the loss
    seconds: float = 0.0  # spent in the present epoch, over all its interruptions
    best_loss: float = math.inf
    best_r: float = -math.inf
    best_epoch: int = 0  # 1-based, 0 = none yet
    stale: int = 0  # epochs since the best one
    finished: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)

    def improved_by(self, loss: float, r: float, keep: str) -> bool:
        """Whether weights with this validation loss and r replace the best so far (see `keep`)."""
        if keep == "last" or not self.best_epoch:
            return True
        return r > self.best_r if keep == "best_r" else loss < self.best_loss

    def next_epoch(self) -> None:
        self.epoch, self.position, self.loss_sum = self.epoch + 1, 0, 0.0
        self.examples, self.counted, self.seconds = 0, 0, 0.0


class RunFolder:
    """A folder of training state that belongs to one set of settings, and to the data read."""

    def __init__(self, folder: str | Path, manifest: Mapping[str, Any], writer: bool = True):
        """Open or begin the folder. `writer`: this process writes (rank 0 of several).

        A state that was made with other data is removed: training starts again.

        Raises:
            InputError: the folder holds a run with other settings; every difference is named.
        """
        self.folder, self.writer = Path(folder), writer
        self.state_path = self.folder / "state.pt"
        wanted = json.loads(json.dumps({"schema": SCHEMA, **manifest}))  # as it will be read back
        if not writer:
            return
        for left in self.folder.glob(".*.pt.*"):  # by a process that was killed while writing
            left.unlink()
        path = self.folder / "manifest.json"
        if path.exists():
            (asked, data), (had, old) = _parted(wanted), _parted(json.loads(path.read_text()))
            if had != asked:
                raise InputError(path, _differences(had, asked))
            if old != data:
                changed = ", ".join(key for key in data | old if old.get(key) != data.get(key))
                log.warning(
                    "%s: the examples have changed (%s); training starts again",
                    *(self.folder, changed),
                )
                self.clear()
        with atomic(path) as tmp:
            tmp.write_text(json.dumps(wanted, indent=1, sort_keys=True) + "\n")

    def clear(self) -> None:
        """Forget the training so far."""
        self.state_path.unlink(missing_ok=True)
        for path in self.folder.glob("best-*.pt"):
            path.unlink()

    def best_path(self, epoch: int) -> Path:
        return self.folder / f"best-{epoch:05d}.pt"

    def save_best(self, epoch: int, weights: Mapping[str, torch.Tensor]) -> None:
        """Write the weights of `epoch`; they count once a state that names them is saved."""
        save(self.best_path(epoch), dict(weights))

    def save_state(self, progress: Progress, parts: Mapping[str, Any]) -> None:
        """Replace the state, then remove best weights that it no longer names."""
        save(self.state_path, {"progress": asdict(progress), **parts})
        for path in self.folder.glob("best-*.pt"):
            if path != self.best_path(progress.best_epoch):
                path.unlink()

    def load_state(self) -> dict[str, Any] | None:
        """What `save_state` wrote last, with `progress` as a `Progress`.

        None if nothing was, or if the best weights that it names are gone, so that training starts
        again: two processes may have written here, one of them left over from a killed workflow.

        Raises:
            InputError: the file is damaged.
        """
        if not self.state_path.exists():
            return None
        state = load(self.state_path)
        known = {f.name for f in fields(Progress)}
        state["progress"] = Progress(**{k: v for k, v in state["progress"].items() if k in known})
        best = state["progress"].best_epoch
        if best and not self.best_path(best).exists():
            log.warning("%s is not there; training starts again", self.best_path(best))
            return None
        return state


def _parted(manifest: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A manifest without its data, and the data, with the settings that only they tell.

    The name of a run's folder comes from the settings that were planned, so that a run on other
    data finds the state of the one before.
    """
    settings = dict(manifest["settings"])
    data = {key: settings.pop(key) for key in TOLD_BY_DATA if key in settings}
    return {**manifest, "settings": settings, "data": {}}, {**manifest["data"], **data}


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any], where: str = "") -> list[str]:
    lines = []
    for key in sorted(set(found) | set(wanted)):
        old, new = found.get(key, "not there"), wanted.get(key, "not there")
        if isinstance(old, dict) and isinstance(new, dict):
            lines += _differences(old, new, f"{where}{key}.")
        elif old != new:
            lines.append(
                f"{where}{key}: the state here was made with {old!r}, this run asks for {new!r};"
                " use another run folder, or remove this one to start again"
            )
    return lines


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values; the file appears whole or not at all.

    Raises:
        OSError: the disk is full, or refuses for another reason.
    """
    with atomic(path) as tmp, tmp.open("wb") as file:
        try:
            # given a path, torch would write the temporary name inside
            torch.save(content, file)
        except RuntimeError as err:  # torch puts its own words ("unexpected pos") over a full disk
            first = err.__context__
            if isinstance(first, OSError):
                raise OSError(first.errno, first.strerror, str(path)) from err
            raise


def save_weights(
    path: str | Path, weights: Mapping[str, torch.Tensor], settings: Mapping[str, Any]
) -> None:
    """Write a run's result: `state_dict`, and `settings` as plain values."""
    plain = json.loads(json.dumps(settings))
    save(Path(path), {"state_dict": dict(weights), "settings": plain})


def load(path: str | Path, remedy: str = "remove it and train again") -> dict[str, Any]:
    """Read what `save` wrote, tensors on the CPU; no code in the file is ever run.

    Args:
        remedy: what to do about a file that cannot be read.

    Raises:
        InputError: the file is missing, damaged, or holds more than tensors and plain values.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(path, "no such file; run the training that makes it") from None
    except Exception as err:  # torch raises many kinds for a damaged file
        raise InputError(path, f"cannot be read ({err}); {remedy}") from err


def random_states() -> dict[str, Any]:
    """The random streams of this process as plain values (see `restore_random`)."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    version, words, second = random.getstate()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {
        "python": [version, list(words), second],
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
        "cuda": cuda,
    }


def restore_random(states: Mapping[str, Any]) -> None:
    """Continue every random stream where `random_states` found it."""
    version, words, second = states["python"]
    random.setstate((version, tuple(words), second))
    kind, keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
