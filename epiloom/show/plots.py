"""Figures of the results: learning curves, observed against predicted, the comparison of models.

Every function takes plain tables and returns a `matplotlib.figure.Figure`; `save` writes it as PNG.
The figures of the data, of the cost and of predictions are in modules of their own and reachable
from here, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

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
from epiloom.show.plots_predictions import agreement, observed_predicted, probabilities

__all__ = [
    "agreement",
    "comparison_figure",
    "cost_figure",
    "learning_curves",
    "observed_predicted",
    "probabilities",
    "profile_figure",
    "qc_figure",
    "save",
    "track_figure",
]

# marker and colour together, so that predictors differ without colour as well
PREDICTORS = {
    "ridge_6kb": ("P", VERMILLION),
    "ridge_40kb": ("d", INK),
    "activity_1.5kb": ("s", SKY),
    "activity_3kb": ("D", GREEN),
    "activity_6kb": ("^", ORANGE),
    "activity_40kb": ("v", PURPLE),
    "profile": ("<", SKY),  # from here on baselines of tracks that are predicted from DNA
    "gc": ("s", SKY),
    "gc_conservation": ("s", GREEN),
    "kmer_ridge": ("^", ORANGE),
    "other_cells": ("D", PURPLE),
    "shuffled": ("X", GREY),
}


# --- learning curves -----------------------------------------------------------------------------


def learning_curves(
    histories: Mapping[tuple[str, str], pd.DataFrame], loss: str = "mean squared error"
) -> Figure:
    """Loss by epoch, one panel per title, one colour per fold.

    Args:
        histories: (panel title, fold) -> table with epoch, train_loss, validation_loss,
            learning_rate and, if known, best (1 for the epoch whose weights were kept).
        loss: what is minimised.

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
        outer_labels(axes, "epoch", f"loss ({loss})")
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


# --- comparison ----------------------------------------------------------------------------------


def marker_of(predictor: str, model: str) -> tuple[str, str, float]:
    """Marker, colour and size of a predictor."""
    if predictor == model:
        return "o", BLUE, 6.5
    if predictor.endswith("_shuffled"):
        return (*PREDICTORS["shuffled"], 5.0)
    return (*PREDICTORS.get(predictor, ("*", INK)), 4.4)


def comparison_figure(
    metrics: pd.DataFrame,
    model: str,
    labels: Mapping[tuple[str, str], str],
    measure: str = "r",
    axis_label: str = "",
) -> Figure:
    """Pearson r, or the area under the ROC curve, with its 95% interval.

    One row per cell and mark set, one mark per predictor.

    Args:
        metrics: rows of the metrics table (predictor, cell, marks, r, r_low, r_high), one per cell,
            mark set and predictor.
        model: the predictor drawn largest.
        labels: (cell, marks) -> row label; its order is the order from top to bottom.
        measure: what the columns r, r_low and r_high hold: r or auc.
        axis_label: what the horizontal axis says instead of its usual text.
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
        _comparison_axis(axis, keys, labels, measure, axis_label)
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
        return rank.get(name, 50), name

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


def _comparison_axis(
    axis: Axes, keys: Sequence[tuple[str, str]], labels: Mapping, measure: str, label: str
) -> None:
    """Row labels, stripes by cell, line of no information, scale above and below."""
    axis.set_yticks(range(len(keys)), [plain(labels[key]) for key in keys])
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(len(keys) - 0.45, -0.55)
    for row in range(1, len(keys)):
        new_cell = keys[row][0] != keys[row - 1][0]
        axis.axhline(row - 0.5, color=MUTED if new_cell else GRID, linewidth=0.8, zorder=1)
    axis.axvline(0.5 if measure == "auc" else 0, color=MUTED, linewidth=0.9, zorder=2)
    axis.grid(axis="x")
    axis.spines["left"].set_visible(False)
    what = {
        "r": "Pearson r with observed log2(RPKM + 1)",
        "auc": "area under the ROC curve, expressed or not",
    }
    axis.set_xlabel(label or f"{what[measure]}, test genes (95% interval)")
    if len(keys) > 10:
        axis.tick_params(axis="x", top=True, labeltop=True)
