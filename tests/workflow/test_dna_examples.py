"""Two real inputs of models of DNA through the workflow itself: DNase of contigs, and the pilot."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyBigWig
import pysam
import pytest
import yaml

from epiloom.data.bed import read_bed
from epiloom.data.genome import Genome
from epiloom.data.geometry import Geometry
from epiloom.data.window_reader import WindowReader
from epiloom.learn.windows import WindowTable, geometry_of
from epiloom.plan import runs

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
DNASE, PILOT = SHARED / "hg38_dnase_windows", SHARED / "hg19_pilot_mini"
# As little training as ends with numbers: 4 windows per contig and a network of no use.
SHORT = {"preset": "tiny", "seq_bp": 4096, "crop_bins": 2, "stride_bp": 16384, "epochs": 1}
SHORT |= {"width": 16, "first_width": 8, "layers": 1, "feed_forward": 32}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (DNASE.exists() and PILOT.exists()), reason="shared data not here"),
]


def planned(name: str) -> runs.Plan:
    path = f"config/examples/{name}.yaml"
    return runs.build(yaml.safe_load((ROOT / path).read_text()), ROOT, path)


def snakemake(folder: Path, name: str, *args: str) -> subprocess.CompletedProcess:
    """The example in its folder, with a short training."""
    less = folder / "less.yaml"
    less.write_text(yaml.safe_dump({"models": {"epiformer": SHORT}}))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    config = ["--configfile", f"config/examples/{name}.yaml", str(less)]
    return subprocess.run(
        [*command, "--directory", str(folder), *config, "--cores", "1", *args],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=290,
    )


def made(folder: Path, name: str, *targets: str) -> Path:
    done = snakemake(folder, name, *targets)
    assert done.returncode == 0, done.stderr[-6000:]
    return folder


@pytest.fixture(scope="module")
def dnase(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dnase")
    return made(folder, "dnase", "results/tables/epiformer.tsv")


@pytest.fixture(scope="module")
def pilot(tmp_path_factory) -> Path:
    store = "results/store/hg19"
    wanted = [f"{store}/{file}.npy" for file in ("sequence/bases", "mask/128")]
    wanted += [f"{store}/conservation/phastcons.npy", f"{store}/targets128/E003-H3K4me3.npy"]
    return made(tmp_path_factory.mktemp("pilot_dna"), "pilot_dna", *wanted)


@pytest.fixture(scope="module")
def contigs() -> pd.DataFrame:
    return pd.read_csv(DNASE / "windows.tsv", sep="\t").set_index("contig")


def letters(path: Path) -> dict[str, np.ndarray]:
    """Codes of the bases of each sequence: A, C, G, T = 0..3, others 4."""
    code = np.full(256, 4, np.uint8)
    code[list(b"ACGTacgt")] = [0, 1, 2, 3] * 2
    with pysam.FastxFile(str(path)) as file:
        return {r.name: code[np.frombuffer(r.sequence.encode(), np.uint8)] for r in file}


def windows_of(folder: Path, name: str, **changes) -> WindowTable:
    """The examples of the example's own settings over what the fixture has made."""
    plan = planned(name)
    settings = plan.runs["epiformer", "fold1"] | changes
    found = runs.example_files(plan, settings)
    paths = {key: value for key, value in found.items() if isinstance(value, str)}
    return WindowTable.read(settings, {key: folder / path for key, path in paths.items()})


def test_the_dnase_example_keeps_the_split_the_tracks_and_the_regions_of_its_source(contigs):
    plan = planned("dnase")
    assert plan.assembly == "hg38" and not plan.tracks and "conservation" not in plan.inputs
    assert sorted(plan.config["chromosomes"]) == sorted(contigs.index)
    fold = plan.runs["epiformer", "fold1"]["fold"]
    for part, told in (("validation", "valid"), ("test", "test")):
        assert sorted(fold[part]) == sorted(contigs.index[contigs["source_split"] == told])
    with (DNASE / "targets.tsv").open() as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["assay"] == "DNASE"]
    assert list(plan.targets) == [row["identifier"] for row in rows]
    for target, row in zip(plan.targets.values(), rows, strict=True):
        assert Path(target.file).name == Path(row["bigwig"]).name
        values = {"sum_stat": "mean", "scale": 1, "clip_soft": None, "clip": float(row["clip"])}
        assert target.values == values  # scaled and softly clipped as they are
    genome = Genome("hg38", tuple(contigs.index), tuple(contigs["length"]))
    bed = read_bed(plan.files[plan.inputs["within"]].local, genome).set_index("chrom")
    told = contigs[["target_start_in_contig", "target_end_in_contig"]]
    assert (bed.loc[told.index, ["start", "end"]].to_numpy() == told.to_numpy()).all()


def test_the_pilot_example_tests_where_there_is_conservation():
    plan = planned("pilot_dna")
    assert plan.assembly == "hg19" and "conservation" in plan.inputs and len(plan.targets) == 10
    tested = {c for s in plan.sequence_runs.values() for c in s["fold"]["test"]}
    assert tested == {"chr5", "chr7"}  # phastCons has no other contig


def test_windows_lie_over_the_targets_and_no_test_contig_trains(dnase, contigs):
    whole = windows_of(dnase, "dnase", seq_bp=98_304, crop_bins=128, stride_bp=None).windows
    assert len(whole) == 65 and (whole["start"] == 16_384).all()
    table = windows_of(dnase, "dnase")
    shape = geometry_of(table.settings)
    first = table.windows["start"] + shape.crop_bp
    assert (first >= 32_768).all() and (first + shape.target_bp <= 98_304).all()
    parts = table.windows.groupby("chrom")["part"].unique()
    told = contigs["source_split"].replace("valid", "validation")
    assert {c: list(p) for c, p in parts.items()} == {c: [p] for c, p in told.items()}


def test_bases_of_windows_are_those_of_the_fasta(dnase, contigs):
    told = letters(DNASE / "genome.fa.gz")
    every = np.concatenate([told[contig] for contig in contigs.index])
    assert (every == 4).sum() == 1000
    gc = np.isin(every, (1, 2)).sum() / (every < 4).sum()
    assert gc == pytest.approx(0.415, abs=0.0005)
    table = windows_of(dnase, "dnase")
    length, rows = table.settings["seq_bp"], table.windows[["chrom", "start"]]
    found = table.reader.batch(*(rows[name].tolist() for name in rows))["bases"]
    wanted = [told[chrom][start : start + length] for chrom, start in rows.to_numpy()]
    assert (found == np.stack(wanted)).all()
    store = np.load(dnase / "results/store/hg38/sequence/bases.npy")
    genome = Genome.load(dnase / "results/store/hg38/manifest.json")
    assert (store == np.concatenate([told[chrom] for chrom in genome.chromosomes])).all()


def test_bins_of_targets_are_means_of_the_bigwig_and_missing_beside_it(dnase, contigs):
    store = dnase / "results/store/hg38/targets128"
    genome = Genome.load(dnase / "results/store/hg38/manifest.json")
    with (DNASE / "targets.tsv").open() as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["assay"] == "DNASE"]
    for row in rows:
        found = np.load(store / f"{row['identifier']}.npy").reshape(65, 1024)
        with pyBigWig.open(str(DNASE / row["bigwig"])) as file:
            told = [file.values(c, 0, 131_072, numpy=True) for c in genome.chromosomes]
        means = np.stack(told).reshape(65, 1024, 128).mean(axis=2)
        assert np.isnan(found[:, :256]).all() and np.isnan(found[:, 768:]).all()
        np.testing.assert_allclose(found[:, 256:768], means[:, 256:768], rtol=1e-3, atol=1e-4)


def test_a_short_training_ends_with_metrics_of_the_test_contigs(dnase):
    table = pd.read_csv(dnase / "results/tables/epiformer.tsv", sep="\t")
    test = table[(table["part"] == "test") & (table["track"] != "across")]
    assert (test["n"] == 10 * 512).all() and test["track"].nunique() == 10
    mean = test.groupby("predictor")["r"].mean()
    baselines = {"mean", "profile", "gc", "kmer_ridge", "other_cells"}
    assert set(mean.index) == {"epiformer", *baselines}
    assert np.isfinite(mean["epiformer"]) and abs(mean["profile"]) < 0.05
    assert 0.15 < mean["gc"] < mean["kmer_ridge"] < mean["other_cells"]
    predicted = np.load(dnase / "results/epiformer/fold1/predictions.npy").reshape(10, 20, 1024)
    known = np.isfinite(predicted).all(axis=(0, 1))
    assert np.flatnonzero(known).tolist() == list(range(256, 768))


def test_the_pilot_has_its_bases_conservation_and_signal(pilot):
    genome = Genome.load(pilot / "results/store/hg19/manifest.json")
    assert genome.chromosomes == ("chr5", "chr6", "chr7", "chr22")
    shape = Geometry(98_304, 128, 64)
    store = pilot / "results/store/hg19"
    reader = WindowReader.stored(store, ["E003-H3K4me3"], "phastcons", shape)
    told, starts = letters(PILOT / "genome.fa.gz"), [128 * 640, 0, 128 * 5000, 128 * 1000]
    found = reader.batch(genome.chromosomes, starts)
    with (
        pyBigWig.open(str(PILOT / "conservation/phastCons16way.recomputed.bw")) as scores,
        pyBigWig.open(str(PILOT / "signal/E003-H3K4me3.pval.signal.bigwig")) as signal,
    ):
        for k, (chrom, start) in enumerate(zip(genome.chromosomes, starts, strict=True)):
            end = start + 98_304
            assert (found["bases"][k] == told[chrom][start:end]).all()
            phastcons = found["conservation"][k] / 255
            if chrom in ("chr5", "chr7"):
                values = np.nan_to_num(scores.values(chrom, start, end, numpy=True))
                np.testing.assert_allclose(phastcons, values, atol=0.002)
                assert phastcons.mean() > 0.05
            else:
                assert (phastcons == 0).all()
            bins = (
                signal.values(chrom, start, end, numpy=True).reshape(-1, 128).mean(axis=1)[64:-64]
            )
            soft = np.where(bins > 16, 15 + np.sqrt(np.maximum(bins - 15, 0)), bins)
            np.testing.assert_allclose(found["target"][k, 0], soft, rtol=1e-3, atol=1e-3)


def test_nothing_is_left_to_be_done_afterwards(dnase):
    done = snakemake(dnase, "dnase", "-n", "results/tables/epiformer.tsv")
    assert "Nothing to be done" in done.stdout + done.stderr
