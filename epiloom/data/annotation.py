"""Genes and their start sites, from a GENCODE GTF or a plain table; the first line tells which.

GTF: one gene per line with feature `gene`. The start site is its first transcribed base, 0-based:
GTF start - 1 on the plus strand, GTF end - 1 on the minus strand.

Table (tab or comma between columns, plain or gzip): gene_id, chrom, strand, and the 0-based start
site as tss, tss_start or start; optional gene_name, gene_start, gene_end; others are ignored. The
gene table of Chromoformer (Lee, Yang, Kim 2022) is one: there `end` is start + 1, and a gene may
stand there once per cell. Its list rests on another annotation than GENCODE; where the two share a
start site it mostly stands one base upstream.
"""

from __future__ import annotations

import csv
import gzip
import io
import logging
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from epiloom.data.genome import Genome
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

GENE_COLUMNS = ["gene_id", "gene_name", "chrom", "tss", "strand", "gene_start", "gene_end"]
STARTS = {"tss": None, "tss_start": "tss_end", "start": "end"}  # and the column of the base after
NEEDED = ("gene_id", "chrom", "strand")
MOST_TOLD = 20  # problems named one by one
_ATTRIBUTE = re.compile(r'(\w+) "([^"]*)"')
_WHOLE = re.compile(r"\d+(\.0+)?")


def read_genes(path: str | Path, genome: Genome, gene_type: str) -> pd.DataFrame:
    """Genes on the chromosomes of `genome`: GENE_COLUMNS, 0-based half-open, each gene once.

    Args:
        gene_type: GENCODE gene_type to keep, or "all"; a table is kept as it is.

    Returns:
        Sorted by chromosome order and TSS. gene_start, gene_end are empty where a table has none.

    Raises:
        InputError: unreadable or malformed file, genes beyond a chromosome's end (another
            assembly), a gene in two places, no gene left; all problems at once.
    """
    text = read_text(path)
    header = _header(text)
    if header:
        genes = _from_table(text, header, path, genome)
    else:
        genes = _from_gtf(text, path, genome, gene_type)
    place = genes["chrom"].map(genome.index)
    return (
        genes.assign(place=place)
        .sort_values(["place", "tss", "gene_id"])
        .drop(columns="place")
        .reset_index(drop=True)
    )


def read_text(path: str | Path) -> str:
    """Text of a plain or gzip file; the name is not trusted."""
    try:
        data = Path(path).read_bytes()
        return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(path, "there is no such file; check the path or download it") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as err:
        raise InputError(path, f"cannot be read ({err}); download it again") from err


def _refuse(path: str | Path, problems: list[str]) -> None:
    if problems:
        rest = len(problems) - MOST_TOLD
        raise InputError(path, problems[:MOST_TOLD] + [f"... and {rest} more"] * (rest > 0))


def _tell_dropped(path: str | Path, elsewhere: dict[str, int]) -> None:
    if elsewhere:
        log.info(
            "%s: %d lines with genes on %s left out, not in the genome",
            *(path, sum(elsewhere.values()), ", ".join(sorted(elsewhere))),
        )


def _off_y(genes: pd.DataFrame, path: str | Path) -> pd.DataFrame:
    """Genes of the pseudoautosomal regions stand on chrX and chrY: keep the one on chrX."""
    on_x = set(genes["gene_id"][genes["chrom"] == "chrX"])
    twin = (genes["chrom"] == "chrY") & genes["gene_id"].isin(on_x)
    if twin.any():
        log.info("%s: %d genes on both chrX and chrY, kept on chrX", path, int(twin.sum()))
    return genes[~twin]


# --- GTF -----------------------------------------------------------------------------------------


def _from_gtf(text: str, path: str | Path, genome: Genome, gene_type: str) -> pd.DataFrame:
    rows, problems, types, elsewhere = [], [], set(), {}
    for number, line in enumerate(text.split("\n"), 1):
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
            problems.append(f"line {number}: {_beyond(told['gene_id'], chrom, low, high, genome)}")
            continue
        name = told["gene_id"].split(".")[0]
        tss = low if strand == "+" else high - 1
        rows.append((name, told.get("gene_name", name), chrom, tss, strand, low, high))
    _refuse(path, problems)
    if not rows:
        raise InputError(path, _why_none(gene_type, types, elsewhere, genome))
    _tell_dropped(path, elsewhere)
    genes = _off_y(pd.DataFrame(rows, columns=GENE_COLUMNS), path)
    left = genes["gene_id"][genes["gene_id"].duplicated()]
    if len(left):
        raise InputError(
            path,
            f"{len(left)} gene ids stand on several lines ({', '.join(left[:5])}); keep one each",
        )
    return genes


def _beyond(gene: str, chrom: str, low: int, high: int, genome: Genome) -> str:
    return (
        f"gene {gene} at {chrom}:{low}-{high} does not fit the {genome.length(chrom)} bases in "
        f"{genome.assembly}; give its own annotation"
    )


def _why_none(gene_type: str, types: set, elsewhere: dict, genome: Genome) -> str:
    if elsewhere:
        return (
            f"its genes lie on {', '.join(list(elsewhere)[:5])}, none on {genome.assembly} "
            f"({', '.join(genome.chromosomes[:5])}); rename the chromosomes or change the genome"
        )
    if types:
        return f"no gene has type {gene_type!r}; choose all or one of {', '.join(sorted(types))}"
    return (
        "has no gene line; give a GENCODE GTF, or a table whose first line names gene_id, chrom, "
        "strand and tss"
    )


# --- table ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Header:
    """Where the columns of a table are named: line (from 0), separator, names in order."""

    line: int
    separator: str
    columns: list[str]


def _header(text: str) -> _Header | None:
    """The first line that is no comment, if it names at least two columns of a gene table."""
    for number, line in enumerate(io.StringIO(text)):
        separator = "\t" if "\t" in line else ","
        columns = [c.strip().lstrip("#") for c in next(csv.reader([line], delimiter=separator), [])]
        if len({*NEEDED, *STARTS} & set(columns)) >= 2:
            return _Header(number, separator, columns)
        if line.strip() and not line.startswith("#"):
            return None
    return None


def _from_table(text: str, header: _Header, path: str | Path, genome: Genome) -> pd.DataFrame:
    start = _start_column(header, path)
    rows, problems, elsewhere = [], [], {}
    for number, fields in _records(text, header):
        if len(fields) != len(header.columns):
            problems.append(
                f"line {number}: {len(fields)} columns instead of {len(header.columns)}; correct it"
            )
            continue
        told = dict(zip(header.columns, fields, strict=True))
        if told["chrom"] not in genome:
            elsewhere[told["chrom"]] = elsewhere.get(told["chrom"], 0) + 1
            continue
        row, wrong = _gene(told, start, genome)
        rows.append(row)
        problems += [f"line {number}: {problem}" for problem in wrong]
    if not rows and not problems:
        raise InputError(path, _why_none("all", set(), elsewhere, genome))
    genes = pd.DataFrame(rows, columns=GENE_COLUMNS).drop_duplicates(ignore_index=True)
    genes = _off_y(genes, path)
    _refuse(path, problems + _in_two_places(genes))
    _tell_dropped(path, elsewhere)
    whole = dict.fromkeys(("gene_start", "gene_end"), "Int64")  # a gene may have none
    return genes.astype({"tss": "int64"} | whole)


def _start_column(header: _Header, path: str | Path) -> str:
    """Name of the column with the start site.

    Raises:
        InputError: columns missing or given twice.
    """
    columns = header.columns
    told = f"it has {', '.join(columns[:30])}"
    problems = [f"has no column {c} ({told}); add it" for c in NEEDED if c not in columns]
    found = [c for c in STARTS if c in columns]
    if not found:
        names = ", ".join(STARTS)
        problems.append(f"has no column with the 0-based start site ({told}); name it {names}")
    if "gene_start" in columns and "gene_end" not in columns:
        problems.append("has gene_start without gene_end; add it")
    problems += [
        f"column {c} stands there twice; keep one"
        for c in dict.fromkeys(columns)
        if c in {*GENE_COLUMNS, *STARTS} and columns.count(c) > 1
    ]
    if problems:
        raise InputError(path, problems)
    return found[0]


def _records(text: str, header: _Header) -> Iterator[tuple[int, list[str]]]:
    """Line number (from 1) and fields of every line below the header that is not empty."""
    lines = io.StringIO(text, newline="")
    for _ in range(header.line + 1):
        lines.readline()
    reader = csv.reader(lines, delimiter=header.separator)
    for fields in reader:
        if any(fields):
            yield header.line + 1 + reader.line_num, [field.strip() for field in fields]


def _whole(text: str) -> int | None:
    """A whole number of 0 or more, or None."""
    return int(text.split(".")[0]) if _WHOLE.fullmatch(text) else None


def _gene(told: dict[str, str], start: str, genome: Genome) -> tuple[tuple, list[str]]:
    """One gene in the order of GENE_COLUMNS, and what is wrong with it."""
    name, chrom, strand = told["gene_id"].split(".")[0], told["chrom"], told["strand"]
    length, tss, problems = genome.length(chrom), _whole(told[start]), []
    low, high = (_whole(told.get(c, "")) for c in ("gene_start", "gene_end"))
    if not name:
        problems.append("gene_id is empty; give the Ensembl gene id")
    if strand not in ("+", "-"):
        problems.append(f"gene {name}: strand {strand!r} is neither + nor -; correct it")
    if tss is None or tss >= length:
        problems.append(
            f"gene {name}: {start} {told[start]!r} is no base of {chrom}, which has {length} in "
            f"{genome.assembly}; give 0-based start sites on {genome.assembly}"
        )
    elif (after := STARTS[start]) in told and _whole(told[after]) != tss + 1:
        problems.append(
            f"gene {name}: {start} {tss} and {after} {told[after]!r} are more than the one base of "
            "a start site; name start sites tss, and bodies gene_start and gene_end"
        )
    body = told.get("gene_start", "") + told.get("gene_end", "")
    if body and (low is None or high is None or not low < high <= length):
        problems.append(
            f"gene {name}: gene_start {told.get('gene_start', '')!r} and gene_end "
            f"{told['gene_end']!r} are no part of {chrom}, which has {length} bases in "
            f"{genome.assembly}; correct them or leave both empty"
        )
    return (name, told.get("gene_name") or name, chrom, tss, strand, low, high), problems


def _in_two_places(genes: pd.DataFrame) -> list[str]:
    twice = genes[genes["gene_id"].duplicated(keep=False) & (genes["gene_id"] != "")]
    problems = []
    for gene, rows in twice.groupby("gene_id", sort=False):
        places = [f"{r.chrom}:{r.tss} {r.strand}" for r in rows.itertuples()]
        told = ", ".join(dict.fromkeys(places))
        what = "start sites" if len(set(places)) > 1 else "names or bodies"
        problems.append(f"gene {gene} has several {what} ({told}); keep one line of it")
    return problems
