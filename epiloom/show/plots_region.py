"""A region as a genome browser shows it: predicted and observed tracks, conservation, genes, peaks.

Drawn with matplotlib alone. pyGenomeTracks would bring thirty packages and an older matplotlib, and
has no pairs of rows that share a scale and carry their correlation.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from epiloom.plan.errors import InputError
from epiloom.show.canvas import BLUE, GREEN, GREY, ORANGE, WIDTH, fixed, plain, style
from epiloom.show.genes_lane import genes_lane

CAPTION = (
    "Predicted and, where known, observed signal per bin; the rows of a track share their scale, "
    "from 0 to the number on the left. r: Pearson correlation of log2(x + 1) over the bins shown. "
    "Genes: body as a line, bar at the TSS, arrowheads in the direction of transcription."
)
COLUMNS = 1000  # of more bins the means of neighbours are drawn
LEFT, RIGHT, TOP, BOTTOM = 1.9, 0.75, 0.62, 0.5  # inches around the rows
DRAWN = WIDTH - LEFT - RIGHT

Row = tuple[float, Callable[[Axes], None]]  # height in inches, what draws it


@dataclass(frozen=True)
class Place:
    """The region drawn: 0-based, half-open."""

    chrom: str
    start: int
    end: int

    def holds(self, table: pd.DataFrame, start: str = "start", end: str = "end") -> pd.DataFrame:
        """The rows of a table that overlap the region."""
        inside = (table[start] < self.end) & (table[end] > self.start)
        return table[inside & (table["chrom"] == self.chrom)]


def region_figure(
    table: pd.DataFrame,
    place: Place,
    units: str = "signal",
    conservation: np.ndarray | None = None,
    genes: pd.DataFrame | None = None,
    peaks: pd.DataFrame | None = None,
    title: str = "",
) -> Figure:
    """Draw the tracks of a region.

    Args:
        table: chrom, start, end, track, predicted[, observed]; rows outside `place` are left out.
        units: of predicted and observed, such as "reads per base".
        conservation: uint8 (x 255) or 0 to 1, per base of the region, [end - start].
        genes: gene_id, gene_name, chrom, tss, strand, gene_start, gene_end.
        peaks: chrom, start, end and, if each belongs to one track, track.
        title: stands in front of the coordinates.

    Raises:
        InputError: no bin of the table lies in the region; conservation of another length.
    """
    own = place.holds(table)
    _check(own, place, conservation)
    names = list(dict.fromkeys(own["track"]))
    seen = "observed" in own and bool(own["observed"].notna().any())
    rows, merged = [], 1
    for name in names:
        added, merged = _track(own[own["track"] == name], place, seen, _height(len(names), seen))
        rows += added
        if peaks is not None and "track" in peaks:
            rows.append((0.1, _peaks(place.holds(peaks[peaks["track"] == name]))))
    if peaks is not None and "track" not in peaks:
        rows.append((0.2, _peaks(place.holds(peaks), "peaks")))
    if conservation is not None:
        rows.append((0.4, _conservation(conservation, place)))
    if genes is not None:
        rows.append(genes_lane(place.holds(genes, "gene_start", "gene_end"), place, DRAWN))
    with style():
        figure = _stacked(rows, place)
        _head(figure, place, title, units, seen, peaks is not None, merged)
    return figure


def _check(own: pd.DataFrame, place: Place, conservation: np.ndarray | None) -> None:
    where, problems = f"{place.chrom}:{place.start}-{place.end}", []
    if own.empty:
        problems.append("the table has no bin there; predict this region first")
    if conservation is not None and len(conservation) != place.end - place.start:
        problems.append(
            f"{len(conservation)} values of conservation for {place.end - place.start} bases; "
            "give one per base"
        )
    if problems:
        raise InputError(f"figure of {where}", problems)


def _height(tracks: int, seen: bool) -> float:
    """Inches of one row of a track: less where there are many."""
    few = 0.5 if tracks <= 4 else 0.36 if tracks <= 10 else 0.28
    return few if seen else few * 1.25


def _stacked(rows: list[Row], place: Place) -> Figure:
    """Rows under each other, all with the coordinates of the region."""
    gap = 0.06
    height = TOP + BOTTOM + sum(h + gap for h, _ in rows)
    figure = Figure(figsize=(WIDTH, height))
    top = height - TOP
    for inches, draw in rows:
        box = (LEFT / WIDTH, (top - inches) / height, DRAWN / WIDTH, inches / height)
        axis = figure.add_axes(box)
        axis.set_xlim(place.start, place.end)
        axis.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]))
        axis.grid(axis="x")
        axis.tick_params(bottom=False, labelbottom=False)
        draw(axis)
        top -= inches + gap
    _coordinates(axis, place)
    return figure


def _coordinates(axis: Axes, place: Place) -> None:
    """kb or Mb under the lowest row, with as many decimals as the steps need."""
    unit, name = (1e3, "kb") if place.end - place.start < 500_000 else (1e6, "Mb")
    ticks = axis.get_xticks()
    step = (ticks[1] - ticks[0]) / unit if len(ticks) > 1 else 1.0
    digits = next((d for d in range(7) if math.isclose(step, round(step, d))), 6)
    axis.xaxis.set_major_formatter(lambda x, _: f"{x / unit:,.{digits}f}")
    axis.tick_params(bottom=True, labelbottom=True)
    axis.set_xlabel(f"{plain(place.chrom)} ({name})")


def _head(
    figure: Figure, place: Place, title: str, units: str, seen: bool, peaks: bool, merged: int
) -> None:
    """Title and legend."""
    height = figure.get_figheight()
    span = place.end - place.start
    size = f"{span / 1e6:,.2f} Mb" if span >= 1e6 else f"{span / 1e3:,.1f} kb"
    size += f", drawn as means of {merged} bins" if merged > 1 else ""
    where = f"{plain(place.chrom)}:{place.start:,}–{place.end:,} ({size})"
    text = f"{plain(title)} · {where}" if title else where
    figure.text(0.1 / WIDTH, 1 - 0.1 / height, text, va="top", fontsize=10)
    handles = [Patch(color=BLUE, label=f"predicted ({plain(units)})")]
    handles += [Patch(color=GREY, label=f"observed ({plain(units)})")] if seen else []
    handles += [Patch(color=ORANGE, label="peak")] if peaks else []
    corner = (LEFT / WIDTH, 1 - (TOP - 0.06) / height)
    options = {"ncols": len(handles), "borderaxespad": 0, "borderpad": 0, "handlelength": 1.2}
    figure.legend(handles=handles, loc="lower left", bbox_to_anchor=corner, **options)


def _label(axis: Axes, text: str, lines: int = 2, low: float = 0.5) -> None:
    """What a row shows, left of it."""
    parts = textwrap.wrap(text, 22, max_lines=lines, placeholder=" …", break_on_hyphens=False)
    left = -(LEFT - 0.1) / DRAWN
    place = {"transform": axis.transAxes, "ha": "left", "va": "center"}
    axis.text(left, low, plain("\n".join(parts)), fontsize=8.5, linespacing=1.0, **place)


# ---- signals -------------------------------------------------------------------------------------


def _track(rows: pd.DataFrame, place: Place, seen: bool, height: float) -> tuple[list[Row], int]:
    """Rows of one track on one scale, and how many bins are drawn as one."""
    kinds = {"predicted": BLUE, "observed": GREY} if seen else {"predicted": BLUE}
    grids = {kind: _grid(rows, kind) for kind in kinds}
    merged = max(merged for *_, merged in grids.values())
    drawn = np.concatenate([values[np.isfinite(values)] for _, values, _ in grids.values()])
    high = max(float(drawn.max(initial=0)), 1e-6)
    low = min(0.0, float(drawn.min(initial=0)))
    name = str(rows["track"].iloc[0])
    said = None
    if seen:
        r = _agreement(rows["observed"].to_numpy(float), rows["predicted"].to_numpy(float))
        said = f"r {fixed(r, 2)}" if r is not None else "r undefined"

    def draw(kind: str) -> Callable[[Axes], None]:
        def on(axis: Axes) -> None:
            edges, values, _ = grids[kind]
            axis.stairs(values, edges, fill=True, color=kinds[kind], linewidth=0)
            axis.set_ylim(low, high * 1.02)
            axis.set_yticks([high], [f"{high:.3g}" if kind == "predicted" else ""], fontsize=7)
            if kind == "predicted":
                _label(axis, name, 2 + seen, 0.0 if seen else 0.5)
                if said:
                    right = {"transform": axis.transAxes, "va": "center", "fontsize": 8.5}
                    axis.text(1 + 0.08 / DRAWN, 0.0, said, **right)

        return on

    return [(height, draw(kind)) for kind in kinds], merged


def _agreement(observed: np.ndarray, predicted: np.ndarray) -> float | None:
    """r of log2(x + 1) where both are there, below 0 counts as 0; None if undefined."""
    there = np.isfinite(observed) & np.isfinite(predicted)
    sides = [np.log2(np.maximum(values[there], 0) + 1) for values in (observed, predicted)]
    if there.sum() < 2 or any(side.min() == side.max() for side in sides):
        return None
    return float(np.corrcoef(*sides)[0, 1])


def _grid(rows: pd.DataFrame, kind: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Edges [n + 1] and values [n] from the first to the last bin, NaN between; bins per value."""
    starts, ends = rows["start"].to_numpy(), rows["end"].to_numpy()
    step = int((ends - starts).max())
    base = int(starts.min())
    at = (starts - base) // step
    dense = np.full(int(at.max()) + 1, np.nan)
    dense[at] = rows[kind].to_numpy()
    merged = -(-len(dense) // COLUMNS)
    values = means(dense, merged)
    edges = base + merged * step * np.arange(len(values) + 1)
    edges[-1] = ends.max()
    return edges, values, merged


def means(values: np.ndarray, group: int) -> np.ndarray:
    """Means of every `group` neighbours (fewer in the last), NaN left out; NaN if all are."""
    padded = np.pad(values, (0, -len(values) % group), constant_values=np.nan).reshape(-1, group)
    there = np.isfinite(padded)
    count = there.sum(axis=1)
    sums = np.where(there, padded, 0).sum(axis=1)
    return np.where(count > 0, sums / np.maximum(count, 1), np.nan)


def _conservation(values: np.ndarray, place: Place) -> Callable[[Axes], None]:
    scaled = values.astype(np.float64) / (255 if values.dtype == np.uint8 else 1)
    group = -(-len(scaled) // COLUMNS)
    shown = means(scaled, group)
    edges = np.minimum(place.start + group * np.arange(len(shown) + 1), place.end)

    def draw(axis: Axes) -> None:
        axis.stairs(shown, edges, fill=True, color=GREEN, linewidth=0)
        axis.set_ylim(0, 1)
        axis.set_yticks([1], ["1"], fontsize=7)
        _label(axis, "conservation")

    return draw


def _peaks(peaks: pd.DataFrame, label: str = "") -> Callable[[Axes], None]:
    def draw(axis: Axes) -> None:
        for row in peaks.itertuples():
            axis.axvspan(row.start, row.end, 0.1, 0.9, color=ORANGE, linewidth=0.6)
        axis.set_yticks([])
        axis.spines[["left", "bottom"]].set_visible(False)
        if label:
            _label(axis, label)

    return draw
