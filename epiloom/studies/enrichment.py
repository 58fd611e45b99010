"""Are chosen bins richer in eQTLs than bins drawn at random? Deciles, draws, p, q, fold.

Nothing here knows about genes or files: a universe of tested bins, how many eQTLs each holds, and
which bins are asked about.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from scipy.stats import beta

from epiloom.studies.groups import benjamini_hochberg

DECILES = 10
CONTROL = "shifted"  # the top decile with every eQTL moved by one bin
LEVEL = 0.95  # of the interval of the fold enrichment
COLUMNS = (
    *("cells", "tissues", "predictor", "decile", "bins", "tested_bins", "hits", "all_hits"),
    *("share", "expected", "fold", "fold_low", "fold_high", "p", "q", "draws"),
)


def deciles(effect: np.ndarray, side: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Decile 1-10 of each value within its side, 10 = largest; int64 [n].

    Equal values are put in a random order, so that no decile is filled by the order of the table.
    """
    found = np.zeros(len(effect), np.int64)
    for name in np.unique(side):
        here = np.flatnonzero(side == name)
        order = rng.permutation(here)
        order = order[np.argsort(effect[order], kind="stable")]
        found[order] = np.arange(len(here)) * DECILES // len(here) + 1
    return found


def random_hits(
    hits: np.ndarray, bins: int, draws: int, rng: np.random.Generator, chunk: int = 10_000
) -> np.ndarray:
    """eQTLs in `bins` bins drawn without replacement from all tested bins, int64 [draws].

    The number of drawn bins that hold 0, 1, 2, ... eQTLs follows the multivariate hypergeometric
    distribution, which is drawn from directly: the same distribution as shuffling the bins anew
    for every draw, without holding them.

    Args:
        hits: eQTLs in every tested bin, int [tested bins].
    """
    counts = np.bincount(hits)
    values = np.arange(len(counts))
    parts = []
    for start in range(0, draws, chunk):
        size = min(chunk, draws - start)
        drawn = rng.multivariate_hypergeometric(counts, bins, size=size, method="marginals")
        parts.append(drawn @ values)
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def enrichment(
    hits: np.ndarray, chosen: np.ndarray, draws: int, rng: np.random.Generator
) -> dict[str, float]:
    """The test of one set of bins.

    Args:
        hits: eQTLs in every tested bin, int [tested bins]. chosen: bool, the bins asked about.

    Returns:
        bins, tested_bins, hits, all_hits; share = hits / all_hits; expected hits; fold = hits /
        expected with its exact binomial interval (it takes eQTLs for independent); p = (k + 1) /
        (draws + 1), k = draws with at least as many hits. Undefined values are NaN: without any
        eQTL there is nothing to test.
    """
    bins, tested, total = int(chosen.sum()), len(hits), int(hits.sum())
    observed = int(hits[chosen].sum())
    row = {"bins": bins, "tested_bins": tested, "hits": observed, "all_hits": total}
    row |= {"draws": draws}
    if not total or not bins:
        names = ("share", "expected", "fold", "fold_low", "fold_high", "p")
        return row | dict.fromkeys(names, np.nan)
    part = bins / tested
    low, high = _binomial_interval(observed, total)
    as_many = int((random_hits(hits, bins, draws, rng) >= observed).sum())
    return row | {
        "share": observed / total,
        "expected": total * part,
        "fold": observed / (total * part),
        "fold_low": low / part,
        "fold_high": high / part,
        "p": (as_many + 1) / (draws + 1),
    }


def _binomial_interval(successes: int, trials: int) -> tuple[float, float]:
    """Exact (Clopper and Pearson) interval of a proportion."""
    tail = (1 - LEVEL) / 2
    low = beta.ppf(tail, successes, trials - successes + 1) if successes else 0.0
    high = beta.ppf(1 - tail, successes + 1, trials - successes) if successes < trials else 1.0
    return float(low), float(high)


def adjusted(p: np.ndarray) -> np.ndarray:
    """Benjamini-Hochberg q of the defined p-values; NaN stays NaN."""
    p = np.asarray(p, np.float64)
    q = np.full(len(p), np.nan)
    known = ~np.isnan(p)
    q[known] = benjamini_hochberg(p[known])
    return q


def rows_of_set(
    bins: pd.DataFrame, chosen: Mapping[str, np.ndarray], draws: int, seed: int
) -> list[dict[str, object]]:
    """All tests of one cell set.

    Args:
        bins: its tested bins: effect, side, hits, the control's shifted_hits, and the name of the
            set in `cells`.
        chosen: comparator -> bool [bins], the bins that it picks.
    """
    name = str(bins["cells"].iloc[0])
    hits = bins["hits"].to_numpy(np.int64)
    place = deciles(
        bins["effect"].to_numpy(np.float64), bins["side"].to_numpy(), _rng(seed, name, "ties", 0)
    )
    asked = [("perturbation", decile, place == decile, hits) for decile in range(1, DECILES + 1)]
    asked += [(predictor, 0, here, hits) for predictor, here in chosen.items()]
    asked.append((CONTROL, 0, place == DECILES, bins["shifted_hits"].to_numpy(np.int64)))
    rows = []
    for predictor, decile, here, counted in asked:
        found = enrichment(counted, here, draws, _rng(seed, name, predictor, decile))
        rows.append({"cells": name, "predictor": predictor, "decile": decile or None, **found})
    return rows


def _rng(seed: int, *names: object) -> np.random.Generator:
    """A random stream per test: no result depends on which others are made."""
    return np.random.default_rng([seed, zlib.crc32("/".join(map(str, names)).encode())])


def as_table(rows: Iterable[Mapping[str, object]]) -> pd.DataFrame:
    """Rows of tests as the result table, with q over the cell sets, per predictor and decile."""
    table = pd.DataFrame(list(rows), columns=[name for name in COLUMNS if name != "q"])
    table = table.astype({"decile": "Int64"})
    table["q"] = np.nan
    for _, here in table.groupby(["predictor", "decile"], dropna=False).groups.items():
        table.loc[here, "q"] = adjusted(table.loc[here, "p"].to_numpy(np.float64))
    return table[list(COLUMNS)]
