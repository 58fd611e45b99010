"""Questions to a trained model of DNA, from files to results: regions, variants, bases, motifs.

Shapes: n windows, L bases, T tracks, P bases of an interval.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from epiloom.data import motif_files
from epiloom.data import variants as variant_files
from epiloom.data.bed import parse_region, read_bed
from epiloom.data.genome import Genome
from epiloom.data.geometry import Geometry
from epiloom.data.window_reader import WindowReader
from epiloom.learn import dna
from epiloom.learn.predict_regions import Block, Predict, predict_regions
from epiloom.learn.region_windows import Region
from epiloom.learn.windows import WindowTable, geometry_of
from epiloom.plan.errors import InputError
from epiloom.studies import motif_discovery, motif_matching, mutagenesis, variants
from epiloom.studies.variant_background import Matching, background, percentiles

log = logging.getLogger("epiloom")

_NAMED = re.compile(r"(.+)_(\d+)-(\d+)")  # a region as part of a file's name


@dataclass(frozen=True)
class Asked:
    """A trained model, and the genome store that it reads.

    Attributes:
        predict: uint8 [n, L] bases, uint8 [n, L] conservation -> float32 [n, T, bins].
        tracks: names of the T tracks.
    """

    predict: Predict
    reader: WindowReader
    geometry: Geometry
    tracks: list[str]

    @classmethod
    def open(
        cls,
        spec: Any,
        settings: Mapping[str, Any],
        files: Mapping[str, Any],
        weights: str | Path,
        threads: int | None = None,
    ) -> Asked:
        """Args as `learn.dna.predict_held_out`."""
        shape, store = geometry_of(settings), Path(files["manifest"]).parent
        reader = WindowReader.stored(store, [], settings["conserved_by"], shape)
        predict = dna.predictor(spec, weights, threads=threads)
        return cls(predict, reader, shape, list(settings["tracks"]))

    @property
    def genome(self) -> Genome:
        return self.reader.genome


def region_of(name: str, genome: Genome) -> tuple[str, int, int]:
    """The region that a file's name stands for: `chr1_100-200` is chr1, bases 100 to 200.

    Raises:
        InputError: not of this form, or not on the genome.
    """
    found = _NAMED.fullmatch(name)
    if not found:
        raise InputError(f"region '{name}'", "is not of the form CHROM_START-END; correct it")
    return parse_region(f"{found[1]}:{found[2]}-{found[3]}", genome)


def regions_of(place: str, genome: Genome, bed: str | Path | None) -> list[Region] | None:
    """The regions that a place stands for: `bed`, `all` (None), or the name of a chromosome.

    Raises:
        InputError: the BED file cannot be read or has no region.
    """
    if place == "all":
        return None
    if place != "bed":
        return [(place, 0, genome.length(place))]
    table = read_bed(bed, genome)
    if table.empty:
        raise InputError(bed, "has no region; give at least one line")
    return list(table[["chrom", "start", "end"]].itertuples(index=False, name=None))


def predicted(asked: Asked, regions: Iterable[Region] | None) -> Iterator[Block]:
    """Every bin of the regions (None: of the genome), predicted from both strands."""
    return predict_regions(asked.predict, asked.reader, regions, asked.genome, asked.geometry)


def scored(asked: Asked, path: str | Path, matched: int, seed: int) -> pd.DataFrame:
    """Scores of the variants of a file, with percentiles among random substitutions.

    Args:
        path: VCF or table, see `data.variants.read`.
        matched: random substitutions drawn for each variant; 0 for none, and no percentiles.

    Raises:
        InputError: variants that cannot be read or do not fit the genome.
    """
    read = variant_files.read(path)
    checked = variant_files.check(read, path, asked.genome, asked.reader)
    log.info("%s: %s", path, ", ".join(f"{n} {what}" for what, n in checked.counts.items()))
    parts = (asked.predict, asked.reader, asked.geometry, asked.tracks)
    own = variants.score(checked.table, *parts)
    if not matched or own.empty:
        return own
    drawn = background(checked.table, asked.reader, asked.genome, Matching(matched, seed))
    return percentiles(own, variants.score(drawn, *parts), drawn["of"])


def mutated(asked: Asked, region: tuple[str, int, int]) -> mutagenesis.Map:
    """Effects of all substitutions in a region."""
    mutagenesis.check(*region, asked.genome)
    return mutagenesis.mutate(*region, asked.predict, asked.reader, asked.geometry, asked.tracks)


@dataclass(frozen=True)
class Motifs:
    """Motifs of a model, the known ones that they resemble, and those known."""

    found: list[motif_discovery.Found]
    matches: pd.DataFrame
    known: dict[str, np.ndarray]


def motifs(
    spec: Any,
    settings: Mapping[str, Any],
    files: Mapping[str, Any],
    weights: str | Path,
    known: str | Path,
    windows: int,
    threads: int | None = None,
) -> Motifs:
    """Motifs in the test windows with the most signal, by gradient x input.

    Args:
        known: motif file, see `data.motif_files.read`. windows: how many are attributed.
    """
    examples = WindowTable.read(settings, files).examples("test")
    level = np.nanmean(examples.truth.astype(np.float32), axis=(1, 2))
    chosen = np.argsort(-np.nan_to_num(level, nan=-1.0), kind="stable")[:windows]
    gradient = dna.gradient(spec, weights, threads=threads)
    shape, bases, values = geometry_of(settings), [], []
    inner = slice(shape.crop_bp, shape.crop_bp + shape.target_bp)
    for at in np.array_split(np.sort(chosen), -(-len(chosen) // dna.BATCH)):
        batch = examples.batch(at)
        bases.append(batch["bases"][:, inner])
        values.append(gradient(batch["bases"], batch["conservation"])[:, :, inner])
    attributed = np.concatenate(values)
    attributed -= attributed.mean(axis=1, keepdims=True)  # what the base adds to the mean of four
    found = motif_discovery.discover(np.concatenate(bases), attributed)
    book = motif_files.read(known)
    matches = motif_matching.match(found, book)
    return Motifs(found, matches, {motif.name: motif.probabilities for motif in book})
