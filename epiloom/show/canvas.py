"""What all figures share: colours, labels, panels, and how a figure becomes PNG or inline SVG.

Figures are `matplotlib.figure.Figure` objects, made without pyplot, so nothing global is changed
and drawing works the same on a cluster node without a screen.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from epiloom.data.files import atomic

# Okabe & Ito (2008), told apart with every common colour blindness. Yellow and black are left out:
# one cannot be seen on white paper, the other not on a dark screen.
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
VERMILLION, PURPLE, SKY, GREY = "#D55E00", "#CC79A7", "#56B4E9", "#8C8C8C"
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, VERMILLION, SKY, GREY)
# losses orange, gains blue, nothing white: the two ends differ for every kind of colour blindness
DIVERGING = LinearSegmentedColormap.from_list(
    "loss_gain",
    ["#8C3A00", VERMILLION, "#F3C9A9", "#FFFFFF", "#A9CFE6", BLUE, "#003C5F"],
    N=257,  # odd, so that 0 is white
).with_extremes(bad="#D9D9D9")

# Drawn in these three colours, and in nothing else, is all that must follow a page's light or
# dark theme; `svg` replaces them by CSS.
INK, MUTED, GRID, PAPER = "#24292f", "#636c76", "#d8dee4", "#fefefe"
_THEME = {INK: "currentColor", MUTED: "var(--muted)", GRID: "var(--grid)", PAPER: "var(--paper)"}

_DECIMALS = re.compile(r"(\d\.\d\d)\d+")

WIDTH = 10.0  # inches; 960 CSS pixels

_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.facecolor": "none",
    "figure.facecolor": PAPER,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "svg.fonttype": "path",
    "svg.hashsalt": "epiloom",
    "path.simplify": True,
}

MODEL_NAMES = {"promoter_cnn": "promoter CNN", "chromoformer": "Chromoformer"}
MODEL_NAMES |= {"epiformer": "Epiformer", "gc_conservation": "GC and conservation"}
MODEL_NAMES |= {"epi_lstm": "Epi-LSTM", "pca": "PCA"}
MODEL_NAMES |= {"epigept": "EpiGePT", "training_mean": "training mean"}
MODEL_NAMES |= {"wrong_cell": "wrong cell's TFs", "training_loops": "loops of training cells"}
MODEL_NAMES |= {"kmer_ridge": "k-mers (ridge)", "other_cells": "other tracks (mean)"}
UNITS = {
    "reads": "read depth (reads per base)",
    "depth": "read depth (reads per base)",
    "bam": "read depth (reads per base)",
    "pval": "signal (−log10 p)",
    "fold_change": "fold change over control",
}


def style() -> AbstractContextManager[None]:
    """A context in which every figure is made and saved; leaves the global settings alone."""
    return matplotlib.rc_context(_STYLE)


def panels(
    count: int, columns: int = 4, height: float = 2.3, square: bool = False, **share: object
) -> tuple[Figure, list[Axes]]:
    """A figure of `count` small panels, row by row (unused places stay empty), sizes in inches.

    Few panels stay small instead of being stretched over the page, and about `square` if so wanted.
    """
    columns = max(1, min(columns, count))
    rows = max(1, -(-count // columns))
    width = min(WIDTH, columns * (3.0 if square else 3.6))
    if not square:
        width = max(width, 5.0)  # the narrowest figure still has room for its legend
    figure = Figure(figsize=(width, height * rows + 0.7))
    figure.set_layout_engine("constrained")
    grid = figure.subplots(rows, columns, squeeze=False, **share)
    axes = list(grid.flat)
    for index, axis in enumerate(axes):
        if index >= count:
            axis.remove()
            continue
        # the lowest panel of each column carries the labels, also where the last row is short
        axis.tick_params(labelbottom=index + columns >= count or not share.get("sharex"))
    return figure, axes[:count]


def outer_labels(axes: Sequence[Axes], x: str, y: str) -> None:
    """Label the axes of a panel figure: y on the first column, x on the lowest panel of each."""
    columns = axes[0].get_subplotspec().get_gridspec().ncols
    for index, axis in enumerate(axes):
        if index % columns == 0:
            axis.set_ylabel(y)
        if index + columns >= len(axes):
            axis.set_xlabel(x)


def empty(message: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    with style():
        figure = Figure(figsize=(6, 1.2))
        figure.text(0.5, 0.5, message, ha="center", va="center", color=MUTED)
    return figure


def target_units(options: Mapping[str, Any]) -> str:
    """Units of the tracks that models of DNA predict, from the block `targets`."""
    return "signal" if options.get("table") else UNITS.get(options.get("signal"), "signal")


def save(figure: Figure, path: str | Path, dpi: int = 150) -> None:
    """Write a figure as PNG (on white paper); the file appears whole or not at all."""
    with atomic(path) as tmp, style():
        tmp.write_bytes(_png(figure, dpi))


def png_base64(figure: Figure, dpi: int = 150) -> str:
    """A figure as a base64 PNG, for `<img src="data:image/png;base64,...">`."""
    with style():
        return base64.b64encode(_png(figure, dpi)).decode("ascii")


def _png(figure: Figure, dpi: int) -> bytes:
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return buffer.getvalue()


def svg(figure: Figure, name: str, description: str, dpi: int = 130) -> str:
    """A figure as an `<svg>` element to put into a page.

    Args:
        name: unique in the page; every id in the drawing starts with it, so that the clip paths
            of two figures cannot be mixed up.
        description: what the figure shows, for readers who do not see it.
        dpi: resolution of the parts that are stored as pixels (dense point clouds).
    """
    FigureCanvasSVG(figure)
    buffer = io.StringIO()
    with style():
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", dpi=dpi, transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' id="', f' id="{name}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    # a hundredth of a point is enough, and halves the size of the page
    text = re.sub(r' d="[^"]*"', lambda path: _DECIMALS.sub(r"\1", path.group()), text)
    for colour, css in _THEME.items():
        text = text.replace(colour, css)
    label = _attribute(description)
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def _attribute(text: str) -> str:
    for char, entity in (("&", "&amp;"), ('"', "&quot;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(char, entity)
    return text


def plain(text: object) -> str:
    """Text as it is: a `$` in a name must not start matplotlib's formula language."""
    return str(text).replace("$", r"\$")


def model_name(model: str) -> str:
    """`promoter_cnn` -> `promoter CNN`."""
    return MODEL_NAMES.get(model, model.replace("_", " "))


def predictor_name(predictor: str) -> str:
    """`activity_6kb` -> `activity 6 kb`, `promoter_cnn_shuffled` -> `shuffled labels`."""
    if predictor.endswith("_shuffled"):
        return "shuffled labels"
    kind, _, window = predictor.rpartition("_")
    if kind in ("activity", "ridge") and window.endswith("kb"):
        return f"{kind} {window[:-2]} kb"
    return model_name(predictor)


def marks_name(marks: str) -> str:
    """`H3K4me3+H3K27ac` -> `H3K4me3 + H3K27ac`; of more than three their number, `7 marks`."""
    count = str(marks).count("+") + 1
    return str(marks).replace("+", " + ") if count <= 3 else f"{count} marks"


def fixed(value: float, digits: int) -> str:
    """A number with a true minus sign; `undefined` for NaN; never `-0.00`."""
    if not np.isfinite(value):
        return "undefined"
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")
