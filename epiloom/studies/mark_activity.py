"""How active a mark is at each gene, and what that tells about the gene's expression.

Activity = mean over a window's bins of the transformed signal, ln(1 + depth) for reads (Murphy et
al. 2025, gkae1212): 6 kb, 3 kb, 1.5 kb and 40 kb around the TSS; beside it the gene score of
`gene_score.py`. All by mark, cell and fold; a gene is in the test part of one fold at most.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from epiloom.data.folds import part_of
from epiloom.data.reads import open_signal
from epiloom.data.store import GenomeStore
from epiloom.learn.baselines import WINDOWS, activity
from epiloom.learn.examples import BIN_BP, FEATURE_BINS, TRANSFORMS, PromoterTable
from epiloom.learn.metrics import pearson, spearman
from epiloom.plan.errors import InputError
from epiloom.studies import gene_score
from epiloom.studies.gene_score import SCORES
from epiloom.studies.groups import mann_whitney

log = logging.getLogger("epiloom")

MEASURES = (*WINDOWS, *SCORES)
ACTIVITY = ("gene_id", "chrom", "fold", "cell", "group", "mark", "expression", "label", *MEASURES)
SUMMARY = ("cell", "group", "mark", "measure", "fold", "n", "r", "spearman", "auc")
PROFILES = ("genes", "window", "cell", "mark", "fold", "label", "n", "bin", "position_bp")
PROFILES += ("mean", "q25", "median", "q75", "scale")
POOLED = "pooled"
_TEXT = dict.fromkeys(("gene_id", "chrom", "fold", "cell", "group", "mark"), str)


@dataclass(frozen=True)
class Mark:
    """One mark of one cell: its genes, and what is known of each."""

    name: str
    table: PromoterTable  # usable genes; the fold in it plays no part here
    label: np.ndarray  # int64 [n], 1 at or above the cell's median
    scores: pd.DataFrame  # columns SCORES, rows as the table's genes


def labels(expression: str | Path, cell: str) -> pd.Series:
    """1 where RPKM is at or above the median of all genes with a value, by gene_id."""
    table = pd.read_csv(expression, sep="\t", dtype={"gene_id": str})
    rpkm = table[cell].to_numpy(np.float64)
    known = np.isfinite(rpkm)
    return pd.Series((rpkm >= np.median(rpkm[known])).astype(int), index=table["gene_id"])[known]


def read_mark(
    settings: Mapping[str, Any],
    files: Mapping[str, Any],
    mark: str,
    features: str | Path,
    scores: pd.DataFrame,
) -> Mark:
    """One mark's genes, those that a model of this mark alone would have.

    Args:
        settings: cell, window_bp, transform, max_missing, seed and a fold.
        files: genes and expression (tables).
        features: the track's feature file.
        scores: gene scores, rows as the gene table.
    """
    one = {**settings, "marks": [mark], "shuffled": False}
    table = PromoterTable.read(one, {**files, "features": [features]})
    names = pd.read_csv(files["genes"], sep="\t", usecols=["gene_id"], dtype=str)["gene_id"]
    place = pd.Index(names).get_indexer(table.gene_ids)
    label = labels(files["expression"], settings["cell"]).loc[table.gene_ids].to_numpy()
    return Mark(mark, table, label, scores.iloc[place].reset_index(drop=True))


def scores_of(
    source: Mapping[str, Any], store: GenomeStore, genes: str | Path, settings: Mapping[str, Any]
) -> pd.DataFrame:
    """Gene scores of one track, rows as the gene table.

    Args:
        source: `track` and `bin_bp` of the store's bins, or `signal`, the track's own files.
        settings: transform, and missing (policy, min_covered).
    """
    policy = (settings["missing"]["policy"], settings["missing"]["min_covered"])
    if "track" in source:
        tiles = gene_score.stored_tiles(store, source["track"], source["bin_bp"], *policy)
    else:
        tiles = gene_score.signal_tiles(open_signal(source["signal"]), store.genome, *policy)
    table = pd.read_csv(genes, sep="\t", dtype={"gene_id": str, "chrom": str})
    return gene_score.gene_scores(tiles, table, store.genome, TRANSFORMS[settings["transform"]])


# --- activity of the test genes ------------------------------------------------------------------


def held_out(mark: Mark, folds: Sequence[Mapping[str, Any]], cell: str, group: str) -> pd.DataFrame:
    """Activity of the test genes of every fold (columns `ACTIVITY`), each row with its own fold.

    Raises:
        InputError: a gene is tested in two folds.
    """
    table = mark.table
    values = {name: activity(table, window)[:, 0] for name, window in WINDOWS.items()}
    values |= {name: mark.scores[name].to_numpy() for name in SCORES}
    known = {"gene_id": table.gene_ids, "chrom": table.chroms, "expression": table.expression}
    every = pd.DataFrame({**known, "label": mark.label, **values})
    every[["cell", "group", "mark"]] = cell, group, mark.name
    parts = []
    for fold in folds:  # a new table per fold: nothing is carried over from the one before
        parts.append(every[part_of(table.chroms, fold) == "test"].assign(fold=fold["name"]))
    found = pd.concat(parts, ignore_index=True)[list(ACTIVITY)]
    check_once(found, f"folds of {cell}, {mark.name}")
    return found


def check_once(table: pd.DataFrame, where: object) -> None:
    """Raise InputError if a gene stands twice in a table of one cell (once per mark is right)."""
    twice = table.duplicated(["gene_id", "mark"])
    if twice.any():
        row = table[twice].iloc[0]
        raise InputError(
            where,
            f"gene {row['gene_id']} ({row['chrom']}) is tested a second time in {row['fold']}; "
            "give every chromosome to the test set of one fold at most",
        )


def read_activity(path: str | Path) -> pd.DataFrame:
    """One cell's table, checked. Raises InputError if a gene stands in it twice."""
    table = pd.read_csv(path, sep="\t", dtype=_TEXT)
    check_once(table, path)
    return table


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """How each measure goes with expression (columns `SUMMARY`), by fold and over all test genes.

    Args:
        table: one cell, as `read_activity` gives it.

    r and Spearman are those of measure and log2(RPKM + 1), auc tells label-1 from label-0 genes;
    empty where undefined (constant values, one label only). Genes without a value are left out.
    """
    rows = []
    for (cell, group, mark), here in table.groupby(["cell", "group", "mark"], sort=False):
        pieces = [*here.groupby("fold", sort=False), (POOLED, here)]
        for measure in MEASURES:
            for fold, genes in pieces:
                known = genes[np.isfinite(genes[measure].to_numpy(float))]
                y, x = known["expression"].to_numpy(), known[measure].to_numpy()
                expressed = known["label"].to_numpy() == 1
                both = expressed.any() and not expressed.all()
                auc = mann_whitney(x[expressed], x[~expressed])["auc"] if both else None
                found = (len(known), pearson(y, x), spearman(y, x), auc)
                keys = (cell, group, mark, measure, fold)
                rows.append(dict(zip(SUMMARY, (*keys, *found), strict=True)))
    return pd.DataFrame(rows, columns=list(SUMMARY))


# --- profiles ------------------------------------------------------------------------------------


def profiles(
    mark: Mark, folds: Sequence[Mapping[str, Any]], cell: str, signal: str
) -> pd.DataFrame:
    """Signal around the TSS by label (columns `PROFILES`).

    `genes` is training (6 kb, the training genes of each fold) or all (40 kb, every gene, fold
    "all"). `position_bp` is the bin's centre, from the TSS in the direction of transcription;
    `scale` says what the values are, such as log1p(reads).
    """
    everything = np.ones(len(mark.table.gene_ids), bool)
    jobs = [("all", "40kb", "all", everything)]
    for fold in folds:
        jobs.append(("training", "6kb", fold["name"], part_of(mark.table.chroms, fold) == "train"))
    made = []
    for genes, window, fold, chosen in jobs:
        for label in (1, 0):
            part = _profile(
                mark.table, chosen & (mark.label == label), WINDOWS[f"activity_{window}"]
            )
            keys = {"genes": genes, "window": window, "cell": cell, "mark": mark.name}
            keys["scale"] = f"{mark.table.transform}({signal})"
            made.append(part.assign(**keys, fold=fold, label=label))
    return pd.concat(made, ignore_index=True)[list(PROFILES)]


def _profile(table: PromoterTable, chosen: np.ndarray, window: slice) -> pd.DataFrame:
    """Number of genes; mean and quartiles of the transformed signal per bin, missing left out."""
    bins = np.arange(window.start, window.stop)
    raw = table.features[0][chosen, window]
    values = TRANSFORMS[table.transform](raw).astype(np.float64)
    there = pd.DataFrame(values)
    quartiles = there.quantile([0.25, 0.5, 0.75]).to_numpy()
    return pd.DataFrame(
        {
            "n": len(there),
            "bin": bins - window.start,
            "position_bp": (bins - FEATURE_BINS // 2) * BIN_BP + BIN_BP // 2,
            "mean": there.mean().to_numpy(),
            **dict(zip(("q25", "median", "q75"), quartiles, strict=True)),
        }
    )
