"""Figures of the results: learning curves, observed against predicted, the comparison of models.

Every function takes plain tables and returns a `matplotlib.figure.Figure`; `save` writes it as PNG.
The figures of the data and of the cost are in `plots_data` and reachable from here, too.
"""

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
    CYCLE,
    GREEN,
    GREY,
    GRID,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    WIDTH,
    empty,
    fixed,
    model_name,
    outer_labels,
    panels,
    plain,
    predictor_name,
    save,
    style,
)
from epiloom.show.plots_data import (
    cost_figure,
    profile_figure,
    qc_figure,
    track_figure,
)

__all__ = [
    "comparison_figure",
    "cost_figure",
    "learning_curves",
    "observed_predicted",
    "profile_figure",
    "qc_figure",
    "save",
    "track_figure",
]

# marker and colour together, so that predictors differ without colour as well
PREDICTORS = {
    "ridge": ("P", VERMILLION),
    "activity_1.5kb": ("s", SKY),
    "activity_3kb": ("D", GREEN),
    "activity_6kb": ("^", ORANGE),
    "activity_40kb": ("v", PURPLE),
    "shuffled": ("X", GREY),
}
# cividis without its darkest fifth, which cannot be seen on a dark page
_COUNTS = ListedColormap(colormaps["cividis"](np.linspace(0.2, 1, 256)))
DENSE = 400  # from this many genes on, points are counted in hexagons instead of drawn one by one


# --- learning curves -----------------------------------------------------------------------------


def learning_curves(histories: Mapping[tuple[str, str], pd.DataFrame]) -> Figure:
    """Loss by epoch, one panel per title, one colour per fold.

    Args:
        histories: (panel title, fold) -> table with epoch, train_loss, validation_loss,
            learning_rate and, if known, best (1 for the epoch whose weights were kept).

    Solid: validation; dashed: training; ring: best epoch; short bars below: learning-rate cuts. The
    vertical axis is cut above the bulk of the curves, as a first epoch can be far off.
    """
    titles = list(dict.fromkeys(title for title, _ in histories))
    folds = sorted({fold for _, fold in histories})
    if not titles:
        return empty("no training history yet")
    colours = {fold: CYCLE[i % len(CYCLE)] for i, fold in enumerate(folds)}
    with style():
        figure, axes = panels(len(titles), columns=4, height=2.1, sharey=True)
        for axis, title in zip(axes, titles, strict=True):
            axis.set_title(plain(title), loc="left")
            axis.grid(axis="y")
            for fold in folds:
                if (title, fold) in histories:
                    _curve(axis, histories[title, fold], colours[fold])
            axis.xaxis.get_major_locator().set_params(integer=True, nbins=5)
            axis.yaxis.set_major_locator(MaxNLocator(nbins=5))
        axes[0].set_ylim(*_loss_limits(histories.values()))
        outer_labels(axes, "epoch", "loss (mean squared error)")
        figure.legend(
            handles=[
                *[Line2D([], [], color=colours[fold], label=plain(fold)) for fold in folds],
                Line2D([], [], color=MUTED, label="validation"),
                Line2D([], [], color=MUTED, linestyle=(0, (2, 1.5)), label="training"),
                _mark("o", "best epoch", markerfacecolor="none"),
                _mark("|", "learning rate cut"),
            ],
            loc="outside upper left",
            ncols=min(len(folds) + 4, {1: 4, 2: 4, 3: 6}.get(len(axes), 8)),
        )
    return figure


def _mark(marker: str, label: str, **more: object) -> Line2D:
    more = {"color": MUTED, **more}
    return Line2D([], [], marker=marker, linestyle="none", label=label, **more)


def _curve(axis: Axes, table: pd.DataFrame, colour: str) -> None:
    epoch = table["epoch"].to_numpy(float)
    validation = table["validation_loss"].to_numpy(float)
    axis.plot(epoch, validation, color=colour, linewidth=1.3)
    axis.plot(epoch, table["train_loss"], color=colour, linewidth=0.9, linestyle=(0, (2, 1.5)))
    best = best_epoch(table)
    if best is not None:
        axis.plot(
            epoch[best],
            validation[best],
            "o",
            markersize=6,
            markerfacecolor="none",
            markeredgecolor=colour,
            markeredgewidth=1.4,
        )
    cuts = epoch[1:][np.diff(table["learning_rate"].to_numpy(float)) < 0]
    axis.plot(
        cuts,
        np.full(len(cuts), 0.03),
        "|",
        color=colour,
        markersize=7,
        markeredgewidth=1.4,
        transform=axis.get_xaxis_transform(),
    )


def best_epoch(table: pd.DataFrame) -> int | None:
    """Row of the epoch whose weights were kept: the last one marked best, else the lowest loss."""
    if "best" in table.columns:
        marked = table["best"].astype(str).str.lower().isin(["1", "1.0", "true"]).to_numpy()
        if marked.any():
            return int(np.flatnonzero(marked)[-1])
    loss = table["validation_loss"].to_numpy(float)
    return None if np.isnan(loss).all() else int(np.nanargmin(loss))


def _loss_limits(tables: Sequence[pd.DataFrame]) -> tuple[float, float]:
    """From zero or the lowest loss to a little above all but the first epochs' losses."""
    late, every = [], []
    for table in tables:
        losses = table[["train_loss", "validation_loss"]].to_numpy(float)
        every.append(losses)
        late.append(losses[1:] if len(losses) > 3 else losses)
    values = np.concatenate([part.ravel() for part in late])
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(np.percentile(values, 99.5))
    space = max(high - low, 1e-3 * max(abs(high), 1.0))
    # room for the learning-rate bars below the curves
    return max(low - 0.18 * space, 0.0) if low >= 0 else low - 0.18 * space, high + 0.1 * space


# --- observed against predicted -----------------------------------------------------------------


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


# --- comparison ----------------------------------------------------------------------------------


def marker_of(predictor: str, model: str) -> tuple[str, str, float]:
    """Marker, colour and size of a predictor."""
    if predictor == model:
        return "o", BLUE, 6.5
    if predictor.endswith("_shuffled"):
        return (*PREDICTORS["shuffled"], 5.0)
    if predictor.startswith("ridge"):
        return (*PREDICTORS["ridge"], 5.0)
    return (*PREDICTORS.get(predictor, ("*", INK)), 4.4)


def comparison_figure(
    metrics: pd.DataFrame, model: str, labels: Mapping[tuple[str, str], str]
) -> Figure:
    """Pearson r with its 95% interval: one row per cell and mark set, one mark per predictor.

    Args:
        metrics: rows of the metrics table (predictor, cell, marks, r, r_low, r_high), one per cell,
            mark set and predictor.
        model: the predictor drawn largest.
        labels: (cell, marks) -> row label; its order is the order from top to bottom.
    """
    shown = metrics.dropna(subset=["r"])
    keys = [key for key in labels if ((shown["cell"] == key[0]) & (shown["marks"] == key[1])).any()]
    if not keys:
        return empty("no metrics yet")
    predictors = predictor_order(shown["predictor"].unique(), model)
    offsets = np.linspace(-0.34, 0.34, len(predictors)) if len(predictors) > 1 else np.zeros(1)
    height = 0.085 * len(predictors) + 0.1
    with style():
        figure = Figure(figsize=(WIDTH, max(1.6, height * len(keys) + 1.2)))
        figure.set_layout_engine("constrained")
        axis = figure.subplots()
        place = {key: row for row, key in enumerate(keys)}
        for offset, predictor in zip(offsets, predictors, strict=True):
            rows = shown[shown["predictor"] == predictor]
            rows = rows[[key in place for key in zip(rows["cell"], rows["marks"], strict=True)]]
            at = [place[key] for key in zip(rows["cell"], rows["marks"], strict=True)]
            _dots(axis, rows, np.array(at) + offset, predictor, model)
        _comparison_axis(axis, keys, labels)
        figure.legend(
            *axis.get_legend_handles_labels(),
            loc="outside upper left",
            ncols=min(len(predictors), 7),
            columnspacing=1.4,
            handletextpad=0.4,
        )
    return figure


def predictor_order(found: Sequence[str], model: str) -> list[str]:
    """The model first, then the baselines as in PREDICTORS, others by name, the control last."""
    rank = {name: i for i, name in enumerate(PREDICTORS)}

    def place(name: str) -> tuple[int, str]:
        if name == model:
            return -1, name
        if name.endswith("_shuffled"):
            return 99, name
        return rank.get("ridge" if name.startswith("ridge") else name, 50), name

    return sorted(found, key=place)


def _dots(axis: Axes, rows: pd.DataFrame, y: np.ndarray, predictor: str, model: str) -> None:
    marker, colour, size = marker_of(predictor, model)
    r = rows["r"].to_numpy(float)
    low = rows["r_low"].to_numpy(float)
    high = rows["r_high"].to_numpy(float)
    main = predictor == model
    axis.hlines(y, low, high, color=colour, linewidth=2.2 if main else 1.1, zorder=3)
    axis.plot(
        r,
        y,
        marker,
        color=colour,
        markersize=size,
        markeredgewidth=0,
        linestyle="none",
        label=predictor_name(predictor) if not main else model_name(model),
        zorder=4,
    )


def _comparison_axis(axis: Axes, keys: Sequence[tuple[str, str]], labels: Mapping) -> None:
    """Row labels, stripes by cell, zero line, scale above and below."""
    axis.set_yticks(range(len(keys)), [plain(labels[key]) for key in keys])
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(len(keys) - 0.45, -0.55)
    for row in range(1, len(keys)):
        new_cell = keys[row][0] != keys[row - 1][0]
        axis.axhline(row - 0.5, color=MUTED if new_cell else GRID, linewidth=0.8, zorder=1)
    axis.axvline(0, color=MUTED, linewidth=0.9, zorder=2)
    axis.grid(axis="x")
    axis.spines["left"].set_visible(False)
    axis.set_xlabel("Pearson r with observed log2(RPKM + 1), test genes (95% interval)")
    if len(keys) > 10:
        axis.tick_params(axis="x", top=True, labeltop=True)
