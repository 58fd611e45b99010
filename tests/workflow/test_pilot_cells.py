"""Real tracks, DNA and expression of `make pilot_cells` through the rules, without training."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyBigWig
import pytest
import yaml

from epiloom.data.genome import Genome
from epiloom.plan import runs, unprofiled

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
PILOT = DATA / "hg19_pilot_mini"
CONFIG = "config/examples/pilot_cells.yaml"
CELLS = ["E003", "E065", "E116", "E117"]
SIGNAL = "H3K9me3"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all((DATA / name).exists() for name in ("hg19_pilot_mini", "roadmap_tables", "motifs")),
        reason="shared data not here",
    ),
]


@pytest.fixture(scope="module")
def plan() -> runs.Plan:
    return runs.build(yaml.safe_load((ROOT / CONFIG).read_text()), ROOT, CONFIG)


@pytest.fixture(scope="module")
def made(tmp_path_factory, plan) -> Path:
    """The mean of the fold that holds out E116, of one signal; expression of two folds."""
    folder = tmp_path_factory.mktemp("pilot_cells")
    files = {fold: unprofiled.example_files(plan, "epigept", fold) for fold in ("E003", "E116")}
    wanted = [files["E116"]["mean"], *(own["vectors"] for own in files.values())]
    less = folder / "less.yaml"
    less.write_text(yaml.safe_dump({"models": {"epigept": {"signals": [SIGNAL]}}}))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(folder), "--cores", "1", "--configfile", CONFIG, str(less)]
    done = subprocess.run(
        [*command, "--", *wanted],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=290,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return folder


def test_every_cell_with_expression_is_held_out_once(plan):
    assert [run for _, run in plan.runs] == [f"fold1.{cell}" for cell in CELLS]
    for cell, own in zip(CELLS, plan.runs.values(), strict=True):
        assert own["cells"]["test"] == [cell]
        assert sorted([*own["cells"]["train"], cell]) == CELLS
    assert len(unprofiled.track_names(plan)) == 20 == 4 * len(unprofiled.signals(plan, "epigept"))
    assert all(source.local for source in plan.files.values())  # nothing is downloaded


def test_the_mean_of_a_fold_is_that_of_the_other_cells_bigwigs(made, plan):
    genome = Genome.load(made / "results/store/hg19/manifest.json")
    found = np.load(made / unprofiled.example_files(plan, "epigept", "E116")["mean"])
    start = int(genome.offsets(128)[genome.index("chr22")])
    logs = []
    for cell in ("E003", "E065", "E117"):
        with pyBigWig.open(str(PILOT / f"signal/{cell}-{SIGNAL}.pval.signal.bigwig")) as file:
            means = file.stats("chr22", 0, 128 * 300, nBins=300, exact=True)
        logs.append(np.log1p(np.array(means, float)).astype(np.float16))
    wanted = np.mean(np.array(logs, np.float64), axis=0)
    np.testing.assert_allclose(found[start : start + 300, 0], wanted, rtol=2e-3, atol=1e-3)


def test_expression_is_on_the_scale_of_the_cells_that_train(made, plan):
    vectors = {}
    for held in ("E003", "E116"):
        with np.load(made / unprofiled.example_files(plan, "epigept", held)["vectors"]) as file:
            assert file["cells"].tolist() == [*(c for c in CELLS if c != held), held]
            vectors[held] = dict(zip(file["cells"].tolist(), file["vectors"], strict=True))
    assert len(vectors["E003"]["E003"]) > 600
    same = np.corrcoef(vectors["E003"]["E065"], vectors["E116"]["E065"])[0, 1]
    assert same > 0.99 and (vectors["E003"]["E065"] != vectors["E116"]["E065"]).any()
