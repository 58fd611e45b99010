"""What the shared loop costs: against a bare torch loop, and against what the core can do.

The promoter CNN at paper size, one core, 1,000 made-up genes per epoch.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

import models
from bench import Figure
from epiloom.learn import training
from epiloom.learn.examples import PromoterBins
from epiloom.learn.loader import order

GENES, BATCH, ROUNDS = 1000, 64, 5
FLOP_PER_GENE = 3 * 24.0e6  # forward, and twice that backward
SETTINGS = {
    "version": 1,
    "cell": "E116",
    "marks": ["H3K4me3"],
    "window_bp": 6000,
    "seed": 123,
    "epochs": 2,
    "batch": BATCH,
    "accumulate": 1,
    "clip_norm": 0.0,
    "precision": "float32",
    "optimizer": {
        "name": "adam",
        "learning_rate": 1e-3,
        "epsilon": 1e-7,
        "weight_decay": 0.0,
    },
    "schedule": {"name": "constant"},
    "stop_patience": 0,
    "keep": "best",
}


def figures() -> Iterator[Figure]:
    """Seconds of the shared loop beside those of the reference (a limit, in the second row)."""
    torch.set_num_threads(1)
    ours, bare = _epochs()
    yield Figure(f"promoter CNN: epoch of {GENES} genes / bare torch loop", ours, bare, "s")
    limit = FLOP_PER_GENE / _matmul_flops()
    yield Figure(
        "promoter CNN: a gene / limit by matrix product", ours / GENES * 1e3, limit * 1e3, "ms"
    )
    fabric, plain = _starts()
    yield Figure("start-up: torch with Fabric / torch alone", fabric, plain, "s")


def _genes() -> PromoterBins:
    rng = np.random.default_rng(0)
    signal = rng.uniform(0, 3, size=(GENES, 1, 60)).astype(np.float32)
    names = [f"gene{k}" for k in range(GENES)]
    chroms = np.full(GENES, "chr1", dtype=object)
    return PromoterBins(signal, signal[:, 0].mean(axis=1), names, chroms)


def _epochs() -> tuple[float, float]:
    """Seconds per epoch with all that an epoch includes but validation: best of paired rounds."""
    examples = _genes()
    pairs = [(_shared_loop(examples), _bare_loop(examples)) for _ in range(ROUNDS)]
    return min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)


def _shared_loop(examples: PromoterBins) -> float:
    """The second epoch of a run, its state saved, one gene of validation."""
    one = PromoterBins(examples.marks[:1], examples.expression[:1], ["gene0"], examples.chroms[:1])
    ends: list[float] = []

    class Timed(PromoterBins):
        def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
            ends.append(time.perf_counter())  # validation begins: the epoch's training is over
            return super().batch(indices)

    valid = Timed(one.marks, one.expression, one.gene_ids, one.chroms)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("run", "weights.pt", "history.tsv")]
        spec = models.load("promoter_cnn")
        training.fit(spec, SETTINGS, examples, valid, *paths, device="cpu", progress=False)
    return ends[-1] - ends[-2]  # from validation to validation: saving included


def _bare_loop(examples: PromoterBins) -> float:
    """The same epoch as one would write it without saving, checking or logging anything."""
    torch.manual_seed(0)
    spec = models.load("promoter_cnn")
    net = spec.build(SETTINGS).train()
    adam = torch.optim.Adam(net.parameters(), lr=1e-3, eps=1e-7)
    marks, expression = torch.from_numpy(examples.marks), torch.from_numpy(examples.expression)
    for epoch in range(2):
        began = time.perf_counter()
        visits = torch.from_numpy(order(GENES, 123, epoch))
        for first in range(0, GENES, BATCH):
            rows = visits[first : first + BATCH]
            loss = torch.nn.functional.mse_loss(net(marks[rows]), expression[rows])
            adam.zero_grad()
            loss.backward()
            adam.step()
    return time.perf_counter() - began


def _matmul_flops(size: int = 1024) -> float:
    """Floating-point operations per second of a large float32 matrix product."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    times = [_seconds(lambda: a @ b) for _ in range(10)]
    return 2 * size**3 / min(times)


def _starts() -> tuple[float, float]:
    """Seconds to start Python, import, and set up a tiny module: best of paired rounds."""
    tiny = "net = torch.nn.Linear(2, 1); adam = torch.optim.Adam(net.parameters())"
    plain = f"import torch; {tiny}"
    fabric = f"import torch; from epiloom.learn import devices; {tiny}; "
    fabric += "devices.start('float32', 'cpu').setup(net, adam)"
    root = Path(__file__).resolve().parents[1]

    def start(code: str) -> float:
        command = [sys.executable, "-c", code]
        return _seconds(lambda: subprocess.run(command, cwd=root, check=True))

    pairs = [(start(fabric), start(plain)) for _ in range(ROUNDS)]
    return min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
