"""Made-up results of a finished run, in the tables and folders that the rules write."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score

from epiloom.plan.runs import mark_sets
from tests.made_studies import write_studies

NAMES = {"E003": "H1 cells", "E116": "GM12878 lymphoblastoid cells", "E118": "HepG2 cells"}
FOLDS = {
    "fold1": {"validation": ["chr1", "chr14"], "test": ["chr5", "chr6"]},
    "fold2": {"validation": ["chr7"], "test": ["chr10", "chr12"]},
}
STRENGTH = {"H3K4me3": 0.72, "H3K27ac": 0.70, "H3K9ac": 0.69, "H3K36me3": 0.6, "H3K4me1": 0.5}
STRENGTH |= {"H3K27me3": 0.45, "H3K9me3": 0.2}
BASELINES = {"activity_1.5kb": 0.82, "activity_3kb": 0.86, "activity_6kb": 0.9}
BASELINES |= {"activity_40kb": 0.6, "ridge_6kb": 0.95}
REACH = 0.06  # what the distal model gains
ONE_MODEL = {"promoter_cnn": ["each"]}
TWO_MODELS = {**ONE_MODEL, "chromoformer": ["each", "active_pairs", "all"]}
ACTIVE = {"H3K4me3", "H3K27ac", "H3K9ac"}


# --- a working directory as a finished workflow leaves it ----------------------------------------


class Made:
    """Writes tables whose numbers follow from drawn predictions, so that they agree."""

    def __init__(self, work: Path, cells=("E003", "E116"), marks=("H3K4me3", "H3K27ac"), **options):
        self.work, self.cells, self.marks = work, list(cells), list(marks)
        self.genes_per_fold = options.get("genes", 120)
        self.folds = options.get("folds", FOLDS)
        self.shuffled = options.get("shuffled", True)
        self.epochs = options.get("epochs", 14)
        self.models = options.get("models", ONE_MODEL)
        self.classifiers = options.get("classifiers", ())
        self.rng = np.random.default_rng(7)
        self.runs, self.rows = [], []
        self._genes()
        self._runs()
        self._quality()
        for model in self.models:
            rows = [row for row in self.rows if row["model"] == model]
            self.write(f"results/tables/{model}.tsv", pd.DataFrame(rows))
        self.studies = write_studies(work, self.cells, self.marks) if options.get("studies") else []
        self.plan = self._plan()
        (work / "results/provenance.json").write_text(json.dumps(self.plan))
        self._benchmarks()

    def write(self, path: str, table: pd.DataFrame) -> None:
        path = self.work / path
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(path, sep="\t", index=False)

    def _genes(self) -> None:
        count = self.genes_per_fold * len(self.folds)
        test = [fold["test"][0] for fold in self.folds.values()]
        self.genes = pd.DataFrame(
            {
                "gene_id": [f"ENSG{i:011d}" for i in range(count)],
                "gene_name": [f"GENE{i}" for i in range(count)],
                "chrom": np.repeat(test, self.genes_per_fold),
                "tss": 10_000 + 5_000 * np.arange(count),
                "strand": "+",
                "gene_start": 10_000 + 5_000 * np.arange(count),
                "gene_end": 12_000 + 5_000 * np.arange(count),
            }
        )
        silent = self.rng.random(count) < 0.35
        self.y = np.where(silent, 0, self.rng.gamma(3, 1.2, count))
        rpkm = {cell: np.round(2**self.y - 1, 4) for cell in self.cells}
        self.write("results/genes/genes.tsv", self.genes)
        self.write("results/genes/expression.tsv", self.genes[["gene_id"]].assign(**rpkm))

    def _predict(self, r: float) -> np.ndarray:
        z = (self.y - self.y.mean()) / self.y.std()
        # what is hard about a gene is hard for every predictor
        noise = (0.8 * self.hard + self.rng.normal(size=len(z))) / np.sqrt(1.64)
        drawn = r * z + np.sqrt(1 - r**2) * noise
        return self.y.mean() + drawn * self.y.std() * max(abs(r), 0.1)

    def _runs(self) -> None:
        for cell in self.cells:
            self.hard = self.rng.normal(size=len(self.y))
            for model, entries in self.models.items():
                for place, marks in enumerate(mark_sets(entries, self.marks, ACTIVE)):
                    r = self._strength(model, marks) + 0.02 * (self.cells.index(cell) % 4)
                    self._set(model, cell, "+".join(marks), r, False)
                    if self.shuffled and place == 0:
                        self._set(model, cell, "+".join(marks), 0.02, True)

    def _strength(self, model: str, marks: list[str]) -> float:
        best, *others = sorted((STRENGTH[mark] for mark in marks), reverse=True)
        gain = sum(0.12 * other**2 for other in others[:2])
        return min(best + gain + (REACH if model == "chromoformer" else 0), 0.9)

    def _set(self, model: str, cell: str, marks: str, r: float, shuffled: bool) -> None:
        predictor = f"{model}_shuffled" if shuffled else model
        drawn = {predictor: self._predict(r)}
        if not shuffled:
            drawn |= {name: self._predict(r * part) for name, part in BASELINES.items()}
        truth = self.y
        if model in self.classifiers:
            truth = (self.y >= np.median(self.y)).astype(float)
            drawn = {name: 1 / (1 + np.exp(self.y.mean() - p)) for name, p in drawn.items()}
        for i, name in enumerate(self.folds):
            own = slice(i * self.genes_per_fold, (i + 1) * self.genes_per_fold)
            run = f"{cell}.{marks}.{name}" + (".shuffled" if shuffled else "")
            labels = {"model": model, "cell": cell, "marks": marks, "fold": name, "part": "test"}
            self._run(run, labels, {k: p[own] for k, p in drawn.items()}, truth[own], own)
            self.runs[-1]["shuffled"] = shuffled
        labels = {"model": model, "cell": cell, "marks": marks, "fold": "pooled", "part": "test"}
        self.rows += [self._row(labels, key, drawn[key], truth) for key in drawn]

    def _run(self, run: str, labels: dict, drawn: dict, y: np.ndarray, own: slice) -> None:
        """All files of one run."""
        rows = [self._row(labels, key, p, y) for key, p in drawn.items()]
        self.rows += rows
        model, marks, fold = labels["model"], labels["marks"].split("+"), labels["fold"]
        folder = f"results/{model}/{run}"
        self.write(f"{folder}/metrics.tsv", pd.DataFrame(rows))
        genes = self.genes[["gene_id", "chrom"]][own]
        tables = [
            genes.assign(part="test", predictor=key, y=y.round(5), y_hat=p.round(5))
            for key, p in drawn.items()
        ]
        self.write(f"{folder}/predictions.tsv", tables[0])
        if len(tables) > 1:
            self.write(f"{folder}/baselines.tsv", pd.concat(tables[1:]))
        self.write(f"{folder}/history.tsv", self._history(run.endswith(".shuffled")))
        described = {"model": model, "run": run, "cell": labels["cell"], "marks": marks}
        self.runs.append(described | {"fold": {"name": fold, **self.folds[fold]}})
        self._log(model, run)

    def _row(self, labels: dict, predictor: str, y_hat: np.ndarray, y: np.ndarray) -> dict:
        r = float(np.corrcoef(y, y_hat)[0, 1])
        half = 1.96 * (1 - r**2) / np.sqrt(len(y))
        mse = float(np.mean((y - y_hat) ** 2))
        auc = ap = accuracy = np.nan
        if labels["model"] in self.classifiers:
            auc, ap = float(roc_auc_score(y, y_hat)), float(average_precision_score(y, y_hat))
            accuracy = float(np.mean((y_hat >= 0.5) == y))
        return {
            **labels,
            **{"predictor": predictor, "n": len(y), "r": r, "r_low": r - half, "r_high": r + half},
            **{"spearman": r - 0.01, "r2": 1 - mse / float(np.var(y)), "mse": mse},
            **{"auc": auc, "ap": ap, "accuracy": accuracy},
        }

    def _history(self, shuffled: bool) -> pd.DataFrame:
        epoch = np.arange(1, self.epochs + 1)
        floor = 5.0 if shuffled else 2.2
        noise = self.rng.normal(0, 0.04, len(epoch))
        validation = floor + 2 * np.exp(-epoch / 2.5) + 0.02 * np.maximum(epoch - 8, 0) + noise
        return pd.DataFrame(
            {
                "epoch": epoch,
                "step": epoch * 200,
                "train_loss": floor - 0.3 + 2.2 * np.exp(-epoch / 3),
                "validation_loss": validation,
                "learning_rate": np.where(epoch > 10, 2e-4, 1e-3),
                "samples_per_s": 900.0,
                "seconds": 15.0,
                "peak_memory_mb": 700,
                "best": (epoch == epoch[np.argmin(validation)]).astype(int),
            }
        )

    def _log(self, model: str, run: str) -> None:
        folder = self.work / "logs" / model / run
        folder.mkdir(parents=True, exist_ok=True)
        job = {"rule": "train_model", "wildcards": {"run": run}}
        (folder / "train_model.log.job.json").write_text(json.dumps(job))
        (folder / "train_model.log").write_text(
            "2026-01-01 00:00:00,000 INFO train_model {} on node, python 3.11\n"
            "2026-01-01 00:03:00,000 INFO train_model: done in 180.0 s\n"
        )

    def fail(self, run: str, *gone: str) -> None:
        """Let a run end as a failed job does: a traceback in the log, no outputs."""
        for name in gone or ("history.tsv", "predictions.tsv", "metrics.tsv"):
            (self.work / f"results/promoter_cnn/{run}/{name}").unlink()
        (self.work / f"logs/promoter_cnn/{run}/train_model.log").write_text(
            "2026-01-01 00:00:00,000 INFO train_model {} on node, python 3.11\n"
            "2026-01-01 00:01:00,000 ERROR Traceback (most recent call last):\n"
            '  File "training.py", line 12, in fit\n'
            "FloatingPointError: loss is not finite at step 31 <script>alert(2)</script>\n\n"
            f"2026-01-01 00:01:00,001 ERROR log: logs/promoter_cnn/{run}/train_model.log\n"
            "repeat this job by hand: cd /secret/place && python -m workflow_scripts.train x\n"
        )

    def _quality(self) -> None:
        self.tracks, rows = [], []
        kb = (np.arange(400) - 199.5) / 10
        for cell in self.cells:
            for mark in self.marks:
                track = f"{cell}-{mark}.reads"
                self.tracks.append(track)
                sharp = STRENGTH[mark]
                rows.append(
                    {
                        **{"track": track, "cell": cell, "mark": mark, "signal": "reads"},
                        **{"source": "roadmap_reads", "assembly": "hg19", "bin_bp": 100},
                        **{"mean": 0.6 + 0.3 * self.rng.random(), "sd": 2.0, "q01": 0.0},
                        **{"q50": 0.3, "q99": 4 + 6 * sharp, "q999": 10 + 50 * sharp},
                        **{"max": 200 + 800 * self.rng.random()},
                        **{"missing_fraction": 0.02 * self.rng.random(), "masked_fraction": 0.08},
                        **{"clipped_bins": 0, "promoter_share": 0.4 * sharp},
                    }
                )
                height = (1 + 6 * sharp * (self.y > 1))[:, None] * np.exp(-(((kb) / 2) ** 2))
                features = self.rng.poisson(0.4 + height).astype(np.float32)
                path = self.work / f"results/features/{track}.npy"
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, features)
                self.write(f"results/qc/{track}.tsv", pd.DataFrame(rows[-1:]))
        self.write("results/qc/tracks.tsv", pd.DataFrame(rows))

    def _benchmarks(self) -> None:
        def bench(path: str, seconds: float, megabytes: float) -> None:
            row = {
                "s": round(seconds, 4),
                "h:m:s": "0:00:01",
                "max_rss": megabytes,
                "cpu_time": "-",
            }
            self.write(f"benchmarks/{path}", pd.DataFrame([row]))

        for run in self.runs:
            seconds = self.rng.uniform(150, 420)
            bench(f"{run['model']}/{run['run']}/train_model.tsv", seconds, 900 + seconds)
        for track in self.tracks:
            bench(f"sort_reads/{track}.tsv", self.rng.uniform(20, 60), 2100)
            bench(f"bin_track/{track}.tsv", self.rng.uniform(3, 9), 600)

    def _plan(self) -> dict:
        return {
            "config": {
                "assembly": "hg19",
                "cells": self.cells,
                "marks": self.marks,
                "folds": self.folds,
                "models": {
                    model: {"epochs": 100, "shuffled_control": self.shuffled, "mark_sets": sets}
                    for model, sets in self.models.items()
                },
            },
            "studies": self.studies,
            "config_file": "config/examples/demo.yaml",
            "simulated": False,
            "cells": {
                cell: NAMES.get(
                    cell, "HUES64 cells derived from the inner cell mass of a human embryo"
                )
                for cell in self.cells
            },
            "marks": self.marks,
            "runs": self.runs,
            "tracks": self.tracks,
            "versions": {"python": "3.11.7", "torch": "2.8.0", "numpy": "2.4.6"},
            "sources": [
                {
                    "key": "roadmap_reads",
                    "path": f"resources/egg2.wustl.edu/roadmap/{track}.tagAlign.gz",
                    "url": f"https://egg2.wustl.edu/roadmap/{track}.tagAlign.gz",
                    "bytes": 123456789,
                    "md5": "0123456789abcdef0123456789abcdef",
                }
                for track in self.tracks
            ],
            "commit": "abc1234",
            "date": "2026-01-01",
            "seed": 123,
        }
