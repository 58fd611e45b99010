"""The plan of models of cells never profiled: parts of cells, signals, files, refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from epiloom.plan import checks, config, runs, unprofiled
from epiloom.plan.errors import InputError
from epiloom.plan.tracks import OwnTrack, read_table

ROOT = Path(__file__).resolve().parents[2]
CELLS = ["E003", "E066", "E116", "E114"]
FOLDS = {
    "a": {"validation": ["chr1"], "test": ["chr2"]},
    "b": {"validation": ["chr3"], "test": ["chr4"]},
}
HELD = {"validation_cells": ["E114"], "test_cells": ["E116"]}
SIMULATED = {"cells": CELLS, "assays": ["DNase", "H3K4me3", "H3K27ac"], "chromosomes": 4}


class Files(list):
    """Stands for the plan's own `add`: keeps what is asked for and gives each a path."""

    def __call__(self, key, named=None, override=None, **where):
        if key == "nowhere":
            raise InputError(key, "no such source")
        told = [str(v) for k, v in where.items() if k != "mark" or not override]
        self.append((key, named, override, where))
        return f"resources/{'-'.join([key, *told])}"


def laid_out(options=None, own=None, **changes):
    """Plan, files asked for, and problems."""
    asked = {"cells": CELLS, "folds": FOLDS, "models": {"epigept": options or {}}} | changes
    asked = config.resolve(asked, ROOT)
    plan = runs.Plan(asked, "here", runs.cards(ROOT), read_table(ROOT / "config/cells.tsv", "cell"))
    known, own, files = read_table(ROOT / "config/marks.tsv", "mark"), own or {}, Files()
    problems = list(unprofiled.check(plan, known, own))
    folds = runs.folds(asked)
    problems = problems or unprofiled.add(plan, ROOT, files, own, folds)
    if not problems:
        shared = runs._shared(plan, "epigept")
        plan.runs.update(unprofiled.runs(plan, "epigept", folds, shared))
    return plan, files, problems


def made(options=None, own=None, **changes) -> runs.Plan:
    plan, _, problems = laid_out(options, own, **changes)
    assert problems == []
    return plan


def refused(options=None, own=None, **changes) -> str:
    problems = laid_out(options, own, **changes)[2]
    assert problems, "nothing was refused"
    for line in problems:
        assert line.startswith("models.epigept.") and len(line) < 300
        assert ";" in line, f"no remedy: {line}"
    return "\n".join(problems)


# ---- cells ---------------------------------------------------------------------------------------


def test_cells_that_are_not_held_out_train():
    plan = made(HELD)
    found = unprofiled.parts(plan, "epigept")
    assert found == {"train": ["E003", "E066"], "validation": ["E114"], "test": ["E116"]}
    assert unprofiled.cells(plan, "epigept") == ["E003", "E066", "E114", "E116"]


def test_without_held_out_cells_all_train():
    assert unprofiled.parts(made(), "epigept")["train"] == CELLS


def test_all_cells_are_those_with_signals_and_expression():
    plan = made({"cells": "all"}, cells=["E003"])
    found = unprofiled.cells(plan, "epigept")
    table = read_table(ROOT / "config/cells.tsv", "cell")
    assert found == [cell for cell in table if table[cell]["expression"] == "1"]
    assert len(found) == 56


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"cells": ["E003", "E999"]}, "'E999' is neither in config/cells.tsv nor"),
        ({"cells": ["E003", "E001"]}, "'E001' has no column in the Roadmap expression table"),
        ({"test_cells": ["E117"]}, "test_cells: 'E117' is not among the model's cells"),
        ({"validation_cells": ["E11"]}, "validation_cells: 'E11' is not among"),
        (HELD | {"validation_cells": ["E116"]}, "'E116' is in validation_cells too"),
        ({"test_cells": CELLS}, "no cell is left for training"),
        ({"cells": ["E066", "E118"], "test_cells": ["E118"]}, "group LIVER is divided"),
    ],
)
def test_faulty_cells_are_refused(options, told):
    assert told in refused(options)


def test_no_cells_at_all_are_refused():
    assert "cells: neither this key nor `cells` names any" in refused(cells=[])


def test_a_divided_group_can_be_forced():
    options = {"cells": ["E066", "E118"], "test_cells": ["E118"], "cell_groups": "none"}
    plan = made(options)
    assert unprofiled.parts(plan, "epigept")["test"] == ["E118"]
    assert unprofiled.described(plan, "epigept")["force"]


def test_groups_come_from_a_table_of_names_or_ids(tmp_path):
    table = tmp_path / "groups.tsv"
    table.write_text("name\tgroup\ne003\tmine\nGM12878 Lymphoblastoid Cells\tmine\n")
    options = HELD | {"cell_groups": str(table)}
    assert "group mine is divided (train: E003; test: E116)" in refused(options)
    table.write_text("name\tgroup\nE003\tone\nE116\tother\n")
    made(options)
    table.write_text("cell\tgroup\n")
    assert "lacks columns name and group" in refused(options)
    assert "cannot be read" in refused(options | {"cell_groups": "nowhere.tsv"})


def test_own_cells_must_not_bear_the_names_of_other_files():
    own = {("mean", "DNase"): OwnTrack("mean", "DNase", "reads", "x", 2)}
    matrix = {"tf_expression": {"matrix": "x.tsv"}}
    assert "name of another file" in refused({"cells": ["E003", "mean"]} | matrix, own)


# ---- signals -------------------------------------------------------------------------------------


def test_signals_are_those_of_the_eight_that_training_cells_have():
    found = unprofiled.signals(made(HELD), "epigept")
    assert found == [s for s in unprofiled.SIGNALS if s != "CTCF"]  # Roadmap has none


def test_a_missing_signal_is_left_to_the_mask():
    cells = ["E004", "E013", "E116"]
    plan = made({"cells": cells, "cell_groups": "none"})
    lacking = [c for c in cells if "DNase" not in unprofiled.tracks(plan, "epigept", c)]
    known = read_table(ROOT / "config/cells.tsv", "cell")
    assert lacking == [c for c in cells if "DNase" not in known[c]["marks"].split(",")]
    assert len(lacking) == 1


def test_tracks_of_the_user_stand_for_public_ones():
    own = {("E003", "DNase"): OwnTrack("E003", "DNase", "bam", "my.bam", 2)}
    plan, files, problems = laid_out(own=own)
    assert problems == []
    assert unprofiled.tracks(plan, "epigept", "E003")["DNase"] == "E003-DNase.bam"
    assert ("own_bam", "None line 2", "my.bam", {"cell": "E003", "mark": "DNase"}) in files


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"signals": ["DNase", "H3K4me9"]}, "'H3K4me9' is neither in config/marks.tsv nor"),
        ({"signals": 8}, "signals: 8 is a number"),
        ({"tfs": 711}, "tfs: 711 is a number"),
        ({"signals": ["DNase", "CTCF"]}, "no training cell has CTCF with signal reads"),
        ({"loss": "open"}, "no rule makes the targets of 'open'"),
        ({"loss": "poisson", "signal": "pval"}, "poisson needs counts"),
    ],
)
def test_faulty_signals_are_refused(options, told):
    assert told in refused(options)


def test_signals_of_several_kinds_are_refused():
    own = {("E003", "DNase"): OwnTrack("E003", "DNase", "depth", "my.bw", 2)}
    assert "DNase is of several kinds (depth in E003; counts in" in refused(own=own)


def test_the_simulation_has_no_reads_of_dnase_and_few_tracks_of_fold_change():
    plan = made({"signal": "reads"}, simulate=SIMULATED)
    assert unprofiled.signals(plan, "epigept") == ["H3K27ac", "H3K4me3"]
    plan = made({"signal": "pval"}, simulate=SIMULATED)
    assert unprofiled.signals(plan, "epigept") == ["DNase", "H3K27ac", "H3K4me3"]
    assert "one cell only" in refused({"signal": "fold_change"}, simulate=SIMULATED)


# ---- sequence, motifs, expression, regions, loops ------------------------------------------------


def test_sizes_are_those_of_the_network():
    from models.epigept.sizes import PRESETS, Config

    for preset in PRESETS:
        options = {"preset": preset, "seq_bp": None, "pools": None}
        network = Config.of({"preset": preset})
        assert unprofiled.sizes(options) == (network.seq_bp, network.bin_bp)
    assert unprofiled.sizes({"preset": "small", "seq_bp": 4096, "pools": [2, 4]}) == (4096, 8)


def test_bins_of_200_bp_are_for_dnase():
    assert "'E066' has none of the signals" in refused({"preset": "paper_dnase"})  # no DNase
    plan = made({"preset": "paper_dnase"}, cells=["E003", "E114", "E116"])
    assert unprofiled.bin_bp(plan) == 200 and unprofiled.signals(plan, "epigept") == ["DNase"]
    files = unprofiled.example_files(plan, "epigept")
    assert files["mask"] == "results/store/hg19/mask/200.npy"
    assert files["motifs"] == "results/store/hg19/motifs200/hocomoco_p_0_001.npy"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"seq_bp": 1000}, "seq_bp: 1000 is no multiple of the bin, 128 bp"),
        ({"motifs": {"table": "x.tsv"}}, "motifs.table: belongs to a file of your own"),
        ({"motifs": {"threshold": "homer"}}, "motifs.threshold: homer needs a HOMER file"),
        ({"motifs": {"value": 2}}, "motifs.value: 2 is above 1"),
        ({"contact_weight": 2}, "loops.file: contact_weight needs loops"),
        ({"cells": CELLS, "loops": {"cells": ["E999"]}}, "loops.cells: 'E999' is not among"),
        ({"folds": ["c"]}, "folds: there is no fold 'c'"),
        ({"epochs": 0}, "epochs: 0 needs weights"),
    ],
)
def test_faulty_inputs_are_refused(options, told):
    assert told in refused(options)


def test_other_assemblies_need_a_table_of_expression():
    assert "tf_expression.matrix: the public table goes with hg19" in refused(assembly="hg38")


def test_public_files_are_asked_for_unless_there_are_own_ones():
    plan, files, _ = laid_out(HELD)
    usual = {"motif_file": "hocomoco_meme", "motif_table": "hocomoco_annotation"}
    usual |= {"tf_matrix": "roadmap_rpkm", "tf_symbols": "roadmap_genes"}
    usual |= {"genome_fasta": "genome_fasta"}
    assert {key: plan.inputs.get(key) for key in usual} == {
        key: f"resources/{source}" for key, source in usual.items()
    }
    options = {"tf_expression": {"matrix": "t.tsv", "aliases": "a.tsv"}}
    options |= {"motifs": {"file": "m.homer", "threshold": "homer"}, "regions": {"bed": "r.bed"}}
    plan, files, problems = laid_out(options)
    assert problems == []
    own = {named: override for _, named, override, _ in files if override}
    assert own == {
        "models.epigept.motifs.file": "m.homer",
        "models.epigept.tf_expression.matrix": "t.tsv",
        "models.epigept.tf_expression.aliases": "a.tsv",
        "models.epigept.regions.bed": "r.bed",
    }
    assert plan.inputs["tf_symbols"] == "resources/gencode" and "motif_table" not in plan.inputs
    assert unprofiled.motif_set(plan) == "m_homer"
    plain = {"tf_expression": {"matrix": "t.tsv", "symbols": "none"}}
    assert "tf_symbols" not in made(plain).inputs


def test_another_rule_or_list_of_tfs_is_another_block():
    changes = ({}, {"threshold": "none"}, {"value": 1e-4}, {"gc": 0.4}, {"scan": "regions"})
    names = {unprofiled.motif_set(made({"motifs": change})) for change in changes}
    names.add(unprofiled.motif_set(made({"tfs": ["SP1", "YY1"]})))
    assert len(names) == len(changes) + 1
    assert all(name.replace("_", "").isalnum() for name in names)
    plan = made({"motifs": {"scan": "regions"}})
    assert unprofiled.motif_regions(plan) == "results/epigept/regions.bed"


def test_loops_are_read_with_a_weight_only(tmp_path):
    asked = {"loops": {"file": "all.bedpe"}}
    assert "loops" not in unprofiled.example_files(made(asked), "epigept")
    plan = made(asked | {"contact_weight": 2, "loops": {"file": "all.bedpe"}})
    assert unprofiled.loop_cells(plan, "epigept") == CELLS
    assert len({plan.inputs[f"loops.{cell}"] for cell in CELLS}) == 1
    (tmp_path / "E066.csv").write_text("")
    pattern = {"contact_weight": 2, "loops": {"file": str(tmp_path / "{cell}.csv")}}
    plan = made(pattern)
    assert unprofiled.loop_cells(plan, "epigept") == ["E066"]
    files = unprofiled.example_files(plan, "epigept")
    assert files["loops"] == ["results/store/hg19/loops128/E066.npz"]
    pattern["loops"] = {"file": str(tmp_path / "{cell}.tsv")}
    assert "is there for no cell" in refused(pattern)


# ---- runs and files ------------------------------------------------------------------------------


def test_settings_of_a_run_hold_cells_by_part_and_not_the_number_of_tfs():
    plan = made(HELD | {"tfs": ["SP1", "YY1"], "folds": ["b"]})
    assert list(plan.runs) == [("epigept", "b")]
    own = plan.runs["epigept", "b"]
    assert own["fold"] == {"name": "b", "validation": ["chr3"], "test": ["chr4"]}
    assert own["cells"] == unprofiled.parts(plan, "epigept")
    assert own["factors"] == ["SP1", "YY1"] and own["examples"] == "regions"
    assert (own["seq_bp"], own["bin_bp"], own["loop_cells"]) == (128_000, 128, [])
    assert not {"tfs", "test_cells", "validation_cells", "cell_groups", "folds", "gpu"} & set(own)
    json.dumps(own)


def test_other_data_are_other_runs():
    changes = ({}, {"motifs": {"value": 1e-4}}, {"regions": {"least_usable": 0.9}})
    changes = [HELD | change for change in (*changes, {"signal": "pval"}, {"test_cells": ["E066"]})]
    prints = {runs.fingerprint(made(change).runs["epigept", "a"]) for change in changes}
    assert len(prints) == len(changes)


def test_files_of_the_examples_are_in_the_order_of_the_cells():
    plan = made(HELD)
    files = unprofiled.example_files(plan, "epigept")
    names = ["E003", "E066", "E114", "E116"]
    assert files["signals"] == [f"results/epigept/signals/{cell}.npy" for cell in names]
    assert files["cell_facts"] == [f"results/epigept/signals/{cell}.json" for cell in names]
    raw = unprofiled.train_raw(plan, "epigept")
    assert "results/store/hg19/raw128/E003-DNase.reads.npy" in raw
    assert not any("E116" in path or "E114" in path for path in raw)
    assert set(unprofiled.data(plan)) <= set(unprofiled.results(plan))
    assert unprofiled.shown(plan)[:2] == [f"results/epigept/{f}/history.tsv" for f in "ab"]
    assert unprofiled.disk_bytes(plan, 3.1e9) > 10e9


def test_a_plan_without_such_models_has_nothing_of_it():
    plan = runs.build({"folds": FOLDS, "cells": ["E003"], "marks": ["H3K4me3"]}, ROOT)
    assert unprofiled.models(plan) == [] and unprofiled.bin_bp(plan) == 128
    assert unprofiled.motif_set(plan) == "" and unprofiled.motif_rule(plan) == {}
    assert unprofiled.results(plan) == unprofiled.motif_regions(plan) == []


def test_planning_imports_nothing_slow():
    code = (
        "import sys; from epiloom.plan import unprofiled_inputs;"
        "assert not {'torch', 'numpy', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# ---- in the whole plan ---------------------------------------------------------------------------


def asked(options=None, **changes) -> dict:
    return {"cells": CELLS, "folds": FOLDS, "models": {"epigept": options or {}}} | changes


def test_the_plan_has_runs_files_and_results():
    options = HELD | {"signal": "pval", "contact_weight": 1.0}
    plan = runs.build(asked(options, simulate=SIMULATED, marks=[]), ROOT)
    assert list(plan.runs) == [("epigept", "a"), ("epigept", "b")]
    own = plan.runs["epigept", "a"]
    assert runs.example_files(plan, own) == unprofiled.example_files(plan, "epigept")
    assert plan.inputs["loops.E003"] == "resources/local/hichip_loops/hichip_loops.bedpe.gz"
    assert runs.track(plan, "E116-DNase.pval").file in plan.files
    assert list(checks.datasets(plan.config, plan.cards, ())) != []


def test_problems_are_told_together():
    options = {"test_cells": ["E117"], "motifs": {"threshold": "homer"}, "epochs": 0}
    with pytest.raises(InputError) as caught:
        runs.build(asked(options), ROOT)
    assert len(caught.value.problems) == 3


def test_rules_make_all_data(tmp_path):
    options = HELD | {"signal": "pval", "contact_weight": 1.0, "preset": "small"}
    given = asked(options, simulate=SIMULATED | {"length_bp": 600_000}, marks=[])
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(given))
    files = unprofiled.data(runs.build(given, ROOT))
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "-n", *files]
    command += [
        "--quiet",
        "rules",
        "--directory",
        str(tmp_path),
        "--configfile",
        str(tmp_path / "c.yaml"),
    ]
    home = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(command, cwd=ROOT, env=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_peak_files_may_choose_the_regions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "peaks").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / f"peaks/{name}.narrowPeak").write_text("")
    plan = made({"regions": {"peaks": ["peaks/*.narrowPeak"], "least_files": 2}})
    assert len(unprofiled.peak_files(plan)) == 3
    told = refused({"regions": {"peaks": ["peaks/*.bed", "peaks/?.narrowPeak"], "least_files": 9}})
    assert "'peaks/*.bed' fits no file" in told and "9 files can never touch a bin where 3" in told
    bed = tmp_path / "own.bed"
    bed.write_text("")
    told = refused({"regions": {"bed": str(bed), "peaks": ["peaks/*"], "least_files": 1}})
    assert "regions.bed tells the regions already" in told
