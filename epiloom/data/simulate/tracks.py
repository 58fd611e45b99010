"""Signal tracks: reads, p-values and fold changes drawn from the expected depth."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from epiloom.data.simulate.addresses import Addresses
from epiloom.data.simulate.layout import BIN, READ_BP
from epiloom.data.simulate.sequence import letters
from epiloom.data.simulate.signal import ASSAYS, Signal, draw_reads
from epiloom.data.simulate.world import World
from epiloom.data.simulate.writers import write_bam, write_signal, write_tagalign

FRAGMENT_BINS = 8  # reads stand for 200-bp fragments in the peak caller's pileup
LEVELS = 160  # grid of background levels on which Poisson tails are tabulated


def write_tracks(
    world: World, signal: Signal, addresses: Addresses, processes: int = 1
) -> dict[str, int]:
    """Write every track of the plan; returns the number of reads per track."""
    pairs = [(cell, mark) for cell in world.plan.cells for mark in world.plan.assays]
    if processes == 1:
        reads = [write_track(world, signal, addresses, *pair) for pair in pairs]
    else:  # a fork has the genome already; it is never sent from process to process
        common = (world, signal, addresses)
        with ProcessPoolExecutor(processes, get_context("fork"), _share, common) as pool:
            reads = list(pool.map(_write_shared, pairs))
    return {f"{cell}-{mark}": n for (cell, mark), n in zip(pairs, reads, strict=True)}


def _share(*common: object) -> None:
    """What all tracks are made of, kept in a writing process."""
    global _common
    _common = common


def _write_shared(pair: tuple[str, str]) -> int:
    return write_track(*_common, *pair)


def write_track(world: World, signal: Signal, addresses: Addresses, cell: str, mark: str) -> int:
    """Write all files of one track; returns its number of reads."""
    plan = world.plan
    bam = {(cell, mark): accession for accession, cell, mark in plan.bam_tracks}
    counts = draw_reads(world, cell, mark, signal.expected(cell, mark))
    pair = {"cell": cell, "mark": mark}
    pileup, background = enrichment(world, signal, mark, counts)
    values = minus_log10_p(pileup, background)
    write_signal(addresses("roadmap_pval", **pair), world.layout, values)
    if (cell, mark) in plan.fold_change_tracks:
        change = np.round((pileup + 1.0) / (background + 1.0), 3)
        write_signal(addresses("roadmap_fold_change", **pair), world.layout, change)
    if (cell, mark) not in plan.read_tracks and (cell, mark) not in bam:
        return int(counts.sum())
    starts, strands = place_reads(world, cell, mark, counts)
    if (cell, mark) in plan.read_tracks:
        write_tagalign(addresses("roadmap_reads", **pair), world.layout, starts, strands)
    if (cell, mark) in bam:
        path = addresses("encode_file", accession=bam[cell, mark], extension="bam")
        write_bam(path, world.layout, starts, strands, _bases(world))
    return sum(map(len, starts))


def _bases(world: World) -> Iterator[np.ndarray]:
    """ASCII bases in upper case, one chromosome after the other."""
    upper = np.zeros_like(world.lower)
    return (letters(world.layout, world.codes, upper, c) for c in range(world.plan.chromosomes))


def place_reads(
    world: World, cell: str, mark: str, counts: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Sorted 0-based starts and strand letters (codes of + and -) per chromosome.

    Reads that would leave their chromosome or touch a gap are dropped.
    """
    rng = world.plan.rng("places", cell, mark)
    layout = world.layout
    starts, strands = [], []
    for chrom in range(world.plan.chromosomes):
        first, last = layout.starts[chrom : chrom + 2] // BIN
        start = np.repeat(np.arange(last - first) * BIN, counts[first:last])
        # The middle of a read lies in its bin, so that depth follows the expected depth.
        start += rng.integers(-(READ_BP // 2), BIN - READ_BP // 2, len(start))
        start.sort()
        inside = np.zeros(len(start), bool)
        for low, high in layout.covered(chrom):
            inside |= (start >= low) & (start + READ_BP <= high)
        strand = np.where(rng.random(len(start)) < 0.5, ord("+"), ord("-")).astype(np.uint8)
        starts.append(start[inside])
        strands.append(strand[inside])
    return starts, strands


def enrichment(
    world: World, signal: Signal, mark: str, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fragments over each bin, and how many of them the background explains; both [bins]."""
    total = np.cumsum(np.concatenate([np.zeros(FRAGMENT_BINS), counts, np.zeros(FRAGMENT_BINS)]))
    half = FRAGMENT_BINS // 2
    high, low = FRAGMENT_BINS + half, FRAGMENT_BINS - half
    pileup = total[high - 1 : high - 1 + len(counts)] - total[low - 1 : low - 1 + len(counts)]
    usual = counts[~signal.gap].mean() * FRAGMENT_BINS
    background = usual * signal.input * (0.3 + 0.5 * ASSAYS[mark].noise)
    return pileup, np.maximum(background, 1e-3)


def minus_log10_p(pileup: np.ndarray, background: np.ndarray) -> np.ndarray:
    """-log10 of the Poisson chance of at least `pileup` given `background`; 0.01 steps, [bins].

    Backgrounds are rounded to a grid of `LEVELS` values a constant factor apart.
    """
    low, high = np.log(background.min()), np.log(background.max())
    grid = np.exp(np.linspace(low, high, LEVELS))
    scale = (LEVELS - 1) / (high - low) if high > low else 0.0
    level = np.rint((np.log(background) - low) * scale).astype(np.int64)
    most = int(pileup.max()) + 1
    k = np.arange(most + 60 + int(6 * np.sqrt(most)))
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(k[1:]))])
    table = k[None] * np.log(grid)[:, None] - grid[:, None] - log_factorial[None]
    table = np.logaddexp.accumulate(table[:, ::-1], axis=1)[:, ::-1]
    found = -table[level, pileup.astype(np.int64)] / np.log(10)
    return np.round(found.clip(0, None), 2)
