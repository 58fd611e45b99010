"""The table of marks: means, intervals, gaps and gains, against plain loops over the metrics."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from epiloom.show import facts, marks, plots_marks
from epiloom.show.results import Results, read_metrics
from tests.made_results import TWO_MODELS, Made

CELLS = ["E003", "E116", "E114", "E118"]  # ESC, primary tissue, and two cancer lines
MARKS = ["H3K4me3", "H3K27ac", "H3K36me3", "H3K9me3"]
WHOLE = "+".join(MARKS)
FOLDS = {f"fold{k}": {"validation": [f"chr{k}"], "test": [f"chr{k + 4}"]} for k in range(1, 5)}
ELEVEN = ["E003", "E004", "E005", "E006", "E007", "E016", "E066", "E087", "E114", "E116", "E118"]
SEVEN = ["H3K4me1", "H3K4me3", "H3K9me3", "H3K27me3", "H3K36me3", "H3K27ac", "H3K9ac"]


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> Results:
    work = tmp_path_factory.mktemp("marks")
    Made(work, CELLS, MARKS, genes=30, folds=FOLDS, models=TWO_MODELS, shuffled=False, epochs=2)
    return read_metrics(work, None)


@pytest.fixture(scope="module")
def table(found) -> pd.DataFrame:
    return marks.mark_table(found)


def value(found: Results, model: str, cell: str, name: str, fold: str) -> float:
    """r of one run, straight from the metrics."""
    rows = found.metrics.query(
        "model == @model and predictor == @model and cell == @cell and marks == @name "
        "and fold == @fold"
    )
    assert len(rows) == 1
    return float(rows["r"].iloc[0])


def by_hand(found: Results, model: str, cells: list[str], plus: str, minus: str = "") -> tuple:
    """Mean and t-interval over folds of r, or of a difference of r; one fold after the other."""
    folds = []
    for fold in FOLDS:
        here = []
        for cell in cells:
            r = value(found, model, cell, plus, fold)
            here.append(r - (value(found, model, cell, minus, fold) if minus else 0))
        folds.append(sum(here) / len(here))
    mean = sum(folds) / 4
    variance = sum((x - mean) ** 2 for x in folds) / 3
    half = 3.182446305 * (variance / 4) ** 0.5  # Student's t, 3 degrees of freedom, 97.5%
    return mean, mean - half, mean + half


def row(table: pd.DataFrame, model: str, cells: str, name: str) -> pd.Series:
    rows = table[(table["model"] == model) & (table["cells"] == cells) & (table["marks"] == name)]
    assert len(rows) == 1
    return rows.iloc[0]


PLACES = {marks.ALL: CELLS, "ESC": ["E003"], "cancer line": ["E114", "E118"], "E116": ["E116"]}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("model", TWO_MODELS)
def test_means_and_intervals_over_folds_equal_those_by_hand(found, table, model, place):
    for name in MARKS:
        one = row(table, model, place, name)
        expected = by_hand(found, model, PLACES[place], name)
        assert (one["value"], one["low"], one["high"]) == pytest.approx(expected, abs=1e-8)
        assert (one["n_cells"], one["n_folds"]) == (len(PLACES[place]), 4)


@pytest.mark.parametrize("place", PLACES)
def test_the_gap_to_all_marks_is_a_difference_within_fold_and_cell(found, table, place):
    for name in (*MARKS, "H3K4me3+H3K36me3"):
        one = row(table, "chromoformer", place, name)
        expected = by_hand(found, "chromoformer", PLACES[place], WHOLE, name)
        assert (one["gap_to_all"], one["gap_low"], one["gap_high"]) == pytest.approx(expected)
    assert np.isnan(row(table, "chromoformer", place, WHOLE)["gap_to_all"])
    assert table.loc[table["model"] == "promoter_cnn", "gap_to_all"].isna().all()


@pytest.mark.parametrize("place", PLACES)
def test_the_second_mark_is_the_one_whose_pair_gains_most(found, table, place):
    for name in MARKS:
        gains = {}
        for other in MARKS:
            pair = "+".join(sorted({name, other}, key=MARKS.index))
            if (found.metrics["marks"] == pair).any() and other != name:
                gains[other] = by_hand(found, "chromoformer", PLACES[place], pair, name)
        best = max(gains, key=lambda other: gains[other][0])
        one = row(table, "chromoformer", place, name)
        assert one["second_mark"] == best
        assert (one["gain"], one["gain_low"], one["gain_high"]) == pytest.approx(gains[best])
        closed = gains[best][0] / by_hand(found, "chromoformer", PLACES[place], WHOLE, name)[0]
        assert one["gap_closed"] == pytest.approx(closed)


def test_single_marks_are_ranked_within_model_and_place(table):
    for _, rows in table.groupby(["model", "level", "cells"]):
        ranked = rows.dropna(subset=["rank"]).sort_values("rank")
        assert set(ranked["marks"]) == set(MARKS)
        assert ranked["rank"].tolist() == [1, 2, 3, 4]
        assert ranked["value"].is_monotonic_decreasing


def test_a_model_is_named_with_how_far_it_sees(table, found):
    assert dict(zip(table["model"], table["distance"], strict=True)) == {
        "promoter_cnn": "6 kb",
        "chromoformer": "40 kb + partners",
    }
    assert list(dict.fromkeys(table["model"])) == ["promoter_cnn", "chromoformer"]
    assert facts.reach("chromoformer", {"contacts": {"source": "none"}}) == "40 kb"
    assert facts.reach("another") == ""


def test_every_mark_set_is_there_at_every_place_and_named_by_kind(table):
    kinds = table[table["model"] == "chromoformer"].groupby("kind")["marks"].nunique()
    assert kinds.to_dict() == {"all": 1, "pair": 5, "single": 4}  # no pair without an active mark
    places = table.groupby("level")["cells"].agg(lambda s: sorted(set(s))).to_dict()
    assert places["group"] == ["ESC", "cancer line", "primary tissue"]
    assert places["cell"] == sorted(CELLS) and places["all"] == [marks.ALL]


def test_the_gap_of_active_marks_and_of_pairs_equals_that_by_hand(found):
    grid = marks.grids(found)[1]
    each = marks.gap(grid)
    active = ["H3K4me3", "H3K27ac"]
    pairs = [p for p in grid.values if p.count("+") == 1]
    single = np.mean([by_hand(found, "chromoformer", CELLS, WHOLE, m)[0] for m in active])
    pair = np.mean([by_hand(found, "chromoformer", CELLS, WHOLE, p)[0] for p in pairs])
    assert (each.singles, each.pairs, each.marks, each.pair_count) == pytest.approx(
        (single, pair, 4, 5)
    )
    assert each.closed == pytest.approx((single - pair) / single)
    assert marks.gap(marks.grids(found)[0]) is None  # the promoter model never saw all marks


# --- what is not there ---------------------------------------------------------------------------


def test_two_folds_give_a_mean_without_an_interval():
    one = marks.estimate(np.array([[0.5, 0.7], [0.6, 0.8]]))
    assert one.value == pytest.approx(0.65) and np.isnan([one.low, one.high]).all()
    assert (one.cells, one.folds) == (2, 2)


def test_holes_are_left_out_of_mean_and_interval():
    values = np.array(
        [[0.5, 0.7, np.nan], [0.6, 0.8, np.nan], [0.4, np.nan, np.nan], [0.7, 0.9, np.nan]]
    )
    one = marks.estimate(values)
    assert one.value == pytest.approx(
        np.mean([np.mean([0.5, 0.6, 0.4, 0.7]), np.mean([0.7, 0.8, 0.9])])
    )
    complete = np.array([0.6, 0.7, 0.8])  # folds that all cells have
    half = student.ppf(0.975, 2) * complete.std(ddof=1) / np.sqrt(3)
    assert one.high - one.value == pytest.approx(half)
    assert (one.cells, one.folds) == (2, 4)
    assert marks.estimate(np.full((3, 2), np.nan)) == marks.NOTHING


def test_without_results_the_table_has_its_columns_and_the_figures_say_so(tmp_path):
    table = marks.mark_table(read_metrics(tmp_path, {}))
    assert table.empty and tuple(table.columns) == marks.COLUMNS
    marks.write(table, tmp_path / "marks.tsv")
    assert (tmp_path / "marks.tsv").read_text().split() == list(marks.COLUMNS)
    for draw in (plots_marks.marks_figure, plots_marks.second_mark_figure):
        assert draw(table).texts or draw(table).axes[0].texts


def test_a_missing_run_leaves_a_hole_not_a_shift(found, table):
    gone = (found.metrics["cell"] == "E114") & (found.metrics["fold"] == "fold2")
    less = Results(found.work, found.plan, found.runs, found.metrics[~gone])
    made = marks.mark_table(less)
    same, changed = (row(made, "chromoformer", cell, "H3K4me3") for cell in ("E003", "E114"))
    assert same["value"] == row(table, "chromoformer", "E003", "H3K4me3")["value"]
    rest = [value(found, "chromoformer", "E114", "H3K4me3", f"fold{k}") for k in (1, 3, 4)]
    assert (changed["value"], changed["n_folds"]) == (pytest.approx(np.mean(rest)), 3)


def test_the_written_table_reads_back(table, tmp_path):
    marks.write(table, tmp_path / "marks.tsv")
    again = pd.read_csv(tmp_path / "marks.tsv", sep="\t")
    assert list(again.columns) == list(marks.COLUMNS)
    numbers = ["value", "low", "high", "rank", "gap_to_all", "gain", "gap_closed"]
    for column in numbers:
        expected = table[column].to_numpy(float)
        np.testing.assert_allclose(again[column].to_numpy(float), expected, rtol=1e-5)


# --- recorded values -----------------------------------------------------------------------------


def test_recorded_values_are_complete_and_the_means_agree():
    table = facts.published().set_index(["marks", "cell"])["r"]
    assert len(table) == 8 * 12 + 15
    for name in (*SEVEN, "+".join(SEVEN)):
        single = table[name].drop("mean")
        assert sorted(single.index) == ELEVEN
        assert table[name, "mean"] == pytest.approx(single.mean(), abs=0.0015)
    pairs = [name for name, _ in table.index if name.count("+") == 1]
    assert len(set(pairs)) == 15 and all(map(facts.is_active, ["H3K4me3", "H3K9ac", "H3K27ac"]))
    assert all(any(map(facts.is_active, pair.split("+"))) for pair in pairs)


def grid(model: str, cells: list[str], sets: list[str], task: str = "regression") -> marks.Grid:
    column = {"regression": "r", "classification": "auc"}[task]
    rows = [
        {"cell": cell, "marks": name, "fold": fold, column: 0.5}
        for cell in cells
        for name in sets
        for fold in FOLDS
    ]
    return marks.Grid(model, task, pd.DataFrame(rows), {})


def test_a_recorded_value_is_given_for_the_same_model_marks_and_cells_only(tmp_path):
    recorded = marks.Recorded(read_metrics(tmp_path, {}))
    sets = ["H3K4me3", "H3K36me3+H3K4me3", "+".join(SEVEN[::-1])]
    ours = grid("chromoformer", ELEVEN, sets)
    assert recorded.of(ours, "H3K4me3", ["E003"]) == 0.764
    assert recorded.of(ours, "H3K4me3", ["E003", "E016"]) == pytest.approx((0.764 + 0.776) / 2)
    assert recorded.of(ours, "H3K4me3", ELEVEN) == 0.763
    assert recorded.of(ours, sets[1], ELEVEN[::-1]) == 0.803  # whatever the order
    assert recorded.of(ours, sets[2], ["E003"]) == 0.829
    assert np.isnan(recorded.of(ours, sets[1], ["E003"]))  # of pairs only the mean is on record
    assert np.isnan(recorded.of(ours, "H3K4me3", ["E003", "E123"]))
    assert np.isnan(recorded.of(ours, "H3K4me2", ["E003"]))
    assert np.isnan(recorded.of(grid("promoter_cnn", ELEVEN, sets), "H3K4me3", ["E003"]))
    classifier = grid("chromoformer", ELEVEN, sets, "classification")
    assert np.isnan(recorded.of(classifier, "H3K4me3", ["E003"]))


def test_the_recorded_gap_is_given_for_the_whole_published_grid_only(tmp_path):
    recorded = marks.Recorded(read_metrics(tmp_path, {}))
    whole = "+".join(SEVEN)
    assert recorded.gap(grid("chromoformer", ELEVEN, SEVEN)) is None  # all seven at once are not
    full = grid("chromoformer", ELEVEN, [*SEVEN, whole])
    assert recorded.gap(full) == facts.RECORDED_GAP
    assert recorded.gap(grid("chromoformer", ELEVEN[:10], [*SEVEN, whole])) is None
    assert recorded.gap(grid("promoter_cnn", ELEVEN, [*SEVEN, whole])) is None


def test_nothing_recorded_stands_beside_simulated_data(found):
    plan = found.plan | {"simulated": True}
    simulated = Results(found.work, plan, found.runs, found.metrics)
    assert marks.mark_table(simulated)["published"].isna().all()
    real = marks.mark_table(found)
    shown = real[real["published"].notna()]
    assert set(shown["model"]) == {"chromoformer"}
    assert set(shown["kind"]) == {"single"}  # four marks together are not on record
    assert row(real, "chromoformer", "E116", "H3K36me3")["published"] == 0.819


# --- figures -------------------------------------------------------------------------------------


def words(figure) -> str:
    texts = [text.get_text() for text in figure.findobj(match=lambda o: hasattr(o, "get_text"))]
    return " ".join(texts)


def test_the_figure_of_marks_has_a_panel_per_model_and_a_row_per_mark(table):
    figure = plots_marks.marks_figure(table)
    assert len(figure.axes) == 2
    labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert sorted(labels[:-1]) == sorted(MARKS) and labels[-1] == "all marks"
    text = words(figure)
    for part in (
        "promoter CNN · 6 kb",
        "Pearson r",
        "95% interval over folds",
        "ESC",
        facts.RECORDED,
    ):
        assert part in text
    assert not re.search(
        "published", words(plots_marks.marks_figure(table.assign(published=np.nan)))
    )


def test_the_figure_of_second_marks_shows_every_pair(table):
    figure = plots_marks.second_mark_figure(table)
    titles = {axis.get_title(loc="left") for axis in figure.axes}
    assert titles == {"H3K4me3 and …", "H3K27ac and …"}
    shown = table[(table["level"] == "all") & (table["kind"] == "pair")]["value"]
    for r in shown:
        assert f"{r:.2f}" in words(figure)
