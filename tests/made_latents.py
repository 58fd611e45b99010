"""Results of a finished study that compresses tracks, in the tables and folders of the rules."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from epiloom.plan import results, runs
from epiloom.plan.downstream import TASKS
from epiloom.show.latent_results import COLUMNS
from epiloom.studies import downstream_tables
from epiloom.studies.downstream_tables import Outcome

ROOT = Path(__file__).resolve().parents[1]
CELLS, ASSAYS = ("E003", "E116"), ("H3K4me3", "H3K27ac", "DNase")
FOLDS = {
    "fold1": {"validation": ["chr1"], "test": ["chr2"]},
    "fold2": {"validation": ["chr3"], "test": ["chr4"]},
}
R2 = {"epi_lstm": 0.82, "pca": 0.61}
TASK_CELLS = {"promoter_enhancer": ("E116",)}
# how far the scores of positives stand apart
SKILL = {"latents": 2.0, "pca": 1.2, "raw": 2.0, "prevalence": 0.0, "cell_average": 0.8}
REGION = "chr2:100000-200000"
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)


class MadeLatents:
    """All that the report reads of an Epi-LSTM; `plan` as it is recorded.

    Args:
        folds: names of the folds that were trained. tasks: downstream tasks.
        beside: plan of another study in the same folder, to have both.
        r2: by predictor; skill: by predictor of the tasks; draws: 0 makes intervals undefined.
    """

    def __init__(self, work: Path, folds: Sequence[str] = ("fold1",), **options):
        self.work, self.folds = work, list(folds)
        self.r2 = R2 | options.get("r2", {})
        self.skill = SKILL | options.get("skill", {})
        self.tasks = list(options.get("tasks", TASKS))
        self.simulated = options.get("simulated", False)
        self.draws = options.get("draws", 200)
        self.rng = np.random.default_rng(3)
        self.plan = self._plan(options.get("beside"))
        self.channels = self.plan["frames"][0]["channels"]
        (work / "results/tables").mkdir(parents=True, exist_ok=True)
        (work / "results/provenance.json").write_text(json.dumps(self.plan))
        self.metrics = pd.concat([self._run(name) for name in self.folds])
        self.write("results/tables/epi_lstm.tsv", self.metrics)
        if self.tasks:
            self._tasks()

    def write(self, path: str, table: pd.DataFrame) -> None:
        path = self.work / path
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(path, sep="\t", index=False)

    def _plan(self, beside: dict | None) -> dict:
        model = {"latent": 24, "folds": self.folds, "regions": [REGION], "tracks": ["chr2"]}
        sizes = {"seed": 1, "chromosomes": 4, "length_bp": 600_000, "gene_spacing_bp": 20_000}
        config = {
            "simulate": sizes | {"cells": list(CELLS), "assays": list(ASSAYS)},
            **{"cells": list(CELLS), "marks": list(ASSAYS), "bins_bp": [25, 100], "folds": FOLDS},
            "models": {"epi_lstm": model},
            "downstream": {"tasks": self.tasks},
        }
        self.built = runs.build(config, ROOT, "my.yaml")
        own = results.as_dict(self.built) | {"simulated": self.simulated}
        if not beside:
            return own
        models = beside["config"]["models"] | own["config"]["models"]
        told = {"models": models, "folds": FOLDS | beside["config"]["folds"]}
        told |= {"downstream": own["config"]["downstream"]}
        config = own["config"] | beside["config"] | told
        return beside | {"frames": own["frames"], "config": config}

    def _run(self, fold: str) -> pd.DataFrame:
        """Tables of one run; returns its metrics."""
        folder = f"results/epi_lstm/{fold}"
        metrics = self._metrics(fold)
        self.write(f"{folder}/metrics.tsv", metrics)
        epoch = np.arange(1, 4)
        history = {"epoch": epoch, "train_loss": 0.9 / epoch, "validation_loss": 1 / epoch}
        history |= {"learning_rate": [0.009, 0.003, 2e-6], "best": 1}
        self.write(f"{folder}/history.tsv", pd.DataFrame(history))
        lag = np.array([1, 4, 10, 40, 100, 400])
        smooth = {"lag": lag, "bp": 25 * lag, "r2": 0.95 ** np.sqrt(lag), "pairs": 999}
        self.write(f"{folder}/smoothness.tsv", pd.DataFrame(smooth | {"latents": 24}))
        rows = [
            {"latent": k, "value": value, "r": self.rng.uniform(-0.6, 0.6), "bins": 90_000}
            for value in ("gc", "conservation")
            for k in range(1, 25)
        ]
        self.write(f"{folder}/correlations.tsv", pd.DataFrame(rows))
        self.write(f"{folder}/positions.tsv", self._positions())
        shares = {"assay": ASSAYS, "epigenome": CELLS}
        rows = [
            {"kind": kind, "name": name, "share": 1 / len(names), "channels": 6 // len(names)}
            for kind, names in shares.items()
            for name in names
        ]
        self.write(f"{folder}/attribution.tsv", pd.DataFrame(rows))
        picture = self.work / folder / "regions/chr2_100000-200000.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(PIXEL)
        self.log(f"epi_lstm/{fold}/train_model", "INFO train_model: done in 9 s")
        return metrics

    def _metrics(self, fold: str) -> pd.DataFrame:
        rows = []
        for part in ("validation", "test"):
            for name, r2 in self.r2.items():
                for place, track in enumerate([*self.channels, "mean"]):
                    value = r2 if track == "mean" else r2 + 0.02 * (place - 2.5)
                    labels = ["epi_lstm", fold, part, track, name]
                    rows.append([*labels, 23_000, value, np.sqrt(max(value, 0)), 1 - value])
        return pd.DataFrame(rows, columns=COLUMNS)

    def _positions(self) -> pd.DataFrame:
        n = 300
        table = {"chrom": "chr1", "bin": np.arange(n), "start": 25 * np.arange(n)}
        table |= {"class": np.repeat(["TSS ± 1 kb", "gene body", "elsewhere"], n // 3)}
        table |= {"cluster": np.arange(n) % 6 + 1}
        table |= {"pc1": self.rng.normal(size=n), "pc2": self.rng.normal(size=n)}
        return pd.DataFrame(table | {"explained1": 0.5, "explained2": 0.2})

    def _tasks(self) -> None:
        """Downstream tasks of every run, and the tables over all of them."""
        whole: dict[str, list[pd.DataFrame]] = {"metrics": [], "differences": []}
        for fold in self.folds:
            trained = {"latents": [c for c in ("chr2", "chr4") if c not in FOLDS[fold]["test"]]}
            for task in self.tasks:
                outcomes = list(self._outcomes(task))
                chroms = np.repeat(["chr2", "chr4"], 100)
                tables = {
                    "metrics": downstream_tables.metrics_table(task, chroms, outcomes, trained),
                    "differences": downstream_tables.differences_table(task, outcomes, "latents"),
                    "curves": downstream_tables.curves_table(task, outcomes),
                    "scores": downstream_tables.scores_table(task, chroms, chroms, outcomes),
                }
                for kind, table in tables.items():
                    end = "tsv.gz" if kind == "scores" else "tsv"
                    self.write(f"results/epi_lstm/{fold}/downstream/{task}.{kind}.{end}", table)
                for kind, parts in whole.items():
                    told = {"model": "epi_lstm", "run": fold}
                    parts.append(tables[kind].assign(**told)[[*told, *tables[kind].columns]])
        self.write("results/tables/downstream.tsv", pd.concat(whole["metrics"]))
        self.write("results/tables/downstream.differences.tsv", pd.concat(whole["differences"]))

    def _outcomes(self, task: str):
        for cell in TASK_CELLS.get(task, CELLS):
            positive = self.rng.random(200) < 0.3
            for scheme, folds in (("chromosomes", ("fold1", "fold2")), ("shuffled", ("0", "1"))):
                for name, skill in self.skill.items():
                    if name == "cell_average" and task in TASK_CELLS:
                        continue
                    for place, fold in enumerate(folds):
                        rows = np.arange(100) + 100 * place
                        if scheme == "shuffled":
                            rows = np.arange(place, 200, 2)
                        own = positive[rows]
                        score = skill * own + self.rng.normal(size=100) * (skill > 0)
                        drawn = skill / 4 + 0.03 * self.rng.normal(size=self.draws or 1)
                        drawn = drawn if self.draws else np.array([np.nan])
                        yield Outcome(cell, scheme, fold, name, rows, own, score, drawn, 9)

    def log(self, name: str, line: str) -> None:
        """A log with its job file."""
        path = self.work / f"logs/{name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"2026-01-01 00:00:00,000 {line}\n")
        job = path.with_name(f"{path.name}.job.json")
        job.write_text(json.dumps({"rule": name.split("/")[-1]}))
