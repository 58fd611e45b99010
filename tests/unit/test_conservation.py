"""Conservation: 255 times the score, base by base; what is uncovered is counted."""

from __future__ import annotations

import numpy as np
import pytest

from epiloom.data.conservation import (
    BigWigConservation,
    stored_conservation,
    write_conservation,
)
from epiloom.data.genome import Genome, read_chrom_sizes
from epiloom.plan.errors import InputError
from tests.made_genome import GENOME, random_bases, write_bigwig


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder with x.bw and a store; and the scores per base."""
    folder = tmp_path_factory.mktemp("conservation")
    scores = random_bases(np.random.default_rng(1), top=1.0)
    write_bigwig(folder / "x.bw", scores)
    about = write_conservation(folder, "phast", folder / "x.bw", GENOME)
    return folder, scores, about


def slow(values):
    return [0 if np.isnan(v) else int(255 * float(v) + 0.5) for v in values]


def test_stored_and_streamed_conservation_equal_the_scores(made):
    folder, scores, about = made
    vector = np.load(folder / "conservation/phast.npy")
    assert vector.tolist() == sum((slow(scores[c]) for c in GENOME.chromosomes), [])
    there = {c: np.mean(~np.isnan(scores[c])) for c in GENOME.chromosomes}
    assert about["covered_by_chromosome"] == pytest.approx(there)
    joined = np.concatenate(list(scores.values()))
    assert about["covered"] == pytest.approx(np.mean(~np.isnan(joined))) and about["covered"] < 1
    assert about["mean"] == pytest.approx(np.nanmean(joined.astype(float)))
    stored = stored_conservation(folder, "phast", GENOME)
    streamed = BigWigConservation(folder / "x.bw", GENOME)
    chroms = ["chr1", "chr2", "chr3", "chr1", "chr2"]
    starts = [-500, 99_000, 200_000, 499_900, 700_000]
    found = stored.windows(chroms, starts, 2000)
    np.testing.assert_array_equal(found, streamed.windows(chroms, starts, 2000))
    assert found[0, :500].max() == 0 and found[0, 500:].tolist() == slow(scores["chr1"][:1500])
    assert found[4].max() == 0
    streamed.close()


@pytest.mark.parametrize("value", [-0.2, 1.01, 30.0])
def test_scores_outside_0_to_1_are_refused(tmp_path, value):
    genome = Genome("t", ("chr1",), (900,))
    bases = {"chr1": np.full(900, 0.5, np.float32)}
    bases["chr1"][700:720] = value
    write_bigwig(tmp_path / "x.bw", bases, genome)
    with pytest.raises(InputError, match="20 values outside 0..1 .* at 700; give phastCons"):
        write_conservation(tmp_path, "x", tmp_path / "x.bw", genome)
    assert not (tmp_path / "conservation/x.npy").exists()
    with pytest.raises(InputError, match="outside 0..1"):
        BigWigConservation(tmp_path / "x.bw", genome).window("chr1", 650, 100)


def test_another_assembly_and_absent_conservation_are_refused(made):
    folder, _, _ = made
    with pytest.raises(InputError, match="chr1 has 500123 bases in the file"):
        write_conservation(folder, "y", folder / "x.bw", Genome("t", ("chr1",), (500_000,)))
    with pytest.raises(InputError, match="not in the store"):
        stored_conservation(folder, "y", GENOME)


def test_real_exons_are_more_conserved_than_the_rest(shared, tmp_path):
    real = shared / "data/hg19_pilot_mini"
    genome = read_chrom_sizes(real / "chrom.sizes", "hg19", ["chr5", "chr6", "chr7", "chr22"])
    source = real / "conservation/phastCons16way.recomputed.bw"
    about = write_conservation(tmp_path, "phast16", source, genome)
    shares = about["covered_by_chromosome"]
    assert round(shares["chr5"], 3) == 0.999 and round(shares["chr7"], 3) == 0.991
    assert shares["chr6"] == shares["chr22"] == 0
    stored = stored_conservation(tmp_path, "phast16", genome)
    for chrom, inside, outside in (("chr5", 0.47, 0.12), ("chr7", 0.55, 0.11)):
        exon = np.zeros(genome.length(chrom), bool)
        for line in (real / "annotation/refseq.exons.bed").open():
            name, start, end = line.split()[:3]
            if name == chrom:
                exon[int(start) : int(end)] = True
        scores = stored.window(chrom, 0, len(exon)) / 255
        assert scores[exon].mean() == pytest.approx(inside, abs=0.01)
        assert scores[~exon].mean() == pytest.approx(outside, abs=0.01)
