"""Figures of predictions: observed against predicted, and what a classifier says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator

from epiloom.show.canvas import (
    BLUE,
    MUTED,
    ORANGE,
    empty,
    fixed,
    outer_labels,
    panels,
    plain,
    style,
)

# cividis without its darkest fifth, which cannot be seen on a dark page
_COUNTS = ListedColormap(colormaps["cividis"](np.linspace(0.2, 1, 256)))
DENSE = 400  # from this many genes on, points are counted in hexagons instead of drawn one by one


def observed_predicted(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Predicted against observed expression, one panel per title, test genes pooled over folds.

    Args:
        tables: panel title -> table with y and y_hat, both log2(RPKM + 1).

    Each panel names Pearson r, R2 = 1 - SSE/SST and the number of genes; the line is y_hat = y.
    """
    tables = {title: table.dropna(subset=["y", "y_hat"]) for title, table in tables.items()}
    if not any(len(table) for table in tables.values()):
        return empty("no predictions yet")
    low, high = _expression_limits(tables.values())
    with style():
        figure, axes = panels(
            len(tables), columns=4, height=2.5, square=True, sharex=True, sharey=True
        )
        hexagons = []
        for axis, (title, table) in zip(axes, tables.items(), strict=True):
            axis.set_title(f"{plain(title)}\n{agreement(table)}", loc="left", linespacing=1.35)
            axis.plot([low, high], [low, high], color=MUTED, linewidth=0.9, zorder=0)
            y, y_hat = table["y"].to_numpy(float), table["y_hat"].to_numpy(float)
            if len(table) < DENSE:
                axis.plot(y, y_hat, "o", color=BLUE, markersize=2.6, alpha=0.55, markeredgewidth=0)
            else:
                hexagons.append(_hexagons(axis, y, y_hat, (low, high)))
            # no fixed aspect: with one, the layout lets titles leave the figure
            axis.set(xlim=(low, high), ylim=(low, high))
            for side in (axis.xaxis, axis.yaxis):
                side.set_major_locator(MaxNLocator(nbins=5, integer=True))
        outer_labels(axes, "observed log2(RPKM + 1)", "predicted log2(RPKM + 1)")
        if hexagons:
            _count_scale(figure, axes, hexagons)
    return figure


def probabilities(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """What a classifier says of expressed and of other genes, one panel per title.

    Args:
        tables: panel title -> table with y (1: at or above the cell's median) and y_hat, the
            probability of 1.
    """
    tables = {title: table.dropna(subset=["y", "y_hat"]) for title, table in tables.items()}
    if not any(len(table) for table in tables.values()):
        return empty("no predictions yet")
    edges = np.linspace(0, 1, 21)
    looks = ((1, BLUE, "-", "expressed"), (0, ORANGE, (0, (4, 1.5)), "below the median"))
    with style():
        figure, axes = panels(len(tables), columns=4, height=2.1, sharex=True)
        for axis, (title, table) in zip(axes, tables.items(), strict=True):
            axis.set_title(f"{plain(title)}\nn {len(table):,}", loc="left", linespacing=1.35)
            for label, colour, line, _ in looks:
                values = table.loc[table["y"] == label, "y_hat"].clip(0, 1)
                look = {"color": colour, "linestyle": line, "linewidth": 1.3}
                axis.hist(values, bins=edges, histtype="step", **look)
            axis.axvline(0.5, color=MUTED, linewidth=0.8, linestyle=(0, (1, 1.5)))
            axis.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        outer_labels(axes, "predicted probability", "genes")
        handles = [Line2D([], [], color=c, linestyle=ls, label=name) for _, c, ls, name in looks]
        figure.legend(handles=handles, loc="outside upper left", ncols=2)
    return figure


def _expression_limits(tables: Sequence[pd.DataFrame]) -> tuple[float, float]:
    values = np.concatenate([table[["y", "y_hat"]].to_numpy(float).ravel() for table in tables])
    low, high = np.percentile(values, [0.02, 99.98])
    space = 0.04 * max(high - low, 1e-6)
    return float(low - space), float(high + space)


def _hexagons(axis: Axes, y: np.ndarray, y_hat: np.ndarray, limits: tuple[float, float]):
    return axis.hexbin(
        y,
        y_hat,
        gridsize=32,
        extent=(*limits, *limits),
        mincnt=1,
        cmap=_COUNTS,
        linewidths=0.1,
        rasterized=True,  # 77 panels of hexagons as vectors would weigh 30 MB
    )


def _count_scale(figure: Figure, axes: Sequence[Axes], hexagons: Sequence) -> None:
    """One colour scale for all panels, so that they can be compared."""
    norm = LogNorm(1, max(2, max(float(h.get_array().max()) for h in hexagons)))
    for drawn in hexagons:
        drawn.set_norm(norm)
    bar = figure.colorbar(hexagons[0], ax=list(axes), shrink=0.6, aspect=25, pad=0.02)
    bar.set_label("genes per hexagon")
    bar.outline.set_visible(False)
    bar.ax.minorticks_off()
    steps = [step * 10**power for power in range(6) for step in (1, 3)]
    bar.ax.yaxis.set_major_locator(FixedLocator([step for step in steps if step <= norm.vmax]))
    bar.ax.yaxis.set_major_formatter("{x:g}")


def agreement(table: pd.DataFrame) -> str:
    """`r 0.71 · R² 0.48 · n 2,310` of a table with y and y_hat; what is undefined is named so."""
    y, y_hat = table["y"].to_numpy(float), table["y_hat"].to_numpy(float)
    count = f"n {len(y):,}"
    if len(y) < 2 or np.ptp(y) == 0:
        return f"r undefined · {count}"
    total = float(np.sum((y - y.mean()) ** 2))
    r2 = 1 - float(np.sum((y - y_hat) ** 2)) / total
    r = float(np.corrcoef(y, y_hat)[0, 1]) if np.ptp(y_hat) > 0 else np.nan
    return f"r {fixed(r, 2)} · R² {fixed(r2, 2)} · {count}"
