"""Small runs for tests: settings, made-up genes, and comparison of what two runs left behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

import models
from epiloom.learn import training
from epiloom.learn.examples import PromoterBins

torch.set_num_threads(1)

TIMING = ("samples_per_s", "seconds", "peak_memory_mb")
PAPER = {"filters": [175, 350, 700], "dense": [625, 125]}


def settings(**changes) -> dict:
    """A complete set of settings with a tiny network; `changes` replace keys."""
    base = {
        "version": 1,
        "cell": "E116",
        "marks": ["H3K4me3"],
        "signal": "reads",
        "fold": {"name": "fold1", "validation": ["chr1"], "test": ["chr2"]},
        "shuffled": False,
        "transform": "log1p",
        "max_missing": 0.0,
        "window_bp": 6000,
        "filters": [6, 8, 10],
        "dense": [12, 6],
        "dropout": [0.1, 0.4],
        "seed": 123,
        "epochs": 3,
        "batch": 8,
        "accumulate": 1,
        "clip_norm": 0.0,
        "precision": "float32",
        "optimizer": {
            "name": "adam",
            "learning_rate": 0.001,
            "epsilon": 1e-7,
            "weight_decay": 0.0,
        },
        "schedule": {
            "name": "plateau_keras",
            "factor": 0.2,
            "patience": 3,
            "min_delta": 1e-4,
            "floor": 0.0,
        },
        "stop_patience": 12,
        "keep": "best",
        "data_version": 1,
    }
    return {**base, **changes}


def genes(number: int, seed: int, marks: int = 1) -> PromoterBins:
    """Genes whose expression is a curved function of the ten bins downstream of the TSS."""
    rng = np.random.default_rng(seed)
    level = rng.uniform(0, 3, size=(number, marks, 1))
    signal = (level * rng.uniform(0.2, 1, size=(number, marks, 60))).astype(np.float32)
    expression = (4 * np.tanh(signal[:, 0, 30:40].mean(axis=1))).astype(np.float32)
    names = [f"gene{k}" for k in range(number)]
    return PromoterBins(signal, expression, names, np.full(number, "chr1", dtype=object))


class Watched:
    """Examples that call `act(number of the batch)` before each batch that training asks for."""

    def __init__(self, examples: PromoterBins, act):
        self.examples, self.act, self.asked = examples, act, -1  # the first one is for the digest

    def __len__(self) -> int:
        return len(self.examples)

    def batch(self, indices):
        number, self.asked = self.asked, self.asked + 1
        if number >= 0:
            self.act(number)
        return self.examples.batch(indices)

    def names(self, indices):
        return self.examples.names(indices)


def fit(folder: Path, run: dict, train=None, valid=None, spec=None, **options) -> list[dict]:
    """Train in `folder`; the outputs are `weights.pt` and `history.tsv` there."""
    return training.fit(
        spec or models.load("promoter_cnn"),
        run,
        genes(21, 0) if train is None else train,
        genes(11, 1) if valid is None else valid,
        folder / "run",
        folder / "weights.pt",
        folder / "history.tsv",
        **{"device": "cpu", "progress": False, **options},
    )


def history(folder: Path) -> pd.DataFrame:
    """The history file as text, without the columns that depend on the clock."""
    table = pd.read_csv(folder / "history.tsv", sep="\t", dtype=str)
    return table.drop(columns=list(TIMING))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "weights.pt", weights_only=True)["state_dict"]


def same(one: Path, other: Path) -> bool:
    """Histories equal to the last digit, and weights to the last bit."""
    first, second = weights(one), weights(other)
    return (
        history(one).equals(history(other))
        and first.keys() == second.keys()
        and all(torch.equal(first[key], second[key]) for key in first)
    )
