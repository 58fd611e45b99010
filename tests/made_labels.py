"""Labelled windows for tests of downstream tasks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from epiloom.studies.downstream import Options

CHROMS = ["chr1", "chr2", "chr3", "chr4"]
FOLDS = [
    {"name": "a", "validation": ["chr3"], "test": ["chr1"]},
    {"name": "b", "validation": ["chr4"], "test": ["chr2"]},
]
QUICK = Options(parts=4, trees=20, depth=2, patience=3, draws=50)


@dataclass
class MadeLabels:
    """The shape of `epiloom.data.labels.Labels`."""

    task: str
    names: np.ndarray
    chroms: np.ndarray
    windows: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]


def in_a_row(labels: dict[str, np.ndarray], chroms: list[str], bp: int = 40_000) -> MadeLabels:
    """Windows of `bp` side by side, as many on each chromosome, in the order of the labels."""
    n = len(next(iter(labels.values())))
    each = -(-n // len(chroms))
    starts = (np.arange(n) % each) * bp
    return MadeLabels(
        task="made",
        names=np.array([f"window{i:05d}" for i in range(n)]),
        chroms=np.repeat(chroms, each)[:n],
        windows={"window": np.stack([starts, starts + bp], axis=1)},
        labels={cell: np.asarray(values, np.float32) for cell, values in labels.items()},
    )


def permuted(labels: MadeLabels, order: np.ndarray) -> MadeLabels:
    """The same windows in another order."""
    return MadeLabels(
        labels.task,
        labels.names[order],
        labels.chroms[order],
        {name: values[order] for name, values in labels.windows.items()},
        {cell: values[order] for cell, values in labels.labels.items()},
    )


def made_task(n: int = 400, seed: int = 0, cells: int = 2):
    """Windows on four chromosomes; latents tell the label well, pca less, noise nothing."""
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.4
    labels = {f"E{i:03d}": np.where(rng.random(n) < 0.1, ~truth, truth) for i in range(cells)}
    latents = rng.normal(size=(n, 4)) + 2.0 * truth[:, None]
    pca = rng.normal(size=(n, 4)) + 0.7 * truth[:, None]
    features = {"latents": latents, "pca": pca, "noise": rng.normal(size=(n, 4))}
    features = {name: values.astype(np.float32) for name, values in features.items()}
    return in_a_row(labels, CHROMS), features
