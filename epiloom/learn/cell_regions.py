"""Examples of models that read DNA and a cell's factors: regions, each with some cells.

A region's bases and motif scores are read once and serve all cells of an example. In training every
region of the training chromosomes comes once per epoch, with `cells_per_region` training cells that
are drawn anew for every epoch; elsewhere each region comes with all cells of its part, in as many
examples as that takes.

    cells \\ chromosomes   train          validation    test
    train                 train          -             cross_region
    validation            -              validation    -
    test                  cross_cell     -             cross_both

Shapes: R regions, C cells, N bases, B bins, K factors (TFs), S signals.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from epiloom.data.cell_groups import EVALUATED
from epiloom.data.folds import part_of
from epiloom.data.genome import Genome
from epiloom.data.geometry import Geometry
from epiloom.data.labels import refuse
from epiloom.data.loops import Loops
from epiloom.data.region_choice import count_bins, read_regions
from epiloom.data.sequence import stored_bases
from epiloom.data.signal_targets import CellSignals, Scales
from epiloom.data.tf_expression import Reference, read_vectors
from epiloom.data.vectors import open_vector
from epiloom.learn.cell_settings import (
    cells_by_part,
    columns_of,
    open_block,
    open_mean,
    settings_from,
)
from epiloom.learn.region_reader import RegionInputs, RegionReader, turned
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

PARTS = {told: pair for pair, told in EVALUATED.items()}  # part -> those of cells, of chromosomes
_DRAWS = 5  # random stream beside those of the other kinds


@dataclass(frozen=True)
class RegionTable:
    """All regions and cells of one run, by part.

    `settings` are those of `settings_from`.
    """

    reader: RegionReader
    regions: pd.DataFrame  # chrom, start, end, part
    settings: Mapping[str, Any]

    @classmethod
    def read(cls, settings: Mapping[str, Any], files: Mapping[str, Any]) -> RegionTable:
        """Open a run's data.

        Args:
            settings: `cells` by part (or `train_cells`, `validation_cells`, `test_cells`), `fold`,
                `cells_per_region`, `reverse_complement`; and see `settings_from`.
            files: `manifest` of the store, whose sequence is read; `motifs`, `motif_flags`,
                `motif_facts` (data/motif_blocks.py); `regions`, a BED; `signals`, the folder of
                CELL.npy, or these; `scales`; `reference` and `vectors` (data/tf_expression.py);
                with the setting `from_mean`, `mean` and `mean_facts`;
                optional `mask`, and `loops`, CELL.npz of data/loops.py.

        Raises:
            InputError: files that do not fit together, cells or chromosomes on two sides.
        """
        settings = settings_from(settings, files)
        cells = _cells(settings)
        genome, block = Genome.load(files["manifest"]), open_block(files)
        shape = Geometry(settings["seq_bp"], settings["bin_bp"])
        scales, store = Scales.load(files["scales"]), Path(files["manifest"]).parent
        signals = CellSignals(_folder(files["signals"]), cells, genome, shape.bin_bp, scales)
        mask = None
        if files.get("mask"):
            mask = open_vector(files["mask"], np.uint8, genome.total(shape.bin_bp))
        factors = columns_of(settings["tfs"], block.tfs)
        inputs = RegionInputs(genome, shape, stored_bases(store, genome), block, factors)
        reader = RegionReader(
            inputs,
            cells,
            _vectors(files, settings, cells),
            signals,
            columns_of(settings["signals"], scales.signals),
            mask,
            _loops(files, cells, genome),
            _mean(files, settings, signals),
            np.array([cells.index(c) for c in cells_by_part(settings)["train"]], np.int64),
        )
        regions = read_regions(files["regions"], genome, shape.bin_bp, shape.seq_bp)
        unread = count_bins(np.asarray(block.flags) != 0, regions, genome, shape.bin_bp) > 0
        if unread.any():
            row = regions[unread].iloc[0]
            raise InputError(
                files["regions"],
                f"{int(unread.sum())} regions were not scanned for motifs, the first is "
                f"{row['chrom']}:{row['start']}; make the motif block for these regions",
            )
        regions = regions.assign(part=part_of(regions["chrom"].to_numpy(str), settings["fold"]))
        told = regions["part"].value_counts()
        log.info("regions: %s", ", ".join(f"{n} {part}" for part, n in told.items()))
        return cls(reader, regions, settings)

    def cells(self, part: str) -> list[str]:
        """Cells of a part of the evaluation; without validation cells, the training cells."""
        sides = cells_by_part(self.settings)
        return sides[_pair(part)[0]] or (sides["train"] if part == "validation" else [])

    def places(self, part: str) -> np.ndarray:
        """The same as places in the reader."""
        return np.array([self.reader.cells.index(cell) for cell in self.cells(part)], np.int64)

    def examples(
        self, part: str, most: int | None = None, cells_at_once: int | None = None
    ) -> RegionExamples:
        """Regions and cells of one part (see the top of this file).

        Args:
            part: train, validation, cross_cell, cross_region or cross_both.
            most: so many regions at most, evenly spaced over those of the part.
            cells_at_once: of an example; None: `cells_per_region`.

        Raises:
            InputError: the part holds no cell.
        """
        own = self.regions[self.regions["part"] == _pair(part)[1]]
        if most and most < len(own):
            own = own.iloc[np.arange(most) * len(own) // most]
        cells = self.places(part)
        if not len(cells):
            raise InputError(part, "there is no cell; name some, or leave this part out")
        size = min(cells_at_once or self.settings["cells_per_region"], len(cells))
        train = part == "train" and cells_at_once is None
        return RegionExamples(
            self.reader,
            own["chrom"].to_numpy(str),
            own["start"].to_numpy(np.int64),
            _rotated(cells, size) if train else _shared_out(cells, size),
            cells if train else None,
            bool(self.settings["reverse_complement"]),
        )


def _pair(part: str) -> tuple[str, str]:
    if part not in PARTS:
        raise InputError("part", f"{part!r} is none of {', '.join(PARTS)}; choose one")
    return PARTS[part]


def _cells(settings: Mapping[str, Any]) -> list[str]:
    """Cells of all parts; refuses one that stands on two sides or twice, and no training cell."""
    sides = cells_by_part(settings)
    found = [cell for own in sides.values() for cell in own]
    problems = [
        f"cell {cell!r} is there {found.count(cell)} times; keep it on one side"
        for cell in dict.fromkeys(found)
        if found.count(cell) > 1
    ]
    if not sides["train"]:
        problems.append("no training cell; name some")
    refuse("cells", problems)
    return found


def _folder(given: str | Path | Sequence[str | Path]) -> Path:
    """The folder that signals lie in."""
    path = Path(given) if isinstance(given, str | Path) else Path(given[0])
    return path.parent if path.suffix else path


def _vectors(files: Mapping[str, Any], settings: Mapping[str, Any], cells: list[str]) -> np.ndarray:
    """Expression of the cells, float32 [cells, K]; held-out ones must not be in the reference."""
    reference = Reference.load(files["reference"])
    there, vectors = read_vectors(files["vectors"], reference)
    place = {cell: k for k, cell in enumerate(there)}
    problems = [f"no vector for cell {cell}; add it" for cell in cells if cell not in place]
    refuse(files["vectors"], problems)
    sides = cells_by_part(settings)
    leaks = [cell for cell in reference.cells if cell in sides["validation"] + sides["test"]]
    refuse(
        files["reference"],
        [f"was made with {cell}, which is held out; make it of training cells" for cell in leaks],
    )
    return np.ascontiguousarray(vectors[[place[cell] for cell in cells]])


def _mean(
    files: Mapping[str, Any], settings: Mapping[str, Any], signals: CellSignals
) -> np.ndarray | None:
    """Mean of the training cells per bin and signal, if the model starts from it."""
    if not settings.get("from_mean"):
        return None
    return open_mean(files, cells_by_part(settings)["train"], signals.genome, signals.scales)


def _loops(files: Mapping[str, Any], cells: list[str], genome: Genome) -> dict[int, Loops] | None:
    given = files.get("loops") or []
    paths = [given] if isinstance(given, str | Path) else given
    named = {Path(path).stem: path for path in paths}
    if not named:
        return None
    return {k: Loops.load(named[c], genome) for k, c in enumerate(cells) if c in named}


def _rotated(cells: np.ndarray, size: int) -> np.ndarray:
    """Groups [n, size] that hold every cell, the last filled up with the first ones."""
    count = -(-len(cells) // size)
    return np.resize(cells, (count, size))


def _shared_out(cells: np.ndarray, size: int) -> np.ndarray:
    """Each cell once, in groups of nearly one length, -1 at the end of shorter ones."""
    groups = np.array_split(cells, -(-len(cells) // size))
    out = np.full((len(groups), max(map(len, groups))), -1, np.int64)
    for row, own in zip(out, groups, strict=True):
        row[: len(own)] = own
    return out


@dataclass(frozen=True)
class Drawn:
    """Cells (places, int64 [n, C]) and strands (bool [n]) of one epoch."""

    cells: np.ndarray
    reverse: np.ndarray


@dataclass(frozen=True)
class RegionExamples:
    """Regions of one part, read from the store when they are asked for.

    Example k of held-out parts is region k // groups with cells of group k % groups; in training
    there is one example per region.
    """

    reader: RegionReader
    region_chroms: np.ndarray  # text [regions]
    region_starts: np.ndarray  # int64 [regions]
    groups: np.ndarray  # places of cells, int64 [groups, C], -1 = nobody
    pool: np.ndarray | None  # training: cells to draw from
    reverse_complement: bool
    drawn: Drawn | None = None

    @property
    def _per_region(self) -> int:
        return len(self.groups) if self.pool is None else 1

    def __len__(self) -> int:
        return len(self.region_starts) * self._per_region

    @property
    def chroms(self) -> np.ndarray:
        return self.region_chroms.repeat(self._per_region)

    def varied(self, seed: int, epoch: int) -> RegionExamples:
        """The same regions with the cells and strands of one epoch (0-based)."""
        if self.pool is None:
            return self
        rng = np.random.default_rng([seed, epoch, _DRAWS])
        order = rng.random((len(self), len(self.pool))).argsort(axis=1)
        cells = self.pool[order[:, : self.groups.shape[1]]]
        reverse = rng.random(len(self)) < 0.5 * self.reverse_complement
        return replace(self, drawn=Drawn(cells, reverse))

    def cells(self, indices: np.ndarray) -> np.ndarray:
        """Places of the cells of some examples, int64 [n, C]; -1 = nobody."""
        indices = np.asarray(indices)
        return self.drawn.cells[indices] if self.drawn else self.groups[indices % len(self.groups)]

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """See `RegionReader.batch`."""
        indices = np.asarray(indices)
        region = indices // self._per_region
        found = self.reader.batch(
            self.region_chroms[region],
            self.region_starts[region],
            self.cells(indices),
            training=self.pool is not None,
        )
        return turned(found, self.drawn.reverse[indices]) if self.drawn else found

    def names(self, indices: np.ndarray) -> list[str]:
        indices = np.asarray(indices)
        found = []
        for region, cells in zip(indices // self._per_region, self.cells(indices), strict=True):
            named = ", ".join(self.reader.cells[k] for k in cells if k >= 0)
            found.append(f"{self.region_chroms[region]}:{self.region_starts[region]} in {named}")
        return found
