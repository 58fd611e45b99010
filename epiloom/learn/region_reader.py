"""Reads regions of the genome for models of DNA and cells: bases, motif scores, cells' signals.

Shapes: R regions, C cells, N bases, B bins, K factors (TFs), S signals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from epiloom.data.genome import Genome
from epiloom.data.geometry import Geometry
from epiloom.data.loops import Loops
from epiloom.data.motif_blocks import MotifBlock
from epiloom.data.sequence import reverse_complement
from epiloom.data.signal_targets import CellSignals
from epiloom.data.vectors import PerBase
from epiloom.plan.errors import InputError


@dataclass(frozen=True)
class RegionInputs:
    """Bases and motif scores of regions: what all cells share."""

    genome: Genome
    shape: Geometry
    bases: PerBase
    block: MotifBlock
    columns: np.ndarray | None  # of the block; None: all

    def codes(self, chrom: str, first: int) -> np.ndarray:
        """Motif scores of a region as steps, uint8 [B, K]; 0 beyond the chromosome's ends.

        Raises:
            InputError: bins that were not scanned.
        """
        i, bins = self.genome.index(chrom), self.shape.bins
        offset = int(self.genome.offsets(self.shape.bin_bp)[i])
        low, high = max(first, 0), min(first + bins, int(self.genome.bins(self.shape.bin_bp)[i]))
        out = np.zeros((bins, len(self.block.tfs)), np.uint8)
        if low < high:
            rows = slice(offset + low, offset + high)
            if self.block.flags[rows].any():
                raise InputError(
                    f"{chrom}:{low * self.shape.bin_bp}-{high * self.shape.bin_bp}",
                    "was not scanned for motifs; make the motif block for regions that hold it",
                )
            out[low - first : high - first] = self.block.codes[rows]
        return out if self.columns is None else np.ascontiguousarray(out[:, self.columns])

    def read(self, chroms: Sequence[str], starts: Sequence[int]) -> dict[str, np.ndarray]:
        """`bases` uint8 [R, N], `motifs` uint8 [R, B, K]."""
        firsts = [int(start) // self.shape.bin_bp for start in starts]
        codes = [self.codes(str(c), first) for c, first in zip(chroms, firsts, strict=True)]
        names = [str(chrom) for chrom in chroms]
        return {
            "bases": self.bases.windows(names, list(starts), self.shape.seq_bp),
            "motifs": np.stack(codes),
        }


@dataclass(frozen=True)
class RegionReader:
    """Everything of regions and cells.

    Attributes:
        cells: names; vectors: their expression, float32 [cells, K].
        columns: of the signals among those stored; None: all.
        mask: uint8 [genome.total(bin_bp)], bins that are not 0 are missing; None: none is.
        loops: of each cell that has any, by its place; None: they are not read.
        mean: of the training cells' signals, float16 [genome.total(bin_bp), signals stored]; None:
            it is not read. train: places of the training cells.
    """

    inputs: RegionInputs
    cells: list[str]
    vectors: np.ndarray
    signals: CellSignals
    columns: np.ndarray | None
    mask: np.ndarray | None
    loops: dict[int, Loops] | None
    mean: np.ndarray | None = None
    train: np.ndarray | None = None

    def target(self, chrom: str, start: int, cells: Sequence[int]) -> np.ndarray:
        """Signals of a region, float16 [C, B, S]; NaN where missing or masked, or for cell -1."""
        shape, rows = self.inputs.shape, np.asarray(cells)
        first = int(start) // shape.bin_bp
        found = self.signals.batch([chrom], [first], shape.bins, np.maximum(rows, 0).tolist())[0]
        if self.columns is not None:
            found = found[..., self.columns]
        found[rows < 0] = np.nan
        if self.mask is not None:
            genome = self.inputs.genome
            offset = int(genome.offsets(shape.bin_bp)[genome.index(chrom)])
            found[:, self.mask[offset + first : offset + first + shape.bins] != 0] = np.nan
        return found

    def means(
        self, chrom: str, start: int, cells: Sequence[int], without_own: bool = True
    ) -> np.ndarray:
        """Mean signal of the training cells, float32 [C, B, S]; NaN = none.

        Args:
            without_own: a training cell is left out of its own.
        """
        usual = self._mean(chrom, int(start) // self.inputs.shape.bin_bp)
        found = np.repeat(usual[None], len(cells), axis=0)
        own = np.flatnonzero(np.isin(cells, self.train)) if without_own else ()
        if len(own):
            values = self.target(chrom, start, self.train).astype(np.float64)
            known = ~np.isnan(values)
            values[~known] = 0
            total, n = values.sum(axis=0), known.sum(axis=0)
            for k in own:
                c = int(np.flatnonzero(self.train == cells[k])[0])
                rest, others = total - values[c], n - known[c]
                found[k] = np.divide(
                    rest, others, out=np.full(rest.shape, np.nan), where=others > 0
                )
        return found

    def _mean(self, chrom: str, first: int) -> np.ndarray:
        return mean_of(self.mean, self.inputs, chrom, first, self.columns)

    def batch(
        self,
        chroms: Sequence[str],
        starts: Sequence[int],
        cells: np.ndarray,
        training: bool = False,
    ) -> dict[str, np.ndarray]:
        """`bases`, `motifs` (see `RegionInputs.read`), `expression` float32 [R, C, K], `target`
        float16 [R, C, B, S]; where they are read, `loops` float32 [R, loops, 6] and `mean` float32
        [R, C, B, S], which is 0 and has no target where no training cell has a signal.

        Args:
            cells: places of each region's cells [R, C]; -1 = nobody, whose target is missing.
            training: the mean is that of all training cells, else a cell is left out of its own.
        """
        found = self.inputs.read(chroms, starts)
        found["expression"] = self.vectors[np.maximum(cells, 0)]
        rows = list(zip(chroms, starts, cells, strict=True))
        found["target"] = np.stack([self.target(str(c), s, own) for c, s, own in rows])
        if self.mean is not None:
            # In training all cells get the same mean: without its own signal it would be low just
            # where a cell is high, which tells more of the cell than its factors do.
            means = [self.means(str(c), s, own, not training) for c, s, own in rows]
            means = np.stack(means)
            unknown = np.isnan(means)
            found["target"][unknown] = np.nan
            found["mean"] = np.where(unknown, np.float32(0), means)
        if self.loops is not None:
            found["loops"] = _padded([self._loops(str(c), int(s), own) for c, s, own in rows])
        return found

    def _loops(self, chrom: str, start: int, cells: np.ndarray) -> np.ndarray:
        """Loops of one region: place in the batch, bins of both anchors, weight; [loops, 6]."""
        shape, found = self.inputs.shape, [np.zeros((0, 6), np.float32)]
        for place, cell in enumerate(cells.tolist()):
            if cell in self.loops:
                table = self.loops[cell].inside(chrom, start // shape.bin_bp, shape.bins)
                own = table[["first1", "last1", "first2", "last2", "weight"]].to_numpy(np.float32)
                found.append(np.insert(own, 0, place, axis=1))
        return np.concatenate(found)


def mean_of(
    mean: np.ndarray,
    inputs: RegionInputs,
    chrom: str,
    first: int,
    columns: np.ndarray | None = None,
) -> np.ndarray:
    """Stored means of a region, float32 [B, S]; NaN where none is known, or outside.

    Args:
        mean: [genome.total(bin_bp), signals stored]. first: bin on the chromosome. columns: of the
            signals; None: all.
    """
    shape, genome = inputs.shape, inputs.genome
    i = genome.index(chrom)
    offset = int(genome.offsets(shape.bin_bp)[i])
    low, high = max(first, 0), min(first + shape.bins, int(genome.bins(shape.bin_bp)[i]))
    out = np.full((shape.bins, mean.shape[1]), np.nan, np.float32)
    if low < high:
        out[low - first : high - first] = mean[offset + low : offset + high]
    return out if columns is None else np.ascontiguousarray(out[:, columns])


def _padded(lists: Sequence[np.ndarray]) -> np.ndarray:
    """Lists of one length; -1 in the first column says that there is no loop."""
    out = np.zeros((len(lists), max(1, *map(len, lists)), 6), np.float32)
    out[..., 0] = -1
    for row, own in zip(out, lists, strict=True):
        row[: len(own)] = own
    return out


def turned(batch: Mapping[str, np.ndarray], which: np.ndarray) -> dict[str, np.ndarray]:
    """A batch of which some regions (bool [R]) are read on the other strand.

    Motif scores are those of the same bins in reverse order; a site across a bin's edge would,
    scanned again, begin in the neighbouring bin.
    """
    found = dict(batch)
    if not which.any():
        return found
    bins = found["motifs"].shape[1]
    found["bases"][which] = reverse_complement(found["bases"][which])
    found["motifs"][which] = found["motifs"][which][:, ::-1]
    for key in ("target", "mean"):
        if key in found:
            found[key][which] = found[key][which][:, :, ::-1]
    if "loops" in found:
        own = found["loops"][which]
        own[..., 1:5] = bins - own[..., [2, 1, 4, 3]]
        found["loops"][which] = own
    return found
