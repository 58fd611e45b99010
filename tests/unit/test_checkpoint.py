"""State on disk: plain, whole, and with the random streams that belong to it."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch

import models
from epiloom.learn import checkpoint, evaluation
from epiloom.learn.checkpoint import Progress, RunFolder
from epiloom.learn.examples import COLUMNS
from epiloom.learn.interrupts import Preempted, Signals
from epiloom.plan.errors import InputError
from tests.models.small import fit, genes, settings


def manifest(**data) -> dict:
    return {"model": "m", "settings": {"a": [1, 2]}, "data": data}


def test_random_streams_continue_where_they_were(tmp_path):
    random.gauss(0, 1)  # leaves a half-used pair behind, in python and in numpy
    np.random.normal()
    torch.rand(3)
    checkpoint.save(tmp_path / "r.pt", checkpoint.random_states())

    def draw():
        return (
            *(random.random(), random.gauss(0, 1)),
            *(np.random.normal(), np.random.rand(), float(torch.rand(()))),
        )

    first = draw()
    checkpoint.restore_random(checkpoint.load(tmp_path / "r.pt"))
    assert draw() == first


def test_a_state_is_plain_and_comes_back_equal(tmp_path):
    folder = RunFolder(tmp_path, manifest())
    assert folder.load_state() is None
    p = Progress(epoch=2, position=5, best_loss=0.25, best_epoch=2, history=[{"epoch": 1}])
    folder.save_best(2, {"w": torch.ones(2)})
    folder.save_state(p, {"model": {"w": torch.arange(3.0)}})
    state = RunFolder(tmp_path, manifest()).load_state()
    assert state["progress"] == p and torch.equal(state["model"]["w"], torch.arange(3.0))
    assert Progress().best_loss == math.inf


TOLD = {"tfs": ["A", "B"], "motif_step": 0.1, "belongs_to": {"reference": "r", "motifs": "m"}}


def begun(folder, **told) -> RunFolder:
    """A run whose data tell these settings."""
    asked = manifest(train={"examples": 3})
    return RunFolder(folder, {**asked, "settings": {**asked["settings"], **TOLD, **told}})


def test_a_state_made_with_other_data_is_not_continued(tmp_path, caplog):
    folder = begun(tmp_path)
    folder.save_best(1, {"w": torch.ones(1)})
    folder.save_state(Progress(best_epoch=1), {})
    assert begun(tmp_path).load_state()["progress"].best_epoch == 1
    assert "training starts again" not in caplog.text
    changes = [
        {"tfs": ["B", "A"]},
        {"motif_step": 0.2},
        {"belongs_to": {"reference": "r", "motifs": "other"}},
        {"belongs_to": {"reference": "other", "motifs": "m"}},
    ]
    for change in changes:
        before = begun(tmp_path)
        before.save_best(1, {"w": torch.ones(1)})
        before.save_state(Progress(best_epoch=1), {})
        caplog.clear()
        after = begun(tmp_path, **change)
        assert f"changed ({next(iter(change))}); training starts again" in caplog.text
        assert after.load_state() is None and not after.best_path(1).exists()
        assert begun(tmp_path, **change).load_state() is None  # and it is the new one now


def test_other_settings_are_refused_also_where_the_data_are_others(tmp_path):
    begun(tmp_path).save_state(Progress(), {})
    with pytest.raises(InputError) as caught:
        begun(tmp_path, a=[9], tfs=["C"])
    assert len(caught.value.problems) == 1 and "settings.a" in str(caught.value)
    assert begun(tmp_path).load_state() is not None  # nothing was removed


def test_older_best_weights_go_only_after_the_state_that_replaces_them(tmp_path):
    folder = RunFolder(tmp_path, manifest())
    folder.save_best(1, {"w": torch.ones(1)})
    folder.save_state(Progress(best_epoch=1), {})
    folder.save_best(4, {"w": torch.zeros(1)})
    assert folder.best_path(1).exists() and folder.best_path(4).exists()
    folder.save_state(Progress(best_epoch=4), {})
    assert not folder.best_path(1).exists() and folder.best_path(4).exists()


def test_foreign_code_in_a_file_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match="remove it and train again"):
        checkpoint.load(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()
    with pytest.raises(InputError, match="no such file"):
        checkpoint.load(tmp_path / "nothing.pt")


def test_leaving_on_request_has_a_status_that_asks_for_a_retry():
    assert Preempted().code == Preempted.STATUS == 75
    with Signals() as stop:
        assert not stop.asked


def test_predictions_do_not_depend_on_the_batch(tmp_path):
    fit(tmp_path, settings(epochs=1))
    spec, examples = models.load("promoter_cnn"), genes(53, 4)
    net = evaluation.load_model(spec, tmp_path / "weights.pt").train()
    whole = evaluation.predict(spec, net, examples, "cpu", batch=53)
    assert whole.shape == (53,) and net.training  # handed back as it came
    for batch in (1, 16, 256):
        again = evaluation.predict(spec, net, examples, "cpu", batch=batch)
        np.testing.assert_allclose(again, whole, rtol=0, atol=1e-6)
    table = evaluation.predictions(spec, tmp_path / "weights.pt", examples, "test", "cpu")
    assert list(table.columns) == list(COLUMNS) and len(table) == 53
    assert set(table["predictor"]) == {"promoter_cnn"} and set(table["part"]) == {"test"}
    np.testing.assert_array_equal(table["y"], examples.expression)
    assert list(table["gene_id"]) == list(examples.gene_ids)


def test_weights_of_another_model_are_refused(tmp_path):
    fit(tmp_path, settings(epochs=1))
    spec = models.load("promoter_cnn")
    content = checkpoint.load(tmp_path / "weights.pt")
    checkpoint.save(tmp_path / "other.pt", {**content, "settings": settings(filters=[6, 8, 12])})
    with pytest.raises(InputError, match="does not fit promoter_cnn"):
        evaluation.load_model(spec, tmp_path / "other.pt")
    checkpoint.save(tmp_path / "bare.pt", content["state_dict"])
    with pytest.raises(InputError, match="training did not write it"):
        evaluation.load_model(spec, tmp_path / "bare.pt")
