"""Does perturbation find what the simulation planted? Ranks of the bins that hold enhancers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

CLEAR = 0.05  # change of activity (0 to 1) from which the sign of a variant's effect is asked for
DISTAL_BINS, TOP = 17, 3
ACTIVE = 0.3  # activity (0 to 1) from which an enhancer counts as at work in a cell
COLUMNS = ("cell", "mark", "what", "n", "figure", "low", "high", "chance", "verdict")


def planted_bins(effects: pd.DataFrame, truth: str | Path) -> pd.DataFrame:
    """Distal rows of a perturbation table, with what the simulation put there.

    Args:
        effects: rows of one cell (see `perturbation.COLUMNS`).
        truth: folder of the simulated truth.

    Returns:
        The distal rows with `planted` (True: the bin holds the centre of an active enhancer that
        drives this gene) and `rank` (1 = largest loss among the gene's distal bins).
    """
    cell = effects["cell"].iloc[0]
    distal = effects[effects["location"] == "distal"].copy()
    distal["rank"] = distal.groupby("gene_id")["delta_log2"].rank(ascending=False, method="average")
    links = pd.read_csv(Path(truth) / "links.tsv", sep="\t", dtype={"gene_id": str})
    elements = pd.read_csv(Path(truth) / "elements.tsv", sep="\t", dtype={"chrom": str})
    active = elements[elements[f"activity_{cell}"] >= ACTIVE]
    places = links.merge(active, left_on="enhancer", right_on="element")
    places["centre"] = (places["start"] + places["end"]) // 2
    both = distal.reset_index().merge(
        places[["gene_id", "chrom", "centre"]], on=["gene_id", "chrom"]
    )
    inside = (both["centre"] >= both["start"]) & (both["centre"] < both["end"])
    distal["planted"] = distal.index.isin(both.loc[inside, "index"])
    return distal


def summary(tables: Sequence[pd.DataFrame], truth: str | Path) -> pd.DataFrame:
    """One row per cell, mark and question (`COLUMNS`); n counts planted bins.

    The mean is over all planted bins. Those of one gene are not independent, so the 95 % interval
    takes the sums of deviations of whole genes.
    """
    rows = []
    for effects in tables:
        distal = planted_bins(effects, truth)
        planted = distal[distal["planted"]]
        told = {"cell": effects["cell"].iloc[0], "mark": effects["mark"].iloc[0]}
        if planted.empty:
            continue
        genes = planted["gene_id"]
        share = (DISTAL_BINS - planted["rank"]) / (DISTAL_BINS - 1)  # 1 = top, 0 = bottom
        rows.append(told | _row("mean rank of planted bins (1 top, 0 bottom)", share, genes, 0.5))
        in_top = (planted["rank"] <= TOP).astype(float)
        chance = TOP / DISTAL_BINS
        rows.append(told | _row(f"planted bins among the top {TOP}", in_top, genes, chance))
        loss = planted["delta_log2"] - distal[~distal["planted"]]["delta_log2"].mean()
        rows.append(told | _row("loss above that of other bins (log2)", loss, genes, 0.0))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(what: str, values: pd.Series, genes: pd.Series, chance: float) -> dict:
    mean = float(values.mean())
    by_gene = (values - mean).groupby(genes).sum()
    error = float(np.sqrt((by_gene**2).sum()) / len(values))
    return {"what": what, "n": len(values)} | judged(mean, error, chance)


def judged(figure: float, error: float, chance: float) -> dict:
    """A figure with its 95 % interval (figure +- 1.96 error), and the verdict against chance."""
    low, high = figure - 1.96 * error, figure + 1.96 * error
    verdict = "above chance" if low > chance else "below chance" if high < chance else "as chance"
    return {"figure": figure, "low": low, "high": high, "chance": chance, "verdict": verdict}
