"""Where a sequence model has to look so that every wanted bin is predicted from full context.

Bins lie on the absolute grid (bin = position // bin_bp). A region's bins are those that it touches;
overlapping regions share them. Windows go only where bins are wanted, as few as cover them, and
what a window has to spare is the same on both sides. B = geometry.bins predicted bins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from epiloom.data.bed import parse_region, read_bed
from epiloom.data.genome import Genome
from epiloom.data.geometry import Geometry
from epiloom.plan.errors import InputError

Region = tuple[str, int, int]  # chromosome, start, end: 0-based, half-open


@dataclass(frozen=True)
class Window:
    """One pass of the model: predicts bins start .. start + B, of which first .. last are due."""

    chrom: str
    start: int
    first: int
    last: int


@dataclass(frozen=True)
class Tiling:
    """How windows are laid.

    Args:
        overlap: bins that neighbouring windows share; there they are blended, each weighted by the
            distance to its edge. 0: no bin is predicted twice.
        anchor: None lays windows where they have the most context for the regions asked for, so
            other regions move them a little. A bin number lays them at anchor + k (B - overlap)
            on every chromosome: a bin's value then does not depend on what else is asked for.
    """

    overlap: int = 0
    anchor: int | None = None


CENTRED = Tiling()


def read_regions(given: Iterable[str], genome: Genome) -> list[Region]:
    """Regions of texts ("chr1:100-200", "chr1") and BED files (plain or gzip), one after the other.

    Raises:
        InputError: what is wrong with any of them.
    """
    found: list[Region] = []
    problems = []
    for text in map(str, given):
        try:
            if text.endswith((".bed", ".bed.gz", ".narrowPeak", ".gz")) or Path(text).is_file():
                table = read_bed(text, genome)[["chrom", "start", "end"]]
                found += table.itertuples(index=False, name=None)
            else:
                found.append(parse_region(text, genome))
        except InputError as err:
            problems += [f"{err.where}: {problem}" for problem in err.problems]
    if problems:
        raise InputError("regions", problems)
    return found


def wanted(regions: Iterable[Region] | None, genome: Genome, bin_bp: int) -> dict[str, list]:
    """Bins that regions touch, as runs [(first, last), ...] per chromosome, in genome order.

    Args:
        regions: in any order, may overlap; None: the whole genome.

    Raises:
        InputError: all regions that are empty, off the end or on an unknown chromosome.
    """
    if regions is None:
        regions = [(c, 0, n) for c, n in zip(genome.chromosomes, genome.lengths, strict=True)]
    touched: dict[str, list] = {chrom: [] for chrom in genome.chromosomes}
    problems = []
    for chrom, start, end in regions:
        said = f"{chrom}:{start}-{end}"
        if chrom not in touched:
            known = ", ".join(genome.chromosomes[:30])
            problems.append(f"{said}: {chrom} is not in {genome.assembly}; it has {known}")
        elif not 0 <= start < end:
            problems.append(f"{said} holds no base; give 0 <= start < end (end not included)")
        elif end > genome.length(chrom):
            last = genome.length(chrom)
            problems.append(
                f"{said} ends beyond {chrom} ({last} bases); end it at {last} or before"
            )
        else:
            touched[chrom].append((start // bin_bp, -(-end // bin_bp)))
    if not problems and not any(touched.values()):
        problems.append("there is none; give at least one")
    if problems:
        more = [f"... and {len(problems) - 20} more"] * (len(problems) > 20)
        raise InputError("regions", problems[:20] + more)
    return {chrom: _merged(runs) for chrom, runs in touched.items() if runs}


def _merged(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    for first, last in sorted(runs):
        if out and first <= out[-1][1]:
            out[-1] = (out[-1][0], max(last, out[-1][1]))
        else:
            out.append((first, last))
    return out


def windows(
    runs: dict[str, list], genome: Genome, geometry: Geometry, tiling: Tiling = CENTRED
) -> list[Window]:
    """The windows that cover the runs of `wanted`, in genome order.

    Raises:
        InputError: an overlap that leaves no step.
    """
    if not 0 <= tiling.overlap < geometry.bins:
        raise InputError(
            "overlap", f"{tiling.overlap} bins; give 0 to {geometry.bins - 1} (half is plenty)"
        )
    out = []
    for chrom, own in runs.items():
        total = -(-genome.length(chrom) // geometry.bin_bp)
        if tiling.anchor is None:
            spans = _greedy(own, geometry.bins, tiling.overlap)
            starts = [_place(span, total, geometry) for span in spans]
        else:
            starts, spans = _fixed(own, geometry.bins, tiling)
        out += [Window(chrom, at, *span) for at, span in zip(starts, spans, strict=True)]
    return out


def _greedy(runs: list, bins: int, overlap: int) -> list[tuple[int, int]]:
    """Due bins of each window: from the first that is not covered to the last within reach."""
    spans, k, at = [], 0, runs[0][0]
    while True:
        reach = at + bins
        while k + 1 < len(runs) and runs[k + 1][0] < reach:
            k += 1
        spans.append((at, min(reach, runs[k][1])))
        if runs[k][1] > reach:
            at = reach - overlap
        elif k + 1 < len(runs):
            k += 1
            at = runs[k][0]
        else:
            return spans


def _place(span: tuple[int, int], total: int, geometry: Geometry) -> int:
    """First predicted bin of the window: its due bins in the middle, no more than needed outside
    the chromosome."""
    first, last = span
    bins, crop = geometry.bins, geometry.crop_bins
    start = first - (bins - (last - first)) // 2
    start = min(start, max(total - bins - crop, last - bins))
    return max(start, min(crop, first))


def _fixed(runs: list, bins: int, tiling: Tiling) -> tuple[list[int], list[tuple[int, int]]]:
    """Windows of a fixed grid that hold a wanted bin, and the due bins of each."""
    step, found = bins - tiling.overlap, {}
    for first, last in runs:
        k = (first - tiling.anchor - bins) // step + 1  # the first window that ends after `first`
        while (start := tiling.anchor + k * step) < last:
            low = found.get(start, (max(start, first), 0))[0]
            found[start] = (low, min(start + bins, last))
            k += 1
    return list(found), list(found.values())


def edge_weights(bins: int, overlap: int) -> np.ndarray:
    """Weights of a window's bins, float64 [bins]: rising from both edges over the overlap to 1."""
    place = np.arange(1, bins + 1)
    return np.minimum(1, np.minimum(place, place[::-1]) / (overlap + 1))
