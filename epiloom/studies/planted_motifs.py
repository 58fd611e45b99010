"""Do the motifs that a model reads come back? Planted factors found, and none that bind nowhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from epiloom.studies.planted import judged

CLEAR = 0.05  # q of a match from which on it counts
COLUMNS = ("what", "n", "figure", "low", "high", "chance", "verdict")
KNOWN = "planted factors that come back"
FALSE = "matched factors that bind nowhere"


def summary(matches: pd.DataFrame, folder: str | Path) -> pd.DataFrame:
    """The share of planted factors found, and of wrong ones among the found (`COLUMNS`).

    By chance: as if the motifs found were any of all factors. The second row is absent if all
    factors bind somewhere.

    Args:
        matches: as `motif_matching.match` gives it (match, q); known motifs are named
            {factor}_HUMAN....
        folder: the simulation's truth.
    """
    folder = Path(folder)
    sites = pd.read_csv(folder / "motif_sites.tsv.gz", sep="\t", usecols=["factor"])
    factors = pd.read_csv(folder / "tf_expression.tsv", sep="\t", usecols=["factor"])["factor"]
    planted = set(sites["factor"])
    clear = matches[matches["q"] <= CLEAR]
    found = set(clear["match"].str.split("_").str[0])
    rows = [_share(KNOWN, len(found & planted), len(planted), len(found) / len(factors))]
    silent = len(factors) - len(planted)
    if silent and found:
        rows.append(_share(FALSE, len(found - planted), len(found), silent / len(factors)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _share(what: str, count: int, n: int, chance: float) -> dict:
    share = count / n
    error = np.sqrt(max(share * (1 - share), 1e-4) / n)
    return {"what": what, "n": n} | judged(share, error, chance)
