"""What deserves a second look: tracks, learning curves, and the genes predicted worst."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from epiloom.show.answer import REGRESSION, Comparison
from epiloom.show.canvas import marks_name, model_name
from epiloom.show.plots import best_epoch
from epiloom.show.plots_data import MAX_MISSING
from epiloom.show.results import Results

TENFOLD = 10.0
MANY = 3  # tracks that are still named when a warning is about all of them

# --- warnings about the data ---------------------------------------------------------------------


def qc_warnings(table: pd.DataFrame) -> tuple[list[str], list[str]]:
    """(warnings, names of the tracks they are about) of the quality table."""
    warnings: list[str] = []
    flagged: list[str] = []
    if table.empty:
        return warnings, flagged
    about: dict[str, list[str]] = {}
    for _, row in table.iterrows():
        for text in _track_warnings(row):
            about.setdefault(text, []).append(row["track"])
            flagged.append(row["track"])
    for text, tracks in about.items():
        everywhere = len(tracks) > MANY and len(tracks) == len(table)
        warnings.append(f"{'every track' if everywhere else ', '.join(tracks)}: {text}")
    for signal, group in table.groupby("signal", sort=False):
        means = group.set_index("track")["mean"].astype(float)
        means = means[means > 0]
        if len(means) > 1 and means.max() > TENFOLD * means.min():
            low, high = means.idxmin(), means.idxmax()
            warnings.append(
                f"{signal} tracks differ more than tenfold in their mean: {low} has "
                f"{means.min():.3g}, {high} has {means.max():.3g}. A deeper track is not a "
                "stronger mark; compare cells of one mark with care, or use the fold change signal"
            )
            flagged += [low, high]
    return warnings, list(dict.fromkeys(flagged))


def _track_warnings(row: pd.Series) -> Iterable[str]:
    if float(row["missing_fraction"]) > MAX_MISSING:
        yield (
            f"{row['missing_fraction']:.0%} of its bins have no data (over {MAX_MISSING:.0%}); "
            "check that the file covers the whole genome"
        )
    if not float(row["mean"]) > 0:
        yield f"its mean is {row['mean']}; check that the file holds signal"
    clipped = row.get("clipped_bins", 0)
    if pd.notna(clipped) and float(clipped) > 0:
        yield (
            f"{int(clipped):,} bins were clipped at the largest number that can be stored; look at "
            "them in a genome browser, they are usually repeats"
        )


def curve_warnings(found: Any) -> list[str]:
    """Runs whose training looks unfinished or broken; `found` has `histories` (Run -> table)."""
    warnings = []
    several = len({run.model for run in found.histories}) > 1
    for run, table in found.histories.items():
        best = best_epoch(table)
        name = f"{run.model}/{run.name}" if several else run.name
        if best is None:
            warnings.append(f"{name}: no epoch has a finite validation loss")
        elif best == len(table) - 1 and len(table) > 1 and not run.shuffled:
            warnings.append(
                f"{name}: the last epoch ({int(table['epoch'].iloc[-1])}) was the best one, so "
                "it was still learning; allow more epochs"
            )
    return warnings


# --- where to look next --------------------------------------------------------------------------


def worst_genes(found: Results, rows: Sequence[Comparison], count: int = 20) -> list[dict]:
    """Genes that the best model and mark set of each cell predicts worst, at most `count`.

    Each: model, cell, marks, gene_id, gene_name, place, fold, y, y_hat, residual (y - y_hat), log2
    units. Classifiers predict no expression, so they are left out.
    """
    best: dict[str, Comparison] = {}
    for row in rows:
        known = row.usable and row.task == REGRESSION and row.key in found.predictions
        if known and (row.cell not in best or row.value > best[row.cell].value):
            best[row.cell] = row
    if not best:
        return []
    per_cell = max(3, count // len(best))
    genes = (
        found.genes.drop_duplicates("gene_id").set_index("gene_id") if len(found.genes) else None
    )
    listed = []
    for row in best.values():
        table = found.predictions[row.model, row.cell, row.marks].dropna(subset=["y", "y_hat"])
        residual = table["y"] - table["y_hat"]
        worst = residual.abs().sort_values(ascending=False, kind="stable").index[:per_cell]
        for index in worst:
            listed.append(_gene(table.loc[index], float(residual[index]), row, genes))
    return sorted(listed, key=lambda gene: -abs(gene["residual"]))[: max(count, 3)]


def _gene(row: pd.Series, residual: float, best: Comparison, genes: pd.DataFrame | None) -> dict:
    known = genes is not None and row["gene_id"] in genes.index
    name = str(genes.at[row["gene_id"], "gene_name"]) if known else ""
    place = str(row["chrom"])
    if known:
        place += f":{int(genes.at[row['gene_id'], 'tss']):,}"
    return {
        "model": model_name(best.model),
        "cell": best.cell,
        "marks": marks_name(best.marks),
        "gene_id": row["gene_id"],
        "gene_name": name,
        "place": place,
        "fold": row["fold"],
        "y": float(row["y"]),
        "y_hat": float(row["y_hat"]),
        "residual": residual,
    }
