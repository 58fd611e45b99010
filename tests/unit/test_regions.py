"""Means of a track over regions of different lengths agree with its values base by base."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyBigWig
import pytest

from epiloom.data.genome import Genome
from epiloom.data.partners import (
    read_regions,
    region_table,
)
from epiloom.data.ragged import Ragged
from epiloom.data.reads import Reads
from epiloom.data.regions import region_features, region_means
from epiloom.plan.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
GENOME = Genome("tiny", ("chr1", "chr2"), (200_000, 90_050))
SIZES = list(zip(GENOME.chromosomes, GENOME.lengths, strict=True))


def reads(starts: dict[str, list[int]], genome: Genome = GENOME, length: int = 36) -> Reads:
    counts = [len(starts.get(c, [])) for c in genome.chromosomes]
    about = {
        "chromosomes": list(genome.chromosomes),
        "lengths": list(genome.lengths),
        "offsets": [0, *np.cumsum(counts).tolist()],
    }
    first = np.array([s for c in genome.chromosomes for s in sorted(starts.get(c, []))], np.uint32)
    return Reads(about, first, first + np.uint32(length), "reads")


def slow_means(depth: dict[str, np.ndarray], regions: pd.DataFrame, bin_bp: int) -> np.ndarray:
    out = []
    for row in regions.itertuples():
        for low in range(row.start, row.end, bin_bp):
            part = depth[row.chrom][low : min(low + bin_bp, row.end)]
            known = part[~np.isnan(part)]
            out.append(known.mean() if 2 * len(known) >= len(part) and len(known) else np.nan)
    return np.array(out)


@pytest.fixture(scope="module")
def regions():
    rng = np.random.default_rng(1)
    rows = [("chr1", 0, 40_000), ("chr1", 150_000, 150_001), ("chr2", 90_001, 90_050)]
    rows += [("chr1", 199_900, 200_000), ("chr1", 100, 200), ("chr1", 40_000, 40_101)]
    for start, length in rng.integers([0, 1], [80_000, 9_000], (40, 2)):
        rows.append((str(rng.choice(["chr1", "chr2"])), int(start), int(start + length)))
    return region_table(pd.DataFrame(rows, columns=["chrom", "start", "end"]), GENOME)


def test_regions_are_unique_sorted_and_their_bins_counted(regions):
    keys = [(GENOME.index(r.chrom), r.start, r.end) for r in regions.itertuples()]
    assert keys == sorted(set(keys))
    counts = [-(-(r.end - r.start) // 100) for r in regions.itertuples()]
    assert regions["first_bin"].tolist() == [sum(counts[:i]) for i in range(len(counts))]


def test_a_damaged_table_of_regions_is_refused(tmp_path, regions):
    for change in ({"end": regions["end"] + 200_000}, {"first_bin": 0}, {"more": 1}):
        regions.assign(**change).to_csv(tmp_path / "r.tsv", sep="\t", index=False)
        with pytest.raises(InputError, match="make"):
            read_regions(tmp_path / "r.tsv", GENOME)


def test_means_of_reads_agree_with_the_depth_base_by_base(regions, monkeypatch):
    rng = np.random.default_rng(2)
    starts = {c: rng.integers(0, n - 36, n // 50).tolist() for c, n in SIZES}
    depth = {c: np.zeros(n) for c, n in SIZES}
    for chrom, places in starts.items():
        for place in places:
            depth[chrom][place : place + 36] += 1
    truth = slow_means(depth, regions, 100)
    for most in (1_000_000, 50):
        monkeypatch.setattr("epiloom.data.regions.EDGES", most)
        found = region_features(reads(starts), regions, GENOME)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, truth, rtol=1e-6)
    mixed = regions.sample(frac=1, random_state=3)
    columns = [mixed[c] for c in ("chrom", "start", "end")]
    np.testing.assert_allclose(
        region_means(reads(starts), *columns, 500), slow_means(depth, mixed, 500), rtol=1e-6
    )


def test_means_of_a_bigwig_agree_with_its_values_base_by_base(tmp_path, regions, monkeypatch):
    rng = np.random.default_rng(4)
    path, values = tmp_path / "t.bw", {}
    with pyBigWig.open(str(path), "w") as file:
        file.addHeader(SIZES)
        for chrom, length in SIZES:
            edges = np.unique(np.r_[0, rng.integers(0, length, length // 40), length])
            level = rng.gamma(1, 3, len(edges) - 1).astype(np.float32)
            keep = rng.random(len(level)) < 0.7
            steps = edges[:-1][keep], edges[1:][keep]
            file.addEntries(
                [chrom] * int(keep.sum()),
                steps[0].tolist(),
                ends=steps[1].tolist(),
                values=level[keep].tolist(),
            )
            values[chrom] = np.repeat(np.where(keep, level, np.nan), np.diff(edges))
    truth = slow_means(values, regions, 100)
    assert 0.01 < np.isnan(truth).mean() < 0.5
    for gap, run in ((20_000, 1_000_000), (0, 10_000), (0, 1)):
        monkeypatch.setattr("epiloom.data.regions.GAP_BP", gap)
        monkeypatch.setattr("epiloom.data.regions.RUN_BP", run)
        np.testing.assert_allclose(region_features(path, regions, GENOME), truth, rtol=1e-5)
    zero = {c: np.nan_to_num(v) for c, v in values.items()}
    found = region_features(path, regions, GENOME, "zero")
    np.testing.assert_allclose(found, slow_means(zero, regions, 100), rtol=1e-5)


@pytest.mark.parametrize("bin_bp", [500, 2000])
def test_coarse_means_made_of_fine_ones_are_those_of_the_bases(regions, bin_bp):
    rng = np.random.default_rng(5)
    depth = {c: rng.poisson(3, n) * 1.0 for c, n in SIZES}
    lengths = (regions["end"] - regions["start"]).to_numpy()
    fine = Ragged(lengths, slow_means(depth, regions, 100).astype(np.float32))
    coarse = fine.coarsen(bin_bp)
    np.testing.assert_allclose(coarse.values, slow_means(depth, regions, bin_bp), rtol=1e-6)


def test_without_regions_there_are_no_bins(regions):
    found = region_features(reads({}), regions.iloc[:0], GENOME)
    assert found.dtype == np.float32 and found.shape == (0,)
