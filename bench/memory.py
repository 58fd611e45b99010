"""What keeping freed tensors saves on a CPU, against glibc's habit of handing them back.

Epiformer of preset `small`, windows of 32,768 bp, float32 on one core. Each figure is the median of
fresh processes in turns: malloc's habits are those of a process.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

import models
from bench import Figure
from epiloom.learn import devices

ROOT = Path(__file__).resolve().parents[1]
TURNS, REPEATS = 3, 6
SETTINGS = {"preset": "small", "seq_bp": 32_768, "crop_bins": 8, "width": 64}
HABITS = ("kept", "usual")


def figures() -> Iterator[Figure]:
    """Ours beside a process that only limits torch to one core; ratio above 1 is better."""
    found: dict[str, list[dict[str, float]]] = {habit: [] for habit in HABITS}
    for _ in range(TURNS):
        for habit in HABITS:
            command = [sys.executable, "-m", "bench.memory", habit]
            done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
            found[habit].append(json.loads(done.stdout.splitlines()[-1]))
    for name in found["kept"][0]:
        pair = (statistics.median(turn[name] for turn in found[habit]) for habit in HABITS)
        yield Figure(f"{name} / glibc as it is", *pair, "MB" if "memory" in name else "ms")


def measured(habit: str) -> dict[str, float]:
    """Milliseconds per window of inference and training, and the peak memory in MB."""
    torch.set_num_threads(1)
    if habit == "kept":
        devices.use_cores(1)
    spec = models.load("epiformer")
    net = spec.build(SETTINGS).eval()
    batch = spec.example(SETTINGS)
    found = {}
    for windows in (1, 8, 16):
        inputs = [batch[key][:1].expand(windows, -1).contiguous() for key in spec.inputs]
        with torch.no_grad():
            found[f"inference, {windows} at once"] = _ms(lambda given=inputs: net(*given)) / windows
    optimizer = torch.optim.AdamW(net.train().parameters(), fused=True)

    def step() -> None:
        optimizer.zero_grad()
        spec.loss(net(*spec.given(batch)), batch).backward()
        optimizer.step()

    found["training, 2 at once"] = _ms(step) / 2
    found["peak memory"] = devices.memory_meter("cpu")()
    return found


def _ms(work: Callable[[], object]) -> float:
    work()
    began = time.perf_counter()
    for _ in range(REPEATS):
        work()
    return 1e3 * (time.perf_counter() - began) / REPEATS


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1])))
