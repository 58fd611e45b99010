"""Vectors of the store: one number per base or bin, written whole, opened checked, read in windows.

A vector lies beside a JSON file of the same name that says what it was made from.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from epiloom.data.files import atomic
from epiloom.data.genome import Genome
from epiloom.plan.errors import InputError
from epiloom.plan.runs import DATA_VERSION


def claim(path: Path) -> None:
    """Take a mapped file's space now: a full disk is then an error, not a crash (SIGBUS)."""
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


@contextlib.contextmanager
def new_vector(path: str | Path, dtype: type, length: int) -> Iterator[np.ndarray]:
    """A memory-mapped array [length] to fill; it appears at `path` only if the block succeeds."""
    with new_matrix(path, dtype, (length,)) as vector:
        yield vector


@contextlib.contextmanager
def new_matrix(path: str | Path, dtype: type, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """The same of any shape."""
    with atomic(path) as tmp:
        vector = np.lib.format.open_memmap(tmp, "w+", dtype, shape)
        claim(tmp)
        yield vector
        vector.flush()
        del vector


def open_vector(path: str | Path, dtype: type, length: int) -> np.ndarray:
    """A vector as read-only memory map. Raises InputError if missing, cut or of another genome."""
    return open_matrix(path, dtype, (length,))


def open_matrix(
    path: str | Path, dtype: type, shape: tuple[int, ...], what: str = "it"
) -> np.ndarray:
    """The same of any shape; `what` is to be made again, in the message."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError(
            path, f"is not in the store (there is no such file; make {what} first)"
        ) from None
    except (OSError, ValueError, EOFError) as err:
        raise InputError(
            path, f"cannot be opened ({err}); delete it and make {what} again"
        ) from err
    if array.dtype != dtype or array.shape != shape:
        raise InputError(
            path,
            f"holds {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape} as "
            f"the manifest asks for; delete it and make {what} again",
        )
    return array.view(np.ndarray)  # still mapped; slicing is several times cheaper


def write_about(path: str | Path, genome: Genome, source: str | Path, **rest) -> dict:
    """Write the JSON beside a vector: version, assembly, source, and `rest`; returns it."""
    source = Path(source)
    about = {
        "data_version": DATA_VERSION,
        "assembly": genome.assembly,
        "source": {"name": source.name, "size": source.stat().st_size},
        **rest,
    }
    with atomic(path) as tmp:
        tmp.write_text(json.dumps(about, indent=1) + "\n")
    return about


def read_about(path: str | Path, genome: Genome) -> dict:
    """The JSON beside a vector. Raises InputError if missing, damaged or of another version."""
    again = "delete it and make it again"
    try:
        about = json.loads(Path(path).read_text())
        version, assembly = about["data_version"], about["assembly"]
    except FileNotFoundError:
        raise InputError(path, "is not in the store; make it first") from None
    except (ValueError, KeyError, TypeError) as err:
        raise InputError(path, f"is damaged ({err!r}); {again}") from err
    if version != DATA_VERSION:
        raise InputError(
            path, f"data version {version}, this program writes {DATA_VERSION}; {again}"
        )
    if assembly != genome.assembly:
        raise InputError(path, f"made on {assembly}, the store is {genome.assembly}; {again}")
    return about


def one_each(chroms: str | Sequence[str], starts: Sequence[int]) -> tuple[list[str], list[int]]:
    """Chromosome and start per window; one chromosome may serve all starts."""
    starts = np.atleast_1d(np.asarray(starts, np.int64)).tolist()
    chroms = [chroms] * len(starts) if isinstance(chroms, str) else [str(c) for c in chroms]
    if len(chroms) != len(starts):
        raise InputError(
            "windows", f"{len(chroms)} chromosomes for {len(starts)} starts; give one each"
        )
    return chroms, starts


class PerBase:
    """Windows of one uint8 per base. Subclasses say how bases inside a chromosome are read.

    Attributes:
        genome: whose positions these are.
        outside: what stands beyond the ends of a chromosome.
    """

    outside = 0

    def __init__(self, genome: Genome):
        self.genome = genome

    def read(self, chrom: str, start: int, end: int) -> np.ndarray:
        """uint8 [end - start]; 0 <= start < end <= length of the chromosome."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of open files."""

    def window(self, chrom: str, start: int, length: int) -> np.ndarray:
        """uint8 [length], from `start` on (0-based), which may lie outside the chromosome."""
        return self.windows(chrom, [start], length)[0]

    def windows(
        self,
        chroms: str | Sequence[str],
        starts: Sequence[int],
        length: int,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Windows of the same length.

        Args:
            chroms, starts: per window [n]; one chromosome may serve all.
            out: uint8 [n, length] to fill; made if None.

        Returns:
            uint8 [n, length]; `outside` beyond the ends of a chromosome.

        Raises:
            InputError: unknown chromosome, an `out` of another shape, damaged source.
        """
        chroms, starts = one_each(chroms, starts)
        if out is None:
            out = np.empty((len(starts), length), np.uint8)
        elif out.shape != (len(starts), length):
            raise InputError(
                "windows", f"out has shape {out.shape}; give an array of {(len(starts), length)}"
            )
        for row, chrom, start in zip(out, chroms, starts, strict=True):
            low, high = max(start, 0), min(start + length, self.genome.length(chrom))
            if high - low < length:
                row[:] = self.outside
            if low < high:
                row[low - start : high - start] = self.read(chrom, low, high)
        return out


class StoredPerBase(PerBase):
    """Windows of a vector with one uint8 per base, such as sequence or conservation.

    Args:
        genome: the store's; vector: uint8 [genome.total(1)]; outside: value beyond the ends.
    """

    def __init__(self, genome: Genome, vector: np.ndarray, outside: int):
        super().__init__(genome)
        self.vector, self.outside = vector, outside
        self._first = dict(zip(genome.chromosomes, genome.offsets(1).tolist(), strict=False))

    def read(self, chrom: str, start: int, end: int) -> np.ndarray:
        first = self._first[chrom]
        return self.vector[first + start : first + end]
