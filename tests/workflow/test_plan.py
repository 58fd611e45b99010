"""The plan: runs, checks and their messages, without starting a job."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from epiloom.plan import results, runs, studies
from epiloom.plan.checks import MAIN_CHROMOSOMES
from epiloom.plan.config import reference, resolve
from epiloom.plan.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "config/examples").glob("*.yaml"))


def example(name: str, **changes) -> dict:
    return yaml.safe_load((ROOT / f"config/examples/{name}.yaml").read_text()) | changes


def problems(config: dict) -> str:
    with pytest.raises(InputError) as caught:
        runs.build(config, ROOT)
    return str(caught.value)


def trained(plan) -> Counter[tuple[str, int]]:
    """(model, number of marks) -> training runs."""
    return Counter((model, len(s["marks"])) for (model, _), s in plan.runs.items())


def test_the_full_paper_grid_has_the_job_counts_of_the_study():
    plan = runs.build(example("paper_epi_to_express"), ROOT)
    assert trained(plan) == {
        ("promoter_cnn", 1): 308,
        ("chromoformer", 1): 308,
        ("chromoformer", 2): 660,
        ("chromoformer", 7): 44,
    }
    active = {"H3K4me3", "H3K9ac", "H3K27ac"}
    assert all(set(s["marks"]) & active for s in plan.runs.values() if len(s["marks"]) == 2)
    assert len(plan.tracks) == 77
    assert "results/promoter_cnn" not in plan.files  # downloads only
    assert sum(s.key == "roadmap_reads" for s in plan.files.values()) == 77


def test_one_cell_and_one_mark_leave_four_jobs_per_model_and_its_own_studies():
    one = {"cells": ["E116"], "marks": ["H3K4me3"]}
    plan = runs.build(example("paper_epi_to_express", **one), ROOT)
    assert [each.mark for each in studies.perturbed(plan)] == ["H3K4me3"]
    assert not plan.config["eqtl"]["run"] and "causal_eqtl" not in plan.inputs
    wrong = example("paper_epi_to_express", perturbation={"marks": {"H3K27acc": "all"}})
    assert "perturbation.marks: 'H3K27acc' is neither" in problems(wrong)
    for model in ("promoter_cnn", "chromoformer"):
        found = [run for name, run in plan.runs if name == model]
        assert found == [f"E116.H3K4me3.fold{k}" for k in range(1, 5)]


def test_mark_sets_are_expanded_without_repeats():
    marks = ["H3K4me3", "H3K27ac", "H3K9me3"]
    made = runs.mark_sets(["each", "pairs", "all", "H3K27ac+H3K4me3"], marks)
    assert made == [
        *([m] for m in marks),
        *(list(p) for p in itertools.combinations(marks, 2)),
        marks,
    ]


def test_every_gene_is_tested_once_with_swapped_folds():
    plan = runs.build(example("one_cell", swap_folds=True), ROOT)
    tested = [c for s in plan.runs.values() for c in s["fold"]["test"]]
    assert sorted(tested) == sorted(MAIN_CHROMOSOMES)
    for s in plan.runs.values():
        assert not set(s["fold"]["test"]) & set(s["fold"]["validation"])


def test_settings_change_the_fingerprint():
    before = runs.build(example("one_cell"), ROOT).runs
    after = runs.build(
        example("one_cell", models={"promoter_cnn": {"learning_rate": 0.002}}), ROOT
    ).runs
    (key,) = [k for k in before if k[1].endswith("fold1")]
    assert runs.fingerprint(before[key]) != runs.fingerprint(after[key])


def test_the_plan_is_the_same_under_any_hash_seed():
    code = (
        "import json, yaml; from epiloom.plan import results, runs;"
        "c = yaml.safe_load(open('config/examples/paper_epi_to_express.yaml'));"
        "p = runs.build(c, '.'); print(json.dumps([results.as_dict(p), list(p.runs.values())]))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={"PYTHONHASHSEED": str(seed), "PATH": ""},
            capture_output=True,
            check=True,
        ).stdout
        for seed in (0, 1, 2)
    }
    assert len(texts) == 1 and json.loads(texts.pop())


def test_a_misspelt_key_is_refused_with_a_suggestion():
    text = problems(example("one_cell", cels=["E003"]))
    assert "unknown key 'cels' (did you mean 'cells'?)" in text and "config/config.yaml" in text


def test_all_problems_are_told_at_once():
    config = example("one_cell", cells=["E116", "E16"], marks=["H3K4me3", "H3K4m3"])
    config["models"] = {"promoter_cnn": {"mark_sets": ["H3K4me3+H3K27ac"]}}
    config["folds"] = {"a": {"validation": ["chr1"], "test": ["chr1", "chr77"]}}
    text = problems(config)
    for part in (
        "'E16'",
        "did you mean",
        "'H3K4m3'",
        "'H3K27ac'",
        "chr77",
        "chr1 is in validation",
    ):
        assert part in text


def test_a_cell_without_that_mark_is_refused_with_the_marks_it_has():
    text = problems(example("one_cell", cells=["E004"], marks=["H2A.Z", "H3K9ac", "H3T11ph"]))
    assert "Roadmap has no H3T11ph for E004" in text and "it has H3K4me1" in text


def test_a_cell_without_expression_is_refused():
    assert "'E017' has no column in the Roadmap expression" in problems(
        example("one_cell", cells=["E017"])
    )


def test_a_chromosome_tested_in_two_folds_is_refused():
    config = example("one_cell")
    config["folds"] = {
        "a": {"validation": ["chr2"], "test": ["chr1"]},
        "b": {"validation": ["chr3"], "test": ["chr1"]},
    }
    assert "chr1 is tested in a too" in problems(config)


def test_a_missing_local_file_is_named_with_its_key():
    config = example("one_cell", sources={"local": {"roadmap_reads": "nowhere/{cell}-{mark}.gz"}})
    text = problems(config)
    assert "sources.local.roadmap_reads" in text and "nowhere/E116-H3K4me3.gz" in text


def test_an_unknown_source_key_is_refused():
    config = example("one_cell", sources={"local": {"roadmap_rpkms": "x"}})
    assert "did you mean 'roadmap_rpkm'" in problems(config)


def test_own_tracks_replace_public_ones_and_keep_apart_with_equal_names(tmp_path):
    rows = ["cell\tmark\tkind\tfile"]
    for mark in ("H3K4me3", "H3K27ac"):
        (tmp_path / mark).mkdir()
        (tmp_path / mark / "x.bw").write_bytes(b"")
        rows.append(f"mine\t{mark}\tdepth\t{tmp_path}/{mark}/x.bw")
    (tmp_path / "tracks.tsv").write_text("\n".join(rows))
    (tmp_path / "rpkm.tsv").write_text("gene_id\tmine\n")
    config = example("one_cell", cells=["mine"], marks=["H3K4me3", "H3K27ac"])
    config |= {
        "tracks": str(tmp_path / "tracks.tsv"),
        "sources": {"local": {"roadmap_rpkm": str(tmp_path / "rpkm.tsv")}},
    }
    plan = runs.build(config, ROOT)
    assert sorted(plan.tracks) == ["mine-H3K27ac.depth", "mine-H3K4me3.depth"]
    assert len({t.file for t in plan.tracks.values()}) == 2
    assert plan.track_names(next(iter(plan.runs.values()))) == ["mine-H3K4me3.depth"]


def test_an_own_track_that_no_model_reads_is_refused(tmp_path):
    (tmp_path / "x.bw").write_bytes(b"")
    table = tmp_path / "tracks.tsv"
    table.write_text(f"cell\tmark\tkind\tfile\nE116\tH3K4me3\tpval\t{tmp_path}/x.bw\n")
    text = problems(example("one_cell", tracks=str(table)))
    assert "line 2: kind 'pval' of E116 H3K4me3 is read by no model" in text
    config = example("one_cell", tracks=str(table), models={"promoter_cnn": {"signal": "pval"}})
    assert list(runs.build(config, ROOT).tracks) == ["E116-H3K4me3.pval"]


def test_a_track_table_names_every_bad_line(tmp_path):
    table = tmp_path / "tracks.tsv"
    table.write_text("cell\tmark\tkind\tfile\nA\tm\tbigwg\tx\nA;rm\tm\treads\tx\nA\tm\treads\t\n")
    with pytest.raises(InputError) as caught:
        runs.build(example("one_cell", tracks=str(table)), ROOT)
    text = str(caught.value)
    assert "line 2: kind 'bigwg'" in text and "line 3: 'A;rm'" in text and "line 4" in text


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_every_key_of_every_example_is_guarded_against_typos(path):
    config = yaml.safe_load(path.read_text())
    for key in config:
        wrong = {("x" + k if k == key else k): v for k, v in config.items()}
        with pytest.raises(InputError) as caught:
            resolve(wrong, ROOT)
        assert f"'x{key}'" in str(caught.value)


def test_a_disk_too_small_for_the_results_is_told_before_the_first_job(tmp_path):
    plan = runs.build(example("one_cell"), ROOT)
    results.check_place(plan, tmp_path)
    (track,) = plan.tracks.values()
    huge = replace(plan, tracks={str(i): track for i in range(10**7)})
    with pytest.raises(InputError) as caught:
        results.check_place(huge, tmp_path)
    text = str(caught.value)
    assert "GB are free" in text and "--directory" in text and str(tmp_path) in text


def test_the_order_of_keys_changes_nothing():
    config = example("demo")
    turned = dict(reversed(config.items())) | {
        "simulate": dict(reversed(config["simulate"].items()))
    }
    plans = [results.as_dict(runs.build(c, ROOT)) for c in (config, turned)]
    assert json.dumps(plans[0]) == json.dumps(plans[1])


def test_the_configuration_reference_is_current():
    assert (ROOT / "config/README.md").read_text() == reference(ROOT), "run `make docs`"


def test_all_that_the_report_shows_is_among_the_results_and_every_study_among_what_it_shows():
    plan = runs.build(example("demo"), ROOT)
    shown, made = results.shown(plan), results.results(plan)
    assert set(shown) <= set(made) and len(made) == len(set(made))
    assert set(results.as_dict(plan)["studies"]) <= set(shown)
    assert "results/mark_activity/summary.tsv" in shown and "results/tables/marks.tsv" in made
    metrics = plan.sequence_runs | plan.frame_runs
    parts = {"/history.tsv": plan.runs, "/metrics.tsv": metrics, "positions.tsv": plan.frame_runs}
    parts |= {"predictions.tsv": plan.gene_runs, "baselines.tsv": plan.gene_runs}
    for part, planned in parts.items():
        assert sum(path.endswith(part) for path in shown) == len(planned) > 0
