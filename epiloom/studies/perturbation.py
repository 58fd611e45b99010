"""In-silico perturbation: what a distal model predicts when a mark is weakened in one interval.

Murphy et al. 2025 (gkae1212), in-silico perturbation. By default it is the depth that is weakened,
at the same bases in all three resolutions, and each gene is predicted by the model that has not
trained on it. The published rule (a factor on ln(1 + depth), bins of each resolution) is an option.

Shapes: V variants of one gene, M marks, S slots, L bins of a resolution.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from epiloom.data.ragged import Ragged
from epiloom.learn.distal import SIZES, SPAN_BP, PartnerTable
from epiloom.learn.examples import BIN_BP, TRANSFORMS, coarse
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

BIN = 2_000  # bp of a perturbed distal bin
PROMOTER_BINS = (8, 9, 10)  # of the 20; TSS - 4 kb to + 2 kb
GENES = {"expressed": (1,), "silent": (0,), "all": (0, 1)}
COLUMNS = ("gene_id", "chrom", "tss", "strand", "cell", "mark", "fold", "part", "label")
COLUMNS += ("location", "bin", "start", "end", "unperturbed", "removed", "delta_log2", "ratio")


class Place(NamedTuple):
    """One interval of the promoter's 40 kb, in bp from its upstream end, transcription direction.

    `bin` is the 2-kb bin (for the promoter, the middle one).
    """

    location: str  # promoter or distal
    bin: int
    first: int
    last: int


@dataclass(frozen=True)
class Options:
    """What is perturbed and how.

    Attributes:
        factors: what remains of the mark, each in [0, 1); 0 = removed.
        rule: `depth` = factor x mean depth, then the transform; `original` = factor x transformed
            value, in the bins of each resolution that the study used.
        promoter: `tiled` = the three 2-kb bins of TSS - 4 to + 2 kb, so that all intervals tile the
            40 kb; `centred` = TSS - 3 to + 3 kb.
        partners: also weaken the signal of Hi-C partners where they overlap the interval.
        genes: expressed, silent (below the cell's median), or all.
        at_most: genes per fold, drawn at random; 0 = all.
    """

    factors: tuple[float, ...] = tuple(k / 10 for k in range(9, -1, -1))
    rule: str = "depth"
    promoter: str = "tiled"
    partners: bool = False
    genes: str = "all"
    at_most: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        problems = []
        if 0 not in self.factors or not all(0 <= f < 1 for f in self.factors):
            problems.append(f"factors: {self.factors}; give numbers from 0 to below 1, with 0")
        for key, known in (
            ("rule", ("depth", "original")),
            ("promoter", ("tiled", "centred")),
            ("genes", tuple(GENES)),
        ):
            if getattr(self, key) not in known:
                problems.append(f"{key}: {getattr(self, key)!r}; use {' or '.join(known)}")
        if self.rule == "original" and self.partners:
            problems.append("partners: the original rule leaves partners alone; use rule depth")
        if problems:
            raise InputError("perturbation", problems)


def places(promoter: str = "tiled") -> list[Place]:
    """The promoter interval and the 17 distal bins."""
    tiled = promoter == "tiled"
    span = (PROMOTER_BINS[0] * BIN, (PROMOTER_BINS[-1] + 1) * BIN) if tiled else (17_000, 23_000)
    distal = [j for j in range(SPAN_BP // BIN) if j not in PROMOTER_BINS]
    return [
        Place("promoter", PROMOTER_BINS[1], *span),
        *(Place("distal", j, j * BIN, (j + 1) * BIN) for j in distal),
    ]


def genomic(place: Place, tss: int, strand: str) -> tuple[int, int]:
    """Start and end of a place on the chromosome, 0-based half-open."""
    if strand == "+":
        return tss - SPAN_BP // 2 + place.first, tss - SPAN_BP // 2 + place.last
    return tss + SPAN_BP // 2 - place.last, tss + SPAN_BP // 2 - place.first


# --- variants of one gene's input ----------------------------------------------------------------


def weakened(
    raw: np.ndarray, transform: Callable, todo: Sequence[tuple[Place, float]], rule: str
) -> dict[int, np.ndarray]:
    """Promoter inputs of all variants of one gene; the first is unperturbed.

    Args:
        raw: float32 [400, M], mean depth per 100 bp in transcription direction.

    Returns:
        Bin size -> float32 [V, L, M], V = 1 + len(todo).
    """
    if rule == "original":
        return {size: _by_value(raw, transform, todo, size) for size in SIZES}
    kept = np.ones((1 + len(todo), len(raw), 1), np.float32)
    for v, (place, factor) in enumerate(todo, 1):
        kept[v, place.first // BIN_BP : place.last // BIN_BP] = factor
    variants = raw * kept
    return {size: _filled(coarse(variants, size), transform) for size in SIZES}


def _by_value(
    raw: np.ndarray, transform: Callable, todo: Sequence[tuple[Place, float]], size: int
) -> np.ndarray:
    """The published rule: transformed values are multiplied, in the study's bins."""
    values = _filled(coarse(raw[None], size), transform)
    variants = np.repeat(values, 1 + len(todo), axis=0)
    for v, (place, factor) in enumerate(todo, 1):
        variants[v, _published_bins(place, size)] *= factor
    return variants


def _published_bins(place: Place, size: int) -> slice:
    """Of the promoter: bins 170-229 (100 bp), 34-45 (500 bp), 8-10 (2000 bp)."""
    if place.location == "promoter":
        return {100: slice(170, 230), 500: slice(34, 46), 2000: slice(8, 11)}[size]
    return slice(place.bin * BIN // size, (place.bin + 1) * BIN // size)


def _filled(raw: np.ndarray, transform: Callable) -> np.ndarray:
    """Transformed; only what was missing becomes 0."""
    return np.where(np.isnan(raw), np.float32(0), transform(raw)).astype(np.float32)


def weakened_partners(
    regions: Ragged,
    starts: np.ndarray,
    transform: Callable,
    todo: Sequence[tuple[tuple[int, int], float]],
    slots: np.ndarray,
) -> dict[int, np.ndarray]:
    """Partner inputs of all variants, where partners overlap the perturbed intervals.

    A bin that overlaps in part keeps the share outside: depth counts as even within 100 bp.

    Args:
        regions: raw 100-bp means of the gene's partners; starts: their first bases, int64 [R].
        todo: (start, end) on the partners' chromosome, and the factor.
        slots: int64 [S], number of the region in each slot, -1 = empty.

    Returns:
        Bin size -> float32 [V, S, L, M]; the first variant is unperturbed.
    """
    low = np.repeat(starts - BIN_BP * regions.first[:-1], regions.counts)
    low = low + BIN_BP * np.arange(len(low))
    high = np.minimum(low + BIN_BP, np.repeat(starts + regions.lengths, regions.counts))
    found: dict[int, list[np.ndarray]] = {size: [] for size in SIZES}
    for (start, end), factor in [((0, 0), 1.0), *todo]:
        inside = np.clip(np.minimum(high, end) - np.maximum(low, start), 0, None) / (high - low)
        kept = (1 - (1 - factor) * inside).astype(np.float32)
        changed = replace(regions, values=regions.values * kept[:, None])
        for size in SIZES:
            coarser = changed.coarsen(size)
            filled = Ragged(coarser.lengths, _filled(coarser.values, transform), size)
            found[size].append(filled.centred(slots, SPAN_BP // size))
    return {size: np.stack(variants) for size, variants in found.items()}


# --- a cell's genes ------------------------------------------------------------------------------


def perturb(
    runs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any], Callable]],
    options: Options,
) -> pd.DataFrame:
    """Effects of every place on every gene that a fold holds out.

    Args:
        runs: per fold its settings, its files (see `PartnerTable.read`), and a function that
            takes (batch of arrays for V variants, whether partners are shared) and returns the V
            predictions: the fold's trained model.

    Returns:
        One row per gene and place (`COLUMNS`; intervals genomic, 0-based half-open), and a column
        `p_{factor}` for every factor but 0. delta_log2 = unperturbed - removed; ratio = that over
        removed, empty where removed is 0 or less.
    """
    frames = []
    for settings, files, predict in runs:
        table = PartnerTable.read(settings, files)
        if table.objective != "regression":
            raise InputError("perturbation", "needs a regression model; set objective: regression")
        rows, labels = held_out(table, options)
        fold = settings["fold"]["name"]
        log.info("%s: %d genes, %d places", fold, len(rows), len(places()))
        predicted = list(_watched(_predicted(table, rows, files, predict, options), len(rows)))
        frames.append(_frame(table, rows, labels, files, settings, predicted, options))
    return pd.concat(frames, ignore_index=True)


def held_out(table: PartnerTable, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the genes that a fold's model has not trained on, and the labels of all genes.

    A gene is expressed (label 1) from the median of the cell's genes on.
    """
    own = table.promoters
    labels = (own.expression >= np.median(own.expression)).astype(np.int64)
    chosen = (own.part != "train") & np.isin(labels, GENES[options.genes])
    rows = np.flatnonzero(chosen)
    if 0 < options.at_most < len(rows):
        rng = np.random.default_rng(options.seed)
        rows = np.sort(rng.choice(rows, options.at_most, replace=False))
    return rows, labels


def todo_list(options: Options) -> list[tuple[Place, float]]:
    """Every place with every factor, in the order of the predictions."""
    return [(place, f) for place in places(options.promoter) for f in options.factors]


def _predicted(
    table: PartnerTable,
    rows: np.ndarray,
    files: Mapping[str, Any],
    predict: Callable,
    options: Options,
) -> Iterator[np.ndarray]:
    """Predictions of all variants of each gene, [V]."""
    own, todo = table.promoters, todo_list(options)
    transform = TRANSFORMS[own.transform]
    examples = table.genes(rows)
    around = _Neighbourhood(table, files) if options.partners else None
    for k, row in enumerate(rows):
        batch = examples.batch(np.array([k]))
        raw = np.stack([f[row] for f in own.features], axis=-1)
        for size, values in weakened(raw, transform, todo, options.rule).items():
            batch[f"promoter_{size}"] = values
        touched = around is not None and around.overlaps(row)
        if touched:
            intervals = [(genomic(p, *around.gene(row)[1:]), f) for p, f in todo]
            partners = around.weakened(row, transform, intervals)
            batch |= {f"partners_{size}": values for size, values in partners.items()}
            count = len(todo) + 1
            batch |= {key: np.repeat(batch[key], count, axis=0) for key in ("lengths", "scores")}
        yield predict(batch, not touched)


class _Neighbourhood:
    """Where genes and their partners lie, for the option `partners`."""

    def __init__(self, table: PartnerTable, files: Mapping[str, Any]):
        self.table, self.genes = table, gene_places(table, files)
        regions = pd.read_csv(files["regions"], sep="\t", dtype={"chrom": str})
        self.chroms = regions["chrom"].to_numpy(dtype=object)
        self.starts = regions["start"].to_numpy(np.int64)
        self.ends = regions["end"].to_numpy(np.int64)

    def gene(self, row: int) -> tuple[str, int, str]:
        """Chromosome, TSS and strand."""
        return tuple(column[row] for column in self.genes)

    def overlaps(self, row: int) -> bool:
        """Whether a partner of the gene overlaps its 40 kb."""
        chrom, tss, _ = self.gene(row)
        used = self.table.slots[row][self.table.slots[row] >= 0]
        left, right = tss - SPAN_BP // 2, tss + SPAN_BP // 2
        near = (self.starts[used] < right) & (self.ends[used] > left)
        return bool((near & (self.chroms[used] == chrom)).any())

    def weakened(self, row: int, transform: Callable, intervals: list) -> dict[int, np.ndarray]:
        """Inputs of the gene's partners in all variants (see `weakened_partners`)."""
        slots = self.table.slots[row]
        used = slots[slots >= 0]
        numbers = np.where(slots >= 0, np.cumsum(slots >= 0) - 1, -1)
        # a partner on another chromosome must not be hit: it is put where no interval is
        away = self.chroms[used] != self.gene(row)[0]
        starts = np.where(away, -(10**9), self.starts[used])
        return weakened_partners(
            self.table.regions.take(used), starts, transform, intervals, numbers
        )


def gene_places(
    table: PartnerTable, files: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chromosome, TSS and strand of every gene of the table, in its order."""
    genes = pd.read_csv(files["genes"], sep="\t", dtype={"gene_id": str, "chrom": str})
    genes = genes.set_index("gene_id").loc[table.promoters.gene_ids]
    return tuple(genes[key].to_numpy() for key in ("chrom", "tss", "strand"))


def _watched(predictions: Iterator[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """The same, with a line in the log now and then."""
    began = last = time.monotonic()
    for done, values in enumerate(predictions, 1):
        yield values
        now = time.monotonic()
        if now - last > 20:
            last = now
            left = (now - began) / done * (count - done)
            log.info("%d of %d genes, about %.0f min left", done, count, left / 60)


def _frame(
    table: PartnerTable,
    rows: np.ndarray,
    labels: np.ndarray,
    files: Mapping[str, Any],
    settings: Mapping[str, Any],
    predicted: Sequence[np.ndarray],
    options: Options,
) -> pd.DataFrame:
    own, spots = table.promoters, places(options.promoter)
    chroms, tss, strands = gene_places(table, files)
    at = [genomic(spot, int(tss[r]), strands[r]) for r in rows for spot in spots]
    values = np.stack(predicted) if predicted else np.zeros((0, 1 + len(todo_list(options))))
    plain = np.repeat(values[:, 0], len(spots))
    by_factor = values[:, 1:].reshape(-1, len(options.factors)).astype(np.float64)
    removed = by_factor[:, options.factors.index(0)]
    delta = plain - removed
    columns = {
        **{"gene_id": own.gene_ids, "chrom": chroms, "tss": tss, "strand": strands},
        **{"part": own.part, "label": labels},
    }
    found = {name: np.repeat(column[rows], len(spots)) for name, column in columns.items()}
    found |= {"cell": settings["cell"], "mark": "+".join(settings["marks"])}
    found |= {"fold": settings["fold"]["name"]}
    found |= {"location": [spot.location for spot in spots] * len(rows)}
    found |= {"bin": [spot.bin for spot in spots] * len(rows)}
    found |= {"start": [start for start, _ in at], "end": [end for _, end in at]}
    found |= {"unperturbed": plain, "removed": removed, "delta_log2": delta}
    found["ratio"] = np.divide(delta, removed, out=np.full(len(delta), np.nan), where=removed > 0)
    frame = pd.DataFrame(found)[list(COLUMNS)]
    for k, factor in enumerate(options.factors):
        if factor:
            frame[f"p_{factor:g}"] = by_factor[:, k]
    return frame
