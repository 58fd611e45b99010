"""Bases of the genome as uint8: A, C, G, T = 0..3, any other letter = 4.

    sequence/bases.npy      uint8 [genome.total(1)], chromosomes joined
    sequence/bases.json     source, counts per letter, data version

Soft-masked (lower case) bases are read like the others. One-hot is made where it is needed: four
columns for 0..3, all zero for 4.
"""

from __future__ import annotations

import gzip
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pysam

from epiloom.data.files import open_bytes
from epiloom.data.genome import CHR1, Genome, _prefix_hint
from epiloom.data.twobit import OTHER, TwoBit, is_twobit
from epiloom.data.vectors import (
    PerBase,
    StoredPerBase,
    new_vector,
    open_vector,
    read_about,
    write_about,
)
from epiloom.plan.errors import InputError

LETTERS = "ACGTN"
BLOCK = 1 << 20
_TABLE = bytes(max("ACGT".find(chr(i).upper()), -1) % 5 for i in range(256))
_TEXT = np.frombuffer(LETTERS.encode(), np.uint8)
_BLANK = b" \t\r\n"


def encode(text: bytes | str) -> np.ndarray:
    """Codes of a text of bases, read-only uint8 [letters]; white space is left out."""
    text = text.encode() if isinstance(text, str) else text
    return np.frombuffer(text.translate(_TABLE, _BLANK), np.uint8)


def decode(codes: np.ndarray) -> str:
    """Text of codes [n]: A, C, G, T, and N for anything else."""
    return _TEXT[np.minimum(codes, OTHER)].tobytes().decode()


def reverse_complement(codes: np.ndarray) -> np.ndarray:
    """Codes of the other strand, uint8 of the same shape; the last axis is reversed."""
    turned = from_the_end(codes)
    turned ^= np.uint8(3)  # 0..3 become 3..0, and 4 becomes 7
    turned -= (turned > 4).view(np.uint8) * np.uint8(3)
    return turned


def from_the_end(values: np.ndarray) -> np.ndarray:
    """A copy of uint8 [..., n], contiguous, with the last axis reversed."""
    values = np.ascontiguousarray(values)
    if values.shape[-1] % 8 or not values.size:
        return values[..., ::-1].copy()
    return values.view(np.uint64)[..., ::-1].byteswap().view(np.uint8)  # three times faster


def write_bases(folder: str | Path, source: str | Path, genome: Genome) -> dict:
    """Put the sequence into the store, in constant memory.

    Args:
        folder: the store; source: FASTA (plain, gzip, BGZF) or .2bit; genome: must be the store's.
            Sequences of the file that are not in the genome are passed over.

    Returns:
        What sequence/bases.json holds. It is written last.

    Raises:
        InputError: chromosomes missing or of other lengths (all of them), unreadable or cut file.
    """
    place = dict(zip(genome.chromosomes, genome.offsets(1).tolist(), strict=False))
    room = dict(zip(genome.chromosomes, genome.lengths, strict=True))
    counts = np.zeros(OTHER + 1, np.int64)
    found: dict[str, int] = {}
    base = Path(folder) / "sequence"
    with new_vector(base / "bases.npy", np.uint8, genome.total(1)) as vector:
        for name, codes in _pieces(source, genome):
            done = found.get(name, 0)
            found[name] = done + len(codes)
            kept = codes[: max(room.get(name, 0) - done, 0)]
            if len(kept):
                vector[place[name] + done : place[name] + done + len(kept)] = kept
                counts += np.bincount(kept, minlength=OTHER + 1)
        _check_lengths(found, source, genome)
    letters = dict(zip([*LETTERS[:4], "other"], counts.tolist(), strict=True))
    gc = int(counts[1] + counts[2]) / max(int(counts[:4].sum()), 1)
    return write_about(base / "bases.json", genome, source, counts=letters, gc=gc)


def _check_lengths(found: dict[str, int], source: str | Path, genome: Genome) -> None:
    """Every chromosome of the genome must be there with its length; all problems at once."""
    looks = CHR1.get(found.get("chr1", 0))
    hint = f" (the file looks like {looks})" if looks and looks != genome.assembly else ""
    problems = [
        f"{chrom} has {found[chrom]} bases in the file{hint}, {length} in {genome.assembly}; give "
        f"the sequence of {genome.assembly} (if only the last one is short, download it again)"
        for chrom, length in zip(genome.chromosomes, genome.lengths, strict=True)
        if found.get(chrom, length) != length
    ]
    absent = [c for c in genome.chromosomes if c not in found]
    if absent:
        problems.append(
            f"chromosomes {', '.join(absent)} of {genome.assembly} are not in the file"
            f"{_prefix_hint(found, absent)}; give the complete sequence of {genome.assembly}"
        )
    if problems:
        raise InputError(source, problems)


def _pieces(source: str | Path, genome: Genome) -> Iterator[tuple[str, np.ndarray]]:
    """(sequence name, its next codes), from beginning to end of the file."""
    if is_twobit(source):
        file = TwoBit(source)
        _check_lengths(file.lengths, source, genome)
        for name, length in zip(genome.chromosomes, genome.lengths, strict=True):
            for start in range(0, length, BLOCK):
                yield name, file.codes(name, start, min(start + BLOCK, length))
        return
    try:
        for name, text in _fasta(source):
            yield name, encode(text)
    except (EOFError, gzip.BadGzipFile, zlib.error, OSError) as err:
        raise InputError(
            source, f"is cut short or cannot be read ({err}); download it again"
        ) from err


def _fasta(source: str | Path) -> Iterator[tuple[str, bytes]]:
    """(name, piece of its text with line ends); an empty piece at every header."""
    name, header, seen = None, None, set()
    with open_bytes(source) as file:
        while block := file.read(BLOCK):
            while block:
                if header is not None:
                    line, ended, block = block.partition(b"\n")
                    header += line
                    if not ended:
                        break
                    name, header = _name(header, seen, source), None
                    yield name, b""
                text, mark, block = block.partition(b">")
                if name is not None:
                    yield name, text
                elif text.strip():
                    raise InputError(
                        source, f"is not FASTA (begins with {text.strip()[:20]!r}); give FASTA"
                    )
                header = b"" if mark else None
    if header is not None:
        yield _name(header, seen, source), b""
    elif name is None:
        raise InputError(source, "holds no sequence; download it again")


def _name(header: bytes, seen: set[str], source: str | Path) -> str:
    """The first word of a header; refused if it was there before."""
    name = (header.split() or [b""])[0].decode(errors="replace")
    if name in seen:
        raise InputError(source, f"sequence {name!r} is there twice; keep one of the two")
    seen.add(name)
    return name


def stored_bases(folder: str | Path, genome: Genome) -> StoredPerBase:
    """The sequence of a store. Raises InputError if it was not made, or for another genome."""
    base = Path(folder) / "sequence"
    read_about(base / "bases.json", genome)
    vector = open_vector(base / "bases.npy", np.uint8, genome.total(1))
    return StoredPerBase(genome, vector, OTHER)


def open_bases(source: str | Path, genome: Genome) -> PerBase:
    """Windows straight from FASTA (plain or BGZF) or .2bit, the same codes as from the store.

    Raises:
        InputError: see `write_bases`; gzip that is not BGZF, since it has no random access.
    """
    return TwoBitBases(source, genome) if is_twobit(source) else FastaBases(source, genome)


class TwoBitBases(PerBase):
    """Windows of bases from a .2bit file."""

    outside = OTHER

    def __init__(self, source: str | Path, genome: Genome):
        super().__init__(genome)
        self.file = TwoBit(source)
        _check_lengths(self.file.lengths, source, genome)

    def read(self, chrom: str, start: int, end: int) -> np.ndarray:
        return self.file.codes(chrom, start, end)


class FastaBases(PerBase):
    """Windows of bases from plain or BGZF FASTA; an index is made aside if none lies beside it."""

    outside = OTHER

    def __init__(self, source: str | Path, genome: Genome):
        super().__init__(genome)
        self._kept = tempfile.TemporaryDirectory(prefix="epiloom-fasta-")
        names = _index(Path(source), Path(self._kept.name))
        try:
            self.file = pysam.FastaFile(str(source), *names)
        except (OSError, ValueError) as err:
            raise InputError(source, f"cannot be opened ({err}); download it again") from err
        self.source = source
        lengths = dict(zip(self.file.references, self.file.lengths, strict=True))
        _check_lengths(lengths, source, genome)

    def read(self, chrom: str, start: int, end: int) -> np.ndarray:
        try:
            codes = encode(self.file.fetch(chrom, start, end))
        except (OSError, ValueError) as err:
            raise InputError(self.source, f"is damaged ({err}); download it again") from err
        if len(codes) != end - start:
            raise InputError(
                self.source,
                f"{chrom}:{start}-{end} holds {len(codes)} bases; make its index again",
            )
        return codes

    def close(self) -> None:
        self.file.close()
        self._kept.cleanup()


def _index(source: Path, folder: Path) -> tuple[str, ...]:
    """Index files of a FASTA: those beside it if they are younger, else made in `folder`."""
    with source.open("rb") as file:
        head = file.read(16)
    packed = head[:2] == b"\x1f\x8b"
    if packed and not (len(head) == 16 and head[3] & 4 and head[12:14] == b"BC"):
        raise InputError(
            source,
            "is gzip but not BGZF, so single windows cannot be read from it; pack it again "
            "(`gunzip -c IN.gz | bgzip > OUT.gz`) or put it into the store first",
        )
    suffixes = (".fai", ".gzi") if packed else (".fai",)
    beside = [Path(f"{source}{suffix}") for suffix in suffixes]
    age = source.stat().st_mtime
    if all(p.exists() and p.stat().st_mtime >= age for p in beside):
        return tuple(str(p) for p in beside)
    made = [str(folder / f"x{suffix}") for suffix in suffixes]
    options = ["--fai-idx", made[0]] + (["--gzi-idx", made[1]] if packed else [])
    try:
        pysam.faidx(*options, str(source))
    except pysam.SamtoolsError as err:
        said = " ".join(str(err).split())[-200:]
        raise InputError(
            source, f"cannot be indexed ({said}); give complete FASTA with lines of one length"
        ) from err
    return tuple(made)
