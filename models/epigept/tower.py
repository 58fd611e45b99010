"""The sequence tower: bases -> one vector per bin. It is the same for all cells of a region.

Shapes: R regions, N bases, B bins, D channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.epigept.sizes import Config

BASES = 4


def arithmetic(weight: Tensor) -> torch.dtype:
    """The dtype that maps compute in: that of autocast where it is on, else that of the weights."""
    kind = weight.device.type
    if kind == "meta" or not torch.is_autocast_enabled(kind):  # sizes alone have no autocast
        return weight.dtype
    return torch.get_autocast_dtype(kind)


class Tower(nn.Module):
    """Blocks of convolution, ReLU and max-pooling; the product of the pools is the bin."""

    def __init__(self, cfg: Config):
        super().__init__()
        sizes = zip((BASES, *cfg.channels[:-1]), cfg.channels, cfg.kernels, strict=True)
        self.convs = nn.ModuleList(nn.Conv1d(a, b, k, padding=k // 2) for a, b, k in sizes)
        self.pools = cfg.pools
        self.dropout = nn.Dropout(cfg.tower_dropout)
        # as published for five blocks: after the third and the last
        self.dropped = {len(cfg.channels) // 2, len(cfg.channels) - 1}

    def forward(self, bases_RN: Tensor) -> Tensor:
        """(R, B, D) from codes A C G T = 0 1 2 3, anything else for other letters."""
        x_RDN = self.encode(bases_RN)
        for i, (conv, pool) in enumerate(zip(self.convs, self.pools, strict=True)):
            # the same numbers as ReLU first, over a fraction of the places
            x_RDN = F.relu(F.max_pool1d(conv(x_RDN), pool))
            if i in self.dropped:
                x_RDN = self.dropout(x_RDN)
        return x_RDN.transpose(1, 2)

    def encode(self, bases_RN: Tensor) -> Tensor:
        """One-hot rows A, C, G, T (R, 4, N); zeros for other letters."""
        letters = torch.arange(BASES, dtype=bases_RN.dtype, device=bases_RN.device)
        return (bases_RN[:, None] == letters[:, None]).to(arithmetic(self.convs[0].weight))
