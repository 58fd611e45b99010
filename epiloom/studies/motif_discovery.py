"""Motifs from attributions: short stretches that matter (seqlets), grouped by what they look like.

1. Importance of a base = attribution of the base that is there. A seqlet is a window whose summed
   importance stands out: above what windows of the same sequences reach after their positions were
   shuffled, at a false discovery rate; seqlets with positive and negative sums are kept apart.
2. Two seqlets are as similar as the cosine of their importances (4 x width), at the best offset and
   on the better strand. Average-linkage clustering (scikit-learn) joins similar ones.
3. Each cluster is aligned to its most typical member, then twice to its own mean, and cut to the
   positions that carry importance. Clusters whose means are alike are joined.

TF-MoDISco does the same with more care for rare motifs. It is not used here: it brings eleven
packages (430 MB; two of them under the GPL), and conda-forge and bioconda lack it. Who has it
can run it on the files of `write_modisco`.

Shapes: n sequences, L bases, W width of a seqlet with flanks, S seqlets.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.cluster import AgglomerativeClustering

from epiloom.data.files import atomic
from epiloom.plan.errors import InputError
from epiloom.studies.mutagenesis import one_hot

log = logging.getLogger("epiloom")


@dataclass(frozen=True)
class Options:
    """How motifs are found.

    Attributes:
        width: bases of the window that finds seqlets. flank: bases added on each side.
        fdr: expected share of windows by chance among the seqlets.
        similar: smallest average similarity within a cluster.
        joined: similarity from which on two motifs become one.
        fewest: seqlets that a motif needs.
        most: seqlets used of each sign (the strongest), which bounds time and memory.
    """

    width: int = 15
    flank: int = 5
    fdr: float = 0.05
    similar: float = 0.6
    joined: float = 0.85
    fewest: int = 20
    most: int = 3000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.width < 3 or self.flank < 0 or not 0 < self.fdr < 1 or self.fewest < 2:
            raise InputError("motif discovery", f"{self}; width 3 or more, fdr between 0 and 1")


@dataclass(frozen=True)
class Found:
    """A motif found in attributions.

    Attributes:
        name: pos_1, pos_2, ..., neg_1, ... by number of seqlets.
        contribution: float64 [width, 4], mean attribution of the bases that are there.
        probabilities: float64 [width, 4], share of the bases at its sites.
        sites: sequence, start (0-based in it), strand, of every seqlet, cut to the motif.
    """

    name: str
    contribution: np.ndarray
    probabilities: np.ndarray
    sites: pd.DataFrame


def discover(
    bases: np.ndarray, attributions: np.ndarray, options: Options | None = None
) -> list[Found]:
    """Motifs of attributed sequences.

    Args:
        bases: uint8 [n, L]. attributions: [n, 4, L], such as `Map.hypothetical` or gradient x
            input; only those of the bases that are there count.

    Raises:
        InputError: shapes that do not fit, or numbers that are not finite.
    """
    options = options or Options()
    hot = one_hot(np.asarray(bases))
    if np.shape(attributions) != hot.shape or not np.isfinite(attributions).all():
        raise InputError(
            "attributions",
            f"shape {np.shape(attributions)} for bases {np.shape(bases)}; give finite numbers "
            "[sequences, 4, bases]",
        )
    if hot.shape[2] < options.width + 2 * options.flank:
        raise InputError("attributions", f"{hot.shape[2]} bases a sequence; give longer ones")
    actual = hot * attributions
    found = []
    for sign, name in ((1, "pos"), (-1, "neg")):
        row, start = seqlets(actual.sum(axis=1) * sign, options)
        log.info("motifs: %d seqlets with %s effect", len(row), name)
        if len(row) >= options.fewest:
            groups = _clusters(_cut(actual, row, start, options) * sign, options)
            found += _motifs(groups, hot, actual * sign, row, start, options, name, sign)
    return found


def write_modisco(folder: str | Path, bases: np.ndarray, attributions: np.ndarray) -> None:
    """Write ohe.npz and attributions.npz, `modisco motifs -s ohe.npz -a attributions.npz`."""
    arrays = {"ohe": one_hot(bases).astype(np.int8), "attributions": np.float32(attributions)}
    for name, values in arrays.items():
        with atomic(Path(folder) / f"{name}.npz") as tmp:
            np.savez_compressed(tmp, values)


# --- seqlets --------------------------------------------------------------------------------------


def seqlets(importance: np.ndarray, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """Sequence and start (with flank) of the windows that stand out, strongest first."""
    kernel, flank = options.width, options.flank
    rng = np.random.default_rng(options.seed)
    shuffled = rng.permuted(importance, axis=1)
    own, null = (_sums(values, kernel) for values in (importance, shuffled))
    peaks = _peaks(own, kernel)
    level = _threshold(own[peaks], null[_peaks(null, kernel)], options.fdr)
    row, start = np.nonzero(peaks & (own >= level))
    start = start - flank
    inside = (start >= 0) & (start + kernel + 2 * flank <= importance.shape[1])
    row, start = row[inside], start[inside]
    order = np.argsort(-own[row, start + flank], kind="stable")[: options.most]
    return row[order], start[order]


def _sums(values: np.ndarray, width: int) -> np.ndarray:
    total = np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=1, dtype=np.float64)
    return total[:, width:] - total[:, :-width]


def _peaks(sums: np.ndarray, width: int) -> np.ndarray:
    """True at windows, the largest first, that overlap none taken before.

    Half overlaps would be taken for a second motif wherever a site is longer than the window.
    """
    apart = width - 1
    taken = np.zeros(sums.shape, bool)
    for row, values in enumerate(sums):
        blocked = values <= 0
        for at in np.argsort(-values, kind="stable"):
            if values[at] <= 0:
                break
            if not blocked[at]:
                taken[row, at] = True
                blocked[max(at - apart, 0) : at + apart + 1] = True
    return taken


def _threshold(own: np.ndarray, null: np.ndarray, fdr: float) -> float:
    """Smallest sum at which windows of shuffled sequences are at most `fdr` times as many."""
    own, null = np.sort(own), np.sort(null)
    chance = len(null) - np.searchsorted(null, own, side="left")
    kept = len(own) - np.searchsorted(own, own, side="left")
    fits = np.flatnonzero(chance <= fdr * kept)
    return float(own[fits[0]]) if len(fits) else np.inf


def _cut(values: np.ndarray, row: np.ndarray, start: np.ndarray, options: Options) -> np.ndarray:
    """Stretches [S, 4, W] of values [n, 4, L]."""
    width = options.width + 2 * options.flank
    columns = start[:, None] + np.arange(width)
    return np.moveaxis(values[row[:, None], :, columns], 1, 2)


# --- similarity and clusters ----------------------------------------------------------------------


def turned(values: np.ndarray) -> np.ndarray:
    """The other strand of [..., 4, W]."""
    return values[..., ::-1, ::-1]


def best_alignment(
    one: np.ndarray, two: np.ndarray, shift: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Highest cosine of every pair over offsets and strands.

    Args:
        one: [a, 4, W]. two: [b, 4, W]. shift: largest offset.

    Returns:
        [a, b] each: cosine, offset (x of one lies at x - offset of two), strand of two (1, -1).
    """
    length = np.linalg.norm(one, axis=(1, 2))[:, None] * np.linalg.norm(two, axis=(1, 2))
    best = np.full(length.shape, -np.inf)
    offset, strand = np.zeros(length.shape, int), np.ones(length.shape, int)
    width = one.shape[2]
    for sign, other in ((1, two), (-1, turned(two))):
        for k in range(-shift, shift + 1):
            a, b = slice(max(k, 0), width + min(k, 0)), slice(max(-k, 0), width - max(k, 0))
            dots = one[:, :, a].reshape(len(one), -1) @ other[:, :, b].reshape(len(two), -1).T
            better = dots > best
            best, offset = np.where(better, dots, best), np.where(better, k, offset)
            strand = np.where(better, sign, strand)
    return best / np.maximum(length, 1e-12), offset, strand


def _clusters(pieces: np.ndarray, options: Options) -> list[np.ndarray]:
    """Members of every cluster that is large enough, the most typical one first."""
    likeness = best_alignment(pieces, pieces, options.width // 2)[0]
    likeness = (likeness + likeness.T) / 2
    distance = np.clip(1 - likeness, 0, None)
    np.fill_diagonal(distance, 0)
    model = AgglomerativeClustering(
        n_clusters=None,
        metric="precomputed",
        linkage="average",
        distance_threshold=1 - options.similar,
    )
    labels = model.fit(distance).labels_
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    groups = [group for group in groups if len(group) >= options.fewest]
    return [_typical_first(group, likeness) for group in groups]


def _typical_first(group: np.ndarray, likeness: np.ndarray) -> np.ndarray:
    return group[np.argsort(-likeness[np.ix_(group, group)].sum(axis=1), kind="stable")]


# --- motifs ---------------------------------------------------------------------------------------


def _motifs(
    groups: list[np.ndarray],
    hot: np.ndarray,
    actual: np.ndarray,
    row: np.ndarray,
    start: np.ndarray,
    options: Options,
    name: str,
    sign: int,
) -> list[Found]:
    """Align, join and cut the clusters of one sign."""
    aligned = [_aligned(actual, row[g], start[g], options) for g in groups]
    aligned = _joined(sorted(aligned, key=lambda a: -len(a[0])), actual, options)
    found = []
    for rank, (rows, starts, strands) in enumerate(aligned, 1):
        values, letters = (_stack(v, rows, starts, strands, options) for v in (actual, hot))
        first, last = _core(values.mean(axis=0))
        width = options.width + 2 * options.flank
        begin = np.where(strands > 0, starts + first, starts + width - last)
        sites = pd.DataFrame({"sequence": rows, "start": begin, "strand": strands})
        share = letters.mean(axis=0)[:, first:last].T + 1e-6
        share = share / share.sum(axis=1, keepdims=True)
        contribution = sign * values.mean(axis=0)[:, first:last].T
        found.append(Found(f"{name}_{rank}", contribution, share, sites))
    return found


def _stack(values: np.ndarray, rows, starts, strands, options: Options) -> np.ndarray:
    pieces = _cut(values, rows, starts, options)
    return np.where(strands[:, None, None] > 0, pieces, turned(pieces))


def _aligned(
    actual: np.ndarray, rows: np.ndarray, starts: np.ndarray, options: Options
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, starts and strands of a cluster's seqlets, each laid on the cluster's mean."""
    width = options.width + 2 * options.flank
    mean = _cut(actual, rows[:1], starts[:1], options)[0]
    strands = np.ones(len(rows), int)
    for _ in range(3):
        pieces = _cut(actual, rows, starts, options)
        _, offset, strand = best_alignment(mean[None], pieces, options.width // 2)
        # x of the mean lies at x - offset of a piece, counted on the piece's strand
        moved = np.where(strand[0] > 0, starts - offset[0], starts + offset[0])
        inside = (moved >= 0) & (moved + width <= actual.shape[2])
        rows, starts, strands = rows[inside], moved[inside], strand[0][inside]
        mean = _stack(actual, rows, starts, strands, options).mean(axis=0)
    return rows, starts, strands


def _joined(aligned: list, actual: np.ndarray, options: Options) -> list:
    """Join motifs whose means are alike, the larger first; drop sites that are there twice."""
    kept: list = []
    for own in aligned:
        mean = _stack(actual, *own, options).mean(axis=0)
        for k, other in enumerate(kept):
            there = _stack(actual, *other, options).mean(axis=0)
            likeness = best_alignment(there[None], mean[None], options.width // 2)[0][0, 0]
            if likeness >= options.joined:
                rows = np.concatenate([other[0], own[0]])
                starts = np.concatenate([other[1], own[1]])
                kept[k] = _aligned(actual, rows, starts, options)
                break
        else:
            kept.append(own)
    kept = [_once(*own) for own in kept]
    kept = [own for own in kept if len(own[0]) >= options.fewest]
    return sorted(kept, key=lambda a: -len(a[0]))


def _once(rows: np.ndarray, starts: np.ndarray, strands: np.ndarray) -> tuple:
    _, first = np.unique(np.stack([rows, starts]), axis=1, return_index=True)
    first = np.sort(first)
    return rows[first], starts[first], strands[first]


def _core(mean: np.ndarray) -> tuple[int, int]:
    """First and last position that carry a fifth of the largest importance."""
    weight = np.abs(mean.sum(axis=0))
    above = np.flatnonzero(weight >= 0.2 * weight.max())
    return int(above[0]), int(above[-1]) + 1
