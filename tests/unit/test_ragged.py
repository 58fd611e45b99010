"""Ragged bins against loops over single bases and regions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epiloom.data.ragged import Ragged


def regions(seed: int, number: int, missing: float = 0.0) -> tuple[Ragged, list[np.ndarray]]:
    """Random regions of whole depths per base, two tracks; and the bases [length, 2] of each."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 5000, number)
    bases = [rng.poisson(3, (n, 2)).astype(np.float64) for n in lengths]
    means = [b[k : k + 100].mean(axis=0) for b in bases for k in range(0, len(b), 100)]
    values = np.array(means, np.float32).reshape(-1, 2)
    values[rng.random(len(values)) < missing] = np.nan
    return Ragged(lengths, values), bases


@given(seed=st.integers(0, 9999), number=st.integers(1, 12), size=st.sampled_from([500, 2000]))
@settings(max_examples=40, deadline=None)
def test_coarse_bins_are_means_over_bases_whatever_the_last_bins_width(seed, number, size):
    ragged, bases = regions(seed, number)
    coarse = ragged.coarsen(size)
    slow = [b[k : k + size].mean(axis=0) for b in bases for k in range(0, len(b), size)]
    np.testing.assert_allclose(coarse.values, slow, rtol=1e-5)
    assert coarse.bin_bp == size and coarse.first[-1] == len(slow)


def test_missing_bins_are_left_out_of_coarse_ones():
    values = np.array([[1.0], [np.nan], [4.0], [np.nan], [np.nan], [8.0]], np.float32)
    coarse = Ragged(np.array([540]), values).coarsen(500)
    assert coarse.values[:, 0].tolist() == [2.5, 8.0]  # (1 + 4) / 2, and 40 bases alone
    nothing = Ragged(np.array([500]), np.full((5, 1), np.nan, np.float32)).coarsen(500)
    assert np.isnan(nothing.values).all()


def test_centred_rows_put_the_odd_bin_on_the_left():
    ragged, _ = regions(1, 7)
    slots = np.array([[3, -1], [0, 6]])
    rows = ragged.centred(slots, 60)
    assert rows.shape == (2, 2, 60, 2)
    assert not rows[0, 1].any()
    for place, number in (((0, 0), 3), ((1, 0), 0), ((1, 1), 6)):
        n = -(-ragged.lengths[number] // 100)
        left = -(-(60 - n) // 2)  # ceil
        low = sum(-(-k // 100) for k in ragged.lengths[:number])
        assert np.array_equal(rows[place][left : left + n], ragged.values[low : low + n])
        assert not rows[place][:left].any() and not rows[place][left + n :].any()


def test_taking_regions_keeps_their_bins():
    ragged, _ = regions(2, 9)
    some = ragged.take(np.array([8, 2]))
    assert some.lengths.tolist() == ragged.lengths[[8, 2]].tolist()
    first = ragged.first
    expected = np.concatenate([ragged.values[first[k] : first[k + 1]] for k in (8, 2)])
    assert np.array_equal(some.values, expected)


def test_no_region_at_all():
    empty = Ragged(np.zeros(0, np.int64), np.zeros((0, 3), np.float32))
    assert empty.coarsen(500).values.shape == (0, 3)
    assert empty.centred(np.full((2, 8), -1), 20).shape == (2, 8, 20, 3)


def test_ragged_storage_is_a_fraction_of_padded():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1827, 10_600, 5800)  # as measured: mean 6.2 kb, 5.8 partners per gene
    bins = int(np.sum(-(-lengths // 100)))
    gene = (bins / 1000 + 400) * 7 * 4 / 1e3  # KB of 1,000 genes' partners and a promoter each
    assert 15 < gene < 30
    assert gene < 0.35 * 9 * 400 * 7 * 4 / 1e3


def test_bins_of_other_regions_are_refused():
    with pytest.raises(ValueError, match="1 bins for 1 regions of 2 bins"):
        Ragged(np.array([150]), np.zeros((1, 1), np.float32))
