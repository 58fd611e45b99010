"""Real read depth of H1 cells through the workflow itself, as far as what the models read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from epiloom.plan import runs

ROOT = Path(__file__).resolve().parents[2]
E003 = ROOT.parent / "shared" / "data" / "roadmap_e003"
CONFIG = "config/examples/e003.yaml"
MARKS = ("H3K4me1", "H3K4me3", "H3K9me3", "H3K27me3", "H3K36me3", "H3K27ac", "H3K9ac")
TARGETS = [
    f"results/{folder}/E003-{m}.depth.npy" for folder in ("features", "partners") for m in MARKS
]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not E003.exists(), reason="shared data not here"),
]


def snakemake(folder: Path, *args: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    return subprocess.run(
        [*command, "--directory", str(folder), "--configfile", CONFIG, "--cores", "2", *args],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=290,
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("e003")
    done = snakemake(folder, *TARGETS)
    assert done.returncode == 0, done.stderr[-6000:]
    return folder / "results"


@pytest.fixture(scope="module")
def genes(results) -> pd.DataFrame:
    return pd.read_csv(results / "genes/genes.tsv", sep="\t")


def bins(results: Path, folder: str) -> np.ndarray:
    """Raw 100-bp means of all marks, marks last."""
    arrays = [np.load(results / folder / f"E003-{mark}.depth.npy") for mark in MARKS]
    return np.stack(arrays, axis=-1).astype(np.float64)


def coarse(means: np.ndarray, length: int, bin_bp: int) -> np.ndarray:
    """ln(1 + mean) of wider bins from 100-bp means; the last bin may be shorter."""
    widths = np.full(len(means), 100)
    widths[-1] = length - 100 * (len(means) - 1)
    starts = np.arange(0, len(means), bin_bp // 100)
    sums = np.add.reduceat(means * widths[:, None], starts, axis=0)
    return np.log1p(sums / np.add.reduceat(widths, starts)[:, None])


def test_the_folds_test_every_gene_once_and_leave_none_of_their_parts_without_genes():
    plan = runs.build(yaml.safe_load((ROOT / CONFIG).read_text()), ROOT, CONFIG)
    chroms = pd.read_csv(E003 / "genes.tsv", sep="\t")["chrom"]
    folds = runs.folds(plan.config)
    tested = [chrom for fold in folds for chrom in fold["test"]]
    assert sorted(tested) == sorted(chroms.unique()) == sorted(plan.config["chromosomes"])
    for fold in folds:
        held_out = chroms.isin(fold["validation"] + fold["test"])
        assert (~held_out).sum() >= 40
        assert all(chroms.isin(fold[part]).sum() >= 10 for part in ("validation", "test"))


def test_the_six_kb_around_the_real_start_sites_are_those_of_the_published_model(results, genes):
    golden = pd.read_csv(E003 / "golden_promoter_6kb_100bp.tsv.gz", sep="\t")
    ours = np.log1p(bins(results, "features")[:, 170:230])
    assert len(golden) == 700 and len(genes) == 100
    for i, mark in enumerate(MARKS):
        rows = golden[golden["mark"] == mark].set_index("gene_id").loc[genes["gene_id"]]
        told = rows.filter(like="bin").to_numpy()
        np.testing.assert_allclose(ours[..., i], told, rtol=0, atol=1e-6)


def test_expression_and_partners_are_the_published_ones_in_their_order(results, genes):
    told = pd.read_csv(E003 / "genes.tsv", sep="\t").set_index("gene_id").loc[genes["gene_id"]]
    expression = pd.read_csv(results / "genes/expression.tsv", sep="\t")
    assert expression["E003"].tolist() == told["rpkm"].tolist()
    partners = pd.read_csv(results / "partners/E003.tsv", sep="\t")
    golden = pd.read_csv(E003 / "golden_region_bins.tsv", sep="\t")
    slots = golden[golden["slot"] > 0]
    place = partners["chrom"] + ":" + partners["start"].astype(str)
    names = place + "-" + partners["end"].astype(str)
    ours = zip(partners["gene_id"], partners["rank"], names, partners["score"], strict=True)
    theirs = zip(slots["gene_id"], slots["slot"], slots["region"], slots["score"], strict=True)
    assert sorted(ours) == sorted(theirs) and len(partners) == 580


@pytest.mark.parametrize("bin_bp", [2000, 500, 100])
def test_every_promoter_and_partner_has_the_published_bins(results, genes, bin_bp):
    golden = pd.read_csv(E003 / "golden_region_bins.tsv", sep="\t").set_index(["gene_id", "slot"])
    promoters, row = bins(results, "features"), dict(zip(genes["gene_id"], range(100), strict=True))
    regions = pd.read_csv(results / "partners/E003.regions.tsv", sep="\t")
    place = regions.set_index(["chrom", "start", "end"])["first_bin"]
    partner_bins = bins(results, "partners")
    partners = pd.read_csv(results / "partners/E003.tsv", sep="\t")
    partner = partners.set_index(["gene_id", "rank"])
    assert not np.isnan(promoters).any() and not np.isnan(partner_bins).any()
    for (gene, slot), told in golden.iterrows():
        means, length = promoters[row[gene]], 40_000
        if slot:
            chrom, start, end = partner.loc[(gene, slot), ["chrom", "start", "end"]]
            first, length = place[chrom, start, end], end - start
            means = partner_bins[first : first + -(-length // 100)]
        found = coarse(means, length, bin_bp)
        assert len(found) == told[f"n_bins_{bin_bp}"]
        assert -(-(40_000 // bin_bp - len(found)) // 2) == told[f"left_pad_{bin_bp}"]
        sums = told[[f"{mark}_sum_{bin_bp}" for mark in MARKS]].to_numpy(np.float64)
        np.testing.assert_allclose(found.sum(axis=0), sums, rtol=0, atol=1e-4)


def test_nothing_is_left_to_be_done_afterwards(results):
    done = snakemake(results.parent, "-n", *TARGETS)
    assert "Nothing to be done" in done.stdout + done.stderr
