"""The report of models that compress tracks says what the tables say, whatever is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from epiloom.plan import channels
from epiloom.plan import results as plan_results
from epiloom.show import missing, results
from epiloom.show.latent_results import kept, read_latents
from epiloom.show.latent_verdicts import latent_verdicts
from epiloom.show.report import build_report
from tests.made_latents import ASSAYS, MadeLatents
from tests.made_results import Made
from tests.made_tracks import MadeTracks
from tests.unit.test_report import SECTIONS, Page

OF_GENES = {"marks", "quality", "curves", "comparison", "observed"}
OWN = {"latents", "downstream"}
RUN = "results/epi_lstm/fold1"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> MadeLatents:
    return MadeLatents(tmp_path_factory.mktemp("latents"))


@pytest.fixture(scope="module")
def page(made) -> Page:
    return built(made.work)


@pytest.fixture
def copied(made, tmp_path) -> Path:
    """The finished study, to spoil."""
    return Path(shutil.copytree(made.work, tmp_path / "copy"))


def built(work: Path) -> Page:
    return Page(build_report(work, work / "results/report.html"))


# --- the page ------------------------------------------------------------------------------------


def test_a_study_of_latents_alone_has_its_own_title_and_sections(page):
    assert "How much of the epigenome do 24 numbers per 25 bp keep?" in page.text
    assert "log2(RPKM" not in page.text and "Which mark?" not in page.text
    assert set(SECTIONS) - OF_GENES | OWN <= set(page.ids)
    assert not OF_GENES & set(page.ids)
    targets = {target[1:] for tag, target in page.loads if tag == "a" and target[0] == "#"}
    assert OWN <= targets <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert "Nothing: all planned results are there" in page.text
    assert "Files that could not be read" not in page.text


def test_what_was_run_names_tracks_tasks_and_bins(page):
    told = "6 tracks of 2 cell types and 3 assays, into 24 numbers per 25 bp"
    assert told in page.text
    assert "expression, promoter-enhancer contacts, FIRE, TAD boundaries, replication" in page.text
    assert "Epi-LSTM settings" in page.text and "1 training run" in page.text
    row = next(row for row in page.rows if row and row[0]["text"] == "fold1")
    assert [cell["text"] for cell in row] == ["fold1", "chr1", "chr2", "23,000"]


def test_all_figures_are_there_and_described(page):
    drawn = [attrs["aria-label"] for tag, attrs in page.elements if tag == "svg"]
    assert len(drawn) == 9 and all(len(text) > 20 for text in drawn)
    pictures = [attrs for tag, attrs in page.elements if tag == "img"]
    assert len(pictures) == 1 and pictures[0]["src"].startswith("data:image/png")
    assert pictures[0]["alt"].startswith("chr2:100000-200000.")


def test_the_lead_says_what_is_kept_and_what_pca_keeps(page):
    lead = (
        "Epi-LSTM: 24 numbers per 25 bp keep 82% of the variance of 6 tracks on chromosomes never "
        "seen; PCA of equal size keeps 61%. It is ahead of PCA on 6 of 6 tracks."
    )
    assert lead in page.text
    rows = {row[0]["text"]: row for row in page.rows if row and row[0]["text"] in ASSAYS}
    assert set(rows) == set(ASSAYS)
    # tracks of one assay lie 3 places, so 0.06, apart
    assert float(rows["H3K27ac"][2]["value"]) == pytest.approx(0.82 - 0.03 + 0.03)


def test_the_tables_of_tasks_show_the_numbers_of_the_files(made, page):
    table = pd.read_csv(made.work / "results/tables/downstream.tsv", sep="\t")
    own = table[(table["task"] == "fire") & (table["scheme"] == "chromosomes")]
    means = own[own["fold"] == "mean"].groupby("predictor")["ap"].mean()
    row = next(r for r in page.rows if r and r[0]["text"] == "FIRE" and len(r) == 10)
    assert [cell["text"] for cell in row[1:3]] == ["chromosomes", "2"]
    expected = [means[name] for name in ("latents", "pca", "raw", "cell_average")]
    assert [float(cell["value"]) for cell in row[5:9]] == pytest.approx(expected)
    fresh = own[(own["fold"] == "fold1") & (own["predictor"] == "latents")]["ap"].mean()
    assert float(row[9]["value"]) == pytest.approx(fresh)
    assert row[9]["text"].endswith("1 of 2")
    differences = pd.read_csv(made.work / "results/tables/downstream.differences.tsv", sep="\t")
    wanted = {"task": "fire", "scheme": "chromosomes", "cell": "all", "predictor": "cell_average"}
    for key, value in wanted.items():
        differences = differences[differences[key] == value]
    row = next(r for r in page.rows if len(r) == 6 and r[0]["text"] == "FIRE" and r[2]["text"])
    rows = [r for r in page.rows if len(r) == 6 and r[0]["text"] == "FIRE"]
    row = next(r for r in rows if r[3]["text"] == "the cell average")
    assert float(row[4]["value"]) == pytest.approx(differences["difference"].iloc[0])
    assert row[5]["text"] == "better"


def test_what_was_seen_and_who_is_the_honest_competitor_is_said(page):
    for text in (
        "In 1 of 2 folds of the tasks the latents come from a model that was trained on test",
        "The honest competitor is the cell average",
        "Prevalence stands beside it everywhere",
        "Shuffled windows held out: neighbours",
        "the arrays stored with its code are not independent of one another",
    ):
        assert text in page.text


def test_nothing_published_is_spoken_of_beside_simulated_data(tmp_path):
    text = built(MadeLatents(tmp_path, simulated=True, tasks=["fire"]).work).text
    assert "the arrays stored" not in text and "Simulated data." in text


def test_without_tasks_there_is_no_section_on_them(tmp_path):
    page = built(MadeLatents(tmp_path, tasks=[]).work)
    assert "latents" in page.ids and "downstream" not in page.ids
    assert "Nothing: all planned results are there" in page.text


def test_several_folds_are_told_apart_and_their_tracks_averaged(tmp_path):
    made = MadeLatents(tmp_path, ("fold1", "fold2"), tasks=["fire"])
    page = built(tmp_path)
    assert "2 training runs" in page.text and "Drawn: fold1; the others have" in page.text
    assert "The latents of fold2" not in page.text
    assert "As features of a classifier the latents of fold2 do" in page.text
    found = kept(read_latents(results.read(tmp_path, None)), "epi_lstm")
    assert (found.done, found.planned, found.tracks) == (2, 2, 6)
    assert len([r for r in page.rows if len(r) > 9 and r[1]["text"] == "fold2"]) == 2
    assert len(page.ids) == len(set(page.ids))
    assert len(made.plan["frames"]) == 2


def test_a_study_of_everything_has_everything(tmp_path):
    genes = Made(tmp_path, cells=["E003"], marks=["H3K4me3"], genes=25, shuffled=False)
    dna = MadeTracks(tmp_path, ("ASCT",), genes=genes.plan, shuffled=False)
    MadeLatents(tmp_path, beside=dna.plan, tasks=["fire"])
    page = built(tmp_path)
    title = (
        "Which histone mark predicts expression, how well does DNA predict the signal, and how "
        "much of the epigenome do 24 numbers per 25 bp keep?"
    )
    assert title in page.text
    assert {*SECTIONS, "tracks", *OWN} <= set(page.ids)
    assert "Files that could not be read" not in page.text
    assert "Nothing: all planned results are there" in page.text
    assert "H3K4me3 predicts expression in H1 cells (E003)" in page.text
    assert "Epiformer predicts ASCT from DNA with r = " in page.text
    assert "Epi-LSTM: 24 numbers per 25 bp keep 82%" in page.text
    assert len(page.ids) == len(set(page.ids))


@pytest.mark.parametrize("kind", ["genes", "dna"])
def test_a_study_of_two_kinds_has_both(tmp_path, kind):
    if kind == "genes":
        other = Made(tmp_path, cells=["E003"], marks=["H3K4me3"], genes=25, shuffled=False)
    else:
        other = MadeTracks(tmp_path, ("ASCT",), shuffled=False)
    MadeLatents(tmp_path, beside=other.plan, tasks=["fire"])
    page = built(tmp_path)
    assert set(page.ids) >= OWN
    assert ("comparison" in page.ids) == (kind == "genes")
    assert ("tracks" in page.ids) == (kind == "dna")
    assert "Nothing: all planned results are there" in page.text


# --- what is missing -----------------------------------------------------------------------------


def test_the_rule_of_the_report_waits_for_all_that_the_page_shows(made, page, tmp_path):
    for path in plan_results.shown(made.built):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(made.work / path, tmp_path / path)
    shutil.copy(made.work / "results/provenance.json", tmp_path / "results")
    alone = built(tmp_path)
    assert alone.text.partition("How to read")[0] == page.text.partition("How to read")[0]


def test_all_that_the_page_shows_is_listed_where_nothing_is_finished(made, tmp_path):
    (tmp_path / "results").mkdir()
    shutil.copy(made.work / "results/provenance.json", tmp_path / "results")
    found = results.read(tmp_path, None)
    listed = {file for gap in missing.gaps(found, []) for file in gap.files}
    assert listed == {*channels.shown(made.built), "results/tables/epi_lstm.tsv"}
    page = built(tmp_path)
    assert set(page.ids) >= OWN
    assert "Epi-LSTM has not been evaluated yet; see what is missing below." in page.text
    assert "Not there yet: the reconstruction of the test chromosomes" in page.text
    assert "Not there yet: expression, promoter-enhancer contacts" in page.text


READ = [
    "results/tables/epi_lstm.tsv",
    *(f"{RUN}/{n}.tsv" for n in ("history", "smoothness", "correlations", "positions")),
    *(f"{RUN}/{n}" for n in ("attribution.tsv", "downstream/fire.curves.tsv")),
    "results/tables/downstream.tsv",
    "results/tables/downstream.differences.tsv",
]
ONLY_WITHOUT_TABLE = [f"{RUN}/metrics.tsv", f"{RUN}/downstream/fire.metrics.tsv"]


def spoiled(content: bytes, how: str) -> bytes:
    if how == "cut":
        return content[: int(len(content) * 0.7) - 3]
    first = content.splitlines()[0] + b"\n"
    return first if how == "header" else b"\x93NUMPY, but then\tnothing of sense\n"


@pytest.mark.parametrize("how", ["damage", "cut", "header"])
def test_a_page_of_spoiled_files_alone_is_still_a_page(copied, how):
    for path in (copied / "results").rglob("*.tsv"):
        path.write_bytes(spoiled(path.read_bytes(), how))
    page = built(copied)
    assert set(page.ids) >= OWN
    if how == "damage":
        told = page.text.partition("Files that could not be read")[2]
        assert all(path in told for path in READ)


@pytest.mark.parametrize("how", ["damage", "cut", "header"])
@pytest.mark.parametrize("path", READ)
def test_no_single_file_that_is_spoiled_breaks_the_answer(copied, path, how):
    (copied / path).write_bytes(spoiled((copied / path).read_bytes(), how))
    found = results.read(copied, None)
    made = latent_verdicts(read_latents(found))
    assert made[0].lead
    assert any(path in line for line in found.unreadable) == (how == "damage")


@pytest.mark.parametrize("path", [*READ, *ONLY_WITHOUT_TABLE])
def test_every_file_that_is_missing_is_listed(copied, path):
    (copied / path).unlink()
    found = results.read(copied, None)
    assert [path] == [file for gap in missing.gaps(found, []) for file in gap.files]
    assert latent_verdicts(read_latents(found))[0].lead


def test_the_runs_own_tables_do_where_those_over_runs_are_not_there_yet(page, copied):
    for path in (copied / "results/tables").glob("*.tsv"):
        path.unlink()
    rows = [[cell["text"] for cell in row] for row in page.rows if len(row) > 4]
    assert [[c["text"] for c in row] for row in built(copied).rows if len(row) > 4] == rows


def test_without_a_plan_the_folders_tell(copied):
    (copied / "results/provenance.json").unlink()
    page = built(copied)
    assert set(page.ids) >= OWN and not OF_GENES & set(page.ids)
    assert "24 numbers per 25 bp keep 82% of the variance of 6 tracks" in page.text


@pytest.mark.parametrize(
    ("step", "gone", "name"),
    [
        ("epi_lstm/fold1/train_model", f"{RUN}/history.tsv", "epi_lstm/fold1"),
        ("epi_lstm/fold1/evaluate_latents", f"{RUN}/metrics.tsv", "epi_lstm/fold1 reconstruction"),
        ("epi_lstm/fold1/describe_latents", f"{RUN}/positions.tsv", "epi_lstm/fold1 description"),
        (
            "epi_lstm/fold1/latent_region/chr2_100000-200000",
            f"{RUN}/regions/chr2_100000-200000.png",
            "epi_lstm/fold1 region chr2_100000-200000",
        ),
        (
            "epi_lstm/fold1/downstream_task/fire",
            f"{RUN}/downstream/fire.metrics.tsv",
            "epi_lstm/fold1 task fire",
        ),
        ("downstream_table", "results/tables/downstream.tsv", "table of downstream tasks"),
        ("epi_lstm/track_table", "results/tables/epi_lstm.tsv", "table of epi_lstm"),
    ],
)
def test_a_failed_job_is_listed_with_its_log_and_command(copied, step, gone, name):
    fail(copied, step)
    (copied / gone).unlink()
    found = missing.gaps(results.read(copied, None), missing.read_logs(copied))
    assert [(gap.name, gap.reason) for gap in found] == [(name, "failed")]
    (log,) = found[0].logs
    rule = step.split("/")[2] if step.count("/") == 3 else step.rpartition("/")[2]
    assert log.command == f"python -m workflow_scripts.{rule} logs/{step}.log.job.json"
    assert log.tail[-1].endswith("no space left")


@pytest.mark.parametrize(
    ("step", "held_up"),
    [
        ("epi_lstm/tile_tracks", "run recon desc task"),
        ("bin_track/E003-DNase.pval", "run recon desc task"),
        ("genome_mask/25", "run recon desc task"),
        ("epi_lstm/fold1/annotate_genome", "desc task"),
        ("epi_lstm/fold1/evaluate_latents", "recon task"),
        ("genome_bases", "desc"),
        ("task_labels/fire", "task"),
        ("epi_lstm/window_signal/fire", "task"),
        ("task_labels/expression", ""),
        ("bin_track/E999-DNase.pval", ""),
        ("epi_lstm/fold2/annotate_genome", ""),
    ],
)
def test_what_a_result_waits_for_is_told(copied, step, held_up):
    shutil.rmtree(copied / "logs")
    fail(copied, step)
    names = {
        "run": ("history.tsv", "epi_lstm/fold1"),
        "recon": ("metrics.tsv", "epi_lstm/fold1 reconstruction"),
        "desc": ("positions.tsv", "epi_lstm/fold1 description"),
        "task": ("downstream/fire.metrics.tsv", "epi_lstm/fold1 task fire"),
    }
    for file, _ in names.values():
        (copied / RUN / file).unlink()
    found = missing.gaps(results.read(copied, None), missing.read_logs(copied))
    told = {gap.name: gap.reason for gap in found}
    assert set(told) == {name for _, name in names.values()}
    stopped = {"failed", "something it needs failed"}
    assert {key for key, (_, name) in names.items() if told[name] in stopped} == set(
        held_up.split()
    )


def fail(work: Path, step: str) -> None:
    path = work / f"logs/{step}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("2026-01-01 00:00:00,000 ERROR no space left\n")
    rule = step.split("/")[2] if step.count("/") == 3 else step.rpartition("/")[2]
    path.with_name(f"{path.name}.job.json").write_text(json.dumps({"rule": rule}))


def test_bigwigs_that_failed_are_told_of_although_the_page_does_not_show_them(copied):
    fail(copied, "epi_lstm/fold1/latent_tracks/chr2")
    text = built(copied).text
    assert "Other steps whose log holds an error" in text
    assert "logs/epi_lstm/fold1/latent_tracks/chr2.log" in text
