"""What a result came from: configuration, files with their checksums, versions, code, machine."""

from __future__ import annotations

from pathlib import Path

from epiloom.data import origin


def record(plan: dict) -> dict:
    """The plan with everything that describes this very run added.

    Args:
        plan: as made by `epiloom.plan.results.as_dict`.

    Returns:
        The plan plus `versions`, `commit`, `date`, `machine`, and size and md5 of every source.
    """
    return plan | {
        "versions": origin.versions(),
        "commit": origin.commit(),
        "date": origin.moment(),
        "machine": origin.machine(),
        "sources": [s | origin.source_facts(Path(s["path"])) for s in plan["sources"]],
    }
