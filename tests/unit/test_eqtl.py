"""The eQTL enrichment finds what was planted, and nothing where nothing was."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from epiloom.data import eqtls
from epiloom.plan.errors import InputError
from epiloom.plan.jobs import Job
from epiloom.show import plots_eqtl
from epiloom.studies import enrichment, eqtl
from workflow_scripts import eqtl_enrichment

DISTAL = [j for j in range(20) if j not in (8, 9, 10)]
B_CELLS = "Cells_EBV-transformed_lymphocytes"
TISSUES = {"E116": [B_CELLS]}


def perturbed(genes: int = 300, seed: int = 0, cells: tuple[str, ...] = ("E116",)) -> pd.DataFrame:
    """A table of the perturbation study: random effects, genes on both strands of chr1 and chr2."""
    rng = np.random.default_rng(seed)
    rows = []
    for cell in cells:
        for i in range(genes):
            tss, strand = 50_000 + 41_000 * i, "+-"[i % 2]
            for j in DISTAL:
                start = tss - 20_000 + 2_000 * j if strand == "+" else tss + 18_000 - 2_000 * j
                place = (f"G{i}", f"chr{1 + i % 2}", tss, strand, cell, "H3K27ac", "fold1", 1)
                rows.append((*place, "distal", j, start, start + 2_000, 5.0, 5.0))
    names = ["gene_id", "chrom", "tss", "strand", "cell", "mark", "fold", "label", "location"]
    table = pd.DataFrame(rows, columns=[*names, "bin", "start", "end", "unperturbed", "removed"])
    table["removed"] -= rng.gamma(1.0, 0.2, len(table))
    table["delta_log2"] = table["unperturbed"] - table["removed"]
    table["ratio"] = table["delta_log2"] / table["removed"]
    return table


def bins_of(table: pd.DataFrame, tmp_path, **options) -> pd.DataFrame:
    path = tmp_path / "perturbation.tsv"
    table.to_csv(path, sep="\t", index=False)
    return eqtl.read_perturbations([path], **options)


def in_bins(bins: pd.DataFrame, rows: np.ndarray, shift: int = 0, tissue: str = B_CELLS):
    """One eQTL in the middle of each of the given bins."""
    part = bins.iloc[rows]
    table = part[["gene_id", "chrom"]].assign(
        tissue=tissue, position=part["start"] + 700 + shift, ref="A", alt="G"
    )
    return table[list(eqtls.FIELDS)].reset_index(drop=True)


def top(bins: pd.DataFrame, seed: int = 0) -> np.ndarray:
    """Rows of decile 10 as the study makes it."""
    rng = enrichment._rng(seed, "E116", "ties", 0)
    return np.flatnonzero(enrichment.deciles(bins["effect"].to_numpy(), bins["side"], rng) == 10)


# --- acceptance: planted, random, shifted ---------------------------------------------------------


def test_eqtls_in_the_top_decile_give_the_smallest_p_there_and_only_there(tmp_path):
    bins = bins_of(perturbed(), tmp_path)
    table = eqtl.study(bins, in_bins(bins, top(bins)[:60]), TISSUES, {}, draws=999)
    by = table[table["predictor"] == "perturbation"].set_index("decile")
    assert list(by.index) == list(range(1, 11))
    assert by.loc[10, "p"] == pytest.approx(1 / 1000) and by.loc[10, "share"] == 1
    assert by.loc[10, "fold"] == pytest.approx(10, abs=0.05)
    assert by.loc[10, "fold_low"] < 10 <= by.loc[10, "fold_high"] + 0.05
    assert (by.loc[1:9, "p"] == 1).all() and (by.loc[1:9, "hits"] == 0).all()
    assert by["bins"].sum() == len(bins) and by["hits"].sum() == 60


def test_random_eqtls_give_uniform_p(tmp_path):
    bins = bins_of(perturbed(600), tmp_path)
    found = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        hits = in_bins(bins, rng.choice(len(bins), 4_000, replace=False))
        place = enrichment.deciles(rng.random(len(bins)), bins["side"].to_numpy(), rng)
        count = eqtl.count_hits(bins, hits, TISSUES)
        found.append(enrichment.enrichment(count, place == 10, 400, rng)["p"])
    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert 0.42 < np.mean(found) < 0.58


@pytest.mark.parametrize("shift", [-2_000, 2_000])
def test_a_shift_of_one_bin_destroys_the_hits(tmp_path, shift):
    bins = bins_of(perturbed(), tmp_path)
    rows = top(bins)[:60]
    assert (eqtl.count_hits(bins, in_bins(bins, rows), TISSUES)[rows] == 1).all()
    moved = eqtl.study(bins, in_bins(bins, rows, shift), TISSUES, {}, draws=999)
    last = moved[moved["decile"] == 10].iloc[0]
    assert last["p"] > 0.01 and last["share"] < 0.35


def test_the_control_moves_every_eqtl_one_bin_away_from_the_start_site(tmp_path):
    bins = bins_of(perturbed(), tmp_path)
    rows = top(bins)[:60]
    hits = in_bins(bins, rows)
    place = dict(zip(zip(bins["gene_id"], bins["bin"], strict=True), range(len(bins)), strict=True))
    expected = []
    for row in bins.iloc[rows].itertuples():
        outer = row.bin + (1 if row.bin > 9 else -1)  # bins 0 and 19 have no outer neighbour
        expected += [place[row.gene_id, outer]] if 0 <= outer <= 19 else []
    found = eqtl.count_hits(bins, eqtl.shifted(hits, bins), TISSUES)
    assert np.flatnonzero(found).tolist() == sorted(expected)
    table = eqtl.study(bins, hits, TISSUES, {}, draws=999)
    control = table[table["predictor"] == "shifted"].iloc[0]
    assert control["all_hits"] == len(expected) and control["p"] > 0.01
    assert control["hits"] == len(set(expected) & set(top(bins).tolist()))


def test_p_is_never_zero_and_draws_are_repeated_exactly(tmp_path):
    bins = bins_of(perturbed(60), tmp_path)
    hits = in_bins(bins, top(bins)[:5])
    one, two = (eqtl.study(bins, hits, TISSUES, {}, draws=200, seed=3) for _ in range(2))
    assert one["p"].min() >= 1 / 201
    pd.testing.assert_frame_equal(one, two)


# --- intervals and hits ---------------------------------------------------------------------------


def test_bins_lie_where_the_strand_says():
    for strand in "+-":
        for j in range(20):
            inside = set()
            for base in range(100_000 - 20_000, 100_000 + 20_000):
                # k-th base of the 40-kb window, from its upstream end
                k = base - 80_000 if strand == "+" else 119_999 - base
                if k // 2_000 == j:
                    inside.add(base)
            start, end = eqtl.bin_interval([100_000], [strand], [j])
            assert inside == set(range(start[0], end[0]))


def slow_hits(bins, table, tissues) -> list[int]:
    counts = []
    for row in bins.itertuples():
        seen = set()
        for other in table.itertuples():
            same = other.gene_id == row.gene_id and other.chrom == row.chrom
            fits = other.tissue in tissues.get(row.cell, [])
            if same and fits and row.start <= other.position < row.end:
                seen.add((other.position, other.ref, other.alt))
        counts.append(len(seen))
    return counts


def test_hits_equal_a_slow_count_by_gene_chromosome_tissue_and_position(tmp_path):
    bins = bins_of(perturbed(20, cells=("E007", "E116")), tmp_path)
    rng = np.random.default_rng(5)
    pick = rng.integers(0, len(bins), 400)
    part = bins.iloc[pick]
    table = pd.DataFrame(
        {
            "tissue": rng.choice([B_CELLS, "Brain_Cerebellum", "Brain_Hippocampus", "Lung"], 400),
            "gene_id": part["gene_id"].to_numpy(),
            "chrom": np.where(rng.random(400) < 0.8, part["chrom"], "chr2"),
            "position": (part["start"] + rng.choice([-1, 0, 5, 1_999, 2_000], 400)).to_numpy(),
            **{"ref": "A", "alt": rng.choice(["C", "G"], 400)},
        }
    )
    tissues = {"E007": ["Brain_Cerebellum", "Brain_Hippocampus"], "E116": [B_CELLS]}
    found = eqtl.count_hits(bins, table, tissues)
    assert found.tolist() == slow_hits(bins, table, tissues)
    assert found.sum() > 50


def test_another_chromosome_or_tissue_is_no_hit(tmp_path):
    bins = bins_of(perturbed(10), tmp_path)
    table = in_bins(bins, np.arange(10))
    assert eqtl.count_hits(bins, table, TISSUES).sum() == 10
    other = table.assign(chrom=table["chrom"].map({"chr1": "chr2", "chr2": "chr1"}))
    assert eqtl.count_hits(bins, other, TISSUES).sum() == 0
    assert eqtl.count_hits(bins, table.assign(tissue="Lung"), TISSUES).sum() == 0


def test_a_cell_with_two_tissues_counts_once(tmp_path):
    bins = bins_of(perturbed(30, cells=("E007",)), tmp_path)
    tissues = eqtls.tissues_of(["E007", "E003"])
    assert tissues == {"E007": ["Brain_Cerebellum", "Brain_Hippocampus"]}
    one = in_bins(bins, np.arange(10), tissue="Brain_Cerebellum")
    both = pd.concat([one, one.assign(tissue="Brain_Hippocampus")])
    assert eqtl.count_hits(bins, both, tissues).tolist() == [1] * 10 + [0] * (len(bins) - 10)
    table = eqtl.study(bins, both, tissues, {}, draws=50)
    assert len(table) == 11 and set(table["tested_bins"]) == {len(bins)}


def test_cells_that_share_a_tissue_are_one_set():
    tissues = eqtls.tissues_of(["E007", "E066", "E003", "E087", "E114", "E116", "E118"])
    sets = [cells for cells, _ in eqtl.cell_sets(tissues)]
    assert sets == [["E007"], ["E066", "E118"], ["E087"], ["E114"], ["E116"]]
    assert eqtl.cell_sets({"A": ["x"], "B": ["y"], "C": ["x", "y"]}) == [
        (["A", "B", "C"], ["x", "y"])
    ]
    assert eqtls.tissues_of(["E116"], {"E116": ["Spleen"]}) == {"E116": ["Spleen"]}


def test_only_the_wanted_rows_are_tested(tmp_path):
    table = perturbed(12)
    table.loc[table["gene_id"] == "G0", "label"] = 0
    table.loc[table["gene_id"] == "G1", "mark"] = "H3K27me3"
    table.loc[table["gene_id"] == "G2", "location"] = "promoter"
    table.loc[table["gene_id"] == "G4", "chrom"] = "chrX"
    table["gene_id"] += ".7"
    twice = pd.concat([table, table.assign(fold="fold2", delta_log2=table["delta_log2"] + 2)])
    bins = bins_of(twice, tmp_path)
    assert set(bins["gene_id"]) == {f"G{i}" for i in range(12)} - {"G0", "G1", "G2", "G4"}
    assert len(bins) == 8 * 17  # the folds of a gene are averaged
    once = bins_of(table, tmp_path)
    assert bins["effect"].to_numpy() == pytest.approx(once["effect"].to_numpy() + 1)
    ratio = bins_of(table, tmp_path, effect="ratio")
    assert not np.allclose(ratio["effect"], once["effect"])


def test_faulty_perturbation_tables_are_refused(tmp_path):
    text = perturbed(3).astype({"label": str})
    text.loc[5, "label"] = "expressed"
    with pytest.raises(InputError, match="label 'expressed' is neither 0 nor 1"):
        bins_of(text, tmp_path)
    shifted = perturbed(3)
    down = shifted["bin"] > 10
    shifted.loc[down, ["start", "end"]] += 2_000  # sought one bin too far out
    with pytest.raises(InputError, match="27 intervals are not those of their bins"):
        bins_of(shifted, tmp_path)
    with pytest.raises(InputError, match="no column delta_log2"):
        bins_of(perturbed(3).drop(columns="delta_log2"), tmp_path)


def test_a_set_without_eqtls_is_not_a_result(tmp_path):
    bins = bins_of(perturbed(20), tmp_path)
    table = eqtl.study(bins, in_bins(bins, []), TISSUES, {}, draws=50)
    assert table[["p", "q", "fold"]].isna().all(axis=None) and (table["all_hits"] == 0).all()


# --- comparators ----------------------------------------------------------------------------------


def test_nearest_bins_are_7_upstream_and_11_downstream(tmp_path):
    bins = bins_of(perturbed(6), tmp_path)
    picked = bins[eqtl.nearest(bins)]
    assert sorted(picked["bin"].unique()) == [7, 11] and len(picked) == 12
    for row in picked.itertuples():
        middle = (row.start + row.end) / 2 - row.tss
        ahead = middle if row.strand == "+" else -middle
        assert ahead == (-5_000 if row.bin == 7 else 3_000)


def test_most_active_bins_equal_a_slow_search(tmp_path):
    bins = bins_of(perturbed(20), tmp_path)
    genes = pd.DataFrame({"gene_id": [f"G{i}" for i in range(25)][::-1]})
    features = np.random.default_rng(0).gamma(1, 2, (25, 400)).astype(np.float32)
    features[3, 40:80] = np.nan  # two bins of one gene are unknown
    features[7] = np.nan  # and a gene altogether
    found = eqtl.most_active(bins, eqtl.activity_of(bins, genes, {"E116": features}))
    wanted = np.zeros(len(bins), bool)
    for gene in bins["gene_id"].unique():
        row = features[list(genes["gene_id"]).index(gene)]
        for side in (range(8), range(11, 20)):
            values = {j: np.log1p(row[20 * j : 20 * j + 20]).mean() for j in side}
            values = {j: value for j, value in values.items() if not np.isnan(value)}
            if values:
                best = max(values, key=values.get)
                wanted |= ((bins["gene_id"] == gene) & (bins["bin"] == best)).to_numpy()
    assert (found == wanted).all() and wanted.sum() == 38
    with pytest.raises(InputError, match="shape"):
        eqtl.activity_of(bins, genes, {"E116": features[:5]})


def test_bins_in_contact_equal_a_slow_search(tmp_path):
    bins = bins_of(perturbed(20), tmp_path)
    rng = np.random.default_rng(4)
    rows = []
    for i in range(20):
        for _ in range(4):
            start = 50_000 + 41_000 * i + int(rng.integers(-40_000, 40_000))
            chrom = f"chr{1 + (i + (rng.random() < 0.2)) % 2}"
            rows.append((f"G{i}", chrom, start, start + int(rng.integers(500, 9_000)), 2.0))
    partners = pd.DataFrame(rows, columns=["gene_id", "chrom", "start", "end", "score"])
    found = eqtl.in_contact(bins, {"E116": partners})
    for flag, row in zip(found, bins.itertuples(), strict=True):
        mine = partners[(partners["gene_id"] == row.gene_id) & (partners["chrom"] == row.chrom)]
        meets = any(row.start < p.end and p.start < row.end for p in mine.itertuples())
        assert flag == (meets and (row.bin <= 6 or row.bin >= 13))
    assert 10 < found.sum() < len(bins) / 2
    up, down = found & (bins["bin"] <= 6), found & (bins["bin"] >= 13)
    assert up.any() and down.any()  # both sides, on both strands
    assert set(bins.loc[found, "strand"]) == {"+", "-"}


# --- figure and script ----------------------------------------------------------------------------


def write(table: pd.DataFrame, path) -> None:
    table.to_csv(path, sep="\t", index=False)


def test_the_figure_shows_every_set_and_says_when_there_is_nothing(tmp_path):
    bins = bins_of(perturbed(100, cells=("E116", "E087")), tmp_path)
    hits = pd.concat(
        [
            in_bins(bins, np.arange(0, len(bins), 30)),
            in_bins(bins, np.arange(40), tissue="Pancreas"),
        ]
    )
    tissues = {"E116": [B_CELLS], "E087": ["Pancreas"]}
    table = eqtl.study(bins, hits, tissues, {"proximity": eqtl.nearest(bins)}, draws=99)
    figure = plots_eqtl.enrichment_figure(table)
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles == ["E116 · Cells EBV-transformed lymphocytes", "E087 · Pancreas"]
    assert "near" in [label.get_text() for label in figure.axes[0].get_xticklabels()]
    plots_eqtl.enrichment_figure(table.iloc[:0])
    assert plots_eqtl.figures(tmp_path) == []
    table.to_csv(tmp_path / "enrichment.tsv", sep="\t", index=False)
    assert len(plots_eqtl.figures(tmp_path)) == 1


def test_the_script_goes_from_files_to_table_and_figure(tmp_path):
    bases = "".join(np.random.default_rng(11).choice(list("ACGTacgt"), 60_000))
    (tmp_path / "genome.fa").write_text(f">chr2\nACGT\n>chr1\n{bases}\n")
    table = perturbed(1).assign(chrom="chr1")  # a gene at 50,000 on the plus strand
    write(table, tmp_path / "perturbation.tsv")
    best = table.loc[table["delta_log2"].idxmax()]
    place = int(best["start"]) + 5
    ref = bases[place].upper()
    alt = "A" if ref != "A" else "C"
    rows = [(B_CELLS, "G0.3", f"chr1:{place + 1}:{ref}:{alt}")]
    write(pd.DataFrame(rows, columns=["tissue", "gene", "variant"]), tmp_path / "eqtls.tsv")
    genes = pd.DataFrame({"gene_id": ["G0"], "chrom": "chr1", "tss": 50_000, "strand": "+"})
    write(genes, tmp_path / "genes.tsv")
    np.save(tmp_path / "features.npy", np.ones((1, 400), np.float32))
    partner = [("G0", "chr1", int(best["start"]), int(best["end"]), 2.0)]
    columns = ["gene_id", "chrom", "start", "end", "score"]
    write(pd.DataFrame(partner, columns=columns), tmp_path / "partners.tsv")
    files = {name: str(tmp_path / f"{name}.tsv") for name in ("eqtls", "genes")}
    files |= {
        "perturbation": [str(tmp_path / "perturbation.tsv")],
        "fasta": str(tmp_path / "genome.fa"),
    }
    files |= {"features": [str(tmp_path / "features.npy")], "chain": []}
    files |= {"partners": [str(tmp_path / "partners.tsv")]}
    output = {"table": str(tmp_path / "out/enrichment.tsv"), "figure": str(tmp_path / "out/a.png")}
    settings = {"cells": ["E116"], "draws": 99}
    eqtl_enrichment.main(
        Job("eqtl_enrichment", input=files, output=output, params={"settings": settings})
    )
    found = pd.read_csv(output["table"], sep="\t")
    assert list(found.columns) == list(enrichment.COLUMNS)
    assert (tmp_path / "out/a.png").read_bytes()[:4] == b"\x89PNG"
    deciles = found[found["predictor"] == "perturbation"]
    shifted = found["predictor"] == "shifted"
    assert deciles["hits"].sum() == 1 and set(found[~shifted]["all_hits"]) == {1}
    assert set(found["predictor"]) == {"perturbation", "proximity", "activity", "hic", "shifted"}
    assert set(found["cells"]) == {"E116"}
