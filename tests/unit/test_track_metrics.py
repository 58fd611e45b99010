"""Track metrics equal plain references, merge in any order, and count only the bins they should."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import (
    average_precision_score,
    d2_tweedie_score,
    mean_squared_error,
    r2_score,
    roc_auc_score,
)

from epiloom.data.genome import Genome
from epiloom.learn import track_metrics, track_sums
from epiloom.learn.track_metrics import cell_r, joined, measures, metrics_rows, variable_bins
from epiloom.learn.track_sums import Grid, TrackSums, codes, windows_of
from epiloom.plan.errors import InputError

GENOME = Genome("toy", ("chr1", "chr2", "chr3"), (128 * 9000 + 5, 128 * 4000, 128 * 500))
GRID = Grid(GENOME, 128)


def pair(seed: int, n: int, holes: float = 0.05):
    """A skewed track with ties and zeros, a prediction of it, both with NaN."""
    rng = np.random.default_rng(seed)
    rate = rng.gamma(0.3, 4, n)
    y, p = rng.poisson(rate).astype(np.float16), (rate * rng.gamma(5, 0.2, n)).astype(np.float16)
    y[rng.random(n) < holes] = np.nan
    p[rng.random(n) < holes] = np.nan
    return y, p


def reference(y, p, inside=None) -> dict:
    """All measures of the bins that count, by other people's code."""
    y, p = y.astype(np.float64), p.astype(np.float64)
    a, b = np.log2(y + 1), np.log2(p + 1)
    found = {
        "n": len(y),
        "r": stats.pearsonr(a, b).statistic,
        "r_linear": stats.pearsonr(y, p).statistic,
        "spearman": stats.spearmanr(y, p).statistic,
        "deviance_explained": d2_tweedie_score(y, np.maximum(p, 1e-6), power=1),
        "r2": r2_score(a, b),
        "mse": mean_squared_error(a, b),
    }
    if inside is not None:
        found |= {"auroc": roc_auc_score(inside, p), "auprc": average_precision_score(inside, p)}
    return found


def close(found: dict, wanted: dict, tolerance: float = 1e-9) -> None:
    assert {k: found[k] for k in wanted} == pytest.approx(wanted, rel=tolerance, abs=tolerance)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(track_sums, "CHUNK", 1000)


@pytest.mark.parametrize("seed", range(3))
def test_measures_equal_scipy_and_sklearn(seed, small_chunks):
    y, p = pair(seed, GRID.total)
    inside = (np.nan_to_num(y) + np.random.default_rng(seed).normal(0, 3, len(y)) > 4).astype("u1")
    found = measures(GRID, windows_of(GRID, GENOME.chromosomes, size=77), y, p, inside)
    keep = ~(np.isnan(y) | np.isnan(p))
    close(found, reference(y[keep], p[keep], inside[keep]))
    assert found["r_low"] < found["r"] < found["r_high"]


@pytest.mark.parametrize("low,high", [(60000, 65504), (0, 6e-8), (1, 1.001), (0, 65504)])
def test_extreme_ranges_keep_their_digits(low, high):
    rng = np.random.default_rng(0)
    y = np.where(rng.random(50_000) < 0.3, high, low).astype(np.float16)
    p = np.where(rng.random(50_000) < 0.3, y, low).astype(np.float16)
    found = measures(Grid(Genome("x", ("a",), (50_000,)), 1), whole(50_000), y, p)
    close(found, reference(y, p), 1e-6)


def whole(n: int):
    return windows_of(Grid(Genome("x", ("a",), (n,)), 1), ["a"])


@effort(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 600), max_size=8), st.randoms(use_true_random=False))
def test_sums_merged_in_any_order_equal_the_whole(cuts, dice):
    y, p = pair(1, 600)
    windows = np.repeat(np.arange(-1, 5), 100)
    inside = np.tile([0, 1, 0], 200)
    parts = np.split(np.arange(600), sorted(cuts))
    dice.shuffle(parts)
    sums = [TrackSums.of(y[i], p[i], windows[i], inside[i]) for i in parts]
    while len(sums) > 1:  # a random tree of additions
        one = sums.pop(dice.randrange(len(sums)))
        sums.append(one + sums.pop(dice.randrange(len(sums))))
    merged, once = sums[0], TrackSums.of(y, p, windows, inside)
    for name in ("windows", "low", "high", "truth", "predicted", "at_peaks"):
        assert np.array_equal(getattr(merged, name), getattr(once, name)), name
    np.testing.assert_allclose(merged.sums, once.sums, rtol=1e-12)
    products = sum(merged.rank_products(y[i], p[i], windows[i]) for i in parts)
    keep = ~(np.isnan(y) | np.isnan(p)) & (windows >= 0)
    assert merged.spearman(products) == pytest.approx(stats.spearmanr(y[keep], p[keep]).statistic)
    assert merged.r == pytest.approx(once.r, rel=1e-12)
    assert merged.ranking() == once.ranking()


@pytest.mark.parametrize("chunk", [1, 640, 5000, 1 << 20])
def test_chunk_size_changes_nothing(chunk, monkeypatch):
    y, p = pair(2, GRID.total)
    places = windows_of(GRID, ["chr1", "chr3"])
    wanted = measures(GRID, places, y, p)
    monkeypatch.setattr(track_sums, "CHUNK", chunk)
    close(measures(GRID, places, y, p), {k: v for k, v in wanted.items() if v is not None})


def test_masked_missing_and_other_parts_never_count():
    rng = np.random.default_rng(3)
    y, p = pair(3, GRID.total)
    mask = rng.choice([0, 0, 0, 1, 2, 3], GRID.total).astype(np.uint8)
    only = np.where(rng.random(GRID.total) < 0.1, np.nan, 1).astype(np.float16)
    grid, places = Grid(GENOME, 128, mask), windows_of(GRID, ["chr2"])
    wanted = measures(grid, places, y, p, only=only)
    span = np.zeros(GRID.total, bool)
    span[GRID.span("chr2")] = True
    keep = span & (mask == 0) & ~np.isnan(only) & ~np.isnan(y) & ~np.isnan(p)
    close(wanted, reference(y[keep], p[keep]))
    for vector in (y, p):
        other = vector.copy()
        other[~keep & ~np.isnan(y) & ~np.isnan(p)] = 7
        pair_ = (other, p) if vector is y else (y, other)
        assert measures(grid, places, *pair_, only=only) == wanted


def test_windows_of_a_table_decide_what_counts_and_windows_without_r_are_counted():
    y, p = pair(4, GRID.total, holes=0)
    table = pd.DataFrame(
        {"chrom": "chr2", "start": np.arange(0, 40) * 12800, "end": np.arange(0, 40) * 12800 + 6400}
    )
    places = windows_of(GRID, ["chr2"], table.sample(frac=1, random_state=0), per_block=4)
    firsts = [GRID.span("chr2").start + 100 * k for k in range(40)]
    y[firsts[3] : firsts[3] + 50] = 2  # constant
    p[firsts[4] : firsts[4] + 40] = np.nan  # 10 bins left
    found = measures(GRID, places, y, p)
    rs = [
        stats.pearsonr(
            np.log2(1 + y[f : f + 50].astype(float)), np.log2(1 + p[f : f + 50].astype(float))
        )[0]
        for k, f in enumerate(firsts)
        if k not in (3, 4)
    ]
    assert found["n"] == 40 * 50 - 40
    assert found["windows_left_out"] == 2
    assert found["window_r"] == pytest.approx(np.median(rs))


@pytest.mark.parametrize(
    "starts,ends", [([0, 640], [1280, 1920]), ([256], [256]), ([0], [128 * 4001]), ([-128], [128])]
)
def test_windows_that_overlap_or_leave_the_chromosome_are_refused(starts, ends):
    with pytest.raises(InputError, match="windows"):
        windows_of(GRID, ["chr2"], pd.DataFrame({"chrom": "chr2", "start": starts, "end": ends}))


def test_undefined_measures_are_none():
    y, _ = pair(5, GRID.total)
    places = windows_of(GRID, ["chr1"])
    constant = np.full(GRID.total, 0.7, np.float16)
    found = measures(GRID, places, y, constant, np.zeros(GRID.total, np.uint8))
    undefined = {"r", "r_low", "r_high", "r_linear", "spearman", "window_r", "auroc", "auprc"}
    assert {k for k, v in found.items() if v is None} == undefined
    y[:] = np.nan
    found = measures(GRID, places, y, constant)
    assert found.pop("n") == 0 and found.pop("windows_left_out") == 0
    assert set(found.values()) == {None}
    found = measures(GRID, places, np.zeros(GRID.total), constant)
    assert {k for k, v in found.items() if v is not None} == {"n", "mse", "windows_left_out"}


def test_the_mean_of_the_evaluated_bins_explains_no_deviance():
    y = np.tile(np.float16([0, 1, 2, 5]), 1000)
    found = measures(Grid(Genome("x", ("a",), (4000,)), 1), whole(4000), y, np.full(4000, 2.0))
    assert abs(found["deviance_explained"]) < 1e-12
    zero = measures(Grid(Genome("x", ("a",), (4000,)), 1), whole(4000), y, np.zeros(4000))
    assert -100 < zero["deviance_explained"] < 0  # the floor keeps it finite


@pytest.mark.parametrize("bad", [-1, np.inf, 1e6])
def test_values_below_zero_or_infinite_are_refused(bad):
    with pytest.raises(InputError, match="below 0 or infinite"):
        codes(np.array([1, bad, 2]))


def test_minus_zero_is_zero():
    code, known = codes(np.float16([-0.0, 0.0, np.nan, 1]))
    assert code.tolist()[:2] == [0, 0] and known.tolist() == [True, True, False, True]


def test_the_interval_resamples_blocks_so_that_autocorrelation_widens_it():
    rng = np.random.default_rng(6)
    n, length = 40_000, 100
    grid = Grid(Genome("x", ("a",), (n,)), 1)

    def width(run):
        level = np.repeat(rng.gamma(1, 1, (2, n // run)), run, axis=1)
        found = measures(grid, windows_of(grid, ["a"], size=length, per_block=10), *level)
        return found["r_high"] - found["r_low"]

    assert width(500) > 5 * width(1)
    few = windows_of(grid, ["a"], size=length, per_block=100)
    assert measures(grid, few, *rng.random((2, n)))["r_low"] is None


def test_the_interval_equals_resampling_the_bins_of_whole_blocks():
    y, p = pair(7, 2000, holes=0)
    grid = Grid(Genome("x", ("a",), (2000,)), 1)
    places = windows_of(grid, ["a"], size=50, per_block=2)
    found = TrackSums.of(y, p, np.repeat(places.starts, 50)).interval(places.blocks, 11, draws=50)
    drawn = np.random.default_rng(11).multinomial(20, np.full(20, 1 / 20), size=50)
    logs = np.log2(1 + np.stack([y, p]).astype(float))
    rs = [np.corrcoef(np.repeat(logs, np.repeat(times, 100), axis=1))[0, 1] for times in drawn]
    assert found == pytest.approx(tuple(np.percentile(rs, [2.5, 97.5])))


# ---- across tracks -------------------------------------------------------------------------------


def cells(seed: int, specific: float, n: int = 20_000, tracks: int = 5) -> np.ndarray:
    """Tracks with shared peaks, and peaks of their own of height `specific`."""
    rng = np.random.default_rng(seed)
    shared = np.where(rng.random(n) < 0.02, rng.gamma(3, 5, n), 0)
    own = np.where(rng.random((tracks, n)) < 0.01, rng.gamma(3, specific / 3, (tracks, n)), 0)
    return (shared + own + rng.random((tracks, n)) * 0.2).astype(np.float16)


def score(truth: np.ndarray, prediction: np.ndarray) -> float:
    grid = Grid(Genome("x", ("a",), (truth.shape[1],)), 1)
    bins = variable_bins(grid, windows_of(grid, ["a"]), list(truth), list(prediction))
    return float(np.nanmean(cell_r(truth[:, bins], prediction[:, bins])))


def test_cell_r_finds_who_knows_the_cell():
    truth = cells(0, 30)
    rng = np.random.default_rng(1)
    knows = (truth * rng.gamma(9, 1 / 9, truth.shape)).astype(np.float16)
    place = truth.astype(np.float64).mean(axis=0) * rng.gamma(9, 1 / 9, truth.shape)
    assert score(truth, knows) > 0.8
    assert abs(score(truth, place.astype(np.float16))) < 0.1
    assert abs(score(truth, np.roll(knows, 1, axis=0))) < 0.35  # other cells' predictions: -1/(T-1)


def test_depth_and_level_of_tracks_do_not_raise_cell_r():
    depth = np.array([[0.1], [0.5], [1], [4], [20]])
    truth = (cells(2, 30) * depth).astype(np.float16)
    rng = np.random.default_rng(3)
    place = cells(2, 30).astype(np.float64).mean(axis=0)
    noisy = place * depth * rng.gamma(9, 1 / 9, truth.shape)
    assert abs(score(truth, noisy.astype(np.float16))) < 0.1
    level_only = np.broadcast_to(depth, truth.shape).astype(np.float16)
    assert np.isnan(cell_r(truth, level_only)).all()


def test_cell_r_equals_a_loop():
    rng = np.random.default_rng(4)
    truth, prediction = rng.gamma(1, 3, (2, 4, 60)).astype(np.float16)
    prediction[2, 7] = np.nan
    keep = np.arange(60) != 7
    zs = [stats.zscore(np.log2(1 + x[:, keep].astype(float)), axis=1) for x in (truth, prediction)]
    wanted = [stats.pearsonr(zs[0][:, k], zs[1][:, k])[0] for k in range(59)]
    found = cell_r(truth, prediction)
    assert np.isnan(found[7])
    np.testing.assert_allclose(found[keep], wanted, atol=1e-9)


def test_variable_bins_equal_a_plain_selection(small_chunks):
    truth = cells(5, 20)
    truth[1, 50:90] = np.nan
    grid = Grid(Genome("x", ("a",), (20_000,)), 1, (np.arange(20_000) % 7 == 0).astype(np.uint8))
    keep = (np.arange(20_000) % 7 != 0) & ~np.isnan(truth).any(axis=0)
    limit = [np.quantile(row[keep].astype(float), 0.99, method="inverted_cdf") for row in truth]
    peaks = np.flatnonzero(keep & (truth > np.array(limit)[:, None]).any(axis=0))
    logs = np.log2(1 + truth[:, peaks].astype(float))
    deviation = (logs - logs.mean(axis=1, keepdims=True)).std(axis=0)
    wanted = np.sort(peaks[np.argsort(-deviation, kind="stable")[: -(-len(peaks) // 5)]])
    assert variable_bins(grid, windows_of(grid, ["a"]), list(truth)).tolist() == wanted.tolist()


# ---- rows ----------------------------------------------------------------------------------------


def test_rows_per_part_track_and_predictor_on_the_bins_of_the_model():
    rng = np.random.default_rng(8)
    truths = {f"t{k}": pair(k, GRID.total)[0] for k in range(3)}
    model = {
        name: (np.nan_to_num(v) + rng.random(GRID.total)).astype("f2") for name, v in truths.items()
    }
    for vector in model.values():
        vector[GRID.span("chr3")] = np.nan
        vector[:100] = np.nan
    mean = {name: np.full(GRID.total, 1.5, np.float16) for name in truths}
    some = {"t0": mean["t0"]}
    rows = metrics_rows(
        GRID,
        {"validation": ["chr1"], "test": ["chr2", "chr3"]},
        truths,
        {"m": model, "mean": mean, "some": some, "other_cells": mean},
        {"model": "m", "fold": "a"},
        peaks={"t1": (np.nan_to_num(truths["t1"]) > 5).astype(np.uint8)},
    )
    assert list(rows.columns) == list(track_metrics.COLUMNS)
    assert len(rows) == 2 * (3 + 3 + 1 + 3 + 2)
    assert rows.set_index(["part", "track", "predictor"]).index.is_unique
    at = rows.set_index(["part", "track", "predictor"])
    for part, chroms in (("validation", ["chr1"]), ("test", ["chr2"])):
        keep = np.zeros(GRID.total, bool)
        for chrom in chroms:
            keep[GRID.span(chrom)] = True
        keep &= ~np.isnan(truths["t1"]) & ~np.isnan(model["t1"])
        assert at.loc[(part, "t1", "m"), "n"] == at.loc[(part, "t1", "mean"), "n"] == keep.sum()
        assert at.loc[(part, "t1", "m"), "auroc"] > 0.95
    assert at["auroc"].notna().sum() == 6
    across = rows[rows["track"] == "across"]
    assert set(across["predictor"]) == {"m", "mean"}
    assert (across.loc[across["predictor"] == "m", "cell_r"] > 0.5).all()
    assert across.loc[across["predictor"] == "mean", "cell_r"].isna().all()
    assert across[["r", "spearman", "window_r", "mse"]].isna().all().all()


def test_test_chromosomes_of_all_folds_are_scored_together():
    y, p = pair(9, GRID.total)
    other = np.full(GRID.total, 3, np.float16)
    vector = joined(GRID, [(["chr1"], p), (["chr3"], other)])
    assert np.array_equal(vector[GRID.span("chr1")], p[GRID.span("chr1")], equal_nan=True)
    assert np.isnan(vector[GRID.span("chr2")]).all() and (vector[GRID.span("chr3")] == 3).all()
    with pytest.raises(InputError, match="chr1 is tested in two folds"):
        joined(GRID, [(["chr1"], p), (["chr3", "chr1"], p)])
