"""Downstream tasks: intervals against slow references, and what the tables say."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve

from epiloom.studies.block_bootstrap import Resamples, weighted_average_precision
from epiloom.studies.downstream import Options, evaluate
from epiloom.studies.downstream_tables import (
    CURVES,
    DIFFERENCES,
    METRICS,
    POINTS,
    SCORES,
    curve,
    interval,
    random_ranking,
    say,
    seen,
)
from tests.made_labels import FOLDS, QUICK, made_task

# --- intervals -----------------------------------------------------------------------------------


@given(
    n=st.integers(1, 25),
    levels=st.integers(1, 8),
    seed=st.integers(0, 999),
    draws=st.integers(1, 5),
)
@settings(max_examples=100)
def test_weighted_average_precision_equals_that_of_repeated_rows(n, levels, seed, draws):
    rng = np.random.default_rng(seed)
    positive, score = rng.random(n) < 0.4, rng.integers(0, levels, n).astype(float)
    weights = rng.integers(0, 4, (draws, n)).astype(np.uint16)
    found = weighted_average_precision(weights, positive, score)
    for w, value in zip(weights, found, strict=True):
        rows = np.repeat(np.arange(n), w)
        if positive[rows].any():
            assert value == pytest.approx(average_precision_score(positive[rows], score[rows]))
        else:
            assert np.isnan(value)


def test_of_too_few_stretches_there_is_no_interval():
    made = Resamples.draw(np.repeat("chr1", 40), np.arange(40) % 4, seed=1, draws=20, block_bp=1)
    rows, positive = np.arange(40), np.arange(40) % 3 == 0
    found = made.average_precision(rows, positive, np.arange(40.0))
    assert np.isnan(found).all() and np.isnan(interval(found, 0.5)).all()
    assert say(*interval(found, 0.5)) == "not clear"


def test_short_chromosomes_have_narrow_stretches_and_sparse_ones_are_drawn_from_together():
    chroms = np.array(["chr1"] * 100 + [f"chr{k}" for k in range(2, 22)])
    positions = np.concatenate([np.arange(100) * 6_000, np.full(20, 90_000_000)])
    made = Resamples.draw(chroms, positions, seed=1, draws=50)
    long, sparse = (np.unique(made.block[part]) for part in (slice(100), slice(100, 120)))
    assert len(long) == 10 and len(sparse) == 20  # 60 kb each; one of each chromosome
    assert (made.counts[:, long].sum(axis=1) == 10).all()
    assert (made.counts[:, sparse].sum(axis=1) == 20).all() and made.counts[:, sparse].max() > 1


def test_whole_stretches_of_one_chromosome_are_drawn(monkeypatch):
    rng = np.random.default_rng(3)
    chroms = np.repeat(["chr1", "chr2"], 60)
    positions = rng.integers(0, 12_000_000, 120)
    made = Resamples.draw(chroms, positions, seed=1, draws=40)
    labels = [f"{c}:{p // 1_000_000}" for c, p in zip(chroms, positions, strict=True)]
    assert len(np.unique(made.block)) == len(set(labels))
    assert len(set(zip(labels, made.block, strict=True))) == len(set(labels))  # one to one
    for chrom in ("chr1", "chr2"):
        blocks = np.unique(made.block[chroms == chrom])
        assert (made.counts[:, blocks].sum(axis=1) == len(blocks)).all()
    positive, score = rng.random(120) < 0.3, rng.normal(size=120)
    rows = np.flatnonzero(rng.random(120) < 0.5)
    found = made.average_precision(rows, positive[rows], score[rows])
    slow = []
    for counts in made.counts:
        drawn = [r for r in rows for _ in range(counts[made.block[r]])]
        slow.append(average_precision_score(positive[drawn], score[drawn]))
    np.testing.assert_allclose(found, slow)
    monkeypatch.setattr("epiloom.studies.block_bootstrap._CHUNK", 200)  # a few draws at a time
    np.testing.assert_allclose(made.average_precision(rows, positive[rows], score[rows]), slow)


def test_intervals_of_the_mean_and_of_differences_equal_a_slow_reference():
    labels, features = made_task(cells=2)
    options = Options(schemes=("chromosomes",), trees=20, depth=2, draws=60, block_bp=400_000)
    found = evaluate(labels, features, FOLDS, options)
    middle = labels.windows["window"].mean(axis=1)
    made = Resamples.draw(labels.chroms, middle, options.seed, options.draws, options.block_bp)
    number = {name: i for i, name in enumerate(labels.names)}

    def drawn(cell, predictor):
        of = found.scores
        of = of[(of["cell"] == cell) & (of["predictor"] == predictor)]
        folds = []
        for _, fold in of.groupby("fold", observed=True):
            rows = np.array([number[name] for name in fold["name"]])
            weights = made.counts[:, made.block[rows]]
            folds.append([_ap(fold, w) for w in [np.ones(len(rows), int), *weights]])
        return np.mean(folds, axis=0)

    def bounds(values):
        low, high = np.percentile(values[1:], [2.5, 97.5]) - values[1:].mean() + values[0]
        return pytest.approx((values[0], low, high))

    m = found.metrics.query("fold == 'mean' and cell == 'E000' and predictor == 'latents'")
    assert tuple(m[["ap", "ap_low", "ap_high"]].iloc[0]) == bounds(drawn("E000", "latents"))
    pairs = {cell: drawn(cell, "latents") - drawn(cell, "pca") for cell in labels.labels}
    pairs["all"] = (pairs["E000"] + pairs["E001"]) / 2
    d = found.differences[found.differences["predictor"] == "pca"].set_index("cell")
    for cell, values in pairs.items():
        assert tuple(d.loc[cell, ["difference", "low", "high"]]) == bounds(values)
    assert d["cells"].to_dict() == {"E000": 1, "E001": 1, "all": 2}


def _ap(fold, weights):
    rows = np.repeat(np.arange(len(fold)), weights)
    return average_precision_score(fold["label"].to_numpy()[rows], fold["score"].to_numpy()[rows])


def test_an_interval_stands_around_its_figure():
    draws = np.array([0.5, 0.6, 0.7, np.nan])
    low, high = interval(draws, 0.4)
    assert low == pytest.approx(0.305) and high == pytest.approx(0.495)
    assert np.isnan(interval(np.full(3, np.nan), 0.4)).all()


@given(n=st.integers(1, 7), seed=st.integers(0, 99))
@settings(max_examples=25)
def test_chance_is_the_mean_over_all_rankings(n, seed):
    y = np.random.default_rng(seed).random(n) < 0.5
    y[0] = True
    orders = [y[list(order)] for order in itertools.permutations(range(n))]
    slow = np.mean([np.mean((np.cumsum(o) / np.arange(1, n + 1))[o]) for o in orders])
    assert random_ranking(n, int(y.sum())) == pytest.approx(slow)


# --- tables --------------------------------------------------------------------------------------


def test_tables_say_what_they_promise():
    labels, features = made_task()
    trained = {"latents": ["chr1", "chr3", "chr4"], "pca": ["chr3"]}
    found = evaluate(labels, features, FOLDS, QUICK, trained_on=trained)
    for table, columns in zip(found, (SCORES, METRICS, DIFFERENCES, CURVES), strict=True):
        assert tuple(table.columns) == columns and len(table)
    assert len(found.scores) == 2 * (200 + 400) * 5  # cells, rows of two schemes, predictors
    rows = found.metrics[found.metrics["scheme"] == "chromosomes"].set_index(["predictor", "fold"])
    said = {key: set(part) for key, part in rows.groupby(level=[0, 1])["seen"]}
    assert said["latents", "a"] == {"yes"} and said["latents", "b"] == {"no"}
    assert said["latents", "mean"] == {"partly"} and said["pca", "mean"] == {"no"}
    assert said["prevalence", "mean"] == {""}
    for _, group in found.metrics.groupby(["cell", "scheme", "predictor"]):
        mean, folds = group[group["fold"] == "mean"].iloc[0], group[group["fold"] != "mean"]
        assert mean["ap"] == pytest.approx(folds["ap"].mean())
        assert mean["n"] == folds["n"].sum() and mean["positives"] == folds["positives"].sum()
        assert mean["ap_low"] <= mean["ap"] <= mean["ap_high"]


def test_verdicts_follow_from_the_intervals():
    labels, features = made_task()
    features["same"] = features["latents"]
    labels.labels = {"E000": labels.labels["E000"]}
    options = Options(**{**vars(QUICK), "reference": "pca", "draws": 300})
    found = evaluate(labels, features, FOLDS, options).differences
    verdicts = found[(found["cell"] == "all")].set_index(["scheme", "predictor"])["verdict"]
    assert verdicts["chromosomes", "noise"] == "better"
    assert verdicts["chromosomes", "latents"] == "worse"
    assert set(found["predictor"]) == {"latents", "noise", "same", "prevalence"}
    options = Options(**{**vars(QUICK), "reference": "latents"})
    equal = evaluate(labels, features, FOLDS, options).differences
    equal = equal[equal["predictor"] == "same"]
    assert (equal["verdict"] == "not clear").all() and (equal["difference"] == 0).all()


def test_seen_says_yes_no_partly_or_nothing():
    chroms = np.array(["chr1", "chr2"])
    assert seen({"chr1", "chr2"}, chroms) == "yes" and seen({"chr2"}, chroms) == "partly"
    assert seen(set(), chroms) == "no" and seen(None, chroms) == ""


@given(n=st.integers(2, 2000), levels=st.integers(1, 3000), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_curves_are_points_of_the_whole_curve(n, levels, seed):
    rng = np.random.default_rng(seed)
    positive, score = rng.random(n) < 0.3, rng.integers(0, levels, n) / levels
    positive[0] = True
    recall, precision = curve(positive, score)
    whole = precision_recall_curve(positive, score)
    points = {(round(r, 9), round(p, 9)) for p, r in zip(*whole[:2], strict=True)}
    found = [(round(r, 9), round(p, 9)) for r, p in zip(recall, precision, strict=True)]
    assert set(found[1:]) <= points and found[0][0] == 0 and found[-1][0] == 1
    assert len(found) <= POINTS and (np.diff(recall) >= 0).all()
