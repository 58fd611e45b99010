"""`make doctor`: what it says of machines that lack something. Programs are small real scripts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from epiloom.plan import doctor, doctor_cluster, doctor_place
from epiloom.plan.doctor import OK, PROBLEM, WARNING

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT / "profiles/slurm"
SINFO = "cpu*|(null)|1-00:00:00|2\ngpu|gpu:a100:4|2-00:00:00|1"


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A folder of programs before all others on PATH; call it to put one there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def put(name: str, text: str = "", status: int = 0) -> None:
        (folder / name).write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {status}\n")
        (folder / name).chmod(0o755)

    return put


@pytest.fixture
def cluster(programs):
    """Programs of a Slurm with accounting switched off."""
    for name in ("sbatch", "squeue", "scancel", "srun"):
        programs(name)
    programs("sinfo", SINFO)
    programs("sacct", "Slurm accounting storage is disabled", 1)
    programs("scontrol", "Configuration data as of today\nMinJobAge               = 300 sec")
    return programs


def profile(folder: Path, text: str) -> Path:
    (folder / "config.yaml").write_text(text)
    return folder


def lines(findings, level: str) -> list[str]:
    return [f"{f.what} -> {f.remedy}" for f in findings if f.level == level]


def plan_of(folder: Path, gpu: int):
    text = f"""
    simulate: {{chromosomes: 4, length_bp: 300000}}
    cells: [E003]
    marks: [H3K4me3]
    folds: {{fold1: {{validation: [chr1], test: [chr2]}}}}
    models: {{promoter_cnn: {{gpu: {gpu}}}}}
    """
    (folder / "study.yaml").write_text(text)
    plan, told = doctor.planned(folder / "study.yaml")
    assert told.level == OK, told
    return plan


# ---- software ------------------------------------------------------------------------------------


def test_missing_and_other_packages_are_told_apart(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("numpy==0.0.1\nno-such-package==1.0\npytest==0.1\n")
    found = list(doctor.packages(lock))
    assert lines(found, PROBLEM) == [
        "packages: 1 of 3 are not installed: no-such-package -> make setup"
    ]
    (other,) = lines(found, WARNING)
    assert "2 have another version" in other and "(locked: 0.0.1)" in other


def test_a_program_that_is_not_there_is_named_with_the_way_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    (bedtools,) = lines(doctor.programs(), PROBLEM)
    assert bedtools.startswith("bedtools: bedtools: not on PATH") and "apt-get" in bedtools


def python_with(folder: Path, monkeypatch, code: str) -> None:
    """The interpreter finds a module `torch` of these lines before any other."""
    (folder / "torch").mkdir()
    (folder / "torch/__init__.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(folder))


CPU_BUILD = """
__version__ = "9.9+cpu"
class version: cuda = None
class cuda:
    is_available = staticmethod(lambda: False)
"""
CARD = "GPU 0: NVIDIA A100 (UUID: GPU-0)"


@pytest.mark.parametrize(
    ("code", "level", "told"),
    [
        (CPU_BUILD, WARNING, "torch 9.9+cpu is a build for CPUs only"),
        (CPU_BUILD.replace("None", "'13.0'"), WARNING, "torch 9.9+cpu (CUDA 13.0) none"),
        ("raise OSError('libcudart.so is missing')", PROBLEM, "libcudart.so is missing"),
    ],
)
def test_a_gpu_that_torch_does_not_see(code, level, told, programs, monkeypatch, tmp_path):
    programs("nvidia-smi", CARD)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    python_with(tmp_path, monkeypatch, code)
    (found,) = doctor.torch()
    assert found.level == level and told in found.what and found.remedy


def test_a_gpu_hidden_by_the_environment_is_told(programs, monkeypatch, tmp_path):
    programs("nvidia-smi", CARD)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    python_with(tmp_path, monkeypatch, CPU_BUILD)
    (found,) = doctor.torch()
    assert found.remedy == "unset CUDA_VISIBLE_DEVICES"


def test_a_driver_that_fails_is_quoted(programs, monkeypatch, tmp_path):
    programs("nvidia-smi", "Failed to initialize NVML: Driver/library version mismatch", 18)
    python_with(tmp_path, monkeypatch, CPU_BUILD)
    (found,) = doctor.torch()
    assert found.level == WARNING and "version mismatch" in found.what


# ---- working directory ---------------------------------------------------------------------------


def test_a_folder_that_is_not_there_yet_is_judged_by_the_one_above(tmp_path):
    found = list(doctor_place.files(tmp_path / "a/b"))
    assert [f.level for f in found] == [OK] and found[0].what.startswith(f"{tmp_path}: can be")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_a_problem(tmp_path):
    tmp_path.chmod(0o500)
    (found,) = lines(doctor_place.files(tmp_path), PROBLEM)
    assert "cannot be written" in found and "--directory" in found


def test_a_folder_of_the_system_cannot_be_written():
    (found,) = lines(doctor_place.files(Path("/proc/self")), PROBLEM)
    assert "/proc/self: cannot be written" in found


def test_too_little_room_is_a_problem(tmp_path):
    plan = plan_of(tmp_path, 0)
    plan.config["simulate"]["length_bp"] = 10**14
    (found,) = lines(doctor_place.disk(plan, tmp_path), PROBLEM)
    assert "GB more" in found and "free some space" in found


# ---- cluster -------------------------------------------------------------------------------------


def test_the_profile_of_the_project_fits_a_cluster_whose_accounting_is_off(cluster):
    found = list(doctor_cluster.slurm(PROFILE, None))
    assert {f.level for f in found} == {OK}
    text = "\n".join(map(str, found))
    assert "partition gpu: 1 node(s), gpu:a100:4, at most 2-00:00:00" in text
    assert "accounting is off" in text and "fits this cluster" in text


@pytest.mark.parametrize("said", ["slurm-status-command: sacct\n", ""])
def test_sacct_without_accounting_is_a_problem(said, cluster, tmp_path):
    text = f"{said}retries: 2\ndefault-resources: {{mem_mb: 2000}}\n"
    (found,) = lines(doctor_cluster.slurm(profile(tmp_path, text), None), PROBLEM)
    assert "would wait for ever" in found and "slurm-status-command: squeue" in found


def test_sacct_with_accounting_is_fine(cluster, tmp_path):
    cluster("sacct", "17")
    text = "slurm-status-command: sacct\nretries: 2\ndefault-resources: {mem_mb: 2000}\n"
    found = list(doctor_cluster.slurm(profile(tmp_path, text), None))
    assert {f.level for f in found} == {OK} and "accounting is on" in "\n".join(map(str, found))


def test_a_controller_that_forgets_jobs_early_is_told(cluster):
    cluster("scontrol", "MinJobAge               = 30 sec")
    (found,) = lines(doctor_cluster.slurm(PROFILE, None), WARNING)
    assert "after 30 s" in found and "status-checks: 10" in found


def test_a_controller_that_does_not_answer_is_told(cluster):
    cluster("sinfo", "slurm_load_partitions: Unable to contact slurm controller", 1)
    (found,) = lines(doctor_cluster.slurm(PROFILE, None), WARNING)
    assert "Unable to contact" in found


def test_a_partition_that_does_not_exist_is_a_problem(cluster, tmp_path):
    text = PROFILE.joinpath("config.yaml").read_text().replace('# slurm_partition: "cpu"', "")
    text = text.replace("mem_mb: 2000", "mem_mb: 2000\n  slurm_partition: cpus")
    (found,) = lines(doctor_cluster.slurm(profile(tmp_path, text), None), PROBLEM)
    assert "there is no partition 'cpus' -> one of cpu, gpu" in found


def test_trainings_with_a_gpu_need_a_partition_with_one(cluster, tmp_path):
    plan, without = plan_of(tmp_path, 1), plan_of(tmp_path, 0)
    (found,) = lines(doctor_cluster.slurm(PROFILE, plan), PROBLEM)
    assert "go to partition 'cpu', which has none" in found and "one of gpu" in found
    assert lines(doctor_cluster.slurm(PROFILE, without), PROBLEM) == []
    text = (PROFILE / "config.yaml").read_text()
    site = profile(tmp_path, text + "set-resources:\n  train_model:\n    slurm_partition: gpu\n")
    assert lines(doctor_cluster.slurm(site, plan), PROBLEM) == []
    cluster("sinfo", "cpu*|(null)|1-00:00:00|2")
    assert "no partition has any" in lines(doctor_cluster.slurm(PROFILE, plan), PROBLEM)[0]


# ---- all of it -----------------------------------------------------------------------------------


def doctor_says(*arguments: str | Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "epiloom.plan.doctor", *map(str, arguments)],
        **{"cwd": ROOT, "capture_output": True, "text": True},
    )


def test_only_problems_make_it_end_with_1(tmp_path):
    ran = doctor_says("--directory", tmp_path, "--configfile", "config/examples/demo.yaml")
    levels = {line.split()[0] for line in ran.stdout.splitlines()}
    assert ran.returncode == int(PROBLEM in levels) and levels <= {OK, WARNING, PROBLEM}
    assert "can be written" in ran.stdout and "trainings" in ran.stdout


def test_a_bad_configuration_is_a_problem_with_its_own_words(tmp_path, monkeypatch):
    python_with(tmp_path, monkeypatch, CPU_BUILD)  # loaded sooner than the real one
    (tmp_path / "bad.yaml").write_text("cels: [E003]\n")
    ran = doctor_says("--directory", tmp_path, "--configfile", tmp_path / "bad.yaml")
    assert ran.returncode == 1 and "did you mean 'cells'" in ran.stdout
    assert "Traceback" not in ran.stderr
