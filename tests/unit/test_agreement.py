"""r of the validation part as sums: against numpy, with holes, over batches, and as the choice."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import models
from epiloom.learn import agreement
from tests.models.small import fit, history, settings

CNN, EPIFORMER = models.load("promoter_cnn"), models.load("epiformer")


def test_r_of_tracks_with_holes_is_that_of_numpy_whatever_the_batches():
    rng = np.random.default_rng(0)
    target = rng.gamma(2, 2, (20, 3, 8))
    logits = target * rng.uniform(0.5, 1.5, target.shape)
    target[:, 2] = 4.0  # a track that does not vary has no r
    target[3, 0, 2:5] = np.nan
    valid = rng.random((20, 1, 8)) < 0.9
    total = 0
    for part in (slice(0, 7), slice(7, 20)):
        batch = {"target": target[part].astype(np.float16), "valid": valid[part]}
        batch = {key: torch.from_numpy(value) for key, value in batch.items()}
        returned = torch.from_numpy(logits[part]).float()
        total = total + agreement.sums(EPIFORMER, {}, returned, batch)
    rs = []
    for track in (0, 1):
        truth = target[:, track].astype(np.float16).astype(float)
        seen = valid[:, 0] & ~np.isnan(truth)
        predicted = np.logaddexp(0, logits[:, track].astype(np.float32).astype(float))
        rs.append(np.corrcoef(np.log2(truth[seen] + 1), np.log2(predicted[seen] + 1))[0, 1])
    assert agreement.mean_r(total) == pytest.approx(np.mean(rs), abs=1e-6)


def test_r_of_one_number_per_example():
    rng = np.random.default_rng(1)
    truth, found = rng.normal(size=30), rng.normal(size=30)
    batch = {"expression": torch.from_numpy(truth)}
    total = agreement.sums(CNN, {}, torch.from_numpy(found), batch)
    assert agreement.mean_r(total) == pytest.approx(np.corrcoef(truth, found)[0, 1], abs=1e-9)
    assert np.isnan(agreement.mean_r(agreement.sums(CNN, {}, torch.ones(30), batch)))


def test_the_epoch_with_the_highest_r_or_the_lowest_loss_is_kept(tmp_path):
    run = settings(
        epochs=8, stop_patience=0, optimizer=settings()["optimizer"] | {"learning_rate": 0.02}
    )
    kept = {}
    for keep in ("best", "best_r", "last"):
        fit(tmp_path / keep, run | {"keep": keep})
        kept[keep] = torch.load(tmp_path / keep / "weights.pt", weights_only=True)["state_dict"]
        table = history(tmp_path / keep)
        best = table.index[table["best"] == "1"][-1]
        wanted = {
            "best": table["validation_loss"].astype(float).idxmin(),
            "best_r": table["validation_r"].astype(float).idxmax(),
            "last": 7,
        }
        assert best == wanted[keep]
    assert wanted["best"] != wanted["best_r"]  # so that the choice is seen
    name = next(iter(kept["best"]))
    assert not torch.equal(kept["best"][name], kept["best_r"][name])
