"""Figure of the eQTL enrichment: fold by decile of the predicted effect, beside the comparators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from epiloom.plan.errors import InputError
from epiloom.show.canvas import (
    BLUE,
    GREEN,
    MUTED,
    ORANGE,
    PAPER,
    PURPLE,
    empty,
    fixed,
    outer_labels,
    panels,
    plain,
    style,
)

SIGNIFICANT = 0.05
LAST = 10  # the decile of the largest predicted loss
COMPARATORS = {  # name: (label, marker, colour), from left to right after the deciles
    "proximity": ("near", "s", ORANGE),
    "activity": ("active", "^", GREEN),
    "hic": ("Hi-C", "D", PURPLE),
    "shifted": ("shifted", "X", MUTED),
}
FIRST = LAST + 2.0  # place of the first comparator
STEP = 1.8  # between comparators
TITLE = "Causal eQTLs in the bins that matter to the model"
CAPTION = (
    "Distal 2-kb bins of expressed genes, sorted by how much prediction is lost without the mark "
    "in the bin (decile 10: most). Vertical: eQTLs of the same gene and tissue in the decile over "
    "the number expected from as many random bins; bar: 95% interval. Right of the line: bins "
    "picked without a model, the nearest, the most active and those in contact with the promoter; "
    "shifted: decile 10 again with every eQTL moved by 2 kb, which must be as random bins. "
    "Filled: p < 0.05 by random draws; numbers above: eQTLs found. q corrects over the panels."
)


def figures(folder: str | Path) -> list[tuple[str, str, Figure]]:
    """(title, caption, figure) of the results folder of the study; [] without its table.

    Raises:
        InputError: the table cannot be read.
    """
    path = Path(folder) / "enrichment.tsv"
    if not path.exists():
        return []
    try:
        table = pd.read_csv(path, sep="\t")
        return [(TITLE, CAPTION, enrichment_figure(table))]
    except (OSError, KeyError, ValueError) as err:
        raise InputError(path, f"cannot be read ({err}); make it again") from err


def enrichment_figure(table: pd.DataFrame) -> Figure:
    """One panel per cell set.

    Args:
        table: rows of enrichment.tsv.
    """
    shown = table.dropna(subset=["fold"])
    sets = list(dict.fromkeys(shown["cells"]))
    if not sets:
        return empty("no causal eQTL lies in a tested bin")
    picked = [name for name in COMPARATORS if (shown["predictor"] == name).any()]
    with style():
        figure, axes = panels(len(sets), columns=2, height=2.7, sharex=True)
        figure.set_size_inches(max(6.0, figure.get_figwidth()), figure.get_figheight())
        for axis, name in zip(axes, sets, strict=True):
            _panel(axis, shown[shown["cells"] == name], picked)
        outer_labels(axes, "decile of the predicted loss, and comparators", "fold enrichment")
        figure.legend(
            handles=[
                _key("o", BLUE, "p < 0.05"),
                _key("o", BLUE, "p ≥ 0.05", markerfacecolor=PAPER),
                Line2D([], [], color=MUTED, linestyle=(0, (4, 2)), label="as random bins"),
            ],
            loc="outside upper left",
            ncols=3,
        )
    return figure


def _key(marker: str, colour: str, label: str, **more: object) -> Line2D:
    return Line2D([], [], marker=marker, color=colour, linestyle="none", label=label, **more)


def _panel(axis: Axes, rows: pd.DataFrame, picked: Sequence[str]) -> None:
    first = rows.iloc[0]
    axis.set_title(f"{plain(first['cells'])} · {_tissues(first['tissues'])}", loc="left")
    axis.axhline(1, color=MUTED, linestyle=(0, (4, 2)), linewidth=0.9, zorder=1)
    axis.grid(axis="y")
    top = _top(rows)
    axis.set_ylim(-0.03 * top, top * 1.22)
    axis.set_yticks(
        [tick for tick in MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(0, top) if tick <= top]
    )
    deciles = rows[rows["predictor"] == "perturbation"]
    _points(axis, deciles, deciles["decile"].to_numpy(float), "o", BLUE, top)
    places = [FIRST + STEP * i for i in range(len(picked))]
    for place, name in zip(places, picked, strict=True):
        _, marker, colour = COMPARATORS[name]
        mine = rows[rows["predictor"] == name]
        _points(axis, mine, np.full(len(mine), place), marker, colour, top)
    if picked:
        axis.axvline(LAST + 1, color=MUTED, linewidth=0.8)
    labels = [*map(str, range(1, LAST + 1)), *(COMPARATORS[name][0] for name in picked)]
    axis.set_xticks([*range(1, LAST + 1), *places], labels)
    axis.tick_params(axis="x", length=0)
    axis.set_xlim(0.4, (places[-1] if places else LAST) + 0.9)
    _say_p(axis, deciles[deciles["decile"] == LAST], top)


def _tissues(text: object, longest: int = 40) -> str:
    """`Brain_Cerebellum+Liver` -> `Brain Cerebellum, Liver`, shortened."""
    told = plain(str(text).replace("+", ", ").replace("_", " "))
    return told if len(told) <= longest else f"{told[: longest - 1]}…"


def _top(rows: pd.DataFrame) -> float:
    """Upper end of the scale: the highest point, and the bars as far as they are not far above."""
    highest = float(rows["fold"].max())
    return max(1.6, min(float(rows["fold_high"].max()), 1.6 * highest))


def _points(
    axis: Axes, rows: pd.DataFrame, x: np.ndarray, marker: str, colour: str, top: float
) -> None:
    fold, high = rows["fold"].to_numpy(float), rows["fold_high"].to_numpy(float)
    axis.vlines(x, rows["fold_low"], np.minimum(high, top), color=colour, linewidth=1.3, zorder=3)
    for place, value, p, hits in zip(x, fold, rows["p"], rows["hits"], strict=True):
        axis.plot(
            place,
            value,
            marker,
            color=colour,
            markersize=5.5,
            markerfacecolor=colour if p < SIGNIFICANT else PAPER,
            markeredgewidth=1.3,
            zorder=4,
        )
        axis.text(place, top * 1.03, str(int(hits)), ha="center", va="bottom", fontsize=7.5)


def _say_p(axis: Axes, row: pd.DataFrame, top: float) -> None:
    if len(row):
        p, q = float(row["p"].iloc[0]), float(row["q"].iloc[0])
        told = f"decile 10: p = {_small(p)}, q = {_small(q)}"
        axis.text(0.55, top * 1.135, told, ha="left", va="bottom", fontsize=8, color=MUTED)


def _small(value: float) -> str:
    return f"{value:.1g}" if 0 < value < 0.001 else fixed(value, 3)
