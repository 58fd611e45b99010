"""Models that carry a state from one batch to the next, and whether training gets anywhere.

Such a network has an attribute `carried`: the state after its last forward pass, a tuple of tensors
(layers, lanes, ...), or None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from epiloom.plan.errors import InputError

LOOKED_AT = 100  # updates after which weights must have moved
LEAST = 1e-3  # relative change of all weights by then


def values(net: nn.Module) -> list[Tensor]:
    """The carried state as plain tensors, to be saved; empty where there is none."""
    carried = getattr(net, "carried", None)
    return [] if carried is None else [part.cpu() for part in carried]


def restore(
    net: nn.Module,
    saved: Sequence[Sequence[Tensor]],
    rank: int,
    world: int,
    device: torch.device,
) -> None:
    """Give a network the state that `values` of every process told.

    Lanes are dealt out anew if the number of processes has changed.
    """
    if not any(len(parts) for parts in saved):
        return
    joined = [torch.cat(each, dim=1) for each in zip(*saved, strict=True)]
    own = [part.tensor_split(world, dim=1)[rank].to(device) for part in joined]
    net.carried = tuple(own)


class Moving:
    """Watches the first updates of a training: the published code clipped its gradients so far
    that no weight ever changed, and nobody noticed (specification of Epi-LSTM, 7.1)."""

    def __init__(self, net: nn.Module):
        self.net = net
        self.before = {name: w.detach().clone() for name, w in net.named_parameters()}

    def check(self, update: int) -> None:
        """To be called after every update (1-based).

        Raises:
            InputError: the weights are where they began.
        """
        if update != LOOKED_AT or not self.before:
            return
        moved = change(self.before, self.net)
        self.before = {}
        if not moved > LEAST:
            raise InputError(
                "training",
                f"the weights have changed by {moved:.2g} of their size in {LOOKED_AT} updates: "
                "nothing is learnt; raise learning_rate or clip_norm",
            )


def change(before: dict[str, Tensor], net: nn.Module) -> float:
    """Size of the change of all weights, relative to their size before."""
    moved: Any = sum(
        (w.detach() - before[name]).double().square().sum() for name, w in net.named_parameters()
    )
    size: Any = sum(w.double().square().sum() for w in before.values())
    return float((moved / size).sqrt())
