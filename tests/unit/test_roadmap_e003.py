"""Real Roadmap read depth of H1 cells: the promoter model's published input, and what it tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import roc_auc_score

from epiloom.data.genes import promoter_features
from epiloom.data.genome import read_chrom_sizes
from epiloom.data.signal import TRANSFORMS, window_means

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.exists(), reason="shared data not here")
E003 = DATA / "roadmap_e003"

# Mean of the 60 bins of ln(1 + depth) against expression: Pearson, Spearman, area under the curve.
ACTIVITY = {
    "H3K4me1": (0.1804, 0.2176, 0.5725),
    "H3K4me3": (0.6502, 0.6713, 0.8430),
    "H3K9me3": (0.0371, 0.0008, 0.5207),
    "H3K27me3": (-0.1890, -0.0691, 0.4255),
    "H3K36me3": (0.4594, 0.5126, 0.7680),
    "H3K27ac": (0.5861, 0.6720, 0.8458),
    "H3K9ac": (0.7014, 0.7392, 0.8848),
}


@pytest.fixture(scope="module")
def genes():
    return pd.read_csv(E003 / "genes.tsv", sep="\t")


@pytest.fixture(scope="module")
def features(genes):
    """ln(1 + mean depth) of the 6 kb around each start site, per mark [genes, 60]."""
    found = {}
    for mark in ACTIVITY:
        raw = window_means(
            E003 / f"E003-{mark}.depth.bw",
            genes["chrom"],
            genes["tss_start"] - 3000,
            genes["strand"],
            6000,
            100,
        )
        found[mark] = TRANSFORMS["log1p"].forward(raw)
    return found


def test_all_700_published_rows_are_reproduced_on_both_strands(genes, features):
    golden = pd.read_csv(E003 / "golden_promoter_6kb_100bp.tsv.gz", sep="\t")
    assert len(golden) == 700
    assert set(genes["strand"]) == {"+", "-"}
    for mark, rows in golden.groupby("mark"):
        rows = rows.set_index("gene_id").loc[genes["gene_id"]].filter(like="bin").to_numpy()
        assert rows.shape == (100, 60)
        # The table has six decimals, so half a unit of the last adds to what is compared.
        np.testing.assert_allclose(features[mark], rows, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mark", ACTIVITY)
def test_histone_mark_activity_tells_expression_as_well_as_published(genes, features, mark):
    activity = features[mark].mean(axis=1, dtype=np.float64)
    y = genes["log2_rpkm_plus1"]
    found = (
        pearsonr(activity, y)[0],
        spearmanr(activity, y)[0],
        roc_auc_score(genes["label"], activity),
    )
    np.testing.assert_allclose(found, ACTIVITY[mark], rtol=0, atol=1e-4)


def test_the_centre_of_the_40_kb_features_is_the_6_kb_window(genes, features):
    genome = read_chrom_sizes(DATA / "reference" / "hg19.chrom.sizes", "hg19")
    table = genes.rename(columns={"tss_start": "tss"})
    wide = promoter_features(E003 / "E003-H3K9ac.depth.bw", table, genome)
    assert wide.shape == (100, 400)
    assert not np.isnan(wide).any()
    np.testing.assert_array_equal(np.log1p(wide[:, 170:230]), features["H3K9ac"])
