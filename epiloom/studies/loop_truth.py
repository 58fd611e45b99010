"""Do a model's contacts (attention between bins) find the loops of a cell? Judged at each distance.

Near pairs touch more often and attend more to each other, so loops are compared with pairs of the
same distance: for every loop, pairs of stretches of the same lengths, as far apart, in the same
region, of which no side pair touches a loop's. The score of a pair is the mean over bins x bins of
its stretches, in both directions.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score

from epiloom.data.loops import REGION_BINS, Loops
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

CLASSES_BP = (0, 20_000, 40_000, 64_000, 128_000)  # of the published figures, and up to a region
PAIRS = ["chrom", "start", "first1", "last1", "first2", "last2", "distance_bp", "label"]
SPANS = ("first1", "last1", "first2", "last2")
COLUMNS = ("low_bp", "high_bp", "pairs", "loops", "prevalence", "auprc", "auroc")


def pairs_of(
    loops: Loops,
    regions: pd.DataFrame,
    per_loop: int = 1,
    seed: int | Sequence[int] = 0,
    bins: int = REGION_BINS,
    least_bp: int = 0,
) -> pd.DataFrame:
    """Loops inside regions and distance-matched pairs without one: columns `PAIRS`.

    Args:
        regions: chrom, start (bases), each `bins` long. per_loop: negatives for each loop (fewer
            where a region has no more room). least_bp: smallest distance between the middles.

    Bins are counted from the region's start. A loop without any negative in its region is left out,
    so that every class stays matched.
    """
    rng, rows, alone = np.random.default_rng(seed), [], 0
    for chrom, start in regions[["chrom", "start"]].itertuples(index=False, name=None):
        here = loops.inside(chrom, int(start) // loops.bin_bp, bins)
        whole = (here[["first1"]].to_numpy() >= 0).ravel() & (here["last2"] <= bins).to_numpy()
        taken = _touched(here, bins)
        for row in here[whole].itertuples(index=False):
            apart = row.first2 - row.first1
            distance = (row.first2 + row.last2 - row.first1 - row.last1) / 2 * loops.bin_bp
            if apart < row.last1 - row.first1 or distance < least_bp:
                continue  # the anchors touch each other
            sides = (row.last1 - row.first1, row.last2 - row.first2)
            free = _free(taken, sides, apart, bins)
            chosen = rng.permutation(free)[:per_loop]
            alone += not len(chosen)
            places = [(row.first1, 1)] * bool(len(chosen)) + [(int(p), 0) for p in chosen]
            for first, label in places:
                second = first + apart
                spans = (first, first + sides[0], second, second + sides[1])
                rows.append((chrom, int(start), *spans, distance, label))
    if alone:
        log.warning("%d loops left out: their region has no pair as far apart without one", alone)
    return pd.DataFrame(rows, columns=PAIRS)


def _touched(rows: pd.DataFrame, bins: int) -> np.ndarray:
    """Pairs of bins in a loop, summed up to each corner: int64 [bins + 1, bins + 1]."""
    found = np.zeros((bins + 1, bins + 1), np.int64)
    for row in rows.itertuples(index=False):
        found[max(row.first1, 0) + 1 : row.last1 + 1, max(row.first2, 0) + 1 : row.last2 + 1] = 1
    return found.cumsum(axis=0).cumsum(axis=1)


def touches(loops: Loops, chrom: str, start: int, pairs: pd.DataFrame, bins: int) -> np.ndarray:
    """Whether a loop lies in the pairs of stretches of one region, bool [pairs]."""
    corners = _touched(loops.inside(chrom, start // loops.bin_bp, bins), bins)
    return _sums(corners, *(pairs[n].to_numpy() for n in SPANS)) > 0


def _free(taken: np.ndarray, sides: tuple[int, int], apart: int, bins: int) -> np.ndarray:
    """First bins of all pairs with these sides and distance that share no pair of bins."""
    first = np.arange(max(0, bins - apart - sides[1] + 1))
    return first[
        _sums(taken, first, first + sides[0], first + apart, first + apart + sides[1]) == 0
    ]


def _sums(corners: np.ndarray, a, b, c, d) -> np.ndarray:
    """Sums over rows a .. b and columns c .. d of what was summed up to each corner."""
    return corners[b, d] - corners[a, d] - corners[b, c] + corners[a, c]


def pair_scores(contacts: np.ndarray, pairs: pd.DataFrame) -> np.ndarray:
    """Score of the pairs of one region, float64 [pairs].

    Args:
        contacts: [bins, bins], such as attention averaged over heads; rows look at columns.
    """
    corners = np.zeros((len(contacts) + 1, len(contacts) + 1))
    both = np.asarray(contacts, np.float64)
    corners[1:, 1:] = ((both + both.T) / 2).cumsum(axis=0).cumsum(axis=1)
    a, b, c, d = (pairs[n].to_numpy() for n in SPANS)
    return _sums(corners, a, b, c, d) / np.maximum((b - a) * (d - c), 1)


def scored(pairs: pd.DataFrame, contacts: Mapping[tuple[str, int], np.ndarray]) -> np.ndarray:
    """Scores of pairs of many regions, NaN where a region has no contacts.

    Args:
        contacts: (chrom, start) -> [bins, bins].
    """
    found = np.full(len(pairs), np.nan)
    for (chrom, start), rows in pairs.groupby(["chrom", "start"], sort=False).indices.items():
        matrix = contacts.get((chrom, int(start)))
        if matrix is not None:
            found[rows] = pair_scores(matrix, pairs.iloc[rows])
    return found


def by_distance(
    pairs: pd.DataFrame, scores: np.ndarray, classes_bp: Sequence[int] = CLASSES_BP
) -> pd.DataFrame:
    """auPRC (average precision) and auROC per class of distance, and of all: columns `COLUMNS`.

    None where a class has not both kinds. The prevalence is the auPRC of chance.
    """
    if len(scores) != len(pairs):
        raise InputError("loops", f"{len(scores)} scores for {len(pairs)} pairs; give one each")
    distance, label = pairs["distance_bp"].to_numpy(), pairs["label"].to_numpy()
    known, rows = np.isfinite(scores), []
    spans = [*zip(classes_bp, classes_bp[1:], strict=False), (classes_bp[0], np.inf)]
    for low, high in spans:
        here = known & (distance >= low) & (distance < high)
        rows.append({"low_bp": low, "high_bp": high} | _judged(label[here], scores[here]))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _judged(label: np.ndarray, score: np.ndarray) -> dict[str, Any]:
    found: dict[str, Any] = {"pairs": len(label), "loops": int(label.sum())}
    found["prevalence"] = float(label.mean()) if len(label) else None
    both = 0 < found["loops"] < len(label)
    found["auprc"] = float(average_precision_score(label, score)) if both else None
    found["auroc"] = float(roc_auc_score(label, score)) if both else None
    return found


def row_cosine(contacts: np.ndarray, target: np.ndarray) -> float | None:
    """Mean cosine of the rows of both, over rows that have a contact; None without any.

    Args:
        contacts, target: [bins, bins]; target as `loops.contact_rows` gives it.
    """
    found = row_cosines(contacts, target)
    return float(found.mean()) if len(found) else None


def row_cosines(contacts: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The same row by row, float64 [rows of the target that have a contact]."""
    rows = np.asarray(target, np.float64)
    there = rows.sum(axis=1) > 0
    a, b = np.asarray(contacts, np.float64)[there], rows[there]
    scale = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    dot = np.einsum("ij,ij->i", a, b)
    return np.divide(dot, scale, out=np.zeros(len(dot)), where=scale > 0)
