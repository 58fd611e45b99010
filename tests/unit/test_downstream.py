"""Downstream tasks: folds that are apart, honest predictors, intervals, tables."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from epiloom.plan.errors import InputError
from epiloom.studies.boosted_trees import BoostedTrees
from epiloom.studies.downstream import Options, cell_average, evaluate
from epiloom.studies.downstream_folds import chromosome_folds, contiguous_folds, shuffled_folds
from tests.made_labels import CHROMS, FOLDS, QUICK, in_a_row, made_task, permuted

# --- folds ---------------------------------------------------------------------------------------


@given(n=st.integers(3, 120), k=st.integers(3, 20), seed=st.integers(0, 99))
@settings(max_examples=80)
def test_every_row_is_in_one_part_of_each_fold_and_tested_once(n, k, seed):
    k = min(k, n)
    for folds in (shuffled_folds(n, k, seed), contiguous_folds(n, k)):
        assert len(folds) == k
        tested = np.concatenate([fold.test for fold in folds])
        assert sorted(tested) == list(range(n))
        for i, fold in enumerate(folds):
            parts = np.concatenate(list(fold.parts.values()))
            assert sorted(parts) == list(range(n))
            np.testing.assert_array_equal(fold.validation, folds[(i + 1) % k].test)


def test_shuffled_folds_take_every_kth_row_of_one_shuffled_table():
    order = np.random.default_rng(7).permutation(23)
    folds = shuffled_folds(23, 5, seed=7)
    assert [fold.test.tolist() for fold in folds] == [sorted(order[i::5]) for i in range(5)]
    assert [fold.test.tolist() for fold in contiguous_folds(7, 3)] == [[0, 1, 2], [3, 4], [5, 6]]


def test_chromosome_folds_keep_whole_chromosomes_together():
    chroms = np.array(["chr1", "chr2", "chr1", "chr3", "chr4", "chr3"])
    a, b = chromosome_folds(chroms, FOLDS)
    assert (a.train.tolist(), a.validation.tolist(), a.test.tolist()) == ([1, 4], [3, 5], [0, 2])
    assert (b.train.tolist(), b.validation.tolist(), b.test.tolist()) == ([0, 2, 3, 5], [4], [1])
    both = {"name": "c", "validation": ["chr1", "chr2"], "test": ["chr2"]}
    with pytest.raises(InputError, match="c: chr2 is in both validation and test"):
        chromosome_folds(chroms, [both])
    with pytest.raises(InputError, match="a: the name of two folds"):
        chromosome_folds(chroms, [FOLDS[0], FOLDS[0]])


@pytest.mark.parametrize("k", [2, 11])
def test_a_number_of_folds_that_cannot_be_is_refused(k):
    for call in (lambda: shuffled_folds(10, k, 0), lambda: contiguous_folds(10, k)):
        with pytest.raises(InputError, match="use from 3 up to 10 folds"):
            call()


def test_no_test_or_validation_row_is_trained_on():
    """The features are the row's number, so the classifier's caller shows which rows it gave."""
    labels, _ = made_task(n=120)
    numbers = np.arange(120, dtype=np.float32)[:, None]
    given_rows = []

    def classify(train, validation, test):
        rows = [x[:, 0].astype(int) for x in (train[0], validation[0], test)]
        for (x, y), part in zip((train, validation), rows, strict=False):
            np.testing.assert_array_equal(y, labels.labels["E000"][part])
            assert len(x) == len(y)
        given_rows.append(rows)
        return np.zeros(len(test), np.float32), 1

    labels.labels = {"E000": labels.labels["E000"]}
    options = Options(schemes=("chromosomes", "shuffled", "contiguous"), parts=5, draws=2)
    found = evaluate(labels, {"latents": numbers}, FOLDS, options, classify=classify)
    assert len(given_rows) == 2 + 5 + 5
    for train, validation, test in given_rows:
        assert sorted(np.concatenate([train, validation, test])) == list(range(120))
    for train, validation, test in given_rows[:2]:  # whole chromosomes
        assert not set(labels.chroms[train]) & set(labels.chroms[np.append(validation, test)])
    scored = found.scores.query("predictor == 'latents' and scheme == 'shuffled'")
    assert sorted(scored["name"]) == sorted(labels.names)


def test_folds_without_both_classes_are_left_out_and_the_log_says_why(caplog):
    labels, features = made_task()
    labels.labels["E000"][labels.chroms == "chr1"] = 0
    labels.labels["E001"][labels.chroms == "chr4"] = np.nan
    with caplog.at_level(logging.WARNING, logger="epiloom"):
        found = evaluate(labels, features, FOLDS, Options(**{**vars(QUICK), "parts": 500}))
    assert (
        "made, E000, chromosomes: fold a left out, test has 100 examples but no pos" in caplog.text
    )
    assert "made, E001, chromosomes: fold b left out, validation has no example" in caplog.text
    assert "made, E000, shuffled: left out, 400 windows for 500 folds" in caplog.text
    kept = found.metrics.groupby("cell")["fold"].unique()
    assert kept["E000"].tolist() == ["b", "mean"] and kept["E001"].tolist() == ["a", "mean"]


def test_nothing_to_score_is_an_error():
    labels, features = made_task()
    with pytest.raises(InputError, match="no fold has positive and negative examples"):
        evaluate(labels, features, [], Options(schemes=("chromosomes",)))


# --- leaks ---------------------------------------------------------------------------------------


def random_labels(seed: int, n: int = 690):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 24)).astype(np.float32)
    return features, rng.permutation(np.arange(n) < 0.47 * n).astype(np.float32)


def test_random_labels_score_at_prevalence_on_other_chromosomes():
    features, y = random_labels(0)
    folds = [
        {"name": test, "validation": [stop], "test": [test]}
        for test, stop in zip(CHROMS, CHROMS[1:] + CHROMS[:1], strict=True)
    ]
    options = Options(schemes=("chromosomes",), draws=20)
    labels = in_a_row({"E000": y}, CHROMS)
    found = evaluate(labels, {"latents": features}, folds, options).metrics
    found = found[(found["fold"] == "mean") & (found["predictor"] == "latents")].iloc[0]
    assert abs(found["ap"] - 0.47) < 0.06 and abs(found["auroc"] - 0.5) < 0.06


def test_random_labels_score_at_chance_in_small_shuffled_folds():
    """Three data sets, as one may be lucky; a fold has 34 rows, so chance is above prevalence."""
    found = []
    for seed in range(3):
        features, y = random_labels(seed)
        options = Options(schemes=("shuffled",), draws=2)
        metrics = evaluate(in_a_row({"E": y}, CHROMS), {"latents": features}, [], options).metrics
        found.append(metrics[(metrics["fold"] == "mean") & (metrics["predictor"] == "latents")])
    found = pd.concat(found)
    assert abs(found["ap"].mean() - 0.47) < 0.06
    assert abs(found["ap"].mean() - found["chance"].mean()) < 0.03


def test_one_training_table_for_all_folds_would_leak():
    """The published loop, as a reference: folds are appended to a table made outside the loop."""
    features, y = random_labels(0)
    x_table, y_table, scores = features[:0], y[:0], []
    for fold in shuffled_folds(len(y), 20, seed=0)[:6]:
        x_table = np.concatenate([x_table, features[fold.train]])
        y_table = np.concatenate([y_table, y[fold.train]])
        stop = features[fold.validation], y[fold.validation]
        p, _ = BoostedTrees()((x_table, y_table), stop, features[fold.test])
        scores.append(average_precision_score(y[fold.test], p))
    assert np.mean(scores[2:]) > 0.8  # labels that nobody can know


# --- predictors ----------------------------------------------------------------------------------


@given(n=st.integers(1, 8), cells=st.integers(1, 5), seed=st.integers(0, 999))
@settings(max_examples=60)
def test_cell_average_equals_a_loop(n, cells, seed):
    rng = np.random.default_rng(seed)
    labels = {f"E{i}": rng.choice([0, 1, np.nan], n).astype(np.float32) for i in range(cells)}
    slow = np.full(n, np.nan)
    for i in range(n):
        others = [labels[cell][i] for cell in labels if cell != "E0"]
        others = [value for value in others if not np.isnan(value)]
        if others:
            slow[i] = sum(others) / len(others)
    found = cell_average(labels, "E0")
    if np.isnan(slow).all():
        assert found is None
    else:
        np.testing.assert_allclose(found, slow, rtol=1e-6)


def test_windows_that_no_other_cell_knows_get_the_training_prevalence():
    labels, _ = made_task(n=80)
    labels.labels["E001"][labels.chroms == "chr1"] = np.nan
    scores = evaluate(labels, {}, FOLDS[:1], Options(schemes=("chromosomes",), draws=5)).scores
    scores = scores[scores["cell"] == "E000"]
    train = labels.labels["E000"][np.isin(labels.chroms, ["chr2", "chr4"])].mean()
    assert set(scores["predictor"]) == {"prevalence", "cell_average"}
    np.testing.assert_allclose(scores["score"], train, rtol=1e-6)


def test_a_single_cell_has_no_cell_average_and_prevalence_scores_at_prevalence():
    labels, features = made_task(cells=1)
    metrics = evaluate(labels, features, FOLDS, QUICK).metrics
    assert set(metrics["predictor"]) == {"latents", "pca", "noise", "prevalence"}
    chance = metrics[(metrics["predictor"] == "prevalence") & (metrics["fold"] != "mean")]
    np.testing.assert_allclose(chance["ap"], chance["prevalence"])
    assert (chance["auroc"] == 0.5).all() and chance["trees"].isna().all()


def test_features_of_one_cell_are_used_in_that_cell_alone(caplog):
    labels, features = made_task()
    features["raw"] = {"E001": features["pca"]}
    with caplog.at_level(logging.WARNING, logger="epiloom"):
        metrics = evaluate(labels, features, FOLDS, QUICK).metrics
    assert "made, E000: no raw of this cell" in caplog.text
    assert set(metrics[metrics["predictor"] == "raw"]["cell"]) == {"E001"}
    one = metrics[metrics["cell"] == "E001"].set_index(["predictor", "scheme", "fold"])["ap"]
    pd.testing.assert_series_equal(one["raw"], one["pca"])


def test_the_best_trees_score_and_missing_features_are_allowed():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 3)).astype(np.float32)
    y = (x[:, 0] > 0.5).astype(np.float32)
    x[rng.random(x.shape) < 0.1] = np.nan
    x[:5] = np.nan
    train, stop = (x[:300], y[:300]), (x[300:450], y[300:450])
    scores, trees = BoostedTrees(trees=200)(train, stop, x[450:])
    assert average_precision_score(y[450:], scores) > 0.9 and 1 <= trees < 200
    again, _ = BoostedTrees(trees=trees)(train, stop, x[450:])
    np.testing.assert_array_equal(scores, again)  # the trees after the best one are not used


def test_training_stops_at_the_average_precision_of_all_validation_rows():
    rng = np.random.default_rng(2)
    y = (rng.random(3000) < 0.2).astype(np.float32)
    x = (rng.normal(size=(3000, 20)) + 0.3 * y[:, None]).astype(np.float32)
    train, stop = (x[:1500], y[:1500]), (x[1500:], y[1500:])
    by_trees = [
        average_precision_score(
            stop[1], BoostedTrees(trees=n, patience=99)(train, stop, x)[0][1500:]
        )
        for n in range(1, 40)
    ]
    _, best = BoostedTrees(trees=39, patience=99)(train, stop, x)
    # the first n trees do not depend on how many follow, so the best number is that of the maximum
    assert best == int(np.argmax(by_trees)) + 1 > 5


# --- the same again ------------------------------------------------------------------------------


def test_results_depend_on_neither_the_order_of_rows_nor_the_threads():
    labels, features = made_task()
    first = evaluate(labels, features, FOLDS, QUICK)
    order = np.random.default_rng(5).permutation(len(labels.names))
    other = evaluate(
        permuted(labels, order),
        {name: values[order] for name, values in features.items()},
        FOLDS,
        Options(**{**vars(QUICK), "threads": 2}),
    )
    for a, b in zip(first, other, strict=True):
        pd.testing.assert_frame_equal(a, b)


def test_another_seed_shuffles_otherwise_but_leaves_chromosome_folds_alone():
    labels, features = made_task()
    scores = [
        evaluate(labels, features, FOLDS, Options(**{**vars(QUICK), "seed": seed})).scores
        for seed in (0, 1)
    ]
    whole, mixed = (
        [t[t["scheme"] == scheme].reset_index(drop=True) for t in scores]
        for scheme in ("chromosomes", "shuffled")
    )
    pd.testing.assert_frame_equal(*whole)
    assert not mixed[0].equals(mixed[1])


# --- refusals ------------------------------------------------------------------------------------


def _changed(what):
    labels, features = made_task(n=20)
    if what == "labels":
        labels.labels["E000"][3] = 2
    elif what == "rows":
        features["pca"] = features["pca"][1:]
    elif what == "infinite":
        features["pca"][2, 1] = np.inf
    elif what == "name":
        features["prevalence"] = features["pca"]
    elif what == "windows":
        labels.windows["window"] = labels.windows["window"][:7]
    else:
        labels.windows = {}
    return labels, features


@pytest.mark.parametrize(
    ("what", "match"),
    [
        ("labels", "labels of E000: 2.0 is neither 0, 1 nor missing"),
        ("rows", r"features pca: shape \(19, 4\) for 20 windows"),
        ("infinite", "features pca: infinite values"),
        ("name", "features prevalence: the name of a predictor"),
        ("windows", r"window: shape \(7, 2\) for 20 names"),
        ("no windows", "no window; give the intervals"),
    ],
)
def test_what_does_not_fit_is_refused(what, match):
    with pytest.raises(InputError, match=match):
        evaluate(*_changed(what), FOLDS, QUICK)


def test_unknown_options_are_refused_all_at_once():
    with pytest.raises(InputError) as caught:
        Options(schemes=("random",), parts=2)
    assert len(caught.value.problems) == 2
