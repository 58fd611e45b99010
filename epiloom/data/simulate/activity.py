"""From binding sites and factors to activities and expression: the rules that a model may learn."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from epiloom.data.simulate import genes as places
from epiloom.data.simulate.genes import Genes, Links
from epiloom.data.simulate.layout import BIN, Layout, Plan
from epiloom.data.simulate.motifs import (
    CTCF,
    MAX_SITES,
    REPRESSORS,
    SPECIFIC,
    UBIQUITOUS,
    Factors,
    Sites,
)

MAX_LOG_RPKM = 9.0  # log2(RPKM + 1) of a fully active promoter, without noise
SILENT_SHARE = 0.38  # of the (gene, cell) pairs that are not expressed
OF_LINEAGE = 0.8  # of an element's specific sites are of factors that are active in one cell
ACTIVE = 0.3  # presence from which on a factor counts as active in a cell
DECAY_BP = 20_000  # an enhancer's effect falls by e over this distance
ENHANCER_EFFECT = 3.3  # logit per fully active enhancer at distance 0
SHOWN = 0.2  # share of it that the promoter's own chromatin shows; the rest is distal only
ENHANCER_BIAS = -3.0
ON = -2.0  # logit of the least active expressed promoter
KIND_BIAS = {places.HOUSEKEEPING: 0.3, places.SPECIFIC: -1.3, places.SILENT: -4.0}
GENERAL = len(UBIQUITOUS) - 1  # ubiquitous factors but CTCF, which stands last
FIRST_REPRESSOR = len(UBIQUITOUS) + len(SPECIFIC)


@dataclass(frozen=True)
class Domains:
    """Chromatin domains of 60-160 kb.

    Attributes:
        edges: int64 [domains + 1], global starts; a domain never spans two chromosomes.
        polycomb, heterochromatin: float64 [domains, cells], 0 (none) to about 1.
        openness: float64 [domains, cells], about -2 to 2; high domains replicate early.
    """

    edges: np.ndarray
    polycomb: np.ndarray
    heterochromatin: np.ndarray
    openness: np.ndarray

    def of(self, position: np.ndarray) -> np.ndarray:
        """Index of the domain that holds each global position."""
        return np.searchsorted(self.edges, position, side="right") - 1

    def per_bin(self, level: np.ndarray) -> np.ndarray:
        """One value per domain spread over its bins, [bins]."""
        return np.repeat(level, np.diff(self.edges) // BIN)


@dataclass(frozen=True)
class Activity:
    """Truth per cell; every array has one column per cell.

    Attributes:
        promoter: [genes, cells], 0 to 1: the clean expression / MAX_LOG_RPKM, enhancers included.
        marked: [genes, cells], 0 to 1: how active the promoter looks in its own marks. Enhancers
            change transcription more than they change the promoter's chromatin, so that a model
            needs the distal signal to see all of it.
        enhancer: [enhancers, cells], 0 to 1. insulator: [insulators, cells], 0 to 1.
        own: [genes, cells], logit from the promoter's own sites, strength and domain.
        offset: [cells], added to the summed logits before the logistic function.
        clean: [genes, cells], log2(RPKM + 1) without noise. log_rpkm: the same as observed.
    """

    promoter: np.ndarray
    marked: np.ndarray
    enhancer: np.ndarray
    insulator: np.ndarray
    own: np.ndarray
    offset: np.ndarray
    clean: np.ndarray
    log_rpkm: np.ndarray


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Logistic function."""
    return 1.0 / (1.0 + np.exp(-x))


def bound(logit: np.ndarray) -> np.ndarray:
    """Activity 0-1 of an insulator: a good CTCF site is bound nearly everywhere."""
    return sigmoid(5.0 * (logit - 0.5))


def expressed(logit: np.ndarray) -> np.ndarray:
    """Promoter activity 0-1 of a shifted logit: exactly 0 below `ON`, saturating towards 1."""
    floor = sigmoid(np.float64(ON))
    return ((sigmoid(logit) - floor) / (1 - floor)).clip(0, 1)


def make_domains(plan: Plan, layout: Layout) -> Domains:
    """Cut the chromosomes into domains that are open, Polycomb-repressed or heterochromatic."""
    rng = plan.rng("domains")
    edges = []
    for begin, end in zip(layout.starts[:-1].tolist(), layout.starts[1:].tolist(), strict=True):
        while begin < end:
            edges.append(begin)
            begin += int(rng.integers(60_000, 160_000)) // BIN * BIN
    edges = np.array([*edges, layout.size], np.int64)
    count = len(edges) - 1
    base = rng.normal(0, 1, (count, 1))
    own = plan.columns("openness", rng, lambda r, n: r.normal(0, 0.6, (count, n)))
    openness = 0.8 * base + own
    closed = openness < -0.55
    hetero = rng.random((count, 1)) < 0.4  # the kind of repression stays the same in all cells
    level = plan.columns("repression", rng, lambda r, n: r.uniform(0.5, 1.0, (count, n)))
    return Domains(edges, level * (closed & ~hetero), level * (closed & hetero), openness)


def choose_sites(
    plan: Plan, genes: Genes, factors: Factors, enhancers: int, insulators: int
) -> np.ndarray:
    """Which factors bind each element: int64 [promoters + enhancers + insulators, MAX_SITES].

    The specific factors of an element mostly belong to one cell, as those of a lineage do: without
    that, most elements would be half active everywhere.
    """
    rng = plan.rng("choice")
    total = len(genes) + enhancers + insulators

    def some(first: int, count: int, shape: object) -> np.ndarray:
        """Factors of one kind, of those that bind."""
        return first + rng.integers(0, math.ceil(plan.binding_share * count), shape)

    kind = np.concatenate([genes.kind, np.full(enhancers, -1), np.full(insulators, -2)])
    general = some(0, GENERAL, (total, MAX_SITES))
    special = some(len(UBIQUITOUS), len(SPECIFIC), (total, MAX_SITES))
    lineage = rng.integers(0, plan.lineages, total)
    for cell in range(plan.lineages):
        own = np.unique(special[factors.presence[special, cell] > ACTIVE])
        here = (lineage == cell)[:, None] & (rng.random(special.shape) < OF_LINEAGE)
        if len(own):
            special[here] = rng.choice(own, here.sum())
    share = np.select([kind == places.HOUSEKEEPING, kind == places.FACTOR], [0.05, 0.0], 0.88)
    chosen = np.where(rng.random((total, MAX_SITES)) < share[:, None], special, general)
    low = np.select([kind == -2, kind == places.SILENT], [1, 0], 2)
    high = np.select([kind == -2, kind == places.SILENT], [1, 1], 5)
    number = low + (rng.random(total) * (high - low + 1)).astype(np.int64)
    chosen[np.arange(MAX_SITES)[None] >= number[:, None]] = -1
    repressed = (rng.random(total) < 0.18) & (kind != -2)
    chosen[repressed, MAX_SITES - 1] = some(FIRST_REPRESSOR, len(REPRESSORS), repressed.sum())
    chosen[kind == -2, 0] = CTCF
    return chosen


def site_logits(sites: Sites, factors: Factors, elements: int) -> np.ndarray:
    """Summed site effects per element and cell, [elements, cells]."""
    effect = (factors.weight[sites.factor] * sites.strength)[:, None]
    total = np.zeros((elements, factors.log_rpkm.shape[1]))
    np.add.at(total, sites.element, effect * factors.presence[sites.factor])
    return total


def enhancer_input(links: Links, enhancer: np.ndarray, genes: int) -> np.ndarray:
    """Logit that linked enhancers add to every promoter, [genes, cells]."""
    decay = ENHANCER_EFFECT * np.exp(-links.distance / DECAY_BP)
    total = np.zeros((genes, enhancer.shape[1]))
    np.add.at(total, links.gene, decay[:, None] * enhancer[links.enhancer])
    return total


def make_activity(
    plan: Plan,
    genes: Genes,
    links: Links,
    domains: Domains,
    factors: Factors,
    logits: np.ndarray,
    counts: tuple[int, int],
) -> Activity:
    """Activities of all elements and the expression of all genes.

    Args:
        logits: [elements, cells] of `site_logits`: promoters, enhancers, insulators.
        counts: numbers of enhancers and insulators.
    """
    rng = plan.rng("activity")
    n = len(genes)
    enhancer = sigmoid(logits[n : n + counts[0]] + ENHANCER_BIAS)
    insulator = bound(logits[n + counts[0] :])
    insulator *= plan.columns("bound", rng, lambda r, n: r.random((counts[1], n)) < 0.92)
    kind_bias = np.array([*KIND_BIAS.values(), 0.0])[genes.kind]
    strength = rng.normal(0, 0.75, n)
    where = domains.of(genes.tss)
    repression = 2.2 * domains.polycomb[where] + 1.8 * domains.heterochromatin[where]
    own = logits[:n] + (kind_bias + strength)[:, None] - repression
    distal = enhancer_input(links, enhancer, n)
    summed = own + distal
    free = genes.kind != places.FACTOR
    offset = ON - np.quantile(summed[free], SILENT_SHARE, axis=0)
    promoter, marked = expressed(summed + offset), expressed(own + SHOWN * distal + offset)
    given = factors.log_rpkm[genes.factor[~free]]
    promoter[~free] = (given / MAX_LOG_RPKM).clip(0, 1) * (given > 0.7)
    marked[~free] = promoter[~free]
    clean = MAX_LOG_RPKM * promoter
    noise = rng.normal(0, 0.6, (n, 1))
    noise = noise + plan.columns("noise", rng, lambda r, c: r.normal(0, 0.4, (n, c)))
    silent = plan.columns("leak", rng, lambda r, c: r.exponential(0.13, (n, c)))
    silent *= plan.columns("leaky", rng, lambda r, c: r.random((n, c)) < 0.75)
    observed = np.where(clean > 0, np.abs(clean + noise), silent)
    observed[~free] = given
    return Activity(promoter, marked, enhancer, insulator, own, offset, clean, observed)
