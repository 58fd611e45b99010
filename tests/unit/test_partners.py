"""Distal partners: the published choice, on invented, real and simulated contacts."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epiloom.data.contacts import GENE_TABLE, GenePartners, Pairs, read_contacts
from epiloom.data.genes import gene_table, promoter_features
from epiloom.data.genome import Genome, read_chrom_sizes
from epiloom.data.partners import (
    PARTNER_COLUMNS,
    Rules,
    partner_table,
    region_table,
    select,
)
from epiloom.data.ragged import Ragged
from epiloom.data.regions import region_features
from epiloom.data.simulate import Plan, simulate
from epiloom.data.simulate.addresses import Addresses
from epiloom.plan.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
GENOME = Genome("tiny", ("chr1", "chr2"), (200_000, 90_050))
MARKS = ["H3K4me1", "H3K4me3", "H3K9me3", "H3K27me3", "H3K36me3", "H3K27ac", "H3K9ac"]


def write(path: Path, *lines: str) -> Path:
    text = "\n".join(line.replace(" ", "\t") for line in lines) + "\n"
    packed = {".gz": gzip.compress, ".bz2": bz2.compress}.get(path.suffix, bytes)
    path.write_bytes(packed(text.encode()))
    return path


def genes(*rows: tuple[str, str, int]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["gene_id", "chrom", "tss"])


def named(table: pd.DataFrame) -> list[tuple]:
    return [(r.gene_id, r.rank, r.chrom, r.start, r.end, r.score) for r in table.itertuples()]


# --- the choice -----------------------------------------------------------------------------------


def slow_choice(pools, threshold, most, longest):
    """The published rule, word by word."""
    taken, kept = [], []
    for pool in pools:
        for (chrom, start, end), score in pool:
            region = f"{chrom}:{start}-{end}"
            if score > threshold and region not in taken and end - start <= longest:
                taken.append(region)
                kept.append((score, region))
    kept.sort(key=lambda pair: pair[1])
    kept.sort(key=lambda pair: pair[0], reverse=True)
    return [(region, score) for score, region in kept[:most]]


REGIONS = st.tuples(
    st.sampled_from(["chr1", "chr10", "chr2"]), st.integers(0, 30), st.integers(39_999, 40_002)
).map(lambda r: (r[0], r[1], r[1] + r[2]))
SCORES = st.sampled_from([0.0, 1.5, np.nextafter(1.5, 2), 1.6, 2.0, 2.5, 12.33])
POOLS = st.lists(st.lists(st.tuples(REGIONS, SCORES), max_size=15), max_size=3)


@given(pools=POOLS, most=st.integers(1, 8))
def test_partners_are_chosen_by_the_published_rule(pools, most):
    got = select(pools, Rules(1.5, most, 40_000))
    assert [(f"{c}:{a}-{b}", s) for (c, a, b), s in got] == slow_choice(pools, 1.5, most, 40_000)


def test_the_threshold_is_strict_and_long_partners_are_left_out():
    pool = [(("chr1", 0, 40_000), 1.6), (("chr1", 0, 40_001), 9.0), (("chr1", 5, 50), 1.5)]
    assert select([pool], Rules()) == [(("chr1", 0, 40_000), 1.6)]


def test_at_most_eight_and_ties_go_by_name_as_text():
    pool = [(("chr1", start, start + 10), 2.0) for start in range(900, 1200, 25)]
    starts = [region[1] for region, _ in select([pool], Rules())]
    assert starts == [1000, 1025, 1050, 1075, 1100, 1125, 1150, 1175]  # "1000" before "900"


def test_a_partner_of_two_start_sites_keeps_the_score_met_first():
    near, other = ("chr1", 0, 10), ("chr1", 20, 30)
    assert select([[(near, 2.0)], [(near, 5.0), (other, 3.0)]], Rules()) == [
        (other, 3.0),
        (near, 2.0),
    ]
    # One that was below the threshold the first time has not been taken.
    assert select([[(near, 1.5)], [(near, 5.0)]], Rules()) == [(near, 5.0)]


def test_no_start_site_no_fragment_and_no_partner_give_nothing():
    assert select([], Rules()) == select([[]], Rules()) == []


PAIRS = [
    "frag1 frag2 note GM H1",
    "chr1.1000.2000 chr1.5000.6000 a 3.5 1.0",
    "chr1.1000.2000 chr1.8000.9000 b 1.5 2.0",
    "chr1.2000.3000 chr1.5000.6000 c 7 9",
    "chr1.2000.3000 chr2.90000.90050 d 2 NA",
    "chr2.100.200 chr2.100.200 e 8 8",
    "chrUn.1.2 chr1.5000.6000 f 8 8",
]


def test_a_start_site_lies_in_a_fragment_of_either_side(tmp_path):
    path = write(tmp_path / "po.txt.gz", *PAIRS)
    found = genes(
        ("first_base", "chr1", 1000),
        ("last_base", "chr1", 1999),
        ("next_fragment", "chr1", 2000),
        ("between", "chr1", 3000),
        ("itself", "chr2", 150),
        ("other_side", "chr1", 5500),
        ("elsewhere", "chr3", 5500),
    )
    table = partner_table(found, read_contacts("geo", [path], "E116", "GM"), GENOME)
    assert list(table.columns) == PARTNER_COLUMNS
    assert named(table) == [
        ("first_base", 1, "chr1", 5000, 6000, 3.5),
        ("last_base", 1, "chr1", 5000, 6000, 3.5),
        ("next_fragment", 1, "chr1", 5000, 6000, 7),
        ("next_fragment", 2, "chr2", 90_000, 90_050, 2),
        ("other_side", 1, "chr1", 2000, 3000, 7),
        ("other_side", 2, "chr1", 1000, 2000, 3.5),
    ]


def test_start_sites_of_one_gene_are_taken_in_their_order(tmp_path):
    contacts = read_contacts("geo", [write(tmp_path / "t", *PAIRS)], "E116", "GM")
    one = partner_table(genes(("G", "chr1", 1500), ("G", "chr1", 2500)), contacts, GENOME)
    two = partner_table(genes(("G", "chr1", 2500), ("G", "chr1", 1500)), contacts, GENOME)
    assert [r[3:] for r in named(one)] == [(5000, 6000, 3.5), (90_000, 90_050, 2)]
    assert [r[3:] for r in named(two)] == [(5000, 6000, 7), (90_000, 90_050, 2)]


@given(
    spans=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 40)), min_size=2, max_size=12),
    links=st.lists(
        st.tuples(st.integers(0, 11), st.integers(0, 11), st.integers(1, 40)), max_size=30
    ),
    sites=st.lists(st.integers(0, 110), min_size=1, max_size=3),
)
def test_the_table_agrees_with_a_search_through_all_pairs(spans, links, sites):
    spans = list(dict.fromkeys((a, a + n) for a, n in spans))
    links = {(a % len(spans), b % len(spans)): s / 10 for a, b, s in links}
    links = {(a, b): s for (a, b), s in links.items() if a != b}
    first, second = (np.array([p[i] for p in links], np.int64) for i in (0, 1))
    fragments = pd.DataFrame(spans, columns=["start", "end"]).assign(chrom="chr1")
    pairs = Pairs(fragments, first, second, np.array(list(links.values()), np.float64))
    pools = []
    for site in sites:
        for bait in sorted(set(first), key=lambda i: spans[i]):
            if spans[bait][0] <= site < spans[bait][1]:
                pools.append([(("chr1", *spans[b]), s) for (a, b), s in links.items() if a == bait])
    table = partner_table(genes(*(("G", "chr1", s) for s in sites)), pairs, GENOME)
    got = [(f"{r.chrom}:{r.start}-{r.end}", r.score) for r in table.itertuples()]
    assert got == slow_choice(pools, 1.5, 8, 40_000)
    assert table["rank"].tolist() == list(range(1, len(table) + 1))


def test_contacts_of_another_assembly_are_refused_and_single_strays_left_out(tmp_path):
    lines = [f"chr1.{i}.{i + 50} chr1.{i + 500}.{i + 600} 2" for i in range(1000, 151_000, 500)]
    lines.append("chr1.1000.1050 chr1.199990.200010 9")
    found = genes(("G", "chr1", 1010))
    path = write(tmp_path / "a", "frag1 frag2 GM", *lines)
    kept = partner_table(found, read_contacts("geo", [path], "E116", "GM"), GENOME)
    assert kept["end"].tolist() == [1600]
    path = write(tmp_path / "b", "frag1 frag2 GM", *lines[:2], lines[-1])
    with pytest.raises(InputError, match="beyond the end.*chr1 has 200000 bases in tiny"):
        partner_table(found, read_contacts("geo", [path], "E116", "GM"), GENOME)
    path = write(tmp_path / "c", "frag1 frag2 GM", "1.10.20 1.30.40 9")
    with pytest.raises(InputError, match='lack the "chr"'):
        partner_table(found, read_contacts("geo", [path], "E116", "GM"), GENOME)


# --- real data ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def e003():
    """Genes, partner table and regions of the published demo, and the features of its marks."""
    folder = SHARED / "roadmap_e003"
    if not folder.is_dir():
        pytest.skip("shared data not here")
    table = pd.read_csv(folder / "genes.tsv", sep="\t", keep_default_na=False)
    rows = []
    for gene in table.itertuples():
        for region, score in zip(gene.neighbors.split(";"), gene.scores.split(";"), strict=True):
            if region:
                chrom, span = region.split(":")
                rows.append((gene.gene_id, chrom, *map(int, span.split("-")), float(score)))
    given = GenePartners(pd.DataFrame(rows, columns=GENE_TABLE))
    genome = read_chrom_sizes(SHARED / "reference" / "hg19.chrom.sizes", "hg19")
    found = table.rename(columns={"tss_start": "tss"})[["gene_id", "chrom", "tss", "strand"]]
    partners = partner_table(found, given, genome)
    regions = region_table(partners, genome)
    bins = {
        mark: region_features(folder / f"E003-{mark}.depth.bw", regions, genome) for mark in MARKS
    }
    golden = pd.read_csv(folder / "golden_region_bins.tsv", sep="\t")
    return found, partners, regions, bins, golden, folder, genome


def test_real_partners_keep_their_published_order(e003):
    _, partners, _, _, golden, _, _ = e003
    slots = golden[golden["slot"] > 0]
    assert partners["gene_id"].nunique() == 89 and len(partners) == len(slots) == 580
    assert (partners.groupby("gene_id").size() == 8).sum() == 58
    names = [f"{r.chrom}:{r.start}-{r.end}" for r in partners.itertuples()]
    key = set(zip(partners["gene_id"], partners["rank"], names, partners["score"], strict=True))
    told = zip(slots["gene_id"], slots["slot"], slots["region"], slots["score"], strict=True)
    assert key == set(told)


@pytest.mark.parametrize("bin_bp", [2000, 500, 100])
def test_real_regions_give_the_published_bins(e003, bin_bp):
    _, partners, regions, bins, golden, _, _ = e003
    values = np.stack([bins[mark] for mark in MARKS], axis=1)
    ragged = Ragged((regions["end"] - regions["start"]).to_numpy(), values).coarsen(bin_bp)
    place = regions[["chrom", "start", "end"]].assign(region=np.arange(len(regions)))
    number = partners.merge(place, on=["chrom", "start", "end"])
    slots = golden[golden["slot"] > 0].merge(
        number, left_on=["gene_id", "slot"], right_on=["gene_id", "rank"]
    )
    row = slots["region_y"].to_numpy()
    assert len(row) == 580 and not np.isnan(ragged.values).any()
    counts = ragged.counts[row]
    assert (counts == slots[f"n_bins_{bin_bp}"]).all()
    assert ((40_000 // bin_bp - counts + 1) // 2 == slots[f"left_pad_{bin_bp}"]).all()
    logs = np.log1p(ragged.values.astype(np.float64))
    sums = np.add.reduceat(logs, ragged.first[:-1], axis=0)[row]
    told = slots[[f"{mark}_sum_{bin_bp}" for mark in MARKS]].to_numpy()
    np.testing.assert_allclose(sums, told, rtol=0, atol=1e-4)
    # The same bins, as they lie in the rows of the network.
    centred = ragged.centred(row[:20], 40_000 // bin_bp)
    np.testing.assert_allclose(np.log1p(centred).sum(axis=1), told[:20], rtol=0, atol=2e-3)


def test_real_genes_take_about_27_kb_each_at_seven_marks(e003):
    found, _, regions, bins, _, folder, genome = e003
    lengths = (regions["end"] - regions["start"]).to_numpy()
    ragged = Ragged(lengths, np.stack([bins[m] for m in MARKS], axis=1))
    partners = sum(ragged.coarsen(size).values.nbytes for size in (100, 500, 2000))
    promoter = promoter_features(folder / f"E003-{MARKS[0]}.depth.bw", found, genome)
    promoters = len(MARKS) * promoter.nbytes * (1 + 1 / 5 + 1 / 20)
    assert 20_000 < (partners + promoters) / len(found) < 28_000


# --- simulated data -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    out = tmp_path_factory.mktemp("simulated")
    plan = Plan(chromosomes=3, length_bp=400_000, cells=("E003", "E116"), assays=("H3K27ac",))
    simulate(plan, out)
    paths = Addresses(plan, out)
    genome = read_chrom_sizes(paths("chrom_sizes"), "hg19")
    found, _ = gene_table(paths("roadmap_genes"), paths("roadmap_rpkm"), genome)
    return paths, genome, found


def hits(partners: pd.DataFrame, links: pd.DataFrame) -> int:
    """Links whose enhancer lies in a partner of the gene."""
    both = links.merge(partners, on="gene_id", suffixes=("_e", ""))
    inside = (both["chrom_e"] == both["chrom"]) & (both["start"] <= both["middle"])
    return len(both[inside & (both["middle"] < both["end"])])


def write_true_loops(path: Path, paths: Addresses, found: pd.DataFrame) -> Path:
    """BEDPE of 5-kb anchors at the planted enhancers and the genes that they serve."""
    elements = pd.read_csv(paths.truth("elements.tsv"), sep="\t").set_index("element")
    links = pd.read_csv(paths.truth("links.tsv"), sep="\t")
    links = links[links["gene_id"].isin(found["gene_id"])]
    middle = (elements["start"] + elements["end"]) // 2
    tss = links["gene_id"].map(found.set_index("gene_id")["tss"])
    ends = np.stack([links["enhancer"].map(middle), tss], axis=1) // 5000 * 5000
    low, high = ends.min(axis=1), ends.max(axis=1)
    chrom = links["enhancer"].map(elements["chrom"])
    columns = [chrom, low, low + 5000, chrom, high, high + 5000]
    table = pd.DataFrame(dict(enumerate(columns)) | {6: "loop", 7: 5.0})
    table[low < high].to_csv(path, sep="\t", header=False, index=False)
    return path


@pytest.mark.parametrize("source", ["geo", "file"])
def test_true_enhancers_of_the_simulation_are_enriched_among_partners(simulated, source, tmp_path):
    paths, genome, found = simulated
    path = paths("pchic_interactions")
    if source == "file":
        path = write_true_loops(tmp_path / "loops.bedpe", paths, found)
    contacts = read_contacts(source, [path], "E116", "GM")
    partners = partner_table(found, contacts, genome, source=source, tissue="GM")
    assert partners["gene_id"].nunique() > 0.5 * len(found)
    assert partners.groupby("gene_id")["rank"].max().le(8).all()
    elements = pd.read_csv(paths.truth("elements.tsv"), sep="\t")
    elements["middle"] = (elements["start"] + elements["end"]) // 2
    links = pd.read_csv(paths.truth("links.tsv"), sep="\t")
    links = links.merge(
        elements[["element", "chrom", "middle"]], left_on="enhancer", right_on="element"
    )
    links = links[links["gene_id"].isin(found["gene_id"])]
    true = hits(partners, links)
    # As many regions at the same distance on the other side of the start site.
    tss = links["gene_id"].map(found.set_index("gene_id")["tss"])
    mirrored = links.assign(middle=2 * tss - links["middle"])
    assert true > 0.3 * len(links)
    assert true > 2 * hits(partners, mirrored)
