"""Tables that labels are made from: text files and sheets of spreadsheets, checked row by row.

Rows carry the number of their line (or row of the sheet) as index, so that messages can name it.
"""

from __future__ import annotations

import io
import logging
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from epiloom.data.annotation import read_text
from epiloom.data.genome import Genome, _prefix_hint
from epiloom.data.labels import refuse
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

PLACE = {"chrom": ("chr", "chrom", "chromosome"), "start": ("start",), "end": ("end", "stop")}
MISSING = ("", "na", "nan", "n/a", "#n/a", ".", "null", "none")  # lower case
_SKIPPED = re.compile(r"\s*$|#|track\b|browser\b")


def is_spreadsheet(path: str | Path) -> bool:
    """Whether a file is an .xlsx; the name is not trusted."""
    return zipfile.is_zipfile(path)


def read_sheet(path: str | Path, sheet: str) -> pd.DataFrame:
    """Text columns of one sheet, index = row of the sheet.

    Raises:
        InputError: unreadable, or no such sheet (names the sheets that are there).
    """
    try:
        with pd.ExcelFile(path, engine="openpyxl") as book:
            names = {str(name).strip().lower(): name for name in book.sheet_names}
            if sheet.lower() in names:
                name = names[sheet.lower()]
                table = pd.read_excel(book, sheet_name=name, dtype=str).fillna("")
                table.index = table.index + 2
                return table.rename(columns=lambda name: str(name).strip())
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as err:
        raise InputError(path, f"cannot be read as a spreadsheet ({err}); get it again") from err
    raise InputError(
        path,
        f"no sheet {sheet!r}; it has {', '.join(map(str, names.values()))}: rename the sheet, or "
        "name it in downstream.samples",
    )


def read_columns(path: str | Path) -> pd.DataFrame:
    """Text columns of a file with header (tab, comma or space; plain or gzip), index = line.

    Raises:
        InputError: unreadable, no header, or lines of another number of columns.
    """
    lines = list(enumerate(read_text(path).splitlines(), 1))
    # A header may begin with #: it is the last such line before the first row.
    body = [(n, line) for n, line in lines if not _SKIPPED.match(line)]
    marked = [(n, line[1:]) for n, line in lines if re.match(r"#\s*chr", line, re.I)]
    head = marked[:1] if marked and body and marked[0][0] < body[0][0] else []
    if len(body) + len(head) < 2:
        raise InputError(path, "has no header and rows; give a table with a header line")
    return _split(path, [*head, *body])


def read_rows(path: str | Path, names: Sequence[str]) -> pd.DataFrame:
    """The first columns of a file that may have a header, under these names, index = line.

    A first line whose second column is no number is taken for a header.
    """
    lines = list(enumerate(read_text(path).splitlines(), 1))
    body = [(n, line) for n, line in lines if not _SKIPPED.match(line)]
    if body and not _numbers(pd.Series(_fields(body[0][1])[1:2])).notna().all():
        body = body[1:]
    if not body:
        raise InputError(path, f"has no rows; give lines of {', '.join(names)}")
    rows = [(n, _fields(line)) for n, line in body]
    short = [n for n, fields in rows if len(fields) < len(names)]
    refuse(path, [f"line {n}: has not {', '.join(names)}; correct it" for n in short])
    values = [fields[: len(names)] for _, fields in rows]
    return pd.DataFrame(values, columns=list(names), index=[n for n, _ in rows], dtype=str)


def _fields(line: str) -> list[str]:
    separator = "\t" if "\t" in line else "," if "," in line else None
    return [field.strip().strip('"') for field in line.strip("\r\n").split(separator)]


def _split(path: str | Path, lines: list[tuple[int, str]]) -> pd.DataFrame:
    """Columns under the names of the first line."""
    header, separator = _fields(lines[0][1]), "\t" if "\t" in lines[0][1] else ","
    if separator not in lines[0][1]:
        separator = r"\s+"
    text = "\n".join(line for _, line in lines[1:])
    try:
        table = pd.read_csv(
            io.StringIO(text),
            sep=separator,
            header=None,
            names=header,
            index_col=False,
            dtype=str,
            keep_default_na=False,
        ).fillna("")
        table.index = [n for n, _ in lines[1:]]
    except (ValueError, pd.errors.ParserError) as err:
        raise InputError(path, f"is malformed ({err}); give as many fields as columns") from err
    return table.apply(lambda column: column.str.strip())


def _numbers(column: pd.Series) -> pd.Series:
    return pd.to_numeric(column, errors="coerce")


def column_of(table: pd.DataFrame, names: Sequence[str]) -> str | None:
    """The column with one of these names, whatever its case; None if there is none."""
    lowered = {str(column).lower(): column for column in table.columns}
    return next((lowered[name.lower()] for name in names if name.lower() in lowered), None)


def place_columns(path: str | Path, table: pd.DataFrame) -> dict[str, str]:
    """Columns of chromosome, start and end. Raises InputError that names all missing ones."""
    found = {part: column_of(table, names) for part, names in PLACE.items()}
    absent = [PLACE[part][0] for part, column in found.items() if column is None]
    if absent:
        raise InputError(
            path,
            f"no column {', '.join(absent)}; it has {', '.join(map(str, table.columns[:10]))}: "
            "name the columns chr, start and end",
        )
    return {part: str(column) for part, column in found.items()}


def on_genome(
    path: str | Path, table: pd.DataFrame, columns: Mapping[str, str], genome: Genome
) -> pd.DataFrame:
    """The rows on chromosomes of the genome, `chrom` with the genome's names; others are counted.

    Raises:
        InputError: no row is on the genome.
    """
    names = table[columns["chrom"]].str.strip()
    bare = ~names.isin(genome.chromosomes) & ("chr" + names).isin(genome.chromosomes)
    names = names.where(~bare, "chr" + names)
    here = names.isin(genome.chromosomes)
    if not here.any():
        found = list(dict.fromkeys(names))
        raise InputError(
            path,
            f"no row lies on {genome.assembly}{_prefix_hint(found, genome.chromosomes)}: it has "
            f"{', '.join(found[:5]) or 'no rows'}; the genome has "
            f"{', '.join(genome.chromosomes[:5])}: rename its chromosomes or give another file",
        )
    if not here.all():
        others = ", ".join(sorted(set(names[~here]))[:10])
        log.info("%s: %d rows on %s left out, not in the genome", path, int((~here).sum()), others)
    return table[here].assign(chrom=names[here])


def spans(
    path: str | Path,
    rows: pd.DataFrame,
    start: str,
    end: str,
    genome: Genome,
    last_bin: bool = False,
) -> tuple[np.ndarray, list[str]]:
    """Intervals of rows with a column `chrom`: int64 [n, 2], and what is wrong with them.

    Args:
        last_bin: rows are bins, so the last one of a chromosome may end beyond it and is cut.
    """
    low, high = _numbers(rows[start]), _numbers(rows[end])
    good = (low >= 0) & (high > low) & (low % 1 == 0) & (high % 1 == 0)
    lengths = rows["chrom"].map(genome.length)
    inside = (low < lengths) if last_bin else (high <= lengths)
    problems = [
        f"line {n}: {start} {rows.at[n, start]!r} and {end} {rows.at[n, end]!r} are no region; "
        "give whole numbers, 0-based, start before end"
        for n in rows.index[~good]
    ]
    problems += [
        f"line {n}: {rows.at[n, 'chrom']}:{low[n]:.0f}-{high[n]:.0f} lies beyond the end of "
        f"{rows.at[n, 'chrom']} ({lengths[n]} in {genome.assembly}): the table is on another "
        f"assembly; give one on {genome.assembly}"
        for n in rows.index[good & ~inside]
    ]
    found = np.column_stack([low.fillna(0), np.minimum(high.fillna(1), lengths)])
    return found.astype(np.int64), problems


def numbers(rows: pd.DataFrame, column: str) -> tuple[np.ndarray, list[str]]:
    """A column of numbers, float64 [n], NaN where a field is empty or NA; and what is no number."""
    text = rows[column].str.strip()
    values = _numbers(text)
    bad = rows.index[~np.isfinite(values) & ~text.str.lower().isin(MISSING)]
    problems = [
        f"line {n}: {column} {rows.at[n, column]!r} is no number; correct it or leave it empty"
        for n in bad
    ]
    return values.to_numpy(np.float64), problems
