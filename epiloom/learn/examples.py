"""What models learn from: examples of each kind, read from the results of the data rules.

Imports no torch, so that baselines and tables start quickly. Shapes: n genes, M marks, L bins.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from epiloom.data.folds import part_of
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

COLUMNS = ("gene_id", "chrom", "part", "predictor", "y", "y_hat")  # of a table of predictions
BIN_BP = 100  # width of a feature bin
FEATURE_BINS = 400  # bins per gene in a feature file: TSS - 20 kb .. TSS + 20 kb
# Written out again here: the module of the tracks' transforms needs the readers of bigWig and BAM,
# which are not in the environment of the training steps.
TRANSFORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": np.array,
    "arcsinh": np.arcsinh,
    "log1p": np.log1p,
}
_SHUFFLE = 1  # stream of the label permutation, beside those of the epochs' orders


class Examples(Protocol):
    """A fixed list of examples that can be fetched in any order."""

    chroms: np.ndarray  # [n] text

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Named arrays, first axis as `indices`; a pure function of `indices`."""
        ...

    def names(self, indices: np.ndarray) -> list[str]:
        """What to call these examples in a message."""
        ...


class Genes(Examples, Protocol):
    """Examples with one number each."""

    @property
    def truth(self) -> np.ndarray:
        """What predictions are compared with, [n]."""
        ...


@dataclass(frozen=True)
class PromoterTable:
    """All usable genes of one run: raw marks over 40 kb, expression and part of each gene."""

    gene_ids: np.ndarray  # [n] text
    chroms: np.ndarray  # [n] text
    part: np.ndarray  # [n] train, validation or test
    features: list[np.ndarray]  # per mark float32 [n, 400], raw, NaN = missing
    expression: np.ndarray  # float32 [n], log2(RPKM + 1)
    window: slice  # the model's bins among the 400
    transform: str
    max_missing: float

    @classmethod
    def read(cls, settings: Mapping[str, Any], files: Mapping[str, Any]) -> PromoterTable:
        """Read a run's genes.

        Args:
            settings: the run's settings.
            files: `genes` and `expression` (tables), `features` (one .npy per mark, same order as
                `settings["marks"]`).

        Genes whose window has a larger share of missing bins than `max_missing` (in any mark), or
        no expression value, are left out; their number is logged. With `shuffled` the expression
        is permuted over all genes before anything else.

        Raises:
            InputError: files that do not fit together; all problems at once.
        """
        genes = pd.read_csv(files["genes"], sep="\t", dtype={"gene_id": str, "chrom": str})
        rpkm = _expression(files["expression"], settings["cell"], genes["gene_id"])
        features = _features(files["features"], settings["marks"], len(genes))
        window, transform = _window(settings["window_bp"]), settings["transform"]
        if transform not in TRANSFORMS:
            raise InputError("transform", f"{transform!r} is unknown; use {', '.join(TRANSFORMS)}")
        if settings["shuffled"]:
            rng = np.random.default_rng([settings["seed"], 0, _SHUFFLE])
            rpkm = rpkm[rng.permutation(len(rpkm))]
        keep = _usable(features, window, settings["max_missing"], rpkm)
        chroms = genes["chrom"].to_numpy(dtype=object)[keep]
        return cls(
            gene_ids=genes["gene_id"].to_numpy(dtype=object)[keep],
            chroms=chroms,
            part=np.asarray(part_of(chroms, settings["fold"])).astype(object),
            features=[np.asarray(f[keep], np.float32) for f in features],
            expression=np.log2(rpkm[keep] + 1).astype(np.float32),
            window=window,
            transform=transform,
            max_missing=settings["max_missing"],
        )

    def rows(self, part: str) -> np.ndarray:
        """Row numbers of the genes in `part`."""
        return np.flatnonzero(self.part == part)

    def some_rows(self, part: str) -> np.ndarray:
        """As `rows`.

        Raises:
            InputError: the part holds no gene.
        """
        rows = self.rows(part)
        if len(rows) == 0:
            raise InputError(f"fold, {part}", f"no gene is left for {part}; check the chromosomes")
        return rows

    @property
    def labels(self) -> np.ndarray:
        """1 where a gene is at or above the median of the training genes, int64 [n]."""
        return (self.expression >= np.median(self.expression[self.rows("train")])).astype(np.int64)

    def marks(self, rows: np.ndarray, window: slice | None = None) -> np.ndarray:
        """Model input float32 [n, M, L]: transformed; missing bins, where allowed, count as 0."""
        window = self.window if window is None else window
        stacked = np.stack([f[rows, window] for f in self.features], axis=1)
        # only what was missing becomes 0: a number that the transform cannot take stays visible
        filled = np.where(np.isnan(stacked), np.float32(0), TRANSFORMS[self.transform](stacked))
        return filled.astype(np.float32)

    def examples(self, part: str) -> PromoterBins:
        """The genes of one part, ready to be fed.

        Raises:
            InputError: the part holds no gene.
        """
        rows = self.some_rows(part)
        return PromoterBins(
            self.marks(rows), self.expression[rows], list(self.gene_ids[rows]), self.chroms[rows]
        )


@dataclass(frozen=True)
class PromoterBins:
    """Examples of the dataset kind `promoter_bins`; all in memory (17 MB per mark at 18,955 genes
    and 40 kb, a few MB for a window of 6 kb)."""

    marks: np.ndarray  # float32 [n, M, L], transformed
    expression: np.ndarray  # float32 [n]
    gene_ids: Sequence[str]
    chroms: np.ndarray

    @property
    def truth(self) -> np.ndarray:
        return self.expression

    def __len__(self) -> int:
        return len(self.expression)

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        return {"marks": self.marks[indices], "expression": self.expression[indices]}

    def names(self, indices: np.ndarray) -> list[str]:
        return [self.gene_ids[i] for i in indices]


def _window(window_bp: int) -> slice:
    bins, rest = divmod(window_bp, 2 * BIN_BP)
    if rest or not 0 < 2 * bins <= FEATURE_BINS:
        raise InputError(
            "window_bp",
            f"{window_bp} does not fit; use a multiple of {2 * BIN_BP} up to"
            f" {FEATURE_BINS * BIN_BP}",
        )
    return slice(FEATURE_BINS // 2 - bins, FEATURE_BINS // 2 + bins)


def _expression(path: str | Path, cell: str, gene_ids: pd.Series) -> np.ndarray:
    """RPKM of one cell, float64 [genes]."""
    table = pd.read_csv(path, sep="\t", dtype={"gene_id": str})
    if cell not in table:
        cells = ", ".join(c for c in table.columns if c != "gene_id")
        raise InputError(path, f"cell {cell} has no column; there are {cells}")
    if not np.array_equal(table["gene_id"].to_numpy(), gene_ids.to_numpy()):
        raise InputError(path, "gene_id differs from the gene table; make both again")
    rpkm = table[cell].to_numpy(np.float64)
    if np.nanmin(rpkm, initial=0.0) < 0:
        raise InputError(path, f"cell {cell}: negative RPKM {np.nanmin(rpkm)}; not an RPKM table")
    return rpkm


def _features(paths: Sequence[str | Path], marks: Sequence[str], genes: int) -> list[np.ndarray]:
    paths = [paths] if isinstance(paths, str | Path) else paths
    problems, features = [], []
    if len(paths) != len(marks):
        problems.append(f"{len(paths)} files for the {len(marks)} marks {', '.join(marks)}")
    for path in paths:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.shape != (genes, FEATURE_BINS):
            problems.append(
                f"{path}: shape {array.shape} instead of ({genes}, {FEATURE_BINS});"
                " it belongs to another gene table, make it again"
            )
        features.append(array)
    if problems:
        raise InputError("features", problems)
    return features


def _usable(
    features: Sequence[np.ndarray], window: slice, max_missing: float, rpkm: np.ndarray
) -> np.ndarray:
    """Row numbers of genes with enough signal and an expression value."""
    missing = np.max([np.isnan(f[:, window]).mean(axis=1) for f in features], axis=0)
    signal, known = missing <= max_missing, np.isfinite(rpkm)
    log.info(
        "%d genes: %d left out for missing bins above %.3g, %d without expression; %d remain",
        *(len(rpkm), np.sum(~signal), max_missing, np.sum(signal & ~known), np.sum(signal & known)),
    )
    return np.flatnonzero(signal & known)


def coarse(bins: np.ndarray, size: int) -> np.ndarray:
    """Means over `size` bp of 100-bp means [n, L, ...]; missing bins are left out (NaN if all)."""
    width = size // BIN_BP
    if width == 1:
        return bins
    grouped = bins.reshape(len(bins), -1, width, *bins.shape[2:])
    known = ~np.isnan(grouped)
    if known.all():
        return grouped.mean(axis=2, dtype=np.float64).astype(np.float32)
    total, count = np.where(known, grouped, 0).sum(axis=2, dtype=np.float64), known.sum(axis=2)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0).astype("f4")


def frame(examples: Genes, part: str, predictor: str, y_hat: np.ndarray) -> pd.DataFrame:
    """Rows of one part and predictor (columns `COLUMNS`), in the order of the examples."""
    names = examples.names(np.arange(len(examples)))
    y_hat = np.asarray(y_hat, np.float32)
    values = (names, examples.chroms, part, predictor, examples.truth, y_hat)
    return pd.DataFrame(dict(zip(COLUMNS, values, strict=True)))
