"""What every model has to beat: activity of the marks alone, and a ridge regression.

Activity of a mark at a gene = mean over a window's bins of the transformed signal, as in Murphy et
al. 2025 (their windows: 6 kb, 3 kb, 1.5 kb, and 40 kb for the distal model). A line through the
training genes turns it into a prediction of log2(RPKM + 1), so that R2 and MSE mean something; the
sign of r is therefore that of the training genes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from epiloom.learn.examples import COLUMNS, TRANSFORMS, PromoterTable, coarse, frame

log = logging.getLogger("epiloom")

# Bins of 100 bp among the 400 of TSS - 20 kb .. TSS + 20 kb. The model's 6 kb are bins 170-229.
WINDOWS = {
    "activity_1.5kb": slice(192, 207),  # bins 22-36 of the 60, the TSS in the middle
    "activity_3kb": slice(185, 215),  # bins 15-44 of the 60
    "activity_6kb": slice(170, 230),
    "activity_40kb": slice(0, 400),
}
ALPHAS = np.logspace(-2, 6, 17)


def activity(table: PromoterTable, window: slice) -> np.ndarray:
    """Mean transformed signal per gene and mark, float64 [n, M]; missing bins are left out.

    NaN where all bins of a gene are missing.
    """
    columns = []
    for features in table.features:
        values = TRANSFORMS[table.transform](features[:, window]).astype(np.float64)
        known = ~np.isnan(values)
        total, count = np.where(known, values, 0).sum(axis=1), known.sum(axis=1)
        columns.append(np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0))
    return np.stack(columns, axis=1)


def baselines(settings: Mapping[str, Any], files: Mapping[str, Any]) -> pd.DataFrame:
    """Predictions of every baseline for the validation and test genes of a run.

    Args as `kinds.open_table`. All are fitted on the training genes alone; the ridge penalty
    is chosen by leave-one-out error within them. The columns are those of the predictions, and so
    are the genes. A run with shuffled labels is a control of the model alone: no rows.
    """
    if settings["shuffled"]:
        return pd.DataFrame(columns=COLUMNS).astype({"y": np.float32, "y_hat": np.float32})
    table = PromoterTable.read(settings, files)
    if settings.get("objective") == "classification":
        table = replace(table, expression=table.labels.astype(np.float32))
    train, y = table.rows("train"), table.expression.astype(np.float64)
    inputs = {name: activity(table, window) for name, window in WINDOWS.items()}
    models = {name: LinearRegression() for name in WINDOWS}
    inputs["ridge_6kb"] = _bins(table, WINDOWS["activity_6kb"], 100)
    if table.window == WINDOWS["activity_40kb"]:  # what a model of 40 kb sees, in coarser bins
        inputs["ridge_40kb"] = _bins(table, table.window, 500)
    ridges = [name for name in inputs if name.startswith("ridge")]
    models |= {name: make_pipeline(StandardScaler(), RidgeCV(alphas=ALPHAS)) for name in ridges}
    scored = {part: table.examples(part) for part in ("validation", "test")}
    frames = []
    for name, model in models.items():
        x = _filled(inputs[name], train, name)
        model.fit(x[train], y[train])
        for part, examples in scored.items():
            y_hat = model.predict(x[table.rows(part)])
            frames.append(frame(examples, part, name, y_hat))
    for name in ridges:
        log.info("%s: penalty %.3g", name, models[name][-1].alpha_)
    return pd.concat(frames, ignore_index=True)


def _bins(table: PromoterTable, window: slice, size: int) -> np.ndarray:
    """The bins of all marks side by side, means over `size` bp, float64 [n, M * bins]."""
    raw = np.stack([coarse(f[:, window], size) for f in table.features], axis=1)
    filled = np.where(np.isnan(raw), 0, TRANSFORMS[table.transform](raw))
    return filled.reshape(len(raw), -1).astype(np.float64)


def _filled(x: np.ndarray, train: np.ndarray, name: str) -> np.ndarray:
    """Genes without any signal in the window get the training genes' mean; they are counted."""
    missing = np.isnan(x)
    if not missing.any():
        return x
    log.warning("%s: no signal in the window of %d genes; the mean is used", name, missing.sum())
    known = np.isfinite(x[train])
    mean = np.where(known, x[train], 0).sum(axis=0) / np.maximum(1, known.sum(axis=0))
    return np.where(missing, mean, x)
