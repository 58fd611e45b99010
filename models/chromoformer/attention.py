"""Attention layers of Chromoformer, written for the one query per region that its result needs.

Only the centre bin of the promoter is used after the embedding and after the pairwise module, so
each region is asked one question. Keys and values are never built: a token is x W + P (signal x,
input map W, position table P), hence q . key = (q A) . x + q . R with A = W W_k and R = P W_k, and
likewise for values. The function and its gradients are those of the published form.

Shapes: N regions, G questions per region, Q = N * G, L bins, M marks, W width, H heads, D width per
head, I = H * D, B genes, K = 1 + S tokens per gene (promoter and partner slots), T tokens in use.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

FORBIDDEN = -1e9  # score of a key that must not be seen; float32, as the softmax is
VECTOR = 16  # float32 numbers in the widest CPU register


class Sizes(NamedTuple):
    """Sizes of one module: layers, heads, width of all heads together, feed-forward width."""

    layers: int
    heads: int
    inner: int
    feed_forward: int


class Grid(NamedTuple):
    """Where the T tokens of a batch lie among the K places of its B genes.

    Without `place_T` no place is empty and tokens lie gene by gene; with it promoters come first.
    """

    score_BK: Tensor  # interaction score with the promoter; 0 for the promoter itself
    place_T: Tensor | None = None  # row in (B * K)
    empty_BK: Tensor | None = None  # True where a gene has no partner

    def spread(self, x_TC: Tensor) -> Tensor:
        """Tokens at their places (B, K, C), zeros at empty ones."""
        B, K = self.score_BK.shape
        if self.place_T is not None:
            x_TC = x_TC.new_zeros(B * K, x_TC.shape[-1]).index_copy(0, self.place_T, x_TC)
        return x_TC.unflatten(0, (B, K))

    def collect(self, x_BKC: Tensor) -> Tensor:
        """The opposite of `spread`."""
        x_TC = x_BKC.flatten(0, 1)
        return x_TC if self.place_T is None else x_TC[self.place_T]

    def promoters(self, x_TC: Tensor) -> Tensor:
        B, K = self.score_BK.shape
        return x_TC[::K] if self.place_T is None else x_TC[:B]


class Folded(NamedTuple):
    """Keys (or values) of all regions as linear functions of their signal."""

    of_signal_HDM: Tensor
    of_place_HDL: Tensor


def fold(map_IW: Tensor, project_WM: Tensor, places_LW: Tensor, heads: int) -> Folded:
    """What the map makes of tokens `x W + P`, without the tokens."""
    of_signal_IM, of_place_IL = map_IW @ project_WM, map_IW @ places_LW.T
    return Folded(of_signal_IM.unflatten(0, (heads, -1)), of_place_IL.unflatten(0, (heads, -1)))


def positions(length: int, width: int) -> Tensor:
    """Sine and cosine position table (length, width), as published (paper, Methods)."""
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angle = torch.arange(length)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


def ask(
    question_NGI: Tensor,
    signal_NLM: Tensor,
    keys: Folded,
    values: Folded,
    outside_NL: Tensor | None,
) -> Tensor:
    """Answers (N, G, I): attention of every question over the bins of its region."""
    N, G, _ = question_NGI.shape
    heads, width, _ = keys.of_signal_HDM.shape
    question_HQD = question_NGI.reshape(N * G, heads, width).transpose(0, 1) * width**-0.5
    # the marks' share of the score is summed over M, the positions' share is the same everywhere
    by_mark_HQM = question_HQD @ keys.of_signal_HDM
    by_mark_NRM = by_mark_HQM.unflatten(1, (N, G)).movedim(0, 1).flatten(1, 2)  # R = H * G
    score_NRL = by_mark_NRM @ signal_NLM.mT
    by_place_HQL = question_HQD @ keys.of_place_HDL
    score_NHGL = score_NRL.unflatten(1, (heads, G)) + by_place_HQL.unflatten(1, (N, G)).movedim(
        0, 1
    )
    score_NHGL = score_NHGL.float()
    if outside_NL is not None:
        score_NHGL = score_NHGL.masked_fill(outside_NL[:, None, None], FORBIDDEN)
    share_NHGL = score_NHGL.softmax(-1)
    seen_NRM = share_NHGL.flatten(1, 2) @ signal_NLM
    seen_HQM = seen_NRM.unflatten(1, (heads, G)).movedim(1, 0).flatten(1, 2)
    share_HQL = share_NHGL.movedim(1, 0).flatten(1, 2)
    answer_HQD = seen_HQM @ values.of_signal_HDM.mT + share_HQL @ values.of_place_HDL.mT
    return answer_HQD.transpose(0, 1).reshape(N, G, heads * width)


class AfterAttention(nn.Module):
    """What follows every attention: output map, feed-forward, each added and normalised after."""

    def __init__(self, width: int, sizes: Sizes):
        super().__init__()
        self.out = nn.Linear(sizes.inner, width)
        self.norm_att = nn.LayerNorm(width)
        self.ff1 = nn.Linear(width, sizes.feed_forward)
        self.ff2 = nn.Linear(sizes.feed_forward, width)
        self.norm_ff = nn.LayerNorm(width)

    def forward(self, x_W: Tensor, attended_I: Tensor) -> Tensor:
        y_W = self.norm_att(x_W + self.out(attended_I))
        return self.norm_ff(y_W + self.ff2(self.ff1(y_W).relu()))


def unused(heads: int) -> nn.Linear:
    """The published 2 -> heads map that nothing uses; it is drawn, counted and stored."""
    return nn.Linear(2, heads, bias=False).requires_grad_(False)


def unused_scale(heads: int) -> nn.Parameter:
    """The published score scale of modules that have no interaction score."""
    return nn.Parameter(torch.ones(heads), requires_grad=False)


class EmbeddingLayer(nn.Module):
    """Self-attention over the bins of a promoter."""

    def __init__(self, width: int, sizes: Sizes):
        super().__init__()
        self.heads = sizes.heads
        self.unused_scale = unused_scale(sizes.heads)
        self.unused_map = unused(sizes.heads)
        self.qkv = nn.Linear(width, 3 * sizes.inner, bias=False)
        self.after = AfterAttention(width, sizes)

    def one_row(self, signal_BLM: Tensor, project_WM: Tensor, places_LW: Tensor) -> Tensor:
        """The centre row (B, W) of the layer's output for tokens `x W + P`."""
        centre = signal_BLM.shape[1] // 2
        q_IW, k_IW, v_IW = self.qkv.weight.chunk(3)
        token_BW = nn.functional.linear(signal_BLM[:, centre], project_WM) + places_LW[centre]
        keys = fold(k_IW, project_WM, places_LW, self.heads)
        values = fold(v_IW, project_WM, places_LW, self.heads)
        question_B1I = nn.functional.linear(token_BW, q_IW)[:, None]
        return self.after(token_BW, ask(question_B1I, signal_BLM, keys, values, None)[:, 0])

    def forward(self, tokens_BLW: Tensor, rows: slice) -> Tensor:
        """The rows asked for of the layer's output, keys and values built."""
        q_IW, kv_IW = self.qkv.weight.tensor_split([len(self.qkv.weight) // 3])
        asked_BRW = tokens_BLW[:, rows]
        q_BRI = nn.functional.linear(asked_BRW, q_IW)
        k_BLI, v_BLI = nn.functional.linear(tokens_BLW, kv_IW).chunk(2, -1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q_BRI, k_BLI, v_BLI))
        attended_BHRD = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.after(asked_BRW, attended_BHRD.transpose(1, 2).flatten(2))


class PairwiseLayer(nn.Module):
    """Cross-attention of the promoter's centre to the bins of one partner region."""

    def __init__(self, width: int, sizes: Sizes):
        super().__init__()
        self.heads = sizes.heads
        self.unused_scale = unused_scale(sizes.heads)
        self.q = nn.Linear(width, sizes.inner, bias=False)
        self.kv = nn.Linear(width, 2 * sizes.inner, bias=False)
        self.after = AfterAttention(width, sizes)

    def forward(
        self,
        x_NGW: Tensor,
        signal_NLM: Tensor,
        outside_NL: Tensor,
        project_WM: Tensor,
        places_LW: Tensor,
    ) -> Tensor:
        k_IW, v_IW = self.kv.weight.chunk(2)
        keys = fold(k_IW, project_WM, places_LW, self.heads)
        values = fold(v_IW, project_WM, places_LW, self.heads)
        return self.after(x_NGW, ask(self.q(x_NGW), signal_NLM, keys, values, outside_NL))


class RegulationLayer(nn.Module):
    """Gated self-attention among a gene's promoter and partners.

    Maps work on the tokens in use; only the small attention itself is padded to K places.
    """

    def __init__(self, width: int, sizes: Sizes):
        super().__init__()
        self.heads, self.inner = sizes.heads, sizes.inner
        self.scale = nn.Parameter(torch.ones(sizes.heads))  # of the interaction score, per head
        self.unused_map = unused(sizes.heads)
        self.qkvg = nn.Linear(width, 4 * sizes.inner, bias=False)
        self.after = AfterAttention(width, sizes)

    def forward(self, x_TW: Tensor, grid: Grid) -> Tensor:
        """All T tokens of the next layer."""
        qkv_T3I, gate_TI = self.qkvg(x_TW).split([3 * self.inner, self.inner], -1)
        qkv_BK3HD = grid.spread(qkv_T3I).unflatten(-1, (3, self.heads, -1))
        q_BHKD, k_BHKD, v_BHKD = qkv_BK3HD.permute(2, 0, 3, 1, 4)
        share_BHKK = self._share(q_BHKD @ k_BHKD.mT, grid)
        attended_BHKD = share_BHKK.to(v_BHKD.dtype) @ v_BHKD
        attended_TI = grid.collect(attended_BHKD.transpose(1, 2).flatten(2))
        return self.after(x_TW, attended_TI * gate_TI.sigmoid())

    def promoters(self, x_TW: Tensor, grid: Grid) -> Tensor:
        """The next layer's promoter tokens (B, W) alone, keys and values not built."""
        q_IW, k_IW, v_IW, gate_IW = self.qkvg.weight.chunk(4)
        asked_BW, x_BKW = grid.promoters(x_TW), grid.spread(x_TW)
        linear = nn.functional.linear
        q_HBD = linear(asked_BW, q_IW).unflatten(-1, (self.heads, -1)).transpose(0, 1)
        asked_BHW = (q_HBD @ k_IW.unflatten(0, (self.heads, -1))).transpose(0, 1)
        share_BHK = self._share((asked_BHW @ x_BKW.mT)[:, :, None], grid)[:, :, 0]
        seen_HBW = (share_BHK.to(x_BKW.dtype) @ x_BKW).transpose(0, 1)
        values_HBD = seen_HBW @ v_IW.unflatten(0, (self.heads, -1)).mT
        attended_BI = values_HBD.transpose(0, 1).flatten(1)
        return self.after(asked_BW, attended_BI * linear(asked_BW, gate_IW).sigmoid())

    def _share(self, product_BHRK: Tensor, grid: Grid) -> Tensor:
        """Softmax over the places; only row 0 (the promoter) sees the interaction scores."""
        bias_BH1K = self.scale[:, None, None] * grid.score_BK[:, None, None]
        rows = product_BHRK.shape[2]
        score_BHRK = product_BHRK.float() * (self.heads / self.inner) ** 0.5
        score_BHRK = score_BHRK + nn.functional.pad(bias_BH1K, (0, 0, 0, rows - 1))
        if grid.empty_BK is not None:
            score_BHRK = score_BHRK.masked_fill(grid.empty_BK[:, None, None], FORBIDDEN)
        # torch's CPU softmax is several times faster on rows of whole vectors than on rows of 9
        K = score_BHRK.shape[-1]
        whole = nn.functional.pad(score_BHRK, (0, -K % VECTOR), value=FORBIDDEN)
        return whole.softmax(-1)[..., :K]
