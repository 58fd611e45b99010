"""The genome everything else is laid on: chromosomes, lengths, bin offsets, checks, masked bins.

Bin k of a chromosome covers bases [k*B, (k+1)*B), 0-based; the last bin of a chromosome is shorter.
A genome-long vector holds the bins of all chromosomes one after the other, in the order given here.
"""

from __future__ import annotations

import gzip
import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from epiloom.data.files import atomic
from epiloom.plan.errors import InputError

SCHEMA = 1
HUMAN = tuple(f"chr{name}" for name in (*range(1, 23), "X", "Y"))
CHR1 = {249250621: "hg19", 248956422: "hg38", 197195432: "mm9", 195471971: "mm10"}
GAP, BLACKLIST, OUTSIDE = 1, 2, 4


@dataclass(frozen=True)
class Genome:
    """Chromosomes of one assembly, in order, with lengths in bases."""

    assembly: str
    chromosomes: tuple[str, ...]
    lengths: tuple[int, ...]

    def __post_init__(self):
        object.__setattr__(self, "chromosomes", tuple(str(c) for c in self.chromosomes))
        object.__setattr__(self, "lengths", tuple(int(n) for n in self.lengths))
        problems = []
        if not self.chromosomes:
            problems.append("no chromosome; list at least one")
        if len(self.chromosomes) != len(self.lengths):
            problems.append(
                f"{len(self.chromosomes)} chromosomes but {len(self.lengths)} lengths; give as many"
            )
        if len(set(self.chromosomes)) != len(self.chromosomes):
            problems.append("a chromosome is listed twice; list each once")
        if any(n <= 0 for n in self.lengths):
            problems.append("a chromosome has length 0 or less; give its number of bases")
        if problems:
            raise InputError(f"genome {self.assembly}", problems)

    @cached_property
    def _place(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.chromosomes)}

    def __contains__(self, chrom: object) -> bool:
        return chrom in self._place

    def index(self, chrom: str) -> int:
        """Position of a chromosome in the order of this genome. Raises InputError if unknown."""
        if chrom not in self._place:
            raise InputError(
                f"genome {self.assembly}",
                f"chromosome {chrom!r} is not part of it; it has {', '.join(self.chromosomes)}",
            )
        return self._place[chrom]

    def length(self, chrom: str) -> int:
        """Bases of a chromosome. Raises InputError if unknown."""
        return self.lengths[self.index(chrom)]

    def bins(self, bin_bp: int) -> np.ndarray:
        """Number of bins of each chromosome, int64 [chromosomes]: ceil(length / bin_bp)."""
        if bin_bp < 1:
            raise InputError("bin size", f"{bin_bp} bp; give 1 or more")
        return -(-np.asarray(self.lengths, np.int64) // int(bin_bp))

    def offsets(self, bin_bp: int) -> np.ndarray:
        """First bin of each chromosome, then the total, int64 [chromosomes + 1]."""
        return np.concatenate([[0], np.cumsum(self.bins(bin_bp))]).astype(np.int64)

    def total(self, bin_bp: int) -> int:
        """Length of a genome-long vector at this bin size."""
        return int(self.bins(bin_bp).sum())

    def save(self, path: str | Path, bins: Sequence[int] = (25, 100, 128)) -> None:
        """Write the manifest (JSON) with the offsets of the given bin sizes."""
        manifest = {
            "schema": SCHEMA,
            "assembly": self.assembly,
            "chromosomes": list(self.chromosomes),
            "lengths": list(self.lengths),
            "offsets": {str(b): self.offsets(b).tolist() for b in bins},
        }
        with atomic(path) as tmp:
            tmp.write_text(json.dumps(manifest, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Genome:
        """Read a manifest. Raises InputError if it is missing, unreadable or contradicts itself."""
        remedy = "make the store again (delete its manifest.json and rerun)"
        try:
            manifest = json.loads(Path(path).read_text())
            genome = cls(manifest["assembly"], manifest["chromosomes"], manifest["lengths"])
            offsets = {int(b): list(o) for b, o in manifest["offsets"].items()}
        except FileNotFoundError:
            raise InputError(path, f"there is no such file; {remedy}") from None
        except (KeyError, TypeError, ValueError, AttributeError) as err:
            raise InputError(path, f"is not a genome manifest ({err!r}); {remedy}") from err
        if manifest.get("schema") != SCHEMA:
            raise InputError(
                path, f"schema {manifest.get('schema')!r}, {SCHEMA} is expected; {remedy}"
            )
        wrong = [b for b, o in offsets.items() if genome.offsets(b).tolist() != o]
        if wrong:
            raise InputError(path, f"offsets of bin size {wrong} do not fit the lengths; {remedy}")
        return genome


def read_chrom_sizes(path: str | Path, assembly: str, keep: Sequence[str] | None = None) -> Genome:
    """The genome of a UCSC chrom.sizes file (name, tab, length per line).

    Args:
        path: the file, plain or gzip.
        assembly: its name, such as "hg19".
        keep: chromosomes to keep, in this order; None keeps those of chr1-22, X, Y that are there.

    Raises:
        InputError: every faulty line, names missing in the file, or lengths of another assembly.
    """
    sizes, problems = _parse_sizes(path)
    looks = CHR1.get(sizes.get("chr1", sizes.get("1", 0)))
    if looks and assembly in CHR1.values() and looks != assembly:
        problems.append(
            f"chr1 has the length of {looks}, but the assembly is {assembly}; "
            f"give the chrom.sizes of {assembly} or set the assembly to {looks}"
        )
    names = [c for c in HUMAN if c in sizes] if keep is None else list(keep)
    absent = [c for c in names if c not in sizes]
    if absent:
        problems.append(
            f"chromosomes {', '.join(absent)} are not in the file{_prefix_hint(sizes, absent)}; "
            "choose among those of the file"
        )
    if not names and not problems:
        problems.append(
            f"none of chr1-22, chrX, chrY is in the file{_prefix_hint(sizes, HUMAN)}; "
            "list the chromosomes to keep"
        )
    if problems:
        raise InputError(path, problems)
    return Genome(assembly, tuple(names), tuple(sizes[c] for c in names))


def _parse_sizes(path: str | Path) -> tuple[dict[str, int], list[str]]:
    sizes: dict[str, int] = {}
    problems = []
    for number, line in enumerate(_lines(path), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split()
        if len(fields) < 2 or not fields[1].isdigit() or int(fields[1]) == 0:
            problems.append(
                f"line {number}: {line.strip()[:60]!r} is not NAME, tab, LENGTH; correct it"
            )
        elif fields[0] in sizes:
            problems.append(
                f"line {number}: {fields[0]} is there a second time; keep one of the two"
            )
        else:
            sizes[fields[0]] = int(fields[1])
    if not sizes and not problems:
        problems.append("the file is empty; download it again")
    return sizes, problems


def _lines(path: str | Path) -> list[str]:
    """Text lines of a small plain or gzip file. Raises InputError if it cannot be read."""
    try:
        data = Path(path).read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        return data.decode().splitlines()
    except FileNotFoundError:
        raise InputError(path, "there is no such file; check the path or download it") from None
    except (OSError, EOFError, ValueError) as err:
        raise InputError(path, f"cannot be read ({err}); download it again") from err


def _prefix_hint(found, wanted) -> str:
    """A remark if names differ from the wanted ones only by a "chr" in front."""
    if any(c.removeprefix("chr") in found for c in wanted if c.startswith("chr")):
        return ' (its names lack the "chr" in front)'
    if any(f"chr{c}" in found for c in wanted):
        return ' (its names have an extra "chr" in front)'
    return ""


def check_chromosomes(
    found: dict[str, int],
    file: str | Path,
    genome: Genome,
    allow_missing: Sequence[str] = ("chrY", "chrM"),
) -> None:
    """Refuse a track that was not made on this genome.

    Args:
        found: chromosome -> length in bases, as the file says.
        file: its name, for the message.
        genome: the genome it should fit.
        allow_missing: chromosomes that the file may lack (samples without a Y chromosome).

    Raises:
        InputError: no shared chromosome, other lengths (another assembly), chromosomes missing.
    """
    shared = [c for c in genome.chromosomes if c in found]
    if not shared:
        hint = _prefix_hint(found, genome.chromosomes)
        has = ", ".join(list(found)[:5]) or "none"
        raise InputError(
            file,
            f"shares no chromosome with {genome.assembly}{hint}: the file has {has}, the genome "
            f"{', '.join(genome.chromosomes[:5])}; rename the chromosomes of one of the two",
        )
    problems = []
    looks = CHR1.get(found.get("chr1", 0))
    hint = f" (the file looks like {looks})" if looks and looks != genome.assembly else ""
    for chrom in shared:
        if found[chrom] != genome.length(chrom):
            problems.append(
                f"{chrom} has {found[chrom]} bases in the file{hint}, {genome.length(chrom)} in "
                f"{genome.assembly}; give a track made on {genome.assembly} or change the assembly"
            )
    absent = [c for c in genome.chromosomes if c not in found and c not in allow_missing]
    if absent:
        problems.append(
            f"chromosomes {', '.join(absent)} of {genome.assembly} are not in the file; "
            "give a complete track, or leave these chromosomes out of the configuration"
        )
    if problems:
        raise InputError(file, problems)


def mask(
    genome: Genome,
    bin_bp: int,
    gaps: str | Path | None = None,
    blacklist: str | Path | None = None,
) -> np.ndarray:
    """Flags of unusable bins, uint8 [genome.total(bin_bp)].

    Flag 1: a base of the bin lies in an assembly gap; flag 2: in a blacklisted region.

    Args:
        gaps: UCSC gap.txt (bin, chrom, start, end, ...) or BED, plain or gzip; None: no gaps.
        blacklist: BED, plain or gzip; None: no blacklist. An empty file flags nothing.

    Raises:
        InputError: faulty lines, regions beyond a chromosome's end, no shared chromosome.
    """
    flags = np.zeros(genome.total(bin_bp), np.uint8)
    offsets, counts = genome.offsets(bin_bp), genome.bins(bin_bp)
    for path, flag in ((gaps, GAP), (blacklist, BLACKLIST)):
        if path is None:
            continue
        regions = _merged(_regions(path, genome))
        for chrom, rows in regions.groupby("chrom", sort=False):
            i = genome.index(str(chrom))
            step = np.zeros(counts[i] + 1, np.int64)
            np.add.at(step, rows["start"].to_numpy() // bin_bp, 1)
            np.add.at(step, -(-rows["end"].to_numpy() // bin_bp), -1)
            hit = np.cumsum(step[:-1]) > 0
            flags[offsets[i] : offsets[i + 1]][hit] |= flag
    return flags


def _regions(path: str | Path, genome: Genome) -> pd.DataFrame:
    """chrom, start, end of the regions on this genome's chromosomes, all lines checked."""
    rows, names, problems = [], {}, []
    for number, line in enumerate(_lines(path), 1):
        if not line.strip() or re.match(r"#|track\b|browser\b", line):
            continue
        fields = line.rstrip("\r\n").split("\t")
        # UCSC database tables carry their index bin as a first column; BED does not.
        if len(fields) > 3 and fields[0].isdigit() and not fields[1].isdigit():
            fields = fields[1:]
        if len(fields) < 3 or not (fields[1].isdigit() and fields[2].isdigit()):
            problems.append(
                f"line {number}: {line[:60]!r} is not CHROM, START, END with tabs; correct it"
            )
            continue
        chrom, start, end = fields[0], int(fields[1]), int(fields[2])
        names[chrom] = True
        if chrom not in genome or end <= start:
            continue
        if end > genome.length(chrom):
            problems.append(
                f"line {number}: {chrom}:{start}-{end} lies beyond the end of {chrom} "
                f"({genome.length(chrom)} in {genome.assembly}); give the file of this assembly"
            )
        rows.append((chrom, start, end))
    if names and not any(c in genome for c in names) and _prefix_hint(names, genome.chromosomes):
        problems.append(
            f"shares no chromosome with {genome.assembly}"
            f"{_prefix_hint(names, genome.chromosomes)}; rename its chromosomes"
        )
    if problems:
        raise InputError(
            path, problems[:20] + [f"... and {len(problems) - 20} more"] * (len(problems) > 20)
        )
    return pd.DataFrame(rows, columns=["chrom", "start", "end"])


def _merged(regions: pd.DataFrame) -> pd.DataFrame:
    """Sorted regions without overlaps (bedtools sort and merge)."""
    if regions.empty:
        return regions
    import pybedtools  # slow to import, and most scripts never mask

    kept = pybedtools.get_tempdir()
    with tempfile.TemporaryDirectory() as folder:
        pybedtools.set_tempdir(folder)
        try:
            merged = pybedtools.BedTool.from_dataframe(regions).sort().merge()
            return merged.to_dataframe(names=["chrom", "start", "end"], dtype={"chrom": str})
        except (OSError, pybedtools.helpers.BEDToolsError) as err:
            raise InputError(
                "bedtools", f"could not be run ({err}); install bedtools 2.27 or newer"
            ) from err
        finally:
            pybedtools.set_tempdir(kept)
