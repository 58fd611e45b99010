"""The figures of the report with their captions, cut into pieces that fit a page."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from markupsafe import Markup

from epiloom.show import plots
from epiloom.show.answer import Comparison
from epiloom.show.canvas import marks_name, model_name, svg
from epiloom.show.plots_data import EXPRESSED, SILENT
from epiloom.show.results import Results, Run, track_names

PANELS = 24  # panels in one figure, so that a page can be printed and an image stays small
ROWS = 22  # rows of the comparison in one figure
TRACKS = 40  # rows of the quality figure

T = TypeVar("T")


def _chunks(items: Sequence[T], size: int, cell: Callable[[T], str]) -> list[list[T]]:
    """Pieces of at most `size`; a cell's items stay together unless they alone are more."""
    pieces: list[list[T]] = []
    for _, group in itertools.groupby(items, key=cell):
        group = list(group)
        while group:
            if pieces and len(pieces[-1]) + len(group) <= size:
                pieces[-1] += group
                break
            pieces.append(group[:size])
            group = group[size:]
    return pieces


def _numbered(caption: str, index: int, count: int) -> str:
    return caption if count == 1 else f"{caption} Part {index + 1} of {count}."


def _figure(figure: Any, name: str, alt: str, caption: str) -> dict[str, Any]:
    # the drawing is ours and its texts are escaped by matplotlib's writer
    return {"svg": Markup(svg(figure, name, alt)), "caption": caption}


def qc_figures(found: Results, flagged: Sequence[str]) -> Iterator[dict[str, Any]]:
    if found.qc.empty:
        return
    pieces = _chunks(range(len(found.qc)), TRACKS, lambda row: str(found.qc["cell"].iloc[row]))
    for i, piece in enumerate(pieces):
        yield _figure(
            plots.qc_figure(found.qc.iloc[piece], flagged),
            f"qc{i}",
            f"Signal quantiles, missing bins and promoter share of {len(piece)} tracks",
            _numbered(
                "One row per track. Left: distribution of the bins of the genome. A track of a "
                "punctual mark has a low median and a high 99.9% quantile. Middle: bins without "
                "data. Right: share of all signal near transcription start sites; high for "
                "H3K4me3, H3K27ac and H3K9ac, low for H3K9me3.",
                *(i, len(pieces)),
            ),
        )


def profile_figures(found: Results) -> Iterator[dict[str, Any]]:
    expression = found.work / "results" / "genes" / "expression.tsv"
    if found.genes.empty or not expression.exists():
        return
    rpkm = pd.read_csv(expression, sep="\t")
    names = [*found.qc.get("track", []), *track_names(found)]
    profiles = {}
    for track in dict.fromkeys(names):
        path = found.work / "results" / "features" / f"{track}.npy"
        cell, _, rest = track.partition("-")
        mark, _, signal = rest.rpartition(".")
        if not path.exists() or cell not in rpkm.columns:
            continue
        features = _features(path, len(rpkm), found.unreadable)
        if features is None:
            continue
        profiles[f"{cell} · {mark}"] = (features, rpkm[cell].to_numpy(float), signal)
    if not profiles:
        return
    pieces = _chunks(list(profiles), PANELS, lambda title: title.partition(" · ")[0])
    for i, piece in enumerate(pieces):
        yield _figure(
            plots.profile_figure({title: profiles[title] for title in piece}),
            f"profile{i}",
            f"Mean signal around the TSS of expressed and silent genes, {len(piece)} tracks",
            _numbered(
                "Mean signal within 20 kb of the transcription start site, in transcription "
                f"direction; numbers: expressed genes (RPKM ≥ {EXPRESSED:g}) / silent genes "
                f"(RPKM < {SILENT:g}). The band is the 95% interval of the mean. Active marks peak "
                "at expressed genes; where both lines agree, the mark does not tell expression.",
                *(i, len(pieces)),
            ),
        )


def _features(path: Path, genes: int, unreadable: list[str]) -> np.ndarray | None:
    """Promoter features [genes, bins] as a memory map; None, and a line to say why, if unfit."""
    try:
        features = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as err:
        unreadable.append(f"{path}: {err}; delete it and run the workflow again")
        return None
    if features.ndim == 2 and len(features) == genes:
        return features
    unreadable.append(
        f"{path}: shape {features.shape} does not fit {genes} genes; delete it and run "
        "the workflow again"
    )
    return None


def _panel_title(run: Run, several: bool) -> str:
    title = f"{run.cell} · {marks_name(run.marks)}" + (" · shuffled" if run.shuffled else "")
    return f"{model_name(run.model)} · {title}" if several else title


def curve_figures(found: Results) -> Iterator[dict[str, Any]]:
    several = len({run.model for run in found.histories}) > 1
    titles = {run: _panel_title(run, several) for run in found.histories}
    cells = {title: run.cell for run, title in titles.items()}
    # the control has another scale of losses by nature, so it comes last
    ordered = sorted(titles, key=lambda run: run.shuffled)
    # ... and in a figure of its own
    pieces = [
        piece
        for control in (False, True)
        for piece in _chunks(
            list(dict.fromkeys(titles[run] for run in ordered if run.shuffled == control)),
            PANELS,
            lambda title: cells[title],
        )
    ]
    for i, piece in enumerate(pieces):
        chosen = {
            (titles[run], run.fold): found.histories[run] for run in ordered if titles[run] in piece
        }
        yield _figure(
            plots.learning_curves(chosen),
            f"curves{i}",
            f"Training and validation loss by epoch, {len(piece)} cells and mark sets",
            _numbered(
                "Loss by epoch, one colour per fold. Good: both lines fall and then level off. A "
                "validation line that turns up while training still falls is overfitting: "
                "harmless here, because the weights of the ringed epoch are kept. A first epoch "
                "far above the others leaves the panel at the top.",
                *(i, len(pieces)),
            ),
        )


def observed_figures(found: Results, rows: Sequence[Comparison]) -> Iterator[dict[str, Any]]:
    order = [(row.model, row.cell, row.marks) for row in rows]
    keys = [key for key in order if key in found.predictions]
    keys += [key for key in found.predictions if key not in keys]
    several = len({model for model, *_ in keys}) > 1
    pieces = _chunks(keys, PANELS, lambda key: key[1])
    for i, piece in enumerate(pieces):
        tables = {
            (f"{model_name(model)} · " if several else "")
            + f"{cell} · {marks_name(marks)}": found.predictions[model, cell, marks]
            for model, cell, marks in piece
        }
        yield _figure(
            plots.observed_predicted(tables),
            f"observed{i}",
            f"Predicted against observed expression, {len(piece)} cells and mark sets",
            _numbered(
                "Test genes of all finished folds; the line is a perfect prediction. Good: the "
                "cloud follows the line. Silent genes stand at zero on the left; a column of high "
                "predictions there are silent genes with an active-looking promoter.",
                *(i, len(pieces)),
            ),
        )


def comparison_figures(found: Results, rows: Sequence[Comparison]) -> Iterator[dict[str, Any]]:
    pieces = [
        (model, piece)
        for model in dict.fromkeys(row.model for row in rows)
        for piece in _chunks(
            [row for row in rows if row.model == model and row.usable], ROWS, lambda row: row.cell
        )
    ]
    for i, (model, piece) in enumerate(pieces):
        scores = []
        for row in piece:
            for score in (row.score, *row.baselines, row.shuffled):
                if score is not None:
                    scores.append(
                        {
                            "cell": row.cell,
                            "marks": row.marks,
                            "predictor": score.predictor,
                            "r": score.r,
                            "r_low": score.low,
                            "r_high": score.high,
                        }
                    )
        labels = {
            (row.cell, row.marks): f"{_brief(found.cell_name(row.cell))} · {marks_name(row.marks)}"
            for row in piece
        }
        yield _figure(
            plots.comparison_figure(pd.DataFrame(scores), model, labels),
            f"comparison{i}",
            f"Pearson r of the {model_name(model)} and of all baselines, {len(piece)} rows",
            _numbered(
                f"Pearson r of the {model_name(model)} (large dot), the baselines and the control, "
                "with 95% intervals. Good: the large dot stands right of all others and the "
                "shuffled control at zero.",
                *(i, len(pieces)),
            ),
        )


def _brief(name: str, width: int = 34) -> str:
    """A cell's long name shortened, keeping the id in brackets at its end."""
    if len(name) <= width:
        return name
    head, bracket, tail = name.rpartition(" (")
    if not bracket:
        return f"{name[: width - 1]}…"
    return f"{head[: max(width - len(tail) - 3, 4)].rstrip()}… ({tail}"


def cost_figures(found: Results) -> list[dict[str, Any]]:
    if found.benchmarks.empty:
        return []
    caption = "Every measured job, by rule; the rule that took most time in total comes first."
    alt = "Time and peak memory of each job by rule"
    return [_figure(plots.cost_figure(found.benchmarks), "cost", alt, caption)]
