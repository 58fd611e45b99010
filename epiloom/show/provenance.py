"""What a result came from: configuration, files with their checksums, versions, code, machine."""

from __future__ import annotations

import datetime
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from epiloom.data.files import digest

PACKAGES = (
    *("snakemake", "torch", "lightning-fabric", "numpy", "pandas", "scipy", "scikit-learn"),
    *("pyBigWig", "pyfaidx", "pybedtools", "pysam", "deeptools", "matplotlib"),
    *("openpyxl", "pyliftover"),
)
HASHED_BYTES = 2_000_000_000  # larger files are named with their size only


def record(plan: dict) -> dict:
    """The plan with everything that describes this very run added.

    Args:
        plan: as made by `epiloom.plan.results.as_dict`.

    Returns:
        The plan plus `versions`, `commit`, `date`, `machine`, and size and md5 of every source.
    """
    return plan | {
        "versions": {"python": platform.python_version(), **_versions()},
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.system()} {platform.machine()}",
        "sources": [source | _facts(Path(source["path"])) for source in plan["sources"]],
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed here"
    return found


def _facts(path: Path) -> dict:
    if not path.exists():
        return {"bytes": None, "md5": None}
    size = path.stat().st_size
    return {"bytes": size, "md5": digest(path) if size <= HASHED_BYTES else None}


def _commit() -> str:
    """The code's git commit, with + when files were edited since; 'unknown' outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
