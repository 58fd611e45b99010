"""Kill a tiny study at random moments, start it again each time, and compare what it ends with.

    python -m tests.faults.kills --kills 50 --seed 1

SIGKILL hits Snakemake itself (its jobs then go on without it) or the Python process of a job: a
download, a writer of data, a training, any other. After every kill each file under a final name is
compared with that of a run that nobody disturbed, and the study is started again as the README
says. When a study has ended, all of it is compared, and another one is begun.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.faults.study import begin, finish, in_place, prepare, serving, start, unlike
from tests.servers import Server

JOB = re.compile(r"\.snakemake/scripts/[^/]*?\.?([a-z0-9_]+)\.py$")
WRITERS = ("genome_manifest", "genome_mask", "gene_table", "sort_reads", "bin_track")
WRITERS += ("promoter_features",)
LONGEST = 3.0  # seconds that jobs have been running, at a kill
LONGEST_PLANNING = 3.0  # seconds from the start of Snakemake, for kills while it plans


@dataclass
class Outcome:
    """What was hit, and what was wrong afterwards."""

    hits: Counter = field(default_factory=Counter)
    rules: Counter = field(default_factory=Counter)
    attempts: int = 0
    studies: int = 0  # that ended, and were compared as a whole
    compared: int = 0  # files under final names, over all comparisons
    orphans: int = 0  # jobs that were running when Snakemake was killed
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        total = sum(self.hits.values())
        lines = [f"{total} kills in {self.attempts} attempts at {self.studies} studies"]
        lines += [f"  {count:3d}  {name}" for name, count in self.hits.most_common()]
        lines.append("  by rule: " + ", ".join(f"{k} {n}" for k, n in self.rules.most_common()))
        lines.append(f"  {self.orphans} jobs went on after Snakemake had been killed")
        lines.append(f"  {self.compared} comparisons of files under final names")
        lines += [f"  WRONG: {line}" for line in self.problems] or ["  nothing was wrong"]
        return "\n".join(lines)


def jobs_below(pid: int) -> list[tuple[str, psutil.Process]]:
    """The running jobs of a Snakemake: rule and Python process."""
    found = []
    try:
        for process in psutil.Process(pid).children(recursive=True):
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            match = JOB.search(words[-1]) if len(words) == 2 else None
            if match:
                found.append((match[1], process))
    except psutil.Error:
        pass
    return found


def kind_of(rule: str) -> str:
    if rule == "download_file":
        return "a download"
    if rule == "train_model":
        return "a training"
    return "a writer of data" if rule in WRITERS else "another job"


def strike(snakemake: subprocess.Popen, dice: random.Random, out: Outcome) -> list[psutil.Process]:
    """Kill one process at a random moment of an attempt; returns the jobs that are left alone.

    Nothing is killed if the study ends before.
    """
    planning = dice.random() < 0.1
    itself = planning or dice.random() < 0.3
    delay = dice.uniform(0, LONGEST_PLANNING if planning else LONGEST)
    # Downloads are slow and come first: without this hardly anything else would be hit.
    spared = "download_file" if dice.random() < 0.6 else ""
    choice = dice.random()

    def victims() -> list[tuple[str, psutil.Process]]:
        return [job for job in jobs_below(snakemake.pid) if job[0] != spared]

    while not planning and snakemake.poll() is None and not victims():
        time.sleep(0.02)
    end = time.monotonic() + delay
    while snakemake.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    while snakemake.poll() is None:
        if itself:
            running = jobs_below(snakemake.pid)
            snakemake.kill()
            snakemake.wait()
            out.hits["Snakemake, planning" if planning else "Snakemake"] += 1
            out.orphans += len(running)
            return [process for _, process in running]
        if running := victims():
            rule, process = running[int(choice * len(running))]
            try:
                process.kill()
            except psutil.Error:  # it has just ended
                continue
            out.hits[kind_of(rule)] += 1
            out.rules[rule] += 1
            return []
        time.sleep(0.01)
    return []


def compare(folder: Path, reference: Path, out: Outcome, when: str, whole: bool = False) -> None:
    """Every file under a final name is that of the undisturbed run; `whole`: and all are there."""
    names = in_place(folder)
    out.compared += len(names)
    found = [unlike(name, folder, reference) for name in names]
    if whole:
        missing = sorted(set(in_place(reference)) - set(names))
        found += [f"{name}: is missing" for name in missing]
    out.problems += [f"{when}: {line}" for line in found if line]


def play(place: Path, server: Server, kills: int, seed: int, say=print) -> Outcome:
    """Kill until `kills` are done and the last study has ended."""
    out, dice, reference = Outcome(), random.Random(seed), place / "undisturbed"
    begin(reference, server)
    server.slow = False
    finish(reference)
    server.slow = True
    folder, left = place / "study1", []
    begin(folder, server)
    while True:
        done = sum(out.hits.values())
        say(f"{done} kills; {folder.name}, {len(in_place(folder))} files in place", flush=True)
        if (folder / ".snakemake/locks").is_dir() and any((folder / ".snakemake/locks").iterdir()):
            assert start(folder, "--unlock").wait() == 0
        snakemake = start(folder)
        out.attempts += 1
        struck = done
        while snakemake.poll() is None and struck < kills:  # it may go on when a job is killed
            left += strike(snakemake, dice, out)
            if sum(out.hits.values()) > struck:
                struck += 1
                compare(folder, reference, out, f"after kill {struck}")
        code = snakemake.wait()
        if struck == done and code != 0:
            words = (folder / "said.txt").read_text()[-3000:]
            out.problems.append(f"{folder.name}: failed although nothing was killed: {words}")
            return out
        if code == 0:
            psutil.wait_procs(left, timeout=60)
            compare(folder, reference, out, folder.name, whole=True)
            out.studies += 1
            if sum(out.hits.values()) >= kills:
                return out
            folder = place / f"study{out.studies + 1}"
            begin(folder, server)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", help="work in this new folder, and leave it")
    given = parser.parse_args()
    place = Path(given.keep or tempfile.mkdtemp(prefix="epiloom-kills-"))
    place.mkdir(parents=True, exist_ok=True)
    with serving(prepare(place)) as server:
        out = play(place, server, given.kills, given.seed)
    print(out)
    if not given.keep and not out.problems:
        shutil.rmtree(place)
    return 1 if out.problems else 0


if __name__ == "__main__":
    sys.exit(main())
