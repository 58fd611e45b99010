"""Examples of models that read every track along the genome: frames of consecutive bins, in order.

The genome is read as `batch` lanes side by side. An update takes one frame of every lane, and the
next update the frames that follow, so that a model may carry its state along. Each lane begins some
frames early, which warm the state up and do not count; so every frame counts once per epoch. Where
the lanes begin is drawn anew for every epoch.

Shapes: n frames of T bins, D channels.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from epiloom.data.folds import part_of
from epiloom.data.tiles import MISSING, STEP, Tiles
from epiloom.plan.errors import InputError
from epiloom.plan.tracks import mark_of

log = logging.getLogger("epiloom")

_LANES = 4  # random stream beside those of the other kinds
BALANCED = "balanced"


@dataclass(frozen=True)
class Scale:
    """How stored values become z-scores: mean and standard deviation of each channel, [D]."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, tiles: Tiles, chromosomes: Sequence[str]) -> Scale:
        """Statistics of some chromosomes; a channel that never changes there keeps its unit."""
        found = tiles.statistics(chromosomes)
        flat = found.std <= 1e-6
        for channel in np.array(tiles.channels)[flat]:
            log.warning("%s is the same in every bin that trains; it tells nothing", channel)
        return cls(found.mean, np.where(flat, 1.0, found.std))

    def standardized(self, stored: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """z-scores float32 [..., D], 0 where missing, and where that is (None: nowhere).

        In memory, bins of frames [n, T, D] stand outermost: recurrent networks go bin by bin.
        """
        factor = (STEP / self.std).astype(np.float32)
        shift = (-self.mean / self.std).astype(np.float32)
        frames = stored if stored.ndim == 3 else stored[None]
        n, bins, channels = frames.shape
        z = np.empty((bins, n, channels), np.float32).transpose(1, 0, 2)
        gaps = False
        for own, codes in zip(z, frames, strict=True):  # a frame fits into the processor's cache
            values = codes.astype(np.float32)
            values *= factor
            np.add(values, shift, out=own)
            gaps |= bool(codes.min(initial=0) == MISSING)
        z = z if stored.ndim == 3 else z[0]
        if not gaps:
            return z, None
        missing = stored == MISSING
        np.copyto(z, 0.0, where=missing)
        return z, missing


@dataclass(frozen=True)
class FrameTable:
    """All frames of one run, by part."""

    tiles: Tiles
    scale: Scale
    settings: Mapping[str, Any]

    @classmethod
    def read(cls, settings: Mapping[str, Any], files: Mapping[str, Any]) -> FrameTable:
        """Lay frames over the tiles.

        Args:
            settings: the run's settings.
            files: `manifest` of the store, `tiles`, `flags`, `channels` (see data/tiles.py).

        Raises:
            InputError: files that do not fit together, or channels in another order.
        """
        tiles = open_tiles(files)
        check_channels(settings["channels"], tiles.channels, files["channels"])
        names = np.array(tiles.genome.chromosomes)
        train = names[part_of(names, settings["fold"]) == "train"]
        return cls(tiles, Scale.of(tiles, train.tolist()), settings)

    def examples(self, part: str) -> FrameExamples:
        """The frames of one part.

        Raises:
            InputError: the part holds none.
        """
        names = np.array(self.tiles.genome.chromosomes)
        own = names[part_of(names, self.settings["fold"]) == part]
        frames = Frames.of(self.tiles, own.tolist(), self.settings["frame"])
        if not len(frames.first):
            raise InputError(part, f"no bin of {', '.join(own)} has data; hold out others")
        log.info("%s: %d frames in %d stretches", part, len(frames.first), frames.begins.sum())
        return FrameExamples(
            self.tiles,
            self.scale,
            frames,
            self.settings["batch"],
            self.settings["warmup_frames"],
            channel_weights(self.settings),
            not self.tiles.complete,
            part == "train",
        )


@dataclass(frozen=True)
class Frames:
    """Frames that have something to learn from, in the order of the genome.

    first: first bin of each, as row of the tiles, int64 [n]. begins: whether the frame before it is
    not among them, bool [n]. chroms: text [n]. bins: T.
    """

    first: np.ndarray
    begins: np.ndarray
    chroms: np.ndarray
    bins: int

    @classmethod
    def of(cls, tiles: Tiles, chromosomes: Sequence[str], bins: int) -> Frames:
        """Frames of some chromosomes that hold a usable bin; the rest of a chromosome that does
        not fill a frame is left out."""
        firsts, begins, chroms = [], [], []
        for chrom in chromosomes:
            rows = tiles.rows(chrom)
            whole = (rows.stop - rows.start) // bins
            usable = tiles.flags[rows.start : rows.start + whole * bins] == 0
            kept = np.flatnonzero(usable.reshape(whole, bins).any(axis=1))
            firsts.append(rows.start + kept * bins)
            begins.append(np.diff(kept, prepend=-2) > 1)
            chroms += [chrom] * len(kept)
        if not firsts:
            return cls(np.zeros(0, np.int64), np.zeros(0, bool), np.zeros(0, str), bins)
        return cls(np.concatenate(firsts), np.concatenate(begins), np.array(chroms), bins)


@dataclass(frozen=True)
class FrameExamples:
    """The frames of one part as lanes (see the top of this file).

    Example k stands in lane k % lanes, at step k // lanes of it.
    """

    tiles: Tiles
    scale: Scale
    frames: Frames
    lanes: int
    warmup: int
    weight: np.ndarray | None
    gappy: bool  # single channels have missing values
    moves: bool  # lanes begin elsewhere in every epoch
    offset: int = 0
    in_order = True  # for the trainer: never shuffle

    @property
    def per_lane(self) -> int:
        """Frames of a lane that count."""
        return -(-len(self.frames.first) // self.lanes)

    def __len__(self) -> int:
        return (self.per_lane + self.warmup) * self.lanes

    @property
    def chroms(self) -> np.ndarray:
        return self.frames.chroms[self._place(np.arange(len(self)))[0]]

    def varied(self, seed: int, epoch: int) -> FrameExamples:
        """The same frames with the lanes of one epoch."""
        if not self.moves:
            return self
        draw = np.random.default_rng([seed, epoch, _LANES])
        return replace(self, offset=int(draw.integers(len(self.frames.first))))

    def _place(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Frame of each example, whether its state begins there, and whether it counts."""
        step, lane = np.divmod(np.asarray(indices), self.lanes)
        number = lane * self.per_lane + step - self.warmup
        counts = (step >= self.warmup) & (number < len(self.frames.first))
        frame = (number + self.offset) % len(self.frames.first)
        return frame, (step == 0) | self.frames.begins[frame], counts

    def counts(self, indices: np.ndarray) -> np.ndarray:
        """Which examples count, bool [n]; others warm a state up or fill the last lane."""
        return self._place(indices)[2]

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """`signal` float32 [n, T, D] z-scores, 0 where missing; `begins` bool [n]; `valid` bool
        [n, T, 1], or [n, T, D] where channels have gaps; `weight` [n, D] if channels have one."""
        frame, begins, counts = self._place(indices)
        first, bins = self.frames.first[frame], self.frames.bins
        stored = np.empty((len(first), bins, len(self.tiles.channels)), np.int16)
        valid = np.empty((len(first), bins, 1), bool)
        for k, row in enumerate(first.tolist()):
            stored[k] = self.tiles.values[row : row + bins]
            valid[k, :, 0] = self.tiles.flags[row : row + bins] == 0
        valid &= counts[:, None, None]
        signal, missing = self.scale.standardized(stored)
        if self.gappy:
            valid = (
                valid & ~missing if missing is not None else np.repeat(valid, stored.shape[2], 2)
            )
        found = {"signal": signal, "begins": begins, "valid": valid}
        if self.weight is not None:
            found["weight"] = np.repeat(self.weight[None], len(first), axis=0)
        return found

    def names(self, indices: np.ndarray) -> list[str]:
        frame = self._place(indices)[0]
        starts = self.tiles.genome.offsets(self.tiles.bin_bp)
        names = []
        for k in frame.tolist():
            chrom = self.frames.chroms[k]
            first = int(self.frames.first[k] - starts[self.tiles.genome.index(chrom)])
            names.append(f"{chrom}:{first * self.tiles.bin_bp}")
        return names


def open_tiles(files: Mapping[str, Any]) -> Tiles:
    """The tiles of a run."""
    return Tiles.open(files["manifest"], files["tiles"], files["flags"], files["channels"])


def check_channels(asked: Sequence[str], found: Sequence[str], where: object) -> None:
    """Refuse channels of another list or order: each weight belongs to one of them.

    Raises:
        InputError: names the first that differs.
    """
    if list(asked) == list(found):
        return
    if sorted(asked) == sorted(found):
        k = next(i for i, (a, b) in enumerate(zip(asked, found, strict=True)) if a != b)
        what = f"channels stand in another order: number {k + 1} is {found[k]}, not {asked[k]}"
    else:
        more, less = sorted(set(found) - set(asked)), sorted(set(asked) - set(found))
        what = f"other channels: {', '.join(more[:5]) or 'none'} not known to the model"
        what += f", {', '.join(less[:5])} missing" if less else ""
    raise InputError(where, f"{what}; take the tiles that the model was trained on, or train again")


def channel_weights(settings: Mapping[str, Any]) -> np.ndarray | None:
    """Weight of each channel in the loss, float32 [D], mean 1; None if all are the same.

    With `balanced`, every assay counts the same however many tracks it has; a mapping gives a
    factor per assay.
    """
    asked = settings["assay_weights"]
    if not asked:
        return None
    marks = [mark_of(channel) for channel in settings["channels"]]
    if asked == BALANCED:
        weights = np.array([1 / marks.count(mark) for mark in marks])
    else:
        weights = np.array([float(asked.get(mark, 1.0)) for mark in marks])
    return (weights / weights.mean()).astype(np.float32)


def runs(frames: Frames) -> Iterator[tuple[int, int]]:
    """Stretches of frames that follow one another: first frame and the one after the last."""
    edges = [*np.flatnonzero(frames.begins).tolist(), len(frames.first)]
    yield from zip(edges[:-1], edges[1:], strict=True)
