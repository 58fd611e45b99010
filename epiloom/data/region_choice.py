"""Which stretches of the genome a model of cell types is trained on.

From peaks, as published: a bin counts if at least `least_files` peak files touch it; a tile of the
grid is kept if more than `more_than` of its bins count; chrY is left out. Without peak files: all
tiles of which enough bins are usable, or regions that the user gives. Tiles lie on a grid that
begins with base 0 of every chromosome; only whole tiles are kept.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from epiloom.data.bed import read_bed
from epiloom.data.files import atomic
from epiloom.data.genome import Genome
from epiloom.data.labels import refuse
from epiloom.data.peaks import peak_labels
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

BIN_BP, TILE_BP = 128, 128_000
LEAST_FILES = 10  # published code: count > 9
MORE_THAN = 50  # bins of a tile; the published file is called overlap_count_gt50
WITHOUT = ("chrY",)
COLUMNS = ["chrom", "start", "end", "count"]


def count_files(paths: Sequence[str | Path], genome: Genome, bin_bp: int = BIN_BP) -> np.ndarray:
    """How many peak files touch each bin, uint16 [genome.total(bin_bp)].

    Args:
        paths: BED or narrowPeak, plain or gzip; a file counts once per bin.

    Raises:
        InputError: no file, or faulty lines (see `peaks.peak_labels`).
    """
    if not paths:
        raise InputError("regions", "no peak file; give some, or choose regions without peaks")
    found = np.zeros(genome.total(bin_bp), np.uint16)
    for path in paths:
        found += peak_labels(path, genome, bin_bp)
    return found


def grid(genome: Genome, tile_bp: int = TILE_BP, without: Sequence[str] = WITHOUT) -> pd.DataFrame:
    """All whole tiles: chrom, start, end, in the order of the genome."""
    rows = [
        (chrom, start, start + tile_bp)
        for chrom, length in zip(genome.chromosomes, genome.lengths, strict=True)
        if chrom not in without
        for start in range(0, length - tile_bp + 1, tile_bp)
    ]
    if not rows:
        raise InputError(
            "regions",
            f"no chromosome of {genome.assembly} holds a tile of {tile_bp} bp; choose shorter "
            "tiles or longer chromosomes",
        )
    return pd.DataFrame(rows, columns=COLUMNS[:3])


def count_bins(
    bins: np.ndarray, tiles: pd.DataFrame, genome: Genome, bin_bp: int = BIN_BP
) -> np.ndarray:
    """Bins of each tile that are True, int64 [tiles].

    Args:
        bins: bool [genome.total(bin_bp)]. tiles: chrom, start, end, on the grid of the bins.
    """
    total = np.concatenate([[0], np.cumsum(bins, dtype=np.int64)])
    offset = genome.offsets(bin_bp)[[genome.index(chrom) for chrom in tiles["chrom"]]]
    first = offset + tiles["start"].to_numpy(np.int64) // bin_bp
    return (
        total[first + (tiles["end"] - tiles["start"]).to_numpy(np.int64) // bin_bp] - total[first]
    )


def from_peaks(
    files: np.ndarray,
    genome: Genome,
    bin_bp: int = BIN_BP,
    tile_bp: int = TILE_BP,
    least_files: int = LEAST_FILES,
    more_than: int = MORE_THAN,
    without: Sequence[str] = WITHOUT,
) -> pd.DataFrame:
    """Tiles with enough bins under peaks: chrom, start, end, count (bins that count).

    Args:
        files: of `count_files`.

    Raises:
        InputError: tiles that are no whole number of bins, or no tile left.
    """
    _check_tile(tile_bp, bin_bp)
    tiles = grid(genome, tile_bp, without)
    tiles["count"] = count_bins(files >= least_files, tiles, genome, bin_bp)
    kept = tiles[tiles["count"] > more_than].reset_index(drop=True)
    log.info("%d of %d tiles have more than %d bins", len(kept), len(tiles), more_than)
    if kept.empty:
        raise InputError(
            "regions",
            f"no tile has more than {more_than} bins that {least_files} peak files touch (most: "
            f"{tiles['count'].max()} bins; most files on a bin: {files.max(initial=0)}); lower the "
            "numbers or give more peak files",
        )
    return kept


def from_mask(
    flags: np.ndarray,
    genome: Genome,
    bin_bp: int = BIN_BP,
    tile_bp: int = TILE_BP,
    least_usable: float = 0.5,
    without: Sequence[str] = WITHOUT,
) -> pd.DataFrame:
    """Tiles of which at least a share of the bins is usable: chrom, start, end, count (usable).

    Args:
        flags: uint8 [genome.total(bin_bp)], 0 = usable (mask of the store).
    """
    _check_tile(tile_bp, bin_bp)
    if not 0 < least_usable <= 1:
        raise InputError("regions", f"least_usable {least_usable!r}; give a share from 0 to 1")
    tiles = grid(genome, tile_bp, without)
    tiles["count"] = count_bins(np.asarray(flags) == 0, tiles, genome, bin_bp)
    kept = tiles[tiles["count"] >= least_usable * (tile_bp // bin_bp)].reset_index(drop=True)
    if kept.empty:
        raise InputError(
            "regions",
            f"no tile has {least_usable:.0%} usable bins (most: {tiles['count'].max()} of "
            f"{tile_bp // bin_bp}); lower least_usable, or check gaps and blacklist",
        )
    return kept


def read_regions(
    path: str | Path, genome: Genome, bin_bp: int = BIN_BP, tile_bp: int = TILE_BP
) -> pd.DataFrame:
    """Regions of a BED file: chrom, start, end, in its order.

    Raises:
        InputError: regions of another length, off the grid of bins, twice, overlapping, or beyond
            the chromosome; all at once.
    """
    _check_tile(tile_bp, bin_bp)
    table = read_bed(path, genome)
    problems = []
    for row in table.itertuples():
        if row.end - row.start != tile_bp:
            problems.append(
                f"line {row.line}: {row.end - row.start} bp; regions must have {tile_bp} bp"
            )
        elif row.start % bin_bp:
            problems.append(
                f"line {row.line}: start {row.start} is no multiple of {bin_bp}; bins must fit"
            )
    order = table.sort_values(["chrom", "start"])
    twin = (order["chrom"] == order["chrom"].shift()) & (order["start"] < order["end"].shift())
    problems += [
        f"line {n}: overlaps another region; keep one, or bins count twice"
        for n in order["line"][twin]
    ]
    if table.empty:
        problems.append("holds no region; give a BED file with at least one")
    refuse(path, problems)
    return table[["chrom", "start", "end"]]


def write_regions(path: str | Path, regions: pd.DataFrame) -> None:
    """Regions as BED without header; the count is column 4, as in the published file."""
    with atomic(path) as tmp:
        regions.to_csv(tmp, sep="\t", header=False, index=False, lineterminator="\n")


def _check_tile(tile_bp: int, bin_bp: int) -> None:
    if bin_bp < 1 or tile_bp < bin_bp or tile_bp % bin_bp:
        raise InputError(
            "regions", f"tile_bp {tile_bp} is no multiple of bin_bp {bin_bp}; correct the numbers"
        )
