"""Chromosomes, offsets, the refusal of tracks that do not fit, and masked bins."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epiloom.data import genome as g
from epiloom.plan.errors import InputError

SHARED = Path(__file__).resolve().parents[3] / "shared"
TINY = g.Genome("tiny", ("chr1", "chr2", "chrX"), (1005, 300, 99))


@given(
    lengths=st.lists(st.integers(1, 5000), min_size=1, max_size=6),
    bin_bp=st.integers(1, 6000),
)
def test_offsets_count_every_bin_of_every_chromosome(lengths, bin_bp):
    genome = g.Genome("any", tuple(f"c{i}" for i in range(len(lengths))), tuple(lengths))
    bins = [len(range(0, n, bin_bp)) for n in lengths]
    assert genome.bins(bin_bp).tolist() == bins
    assert genome.offsets(bin_bp).tolist() == [sum(bins[:i]) for i in range(len(bins) + 1)]
    assert genome.total(bin_bp) == sum(bins)


def test_a_manifest_comes_back_as_it_was(tmp_path):
    TINY.save(tmp_path / "deep" / "manifest.json", bins=(25, 100))
    assert g.Genome.load(tmp_path / "deep" / "manifest.json") == TINY
    manifest = json.loads((tmp_path / "deep" / "manifest.json").read_text())
    assert manifest["offsets"]["100"] == [0, 11, 14, 15]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 9}, "schema 9"),
        ({"lengths": [1005, 300]}, "3 chromosomes but 2 lengths"),
        ({"lengths": [2005, 300, 99]}, "offsets"),
        ({"offsets": None}, "not a genome manifest"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(tmp_path, change, said):
    path = tmp_path / "manifest.json"
    TINY.save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=said):
        g.Genome.load(path)


def test_a_missing_or_broken_manifest_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        g.Genome.load(tmp_path / "manifest.json")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="not a genome manifest"):
        g.Genome.load(tmp_path / "manifest.json")


def test_chrom_sizes_keep_the_usual_chromosomes_in_their_natural_order(tmp_path):
    path = tmp_path / "chrom.sizes"
    path.write_text("chr10\t50\nchr2\t70\nchrX\t20\nchr1_random\t5\nchrM\t16\nchr1\t90\n")
    genome = g.read_chrom_sizes(path, "toy")
    assert genome.chromosomes == ("chr1", "chr2", "chr10", "chrX")
    assert genome.lengths == (90, 70, 50, 20)
    assert g.read_chrom_sizes(path, "toy", ["chrM", "chr2"]).lengths == (16, 70)
    (tmp_path / "s.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert g.read_chrom_sizes(tmp_path / "s.gz", "toy") == genome


def test_every_faulty_line_of_chrom_sizes_is_reported_at_once(tmp_path):
    path = tmp_path / "chrom.sizes"
    path.write_text("chr1\t90\nchr2\nchr3\tlong\nchr1\t91\nchr4\t0\n")
    with pytest.raises(InputError) as err:
        g.read_chrom_sizes(path, "toy", ["chr1", "chr9"])
    said = str(err.value)
    assert all(f"line {n}" in said for n in (2, 3, 4, 5))
    assert "chr9" in said
    assert str(path) in said


def test_chrom_sizes_without_the_prefix_or_empty_say_so(tmp_path):
    path = tmp_path / "chrom.sizes"
    path.write_text("1\t90\n2\t80\n")
    with pytest.raises(InputError, match='lack the "chr"'):
        g.read_chrom_sizes(path, "toy")
    path.write_text("")
    with pytest.raises(InputError, match="empty"):
        g.read_chrom_sizes(path, "toy")
    with pytest.raises(InputError, match="no such file"):
        g.read_chrom_sizes(tmp_path / "none", "toy")


def test_lengths_of_another_assembly_are_recognised(tmp_path):
    path = tmp_path / "chrom.sizes"
    path.write_text("chr1\t248956422\n")
    with pytest.raises(InputError, match="length of hg38, but the assembly is hg19"):
        g.read_chrom_sizes(path, "hg19")


def test_a_track_of_another_assembly_is_refused_with_both_lengths_and_its_name():
    genome = g.Genome("hg19", ("chr1", "chr2"), (249250621, 243199373))
    with pytest.raises(InputError) as err:
        g.check_chromosomes({"chr1": 248956422, "chr2": 242193529}, "E003.bw", genome)
    said = str(err.value)
    assert "E003.bw" in said
    assert "looks like hg38" in said
    assert "248956422" in said
    assert "249250621" in said
    assert "chr2" in said  # both problems, not the first


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"1": 1005, "2": 300}, 'lack the "chr"'),
        ({"seq1": 3}, "shares no chromosome"),
        ({}, "has none"),
        ({"chr1": 1005}, "chr2, chrX"),
    ],
)
def test_foreign_names_and_missing_chromosomes_are_refused(found, said):
    with pytest.raises(InputError, match=said):
        g.check_chromosomes(found, "track.bw", TINY)


def test_an_extra_prefix_is_recognised_and_chr_y_may_be_missing():
    with pytest.raises(InputError, match='extra "chr"'):
        g.check_chromosomes({"chr1": 1005}, "f", g.Genome("e", ("1", "2"), (1005, 300)))
    with_y = g.Genome("t", ("chr1", "chrY"), (10, 5))
    g.check_chromosomes({"chr1": 10, "chrUn": 4}, "f", with_y)
    with pytest.raises(InputError, match="chrY"):
        g.check_chromosomes({"chr1": 10}, "f", with_y, allow_missing=())


@settings(max_examples=8, deadline=None)
@given(
    gaps=st.lists(st.tuples(st.integers(0, 1004), st.integers(1, 300)), min_size=1, max_size=6),
    bin_bp=st.sampled_from([1, 25, 100, 128, 2000]),
)
def test_a_bin_is_masked_when_any_of_its_bases_is(tmp_path_factory, gaps, bin_bp):
    folder = tmp_path_factory.mktemp("mask")
    regions = [("chr1", a, min(a + n, 1005)) for a, n in gaps] + [("chr2", 299, 300)]
    ucsc = "".join(f"585\t{c}\t{a}\t{b}\t1\tN\t{b - a}\tgap\tno\n" for c, a, b in regions)
    (folder / "gap.txt.gz").write_bytes(gzip.compress(ucsc.encode()))
    (folder / "black.bed").write_text("chr2\t0\t26\tHigh Signal\nchr2\t20\t30\tLow\nchr7\t0\t9\t\n")
    found = g.mask(TINY, bin_bp, folder / "gap.txt.gz", folder / "black.bed")
    base = {c: np.zeros(n, np.uint8) for c, n in zip(TINY.chromosomes, TINY.lengths, strict=True)}
    for chrom, a, b in regions:
        base[chrom][a:b] |= 1
    base["chr2"][0:30] |= 2
    expected = [
        np.bitwise_or.reduce(v[k : k + bin_bp])
        for v in base.values()
        for k in range(0, len(v), bin_bp)
    ]
    assert found.dtype == np.uint8
    assert found.tolist() == [int(x) for x in expected]


def test_regions_that_do_not_fit_the_genome_are_refused(tmp_path):
    path = tmp_path / "x.bed"
    path.write_text("chr1\t1000\t1006\nchr1\tfive\t6\n")
    with pytest.raises(InputError) as err:
        g.mask(TINY, 25, None, path)
    assert "beyond the end of chr1" in str(err.value)
    assert "line 2" in str(err.value)
    path.write_text("1\t10\t20\n")
    with pytest.raises(InputError, match='lack the "chr"'):
        g.mask(TINY, 25, None, path)
    path.write_text("")
    assert g.mask(TINY, 25, None, path).sum() == 0


@pytest.mark.skipif(not SHARED.exists(), reason="shared data not here")
def test_the_published_blacklist_fits_its_assembly_and_no_other():
    reference = SHARED / "data" / "reference"
    hg19 = g.read_chrom_sizes(reference / "hg19.chrom.sizes", "hg19")
    assert len(hg19.chromosomes) == 24
    flags = g.mask(hg19, 100, None, reference / "hg19-blacklist.v2.bed.gz")
    # 834 regions, 274.97 Mb; whole bins are a little more.
    assert 274.9e6 < (flags == 2).sum() * 100 < 275.2e6
    with pytest.raises(InputError, match="beyond the end"):
        g.mask(hg19, 100, None, reference / "hg38-blacklist.v2.bed.gz")
