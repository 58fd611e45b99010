"""The sentences of the answer: the right mark, the right verdict, nothing claimed too much."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from epiloom.show import answer, results, verdicts
from epiloom.show.marks import Gap
from epiloom.show.paired import Difference


def scores(marks: str = "H3K27me3", cell: str = "E003", **r: float) -> answer.Comparison:
    """A comparison whose predictors have these r, each with an interval of +-0.05."""
    made = {k: answer.Score(k, 500, v, v - 0.05, v + 0.05, v, v * v, 1.0) for k, v in r.items()}
    main, control = made.pop("promoter_cnn"), made.pop("promoter_cnn_shuffled", None)
    args = ("promoter_cnn", cell, marks, "pooled", main)
    return answer.Comparison(*args, list(made.values()), control)


def said(tmp_path: Path, *rows: answer.Comparison, pairs=()) -> list[verdicts.Verdict]:
    found = results.read(tmp_path, {"cells": {"E003": "H1 cells"}})
    return verdicts.verdicts(list(rows), found, dict(pairs))


def apart(value: float, low: float, high: float) -> Difference:
    return Difference(value, low, high, 500)


# --- the best mark -------------------------------------------------------------------------------


def test_without_results_there_is_no_answer(tmp_path):
    (only,) = said(tmp_path)
    assert only.state == "unknown" and "No model has been evaluated yet" in only.text


def test_a_mark_without_a_rival_is_not_called_the_best(tmp_path):
    best, *_ = said(tmp_path, scores(promoter_cnn=0.7, ridge_6kb=0.5))
    assert best.state == "mixed"
    assert "H3K27me3 predicts expression in H1 cells (E003): r = 0.70" in best.text


@pytest.mark.parametrize(
    ("difference", "state", "words"),
    [
        (apart(0.1, 0.05, 0.15), "good", "ahead of H3K27me3 (r = 0.60) by 0.100 (0.050 to 0.150)"),
        (apart(0.1, -0.01, 0.2), "mixed", "too close to call (difference −0.010 to 0.200)"),
        (None, "mixed", "before H3K27me3 (r = 0.60)"),
    ],
)
def test_the_best_mark_is_clear_only_if_it_is_ahead_on_the_same_genes(
    tmp_path, difference, state, words
):
    first, second = scores("H3K4me3", promoter_cnn=0.7), scores("H3K27me3", promoter_cnn=0.6)
    pairs = {(first.key, second.key): difference} if difference else {}
    best, *_ = said(tmp_path, second, first, pairs=pairs)
    assert best.state == state and words in best.text
    assert best.text.startswith("H3K4me3 predicts expression best in H1 cells")


def test_winners_are_counted_over_cells_and_summed_up_by_group(tmp_path):
    cells = {"E003": 0.7, "E016": 0.72, "E114": 0.5, "E118": 0.4}  # two ESC, two cancer lines
    rows = [scores("H3K4me3", cell, promoter_cnn=r) for cell, r in cells.items()]
    rows += [scores("H3K27ac", cell, promoter_cnn=0.6) for cell in cells]
    best, *_ = said(tmp_path, *rows)
    assert best.text == "H3K4me3 predicts expression best in 2 of 4 cells, H3K27ac in 2."
    assert best.details[:2] == (
        "ESC (2 cells): H3K4me3, mean r = 0.71.",
        "cancer line (2 cells): H3K27ac, mean r = 0.60.",
    )


def test_marks_together_never_win_over_marks_alone(tmp_path):
    both = scores("H3K4me3+H3K27ac", promoter_cnn=0.9)
    best, *_ = said(tmp_path, both, scores("H3K4me3", promoter_cnn=0.7))
    assert "H3K4me3 predicts expression in" in best.text and "0.90" not in best.text


# --- distance, second marks ----------------------------------------------------------------------


def test_distance_is_judged_by_differences_on_the_same_genes(tmp_path):
    marks = ("H3K4me3", "H3K27ac", "H3K27me3")
    near = [scores(mark, promoter_cnn=0.6) for mark in marks]
    gains = (apart(0.1, 0.05, 0.15), apart(0.02, -0.01, 0.05), apart(-0.03, -0.06, -0.01))
    pairs = {
        (("chromoformer", "E003", mark), ("promoter_cnn", "E003", mark)): gain
        for mark, gain in zip(marks, gains, strict=True)
    }
    told = said(tmp_path, *near, pairs=pairs)[1]
    assert "better than the promoter CNN (6 kb) in 2 of 3 combinations" in told.text
    assert "clearly in 1; clearly worse in 1. Mean difference of r: +0.030" in told.text
    assert told.state == "mixed"
    assert told.details[0].startswith("H3K4me3: +0.100")  # what gains most by distance comes first
    assert told.details[-1].startswith("H3K27me3: −0.030")


def test_a_second_mark_is_told_with_the_share_of_the_gap_it_closes():
    told = verdicts.second_mark(Gap(7, 0.82, 0.0624, 0.0428, "H3K36me3", 15), "chromoformer")
    assert "all 7 marks together reaches 0.82 on average" in told.text
    assert "lies 0.062 below" in told.text
    assert "closes 31% of that gap (mean of 15 pairs); H3K36me3 adds most" in told.text
    alone = verdicts.second_mark(Gap(7, 0.82, 0.06, np.nan, "", 0), "chromoformer")
    assert "second" not in alone.text and "nan" not in alone.text


# --- baselines and the control -------------------------------------------------------------------


def test_a_baseline_that_predicts_by_absence_counts_by_its_size(tmp_path):
    _, against, _ = said(tmp_path, scores(promoter_cnn=0.4, activity_6kb=-0.6))
    assert against.state == "bad"
    assert "activity 6 kb reaches |r| = 0.60" in against.details[0]


def test_a_win_is_clear_only_with_a_difference_above_zero(tmp_path):
    def verdict(lead: Difference | None) -> verdicts.Verdict:
        row = scores(promoter_cnn=0.7, ridge_6kb=0.65)
        row.lead = lead
        return said(tmp_path, row)[1]

    clear, close, unknown = map(verdict, (apart(0.05, 0.01, 0.1), apart(0.05, -0.1, 0.2), None))
    assert (clear.state, close.state, unknown.state) == ("good", "mixed", "mixed")
    assert clear.text == "The promoter CNN beats every baseline by 0.050 (0.010 to 0.100)."
    assert "which may be chance" in close.text
    assert "the predictions are not there" in unknown.text


def test_a_control_above_chance_is_called_a_leak(tmp_path):
    fine = said(tmp_path, scores(promoter_cnn=0.7, promoter_cnn_shuffled=-0.03))[2]
    leak = said(tmp_path, scores(promoter_cnn=0.7, promoter_cnn_shuffled=-0.3))[2]
    none = said(tmp_path, scores(promoter_cnn=0.7))[2]
    assert [fine.state, leak.state, none.state] == ["good", "bad", "unknown"]


def test_chance_widens_with_few_genes_only():
    assert verdicts.chance_limit(10_000) == verdicts.chance_limit(900) == 0.1
    assert verdicts.chance_limit(100) == pytest.approx(0.3)
