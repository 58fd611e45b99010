"""A region in cells that were asked about: what is predicted, what was measured, what is usual."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from epiloom.plan.errors import InputError
from epiloom.show.canvas import BLUE, ORANGE, WIDTH, fixed, plain, style
from epiloom.show.genes_lane import genes_lane
from epiloom.show.plots_region import (
    COLUMNS,
    DRAWN,
    LEFT,
    TOP,
    Place,
    Row,
    _label,
    _stacked,
    means,
)

MEASURED = "#C4C4C4"  # light enough for two lines over it
KINDS = ("predicted", "observed", "mean")
CELL_UNITS = {"pval": "−log10 p", "fold_change": "fold change", "reads": "reads per bin"}


def cell_region_figure(
    table: pd.DataFrame,
    place: Place,
    kind: str = "",
    scale: str = "linear",
    genes: pd.DataFrame | None = None,
    title: str = "",
) -> Figure:
    """Draw every cell and signal of a region, one row each, as log(1 + signal).

    Of linear signals a few peaks would hide all others, and models are trained on the logarithm.

    Args:
        table: chrom, start, end, cell, signal, predicted, observed, mean (`region_table`).
        kind: of the signals (pval, fold_change, reads), for their unit. scale: of the values,
            linear or log1p.
        genes: gene_id, gene_name, chrom, tss, strand, gene_start, gene_end; None: no lane.

    Raises:
        InputError: no bin of the table lies in the region.
    """
    own = place.holds(table)
    if own.empty:
        where = f"figure of {place.chrom}:{place.start}-{place.end}"
        raise InputError(where, "the table has no bin there; predict this region first")
    if scale == "linear":
        own = own.assign(**{name: np.log1p(own[name].clip(lower=0)) for name in KINDS})
    pairs = own.groupby(["cell", "signal"], sort=False)
    merged = max(1, -(-max(map(len, pairs.indices.values())) // COLUMNS))
    drawn = {pair: _grids(rows, merged) for pair, rows in pairs}
    high = {s: _highest([g for (_, t), g in drawn.items() if t == s]) for _, s in drawn}
    height = 0.5 if len(drawn) <= 9 else 0.38 if len(drawn) <= 24 else 0.3
    rows: list[Row] = [
        (height, _row(f"{cell} · {signal}", *grids, high[signal], _said(part)))
        for ((cell, signal), grids), (_, part) in zip(drawn.items(), pairs, strict=True)
    ]
    if genes is not None:
        body = genes.dropna(subset=["gene_start", "gene_end"])
        rows.append(genes_lane(place.holds(body, "gene_start", "gene_end"), place, DRAWN))
    unit = f"log(1 + {CELL_UNITS.get(kind, 'signal')})"
    with style():
        figure = _stacked(rows, place)
        _head(figure, place, title, unit, merged)
    return figure


def _grids(rows: pd.DataFrame, merged: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Edges [n + 1] and values [n] of each kind, means of `merged` neighbours."""
    starts = rows["start"].to_numpy()
    step = int(starts[1] - starts[0]) if len(starts) > 1 else int(rows["end"].iloc[0]) - starts[0]
    values = {kind: means(rows[kind].to_numpy(float), merged) for kind in KINDS}
    edges = starts[0] + merged * step * np.arange(len(values["mean"]) + 1)
    edges[-1] = rows["end"].max()
    return edges, values


def _highest(grids: list[tuple[np.ndarray, dict[str, np.ndarray]]]) -> float:
    """The highest value of a signal in any cell."""
    every = np.concatenate([values for _, of in grids for values in of.values()])
    return max(float(every[np.isfinite(every)].max(initial=0)), 1e-6)


def _said(rows: pd.DataFrame) -> str:
    """How well prediction and mean go with what was measured."""
    told = {}
    for kind in ("predicted", "mean"):
        both = rows[[kind, "observed"]].dropna().to_numpy(float)
        flat = len(both) < 3 or (both.min(axis=0) == both.max(axis=0)).any()
        told[kind] = np.nan if flat else float(np.corrcoef(both.T)[0, 1])
    if rows["observed"].isna().all():
        return "not\nmeasured"
    return f"r {fixed(told['predicted'], 2)}\nmean {fixed(told['mean'], 2)}"


def _row(
    name: str, edges: np.ndarray, values: dict[str, np.ndarray], high: float, said: str
) -> Callable[[Axes], None]:
    def draw(axis: Axes) -> None:
        axis.stairs(values["observed"], edges, fill=True, color=MEASURED, linewidth=0)
        axis.stairs(values["mean"], edges, baseline=None, color=ORANGE, linewidth=0.8)
        axis.stairs(values["predicted"], edges, baseline=None, color=BLUE, linewidth=1.3)
        axis.set_ylim(0, high * 1.02)
        axis.set_yticks([high], [f"{high:.3g}"], fontsize=7)
        _label(axis, name)
        right = {"transform": axis.transAxes, "va": "center", "fontsize": 7.5, "linespacing": 1.1}
        axis.text(1 + 0.08 / DRAWN, 0.5, said, **right)

    return draw


def _head(figure: Figure, place: Place, title: str, unit: str, merged: int) -> None:
    """Title and legend."""
    height, span = figure.get_figheight(), place.end - place.start
    size = f"{span / 1e6:,.2f} Mb" if span >= 1e6 else f"{span / 1e3:,.1f} kb"
    size += f", drawn as means of {merged} bins" if merged > 1 else ""
    where = f"{plain(place.chrom)}:{place.start:,}–{place.end:,} ({size})"
    text = f"{plain(title)} · {where}" if title else where
    figure.text(0.1 / WIDTH, 1 - 0.1 / height, text, va="top", fontsize=10)
    handles = [
        Line2D([], [], color=BLUE, linewidth=1.3, label=f"predicted, {plain(unit)}"),
        Patch(color=MEASURED, label="measured"),
        Line2D([], [], color=ORANGE, linewidth=0.8, label="mean of the training cells"),
    ]
    corner = (LEFT / WIDTH, 1 - (TOP - 0.06) / height)
    options = {"ncols": len(handles), "borderaxespad": 0, "borderpad": 0, "handlelength": 1.4}
    figure.legend(handles=handles, loc="lower left", bbox_to_anchor=corner, **options)
