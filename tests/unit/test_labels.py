"""Labels of downstream tasks: their table, and those of gene expression."""

from __future__ import annotations

import gzip
import math

import numpy as np
import pandas as pd
import pytest

from epiloom.data import label_tasks
from epiloom.data.annotation import read_genes
from epiloom.data.genes import gene_table
from epiloom.data.genome import Genome
from epiloom.data.label_expression import expression, promoter_windows, read_gene_info
from epiloom.data.label_expression import roadmap_genes as all_genes
from epiloom.data.labels import Labels, combine
from epiloom.plan.errors import InputError
from tests.made_genome import GENOME, random_bases, write_bigwig

CHR21 = Genome("hg19", ("chr21",), (48_129_895,))


def labels() -> Labels:
    windows = {"promoter": np.array([[0, 10], [50, 75]]), "enhancer": np.array([[90, 95], [5, 7]])}
    values = {
        "E003": np.array([1, np.nan], np.float32),
        "liver_end": np.array([0, 1], np.float32),
    }
    return Labels("promoter_enhancer", *np.array([["a", "b"], ["chr1", "chr2"]]), windows, values)


def text(path, *lines: str):
    path.write_text("\n".join(lines) + "\n")
    return path


def problems(function, *arguments, **options) -> str:
    with pytest.raises(InputError) as caught:
        function(*arguments, **options)
    return str(caught.value)


# --- the table ------------------------------------------------------------------------------------


def test_a_table_comes_back_as_it_was_written_whatever_its_cells_are_called(tmp_path):
    made = labels()
    made.write(tmp_path / "a.tsv")
    read = Labels.read(tmp_path / "a.tsv")
    assert read.task == "promoter_enhancer" and list(read.windows) == ["promoter", "enhancer"]
    assert read.names.tolist() == ["a", "b"] and read.chroms.tolist() == ["chr1", "chr2"]
    for name, span in made.windows.items():
        assert np.array_equal(read.windows[name], span) and read.windows[name].dtype == np.int64
    for cell, values in made.labels.items():
        assert np.array_equal(read.labels[cell], values, equal_nan=True)
        assert read.labels[cell].dtype == np.float32


def test_a_damaged_table_is_refused_with_all_its_lines(tmp_path):
    labels().write(tmp_path / "a.tsv")
    head, columns, first, second = (tmp_path / "a.tsv").read_text().splitlines()
    wrong = [first.replace("10", "x"), second[:-1] + "7"]
    message = problems(Labels.read, text(tmp_path / "b.tsv", head, columns, *wrong))
    assert "line 3: promoter_end 'x'" in message and "line 4: label '7' of liver_end" in message
    assert "no table of labels" in problems(Labels.read, text(tmp_path / "c.tsv", columns, first))
    other = text(tmp_path / "d.tsv", head, columns.replace("enhancer_end", "end"), first)
    assert "must begin with name, chrom, promoter_start" in problems(Labels.read, other)
    back = text(tmp_path / "e.tsv", head, columns, first.replace("10", "0"), second)
    assert "window promoter has rows without a base" in problems(Labels.read, back)


def test_labels_that_do_not_fit_are_refused_together():
    made = labels()
    with pytest.raises(InputError) as caught:
        Labels(
            "fire",
            np.array(["a", "a"]),
            made.chroms,
            {"promoter": made.windows["promoter"][:, ::-1]},
            {"promoter_end": np.array([0, 2])},
        )
    for word in ("a name stands there twice", "without a base", "another column", "than 0, 1"):
        assert word in str(caught.value)


def test_cells_with_other_windows_are_not_labelled_there():
    def part(*rows):
        return pd.DataFrame(rows, columns=["chrom", "bin_start", "bin_end", "label"])

    made = combine(
        "fire",
        {
            "a": part(("chr2", 0, 5, 1), ("chr1", 9, 12, 0), ("chr1", 0, 5, np.nan)),
            "b": part(("chr1", 0, 5, np.nan), ("chr2", 0, 5, 0), ("chr1", 3, 8, 1)),
        },
        GENOME,
    )
    assert made.names.tolist() == ["chr1:3-8", "chr1:9-12", "chr2:0-5"]
    assert np.array_equal(made.labels["a"], [np.nan, 0, 1], equal_nan=True)
    assert np.array_equal(made.labels["b"], [1, np.nan, 0], equal_nan=True)


# --- expression -----------------------------------------------------------------------------------


def genes() -> pd.DataFrame:
    rows = [
        ("g1", "A", "chr1", 2_060, "+", 2_060, 9_000),
        ("g2", "B", "chr1", 300, "+", 300, 700),
        ("g3", "C", "chr2", 8_999, "-", 5_000, 9_000),
        ("g4", "D", "chr3", 200_700, "-", 190_000, 200_701),
    ]
    columns = ["gene_id", "gene_name", "chrom", "tss", "strand", "gene_start", "gene_end"]
    return pd.DataFrame(rows, columns=columns)


def rpkm() -> pd.DataFrame:
    return pd.DataFrame(
        {"gene_id": ["g1", "g2", "g3", "g4"], "E003": [0.5, 0.49, 3, 0], "E116": [0, 1, 0, 1]}
    )


def test_a_gene_is_on_from_the_threshold_on_in_each_cell_by_itself():
    made = expression(genes(), rpkm(), GENOME, ["E116", "E003"])
    assert made.labels["E003"].tolist() == [1, 0, 1, 0]
    assert made.labels["E116"].tolist() == [0, 1, 0, 1]
    assert made.windows["gene"].tolist() == genes()[["gene_start", "gene_end"]].values.tolist()


def test_the_promoter_is_81_bins_that_end_with_the_tss_on_either_strand():
    spans = promoter_windows(genes(), GENOME)
    for row, (start, end) in zip(genes().itertuples(), spans.tolist(), strict=True):
        bins = [row.tss // 25 + (-i if row.strand == "+" else i) for i in range(81)]
        inside = [b for b in bins if 0 <= b * 25 < GENOME.length(row.chrom)]
        assert start == min(inside) * 25
        assert end == min((max(inside) + 1) * 25, GENOME.length(row.chrom))
        assert start <= row.tss < end
    assert np.diff(spans)[:3, 0].tolist() == [2025, 325, 2025]


def test_rna_signal_labels_a_gene_by_its_mean_arcsinh_and_missing_bases_count_as_zero(tmp_path):
    bases = random_bases(np.random.default_rng(3), top=4.0)
    path = write_bigwig(tmp_path / "a.bw", bases)
    made = {}
    for threshold in (0.1, 0.4, 0.8):
        told = expression(genes(), None, GENOME, ["x"], "promoter", threshold, {"x": path})
        made[threshold] = told.labels["x"].tolist()
    for i, row in enumerate(genes().itertuples()):
        values = np.nan_to_num(bases[row.chrom])
        first, last = row.gene_start // 25, (row.gene_end - 1) // 25
        level = [math.asinh(values[b * 25 : b * 25 + 25].mean()) for b in range(first, last + 1)]
        for threshold, found in made.items():
            assert found[i] == (np.mean(level) >= threshold)
    assert len({tuple(found) for found in made.values()}) > 1


def test_expression_refuses_what_it_cannot_label(tmp_path):
    message = problems(expression, genes(), rpkm(), GENOME, ["E003", "E017"])
    assert "no column for E017; it has E003, E116" in message
    bare = genes().assign(gene_start=pd.NA, gene_end=pd.NA)
    assert "no gene has gene_start" in problems(expression, bare, rpkm(), GENOME, ["E003"])
    assert expression(bare, rpkm(), GENOME, ["E003"], "promoter").labels["E003"].sum() == 2
    half = genes().assign(gene_end=[9_000, pd.NA, 9_000, 200_701])
    assert len(expression(half, rpkm(), GENOME, ["E003"])) == 3


def test_the_three_roadmap_tables_are_merged_and_the_reference_dropped(tmp_path):
    info = text(
        tmp_path / "info",
        "ENSG1\t1\t101\t200\t-1\tprotein_coding\tA\tkinase of the cell [Source:HGNC;Acc:1]",
        "ENSG2\t\t2\t11\t40\t1\tlincRNA\tB\tno description given",
        "ENSG3\tGL000192.1\t5\t9\t1\trRNA\tC\tx",
        "ENSG4\tMT\t5\t9\t1\trRNA\tC\tx",
        "ENSG5\t1\t1\t50\t1\trRNA\tD",
    )
    for name, rows in {"pc": ["ENSG1\t1.5\t0.4\t"], "nc": ["ENSG2\t0\t2\t"], "rb": []}.items():
        rows = rows or ["ENSG5\t9\t9\t", "ENSG1\t7\t7\t", "ENSG4\t1\t1\t"]
        with gzip.open(tmp_path / f"{name}.gz", "wt") as file:
            file.write("\n".join(["gene_id\tE000\tE003\t", *rows]) + "\n")
    files = [tmp_path / f"{name}.gz" for name in ("pc", "nc", "rb")]
    found, values = all_genes(info, files, GENOME)
    assert found["gene_id"].tolist() == ["ENSG5", "ENSG1", "ENSG2"]
    assert found["tss"].tolist() == [0, 199, 10]
    assert found[["gene_start", "gene_end"]].values.tolist() == [[0, 50], [100, 200], [10, 40]]
    assert found["gene_name"].tolist() == ["D", "A", "B"]
    assert values.columns.tolist() == ["gene_id", "E003"]
    assert values["E003"].tolist() == [9, 0.4, 2]


def test_faulty_gene_info_is_refused_with_all_lines(tmp_path):
    path = text(
        tmp_path / "info",
        "ENSG1 1 101 200 -1",
        "ENSG2\t1\t600000\t700000\t1\tx\tA",
        "ENSG3\t2\t5\t9\t1\tx\tA",
        "ENSG3\t2\t50\t90\t1\tx\tA",
    )
    message = problems(read_gene_info, path, GENOME)
    for word in ("line 1: 'ENSG1 1", "line 2: gene ENSG2 at chr1:599999", "gene ENSG3 has several"):
        assert word in message


def test_all_695_genes_of_the_published_chr21_task_have_a_row_and_their_own_tss(shared, tmp_path):
    table = pd.read_csv(shared / "data/epi_lstm/chr21_genes_25bp.tsv", sep="\t")
    lines = [
        f"{r.gene_id}\t21\t{r.start_bin * 25 + 1}\t{r.end_bin * 25 + 1}\t{r.strand}\tx\tA\ta b"
        for r in table.itertuples()
    ]
    found = read_gene_info(text(tmp_path / "info", *lines), CHR21)
    values = pd.DataFrame({"gene_id": found["gene_id"], "E116": 1.0})
    made = expression(found, values, CHR21, ["E116"])
    assert len(made) == len(table) == 695
    bins = table.set_index("gene_id").loc[made.names]
    assert np.array_equal(made.windows["gene"][:, 0] // 25, bins["start_bin"])
    assert np.array_equal((made.windows["gene"][:, 1] - 1) // 25, bins["end_bin"])
    tss = found["tss"].to_numpy() // 25
    minus = (bins["strand"] == -1).to_numpy()
    assert minus.sum() == 367
    assert np.array_equal(tss[minus], bins["end_bin"][minus])
    assert np.array_equal(tss[~minus], bins["start_bin"][~minus])
    upstream = promoter_windows(found, CHR21)
    assert np.array_equal(upstream[minus, 0] // 25, bins["end_bin"][minus])
    assert np.array_equal(upstream[~minus, 1] // 25 - 1, bins["start_bin"][~minus])


def test_genes_of_the_real_annotation_lie_where_the_published_task_has_them(shared):
    table = pd.read_csv(shared / "data/epi_lstm/chr21_genes_25bp.tsv", sep="\t")
    path = shared / "data/roadmap_tables/gencode_10_genes.gtf.gz"
    found = read_genes(path, CHR21, "all").set_index("gene_id")
    both = table[table["gene_id"].isin(found.index)]
    assert len(both) > 600
    here = found.loc[both["gene_id"]]
    # The published bins are of 1-based positions.
    assert np.mean((here["gene_start"].to_numpy() + 1) // 25 == both["start_bin"]) > 0.99
    assert np.mean(here["gene_end"].to_numpy() // 25 == both["end_bin"]) > 0.99


def test_the_real_rpkm_table_labels_the_genes_of_its_cells(shared):
    folder = shared / "data/roadmap_tables"
    made = gene_table(
        folder / "gencode_10_genes.gtf.gz",
        folder / "57epigenomes.RPKM.pc.gz",
        CHR21,
        cells=["E003", "E116"],
    )
    told = expression(*made, CHR21, ["E003", "E116"])
    assert 200 < len(told) < 260
    raw = pd.read_csv(folder / "57epigenomes.RPKM.pc.gz", sep="\t", index_col=0, usecols=range(58))
    for cell, values in told.labels.items():
        assert values.tolist() == [float(raw.at[gene, cell] >= 0.5) for gene in told.names]
        assert 0.3 < values.mean() < 0.9


# --- the rule -------------------------------------------------------------------------------------


def test_a_task_is_made_from_the_files_that_the_plan_names(tmp_path):
    genes().to_csv(tmp_path / "genes.tsv", sep="\t", index=False)
    rpkm().to_csv(tmp_path / "rpkm.tsv", sep="\t", index=False)
    files = {"genes": tmp_path / "genes.tsv", "expression": tmp_path / "rpkm.tsv"}
    settings = {"cells": ["E003"], "definition": "gene_body", "threshold": 0.5}
    made = label_tasks.make("expression", files, settings, GENOME)
    assert made.names.tolist() == ["g2", "g1", "g3", "g4"]
    assert made.labels["E003"].tolist() == [0, 1, 1, 0]
    direct = {"annotation": files["genes"], "rpkm": files["expression"]}
    again = label_tasks.make("expression", direct, settings | {"gene_type": "all"}, GENOME)
    assert again.labels["E003"].tolist() == [0, 1, 1, 0]
    signal = write_bigwig(tmp_path / "a.bw", random_bases(np.random.default_rng(1)))
    own = {"annotation": files["genes"], "rna_signal": [signal]}
    chosen = settings | {"definition": "promoter", "gene_type": "all"}
    assert list(label_tasks.make("expression", own, chosen, GENOME).windows) == ["promoter"]
    assert "unknown" in problems(label_tasks.make, "tads", {}, {}, GENOME)
