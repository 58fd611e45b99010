"""Which GPU a job takes on a machine without a scheduler: the first that no other job has.

Snakemake counts GPUs (`--resources gpu=2`), but does not say which one a job may use, and every job
sees all. So a job holds a lock on a file of the GPU. The system frees it when the process ends,
however it ends; a file left there means nothing.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

log = logging.getLogger("epiloom")
_HELD: list[IO[str]] = []  # open as long as the process lives


def assign(asked: int, shared: int = 1) -> None:
    """Let this process see only the GPUs that it takes (CUDA_VISIBLE_DEVICES); waits for them.

    A job that asks for none sees none: it would use one that another job has. Nothing is done where
    a scheduler or the user has assigned some, in the processes of a launcher (which share those of
    the job that started them), and where the driver lists no GPU. To be called before anything uses
    a GPU.

    Args:
        asked: GPUs of the job; with fewer in the machine, all of them.
        shared: jobs that may use one GPU together.
    """
    if "CUDA_VISIBLE_DEVICES" in os.environ or "RANK" in os.environ:
        return
    if asked < 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return
    present = listed()
    if not present:
        return
    taken = wait_for(present, asked, folder_of_locks(), shared)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
    log.info("GPU of this job: %s (%d in the machine)", ", ".join(taken), len(present))


def folder_of_locks() -> Path:
    """One folder per user and machine, whatever the working directory."""
    return Path(tempfile.gettempdir()) / f"epiloom-gpus-{os.getuid()}"


def listed() -> list[str]:
    """Identifiers of the GPUs, in the driver's order; of a divided one (MIG) those of its parts."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return identifiers(done.stdout)


def identifiers(text: str) -> list[str]:
    """The identifiers in the words of `nvidia-smi -L`."""
    found: list[str] = []
    for name in re.findall(r"\(UUID: ([\w./-]+)\)", text):
        if name.startswith("MIG") and found and found[-1].startswith("GPU"):
            found.pop()  # CUDA uses the parts of a divided GPU, never the whole
        found.append(name)
    return found


def wait_for(
    present: Sequence[str], asked: int, folder: Path, shared: int = 1, every: float = 1.0
) -> list[str]:
    """As `choose`, again every so many seconds until there is something to take."""
    said = False
    while not (taken := choose(present, asked, folder, shared)):
        if not said:
            log.warning(
                "all %d GPUs are taken by other jobs: waiting. Start fewer at once (`snakemake "
                "--resources gpu=%d`), or let small models share one with `gpus_shared`",
                *(len(present), len(present) * shared),
            )
            said = True
        time.sleep(every)
    return taken


def choose(present: Sequence[str], asked: int, folder: Path, shared: int = 1) -> list[str]:
    """Take GPUs until this process ends: the first ones with the fewest jobs; all asked, or none.

    Args:
        present: identifiers of the GPUs.
        asked: how many to take; at most all.
        folder: of the locks; made if it is not there.
        shared: jobs that may hold one GPU.

    Returns:
        Identifiers of those taken; empty if there are not enough at the moment.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    wanted = min(asked, len(present))
    taken: dict[str, IO[str]] = {}
    with (folder / "choosing.lock").open("a") as turn:  # one job at a time, so two never take
        fcntl.flock(turn, fcntl.LOCK_EX)  # half of what each needs
        for place in range(shared):
            for name in present:
                if name in taken or len(taken) == wanted:
                    continue
                file = (folder / f"{name.replace('/', '_')}.{place}.lock").open("a")
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    taken[name] = file
                except BlockingIOError:
                    file.close()
        if len(taken) < wanted:
            for file in taken.values():
                file.close()
            return []
    _HELD.extend(taken.values())
    return list(taken)
