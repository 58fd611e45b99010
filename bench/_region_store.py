"""A made store at full size: ten regions of 128 kb, ten cells, eight signals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from bench.motifs import motif_set
from epiloom.data.genome import Genome
from epiloom.data.motif_blocks import write_motif_block
from epiloom.data.region_choice import grid, write_regions
from epiloom.data.signal_targets import Scales
from epiloom.data.tf_expression import Reference, write_vectors
from epiloom.plan.runs import DATA_VERSION
from tests import made_cells

TILE, BIN = 128_000, 128
GENOME = Genome("bench", ("chr1", "chr2", "chr3"), (8 * TILE, TILE, TILE))
PARTS = {"train": [f"c{k}" for k in range(8)], "validation": ["v0"], "test": ["t0"]}
NAMES = [name for own in PARTS.values() for name in own]


def made(folder: Path, cells: int, batch: int) -> tuple[dict, dict[str, str]]:
    """Settings of a run of `small` with `batch` regions x `cells`, and its files."""
    motifs, source = motif_set()
    print(f"{len(motifs.tfs)} factors of {source}")
    rng, store = np.random.default_rng(0), folder / "store"
    (store / "sequence").mkdir(parents=True)
    GENOME.save(store / "manifest.json", [BIN])
    np.save(store / "sequence/bases.npy", rng.integers(0, 4, GENOME.total(1)).astype(np.uint8))
    about = {"data_version": DATA_VERSION, "assembly": GENOME.assembly}
    (store / "sequence/bases.json").write_text(json.dumps(about))
    names = ("manifest.json", "motifs.npy", "motifs.flags.npy", "motifs.json")
    keys = ("manifest", "motifs", "motif_flags", "motif_facts")
    files = {key: str(store / name) for key, name in zip(keys, names, strict=True)}
    others = {"regions": "regions.bed", "scales": "scales.json", "reference": "reference.json"}
    others |= {"vectors": "vectors.npz", "signals": "signals"}
    files |= {key: str(folder / name) for key, name in others.items()}
    write_motif_block(store, GENOME, motifs, *(files[k] for k in keys[1:]), bin_bp=BIN)
    write_regions(files["regions"], grid(GENOME, TILE))
    drawn = rng.lognormal(1, 1.5, (len(motifs.tfs), len(NAMES)))
    expression = pd.DataFrame(drawn, index=list(motifs.tfs), columns=NAMES)
    reference = Reference.fit(expression, PARTS["train"])
    reference.save(files["reference"])
    write_vectors(files["vectors"], NAMES, reference.vectors(expression, NAMES), reference)
    signals = ("DNase", "CTCF", *(f"mark{k}" for k in range(6)))
    scales = Scales(signals, ("fold_change",) * len(signals), (None,) * len(signals))
    scales.save(files["scales"])
    shape = (GENOME.total(BIN), len(signals))
    values = {cell: rng.exponential(size=shape).astype(np.float16) for cell in NAMES}
    made_cells.write_signals(Path(files["signals"]), values, scales, GENOME)
    free = ("channels", "layers", "feed_forward", "head_hidden", "combine", "tf_norm")
    fold = {"name": "f", "validation": ["chr3"], "test": ["chr2"]}
    own = {"preset": "small", "seq_bp": TILE, "signals": list(signals), "assembly": "bench"}
    own |= {"cells": PARTS, "fold": fold, "cells_per_region": cells, "batch": batch}
    return made_cells.settings(**dict.fromkeys(free), **own), files
