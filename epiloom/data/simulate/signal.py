"""Expected read depth of every assay: shapes around promoters, enhancers, bodies and domains.

A promoter's signal carries its expression in where the signal lies more than in how much there is:
the height saturates early, the stretch of modified nucleosomes downstream of the start site grows
with transcription, and everything upstream (antisense start sites, the upstream nucleosomes'
height, neighbours) is a property of the locus that says nothing about the gene.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from epiloom.data.simulate.activity import sigmoid
from epiloom.data.simulate.layout import BIN, READ_BP
from epiloom.data.simulate.sequence import gc_bins
from epiloom.data.simulate.world import World

REACH_BP = 5_000  # promoter shapes are computed this far on both sides
SITE_REACH_BP = 2_000  # the same for enhancers and CTCF sites
ARTEFACT_DEPTH = 40.0
NOISE_BINS, NOISE_SHAPE = 6, 7.0  # overdispersion: gamma noise per stretch of this many bins


@dataclass(frozen=True)
class Assay:
    """Strength of one assay's signal classes, in units of depth at a fully active promoter.

    Attributes:
        promoter: peaks at active promoters; poised: at CpG islands whatever the expression.
        near, far: downstream reach in bp of a barely and a fully active promoter.
        upstream: height of the upstream nucleosomes; antisense: unannotated upstream start sites.
        enhancer, primed: at active enhancers, at every enhancer. flank: ring around promoters.
        open: narrow accessible core at promoters. insulator: at CTCF sites.
        body: over bodies of expressed genes, rising to their ends.
        polycomb, hetero: over repressed domains.
        depth: mean read depth of a track. noise: share of reads that are background.
    """

    promoter: float = 0.0
    poised: float = 0.0
    near: float = 350.0
    far: float = 2_600.0
    upstream: float = 0.0
    antisense: float = 0.0
    enhancer: float = 0.0
    primed: float = 0.0
    flank: float = 0.0
    open: float = 0.0
    insulator: float = 0.0
    body: float = 0.0
    polycomb: float = 0.0
    hetero: float = 0.0
    depth: float = 1.0
    noise: float = 0.35


ASSAYS = {
    "H3K4me3": Assay(
        *(1.0, 0.30, 350.0, 2_600.0, 0.8, 0.7), enhancer=0.05, flank=0.02, depth=1.3, noise=0.25
    ),
    "H3K27ac": Assay(
        *(1.0, 0.05, 450.0, 2_400.0, 0.85, 0.7), enhancer=0.55, flank=0.05, depth=1.2, noise=0.35
    ),
    "H3K9ac": Assay(
        *(1.0, 0.12, 400.0, 2_500.0, 0.8, 0.65), enhancer=0.25, flank=0.05, depth=1.0, noise=0.35
    ),
    "H3K4me1": Assay(enhancer=0.6, primed=0.35, flank=0.8, depth=1.2, noise=0.45),
    "H3K36me3": Assay(body=1.0, depth=1.2, noise=0.40),
    "H3K27me3": Assay(polycomb=1.0, poised=0.0, depth=1.2, noise=0.50),
    "H3K9me3": Assay(hetero=1.0, depth=1.1, noise=0.60),
    "DNase": Assay(enhancer=0.0, open=1.0, insulator=0.5, depth=2.0, noise=0.30),
    "CTCF": Assay(insulator=1.0, open=0.08, depth=0.9, noise=0.55),
}


@dataclass(frozen=True)
class Locus:
    """Properties of a promoter's place, the same in all cells and unrelated to expression; [genes].

    Attributes:
        height: factor on the whole peak (mappability, CpG density).
        upstream: factor on the upstream nucleosomes. reach: their extent in bp.
        antisense: height of an unannotated upstream start site, often 0. shift: its distance in bp.
        width: its width in bp.
    """

    height: np.ndarray
    upstream: np.ndarray
    reach: np.ndarray
    antisense: np.ndarray
    shift: np.ndarray
    width: np.ndarray


class Signal:
    """Expected depth per bin for every track of a simulated genome."""

    def __init__(self, world: World):
        self.world = world
        plan, layout = world.plan, world.layout
        self.gap = layout.flag(layout.gaps)
        self.artefact = layout.flag(layout.blacklist)
        rng = plan.rng("input")
        slow = np.exp(rng.normal(0, 0.18, layout.bins // 200 + 1)).repeat(200)[: layout.bins]
        self.input = slow * (0.6 + gc_bins(world.codes))
        self.input[self.gap] = 0
        self.input /= self.input[~self.gap].mean()
        self.locus = _loci(world)
        self._offset, self._bin, self._inside = self._windows(world.genes.tss, REACH_BP)
        self._offset = self._offset * world.genes.strand[:, None]
        sites = np.concatenate([world.enhancers, world.insulators])
        self._site_offset, self._site_bin, _ = self._windows(sites, SITE_REACH_BP)

    def _windows(self, centre: np.ndarray, reach: int) -> tuple[np.ndarray, ...]:
        """Distance (bp) of bin centres from each centre, their bins, and whether they exist."""
        steps = np.arange(-reach // BIN, reach // BIN + 1)
        bins = centre[:, None] // BIN + steps
        inside = (bins >= 0) & (bins < self.world.layout.bins)
        distance = bins * BIN + BIN // 2 - centre[:, None]
        return distance.astype(np.float32), bins.clip(0, self.world.layout.bins - 1), inside

    def expected(self, cell: str, mark: str) -> np.ndarray:
        """Expected mean depth per bin of one track, float64 [bins]; 0 in gaps."""
        world = self.world
        column = world.plan.cells.index(cell)
        assay = ASSAYS[mark]
        rng = world.plan.rng("track", cell, mark)
        signal = np.zeros(world.layout.bins)
        self._promoters(signal, assay, mark, column, rng)
        self._sites(signal, assay, column, rng)
        if assay.body:
            self._bodies(signal, column, rng)
        self._domains(signal, assay, column)
        signal[self.gap] = 0
        live = ~self.gap
        noise = assay.noise * rng.uniform(0.8, 1.2)
        depth = assay.depth * rng.uniform(0.8, 1.2)
        mean = signal[live].mean()
        signal *= (1 - noise) / mean if mean > 0 else 0.0
        total = depth * (signal * (0.75 + 0.25 * self.input) + noise * self.input)
        total[self.artefact] += ARTEFACT_DEPTH
        total[self.gap] = 0
        return total

    def _add(self, signal: np.ndarray, bins: np.ndarray, values: np.ndarray) -> None:
        """Add values to bins that may repeat."""
        signal += np.bincount(bins.ravel(), values.ravel(), minlength=len(signal))

    def _promoters(
        self, signal: np.ndarray, assay: Assay, mark: str, column: int, rng: np.random.Generator
    ) -> None:
        """Everything around start sites: peaks, flanks, open cores, poised Polycomb."""
        genes, x = self.world.genes, self._offset
        u = self.world.activity.marked[:, column]
        own = self.world.plan.rng("locus", mark).normal(0, 0.25, len(u))
        own = np.exp(own + rng.normal(0, 0.12, len(u)))
        height = self.locus.height * own
        shape = np.zeros(x.shape, np.float32)
        if assay.promoter:
            shape += self._peaks(assay, height, u, rng)
        if assay.flank:
            ring = sigmoid((np.abs(x) - 900) / 150) * np.exp(-np.abs(x) / 1_500)
            shape += (assay.flank * height * (0.15 + u / (u + 0.25)))[:, None] * ring
        if assay.open:
            core = np.exp(-0.5 * ((x + 40) / 90) ** 2)
            shape += (assay.open * height * (0.1 * genes.island + u / (u + 0.2)))[:, None] * core
        if assay.polycomb:
            strength = 0.9 * (genes.island & (u < 0.05)) * own
            shape += strength[:, None] * sigmoid((1_800 - np.abs(x)) / 250)
        self._add(signal, self._bin, shape * self._inside)

    def _peaks(
        self, assay: Assay, height: np.ndarray, u: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Modified nucleosomes at start sites, [genes, bins].

        The height saturates with the activity `u`; the downstream reach follows it. `height` is the
        locus' own factor. Islands carry a little signal even when silent.
        """
        locus, x = self.locus, self._offset
        active = height * 1.15 * u / (u + 0.15)
        island = self.world.genes.island * (0.5 + 0.5 * (locus.upstream > 0.6))
        top = assay.promoter * np.maximum(active, assay.poised * locus.height * island)
        reach = assay.near + (assay.far - assay.near) * u**0.9
        reach = (reach * np.exp(rng.normal(0, 0.10, len(u))))[:, None]
        down = sigmoid((x - 70) / 30) * sigmoid((reach - x) / 110)
        up = sigmoid((-x - 130) / 30) * sigmoid((locus.reach[:, None] + x) / 110)
        shape = top[:, None] * (down + (assay.upstream * locus.upstream)[:, None] * up)
        far = np.abs(x + locus.shift[:, None])
        anti = locus.antisense * (rng.random(len(u)) < 0.85) * np.exp(rng.normal(0, 0.3, len(u)))
        return shape + assay.antisense * anti[:, None] * sigmoid((locus.width[:, None] - far) / 60)

    def _sites(
        self, signal: np.ndarray, assay: Assay, column: int, rng: np.random.Generator
    ) -> None:
        """Enhancers (two nucleosomes or an open core) and CTCF sites (narrow peaks)."""
        act = self.world.activity
        enhancer, insulator = act.enhancer[:, column], act.insulator[:, column]
        count = len(enhancer)
        enhancer = enhancer * np.exp(rng.normal(0, 0.25, count))
        x = np.abs(self._site_offset)
        if assay.enhancer or assay.primed:
            pair = sigmoid((x[:count] - 110) / 30) * sigmoid((450 - x[:count]) / 80)
            broad = sigmoid((x[:count] - 150) / 60) * np.exp(-x[:count] / 600)
            values = assay.enhancer * enhancer[:, None] * pair
            values += (assay.primed * (0.3 + enhancer))[:, None] * broad
            self._add(signal, self._site_bin[:count], values)
        if assay.open:
            values = 0.7 * assay.open * enhancer[:, None] * np.exp(-0.5 * (x[:count] / 90) ** 2)
            self._add(signal, self._site_bin[:count], values)
        if assay.insulator:
            insulator = insulator * np.exp(rng.normal(0, 0.3, len(insulator)))
            values = assay.insulator * insulator[:, None] * np.exp(-0.5 * (x[count:] / 60) ** 2)
            self._add(signal, self._site_bin[count:], values)

    def _bodies(self, signal: np.ndarray, column: int, rng: np.random.Generator) -> None:
        """Over expressed genes from 300 bp downstream, three times as high at the 3' end."""
        genes = self.world.genes
        strength = self.world.activity.promoter[:, column] * np.exp(rng.normal(0, 0.35, len(genes)))
        first, last = genes.start // BIN, (genes.end - 1) // BIN + 1
        length = last - first
        owner = np.repeat(np.arange(len(genes)), length)
        step = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        bins = first[owner] + step
        travelled = (bins * BIN - genes.tss[owner]) * genes.strand[owner]
        share = (travelled / (genes.end - genes.start)[owner]).clip(0, 1)
        values = strength[owner] * (0.35 + 0.65 * share) * sigmoid((travelled - 300) / 120)
        self._add(signal, bins, values)

    def _domains(self, signal: np.ndarray, assay: Assay, column: int) -> None:
        """Broad repressive domains, with holes over active promoters and enhancers."""
        if not (assay.polycomb or assay.hetero):
            return
        domains = self.world.domains
        level = assay.polycomb * domains.polycomb[:, column]
        level = level + assay.hetero * domains.heterochromatin[:, column]
        spread = domains.per_bin(level)
        u = self.world.activity.marked[:, column]
        hole = np.zeros_like(spread)
        near = np.abs(self._offset) < 3_000
        self._add(hole, self._bin, np.minimum(1, 3 * u)[:, None] * near * self._inside)
        signal += spread * np.exp(-1.6 * hole)


def _loci(world: World) -> Locus:
    """Draw the expression-independent properties of every promoter's place."""
    rng = world.plan.rng("loci")
    n = len(world.genes)
    present = rng.random(n) < 0.42
    return Locus(
        height=np.exp(rng.normal(0, 0.3, n)),
        upstream=rng.uniform(0.1, 1.4, n),
        reach=np.exp(rng.normal(np.log(600), 0.5, n)).clip(250, 2_600),
        antisense=present * np.exp(rng.normal(-0.2, 0.5, n)),
        shift=rng.uniform(800, 2_700, n),
        width=rng.uniform(150, 600, n),
    )


def draw_reads(world: World, cell: str, mark: str, depth: np.ndarray) -> np.ndarray:
    """Reads that start in each bin, int32 [bins]: overdispersed counts of the expected depth."""
    rng = world.plan.rng("reads", cell, mark)
    blocks = -(-len(depth) // NOISE_BINS)
    noise = rng.standard_gamma(NOISE_SHAPE, blocks).repeat(NOISE_BINS)[: len(depth)] / NOISE_SHAPE
    return rng.poisson(depth * noise * (BIN / READ_BP)).astype(np.int32)
