"""Results of a finished study that predicts cells, in the tables and folders that the rules write.

Metrics follow from drawn signals, by the code that the rules run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from epiloom.learn.cell_metrics import (
    CellMetrics,
    leave_one_out,
    metrics_rows,
    partners_of,
    training_mean,
)
from epiloom.plan import results, runs, unprofiled

ROOT = Path(__file__).resolve().parents[1]
CELLS = {
    "train": ["E003", "E004", "E005", "E016"],
    "validation": ["E087"],
    "test": ["E116", "E066", "E118"],
}
SIGNALS = ["DNase", "H3K27ac", "H3K4me3"]
FOLDS = {
    "fold1": {"validation": ["chr1"], "test": ["chr2"]},
    "fold2": {"validation": ["chr3"], "test": ["chr4"]},
}
BINS, SEQ_BP = 400, 16_384


class MadeCells:
    """All that the report reads of an EpiGePT; `plan` as it is recorded.

    Args:
        folds: names of the folds that were trained. cells: by part. signals: their names.
        cell_folds: as in the configuration, instead of the parts of `cells`.
        knows: signal -> how much the model knows of a cell beyond the mean of the training cells:
            1 all, 0 nothing, below 0 worse than that; a number for all signals.
        missing: (cell, signal) that were not measured. loops: whether there are tables of them.
        beside: plan of another study in the same folder, to have both. model: more settings.
    """

    def __init__(self, work: Path, folds: Sequence[str] = ("fold1",), **options):
        self.work, self.folds = work, list(folds)
        self.cells = options.get("cells", CELLS)
        self.cell_folds = options.get("cell_folds")
        self.signals = list(options.get("signals", SIGNALS))
        knows = options.get("knows", 0.6)
        self.knows = knows if isinstance(knows, dict) else dict.fromkeys(self.signals, knows)
        self.missing = options.get("missing", ())
        self.settings = options.get("model", {})
        self.rng = np.random.default_rng(5)
        self.plan = self._plan(options.get("beside"))
        (work / "results/tables").mkdir(parents=True, exist_ok=True)
        (work / "results/provenance.json").write_text(json.dumps(self.plan))
        for fold in self.built.cell_folds["epigept"]:
            self._data(unprofiled.folder("epigept", fold))
        self.metrics = pd.concat([self._run(*run) for run in self.built.runs.items()])
        self.write("results/tables/epigept.tsv", self.metrics)
        if options.get("loops"):
            for fold in self.folds:
                self.write(f"results/epigept/{fold}/loops.tsv", self._loops(fold))

    def write(self, path: str, table: pd.DataFrame) -> None:
        path = self.work / path
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(path, sep="\t", index=False)

    def _plan(self, beside: dict | None) -> dict:
        every = [cell for names in self.cells.values() for cell in names]
        model = {"preset": "small", "seq_bp": SEQ_BP, "cells": every, "folds": self.folds}
        if self.cell_folds:
            model |= {"cell_folds": self.cell_folds}
        else:
            model |= {f"{part}_cells": self.cells[part] for part in ("validation", "test")}
        model |= {"signal": "pval", "signals": self.signals} | self.settings
        sizes = {"seed": 1, "chromosomes": 6, "length_bp": 600_000, "gene_spacing_bp": 20_000}
        config = {
            "simulate": sizes | {"cells": every, "assays": self.signals},
            **{"cells": every[:1], "marks": self.signals[:1], "folds": FOLDS},
            "bins_bp": [100, 128],
            "models": {"epigept": model},
        }
        self.built = runs.build(config, ROOT, "my.yaml")
        own = results.as_dict(self.built) | {"simulated": False}
        if not beside:
            return own
        models = beside["config"]["models"] | own["config"]["models"]
        folds = FOLDS | beside["config"]["folds"]
        config = own["config"] | beside["config"] | {"models": models, "folds": folds}
        return beside | {"cell_models": own["cell_models"], "config": config}

    def _data(self, place: str) -> None:
        """Regions, scales and TFs."""
        folder = self.work / "results" / place
        for name in ("signals", "factors"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        lines = [
            f"chr{c}\t{k * SEQ_BP}\t{(k + 1) * SEQ_BP}\t128" for c in range(1, 7) for k in range(10)
        ]
        (self.work / "results/epigept/regions.bed").write_text("\n".join(lines) + "\n")
        scales = {"signals": self.signals, "kinds": ["pval"] * len(self.signals)}
        (folder / "signals/scales.json").write_text(json.dumps(scales))
        told = {"factors": [f"TF{k}" for k in range(30)], "left_out": ["TF30", "TF31"]}
        (folder / "factors/reference.json").write_text(json.dumps(told))

    def _run(self, key: tuple[str, str], settings: dict) -> pd.DataFrame:
        """Tables of one run; returns its metrics."""
        fold, self.cells = key[1], settings["cells"]
        sides = {"validation": ("validation",), "cross_cell": ("test",)}
        sides |= {"cross_region": ("train",), "cross_both": ("test",)}
        asked = {p: self.cells[s[0]] or self.cells["train"] * (p == "validation")
                 for p, s in sides.items()}  # fmt: skip
        parts = {part: self._part(cells) for part, cells in asked.items() if cells}
        metrics = metrics_rows(parts, {"model": "epigept", "fold": fold}, "epigept")
        self.write(f"results/epigept/{fold}/metrics.tsv", metrics)
        epoch = np.arange(1, 4)
        history = {"epoch": epoch, "train_loss": 0.9 / epoch, "validation_loss": 1 / epoch}
        history |= {"learning_rate": [1e-4, 5e-5, 1e-6], "best": (epoch == 3).astype(int)}
        self.write(f"results/epigept/{fold}/history.tsv", pd.DataFrame(history))
        return metrics

    def _part(self, cells: list[str]) -> CellMetrics:
        train, n = self.cells["train"], len(self.signals)
        base = self.rng.gamma(1, 0.8, (BINS, n))
        of_train = cells == train
        every = train if of_train else [*train, *cells]
        shape = (len(every), BINS, n)
        truth = np.maximum(
            base + self.rng.normal(0, 0.6, shape) * self.rng.gamma(1, 1, base.shape), 0
        )
        own = truth if of_train else truth[len(train) :]
        mean = leave_one_out(truth) if of_train else training_mean(truth[: len(train)])
        knows = np.array([self.knows[s] for s in self.signals])
        noise = self.rng.normal(0, 0.1, own.shape)
        guess = mean + knows * (own - mean) + noise
        for cell, signal in self.missing:
            if cell in cells:
                own[cells.index(cell), :, self.signals.index(signal)] = np.nan
        found = CellMetrics(cells, self.signals, partners_of(cells) if len(cells) > 1 else None)
        found.add(own, guess, mean)
        return found

    def _loops(self, fold: str) -> pd.DataFrame:
        classes = ((0, 20_000), (20_000, 40_000), (40_000, 64_000))
        rows = [
            {"model": "epigept", "fold": fold, "part": "cross_both", "cell": cell,
             "predictor": name, "low_bp": low, "high_bp": high, "pairs": 400, "loops": 200,
             "prevalence": 0.5, "auprc": value - low / 2e5, "auroc": value, "row_cosine": 0.3}
            for cell in ("E116", "E118")
            for low, high in classes
            for name, value in (("epigept", 0.82), ("training_loops", 0.75))
        ]  # fmt: skip
        return pd.DataFrame(rows)

    def log(self, name: str, line: str) -> None:
        """A log with its job file."""
        path = self.work / f"logs/{name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"2026-01-01 00:00:00,000 {line}\n")
        job = path.with_name(f"{path.name}.job.json")
        job.write_text(json.dumps({"rule": name.split("/")[-1]}))
