"""Regions predicted by a sequence model: every bin once, from full context, in genome order.

Nothing is kept but the windows in work, so a whole genome takes no more memory than a region.
Shapes: n windows, L = seq_bp bases, T tracks, B = geometry.bins predicted bins.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from epiloom.data.genome import Genome
from epiloom.data.geometry import Geometry
from epiloom.data.sequence import reverse_complement
from epiloom.learn.region_windows import (
    CENTRED,
    Region,
    Tiling,
    Window,
    edge_weights,
    wanted,
    windows,
)
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]  # [n, L], [n, L] -> [n, T, B]
EVERY = 10.0  # seconds between lines of the log


class Reader(Protocol):
    """Reads stretches of a genome; beyond the ends of a chromosome bases are 4, conservation 0."""

    def bases(self, chrom: str, start: int, length: int) -> np.ndarray:
        """uint8 [length]: A, C, G, T = 0..3, other 4."""

    def conservation(self, chrom: str, start: int, length: int) -> np.ndarray:
        """uint8 [length]: conservation x 255."""


@dataclass(frozen=True)
class Block:
    """Neighbouring bins of a chromosome, first .. first + values.shape[1]; float32 [T, bins]."""

    chrom: str
    first: int
    values: np.ndarray


def both_strands(predict: Predict) -> Predict:
    """(f(x) + flip f(rc x)) / 2: the same for a sequence and, flipped, its other strand."""

    def averaged(bases: np.ndarray, conservation: np.ndarray) -> np.ndarray:
        forward = predict(bases, conservation)
        other = np.ascontiguousarray(conservation[:, ::-1])
        return (forward + predict(reverse_complement(bases), other)[..., ::-1]) / 2

    return averaged


def predict_regions(
    predict: Predict,
    reader: Reader,
    regions: Iterable[Region] | None,
    genome: Genome,
    geometry: Geometry,
    tiling: Tiling = CENTRED,
    strands: bool = True,
    batch: int = 16,
) -> Iterator[Block]:
    """Predict every bin that the regions touch, once, in genome order.

    Args:
        predict: uint8 [n, L], uint8 [n, L] -> float [n, T, B], in evaluation mode.
        regions: see `wanted`; bins beyond the end of a chromosome do not exist and are left out.
        strands: average over both strands.
        batch: windows read and handed to `predict` at a time.

    Yields:
        blocks of neighbouring bins.

    Raises:
        InputError: see `wanted`, `windows`; a prediction of another shape or not finite.
    """
    runs = wanted(regions, genome, geometry.bin_bp)
    todo = windows(runs, genome, geometry, tiling)
    predict = both_strands(predict) if strands else predict
    return _blocks(predict, reader, runs, todo, geometry, tiling, batch)


def _blocks(
    predict: Predict,
    reader: Reader,
    runs: dict[str, list],
    todo: list[Window],
    geometry: Geometry,
    tiling: Tiling,
    batch: int,
) -> Iterator[Block]:
    progress = _Progress(len(todo), sum(b - a for own in runs.values() for a, b in own))
    ramp = edge_weights(geometry.bins, tiling.overlap)
    pending: _Pending | None = None
    for at in range(0, len(todo), batch):
        part = todo[at : at + batch]
        values = predict(*_inputs(reader, part, geometry))
        _check(values, part, geometry)
        for k, (window, row) in enumerate(zip(part, values, strict=True), at + 1):
            if pending is None or pending.chrom != window.chrom:
                pending = _Pending(window.chrom, runs[window.chrom])
            pending.add(*_share(window, row, ramp if tiling.overlap else None))
            after = todo[k] if k < len(todo) and todo[k].chrom == window.chrom else None
            until = None if after is None else after.start if tiling.overlap else after.first
            yield from pending.finished(until)
        progress.advanced(len(part), part[-1].chrom)


def _inputs(
    reader: Reader, part: Sequence[Window], geometry: Geometry
) -> tuple[np.ndarray, np.ndarray]:
    """Bases and conservation of windows, uint8 [n, L] each."""
    length = geometry.seq_bp
    starts = [(w.start - geometry.crop_bins) * geometry.bin_bp for w in part]
    places = [(w.chrom, start, length) for w, start in zip(part, starts, strict=True)]
    return (
        np.stack([reader.bases(*place) for place in places]),
        np.stack([reader.conservation(*place) for place in places]),
    )


def _check(values: np.ndarray, part: Sequence[Window], geometry: Geometry) -> None:
    if values.ndim != 3 or (len(values), values.shape[2]) != (len(part), geometry.bins):
        raise InputError(
            "prediction",
            f"shape {values.shape} for {len(part)} windows of {geometry.bins} bins; "
            "the checkpoint and the window it is used with do not belong together",
        )
    for window, row in zip(part, values, strict=True):
        if not np.isfinite(row).all():
            place = f"{window.chrom}:{window.start * geometry.bin_bp}"
            raise InputError(
                "prediction",
                f"a value of the window at {place} is not finite; the training went wrong, "
                "take another checkpoint",
            )


def _share(
    window: Window, row: np.ndarray, ramp: np.ndarray | None
) -> tuple[int, np.ndarray, np.ndarray]:
    """First bin, values [T, bins] and weights [bins] that a window adds."""
    if ramp is not None:
        return window.start, row, ramp
    own = row[:, window.first - window.start : window.last - window.start]
    return window.first, own, np.ones(own.shape[1])


@dataclass
class _Pending:
    """Bins of one chromosome that later windows may still add to."""

    chrom: str
    runs: list
    base: int = 0
    sums: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    weights: np.ndarray = field(default_factory=lambda: np.zeros(0))
    next_run: int = 0

    def add(self, first: int, values: np.ndarray, weights: np.ndarray) -> None:
        if not len(self.weights):
            self.base, self.sums = first, np.zeros((len(values), 0))
        grow = first + len(weights) - self.base - len(self.weights)
        if grow > 0:
            self.sums = np.pad(self.sums, ((0, 0), (0, grow)))
            self.weights = np.pad(self.weights, (0, grow))
        here = slice(first - self.base, first - self.base + len(weights))
        self.sums[:, here] += values * weights
        self.weights[here] += weights

    def finished(self, until: int | None) -> Iterator[Block]:
        """Give out the wanted bins before `until` (None: all) and forget them."""
        end = self.base + len(self.weights)
        until = end if until is None else min(until, end)
        while self.next_run < len(self.runs):
            first, last = self.runs[self.next_run]
            low, high = max(first, self.base), min(last, until)
            if low < high:
                here = slice(low - self.base, high - self.base)
                values = self.sums[:, here] / self.weights[here]
                yield Block(self.chrom, low, values.astype(np.float32))
            if last > until:
                break
            self.next_run += 1
        drop = max(0, until - self.base)
        self.base += drop
        self.sums, self.weights = self.sums[:, drop:], self.weights[drop:]


class _Progress:
    """A line in the log now and then: how far, how fast, how long still."""

    def __init__(self, windows: int, bins: int):
        self.total, self.done = windows, 0
        self.began = self.last = time.monotonic()
        log.info("prediction: %s bins from %s windows", f"{bins:,}", f"{windows:,}")

    def advanced(self, count: int, chrom: str) -> None:
        self.done += count
        now = time.monotonic()
        if now - self.last < EVERY and self.done < self.total:
            return
        speed = self.done / max(1e-9, now - self.began)
        log.info(
            "prediction: %s of %s windows, at %s, %.3g windows/s, about %s left",
            *(f"{self.done:,}", f"{self.total:,}", chrom, speed),
            _duration((self.total - self.done) / speed),
        )
        self.last = now


def _duration(seconds: float) -> str:
    minutes = int(seconds // 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
