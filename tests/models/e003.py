"""Chromoformer's input for the 100 real genes of E003, made slowly and plainly from the bigWigs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyBigWig
import torch
from torch import Tensor

MARKS = ("H3K4me1", "H3K4me3", "H3K9me3", "H3K27me3", "H3K36me3", "H3K27ac", "H3K9ac")
BINS_BP = (2000, 500, 100)
WINDOW_BP, SLOTS = 40_000, 8


def find_data(near: Path) -> Path | None:
    """Folder of the data: beside the folder of the file `near`, or shared beside the repository."""
    root = Path(__file__).resolve().parents[2]
    for base in (near.resolve().parents[1], root.parent / "shared", root / "shared"):
        if (base / "data/roadmap_e003/genes.tsv").is_file():
            return base / "data/roadmap_e003"
    return None


def genes(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "genes.tsv", sep="\t", keep_default_na=False)


def regions(gene: pd.Series) -> list[tuple[str, int, int]]:
    """Promoter region of a gene, then its partners."""
    half = WINDOW_BP // 2
    found = [(gene["chrom"], gene["tss_start"] - half, gene["tss_start"] + half)]
    for text in filter(None, gene["neighbors"].split(";")):
        chrom, span = text.split(":")
        start, end = span.split("-")
        found.append((chrom, int(start), int(end)))
    return found


def binned(depth_PM: np.ndarray, bin_bp: int, reverse: bool) -> tuple[np.ndarray, int, int]:
    """ln(1 + mean) per bin in the middle of the window; the number of bins, and those before."""
    length, window = len(depth_PM), WINDOW_BP // bin_bp
    n = math.ceil(length / bin_bp)
    rows = [depth_PM[i * bin_bp : min((i + 1) * bin_bp, length)].mean(0) for i in range(n)]
    left = math.ceil((window - n) / 2)
    out = np.zeros((window, depth_PM.shape[1]))
    out[left : left + n] = np.log(1 + np.array(rows))
    return (out[::-1] if reverse else out), n, left


def read_depth(folder: Path, region: tuple[str, int, int], marks=MARKS) -> np.ndarray:
    """Depth (bases, marks) of a region."""
    tracks = []
    for mark in marks:
        with pyBigWig.open(str(folder / f"E003-{mark}.depth.bw")) as bw:
            tracks.append(bw.values(*region, numpy=True))
    return np.stack(tracks, axis=-1).astype(np.float64)


def batch(folder: Path, gene_ids: list[str] | None = None, marks=MARKS) -> dict[str, Tensor]:
    """The named tensors of a batch, in the order of `gene_ids` (default: all genes)."""
    table = genes(folder).set_index("gene_id", drop=False)
    table = table if gene_ids is None else table.loc[gene_ids]
    B, M = len(table), len(marks)
    found: dict[str, np.ndarray] = {}
    for bp in BINS_BP:
        found[f"promoter_{bp}"] = np.zeros((B, WINDOW_BP // bp, M), np.float32)
        found[f"partners_{bp}"] = np.zeros((B, SLOTS, WINDOW_BP // bp, M), np.float32)
    lengths, scores = np.zeros((B, SLOTS), np.int64), np.zeros((B, SLOTS), np.float32)
    for b, (_, gene) in enumerate(table.iterrows()):
        for slot, region in enumerate(regions(gene)):
            depth = read_depth(folder, region, marks)
            for bp in BINS_BP:
                if slot == 0:
                    found[f"promoter_{bp}"][b] = binned(depth, bp, gene["strand"] == "-")[0]
                else:
                    found[f"partners_{bp}"][b, slot - 1] = binned(depth, bp, False)[0]
            if slot:
                lengths[b, slot - 1] = region[2] - region[1]
                scores[b, slot - 1] = float(str(gene["scores"]).split(";")[slot - 1])
    found |= {"lengths": lengths, "scores": scores}
    found["expression"] = table["log2_rpkm_plus1"].to_numpy(np.float32)
    found["label"] = table["label"].to_numpy(np.int64)
    return {key: torch.from_numpy(array.copy()) for key, array in found.items()}
