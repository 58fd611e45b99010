"""Losses by selection, what a prediction is of, and rows of contacts for the attention term.

Shapes: R regions, C cells, B bins, S signals (or states), N loops of a region.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

FLOOR = 1e-6  # of a rate inside the logarithm


class Prediction(NamedTuple):
    """What the network returns where signals alone do not tell how they are to be judged."""

    values_RCBS: Tensor  # signals (mse), rates (poisson), logits (open, states)
    kind: str  # the settings' `loss`
    attention_RCBB: Tensor | None = None  # of the last layer, mean of its heads
    weight: float = 0.0  # of the attention term
    diagonal: int = 0  # bins on either side of the diagonal that are no contact


def single(x: Tensor) -> Tensor:
    """At least float32, whatever the arithmetic of the forward pass."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def plain(returned: Tensor | Prediction) -> Prediction:
    return returned if isinstance(returned, Prediction) else Prediction(returned, "mse")


def output(returned: Tensor | Prediction) -> Tensor:
    """Signals in log1p units, or probabilities, (R, C, B, S)."""
    made = plain(returned)
    values = single(made.values_RCBS)
    if made.kind == "poisson":
        return values.log1p()
    if made.kind == "open":
        return values.sigmoid()
    return values.softmax(-1) if made.kind == "states" else values


def loss(returned: Tensor | Prediction, batch: Mapping[str, Any]) -> Tensor:
    """Mean over the present entries of a region, then over regions.

    Batch keys: `target` (R, C, B, S), NaN where missing - log1p signals (mse, poisson), 0 or 1
    (open), shares of the states or, without the last axis, their numbers with -1 for missing
    (states); optionally `valid`, True at entries that count, of that shape or one that broadcasts
    to it, and `signal_weights` (S) or (R, S). With an attention term also `contacts`
    (R, C, B, B), rows that sum to 1 or 0, or `loops` (see `contact_rows`).

    A region without a present entry counts as 0, so that a batch's loss is the mean over its
    regions however they are divided.
    """
    made = plain(returned)
    values, target = single(made.values_RCBS), _target(made, batch["target"])
    if values.shape != target.shape:
        raise ValueError(
            f"predictions {tuple(values.shape)} and target {tuple(target.shape)} differ in shape; "
            "they must not be broadcast"
        )
    seen = ~target.isnan()
    if batch.get("valid") is not None:
        seen = seen & batch["valid"].bool()
    weights = batch.get("signal_weights")
    if made.kind == "states":  # a bin has one error, of all states together
        seen, weights = seen.all(-1, keepdim=True), None
    error = ERRORS[made.kind](values, target.masked_fill(~seen, 0.0))
    weight = seen.to(error.dtype)
    if weights is not None:
        weight = weight * weights.to(error.dtype)[..., None, None, :]
    total = _mean(error.masked_fill(~seen, 0.0) * weight, weight)
    wanted = _wanted(made, batch)
    if wanted is None or made.attention_RCBB is None:
        return total
    return total + made.weight * contact_loss(made.attention_RCBB, wanted)


def _target(made: Prediction, target: Tensor) -> Tensor:
    if made.kind != "states" or target.ndim == made.values_RCBS.ndim:
        return single(target)
    states = made.values_RCBS.shape[-1]
    known = (target >= 0) & (target < states)
    one_hot = F.one_hot(target.masked_fill(~known, 0).long(), states).float()
    return one_hot.masked_fill(~known[..., None], torch.nan)


def _mean(total: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean within a region, then over regions."""
    sums_R, share_R = total.flatten(1).sum(1), weight.flatten(1).sum(1)
    return (sums_R / share_R.masked_fill(share_R == 0, 1.0)).mean()


def _squares(signals: Tensor, target: Tensor) -> Tensor:
    return (signals - target).square()


def _poisson(rates: Tensor, target: Tensor) -> Tensor:
    """Of counts; the target is stored as log1p of them."""
    return rates - target.expm1() * (rates + FLOOR).log()


def _binary(logits: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def _states(logits: Tensor, target: Tensor) -> Tensor:
    return -(target * logits.log_softmax(-1)).sum(-1, keepdim=True)


ERRORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": _squares,
    "poisson": _poisson,
    "open": _binary,
    "states": _states,
}


# ---- contacts ------------------------------------------------------------------------------------


def contact_loss(attention_RCBB: Tensor, wanted_RCBB: Tensor) -> Tensor:
    """1 - cosine of attention row and contact row, mean over a region's rows that have a contact.

    Rows without one say nothing (the published term averages over them, too), nor do rows with a
    NaN: cells without a contact map.
    """
    known = wanted_RCBB.isfinite().all(-1)
    wanted_RCBB = single(wanted_RCBB).masked_fill(~known[..., None], 0.0)
    rows = wanted_RCBB.sum(-1) > 0
    far = 1 - F.cosine_similarity(single(attention_RCBB), wanted_RCBB, dim=-1, eps=1e-12)
    return _mean(far.masked_fill(~rows, 0.0), rows.to(far.dtype))


def contact_rows(loops_RN6: Tensor, cells: int, bins: int, diagonal: int = 0) -> Tensor:
    """Rows of contacts (R, C, B, B), each summing to 1 or, without a contact, to 0.

    A loop counts for all pairs of a bin of one anchor and a bin of the other, in equal shares and
    both ways. Bins at most `diagonal` apart are no contact.

    Args:
        loops_RN6: cell (its place in the batch, -1 = no loop), first bin and bin after the last of
            one anchor, the same of the other, and the loop's count or weight. Bins outside the
            region are left out.
    """
    loops = loops_RN6.to(torch.promote_types(loops_RN6.dtype, torch.float32))
    cell, first1, end1, first2, end2, count = loops.unbind(-1)
    place_B = torch.arange(bins, device=loops.device)
    one, other = (
        ((place_B >= first[..., None]) & (place_B < end[..., None])).to(loops.dtype)
        for first, end in ((first1, end1), (first2, end2))
    )
    pairs = ((end1 - first1) * (end2 - first2)).clamp(min=1)
    share = torch.where(cell >= 0, count / pairs, 0.0)
    of_cell = (cell[..., None] == torch.arange(cells, device=loops.device)).to(loops.dtype)
    # sums of products, not of differences: a pair without a loop stays exactly 0
    one_RCBN = torch.einsum("rnc,rnb->rcbn", of_cell * share[..., None], one)
    half_RCBB = one_RCBN @ other[:, None]
    both_RCBB = half_RCBB + half_RCBB.transpose(-1, -2)
    near_BB = (place_B[:, None] - place_B).abs() <= diagonal
    both_RCBB = both_RCBB.masked_fill(near_BB, 0.0)
    total = both_RCBB.sum(-1, keepdim=True)
    return both_RCBB / total.masked_fill(total == 0, 1.0)


def _wanted(made: Prediction, batch: Mapping[str, Any]) -> Tensor | None:
    if batch.get("contacts") is not None:
        return batch["contacts"]
    if batch.get("loops") is None:
        return None
    _, cells, bins, _ = made.values_RCBS.shape
    return contact_rows(batch["loops"], cells, bins, made.diagonal)
