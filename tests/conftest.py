"""Settings for every test: one thread, the same examples each time, programs on PATH."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# Before numpy or torch is imported: more threads make small tests slower, and sums could differ.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
# snakemake, bamCoverage and others, also when pytest is started without activating the environment.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

settings.register_profile("same_each_time", derandomize=True, database=None, deadline=None)
settings.load_profile("same_each_time")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of larger test data beside the repository; without it, tests that ask are skipped."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"test data not here: {SHARED_DATA}")
    return SHARED_DATA
