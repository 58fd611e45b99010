"""Saturation mutagenesis: every base of an interval replaced by each of the three others.

The effect of a substitution is the sum over bins of the prediction with it minus that without.
Which bins: `around` (default) those within 2 of the mutated base's own bin, so that the effect of a
base does not depend on the interval; `interval` those that overlap the interval, as the notebooks
of the original do. Where the interval is longer than a tile, `interval` means the bins of the tile
that overlap it. The conservation of a mutated base stays that of its place.

Intervals longer than a tile are cut into tiles of equal length, each in the middle of a window of
its own, so that every base is mutated once and with predicted bins on both sides.

Shapes: n mutated windows, L = seq_bp, T tracks, B predicted bins, P bases of the interval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from epiloom.data.genome import Genome
from epiloom.data.geometry import Geometry
from epiloom.learn.predict_regions import Predict, Reader
from epiloom.plan.errors import InputError
from epiloom.studies.variants import predicted

LETTERS = np.array(list("ACGT"))
SUMS = ("around", "interval")

# float32 [n, 4, L] one-hot bases -> gradient of the predicted sum with respect to them, same shape
Gradient = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Options:
    """How an interval is mutated.

    Attributes:
        sums: bins that are summed, `around` or `interval`; see the module.
        reach: bins on each side of the base's own, for `around`.
        strands: average with the prediction of the other strand.
        batch: mutated windows handed to the predictor at once.
    """

    sums: str = "around"
    reach: int = 2
    strands: bool = True
    batch: int = 96

    def __post_init__(self) -> None:
        problems = []
        if self.sums not in SUMS:
            problems.append(f"sums: {self.sums!r}; use {' or '.join(SUMS)}")
        if self.reach < 0 or self.batch < 1:
            problems.append(f"reach {self.reach}, batch {self.batch}; give 0 and 1 or more")
        if problems:
            raise InputError("mutagenesis", problems)


@dataclass(frozen=True)
class Map:
    """Effects of all substitutions in an interval.

    Attributes:
        chrom, start: where it begins, 0-based. tracks: names.
        bases: uint8 [P], the reference (4: unknown).
        effect: float32 [T, 4, P], rows A, C, G, T: the effect of that base; 0 for the reference
            base, NaN at unknown ones.
    """

    chrom: str
    start: int
    tracks: tuple[str, ...]
    bases: np.ndarray
    effect: np.ndarray

    def mean(self) -> np.ndarray:
        """Mean effect of the three substitutions, float32 [T, P]."""
        return self.effect.sum(axis=1) / 3

    def logo(self) -> np.ndarray:
        """What the reference bases are worth: minus the mean effect, [T, 4, P]; else 0.

        A letter stands above 0 where replacing it lowers the prediction.
        """
        return one_hot(self.bases) * -np.nan_to_num(self.mean())[:, None]

    def hypothetical(self) -> np.ndarray:
        """Effect of every base relative to the mean of all four, [T, 4, P]; 0 at unknown bases."""
        return np.nan_to_num(self.effect - self.effect.mean(axis=1, keepdims=True))

    def table(self) -> pd.DataFrame:
        """chrom, position (0-based), ref, alt, track, effect: a row per substitution and track."""
        known = np.flatnonzero(self.bases < 4)
        place, alt = (known.repeat(4), np.tile(np.arange(4), len(known)))
        changed = self.bases[place] != alt
        place, alt = place[changed], alt[changed]
        parts = [
            pd.DataFrame(
                {
                    "chrom": self.chrom,
                    "position": place.astype(np.int64) + self.start,
                    "ref": LETTERS[self.bases[place]],
                    "alt": LETTERS[alt],
                    "track": track,
                    "effect": values[alt, place],
                }
            )
            for track, values in zip(self.tracks, self.effect, strict=True)
        ]
        return pd.concat(parts, ignore_index=True)


def one_hot(bases: np.ndarray) -> np.ndarray:
    """float32 [..., 4, L] of codes [..., L]; zeros for unknown bases."""
    return (bases[..., None, :] == np.arange(4, dtype=np.uint8)[:, None]).astype(np.float32)


def tiles(start: int, end: int, geometry: Geometry) -> list[tuple[int, int, int]]:
    """(first, last, start of the window) of the tiles of an interval, 0-based half-open."""
    room = max(
        geometry.bin_bp, min(geometry.target_bp // 2, geometry.target_bp - 6 * geometry.bin_bp)
    )
    count = -(-(end - start) // room)
    edges = start + np.arange(count + 1) * (end - start) // count
    return [
        (a, b, geometry.around((a + b - 1) // 2))
        for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    ]


def check(chrom: str, start: int, end: int, genome: Genome) -> None:
    """Raises InputError if the interval is empty or not on the genome."""
    where = f"interval {chrom}:{start}-{end}"
    if chrom not in genome:
        has = ", ".join(genome.chromosomes[:5])
        raise InputError(where, f"{genome.assembly} has no {chrom}, but {has}, ...; correct it")
    if not 0 <= start < end <= genome.length(chrom):
        raise InputError(
            where,
            f"is empty or leaves {chrom} ({genome.length(chrom)} bases); give start < end on it",
        )


def mutate(
    chrom: str,
    start: int,
    end: int,
    predict: Predict,
    reader: Reader,
    geometry: Geometry,
    tracks: Sequence[str],
    options: Options | None = None,
) -> Map:
    """Predict all substitutions of [start, end), 0-based half-open; see the module.

    Memory is bounded by `options.batch` windows and their predictions.

    Raises:
        InputError: the predictor does not fit the geometry or the names of tracks.
    """
    options = options or Options()
    if end <= start:
        raise InputError(f"interval {chrom}:{start}-{end}", "is empty; give start < end")
    bases = np.asarray(reader.bases(chrom, start, end - start), np.uint8)
    effect = np.zeros((len(tracks), 4, end - start), np.float32)
    effect[:, :, bases > 3] = np.nan
    for first, last, window in tiles(start, end, geometry):
        own = reader.bases(chrom, window, geometry.seq_bp)
        score = reader.conservation(chrom, window, geometry.seq_bp)
        whole = _predict(predict, own[None], score, options.strands, geometry, tracks)[0]
        for places, alts in _batches(bases, first - start, last - start, options.batch):
            changed = np.repeat(own[None], len(places), axis=0)
            changed[np.arange(len(places)), places + start - window] = alts
            values = _predict(predict, changed, score, options.strands, geometry, tracks)
            values = values - whole
            span = (start, end) if options.sums == "interval" else None
            for value, place, alt in zip(values, places, alts, strict=True):
                near = _near(place + start, window, geometry, options.reach, span)
                effect[:, alt, place] = value[:, near].sum(axis=1)
    return Map(chrom, start, tuple(tracks), bases, effect)


def _predict(
    predict: Predict,
    bases: np.ndarray,
    score: np.ndarray,
    strands: bool,
    geometry: Geometry,
    tracks: Sequence[str],
) -> np.ndarray:
    """Mean over the strands, float64 [n, T, B]."""
    scores = np.repeat(score[None], len(bases), axis=0)
    values = predicted(predict, bases, scores, strands, geometry.bins)
    if values.shape[2] != len(tracks):
        raise InputError(
            "tracks", f"{len(tracks)} names for {values.shape[2]} outputs; name each once"
        )
    return values.astype(np.float64).mean(axis=0)


def _batches(
    bases: np.ndarray, first: int, last: int, batch: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Places and the bases put there, of all substitutions between first and last."""
    known = np.arange(first, last)[bases[first:last] < 4]
    places, alts = known.repeat(4), np.tile(np.arange(4, dtype=np.uint8), len(known))
    changed = bases[places] != alts
    places, alts = places[changed], alts[changed]
    for at in range(0, len(places), batch):
        yield places[at : at + batch], alts[at : at + batch]


def _near(
    position: int, window: int, geometry: Geometry, reach: int, span: tuple[int, int] | None
) -> slice:
    """Predicted bins that count for a mutation: around it, or those that overlap the span."""
    origin = window + geometry.crop_bp
    if span is None:
        own = (position - origin) // geometry.bin_bp
        first, last = own - reach, own + reach + 1
    else:
        first = (span[0] - origin) // geometry.bin_bp
        last = -(-(span[1] - origin) // geometry.bin_bp)
    return slice(max(first, 0), max(min(last, geometry.bins), 0))


# --- from one backward pass -----------------------------------------------------------------------


def estimated(
    chrom: str,
    start: int,
    end: int,
    gradient: Gradient,
    reader: Reader,
    geometry: Geometry,
    track: str = "",
) -> Map:
    """First-order estimate of the same map from one gradient per tile.

    The estimate of a substitution is gradient at the new base minus gradient at the reference base.

    Args:
        gradient: of the sum that the exact map has (`sums = interval`: the bins that overlap the
            interval), for one track; called once per tile with [1, 4, L].
    """
    bases = np.asarray(reader.bases(chrom, start, end - start), np.uint8)
    effect = np.full((4, end - start), np.nan, np.float32)
    for first, last, window in tiles(start, end, geometry):
        hot = one_hot(reader.bases(chrom, window, geometry.seq_bp))
        found = np.asarray(gradient(hot[None]), np.float32)
        if found.shape != (1, *hot.shape):
            raise InputError("gradient", f"has shape {found.shape}, {(1, *hot.shape)} is expected")
        part = slice(first - window, last - window)
        slope = found[0, :, part]
        own = (slope * hot[:, part]).sum(axis=0)
        effect[:, first - start : last - start] = np.where(
            hot[:, part].any(axis=0), slope - own, np.nan
        )
    return Map(chrom, start, (track,), bases, effect[None])


def agreement(exact: Map, estimate: Map, track: int = 0) -> float:
    """Pearson r of the substitutions' effects in two maps of the same interval; NaN if constant."""
    known = one_hot(exact.bases).sum(axis=0) > 0
    changed = (one_hot(exact.bases) == 0) & known
    one, two = exact.effect[track][changed], estimate.effect[0][changed]
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(two) == 0:
        return float("nan")
    return float(np.corrcoef(one, two)[0, 1])
