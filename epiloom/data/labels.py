"""Labels of the downstream tasks: windows of the genome, and 1, 0 or nothing per cell.

The table is tab-separated. Its first line names the task and its windows, so that columns of
windows and columns of cells cannot be mixed up:

    # task: promoter_enhancer; windows: promoter, enhancer, between

The second line is the header: name, chrom, {window}_start and {window}_end of every window, then
one column per cell. An empty field of a cell says that the window is not labelled there.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from epiloom.data.annotation import read_text
from epiloom.data.files import atomic
from epiloom.data.genome import Genome
from epiloom.plan.errors import InputError

MOST_TOLD = 20  # problems named one by one
_HEAD = re.compile(r"# task: (\w+); windows: (\w+(?:, \w+)*)")
_REMEDY = "remove the file; it is then made again"


@dataclass(frozen=True)
class Labels:
    """Windows of one task with a label per cell.

    Attributes:
        task: its name.
        names: text [n], unique. chroms: text [n].
        windows: window name -> int64 [n, 2], bases, 0-based half-open.
        labels: cell -> float32 [n]: 1, 0, NaN = not labelled in this cell.

    Raises:
        InputError: arrays of unequal length, windows without a base, other labels, a cell with the
            name of another column; all problems at once.
    """

    task: str
    names: np.ndarray
    chroms: np.ndarray
    windows: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]

    def __post_init__(self) -> None:
        if problems := list(self._problems()):
            raise InputError(f"labels of {self.task}", problems)

    def __len__(self) -> int:
        return len(self.names)

    def _problems(self):
        n = len(self.names)
        if not self.windows or not self.labels:
            yield "no window or no cell; give at least one of each"
        if len(self.chroms) != n:
            yield f"{n} names, but {len(self.chroms)} chromosomes; give as many"
        if len(set(self.names)) < n:
            yield "a name stands there twice; name every window once"
        for name, span in self.windows.items():
            if span.shape != (n, 2):
                yield f"window {name} has shape {span.shape}, not ({n}, 2); give start and end"
            elif np.any((span[:, 0] < 0) | (span[:, 1] <= span[:, 0])):
                yield f"window {name} has rows without a base; start must be before end"
        for cell, values in self.labels.items():
            if cell in _columns(self.windows):
                yield f"cell {cell!r} has the name of another column; rename it"
            if values.shape != (n,):
                yield f"cell {cell} has {values.shape} labels for {n} windows; give as many"
            elif not np.all(np.isnan(values) | (values == 0) | (values == 1)):
                yield f"cell {cell} has labels other than 0, 1 and none; correct them"

    def write(self, path: str | Path) -> None:
        """Write the table; it appears at once or not at all."""
        table = {"name": self.names, "chrom": self.chroms}
        for name, span in self.windows.items():
            table |= {f"{name}_start": span[:, 0], f"{name}_end": span[:, 1]}
        for cell, values in self.labels.items():
            table[cell] = np.where(np.isnan(values), "", np.where(values == 1, "1", "0"))
        head = f"# task: {self.task}; windows: {', '.join(self.windows)}\n"
        body = pd.DataFrame(table).to_csv(sep="\t", index=False, lineterminator="\n")
        with atomic(path) as tmp:
            tmp.write_text(head + body, encoding="utf-8")

    @classmethod
    def read(cls, path: str | Path) -> Labels:
        """Read a table that `write` made.

        Raises:
            InputError: unreadable, another table, columns missing, faulty lines with their numbers.
        """
        head, _, body = read_text(path).partition("\n")
        found = _HEAD.fullmatch(head.strip())
        if not found:
            raise InputError(path, f"is no table of labels (first line {head[:60]!r}); {_REMEDY}")
        names = found[2].split(", ")
        try:
            table = pd.read_csv(io.StringIO(body), sep="\t", dtype=str, keep_default_na=False)
        except ValueError as err:
            raise InputError(path, f"cannot be read ({err}); {_REMEDY}") from err
        wanted = _columns(names)
        if list(table.columns[: len(wanted)]) != wanted:
            raise InputError(
                path,
                f"its columns are {', '.join(table.columns[:8])}; they must begin with "
                f"{', '.join(wanted)}; {_REMEDY}",
            )
        table.index = table.index + 3  # lines of the file
        cells = list(table.columns[len(wanted) :])
        numbers = {column: pd.to_numeric(table[column], "coerce") for column in wanted[2:]}
        refuse(path, _faulty(table, numbers, cells))
        try:
            return cls(found[1], *_arrays(table, numbers, names, cells))
        except InputError as err:
            raise InputError(path, [f"{problem} ({_REMEDY})" for problem in err.problems]) from err


def _arrays(table: pd.DataFrame, numbers: dict[str, pd.Series], names: list[str], cells: list[str]):
    """Names, chromosomes, windows and labels of a table without faults."""
    windows = {
        name: np.column_stack([numbers[f"{name}_start"], numbers[f"{name}_end"]]).astype(np.int64)
        for name in names
    }
    labels = {
        cell: pd.to_numeric(table[cell].replace("", np.nan)).to_numpy(np.float32) for cell in cells
    }
    return table["name"].to_numpy(str), table["chrom"].to_numpy(str), windows, labels


def _columns(windows: Sequence[str] | Mapping) -> list[str]:
    """Columns that stand before those of the cells."""
    ends = [f"{name}_{end}" for name in windows for end in ("start", "end")]
    return ["name", "chrom", *ends]


def _faulty(table: pd.DataFrame, numbers: dict[str, pd.Series], cells: list[str]) -> list[str]:
    """Lines with something else than whole numbers in windows, or 1, 0 and nothing in labels."""
    problems = []
    for column, values in numbers.items():
        bad = table.index[~(values % 1 == 0)]
        problems += [f"line {n}: {column} {table.at[n, column]!r} is no position" for n in bad]
    for cell in cells:
        bad = table.index[~table[cell].isin(["0", "1", ""])]
        problems += [f"line {n}: label {table.at[n, cell]!r} of {cell} is not 0 or 1" for n in bad]
    return [f"{problem}; {_REMEDY}" for problem in problems]


def refuse(path: str | Path, problems: Sequence[str]) -> None:
    """Raise InputError if there are problems; the first ones in words, the others counted."""
    if problems:
        rest = len(problems) - MOST_TOLD
        more = [f"... and {rest} more"] * (rest > 0)
        raise InputError(path, [*problems[:MOST_TOLD], *more])


def combine(task: str, parts: Mapping[str, pd.DataFrame], genome: Genome) -> Labels:
    """Windows of several cells as one set: what two cells share becomes one row.

    Args:
        parts: cell -> columns chrom, {window}_start, {window}_end of every window (the same for all
            cells), label; each window once.

    Returns:
        Sorted by chromosome order and position. A window that a cell does not have is NaN there;
        windows labelled in no cell are left out.
    """
    first = next(iter(parts.values()))
    keys = [column for column in first.columns if column != "label"]
    given = {cell: part[part["label"].notna()] for cell, part in parts.items()}
    rows = pd.concat([part[keys] for part in given.values()]).drop_duplicates()
    if rows.empty:
        raise InputError(
            f"labels of {task}",
            f"none of {', '.join(parts)} has a labelled window on the chromosomes of "
            f"{genome.assembly} ({', '.join(genome.chromosomes[:5])}); give other files or cells",
        )
    place = rows["chrom"].map(genome.index)
    rows = rows.assign(place=place).sort_values(["place", *keys[1:]], ignore_index=True)[keys]
    labels = {
        cell: rows.merge(part, how="left", on=keys)["label"].to_numpy(np.float32)
        for cell, part in given.items()
    }
    stems = [column.removesuffix("_start") for column in keys[1::2]]
    windows = {s: rows[[f"{s}_start", f"{s}_end"]].to_numpy(np.int64) for s in stems}
    return Labels(task, _names(rows, windows), rows["chrom"].to_numpy(str), windows, labels)


def _names(rows: pd.DataFrame, windows: dict[str, np.ndarray]) -> np.ndarray:
    """`chr1:100-200`, of pairs `chr1:100-200|700-800`: two windows tell which row it is."""
    spans = [[f"{a}-{b}" for a, b in span.tolist()] for span in list(windows.values())[:2]]
    each = zip(rows["chrom"], *spans, strict=True)
    return np.array([f"{chrom}:{'|'.join(span)}" for chrom, *span in each], dtype=str)
