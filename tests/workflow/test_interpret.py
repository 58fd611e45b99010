"""A model of DNA on a small simulated genome: training, metrics, and all that it may be asked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyBigWig
import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
simulate: {seed: 1, chromosomes: 3, length_bp: 300000, cells: [E003, E116], assays: [DNase]}
cells: [E003, E116]
folds:
  fold1: {validation: [chr2], test: [chr3]}
models:
  epiformer:
    preset: tiny
    seq_bp: 4096
    crop_bins: 2
    batch: 8
    accumulate: 1
    epochs: 1
    learning_rate: 0.002
interpret:
  regions: ["chr3:100,000-110,000"]
  bed: BED
  tracks: [chr3]
  variants: planted
  matched: 2
  mutagenesis: ["chr3:100000-100020"]
  motifs: 4
"""
RUN = "results/epiformer/fold1"
ASKED = [
    f"{RUN}/predict/chr3_100000-110000.png",
    f"{RUN}/mutagenesis/chr3_100000-100020.png",
    f"{RUN}/variants.truth.tsv",
    f"{RUN}/variants.truth.png",
    f"{RUN}/motifs.tsv",
    f"{RUN}/motifs.truth.tsv",
    f"{RUN}/metrics.tsv",
]
pytestmark = pytest.mark.slow


def snakemake(folder: Path, *args: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    place = ["--directory", str(folder), "--configfile", str(folder / "dna.yaml"), "--cores", "2"]
    return subprocess.run(
        [*command, *place, *args],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=290,
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dna")
    bed = "chr3\t150000\t150300\tlate\nchr2\t90000\t90010\nchr3\t100000\t104096\n"  # unsorted
    (folder / "my.bed").write_text(bed)
    (folder / "dna.yaml").write_text(CONFIG.replace("BED", f"{folder}/my.bed"))
    done = snakemake(folder)
    assert done.returncode == 0, done.stderr[-6000:]
    return folder


def test_everything_that_was_asked_is_there_and_stays(work):
    assert all((work / path).stat().st_size > 0 for path in [*ASKED, "results/report.html"])
    done = snakemake(work, "-n")
    assert "Nothing to be done" in done.stdout + done.stderr


def test_metrics_are_of_the_held_out_chromosomes_beside_baselines(work):
    table = pd.read_csv(work / RUN / "metrics.tsv", sep="\t")
    assert set(table["part"]) == {"validation", "test"}
    assert {"epiformer", "mean", "kmer_ridge", "gc_conservation", "other_cells"} <= set(
        table["predictor"]
    )
    assert (table["n"] > 1000).all()


def test_a_region_has_every_bin_once_with_what_was_measured(work):
    table = pd.read_csv(work / RUN / "predict/chr3_100000-110000.tsv.gz", sep="\t")
    assert set(table["track"]) == {"E003-DNase", "E116-DNase"}
    one = table[table["track"] == "E003-DNase"]
    assert one["start"].tolist() == list(range(100_000 // 128 * 128, 110_000, 128))
    stored = np.load(work / "results/store/hg19/targets128/E003-DNase.npy")
    lengths = pd.read_csv(
        next((work / "resources").rglob("hg19.chrom.sizes")), sep="\t", names=["chrom", "length"]
    ).set_index("chrom")["length"]
    before = sum(-(-int(lengths[chrom]) // 128) for chrom in ("chr1", "chr2"))
    first = before + 100_000 // 128
    np.testing.assert_allclose(
        one["observed"], stored[first : first + len(one)].astype(float), rtol=1e-3
    )
    vector = np.load(work / RUN / "predictions.npy")
    assert np.isfinite(one["predicted"]).all() and vector.shape[0] == 2


def test_a_chromosome_and_the_regions_of_a_bed_file_become_bigwigs(work):
    # windows of a region are laid otherwise than those of a chromosome: bins see other ends
    region = pd.read_csv(work / RUN / "predict/chr3_100000-110000.tsv.gz", sep="\t")
    region = region[region["track"] == "E116-DNase"]
    with pyBigWig.open(str(work / RUN / "tracks/chr3/E116-DNase.bw")) as whole:
        assert whole.stats("chr3", 0, 290_000, type="coverage") == [pytest.approx(1.0)]
        found = [whole.values("chr3", start, start + 1)[0] for start in region["start"]]
    np.testing.assert_allclose(found, region["predicted"], rtol=0.3)
    table = pd.read_csv(work / RUN / "tracks/bed/predicted.tsv.gz", sep="\t")
    own = table[table["track"] == "E116-DNase"]
    assert own["chrom"].tolist() == ["chr2"] + ["chr3"] * (len(own) - 1)  # in genome order
    assert own[own["chrom"] == "chr2"]["start"].tolist() == [90_000 // 128 * 128]
    with pyBigWig.open(str(work / RUN / "tracks/bed/E116-DNase.bw")) as file:
        rows = own.itertuples()
        found = [file.values(row.chrom, row.start, row.start + 1)[0] for row in rows]
    np.testing.assert_allclose(found, own["predicted"], rtol=1e-4)


def test_every_base_is_replaced_by_the_three_others(work):
    table = pd.read_csv(work / RUN / "mutagenesis/chr3_100000-100020.tsv.gz", sep="\t")
    one = table[table["track"] == "E003-DNase"]
    assert one.groupby("position").size().tolist() == [3] * 20
    assert (one["ref"] != one["alt"]).all()
    with pyBigWig.open(str(work / RUN / "mutagenesis/chr3_100000-100020/E003-DNase.bw")) as file:
        values = file.values("chr3", 100_000, 100_020, numpy=True)
    mean = one.groupby("position")["effect"].mean().to_numpy()
    np.testing.assert_allclose(values, mean, atol=1e-5)


def test_variants_have_scores_for_every_track_and_percentiles(work):
    table = pd.read_csv(work / RUN / "variants.tsv", sep="\t")
    vcf = [
        line
        for line in (work / RUN / "variants.vcf").read_text().splitlines()
        if not line.startswith("#")
    ]
    keys = ["chrom", "position", "ref", "alt"]
    assert set(table["chrom"]) == {"chr3"} and len(table) == 2 * len(vcf)
    assert (table.groupby(keys).size() == 2).all()
    told = [column for column in table if "percentile" in column]
    assert told and table[told].stack().between(0, 100).all()
    truth = pd.read_csv(work / RUN / "variants.truth.tsv", sep="\t")
    assert set(truth["track"]) == {"E003-DNase", "E116-DNase", "all"}
    page = (work / "results/report.html").read_text()
    assert page.count('<img src="data:image/png') == 4 and "asked-epiformer-fold1" in page


def test_weights_of_another_study_predict_as_they_did_there(work, tmp_path):
    again = Path(shutil.copytree(work, tmp_path / "again"))
    shutil.rmtree(again / "results/epiformer")
    start = f"    start: {work}/results/epiformer/{{fold}}/weights.pt\n"
    text = (work / "dna.yaml").read_text()
    text = text.replace("    epochs: 1\n", f"    epochs: 0\n{start}")
    (again / "dna.yaml").write_text(text)
    done = snakemake(again, f"{RUN}/predictions.npy")
    assert done.returncode == 0, done.stderr[-6000:]
    found, wanted = (np.load(folder / RUN / "predictions.npy") for folder in (again, work))
    np.testing.assert_array_equal(found, wanted)
    (again / "dna.yaml").write_text(text.replace(str(work), str(again)))
    refused = snakemake(again, "-n")
    assert (
        refused.returncode and "is the file that this run writes" in refused.stdout + refused.stderr
    )
