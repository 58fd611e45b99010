"""Do the distal bins whose loss matters most to a model hold the gene's causal eQTLs?

Tested are the 2-kb bins of the perturbation study outside the promoter, of expressed genes, up-
and downstream. A bin is hit by an eQTL of the same gene, on the same chromosome, in a tissue that
stands for the cell, whose position lies inside the bin. Cells that share a tissue are tested
together. The comparators pick bins from the same universe without any model: the nearest ones, the
most active ones, those in contact with the promoter. The control asks about the top decile again,
with every eQTL moved one bin away from its gene's start site: it must not be enriched.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from epiloom.plan.errors import InputError
from epiloom.studies import enrichment

log = logging.getLogger("epiloom")

BIN_BP, BINS, FIRST_BP = 2_000, 20, -20_000
CONTACT_BP = 6_000  # contacts are looked at from this far on
EFFECTS = {"delta": "delta_log2", "ratio": "ratio"}
KEYS = ["cell", "gene_id", "bin"]
TEXT = ("gene_id", "chrom", "strand", "cell", "mark", "location")
NUMBERS = ("tss", "label", "bin", "start", "end")
AUTOSOMES = tuple(f"chr{i}" for i in range(1, 23))


# --- tested bins ----------------------------------------------------------------------------------


def read_perturbations(
    paths: Iterable[str | Path],
    mark: str = "H3K27ac",
    effect: str = "delta",
    label: int = 1,
    chromosomes: Sequence[str] = AUTOSOMES,
) -> pd.DataFrame:
    """The bins to test, from the tables of the perturbation study.

    Args:
        effect: `delta` (log2 units) or `ratio` (divided by the prediction without the bin).
        label: 1: expressed genes. None of these is looked at: other marks, promoters.

    Returns:
        One row per cell, gene and distal bin: gene_id, chrom, tss, strand, cell, bin, start, end,
        side (`up`, `down`), effect (mean over the models that predicted the gene).

    Raises:
        InputError: columns missing, unknown labels, intervals that are not where the bin must be.
    """
    if effect not in EFFECTS:
        raise InputError("effect", f"{effect!r} is unknown; use {' or '.join(EFFECTS)}")
    parts = [_read_one(path, mark, EFFECTS[effect], label, set(chromosomes)) for path in paths]
    columns = [*KEYS, "chrom", "tss", "strand", "start", "end", "effect"]
    table = pd.concat(parts) if parts else pd.DataFrame(columns=columns)
    fixed = dict.fromkeys(("chrom", "tss", "strand", "start", "end"), "first")
    table = table.groupby(KEYS, as_index=False, sort=True).agg({**fixed, "effect": "mean"})
    table["side"] = np.where(table["bin"].astype(int) < BINS // 2, "up", "down")
    return table


def _read_one(
    path: str | Path, mark: str, effect: str, label: int, chromosomes: set[str]
) -> pd.DataFrame:
    wanted = [*TEXT, *NUMBERS, effect]
    try:
        table = pd.read_csv(path, sep="\t", dtype=dict.fromkeys(TEXT, str))
    except (OSError, EOFError, ValueError) as err:
        raise InputError(path, f"cannot be read ({err}); make the table again") from err
    absent = [name for name in wanted if name not in table.columns]
    if absent:
        raise InputError(path, f"no column {', '.join(absent)}; make the table again")
    numbers = table[list(NUMBERS)].apply(pd.to_numeric, errors="coerce")
    distal = (table["location"] == "distal") & (table["mark"] == mark)
    problems = []
    if not numbers["label"].isin([0, 1]).all():
        # text beside numbers would silently leave nothing to test
        odd = table.loc[~numbers["label"].isin([0, 1]), "label"].iloc[0]
        problems.append(f"label {odd!r} is neither 0 nor 1; make the table again")
    if numbers[distal].isna().any(axis=None):
        problems.append("bin, start, end or tss is empty in a distal row; make the table again")
    if problems:
        raise InputError(path, problems)
    keep = distal & (numbers["label"] == label) & table["chrom"].isin(chromosomes)
    places = numbers.loc[keep, ["tss", "bin", "start", "end"]].astype(np.int64)
    table = table.loc[keep, ["cell", "gene_id", "chrom", "strand", effect]].join(places)
    table = table.rename(columns={effect: "effect"})
    table["gene_id"] = table["gene_id"].str.split(".").str[0]
    _check_places(table, path)
    finite = np.isfinite(table["effect"].to_numpy(np.float64))
    if not finite.all():
        log.warning("%s: %d bins without a finite effect left out", path, int((~finite).sum()))
    return table[finite]


def _check_places(table: pd.DataFrame, path: str | Path) -> None:
    """Every interval must be the bin's own; one base is left to the strand convention."""
    start, end = bin_interval(table["tss"], table["strand"], table["bin"])
    off = (np.abs(start - table["start"]) > 1) | (np.abs(end - table["end"]) > 1)
    off |= ~table["bin"].between(0, BINS - 1)
    if off.any():
        row = table[off].iloc[0]
        raise InputError(
            path,
            f"{int(off.sum())} intervals are not those of their bins, such as gene {row['gene_id']}"
            f" ({row['strand']}) bin {row['bin']}: {row['start']}-{row['end']}, start site "
            f"{row['tss']}; make the table again",
        )


def bin_interval(
    tss: np.ndarray, strand: np.ndarray, index: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Genomic interval (0-based half-open) of bins 0-19, counted in transcription direction.

    Bin j spans TSS - 20000 + 2000 j to + 2000. The 40-kb window is the same on both strands (as
    that of the features); on the minus strand the bins are counted from its other end.
    """
    tss, index = np.asarray(tss, np.int64), np.asarray(index, np.int64)
    place = np.where(np.asarray(strand) == "-", BINS - 1 - index, index)
    start = tss + FIRST_BP + BIN_BP * place
    return start, start + BIN_BP


# --- hits -----------------------------------------------------------------------------------------


def cell_sets(tissues: Mapping[str, Sequence[str]]) -> list[tuple[list[str], list[str]]]:
    """Cells that share a tissue, directly or through others: [(cells, tissues), ...]."""
    sets: list[tuple[list[str], list[str]]] = []
    for cell, names in tissues.items():
        joined = [part for part in sets if set(part[1]) & set(names)]
        cells = [*(c for part in joined for c in part[0]), cell]
        every = [*(t for part in joined for t in part[1]), *names]
        at = sets.index(joined[0]) if joined else len(sets)
        rest = [part for part in sets[at:] if part not in joined]
        sets = [*sets[:at], (cells, list(dict.fromkeys(every))), *rest]
    return sets


def count_hits(
    bins: pd.DataFrame, eqtls: pd.DataFrame, tissues: Mapping[str, Sequence[str]]
) -> np.ndarray:
    """eQTLs in every bin, int64 [bins].

    Args:
        bins: cell, gene_id, chrom, start, end. eqtls: tissue, gene_id, chrom, position, ref, alt.
        tissues: cell -> its tissues; an eQTL of two of them counts once.
    """
    hits = np.zeros(len(bins), np.int64)
    keys = ["gene_id", "chrom"]
    for cell, names in tissues.items():
        mine = np.flatnonzero(bins["cell"].to_numpy() == cell)
        here = eqtls[eqtls["tissue"].isin(names)].drop(columns="tissue").drop_duplicates()
        part = bins.iloc[mine][[*keys, "start", "end"]].assign(row=mine)
        both = part.merge(here, on=keys)
        inside = (both["position"] >= both["start"]) & (both["position"] < both["end"])
        np.add.at(hits, both.loc[inside, "row"].to_numpy(np.int64), 1)
    return hits


def shifted(eqtls: pd.DataFrame, bins: pd.DataFrame) -> pd.DataFrame:
    """The eQTLs of tested genes, each moved by one bin away from its gene's start site."""
    tss = eqtls["gene_id"].map(bins.drop_duplicates("gene_id").set_index("gene_id")["tss"])
    known = tss.notna()
    away = np.where(eqtls["position"][known] < tss[known], -BIN_BP, BIN_BP)
    return eqtls[known].assign(position=eqtls["position"][known] + away)


def told_apart(
    bins: pd.DataFrame, eqtls: pd.DataFrame, genes: pd.DataFrame, tissues: Mapping
) -> dict[str, int]:
    """Where the eQTLs of the cells' tissues go, for the log: counts by reason, in this order."""
    names = {name for cell in tissues for name in tissues[cell]}
    mine = eqtls[eqtls["tissue"].isin(names)].drop(columns="tissue").drop_duplicates()
    home = mine["gene_id"].map(genes.set_index("gene_id")["chrom"])
    elsewhere = home.notna() & (home != mine["chrom"])
    expressed = mine["gene_id"].isin(set(bins["gene_id"]))
    return {
        "of these tissues": len(mine),
        "of genes not in the gene table": int(home.isna().sum()),
        "on another chromosome than their gene": int(elsewhere.sum()),
        "of genes with tested bins": int(expressed.sum()),
    }


# --- comparators ----------------------------------------------------------------------------------


def nearest(bins: pd.DataFrame) -> np.ndarray:
    """The tested bin nearest to the start site on each side of each gene, bool [bins].

    With the usual 17 distal bins these are bin 7 (6-4 kb upstream) and bin 11 (2-4 kb downstream).
    """
    away = np.abs(bins["bin"].to_numpy(np.int64) - (BINS - 1) / 2)
    return _first_of_each(bins, -away)


def most_active(bins: pd.DataFrame, activity: np.ndarray) -> np.ndarray:
    """The most active tested bin on each side of each gene, bool [bins]; none where all are NaN.

    Args:
        activity: of every tested bin, float [bins].
    """
    return _first_of_each(bins, activity) & ~np.isnan(activity)


def _first_of_each(bins: pd.DataFrame, score: np.ndarray) -> np.ndarray:
    """The bin of the highest score per cell, gene and side; of equal ones that nearest the TSS."""
    away = np.abs(bins["bin"].to_numpy(np.int64) - (BINS - 1) / 2)
    ranked = bins[["cell", "gene_id", "side"]].assign(
        score=-np.nan_to_num(score, nan=-np.inf), away=away, row=np.arange(len(bins))
    )
    ranked = ranked.sort_values(["score", "away", "row"], kind="stable")
    first = ranked.drop_duplicates(["cell", "gene_id", "side"])["row"].to_numpy()
    found = np.zeros(len(bins), bool)
    found[first] = True
    return found


def bin_activity(features: np.ndarray) -> np.ndarray:
    """Mean of ln(1 + depth) over each 2-kb bin, float32 [genes, 20]; NaN where nothing is known.

    Args:
        features: raw 100-bp means of TSS -/+ 20 kb in transcription direction, [genes, 400].
    """
    parts = np.log1p(np.asarray(features, np.float32)).reshape(len(features), BINS, -1)
    known = ~np.isnan(parts)
    count = known.sum(axis=2)
    total = np.where(known, parts, 0).sum(axis=2)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def activity_of(
    bins: pd.DataFrame, genes: pd.DataFrame, features: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Activity of every tested bin, float [bins]; NaN for cells or genes without features.

    Args:
        genes: the gene table whose rows the features are in. features: cell -> [genes, 400].

    Raises:
        InputError: features of another number of genes.
    """
    found = np.full(len(bins), np.nan)
    row = pd.Index(genes["gene_id"]).get_indexer(bins["gene_id"])
    index = bins["bin"].to_numpy(np.int64)
    for cell, values in features.items():
        if values.shape != (len(genes), 400):
            raise InputError(
                f"features of {cell}",
                f"shape {values.shape}, ({len(genes)}, 400) is expected; make them again",
            )
        here = np.flatnonzero((bins["cell"].to_numpy() == cell) & (row >= 0))
        rows, place = np.unique(row[here], return_inverse=True)
        found[here] = bin_activity(np.asarray(values[rows]))[place, index[here]]
    return found


def in_contact(bins: pd.DataFrame, partners: Mapping[str, pd.DataFrame]) -> np.ndarray:
    """Tested bins 6-20 kb from the start site that a partner fragment of the gene overlaps, bool.

    Args:
        partners: cell -> table with gene_id, chrom, start, end.
    """
    found = np.zeros(len(bins), bool)
    index = bins["bin"].to_numpy(np.int64)
    ahead = FIRST_BP + BIN_BP * index
    far = (ahead >= CONTACT_BP) | (ahead + BIN_BP <= -CONTACT_BP)
    for cell, table in partners.items():
        mine = np.flatnonzero((bins["cell"].to_numpy() == cell) & far)
        part = bins.iloc[mine][["gene_id", "chrom", "start", "end"]].assign(row=mine)
        other = table[["gene_id", "chrom", "start", "end"]].assign(
            gene_id=table["gene_id"].astype(str).str.split(".").str[0]
        )
        both = part.merge(other, on=["gene_id", "chrom"], suffixes=("", "_other"))
        meet = (both["start"] < both["end_other"]) & (both["end"] > both["start_other"])
        found[both.loc[meet, "row"].to_numpy(np.int64)] = True
    return found


# --- the study ------------------------------------------------------------------------------------


def study(
    bins: pd.DataFrame,
    eqtls: pd.DataFrame,
    tissues: Mapping[str, Sequence[str]],
    comparators: Mapping[str, np.ndarray],
    draws: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """The table of all tests, columns `enrichment.COLUMNS`.

    Args:
        bins: of `read_perturbations`. tissues: cell -> tissues, for the cells to test.
        comparators: name -> bool [bins], the bins that each picks.
    """
    bins = bins.reset_index(drop=True)
    bins = bins.assign(
        hits=count_hits(bins, eqtls, tissues),
        shifted_hits=count_hits(bins, shifted(eqtls, bins), tissues),
    )
    rows = []
    for cells, names in cell_sets(tissues):
        here = np.flatnonzero(bins["cell"].isin(cells).to_numpy())
        part = bins.iloc[here].assign(cells="+".join(cells))
        if not len(part):
            log.warning("%s: no bin to test", "+".join(cells))
            continue
        chosen = {name: flags[here] for name, flags in comparators.items()}
        found = enrichment.rows_of_set(part, chosen, draws, seed)
        rows += [row | {"tissues": "+".join(names)} for row in found]
        log.info("%s: %d bins, %d hits", "+".join(cells), len(part), int(part["hits"].sum()))
    return enrichment.as_table(rows)
