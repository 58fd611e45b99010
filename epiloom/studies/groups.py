"""Groups of cells, and how values of two groups are compared.

The four groups are those of Murphy et al. 2025 (gkae1212), derived here from `config/cells.tsv`, in
this order:

    name says carcinoma or leukemia   cancer line       (K562 is a "PrimaryCulture" in the table)
    type is ESCDerived                ESC derived
    group is ESC                      ESC
    group is iPSC                     iPSC              (not in the paper)
    any other row                     primary tissue    (primary cells and cultures too)
    no row                            own

The two-group version sets ESC and ESC derived against primary tissue and cancer line; iPSC and own
cells are in neither, because the table does not tell on which side they belong.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu

log = logging.getLogger("epiloom")

ESC, DERIVED, PRIMARY, CANCER = "ESC", "ESC derived", "primary tissue", "cancer line"
GROUPS = (ESC, DERIVED, PRIMARY, CANCER, "iPSC", "own")
TWO = {ESC: "ESC or derived", DERIVED: "ESC or derived", PRIMARY: "other", CANCER: "other"}
# which genes are compared, and the label they must have (1: at or above the cell's median)
SETS: dict[str, int | None] = {"all": None, "expressed": 1, "not_expressed": 0}
COLUMNS = ("grouping", "mark", "measure", "genes", "group_a", "group_b", "n_a", "n_b")
COLUMNS += ("median_a", "median_b", "u", "auc", "rank_biserial", "p", "q")
SMALLEST_P = 1e-300  # below, a p-value would be rounded to 0
_CANCER = re.compile(r"carcinoma|leukemia", re.I)


def group_of(row: Mapping[str, Any] | None) -> str:
    """One of `GROUPS` for a row of `config/cells.tsv` (columns name, group, type), None: no row."""
    if not row:
        return "own"
    if _CANCER.search(row["name"]):
        return CANCER
    if row["type"] == "ESCDerived":
        return DERIVED
    return row["group"] if row["group"] in (ESC, "iPSC") else PRIMARY


def mann_whitney(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Two-sided Mann-Whitney U test of two samples of finite values, neither empty.

    Returns:
        u (of `a`), auc = u / (n_a n_b), the chance that a value of `a` is above one of `b` (ties
        count half), rank_biserial = 2 auc - 1 (-1..1), and p (normal approximation with correction
        for ties and continuity; 1 when all values are equal).
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if min(a.min(), b.min()) == max(a.max(), b.max()):
        u, p = len(a) * len(b) / 2, 1.0
    else:
        u, p = mannwhitneyu(a, b, alternative="two-sided", method="asymptotic")
    auc = float(u) / (len(a) * len(b))
    p = max(float(p), SMALLEST_P)
    return {"u": float(u), "auc": auc, "rank_biserial": 2 * auc - 1, "p": p}


def benjamini_hochberg(p: Sequence[float]) -> np.ndarray:
    """Adjusted p-values (false discovery rate; Benjamini and Hochberg 1995), float64 as `p`."""
    p = np.asarray(p, np.float64)
    n = len(p)
    if n == 0:
        return p
    order = np.argsort(p)
    steps = p[order] * n / np.arange(1, n + 1)
    adjusted = np.empty(n)
    adjusted[order] = np.minimum(1, np.minimum.accumulate(steps[::-1])[::-1])
    return adjusted


def compare(table: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    """Every measure of every mark between all groups that are there (columns `COLUMNS`).

    Args:
        table: a row per gene, mark and cell: group, mark, label and the measures; genes without a
            value (NaN) are left out.

    `grouping` is four (each pair of groups) or two (see the top of this file). `q` is corrected
    over all tests of one grouping. Empty when fewer than two groups are there.
    """
    rows = []
    for grouping in ("four", "two"):
        names = table["group"].astype(str)
        names = names.map(TWO) if grouping == "two" else names
        order = [*GROUPS, *dict.fromkeys(TWO.values())]
        there = [name for name in dict.fromkeys(order) if (names == name).any()]
        pairs = list(itertools.combinations(there, 2))
        found = list(_tests(table, names, pairs, measures))
        q = benjamini_hochberg([row["p"] for row in found])
        rows += [{"grouping": grouping, **r, "q": x} for r, x in zip(found, q, strict=True)]
        log.info("%s: %d tests between %s", grouping, len(found), ", ".join(there) or "no group")
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _tests(
    table: pd.DataFrame,
    names: pd.Series,
    pairs: Sequence[tuple[str, str]],
    measures: Sequence[str],
) -> Iterator[dict[str, Any]]:
    """One row, without q, per mark, measure, set of genes and pair with values on both sides."""
    if not pairs:
        return
    for mark in dict.fromkeys(table["mark"]):
        here = (table["mark"] == mark).to_numpy()
        group, label = names.to_numpy(object)[here], table["label"].to_numpy()[here]
        for measure in measures:
            values = table[measure].to_numpy(np.float64)[here]
            for genes, wanted in SETS.items():
                keep = np.isfinite(values) & ((label == wanted) if wanted is not None else True)
                for a, b in pairs:
                    left, right = values[keep & (group == a)], values[keep & (group == b)]
                    if len(left) and len(right):
                        yield {
                            **{"mark": mark, "measure": measure, "genes": genes},
                            **{"group_a": a, "group_b": b, "n_a": len(left), "n_b": len(right)},
                            **{"median_a": np.median(left), "median_b": np.median(right)},
                            **mann_whitney(left, right),
                        }
