"""How much of each track a short vector per bin keeps: the model beside PCA of equal size.

Shapes: n bins, D channels, H latent.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from epiloom.data.files import atomic
from epiloom.data.folds import part_of
from epiloom.data.tiles import Tiles
from epiloom.learn.frames import Frames, Scale
from epiloom.learn.latents import Encoder, reconstructed
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

COLUMNS = ("model", "fold", "part", "track", "predictor", "n", "r2", "r", "mse")
PARTS = ("validation", "test")
PCA = "pca"
MEAN = "mean"  # row over all tracks
SAMPLED = 20_000  # frames that principal components are taken from, at most
_SAMPLE = 5  # random stream beside those of the lanes


@dataclass(frozen=True)
class Components:
    """Principal components of z-scores: axes float64 [H, D], mean [D], explained shares [H]."""

    axes: np.ndarray
    mean: np.ndarray
    explained: np.ndarray

    @classmethod
    def fit(cls, tiles: Tiles, scale: Scale, frames: Frames, size: int, seed: int) -> Components:
        """Components of the usable bins of some frames, `SAMPLED` of them where there are more.

        Missing values stand at their mean, 0.
        """
        rng = np.random.default_rng([seed, _SAMPLE])
        n, channels = len(frames.first), len(tiles.channels)
        picked = np.sort(rng.choice(n, min(n, SAMPLED), replace=False))
        count, total, square = 0, np.zeros(channels), np.zeros((channels, channels))
        for cut in np.array_split(picked, max(1, len(picked) // 64)):
            rows = (frames.first[cut][:, None] + np.arange(frames.bins)).ravel()
            usable = rows[tiles.flags[rows] == 0]
            z = scale.standardized(tiles.values[usable])[0]
            count, total = count + len(z), total + z.sum(axis=0, dtype=np.float64)
            square += z.T @ z
        mean = total / count
        values, vectors = np.linalg.eigh(square / count - np.outer(mean, mean))
        order = np.argsort(values)[::-1][:size]
        axes = vectors[:, order].T
        # the sign of an axis is arbitrary; its largest weight is made positive
        largest = np.abs(axes).argmax(axis=1)
        axes = axes * np.sign(axes[np.arange(len(axes)), largest])[:, None]
        return cls(axes, mean, values[order] / values.sum())

    def scores(self, z: np.ndarray) -> np.ndarray:
        """Coordinates float32 [n, H]; missing values (NaN) count as the mean."""
        return (np.where(np.isnan(z), 0, z - self.mean) @ self.axes.T).astype(np.float32)

    def restored(self, z: np.ndarray) -> np.ndarray:
        """z-scores as far as the components keep them, [n, D]."""
        return ((z - self.mean) @ self.axes.T) @ self.axes + self.mean

    def save(self, path: str | Path) -> None:
        """Write an .npz of plain arrays."""
        with atomic(path) as tmp, tmp.open("wb") as file:
            np.savez(file, axes=self.axes, mean=self.mean, explained=self.explained)

    @classmethod
    def load(cls, path: str | Path) -> Components:
        """Read what `save` wrote. Raises InputError if it cannot be read."""
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls(file["axes"], file["mean"], file["explained"])
        except (OSError, KeyError, ValueError) as err:
            raise InputError(path, f"cannot be read ({err}); delete it and run again") from err


class Errors:
    """Sums per channel from which R2, r and the mean square error follow; all [D]."""

    def __init__(self, channels: int):
        self.sums = np.zeros((6, channels))  # n, y, p, yy, pp, yp

    def add(self, y: np.ndarray, p: np.ndarray, counts: np.ndarray) -> None:
        """Add bins [n, D]; only values that count (bool [n, D])."""
        y, p = np.where(counts, y, 0).astype(np.float64), np.where(counts, p, 0).astype(np.float64)
        product = (np.einsum("nd,nd->d", a, b) for a, b in ((y, y), (p, p), (y, p)))
        self.sums += np.stack([counts.sum(axis=0), y.sum(axis=0), p.sum(axis=0), *product])

    def table(self) -> pd.DataFrame:
        """n, r2, r, mse per channel; NaN where a measure does not exist.

        R2 = 1 - sum of squared errors / sum of squares about the track's own mean here.
        """
        n, y, p, yy, pp, yp = self.sums
        with np.errstate(divide="ignore", invalid="ignore"):
            around_y, around_p, co = yy - y * y / n, pp - p * p / n, yp - y * p / n
            errors = yy - 2 * yp + pp
            varies = around_y > 1e-9 * yy
            r2 = np.where(varies, 1 - errors / around_y, np.nan)
            r = np.where(varies & (around_p > 1e-9 * pp), co / np.sqrt(around_y * around_p), np.nan)
            return pd.DataFrame({"n": n.astype(np.int64), "r2": r2, "r": r, "mse": errors / n})


def fit_components(encoder: Encoder) -> Components:
    """PCA of the same size, of the same training chromosomes."""
    settings, tiles = encoder.settings, encoder.tiles
    names = np.array(tiles.genome.chromosomes)
    train = names[part_of(names, settings["fold"]) == "train"].tolist()
    frames = Frames.of(tiles, train, settings["frame"])
    size = min(encoder.net.latent, len(tiles.channels))
    return Components.fit(tiles, encoder.scale, frames, size, settings["seed"])


def evaluate(encoder: Encoder, model: str, components: Components) -> pd.DataFrame:
    """R2 of every track in the held-out chromosomes, by model and by PCA (columns `COLUMNS`).

    The row `mean` is over all tracks: R2 of all values together (1 - all squared errors / all
    squares about each track's mean), in z-scores, so that tracks count alike.
    """
    names = np.array(encoder.tiles.genome.chromosomes)
    parts = part_of(names, encoder.settings["fold"])
    rows = []
    for part in PARTS:
        found = {model: Errors(len(encoder.tiles.channels)), PCA: None}
        found[PCA] = Errors(len(encoder.tiles.channels))
        for z, made, counts in reconstructed(encoder, names[parts == part].tolist()):
            found[model].add(z, made, counts)
            found[PCA].add(z, components.restored(z), counts)
        for predictor, errors in found.items():
            rows.append(_rows(encoder, model, part, predictor, errors))
    return pd.concat(rows, ignore_index=True)


def _rows(encoder: Encoder, model: str, part: str, predictor: str, errors: Errors) -> pd.DataFrame:
    table = errors.table()
    told = {"model": model, "fold": encoder.settings["fold"]["name"], "part": part}
    labels = told | {"track": encoder.tiles.channels, "predictor": predictor}
    n, y, _, yy, _, _ = errors.sums
    with np.errstate(divide="ignore", invalid="ignore"):
        around = np.nansum(yy - y * y / n)
    wrong = float(np.nansum(table["mse"] * table["n"]))
    total: Mapping[str, Any] = told | {
        "track": MEAN,
        "predictor": predictor,
        "n": int(n.sum()),
        "r2": 1 - wrong / around if around > 0 else np.nan,
        "r": table["r"].mean(),
        "mse": wrong / max(1.0, n.sum()),
    }
    each = table.assign(**labels)
    return pd.concat([each, pd.DataFrame([total])], ignore_index=True)[list(COLUMNS)]
