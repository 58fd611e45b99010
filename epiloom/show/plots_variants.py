"""Figures of variants, saturation mutagenesis and motifs, with letters drawn to scale.

Letters are outlines of the figure font (matplotlib's TextPath), so no further library is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from epiloom.data.geometry import Geometry
from epiloom.show.canvas import (
    BLUE,
    DIVERGING,
    GREEN,
    GREY,
    INK,
    MUTED,
    ORANGE,
    VERMILLION,
    WIDTH,
    empty,
    fixed,
    outer_labels,
    panels,
    plain,
    style,
)
from epiloom.studies.motif_discovery import Found
from epiloom.studies.motif_matching import information
from epiloom.studies.mutagenesis import Map
from epiloom.studies.planted import CLEAR
from epiloom.studies.planted_variants import KEY
from epiloom.studies.variants import Effect, bin_start

# told apart with the common colour blindnesses, and the letters themselves tell
LETTERS = dict(zip("ACGT", (GREEN, BLUE, ORANGE, VERMILLION), strict=True))

IN_SITE = {"color": BLUE, "alpha": 0.7, "label": "in a site"}
ELSEWHERE = {"color": GREY, "label": "elsewhere"}

VARIANT_CAPTION = (
    "Predicted track with the reference (grey) and the alternative allele (blue), and below their "
    "difference (alternative minus reference), averaged over strands and shifts. Dashed: the "
    "variant. Beyond an insertion or deletion the alleles are compared base by base, so a peak "
    "that only moved shows as neighbouring gain and loss with sum 0; inserted or deleted bases do "
    "not count."
)


@cache
def _outline(letter: str) -> Path:
    """Outline of a letter, stretched to the unit square."""
    path = TextPath(
        (0, 0), letter, size=1, prop=FontProperties(family="DejaVu Sans", weight="bold")
    )
    box = path.get_extents()
    to_unit = Affine2D().translate(-box.x0, -box.y0).scale(1 / box.width, 1 / box.height)
    return path.transformed(to_unit)


def draw_logo(axis: Axes, heights: np.ndarray, start: float = 0) -> None:
    """Draw letters at start, start + 1, ... with their heights; negative ones hang below 0.

    Args:
        heights: [4, P] (A, C, G, T). Several letters of a place are stacked, the largest outermost.
    """
    heights = np.nan_to_num(np.asarray(heights, float))
    for place in range(heights.shape[1]):
        column = heights[:, place]
        for sign in (1, -1):
            level = 0.0
            for k in np.argsort(np.abs(column), kind="stable"):
                if column[k] * sign <= 0:
                    continue
                letter = "ACGT"[k]
                box = Affine2D().scale(0.92, column[k]).translate(start + place - 0.46, level)
                axis.add_patch(
                    PathPatch(_outline(letter).transformed(box), color=LETTERS[letter], lw=0)
                )
                level += column[k]
    total = [np.where(heights * sign > 0, heights, 0).sum(axis=0) for sign in (1, -1)]
    top, bottom = float(total[0].max(initial=0)), float(total[1].min(initial=0))
    room = 0.05 * max(top - bottom, 1e-9)
    axis.set_ylim(bottom - room * (bottom < 0), top + room if top > bottom else 1)
    axis.set_xlim(start - 0.5, start + heights.shape[1] - 0.5)


def _position_ticks(axis: Axes, first: int, count: int, room: int) -> None:
    """Ticks at round 1-based positions under columns 0, 1, ...; the axis has `room` columns."""
    step = next(s for s in (5, 10, 20, 50, 100, 200, 500, 1000, 10**6) if room / s <= 8)
    places = [k for k in range(count) if (first + k + 1) % step == 0]
    axis.set_xticks(places, [f"{first + k + 1:,}" for k in places])


# --- one variant ----------------------------------------------------------------------------------


def variant_figure(
    effect: Effect,
    row: pd.Series,
    geometry: Geometry,
    tracks: Sequence[str],
    around_bp: int | None = None,
) -> Figure:
    """Both alleles and their difference over the predicted window, a pair of panels per track.

    Args:
        row: the variant (chrom, position, ref, alt, id). tracks: names, in the order of the model.
        around_bp: show only bins within this distance of the variant; None: all.
    """
    starts = bin_start(effect, np.arange(geometry.bins), geometry)
    middle = starts + geometry.bin_bp / 2
    shown = np.ones(len(starts), bool)
    if around_bp:
        shown = np.abs(middle - effect.edit.first) <= around_bp + geometry.bin_bp
    ref, alt, change = effect.ref.mean(axis=0), effect.alt.mean(axis=0), effect.change
    x = middle[shown] / 1000
    place = (effect.edit.first + 0.5) / 1000
    with style():
        figure = Figure(figsize=(WIDTH, 1.9 * len(tracks) + 0.9))
        figure.set_layout_engine("constrained")
        heights = [2, 1] * len(tracks)
        grid = figure.subplots(2 * len(tracks), 1, sharex=True, height_ratios=heights)
        for t, track in enumerate(tracks):
            above, below = grid[2 * t], grid[2 * t + 1]
            above.fill_between(x, ref[t, shown], step="mid", color=GREY, alpha=0.35, lw=0)
            above.step(x, ref[t, shown], where="mid", color=GREY, lw=1.2, label="reference")
            above.step(x, alt[t, shown], where="mid", color=BLUE, lw=1.0, label="alternative")
            above.set_ylim(bottom=min(0, float(ref[t, shown].min())))
            above.set_title(plain(track), loc="left")
            gain = np.clip(change[t, shown], 0, None)
            loss = np.clip(change[t, shown], None, 0)
            below.fill_between(x, gain, step="mid", color=BLUE, lw=0)
            below.fill_between(x, loss, step="mid", color=VERMILLION, lw=0)
            below.axhline(0, color=MUTED, linewidth=0.8)
            most = max(float(np.abs(change[t, shown]).max()), 1e-9)
            below.set_ylim(-1.1 * most, 1.1 * most)
            below.text(
                *(1, 0.97, f"sum {fixed(float(change[t].sum()), 2)}"),
                **{"transform": below.transAxes, "ha": "right", "va": "top", "color": MUTED},
            )
            for axis in (above, below):
                axis.axvline(place, color=INK, linewidth=0.8, linestyle=(0, (4, 2)))
            above.set_ylabel("predicted")
            below.set_ylabel("alt − ref")
        grid[-1].set_xlabel(f"{row['chrom']} (kb)")
        grid[-1].ticklabel_format(useOffset=False, style="plain")
        named = f"{row['id']}  " if row.get("id") else ""
        alleles = " > ".join(a if len(a) < 13 else f"{a[:10]}…" for a in (row["ref"], row["alt"]))
        title = f"{named}{row['chrom']}:{row['position'] + 1:,}  {alleles}"
        figure.suptitle(plain(title), x=0.01, ha="left", fontsize=10)
        handles, labels = grid[0].get_legend_handles_labels()
        grid[0].legend(handles, labels, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return figure


# --- a map ----------------------------------------------------------------------------------------


def map_figure(found: Map, track: int = 0, span: tuple[int, int] | None = None) -> Figure:
    """Logo of the mean effect above the heat map of all substitutions, lines of 100 bases.

    Args:
        span: part of the interval, 0-based on the chromosome; None: all of it.
    """
    first, last = span or (found.start, found.start + len(found.bases))
    part = slice(max(first - found.start, 0), max(last - found.start, 0))
    effect, logo = found.effect[track][:, part], found.logo()[track][:, part]
    bases, start = found.bases[part], found.start + part.start
    if not len(bases) or not np.isfinite(effect).any():
        return empty("No known base in this part of the interval")
    per_line = min(100, len(bases))
    lines = -(-len(bases) // per_line)
    most = max(float(np.nanmax(np.abs(effect))), 1e-9)
    tall = [float(np.max(logo, initial=0)), float(np.min(logo, initial=0))]
    with style():
        figure = Figure(figsize=(WIDTH, 1.9 * lines + 0.7))
        figure.set_layout_engine("constrained")
        grid = figure.subplots(2 * lines, 1, height_ratios=[1.1, 1] * lines, squeeze=False)[:, 0]
        for line in range(lines):
            here = slice(line * per_line, (line + 1) * per_line)
            above, below = grid[2 * line], grid[2 * line + 1]
            draw_logo(above, logo[:, here])
            room = 0.05 * max(tall[0] - tall[1], 1e-9)
            above.set_ylim(tall[1] - room, tall[0] + room)
            above.axhline(0, color=MUTED, linewidth=0.8)
            above.set_ylabel("worth (signal)")
            above.spines["bottom"].set_visible(False)
            picture = _heat(below, effect[:, here], bases[here], most)
            _position_ticks(below, start + here.start, len(bases[here]), per_line)
            for axis in (above, below):
                axis.set_xlim(-0.5, per_line - 0.5)
            above.set_xticks([])
        grid[-1].set_xlabel(f"{found.chrom}, 1-based position")
        figure.colorbar(picture, ax=list(grid), shrink=min(1, 1.2 / lines), label="effect (signal)")
        title = f"{found.tracks[track]}, {found.chrom}:{start + 1:,}-{start + len(bases):,}"
        figure.suptitle(plain(title), x=0.01, ha="left", fontsize=10)
    return figure


def _heat(axis: Axes, effect: np.ndarray, bases: np.ndarray, most: float) -> object:
    picture = axis.imshow(
        effect,
        cmap=DIVERGING,
        norm=TwoSlopeNorm(0, -most, most),
        aspect="auto",
        interpolation="nearest",
    )
    known = np.flatnonzero(bases < 4)
    axis.plot(known, bases[known], ".", color=INK, markersize=2)
    axis.set_yticks(range(4), list("ACGT"))
    axis.tick_params(axis="y", length=0)
    return picture


# --- motifs ---------------------------------------------------------------------------------------


def motifs_figure(
    found: Sequence[Found], matches: pd.DataFrame, known: dict[str, np.ndarray]
) -> Figure:
    """A row per motif: its logo, that of the best known motif turned and moved to it, and numbers.

    Args:
        matches: as `studies.motif_matching.match` gives it. known: name -> probabilities [W, 4].
    """
    if not found:
        return empty("No motif was found in the attributions")
    with style():
        figure = Figure(figsize=(WIDTH, 0.95 * len(found) + 0.6))
        figure.set_layout_engine("constrained")
        grid = figure.subplots(len(found), 3, squeeze=False, width_ratios=[2, 3, 3])
        by_name = matches.set_index("motif")
        for axes, motif in zip(grid, found, strict=True):
            row = by_name.loc[motif.name]
            own, theirs = motif.contribution, information(known[row["match"]])
            if row["strand"] == "-":
                theirs = theirs[::-1, ::-1]
            first = min(0, int(row["offset"]))
            last = max(len(own), len(theirs) + int(row["offset"]))
            draw_logo(axes[1], own.T)
            draw_logo(axes[2], theirs.T, int(row["offset"]))
            for axis in axes[1:]:
                axis.set_xlim(first - 0.5, last - 0.5)
                axis.set_xticks([])
                axis.axhline(0, color=MUTED, linewidth=0.6)
                axis.spines["bottom"].set_visible(False)
            axes[1].locator_params(axis="y", nbins=3)
            axes[2].set_ylim(0, 2)
            axes[2].set_yticks([0, 2])
            axes[0].axis("off")
            shown = f"{motif.name}, {int(row['seqlets']):,} sites"
            axes[0].text(0, 0.92, plain(shown), va="top", fontweight="bold")
            text = f"{row['match']}\nr = {fixed(row['score'], 2)}, q = {row['q']:.2g}"
            axes[0].text(0, 0.62, plain(text), va="top", color=MUTED)
        grid[0][1].set_title("found: mean contribution", loc="left")
        grid[0][2].set_title("known: bits", loc="left")
    return figure


def planted_figure(scores: pd.DataFrame, truth: pd.DataFrame) -> Figure:
    """Predicted change of planted variants against their true effect, a panel per track.

    Args:
        scores: track ({cell}-{mark}), local_ref, local_alt, and `planted_variants.KEY` (position
            1-based). truth: as `planted_variants.read_truth` gives it.
    """
    both = scores.assign(position=scores["position"] - 1).merge(truth, on=KEY)
    cells = {str(t): f"effect_{str(t).split('-')[0]}" for t in both["track"].unique()}
    shown = [track for track, column in cells.items() if column in both][:6]
    if not shown:
        return empty("No variant of the simulation was scored")
    with style():
        figure, axes = panels(len(shown), columns=3, height=2.6, sharey=True)
        score = (both["local_alt"] - both["local_ref"]).to_numpy(float)
        high = 1.08 * max(1e-6, np.quantile(np.abs(score), 0.995))
        wide = 1.08 * max(CLEAR, both[[cells[t] for t in shown]].astype(float).abs().max(axis=None))
        for axis, track in zip(axes, shown, strict=True):
            own = (both["track"] == track).to_numpy()
            site = (both["where"] == "site").to_numpy()
            effect = both[cells[track]].to_numpy(float)
            for chosen, look in ((own & site, IN_SITE), (own & ~site, ELSEWHERE)):
                axis.scatter(effect[chosen], score[chosen], s=9, **look)
            axis.set_xlim(-wide, wide)
            axis.set_ylim(-high, high)
            for left, low in ((-wide, 0), (0, -high)):
                axis.add_patch(Rectangle((left, low), wide, high, color="#F1F1F1", zorder=0))
            axis.axhline(0, color=MUTED, linewidth=0.6)
            axis.axvline(0, color=MUTED, linewidth=0.6)
            axis.set_title(plain(track), loc="left")
        outer_labels(
            axes, "true change of activity (0 to 1)", "predicted change nearby (unit of the track)"
        )
        axes[0].legend(loc="lower right")
    return figure
