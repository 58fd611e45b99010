"""Genes with a start site and measured expression, and the signal around their start sites."""

from __future__ import annotations

import gzip
import io
import logging
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from epiloom.data.genome import Genome, check_chromosomes
from epiloom.data.reads import Reads
from epiloom.data.signal import open_bigwig, window_means
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

GENE_COLUMNS = ["gene_id", "gene_name", "chrom", "tss", "strand", "gene_start", "gene_end"]
PROMOTER_BP, PROMOTER_BIN_BP = 40_000, 100
_ATTRIBUTE = re.compile(r'(\w+) "([^"]*)"')


def gene_table(
    gtf: str | Path,
    rpkm: str | Path,
    genome: Genome,
    gene_type: str = "protein_coding",
    cells: Sequence[str] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Genes that stand in both an annotation and an expression table.

    The start site is the first transcribed base of the gene line, 0-based: GTF start - 1 on the
    plus strand, GTF end - 1 on the minus strand. (The published Chromoformer gene list rests on
    another annotation; where the two share a start site it mostly stands one base upstream.)

    Args:
        gtf: GENCODE GTF, plain or gzip; only its `gene` lines are used.
        rpkm: tab-separated table, column gene_id (no version) and one per cell, plain or gzip.
        gene_type: GENCODE gene_type to keep, or "all".
        cells: columns to keep; None keeps all.

    Returns:
        genes (GENE_COLUMNS, 0-based half-open, sorted by chromosome order and TSS) and expression
        (gene_id and cells, same rows).

    Raises:
        InputError: unreadable files, missing columns or cells, duplicate or negative entries, genes
            beyond a chromosome's end (another assembly), no gene left.
    """
    genes = _read_gtf(gtf, genome, gene_type)
    table = _read_rpkm(rpkm, cells)
    both = genes[genes["gene_id"].isin(table.index)].reset_index(drop=True)
    log.info("%d genes: %d in %s, %d in %s", len(both), len(genes), gtf, len(table), rpkm)
    if both.empty:
        raise InputError(
            rpkm,
            f"shares no gene with {gtf} ({', '.join(table.index[:3])} against "
            f"{', '.join(genes['gene_id'][:3])}); both must use Ensembl gene ids of one species",
        )
    expression = table.loc[both["gene_id"]].reset_index()
    return both, expression


def _text(path: str | Path) -> str:
    """Text of a plain or gzip file; the name is not trusted."""
    try:
        data = Path(path).read_bytes()
        return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()
    except FileNotFoundError:
        raise InputError(path, "there is no such file; check the path or download it") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as err:
        raise InputError(path, f"cannot be read ({err}); download it again") from err


def _read_gtf(path: str | Path, genome: Genome, gene_type: str) -> pd.DataFrame:
    rows, problems, types, elsewhere = [], [], set(), {}
    for number, line in enumerate(_text(path).split("\n"), 1):
        fields = line.rstrip("\r").split("\t")
        if line.startswith("#") or len(fields) < 9 or fields[2] != "gene":
            continue
        chrom, start, end, strand = fields[0], fields[3], fields[4], fields[6]
        told = dict(_ATTRIBUTE.findall(fields[8]))
        kind = told.get("gene_type", told.get("gene_biotype", ""))
        if gene_type not in ("all", kind):
            types.add(kind)
            continue
        if chrom not in genome:
            elsewhere[chrom] = elsewhere.get(chrom, 0) + 1
            continue
        if not (start.isdigit() and end.isdigit() and strand in ("+", "-") and "gene_id" in told):
            problems.append(f"line {number}: no start, end, strand or gene_id; correct the line")
            continue
        low, high = int(start) - 1, int(end)
        if not 0 <= low < high <= genome.length(chrom):
            problems.append(
                f"line {number}: gene {told['gene_id']} at {chrom}:{low}-{high} does not fit the "
                f"{genome.length(chrom)} bases in {genome.assembly}; give its own annotation"
            )
            continue
        name = told["gene_id"].split(".")[0]
        tss = low if strand == "+" else high - 1
        rows.append((name, told.get("gene_name", name), chrom, tss, strand, low, high))
    if problems:
        more = [f"... and {len(problems) - 20} more"] if len(problems) > 20 else []
        raise InputError(path, problems[:20] + more)
    if not rows:
        raise InputError(path, _why_none(gene_type, types, elsewhere, genome))
    if elsewhere:
        log.info(
            "%s: %d genes on %s dropped, not in the genome",
            *(path, sum(elsewhere.values()), ", ".join(sorted(elsewhere))),
        )
    return _ordered(_without_twins(pd.DataFrame(rows, columns=GENE_COLUMNS), path), genome)


def _why_none(gene_type: str, types: set, elsewhere: dict, genome: Genome) -> str:
    if elsewhere:
        return (
            f"its genes lie on {', '.join(list(elsewhere)[:5])}, none on {genome.assembly} "
            f"({', '.join(genome.chromosomes[:5])}); rename the chromosomes or change the genome"
        )
    if types:
        return f"no gene has type {gene_type!r}; choose all or one of {', '.join(sorted(types))}"
    return "has no gene line; give a GENCODE GTF"


def _without_twins(genes: pd.DataFrame, path: str | Path) -> pd.DataFrame:
    """Genes of the pseudoautosomal regions stand on chrX and chrY: keep the one on chrX."""
    twice = genes["gene_id"].duplicated(keep=False)
    on_y = twice & (genes["chrom"] == "chrY")
    genes = genes[~on_y]
    left = genes["gene_id"][genes["gene_id"].duplicated()]
    if len(left):
        raise InputError(
            path,
            f"{len(left)} gene ids stand on several lines ({', '.join(left[:5])}); keep one each",
        )
    if on_y.any():
        log.info("%s: %d genes on both chrX and chrY, kept on chrX", path, int(on_y.sum()))
    return genes


def _ordered(genes: pd.DataFrame, genome: Genome) -> pd.DataFrame:
    place = genes["chrom"].map(genome.index)
    return (
        genes.assign(place=place)
        .sort_values(["place", "tss", "gene_id"])
        .drop(columns="place")
        .reset_index(drop=True)
    )


def _read_rpkm(path: str | Path, cells: Sequence[str] | None) -> pd.DataFrame:
    """Expression, float64 [genes x cells], index gene_id."""
    # The Roadmap tables end their lines with a tab, which would shift the columns.
    lines = [line.rstrip() for line in _text(path).split("\n")]
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
