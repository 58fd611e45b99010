"""Tables of gene expression: RSEM quantifications, matrices genes x cells, symbols of gene ids."""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from epiloom.data.annotation import read_text
from epiloom.data.labels import refuse
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

TPM_COLUMN = 5  # of an RSEM table without header, from 0
_NOTHING = {"", "NA", "NaN", "nan", "."}
_VERSIONED = re.compile(r"^(ENS[A-Z]*\d+)(?:\.\d+)?(?:_PAR_Y)?$")
_ATTRIBUTE = re.compile(r'(gene_id|gene_name|gene_type|gene_biotype) "([^"]*)"')


def plain_id(name: str) -> str:
    """A gene id without version; genes of the Y chromosome's PAR get the id of their X twin."""
    found = _VERSIONED.match(name)
    if not found:
        return name
    return re.sub(r"^ENSGR", "ENSG0", found[1])


def read_quantification(path: str | Path) -> pd.Series:
    """TPM per gene of one RSEM gene quantification, float64, index gene id without version.

    The column is found by its name TPM; a table without header has it in column 5 (from 0). The
    two copies of a pseudoautosomal gene are added up.

    Raises:
        InputError: unreadable, no TPM column, genes twice, values that are no TPM; all at once.
    """
    text = read_text(path)
    header = text.partition("\n")[0].rstrip("\r").split("\t")
    gene, tpm, skip = 0, TPM_COLUMN, 1
    if "TPM" in header:
        gene, tpm = (header.index(c) if c in header else 0 for c in ("gene_id", "TPM"))
    elif len(header) > TPM_COLUMN and _is_number(header[TPM_COLUMN]):
        skip = 0
    else:
        raise InputError(
            path,
            f"has no column TPM; its first line is {', '.join(header[:8])}: give an RSEM gene "
            "quantification (ENCODE output type 'gene quantifications')",
        )
    table = _rows(path, text, "\t", skip, [gene, tpm])
    values = _numbers(path, table[tpm], "TPM", skip)
    twice = table[gene][table[gene].duplicated()].unique()
    problems = [f"gene {name} stands on several lines; keep one" for name in twice]
    problems += [
        f"line {i + 1 + skip}: gene {table[gene].iloc[i]} has no TPM; complete or remove the line"
        for i in np.flatnonzero(np.isnan(values))
    ]
    refuse(path, problems)
    found = pd.Series(values, index=table[gene].map(plain_id))
    return found.groupby(level=0, sort=False).sum()


def cell_expression(paths: Sequence[str | Path]) -> pd.Series:
    """Mean TPM per gene over the replicates of one cell, each of which counts the same.

    A gene that some tables lack is the mean of the others (tables of two annotation releases).
    """
    if not paths:
        raise InputError("expression", "no table of this cell; name at least one")
    parts = [read_quantification(path) for path in paths]
    joined = pd.concat(parts, axis=1, join="outer")
    partly = int(joined.isna().any(axis=1).sum())
    if partly:
        log.warning("%s and others: %d genes are not in all %d", paths[0], partly, len(paths))
    return joined.mean(axis=1)


def read_matrix(path: str | Path, cells: Sequence[str] | None = None) -> pd.DataFrame:
    """A matrix genes x cells of TPM or RPKM, float64, index gene (symbol, or id without version).

    Tabs or commas between columns; the first names the gene; blanks in names are kept. Empty fields
    and NA are NaN. A gene may stand there twice (symbols do). Roadmap's tables end lines in a tab.

    Args:
        cells: columns to keep, in this order; None keeps all.

    Raises:
        InputError: unreadable, columns twice or absent, lines of other length, negative values.
    """
    header, rest, separator = _laid_out(path)
    problems = [
        f"column {c!r} stands there twice; give each its own name"
        for c in sorted({c for c in header[1:] if header[1:].count(c) > 1})
    ]
    absent = [c for c in cells or () if c not in header[1:]]
    if absent:
        problems.append(
            f"no column for {', '.join(absent)}; it has {', '.join(header[1:40])}: rows must be "
            "genes and columns cells; correct the names"
        )
    lines = csv.reader(io.StringIO(rest), delimiter=separator)
    problems += [
        f"line {n}: {len(fields)} columns instead of {len(header)}; correct it"
        for n, fields in enumerate(lines, 2)
        if fields and len(fields) != len(header)
    ]
    refuse(path, problems)
    table = _rows(path, rest, separator, 0, list(range(len(header))))
    wanted = header[1:] if cells is None else list(cells)
    values = {c: _numbers(path, table[header.index(c, 1)], f"column {c}", 1) for c in wanted}
    return pd.DataFrame(values, index=table[0].str.strip().map(plain_id))


def _laid_out(path: str | Path) -> tuple[list[str], str, str]:
    """Names of all columns, the lines below them, and what separates the columns."""
    first, _, rest = read_text(path).replace("\r", "").partition("\n")
    separator = "\t" if "\t" in first else ","
    header = [f.strip() for f in _fields(first.rstrip("\t "), separator)]
    line = _fields(rest[:1_000_000], separator)
    if len(line) == len(header) + 1 and line[-1] == "" and separator == "\t":
        return header, re.sub(r"\t$", "", rest, flags=re.M), separator
    if len(line) == len(header) + 1:
        header = ["gene", *header]  # as R writes it
    if len(header) < 2 or len(line) != len(header):
        raise InputError(
            path, f"its first line has {len(header)} names, the next {len(line)} fields; correct it"
        )
    return header, rest, separator


def read_aliases(path: str | Path) -> dict[str, str]:
    """Symbol of the motif set -> symbol of annotation or table, of a table with symbol and alias.

    Raises:
        InputError: columns missing, empty fields, a symbol twice; all at once.
    """
    rows = list(csv.DictReader(io.StringIO(read_text(path)), delimiter="\t"))
    if not rows or not {"symbol", "alias"} <= set(rows[0]):
        raise InputError(path, "needs the columns symbol and alias, separated by tabs, and a row")
    found: dict[str, str] = {}
    problems = []
    for line, row in enumerate(rows, 2):
        symbol, alias = ((row[key] or "").strip() for key in ("symbol", "alias"))
        if not symbol or not alias:
            problems.append(f"line {line}: an empty field; give symbol and alias")
        elif found.setdefault(symbol, alias) != alias:
            problems.append(f"line {line}: {symbol} has the alias {found[symbol]} too; keep one")
    refuse(path, problems)
    return found


def _fields(line: str, separator: str) -> list[str]:
    return next(csv.reader([line.partition("\n")[0]], delimiter=separator), [])


def _is_number(text: str) -> bool:
    try:
        return np.isfinite(float(text))
    except ValueError:
        return False


def _rows(path, text: str, separator: str, skip: int, columns: list[int]) -> pd.DataFrame:
    """Columns (named by number) as text."""
    try:
        return pd.read_csv(
            io.StringIO(text),
            sep=separator,
            header=None,
            skiprows=skip,
            usecols=columns,
            dtype=str,
            keep_default_na=False,
        )
    except ValueError as err:  # of which the parser's errors are
        raise InputError(path, f"is malformed ({err}); get it again") from err


def _numbers(path, texts: pd.Series, what: str, skip: int) -> np.ndarray:
    """float64, NaN where nothing is said. Raises InputError for other words and values below 0."""
    texts = texts.str.strip()
    numbers = pd.to_numeric(texts, errors="coerce").to_numpy(np.float64)
    with np.errstate(invalid="ignore"):
        bad = (np.isnan(numbers) & ~texts.isin(_NOTHING).to_numpy()) | (numbers < 0)
    bad |= np.isinf(numbers)
    refuse(
        path,
        [
            f"line {i + 1 + skip}: {what} is {texts.iloc[i]!r}, not a number of 0 or more; give "
            "TPM or RPKM without logarithm"
            for i in np.flatnonzero(bad)
        ],
    )
    return numbers


def read_symbols(path: str | Path) -> dict[str, list[str]]:
    """Gene ids (without version) of each symbol, protein-coding ones first.

    Args:
        path: GENCODE GTF (all chromosomes count: a factor's gene may lie on one that is not in the
            study), or a table with columns gene_id and gene_name.
    """
    text = read_text(path)
    head = next((line for line in text.split("\n") if not line.startswith("#")), "").split("\t")
    if {"gene_id", "gene_name"} <= set(head):
        table = pd.read_csv(io.StringIO(text), sep="\t", dtype=str, comment="#")
        pairs = zip(table["gene_id"], table["gene_name"], strict=True)
        rows = [(gene, name, "protein_coding") for gene, name in pairs]
    else:
        rows = []
        for line in text.split("\n"):
            fields = line.split("\t")
            if len(fields) > 8 and fields[2] == "gene":
                told = dict(_ATTRIBUTE.findall(fields[8]))
                kind = told.get("gene_type", told.get("gene_biotype", ""))
                rows.append((told.get("gene_id", ""), told.get("gene_name", ""), kind))
    found: dict[str, list[str]] = {}
    for gene, symbol, _ in sorted(rows, key=lambda row: row[2] != "protein_coding"):
        ids = found.setdefault(symbol, [])
        if plain_id(gene) not in ids:
            ids.append(plain_id(gene))
    if not found:
        raise InputError(
            path, "has no gene line; give a GENCODE GTF, or a table with gene_id and gene_name"
        )
    return found
