"""Is the working directory fit for a run? Room, permission, locks, speed and clock of its disk."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from epiloom.plan import results
from epiloom.plan.doctor import OK, PROBLEM, WARNING, Finding
from epiloom.plan.errors import InputError

ELSEWHERE = "work elsewhere: `snakemake --directory FOLDER`, make ... DIR=FOLDER"
SLOW = 1.0  # seconds for one small file, from its writing to its removal
SKEW = 5.0  # seconds between the clock of the disk and that of this machine
FEW_FILES = 50_000


def existing(folder: Path) -> Path:
    """The folder, or what of its path is there already."""
    folder = folder.absolute()
    return next(p for p in (folder, *folder.parents) if p.is_dir())


def disk(plan: Any, folder: Path) -> Iterator[Finding]:
    """Room for what the plan makes (`results.disk_bytes`) and for many small files."""
    place = existing(folder)
    free = shutil.disk_usage(place).free
    if plan is None:
        yield Finding(WARNING, f"{place}: {free / 1e9:.1f} GB free; what is needed is not known")
    else:
        try:
            results.check_place(plan, place)
            need = results.disk_bytes(plan) / 1e9
            what = f"{place}: {free / 1e9:.1f} GB free, the results take about {need:.2f} GB"
            yield Finding(OK, f"{what}, downloads come on top")
        except InputError as err:
            for problem in err.problems:
                what, _, remedy = problem.partition("; ")
                yield Finding(PROBLEM, f"{place}: {what}", remedy)
    count = os.statvfs(place)
    if count.f_files and count.f_favail < FEW_FILES:
        what = f"{place}: room for {count.f_favail} more files only, whatever their size"
        yield Finding(
            PROBLEM, what, "remove files, ask for a larger quota of files, or " + ELSEWHERE
        )


def files(folder: Path) -> Iterator[Finding]:
    """A file is written, locked, renamed and removed, as every job does."""
    place = existing(folder)
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(dir=place, prefix=".doctor.") as inside:
            path = Path(inside) / "a"
            with path.open("w") as file:
                file.write("x")
                file.flush()
                os.fsync(file.fileno())
            changed = os.stat(path).st_mtime
            now = time.time()
            os.replace(path, path.with_name("b"))
            locks = _locks(path.with_name("b"))
    except OSError as err:
        what = f"{place}: cannot be written: {err.strerror}"
        yield Finding(PROBLEM, what, "make it writable, or " + ELSEWHERE)
        return
    took = time.monotonic() - began
    if took > SLOW:
        what = f"{place}: a small file takes {took:.1f} s; every job writes several"
        yield Finding(WARNING, what, "raise latency-wait in the profile, or " + ELSEWHERE)
    else:
        yield Finding(OK, f"{place}: can be written, a small file takes {1000 * took:.0f} ms")
    if abs(changed - now) > SKEW:
        what = f"{place}: its clock is {changed - now:+.0f} s off; Snakemake compares times"
        yield Finding(WARNING, what, "have the clocks of disk and nodes set (NTP)")
    if locks:
        what = f"{place}: files cannot be locked ({locks}); downloads and GPUs are shared by locks"
        yield Finding(WARNING, what, "mount the disk with locks, or " + ELSEWHERE)


def _locks(path: Path) -> str:
    """Why a file cannot be locked; empty if it can."""
    try:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as err:
        return err.strerror or str(err)
    return ""
