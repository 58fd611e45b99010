"""What Epiformer's attention saves against the published form, with a vector per pair of tokens.

Paper size, one window of 98,304 bp in float32 on one core; dropout as published. A training step is
forward, backward and AdamW.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

import models
from bench import Figure, paired
from bench.chromoformer import _gflop, _matmul_gflops, _resident
from tests.models import epiformer_full as full

ROOT = Path(__file__).resolve().parents[1]
TOKENS, CROP, SEQ_BP = 768, 64, 98_304
DROPOUT = (0.4, 0.1)  # of the encoder and of the head
ROUNDS = 2
SPEC = models.load("epiformer")
Step = Callable[[], object]


def figures() -> Iterator[Figure]:
    """Ours beside the published form (a limit, where the name says so); ratio above 1 is better."""
    torch.set_num_threads(1)
    net, weights = _networks()
    batch = _window()
    infer = [_infer_ours(net, batch), _infer_full(weights, batch)]
    difference = float((infer[0]() - infer[1]()).abs().max())
    yield Figure("Epiformer: largest output difference / allowed", difference, 1e-4, "")
    times = paired(_attention(net, weights), 3)
    yield Figure("Epiformer: attention of a layer, training / published form", *_ms(times), "ms")
    yield Figure("Epiformer: inference, a window / published form", *paired(infer, 1), "s")
    training = [_train_ours(net, batch), _train_full(weights, batch)]
    ours, slow = paired(training, ROUNDS)
    yield Figure("Epiformer: training, a window / published form", ours, slow, "s")
    limit = _gflop(training[0]) / _matmul_gflops()
    yield Figure("Epiformer: training, a window / limit by matrix product", ours, limit, "s")
    memory = (_extra_memory("ours"), _extra_memory("full"))
    yield Figure("Epiformer: extra memory of a training step / published", *memory, "MB")
    again = _extra_memory("checkpointing")
    yield Figure("Epiformer: the same with checkpointing / published", again, memory[1], "MB")


def _ms(seconds: list[float]) -> list[float]:
    return [each * 1e3 for each in seconds]


def _window() -> dict[str, Tensor]:
    """A random window: bases, conservation, coverage."""
    return {key: tensor[:1] for key, tensor in SPEC.example({}).items()}


def _networks(**settings: object) -> tuple[torch.nn.Module, dict[str, Tensor]]:
    """Our network, and the published form's weights with the same values."""
    weights = full.draw(1, full.PAPER)
    found, state = SPEC.import_published(weights)
    net = SPEC.build({**found, **settings})
    net.load_state_dict(state)
    fixed = ("running_mean", "running_var", "num_batches_tracked")
    grown = {
        name: value if name.endswith(fixed) else value.requires_grad_()
        for name, value in weights.items()
    }
    return net, grown


def _attention(net: torch.nn.Module, weights: dict[str, Tensor]) -> list[Step]:
    """Forward and backward of the first layer's attention, with dropout."""
    x_BLW = torch.rand(1, TOKENS, len(weights["ptw.conv.0.weight"]), requires_grad=True)
    ours = net.layers[0].attention.train()
    name = "trans.layers.0.mha"
    return [
        lambda: ours(x_BLW).sum().backward(),
        lambda: full.attention(weights, name, x_BLW, DROPOUT[0]).sum().backward(),
    ]


def _adam(weights: Iterable[Tensor]) -> torch.optim.Optimizer:
    """AdamW that has its averages and gradients already, so that a step's memory is its own."""
    adam = torch.optim.AdamW(weights, lr=1e-6, fused=True)
    for weight in adam.param_groups[0]["params"]:
        weight.grad = torch.zeros_like(weight)
    adam.step()
    return adam


def _train_ours(net: torch.nn.Module, batch: dict[str, Tensor]) -> Step:
    adam = _adam(net.parameters())

    def step() -> None:
        net.train()
        loss = SPEC.loss(net(*(batch[key] for key in SPEC.inputs)), batch)
        adam.zero_grad(set_to_none=False)
        loss.backward()
        adam.step()

    return step


def _train_full(weights: dict[str, Tensor], batch: dict[str, Tensor]) -> Step:
    adam = _adam(w for w in weights.values() if w.requires_grad)
    x = full.encode(batch["bases"], batch["conservation"] / 255)  # the loader's work there

    def step() -> None:
        loss = SPEC.loss(full.logits(weights, x, CROP, True, DROPOUT), batch)
        adam.zero_grad(set_to_none=False)
        loss.backward()
        adam.step()

    return step


def _infer_ours(net: torch.nn.Module, batch: dict[str, Tensor]) -> Callable[[], Tensor]:
    return torch.no_grad()(lambda: net.eval()(*(batch[key] for key in SPEC.inputs)))


def _infer_full(weights: dict[str, Tensor], batch: dict[str, Tensor]) -> Callable[[], Tensor]:
    x = full.encode(batch["bases"], batch["conservation"] / 255)
    return torch.no_grad()(lambda: full.logits(weights, x, CROP))


def _extra_memory(form: str) -> float:
    """Megabytes that a training step needs on top of weights, gradients, averages and batch."""
    code = f"from bench.epiformer import report_memory; report_memory({form!r})"
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return float(ran.stdout)


def report_memory(form: str) -> None:
    """Print that number for this process."""
    torch.set_num_threads(1)
    net, weights = _networks(checkpointing=form == "checkpointing")
    step = _train_full(weights, _window()) if form == "full" else _train_ours(net, _window())
    before = _resident("VmRSS")
    step()
    print((_resident("VmHWM") - before) / 1024)
