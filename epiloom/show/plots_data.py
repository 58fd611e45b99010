"""Figures of the data and of the cost: track quality, promoter profiles, time and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FixedFormatter,
    FixedLocator,
    FuncFormatter,
    MaxNLocator,
    MultipleLocator,
    NullLocator,
)

from epiloom.show.canvas import (
    BLUE,
    INK,
    MUTED,
    ORANGE,
    UNITS,
    VERMILLION,
    WIDTH,
    empty,
    outer_labels,
    panels,
    plain,
    style,
)

MAX_MISSING = 0.2  # share of missing bins from which a track is flagged
EXPRESSED, SILENT = 1.0, 0.1  # RPKM: at least / below
QUANTILES = (("q01", "1%"), ("q50", "median"), ("q99", "99%"), ("q999", "99.9%"), ("max", "max"))


# --- quality of the tracks -----------------------------------------------------------------------


def qc_figure(table: pd.DataFrame, flagged: Sequence[str] = ()) -> Figure:
    """All tracks at a glance: one row per track; signal, missing bins, share in promoters.

    Args:
        table: rows of results/qc/tracks.tsv.
        flagged: names of tracks that a warning names; drawn in another colour and with a cross.
    """
    if table.empty:
        return empty("no track has been measured yet")
    table = table.reset_index(drop=True)
    colours = [VERMILLION if name in set(flagged) else BLUE for name in table["track"]]
    markers = ["X" if name in set(flagged) else "o" for name in table["track"]]
    rows = np.arange(len(table))
    with style():
        figure = Figure(figsize=(WIDTH, 0.25 * len(table) + 1.5))
        figure.set_layout_engine("constrained")
        axes = figure.subplots(1, 3, sharey=True, width_ratios=[2.4, 1, 1])
        _signal_ranges(axes[0], table, rows, colours, markers)
        _shares(axes[1], table["missing_fraction"], rows, colours, markers)
        axes[1].set_xlabel("bins without data (%)")
        if axes[1].get_xlim()[1] > 100 * MAX_MISSING:
            limit = {"color": VERMILLION, "linewidth": 0.9, "linestyle": (0, (3, 2))}
            axes[1].axvline(100 * MAX_MISSING, **limit)
            axes[1].set_xlabel(f"bins without data (%)\ndashed: limit {MAX_MISSING:.0%}")
        _shares(axes[2], table["promoter_share"], rows, colours, markers)
        axes[2].set_xlabel("share of signal within\n1 kb of a TSS (%)")
        axes[0].set_yticks(rows, [plain(name) for name in table["track"]])
        axes[0].set_ylim(len(table) - 0.4, -0.6)
        for axis in axes:
            axis.grid(axis="x")
            axis.tick_params(axis="y", length=0)
            axis.spines["left"].set_visible(False)
            if len(table) > 15:
                axis.tick_params(axis="x", top=True, labeltop=True)
            for row in rows[1:]:
                if table["cell"].iloc[row] != table["cell"].iloc[row - 1]:
                    axis.axhline(row - 0.5, color=MUTED, linewidth=0.6)
        figure.legend(handles=_qc_legend(bool(len(flagged))), loc="outside upper left", ncols=6)
    return figure


def _qc_legend(flagged: bool) -> list[Line2D]:
    entries = [
        Line2D([], [], color=MUTED, linewidth=1.2, label="1% to 99.9% of bins"),
        Line2D([], [], color=MUTED, marker="o", linestyle="none", label="median"),
        Line2D([], [], color=INK, marker="d", linestyle="none", label="mean", markersize=4.5),
        Line2D([], [], color=MUTED, marker="|", linestyle="none", label="99%"),
        Line2D([], [], color=MUTED, marker=4, linestyle="none", label="maximum", markersize=4),
    ]
    if flagged:
        entries.append(
            Line2D([], [], color=VERMILLION, marker="X", linestyle="none", label="see warnings")
        )
    return entries


def _signal_ranges(axis: Axes, table: pd.DataFrame, rows, colours, markers) -> None:
    """Quantiles of the bins on an arcsinh axis: linear below 1, logarithmic above."""
    axis.set_xscale("asinh", linear_width=1.0)
    axis.hlines(rows, table["q01"], table["q999"], color=colours, linewidth=1.2)
    axis.plot(table["q99"], rows, "|", color=MUTED, markersize=7)
    axis.plot(table["max"], rows, linestyle="none", marker=4, color=MUTED, markersize=4)
    for row, colour, marker in zip(rows, colours, markers, strict=True):
        axis.plot(table["q50"].iloc[row], row, marker, color=colour, markersize=5)
    axis.plot(table["mean"], rows, "d", color=INK, markersize=4.5, markeredgewidth=0)
    signals = list(dict.fromkeys(table["signal"])) if "signal" in table else []
    unit = UNITS.get(signals[0], "signal") if len(signals) == 1 else "signal, in each track's unit"
    axis.set_xlabel(f"{unit}\nbins of the genome, arcsinh scale")
    _asinh_ticks(axis, float(np.nanmax(table["max"].to_numpy(float))))


def _asinh_ticks(axis: Axes, highest: float) -> None:
    """0, 1, 10, 100, ... up to the highest value (0.1, 0.5 too when that is all there is)."""
    ticks = [0.0, *[10.0**k for k in range(0, 8) if 10.0**k <= max(highest, 1.0)]]
    if highest < 10:
        ticks = [0.0, 0.5, *[t for t in (1.0, 2.0, 5.0) if t <= max(highest, 1.0)]]
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.xaxis.set_minor_locator(NullLocator())


def _shares(axis: Axes, values: pd.Series, rows, colours, markers) -> None:
    percent = 100 * values.to_numpy(float)
    axis.hlines(rows, 0, percent, color=colours, linewidth=1.2)
    for row, colour, marker in zip(rows, colours, markers, strict=True):
        axis.plot(percent[row], row, marker, color=colour, markersize=5)
    top = np.nanmax(percent) if np.isfinite(percent).any() else 1.0
    right = max(1.0, 1.12 * top)
    axis.set_xlim(left=-0.04 * right, right=right)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=4, min_n_ticks=3))


def track_figure(row: Mapping[str, object], values: np.ndarray | None = None) -> Figure:
    """One track: the distribution of its bins, and what part of the genome it covers.

    Args:
        row: one row of the quality table.
        values: the bins themselves ([bins], NaN = missing), for a histogram; None draws the
            quantiles of `row` instead.
    """
    with style():
        figure = Figure(figsize=(8.0, 2.7))
        figure.set_layout_engine("constrained")
        left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
        left.set_title(plain(f"{row['track']}: bins of the genome"), loc="left")
        left.set_xscale("asinh", linear_width=1.0)
        if values is None:
            _quantile_ladder(left, row)
        else:
            _histogram(left, np.asarray(values, np.float64))
        left.set_xlabel(f"{UNITS.get(str(row.get('signal')), 'signal')}, arcsinh scale")
        left.axvline(float(row["mean"]), color=ORANGE, linewidth=1.2, linestyle=(0, (3, 2)))
        left.annotate(
            f"mean {float(row['mean']):.3g}",
            (float(row["mean"]), 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(4, -9),
            textcoords="offset points",
            fontsize=8,
        )
        _track_shares(right, row)
    return figure


def _quantile_ladder(axis: Axes, row: Mapping[str, object]) -> None:
    heights = np.arange(len(QUANTILES))
    points = [float(row[key]) for key, _ in QUANTILES]
    axis.plot(points, heights, "o-", color=BLUE, linewidth=1.2, markersize=5)
    axis.set_yticks(heights, [label for _, label in QUANTILES])
    axis.set_ylabel("quantile")
    axis.set_ylim(-0.5, len(QUANTILES) - 0.3)
    axis.grid(axis="x")
    for x, y in zip(points, heights, strict=True):
        axis.annotate(
            f"{x:.3g}", (x, y), xytext=(6, -10), textcoords="offset points", fontsize=8, color=MUTED
        )
    _asinh_ticks(axis, max(points))


def _histogram(axis: Axes, values: np.ndarray) -> None:
    values = values[np.isfinite(values)]
    high = float(values.max()) if len(values) else 1.0
    low = float(min(values.min(), 0.0)) if len(values) else 0.0
    edges = np.sinh(np.linspace(np.arcsinh(low), np.arcsinh(max(high, 1e-3)), 61))
    axis.hist(values, bins=edges, color=BLUE)
    axis.set_yscale("log")
    axis.set_ylabel("bins (number)")
    _asinh_ticks(axis, high)


def _track_shares(axis: Axes, row: Mapping[str, object]) -> None:
    names = {
        "missing_fraction": "without data",
        "masked_fraction": "gap or blacklist",
        "promoter_share": "signal near TSSs",
    }
    shown = {key: name for key, name in names.items() if key in row}
    heights = np.arange(len(shown))
    percent = [100 * float(row[key]) for key in shown]
    axis.barh(heights, percent, height=0.55, color=BLUE)
    axis.set_yticks(heights, list(shown.values()))
    axis.invert_yaxis()
    axis.set_xlim(0, max(1.0, 1.25 * np.nanmax(percent)) if percent else 1.0)
    axis.set_xlabel("share (%)")
    axis.grid(axis="x")
    for y, value in zip(heights, percent, strict=True):
        text = "undefined" if np.isnan(value) else f"{value:.1f}%"
        axis.annotate(
            text, (np.nan_to_num(value), y), xytext=(4, 0), textcoords="offset points", va="center"
        )


# --- profiles around the TSS ---------------------------------------------------------------------


def mean_profile(features: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over genes and half-width of its 95% interval (normal), both [bins]; NaN is left out."""
    part = np.asarray(features[np.flatnonzero(chosen)], np.float64)
    known = np.isfinite(part)
    count = known.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, part, 0).sum(axis=0) / count
        spread = np.where(known, (part - mean) ** 2, 0).sum(axis=0) / (count - 1)
        return mean, 1.96 * np.sqrt(spread / count)


def profile_figure(
    tracks: Mapping[str, tuple[np.ndarray, np.ndarray, str]], bin_bp: int = 100
) -> Figure:
    """Mean signal around the TSS of expressed and of silent genes, one panel per track.

    Args:
        tracks: panel title -> (features [genes, bins] in transcription direction, RPKM [genes],
            signal kind). The window is centred on the TSS, bins of `bin_bp`.

    Genes with RPKM >= 1 count as expressed, below 0.1 as silent; those between are left out.
    """
    if not tracks:
        return empty("no promoter features yet")
    with style():
        figure, axes = panels(len(tracks), columns=4, height=2.0, sharex=True)
        for axis, (title, (features, rpkm, _)) in zip(axes, tracks.items(), strict=True):
            counts = _profile(axis, features, rpkm, bin_bp)
            axis.set_title(f"{plain(title)}\n{counts}", loc="left", linespacing=1.35)
        signals = {signal for *_, signal in tracks.values()}
        unit = UNITS.get(signals.pop(), "signal") if len(signals) == 1 else "signal"
        outer_labels(axes, "position from TSS (kb)", f"mean {unit}".replace(" (", "\n("))
        figure.legend(
            handles=[
                Line2D([], [], color=BLUE, label=f"expressed (RPKM ≥ {EXPRESSED:g})"),
                Line2D(
                    *([], []),
                    color=ORANGE,
                    linestyle=(0, (4, 1.5)),
                    label=f"silent (RPKM < {SILENT:g})",
                ),
            ],
            loc="outside upper left",
            ncols=2,
        )
    return figure


def _profile(axis: Axes, features: np.ndarray, rpkm: np.ndarray, bin_bp: int) -> str:
    """Draw both groups' means with their bands; returns how many genes they hold."""
    bins = features.shape[1]
    kb = (np.arange(bins) - bins / 2 + 0.5) * bin_bp / 1000
    expressed, silent = rpkm >= EXPRESSED, rpkm < SILENT
    groups = ((expressed, BLUE, "-"), (silent, ORANGE, (0, (4, 1.5))))
    for chosen, colour, line in groups:
        if chosen.sum() < 2:
            continue
        mean, half = mean_profile(features, chosen)
        axis.fill_between(kb, mean - half, mean + half, color=colour, alpha=0.25, lw=0)
        axis.plot(kb, mean, color=colour, linewidth=1.3, linestyle=line)
    counts = f"{expressed.sum():,} / {silent.sum():,} genes"
    axis.set_ylim(bottom=0)
    axis.axvline(0, color=MUTED, linewidth=0.8, linestyle=(0, (1, 1.5)))
    # a fixed number of ticks: else the layout may widen the labels after it made room for them
    axis.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axis.xaxis.set_major_locator(MultipleLocator(10 if bins * bin_bp > 20_000 else 2))
    return counts


# --- cost ----------------------------------------------------------------------------------------

MIN_SHOWN = 0.01  # a measured zero, on a logarithmic axis
_TICKS = {1: "1 s", 10: "10 s", 60: "1 min", 600: "10 min", 3600: "1 h", 36000: "10 h"}
_TICKS |= {0.1: "0.1 s", 360000: "100 h"}


def duration(seconds: float) -> str:
    """Seconds as people say them: `0.4 s`, `12 s`, `3.5 min`, `2.1 h`."""
    if not np.isfinite(seconds):
        return "not measured"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5940 else f"{seconds / 3600:.1f} h"


def memory(megabytes: float) -> str:
    """`450 MB` or `2.1 GB`."""
    if not np.isfinite(megabytes):
        return "not measured"
    return f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1000:.1f} GB"


def cost_figure(benchmarks: pd.DataFrame) -> Figure:
    """Time and peak memory of every measured job, one row per rule (dots: jobs, bar: median).

    Args:
        benchmarks: columns rule, seconds, memory_mb.
    """
    if benchmarks.empty:
        return empty("no benchmark yet")
    order = benchmarks.groupby("rule")["seconds"].sum().sort_values(ascending=False).index
    counts = benchmarks["rule"].value_counts()
    with style():
        figure = Figure(figsize=(WIDTH, 0.34 * len(order) + 1.2))
        figure.set_layout_engine("constrained")
        axes = figure.subplots(1, 2, sharey=True, width_ratios=[1.6, 1])
        for row, rule in enumerate(order):
            jobs = benchmarks[benchmarks["rule"] == rule]
            for axis, values in zip(axes, (jobs["seconds"], jobs["memory_mb"] / 1000), strict=True):
                values = values.dropna().to_numpy(float).clip(min=MIN_SHOWN)
                axis.plot(
                    values, np.full(len(values), row), "o", color=BLUE, alpha=0.5, ms=5, mew=0
                )
                if len(values):
                    axis.plot(np.median(values), row, "|", color=INK, markersize=11, mew=1.6)
        labels = [f"{rule} ({counts[rule]} job{'s' if counts[rule] > 1 else ''})" for rule in order]
        axes[0].set_yticks(range(len(order)), [plain(label) for label in labels])
        axes[0].set_ylim(len(order) - 0.4, -0.6)
        _time_axis(axes[0], benchmarks["seconds"].to_numpy(float))
        axes[0].set_xlabel("time per job (logarithmic; bar: median)")
        axes[1].set_xlabel("peak memory per job (GB)")
        axes[1].set_xlim(left=0)
        axes[1].xaxis.set_major_locator(MaxNLocator(nbins=5))
        for axis in axes:
            axis.grid(axis="x")
            axis.tick_params(axis="y", length=0)
            axis.spines["left"].set_visible(False)
    return figure


def _time_axis(axis: Axes, seconds: np.ndarray) -> None:
    seconds = seconds[np.isfinite(seconds) & (seconds > 0)]
    axis.set_xscale("log")
    if len(seconds):
        axis.set_xlim(seconds.min() / 1.6, seconds.max() * 1.6)
    low, high = axis.get_xlim()
    ticks = sorted(tick for tick in _TICKS if low <= tick <= high)
    if len(ticks) < 2:  # all jobs take about as long: name the ends instead
        ticks = [seconds.min(), seconds.max()] if len(seconds) else [1]
        labels = [duration(tick) for tick in ticks]
    else:
        labels = [_TICKS[tick] for tick in ticks]
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_major_formatter(FixedFormatter(labels))
    axis.xaxis.set_minor_locator(NullLocator())
