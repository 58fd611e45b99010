"""The annotation of a genome: the latent vector of every bin, and how well tracks come back.

A stretch of frames with data is read from its first bin to its last with the state handed on, so no
number depends on how many stretches are read side by side.

Shapes: B stretches side by side, T bins of a frame, D channels, H latent.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from epiloom.data.files import atomic, digest
from epiloom.data.folds import part_of
from epiloom.data.tiles import MISSING, Tiles, checksum
from epiloom.data.vectors import new_matrix
from epiloom.learn import devices
from epiloom.learn.evaluation import load_weights
from epiloom.learn.frames import Scale, check_channels, open_tiles

log = logging.getLogger("epiloom")

SIDE_BY_SIDE = 64  # stretches read at a time
SETTLED = 20  # frames after which a state without input no longer changes


@dataclass(frozen=True)
class Encoder:
    """A trained network with all that belongs to it."""

    net: Any
    settings: Mapping[str, Any]
    tiles: Tiles
    scale: Scale
    device: torch.device

    @classmethod
    def open(
        cls,
        spec: Any,
        weights: str | Path,
        files: Mapping[str, Any],
        device: str = "auto",
        threads: int | None = None,
    ) -> Encoder:
        """Read weights and tiles.

        Raises:
            InputError: weights that do not fit, or tiles with channels in another order.
        """
        devices.use_cores(threads)
        net, settings = load_weights(spec, weights)
        tiles = open_tiles(files)
        check_channels(settings["channels"], tiles.channels, files["channels"])
        place = torch.device(devices.pick_device(device))
        scale = Scale(net.mean.numpy(), net.std.numpy())
        return cls(net.to(place), settings, tiles, scale, place)

    @property
    def bins(self) -> int:
        """Bins of a frame."""
        return self.settings["frame"]


@dataclass(frozen=True)
class Stretch:
    """Frames that follow one another: rows of the tiles, `end` may cut the last frame short."""

    chrom: str
    start: int
    end: int


def stretches(
    tiles: Tiles, chroms: Sequence[str], bins: int
) -> tuple[list[Stretch], list[Stretch]]:
    """All bins of some chromosomes as stretches with data and stretches without.

    Their edges lie on frames, counted from the start of the chromosome; a frame has data if one of
    its bins is usable or blacklisted.
    """
    there: list[Stretch] = []
    empty: list[Stretch] = []
    for chrom in chroms:
        rows = tiles.rows(chrom)
        flags = tiles.flags[rows]
        known = np.zeros(-(-len(flags) // bins) * bins, bool)
        known[: len(flags)] = flags & ~np.uint8(2) == 0
        kept = known.reshape(-1, bins).any(axis=1)
        edges = [0, *(np.flatnonzero(np.diff(kept)) + 1).tolist(), len(kept)]
        for low, high in zip(edges[:-1], edges[1:], strict=True):
            if low < high:
                one = Stretch(
                    chrom, rows.start + low * bins, min(rows.start + high * bins, rows.stop)
                )
                (there if kept[low] else empty).append(one)
    return there, empty


@dataclass(frozen=True)
class Step:
    """One frame of some stretches: their numbers, first rows, lengths in bins, and the signal."""

    numbers: np.ndarray
    rows: np.ndarray
    lengths: np.ndarray
    begins: np.ndarray
    signal: np.ndarray  # z-scores (B, T, D), 0 where missing
    missing: np.ndarray | None


def steps(encoder: Encoder, found: Sequence[Stretch]) -> Iterator[Step]:
    """Frames of all stretches, in order within each; stretches leave as they end.

    Stretches share `SIDE_BY_SIDE` lanes, the longest first, so that lanes end about together.
    """
    bins, lanes = encoder.bins, []
    for number in sorted(range(len(found)), key=lambda k: found[k].start - found[k].end):
        frames = [(number, row) for row in range(found[number].start, found[number].end, bins)]
        if len(lanes) < SIDE_BY_SIDE:
            lanes.append(frames)
        else:
            min(lanes, key=len).extend(frames)
    lanes.sort(key=len, reverse=True)  # the lanes of a step are always the first ones
    for t in range(len(lanes[0]) if lanes else 0):
        now = [lane[t] for lane in lanes if t < len(lane)]
        numbers, rows = np.array(now, np.int64).T
        ends = np.array([found[k].end for k in numbers])
        lengths = np.minimum(bins, ends - rows)
        begins = rows == np.array([found[k].start for k in numbers])
        stored = np.full((len(now), bins, len(encoder.tiles.channels)), MISSING, np.int16)
        for k, (row, n) in enumerate(zip(rows.tolist(), lengths.tolist(), strict=True)):
            stored[k, :n] = encoder.tiles.values[row : row + n]
        signal, missing = encoder.scale.standardized(stored)
        yield Step(numbers, rows, lengths, begins, signal, missing)


def annotate(encoder: Encoder, weights: str | Path, out: str | Path) -> None:
    """Write the latents of the whole genome.

    {chrom}.npy        float32 [bins, H], row i = bases [25 i, 25 i + 25), bins = floor(length / 25)
    {chrom}.mask.npy   uint8 [bins]: 0 usable, 1 gap, 2 blacklist (added up), 8 no data in any track
    {chrom}.json       what it was made with; the last one written tells that all is whole

    Stretches without any data have the latent of a long silence: what the network says of signal at
    its mean after the last bin before them.
    """
    tiles, latent = encoder.tiles, encoder.net.latent
    out, began = Path(out), time.monotonic()
    for chrom in tiles.genome.chromosomes:
        there, empty = stretches(tiles, [chrom], encoder.bins)
        rows = tiles.rows(chrom)
        with new_matrix(out / f"{chrom}.npy", np.float32, (rows.stop - rows.start, latent)) as made:
            ends = _encode(encoder, there, made, rows.start)
            _fill_silence(encoder, empty, there, ends, made, rows.start)
        with atomic(out / f"{chrom}.mask.npy") as tmp:
            np.save(tmp, np.asarray(tiles.flags[rows]))
        _write_facts(encoder, chrom, weights, out / f"{chrom}.json")
        done = rows.stop / len(tiles.flags)
        spent = time.monotonic() - began
        log.info(
            "%s annotated: %.0f %%, %.0f bins/s, %.0f s left",
            *(chrom, 100 * done, rows.stop / spent, spent * (1 - done) / done),
        )


def _encode(
    encoder: Encoder, found: Sequence[Stretch], made: np.ndarray, offset: int
) -> dict[int, tuple[Tensor, ...]]:
    """Fill in the latents of stretches with data; returns the state after each."""
    ends: dict[int, tuple[Tensor, ...]] = {}
    before: tuple[Tensor, ...] | None = None
    with torch.inference_mode():
        for step in steps(encoder, found):
            signal = torch.from_numpy(step.signal).to(encoder.device)
            if before is not None:
                goes_on = torch.from_numpy(~step.begins).to(encoder.device).view(1, -1, 1)
                before = tuple(s[:, : len(signal)] * goes_on for s in before)
            latents, before = encoder.net.encode(signal, before)
            for k, values in enumerate(latents.float().cpu().numpy()):
                first, n = int(step.rows[k]) - offset, int(step.lengths[k])
                made[first : first + n] = values[:n]
                number = int(step.numbers[k])
                if first + offset + n == found[number].end:
                    ends[number] = tuple(s[:, k] for s in before)
    return ends


def _fill_silence(
    encoder: Encoder,
    empty: Sequence[Stretch],
    there: Sequence[Stretch],
    ends: Mapping[int, tuple[Tensor, ...]],
    made: np.ndarray,
    offset: int,
) -> None:
    """Fill in the latents of stretches without data."""
    number_ending_at = {one.end: k for k, one in enumerate(there)}
    for one in empty:
        last = number_ending_at.get(one.start)
        state = None if last is None else tuple(s.unsqueeze(1) for s in ends[last])
        row = one.start
        with torch.inference_mode():
            while row < one.end and row < one.start + SETTLED * encoder.bins:
                silence = torch.zeros(1, encoder.bins, encoder.net.channels, device=encoder.device)
                latents, state = encoder.net.encode(silence, state)
                n = min(encoder.bins, one.end - row)
                made[row - offset : row - offset + n] = latents[0, :n].float().cpu().numpy()
                row += n
        # frames are alike from here on; bins of a frame differ if each one begins anew in part
        end, last = one.end - offset, made[max(0, row - offset - encoder.bins) : row - offset]
        made[row - offset : end] = np.resize(last, (end - (row - offset), made.shape[1]))


def _write_facts(encoder: Encoder, chrom: str, weights: str | Path, path: Path) -> None:
    genome, settings = encoder.tiles.genome, encoder.settings
    rows = encoder.tiles.rows(chrom)
    flags = encoder.tiles.flags[rows]
    names = np.array(genome.chromosomes)
    facts = {
        "assembly": genome.assembly,
        "chromosome": chrom,
        "length_bp": genome.length(chrom),
        "bin_bp": encoder.tiles.bin_bp,
        "bins": rows.stop - rows.start,
        "latents": encoder.net.latent,
        "part": str(part_of(names, settings["fold"])[genome.index(chrom)]),
        "masked_bins": int(np.count_nonzero(flags)),
        "channels": len(encoder.tiles.channels),
        "sha256_of_channels": checksum(encoder.tiles.channels),
        "sha256_of_weights": digest(weights, "sha256"),
    }
    with atomic(path) as tmp:
        tmp.write_text(json.dumps(facts, indent=1) + "\n")


def reconstructed(
    encoder: Encoder, chroms: Sequence[str]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Usable values of some chromosomes, and what comes back of them, frame by frame.

    Yields:
        z-scores, reconstruction float32 [bins, D] each, and which values count, bool [bins, D].
    """
    there, _ = stretches(encoder.tiles, chroms, encoder.bins)
    encoder.net.carried = None
    with torch.inference_mode():
        for step in steps(encoder, there):
            signal = torch.from_numpy(step.signal).to(encoder.device)
            if encoder.net.carried is not None:  # lanes that have ended are the last ones
                kept = tuple(s[:, : len(signal)] for s in encoder.net.carried)
                encoder.net.carried = kept
            made = encoder.net(signal, torch.from_numpy(step.begins).to(encoder.device))
            found = made.float().cpu().numpy()
            for k, (row, n) in enumerate(zip(step.rows, step.lengths, strict=True)):
                usable = encoder.tiles.flags[row : row + n] == 0
                counts = np.repeat(usable[:, None], step.signal.shape[2], axis=1)
                if step.missing is not None:
                    counts &= ~step.missing[k, :n]
                yield step.signal[k, :n], found[k, :n], counts
