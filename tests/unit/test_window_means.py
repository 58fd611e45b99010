"""Means over windows against a loop over bins."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epiloom.data import window_means as module
from epiloom.data.window_means import window_bins, window_means
from epiloom.plan.errors import InputError


def by_loop(values, windows, bin_bp, usable=None):
    """The same, one window and column at a time, straight from the definition."""
    found = np.full((len(windows), values.shape[1]), np.nan, np.float32)
    for i, (start, end) in enumerate(windows):
        touched = [b for b in range(len(values)) if b * bin_bp < end and (b + 1) * bin_bp > start]
        for c in range(values.shape[1]):
            seen = [
                float(values[b, c])
                for b in touched
                if not np.isnan(values[b, c]) and (usable is None or usable[b])
            ]
            if seen:
                found[i, c] = sum(seen) / len(seen)
    return found


@given(
    seed=st.integers(0, 9999),
    bins=st.integers(1, 60),
    n=st.integers(0, 12),
    bin_bp=st.sampled_from([1, 7, 25]),
    block=st.sampled_from([1, 5, 64, 10_000]),
    masked=st.booleans(),
)
@settings(max_examples=150)
def test_means_equal_a_loop_over_bins(seed, bins, n, bin_bp, block, masked):
    rng = np.random.default_rng(seed)
    values = rng.integers(-1000, 1000, (bins, 3)).astype(np.float32)  # whole numbers: sums exact
    values[rng.random(values.shape) < 0.2] = np.nan
    usable = rng.random(bins) < 0.7 if masked else None
    start = rng.integers(0, bins * bin_bp, n)  # ends may lie beyond the chromosome
    windows = np.stack([start, start + rng.integers(1, bins * bin_bp + 30, n)], axis=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        found = window_means(values, windows, bin_bp, usable)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, by_loop(values, windows, bin_bp, usable))


def test_a_window_covers_every_bin_it_touches():
    windows = np.array([[0, 25], [24, 26], [25, 50], [49, 51], [10, 11]])
    assert window_bins(windows, 25).tolist() == [[0, 1], [0, 2], [1, 2], [1, 3], [0, 1]]
    values = np.array([[1.0], [3.0], [8.0]], np.float32)
    assert window_means(values, windows, 25)[:, 0].tolist() == [1, 2, 3, 5.5, 1]


def test_windows_within_windows_lose_nothing_and_order_does_not_matter():
    values = np.arange(100, dtype=np.float32)[:, None]
    windows = np.array([[0, 2500], [500, 1000], [500, 1000], [0, 2500], [2475, 2500]])
    found = window_means(values, windows, 25)[:, 0]
    assert found.tolist() == [49.5, 29.5, 29.5, 49.5, 99]
    order = np.array([4, 2, 0, 1, 3])
    np.testing.assert_array_equal(window_means(values, windows[order], 25)[:, 0], found[order])


def test_windows_beyond_the_annotation_have_no_mean():
    values = np.ones((4, 2), np.float32)
    found = window_means(values, np.array([[75, 200], [100, 150]]), 25)
    assert found[0].tolist() == [1, 1] and np.isnan(found[1]).all()
    assert window_means(values, np.zeros((0, 2), np.int64), 25).shape == (0, 2)
    assert np.isnan(window_means(values[:0], np.array([[0, 25]]), 25)).all()


def test_small_values_keep_their_digits_far_down_a_chromosome():
    values = np.full((400_000, 1), 1000, np.float32)
    values[-10:] = 1e-3
    found = window_means(values, np.array([[399_990 * 25, 400_000 * 25]]), 25)
    np.testing.assert_allclose(found, 1e-3, rtol=1e-4)


def test_a_memory_map_is_read_block_by_block(tmp_path, monkeypatch):
    values = np.random.default_rng(0).normal(size=(5_000, 24)).astype(np.float32)
    np.save(tmp_path / "chr21.npy", values)
    on_disk = np.load(tmp_path / "chr21.npy", mmap_mode="r")
    start = np.random.default_rng(1).integers(0, 120_000, 300)
    windows = np.stack([start, start + 5_000], axis=1)
    expected = window_means(values, windows, 25)
    monkeypatch.setattr(module, "_BLOCK", 24 * 13)
    np.testing.assert_allclose(window_means(on_disk, windows, 25), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "windows", "bin_bp", "usable", "match"),
    [
        (np.ones((4, 1)), [[5, 5]], 25, None, "no base"),
        (np.ones((4, 1)), [[-1, 5]], 25, None, "before base 0"),
        (np.ones((4, 1)), [[0, 5]], 0, None, "bin_bp: 0"),
        (np.array([[1.0], [np.inf]]), [[0, 50]], 25, None, "infinite"),
        (np.ones((4, 1)), [[0, 5]], 25, np.ones(3, bool), "3 marks of usable bins for 4"),
    ],
)
def test_what_is_no_window_is_refused(values, windows, bin_bp, usable, match):
    with pytest.raises(InputError, match=match):
        window_means(values, np.array(windows), bin_bp, usable)


def test_every_gene_of_chromosome_21_gets_features(shared):
    """Genes covered by later ones vanish from per-bin label arrays; here all 695 have a mean."""
    genes = pd.read_csv(shared / "data/epi_lstm/chr21_genes_25bp.tsv", sep="\t")
    first, behind = genes["start_bin"].to_numpy(), genes["end_bin"].to_numpy() + 1
    bins = int(behind.max())
    values = np.random.default_rng(0).normal(size=(bins, 2)).astype(np.float32)
    found = window_means(values, np.stack([first * 25, behind * 25], axis=1), 25)
    assert found.shape == (695, 2) and np.isfinite(found).all()
    slow = [values[a:b].mean(axis=0, dtype=np.float64) for a, b in zip(first, behind, strict=True)]
    np.testing.assert_allclose(found, slow, atol=1e-6)
