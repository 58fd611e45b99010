"""ModelSpec: all that the shared code knows about a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


def _unchanged(prediction: Tensor) -> Tensor:
    return prediction


@dataclass(frozen=True)
class ModelSpec:
    """Everything the shared code needs to train, evaluate and import a model.

    Settings are the plain mapping of one run; a key that is absent takes the paper's value, so
    `build({})` is the model of the paper. A batch is a mapping of named tensors, examples first.
    """

    name: str
    build: Callable[[Mapping[str, Any]], nn.Module]  # settings -> module
    loss: Callable[[Tensor, Mapping[str, Any]], Tensor]  # prediction, batch -> mean over examples
    inputs: tuple[str, ...]  # batch keys passed to forward, in order
    target: str  # batch key holding the truth
    example: Callable[[Mapping[str, Any]], dict[str, Tensor]]  # settings -> tiny batch, for tests
    # weights under the names of the published code -> (settings of the sizes, state dict)
    import_published: Callable[[Mapping[str, Any]], tuple[dict[str, Any], dict[str, Tensor]]]
    # settings -> batch key of the truth where it depends on them (None: always `target`)
    truth: Callable[[Mapping[str, Any]], str] | None = None
    # Models that may begin with other weights: settings -> what these depend on, key by key, and
    # the tensors of the state dict that have one row per track (`tracks` of the settings)
    form: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    rows: tuple[str, ...] = ()
    # state dict -> what to tell of weights that a training begins with
    remark: Callable[[Mapping[str, Tensor]], str] | None = None
    # what forward returns -> one predicted number per value of the truth (a probability, say)
    output: Callable[[Tensor], Tensor] = _unchanged
    # how predicted and true values are compared by r (log2(x + 1) of coverage, say)
    compared: Callable[[Tensor], Tensor] = _unchanged
    # network, training examples -> None: what the network keeps of them beside its weights
    prepare: Callable[[nn.Module, Any], None] | None = None
    # the loss of a prediction that knows nothing but the mean; training says so if it stays above
    plain_loss: float | None = None
    # batch keys passed to forward after `inputs`, if the batch has them
    optional: tuple[str, ...] = ()
    # whether tracks are the last axis of the truth, (B, T, D), instead of the second, (B, T, K)
    tracks_last: bool = False

    def given(self, batch: Mapping[str, Any]) -> list[Any]:
        """What `forward` is called with, of a batch."""
        return [batch[key] for key in self.inputs] + [batch[k] for k in self.optional if k in batch]
