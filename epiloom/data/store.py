"""The genome store: one plain vector per track and bin size, read through memory maps.

    manifest.json           chromosomes, lengths, offsets (genome.py)
    bins{B}/{track}.npy     float16 [genome.total(B)], chromosomes joined, NaN = missing
    tracks/{track}.json     source, missing policy, statistics per bin size, data version
    mask/{B}.npy            uint8 [genome.total(B)], 1 gap, 2 blacklist

and for models of DNA, each with a JSON file that tells of it (read by window_reader.py):

    sequence/bases.npy              uint8 [genome.total(1)], sequence.py
    conservation/{name}.npy         uint8 [genome.total(1)], conservation.py
    targets{B}/{identifier}.npy     float16 [genome.total(B)], targets.py; values are final
    peaks{B}/{identifier}.npy       uint8 [genome.total(B)], peaks.py (without JSON)

Values of bins{B} are raw means; transforms are applied when they are loaded. A window is a slice,
so no window is ever written out.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from epiloom.data.files import atomic
from epiloom.data.genome import OUTSIDE, Genome
from epiloom.data.reads import Reads
from epiloom.data.signal import bin_bigwig, bin_reads, check_policy
from epiloom.data.vectors import claim
from epiloom.plan.errors import InputError
from epiloom.plan.runs import DATA_VERSION

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)


def describe(values: np.ndarray, quantiles: Sequence[float] = QUANTILES) -> dict:
    """Exact statistics of a float16 vector [n] of any length, ignoring NaN.

    float16 has only 65,536 values, so counting them replaces sorting: one pass, little memory.

    Returns:
        n (values that are not NaN), mean, std, max (None if n = 0) and quantiles {q: value},
        interpolated linearly between ranks.
    """
    counts = np.zeros(1 << 16, np.int64)
    for start in range(0, len(values), 1 << 22):
        part = np.ascontiguousarray(values[start : start + (1 << 22)], np.float16)
        counts += np.bincount(part.view(np.uint16), minlength=1 << 16)
    level = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64)
    there = (counts > 0) & ~np.isnan(level)
    order = np.argsort(level[there], kind="stable")
    level, counts = level[there][order], counts[there][order]
    n = int(counts.sum())
    if n == 0:
        return {"n": 0, "mean": None, "std": None, "max": None, "quantiles": {}}
    mean = float(level @ counts) / n
    rank = np.asarray(quantiles, np.float64) * (n - 1)
    upto = np.cumsum(counts)
    low = level[np.searchsorted(upto, np.floor(rank), side="right")]
    high = level[np.searchsorted(upto, np.ceil(rank), side="right")]
    found = low + (high - low) * (rank - np.floor(rank))
    return {
        "n": n,
        "mean": mean,
        "std": float(np.sqrt(((level - mean) ** 2) @ counts / n)),
        "max": float(level[-1]),
        "quantiles": {str(q): float(v) for q, v in zip(quantiles, found, strict=True)},
    }


def write_track(
    folder: str | Path,
    track: str,
    source: str | Path | Reads,
    genome: Genome,
    bins: Sequence[int] = (25, 100, 128),
    missing: str = "nan",
    min_covered: float = 0.5,
    overflow: str = "clip",
) -> dict:
    """Bin one track and put it into the store.

    Args:
        folder: the store; track: name such as "E003-H3K4me3.pval".
        source: a bigWig, or `Reads` (mean depth; the missing policy is then without effect).
        genome: must be the store's.
        bins, missing, min_covered, overflow: see `signal.bin_bigwig`.

    Returns:
        What tracks/{track}.json holds. It is written last, so an interrupted job leaves no track.

    Raises:
        InputError: see `signal.bin_bigwig`.
    """
    folder = Path(folder)
    check_policy(missing, min_covered, track)
    with contextlib.ExitStack() as stack:
        out = {}
        for b in sorted(set(bins)):
            tmp = stack.enter_context(atomic(folder / f"bins{b}" / f"{track}.npy"))
            out[b] = np.lib.format.open_memmap(tmp, "w+", np.float16, (genome.total(b),))
            claim(tmp)
        if isinstance(source, Reads):
            binned = bin_reads(source, genome, bins, out=out)
            name, size = source.about["source"], source.about["size"]
        else:
            binned = bin_bigwig(source, genome, bins, missing, min_covered, overflow, out=out)
            name, size = Path(source).name, Path(source).stat().st_size
        about = {
            "track": track,
            "data_version": DATA_VERSION,
            "assembly": genome.assembly,
            "source": {"name": name, "size": size},
            "missing": missing,
            "min_covered": min_covered,
            "covered_bases": binned.covered_fraction,
            "bins": {},
        }
        for b, values in out.items():
            values.flush()
            stats = describe(values)
            stats["covered_fraction"] = stats.pop("n") / len(values)
            about["bins"][str(b)] = {**stats, "clipped": binned.clipped[b]}
        out.clear()
    with atomic(folder / "tracks" / f"{track}.json") as tmp:
        tmp.write_text(json.dumps(about, indent=1) + "\n")
    return about


def write_mask(folder: str | Path, flags: np.ndarray, bin_bp: int) -> None:
    """Put the flags made by `genome.mask` into the store."""
    with atomic(Path(folder) / "mask" / f"{bin_bp}.npy") as tmp:
        np.save(tmp, np.asarray(flags, np.uint8))


class GenomeStore:
    """Read windows of bins. Holds no data itself; the system's page cache is shared by processes.

    Args:
        folder: the store of one assembly.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.genome = Genome.load(self.folder / "manifest.json")
        # Per object, so that a store which is made again in the same process is read afresh.
        self._vector = lru_cache(maxsize=None)(self._open)
        self.about = lru_cache(maxsize=None)(self._about)
        self._layout = lru_cache(maxsize=None)(self._lay_out)

    def _about(self, track: str) -> dict:
        """tracks/{track}.json. Raises InputError if missing, damaged or of another version."""
        path = self.folder / "tracks" / f"{track}.json"
        try:
            about = json.loads(path.read_text())
            version, assembly = about["data_version"], about["assembly"]
        except FileNotFoundError:
            raise InputError(path, f"track {track!r} is not in the store; bin it first") from None
        except (ValueError, KeyError, TypeError) as err:
            raise InputError(
                path, f"is damaged ({err!r}); delete it and bin {track} again"
            ) from err
        if version != DATA_VERSION:
            raise InputError(
                path,
                f"data version {version}, this program writes {DATA_VERSION}; "
                f"delete it and bin {track} again",
            )
        if assembly != self.genome.assembly:
            raise InputError(path, f"made on {assembly}, the store is {self.genome.assembly}")
        return about

    def _open(self, kind: str, name: str, bin_bp: int) -> np.ndarray:
        """One vector of the store as a memory map, type and length checked."""
        if kind == "bins":
            path, dtype = self.folder / f"bins{bin_bp}" / f"{name}.npy", np.float16
            if str(bin_bp) not in self.about(name)["bins"]:
                has = ", ".join(self.about(name)["bins"])
                raise InputError(path, f"{name} has bins of {has} bp; bin it at {bin_bp} bp first")
        else:
            path, dtype = self.folder / "mask" / f"{bin_bp}.npy", np.uint8
        try:
            vector = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as err:
            raise InputError(
                path, f"cannot be opened ({err}); delete it and make it again"
            ) from err
        expected = (self.genome.total(bin_bp),)
        if vector.dtype != dtype or vector.shape != expected:
            raise InputError(
                path,
                f"holds {vector.dtype} {vector.shape}, the manifest asks for "
                f"{np.dtype(dtype)} {expected}; delete it and make it again",
            )
        return vector

    def track(self, name: str, bin_bp: int) -> np.ndarray:
        """The whole vector of a track, read-only float16 [genome.total(bin_bp)]."""
        return self._vector("bins", name, bin_bp)

    def bins(
        self,
        tracks: str | Sequence[str],
        bin_bp: int,
        chrom: str | Sequence[str],
        first: int | Sequence[int],
        n: int,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Windows of n bins.

        Args:
            tracks: one name or several.
            chrom, first: chromosome and first bin (which may lie outside); one each, or one per
                window. One chromosome serves many firsts.
            out: array to fill, of the shape below; made (float16) if None.

        Returns:
            [windows, tracks, n]; without the first axis for a single `first`, without the second
            for a single track name. Bins outside the chromosome are NaN.

        Raises:
            InputError: unknown track, bin size or chromosome; damaged store.
        """
        names = [tracks] if isinstance(tracks, str) else list(tracks)
        vectors = [self._vector("bins", name, bin_bp) for name in names]
        return self._windows(vectors, bin_bp, chrom, first, n, np.nan, out, tracks)

    def mask(
        self,
        bin_bp: int,
        chrom: str | Sequence[str],
        first: int | Sequence[int],
        n: int,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Flags of windows of n bins, uint8 [windows, n] ([n] for a single `first`).

        0 usable, 1 gap, 2 blacklist (may be added up), 4 outside the chromosome.
        """
        vector = self._vector("mask", "", bin_bp)
        return self._windows([vector], bin_bp, chrom, first, n, OUTSIDE, out, "mask")

    def _windows(self, vectors, bin_bp, chrom, first, n, outside, out, names) -> np.ndarray:
        firsts = np.atleast_1d(np.asarray(first, np.int64))
        chroms = [chrom] * len(firsts) if isinstance(chrom, str) else list(chrom)
        if len(chroms) != len(firsts):
            raise InputError(
                "windows", f"{len(chroms)} chromosomes for {len(firsts)} starts; give one each"
            )
        shape = (len(firsts),) * (np.ndim(first) > 0)
        shape += (len(vectors),) * (not isinstance(names, str)) + (n,)
        if out is None:
            out = np.empty(shape, vectors[0].dtype if vectors else np.float16)
        elif out.shape != shape:
            raise InputError("windows", f"out has shape {out.shape}; give an array of {shape}")
        # Only axes of length 1 are added, so this is a view whatever the layout of `out`.
        rows = out.reshape(len(firsts), len(vectors), n)
        offsets, counts = self._layout(bin_bp)
        for row, c, start in zip(rows, chroms, firsts.tolist(), strict=True):
            i = self.genome.index(c)
            low, high = max(start, 0), min(start + n, int(counts[i]))
            if high - low < n:
                row[:] = outside
            if low < high:
                at = int(offsets[i]) + low
                for line, vector in zip(row, vectors, strict=True):
                    line[low - start : high - start] = vector[at : at + high - low]
        return out

    def _lay_out(self, bin_bp: int) -> tuple[np.ndarray, np.ndarray]:
        return self.genome.offsets(bin_bp), self.genome.bins(bin_bp)
