"""Pearson r of predictions and truth as sums that can be added up, over batches and processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

ROUNDING = 1e-12  # share of a sum of squares below which a variance is rounding


def sums(
    spec: Any, settings: Mapping[str, Any], returned: Tensor, batch: Mapping[str, Any]
) -> Tensor:
    """What one batch adds: n, y, p, y², p² and y p per track, float64 [6, T].

    Values are compared as the model's field does (`spec.compared`); missing ones are left out.

    Args:
        returned: what the network returned: (B, T, K), or (B) for one number per example.
    """
    truth = batch[spec.truth(settings) if spec.truth else spec.target]
    if spec.tracks_last:
        return _tracks_last(truth, spec.output(returned), batch["valid"])
    truth = truth.double()
    seen = ~truth.isnan()
    if batch.get("valid") is not None:
        seen = seen & batch["valid"].bool()
    y = spec.compared(truth.masked_fill(~seen, 0.0)) * seen
    p = spec.compared(spec.output(returned).double()) * seen
    tracks = truth.shape[1] if truth.ndim == 3 else 1
    parts = torch.stack([seen.double(), y, p, y * y, p * p, y * p])
    if truth.ndim == 3:
        parts = parts.transpose(1, 2)
    return parts.reshape(6, tracks, -1).sum(-1)


def _tracks_last(truth: Tensor, predicted: Tensor, valid: Tensor) -> Tensor:
    """The same of (B, T, D) without missing numbers; sums of 32 bit where there are many tracks."""
    y, p = truth * valid, predicted.float() * valid
    n = valid.expand_as(truth).sum((0, 1))
    sums = [torch.einsum("btd,btd->d", a, b) for a, b in ((y, y), (p, p), (y, p))]
    return torch.stack([v.double() for v in (n, y.sum((0, 1)), p.sum((0, 1)), *sums)])


def mean_r(total: Tensor) -> float:
    """Mean over tracks of Pearson r; NaN where no track varies, in truth and prediction."""
    n, y, p, yy, pp, yp = total.cpu()
    of_y, of_p = n * yy - y * y, n * pp - p * p
    varies = (of_y > ROUNDING * n * yy) & (of_p > ROUNDING * n * pp)
    r = (n * yp - y * p)[varies] / (of_y * of_p)[varies].sqrt()
    return float(r.mean()) if len(r) else float("nan")
