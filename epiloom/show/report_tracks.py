"""The part of the report on models of DNA: figures with captions, and the table of the tracks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from epiloom.learn.track_sums import MIN_BLOCKS
from epiloom.show import plots
from epiloom.show.canvas import model_name, svg
from epiloom.show.checks import curve_warnings
from epiloom.show.plots import predictor_order
from epiloom.show.results import Results
from epiloom.show.track_example import examples, target_paths
from epiloom.show.track_results import TrackResults, TrackRow, track_rows
from epiloom.show.track_verdicts import track_verdicts
from epiloom.show.verdicts import Verdict

ROWS = 18  # tracks in one figure


@dataclass
class TrackPart:
    """What the page shows of models of DNA."""

    verdicts: list[Verdict]
    rows: list[TrackRow]
    baselines: list[str]
    several: bool  # models
    described: bool  # tracks
    control: bool
    labelled: bool  # AUROC is known
    score_figures: list[dict[str, Any]]
    curve_figures: list[dict[str, Any]]
    curve_warnings: list[str]
    example_figures: list[dict[str, Any]]
    tables: list[str]
    files: list[str]  # of the example
    bins: dict[str, int]  # fold -> test bins


def track_part(found: Results, dna: TrackResults) -> TrackPart | None:
    """The part of a study; None without models of DNA."""
    if not dna.runs:
        return None
    rows = track_rows(dna)
    scored = [row for row in rows if row.usable]
    baselines = {s.predictor for row in rows for s in row.baselines if np.isfinite(s.r)}
    runs = [run for run in dna.runs if not run.shuffled]
    predictions = [f"{run.folder}/predictions.npy" for run in runs[:1]]
    return TrackPart(
        verdicts=track_verdicts(dna, rows),
        rows=rows if scored else [],
        baselines=predictor_order(sorted(baselines), ""),
        several=len(dna.models) > 1,
        described=any(row.description for row in rows),
        control=any(row.shuffled for row in rows) or len(runs) < len(dna.runs),
        labelled=any(row.score and np.isfinite(row.score.auroc) for row in rows),
        score_figures=list(_scores(dna, rows)),
        curve_figures=list(_curves(dna)),
        curve_warnings=curve_warnings(dna),
        example_figures=list(_examples(found, dna)),
        tables=[f"results/tables/{model}.tsv" for model in dna.models],
        files=[*predictions, *list(target_paths(found.plan).values())[:3]],
        bins=test_bins(dna),
    )


def test_bins(dna: TrackResults) -> dict[str, int]:
    """Most test bins of a track by fold."""
    own = dna.metrics[dna.metrics["predictor"] == dna.metrics["model"]]
    own = own[own["track"].isin(list(dna.targets))]
    return {str(fold): int(rows["n"].max()) for fold, rows in own.groupby("fold")}


def _figure(figure: Any, name: str, alt: str, caption: str, heading: str = "") -> dict[str, Any]:
    made = {"svg": Markup(svg(figure, name, alt)), "caption": caption}
    return made | ({"heading": heading} if heading else {})


def _scores(dna: TrackResults, rows: Sequence[TrackRow]) -> Iterator[dict[str, Any]]:
    """r of every track: the model, its baselines and its control."""
    for model in dna.models:
        own = [row for row in rows if row.model == model and row.usable]
        for first in range(0, len(own), ROWS):
            piece = own[first : first + ROWS]
            scores = [
                {"cell": "", "marks": row.track, "predictor": s.predictor, "r": s.r,
                 "r_low": s.low, "r_high": s.high}
                for row in piece
                for s in (row.score, *row.baselines, row.shuffled)
                if s is not None
            ]  # fmt: skip
            figure = plots.comparison_figure(
                pd.DataFrame(scores),
                model,
                {("", row.track): row.track for row in piece},
                axis_label="Pearson r of log2(x + 1), test chromosomes (95% interval)",
            )
            pieces = -(-len(own) // ROWS)
            part = f" Part {first // ROWS + 1} of {pieces}." if pieces > 1 else ""
            none = "" if any(row.score.known for row in piece) else (
                f" No intervals: the test chromosomes have fewer than the {MIN_BLOCKS} blocks of "
                "about 1 Mb that are drawn again for them."
            )  # fmt: skip
            yield _figure(
                figure,
                f"tracks-{model}{first}",
                f"r of {model_name(model)} and of all baselines on {len(piece)} tracks",
                "Correlation over the bins of the test chromosomes. Good: the large dot stands "
                "right of all baselines, and the shuffled control at zero. “Other tracks (mean)” "
                "reads what was measured on the test chromosomes, so it is not beaten easily."
                f"{none}{part}",
                model_name(model) if len(dna.models) > 1 and first == 0 else "",
            )


def _curves(dna: TrackResults) -> Iterator[dict[str, Any]]:
    """Learning curves; the control has another scale of losses, so it has a figure of its own."""
    for control in (False, True):
        histories = {
            (model_name(run.model) + (" · shuffled" if control else ""), run.fold): table
            for run, table in dna.histories.items()
            if run.shuffled == control
        }
        if not histories:
            continue
        yield _figure(
            plots.learning_curves(histories, "Poisson"),
            f"track-curves{int(control)}",
            f"Training and validation loss by epoch of {len(histories)} runs",
            "Poisson loss by epoch, one colour per fold; it may be below zero, and only its "
            "differences mean anything. "
            + (
                "With targets of other windows there is nothing to learn from the sequence: good "
                "is a validation line that stays where it starts or rises."
                if control
                else "Good: both lines fall and then level off. A validation line that turns up "
                "while training still falls is overfitting: harmless here, because the weights of "
                "the ringed epoch are kept."
            ),
        )


def _examples(found: Results, dna: TrackResults) -> Iterator[dict[str, Any]]:
    for place, (figure, heading, caption) in enumerate(examples(found, dna)):
        heading = heading if len(dna.models) > 1 else ""
        alt = "A region with the predicted and the measured signal of each track"
        yield _figure(figure, f"region{place}", alt, caption, heading)
