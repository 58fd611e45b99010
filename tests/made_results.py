"""Made-up results of a finished run, in the tables and folders that the rules write."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

NAMES = {"E003": "H1 cells", "E116": "GM12878 lymphoblastoid cells", "E118": "HepG2 cells"}
FOLDS = {
    "fold1": {"validation": ["chr1", "chr14"], "test": ["chr5", "chr6"]},
    "fold2": {"validation": ["chr7"], "test": ["chr10", "chr12"]},
}
STRENGTH = {"H3K4me3": 0.72, "H3K27ac": 0.70, "H3K9ac": 0.69, "H3K36me3": 0.6, "H3K4me1": 0.5}
STRENGTH |= {"H3K27me3": 0.45, "H3K9me3": 0.2}
BASELINES = {"activity_1.5kb": 0.82, "activity_3kb": 0.86, "activity_6kb": 0.9}
BASELINES |= {"activity_40kb": 0.6, "ridge_6kb": 0.95}


# --- a working directory as a finished workflow leaves it ----------------------------------------


class Made:
    """Writes tables whose numbers follow from drawn predictions, so that they agree."""

    def __init__(self, work: Path, cells=("E003", "E116"), marks=("H3K4me3", "H3K27ac"), **options):
        self.work, self.cells, self.marks = work, list(cells), list(marks)
        self.genes_per_fold = options.get("genes", 120)
        self.folds = options.get("folds", FOLDS)
        self.shuffled = options.get("shuffled", True)
        self.epochs = options.get("epochs", 14)
        self.rng = np.random.default_rng(7)
        self.runs, self.rows = [], []
        self._genes()
        self._runs()
        self._quality()
        self.write("results/tables/promoter_cnn.tsv", pd.DataFrame(self.rows))
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
        noise = self.rng.normal(size=len(z))
        drawn = r * z + np.sqrt(1 - r**2) * noise
        return self.y.mean() + drawn * self.y.std() * max(abs(r), 0.1)

    def _runs(self) -> None:
        for cell in self.cells:
            for place, mark in enumerate(self.marks):
                r = STRENGTH[mark] + 0.02 * self.cells.index(cell)
                self._set(cell, mark, "promoter_cnn", r, False)
                if self.shuffled and place == 0:
                    self._set(cell, mark, "promoter_cnn_shuffled", 0.02, True)

    def _set(self, cell: str, mark: str, predictor: str, r: float, shuffled: bool) -> None:
        drawn = {predictor: self._predict(r)}
        if not shuffled:
            drawn |= {name: self._predict(r * part) for name, part in BASELINES.items()}
        for i, (name, fold) in enumerate(self.folds.items()):
            run = f"{cell}.{mark}.{name}" + (".shuffled" if shuffled else "")
            own = slice(i * self.genes_per_fold, (i + 1) * self.genes_per_fold)
            rows = [self._row(cell, mark, name, key, drawn[key][own], own) for key in drawn]
            self.rows += rows
            folder = f"results/promoter_cnn/{run}"
            self.write(f"{folder}/metrics.tsv", pd.DataFrame(rows))
            table = self.genes[["gene_id", "chrom"]][own].assign(part="test", predictor=predictor)
            table = table.assign(y=self.y[own], y_hat=drawn[predictor][own])
            self.write(f"{folder}/predictions.tsv", table)
            self.write(f"{folder}/history.tsv", self._history(shuffled))
            self.runs.append(
                {
                    "model": "promoter_cnn",
                    "run": run,
                    "cell": cell,
                    "marks": [mark],
                    "fold": {"name": name, **fold},
                    "shuffled": shuffled,
                }
            )
            self._log(run)
        every = slice(0, len(self.y))
        self.rows += [self._row(cell, mark, "pooled", key, drawn[key], every) for key in drawn]

    def _row(self, cell, mark, fold, predictor, y_hat, own) -> dict:
        y = self.y[own]
        r = float(np.corrcoef(y, y_hat)[0, 1])
        half = 1.96 * (1 - r**2) / np.sqrt(len(y))
        mse = float(np.mean((y - y_hat) ** 2))
        return {
            **{"model": "promoter_cnn", "cell": cell, "marks": mark, "fold": fold, "part": "test"},
            **{"predictor": predictor, "n": len(y), "r": r, "r_low": r - half, "r_high": r + half},
            **{"spearman": r - 0.01, "r2": 1 - mse / float(np.var(y)), "mse": mse},
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

    def _log(self, run: str) -> None:
        folder = self.work / "logs/promoter_cnn" / run
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
            bench(f"promoter_cnn/{run['run']}/train_model.tsv", seconds, 900 + seconds)
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
                "models": {"promoter_cnn": {"epochs": 100, "shuffled_control": self.shuffled}},
            },
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
