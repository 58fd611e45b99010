"""Causal expression variants (eQTLs) of GTEx tissues: reader, assembly check, lift-over.

The table is the published spreadsheet (Wang et al. 2021, s41467-021-23134-8, file MOESM10) or a
text file with its columns: tissue, gene (Ensembl id with version), variant (chrom:position:a:b,
position 1-based). Positions are 0-based inside.
"""

from __future__ import annotations

import gzip
import logging
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

SHEET = "put_causal_eqtls_tissue_unique"
COLUMNS = ("tissue", "gene", "variant")
FIELDS = ("tissue", "gene_id", "chrom", "position", "ref", "alt")  # of a table once read
TISSUES = Path(__file__).resolve().parents[2] / "config" / "eqtl_tissues.tsv"
FITTING = 0.9  # smallest share of variants that must show one of their alleles in the genome
_VARIANT = re.compile(r"(?:chr)?(\w{1,2})[:_](\d+)[:_]([ACGT]+)[:_]([ACGT]+)(?:[:_]b3[78])?", re.I)
_COMPLEMENT = str.maketrans("ACGT", "TGCA")

# (chromosome, 0-based position) -> [(chromosome, position, strand, score), ...], best first, or
# None for a chromosome that the chain file does not know; `pyliftover` gives such a function.
Convert = Callable[[str, int], "list[tuple[str, int, str, int]] | None"]


@dataclass(frozen=True)
class Prepared:
    """eQTLs on the assembly of the run.

    Attributes:
        table: columns FIELDS.
        counts: rows as given and left, and why the others were left out (`unmapped`: no place in
            the new assembly; `allele_changed`: neither allele stands there).
    """

    table: pd.DataFrame
    counts: dict[str, int]


def tissues_of(cells: Sequence[str], override: Mapping[str, Sequence[str]] | None = None) -> dict:
    """GTEx tissues per cell, of config/eqtl_tissues.tsv or given; cells without one are left out.

    Args:
        override: cell -> tissues; a cell named here takes nothing from the file.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        table = pd.read_csv(TISSUES, sep="\t", dtype=str, keep_default_na=False)
        known = table.groupby("cell")["tissue"].agg(list).to_dict()
    except (OSError, KeyError, ValueError) as err:
        raise InputError(TISSUES, f"cannot be read ({err}); restore the file") from err
    known |= {cell: list(tissues) for cell, tissues in (override or {}).items()}
    return {cell: known[cell] for cell in cells if known.get(cell)}


def read(path: str | Path) -> pd.DataFrame:
    """Read the spreadsheet or a tab-separated file (plain or gzip) with the same columns.

    Returns:
        One row per tissue, gene and variant (columns FIELDS): gene_id without version, chromosome
        with `chr`, 0-based position of the first allele's first base.

    Raises:
        InputError: not such a file, columns missing, malformed variants; all problems at once.
    """
    raw = _sheet(path) if zipfile.is_zipfile(path) else _text(path)
    raw = raw.rename(columns=lambda name: str(name).strip().lower())
    absent = [name for name in COLUMNS if name not in raw.columns]
    if absent:
        raise InputError(
            path,
            f"no column {', '.join(absent)}; it has {', '.join(raw.columns[:8])}: name the columns "
            f"{', '.join(COLUMNS)}",
        )
    raw = raw[list(COLUMNS)].fillna("").astype(str).apply(lambda column: column.str.strip())
    parts = [_VARIANT.fullmatch(text) for text in raw["variant"]]
    bad = [i for i, part in enumerate(parts) if part is None]
    empty = np.flatnonzero((raw[["tissue", "gene"]] == "").any(axis=1)).tolist()
    problems = [
        f"row {i + 2}: variant {raw['variant'].iloc[i]!r} is not chrom:position:allele:allele "
        "(bases A, C, G, T); correct or remove the row"
        for i in bad[:10]
    ]
    problems += [f"row {i + 2}: no tissue or gene; fill it or remove the row" for i in empty[:10]]
    more = max(0, len(bad) - 10) + max(0, len(empty) - 10)
    problems += [f"... and {more} more rows"] * (more > 0)
    if not len(raw):
        problems.append("has no rows; get it again")
    if problems:
        raise InputError(path, problems)
    table = pd.DataFrame(
        {
            "tissue": raw["tissue"],
            "gene_id": raw["gene"].str.split(".").str[0],
            "chrom": [_chromosome(part[1]) for part in parts],
            "position": np.array([int(part[2]) for part in parts], np.int64) - 1,
            "ref": [part[3].upper() for part in parts],
            "alt": [part[4].upper() for part in parts],
        }
    )
    return table.drop_duplicates().reset_index(drop=True)


def _chromosome(name: str) -> str:
    return f"chr{name.upper() if name.isalpha() else name}"


def _sheet(path: str | Path) -> pd.DataFrame:
    try:
        with pd.ExcelFile(path, engine="openpyxl") as book:
            if SHEET in book.sheet_names:
                return pd.read_excel(book, sheet_name=SHEET, dtype=str)
            names = ", ".join(map(str, book.sheet_names))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as err:
        raise InputError(path, f"cannot be read as a spreadsheet ({err}); get it again") from err
    raise InputError(
        path, f"no sheet {SHEET!r}; it has {names}: give the file 41467_2021_23134_MOESM10_ESM.xlsx"
    )


def _text(path: str | Path) -> pd.DataFrame:
    try:
        with open(path, "rb") as file:
            packed = "gzip" if file.read(2) == b"\x1f\x8b" else None
        return pd.read_csv(path, sep="\t", dtype=str, compression=packed)
    except FileNotFoundError:
        raise InputError(path, "there is no such file; check the path") from None
    except (OSError, EOFError, ValueError) as err:
        raise InputError(
            path, f"cannot be read ({err}); give the spreadsheet (.xlsx) or a tab-separated table"
        ) from err


# --- the assembly ---------------------------------------------------------------------------------


def prepare(
    table: pd.DataFrame,
    where: str | Path,
    stated: str,
    assembly: str,
    fasta: str | Path | None = None,
    convert: Convert | None = None,
) -> Prepared:
    """eQTLs on the assembly of the run, checked against its sequence and lifted over if need be.

    Args:
        table: as `read` gives it. where: its file, for messages.
        stated: assembly of the table; `auto` looks it up in the sequence.
        assembly: assembly of the run, which `fasta` (plain or gzip) belongs to.
        fasta: None: the stated assembly is believed.
        convert: lift-over to `assembly`; needed if the table is on another one.

    Raises:
        InputError: the alleles do not fit the sequence, the assembly cannot be told, or the
            lift-over is missing.
    """
    if stated == "auto" and fasta is None:
        raise InputError(
            where,
            f"eqtl_assembly = auto needs the sequence of {assembly}: say which assembly the table "
            "is on (hg19 or hg38), or provide the source genome_fasta",
        )
    counts = {"given": len(table), "unmapped": 0, "allele_changed": 0}
    shown = None if fasta is None else _alleles_there(table, fasta)
    if stated == "auto":
        stated = assembly if _share(shown) >= FITTING else "another assembly"
        log.info("%s: on %s (%.1f%% of the alleles fit)", where, stated, 100 * _share(shown))
    if stated != assembly:
        if convert is None:
            raise InputError(where, _no_chain(stated, assembly, shown))
        table, counts["unmapped"] = lift(table, convert)
        shown = None if fasta is None else _alleles_there(table, fasta)
    if shown is None:
        log.warning("%s: not compared with the sequence of %s (none given)", where, assembly)
    else:
        _check_fit(shown, where, stated, assembly)
        counts["allele_changed"] = int((~shown).sum())
        table = table[shown]
    counts["kept"] = len(table)
    log.info("%s: %s", where, ", ".join(f"{value} {name}" for name, value in counts.items()))
    return Prepared(table.reset_index(drop=True), counts)


def _share(shown: np.ndarray) -> float:
    return float(shown.mean()) if len(shown) else 1.0


def _no_chain(stated: str, assembly: str, shown: np.ndarray | None) -> str:
    seen = "" if shown is None else f" ({100 * _share(shown):.0f}% of its alleles fit {assembly})"
    return (
        f"is on {stated}, the run on {assembly}{seen}: provide the chain file (source "
        f"liftover_hg38_hg19), or give a table of {assembly} and set eqtl_assembly to {assembly}"
    )


def _check_fit(shown: np.ndarray, where: str | Path, stated: str, assembly: str) -> None:
    if _share(shown) >= FITTING:
        return
    lifted = "" if stated == assembly else f" after lift-over from {stated}"
    raise InputError(
        where,
        f"only {100 * _share(shown):.0f}% of its {len(shown)} variants show one of their alleles "
        f"in the sequence of {assembly}{lifted}, at least {100 * FITTING:.0f}% are expected: "
        f"eqtl_assembly = {stated} is wrong (GTEx v8 is on hg38), or the table is",
    )


def _alleles_there(table: pd.DataFrame, fasta: str | Path) -> np.ndarray:
    """True where the genome has one of the two alleles (which is the reference is not trusted)."""
    longest = int(table["ref"].str.len().max()) if len(table) else 1
    longest = max(longest, int(table["alt"].str.len().max()) if len(table) else 1)
    found = bases_at(fasta, table["chrom"], table["position"], longest)
    rows = zip(found, table["ref"], table["alt"], strict=True)
    return np.array([text.startswith((ref, alt)) for text, ref, alt in rows], bool)


def bases_at(
    fasta: str | Path, chroms: Sequence[str], positions: Sequence[int], length: int = 1
) -> list[str]:
    """Upper-case bases from each 0-based position on, "" outside the sequence.

    The file (plain or gzip) is read once from end to end: no index is needed, which plain gzip
    cannot have.
    """
    wanted: dict[str, list[tuple[int, int]]] = {}
    for row, (chrom, place) in enumerate(zip(chroms, positions, strict=True)):
        wanted.setdefault(str(chrom), []).append((int(place), row))
    found = [""] * len(chroms)
    for chrom, sequence in _chromosomes(fasta, set(wanted)):
        for place, row in wanted[chrom]:
            if place >= 0:
                found[row] = sequence[place : place + length].decode().upper()
    return found


def _chromosomes(fasta: str | Path, names: set[str]) -> Iterator[tuple[str, bytearray]]:
    """Name and bases of the named chromosomes, one after the other."""
    try:
        with open(fasta, "rb") as file:
            opener = gzip.open if file.read(2) == b"\x1f\x8b" else open
        with opener(fasta, "rb") as file:
            name, sequence = "", bytearray()
            for line in file:
                if line.startswith(b">"):
                    if name in names:
                        yield name, sequence
                    name, sequence = line[1:].split()[0].decode(), bytearray()
                elif name in names:
                    sequence += line.rstrip()
            if name in names:
                yield name, sequence
    except (OSError, EOFError, IndexError) as err:
        raise InputError(fasta, f"cannot be read as FASTA ({err}); get it again") from err


def lift(table: pd.DataFrame, convert: Convert) -> tuple[pd.DataFrame, int]:
    """Bring every variant to another assembly; returns those with a place, and how many have none.

    Of several places the one of the best chain counts. A place on the minus strand turns the
    alleles, and an allele of several bases then starts at its other end.
    """
    rows = []
    for row in table.itertuples(index=False):
        ends = (row.position, row.position + len(row.ref) - 1)
        first, last = (convert(row.chrom, place) or [None] for place in ends)
        if first[0] is None or last[0] is None:
            continue
        (chrom, start, strand, _), (other, end, _, _) = first[0][:4], last[0][:4]
        if chrom != other or abs(end - start) != len(row.ref) - 1:
            continue  # torn apart by a gap between the assemblies
        ref, alt = row.ref, row.alt
        if strand == "-":
            ref, alt = (text.translate(_COMPLEMENT)[::-1] for text in (ref, alt))
        rows.append((row.tissue, row.gene_id, chrom, min(start, end), ref, alt))
    lifted = pd.DataFrame(rows, columns=list(FIELDS)).astype({"position": np.int64})
    return lifted, len(table) - len(lifted)
