"""The plan of models that read DNA: targets, runs and files, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from epiloom.plan import results, runs, sequence
from epiloom.plan.errors import InputError
from epiloom.plan.targets import Target, read_targets

ROOT = Path(__file__).resolve().parents[2]
USUAL = {"sum_stat": "mean", "scale": 1.0, "clip_soft": None, "clip": 128}


def config(**changes) -> dict:
    return {
        "cells": ["E003", "E116"],
        "folds": {"f": {"validation": ["chr1"], "test": ["chr2"]}},
        "models": {"epiformer": {}},
    } | changes


def table(folder: Path, text: str) -> Path:
    path = folder / "targets.tsv"
    path.write_text(text)
    return path


def test_a_study_of_dna_alone_needs_neither_marks_nor_expression():
    plan = runs.build(config(), ROOT)
    assert list(plan.runs) == [("epiformer", "f")]
    assert list(plan.targets) == ["E003-DNase", "E116-DNase"] and not plan.tracks
    keys = {source.key for source in plan.files.values()}
    assert {"genome_fasta", "phastcons", "roadmap_pval"} <= keys
    assert not keys & {"roadmap_genes", "roadmap_rpkm", "roadmap_reads"}
    wanted = results.results(plan)
    assert "results/store/hg19/targets128/E003-DNase.npy" in wanted
    assert "results/epiformer/f/metrics.tsv" in wanted
    assert not any("genes" in path or "qc" in path for path in wanted)


def test_models_of_genes_and_of_dna_stand_side_by_side():
    both = {"epiformer": {"shuffled_control": True}, "promoter_cnn": {}}
    plan = runs.build(config(models=both, marks=["H3K4me3"], one_job_per="cell"), ROOT)
    assert list(plan.sequence_runs) == [("epiformer", "f"), ("epiformer", "f.shuffled")]
    assert {run for _, run in plan.gene_runs} == {"E003.H3K4me3.f", "E116.H3K4me3.f"}
    assert set(runs.jobs_of_many(plan)) == {"promoter_cnn_E003", "promoter_cnn_E116"}


def test_without_conservation_nothing_of_it_is_downloaded():
    plan = runs.build(config(models={"epiformer": {"conservation": "off"}}), ROOT)
    assert "conservation" not in plan.inputs
    settings = plan.runs["epiformer", "f"]
    assert settings["conserved_by"] is None
    assert "conservation" not in runs.example_files(plan, settings)


def test_a_fold_and_a_target_decide_the_settings_of_a_run():
    first = runs.build(config(), ROOT).runs["epiformer", "f"]
    clipped = runs.build(config(targets={"clip": 32}), ROOT).runs["epiformer", "f"]
    assert first["fold"] == {"name": "f", "validation": ["chr1"], "test": ["chr2"]}
    assert first["optimizer"]["decay"] == "matrices"
    assert runs.fingerprint(first) != runs.fingerprint(clipped)


def test_own_targets_of_another_assembly(tmp_path):
    for name in ("a.bw", "b.bam", "peaks.bed"):
        (tmp_path / name).write_bytes(b"x")
    path = table(
        tmp_path,
        "index\tidentifier\tfile\tclip\tsum_stat\tpeak\tdescription\n"
        f"0\tA\t{tmp_path}/a.bw\t32\t\t{tmp_path}/peaks.bed\tfirst\n"
        f"1\tB\t{tmp_path}/b.bam\t\tmean_sqrt\t\t\n",
    )
    asked = config(cells=[], assembly="hg38", targets={"table": str(path), "scale": 2})
    plan = runs.build(asked, ROOT)
    a, b = plan.targets.values()
    assert (a.identifier, a.clip, a.sum_stat, a.scale) == ("A", 32.0, "mean", 2)
    assert (b.identifier, b.clip, b.sum_stat) == ("B", 128, "mean_sqrt")
    assert b.file.endswith("b.bam") and a.file.endswith("a.bw") and not b.peak
    assert plan.files[a.file].local == str(tmp_path / "a.bw")
    assert plan.files[a.peak].local == str(tmp_path / "peaks.bed")
    assert a.values == {"sum_stat": "mean", "scale": 2, "clip_soft": None, "clip": 32.0}


def test_regions_with_targets_are_a_file_of_the_examples(tmp_path):
    bed = tmp_path / "my.bed"
    bed.write_text("chr1\t0\t1000\n")
    plain = runs.build(config(), ROOT)
    asked = config(sequence={"windows": {"within": str(bed)}})
    plan = runs.build(asked, ROOT)
    settings = plan.runs["epiformer", "f"]
    assert settings["within"] == str(bed) and "within" not in settings["windows"]
    files = runs.example_files(plan, settings)
    assert files["within"] == "resources/own/windows-within/my.bed"
    assert plan.files[files["within"]].local == str(bed)
    before = plain.runs["epiformer", "f"]
    assert "within" not in before and "within" not in runs.example_files(plain, before)
    with pytest.raises(InputError, match="sequence.windows.within: .*nowhere.bed does not exist"):
        runs.build(config(sequence={"windows": {"within": "nowhere.bed"}}), ROOT)


def test_all_problems_of_a_targets_table_are_told_with_their_lines(tmp_path):
    path = table(
        tmp_path,
        "identifier\tfile\tclip\tsum_stat\nA b\tx.bw\t\t\nC\t\t-1\tmaen\nC\ty.bw\tmany\t\n",
    )
    with pytest.raises(InputError) as caught:
        read_targets(path, USUAL)
    text = str(caught.value)
    for told in (
        "line 2: identifier 'A b'",
        "line 3: file is empty",
        "line 3: sum_stat 'maen'",
        "did you mean 'mean'",
        "line 3: clip -1 must be above 0",
        "line 4: clip 'many' is no number",
        "line 4: 'C' stands on line 3 too",
    ):
        assert told in text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("file\tclip\nx\t1\n", "column 'identifier' is missing"),
        ("identifier\tfile\tclop\nA\tx\t1\n", "column 'clop' is unknown (did you mean 'clip'?)"),
        ("identifier\tfile\n", "has no row"),
    ],
)
def test_a_table_without_its_columns_or_rows_is_refused(tmp_path, text, told):
    with pytest.raises(InputError) as caught:
        read_targets(table(tmp_path, text), USUAL)
    assert told in str(caught.value)


def test_an_empty_field_takes_the_value_of_the_configuration(tmp_path):
    path = table(tmp_path, "identifier\tfile\tsum_stat\nA\tx.bw\tavg\n")
    assert read_targets(path, USUAL | {"clip": None}) == [Target("A", "x.bw")]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"cells": []}, "targets: no cell types"),
        ({"targets": {"cells": ["E0O3"]}}, "targets.cells: 'E0O3' is not in config/cells.tsv"),
        ({"assembly": "hg38"}, "targets: the public tracks are on hg19"),
        ({"models": {"epiformer": {"seq_bp": 100_000}}}, "is no multiple of bin_bp 128"),
        ({"models": {"epiformer": {"crop_bins": 384}}}, "leave none of 768"),
        ({"models": {"epiformer": {"stride_bp": 1000}}}, "stride_bp: 1000 is no multiple"),
        ({"targets": {"table": "nowhere.tsv"}}, "cannot be read"),
        ({"models": {"promoter_cnn": {}}}, "key 'marks' is missing or empty"),
    ],
)
def test_faults_are_named_with_their_remedy(changes, told):
    with pytest.raises(InputError) as caught:
        runs.build(config(**changes), ROOT)
    assert told in str(caught.value)


FOLDS = {
    "f": {"validation": ["chr1"], "test": ["chr2"]},
    "g": {"validation": ["chr3"], "test": ["chr4"]},
}


def test_a_model_of_dna_may_train_on_some_folds(tmp_path):
    asked = config(folds=FOLDS, models={"epiformer": {"folds": ["g"]}})
    plan = runs.build(asked, ROOT)
    assert list(plan.runs) == [("epiformer", "g")] and "folds" not in plan.runs["epiformer", "g"]
    asked["models"]["epiformer"]["folds"] = ["g", "ff"]
    with pytest.raises(InputError, match=r"epiformer.folds: there is no fold 'ff' \(did you mean"):
        runs.build(asked, ROOT)


def test_training_begins_with_weights_of_the_same_fold(tmp_path):
    for fold in FOLDS:
        (tmp_path / fold).mkdir()
        (tmp_path / fold / "weights.pt").write_bytes(b"x")
    given = {"start": f"{tmp_path}/{{fold}}/weights.pt"}
    plan = runs.build(config(folds=FOLDS, models={"epiformer": given}), ROOT)
    for fold in FOLDS:
        path = sequence.start(plan, "epiformer", plan.runs["epiformer", fold])
        assert plan.files[path].local == f"{tmp_path}/{fold}/weights.pt" and "{" not in path
    (tmp_path / "g/weights.pt").unlink()
    with pytest.raises(InputError, match=r"epiformer.start: .*g/weights.pt does not exist"):
        runs.build(config(folds=FOLDS, models={"epiformer": given}), ROOT)


def test_the_weights_of_the_authors_are_a_source(tmp_path):
    (tmp_path / "joint.pth.tar").write_bytes(b"x")
    asked = config(models={"epiformer": {"start": "published"}}, assembly="hg38", cells=[])
    asked["targets"] = {"table": str(table(tmp_path, "identifier\tfile\nA\t" + __file__ + "\n"))}
    with pytest.raises(InputError, match=r"no public address .* set sources.local.epiformer_wei"):
        runs.build(asked, ROOT)
    asked["sources"] = {"local": {"epiformer_weights": str(tmp_path / "joint.pth.tar")}}
    plan = runs.build(asked, ROOT)
    path = sequence.start(plan, "epiformer", plan.runs["epiformer", "f"])
    assert plan.files[path].local == str(tmp_path / "joint.pth.tar")


@pytest.mark.parametrize(("key", "value"), [("epochs", 0), ("frozen", True)])
def test_what_needs_weights_to_begin_with_says_so(key, value):
    with pytest.raises(InputError, match=f"epiformer.{key}: {value} needs weights; name them in"):
        runs.build(config(models={"epiformer": {key: value}}), ROOT)


def test_planted_variants_lie_where_a_run_was_not_trained():
    asked = config(folds=FOLDS, interpret={"variants": "planted"})
    plan = runs.build(asked | {"simulate": {"cells": ["E003", "E116"]}}, ROOT)
    paths = [sequence.variants(plan, settings) for settings in plan.sequence_runs.values()]
    assert paths == ["results/truth/variants.f.vcf", "results/truth/variants.g.vcf"]


def test_chromosomes_and_a_bed_file_are_asked_as_bigwigs(tmp_path):
    (tmp_path / "my.bed").write_text("chr1\t0\t500\n")
    block = {"tracks": ["chr1", "all"], "bed": str(tmp_path / "my.bed")}
    paths = sequence.asked(runs.build(config(interpret=block), ROOT))
    assert paths == [f"results/epiformer/f/tracks/{name}" for name in ("chr1", "all", "bed")]
    with pytest.raises(InputError, match="interpret.tracks: 'chr0' is no chromosome of the study"):
        runs.build(config(interpret={"tracks": ["chr0"]}), ROOT)
    with pytest.raises(InputError, match=r"interpret.bed: .*gone.bed does not exist"):
        runs.build(config(interpret={"bed": str(tmp_path / "gone.bed")}), ROOT)
