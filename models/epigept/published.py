"""Import of weights saved by the authors' code: hg38, hg19 and DNase forms, of any size."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from models.epigept.sizes import PUBLISHED_POOLS, SIGNALS

HEADS = 8  # of every published form; shapes do not tell
DNASE_BINS = 50  # of an example of the DNase form, whose table of positions is longer
MAP = ("weight", "bias")
LAYER = {  # published name -> ours, within one layer; queries, keys and values are joined
    "attention.output.dense": "attention.out",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "up",
    "output.dense": "down",
    "output.LayerNorm": "norm2",
}
QKV = tuple(f"attention.self.{part}" for part in ("query", "key", "value"))
OLDER = (  # names of earlier versions and wrappers -> those of the published hg38 weights
    (r"^(?:(?:model|module)\.)+", ""),
    (r"^transformermodule\.", "encoder."),
    (r"^multitaskmodule\.linear\.", "fc2."),
    (r"^multitaskmodule\.(fc[12])\.", r"\1."),
    (r"\.gamma$", ".weight"),
    (r"\.beta$", ".bias"),
)
# Never used with embedded input: they get no gradient and change nothing.
UNUSED = re.compile(
    r"encoder\.(embeddings\.(position_ids|token_type_ids|word_embeddings\.weight)|pooler\.dense\..+)"
)


def import_authors(weights: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings and state dict of the network that a published checkpoint belongs to.

    Args:
        weights: the whole checkpoint (`state_dict`), read as tensors only, or its `state_dict`:
            name -> tensor or array. `param` beside `state_dict` may give what shapes do not tell:
            `heads` (8 otherwise), `pools` (by 5, 5, 2, 2, 2 for a single signal, else by 4, 4, 2,
            2, 2), `seq_bp`, `tfs` (one less than the columns, the last being the zeros that the
            authors append).

    Raises:
        ValueError: names are missing or foreign, or shapes do not follow one another.
    """
    net = weights["state_dict"] if isinstance(weights.get("state_dict"), Mapping) else weights
    param = weights.get("param") if isinstance(weights.get("param"), Mapping) else {}
    given, theirs = {}, {}
    for name, value in net.items():
        usual = name
        for older, newer in OLDER:
            usual = re.sub(older, newer, usual)
        if not UNUSED.fullmatch(usual):
            given[usual], theirs[usual] = torch.as_tensor(value), name
    convs, layers = _count(given, r"convmodule\.conv"), _count(given, r"encoder\.encoder\.layer\.")
    names = dict(_names(convs, layers + 1, "fc1.weight" in given or "fc1.bias" in given))
    missing = sorted(set(names) - set(given))
    foreign = sorted(theirs[name] for name in set(given) - set(names))
    if missing or foreign:
        raise ValueError(
            f"not the weights of EpiGePT: missing {', '.join(missing) or 'nothing'}; "
            f"foreign {', '.join(foreign) or 'nothing'}"
        )
    _check_ranks(given)
    settings = _settings(given, param, convs, layers + 1)
    state: dict[str, Tensor] = {}
    for name, ours in names.items():  # in order, so that queries, keys and values follow another
        value = given[name]
        if ours in state and state[ours].shape[1:] != value.shape[1:]:
            raise ValueError(f"sizes do not follow one another: {theirs[name]} is not as the query")
        state[ours] = torch.cat([state[ours], value]) if ours in state else value
    _check_shapes(state, settings, {ours: theirs[name] for name, ours in names.items()})
    return settings, {name: value.contiguous() for name, value in state.items()}


def _count(given: Mapping[str, Tensor], stem: str) -> int:
    """The highest number of a numbered module, -1 or 0 for none (layers count from 0)."""
    pattern = re.compile(rf"{stem}(\d+)\.")
    return max((int(m[1]) for name in given if (m := pattern.match(name))), default=0)


def _names(convs: int, layers: int, hidden: bool) -> Iterator[tuple[str, str]]:
    """(published name, our name) of every tensor of a network with so many blocks and layers."""
    for i in range(max(convs, 1)):
        yield from _pairs(f"convmodule.conv{i + 1}", f"tower.convs.{i}")
    yield "encoder.embeddings.position_embeddings.weight", "encoder.places_LW"
    yield "encoder.embeddings.token_type_embeddings.weight", "encoder.kinds_TW"
    yield from _pairs("encoder.embeddings.LayerNorm", "encoder.norm")
    for n in range(layers):
        name = f"encoder.encoder.layer.{n}"
        for part in QKV:
            yield from _pairs(f"{name}.{part}", f"encoder.layers.{n}.attention.qkv")
        for theirs, ours in LAYER.items():
            yield from _pairs(f"{name}.{theirs}", f"encoder.layers.{n}.{ours}")
    if hidden:
        yield from _pairs("fc1", "hidden")
    yield from _pairs("fc2", "out")


def _pairs(theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    for kind in MAP:
        yield f"{theirs}.{kind}", f"{ours}.{kind}"


def _check_ranks(given: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are no matrices or kernels where sizes are read from them."""
    for name, value in given.items():
        rank = 1 if name.endswith(".bias") or "LayerNorm" in name else 2
        rank += name.startswith("convmodule") and rank == 2
        if value.ndim != rank:
            raise ValueError(f"{name} is {tuple(value.shape)}, not of {rank} dimensions")


def _settings(
    given: Mapping[str, Tensor], param: Mapping[str, Any], convs: int, layers: int
) -> dict[str, Any]:
    """Settings read off the shapes and, for what shapes do not tell, `param` or the published."""
    kernels = [given[f"convmodule.conv{i + 1}.weight"].shape for i in range(convs)]
    places, width = given["encoder.embeddings.position_embeddings.weight"].shape
    outputs = len(given["fc2.weight"])
    dnase = outputs == 1
    pools = tuple(param.get("pools") or PUBLISHED_POOLS[200 if dnase else 128])
    if len(pools) != convs:
        raise ValueError(f"{convs} convolutions: give `param: {{pools: [...]}}`, one for each")
    bin_bp = int(torch.tensor(pools).prod())
    bins = min(DNASE_BINS, places) if dnase else places
    channels = [int(shape[0]) for shape in kernels]
    columns, hidden = width - channels[-1], "fc1.weight" in given
    named = list(SIGNALS) if outputs == len(SIGNALS) else [f"signal{k + 1}" for k in range(outputs)]
    return {
        "preset": "paper_dnase" if dnase else "paper_hg38" if hidden else "paper_hg19",
        "seq_bp": int(param.get("seq_bp", bins * bin_bp)),
        "tfs": int(param.get("tfs", columns - 1)),
        "tf_width": columns,
        "signals": ["DNase"] if dnase else named,
        "channels": channels,
        "kernels": [int(shape[-1]) for shape in kernels],
        "pools": list(pools),
        "layers": layers,
        "heads": int(param.get("heads", HEADS)),
        "feed_forward": len(given["encoder.encoder.layer.0.intermediate.dense.weight"]),
        "positions": places,
        "token_types": len(given["encoder.embeddings.token_type_embeddings.weight"]),
        "head_hidden": len(given["fc1.weight"]) if hidden else 0,
    }


def _check_shapes(
    state: Mapping[str, Tensor], settings: Mapping[str, Any], published: Mapping[str, str]
) -> None:
    """Refuse tensors that do not fit the sizes of the first ones, naming them."""
    from models.epigept.model import Config, EpiGePT  # it imports this file

    with torch.device("meta"):
        wanted = EpiGePT(Config.of(settings)).state_dict()
    wrong = [
        f"{published[name]} is {tuple(value.shape)}, not {tuple(wanted[name].shape)}"
        for name, value in state.items()
        if value.shape != wanted[name].shape
    ]
    if wrong:
        raise ValueError(f"sizes do not follow one another: {'; '.join(wrong)}")
