"""The encoder over the bins of a region, with attention weights only where they are asked for.

Shapes: N examples (pairs of region and cell), B bins, W width, H heads, D = W / H per head.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.epigept.sizes import Config


class Attention(nn.Module):
    """Self-attention over all bins: fused, or with its weights."""

    def __init__(self, cfg: Config):
        super().__init__()
        width = cfg.token_width
        self.heads, self.dropout = cfg.heads, cfg.attention_dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x_NBW: Tensor, ask: bool = False) -> tuple[Tensor, Tensor | None]:
        """The answer (N, B, W) and, if asked, the weights (N, H, B, B) in float32."""
        qkv = self.qkv(x_NBW).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q_NHBD, k_NHBD, v_NHBD = qkv.unbind(0)
        dropout, weights_NHBB = self.dropout if self.training else 0.0, None
        if ask:
            scores = (q_NHBD * q_NHBD.shape[-1] ** -0.5) @ k_NHBD.transpose(-1, -2)
            single = scores.dtype in (torch.bfloat16, torch.float16)
            weights_NHBB = (scores.float() if single else scores).softmax(-1)
            answer = F.dropout(weights_NHBB, dropout).to(v_NHBD.dtype) @ v_NHBD
        else:
            answer = F.scaled_dot_product_attention(q_NHBD, k_NHBD, v_NHBD, dropout_p=dropout)
        return self.out(answer.transpose(1, 2).flatten(2)), weights_NHBB


class Block(nn.Module):
    """Attention and feed-forward, each added to its input; normalised after or before."""

    def __init__(self, cfg: Config):
        super().__init__()
        width = cfg.token_width
        self.before = cfg.block == "pre"
        self.attention = Attention(cfg)
        self.norm1 = nn.LayerNorm(width, cfg.norm_epsilon)
        self.up = nn.Linear(width, cfg.feed_forward)
        self.down = nn.Linear(cfg.feed_forward, width)
        self.norm2 = nn.LayerNorm(width, cfg.norm_epsilon)
        self.dropout = nn.Dropout(cfg.dropout)

    def forward(self, x_NBW: Tensor, ask: bool = False) -> tuple[Tensor, Tensor | None]:
        answer, weights = self.attention(self.norm1(x_NBW) if self.before else x_NBW, ask)
        x_NBW = x_NBW + self.dropout(answer)
        if not self.before:
            x_NBW = self.norm1(x_NBW)
        inner = self.norm2(x_NBW) if self.before else x_NBW
        x_NBW = x_NBW + self.dropout(self.down(F.gelu(self.up(inner))))
        return (x_NBW if self.before else self.norm2(x_NBW)), weights


class Encoder(nn.Module):
    """Learned places, then the layers; one normalisation at the start (post) or the end (pre)."""

    def __init__(self, cfg: Config):
        super().__init__()
        width = cfg.token_width
        self.before = cfg.block == "pre"
        self.places_LW = nn.Parameter(0.02 * torch.randn(cfg.places, width))
        kinds = 0.02 * torch.randn(cfg.token_types, width) if cfg.token_types else None
        self.kinds_TW = None if kinds is None else nn.Parameter(kinds)
        self.norm = nn.LayerNorm(width, cfg.norm_epsilon)
        self.dropout = nn.Dropout(cfg.dropout)
        self.layers = nn.ModuleList(Block(cfg) for _ in range(cfg.layers))

    def forward(
        self, x_NBW: Tensor, asked: Collection[int] = ()
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Tokens (N, B, W), and the attention weights (N, H, B, B) of the asked layers."""
        places_BW = self.places_LW[: x_NBW.shape[1]]
        if self.kinds_TW is not None:
            places_BW = places_BW + self.kinds_TW[0]
        x_NBW = x_NBW + places_BW
        x_NBW = self.dropout(x_NBW if self.before else self.norm(x_NBW))
        found = {}
        for n, layer in enumerate(self.layers):
            x_NBW, weights = layer(x_NBW, n in asked)
            if weights is not None:
                found[n] = weights
        return (self.norm(x_NBW) if self.before else x_NBW), found
