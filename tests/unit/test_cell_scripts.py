"""Scripts of the rules of cells, as far as no library test covers them."""

from __future__ import annotations

import pytest

from epiloom.plan.errors import InputError
from epiloom.plan.jobs import Job
from workflow_scripts import settle_scales


def test_scales_are_not_settled_while_a_twin_is_held_out(tmp_path):
    cells = {
        "tracks": {"one": {}, "two": {}},
        "names": {"one": "IMR-90", "two": "AG04450"},  # both are fibroblasts
        "parts": {"one": "train", "two": "test"},
        "signals": ["DNase"],
        "force": False,
    }
    files = {"manifest": str(tmp_path / "manifest.json")}
    job = Job("settle_scales", input=files, params={"cells": cells, "bin_bp": 128})
    with pytest.raises(InputError, match="group 'fibroblast' is in train: one; test: two; keep it"):
        settle_scales.main(job)
    cells["names"]["two"] = "imr90"
    with pytest.raises(InputError, match="name 'IMR-90' is in train: one; test: two"):
        settle_scales.main(job)
