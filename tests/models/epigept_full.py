"""EpiGePT in its published form: the slow oracle of the tests.

One (region, cell) pair at a time, explicit softmax, weights under the names of the published
checkpoints. Written from the description of the method, with no code in common with `models/`.

Shapes: N bases, C channels, B bins, W width, H heads, D width per head.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Sizes for quick tests, all different: width 24 = 10 channels + 14 columns.
SMALL = {
    "channels": (5, 6, 7, 9, 10), "width": 24, "layers": 2, "feed_forward": 14, "positions": 6,
    "outputs": 8, "hidden": 11,
}  # fmt: skip
FORMS = {  # form -> sizes, name of the encoder, poolings
    "hg38": (SMALL, "encoder", (4, 4, 2, 2, 2)),
    "hg19": ({**SMALL, "hidden": 0}, "transformermodule", (4, 4, 2, 2, 2)),
    "dnase": ({**SMALL, "hidden": 0, "outputs": 1}, "transformermodule", (5, 5, 2, 2, 2)),
}
KERNELS = (3, 5, 5, 3, 3)
PAPER = {
    "channels": (32, 64, 96, 128, 256), "width": 968, "layers": 12, "feed_forward": 1024,
    "positions": 1000, "outputs": 8, "hidden": 128,
}  # fmt: skip


def shapes(sizes: dict, encoder: str = "encoder", words: int = 9) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a checkpoint's tensors, the unused ones too."""
    found: dict[str, tuple[int, ...]] = {}
    width, inner = sizes["width"], sizes["feed_forward"]

    def weighted(name: str, *shape: int) -> None:
        found[f"{name}.weight"] = shape
        found[f"{name}.bias"] = shape[:1]

    before = 4
    for i, (after, kernel) in enumerate(zip(sizes["channels"], KERNELS, strict=True)):
        weighted(f"convmodule.conv{i + 1}", after, before, kernel)
        before = after
    rows = {"word": words, "position": sizes["positions"], "token_type": 2}
    for kind, number in rows.items():
        found[f"{encoder}.embeddings.{kind}_embeddings.weight"] = (number, width)
    weighted(f"{encoder}.embeddings.LayerNorm", width)
    for n in range(sizes["layers"]):
        name = f"{encoder}.encoder.layer.{n}"
        for part in ("query", "key", "value"):
            weighted(f"{name}.attention.self.{part}", width, width)
        weighted(f"{name}.attention.output.dense", width, width)
        weighted(f"{name}.attention.output.LayerNorm", width)
        weighted(f"{name}.intermediate.dense", inner, width)
        weighted(f"{name}.output.dense", width, inner)
        weighted(f"{name}.output.LayerNorm", width)
    weighted(f"{encoder}.pooler.dense", width, width)
    if sizes["hidden"]:
        weighted("fc1", sizes["hidden"], width)
        weighted("fc2", sizes["outputs"], sizes["hidden"])
    else:
        last = "multitaskmodule.linear" if encoder == "transformermodule" else "fc2"
        weighted(last, sizes["outputs"], width)
    return found


def draw(seed: int, sizes: dict, encoder: str = "encoder") -> dict[str, Tensor]:
    """Random weights under the published names."""
    rng, weights = torch.Generator().manual_seed(seed), {}
    for name, shape in shapes(sizes, encoder).items():
        value = torch.rand(shape, generator=rng) * 2 - 1
        if len(shape) > 1:
            value = value * math.sqrt(3 / math.prod(shape[1:]))
        else:
            value = 0.1 * value + (1.0 if name.endswith("weight") else 0.0)
        weights[name] = value
    return weights


def linear(w: dict, name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def normed(w: dict, name: str, x: Tensor) -> Tensor:
    middle = x - x.mean(-1, keepdim=True)
    scale = (middle.square().mean(-1, keepdim=True) + 1e-12).sqrt()
    return middle / scale * w[f"{name}.weight"] + w[f"{name}.bias"]


def tower(w: dict, codes: Tensor, pools: tuple[int, ...]) -> Tensor:
    """(B, C) of one region (N); codes 0..3 = A C G T."""
    x = torch.zeros(4, len(codes), dtype=w["convmodule.conv1.weight"].dtype)
    for letter in range(4):
        x[letter, codes == letter] = 1
    for i, pool in enumerate(pools):
        kernel, bias = w[f"convmodule.conv{i + 1}.weight"], w[f"convmodule.conv{i + 1}.bias"]
        x = F.relu(F.conv1d(x, kernel, bias, padding=kernel.shape[-1] // 2))
        x = x.unflatten(-1, (-1, pool)).amax(-1)
    return x.T


def attention(w: dict, name: str, x: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Answer (B, W) and weights (H, B, B)."""
    inner = x.shape[-1] // heads
    parts, maps = [], []
    for head in range(heads):
        own = slice(head * inner, (head + 1) * inner)
        q, k, v = (linear(w, f"{name}.self.{p}", x)[:, own] for p in ("query", "key", "value"))
        score = q @ k.T / math.sqrt(inner)
        share = score.exp() / score.exp().sum(-1, keepdim=True)
        maps.append(share)
        parts.append(share @ v)
    return linear(w, f"{name}.output.dense", torch.cat(parts, -1)), torch.stack(maps)


def signals(
    w: dict, codes: Tensor, features: Tensor, pools: tuple[int, ...], heads: int = 8
) -> tuple[Tensor, list[Tensor]]:
    """Signals (B, S) of one region's codes (N) and TF features (B, K), and all attention maps."""
    encoder = "encoder" if "encoder.embeddings.LayerNorm.weight" in w else "transformermodule"
    x = torch.cat([tower(w, codes, pools), features], dim=-1)
    x = x + w[f"{encoder}.embeddings.position_embeddings.weight"][: len(x)]
    x = x + w[f"{encoder}.embeddings.token_type_embeddings.weight"][0]
    x, maps, n = normed(w, f"{encoder}.embeddings.LayerNorm", x), [], 0
    while f"{encoder}.encoder.layer.{n}.output.dense.weight" in w:
        name = f"{encoder}.encoder.layer.{n}"
        answer, share = attention(w, f"{name}.attention", x, heads)
        maps.append(share)
        x = normed(w, f"{name}.attention.output.LayerNorm", x + answer)
        up = linear(w, f"{name}.intermediate.dense", x)
        up = up * 0.5 * (1 + torch.erf(up / math.sqrt(2)))
        x = normed(w, f"{name}.output.LayerNorm", x + linear(w, f"{name}.output.dense", up))
        n += 1
    if "fc1.weight" in w:
        x = F.relu(linear(w, "fc1", x))
    last = "fc2" if "fc2.weight" in w else "multitaskmodule.linear"
    return F.relu(linear(w, last, x)), maps
