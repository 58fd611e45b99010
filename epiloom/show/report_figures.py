"""The figures of the report with their captions, cut into pieces that fit a page."""

from __future__ import annotations

import itertools
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from markupsafe import Markup

from epiloom.show import plots, plots_marks
from epiloom.show.answer import CLASSIFICATION, Comparison, best_rows, models_of
from epiloom.show.canvas import marks_name, model_name, svg
from epiloom.show.facts import model_order
from epiloom.show.plots_data import EXPRESSED, SILENT
from epiloom.show.results import Results, Run, track_names

PANELS = 24  # panels in one figure, so that a page can be printed and an image stays small
ROWS = 22  # rows of the comparison in one figure
TRACKS = 40  # rows of the quality figure
TITLE = 30  # letters above a panel, of which four stand side by side
MOST = 84  # panels of one model; of a larger grid only the best are drawn

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


def _titles(keys: Sequence[tuple[str, str]], tail: str = "") -> dict[tuple[str, str], str]:
    """(cell, marks) -> title of its panel; all marks by name where two sets are equally large."""
    short = {key: f"{key[0]} · {marks_name(key[1])}" for key in keys}
    count = Counter(short.values())
    named = {key: f"{key[0]} · {key[1].replace('+', ' + ')}" for key in keys}
    chosen = {key: short[key] if count[short[key]] == 1 else named[key] for key in keys}
    return {key: textwrap.fill(title + tail, TITLE) for key, title in chosen.items()}


def shown_keys(found: Results, rows: Sequence[Comparison]) -> dict[str, set[tuple[str, str, str]]]:
    """By model the (model, cell, marks) that get a panel of their own.

    All of a small grid; of a large one the best mark of each cell and all marks together.
    """
    keys: dict[str, list[tuple[str, str, str]]] = {}
    for run in found.runs:
        keys.setdefault(run.model, []).append((run.model, run.cell, run.marks))
    for key in found.predictions:
        keys.setdefault(key[0], []).append(key)
    best = {group[0].key for group in best_rows(rows).values()}
    chosen = {}
    for model, own in keys.items():
        own = list(dict.fromkeys(own))
        most = max(own, key=lambda key: key[2].count("+"))[2].count("+")
        few = {key for key in own if key in best or (most > 1 and key[2].count("+") == most)}
        chosen[model] = set(own) if len(own) <= MOST or not few else few
    return chosen


def hidden(found: Results, chosen: Mapping[str, set]) -> list[str]:
    """For each model of which not all panels are drawn, a sentence that says so."""
    lines = []
    for model, keys in chosen.items():
        total = len({(r.cell, r.marks) for r in found.runs if r.model == model and not r.shuffled})
        if len(keys) < total:
            lines.append(
                f"{model_name(model)}: {len(keys)} of {total} cells and mark sets are drawn, the "
                "best mark of each cell and all marks together; the others are in "
                f"results/{model}/*/."
            )
    return lines


def _headed(model: str, index: int, several: bool) -> dict[str, str]:
    """The model's name above its first figure, where there are several models."""
    return {"heading": model_name(model)} if several and index == 0 else {}


def curve_figures(
    found: Results, rows: Sequence[Comparison], chosen: Mapping[str, set]
) -> Iterator[dict[str, Any]]:
    tasks = {row.model: row.task for row in rows}
    models = sorted({run.model for run in found.histories}, key=model_order)
    for model in models:
        # the control has another scale of losses by nature, so it comes last, in its own figure
        pieces = [
            piece
            for control in (False, True)
            for piece in _chunks(_curves(found, model, control, chosen), PANELS, lambda run: run[0])
        ]
        loss = "cross-entropy" if tasks.get(model) == CLASSIFICATION else "mean squared error"
        for i, piece in enumerate(pieces):
            runs = [run for _, group in piece for run in group]
            tail = " · shuffled" if runs[0].shuffled else ""
            titles = _titles(list(dict.fromkeys((run.cell, run.marks) for run in runs)), tail)
            histories = {
                (titles[run.cell, run.marks], run.fold): found.histories[run] for run in runs
            }
            yield _headed(model, i, len(models) > 1) | _figure(
                plots.learning_curves(histories, loss),
                f"curves-{model}{i}",
                f"Training and validation loss by epoch, {len(piece)} cells and mark sets",
                _numbered(
                    "Loss by epoch, one colour per fold. Good: both lines fall and then level off. "
                    "A validation line that turns up while training still falls is overfitting: "
                    "harmless here, because the weights of the ringed epoch are kept. A first "
                    "epoch far above the others leaves the panel at the top.",
                    *(i, len(pieces)),
                ),
            )


def _curves(
    found: Results, model: str, control: bool, chosen: Mapping[str, set]
) -> list[tuple[str, list[Run]]]:
    """(cell, runs) of one model's panels."""
    grouped: dict[tuple[str, str], list[Run]] = {}
    for run in found.histories:
        drawn = control or (model, run.cell, run.marks) in chosen.get(model, ())
        if run.model == model and run.shuffled == control and drawn:
            grouped.setdefault((run.cell, run.marks), []).append(run)
    return [(cell, runs) for (cell, _), runs in grouped.items()]


def observed_figures(
    found: Results, rows: Sequence[Comparison], chosen: Mapping[str, set]
) -> Iterator[dict[str, Any]]:
    tasks = {row.model: row.task for row in rows}
    order = [row.key for row in rows]
    keys = [key for key in order if key in found.predictions]
    keys += [key for key in found.predictions if key not in set(keys)]
    keys = [key for key in keys if key in chosen.get(key[0], ())]
    models = sorted({key[0] for key in keys}, key=model_order)
    for model in models:
        pieces = _chunks([key for key in keys if key[0] == model], PANELS, lambda key: key[1])
        classified = tasks.get(model) == CLASSIFICATION
        draw = plots.probabilities if classified else plots.observed_predicted
        for i, piece in enumerate(pieces):
            titles = _titles([key[1:] for key in piece])
            tables = {titles[key[1:]]: found.predictions[key] for key in piece}
            yield _headed(model, i, len(models) > 1) | _figure(
                draw(tables),
                f"observed-{model}{i}",
                f"Predicted against observed expression, {len(piece)} cells and mark sets",
                _numbered(_PROBABILITY if classified else _OBSERVED, i, len(pieces)),
            )


_OBSERVED = (
    "Test genes of all finished folds; the line is a perfect prediction. Good: the cloud follows "
    "the line. Silent genes stand at zero on the left; a column of high predictions there are "
    "silent genes with an active-looking promoter."
)
_PROBABILITY = (
    "Test genes of all finished folds by the predicted probability of being expressed at or above "
    "the cell's median. Good: expressed genes gather at the right end, the others at the left."
)


def comparison_figures(found: Results, rows: Sequence[Comparison]) -> Iterator[dict[str, Any]]:
    models = models_of(rows)
    for model in models:
        own = [row for row in rows if row.model == model and row.usable]
        if len(own) > 4 * ROWS:  # pairs have a figure of their own
            own = [row for row in own if row.marks.count("+") != 1]
        pieces = _chunks(own, ROWS, lambda row: row.cell)
        for i, piece in enumerate(pieces):
            yield _headed(model, i, len(models) > 1) | _comparison(found, model, piece, i, pieces)


def _comparison(
    found: Results, model: str, piece: Sequence[Comparison], index: int, pieces: Sequence
) -> dict[str, Any]:
    measure = piece[0].score.measure
    scores = [
        {
            **{"cell": row.cell, "marks": row.marks, "predictor": score.predictor},
            **{"r": score.value, "r_low": score.low, "r_high": score.high},
        }
        for row in piece
        for score in (row.score, *row.baselines, row.shuffled)
        if score is not None
    ]
    labels = {
        (row.cell, row.marks): f"{_brief(found.cell_name(row.cell))} · {marks_name(row.marks)}"
        for row in piece
    }
    what, none = {
        "r": ("Pearson r", "at zero"),
        "auc": ("Area under the ROC curve", "at 0.5"),
    }[measure]
    return _figure(
        plots.comparison_figure(pd.DataFrame(scores), model, labels, measure),
        f"comparison-{model}{index}",
        f"{what} of the {model_name(model)} and of all baselines, {len(piece)} rows",
        _numbered(
            f"{what} of {model_name(model)} (large dot), the baselines and the control, with 95% "
            "intervals. Good: the large dot stands right of all others and the shuffled control "
            f"{none}.",
            *(index, len(pieces)),
        ),
    )


def mark_figures(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The figures of the question, from the table of marks."""
    made = []
    if (table["kind"] == "single").any():
        caption = (
            "Every mark alone, and all marks together (dashed, too). Blue: mean over all cells, "
            "with the 95% interval over folds "
            "(Student's t; fewer than three folds give none). Below it the groups of cells: small "
            "dots are cells, the bar is the group's mean. Good: marks of active promoters stand "
            "right, H3K9me3 left; where intervals of two marks overlap widely, neither is best."
        )
        alt = "r by mark, distance and group of cells"
        made.append(_figure(plots_marks.marks_figure(table), "marks", alt, caption))
    if (table["kind"] == "pair").any():
        caption = (
            "What a second mark adds to a mark of active promoters. Orange line: the first mark "
            "alone; dashed: all marks together. The further a dot stands from orange towards "
            "dashed, the more the second mark knows that the first does not."
        )
        alt = "r of pairs of marks beside the first mark alone and all marks"
        made.append(_figure(plots_marks.second_mark_figure(table), "seconds", alt, caption))
    return made


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
