"""Epiformer in its published form: the slow oracle of the tests and the benchmark.

Attention builds a vector for every pair of tokens (L x L x D) from a relative table that is sized
by the width. Weights are under the names of the published checkpoints. Written from the description
of the method, with no code in common with `models/`.

Shapes: B windows, N bases, C channels, L tokens, W width, H heads, D width per head.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

PAPER = {
    "channels": (384, 431, 484, 543, 610, 684, 768),
    "heads": 4,
    "layers": 8,
    "feed_forward": 2048,
    "outputs": 1,
}
# Other sizes for quick tests, all different; 64 bp per bin.
SMALL = {
    "channels": (6, 8, 9, 10, 11, 24),
    "heads": 3,
    "layers": 2,
    "feed_forward": 14,
    "outputs": 2,
}


def encode(codes: Tensor, conservation: Tensor) -> Tensor:
    """(B, 4, N) from codes 0..4 and phastCons in 0..1."""
    x = torch.zeros(len(codes), 4, codes.shape[1])
    for letter in range(4):
        x[:, letter] = torch.where(codes == letter, conservation.float().exp(), 0.0)
    return x


def shapes(sizes: dict) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a checkpoint's tensors."""
    found: dict[str, tuple[int, ...]] = {}
    channels = sizes["channels"]
    width, inner = channels[-1], channels[-1] // sizes["heads"]

    def batch_norm(name: str, c: int) -> None:
        for kind in ("weight", "bias", "running_mean", "running_var"):
            found[f"{name}.{kind}"] = (c,)
        found[f"{name}.num_batches_tracked"] = ()

    def weighted(name: str, *shape: int) -> None:
        found[f"{name}.weight"] = shape
        found[f"{name}.bias"] = shape[:1]

    weighted("conv.stem.0", channels[0], 4, 15)
    batch_norm("conv.stem.1.module.0", channels[0])
    weighted("conv.stem.1.module.2", channels[0], channels[0], 1)
    for i, (a, b) in enumerate(zip(channels, channels[1:], strict=False)):
        batch_norm(f"conv.tower.{i}.0.0", a)
        weighted(f"conv.tower.{i}.0.2", b, a, 5)
        batch_norm(f"conv.tower.{i}.1.module.0", b)
        weighted(f"conv.tower.{i}.1.module.2", b, b, 1)
    for n in range(sizes["layers"]):
        name = f"trans.layers.{n}"
        for part in ("query", "key", "value"):
            weighted(f"{name}.mha.{part}", width, width)
        found[f"{name}.mha.distance_embedding.weight"] = (2 * width - 1, inner)
        weighted(f"{name}.linear_net.0", sizes["feed_forward"], width)
        weighted(f"{name}.linear_net.3", width, sizes["feed_forward"])
        for part in ("norm1", "norm2"):
            weighted(f"{name}.{part}", width)
    batch_norm("ptw.conv.0", width)
    weighted("ptw.conv.2", 2 * width, width, 1)
    weighted("ptw.linear.0", sizes["outputs"], 2 * width)
    return found


def draw(seed: int, sizes: dict) -> dict[str, Tensor]:
    """Random weights under the published names."""
    rng = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes(sizes).items():
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.tensor(3)
            continue
        value = torch.rand(shape, generator=rng) * 2 - 1
        if name.endswith("running_var"):
            value = 1 + 0.5 * value.abs()
        elif name.endswith("distance_embedding.weight"):
            value = value * 1.7
        elif len(shape) > 1:
            value = value * math.sqrt(3 / math.prod(shape[1:]))
        else:
            value = 0.1 * value + (1.0 if name.endswith("weight") else 0.0)
        weights[name] = value
    return weights


def batch_norm(w: dict, name: str, x: Tensor, training: bool) -> Tensor:
    statistics = (w[f"{name}.running_mean"], w[f"{name}.running_var"])
    if training:  # those of the batch; the running ones stay as they are
        statistics = (None, None)
    return F.batch_norm(x, *statistics, w[f"{name}.weight"], w[f"{name}.bias"], training)


def convolve(w: dict, name: str, x: Tensor) -> Tensor:
    kernel = w[f"{name}.weight"]
    return F.conv1d(x, kernel, w[f"{name}.bias"], padding=kernel.shape[-1] // 2)


def linear(w: dict, name: str, x: Tensor) -> Tensor:
    return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def layer_norm(w: dict, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])


def mixed(w: dict, name: str, x: Tensor, training: bool) -> Tensor:
    inside = F.gelu(batch_norm(w, f"{name}.module.0", x, training))
    return x + convolve(w, f"{name}.module.2", inside)


def convolutions(w: dict, x: Tensor, training: bool = False) -> Tensor:
    """Tokens (B, W, L) before the transformer."""
    x = mixed(w, "conv.stem.1", convolve(w, "conv.stem.0", x), training)
    x = F.max_pool1d(x, 2)
    i = 0
    while f"conv.tower.{i}.0.2.weight" in w:
        x = F.gelu(batch_norm(w, f"conv.tower.{i}.0.0", x, training))
        x = mixed(w, f"conv.tower.{i}.1", convolve(w, f"conv.tower.{i}.0.2", x), training)
        x = F.max_pool1d(x, 2)
        i += 1
    return x


def sinusoid(length: int, width: int) -> Tensor:
    table = torch.zeros(length, width)
    pos = torch.arange(length, dtype=torch.float32).unsqueeze(1)
    speed = torch.exp(-math.log(10000.0) * torch.arange(0, width, 2).float() / width)
    table[:, 0::2] = torch.sin(pos * speed)
    table[:, 1::2] = torch.cos(pos * speed)
    return table


def heads_first(x: Tensor, heads: int) -> Tensor:
    """(B, L, W) -> (B, H, L, D)"""
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor, table: Tensor, dropout: float = 0.0) -> Tensor:
    """(B, H, L, D) with a vector (L, L, D) of the table for every pair of tokens."""
    L, D = q.shape[2:]
    reach = (len(table) + 1) // 2
    place = torch.arange(L)
    pairs = table[place[:, None] - place[None, :] + reach - 1]  # (L, L, D)
    score = (q @ k.transpose(-1, -2) + torch.einsum("bhld,lrd->bhlr", q, pairs)) / math.sqrt(D)
    return F.dropout(torch.softmax(score, dim=-1), dropout) @ v


def attention(w: dict, name: str, x: Tensor, dropout: float = 0.0) -> Tensor:
    table = w[f"{name}.distance_embedding.weight"]
    heads = x.shape[-1] // table.shape[1]
    q, k, v = (heads_first(linear(w, f"{name}.{p}", x), heads) for p in ("query", "key", "value"))
    return attend(q, k, v, table, dropout).transpose(1, 2).flatten(2)


def encoder_layer(w: dict, name: str, x: Tensor, dropout: float = 0.0) -> Tensor:
    attended = attention(w, f"{name}.mha", x, dropout)
    x = layer_norm(w, f"{name}.norm1", x + F.dropout(attended, dropout))
    up = F.dropout(linear(w, f"{name}.linear_net.0", x), dropout)
    down = linear(w, f"{name}.linear_net.3", F.silu(up) * up)
    return layer_norm(w, f"{name}.norm2", x + F.dropout(down, dropout))


def logits(
    w: dict, x: Tensor, crop: int, training: bool = False, dropout: tuple = (0.0, 0.0)
) -> Tensor:
    """(B, outputs, L - 2 crop) before the softplus; dropout of the encoder and of the head.

    `training`: the batch's own statistics in normalisation.
    """
    x = convolutions(w, x, training).transpose(1, 2)
    x = x + sinusoid(x.shape[1], x.shape[2]).to(x.dtype)
    n = 0
    while f"trans.layers.{n}.norm1.weight" in w:
        x = encoder_layer(w, f"trans.layers.{n}", x, dropout[0])
        n += 1
    x = x.transpose(1, 2)
    x = x[:, :, crop : x.shape[2] - crop]
    x = F.gelu(batch_norm(w, "ptw.conv.0", x, training))
    x = F.dropout(convolve(w, "ptw.conv.2", x), dropout[1])
    return linear(w, "ptw.linear.0", x.transpose(1, 2)).transpose(1, 2)
