"""Which contacts (promoter-capture Hi-C) stand for which cell, and the files they are read from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from epiloom.plan.config import hint
from epiloom.plan.errors import InputError

if TYPE_CHECKING:
    from epiloom.plan.runs import Plan

DATASET = "promoter_and_partners"  # the dataset kind of the model cards that read contacts
KEYS = {
    "geo": ("pchic_interactions",),
    "geo_tissue": ("pchic_tissue",),
    "authors": ("pchic_frag2neighbors", "pchic_pair2score"),
}
NOT_SIMULATED = ("geo_tissue", "authors")


@dataclass(frozen=True)
class CellContacts:
    """The contacts of one cell: kind of source, tissue in that source ("" if none), files."""

    source: str
    tissue: str = ""
    files: tuple[str, ...] = ()


def needed(plan: Plan) -> bool:
    """Whether a model of the configuration reads contacts."""
    return any(plan.cards[model]["dataset"] == DATASET for model in plan.config["models"])


def tissue(plan: Plan, cell: str) -> str:
    """The tissue that stands for a cell; "" where neither configuration nor table names one."""
    named = plan.config["contacts"]["tissues"].get(cell)
    return named or plan.cells.get(cell, {}).get("hic_tissue") or ""


def add(plan: Plan, add_file: Callable[..., str]) -> list[str]:
    """Put every cell's contacts into `plan.contacts`, if a model reads them; returns problems.

    Args:
        add_file: takes a source key (and its fields) into the plan and returns the file's path.
    """
    if not needed(plan):
        return []
    if problems := list(check(plan)):
        return problems
    options = plan.config["contacts"]
    source = options["source"]
    for cell in plan.config["cells"]:
        name = tissue(plan, cell)
        if source == "none":
            plan.contacts[cell] = CellContacts(source)
        elif source == "file":
            own = cell if "{cell}" in options["file"] else "all"  # kept once if it serves all
            path = options["file"].replace("{cell}", cell)
            path = add_file("own_contacts", "contacts.file", path, cell=own, mark="contacts")
            plan.contacts[cell] = CellContacts(source, name, (path,))
        else:
            fields = {} if source == "geo" else {"tissue": name}
            files = tuple(add_file(key, **fields) for key in KEYS[source])
            plan.contacts[cell] = CellContacts(source, name, files)
    return []


def check(plan: Plan) -> Iterator[str]:
    """Problems of the block `contacts`, as lines."""
    options = plan.config["contacts"]
    source = options["source"]
    known = sorted({*plan.cells, *plan.config["cells"]})
    for cell in options["tissues"]:
        if cell not in known:
            yield f"contacts.tissues: '{cell}' is no cell{hint(cell, known)}; correct or remove it"
    if source == "file" and not options["file"]:
        yield "contacts.file: is missing; give the path of your table, or another contacts.source"
    if source != "file" and options["file"]:
        yield (
            f"contacts.file: {options['file']} is not read with contacts.source {source}; set "
            "contacts.source to file, or remove contacts.file"
        )
    if plan.config["simulate"] and source in NOT_SIMULATED:
        yield f"contacts.source: '{source}' is not simulated; use geo, file or none"
    if source in KEYS:
        for cell in plan.config["cells"]:
            if not tissue(plan, cell):
                yield (
                    f"contacts: no capture Hi-C tissue is known for cell '{cell}'; name one in "
                    f"contacts.tissues (such as {cell} - GM), or set contacts.source to file "
                    "(your own table) or none (promoters only)"
                )


def of(plan: Plan, cell: str) -> CellContacts:
    """The contacts of one cell.

    Raises:
        InputError: no model of the plan reads contacts, or the cell is not in the plan.
    """
    if not plan.contacts:
        raise InputError(
            plan.where,
            f"contacts of '{cell}' are asked for, but no model of the configuration reads "
            "contacts; add one (such as chromoformer) to `models`",
        )
    if cell not in plan.contacts:
        raise InputError(
            plan.where,
            f"cell '{cell}' is not in the plan{hint(cell, list(plan.contacts))}; add it to `cells`",
        )
    return plan.contacts[cell]
