"""Regions that a user gives: BED files and texts such as "chr1:1,000-2,000"; 0-based half-open."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path

import pandas as pd

from epiloom.data.files import open_bytes
from epiloom.data.genome import Genome, _prefix_hint
from epiloom.plan.errors import InputError

SHOWN = 20  # problems told of one file
_REGION = re.compile(r"\s*(\S+?)\s*:\s*([\d,]+)\s*(?:-|\.\.)\s*([\d,]+)\s*")


def parse_region(text: str, genome: Genome) -> tuple[str, int, int]:
    """A region (chromosome, start, end) from "chr1:100-200" or "chr1" (all of it).

    Start is 0-based and end is not included, as in BED; commas between digits are allowed.

    Raises:
        InputError: not of this form, unknown chromosome, no base, beyond the end.
    """
    found = _REGION.fullmatch(text)
    if found is None and text.strip() in genome:
        return text.strip(), 0, genome.length(text.strip())
    if found is None:
        raise InputError(
            f"region {text!r}",
            f"is neither CHROM:START-END nor a chromosome of {genome.assembly}; give for example "
            f"{genome.chromosomes[0]}:0-{min(1000, genome.lengths[0])}",
        )
    chrom = found[1]
    start, end = (int(number.replace(",", "") or 0) for number in found.group(2, 3))
    if problem := _problem(chrom, start, end, genome):
        raise InputError(f"region {text!r}", problem)
    return chrom, start, end


def _problem(chrom: str, start: int, end: int, genome: Genome) -> str:
    """What is wrong with a region, or an empty text."""
    if chrom not in genome:
        hint = _prefix_hint({chrom: 1}, genome.chromosomes)
        return (
            f"{chrom} is not a chromosome of {genome.assembly}{hint}; it has "
            f"{', '.join(genome.chromosomes[:30])}"
        )
    if start >= end:
        return f"start {start} is not before end {end}; the end is not included, as in BED"
    if end > (length := genome.length(chrom)):
        return (
            f"{chrom}:{start}-{end} lies beyond the end of {chrom} ({length} in "
            f"{genome.assembly}); end it at {length}, or give regions of this assembly"
        )
    return ""


def read_bed(path: str | Path, genome: Genome, others: str = "refuse") -> pd.DataFrame:
    """Regions of a BED file in its order; plain or gzip, any order, further columns are ignored.

    Args:
        others: regions on chromosomes outside the genome: "refuse", or "skip" them (not if none
            would be left).

    Returns:
        chrom, start, end, line (number in the file); `attrs["skipped"]` counts skipped lines.

    Raises:
        InputError: faulty lines with their numbers; unreadable file.
    """
    rows, problems, strange, skipped = [], [], {}, 0
    for number, fields in _fields(path):
        if len(fields) < 3 or not (_whole(fields[1]) and _whole(fields[2])):
            shown = " ".join(fields)[:60]
            problems.append(f"line {number}: {shown!r} is not CHROM, START, END; correct it")
            continue
        chrom, start, end = fields[0], int(fields[1]), int(fields[2])
        if others == "skip" and chrom not in genome:
            strange[chrom] = skipped = skipped + 1
        elif problem := _problem(chrom, start, end, genome):
            problems.append(f"line {number}: {problem}")
        else:
            rows.append((chrom, start, end, number))
    if strange and not rows and not problems:
        problems.append(
            f"no region lies on {genome.assembly}{_prefix_hint(strange, genome.chromosomes)}: the "
            f"file has {', '.join(list(strange)[:5])}; rename its chromosomes or give another file"
        )
    if problems:
        more = [f"... and {len(problems) - SHOWN} more"] * (len(problems) > SHOWN)
        raise InputError(path, problems[:SHOWN] + more)
    found = pd.DataFrame(rows, columns=["chrom", "start", "end", "line"])
    found.attrs["skipped"] = skipped
    return found


def _whole(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _fields(path: str | Path):
    """(line number, columns) of the lines that are no header."""
    try:
        with open_bytes(path) as file:
            for number, line in enumerate(file, 1):
                text = line.decode().rstrip("\r\n")
                if text.strip() and not re.match(r"#|track\b|browser\b", text):
                    yield number, text.split("\t") if "\t" in text else text.split()
    except FileNotFoundError:
        raise InputError(path, "there is no such file; check the path or download it") from None
    except (OSError, EOFError, UnicodeDecodeError, gzip.BadGzipFile, zlib.error) as err:
        raise InputError(
            path, f"is cut short or cannot be read ({err}); download it again"
        ) from err
