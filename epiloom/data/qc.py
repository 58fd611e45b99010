"""One line of quality figures per track."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from epiloom.data.store import GenomeStore, describe
from epiloom.plan.errors import InputError
from epiloom.plan.tracks import cell_of, mark_of

COLUMNS = [
    *("track", "cell", "mark", "signal", "source", "assembly", "bin_bp"),
    *("mean", "sd", "q01", "q50", "q99", "q999", "max"),
    *("missing_fraction", "masked_fraction", "clipped_bins", "promoter_share"),
]
PROMOTER_BP = 1000


def qc_row(
    store: GenomeStore,
    track: str,
    bin_bp: int,
    tss_chroms: Sequence[str],
    tss: Sequence[int],
    masked: bool = True,
) -> dict:
    """Quality figures of one stored track.

    Args:
        store, track, bin_bp: which vector; track is named CELL-MARK.SIGNAL.
        tss_chroms, tss: transcription start sites (0-based), for promoter_share.
        masked: leave out bins in gaps and blacklisted regions (the store must have a mask).

    Returns:
        COLUMNS in order. mean, sd, quantiles, max: over bins with a value outside the mask (None if
        there is none). missing_fraction, masked_fraction: of all bins. clipped_bins: bins whose
        mean was beyond float16. promoter_share: share of the summed signal (negatives as 0) that
        lies in bins touching TSS +- 1 kb; like FRiP, about the promoters' share of the genome for a
        track without enrichment.
    """
    about = store.about(track)
    values = store.track(track, bin_bp)
    missing = np.isnan(values)
    flagged = np.zeros(len(values), bool)
    if masked:
        flagged = np.concatenate(
            [
                store.mask(bin_bp, chrom, 0, int(n)) > 0
                for chrom, n in zip(
                    store.genome.chromosomes, store.genome.bins(bin_bp), strict=True
                )
            ]
        )
    used = values[~missing & ~flagged]
    stats = describe(used, (0.01, 0.5, 0.99, 0.999))
    near = promoter_bins(store, bin_bp, tss_chroms, tss) & ~flagged & ~missing
    total = float(np.maximum(used, 0).sum(dtype=np.float64))
    inside = float(np.maximum(values[near], 0).sum(dtype=np.float64))
    cell, mark, signal = cell_of(track), mark_of(track), track.rpartition(".")[2]
    levels = stats["quantiles"]
    row = (track, cell, mark, signal, about["source"]["name"], about["assembly"], bin_bp)
    row += (stats["mean"], stats["std"])
    row += tuple(levels.get(q) for q in ("0.01", "0.5", "0.99", "0.999")) + (stats["max"],)
    row += (float(missing.mean()), float(flagged.mean()), about["bins"][str(bin_bp)]["clipped"])
    row += (inside / total if total > 0 else None,)
    return dict(zip(COLUMNS, row, strict=True))


def promoter_bins(
    store: GenomeStore, bin_bp: int, chroms: Sequence[str], tss: Sequence[int]
) -> np.ndarray:
    """Which bins of the genome touch TSS - 1000 .. TSS + 1000, bool [genome.total(bin_bp)]."""
    genome = store.genome
    chroms, tss = np.asarray(chroms, dtype=str), np.asarray(tss, np.int64)
    if len(chroms) != len(tss):
        raise InputError("TSS", f"{len(chroms)} chromosomes, {len(tss)} positions; give one each")
    step = np.zeros(genome.total(bin_bp) + 1, np.int64)
    offsets, counts = genome.offsets(bin_bp), genome.bins(bin_bp)
    for i, chrom in enumerate(genome.chromosomes):
        here = tss[chroms == chrom]
        first = np.clip((here - PROMOTER_BP) // bin_bp, 0, counts[i])
        last = np.clip(-(-(here + PROMOTER_BP) // bin_bp), 0, counts[i])
        np.add.at(step, offsets[i] + first, 1)
        np.add.at(step, offsets[i] + last, -1)
    return np.cumsum(step[:-1]) > 0
