"""Groups of cells as in the paper, and the comparison of groups against counting by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from epiloom.plan.tracks import read_table
from epiloom.studies import groups

ROOT = Path(__file__).resolve().parents[2]

PAPER = {  # section 2 of the study: cell -> group
    **{"E003": "ESC", "E016": "ESC"},
    **dict.fromkeys(("E004", "E005", "E006", "E007"), "ESC derived"),
    **dict.fromkeys(("E066", "E087", "E116"), "primary tissue"),
    **dict.fromkeys(("E114", "E118"), "cancer line"),
}


def test_the_cells_of_the_paper_are_in_its_groups():
    cells = read_table(ROOT / "config/cells.tsv", "cell")
    assert {cell: groups.group_of(cells[cell]) for cell in PAPER} == PAPER


def test_every_other_cell_has_a_group_too():
    cells = read_table(ROOT / "config/cells.tsv", "cell")
    found = pd.Series({cell: groups.group_of(row) for cell, row in cells.items()})
    cancer = {"E114", "E115", "E117", "E118", "E123"}
    assert set(found[found == "cancer line"].index) == cancer
    assert (found["E017"], found["E018"], found["E024"]) == ("primary tissue", "iPSC", "ESC")
    assert groups.group_of(None) == "own"
    assert set(found) | {"own"} == set(groups.GROUPS)


def test_benjamini_hochberg_agrees_with_a_worked_example():
    # sorted p x 5 / rank = .005, .05, .066667, .0625, .6; the third is lowered to the fourth
    found = groups.benjamini_hochberg([0.04, 0.001, 0.6, 0.02, 0.05])
    np.testing.assert_allclose(found, [0.0625, 0.005, 0.6, 0.05, 0.0625])
    p = np.random.default_rng(0).uniform(size=50) ** 2
    expected = stats.false_discovery_control(p)
    np.testing.assert_allclose(groups.benjamini_hochberg(p), expected)
    assert len(groups.benjamini_hochberg([])) == 0


def test_mann_whitney_agrees_with_counting_pairs():
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 9, 40).astype(float), rng.integers(2, 12, 30).astype(float)
    found = groups.mann_whitney(a, b)
    u = sum((x > y) + (x == y) / 2 for x in a for y in b)
    assert found["u"] == u and found["auc"] == u / 1200
    assert found["rank_biserial"] == pytest.approx(2 * u / 1200 - 1)
    assert found["p"] == stats.mannwhitneyu(a, b, method="asymptotic").pvalue
    equal = groups.mann_whitney(np.ones(5), np.ones(7))
    assert equal == {"u": 17.5, "auc": 0.5, "rank_biserial": 0.0, "p": 1.0}
    apart = groups.mann_whitney(np.arange(9000.0), np.arange(9000.0) + 1e5)
    assert apart["rank_biserial"] == -1 and 0 < apart["p"] <= groups.SMALLEST_P


def test_groups_are_compared_pair_by_pair_and_two_by_two():
    rng = np.random.default_rng(3)
    names = ["ESC", "ESC derived", "primary tissue", "cancer line", "own"]
    table = pd.DataFrame(
        {
            **{"group": np.repeat(names, 60), "mark": "H3K9ac", "label": np.tile([0, 1], 150)},
            "activity_6kb": rng.normal(size=300) + np.repeat([0, 0, 1, 1, 5], 60),
        }
    )
    table.loc[0, "activity_6kb"] = np.nan
    found = groups.compare(table, ["activity_6kb"])
    assert list(found.columns) == list(groups.COLUMNS)
    assert found.groupby("grouping").size().to_dict() == {"four": 10 * 3, "two": 3}
    for _, part in found.groupby("grouping"):
        np.testing.assert_allclose(part["q"], stats.false_discovery_control(part["p"]))
    row = found[(found["grouping"] == "two") & (found["genes"] == "expressed")].iloc[0]
    keep = table["label"] == 1
    left = table[keep & table["group"].isin(["ESC", "ESC derived"])]["activity_6kb"]
    right = table[keep & table["group"].isin(["primary tissue", "cancer line"])]["activity_6kb"]
    assert (row["group_a"], row["group_b"]) == ("ESC or derived", "other")
    assert (row["n_a"], row["n_b"]) == (60, 60)
    assert row["p"] == stats.mannwhitneyu(left, right, method="asymptotic").pvalue
    assert (row["median_a"], row["median_b"]) == (left.median(), right.median())
    everything = found[(found["grouping"] == "four") & (found["genes"] == "all")].iloc[0]
    assert everything["n_a"] == 59  # the gene without a value is left out


def test_one_group_alone_gives_a_header_only():
    table = pd.DataFrame({"group": ["ESC"] * 4, "mark": "H3K9ac", "label": 1, "x": range(4)})
    found = groups.compare(table, ["x"])
    assert found.empty and list(found.columns) == list(groups.COLUMNS)
