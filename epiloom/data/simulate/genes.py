"""Where genes, enhancers, insulators and domains lie, and which enhancer serves which gene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from epiloom.data.simulate.layout import Layout, Plan
from epiloom.data.simulate.motifs import NAMES, REGION_SLOTS, SLOT_BP

NEAREST_TSS_BP = 500  # two start sites are at least this far apart: their motif regions never meet
REGION_BP = REGION_SLOTS * SLOT_BP
PROMOTER_GAP_BP = 10  # motif region of a promoter ends this far upstream of the start site
HOUSEKEEPING, SPECIFIC, SILENT, FACTOR = range(4)
KINDS = ("housekeeping", "specific", "silent", "factor")


@dataclass(frozen=True)
class Genes:
    """Genes in order of their start sites. All arrays are [genes]; positions are global.

    Attributes:
        tss: first transcribed base. strand: 1 or -1. start, end: gene body, half-open.
        coding: True for protein_coding, False for lincRNA.
        kind: index in `KINDS`. island: True where the promoter has a CpG island.
        factor: index of the transcription factor that the gene encodes, or -1.
        ids, names: Ensembl-like id without version, and symbol.
    """

    tss: np.ndarray
    strand: np.ndarray
    start: np.ndarray
    end: np.ndarray
    coding: np.ndarray
    kind: np.ndarray
    island: np.ndarray
    factor: np.ndarray
    ids: np.ndarray
    names: np.ndarray

    def __len__(self) -> int:
        return len(self.tss)

    @property
    def motif_region(self) -> np.ndarray:
        """Global start of the REGION_BP that hold a promoter's binding sites (upstream)."""
        upstream = self.tss - PROMOTER_GAP_BP - REGION_BP
        return np.where(self.strand > 0, upstream, self.tss + PROMOTER_GAP_BP + 1)


@dataclass(frozen=True)
class Links:
    """Enhancer-gene pairs: indices and distance in bp between enhancer centre and start site."""

    enhancer: np.ndarray
    gene: np.ndarray
    distance: np.ndarray


def usable(plan: Plan, layout: Layout, chrom: int) -> list[tuple[int, int]]:
    """Stretches (local, half-open) in which start sites may lie: away from ends and gaps."""
    length = int(layout.lengths[chrom])
    edge, inner = min(25_000, length // 10), min(10_000, length // 20)
    _, (_, middle, after) = layout.gaps[layout.gaps[:, 0] == chrom].tolist()
    return [(edge, middle - inner), (after + inner, length - edge)]


def _start_sites(plan: Plan, layout: Layout, chrom: int) -> tuple[np.ndarray, np.ndarray]:
    """Global start sites and strands of one chromosome; some pairs are divergent neighbours."""
    rng = plan.rng("tss", chrom)
    parts = usable(plan, layout, chrom)
    room = sum(end - start for start, end in parts)
    count = max(4, round(room / plan.gene_spacing_bp * 1.08))  # 8 % lincRNA on top
    divergent = rng.random(count) < 0.11
    divergent[1:] &= ~divergent[:-1]
    divergent[-1] = False
    gap = NEAREST_TSS_BP + rng.gamma(1.2, 1.0, count) * 1e4
    near = rng.integers(NEAREST_TSS_BP, 1_000, count)
    spare = room - near[divergent].sum() - NEAREST_TSS_BP * (~divergent).sum()
    free = gap[~divergent] - NEAREST_TSS_BP
    gap[~divergent] = NEAREST_TSS_BP + free * (spare / free.sum() * 0.99)
    gap[divergent] = near[divergent]
    place = np.concatenate([[0], np.cumsum(gap)[:-1]]).astype(np.int64)
    first = parts[0][1] - parts[0][0]
    local = np.where(place < first, parts[0][0] + place, parts[1][0] + place - first)
    strand = np.where(rng.random(count) < 0.5, 1, -1)
    strand[divergent] = -1
    strand[np.flatnonzero(divergent) + 1] = 1
    return layout.starts[chrom] + local, strand


def place_genes(plan: Plan, layout: Layout) -> Genes:
    """Genes with bodies, types, ids and the factors that some of them encode."""
    sites = [_start_sites(plan, layout, chrom) for chrom in range(plan.chromosomes)]
    tss, strand = (np.concatenate(part) for part in zip(*sites, strict=True))
    rng = plan.rng("genes")
    count = len(tss)
    start, end = _bodies(rng, layout, tss, strand)
    coding = rng.random(count) >= 0.075
    kind = rng.choice(3, count, p=[0.46, 0.40, 0.14])
    kind[~coding & (kind == HOUSEKEEPING)] = SPECIFIC
    factor = np.full(count, -1)
    hosts = np.flatnonzero(coding)
    hosts = rng.permutation(hosts)[: min(len(NAMES), len(hosts) // 3)]
    factor[hosts] = rng.permutation(len(NAMES))[: len(hosts)]
    kind[hosts] = FACTOR
    chance = np.array([0.95, 0.45, 0.25, 0.8])[kind]
    numbers = np.sort(rng.choice(2_000_000, count, replace=False)) + 1_000
    ids = np.array([f"ENSG{number:011d}" for number in rng.permutation(numbers)])
    names = np.array([f"GENE{i + 1}" if coding[i] else f"LINC{i + 1:05d}" for i in range(count)])
    names = np.array(
        [NAMES[f] if f >= 0 else name for f, name in zip(factor, names, strict=True)], dtype=str
    )
    island = rng.random(count) < chance
    return Genes(tss, strand, start, end, coding, kind, island, factor, ids, names)


def _bodies(
    rng: np.random.Generator, layout: Layout, tss: np.ndarray, strand: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gene bodies: lognormal lengths, mostly ending before the next start site or a gap."""
    length = np.exp(rng.normal(np.log(7_000), 0.8, len(tss))).clip(900, 60_000)
    order = np.concatenate([[-(10**9)], tss, [10**12]])
    ahead = np.where(strand > 0, order[2:] - tss, tss - order[:-2])
    length = np.minimum(length, np.maximum(1_200, 0.92 * ahead)).astype(np.int64)
    first = np.where(strand > 0, tss, tss - length + 1)
    last = first + length
    chrom = layout.chrom_of(tss)
    for which, low, high in layout.gaps.tolist():
        low, high = layout.starts[which] + low, layout.starts[which] + high
        here = chrom == which
        first = np.where(here & (tss >= high), np.maximum(first, high), first)
        last = np.where(here & (tss < low), np.minimum(last, low), last)
    return first, np.minimum(last, layout.starts[chrom] + layout.lengths[chrom])


def place_enhancers(plan: Plan, layout: Layout, genes: Genes) -> np.ndarray:
    """Global centres of enhancers: about two per gene, at least 1.5 kb from every start site."""
    return _scatter(plan, layout, genes, "enhancers", 2.1, 1_500, 900)


def place_insulators(plan: Plan, layout: Layout, genes: Genes, taken: np.ndarray) -> np.ndarray:
    """Global centres of CTCF sites outside promoters and enhancers."""
    centre = _scatter(plan, layout, genes, "insulators", 0.6, 600, 2_000)
    return centre[_distance(centre, np.sort(taken)) > 500]


def _scatter(
    plan: Plan, layout: Layout, genes: Genes, name: str, per_gene: float, clear: int, apart: int
) -> np.ndarray:
    """Random positions in the usable stretches, away from start sites and from each other."""
    found = []
    for chrom in range(plan.chromosomes):
        rng = plan.rng(name, chrom)
        parts = [
            (a + layout.starts[chrom], b + layout.starts[chrom])
            for a, b in usable(plan, layout, chrom)
        ]
        room = sum(end - start for start, end in parts)
        count = int(room / plan.gene_spacing_bp * per_gene * 1.7)
        first = parts[0][1] - parts[0][0]
        place = np.sort(rng.integers(0, room, count))
        site = np.where(place < first, parts[0][0] + place, parts[1][0] + place - first)
        site = site[_distance(site, genes.tss) > clear]
        keep, last = [], -(10**9)
        for position in site.tolist():
            if position - last >= apart:
                keep.append(position)
                last = position
        found.append(np.array(keep, np.int64))
    return np.concatenate(found)


def _distance(position: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance in bp of each position to the nearest of the sorted others."""
    edges = np.concatenate([[-(10**12)], others, [10**12]])
    right = np.searchsorted(edges, position)
    return np.minimum(edges[right] - position, position - edges[right - 1])


def link(plan: Plan, layout: Layout, genes: Genes, enhancers: np.ndarray) -> Links:
    """Give every enhancer one or two genes 3-60 kb away, nearer ones more often."""
    rng = plan.rng("links")
    around = np.searchsorted(genes.tss, enhancers)[:, None] + np.arange(-5, 5)
    valid = (around >= 0) & (around < len(genes))
    around = around.clip(0, len(genes) - 1)
    distance = np.abs(genes.tss[around] - enhancers[:, None])
    valid &= layout.chrom_of(genes.tss)[around] == layout.chrom_of(enhancers)[:, None]
    valid &= (distance >= 3_000) & (distance <= 60_000)
    # Gumbel noise on log weights: the largest are a draw without replacement.
    weight = -distance / 15_000 + rng.gumbel(size=distance.shape)
    weight = np.where(valid, weight, -np.inf)
    ranked = np.argsort(-weight, axis=1)[:, :2]
    rows = np.arange(len(enhancers))[:, None]
    wanted = np.column_stack([np.ones(len(enhancers), bool), rng.random(len(enhancers)) < 0.35])
    row, column = np.nonzero(wanted & np.isfinite(weight[rows, ranked]))
    pick = ranked[row, column]
    return Links(row, around[row, pick], distance[row, pick])
