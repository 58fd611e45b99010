"""Random draws, deciles and corrected p-values against their known distributions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from epiloom.studies import enrichment


def test_draws_follow_the_distribution_of_shuffled_bins():
    rng = np.random.default_rng(1)
    hits = rng.choice([0, 0, 0, 0, 0, 1, 1, 2, 3], 900)
    fast = enrichment.random_hits(hits, 90, 6_000, np.random.default_rng(2), chunk=1_000)
    slow = np.array([rng.choice(hits, 90, replace=False).sum() for _ in range(6_000)])
    assert stats.ks_2samp(fast, slow).pvalue > 0.01
    n, part = len(hits), 90
    assert fast.mean() == pytest.approx(part * hits.mean(), rel=0.01)
    exact = part * hits.var() * (n - part) / (n - 1)
    assert fast.var() == pytest.approx(exact, rel=0.06)
    one = enrichment.random_hits((hits > 0).astype(int), 90, 6_000, np.random.default_rng(3))
    law = stats.hypergeom(n, int((hits > 0).sum()), 90)
    assert one.mean() == pytest.approx(law.mean(), rel=0.01)


def test_deciles_are_equal_in_size_within_each_side_and_ties_are_random():
    rng = np.random.default_rng(0)
    effect, side = rng.random(1_000), np.repeat(["up", "down"], [430, 570])
    place = enrichment.deciles(effect, side, rng)
    for name, count in (("up", 43), ("down", 57)):
        here = side == name
        assert np.bincount(place[here])[1:].tolist() == [count] * 10
        low, high = effect[here & (place == 9)], effect[here & (place == 10)]
        assert low.max() <= high.min()
    flat = enrichment.deciles(np.zeros(1_000), side, rng)
    middle = np.flatnonzero(flat[:430] == 10).mean()
    assert 150 < middle < 280


def test_q_is_corrected_over_sets_within_a_decile():
    rows = [
        {"cells": f"E{i}", "predictor": "perturbation", "decile": d, "p": p}
        for i, row in enumerate([(0.01, 0.5), (0.02, 0.5), (np.nan, 0.04), (0.9, 0.8)])
        for d, p in enumerate(row, 1)
    ]
    table = enrichment.as_table(rows)
    first = table[table["decile"] == 1]["q"].to_numpy()
    assert first[[0, 1, 3]] == pytest.approx([0.03, 0.03, 0.9]) and np.isnan(first[2])
    second = table[table["decile"] == 2]["q"].to_numpy()
    assert second == pytest.approx(stats.false_discovery_control([0.5, 0.5, 0.04, 0.8]))
