"""Figures of the question itself: r by mark, distance and group of cells; what a second mark adds.

Both are drawn from the table of `marks.mark_table`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from epiloom.show.answer import SYMBOLS
from epiloom.show.canvas import (
    BLUE,
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
    plain,
    style,
)
from epiloom.show.facts import RECORDED, cell_group, is_active, model_order
from epiloom.studies.groups import GROUPS

LOOKS = {
    "ESC": ("o", SKY),
    "ESC derived": ("^", GREEN),
    "primary tissue": ("s", ORANGE),
    "cancer line": ("D", VERMILLION),
    "iPSC": ("v", PURPLE),
    "own": ("P", GREY),
}
_REFERENCE = {"color": INK, "linewidth": 1.1, "linestyle": (0, (4, 2))}


def marks_figure(table: pd.DataFrame) -> Figure:
    """Marks alone and all marks together: one panel per model, one row per mark.

    Args:
        table: as made by `marks.mark_table`.

    Top of a row: mean over all cells with its interval over folds, and the recorded value (hollow).
    Below: every group of cells, small dots for its cells, a bar for its mean with the interval.
    """
    shown = table[table["kind"].isin(["single", "all"])].dropna(subset=["value"])
    if not (shown["kind"] == "single").any():
        return empty("no single mark has been evaluated yet")
    models = sorted(set(shown["model"]), key=model_order)
    order = _order(shown[shown["level"] == "all"])
    groups = [g for g in GROUPS if ((shown["level"] == "group") & (shown["cells"] == g)).any()]
    cells = shown.loc[shown["level"] == "cell", "cells"].nunique()
    groups = groups if cells > 1 else []
    step = 0.17
    pitch = step * (len(groups) + 1) + 0.13  # inches per row
    with style():
        figure = Figure(figsize=(WIDTH if len(models) > 1 else 7.5, pitch * len(order) + 1.5))
        figure.set_layout_engine("constrained")
        axes = figure.subplots(1, len(models), sharey=True, squeeze=False, sharex=_one(table))[0]
        for axis, model in zip(axes, models, strict=True):
            own = shown[shown["model"] == model]
            for row, mark in enumerate(order):
                _mark_row(axis, own[own["marks"] == mark], row, groups, step / pitch)
            for value in own.loc[(own["kind"] == "all") & (own["level"] == "all"), "value"]:
                axis.axvline(value, zorder=1, **_REFERENCE)
            _mark_axis(axis, own.iloc[0], len(order))
        axes[0].set_yticks(
            range(len(order)), ["all marks" if "+" in m else plain(m) for m in order]
        )
        axes[0].set_ylim(len(order) - 0.5, -0.5)
        handles = _handles(groups, table, cells)
        columns = min(len(handles), 4 if len(models) > 1 else 3)
        figure.legend(handles=handles, loc="outside upper left", ncols=columns)
    return figure


def _order(whole: pd.DataFrame) -> list[str]:
    """Single marks, the best of any model first, then all marks together."""
    best = whole.groupby(["kind", "marks"])["value"].max().sort_values(ascending=False)
    return [marks for kind in ("single", "all") for k, marks in best.index if k == kind]


def _one(table: pd.DataFrame) -> bool:
    """Whether all models are measured by the same thing, so that the panels share a scale."""
    return table["measure"].nunique() == 1


def _mark_row(axis: Axes, rows: pd.DataFrame, row: int, groups: Sequence[str], step: float) -> None:
    top = row - step * len(groups) / 2
    whole = rows[rows["level"] == "all"]
    for one in whole.itertuples():
        axis.hlines(top, one.low, one.high, color=BLUE, linewidth=2.4, zorder=4)
        axis.plot(one.value, top, "o", color=BLUE, markersize=7, markeredgewidth=0, zorder=5)
        if np.isfinite(one.published):
            axis.plot(one.published, top, "D", mfc="none", mec=INK, mew=1.2, ms=6.5, zorder=6)
    for i, group in enumerate(groups, 1):
        marker, colour = LOOKS[group]
        y = top + step * i
        single = rows[(rows["level"] == "cell") & (rows["cells"].map(cell_group) == group)]
        axis.plot(
            single["value"],
            np.full(len(single), y),
            *(marker,),
            color=colour,
            ms=4,
            mew=0,
            alpha=0.75,
            zorder=3,
        )
        for one in rows[(rows["level"] == "group") & (rows["cells"] == group)].itertuples():
            axis.hlines(y, one.low, one.high, color=colour, linewidth=1.1, zorder=2)
            axis.plot(one.value, y, "|", color=colour, markersize=9, markeredgewidth=2, zorder=4)


def _mark_axis(axis: Axes, row: pd.Series, count: int) -> None:
    title = f"{model_name(row['model'])} · {row['distance']}" if row["distance"] else ""
    axis.set_title(plain(title or model_name(row["model"])), loc="left", fontweight="bold")
    for place in range(1, count):
        axis.axhline(place - 0.5, color=GRID, linewidth=0.8, zorder=0)
    axis.grid(axis="x")
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=7))
    axis.set_xlabel(f"{_measure(row['measure'])}, mean over folds")


def _measure(measure: str) -> str:
    return {"r": "Pearson r with log2(RPKM + 1)", "auc": "area under the ROC curve"}[measure]


def _handles(groups: Sequence[str], table: pd.DataFrame, cells: int) -> list[Line2D]:
    what = "all cells" if cells > 1 else "the cell"
    handles = [Line2D([], [], color=BLUE, marker="o", label=f"{what}, 95% interval over folds")]
    for group in groups:
        marker, colour = LOOKS[group]
        handles.append(
            Line2D([], [], color=colour, marker=marker, ls="none", ms=5, mew=0, label=group)
        )
    if groups:
        bar = {"color": MUTED, "marker": "|", "ms": 9, "mew": 2, "lw": 1.1}
        handles.append(Line2D([], [], label="mean of a group, interval", **bar))
    if (table["kind"] == "all").any():
        handles.append(Line2D([], [], label="all marks together", **_REFERENCE))
    if np.isfinite(table.loc[table["level"] == "all", "published"].astype(float)).any():
        handles.append(_recorded())
    return handles


def _recorded() -> Line2D:
    return Line2D([], [], marker="D", mfc="none", mec=INK, mew=1.2, ls="none", label=RECORDED)


# --- a second mark -------------------------------------------------------------------------------


def second_mark_figure(table: pd.DataFrame) -> Figure:
    """What a second mark adds: one panel per first mark, one row per second mark.

    Args:
        table: as made by `marks.mark_table`; the model with most pairs is drawn, all cells.

    First marks are those of active promoters, or, without them, all marks of a pair.
    """
    rows = table[table["level"] == "all"].dropna(subset=["value"])
    pairs = rows[rows["kind"] == "pair"]
    if pairs.empty:
        return empty("no pair of marks has been evaluated")
    model = pairs["model"].value_counts().index[0]
    rows = rows[rows["model"] == model].set_index("marks")
    pairs = rows[rows["kind"] == "pair"]
    firsts = _first_marks(rows, pairs)
    gains = {mark: _pairs_of(pairs, mark) for mark in firsts}
    seconds = pd.concat(gains.values()).groupby(level=0)["value"].mean()
    seconds = seconds.sort_values(ascending=False).index.tolist()
    with style():
        figure = Figure(figsize=(WIDTH, 0.3 * len(seconds) + 1.7))
        figure.set_layout_engine("constrained")
        axes = figure.subplots(1, len(firsts), sharex=True, sharey=True, squeeze=False)[0]
        for axis, mark in zip(axes, firsts, strict=True):
            _second_panel(axis, mark, gains[mark], rows, seconds)
        axes[0].set_yticks(range(len(seconds)), [f"+ {plain(mark)}" for mark in seconds])
        axes[0].set_ylim(len(seconds) - 0.5, -0.5)
        reach = rows["distance"].iloc[0]
        figure.supxlabel(
            f"{SYMBOLS[rows['measure'].iloc[0]]}, mean over cells and folds "
            f"({model_name(model)}{f', {reach}' if reach else ''})",
            fontsize=9,
        )
        handles = [
            Line2D([], [], color=BLUE, marker="o", label="pair, 95% interval over folds"),
            Line2D([], [], color=ORANGE, lw=1.4, label="first mark alone"),
        ]
        if (rows["kind"] == "all").any():
            handles.append(Line2D([], [], label="all marks together", **_REFERENCE))
        if np.isfinite(pairs["published"].astype(float)).any():
            handles.append(_recorded())
        figure.legend(handles=handles, loc="outside upper left", ncols=4)
    return figure


def _first_marks(rows: pd.DataFrame, pairs: pd.DataFrame) -> list[str]:
    """Active marks in pairs, the best one alone first; other marks if no active one is there."""
    held = {mark for pair in pairs.index for mark in pair.split("+")}
    firsts = [mark for mark in held if is_active(mark)] or sorted(held)
    alone = rows["value"].to_dict()
    return sorted(firsts, key=lambda mark: (-alone.get(mark, -1), mark))[:4]


def _pairs_of(pairs: pd.DataFrame, mark: str) -> pd.DataFrame:
    """The pairs that hold a mark, by the other mark."""
    own = pairs[[mark in name.split("+") for name in pairs.index]]
    others = ["".join(set(name.split("+")) - {mark}) for name in own.index]
    return own.set_axis(others, axis=0)


def _second_panel(
    axis: Axes, mark: str, own: pd.DataFrame, rows: pd.DataFrame, seconds: Sequence[str]
) -> None:
    axis.set_title(f"{plain(mark)} and …", loc="left", fontweight="bold")
    if mark in rows.index:
        axis.axvline(float(rows.at[mark, "value"]), color=ORANGE, linewidth=1.4, zorder=1)
    for one in rows[rows["kind"] == "all"].itertuples():
        axis.axvline(one.value, zorder=1, **_REFERENCE)
    for place, other in enumerate(seconds):
        if place:
            axis.axhline(place - 0.5, color=GRID, linewidth=0.8, zorder=0)
        if other == mark:
            axis.text(
                *(0.5, place),
                "–",
                transform=axis.get_yaxis_transform(),
                color=MUTED,
                ha="center",
                va="center",
            )
            continue
        for one in own[own.index == other].itertuples():
            axis.hlines(place, one.low, one.high, color=BLUE, linewidth=2, zorder=3)
            axis.plot(one.value, place, "o", color=BLUE, ms=6, mew=0, zorder=4)
            if np.isfinite(one.published):
                axis.plot(one.published, place, "D", mfc="none", mec=INK, mew=1.2, ms=6, zorder=5)
            beside = {"transform": axis.get_yaxis_transform(), "color": MUTED, "va": "center"}
            axis.text(1.01, place, fixed(one.value, 2), fontsize=7.5, **beside)
    axis.grid(axis="x")
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=5))
