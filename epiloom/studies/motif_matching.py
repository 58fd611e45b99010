"""Which known motif is a found one? Similarity of two motifs, and how often chance is as similar.

A motif is compared as its probabilities times the information of each position (bits against equal
bases). The similarity of two is the Pearson r of these numbers over all positions that either has,
missing ones as 0, at the best offset and on the better strand. So positions that matter count more,
and a short overlap is no advantage.

The p-value of a best match is the share of shuffled versions of the found motif (positions in
random order) whose own best match among all known motifs is at least as similar, with one added to
both counts; q-values over the found motifs are those of Benjamini and Hochberg.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from epiloom.data.files import atomic
from epiloom.data.motif_files import Motif
from epiloom.plan.errors import InputError
from epiloom.studies.motif_discovery import Found

COLUMNS = ("motif", "seqlets", "consensus", "match", "score", "p", "q", "strand", "offset")
_IUPAC = {"AC": "M", "AG": "R", "AT": "W", "CG": "S", "CT": "Y", "GT": "K"}
OVERLAP = 4  # positions that two motifs must share, or all of the shorter one


def information(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities [W, 4] times the information of the position in bits."""
    p = np.asarray(probabilities, float)
    bits = 2 + (p * np.log2(np.maximum(p, 1e-12))).sum(axis=1)
    return p * np.maximum(bits, 0)[:, None]


def consensus(probabilities: np.ndarray) -> str:
    """A letter per position: one base of half or more, two of three quarters or more, or N."""
    letters = []
    for row in np.asarray(probabilities):
        order = np.argsort(-row, kind="stable")
        if row[order[0]] >= 0.5:
            letters.append("ACGT"[order[0]])
        elif row[order[:2]].sum() >= 0.75:
            letters.append(_IUPAC["".join(sorted("ACGT"[k] for k in order[:2]))])
        else:
            letters.append("N")
    return "".join(letters)


def similarity(
    one: Sequence[np.ndarray], two: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Best r of every pair of motifs, its offset and strand, [len(one), len(two)] each.

    Args:
        one, two: weighted matrices [width, 4], see `information`.

    Returns:
        r; offset (position 0 of two lies at this position of one, after turning two if need be);
        strand of two (1 or -1).
    """
    shape = (len(one), len(two))
    best, offset = np.full(shape, -np.inf), np.zeros(shape, int)
    strand = np.ones(shape, int)
    widths = [np.array([len(m) for m in motifs]) for motifs in (one, two)]
    room, other = int(widths[0].max()), int(widths[1].max())
    sums = [np.array([m.sum() for m in motifs]) for motifs in (one, two)]
    squares = [np.array([(m**2).sum() for m in motifs]) for motifs in (one, two)]
    needed = np.minimum(OVERLAP, np.minimum(widths[0][:, None], widths[1][None]))
    left = _padded(one, room)
    for sign in (1, -1):
        right = _padded([m if sign > 0 else m[::-1, ::-1] for m in two], other)
        for k in range(-other + 1, room):
            a = slice(max(k, 0), min(room, k + other))
            b = slice(max(-k, 0), min(other, room - k))
            dots = left[:, a].reshape(len(one), -1) @ right[:, b].reshape(len(two), -1).T
            first, last = min(k, 0), np.maximum(widths[0][:, None], widths[1][None] + k)
            count = 4 * (last - first)
            shared = np.minimum(widths[0][:, None], widths[1][None] + k) - max(k, 0)
            r = _pearson(dots, sums, squares, count)
            r = np.where(shared >= needed, r, -np.inf)
            better = r > best
            best, offset = np.where(better, r, best), np.where(better, k, offset)
            strand = np.where(better, sign, strand)
    return best, offset, strand


def _padded(motifs: Sequence[np.ndarray], width: int) -> np.ndarray:
    return np.stack([np.pad(m, ((0, width - len(m)), (0, 0))) for m in motifs])


def _pearson(dots: np.ndarray, sums: list, squares: list, count: np.ndarray) -> np.ndarray:
    """r of two vectors of `count` numbers from their sums, squares and product."""
    above = dots - sums[0][:, None] * sums[1][None] / count
    spread = [
        squares[0][:, None] - sums[0][:, None] ** 2 / count,
        squares[1][None] - sums[1][None] ** 2 / count,
    ]
    return above / np.sqrt(np.maximum(spread[0] * spread[1], 1e-24))


def match(
    found: Sequence[Found], known: Sequence[Motif], shuffles: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """The best known motif for every found one.

    Returns:
        COLUMNS, a row per found motif: `score` = r, `p` and `q` as in the module.
    """
    if not known:
        raise InputError("known motifs", "there are none; give the file of a motif collection")
    rows = []
    weighted = [information(m.probabilities) for m in known]
    for i, motif in enumerate(found):
        own = information(motif.probabilities)
        r, offset, strand = (values[0] for values in similarity([own], weighted))
        best = int(r.argmax())
        rng = np.random.default_rng([seed, i])
        null = [own[rng.permutation(len(own))] for _ in range(shuffles)]
        chance = similarity(null, weighted)[0].max(axis=1) if null else np.zeros(0)
        p = (1 + (chance >= r[best] - 1e-9).sum()) / (1 + shuffles)
        word = consensus(motif.probabilities)
        rows.append((motif.name, len(motif.sites), word, known[best].name, r[best], p, np.nan))
        rows[-1] += ("+" if strand[best] > 0 else "-", offset[best])
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.assign(q=_q_values(table["p"].to_numpy(float)))


def _q_values(p: np.ndarray) -> np.ndarray:
    """Benjamini and Hochberg."""
    order = np.argsort(p, kind="stable")
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty(len(p))
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1)
    return q


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    """The table of matches, tab-separated."""
    with atomic(path) as tmp:
        table.to_csv(tmp, sep="\t", index=False, float_format="%.4g", lineterminator="\n")
