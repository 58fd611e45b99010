"""Everything about the simulated genome that is not a signal track, made from a plan."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from epiloom.data.simulate import activity, genes, motifs, sequence
from epiloom.data.simulate.layout import BIN, Layout, Plan, lay_out


@dataclass(frozen=True)
class World:
    """The simulated genome and its truth; positions are global (see `Layout`).

    Attributes:
        codes: uint8 [bases], bases 0-3. lower: bool [bases], repeats.
        islands: int64 [islands, 2], CpG islands.
        enhancers, insulators: int64 [n], centres.
        regions: int64 [elements], start of each element's binding sites; elements are promoters
            (in gene order), enhancers, insulators.
        logits: float64 [elements, cells], summed effects of the sites.
    """

    plan: Plan
    layout: Layout
    genes: genes.Genes
    enhancers: np.ndarray
    insulators: np.ndarray
    links: genes.Links
    domains: activity.Domains
    factors: motifs.Factors
    sites: motifs.Sites
    activity: activity.Activity
    regions: np.ndarray
    logits: np.ndarray
    islands: np.ndarray
    codes: np.ndarray
    lower: np.ndarray

    @property
    def element_activity(self) -> np.ndarray:
        """Activity of all elements, [elements, cells]."""
        act = self.activity
        return np.vstack([act.promoter, act.enhancer, act.insulator])

    @property
    def element_kinds(self) -> np.ndarray:
        """What each element is: "promoter", "enhancer" or "insulator"; [elements]."""
        counts = [len(self.genes), len(self.enhancers), len(self.insulators)]
        return np.repeat(["promoter", "enhancer", "insulator"], counts)


def make_world(plan: Plan) -> World:
    """Build genome, genes, regulation and expression."""
    layout = lay_out(plan)
    here = genes.place_genes(plan, layout)
    layout = dataclasses.replace(layout, blacklist=_artefacts(plan, layout, here.tss))
    enhancers = genes.place_enhancers(plan, layout, here)
    insulators = genes.place_insulators(plan, layout, here, enhancers)
    links = genes.link(plan, layout, here, enhancers)
    domains = activity.make_domains(plan, layout)
    factors = motifs.make_factors(plan)
    half = genes.REGION_BP // 2
    regions = np.concatenate([here.motif_region, enhancers - half, insulators - half])
    islands = sequence.islands(plan, layout, here)
    codes = sequence.background(plan, layout, islands)
    chosen = activity.choose_sites(plan, here, factors, len(enhancers), len(insulators))
    sites = motifs.plant(plan, factors, chosen, regions, codes)
    logits = activity.site_logits(sites, factors, len(regions))
    counts = (len(enhancers), len(insulators))
    act = activity.make_activity(plan, here, links, domains, factors, logits, counts)
    spans = np.column_stack([regions - 50, regions + genes.REGION_BP + 50])
    lower = sequence.repeats(plan, layout, spans)
    return World(
        *(plan, layout, here, enhancers, insulators, links, domains, factors, sites, act),
        *(regions, logits, islands, codes, lower),
    )


def _artefacts(plan: Plan, layout: Layout, tss: np.ndarray) -> np.ndarray:
    """About one artefact region per Mb, at least one per chromosome, 4 kb from start sites."""
    found = []
    for chrom in range(plan.chromosomes):
        rng = plan.rng("artefacts", chrom)
        length = int(layout.lengths[chrom])
        wanted = max(1, round(length / 1_000_000))
        gaps = layout.gaps[layout.gaps[:, 0] == chrom, 1:]
        taken = []
        for _ in range(200):
            start = int(rng.integers(0, length - 6_000)) // BIN * BIN
            end = start + int(rng.integers(40, 160)) * BIN
            place = layout.starts[chrom] + start
            near = np.any((tss > place - 4_000) & (tss < place + end - start + 4_000))
            in_gap = np.any((gaps[:, 0] < end) & (gaps[:, 1] > start))
            apart = all(end < low or start > high for _, low, high in taken)
            if not near and not in_gap and apart and len(taken) < wanted:
                taken.append((chrom, start, end))
        found += sorted(taken)
    return np.array(found, np.int64).reshape(-1, 3)
