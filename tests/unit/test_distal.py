"""Examples with partners: against single genes done by hand, and the published features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from epiloom.data.genes import promoter_features
from epiloom.data.genome import read_chrom_sizes
from epiloom.data.partners import region_table
from epiloom.data.regions import region_features
from epiloom.learn.distal import SIZES, PartnerTable
from epiloom.plan.errors import InputError
from tests.models.small import settings as small

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
MARKS = ["H3K4me1", "H3K4me3", "H3K9me3", "H3K27me3", "H3K36me3", "H3K27ac", "H3K9ac"]
GENES = 24


def settings(**changes) -> dict:
    return small(**{"window_bp": 40_000, "marks": ["A", "B"], **changes})


def write(folder: Path) -> dict:
    """Genes on three chromosomes (train chr3, validation chr1, test chr2), 0 to 3 partners."""
    rng = np.random.default_rng(5)
    chroms = np.repeat(["chr1", "chr2", "chr3"], GENES // 3)
    ids = [f"g{k:02d}" for k in range(GENES)]
    pd.DataFrame({"gene_id": ids, "chrom": chroms}).to_csv(folder / "genes.tsv", sep="\t")
    rpkm = pd.DataFrame({"gene_id": ids, "E116": rng.exponential(5, GENES)})
    rpkm.to_csv(folder / "expression.tsv", sep="\t", index=False)
    starts = np.arange(30) * 50_000
    lengths = rng.integers(300, 40_001, 30)
    places = pd.DataFrame({"chrom": "chr9", "start": starts, "end": starts + lengths})
    bins = -(-lengths // 100)
    places["first_bin"] = np.cumsum(bins) - bins
    places.to_csv(folder / "regions.tsv", sep="\t", index=False)
    rows = []
    for k, gene in enumerate(ids):
        chosen = rng.choice(30, k % 4, replace=False)
        for rank, (region, score) in enumerate(
            zip(chosen, np.sort(rng.uniform(1.5, 9, k % 4))[::-1], strict=True), 1
        ):
            rows.append((gene, rank, *places.loc[region, ["chrom", "start", "end"]], score))
    names = ["gene_id", "rank", "chrom", "start", "end", "score"]
    pd.DataFrame(rows, columns=names).to_csv(folder / "partners.tsv", sep="\t", index=False)
    files = {key: folder / f"{key}.tsv" for key in ("genes", "expression", "partners", "regions")}
    files |= {"features": [], "partner_bins": []}
    for mark in "AB":
        for key, shape in (("features", (GENES, 400)), ("partner_bins", (bins.sum(),))):
            np.save(folder / f"{key}{mark}.npy", rng.poisson(2, shape).astype(np.float32))
            files[key].append(folder / f"{key}{mark}.npy")
    return files


@pytest.fixture
def files(tmp_path):
    return write(tmp_path)


def test_a_batch_is_what_one_gets_gene_by_gene(files):
    found = PartnerTable.read(settings(), files).examples("test")
    indices = np.array([5, 0, 3])
    batch = found.batch(indices)
    partners = pd.read_csv(files["partners"], sep="\t")
    regions = pd.read_csv(files["regions"], sep="\t")
    raw = [np.load(path) for path in files["features"]]
    bins = [np.load(path) for path in files["partner_bins"]]
    for row, name in enumerate(found.names(indices)):
        number = int(name[1:])
        own = partners[partners["gene_id"] == name].sort_values("rank")
        assert batch["scores"][row, : len(own)].tolist() == pytest.approx(own["score"].tolist())
        assert (batch["lengths"][row] > 0).sum() == len(own)
        for size in SIZES:
            for m in range(2):
                slow = [np.log1p(part.mean()) for part in np.split(raw[m][number], 40_000 // size)]
                np.testing.assert_allclose(batch[f"promoter_{size}"][row, :, m], slow, rtol=1e-5)
            for slot, (_, place) in enumerate(own.iterrows()):
                region = regions[regions["start"] == place["start"]].iloc[0]
                length = region["end"] - region["start"]
                assert batch["lengths"][row, slot] == length
                low = region["first_bin"]
                values = bins[1][low : low + -(-length // 100)]
                slow = _coarse(values, length, size)
                left = -(-(40_000 // size - len(slow)) // 2)
                got = batch[f"partners_{size}"][row, slot, :, 1]
                np.testing.assert_allclose(got[left : left + len(slow)], slow, rtol=1e-5)
                assert got.sum() == pytest.approx(sum(slow), rel=1e-4)


def _coarse(values: np.ndarray, length: int, size: int) -> list[float]:
    """ln(1 + mean depth) of a region's bins, base by base."""
    bases = np.repeat(values.astype(np.float64), 100)[:length]
    return [np.log1p(bases[k : k + size].mean()) for k in range(0, length, size)]


def test_genes_without_any_partner_table_stand_alone(files):
    alone = {k: v for k, v in files.items() if k not in ("partners", "regions", "partner_bins")}
    batch = PartnerTable.read(settings(), alone).examples("train").batch(np.arange(3))
    assert not batch["lengths"].any() and batch["partners_100"].shape == (3, 8, 400, 2)


def test_labels_split_at_the_median_of_the_training_genes(files):
    table = PartnerTable.read(settings(objective="classification"), files)
    train, test = table.examples("train"), table.examples("test")
    assert train.truth.sum() == len(train) // 2
    cut = np.median(train.expression)
    assert test.truth.tolist() == [int(x >= cut) for x in test.expression]
    assert test.batch(np.array([1]))["label"].tolist() == [test.truth[1]]


def test_files_that_do_not_belong_together_are_refused(files, tmp_path):
    np.save(tmp_path / "partner_binsA.npy", np.zeros(7, np.float32))
    with pytest.raises(InputError, match="belongs to another table of regions"):
        PartnerTable.read(settings(), files)
    with pytest.raises(InputError, match="'ranking' is unknown"):
        PartnerTable.read(settings(objective="ranking"), files)


@pytest.mark.skipif(not DATA.exists(), reason="shared data not here")
def test_the_published_features_of_100_genes(tmp_path):
    """All 680 rows of the golden table, from the bigWigs and the gene table alone."""
    e003 = DATA / "roadmap_e003"
    genes = pd.read_csv(e003 / "genes.tsv", sep="\t", dtype={"scores": str})
    genes["tss"] = genes["tss_start"]
    genome = read_chrom_sizes(DATA / "reference" / "hg19.chrom.sizes", "hg19")
    rows = [
        (g.gene_id, rank, *_place(region), float(score))
        for g in genes.itertuples()
        if isinstance(g.neighbors, str)
        for rank, (region, score) in enumerate(
            zip(g.neighbors.split(";"), g.scores.split(";"), strict=True), 1
        )
    ]
    names = ["gene_id", "rank", "chrom", "start", "end", "score"]
    partners = pd.DataFrame(rows, columns=names)
    regions = region_table(partners, genome)
    files = {key: tmp_path / f"{key}.tsv" for key in ("genes", "expression", "partners", "regions")}
    genes.to_csv(files["genes"], sep="\t", index=False)
    rpkm = genes[["gene_id", "rpkm"]].rename(columns={"rpkm": "E003"})
    rpkm.to_csv(files["expression"], sep="\t", index=False)
    partners.to_csv(files["partners"], sep="\t", index=False)
    regions.to_csv(files["regions"], sep="\t", index=False)
    files |= {"features": [], "partner_bins": []}
    for mark in MARKS:
        track = e003 / f"E003-{mark}.depth.bw"
        for key, values in (
            ("features", promoter_features(track, genes, genome)),
            ("partner_bins", region_features(track, regions, genome)),
        ):
            np.save(tmp_path / f"{key}.{mark}.npy", values)
            files[key].append(tmp_path / f"{key}.{mark}.npy")
    fold = {"name": "f", "validation": ["chr14"], "test": ["chr1"]}
    table = PartnerTable.read(settings(cell="E003", marks=MARKS, fold=fold), files)
    examples = table.genes(np.arange(100))
    golden = pd.read_csv(e003 / "golden_region_bins.tsv", sep="\t").set_index(["gene_id", "slot"])
    batch = examples.batch(np.arange(100))
    seen = 0
    for k, name in enumerate(examples.gene_ids):
        for slot in range(1 + int((batch["lengths"][k] > 0).sum())):
            expected = golden.loc[name, slot]
            for size in SIZES:
                if slot == 0:
                    got = batch[f"promoter_{size}"][k]
                else:
                    got = batch[f"partners_{size}"][k, slot - 1]
                    assert -(-batch["lengths"][k, slot - 1] // size) == expected[f"n_bins_{size}"]
                    first = np.flatnonzero(got.any(axis=1))
                    assert len(first) == 0 or first[0] >= expected[f"left_pad_{size}"]
                sums = [expected[f"{mark}_sum_{size}"] for mark in MARKS]
                np.testing.assert_allclose(got.sum(axis=0, dtype=np.float64), sums, atol=1e-4)
            seen += 1
    assert seen == 680


def _place(region: str) -> tuple[str, int, int]:
    chrom, span = region.split(":")
    return chrom, *map(int, span.split("-"))
