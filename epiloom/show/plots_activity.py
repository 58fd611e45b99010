"""Figures of the mark activity: profiles around the TSS, r by mark and window, groups compared.

They are drawn from the tables in `results/mark_activity/`, so nothing is computed again here.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, MultipleLocator

from epiloom.data.files import atomic
from epiloom.plan.errors import InputError
from epiloom.show.canvas import (
    BLUE,
    GRID,
    INK,
    MUTED,
    ORANGE,
    PAPER,
    PURPLE,
    VERMILLION,
    WIDTH,
    empty,
    outer_labels,
    panels,
    plain,
    predictor_name,
    save,
    style,
)
from epiloom.show.plots import PREDICTORS
from epiloom.studies.groups import GROUPS

POOLED = "pooled"
SIGNIFICANT = 0.05  # largest q of a filled mark
MEASURES = {
    **{name: look for name, look in PREDICTORS.items() if name.startswith("activity_")},
    "gene_score": ("P", VERMILLION),
    "gene_score_unbounded": ("X", INK),
}
NAMES = {"gene_score": "gene score", "gene_score_unbounded": "gene score, unbounded"}
SETS = {
    "all": ("o", BLUE, "all genes"),
    "expressed": ("^", ORANGE, "expressed"),
    "not_expressed": ("v", PURPLE, "not expressed"),
}
_TEXT = dict.fromkeys(("cell", "group", "mark", "fold", "genes", "group_a", "group_b"), str)
_DASHED = (0, (4, 1.5))


@dataclass(frozen=True)
class Drawing:
    """A figure, the name of its file without suffix, and what to write above and below it."""

    name: str
    title: str
    caption: str
    figure: Figure


def figures(folder: str | Path) -> list[tuple[str, str, Figure]]:
    """(title, caption, figure) of everything that the tables in `folder` allow; [] without any."""
    return [(one.title, one.caption, one.figure) for one in drawings(folder)]


def drawings(folder: str | Path) -> Iterator[Drawing]:
    """The figures of `results/mark_activity` in the order of the report.

    Raises:
        InputError: a table that is there cannot be read.
    """
    tables = {name: _read(Path(folder) / f"{name}.tsv") for name in ("summary", "groups")}
    if tables["summary"] is not None:
        yield Drawing(
            "correlation",
            "Activity and expression",
            "Pearson r of each mark's activity with log2(RPKM + 1), test genes of all folds "
            "together, nothing fitted. Marks of one row side by side show which window tells most; "
            "left of zero, more signal goes with less expression.",
            correlation_figure(tables["summary"]),
        )
    if tables["groups"] is not None:
        yield Drawing(
            "groups",
            "Activity by group of cells",
            "Rank-biserial effect of the 6-kb activity between groups of cells: 1 if every value "
            "of the first group is above every value of the second, 0 if neither is. Filled: "
            f"q < {SIGNIFICANT:g} (Mann-Whitney, Benjamini-Hochberg). Thousands of genes make "
            "small effects significant, and libraries differ in depth: judge by the effect.",
            group_figure(tables["groups"]),
        )
    profiles = _read(Path(folder) / "profiles.tsv")
    if profiles is None:
        return
    captions = {
        "6kb": "training genes, mean of the folds",
        "40kb": "all genes",
    }
    for cell in dict.fromkeys(profiles["cell"]):
        for window, which in captions.items():
            yield Drawing(
                f"profiles_{window}.{cell}",
                f"Profiles around the TSS, {cell}, {window[:-2]} kb",
                f"Signal around the transcription start site, {which}, in the direction of "
                "transcription: mean (line) and middle half of the genes (band) by label; "
                "expressed is at or above the cell's median.",
                profile_figure(profiles[profiles["cell"] == cell], window),
            )


def _read(path: Path) -> pd.DataFrame | None:
    if not path.exists():
        return None
    try:
        return pd.read_csv(path, sep="\t", dtype=_TEXT)
    except (OSError, ValueError) as err:
        raise InputError(path, f"cannot be read ({err}); delete it and run again") from err


# --- r by mark, cell and window ------------------------------------------------------------------


def correlation_figure(summary: pd.DataFrame) -> Figure:
    """Pooled r: one panel per mark, one row per cell, one mark per window or score.

    Args:
        summary: cell, group, mark, measure, fold, r.
    """
    shown = summary[(summary["fold"] == POOLED) & summary["r"].notna()]
    if shown.empty:
        return empty("no correlation of activity and expression yet")
    marks = list(dict.fromkeys(shown["mark"]))
    groups = dict(zip(shown["cell"], shown["group"], strict=True))
    cells = sorted(groups, key=lambda cell: GROUPS.index(groups[cell]))
    measures = [name for name in MEASURES if (shown["measure"] == name).any()]
    with style():
        figure, axes = panels(
            *(len(marks), 4, max(0.4 * len(cells) + 0.5, 1.3)), sharex=True, sharey=True
        )
        for axis, mark in zip(axes, marks, strict=True):
            axis.set_title(plain(mark), loc="left")
            _correlation(axis, shown[shown["mark"] == mark], cells, measures)
        axes[0].set_yticks(range(len(cells)), [plain(f"{groups[cell]} · {cell}") for cell in cells])
        axes[0].set_ylim(len(cells) - 0.45, -0.55)
        outer_labels(axes, "Pearson r with log2(RPKM + 1)", "")
        handles = [_point(*MEASURES[name], _measure_name(name)) for name in measures]
        figure.legend(handles=handles, loc="outside upper left", ncols=_columns(axes, 6))
    return figure


def _correlation(axis: Axes, rows: pd.DataFrame, cells: list[str], measures: list[str]) -> None:
    offsets = np.linspace(-0.28, 0.28, len(measures)) if len(measures) > 1 else [0.0]
    for offset, measure in zip(offsets, measures, strict=True):
        marker, colour = MEASURES[measure]
        here = rows[rows["measure"] == measure]
        at = np.array([cells.index(cell) for cell in here["cell"]], float) + offset
        axis.plot(here["r"], at, marker, color=colour, markersize=4.6, markeredgewidth=0, zorder=3)
    _rows(axis, len(cells))


def _measure_name(measure: str) -> str:
    return NAMES.get(measure) or predictor_name(measure)


# --- groups --------------------------------------------------------------------------------------


def group_figure(groups: pd.DataFrame, measure: str = "activity_6kb") -> Figure:
    """Effect size between groups: one panel per mark, one row per pair, one mark per set of genes.

    Args:
        groups: the table of comparisons; `measure`: which of its measures.
    """
    shown = groups[groups["measure"] == measure]
    if shown.empty:
        return empty("fewer than two groups of cells: nothing to compare")
    keys = ["grouping", "group_a", "group_b"]
    pairs = list(dict.fromkeys(shown[keys].itertuples(index=False, name=None)))
    marks = list(dict.fromkeys(shown["mark"]))
    with style():
        figure, axes = panels(
            *(len(marks), 4, max(0.32 * len(pairs) + 0.5, 1.3)), sharex=True, sharey=True
        )
        for axis, mark in zip(axes, marks, strict=True):
            axis.set_title(plain(mark), loc="left")
            _effects(axis, shown[shown["mark"] == mark], pairs, keys)
        axes[0].set_yticks(range(len(pairs)), [plain(f"{a} vs {b}") for _, a, b in pairs])
        axes[0].set_ylim(len(pairs) - 0.45, -0.55)
        reach = max(0.2, 1.15 * float(shown["rank_biserial"].abs().max()))
        axes[0].set_xlim(-min(reach, 1.05), min(reach, 1.05))
        outer_labels(axes, f"rank-biserial effect,\n{_measure_name(measure)}", "")
        handles = [_point(*look) for look in SETS.values()]
        handles.append(_point("o", MUTED, f"q ≥ {SIGNIFICANT:g}", hollow=True))
        figure.legend(handles=handles, loc="outside upper left", ncols=_columns(axes, 4))
    return figure


def _effects(axis: Axes, rows: pd.DataFrame, pairs: list[tuple], keys: list[str]) -> None:
    for offset, (genes, (marker, colour, _)) in zip((-0.22, 0, 0.22), SETS.items(), strict=True):
        here = rows[rows["genes"] == genes]
        at = [pairs.index(key) + offset for key in here[keys].itertuples(index=False, name=None)]
        axis.hlines(at, 0, here["rank_biserial"], color=colour, linewidth=0.9, zorder=2)
        for effect, y, q in zip(here["rank_biserial"], at, here["q"], strict=True):
            face = colour if q < SIGNIFICANT else PAPER
            axis.plot(effect, y, marker, mfc=face, mec=colour, mew=1.1, markersize=4.8, zorder=3)
    _rows(axis, len(pairs))


# --- profiles ------------------------------------------------------------------------------------


def profile_figure(profiles: pd.DataFrame, window: str) -> Figure:
    """Mean signal and quartile band around the TSS by label, one panel per mark.

    Args:
        profiles: rows of the profile table of one cell; folds are averaged.
        window: 6kb or 40kb.
    """
    shown = profiles[(profiles["window"] == window) & profiles["mean"].notna()]
    if shown.empty:
        return empty("no profile yet")
    marks = list(dict.fromkeys(shown["mark"]))
    with style():
        figure, axes = panels(len(marks), columns=4, height=2.1, sharex=True)
        for axis, mark in zip(axes, marks, strict=True):
            axis.set_title(plain(mark), loc="left")
            _profile(axis, shown[shown["mark"] == mark])
            axis.xaxis.set_major_locator(MultipleLocator(1 if window == "6kb" else 10))
        outer_labels(axes, "position from TSS (kb)", _scale_name(shown["scale"].iloc[0]))
        figure.legend(
            handles=[
                Line2D([], [], color=BLUE, label="expressed"),
                Line2D([], [], color=ORANGE, linestyle=_DASHED, label="not expressed"),
                Patch(color=MUTED, alpha=0.3, lw=0, label="25% to 75% of genes"),
            ],
            loc="outside upper left",
            ncols=3,
        )
    return figure


def _scale_name(scale: str) -> str:
    """`log1p(reads)` -> `ln(1 + depth)`; an axis label for any transform and signal."""
    transform, _, signal = scale.removesuffix(")").partition("(")
    signal = {"reads": "depth", "pval": "−log10 p", "fold_change": "fold change"}.get(
        signal, signal
    )
    return {"log1p": f"ln(1 + {signal})", "none": signal}.get(transform, f"{transform}({signal})")


def _profile(axis: Axes, rows: pd.DataFrame) -> None:
    for label, colour, line in ((0, ORANGE, _DASHED), (1, BLUE, "-")):
        columns = ["mean", "q25", "q75"]
        curve = rows[rows["label"] == label].groupby("position_bp")[columns].mean()
        kb = curve.index.to_numpy() / 1000
        axis.fill_between(kb, curve["q25"], curve["q75"], color=colour, alpha=0.22, lw=0)
        axis.plot(kb, curve["mean"], color=colour, linewidth=1.4, linestyle=line)
    axis.axvline(0, color=MUTED, linewidth=0.8, linestyle=(0, (1, 1.5)))
    axis.set_ylim(bottom=0)
    axis.yaxis.set_major_locator(MaxNLocator(nbins=4))


# --- shared --------------------------------------------------------------------------------------


def _rows(axis: Axes, count: int) -> None:
    """Lines between rows, zero line, light grid."""
    for row in range(1, count):
        axis.axhline(row - 0.5, color=GRID, linewidth=0.8, zorder=1)
    axis.axvline(0, color=MUTED, linewidth=0.9, zorder=1)
    axis.grid(axis="x")
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=5))


def _point(marker: str, colour: str, label: str, hollow: bool = False) -> Line2D:
    face = PAPER if hollow else colour
    look = {"marker": marker, "linestyle": "none", "markersize": 5.5}
    return Line2D([], [], markerfacecolor=face, markeredgecolor=colour, label=label, **look)


def _columns(axes: list[Axes], entries: int) -> int:
    """Legend columns that fit the width of the figure."""
    wide = axes[0].figure.get_figwidth()
    return max(1, min(entries, round(entries * wide / WIDTH)))


def save_both(figure: Figure, path: str | Path) -> None:
    """Write a figure as `path`, an SVG file, and as PNG beside it; each appears at once."""
    path = Path(path)
    save(figure, path.with_name(path.name.removesuffix(".svg") + ".png"))
    FigureCanvasSVG(figure)
    buffer = io.BytesIO()
    with style():
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", facecolor="white", metadata=nothing)
    with atomic(path) as tmp:
        tmp.write_bytes(buffer.getvalue())
