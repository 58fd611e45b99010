"""The gene score against its definition, base by base, on both strands and at chromosome ends."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from epiloom.data.genome import Genome
from epiloom.data.store import GenomeStore
from epiloom.plan.errors import InputError
from epiloom.studies import gene_score
from tests.made_activity import GENOME, TRACK, made_genes, write_store


def slow_score(depth: dict[str, np.ndarray], genes: pd.DataFrame, k: int, unbounded: bool) -> float:
    """The definition, base by base and tile by tile."""

    def body(row):
        if row.strand == "+":
            return row.gene_start - 5000, row.gene_end
        return row.gene_start, row.gene_end + 5000

    gene = genes.iloc[k]
    start, end = body(gene)
    bases = depth[gene.chrom]
    total = inside = known = 0.0
    for tile in range(0, len(bases), 500):
        if not gene.tss - 100_000 <= tile + 250 < gene.tss + 100_000:
            continue
        gap = max(start - (tile + 500), tile - end, 0)
        weight = math.exp(-gap / 5000) + math.exp(-1)
        inside += weight
        part = bases[tile : tile + 500]
        there = part[~np.isnan(part)]
        if len(there) >= len(part) / 2:
            total += weight * math.log(1 + there.mean())
            known += weight
    sum_of_tiles = total * inside / known
    if unbounded:
        return sum_of_tiles * 5 / ((gene.gene_end - gene.gene_start) / 1000)
    inverse = [1 / (b - a) for a, b in map(body, genes.itertuples())]
    share = (inverse[k] - min(inverse)) / (max(inverse) - min(inverse))
    return sum_of_tiles * (1 + 4 * share)


@pytest.fixture(scope="module")
def track(tmp_path_factory):
    """A folder with a bigWig and its store, and the values per base."""
    folder = tmp_path_factory.mktemp("score")
    return folder, write_store(folder)


def test_gene_scores_follow_the_definition_on_both_strands_and_at_the_ends(track):
    folder, depth = track
    genes = made_genes(24)
    assert set(genes["strand"]) == {"+", "-"}
    tiles = gene_score.stored_tiles(GenomeStore(folder), TRACK, 100, "nan", 0.5)
    found = gene_score.gene_scores(tiles, genes, GENOME, np.log1p)
    for column, unbounded in zip(gene_score.SCORES, (False, True), strict=True):
        expected = [slow_score(depth, genes, k, unbounded) for k in range(len(genes))]
        np.testing.assert_allclose(found[column], expected, rtol=1e-5)


def test_tiles_of_the_store_are_those_of_the_track_itself(track):
    folder, _ = track
    stored = gene_score.stored_tiles(GenomeStore(folder), TRACK, 100, "nan", 0.5)
    direct = gene_score.signal_tiles(str(folder / "track.bw"), GENOME, "nan", 0.5)
    assert stored.shape == direct.shape == (GENOME.total(500),)
    np.testing.assert_array_equal(np.isnan(stored), np.isnan(direct))
    np.testing.assert_allclose(stored, direct, rtol=1e-3)  # the direct ones are rounded to float16
    with pytest.raises(InputError, match="128 does not divide 500"):
        gene_score.stored_tiles(GenomeStore(folder), TRACK, 128, "nan", 0.5)


def test_a_spike_counts_upstream_of_a_gene_as_on_its_body_on_either_strand():
    genome = Genome("hg19", ("chr1",), (400_000,))
    common = {"chrom": "chr1", "gene_start": 200_000, "gene_end": 210_000}
    both = [{"strand": "+", "tss": 200_000}, {"strand": "-", "tss": 209_999}]
    genes = pd.DataFrame([common | one for one in both])
    upstream, downstream = 196_000 // 500, 213_000 // 500
    on_body, past_end = 1 + math.exp(-1), math.exp(-3000 / 5000) + math.exp(-1)
    past_start = math.exp(-3500 / 5000) + math.exp(-1)
    for tile, expected in ((upstream, [on_body, past_start]), (downstream, [past_end, on_body])):
        tiles = np.zeros(genome.total(500), np.float32)
        tiles[tile] = 1
        found = gene_score.gene_scores(tiles, genes, genome, np.array)["gene_score"]
        np.testing.assert_allclose(found, expected)


def test_the_window_reaches_100_kb_and_no_further():
    genome = Genome("hg19", ("chr1",), (400_000,))
    genes = pd.DataFrame(
        [
            {
                "chrom": "chr1",
                "tss": 200_000,
                "strand": "+",
                "gene_start": 200_000,
                "gene_end": 201_000,
            }
        ]
    )
    counted = []
    for tile in range(genome.total(500)):
        tiles = np.zeros(genome.total(500), np.float32)
        tiles[tile] = 1
        if gene_score.gene_scores(tiles, genes, genome, np.array)["gene_score"][0] > 0:
            counted.append(tile * 500)
    assert (counted[0], counted[-1] + 500, len(counted)) == (100_000, 300_000, 400)


def test_length_weights_run_from_one_to_five():
    genes = made_genes()
    bounded = gene_score.length_weights(genes)["gene_score"]
    length = genes["gene_end"] - genes["gene_start"]
    assert (bounded.min(), bounded.max()) == (1.0, 5.0)
    assert (bounded.argmax(), bounded.argmin()) == (length.argmin(), length.argmax())
    assert gene_score.length_weights(genes.iloc[:1])["gene_score"] == [1.0]


def test_genes_without_a_body_have_no_score_and_leave_those_of_others_alone():
    genome = Genome("hg19", ("chr1",), (400_000,))
    genes = pd.DataFrame(
        {
            "chrom": "chr1",
            "tss": [150_000, 200_000, 250_000],
            "strand": "+",
            "gene_start": [150_000, np.nan, 250_000],
            "gene_end": [160_000, np.nan, 253_000],
        }
    )
    tiles = np.ones(genome.total(500), np.float32)
    found = gene_score.gene_scores(tiles, genes, genome, np.array)
    assert found.isna().to_numpy().tolist() == [[False] * 2, [True] * 2, [False] * 2]
    whole = gene_score.gene_scores(tiles, genes.iloc[[0, 2]], genome, np.array)
    np.testing.assert_array_equal(found.iloc[[0, 2]], whole)
    assert gene_score.gene_scores(tiles, genes.iloc[1:2], genome, np.array).isna().all(axis=None)
