"""What one training was: `run.json` beside its weights.

Settings, data, versions, machine, times. All that differs between two runs of the same training
(times, machine) stands in this file only, so that weights and predictions can be compared as bytes.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from epiloom.data import origin
from epiloom.data.files import atomic

SCHEMA = 1


def write(
    out: str | Path,
    settings: Mapping[str, Any],
    files: Mapping[str, Any],
    run_dir: str | Path,
    history: str | Path,
    threads: int,
    command: str,
    began: float,
) -> None:
    """Write the record of a training that has just ended; of several processes one writes.

    Args:
        out: file to write, whole or not at all.
        settings: the run's settings, as planned.
        files: what its examples were read from, a path or a list of paths by name.
        run_dir: its training state (`log.jsonl` tells the attempts, `manifest.json` the data).
        history: its finished history.
        threads: cores it was given.
        command: what repeats it by hand, from the working directory.
        began: when this attempt began, in seconds since 1970.
    """
    if os.environ.get("RANK", "0") != "0":
        return
    told = {
        "schema": SCHEMA,
        "settings": settings,
        "seed": settings["seed"],
        "inputs": {
            "told_by": f"sha256 up to {origin.HASHED_BYTES} bytes, above: size and last change",
            "files": origin.file_facts(_paths(files)),
        },
        "examples": _examples(Path(run_dir)),
        "code": origin.code(),
        "versions": origin.versions(),
        "hardware": hardware(threads),
        "training": _epochs(Path(history)) | attempts(Path(run_dir), began),
        "command": command,
        "written": origin.moment(),
    }
    with atomic(out) as tmp:
        tmp.write_text(json.dumps(told, indent=1) + "\n")


def _paths(files: Mapping[str, Any]) -> Iterator[str]:
    for each in files.values():
        yield from [each] if isinstance(each, (str, Path)) else each


def _examples(run_dir: Path) -> dict[str, Any] | None:
    """Number and checksum of the very examples; None for a run that trained nothing."""
    path = run_dir / "manifest.json"
    return json.loads(path.read_text())["data"] if path.exists() else None


def hardware(threads: int) -> dict[str, Any]:
    """Processor, cores of the job, processes, and the GPUs that were in view."""
    seen = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return {
        "system": origin.machine(),
        "cpu": origin.processor(),
        "cores": threads,
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "gpus": [torch.cuda.get_device_name(k) for k in seen],
        "driver": _driver() if seen else None,
        "cuda": torch.version.cuda if seen else None,
    }


def _driver() -> str | None:
    """Version of the GPUs' driver; None where nobody tells it."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.split("\n")[0].strip() or None


def _epochs(history: Path) -> dict[str, Any]:
    table = pd.read_csv(history, sep="\t")
    best = table.loc[table["best"] == 1, "epoch"]
    return {
        "epochs": len(table),
        "best_epoch": int(best.iloc[-1]) if len(best) else None,
        "training_s": round(float(table["seconds"].sum()), 3),  # without validation
        "peak_memory_mb": round(float(table["peak_memory_mb"].max()), 1) if len(table) else None,
    }


def attempts(run_dir: Path, began: float) -> dict[str, Any]:
    """When the training began and ended, its wall time, and how often it was taken up again.

    The wall time is the sum over the attempts, each from its start to its last sign of life. A
    training that had ended, and is asked again because its outputs are gone, is not a new attempt.
    Without a log (nothing was trained) it is that of this process, which started at `began`.
    """
    spans: list[list[float]] = []
    ended = False
    for event in _events(run_dir / "log.jsonl"):
        kind, at = event["event"], event["time"]
        if kind == "started":  # also after other data made the state useless
            spans, ended = [[at, at]], False
        elif kind == "resumed" and not ended:
            spans.append([at, at])
        elif spans and not ended:
            spans[-1][1], ended = at, kind == "finished"
    spans = spans or [[began, max(began, time.time())]]
    return {
        "began": origin.moment(spans[0][0]),
        "ended": origin.moment(spans[-1][1]),
        "wall_s": round(sum(end - start for start, end in spans), 3),
        "resumed": len(spans) - 1,
    }


def _events(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a training's log; one that a killed process left half written is passed over."""
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except ValueError:
            continue
