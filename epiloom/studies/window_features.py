"""Features of the windows of a downstream task: latents, PCA, raw tracks, other annotations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from epiloom.data.files import atomic
from epiloom.data.labels import Labels
from epiloom.data.tiles import MISSING, STEP, Tiles
from epiloom.data.window_means import window_means
from epiloom.learn.evaluation import load_weights
from epiloom.learn.frames import check_channels
from epiloom.learn.reconstruction import Components
from epiloom.plan.errors import InputError
from epiloom.plan.tracks import cell_of
from epiloom.studies.annotation import BIN_BP, usable_bins

COLUMNS = 64  # tracks that are turned into numbers at a time


def write_signal(tiles: Tiles, labels: Labels, out: str | Path) -> None:
    """Mean of every track over every window, arcsinh units, float32 [n, windows, channels].

    Only usable bins with a value count; NaN where there is none.
    """
    made = np.full((len(labels.names), len(labels.windows), len(tiles.channels)), np.nan, "f4")
    for chrom in np.unique(labels.chroms):
        rows, here = tiles.rows(str(chrom)), labels.chroms == chrom
        usable = tiles.flags[rows] == 0
        for first in range(0, len(tiles.channels), COLUMNS):
            stored = tiles.values[rows, first : first + COLUMNS]
            values = stored * np.float32(STEP)
            values[stored == MISSING] = np.nan
            for k, windows in enumerate(labels.windows.values()):
                found = window_means(values, windows[here], tiles.bin_bp, usable)
                made[here, k, first : first + COLUMNS] = found
    with atomic(out) as tmp:
        np.save(tmp, made)


@dataclass(frozen=True)
class Sources:
    """All that features of one run come from.

    latents: folder of the annotation. signal: float32 [n, windows, D], see `write_signal`.
    """

    latents: Path
    signal: np.ndarray
    channels: list[str]
    mean: np.ndarray
    std: np.ndarray
    components: Components
    factors: dict[str, Path]
    chromosomes: list[str]

    @classmethod
    def open(cls, spec: Any, files: Mapping[str, Any]) -> Sources:
        """Read the files of a run.

        Args:
            files: `latents`, `signal`, `channels`, `weights`, `pca`, `factors` (one per chromosome,
                named by it, or none).

        Raises:
            InputError: files that do not belong together.
        """
        net, settings = load_weights(spec, files["weights"])
        told = json.loads(Path(files["channels"]).read_text())
        check_channels(settings["channels"], told["channels"], files["channels"])
        factors = files.get("factors") or []
        factors = [factors] if isinstance(factors, str) else factors
        return cls(
            Path(files["latents"]),
            np.load(files["signal"], allow_pickle=False),
            told["channels"],
            net.mean.numpy(),
            net.std.numpy(),
            Components.load(files["pca"]),
            {chrom: Path(path) for chrom, path in zip(told["chromosomes"], factors, strict=False)},
            list(told["chromosomes"]),
        )

    def trained_on(self, fold: Mapping[str, Any]) -> dict[str, set[str]]:
        """Chromosomes that each annotation's model has seen, its epoch's choice included."""
        seen = set(self.chromosomes) - set(fold["test"])
        return {
            "latents": seen,
            "pca": set(self.chromosomes) - {*fold["test"], *fold["validation"]},
        }

    def features(self, labels: Labels) -> dict[str, Any]:
        """Feature sets by name: [n, k], or by cell where they are the cell's own.

        Raises:
            InputError: signal of other windows.
        """
        n = len(labels.names)
        if self.signal.shape != (n, len(labels.windows), len(self.channels)):
            raise InputError(
                "signal of the windows",
                f"shape {self.signal.shape} does not fit {n} rows; delete it and run again",
            )
        z = (self.signal - self.mean) / self.std
        scores = self.components.scores(z.reshape(-1, len(self.channels)))
        found: dict[str, Any] = {
            "latents": self._annotation(labels, self._latents()),
            "pca": scores.reshape(n, -1),
            "raw": self._raw(labels),
        }
        if self.factors:
            found["factors"] = self._annotation(labels, self._factors(labels))
        return found

    def _raw(self, labels: Labels) -> dict[str, np.ndarray]:
        """Tracks of the cell type itself, for cells that have any."""
        cells = np.array([cell_of(channel) for channel in self.channels])
        own = {cell: np.flatnonzero(cells == cell) for cell in labels.labels}
        n = len(labels.names)
        return {c: self.signal[:, :, k].reshape(n, -1) for c, k in own.items() if len(k)}

    def _latents(self) -> Iterable[tuple[str, np.ndarray, np.ndarray]]:
        for chrom in self.chromosomes:
            values = np.load(self.latents / f"{chrom}.npy", mmap_mode="r", allow_pickle=False)
            mask = np.load(self.latents / f"{chrom}.mask.npy", allow_pickle=False)
            yield chrom, values, usable_bins(mask)

    def _factors(self, labels: Labels) -> Iterable[tuple[str, np.ndarray, np.ndarray]]:
        """Another annotation, on the bins that count for the latents."""
        for chrom, values, usable in self._latents():
            path = self.factors[chrom]
            try:
                theirs = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as err:
                raise InputError(path, f"cannot be read ({err}); give a .npy of numbers") from err
            if theirs.ndim != 2 or not 0 <= len(theirs) - len(values) <= 1:
                raise InputError(
                    path,
                    f"shape {theirs.shape}; give one row per {BIN_BP} bp of {chrom}, {len(values)}",
                )
            yield chrom, theirs[: len(values)], usable

    def _annotation(
        self, labels: Labels, parts: Iterable[tuple[str, np.ndarray, np.ndarray]]
    ) -> np.ndarray:
        """Means over all windows of every row, float32 [n, windows x k]."""
        made: np.ndarray | None = None
        for chrom, values, usable in parts:
            here = np.flatnonzero(labels.chroms == chrom)
            size = values.shape[1]
            if made is None:
                made = np.full((len(labels.names), len(labels.windows) * size), np.nan, "f4")
            for k, windows in enumerate(labels.windows.values() if len(here) else ()):
                found = window_means(values, windows[here], BIN_BP, usable)
                made[here, k * size : (k + 1) * size] = found
        assert made is not None  # a genome has a chromosome
        return made
