"""Promoter CNN: binned histone marks around a TSS -> expression of the gene.

Shapes: B genes, M marks, L bins, C channels, P positions left after pooling.
Murphy et al., Nucleic Acids Research 53(4), gkae1212 (2025), network "covnet".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.promoter_cnn.published import import_keras
from models.spec import ModelSpec

BIN_BP = 100  # width of an input bin
POOLS = (4, 2, 2)  # bins per max-pool after each convolution


@dataclass(frozen=True)
class Config:
    """Sizes of the network; the defaults are the paper's (one mark, 2,619,126 parameters)."""

    marks: int = 1
    bins: int = 60
    filters: tuple[int, int, int] = (175, 350, 700)
    widths: tuple[int, int, int] = (8, 4, 4)
    dense: tuple[int, int] = (625, 125)
    dropout: tuple[float, float] = (0.1, 0.4)  # after each pool, after the flattening

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Config:
        """The sizes that a run's settings ask for (`marks` is a list of names there)."""
        keys = ("filters", "widths", "dense", "dropout")
        lists = {key: tuple(settings[key]) for key in keys if key in settings}
        return cls(
            marks=len(settings.get("marks", ["one"])),
            bins=settings.get("window_bp", 6000) // BIN_BP,
            **lists,
        )


class SameConv(nn.Module):
    """Convolution that keeps the length; an even kernel pads one zero more on the right (Keras)."""

    def __init__(self, channels_in: int, channels_out: int, width: int):
        super().__init__()
        self.left, self.right = (width - 1) // 2, width // 2
        self.conv = nn.Conv1d(channels_in, channels_out, width)

    def forward(self, x_BCL: Tensor) -> Tensor:
        return self.conv(F.pad(x_BCL, (self.left, self.right)))


class PromoterCNN(nn.Module):
    """Three convolutions with max-pooling, then three dense layers; no normalisation."""

    def __init__(self, cfg: Config):
        super().__init__()
        channels = (cfg.marks, *cfg.filters)
        self.convs = nn.ModuleList(
            SameConv(channels[k], channels[k + 1], cfg.widths[k]) for k in range(len(cfg.filters))
        )
        positions = cfg.bins
        for pool in POOLS:
            positions //= pool  # what does not fill a pool is left out, as in Keras
        sizes = (positions * cfg.filters[-1], *cfg.dense, 1)
        self.dense = nn.ModuleList(nn.Linear(sizes[k], sizes[k + 1]) for k in range(len(sizes) - 1))
        self.drop_pooled, self.drop_flat = nn.Dropout(cfg.dropout[0]), nn.Dropout(cfg.dropout[1])
        self.apply(_keras_start)

    def forward(self, marks_BML: Tensor) -> Tensor:
        h_BCL = marks_BML
        for k, conv in enumerate(self.convs):
            # L: 60 -> 15 -> 7 -> 3
            h_BCL = self.drop_pooled(_max_pool(conv(h_BCL).relu(), POOLS[k]))
        # Keras flattens (position, channel); only the order of the first dense layer depends on it
        h_BF = self.drop_flat(h_BCL.transpose(1, 2).flatten(1))  # (B, C, P) -> (B, P * C)
        for layer in self.dense[:-1]:
            h_BF = layer(h_BF).relu()
        return self.dense[-1](h_BF).squeeze(-1)  # (B,) log2(RPKM + 1)


def _max_pool(x_BCL: Tensor, width: int) -> Tensor:
    """Non-overlapping maximum; a reshape has a deterministic gradient on every device."""
    length = x_BCL.shape[-1] // width
    return x_BCL[..., : length * width].unflatten(-1, (length, width)).amax(-1)


def _keras_start(module: nn.Module) -> None:
    """Glorot-uniform weights and zero biases, the defaults of Keras."""
    if isinstance(module, (nn.Conv1d, nn.Linear)):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


def _loss(prediction_B: Tensor, batch: Mapping[str, Any]) -> Tensor:
    return F.mse_loss(prediction_B, batch["expression"])


def _example(settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """Eight random genes whose expression is twice the mean of their bins."""
    cfg = Config.of(settings)
    rng = torch.Generator().manual_seed(0)
    level = torch.rand(8, 1, 1, generator=rng) * 4
    marks_BML = level * torch.rand(8, cfg.marks, cfg.bins, generator=rng)
    return {"marks": marks_BML, "expression": 2 * marks_BML.mean((1, 2))}


SPEC = ModelSpec(
    name="promoter_cnn",
    build=lambda settings: PromoterCNN(Config.of(settings)),
    loss=_loss,
    inputs=("marks",),
    target="expression",
    example=_example,
    import_published=import_keras,
)
