"""Import of weights saved by the original Keras network.

Keras keeps convolution kernels as (width, in, out) and dense kernels as (in, out); torch as
(out, in, width) and (out, in). Flattening is position-major in both, so no rows move.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

LAYERS = ("conv1", "conv2", "conv3", "dense1", "dense2", "dense3")
NAMES = tuple(f"{layer}.{kind}" for layer in LAYERS for kind in ("kernel", "bias"))
POOLED = 16  # bins per position that reaches the dense layers (4 x 2 x 2)


def import_keras(weights: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings and state dict of the network that Keras arrays belong to, of any size.

    Args:
        weights: `conv1.kernel`, `conv1.bias` ... `dense3.bias`: arrays or tensors. A `bins` entry
            (a number) gives the window length where the dense layer leaves it open; without it the
            paper's 60 bins are taken if they fit, otherwise the shortest window that fits.

    Raises:
        ValueError: names are missing or foreign, or the shapes do not follow one another.
    """
    given = {key: torch.as_tensor(value) for key, value in weights.items() if key != "bins"}
    wrong = sorted(set(NAMES) ^ set(given))
    if wrong:
        raise ValueError(f"not the weights of the promoter CNN: {', '.join(wrong)} missing or new")
    state: dict[str, Tensor] = {}
    for k in range(3):
        state[f"convs.{k}.conv.weight"] = given[f"conv{k + 1}.kernel"].permute(2, 1, 0).contiguous()
        state[f"convs.{k}.conv.bias"] = given[f"conv{k + 1}.bias"]
        state[f"dense.{k}.weight"] = given[f"dense{k + 1}.kernel"].T.contiguous()
        state[f"dense.{k}.bias"] = given[f"dense{k + 1}.bias"]
    return _settings(given, weights.get("bins")), state


def _settings(given: Mapping[str, Tensor], bins: int | None) -> dict[str, Any]:
    kernels = [given[f"conv{k}.kernel"].shape for k in (1, 2, 3)]  # (width, in, out)
    dense = [given[f"dense{k}.kernel"].shape for k in (1, 2, 3)]  # (in, out)
    positions, rest = divmod(dense[0][0], kernels[-1][2])
    sizes_in = [kernels[1][1], kernels[2][1], dense[1][0], dense[2][0], dense[2][1]]
    if rest or sizes_in != [kernels[0][2], kernels[1][2], dense[0][1], dense[1][1], 1]:
        raise ValueError(f"layer sizes do not follow one another: {kernels}, {dense}")
    if bins is None:
        bins = 60 if positions == 60 // POOLED else positions * POOLED
    return {
        "marks": [f"mark{k + 1}" for k in range(kernels[0][1])],
        "window_bp": 100 * bins,
        "filters": [shape[2] for shape in kernels],
        "widths": [shape[0] for shape in kernels],
        "dense": [dense[0][1], dense[1][1]],
    }
