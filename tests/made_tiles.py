"""A made-up genome with a few tracks in a store, its tiles, and a small network that reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

import models
from epiloom.data.genome import BLACKLIST, GAP, Genome
from epiloom.data.store import GenomeStore, write_mask
from epiloom.data.tiles import Tiles, write_tiles
from epiloom.learn import checkpoint
from epiloom.learn.frames import FrameExamples, FrameTable
from epiloom.plan.runs import DATA_VERSION

torch.set_num_threads(1)

BIN = 25
FRAME = 10  # bins
# 650 and 200 whole bins; 172 and 151 with a shorter one behind them
GENOME = Genome("toy", ("chr1", "chr2", "chr3", "chr4"), (16_250, 5_000, 4_312, 3_790))
CHANNELS = ["E003-H3K4me3.pval", "E003-H2A.Z.pval", "E116-H3K4me3.pval", "E116-DNase.pval"]
FOLD = {"name": "f", "validation": ["chr3"], "test": ["chr4"]}
SPEC = models.load("epi_lstm")


def rows(chrom: str, first: int = 0, end: int | None = None, genome: Genome = GENOME) -> slice:
    """Bins [first, end) of a chromosome as rows of a genome-long vector, to its short last one."""
    at = int(genome.offsets(BIN)[genome.index(chrom)])
    n = -(-genome.length(chrom) // BIN)
    return slice(at + first, at + (n if end is None else end))


def made_signal(seed: int = 0, genome: Genome = GENOME, channels: int = 4) -> np.ndarray:
    """Slowly changing signal of all channels, float16 [total, channels], never missing."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(genome.total(BIN), channels + 2))
    state = np.zeros(channels + 2)
    walked = np.empty_like(steps)
    for k, step in enumerate(steps):
        state = walked[k] = 0.9 * state + step
    mixed = walked @ rng.normal(size=(channels + 2, channels)) / 2
    return np.abs(np.sinh(mixed / 2)).clip(0, 60_000).astype(np.float16)


def made_case(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Signal float16 [total, channels] and mask uint8 [total] with everything that happens.

    chr1: gaps at its start, inside of a frame's borders and longer than the silence that is walked
    through, blacklisted bins. chr2: a stretch without data, missing values of single channels.
    chr4: a gap at its end.
    """
    signal, mask = made_signal(seed), np.zeros(GENOME.total(BIN), np.uint8)
    mask[rows("chr1", 0, 25)] = GAP
    mask[rows("chr1", 103, 168)] = GAP
    mask[rows("chr1", 205, 206)] = mask[rows("chr1", 210, 220)] = BLACKLIST
    mask[rows("chr1", 300, 545)] = GAP
    mask[rows("chr4", 129)] = GAP
    signal[mask == GAP] = np.nan
    signal[rows("chr2", 49, 72)] = np.nan
    signal[rows("chr2", 100, 130), 3] = np.nan
    signal[rows("chr3", 5, 9), 0] = np.nan
    signal[rows("chr4", 17, 19), 1] = np.nan
    return signal, mask


def write_store(
    folder: Path,
    signal: np.ndarray,
    mask: np.ndarray,
    channels: Sequence[str] = tuple(CHANNELS),
    genome: Genome = GENOME,
) -> GenomeStore:
    """A store whose vectors are exactly these."""
    genome.save(folder / "manifest.json", [BIN])
    write_mask(folder, mask, BIN)
    for name in (f"bins{BIN}", "tracks"):
        (folder / name).mkdir(exist_ok=True)
    about = {"data_version": DATA_VERSION, "assembly": genome.assembly, "bins": {str(BIN): {}}}
    for channel, values in zip(channels, signal.T, strict=True):
        np.save(folder / f"bins{BIN}/{channel}.npy", np.ascontiguousarray(values, np.float16))
        (folder / f"tracks/{channel}.json").write_text(json.dumps(about))
    return GenomeStore(folder)


def tile_files(folder: Path, name: str = "all") -> dict[str, str]:
    """Where the tiles of a store lie, by the names that readers know."""
    own = f"{folder}/tiles{BIN}/{name}"
    ends = {"tiles": ".npy", "flags": ".flags.npy", "channels": ".json"}
    return {"manifest": f"{folder}/manifest.json"} | {k: own + end for k, end in ends.items()}


def make_tiles(
    folder: Path,
    signal: np.ndarray,
    mask: np.ndarray,
    channels: Sequence[str] = tuple(CHANNELS),
    genome: Genome = GENOME,
    threads: int = 1,
) -> dict[str, str]:
    """Write the store and its tiles; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    store, files = write_store(folder, signal, mask, channels, genome), tile_files(folder)
    own = [files[key] for key in ("tiles", "flags", "channels")]
    write_tiles(store, channels, BIN, *own, threads=threads)
    return files


def opened(files: dict[str, str]) -> Tiles:
    return Tiles.open(*(files[key] for key in ("manifest", "tiles", "flags", "channels")))


def settings(**changes) -> dict:
    """A complete set of settings with a tiny network; `changes` replace keys."""
    base = {
        **{"variant": "fast", "latent": 4, "decoder_hidden": 8, "layers": 1},
        **{"bidirectional": False, "layer_norm": False, "cell": "zeroed", "dropout": 0.0},
        **{"channels": list(CHANNELS), "bin_bp": BIN, "model": "epi_lstm", "examples": "frames"},
        **{"frame": FRAME, "batch": 4, "warmup_frames": 1, "assay_weights": None, "fold": FOLD},
        **{"seed": 123, "epochs": 2, "accumulate": 1, "clip_norm": 1.0, "precision": "float32"},
        **{"stop_patience": 0, "keep": "last", "start_seen": "refuse"},
        **{"version": 1, "data_version": DATA_VERSION},
        "optimizer": {
            **{"name": "adam", "learning_rate": 0.01},
            **{"epsilon": 1e-8, "weight_decay": 0.0},
        },
        "schedule": {"name": "warmup_cosine"},
    }
    return base | changes


def examples(files: dict[str, str], part: str = "train", **changes) -> FrameExamples:
    return FrameTable.read(settings(**changes), files).examples(part)


def write_weights(path: Path, files: dict[str, str], seed: int = 0, **changes) -> Path:
    """Weights as drawn, with the scale of the training chromosomes."""
    run = settings(**changes)
    torch.manual_seed(seed)
    net = SPEC.build(run)
    with torch.no_grad():
        for weight in net.parameters():
            weight.mul_(1.5)  # away from a cell that does next to nothing
    SPEC.prepare(net, FrameTable.read(run, files).examples("train"))
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save_weights(path, net.state_dict(), run)
    return path
