"""Attention of a trained model of cells against the loops of its cells, in every part of its test.

Two predictors are judged (see loop_truth.py): the model's attention, and `training_loops`, the
share of the training cells that have a loop in the pair of stretches; that is what one would guess
without a model. A training cell is left out of its own. Loops are compared with pairs of the same
distance, so what knows the distance alone has an auPRC of the prevalence.

Shapes: C cells, B bins.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from epiloom.data.loops import NEAR, Loops, contact_rows
from epiloom.learn import devices
from epiloom.learn.cell_evaluation import CELLS
from epiloom.learn.cell_regions import RegionTable
from epiloom.learn.evaluation import load_weights
from epiloom.plan.errors import InputError
from epiloom.studies import loop_truth

log = logging.getLogger("epiloom")

PARTS = ("cross_cell", "cross_region", "cross_both")
MODEL, USUAL = "model", "training_loops"
POOLED = "all"  # stands for all cells of a part
MOST = 400  # regions of a part, evenly spaced
COLUMNS = ("model", "fold", "part", "cell", "predictor", *loop_truth.COLUMNS, "row_cosine")


@dataclass
class _Found:
    """Pairs of one cell, their scores and cosines of rows by predictor."""

    pairs: list[pd.DataFrame] = field(default_factory=list)
    scores: dict[str, list[np.ndarray]] = field(default_factory=lambda: {MODEL: [], USUAL: []})
    cosines: dict[str, list[np.ndarray]] = field(default_factory=lambda: {MODEL: [], USUAL: []})


def score_loops(
    spec: Any,
    files: Mapping[str, Any],
    weights: str | Path,
    most: int | None = MOST,
    device: str = "auto",
    threads: int | None = None,
) -> pd.DataFrame:
    """Loops against distance-matched pairs (columns `COLUMNS`), negatives by the run's seed.

    One row per part, cell (and `all` of them), predictor and class of distance; the last class is
    all distances, and has the cosine of the rows of attention and loops.

    Args:
        files: see `RegionTable.read`, with `loops`. most: regions of a part; None: all.

    Raises:
        InputError: weights and files that do not fit; no cell with loops.
    """
    devices.use_cores(threads)
    net, settings = load_weights(spec, weights)
    table = RegionTable.read(settings, files)
    if not table.reader.loops:
        raise InputError("loops", "no cell has any; give them with loops.file of the model")
    place = torch.device(devices.pick_device(device))
    asked, rows = _Asked(spec, net.to(place), table, place), []
    for part in PARTS:
        found = asked.part(part, most)
        if len(found) > 1:
            found = {POOLED: _pooled(found.values())} | found
        labels = {"model": spec.name, "fold": settings["fold"]["name"], "part": part}
        rows += [_judged(own, labels | {"cell": cell}) for cell, own in found.items() if own.pairs]
    if not rows:
        return pd.DataFrame(columns=list(COLUMNS))
    kinds = dict.fromkeys(("high_bp", "prevalence", "auprc", "auroc", "row_cosine"), np.float64)
    return pd.concat(rows, ignore_index=True)[list(COLUMNS)].astype(kinds)


@dataclass(frozen=True)
class _Asked:
    spec: Any
    net: torch.nn.Module
    table: RegionTable
    device: torch.device

    def part(self, part: str, most: int | None) -> dict[str, _Found]:
        """What was found of every cell with loops."""
        reader = self.table.reader
        loops, cells = reader.loops or {}, self.table.places(part)
        cells = [int(k) for k in cells if int(k) in loops]
        if not cells:
            return {}
        examples = self.table.examples(part, most)
        places = {"chrom": examples.region_chroms, "start": examples.region_starts}
        regions, bins = pd.DataFrame(places), reader.inputs.shape.bins
        seed = int(self.table.settings.get("seed") or 0)
        pairs = {
            k: loop_truth.pairs_of(loops[k], regions, seed=[seed, k], bins=bins) for k in cells
        }
        found = {k: _Found() for k in cells}
        for chrom, start in regions.itertuples(index=False, name=None):
            own = {k: _of_region(table, chrom, int(start)) for k, table in pairs.items()}
            own = {k: table for k, table in own.items() if len(table)}
            if own:
                self._region(str(chrom), int(start), own, found)
        log.info("%s: %d cells with loops, %d regions", part, len(cells), len(regions))
        return {reader.cells[k]: v for k, v in found.items()}

    def _region(
        self, chrom: str, start: int, own: Mapping[int, pd.DataFrame], found: Mapping[int, _Found]
    ) -> None:
        """Add one region: its pairs of some cells (by place), their scores and cosines."""
        reader = self.table.reader
        bins, cells = reader.inputs.shape.bins, list(own)
        train = [int(k) for k in self.table.places("train") if int(k) in reader.loops]
        rows = {k: contact_rows(reader.loops[k], (chrom, start), bins) for k in {*cells, *train}}
        for k, matrix in zip(cells, self._attention(chrom, start, cells), strict=True):
            others = [t for t in train if t != k]
            usual = _usual([reader.loops[t] for t in others], chrom, start, own[k], bins)
            mean = sum(rows[t] for t in others) / max(1, len(others))
            found[k].pairs.append(own[k])
            found[k].scores[MODEL].append(loop_truth.pair_scores(matrix, own[k]))
            found[k].scores[USUAL].append(usual)
            found[k].cosines[MODEL].append(loop_truth.row_cosines(_far(matrix), rows[k]))
            if others:
                found[k].cosines[USUAL].append(loop_truth.row_cosines(mean, rows[k]))

    def _attention(self, chrom: str, start: int, cells: Sequence[int]) -> np.ndarray:
        """Attention of some cells (by place), float32 [C, B, B]."""
        found = []
        for first in range(0, len(cells), CELLS):
            some = np.array([cells[first : first + CELLS]], np.int64)
            batch = self.table.reader.batch([chrom], [start], some)
            wanted = (*self.spec.inputs, *self.spec.optional)
            tensors = {
                key: torch.from_numpy(np.ascontiguousarray(value)).to(self.device)
                for key, value in batch.items()
                if key in wanted
            }
            with torch.inference_mode():
                found.append(self.net.contacts(*self.spec.given(tensors))[0].float().cpu().numpy())
        return np.concatenate(found)


def _far(contacts: np.ndarray) -> np.ndarray:
    """Contacts without those so close to the diagonal that rows of loops leave them out too."""
    return np.triu(contacts, NEAR + 1) + np.tril(contacts, -NEAR - 1)


def _of_region(pairs: pd.DataFrame, chrom: str, start: int) -> pd.DataFrame:
    return pairs[(pairs["chrom"] == chrom) & (pairs["start"] == start)]


def _usual(
    others: Sequence[Loops], chrom: str, start: int, pairs: pd.DataFrame, bins: int
) -> np.ndarray:
    """Share of cells with a loop in the pairs of one region; NaN without a cell."""
    if not others:
        return np.full(len(pairs), np.nan)
    found = [loop_truth.touches(loops, chrom, start, pairs, bins) for loops in others]
    return np.mean(found, axis=0)


def _pooled(found: Sequence[_Found]) -> _Found:
    whole = _Found()
    for one in found:
        whole.pairs += one.pairs
        for name in (MODEL, USUAL):
            whole.scores[name] += one.scores[name]
            whole.cosines[name] += one.cosines[name]
    return whole


def _judged(found: _Found, labels: Mapping[str, str]) -> pd.DataFrame:
    """Rows of one cell."""
    pairs, tables = pd.concat(found.pairs, ignore_index=True), []
    for name in (MODEL, USUAL):
        scores = np.concatenate(found.scores[name])
        if not np.isfinite(scores).any():
            continue  # no other training cell has loops
        table = loop_truth.by_distance(pairs, scores)
        cosines = np.concatenate(found.cosines[name])
        table["row_cosine"] = [None] * (len(table) - 1) + [cosines.mean() if len(cosines) else None]
        tables.append(table.assign(predictor=name, **labels))
    return pd.concat(tables, ignore_index=True)
