"""Made-up motifs and the slow way to score them: a double loop over sites and positions."""

from __future__ import annotations

import numpy as np

from epiloom.data.motif_sets import MotifSet, Rule


def made_set(widths, tfs: int, seed: int = 0, threshold: float = 0.5) -> MotifSet:
    """Motifs of these widths; motif i belongs to TF i % tfs, and every third to the next one too.

    `threshold` is the share of the largest score at which a site counts.
    """
    rng = np.random.default_rng(seed)
    odds = tuple(np.log(rng.dirichlet([0.4] * 4, w) * 3.92 + 0.02) for w in widths)
    pairs = {(i % tfs, i) for i in range(len(odds))}
    pairs |= {((i + 1) % tfs, i) for i in range(0, len(odds), 3)}
    return MotifSet(
        tuple(f"m{i}" for i in range(len(odds))),
        odds,
        np.array([threshold * m.max(axis=1).sum() for m in odds]),
        tuple(f"T{k}" for k in range(tfs)),
        np.array(sorted(pairs), np.int64),
        Rule("fraction", max(threshold, 1e-9)),
    )


def made_bases(length: int, seed: int = 1, other: float = 0.002) -> np.ndarray:
    """Random codes with some that are no bases."""
    rng = np.random.default_rng(seed)
    bases = rng.choice(4, length, p=[0.295, 0.205, 0.205, 0.295]).astype(np.uint8)
    bases[rng.random(length) < other] = 4
    return bases


def sites(bases: np.ndarray, log_odds: np.ndarray) -> list[tuple[int, str, float]]:
    """(first base, strand, score) of every site, both strands."""
    width, found = len(log_odds), []
    codes = bases.tolist()
    for start in range(len(codes) - width + 1):
        word = codes[start : start + width]
        if max(word) > 3:
            continue
        there = [3 - b for b in reversed(word)]
        for strand, letters in (("+", word), ("-", there)):
            score = sum(float(log_odds[j, b]) for j, b in enumerate(letters))
            found.append((start, strand, score))
    return found


def by_loop(bases: np.ndarray, motifs: MotifSet, bin_bp: int = 128) -> np.ndarray:
    """float64 [bins, K] by the rule: the bin of the first base, the best counted score, else 0."""
    out = np.zeros((-(-len(bases) // bin_bp), len(motifs.tfs)))
    for tf, motif in motifs.pairs.tolist():
        for start, _, score in sites(bases, motifs.log_odds[motif]):
            if score >= motifs.thresholds[motif] and score > 0:
                out[start // bin_bp, tf] = max(out[start // bin_bp, tf], score)
    return out
