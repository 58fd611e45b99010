"""Figures of a latent annotation: reconstruction, smoothness, correlations, positions, attribution.

Every function takes plain tables, made by `epiloom/studies/annotation.py` and
`annotation_places.py`, and returns a `matplotlib.figure.Figure`; `canvas.save` writes it as PNG.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

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
    VERMILLION,
    WIDTH,
    empty,
    fixed,
    plain,
    style,
)
from epiloom.show.plots_latent_region import LATENT_REGION_CAPTION, latent_region_figure
from epiloom.show.plots_latent_tasks import curves_figure, tasks_figure

__all__ = [
    "LATENT_REGION_CAPTION",
    "attribution_figure",
    "correlation_figure",
    "curves_figure",
    "latent_region_figure",
    "positions_figure",
    "reconstruction_figure",
    "smoothness_figure",
    "tasks_figure",
]

NAMES = {"epi_lstm": "Epi-LSTM", "pca": "PCA", "gc": "GC content", "conservation": "conservation"}
LOOKS = (("o", BLUE), ("s", ORANGE), ("D", GREEN), ("^", PURPLE))  # marker and colour together
LOWEST = -0.2  # R2 below this is drawn as an arrow: one track could flatten all others
BARS = 25  # rows of the attribution; the rest is added up in the last


def said(name: str) -> str:
    """How an annotation or a property is called in a figure."""
    return NAMES.get(name, plain(name.replace("_", " ")))


# --- reconstruction ------------------------------------------------------------------------------


def reconstruction_figure(
    table: pd.DataFrame, methods: Sequence[str] = ("epi_lstm", "pca")
) -> Figure:
    """How well each track is reconstructed from the latents: a dot per track, in columns by assay.

    Args:
        table: track, assay, method, r2 (on the test chromosomes; NaN = undefined, left out).
        methods: the first decides the order of the assays (best median first); dots of one track
            are joined. Methods without a row are left out.

    Short bars: medians. Arrows at the lower edge: R2 below the axis.
    """
    known = table.dropna(subset=["r2"])
    wide = known.pivot_table(index=["assay", "track"], columns="method", values="r2")
    methods = [method for method in methods if method in wide]
    if not methods:
        return empty("no track has been reconstructed yet")
    middle = wide.groupby("assay")[methods[0]].median()
    assays = list(middle.sort_values(ascending=False, kind="stable").index)
    offsets = np.linspace(-0.2, 0.2, len(methods)) if len(methods) > 1 else np.zeros(1)
    width = min(WIDTH, max(5.0, 0.4 * len(assays) + 1.5))
    low = max(LOWEST, min(0.0, float(wide[methods].min().min()) - 0.03))
    with style():
        figure = Figure(figsize=(width, 4.0))
        figure.set_layout_engine("constrained")
        axis = figure.subplots()
        for place, assay in enumerate(assays):
            _assay(axis, wide.loc[assay, methods].to_numpy(float), place + offsets, low)
        _reconstruction_axis(axis, assays, wide.groupby("assay").size(), low)
        handles = [
            Line2D([], [], marker=m, color=c, linestyle="none", markersize=5, label=said(name))
            for (m, c), name in zip(LOOKS, methods, strict=False)
        ]
        handles.append(Line2D([], [], color=INK, linewidth=2, label="median"))
        if (wide[methods] < low).any(axis=None):
            below = {"marker": "v", "linestyle": "none", "label": f"below {fixed(low, 1)}"}
            handles.append(Line2D([], [], color=MUTED, **below))
        figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))
    return figure


def _assay(axis: Axes, values: np.ndarray, x: np.ndarray, low: float) -> None:
    """The tracks of one assay: values [tracks, methods], one x per method."""
    drawn = np.maximum(values, low)
    alpha = float(np.clip(20 / max(len(values), 1), 0.3, 0.9))
    axis.plot(x, drawn.T, color=GREY, linewidth=0.6, alpha=0.6 * alpha, zorder=2)
    for column, (marker, colour) in enumerate(LOOKS[: values.shape[1]]):
        own = values[:, column]
        options = {"linestyle": "none", "color": colour, "markeredgewidth": 0, "zorder": 3}
        inside, below = own >= low, own < low
        at = np.full(len(own), x[column])
        axis.plot(at[inside], own[inside], marker, markersize=4, alpha=alpha, **options)
        axis.plot(at[below], np.full(below.sum(), low), "v", markersize=6, clip_on=False, **options)
        if np.isfinite(own).any():
            half = 0.14
            middle = max(float(np.nanmedian(own)), low)
            axis.hlines(middle, x[column] - half, x[column] + half, INK, linewidth=1.8, zorder=4)


def _reconstruction_axis(axis: Axes, assays: list[str], counts: pd.Series, low: float) -> None:
    labels = [f"{plain(assay)} ({counts[assay]})" for assay in assays]
    many = len(assays) > 6
    turn = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if many else {}
    axis.set_xticks(range(len(assays)), labels, **turn)
    axis.set_xlim(-0.6, len(assays) - 0.4)
    axis.set_ylim(low, 1.0)
    axis.set_ylabel("R² on the test chromosomes")
    axis.set_xlabel("assay (number of tracks)")
    axis.grid(axis="y")
    if low < 0:
        axis.axhline(0, color=MUTED, linewidth=0.9, zorder=1)


# --- smoothness ----------------------------------------------------------------------------------


def smoothness_figure(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """R2 between the latents at two positions, by their distance.

    Args:
        curves: annotation ("epi_lstm", "pca") -> bp, r2, as `annotation.smoothness` makes them.
    """
    known = {name: table.dropna(subset=["r2"]).sort_values("bp") for name, table in curves.items()}
    known = {name: table for name, table in known.items() if len(table)}
    if not known:
        return empty("no pair of usable positions to compare")
    with style():
        figure = Figure(figsize=(5.6, 3.4))
        figure.set_layout_engine("constrained")
        axis = figure.subplots()
        for (name, table), (marker, colour) in zip(known.items(), LOOKS, strict=False):
            line = {"color": colour, "linewidth": 1.5, "markersize": 5, "markeredgewidth": 0}
            axis.plot(table["bp"], table["r2"], marker=marker, label=said(name), **line)
        axis.set_xscale("log")
        _distances(axis, np.concatenate([table["bp"] for table in known.values()]))
        axis.set_ylim(0, 1.02)
        axis.set_xlabel("distance between two positions")
        axis.set_ylabel("R² (mean over latents)")
        axis.grid(axis="both")
        figure.legend(loc="outside upper left", ncols=len(known))
    return figure


def _distances(axis: Axes, bp: np.ndarray) -> None:
    """Ticks at powers of ten with their unit, from bp to Mb."""
    low, high = float(bp.min()), float(bp.max())
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    axis.xaxis.set_major_locator(FixedLocator(powers))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(lambda x, _: distance(x))
    axis.set_xlim(low / 1.35, high * 1.35)


def distance(bp: float) -> str:
    """100 bp, 10 kb, 1 Mb."""
    for size, unit in ((1e6, "Mb"), (1e3, "kb")):
        if bp >= size:
            return f"{bp / size:g} {unit}"
    return f"{bp:g} bp"


# --- correlations --------------------------------------------------------------------------------


def correlation_figure(table: pd.DataFrame) -> Figure:
    """Pearson r of each latent with GC and conservation.

    Args:
        table: latent, value, r, as `annotation.correlations` makes it. Latents are in the order of
            their r with the first value; those without any r are left out.
    """
    known = table.dropna(subset=["r"])
    if known.empty:
        return empty("no latent has a correlation yet")
    wide = known.pivot(index="latent", columns="value", values="r")
    values = [value for value in dict.fromkeys(table["value"]) if value in wide]
    wide = wide.sort_values(values[0], kind="stable")
    x = np.arange(len(wide))
    with style():
        figure = Figure(figsize=(min(WIDTH, max(5.0, 0.28 * len(wide) + 1.2)), 3.3))
        figure.set_layout_engine("constrained")
        axis = figure.subplots()
        axis.vlines(x, wide.min(axis=1), wide.max(axis=1), color=GRID, linewidth=2.5, zorder=2)
        for value, (marker, colour) in zip(values, LOOKS, strict=False):
            look = {"color": colour, "linestyle": "none", "markersize": 5.5, "markeredgewidth": 0}
            axis.plot(x, wide[value], marker, label=said(value), zorder=3, **look)
        axis.axhline(0, color=MUTED, linewidth=0.9, zorder=1)
        step = -(-len(x) // 45)  # numbers of three digits still stand apart
        axis.set_xticks(x[::step], wide.index[::step], fontsize=7 if len(x) > 24 else 8)
        axis.set_xlim(-0.7, len(x) - 0.3)
        reach = max(0.1, 1.08 * float(wide.abs().max().max()))
        axis.set_ylim(-min(reach, 1.05), min(reach, 1.05))
        axis.set_xlabel(f"latent (number), ordered by r with {said(values[0])}")
        axis.set_ylabel("Pearson r over bins")
        axis.grid(axis="y")
        figure.legend(loc="outside upper left", ncols=len(values))
    return figure


# --- positions -----------------------------------------------------------------------------------


def positions_figure(table: pd.DataFrame, explained: Sequence[float]) -> Figure:
    """Sampled bins on the two main axes of their latents, by class (left) and by cluster (right).

    Args:
        table: pc1, pc2, class, cluster, as in `annotation_places.Positions.table`.
        explained: shares of the variance on the two axes.
    """
    if table.empty:
        return empty("no bin to draw: none is usable")
    # one random order for both panels: no class or cluster hides the others by being drawn last
    shown = table.sample(frac=1, random_state=0)
    with style():
        figure = Figure(figsize=(WIDTH, 4.7))
        figure.set_layout_engine("constrained")
        axes = figure.subplots(1, 2, sharex=True, sharey=True)
        for axis, column in zip(axes, ("class", "cluster"), strict=True):
            groups = list(dict.fromkeys(table[column]))
            groups = sorted(groups) if column == "cluster" else groups
            _cloud(axis, shown, column, groups)
            axis.set_xlabel(f"component 1 ({100 * explained[0]:.0f}% of the variance)")
        axes[0].set_ylabel(f"component 2 ({100 * explained[1]:.0f}% of the variance)")
        axes[1].tick_params(labelleft=False)
    return figure


def _cloud(axis: Axes, shown: pd.DataFrame, column: str, groups: list) -> None:
    palette = (VERMILLION, BLUE, GREY) if column == "class" else CYCLE
    colours = {group: palette[i % len(palette)] for i, group in enumerate(groups)}
    points = axis.scatter(
        shown["pc1"],
        shown["pc2"],
        s=float(np.clip(20_000 / len(shown), 5, 25)),
        c=shown[column].map(colours).to_list(),
        alpha=0.55,
        linewidths=0,
    )
    points.set_rasterized(True)
    counts = shown[column].value_counts()
    handles = []
    for group in groups:
        name = f"{column} {group}" if column == "cluster" else plain(group)
        label = f"{name} ({counts[group]:,})"
        dot = {"marker": "o", "linestyle": "none", "markersize": 6, "markeredgewidth": 0}
        handles.append(Line2D([], [], color=colours[group], label=label, **dot))
    axis.grid(axis="both")
    axis.xaxis.set_major_locator(MaxNLocator(6))
    axis.yaxis.set_major_locator(MaxNLocator(6))
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1.01), "borderaxespad": 0}
    axis.legend(handles=handles, ncols=3, handletextpad=0.2, columnspacing=1.2, **place)


# --- attribution ---------------------------------------------------------------------------------


def attribution_figure(table: pd.DataFrame) -> Figure:
    """Shares of |gradient x input| by assay (left) and by epigenome (right).

    Args:
        table: kind, name, share, channels, as `annotation.attribution` makes it. Of more than 25
            names the rest are added up in the last row.

    The upright mark on a bar is the share of channels: what it would be were all channels alike.
    """
    kinds = [kind for kind in ("assay", "epigenome") if (table["kind"] == kind).any()]
    if not kinds:
        return empty("no attribution yet")
    parts = {kind: _shortened(table[table["kind"] == kind]) for kind in kinds}
    longest = max(len(rows) + bool(len(rest)) for rows, rest in parts.values())
    with style():
        figure = Figure(figsize=(WIDTH if len(kinds) > 1 else 5.5, 0.19 * longest + 1.2))
        figure.set_layout_engine("constrained")
        axes = figure.subplots(1, len(kinds), squeeze=False)[0]
        for axis, (kind, (rows, rest)) in zip(axes, parts.items(), strict=True):
            _bars(axis, rows, rest, kind)
            axis.set_ylim(longest - 0.4, -0.6)  # bars equally thick in both
        handles = [
            Line2D([], [], color=BLUE, linewidth=6, label="share of |gradient × input|"),
            Line2D([], [], color=INK, marker="|", linestyle="none", markersize=9,
                   markeredgewidth=1.6, label="share of the channels"),
        ]  # fmt: skip
        figure.legend(handles=handles, loc="outside upper left", ncols=2)
    return figure


def _shortened(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """Name, share and share of channels in %, of the largest; the sums of the rest, empty if none.

    The rest is told, not drawn: its bar would be longer than all others.
    """
    rows = rows.sort_values("share", ascending=False, kind="stable")
    expected = 100 * rows["channels"] / rows["channels"].sum()
    rows = pd.DataFrame({"name": rows["name"], "share": 100 * rows["share"], "expected": expected})
    if len(rows) <= BARS:
        return rows, pd.Series(dtype=float)
    rest = rows.iloc[BARS - 1 :]
    return rows.iloc[: BARS - 1], rest[["share", "expected"]].sum().rename(str(len(rest)))


def _bars(axis: Axes, rows: pd.DataFrame, rest: pd.Series, kind: str) -> None:
    y = np.arange(len(rows))
    axis.barh(y, rows["share"], 0.72, color=BLUE)
    axis.plot(rows["expected"], y, "|", color=INK, markersize=9, markeredgewidth=1.6)
    labels = [plain(name) for name in rows["name"]]
    if len(rest):
        labels.append(f"{rest.name} others")
        told = f" together {rest['share']:.0f}% (of the channels {rest['expected']:.0f}%)"
        axis.text(0, len(y), told, va="center", fontsize=8, color=MUTED)
    axis.set_yticks(range(len(labels)), labels)
    axis.tick_params(axis="y", length=0)
    axis.set_xlim(left=0)
    axis.set_xlabel("share of the attribution (%)")
    axis.set_title(f"by {kind}", loc="left")
    axis.grid(axis="x")
