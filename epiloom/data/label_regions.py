"""Labels of regions: enhancer-promoter pairs, FIREs, domain boundaries, replication timing."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from epiloom.data.genome import Genome, mask
from epiloom.data.label_tables import (
    column_of,
    is_spreadsheet,
    numbers,
    on_genome,
    place_columns,
    read_columns,
    read_rows,
    read_sheet,
    spans,
)
from epiloom.data.labels import Labels, combine, refuse
from epiloom.data.signal import open_bigwig, window_means
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

FIRE_SHEET = "primary_cohort"
BOUNDARY_BIN_BP = 40_000
GAP_STEP_BP = 1_000  # gaps are looked up in steps of this size
MOST_GAP = 0.5  # bins with a larger share of gaps are left out
LEAST_COVERED = 0.5  # of a window's bases that must have a value of replication timing
CALL = 0.5  # between the calls 0 and 1
_BIGWIG = (b"\x26\xfc\x8f\x88", b"\x88\x8f\xfc\x26")


def _frame(chroms: pd.Series, spans: Mapping[str, np.ndarray], label: np.ndarray) -> pd.DataFrame:
    """Rows as `labels.combine` takes them."""
    ends = {f"{w}_{e}": s[:, i] for w, s in spans.items() for i, e in enumerate(("start", "end"))}
    return pd.DataFrame({"chrom": chroms.to_numpy(str), **ends, "label": label})


# --- enhancer-promoter pairs ----------------------------------------------------------------------


def promoter_enhancer(files: Mapping[str, str | Path], genome: Genome) -> Labels:
    """Pairs of TargetFinder (Whalen et al. 2016): does the enhancer touch the promoter?

    Args:
        files: cell -> pairs.csv with the columns {promoter,enhancer}_{chrom,start,end} and label;
            window_start and window_end are taken for the window between, without them it is the
            gap between the two.

    Returns:
        Windows promoter, enhancer and between, all pairs of all cells; NaN where a cell does not
        have the pair. Pairs with no base between are left out and counted.
    """
    parts = {cell: _pairs(path, genome) for cell, path in files.items()}
    return combine("promoter_enhancer", parts, genome)


def _pairs(path: str | Path, genome: Genome) -> pd.DataFrame:
    table = read_columns(path)
    sides = ("promoter", "enhancer")
    wanted = [f"{side}_{end}" for side in sides for end in ("start", "end")]
    found = {name: column_of(table, (name,)) for name in [*wanted, "label"]}
    chrom = column_of(table, ("promoter_chrom", "window_chrom", "enhancer_chrom"))
    absent = [name for name, column in found.items() if column is None]
    absent += ["promoter_chrom"] * (chrom is None)
    if absent:
        has = ", ".join(map(str, table.columns[:10]))
        raise InputError(path, f"no column {', '.join(absent)}; it has {has}: give pairs.csv")
    other = column_of(table, ("enhancer_chrom",)) or chrom
    apart = table.index[table[chrom] != table[other]]
    problems = [f"line {n}: promoter and enhancer on two chromosomes; remove it" for n in apart]
    rows = on_genome(path, table, {"chrom": chrom}, genome)
    windows = {}
    for side in sides:
        start, end = (found[f"{side}_{end}"] for end in ("start", "end"))
        windows[side], wrong = spans(path, rows, start, end, genome)
        problems += wrong
    label, wrong = numbers(rows, found["label"])
    bad = rows.index[~np.isin(label, (0, 1))]
    problems += wrong or [f"line {n}: label is not 0 or 1; correct it" for n in bad]
    windows["between"], wrong = _between(rows, windows["promoter"], windows["enhancer"])
    refuse(path, problems + wrong)
    there = windows["between"][:, 1] > windows["between"][:, 0]
    if not there.all():
        log.info("%s: %d pairs with no base between left out", path, int((~there).sum()))
    windows = {name: span[there] for name, span in windows.items()}
    frame = _frame(rows["chrom"][there], windows, label[there])
    once = frame.groupby(list(frame.columns[:-1]), as_index=False)["label"].max()
    if len(once) < len(frame):
        log.info("%s: %d repeated pairs; touching counts", path, len(frame) - len(once))
    return once


def _between(
    rows: pd.DataFrame, promoter: np.ndarray, enhancer: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """The window between the two, int64 [n, 2], without bases where they overlap."""
    gap = np.column_stack(
        [np.minimum(promoter[:, 1], enhancer[:, 1]), np.maximum(promoter[:, 0], enhancer[:, 0])]
    )
    start, end = column_of(rows, ("window_start",)), column_of(rows, ("window_end",))
    if start is None or end is None:
        return gap, []
    given = [numbers(rows, column) for column in (start, end)]
    low, high = (values for values, _ in given)
    told = np.column_stack([low, high])
    # The published window ends one base inside the gap, so where it is none, there is no gap.
    whole = np.isfinite(told).all(axis=1)
    outside = whole & ((low < gap[:, 0]) | (high > gap[:, 1])) & (high > low)
    problems = [
        f"line {n}: window {low[i]:.0f}-{high[i]:.0f} is not between promoter and enhancer; "
        "correct it or remove the window columns"
        for i, n in enumerate(rows.index)
        if outside[i]
    ]
    used = np.where(whole[:, None], told, gap)
    return used.astype(np.int64), [w for _, wrong in given for w in wrong] + problems


# --- frequently interacting regions ---------------------------------------------------------------


def fire(
    path: str | Path, genome: Genome, samples: Mapping[str, str], cutoff: float | None = None
) -> Labels:
    """Frequently interacting regions (Schmitt et al. 2016) of 40-kb bins.

    Args:
        path: a spreadsheet with the sheet `primary_cohort`, or a text table: chr, start, end and a
            column per sample, of calls (0 or 1) or scores; the rows are the windows.
        samples: cell -> name of its column; a column named after the cell will do too.
        cutoff: a score from which on a bin counts; without it columns of scores are refused.

    Raises:
        InputError: missing columns, faulty rows, rows beyond a chromosome's end, scores without
            cutoff; all problems of a kind at once.
    """
    table = read_sheet(path, FIRE_SHEET) if is_spreadsheet(path) else read_columns(path)
    columns = place_columns(path, table)
    named = {cell: column_of(table, (name, cell)) for cell, name in samples.items()}
    absent = [f"{samples[cell]} ({cell})" for cell, column in named.items() if column is None]
    if absent:
        others = [str(c) for c in table.columns if c not in columns.values()]
        raise InputError(
            path,
            f"no column {', '.join(absent)}; it has {', '.join(others[:40]) or 'no sample'}: name "
            "the cell's column in downstream.samples, or leave the cell out of downstream.cells",
        )
    rows = on_genome(path, table, columns, genome)
    where, problems = spans(path, rows, columns["start"], columns["end"], genome, last_bin=True)
    problems += _twice(rows, where)
    parts = {}
    for cell, column in named.items():
        values, wrong = numbers(rows, column)
        problems += wrong or _not_calls(column, values, cutoff)
        calls = np.isin(values[~np.isnan(values)], (0, 1)).all()
        level = CALL if calls or cutoff is None else cutoff
        label = np.where(np.isnan(values), np.nan, values >= level)
        parts[cell] = _frame(rows["chrom"], {"bin": where}, label)
    refuse(path, problems)
    return combine("fire", parts, genome)


def _not_calls(column: str, values: np.ndarray, cutoff: float | None) -> list[str]:
    """Why a column cannot be used: it is empty, or holds scores and nobody said from where on."""
    known = values[~np.isnan(values)]
    if len(known) == 0:
        return [f"column {column} is empty; leave its cell out of downstream.cells"]
    if cutoff is not None or np.isin(known, (0, 1)).all():
        return []
    return [
        f"column {column} holds scores ({known.min():.4g} to {known.max():.4g}), not calls of 0 "
        f"and 1: taken at the {CALL} that fits calls, {100 * (known >= CALL).mean():.0f}% of the "
        "bins would be FIREs, where about 7% are called; give calls, or set downstream.fire.cutoff "
        "to the score from which on a bin counts"
    ]


def _twice(rows: pd.DataFrame, where: np.ndarray) -> Iterator[str]:
    """Rows whose window stands on an earlier line too."""
    key = pd.DataFrame({"chrom": rows["chrom"].to_numpy(), "a": where[:, 0], "b": where[:, 1]})
    for i in np.flatnonzero(key.duplicated()):
        place = f"{key['chrom'][i]}:{where[i, 0]}-{where[i, 1]}"
        yield f"line {rows.index[i]}: {place} stands there a second time; keep one line"


# --- domain boundaries ----------------------------------------------------------------------------


def tad_boundary(
    path: str | Path,
    genome: Genome,
    samples: Mapping[str, str],
    gaps: str | Path | None = None,
    bin_bp: int = BOUNDARY_BIN_BP,
) -> Labels:
    """40-kb bins that a domain boundary overlaps, as in Avocado's comparison; the others are 0.

    Args:
        path: a spreadsheet with one sheet per sample (chr, start, end), or one text table with a
            column cell (or sample) besides.
        samples: cell -> its sheet, or its name in the column (where the cell's will do too).
        gaps: assembly gaps (see `genome.mask`); bins that are mostly gap are left out.

    A chromosome on which a cell has no boundary at all is not labelled in this cell.
    """
    bins = genome.bins(bin_bp)
    chroms = pd.Series(np.repeat(genome.chromosomes, bins), dtype=str)
    start = np.concatenate([np.arange(n, dtype=np.int64) for n in bins]) * bin_bp
    end = np.minimum(start + bin_bp, np.repeat(np.asarray(genome.lengths, np.int64), bins))
    offsets, usable = genome.offsets(bin_bp), np.ones(len(start), bool)
    if gaps is not None:
        usable = _gap_share(genome, gaps, bin_bp) <= MOST_GAP
    parts = {}
    for cell, name in samples.items():
        label = np.full(len(start), np.nan)
        for chrom, where in _boundaries(path, cell, name, genome).items():
            i = genome.index(chrom)
            hit = np.zeros(bins[i] + 1, np.int64)
            np.add.at(hit, where[:, 0] // bin_bp, 1)
            np.add.at(hit, -(-where[:, 1] // bin_bp), -1)
            label[offsets[i] : offsets[i + 1]] = np.cumsum(hit[:-1]) > 0
        frame = _frame(chroms, {"bin": np.column_stack([start, end])}, label)
        parts[cell] = frame[usable]
    return combine("tad_boundary", parts, genome)


def _boundaries(path: str | Path, cell: str, name: str, genome: Genome) -> dict[str, np.ndarray]:
    """Boundaries of one sample, chromosome -> int64 [n, 2]."""
    table = read_sheet(path, name) if is_spreadsheet(path) else _of_sample(path, cell, name)
    columns = place_columns(path, table)
    rows = on_genome(path, table, columns, genome)
    where, problems = spans(path, rows, columns["start"], columns["end"], genome, last_bin=True)
    refuse(path, [f"{name}, {problem}" for problem in problems])
    return {str(c): where[(rows["chrom"] == c).to_numpy()] for c in rows["chrom"].unique()}


def _of_sample(path: str | Path, cell: str, name: str) -> pd.DataFrame:
    """Rows of one sample in a text table of several."""
    table = read_columns(path)
    column = column_of(table, ("cell", "sample", "cell_type"))
    if column is None:
        has = ", ".join(map(str, table.columns[:10]))
        raise InputError(path, f"no column cell; it has {has}: say which cell each line is of")
    rows = table[table[column].isin((cell, name))]
    if rows.empty:
        known = ", ".join(sorted(set(table[column]))[:40])
        raise InputError(
            path,
            f"column {column} has neither {name} nor {cell}; it has {known}: name the cell's in "
            "downstream.samples, or leave the cell out of downstream.cells",
        )
    return rows


def _gap_share(genome: Genome, gaps: str | Path, bin_bp: int) -> np.ndarray:
    """Share of each bin that lies in assembly gaps, [genome.total(bin_bp)]."""
    flags, fine = mask(genome, GAP_STEP_BP, gaps) > 0, genome.offsets(GAP_STEP_BP)
    step = max(1, bin_bp // GAP_STEP_BP)
    shares = []
    for first, last in zip(fine[:-1], fine[1:], strict=True):
        edges = np.arange(0, last - first, step)
        count = np.add.reduceat(flags[first:last].astype(np.float64), edges)
        shares.append(count / np.diff(np.append(edges, last - first)))
    return np.concatenate(shares)


# --- replication timing ---------------------------------------------------------------------------


def replication_timing(
    files: Mapping[str, str | Path],
    genome: Genome,
    window_bp: int = 50_000,
    cutoff: float | None = None,
) -> Labels:
    """Early (1) or late (0) replication.

    Args:
        files: cell -> bigWig of Repli-seq (higher = earlier), or a text file of Replication Domain:
            chr, start, end, value.
        window_bp: windows over which a bigWig is averaged; the rows of a text file are windows.
        cutoff: value from which on a window is early. Without one it is 0 for text files (log
            ratios) and the median of all windows for a bigWig: the wavelet-smoothed signal of UW
            Repli-seq is a weighted percentage without a zero point. So half of the windows are
            early by definition, and a score of 0.5 is chance.
    """
    parts = {}
    for cell, path in files.items():
        with Path(path).open("rb") as file:
            packed = file.read(4) in _BIGWIG
        made = _timing_windows(path, genome, window_bp) if packed else _timing_rows(path, genome)
        chroms, where, values = made
        level = (np.nanmedian(values) if packed else 0.0) if cutoff is None else cutoff
        log.info("%s: early from %.4g on (%s)", path, level, cell)
        label = np.where(np.isnan(values), np.nan, values >= level)
        parts[cell] = _frame(chroms, {"window": where}, label)
    return combine("replication_timing", parts, genome)


def _timing_windows(path: str | Path, genome: Genome, window_bp: int):
    """Chromosomes, windows and means of a bigWig; NaN where less than half has a value."""
    with open_bigwig(path, genome):
        pass  # opened only to check that it fits the genome
    counts = genome.bins(window_bp)
    chroms = pd.Series(np.repeat(genome.chromosomes, counts), dtype=str)
    start = np.concatenate([np.arange(n, dtype=np.int64) for n in counts]) * window_bp
    end = np.minimum(start + window_bp, np.repeat(np.asarray(genome.lengths, np.int64), counts))
    strands = np.full(len(start), "+")
    means = window_means(path, chroms, start, strands, window_bp, window_bp, "nan", LEAST_COVERED)
    if np.isnan(means).all():
        raise InputError(path, f"has no value on {genome.assembly}; give another track")
    return chroms, np.column_stack([start, end]), means[:, 0].astype(np.float64)


def _timing_rows(path: str | Path, genome: Genome):
    """Chromosomes, windows and values of a text file."""
    rows = on_genome(
        path, read_rows(path, ("chr", "start", "end", "value")), {"chrom": "chr"}, genome
    )
    where, problems = spans(path, rows, "start", "end", genome)
    values, wrong = numbers(rows, "value")
    refuse(path, [*problems, *wrong, *_twice(rows, where)])
    return rows["chrom"], where, values
