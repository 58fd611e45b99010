"""Labels of downstream tasks with their truth: enhancer-promoter pairs, FIREs, domain boundaries.

What has a public address is written there, in its form; FIREs and boundaries are article
supplements without one, so their spreadsheets lie in `local/`, as if got by hand.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from epiloom.data.simulate.addresses import Addresses
from epiloom.data.simulate.world import World
from epiloom.data.simulate.writers import write_book, write_text
from epiloom.plan.downstream import LINES, SAMPLES

FIRES, BOUNDARIES = "local/fire_scores.xlsx", "local/tad_boundaries.xlsx"
ACTIVE = 0.25  # least activity of an enhancer in a pair
NEAREST_BP, FARTHEST_BP = 3_000, 60_000  # between enhancer and start site, as of the links
UNLINKED = 10  # pairs per linked one (about 20 in the published tables)
UPSTREAM_BP, DOWNSTREAM_BP = 1_500, 500  # a promoter around its start site
ENHANCER_BP = 1_000
FIRE_BIN_BP = 40_000
FIRE_SHARE = 0.08  # of the bins
BOUNDARY_BP = 10_000
BOUNDARY_SHARE = 0.25  # of the borders between domains, those where openness changes most
RIBOSOMAL = 8  # one of so many non-coding genes stands in the table of ribosomal ones


def write_labels(world: World, addresses: Addresses) -> dict[str, int]:
    """Write all tables; returns counts for the summary."""
    return {
        "enhancer_pairs": write_pairs(world, addresses),
        "fires": write_fires(world, addresses),
        "tad_boundaries": write_boundaries(world, addresses),
        "other_genes": write_gene_sets(world, addresses),
    }


# --- enhancer-promoter pairs ----------------------------------------------------------------------


def write_pairs(world: World, addresses: Addresses) -> int:
    """pairs.csv of every simulated cell that TargetFinder has; returns how many pairs are linked.

    Enhancer and promoter of every pair are active in the cell, so that activity alone does not tell
    the linked from the others, which lie as far apart.
    """
    linked = 0
    for cell, line in LINES["promoter_enhancer"].items():
        if cell in world.plan.cells:
            enhancer, gene, label = _pairs(world, cell)
            table = _pair_table(world, line, enhancer, gene, label)
            text = table.to_csv(index=False, lineterminator="\n").rstrip("\n")
            write_text(addresses("enhancer_pairs", cell_line=line), [text])
            linked += int(label.sum())
    return linked


def _pairs(world: World, cell: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Enhancer and gene of every pair, and 1 where they are linked, with matched distances."""
    rng, column = world.plan.rng("pairs", cell), world.plan.cells.index(cell)
    layout, genes, links = world.layout, world.genes, world.links
    live = np.flatnonzero(world.activity.enhancer[:, column] >= ACTIVE)
    on = np.flatnonzero(genes.coding & (world.activity.promoter[:, column] > 0))
    near = np.searchsorted(genes.tss[on], world.enhancers[live])
    # Start sites are at least 500 bp apart: no more than 120 lie within 60 kb on one side.
    row, step = np.divmod(np.arange(len(live) * 240), 240)
    other = near[row] + step - 120
    inside = (other >= 0) & (other < len(on))
    enhancer, gene = live[row[inside]], on[other[inside]]
    away = np.abs(world.enhancers[enhancer] - genes.tss[gene])
    keep = (away >= NEAREST_BP) & (away <= FARTHEST_BP)
    keep &= layout.chrom_of(world.enhancers[enhancer]) == layout.chrom_of(genes.tss[gene])
    enhancer, gene, away = enhancer[keep], gene[keep], away[keep]
    label = np.isin(enhancer * len(genes) + gene, links.enhancer * len(genes) + links.gene)
    pick = _matched(rng, away, label)
    return enhancer[pick], gene[pick], label[pick].astype(int)


def _matched(rng: np.random.Generator, away: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Rows of linked and `UNLINKED` times as many other pairs, in each tenth of the distances."""
    if not label.any():
        return np.arange(0)
    tenth = np.searchsorted(np.quantile(away[label], np.arange(1, 10) / 10), away)
    picked = []
    for part in range(10):
        yes = rng.permutation(np.flatnonzero((tenth == part) & label))
        no = rng.permutation(np.flatnonzero((tenth == part) & ~label))
        yes = yes[: max(1, len(no) // UNLINKED)]
        picked += [yes, no[: UNLINKED * len(yes)]]
    return np.sort(np.concatenate(picked))


def _pair_table(
    world: World, line: str, enhancer: np.ndarray, gene: np.ndarray, label: np.ndarray
) -> pd.DataFrame:
    """Columns as published; the window between ends a base inside the gap, as there."""
    chrom, tss = world.layout.local(world.genes.tss[gene])
    _, centre = world.layout.local(world.enhancers[enhancer])
    plus = world.genes.strand[gene] > 0
    span = {"enhancer": (centre - ENHANCER_BP // 2, centre + ENHANCER_BP // 2)}
    before = np.where(plus, UPSTREAM_BP, DOWNSTREAM_BP)
    span["promoter"] = (tss - before, tss + UPSTREAM_BP + DOWNSTREAM_BP - before)
    low = np.minimum(span["promoter"][1], span["enhancer"][1]) + 1
    high = np.maximum(span["promoter"][0], span["enhancer"][0]) - 1
    columns: dict[str, np.ndarray] = {"enhancer_distance_to_promoter": high - low, "label": label}
    for side, (start, end) in (*span.items(), ("window", (low, high))):
        places = zip(chrom, start.tolist(), end.tolist(), strict=True)
        columns |= {f"{side}_chrom": chrom, f"{side}_start": start, f"{side}_end": end}
        columns[f"{side}_name"] = np.array([f"{line}|{c}:{a}-{b}" for c, a, b in places], dtype=str)
    return pd.DataFrame(columns)


# --- frequently interacting regions and domain boundaries -----------------------------------------


def write_fires(world: World, addresses: Addresses) -> int:
    """Calls (sheet primary_cohort) and scores of 40-kb bins; returns how many are called.

    A bin's score is the summed activity of its enhancers; the highest are called. Bins that are
    mostly gap are empty.
    """
    layout, columns = world.layout, {}
    counts = -(-layout.lengths // FIRE_BIN_BP)
    first = np.concatenate([[0], np.cumsum(counts)])
    chrom = np.repeat(np.arange(len(counts)), counts)
    start = (np.arange(first[-1]) - first[chrom]) * FIRE_BIN_BP
    gap = np.zeros(len(start))
    for which, low, high in layout.gaps.tolist():
        over = np.minimum(start + FIRE_BIN_BP, high) - np.maximum(start, low)
        gap += np.where(chrom == which, over.clip(0), 0)
    usable = gap <= FIRE_BIN_BP / 2
    where = layout.chrom_of(world.enhancers)
    row = first[where] + (world.enhancers - layout.starts[where]) // FIRE_BIN_BP
    for column, cell in _sampled(world):
        score = np.bincount(row, world.activity.enhancer[:, column], len(start))
        columns[SAMPLES[cell]] = np.where(usable, np.round(score, 4), np.nan)
    place = {"chr": np.array(layout.names)[chrom], "start": start, "end": start + FIRE_BIN_BP}
    scores = pd.DataFrame(place | columns)
    calls = scores.copy()
    for name, values in columns.items():
        ranked = np.argsort(-np.nan_to_num(values, nan=-1), kind="stable")
        called = np.zeros(len(values))
        called[ranked[: max(1, round(FIRE_SHARE * usable.sum()))]] = 1
        calls[name] = np.where(usable, called, np.nan)
    write_book(addresses.out / FIRES, {"primary_cohort": calls, "scores": scores})
    return int(sum(calls[name].sum() for name in columns))


def write_boundaries(world: World, addresses: Addresses) -> int:
    """One sheet per cell: borders of domains across which openness changes most."""
    layout, edges = world.layout, world.domains.edges
    inner = np.flatnonzero(layout.chrom_of(edges[1:-1]) == layout.chrom_of(edges[1:-1] - 1)) + 1
    inner = inner[~np.isin(edges[inner], layout.starts)]
    sheets, total = {}, 0
    for column, cell in _sampled(world):
        level = world.domains.openness[:, column]
        change = np.abs(level[inner] - level[inner - 1])
        count = max(1, round(BOUNDARY_SHARE * len(inner)))
        chosen = np.sort(inner[np.argsort(-change, kind="stable")[:count]])
        chrom, place = layout.local(edges[chosen])
        half, length = BOUNDARY_BP // 2, layout.lengths[layout.chrom_of(edges[chosen])]
        sheets[SAMPLES[cell]] = pd.DataFrame(
            {"chr": chrom, "start": place - half, "end": np.minimum(place + half, length)}
        )
        total += len(chosen)
    empty = {"none": pd.DataFrame({"chr": [], "start": [], "end": []})}
    write_book(addresses.out / BOUNDARIES, sheets or empty)
    return total


def _sampled(world: World) -> list[tuple[int, str]]:
    """Column and name of the cells that stand in the published tables."""
    return [(i, cell) for i, cell in enumerate(world.plan.cells) if cell in SAMPLES]


# --- the genes that do not code -------------------------------------------------------------------


def write_gene_sets(world: World, addresses: Addresses) -> int:
    """RPKM of non-coding and ribosomal genes, and where all genes lie; returns their number."""
    genes, layout = world.genes, world.layout
    others = np.flatnonzero(~genes.coding)
    others = others[np.argsort(genes.ids[others])]
    ribosomal = np.arange(len(others)) % RIBOSOMAL == 0
    for key, rows in (("nc", others[~ribosomal]), ("rb", others[ribosomal])):
        rpkm = np.exp2(world.activity.log_rpkm[rows]) - 1
        rpkm = np.column_stack([rpkm.mean(axis=1), rpkm])  # E000: the universal reference
        lines = ["\t".join(["gene_id", "E000", *world.plan.cells])]
        for gene, values in zip(genes.ids[rows], rpkm.tolist(), strict=True):
            lines.append("\t".join([gene, *(f"{value:.3f}" for value in values)]) + "\t")
        write_text(addresses(f"roadmap_rpkm_{key}"), lines)
    kind = np.where(genes.coding, "protein_coding", "lincRNA").astype(object)
    kind[others[ribosomal]] = "rRNA"
    chrom, start = layout.local(genes.start)
    lines = []
    for i in np.argsort(genes.ids):
        place = (
            re.sub("^chr", "", chrom[i]),
            start[i] + 1,
            start[i] + genes.end[i] - genes.start[i],
        )
        told = (*place, genes.strand[i], kind[i], genes.names[i], "made up by the simulation")
        lines.append("\t".join(map(str, (genes.ids[i], *told))))
    write_text(addresses("roadmap_gene_info"), lines)
    return len(others)
