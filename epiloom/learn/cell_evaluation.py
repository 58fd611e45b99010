"""How well a model predicts cells: its metrics in every part of the evaluation, region by region.

Nothing is kept but the sums of `cell_metrics` and the region in work. The baseline is the mean of
the training cells' measured signal in the same bins; a training cell is left out of its own.

Shapes: C cells, B bins, S signals.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from epiloom.data.files import atomic
from epiloom.learn import devices, loader
from epiloom.learn.cell_metrics import (
    CellMetrics,
    leave_one_out,
    metrics_rows,
    partners_of,
    training_mean,
)
from epiloom.learn.cell_regions import RegionTable
from epiloom.learn.evaluation import load_weights
from epiloom.learn.loader import Piece
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

PARTS = ("validation", "cross_cell", "cross_region", "cross_both")
CELLS = 16  # predicted at once
OF_CELLS = ("expression", "mean")  # inputs that are each cell's own
EVERY = 10.0  # seconds between lines of the log


def predict_cells(
    spec: Any, net: torch.nn.Module, batch: Mapping[str, torch.Tensor], at_once: int = CELLS
) -> np.ndarray:
    """Predictions of some regions and cells, float32 [R, C, B, S], in evaluation mode.

    One region and `at_once` cells at a time; cells do not influence each other.

    Args:
        batch: the inputs of the model, on its device; `expression` is [R, C, K], `mean`, if the
            model reads it, [R, C, B, S].
    """
    found = []
    with torch.inference_mode():
        for r in range(len(batch["expression"])):
            row = {key: value[r : r + 1] for key, value in batch.items()}
            own = [key for key in OF_CELLS if key in row]
            split = zip(*(row[key].split(at_once, dim=1) for key in own), strict=True)
            given = [spec.given(row | dict(zip(own, some, strict=True))) for some in split]
            parts = [spec.output(net(*inputs)) for inputs in given]
            found.append(torch.cat(parts, dim=1).float().cpu())
    return torch.cat(found).numpy()


def evaluate(
    spec: Any,
    files: Mapping[str, Any],
    weights: str | Path,
    out: str | Path | None = None,
    parts: Sequence[str] = PARTS,
    most_regions: int | None = None,
    cells_at_once: int = CELLS,
    device: str = "auto",
    threads: int | None = None,
) -> pd.DataFrame:
    """Metrics of a run (columns `cell_metrics.COLUMNS`).

    Cells, chromosomes and sizes are those of the weights' own settings. Parts without a cell are
    left out.

    Args:
        files: see `RegionTable.read`; refused if they are not those that the weights go with.
        out: table to write; None: none.
        most_regions: of each part, evenly spaced; None: all.

    Raises:
        InputError: weights or files that do not fit.
    """
    devices.use_cores(threads)
    net, settings = load_weights(spec, weights)
    table = RegionTable.read(settings, files)
    place = torch.device(devices.pick_device(device))
    net = net.to(place)
    asked = [part for part in parts if table.cells(part)]
    if not asked:
        raise InputError("evaluation", f"no cell in {', '.join(parts)}; name test cells")
    sums = {
        part: part_metrics(spec, net, table, part, place, most_regions, cells_at_once)
        for part in asked
    }
    labels = {"model": spec.name, "fold": settings["fold"]["name"]}
    found = metrics_rows(sums, labels, spec.name)
    if out is not None:
        with atomic(out) as tmp:
            found.to_csv(tmp, sep="\t", index=False, float_format="%.6g")
    return found


def part_metrics(
    spec: Any,
    net: torch.nn.Module,
    table: RegionTable,
    part: str,
    place: torch.device,
    most_regions: int | None = None,
    cells_at_once: int = CELLS,
) -> CellMetrics:
    """Sums over all regions and cells of one part.

    Args:
        net: on `place`, in evaluation mode.
    """
    cells, train = table.cells(part), table.places("train")
    of_training = cells == table.cells("train")
    group = table.settings.get("groups") or {}  # cell -> its tissue, say
    partners = partners_of([group.get(cell, cell) for cell in cells])
    # a cell held out alone is given the factors of a cell that the model knows
    others = partners_of([group.get(cell, cell) for cell in [*cells, *table.cells("train")]])
    alone = len(cells) == 1 and not of_training
    stranger = table.reader.vectors[train[others[0] - 1]] if alone else None
    found = CellMetrics(cells, table.settings["signals"], partners if len(cells) > 1 else None)
    regions = table.examples(part, most_regions, cells_at_once=len(cells))
    told = _Told(part, len(regions))
    pieces = (Piece(np.array([k]), 1.0) for k in range(len(regions)))
    with closing(loader.feed(regions, pieces, place)) as batches:
        for piece, batch in batches:
            (k,) = piece.indices
            truth = batch["target"][0].float().cpu().numpy()
            made = predict_cells(spec, net, batch, cells_at_once)[0]
            if of_training:
                mean = leave_one_out(truth)
            else:
                chrom, start = regions.region_chroms[k], regions.region_starts[k]
                mean = training_mean(table.reader.target(str(chrom), int(start), train))
            wrong = _wrong(spec, net, batch, partners, cells_at_once, stranger)
            found.add(truth, made, mean, wrong)
            told.advanced(int(k) + 1)
    return found


def _wrong(
    spec: Any,
    net: torch.nn.Module,
    batch: Mapping[str, torch.Tensor],
    partners: Sequence[int],
    cells_at_once: int,
    stranger: np.ndarray | None = None,
) -> np.ndarray | None:
    """Each cell with the factors of its partner (`stranger`, [K], for a cell alone), and the mean
    that goes with the cell; None where the partner's own prediction is that."""
    factors = batch["expression"]
    if stranger is not None:
        other = torch.from_numpy(stranger).to(factors).expand_as(factors)
    elif "mean" in batch and len(partners) > 1:
        other = factors[:, list(partners)]
    else:
        return None
    other = dict(batch) | {"expression": other}
    return predict_cells(spec, net, other, cells_at_once)[0]


class _Told:
    """A line in the log now and then: how far, and how long still."""

    def __init__(self, part: str, regions: int):
        self.part, self.total = part, regions
        self.began = self.last = time.monotonic()

    def advanced(self, done: int) -> None:
        now = time.monotonic()
        if now - self.last < EVERY and done < self.total:
            return
        self.last = now
        left = (now - self.began) * (self.total - done) / done
        log.info("%s: %d of %d regions, %.0f s left", self.part, done, self.total, left)
