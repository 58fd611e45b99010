"""A small disk of its own, that can be filled, made larger and made read-only."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


class Disk:
    """A tmpfs mounted at `at`; `size` as `mount` takes it, e.g. 300k."""

    def __init__(self, at: Path):
        self.at = at

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", self.at], check=True)

    def free(self) -> int:
        return shutil.disk_usage(self.at).free


@contextlib.contextmanager
def small_disk(at: Path, size: str) -> Iterator[Disk]:
    """The test is skipped where nothing may be mounted."""
    at.mkdir()
    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("only root may mount a small disk")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "epiloom-test", at], capture_output=True
    )
    if done.returncode:
        pytest.skip(f"no small disk: {done.stderr.decode().strip()}")
    try:
        yield Disk(at)
    finally:
        subprocess.run(["umount", "-l", at], check=True)
