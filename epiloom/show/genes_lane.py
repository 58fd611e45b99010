"""Genes of a region under its tracks: bodies with names, packed in lanes so that none overlap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from epiloom.show.canvas import INK, MUTED, plain

LANES = 6  # of more, only the bodies are drawn, one lane per strand
LANE, STRAND = 0.29, 0.14  # inches of a lane with and without names
LETTER = 0.072  # inches, width of a letter of a name


def genes_lane(
    genes: pd.DataFrame, place: Any, inches: float
) -> tuple[float, Callable[[Axes], None]]:
    """Height of the genes' row in inches, and what draws it.

    Args:
        genes: gene_id, gene_name, tss, strand, gene_start, gene_end of those in the region.
        place: the region (start, end); inches: its width on paper.
    """
    genes = genes.sort_values(["gene_start", "gene_end"], kind="stable")
    scale = inches / (place.end - place.start)
    found = [_extent(row, place, scale) for row in genes.itertuples()]
    lanes = packed([extent for extent, _ in found])
    count = max(lanes, default=0) + 1
    named = count <= LANES
    if not named:
        lanes, count = [int(strand == "-") for strand in genes["strand"]], 2

    def draw(axis: Axes) -> None:
        axis.set_ylim(count - 0.5, -0.5)
        axis.set_yticks([])
        axis.spines["left"].set_visible(False)
        for row, lane, (_, middle) in zip(genes.itertuples(), lanes, found, strict=True):
            _body(axis, row, lane + 0.22 * named, place, scale, named)
            if named:
                text = {"ha": "center", "va": "center", "fontsize": 7.5, "style": "italic"}
                axis.text(middle, lane - 0.2, plain(_name(row)), **text)
        _side(axis, len(genes), named, inches)

    return count * (LANE if named else STRAND), draw


def _side(axis: Axes, count: int, named: bool, inches: float) -> None:
    """What stands left of the row."""
    text = "genes" if count else "genes (none)"
    if not named:
        text = f"{count:,} genes\nabove: + strand, below: −"
    side = {"transform": axis.transAxes, "ha": "left", "va": "center", "fontsize": 8.5}
    axis.text(-1.8 / inches, 0.5, text, linespacing=1.0, **side)


def _name(row: Any) -> str:
    name = getattr(row, "gene_name", None)
    return str(name) if isinstance(name, str) and name else str(row.gene_id)


def _extent(row: Any, place: Any, scale: float) -> tuple[tuple[float, float], float]:
    """Stretch that body and name take, and the middle of the name, all within the region."""
    low, high = max(row.gene_start, place.start), min(row.gene_end, place.end)
    half = len(_name(row)) * LETTER / scale / 2
    middle = (low + high) / 2
    middle = max(place.start + half, min(middle, place.end - half))
    return (min(low, middle - half), max(high, middle + half)), middle


def packed(extents: list[tuple[float, float]]) -> list[int]:
    """Lane of each stretch: the first in which it touches none before it. Sorted by start."""
    ends: list[float] = []
    lanes = []
    for low, high in extents:
        lane = next((k for k, end in enumerate(ends) if end < low), len(ends))
        ends[lane : lane + 1] = [high]
        lanes.append(lane)
    return lanes


def _body(axis: Axes, row: Any, y: float, place: Any, scale: float, named: bool) -> None:
    """A line, and if there is room arrowheads along it and a bar at the TSS."""
    low, high = max(row.gene_start, place.start), min(row.gene_end, place.end)
    width = 1.2 if named else 4.0
    axis.plot([low, high], [y, y], color=INK, linewidth=width, solid_capstyle="butt")
    if not named:
        return
    heads = max(1, int((high - low) * scale / 0.35))
    x = low + (np.arange(heads) + 0.5) * (high - low) / heads
    marker = ">" if row.strand == "+" else "<"
    axis.plot(x, np.full(heads, y), marker, color=INK, markersize=3.5, markeredgewidth=0)
    if place.start <= row.tss < place.end:
        axis.plot([row.tss, row.tss], [y - 0.2, y + 0.2], color=MUTED, linewidth=1.6)
