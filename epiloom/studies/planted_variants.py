"""Does a model of DNA find what the simulation's variants do? Signs, ranks, and neutral ones apart.

The truth of a variant is the change of its element's activity (0 to 1) per cell, by the rules of
the simulation; a variant in the background changes nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from epiloom.data.files import atomic
from epiloom.studies.planted import CLEAR, judged

SITES, NEUTRAL = 150, 50  # of the strongest, and of those without effect
KEY = ["chrom", "position", "ref", "alt"]
ALL, SIGN = "all", "sign of clear effects is right"
COLUMNS = ("track", "what", "n", "figure", "low", "high", "chance", "verdict")


def read_truth(folder: str | Path) -> pd.DataFrame:
    """The variants of a simulation: `KEY` (position 0-based), where, effect_{cell}."""
    return pd.read_csv(
        Path(folder) / "variants.tsv", sep="\t", dtype={"chrom": str}, keep_default_na=False
    )


def choose(truth: pd.DataFrame, chromosomes: Sequence[str]) -> pd.DataFrame:
    """The variants to score on some chromosomes: the strongest in sites, and neutral ones."""
    own = truth[truth["chrom"].isin(chromosomes)]
    effects = own[[c for c in own if c.startswith("effect_")]].astype(float)
    order = effects.abs().max(axis=1).sort_values(ascending=False, kind="stable").index
    ranked = own.loc[order]
    sites = ranked[ranked["where"] == "site"].head(SITES)
    neutral = own[own["where"] == "background"].head(NEUTRAL)
    return pd.concat([sites, neutral]).sort_index()


def write_vcf(folder: str | Path, out: str | Path, chromosomes: Sequence[str]) -> None:
    """Write the chosen variants as VCF."""
    lines = ["##fileformat=VCFv4.3", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    for row in choose(read_truth(folder), chromosomes).itertuples():
        name = f"{row.where}_{row.factor or 'none'}"
        lines.append(f"{row.chrom}\t{row.position + 1}\t{name}\t{row.ref}\t{row.alt}\t.\t.\t.")
    with atomic(out) as tmp:
        tmp.write_text("\n".join(lines) + "\n")


def summary(scores: pd.DataFrame, folder: str | Path) -> pd.DataFrame:
    """One row per track and question (`COLUMNS`), with a 95 % interval over variants.

    Rows for all tracks together: signs; and whether a change is larger in the right cell, asked of
    every variant whose effects differ clearly between two cells.

    Args:
        scores: a table of scores (`KEY` with 1-based position, track, local_ref, local_alt); tracks
            are named {cell}-{mark}.
    """
    truth = read_truth(folder)
    both = scores.assign(position=scores["position"] - 1).merge(truth, on=KEY)
    both["found"] = both["local_alt"] - both["local_ref"]
    rows, known, signs = [], {}, []
    for track, own in both.groupby("track", sort=False):
        column = f"effect_{str(track).split('-')[0]}"
        if column not in own:
            continue
        effect, found = own[column].to_numpy(float), own["found"].to_numpy(float)
        known[column] = own.set_index(KEY)["found"]
        clear = (own["where"] == "site").to_numpy() & (np.abs(effect) >= CLEAR)
        signs.append(np.sign(found[clear]) == np.sign(effect[clear]))
        rows.append(_share(str(track), SIGN, signs[-1]))
        changed = np.abs(effect) > 0
        told = {"track": track, "what": "Spearman r of score and effect", "n": int(changed.sum())}
        r = spearmanr(found[changed], effect[changed]).statistic if changed.sum() > 2 else np.nan
        rows.append(told | judged(float(r), np.sqrt(1 / max(changed.sum() - 3, 1)), 0.0))
        neutral = (own["where"] == "background").to_numpy()
        kept = clear | neutral
        if clear.any() and neutral.any():
            area = float(roc_auc_score(clear[kept], np.abs(found[kept])))
            least = min(clear.sum(), neutral.sum())
            told = {"track": track, "what": "AUROC of clear against neutral", "n": int(kept.sum())}
            rows.append(told | judged(area, np.sqrt(area * (1 - area) / least), 0.5))
    if len(known) > 1:
        rows.append(_share(ALL, SIGN, np.concatenate(signs)))
        rows.append(_share(ALL, "change is larger in the right cell", _told_apart(both, known)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _told_apart(both: pd.DataFrame, known: dict[str, pd.Series]) -> np.ndarray:
    """Where effects differ clearly between two cells: is the larger one larger in the scores?"""
    truth = both.drop_duplicates(KEY).set_index(KEY)[list(known)].astype(float)
    found = pd.DataFrame(known).reindex(truth.index)
    right = []
    for one, two in itertools.combinations(known, 2):
        true, scored = (abs(table[one]) - abs(table[two]) for table in (truth, found))
        clear = abs(true) >= CLEAR
        right.append(np.sign(true[clear]) == np.sign(scored[clear]))
    return np.concatenate(right)


def _share(track: str, what: str, right: np.ndarray) -> dict:
    """The share of trues, beside chance."""
    n = len(right)
    share = float(right.mean()) if n else np.nan
    told = {"track": track, "what": what, "n": n}
    return told | judged(share, np.sqrt(max(share * (1 - share), 1e-4) / max(n, 1)), 0.5)
