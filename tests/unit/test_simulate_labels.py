"""The simulated labels of downstream tasks: as published in form, as planted in content."""

from __future__ import annotations

import hashlib
import zipfile

import numpy as np
import pandas as pd
import pytest

from epiloom.data import label_regions
from epiloom.data.genes import gene_table
from epiloom.data.genome import read_chrom_sizes
from epiloom.data.label_expression import expression
from epiloom.data.label_expression import roadmap_genes as all_genes
from epiloom.data.simulate import Plan, contacts, labels, tables
from epiloom.data.simulate.addresses import Addresses
from epiloom.data.simulate.world import make_world
from epiloom.data.simulate.writers import write_book

PLAN = Plan(chromosomes=2, length_bp=2_000_000, cells=("E003", "E116", "E118"), assays=("H3K4me3",))
SAMPLES = {"E116": "GM12878", "E003": "H1"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """World, addresses, genome and counts of a small simulation without tracks."""
    world, paths = make_world(PLAN), Addresses(PLAN, tmp_path_factory.mktemp("simulated"))
    tables.write_genome(world, paths)
    tables.write_annotation(world, paths, *tables.make_exons(world))
    tables.write_expression(world, paths)
    contacts.write_timing(world, paths)
    counts = labels.write_labels(world, paths)
    return world, paths, read_chrom_sizes(paths("chrom_sizes"), "hg19"), counts


def test_equal_plans_give_equal_bytes(made, tmp_path):
    world, paths, _, counts = made
    again = Addresses(PLAN, tmp_path)
    assert labels.write_labels(world, again) == counts
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 6
    for path in files:
        other = paths.out / path.relative_to(tmp_path)
        assert hashlib.md5(path.read_bytes()).digest() == hashlib.md5(other.read_bytes()).digest()


def test_a_spreadsheet_has_its_sheets_and_no_time_of_writing(tmp_path):
    book = {"a": pd.DataFrame({"x": [np.nan, 1]}), "b": pd.DataFrame({"y": ["text"]})}
    write_book(tmp_path / "a.xlsx", book)
    back = pd.read_excel(tmp_path / "a.xlsx", sheet_name=None)
    assert list(back) == ["a", "b"] and back["a"]["x"].isna().tolist() == [True, False]
    with zipfile.ZipFile(tmp_path / "a.xlsx") as file:
        assert {part.date_time[0] for part in file.infolist()} == {2021}
        assert b"2021-06-07T00:00:00Z" in file.read("docProps/core.xml")


def test_linked_pairs_are_the_planted_links_and_the_others_lie_as_far_apart(made):
    world, paths, genome, counts = made
    path = paths("enhancer_pairs", cell_line="GM12878")
    table = pd.read_csv(path)
    assert not paths("enhancer_pairs", cell_line="K562").exists()  # not simulated
    genes, links, layout = world.genes, world.links, world.layout
    names, tss = layout.local(genes.tss)
    gene_at = {
        (c, int(t) - (1_500 if s > 0 else 500)): i
        for i, (c, t, s) in enumerate(zip(names, tss, genes.strand, strict=True))
    }
    chrom, centre = layout.local(world.enhancers)
    enhancer_at = {(c, int(p) - 500): i for i, (c, p) in enumerate(zip(chrom, centre, strict=True))}
    linked = set(zip(links.enhancer.tolist(), links.gene.tolist(), strict=True))
    column = PLAN.cells.index("E116")
    for row in table.itertuples():
        gene = gene_at[row.promoter_chrom, row.promoter_start]
        enhancer = enhancer_at[row.enhancer_chrom, row.enhancer_start]
        assert row.label == ((enhancer, gene) in linked)
        assert genes.coding[gene] and world.activity.promoter[gene, column] > 0
        assert world.activity.enhancer[enhancer, column] >= labels.ACTIVE
    yes, no = (table.loc[table["label"] == i, "enhancer_distance_to_promoter"] for i in (1, 0))
    assert len(yes) == counts["enhancer_pairs"] >= 20 and 8 < len(no) / len(yes) <= 10
    assert abs(np.log(yes.median() / no.median())) < 0.25
    read = label_regions.promoter_enhancer({"E116": path}, genome)
    assert len(read) == len(table) and np.nansum(read.labels["E116"]) == len(yes)


def test_fires_are_the_bins_with_most_enhancer_activity(made):
    world, paths, genome, _ = made
    read = label_regions.fire(paths.out / labels.FIRES, genome, SAMPLES)
    chrom, centre = world.layout.local(world.enhancers)
    for column, cell in ((0, "E003"), (1, "E116")):
        score = {}
        for c, p, a in zip(chrom, centre, world.activity.enhancer[:, column], strict=True):
            score[c, p // 40_000] = score.get((c, p // 40_000), 0) + a
        told = [
            score.get((c, s // 40_000), 0)
            for c, (s, _) in zip(read.chroms, read.windows["bin"], strict=True)
        ]
        called = read.labels[cell] == 1
        assert 0.06 < called.mean() < 0.1
        assert min(np.array(told)[called]) >= max(np.array(told)[read.labels[cell] == 0]) - 1e-3
    assert read.labels["E003"].tolist() != read.labels["E116"].tolist()
    scores = pd.read_excel(paths.out / labels.FIRES, sheet_name="scores")
    assert list(scores.columns) == ["chr", "start", "end", "H1", "GM12878"]  # E118 is not published


def test_boundaries_are_borders_of_domains_where_openness_changes_most(made):
    world, paths, genome, counts = made
    edges, openness = world.domains.edges, world.domains.openness
    inner = [
        i
        for i in range(1, len(edges) - 1)
        if world.layout.chrom_of(edges[i]) == world.layout.chrom_of(edges[i] - 1)
    ]
    change = {i: abs(openness[i, 1] - openness[i - 1, 1]) for i in inner}
    wanted = sorted(inner, key=lambda i: -change[i])[: max(1, round(0.25 * len(inner)))]
    table = pd.read_excel(paths.out / labels.BOUNDARIES, sheet_name="GM12878")
    chrom, place = world.layout.local(edges[sorted(wanted)])
    assert table["chr"].tolist() == chrom.tolist()
    assert (table["start"] + 5_000).tolist() == place.tolist()
    read = label_regions.tad_boundary(paths.out / labels.BOUNDARIES, genome, SAMPLES, paths("gaps"))
    assert 0.05 < np.nanmean(read.labels["E116"]) < 0.25
    assert counts["tad_boundaries"] == 2 * len(wanted)


def test_open_domains_replicate_early(made):
    world, paths, genome, _ = made
    path = paths("replication_timing", cell_line="Gm12878")
    read = label_regions.replication_timing({"E116": path}, genome)
    starts = world.layout.starts[[genome.index(c) for c in read.chroms]]
    middle = starts + read.windows["window"].mean(axis=1)
    openness = world.domains.openness[world.domains.of(middle), 1]
    early = read.labels["E116"] == 1
    assert 0.45 < early.mean() < 0.55
    assert openness[early].mean() > openness[~early].mean() + 0.5


def test_all_genes_stand_in_one_of_three_tables_where_the_annotation_has_them(made):
    world, paths, genome, counts = made
    files = [paths(f"roadmap_rpkm{end}") for end in ("", "_nc", "_rb")]
    genes, rpkm = all_genes(paths("roadmap_gene_info"), files, genome)
    assert len(genes) == len(world.genes)
    assert counts["other_genes"] == (~world.genes.coding).sum() > 4
    known, measured = gene_table(paths("roadmap_genes"), paths("roadmap_rpkm"), genome)
    coding = genes[genes["gene_id"].isin(known["gene_id"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(coding, known)
    told = expression(genes, rpkm, genome, ["E118"])
    log_rpkm = dict(zip(world.genes.ids, world.activity.log_rpkm[:, 2], strict=True))
    clear = [abs(log_rpkm[name] - np.log2(1.5)) > 0.01 for name in told.names]
    planted = np.array([2 ** log_rpkm[name] - 1 >= 0.5 for name in told.names])
    assert np.array_equal(told.labels["E118"][clear], planted[clear])
