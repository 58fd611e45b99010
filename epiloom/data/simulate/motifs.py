"""Transcription factors: made-up binding motifs with realistic information, and expression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from epiloom.data.simulate.layout import Plan

# Real symbols so that tables can be joined by name; the motifs themselves are invented.
UBIQUITOUS = ("SP1", "NRF1", "YY1", "ELK1", "NFYA", "E2F4", "USF1", "GABPA", "CTCF")
SPECIFIC = (
    *("POU5F1", "SOX2", "GATA4", "TFAP2A", "TWIST1", "PAX6", "NEUROD1", "HNF4A", "HNF1A"),
    *("FOXA2", "CEBPA", "PDX1", "MAFB", "SPI1", "EBF1", "IRF4", "FOSL1", "TP63"),
)
REPRESSORS = ("REST", "ZEB1", "GFI1B")
NAMES = (*UBIQUITOUS, *SPECIFIC, *REPRESSORS)
CTCF = NAMES.index("CTCF")
SCALE = 7.0  # log2(RPKM + 1) at which a factor counts as fully present
SLOT_BP = 20  # room for one site; no motif is longer
MAX_SITES = 6
REGION_SLOTS = 12  # sites of an element lie within REGION_SLOTS * SLOT_BP
BASES = np.frombuffer(b"ACGT", np.uint8)


@dataclass(frozen=True)
class Factors:
    """Transcription factors.

    Attributes:
        pwms: float64 [width, 4] base probabilities (A, C, G, T) per factor.
        weight: float64 [factors], effect of one perfect site of a fully present factor on the
            activity's logit.
        log_rpkm: float64 [factors, cells], log2(RPKM + 1).
    """

    pwms: tuple[np.ndarray, ...]
    weight: np.ndarray
    log_rpkm: np.ndarray

    @property
    def presence(self) -> np.ndarray:
        """float64 [factors, cells]: expression relative to full presence."""
        return self.log_rpkm / SCALE


@dataclass(frozen=True)
class Sites:
    """Planted binding sites, in the order of their elements.

    Attributes:
        element, factor: int64 [sites]. start: int64 [sites], global 0-based position.
        strand: int64 [sites], 1 or -1. width: int64 [sites], bp.
        strength: float64 [sites], log-odds of the planted sequence / that of the consensus.
    """

    element: np.ndarray
    factor: np.ndarray
    start: np.ndarray
    strand: np.ndarray
    width: np.ndarray
    strength: np.ndarray


def make_factors(plan: Plan) -> Factors:
    """Invent the motifs and the expression of every factor in every cell."""
    rng = plan.rng("factors")
    pwms = tuple(_pwm(rng, 19 if name == "CTCF" else int(rng.integers(12, 17))) for name in NAMES)
    weight = np.r_[
        rng.uniform(0.8, 1.3, len(UBIQUITOUS)),
        rng.uniform(1.4, 2.2, len(SPECIFIC)),
        -rng.uniform(2.0, 2.8, len(REPRESSORS)),
    ]
    usual = rng.uniform(4.2, 6.3, (len(UBIQUITOUS), 1))
    common = usual + plan.columns("common", rng, lambda r, n: r.normal(0, 0.35, (1, n)))
    others = len(SPECIFIC) + len(REPRESSORS)
    on = plan.columns("on", rng, lambda r, n: r.random((others, n)) < 0.4)
    cells = plan.lineages
    on[np.arange(others), rng.integers(0, cells, others)] = True
    if cells > 1:  # no specific factor is in all lineages: they must differ
        full = on[:, :cells].all(axis=1)
        on[full, rng.integers(0, cells, others)[full]] = False
    usual = rng.uniform(4.0, 6.8, (others, 1))
    level = usual + plan.columns("level", rng, lambda r, n: r.normal(0, 0.4, (others, n)))
    silent = plan.columns("silent", rng, lambda r, n: r.exponential(0.15, (others, n)))
    specific = np.where(on, level, silent)
    return Factors(pwms, weight, np.vstack([common, specific]).clip(0, None))


def _pwm(rng: np.random.Generator, width: int) -> np.ndarray:
    """A motif of 15-22 bits: a sharp core, weak ends, a degenerate position here and there.

    Sharper than most real motifs: a chance match every few 10 kb would hide a motif from a model
    that sees 50 Mb, where real genomes give it 3 Gb.
    """
    top = rng.uniform(0.92, 0.99, width)
    top[[0, -1]] = rng.uniform(0.50, 0.75, 2)
    soft = rng.choice(np.arange(1, width - 1), max(1, width // 8), replace=False)
    top[soft] = rng.uniform(0.40, 0.60, len(soft))
    rest = rng.dirichlet([1.0, 1.0, 1.0], width) * (1 - top[:, None])
    pwm = np.empty((width, 4))
    best = rng.integers(0, 4, width)
    for row, base in enumerate(best):
        pwm[row] = np.insert(rest[row], base, top[row])
    pwm = (pwm + 0.005) / 1.02
    return np.round(pwm / pwm.sum(axis=1, keepdims=True), 6)


def scores(pwm: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Log2-odds against equal bases of sequences given as codes 0-3, [n, width] -> [n]."""
    table = np.log2(pwm / 0.25)
    return table[np.arange(len(pwm)), codes].sum(axis=1)


def complement(codes: np.ndarray) -> np.ndarray:
    """Reverse complement of sequences of codes, [n, width]."""
    return 3 - codes[:, ::-1]


def plant(
    plan: Plan,
    factors: Factors,
    chosen: np.ndarray,
    region_start: np.ndarray,
    codes: np.ndarray,
) -> Sites:
    """Write binding sites into the sequence and return where they are.

    Args:
        chosen: int64 [elements, MAX_SITES], factor per site, -1 for none.
        region_start: int64 [elements], global start of the region that holds the sites.
        codes: uint8 [bases], the genome as 0-3; changed in place.
    """
    rng = plan.rng("sites")
    slots = np.tile(np.arange(REGION_SLOTS), (len(chosen), 1))
    slots = rng.permuted(slots, axis=1)[:, : chosen.shape[1]]
    element, column = np.nonzero(chosen >= 0)
    factor = chosen[element, column]
    width = np.array([len(pwm) for pwm in factors.pwms])[factor]
    free = SLOT_BP - width
    start = region_start[element] + slots[element, column] * SLOT_BP
    start = start + (rng.random(len(factor)) * (free + 1)).astype(np.int64)
    strand = np.where(rng.random(len(factor)) < 0.5, 1, -1)
    strength = np.zeros(len(factor))
    for index, pwm in enumerate(factors.pwms):
        here = np.flatnonzero(factor == index)
        site, strength[here] = _instances(rng, pwm, len(here))
        forward = strand[here, None] > 0
        where = start[here, None] + np.arange(len(pwm))
        codes[where] = np.where(forward, site, complement(site))
    return Sites(element, factor, start, strand, width, strength)


def _instances(rng: np.random.Generator, pwm: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Sites drawn from a motif, the best of four draws each: codes [n, width], strength [n]."""
    draws = rng.random((4, n, len(pwm), 1))
    codes = (draws > np.cumsum(pwm, axis=1)[None, None]).sum(axis=3).clip(0, 3).astype(np.uint8)
    flat = codes.reshape(4 * n, len(pwm))
    value = scores(pwm, flat).reshape(4, n)
    pick = value.argmax(axis=0)
    rows = np.arange(n)
    best = np.log2(pwm.max(axis=1) / 0.25).sum()
    return codes[pick, rows], value[pick, rows] / best
