"""What was planned and is not there, why, and how to repeat it: from the plan and the logs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from epiloom.show.results import Results, Run, track_names

TAIL = 12  # lines of a log shown
WIDEST = 300  # characters of a line shown
READ = 65536  # bytes read from the end of a log
# steps that every later one needs
SHARED = {"download", "gene_table", "genome_manifest", "genome_mask", "simulate_epigenome"}


@dataclass(frozen=True)
class Log:
    """A job's log. `status` is failed, finished, unfinished or empty."""

    path: str
    status: str
    tail: tuple[str, ...]
    command: str


@dataclass(frozen=True)
class Gap:
    """A planned result that is not there."""

    name: str
    files: tuple[str, ...]
    reason: str
    logs: tuple[Log, ...]
    target: str


def gaps(found: Results, logs: Sequence[Log]) -> list[Gap]:
    """Every planned table, track and run with a missing file, with the logs that say why."""
    rows = [*_tables(found), *_tracks(found), *found.runs]
    signals = {f"{run.cell}-{mark}" for run in found.runs for mark in run.marks.split("+")}
    signals |= {track.rpartition(".")[0] for track in track_names(found)}
    listed = []
    for row in rows:
        name, files = _expected(row)
        missing = tuple(file for file in files if not (found.work / file).exists())
        if missing:
            listed.append(_gap(name, missing, row, logs, signals))
    return listed


def _expected(row: Run | tuple[str, list[str]]) -> tuple[str, list[str]]:
    if isinstance(row, Run):
        names = ("history.tsv", "predictions.tsv", "metrics.tsv")
        return f"{row.model}/{row.name}", [str(row.folder / name) for name in names]
    return row


def _tables(found: Results) -> list[tuple[str, list[str]]]:
    if not found.plan:
        return []
    models = sorted({run.model for run in found.runs})
    rows = [(f"table of {model}", [f"results/tables/{model}.tsv"]) for model in models]
    if found.plan.get("tracks"):
        rows.append(("quality table", ["results/qc/tracks.tsv"]))
    genes = ["results/genes/genes.tsv", "results/genes/expression.tsv"]
    return [("genes and expression", genes), *rows]


def _tracks(found: Results) -> list[tuple[str, list[str]]]:
    return [(track, [f"results/qc/{track}.tsv"]) for track in track_names(found)]


def _gap(
    name: str, missing: tuple[str, ...], row: Run | tuple, logs: Sequence[Log], signals: set[str]
) -> Gap:
    target = missing[-1]
    own = [log for log in logs if _is_about(log, row)]
    failed = [log for log in own if log.status == "failed"]
    if failed:
        return Gap(name, missing, "failed", tuple(failed), target)
    open_ = [log for log in own if log.status in ("unfinished", "empty")]
    if open_:
        why = "its log ends without a result: still running, or stopped from outside (time, memory)"
        return Gap(name, missing, why, tuple(open_), target)
    before = [log for log in logs if log.status == "failed" and _feeds(log, row, signals)]
    if before:
        return Gap(name, missing, "something it needs failed", tuple(before), target)
    if own:
        return Gap(name, missing, "a later step has not run yet", (), target)
    return Gap(name, missing, "not started: no log, so its turn has not come yet", (), target)


def _is_about(log: Log, row: Run | tuple) -> bool:
    parts = Path(log.path).parts
    stem = Path(log.path).name.removesuffix(".log")
    if isinstance(row, Run):
        return row.name in parts and row.model in parts
    name, files = row
    outputs = {Path(file).stem for file in files}
    rules = {"quality table": {"qc_table"}, "genes and expression": {"gene_table"}}
    if name.startswith("table of "):
        return stem == "metrics_table" and name.removeprefix("table of ") in parts
    return stem in outputs | rules.get(name, set())


def _feeds(log: Log, row: Run | tuple, signals: set[str]) -> bool:
    """Whether a failed step is one that this result is made from.

    `signals` are the planned "cell-mark"s: a step whose log names none of them serves all.
    """
    parts = (*Path(log.path).parts[:-1], Path(log.path).name.removesuffix(".log"))
    about = {signal for signal in signals if signal in log.path}
    shared = SHARED.intersection(parts) and not about
    if isinstance(row, Run):
        return bool(shared or about & {f"{row.cell}-{mark}" for mark in row.marks.split("+")})
    name, _ = row
    if name.startswith("table of "):
        return bool(shared or name.removeprefix("table of ") in parts)
    if name == "quality table":
        return bool(shared or about)
    # a download is named after the file, so it holds the cell and mark, but not the signal
    return bool(shared or name.rpartition(".")[0] in about)


def others(logs: Sequence[Log], listed: Iterable[Gap]) -> list[Log]:
    """Failed logs that no gap names."""
    named = {log.path for gap in listed for log in gap.logs}
    return [log for log in logs if log.status == "failed" and log.path not in named]


# --- logs ----------------------------------------------------------------------------------------


def read_logs(work: str | Path) -> list[Log]:
    """All `logs/**/*.log` of a working directory, in order of their names."""
    work = Path(work)
    return [_read_log(work, path) for path in sorted((work / "logs").rglob("*.log"))]


def _read_log(work: Path, path: Path) -> Log:
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - READ))
        lines = file.read().decode("utf-8", "replace").splitlines()
    # how to repeat the job is said once, by the report, without the machine's own paths
    hints = ("repeat this job by hand: ",)
    lines = [line for line in lines if line.strip() and not line.startswith(hints)]
    lines = [line for line in lines if " ERROR log: " not in line]
    tail = tuple(line if len(line) <= WIDEST else f"{line[:WIDEST]} ..." for line in lines[-TAIL:])
    relative = path.relative_to(work)
    return Log(str(relative), _status(lines), tail, _repeat(work, relative))


def _status(lines: Sequence[str]) -> str:
    if not lines:
        return "empty"
    if any(" ERROR " in line for line in lines):
        return "failed"
    # a tool that only leaves its own words there counts as finished: its output would be missing
    # otherwise, and then the last lines are shown all the same
    return "finished" if ": done in " in lines[-1] else "unfinished"


def _repeat(work: Path, log: Path) -> str:
    """The command that repeats the job, from its job file; empty without one."""
    file = work / f"{log}.job.json"
    if not file.exists():
        return ""
    try:
        rule = str(json.loads(file.read_text())["rule"])
    except (OSError, ValueError, KeyError, TypeError):
        rule = log.name.removesuffix(".log")
    return f"python -m workflow_scripts.{rule} {shlex.quote(f'{log}.job.json')}"
