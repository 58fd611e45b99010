"""Compare our models with stored outputs of the original ones.

    python -m tests.golden FILE...

A file holds the model's name, a seed, the names and shapes of the original weights, and the output
that the original code returned for weights and inputs drawn by a fixed rule from the seed. One line
is printed per file: file, model, status, largest absolute difference. The exit status is 1 if any
difference exceeds 1e-4 or a file cannot be used.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import models
from tests.models import e003

TOLERANCE = 1e-4
BINS = 60  # of the promoter window, when the file does not say


def uniform(seed: int, number: int, shape: list[int]) -> np.ndarray:
    """The rule's random numbers for the weight array of this number, in [-1, 1)."""
    return np.random.RandomState(1000 * seed + number).uniform(-1, 1, size=tuple(shape))


def original_weights(golden: dict) -> dict[str, np.ndarray]:
    """The rule's weights for the names and shapes in `state_dict`, numbered in sorted order."""
    shapes = {name: tuple(shape) for name, shape in golden["state_dict"]}
    weights = {}
    for number, name in enumerate(sorted(shapes)):
        values = uniform(golden["seed"], number, shapes[name])
        if name.endswith("num_batches_tracked"):
            weights[name] = np.zeros(shapes[name], np.int64)
            continue
        if name.endswith("running_var"):
            values = 1 + 0.5 * np.abs(values)
        elif len(shapes[name]) >= 2:
            values = values / np.sqrt(np.prod(shapes[name][1:]))
        elif name.endswith(("weight", "alpha")):
            values = 1 + 0.1 * values
        else:
            values = 0.1 * values
        weights[name] = values.astype(np.float32)
    return weights


def chromoformer(golden: dict, path: Path) -> np.ndarray:
    """Our output for authors' weights of any size, on real genes read from the bigWigs.

    `marks` is a list of marks, or how many of the published order are used.
    """
    folder = e003.find_data(path)
    if folder is None:
        raise ValueError("data/roadmap_e003 is neither beside the file's folder nor in shared")
    marks = golden["marks"]
    marks = e003.MARKS[:marks] if isinstance(marks, int) else tuple(marks)
    batch = e003.batch(folder, list(golden["genes"]), marks)
    spec = models.load("chromoformer")
    settings, state = spec.import_published(original_weights(golden))
    if len(settings["marks"]) != len(marks):
        raise ValueError(f"weights for {len(settings['marks'])} marks, inputs of {len(marks)}")
    net = spec.build(settings).eval()
    net.load_state_dict(state)
    with torch.no_grad():
        return net(*(batch[key] for key in spec.inputs)).numpy()


def epiformer(golden: dict, path: Path | None = None) -> np.ndarray:
    """Our coverage for authors' weights of any size, on two random windows."""
    given = golden["settings"]
    param = {"seq_len": given["seq_len"], "crop_size": given["crop"]}
    param["if_cons"] = given.get("conservation", True)
    spec = models.load("epiformer")
    state_dict = original_weights(golden)
    settings, state = spec.import_published({"state_dict": state_dict, "param": param})
    net = spec.build(settings).eval()
    net.load_state_dict(state)
    rng = np.random.RandomState(golden["seed"] + 77)
    codes = torch.from_numpy(rng.randint(0, 5, size=(2, given["seq_len"])))
    x = net.encode(codes)
    if param["if_cons"]:  # three decimals, finer than the stored bytes
        conservation = np.round(rng.uniform(0, 1, size=tuple(codes.shape)), 3)
        x = x * torch.from_numpy(np.exp(conservation))[:, None].float()
    with torch.no_grad():
        coverage_BTK = spec.output(net.logits(x)).numpy()
    return coverage_BTK[..., golden["bins"]] if "bins" in golden else coverage_BTK


def epigept(golden: dict, path: Path | None = None) -> np.ndarray:
    """Our signals for authors' weights of any form and size, on random bases and TF features.

    The form with bins of 200 bp (DNase) is told by `variant` or, without it, by its single output.
    """
    spec = models.load("epigept")
    regions, bins = golden["output_shape"][:2]
    param = {key: golden[key] for key in ("heads", "pools") if key in golden}
    if "variant" in golden:
        first = 5 if "dnase" in golden["variant"].lower() else 4
        param.setdefault("pools", [first, first, 2, 2, 2])
    net_of = {"state_dict": original_weights(golden), "param": param}
    settings, state = spec.import_published(net_of)
    # the random features fill the column that is zero in the authors' data, too
    settings["tfs"] = golden.get("tf_features", settings["tf_width"])
    settings["seq_bp"] = bins * math.prod(settings["pools"])
    net = spec.build(settings).eval()
    net.load_state_dict(state)
    rng = np.random.RandomState(golden["seed"] + 77)
    codes = torch.from_numpy(rng.randint(0, 5, size=(regions, settings["seq_bp"])))
    drawn = rng.uniform(0, 3, size=(regions, bins, settings["tfs"]))
    features = torch.from_numpy(np.round(drawn, 3).astype(np.float32))
    with torch.no_grad():
        signals_RBS = spec.output(net.predict(codes, features[:, None]))[:, 0].numpy()
    return signals_RBS[:, golden["bins"]] if "bins" in golden else signals_RBS


def epi_lstm(golden: dict, path: Path | None = None) -> np.ndarray:
    """Our latents and reconstruction of some bins, and the mean square error of all of them."""
    spec = models.load("epi_lstm")
    parts = {
        part: original_weights({"seed": golden["seed"] + more, "state_dict": golden[key]})
        for more, part in enumerate(("encoder", "decoder"))
        for key in (f"{part}_state_dict",)
    }
    settings, state = spec.import_published(parts)
    net = spec.build(settings).eval()
    net.load_state_dict(state)
    bins = golden["frames"] * golden["frame"]
    drawn = np.random.RandomState(golden["seed"] + 77).normal(size=(bins, golden["channels"]))
    signal = torch.from_numpy(drawn.astype(np.float32))
    latents, made = [], []
    with torch.no_grad():
        for number, frame in enumerate(signal.split(golden["frame"])):
            before = net.carried[:2] if number else None
            latents.append(net.encode(frame[None], before)[0][0])
            made.append(net(frame[None], torch.tensor([number == 0]))[0])
    latent, output = torch.cat(latents), torch.cat(made)
    error = ((output - signal) ** 2).mean()
    picked = [latent[golden["bins"]], output[golden["bins"]], error]
    return torch.cat([p.flatten() for p in picked]).numpy()


def promoter_cnn(golden: dict, path: Path | None = None) -> np.ndarray:
    """Our output for Keras weights of any size (kernels (width, in, out), dense (in, out))."""
    weights: dict = {}
    for number, (name, shape) in enumerate(golden["keras_weights"]):
        values = uniform(golden["seed"], number, shape)
        values = values * (np.sqrt(6 / np.prod(shape[:-1])) if len(shape) > 1 else 0.1)
        weights[name] = values.astype(np.float32)
    genes = len(golden["output"])
    marks = weights["conv1.kernel"].shape[1]
    spec = models.load("promoter_cnn")
    settings, state = spec.import_published({**weights, "bins": golden.get("bins")})
    bins = golden.get("bins", settings["window_bp"] // 100)
    drawn = np.random.RandomState(golden["seed"] + 77).uniform(0, 4, size=(genes, bins, marks))
    signal_BLM = np.round(drawn, 3).astype(np.float32)
    net = spec.build(settings).eval()
    net.load_state_dict(state)
    with torch.no_grad():
        return net(torch.from_numpy(signal_BLM).transpose(1, 2)).numpy()


MODELS: dict[str, Callable[[dict, Path], np.ndarray]] = {
    "chromoformer": chromoformer,
    "epi_lstm": epi_lstm,
    "epigept": epigept,
    "epiformer": epiformer,
    "promoter_cnn": promoter_cnn,
}


def stored(golden: dict) -> np.ndarray:
    """What the original code returned, joined to one vector."""
    if "output" in golden:
        return np.asarray(golden["output"], np.float64)
    named = ("latent_at_bins", "reconstruction_at_bins", "mean_squared_error")
    return np.concatenate([np.ravel(np.asarray(golden[key], np.float64)) for key in named])


def compare(path: Path) -> tuple[str, str, str, bool]:
    """Model, status, difference, and whether that is acceptable."""
    try:
        golden = json.loads(path.read_text())
        model = str(golden["model"])
    except (OSError, ValueError, KeyError, TypeError) as err:
        return "-", f"cannot be read ({type(err).__name__}: {err})", "-", False
    if model not in MODELS or model not in models.names():
        return model, "not built", "-", True
    try:
        ours = MODELS[model](golden, path)
        theirs = stored(golden)
        if ours.size != theirs.size:
            return model, f"{ours.size} values, not {theirs.size}", "-", False
        difference = float(np.abs(ours.ravel() - theirs.ravel()).max())
    except (KeyError, ValueError, RuntimeError) as err:
        return model, f"failed ({type(err).__name__}: {err})", "-", False
    fine = difference <= TOLERANCE  # also False for NaN
    return model, "ok" if fine else "differs", f"{difference:.1e}", fine


def main(arguments: list[str]) -> int:
    if not arguments:
        sys.stderr.write("usage: python -m tests.golden FILE...\n")
        return 2
    torch.set_num_threads(1)
    fine = True
    for name in arguments:
        model, status, difference, acceptable = compare(Path(name))
        sys.stdout.write(f"{Path(name).name} {model} {status} {difference}\n")
        fine &= acceptable
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
