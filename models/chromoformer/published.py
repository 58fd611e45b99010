"""Import of weights saved by the authors' code, of any size, under its newer or older names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

BRANCHES = ("2000", "500", "100")
# Marks in the order of the published input, for checkpoints with all seven.
MARKS = ("H3K4me1", "H3K4me3", "H3K9me3", "H3K27me3", "H3K36me3", "H3K27ac", "H3K9ac")
OBJECTIVES = {1: "regression", 2: "classification"}
# Names of earlier versions -> names of version 1.1 (B: bin size of the branch).
OLDER = (
    (r"^module\.", ""),
    (r"^transformer(\d+)\.", r"regulation.\1.transformer."),
    (r"^reg(\d+)\.", r"regulation.\1."),
    (r"^embed(\d+)_a\.", r"embed.\1."),
    (r"^(?:embed(\d+)_b|pw_int(\d+))\.", r"pairwise_interaction.\1\2."),
    (r"\.lin_proj_c\.", ".lin_proj_pcre."),
)
SETTING = {"embed": "embedding", "pairwise_interaction": "pairwise", "regulation": "regulation"}
MODULES = {  # published module -> ours, maps before the layers, maps that make queries and so on
    "embed": ("embed", {"lin_proj": "project"}, {"w_bias": "unused_map", "att": "qkv"}),
    "pairwise_interaction": (
        "pairwise",
        {"lin_proj_p": "project_promoter", "lin_proj_pcre": "project_partner"},
        {"p_att": "q", "c_att": "kv"},
    ),
    "regulation": ("regulation", {}, {"w_bias": "unused_map", "att": "qkvg"}),
}
AFTER = {
    "self_att.ff": "out",
    "self_att.ln": "norm_att",
    "ff.l1": "ff1",
    "ff.l2": "ff2",
    "ff.ln": "norm_ff",
}


def import_authors(weights: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings and state dict of the network that a published checkpoint belongs to.

    Args:
        weights: the checkpoint's `net` (or the whole checkpoint): name -> tensor or array. With
            seven marks they are taken to be in the published order (`MARKS`).

    Raises:
        ValueError: names are missing or foreign, or shapes do not follow one another.
    """
    net = weights["net"] if isinstance(weights.get("net"), Mapping) else weights
    given = {newer_name(name): torch.as_tensor(value) for name, value in net.items()}
    if len(given) != len(net):
        raise ValueError("not the weights of one Chromoformer: older and newer names of one tensor")
    layers = {module: _layers(given, module) for module in MODULES}
    names = dict(_names(layers))
    missing, foreign = sorted(set(names) - set(given)), sorted(set(given) - set(names))
    if missing or foreign:
        raise ValueError(
            f"not the weights of Chromoformer: missing {', '.join(missing) or 'nothing'}; "
            f"foreign {', '.join(foreign) or 'nothing'}"
        )
    settings = _settings(given, layers)
    _check_shapes(given, settings)
    return settings, {ours: given[theirs].contiguous() for theirs, ours in names.items()}


def newer_name(name: str) -> str:
    """The name of a tensor in the newest version of the authors' code."""
    for pattern, replacement in OLDER:
        name = re.sub(pattern, replacement, name)
    return name


def _layers(given: Mapping[str, Tensor], module: str) -> int:
    """Layers of a module; at least one, so that a missing module is reported name by name."""
    pattern = re.compile(rf"{module}\.\d+\.transformer\.layers\.(\d+)\.")
    return max((int(m[1]) + 1 for name in given if (m := pattern.match(name))), default=1)


def _names(layers: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """(published name, our name) of every tensor of a network with so many layers."""
    for module, (ours, before, maps) in MODULES.items():
        for bp in BRANCHES:
            for theirs, our in before.items():
                yield f"{module}.{bp}.{theirs}.weight", f"{ours}.{bp}.{our}.weight"
            if module == "pairwise_interaction":
                for kind in ("weight", "bias"):
                    yield f"{module}.{bp}.ln.{kind}", f"{ours}.{bp}.unused_norm.{kind}"
            for k in range(layers[module]):
                theirs, our = f"{module}.{bp}.transformer.layers.{k}", f"{ours}.{bp}.layers.{k}"
                scale = "scale" if module == "regulation" else "unused_scale"
                yield f"{theirs}.self_att.gamma_f", f"{our}.{scale}"
                for a, b in maps.items():
                    yield f"{theirs}.self_att.{a}.weight", f"{our}.{b}.weight"
                for a, b in AFTER.items():
                    for kind in ("weight", "bias"):
                        yield f"{theirs}.{a}.{kind}", f"{our}.after.{b}.{kind}"
    for part in ("0.weight", "0.bias", "2.weight", "2.bias"):
        yield f"fc_head.{part}", f"head.{part}"


def _settings(given: Mapping[str, Tensor], layers: Mapping[str, int]) -> dict[str, Any]:
    """Settings read off the shapes of the first branch."""
    width, marks = given["embed.2000.lin_proj.weight"].shape
    outputs = len(given["fc_head.2.weight"])
    if outputs not in OBJECTIVES:
        raise ValueError(f"fc_head.2.weight has {outputs} outputs; known are 1 and 2")
    known = len(MARKS) == marks
    settings: dict[str, Any] = {
        "marks": list(MARKS) if known else [f"mark{k + 1}" for k in range(marks)],
        "objective": OBJECTIVES[outputs],
        "width": width,
        "head_width": len(given["fc_head.0.weight"]),
    }
    for module, name in SETTING.items():
        layer = f"{module}.2000.transformer.layers.0"
        settings[f"{name}_layers"] = layers[module]
        settings[f"{name}_heads"] = len(given[f"{layer}.self_att.gamma_f"])
        settings[f"{name}_attention"] = given[f"{layer}.self_att.ff.weight"].shape[1]
        settings[f"{name}_feed_forward"] = len(given[f"{layer}.ff.l1.weight"])
    return settings


def _check_shapes(given: Mapping[str, Tensor], settings: Mapping[str, Any]) -> None:
    """Refuse tensors that do not fit the sizes of the first ones, naming them."""
    from models.chromoformer.model import Chromoformer, Config  # it imports this file

    with torch.device("meta"):
        wanted = Chromoformer(Config.of(settings)).state_dict()
    layers = {module: settings[f"{name}_layers"] for module, name in SETTING.items()}
    wrong = [
        f"{theirs} is {tuple(given[theirs].shape)}, not {tuple(wanted[ours].shape)}"
        for theirs, ours in _names(layers)
        if given[theirs].shape != wanted[ours].shape
    ]
    if wrong:
        raise ValueError(f"sizes do not follow one another: {'; '.join(wrong)}")
