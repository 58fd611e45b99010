"""The kinds of examples: a model's card names one, this table says who reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from epiloom.learn import cell_settings
from epiloom.learn.cell_regions import RegionTable
from epiloom.learn.distal import PartnerTable
from epiloom.learn.examples import Examples, PromoterTable
from epiloom.learn.frames import FrameTable
from epiloom.learn.windows import WindowTable
from epiloom.plan.errors import InputError


class Table(Protocol):
    """All usable examples of one run."""

    def examples(self, part: str) -> Examples:
        """Those of one part: train, validation or test."""
        ...


KINDS = {
    "promoter_bins": PromoterTable.read,
    "promoter_and_partners": PartnerTable.read,
    "windows": WindowTable.read,
    "frames": FrameTable.read,
    "regions": RegionTable.read,
}
# Kinds whose data tell what the settings cannot, such as a list of factors: see `completed`.
COMPLETED = {"regions": cell_settings.settings_from}


def open_table(kind: str, settings: Mapping[str, Any], files: Mapping[str, Any]) -> Table:
    """The examples of a run.

    Args:
        kind: dataset kind of the model's card.
        files: the run's input files, see the kind's reader.

    Raises:
        InputError: unknown kind, or files that do not fit together.
    """
    if kind not in KINDS:
        raise InputError("dataset", f"{kind!r} is no kind of examples; use {', '.join(KINDS)}")
    return KINDS[kind](settings, files)


def completed(settings: Mapping[str, Any], files: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings with what only the run's files tell; those of most kinds are complete.

    Raises:
        InputError: files that contradict the settings.
    """
    complete = COMPLETED.get(settings.get("examples"))
    return complete(settings, files) if complete else settings
