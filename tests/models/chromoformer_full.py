"""Chromoformer in its published full form: the slow oracle of the tests and the benchmark.

Every layer is computed for all M bins with M x M masks and all eight slots, from weights under the
names of the published checkpoints. Written from the description of the method, with no code in
common with `models/`.

Shapes: B genes, S slots, M bins, F features (marks), E embedding, H heads, D width per head.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

BINS_BP = (2000, 500, 100)
PAPER = {
    "width": 128,
    "head": 128,
    "embed": (1, 2, 128, 128),  # layers, heads, width of all heads, feed-forward
    "pairwise_interaction": (2, 2, 128, 256),
    "regulation": (6, 8, 256, 256),
}

# Other sizes for quick tests, all different; DEEP has a second embedding layer.
SMALL = {
    "width": 8,
    "head": 5,
    "embed": (1, 2, 12, 10),
    "pairwise_interaction": (2, 3, 6, 7),
    "regulation": (3, 4, 16, 9),
}
DEEP = {**SMALL, "embed": (2, 1, 6, 10), "pairwise_interaction": (1, 1, 8, 7)}


def linear(w: dict, name: str, x: Tensor) -> Tensor:
    return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))


def norm(w: dict, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], eps=1e-5)


def position_table(length: int, width: int) -> Tensor:
    table = torch.zeros(length, width)
    pos = torch.arange(length, dtype=torch.float32).unsqueeze(1)
    speed = torch.exp(-math.log(10000.0) * torch.arange(0, width, 2).float() / width)
    table[:, 0::2] = torch.sin(pos * speed)
    table[:, 1::2] = torch.cos(pos * speed)
    return table


def heads_first(x: Tensor, heads: int) -> Tensor:
    """(..., M, H * D) -> (..., H, M, D)"""
    return x.reshape(*x.shape[:-1], heads, -1).transpose(-2, -3)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, heads: int, extra: Tensor | float = 0):
    """Multi-head attention; `mask` is True where forbidden, `extra` is added to the scores."""
    q, k, v = heads_first(q, heads), heads_first(k, heads), heads_first(v, heads)
    score = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + extra
    score = score.masked_fill(mask, -1e9)
    out = torch.softmax(score, dim=-1) @ v
    return out.transpose(-2, -3).flatten(-2)


def rest_of_block(w: dict, layer: str, x: Tensor, attended: Tensor) -> Tensor:
    y = norm(w, f"{layer}.self_att.ln", x + linear(w, f"{layer}.self_att.ff", attended))
    z = linear(w, f"{layer}.ff.l2", torch.relu(linear(w, f"{layer}.ff.l1", y)))
    return norm(w, f"{layer}.ff.ln", y + z)


def layers(w: dict, module: str) -> Iterator[tuple[str, int]]:
    """Name of every layer of a module, and its number of heads."""
    k = 0
    while f"{module}.transformer.layers.{k}.self_att.gamma_f" in w:
        name = f"{module}.transformer.layers.{k}"
        yield name, len(w[f"{name}.self_att.gamma_f"])
        k += 1


def embed(w: dict, module: str, x_BMF: Tensor, mask: Tensor) -> Tensor:
    x = linear(w, f"{module}.lin_proj", x_BMF)
    x = x + position_table(x.shape[1], x.shape[2])
    for layer, heads in layers(w, module):
        q, k, v = linear(w, f"{layer}.self_att.att", x).chunk(3, dim=-1)
        x = rest_of_block(w, layer, x, attend(q, k, v, mask, heads))
    return x


def pairwise(w: dict, module: str, promoter_BME: Tensor, pcre_BSMF: Tensor, mask: Tensor) -> Tensor:
    slots = pcre_BSMF.shape[1]
    x = linear(w, f"{module}.lin_proj_p", promoter_BME).unsqueeze(1)
    x = x.expand(-1, slots, -1, -1)
    c = linear(w, f"{module}.lin_proj_pcre", pcre_BSMF)
    c = c + position_table(c.shape[2], c.shape[3])
    for layer, heads in layers(w, module):
        q = linear(w, f"{layer}.self_att.p_att", x)
        k, v = linear(w, f"{layer}.self_att.c_att", c).chunk(2, dim=-1)
        x = rest_of_block(w, layer, x, attend(q, k, v, mask, heads))
    return x


def regulate(w: dict, module: str, x_BTE: Tensor, mask: Tensor, freq: Tensor) -> Tensor:
    x = x_BTE
    for layer, heads in layers(w, module):
        q, k, v, gate = linear(w, f"{layer}.self_att.att", x).chunk(4, dim=-1)
        extra = w[f"{layer}.self_att.gamma_f"].view(1, heads, 1, 1) * freq
        x = rest_of_block(w, layer, x, attend(q, k, v, mask, heads, extra) * torch.sigmoid(gate))
    return x


def masks(batch: dict[str, Tensor], bin_bp: int) -> tuple[Tensor, Tensor]:
    """Promoter masks (B, 1, M, M) and pCRE masks (B, S, 1, M, M), True = forbidden."""
    lengths = batch["lengths"]
    (B, S), M = lengths.shape, batch[f"promoter_{bin_bp}"].shape[1]
    pcre = torch.ones(B, S, 1, M, M, dtype=torch.bool)
    for b in range(B):
        for s in range(S):
            n = math.ceil(int(lengths[b, s]) / bin_bp)
            left = math.ceil((M - n) / 2)
            if n:
                pcre[b, s, 0, :, left : left + n] = False
    return torch.zeros(B, 1, M, M, dtype=torch.bool), pcre


def interactions(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Interaction mask and interaction_freq, both (B, 1, 1 + S, 1 + S)."""
    B, S = batch["lengths"].shape
    mask = torch.ones(B, 1, S + 1, S + 1, dtype=torch.bool)
    freq = torch.zeros(B, 1, S + 1, S + 1)
    for b in range(B):
        partners = int((batch["lengths"][b] > 0).sum())
        mask[b, 0, : partners + 1, : partners + 1] = False
        freq[b, 0, 0, 1:] = batch["scores"][b]
    return mask, freq


def prepare(batch: dict[str, Tensor]) -> dict:
    """The masks of a batch, so that a benchmark can leave their making out of the time."""
    return {"by_bin": {bp: masks(batch, bp) for bp in BINS_BP}, "between": interactions(batch)}


def forward(w: dict, batch: dict[str, Tensor], prepared: dict | None = None) -> Tensor:
    """Output (B, 1) or (B, 2) for weights under published names; partners fill the first slots."""
    prepared = prepare(batch) if prepared is None else prepared
    found = []
    for bp in BINS_BP:
        promoter_mask, pcre_mask = prepared["by_bin"][bp]
        e = embed(w, f"embed.{bp}", batch[f"promoter_{bp}"], promoter_mask)
        pair = f"pairwise_interaction.{bp}"
        seen = pairwise(w, pair, e, batch[f"partners_{bp}"], pcre_mask)
        centre = e.shape[1] // 2
        tokens = torch.cat([e[:, None, centre], seen[:, :, centre]], dim=1)
        out = regulate(w, f"regulation.{bp}", tokens, *prepared["between"])
        found.append(out[:, 0] + e[:, centre])
    h = torch.relu(linear(w, "fc_head.0", torch.cat(found, dim=-1)))
    return linear(w, "fc_head.2", h)


def draw(seed: int, marks: int, outputs: int, sizes: dict | None = None) -> dict[str, Tensor]:
    """Initial weights under published names, drawn in the published order."""
    sizes = {**PAPER, **(sizes or {})}
    rng, E = torch.Generator().manual_seed(seed), sizes["width"]
    w: dict[str, Tensor] = {}

    def linear_map(name: str, out: int, inputs: int, bias: bool = False) -> None:
        k = 1 / math.sqrt(inputs)
        w[f"{name}.weight"] = torch.empty(out, inputs).uniform_(-k, k, generator=rng)
        if bias:
            w[f"{name}.bias"] = torch.empty(out).uniform_(-k, k, generator=rng)

    def layer_norm(name: str) -> None:
        w[f"{name}.weight"], w[f"{name}.bias"] = torch.ones(E), torch.zeros(E)

    def block(module: str, k: int, maps: tuple[tuple[str, int], ...], with_bias: bool) -> None:
        _, heads, inner, ff = sizes[module.split(".")[0]]
        name = f"{module}.transformer.layers.{k}"
        w[f"{name}.self_att.gamma_f"] = torch.ones(heads)
        if with_bias:
            linear_map(f"{name}.self_att.w_bias", heads, 2)
        for which, times in maps:
            linear_map(f"{name}.self_att.{which}", times * inner, E)
        linear_map(f"{name}.self_att.ff", E, inner, True)
        linear_map(f"{name}.ff.l1", ff, E, True)
        linear_map(f"{name}.ff.l2", E, ff, True)
        layer_norm(f"{name}.self_att.ln")
        layer_norm(f"{name}.ff.ln")

    for bp in BINS_BP:
        linear_map(f"embed.{bp}.lin_proj", E, marks)
        for k in range(sizes["embed"][0]):
            block(f"embed.{bp}", k, (("att", 3),), True)
    for bp in BINS_BP:
        pair = f"pairwise_interaction.{bp}"
        linear_map(f"{pair}.lin_proj_p", E, E)
        linear_map(f"{pair}.lin_proj_pcre", E, marks)
        layer_norm(f"{pair}.ln")
        for k in range(sizes["pairwise_interaction"][0]):
            block(pair, k, (("p_att", 1), ("c_att", 2)), False)
    for bp in BINS_BP:
        for k in range(sizes["regulation"][0]):
            block(f"regulation.{bp}", k, (("att", 4),), True)
    for last in (2, 1) if outputs == 1 else (2,):  # the discarded head is drawn as well
        linear_map("fc_head.0", sizes["head"], 3 * E, True)
        linear_map("fc_head.2", last, sizes["head"], True)
    return w


def made_up(partners, marks=3, seed=0, lengths=(1, 40_000, 100, 39_901, 2_500, 6_227)):
    """Genes with these numbers of partners, of awkward lengths; zeros where there is nothing."""
    rng = torch.Generator().manual_seed(seed)
    B, S = len(partners), 8
    used = torch.arange(S) < torch.tensor(partners)[:, None]
    bp = torch.tensor(lengths)[torch.arange(B * S) % len(lengths)].view(B, S)
    batch = {"lengths": bp * used, "scores": (1.5 + torch.rand(B, S, generator=rng)) * used}
    for size in BINS_BP:
        L = 40_000 // size
        batch[f"promoter_{size}"] = 2 * torch.rand(B, L, marks, generator=rng)
        inside = ~masks({**batch, f"promoter_{size}": torch.zeros(B, L)}, size)[1][:, :, 0, 0]
        signal = 2 * torch.rand(B, S, L, marks, generator=rng)
        batch[f"partners_{size}"] = signal * inside[..., None]
    batch["expression"] = torch.rand(B, generator=rng)
    batch["label"] = torch.arange(B) % 2
    return batch
