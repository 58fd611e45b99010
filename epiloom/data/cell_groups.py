"""Which cell types train, which stop training, which are scored; and proof that none is its twin.

A held-out cell proves nothing if the same tissue, or the same line under another name, has trained.
Cells are put into groups of synonyms by a names table, and a group stands on one side only. The
table built in covers the names of the published study; `read_names` reads the user's own. Names are
compared without case, blanks and punctuation: IMR-90 is IMR90.

Together with folds of chromosomes, parts of the evaluation are

    cells \\ chromosomes   train            validation    test
    train                 train            -             cross_region
    validation            -                validation    -
    test                  cross_cell       -             cross_both

What is marked - takes part in nothing, so that what chooses the epoch is new in both ways.
"""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from epiloom.data.annotation import read_text
from epiloom.data.folds import PARTS
from epiloom.data.labels import refuse
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

COLUMNS = ["cell", "name", "group", "part"]
UNUSED = "unused"
EVALUATED = {  # (part of the cell, part of the chromosome) -> what it tells
    ("train", "train"): "train",
    ("validation", "validation"): "validation",
    ("test", "train"): "cross_cell",
    ("train", "test"): "cross_region",
    ("test", "test"): "cross_both",
}
# Names of the published hg19 and hg38 lists that stand for nearly the same cells. Parts of an organ
# count as the organ: donors and the tissue around are the same.
SYNONYMS = {
    "lung": "left lung; upper lobe of left lung; lower lobe of left lung; upper lobe of right lung;"
    "lower lobe of right lung",
    "heart": "heart left ventricle; heart right ventricle; left ventricle myocardium inferior;"
    "right atrium auricular region; right cardiac atrium; right atrium",
    "aorta": "ascending aorta; thoracic aorta",
    "esophagus": "esophagus muscularis mucosa; esophagus squamous epithelium;"
    "gastroesophageal sphincter",
    "pancreas": "body of pancreas",
    "liver": "right lobe of liver",
    "colon": "sigmoid colon; transverse colon; colonic mucosa; mucosa of descending colon;"
    "large intestine",
    "skin": "lower leg skin; suprapubic skin",
    "adipose tissue": "omental fat pad; subcutaneous adipose tissue",
    "skeletal muscle": "skeletal muscle tissue; gastrocnemius medialis; psoas muscle;"
    "muscle of leg; muscle of trunk",
    "placenta": "placental basal plate; chorion; chorionic villus; amnion; trophoblast",
    "brain": "cerebellum; dorsolateral prefrontal cortex; temporal lobe; layer of hippocampus;"
    "germinal matrix",
    "pluripotent stem cell": "H1; H1-hESC; H7; H9; HUES64; UCSF-4; WTC11; GM23338",
    "fibroblast": "AG04450; BJ; GM23248; HFFc6; IMR-90",
}


def key(name: str) -> str:
    """A name without case, blanks and punctuation."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def known_names() -> dict[str, str]:
    """Group of each built-in synonym, by `key`."""
    found = {}
    for group, names in SYNONYMS.items():
        found |= {key(name): group for name in [group, *names.split(";")]}
    return found


def read_names(path: str | Path, name: str = "name", group: str = "group") -> dict[str, str]:
    """Group of each name, by `key`, of a tab-separated table with a header.

    Args:
        name, group: its columns; such as cell and anatomy of config/cells.tsv.

    Raises:
        InputError: columns missing, empty fields, a name in two groups; all at once.
    """
    rows = _table(path, (name, group))
    found: dict[str, str] = {}
    problems = []
    for line, row in rows:
        one, of = row[name], row[group]
        if not key(one) or not of:
            problems.append(f"line {line}: an empty field; give {name} and {group}")
        elif found.setdefault(key(one), of) != of:
            problems.append(f"line {line}: {one!r} is in {found[key(one)]} too; keep one group")
    refuse(path, problems)
    return found


def read_split(path: str | Path, names: Mapping[str, str] | None = None) -> pd.DataFrame:
    """A given split of cells: columns `COLUMNS`. It is not checked (see `check`).

    Args:
        path: tab-separated with columns name and split; split is train, validation, test, or
            unused or dropped. A column cell, if there is one, tells cells of one name apart; else
            further ones are called NAME.2, NAME.3.
        names: group by `key`; None: the built-in ones.

    Raises:
        InputError: columns missing, other words, a cell twice; all at once.
    """
    words = (*PARTS, UNUSED, "dropped")
    found, problems, seen = [], [], {}
    for line, row in _table(path, ("name", "split")):
        name, part = row["name"], row["split"]
        if part not in words:
            problems.append(f"line {line}: split {part!r}; choose one of {', '.join(words)}")
        seen[name] = seen.get(name, 0) + 1
        cell = row.get("cell") or (name if seen[name] == 1 else f"{name}.{seen[name]}")
        found.append((cell, name, part if part in PARTS else UNUSED))
    table = pd.DataFrame(found, columns=["cell", "name", "part"])
    twice = table["cell"][table["cell"].duplicated()].unique()
    problems += [f"cell {cell!r} stands on several lines; keep one" for cell in twice]
    refuse(path, problems)
    return _grouped(table, names)


def _table(path: str | Path, needed: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """(line, fields by column) of a tab-separated table."""
    reader = csv.DictReader(io.StringIO(read_text(path)), delimiter="\t")
    columns = list(reader.fieldnames or [])
    absent = [c for c in needed if c not in columns]
    if absent:
        raise InputError(
            path, f"has no column {', '.join(absent)}; it has {', '.join(columns[:20])}: add it"
        )
    return [
        (line, {k: (v or "").strip() for k, v in row.items() if k})
        for line, row in enumerate(reader, 2)
    ]


def _grouped(table: pd.DataFrame, names: Mapping[str, str] | None) -> pd.DataFrame:
    """With the group of every name; a name in no table is a group of its own."""
    known = known_names() if names is None else names
    # Two spellings of a name without a group are one group too: the first spelling names it.
    first: dict[str, str] = {}
    groups = [known.get(key(n)) or first.setdefault(key(n), n) for n in table["name"]]
    return table.assign(group=groups)[COLUMNS]


def twins(split: pd.DataFrame) -> list[str]:
    """What stands on more than one side, in words: names first, then groups of several names."""
    used = split[split["part"] != UNUSED]
    found = []
    for what in ("name", "group"):
        by = used["name"].map(key) if what == "name" else used["group"]
        for _, rows in used.groupby(by, sort=False):
            several = rows["part"].nunique() > 1
            if several and (what == "name" or rows["name"].map(key).nunique() > 1):
                places = [
                    f"{part}: {', '.join(here['cell'])}"
                    for part, here in rows.groupby("part", sort=False)
                ]
                found.append(f"{what} {rows[what].iloc[0]!r} is in {'; '.join(places)}")
    return found


def check(split: pd.DataFrame, where: object = "cells", force: bool = False) -> None:
    """Refuse a split with a name or a group on two sides, a cell twice, or an empty side.

    Args:
        split: `COLUMNS`. force: only warn of names and groups (to repeat the published split).

    Raises:
        InputError: all of it at once.
    """
    leaks = twins(split)
    problems = [
        f"{part}: no cell; give at least one"
        for part in ("train", "test")
        if not (split["part"] == part).any()
    ]
    doubled = split["cell"][split["cell"].duplicated()].unique()
    problems += [f"cell {cell!r} is there twice; keep one" for cell in doubled]
    if leaks and force:
        log.warning("%s: held-out cells are not new: %s", where, "; ".join(leaks))
    elif leaks:
        problems += [f"{leak}; keep it on one side, or force the split as it is" for leak in leaks]
    refuse(where, problems)


def split_cells(
    cells: Mapping[str, str],
    test: Sequence[str] | float,
    validation: Sequence[str] | float,
    names: Mapping[str, str] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """A split of whole groups: columns `COLUMNS`, in the order of `cells`.

    Args:
        cells: cell -> its name (of tissue or line), which the names table knows.
        test, validation: cells (their whole groups follow), or the share of all cells to draw.
        names: group by `key`; None: the built-in ones. seed: of the drawing.

    Raises:
        InputError: unknown cells, one group in both, no cell left to train.
    """
    table = pd.DataFrame({"cell": list(cells), "name": list(cells.values()), "part": "train"})
    table = _grouped(table, names)
    rng, problems = np.random.default_rng(seed), []
    for part, asked in (("test", test), ("validation", validation)):
        if isinstance(asked, float | int):
            chosen = _drawn(table[table["part"] == "train"], float(asked) * len(table), rng)
        else:
            unknown = [cell for cell in asked if cell not in cells]
            problems += [
                f"{part}: {c!r} is none of the cells ({', '.join(list(cells)[:40])})"
                for c in unknown
            ]
            chosen = set(table["group"][table["cell"].isin(list(asked))])
        taken = table["group"].isin(chosen) & (table["part"] != "train")
        problems += [
            f"{part}: group {g!r} is in {p} too; keep its cells on one side"
            for g, p in table[taken].groupby("group")["part"].first().items()
        ]
        table.loc[table["group"].isin(chosen) & ~taken, "part"] = part
    refuse("cells", problems)
    check(table)
    return table


def _drawn(table: pd.DataFrame, wanted: float, rng: np.random.Generator) -> set[str]:
    """Groups whose cells come closest to a number, in random order; at least one if wanted > 0."""
    sizes = table["group"].value_counts(sort=False)
    chosen: set[str] = set()
    total = 0
    for group in sizes.index[rng.permutation(len(sizes))]:
        size = int(sizes[group])
        if wanted > 0 and abs(total + size - wanted) <= abs(total - wanted):
            chosen.add(group)
            total += size
    if wanted > 0 and not chosen and len(sizes):
        chosen.add(sizes.index[int(rng.integers(len(sizes)))])
    return chosen


def cell_folds(
    cells: Mapping[str, str],
    folds: int,
    validation: float = 0.1,
    names: Mapping[str, str] | None = None,
    seed: int = 0,
) -> list[pd.DataFrame]:
    """Splits in which every cell is tested once; whole groups, sizes as even as they allow.

    Raises:
        InputError: more folds than groups.
    """
    table = _grouped(
        pd.DataFrame({"cell": list(cells), "name": list(cells.values()), "part": "train"}), names
    )
    sizes = table["group"].value_counts(sort=False)
    if not 2 <= folds <= len(sizes):
        raise InputError("cells", f"{folds} folds of {len(sizes)} groups; choose 2 to as many")
    rng = np.random.default_rng(seed)
    order = sorted(
        sizes.index[rng.permutation(len(sizes))], key=lambda group: -sizes[group]
    )  # stable: ties stay shuffled
    filled: list[list[str]] = [[] for _ in range(folds)]
    for group in order:
        least = min(range(folds), key=lambda k: sum(int(sizes[g]) for g in filled[k]))
        filled[least].append(group)
    tests = [table["cell"][table["group"].isin(groups)].tolist() for groups in filled]
    return [split_cells(cells, test, validation, names, seed + k) for k, test in enumerate(tests)]


def part_of(cell_part: str, chrom_part: str) -> str:
    """What a cell and a chromosome of some parts are scored as (see the table above), or ""."""
    return EVALUATED.get((cell_part, chrom_part), "")
