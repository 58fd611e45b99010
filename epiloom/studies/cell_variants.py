"""What a variant changes in a cell: both alleles are predicted by a model of cells.

The cell's factors are the same for both alleles; the motif scores of the alternative one are found
anew. Windows, insertions and deletions, and scores are those of variants.py, with one window and
one strand.

Shapes: N bases, C cells, B bins, S signals, K factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from epiloom.data.labels import refuse
from epiloom.data.sequence import decode, encode
from epiloom.plan.errors import InputError
from epiloom.studies import variants
from epiloom.studies.cell_prediction import Asked

_ALLELES = ("chrom", "position", "ref", "alt")


def score_variants(
    asked: Asked,
    table: pd.DataFrame,
    vectors: np.ndarray,
    cells: Sequence[str],
    reach: int = 2,
    pseudo: float = 1.0,
) -> pd.DataFrame:
    """What variants change in some cells, by linear signals.

    Args:
        table: chrom, position (0-based), ref, alt, and id if there is one; of the + strand.
        reach: bins on each side of the variant's that `local_lfc` sums.

    Returns:
        One row per variant, cell and signal: variant (row of the table), chrom, position, ref, alt,
        id, cell, signal, and the scores of `variants.scores`; `local_lfc` is the log2 ratio.

    Raises:
        InputError: alleles that do not fit the genome, are too long or alike; no motifs given.
    """
    if asked.scanner is None:
        raise InputError("motifs", "variants need the motif set; give it when opening the model")
    absent = [name for name in _ALLELES if name not in table]
    refuse("variants", [f"no column {name}; add it" for name in absent])
    table = table.assign(ref=table["ref"].str.upper(), alt=table["alt"].str.upper())
    _check_alleles(asked, table)
    options = variants.Options(shifts=(0,), strands=False, reach=reach, pseudo=pseudo)
    found = []
    for number, row in enumerate(table.itertuples(index=False)):
        bases, codes, start = alleles(asked, row)
        places = [(row.chrom, start)] * 2  # both alleles start from the same mean
        made = asked.predict(bases, codes, vectors, places)
        made = asked.scaled(made, "linear").astype(np.float64)
        rows = made.transpose(0, 1, 3, 2).reshape(2, 1, -1, asked.shape.bins)
        change = variants.edit(row.position, row.ref, row.alt)
        pair = variants.aligned(
            *rows, change.gap - start, change.lost, change.gained, asked.shape.bin_bp
        )
        effect = variants.Effect(number, start, change, *pair)
        told = variants.scores(effect, asked.shape, options)
        own = {"variant": number, **{name: getattr(row, name) for name in _ALLELES}}
        own["id"] = getattr(row, "id", "")
        names = {"cell": np.repeat(cells, len(asked.signals)), "signal": asked.signals * len(cells)}
        found.append(pd.DataFrame(own | names | told))
    return pd.concat(found, ignore_index=True)


def alleles(asked: Asked, row: Any) -> tuple[np.ndarray, np.ndarray, int]:
    """Bases uint8 [2, N] and motif scores uint8 [2, B, K] of ref and alt; the window's start.

    The window lies around the variant. Of the alternative allele those bins are scanned anew that
    can differ: all to the window's end if its length is another.
    """
    change, shape = variants.edit(row.position, row.ref, row.alt), asked.shape
    start, length = shape.around(change.first), shape.seq_bp + asked.reach
    ref = asked.window(row.chrom, start, asked.reach + len(row.ref))
    before = row.position - start
    alt = np.r_[ref[:before], encode(row.alt), ref[before + len(row.ref) :]][:length]
    codes = asked.codes(row.chrom, start)
    other = codes.copy()
    low, moved = change.first - start, change.lost or change.gained
    first, part = asked.scanner.block_of_windows(
        alt, low, length if moved else change.gap - start, shape.bin_bp
    )
    if asked.inputs.columns is not None:
        part = part[:, asked.inputs.columns]
    last = min(first + len(part), shape.bins)
    other[first:last] = part[: last - first]
    return np.stack([ref[: shape.seq_bp], alt[: shape.seq_bp]]), np.stack([codes, other]), start


def _check_alleles(asked: Asked, table: pd.DataFrame) -> None:
    problems, longest = [], variants.longest(asked.shape)
    for row in table.itertuples(index=False):
        said = f"{row.chrom}:{row.position} {row.ref}>{row.alt}"
        there = decode(asked.inputs.bases.window(row.chrom, row.position, max(1, len(row.ref))))
        if row.ref == row.alt:
            problems.append(f"{said}: the alleles are alike; leave it out")
        elif max(len(row.ref), len(row.alt)) > longest:
            problems.append(f"{said[:60]}: longer than {longest} bases; leave it out")
        elif there[: len(row.ref)] != row.ref:
            problems.append(f"{said}: the genome has {there[:20]}; give alleles of this assembly")
    if table.empty:
        problems.append("there is none; give at least one")
    refuse("variants", problems)
