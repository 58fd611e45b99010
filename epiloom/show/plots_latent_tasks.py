"""Figures of downstream tasks: average precision of every predictor, and its curves.

Drawn from the tables `metrics` and `curves` of `epiloom/studies/downstream_tables.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

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
    outer_labels,
    panels,
    plain,
    style,
)

TASKS_CAPTION = (
    "Average precision of the positive class, mean over folds with its 95% interval, by task and "
    "cell. Upright bar: prevalence, what chance scores. Cell average: the share of the other cells "
    "in which the window is positive; features that are the same in all cells must beat it to tell "
    "more than how typical a cell is."
)

# marker, colour and line together, so that predictors differ without colour as well
PREDICTORS = {
    "latents": ("o", BLUE, "-"),
    "pca": ("s", ORANGE, (0, (5, 1.5))),
    "raw": ("D", GREEN, (0, (3, 1, 1, 1))),
    "factors": ("^", PURPLE, (0, (1.5, 1))),
    "cell_average": ("X", VERMILLION, (0, (6, 1, 1, 1, 1, 1))),
}
_OTHERS = (("v", SKY, (0, (4, 1))), ("P", GREY, (0, (2, 2))), ("*", INK, (0, (1, 1))))
NAMES = {"latents": "latents", "pca": "PCA", "raw": "raw tracks", "factors": "Avocado factors"}
NAMES |= {"cell_average": "cell average", "prevalence": "prevalence"}
TASKS = {"fire": "FIRE", "promoter_enhancer": "promoter-enhancer contacts"}
TASKS |= {"tad_boundary": "TAD boundaries"}
PREVALENCE = "prevalence"
HEADLINE = ("chromosomes", "contiguous", "shuffled")  # which scheme is drawn if none is asked for
HOW = {"chromosomes": "whole chromosomes held out", "shuffled": "shuffled windows held out"}
HOW |= {"contiguous": "contiguous stretches held out"}
SEEN = {"yes": "the latents were trained on the test chromosomes"}
SEEN |= {"partly": "the latents were trained on some test chromosomes"}
CURVES = 6  # panels of precision-recall curves


def tasks_figure(metrics: pd.DataFrame, scheme: str | None = None) -> Figure:
    """Average precision of every predictor: one panel per task, one row per cell.

    Args:
        metrics: task, cell, scheme, fold, predictor, prevalence, ap, ap_low, ap_high and, if
            known, seen; the rows with fold "mean" are drawn.
        scheme: how folds were cut; None draws whole chromosomes if they are there.
    """
    shown = metrics[metrics["fold"].astype(str) == "mean"].dropna(subset=["ap"])
    scheme = _scheme(shown, scheme)
    shown = shown[shown["scheme"] == scheme]
    if shown.empty:
        return empty("no downstream task has been evaluated yet")
    looks = _looks(shown["predictor"])
    tasks = list(dict.fromkeys(shown["task"]))
    cells = {task: _cells(shown[shown["task"] == task]) for task in tasks}
    heights = [_pitch(len(cells[task]), len(looks)) * len(cells[task]) + 0.75 for task in tasks]
    with style():
        figure = Figure(figsize=(WIDTH, sum(heights) + 0.5))
        figure.set_layout_engine("constrained")
        axes = figure.subplots(len(tasks), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axis, task in zip(axes, tasks, strict=True):
            own = shown[shown["task"] == task]
            _task(axis, own, cells[task], looks)
            axis.set_title(_title(task, scheme, own), loc="left")
        axes[-1].set_xlabel("average precision of the positive class (95% interval)")
        figure.legend(handles=_handles(looks), loc="outside upper left", ncols=len(looks) + 1)
    return figure


def _scheme(shown: pd.DataFrame, scheme: str | None) -> str:
    there = list(dict.fromkeys(shown["scheme"]))
    if scheme is not None or not there:
        return scheme or ""
    return next((name for name in HEADLINE if name in there), there[0])


def _looks(predictors: pd.Series) -> dict[str, tuple]:
    """Marker, colour and line of each predictor but the prevalence, in a fixed order."""
    there = set(predictors) - {PREVALENCE}
    known = {name: look for name, look in PREDICTORS.items() if name in there}
    others = sorted(there - set(known))
    return known | {name: _OTHERS[i % len(_OTHERS)] for i, name in enumerate(others)}


def task_name(task: str) -> str:
    """`gene_expression` -> `gene expression`."""
    return TASKS.get(task, plain(task.replace("_", " ")))


def predictor_name(predictor: str) -> str:
    """`raw` -> `raw tracks`."""
    return NAMES.get(predictor, plain(predictor.replace("_", " ")))


def _cells(own: pd.DataFrame) -> list[str]:
    """Cells, the best of the first predictor on top."""
    first = own[own["predictor"] == next(iter(_looks(own["predictor"])), PREVALENCE)]
    best = first.set_index("cell")["ap"].sort_values(ascending=False, kind="stable")
    return list(dict.fromkeys([*best.index, *own["cell"]]))


def _pitch(cells: int, predictors: int) -> float:
    """Inches of one cell's row: tight where there are many cells."""
    return 0.1 * predictors + 0.12 if cells <= 12 else max(0.26, 0.06 * predictors)


def _title(task: str, scheme: str, own: pd.DataFrame) -> str:
    parts = [task_name(task), HOW.get(scheme, plain(scheme))]
    if "seen" in own:
        latents = own.loc[own["predictor"] == "latents", "seen"].astype(str)
        parts += [text for key, text in SEEN.items() if (latents == key).any()][:1]
    return " · ".join(parts)


def _task(axis: Axes, own: pd.DataFrame, cells: Sequence[str], looks: dict[str, tuple]) -> None:
    place = {cell: row for row, cell in enumerate(cells)}
    offsets = np.linspace(-0.33, 0.33, len(looks)) if len(looks) > 1 else np.zeros(len(looks))
    small = len(cells) > 12
    for offset, (predictor, (marker, colour, _)) in zip(offsets, looks.items(), strict=True):
        rows = own[own["predictor"] == predictor]
        y = rows["cell"].map(place).to_numpy(float) + offset
        thick = predictor == "latents"
        size = (4.5 if small else 6.5) if thick else (3.2 if small else 4.6)
        line = {"color": colour, "linewidth": 1.8 if thick else 1.0, "zorder": 3}
        axis.hlines(y, rows["ap_low"].to_numpy(float), rows["ap_high"].to_numpy(float), **line)
        dot = {"color": colour, "markersize": size, "markeredgewidth": 0, "zorder": 4}
        axis.plot(rows["ap"], y, marker, linestyle="none", **dot)
    for cell, row in place.items():
        at = _chance(own[own["cell"] == cell])
        axis.vlines(at, row - 0.46, row + 0.46, INK, linewidth=1.4, zorder=2)
    _task_axis(axis, cells)


def _chance(rows: pd.DataFrame) -> float:
    """What the predictor that knows only the prevalence scores, else the prevalence itself."""
    own = rows[rows["predictor"] == PREVALENCE]
    return float(own["ap"].iloc[0] if len(own) else rows["prevalence"].mean())


def _task_axis(axis: Axes, cells: Sequence[str]) -> None:
    axis.set_yticks(range(len(cells)), [plain(cell) for cell in cells])
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(len(cells) - 0.5, -0.5)
    for row in range(1, len(cells)):
        axis.axhline(row - 0.5, color=GRID, linewidth=0.8, zorder=1)
    low, high = axis.get_xlim()
    # average precision ends at 0 and 1, and marks at the very edge would be cut in half
    axis.set_xlim(max(low, -0.01), min(high, 1.01))
    axis.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 2.5, 5, 10]))
    axis.grid(axis="x")
    axis.spines["left"].set_visible(False)
    if len(cells) > 12:
        axis.tick_params(axis="x", top=True, labeltop=True)


def _handles(looks: dict[str, tuple], lines: bool = False) -> list[Line2D]:
    found = []
    for name, (marker, colour, dashes) in looks.items():
        mark = {"linestyle": dashes} if lines else {"marker": marker, "linestyle": "none"}
        options = {"color": colour, "markeredgewidth": 0, "label": predictor_name(name)}
        found.append(Line2D([], [], **mark, **options))
    if lines:
        return [*found, Line2D([], [], color=MUTED, linewidth=1, linestyle=":", label="prevalence")]
    tick = {"marker": "|", "linestyle": "none", "markersize": 9, "markeredgewidth": 1.4}
    return [*found, Line2D([], [], color=INK, label="prevalence", **tick)]


# --- curves --------------------------------------------------------------------------------------


def curves_figure(
    curves: pd.DataFrame, metrics: pd.DataFrame | None = None, scheme: str | None = None
) -> Figure:
    """Precision and recall of every predictor, one panel per task and cell, at most 6.

    Args:
        curves: task, cell, scheme, predictor, recall, precision.
        metrics: as in `tasks_figure`; gives the line of the prevalence. Without it the line is
            drawn where the predictor prevalence has a curve.
        scheme: how folds were cut; None draws whole chromosomes if they are there.

    Where there are more than six, every task gives a cell in turn, and the figure says how many
    are left out.
    """
    scheme = _scheme(curves, scheme)
    shown = curves[curves["scheme"] == scheme].dropna(subset=["recall", "precision"])
    looks = _looks(shown["predictor"])
    everything = _in_turn(shown)
    chosen = everything[:CURVES]
    if not chosen:
        return empty("no precision-recall curve yet")
    with style():
        figure, axes = panels(len(chosen), 3, 2.7, sharex=True, sharey=True)
        for axis, (task, cell) in zip(axes, chosen, strict=True):
            own = shown[(shown["task"] == task) & (shown["cell"] == cell)]
            _curve_panel(axis, own, looks, _level(own, metrics, task, cell, scheme))
            axis.set_title(f"{task_name(task)} · {plain(cell)}", loc="left")
        outer_labels(axes, "recall", "precision")
        handles = _handles(looks, lines=True)
        columns = len(handles) if len(axes) > 2 else 3
        figure.legend(handles=handles, loc="outside upper left", ncols=columns)
        note = HOW.get(scheme, plain(scheme))
        if len(everything) > len(chosen):
            note += f"; {len(chosen)} of {len(everything)} pairs of task and cell"
        figure.supxlabel(note, fontsize=8, color=MUTED)
    return figure


def _in_turn(shown: pd.DataFrame) -> list[tuple[str, str]]:
    """(task, cell): the first cell of each task, then the second of each, and so on."""
    pairs = shown[["task", "cell"]].drop_duplicates()
    turn = pairs.groupby("task", sort=False).cumcount()
    tasks = {task: i for i, task in enumerate(dict.fromkeys(pairs["task"]))}
    order = pairs.assign(turn=turn, place=pairs["task"].map(tasks)).sort_values(["turn", "place"])
    chosen = order.head(CURVES).sort_values(["place", "turn"])  # one task's cells side by side
    rest = order.iloc[CURVES:]
    both = pd.concat([chosen, rest])
    return list(zip(both["task"], both["cell"], strict=True))


def _level(
    own: pd.DataFrame, metrics: pd.DataFrame | None, task: str, cell: str, scheme: str
) -> float:
    """The prevalence: precision of a predictor that knows nothing. NaN if not told."""
    chance = own.loc[own["predictor"] == PREVALENCE, "precision"]
    if metrics is None:
        return float(chance.median()) if len(chance) else np.nan
    rows = metrics[(metrics["task"] == task) & (metrics["cell"] == cell)]
    rows = rows[(rows["scheme"] == scheme) & (rows["fold"].astype(str) == "mean")]
    return float(rows["prevalence"].mean()) if len(rows) else np.nan


def _curve_panel(axis: Axes, own: pd.DataFrame, looks: dict[str, tuple], level: float) -> None:
    for predictor, (_, colour, dashes) in looks.items():
        rows = own[own["predictor"] == predictor].sort_values("recall", kind="stable")
        line = {"color": colour, "linestyle": dashes, "drawstyle": "steps-pre"}
        line["linewidth"] = 1.7 if predictor == "latents" else 1.1
        axis.plot(rows["recall"], rows["precision"], **line)
    if np.isfinite(level):
        axis.axhline(level, color=MUTED, linewidth=1, linestyle=":", zorder=1)
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1.02)
    axis.grid(axis="both")
