"""Training that begins with weights of another training: a new cell type on a trained trunk.

Only weights are taken, never code. Figures on test chromosomes and on held-out cells are held out
only if the earlier training held them out as well; weights that do not tell are refused unless the
user accepts it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from epiloom.data.folds import PARTS
from epiloom.learn import checkpoint
from epiloom.learn.cell_settings import cells_by_part
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

FOLDER = {"encoder": "encoder.pth", "decoder": "decoder.pth"}  # authors' weights in two files
# Plain numbers that checkpoints of others may hold beside tensors (a correlation, say).
SCALAR = np.float64(0).__reduce__()[0]
ORDERED = ("tfs", "signals")  # settings that name columns, where the data told them
NUMBERS = [(SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
NUMBERS += [np.dtype, *(type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "?"))]


def begin(spec: Any, net: nn.Module, settings: Mapping[str, Any], path: str | Path) -> None:
    """Fill a network with the weights of a file.

    Rows of the last map (`spec.rows`) go by the tracks' names; a track that the file does not know
    begins with the mean of the file's rows, the best guess for a cell type not seen.

    Args:
        net: as the run's settings want it.
        path: a `weights.pt` made here, or a checkpoint of the model's authors.

    Raises:
        InputError: no such weights, other sizes, or test chromosomes or held-out cells that the
            weights have seen.
    """
    theirs, state = _read(spec, path)
    _check_seen(settings, theirs, path)
    _check_form(spec, settings, theirs, path)
    known = list(theirs["tracks"]) if spec.rows else []
    for name in spec.rows:
        state[name] = _rows(state[name], known, settings["tracks"])
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(path, f"does not fit models.{spec.name}: {error}") from None
    if spec.remark:
        log.info("started from %s: %s", path, spec.remark(state))
    if spec.rows:
        kept = [track for track in settings["tracks"] if track in known]
        log.info(
            "started from %s: rows of %d of %d tracks kept (%s)",
            *(path, len(kept), len(settings["tracks"]), ", ".join(kept) or "none"),
        )


def freeze(spec: Any, net: nn.Module) -> None:
    """Leave only the rows of the last map to be trained."""
    for name, weight in net.named_parameters():
        weight.requires_grad_(name in spec.rows)


def unchanged(
    spec: Any,
    settings: Mapping[str, Any],
    path: str | Path,
    weights_out: str | Path,
    examples: Callable[[], Any],
) -> None:
    """Write the weights of a file as those of a run, without any training.

    `examples` gives the training examples, for a network that keeps something of them.
    """
    net = spec.build(settings)
    begin(spec, net, settings, path)
    if spec.prepare:
        spec.prepare(net, examples())
    checkpoint.save_weights(weights_out, net.state_dict(), settings)


def digest(path: str | Path) -> str:
    """Checksum of the file (or files), by which a resumed run knows that it is still the same."""
    paths = [Path(path) / name for name in FOLDER.values()] if Path(path).is_dir() else [Path(path)]
    found = []
    for each in paths:
        with each.open("rb") as file:
            found.append(hashlib.file_digest(file, "sha256").hexdigest())
    return " ".join(found)


def _read(spec: Any, path: str | Path) -> tuple[Mapping[str, Any], dict[str, Tensor]]:
    remedy = "give a weights.pt made here or a checkpoint of the authors"
    with torch.serialization.safe_globals(NUMBERS):
        if Path(path).is_dir():
            given = {k: checkpoint.load(Path(path) / f, remedy) for k, f in FOLDER.items()}
        else:
            given = checkpoint.load(path, remedy)
    if set(given) == {"state_dict", "settings"}:
        return given["settings"], dict(given["state_dict"])
    try:
        return spec.import_published(given)
    except ValueError as error:
        raise InputError(path, f"{error}; give weights.pt of a run or the authors' file") from None


def _check_form(
    spec: Any, settings: Mapping[str, Any], theirs: Mapping[str, Any], path: str | Path
) -> None:
    """Refuse weights of a network that computes something else, naming every setting."""
    asked, found = spec.form(settings), spec.form(theirs)
    problems = [
        f"{key} is {found[key]} in the weights, {asked[key]} in the settings; set "
        f"models.{spec.name}.{key}: {found[key]}"
        for key in asked
        if key in found and asked[key] != found[key]
    ]
    for key in ORDERED:
        own, other = settings.get(key), theirs.get(key)
        if isinstance(own, list) and isinstance(other, list) and own != other:
            k = next((k for k, (a, b) in enumerate(zip(own, other, strict=False)) if a != b), 0)
            problems.append(
                f"{key} are others, or in another order, than in the weights: number {k + 1} is "
                f"{own[k]}, in the weights {other[k]}; take the data that these were made with"
            )
    if problems:
        raise InputError(path, problems)


def _rows(rows: Tensor, known: list[str], tracks: list[str]) -> Tensor:
    usual = rows.mean(dim=0)
    return torch.stack([rows[known.index(t)] if t in known else usual for t in tracks])


def _check_seen(settings: Mapping[str, Any], theirs: Mapping[str, Any], path: str | Path) -> None:
    """Refuse weights that have seen what is held out, or do not tell: chromosomes and cells."""
    if settings["start_seen"] == "allow":
        return
    remedy = "or set models.*.start_seen: allow (the report then says that the figures may not be"
    remedy += " held out)"
    tells = theirs.get("fold") and theirs.get("start_seen", "refuse") == "refuse"
    if not tells or theirs.get("windows", {}).get("split") == "random_windows":
        raise InputError(
            path,
            "does not tell which chromosomes it was trained on; hold other chromosomes out, "
            f"{remedy}",
        )
    seen = [c for c in settings["fold"]["test"] if c not in theirs["fold"]["test"]]
    problems = []
    if seen:
        where = f"fold {settings['fold']['name']}"
        problems.append(
            f"was not tested on {', '.join(seen)}, test chromosomes of {where}; hold other "
            f"chromosomes out, {remedy}"
        )
    problems += [f"{told}, {remedy}" for told in _seen_cells(settings, theirs)]
    if problems:
        raise InputError(path, problems)


def _seen_cells(settings: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    """Held-out cells that earlier training saw; runs that do not name their cells have none."""
    sides = _cells(settings)
    if not sides["test"] and not sides["validation"]:
        return
    before = _cells(theirs)
    if not before["train"]:
        yield "does not tell which cells it was trained on; take weights that do"
        return
    for part, chose in (("test", before["validation"]), ("validation", [])):
        if theirs.get("start"):  # what it began with may have seen any cell it did not hold out
            kept = before["test"] + (before["validation"] if part == "validation" else [])
            seen = [cell for cell in sides[part] if cell not in kept]
        else:
            seen = [cell for cell in sides[part] if cell in before["train"] + chose]
        if seen:
            yield f"was not held out from {', '.join(seen)}, {part} cells; hold other cells out"


def _cells(settings: Mapping[str, Any]) -> dict[str, list[str]]:
    """Cells by part of a run that names them so, else none."""
    if isinstance(settings.get("cells"), Mapping) or "train_cells" in settings:
        return cells_by_part(settings)
    return dict.fromkeys(PARTS, [])
