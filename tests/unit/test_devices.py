"""The choice of device, precision and number of processes."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from epiloom.learn import devices
from epiloom.plan.errors import InputError

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match="'gpu' is unknown; use auto, cpu or cuda"):
        devices.pick_device("gpu")
    with pytest.raises(InputError, match="'fp16' is unknown; use float32, bf16 or auto"):
        devices.pick_precision("fp16", "cpu")


@NO_GPU
def test_a_gpu_that_torch_cannot_see_is_an_error_when_asked_for(monkeypatch, caplog):
    with pytest.raises(InputError, match="sees no GPU(.|\n)*CONDA_OVERRIDE_CUDA"):
        devices.pick_device("cuda")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with caplog.at_level("WARNING", logger="epiloom"):
        assert devices.pick_device("auto") == "cpu"
    assert "a GPU was assigned to this job, but torch sees none" in caplog.text


def test_auto_precision_on_a_cpu_is_float32():
    assert devices.pick_precision("auto", "cpu")[0] == "32-true"
    assert devices.pick_precision("float32", "cpu")[0] == "32-true"
    assert devices.pick_precision("bf16", "cpu")[0] in ("bf16-mixed", "32-true")


def test_one_process_is_started_whatever_a_cluster_says(monkeypatch, caplog):
    for key, value in {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "x", "SLURM_PROCID": "2"}.items():
        monkeypatch.setenv(key, value)
    with caplog.at_level("INFO", logger="epiloom"):
        fabric = devices.start("float32", "cpu")
    assert (fabric.world_size, fabric.global_rank) == (1, 0)
    assert f"torch {torch.__version__}" in caplog.text and "precision 32-true" in caplog.text


def test_one_seed_starts_every_stream():
    def draw():
        devices.seed_all(5)
        return random.random(), np.random.rand(), float(torch.rand(()))

    assert draw() == draw()


def test_peak_memory_is_in_megabytes():
    assert 50 < devices.memory_meter("cpu")() < 50_000


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_training_on_a_gpu_repeats_exactly_and_agrees_with_the_cpu(tmp_path):
    from tests.models.small import fit, same, settings, weights

    run = settings(dropout=[0.0, 0.0])
    for name, device in (("one", "cuda"), ("two", "cuda"), ("cpu", "cpu")):
        fit(tmp_path / name, run, device=device)
    assert same(tmp_path / "one", tmp_path / "two")
    one, cpu = weights(tmp_path / "one"), weights(tmp_path / "cpu")
    assert max(float((one[key] - cpu[key]).abs().max()) for key in one) < 1e-3
