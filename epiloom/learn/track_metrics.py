"""Metrics of models that predict signal tracks: a row per part, track and predictor.

The measures of one track are defined in `track_sums`. Across tracks, cell_r asks whether a model
knows which cell type a bin is active in. Of the bins where any track exceeds its own 99 % quantile
(its peaks), the fifth with the largest standard deviation of log2(x + 1) over the tracks is taken:
elsewhere the tracks agree, and what little they differ is noise of the measurement. There each
track, measured and predicted, is set to mean 0 and variance 1 over these bins, and each bin's
Pearson correlation over the tracks is taken. Without that, a track that is deeper or has a wider
range than others would agree with its prediction in every bin, whatever the bin. A predictor that
knows the place but not the cell has 0. The mean of the other cells has no cell_r: it is lowest
where the track itself is highest, so its r is near -1 by construction.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from epiloom.learn.track_sums import CODES, LOG, Grid, TrackSums, Windows, codes, windows_of
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

COLUMNS = ("model", "fold", "part", "track", "predictor", "n", "r", "r_low", "r_high", "r_linear")
COLUMNS += ("spearman", "deviance_explained", "r2", "mse", "window_r", "windows_left_out")
COLUMNS += ("auroc", "auprc", "cell_r", "cell_r_median")
ACROSS = "across"  # stands for the track in the row of cell_r
QUANTILE = 0.99  # of a track, above which a bin is one of its peaks
OF_OTHERS = "other_cells"  # the predictor without cell_r
VARIABLE = 0.2  # share of the peaks' bins where cell_r is taken
MIN_TRACKS = 3
MIN_VARIABLE = 10  # bins
_CONSTANT = 1e-3  # standard deviation over tracks below which a bin is constant: float16 rounding


def metrics_rows(
    grid: Grid,
    parts: Mapping[str, Sequence[str]],
    truths: Mapping[str, np.ndarray],
    predictions: Mapping[str, Mapping[str, np.ndarray]],
    labels: Mapping[str, str],
    peaks: Mapping[str, np.ndarray] | None = None,
    windows: pd.DataFrame | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """The metrics of one run (columns `COLUMNS`).

    Args:
        parts: chromosomes of each part to score.
        truths: vector of each track, float16 [grid.total].
        predictions: predictor -> track -> vector. The first predictor (the model) decides which
            bins count: where it has no value, none is scored.
        labels: the columns model and fold.
        peaks: vector of each track that has labels, uint8, not 0 in a peak.
        windows: predicted intervals (chrom, start, end); see `windows_of`.
        seed: of the intervals.

    The row of track "across" holds cell_r (mean over bins), its median, and the number of bins. It
    is there for predictors of at least three tracks. Test chromosomes of all folds are scored
    together by giving them as one part, with vectors from `joined`.
    """
    rows = []
    model = next(iter(predictions.values()), {})
    for part, chroms in parts.items():
        places = windows_of(grid, chroms, windows)
        for track, truth in truths.items():
            if track not in model:
                continue
            for predictor, vectors in predictions.items():
                if track not in vectors:
                    continue
                given = (truth, vectors[track], (peaks or {}).get(track), model[track])
                found = measures(grid, places, *given, seed=seed)
                row = {**labels, "part": part, "track": track, "predictor": predictor}
                rows.append(row | found)
        for predictor, found in _across(grid, places, truths, predictions).items():
            row = {**labels, "part": part, "track": ACROSS, "predictor": predictor}
            rows.append(row | found)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def measures(
    grid: Grid,
    windows: Windows,
    truth: np.ndarray,
    prediction: np.ndarray,
    peaks: np.ndarray | None = None,
    only: np.ndarray | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The columns of one track from `n` on; None where a measure is undefined.

    Args:
        only: a vector; bins where it is NaN do not count.
    """
    sums = TrackSums.of(*(np.zeros(0),) * 3)
    for bins, places in counted(grid, windows, only):
        inside = None if peaks is None else peaks[bins]
        sums += TrackSums.of(truth[bins], prediction[bins], places, inside)
    products = sum(
        sums.rank_products(truth[bins], prediction[bins], places)
        for bins, places in counted(grid, windows, only)
    )
    blocks = windows.blocks[np.searchsorted(windows.starts, sums.windows)]
    low, high = sums.interval(blocks, seed) or (None, None)
    auroc, auprc = sums.ranking()
    window_r = sums.window_r
    return {
        "n": sums.n,
        "r": sums.r,
        "r_low": low,
        "r_high": high,
        "r_linear": sums.r_linear,
        "spearman": sums.spearman(products),
        "deviance_explained": sums.deviance_explained,
        "r2": sums.r2,
        "mse": sums.mse,
        "window_r": float(np.median(window_r)) if len(window_r) else None,
        "windows_left_out": len(sums.windows) - len(window_r),
        "auroc": auroc,
        "auprc": auprc,
    }


def counted(
    grid: Grid, windows: Windows, only: np.ndarray | None = None
) -> Iterator[tuple[slice, np.ndarray]]:
    """`windows.chunks()` with -1 also for bins that are masked, or NaN in `only`."""
    for bins, places in windows.chunks():
        places = np.where(grid.usable(bins), places, -1)
        if only is not None:
            places[np.isnan(only[bins])] = -1
        yield bins, places


def joined(grid: Grid, pieces: Sequence[tuple[Sequence[str], np.ndarray]]) -> np.ndarray:
    """One vector out of those of several folds, to score their test chromosomes together.

    Args:
        pieces: (test chromosomes, vector) of each fold.

    Returns:
        float16 [grid.total]; NaN on chromosomes that are tested in no fold.

    Raises:
        InputError: a chromosome is tested in two folds.
    """
    vector, seen = np.full(grid.total, np.nan, np.float16), set()
    for chroms, values in pieces:
        for chrom in chroms:
            if chrom in seen:
                raise InputError(
                    "folds",
                    f"{chrom} is tested in two folds; give every chromosome to the test set of"
                    " one fold at most",
                )
            seen.add(chrom)
            vector[grid.span(chrom)] = values[grid.span(chrom)]
    return vector


def _across(grid, windows, truths, predictions) -> dict[str, dict[str, Any]]:
    """n, cell_r and cell_r_median of every predictor that has all tracks of the model."""
    model = next(iter(predictions.values()), {})
    tracks = [track for track in truths if track in model]
    if len(tracks) < MIN_TRACKS:
        return {}
    truth = [truths[track] for track in tracks]
    bins = variable_bins(grid, windows, truth, [model[track] for track in tracks])
    found = {}
    for predictor, vectors in predictions.items():
        if predictor == OF_OTHERS or any(track not in vectors for track in tracks):
            continue
        r = cell_r(
            np.stack([vector[bins] for vector in truth]),
            np.stack([vectors[track][bins] for track in tracks]),
        )
        r = r[np.isfinite(r)]
        enough = len(r) >= MIN_VARIABLE
        found[predictor] = {
            "n": len(r),
            "cell_r": float(r.mean()) if enough else None,
            "cell_r_median": float(np.median(r)) if enough else None,
        }
        log.info("%s: cell_r at %d of %d variable bins", predictor, len(r), len(bins))
    return found


def variable_bins(
    grid: Grid,
    windows: Windows,
    truths: Sequence[np.ndarray],
    predictions: Sequence[np.ndarray] = (),
) -> np.ndarray:
    """Bins where the tracks differ most (see above), sorted int64 [bins].

    Only bins count where all tracks are measured and, with predictions, predicted.
    """
    counts = np.zeros((len(truths), CODES), np.int64)
    for _, _, rows in _complete(grid, windows, truths, predictions):
        for count, row in zip(counts, rows, strict=True):
            count += np.bincount(row, minlength=CODES)
    upto = np.cumsum(counts, axis=1)
    limits = (upto >= QUANTILE * upto[:, -1:]).argmax(axis=1)[:, None]
    places, deviations = [np.zeros(0, np.int64)], []
    total, number = np.zeros((len(truths), 1)), 0
    for at_peaks in _peaks(grid, windows, truths, predictions, limits):  # the mean of each track
        total += LOG[at_peaks[1]].sum(axis=1, keepdims=True)
        number += at_peaks[1].shape[1]
    for place, rows in _peaks(grid, windows, truths, predictions, limits):
        places.append(place)
        deviations.append((LOG[rows] - total / max(number, 1)).std(axis=0))
    order = np.argsort(-np.concatenate([np.zeros(0), *deviations]), kind="stable")
    return np.sort(np.concatenate(places)[order[: int(np.ceil(VARIABLE * number))]])


def _complete(grid, windows, truths, predictions) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Bins of a chunk, which of them are complete, and all tracks' codes there [tracks, bins]."""
    for bins, places in counted(grid, windows):
        keep = places >= 0
        for vector in predictions:
            keep &= ~np.isnan(vector[bins])
        rows = np.empty((len(truths), len(keep)), np.uint16)
        for row, vector in zip(rows, truths, strict=True):
            row[:], known = codes(vector[bins])
            keep &= known
        yield bins, keep, rows[:, keep]


def _peaks(grid, windows, truths, predictions, limits) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Complete bins where a track's code is above its limit, and all tracks' codes there."""
    for bins, keep, rows in _complete(grid, windows, truths, predictions):
        high = (rows > limits).any(axis=0)
        yield bins.start + np.flatnonzero(keep)[high], rows[:, high]


def cell_r(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Pearson correlation over tracks of every bin, float64 [bins]; NaN if undefined.

    Args:
        truth, prediction: float16 [tracks, bins], brought to mean 0 and variance 1 per track.
    """
    known = ~(np.isnan(truth) | np.isnan(prediction)).any(axis=0)
    r = np.full(truth.shape[1], np.nan)
    sides = [_standardised(side[:, known]) for side in (truth, prediction)]
    for side in sides:
        side -= side.mean(axis=0)
    y, p = sides
    squares = [np.mean(side * side, axis=0) for side in sides]
    differ = (squares[0] > _CONSTANT**2) & (squares[1] > _CONSTANT**2)
    scale = np.sqrt(np.where(differ, squares[0] * squares[1], 1))
    r[known] = np.where(differ, np.mean(y * p, axis=0) / scale, np.nan)
    return r


def _standardised(values: np.ndarray) -> np.ndarray:
    """log2(x + 1) with mean 0 and variance 1 per track; a constant track becomes 0."""
    code = np.stack([codes(row)[0] for row in values])
    varies = (code.max(axis=1, initial=0) > code.min(axis=1, initial=CODES))[:, None]
    logs = LOG[code]
    logs -= logs.mean(axis=1, keepdims=True) if logs.shape[1] else 0
    deviation = logs.std(axis=1, keepdims=True) if logs.shape[1] else np.ones((len(logs), 1))
    return np.where(varies, logs / np.where(varies, deviation, 1), 0)
