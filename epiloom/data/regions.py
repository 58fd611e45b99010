"""Exact means of a track over regions of different lengths, their bins one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from epiloom.data.genome import Genome, check_chromosomes
from epiloom.data.partners import BIN_BP
from epiloom.data.reads import Reads
from epiloom.data.signal import check_policy, mean, open_bigwig

EDGES = 1_000_000  # bin edges handled at a time; bounds the memory
RUN_BP, GAP_BP = 1_000_000, 20_000  # neighbouring regions of a bigWig are read together


def region_features(
    source: str | Path | Reads,
    regions: pd.DataFrame,
    genome: Genome,
    missing: str = "nan",
    min_covered: float = 0.5,
) -> np.ndarray:
    """Raw 100-bp means of one track over the regions of a partner table, never reversed.

    Args:
        source: bigWig or reads; regions: as `region_table` returns them; missing, min_covered: see
            signal.py.

    Returns:
        float32 [bins of all regions], NaN = missing.
    """
    if isinstance(source, Reads):
        check_chromosomes(source.lengths, source.name, genome, ())
    else:
        with open_bigwig(source, genome):
            pass  # opened only to check that it fits the genome
    columns = (regions[c].to_numpy() for c in ("chrom", "start", "end"))
    return region_means(source, *columns, BIN_BP, missing, min_covered)


def region_means(
    source: str | Path | Reads,
    chroms: Sequence[str],
    starts: Sequence[int],
    ends: Sequence[int],
    bin_bp: int,
    missing: str = "nan",
    min_covered: float = 0.5,
) -> np.ndarray:
    """Bin means of regions; the last bin of a region is the mean over the bases it has.

    Args:
        source: a bigWig file, or reads (depth, never missing).
        chroms, starts, ends: per region [n], in any order; they may overlap.
        missing, min_covered: see signal.py; used for bigWig.

    Returns:
        float32 [sum of ceil(length / bin_bp)], in the order of the regions; NaN = missing, or a
        chromosome that the bigWig does not have.
    """
    check_policy(missing, min_covered, source)
    chroms = np.asarray(chroms, dtype=str)
    starts, ends = np.asarray(starts, np.int64), np.asarray(ends, np.int64)
    counts = -(-(ends - starts) // bin_bp)
    first = np.concatenate([[0], np.cumsum(counts)])
    out = np.full(first[-1], np.nan, np.float32)
    order = np.lexsort((starts, chroms))
    if isinstance(source, Reads):
        for rows in _parts(order, chroms, counts):
            edges, inner = _edges(starts[rows], ends[rows], bin_bp)
            chrom = str(chroms[rows[0]])
            sums = np.diff(source.covered(chrom, edges))[inner]
            widths = np.diff(np.clip(edges, 0, source.lengths[chrom]))[inner]
            out[_bins(first[rows], counts[rows])] = mean(sums, widths, widths, "covered", 1)
        return out
    with open_bigwig(source) as file:
        lengths = file.chroms()
        for rows in _runs(order, chroms, starts, ends):
            chrom = str(chroms[rows[0]])
            if chrom in lengths:
                edges, inner = _edges(starts[rows], ends[rows], bin_bp)
                means = _bigwig_means(file, chrom, lengths[chrom], edges, inner)
                out[_bins(first[rows], counts[rows])] = mean(*means, missing, min_covered)
    return out


def _edges(starts: np.ndarray, ends: np.ndarray, bin_bp: int) -> tuple[np.ndarray, np.ndarray]:
    """All bin edges of the regions, and which of the steps between them are bins."""
    counts = -(-(ends - starts) // bin_bp)
    last = np.cumsum(counts + 1) - 1
    within = np.arange(last[-1] + 1) - np.repeat(last - counts, counts + 1)
    edges = np.minimum(np.repeat(starts, counts + 1) + within * bin_bp, np.repeat(ends, counts + 1))
    inner = np.ones(len(edges) - 1, bool)
    inner[last[:-1]] = False  # from the end of a region to the start of the next
    return edges, inner


def _bins(first: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Numbers of the regions' bins, one region after the other."""
    done = np.cumsum(counts) - counts
    return np.repeat(first - done, counts) + np.arange(counts.sum())


def _parts(order: np.ndarray, chroms: np.ndarray, counts: np.ndarray) -> Iterator[np.ndarray]:
    """Rows of one chromosome each, so few that their bins fit in memory."""
    part = np.cumsum(counts[order] + 1) // EDGES
    names = chroms[order]
    new = (names[1:] != names[:-1]) | (part[1:] != part[:-1])
    yield from (rows for rows in np.split(order, np.flatnonzero(new) + 1) if len(rows))


def _runs(
    order: np.ndarray, chroms: np.ndarray, starts: np.ndarray, ends: np.ndarray
) -> Iterator[np.ndarray]:
    """Rows of neighbouring regions, read in one go: the blocks of the file are unpacked once."""
    run: list[int] = []
    reach = 0  # end of the run
    for row in order:
        if run:
            far = chroms[row] != chroms[run[0]] or starts[row] > reach + GAP_BP
            if far or max(reach, ends[row]) - starts[run[0]] > RUN_BP:
                yield np.array(run)
                run = []
        reach = max(reach, ends[row]) if run else ends[row]
        run.append(row)
    if run:
        yield np.array(run)


def _bigwig_means(
    file, chrom: str, length: int, edges: np.ndarray, inner: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums, covered bases and widths of the bins; bases beyond the chromosome have no width."""
    low, high = int(edges.min()), int(edges.max())
    data = np.full(high - low + 1, np.nan)  # one more, so that an edge may stand at the end
    inside = max(low, 0), min(high, length)
    if inside[0] < inside[1]:
        values = file.values(chrom, *inside, numpy=True)
        if len(values):
            data[inside[0] - low : inside[1] - low] = values
    gap = np.isnan(data)
    data[gap] = 0
    places = edges - low
    sums = np.add.reduceat(data, places)[:-1][inner]
    covered = np.add.reduceat((~gap).astype(np.float64), places)[:-1][inner]
    return sums, covered, np.diff(np.clip(edges, 0, length))[inner]
