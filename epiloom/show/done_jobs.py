"""The jobs that made a study's results: from the job files beside their logs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

STAMP = "%Y-%m-%d %H:%M:%S,%f"  # of the logs, in local time


@dataclass(frozen=True)
class DoneJob:
    """A job that ended well. `began` and `ended` are ISO 8601 with the offset to UTC."""

    name: str
    rule: str
    script: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    began: str
    ended: str


def behind(work: str | Path, wanted: Iterable[str]) -> list[DoneJob]:
    """The jobs that `wanted` files come from, in the order of time.

    Only these: logs of an earlier configuration may still lie there. A log keeps the last run of
    its job.

    Args:
        work: working directory.
        wanted: paths of results, as seen from there.
    """
    makers = {path: job for job in _read(Path(work)) for path in job.outputs}
    todo, seen, jobs = list(wanted), set(), {}
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        if path in makers:
            job = makers[path]
            jobs[job.name] = job
            todo += job.inputs
    return sorted(jobs.values(), key=lambda job: (datetime.fromisoformat(job.began), job.name))


def _read(work: Path) -> Iterator[DoneJob]:
    for path in sorted((work / "logs").rglob("*.log.job.json")):
        job = _job(work, path)
        if job:
            yield job


def _job(work: Path, path: Path) -> DoneJob | None:
    """None for a job that has not ended well, or whose files are unreadable."""
    log = path.with_name(path.name.removesuffix(".job.json"))
    try:
        told = json.loads(path.read_text())
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        if not lines or ": done in " not in lines[-1]:
            return None
        began, ended = _stamp(lines[0]), _stamp(lines[-1])
        script = told.get("script") or told["rule"]
        files = [tuple(_flat(told[key])) for key in ("input", "output")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    name = str(log.relative_to(work / "logs")).removesuffix(".log")
    return DoneJob(name, told["rule"], script, *files, began, ended)


def _stamp(line: str) -> str:
    at = datetime.strptime(line[:23], STAMP).astimezone()
    return at.isoformat(timespec="milliseconds")


def _flat(files: dict[str, Any]) -> Iterator[str]:
    for each in files.values():
        yield from [each] if isinstance(each, str) else each
