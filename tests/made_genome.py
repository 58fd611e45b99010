"""A toy genome of about 1 Mb as real files, FASTA, .2bit and bigWig, written slowly and plainly."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pyBigWig
import pysam

from epiloom.data.genome import Genome

GENOME = Genome("toy", ("chr1", "chr2", "chr3"), (500_123, 300_000, 200_777))


def random_text(rng: np.random.Generator, genome: Genome = GENOME) -> dict[str, str]:
    """Bases with soft-masked stretches, N at both ends of the first chromosome, IUPAC letters."""
    texts = {}
    for chrom, length in zip(genome.chromosomes, genome.lengths, strict=True):
        letters = rng.choice(list("ACGT"), length)
        for start in rng.integers(0, length, 20):
            letters[start : start + 300] = np.char.lower(letters[start : start + 300])
        for place in rng.integers(0, length, 30):
            letters[place] = rng.choice(list("NnRYKMrySWBDHV"))
        texts[chrom] = "".join(letters)
    first = genome.chromosomes[0]
    texts[first] = "N" * 1000 + texts[first][1000:-700] + "n" * 700
    return texts


def codes_of(text: str) -> list[int]:
    """A, C, G, T = 0..3 whatever the case, anything else 4; one letter at a time."""
    return [{"A": 0, "C": 1, "G": 2, "T": 3}.get(letter.upper(), 4) for letter in text]


def write_fasta(path: Path, texts: dict[str, str], width: int = 60, end: str = "\n") -> Path:
    """Plain FASTA; gzip if the name ends so, BGZF if it ends in .bgz or .fa.gz."""
    parts = []
    for name, text in texts.items():
        lines = [text[i : i + width] for i in range(0, len(text), width)]
        parts.append(f">{name} some > remark{end}" + end.join(lines) + end)
    data = "".join(parts).encode()
    if path.name.endswith(".plain.gz"):
        path.write_bytes(gzip.compress(data))
    elif path.suffix == ".gz":
        with pysam.BGZFile(str(path), "w") as file:
            file.write(data)
    else:
        path.write_bytes(data)
    return path


def write_twobit(path: Path, texts: dict[str, str], order: str = "<", wide: bool = False) -> Path:
    """A .2bit file; `order` is the byte order, `wide` writes version 1 (64-bit places)."""

    def numbers(*values: int) -> bytes:
        return struct.pack(f"{order}{len(values)}I", *values)

    place = struct.Struct(order + ("Q" if wide else "I"))
    at = 16 + sum(1 + len(name) + place.size for name in texts)
    index, records = b"", b""
    for name, text in texts.items():
        index += bytes([len(name)]) + name.encode() + place.pack(at + len(records))
        runs = _runs([letter not in "ACGTacgt" for letter in text])
        soft = _runs([letter.islower() for letter in text])
        records += numbers(len(text))
        for found in (runs, soft):
            records += numbers(len(found), *(a for a, _ in found), *(b - a for a, b in found))
        records += numbers(0)
        two = [{"T": 0, "C": 1, "A": 2, "G": 3}.get(letter.upper(), 0) for letter in text]
        two += [0] * (-len(two) % 4)
        records += bytes(
            two[i] << 6 | two[i + 1] << 4 | two[i + 2] << 2 | two[i + 3]
            for i in range(0, len(two), 4)
        )
    path.write_bytes(numbers(0x1A412743, int(wide), len(texts), 0) + index + records)
    return path


def _runs(flags: list[bool]) -> list[tuple[int, int]]:
    """(start, end) of the runs of True."""
    step = np.diff(np.concatenate([[0], np.asarray(flags, int), [0]]))
    return list(zip(np.flatnonzero(step == 1), np.flatnonzero(step == -1), strict=True))


def write_bigwig(path: Path, bases: dict[str, np.ndarray], genome: Genome = GENOME) -> Path:
    """A bigWig of values per base; NaN is left out."""
    with pyBigWig.open(str(path), "w") as file:
        file.addHeader(list(zip(genome.chromosomes, genome.lengths, strict=True)), maxZooms=2)
        for chrom in genome.chromosomes:
            values = np.append(bases[chrom], np.inf)
            cut = np.flatnonzero(~((values[1:] == values[:-1]) | np.isnan(values[1:]))) + 1
            cut = np.union1d(cut, np.flatnonzero(np.diff(np.isnan(values).astype(int))) + 1)
            edges = np.union1d([0], cut)
            starts, ends = edges[:-1], edges[1:]
            there = ~np.isnan(values[starts])
            file.addEntries(
                [chrom] * int(there.sum()),
                starts[there].tolist(),
                ends=ends[there].tolist(),
                values=values[starts][there].tolist(),
            )
    return path


def random_bases(
    rng: np.random.Generator, genome: Genome = GENOME, top: float = 30.0, hole: bool = True
) -> dict[str, np.ndarray]:
    """Values per base in steps of about 40 bp, float32; with `hole`, some stretches are NaN."""
    found = {}
    for chrom, length in zip(genome.chromosomes, genome.lengths, strict=True):
        edges = np.unique(np.append(rng.integers(1, length, length // 40), [0, length]))
        steps = np.float32(np.round(rng.random(len(edges) - 1) ** 4 * top, 3))
        values = np.repeat(steps, np.diff(edges))
        if hole:
            for start in rng.integers(0, length, 12):
                values[start : start + int(rng.integers(1, 900))] = np.nan
            values[length // 3 : length // 3 + 40_000] = np.nan
        found[chrom] = values
    return found
