"""What a model of signal tracks has to beat. All are fitted on training chromosomes alone.

* mean: the track's mean. Constant, so without r; deviance and MSE are those of knowing nothing.
* profile: the mean track by position in the window, where windows are centred on something and
  each lies on a contig of its own. On tiled windows position means nothing, and it is left out.
* gc_conservation: ridge regression of log2(x + 1) on GC, CpG and conservation of the bin, of 1 kb
  and of 10 kb around it; `gc` without conservation.
* kmer_ridge: the same on counts of 5-mers (both strands as one) of the bin and its neighbours.
* other_cells: mean of the other tracks in the same bin, each divided by its training mean, times
  the track's own. It reads measured tracks of the very chromosome it predicts, so no model of
  sequence alone competes on equal terms: it shows how far knowing the place, not the cell, goes.

The ridge models learn from a seeded sample of pieces of the training chromosomes; the penalty is
the one with the smallest error on a sample of the validation chromosomes. Predictions are
2^y - 1, at least 0. As 2^(mean of the logarithm) is below the mean, they are judged by r rather
than by deviance.

Cost on one core with 18 tracks in bins of 128 bp: k-mers 0.16 s per Mb of the samples (30 s for
1.25 million bins) and 0.12 s per Mb predicted, GC 0.007 s and 0.006 s, other cells 0.001 s. Memory
stays at 0.5 GB: other cells on the longest chromosome of hg38 take the most.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from epiloom.learn.sequence_features import GcConservation, Kmers
from epiloom.learn.track_metrics import OF_OTHERS
from epiloom.learn.track_sums import LEVELS, LOG, Grid, codes, windows_of
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

MAX_BINS = 1_000_000  # of the training sample; the validation sample has a quarter
PIECE = 2048  # bins of a piece
PENALTIES = np.logspace(-6, 1, 15)  # times the number of bins, for features of variance 1
HIGHEST = 65504  # of float16


@dataclass(frozen=True)
class Data:
    """What baselines are fitted on and predict from.

    tracks: name -> vector, float16 [grid.total], NaN = missing.
    bases: uint8 [genome.total(1)], A, C, G, T = 0..3, others 4. conservation: uint8, same length.
    """

    grid: Grid
    tracks: Mapping[str, np.ndarray]
    train: Sequence[str]
    validation: Sequence[str]
    bases: np.ndarray
    conservation: np.ndarray | None = None

    def __post_init__(self):
        bins, bp = self.grid.total, self.grid.genome.total(1)
        sizes = {f"track {name}": (len(v), bins) for name, v in self.tracks.items()}
        sizes["bases"] = (len(self.bases), bp)
        if self.conservation is not None:
            sizes["conservation"] = (len(self.conservation), bp)
        problems = [
            f"{name}: {has} values, the genome has {wanted}; make it again"
            for name, (has, wanted) in sizes.items()
            if has != wanted
        ]
        both = sorted(set(self.train) & set(self.validation))
        problems += [f"{chrom} is in both training and validation; keep one" for chrom in both]
        if problems:
            raise InputError("baselines", problems)


class Baseline(Protocol):
    def predict(self, chrom: str) -> np.ndarray:
        """Values of all tracks in all bins of a chromosome, float16 [tracks, bins]; NaN: none."""
        ...


def fit(
    data: Data, windows: pd.DataFrame | None = None, seed: int = 0, max_bins: int = MAX_BINS
) -> dict[str, Baseline]:
    """All baselines that the data allow, by name.

    Args:
        windows: windows of the model (chrom, start, end); `profile` needs them centred.
        seed: of the sampling. max_bins: size of the training sample.

    Raises:
        InputError: a track has no value on the training chromosomes, or no bin has all tracks.
    """
    means = training_means(data)
    found: dict[str, Baseline] = {"mean": Mean(data.grid, means)}
    if windows is not None and centred(windows):
        found["profile"] = Profile.fit(data, windows)
    features = {
        "gc" if data.conservation is None else "gc_conservation": GcConservation(
            data.grid, data.bases, data.conservation
        ),
        "kmer_ridge": Kmers(data.grid, data.bases),
    }
    for name, inputs in features.items():
        found[name] = Ridge.fit(data, inputs, seed, max_bins)
        log.info("%s: penalties %s", name, np.unique(found[name].penalties))
    if len(data.tracks) > 1:
        found[OF_OTHERS] = OtherCells(data, means)
    return found


def vectors(
    baseline: Baseline,
    grid: Grid,
    chroms: Sequence[str],
    tracks: int,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Predictions of some chromosomes, float16 [tracks, grid.total]; NaN on the others.

    Args:
        out: array to fill (a memory map, say); made if None.
    """
    out = np.empty((tracks, grid.total), np.float16) if out is None else out
    for chrom in grid.genome.chromosomes:
        out[:, grid.span(chrom)] = baseline.predict(chrom) if chrom in chroms else np.nan
    return out


# ---- without sequence ----------------------------------------------------------------------------


def training_means(data: Data) -> np.ndarray:
    """Mean of every track over the usable bins of the training chromosomes, float64 [tracks]."""
    total, n = np.zeros(len(data.tracks)), np.zeros(len(data.tracks))
    for chrom in data.train:
        span = data.grid.span(chrom)
        usable = data.grid.usable(span)
        for k, (name, vector) in enumerate(data.tracks.items()):
            code, known = codes(vector[span], name)
            total[k] += LEVELS[code[known & usable]].sum()
            n[k] += np.count_nonzero(known & usable)
    empty = [name for name, count in zip(data.tracks, n, strict=True) if not count]
    if empty:
        raise InputError(
            "baselines",
            f"{', '.join(empty)}: no value on the training chromosomes; leave the track out or"
            " choose other folds",
        )
    return total / n


@dataclass(frozen=True)
class Mean:
    grid: Grid
    means: np.ndarray

    def predict(self, chrom: str) -> np.ndarray:
        span = self.grid.span(chrom)
        return np.repeat(_half(self.means[:, None]), span.stop - span.start, axis=1)


@dataclass(frozen=True)
class OtherCells:
    data: Data
    means: np.ndarray

    def predict(self, chrom: str) -> np.ndarray:
        span = self.data.grid.span(chrom)
        relative = np.stack([np.asarray(v[span], np.float32) for v in self.data.tracks.values()])
        relative /= np.where(self.means > 0, self.means, np.nan).astype(np.float32)[:, None]
        known = ~np.isnan(relative)
        relative[~known] = 0
        total, n = relative.sum(axis=0, dtype=np.float64), known.sum(axis=0)
        out = np.empty(relative.shape, np.float16)
        for k, mean in enumerate(self.means):
            others = n - known[k]
            value = np.full(len(others), np.nan)
            np.divide((total - relative[k]) * mean, others, out=value, where=others > 0)
            out[k] = _half(value)
        return out


def centred(windows: pd.DataFrame) -> bool:
    """Whether position in the window may mean something: one window per contig, of one length."""
    return not windows["chrom"].duplicated().any() and (
        (windows["end"] - windows["start"]).nunique() == 1
    )


@dataclass(frozen=True)
class Profile:
    grid: Grid
    firsts: Mapping[str, int]  # first bin of a contig's window, within the contig
    profile: np.ndarray  # float64 [tracks, bins of a window]

    @classmethod
    def fit(cls, data: Data, windows: pd.DataFrame) -> Profile:
        """Mean over the windows of training contigs. InputError if there is none."""
        windows_of(data.grid, windows["chrom"].astype(str).tolist(), windows)  # checks them
        starts = windows["start"].to_numpy(np.int64) // data.grid.bin_bp
        firsts = dict(zip(windows["chrom"].astype(str), starts.tolist(), strict=True))
        size = int((windows["end"] - windows["start"]).iloc[0]) // data.grid.bin_bp
        total, n = (np.zeros((len(data.tracks), size)) for _ in range(2))
        for chrom in data.train:
            if chrom not in firsts:
                continue
            first = data.grid.span(chrom).start + firsts[chrom]
            bins = slice(first, first + size)
            usable = data.grid.usable(bins)
            for k, vector in enumerate(data.tracks.values()):
                code, known = codes(vector[bins])
                total[k] += np.where(known & usable, LEVELS[code], 0)
                n[k] += known & usable
        if not n.any():
            raise InputError("baselines", "no window on a training contig; choose other folds")
        mean = np.divide(total, n, out=np.full(n.shape, np.nan), where=n > 0)
        return cls(data.grid, firsts, mean)

    def predict(self, chrom: str) -> np.ndarray:
        span = self.grid.span(chrom)
        out = np.full((len(self.profile), span.stop - span.start), np.nan, np.float16)
        if chrom in self.firsts:
            first = self.firsts[chrom]
            out[:, first : first + self.profile.shape[1]] = _half(self.profile)
        return out


# ---- from sequence -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ridge:
    """Linear model of log2(x + 1) of all tracks on some features of the sequence."""

    data: Data
    features: GcConservation | Kmers
    weights: np.ndarray  # float64 [1 + features, tracks], intercept first
    penalties: np.ndarray  # [tracks]

    @classmethod
    def fit(cls, data: Data, features, seed: int, max_bins: int = MAX_BINS) -> Ridge:
        """Fit on sampled training bins; the penalty of each track by error on validation bins."""
        train = _gram(data, features, data.train, max_bins, seed)
        check = _gram(data, features, data.validation, max(max_bins // 4, 1), seed + 1)
        tracks = len(data.tracks)
        n, last = train[0, 0], len(train) - tracks
        mean = train[0] / n
        spread = train / n - np.outer(mean, mean)
        deviation = np.sqrt(np.maximum(np.diag(spread)[1:last], 0))
        varies = deviation > 1e-9
        scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=varies)
        values, axes = np.linalg.eigh(spread[1:last, 1:last] * np.outer(scale, scale))
        along = axes.T @ (spread[1:last, last:] * scale[:, None])
        best, error, chosen = np.zeros((last, tracks)), np.full(tracks, np.inf), np.zeros(tracks)
        for penalty in PENALTIES:
            slopes = scale[:, None] * (axes @ (along / (np.maximum(values, 0) + penalty)[:, None]))
            weights = np.vstack([mean[last:] - mean[1:last] @ slopes, slopes])
            residual = np.vstack([-weights, np.eye(tracks)])
            found = np.einsum("ij,ij->j", residual, check @ residual)
            better = found < error
            best[:, better], error[better], chosen[better] = (
                weights[:, better],
                found[better],
                penalty,
            )
        return cls(data, features, best, chosen)

    def predict(self, chrom: str) -> np.ndarray:
        span = self.data.grid.span(chrom)
        bins = span.stop - span.start
        out = np.empty((self.weights.shape[1], bins), np.float16)
        for first in range(0, bins, PIECE):
            stop = min(first + PIECE, bins)
            logs = self.features(chrom, first, stop) @ self.weights[1:] + self.weights[0]
            out[:, first:stop] = _half(np.exp2(np.minimum(logs.T, 16)) - 1)
        return out


def _gram(data: Data, features, chroms: Sequence[str], max_bins: int, seed: int) -> np.ndarray:
    """Z'Z, Z = [1, features, log2(x + 1) of the tracks], over sampled bins that have all tracks."""
    total, n = 0.0, 0
    for chrom, first, stop in _sampled(data.grid, chroms, seed):
        start = data.grid.span(chrom).start
        bins = slice(start + first, start + stop)
        keep = data.grid.usable(bins)
        truth = np.empty((stop - first, len(data.tracks)))
        for k, (name, vector) in enumerate(data.tracks.items()):
            code, known = codes(vector[bins], name)
            truth[:, k] = LOG[code]
            keep &= known
        if not keep.any():
            continue
        x = features(chrom, first, stop)
        z = np.hstack([np.ones((stop - first, 1)), x, truth])[keep]
        total, n = total + z.T @ z, n + len(z)
        if n >= max_bins:
            break
    if not n:
        raise InputError(
            "baselines",
            f"no usable bin of {', '.join(chroms) or 'no chromosome'} has a value in all tracks;"
            " leave out the track that lacks most, or choose other folds",
        )
    return total


def _sampled(grid: Grid, chroms: Sequence[str], seed: int) -> Iterator[tuple[str, int, int]]:
    """All pieces of the chromosomes (chrom, first bin, bin after the last), shuffled."""
    bins = {chrom: grid.span(chrom).stop - grid.span(chrom).start for chrom in chroms}
    pieces = [
        (chrom, first, min(first + PIECE, n))
        for chrom, n in bins.items()
        for first in range(0, n, PIECE)
    ]
    for k in np.random.default_rng(seed).permutation(len(pieces)):
        yield pieces[k]


def _half(values: np.ndarray) -> np.ndarray:
    """float16 from 0 to its largest value; NaN stays."""
    return np.clip(values, 0, HIGHEST).astype(np.float16)
