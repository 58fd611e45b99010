"""Differences of two predictors on the same genes, against slow and independent references."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from epiloom.show import answer, paired, results
from epiloom.show.compare import by_reach, compare
from tests.made_results import TWO_MODELS, Made


def predictors(n: int = 80, k: int = 3, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Truth [n] and predictions [n, k], the first column the best."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=n)
    return y, np.column_stack([y + rng.normal(0, 0.6 + i, n) for i in range(k)])


def slow_differences(y, a, b, seed, draws) -> np.ndarray:
    """r of a minus r of b, one draw of genes after the other."""
    picks = np.random.default_rng(seed).integers(0, len(y), size=(draws, len(y)))
    return np.array([np.corrcoef(y[i], a[i])[0, 1] - np.corrcoef(y[i], b[i])[0, 1] for i in picks])


def test_differences_of_r_equal_a_loop_over_drawn_genes():
    y, p = predictors()
    pairs = [(0, 1), (2, 0)]
    for (a, b), found in zip(pairs, paired.r_differences(y, p, pairs, 3, 200), strict=True):
        drawn = slow_differences(y, p[:, a], p[:, b], 3, 200)
        whole = np.corrcoef(y, p[:, a])[0, 1] - np.corrcoef(y, p[:, b])[0, 1]
        low, high = np.quantile(drawn, [0.025, 0.975])
        assert (found.value, found.low, found.high) == pytest.approx((whole, low, high), abs=1e-9)
        assert found.n == len(y)


def test_digits_are_kept_when_predictions_lie_far_from_zero():
    y, p = predictors()
    (near,) = paired.r_differences(y, p, [(0, 1)], 3, 200)
    (far,) = paired.r_differences(y + 1e6, 1e-3 * p + 1e4, [(0, 1)], 3, 200)
    assert (far.value, far.low, far.high) == pytest.approx((near.value, near.low, near.high), 1e-5)


def test_the_interval_covers_the_true_difference_about_as_often_as_it_says():
    inside, tries, n = 0, 200, 150
    for seed in range(tries):
        rng = np.random.default_rng(seed)
        y = rng.normal(size=n)
        hard = rng.normal(size=n)  # what is hard about a gene is hard for both
        p = np.column_stack([y + hard + rng.normal(size=n) for _ in range(2)])
        (found,) = paired.r_differences(y, p, [(0, 1)], seed, 300)
        inside += found.low <= 0 <= found.high
    assert 0.90 <= inside / tries <= 0.985


@pytest.mark.parametrize("flat", ["y", "first"])
def test_a_constant_has_no_difference(flat):
    y, p = predictors()
    if flat == "y":
        y = np.zeros_like(y)
    else:
        p[:, 0] = 1.0
    (found,) = paired.r_differences(y, p, [(0, 1)], 0, 20)
    assert np.isnan([found.value, found.low, found.high]).all()
    assert not found.ahead and not found.behind


def delong(y: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Difference of the areas and its standard error, by the formulas of the paper, in loops."""
    areas, tens, ones = [], [], []
    for p in (a, b):
        x, z = p[y == 1], p[y == 0]
        psi = np.array([[1.0 if i > j else 0.5 if i == j else 0.0 for j in z] for i in x])
        areas.append(psi.mean())
        tens.append(psi.mean(axis=1))
        ones.append(psi.mean(axis=0))
    s10, s01 = np.cov(tens), np.cov(ones)
    contrast = np.array([1, -1])
    variance = contrast @ (s10 / len(tens[0]) + s01 / len(ones[0])) @ contrast
    return areas[0] - areas[1], float(np.sqrt(variance))


def test_differences_of_auc_equal_the_formulas_of_delong_with_ties():
    y, p = predictors()
    labels = (y > 0.2).astype(float)
    p = np.round(p, 1)
    (found,) = paired.auc_differences(labels, p, [(0, 2)])
    value, error = delong(labels, p[:, 0], p[:, 2])
    assert found.value == pytest.approx(value, abs=1e-12)
    assert found.high - found.low == pytest.approx(2 * 1.959964 * error, abs=1e-9)
    assert found.value == pytest.approx(
        roc_auc_score(labels, p[:, 0]) - roc_auc_score(labels, p[:, 2]), abs=1e-12
    )
    assert paired.auc(labels, p[:, 0]).value == pytest.approx(roc_auc_score(labels, p[:, 0]))


def test_one_class_alone_has_no_area():
    y, p = predictors()
    assert np.isnan(paired.auc(np.ones_like(y), p[:, 0]).value)
    assert np.isnan(paired.auc_differences(np.zeros_like(y), p, [(0, 1)])[0].value)


# --- which questions are asked -------------------------------------------------------------------


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> tuple[results.Results, list[answer.Comparison], dict]:
    work = tmp_path_factory.mktemp("two")
    made = Made(work, marks=["H3K4me3", "H3K27ac", "H3K27me3"], genes=60, models=TWO_MODELS)
    found = results.read(work, made.plan)
    rows = answer.comparisons(found)
    return found, rows, compare(found, rows)


def baseline(found: results.Results, row: answer.Comparison) -> pd.Series:
    """Predictions of the best baseline on the test genes, straight from the files."""
    folder = found.work / "results" / row.model
    paths = sorted(folder.glob(f"{row.cell}.{row.marks}.fold?/baselines.tsv"))
    table = pd.concat(pd.read_csv(path, sep="\t") for path in paths)
    return table[table["predictor"] == row.best_baseline.predictor].set_index("gene_id")["y_hat"]


def test_the_lead_of_every_row_is_over_its_best_baseline(two):
    found, rows, _ = two
    assert rows
    for row in rows:
        own = found.predictions[row.key].set_index("gene_id")
        other = baseline(found, row).loc[own.index]
        gain = own["y"].corr(own["y_hat"]) - own["y"].corr(other)
        assert row.lead.value == pytest.approx(gain, abs=1e-9)
        assert row.lead.low < row.lead.value < row.lead.high


def test_models_are_compared_on_the_same_genes_by_cell_and_marks(two):
    found, rows, made = two
    ((models, differences),) = by_reach(made).items()
    assert models == ("chromoformer", "promoter_cnn")
    shared = {row.key[1:] for row in rows if row.model == "promoter_cnn"}
    assert set(differences) == shared and len(shared) == 6
    for (cell, marks), difference in differences.items():
        far, near = (found.predictions[model, cell, marks] for model in models)
        gain = far["y"].corr(far["y_hat"]) - near["y"].corr(near["y_hat"])
        assert difference.value == pytest.approx(gain, abs=1e-9)


def test_the_best_mark_is_compared_with_the_second_of_the_same_model(two):
    _, rows, made = two
    for ranked in answer.best_rows(rows).values():
        difference = made[ranked[0].key, ranked[1].key]
        assert difference.value == pytest.approx(ranked[0].value - ranked[1].value, abs=1e-4)
        assert all(row.single for row in ranked)


def test_only_genes_that_both_predict_are_compared(two, tmp_path):
    found, rows, _ = two
    key = ("promoter_cnn", "E003", "H3K4me3")
    less = found.predictions | {key: found.predictions[key].iloc[10:]}
    fewer = results.Results(found.work, found.plan, found.runs, found.metrics, predictions=less)
    made = compare(fewer, rows)
    gone = made[("chromoformer", *key[1:]), key]
    other = made[("chromoformer", "E003", "H3K27ac"), ("promoter_cnn", "E003", "H3K27ac")]
    assert (gone.n, other.n) == (110, 120)
    without = results.Results(found.work, found.plan, found.runs, found.metrics)
    assert compare(without, rows) == {}


def test_a_baseline_that_predicts_by_absence_is_turned(tmp_path):
    made = Made(tmp_path, cells=["E003"], marks=["H3K27me3"], genes=60, shuffled=False)
    for path in tmp_path.glob("results/promoter_cnn/*/baselines.tsv"):
        table = pd.read_csv(path, sep="\t")
        table["y_hat"] *= -1
        table.to_csv(path, sep="\t", index=False)
    path = tmp_path / "results/tables/promoter_cnn.tsv"
    table = pd.read_csv(path, sep="\t")
    table.loc[table["predictor"] != "promoter_cnn", ["r", "r_low", "r_high"]] *= -1
    table.to_csv(path, sep="\t", index=False)
    found = results.read(tmp_path, made.plan)
    (row,) = answer.comparisons(found)
    compare(found, [row])
    assert row.best_baseline.predictor == "activity_6kb" and row.best_baseline.symbol == "|r|"
    assert row.lead.value == pytest.approx(row.value - row.best_baseline.strength, abs=1e-4)


def test_a_classifier_gets_its_interval_and_is_not_compared_with_a_regression(tmp_path):
    options = {"genes": 60, "models": TWO_MODELS, "classifiers": ("chromoformer",)}
    made = Made(tmp_path, cells=["E003"], marks=["H3K4me3"], **options)
    found = results.read(tmp_path, made.plan)
    rows = answer.comparisons(found)
    assert by_reach(compare(found, rows)) == {}
    (row,) = [row for row in rows if row.model == "chromoformer"]
    table = found.predictions[row.key]
    area = paired.auc(table["y"].to_numpy(float), table["y_hat"].to_numpy(float))
    assert (row.task, row.score.symbol) == ("classification", "AUC")
    assert (row.score.low, row.score.high) == (area.low, area.high)
    assert row.value == pytest.approx(area.value, abs=1e-4)
    assert row.lead.n == 120
