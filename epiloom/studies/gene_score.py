"""A gene score in the manner of ArchR (Granja et al. 2021), for bulk tracks.

Score of a gene = its length weight x sum over tiles of (distance weight x signal of the tile).

    tiles      500 bp, on the genome's own grid; the 400 whose centres lie within 100 kb of the TSS
    signal     transformed mean of the tile, ln(1 + depth) for reads: the same scale as activity
    distance   d = bp between the tile's nearest base and the body [TSS - 5 kb, gene end], in the
               direction of transcription; 0 where they overlap
    weight     e^(-d / 5000) + e^-1, so 1 + e^-1 on the body
    length     `gene_score`: from 1 (longest body) to 5 (shortest), linear in 1 / length of the
               extended body, as ArchR bounds it; the extremes are those of the gene table
               `gene_score_unbounded`: 5 kb / gene length (TSS to gene end) as it stands

Tiles beyond a chromosome's end do not count. Missing tiles count as the weighted mean of the rest.
Differences from ArchR: the window is 100 kb to both sides of the TSS, not of the body; tiles behind
a neighbouring gene are not cut off; no cap of 4 counts per tile (the logarithm does that); no
scaling to a common sum per cell.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import pandas as pd

from epiloom.data.genome import Genome
from epiloom.data.reads import Reads
from epiloom.data.signal import bin_bigwig, bin_reads, mean
from epiloom.data.store import GenomeStore
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

TILE_BP, WINDOW_BP = 500, 200_000
TILES = WINDOW_BP // TILE_BP
UPSTREAM_BP, DECAY_BP = 5_000, 5_000
MOST = 5.0  # largest length weight; also the numerator, in kb, of the unbounded one
SCORES = ("gene_score", "gene_score_unbounded")
_BLOCK = 2048  # genes at a time


def stored_tiles(
    store: GenomeStore, track: str, bin_bp: int, missing: str, min_covered: float
) -> np.ndarray:
    """Means of 500-bp tiles, float32 [genome.total(500)], from smaller bins of the store.

    A bin counts with its own number of bases, so the last tile of a chromosome is right too.

    Raises:
        InputError: `bin_bp` does not divide 500.
    """
    if TILE_BP % bin_bp:
        raise InputError("bins_bp", f"{bin_bp} does not divide {TILE_BP}; use 25, 50, 100 or 500")
    genome, vector = store.genome, store.track(track, bin_bp)
    offsets = genome.offsets(bin_bp)
    found = []
    for i, length in enumerate(genome.lengths):
        values = vector[offsets[i] : offsets[i + 1]].astype(np.float64)
        widths = np.full(len(values), bin_bp, np.float64)
        widths[-1] = length - (len(values) - 1) * bin_bp
        known = np.isfinite(values)
        starts = np.arange(0, len(values), TILE_BP // bin_bp)
        sums = np.add.reduceat(np.where(known, values * widths, 0), starts)
        covered = np.add.reduceat(np.where(known, widths, 0), starts)
        # bases that a bin counted as 0 are already in its mean
        policy = "covered" if missing == "zero" else missing
        found.append(mean(sums, covered, np.add.reduceat(widths, starts), policy, min_covered))
    return np.concatenate(found).astype(np.float32)


def signal_tiles(
    signal: Reads | str, genome: Genome, missing: str, min_covered: float
) -> np.ndarray:
    """The same from the track itself, for a store without bins that divide 500."""
    if isinstance(signal, Reads):
        binned = bin_reads(signal, genome, [TILE_BP])
    else:
        binned = bin_bigwig(signal, genome, [TILE_BP], missing, min_covered)
    return binned.values[TILE_BP].astype(np.float32)


def bodies(genes: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of TSS - 5 kb .. gene end by strand, int64 [genes], 0-based half-open.

    Not cut at the chromosome's ends: there are no tiles there anyway.
    """
    plus = (genes["strand"] == "+").to_numpy()
    start, end = genes["gene_start"].to_numpy(np.int64), genes["gene_end"].to_numpy(np.int64)
    return np.where(plus, start - UPSTREAM_BP, start), np.where(plus, end, end + UPSTREAM_BP)


def length_weights(genes: pd.DataFrame) -> dict[str, np.ndarray]:
    """Both length weights, float64 [genes], by the name of their score."""
    start, end = bodies(genes)
    inverse = 1.0 / (end - start)
    spread = np.ptp(inverse)
    share = (inverse - inverse.min()) / spread if spread > 0 else np.zeros(len(inverse))
    length = (genes["gene_end"] - genes["gene_start"]).to_numpy(np.float64)
    return {SCORES[0]: 1 + (MOST - 1) * share, SCORES[1]: MOST * 1000 / length}


def gene_scores(
    tiles: np.ndarray,
    genes: pd.DataFrame,
    genome: Genome,
    transform: Callable[[np.ndarray], np.ndarray],
) -> pd.DataFrame:
    """Scores of all genes of the gene table.

    Args:
        tiles: raw means [genome.total(500)], NaN = missing.
        genes: chrom, tss, strand, gene_start, gene_end.
        transform: applied to the tile means.

    Returns:
        Columns `SCORES`, rows as `genes`; NaN for a gene without any signal in its window, or
        without gene_start or gene_end (a gene table of start sites alone).
    """
    known = genes[["gene_start", "gene_end"]].notna().all(axis=1).to_numpy()
    if not known.all():
        log.info("no gene score for %d genes without gene_start, gene_end", int((~known).sum()))
        found = pd.DataFrame(np.nan, index=range(len(genes)), columns=list(SCORES))
        if known.any():
            found[known] = gene_scores(tiles, genes[known], genome, transform).to_numpy()
        return found
    signal = np.asarray(transform(tiles), np.float64)
    start, end = bodies(genes)
    chrom = np.array([genome.index(c) for c in genes["chrom"]], np.int64)
    tss = genes["tss"].to_numpy(np.int64)
    sums = [
        _sums(signal, genome, chrom[part], tss[part], start[part], end[part])
        for part in np.array_split(np.arange(len(genes)), -(-len(genes) // _BLOCK) or 1)
    ]
    total = np.concatenate(sums)
    return pd.DataFrame({name: total * w for name, w in length_weights(genes).items()})


def _sums(signal, genome, chrom, tss, start, end) -> np.ndarray:
    """Weighted sum of the tiles of each gene, float64 [genes]."""
    # the first tile whose centre, 500 k + 250, is at or after TSS - 100 kb
    first = -(-(tss - WINDOW_BP // 2 - TILE_BP // 2) // TILE_BP)
    tile = first[:, None] + np.arange(TILES)  # [genes, tiles], on the chromosome
    inside = (tile >= 0) & (tile < genome.bins(TILE_BP)[chrom][:, None])
    low = tile * TILE_BP
    gap = np.maximum(start[:, None] - (low + TILE_BP), low - end[:, None])
    weight = np.where(inside, np.exp(-np.maximum(gap, 0) / DECAY_BP) + np.exp(-1), 0)
    values = signal[np.where(inside, genome.offsets(TILE_BP)[chrom][:, None] + tile, 0)]
    known = inside & np.isfinite(values)
    there = np.where(known, weight, 0).sum(axis=1)
    total = np.where(known, weight * np.where(known, values, 0), 0).sum(axis=1)
    share = np.divide(weight.sum(axis=1), there, out=np.full(len(tss), np.nan), where=there > 0)
    return total * share
