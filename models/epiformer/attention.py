"""Attention with relative positions, without a vector per pair of tokens.

Shapes: B windows, L tokens, W width, H heads, D = W / H width per head, P distances (2 L - 1, or
more in a table that reaches further), S stretches of R queries.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.epiformer.sizes import Config

STRETCHES = 4  # of queries: more save products with distances out of reach, in smaller pieces


def positions(length: int, width: int) -> Tensor:
    """Sine and cosine position table (length, width): sines on even features, base 10,000."""
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angle = torch.arange(length)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


def relative_scores(q_BHLD: Tensor, table_PD: Tensor) -> Tensor:
    """Scores (B, H, L, L): score[l, r] = q[l] . table[l - r + P // 2].

    Every stretch of queries meets the distances it needs in one product. With columns by falling
    distance the wanted part of a row starts one column before that of the row above; with one
    column too many at both ends, dropping the first R numbers makes these parts a plain view.
    """
    B, H, L, D = q_BHLD.shape
    stretches = math.gcd(L, STRETCHES)
    R = L // stretches  # queries of a stretch
    middle = len(table_PD) // 2
    used_PD = table_PD[middle - L + 1 : middle + L].to(q_BHLD.dtype).flip(0)
    windows_SDX = F.pad(used_PD, (0, 0, 1, 1)).unfold(0, L + R + 1, R).flip(0)
    q_SQD = q_BHLD.unflatten(2, (stretches, R)).permute(2, 0, 1, 3, 4).reshape(stretches, -1, D)
    by_distance_SBHRX = (q_SQD @ windows_SDX).view(stretches, B, H, R * (L + R + 1))
    score_SBHRL = by_distance_SBHRX[..., R:].unflatten(-1, (R, L + R))[..., :L]
    return score_SBHRL.permute(1, 2, 0, 3, 4).reshape(B, H, L, L)


def turned(x_BHLD: Tensor, turn_LD: Tensor) -> Tensor:
    """Rotary positions: every pair of features turned by an angle that grows with the place."""
    sin_LF, cos_LF = turn_LD.to(x_BHLD.dtype).chunk(2, -1)
    a, b = x_BHLD.chunk(2, -1)
    return torch.cat([a * cos_LF - b * sin_LF, a * sin_LF + b * cos_LF], dim=-1)


class Attention(nn.Module):
    """Self-attention over all tokens of a window; the query alone meets the relative table."""

    def __init__(self, cfg: Config):
        super().__init__()
        self.heads, self.dropout = cfg.heads, cfg.attention_dropout
        inner = cfg.width // cfg.heads
        self.query = nn.Linear(cfg.width, cfg.width)
        self.key = nn.Linear(cfg.width, cfg.width)
        self.value = nn.Linear(cfg.width, cfg.width)
        self.table = nn.Embedding(2 * cfg.reach - 1, inner) if cfg.relative == "table" else None
        turn_LD = None
        if cfg.relative == "rotary":
            table_LD = positions(cfg.tokens, inner)
            turn_LD = torch.cat([table_LD[:, 0::2], table_LD[:, 1::2]], dim=-1)
        self.register_buffer("turn_LD", turn_LD, persistent=False)
        self.out = nn.Linear(cfg.width, cfg.width) if cfg.output_projection else nn.Identity()

    def forward(self, x_BLW: Tensor) -> Tensor:
        maps = (self.query, self.key, self.value)
        q, k, v = (f(x_BLW).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in maps)
        q = q * q.shape[-1] ** -0.5
        score_BHLL = None
        if self.table is not None:
            score_BHLL = relative_scores(q, self.table.weight)
        elif self.turn_LD is not None:
            q, k = turned(q, self.turn_LD), turned(k, self.turn_LD)
        dropout = self.dropout if self.training else 0.0
        answer_BHLD = F.scaled_dot_product_attention(q, k, v, score_BHLL, dropout, scale=1.0)
        return self.out(answer_BHLD.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two maps around a gate: the published silu(x) * x, or the product of two maps (SwiGLU)."""

    def __init__(self, cfg: Config):
        super().__init__()
        self.two = cfg.gate == "swiglu"
        self.up = nn.Linear(cfg.width, cfg.hidden * (2 if self.two else 1))
        self.dropout = nn.Dropout(cfg.dropout)
        self.down = nn.Linear(cfg.hidden, cfg.width)

    def forward(self, x_BLW: Tensor) -> Tensor:
        up = self.up(x_BLW)
        if self.two:
            gate, up = up.chunk(2, -1)
            return self.down(self.dropout(F.silu(gate) * up))
        up = self.dropout(up)  # before the gate, as published
        return self.down(F.silu(up) * up)


class Block(nn.Module):
    """Attention and feed-forward, each added to its input; normalised after or before."""

    def __init__(self, cfg: Config):
        super().__init__()
        self.before = cfg.block == "pre"
        self.attention = Attention(cfg)
        self.norm1 = nn.LayerNorm(cfg.width)
        self.feed_forward = FeedForward(cfg)
        self.norm2 = nn.LayerNorm(cfg.width)
        self.dropout = nn.Dropout(cfg.dropout)

    def forward(self, x_BLW: Tensor) -> Tensor:
        if self.before:
            x_BLW = x_BLW + self.dropout(self.attention(self.norm1(x_BLW)))
            return x_BLW + self.dropout(self.feed_forward(self.norm2(x_BLW)))
        x_BLW = self.norm1(x_BLW + self.dropout(self.attention(x_BLW)))
        return self.norm2(x_BLW + self.dropout(self.feed_forward(x_BLW)))
