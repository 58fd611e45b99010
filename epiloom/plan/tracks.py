"""Which file stands for which cell and mark: public tracks and the user's own table."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from epiloom.plan.config import hint
from epiloom.plan.errors import InputError

KINDS = ("reads", "bam", "depth", "pval", "fold_change")
SOURCE_OF = {
    "reads": "roadmap_reads",
    "pval": "roadmap_pval",
    "fold_change": "roadmap_fold_change",
}


@dataclass(frozen=True)
class Track:
    """One signal of one cell and mark. `file` is where the rules find it."""

    cell: str
    mark: str
    kind: str
    file: str

    @property
    def name(self) -> str:
        """Name in every path, e.g. E003-H3K4me3.reads."""
        return f"{self.cell}-{self.mark}.{self.kind}"


def serves(kind: str) -> str:
    """The public signal that a kind of track replaces: own BAM or depth files replace reads."""
    return "reads" if kind in ("bam", "depth") else kind


def mark_of(name: str) -> str:
    """The mark in a track's name; marks such as H2A.Z have a dot, kinds have none."""
    return name.partition("-")[2].rpartition(".")[0]


def cell_of(name: str) -> str:
    """The cell type in a track's name."""
    return name.partition("-")[0]


def shown_name(name: str) -> str:
    """A track's name as people read it: cell type and mark."""
    return f"{cell_of(name)} {mark_of(name)}"


@dataclass(frozen=True)
class OwnTrack:
    """One row of the user's `tracks` table."""

    cell: str
    mark: str
    kind: str
    file: str
    line: int


def read_own_tracks(path: Path) -> dict[tuple[str, str], OwnTrack]:
    """The user's `tracks` table by (cell, mark).

    Raises:
        InputError: missing columns, unknown kinds, doubled rows; all at once, with line numbers.
    """
    try:
        with Path(path).open(newline="") as file:
            table = list(csv.DictReader(file, delimiter="\t"))
    except OSError as err:
        remedy = "correct the key `tracks` or create the table"
        raise InputError(path, f"cannot be read ({err.strerror}); {remedy}") from err
    needed = {"cell", "mark", "kind", "file"}
    columns = set(table[0]) if table else set()
    if missing := needed - columns:
        raise InputError(
            path,
            f"column(s) {', '.join(sorted(missing))} missing; the first line must name "
            "cell, mark, kind and file, separated by tabs",
        )
    own: dict[tuple[str, str], OwnTrack] = {}
    problems = []
    for line, row in enumerate(table, start=2):
        values = [(row[k] or "").strip() for k in ("cell", "mark", "kind", "file")]
        track = OwnTrack(*values, line)
        if not all(values):
            problems.append(f"line {line}: an empty field; give cell, mark, kind and file")
        for name in (track.cell, track.mark):
            if not name.replace("_", "").replace(".", "").isalnum():
                problems.append(f"line {line}: '{name}' may hold letters, digits, _ and . only")
        if track.kind not in KINDS:
            problems.append(
                f"line {line}: kind '{track.kind}' is none of {', '.join(KINDS)}"
                + hint(track.kind, list(KINDS))
            )
        if (track.cell, track.mark) in own:
            problems.append(f"line {line}: {track.cell} {track.mark} was given before; keep one")
        own[track.cell, track.mark] = track
    if problems:
        raise InputError(path, problems)
    return own


def read_table(path: Path, key: str) -> dict[str, dict[str, str]]:
    """A tab-separated table of `config/` (cells, marks) by its first column."""
    with Path(path).open(newline="") as file:
        return {row[key]: row for row in csv.DictReader(file, delimiter="\t")}
