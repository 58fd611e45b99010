"""Questions to a trained model of cells: any region in any cell, by the cell's factors alone.

A cell is its vector of factors (TFs): one of the stored ones, or that of a new RNA-seq table laid
on the reference of the training cells (`Asked.new_cell`). Variants: cell_variants.py.

    predicted        signals of regions as blocks of bins, a row per cell and signal
    rank_factors     which factors make up the signals around a position: gradient x expression
    contact_table    attention between the bins of a region, mean of the last layer's heads

Shapes: n windows, N bases, C cells, B bins, S signals, K factors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from epiloom.data.expression_tables import read_matrix
from epiloom.data.genome import Genome
from epiloom.data.geometry import Geometry
from epiloom.data.labels import refuse
from epiloom.data.motif_sets import MotifSet
from epiloom.data.motifs import Scanner
from epiloom.data.sequence import stored_bases
from epiloom.data.tf_expression import Reference, coding_rows, factor_rows, read_vectors
from epiloom.data.vectors import read_about
from epiloom.learn import devices
from epiloom.learn.cell_evaluation import CELLS, predict_cells
from epiloom.learn.cell_settings import (
    BELONGS,
    agreed,
    cells_by_part,
    columns_of,
    open_block,
    open_mean,
)
from epiloom.learn.evaluation import load_weights
from epiloom.learn.predict_regions import Block, predict_regions
from epiloom.learn.region_reader import RegionInputs, mean_of
from epiloom.learn.region_windows import CENTRED, Region, Tiling
from epiloom.plan.errors import InputError

SCALES = ("log1p", "linear")
OVERLAP = 0.25  # of a window: the share that neighbours have in common, where they are blended


@dataclass(frozen=True)
class Asked:
    """A trained model with the genome, motif scores and reference that it goes with.

    Attributes:
        settings: those of its weights. scanner: finds motifs anew; None: only stored scores.
        mean: of training cells, float16 [bins of the genome, signals stored], and columns of the
            model's signals (None: all); None: not among the files.
    """

    spec: Any
    net: torch.nn.Module
    settings: Mapping[str, Any]
    inputs: RegionInputs
    reference: Reference
    scanner: Scanner | None
    device: torch.device
    mean: tuple[np.ndarray, np.ndarray | None] | None = None

    @classmethod
    def open(
        cls,
        spec: Any,
        weights: str | Path,
        files: Mapping[str, Any],
        motifs: MotifSet | None = None,
        device: str = "auto",
        threads: int | None = None,
    ) -> Asked:
        """Open a model.

        Args:
            files: `manifest`, `motifs`, `motif_flags`, `motif_facts`, `reference`, and if wanted
                `mean` and `mean_facts`, as `RegionTable.read` takes them.
            motifs: the set that the stored scores are of; needed for variants, and for regions that
                were not scanned.

        Raises:
            InputError: files of another genome, motif set or reference than the weights'.
        """
        devices.use_cores(threads)
        net, settings = load_weights(spec, weights)
        genome, reference = Genome.load(files["manifest"]), Reference.load(files["reference"])
        block = open_block(files)
        agreed(settings, genome, block, reference)
        if motifs is not None and motifs.checksum != settings[BELONGS]["motifs"]:
            raise InputError("motifs", "are not those of the weights; give the same file and rule")
        bases = stored_bases(Path(files["manifest"]).parent, genome)
        shape = Geometry(settings["seq_bp"], settings["bin_bp"])
        columns = columns_of(settings["tfs"], block.tfs)
        inputs = RegionInputs(genome, shape, bases, block, columns)
        scanner = Scanner(motifs, block.step) if motifs is not None else None
        place = torch.device(devices.pick_device(device))
        mean = _opened_mean(files, settings, genome)
        return cls(spec, net.to(place), settings, inputs, reference, scanner, place, mean)

    @property
    def genome(self) -> Genome:
        return self.inputs.genome

    @property
    def shape(self) -> Geometry:
        return self.inputs.shape

    @property
    def signals(self) -> list[str]:
        return list(self.settings["signals"])

    # --- cells ------------------------------------------------------------------------------------

    def cells(self, vectors: str | Path, names: Sequence[str]) -> np.ndarray:
        """Stored vectors of some cells, float32 [C, K].

        Raises:
            InputError: made with another reference, or cells that are not there.
        """
        there, found = read_vectors(vectors, self.reference)
        refuse(vectors, [f"no cell {n!r}; there are {there[:40]}" for n in names if n not in there])
        return found[[there.index(name) for name in names]]

    def new_cell(
        self,
        table: str | Path | pd.DataFrame,
        names: Sequence[str],
        symbols: Mapping[str, Sequence[str]] | None = None,
        aliases: Mapping[str, str] | None = None,
        missing: str = "refuse",
    ) -> np.ndarray:
        """Vectors of cells of a new table (TPM or RPKM, genes x cells), float32 [C, K].

        Args:
            symbols, aliases: see `tf_expression.factor_rows`; missing: see `Reference.vectors`.
        """
        where = table if isinstance(table, str | Path) else "expression"
        if isinstance(table, str | Path):
            table = read_matrix(table, names)
        own = factor_rows(table, self.reference.factors, symbols, aliases, where)
        genes = coding_rows(table, where=where) if self.reference.genes else None
        return self.reference.vectors(own.values, names, missing, genes)

    # --- one window -------------------------------------------------------------------------------

    def codes(self, chrom: str, start: int) -> np.ndarray:
        """Motif scores of a window on the grid, uint8 [B, K]; stored, else found anew."""
        try:
            return self.inputs.codes(chrom, start // self.shape.bin_bp)
        except InputError:
            if self.scanner is None:
                raise
        return self.scan(self.window(chrom, start, self.reach))

    def scan(self, bases: np.ndarray) -> np.ndarray:
        """The same of the bases of a window and of those beyond its end, into which sites reach."""
        found = self.scanner.codes(bases, self.shape.bin_bp)[: self.shape.bins]
        return found if self.inputs.columns is None else found[:, self.inputs.columns]

    def window(self, chrom: str, start: int, more: int = 0) -> np.ndarray:
        """Bases of a window and `more` behind it, uint8."""
        return self.inputs.bases.window(chrom, start, self.shape.seq_bp + more)

    @property
    def reach(self) -> int:
        """Bases beyond a window that sites which begin in it may take, as whole bins."""
        widest = int(self.scanner.motifs.widths.max())
        return -(-widest // self.shape.bin_bp) * self.shape.bin_bp

    def mean_signals(self, chrom: str, start: int) -> np.ndarray:
        """Mean of the training cells in a window, float32 [B, S] (log1p); NaN = none is known."""
        if self.mean is None:
            raise InputError("mean", "is not among the files; give the mean of the training cells")
        values, columns = self.mean
        return mean_of(values, self.inputs, chrom, start // self.shape.bin_bp, columns)

    def batch(
        self,
        bases: np.ndarray,
        codes: np.ndarray,
        vectors: np.ndarray,
        places: Sequence[tuple[str, int]] = (),
    ) -> dict[str, torch.Tensor]:
        """Inputs of the network on its device: windows [n, ...], each with all cells.

        `places`: chromosome and start of each window, for models that start from the mean.
        """
        cells = np.broadcast_to(vectors, (len(bases), *vectors.shape))
        arrays = {"bases": bases, "motifs": codes, "expression": cells}
        if self.settings.get("from_mean"):
            usual = np.stack([np.nan_to_num(self.mean_signals(*place)) for place in places])
            arrays["mean"] = np.repeat(usual[:, None], len(vectors), axis=1)
        return {k: torch.tensor(v, device=self.device) for k, v in arrays.items()}

    def predict(
        self,
        bases: np.ndarray,
        codes: np.ndarray,
        vectors: np.ndarray,
        places: Sequence[tuple[str, int]] = (),
    ) -> np.ndarray:
        """Signals in units of the network (log1p), float32 [n, C, B, S]; see `batch`."""
        return predict_cells(self.spec, self.net, self.batch(bases, codes, vectors, places))

    def at(self, chrom: str, start: int, vectors: np.ndarray) -> dict[str, torch.Tensor]:
        """`batch` of the window from `start` on, with some cells."""
        bases, codes = self.window(chrom, start), self.codes(chrom, start)
        return self.batch(bases[None], codes[None], vectors, [(chrom, start)])

    def attention(self, chrom: str, start: int, vectors: np.ndarray) -> np.ndarray:
        """Attention between the bins of a window, mean of the last layer's heads.

        From bins (rows, which sum to 1) to bins, float32 [C, B, B]; `start` is on the grid of bins.
        """
        size, found = self.shape.bin_bp, []
        if start % size:
            raise InputError(f"{chrom}:{start}", f"is no multiple of {size}; shift it")
        for first in range(0, len(vectors), CELLS):
            batch = self.at(chrom, start, vectors[first : first + CELLS])
            with torch.inference_mode():
                found.append(self.net.contacts(*self.spec.given(batch))[0].float().cpu().numpy())
        return np.concatenate(found)

    def scaled(self, values: np.ndarray, scale: str) -> np.ndarray:
        """Values as they are (log1p), or as signals (linear)."""
        if scale not in SCALES:
            raise InputError("scale", f"{scale!r}; choose one of {', '.join(SCALES)}")
        if scale == "linear" and self.settings.get("loss") in ("open", "states"):
            raise InputError(
                "scale", "probabilities have no linear scale; take log1p (as they are)"
            )
        return np.expm1(values) if scale == "linear" else values


def _opened_mean(
    files: Mapping[str, Any], settings: Mapping[str, Any], genome: Genome
) -> tuple[np.ndarray, np.ndarray | None] | None:
    if not files.get("mean"):
        return None
    signals = read_about(files["mean_facts"], genome)["signals"]
    values = open_mean(files, cells_by_part(settings)["train"], genome)
    return values, columns_of(settings["signals"], signals)


# --- tracks ---------------------------------------------------------------------------------------


def track_names(asked: Asked, cells: Sequence[str]) -> list[str]:
    """Names of the rows of `predicted`: cell by cell, CELL.SIGNAL."""
    return [f"{cell}.{signal}" for cell in cells for signal in asked.signals]


@dataclass(frozen=True)
class _Places:
    """Hands on where windows lie instead of their bases: motif scores are looked up by place."""

    genome: Genome

    def bases(self, chrom: str, start: int, length: int) -> np.ndarray:
        return np.array([self.genome.index(chrom), start])

    def conservation(self, chrom: str, start: int, length: int) -> np.ndarray:
        return np.zeros(0, np.uint8)


def predicted(
    asked: Asked,
    vectors: np.ndarray,
    regions: Iterable[Region] | None,
    scale: str = "log1p",
    tiling: Tiling | None = None,
) -> Iterator[Block]:
    """Every bin that the regions touch (None: the genome), in genome order.

    Args:
        vectors: float32 [C, K]. scale: log1p, or linear (signals as they were measured).
        tiling: None: neighbouring windows overlap by a quarter and are blended.

    Yields:
        blocks with a row per cell and signal (see `track_names`).
    """
    chromosomes = asked.genome.chromosomes
    asked.scaled(np.zeros(1), scale)  # refuses at once

    def predict(places: np.ndarray, _: np.ndarray) -> np.ndarray:
        rows = [(chromosomes[int(i)], int(start)) for i, start in places]
        bases = np.stack([asked.window(*row) for row in rows])
        made = asked.predict(bases, np.stack([asked.codes(*row) for row in rows]), vectors, rows)
        return made.transpose(0, 1, 3, 2).reshape(len(rows), -1, asked.shape.bins)

    tiling = tiling or Tiling(int(OVERLAP * asked.shape.bins), CENTRED.anchor)
    blocks = predict_regions(
        predict, _Places(asked.genome), regions, asked.genome, asked.shape, tiling, strands=False
    )
    return (Block(b.chrom, b.first, asked.scaled(b.values, scale)) for b in blocks)


# --- factors --------------------------------------------------------------------------------------


def rank_factors(
    asked: Asked,
    chrom: str,
    position: int,
    vector: np.ndarray,
    signals: Sequence[str] | None = None,
    reach_bp: int = 5000,
) -> pd.DataFrame:
    """Factors by how much of the signals around a position they make up.

    A factor's score is the gradient of the predictions, summed over the bins within `reach_bp` and
    over the signals, with respect to its expression, times its expression; that is the sum over all
    bins of the window of the gradient by its feature (motif x expression) times the feature.

    Args:
        position: 0-based, such as a gene's start. vector: float32 [K] of one cell.

    Returns:
        rank (1 = largest absolute score), tf, score, near (share of the bins within reach),
        expression (log1p), sites (bins within reach with a motif).
    """
    names = asked.signals
    chosen = names if signals is None else list(signals)
    refuse("signals", [f"no {s!r}; there are {', '.join(names)}" for s in chosen if s not in names])
    shape = asked.shape
    start = shape.around(position)
    low, high = ((p - start) // shape.bin_bp for p in (position - reach_bp, position + reach_bp))
    near = slice(max(low, 0), min(high + 1, shape.bins))
    batch = asked.at(chrom, start, vector[None])
    codes = batch["motifs"][0].cpu().numpy()
    columns, bins = [names.index(s) for s in chosen], range(near.start, near.stop)
    slope = asked.net.gradient(*asked.spec.given(batch), signals=columns, bins=bins)
    with torch.no_grad():
        parts = slope * asked.net.features(batch["motifs"], batch["expression"])
    parts = parts[0, 0].double().cpu().numpy()
    sums = {"score": parts.sum(axis=0), "near": parts[near].sum(axis=0), "expression": vector}
    sums["sites"] = (codes[near] > 0).sum(axis=0)
    table = pd.DataFrame({"tf": asked.settings["tfs"], **sums})
    order = table["score"].abs().sort_values(ascending=False, kind="stable").index
    table = table.loc[order].reset_index(drop=True)
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    return table


# --- contacts -------------------------------------------------------------------------------------


def contact_table(
    asked: Asked,
    chrom: str,
    start: int,
    vector: np.ndarray,
    least_bp: int = 0,
    most: int | None = None,
    weights: np.ndarray | None = None,
) -> pd.DataFrame:
    """`Asked.attention` between the bins of a window as a table.

    Args:
        vector: float32 [K] of one cell. weights: its attention [B, B]; None: it is computed.
        least_bp: smallest distance of two bins (of their starts). most: rows, the strongest first;
            None: all pairs in order.

    Returns:
        chrom, start1, end1, start2, end2, attention (mean of both directions), forward (from bin 1
        to bin 2), backward.
    """
    shape = asked.shape
    if weights is None:
        weights = asked.attention(chrom, start, vector[None])[0]
    weights = weights.astype(np.float64)
    starts = start + np.arange(shape.bins) * shape.bin_bp
    length = asked.genome.length(chrom)
    inside = np.flatnonzero((starts >= 0) & (starts < length))
    one, two = np.triu_indices(len(inside), max(1, -(-least_bp // shape.bin_bp)))
    one, two = inside[one], inside[two]
    columns = {"chrom": chrom}
    for k, bins in ((1, one), (2, two)):
        columns[f"start{k}"] = starts[bins]
        columns[f"end{k}"] = np.minimum(starts[bins] + shape.bin_bp, length)
    forward, backward = weights[one, two], weights[two, one]
    columns |= {"attention": (forward + backward) / 2, "forward": forward, "backward": backward}
    table = pd.DataFrame(columns)
    if most is None:
        return table
    return table.sort_values("attention", ascending=False, kind="stable", ignore_index=True)[:most]
