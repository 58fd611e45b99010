"""Learning-rate rules, early stopping and the best epoch, on losses that are written down."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import models
from epiloom.learn.schedules import Schedule
from epiloom.plan.errors import InputError
from tests.models.small import fit, settings, weights


class OneWeight(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return self.w * x


class Scripted:
    """Validation examples whose loss in epoch e is script[e], whatever the model does."""

    def __init__(self, script, start=0):
        self.values = [script[0], *script[start:]]  # the first is asked for the digest

    def __len__(self):
        return 1

    def batch(self, indices):
        return {"x": np.zeros(1, "f4"), "y": np.array([self.values.pop(0)], "f4")}

    def names(self, indices):
        return ["one"]


class Ones(Scripted):
    def __init__(self):
        super().__init__([0.0])

    def batch(self, indices):
        return {"x": np.ones(1, "f4"), "y": np.full(1, 1e4, "f4")}


SCRIPTED_SPEC = models.ModelSpec(
    name="one_weight",
    build=lambda settings: OneWeight(),
    loss=lambda prediction, batch: (prediction - batch["y"]).abs().mean(),
    inputs=("x",),
    target="y",
    example=lambda settings: {},
    import_published=lambda weights: ({}, {}),
)


def scripted_fit(folder, script, schedule, start=0, **changes):
    """Adam moves the weight up by the learning rate per epoch, so it tells the epoch it is from."""
    rates = {"factor": 0.2, "patience": 3, "min_delta": 1e-4, "floor": 0.0}
    run = settings(epochs=60, schedule={"name": schedule, **rates}, **changes)
    if schedule == "plateau_torch":
        run["schedule"]["floor"] = 1e-6
    valid = Scripted(script, start)
    return fit(folder, run, Ones(), valid, SCRIPTED_SPEC, prefetch=0)


def keras_reference(losses, factor=0.2, patience=3, min_delta=1e-4, rate=1e-3):
    """Learning rate of each epoch, found by looking back over all epochs since the last cut."""
    rates, cuts = [], [-1]
    for epoch in range(len(losses)):
        rates.append(rate)
        references = []  # the last epochs that counted as an improvement
        best = np.inf
        for k in range(epoch + 1):
            if losses[k] < best - min_delta:
                best, references = losses[k], [*references, k]
        since = epoch - max(references[-1], cuts[-1])
        if since >= patience:
            rate, cuts = rate * factor, [*cuts, epoch]
    return rates


def torch_reference(losses, rate=1e-3):
    """The same from torch's own scheduler."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=rate)
    rule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.2, patience=3, threshold=1e-4, min_lr=1e-6
    )
    rates = []
    for loss in losses:
        rates.append(optimizer.param_groups[0]["lr"])
        rule.step(loss)
    return rates


def made_up_losses(seed: int, epochs: int = 60) -> list[float]:
    """Falling, then flat, with improvements about as small as the rules' thresholds."""
    rng = np.random.default_rng(seed)
    steps = rng.choice(
        [-0.3, -0.00015, -0.00005, 0.0, 0.02], size=epochs, p=[0.1, 0.2, 0.2, 0.1, 0.4]
    )
    losses = 2 + np.minimum.accumulate(np.cumsum(steps)) + np.maximum(0, steps)
    return [float(np.float32(x)) for x in losses]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("rule", "reference"), [("plateau_keras", keras_reference), ("plateau_torch", torch_reference)]
)
def test_scripted_losses_cut_stop_and_keep_the_best_as_stated(seed, rule, reference, tmp_path):
    losses = made_up_losses(seed)
    rows = scripted_fit(tmp_path, losses, rule)
    np.testing.assert_allclose(
        [r["validation_loss"] for r in rows], losses[: len(rows)], rtol=1e-12
    )
    np.testing.assert_allclose([r["learning_rate"] for r in rows], reference(losses)[: len(rows)])
    best, stop = 0, len(losses)
    for k, loss in enumerate(losses):
        if loss < losses[best]:
            best = k
        if k - best == 12:
            stop = k + 1
            break
    assert len(rows) == stop
    assert [k for k, row in enumerate(rows) if row["best"]][-1] == best
    moved = sum(row["learning_rate"] for row in rows[: best + 1])
    assert abs(float(weights(tmp_path)["w"]) - moved) < 1e-5


def test_resuming_after_the_best_epoch_keeps_it(tmp_path):
    script = [5.0, 3.0, 1.0, *np.linspace(2, 4, 20)]
    script = [float(np.float32(x)) for x in script]
    straight = scripted_fit(tmp_path / "straight", script, "plateau_keras")
    assert len({row["learning_rate"] for row in straight}) > 2
    for epochs in (3, 5, 9):  # ends right after the best epoch, and later: the list runs out
        folder = tmp_path / str(epochs)
        with pytest.raises(IndexError):
            scripted_fit(folder, script[:epochs], "plateau_keras")
        best = (folder / "run/best-00003.pt").read_bytes()
        rows = scripted_fit(folder, script, "plateau_keras", start=epochs)
        for column in ("learning_rate", "validation_loss", "train_loss"):
            assert [row[column] for row in rows] == [row[column] for row in straight]
        assert len(rows) == 15 and [r["best"] for r in rows].count(True) == 3
        assert (folder / "run/best-00003.pt").read_bytes() == best
        assert abs(float(weights(folder)["w"]) - 0.003) < 1e-6


def test_warm_up_and_cosine_follow_the_updates():
    rule = Schedule(1e-2, {"name": "warmup_cosine", "floor": 1e-4}, updates=100)
    rates = [rule.rate(k) for k in range(100)]
    assert 0 < rates[0] < rates[1] and abs(rates[9] - 1e-2) < 1e-12  # a tenth rises
    assert all(a >= b for a, b in zip(rates[9:], rates[10:], strict=False))
    assert 1e-4 < rates[-1] < 1.2e-4
    assert Schedule(0.5, {"name": "constant"}, 3).rate(2) == 0.5
    with pytest.raises(InputError, match="'cosine' is unknown"):
        Schedule(1.0, {"name": "cosine"}, 1)
