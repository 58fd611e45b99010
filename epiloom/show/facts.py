"""What the report knows beforehand: how far a model sees, groups of cells, recorded values."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from epiloom.plan import contacts
from epiloom.plan.runs import cards
from epiloom.plan.tracks import read_table
from epiloom.show.canvas import model_name
from epiloom.studies.groups import group_of

ROOT = Path(__file__).resolve().parents[2]
RECORDED = "published (recorded June 2023)"  # how such a value is called wherever it is shown
# printed in the same notebooks: how far the three best single marks, and pairs, lie below all seven
# marks on average, and the share of the gap that a second mark closes
RECORDED_GAP = {"singles": 0.0624, "pairs": 0.0428, "closed": 0.31}


@functools.cache
def _cards() -> dict[str, dict]:
    return cards(ROOT)


@functools.cache
def _table(name: str) -> dict[str, dict]:
    return read_table(ROOT / f"config/{name}s.tsv", name)


def reads_partners(model: str) -> bool:
    """Whether a model also sees regions in contact with the promoter."""
    return _cards().get(model, {}).get("dataset") == contacts.DATASET


def reach(model: str, config: Mapping[str, Any] | None = None) -> str:
    """How far from the TSS a model sees: `6 kb`, `40 kb + partners`; empty if unknown."""
    window = _cards().get(model, {}).get("window_bp")
    if not window:
        return ""
    source = ((config or {}).get("contacts") or {}).get("source")
    partners = " + partners" if reads_partners(model) and source != "none" else ""
    return f"{window / 1000:g} kb{partners}"


def full_name(model: str, config: Mapping[str, Any] | None = None) -> str:
    """`promoter CNN (6 kb)`."""
    seen = reach(model, config)
    return f"{model_name(model)} ({seen})" if seen else model_name(model)


def model_order(model: str) -> tuple:
    """Sorts models by how far they see."""
    return _cards().get(model, {}).get("window_bp", 0), reads_partners(model), model


def cell_group(cell: str) -> str:
    """The cell's group as in Murphy et al. 2025; `own` for cells that Roadmap does not have."""
    return group_of(_table("cell").get(cell))


def name_of_cell(cell: str) -> str:
    """A cell's name in Roadmap; empty for any other cell."""
    return str(_table("cell").get(cell, {}).get("name", ""))


def is_active(mark: str) -> bool:
    """Whether a mark is one of active promoters."""
    return _table("mark").get(mark, {}).get("group") == "active promoter"


@functools.cache
def published(path: str | Path = ROOT / "config/published.tsv") -> pd.DataFrame:
    """Recorded r, one row per value: model, marks, cell (or `mean`, over all cells there), r."""
    table = pd.read_csv(path, sep="\t", comment="#")
    long = table.melt(id_vars=["model", "marks"], var_name="cell", value_name="r")
    return long.dropna(subset=["r"]).reset_index(drop=True)
