"""Where a number comes from: version of the code, packages, machine, and the files that were read.

`results/provenance.json` tells it of the whole study, `run.json` of one training; both ask here.
"""

from __future__ import annotations

import datetime
import platform
import subprocess
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from epiloom.data.files import digest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    *("snakemake", "torch", "lightning-fabric", "numpy", "pandas", "scipy", "scikit-learn"),
    *("pyBigWig", "pyfaidx", "pybedtools", "pysam", "deeptools", "matplotlib"),
    *("openpyxl", "pyliftover"),
)
HASHED_BYTES = 64_000_000  # larger inputs of a run are told by size and time of the last change


def versions() -> dict[str, str]:
    """Version of python and of every package that numbers depend on, as installed here."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed here"
    return found


def commit() -> str:
    """The code's git commit, with + when files were edited since; 'unknown' outside a checkout."""
    if not (ROOT / ".git").exists():  # a copy inside another project's checkout
        return "unknown"
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def code() -> dict[str, Any]:
    """Version of this project: of the package, the git commit, and whether files were edited.

    Outside a git checkout `commit` and `edited` are None.
    """
    about = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    told = commit()
    known = told != "unknown"
    return {
        "version": about["version"],
        "commit": told.rstrip("+") if known else None,
        "edited": told.endswith("+") if known else None,
    }


def machine() -> str:
    """Operating system and kind of processor, e.g. `Linux x86_64`."""
    return f"{platform.system()} {platform.machine()}"


def processor() -> str:
    """The processor's name, as the system knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def moment(seconds: float | None = None) -> str:
    """A time (seconds since 1970, default: now) as ISO 8601 in UTC."""
    zone = datetime.UTC
    at = datetime.datetime.now(zone) if seconds is None else None
    at = at or datetime.datetime.fromtimestamp(seconds or 0.0, zone)
    return at.isoformat(timespec="seconds")


def source_facts(path: Path, largest: float = 2e9) -> dict[str, Any]:
    """Size and md5 of a downloaded file; no md5 above `largest` bytes, None if it is missing."""
    if not path.exists():
        return {"bytes": None, "md5": None}
    size = path.stat().st_size
    return {"bytes": size, "md5": digest(path) if size <= largest else None}


def file_facts(paths: Iterable[str | Path], largest: float = HASHED_BYTES) -> list[dict[str, Any]]:
    """What tells each file from another: path, bytes, and sha256 or, above `largest`, `modified`.

    A folder is told by the same of every file in it, a missing file by its path alone.
    """
    listed = []
    for path in dict.fromkeys(map(Path, paths)):
        inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        listed += [_file_facts(each, largest) for each in inside]
    return listed


def _file_facts(path: Path, largest: float) -> dict[str, Any]:
    if not path.exists():
        return {"path": str(path)}
    about = path.stat()
    facts: dict[str, Any] = {"path": str(path), "bytes": about.st_size}
    if about.st_size <= largest:
        return facts | {"sha256": digest(path, "sha256")}
    return facts | {"modified": moment(about.st_mtime)}
