"""What a variant changes: a sequence model predicts both alleles, and the two are compared.

The window lies on the grid of bins with the variant in its middle bin. Both alleles are predicted
on both strands and with the window moved by -1, 0 and +1 bases; the predictions of these six
(S strands x shifts) are averaged, and the standard deviation over them is reported.

Insertions and deletions. The two alleles begin at the same base (the context left of the variant is
fixed), and the window is filled up or cut at its right end. Alleles are trimmed of bases they share
at the beginning, then at the end; the rest corresponds base by base as far as the shorter allele
goes, and the d bases after that (the gap) have no counterpart. Compared is every base that both
alleles have: with x the place in the longer allele's window and c where the gap begins,

    x < c       place x of the longer with place x of the shorter allele,
    x >= c + d  place x of the longer with place x - d of the shorter allele,

up to the window's end; the d bases of the gap are not compared. A prediction is constant within its
bin. So if d is no multiple of the bin, bin k of the longer allele right of the gap is compared with
two bins of the shorter one, j = floor((k B - d) / B) for its first (-k B + d) mod B ... bases and
j + 1 for the others, weighted by bases (`aligned`); left of the gap, and everywhere for a
substitution, bin k with bin k. Exchanging the alleles therefore changes the sign and nothing else.

Conservation: substituted bases keep the score of their place, inserted ones have 0.

Shapes: n windows, L = seq_bp, T tracks, B predicted bins, S combinations of strand and shift.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from epiloom.data.geometry import Geometry
from epiloom.data.sequence import encode, reverse_complement
from epiloom.learn.predict_regions import Predict, Reader
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

SCORES = ("sad", "local_lfc", "max_abs", "l2")
COLUMNS = ("variant", "chrom", "position", "ref", "alt", "id", "track")


@dataclass(frozen=True)
class Options:
    """How variants are scored.

    Attributes:
        shifts: by how many bases the window is moved; the scores are averaged over them.
        strands: predict the other strand too.
        reach: bins on each side of the variant's that `local_lfc` sums.
        pseudo: e of `local_lfc` = log2((sum alt + e) / (sum ref + e)), in units of the prediction.
        batch: windows handed to the predictor at once (at least those of one variant).
    """

    shifts: tuple[int, ...] = (-1, 0, 1)
    strands: bool = True
    reach: int = 2
    pseudo: float = 1.0
    batch: int = 96

    def __post_init__(self) -> None:
        problems = []
        if not self.shifts or len(set(self.shifts)) != len(self.shifts):
            problems.append(f"shifts: {self.shifts}; give one or more different numbers")
        if self.reach < 0 or self.batch < 1:
            problems.append(f"reach {self.reach}, batch {self.batch}; give 0 and 1 or more")
        if not self.pseudo > 0:
            problems.append(f"pseudo: {self.pseudo}; give a number above 0")
        if problems:
            raise InputError("variant scoring", problems)


class Edit(NamedTuple):
    """Where two alleles differ.

    Attributes:
        first: first base that differs; the window is laid around it.
        gap: where the bases without counterpart begin.
        lost, gained: number of bases without counterpart in ref and in alt; one of them is 0.
    """

    first: int
    gap: int
    lost: int
    gained: int


@dataclass(frozen=True)
class Effect:
    """Predictions of both alleles of one variant, on the bins of the longer allele.

    Attributes:
        variant: row of the table.
        start: first base of the first predicted bin (unmoved window), on the chromosome.
        edit: where the alleles differ.
        ref, alt: float32 [S, T, B]. Of bins that are compared in part (the gap, the window's right
            end) only the compared share; otherwise the predictions.
    """

    variant: int
    start: int
    edit: Edit
    ref: np.ndarray
    alt: np.ndarray

    @property
    def change(self) -> np.ndarray:
        """Mean difference, float64 [T, B]."""
        return _mean(self.alt.astype(np.float64) - self.ref)


def edit(position: int, ref: str, alt: str) -> Edit:
    """Where two alleles at a 0-based position differ."""
    shared = 0
    while shared < min(len(ref), len(alt)) and ref[shared] == alt[shared]:
        shared += 1
    ref, alt, position = ref[shared:], alt[shared:], position + shared
    while min(len(ref), len(alt)) and ref[-1] == alt[-1]:
        ref, alt = ref[:-1], alt[:-1]
    paired = min(len(ref), len(alt))
    return Edit(position, position + paired, len(ref) - paired, len(alt) - paired)


def aligned(
    ref: np.ndarray, alt: np.ndarray, gap: int, lost: int, gained: int, bin_bp: int
) -> tuple[np.ndarray, np.ndarray]:
    """Both predictions on the bins of the longer allele, restricted to bases that both have.

    Args:
        ref, alt: [..., B]. gap: bases from the first predicted bin to the gap.

    Returns:
        ref and alt [..., B]: sums over the compared bases of a bin, each base counting 1 / bin_bp.
    """
    d = max(lost, gained)
    if not d:
        return ref, alt
    bins = ref.shape[-1]
    longer, shorter = (ref, alt) if lost else (alt, ref)
    edges = np.arange(bins + 1) * bin_bp
    cuts = np.unique(np.concatenate([edges, edges + d, [gap, gap + d]]))
    cuts = cuts[(cuts >= 0) & (cuts <= bins * bin_bp)]
    first, weight = cuts[:-1], np.diff(cuts) / bin_bp
    compared = (first < gap) | (first >= gap + d)
    first, weight = first[compared], weight[compared]
    place = first // bin_bp
    other = np.where(first < gap, first, first - d) // bin_bp
    found = []
    for values, source in ((longer, place), (shorter, other)):
        taken = np.zeros(values.shape, np.float64)
        np.add.at(taken, (..., place), values[..., source] * weight)
        found.append(taken)
    return (found[0], found[1]) if lost else (found[1], found[0])


def longest(geometry: Geometry) -> int:
    """Longest allele that can be scored: a quarter of the predicted bases."""
    return geometry.target_bp // 4


# --- windows of both alleles ----------------------------------------------------------------------


def windows(
    row: NamedTuple, reader: Reader, geometry: Geometry, shifts: Sequence[int] = (0,)
) -> tuple[np.ndarray, np.ndarray]:
    """Bases and conservation of both alleles, uint8 [2, shifts, L]: ref, alt.

    Args:
        row: chrom, position (0-based), ref, alt.
    """
    change = edit(row.position, row.ref, row.alt)
    start = geometry.around(change.first) + min(shifts)
    moved = max(shifts) - min(shifts)
    grown = max(len(row.ref) - len(row.alt), 0)
    length = geometry.seq_bp + moved + grown
    genome = reader.bases(row.chrom, start, length)
    score = reader.conservation(row.chrom, start, length)
    before, after = row.position - start, row.position - start + len(row.ref)
    gap = change.gap - start
    bases = [np.r_[genome[:before], encode(text), genome[after:]] for text in (row.ref, row.alt)]
    inserted = np.zeros(change.gained, np.uint8)
    scores = [score, np.r_[score[:gap], inserted, score[gap + change.lost :]]]
    views = [
        np.stack([values[s : s + geometry.seq_bp] for s in np.array(shifts) - min(shifts)])
        for values in (*bases, *scores)
    ]
    return np.stack(views[:2]).astype(np.uint8), np.stack(views[2:]).astype(np.uint8)


def predicted(
    predict: Predict, bases: np.ndarray, conservation: np.ndarray, strands: bool, bins: int
) -> np.ndarray:
    """Predictions by strand, float32 [1 or 2, n, T, B], the other strand's bins turned back.

    Raises:
        InputError: the predictor gives another number of bins, or numbers that are not finite.
    """
    found = [np.asarray(predict(bases, conservation), np.float32)]
    if strands:
        turned = np.ascontiguousarray(conservation[:, ::-1])
        other = np.asarray(predict(reverse_complement(bases), turned), np.float32)
        found.append(other[..., ::-1])
    for values in found:
        if values.ndim != 3 or values.shape[0] != len(bases) or values.shape[2] != bins:
            raise InputError(
                "predictor",
                f"gives {values.shape} for {len(bases)} windows, [windows, tracks, {bins} bins] "
                "is expected; use the geometry that the model was made with",
            )
        if not np.isfinite(values).all():
            raise InputError(
                "predictor", "gives numbers that are not finite; use another checkpoint"
            )
    return np.stack(found)


def effects(
    table: pd.DataFrame,
    predict: Predict,
    reader: Reader,
    geometry: Geometry,
    options: Options | None = None,
) -> Iterator[Effect]:
    """Both alleles of every variant predicted, one after the other in the order of the table.

    Variants with an allele longer than `longest` are left out, with a line in the log. Memory is
    bounded by `options.batch` windows and their predictions.

    Args:
        table: as in `data.variants.Variants`.
    """
    options = options or Options()
    rows = [
        (i, row)
        for i, row in enumerate(table.itertuples(index=False))
        if max(len(row.ref), len(row.alt)) <= longest(geometry)
    ]
    if len(rows) < len(table):
        log.warning(
            "%d variants have an allele of more than %d bases and are not scored",
            *(len(table) - len(rows), longest(geometry)),
        )
    shifts = options.shifts
    each = 2 * len(shifts)
    group = max(1, options.batch // (each * (1 + options.strands)))
    for at in range(0, len(rows), group):
        part = rows[at : at + group]
        pairs = [windows(row, reader, geometry, shifts) for _, row in part]
        bases = np.concatenate([pair[0] for pair in pairs]).reshape(-1, geometry.seq_bp)
        score = np.concatenate([pair[1] for pair in pairs]).reshape(-1, geometry.seq_bp)
        values = predicted(predict, bases, score, options.strands, geometry.bins)
        values = values.reshape(len(values), len(part), 2, len(shifts), *values.shape[2:])
        for k, (i, row) in enumerate(part):
            yield _effect(i, row, values[:, k], geometry, shifts)


def _effect(
    variant: int, row: NamedTuple, values: np.ndarray, geometry: Geometry, shifts: Sequence[int]
) -> Effect:
    """From predictions [strands, 2, shifts, T, B]."""
    change = edit(row.position, row.ref, row.alt)
    start = geometry.around(change.first) + geometry.crop_bp
    ref, alt = [], []
    for s, shift in enumerate(shifts):
        gap = change.gap - start - shift
        pair = (values[:, 0, s], values[:, 1, s])
        one, two = aligned(*pair, gap, change.lost, change.gained, geometry.bin_bp)
        ref.append(one)
        alt.append(two)
    return Effect(variant, start, change, np.concatenate(ref), np.concatenate(alt))


# --- scores ---------------------------------------------------------------------------------------


def score(
    table: pd.DataFrame,
    predict: Predict,
    reader: Reader,
    geometry: Geometry,
    tracks: Sequence[str],
    options: Options | None = None,
) -> pd.DataFrame:
    """Scores of every variant and track.

    Returns:
        One row per variant and track: COLUMNS (`variant` = row of the table, position 0-based),
        `sad` (sum over the compared bins of alt - ref), `local_lfc` (log2 of the sums over the bins
        within `reach` of the variant's, each plus `pseudo`), `max_abs` (the difference of the bin
        where it is largest, with its sign) and `max_start` (that bin's first base), `l2` (root of
        the summed squares of differences), `ref` and `alt` sums of the local bins, and `*_sd` over
        strands and shifts (of `max_abs` in the same bin).
    """
    options = options or Options()
    found = []
    for effect in effects(table, predict, reader, geometry, options):
        if effect.ref.shape[1] != len(tracks):
            raise InputError(
                "tracks", f"{len(tracks)} names for {effect.ref.shape[1]} outputs; name each once"
            )
        row = table.iloc[effect.variant]
        own = {name: row.get(name, "") for name in COLUMNS[1:-1]}
        found.append(
            pd.DataFrame(
                {"variant": effect.variant, **own, "track": list(tracks)}
                | scores(effect, geometry, options)
            )
        )
    if not found:
        names = [*COLUMNS, *SCORES, "max_start", "local_ref", "local_alt"]
        return pd.DataFrame(columns=[*names, *(f"{name}_sd" for name in SCORES)])
    return pd.concat(found, ignore_index=True)


def scores(effect: Effect, geometry: Geometry, options: Options) -> dict[str, np.ndarray]:
    """Scores of one variant by track, each [T]; see `score`."""
    single = effect.alt.astype(np.float64) - effect.ref
    change = effect.change
    tracks = np.arange(change.shape[0])
    place = np.abs(change).argmax(axis=1)
    near = local_bins(effect, geometry, options.reach)
    sums = [values[..., near].astype(np.float64).sum(-1) for values in (effect.ref, effect.alt)]
    ref, alt = (_mean(values) for values in sums)
    logs = [np.log2(values + options.pseudo) for values in (ref, alt)]
    by_combination = {
        "sad": single.sum(-1),
        "local_lfc": np.log2(sums[1] + options.pseudo) - np.log2(sums[0] + options.pseudo),
        "max_abs": single[:, tracks, place],
        "l2": np.sqrt((single**2).sum(-1)),
    }
    mean = {
        "sad": change.sum(-1),
        "local_lfc": logs[1] - logs[0],
        "max_abs": change[tracks, place],
        "l2": np.sqrt((change**2).sum(-1)),
    }
    several = len(single) > 1
    spread = {
        f"{name}_sd": values.std(axis=0, ddof=1) if several else np.full(len(tracks), np.nan)
        for name, values in by_combination.items()
    }
    where = {"max_start": bin_start(effect, place, geometry), "local_ref": ref, "local_alt": alt}
    return mean | where | spread


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis; exactly the negative for negated values."""
    return values.sum(axis=0) / len(values)


def local_bins(effect: Effect, geometry: Geometry, reach: int) -> slice:
    """Predicted bins within `reach` of those that hold the variant, in the longer allele."""
    change = effect.edit
    last = max(change.gap + max(change.lost, change.gained) - 1, change.first)
    first, last = ((p - effect.start) // geometry.bin_bp for p in (change.first, last))
    return slice(max(first - reach, 0), min(last + reach + 1, geometry.bins))


def bin_start(effect: Effect, place: np.ndarray, geometry: Geometry) -> np.ndarray:
    """First base of bins of the longer allele, on the reference chromosome."""
    start = effect.start + np.asarray(place) * geometry.bin_bp
    beyond = start > effect.edit.gap
    back = np.maximum(start - effect.edit.gained, effect.edit.gap)
    return np.where(beyond, back, start)
