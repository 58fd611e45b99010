"""Tracks that sequence models predict: in the store, or read straight from bigWig.

    targets{B}/{identifier}.npy     float16 [genome.total(B)], chromosomes joined, NaN = missing
    targets{B}/{identifier}.json    settings, source, mean, quantiles, share at clip, share missing

Values are final: scale, statistic and clipping (statistics.py) are done before they are stored.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from epiloom.data.bam import bam_to_bigwig
from epiloom.data.files import open_bytes
from epiloom.data.genome import Genome
from epiloom.data.signal import block_length, blocks, open_bigwig, to_half
from epiloom.data.statistics import Statistic
from epiloom.data.store import describe
from epiloom.data.vectors import new_vector, one_each, open_vector, read_about, write_about
from epiloom.plan.errors import InputError

BAM_BIN_BP = 32
PLAIN = Statistic()
FOLD = 10  # means further apart than this let one track rule a loss that grows with the level


def write_target(
    folder: str | Path,
    identifier: str,
    source: str | Path,
    genome: Genome,
    bin_bp: int,
    values: Statistic | Mapping[str, object] = PLAIN,
    blacklist: str | Path | None = None,
    threads: int = 1,
) -> dict:
    """Bin one track and put it into the store.

    Args:
        folder: the store; identifier: name of the track; genome: must be the store's.
        source: bigWig, or a sorted BAM, of which RPKM coverage is made first (bam.py).
        values: settings of `Statistic`, as such or as mapping.
        blacklist: BED left out of the coverage of a BAM; threads: processes for that.

    Returns:
        What targets{B}/{identifier}.json holds. It is written last.

    Raises:
        InputError: unusable settings, damaged or foreign file, no value on the genome.
    """
    made = values if isinstance(values, Statistic) else Statistic(**values)
    base = Path(folder) / f"targets{bin_bp}"
    with contextlib.ExitStack() as stack:
        bigwig = Path(source)
        if _is_bam(source):
            kept = stack.enter_context(tempfile.TemporaryDirectory(prefix="epiloom-target-"))
            bigwig = Path(kept) / "coverage.bw"
            step = math.gcd(BAM_BIN_BP, bin_bp)  # bins across borders would smear
            bam_to_bigwig(source, bigwig, genome, blacklist, threads, step)
        vector = stack.enter_context(
            new_vector(base / f"{identifier}.npy", np.float16, genome.total(bin_bp))
        )
        cut = _fill(vector, bigwig, genome, bin_bp, made, source)
        facts = _facts(vector, made) | {"clipped": cut}
    return write_about(
        base / f"{identifier}.json",
        genome,
        source,
        identifier=identifier,
        bin_bp=bin_bp,
        values=made.values,
        **facts,
    )


def _is_bam(source: str | Path) -> bool:
    """Whether a file is a BAM, told from its content. Raises InputError if it cannot be read."""
    try:
        with open_bytes(source) as file:
            head = file.read(4)
    except (OSError, EOFError, zlib.error) as err:
        raise InputError(source, f"cannot be read ({err}); check the path and the file") from err
    if head == b"CRAM":
        raise InputError(source, "is a CRAM file; convert it with `samtools view -b -o OUT.bam`")
    return head == b"BAM\x01"


def _fill(
    vector: np.ndarray, bigwig: Path, genome: Genome, bin_bp: int, made: Statistic, source
) -> int:
    """Fill a genome-long vector; returns the bins that were beyond float16."""
    vector[:] = np.nan
    first = dict(zip(genome.chromosomes, genome.offsets(bin_bp).tolist(), strict=False))
    cut, empty = 0, True
    with open_bigwig(bigwig, genome) as file:
        for chrom, start, data in blocks(file, genome, block_length([bin_bp], bigwig)):
            found = made.of_bins(data, bin_bp, source)
            at = first[chrom] + start // bin_bp
            cut += to_half(found, vector[at : at + len(found)])
            empty = False
    if empty:
        raise InputError(source, f"holds no value on {genome.assembly}; give another track")
    return cut


def _facts(vector: np.ndarray, made: Statistic) -> dict:
    """Statistics of a stored track; shares at_clip of the bins present, missing of all bins."""
    facts = describe(vector)
    n = facts.pop("n")
    at_clip = None
    if made.clip is not None:
        at_clip = int(np.count_nonzero(vector == np.float16(made.clip))) / max(n, 1)
    return {**facts, "at_clip": at_clip, "missing": 1 - n / len(vector)}


def level_warnings(means: Mapping[str, float]) -> list[str]:
    """What to tell a user about tracks of very different level; empty if all is well.

    Args:
        means: track -> mean over its bins (`mean` of the JSON).
    """
    silent = [name for name, value in means.items() if not value or not value > 0]
    found = [f"{name} has mean {means[name]}: it holds no signal" for name in silent]
    above = {name: value for name, value in means.items() if name not in silent}
    if above:
        low, high = min(above, key=above.get), max(above, key=above.get)
        if above[high] > FOLD * above[low]:
            found.append(
                f"the means of {high} ({above[high]:.4g}) and {low} ({above[low]:.4g}) differ "
                f"{above[high] / above[low]:.3g}-fold; the loss weights tracks by their level: set "
                f"`scale` in the targets table to bring them within {FOLD}-fold"
            )
    return found


class Targets:
    """Windows of bins of several tracks. Subclasses say how a stretch of one track is read.

    Args:
        genome, bin_bp: the grid.
        n: number of tracks.
    """

    def __init__(self, genome: Genome, bin_bp: int, n: int):
        self.genome, self.bin_bp, self.n = genome, bin_bp, n
        self._bins = dict(zip(genome.chromosomes, genome.bins(bin_bp).tolist(), strict=True))

    def read(self, track: int, chrom: str, first: int, last: int) -> np.ndarray:
        """Bins first .. last of a track inside a chromosome, float16 [last - first]."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of open files."""

    def windows(
        self,
        chroms: str | Sequence[str],
        firsts: Sequence[int],
        bins: int,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """float16 [n, tracks, bins] from bin `firsts` on; NaN = missing or outside.

        Args:
            out: array to fill; made if None.
        """
        chroms, firsts = one_each(chroms, firsts)
        if out is None:
            out = np.empty((len(firsts), self.n, bins), np.float16)
        for row, chrom, first in zip(out, chroms, firsts, strict=True):
            self.genome.index(chrom)  # refuses unknown chromosomes
            low, high = max(first, 0), min(first + bins, self._bins[chrom])
            if high - low < bins:
                row[:] = np.nan
            if low < high:
                for track in range(self.n):
                    row[track, low - first : high - first] = self.read(track, chrom, low, high)
        return out


class StoredTargets(Targets):
    """Windows of tracks of a store.

    Args:
        folder: the store; identifiers: tracks, in the order of the model's outputs.

    Attributes:
        vectors: per track, read-only float16 [genome.total(bin_bp)]; about: what their JSON tells.

    Raises:
        InputError: a track that was not made, or for another genome.
    """

    def __init__(self, folder: str | Path, identifiers: Sequence[str], genome: Genome, bin_bp: int):
        super().__init__(genome, bin_bp, len(identifiers))
        base = Path(folder) / f"targets{bin_bp}"
        self.about = [read_about(base / f"{name}.json", genome) for name in identifiers]
        total = genome.total(bin_bp)
        self.vectors = [open_vector(base / f"{n}.npy", np.float16, total) for n in identifiers]
        self._first = dict(zip(genome.chromosomes, genome.offsets(bin_bp).tolist(), strict=False))

    def read(self, track: int, chrom: str, first: int, last: int) -> np.ndarray:
        at = self._first[chrom]
        return self.vectors[track][at + first : at + last]


class StreamedTargets(Targets):
    """Windows of tracks straight from bigWigs, equal to the stored ones within float16.

    Args:
        sources: bigWig per track; values: `Statistic` (or its settings) per track.
    """

    def __init__(
        self,
        sources: Sequence[str | Path],
        values: Sequence[Statistic | Mapping[str, object]],
        genome: Genome,
        bin_bp: int,
    ):
        super().__init__(genome, bin_bp, len(sources))
        made = [v if isinstance(v, Statistic) else Statistic(**v) for v in values]
        self._stack = contextlib.ExitStack()
        try:
            self._tracks = [
                (source, self._stack.enter_context(open_bigwig(source, genome)), statistic)
                for source, statistic in zip(sources, made, strict=True)
            ]
        except BaseException:
            self._stack.close()
            raise
        self._there = [set(file.chroms()) for _, file, _ in self._tracks]

    def read(self, track: int, chrom: str, first: int, last: int) -> np.ndarray:
        if chrom not in self._there[track]:
            return np.full(last - first, np.nan, np.float16)
        source, file, statistic = self._tracks[track]
        start, end = first * self.bin_bp, min(last * self.bin_bp, self.genome.length(chrom))
        try:
            data = file.values(chrom, start, end, numpy=True)
        except RuntimeError as err:
            raise InputError(source, f"is damaged ({err}); download it again") from err
        if len(data) == 0:
            return np.full(last - first, np.nan, np.float16)
        found = np.empty(last - first, np.float16)
        to_half(statistic.of_bins(data, self.bin_bp, source), found)
        return found

    def close(self) -> None:
        self._stack.close()
