"""The start from the mean of the training cells: a prediction is the mean and what differs.

Most of a held-out cell is what all cells have in common, and sequence tells it worse than a
measurement does. What differs follows from the factors in which the cell differs: a sum over the
sites nearby, linear in their motif score times difference in expression, learnt in minutes from few
cells; the transformer adds what is not linear. This is not part of the published model.

Shapes: R regions, C cells, B bins, K transcription factors (TFs), W width of a token, S signals.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.epigept.sizes import Config
from models.epigept.tower import arithmetic

STRONG = 30.0  # a good site (10 nats) of a factor that is there (log1p 3): brings features to 1


class Start(NamedTuple):
    """Where predictions start: `mean` (R, C, B, S), and features of the usual cell (R, 1, B, K)."""

    mean_RCBS: Tensor
    usual_R1BK: Tensor


class FromMean(nn.Module):
    """The mean as an input of the encoder, and what differs by sites nearby.

    `usual` is the training cells' mean expression (see `prepare`).
    """

    def __init__(self, cfg: Config):
        super().__init__()
        self.register_buffer("usual", torch.zeros(cfg.tfs))
        self.level = nn.Linear(cfg.signals, cfg.token_width)
        width = 2 * cfg.local_reach + 1
        self.local = nn.Conv1d(cfg.tfs, cfg.signals, width, padding=cfg.local_reach, bias=False)
        nn.init.zeros_(self.local.weight)

    def difference(self, features_RCBK: Tensor, usual_R1BK: Tensor) -> Tensor:
        """What differs from the mean, as far as it is a sum over sites, (R, C, B, S)."""
        changed_RCBK = (features_RCBK - usual_R1BK).to(arithmetic(self.local.weight)) / STRONG
        made = self.local(changed_RCBK.flatten(0, 1).transpose(1, 2)).transpose(1, 2)
        return made.unflatten(0, features_RCBK.shape[:2])


def prepare(net: Any, examples: Any) -> None:
    """Keep the training cells' mean expression."""
    if net.start is not None:
        reader = examples.reader
        net.start.usual.copy_(torch.from_numpy(reader.vectors[reader.train].mean(axis=0)))
