"""Metrics equal scipy on whole arrays, survive large offsets, merge in any order."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import mean_squared_error, r2_score

from epiloom.learn import metrics
from epiloom.learn.metrics import Moments
from epiloom.plan.errors import InputError
from tests.models.small import settings


def pair(seed: int, n: int, offset: float = 0.0, noise: float = 1.0):
    rng = np.random.default_rng(seed)
    y = offset + rng.normal(size=n)
    return y, y + noise * rng.normal(size=n)


@pytest.mark.parametrize("offset", [0.0, 1e3, -1e6, 1e8])
@pytest.mark.parametrize("n", [2, 3, 50, 4001])
def test_measures_equal_scipy_and_sklearn(n, offset):
    y, p = pair(n, n, offset)
    found = metrics.measures(y, p, seed=0)
    assert found["n"] == n
    assert abs(found["r"] - stats.pearsonr(y, p).statistic) < 1e-9
    assert abs(found["spearman"] - stats.spearmanr(y, p).statistic) < 1e-9
    assert abs(found["r2"] - r2_score(y, p)) < 1e-9 * max(1, abs(found["r2"]))
    assert abs(found["mse"] - mean_squared_error(y, p)) < 1e-9


def test_ties_share_their_rank():
    y, p = np.array([1, 1, 2, 2, 3, 3, 3]), np.array([5, 4, 4, 6, 7, 7, 1])
    assert abs(metrics.spearman(y, p) - stats.spearmanr(y, p).statistic) < 1e-12


@given(st.lists(st.integers(0, 400), max_size=8), st.randoms(use_true_random=False))
def test_sums_merged_in_any_order_equal_the_whole(cuts, dice):
    y, p = pair(1, 400, offset=1e6)
    parts = np.split(np.arange(400), sorted(cuts))
    dice.shuffle(parts)
    sums = [Moments.of(y[i], p[i]) for i in parts]
    while len(sums) > 1:  # a random tree of additions
        one = sums.pop(dice.randrange(len(sums)))
        other = sums.pop(dice.randrange(len(sums)))
        sums.append(one + other)
    whole = sums[0]
    assert whole.n == 400
    assert abs(whole.r - stats.pearsonr(y, p).statistic) < 1e-9
    assert abs(whole.r2 - r2_score(y, p)) < 1e-9
    assert abs(whole.mse - mean_squared_error(y, p)) < 1e-9


@pytest.mark.parametrize("value", [0.0, 0.1, 1e8 + 0.1])
def test_constant_arrays_are_undefined_not_zero(value):
    constant, other = np.full(30, value), np.random.default_rng(0).normal(size=30)
    found = metrics.measures(constant, other, seed=0)
    assert found["n"] == 30 and found["mse"] is not None
    assert [found[k] for k in ("r", "r_low", "r_high", "spearman", "r2")] == [None] * 5
    found = metrics.measures(other, constant, seed=0)
    assert [found[k] for k in ("r", "r_low", "r_high", "spearman")] == [None] * 4
    assert found["r2"] is not None
    merged = Moments.of(constant[:7], other[:7]) + Moments.of(constant[7:], other[7:])
    assert merged.r is None and merged.r2 is None
    empty = metrics.measures(np.zeros(0), np.zeros(0), seed=0)
    assert empty["n"] == 0 and set(list(empty.values())[1:]) == {None}


def test_values_that_are_not_finite_or_do_not_pair_are_refused():
    with pytest.raises(InputError, match="1 of 2 values of the prediction are not finite"):
        metrics.pearson([1.0, 2.0], [np.nan, 1.0])
    with pytest.raises(InputError, match="3 true values but 2 predictions"):
        metrics.spearman([1, 2, 3], [1, 2])


def test_bootstrap_interval_is_seeded_and_covers():
    y, p = pair(3, 300)
    low, high = metrics.interval(y, p, seed=5)
    assert metrics.interval(y, p, seed=5) == (low, high) != metrics.interval(y, p, seed=6)
    assert low < stats.pearsonr(y, p).statistic < high
    reference = stats.bootstrap(
        (y, p),
        lambda a, b, axis: stats.pearsonr(a, b, axis=axis).statistic,
        **{"paired": True, "vectorized": True, "n_resamples": 2000, "method": "percentile"},
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert abs(low - reference.low) < 0.02 and abs(high - reference.high) < 0.02
    inside = sum(
        bounds[0] <= 0.5**0.5 <= bounds[1]
        for bounds in (metrics.interval(*pair(k, 200), seed=k, draws=200) for k in range(100))
    )
    assert 88 <= inside <= 99
    few, other = metrics.interval(np.array([0.0, 1.0]), np.array([0.0, 2.0]), seed=0)
    assert few == other == 1.0  # resamples of one gene twice are undefined and left out


def table(genes, part, predictor, seed):
    y, p = pair(seed, len(genes))
    return pd.DataFrame(
        {
            "gene_id": genes,
            "chrom": "chr1",
            "part": part,
            "predictor": predictor,
            "y": y,
            "y_hat": p,
        }
    )


def test_rows_of_a_run_and_rows_pooled_over_folds(tmp_path):
    runs, paths, per_run = [], {"predictions": [], "baselines": []}, []
    for fold in (1, 2):
        run = settings(fold={"name": f"fold{fold}", "validation": ["a"], "test": ["b"]})
        genes = [f"g{fold}_{k}" for k in range(40 * fold)]
        both = {
            "predictions": pd.concat(
                [
                    table(genes, "test", "promoter_cnn", fold),
                    table(["v1", "v2", "v3"], "validation", "promoter_cnn", 9),
                ]
            ),
            "baselines": table(genes, "test", "ridge_6kb", 10 + fold),
        }
        for kind, frame in both.items():
            paths[kind].append(tmp_path / f"{kind}{fold}.tsv")
            frame.to_csv(paths[kind][-1], sep="\t", index=False)
        per_run.append(metrics.metrics_rows(pd.concat(both.values()), "promoter_cnn", run))
        runs.append(run)
    first = per_run[0]
    assert list(first.columns) == list(metrics.COLUMNS)
    assert sorted(zip(first["predictor"], first["part"], first["n"], strict=True)) == [
        ("promoter_cnn", "test", 40),
        ("promoter_cnn", "validation", 3),
        ("ridge_6kb", "test", 40),
    ]
    assert set(first["marks"]) == {"H3K4me3"} and set(first["fold"]) == {"fold1"}

    pooled = metrics.pooled_rows("promoter_cnn", runs, paths["predictions"], paths["baselines"])
    assert set(pooled["part"]) == {"test"} and set(pooled["fold"]) == {"pooled"}
    row = pooled.set_index("predictor").loc["promoter_cnn"]
    joined = pd.concat([table(range(40), "", "", 1), table(range(80), "", "", 2)])
    assert row["n"] == 120
    assert abs(row["r"] - stats.pearsonr(joined["y"], joined["y_hat"]).statistic) < 1e-9
    turned = metrics.pooled_rows(
        *("promoter_cnn", runs[::-1], paths["predictions"][::-1], paths["baselines"][::-1])
    ).set_index("predictor")
    for column in ("n", "r", "spearman", "r2", "mse"):  # order of the runs does not matter
        assert abs(turned.loc["promoter_cnn", column] - row[column]) < 1e-9

    with pytest.raises(InputError, match="gene g1_0 is tested in two folds"):
        twice = [paths[k][:1] * 2 for k in ("predictions", "baselines")]
        metrics.pooled_rows("promoter_cnn", runs, *twice)


def test_shuffled_runs_are_named_and_kept_apart(tmp_path):
    run = settings(shuffled=True)
    rows = metrics.metrics_rows(table(["a", "b", "c"], "test", "promoter_cnn", 1), "m", run)
    assert list(rows["predictor"]) == ["promoter_cnn_shuffled"]


def test_undefined_measures_become_empty_cells():
    frame = table(["a", "b", "c"], "test", "activity_6kb", 1).assign(y_hat=2.0)
    rows = metrics.metrics_rows(frame, "m", settings())
    line = rows.to_csv(sep="\t", index=False).splitlines()[1].split("\t")
    assert dict(zip(metrics.COLUMNS, line, strict=True))["r"] == ""
