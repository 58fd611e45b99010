"""Metrics of predicted cell types against slow loops; what is masked never counts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from epiloom.learn.cell_metrics import (
    COLUMNS,
    CellMetrics,
    leave_one_out,
    metrics_rows,
    partners_of,
    training_mean,
)
from epiloom.plan.errors import InputError

CELLS, SIGNALS = ["a", "b", "c", "d", "e"], ["DNase", "CTCF"]
BINS = 300


def made(seed: int = 0, gaps: float = 0.2):
    """Truth [cells, bins, signals] with gaps, a prediction that knows some of it, and the mean."""
    rng = np.random.default_rng(seed)
    base = rng.gamma(1, 0.8, (BINS, 2))
    shape = (len(CELLS), BINS, 2)
    own = rng.normal(0, 0.5, shape) * rng.gamma(1, 1, (BINS, 2))
    truth = np.maximum(base + own, 0)
    prediction = np.maximum(base + 0.6 * own + rng.normal(0, 0.2, shape), 0)
    truth[rng.random(shape) < gaps] = np.nan
    mean = base + rng.normal(0, 0.1, base.shape)
    mean[7] = np.nan  # no training cell has a value
    return truth, prediction, mean


def value(table, cell, signal, predictor, column):
    rows = table[(table["cell"] == cell) & (table["signal"] == signal)]
    return rows[rows["predictor"] == predictor][column].iloc[0]


def added(truth, prediction, mean, cuts=(0, BINS)) -> CellMetrics:
    found = CellMetrics(CELLS, SIGNALS)
    for low, high in zip(cuts, cuts[1:], strict=False):
        found.add(truth[:, low:high], prediction[:, low:high], mean[low:high])
    return found


def slow_entries(truth, prediction, mean, cells, signal):
    """(y, p, m) of every entry that counts."""
    return [
        (truth[c, b, signal], prediction[c, b, signal], mean[b, signal])
        for c in cells
        for b in range(BINS)
        if np.isfinite(truth[c, b, signal]) and np.isfinite(mean[b, signal])
    ]


@pytest.mark.parametrize("which", ["a", "e", "pooled"])
@pytest.mark.parametrize("predictor", ["model", "training_mean", "wrong_cell"])
def test_measures_are_those_of_the_slow_loop(which, predictor):
    truth, prediction, mean = made(1)
    table = added(truth, prediction, mean, (0, 100, 130, BINS)).rows()
    cells = range(5) if which == "pooled" else [CELLS.index(which)]
    wrong = prediction[[1, 2, 3, 4, 0]]
    of = {"model": prediction, "wrong_cell": wrong}.get(predictor)
    of = np.broadcast_to(mean, truth.shape) if of is None else of
    for s, signal in enumerate(SIGNALS):
        y, p, m = np.array(slow_entries(truth, of, mean, cells, s)).T
        skill = 1 - np.sum((y - p) ** 2) / np.sum((y - m) ** 2)
        assert value(table, which, signal, predictor, "n") == len(y)
        assert value(table, which, signal, predictor, "skill") == pytest.approx(skill, abs=1e-9)
        assert value(table, which, signal, predictor, "mse") == pytest.approx(np.mean((y - p) ** 2))
        found = value(table, which, signal, predictor, "pearson")
        assert found == pytest.approx(pearsonr(y, p)[0], abs=1e-9)
        found = value(table, which, signal, predictor, "spearman")
        assert found == pytest.approx(spearmanr(y, p)[0], abs=0.004)
        found = value(table, which, signal, predictor, "delta_r")
        if predictor == "training_mean":
            assert np.isnan(found)
        else:
            assert found == pytest.approx(pearsonr(y - m, p - m)[0], abs=1e-9)


def slow_across(truth, prediction, mean, signal: int) -> float:
    """Mean correlation over cells of the bins in the upper half of variance."""
    rows = []
    for b in range(BINS):
        cells = [c for c in range(5) if np.isfinite(truth[c, b, signal])]
        if np.isfinite(mean[b, signal]) and len(cells) >= 3:
            y, p = (side[cells, b, signal] for side in (truth, prediction))
            r = 0.0 if np.ptp(p) == 0 else float(np.corrcoef(y, p)[0, 1]) if np.ptp(y) else None
            rows.append((float(np.var(y)), r))
    rows.sort(key=lambda row: -row[0])
    upper = [r for _, r in rows[: len(rows) // 2] if r is not None]
    return float(np.mean(upper))


def test_correlation_across_cells_is_that_of_the_slow_loop():
    truth, prediction, mean = made(2)
    table = added(truth, prediction, mean, (0, 17, BINS)).rows()
    for s, signal in enumerate(SIGNALS):
        expected = slow_across(truth, prediction, mean, s)
        assert expected > 0.5
        found = value(table, "pooled", signal, "model", "across_r")
        assert found == pytest.approx(expected, abs=0.02)  # the middle step counts in part
        wrong = value(table, "pooled", signal, "wrong_cell", "across_r")
        assert wrong == pytest.approx(
            slow_across(truth, prediction[[1, 2, 3, 4, 0]], mean, s), abs=0.02
        )
        assert np.isnan(value(table, "pooled", signal, "training_mean", "across_r"))
        assert np.isnan(value(table, "a", signal, "model", "across_r"))


def test_one_prediction_for_all_cells_has_no_correlation_across_them():
    truth, _, mean = made(3)
    same = np.broadcast_to(np.nan_to_num(mean), truth.shape)
    table = added(truth, same, mean).rows()
    assert value(table, "pooled", "all", "model", "across_r") == 0
    assert value(table, "pooled", "all", "model", "skill") == 0
    assert value(table, "pooled", "all", "model", "delta_r") is None


def test_plain_correlation_does_not_tell_a_model_from_the_mean():
    truth, prediction, mean = made(4)
    table = added(truth, prediction, mean).rows()
    plain = [value(table, "pooled", "all", p, "pearson") for p in ("model", "training_mean")]
    skill = [value(table, "pooled", "all", p, "skill") for p in ("model", "wrong_cell")]
    assert plain[1] > 0.6 and skill[0] > 0.3 > 0 > skill[1]
    assert value(table, "pooled", "all", "training_mean", "skill") == 0


def test_masked_entries_never_count():
    truth, prediction, mean = made(5)
    before = added(truth, prediction, mean).rows()
    masked = np.isnan(truth) | np.isnan(mean)
    changed = np.where(masked, 1e6, prediction)
    model = before["predictor"] != "wrong_cell"
    after = added(truth, changed, mean).rows()
    assert before[model].equals(after[model])
    hidden = np.where(np.isnan(mean), 1e6, truth)
    assert added(hidden, prediction, mean).rows().equals(before)


def test_sums_can_be_merged_in_any_order():
    truth, prediction, mean = made(6)
    whole = added(truth, prediction, mean).rows()
    pieces = [added(truth, prediction, mean, cut) for cut in ((0, 90), (90, 91), (91, BINS))]
    for order in ((0, 1, 2), (2, 0, 1)):
        total = pieces[order[0]] + pieces[order[1]] + pieces[order[2]]
        found = total.rows()
        for column in COLUMNS[6:]:
            np.testing.assert_allclose(
                found[column].astype(float), whole[column].astype(float), atol=1e-9
            )
    with pytest.raises(InputError, match="other cells"):
        pieces[0] + CellMetrics(CELLS[:4], SIGNALS)


def test_means_over_cells_and_signals():
    table = added(*made(7)).rows()
    each = [value(table, c, "CTCF", "model", "pearson") for c in CELLS]
    assert value(table, "mean", "CTCF", "model", "pearson") == pytest.approx(np.mean(each))
    both = [value(table, "b", s, "model", "skill") for s in SIGNALS]
    assert value(table, "b", "all", "model", "skill") == pytest.approx(np.mean(both))
    assert value(table, "mean", "all", "model", "n") == value(table, "pooled", "all", "model", "n")


def test_a_signal_without_any_truth_has_no_measure_and_spoils_no_mean():
    truth, prediction, mean = made(8)
    truth[:, :, 1] = np.nan
    table = added(truth, prediction, mean).rows()
    assert value(table, "a", "CTCF", "model", "n") == 0
    assert np.isnan(value(table, "a", "CTCF", "model", "skill"))
    expected = value(table, "a", "DNase", "model", "skill")
    assert value(table, "a", "all", "model", "skill") == expected


def test_parts_stand_apart_in_one_table():
    parts = {"cross_cell": added(*made(9)), "cross_both": added(*made(10))}
    table = metrics_rows(parts, {"model": "epigept", "fold": "fold1"}, "epigept")
    assert tuple(table.columns) == COLUMNS and COLUMNS[-2:] == ("pearson", "spearman")
    assert set(table["part"]) == set(parts)
    assert set(table["predictor"]) == {"epigept", "training_mean", "wrong_cell"}
    assert len(table) == 2 * 3 * 7 * 3


def test_means_of_training_cells():
    values, _, _ = made(11, gaps=0.4)
    values[:, 3, 0] = np.nan
    found, without = training_mean(values), leave_one_out(values)
    for b in range(0, BINS, 13):
        known = values[:, b, 0][np.isfinite(values[:, b, 0])]
        assert found[b, 0] == pytest.approx(known.mean()) if len(known) else np.isnan(found[b, 0])
        others = np.delete(values[:, b, 0], 2)
        others = others[np.isfinite(others)]
        if len(others):
            assert without[2, b, 0] == pytest.approx(others.mean())
    assert np.isnan(found[3, 0]) and np.isnan(without[:, 3, 0]).all()


def test_a_mean_of_each_cells_own_is_taken():
    truth, prediction, _ = made(12)
    means = leave_one_out(truth)
    found = CellMetrics(CELLS, SIGNALS)
    found.add(truth, prediction, means)
    y, p, m = truth[0, :, 0], prediction[0, :, 0], means[0, :, 0]
    known = np.isfinite(y) & np.isfinite(m)
    skill = 1 - np.sum((y - p)[known] ** 2) / np.sum((y - m)[known] ** 2)
    assert value(found.rows(), "a", "DNase", "model", "skill") == pytest.approx(skill)


def test_unusable_arrays_are_refused():
    truth, prediction, mean = made(13)
    metrics = CellMetrics(CELLS, SIGNALS)
    with pytest.raises(InputError, match="truth .4, 300, 2."):
        metrics.add(truth[:4], prediction, mean)
    prediction[2, 5, 1] = np.inf
    with pytest.raises(InputError, match="1 predictions are not finite"):
        metrics.add(truth, prediction, mean)
    with pytest.raises(InputError) as err:
        CellMetrics(["a", "a"], SIGNALS, [0, 1])
    assert len(err.value.problems) == 2


def test_the_wrong_cell_is_of_another_group():
    assert partners_of(["lung", "lung", "K562", "liver"]) == [2, 2, 3, 0]
    assert partners_of(["a", "a"]) == [1, 0] and partners_of(["a"]) == [0]
    truth, prediction, mean = made(15)
    metrics = CellMetrics(CELLS, SIGNALS, partners_of(["x", "x", "y", "z", "z"]))
    metrics.add(truth, prediction, mean)
    y, p = truth[0, :, 0], prediction[2, :, 0]
    known = np.isfinite(y) & np.isfinite(mean[:, 0])
    found = value(metrics.rows(), "a", "DNase", "wrong_cell", "mse")
    assert found == pytest.approx(np.mean((y - p)[known] ** 2))


def test_one_cell_has_no_wrong_cell():
    truth, prediction, mean = made(14)
    one = CellMetrics(CELLS[:1], SIGNALS, ranks=False)
    one.add(truth[:1], prediction[:1], mean)
    table = one.rows()
    assert set(table["predictor"]) == {"model", "training_mean"}
    assert table["spearman"].isna().all() and table["across_r"].isna().all()
