"""One replicate's signal as a vector of bins: reads that touch a bin, or a bigWig's mean."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pysam

from epiloom.data.genome import Genome, check_chromosomes
from epiloom.data.reads import Reads
from epiloom.data.signal import bin_bigwig
from epiloom.data.vectors import new_vector, write_about
from epiloom.plan.errors import InputError

COUNTS = "counts"
KIND_OF = {"bam": COUNTS, "reads": COUNTS} | {k: k for k in ("depth", "fold_change", "pval")}
_READS = 1 << 20  # reads of a BAM held at a time
_SKIP = 0x4 | 0x100 | 0x200 | 0x400 | 0x800  # unmapped, secondary, failed, duplicate, supplementary


def overlap_counts(starts: np.ndarray, ends: np.ndarray, bins: int, bin_bp: int) -> np.ndarray:
    """Reads that share a base with each bin, int64 [bins]; a read counts in every bin it touches.

    Args:
        starts, ends: of the reads [n] each, 0-based half-open; they need not belong together.
    """
    begun = np.bincount(np.asarray(starts, np.int64) // bin_bp, minlength=bins)[:bins]
    ended = np.bincount((np.asarray(ends, np.int64) - 1) // bin_bp + 1, minlength=bins)[:bins]
    return np.cumsum(begun - ended)


def bam_counts(path: str | Path, genome: Genome, bin_bp: int, min_quality: int = 0) -> np.ndarray:
    """Reads of a BAM per bin, int64 [genome.total(bin_bp)].

    Unmapped, secondary, supplementary, failed and duplicate reads are left out, as those below
    `min_quality`. The file need not be sorted or indexed. A million reads take about 0.6 s.

    Raises:
        InputError: unreadable, another assembly, no read.
    """
    offsets, counts = genome.offsets(bin_bp), genome.bins(bin_bp)
    found = np.zeros(genome.total(bin_bp), np.int64)
    try:
        with pysam.AlignmentFile(str(path), "rb", check_sq=False) as file:
            check_chromosomes(dict(zip(file.references, file.lengths, strict=True)), path, genome)
            places = [genome.index(c) if c in genome else -1 for c in file.references]
            for chrom, starts, ends in _alignments(file, min_quality):
                i = places[chrom]
                if i >= 0:
                    part = overlap_counts(starts, ends, int(counts[i]), bin_bp)
                    found[offsets[i] : offsets[i + 1]] += part
    except (OSError, ValueError) as err:
        if isinstance(err, InputError):
            raise
        raise InputError(path, f"cannot be read as BAM ({err}); download it again") from err
    if not found.any():
        raise InputError(path, f"holds no read on {genome.assembly}; give another file")
    return found


def _alignments(file, min_quality: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(chromosome number, starts, ends) of the good reads, many at a time."""
    held: dict[int, tuple[list[int], list[int]]] = {}
    n = 0
    for read in file.fetch(until_eof=True):
        if read.flag & _SKIP or read.mapping_quality < min_quality or read.reference_end is None:
            continue
        starts, ends = held.setdefault(read.reference_id, ([], []))
        starts.append(read.reference_start)
        ends.append(read.reference_end)
        n += 1
        if n % _READS == 0:
            yield from ((chrom, *map(np.array, pair)) for chrom, pair in held.items())
            held.clear()
    yield from ((chrom, *map(np.array, pair)) for chrom, pair in held.items())


def write_raw(
    prefix: str | Path,
    source: str | Path | Reads,
    kind: str,
    genome: Genome,
    bin_bp: int,
    missing: str = "nan",
    min_covered: float = 0.5,
    min_quality: int = 0,
) -> dict:
    """Bin one file of one replicate: PREFIX.npy, float32 [genome.total(bin_bp)], and PREFIX.json.

    Args:
        source: BAM (kind bam), `Reads` (reads), or bigWig (depth, fold_change, pval).
        missing, min_covered: of a bigWig, see signal.py. min_quality: of a BAM.

    Returns:
        What PREFIX.json holds: kind (bam and reads are both "counts") and, of counts, their total.

    Raises:
        InputError: unknown kind, unreadable file, another assembly.
    """
    if kind not in KIND_OF:
        raise InputError(prefix, f"kind {kind!r}; choose one of {', '.join(KIND_OF)}")
    if (kind == "reads") != isinstance(source, Reads):
        raise InputError(prefix, f"kind {kind!r} does not fit {source}; give the kind of the file")
    total = None
    if kind == "bam":
        values = bam_counts(source, genome, bin_bp, min_quality)
    elif kind == "reads":
        values = _reads_counts(source, genome, bin_bp)
    else:
        values = bin_bigwig(source, genome, (bin_bp,), missing, min_covered).values[bin_bp]
        if (values < 0).any():
            raise InputError(source, "has values below 0, of which no log(1 + x) is taken here")
    if KIND_OF[kind] == COUNTS:
        total = int(values.sum())
    with new_vector(Path(f"{prefix}.npy"), np.float32, len(values)) as vector:
        vector[:] = values
    name = f"{source.name}.json" if isinstance(source, Reads) else source
    told = {"kind": KIND_OF[kind], "bin_bp": bin_bp, "total": total}
    return write_about(f"{prefix}.json", genome, name, **told)


def _reads_counts(reads: Reads, genome: Genome, bin_bp: int) -> np.ndarray:
    check_chromosomes(reads.lengths, reads.name, genome, ())
    bins = zip(genome.chromosomes, genome.bins(bin_bp).tolist(), strict=True)
    return np.concatenate([overlap_counts(*reads.of(c), n, bin_bp) for c, n in bins])
