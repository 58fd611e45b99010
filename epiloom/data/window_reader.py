"""Batches of windows for sequence models: bases, conservation, targets, and which bins count.

Shapes: n windows, L = seq_bp bases, T tracks, B = geometry.bins predicted bins. From the store a
window is a few slices of memory maps; straight from FASTA and bigWigs it has the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from epiloom.data.conservation import BigWigConservation, stored_conservation
from epiloom.data.genome import Genome, mask
from epiloom.data.geometry import Geometry
from epiloom.data.sequence import from_the_end, open_bases, reverse_complement, stored_bases
from epiloom.data.statistics import Statistic
from epiloom.data.targets import StoredTargets, StreamedTargets, Targets
from epiloom.data.vectors import PerBase, one_each, open_vector
from epiloom.plan.errors import InputError


class WindowReader:
    """Reads batches of windows; make one with `stored` or `streamed`.

    Args:
        bases, conservation: one uint8 per base; no conservation: None.
        targets: tracks in the order of the model's outputs, on the grid of `geometry`.
        flags: masked bins, uint8 [genome.total(bin_bp)].
    """

    def __init__(
        self,
        bases: PerBase,
        conservation: PerBase | None,
        targets: Targets,
        flags: np.ndarray,
        geometry: Geometry,
    ):
        self.genome, self.geometry, self.tracks = bases.genome, geometry, targets.n
        self._bases, self._conservation, self._targets = bases, conservation, targets
        self._flags = flags
        b = geometry.bin_bp
        self._place = {
            chrom: (int(first), int(n))
            for chrom, first, n in zip(
                self.genome.chromosomes, self.genome.offsets(b), self.genome.bins(b), strict=False
            )
        }

    @classmethod
    def stored(
        cls,
        folder: str | Path,
        targets: Sequence[str],
        conservation: str | None,
        geometry: Geometry,
    ) -> WindowReader:
        """From a store: all but the bases may be empty or None.

        Args:
            folder: the store; targets: identifiers; conservation: its name there.

        Raises:
            InputError: something is not in the store, or is of another genome.
        """
        folder = Path(folder)
        genome, b = Genome.load(folder / "manifest.json"), geometry.bin_bp
        return cls(
            stored_bases(folder, genome),
            stored_conservation(folder, conservation, genome) if conservation else None,
            StoredTargets(folder, targets, genome, b),
            open_vector(folder / "mask" / f"{b}.npy", np.uint8, genome.total(b)),
            geometry,
        )

    @classmethod
    def streamed(
        cls,
        genome: Genome,
        sequence: str | Path,
        geometry: Geometry,
        targets: Sequence[tuple[str | Path, Statistic | Mapping[str, object]]] = (),
        conservation: str | Path | None = None,
        gaps: str | Path | None = None,
        blacklist: str | Path | None = None,
    ) -> WindowReader:
        """Straight from files; slower, equal within float16.

        Args:
            sequence: plain or BGZF FASTA, or .2bit.
            targets: (bigWig, settings of its `Statistic`) per track.
            conservation: phastCons bigWig; gaps, blacklist: see `genome.mask`.

        Raises:
            InputError: a file that cannot be read or does not fit the genome.
        """
        b = geometry.bin_bp
        return cls(
            open_bases(sequence, genome),
            BigWigConservation(conservation, genome) if conservation else None,
            StreamedTargets([s for s, _ in targets], [v for _, v in targets], genome, b),
            mask(genome, b, gaps, blacklist),
            geometry,
        )

    def bases(self, chrom: str, start: int, length: int) -> np.ndarray:
        """uint8 [length]: A, C, G, T = 0..3, other and beyond the ends 4."""
        return self._bases.window(chrom, start, length)

    def conservation(self, chrom: str, start: int, length: int) -> np.ndarray:
        """uint8 [length]: conservation x 255; all 0 if the reader has none."""
        if self._conservation is None:
            return np.zeros(length, np.uint8)
        return self._conservation.window(chrom, start, length)

    def close(self) -> None:
        """Let go of open files."""
        for part in (self._bases, self._conservation, self._targets):
            if part is not None:
                part.close()

    def room(self, n: int) -> dict[str, np.ndarray]:
        """Arrays for a batch of n windows, to be filled again and again."""
        L, B = self.geometry.seq_bp, self.geometry.bins
        found = {
            "bases": np.empty((n, L), np.uint8),
            "target": np.empty((n, self.tracks, B), np.float16),
            "valid": np.empty((n, 1, B), bool),
        }
        if self._conservation is not None:
            found["conservation"] = np.empty((n, L), np.uint8)
        return found

    def batch(
        self,
        chroms: str | Sequence[str],
        starts: Sequence[int],
        reverse: Sequence[bool] | None = None,
        shift: Sequence[int] | None = None,
        out: dict[str, np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:
        """Windows with their targets.

        Args:
            chroms, starts: per window [n]; starts on the grid of bins, possibly outside.
            reverse: whether to turn a window to the other strand [n]: bases are complemented, and
                everything is read from the end.
            shift: bases [n] by which bases and conservation, but not targets, are read further on.
            out: arrays to fill, as `room` makes them.

        Returns:
            bases uint8 [n, L]; conservation uint8 [n, L], absent if the reader has none; target
            float16 [n, T, B], NaN = missing; valid bool [n, 1, B], False in gaps, blacklisted
            regions and beyond the ends. A bin counts if it is valid and its target not missing.

        Raises:
            InputError: starts off the grid, unknown chromosomes, arguments of different length.
        """
        chroms, starts = one_each(chroms, starts)
        n, b = len(starts), self.geometry.bin_bp
        reverse = np.zeros(n, bool) if reverse is None else np.asarray(reverse, bool)
        shift = np.zeros(n, np.int64) if shift is None else np.asarray(shift, np.int64)
        self._check(starts, reverse, shift)
        out = self.room(n) if out is None else out
        places, length = (np.asarray(starts, np.int64) + shift), self.geometry.seq_bp
        self._bases.windows(chroms, places, length, out["bases"])
        if self._conservation is not None:
            self._conservation.windows(chroms, places, length, out["conservation"])
        firsts = [start // b + self.geometry.crop_bins for start in starts]
        self._targets.windows(chroms, firsts, self.geometry.bins, out["target"])
        self._valid(chroms, firsts, out["valid"])
        self._turn(out, np.flatnonzero(reverse))
        return out

    def _check(self, starts: list[int], reverse: np.ndarray, shift: np.ndarray) -> None:
        n, b = len(starts), self.geometry.bin_bp
        problems = [
            f"{name} has shape {values.shape}; give one per window ({n})"
            for name, values in (("reverse", reverse), ("shift", shift))
            if values.shape != (n,)
        ]
        off = [start for start in starts if start % b]
        if off:
            problems.append(
                f"{len(off)} starts are no multiple of {b}, the first is {off[0]}; give starts on "
                "the grid of bins, and move the bases with `shift`"
            )
        if problems:
            raise InputError("windows", problems)

    def _valid(self, chroms: list[str], firsts: list[int], out: np.ndarray) -> None:
        bins = self.geometry.bins
        for row, chrom, first in zip(out[:, 0], chroms, firsts, strict=True):
            at, count = self._place[chrom]
            low, high = max(first, 0), min(first + bins, count)
            if high - low < bins:
                row[:] = False
            if low < high:
                flags = self._flags[at + low : at + high]
                np.equal(flags, 0, out=row[low - first : high - first])

    @staticmethod
    def _turn(out: dict[str, np.ndarray], rows: np.ndarray) -> None:
        """Turn some windows to the other strand, in place."""
        ways = {"bases": reverse_complement, "conservation": from_the_end}
        for name, values in out.items():
            way = ways.get(name, lambda own: own[..., ::-1].copy())
            for row in rows:
                values[row] = way(values[row])
