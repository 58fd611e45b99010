"""Results of a finished study of DNA on a made-up genome, written by what the rules write with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from epiloom.data.conservation import write_conservation
from epiloom.data.genome import Genome
from epiloom.data.targets import write_target
from epiloom.data.vectors import new_vector
from epiloom.learn.track_metrics import metrics_rows
from epiloom.learn.track_sums import Grid
from epiloom.plan import results, runs
from epiloom.show.tracks import write_bins

ROOT = Path(__file__).resolve().parents[1]
GENOME = Genome("hg19", ("chr1", "chr2", "chr3"), (300_000, 200_000, 8_400_000))
FOLDS = {"fold1": {"validation": ["chr2"], "test": ["chr3"]}}
BIN = 128
LIVELY = ("chr3", 20_000)  # first bin of a stretch with the largest variance by far
STORE = "results/store/hg19"
# how much noise is added to log2(x + 1) of the truth
NOISE = {"epiformer": 0.6, "gc_conservation": 2.5, "kmer_ridge": 2.0, "other_cells": 0.4}


class MadeTracks:
    """Targets, conservation, predictions and metrics; `plan` as it is recorded.

    Args:
        genes: plan of a study of genes in the same folder, to have both.
    """

    def __init__(self, work: Path, tracks: Sequence[str] = ("ASCT", "MSN"), genes=None, **options):
        self.work, self.tracks = work, list(tracks)
        self.noise = NOISE | options.get("noise", {})
        self.shuffled = options.get("shuffled", True)
        self.rng = np.random.default_rng(5)
        self.grid = Grid(GENOME, BIN, np.zeros(GENOME.total(BIN), np.uint8))
        (work / STORE).mkdir(parents=True)
        GENOME.save(work / STORE / "manifest.json", [BIN])
        with new_vector(work / STORE / f"mask/{BIN}.npy", np.uint8, self.grid.total) as mask:
            mask[:] = 0
        self.truths = self._targets()
        self.plan = self._plan(genes)
        (work / "results/provenance.json").write_text(json.dumps(self.plan))
        tables = [self._run(row) for row in self.plan["sequence"]]
        (work / "results/tables").mkdir(exist_ok=True)
        pd.concat(tables).to_csv(work / "results/tables/epiformer.tsv", sep="\t", index=False)

    def _targets(self) -> dict[str, np.ndarray]:
        shape, total = self.rng.gamma(0.25, 4, self.grid.total), self.grid.total
        first = self.grid.span(LIVELY[0]).start + LIVELY[1]
        shape[first : first + 28 : 2] = 90
        lines = ["identifier\tfile\tdescription"]
        for track in self.tracks:
            path = self.work / f"resources/{track}.bw"
            path.parent.mkdir(exist_ok=True)
            write_bins(path, GENOME, BIN, shape * self.rng.gamma(4, 0.25, total))
            write_target(self.work / STORE, track, path, GENOME, BIN, {"clip": 128.0})
            lines.append(f"{track}\t{path}\tcells {track}")
        (self.work / "targets.tsv").write_text("\n".join(lines) + "\n")
        path = self.work / "resources/conservation.bw"
        write_bins(path, GENOME, BIN, self.rng.random(total))
        write_conservation(self.work / STORE, "phastcons", path, GENOME)
        return {t: np.load(self.work / STORE / f"targets{BIN}/{t}.npy") for t in self.tracks}

    def _plan(self, genes: dict | None) -> dict:
        model = {"preset": "tiny", "seq_bp": 4096, "crop_bins": 2, "batch": 8, "accumulate": 1}
        model["shuffled_control"] = self.shuffled
        config = {"cells": [], "marks": [], "folds": FOLDS, "models": {"epiformer": model}}
        config["targets"] = {"table": str(self.work / "targets.tsv")}
        own = results.as_dict(runs.build(config, ROOT, "my.yaml"))
        if not genes:
            return own
        models = genes["config"]["models"] | own["config"]["models"]
        folds = genes["config"]["folds"] | FOLDS
        config = own["config"] | genes["config"] | {"models": models, "folds": folds}
        return genes | {key: own[key] for key in ("sequence", "targets")} | {"config": config}

    def predict(self, noise: float) -> dict[str, np.ndarray]:
        """Vector of each track: the truth, made worse."""
        drawn = {}
        for track, truth in self.truths.items():
            y = np.log2(truth.astype(float) + 1) * 0.7 + self.rng.normal(0, noise, len(truth))
            drawn[track] = np.clip(2**y - 1, 0, 60_000).astype(np.float16)
        return drawn

    def _run(self, row: dict) -> pd.DataFrame:
        """All files of one run; returns its metrics."""
        name = "epiformer_shuffled" if row["shuffled"] else "epiformer"
        if row["shuffled"]:
            size = self.grid.total
            found = {t: self.rng.gamma(1, 1, size).astype(np.float16) for t in self.tracks}
            both = {name: found}
        else:
            both = {key: self.predict(noise) for key, noise in self.noise.items()}
            both["mean"] = {t: np.ones(self.grid.total, np.float16) for t in self.tracks}
            found = both[name]
        folder = self.work / "results/epiformer" / row["run"]
        folder.mkdir(parents=True)
        held = slice(self.grid.span("chr2").start, self.grid.span("chr3").stop)
        np.save(folder / "predictions.npy", np.stack([v[held] for v in found.values()]))
        labels = {"model": "epiformer", "fold": row["fold"]}
        metrics = metrics_rows(self.grid, FOLDS["fold1"], self.truths, both, labels)
        metrics.to_csv(folder / "metrics.tsv", sep="\t", index=False)
        epoch = np.arange(1, 6)
        history = {"epoch": epoch, "train_loss": -2 - epoch / 9, "validation_loss": -2 - epoch / 12}
        history |= {"learning_rate": 1e-4, "best": [0, 0, 0, 1, 0]}
        pd.DataFrame(history).to_csv(folder / "history.tsv", sep="\t", index=False)
        self.log(f"epiformer/{row['run']}/train_model", "INFO train_model: done in 9 s")
        return metrics

    def log(self, name: str, line: str) -> None:
        """A log with its job file."""
        path = self.work / f"logs/{name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"2026-01-01 00:00:00,000 {line}\n")
        job = path.with_name(f"{path.name}.job.json")
        job.write_text(json.dumps({"rule": name.rpartition("/")[2]}))
