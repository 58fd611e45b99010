"""The part of the report on models that predict cells never profiled: figures, captions, tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from epiloom.learn.cell_metrics import ALL, MEAN, OVER_CELLS, POOLED, WRONG
from epiloom.plan.sequence import of_chromosomes
from epiloom.show import plots
from epiloom.show.canvas import model_name, predictor_name, svg
from epiloom.show.cell_results import (
    NUMBERS,
    PARTS,
    SIDES,
    CellResults,
    cell_label,
    loop_rows,
    means,
    missing_signals,
    parts_of,
    predictor_names,
    settings,
)
from epiloom.show.cell_verdicts import REMARK, cell_verdicts
from epiloom.show.plots_cells import cells_figure
from epiloom.show.report_latents import warnings
from epiloom.show.results import Results
from epiloom.show.verdicts import Verdict

ALL_LOOPS, LOOP_MODEL = "all", "model"  # as studies/cell_loops.py calls them
MOST = 600  # rows of single cells in a table of the page; more are in the file alone
ROLES = {
    "train": "training",
    "validation": "validation (choose the epoch)",
    "test": "test (held out)",
}
SKILL = (
    "Skill: 1 − squared error of the model / squared error of the mean of the training cells, on "
    "log(1 + signal); the mean itself has 0, the upright line. A dot per cell, a bar for all cells "
    "pooled. Good: blue right of 0 in every signal, and the same model given another cell's TFs "
    "(crosses) far to the left of it. Left of 0 the mean of the training cells predicts these "
    "cells better than the model. In training cells (known cells, new regions) a cell is left out "
    "of its own mean. Arrows, if any: further left than the axis."
)
BEYOND = (
    "What the model knows of the cell beyond what all cells share. Above: correlation of what is "
    "predicted beyond the mean of the training cells with what is measured beyond it, over bins. "
    "Below: correlation of predicted and measured signal over the cells of one bin, mean over the "
    "half of the bins where the cells differ most (of at least three cells of one run). Both are 0 "
    "for a predictor that knows the place but not the cell. Good: blue near 1, crosses near 0 or "
    "below."
)
PLAIN = (
    "This figure proves nothing, and is here because the published figures are of this kind. Most "
    "of a signal is alike in all cell types, so the mean of the training cells, which knows "
    "nothing of the cell, has a high correlation along the genome; a model can come close to it, "
    "or pass it, without knowing the cell. Judge a model by the two figures above."
)
CURVES = (
    "Loss by epoch ({}), one colour per fold. Training: training cells on training chromosomes; "
    "validation: validation cells (where there are none, training cells) on validation "
    "chromosomes. Good: both lines fall and then level off. The weights of the ringed epoch are "
    "kept."
)
KINDS = {"counts": "reads per bin, at a common depth", "pval": "mean −log10 p"}
KINDS |= {"fold_change": "mean fold change over control", "depth": "mean read depth"}


@dataclass
class CellPart:
    """What the page shows of models that predict cells."""

    verdicts: list[Verdict]
    skill_figures: list[dict[str, Any]]
    beyond_figures: list[dict[str, Any]]
    plain_figures: list[dict[str, Any]]
    curve_figures: list[dict[str, Any]]
    curve_warnings: list[str]
    pooled: list[dict[str, Any]]
    single: list[dict[str, Any]]
    cut: bool  # more rows of single cells than are shown
    loops: list[dict[str, Any]]
    studies: list[dict[str, Any]]  # model, cells, folds, data
    remark: str
    reads_mean: bool  # a model starts from the mean of the training cells
    held_out: bool  # cells
    several: bool  # models
    crossed: bool  # runs hold out different cells
    folds: int
    tables: list[str]


def cell_part(found: Results, made: CellResults) -> CellPart | None:
    """The part of a study; None without models that predict cells."""
    if not made.runs:
        return None
    rows = [row for model in made.models for row in _rows(found, made, model)]
    single = [row for row in rows if row["single"]]
    return CellPart(
        verdicts=cell_verdicts(made),
        skill_figures=list(_figures(made, "skill")),
        beyond_figures=list(_figures(made, "beyond")),
        plain_figures=list(_figures(made, "pearson")),
        curve_figures=list(_curves(found, made)),
        curve_warnings=warnings(made),
        pooled=[row for row in rows if not row["single"]],
        single=single[:MOST],
        cut=len(single) > MOST,
        loops=[row for model in made.models for row in _loops(found, made, model)],
        studies=[_study(found, made, model) for model in made.models],
        remark=REMARK,
        reads_mean=bool(made.from_mean),
        held_out=any(made.held(model, "test") for model in made.models),
        several=len(made.models) > 1,
        crossed=any(map(made.crossed, made.models)),
        folds=max(map(made.done, made.models)),
        tables=[f"results/tables/{model}.tsv" for model in made.models],
    )


# --- figures -------------------------------------------------------------------------------------


def _figure(figure: Figure, name: str, alt: str, caption: str, heading: str = "") -> dict[str, Any]:
    drawn = {"svg": Markup(svg(figure, name, alt)), "caption": caption}
    return drawn | ({"heading": heading} if heading else {})


# kind -> measures, predictors beside the model, caption, what the picture shows
_DRAWN = {
    "skill": (("skill",), (WRONG,), SKILL, "Skill against the mean of the training cells"),
    "beyond": (
        ("delta_r", "across_r"),
        (WRONG,),
        BEYOND,
        "Correlation beyond the mean, and across cells,",
    ),
    "pearson": (("pearson",), (MEAN,), PLAIN, "Pearson r along the genome of model and mean"),
}


def _figures(made: CellResults, kind: str) -> Iterator[dict[str, Any]]:
    measures, beside, caption, alt = _DRAWN[kind]
    for model in made.models:
        tables = {PARTS[part]: means(made, model, part) for part in parts_of(made, model)}
        if not any(table[list(measures)].notna().any(axis=None) for table in tables.values()):
            continue
        names = predictor_names(model)
        names = {key: names[key] for key in (model, *beside)}
        yield _figure(
            cells_figure(tables, names, measures),
            f"cells-{kind}-{model}",
            f"{alt} by signal and cell, {model_name(model)}, in {len(tables)} parts",
            caption,
            model_name(model) if len(made.models) > 1 else "",
        )


def _curves(found: Results, made: CellResults) -> Iterator[dict[str, Any]]:
    """One figure for each kind of loss: their scales have nothing in common."""
    losses = {model: settings(found, model).get("loss") or "mse" for model in made.models}
    names = {"mse": "mean squared error", "poisson": "Poisson"}
    for loss in dict.fromkeys(losses.values()):
        histories = {
            (model_name(run.model), run.fold): table
            for run, table in made.histories.items()
            if losses[run.model] == loss
        }
        if histories:
            told = names.get(loss, loss)
            alt = f"Training and validation loss by epoch of {len(histories)} runs"
            figure = plots.learning_curves(histories, told)
            yield _figure(figure, f"cells-curves-{loss}", alt, CURVES.format(told))


# --- tables --------------------------------------------------------------------------------------


def _rows(found: Results, made: CellResults, model: str) -> Iterator[dict[str, Any]]:
    """A row per part, signal, cell and predictor; together first, then cell by cell."""
    called = predictor_names(model)
    named = {POOLED: "all cells pooled", OVER_CELLS: "mean over cells"}
    for part in parts_of(made, model):
        table = means(made, model, part)
        order = list(dict.fromkeys(table["signal"]))
        keys = {"cell": list(dict.fromkeys(table["cell"])), "predictor": list(called)}
        table = table[table["predictor"].isin(keys["predictor"])]
        places = zip(table["signal"], table["cell"], table["predictor"], strict=True)
        rank = [
            (order.index(s), keys["cell"].index(c), keys["predictor"].index(p))
            for s, c, p in places
        ]
        for _, row in sorted(zip(rank, table.to_dict("records"), strict=True), key=lambda p: p[0]):
            cell = row["cell"]
            yield {
                "model": model_name(model),
                "part": PARTS[part],
                "signal": "all signals" if row["signal"] == ALL else row["signal"],
                "cell": named.get(cell) or cell_label(found, cell),
                "single": cell != POOLED,
                "own": row["predictor"] == model,
                "predictor": called[row["predictor"]],
                **{name: _known(row[name]) for name in NUMBERS},
            }


def _known(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _loops(found: Results, made: CellResults, model: str) -> Iterator[dict[str, Any]]:
    """Rows with pairs; of several cells those of all together (a cell's own are in the table)."""
    rows = loop_rows(made, model)
    rows = rows[rows["pairs"] > 0]
    together = rows["part"].isin(rows.loc[rows["cell"] == ALL_LOOPS, "part"])
    for row in rows[~together | (rows["cell"] == ALL_LOOPS)].to_dict("records"):
        far = row["high_bp"]
        span = f"{row['low_bp'] / 1000:g} to {far / 1000:g} kb" if np.isfinite(far) else "all"
        name = model_name(model) if row["predictor"] == LOOP_MODEL else None
        yield {
            "model": model_name(model),
            "part": PARTS.get(row["part"], row["part"]),
            "cell": cell_label(found, row["cell"]),
            "low_bp": row["low_bp"],
            "distance": span,
            "predictor": name or predictor_name(row["predictor"]),
            **{key: _known(row[key]) for key in ("pairs", "loops", "prevalence")},
            **{key: _known(row[key]) for key in ("auprc", "auroc", "row_cosine")},
        }


def _study(found: Results, made: CellResults, model: str) -> dict[str, Any]:
    """Who was held out, and what was read."""
    gone = missing_signals(made, model)
    rows = []
    for fold, cells in made.divisions[model].items():
        for side in SIDES:
            own = cells[side]
            if fold and not own:
                continue  # a row less for every fold
            told = [f"{cell}: {', '.join(gone[cell])}" for cell in own if cell in gone]
            rows.append(
                {
                    "fold": fold,
                    "role": ROLES[side],
                    "count": len(own),
                    "cells": "; ".join(cell_label(found, cell) for cell in own),
                    "missing": "; ".join(told),
                }
            )
    return {
        "model": model_name(model),
        "cells": rows,
        "crossed": made.crossed(model),
        "folds": list(_folds(found, made, model)),
        "data": _data(made, model),
        "no_validation": not made.held(model, "validation"),
        "no_test": not made.held(model, "test"),
    }


def _folds(found: Results, made: CellResults, model: str) -> Iterator[dict[str, Any]]:
    """Chromosomes and regions of each fold by part."""
    known = (found.plan.get("config") or {}).get("folds") or {}
    counts = made.regions.get(model)
    for name in dict.fromkeys(of_chromosomes(run.fold) for run in made.of(model)):
        fold = known.get(name) or {}
        if not fold and name.endswith("s"):  # validation and test chromosomes change places
            plain = known.get(name[:-1]) or {}
            fold = {"validation": plain.get("test"), "test": plain.get("validation")}
        chroms = {side: list(fold.get(side) or []) for side in SIDES[1:]}
        regions: dict[str, int | None] = dict.fromkeys(SIDES)
        if counts and fold:
            regions |= {s: sum(counts.get(c, 0) for c in own) for s, own in chroms.items()}
            regions["train"] = sum(counts.values()) - regions["validation"] - regions["test"]
        yield {"fold": name, "chroms": chroms, "regions": regions}


def _data(made: CellResults, model: str) -> list[tuple[str, str]]:
    """(what, how much) was read."""
    kinds = made.kinds.get(model, {})
    signals = made.signals[model]
    signals = [f"{s} ({KINDS.get(kinds[s], kinds[s])})" if s in kinds else s for s in signals]
    rows = [("signals", "; ".join(signals))]
    if model in made.regions:
        total = sum(made.regions[model].values())
        rows.append(("regions", f"{total:,} of {made.seq_bp[model]:,} bp"))
    if model in made.tfs:
        read, left = made.tfs[model]
        more = f"; {left} left out, without expression" if left else ""
        rows.append(("transcription factors", f"{read:,}{more}"))
    return [(key, text) for key, text in rows if text]
