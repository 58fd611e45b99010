"""All tracks of a study beside each other, bin by bin, for models that read every track at once.

    tiles{B}/{name}.npy          int16 [genome.total(B), channels]: 1000 x arcsinh, -32768 = missing
    tiles{B}/{name}.flags.npy    uint8 [genome.total(B)]: 0 usable, 1 gap, 2 blacklist, 8 no data
    tiles{B}/{name}.json         channels in their order, checksum, moments per chromosome

A stretch of bins is one contiguous read whatever the number of tracks; from one vector per track it
would be a thousand small ones.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from epiloom.data.files import atomic
from epiloom.data.genome import Genome
from epiloom.data.store import GenomeStore
from epiloom.data.vectors import claim, open_matrix
from epiloom.plan.errors import InputError
from epiloom.plan.runs import DATA_VERSION

log = logging.getLogger("epiloom")

STEP = 0.001  # arcsinh units per step of a stored value
MISSING = -32768
NO_DATA = 8  # flag of a bin in which no track has a value; 1, 2 and 4 are those of genome.py
BLOCK = 1 << 16  # values of a block that one pass turns, over all tracks and bins: 64 k x 64
_LARGEST = 32767


def arcsinh_codes() -> np.ndarray:
    """Stored value of every float16, by its 16 bits: int16 [65536]."""
    values = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16).view(np.float16)
    with np.errstate(invalid="ignore"):
        scaled = np.rint(np.arcsinh(values.astype(np.float64)) / STEP)
        codes = np.clip(np.nan_to_num(scaled), -_LARGEST, _LARGEST).astype(np.int16)
    codes[np.isnan(values)] = MISSING
    return codes


def checksum(channels: Sequence[str]) -> str:
    """Fingerprint of channels and their order."""
    return hashlib.sha256("\n".join(channels).encode()).hexdigest()


@dataclass(frozen=True)
class Moments:
    """Number, mean and sum of squares about the mean, per channel, float64 [channels]."""

    n: np.ndarray
    mean: np.ndarray
    m2: np.ndarray

    def __add__(self, other: Moments) -> Moments:
        n = self.n + other.n
        share = np.divide(other.n, n, out=np.zeros_like(n), where=n > 0)
        apart = other.mean - self.mean
        return Moments(n, self.mean + apart * share, self.m2 + other.m2 + apart**2 * self.n * share)

    @property
    def std(self) -> np.ndarray:
        """Standard deviation per channel, 0 where there is no value."""
        return np.sqrt(np.divide(self.m2, self.n, out=np.zeros_like(self.n), where=self.n > 0))


def write_tiles(
    store: GenomeStore,
    tracks: Sequence[str],
    bin_bp: int,
    out: str | Path,
    flags_out: str | Path,
    about_out: str | Path,
    threads: int = 1,
) -> dict:
    """Put tracks of the store beside each other.

    Args:
        tracks: names in the order of the channels.
        out, flags_out, about_out: files to write (see the top of this file); the last tells that
            the others are whole.

    Returns:
        What `about_out` holds.

    Raises:
        InputError: a track or the mask is not in the store.
    """
    genome, codes = store.genome, arcsinh_codes()
    vectors = [store.track(track, bin_bp) for track in tracks]
    offsets, counts = genome.offsets(bin_bp), genome.bins(bin_bp)
    block = max(256, BLOCK * 64 // max(1, len(tracks)))
    moments, began, total = {}, time.monotonic(), genome.total(bin_bp)
    with atomic(out) as tmp, atomic(flags_out) as tmp_flags, ThreadPoolExecutor(threads) as pool:
        tiles = np.lib.format.open_memmap(tmp, "w+", np.int16, (total, len(tracks)))
        claim(tmp)
        flags = np.zeros(total, np.uint8)
        for chrom, first, n in zip(genome.chromosomes, offsets[:-1], counts, strict=True):
            flags[first : first + n] = store.mask(bin_bp, chrom, 0, int(n))
            cuts = [(first + k, min(first + k + block, first + n)) for k in range(0, n, block)]
            parts = pool.map(partial(_fill, tiles, flags, vectors, codes), cuts)
            moments[chrom] = sum(parts, _none(len(tracks)))
            _tell(chrom, first + n, total, began)
        tiles.flush()
        np.save(tmp_flags, flags)
    about = {
        "data_version": DATA_VERSION,
        "assembly": genome.assembly,
        "bin_bp": bin_bp,
        "transform": "arcsinh",
        "step": STEP,
        "missing": MISSING,
        "channels": list(tracks),
        "sha256_of_channels": checksum(tracks),
        "chromosomes": {
            c: {"n": m.n.astype(int).tolist(), "mean": m.mean.tolist(), "m2": m.m2.tolist()}
            for c, m in moments.items()
        },
    }
    with atomic(about_out) as tmp:
        tmp.write_text(json.dumps(about) + "\n")
    return about


def _none(channels: int) -> Moments:
    return Moments(*(np.zeros(channels) for _ in range(3)))


def _fill(
    tiles: np.ndarray,
    flags: np.ndarray,
    vectors: Sequence[np.ndarray],
    codes: np.ndarray,
    cut: tuple[int, int],
) -> Moments:
    """Turn one block of bins; flags bins without data. Returns the usable values' moments."""
    first, end = cut
    block = np.empty((len(vectors), end - first), np.int16)
    for row, vector in zip(block, vectors, strict=True):
        np.take(codes, vector[first:end].view(np.uint16), out=row)
    tiles[first:end] = block.T
    known = block != MISSING
    flags[first:end][~known.any(axis=0)] |= NO_DATA
    usable = flags[first:end] == 0
    values, known = block[:, usable], known[:, usable]
    n = known.sum(axis=1).astype(np.float64)
    wide = np.where(known, values, 0).astype(np.float64) * STEP
    mean = np.divide(wide.sum(axis=1), n, out=np.zeros_like(n), where=n > 0)
    wide -= mean[:, None]
    wide *= known
    return Moments(n, mean, np.einsum("ij,ij->i", wide, wide))


def _tell(chrom: str, done: int, total: int, began: float) -> None:
    spent = time.monotonic() - began
    left = spent * (total - done) / max(1, done)
    log.info("tiles: %s done, %.0f %% of the genome, %.0f s left", chrom, 100 * done / total, left)


@dataclass(frozen=True)
class Tiles:
    """Tiles as they are read: a memory map and what belongs to it."""

    genome: Genome
    bin_bp: int
    values: np.ndarray  # int16 [genome.total(bin_bp), channels]
    flags: np.ndarray  # uint8 [genome.total(bin_bp)]
    channels: list[str]
    moments: dict[str, Moments]  # by chromosome

    @classmethod
    def open(
        cls, manifest: str | Path, values: str | Path, flags: str | Path, about: str | Path
    ) -> Tiles:
        """Open the files that `write_tiles` made on the genome of `manifest`.

        Raises:
            InputError: files that are missing, damaged or do not belong together.
        """
        genome, again = Genome.load(manifest), "delete it and make the tiles again"
        try:
            told = json.loads(Path(about).read_text())
            channels, bin_bp = list(told["channels"]), int(told["bin_bp"])
            moments = {
                chrom: Moments(*(np.asarray(m[key], np.float64) for key in ("n", "mean", "m2")))
                for chrom, m in told["chromosomes"].items()
            }
            same = told["sha256_of_channels"] == checksum(channels)
            version, assembly = told["data_version"], told["assembly"]
        except FileNotFoundError:
            raise InputError(about, "there is no such file; make the tiles first") from None
        except (KeyError, TypeError, ValueError) as err:
            raise InputError(about, f"is damaged ({err!r}); {again}") from err
        problems = []
        if not same:
            problems.append(f"the channels are not those of its checksum; {again}")
        if version != DATA_VERSION:
            problems.append(f"data version {version}, this program reads {DATA_VERSION}; {again}")
        if assembly != genome.assembly or list(moments) != list(genome.chromosomes):
            problems.append(f"made on another genome than {manifest}; {again}")
        if problems:
            raise InputError(about, problems)
        total = genome.total(bin_bp)
        return cls(
            genome,
            bin_bp,
            open_matrix(values, np.int16, (total, len(channels)), "the tiles"),
            open_matrix(flags, np.uint8, (total,), "the tiles"),
            channels,
            moments,
        )

    def statistics(self, chromosomes: Iterable[str]) -> Moments:
        """Moments of the usable values of some chromosomes.

        Raises:
            InputError: a channel has no value there.
        """
        found = sum((self.moments[c] for c in chromosomes), _none(len(self.channels)))
        empty = [c for c, n in zip(self.channels, found.n, strict=True) if n == 0]
        if empty:
            raise InputError(
                "training chromosomes",
                f"{', '.join(empty)}: no value on any of them; leave the track out or hold out "
                "other chromosomes",
            )
        return found

    @property
    def complete(self) -> bool:
        """Whether every channel has a value in every usable bin."""
        usable = int(np.count_nonzero(self.flags == 0))
        n = sum((m.n for m in self.moments.values()), np.zeros(len(self.channels)))
        return bool((n == usable).all())

    def rows(self, chrom: str) -> slice:
        """Rows of a chromosome's whole bins: floor(length / bin_bp) of them."""
        first = int(self.genome.offsets(self.bin_bp)[self.genome.index(chrom)])
        return slice(first, first + self.genome.length(chrom) // self.bin_bp)
