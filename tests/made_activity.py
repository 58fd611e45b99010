"""Genes at the ends of short chromosomes and a track over them, for tests of mark activity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyBigWig

from epiloom.data.genome import Genome
from epiloom.data.store import write_track

TRACK = "E003-H3K4me3.reads"
GENOME = Genome("hg19", ("chr1", "chr2", "chr3", "chr4"), (230_130, 150_000, 99_750, 60_020))


def made_genes(number: int = 80, seed: int = 4) -> pd.DataFrame:
    """Genes on both strands, some of them right at the ends of short chromosomes."""
    rng = np.random.default_rng(seed)
    rows = []
    for k in range(number):
        i = k % 4
        length = GENOME.lengths[i]
        size = int(rng.integers(300, 20_000))
        start = (0, length - size)[k // 4] if k < 8 else int(rng.integers(0, length - size))
        strand = "+-"[int(rng.integers(2))]
        tss = start if strand == "+" else start + size - 1
        rows.append((f"g{k}", GENOME.chromosomes[i], tss, strand, start, start + size))
    columns = ["gene_id", "chrom", "tss", "strand", "gene_start", "gene_end"]
    return pd.DataFrame(rows, columns=columns)


def write_store(folder: Path) -> dict[str, np.ndarray]:
    """A bigWig with a hole and a store of it with bins of 100 and 128 bp; returns its bases."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(8)
    depth = {}
    with pyBigWig.open(str(folder / "track.bw"), "w") as file:
        file.addHeader(list(zip(GENOME.chromosomes, GENOME.lengths, strict=True)))
        for chrom, length in zip(GENOME.chromosomes, GENOME.lengths, strict=True):
            steps = np.repeat(rng.gamma(0.5, 4, -(-length // 100)).astype(np.float16), 100)
            bases = steps[:length].astype(np.float64)
            bases[40_000:41_300] = np.nan
            depth[chrom] = bases
            for low, high in ((0, 40_000), (41_300, length)):
                values = bases[low:high].tolist()
                file.addEntries(chrom, low, values=values, span=1, step=1)
    GENOME.save(folder / "manifest.json", [100, 128])
    write_track(folder, TRACK, str(folder / "track.bw"), GENOME, bins=(100, 128))
    return depth
