"""Questions to a model of cells, from files to tables: regions, variants, factors, contacts.

Asked are cells of the model and, with an RNA-seq table of the user's own, further ones of which
nothing but their expression is known.

Shapes: C cells, B bins, S signals, K factors (TFs).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from epiloom.data import variants as variant_files
from epiloom.data.annotation import read_genes
from epiloom.data.expression_tables import (
    _laid_out,
    _rows,
    read_aliases,
    read_matrix,
    read_symbols,
)
from epiloom.data.genome import Genome
from epiloom.data.labels import refuse
from epiloom.data.loops import Loops, contact_rows
from epiloom.data.motif_sets import Rule, read_motif_set
from epiloom.data.signal_targets import CellSignals, Scales
from epiloom.learn.cell_settings import cells_by_part, columns_of
from epiloom.plan.config import hint
from epiloom.plan.errors import InputError
from epiloom.studies import cell_variants, variants
from epiloom.studies.cell_prediction import Asked, contact_table, predicted, rank_factors

log = logging.getLogger("epiloom")

_POSITION = re.compile(r"(.+)_(\d+)")  # a place as part of a file's name


@dataclass(frozen=True)
class Cells:
    """Cells that are asked about.

    Attributes:
        names: of the model's cells, then of new ones. vectors: their factors, float32 [C, K].
        stored: how many are the model's.
    """

    names: list[str]
    vectors: np.ndarray
    stored: int


def opened(
    spec: Any,
    files: Mapping[str, Any],
    question: Mapping[str, Any],
    threads: int | None = None,
    scan: bool = False,
) -> Asked:
    """A run's model.

    Args:
        files: of its examples, its `weights`, and those of `unprofiled_asked.question_files`.
        question: see `unprofiled_asked.question`. scan: whether sequences are asked about that the
            genome does not have, of which motif scores must be found anew.
    """
    motifs = None
    if scan or question["scan"] == "regions":
        table, rule = files.get("motif_table") or None, Rule(**question["scoring"])
        motifs = read_motif_set(files["motif_file"], table, question["tfs"], rule)
    return Asked.open(spec, files["weights"], files, motifs, threads=threads)


# --- cells ----------------------------------------------------------------------------------------


def cells_of(asked: Asked, files: Mapping[str, Any], question: Mapping[str, Any]) -> Cells:
    """The cells of a question with their factors.

    Raises:
        InputError: names of new cells that cells of the model bear; see `Asked.new_cell`.
    """
    names = list(question["cells"])
    vectors = asked.cells(files["vectors"], names)
    path = files.get("expression")
    if not path:
        return Cells(names, vectors, len(names))
    new = list(question["columns"] or number_columns(path))
    known = {cell for part in cells_by_part(asked.settings).values() for cell in part}
    refuse(
        path,
        [
            f"column {cell!r} bears the name of a cell of the model; rename it, or name the others "
            "in interpret.expression.cells"
            for cell in new
            if cell in known
        ],
    )
    symbols = read_symbols(files["symbols"]) if files.get("symbols") else None
    aliases = read_aliases(files["aliases"]) if files.get("aliases") else None
    table = as_ranked(read_matrix(path, new), asked.reference.genes, symbols)
    found = asked.new_cell(table, new, symbols, aliases, question["missing"])
    return Cells(names + new, np.concatenate([vectors, found]), len(names))


def number_columns(path: str | Path) -> list[str]:
    """Columns of a table of expression, but for the first, that hold nothing but numbers.

    Raises:
        InputError: there is none.
    """
    header, rest, separator = _laid_out(path)
    table = _rows(path, rest, separator, 0, list(range(len(header))))
    found = []
    for place, name in enumerate(header[1:], 1):
        texts = table[place].str.strip()
        texts = texts[~texts.isin(["", "NA", "NaN", "nan", "."])]
        if len(texts) and pd.to_numeric(texts, errors="coerce").notna().all():
            found.append(name)
    if not found:
        raise InputError(path, f"no column holds numbers; it has {', '.join(header[:40])}")
    return found


def as_ranked(
    table: pd.DataFrame, genes: Sequence[str], symbols: Mapping[str, Sequence[str]] | None
) -> pd.DataFrame:
    """A table by gene symbol with the ids that cells are ranked among, if these are no symbols.

    Args:
        table: genes x cells. genes: of the reference; none: it has factors alone. symbols: symbol
            -> gene ids.
    """
    there = set(genes)
    if not genes or not symbols or 2 * table.index.isin(there).sum() > len(genes):
        return table
    names = {s: next((g for g in ids if g in there), s) for s, ids in symbols.items()}
    renamed = table.rename(index=names)
    return renamed if renamed.index.isin(there).sum() > table.index.isin(there).sum() else table


# --- regions --------------------------------------------------------------------------------------


def region_table(
    asked: Asked,
    cells: Cells,
    files: Mapping[str, Any],
    region: tuple[str, int, int],
    scale: str = "linear",
) -> pd.DataFrame:
    """Every asked cell and signal along a region.

    Returns:
        chrom, start, end, cell, signal, predicted, observed (NaN where the cell has none), mean (of
        the training cells' signals, on the scale of the network before it is made linear).
    """
    blocks = list(predicted(asked, cells.vectors, [region], scale))
    chrom, first = blocks[0].chrom, blocks[0].first
    made = np.concatenate([block.values for block in blocks], axis=1)
    made = made.reshape(len(cells.names), len(asked.signals), -1)
    bins, bin_bp = made.shape[-1], asked.shape.bin_bp
    observed = np.full(made.shape, np.nan)
    stored = measured(asked, files, cells.names[: cells.stored], chrom, first, bins)
    observed[: cells.stored] = asked.scaled(stored.astype(np.float64), scale).swapaxes(1, 2)
    usual = asked.scaled(_means(asked, chrom, first, bins), scale)
    starts = (first + np.arange(bins, dtype=np.int64)) * bin_bp
    rows = len(cells.names) * len(asked.signals)
    return pd.DataFrame(
        {
            "chrom": chrom,
            "start": np.tile(starts, rows),
            "end": np.tile(np.minimum(starts + bin_bp, asked.genome.length(chrom)), rows),
            "cell": np.repeat(cells.names, len(asked.signals) * bins),
            "signal": np.tile(np.repeat(asked.signals, bins), len(cells.names)),
            "predicted": made.ravel(),
            "observed": observed.ravel(),
            "mean": np.tile(usual.T.ravel(), len(cells.names)),
        }
    )


def measured(
    asked: Asked, files: Mapping[str, Any], names: Sequence[str], chrom: str, first: int, bins: int
) -> np.ndarray:
    """Stored signals (log1p) of some cells in bins of a chromosome, float16 [C, B, S]."""
    scales, given = Scales.load(files["scales"]), files["signals"]
    path = Path(given if isinstance(given, str | Path) else given[0])
    folder = path.parent if path.suffix else path
    signals = CellSignals(folder, names, asked.genome, asked.shape.bin_bp, scales)
    found = signals.batch([chrom], [first], bins)[0]
    columns = columns_of(asked.signals, scales.signals)
    return found if columns is None else found[..., columns]


def _means(asked: Asked, chrom: str, first: int, bins: int) -> np.ndarray:
    """Mean of the training cells (log1p) in bins of a chromosome, float64 [B, S]."""
    size, step = asked.shape.bin_bp, asked.shape.bins
    parts = [asked.mean_signals(chrom, (first + k) * size) for k in range(0, bins, step)]
    return np.concatenate(parts)[:bins].astype(np.float64)


# --- variants -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Bases:
    """Reads bases as the check of variants wants them."""

    asked: Asked

    def bases(self, chrom: str, start: int, length: int) -> np.ndarray:
        return self.asked.inputs.bases.window(chrom, start, length)


def scored(asked: Asked, cells: Cells, path: str | Path) -> pd.DataFrame:
    """Scores of the variants of a file in every asked cell.

    Returns:
        One row per variant, cell and signal: columns of `variants.score` but for the spread over
        strands and shifts, of which there is one each; tracks are named CELL-SIGNAL.

    Raises:
        InputError: variants that cannot be read or do not fit the genome.
    """
    checked = variant_files.check(variant_files.read(path), path, asked.genome, _Bases(asked))
    log.info("%s: %s", path, ", ".join(f"{n} {what}" for what, n in checked.counts.items()))
    table, longest = checked.table, variants.longest(asked.shape)
    fits = table[["ref", "alt"]].map(len).max(axis=1) <= longest
    if not fits.all():
        log.warning("%d variants are longer than %d bases and left out", sum(~fits), longest)
    table = table[fits].reset_index(drop=True)
    found = cell_variants.score_variants(asked, table, cells.vectors, cells.names)
    found.insert(found.columns.get_loc("cell"), "track", found["cell"] + "-" + found["signal"])
    spread = [name for name in found if name.endswith("_sd")]
    return found.drop(columns=["cell", "signal", *spread])


# --- factors --------------------------------------------------------------------------------------


def place_of(name: str, genome: Genome, annotation: str | Path | None) -> tuple[str, int]:
    """The place that a file's name stands for: `chr1_1000`, or the start site of a gene (0-based).

    Args:
        annotation: GTF or table of genes; None: there is none.

    Raises:
        InputError: no such gene, several of them, or a place beyond the chromosome.
    """
    where = f"place '{name}'"
    found = _POSITION.fullmatch(name)
    if found and found[1] in genome:
        chrom, position = found[1], int(found[2])
        if position >= genome.length(chrom):
            raise InputError(where, f"{chrom} has {genome.length(chrom)} bases; correct it")
        return chrom, position
    if not annotation:
        raise InputError(where, "there is no annotation of genes; give CHROM:POSITION")
    genes = read_genes(annotation, genome, "all")
    own = genes[(genes["gene_name"] == name) | (genes["gene_id"] == name)]
    if own.empty:
        names = sorted(set(genes["gene_name"].dropna()))
        raise InputError(
            where, f"no gene of {annotation} is called so{hint(name, names)}; give CHROM:POSITION"
        )
    sites = list(dict.fromkeys(own[["chrom", "tss"]].itertuples(index=False, name=None)))
    if len(sites) > 1:
        told = ", ".join(f"{chrom}:{tss}" for chrom, tss in sites[:9])
        raise InputError(where, f"several genes are called so, at {told}; give CHROM:POSITION")
    return sites[0][0], int(sites[0][1])


def factor_table(asked: Asked, cells: Cells, chrom: str, position: int) -> pd.DataFrame:
    """Factors around a place by their part in all signals: cell, and columns of `rank_factors`."""
    found = [
        rank_factors(asked, chrom, position, vector).assign(cell=name)
        for name, vector in zip(cells.names, cells.vectors, strict=True)
    ]
    table = pd.concat(found, ignore_index=True)
    return table[["cell", *(name for name in table if name != "cell")]]


# --- contacts -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contacts:
    """Attention and loops of a window.

    Attributes:
        chrom, start: of the window. attention: float32 [C, B, B], rows sum to 1.
        loops: float32 [B, B] of the cells that have any, see `data.loops.contact_rows`.
    """

    chrom: str
    start: int
    attention: np.ndarray
    loops: dict[str, np.ndarray]


def contacts_around(
    asked: Asked, cells: Cells, files: Mapping[str, Any], region: tuple[str, int, int]
) -> Contacts:
    """Contacts of the window whose middle is that of a region.

    Raises:
        InputError: the region is longer than a window.
    """
    chrom, low, high = region
    if high - low > asked.shape.seq_bp:
        raise InputError(
            f"{chrom}:{low}-{high}",
            f"is longer than the {asked.shape.seq_bp} bases that the model sees; shorten it",
        )
    start = asked.shape.around((low + high) // 2)
    given = files.get("loops") or []
    paths = {Path(p).stem: p for p in ([given] if isinstance(given, str) else given)}
    loops = {
        name: contact_rows(Loops.load(paths[name], asked.genome), (chrom, start), asked.shape.bins)
        for name in cells.names[: cells.stored]
        if name in paths
    }
    return Contacts(chrom, start, asked.attention(chrom, start, cells.vectors), loops)


def contacts_table(asked: Asked, cells: Cells, found: Contacts) -> pd.DataFrame:
    """Pairs of bins of all cells: cell, and columns of `contact_table`."""
    rows = zip(cells.names, cells.vectors, found.attention, strict=True)
    tables = [
        contact_table(asked, found.chrom, found.start, vector, weights=weights).assign(cell=name)
        for name, vector, weights in rows
    ]
    table = pd.concat(tables, ignore_index=True)
    return table[["cell", *(name for name in table if name != "cell")]]
