"""What is missing is told with its reason, and what looks odd is warned about."""

from __future__ import annotations

import json
from dataclasses import asdict

import pandas as pd
import pytest

from epiloom.plan import jobs
from epiloom.show import answer, checks, missing, results
from tests.made_results import Made
from tests.made_studies import ACTIVITY, EQTL, PERTURBED, TRUTH

# --- why a result is missing ---------------------------------------------------------------------


def test_a_run_whose_download_failed_points_to_that_log(tmp_path):
    made = Made(tmp_path, cells=["E003"], marks=["H3K4me3"], genes=25, shuffled=False)
    run = "E003.H3K4me3.fold1"
    made.fail(run)
    for path in (tmp_path / "logs/promoter_cnn" / run).iterdir():
        path.unlink()
    log = tmp_path / "logs/download/egg2.wustl.edu/roadmap/E003-H3K4me3.tagAlign.gz.log"
    log.parent.mkdir(parents=True)
    log.write_text("2026-01-01 00:00:00,000 ERROR download: md5 differs\n")
    found = results.read(tmp_path, made.plan)
    (gap,) = missing.gaps(found, missing.read_logs(tmp_path))
    assert gap.reason == "something it needs failed"
    assert [entry.path for entry in gap.logs] == [str(log.relative_to(tmp_path))]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("download/egg2.wustl.edu/roadmap/57epigenomes.RPKM.pc.gz", "something it needs failed"),
        ("genome_mask/100", "something it needs failed"),
        ("bin_track/E003-H3K27ac.reads", "not started: no log, so its turn has not come yet"),
    ],
)
def test_a_failed_step_counts_only_for_what_is_made_from_it(tmp_path, name, reason):
    run = {"model": "promoter_cnn", "run": "E003.H3K4me3.fold1", "cell": "E003", "shuffled": False}
    run |= {"marks": ["H3K4me3"], "fold": "fold1"}
    log = tmp_path / f"logs/{name}.log"
    log.parent.mkdir(parents=True)
    log.write_text("2026-01-01 00:00:00,000 ERROR no space left\n")
    plan = {"runs": [run], "tracks": ["E003-H3K4me3.reads", "E003-H3K27ac.reads"]}
    found = missing.gaps(results.read(tmp_path, plan), missing.read_logs(tmp_path))
    assert {gap.reason for gap in found if gap.name == "promoter_cnn/E003.H3K4me3.fold1"} == {
        reason
    }


def test_a_killed_job_is_told_from_a_failed_one(tmp_path):
    made = Made(tmp_path, cells=["E003"], marks=["H3K4me3"], genes=25, shuffled=False)
    run = "E003.H3K4me3.fold1"
    made.fail(run)
    log = tmp_path / f"logs/promoter_cnn/{run}/train_model.log"
    log.write_text("2026-01-01 00:00:00,000 INFO epoch 3\n")
    (gap,) = missing.gaps(results.read(tmp_path, made.plan), missing.read_logs(tmp_path))
    assert "stopped from outside" in gap.reason
    assert gap.logs[0].status == "unfinished"


def test_runs_are_found_without_a_plan_also_with_a_dot_in_the_mark(tmp_path):
    folder = tmp_path / "results/promoter_cnn/E003.H2A.Z+H3K4me3.fold1.shuffled"
    folder.mkdir(parents=True)
    (folder / "history.tsv").write_text("")
    (run,) = results.found_runs(tmp_path)
    assert (run.cell, run.marks, run.fold, run.shuffled) == ("E003", "H2A.Z+H3K4me3", "fold1", True)


TABLE = PERTURBED.format("E003", "H3K27ac")
ERROR = "2026-01-01 00:00:00,000 ERROR Traceback\n"


@pytest.mark.parametrize(
    ("table", "log", "reason"),
    [
        (TABLE, "chromoformer/perturbation/E003.H3K27ac", "failed"),
        (TABLE, "chromoformer/E003.H3K27ac.fold1/train_model", "something it needs failed"),
        (TABLE, "chromoformer/E003.H3K27ac+H3K4me3.fold1/train_model", "not started"),
        (TABLE, "chromoformer/perturbation/E116.H3K27ac", "not started"),
        (TABLE, "gene_table", "something it needs failed"),
        (TRUTH, "chromoformer/perturbation/truth", "failed"),
        (TRUTH, "chromoformer/perturbation/E116.H3K27ac", "something it needs failed"),
        (EQTL, "eqtl_enrichment", "failed"),
        (EQTL, "chromoformer/perturbation/E003.H3K27ac", "something it needs failed"),
        (ACTIVITY[0], "mark_activity_tables", "failed"),
        (ACTIVITY[0], "mark_activity/E003", "something it needs failed"),
        (ACTIVITY[0], "sort_reads/E003-H3K27ac.reads", "something it needs failed"),
        (ACTIVITY[0], "chromoformer/E003.H3K27ac.fold1/train_model", "not started"),
    ],
)
def test_a_missing_study_points_to_the_step_that_failed(tmp_path, table, log, reason):
    path = tmp_path / f"logs/{log}.log"
    path.parent.mkdir(parents=True)
    path.write_text(ERROR)
    plan = {"studies": [table], "tracks": ["E003-H3K27ac.reads"]}
    listed = missing.gaps(results.read(tmp_path, plan), missing.read_logs(tmp_path))
    (gap,) = [gap for gap in listed if gap.files == (table,)]
    assert gap.reason.startswith(reason)
    assert bool(gap.logs) == (reason != "not started")


def test_a_run_of_a_job_of_many_points_to_that_job(tmp_path):
    made = Made(tmp_path, cells=["E003"], marks=["H3K4me3"], genes=25, shuffled=False)
    run = "E003.H3K4me3.fold1"
    made.fail(run)
    for path in (tmp_path / "logs/promoter_cnn" / run).iterdir():
        path.unlink()
    log = tmp_path / "logs/train_many/promoter_cnn_E003.log"
    log.parent.mkdir(parents=True)
    log.write_text(ERROR)
    found = results.read(tmp_path, made.plan)
    (gap,) = missing.gaps(found, missing.read_logs(tmp_path))
    assert (gap.reason, [entry.name for entry in gap.logs]) == (
        "failed",
        ["train_many/promoter_cnn_E003"],
    )


def test_a_table_waits_for_the_runs_that_failed(tmp_path):
    made = Made(tmp_path, cells=["E003"], marks=["H3K4me3"], genes=25, shuffled=False)
    run = "E003.H3K4me3.fold1"
    made.fail(run)
    (tmp_path / "results/tables/promoter_cnn.tsv").unlink(missing_ok=True)
    found = missing.gaps(results.read(tmp_path, made.plan), missing.read_logs(tmp_path))
    table = {gap.name: gap for gap in found}["table of promoter_cnn"]
    assert table.reason == "something it needs failed"
    assert [log.parts[1] for log in table.logs] == [run]


def test_a_job_of_many_is_repeated_with_the_script_that_they_share(tmp_path):
    log = tmp_path / "logs/train_many/promoter_cnn_E003.log"
    log.parent.mkdir(parents=True)
    log.write_text(ERROR)
    job = jobs.Job("train_promoter_cnn_E003", "train_many", log=str(log.relative_to(tmp_path)))
    (log.parent / f"{log.name}.job.json").write_text(json.dumps(asdict(job)))
    (told,) = missing.read_logs(tmp_path)
    assert told.command == jobs.command(job)
    assert told.command.startswith("python -m workflow_scripts.train_many logs/train_many/")


# --- what deserves a second look -----------------------------------------------------------------


def test_tracks_out_of_line_are_warned_about():
    row = {"signal": "reads", "mean": 1.0, "missing_fraction": 0.01, "clipped_bins": 0}
    table = pd.DataFrame([{"track": name} | row for name in ("a", "b", "c", "d")])
    assert checks.qc_warnings(table) == ([], [])
    table.loc[1, "mean"] = 11.0
    table.loc[2, "missing_fraction"] = 0.21
    table.loc[3, "clipped_bins"] = 5
    warnings, flagged = checks.qc_warnings(table)
    assert len(warnings) == 3
    assert set(flagged) == {"a", "b", "c", "d"}
    assert "21%" in warnings[0]


def test_what_holds_for_every_track_is_said_once():
    row = {"signal": "pval", "mean": 1.0, "missing_fraction": 0.99, "clipped_bins": 0}
    table = pd.DataFrame([{"track": name} | row for name in ("a", "b", "c", "d")])
    warnings, flagged = checks.qc_warnings(table)
    assert len(warnings) == 1 and warnings[0].startswith("every track: 99% of its bins")
    assert flagged == ["a", "b", "c", "d"]


def test_the_worst_genes_are_those_with_the_largest_difference(tmp_path):
    made = Made(tmp_path, cells=["E003"], genes=40, shuffled=False)
    found = results.read(tmp_path, made.plan)
    rows = answer.comparisons(found)
    worst = checks.worst_genes(found, rows, 5)
    best = rows[0]
    table = found.predictions["promoter_cnn", best.cell, best.marks]
    expected = (table["y"] - table["y_hat"]).abs().nlargest(5).to_numpy()
    assert [abs(gene["residual"]) for gene in worst] == pytest.approx(expected)
    assert worst[0]["gene_name"].startswith("GENE")
