"""Answers of models of cells as figures: factors around a place, contacts, loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from epiloom.show.canvas import (
    BLUE,
    GREY,
    INK,
    MUTED,
    ORANGE,
    WIDTH,
    empty,
    outer_labels,
    panels,
    plain,
    style,
)

TOP = 12  # factors of a cell that are drawn
ATTENTION, LOOPS = (
    ListedColormap(colormaps[name](np.linspace(0.0, 0.95, 256))) for name in ("Blues", "Oranges")
)
PARTS = {
    "cross_cell": "new cells, known regions",
    "cross_region": "training cells, new regions",
    "cross_both": "new cells, new regions",
}
LOOKS = {
    "model": {"color": BLUE, "marker": "o", "label": "attention of the model"},
    "training_loops": {"color": ORANGE, "marker": "s", "label": "loops of other training cells"},
}


# --- factors --------------------------------------------------------------------------------------


def factors_figure(table: pd.DataFrame, title: str, top: int = TOP) -> Figure:
    """The factors that make up most of the signals around a place, a panel per cell.

    Args:
        table: cell, rank, tf, score (`factor_table`).
    """
    cells = list(dict.fromkeys(table["cell"]))
    best = {cell: table[(table["cell"] == cell) & (table["rank"] <= top)] for cell in cells}
    widest = max(float(own["score"].abs().max()) for own in best.values())
    with style():
        figure, axes = panels(len(cells), columns=3, height=0.17 * top + 0.55, sharex=True)
        for axis, (cell, own) in zip(axes, best.items(), strict=True):
            colours = [BLUE if score >= 0 else ORANGE for score in own["score"]]
            axis.barh(np.arange(len(own)), own["score"], color=colours, height=0.75)
            axis.set_yticks(np.arange(len(own)), [plain(tf) for tf in own["tf"]], fontsize=7.5)
            axis.set_ylim(len(own) - 0.4, -0.6)
            axis.tick_params(axis="y", length=0)
            axis.axvline(0, color=MUTED, linewidth=0.6)
            axis.set_title(plain(cell), loc="left")
            axis.grid(axis="x")
        if widest > 0:
            axes[0].set_xlim(-1.05 * widest, 1.05 * widest)
        axes[0].xaxis.set_major_locator(MaxNLocator(5))
        outer_labels(axes, "gradient × expression (log1p)", "factor")
        figure.suptitle(plain(title), x=0.01, ha="left", fontsize=10)
    return figure


# --- contacts -------------------------------------------------------------------------------------


def contacts_figure(
    cells: Sequence[str],
    attention: np.ndarray,
    loops: Mapping[str, np.ndarray],
    window: tuple[str, int, int],
    region: tuple[int, int],
) -> Figure:
    """Attention (above the diagonal) and loops (below it) of a window, a panel per cell.

    Args:
        attention: [C, B, B]. loops: [B, B] of the cells that have any, rows that sum to 1 or 0.
        window: chromosome, start, and bases of a bin. region: start and end of what was asked.
    """
    chrom, start, bin_bp = window
    both = (attention + attention.swapaxes(1, 2)) / 2
    bins = attention.shape[-1]
    upper = np.triu(np.ones((bins, bins), bool), 1)
    norms = _norm(both[:, upper]), _norm(np.stack(list(loops.values())) if loops else np.ones(1))
    edges = (start + np.arange(bins + 1) * bin_bp) / 1e3
    with style():
        figure, axes = panels(len(cells), columns=3, height=3.0, square=True)
        figure.set_figwidth(max(figure.get_figwidth(), 5.0) + 1.3)
        for axis, cell, matrix in zip(axes, cells, both, strict=True):
            options = {"linewidth": 0, "rasterized": True}
            shown = np.ma.masked_array(np.maximum(matrix, norms[0].vmin), ~upper)
            axis.pcolormesh(edges, edges, shown, cmap=ATTENTION, norm=norms[0], **options)
            own = loops.get(cell)
            if own is not None:
                own = (own + own.T) / 2
                below = np.ma.masked_array(own, ~upper.T | (own <= 0))
                axis.pcolormesh(edges, edges, below, cmap=LOOPS, norm=norms[1], **options)
            said = "no loops known" if own is None else "no loop here" if not own.any() else ""
            low = {"transform": axis.transAxes, "ha": "left", "va": "bottom", "color": MUTED}
            axis.text(0.04, 0.04, said, fontsize=8, **low)
            _frame(axis, edges, region, cell)
        outer_labels(axes, f"{plain(chrom)} (kb)", f"{plain(chrom)} (kb)")
        _bars(figure, axes, norms, any(own.any() for own in loops.values()))
        title = f"Contacts around {plain(chrom)}:{region[0]:,}–{region[1]:,}"
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure


def _norm(values: np.ndarray) -> LogNorm:
    """A logarithmic colour scale over most values that are not 0."""
    there = values[np.isfinite(values) & (values > 0)]
    low, high = np.quantile(there, [0.02, 0.999]) if len(there) else (0.1, 1.0)
    return LogNorm(min(float(low), float(high) / 1.5), float(high))


def _frame(axis: Axes, edges: np.ndarray, region: tuple[int, int], cell: str) -> None:
    """The diagonal, the region that was asked for, ticks."""
    axis.plot(edges[[0, -1]], edges[[0, -1]], color=MUTED, linewidth=0.5)
    low, high = (position / 1e3 for position in region)
    if low > edges[0] or high < edges[-1]:
        options = {"color": INK, "linewidth": 0.7, "linestyle": (0, (4, 3))}
        axis.plot([low, high, high, low, low], [low, low, high, high, low], **options)
    axis.set_xlim(edges[0], edges[-1])
    axis.set_ylim(edges[-1], edges[0])
    axis.set_aspect("equal")
    axis.tick_params(labelbottom=True)
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_locator(MaxNLocator(4))
        side.set_major_formatter(lambda x, _: f"{x:,.0f}")
    axis.set_title(plain(cell), loc="left")


def _bars(figure: Figure, axes: Sequence[Axes], norms: Sequence[LogNorm], loops: bool) -> None:
    """Colour scales right of the panels."""
    told = [("above the diagonal: attention, share of a bin's", ATTENTION, norms[0])]
    if loops:
        told.insert(0, ("below: observed loops, share of a bin's", LOOPS, norms[1]))
    for name, colours, norm in told:
        mappable = ScalarMappable(norm, colours)
        options = {"shrink": 0.8, "aspect": 30, "pad": 0.02, "extend": "both"}
        bar = figure.colorbar(mappable, ax=list(axes), **options)
        ticks = np.geomspace(norm.vmin, norm.vmax, 4)
        bar.set_ticks(ticks, labels=[f"{tick:.2g}" for tick in ticks])
        bar.minorticks_off()
        bar.set_label(name, fontsize=8)
        bar.ax.tick_params(labelsize=7)


# --- loops ----------------------------------------------------------------------------------------


def loops_figure(table: pd.DataFrame) -> Figure:
    """auPRC by class of distance of attention and of the training cells' loops.

    Args:
        table: as `cell_loops.score_loops` gives it; of several cells the pooled rows are drawn.
    """
    parts = [part for part in PARTS if (table["part"] == part).any()]
    if not parts or table["auprc"].dropna().empty:
        return empty("No loop lies within one region and has a pair as far apart without one")
    with style():
        figure, axes = panels(len(parts), columns=3, height=2.9, sharey=True)
        for axis, part in zip(axes, parts, strict=True):
            own = table[table["part"] == part]
            cells = own["cell"].unique()
            cell = "all" if "all" in cells else cells[0]
            own = own[(own["cell"] == cell) & np.isfinite(own["high_bp"].astype(float))]
            _classes(axis, own)
            count = len(cells) - ("all" in cells)
            axis.set_title(f"{PARTS[part]} ({count} cell{'s' * (count > 1)})", loc="left")
        axes[0].set_ylim(0, 1.02)
        outer_labels(axes, "distance of the anchors (kb); loops", "auPRC")
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=3)
        figure.set_figwidth(max(figure.get_figwidth(), 0.75 * WIDTH))
    return figure


def _classes(axis: Axes, own: pd.DataFrame) -> None:
    """Both predictors and chance over the classes of distance that have loops."""
    first = own[own["predictor"] == "model"]
    first = first[first["auprc"].notna()]
    spans = list(zip(first["low_bp"], first["high_bp"], strict=True))
    x = np.arange(len(spans))
    for shift, (name, look) in zip((-0.08, 0.08), LOOKS.items(), strict=True):
        rows = own[own["predictor"] == name].set_index(["low_bp", "high_bp"])
        values = rows["auprc"].astype(float).reindex(spans).to_numpy()
        axis.plot(x + shift, values, linestyle="-", linewidth=1.0, markersize=5, **look)
    axis.plot(x, first["prevalence"], "--", color=GREY, linewidth=1.2, label="distance alone")
    named = [f"{int(low / 1e3)}–{int(high / 1e3)}" for low, high in spans]
    counts = [f"{int(n):,}" for n in first["loops"]]
    axis.set_xticks(x, [f"{a}\n{n}" for a, n in zip(named, counts, strict=True)])
    axis.set_xlim(-0.5, max(len(spans) - 0.5, 0.5))
    axis.grid(axis="y")
