"""The training loop: exact repetition and resumption, stopping, failures, several processes."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import models
from epiloom.learn import checkpoint
from epiloom.learn.diagnosis import NotFinite
from epiloom.learn.examples import PromoterBins
from epiloom.learn.history import HISTORY
from epiloom.learn.interrupts import Preempted
from epiloom.plan.errors import InputError
from tests.models.small import Watched, fit, genes, history, same, settings, weights

ROOT = Path(__file__).resolve().parents[2]
BATCHES = 15  # asked for by a whole small run: 3 epochs of 3 training and 2 validation batches


class Crash(RuntimeError):
    """Stands for a process that ends without a word."""


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A small run without any interruption."""
    folder = tmp_path_factory.mktemp("straight")
    fit(folder, settings())
    return folder


# ---- what is written -----------------------------------------------------------------------------


def test_outputs_have_the_promised_form(straight):
    content = torch.load(straight / "weights.pt", weights_only=True)
    assert set(content) == {"state_dict", "settings"} and content["settings"] == settings()
    lines = (straight / "history.tsv").read_text().splitlines()
    assert lines[0] == "\t".join(HISTORY) and len(lines) == 4
    table = history(straight)
    assert list(table["epoch"]) == ["1", "2", "3"] and list(table["step"]) == ["3", "6", "9"]
    assert set(table["best"]) <= {"0", "1"} and table["best"][0] == "1"
    events = [json.loads(line) for line in (straight / "run/log.jsonl").read_text().splitlines()]
    assert [e["event"] for e in events] == ["started", "epoch", "epoch", "epoch", "finished"]
    assert list((straight / "run/tensorboard").glob("events.*"))


def test_kept_weights_are_those_of_the_best_epoch(straight):
    spec, valid = models.load("promoter_cnn"), genes(11, 1)
    net = spec.build(settings()).eval()
    net.load_state_dict(weights(straight))
    batch = {k: torch.from_numpy(v) for k, v in valid.batch(np.arange(11)).items()}
    best = min(float(v) for v in history(straight)["validation_loss"])
    with torch.no_grad():
        assert abs(float(spec.loss(net(batch["marks"]), batch)) - best) < 1e-6


def test_train_loss_is_the_mean_over_all_examples(tmp_path):
    run = settings(epochs=1, dropout=[0.0, 0.0])
    run["optimizer"]["learning_rate"] = 1e-30  # the weights stay what they were
    row = fit(tmp_path, run)[0]
    spec, train = models.load("promoter_cnn"), genes(21, 0)
    net = spec.build(run)
    net.load_state_dict(weights(tmp_path))
    batch = {k: torch.from_numpy(v) for k, v in train.batch(np.arange(21)).items()}
    with torch.no_grad():
        assert abs(row["train_loss"] - float(spec.loss(net(batch["marks"]), batch))) < 1e-5


def test_a_finished_run_writes_its_outputs_again(straight, tmp_path):
    fit(tmp_path, settings())
    before = (tmp_path / "history.tsv").read_text()
    (tmp_path / "weights.pt").unlink()
    (tmp_path / "history.tsv").unlink()
    asked = []
    fit(tmp_path, settings(), train=Watched(genes(21, 0), asked.append))
    assert asked == [] and same(tmp_path, straight)
    assert (tmp_path / "history.tsv").read_text() == before


# ---- the same numbers ----------------------------------------------------------------------------


def test_the_same_settings_give_the_same_numbers(straight, tmp_path):
    fit(tmp_path / "again", settings())
    assert same(tmp_path / "again", straight)
    fit(tmp_path / "other", settings(seed=124))
    assert not same(tmp_path / "other", straight)


@pytest.mark.parametrize("options", [{"prefetch": 0}, {"prefetch": 5}, {"save_minutes": 0}])
def test_prefetch_and_saving_change_nothing(options, straight, tmp_path):
    fit(tmp_path, settings(), **options)
    assert same(tmp_path, straight)


def test_accumulated_batches_equal_one_large_batch(tmp_path):
    dry = {"dropout": [0.0, 0.0]}
    fit(tmp_path / "large", settings(batch=8, accumulate=1, **dry))
    fit(tmp_path / "pieces", settings(batch=3, accumulate=3, **dry))
    fit(tmp_path / "whole", settings(batch=9, accumulate=1, **dry))
    one, two = weights(tmp_path / "pieces"), weights(tmp_path / "whole")
    assert all(torch.allclose(one[key], two[key], atol=1e-5) for key in one)
    assert list(history(tmp_path / "pieces")["step"]) == ["3", "6", "9"]  # 9 + 9 + 3 genes


def test_gradients_are_clipped(tmp_path):
    slow = {"name": "adam", "learning_rate": 1.0, "epsilon": 1e6, "weight_decay": 0.0}
    free = fit(tmp_path / "free", settings(optimizer={**slow, "epsilon": 1e-7}, epochs=1))
    fit(tmp_path / "tight", settings(optimizer=slow, clip_norm=1e-6, epochs=1))
    torch.manual_seed(123)
    start = models.load("promoter_cnn").build(settings()).state_dict()
    held = weights(tmp_path / "tight")
    assert all(torch.allclose(held[key], start[key], atol=1e-9) for key in start)
    assert free[0]["train_loss"] > 0


def test_bfloat16_trains_float32_weights(tmp_path, straight):
    rows = fit(tmp_path, settings(precision="bf16"))
    assert np.isfinite([row["train_loss"] for row in rows]).all()
    assert {w.dtype for w in weights(tmp_path).values()} == {torch.float32}


# ---- interruption --------------------------------------------------------------------------------


def crash_at(moment: int):
    def act(number: int) -> None:
        if number == moment:
            raise Crash

    return act


@pytest.mark.faults
@pytest.mark.parametrize("save_minutes", [0, 10])
@pytest.mark.parametrize("part", ["train", "valid"])
def test_a_run_that_crashes_at_every_batch_equals_a_straight_one(
    part, save_minutes, straight, tmp_path
):
    """Attempts die a batch or an epoch further each time, without saving anything when they do."""
    for attempt in range(60):
        parts = {"train": genes(21, 0), "valid": genes(11, 1)}
        # saved after every update, an attempt gets one further; otherwise epoch by epoch
        reach = {("train", 0): 1, ("train", 10): 3 + attempt % 3, ("valid", 0): 2}.get(
            (part, save_minutes), 2 + attempt % 2
        )
        parts[part] = Watched(parts[part], crash_at(reach))
        try:
            fit(tmp_path, settings(), save_minutes=save_minutes, prefetch=attempt % 3, **parts)
            break
        except Crash:
            continue
    assert 0 < attempt < 59 and same(tmp_path, straight)


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("moment", [0, 1, 2, 4, 8])
def test_a_signal_ends_the_step_and_saves(number, moment, straight, tmp_path):
    def act(k: int) -> None:
        if k == moment:
            os.kill(os.getpid(), number)

    handler = signal.getsignal(number)
    with pytest.raises(Preempted) as left:
        # without prefetch the signal comes exactly before this batch
        fit(tmp_path, settings(), train=Watched(genes(21, 0), act), prefetch=0)
    assert left.value.code == 75 and signal.getsignal(number) == handler
    assert not (tmp_path / "weights.pt").exists()
    assert checkpoint.load(tmp_path / "run/state.pt")["progress"]["update"] == moment + 1
    fit(tmp_path, settings())
    assert same(tmp_path, straight)


@pytest.mark.faults
@pytest.mark.parametrize("moment", [0, 1, 3])
def test_a_signal_during_validation_saves_too(moment, straight, tmp_path):
    def act(k: int) -> None:
        if k == moment:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Preempted):
        fit(tmp_path, settings(), valid=Watched(genes(11, 1), act), prefetch=0)
    fit(tmp_path, settings())
    assert same(tmp_path, straight)


PROGRAM = """
import sys
from pathlib import Path
from tests.models.small import fit, genes, settings
run = settings(epochs=6, filters=[32, 64, 64], dense=[128, 32])
fit(Path(sys.argv[1]), run, genes(300, 0), genes(50, 1), save_minutes=0.001)
"""


@pytest.mark.faults
@pytest.mark.timeout(200)
def test_a_process_killed_at_random_moments_equals_a_straight_one(tmp_path):
    run = settings(epochs=6, filters=[32, 64, 64], dense=[128, 32])
    fit(tmp_path / "straight", run, genes(300, 0), genes(50, 1))
    (tmp_path / "killed").mkdir()
    dice = random.Random(1)
    kills = 0
    for _ in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, tmp_path / "killed"],
            **{"cwd": ROOT, "stderr": subprocess.PIPE, "env": {**os.environ, "PYTHONPATH": "."}},
        )
        log = tmp_path / "killed/run/log.jsonl"
        begun = log.stat().st_size if log.exists() else 0
        while process.poll() is None and not (log.exists() and log.stat().st_size > begun):
            time.sleep(0.002)  # until this attempt has begun to train
        if kills < 3:
            writing = kills % 2 == 0  # in the middle of a write, or at any other moment
            until = time.monotonic() + dice.uniform(0.05, 0.6)
            while process.poll() is None and time.monotonic() < until:
                if writing and list((tmp_path / "killed/run").glob(".*.pt.*")):
                    break
                time.sleep(0.0005)
            if process.poll() is None:
                process.kill()
                kills += 1
        complaint = process.communicate()[1].decode()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, complaint
    assert kills >= 2 and process.returncode == 0
    assert same(tmp_path / "killed", tmp_path / "straight")
    assert not list((tmp_path / "killed/run").glob(".*")), "remains of a killed write"


# ---- the state belongs to its settings -----------------------------------------------------------


def test_a_state_of_other_settings_is_refused_by_name(tmp_path):
    fit(tmp_path, settings())
    before = (tmp_path / "weights.pt").read_bytes()
    other = settings(batch=9)
    other["optimizer"]["learning_rate"] = 0.01
    with pytest.raises(InputError) as refused:
        fit(tmp_path, other)
    assert len(refused.value.problems) == 2 and "manifest.json" in str(refused.value)
    assert "settings.batch: the state here was made with 8, this run asks for 9" in str(
        refused.value
    )
    assert "settings.optimizer.learning_rate" in str(refused.value)
    assert (tmp_path / "weights.pt").read_bytes() == before


def test_changed_examples_start_the_training_again(straight, tmp_path):
    fit(tmp_path / "a", settings(), train=genes(21, 5))
    fit(tmp_path / "a", settings())
    assert same(tmp_path / "a", straight)


def test_a_damaged_state_is_named(tmp_path):
    fit(tmp_path, settings())
    (tmp_path / "run/state.pt").write_bytes(b"not a state")
    with pytest.raises(InputError, match=r"state\.pt(.|\n)*remove it and train again"):
        fit(tmp_path, settings())


def test_a_run_without_examples_is_refused(tmp_path):
    empty = PromoterBins(np.zeros((0, 1, 60), "f4"), np.zeros(0, "f4"), [], np.zeros(0, object))
    with pytest.raises(InputError, match="validation(.|\n)*no example"):
        fit(tmp_path, settings(), valid=empty)


# ---- numbers that are not finite -----------------------------------------------------------------


def test_a_poisoned_target_stops_within_a_step_and_is_named(tmp_path):
    train = genes(21, 0)
    train.expression[13] = np.nan
    asked = []
    with pytest.raises(NotFinite) as stopped:
        fit(tmp_path, settings(), train=Watched(train, asked.append), prefetch=0)
    text = str(stopped.value)
    step = len(asked)  # the batch asked for last is the one that holds the gene
    assert f"training, step {step} (epoch 1)" in text and "learning rate 0.001" in text
    assert "expression: 1 of" in text and "in gene13" in text and "marks: 0 of" in text
    assert not (tmp_path / "run/state.pt").exists() and not (tmp_path / "weights.pt").exists()


def test_a_poisoned_validation_example_is_named(tmp_path):
    valid = genes(11, 1)
    valid.marks[9, 0, 3] = np.inf
    with pytest.raises(NotFinite, match=r"validation:(.|\n)*marks: 1 of \d+ values(.|\n)*in gene9"):
        fit(tmp_path, settings(), valid=valid)


# ---- several processes ---------------------------------------------------------------------------

DDP = """
import sys
from pathlib import Path
from tests.models.small import fit, genes, settings
run = settings(epochs=2, batch=16, dropout=[0.0, 0.0])
fit(Path(sys.argv[1]), run, genes(161, 0), genes(33, 1))
"""


@pytest.mark.timeout(120)
def test_two_processes_equal_one(tmp_path):
    """22 updates; the last one of an epoch has one example, so one process has nothing to do."""
    fit(tmp_path / "one", settings(epochs=2, batch=16, dropout=[0, 0]), genes(161, 0), genes(33, 1))
    (tmp_path / "program.py").write_text(DDP)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
    done = subprocess.run(
        [*launcher, f"--master_port={port}", tmp_path / "program.py", tmp_path / "two"],
        **{"cwd": ROOT, "capture_output": True, "text": True},
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert max(float((one[key] - two[key]).abs().max()) for key in one) < 1e-5
    first, second = history(tmp_path / "one"), history(tmp_path / "two")
    for column in ("train_loss", "validation_loss"):
        np.testing.assert_allclose(first[column].astype(float), second[column].astype(float), 1e-5)
    assert list(first["step"]) == list(second["step"]) == ["11", "22"]
