"""The answer of models that compress tracks: sentences that the tables bear out, and no more."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from epiloom.show import latent_results, results
from epiloom.show.latent_results import Kept, assay_of, read_latents, said
from epiloom.show.latent_verdicts import few, latent_verdicts
from epiloom.show.report_latents import latent_part, warnings
from epiloom.studies import downstream_tables
from tests.made_latents import MadeLatents


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> MadeLatents:
    return MadeLatents(tmp_path_factory.mktemp("latents"))


def verdicts(made: MadeLatents) -> list[tuple[str, str]]:
    found = read_latents(results.read(made.work, None))
    return [(v.state, v.text + " ".join(v.details)) for v in latent_verdicts(found)]


@pytest.mark.parametrize(
    ("r2", "state", "text"),
    [
        ({"epi_lstm": 0.82}, "good", "keeps 61%"),
        ({"epi_lstm": 0.615}, "mixed", "hardly a difference"),
        ({"epi_lstm": 0.5}, "bad", "use that, or train longer"),
        ({"pca": np.nan}, "info", "PCA of equal size was not evaluated"),
        ({"epi_lstm": np.nan}, "unknown", "has not been evaluated yet"),
    ],
)
def test_the_lead_is_judged_against_pca(tmp_path, r2, state, text):
    lead = verdicts(MadeLatents(tmp_path, tasks=[], r2=r2))[0]
    assert lead[0] == state and text in lead[1]


@pytest.mark.parametrize(
    ("skill", "state", "text"),
    [
        ({}, "good", "better than the cell average in 1 of 1 task"),
        ({"cell_average": 3.0}, "mixed", "better than the cell average in 0 of 1 task and worse"),
        ({"pca": 3.0}, "mixed", "better than PCA of equal size in 0 of 1 task and worse in 1"),
        ({"latents": 0.0}, "bad", "better than prevalence alone in 0 of 1 task"),
    ],
)
def test_tasks_are_judged_by_their_honest_competitors(tmp_path, skill, state, text):
    made = MadeLatents(tmp_path, tasks=["fire"], skill=skill)
    _, tasks, seen = verdicts(made)
    assert tasks[0] == state and text in tasks[1]
    assert "FIRE (2 cells): average precision " in tasks[1] and "prevalence 0." in tasks[1]
    assert seen[0] == "info"


def test_without_intervals_nothing_is_better_or_worse(tmp_path):
    made = MadeLatents(tmp_path, tasks=["fire"], draws=0)
    _, tasks, _ = verdicts(made)
    assert tasks[0] == "unknown" and "is open: too few stretches of the genome" in tasks[1]
    assert "(no interval: too little genome)" in tasks[1]
    found = results.read(tmp_path, None)
    part = latent_part(found, read_latents(found))
    assert {row["word"] for row in part.differences} == {"open"}


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.1, 0.2, "better"),
        (-0.2, -0.1, "worse"),
        (-0.1, 0.1, "not clear"),
        (0.1, 0.1, "open"),
        (np.nan, np.nan, "open"),
    ],
)
def test_an_interval_without_width_says_nothing(low, high, word):
    assert said({"low": low, "high": high}) == word


def test_weights_that_may_have_seen_the_test_chromosomes_are_told_of(made):
    plan = json.loads(json.dumps(made.plan))
    assert "no held-out ones" not in str(verdicts(made))
    plan["config"]["models"]["epi_lstm"]["start_seen"] = "allow"
    found = latent_verdicts(read_latents(results.read(made.work, plan)))
    assert "Epi-LSTM began with weights that may have seen the test chromo" in found[1].text
    assert found[1].state == "bad"


def test_an_assay_with_a_dot_keeps_its_name():
    assert assay_of("E003-H2A.Z.pval") == "H2A.Z"
    assert assay_of("odd") == "odd"


def test_a_training_that_ends_early_is_warned_of_unless_it_came_to_rest(made):
    found = read_latents(results.read(made.work, None))
    assert warnings(found) == []
    (run,) = found.histories
    found.histories[run] = found.histories[run].assign(learning_rate=0.01)
    assert "it was still learning; allow more epochs" in warnings(found)[0]


def test_one_track_of_one_assay_needs_no_best_and_worst():
    table = pd.DataFrame({"assay": ["A"], "tracks": [1], "r2": [0.5], "r": [0.7], "pca": [0.4]})
    one = Kept("epi_lstm", 3, 1, 1, 1, 0.5, 0.4, 1, 1, table)
    assert few(one) == ()


def test_columns_are_those_of_what_writes_the_tables():
    for name in ("METRICS", "DIFFERENCES", "CURVES"):
        assert getattr(latent_results, name) == list(getattr(downstream_tables, name))
    assert latent_results.MEAN == downstream_tables.MEAN
    assert latent_results.POOLED == downstream_tables.POOLED
