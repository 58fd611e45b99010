"""What Chromoformer's one-query form saves against the published full form, on one core.

Paper size, seven marks, the 100 real genes of E003 where they are at hand, otherwise made-up genes
with the same numbers and lengths of partners. A training step is forward, backward and AdamW.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import models
from bench import Figure, paired
from epiloom.data.ragged import Ragged
from epiloom.learn.distal import SIZES, PartnerExamples
from tests.models import chromoformer_full as full
from tests.models import e003

ROOT = Path(__file__).resolve().parents[1]
OURS, FULL, VARIANTS = 64, 8, 64  # genes per batch of each form, variants of one promoter
ROUNDS = 5
MARKS = list(e003.MARKS)
SPEC = models.load("chromoformer")
Step = Callable[[], object]


def figures() -> Iterator[Figure]:
    """Ours beside the full form (a limit, where the name says so); ratio above 1 is better."""
    torch.set_num_threads(1)
    batch = _genes()
    net, weights = _networks()
    few, many = _rows(batch, FULL), _rows(batch, OURS)
    difference = float((_infer_ours(net, few)() - _infer_full(weights, few)()).abs().max())
    yield Figure("Chromoformer: largest output difference / allowed", difference, 1e-5, "")
    training = [_train_ours(net, many), _train_full(weights, few)]
    ours, slow = _per_gene(training, ROUNDS)
    yield Figure("Chromoformer: training, a gene / full form", ours, slow, "ms")
    limit = _gflop(training[0]) / OURS / _matmul_gflops() * 1e3
    yield Figure("Chromoformer: training, a gene / limit by matrix product", ours, limit, "ms")
    inference = [_infer_ours(net, many), _infer_full(weights, few)]
    yield Figure("Chromoformer: inference, a gene / full form", *_per_gene(inference, 3), "ms")
    ours, slow = (seconds / OURS * 1e3 for seconds in paired(_loader(batch), ROUNDS))
    yield Figure("Chromoformer: loader, a gene / with the full form's masks", ours, slow, "ms")
    memory = (_extra_memory("ours"), _extra_memory("full"))
    yield Figure("Chromoformer: extra memory, batch of 64 / full form of 8", *memory, "MB")
    shared, expanded = paired(_variants(net, batch), 3)
    per_variant = (shared / VARIANTS * 1e3, expanded / VARIANTS * 1e3)
    yield Figure("Chromoformer: a promoter variant / partners copied", *per_variant, "ms")


def _genes() -> dict[str, Tensor]:
    """A batch of at least 64 genes."""
    folder = e003.find_data(Path(__file__))
    if folder is not None:
        return e003.batch(folder)
    # 11 of 100 real genes have no partner and 58 have all eight; the mean length is 6.2 kb
    partners = [0] * 7 + [1, 2, 3, 3, 4, 4, 5, 5, 6, 6, 6, 7, 7, 7] + [8] * 43
    lengths = (1827, 2900, 3600, 4200, 4800, 5400, 6100, 7000, 8300, 10_400, 14_100)
    return full.made_up(partners[::-1], len(MARKS), lengths=lengths)


def _rows(batch: dict[str, Tensor], number: int) -> dict[str, Tensor]:
    return {key: tensor[:number] for key, tensor in batch.items()}


def _loader(batch: dict[str, Tensor]) -> list[Step]:
    """Making a batch of 64 genes from the store; and with the masks that the full form needs."""
    number = len(batch["expression"])
    has = batch["lengths"] > 0
    slots = torch.where(has, has.flatten().cumsum(0).view(has.shape) - 1, -1).numpy()
    lengths = batch["lengths"][has].numpy()
    rng = np.random.default_rng(0)
    bins = {size: int((-(-lengths // size)).sum()) for size in SIZES}
    partners = {
        size: Ragged(lengths, rng.random((count, len(MARKS)), np.float32), size)
        for size, count in bins.items()
    }
    examples = PartnerExamples(
        promoters={size: batch[f"promoter_{size}"].numpy() for size in SIZES},
        partners=partners,
        slots=slots,
        scores=batch["scores"].numpy(),
        expression=batch["expression"].numpy(),
        labels=None,
        gene_ids=[str(i) for i in range(number)],
        chroms=np.full(number, "chr1"),
    )

    def ours() -> dict[str, Tensor]:
        made = examples.batch(rng.permutation(number)[:OURS])
        return {key: torch.from_numpy(array) for key, array in made.items()}

    return [ours, lambda: full.prepare(ours())]


def _networks() -> tuple[torch.nn.Module, dict[str, Tensor]]:
    """Our network, and the full form's weights with the same values."""
    weights = full.draw(123, len(MARKS), 1)
    settings, state = SPEC.import_published(weights)
    net = SPEC.build(settings)
    net.load_state_dict(state)
    return net, {name: value.clone().requires_grad_() for name, value in weights.items()}


def _per_gene(steps: list[Step], rounds: int) -> tuple[float, float]:
    """Milliseconds per gene of our step and of the full form's."""
    ours, slow = paired(steps, rounds)
    return ours / OURS * 1e3, slow / FULL * 1e3


def _train_ours(net: torch.nn.Module, batch: dict[str, Tensor]) -> Step:
    adam = torch.optim.AdamW(net.parameters(), lr=1e-5)

    def step() -> None:
        loss = SPEC.loss(net(*(batch[key] for key in SPEC.inputs)), batch)
        adam.zero_grad()
        loss.backward()
        adam.step()

    return step


def _train_full(weights: dict[str, Tensor], batch: dict[str, Tensor]) -> Step:
    adam = torch.optim.AdamW(weights.values(), lr=1e-5)
    prepared = full.prepare(batch)  # the masks came from the loader, so making them is not timed

    def step() -> None:
        loss = SPEC.loss(full.forward(weights, batch, prepared)[:, 0], batch)
        adam.zero_grad()
        loss.backward()
        adam.step()

    return step


def _infer_ours(net: torch.nn.Module, batch: dict[str, Tensor]) -> Callable[[], Tensor]:
    return torch.no_grad()(lambda: net(*(batch[key] for key in SPEC.inputs)))


def _infer_full(weights: dict[str, Tensor], batch: dict[str, Tensor]) -> Callable[[], Tensor]:
    prepared = full.prepare(batch)
    return torch.no_grad()(lambda: full.forward(weights, batch, prepared)[:, 0])


def _variants(net: torch.nn.Module, batch: dict[str, Tensor]) -> list[Step]:
    """Variants of a gene with eight partners: these shared, and copied for every variant."""
    row = int((batch["lengths"] > 0).sum(1).argmax())
    gene = [batch[key][row : row + 1] for key in SPEC.inputs]
    factors = torch.rand(VARIANTS, 1, 1, generator=torch.Generator().manual_seed(0))
    promoters = [signal * factors for signal in gene[:3]]

    def shared() -> Tensor:
        return net.perturbed(*promoters, *gene[3:])

    def copied() -> Tensor:
        return net(*promoters, *(t.expand(VARIANTS, *t.shape[1:]) for t in gene[3:]))

    return [torch.no_grad()(shared), torch.no_grad()(copied)]


def _gflop(step: Step) -> float:
    """Matrix-product operations of one step, in 10^9."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / 1e9


def _matmul_gflops(size: int = 1024) -> float:
    """Speed of a large float32 matrix product, in 10^9 operations per second."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    times = []
    for _ in range(10):
        began = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - began)
    return 2 * size**3 / min(times) / 1e9


def _extra_memory(form: str) -> float:
    """Megabytes that a training step needs on top of weights, optimizer state and batch."""
    code = f"from bench.chromoformer import report_memory; report_memory({form!r})"
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return float(ran.stdout)


def report_memory(form: str) -> None:
    """Print that number for this process; the first step, with one gene, sets everything up."""
    torch.set_num_threads(1)
    batch = _genes()
    net, weights = _networks()
    make = {
        "ours": lambda genes: _train_ours(net, genes),
        "full": lambda genes: _train_full(weights, genes),
    }[form]
    make(_rows(batch, 1))()
    step = make(_rows(batch, OURS if form == "ours" else FULL))
    before = _resident("VmRSS")
    step()
    print((_resident("VmHWM") - before) / 1024)


def _resident(which: str) -> int:
    """Resident kilobytes of this process; VmHWM is the peak (getrusage gives a parent's too)."""
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{which}:")[1].split()[0])
