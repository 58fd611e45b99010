"""Analyses of a latent annotation, each against a slow reference written on its own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from epiloom.data.sequence import encode
from epiloom.plan.errors import InputError
from epiloom.studies import annotation, annotation_places
from epiloom.studies.annotation import (
    attribution,
    conservation_of_bins,
    correlations,
    gc_of_bins,
    smoothness,
    usable_bins,
)
from epiloom.studies.annotation_places import CLASSES, UNUSABLE, classes_of_bins, positions


def made(sizes: dict[str, int], latents: int = 3, seed: int = 1) -> tuple[dict, dict]:
    """Random walks with an offset, and bins of which some cannot be used."""
    draw = np.random.default_rng(seed)
    values, usable = {}, {}
    for chrom, bins in sizes.items():
        walk = 0.1 * draw.normal(size=(bins, latents)).cumsum(axis=0) + draw.normal(size=latents)
        values[chrom] = walk.astype(np.float32)
        usable[chrom] = draw.random(bins) > 0.2
    return values, usable


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks far shorter than a chromosome, so that their seams are tested too."""
    monkeypatch.setattr(annotation, "BLOCK", 37)


# --- smoothness ----------------------------------------------------------------------------------


def slow_smoothness(values: dict, usable: dict, lag: int) -> tuple[float, int]:
    """Collects every pair in a list and asks numpy for r."""
    pairs = [
        (values[chrom][i], values[chrom][i + lag])
        for chrom in values
        for i in range(len(values[chrom]) - lag)
        if usable[chrom][i] and usable[chrom][i + lag]
    ]
    if len(pairs) < 3:
        return np.nan, len(pairs)
    a, b = (np.array(side, np.float64) for side in zip(*pairs, strict=True))
    squares = [np.corrcoef(x, y)[0, 1] ** 2 for x, y in zip(a.T, b.T, strict=True)]
    return float(np.mean(squares)), len(pairs)


def test_smoothness_is_that_of_all_usable_pairs_of_all_chromosomes(small_blocks):
    values, usable = made({"chr1": 200, "chr2": 90, "chr3": 3})
    table = smoothness(values, usable, (1, 4, 36, 37, 38, 100, 199, 500))
    for row in table.itertuples():
        r2, pairs = slow_smoothness(values, usable, row.lag)
        assert (row.pairs, row.bp) == (pairs, 25 * row.lag)
        assert row.r2 == pytest.approx(r2, abs=1e-9, nan_ok=True)
    assert table["r2"].isna().tolist()[-1]


def test_white_noise_is_not_smooth_and_a_slow_process_is():
    draw = np.random.default_rng(0)
    noise = draw.normal(size=(20_000, 4))
    slow = np.zeros((20_000, 4))
    for i in range(1, len(slow)):
        slow[i] = 0.99 * slow[i - 1] + noise[i]
    everywhere = {"chr1": np.ones(len(slow), bool)}
    assert smoothness({"chr1": noise}, everywhere, (1,))["r2"][0] < 0.01
    assert smoothness({"chr1": slow}, everywhere, (1,))["r2"][0] > 0.95


def test_a_latent_that_never_varies_is_left_out_and_counted():
    values, usable = made({"chr1": 300})
    stuck = {"chr1": np.column_stack([values["chr1"], np.full(300, 0.3, np.float32)])}
    one, two = smoothness(values, usable, (1, 5)), smoothness(stuck, usable, (1, 5))
    np.testing.assert_allclose(one["r2"], two["r2"], rtol=1e-12)
    assert two["latents"].tolist() == [3, 3]


def test_bins_that_cannot_be_used_may_hold_anything():
    values, usable = made({"chr1": 300})
    spoiled = {"chr1": np.where(usable["chr1"][:, None], values["chr1"], np.nan)}
    pd.testing.assert_frame_equal(smoothness(values, usable), smoothness(spoiled, usable))


def test_what_does_not_fit_is_refused_all_at_once():
    values, usable = made({"chr1": 50, "chr2": 40})
    values["chr2"] = values["chr2"][:, :2]
    with pytest.raises(InputError) as error:
        smoothness(values, {"chr1": usable["chr1"][:-1]})
    assert len(error.value.problems) == 3
    with pytest.raises(InputError, match="no chromosome"):
        smoothness({}, {})
    with pytest.raises(InputError, match="no distance"):
        smoothness(*made({"chr1": 50}), (0,))
    values, usable = made({"chr1": 50})
    values["chr1"][7], usable["chr1"][7] = np.nan, True
    with pytest.raises(InputError, match="bin 7 is usable but not finite"):
        smoothness(values, usable)


def test_no_usable_bin_gives_no_number():
    values, usable = made({"chr1": 50})
    table = smoothness(values, {"chr1": np.zeros(50, bool)}, (1,))
    assert np.isnan(table["r2"][0]) and table["pairs"][0] == 0


# --- GC and conservation -------------------------------------------------------------------------


def test_gc_counts_called_bases_only_and_lower_case_like_upper_case():
    text = "GCgcGCgcGC" + "ATatATatAT" + "NNnnN" + 25 * "N" + 25 * "g" + "ACGT"
    np.testing.assert_array_equal(gc_of_bins(encode(text)), [0.5, np.nan, 1])


def test_gc_and_conservation_of_bins_equal_those_counted_base_by_base(small_blocks):
    draw = np.random.default_rng(2)
    bases, stored = draw.integers(0, 5, 2_510), draw.integers(0, 256, 2_510).astype(np.uint8)
    gc, conservation = gc_of_bins(bases.astype(np.uint8)), conservation_of_bins(stored)
    assert len(gc) == len(conservation) == 100
    for i in range(100):
        own = [b for b in bases[25 * i : 25 * i + 25] if b < 4]
        assert gc[i] == pytest.approx(sum(b in (1, 2) for b in own) / len(own))
        assert conservation[i] == pytest.approx(sum(map(int, stored[25 * i : 25 * i + 25])) / 6375)


def test_correlations_are_those_of_the_usable_bins_of_all_chromosomes(small_blocks):
    values, usable = made({"chr1": 200, "chr2": 90})
    draw = np.random.default_rng(4)
    about = {name: {c: draw.random(len(v)) for c, v in values.items()} for name in ("gc", "cons")}
    about["gc"]["chr1"][::3] = np.nan
    table = correlations(values, usable, about)
    assert list(table.columns) == ["latent", "value", "r", "bins"] and len(table) == 6
    for row in table.itertuples():
        pairs = [
            (values[c][i, row.latent - 1], x)
            for c in values
            for i, x in enumerate(about[row.value][c])
            if usable[c][i] and x == x
        ]
        assert row.bins == len(pairs)
        assert row.r == pytest.approx(np.corrcoef(np.array(pairs, np.float64).T)[0, 1], abs=1e-9)


def test_properties_may_cover_more_chromosomes_but_not_fewer():
    values, usable = made({"chr1": 60})
    whole = correlations(values, usable, {"gc": {"chr1": np.arange(60.0), "chr2": np.ones(5)}})
    assert whole["bins"].nunique() == 1
    with pytest.raises(InputError, match="gc of chr1 is missing"):
        correlations(values, usable, {"gc": {}})


def test_any_flag_of_the_mask_takes_a_bin_out():
    flags = np.array([0, 1, 2, 3, 8, 11], np.uint8)
    assert usable_bins(flags).tolist() == [True] + 5 * [False]


# --- positions -----------------------------------------------------------------------------------


def genes() -> pd.DataFrame:
    return pd.DataFrame(
        {"chrom": ["chr1", "chr1", "chr2"], "tss": [2_000, 7_990, 30],
         "gene_start": [2_000, 3_000, np.nan], "gene_end": [4_010, 7_991, np.nan]}
    )  # fmt: skip


def test_classes_of_bins_equal_those_asked_base_by_base():
    usable = {"chr1": np.arange(400) % 7 > 0, "chr2": np.ones(60, bool), "chr3": np.ones(5, bool)}
    found = classes_of_bins(genes(), usable)
    for chrom, keep in usable.items():
        own = genes()[genes()["chrom"] == chrom]
        for i, code in enumerate(found[chrom]):
            bases = range(25 * i, 25 * i + 25)
            if not keep[i]:
                assert code == UNUSABLE
                continue
            near = any(abs(b - tss) <= 1000 for tss in own["tss"] for b in bases)
            inside = any(
                low <= b < high
                for low, high in zip(own["gene_start"], own["gene_end"], strict=True)
                for b in bases
            )
            assert CLASSES[code] == CLASSES[0 if near else 1 if inside else 2]


def clouds(bins: int = 3_000) -> tuple[dict, dict]:
    """Two chromosomes in three clouds far apart, one per class, and some unusable bins."""
    draw = np.random.default_rng(5)
    centres = np.array([[3.0, 0, 0, 0], [0, 3, 0, 0], [-3, -3, 0, 0]])
    values, classes = {}, {}
    for chrom, count in (("chr1", bins), ("chr2", bins // 3)):
        code = draw.choice(3, count, p=[0.02, 0.38, 0.6]).astype(np.uint8)
        values[chrom] = (centres[code] + 0.1 * draw.normal(size=(count, 4))).astype(np.float32)
        code[::10], values[chrom][::10] = UNUSABLE, np.nan
        classes[chrom] = code
    return values, classes


def test_the_sample_is_balanced_and_true_to_its_bins():
    values, classes = clouds()
    found = positions(values, classes, seed=3, at_most=150, clusters=3)
    table = found.table
    assert table.groupby("class").size().to_dict() == dict.fromkeys(CLASSES, 50)
    assert not table.duplicated(["chrom", "bin"]).any() and set(table["chrom"]) == set(values)
    assert (table["start"] == 25 * table["bin"]).all()
    for row in table.itertuples():
        assert CLASSES[classes[row.chrom][row.bin]] == row[table.columns.get_loc("class") + 1]
    assert (table.groupby("class")["cluster"].nunique() == 1).all()
    assert table["cluster"].nunique() == 3


def test_axes_and_explained_shares_are_those_of_the_covariance():
    values, classes = clouds()
    found = positions(values, classes, seed=3, at_most=300)
    rows = [values[r.chrom][r.bin].astype(np.float64) for r in found.table.itertuples()]
    centred = np.array(rows) - np.mean(rows, axis=0)
    size, turned = np.linalg.eigh(centred.T @ centred)
    np.testing.assert_allclose(found.explained, (size / size.sum())[:-3:-1], rtol=1e-9)
    for k, name in ((1, "pc1"), (2, "pc2")):
        np.testing.assert_allclose(np.abs(centred @ turned[:, -k]), found.table[name].abs())


def test_small_classes_are_taken_whole_and_the_seed_decides_the_rest():
    values, classes = clouds()
    few = sum(int((code == 0).sum()) for code in classes.values())
    one, two = (positions(values, classes, seed=1, at_most=3 * few + 60).table for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    assert (one["class"] == CLASSES[0]).sum() == few
    other = positions(values, classes, seed=2, at_most=3 * few + 60).table
    assert not one["bin"].equals(other["bin"])


def test_clusters_are_numbered_by_size():
    values, classes = clouds()
    sizes = positions(values, classes, seed=1, at_most=900).table["cluster"].value_counts()
    assert sizes.sort_index().is_monotonic_decreasing


def test_one_latent_few_bins_and_no_bins():
    one = {"chr1": np.array([[0.1], [0.1], [0.4], [0.2]], np.float32)}
    found = positions(one, {"chr1": np.array([0, 1, 2, 2], np.uint8)}, seed=0)
    assert found.explained == (pytest.approx(1), 0) and (found.table["pc2"] == 0).all()
    assert found.table["cluster"].max() == 3
    with pytest.raises(InputError, match="0 bins to draw from"):
        positions(one, {"chr1": np.full(4, UNUSABLE, np.uint8)}, seed=0)


def test_a_flat_annotation_has_one_cluster_and_no_variance(recwarn):
    flat = {"chr1": np.full((9, 3), 0.5, np.float32)}
    found = positions(flat, {"chr1": np.arange(9, dtype=np.uint8) % 3}, seed=0)
    assert found.explained == (0, 0) and set(found.table["cluster"]) == {1}
    assert not recwarn.list


# --- attribution ---------------------------------------------------------------------------------

CHANNELS = ["E003-H3K4me1.pval", "E003-H2A.Z.pval", "E116-H3K4me1.pval", "own_1-DNase.depth"]


def test_attribution_adds_up_by_assay_and_by_epigenome():
    values = np.random.default_rng(6).gamma(1, size=(20, 4))
    table = attribution(values, CHANNELS)
    weight = [sum(row[k] for row in values) for k in range(4)]
    found = {(r.kind, r.name): (r.share, r.channels) for r in table.itertuples(index=False)}
    whole = {("assay", "H3K4me1"): (0, 2), ("assay", "H2A.Z"): (1,), ("assay", "DNase"): (3,)}
    whole |= {("epigenome", "E003"): (0, 1), ("epigenome", "E116"): (2,)}
    whole |= {("epigenome", "own_1"): (3,)}
    assert set(found) == set(whole)
    for key, parts in whole.items():
        share = sum(weight[k] for k in parts) / sum(weight)
        assert found[key] == (pytest.approx(share), len(parts))
    for _, rows in table.groupby("kind"):
        assert rows["share"].sum() == pytest.approx(1) and rows["share"].is_monotonic_decreasing
    pd.testing.assert_frame_equal(table, attribution(values.mean(axis=0), CHANNELS))


@pytest.mark.parametrize(
    ("channel", "parts"),
    [
        ("E003-H2A.Z.pval", ("E003", "H2A.Z")),
        ("E003-H2A.Z", ("E003", "H2A.Z")),
        ("E001-H3K4me1.pval.signal.bigwig", ("E001", "H3K4me1")),
        ("E017-DNase.fold_change", ("E017", "DNase")),
    ],
)
def test_names_of_channels_are_taken_apart_at_the_right_dot(channel, parts):
    assert annotation.parts_of(channel) == parts


@pytest.mark.parametrize(
    ("values", "channels", "message"),
    [
        (np.ones((3, 2)), CHANNELS, "give \\[n, channels\\]"),
        (-np.ones(4), CHANNELS, "negative"),
        (np.zeros((2, 4)), CHANNELS, "all values are 0"),
        (np.ones(1), ["H3K4me1"], "EPIGENOME-ASSAY"),
    ],
)
def test_attributions_that_cannot_be_are_refused(values, channels, message):
    with pytest.raises(InputError, match=message):
        attribution(values, channels)


def test_bins_are_25_bp_in_both_modules():
    assert annotation_places.BIN_BP == annotation.BIN_BP == 25
