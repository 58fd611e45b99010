"""One region of a test chromosome as a model of DNA predicts it, beside what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from epiloom.data.genome import Genome
from epiloom.data.geometry import Geometry
from epiloom.data.vectors import open_vector
from epiloom.plan import runs as plan_runs
from epiloom.plan.errors import InputError
from epiloom.show.canvas import model_name, target_units
from epiloom.show.plots_region import CAPTION, Place, region_figure
from epiloom.show.results import Results, Run
from epiloom.show.track_results import TrackResults

MOST = 18  # tracks drawn
COMPLETE = 0.9  # share of the fullest stretch's bins that a stretch needs to be chosen
GENES = {"gene_id", "gene_name", "chrom", "tss", "strand", "gene_start", "gene_end"}


@dataclass(frozen=True)
class Stored:
    """What a run's region is drawn from. `observed`: a vector of the genome per track."""

    genome: Genome
    shape: Geometry
    tracks: list[str]
    observed: list[np.ndarray]
    mask: np.ndarray
    predicted: np.ndarray  # float16 [tracks, bins of `first`]
    first: dict[str, int]  # first bin of each held-out chromosome there
    tested: list[str]

    def span(self, chrom: str) -> slice:
        """Bins of a chromosome in the vectors of the genome."""
        at, offsets = self.genome.index(chrom), self.genome.offsets(self.shape.bin_bp)
        return slice(int(offsets[at]), int(offsets[at + 1]))

    def predictions(self, track: int, chrom: str) -> np.ndarray:
        span, first = self.span(chrom), self.first[chrom]
        return self.predicted[track, first : first + span.stop - span.start]


def store_of(plan: dict[str, Any]) -> str:
    """The store, relative to the working directory."""
    return f"results/store/{(plan.get('config') or {}).get('assembly', 'hg19')}"


def target_paths(plan: dict[str, Any]) -> dict[str, str]:
    """Track -> its vector, relative to the working directory."""
    models = (plan.get("config") or {}).get("models") or {}
    sizes = [models[row["model"]].get("bin_bp", 128) for row in plan.get("sequence") or []]
    size = sizes[0] if sizes else 128
    return {t: f"{store_of(plan)}/targets{size}/{t}.npy" for t in plan.get("targets") or {}}


def examples(found: Results, dna: TrackResults) -> Iterator[tuple[Figure, str, str]]:
    """Figure, heading and caption of each model's example; none where a file is not there."""
    for model in dna.models:
        for run in dna.runs:
            if run.model != model or run.shuffled:
                continue
            try:
                stored = stored_run(found, run)
                chosen = stored and liveliest(stored)
            except InputError as err:
                found.unreadable += [f"{err.where}: {problem}" for problem in err.problems]
                continue
            if chosen:
                yield _drawn(found, run, stored, chosen)
                break


def stored_run(found: Results, run: Run) -> Stored | None:
    """Predictions of a run with the tracks; None where a file is missing.

    Raises:
        InputError: a file that does not fit the others.
    """
    work, plan = found.work, found.plan
    config = plan.get("config") or {}
    own = (config.get("models") or {}).get(run.model) or {}
    folds = plan_runs.folds({"swap_folds": False, "folds": {}} | config)
    fold = next((fold for fold in folds if fold["name"] == run.fold), None)
    if fold is None or not {"seq_bp", "bin_bp", "crop_bins"} <= set(own):
        return None
    shape = Geometry(own["seq_bp"], own["bin_bp"], own["crop_bins"])
    store, path = work / store_of(plan), work / run.folder / "predictions.npy"
    targets = {track: work / file for track, file in target_paths(plan).items()}
    manifest, mask = store / "manifest.json", store / f"mask/{shape.bin_bp}.npy"
    if not all(p.exists() for p in (path, manifest, mask, *targets.values())):
        return None
    genome = Genome.load(manifest)
    total = genome.total(shape.bin_bp)
    counts = dict(zip(genome.chromosomes, genome.bins(shape.bin_bp).tolist(), strict=True))
    first, used = {}, 0
    for chrom in genome.chromosomes:
        if chrom in {*fold["validation"], *fold["test"]}:
            first[chrom] = used
            used += counts[chrom]
    return Stored(
        genome,
        shape,
        list(targets),
        [open_vector(file, np.float16, total) for file in targets.values()],
        open_vector(mask, np.uint8, total),
        _predictions(path, (len(targets), used)),
        first,
        [chrom for chrom in first if chrom in fold["test"]],
    )


def _predictions(path: Path, shape: tuple[int, int]) -> np.ndarray:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as err:
        again = "delete it and run the workflow again"
        raise InputError(path, f"cannot be read ({err}); {again}") from err
    if values.shape != shape:
        again = "delete it and run the workflow again"
        raise InputError(path, f"shape {values.shape} instead of {shape}; {again}")
    return values


def liveliest(stored: Stored) -> tuple[str, int, int] | None:
    """(chromosome, first bin, last bin) of as many bins as the model predicts at once.

    The one with the largest variance of the measured log2(x + 1), mean over tracks, of those with
    (nearly) all bins measured and predicted; the first of equals. None if nothing was predicted.
    """
    found = []
    for chrom in stored.tested:
        span, bins = stored.span(chrom), stored.shape.bins
        count = span.stop - span.start
        bins = min(bins, count)
        starts = np.arange(0, count - bins + 1, max(bins // 4, 1))
        usable = stored.mask[span] == 0
        there, variance = np.zeros(len(starts)), np.zeros(len(starts))
        for track, vector in enumerate(stored.observed):
            own = np.asarray(vector[span], np.float64)
            known = usable & np.isfinite(own) & np.isfinite(stored.predictions(track, chrom))
            y = np.log2(np.where(known, np.maximum(own, 0), 0) + 1)
            n, total, squares = (_within(v, starts, bins) for v in (known, y, y * y))
            there += n
            number = np.maximum(n, 1)
            variance += squares / number - (total / number) ** 2
        places = zip(starts.tolist(), there, variance, strict=True)
        found += [(chrom, start, bins, n, total) for start, n, total in places]
    fullest = max((n for *_, n, _ in found), default=0)
    complete = [row for row in found if row[3] >= COMPLETE * fullest > 0]
    if not complete:
        return None
    chrom, first, bins, *_ = max(complete, key=lambda row: row[4])
    return chrom, first, first + bins


def _within(values: np.ndarray, starts: np.ndarray, bins: int) -> np.ndarray:
    """Sums over stretches of bins, [starts]."""
    upto = np.concatenate([[0], np.cumsum(values, dtype=np.float64)])
    return upto[starts + bins] - upto[starts]


def _drawn(
    found: Results, run: Run, stored: Stored, chosen: tuple[str, int, int]
) -> tuple[Figure, str, str]:
    chrom, first, last = chosen
    size = stored.shape.bin_bp
    place = Place(chrom, first * size, min(last * size, stored.genome.length(chrom)))
    options = (found.plan.get("config") or {}).get("targets") or {}
    units = target_units(options)
    scores = _conservation(found, run, stored.genome, place)
    with_genes = len(found.genes) and set(found.genes.columns) >= GENES
    genes = found.genes if with_genes else None
    table = _table(stored, chosen)
    figure = region_figure(table, place, units, scores, genes, title=model_name(run.model))
    many = f" The first {MOST} of {len(stored.tracks)} tracks are drawn."
    caption = (
        f"{CAPTION if with_genes else CAPTION.partition(' Genes:')[0]} Chosen by a rule, not by "
        f"eye: of all stretches of {last - first} bins on the test chromosomes of {run.fold} the "
        "one where the measured log2(x + 1) varies most, mean over tracks. Lively places are easier"
        f" than others, so r here is no measure of the model."
        f"{many if len(stored.tracks) > MOST else ''}"
    )
    return figure, f"An example of {model_name(run.model)}", caption


def _table(stored: Stored, chosen: tuple[str, int, int]) -> pd.DataFrame:
    chrom, first, last = chosen
    size = stored.shape.bin_bp
    starts = np.arange(first, last) * size
    begin = stored.span(chrom).start
    rows = [
        pd.DataFrame(
            {
                "chrom": chrom,
                "start": starts,
                "end": np.minimum(starts + size, stored.genome.length(chrom)),
                "track": track,
                "predicted": stored.predictions(k, chrom)[first:last].astype(np.float32),
                "observed": stored.observed[k][begin + first : begin + last].astype(np.float32),
            }
        )
        for k, track in enumerate(stored.tracks[:MOST])
    ]
    return pd.concat(rows, ignore_index=True)


def _conservation(found: Results, run: Run, genome: Genome, place: Place) -> np.ndarray | None:
    """Scores of the region, if the model reads any and they are there."""
    config = found.plan["config"]
    name = (config.get("sequence") or {}).get("conservation")
    path = found.work / store_of(found.plan) / f"conservation/{name}.npy"
    if config["models"][run.model].get("conservation") == "off" or not path.exists():
        return None
    try:
        vector = open_vector(path, np.uint8, genome.total(1))
    except InputError as err:
        found.unreadable += [f"{err.where}: {problem}" for problem in err.problems]
        return None
    at = int(genome.offsets(1)[genome.index(place.chrom)])
    return np.asarray(vector[at + place.start : at + place.end])
