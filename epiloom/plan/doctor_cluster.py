"""Does the cluster answer, and does the profile fit it? Nothing is submitted."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from epiloom.plan.doctor import OK, PROBLEM, WARNING, Finding, said

PROGRAMS = ("sbatch", "squeue", "scancel", "srun", "sinfo")
DISABLED = "accounting storage is disabled"
FIRST_CHECK = 40  # seconds after which the plugin first asks for a job, unless told


@dataclass
class Site:
    """What Slurm tells of itself."""

    accounting: bool = False
    min_job_age: int = 300  # seconds for which squeue still knows a job that has ended
    partitions: dict[str, str] = field(default_factory=dict)  # name -> its generic resources
    default: str = ""  # the partition of jobs that name none

    def has_gpu(self, partition: str) -> bool:
        return "gpu" in self.partitions.get(partition, "")


def slurm(profile: Path, plan: Any) -> Iterator[Finding]:
    """The scheduler, then the profile (a folder or its config.yaml) beside it."""
    if not shutil.which("sbatch"):
        yield Finding(OK, "no Slurm here (sbatch is not on PATH); `snakemake --cores N` works")
        return
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing:
        what = f"Slurm: sbatch is here, but not {', '.join(missing)}"
        yield Finding(PROBLEM, what, "load the site's Slurm module, or use a login node")
        return
    status, text = said("sinfo", "-h", "-o", "%P|%G|%l|%D", seconds=30)
    if status or not text:
        line = text.splitlines()[0] if text else "no partition"
        what = f"Slurm's programs are here, but it does not answer ({line})"
        yield Finding(WARNING, what, "try `sinfo`; without it only `snakemake --cores N` works")
        return
    site = _site(text)
    yield from _told(site, text)
    yield from fits(profile, site, plan)


def _site(partitions: str) -> Site:
    site = Site()
    for line in partitions.splitlines():
        name, gres = line.split("|")[:2]
        if name.endswith("*"):
            site.default = name = name.rstrip("*")
        site.partitions[name] = f"{site.partitions.get(name, '')} {gres}".strip()
    status, text = said("sacct", "-n", "-X", "-o", "JobID", seconds=30)
    site.accounting = status == 0 and DISABLED not in text
    age = re.search(r"^MinJobAge\s*=\s*(\d+)", said("scontrol", "show", "config")[1], re.M)
    site.min_job_age = int(age[1]) if age else site.min_job_age
    return site


def _told(site: Site, text: str) -> Iterator[Finding]:
    for line in text.splitlines():
        name, gres, limit, nodes = line.split("|")
        with_gpu = "" if gres == "(null)" else f", {gres}"
        yield Finding(OK, f"partition {name}: {nodes} node(s){with_gpu}, at most {limit}")
    known = "on: sacct works" if site.accounting else "off: sacct knows no job, squeue does"
    yield Finding(OK, f"Slurm's accounting is {known}")


def fits(profile: Path, site: Site, plan: Any) -> Iterator[Finding]:
    """What in the profile does not go with this site."""
    own = Path.home() / ".config/snakemake" / profile  # where Snakemake looks next
    profile = own if own.is_dir() and not profile.exists() else profile
    path = profile / "config.yaml" if profile.is_dir() else profile
    try:
        keys = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as err:
        yield Finding(PROBLEM, f"{path}: {err}", "name another: make doctor PROFILE=FOLDER")
        return
    found = [*_status(keys, site), *_partitions(keys, site, plan), *_limits(keys)]
    for level, what, remedy in found:
        yield Finding(level, f"{path}: {what}", remedy)
    if not found:
        yield Finding(OK, f"{path}: fits this cluster")


Told = Iterator[tuple[str, str, str]]


def _status(keys: dict, site: Site) -> Told:
    """How Snakemake learns that a job has ended."""
    command = keys.get("slurm-status-command", "sacct" if shutil.which("sacct") else "squeue")
    if command == "sacct" and not site.accounting:
        what = "jobs are followed by sacct, which knows none here: Snakemake would wait for ever"
        yield PROBLEM, what, "slurm-status-command: squeue"
    first = int(keys.get("slurm-init-seconds-before-status-checks", FIRST_CHECK))
    if command == "squeue" and site.min_job_age < 3 * first:
        what = f"squeue forgets jobs after {site.min_job_age} s, the first check is after {first} s"
        seconds = max(1, site.min_job_age // 3)
        yield WARNING, what, f"slurm-init-seconds-before-status-checks: {seconds}"


def _partitions(keys: dict, site: Site, plan: Any) -> Told:
    """Partitions that are named exist, and jobs that ask for GPUs go to one that has some."""
    if keys.get("slurm-partition-config"):
        return  # the plugin chooses among those of that file
    usual = keys.get("default-resources") or {}
    single = keys.get("set-resources") or {}
    named = {"default-resources": usual.get("slurm_partition")}
    named |= {rule: (each or {}).get("slurm_partition") for rule, each in single.items()}
    for where, partition in named.items():
        if partition and partition not in site.partitions:
            choice = ", ".join(site.partitions)
            yield PROBLEM, f"{where}: there is no partition {partition!r}", f"one of {choice}"
    if plan is None or not any(s["gpu"] for s in plan.config["models"].values()):
        return
    of_training = named.get("train_model") or named["default-resources"] or site.default
    if not any(map(site.has_gpu, site.partitions)):
        what = "models ask for GPUs (gpu: 1), and no partition has any"
        yield PROBLEM, what, "gpu: 0 for these models in the configuration"
    elif of_training in site.partitions and not site.has_gpu(of_training):
        good = ", ".join(filter(site.has_gpu, site.partitions))
        what = f"trainings ask for GPUs and go to partition {of_training!r}, which has none"
        yield PROBLEM, what, f"set-resources: train_model: slurm_partition: one of {good}"


def _limits(keys: dict) -> Told:
    usual = keys.get("default-resources") or {}
    memory = usual.get("mem_mb", 0)
    if isinstance(memory, int) and memory < 500:
        what = f"default-resources: mem_mb is {memory or 'not set'}; Snakemake alone takes 100 MB"
        yield WARNING, what, "mem_mb: 2000"
    if not keys.get("retries"):
        what = "a job that lacked memory or time is not tried again"
        yield WARNING, what, "retries: 2"
    if keys.get("slurm-array-jobs"):
        what = "in a job array a failing task takes finished ones with it"
        yield WARNING, what, "leave slurm-array-jobs out"
