"""Where a number that is not finite came from, in words a person can act on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from epiloom.plan.errors import InputError


class NotFinite(InputError):
    """The loss or a gradient is NaN or infinite."""


def findings(
    batches: Iterable[tuple[np.ndarray, Mapping[str, Tensor]]],
    names: Any,
    model: nn.Module | None = None,
) -> list[str]:
    """One line per tensor of the batches, with the examples that are not finite; and per weight.

    Args:
        batches: (indices of the examples, tensors with examples first).
        names: function from indices to names of examples.
    """
    lines = []
    for indices, batch in batches:
        for key, tensor in batch.items():
            bad = (~tensor.isfinite()).flatten(1).any(1) if tensor.ndim > 1 else ~tensor.isfinite()
            if bool(bad.any()):
                culprits = _listed(names(indices[bad.cpu().numpy()]))
                lines.append(f"{key}: {span(tensor)}; in {culprits}")
            else:
                lines.append(f"{key}: {span(tensor)}")
        lines.append(f"the batch holds {_listed(names(indices))}")
    for name, weight in model.named_parameters() if model is not None else ():
        for what, tensor in ((name, weight), (f"gradient of {name}", weight.grad)):
            if tensor is not None and not bool(tensor.isfinite().all()):
                lines.append(f"{what}: {span(tensor)}")
    lines.append("correct the named examples; if all are finite, lower the learning rate")
    return lines


def span(tensor: Tensor) -> str:
    """Smallest and largest finite value, and how many values are not finite."""
    values = tensor.detach()[tensor.isfinite()].double()
    text = f"{tensor.numel() - values.numel()} of {tensor.numel()} values not finite"
    if values.numel():
        text += f", the finite ones from {float(values.min()):g} to {float(values.max()):g}"
    return text


def _listed(names: Sequence[str], most: int = 256) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
