"""Epi-LSTM in the one trainer: real tracks beside PCA, and runs that are broken off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from epiloom.data.genome import Genome
from epiloom.data.tiles import Moments, Tiles
from epiloom.learn import checkpoint, one_run, starting, training
from epiloom.learn.frames import FrameExamples, Frames, Scale
from epiloom.learn.interrupts import Preempted
from epiloom.plan.errors import InputError
from tests.made_tiles import (
    CHANNELS,
    SPEC,
    examples,
    made_case,
    make_tiles,
    settings,
    write_weights,
)
from tests.models import epi_lstm_full as full

ROOT = Path(__file__).resolve().parents[2]
TABLE = "data/epi_lstm/roadmap_pilot_3regions_25bp_milli_arcsinh.tsv.gz"
BINS = 20_002  # of a region
GATE = 0.62  # R2 on the region that was held out, for six latents
EPOCHS = 30


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_tiles(tmp_path_factory.mktemp("store"), *made_case())


# ---- real tracks ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(shared) -> Tiles:
    """Three regions of 25 real tracks, as three chromosomes."""
    path = shared / TABLE
    if not path.exists():
        pytest.skip(f"not here: {path}")
    table = pd.read_csv(path, sep="\t")
    values = table.iloc[:, 2:].to_numpy(np.int16)
    genome = Genome("hg19", ("chr1", "chr2", "chr3"), (BINS * 25,) * 3)
    moments = {}
    for k, chrom in enumerate(genome.chromosomes):
        part = values[k * BINS : (k + 1) * BINS] * 0.001
        m2 = ((part - part.mean(axis=0)) ** 2).sum(axis=0)
        moments[chrom] = Moments(np.full(25, float(BINS)), part.mean(axis=0), m2)
    channels = [f"{name}.pval" for name in table.columns[2:]]
    return Tiles(genome, 25, values, np.zeros(3 * BINS, np.uint8), channels, moments)


def z_scores(tiles: Tiles) -> tuple[np.ndarray, np.ndarray]:
    """Both training regions and the test region, by the training regions' mean and deviation."""
    values = tiles.values * 0.001
    train = values[: 2 * BINS]
    z = (values - train.mean(axis=0)) / train.std(axis=0)
    return z[: 2 * BINS], z[2 * BINS :]


def r2(truth: np.ndarray, made: np.ndarray) -> float:
    """Of all values together, about each track's own mean."""
    return 1 - ((truth - made) ** 2).sum() / ((truth - truth.mean(axis=0)) ** 2).sum()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_six_numbers_keep_more_of_unseen_real_tracks_than_pca_does(real, tmp_path):
    fold = {"name": "f", "validation": ["chr3"], "test": ["chr3"]}
    run = settings(
        **{"latent": 6, "decoder_hidden": 64, "frame": 100, "batch": 16, "seed": 0, "fold": fold},
        **{"channels": real.channels, "epochs": EPOCHS},
        schedule={"name": "warmup_cosine", "warmup": 0.3},
    )
    scale = Scale.of(real, ["chr1", "chr2"])

    def part(chroms: list[str], moves: bool) -> FrameExamples:
        frames = Frames.of(real, chroms, 100)
        return FrameExamples(real, scale, frames, 16, 1, None, False, moves)

    out = [tmp_path / name for name in ("run", "weights.pt", "history.tsv")]
    parts = part(["chr1", "chr2"], True), part(["chr3"], False)
    training.fit(SPEC, run, *parts, *out, device="cpu", progress=False)

    net = SPEC.build(run).eval()
    net.load_state_dict(torch.load(out[1], weights_only=True)["state_dict"])
    train, test = z_scores(real)
    with torch.no_grad():  # the whole region at once
        made = net(torch.from_numpy(test.astype(np.float32))[None], torch.tensor([True]))[0]
    mean = train.mean(axis=0)
    axes = np.linalg.svd(train - mean, full_matrices=False)[2][:6]
    pca = r2(test, (test - mean) @ axes.T @ axes + mean)
    found = r2(test, made.numpy().astype(np.float64))
    assert 0.47 < pca < 0.50 and found > pca and found >= GATE


# ---- weights to begin with -----------------------------------------------------------------------

PAPER = {"variant": "paper", "start_seen": "allow"}


def authors_folder(folder: Path, channels: int = 4) -> Path:
    """Encoder and decoder under the names of the authors, as drawn before any training."""
    drawn = torch.Generator().manual_seed(3)
    for name, shapes in zip(("encoder", "decoder"), full.shapes(channels, 4), strict=True):
        state = {key: (torch.rand(shape, generator=drawn) - 0.5) for key, shape in shapes}
        torch.save(state, folder / f"{name}.pth")
    return folder


@pytest.mark.parametrize("epochs", [0, 1])
def test_weights_to_begin_with_take_the_scale_of_their_own_examples(
    epochs, files, tmp_path, caplog
):
    """The annotation standardizes with it, so it must be that of the training."""
    start = authors_folder(tmp_path)
    run = settings(**PAPER, epochs=epochs)
    with caplog.at_level("INFO", "epiloom"):
        one_run.train(
            SPEC, run, files, tmp_path / "run", tmp_path / "w.pt", tmp_path / "h.tsv", start=start
        )
    assert "their encoder is a random projection" in caplog.text
    found = torch.load(tmp_path / "w.pt", weights_only=True)["state_dict"]
    scale = examples(files).scale
    np.testing.assert_array_equal(found["mean"].numpy(), scale.mean)
    np.testing.assert_array_equal(found["std"].numpy(), scale.std)
    given = torch.load(start / "encoder.pth", weights_only=True)["lstm.params.0.i2h.weight"]
    moved = (found["encoder.0.input.weight"] - given).abs().max()
    assert moved == 0 if epochs == 0 else 0 < moved < 0.5


def test_a_training_on_another_fold_may_be_the_beginning(files, tmp_path):
    other = {"name": "g", "validation": ["chr2"], "test": ["chr4"]}
    own = write_weights(tmp_path / "g/weights.pt", files, fold=other)
    fit(tmp_path, files, start=own)
    found = torch.load(tmp_path / "weights.pt", weights_only=True)["state_dict"]
    np.testing.assert_array_equal(found["mean"].numpy(), examples(files).scale.mean)
    fit(tmp_path / "fresh", files)
    anew = torch.load(tmp_path / "fresh/weights.pt", weights_only=True)["state_dict"]
    assert not torch.equal(found["out.weight"], anew["out.weight"])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"latent": 6}, "latent is 4 in the weights, 6 in the settings"),
        ({"decoder_hidden": 9}, "decoder_hidden is 8 in the weights, 9 in the settings"),
        ({"variant": "paper"}, "variant is fast in the weights, paper in the settings"),
        ({"channels": CHANNELS[::-1]}, "channel_order is E003-H3K4me3.pval, "),
        ({"fold": {"name": "f", "validation": ["chr4"], "test": ["chr3"]}}, "not tested on chr3"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(changes, told, files, tmp_path):
    own = write_weights(tmp_path / "weights.pt", files)
    run = settings(**changes)
    with pytest.raises(InputError) as refused:
        starting.begin(SPEC, SPEC.build(run), run, own)
    assert told in str(refused.value)


# ---- runs that are broken off --------------------------------------------------------------------


@dataclass(frozen=True)
class Watched(FrameExamples):
    """Frames that call `act` before each batch that training asks for."""

    act: Callable[[], None] = print

    @classmethod
    def over(cls, given: FrameExamples, act: Callable[[int], None]) -> Watched:
        asked = iter(range(-1, 1 << 30))  # the first batch is for the digest
        return cls(**vars(given), act=lambda: act(next(asked)))

    def batch(self, indices):
        self.act()
        return super().batch(indices)


CHANGES = {"batch": 4, "warmup_frames": 1, "dropout": 0.2, "epochs": 3, "accumulate": 2}


def fit(folder: Path, files: dict, act: Callable[[int], None] | None = None, **options) -> None:
    train, valid = (examples(files, part, **CHANGES) for part in ("train", "validation"))
    train = Watched.over(train, act) if act else train
    out = [folder / name for name in ("run", "weights.pt", "history.tsv")]
    told = {"device": "cpu", "progress": False, "prefetch": 0} | options
    training.fit(SPEC, settings(**CHANGES), train, valid, *out, **told)


def stop_at(moment: int) -> Callable[[int], None]:
    def act(number: int) -> None:
        if number == moment:
            os.kill(os.getpid(), signal.SIGTERM)

    return act


@pytest.fixture(scope="module")
def straight(files, tmp_path_factory) -> Path:
    """A run without any interruption."""
    folder = tmp_path_factory.mktemp("straight")
    fit(folder, files)
    return folder


def equal(one, other) -> bool:
    """Whether nested states hold the same, tensors to the last bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def same_state(one: Path, other: Path) -> bool:
    """Weights, optimizer, carried state and random streams of two folders."""
    parts = [checkpoint.load(folder / "run/state.pt") for folder in (one, other)]
    assert parts[0]["carried"][0], "a state is carried"
    keys = ("model", "optimizer", "carried", "random", "schedule")
    return all(equal(parts[0][key], parts[1][key]) for key in keys)


def same_end(one: Path, other: Path) -> bool:
    weights = [torch.load(f / "weights.pt", weights_only=True)["state_dict"] for f in (one, other)]
    return equal(*weights) and same_state(one, other)


@pytest.mark.faults
@pytest.mark.parametrize("moments", [(2,), (5, 9), (1, 4, 13)])
def test_a_run_stopped_in_mid_epoch_goes_on_as_if_it_had_not(moments, files, straight, tmp_path):
    """Batches are asked for two at a time; each attempt counts its own."""
    for moment in moments:
        with pytest.raises(Preempted):
            fit(tmp_path, files, stop_at(moment))
        progress = checkpoint.load(tmp_path / "run/state.pt")["progress"]
        assert progress["position"] > 0 and not progress["finished"]
    fit(tmp_path, files)
    assert same_end(tmp_path, straight)


@pytest.mark.faults
def test_states_in_mid_epoch_are_the_same_with_and_without_an_earlier_stop(files, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    with pytest.raises(Preempted):
        fit(whole, files, stop_at(15))  # in the eighth update
    for moment in (4, 9):  # in the third one, then in the fifth one after it
        with pytest.raises(Preempted):
            fit(broken, files, stop_at(moment))
    assert checkpoint.load(broken / "run/state.pt")["progress"]["update"] == 8
    assert same_state(broken, whole)


@pytest.mark.faults
def test_what_is_carried_matters_for_a_resumed_run(files, straight, tmp_path):
    with pytest.raises(Preempted):
        fit(tmp_path, files, stop_at(9))
    path = tmp_path / "run/state.pt"
    state = checkpoint.load(path)
    assert [tuple(part.shape) for part in state["carried"][0]] == [(1, 4, 4)] * 2 + [(1, 4, 8)] * 2
    state["carried"] = [[torch.zeros_like(part) for part in state["carried"][0]]]
    checkpoint.save(path, state)
    fit(tmp_path, files)
    assert not same_end(tmp_path, straight)


PROGRAM = """
import json, sys, time
from pathlib import Path
from tests.models.test_epi_lstm_learning import fit

def act(number):
    if number == int(sys.argv[3]):
        print("here", flush=True)
        time.sleep(600)

fit(Path(sys.argv[1]), json.loads(sys.argv[2]), act, save_minutes=0)
"""


@pytest.mark.faults
def test_a_process_killed_in_mid_epoch_after_a_save_ends_with_the_same_weights(
    files, straight, tmp_path
):
    for moment in (6, 11):  # each time in the middle of an update, after several were saved
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, tmp_path, json.dumps(files), str(moment)],
            **{"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True},
            env={**os.environ, "PYTHONPATH": "."},
        )
        try:
            assert process.stdout.readline() == "here\n", process.stderr.read()
        finally:
            process.kill()
            process.communicate()
        assert process.returncode == -signal.SIGKILL
        progress = checkpoint.load(tmp_path / "run/state.pt")["progress"]
        assert progress["position"] > 0 and not progress["finished"]
    fit(tmp_path, files)
    assert same_end(tmp_path, straight)
