"""`compile: true` gives the same training, and training goes on where no compiler works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.models.small import history, same

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import logging, sys
from pathlib import Path
from tests.models.small import fit, settings
logging.basicConfig(level=logging.INFO)
for name, compile in (("plain", False), ("compiled", True)):
    fit(Path(sys.argv[1]) / name, settings(epochs=2, dropout=[0.0, 0.0], compile=compile))
"""


def trained(folder: Path, **environment: str) -> str:
    """The log of two runs, `plain` and `compiled`."""
    (folder / "cache").mkdir()
    variables = {"PYTHONPATH": ".", "TORCHINDUCTOR_CACHE_DIR": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder)],
        cwd=ROOT,
        env=os.environ | variables | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def test_without_a_compiler_training_goes_on_with_the_same_numbers(tmp_path):
    assert "not compiled, which costs speed only" in trained(tmp_path, CXX="/bin/false")
    assert same(tmp_path / "plain", tmp_path / "compiled")


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler here")
def test_compiled_training_gives_the_same_losses_within_rounding(tmp_path):
    assert "compiled in" in trained(tmp_path)
    plain, compiled = (history(tmp_path / name) for name in ("plain", "compiled"))
    for column in ("train_loss", "validation_loss"):
        found, wanted = compiled[column].astype(float), plain[column].astype(float)
        np.testing.assert_allclose(found, wanted, rtol=1e-4)
