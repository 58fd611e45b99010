"""Import of weights saved by the authors' code, of any size, with one output or several."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

# Cell types in the order of the authors' 18 outputs.
JOINT_TRACKS = (
    *("ASCT", "OPC", "OGC", "MGC", "VIP", "LAMP5", "PVALB", "SST", "MSN", "FOXP2", "ITL23"),
    *("ITL4", "ITL5", "ITL6", "ITL6_2", "CT", "L6B", "NP"),
)
SEQ_BP, BIN_BP, CROP_BINS = 98_304, 128, 64  # of the published models
BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
MAP = ("weight", "bias")
LAYER = {  # published name -> ours, within one encoder layer
    "mha.query": "attention.query",
    "mha.key": "attention.key",
    "mha.value": "attention.value",
    "linear_net.0": "feed_forward.up",
    "linear_net.3": "feed_forward.down",
    "norm1": "norm1",
    "norm2": "norm2",
}
TABLE = "mha.distance_embedding.weight"


def import_authors(weights: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings and state dict of the network that a published checkpoint belongs to.

    Args:
        weights: the whole checkpoint (`state_dict`, `param`), read as tensors only, or its
            `state_dict`: name -> tensor or array. Window and crop are in `param` alone; without it
            they are the published ones, or as far as the relative tables reach.

    Raises:
        ValueError: names are missing or foreign, or shapes do not follow one another.
    """
    net = weights["state_dict"] if isinstance(weights.get("state_dict"), Mapping) else weights
    param = weights.get("param") if isinstance(weights.get("param"), Mapping) else {}
    given = {re.sub(r"^module\.", "", name): torch.as_tensor(value) for name, value in net.items()}
    blocks, layers = _count(given, r"conv\.tower"), _count(given, r"trans\.layers")
    names = dict(_names(blocks, layers))
    missing, foreign = sorted(set(names) - set(given)), sorted(set(given) - set(names))
    if missing or foreign:
        raise ValueError(
            f"not the weights of Epiformer: missing {', '.join(missing) or 'nothing'}; "
            f"foreign {', '.join(foreign) or 'nothing'}"
        )
    settings = _settings(given, param, blocks, layers)
    state = {ours: given[theirs] for theirs, ours in names.items()}
    tokens = settings["seq_bp"] // settings["bin_bp"]
    for n in range(layers):
        name = f"layers.{n}.attention.table.weight"
        state[name] = _rows_in_use(state[name], tokens, f"trans.layers.{n}.{TABLE}")
    if state["head.out.weight"].ndim == 2:  # a map of every bin is a convolution of width 1
        state["head.out.weight"] = state["head.out.weight"].unsqueeze(-1)
    _check_shapes(state, settings, {ours: theirs for theirs, ours in names.items()})
    return settings, {name: value.contiguous() for name, value in state.items()}


def _count(given: Mapping[str, Tensor], stem: str) -> int:
    """How many numbered modules there are."""
    pattern = re.compile(rf"{stem}\.(\d+)\.")
    return max((int(m[1]) + 1 for name in given if (m := pattern.match(name))), default=0)


def _names(blocks: int, layers: int) -> Iterator[tuple[str, str]]:
    """(published name, our name) of every tensor of a network with so many blocks and layers."""
    yield from _pairs("conv.stem.0", "stem.conv", MAP)
    yield from _mix("conv.stem.1", "stem.mix")
    for i in range(blocks):
        yield from _pairs(f"conv.tower.{i}.0.0", f"tower.{i}.norm", BATCH_NORM)
        yield from _pairs(f"conv.tower.{i}.0.2", f"tower.{i}.conv", MAP)
        yield from _mix(f"conv.tower.{i}.1", f"tower.{i}.mix")
    for n in range(layers):
        for theirs, ours in LAYER.items():
            yield from _pairs(f"trans.layers.{n}.{theirs}", f"layers.{n}.{ours}", MAP)
        yield f"trans.layers.{n}.{TABLE}", f"layers.{n}.attention.table.weight"
    yield from _pairs("ptw.conv.0", "head.norm", BATCH_NORM)
    yield from _pairs("ptw.conv.2", "head.hidden", MAP)
    yield from _pairs("ptw.linear.0", "head.out", MAP)


def _pairs(theirs: str, ours: str, kinds: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for kind in kinds:
        yield f"{theirs}.{kind}", f"{ours}.{kind}"


def _mix(theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    yield from _pairs(f"{theirs}.module.0", f"{ours}.norm", BATCH_NORM)
    yield from _pairs(f"{theirs}.module.2", f"{ours}.conv", MAP)


def _settings(
    given: Mapping[str, Tensor], param: Mapping[str, Any], blocks: int, layers: int
) -> dict[str, Any]:
    """Settings read off the shapes and, for what shapes do not tell, the stored parameters."""
    channels = [len(given["conv.stem.0.weight"])]
    channels += [len(given[f"conv.tower.{i}.0.2.weight"]) for i in range(blocks)]
    bin_bp, outputs = 2 ** len(channels), len(given["ptw.linear.0.weight"])
    joint = outputs == len(JOINT_TRACKS)
    seq_bp, settings = SEQ_BP, {}
    if layers:
        rows, inner = given[f"trans.layers.0.{TABLE}"].shape
        seq_bp = min(SEQ_BP, (rows + 1) // 2 * bin_bp)
        settings = {
            "heads": channels[-1] // inner,
            "feed_forward": len(given["trans.layers.0.linear_net.0.weight"]),
        }
    seq_bp = int(param.get("seq_len", seq_bp))
    crop = seq_bp // bin_bp * CROP_BINS * BIN_BP // SEQ_BP
    settings |= {
        "preset": "paper",
        "seq_bp": seq_bp,
        "bin_bp": bin_bp,
        "crop_bins": int(param.get("crop_size", crop)),
        "tracks": list(JOINT_TRACKS) if joint else [f"track{k + 1}" for k in range(outputs)],
        "width": channels[-1],
        "first_width": channels[0],
        "channels": channels,
        "layers": layers,
    }
    if "if_cons" in param:
        settings["conservation"] = "factor" if param["if_cons"] else "off"
    return settings


def _rows_in_use(table_PD: Tensor, tokens: int, name: str) -> Tensor:
    """The rows of distances within a window; the published table reaches as far as the width."""
    reach = (len(table_PD) + 1) // 2
    if reach < tokens:
        raise ValueError(f"{name} reaches {reach} tokens, the window (seq_len) has {tokens}")
    return table_PD[reach - tokens : reach + tokens - 1]


def _check_shapes(
    state: Mapping[str, Tensor], settings: Mapping[str, Any], published: Mapping[str, str]
) -> None:
    """Refuse tensors that do not fit the sizes of the first ones, naming them."""
    from models.epiformer.model import Config, Epiformer  # it imports this file

    with torch.device("meta"):
        wanted = Epiformer(Config.of(settings)).state_dict()
    wrong = [
        f"{published[name]} is {tuple(value.shape)}, not {tuple(wanted[name].shape)}"
        for name, value in state.items()
        if value.shape != wanted[name].shape
    ]
    if wrong:
        raise ValueError(f"sizes do not follow one another: {'; '.join(wrong)}")
