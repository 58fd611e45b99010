"""A tiny study, killed again and again, ends with what an undisturbed one ends with."""

from __future__ import annotations

import pytest

from tests.faults.kills import play
from tests.faults.study import prepare, serving

KILLS = 10  # `make faults` does 50


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_killed_study_ends_like_an_undisturbed_one(tmp_path):
    with serving(prepare(tmp_path)) as server:
        outcome = play(tmp_path, server, KILLS, seed=2)
    print(outcome)
    assert not outcome.problems, str(outcome)
    assert sum(outcome.hits.values()) == KILLS and outcome.studies >= 1
