"""Import of the authors' encoder and decoder, of any size, with or without their layer norm."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

LAYER = re.compile(r"lstm\.params\.(\d+)\.(i2h|h2h)\.(weight|bias)")
# Parameters of a layer norm that is only applied with a condition, which is never given.
INACTIVE = re.compile(r"lstm\.params\.\d+\.ln_(i2h|h2h|cell)\.(alpha|beta|fc_\w+\.(weight|bias))")
OURS = {"i2h": "input", "h2h": "recurrent"}


def import_authors(weights: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings and state dict of the network that the authors' files belong to.

    Args:
        weights: {"encoder": state dict, "decoder": state dict}, name -> tensor or array.

    The layer norms of the files are without effect in the authors' code, so they are left out.

    Raises:
        ValueError: names are missing or foreign, or shapes do not follow one another.
    """
    if not {"encoder", "decoder"} <= set(weights):
        raise ValueError("not the weights of Epi-LSTM: give encoder and decoder state dictionaries")
    state: dict[str, Tensor] = {}
    layers = {}
    for part in ("encoder", "decoder"):
        given = {k.removeprefix("module."): torch.as_tensor(v) for k, v in weights[part].items()}
        layers[part] = _import_part(part, given, state)
    if layers["encoder"] != layers["decoder"]:
        raise ValueError(f"{layers['encoder']} layers of encoder, {layers['decoder']} of decoder")
    latent, channels = state["encoder.0.input.weight"].shape[0] // 4, state["out.bias"].shape[0]
    _check(state, layers["encoder"], channels, latent)
    # how their signal was standardized is not known
    state |= {"mean": torch.zeros(channels).double(), "std": torch.ones(channels).double()}
    settings = {
        "variant": "paper",
        "latent": latent,
        "layers": layers["encoder"],
        "channels": [f"channel_{k + 1}" for k in range(channels)],
        "unnamed_channels": True,
    }
    return settings, state


def random_weights(state: Mapping[str, Tensor]) -> bool:
    """Whether weights look as they were drawn: uniform in +-1/sqrt(H), never trained.

    The released ones do (specification 7.1): their encoder is a random projection.
    """
    drawn = [w for name, w in state.items() if name.startswith(("encoder.", "decoder."))]
    latent = state["encoder.0.recurrent.weight"].shape[1]
    bound = latent**-0.5
    values = torch.cat([w.flatten() for w in drawn]).double()
    if values.abs().max() > bound * (1 + 1e-6):
        return False
    # largest distance from the uniform distribution (Kolmogorov-Smirnov, 1 % level)
    found = (values.sort().values / bound + 1) / 2
    steps = torch.arange(1, len(found) + 1, dtype=torch.float64) / len(found)
    return float((found - steps).abs().max()) < 1.63 / len(found) ** 0.5


def _import_part(part: str, given: dict[str, Tensor], state: dict[str, Tensor]) -> int:
    """Put one file's tensors under our names; returns its number of layers."""
    numbers, foreign = set(), []
    for name, tensor in given.items():
        if found := LAYER.fullmatch(name):
            layer, kind, what = found.groups()
            numbers.add(int(layer))
            state[f"{part}.{layer}.{OURS[kind]}.{what}"] = tensor.float().contiguous()
        elif part == "decoder" and name in ("out.weight", "out.bias"):
            state[name] = tensor.float().contiguous()
        elif not INACTIVE.fullmatch(name):
            foreign.append(name)
    wanted = {
        f"{part}.{layer}.{kind}.{what}"
        for layer in range(max(numbers, default=0) + 1)
        for kind in OURS.values()
        for what in ("weight", "bias")
    } | ({"out.weight", "out.bias"} if part == "decoder" else set())
    missing = sorted(wanted - set(state))
    if missing or foreign:
        raise ValueError(
            f"not the {part} of Epi-LSTM: missing {', '.join(missing) or 'nothing'}; foreign "
            f"{', '.join(sorted(foreign)) or 'nothing'}"
        )
    return len(numbers)


def _check(state: Mapping[str, Tensor], layers: int, channels: int, latent: int) -> None:
    for part, first in (("encoder", channels), ("decoder", latent)):
        for layer in range(layers):
            inputs = latent if layer else first
            wanted = {
                "input.weight": (4 * latent, inputs),
                "input.bias": (4 * latent,),
                "recurrent.weight": (4 * latent, latent),
                "recurrent.bias": (4 * latent,),
            }
            for name, shape in wanted.items():
                found = tuple(state[f"{part}.{layer}.{name}"].shape)
                if found != shape:
                    raise ValueError(f"{part}, layer {layer}, {name}: shape {found}, not {shape}")
    if tuple(state["out.weight"].shape) != (channels, latent):
        raise ValueError(f"out.weight: shape {tuple(state['out.weight'].shape)} does not fit")
