"""The workflow on a real Slurm: a whole study, memory, a signal, a lost node, one target alone.

The cluster is thrown away afterwards: two cpu nodes and a node with two GPUs that are not real, all
on this machine. Three runs go at the same time, because each waits for the scheduler most of its
time: a study from simulation to report, a training that is asked to end, and a training whose node
breaks down. They share a configuration, so that all three have to end with the same weights.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT.parent / "shared" / "howto" / "slurm"  # start and stop a Slurm on one machine
RUN = "promoter_cnn/E003.H3K4me3.fold1"
WEIGHTS = f"results/{RUN}/weights.pt"
STUDY = """
simulate:
  {seed: 3, chromosomes: 4, length_bp: 300000, cells: [E003, E116], assays: [H3K4me3, H3K27ac]}
cells: [E003]
marks: [H3K4me3]
bins_bp: [100]
folds: {fold1: {validation: [chr1], test: [chr2]}}
models:
  promoter_cnn:
    {epochs: 300, stop_patience: 0, filters: [8, 8, 8], dense: [8, 8], gpu: 1}
"""
# Small rules share a job, as docs/cluster.md advises.
GROUPS = {
    "files": ["simulate_epigenome", "download_file"],
    "data": ["gene_table", "genome_mask", "sort_reads", "bin_track", "promoter_features"]
    + ["track_qc"],
    "activity": ["mark_activity", "mark_activity_tables"],
    "results": ["predict_model", "evaluate_run", "metrics_table", "mark_table", "write_report"],
}

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Cluster:
    """A Slurm of our own, in one folder."""

    folder: Path
    processes: list[subprocess.Popen] = field(default_factory=list)  # that work on it

    @property
    def env(self) -> dict[str, str]:
        """Environment in which its programs are found."""
        paths = f"{self.folder / 'bin'}:{os.environ['PATH']}:/usr/sbin"
        return os.environ | {"PATH": paths, "SLURM_CONF": str(self.folder / "etc/slurm.conf")}

    def ask(self, *command: str) -> str:
        """What one of Slurm's programs prints."""
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def crash(self, node: str) -> None:
        """Kill a node with everything on it; Slurm is told, which spares half a minute."""
        log = str(self.folder / f"log/slurmd.{node}.log")  # open in its daemon and in its steps
        of_job = {f"SLURM_CONF={self.folder}/etc/slurm.conf", f"SLURMD_NODENAME={node}"}
        daemons, jobs = [], []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # ended meanwhile
                if log in map(os.readlink, (process / "fd").iterdir()):
                    daemons.append(int(process.name))
                if of_job <= set((process / "environ").read_text(errors="replace").split("\0")):
                    jobs.append(int(process.name))
        for process in [*daemons, *jobs]:  # in this order, so that nothing is reported
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.ask("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=crashed")


@dataclass(frozen=True)
class Started:
    """Snakemake at work on the cluster."""

    folder: Path
    process: subprocess.Popen

    @property
    def said(self) -> str:
        return (self.folder / "said.txt").read_text()

    @property
    def jobs(self) -> list[str]:
        """Ids of its Slurm jobs so far."""
        return re.findall(r"submitted with SLURM jobid (\d+)", self.said)

    def noted(self) -> list[dict]:
        """What the training noted: its epochs, and the beginnings and ends of its attempts."""
        paths = self.folder.glob("runs/*/*/*/log.jsonl")
        return [json.loads(line) for path in paths for line in path.read_text().splitlines()]

    def events(self) -> list[dict]:
        """The same without the epochs."""
        return [line for line in self.noted() if line["event"] != "epoch"]

    def until(self, what: str, reached: Callable[[], object], seconds: float = 200) -> None:
        """Wait until `reached()`, while Snakemake is at work."""
        limit = time.monotonic() + seconds
        while not reached():
            assert self.process.poll() is None, f"ended before: {what}\n{self.said[-6000:]}"
            assert time.monotonic() < limit, f"not within {seconds} s: {what}"
            time.sleep(0.05)

    def until_training(self) -> None:
        """Wait until some epochs are saved; many are left."""
        self.until("training", lambda: len(self.noted()) > 6)

    def ended(self) -> str:
        """What Snakemake said, once it has ended without an error."""
        assert self.process.wait(timeout=400) == 0, self.said[-6000:]
        return self.said


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if not (PROGRAMS / "up.sh").exists():
        pytest.skip(f"the programs that start a Slurm are not here: {PROGRAMS}")
    folder = Path(tempfile.mkdtemp(prefix="slurm-")).resolve()  # short: sockets lie in it
    try:
        up = subprocess.run(
            [PROGRAMS / "up.sh", folder, "--cpus", "16", "--mem", "64000"],
            capture_output=True,
            text=True,
            timeout=240,
        )
        if up.returncode:
            pytest.skip(f"no Slurm can be started here: {up.stderr.strip()[-500:]}")
        yield (here := Cluster(folder))
        for process in here.processes:
            process.kill()  # those that a failing test has left
            process.wait()
    finally:
        subprocess.run([PROGRAMS / "down.sh", folder], capture_output=True, timeout=120)
        shutil.rmtree(folder, ignore_errors=True)


def snakemake(folder: Path, *args: str) -> list[str]:
    (folder / "study.yaml").write_text(STUDY)
    command = [sys.executable, "-m", "snakemake", *args, "--directory", str(folder)]
    return [*command, "--configfile", str(folder / "study.yaml")]


def start(cluster: Cluster, folder: Path, partition: str, *targets: str, **given: Any) -> Started:
    """Snakemake with the project's profile, the cluster's partition, and resources of a rule."""
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    profile["default-resources"]["slurm_partition"] = partition
    if given:
        profile["set-resources"] = {"train_model": given}
    profile["slurm-init-seconds-before-status-checks"] = 8
    profile["groups"] = [f"{rule}={name}" for name, rules in GROUPS.items() for rule in rules]
    profile["group-components"] = [f"{name}=99" for name in GROUPS]
    site = folder / "site"
    site.mkdir()
    (site / "config.yaml").write_text(yaml.safe_dump(profile))
    with (folder / "said.txt").open("w") as said:
        process = subprocess.Popen(
            snakemake(folder, *targets, "--profile", str(site)),
            **{"cwd": ROOT, "env": cluster.env, "stdout": said, "stderr": subprocess.STDOUT},
        )
    cluster.processes.append(process)
    return Started(folder, process)


@pytest.fixture(scope="module")
def study(cluster, tmp_path_factory) -> Started:
    """All of it, with too little memory for the first attempt to train."""
    folder = tmp_path_factory.mktemp("study")
    return start(cluster, folder, "gpu", mem_mb="250 * attempt")


@pytest.fixture(scope="module")
def straight(study, tmp_path_factory) -> Path:
    """The same training without a cluster, while the study is in the queue."""
    folder = tmp_path_factory.mktemp("straight")
    subprocess.run(
        snakemake(folder, WEIGHTS, "--cores", "1"),
        **{"cwd": ROOT, "capture_output": True, "check": True, "timeout": 280},
    )
    return folder


def untrained(straight: Path, folder: Path) -> Path:
    """A copy in which the training is still to be done."""
    shutil.copytree(straight, folder, dirs_exist_ok=True)
    for name in ("runs", f"results/{RUN}"):
        shutil.rmtree(folder / name)
    return folder


@pytest.fixture(scope="module")
def signalled(cluster, straight, tmp_path_factory) -> Started:
    """One target; its training gets the signal that Slurm sends at a limit and at preemption."""
    folder = untrained(straight, tmp_path_factory.mktemp("signalled"))
    started = start(cluster, folder, "gpu", WEIGHTS)
    started.until_training()
    cluster.ask("scancel", "--signal=TERM", started.jobs[0])
    return started


@pytest.fixture(scope="module")
def crashed(cluster, signalled, straight, tmp_path_factory) -> Started:
    """One target; its node is lost in mid-training. It has the two cpu nodes for itself."""
    folder = untrained(straight, tmp_path_factory.mktemp("crashed"))
    started = start(cluster, folder, "cpu", WEIGHTS, gpu=0)
    started.until_training()
    (job,) = started.jobs
    cluster.crash(cluster.ask("squeue", "-h", "-j", job, "-o", "%N"))

    def waiting() -> bool:
        return cluster.ask("squeue", "-h", "-j", job, "-o", "%T") == "PENDING"

    started.until("back in the queue", waiting)
    cluster.ask("scontrol", "update", f"JobId={job}", "StartTime=now")  # not after two minutes
    return started


def same_weights(straight: Path, other: Path) -> bool:
    return (straight / WEIGHTS).read_bytes() == (other / WEIGHTS).read_bytes()


def test_a_training_asked_to_end_saves_and_goes_on_in_another_job(signalled, straight):
    said = signalled.ended()
    assert "exit status 75" in said and len(signalled.jobs) == 2
    events = signalled.events()
    assert [e["event"] for e in events] == ["started", "interrupted", "resumed", "finished"]
    left, back = events[1:3]
    assert (left["epoch"], left["position"]) == (back["epoch"], back["position"])
    assert 5 < left["epoch"] < 300
    assert same_weights(straight, signalled.folder)


def test_one_target_runs_alone(signalled, straight):
    table = signalled.ended().split("Job stats:")[1].split("total")[0]
    assert re.findall(r"^(\w+) +(\d+)$", table, re.M) == [("train_model", "1")]
    feature = "results/features/E003-H3K4me3.reads.npy"
    assert (signalled.folder / feature).stat().st_mtime == (straight / feature).stat().st_mtime
    assert not (signalled.folder / "results/report.html").exists()


def test_a_training_whose_node_is_lost_goes_on_on_the_other(crashed, straight, cluster):
    crashed.ended()
    (job,) = crashed.jobs  # Slurm itself started it again
    told = cluster.ask("scontrol", "show", "job", job)
    down = cluster.ask("sinfo", "-h", "-p", "cpu", "-t", "down", "-o", "%N")
    node = re.search(r"^ +NodeList=(\w+)$", told, re.M)[1]
    assert "Restarts=1" in told and {node, down} == {"cpu1", "cpu2"}
    first, second, last = crashed.events()
    assert [first["event"], second["event"]] == ["started", "resumed"]
    assert 5 < second["epoch"] < 300 and last["event"] == "finished"
    assert same_weights(straight, crashed.folder)


def test_a_study_runs_to_its_report(study, straight):
    study.ended()
    assert (study.folder / "results/report.html").stat().st_size > 50_000
    assert (study.folder / "results/tables/promoter_cnn.tsv").exists()
    assert same_weights(straight, study.folder)
    folders = re.findall(r"submitted with .*/slurm_logs/([\w.]+)/", study.said)
    groups = [name for name in folders if name.startswith("group_")]
    assert len(groups) == len(GROUPS) and set(folders) - set(groups) == {"rule_train_model"}


def test_a_job_without_enough_memory_is_submitted_again_with_more(study):
    said = study.ended()
    asked = re.findall(r"mem_mb=(\d+), .*\bgpu=1\b", said)
    assert list(dict.fromkeys(asked))[:2] == ["250", "500"]
    killed = said.split("Trying to restart job")[0]
    assert "Exceeded job memory limit" in killed


def test_make_doctor_knows_the_cluster(cluster, tmp_path):
    command = [sys.executable, "-m", "epiloom.plan.doctor", "--profile", "slurm"]
    (tmp_path / "study.yaml").write_text(STUDY)
    ran = subprocess.run(
        [*command, "--directory", str(tmp_path), "--configfile", str(tmp_path / "study.yaml")],
        **{"cwd": ROOT, "env": cluster.env, "capture_output": True, "text": True},
    )
    assert "partition gpu: 1 node(s), gpu:fake:2" in ran.stdout
    assert "accounting is off" in ran.stdout
    assert ran.returncode == 1 and "set-resources: train_model: slurm_partition" in ran.stdout


def test_the_training_sees_the_gpu_that_slurm_chose(study):
    study.ended()
    log = (study.folder / f"logs/{RUN}/train_model.log").read_text()
    assert "a GPU was assigned to this job" in log or "cuda" in log.lower()
