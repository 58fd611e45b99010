"""Models of DNA from files to files: predict the held-out chromosomes, and measure it.

Predictions of a run are one array, float16 [tracks, bins]: the bins of its validation and test
chromosomes, joined in the order of the genome.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from epiloom.data.bed import read_bed
from epiloom.data.conservation import stored_conservation
from epiloom.data.files import atomic
from epiloom.data.genome import Genome
from epiloom.data.sequence import stored_bases
from epiloom.data.targets import StoredTargets, level_warnings
from epiloom.data.window_reader import WindowReader
from epiloom.data.windows import inner_bins
from epiloom.learn import devices, track_baselines, track_metrics
from epiloom.learn.evaluation import load_model
from epiloom.learn.predict_regions import predict_regions
from epiloom.learn.region_windows import CENTRED, Region, Tiling
from epiloom.learn.track_sums import Grid
from epiloom.learn.windows import geometry_of
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

PARTS = ("validation", "test")
BATCH = 8  # windows at a time
GRID = Tiling(anchor=0)  # windows at fixed places, so that a bin does not depend on what is asked


def predictor(
    spec: Any, weights: str | Path, device: str = "auto", threads: int | None = None
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A function from bases and conservation, uint8 [n, L], to tracks, float32 [n, T, K].

    Evaluation mode, linear scale, one strand; `BATCH` windows at a time.
    """
    devices.use_cores(threads)
    place = torch.device(devices.pick_device(device))
    net = load_model(spec, weights).to(place)

    def predict(bases: np.ndarray, conservation: np.ndarray) -> np.ndarray:
        found = []
        with torch.no_grad():
            for first in range(0, len(bases), BATCH):
                part = slice(first, first + BATCH)
                inputs = (
                    torch.from_numpy(np.ascontiguousarray(values[part])).to(place)
                    for values in (bases, conservation)
                )
                found.append(spec.output(net(*inputs).float()).cpu().numpy())
        return np.concatenate(found)

    return predict


def gradient(
    spec: Any, weights: str | Path, device: str = "auto", threads: int | None = None
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A function from bases and conservation, uint8 [n, L], to gradients, float32 [n, 4, L].

    Of the predicted signal, summed over tracks and bins, with respect to a one-hot base: what a
    little of that base would add there.
    """
    devices.use_cores(threads)
    place = torch.device(devices.pick_device(device))
    net = load_model(spec, weights).to(place)

    def slopes(bases: np.ndarray, conservation: np.ndarray) -> np.ndarray:
        codes, scores = (torch.from_numpy(v).to(place) for v in (bases, conservation))
        letters = torch.zeros_like(codes)
        rows = [net.encode(letters + k, scores)[:, k : k + 1] for k in range(4)]
        factor = torch.cat(rows, dim=1)  # what stands in a row where its base is
        read = net.encode(codes, scores).requires_grad_()
        (slope,) = torch.autograd.grad(spec.output(net.logits(read)).sum(), read)
        return (slope[:, :4] * factor).float().cpu().numpy()

    return slopes


def observed(settings: Mapping[str, Any], files: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The measured tracks of a run, float16 [genome.total(bin_bp)] each."""
    store, genome = Path(files["manifest"]).parent, Genome.load(files["manifest"])
    stored = StoredTargets(store, settings["tracks"], genome, settings["bin_bp"])
    for line in level_warnings({a["identifier"]: a["mean"] for a in stored.about}):
        log.warning("targets: %s", line)
    return dict(zip(settings["tracks"], stored.vectors, strict=True))


def held_out(settings: Mapping[str, Any], genome: Genome) -> list[str]:
    """Validation and test chromosomes of a run, in the order of the genome."""
    apart = {chrom for part in PARTS for chrom in settings["fold"][part]}
    return [chrom for chrom in genome.chromosomes if chrom in apart]


def predict_held_out(
    spec: Any,
    settings: Mapping[str, Any],
    files: Mapping[str, Any],
    weights: str | Path,
    out: str | Path,
    threads: int | None = None,
) -> None:
    """Write the predictions of a run for its held-out chromosomes, averaged over both strands.

    Args:
        files: see `plan.sequence.example_files`. out: the .npy to write (see the top of the file).
    """
    store, shape = Path(files["manifest"]).parent, geometry_of(settings)
    reader = WindowReader.stored(store, [], settings["conserved_by"], shape)
    genome = reader.genome
    chroms = held_out(settings, genome)
    regions, tiling = asked(files, chroms, genome, shape.bin_bp)
    first = _first(chroms, genome, shape.bin_bp)
    with atomic(out) as tmp:
        total = first[None]
        size = (len(settings["tracks"]), total)
        values = np.lib.format.open_memmap(tmp, "w+", np.float16, size)
        values[:] = np.nan
        predict = predictor(spec, weights, threads=threads)
        for block in predict_regions(predict, reader, regions, genome, shape, tiling):
            at = first[block.chrom] + block.first
            values[:, at : at + block.values.shape[1]] = block.values
        values.flush()
        del values


def asked(
    files: Mapping[str, Any], chroms: Sequence[str], genome: Genome, bin_bp: int
) -> tuple[list[Region], Tiling]:
    """What to predict of some chromosomes: all, or the regions of the configuration on them."""
    if "within" not in files:
        return [(chrom, 0, genome.length(chrom)) for chrom in chroms], GRID
    regions = [region for region in _within(files, genome, bin_bp) if region[0] in chroms]
    if not regions:
        raise InputError(files["within"], "no region lies on a held-out chromosome; add some")
    return regions, CENTRED


def _within(files: Mapping[str, Any], genome: Genome, bin_bp: int) -> list[Region]:
    """The regions of the configuration, cut to whole bins."""
    inner = inner_bins(read_bed(files["within"], genome), genome, bin_bp)
    return [(chrom, first * bin_bp, last * bin_bp) for chrom, first, last in inner]


def _first(chroms: list[str], genome: Genome, bin_bp: int) -> dict[str | None, int]:
    """First bin of each chromosome in an array of these alone; under None, their number."""
    counts = [int(genome.bins(bin_bp)[genome.index(chrom)]) for chrom in chroms]
    places = np.concatenate([[0], np.cumsum(counts)]).tolist()
    return dict(zip([*chroms, None], places, strict=True))


def evaluate(
    model: str, settings: Mapping[str, Any], files: Mapping[str, Any], predictions: str | Path
) -> pd.DataFrame:
    """Metrics of a run and of the baselines (columns `track_metrics.COLUMNS`).

    Args:
        files: as `predict_held_out`; `peaks`, if there, are vectors of labels named by their track.
        predictions: written by `predict_held_out`.
    """
    genome, size, tracks = Genome.load(files["manifest"]), settings["bin_bp"], settings["tracks"]
    mask = np.load(files["mask"], mmap_mode="r", allow_pickle=False)
    grid = Grid(genome, size, mask)
    truths = observed(settings, files)
    chroms = held_out(settings, genome)
    found = _spread(predictions, chroms, grid, len(tracks))
    name = f"{model}_shuffled" if settings["shuffled"] else model
    both = {name: dict(zip(tracks, found, strict=True))}
    if not settings["shuffled"]:  # a control of the model alone
        both |= _baselines(settings, files, grid, truths, chroms)
    peaks = files.get("peaks") or []
    paths = [peaks] if isinstance(peaks, str) else peaks
    labels = {Path(path).stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in paths}
    return track_metrics.metrics_rows(
        grid,
        {part: settings["fold"][part] for part in PARTS},
        truths,
        both,
        {"model": model, "fold": settings["fold"]["name"]},
        peaks=labels,
        seed=settings["seed"],
    )


def _spread(path: str | Path, chroms: list[str], grid: Grid, tracks: int) -> np.ndarray:
    """Predictions on the bins of the whole genome, float16 [tracks, grid.total]."""
    values = np.load(path, mmap_mode="r", allow_pickle=False)
    first = _first(chroms, grid.genome, grid.bin_bp)
    if values.shape != (tracks, first[None]):
        raise InputError(
            path,
            f"shape {values.shape} instead of {(tracks, first[None])}; predict again",
        )
    wide = np.full((tracks, grid.total), np.nan, np.float16)
    for chrom in chroms:
        span = grid.span(chrom)
        wide[:, span] = values[:, first[chrom] : first[chrom] + span.stop - span.start]
    return wide


def _baselines(
    settings: Mapping[str, Any],
    files: Mapping[str, Any],
    grid: Grid,
    truths: Mapping[str, np.ndarray],
    chroms: list[str],
) -> dict[str, dict[str, np.ndarray]]:
    """What simple predictors say of the held-out chromosomes: name -> track -> vector."""
    genome, conserved = grid.genome, settings["conserved_by"]
    store, regions = Path(files["manifest"]).parent, None
    if "within" in files:  # where they are one per contig, position in them may mean something
        inner = _within(files, genome, grid.bin_bp)
        regions = pd.DataFrame(inner, columns=["chrom", "start", "end"])
    scores = stored_conservation(store, conserved, genome).vector if conserved else None
    apart = set(chroms)
    data = track_baselines.Data(
        grid,
        truths,
        [chrom for chrom in genome.chromosomes if chrom not in apart],
        settings["fold"]["validation"],
        stored_bases(store, genome).vector,
        scores,
    )
    made = {}
    for name, baseline in track_baselines.fit(data, regions, settings["seed"]).items():
        vectors = track_baselines.vectors(baseline, grid, chroms, len(truths))
        made[name] = dict(zip(truths, vectors, strict=True))
    return made
