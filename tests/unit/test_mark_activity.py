"""Mark activity: tables against slow references, each gene once, and all of it end to end."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from epiloom.plan import activity as plan_activity
from epiloom.plan import runs
from epiloom.plan.errors import InputError
from epiloom.plan.jobs import Job
from epiloom.plan.tracks import Track, read_table
from epiloom.show import plots_activity
from epiloom.studies import gene_score, groups, mark_activity
from tests.made_activity import TRACK, made_genes, write_store
from workflow_scripts import mark_activity as activity_script
from workflow_scripts import mark_activity_figures as figures_script
from workflow_scripts import mark_activity_tables as tables_script

ROOT = Path(__file__).resolve().parents[2]
E003 = ROOT.parent / "shared" / "data" / "roadmap_e003"

README = {  # mark -> Pearson, Spearman, AUC of the 6-kb activity on 100 real genes
    "H3K4me1": (0.1804, 0.2176, 0.5725),
    "H3K4me3": (0.6502, 0.6713, 0.8430),
    "H3K9me3": (0.0371, 0.0008, 0.5207),
    "H3K27me3": (-0.1890, -0.0691, 0.4255),
    "H3K36me3": (0.4594, 0.5126, 0.7680),
    "H3K27ac": (0.5861, 0.6720, 0.8458),
    "H3K9ac": (0.7014, 0.7392, 0.8848),
}
FOLDS = [
    {"name": "fold1", "validation": ["chr1"], "test": ["chr2"]},
    {"name": "fold2", "validation": ["chr2"], "test": ["chr3"]},
    {"name": "fold3", "validation": ["chr3"], "test": ["chr4"]},
]


def write_cell(folder: Path, genes: pd.DataFrame, cell: str, shift: float = 0.0) -> dict:
    """Expression and the features of two marks, one of which follows expression."""
    rng = np.random.default_rng(len(cell) + ord(cell[-1]))
    rpkm = rng.gamma(0.6, 8, len(genes)).round(3)
    level = np.log2(rpkm + 1)[:, None]
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for mark, slope in (("H3K4me3", 1.0), ("H3K27me3", -0.4)):
        wave = np.maximum(0.05, 3 + shift + slope * level + rng.normal(0, 0.5, (len(genes), 400)))
        paths.append(folder / f"{cell}-{mark}.npy")
        np.save(paths[-1], wave.astype(np.float32))
    genes.to_csv(folder / "genes.tsv", sep="\t", index=False)
    table = folder / f"expression.{cell}.tsv"
    pd.DataFrame({"gene_id": genes["gene_id"], cell: rpkm}).to_csv(table, sep="\t", index=False)
    return {"genes": folder / "genes.tsv", "expression": table, "features": paths}


def settings(cell: str) -> dict:
    return {
        **{"cell": cell, "marks": ["H3K4me3", "H3K27me3"], "window_bp": 6000, "signal": "reads"},
        **{"transform": "log1p", "max_missing": 0.0, "seed": 1, "fold": FOLDS[0]},
        "missing": {"policy": "nan", "min_covered": 0.5},
    }


def no_scores(genes: int) -> pd.DataFrame:
    return pd.DataFrame({name: np.arange(genes, dtype=float) for name in gene_score.SCORES})


def read_one(folder: Path, cell: str = "E003") -> tuple[mark_activity.Mark, pd.DataFrame, dict]:
    genes = made_genes()
    files = write_cell(folder, genes, cell)
    mark = mark_activity.read_mark(
        settings(cell), files, "H3K4me3", files["features"][0], no_scores(len(genes))
    )
    return mark, genes, files


# --- activity ------------------------------------------------------------------------------------


def test_activity_of_the_test_genes_is_that_of_a_slow_reference(tmp_path):
    mark, genes, files = read_one(tmp_path)
    found = mark_activity.held_out(mark, FOLDS, "E003", "ESC")
    raw = np.load(files["features"][0])
    rpkm = pd.read_csv(files["expression"], sep="\t")["E003"]
    fold_of = {fold["test"][0]: fold["name"] for fold in FOLDS}
    bins = {"6kb": range(60), "3kb": range(15, 45), "1.5kb": range(22, 37)}
    for row in found.itertuples():
        k = int(row.gene_id[1:])
        assert row.fold == fold_of[genes["chrom"][k]]
        assert row.label == int(rpkm[k] >= rpkm.median())
        assert row.expression == pytest.approx(math.log2(rpkm[k] + 1), rel=1e-6)
        assert row.gene_score == k
        wide = sum(math.log(1 + float(v)) for v in raw[k]) / 400
        assert row.activity_40kb == pytest.approx(wide, rel=1e-5)
        for name, chosen in bins.items():
            value = sum(math.log(1 + float(raw[k, 170 + b])) for b in chosen) / len(chosen)
            assert found.at[row.Index, f"activity_{name}"] == pytest.approx(value, rel=1e-5)


def test_every_gene_stands_once_with_the_fold_that_tests_it(tmp_path):
    mark, genes, _ = read_one(tmp_path)
    found = mark_activity.held_out(mark, FOLDS, "E003", "ESC")
    tested = genes[genes["chrom"] != "chr1"]
    assert sorted(found["gene_id"]) == sorted(tested["gene_id"])
    expected = {fold["name"]: set(fold["test"]) for fold in FOLDS}
    assert {name: set(rows["chrom"]) for name, rows in found.groupby("fold")} == expected


def test_a_gene_tested_in_two_folds_is_refused(tmp_path):
    mark, _, _ = read_one(tmp_path)
    again = {"name": "fold4", "validation": ["chr1"], "test": ["chr2"]}
    with pytest.raises(InputError, match="tested a second time in fold4"):
        mark_activity.held_out(mark, [*FOLDS, again], "E003", "ESC")


def test_a_table_that_counts_genes_of_earlier_folds_again_is_refused(tmp_path):
    mark, _, _ = read_one(tmp_path)
    found = mark_activity.held_out(mark, FOLDS, "E003", "ESC")
    carried = pd.concat([found, found[found["fold"] == "fold1"].assign(fold="fold2")])
    carried.to_csv(tmp_path / "E003.tsv.gz", sep="\t", index=False)
    with pytest.raises(InputError, match="second time in fold2"):
        mark_activity.read_activity(tmp_path / "E003.tsv.gz")


def test_label_is_one_at_the_median_of_the_genes_with_a_value(tmp_path):
    table = pd.DataFrame({"gene_id": list("abcde"), "E003": [0.0, 1, 2, np.nan, 9]})
    table.loc[len(table)] = ["f", 2.0]
    table.to_csv(tmp_path / "e.tsv", sep="\t", index=False)
    found = mark_activity.labels(tmp_path / "e.tsv", "E003")
    assert found.to_dict() == {"a": 0, "b": 0, "c": 1, "e": 1, "f": 1}


def test_summary_has_every_fold_and_all_test_genes_pooled(tmp_path):
    mark, _, _ = read_one(tmp_path)
    found = mark_activity.held_out(mark, FOLDS, "E003", "ESC")
    found.loc[found.index[0], "gene_score"] = np.nan
    table = mark_activity.summary(found)
    assert len(table) == len(mark_activity.MEASURES) * (len(FOLDS) + 1)
    for (measure, fold), row in table.set_index(["measure", "fold"]).iterrows():
        rows = found if fold == "pooled" else found[found["fold"] == fold]
        rows = rows[rows[measure].notna()]
        assert row["n"] == len(rows)
        expected = stats.pearsonr(rows[measure], rows["expression"]).statistic
        assert row["r"] == pytest.approx(expected)
        expected = stats.spearmanr(rows[measure], rows["expression"]).statistic
        assert row["spearman"] == pytest.approx(expected)
        pairs = [
            (a > b) + (a == b) / 2
            for a in rows.loc[rows["label"] == 1, measure]
            for b in rows.loc[rows["label"] == 0, measure]
        ]
        assert row["auc"] == pytest.approx(np.mean(pairs))


def test_profiles_are_means_and_quartiles_of_the_training_genes_by_label(tmp_path):
    mark, genes, files = read_one(tmp_path)
    found = mark_activity.profiles(mark, FOLDS, "E003", "reads")
    assert len(found) == 2 * 400 + len(FOLDS) * 2 * 60
    assert set(found["scale"]) == {"log1p(reads)"}
    raw = np.log1p(np.load(files["features"][0]).astype(np.float64))
    training = ~genes["chrom"].isin(["chr1", "chr2"]).to_numpy() & (mark.label == 0)
    here = found[(found["fold"] == "fold1") & (found["label"] == 0)].reset_index(drop=True)
    assert (here["n"] == training.sum()).all()
    assert list(here["position_bp"][[0, 29, 30, 59]]) == [-2950, -50, 50, 2950]
    values = raw[training, 170:230]
    np.testing.assert_allclose(here["mean"], values.mean(axis=0), rtol=1e-6)
    quartiles = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
    np.testing.assert_allclose(here[["q25", "median", "q75"]].T, quartiles, rtol=1e-6)
    wide = found[(found["window"] == "40kb") & (found["label"] == 1)].reset_index(drop=True)
    np.testing.assert_allclose(wide["mean"], raw[mark.label == 1].mean(axis=0), rtol=1e-6)


@pytest.mark.skipif(not E003.exists(), reason="shared data not here")
def test_real_genes_give_the_correlations_and_areas_of_the_data_s_readme():
    golden = pd.read_csv(E003 / "golden_promoter_6kb_100bp.tsv.gz", sep="\t")
    genes = pd.read_csv(E003 / "genes.tsv", sep="\t").set_index("gene_id")
    for mark, rows in golden.groupby("mark"):
        here = genes.loc[rows["gene_id"]]
        table = pd.DataFrame(
            {
                **{"gene_id": rows["gene_id"].to_numpy(), "cell": "E003", "group": "ESC"},
                **{"mark": mark, "fold": "fold1", "label": here["label"].to_numpy()},
                "expression": here["log2_rpkm_plus1"].to_numpy(),
                **dict.fromkeys(mark_activity.MEASURES, 0.0),
                "activity_6kb": rows.filter(like="bin").mean(axis=1).to_numpy(),
            }
        )
        found = mark_activity.summary(table).set_index(["measure", "fold"])
        row = found.loc[("activity_6kb", "pooled")]
        expected = README[str(mark)]
        np.testing.assert_allclose(row[["r", "spearman", "auc"]].astype(float), expected, atol=1e-4)


# --- end to end ----------------------------------------------------------------------------------


def run_cell(track: Path, work: Path, cell: str, row: dict | None, shift: float) -> tuple:
    files = write_cell(work / "in", made_genes(), cell, shift)
    outputs = {"activity": work / f"{cell}.tsv.gz", "profiles": work / f"p.{cell}.tsv.gz"}
    source = {"track": TRACK, "bin_bp": 100}
    job = Job(
        "mark_activity",
        input={**files, "manifest": track / "manifest.json"},
        output=outputs,
        params={
            **{"settings": settings(cell), "folds": FOLDS, "row": row},
            "tiles": [source, {"signal": [str(track / "track.bw")]}],
        },
    )
    activity_script.main(job)
    return outputs["activity"], outputs["profiles"]


def test_from_features_to_tables_and_figures(tmp_path):
    cells = read_table(ROOT / "config/cells.tsv", "cell")
    write_store(tmp_path / "store")
    made = [
        run_cell(tmp_path / "store", tmp_path, cell, cells.get(cell), shift)
        for cell, shift in (("E003", 0.0), ("E118", 1.0), ("mine", 0.0))
    ]
    outputs = {n: tmp_path / f"{n}.tsv" for n in ("summary", "groups", "profiles")}
    inputs = {"activity": [a for a, _ in made], "profiles": [p for _, p in made]}
    tables_script.main(Job("mark_activity_tables", input=inputs, output=outputs))
    summary = pd.read_csv(outputs["summary"], sep="\t")
    pooled = summary[(summary["fold"] == "pooled") & (summary["measure"] == "activity_6kb")]
    assert (pooled.loc[pooled["mark"] == "H3K4me3", "r"] > 0.8).all()
    assert (pooled.loc[pooled["mark"] == "H3K27me3", "r"] < -0.5).all()
    assert set(summary["group"]) == {"ESC", "cancer line", "own"}
    both = pd.read_csv(outputs["groups"], sep="\t")
    two = both[(both["grouping"] == "two") & (both["measure"] == "activity_6kb")]
    assert (two["rank_biserial"] < 0).all()  # HepG2 was made with more signal
    names = ["correlation", "groups", *(f"profiles_{kb}kb.mine" for kb in (6, 40))]
    svg = [str(tmp_path / f"{name}.svg") for name in names]
    job = Job("figures", input={"summary": outputs["summary"]}, output={"svg": svg})
    figures_script.main(job)
    for path in map(Path, svg):
        assert path.read_text().lstrip().startswith("<?xml")
        assert path.with_name(path.name[:-4] + ".png").read_bytes()[:4] == b"\x89PNG"
    for title, caption, figure in plots_activity.figures(tmp_path):
        assert title and caption and figure.axes
    assert len(plots_activity.figures(tmp_path)) == 2 + 2 * 3


def test_no_tables_no_figures_and_empty_tables_say_so(tmp_path):
    assert plots_activity.figures(tmp_path) == []
    pd.DataFrame(columns=groups.COLUMNS).to_csv(tmp_path / "groups.tsv", sep="\t", index=False)
    pd.DataFrame(columns=mark_activity.SUMMARY).to_csv(
        tmp_path / "summary.tsv", sep="\t", index=False
    )
    texts = [figure.texts[0].get_text() for *_, figure in plots_activity.figures(tmp_path)]
    assert texts[1] == "fewer than two groups of cells: nothing to compare"
    (tmp_path / "profiles.tsv").write_text("")
    with pytest.raises(InputError, match=r"profiles.tsv:\n.*cannot be read"):
        plots_activity.figures(tmp_path)


def test_axis_labels_name_transform_and_signal():
    assert plots_activity._scale_name("log1p(reads)") == "ln(1 + depth)"
    assert plots_activity._scale_name("arcsinh(pval)") == "arcsinh(−log10 p)"
    assert plots_activity._scale_name("none(fold_change)") == "fold change"


# --- plan ----------------------------------------------------------------------------------------


def planned(**changes) -> runs.Plan:
    config = {
        **{"cells": ["E003"], "marks": ["H3K4me3"], "assembly": "hg19", "bins_bp": [25, 100, 128]},
        **{"models": {}, "seed": 1, "swap_folds": False, "missing": {"policy": "nan"}},
        "folds": {"fold1": {"validation": ["chr1"], "test": ["chr2"]}},
    }
    found = [Track("E003", "H3K4me3", kind, f"{kind}.file") for kind in ("reads", "pval")]
    tracks = {t.name: t for t in found}
    return runs.Plan(config | changes, "", runs.cards(ROOT), {}, tracks=tracks)


def test_the_tiles_come_from_the_largest_bins_that_divide_500_else_from_the_track():
    ask = (planned(), "E003", lambda track: [f"{track}.bw"])
    assert plan_activity.tile_sources(*ask) == [{"track": "E003-H3K4me3.reads", "bin_bp": 100}]
    assert plan_activity.tile_files(*ask) == [
        "results/store/hg19/bins100/E003-H3K4me3.reads.npy",
        "results/store/hg19/tracks/E003-H3K4me3.reads.json",
    ]
    ask = (planned(bins_bp=[128]), *ask[1:])
    assert plan_activity.tile_sources(*ask) == [{"signal": ["E003-H3K4me3.reads.bw"]}]
    assert plan_activity.tile_files(*ask) == ["E003-H3K4me3.reads.bw"]


def test_signal_and_transform_are_those_of_the_promoter_model():
    options = {"signal": "pval", "transform": "arcsinh", "max_missing": 0.2}
    plan = planned(models={"chromoformer": {"signal": "reads"}, "promoter_cnn": options})
    assert plan_activity.settings(plan, "E003").items() >= options.items()
    assert plan_activity.tracks(plan, "E003") == ["E003-H3K4me3.pval"]
    plan = planned(models={"chromoformer": {"signal": "pval"}})
    usual = {"signal": "pval", "transform": "log1p", "max_missing": 0.0}
    assert plan_activity.settings(plan, "E003").items() >= usual.items()


def test_the_planned_figures_are_those_that_are_drawn(tmp_path):
    for name in ("summary", "groups"):
        columns = mark_activity.SUMMARY if name == "summary" else groups.COLUMNS
        pd.DataFrame(columns=columns).to_csv(tmp_path / f"{name}.tsv", sep="\t", index=False)
    mark, _, _ = read_one(tmp_path)
    table = mark_activity.profiles(mark, FOLDS, "E003", "reads")
    table.to_csv(tmp_path / "profiles.tsv", sep="\t", index=False)
    drawn = [one.name for one in plots_activity.drawings(tmp_path)]
    assert drawn == plan_activity.figures(planned())
