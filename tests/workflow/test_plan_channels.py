"""The plan of models that read all tracks: which exist, runs and files, and what is refused."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from epiloom.plan import channels, results, runs, sequence
from epiloom.plan.errors import InputError
from epiloom.plan.tracks import cell_of, mark_of, read_table

ROOT = Path(__file__).resolve().parents[2]
FOLDS = {
    "f": {"validation": ["chr1"], "test": ["chr2"]},
    "g": {"validation": ["chr3"], "test": ["chr4"]},
}


def config(options: dict | None = None, **changes) -> dict:
    return {
        "cells": ["E003", "E116"],
        "marks": ["H3K4me3", "DNase"],
        "folds": FOLDS,
        "models": {"epi_lstm": options or {}},
        "bins_bp": [25],
    } | changes


def build(options: dict | None = None, **changes) -> runs.Plan:
    return runs.build(config(options, **changes), ROOT)


def found(options: dict | None = None, **changes) -> list[str]:
    """The channels of a plan."""
    return build(options, **changes).channels["epi_lstm"]


def refused(options: dict | None = None, **changes) -> str:
    with pytest.raises(InputError) as caught:
        build(options, **changes)
    return str(caught.value)


# ---- which channels there are --------------------------------------------------------------------


def test_channels_are_pairs_in_the_order_of_cells_and_marks():
    wanted = ["E003-H3K4me3.pval", "E003-DNase.pval", "E116-H3K4me3.pval", "E116-DNase.pval"]
    assert found() == wanted
    turned = found(cells=["E116", "E003"])
    assert turned == [*wanted[2:], *wanted[:2]]


def test_pairs_that_do_not_exist_are_left_out():
    cells, marks = ["E001", "E003", "E009"], ["H3K4me3", "H3K27ac", "DNase", "H2A.Z"]
    assert found({"cells": cells, "marks": marks}) == [
        "E001-H3K4me3.pval",
        *(f"E003-{mark}.pval" for mark in marks),
        *("E009-H3K4me3.pval", "E009-H2A.Z.pval"),
    ]


def test_all_cells_and_the_assays_of_avocado_are_every_pair_of_the_table():
    names = found({"cells": "all", "marks": "avocado24"})
    table = read_table(ROOT / "config/cells.tsv", "cell")
    wanted = [
        f"{cell}-{mark}.pval"
        for cell in table
        for mark in channels.AVOCADO
        if mark in table[cell]["marks"].split(",")
    ]
    assert names == wanted and len(set(names)) == len(names)
    assert len(channels.AVOCADO) == 24 and len(table) == 127
    assert 900 < len(names) < 1100  # Avocado used 1014
    assert {cell_of(name) for name in names} == set(table)
    assert "H2A.Z" in {mark_of(name) for name in names}
    assert "H2A" not in {mark_of(name) for name in names}


def test_a_mark_with_a_dot_keeps_its_name_in_every_path():
    plan = build({"cells": ["E003", "E009"], "marks": ["H2A.Z"]})
    assert plan.channels["epi_lstm"] == ["E003-H2A.Z.pval", "E009-H2A.Z.pval"]
    track = plan.channel_tracks["E003-H2A.Z.pval"]
    assert (track.cell, track.mark, track.kind) == ("E003", "H2A.Z", "pval")
    assert track.file.endswith("E003-H2A.Z.pval.signal.bigwig") and track.file in plan.files


@pytest.mark.parametrize(
    ("signal", "key"),
    [
        ("pval", "roadmap_pval"),
        ("fold_change", "roadmap_fold_change"),
        ("reads", "roadmap_reads"),
    ],
)
def test_the_kind_of_signal_decides_the_source(signal, key):
    plan = build({"signal": signal})
    assert all(name.endswith(f".{signal}") for name in plan.channels["epi_lstm"])
    assert {plan.files[t.file].key for t in plan.channel_tracks.values()} == {key}


def own_table(folder: Path, *rows: str) -> str:
    lines = ["cell\tmark\tkind\tfile"]
    for row in rows:
        cell, mark, kind = row.split()
        path = folder / f"{cell}-{mark}.{'bam' if kind == 'bam' else 'bw'}"
        path.write_bytes(b"x")
        lines.append(f"{cell}\t{mark}\t{kind}\t{path}")
    (folder / "tracks.tsv").write_text("\n".join(lines) + "\n")
    return str(folder / "tracks.tsv")


def test_own_tracks_of_the_same_kind_are_channels_others_are_not(tmp_path):
    table = own_table(
        tmp_path, "mine H3K4me3 pval", "mine DNase bam", "E003 H3K4me3 pval", "E116 ATAC pval"
    )
    asked = {"cells": ["mine", "E003", "E116"], "marks": ["H3K4me3", "DNase", "ATAC"]}
    plan = build(asked, tracks=table)
    names = plan.channels["epi_lstm"]
    assert names == [
        *("mine-H3K4me3.pval", "E003-H3K4me3.pval", "E003-DNase.pval"),
        *("E116-H3K4me3.pval", "E116-DNase.pval", "E116-ATAC.pval"),
    ]
    local = {n: plan.files[plan.channel_tracks[n].file].local for n in names}
    assert local["E003-H3K4me3.pval"] == str(tmp_path / "E003-H3K4me3.bw")
    assert local["E116-ATAC.pval"] == str(tmp_path / "E116-ATAC.bw")
    assert not local["E116-H3K4me3.pval"]
    reads = found(asked | {"signal": "reads"}, tracks=table)
    assert "mine-DNase.bam" in reads and "mine-H3K4me3.reads" not in reads
    assert "E003-H3K4me3.reads" in reads  # the public one: the own one is of another kind


def test_all_cells_hold_those_of_the_own_table_too(tmp_path):
    table = own_table(tmp_path, "mine H3K4me3 pval")
    names = found({"cells": "all", "marks": ["H3K4me3"]}, tracks=table)
    assert len(names) == 127 + 1 and names[-1] == "mine-H3K4me3.pval"


SIMULATE = {"chromosomes": 4, "cells": ["E003", "E116"], "assays": ["H3K4me3", "H3K27ac"]}


def test_of_a_simulation_there_is_what_it_makes():
    wanted = [f"{c}-{m}.pval" for c in ("E003", "E116") for m in ("H3K4me3", "H3K27ac")]
    asked = {"cells": "all", "marks": ["H3K4me3", "H3K27ac", "H2A.Z"]}
    assert found(asked, simulate=SIMULATE, marks=["H3K4me3"]) == wanted


def test_of_local_files_those_that_are_there_are_channels(tmp_path):
    for name in ("E003-H3K4me3", "E116-DNase", "E116-H2A.Z"):
        (tmp_path / f"{name}.bw").write_bytes(b"x")
    local = {"local": {"roadmap_pval": f"{tmp_path}/{{cell}}-{{mark}}.bw"}}
    plan = build({"marks": ["H3K4me3", "DNase", "H2A.Z"]}, sources=local)
    names = ["E003-H3K4me3.pval", "E116-DNase.pval", "E116-H2A.Z.pval"]
    assert plan.channels["epi_lstm"] == names
    path = plan.files[plan.channel_tracks["E116-H2A.Z.pval"].file].local
    assert path == f"{tmp_path}/E116-H2A.Z.bw"


# ---- what is refused -----------------------------------------------------------------------------


def test_all_problems_are_told_at_once_with_hints():
    text = refused(
        {
            **{"cells": ["E003", "E0O3"], "marks": ["H3K4me3", "H2A", "DNAse"]},
            **{"latent": 7, "bidirectional": True, "assay_weights": {"H3K4me33": 2.0}},
            **{"regions": ["chr1:5", "chr30:1-2"], "tracks": ["chr1", "chrr2"]},
            **{"folds": ["f", "ff"], "epochs": 0},
        },
        bins_bp=[100],
    )
    for told in (
        "bins_bp: epi_lstm reads bins of 25 bp; add 25",
        "models.epi_lstm.cells: 'E0O3' is neither in config/cells.tsv nor in your tracks table",
        "models.epi_lstm.marks: 'H2A' is neither in config/marks.tsv nor in your tracks table",
        "'DNAse' is neither in config/marks.tsv nor in your tracks table (did you mean 'DNase'?)",
        "models.epi_lstm.assay_weights: 'H3K4me33' is not read (did you mean 'H3K4me3'?)",
        "models.epi_lstm.latent: 7 is odd; with bidirectional both directions have half of it",
        "models.epi_lstm.regions: 'chr1:5' is no region; give CHROM:START-END",
        "models.epi_lstm.regions: 'chr30' is no chromosome of the study",
        "models.epi_lstm.tracks: 'chrr2' is no chromosome of the study (did you mean 'chr2'?)",
        "models.epi_lstm.folds: there is no fold 'ff' (did you mean 'f'?)",
        "models.epi_lstm.epochs: 0 needs weights",
    ):
        assert told in text


@pytest.mark.parametrize(
    ("options", "changes", "told"),
    [
        (
            {"marks": ["H2BK15ac"]},
            {"cells": ["E009"], "marks": ["H3K4me3"]},
            "0 of its tracks exist with",
        ),
        ({}, {"cells": ["E009"], "marks": ["H3K4me3"]}, "1 of its tracks exist"),
        ({"assay_weights": {"DNase": 2.0}, "marks": ["H3K4me3"]}, {}, "'DNase' is not read"),
        ({"latent": 0}, {}, "latent"),
        ({"cells": "al"}, {}, "cells"),
        ({"marks": "avocado"}, {}, "marks"),
        ({"signal": "bam"}, {}, "signal"),
    ],
)
def test_faults_are_named(options, changes, told):
    assert told in refused(options, **changes)


def test_an_even_latent_of_both_directions_and_odd_ones_of_one_are_fine():
    build({"latent": 6, "bidirectional": True})
    build({"latent": 7})


# ---- runs and files ------------------------------------------------------------------------------


def test_there_is_one_run_per_fold_that_is_asked():
    plan = build()
    assert list(plan.runs) == list(plan.frame_runs) == [("epi_lstm", "f"), ("epi_lstm", "g")]
    assert plan.runs["epi_lstm", "g"]["fold"] == {"name": "g", **FOLDS["g"]}
    assert list(build({"folds": ["g"]}).runs) == [("epi_lstm", "g")]
    swapped = build({"folds": ["fs"]}, swap_folds=True)
    assert swapped.runs["epi_lstm", "fs"]["fold"]["test"] == ["chr1"]


def test_the_settings_of_a_run_are_those_of_the_schema_and_its_channels():
    settings = build({"latent": 6, "assay_weights": "balanced"}).runs["epi_lstm", "f"]
    assert settings["channels"] == found() and settings["bin_bp"] == 25
    assert settings["latent"] == 6 and settings["assay_weights"] == "balanced"
    assert settings["optimizer"]["learning_rate"] == 0.01 and settings["clip_norm"] == 1.0
    assert settings["optimizer"]["epsilon"] == 1e-8 and settings["examples"] == "frames"
    assert settings["schedule"]["name"] == "warmup_cosine" and settings["frame"] == 100


def prints(options: dict | None = None, **changes) -> list[str]:
    return [runs.fingerprint(settings) for settings in build(options, **changes).runs.values()]


@pytest.mark.parametrize(
    "options",
    [
        {"regions": ["chr2:1000-2,000"]},
        {"tracks": ["chr1", "all"]},
        {"correlate_with": []},
        {"correlate_with": ["gc"]},
        {"gpu": 0},
        {"cells": ["E003", "E116"], "marks": ["H3K4me3", "DNase"]},  # the same, told otherwise
    ],
)
def test_what_is_asked_of_an_annotation_trains_nothing_again(options):
    assert prints(options) == prints()


@pytest.mark.parametrize(
    "options",
    [{"latent": 12}, {"cells": ["E116", "E003"]}, {"frame": 50}, {"signal": "fold_change"}],
)
def test_what_a_training_depends_on_is_in_its_settings(options):
    assert not set(prints(options)) & set(prints())


def test_other_folds_leave_a_run_as_it_is():
    assert prints({"folds": ["g"]}) == prints()[1:]


def test_files_of_a_run_and_of_its_analyses():
    asked = {"regions": ["chr2:1,000-2,000"], "tracks": ["chr2", "all"], "folds": ["f"]}
    plan = build(asked)
    wanted, own, store = results.results(plan), "results/epi_lstm/f", "results/store/hg19"
    for name in (
        *("weights.pt", "history.tsv", "metrics.tsv", "pca.npz", "smoothness.tsv", "latents"),
        *("correlations.tsv", "attribution.tsv", "positions.tsv"),
        *("regions/chr2_1000-2000.png", "tracks/chr2", "tracks/all"),
    ):
        assert f"{own}/{name}" in wanted
    for end in (".npy", ".flags.npy", ".json"):
        assert f"{store}/tiles25/epi_lstm{end}" in wanted
    assert not any("epi_lstm/g" in path or "E003.H3K4me3" in path for path in wanted)
    files = runs.example_files(plan, plan.runs["epi_lstm", "f"])
    assert files["tiles"] == f"{store}/tiles25/epi_lstm.npy"
    assert set(files) == {"manifest", "tiles", "flags", "channels"}


@pytest.mark.parametrize(
    ("asked", "keys"),
    [
        ([], set()),
        (["gc"], {"genome_fasta"}),
        (["gc", "conservation"], {"genome_fasta", "phastcons"}),
    ],
)
def test_only_what_latents_are_set_beside_is_downloaded(asked, keys):
    plan = build({"correlate_with": asked})
    got = {source.key for source in plan.files.values()}
    assert got & {"genome_fasta", "phastcons"} == keys
    assert set(channels.compared_files(plan, "epi_lstm")) == set(asked)


def test_a_training_begins_with_weights_of_its_own_fold(tmp_path):
    for fold in FOLDS:
        (tmp_path / fold).mkdir()
        (tmp_path / fold / "weights.pt").write_bytes(b"x")
    asked = {"start": f"{tmp_path}/{{fold}}/weights.pt", "epochs": 0}
    plan = build(asked)
    for fold in FOLDS:
        path = sequence.start(plan, "epi_lstm", plan.runs["epi_lstm", fold])
        assert plan.files[path].local == f"{tmp_path}/{fold}/weights.pt"
    (tmp_path / "g/weights.pt").unlink()
    assert "g/weights.pt does not exist" in refused(asked)
    assert sequence.start(build(), "epi_lstm", plan.runs["epi_lstm", "f"]) == []


def test_a_folder_of_the_authors_gives_encoder_and_decoder(tmp_path):
    (tmp_path / "encoder.pth").write_bytes(b"x")
    assert "decoder.pth does not exist" in refused({"start": str(tmp_path)})
    (tmp_path / "decoder.pth").write_bytes(b"x")
    plan = build({"start": str(tmp_path)})
    paths = sequence.start(plan, "epi_lstm", plan.runs["epi_lstm", "g"])
    assert [Path(path).name for path in paths] == ["encoder.pth", "decoder.pth"]
    assert len({Path(path).parent for path in paths}) == 1  # read as one folder


# ---- dry run -------------------------------------------------------------------------------------

SMALL = {
    "simulate": {
        **{"seed": 1, "chromosomes": 4, "length_bp": 600_000, "gene_spacing_bp": 20_000},
        **{"cells": ["E003", "E116"], "assays": ["H3K4me3", "H3K27ac", "DNase"]},
    },
    **{"cells": ["E003", "E116"], "marks": ["H3K4me3", "H3K27ac", "DNase"]},
    **{"bins_bp": [25, 100], "folds": FOLDS},
    "models": {
        "epi_lstm": {
            **{"latent": 3, "decoder_hidden": 16, "batch": 8, "gpu": 0},
            **{"regions": ["chr2:100000-200000"], "tracks": ["chr2"]},
        }
    },
    "downstream": {
        "tasks": ["expression", "fire", "tad_boundary", "replication_timing"],
        "replication_timing": {"window_bp": 10_000},
    },
}


def test_a_small_study_has_the_expected_number_of_jobs_per_rule(tmp_path):
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "-n"]
    done = subprocess.run(
        [*command, "--directory", tmp_path, "--cores", "2", "--configfile", "small.yaml"],
        **{"cwd": tmp_path, "env": dict(os.environ), "capture_output": True, "text": True},
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    text = done.stdout.split("Job stats:")[1].split("total")[0]
    counts = {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", text, re.M)}
    assert counts["bin_track"] == 6 and counts["tile_tracks"] == 1
    for rule in ("train_model", "annotate_genome", "evaluate_latents", "describe_latents"):
        assert counts[rule] == 2  # one per fold
    assert counts["latent_region"] == counts["latent_tracks"] == 2
    # windows and labels are shared by the runs, tasks are not
    assert counts["task_labels"] == counts["window_signal"] == 4
    assert counts["downstream_task"] == 8 and counts["downstream_table"] == 1
    assert counts["genome_bases"] == counts["genome_conservation"] == 1
    assert not {"promoter_features", "predict_model", "evaluate_run", "gene_table"} & set(counts)
