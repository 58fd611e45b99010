"""Three-dimensional and time-like tracks: capture Hi-C, HiChIP loops, replication, conservation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from epiloom.data.simulate.addresses import LOOPS, Addresses
from epiloom.data.simulate.layout import BIN, Layout
from epiloom.data.simulate.world import World
from epiloom.data.simulate.writers import write_runs, write_table, write_text

# Capture Hi-C tissue that stands for each epigenome in the published distal models.
TISSUES = {
    **{"E003": "H1", "E004": "ME", "E005": "TB", "E006": "MSC", "E007": "NPC", "E016": "H1"},
    **{"E066": "LI11", "E087": "PA", "E114": "LG", "E116": "GM", "E118": "LI11"},
}
TIMED = {"Bg02es": "E003", "Gm12878": "E116", "Hepg2": "E118", "Imr90": None}
CONSERVED = 0.4  # share of the binding sites
DECOYS = 4  # stretches as conserved as elements and sites, for each of them
FRAGMENT_BP, SHORTEST_BP = 2_000, 500
ANCHOR_BP = 1_000
NEAREST_BP, SPAN_BP = 3_000, 100_000  # shortest and longest loop
BOUND = 0.5  # least activity of a CTCF site with loops
TIMING_BP = 1_000


def write_capture(world: World, addresses: Addresses) -> int:
    """Promoter-other pairs with a score per tissue: true links and distance-dependent noise."""
    edges = _fragments(world)
    genes, links, layout = world.genes, world.links, world.layout
    rng = world.plan.rng("capture")
    count = 8 * len(genes)
    noisy = np.repeat(np.arange(len(genes)), 8)
    far = np.exp(rng.normal(np.log(80_000), 1.0, count)) * rng.choice([-1, 1], count)
    gene = np.concatenate([links.gene, noisy])
    other = np.concatenate([world.enhancers[links.enhancer], genes.tss[noisy] + far.astype(int)])
    true = np.arange(len(gene)) < len(links.gene)
    tissues = list(dict.fromkeys(TISSUES[cell] for cell in world.plan.cells))
    scores = rng.exponential(0.55, (len(gene), len(tissues)))
    for column, tissue in enumerate(tissues):
        cells = [i for i, cell in enumerate(world.plan.cells) if TISSUES[cell] == tissue]
        strength = world.activity.enhancer[links.enhancer][:, cells].mean(axis=1)
        bonus = (1.6 + 2.0 * strength) * np.exp(rng.normal(0, 0.35, len(strength)))
        scores[true, column] += bonus
    first = np.searchsorted(edges, genes.tss[gene], side="right") - 1
    second = np.searchsorted(edges, other, side="right") - 1
    inside = (other >= 0) & (other < layout.size) & (first != second)
    inside &= layout.chrom_of(genes.tss[gene]) == layout.chrom_of(other)
    inside &= genes.coding[gene]
    table = pd.DataFrame(np.round(scores[inside], 3), columns=tissues)
    table.insert(0, "second", second[inside])
    table.insert(0, "first", first[inside])
    table = table.groupby(["first", "second"], as_index=False).max()
    names = _fragment_names(world, edges)
    table.insert(0, "frag2", names[table.pop("second")])
    table.insert(0, "frag1", names[table.pop("first")])
    write_table(addresses("pchic_interactions"), table, 3)
    return len(table)


def _fragments(world: World) -> np.ndarray:
    """Global starts of restriction fragments, with the end of the last; int64 [fragments + 1]."""
    rng = world.plan.rng("fragments")
    layout = world.layout
    parts = []
    for begin, end in zip(layout.starts[:-1], layout.starts[1:], strict=True):
        count = int((end - begin) / FRAGMENT_BP * 2) + 20
        place = begin + np.cumsum(SHORTEST_BP + rng.exponential(FRAGMENT_BP, count))
        parts.append(np.r_[begin, place[place < end - SHORTEST_BP]].astype(np.int64))
    return np.concatenate([*parts, [layout.size]])


def _fragment_names(world: World, edges: np.ndarray) -> np.ndarray:
    """`chr.start.end` of every fragment."""
    names, starts = world.layout.local(edges[:-1])
    chrom = world.layout.chrom_of(edges[:-1])
    ends = np.minimum(edges[1:] - world.layout.starts[chrom], world.layout.lengths[chrom])
    rows = zip(names, starts.tolist(), ends.tolist(), strict=True)
    return np.array([f"{name}.{start}.{end}" for name, start, end in rows])


def write_loops(world: World, addresses: Addresses) -> int:
    """HiChIP-like loops of every cell in one BEDPE file: 1-kb anchors, score = -log10 q.

    They lie as those of cohesin do, between neighbouring CTCF sites that the cell's CTCF binds; one
    in forty connects any two places.
    """
    layout, sites = world.layout, np.sort(world.insulators)
    order = np.argsort(world.insulators)
    lines = ["#chrom1\tstart1\tend1\tchrom2\tstart2\tend2\tname\tscore\tstrand1\tstrand2\tcell"]
    for column, cell in enumerate(world.plan.cells):
        rng = world.plan.rng("loops", cell)
        bound = sites[world.activity.insulator[order, column] > BOUND]
        one, two = bound[:-1], bound[1:]
        stray = rng.integers(0, len(one), len(one) // 40)
        moved = two[stray] + rng.integers(-SPAN_BP // 2, SPAN_BP // 2, len(stray))
        one, two = np.r_[one, one[stray]], np.r_[two, moved.clip(0, layout.size - 1)]
        names, first = layout.local(one)
        other, second = layout.local(two)
        limit = layout.lengths[layout.chrom_of(one)]
        anchors = np.sort(np.column_stack([first, second]) // ANCHOR_BP * ANCHOR_BP, axis=1)
        apart = anchors[:, 1] - anchors[:, 0]
        kept = (names == other) & (apart >= NEAREST_BP) & (apart <= SPAN_BP)
        score = 3 + rng.gamma(2.0, 2.0, len(one))
        for row in np.flatnonzero(kept).tolist():
            start = anchors[row].tolist()
            ends = [min(place + ANCHOR_BP, int(limit[row])) for place in start]
            lines.append(
                f"{names[row]}\t{start[0]}\t{ends[0]}\t{names[row]}\t{start[1]}\t{ends[1]}"
                f"\t{cell}_loop{row}\t{score[row]:.3f}\t.\t.\t{cell}"
            )
    write_text(addresses.out / LOOPS, lines)
    return len(lines) - 1


def write_timing(world: World, addresses: Addresses) -> list[str]:
    """Replication timing in 1-kb steps, higher = earlier: smooth and high over open domains."""
    written = []
    for line, cell in TIMED.items():
        if cell is not None and cell not in world.plan.cells:
            continue
        openness = world.domains.openness
        level = openness.mean(axis=1) if cell is None else openness[:, world.plan.cells.index(cell)]
        noise = world.plan.rng("timing", line).normal(0, 0.15, len(level))
        spread = world.domains.per_bin(level + noise)
        smooth = _smooth(world, spread, 60_000 // BIN)
        path = addresses("replication_timing", cell_line=line)
        _write_steps(path, world, np.round(40 + 16 * smooth, 2))
        written.append(line)
    return written


def _smooth(world: World, values: np.ndarray, width: int) -> np.ndarray:
    """Two passes of a running mean over `width` bins within each chromosome; [bins]."""
    out = np.empty_like(values)
    for begin, end in zip(
        world.layout.starts[:-1] // BIN, world.layout.starts[1:] // BIN, strict=True
    ):
        part = values[begin:end]
        for _ in range(2):
            half = min(width // 2, len(part) // 4)
            total = np.cumsum(np.pad(part, (half + 1, half), mode="edge"))
            part = (total[2 * half + 1 :] - total[: -2 * half - 1]) / (2 * half + 1)
        out[begin:end] = part
    return out


def _write_steps(path: Path, world: World, values: np.ndarray) -> None:
    """Write per-bin values as 1-kb steps that begin anew after every gap."""
    layout = world.layout
    starts, ends, found = [], [], []
    for chrom in range(world.plan.chromosomes):
        for low, high in layout.covered(chrom):
            step = np.arange(low, high, TIMING_BP) + layout.starts[chrom]
            stop = np.minimum(step + TIMING_BP, layout.starts[chrom] + high)
            starts.append(step)
            ends.append(stop)
            found.append(values[(step + stop) // 2 // BIN])
    write_runs(path, layout, *map(np.concatenate, (starts, ends, found)))


def write_conservation(world: World, addresses: Addresses, exons: np.ndarray) -> None:
    """phastCons-like values in runs of about 20 bases: high in exons and some binding sites.

    As in real genomes most conserved words are no binding sites and most sites are not conserved:
    conservation alone must not give away where elements are.

    Args:
        exons: global half-open exons, int64 [exons, 2].
    """
    rng = world.plan.rng("conservation")
    layout, sites = world.layout, world.sites
    kept = rng.random(len(sites.start)) < CONSERVED
    span = _with_decoys(rng, layout, sites.start[kept], sites.width[kept])
    regions = _with_decoys(rng, layout, world.regions, np.full(len(world.regions), 240))
    random = rng.integers(0, layout.size, layout.size // 22)
    borders = [random, exons.ravel(), span.ravel(), regions.ravel(), layout.starts]
    covered = []
    for chrom in range(world.plan.chromosomes):
        covered += [
            (layout.starts[chrom] + a, layout.starts[chrom] + b) for a, b in layout.covered(chrom)
        ]
    covered = np.array(covered)
    edges = np.unique(np.concatenate([*borders, covered.ravel()]))
    starts, ends = edges[:-1], edges[1:]
    value = rng.beta(0.35, 3.0, len(starts))
    for places, low, high in ((regions, 0.05, 0.45), (exons, 0.5, 1.0), (span, 0.7, 1.0)):
        inside = _inside(starts, places)
        value[inside] = rng.uniform(low, high, int(inside.sum()))
    live = _inside(starts, covered)
    values = np.round(value[live], 3)
    write_runs(addresses("phastcons"), layout, starts[live], ends[live], values)


def _with_decoys(
    rng: np.random.Generator, layout: Layout, start: np.ndarray, width: np.ndarray
) -> np.ndarray:
    """Stretches (start, end) [n, 2]: the given ones, and `DECOYS` times as many anywhere."""
    anywhere = rng.integers(0, layout.size - width.max(), DECOYS * len(start))
    starts, widths = np.concatenate([start, anywhere]), np.concatenate([width, *[width] * DECOYS])
    return np.column_stack([starts, starts + widths])


def _inside(position: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """True for positions inside any of the (possibly overlapping) regions [n, 2]."""
    opened = np.searchsorted(np.sort(regions[:, 0]), position, side="right")
    closed = np.searchsorted(np.sort(regions[:, 1]), position, side="right")
    return opened > closed
