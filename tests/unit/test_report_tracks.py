"""The report of models of DNA says what the tables say, with or without genes beside them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from epiloom.plan import results as plan_results
from epiloom.plan import runs
from epiloom.show import missing, results
from epiloom.show.report import build_report
from epiloom.show.track_example import liveliest, stored_run
from epiloom.show.track_results import TrackResults, TrackRow, TrackScore, read_tracks, track_rows
from epiloom.show.track_verdicts import track_verdicts
from tests.made_results import Made
from tests.made_tracks import LIVELY, ROOT, STORE, MadeTracks
from tests.unit.test_report import SECTIONS, Page

OF_GENES = {"marks", "quality", "curves", "comparison", "observed"}
RUN = "results/epiformer/fold1"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> MadeTracks:
    return MadeTracks(tmp_path_factory.mktemp("dna"), ("ASCT", "MSN", "OPC"))


@pytest.fixture(scope="module")
def page(made) -> Page:
    return Page(build_report(made.work, made.work / "results/report.html"))


@pytest.fixture
def copied(made, tmp_path) -> Path:
    """The finished study, to spoil."""
    return Path(shutil.copytree(made.work, tmp_path / "copy"))


def built(work: Path) -> Page:
    return Page(build_report(work, work / "results/report.html"))


def table(work: Path) -> pd.DataFrame:
    whole = pd.read_csv(work / "results/tables/epiformer.tsv", sep="\t")
    return whole[whole["part"] == "test"].set_index(["track", "predictor"])


# --- the page ------------------------------------------------------------------------------------


def test_a_study_of_dna_alone_has_its_own_title_and_no_section_on_marks_or_genes(page):
    assert "How well does DNA predict the signal?" in page.text
    assert "histone mark" not in page.text and "RPKM" not in page.text
    assert set(SECTIONS) - OF_GENES | {"tracks"} <= set(page.ids)
    assert not OF_GENES & set(page.ids)
    targets = {target[1:] for tag, target in page.loads if tag == "a" and target[0] == "#"}
    assert targets <= set(page.ids) and "tracks" in targets
    assert "Nothing: all planned results are there" in page.text
    assert "Genes predicted worst" not in page.text and "add a track: edit targets" in page.text


def test_what_was_run_names_the_tracks_and_counts_runs_and_bins(page):
    assert "ASCT (cells ASCT); MSN (cells MSN); OPC (cells OPC)" in page.text
    assert "1 training run and 1 with shuffled labels" in page.text
    row = next(row for row in page.rows if row and row[0]["text"] == "fold1")
    assert [cell["text"] for cell in row] == ["fold1", "chr2", "chr3", "65,625"]


def test_all_figures_are_there_and_described_and_the_loss_is_called_what_it_is(page):
    drawn = [attrs["aria-label"] for tag, attrs in page.elements if tag == "svg"]
    assert [text.split()[0] for text in drawn] == ["r", "A", "Training", "Training"]
    assert "Poisson loss by epoch" in page.text and "Part 1 of" not in page.text
    assert len(page.ids) == len(set(page.ids))


def test_the_table_of_tracks_shows_the_numbers_of_the_table(made, page):
    known = table(made.work)
    heads = next(row for row in page.rows if row and row[0]["text"] == "track")
    names = ["GC and conservation", "k-mers (ridge)", "other tracks (mean)", "shuffled"]
    assert [cell["text"] for cell in heads[7:]] == names
    keys = ["gc_conservation", "kmer_ridge", "other_cells", "epiformer_shuffled"]
    for track in made.tracks:
        row = next(row for row in page.rows if row and row[0]["text"] == track)
        own = known.loc[(track, "epiformer")]
        assert row[1]["text"] == f"cells {track}"
        expected = [own[k] for k in ("n", "r", "spearman", "deviance_explained", "window_r")]
        expected += [known.loc[(track, key), "r"] for key in keys]
        assert [float(cell["value"]) for cell in row[2:]] == pytest.approx(expected)
        assert f"{own['r_low']:.2f} to {own['r_high']:.2f}" in row[3]["text"]


def test_a_study_of_both_has_both(tmp_path):
    genes = Made(tmp_path, cells=["E003"], marks=["H3K4me3"], genes=25, shuffled=False)
    MadeTracks(tmp_path, ("ASCT",), genes=genes.plan, shuffled=False)
    whole = built(tmp_path)
    title = "Which histone mark predicts expression, and how well does DNA predict the signal?"
    assert title in whole.text
    assert {*SECTIONS, "tracks"} <= set(whole.ids)
    assert "H3K4me3 predicts expression in H1 cells (E003)" in whole.text
    assert "Epiformer predicts ASCT from DNA with r = " in whole.text
    assert "Files that could not be read" not in whole.text
    assert "Nothing: all planned results are there" in whole.text


def test_the_rule_of_the_report_waits_for_all_that_the_page_shows(made, page, tmp_path):
    config = made.plan["config"]
    for path in plan_results.shown(runs.build(config, ROOT)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(made.work / path, tmp_path / path)
    shutil.copy(made.work / "results/provenance.json", tmp_path / "results")
    alone = built(tmp_path)
    assert alone.text.partition("How to read")[0] == page.text.partition("How to read")[0]
    assert len([tag for tag, _ in alone.elements if tag == "svg"]) == 4


# --- what it was asked ---------------------------------------------------------------------------


@pytest.fixture
def asked(copied) -> Path:
    """The finished study, with questions to the model and some of the answers."""
    folder = copied / RUN
    columns = "chrom\tposition\tref\talt\tid\ttrack\tlocal_lfc\tlocal_lfc_sd\n"
    rows = [f"chr3\t{n}\tA\tG\trs{n}\tMSN\t{(-1) ** n * n / 10}\t0.01\n" for n in range(1, 13)]
    (folder / "variants.tsv").write_text(columns + "".join(rows))
    head = "track\twhat\tn\tfigure\tlow\thigh\tchance\tverdict\n"
    row = "MSN\tsign of clear effects is right\t90\t0.98\t0.95\t1\t0.5\tabove chance\n"
    (folder / "variants.truth.tsv").write_text(head + row)
    (folder / "motifs.truth.tsv").write_text(
        head.removeprefix("track\t") + "planted factors that come back\t15\t0.9\t0.8\t1\t0.5\tx\n"
    )
    (folder / "mutagenesis").mkdir()
    for name in ("motifs.png", *(f"mutagenesis/chr3_{n}-{n + 9}.png" for n in range(10, 16))):
        (folder / name).write_bytes(b"\x89PNG")
    plan = json.loads((copied / "results/provenance.json").read_text())
    names = ("variants.tsv", "variants.truth.tsv", "motifs.tsv", "predict/chr3_5-9.tsv.gz")
    plan["asked"] = [f"{RUN}/{name}" for name in names]
    (copied / "results/provenance.json").write_text(json.dumps(plan))
    return copied


def test_answers_of_the_model_are_shown_with_what_was_planted(asked):
    page = built(asked)
    assert "asked-epiformer-fold1" in page.ids
    assert "What Epiformer reads in DNA, fold1" in page.text
    row = next(r for r in page.rows if len(r) > 1 and r[1]["text"].startswith("sign of clear"))
    assert (row[0]["text"], float(row[3]["value"])) == ("MSN", 0.98)
    row = next(r for r in page.rows if len(r) > 1 and r[1]["text"].startswith("planted factors"))
    assert row[0]["text"] == "all"
    strong = [r[0]["text"] for r in page.rows if r and r[0]["text"].startswith("chr3:")]
    assert strong == [f"chr3:{n} A>G" for n in range(12, 2, -1)]
    pictures = [attrs for tag, attrs in page.elements if tag == "img"]
    assert len(pictures) == 5 and all(p["src"].startswith("data:image/png") for p in pictures)
    assert "2 more figures are files of their own" in page.text


def test_questions_without_an_answer_are_listed_with_their_log(asked):
    log = asked / "logs/epiformer/fold1/find_motifs.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("ERROR no attribution\n")
    listed = {
        gap.name: gap for gap in missing.gaps(results.read(asked, None), missing.read_logs(asked))
    }
    assert set(listed) == {"epiformer/fold1 motifs", "epiformer/fold1 predict"}
    assert [one.name for one in listed["epiformer/fold1 motifs"].logs] == [
        "epiformer/fold1/find_motifs"
    ]


# --- what is missing -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "listed"),
    [
        (f"{RUN}/predictions.npy", "epiformer/fold1"),
        (f"{RUN}/history.tsv", "epiformer/fold1"),
        ("results/tables/epiformer.tsv", "table of epiformer"),
        (f"{STORE}/targets128/MSN.npy", "target MSN"),
        (f"{STORE}/conservation/phastcons.npy", None),
        (f"{STORE}/manifest.json", None),
    ],
)
@pytest.mark.parametrize("spoil", ["remove", "damage"])
def test_no_file_that_is_missing_or_damaged_breaks_the_page(copied, path, listed, spoil):
    (copied / path).unlink()
    if spoil == "damage":
        (copied / path).write_bytes(b"\x93NUMPY, but then\tnothing of sense\n")
    whole = built(copied)
    assert "tracks" in whole.ids
    said = "Files that could not be read" if spoil == "damage" else listed
    assert said is None or said in whole.text.partition("What failed or is missing")[2]


def test_the_runs_own_metrics_do_where_the_table_is_not_there_yet(made, page, copied):
    (copied / "results/tables/epiformer.tsv").unlink()
    rows = [[cell["text"] for cell in row] for row in page.rows if len(row) > 9]
    assert [[c["text"] for c in row] for row in built(copied).rows if len(row) > 9] == rows


def test_a_failed_run_is_listed_with_its_log_and_command(made, copied):
    made_there = replace_work(made, copied)
    made_there("epiformer/fold1/train_model", "ERROR CUDA out of memory")
    for name in ("history.tsv", "predictions.npy", "metrics.tsv"):
        (copied / RUN / name).unlink()
    whole = built(copied)
    assert "CUDA out of memory" in whole.text
    command = "python -m workflow_scripts.train_model logs/epiformer/fold1/train_model.log.job.json"
    assert command in whole.text
    assert "Not there yet: predictions and tracks of the test chromosomes" in whole.text


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("bin_target/MSN", "something it needs failed"),
        ("genome_bases", "something it needs failed"),
        ("download/own/MSN-target/MSN.bw", "something it needs failed"),
        ("other/step", "its log"),
    ],
)
def test_what_a_run_waits_for_is_told(made, copied, log, reason):
    replace_work(made, copied)(log, "ERROR no space left")
    for path in (f"{RUN}/predictions.npy", f"{STORE}/targets128/MSN.npy"):
        (copied / path).unlink()
    shutil.rmtree(copied / "logs/epiformer")
    found = missing.gaps(results.read(copied, None), missing.read_logs(copied))
    told = {gap.name: gap.reason for gap in found}
    assert set(told) == {"target MSN", "epiformer/fold1"}
    expected = "not started" if log == "other/step" else reason
    assert told["epiformer/fold1"].startswith(expected)


def test_a_target_does_not_stop_the_runs_of_genes(tmp_path):
    run = {"model": "promoter_cnn", "run": "E003.H3K4me3.f", "cell": "E003", "shuffled": False}
    plan = {
        "runs": [run | {"marks": ["H3K4me3"], "fold": "f"}],
        "sequence": [{"model": "epiformer", "run": "f", "fold": "f", "shuffled": False}],
        "targets": {"E003-DNase": ""},
        "config": {"models": {"epiformer": {}}},
    }
    log = tmp_path / "logs/download/roadmap/E003-DNase.pval.signal.bigwig.log"
    log.parent.mkdir(parents=True)
    log.write_text("2026-01-01 00:00:00,000 ERROR md5 differs\n")
    found = missing.gaps(results.read(tmp_path, plan), missing.read_logs(tmp_path))
    told = {gap.name: gap.reason for gap in found}
    assert told["epiformer/f"] == told["target E003-DNase"] == "something it needs failed"
    assert told["promoter_cnn/E003.H3K4me3.f"].startswith("not started")


def replace_work(made: MadeTracks, work: Path):
    """`made.log`, in another folder."""
    copy = object.__new__(MadeTracks)
    copy.work = work
    return copy.log


# --- the example region --------------------------------------------------------------------------


def test_the_example_is_the_liveliest_stretch_that_is_measured_and_predicted(made):
    found = results.read(made.work, None)
    stored = stored_run(found, found.sequence[0])
    chrom, first, last = liveliest(stored)
    assert chrom == LIVELY[0] and last - first == 28
    assert abs(first - LIVELY[1]) <= 7  # places are a quarter of a stretch apart
    values = stored.predictions(1, chrom)
    raw = np.load(made.work / RUN / "predictions.npy")
    np.testing.assert_array_equal(values, raw[1, -len(values) :])
    hidden = stored.mask.copy()
    hidden[stored.span(chrom)][first - 30 : last + 30] = 1
    again = liveliest(replace(stored, mask=hidden))
    assert abs(again[1] - first) > 28


def test_nothing_predicted_gives_no_example(made):
    found = results.read(made.work, None)
    stored = stored_run(found, found.sequence[0])
    assert liveliest(replace(stored, predicted=np.full_like(stored.predicted, np.nan))) is None


# --- several folds and verdicts ------------------------------------------------------------------


def test_folds_are_averaged_and_their_intervals_combined(made):
    found = results.read(made.work, None)
    one = read_tracks(found)
    two = one.metrics.assign(fold="fold2")
    both = replace(one, metrics=pd.concat([one.metrics, two]))
    for single, double in zip(track_rows(one), track_rows(both), strict=True):
        assert double.score.r == pytest.approx(single.score.r) and double.score.folds == 2
        half = single.score.high - single.score.r
        assert double.score.high - double.score.r == pytest.approx(half / np.sqrt(2))
        assert double.score.n == 2 * single.score.n


def test_the_answer_tells_level_baselines_other_tracks_control_and_cells(made, page):
    known = table(made.work)
    r = [known.loc[(track, "epiformer"), "r"] for track in made.tracks]
    assert f"Epiformer predicts 3 tracks from DNA with r = {np.mean(r):.2f} (95% inter" in page.text
    assert "training chromosomes alone on all 3 tracks, clearly each time." in page.text
    assert "The mean of the other tracks predicts all 3 tracks better." in page.text
    assert "nothing leaks from the test chromosomes into training" in page.text
    cell_r = known.loc[("across", "epiformer"), "cell_r"]
    assert f"goes with what was measured at r = {cell_r:.2f} on average" in page.text


def score(predictor: str, r: float, half: float = 0.02) -> TrackScore:
    return TrackScore(predictor, 9000, r, r - half, r + half, r, r, r, np.nan, 1)


def said(*rows: TrackRow) -> list[tuple[str, str]]:
    columns = ["model", "track", "predictor", "cell_r", "cell_r_median", "n"]
    run = results.Run("epiformer", "f", "", "", "f")
    dna = TrackResults([run], {}, pd.DataFrame(columns=columns))
    return [(v.state, v.text + " ".join(v.details)) for v in track_verdicts(dna, list(rows))]


def row(track: str, r: float, other: float, half: float = 0.02, **more) -> TrackRow:
    others = [score("kmer_ridge", other, half), score("mean", np.nan)]
    others += [score("other_cells", more["cells"], half)] if "cells" in more else []
    control = score("epiformer_shuffled", *more["control"]) if "control" in more else None
    return TrackRow("epiformer", track, "", score("epiformer", r, half), others, control)


def test_weights_that_may_have_seen_the_test_chromosomes_are_told_of(copied):
    plan = json.loads((copied / "results/provenance.json").read_text())
    assert "no held-out ones" not in built(copied).text
    plan["config"]["models"]["epiformer"]["start_seen"] = "allow"
    (copied / "results/provenance.json").write_text(json.dumps(plan))
    assert "Epiformer began with weights that may have seen the test chromo" in built(copied).text


@pytest.mark.parametrize(
    ("rows", "state", "text"),
    [
        ([row("A", 0.6, 0.4)], "good", "alone on the track, clearly."),
        ([row("A", 0.6, 0.59)], "mixed", "on the track, but the intervals overlap."),
        ([row("A", 0.6, 0.4, np.nan)], "mixed", "by 0.20 (too few test bins for intervals)"),
        ([row("A", 0.6, 0.4), row("B", 0.5, 0.49)], "mixed", "both tracks, clearly on 1; on the"),
        ([row("A", 0.6, 0.4), row("B", 0.5, 0.7)], "mixed", "on 1 of 2 tracks, clearly. Not on:"),
        ([row("A", 0.3, 0.4)], "bad", "does not beat"),
    ],
)
def test_how_sure_it_is_that_training_helps(rows, state, text):
    assert said(*rows)[1][0] == state
    assert text in said(*rows)[1][1]


def test_the_other_tracks_and_the_control_are_judged_for_what_they_are():
    made = said(row("A", 0.6, 0.4, cells=0.7, control=(0.05, 0.02)))
    assert made[2][0] == "info" and "no failure" in made[2][1]
    assert made[3][0] == "good"
    made = said(row("A", 0.6, 0.4, cells=0.5, control=(0.3, 0.02)))
    assert made[2][0] == "good" and "even beats" in made[2][1]
    assert made[3][0] == "bad" and "more than chance" in made[3][1]
    assert said(row("A", 0.6, 0.4, control=(0.15, 0.2)))[2][0] == "good"  # holds zero
    assert said(row("A", 0.6, 0.4, control=(np.nan, 0.2)))[2][0] == "good"  # constant
    assert said(row("A", 0.6, 0.4))[2][0] == "unknown"
    assert said()[0] == ("unknown", "No model of DNA has been evaluated yet; see what is missing "
                         "below.")  # fmt: skip
