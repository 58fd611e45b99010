"""Variants to score: read from VCF or a table, checked against the genome and its sequence.

A table is tab-separated with a header: chrom, position (1-based), ref, alt and, if wanted, id.
Alleles are those of the + strand. Positions are 0-based inside.
"""

from __future__ import annotations

import gzip
import logging
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from epiloom.data.files import open_bytes
from epiloom.data.genome import Genome
from epiloom.data.sequence import decode
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

FIELDS = ("chrom", "position", "ref", "alt", "id")
NEEDED = ("chrom", "position", "ref", "alt")
_ALIASES = {"chromosome": "chrom", "chr": "chrom", "pos": "position", "reference": "ref"}
_ALIASES |= {"alternative": "alt", "rsid": "id", "variant_id": "id"}
_BASES = re.compile("[ACGT]+")
_IUPAC = re.compile("[ACGTNRYSWKMBDHV]+")
# alternative alleles that no sequence can be made of; skipped and counted
_SKIPPED = (
    ("symbolic", re.compile(r"<.+>|\*|<\*>")),
    ("breakend", re.compile(r".*[\[\]].*|\.[ACGTN]+|[ACGTN]+\.")),
    ("no_alternative", re.compile(r"\.")),
)
SHOWN = 20  # problems of one kind told in full


class Bases(Protocol):
    """Reads bases of the genome; beyond the ends of a chromosome they are 4."""

    def bases(self, chrom: str, start: int, length: int) -> np.ndarray:
        """uint8 [length]: A, C, G, T = 0..3, other 4."""


@dataclass(frozen=True)
class Variants:
    """Variants, one row each.

    Attributes:
        table: columns FIELDS and `line` (in the file); position is 0-based, of the first base of
            `ref`; alleles are upper case; id is "" where there is none.
        counts: rows of the file (`given`, after multi-allelic rows were split), `kept`, and the
            others by reason.
    """

    table: pd.DataFrame
    counts: dict[str, int]


class _Problems:
    """Problems of the lines of a file; the first of each kind in full, of the others the number."""

    def __init__(self) -> None:
        self.kinds: dict[str, list[str]] = {}

    def add(self, kind: str, text: str) -> None:
        self.kinds.setdefault(kind, []).append(text)

    def listed(self) -> list[str]:
        lines = []
        for kind, found in self.kinds.items():
            lines += found[:SHOWN]
            more = len(found) - SHOWN
            lines += [f"... and {more} more lines: {kind}"] * (more > 0)
        return lines


# --- reading --------------------------------------------------------------------------------------


def read(path: str | Path) -> Variants:
    """Read a VCF (of which the first five columns count) or a table, plain, gzip or bgzip.

    Alternative alleles separated by commas become a row each. Skipped and counted: symbolic alleles
    and `*`, breakends, `.` (no alternative), alleles with letters other than A, C, G, T, rows that
    were there before.

    Raises:
        InputError: not such a file, or malformed lines; all problems at once.
    """
    lines = _lines(path)
    kind, header, before = _opening(path, lines)
    columns = _columns(path, kind, header)
    problems, counts = _Problems(), {"given": 0}
    rows: dict[tuple, tuple] = {}
    for number, line in enumerate(lines, before + 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.rstrip("\r\n").split("\t")
        if len(fields) <= max(columns.values()):
            problems.add(
                "too few columns",
                f"line {number}: {len(fields)} columns between tabs, {max(columns.values()) + 1} "
                "are needed; correct it",
            )
            continue
        values = {name: fields[at].strip() for name, at in columns.items()}
        place = _place(values, number, problems)
        for alt in values["alt"].upper().split(","):
            counts["given"] += 1
            why = _unusable(values["ref"].upper(), alt, number, problems)
            if why or place is None:
                if why:
                    counts[why] = counts.get(why, 0) + 1
                continue
            key = (values["chrom"], place, values["ref"].upper(), alt)
            if key in rows:
                counts["duplicates"] = counts.get("duplicates", 0) + 1
                continue
            name = values.get("id", "")
            rows[key] = (*key, "" if name == "." else name, number)
    if problems.kinds:
        raise InputError(path, problems.listed())
    if not counts["given"]:
        raise InputError(path, "has no variants; give at least one")
    table = pd.DataFrame(list(rows.values()), columns=[*FIELDS, "line"])
    table = table.astype({"position": np.int64, "line": np.int64})
    return Variants(table, counts | {"kept": len(table)})


def _lines(path: str | Path) -> Iterator[str]:
    """Text lines of the file; errors of reading become an InputError that names it."""
    try:
        with open_bytes(path) as file:
            for line in file:
                yield line.decode()
    except FileNotFoundError:
        raise InputError(path, "there is no such file; check the path") from None
    except UnicodeDecodeError as err:
        raise InputError(
            path,
            "is not text; give VCF or a tab-separated table, plain, gzip or bgzip (BCF: convert "
            "it with `bcftools view -Oz`)",
        ) from err
    except (EOFError, gzip.BadGzipFile, zlib.error, OSError) as err:
        raise InputError(path, f"is cut short or cannot be read ({err}); get it again") from err


def _opening(path: str | Path, lines: Iterator[str]) -> tuple[str, list[str], int]:
    """`vcf` or `table`, the names of the columns, and the number of that line."""
    number, vcf = 0, False
    for number, line in enumerate(lines, 1):
        if line.startswith("##"):
            vcf = vcf or line.startswith("##fileformat=VCF")
        elif line.strip():
            names = line.strip("\r\n").lstrip("#").split("\t")
            vcf = vcf or line.startswith("#CHROM\tPOS\tID\tREF\tALT")
            if vcf and not line.startswith("#CHROM\t"):
                raise InputError(
                    path, f"line {number}: no #CHROM line before the first variant; restore it"
                )
            return ("vcf" if vcf else "table"), names, number
    raise InputError(path, "is empty; give a VCF or a table")


def _columns(path: str | Path, kind: str, header: list[str]) -> dict[str, int]:
    """Where the columns are. Raises InputError if one is missing."""
    if kind == "vcf":
        if [name.strip() for name in header[:5]] != ["CHROM", "POS", "ID", "REF", "ALT"]:
            raise InputError(
                path, "the #CHROM line must begin with #CHROM POS ID REF ALT (tabs); correct it"
            )
        return {"chrom": 0, "position": 1, "id": 2, "ref": 3, "alt": 4}
    found = {}
    for at, name in enumerate(header):
        name = name.strip().lower()
        found.setdefault(_ALIASES.get(name, name), at)
    absent = [name for name in NEEDED if name not in found]
    if absent:
        raise InputError(
            path,
            f"no column {', '.join(absent)}; its first line has {', '.join(header[:8])[:100]!r}: "
            "give VCF, or a header with the columns chrom, position (1-based), ref, alt and, if "
            "wanted, id, separated by tabs",
        )
    return {name: at for name, at in found.items() if name in (*FIELDS, "strand")}


def _place(values: dict[str, str], number: int, problems: _Problems) -> int | None:
    """0-based position, or None with a problem noted."""
    if values.get("strand", "+") not in ("+", "1", "."):
        problems.add(
            "not on the + strand",
            f"line {number}: strand {values['strand']!r}; give both alleles on the + strand",
        )
    if not re.fullmatch(r"[0-9]{1,12}", values["position"]) or int(values["position"]) == 0:
        problems.add(
            "no position",
            f"line {number}: position {values['position'][:30]!r} is not a number from 1 on "
            "(positions are 1-based); correct it",
        )
        return None
    return int(values["position"]) - 1


def _unusable(ref: str, alt: str, number: int, problems: _Problems) -> str:
    """Why a pair of alleles is left out, "" if it is not; malformed ones are noted as problems."""
    for reason, pattern in _SKIPPED:
        if pattern.fullmatch(alt):
            return reason
    wrong = [text for text in (ref, alt) if not _IUPAC.fullmatch(text)]
    if wrong:
        problems.add(
            "an allele is no sequence",
            f"line {number}: allele {wrong[0][:30]!r} is not made of bases; write the bases of "
            "both alleles (insertions and deletions with the base before them, as in VCF)",
        )
        return "malformed"
    if not (_BASES.fullmatch(ref) and _BASES.fullmatch(alt)):
        return "ambiguous_letters"
    if ref == alt:
        problems.add(
            "both alleles are the same",
            f"line {number}: ref and alt are both {ref[:30]}; correct or remove the row",
        )
        return "malformed"
    return ""


# --- the genome -----------------------------------------------------------------------------------


def check(
    variants: Variants, where: str | Path, genome: Genome, reader: Bases, strict: bool = True
) -> Variants:
    """Variants on the genome's chromosomes, in its order, whose ref is what the genome has there.

    Names with and without `chr` are matched. Skipped and counted: chromosomes that the genome lacks
    (but not all), rows that become duplicates by the renaming.

    Args:
        where: the file, for messages.
        strict: refuse a table with mismatches; False: leave those rows out, counted, as long as
            half of the table fits.

    Raises:
        InputError: no shared chromosome, positions beyond a chromosome's end, alleles that do not
            fit the genome (the first 20, with what is there); all problems at once.
    """
    counts = dict(variants.counts)
    table = _renamed(variants.table, where, genome, counts)
    problems = _Problems()
    inside = _inside(table, genome, problems)
    there = _there(table, genome, reader)
    fits = np.array([text == ref for text, ref in zip(there, table["ref"], strict=True)], bool)
    wrong = np.flatnonzero(inside & ~fits)
    if len(wrong) and (strict or fits.sum() * 2 < inside.sum()):
        for i in wrong:
            problems.add("ref is not the base of the genome", _mismatch(table.iloc[i], there[i]))
    listed = problems.listed()
    if "ref is not the base of the genome" in problems.kinds:
        listed.append(_hint(table[inside], fits[inside], genome, reader, table.iloc[wrong], there))
    if listed:
        raise InputError(where, listed)
    if len(wrong):
        counts["mismatches"] = len(wrong)
    place = {name: i for i, name in enumerate(genome.chromosomes)}
    table = table[fits]
    table = table.assign(order=table["chrom"].map(place)).sort_values(
        ["order", "position", "ref", "alt"], kind="stable"
    )
    counts["kept"] = len(table)
    log.info("%s: %s", where, ", ".join(f"{n} {name}" for name, n in counts.items()))
    return Variants(table.drop(columns="order").reset_index(drop=True), counts)


def _renamed(table: pd.DataFrame, where, genome: Genome, counts: dict[str, int]) -> pd.DataFrame:
    """With the genome's names of chromosomes; rows on others are left out."""
    names = {name: _name(name, genome) for name in dict.fromkeys(table["chrom"])}
    if names and not any(names.values()):
        raise InputError(
            where,
            f"no variant lies on a chromosome of {genome.assembly}: the file has "
            f"{', '.join(list(names)[:5])}, the genome {', '.join(genome.chromosomes[:5])}; "
            "rename the chromosomes of one of the two",
        )
    changed = {old: new for old, new in names.items() if new and old != new}
    if changed:
        old, new = next(iter(changed.items()))
        log.warning("%s: chromosomes are called as in the genome (%s -> %s, ...)", where, old, new)
    table = table.assign(chrom=table["chrom"].map(names))
    known = table["chrom"].notna()
    if not known.all():
        counts["other_chromosome"] = int((~known).sum())
        others = [name for name, new in names.items() if new is None]
        log.warning(
            "%s: %d variants lie on chromosomes that %s does not have (%s); left out",
            *(where, counts["other_chromosome"], genome.assembly, ", ".join(others[:5])),
        )
    table = table[known]
    again = table.duplicated(list(NEEDED))
    if again.any():
        counts["duplicates"] = counts.get("duplicates", 0) + int(again.sum())
    return table[~again].reset_index(drop=True)


def _name(name: str, genome: Genome) -> str | None:
    bare = name[3:] if name.lower().startswith("chr") else name
    bare = bare.upper()
    mito = {"M": ("chrM", "MT", "M", "chrMT"), "MT": ("chrM", "MT", "M", "chrMT")}
    for option in (name, f"chr{bare}", bare, *mito.get(bare, ())):
        if option in genome:
            return option
    return None


def _inside(table: pd.DataFrame, genome: Genome, problems: _Problems) -> np.ndarray:
    """True where all of ref lies on the chromosome."""
    length = np.array([genome.length(chrom) for chrom in table["chrom"]], np.int64)
    inside = (table["position"] + table["ref"].str.len()).to_numpy(np.int64) <= length
    for i in np.flatnonzero(~inside):
        row = table.iloc[i]
        what = "position" if row["position"] >= length[i] else "the end of ref"
        problems.add(
            "beyond the end of the chromosome",
            f"line {row['line']}: {_named(row)}: {what} lies beyond the end of {row['chrom']} "
            f"({length[i]} bases in {genome.assembly}); give variants of {genome.assembly}",
        )
    return inside


def _there(table: pd.DataFrame, genome: Genome, reader: Bases, offset: int = 0) -> list[str]:
    """What the genome has at the place of every ref, upper case."""
    rows = zip(table["chrom"], table["position"], table["ref"], strict=True)
    return [decode(reader.bases(c, int(p) + offset, len(ref))) for c, p, ref in rows]


def _named(row: pd.Series) -> str:
    ref, alt = (text if len(text) < 13 else f"{text[:10]}..." for text in (row["ref"], row["alt"]))
    return f"{row['chrom']}:{row['position'] + 1} {ref}>{alt}"


def _mismatch(row: pd.Series, there: str) -> str:
    if row["alt"] == there:
        return f"line {row['line']}: {_named(row)}: the genome has alt there; swap ref and alt"
    has = there if len(there) < 25 else f"{there[:20]}..."
    note = " (unknown bases)" if set(there) == {"N"} else ""
    return f"line {row['line']}: {_named(row)}: the genome has {has}{note}; correct the row"


def _hint(
    table: pd.DataFrame,
    fits: np.ndarray,
    genome: Genome,
    reader: Bases,
    wrong: pd.DataFrame,
    there: list[str],
) -> str:
    """What the mismatches as a whole look like."""
    count, total = len(wrong), len(table)
    told = f"in all {count} of {total} variants do not fit {genome.assembly}"
    swapped = sum(row.alt == there[row.Index] for row in wrong.itertuples())
    if swapped == count:
        return f"{told}: every one has its alleles swapped; exchange the two columns for them"
    later = _there(wrong, genome, reader, offset=1)
    moved = sum(text == ref for text, ref in zip(later, wrong["ref"], strict=True))
    if count > 3 and moved >= 0.9 * count:
        return f"{told}, but would one base further on: positions look 0-based; add 1 to each"
    if fits.mean() < 0.5:
        return f"{told}: they are on another assembly, it seems; lift them over to this one"
    return f"{told}; correct these rows, or leave out what does not fit (strict: false)"
