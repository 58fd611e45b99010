"""Figures of predicted cells: a row per signal, a dot per cell, a bar for all cells pooled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from epiloom.learn.cell_metrics import ALL, MEAN, OVER_CELLS, POOLED, WRONG
from epiloom.show.canvas import (
    BLUE,
    GRID,
    INK,
    MUTED,
    ORANGE,
    VERMILLION,
    WIDTH,
    empty,
    fixed,
    plain,
    style,
)

# skill below the first of these that half of the pooled values pass is drawn as an arrow: one cell
# could flatten all others
LOWEST = (-1.0, -3.0, -10.0, -30.0)
WHAT = {
    "skill": "skill against the training mean",
    "delta_r": "r beyond the training mean (delta_r)",
    "across_r": "r across cells, variable bins",
    "pearson": "Pearson r along the genome",
}
LOOKS = {WRONG: ("X", VERMILLION), MEAN: ("D", ORANGE)}  # marker and colour together
OWN = ("o", BLUE)


def cells_figure(
    tables: Mapping[str, pd.DataFrame],
    names: Mapping[str, str],
    measures: Sequence[str] = ("skill",),
) -> Figure:
    """A panel per part (from left to right) and measure (from top to bottom).

    Args:
        tables: title -> rows of the metrics of one part: cell, signal, predictor and the measures.
        names: predictor -> how it is called, in the order of drawing; others are not drawn.
        measures: columns, keys of `WHAT`.

    Dots: cells. Bars: all cells pooled. Arrows at the left edge: values below the axis.
    """
    signals = _signals(tables)
    known = [table.dropna(subset=[m]) for table in tables.values() for m in measures]
    if not signals or all(table.empty for table in known):
        return empty("no cell has been evaluated yet")
    tall = 0.2 * len(names) + 0.14
    height = len(measures) * (tall * len(signals) + 0.75) + 0.55
    with style():
        figure = Figure(figsize=(min(WIDTH, 1.2 + 3.3 * len(tables)), height))
        figure.set_layout_engine("constrained")
        grid = figure.subplots(len(measures), len(tables), squeeze=False, sharey=True)
        cut = ""
        for place, (row, measure) in enumerate(zip(grid, measures, strict=True)):
            low, high = limits(list(tables.values()), list(names), measure)
            for axis, (title, table) in zip(row, tables.items(), strict=True):
                if _panel(axis, table, names, measure, signals, low):
                    cut = f"below {fixed(low, 0)}"
                axis.set_xlim(low - 0.02 * (high - low), high)
                axis.set_xlabel(WHAT[measure])
                axis.xaxis.set_major_locator(MaxNLocator(5))
                if axis is row[0]:
                    axis.set_ylabel("signal")
                if place == 0:
                    axis.set_title(plain(title), loc="left")
        figure.legend(handles=_handles(names, cut), loc="outside upper left", ncols=len(names) + 3)
    return figure


def _signals(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """All signals in the order of the tables; all together last, where there are several."""
    found = list(dict.fromkeys(s for table in tables.values() for s in table["signal"]))
    single = [signal for signal in found if signal != ALL]
    return [*single, ALL] if len(single) > 1 and ALL in found else single


def limits(
    tables: Sequence[pd.DataFrame], predictors: Sequence[str], measure: str
) -> tuple[float, float]:
    """Ends of the axis of a measure, the same in all parts; what lies below is an arrow."""
    drawn = pd.concat([table[table["predictor"].isin(predictors)] for table in tables])
    drawn = drawn[drawn["cell"] != OVER_CELLS].dropna(subset=[measure])
    values = np.append(drawn[measure].to_numpy(float), 0.0)
    middle = drawn.loc[drawn["cell"] == POOLED, measure].median()
    floor = next((low for low in LOWEST if not middle < low), LOWEST[-1])
    low, high = float(values.min()), float(values.max())
    space = max(high - max(low, floor), 0.1)
    return (floor if low < floor else low - 0.04 * space), high + 0.06 * space


def _panel(
    axis: Axes,
    table: pd.DataFrame,
    names: Mapping[str, str],
    measure: str,
    signals: Sequence[str],
    low: float,
) -> bool:
    """Draw one panel; whether a value lies below the axis."""
    cut = False
    offsets = (np.arange(len(names)) - (len(names) - 1) / 2) * 0.8 / max(len(names), 2)
    for place, signal in enumerate(signals):
        own = table[(table["signal"] == signal) & (table["cell"] != OVER_CELLS)]
        for offset, predictor in zip(offsets, names, strict=True):
            rows = own[own["predictor"] == predictor].dropna(subset=[measure])
            pooled = rows["cell"] == POOLED
            look, y = LOOKS.get(predictor, OWN), place + offset
            cut |= _dots(axis, rows.loc[~pooled, measure].to_numpy(float), y, look, low)
            for value in rows.loc[pooled, measure]:
                if value >= low:
                    bar = [y - 0.17, y + 0.17]
                    axis.plot([value, value], bar, color=INK, linewidth=2.4, zorder=5)
                if not (~pooled).any() or value < low:  # a lone bar has no dots to name it
                    cut |= _dots(axis, np.array([float(value)]), y, look, low, 6)
    axis.axvline(0, color=MUTED, linewidth=1.1, zorder=1)
    for place in range(1, len(signals)):
        every = signals[place] == ALL
        axis.axhline(place - 0.5, color=MUTED if every else GRID, linewidth=0.8, zorder=1)
    axis.grid(axis="x")
    labels = ["all signals" if signal == ALL else plain(signal) for signal in signals]
    axis.set_yticks(range(len(signals)), labels)
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(len(signals) - 0.5, -0.5)
    axis.spines["left"].set_visible(False)
    return cut


def _dots(
    axis: Axes, values: np.ndarray, y: float, look: tuple[str, str], low: float, zorder: int = 3
) -> bool:
    """Draw some cells; whether one lies below the axis."""
    marker, colour = look
    alpha = float(np.clip(12 / max(len(values), 1), 0.35, 0.85))
    options = {"linestyle": "none", "color": colour, "markeredgewidth": 0, "zorder": zorder}
    inside = values >= low
    at = np.full(len(values), y)
    axis.plot(values[inside], at[inside], marker, markersize=5, alpha=alpha, **options)
    if not inside.all():
        axis.plot([low], [y], "<", markersize=7, clip_on=False, **options)
    return not inside.all()


def _handles(names: Mapping[str, str], cut: str) -> list[Line2D]:
    handles = [
        Line2D([], [], marker=marker, color=colour, linestyle="none", label=plain(name))
        for predictor, name in names.items()
        for marker, colour in [LOOKS.get(predictor, OWN)]
    ]
    bar = {"marker": "|", "linestyle": "none", "markersize": 9, "markeredgewidth": 2.4}
    handles.append(Line2D([], [], color=INK, label="all cells pooled", **bar))
    if cut:
        below = {"marker": "<", "linestyle": "none", "label": cut}
        handles.append(Line2D([], [], color=MUTED, **below))
    return handles
