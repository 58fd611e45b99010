from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyBigWig
import pysam
import pytest

from epiloom.data.simulate import Plan, simulate
from epiloom.data.simulate.addresses import LOOPS, Addresses
from epiloom.data.simulate.motifs import NAMES, REPRESSORS, SPECIFIC, UBIQUITOUS
from epiloom.data.simulate.tables import ucsc_bin
from epiloom.data.simulate.tracks import minus_log10_p
from epiloom.data.simulate.world import make_world
from epiloom.data.simulate.writers import digits, squeeze
from epiloom.plan.errors import InputError

SHARED = Path(__file__).resolve().parents[3] / "shared"
ROOT = Path(__file__).resolve().parents[2]
SMALL = {"chromosomes": 2, "length_bp": 300_000, "cells": ("E003", "E066", "E116")}
TINY = {
    **{"chromosomes": 2, "length_bp": 150_000, "cells": ("E003", "E116")},
    **{"assays": ("H3K4me3", "H3K27me3", "DNase"), "gene_spacing_bp": 9_000},
}
WRITE = "import sys; from epiloom.data.simulate import *; simulate(Plan({}), sys.argv[1])"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small simulated epigenome: (paths by key, folder, summary)."""
    out = tmp_path_factory.mktemp("simulated")
    plan = Plan(**SMALL)
    return Addresses(plan, out), out, simulate(plan, out)


def checksums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest() for path in files
    }


def text(path: Path) -> list[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt") as file:
        return file.read().splitlines()


def genome(paths: Addresses) -> dict[str, str]:
    parts, name = {}, ""
    for line in text(paths("genome_fasta")):
        if line.startswith(">"):
            name = line[1:]
            parts[name] = []
        else:
            parts[name].append(line)
    return {name: "".join(lines) for name, lines in parts.items()}


def sizes(paths: Addresses) -> dict[str, int]:
    rows = (line.split("\t") for line in text(paths("chrom_sizes")))
    return {name: int(length) for name, length in rows}


def gaps(paths: Addresses) -> pd.DataFrame:
    names = ["bin", "chrom", "start", "end", "ix", "n", "size", "type", "bridge"]
    return pd.read_csv(paths("gaps"), sep="\t", names=names)


def test_the_same_seed_gives_the_same_bytes_whatever_the_hash_seed(tmp_path):
    arguments = ", ".join(f"{key}={value!r}" for key, value in TINY.items())
    for hash_seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", WRITE.format(arguments), str(tmp_path / hash_seed)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            check=True,
        )
    first, second = checksums(tmp_path / "1"), checksums(tmp_path / "2")
    assert len(first) > 25
    assert first == second


def test_two_processes_write_the_same_bytes_as_one(tmp_path):
    plan = Plan(**TINY)
    one, two = (simulate(plan, tmp_path / str(n), processes=n) for n in (1, 2))
    assert one == two and one["reads"]
    assert checksums(tmp_path / "1") == checksums(tmp_path / "2")


def test_another_seed_gives_other_content(tmp_path):
    for seed in (1, 2):
        simulate(Plan(**TINY, seed=seed), tmp_path / str(seed))
    one, two = checksums(tmp_path / "1"), checksums(tmp_path / "2")
    differing = {name for name in one if one[name] != two.get(name)}
    same = {Path(name).name for name in set(one) - differing}
    assert same <= {"EID_metadata.tab", "hg19.chrom.sizes"}


def test_impossible_plans_are_refused_with_every_problem():
    with pytest.raises(InputError) as caught:
        Plan(chromosomes=40, length_bp=10, cells=("E999",), assays=("H3K4me3", "H9K9"))
    message = str(caught.value)
    for word in ("chromosomes = 40", "length_bp = 10", "E999", "H9K9"):
        assert word in message


def test_lengths_agree_between_sizes_fasta_and_bigwigs(made):
    paths, out, summary = made
    lengths = sizes(paths)
    assert len(set(lengths.values())) == len(lengths) == 2
    assert {name: len(bases) for name, bases in genome(paths).items()} == lengths
    assert summary["lengths"] == lengths
    bigwigs = [path for path in out.rglob("*") if path.suffix.lower() in (".bigwig", ".bw")]
    assert len(bigwigs) == 3 * 9 + 3 + 1 + 3
    for path in bigwigs:
        with pyBigWig.open(str(path)) as file:
            assert dict(file.chroms()) == lengths


def test_bigwigs_cover_everything_but_gaps(made):
    paths, _, _ = made
    table = gaps(paths)
    files = [paths("roadmap_pval", cell="E116", mark=mark) for mark in ("H3K4me3", "CTCF")]
    files += [paths("phastcons"), paths("replication_timing", cell_line="Gm12878")]
    bases = genome(paths)
    for path in files:
        with pyBigWig.open(str(path)) as file:
            for chrom, length in sizes(paths).items():
                values = file.values(chrom, 0, length, numpy=True)
                gap = np.zeros(length, bool)
                for row in table[table["chrom"] == chrom].itertuples():
                    gap[row.start : row.end] = True
                assert np.array_equal(np.isnan(values), gap)
                assert np.array_equal(np.frombuffer(bases[chrom].encode(), "S1") == b"N", gap)
                assert values[~gap].min() >= (0 if "pval" in path.name else -99)
    with pyBigWig.open(str(files[0])) as file:
        assert {entry[1] - entry[0] for entry in file.intervals("chr1", 150_000, 152_000)} == {25}


def test_tagaligns_are_sorted_36_bp_reads_within_bounds_outside_gaps(made):
    paths, _, summary = made
    lengths, table = sizes(paths), gaps(paths)
    names = ["chrom", "start", "end", "name", "score", "strand"]
    for cell in SMALL["cells"]:
        path = paths("roadmap_reads", cell=cell, mark="H3K4me3")
        reads = pd.read_csv(path, sep="\t", names=names, keep_default_na=False)
        assert len(reads) == summary["reads"][f"{cell}-H3K4me3"]
        assert set(reads["name"]) == {"N"} and set(reads["score"]) == {1000}
        assert set(reads["strand"]) == {"+", "-"}
        assert (reads["end"] - reads["start"] == 36).all()
        assert 0.6 < 36 * len(reads) / sum(lengths.values()) < 2.2
        for chrom, part in reads.groupby("chrom"):
            assert part["start"].is_monotonic_increasing
            assert part["start"].min() >= 0 and part["end"].max() <= lengths[chrom]
            for gap in table[table["chrom"] == chrom].itertuples():
                assert not ((part["start"] < gap.end) & (part["end"] > gap.start)).any()


def test_the_bam_file_holds_sorted_reads_with_the_bases_of_the_genome(made):
    paths, _, summary = made
    path = paths("encode_file", accession="ENCFF001SIM", extension="bam")
    bases = {name: seq.upper() for name, seq in genome(paths).items()}
    with pysam.AlignmentFile(str(path), check_sq=True) as file:
        assert dict(zip(file.references, file.lengths, strict=True)) == sizes(paths)
        last, count = (-1, -1), 0
        for read in file:
            place = (read.reference_id, read.reference_start)
            assert place >= last
            last, count = place, count + 1
            if count % 50 == 0:
                start = read.reference_start
                assert bases[read.reference_name][start : start + 36] == read.query_sequence
    assert count == summary["reads"]["E116-DNase"]


def test_expression_tables_look_like_the_published_ones(made):
    paths, _, summary = made
    lines = text(paths("roadmap_rpkm"))
    assert lines[0] == "gene_id\tE000\tE003\tE066\tE116"
    assert len(lines) == summary["counts"]["coding_genes"] + 1
    for line in lines[1:]:
        assert re.fullmatch(r"ENSG\d{11}(\t\d+\.\d{3}){4}\t", line)
    assert lines[1:] == sorted(lines[1:])
    for line in text(paths("roadmap_counts"))[1:]:
        assert re.fullmatch(r"ENSG\d{11}(\t\d+){4}\t", line)
    expressed = np.array([line.split("\t")[2:5] for line in lines[1:]], float) > 0.5
    assert 0.4 < expressed.mean() < 0.75
    factors = pd.read_csv(paths.truth("tf_expression.tsv"), sep="\t").dropna(subset="gene_id")
    listed = {line.split("\t")[0] for line in lines[1:]}
    assert len(factors) >= 8 and set(factors["gene_id"]) <= listed


@pytest.mark.skipif(not SHARED.exists(), reason="shared data not here")
def test_expression_tables_have_the_form_of_the_real_matrices(made):
    for key, name in (("roadmap_rpkm", "RPKM"), ("roadmap_counts", "N")):
        real = text(SHARED / f"data/roadmap_tables/57epigenomes.{name}.pc.gz")[:2]
        ours = text(made[0](key))[:2]
        for one, two in zip(real, ours, strict=True):
            assert one.endswith("\t") == two.endswith("\t")
        assert set(ours[0].split("\t")) <= set(real[0].split("\t"))
        assert ours[0].split("\t")[:2] == real[0].split("\t")[:2]


def test_the_annotation_has_genes_that_fit_their_chromosomes_and_the_truth(made):
    paths, _, summary = made
    lengths = sizes(paths)
    truth = pd.read_csv(paths.truth("genes.tsv"), sep="\t").set_index("gene_id")
    kinds, seen = set(), 0
    for line in text(paths("roadmap_genes")):
        if line.startswith("#"):
            continue
        fields = line.split("\t")
        assert len(fields) == 9 and fields[6] in "+-"
        assert 1 <= int(fields[3]) <= int(fields[4]) <= lengths[fields[0]]
        kinds.add(fields[2])
        told = dict(re.findall(r'(\w+) "([^"]*)";', fields[8]))
        gene = truth.loc[re.fullmatch(r"(ENSG\d{11})\.\d", told["gene_id"])[1]]
        assert told["gene_type"] == gene["gene_type"] and told["gene_name"] == gene["gene_name"]
        assert gene["gene_start"] < int(fields[3]) and int(fields[4]) <= gene["gene_end"]
        if fields[2] == "gene":
            seen += 1
            first = int(fields[3]) - 1 if fields[6] == "+" else int(fields[4]) - 1
            assert first == gene["tss"]
    assert kinds == {"gene", "transcript", "exon"} and seen == summary["counts"]["genes"]


def test_planted_sites_match_their_motif_in_the_fasta_on_the_stated_strand(made):
    paths, _, _ = made
    bases = {name: seq.upper() for name, seq in genome(paths).items()}
    motifs, rows = {}, []
    for line in text(paths("hocomoco_meme")):
        if line.startswith("MOTIF "):
            rows = motifs.setdefault(line.split()[1].split("_")[0], [])
        elif re.match(r"[\d.]+\t", line):
            rows.append([float(value) for value in line.split()])
    motifs = {name: np.array(rows) for name, rows in motifs.items()}
    assert all(np.allclose(pwm.sum(axis=1), 1, atol=1e-4) for pwm in motifs.values())
    annotation = pd.read_csv(paths("hocomoco_annotation"), sep="\t")
    assert list(annotation["Transcription factor"]) == list(motifs)
    sites = pd.read_csv(paths.truth("motif_sites.tsv.gz"), sep="\t")
    assert set(sites["strand"]) == {"+", "-"}
    swap = str.maketrans("ACGT", "TGCA")
    for site in sites.itertuples():
        found = bases[site.chrom][site.start : site.end]
        found = found if site.strand == "+" else found.translate(swap)[::-1]
        assert found == site.sequence
        pwm = motifs[site.factor]
        odds = np.log2(pwm / 0.25)
        score = odds[np.arange(len(found)), ["ACGT".index(base) for base in found]].sum()
        assert score / odds.max(axis=1).sum() == pytest.approx(site.strength, abs=2e-3)
    assert sites["strength"].median() > 0.75


def test_variants_break_sites_with_effects_that_follow_the_factor(made):
    paths, _, _ = made
    bases = {name: seq.upper() for name, seq in genome(paths).items()}
    table = pd.read_csv(paths.truth("variants.tsv"), sep="\t")
    for row in table.itertuples():
        assert bases[row.chrom][row.position] == row.ref != row.alt
    effects = table.filter(like="effect_")
    outside = table["where"] != "site"
    assert outside.sum() > 20 and (effects[outside] == 0).all(axis=None)
    repressors = table["factor"].isin(["REST", "ZEB1", "GFI1B"])
    assert (effects[~outside & ~repressors] <= 1e-9).all(axis=None)
    assert (effects[repressors] >= -1e-9).all(axis=None)
    assert (effects[~outside].abs().max(axis=1) > 0.02).mean() > 0.4


def test_marks_correlate_with_expression_in_the_right_direction(tmp_path):
    marks = ("H3K4me3", "H3K27ac", "H3K9ac", "H3K27me3", "H3K9me3", "H3K36me3")
    plan = Plan(chromosomes=4, length_bp=900_000, cells=("E003",), assays=marks, read_marks=())
    simulate(plan, tmp_path)
    paths = Addresses(plan, tmp_path)
    genes = pd.read_csv(paths.truth("genes.tsv"), sep="\t").query("gene_type == 'protein_coding'")
    found = {}
    for mark in marks:
        with pyBigWig.open(str(paths("roadmap_pval", cell="E003", mark=mark))) as file:
            signal = [
                np.log1p(file.values(gene.chrom, gene.tss - 1500, gene.tss + 1500, numpy=True))
                for gene in genes.itertuples()
            ]
        found[mark] = np.corrcoef(np.nanmean(signal, axis=1), genes["log2_rpkm_E003"])[0, 1]
    # what enhancers add to expression shows little in the promoter's own marks
    assert all(found[mark] > 0.4 for mark in ("H3K4me3", "H3K27ac", "H3K9ac", "H3K36me3"))
    assert found["H3K27me3"] < -0.15 and found["H3K9me3"] < 0


def test_islands_differ_in_cpg_from_the_rest_of_the_genome(made):
    paths, _, _ = made
    bases = {name: seq.upper() for name, seq in genome(paths).items()}
    genes = pd.read_csv(paths.truth("genes.tsv"), sep="\t").query("cpg_island == 1")

    def ratio(seq: str) -> float:
        return seq.count("CG") * len(seq) / (seq.count("C") * seq.count("G"))

    near = "".join(bases[g.chrom][g.tss - 150 : g.tss + 150] for g in genes.itertuples())
    assert ratio(near) > 0.7 and ratio(bases["chr1"].replace("N", "")) < 0.45
    lower = sum(base.islower() for base in genome(paths)["chr1"])
    assert 0.2 < lower / len(bases["chr1"]) < 0.6


def test_contacts_and_loops_lie_on_fragments_and_chromosomes(made):
    paths, out, _ = made
    lengths = sizes(paths)
    table = pd.read_csv(paths("pchic_interactions"), sep="\t")
    assert list(table.columns) == ["frag1", "frag2", "H1", "LI11", "GM"]
    for column in ("frag1", "frag2"):
        parts = table[column].str.extract(r"^(chr\d+)\.(\d+)\.(\d+)$")
        start, end = parts[1].astype(int), parts[2].astype(int)
        assert (start < end).all() and (end <= parts[0].map(lengths)).all()
    assert not table.duplicated(["frag1", "frag2"]).any()
    loops = pd.read_csv(out / LOOPS, sep="\t")
    assert (loops["end2"] <= loops["chrom2"].map(lengths)).all()
    assert set(loops["cell"]) == set(SMALL["cells"]) and (loops["end1"] <= loops["start2"]).all()


def test_further_cells_change_nothing_of_those_with_a_lineage():
    small = {**TINY, "chromosomes": 1, "lineages": 2}
    alone, more = (
        make_world(Plan(**small | {"cells": ("E003", "E116", *further)}))
        for further in ((), ("E066", "E004"))
    )
    assert make_world(Plan(**TINY | {"chromosomes": 1})).codes.tobytes() == alone.codes.tobytes()
    assert alone.codes.tobytes() == more.codes.tobytes()
    for name in ("promoter", "marked", "enhancer", "insulator", "log_rpkm"):
        one, two = getattr(alone.activity, name), getattr(more.activity, name)
        assert two.shape == (len(one), 4)
        # the sum of log odds over cells may be taken in another order
        np.testing.assert_allclose(one, two[:, :2], atol=1e-12)
    assert (alone.domains.openness == more.domains.openness[:, :2]).all()
    first, second = more.factors.log_rpkm[:, 2:].T  # further cells differ from one another
    assert (np.abs(first - second) > 2).sum() > 3
    with pytest.raises(InputError, match="lineages = 3: choose 1 to 2"):
        Plan(**TINY | {"lineages": 3})


def test_blacklisted_regions_carry_artefacts_in_every_assay(made):
    paths, _, _ = made
    regions = [line.split("\t") for line in text(paths("blacklist"))]
    assert {row[0] for row in regions} == set(sizes(paths)) and len(regions[0]) == 4
    for mark in ("H3K4me3", "H3K9me3", "CTCF"):
        with pyBigWig.open(str(paths("roadmap_pval", cell="E003", mark=mark))) as file:
            for chrom, start, end, _ in regions:
                assert file.stats(chrom, int(start), int(end), exact=True)[0] > 30


def test_the_summary_marks_the_end_and_lists_every_track(made):
    paths, out, summary = made
    stored = json.loads(paths.truth("summary.json").read_text())
    assert stored["counts"] == summary["counts"] and len(stored["reads"]) == 27
    newest = max((p for p in out.rglob("*") if p.is_file()), key=lambda p: p.stat().st_mtime_ns)
    assert newest == paths.truth("summary.json")
    assert not list(out.rglob(".*"))


def test_p_values_are_the_poisson_tail():
    stats = pytest.importorskip("scipy.stats")
    pileup, background = np.array([0.0, 1, 3, 20, 90]), np.array([2.0, 2, 2, 2, 2])
    exact = -np.log10(stats.poisson.sf(pileup - 1, background))
    assert minus_log10_p(pileup, background) == pytest.approx(exact, abs=0.006)


def test_interval_bins_follow_the_ucsc_scheme():
    assert ucsc_bin(0, 10_000) == 585
    assert ucsc_bin(121_535_434, 124_535_434) == 23  # hg19 chr1 centromere, as in its gap table
    assert ucsc_bin(0, 2**29) == 0


def test_numbers_are_written_without_leading_zeros():
    numbers = np.array([0, 7, 10, 999, 100_001])
    data = squeeze([b"x", digits(numbers, 6), b"\n"], len(numbers))
    assert data.decode().splitlines() == ["x0", "x7", "x10", "x999", "x100001"]


def test_factors_that_bind_nowhere_have_a_motif_and_no_site():
    few = make_world(Plan(**SMALL, binding_share=0.4))
    bound = {NAMES[factor] for factor in np.unique(few.sites.factor)}
    kinds = [set(kind) & bound for kind in (UBIQUITOUS, SPECIFIC, REPRESSORS)]
    assert [len(kind) for kind in kinds] == [5, 8, 2] and "CTCF" in bound
    assert len(few.factors.pwms) == len(NAMES)
    with pytest.raises(InputError, match="binding_share = 0: choose more than 0"):
        Plan(**SMALL, binding_share=0)
