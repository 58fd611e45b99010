"""Conservation per base (phastCons, 0..1) as uint8: 255 times the score, rounded; error <= 0.002.

    conservation/{name}.npy     uint8 [genome.total(1)], chromosomes joined
    conservation/{name}.json    source, share of bases covered, in all and per chromosome

Uncovered bases are 0, and so are bases beyond the ends of a chromosome. A genome of which little is
covered is therefore told apart from one that is not conserved by the covered share alone.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from epiloom.data.genome import Genome
from epiloom.data.signal import BLOCK_BP, blocks, open_bigwig
from epiloom.data.vectors import (
    PerBase,
    StoredPerBase,
    new_vector,
    open_vector,
    read_about,
    write_about,
)
from epiloom.plan.errors import InputError

SLACK = 1e-6  # beyond 0..1, for values that were rounded on the way


def quantize(values: np.ndarray, where: object, chrom: str, start: int) -> np.ndarray:
    """Scores 0..1 with NaN as uint8 of the same shape; NaN becomes 0.

    Args:
        where, chrom, start: file and place of the first value, for the message.

    Raises:
        InputError: values outside 0..1, as phyloP and read depth have.
    """
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero((values < -SLACK) | (values > 1 + SLACK))
    if len(bad):
        raise InputError(
            where,
            f"{len(bad)} values outside 0..1 near {chrom}:{start}, the first is "
            f"{values[bad[0]]:.6g} at {start + bad[0]}; give phastCons (phyloP is another score)",
        )
    scaled = values.astype(np.float64) * 255
    scaled[np.isnan(values)] = 0
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def write_conservation(folder: str | Path, name: str, source: str | Path, genome: Genome) -> dict:
    """Put a phastCons bigWig into the store.

    Args:
        folder: the store; name: such as "phastCons100way"; genome: must be the store's.

    Returns:
        What conservation/{name}.json holds: covered (share of all bases), covered_by_chromosome,
        mean (of covered bases). It is written last.

    Raises:
        InputError: values outside 0..1, another assembly, no value at all, damaged file.
    """
    base = Path(folder) / "conservation"
    place = dict(zip(genome.chromosomes, genome.offsets(1).tolist(), strict=False))
    covered = dict.fromkeys(genome.chromosomes, 0)
    total = 0.0
    with (
        open_bigwig(source, genome) as file,
        new_vector(base / f"{name}.npy", np.uint8, genome.total(1)) as vector,
    ):
        for chrom, start, values in blocks(file, genome, BLOCK_BP):
            first = place[chrom] + start
            vector[first : first + len(values)] = quantize(values, source, chrom, start)
            there = values[~np.isnan(values)]
            covered[chrom] += len(there)
            total += float(there.sum(dtype=np.float64))
        if not any(covered.values()):
            raise InputError(
                source, f"holds no value on {genome.assembly}; give another conservation track"
            )
    shares = {c: covered[c] / n for c, n in zip(genome.chromosomes, genome.lengths, strict=True)}
    return write_about(
        base / f"{name}.json",
        genome,
        source,
        name=name,
        covered=sum(covered.values()) / sum(genome.lengths),
        covered_by_chromosome=shares,
        mean=total / sum(covered.values()),
    )


def stored_conservation(folder: str | Path, name: str, genome: Genome) -> StoredPerBase:
    """Conservation of a store. Raises InputError if it was not made, or for another genome."""
    base = Path(folder) / "conservation"
    read_about(base / f"{name}.json", genome)
    return StoredPerBase(genome, open_vector(base / f"{name}.npy", np.uint8, genome.total(1)), 0)


class BigWigConservation(PerBase):
    """Windows of conservation straight from a bigWig, the same numbers as from the store."""

    def __init__(self, source: str | Path, genome: Genome):
        super().__init__(genome)
        self.source = source
        self._stack = contextlib.ExitStack()
        self.file = self._stack.enter_context(open_bigwig(source, genome))
        self._there = set(self.file.chroms())

    def read(self, chrom: str, start: int, end: int) -> np.ndarray:
        if chrom not in self._there:
            return np.zeros(end - start, np.uint8)
        try:
            values = self.file.values(chrom, start, end, numpy=True)
        except RuntimeError as err:
            raise InputError(self.source, f"is damaged ({err}); download it again") from err
        if len(values) == 0:
            return np.zeros(end - start, np.uint8)
        return quantize(values, self.source, chrom, start)

    def close(self) -> None:
        self._stack.close()
