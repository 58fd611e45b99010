"""The plan of what models of cells are asked: cells, files, paths, refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from epiloom.plan import results, runs, unprofiled_asked
from epiloom.plan.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
CELLS = ["E003", "E066", "E116", "E114"]
HELD = {"validation_cells": ["E114"], "test_cells": ["E116"]}
RUN = "results/epigept/a"


def configured(interpret: dict | None = None, **options) -> dict:
    """A simulated study with one model of cells."""
    own = {"preset": "tiny", "signal": "pval", "cell_groups": "none", "cells": CELLS} | HELD
    return {
        "simulate": {"cells": CELLS, "assays": ["DNase", "H3K4me3"], "chromosomes": 4},
        "folds": {"a": {"validation": ["chr1"], "test": ["chr2"]}},
        "models": {"epigept": own | options},
        "interpret": interpret or {},
    }


def built(interpret: dict | None = None, **options) -> runs.Plan:
    return runs.build(configured(interpret, **options), ROOT, "here")


def refused(interpret: dict, **options) -> str:
    with pytest.raises(InputError) as told:
        built(interpret, **options)
    for line in told.value.problems:
        assert line.startswith("interpret.") and ";" in line and len(line) < 300, line
    return "\n".join(told.value.problems)


# ---- cells ---------------------------------------------------------------------------------------


def test_test_cells_are_asked_else_validation_cells_else_training_cells():
    assert unprofiled_asked.cells(built(), "epigept") == ["E116"]
    assert unprofiled_asked.cells(built(test_cells=[]), "epigept") == ["E114"]
    neither = built(test_cells=[], validation_cells=[])
    assert unprofiled_asked.cells(neither, "epigept") == CELLS
    assert unprofiled_asked.cells(built({"cells": ["E003", "E116"]}), "epigept") == ["E003", "E116"]


def test_cells_that_the_model_does_not_have_are_refused_all_at_once(tmp_path):
    told = refused({"cells": ["E11", "E999", "E116"]})
    assert "'E11' is no cell of epigept (did you mean 'E11" in told
    assert "'E999' is no cell of epigept" in told and told.count("\n") == 1
    table = tmp_path / "tpm.tsv"
    table.write_text("gene\tE003\nA\t1\n")
    told = refused({"expression": {"matrix": str(table), "cells": ["E003"]}})
    assert "interpret.expression.cells: 'E003' is the name of a cell of epigept; rename" in told


# ---- files ---------------------------------------------------------------------------------------


def test_a_table_of_new_cells_is_fetched_with_the_models_symbols(tmp_path):
    table, names = tmp_path / "tpm.tsv", tmp_path / "aliases.tsv"
    for path in (table, names):
        path.write_text("gene\tmine\nA\t1\n")
    own = {"matrix": str(table), "aliases": str(names), "cells": ["mine"]}
    plan = built({"expression": own})
    files = unprofiled_asked.question_files(plan)
    assert files["expression"] == "resources/own/new-matrix/tpm.tsv"
    assert files["aliases"] == "resources/own/new-aliases/aliases.tsv"
    assert files["symbols"] == files["annotation"] == plan.inputs["tf_symbols"]
    assert {files["expression"], files["aliases"]} <= set(plan.files)
    assert unprofiled_asked.question(plan, "epigept")["columns"] == ["mine"]
    assert unprofiled_asked.question_files(built())["expression"] == []
    with pytest.raises(InputError, match=r"interpret.expression.matrix: .* does not exist"):
        built({"expression": {"matrix": "nowhere.tsv"}})


def test_variants_and_regions_of_a_file_are_put_into_the_plan(tmp_path):
    for name in ("v.vcf", "r.bed"):
        (tmp_path / name).write_text("x\n")
    plan = built({"variants": str(tmp_path / "v.vcf"), "bed": str(tmp_path / "r.bed")})
    assert plan.inputs["variants"].endswith("v.vcf")
    assert plan.inputs["asked_regions"].endswith("r.bed")
    assert "bed" in unprofiled_asked.places(plan)


# ---- paths ---------------------------------------------------------------------------------------


def test_every_question_has_its_path():
    plan = built(
        {
            "regions": ["chr2:1,000-2,000"],
            "tracks": ["chr2", "all"],
            "variants": "planted",
            "factors": ["GATA4", "chr2:5,000"],
            "contacts": ["chr2:0-2048"],
        },
        contact_weight=1,
    )
    ends = [
        *("predict/chr2_1000-2000.png", "predict/chr2_1000-2000.tsv.gz"),
        *("factors/GATA4.png", "factors/GATA4.tsv", "factors/chr2_5000.png"),
        *("factors/chr2_5000.tsv", "contacts/chr2_0-2048.png", "contacts/chr2_0-2048.tsv.gz"),
        *("tracks/chr2", "tracks/all", "variants.tsv", "variants.vcf", "variants.truth.tsv"),
        *("variants.truth.png", "loops.tsv", "loops.png"),
    ]
    assert unprofiled_asked.asked(plan) == [f"{RUN}/{end}" for end in ends]
    assert set(unprofiled_asked.asked(plan)) <= set(results.results(plan))
    told = results.as_dict(plan)
    assert told["asked_cells"] == unprofiled_asked.asked(plan) and told["asked"] == []
    (one,) = told["cell_models"]
    assert one == {
        **{"model": "epigept", "run": "a", "fold": "a", "signals": ["DNase", "H3K4me3"]},
        "cells": {"train": ["E003", "E066"], "validation": ["E114"], "test": ["E116"]},
    }
    json.dumps(told)


def test_nothing_is_made_that_nobody_asked_for():
    assert unprofiled_asked.asked(built()) == []
    only_validation = {"loops": {"cells": ["E114"]}, "contact_weight": 1}
    assert unprofiled_asked.asked(built(**only_validation)) == []


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interpret", "told"),
    [
        ({"regions": ["chr2"]}, "interpret.regions: 'chr2' is no region; give CHROM:START-END"),
        ({"contacts": ["chr2:9-5"]}, "interpret.contacts: 'chr2:9-5' is no region"),
        ({"contacts": ["chr2:0-2049"]}, "longer than the 2048 bases that epigept sees at once"),
        ({"tracks": ["chr9"]}, "'chr9' is no chromosome of the study"),
        ({"factors": ["chr2:1-5"]}, "neither a gene symbol nor CHROM:POSITION"),
        ({"expression": {"cells": ["a"]}}, "interpret.expression.cells: belongs to a table"),
    ],
)
def test_faulty_questions_are_refused(interpret, told):
    if "tracks" in interpret:
        with pytest.raises(InputError, match=told):
            built(interpret)
    else:
        assert told in refused(interpret)


def test_symbols_of_genes_need_an_annotation(tmp_path):
    own = {"matrix": str(tmp_path / "m.tsv"), "symbols": "none"}
    (tmp_path / "m.tsv").write_text("gene\tE003\n")
    assert "no gene is known; give positions" in refused({"factors": ["MYC"]}, tf_expression=own)
    plan = built({"factors": ["chr2:7"]}, tf_expression=own)
    assert unprofiled_asked.question_files(plan)["annotation"] == []


def test_names_of_new_cells_must_fit_files(tmp_path):
    (tmp_path / "m.tsv").write_text("gene\tmy cell\n")
    own = {"matrix": str(tmp_path / "m.tsv"), "cells": ["my cell"]}
    assert "'my cell' cannot name a file" in refused({"expression": own})


# ---- the workflow --------------------------------------------------------------------------------


def dry_run(folder: Path, config: dict, *targets: str) -> subprocess.CompletedProcess:
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(ROOT / "Snakefile"),
        "-n",
        "-q",
    ]
    place = ["--directory", str(folder), "--configfile", str(folder / "c.yaml"), "--cores", "1"]
    return subprocess.run(
        [*command, "rules", *place, "--", *targets],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_rules_make_all_of_it_and_single_targets(tmp_path):
    asked = {"cells": ["E116"], "variants": "planted", "tracks": ["chr2"]}
    targets = [
        *("predict/chr2_5-900.png", "factors/MYC.tsv", "contacts/chr2_5-900.png", "loops.tsv"),
        *("tracks/chr2", "variants.truth.png"),
    ]
    config = configured(asked, contact_weight=1)
    done = dry_run(tmp_path, config, *(f"{RUN}/{name}" for name in targets))
    text = done.stdout + done.stderr
    assert done.returncode == 0, text[-3000:]
    for rule in (
        *("predict_cells", "rank_factors", "draw_contacts", "score_loops", "predict_cell_tracks"),
        *("score_cell_variants", "variant_truth", "planted_variants"),
    ):
        assert rule in text


def test_the_workflow_refuses_unknown_cells_before_any_job(tmp_path):
    done = dry_run(tmp_path, configured({"cells": ["E999"]}))
    text = done.stdout + done.stderr
    assert done.returncode and "interpret.cells: 'E999' is no cell of epigept" in text
    assert "Traceback" not in text
