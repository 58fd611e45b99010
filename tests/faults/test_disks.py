"""Disks that fill up, folders that may only be read: one clear message, nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from epiloom.data.vectors import new_matrix
from epiloom.learn import checkpoint
from epiloom.learn.history import HISTORY, write_history
from epiloom.plan import jobs
from epiloom.plan.errors import InputError
from tests.faults.disks import Disk, small_disk
from tests.models.small import fit, same, settings
from tests.servers import DATA, get, md5, only, running

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.faults
NET = {"filters": [32, 64, 64], "dense": [128, 32]}  # a state of 1.1 MB
PROGRAM = f"""
import sys
from pathlib import Path
from epiloom.plan import jobs

def matrix(job):
    from epiloom.data.vectors import new_matrix
    with new_matrix(job.output["it"], "f2", (1000, 500)) as values:
        values[:] = 1

def training(job):
    from tests.models.small import fit, settings
    fit(Path(job.output["it"]).parent, settings(**{NET}))

def table(job):
    from epiloom.learn.history import HISTORY, write_history
    write_history([dict.fromkeys(HISTORY, 1.0)] * 30000, job.output["it"])

def frame(job):
    import pandas as pd
    from epiloom.data.files import atomic
    with atomic(job.output["it"]) as tmp:
        pd.DataFrame({{"x": range(100_000)}}).to_csv(tmp, sep="\\t", index=False)

jobs.run(globals()[sys.argv.pop(1)])
"""


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", "300k") as disk:
        yield disk


@pytest.fixture
def server():
    with running() as server:
        yield server


def job(what: str, disk: Disk, tmp_path: Path, log: Path) -> subprocess.CompletedProcess:
    """A job as its rule runs it, that writes on a disk."""
    path = str(disk.at / "out" / "it.tsv")
    (tmp_path / "program.py").write_text(PROGRAM)
    given = jobs.Job(what, output={"it": path}, log=str(log))
    (tmp_path / "job.json").write_text(json.dumps(asdict(given)))
    return subprocess.run(
        [sys.executable, tmp_path / "program.py", what, tmp_path / "job.json"],
        **{"cwd": disk.at, "capture_output": True, "text": True},
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def left(disk: Disk) -> list[str]:
    """Files on the disk that are no part of a training's state."""
    return [p.name for p in disk.at.rglob("*") if p.is_file() and "run" not in p.parts]


@pytest.mark.parametrize("what", ["matrix", "table", "frame", "training"])
def test_a_job_on_a_full_disk_says_so_in_words_and_leaves_nothing(what, disk, tmp_path):
    done = job(what, disk, tmp_path, tmp_path / "it.log")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.search(rf"^{disk.at}\S*:\n  - No space left on device", done.stderr, re.M)
    assert "free some space" in done.stderr and left(disk) == []


@pytest.mark.parametrize("size", [350, 600, 1400])
def test_a_training_goes_on_when_there_is_space_again(size, disk, tmp_path):
    """At these sizes the disk becomes full while weights or states are written, early or late."""
    disk.remount(f"size={size}k")
    with pytest.raises(OSError, match="No space left") as full:
        fit(disk.at, settings(**NET))
    assert full.value.errno == errno.ENOSPC
    state = disk.at / "run/state.pt"
    assert not state.exists() or checkpoint.load(state)["progress"]["best_epoch"]
    assert not list((disk.at / "run").glob(".*")), "remains of a write"
    disk.remount("size=20m")
    fit(disk.at, settings(**NET))
    fit(tmp_path / "straight", settings(**NET))
    assert same(disk.at, tmp_path / "straight")


def test_space_is_claimed_before_the_first_number_is_written(disk):
    """A mapped file that outgrows its disk would end the process with SIGBUS."""
    path = disk.at / "matrix.npy"
    with pytest.raises(OSError, match="No space left"), new_matrix(path, "f2", (1000, 500)):
        raise AssertionError("there was no space, and nothing may be written")
    assert list(disk.at.iterdir()) == []
    disk.remount("size=2m")
    with new_matrix(path, "f2", (1000, 500)) as values:
        values[:] = 1
    assert (np.load(path) == 1).all() and only(path)


def test_a_full_disk_leaves_the_earlier_table_in_place(disk):
    path = disk.at / "history.tsv"
    write_history([dict.fromkeys(HISTORY, 1.0)], path)
    before = path.read_bytes()
    with pytest.raises(OSError, match="No space left"):
        write_history([dict.fromkeys(HISTORY, 1.0)] * 30_000, path)
    assert path.read_bytes() == before and only(path)


def test_a_download_that_fills_the_disk_says_so_and_is_continued(server, disk):
    def of_unknown_length(handler, number):
        if number > 1:
            return handler.give(DATA)
        handler.send_response(200)
        handler.send_header("ETag", f'"1-{len(DATA)}"')
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        return handler.write(DATA)

    server.rules["/x"] = of_unknown_length
    target = disk.at / "a" / "x"
    with pytest.raises(InputError, match=r"the disk became full while writing x: free some space"):
        get(server, "/x", target)
    assert not target.exists()
    have = target.with_name("x.part").stat().st_size
    assert 0 < have < len(DATA)
    disk.remount("size=4m")
    get(server, "/x", target, checksum=md5(DATA))
    assert target.read_bytes() == DATA and only(target)
    assert server.asked("/x") == [None, f"bytes={have}-"]


def test_a_download_larger_than_the_disk_is_refused_before_it_begins(server, disk):
    server.files["/x"] = DATA
    with pytest.raises(InputError, match="free some space or use another working directory"):
        get(server, "/x", disk.at / "x")
    assert not (disk.at / "x").exists() and not (disk.at / "x.part").exists()


# ---- folders that may only be read --------------------------------------------------------------


@pytest.mark.parametrize("what", ["matrix", "table", "frame", "training"])
def test_a_job_in_a_read_only_folder_says_so_in_words(what, disk, tmp_path):
    disk.remount("ro")
    done = job(what, disk, tmp_path, tmp_path / "it.log")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "Read-only file system" in done.stderr and "make the folder writable" in done.stderr


def test_a_download_into_a_read_only_folder_names_it(server, disk):
    server.files["/x"] = DATA
    (disk.at / "a").mkdir()
    disk.remount("ro")
    for target in (disk.at / "x", disk.at / "a" / "x", disk.at / "new" / "x"):
        with pytest.raises(InputError, match=r"cannot write .*Read-only.*that you may write to"):
            get(server, "/x", target)


def test_a_folder_of_somebody_else_is_named(server, tmp_path):
    """Root may write anywhere, so this runs as nobody."""
    if os.geteuid():
        pytest.skip("needs root, to become another user")
    server.files["/x"] = DATA
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o755)
    (tmp_path / "own").mkdir()
    os.chown(tmp_path / "own", 65534, 65534)
    code = (
        f"import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        f"from epiloom.data.download import fetch\n"
        f"try: fetch(['{server.at}/x'], {str(folder / 'x')!r})\n"
        f"except Exception as error: print(type(error).__name__, error)"
    )
    # what is imported is imported before the user changes: a home folder may be closed to others
    code = "import epiloom.data.download, encodings.idna\n" + code
    done = subprocess.run(
        [sys.executable, "-c", code],
        **{"cwd": ROOT, "capture_output": True, "text": True},
        env=os.environ | {"TMPDIR": str(tmp_path / "own")},
    )
    assert done.stdout.startswith("InputError"), done.stderr
    assert "cannot write" in done.stdout and "Permission denied" in done.stdout
    assert list(folder.iterdir()) == []
