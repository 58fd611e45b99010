"""What models of DNA sequence predict: public tracks, or the user's own table of targets."""

from __future__ import annotations

import csv
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from epiloom.plan.config import hint
from epiloom.plan.errors import InputError

STATISTICS = ("mean", "sum", "mean_sqrt", "sum_sqrt", "median", "max", "peak")
COLUMNS = ("identifier", "file", "sum_stat", "scale", "clip_soft", "clip", "peak", "description")
IGNORED = ("index",)  # a running number; the order of the rows counts
_ALSO = {"avg": "mean"}  # the name that Basenji accepts too
_NAME = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Target:
    """One track to predict; its values are made as in Basenji.

    The values of the bases are multiplied by `scale`, one `sum_stat` of each bin is taken, what is
    above `clip_soft` grows as a square root only, and all is clipped to [0, `clip`].
    """

    identifier: str
    file: str
    sum_stat: str = "mean"
    scale: float = 1.0
    clip_soft: float | None = None
    clip: float | None = None
    peak: str = ""
    description: str = ""

    @property
    def values(self) -> dict:
        """All that decides the numbers, as plain values."""
        kept = ("sum_stat", "scale", "clip_soft", "clip")
        return {key: value for key, value in asdict(self).items() if key in kept}


def read_targets(path: str | Path, usual: dict) -> list[Target]:
    """The rows of a targets table, in their order.

    Args:
        path: tab-separated, first line names the columns: identifier and file, and any of
            `COLUMNS`. An empty field takes the value of `usual`.
        usual: sum_stat, scale, clip_soft, clip of the configuration.

    Raises:
        InputError: all problems at once, with line numbers.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter="\t")
            rows, columns = list(reader), list(reader.fieldnames or [])
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        remedy = "correct the key `targets.table` or create the table"
        raise InputError(path, f"cannot be read ({err}); {remedy}") from err
    known = [*COLUMNS, *IGNORED]
    problems = [
        f"column '{name}' is missing; the first line must name it, between tabs"
        for name in ("identifier", "file")
        if name not in columns
    ]
    problems += [
        f"column '{name}' is unknown{hint(name, known)}; correct or remove it"
        for name in columns
        if name not in known
    ]
    if not rows and not problems:
        problems.append("has no row; give at least one target")
    if problems:
        raise InputError(path, problems)
    targets, lines = [], {}
    for line, row in enumerate(rows, start=2):
        target, wrong = _target(row, usual)
        if target.identifier in lines:
            wrong.append(f"'{target.identifier}' stands on line {lines[target.identifier]} too")
        lines.setdefault(target.identifier, line)
        targets.append(target)
        problems += [f"line {line}: {problem}" for problem in wrong]
    if problems:
        raise InputError(path, problems)
    return targets


def _target(row: dict, usual: dict) -> tuple[Target, list[str]]:
    told = {key: str(row.get(key) or "").strip() for key in COLUMNS}
    problems = []
    if not _NAME.fullmatch(told["identifier"]):
        problems.append(
            f"identifier '{told['identifier']}' may hold letters, digits, _ . and - only, and at "
            "least one; it becomes a file name"
        )
    if not told["file"]:
        problems.append("file is empty; give a bigWig or BAM file")
    stat = _ALSO.get(told["sum_stat"], told["sum_stat"]) or usual["sum_stat"]
    if stat not in STATISTICS:
        problems.append(
            f"sum_stat '{stat}' is none of {', '.join(STATISTICS)}{hint(stat, list(STATISTICS))}"
        )
    numbers = {}
    for key in ("scale", "clip_soft", "clip"):
        numbers[key] = usual[key]
        if told[key]:
            try:
                numbers[key] = float(told[key])
            except ValueError:
                problems.append(f"{key} '{told[key]}' is no number")
                continue
        if numbers[key] is not None and not 0 < numbers[key] < float("inf"):
            problems.append(f"{key} {told[key]} must be above 0")
    return Target(
        told["identifier"],
        told["file"],
        stat,
        **numbers,
        peak=told["peak"],
        description=told["description"],
    ), problems
