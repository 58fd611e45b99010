"""Peaks as labels of bins: 1 where a bin shares at least one base with a peak."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from epiloom.data.bed import read_bed
from epiloom.data.genome import Genome
from epiloom.data.vectors import new_vector

log = logging.getLogger("epiloom")


def peak_labels(path: str | Path, genome: Genome, bin_bp: int) -> np.ndarray:
    """Labels of all bins, uint8 [genome.total(bin_bp)].

    Args:
        path: BED of peaks, plain or gzip, in any order, overlapping or not; peaks on chromosomes
            outside the genome are skipped and told in the log.

    Raises:
        InputError: faulty lines and peaks beyond a chromosome's end, with line numbers.
    """
    peaks = read_bed(path, genome, others="skip")
    if peaks.attrs["skipped"]:
        log.warning(
            "%s: %d of %d peaks lie on chromosomes outside the genome and were skipped",
            *(path, peaks.attrs["skipped"], peaks.attrs["skipped"] + len(peaks)),
        )
    labels = np.zeros(genome.total(bin_bp), np.uint8)
    offsets, counts = genome.offsets(bin_bp), genome.bins(bin_bp)
    for chrom, rows in peaks.groupby("chrom", sort=False):
        i = genome.index(str(chrom))
        first = rows["start"].to_numpy() // bin_bp
        after = -(-rows["end"].to_numpy() // bin_bp)
        step = np.bincount(first, minlength=counts[i] + 1) - np.bincount(
            after, minlength=counts[i] + 1
        )
        labels[offsets[i] : offsets[i + 1]] = np.cumsum(step[:-1]) > 0
    return labels


def write_peaks(
    folder: str | Path, identifier: str, path: str | Path, genome: Genome, bin_bp: int
) -> float:
    """Put the labels into the store, peaks{B}/{identifier}.npy; returns the share of bins labelled.

    Raises:
        InputError: see `peak_labels`.
    """
    labels = peak_labels(path, genome, bin_bp)
    out = Path(folder) / f"peaks{bin_bp}" / f"{identifier}.npy"
    with new_vector(out, np.uint8, len(labels)) as vector:
        vector[:] = labels
    return float(labels.mean())
