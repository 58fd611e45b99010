"""A made-up genome and a predictor whose output is a known function of motif occurrences."""

from __future__ import annotations

import numpy as np

from epiloom.data.geometry import Geometry
from epiloom.data.sequence import encode, reverse_complement

MOTIF = "TGACTCAGCA"
HEIGHT = 8.0
FLAT = 0.5  # prediction of a bin without motif
GEOMETRY = Geometry(2048, 64, 4)  # 24 predicted bins


class MadeGenome:
    """Chromosomes given as text; conservation 100, 101, ... so that places can be told apart."""

    def __init__(self, **chromosomes: str):
        self.text = chromosomes
        self.codes = {name: encode(text) for name, text in chromosomes.items()}
        self.scores = {
            name: (np.arange(len(text)) % 100 + 100).astype(np.uint8)
            for name, text in chromosomes.items()
        }

    def bases(self, chrom: str, start: int, length: int) -> np.ndarray:
        return self._cut(self.codes[chrom], start, length, 4)

    def conservation(self, chrom: str, start: int, length: int) -> np.ndarray:
        return self._cut(self.scores[chrom], start, length, 0)

    @staticmethod
    def _cut(values: np.ndarray, start: int, length: int, outside: int) -> np.ndarray:
        found = np.full(length, outside, np.uint8)
        first, last = max(start, 0), min(start + length, len(values))
        if last > first:
            found[first - start : last - start] = values[first:last]
        return found


def quiet(length: int, seed: int = 0) -> str:
    """Random A and T: at most five bases of the motif match anywhere."""
    return "".join(np.random.default_rng(seed).choice(list("AT"), length))


def with_motif(text: str, start: int, motif: str = MOTIF) -> str:
    return text[:start] + motif + text[start + len(motif) :]


def other_strand(text: str) -> str:
    return "".join("TGCA"["ACGT".index(base)] for base in reversed(text))


def strengths(bases: np.ndarray) -> np.ndarray:
    """Float32 [n, L - 9]: HEIGHT halved for every base off, 0 with more than two off; forward."""
    motif = encode(MOTIF)
    off = sum(
        (bases[:, j : bases.shape[1] - len(motif) + 1 + j] != motif[j]).astype(int)
        for j in range(len(motif))
    )
    return np.where(off <= 2, HEIGHT * 0.5**off, 0).astype(np.float32)


class Toy:
    """Track 0: motif strength, on either strand, in the bin of its fifth base. Track 1: minus half.

    stranded: only motifs on the strand that is read count.
    """

    def __init__(self, geometry: Geometry = GEOMETRY, stranded: bool = False):
        self.geometry, self.stranded = geometry, stranded
        self.calls: list[int] = []

    def __call__(self, bases: np.ndarray, conservation: np.ndarray) -> np.ndarray:
        assert bases.dtype == conservation.dtype == np.uint8
        assert bases.shape == conservation.shape and bases.shape[1] == self.geometry.seq_bp
        self.calls.append(len(bases))
        found = np.zeros(bases.shape, np.float32)
        found[:, 4 : bases.shape[1] - 5] = strengths(bases)
        if not self.stranded:
            other = strengths(reverse_complement(bases))[:, ::-1]
            found[:, 5 : bases.shape[1] - 4] += other  # its own fifth base, on the other strand
        g = self.geometry
        binned = found.reshape(len(bases), -1, g.bin_bp).sum(2)
        binned = binned[:, g.crop_bins : g.crop_bins + g.bins]
        return np.stack([FLAT + binned, 20 - binned / 2], axis=1)
