"""Labels of gene expression: is a gene on in a cell? Window: its body, or what precedes its TSS."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from epiloom.data.annotation import GENE_COLUMNS, read_text
from epiloom.data.genes import _read_rpkm
from epiloom.data.genome import Genome
from epiloom.data.labels import Labels, refuse
from epiloom.data.signal import bin_bigwig, open_bigwig
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

BIN_BP = 25
PROMOTER_BINS = 81  # 2 kb upstream and the bin of the TSS, as for Avocado (Schreiber et al. 2020)
REFERENCE = "E000"  # column of the universal reference RNA, which is no cell type
STRANDS = {"1": "+", "+1": "+", "+": "+", "-1": "-", "-": "-"}


def expression(
    genes: pd.DataFrame,
    rpkm: pd.DataFrame | None,
    genome: Genome,
    cells: Sequence[str],
    definition: str = "gene_body",
    threshold: float = 0.5,
    signal: Mapping[str, str | Path] | None = None,
) -> Labels:
    """Genes that are on: RPKM, or mean arcsinh RNA signal over the body, at or above a threshold.

    Args:
        genes: `annotation.GENE_COLUMNS`, each gene once.
        rpkm: gene_id and a column per cell, same rows as `genes`; not needed with `signal`.
        definition: gene_body - window `gene` is the gene's body; promoter - window `promoter` is
            the `PROMOTER_BINS` bins of 25 bp that end with the TSS, in the direction of
            transcription, cut at the chromosome's ends.
        threshold: 0.5 in both published forms of the task.
        signal: cell -> bigWig of RNA-seq signal, for definition promoter.

    Raises:
        InputError: genes without a body, cells without a column, unreadable signal.
    """
    genes = genes[genes["chrom"].isin(genome.chromosomes)]
    if definition == "gene_body" or signal:
        genes = _with_body(genes)
    if signal:
        levels = {cell: gene_signal(signal[cell], genes, genome) for cell in cells}
    else:
        levels = _levels(genes, rpkm, cells)
    name, span = "gene", genes[["gene_start", "gene_end"]]
    if definition == "promoter":
        name, span = "promoter", promoter_windows(genes, genome)
    labels = {
        cell: np.where(np.isnan(level), np.nan, level >= threshold).astype(np.float32)
        for cell, level in levels.items()
    }
    windows = {name: np.asarray(span, np.int64)}
    names, chroms = (genes[column].to_numpy(str) for column in ("gene_id", "chrom"))
    return Labels("expression", names, chroms, windows, labels)


def _with_body(genes: pd.DataFrame) -> pd.DataFrame:
    """Genes whose start and end are known; the others are counted."""
    known = genes["gene_start"].notna() & genes["gene_end"].notna()
    if not known.any():
        raise InputError(
            "gene table",
            "no gene has gene_start and gene_end, which labels of expression need: give a GENCODE "
            "GTF as roadmap_genes, add the columns, or set downstream.expression.definition to "
            "promoter",
        )
    if not known.all():
        log.info("%d genes without start and end left out", int((~known).sum()))
    return genes[known]


def _levels(
    genes: pd.DataFrame, rpkm: pd.DataFrame | None, cells: Sequence[str]
) -> dict[str, np.ndarray]:
    """RPKM per cell of these genes, float64 [n]."""
    columns = [] if rpkm is None else list(rpkm.columns)
    absent = [cell for cell in cells if cell not in columns]
    if absent:
        raise InputError(
            "expression table",
            f"no column for {', '.join(absent)}; it has {', '.join(columns[1:]) or 'none'}: leave "
            "these cells out of downstream.cells, or give another table as roadmap_rpkm",
        )
    table = rpkm.set_index("gene_id").loc[genes["gene_id"]]
    return {cell: table[cell].to_numpy(np.float64) for cell in cells}


def promoter_windows(genes: pd.DataFrame, genome: Genome) -> np.ndarray:
    """The bins from 2 kb upstream to the TSS, as bases: int64 [genes, 2]."""
    tss = genes["tss"].to_numpy(np.int64) // BIN_BP
    plus = (genes["strand"] == "+").to_numpy()
    first = np.where(plus, tss - (PROMOTER_BINS - 1), tss)
    edges = np.column_stack([first, first + PROMOTER_BINS]) * BIN_BP
    lengths = genes["chrom"].map(genome.length).to_numpy(np.int64)
    return np.clip(edges, 0, lengths[:, None])


def gene_signal(path: str | Path, genes: pd.DataFrame, genome: Genome) -> np.ndarray:
    """Mean arcsinh of a signal in the 25-bp bins that a gene touches, float64 [genes].

    Bases without a value count as 0, since files of RNA-seq leave out what has no read; genes on a
    chromosome that the file does not have are NaN.
    """
    with open_bigwig(path, genome) as file:
        there = set(file.chroms())
    means = bin_bigwig(path, genome, (BIN_BP,), missing="zero").values[BIN_BP]
    offsets, out = genome.offsets(BIN_BP), np.full(len(genes), np.nan)
    for chrom in genes["chrom"].unique():
        if chrom not in there:
            log.warning("%s: no %s; its genes get no label", path, chrom)
            continue
        i = genome.index(chrom)
        values = np.arcsinh(means[offsets[i] : offsets[i + 1]].astype(np.float64))
        total = np.concatenate([[0], np.cumsum(values)])
        rows = np.flatnonzero(genes["chrom"] == chrom)
        first = genes["gene_start"].to_numpy(np.int64)[rows] // BIN_BP
        last = (genes["gene_end"].to_numpy(np.int64)[rows] - 1) // BIN_BP + 1
        out[rows] = (total[last] - total[first]) / (last - first)
    return out


# --- the public tables ----------------------------------------------------------------------------


def roadmap_genes(
    gene_info: str | Path,
    tables: Sequence[str | Path],
    genome: Genome,
    cells: Sequence[str] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All genes of the Roadmap RPKM tables (coding, non-coding, ribosomal) with their places.

    Args:
        gene_info: Ensembl_v65.Gencode_v10.ENSG.gene_info. tables: 57epigenomes.RPKM.{pc,nc,rb}.gz;
            none: all genes with a place, and no expression.
        cells: columns to keep; None keeps all but the reference RNA (E000).

    Returns:
        genes (`annotation.GENE_COLUMNS`) and expression (gene_id and cells), same rows, in the
        order of the genome. Of a gene in several tables the first counts.

    Raises:
        InputError: faulty lines, missing columns, no gene left.
    """
    genes = read_gene_info(gene_info, genome)
    if not tables:
        return genes, genes[["gene_id"]].copy()
    parts = [_read_rpkm(path, cells) for path in tables]
    rpkm = pd.concat(parts).drop(columns=REFERENCE, errors="ignore")
    twice = rpkm.index.duplicated()
    both = genes[genes["gene_id"].isin(rpkm.index)].reset_index(drop=True)
    log.info(
        "%d genes: %d with a place, %d with expression, of which %d stand in two tables",
        *(len(both), len(genes), len(rpkm), int(twice.sum())),
    )
    if both.empty:
        raise InputError(gene_info, f"shares no gene with {tables[0]}; give tables of one release")
    return both, rpkm[~twice].loc[both["gene_id"]].reset_index(names="gene_id")


def read_gene_info(path: str | Path, genome: Genome) -> pd.DataFrame:
    """Genes of Roadmap's gene_info: id, chromosome without chr, start, end, strand, type, symbol.

    Positions are 1-based, ends included. Fields are parted by runs of tabs; descriptions hold
    spaces. The start site is the end on the minus strand. Genes on other chromosomes are counted.

    Raises:
        InputError: unreadable, faulty lines, genes beyond a chromosome's end, a gene in two places.
    """
    rows, problems, elsewhere = [], [], 0
    for number, line in enumerate(read_text(path).split("\n"), 1):
        fields = re.split(r"\t+", line.strip("\r\n"))
        if not line.strip() or line.startswith("#"):
            continue
        if len(fields) < 5 or fields[4].strip() not in STRANDS or not _whole(fields[2:4]):
            problems.append(
                f"line {number}: {line[:60]!r} is not ID, CHROMOSOME, START, END, STRAND with tabs "
                "between; correct it or get the file again"
            )
            continue
        chrom = fields[1] if fields[1] in genome else f"chr{fields[1]}"
        if chrom not in genome:
            elsewhere += 1
            continue
        low, high = int(fields[2]) - 1, int(fields[3])
        if not 0 <= low < high <= genome.length(chrom):
            problems.append(
                f"line {number}: gene {fields[0]} at {chrom}:{low}-{high} does not fit the "
                f"{genome.length(chrom)} bases in {genome.assembly}; give genes of this assembly"
            )
        strand = STRANDS[fields[4].strip()]
        name = fields[6].strip() if len(fields) > 6 else ""
        gene = fields[0].strip().split(".")[0]
        tss = low if strand == "+" else high - 1
        rows.append((gene, name or gene, chrom, tss, strand, low, high))
    genes = pd.DataFrame(rows, columns=GENE_COLUMNS).drop_duplicates(ignore_index=True)
    twice = genes["gene_id"][genes["gene_id"].duplicated()].unique()
    problems += [f"gene {gene} has several places; keep one line of it" for gene in twice]
    refuse(path, problems)
    if elsewhere:
        log.info("%s: %d genes on other chromosomes left out", path, elsewhere)
    if genes.empty:
        raise InputError(path, f"has no gene on {genome.assembly}; give the file of this genome")
    return _in_order(genes, genome)


def _in_order(genes: pd.DataFrame, genome: Genome) -> pd.DataFrame:
    """By chromosome order and start site, as `annotation.read_genes` has them."""
    place = genes["chrom"].map(genome.index)
    genes = genes.assign(place=place).sort_values(["place", "tss", "gene_id"], ignore_index=True)
    return genes.drop(columns="place")


def _whole(texts: Sequence[str]) -> bool:
    return all(text.strip().isdigit() for text in texts)
