"""Predicted regions as files: a bigWig per track and one tidy table, written as predictions come.

Memory does not grow with the number of bins. All files appear together at the end.
"""

from __future__ import annotations

import contextlib
import gzip
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd

from epiloom.data.files import atomic
from epiloom.data.genome import Genome
from epiloom.learn.metrics import Moments
from epiloom.learn.predict_regions import Block
from epiloom.plan.errors import InputError
from epiloom.show.tracks import open_bins

COLUMNS = ("chrom", "start", "end", "track", "predicted")


@dataclass
class Written:
    """What was written: bigWig per track, bins, and r of log2(x + 1) where observed is known."""

    bigwigs: dict[str, Path]
    bins: int = 0
    r: dict[str, float | None] = field(default_factory=dict)


def file_name(*parts: object) -> str:
    """Parts as one name that any file system takes: `chr1:5-9`, `K4 (1)` -> `chr1_5-9.K4_1`."""
    cleaned = (re.sub(r"[^A-Za-z0-9+_.-]+", "_", str(part)).strip("_.") for part in parts)
    return ".".join(cleaned)


def bigwig_paths(folder: str | Path, tracks: Sequence[str]) -> dict[str, Path]:
    """The bigWig of each track.

    Raises:
        InputError: no track, or two tracks whose files would have the same name.
    """
    paths = {track: Path(folder) / f"{file_name(track)}.bw" for track in tracks}
    lower = [str(path).lower() for path in paths.values()]
    same = sorted({t for t, p in paths.items() if lower.count(str(p).lower()) > 1})
    same += sorted({t for t in tracks if list(tracks).count(t) > 1})
    if same or not tracks:
        problem = f"{', '.join(same)} would share a file; give each its own name"
        raise InputError("tracks", problem if same else "there is none; name at least one")
    return paths


def frames(
    blocks: Iterable[Block],
    genome: Genome,
    bin_bp: int,
    tracks: Sequence[str],
    observed: Mapping[str, np.ndarray] | None = None,
) -> Iterator[pd.DataFrame]:
    """Blocks as tidy tables: chrom, start, end, track, predicted[, observed], bin after bin.

    Args:
        observed: track -> values of the genome on the same grid, [genome.total(bin_bp)], NaN =
            missing. Tracks that are not in it get NaN; None: no such column.
    """
    offsets = genome.offsets(bin_bp)
    for block in blocks:
        count = block.values.shape[1]
        starts = (block.first + np.arange(count, dtype=np.int64)) * bin_bp
        ends = np.minimum(starts + bin_bp, genome.length(block.chrom))
        columns = {
            "chrom": block.chrom,
            "start": np.repeat(starts, len(tracks)),
            "end": np.repeat(ends, len(tracks)),
            "track": np.tile(np.array(tracks, object), count),
            "predicted": block.values.T.ravel(),
        }
        if observed is not None:
            at = int(offsets[genome.index(block.chrom)]) + block.first
            nothing = np.full(count, np.nan, np.float32)
            rows = [observed[t][at : at + count] if t in observed else nothing for t in tracks]
            columns["observed"] = np.stack(rows).astype(np.float32).T.ravel()
        yield pd.DataFrame(columns)


def log_moments(observed: np.ndarray, predicted: np.ndarray) -> Moments:
    """Sums over pairs of log2(x + 1), bins without observation left out; below 0 counts as 0."""
    there = np.isfinite(observed) & np.isfinite(predicted)
    pair = (np.maximum(values[there], 0).astype(np.float64) for values in (observed, predicted))
    return Moments.of(*(np.log2(values + 1) for values in pair))


def write_predictions(
    blocks: Iterable[Block],
    genome: Genome,
    bin_bp: int,
    tracks: Sequence[str],
    folder: str | Path | None = None,
    table: str | Path | None = None,
    observed: Mapping[str, np.ndarray] | None = None,
) -> Written:
    """Write predicted bins.

    Args:
        blocks: from `predict_regions`, one row of values per track.
        tracks: names of the rows.
        folder: gets a bigWig per track (see `bigwig_paths`); None: none.
        table: tidy TSV (see `frames`), compressed if the name ends with .gz; None: none.
        observed: see `frames`.

    Raises:
        InputError: track names that do not fit; observed of another length; see
            `predict_regions`.
    """
    written = Written(bigwig_paths(folder or ".", tracks))
    if folder is None:
        written.bigwigs = {}
    _check_observed(observed, genome.total(bin_bp), bin_bp)
    moments = {track: Moments() for track in tracks if track in (observed or {})}
    with contextlib.ExitStack() as stack:
        writers = {
            track: stack.enter_context(open_bins(path, genome, bin_bp))
            for track, path in written.bigwigs.items()
        }
        text = stack.enter_context(_open_table(table)) if table is not None else None
        for block in blocks:
            _check_rows(block, tracks)
            head = written.bins == 0
            written.bins += block.values.shape[1]
            for track, row in zip(tracks, block.values, strict=True):
                if writers:
                    writers[track].add(block.chrom, block.first, row)
                if track in moments:
                    at = int(genome.offsets(bin_bp)[genome.index(block.chrom)]) + block.first
                    moments[track] += log_moments(observed[track][at : at + len(row)], row)
            if text is not None:
                (frame,) = frames([block], genome, bin_bp, tracks, observed)
                frame.to_csv(text, sep="\t", index=False, header=head, float_format="%.6g")
    written.r = {track: sums.r for track, sums in moments.items()}
    return written


def _check_observed(observed: Mapping[str, np.ndarray] | None, total: int, bin_bp: int) -> None:
    wrong = [
        f"{track}: {values.shape}, but the genome has {total} bins of {bin_bp} bp; "
        "give a track on the grid of the prediction"
        for track, values in (observed or {}).items()
        if values.shape != (total,)
    ]
    if wrong:
        raise InputError("observed", wrong)


def _check_rows(block: Block, tracks: Sequence[str]) -> None:
    if len(block.values) != len(tracks):
        raise InputError(
            "tracks",
            f"{len(tracks)} names, but the model predicts {len(block.values)} tracks; "
            "give the names it was trained with, in the same order",
        )


@contextlib.contextmanager
def _open_table(path: str | Path) -> Iterator[TextIO]:
    with atomic(path) as tmp:
        options = {"mode": "wt", "encoding": "utf-8", "newline": "\n"}
        packed = str(path).endswith(".gz")
        with gzip.open(tmp, **options, compresslevel=4) if packed else tmp.open(**options) as file:
            yield file
