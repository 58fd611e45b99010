"""Is this machine ready? `make doctor`: one line per check, with the remedy where one is needed.

    ok       2 of 8 cores may be used
    problem  bedtools: not on PATH -> make setup, or ...

Only the standard library is imported at the top, so that it also runs where packages are missing.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OK, WARNING, PROBLEM = "ok", "warning", "problem"
NEED_MEMORY = 6e9  # bytes; what `make setup` advises
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Finding:
    """What one check saw, and what to do about it."""

    level: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.level:8} {self.what}" + (f" -> {self.remedy}" if self.remedy else "")


def said(*command: str, seconds: float = 60) -> tuple[int, str]:
    """Exit status of a program and all it printed; status 127 if it is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except FileNotFoundError:
        return 127, f"{command[0]}: not on PATH"
    except (OSError, subprocess.TimeoutExpired) as err:
        return 126, str(err)
    return done.returncode, (done.stdout + done.stderr).strip()


# ---- software ------------------------------------------------------------------------------------


def python() -> Iterator[Finding]:
    version = sys.version.split()[0]
    if sys.version_info[:2] == (3, 11):
        yield Finding(OK, f"python {version} ({sys.executable})")
    else:
        yield Finding(
            PROBLEM,
            f"python {version} ({sys.executable}): the project is locked to 3.11",
            "make setup (PYTHON=/path/to/python3.11 make setup, if it finds none)",
        )


def packages(lock: Path) -> Iterator[Finding]:
    """The packages of `lock`, a file of lines NAME==VERSION; local builds (+cpu) count as equal."""
    pins = dict(line.split("==") for line in lock.read_text().split())
    missing, other = [], []
    for name, version in pins.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if found.split("+")[0] != version:
            other.append(f"{name} {found} (locked: {version})")
    if missing:
        what = f"packages: {len(missing)} of {len(pins)} are not installed: {_some(missing)}"
        yield Finding(PROBLEM, what, "make setup")
    if other:
        what = f"packages: {len(other)} have another version than the lock: {_some(other)}"
        yield Finding(WARNING, what, "make setup")
    if not missing and not other:
        yield Finding(OK, f"packages: all {len(pins)} of {lock.name}")


def _some(names: list[str], at_most: int = 4) -> str:
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more


def programs() -> Iterator[Finding]:
    for name, level, remedy in (
        ("bedtools", PROBLEM, "apt-get install bedtools, or from bioconda or a module"),
        ("make", WARNING, "apt-get install make; or call snakemake yourself"),
    ):
        status, text = said(name, "--version")
        line = text.splitlines()[0] if text else name
        if status:
            yield Finding(level, f"{name}: {line}", remedy)
        else:
            yield Finding(OK, line)


TORCH = """
import json, torch
n = torch.cuda.device_count() if torch.cuda.is_available() else 0
names = [torch.cuda.get_device_name(k) for k in range(n)]
print(json.dumps([torch.__version__, torch.version.cuda, names]))
"""


def torch() -> Iterator[Finding]:
    """In a process of its own: a broken build must not end the other checks."""
    status, text = said(sys.executable, "-c", TORCH, seconds=180)
    if status:
        line = text.splitlines()[-1] if text else "no word"
        yield Finding(PROBLEM, f"torch cannot be imported: {line}", "make setup")
        return
    version, cuda, names = json.loads(text.splitlines()[-1])
    status, listed = said("nvidia-smi", "-L")
    cards = [line for line in listed.splitlines() if line.startswith("GPU ")]
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if names:
        yield Finding(OK, f"torch {version} sees {len(names)} GPU(s): {_some(names)}")
    elif cards and hidden in ("", "-1"):
        what = f"torch {version} sees no GPU, for CUDA_VISIBLE_DEVICES is {hidden!r}"
        yield Finding(WARNING, what, "unset CUDA_VISIBLE_DEVICES")
    elif cards and not cuda:
        what = f"nvidia-smi sees {len(cards)} GPU(s), but torch {version} is a build for CPUs only"
        remedy = "install a CUDA build of torch (docs/cluster.md, No GPU found)"
        yield Finding(WARNING, what, remedy)
    elif cards:
        what = f"nvidia-smi sees {len(cards)} GPU(s), torch {version} (CUDA {cuda}) none"
        yield Finding(WARNING, what, f"a driver for CUDA {cuda} or newer, or an older torch")
    elif status not in (0, 127):
        line = listed.splitlines()[0] if listed else f"exit status {status}"
        yield Finding(WARNING, f"nvidia-smi fails: {line}", "ask the administrator of this machine")
    else:
        yield Finding(OK, f"torch {version}; no GPU here, trainings use the CPU")


# ---- machine -------------------------------------------------------------------------------------


def cores() -> Iterator[Finding]:
    usable = float(len(os.sched_getaffinity(0)))
    quota = _cgroup("cpu.max").split()
    if len(quota) == 2 and quota[0] != "max":
        usable = min(usable, int(quota[0]) / int(quota[1]))
    yield Finding(OK, f"{usable:g} of {os.cpu_count()} cores may be used")


def memory() -> Iterator[Finding]:
    pairs = (line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    sizes = {key: 1024 * int(rest.split()[0]) for key, rest in pairs}
    limit = _cgroup("memory.max")
    total = min(sizes["MemTotal"], int(limit) if limit.isdigit() else sizes["MemTotal"])
    free = min(total, sizes["MemAvailable"])
    what = f"memory: {total / 1e9:.1f} GB, {free / 1e9:.1f} GB of it free"
    if total < NEED_MEMORY:
        yield Finding(WARNING, f"{what}; {NEED_MEMORY / 1e9:g} GB are advised", "make ... CORES=1")
    else:
        yield Finding(OK, what)


def _cgroup(name: str) -> str:
    """A limit of the control group that this process is in (version 2); empty if there is none."""
    try:
        group = Path("/proc/self/cgroup").read_text().split("::")[-1].strip()
        return (Path("/sys/fs/cgroup") / group.lstrip("/") / name).read_text().strip()
    except OSError:
        return ""


# ---- configuration -------------------------------------------------------------------------------


def planned(configuration: Path, root: Path = ROOT) -> tuple[Any, Finding]:
    """The plan of a configuration file, or None, with what is to be said of it."""
    from epiloom.plan import runs
    from epiloom.plan.errors import InputError

    try:
        import yaml

        plan = runs.build(yaml.safe_load(configuration.read_text()) or {}, root, str(configuration))
    except InputError as err:
        return None, Finding(PROBLEM, "; ".join(err.problems), f"edit {configuration}")
    except (OSError, yaml.YAMLError) as err:
        return None, Finding(PROBLEM, f"{configuration}: {err}", "name a file: CONFIG=FILE")
    return plan, Finding(
        OK, f"{configuration}: {len(plan.runs)} trainings, {len(plan.files)} files"
    )


# ---- all of it -----------------------------------------------------------------------------------


def checked(folder: Path, configuration: Path, profile: Path, root: Path = ROOT) -> list[Finding]:
    """Every check, in the order in which it is shown.

    Args:
        folder: working directory of the workflow; it need not exist yet.
        configuration: the configuration file whose plan is to find room there.
        profile: a cluster profile (config.yaml), read where Slurm is.
        root: folder of the workflow.
    """
    found = [*python(), *packages(root / "requirements.lock"), *programs(), *torch()]
    found += [*cores(), *memory()]
    try:
        from epiloom.plan import doctor_cluster, doctor_place

        plan, told = planned(configuration, root)
    except ImportError as err:
        return [*found, Finding(PROBLEM, f"configuration not read: {err}", "make setup")]
    found += [told, *doctor_place.disk(plan, folder), *doctor_place.files(folder)]
    return [*found, *doctor_cluster.slurm(profile, plan)]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make doctor", description=__doc__.splitlines()[0])
    parser.add_argument("--directory", type=Path, default=Path("."))
    parser.add_argument("--configfile", type=Path, default=ROOT / "config/config.yaml")
    parser.add_argument("--profile", type=Path, default=ROOT / "profiles/slurm")
    given = parser.parse_args(arguments)
    found = checked(given.directory, given.configfile, given.profile)
    print(*found, sep="\n")
    return int(any(finding.level == PROBLEM for finding in found))


if __name__ == "__main__":
    sys.exit(main())
