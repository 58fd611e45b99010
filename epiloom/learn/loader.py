"""Examples and their order: what the training loop is fed with.

Order, batches and augmentation are pure functions of (seed, epoch, index): neither the prefetch
thread nor a restart nor the number of processes can change which examples a batch holds.

Shapes: n genes, M marks, L bins.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch

from epiloom.data.folds import part_of
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

BIN_BP = 100  # width of a feature bin
FEATURE_BINS = 400  # bins per gene in a feature file: TSS - 20 kb .. TSS + 20 kb
# Written out again here: the module of the tracks' transforms needs the readers of bigWig and BAM,
# which are not in the environment of the training steps.
TRANSFORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": np.array,
    "arcsinh": np.arcsinh,
    "log1p": np.log1p,
}
PARTS = ("train", "validation", "test")
_SHUFFLE = 1  # stream of the label permutation, beside those of the epochs' orders


class Examples(Protocol):
    """A fixed list of examples that can be fetched in any order."""

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Named arrays, first axis as `indices`; a pure function of `indices`."""
        ...

    def names(self, indices: np.ndarray) -> list[str]:
        """What to call these examples in a message."""
        ...


def order(examples: int, seed: int, epoch: int) -> np.ndarray:
    """The permutation in which `epoch` (0-based) visits the examples."""
    return np.random.default_rng([seed, epoch]).permutation(examples)


@dataclass(frozen=True)
class Piece:
    """One forward pass of this process: which examples, and their weight in the update."""

    indices: np.ndarray
    weight: float  # share of the update's examples; 0 for a stand-in


def updates(
    visits: np.ndarray, batch: int, accumulate: int, rank: int = 0, world: int = 1
) -> list[list[Piece]]:
    """Cut an order into updates of `batch * accumulate` examples, each into this rank's pieces.

    Every process has the same number of pieces. The last update may be smaller: its examples are
    weighted by their true number, so that the gradient is that of one process. A process for which
    nothing is left computes one example with weight 0.
    """
    result = []
    for first in range(0, len(visits), batch * accumulate):
        group = visits[first : first + batch * accumulate]
        pieces = []
        for start in range(0, len(group), batch):
            share = np.array_split(group[start : start + batch], world)[rank]
            pieces.append(Piece(share if len(share) else group[:1], len(share) / len(group)))
        result.append(pieces)
    return result


def feed(
    examples: Examples, pieces: Iterable[Piece], device: torch.device, depth: int = 2
) -> Iterator[tuple[Piece, dict[str, torch.Tensor]]]:
    """The given pieces in order, each with its batch as tensors on `device`.

    With `depth` > 0 a thread fetches up to `depth` batches ahead; the batches are the same. On a
    GPU they are copied through pinned memory while the device is busy.
    """

    def fetch(piece: Piece) -> tuple[Piece, dict[str, torch.Tensor]]:
        arrays = examples.batch(piece.indices)
        if device.type == "cuda":
            return piece, {k: torch.from_numpy(v).pin_memory() for k, v in arrays.items()}
        # torch's own memory is aligned; sums over foreign memory may be ordered otherwise
        return piece, {k: torch.from_numpy(v).clone() for k, v in arrays.items()}

    for piece, ready in _ahead(fetch, pieces, depth) if depth > 0 else map(fetch, pieces):
        yield piece, {k: v.to(device, non_blocking=True) for k, v in ready.items()}


def _ahead(fetch: Callable, items: Iterable, depth: int) -> Iterator:
    """`map(fetch, items)` by one thread, `depth` items ahead; its errors are raised here."""
    waiting: queue.Queue = queue.Queue(maxsize=depth)
    leaving = threading.Event()

    def put(entry: tuple) -> bool:
        while not leaving.is_set():
            try:
                waiting.put(entry, timeout=0.1)
                return True
            except queue.Full:  # the consumer is busy, or gone without saying so
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((fetch(item), None)):
                    return
            put((None, StopIteration()))
        except BaseException as err:  # handed over, not swallowed
            put((None, err))

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            value, error = waiting.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield value
    finally:
        leaving.set()
        thread.join()


def digest(examples: Examples) -> str:
    """Fingerprint of the examples: all names, and the numbers of up to 256 of them."""
    everything = np.arange(len(examples))
    total = hashlib.sha256("\n".join(examples.names(everything)).encode())
    for key, values in sorted(examples.batch(everything[:: max(1, len(examples) // 256)]).items()):
        total.update(key.encode())
        total.update(np.ascontiguousarray(values).tobytes())
    return total.hexdigest()


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
        rows = self.rows(part)
        if len(rows) == 0:
            raise InputError(f"fold, {part}", f"no gene is left for {part}; check the chromosomes")
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

    def __len__(self) -> int:
        return len(self.expression)

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        return {"marks": self.marks[indices], "expression": self.expression[indices]}

    def names(self, indices: np.ndarray) -> list[str]:
        return [self.gene_ids[i] for i in indices]


def open_examples(
    kind: str, settings: Mapping[str, Any], files: Mapping[str, Any], part: str
) -> Examples:
    """The examples of one part of a run.

    Args:
        kind: dataset kind of the model's card.
        files: the run's input files, see the kind's reader.
        part: train, validation or test.

    Raises:
        InputError: unknown kind or part, or files that do not fit together.
    """
    if kind not in KINDS or part not in PARTS:
        raise InputError("dataset", f"{kind!r}, part {part!r}: no such kind or part of examples")
    return KINDS[kind](settings, files).examples(part)


KINDS = {"promoter_bins": PromoterTable.read}


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
