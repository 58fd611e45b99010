"""Genes with a start site and measured expression, and the signal around their start sites."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from epiloom.data.annotation import read_genes, read_text
from epiloom.data.genome import Genome, check_chromosomes
from epiloom.data.reads import Reads
from epiloom.data.signal import open_bigwig, window_means
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

PROMOTER_BP, PROMOTER_BIN_BP = 40_000, 100


def gene_table(
    annotation: str | Path,
    rpkm: str | Path,
    genome: Genome,
    gene_type: str = "protein_coding",
    cells: Sequence[str] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Genes that stand in both an annotation and an expression table.

    Args:
        annotation: GENCODE GTF or a table of genes, see `annotation.py`.
        rpkm: tab-separated table, column gene_id (no version) and one per cell, plain or gzip.
        gene_type: GENCODE gene_type to keep, or "all"; a table of genes is kept as it is.
        cells: columns to keep; None keeps all.

    Returns:
        genes (`annotation.GENE_COLUMNS`, 0-based half-open, sorted by chromosome order and TSS) and
        expression (gene_id and cells, same rows).

    Raises:
        InputError: unreadable files, missing columns or cells, duplicate or negative entries, genes
            beyond a chromosome's end (another assembly), no gene left.
    """
    genes = read_genes(annotation, genome, gene_type)
    table = _read_rpkm(rpkm, cells)
    both = genes[genes["gene_id"].isin(table.index)].reset_index(drop=True)
    log.info("%d genes: %d in %s, %d in %s", len(both), len(genes), annotation, len(table), rpkm)
    if both.empty:
        raise InputError(
            rpkm,
            f"shares no gene with {annotation} ({', '.join(table.index[:3])} against "
            f"{', '.join(genes['gene_id'][:3])}); both must use Ensembl gene ids of one species",
        )
    expression = table.loc[both["gene_id"]].reset_index()
    return both, expression


def _read_rpkm(path: str | Path, cells: Sequence[str] | None) -> pd.DataFrame:
    """Expression, float64 [genes x cells], index gene_id."""
    # The Roadmap tables end their lines with a tab, which would shift the columns.
    lines = [line.rstrip() for line in read_text(path).split("\n")]
    header = lines[0].split("\t")
    problems = []
    if header[0] != "gene_id" or len(header) < 2:
        raise InputError(
            path,
            f"the first line is {lines[0][:60]!r}; it must be gene_id and cells, separated by tabs",
        )
    wanted = header[1:] if cells is None else list(cells)
    absent = [c for c in wanted if c not in header[1:]]
    if absent:
        problems.append(
            f"no column for cell {', '.join(absent)}; it has {', '.join(header[1:])}: "
            "choose among these or give another table"
        )
    repeated = sorted({c for c in header if header.count(c) > 1})
    if repeated:
        problems.append(f"column {', '.join(repeated)} stands there twice; keep one")
    odd = [n for n, line in enumerate(lines, 1) if line and line.count("\t") != len(header) - 1]
    if odd:
        problems.append(
            f"is malformed: {len(odd)} lines (first: {odd[0]}) have not {len(header)} columns; "
            "download it again"
        )
    if problems:
        raise InputError(path, problems)
    try:
        table = pd.read_csv(
            io.StringIO("\n".join(lines)),
            sep="\t",
            usecols=["gene_id", *wanted],
            dtype={"gene_id": str},
        )
    except (pd.errors.ParserError, ValueError) as err:
        raise InputError(path, f"is malformed ({err}); download it again") from err
    table["gene_id"] = table["gene_id"].str.split(".").str[0]
    table = table.set_index("gene_id")[wanted]
    problems = _faults(table)
    if problems:
        raise InputError(path, problems)
    return table.astype(np.float64)


def _faults(table: pd.DataFrame) -> list[str]:
    problems = [] if len(table) else ["has no gene; download it again"]
    twice = table.index[table.index.duplicated()].unique()
    if len(twice):
        problems.append(
            f"{len(twice)} gene ids stand on several lines ({', '.join(twice[:5])}); keep one each"
        )
    for cell in table.columns:
        values = pd.to_numeric(table[cell], errors="coerce").to_numpy(np.float64)
        bad = table.index[~(np.isfinite(values) & (values >= 0))]
        if len(bad):
            problems.append(
                f"column {cell}: {len(bad)} entries are no number of 0 or more "
                f"(first: gene {bad[0]}); correct them or leave the genes out"
            )
    return problems


def promoter_features(
    source: str | Path | Reads,
    genes: pd.DataFrame,
    genome: Genome,
    missing: str = "nan",
    min_covered: float = 0.5,
) -> np.ndarray:
    """Raw 100-bp means of TSS - 20 kb .. TSS + 20 kb, in the direction of transcription.

    Args:
        source: bigWig or reads; genes: as `gene_table` returns them; missing, min_covered: see
            signal.py.

    Returns:
        float32 [genes, 400], NaN = missing (or beyond the chromosome). The window is the same on
        both strands; on the minus strand the order of the bins is reversed.
    """
    for chrom in genes["chrom"].unique():
        genome.index(chrom)
    if isinstance(source, Reads):
        check_chromosomes(source.lengths, source.name, genome, ())
    else:
        with open_bigwig(source, genome):
            pass  # opened only to check that it fits the genome
    return window_means(
        source,
        genes["chrom"].to_numpy(),
        genes["tss"].to_numpy(np.int64) - PROMOTER_BP // 2,
        genes["strand"].to_numpy(),
        PROMOTER_BP,
        PROMOTER_BIN_BP,
        missing,
        min_covered,
    )
