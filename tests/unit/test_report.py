"""The report says what the tables say, opens offline, and survives anything that is missing."""

from __future__ import annotations

import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from epiloom.plan.errors import InputError
from epiloom.show.report import build_report
from epiloom.show.report_tables import digest
from epiloom.show.results import read_metrics
from tests.made_results import BASELINES, NAMES, TWO_MODELS, Made
from tests.made_studies import EQTL, PERTURBED

SECTIONS = [
    "answer",
    "marks",
    "run",
    "quality",
    "curves",
    "comparison",
    "observed",
    "reading",
    "next",
]
SECTIONS += ["missing", "versions", "cost"]


class Page(HTMLParser):
    """What a test asks of a page: links, ids, cells of tables, text, elements."""

    def __init__(self, path: Path):
        super().__init__()
        self.loads, self.ids, self.elements, self.words = [], [], [], []
        self.rows, self._cell = [], None
        self.source = path.read_text()
        self.feed(self.source)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.elements.append((tag, attrs))
        self.loads += [(tag, attrs[key]) for key in ("src", "href", "xlink:href") if key in attrs]
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append({"value": attrs.get("data-value"), "text": ""})
            self._cell = self.rows[-1][-1]

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._cell = None

    def handle_data(self, data):
        self.words.append(data)
        if self._cell is not None:
            self._cell["text"] += data


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Made, Page]:
    work = tmp_path_factory.mktemp("whole work")
    made = Made(work)
    return made, Page(build_report(work, work / "results/report.html"))


# --- the page ------------------------------------------------------------------------------------


def test_nothing_is_loaded_from_elsewhere(whole):
    _, page = whole
    assert page.loads
    assert [load for load in page.loads if not load[1].startswith(("#", "data:"))] == []
    assert not {tag for tag, _ in page.elements} & {"link", "iframe", "object", "embed", "base"}
    assert "@import" not in page.source
    assert "url(http" not in page.source


def test_all_sections_are_there_and_the_contents_lead_to_them(whole):
    _, page = whole
    linked = [target[1:] for tag, target in page.loads if tag == "a"]
    assert set(SECTIONS) <= set(page.ids)
    assert set(SECTIONS) <= set(linked)
    assert set(linked) <= set(page.ids)


def test_no_id_is_used_twice_and_every_reference_inside_a_figure_has_its_target(whole):
    _, page = whole
    assert len(page.ids) == len(set(page.ids))
    used = [target[1:] for _, target in page.loads if target.startswith("#")]
    assert set(used) <= set(page.ids)


def test_every_figure_is_described_and_every_kind_of_figure_is_there(whole):
    _, page = whole
    drawn = [attrs for tag, attrs in page.elements if tag == "svg"]
    assert len(drawn) == 8
    assert all(attrs["role"] == "img" and len(attrs["aria-label"]) > 20 for attrs in drawn)


def test_the_comparison_shows_the_numbers_of_the_table(whole):
    made, page = whole
    table = pd.read_csv(made.work / "results/tables/promoter_cnn.tsv", sep="\t")
    pooled = table[table["fold"] == "pooled"].set_index(["cell", "marks", "predictor"])
    shown = [row for row in page.rows if row and row[0]["text"].startswith("H1 cells (E003)")]
    assert len(shown) == 2
    for row in shown:
        marks = row[1]["text"].split()[0]
        ours = pooled.loc["E003", marks, "promoter_cnn"]
        assert int(row[2]["value"]) == ours["n"]
        assert float(row[3]["value"]) == pytest.approx(ours["r"], abs=1e-12)
        assert row[3]["text"].startswith(f"{ours['r']:.3f}")
        for column, key in ((6, "spearman"), (7, "r2"), (8, "mse")):
            assert float(row[column]["value"]) == pytest.approx(ours[key], abs=1e-12)
        others = sorted(float(cell["value"]) for cell in row[9:14])
        expected = sorted(pooled.loc[("E003", marks, name), "r"] for name in BASELINES)
        assert others == pytest.approx(expected, abs=1e-12)


def test_the_answer_names_the_best_mark_of_each_cell_with_its_interval(whole):
    made, page = whole
    table = pd.read_csv(made.work / "results/tables/promoter_cnn.tsv", sep="\t")
    pooled = table[(table["fold"] == "pooled") & (table["predictor"] == "promoter_cnn")]
    for cell, rows in pooled.groupby("cell"):
        best = rows.loc[rows["r"].idxmax()]
        sentence = (
            f"{NAMES[cell]} ({cell}): {best['marks']}, "
            f"r = {best['r']:.2f} (95% interval {best['r_low']:.2f} to {best['r_high']:.2f}) "
            f"over {best['n']:,} test genes"
        )
        assert sentence in page.text


def test_what_was_run_is_told(whole):
    _, page = whole
    for fact in ("hg19", "H1 cells (E003)", "chr5, chr6", "8 training runs and 4 with shuffled"):
        assert fact in page.text
    for fact in ("abc1234", "config/examples/demo.yaml", "0123456789abcdef", "torch", "2.8.0"):
        assert fact in page.text
    assert "Simulated data" not in page.text
    assert "Nothing: all planned results are there" in page.text


def test_the_page_is_the_same_when_built_twice(whole):
    made, page = whole
    again = build_report(made.work, made.work / "again.html", made.plan)
    assert again.read_text() == page.source


def test_simulated_data_are_flagged_at_the_top_and_in_the_title(tmp_path):
    made = Made(tmp_path, cells=["E003"], marks=["H3K4me3"], genes=30)
    page = Page(build_report(tmp_path, tmp_path / "r.html", made.plan | {"simulated": True}))
    assert page.source.index("Simulated data.") < page.source.index('id="answer"')
    assert "<title>SIMULATED DATA: " in page.source


# --- partial results -----------------------------------------------------------------------------


def test_a_failed_run_is_listed_with_the_end_of_its_log_and_the_command(tmp_path):
    made = Made(tmp_path, genes=40)
    run = "E003.H3K4me3.fold2"
    made.fail(run)
    (tmp_path / "results/tables/promoter_cnn.tsv").unlink()
    page = Page(build_report(tmp_path, tmp_path / "r.html", made.plan, partial=True))
    assert "Partial report." in page.text
    assert f"promoter_cnn/{run}" in page.text
    assert "FloatingPointError: loss is not finite at step 31" in page.text
    command = (
        f"python -m workflow_scripts.train_model logs/promoter_cnn/{run}/train_model.log.job.json"
    )
    assert command in page.text
    assert "<script>alert(2)" not in page.source
    assert "/secret/place" not in page.source
    assert "fold1 only" in page.text  # what is left of that cell and mark
    assert "mean of 2 folds" in page.text


@pytest.mark.parametrize(
    "gone",
    [
        {
            "results/qc": "quality table of the tracks",
            "results/features": "promoter features",
            "benchmarks": "time and memory of the steps",
        },
        {
            "results/promoter_cnn": "training histories",
            "results/tables": "metrics of every run",
            "results/provenance.json": "record of versions",
        },
    ],
)
def test_a_missing_table_leaves_a_note_in_its_section(tmp_path, gone):
    made = Made(tmp_path, cells=["E003"], marks=["H3K4me3"], genes=25, shuffled=False)
    for name in gone:
        target = tmp_path / name
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    plan = None if "results/provenance.json" in gone else made.plan
    page = Page(build_report(tmp_path, tmp_path / "r.html", plan))
    assert set(SECTIONS) <= set(page.ids)
    assert [note for note in gone.values() if note not in page.text] == []


def test_an_empty_folder_gives_a_report_that_says_so(tmp_path):
    page = Page(build_report(tmp_path, tmp_path / "r.html", None, partial=True))
    assert set(SECTIONS) <= set(page.ids)
    assert "No model has been evaluated yet" in page.text
    assert "No plan was recorded" in page.text


def test_a_broken_table_is_named_and_does_not_stop_the_report(tmp_path):
    made = Made(tmp_path, cells=["E003"], marks=["H3K4me3"], genes=25, shuffled=False)
    history = tmp_path / "results/promoter_cnn/E003.H3K4me3.fold1/history.tsv"
    history.write_text("epoch\tloss\n1\t2\n")
    np.save(tmp_path / "results/features/E003-H3K4me3.reads.npy", np.zeros((3, 400), np.float32))
    page = Page(build_report(tmp_path, tmp_path / "r.html", made.plan))
    assert "column(s) train_loss, validation_loss, learning_rate missing" in page.text
    assert "shape (3, 400) does not fit 50 genes" in page.text


def test_undefined_metrics_are_called_undefined_and_never_best(tmp_path):
    made = Made(tmp_path, cells=["E003"], genes=25, shuffled=False)
    path = tmp_path / "results/tables/promoter_cnn.tsv"
    table = pd.read_csv(path, sep="\t")
    chosen = (table["marks"] == "H3K4me3") & (table["predictor"] == "promoter_cnn")
    table.loc[chosen, ["r", "r_low", "r_high", "spearman", "r2"]] = np.nan
    table.to_csv(path, sep="\t", index=False)
    page = Page(build_report(tmp_path, tmp_path / "r.html", made.plan))
    assert "H3K27ac predicts expression in H1 cells (E003)" in page.text
    assert "undefined" in page.text
    assert "nan" not in page.text.lower().replace("provenance", "").split()


def test_names_are_shown_as_text_not_run_as_markup(tmp_path):
    made = Made(tmp_path, cells=["E003"], marks=["H3K4me3"], genes=25, shuffled=False)
    evil = '<img src=x onerror="alert(1)">$\\frac{$'
    made.plan["cells"] = {"E003": evil}
    genes = made.genes.assign(gene_name=evil)
    made.write("results/genes/genes.tsv", genes)
    page = Page(build_report(tmp_path, tmp_path / "r.html", made.plan))
    assert "<img" not in page.source
    assert "&lt;img src=x" in page.source
    assert [row for row in page.rows if row and row[0]["text"] == evil]
    assert sum(tag == "script" for tag, _ in page.elements) == 1


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        build_report(tmp_path / "nowhere", tmp_path / "r.html")


# --- several models, classifiers, studies --------------------------------------------------------

STUDIES = ["activity", "perturbation-chromoformer", "eqtl"]


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> tuple[Made, Page]:
    work = tmp_path_factory.mktemp("two")
    marks = ["H3K4me3", "H3K27ac", "H3K27me3"]
    made = Made(work, marks=marks, genes=60, epochs=3, models=TWO_MODELS, studies=True)
    return made, Page(build_report(work, work / "r.html", made.plan))


def test_two_models_are_told_apart_and_by_how_far_they_see(two):
    _, page = two
    for words in (
        "promoter CNN (6 kb): H3K4me3 predicts expression best in",
        "Chromoformer (40 kb + partners): H3K4me3 predicts expression best in",
        "On the same genes Chromoformer (40 kb + partners) predicts better than the promoter CNN",
        "Chromoformer with all 3 marks together reaches",
        "What a second mark adds",
    ):
        assert words in page.text
    assert "Nothing: all planned results are there" in page.text
    assert len(page.ids) == len(set(page.ids))


def test_the_table_of_marks_shows_every_mark_of_every_model_and_marks_what_is_recorded(two):
    made, page = two
    head = next(i for i, row in enumerate(page.rows) if any(c["text"] == "sees" for c in row))
    names = [cell["text"] for cell in page.rows[head]]
    shown = page.rows[head + 1 : head + 8]
    assert names[:5] == ["marks", "model", "sees", "all cells", "ESC (1)"]
    assert names[-1] == "published (recorded June 2023)"
    assert [row[1]["text"] for row in shown] == ["promoter CNN"] * 3 + ["Chromoformer"] * 4
    assert shown[-1][0]["text"] == "all marks together"
    recorded = {row[0]["text"].split()[0]: row[-1]["text"] for row in shown[3:6]}
    assert recorded["H3K4me3"] == "◇ 0.79"  # the mean of 0.764 and 0.819
    assert all(row[-1]["text"] == "–" for row in shown[:3])
    metrics = pd.read_csv(made.work / "results/tables/chromoformer.tsv", sep="\t")
    folds = metrics[(metrics["fold"] != "pooled") & (metrics["predictor"] == "chromoformer")]
    means = folds.groupby("marks")["r"].mean()
    for row in shown[3:6]:
        mark = row[0]["text"].split()[0]
        assert float(row[3]["value"]) == pytest.approx(means[mark])


def test_studies_have_their_sections_with_figures_and_planted_truth(two):
    _, page = two
    assert set(STUDIES) <= set(page.ids)
    assert {f"#{name}" for name in STUDIES} <= {target for _, target in page.loads}
    labels = [attrs["aria-label"] for tag, attrs in page.elements if tag == "svg"]
    for title in (
        "Activity and expression",
        "Profiles around the TSS, E003, 6 kb",
        "What a mark is worth",
        "How much of a mark has to go",
        "Causal eQTLs in the bins",
    ):
        assert sum(label.startswith(title) for label in labels) == 1
    assert any(row and row[-1]["text"] == "above chance" for row in page.rows)


def test_a_study_that_nobody_asked_for_has_no_section(whole):
    _, page = whole
    assert not set(STUDIES) & set(page.ids)


def test_a_study_asked_for_but_not_there_is_listed_as_missing(tmp_path):
    plan = {"studies": [EQTL, PERTURBED.format("E003", "H3K4me3")]}
    page = Page(build_report(tmp_path, tmp_path / "r.html", plan))
    assert set(STUDIES[1:]) <= set(page.ids) and "activity" not in page.ids
    listed = {row[0]["text"] for row in page.rows if row}
    assert {"eqtl_enrichment/enrichment", "chromoformer/perturbation/E003.H3K4me3"} <= listed
    assert page.text.count("Not there yet: the tables of this study") == 2


def test_a_broken_table_of_a_study_is_named_and_the_others_are_drawn(two, tmp_path):
    made, _ = two
    shutil.copytree(made.work / "results", tmp_path / "results")
    (tmp_path / PERTURBED.format("E116", "H3K4me3")).write_bytes(b"\x1f\x8b broken")
    (tmp_path / EQTL).write_text("cells\tfold\nE003\t2\n")
    (tmp_path / "results/mark_activity/summary.tsv").write_text("")
    page = Page(build_report(tmp_path, tmp_path / "r.html", made.plan))
    listed = page.text[page.text.index("Files that could not be read") :]
    for name in ("E116.H3K4me3.tsv.gz", "enrichment.tsv", "summary.tsv"):
        assert name in listed
    assert set(STUDIES) <= set(page.ids)
    assert page.text.count("Not there yet: the tables of this study") == 3


def test_a_classifier_is_judged_by_its_area_and_a_regression_by_r(tmp_path):
    options = {"genes": 60, "epochs": 3, "models": TWO_MODELS, "classifiers": ("chromoformer",)}
    made = Made(tmp_path, ["E003"], ["H3K4me3", "H3K27ac"], **options)
    page = Page(build_report(tmp_path, tmp_path / "r.html", made.plan))
    table = pd.read_csv(tmp_path / "results/tables/chromoformer.tsv", sep="\t")
    own = table[(table["fold"] == "pooled") & (table["predictor"] == "chromoformer")]
    best = own[~own["marks"].str.contains("[+]")]["auc"].max()
    assert f"in H1 cells (E003): AUC = {best:.2f} (95% interval" in page.text
    assert "DeLong" in page.text and "average precision" in page.text.lower()
    assert "On the same genes Chromoformer" not in page.text  # AUC and r are not compared
    assert "cross-entropy" in page.source and "predicted probability" in page.source
    assert "◇ 0" not in page.text  # what is recorded is r


def test_nothing_recorded_is_shown_beside_simulated_data(two):
    made, page = two
    out = made.work / "simulated.html"
    simulated = Page(build_report(made.work, out, made.plan | {"simulated": True}))
    assert "◇" in page.text and "recorded June 2023" in page.text
    assert "◇" not in simulated.text and "recorded June 2023" not in simulated.text


def test_two_mark_sets_of_the_same_size_keep_panels_of_their_own(tmp_path):
    marks = ["H3K4me3", "H3K27ac", "H3K9ac", "H3K36me3", "H3K4me1"]
    sets = ["+".join(marks[:4]), "+".join(marks[1:])]
    made = Made(tmp_path, ["E003"], marks, genes=25, models={"promoter_cnn": sets}, epochs=2)
    page = Page(build_report(tmp_path, tmp_path / "r.html", made.plan))
    for name in sets:
        first, second, third, last = name.split("+")
        for part in (f"E003 · {first} + {second} +", f"{third} + {last}"):
            assert f"<!-- {part} -->" in page.source


def test_settings_are_shown_as_they_are_one_is_not_yes(tmp_path):
    values = {"a": 1, "b": 0.0, "c": True, "d": False, "e": [1, 2], "f": None, "g": {"h": False}}
    rows = digest(read_metrics(tmp_path, {"config": {"models": {"promoter_cnn": values}}}))
    told = "a 1; b 0.0; c yes; d no; e 1, 2; g h no"  # None: as the recipe has it
    assert ("promoter CNN settings", told) in rows
