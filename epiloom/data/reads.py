"""Aligned reads as sorted starts and ends, and exact mean depth for any bins from them.

With I(a, x) = k*x - (a_0 + ... + a_{k-1}), k the number of a_i < x, the sum of the depth over all
bases before x is I(starts, x) - I(ends, x). Its difference over a bin, divided by the bin's width,
is the exact mean depth, for any bin grid and any mixture of read lengths.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyBigWig

from epiloom.data.bam import bam_to_bigwig
from epiloom.data.files import atomic, open_bytes
from epiloom.data.genome import Genome, check_chromosomes
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

__all__ = ["Reads", "bam_to_bigwig", "open_signal", "sort_reads", "write_depth_bigwig"]

SCHEMA = 1
CHUNK_LINES = 500_000
MITOCHONDRIAL = {"chrM", "chrMT", "M", "MT"}
_COLUMNS = ["chrom", "start", "end", "strand"]


def sort_reads(
    tagalign: str | Path,
    genome: Genome,
    starts_out: str | Path,
    ends_out: str | Path,
    json_out: str | Path,
    extend: int = 0,
) -> dict:
    """Turn tagAlign or BED lines into sorted starts and sorted ends.

    Args:
        tagalign: chrom, start, end, ... with tabs, 0-based half-open, gzip or plain, any order.
        starts_out, ends_out: .npy files, uint32 [reads], sorted within each chromosome, each on its
            own (a start and an end at the same place do not belong to the same read).
        json_out: assembly, source, first read and number of reads per chromosome, dropped counts.
        extend: fragment length to which reads are extended from their 5' end by the strand in
            column 6; 0 keeps the reads as they are.

    Returns:
        What json_out holds. Reads on other chromosomes, on the mitochondrial one, before base 0,
        beyond the end of the chromosome, or without length are dropped and counted.

    Raises:
        InputError: cut-short gzip, too few columns, no number, empty file, no read on the genome.

    Memory: one chunk of lines and the reads of one chromosome; the rest is spilled to disk.
    """
    tagalign, starts_out = Path(tagalign), Path(starts_out)
    starts_out.parent.mkdir(parents=True, exist_ok=True)
    dropped = dict.fromkeys(
        ("other_chromosomes", "mitochondrial", "negative", "beyond_end", "empty"), 0
    )
    others: dict[str, int] = {}
    with tempfile.TemporaryDirectory(dir=starts_out.parent, prefix=".reads-") as folder:
        with contextlib.ExitStack() as stack:
            spill = _Spill(Path(folder), stack)
            for chunk in _chunks(tagalign, with_strand=extend > 0):
                _sort_in(chunk, genome, extend, dropped, others, spill)
        counts = [spill.counts.get(chrom, 0) for chrom in genome.chromosomes]
        _check_kept(tagalign, genome, sum(counts), dropped, others)
        with atomic(starts_out) as starts, atomic(ends_out) as ends:
            was_sorted = _gather(genome, counts, Path(folder), starts, ends)
    offsets = np.concatenate([[0], np.cumsum(counts)]).tolist()
    about = {
        "schema": SCHEMA,
        "assembly": genome.assembly,
        "source": tagalign.name,
        "size": tagalign.stat().st_size,
        "reads": int(sum(counts)),
        "chromosomes": list(genome.chromosomes),
        "lengths": list(genome.lengths),
        "offsets": offsets,
        "dropped": dropped,
        "extend": int(extend),
        "sorted": was_sorted,
    }
    with atomic(json_out) as tmp:
        tmp.write_text(json.dumps(about, indent=1) + "\n")
    log.info("%s: %d reads kept, dropped %s", tagalign, about["reads"], dropped)
    return about


class _Spill:
    """Appends the starts and ends of each chromosome to files of their own."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack):
        self.folder, self.stack = folder, stack
        self.files: dict[str, tuple] = {}
        self.counts: dict[str, int] = {}

    def add(self, chrom: str, index: int, starts: np.ndarray, ends: np.ndarray) -> None:
        if chrom not in self.files:
            self.files[chrom] = tuple(
                self.stack.enter_context((self.folder / f"{index}.{side}").open("wb"))
                for side in ("starts", "ends")
            )
        for file, values in zip(self.files[chrom], (starts, ends), strict=True):
            values.astype(np.uint32).tofile(file)
        self.counts[chrom] = self.counts.get(chrom, 0) + len(starts)


def _chunks(path: Path, with_strand: bool) -> Iterator[pd.DataFrame]:
    """Chunks of lines: chrom (category), start, end (int64), strand if asked for."""
    again = "download it again"
    try:
        skip = _check_first_lines(path, 6 if with_strand else 3)
        with (
            open_bytes(path) as file,
            pd.read_csv(
                file,
                sep="\t",
                header=None,
                skiprows=skip,
                usecols=[0, 1, 2, 5] if with_strand else [0, 1, 2],
                names=None,
                dtype={0: "category", 1: np.int64, 2: np.int64, 5: "category"},
                chunksize=CHUNK_LINES,
                quoting=3,
                na_filter=False,
            ) as chunks,
        ):
            for chunk in chunks:
                chunk.columns = _COLUMNS[: len(chunk.columns)]
                yield chunk
    except FileNotFoundError:
        raise InputError(path, "there is no such file; check the path or download it") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as err:
        raise InputError(path, f"gzip is cut short or damaged ({err}); {again}") from err
    except pd.errors.ParserError as err:
        what = "gzip is cut short or damaged" if "source failed" in str(err) else "is malformed"
        raise InputError(path, f"{what} ({err}); {again}") from err
    except (ValueError, OverflowError) as err:
        if isinstance(err, InputError):
            raise
        raise InputError(
            path,
            f"columns 2 and 3 must be whole numbers, start and end ({err}); "
            f"if the file is right up to a line, it is cut short: {again}",
        ) from err


def _check_first_lines(path: Path, columns: int) -> int:
    """Number of header lines to skip; the first line of data must have enough columns."""
    with open_bytes(path) as file:
        for skip in range(1000):
            line = file.readline(100_000)
            if not line:
                raise InputError(path, "holds no read; download it again or give another file")
            if line.startswith((b"#", b"track", b"browser")):
                continue
            fields = line.rstrip(b"\r\n").split(b"\t")
            if len(fields) < columns:
                raise InputError(
                    path,
                    f"line {skip + 1} has {len(fields)} tab-separated columns, {columns} are "
                    f"needed: {line[:60]!r}; give tagAlign or BED",
                )
            return skip
    raise InputError(path, "more than 1000 header lines; give tagAlign or BED")


def _sort_in(chunk, genome, extend, dropped, others, spill) -> None:
    """Spill the good reads of a chunk by chromosome; count the others."""
    codes = chunk["chrom"].cat.codes.to_numpy()
    start, end = chunk["start"].to_numpy(), chunk["end"].to_numpy()
    names = chunk["chrom"].cat.categories
    for code, n in enumerate(np.bincount(codes, minlength=len(names))):
        chrom = str(names[code])
        if chrom not in genome:
            key = "mitochondrial" if chrom in MITOCHONDRIAL else "other_chromosomes"
            dropped[key] += int(n)
            others[chrom] = others.get(chrom, 0) + int(n)
            continue
        here = slice(None) if n == len(codes) else codes == code
        a, b, length = start[here], end[here], genome.length(chrom)
        negative, beyond = a < 0, b > length
        empty = (b <= a) & ~negative & ~beyond
        dropped["negative"] += int(negative.sum())
        dropped["beyond_end"] += int((beyond & ~negative).sum())
        dropped["empty"] += int(empty.sum())
        good = ~(negative | beyond | empty)
        if extend:
            minus = chunk["strand"].to_numpy()[here] == "-"
            a, b = (
                np.where(minus, np.maximum(b - extend, 0), a),
                np.where(minus, b, np.minimum(a + extend, length)),
            )
        spill.add(chrom, genome.index(chrom), a[good], b[good])


def _check_kept(path, genome: Genome, kept: int, dropped: dict, others: dict) -> None:
    if kept == 0:
        if not (dropped["negative"] or dropped["beyond_end"] or dropped["empty"]):
            check_chromosomes(dict.fromkeys(others, 1), path, genome)
        raise InputError(
            path, f"no read lies on {genome.assembly} (dropped: {dropped}); give another file"
        )
    if dropped["beyond_end"] or dropped["negative"]:
        log.warning(
            "%s: %d reads lie beyond the chromosomes of %s and were dropped; "
            "check that the reads were aligned to this assembly",
            *(path, dropped["beyond_end"] + dropped["negative"], genome.assembly),
        )
    if dropped["other_chromosomes"] > kept:
        log.warning(
            "%s: more reads on chromosomes outside the configured genome (%s) than inside; "
            "they were dropped",
            *(path, ", ".join(sorted(others)[:5])),
        )


def _gather(genome: Genome, counts: list[int], folder: Path, starts: Path, ends: Path) -> bool:
    """Write both arrays, sorting a chromosome only if it is not; returns whether starts were."""
    was_sorted = True
    for side, target in (("starts", starts), ("ends", ends)):
        out = np.lib.format.open_memmap(target, "w+", np.uint32, (sum(counts),))
        first = 0
        for i, n in enumerate(counts):
            if n == 0:
                continue
            values = np.fromfile(folder / f"{i}.{side}", np.uint32)
            if np.any(values[1:] < values[:-1]):
                was_sorted &= side != "starts"
                values.sort()
            out[first : first + n] = values
            first += n
        out.flush()
        del out
    return was_sorted


class Reads:
    """Sorted starts and ends of one track, opened as memory maps. Make one with `Reads.open`."""

    def __init__(self, about: dict, starts: np.ndarray, ends: np.ndarray, name: str):
        self.about, self.starts, self.ends, self.name = about, starts, ends, name
        self.lengths = dict(zip(about["chromosomes"], about["lengths"], strict=True))
        self._rows = {
            c: slice(a, b)
            for c, a, b in zip(
                about["chromosomes"], about["offsets"], about["offsets"][1:], strict=False
            )
        }
        self._kept: tuple = ()

    @classmethod
    def open(cls, prefix: str | Path) -> Reads:
        """Open PREFIX.json, PREFIX.starts.npy, PREFIX.ends.npy. Raises InputError if incomplete."""
        remedy = "delete it and make the reads again"
        try:
            about = json.loads(Path(f"{prefix}.json").read_text())
            arrays = [
                np.load(f"{prefix}.{side}.npy", mmap_mode="r", allow_pickle=False)
                for side in ("starts", "ends")
            ]
            n = about["offsets"][-1]
            schema = about["schema"]
        except (OSError, ValueError, KeyError, IndexError, TypeError) as err:
            raise InputError(prefix, f"is not a complete set of reads ({err}); {remedy}") from err
        if schema != SCHEMA:
            raise InputError(prefix, f"schema {schema!r}, {SCHEMA} is expected; {remedy}")
        if any(a.dtype != np.uint32 or a.shape != (n,) for a in arrays):
            shapes = [(str(a.dtype), a.shape) for a in arrays]
            raise InputError(prefix, f"{shapes} instead of uint32 ({n},) twice; {remedy}")
        return cls(about, *arrays, name=str(prefix))

    def __len__(self) -> int:
        return len(self.starts)

    def of(self, chrom: str) -> tuple[np.ndarray, np.ndarray]:
        """Sorted starts and sorted ends on a chromosome, uint32. Raises InputError if unknown."""
        if chrom not in self._rows:
            raise InputError(
                self.name, f"no chromosome {chrom!r}; it has {', '.join(self.lengths)}"
            )
        return self.starts[self._rows[chrom]], self.ends[self._rows[chrom]]

    def _sides(self, chrom: str) -> list[tuple[np.ndarray, np.ndarray]]:
        """(positions, sums of the first k of them) for starts and ends; one chromosome is kept."""
        if not self._kept or self._kept[0] != chrom:
            sides = []
            for values in self.of(chrom):
                before = np.zeros(len(values) + 1, np.int64)
                np.cumsum(values, dtype=np.int64, out=before[1:])
                sides.append((np.asarray(values), before))
            self._kept = (chrom, sides)
        return self._kept[1]

    def covered(self, chrom: str, x: np.ndarray) -> np.ndarray:
        """Sum of the depth over all bases before each position x, int64, any shape; exact."""
        x = np.clip(np.asarray(x, np.int64), 0, self.lengths.get(chrom, 0))
        (starts, s_before), (ends, e_before) = self._sides(chrom)
        # Needles of the array's own type: otherwise the whole array is converted for each call.
        needles = x.astype(np.uint32)
        k, m = np.searchsorted(starts, needles), np.searchsorted(ends, needles)
        return (k * x - s_before[k]) - (m * x - e_before[m])

    def mean_depth(self, chrom: str, edges: np.ndarray) -> np.ndarray:
        """Exact mean depth between neighbouring edges.

        Args:
            edges: positions, ascending along the last axis, int [..., n + 1]; any grid.

        Returns:
            float64 [..., n]; a bin across the chromosome's end is the mean over its bases inside, a
            bin beyond it (or without width) is NaN.
        """
        sums = np.diff(self.covered(chrom, edges), axis=-1)
        widths = np.diff(np.clip(edges, 0, self.lengths[chrom]), axis=-1)
        return np.where(widths > 0, sums / np.maximum(widths, 1), np.nan)

    def chrom_bins(self, chrom: str, bin_bp: int) -> np.ndarray:
        """Mean depth of all bins of a chromosome, float64 [ceil(length / bin_bp)]."""
        length = self.lengths[chrom] if chrom in self.lengths else len(self.of(chrom))
        n = -(-length // bin_bp)
        edges = np.minimum(np.arange(n + 1, dtype=np.int64) * bin_bp, length)
        total = np.zeros(n + 1, np.int64)
        for sign, (values, before) in zip((1, -1), self._sides(chrom), strict=True):
            # On a regular grid counting beats searching: k at edge j = reads that begin before it.
            k = np.zeros(n + 1, np.int64)
            np.cumsum(np.bincount(values // np.uint32(bin_bp), minlength=n)[:n], out=k[1:])
            k[-1] = len(values) if sign > 0 else np.count_nonzero(values < length)
            total += sign * (k * edges - before[k])
        return np.diff(total) / np.diff(edges)

    def bin_means(self, genome: Genome, bin_bp: int) -> np.ndarray:
        """Mean depth of all bins of the genome, float32 [genome.total(bin_bp)]."""
        return np.concatenate(
            [self.chrom_bins(chrom, bin_bp).astype(np.float32) for chrom in genome.chromosomes]
        )


def write_depth_bigwig(
    reads: Reads, genome: Genome, out: str | Path, slab: int = 8_000_000
) -> None:
    """Write the depth per base as a bigWig of runs (depth 0 included, so no base is missing).

    Args:
        slab: bases handled at a time; bounds the memory.
    """
    check_chromosomes(reads.lengths, reads.name, genome, ())
    with atomic(out) as tmp:
        file = pyBigWig.open(str(tmp), "w")
        file.addHeader(list(zip(genome.chromosomes, genome.lengths, strict=True)))
        for chrom in genome.chromosomes:
            for begin, end, depth in _runs(reads, chrom, slab):
                file.addEntries(np.repeat(chrom, len(begin)), begin, ends=end, values=depth)
        file.close()


def _runs(reads: Reads, chrom: str, slab: int) -> Iterator[tuple]:
    """(starts, ends, depth) of the runs of equal depth in each slab of a chromosome."""
    starts, ends = reads.of(chrom)
    length = reads.lengths[chrom]
    for low in range(0, length, slab):
        high = min(low + slab, length)
        s0, s1 = np.searchsorted(starts, np.array([low, high], np.uint32))
        e0, e1 = np.searchsorted(ends, np.array([low, high], np.uint32))
        places = np.concatenate([[low], starts[s0:s1], ends[e0:e1]]).astype(np.int64)
        steps = np.concatenate([[s0 - e0], np.ones(s1 - s0), -np.ones(e1 - e0)])
        begin, of = np.unique(places, return_inverse=True)
        depth = np.cumsum(np.bincount(of, weights=steps))
        changed = np.concatenate([[True], depth[1:] != depth[:-1]])
        begin, depth = begin[changed], depth[changed]
        yield begin, np.append(begin[1:], high), depth


def open_signal(files: str | Sequence[str]) -> Reads | str:
    """A track's numbers as a rule names them: its bigWig (one file), or its sorted reads (three).

    Args:
        files: path of a bigWig, or [PREFIX.starts.npy, PREFIX.ends.npy, PREFIX.json].
    """
    files = [files] if isinstance(files, str) else list(files)
    return files[0] if len(files) == 1 else Reads.open(files[-1].removesuffix(".json"))
