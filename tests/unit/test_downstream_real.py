"""Downstream evaluation on real tables; expected figures from the specification of Epi-LSTM, A9.

The tables have no coordinates, so neighbouring rows are laid side by side on one chromosome.
"""

from __future__ import annotations

import pandas as pd
import pytest

from epiloom.studies.downstream import Options, evaluate
from tests.made_labels import in_a_row


def mean_ap(labels, features, scheme):
    """Predictor -> mean average precision over 20 folds, in the published settings."""
    options = Options(schemes=(scheme,), draws=10, threads=2)
    metrics = evaluate(in_a_row({"cell": labels}, ["chr1"]), features, [], options).metrics
    return metrics[metrics["fold"] == "mean"].set_index("predictor")["ap"]


@pytest.fixture(scope="module")
def expression(shared):
    table = pd.read_csv(shared / "data/epi_lstm/e017_gene_expression_24assays.tsv.gz", sep="\t")
    labels = (table["rna_signal"] >= 0.5).to_numpy()
    assert labels.mean() == pytest.approx(0.1724, abs=1e-4)
    return labels, {"assays": table.iloc[:, 1:].to_numpy("float32")}


@pytest.fixture(scope="module")
def fires(shared):
    table = pd.read_csv(shared / "data/epi_lstm/e116_fire_3000windows.tsv.gz", sep="\t")
    values = table.iloc[:, 1:].to_numpy("float32")
    assert values.shape == (3000, 122)
    return table["fire"].to_numpy(), {"marks": values[:, :12], "factors": values[:, 12:]}


@pytest.mark.parametrize(("scheme", "expected"), [("shuffled", 0.452), ("contiguous", 0.420)])
def test_expression_is_predicted_as_well_as_measured_elsewhere(expression, scheme, expected):
    found = mean_ap(*expression, scheme)
    assert found["assays"] == pytest.approx(expected, abs=0.02)
    assert found["prevalence"] == pytest.approx(0.1724, abs=0.001)


@pytest.mark.parametrize(
    ("scheme", "marks", "factors"),
    # of the contiguous folds those without a FIRE in test or validation are left out (8 of 20)
    [("shuffled", 0.415, 0.489), ("contiguous", 0.425, 0.393)],
)
def test_fires_are_predicted_as_well_as_measured_elsewhere(fires, scheme, marks, factors):
    found = mean_ap(*fires, scheme)
    assert found["marks"] == pytest.approx(marks, abs=0.06)
    assert found["factors"] == pytest.approx(factors, abs=0.06)
