"""Examples of models of DNA: windows of bases and conservation, and the tracks over them.

Shapes: n windows, L bases, T tracks, K predicted bins.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from epiloom.data.bed import read_bed
from epiloom.data.genome import Genome
from epiloom.data.geometry import Geometry
from epiloom.data.window_reader import WindowReader
from epiloom.data.windows import windows
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

_SHUFFLE, _VARY = 2, 3  # random streams beside those of the epochs' orders


def geometry_of(settings: Mapping[str, Any]) -> Geometry:
    """The window of a run."""
    return Geometry(settings["seq_bp"], settings["bin_bp"], settings["crop_bins"])


@dataclass(frozen=True)
class WindowTable:
    """All windows of one run, with their part."""

    reader: WindowReader
    windows: pd.DataFrame  # chrom, start, part
    settings: Mapping[str, Any]

    @classmethod
    def read(cls, settings: Mapping[str, Any], files: Mapping[str, Any]) -> WindowTable:
        """Lay the windows of a run over the genome store.

        Args:
            settings: the run's settings.
            files: `manifest` of the store, and what else stands in it (see
                `plan.sequence.example_files`).

        Raises:
            InputError: files that do not fit together.
        """
        genome, shape = Genome.load(files["manifest"]), geometry_of(settings)
        flags = np.load(files["mask"], mmap_mode="r", allow_pickle=False)
        table = windows(
            genome,
            shape,
            settings["fold"],
            stride_bp=settings["stride_bp"] or shape.target_bp,
            flags=flags,
            within=read_bed(files["within"], genome) if "within" in files else None,
            seed=settings["seed"],
            **settings["windows"],
        )
        told = table["part"].value_counts()
        log.info("windows: %s", ", ".join(f"{n} {part}" for part, n in told.items()))
        store = Path(files["manifest"]).parent
        reader = WindowReader.stored(store, settings["tracks"], settings["conserved_by"], shape)
        return cls(reader, table, settings)

    def examples(self, part: str) -> WindowExamples:
        """The windows of one part.

        Raises:
            InputError: the part holds none.
        """
        own = self.windows[self.windows["part"] == part]
        if own.empty:
            raise InputError(
                part,
                f"there is no window of {self.settings['seq_bp']} bp; its chromosomes "
                "are shorter or masked: hold out others, or lower seq_bp",
            )
        chroms, starts = own["chrom"].to_numpy(str), own["start"].to_numpy(np.int64)
        elsewhere = np.arange(len(own))
        if self.settings["shuffled"]:
            rng = np.random.default_rng([self.settings["seed"], _SHUFFLE])
            elsewhere = rng.permutation(len(own))
        draws = None
        if part == "train":
            draws = Variation(self.settings["shift_bp"], self.settings["reverse_complement"])
        return WindowExamples(self.reader, chroms, starts, elsewhere, draws)


@dataclass(frozen=True)
class Variation:
    """How training windows are varied: moved by up to `shift_bp`, every second one reversed.

    `drawn` holds the shifts (int64 [n]) and strands (bool [n]) of one epoch; None: as they are.
    """

    shift_bp: int
    reverse_complement: bool
    drawn: tuple[np.ndarray, np.ndarray] | None = None

    def of_epoch(self, n: int, seed: int, epoch: int) -> Variation:
        """The draws of an epoch (0-based), the same for every process and every restart."""
        rng = np.random.default_rng([seed, epoch, _VARY])
        shift = rng.integers(-self.shift_bp, self.shift_bp + 1, n)
        reverse = rng.random(n) < 0.5 * self.reverse_complement
        return replace(self, drawn=(shift, reverse))


@dataclass(frozen=True)
class WindowExamples:
    """Windows of one part, read from the store when they are asked for."""

    reader: WindowReader
    chroms: np.ndarray  # text [n]
    starts: np.ndarray  # int64 [n]
    elsewhere: np.ndarray  # int64 [n]: the window whose targets each has; another in a control
    variation: Variation | None = None

    def __len__(self) -> int:
        return len(self.starts)

    @cached_property
    def truth(self) -> np.ndarray:
        """Targets of all windows, float16 [n, T, K]; NaN = missing or masked."""
        found = self.batch(np.arange(len(self)))
        return np.where(found["valid"], found["target"], np.float16(np.nan))

    def varied(self, seed: int, epoch: int) -> WindowExamples:
        """The same windows as one epoch of training shows them."""
        if self.variation is None:
            return self
        return replace(self, variation=self.variation.of_epoch(len(self), seed, epoch))

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """`bases`, `conservation` uint8 [n, L]; `target` float16 [n, T, K], `valid` [n, 1, K]."""
        drawn = self.variation.drawn if self.variation else None
        shift, reverse = (d[indices] for d in drawn) if drawn else (None, None)
        found = self.reader.batch(self.chroms[indices], self.starts[indices], reverse, shift)
        found.setdefault("conservation", np.zeros_like(found["bases"]))  # for models without any
        other = self.elsewhere[indices]
        if (other != indices).any():
            moved = self.reader.batch(self.chroms[other], self.starts[other], reverse, None)
            found |= {key: moved[key] for key in ("target", "valid")}
        return found

    def names(self, indices: np.ndarray) -> list[str]:
        return [f"{self.chroms[i]}:{self.starts[i]}" for i in indices]
