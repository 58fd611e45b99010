"""A made-up genome with planted motifs, and cells whose signals follow from their factors alone.

A cell has half of the factors. A signal of a bin is a weighted sum over the factors that the cell
has, of the motif scores there: cells that were not seen can be predicted by their factors.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import models
from epiloom.data.genome import Genome
from epiloom.data.motif_blocks import write_motif_block
from epiloom.data.motif_sets import MotifSet, Rule
from epiloom.data.region_choice import grid, write_regions
from epiloom.data.signal_targets import Scales
from epiloom.data.tf_expression import Reference, write_vectors
from epiloom.learn import one_run
from epiloom.plan.runs import DATA_VERSION

torch.set_num_threads(1)

BIN, TILE = 128, 2048
BINS = TILE // BIN
FACTORS, WIDTH = 8, 10
SIGNALS = ("DNase", "H3K27ac")
# the last tile of chr4 is not whole
GENOME = Genome("toy", ("chr1", "chr2", "chr3", "chr4"), (TILE * 40, TILE * 8, TILE * 6, 5000))
FOLD = {"name": "f", "validation": ["chr3"], "test": ["chr2"]}
TRAIN, VALIDATION, TEST = (
    [f"{part}{k}" for k in range(n)] for part, n in (("train", 20), ("valid", 4), ("test", 6))
)
CELLS = [*TRAIN, *VALIDATION, *TEST]
SPEC = models.load("epigept")


def made_motifs(seed: int = 0) -> MotifSet:
    """One sharp motif per factor."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 4, (FACTORS, WIDTH))
    odds = tuple(np.log(np.where(np.eye(4)[word] > 0, 0.94, 0.02) / 0.25) for word in words)
    best = np.array([m.max(axis=1).sum() for m in odds])
    names = tuple(f"T{k}" for k in range(FACTORS))
    pairs = np.stack([np.arange(FACTORS)] * 2, axis=1)
    return MotifSet(names, odds, 0.6 * best, names, pairs, Rule("fraction", 0.6))


def made_bases(motifs: MotifSet, seed: int = 1) -> np.ndarray:
    """Random bases with a planted site in about every second bin, on either strand."""
    rng = np.random.default_rng(seed)
    bases = rng.integers(0, 4, GENOME.total(1)).astype(np.uint8)
    for first in range(0, len(bases) - BIN, BIN):
        if rng.random() < 0.5:
            word = motifs.log_odds[rng.integers(FACTORS)].argmax(axis=1).astype(np.uint8)
            at = first + int(rng.integers(BIN - WIDTH))
            bases[at : at + WIDTH] = word if rng.random() < 0.5 else 3 - word[::-1]
    bases[3000:3040] = 4
    return bases


def made_expression(seed: int = 2) -> pd.DataFrame:
    """TPM [factors x cells]: half of a cell's factors are there."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(index=[f"T{k}" for k in range(FACTORS)], columns=CELLS, dtype=float)
    for cell in CELLS:
        on = rng.permutation(FACTORS) < FACTORS // 2
        table[cell] = np.where(on, rng.uniform(30, 60, FACTORS), rng.uniform(0, 1, FACTORS))
    return table


def made_signals(codes: np.ndarray, step: float, table: pd.DataFrame) -> dict[str, np.ndarray]:
    """log1p signals float16 [bins, signals] of every cell."""
    rng = np.random.default_rng(3)
    # both signals have factors that raise and factors that lower them
    weight = rng.permuted(np.tile([[0.16] * 5 + [-0.12] * 3], (len(SIGNALS), 1)), axis=1).T
    found = {}
    for cell in table:
        there = (table[cell] > 10).to_numpy()
        activity = (codes * step * there) @ weight
        found[cell] = np.log1p(np.exp(0.5 + activity)).astype(np.float16)
    return found


def write_signals(
    folder: Path, signals: dict[str, np.ndarray], scales: Scales, genome: Genome = GENOME
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    about = {"data_version": DATA_VERSION, "assembly": genome.assembly, "bin_bp": BIN}
    about |= {"signals": list(scales.signals), "sha256_of_scales": scales.checksum}
    for cell, values in signals.items():
        np.save(folder / f"{cell}.npy", values)
        (folder / f"{cell}.json").write_text(json.dumps(about))


def write_world(folder: Path, motifs: MotifSet | None = None) -> dict[str, str]:
    """The store and all files of a run; returns their paths."""
    motifs = motifs or made_motifs()
    store = folder / "store"
    (store / "sequence").mkdir(parents=True)
    GENOME.save(store / "manifest.json", [BIN])
    np.save(store / "sequence/bases.npy", made_bases(motifs))
    about = {"data_version": DATA_VERSION, "assembly": GENOME.assembly}
    (store / "sequence/bases.json").write_text(json.dumps(about))
    files = {
        "manifest": f"{store}/manifest.json",
        "bases": f"{store}/sequence/bases.npy",
        "motifs": f"{store}/motifs{BIN}/toy.npy",
        "motif_flags": f"{store}/motifs{BIN}/toy.flags.npy",
        "motif_facts": f"{store}/motifs{BIN}/toy.json",
        "regions": f"{folder}/regions.bed",
        "signals": f"{folder}/signals{BIN}",
        "scales": f"{folder}/scales.json",
        "reference": f"{folder}/reference.json",
        "vectors": f"{folder}/vectors.npz",
        "mask": f"{store}/mask/{BIN}.npy",
    }
    outs = [files[key] for key in ("motifs", "motif_flags", "motif_facts")]
    told = write_motif_block(store, GENOME, motifs, *outs, bin_bp=BIN)
    write_regions(files["regions"], grid(GENOME, TILE).query("chrom != 'chr4'"))
    table = made_expression()
    write_cells(files, table)
    scales = Scales(SIGNALS, ("fold_change",) * len(SIGNALS), (None,) * len(SIGNALS))
    scales.save(files["scales"])
    signals = made_signals(np.load(files["motifs"]), told["step"], table)
    signals["train1"][:, 1] = np.nan  # an assay that a cell does not have
    signals["test1"][40 * BINS + 3, 0] = np.nan
    write_signals(Path(files["signals"]), signals, scales)
    mask = np.zeros(GENOME.total(BIN), np.uint8)
    mask[[5, 6, 41 * BINS]] = 1
    (store / "mask").mkdir()
    np.save(files["mask"], mask)
    return files


def write_block(
    files: dict[str, str], folder: Path, motifs: MotifSet, regions: Path | None = None
) -> dict[str, str]:
    """The files of a run with another motif block."""
    ends = {"motifs": ".npy", "motif_flags": ".flags.npy", "motif_facts": ".json"}
    own = {key: f"{folder}/block{end}" for key, end in ends.items()}
    store = Path(files["manifest"]).parent
    write_motif_block(store, GENOME, motifs, *own.values(), regions=regions, bin_bp=BIN)
    return {**files, **own}


def write_cells(files: dict[str, str], table: pd.DataFrame, train: Sequence[str] = TRAIN) -> None:
    """Reference of the training cells and vectors of all."""
    reference = Reference.fit(table, train)
    reference.save(files["reference"])
    write_vectors(files["vectors"], CELLS, reference.vectors(table, CELLS), reference)


def train(folder: Path, files: dict[str, str], start: Path | None = None, **changes) -> Path:
    """Weights of a whole run, as the rule makes them."""
    outs = [folder / name for name in ("run", "weights.pt", "history.tsv")]
    one_run.train(SPEC, settings(**changes), files, *outs, threads=1, start=start)
    return outs[1]


def settings(**changes) -> dict:
    """What the plan says of a run, with a tiny network; `changes` replace keys."""
    base = {
        **{"preset": "tiny", "seq_bp": TILE, "signals": list(SIGNALS), "assembly": "toy"},
        **{"channels": [4, 8, 8], "layers": 1, "feed_forward": 32, "head_hidden": 32},
        **{"tfs": None, "motif_step": None, "combine": "concat", "tf_norm": "off"},
        **{"model": "epigept", "examples": "regions", "fold": FOLD, "seed": 123},
        **{"cells": {"train": TRAIN, "validation": VALIDATION, "test": TEST}},
        **{"cells_per_region": 4, "reverse_complement": True, "batch": 4, "epochs": 2},
        **{"accumulate": 1, "clip_norm": 1.0, "precision": "float32", "stop_patience": 0},
        **{"keep": "best", "version": 1, "data_version": DATA_VERSION, "start_seen": "refuse"},
        "optimizer": {
            **{"name": "adamw", "learning_rate": 5e-3, "decay": "matrices"},
            **{"epsilon": 1e-8, "weight_decay": 0.01},
        },
        "schedule": {"name": "warmup_cosine"},
    }
    return base | changes
