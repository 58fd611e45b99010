"""A region with its latent annotation: genes, some tracks, and below them the latents as rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from scipy.cluster.hierarchy import leaves_list, linkage

from epiloom.plan.errors import InputError
from epiloom.show.canvas import BLUE, DIVERGING, GREY, WIDTH, plain, style
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

LATENT_REGION_CAPTION = (
    "Genes, signal of some tracks (arcsinh) and, below, every latent of the annotation as a row; "
    "the colour scale is symmetric and ends at the 99th percentile of the absolute values drawn. "
    "Hatched: bins in an assembly gap, on the blacklist, or without data in any track; their "
    "values are left out. Of more bins than the figure has columns, means are drawn."
)
TRACKS = 8  # more cannot be told apart beside the latents
PAPER_GREY = "#E4E4E4"  # as light as possible while the hatch still stands out on it
COLOURS = DIVERGING.with_extremes(bad=(1, 1, 1, 0))  # where nothing is drawn the hatch shows
HATCH = {"facecolor": PAPER_GREY, "edgecolor": GREY, "hatch": "//////", "linewidth": 0}


@dataclass(frozen=True)
class _Bins:
    """The bins drawn: the first one's number, how many, how many per column, which may be drawn."""

    bin_bp: int
    first: int
    masked: np.ndarray  # bool [bins]
    merged: int

    @property
    def edges(self) -> np.ndarray:
        """Coordinates of the columns' edges, in bases."""
        count = len(self.masked)
        columns = -(-count // self.merged)
        steps = np.minimum(np.arange(columns + 1) * self.merged, count)
        return (self.first + steps) * self.bin_bp

    def columns(self, values: np.ndarray) -> np.ndarray:
        """Means per column of [bins] without masked bins; NaN where all are masked or missing."""
        return means(np.where(self.masked, np.nan, values), self.merged)

    def hidden(self) -> list[tuple[int, int]]:
        """Stretches of columns that hold masked bins only, [start, end) in bases."""
        whole = np.isnan(self.columns(np.zeros(len(self.masked))))
        steps = np.flatnonzero(np.diff(np.concatenate([[0], whole, [0]])))
        return [(int(self.edges[a]), int(self.edges[b])) for a, b in steps.reshape(-1, 2)]


def latent_region_figure(
    latents: np.ndarray,
    mask: np.ndarray,
    place: Place,
    tracks: Mapping[str, np.ndarray] | None = None,
    genes: pd.DataFrame | None = None,
    *,
    order: str = "similar",
    centred: bool = False,
    title: str = "",
    first_bin: int = 0,
    bin_bp: int = 25,
) -> Figure:
    """Draw the latents of a region below its genes and tracks.

    Args:
        latents: [bins, H]; mask: flags [bins], 0 usable. Row 0 is bin `first_bin` of the
            chromosome, so either the whole chromosome (or its memory map) or a part can be given.
        place: the region; from 10 kb to a chromosome.
        tracks: name -> arcsinh of the signal, [bins]; NaN where there is none. The first 8.
        genes: gene_id, gene_name, chrom, tss, strand, gene_start, gene_end.
        order: of the latents: "similar" puts correlated ones side by side, "number" keeps theirs.
        centred: subtract each latent's mean over the region, so that constant offsets do not hide
            what changes.
        title: stands in front of the coordinates.

    Raises:
        InputError: no bin of the region is in the arrays, arrays of other lengths, unknown order.
    """
    tracks = dict(list((tracks or {}).items())[:TRACKS])
    low, high = _within(latents, mask, place, tracks, order, first_bin, bin_bp)
    masked = np.asarray(mask[low:high]) != 0
    bins = _Bins(bin_bp, first_bin + low, masked, -(-(high - low) // COLUMNS))
    image = _image(np.asarray(latents[low:high]), bins, centred)
    rows: list[Row] = []
    if genes is not None:
        own = place.holds(genes.dropna(subset=["gene_start", "gene_end"]), "gene_start", "gene_end")
        rows.append(genes_lane(own, place, DRAWN))
    height = 0.42 if len(tracks) <= 4 else 0.34
    for name, values in tracks.items():
        rows.append((height, _track(name, bins, np.asarray(values[low:high], float))))
    scale = _scale(image)
    kept = _order(image) if order == "similar" else np.arange(len(image))
    rows.append((_heights(len(image)), _heat(image, kept, bins, scale)))
    with style():
        figure = _stacked(rows, place)
        _colours(figure, scale, centred)
        _head(figure, place, title, bins, bool(tracks))
    return figure


def _within(
    latents: np.ndarray,
    mask: np.ndarray,
    place: Place,
    tracks: Mapping[str, np.ndarray],
    order: str,
    first_bin: int,
    bin_bp: int,
) -> tuple[int, int]:
    """Rows of the arrays that lie in the region."""
    problems = []
    if np.ndim(latents) != 2 or not latents.shape[1]:
        raise InputError("latents", f"shape {np.shape(latents)}; give [bins, latents]")
    count = len(latents)
    for name, values in {"the mask": mask, **tracks}.items():
        if np.shape(values) != (count,):
            problems.append(f"{name} has shape {np.shape(values)}, the latents {count} bins")
    low = max(place.start // bin_bp - first_bin, 0)
    high = min(-(-place.end // bin_bp) - first_bin, count)
    if low >= high:
        have = f"bins {first_bin} to {first_bin + count}"
        problems.append(f"no bin of the region is there ({have} are); annotate it first")
    if order not in ("similar", "number"):
        problems.append(f"order {order!r} is neither 'similar' nor 'number'")
    if problems:
        raise InputError(f"figure of {place.chrom}:{place.start}-{place.end}", problems)
    return low, high


def _image(latents: np.ndarray, bins: _Bins, centred: bool) -> np.ndarray:
    """Means per latent and column, [H, columns]; NaN where no bin may be drawn."""
    image = np.array([bins.columns(values) for values in latents.T])
    if not centred:
        return image
    known = np.isfinite(image)
    sums = np.where(known, image, 0).sum(axis=1, keepdims=True)
    return image - sums / np.maximum(known.sum(axis=1, keepdims=True), 1)


def _heights(latents: int) -> float:
    """Inches of the heat map: rows that still carry a number each up to 40 latents."""
    return max(0.5, min(0.145 * latents, 5.0))


def _scale(image: np.ndarray) -> float:
    """Where the symmetric colour scale ends."""
    values = np.abs(image[np.isfinite(image)])
    return max(float(np.percentile(values, 99)), 1e-6) if len(values) else 1.0


def _order(image: np.ndarray) -> np.ndarray:
    """Rows so that correlated ones are neighbours: leaves of average linkage on 1 - r."""
    known = image[:, np.isfinite(image).all(axis=0)]
    if len(image) < 3 or known.shape[1] < 3:
        return np.arange(len(image))
    centred = known - known.mean(axis=1, keepdims=True)
    size = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = np.divide(centred, size, out=np.zeros_like(centred), where=size > 1e-9)
    apart = np.clip(1 - unit @ unit.T, 0, 2)
    upper = np.triu_indices(len(apart), 1)
    return leaves_list(linkage(apart[upper], "average", optimal_ordering=True))


def _hatch(axis: Axes, bins: _Bins) -> None:
    for start, end in bins.hidden():
        axis.axvspan(start, end, zorder=0.5, **HATCH)


def _track(name: str, bins: _Bins, values: np.ndarray) -> Callable[[Axes], None]:
    shown = bins.columns(values)
    there = shown[np.isfinite(shown)]
    high = max(float(there.max(initial=0)), 1e-6)
    low = min(0.0, float(there.min(initial=0)))

    def draw(axis: Axes) -> None:
        axis.stairs(shown, bins.edges, fill=True, color=BLUE, linewidth=0)
        _hatch(axis, bins)
        axis.set_ylim(low, high * 1.02)
        axis.set_yticks([high], [f"{high:.2g}" if len(there) else ""], fontsize=7)
        _label(axis, name)

    return draw


def _heat(
    image: np.ndarray, order: np.ndarray, bins: _Bins, scale: float
) -> Callable[[Axes], None]:
    def draw(axis: Axes) -> None:
        count = len(image)
        rows = np.arange(count + 1) - 0.5
        shown = np.ma.masked_invalid(image[order])
        options = {"cmap": COLOURS, "vmin": -scale, "vmax": scale, "rasterized": True}
        axis.pcolormesh(bins.edges, rows, shown, linewidth=0, **options)
        _hatch(axis, bins)
        axis.grid(False)
        axis.set_ylim(count - 0.5, -0.5)
        step = max(1, -(-count // 40))
        ticks = np.arange(0, count, step)
        axis.set_yticks(ticks, [str(order[k] + 1) for k in ticks], fontsize=6.5)
        axis.tick_params(axis="y", length=0, pad=2)
        axis.spines["left"].set_visible(False)
        _label(axis, "latents (number)" if count > 3 else "latents")

    return draw


def _colours(figure: Figure, scale: float, centred: bool) -> None:
    """The colour scale right of the latents."""
    heat = figure.axes[-1].get_position()
    height = min(heat.height, 2.2 / figure.get_figheight())
    inches = WIDTH
    box = (heat.x1 + 0.12 / inches, heat.y1 - height, 0.12 / inches, height)
    axis = figure.add_axes(box)
    colours = ScalarMappable(Normalize(-scale, scale), COLOURS)
    bar = figure.colorbar(colours, cax=axis, extend="both", extendfrac=0.04)
    ticks = [-scale, 0, scale]
    bar.set_ticks(ticks, labels=[f"{x:.2g}".replace("-", "−") for x in ticks])
    bar.ax.tick_params(labelsize=7, length=2, pad=2)
    bar.outline.set_visible(False)
    bar.set_label("latent − its mean" if centred else "latent (no unit)", fontsize=7.5, labelpad=1)


def _head(figure: Figure, place: Place, title: str, bins: _Bins, tracks: bool) -> None:
    """Title and legend."""
    height = figure.get_figheight()
    span = place.end - place.start
    size = f"{span / 1e6:,.2f} Mb" if span >= 1e6 else f"{span / 1e3:,.1f} kb"
    size += f", drawn as means of {bins.merged} bins" if bins.merged > 1 else ""
    where = f"{plain(place.chrom)}:{place.start:,}–{place.end:,} ({size})"
    text = f"{plain(title)} · {where}" if title else where
    figure.text(0.1 / WIDTH, 1 - 0.1 / height, text, va="top", fontsize=10)
    handles = [Patch(color=BLUE, label="signal (arcsinh)")] if tracks else []
    if bins.hidden():
        handles.append(Patch(label="gap, blacklist or no data", **HATCH))
    if handles:
        corner = (LEFT / WIDTH, 1 - (TOP - 0.06) / height)
        options = {"ncols": len(handles), "borderaxespad": 0, "borderpad": 0, "handlelength": 1.2}
        figure.legend(handles=handles, loc="lower left", bbox_to_anchor=corner, **options)
