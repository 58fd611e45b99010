"""Examples of the distal model: marks over the promoter's 40 kb and over its Hi-C partners.

Shapes: n genes, M marks, S = 8 slots for partners, R regions, L bins of a resolution (20, 80 or
400 bins of 2,000, 500 or 100 bp). Specified in Lee, Yang, Kim 2022 (s41467-022-34152-5).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from epiloom.data.ragged import Ragged
from epiloom.learn.examples import BIN_BP, TRANSFORMS, PromoterTable, coarse
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

SIZES = (2000, 500, 100)  # bp per bin of the three resolutions
SPAN_BP = 40_000  # of the promoter's window, and of the longest partner
SLOTS = 8
OBJECTIVES = ("regression", "classification")


@dataclass(frozen=True)
class PartnerTable:
    """All usable genes of one run with their partners; marks raw, at 100 bp."""

    promoters: PromoterTable
    regions: Ragged  # 100-bp means of every partner region, [bins, M] raw
    slots: np.ndarray  # int64 [n, S], number of the region, -1 = empty
    scores: np.ndarray  # float32 [n, S], 0 = empty
    objective: str

    @classmethod
    def read(cls, settings: Mapping[str, Any], files: Mapping[str, Any]) -> PartnerTable:
        """Read a run's genes and partners.

        Args:
            settings: the run's settings.
            files: as for `PromoterTable.read`, and `partners`, `regions` (tables), `partner_bins`
                (one .npy per mark); without `partners` every gene stands alone.

        Raises:
            InputError: files that do not fit together.
        """
        objective = settings.get("objective", OBJECTIVES[0])
        if objective not in OBJECTIVES:
            raise InputError(
                "objective", f"{objective!r} is unknown; use {' or '.join(OBJECTIVES)}"
            )
        promoters = PromoterTable.read(settings, files)
        marks = len(settings["marks"])
        if not files.get("partners"):
            n = len(promoters.gene_ids)
            nothing = Ragged(np.zeros(0, np.int64), np.zeros((0, marks), np.float32))
            empty = np.full((n, SLOTS), -1), np.zeros((n, SLOTS), np.float32)
            return cls(promoters, nothing, *empty, objective)
        regions = pd.read_csv(files["regions"], sep="\t", dtype={"chrom": str})
        lengths = (regions["end"] - regions["start"]).to_numpy(np.int64)
        bins = _partner_bins(files["partner_bins"], lengths, settings["marks"])
        slots, scores = _slots(files["partners"], regions, promoters.gene_ids)
        log.info(
            "%d of %d genes have partners, %.2f on average; %d regions",
            *(np.sum(slots[:, 0] >= 0), len(slots), np.mean(np.sum(slots >= 0, 1)), len(regions)),
        )
        return cls(promoters, Ragged(lengths, bins), slots, scores, objective)

    def examples(self, part: str) -> PartnerExamples:
        """The genes of one part, ready to be fed.

        Raises:
            InputError: the part holds no gene.
        """
        return self.genes(self.promoters.some_rows(part))

    def genes(self, rows: np.ndarray) -> PartnerExamples:
        """The genes of the given rows, ready to be fed; regions of other genes are left out."""
        own = self.promoters
        used, numbers = np.unique(self.slots[rows], return_inverse=True)
        slots = numbers.reshape(-1, SLOTS) - int(used[0] == -1 if len(used) else 0)
        regions = self.regions.take(used[used >= 0])
        transform = TRANSFORMS[own.transform]
        raw = np.stack([f[rows] for f in own.features], axis=-1)  # [n, 400, M]
        return PartnerExamples(
            promoters={size: _filled(coarse(raw, size), transform) for size in SIZES},
            partners={size: _transformed(regions.coarsen(size), transform) for size in SIZES},
            slots=slots,
            scores=self.scores[rows],
            expression=own.expression[rows],
            labels=own.labels[rows] if self.objective == "classification" else None,
            gene_ids=list(own.gene_ids[rows]),
            chroms=own.chroms[rows],
        )


@dataclass(frozen=True)
class PartnerExamples:
    """Examples of the dataset kind `promoter_and_partners`, all in memory.

    About 34 KB per gene for seven marks (the promoter 14, partners 20 as far as they are shared).
    """

    promoters: dict[int, np.ndarray]  # bin size -> float32 [n, L, M], transformed
    partners: dict[int, Ragged]  # bin size -> transformed
    slots: np.ndarray  # int64 [n, S]
    scores: np.ndarray  # float32 [n, S]
    expression: np.ndarray  # float32 [n]
    labels: np.ndarray | None  # int64 [n], for classification
    gene_ids: Sequence[str]
    chroms: np.ndarray

    @property
    def truth(self) -> np.ndarray:
        return self.expression if self.labels is None else self.labels

    def __len__(self) -> int:
        return len(self.expression)

    def names(self, indices: np.ndarray) -> list[str]:
        return [self.gene_ids[i] for i in indices]

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Promoters, partners centred in 40 kb with zeros around, lengths in bp (0 = empty)."""
        slots = self.slots[indices]
        found = {f"promoter_{size}": values[indices] for size, values in self.promoters.items()}
        for size, regions in self.partners.items():
            found[f"partners_{size}"] = regions.centred(slots, SPAN_BP // size)
        lengths = np.zeros(slots.shape, np.int64)
        lengths[slots >= 0] = self.partners[BIN_BP].lengths[slots[slots >= 0]]
        found |= {"lengths": lengths, "scores": self.scores[indices]}
        found["expression"] = self.expression[indices]
        if self.labels is not None:
            found["label"] = self.labels[indices]
        return found


def _filled(raw: np.ndarray, transform: Any) -> np.ndarray:
    """Transformed; only what was missing becomes 0."""
    return np.where(np.isnan(raw), np.float32(0), transform(raw)).astype(np.float32)


def _transformed(regions: Ragged, transform: Any) -> Ragged:
    return Ragged(regions.lengths, _filled(regions.values, transform), regions.bin_bp)


def _partner_bins(
    paths: Sequence[str | Path], lengths: np.ndarray, marks: Sequence[str]
) -> np.ndarray:
    """float32 [bins, M], raw."""
    paths = [paths] if isinstance(paths, str | Path) else paths
    bins = int(np.sum(-(-lengths // BIN_BP)))
    problems, columns = [], []
    if len(paths) != len(marks):
        problems.append(f"{len(paths)} files for the {len(marks)} marks {', '.join(marks)}")
    for path in paths:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.shape != (bins,):
            problems.append(
                f"{path}: shape {array.shape} instead of ({bins},); it belongs to another table of"
                " regions, make it again"
            )
        columns.append(array)
    if problems:
        raise InputError("partner features", problems)
    return np.stack(columns, axis=-1).astype(np.float32)


def _slots(
    path: str | Path, regions: pd.DataFrame, gene_ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Region numbers and scores of every gene's partners, [n, S], by rank."""
    table = pd.read_csv(path, sep="\t", dtype={"gene_id": str, "chrom": str})
    slots, scores = np.full((len(gene_ids), SLOTS), -1), np.zeros((len(gene_ids), SLOTS), "f4")
    place = ["chrom", "start", "end"]
    number = regions[place].assign(region=np.arange(len(regions)))
    table = table.merge(number, on=place, how="left")
    row = pd.Series(np.arange(len(gene_ids)), index=gene_ids).reindex(table["gene_id"]).to_numpy()
    if table["region"].isna().any() or not table["rank"].between(1, SLOTS).all():
        raise InputError(path, "names regions or ranks that do not exist; make it again")
    here = ~np.isnan(row)
    at = row[here].astype(np.int64), table["rank"].to_numpy(np.int64)[here] - 1
    slots[at] = table["region"].to_numpy(np.int64)[here]
    scores[at] = table["score"].to_numpy(np.float32)[here]
    return slots, scores
