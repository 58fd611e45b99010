"""What EpiGePT saves by reading a region once for all its cells, on one core in float32.

Batches of R regions x C cells against one region and cell at a time: the same pairs, weights and
updates. `small` has the 678 factors of HOCOMOCO, a training step is forward, loss, backward,
clipping and AdamW; `paper_hg38` is forward, and forward and backward, of one region of 128 kb.
Times are processor seconds, which other work on the machine moves less than those of the clock.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import models
from bench import Figure, paired
from bench._region_store import made
from bench.chromoformer import _resident
from epiloom.learn import optimizers
from epiloom.learn.cell_regions import RegionExamples, RegionTable
from tests import made_cells

ROOT = Path(__file__).resolve().parents[1]
REGIONS, CELLS, ROUNDS = 2, 4, 5
ORIGINAL = (1.9, 6.5)  # s, forward and with backward, of the authors' code on one core (AVX-512)
SPEC = models.load("epigept")
Step = Callable[[], object]
Batch = dict[str, Tensor]


def figures() -> Iterator[Figure | str]:
    """Ours beside a reference or a limit, as the name says; ratio above 1 is better."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="epigept_") as folder:
        settings, files = made(Path(folder), CELLS, REGIONS)
        table = RegionTable.read(settings, files)
        examples = table.examples("train").varied(0, 0)
        batch = _tensors(examples.batch(np.arange(REGIONS)))
        yield from _exactness(table.settings, batch)
        yield from _small(table.settings, batch)
        yield from _loader(table, examples, batch)
    yield from _memory()
    yield from _paper()
    if torch.cuda.is_available():
        yield from _gpu()
    else:
        yield "there is no GPU here, so nothing is measured on one"


# --- what is measured -----------------------------------------------------------------------------


def _exactness(settings: dict, batch: Batch) -> Iterator[Figure]:
    net = _network(settings).eval()
    with torch.no_grad():
        whole = net(*_inputs(batch))
        parts = torch.stack([net(*_inputs(one))[0, 0] for one in _singles(batch)])
    apart = float((whole.flatten(0, 1) - parts).abs().max())
    yield Figure("small: prediction, largest difference to single / allowed", apart, 1e-5, "")
    found = []
    for form in (lambda b: [b], _singles):
        net = _network(settings)
        _backward(net, form(batch))
        found.append(torch.cat([w.grad.flatten() for w in net.parameters()]))
    apart = float((found[0] - found[1]).norm() / found[1].norm())
    yield Figure("small: gradient, relative difference to single / allowed", apart, 1e-4, "")


def _small(settings: dict, batch: Batch) -> Iterator[Figure | str]:
    """Whole updates of all pairs; times are for one example, a region in a cell."""
    n = REGIONS * CELLS
    cfg = _network(settings).cfg
    steps = [_train(settings, [batch]), _train(settings, _singles(batch))]
    steps.append(_train(settings, [batch], written_out=True))
    steps.append(_products(cfg, REGIONS, CELLS, True)[0])
    whole, single, plain, limit = (s * 1e3 / n for s in _turns(steps))
    yield f"small: {1e3 / whole:.1f} examples/s in training, one at a time {1e3 / single:.1f}"
    yield Figure("small: training, an example / one at a time", whole, single, "ms")
    yield Figure("small: training, an example / attention written out", whole, plain, "ms")
    yield Figure("small: training, an example / its matrix products", whole, limit, "ms")
    steps = [_infer(settings, [batch]), _infer(settings, _singles(batch))]
    steps.append(_products(cfg, REGIONS, CELLS, False)[0])
    whole, single, limit = (s * 1e3 / n for s in _turns(steps))
    yield Figure("small: prediction, an example / one at a time", whole, single, "ms")
    yield Figure("small: prediction, an example / its matrix products", whole, limit, "ms")


def _loader(table: RegionTable, examples: RegionExamples, batch: Batch) -> Iterator[Figure | str]:
    """Files are in the page cache: what is measured is the work, not the disk."""
    n = REGIONS * CELLS
    one = replace(table, settings={**table.settings, "cells_per_region": 1})
    alone = one.examples("train").varied(0, 0)
    count = len(examples) // REGIONS
    jobs = [
        lambda: [examples.batch(np.arange(REGIONS) + k * REGIONS) for k in range(count)],
        lambda: [alone.batch(np.array([k])) for k in range(len(alone))],
        lambda: [_original(*pair) for pair in _pairs(batch)],
        _train(table.settings, [batch]),
    ]
    whole, single, slow, step = _turns(jobs)
    whole, single = whole / count / n, single / len(alone)
    slow, step = slow / n, step / n
    yield Figure("loader, an example / one at a time", whole * 1e6, single * 1e6, "us")
    yield Figure("loader, an example / one-hot loop and product", whole * 1e6, slow * 1e6, "us")
    yield f"loader: {100 * whole / (whole + step):.1f} % of the processor time of a step of small"


def _paper() -> Iterator[Figure | str]:
    """A region with one cell and with four: seconds for the region, of one call each."""
    settings = {"preset": "paper_hg38"}
    batch = _random_batch(settings, 1, CELLS)
    for cells in (1, CELLS):
        own = {k: v if k in ("bases", "motifs") else v[:, :cells] for k, v in batch.items()}
        for training, original in zip((False, True), ORIGINAL, strict=True):
            kind = "with backward" if training else "forward"
            about = f"paper, {cells} cell{'s' * (cells > 1)}, {kind}"
            form = _Once(settings, own, training)
            product, flop = _products(form.net.cfg, 1, cells, training)
            if cells == 1:  # a first call takes memory, too; with four cells it matters less
                form.step()
            ours, limit = _seconds(form.step), _seconds(product)
            yield Figure(f"{about} / its matrix products", ours, limit, "s")
            yield Figure(f"{about} / original, noted", ours, cells * original, "s")
            yield f"{about}: {flop / 1e9:.0f} GFLOP, {flop / ours / 1e9:.1f} GFLOP/s"
            if not training:  # there torch has no other attention on a CPU, because of dropout
                del form
                plain = _seconds(_Once(settings, own, training, written_out=True).step)
                yield Figure(f"{about} / attention written out", ours, plain, "s")


def _seconds(step: Step) -> float:
    """Processor seconds of one call."""
    began = time.process_time()
    step()
    return time.process_time() - began


def _turns(steps: list[Step]) -> list[float]:
    """Median processor seconds of each; they take turns, the first round only warms up."""
    times = [[_seconds(step) for step in steps] for _ in range(ROUNDS + 1)]
    return [statistics.median(each) for each in zip(*times[1:], strict=True)]


def _memory() -> Iterator[Figure]:
    """Of a training step, on top of weights, averages, gradients and batch."""
    # eight examples of the paper's size would take most of a small machine
    cases = [("small", 1, 1), ("small", REGIONS, CELLS), ("paper_hg38", 1, 1)]
    for preset, *sizes in cases:
        ours, other = (_extra_memory(preset, *sizes, form) for form in (False, True))
        about = f"{preset}, {sizes[0]} x {sizes[1]}: memory of a step"
        yield Figure(f"{about} / attention written out", ours, other, "MB")


def _gpu() -> Iterator[Figure | str]:
    """Training in bf16 against the device's own products in bf16."""
    peak = _bf16_peak()
    yield f"GPU: {torch.cuda.get_device_name()}, {peak / 1e12:.0f} TFLOP/s in products of bf16"
    for preset in ("small", "paper_hg38"):
        settings = {"preset": preset}
        batch = {k: v.cuda() for k, v in _random_batch(settings, REGIONS, CELLS).items()}
        torch.cuda.reset_peak_memory_stats()
        step = _train(settings, [batch], device="cuda")
        flop = _products(SPEC.build(settings).cfg, REGIONS, CELLS, True)[1]
        (spent,) = paired([step], ROUNDS)
        yield f"GPU: {preset}: {REGIONS * CELLS / spent:.0f} examples/s in training"
        memory = torch.cuda.max_memory_allocated() / 1e9
        yield f"GPU: {preset}: {memory:.1f} GB at most"
        limit = flop / peak
        yield Figure(f"GPU: {preset}: training / peak of bf16", spent * 1e3, limit * 1e3, "ms")


# --- steps ----------------------------------------------------------------------------------------


class WrittenOut(nn.Module):
    """Attention with all its weights in memory, as published."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x_NBW: Tensor, ask: bool = False) -> tuple[Tensor, None]:
        return self.inner(x_NBW, True)[0], None


def _network(settings: dict, written_out: bool = False, device: str = "cpu") -> nn.Module:
    torch.manual_seed(0)
    net = SPEC.build(settings).to(device)
    for layer in net.encoder.layers if written_out else ():
        layer.attention = WrittenOut(layer.attention)
    return net


def _inputs(batch: Batch) -> list[Tensor]:
    return [batch[key] for key in SPEC.inputs]


def _singles(batch: Batch) -> list[Batch]:
    """The pairs of a batch, each a batch of its own."""
    regions, cells = batch["expression"].shape[:2]
    shared = ("bases", "motifs")
    return [
        {k: v[r : r + 1] if k in shared else v[r : r + 1, c : c + 1] for k, v in batch.items()}
        for r in range(regions)
        for c in range(cells)
    ]


def _backward(net: nn.Module, batches: list[Batch]) -> float:
    """Add up the gradients of an update's batches; its loss."""
    total = 0.0
    for own in batches:
        with torch.autocast("cuda", torch.bfloat16, enabled=own["bases"].is_cuda):
            made = net(*_inputs(own))
        loss = SPEC.loss(made, own) / len(batches)
        loss.backward()
        total += loss.item()
    return total


def _train(
    settings: dict, batches: list[Batch], written_out: bool = False, device: str = "cpu"
) -> Step:
    """An update like that of the trainer."""
    net = _network(settings, written_out, device).train()
    adam = optimizers.made(net, made_cells.settings()["optimizer"])

    def step() -> None:
        adam.zero_grad()
        _backward(net, batches)
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        adam.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def _infer(settings: dict, batches: list[Batch]) -> Step:
    net = _network(settings).eval()
    return torch.inference_mode()(lambda: [net(*_inputs(own)) for own in batches])


class _Once:
    """Forward (and backward) of one batch; there is no update."""

    def __init__(self, settings: dict, batch: Batch, training: bool, written_out: bool = False):
        self.net = _network(settings, written_out).train(training)
        self.batch, self.training = batch, training

    def step(self) -> None:
        if self.training:
            _backward(self.net, [self.batch])
        else:
            with torch.inference_mode():
                self.net(*_inputs(self.batch))


def _shapes(c, regions: int, cells: int) -> Iterator[tuple[int, int, int, int, bool]]:
    """Products (times, rows, inner, columns, gradient of the rows too) of a forward pass."""
    n, width, head = regions * cells * c.bins, c.token_width, c.token_width // c.heads
    places, before = c.seq_bp, 4
    for k, (channels, kernel, pool) in enumerate(zip(c.channels, c.kernels, c.pools, strict=True)):
        yield 1, regions * places, kernel * before, channels, k > 0
        places, before = places // pool, channels
    if c.combine == "project":
        yield 1, regions * c.bins, before, width, True
        yield 1, n, c.tfs, width, c.tf_norm != "off"
    yield c.layers, n, width, 3 * width, True
    yield c.layers, n, width, width, True
    yield c.layers, n, width, c.feed_forward, True
    yield c.layers, n, c.feed_forward, width, True
    maps = c.layers * c.heads * regions * cells
    yield maps, c.bins, head, c.bins, True
    yield maps, c.bins, c.bins, head, True
    yield 1, n, width, c.head_hidden or c.signals, True
    if c.head_hidden:
        yield 1, n, c.head_hidden, c.signals, True


def _products(c, regions: int, cells: int, training: bool) -> tuple[Step, float]:
    """The same matrix products with nothing between them (the limit), and their operations."""
    work, flop = [], 0.0
    for times, rows, inner, columns, further in _shapes(c, regions, cells):
        x, w, y = (torch.rand(s) for s in ((rows, inner), (inner, columns), (rows, columns)))
        own = [(x, w, y)]
        if training:
            slope = torch.rand_like(y)
            own.append((x.T, slope, torch.empty_like(w)))
            own += [(slope, w.T, torch.empty_like(x))] if further else []
        work.append((times, own))
        flop += 2.0 * times * rows * inner * columns * len(own)

    def step() -> None:
        for times, own in work:
            for _ in range(times):
                for a, b, out in own:
                    torch.matmul(a, b, out=out)

    return torch.no_grad()(step), flop


def _bf16_peak(size: int = 8192) -> float:
    """Operations per second of a large product in bf16 on the GPU."""
    a, b = (torch.rand(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))

    def products() -> None:
        for _ in range(10):
            a @ b
        torch.cuda.synchronize()

    return 10 * 2 * size**3 / paired([products], ROUNDS)[0]


# --- memory ---------------------------------------------------------------------------------------


def _extra_memory(preset: str, regions: int, cells: int, written_out: bool) -> float:
    told = (preset, regions, cells, written_out)
    code = f"from bench.epigept import report_memory; report_memory(*{told!r})"
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return float(ran.stdout)


def report_memory(preset: str, regions: int, cells: int, written_out: bool) -> None:
    """Print megabytes that a training step needs on top of what it finds, for this process."""
    torch.set_num_threads(1)
    settings = {"preset": preset}
    batch = _random_batch(settings, regions, cells)
    net = _network(settings, written_out).train()
    adam = optimizers.made(net, made_cells.settings()["optimizer"])
    for weight in net.parameters():
        weight.grad = torch.zeros_like(weight)
    adam.step()  # it has its averages now
    before = _resident("VmRSS")
    adam.zero_grad(set_to_none=False)
    _backward(net, [batch])
    adam.step()
    print((_resident("VmHWM") - before) / 1024)


# --- data -----------------------------------------------------------------------------------------


def _random_batch(settings: dict, regions: int, cells: int) -> Batch:
    """Of the preset's sizes; one bin in five has a site of a factor."""
    cfg, rng = SPEC.build(settings).cfg, torch.Generator().manual_seed(0)
    shape = (regions, cfg.bins, cfg.tfs)
    sites = torch.rand(shape, generator=rng) < 0.2
    codes = torch.randint(40, 120, shape, generator=rng, dtype=torch.uint8)
    wanted = (regions, cells, cfg.bins, cfg.signals)
    return {
        "bases": torch.randint(0, 4, (regions, cfg.seq_bp), generator=rng, dtype=torch.uint8),
        "motifs": codes * sites,
        "expression": 4 * torch.rand(regions, cells, cfg.tfs, generator=rng),
        "target": 3 * torch.rand(wanted, generator=rng),
    }


def _tensors(arrays: dict[str, np.ndarray]) -> Batch:
    return {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in arrays.items()}


def _pairs(batch: Batch) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Letters, motif scores in nats and expression of every pair, as the original keeps them."""
    for own in _singles(batch):
        text = "".join("ACGTN"[code] for code in own["bases"][0].tolist())
        yield text, own["motifs"][0].numpy() * np.float32(0.1), own["expression"][0, 0].numpy()


def _original(text: str, motifs: np.ndarray, expression: np.ndarray) -> tuple[np.ndarray, ...]:
    """Inputs of an example letter by letter, without its target."""
    rows = {"A": 0, "C": 1, "G": 2, "T": 3}
    bases = np.zeros((4, len(text)), np.float32)
    for place, letter in enumerate(text):
        if letter in rows:
            bases[rows[letter], place] = 1
    return bases, motifs * expression
