"""Baselines are fitted on training genes alone, over the windows of the paper."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from epiloom.learn.baselines import WINDOWS, activity, baselines
from epiloom.learn.examples import PromoterTable
from tests.models.small import settings

SHARED = Path(__file__).resolve().parents[3] / "shared"


def write_run(folder: Path, signals: list[np.ndarray], rpkm: np.ndarray) -> dict:
    number = len(rpkm)
    names = [f"g{k}" for k in range(number)]
    chroms = [f"chr{1 + 4 * k // number}" for k in range(number)]
    pd.DataFrame({"gene_id": names, "chrom": chroms}).to_csv(
        folder / "genes.tsv", sep="\t", index=False
    )
    pd.DataFrame({"gene_id": names, "E116": rpkm}).to_csv(
        folder / "expression.tsv", sep="\t", index=False
    )
    paths = []
    for k, signal in enumerate(signals):
        np.save(folder / f"{k}.npy", signal.astype(np.float32))
        paths.append(folder / f"{k}.npy")
    return {
        "genes": folder / "genes.tsv",
        "expression": folder / "expression.tsv",
        "features": paths,
    }


def measured(table: pd.DataFrame, predictor: str, part: str = "test") -> float:
    rows = table[(table["predictor"] == predictor) & (table["part"] == part)]
    return stats.pearsonr(rows["y"], rows["y_hat"]).statistic


def test_windows_are_centred_on_the_tss_as_in_the_paper():
    inside = {name: (w.start - 170, w.stop - 171) for name, w in WINDOWS.items()}
    assert inside["activity_6kb"] == (0, 59)
    assert inside["activity_3kb"] == (15, 44)
    assert inside["activity_1.5kb"] == (22, 36)
    assert (WINDOWS["activity_40kb"].start, WINDOWS["activity_40kb"].stop) == (0, 400)


def test_activity_is_the_mean_of_transformed_bins_that_are_there(tmp_path):
    rng = np.random.default_rng(0)
    signal = rng.gamma(1, 3, size=(40, 400))
    signal[3, 171:173] = np.nan
    files = write_run(tmp_path, [signal], rng.gamma(1, 3, 40))
    table = PromoterTable.read(settings(max_missing=0.5), files)
    found = activity(table, WINDOWS["activity_6kb"])
    expected = np.nanmean(np.log1p(signal[:, 170:230].astype(np.float32)), axis=1)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-6)


def test_a_line_through_training_genes_keeps_the_sign_of_r(tmp_path):
    rng = np.random.default_rng(1)
    level = rng.uniform(0, 4, 400)
    signal = np.expm1(level)[:, None] * np.ones(400)
    files = write_run(tmp_path, [signal], np.exp2(8 - 1.5 * level + rng.normal(size=400) / 5))
    table = baselines(settings(), files)
    assert list(table.columns) == ["gene_id", "chrom", "part", "predictor", "y", "y_hat"]
    assert set(table["part"]) == {"validation", "test"}
    assert set(table["predictor"]) == {*WINDOWS, "ridge_6kb"}
    assert (table.groupby(["predictor", "part"]).size() == 100).all()
    for predictor in (*WINDOWS, "ridge_6kb"):  # a repressive mark: y_hat falls with the signal
        assert measured(table, predictor) > 0.95

    flipped = np.where(np.arange(400)[:, None] < 200, np.expm1(4 - level)[:, None], signal)
    (tmp_path / "flipped").mkdir()
    rpkm = pd.read_csv(tmp_path / "expression.tsv", sep="\t")["E116"].to_numpy()
    files = write_run(tmp_path / "flipped", [flipped], rpkm)
    # test genes follow the opposite rule: were they looked at, r would be positive
    assert measured(baselines(settings(), files), "activity_6kb") < -0.95


def test_several_marks_are_regressed_together_and_ridge_finds_the_bins(tmp_path):
    rng = np.random.default_rng(2)
    one, two = rng.gamma(2, 1, size=(2, 800, 400))
    activities = [np.log1p(m[:, 170:230]).mean(1) for m in (one, two)]
    y = (
        5
        + 30 * (activities[0] - activities[0].mean())
        - 30 * (activities[1] - activities[1].mean())
    )
    y += 2 * (np.log1p(one[:, 200]) - np.log1p(one[:, 175]))
    files = write_run(tmp_path, [one, two], np.maximum(0, np.exp2(np.clip(y, 0, 15)) - 1))
    table = baselines(settings(marks=["A", "B"]), files)
    assert measured(table, "activity_6kb") > 0.7
    assert measured(table, "ridge_6kb") > max(0.95, measured(table, "activity_6kb"))


def test_a_gene_without_signal_gets_the_mean_and_is_counted(tmp_path, caplog):
    rng = np.random.default_rng(3)
    signal = rng.gamma(1, 3, size=(80, 400))
    signal[25, 192:207] = np.nan
    files = write_run(tmp_path, [signal], rng.gamma(1, 3, 80))
    with caplog.at_level("WARNING", logger="epiloom"):
        table = baselines(settings(max_missing=0.5), files)
    assert "activity_1.5kb: no signal in the window of 1 genes" in caplog.text
    assert np.isfinite(table["y_hat"]).all() and "g25" in set(table["gene_id"])


@pytest.mark.skipif(not SHARED.exists(), reason="shared data not here")
def test_activity_of_real_genes_has_the_known_correlations():
    """100 genes of E003; values published with the data."""
    folder = SHARED / "data/roadmap_e003"
    bins = pd.read_csv(folder / "golden_promoter_6kb_100bp.tsv.gz", sep="\t")
    genes = pd.read_csv(folder / "genes.tsv", sep="\t").set_index("gene_id")
    known = {"H3K9ac": 0.7014, "H3K4me3": 0.6502, "H3K27me3": -0.1890, "H3K9me3": 0.0371}
    for mark, r in known.items():
        rows = bins[bins["mark"] == mark]
        raw = np.full((len(rows), 400), np.nan, np.float32)
        raw[:, 170:230] = np.expm1(rows.filter(like="bin").to_numpy())
        names = rows["gene_id"].to_numpy()
        table = PromoterTable(
            *(names, names, names, [raw], genes.loc[names, "log2_rpkm_plus1"].to_numpy()),
            *(slice(170, 230), "log1p", 0.0),
        )
        found = activity(table, WINDOWS["activity_6kb"])[:, 0]
        assert abs(np.corrcoef(found, table.expression)[0, 1] - r) < 1e-4
