"""Which cells are held out, in every run or by cell fold: read, checked, groups kept together.

A plan's `cell_folds` maps a model of cells never profiled to its divisions of the cells, name ->
{validation, test}. Without the key `cell_folds` of the model there is one, named "", of its
`validation_cells` and `test_cells`. With it every run is of one chromosome fold and one cell fold,
and named FOLD.CELLFOLD.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from epiloom.plan.config import hint

if TYPE_CHECKING:
    from epiloom.plan.runs import Plan

EACH = "each"  # every cell is held out once, alone or with its group
HELD = ("validation", "test")


def check(options: Mapping, asked: Sequence[str]) -> Iterator[str]:
    """Problems of who is held out that need no file, as lines without the model's name.

    Args:
        options: of the model. asked: its cells.
    """
    given = options["cell_folds"]
    if given is None:
        yield from _check_fold(options, asked, "{}_cells", "test_cells")
        return
    for part in HELD:
        if options[f"{part}_cells"]:
            yield (
                f"{part}_cells: cell_folds tells which cells are held out in which run; leave "
                f"{part}_cells empty, or remove cell_folds"
            )
    tested: dict[str, str] = {}
    for name, fold in given.items() if isinstance(given, dict) else ():
        told = {f"{part}_cells": fold.get(part, []) for part in HELD}
        yield from _check_fold(told, asked, f"cell_folds.{name}.{{}}", f"cell_folds.{name}")
        for cell in fold["test"]:
            if cell in tested:
                yield (
                    f"cell_folds.{name}.test: '{cell}' is tested in {tested[cell]} too, so it "
                    "would count twice; keep it in one fold"
                )
            tested.setdefault(cell, name)


def _check_fold(told: Mapping, asked: Sequence[str], key: str, whole: str) -> Iterator[str]:
    """One division: `key` names a part's cells, `whole` all of it."""
    for part in HELD:
        for cell in told[f"{part}_cells"]:
            if cell not in asked:
                yield (
                    f"{key.format(part)}: '{cell}' is not among the model's cells"
                    f"{hint(cell, asked)}; add it to `cells` of the model, or correct it"
                )
    for cell in told["validation_cells"]:
        if cell in told["test_cells"]:
            yield (
                f"{key.format('test')}: '{cell}' is in {key.format('validation')} too; keep it in "
                "one of them"
            )
    if asked and not set(asked) - {cell for part in HELD for cell in told[f"{part}_cells"]}:
        yield f"{whole}: no cell is left for training; hold out fewer, or add cells"


def named(options: Mapping) -> set[str]:
    """Cells that the configuration holds out by name."""
    given = options["cell_folds"]
    folds = given.values() if isinstance(given, dict) else ()
    return {
        *(cell for part in HELD for cell in options[f"{part}_cells"]),
        *(cell for fold in folds for part in HELD for cell in fold.get(part, [])),
    }


def settle(plan: Plan, root: Path, model: str) -> list[str]:
    """Put the divisions of a model's cells into the plan, once its tracks are known.

    Returns:
        Problems, as lines: tables that cannot be read, groups that are divided, nobody to train.
    """
    options, there = plan.config["models"][model], plan.cell_tracks[model]
    given, of = options["cell_folds"], _groups(plan, root, model)
    problems = [of] if isinstance(of, str) else []
    group = dict(of) if not problems and of else {}
    if given is None:
        made = {"": {part: options[f"{part}_cells"] for part in HELD}}
    elif given == EACH:
        by: dict[str, list[str]] = {}
        for cell in there:
            by.setdefault(group.get(cell) or cell, []).append(cell)
        made = {name: {"validation": [], "test": cells} for name, cells in _named(by.values())}
        if len(by) == 1:
            problems.append(
                f"cell_folds: all cells are of group {next(iter(by))}, so with each none is left "
                "for training; add cells of other groups, or set cell_groups to none"
            )
    else:
        made = {name: {part: fold.get(part, []) for part in HELD} for name, fold in given.items()}
    plan.cell_folds[model] = made
    for name, fold in made.items() if of and not problems else ():
        key = f"cell_folds.{name}" if name else "test_cells"
        problems += _divided(key, fold, there, group)
    return problems


def _named(groups: Iterable[list[str]]) -> Iterator[tuple[str, list[str]]]:
    """Cells held out together, by the first one's name: a run's name has no other dots."""
    taken: set[str] = set()
    for cells in groups:
        name = re.sub(r"[^A-Za-z0-9]", "_", cells[0])
        while name in taken:
            name += "_"
        taken.add(name)
        yield name, cells


def _divided(
    key: str, fold: Mapping[str, list[str]], there: Sequence[str], group: Mapping[str, str]
) -> Iterator[str]:
    """Groups of nearly the same cells that stand on two sides."""
    sides: dict[str, dict[str, list[str]]] = {}
    order = ("train", *HELD)
    part_of = {cell: part for part in HELD for cell in fold[part]}
    for cell in sorted(there, key=lambda cell: order.index(part_of.get(cell, "train"))):
        part = part_of.get(cell, "train")
        sides.setdefault(group.get(cell) or cell, {}).setdefault(part, []).append(cell)
    for name, by in sides.items():
        if len(by) > 1:
            each = "; ".join(f"{part}: {', '.join(names)}" for part, names in by.items())
            yield (
                f"{key}: group {name} is divided ({each}), so what is held out is not new; "
                "hold all of it out or leave the rest out of `cells`, or set cell_groups to none"
            )


def _groups(plan: Plan, root: Path, model: str) -> dict[str, str] | str | None:
    """Group of each cell ("" or absent: of its own); None without groups; or what is wrong."""
    told = plan.config["models"][model]["cell_groups"]
    if told == "none":
        return None
    of = {cell: row.get("anatomy", "") for cell, row in plan.cells.items()}
    if told != "anatomy":
        given = _read_groups(told, root)
        if isinstance(given, str):
            return given
        for cell in plan.cell_tracks[model]:
            name = plan.cells.get(cell, {}).get("name", "")
            of[cell] = given.get(_key(cell)) or given.get(_key(name), "")
    return of


def _key(name: str) -> str:
    """A name without case, blanks and punctuation, as in `epiloom.data.cell_groups`."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _read_groups(path: str, root: Path) -> dict[str, str] | str:
    """Group by the key of a name, or what is wrong with the table."""
    from epiloom.plan.runs import locate

    try:
        with locate(path, root).open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except (OSError, UnicodeDecodeError) as err:
        return f"cell_groups: '{path}' cannot be read ({err}); give a table, anatomy or none"
    if not rows or not {"name", "group"} <= set(rows[0]):
        return f"cell_groups: '{path}' lacks columns name and group; add them, separated by tabs"
    return {_key(row["name"] or ""): (row["group"] or "").strip() for row in rows}
