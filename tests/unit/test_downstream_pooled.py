"""Downstream tasks over the folds of several runs, each fold by the run that held it out."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from epiloom.plan.errors import InputError
from epiloom.studies.downstream import evaluate
from epiloom.studies.downstream_pooled import pooled
from tests.made_labels import FOLDS, QUICK, made_task


def runs():
    """Two folds, each scored by a run of its own; the second run has other features."""
    labels, features = made_task()
    noisy = {name: values + 0.5 for name, values in features.items()}
    made = {}
    for fold, own in zip(FOLDS, (features, noisy), strict=False):
        made[fold["name"]] = evaluate(labels, own, FOLDS, QUICK).scores
    return labels, made


def test_every_fold_counts_once_by_its_own_run():
    labels, made = runs()
    metrics, differences = pooled(made, labels, QUICK)
    assert set(metrics["scheme"]) == {"chromosomes"}
    assert set(metrics.loc[metrics["fold"] != "mean", "fold"]) == set(made)
    for fold, scores in made.items():
        own = scores[(scores["scheme"] == "chromosomes") & (scores["fold"] == fold)]
        for (cell, predictor), group in own.groupby(["cell", "predictor"], observed=True):
            row = metrics[
                (metrics["fold"] == fold)
                & (metrics["cell"] == cell)
                & (metrics["predictor"] == predictor)
            ]
            assert row["ap"].item() == pytest.approx(
                average_precision_score(group["label"], group["score"])
            )
            assert row["n"].item() == len(group)
    mean = metrics[(metrics["fold"] == "mean") & (metrics["predictor"] == "latents")]
    each = metrics[(metrics["fold"] != "mean") & (metrics["predictor"] == "latents")]
    assert np.isclose(mean["ap"], each.groupby("cell")["ap"].mean().loc[mean["cell"]]).all()
    assert (mean["seen"] == "no").all()
    assert {"better", "worse", "not clear"} >= set(differences["verdict"])


def test_scores_of_other_windows_are_refused():
    labels, made = runs()
    name = next(iter(made))
    made[name] = made[name].assign(name="nowhere")
    with pytest.raises(InputError, match=f"fold {name}:[\\s-]+windows that are not labelled"):
        pooled(made, labels, QUICK)
