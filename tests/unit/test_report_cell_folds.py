"""The report where runs hold out different cells: each cell's numbers come from its own runs."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from epiloom.learn.cell_metrics import ALL, POOLED
from epiloom.plan import unprofiled
from epiloom.show import missing, results
from epiloom.show.cell_results import means, part_scores, read_cells
from epiloom.show.report_tables import digest
from tests.made_predicted import MadeCells
from tests.unit.test_report_cells import MODEL, TABLE, built, said

FOLDS = {
    "one": {"validation": ["E087"], "test": ["E116", "E066", "E118"]},
    "two": {"test": ["E087"]},
}
HELD = [cell for fold in FOLDS.values() for cell in fold["test"]]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> MadeCells:
    return MadeCells(tmp_path_factory.mktemp("folds"), ("fold1", "fold2"), cell_folds=FOLDS)


@pytest.fixture(scope="module")
def page(made):
    return built(made.work)


@pytest.fixture
def copied(made, tmp_path):
    return shutil.copytree(made.work, tmp_path / "copy")


def values(made, measure: str = "skill", **chosen) -> np.ndarray:
    table = made.metrics
    for key, value in chosen.items():
        table = table[table[key] == value]
    return table[measure].astype(float).to_numpy()


def test_a_cell_is_the_mean_over_the_runs_that_held_it_out(made):
    table = means(read_cells(results.read(made.work, None)), "epigept", "cross_cell")
    shown = table.set_index(["cell", "signal", "predictor"])["skill"]
    chosen = {"part": "cross_cell", "signal": "DNase", "predictor": "epigept"}
    single = []
    for cell in HELD:
        own = values(made, cell=cell, **chosen)
        assert len(own) == 2  # the folds of chromosomes
        single.append(own.mean())
        assert shown[cell, "DNase", "epigept"] == pytest.approx(own.mean(), rel=1e-5)
    # three cells of one run and one of the other count alike in the mean over cells ...
    assert shown["mean", "DNase", "epigept"] == pytest.approx(np.mean(single), rel=1e-5)
    own = values(made, cell="mean", **chosen)
    assert len(own) == 4 and abs(own.mean() - np.mean(single)) > 1e-4
    n = table.set_index(["cell", "signal", "predictor"])["n"]
    assert n["mean", "DNase", "epigept"] == sum(n[cell, "DNase", "epigept"] for cell in HELD)
    # ... and what is pooled within runs is averaged over these
    own = values(made, cell=POOLED, **chosen)
    assert len(own) == 4
    assert shown[POOLED, "DNase", "epigept"] == pytest.approx(own.mean(), rel=1e-5)


def test_training_cells_come_from_the_runs_that_they_trained(made):
    table = means(read_cells(results.read(made.work, None)), "epigept", "cross_region")
    shown = table[(table["signal"] == ALL) & (table["predictor"] == "epigept")]
    shown = shown.set_index("cell")["skill"]
    chosen = {"part": "cross_region", "signal": ALL, "predictor": "epigept"}
    for cell, count in (("E116", 2), ("E003", 4)):
        own = values(made, cell=cell, **chosen)
        assert len(own) == count
        assert shown[cell] == pytest.approx(own.mean(), rel=1e-5)
    assert len(values(made, cell="E087", **chosen)) == 0


def test_the_answer_speaks_of_all_held_out_cells(made, page):
    scores = part_scores(read_cells(results.read(made.work, None)), "epigept", "cross_cell")
    assert scores.cells == 4 and scores.crossed
    lead = said(made.work)[0]
    assert lead[0] == "good"
    assert "predicts 4 cells that it never saw (held out in turn) better than" in lead[1]
    assert "folds)" not in lead[1] and "runs)" not in lead[1]
    assert "Cells were held out in turn, in 4 runs: the numbers of a cell come from" in page.text
    assert "Nothing: all planned results are there" in page.text


def test_who_was_held_out_is_told_by_cell_fold(page, made):
    rows = [[cell["text"] for cell in row] for row in page.rows]
    assert [row[:3] for row in rows if row[:1] in (["one"], ["two"])] == [
        ["one", "training", "4"],
        ["one", "validation (choose the epoch)", "1"],
        ["one", "test (held out)", "3"],
        ["two", "training", "7"],
        ["two", "test (held out)", "1"],
    ]
    chosen = (["chr1", "chr2"], ["chr3", "chr4"])
    folds = [row[0] for row in rows if row[1:3] in chosen and len(row) == 6]  # with regions
    assert folds == ["fold1", "fold2"]
    told = dict(digest(results.read(made.work, None)))["cells predicted"]
    assert told == "3 signals of 8 cells: 4 held out in turn, in 2 cell folds"


def test_a_cell_held_out_alone_leaves_open_what_needs_several(tmp_path):
    cells = {"train": ["E003", "E004", "E116"], "validation": [], "test": []}
    own = MadeCells(tmp_path, cells=cells, cell_folds="each", model={"cell_groups": "none"})
    _, wrong, knows, *rest = said(own.work)
    assert wrong[0] == "unknown" and "no second cell held out by the same run" in wrong[1]
    assert "needs 3 of them held out by the same run" in knows[1]
    assert "cells" in built(tmp_path).ids
    assert any("(cell_groups: none)" in text for _, text in rest)


def test_what_is_finished_counts_in_runs(copied):
    (copied / TABLE).unlink()
    (copied / MODEL / "fold1.two/metrics.tsv").unlink()
    assert "(3 of 4 runs)" in said(copied)[0][1]


def test_without_a_plan_the_folders_tell(copied, made):
    (copied / "results/provenance.json").unlink()
    found = read_cells(results.read(copied, None))
    assert found.divisions["epigept"].keys() == {"one", "two"}
    assert found.divisions["epigept"]["two"]["test"] == ["E087"]
    assert found.tfs["epigept"] == (30, 2)
    assert said(copied)[0][1] == said(made.work)[0][1]


def test_all_that_the_page_shows_is_listed_where_nothing_is_finished(made, tmp_path):
    (tmp_path / "results").mkdir()
    shutil.copy(made.work / "results/provenance.json", tmp_path / "results")
    listed = {file for gap in missing.gaps(results.read(tmp_path, None), []) for file in gap.files}
    metrics = {f"{MODEL}/{run}/metrics.tsv" for _, run in made.built.runs}
    assert listed == {*unprofiled.shown(made.built), TABLE, *metrics}


@pytest.mark.parametrize(
    ("step", "held_up"),
    [
        ("epigept/one/settle_scales", {"epigept/fold1.one"}),
        ("epigept/two/cell_signals/E116", {"epigept/fold1.two"}),
        ("epigept/choose_regions", {"epigept/fold1.one", "epigept/fold1.two"}),
    ],
)
def test_only_runs_of_the_same_cell_fold_wait_for_its_data(copied, step, held_up):
    MadeCells.log(type("Place", (), {"work": copied}), step, "ERROR no space left")
    for run in ("fold1.one", "fold1.two"):
        (copied / MODEL / run / "history.tsv").unlink()
    found = missing.gaps(results.read(copied, None), missing.read_logs(copied))
    stopped = {gap.name for gap in found if gap.reason == "something it needs failed"}
    assert stopped == held_up
