"""The published LSTM cell over a whole frame, with the input's part taken out of the time loop.

Shapes: B frames side by side, T bins, I inputs, H hidden units.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LAYER_NORM_EPS = 1e-6


class SoftsignLSTM(nn.Module):
    """One layer of LSTM with softsign in place of tanh (specification 3.1).

        a = W x + b_w + U h + b_u;  i, f, o = sigmoid(a[:3H]);  g = softsign(a[3H:])
        c' = f c + i g;  h' = o softsign(c')

    Weights and biases begin uniform in +-1/sqrt(H). With `layer_norm`, W x + b_w, U h + b_u and c'
    are normalised per bin (Ba et al. 2016) before they are used.
    """

    def __init__(self, inputs: int, hidden: int, layer_norm: bool = False):
        super().__init__()
        self.hidden = hidden
        self.input = nn.Linear(inputs, 4 * hidden)
        self.recurrent = nn.Linear(hidden, 4 * hidden)
        bound = 1 / math.sqrt(hidden)
        for weight in self.parameters():
            nn.init.uniform_(weight, -bound, bound)
        sizes = (4 * hidden, 4 * hidden, hidden) if layer_norm else ()
        self.norms = nn.ModuleList(nn.LayerNorm(n, eps=LAYER_NORM_EPS) for n in sizes)

    def forward(
        self, x: Tensor, hidden: Tensor, cell: Tensor, cells: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Hidden and cell state after every bin, (B, T, H) each.

        Args:
            x: (B, T, I). hidden, cell: states before the first bin, (B, H).
            cells: where given, (B, T, H), the cell state before every bin, instead of the one that
                the layer would carry (specification 3.3).
        """
        given = self.input(x.transpose(0, 1))  # one product for all bins, (T, B, 4 H)
        if self.norms:
            given = self.norms[0](given)
        hiddens, after = [], []
        befores = itertools.repeat(None) if cells is None else cells.unbind(dim=1)
        for entering, before in zip(given.unbind(), befores, strict=False):
            pushed = self.recurrent(hidden)
            if self.norms:
                pushed = self.norms[1](pushed)
            gates, new = (entering + pushed).split((3 * self.hidden, self.hidden), dim=1)
            enter, keep, leave = torch.sigmoid(gates).chunk(3, dim=1)
            cell = keep * (cell if before is None else before) + enter * F.softsign(new)
            if self.norms:
                cell = self.norms[2](cell)
            hidden = leave * F.softsign(cell)
            hiddens.append(hidden)
            after.append(cell)
        return torch.stack(hiddens).transpose(0, 1), torch.stack(after).transpose(0, 1)
