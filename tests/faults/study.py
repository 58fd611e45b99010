"""A tiny study whose files come from a slow server, and what two runs of it have in common."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from epiloom.data.files import open_bytes
from epiloom.data.simulate import Plan, simulate
from tests.servers import Handler, Server

ROOT = Path(__file__).resolve().parents[2]
CHROMOSOMES = [f"chr{k}" for k in range(1, 7)]
SIMULATED = Plan(3, len(CHROMOSOMES), 300_000, ("E003", "E116"), ("H3K4me3", "H3K27ac"))
STUDY = {
    "cells": ["E003"],
    "marks": ["H3K4me3", "H3K27ac"],
    "chromosomes": CHROMOSOMES,
    "bins_bp": [100],
    "folds": {"fold1": {"validation": ["chr1"], "test": ["chr2"]}},
    "models": {
        "promoter_cnn": {
            **{"epochs": 40, "stop_patience": 0},  # seconds of training
            **{"filters": [8, 8, 8], "dense": [8, 8]},
        }
    },
}
SPEED = 80_000  # bytes per second and connection
# Columns and keys that tell of a clock, a machine or a folder, and not of a result.
TIMES = ("samples_per_s", "seconds", "peak_memory_mb", "training_s", "wall_s", "began", "ended")
OF_A_DAY = (*TIMES, "written", "resumed", "date", "options", "commit", "code", "config_file")


class Slow(Handler):
    """Sends a file in small pieces; hears of it when the other side has gone."""

    def do_GET(self):
        if self.path not in self.server.files:
            path = self.server.folder / self.path.lstrip("/")
            if path.is_file():
                self.server.files[self.path] = path.read_bytes()
        super().do_GET()

    def write(self, body: bytes):
        step = SPEED // 20
        for first in range(0, len(body), step):
            super().write(body[first : first + step])
            time.sleep(0.05 if self.server.slow else 0)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server of the files below `folder`, slow as long as its attribute `slow` says so."""
    server = Server()
    server.RequestHandlerClass, server.folder, server.slow = Slow, folder, True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def prepare(folder: Path) -> Path:
    """Simulate the servers' files; returns their folder."""
    simulate(SIMULATED, folder / "server")
    return folder / "server"


def begin(folder: Path, server: Server) -> None:
    """A working directory with its configuration."""
    folder.mkdir(parents=True)
    config = STUDY | {"download": {"mirror": server.at}}
    (folder / "study.yaml").write_text(yaml.safe_dump(config))


def start(folder: Path, *args: str) -> subprocess.Popen:
    """Snakemake in a folder, as the README starts it; its words are added to `said.txt`."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(folder), "--configfile", str(folder / "study.yaml")]
    with (folder / "said.txt").open("ab") as said:
        return subprocess.Popen(
            [*command, "--cores", "2", *args],
            **{"cwd": ROOT, "stdout": said, "stderr": said, "stdin": subprocess.DEVNULL},
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )


def finish(folder: Path) -> None:
    """Run a study to its end. Raises AssertionError with Snakemake's last words."""
    code = start(folder).wait()
    assert code == 0, (folder / "said.txt").read_text()[-4000:]


# ---- what is in place ---------------------------------------------------------------------------


def in_place(folder: Path) -> list[str]:
    """Every file under a final name: not the neighbours that writers and downloads rename."""
    found = [p for part in ("results", "resources") for p in (folder / part).rglob("*")]
    # the last one is made when a job has failed, of what there is then
    left = (".part", ".part.json", ".lock", "report.partial.html")
    paths = [p.relative_to(folder) for p in found if p.is_file() and not p.name.endswith(left)]
    # a dot begins the name of a temporary neighbour, or of a folder of such
    return sorted(str(p) for p in paths if not any(part.startswith(".") for part in p.parts))


def unlike(path: str, folder: Path, reference: Path) -> str:
    """How a file under a final name differs from that of the undisturbed run; '' if it does not.

    Files may vanish while they are looked at: Snakemake removes what failed jobs leave.
    """
    if not (reference / path).is_file():
        return f"{path}: is not among the files of the undisturbed run"
    try:
        one, other = content(folder / path), content(reference / path)
    except FileNotFoundError:
        return ""
    except Exception as error:
        return f"{path}: cannot be opened ({type(error).__name__}: {error})"
    return "" if equal(one, other) else f"{path}: is not that of the undisturbed run"


def content(path: Path) -> Any:
    """What a file holds, without times."""
    if path.suffix == ".pt":
        return torch.load(path, weights_only=True)
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if path.suffix == ".json":
        return lasting(json.loads(path.read_text()))
    if path.suffix == ".tsv":
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
        return {name: list(table[name]) for name in table if name not in TIMES}
    if path.suffix == ".html":  # tells of times and places everywhere
        return path.read_text().rstrip().endswith("</html>") or path.read_text()
    with open_bytes(path) as file:  # packed tables tell of the time in their head
        return file.read()


def lasting(told: Any) -> Any:
    """Plain values without the keys `OF_A_DAY`, at any depth."""
    if isinstance(told, dict):
        return {k: lasting(v) for k, v in told.items() if k not in OF_A_DAY}
    return [lasting(v) for v in told] if isinstance(told, list) else told


def equal(one: Any, other: Any) -> bool:
    """Equal to the last bit; missing values equal each other."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        same = one.dtype == other.dtype and one.shape == other.shape
        return same and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other
