"""Windows that sequence models train on, stop on and are scored on; and proof that they are apart.

Windows lie on the absolute grid of bins (a start is a multiple of bin_bp), inside a chromosome.
Whole chromosomes belong to a part: no bin of a test chromosome is ever in training, whatever the
stride, and whatever shift is drawn later, since a shift never leaves the chromosome.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from epiloom.data.folds import part_of
from epiloom.data.genome import Genome
from epiloom.data.geometry import Geometry
from epiloom.plan.errors import InputError

RULES = ("max_masked", "drop_any")
SPLITS = ("chromosomes", "random_windows")
RANDOM_TRAIN = 0.8  # as published


def tiled(genome: Genome, geometry: Geometry, strides: Mapping[str, int]) -> pd.DataFrame:
    """Windows from the start of every chromosome on, none across its end.

    Args:
        strides: bases from one window to the next, per chromosome; multiples of bin_bp.

    Returns:
        chrom, start, in genome order.

    Raises:
        InputError: a stride off the grid.
    """
    _check_strides(strides, geometry)
    starts = [
        np.arange(0, length - geometry.seq_bp + 1, strides[chrom], dtype=np.int64)
        for chrom, length in zip(genome.chromosomes, genome.lengths, strict=True)
    ]
    counts = [len(s) for s in starts]
    return pd.DataFrame(
        {"chrom": np.repeat(genome.chromosomes, counts), "start": np.concatenate(starts)}
    )


def _check_strides(strides: Mapping[str, int], geometry: Geometry) -> None:
    bad = sorted({s for s in strides.values() if s < 1 or s % geometry.bin_bp})
    if bad:
        raise InputError(
            "stride", f"{bad} bp; give a multiple of the bin size, {geometry.bin_bp} bp"
        )


def covering(
    regions: pd.DataFrame, genome: Genome, geometry: Geometry, strides: Mapping[str, int]
) -> pd.DataFrame:
    """Windows whose predicted bins tile the regions, for targets that are known there only.

    The first window predicts from the first bin of a region on, the last one up to its last bin. A
    region of fewer bins than are predicted gets one window, with the region in its middle. Windows
    across a chromosome's end are left out.

    Args:
        regions: chrom, start, end; touching ones count as one. A bin belongs to a region if all of
            it lies inside.
        strides: as for `tiled`.

    Returns:
        chrom, start, in genome order, each window once.
    """
    _check_strides(strides, geometry)
    b, own = geometry.bin_bp, []
    for chrom, first, last in inner_bins(regions, genome, b):
        end = last - geometry.bins
        if end < first:
            begins = [first - (geometry.bins - (last - first)) // 2]
        else:
            begins = [*range(first, end, strides[chrom] // b), end]
        starts = np.array(begins) * b - geometry.crop_bp
        inside = (starts >= 0) & (starts + geometry.seq_bp <= genome.length(chrom))
        own += [(genome.index(chrom), start) for start in starts[inside].tolist()]
    places = np.array(sorted(set(own)), np.int64).reshape(-1, 2)
    names = np.asarray(genome.chromosomes)[places[:, 0]]
    return pd.DataFrame({"chrom": names, "start": places[:, 1]})


def inner_bins(regions: pd.DataFrame, genome: Genome, bin_bp: int) -> list[tuple[str, int, int]]:
    """Runs of bins (chrom, first, last), last not included, that lie inside regions altogether."""
    found = []
    for chrom in genome.chromosomes:
        own = regions[regions["chrom"] == chrom].sort_values("start")
        merged: list[list[int]] = []
        for start, end in zip(own["start"].tolist(), own["end"].tolist(), strict=True):
            if merged and start <= merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], end)
            else:
                merged.append([start, end])
        bins = ((-(-start // bin_bp), end // bin_bp) for start, end in merged)
        found += [(chrom, first, last) for first, last in bins if first < last]
    return found


def centred(regions: pd.DataFrame, genome: Genome, geometry: Geometry) -> pd.DataFrame:
    """One window around the middle of every region; those across a chromosome's end are left out.

    Args:
        regions: chrom, start, end, in any order (bed.read_bed).

    Returns:
        chrom, start, in genome order, each window once.
    """
    middle = (regions["start"] + regions["end"]).to_numpy() // 2
    starts = np.array([geometry.around(int(m)) for m in middle], np.int64)
    index = np.array([genome.index(str(c)) for c in regions["chrom"]], np.int64)
    lengths = np.asarray(genome.lengths, np.int64)[index] if len(index) else index
    inside = (starts >= 0) & (starts + geometry.seq_bp <= lengths)
    places = np.unique(np.stack([index[inside], starts[inside]], axis=1), axis=0)
    names = np.asarray(genome.chromosomes)[places[:, 0]]
    return pd.DataFrame({"chrom": names, "start": places[:, 1]})


def masked_share(
    chroms: Sequence[str], starts: Sequence[int], flags: np.ndarray, genome: Genome, geometry
) -> tuple[np.ndarray, np.ndarray]:
    """Share of flagged bins per window, of all its bins and of those that are predicted.

    Args:
        chroms, starts: windows [n] inside their chromosomes, on the grid.
        flags: uint8 [genome.total(bin_bp)], not 0 = masked (genome.mask).

    Returns:
        float64 [n] twice.

    Raises:
        InputError: flags of another genome or bin size.
    """
    b = geometry.bin_bp
    if flags.shape != (genome.total(b),):
        raise InputError("mask", f"has shape {flags.shape}; give the one of bins of {b} bp")
    before = np.zeros(len(flags) + 1, np.int32)
    np.cumsum(flags > 0, out=before[1:], dtype=np.int32)
    offsets = dict(zip(genome.chromosomes, genome.offsets(b).tolist(), strict=False))
    first = np.array([offsets[c] for c in chroms], np.int64) + np.asarray(starts, np.int64) // b
    bins, crop = geometry.seq_bp // b, geometry.crop_bins
    whole = before[first + bins] - before[first]
    inner = before[first + bins - crop] - before[first + crop]
    return whole / bins, inner / geometry.bins


def windows(
    genome: Genome,
    geometry: Geometry,
    fold: Mapping[str, object],
    stride_bp: int | None = None,
    held_out_stride_bp: int | None = None,
    flags: np.ndarray | None = None,
    rule: str = "max_masked",
    max_masked: float = 0.5,
    regions: pd.DataFrame | None = None,
    within: pd.DataFrame | None = None,
    split: str = "chromosomes",
    seed: int = 2022,
) -> pd.DataFrame:
    """The table of windows.

    Args:
        fold: {"validation": [chromosomes], "test": [chromosomes]}; every other one trains.
        stride_bp: of the training windows; None: seq_bp (they touch).
        held_out_stride_bp: of validation and test windows; None: as many bases as are predicted, so
            that every bin is scored once.
        flags: masked bins, uint8 [genome.total(bin_bp)]; None: none.
        rule: "drop_any" leaves out every window that touches a masked bin, as published;
            "max_masked" those with a larger share than `max_masked`, and those without any
            unmasked predicted bin.
        regions: chrom, start, end: windows around their middles instead of tiles.
        within: chrom, start, end: tiles of these regions instead of chromosomes (see `covering`).
        split: "chromosomes"; or "random_windows", which ignores the fold and deals 80 % of the
            windows to training, the rest to validation, only to repeat what was published:
            neighbours, and with a small stride the same bins, are then in both parts.
        seed: of that deal.

    Returns:
        chrom, start, part ("train", "validation", "test"), in genome order.

    Raises:
        InputError: unusable arguments, a part without any window.
    """
    _check_rules(rule, max_masked, split)
    if regions is not None:
        table = centred(regions, genome, geometry)
    else:
        apart = split == "random_windows"
        held = set() if apart else {*fold.get("validation", ()), *fold.get("test", ())}
        stride, other = stride_bp or geometry.seq_bp, held_out_stride_bp or geometry.target_bp
        strides = {c: other if c in held else stride for c in genome.chromosomes}
        table = (
            tiled(genome, geometry, strides)
            if within is None
            else covering(within, genome, geometry, strides)
        )
    if flags is not None and len(table):
        whole, inner = masked_share(table["chrom"], table["start"], flags, genome, geometry)
        keep = whole == 0 if rule == "drop_any" else (whole <= max_masked) & (inner < 1)
        table = table[keep].reset_index(drop=True)
    if split == "random_windows":
        return table.assign(part=_dealt(len(table), seed))
    return table.assign(part=part_of(table["chrom"].to_numpy(str), fold))


def _check_rules(rule: str, max_masked: float, split: str) -> None:
    problems = []
    if rule not in RULES:
        problems.append(f"rule {rule!r}; choose one of {', '.join(RULES)}")
    if not 0 <= max_masked <= 1:
        problems.append(f"max_masked {max_masked!r}; give a share from 0 to 1")
    if split not in SPLITS:
        problems.append(f"split {split!r}; choose one of {', '.join(SPLITS)}")
    if problems:
        raise InputError("windows", problems)


def _dealt(n: int, seed: int) -> np.ndarray:
    """80 % "train", the rest "validation", at random."""
    if n < 2:
        raise InputError("windows", f"{n} windows cannot be dealt to two parts; give more genome")
    parts = np.full(n, "validation", dtype="<U10")
    train = np.random.default_rng(seed).permutation(n)[: max(round(RANDOM_TRAIN * n), 1)]
    parts[train] = "train"
    return parts


def check_apart(table: pd.DataFrame) -> None:
    """Raise InputError if a chromosome of the table is in more than one part."""
    parts = table.groupby("chrom", sort=False)["part"].unique()
    mixed = [f"{chrom} is in {' and '.join(own)}" for chrom, own in parts.items() if len(own) > 1]
    if mixed:
        raise InputError("windows", [f"{line}; split by whole chromosomes" for line in mixed])
