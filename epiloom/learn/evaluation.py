"""Predictions of a trained model, as a table of genes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from epiloom.learn import checkpoint, devices, loader
from epiloom.learn.examples import Examples, frame
from epiloom.learn.loader import Piece
from epiloom.plan.errors import InputError


def load_model(spec: Any, weights: str | Path) -> torch.nn.Module:
    """The model a weights file belongs to (see `load_weights`)."""
    return load_weights(spec, weights)[0]


def load_weights(spec: Any, weights: str | Path) -> tuple[torch.nn.Module, dict[str, Any]]:
    """The model a weights file belongs to, on the CPU, in evaluation mode, and its settings.

    Raises:
        InputError: the file is not a weights file of this model.
    """
    content = checkpoint.load(weights)
    if set(content) != {"state_dict", "settings"}:
        raise InputError(weights, "holds no state_dict and settings; training did not write it")
    net = spec.build(content["settings"])
    try:
        net.load_state_dict(content["state_dict"])
    except RuntimeError as err:
        raise InputError(weights, f"does not fit {spec.name}: {err}; train again") from err
    return net.eval(), content["settings"]


def predict(
    spec: Any, net: torch.nn.Module, examples: Examples, device: str = "auto", batch: int = 256
) -> np.ndarray:
    """Predictions of all examples in their order, float32 [n, ...]; none is left out.

    The network is used in evaluation mode, so neither the batch size nor the neighbours in a batch
    matter (but for float32 rounding); it is handed back in the mode and place it came in.
    """
    place = torch.device(devices.pick_device(device))
    home = next(net.parameters()).device
    training = net.training
    cuts = np.array_split(np.arange(len(examples)), max(1, -(-len(examples) // batch)))
    net.to(place).eval()
    try:
        pieces = (Piece(cut, 1.0) for cut in cuts)
        with torch.no_grad(), closing(loader.feed(examples, pieces, place)) as batches:
            found = [spec.output(net(*spec.given(b)).float()).cpu() for _, b in batches]
    finally:
        net.to(home).train(training)
    return torch.cat(found).numpy()


def variant_predictor(
    spec: Any, weights: str | Path, device: str = "auto", threads: int | None = None
) -> Callable[[Mapping[str, np.ndarray], bool], np.ndarray]:
    """A function that predicts variants of one gene's promoter, float32 [V].

    It takes the inputs as named arrays, and whether all that is not of the promoter has one row
    that the variants share (the model's `perturbed`), or a row for each.
    """
    devices.use_cores(threads)
    place = torch.device(devices.pick_device(device))
    net = load_model(spec, weights).to(place)

    def predict_variants(batch: Mapping[str, np.ndarray], shared: bool) -> np.ndarray:
        inputs = [torch.from_numpy(batch[key]).to(place) for key in spec.inputs]
        with torch.no_grad():
            found = net.perturbed(*inputs) if shared else net(*inputs)
            return spec.output(found.float()).cpu().numpy()

    return predict_variants


def predictions(
    spec: Any,
    weights: str | Path,
    examples: Examples,
    part: str,
    device: str = "auto",
    threads: int | None = None,
) -> pd.DataFrame:
    """Truth and prediction of every example of one part (columns `COLUMNS`).

    Args:
        weights: file written by training; the predictor has the model's name.
        part: validation or test, for the column of that name.
        threads: cores to use (default: leave torch's setting).
    """
    devices.use_cores(threads)
    return frame(
        examples, part, spec.name, predict(spec, load_model(spec, weights), examples, device)
    )
