"""The DNA: isochores, CpG islands with a real CpG contrast, repeats, gaps, binding sites."""

from __future__ import annotations

import numpy as np

from epiloom.data.simulate.genes import Genes
from epiloom.data.simulate.layout import BIN, Layout, Plan

GC_STEP_BP = 1_000  # resolution of the isochores
CPG_LOSS = 0.78  # chance that a CpG outside islands has decayed to TpG or CpA
LETTERS = np.frombuffer(b"ACGTacgt", np.uint8)


def islands(plan: Plan, layout: Layout, genes: Genes) -> np.ndarray:
    """Global CpG islands (start, end) [islands, 2] around the promoters that have one."""
    rng = plan.rng("islands")
    width = rng.integers(600, 1_600, len(genes))
    shift = (width * rng.uniform(0.35, 0.65, len(genes))).astype(np.int64)
    start = genes.tss - shift
    low = layout.starts[layout.chrom_of(genes.tss)]
    return np.column_stack([np.maximum(start, low), start + width])[genes.island]


def background(plan: Plan, layout: Layout, island: np.ndarray) -> np.ndarray:
    """Bases 0-3 (A, C, G, T) of all chromosomes before binding sites are planted, uint8 [bases]."""
    inside = mark(layout, island)
    parts = []
    for chrom in range(plan.chromosomes):
        rng = plan.rng("sequence", chrom)
        begin, end = layout.starts[chrom : chrom + 2]
        size = int(end - begin)
        gc = np.repeat(_isochores(rng, -(-size // GC_STEP_BP)), GC_STEP_BP)[:size]
        here = inside[begin:end]
        gc = np.where(here, np.float32(0.66), gc)
        strong = rng.random(size, dtype=np.float32) < gc
        second = rng.integers(0, 2, size, dtype=np.uint8)
        codes = np.where(strong, 1 + second, 3 * second).astype(np.uint8)
        pair = np.flatnonzero((codes[:-1] == 1) & (codes[1:] == 2) & ~here[:-1])
        pair = pair[rng.random(len(pair)) < CPG_LOSS]
        to_tpg = rng.random(len(pair)) < 0.5
        codes[pair[to_tpg]] = 3
        codes[pair[~to_tpg] + 1] = 0
        parts.append(codes)
    return np.concatenate(parts)


def _isochores(rng: np.random.Generator, steps: int) -> np.ndarray:
    """GC share per 1-kb step, constant over isochores of 50-200 kb, float32 [steps]."""
    lengths = rng.integers(50, 200, steps // 50 + 1)
    level = rng.normal(0.41, 0.045, len(lengths)).clip(0.33, 0.55)
    return (np.repeat(level, lengths)[:steps] + rng.normal(0, 0.01, steps)).astype(np.float32)


def mark(layout: Layout, regions: np.ndarray) -> np.ndarray:
    """True for every base inside global regions [n, 2]; bool [bases]."""
    step = np.zeros(layout.size + 1, np.int8)
    np.add.at(step, regions[:, 0], 1)
    np.add.at(step, np.minimum(regions[:, 1], layout.size), -1)
    return np.cumsum(step[:-1], dtype=np.int16) > 0


def repeats(plan: Plan, layout: Layout, elements: np.ndarray) -> np.ndarray:
    """True for bases in interspersed repeats (about 45 %), never inside elements; bool [bases]."""
    rng = plan.rng("repeats")
    count = layout.size // 750
    start = np.sort(rng.integers(0, layout.size, count))
    length = np.exp(rng.normal(np.log(310), 0.75, count)).clip(30, 6_000).astype(np.int64)
    found = mark(layout, np.column_stack([start, start + length]))
    return found & ~mark(layout, elements)


def letters(layout: Layout, codes: np.ndarray, lower: np.ndarray, chrom: int) -> np.ndarray:
    """ASCII bases of one chromosome: repeats in lower case, gaps as N; uint8 [length]."""
    begin = int(layout.starts[chrom])
    span = slice(begin, begin + int(layout.lengths[chrom]))
    text = LETTERS[codes[span] + 4 * lower[span].astype(np.uint8)]
    for which, start, end in layout.gaps.tolist():
        if which == chrom:
            text[start:end] = ord("N")
    return text


def gc_bins(codes: np.ndarray) -> np.ndarray:
    """GC share per bin, float32 [bins]."""
    strong = (codes == 1) | (codes == 2)
    return strong.reshape(-1, BIN).mean(axis=1, dtype=np.float32)
