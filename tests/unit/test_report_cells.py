"""The report of models that predict cells says what the tables say, whatever is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from epiloom.plan import results as plan_results
from epiloom.plan import unprofiled
from epiloom.show import missing, results
from epiloom.show.cell_results import means, read_cells
from epiloom.show.cell_verdicts import BETTER, cell_verdicts
from epiloom.show.plots_cells import limits
from epiloom.show.report import build_report
from tests.made_predicted import CELLS, SIGNALS, MadeCells
from tests.made_results import Made
from tests.made_tracks import MadeTracks
from tests.unit.test_report import SECTIONS, Page

OF_GENES = {"marks", "quality", "curves", "comparison", "observed"}
MODEL = "results/epigept"
TABLE = "results/tables/epigept.tsv"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> MadeCells:
    gone = [("E066", "DNase"), ("E004", "H3K4me3")]
    return MadeCells(tmp_path_factory.mktemp("cells"), ("fold1", "fold2"), missing=gone, loops=True)


@pytest.fixture(scope="module")
def page(made) -> Page:
    return built(made.work)


@pytest.fixture
def copied(made, tmp_path) -> Path:
    """The finished study, to spoil."""
    return Path(shutil.copytree(made.work, tmp_path / "copy"))


def built(work: Path) -> Page:
    return Page(build_report(work, work / "results/report.html"))


def said(work: Path) -> list[tuple[str, str]]:
    found = cell_verdicts(read_cells(results.read(work, None)))
    return [(v.state, " ".join((v.text, *v.details))) for v in found]


# --- the page ------------------------------------------------------------------------------------


def test_a_study_of_cells_alone_has_its_own_title_and_section(page):
    assert "How well are cells predicted that were never profiled?" in page.text
    assert "log2(RPKM" not in page.text and "Which mark?" not in page.text
    assert {*SECTIONS, "cells"} - OF_GENES <= set(page.ids)
    assert not OF_GENES & set(page.ids)
    targets = {target[1:] for tag, target in page.loads if tag == "a" and target[0] == "#"}
    assert "cells" in targets <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert "Nothing: all planned results are there" in page.text
    assert "Files that could not be read" not in page.text


def test_all_figures_are_there_and_described(page):
    drawn = [attrs["aria-label"] for tag, attrs in page.elements if tag == "svg"]
    assert len(drawn) == 4 and all(len(text) > 20 for text in drawn)
    assert "This figure proves nothing" in page.text


def test_the_tables_show_the_means_over_folds_of_every_number(made, page):
    rows = [[cell["text"] for cell in row] for row in page.rows if len(row) == 10]
    shown = {tuple(row[:4]): row[4:] for row in rows[1:]}
    table = made.metrics[made.metrics["part"] == "cross_cell"]
    for cell, told in (
        ("pooled", "all cells pooled"),
        ("mean", "mean over cells"),
        ("E118", "HepG2 Hepatocellular Carcinoma Cell Line (E118)"),
    ):
        for predictor, name in (
            ("epigept", "EpiGePT"),
            ("training_mean", "training mean"),
            ("wrong_cell", "wrong cell's TFs"),
        ):
            own = table[(table["cell"] == cell) & (table["predictor"] == predictor)]
            own = own[own["signal"] == "H3K27ac"]
            assert len(own) == 2
            row = shown["new cells, known regions", "H3K27ac", told, name]
            names = ("skill", "delta_r", "across_r", "mse", "pearson")
            for text, measure in zip(row, names, strict=False):
                value = own[measure].astype(float).mean()
                assert text == ("–" if np.isnan(value) else f"{value:.3f}".replace("-", "−"))
            assert row[5] == f"{own['n'].mean():,.0f}"


def test_who_was_held_out_is_told(made, page):
    rows = [[cell["text"] for cell in row] for row in page.rows]
    training = next(row for row in rows if row[0] == "training")
    assert training[1] == "4" and "H1 Cells (E003); " in training[2]
    assert training[3] == "E004: H3K4me3"
    test = next(row for row in rows if row[0] == "test (held out)")
    assert test[1] == "3" and test[2].startswith("GM12878") and test[3] == "E066: DNase"
    assert ["fold1", "chr1", "chr2", "40", "10", "10"] in rows
    assert ["fold2", "chr3", "chr4", "40", "10", "10"] in rows
    assert ["regions", "60 of 16,384 bp"] in rows
    assert ["transcription factors", "30; 2 left out, without expression"] in rows
    assert any(row[:1] == ["signals"] and "DNase (mean −log10 p)" in row[1] for row in rows)
    assert "3 signals of 8 cells: 4 for training, 1 for validation, 3 held out" in page.text


def test_loops_are_shown_by_distance_with_their_prevalence(page):
    rows = [[cell["text"] for cell in row] for row in page.rows]
    near = [row for row in rows if "20 to 40 kb" in row]
    assert len(near) == 4  # two cells, two predictors
    where, cell, _, name, *numbers = near[0]
    assert (where, name) == ("new cells, new regions", "EpiGePT") and "(E116)" in cell
    assert numbers == ["400", "200", "0.500", "0.720", "0.820", "0.300"]
    assert "in 3 of 3 distance classes" in page.text
    assert "the loops of the training cells reach 0.65" in page.text


def test_a_study_of_everything_has_everything(tmp_path):
    genes = Made(tmp_path, cells=["E003"], marks=["H3K4me3"], genes=25, shuffled=False)
    dna = MadeTracks(tmp_path, ("ASCT",), genes=genes.plan, shuffled=False)
    MadeCells(tmp_path, beside=dna.plan)
    page = built(tmp_path)
    title = (
        "Which histone mark predicts expression, how well does DNA predict the signal, and how "
        "well are cells predicted that were never profiled?"
    )
    assert title in page.text
    assert {*SECTIONS, "tracks", "cells"} <= set(page.ids)
    assert "Files that could not be read" not in page.text
    assert "Nothing: all planned results are there" in page.text
    assert "Epiformer predicts ASCT from DNA with r = " in page.text
    assert "EpiGePT predicts 3 cells that it never saw better than" in page.text
    assert len(page.ids) == len(set(page.ids))


# --- the answer ----------------------------------------------------------------------------------


def test_a_model_that_knows_the_cells_beats_their_mean_and_needs_their_factors(made):
    lead, wrong, knows, loops = said(made.work)
    assert [state for state, _ in (lead, wrong, knows, loops)] == ["good"] * 4
    assert (
        "3 cells that it never saw better than the mean of the training cells in all 3" in lead[1]
    )
    table = means(read_cells(results.read(made.work, None)), "epigept", "cross_cell")
    own = table[(table["cell"] == "pooled") & (table["predictor"] == "epigept")]
    own = own[own["signal"] != "all"].set_index("signal")["skill"]
    low, high = own.idxmin(), own.idxmax()
    assert f"skill from {own[low]:.2f} ({low}) to {own[high]:.2f} ({high})" in lead[1]
    assert "New cells, new regions: better than the mean in 3 of 3" in lead[1]
    assert "gets worse in all 3 signals, as it must" in wrong[1]


def test_where_the_mean_is_better_the_answer_says_so(tmp_path):
    knows = {"DNase": 0.6, "H3K27ac": -0.2, "H3K4me3": -0.3}
    state, text = said(MadeCells(tmp_path / "some", knows=knows).work)[0]
    assert state == "mixed" and "in 1 of 3 signals: skill from −" in text
    assert f"In H3K27ac and H3K4me3, {BETTER}." in text
    worse = said(MadeCells(tmp_path / "none", knows=-0.3).work)
    assert worse[0][0] == "bad" and "in none of 3 signals" in worse[0][1]
    assert BETTER[1:] in worse[0][1]
    assert worse[1][0] == "bad" and "do not make EpiGePT worse in any signal" in worse[1][1]
    assert worse[2][0] == "bad" and "hardly knows one cell from another" in worse[2][1]


def test_without_held_out_cells_only_new_regions_are_judged(tmp_path):
    made = MadeCells(tmp_path, cells={"train": CELLS["train"], "validation": [], "test": []})
    lead = said(tmp_path)[0][1]
    assert "4 training cells in regions that it never saw better than the mean of the other" in lead
    page = built(made.work)
    assert "No cell was held out" in page.text and "No validation cell" in page.text


def test_a_single_cell_leaves_the_wrong_cell_open(tmp_path):
    cells = CELLS | {"test": ["E116"]}
    made = MadeCells(tmp_path, cells=cells, signals=["DNase"])
    lead, wrong, knows = said(made.work)
    assert "predicts the cell that it never saw better" in lead[1] and "the one signal" in lead[1]
    assert wrong[0] == "unknown" and "needs 3 of them" in knows[1]
    assert "cells" in built(tmp_path).ids


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"start_seen": "allow", "start": "w.pt"}, "its figures are no held-out ones"),
        ({"cell_groups": "none"}, "(cell_groups: none)"),
        ({"from_mean": True}, "starts from the mean of the training cells"),
    ],
)
def test_what_a_reader_must_know_of_the_settings_is_said(copied, settings, told):
    assert not any(told in text for _, text in said(copied))
    path = copied / "results/provenance.json"
    plan = json.loads(path.read_text())
    plan["config"]["models"]["epigept"] |= settings
    path.write_text(json.dumps(plan))
    assert any(told in text for _, text in said(copied))


def test_weights_of_ones_own_are_not_called_seen(copied):
    path = copied / "results/provenance.json"
    plan = json.loads(path.read_text())
    plan["config"]["models"]["epigept"] |= {"start_seen": "allow", "start": None}
    path.write_text(json.dumps(plan))
    assert not any("no held-out ones" in text for _, text in said(copied))


def test_the_axis_holds_most_pooled_values_and_one_bad_cell_does_not_flatten_it():
    rows = [("pooled", 0.2), ("a", 0.3), ("b", -40.0)]
    table = pd.DataFrame(rows, columns=["cell", "skill"]).assign(predictor="epigept")
    assert limits([table], ["epigept"], "skill")[0] == -1
    table.loc[0, "skill"] = -2.0
    assert limits([table], ["epigept"], "skill")[0] == -3
    near = table[table["cell"] == "a"]
    low, high = limits([near], ["epigept"], "skill")
    assert -0.1 < low < 0 and high > 0.3


# --- what is missing -----------------------------------------------------------------------------


def test_the_rule_of_the_report_waits_for_all_that_the_page_shows(tmp_path):
    made = MadeCells(tmp_path / "whole")
    whole = built(made.work)
    own = f"{MODEL}/fold1/metrics.tsv"  # the table over all runs is made of it
    for path in [*plan_results.shown(made.built), own]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(made.work / path, tmp_path / path)
    shutil.copy(made.work / "results/provenance.json", tmp_path / "results")
    alone = built(tmp_path)
    assert alone.text.partition("How to read")[0] == whole.text.partition("How to read")[0]


def test_all_that_the_page_shows_is_listed_where_nothing_is_finished(made, tmp_path):
    (tmp_path / "results").mkdir()
    shutil.copy(made.work / "results/provenance.json", tmp_path / "results")
    found = results.read(tmp_path, None)
    listed = {file for gap in missing.gaps(found, []) for file in gap.files}
    metrics = {f"{MODEL}/{fold}/metrics.tsv" for fold in ("fold1", "fold2")}
    assert listed == {*unprofiled.shown(made.built), TABLE, *metrics}
    page = built(tmp_path)
    assert "EpiGePT has not been evaluated yet; see what is missing below." in page.text
    assert "Not there yet: the metrics of every run" in page.text
    assert "GM12878 Lymphoblastoid Cells (E116)" in page.text


READ = [TABLE, f"{MODEL}/fold1/history.tsv", f"{MODEL}/fold1/loops.tsv"]
DATA = [f"{MODEL}/{n}" for n in ("regions.bed", "signals/scales.json", "factors/reference.json")]


def spoiled(content: bytes, how: str) -> bytes:
    if how == "cut":
        return content[: int(len(content) * 0.7) - 3]
    first = content.splitlines()[0] + b"\n"
    return first if how == "header" else b"\x93NUMPY, but then\tnothing of sense\n"


@pytest.mark.parametrize("how", ["damage", "cut", "header"])
@pytest.mark.parametrize("path", [*READ, *DATA])
def test_no_single_file_that_is_spoiled_breaks_the_answer(copied, path, how):
    (copied / path).write_bytes(spoiled((copied / path).read_bytes(), how))
    found = results.read(copied, None)
    assert cell_verdicts(read_cells(found))[0].lead
    if how == "damage":
        assert any(path in line for line in found.unreadable)


@pytest.mark.parametrize("how", ["damage", "cut", "header"])
def test_a_page_of_spoiled_files_alone_is_still_a_page(copied, how):
    for path in [*(copied / "results").rglob("*.tsv"), *(copied / p for p in DATA)]:
        path.write_bytes(spoiled(path.read_bytes(), how))
    assert "cells" in built(copied).ids


@pytest.mark.parametrize(
    "path", [TABLE, *DATA, f"{MODEL}/fold1/history.tsv", f"{MODEL}/fold1/metrics.tsv"]
)
def test_every_file_that_is_missing_is_listed(copied, path):
    (copied / path).unlink()
    found = results.read(copied, None)
    assert [path] == [file for gap in missing.gaps(found, []) for file in gap.files]
    assert cell_verdicts(read_cells(found))[0].lead


def test_the_runs_own_tables_do_where_the_one_over_runs_is_not_there_yet(copied):
    whole = means(read_cells(results.read(copied, None)), "epigept", "cross_both")
    (copied / TABLE).unlink()
    own = means(read_cells(results.read(copied, None)), "epigept", "cross_both")
    pd.testing.assert_frame_equal(own, whole)


def test_without_a_plan_the_folders_tell(copied, page):
    (copied / "results/provenance.json").unlink()
    own = built(copied)
    assert "cells" in own.ids and not OF_GENES & set(own.ids)
    assert said(copied)[0][1] in page.text
    rows = [[cell["text"] for cell in row] for row in own.rows]
    assert next(row for row in rows if row[0] == "training")[1] == "4"
    assert read_cells(results.read(copied, None)).signals["epigept"] == SIGNALS


@pytest.mark.parametrize(
    ("step", "gone", "name"),
    [
        ("epigept/fold1/train_model", f"{MODEL}/fold1/history.tsv", "epigept/fold1"),
        ("epigept/fold2/evaluate_cells", f"{MODEL}/fold2/metrics.tsv", "epigept/fold2 evaluation"),
        ("epigept/choose_regions", DATA[0], "regions of epigept"),
        ("epigept/settle_scales", DATA[1], "scales of epigept"),
        ("epigept/tf_reference", DATA[2], "TFs of epigept"),
        ("epigept/track_table", TABLE, "table of epigept"),
    ],
)
def test_a_failed_job_is_listed_with_its_log_and_command(made, copied, step, gone, name):
    MadeCells.log(type("Place", (), {"work": copied}), step, "ERROR no space left")
    (copied / gone).unlink()
    found = missing.gaps(results.read(copied, None), missing.read_logs(copied))
    assert [(gap.name, gap.reason) for gap in found] == [(name, "failed")]
    (log,) = found[0].logs
    rule = step.rpartition("/")[2]
    assert log.command == f"python -m workflow_scripts.{rule} logs/{step}.log.job.json"


@pytest.mark.parametrize(
    ("step", "held_up"),
    [
        ("bin_signal/E003-DNase.pval", "scales run evaluation"),
        ("download/E116-DNase.pval.signal.bigwig", "run evaluation"),
        ("epigept/cell_signals/E116", "run evaluation"),
        ("epigept/mean_signal", "run evaluation"),
        ("genome_motifs/hocomoco_p_0_001", "run evaluation"),
        ("genome_bases", "run evaluation"),
        ("genome_mask/128", "scales run evaluation TFs"),
        ("epigept/fold1/train_model", "evaluation"),
        ("bin_signal/E999-DNase.pval", ""),
        ("epigept/fold2/train_model", ""),
    ],
)
def test_what_a_result_waits_for_is_told(copied, step, held_up):
    MadeCells.log(type("Place", (), {"work": copied}), step, "ERROR no space left")
    names = {
        "run": ("fold1/history.tsv", "epigept/fold1"),
        "evaluation": ("fold1/metrics.tsv", "epigept/fold1 evaluation"),
        "scales": ("signals/scales.json", "scales of epigept"),
        "TFs": ("factors/reference.json", "TFs of epigept"),
    }
    if step.endswith("train_model"):
        names.pop("run")
    for file, _ in names.values():
        (copied / MODEL / file).unlink()
    found = missing.gaps(results.read(copied, None), missing.read_logs(copied))
    told = {gap.name: gap.reason for gap in found}
    assert set(told) == {name for _, name in names.values()}
    stopped = {key for key, (_, name) in names.items() if told[name] == "something it needs failed"}
    assert stopped == set(held_up.split())


def test_a_question_without_an_answer_is_listed_with_its_log(copied):
    path = copied / "results/provenance.json"
    plan = json.loads(path.read_text())
    folder = f"{MODEL}/fold1"
    plan["asked_cells"] = [f"{folder}/factors/GAPDH.{end}" for end in ("tsv", "png")]
    plan["asked_cells"] += [f"{folder}/loops.tsv", f"{folder}/variants.tsv"]
    path.write_text(json.dumps(plan))
    MadeCells.log(
        type("Place", (), {"work": copied}), "epigept/fold1/rank_factors/GAPDH", "ERROR no space"
    )
    found = missing.gaps(results.read(copied, None), missing.read_logs(copied))
    told = {gap.name: gap.reason for gap in found}
    assert told["epigept/fold1 factors"] == "failed"
    assert set(told) == {"epigept/fold1 factors", "epigept/fold1 variants"}
