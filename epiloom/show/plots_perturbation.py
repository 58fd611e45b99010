"""Figures of the perturbation study: effect by distance from the TSS, and single genes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from epiloom.plan.errors import InputError
from epiloom.show.canvas import (
    BLUE,
    CYCLE,
    GREY,
    MUTED,
    ORANGE,
    fixed,
    outer_labels,
    panels,
    plain,
    style,
)

KB = 1000
TITLE = "What a mark is worth, by distance from the TSS"
CAPTION = (
    "Change of the predicted log2(RPKM + 1) when the mark is removed in one interval, by the model "
    "of the fold that did not train on the gene; mean and 95% interval over genes. Above 0: the "
    "prediction falls without the mark there. Broad bar: the promoter; the others are 2-kb bins. "
    "An active mark matters most at the promoter; a distal effect that stands out from its "
    "neighbours points to an enhancer or, near the TSS downstream, to the transcribed body."
)
DOSE_TITLE = "How much of a mark has to go"
DOSE_CAPTION = (
    "Mean change of the predicted log2(RPKM + 1) against what remains of the mark, at the promoter "
    "and (summed over single bins) at the 17 distal bins."
)


def figures(folder: str | Path) -> list[tuple[str, str, Figure]]:
    """(title, caption, figure) of a folder of perturbation tables; [] without any.

    Raises:
        InputError: a table cannot be read.
    """
    paths = sorted(Path(folder).glob("*.tsv.gz"))
    tables = []
    for path in paths:
        try:
            tables.append(pd.read_csv(path, sep="\t"))
        except (OSError, EOFError, ValueError) as err:
            raise InputError(path, f"cannot be read ({err}); make it again") from err
    tables = [table for table in tables if len(table)]
    if not tables:
        return []
    table = pd.concat(tables, ignore_index=True)
    found = [(TITLE, CAPTION, profile_figure(table))]
    if any(column.startswith("p_") for column in table):
        found.append((DOSE_TITLE, DOSE_CAPTION, dose_figure(table)))
    return found


def profile_figure(table: pd.DataFrame) -> Figure:
    """A panel per cell, a line per mark: effect of removal by distance."""
    cells = list(dict.fromkeys(table["cell"]))
    marks = list(dict.fromkeys(table["mark"]))
    with style():
        figure, axes = panels(len(cells), columns=3, height=2.5, sharex=True, sharey=True)
        for axis, cell in zip(axes, cells, strict=True):
            for k, mark in enumerate(marks):
                own = table[(table["cell"] == cell) & (table["mark"] == mark)]
                _profile(axis, own, CYCLE[k % len(CYCLE)], (k - (len(marks) - 1) / 2) * 0.35)
            axis.set_title(plain(cell), loc="left")
            axis.axhline(0, color=MUTED, linewidth=0.8)
            axis.axvline(0, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
            axis.set_xlim(-20.5, 20.5)
            axis.grid(axis="y")
        outer_labels(axes, "distance from TSS (kb)", "loss without the mark\n(log2 units)")
        handles = [_key(CYCLE[k % len(CYCLE)], _mark(table, m)) for k, m in enumerate(marks)]
        figure.legend(handles=handles, loc="outside upper left", ncols=min(4, len(handles)))
    return figure


def _mark(table: pd.DataFrame, mark: str) -> str:
    """`H3K27ac, expressed genes (1,203 in all cells)`."""
    own = table[table["mark"] == mark]
    labels = set(own["label"])
    which = {(1,): "expressed genes", (0,): "silent genes"}.get(tuple(labels), "all genes")
    return f"{plain(mark)}, {which} ({len(own) // own['bin'].nunique():,})"


def _key(colour: str, label: str) -> Line2D:
    return Line2D([], [], color=colour, marker="o", markersize=4, label=label)


def _profile(axis: Axes, own: pd.DataFrame, colour: str, shift: float) -> None:
    if own.empty:
        return
    grouped = own.groupby(["location", "bin"])["delta_log2"]
    mean, error = grouped.mean(), grouped.sem().fillna(0) * 1.96
    distal = mean.xs("distal", level="location")
    x = distal.index.to_numpy() * 2 - 19 + shift
    low = error.xs("distal", level="location").to_numpy()
    axis.plot(x, distal, color=colour, marker="o", markersize=3, linestyle="none")
    axis.vlines(x, distal - low, distal + low, color=colour, linewidth=1)
    if "promoter" in mean.index.get_level_values("location"):
        first, last = _promoter_kb(own)
        value = float(mean["promoter"].iloc[0])
        axis.hlines(value, first, last, color=colour, linewidth=3)
        spread = float(error["promoter"].iloc[0])
        axis.vlines((first + last) / 2 + shift, value - spread, value + spread, color=colour)


def _promoter_kb(own: pd.DataFrame) -> tuple[float, float]:
    """The promoter interval, in kb from the TSS in transcription direction."""
    row = own[own["location"] == "promoter"].iloc[0]
    ends = (int(row["start"]) - int(row["tss"]), int(row["end"]) - int(row["tss"]))
    if row["strand"] == "-":
        ends = (-ends[1], -ends[0])
    return ends[0] / KB, ends[1] / KB


def dose_figure(table: pd.DataFrame) -> Figure:
    """A panel per mark: mean effect against the remaining share of the mark."""
    marks = list(dict.fromkeys(table["mark"]))
    columns = sorted((c for c in table if c.startswith("p_")), key=lambda c: float(c[2:]))
    remains = np.array([0.0, *(float(c[2:]) for c in columns), 1.0])
    with style():
        figure, axes = panels(len(marks), columns=4, height=2.5, sharex=True)
        for axis, mark in zip(axes, marks, strict=True):
            own = table[table["mark"] == mark]
            genes = own.groupby(["cell", "gene_id"]).ngroups
            for location, colour in (("promoter", BLUE), ("distal", ORANGE)):
                rows = own[own["location"] == location]
                values = [rows["removed"], *(rows[c] for c in columns), rows["unperturbed"]]
                loss = [float((rows["unperturbed"] - v).sum()) / genes for v in values]
                axis.plot(100 * remains, loss, color=colour, marker="o", markersize=3)
            axis.set_title(plain(mark), loc="left")
            axis.axhline(0, color=MUTED, linewidth=0.8)
            axis.invert_xaxis()
            axis.grid(axis="y")
        outer_labels(axes, "what remains of the mark (%)", "loss (log2 units)")
        figure.legend(
            handles=[_key(BLUE, "promoter"), _key(ORANGE, "distal bins, summed")],
            loc="outside upper left",
            ncols=2,
        )
    return figure


def gene_figure(
    gene: pd.Series,
    effects: pd.DataFrame,
    depth: np.ndarray,
    observed: float,
    partners: pd.DataFrame | None = None,
) -> Figure:
    """One gene: the mark over its 40 kb, and the loss of prediction bin by bin.

    Args:
        gene: row of the gene table. effects: its rows of a perturbation table.
        depth: raw 100-bp means, float [400]. observed: log2(RPKM + 1).
        partners: its rows of the partner table; those within 20 kb are drawn.
    """
    first = effects.iloc[0]
    with style():
        figure, (top, low) = panels(2, columns=1, height=2.0, sharex=True)
        figure.set_size_inches(8.0, 4.8)
        x = (np.arange(len(depth)) - len(depth) / 2 + 0.5) / 10
        top.fill_between(x, np.nan_to_num(depth), step="mid", color=GREY, linewidth=0)
        top.set_ylabel(f"{plain(first['mark'])}\n(reads per base)")
        name = gene.get("gene_name", gene["gene_id"])
        top.set_title(
            f"{plain(name)} ({plain(gene['gene_id'])}) in {plain(first['cell'])} · "
            f"{gene['chrom']}:{int(gene['tss']):,} ({gene['strand']}) · log2(RPKM + 1): observed "
            f"{fixed(observed, 2)}, predicted {fixed(first['unperturbed'], 2)}",
            loc="left",
        )
        _partners(top, gene, partners)
        for row in effects.itertuples():
            span = _kb(row)
            colour = BLUE if row.location == "promoter" else ORANGE
            low.bar(
                *(span[0], row.delta_log2, span[1] - span[0]),
                **{"align": "edge", "color": colour, "edgecolor": "white", "linewidth": 0.8},
            )
        low.axhline(0, color=MUTED, linewidth=0.8)
        for axis in (top, low):
            axis.axvline(0, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
            axis.set_xlim(-20, 20)
        low.set_ylabel("loss without the mark\n(log2 units)")
        low.set_xlabel("distance from TSS, in transcription direction (kb)")
        low.tick_params(labelbottom=True)
        handles = [Patch(color=BLUE, label="promoter"), Patch(color=ORANGE, label="distal bin")]
        low.legend(handles=handles, loc="upper right", ncols=2)
    return figure


def _kb(row: tuple) -> tuple[float, float]:
    ends = (row.start - row.tss) / KB, (row.end - row.tss) / KB
    return ends if row.strand == "+" else (-ends[1], -ends[0])


def _partners(axis: Axes, gene: pd.Series, partners: pd.DataFrame | None) -> None:
    """A line under the signal where a Hi-C partner lies; how many lie further out, in words."""
    if partners is None:
        return
    shown = 0
    for row in partners.itertuples():
        ends = (row.start - gene["tss"]) / KB, (row.end - gene["tss"]) / KB
        ends = ends if gene["strand"] == "+" else (-ends[1], -ends[0])
        if row.chrom == gene["chrom"] and ends[0] < 20 and ends[1] > -20:
            axis.hlines(0, *ends, color=ORANGE, linewidth=4, clip_on=True)
            shown += 1
    text = f"Hi-C partners: {len(partners)}, of which {shown} within 20 kb (orange line)"
    axis.text(0.99, 0.94, text, transform=axis.transAxes, ha="right", va="top", fontsize=8)
