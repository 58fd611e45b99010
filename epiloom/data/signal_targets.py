"""Signals of many cell types, side by side, as targets of models that read cell type and DNA.

    signals{B}/{cell}.npy    float16 [genome.total(B), signals]: natural log(1 + x), NaN = missing
    signals{B}/{cell}.json   signals in their order, kinds, depths, sources, what is missing
    signals{B}/mean.npy      float16, the same of the mean over the training cells (a baseline)
    scales.json              kind and common depth of each signal; belongs beside the weights

One file per cell: a region of a cell is one contiguous read of bins x signals (1000 x 8 x 2 bytes =
16 kB), so a batch of R regions x C cells is R x C of them in any mixture, and a new cell is a new
file. One array of all cells would save reads only for batches that take every cell, and would have
to be written again for each new one.

x is, per cell and signal, the mean over the replicates of
    counts (BAM or reads)    reads that touch the bin, times N_min / N: N is the file's sum of
                             counts, N_min the smallest N of this signal over the training cells
    depth, fold_change, pval mean of a bigWig over the bases of the bin
and a signal is of one kind in all cells. Missing (NaN, never 0): a signal without a file, a bin
where no replicate has a value, and bins of the genome's mask.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from epiloom.data.files import atomic
from epiloom.data.genome import Genome
from epiloom.data.labels import refuse
from epiloom.data.signal import to_half
from epiloom.data.vectors import new_matrix, open_vector, read_about
from epiloom.plan.errors import InputError
from epiloom.plan.runs import DATA_VERSION

log = logging.getLogger("epiloom")

SIGNALS = (*("DNase", "CTCF", "H3K27ac", "H3K4me3", "H3K36me3", "H3K27me3", "H3K9me3", "H3K4me1"),)
BLOCK = 1 << 18  # bins turned at a time
_AGAIN = "delete it and make it again"


# --- the scale of all cells -----------------------------------------------------------------------


@dataclass(frozen=True)
class Scales:
    """Kind and common depth of every signal.

    Attributes:
        signals: in the order of all arrays. kinds: of each, "" if no training cell has it.
        depths: N_min of each signal of counts, None of others.
    """

    signals: tuple[str, ...]
    kinds: tuple[str, ...]
    depths: tuple[float | None, ...]

    @classmethod
    def settle(
        cls,
        raws: Mapping[str, Mapping[str, Sequence[str | Path]]],
        genome: Genome,
        signals: Sequence[str] = SIGNALS,
    ) -> Scales:
        """Scales of the training cells.

        Args:
            raws: cell -> signal -> prefixes of `write_raw`, one per replicate.

        Raises:
            InputError: a signal of two kinds, unknown signals, no file at all; all at once.
        """
        kinds, depths, problems = [], [], []
        for cell, given in raws.items():
            unknown = [s for s in given if s not in signals]
            problems += [f"{cell}: signal {s!r} is none of {', '.join(signals)}" for s in unknown]
        for signal in signals:
            files = [(c, p) for c, given in raws.items() for p in given.get(signal, ())]
            about = [(c, read_about(f"{p}.json", genome)) for c, p in files]
            seen: dict[str, list[str]] = {}
            for cell, told in about:
                seen.setdefault(told["kind"], []).append(cell)
            if len(seen) > 1:
                each = "; ".join(f"{k} in {', '.join(sorted(set(c)))}" for k, c in seen.items())
                problems.append(f"{signal} is of several kinds ({each}); give one kind for all")
            kinds.append(next(iter(seen), ""))
            totals = [told["total"] for _, told in about if told["total"]]
            depths.append(float(min(totals)) if totals else None)
        if not any(kinds):
            problems.append("no cell has a file; give at least one")
        refuse("signals", problems)
        return cls(tuple(signals), tuple(kinds), tuple(depths))

    @property
    def checksum(self) -> str:
        """Fingerprint of signals, their order, kinds and depths."""
        told = [self.signals, self.kinds, self.depths, "log1p"]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def save(self, path: str | Path) -> None:
        """Write it as JSON."""
        told = {"signals": self.signals, "kinds": self.kinds, "depths": self.depths}
        with atomic(path) as tmp:
            tmp.write_text(json.dumps(told | {"sha256": self.checksum}, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Scales:
        """Read it. Raises InputError if it is missing or damaged."""
        try:
            told = json.loads(Path(path).read_text())
            found = cls(*(tuple(told[key]) for key in ("signals", "kinds", "depths")))
            same = told["sha256"] == found.checksum
        except FileNotFoundError:
            raise InputError(path, "there is no such file; make the signals first") from None
        except (KeyError, TypeError, ValueError) as err:
            raise InputError(path, f"is damaged ({err!r}); {_AGAIN}") from err
        if not same:
            raise InputError(path, f"is not as it was written; {_AGAIN}")
        return found


# --- one cell -------------------------------------------------------------------------------------


def write_cell(
    prefix: str | Path,
    raws: Mapping[str, Sequence[str | Path]],
    scales: Scales,
    genome: Genome,
    bin_bp: int,
    mask: np.ndarray | None = None,
) -> dict:
    """Put the signals of one cell beside each other: PREFIX.npy and PREFIX.json.

    Args:
        raws: signal -> prefixes of `write_raw`, one per replicate.
        scales: of the training cells; a held-out cell is scaled to the same depth.
        mask: uint8 [genome.total(bin_bp)], bins that are not 0 are missing; None: none is.

    Returns:
        What PREFIX.json holds; it is written last.

    Raises:
        InputError: a signal of another kind than in the training cells; nothing at all.
    """
    files = _fitting(prefix, raws, scales, genome)
    total = genome.total(bin_bp)
    missing = np.zeros(len(scales.signals), np.int64)
    with new_matrix(Path(f"{prefix}.npy"), np.float16, (total, len(scales.signals))) as out:
        parts = {s: _opened(pairs, scales, s, total) for s, pairs in files.items()}
        for first in range(0, total, BLOCK):
            bins = slice(first, min(first + BLOCK, total))
            block = np.full((bins.stop - first, len(scales.signals)), np.nan)
            for signal, replicates in parts.items():
                block[:, scales.signals.index(signal)] = _mean(replicates, bins)
            if mask is not None:
                block[np.asarray(mask[bins]) != 0] = np.nan
            to_half(np.log1p(block), out[bins])
            missing += np.isnan(block).sum(axis=0)
    about = {
        "data_version": DATA_VERSION,
        "assembly": genome.assembly,
        "bin_bp": bin_bp,
        "transform": "log1p",
        "signals": list(scales.signals),
        "sha256_of_scales": scales.checksum,
        "sources": {s: [a["source"]["name"] for _, a in pairs] for s, pairs in files.items()},
        "missing": dict(zip(scales.signals, (missing / total).tolist(), strict=True)),
    }
    with atomic(f"{prefix}.json") as tmp:
        tmp.write_text(json.dumps(about, indent=1) + "\n")
    return about


def _fitting(
    prefix: str | Path,
    raws: Mapping[str, Sequence[str | Path]],
    scales: Scales,
    genome: Genome,
) -> dict[str, list[tuple[str | Path, dict]]]:
    """Prefix and JSON of each replicate by signal; refuses what does not fit the training cells."""
    files, problems = {}, []
    for signal, prefixes in raws.items():
        if signal not in scales.signals:
            problems.append(f"signal {signal!r} is none of {', '.join(scales.signals)}")
            continue
        about = [read_about(f"{p}.json", genome) for p in prefixes]
        kind = scales.kinds[scales.signals.index(signal)]
        odd = sorted({a["kind"] for a in about} - {kind})
        if odd:
            told = kind or "none, no training cell has it"
            problems.append(f"{signal} is {', '.join(odd)}, in the training cells {told}")
        elif about:
            files[signal] = [*zip(prefixes, about, strict=True)]
    if not files and not problems:
        problems.append("has no file of any signal; leave the cell out")
    refuse(prefix, problems)
    return files


def _opened(pairs, scales: Scales, signal: str, total: int) -> list[tuple[np.ndarray, float]]:
    """Vector and factor of each replicate."""
    depth = scales.depths[scales.signals.index(signal)]
    return [
        (open_vector(f"{p}.npy", np.float32, total), depth / a["total"] if a["total"] else 1.0)
        for p, a in pairs
    ]


def _mean(replicates: Sequence[tuple[np.ndarray, float]], bins: slice) -> np.ndarray:
    """Mean over the replicates that have a value, float64; NaN if none has."""
    total = np.zeros(bins.stop - bins.start)
    n = np.zeros(len(total))
    for vector, factor in replicates:
        values = vector[bins] * np.float64(factor)
        known = ~np.isnan(values)
        total[known] += values[known]
        n += known
    return np.divide(total, n, out=np.full(len(total), np.nan), where=n > 0)


# --- reading --------------------------------------------------------------------------------------


class CellSignals:
    """Signals of some cells, through memory maps.

    Args:
        folder: where CELL.npy and CELL.json lie (`signals{B}`). cells: names, in order.
        scales: what they must have been made with.

    Raises:
        InputError: cells that are missing, damaged, on another genome, or scaled otherwise.
    """

    def __init__(
        self,
        folder: str | Path,
        cells: Sequence[str],
        genome: Genome,
        bin_bp: int,
        scales: Scales,
    ):
        self.genome, self.bin_bp, self.scales = genome, bin_bp, scales
        self.cells = list(cells)
        problems, self.values = [], []
        for cell in cells:
            try:
                self.values.append(self._open(Path(folder) / cell))
            except InputError as err:
                problems += [f"{cell}: {problem}" for problem in err.problems]
        refuse(folder, problems)
        self._bins = dict(zip(genome.chromosomes, genome.bins(bin_bp).tolist(), strict=True))
        self._first = dict(zip(genome.chromosomes, genome.offsets(bin_bp).tolist(), strict=False))

    def _open(self, prefix: Path) -> np.ndarray:
        about = read_about(f"{prefix}.json", self.genome)
        wrong = []
        if about.get("bin_bp") != self.bin_bp:
            wrong.append(f"bins of {about.get('bin_bp')} bp, not {self.bin_bp}; {_AGAIN}")
        if about.get("sha256_of_scales") != self.scales.checksum:
            wrong.append(f"made with other signals, kinds or depths; {_AGAIN}")
        refuse(f"{prefix}.json", wrong)
        try:
            array = np.load(f"{prefix}.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as err:
            raise InputError(f"{prefix}.npy", f"cannot be opened ({err}); {_AGAIN}") from err
        shape = (self.genome.total(self.bin_bp), len(self.scales.signals))
        if array.dtype != np.float16 or array.shape != shape:
            raise InputError(
                f"{prefix}.npy", f"holds {array.dtype} {array.shape}, not float16 {shape}; {_AGAIN}"
            )
        return array.view(np.ndarray)  # still mapped; slicing is several times cheaper

    def batch(
        self,
        chroms: Sequence[str],
        firsts: Sequence[int],
        bins: int,
        cells: Iterable[int] | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Regions x cells, float16 [R, C, bins, signals]; NaN = missing or outside.

        Args:
            chroms, firsts: chromosome and first bin of each region.
            cells: places in `self.cells`; None: all. out: array to fill; made if None.
        """
        rows = range(len(self.cells)) if cells is None else list(cells)
        if out is None:
            shape = (len(firsts), len(rows), bins, len(self.scales.signals))
            out = np.empty(shape, np.float16)
        for region, chrom, first in zip(out, chroms, firsts, strict=True):
            self.genome.index(chrom)  # refuses unknown chromosomes
            low, high = max(first, 0), min(first + bins, self._bins[chrom])
            if high - low < bins:
                region[:] = np.nan
            if low < high:
                at = self._first[chrom]
                for place, cell in zip(region, rows, strict=True):
                    place[low - first : high - first] = self.values[cell][at + low : at + high]
        return out


def write_mean(path: str | Path, signals: CellSignals) -> None:
    """Mean of the cells of `signals` per bin and signal, float16 [genome.total, signals].

    NaN where no cell has a value. The means are of log(1 + x). Give training cells only.
    """
    total = signals.genome.total(signals.bin_bp)
    with new_matrix(path, np.float16, (total, len(signals.scales.signals))) as out:
        for first in range(0, total, BLOCK):
            bins = slice(first, min(first + BLOCK, total))
            summed, n = (np.zeros((bins.stop - first, out.shape[1])) for _ in range(2))
            for values in signals.values:
                part = values[bins].astype(np.float64)
                known = ~np.isnan(part)
                summed += np.where(known, part, 0)
                n += known
            out[bins] = np.divide(summed, n, out=np.full(n.shape, np.nan), where=n > 0)
