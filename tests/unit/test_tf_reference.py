"""Factors' expression ranked among all genes: against a slow loop, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from epiloom.data.tf_expression import Reference, coding_rows, read_vectors, write_vectors
from epiloom.plan.errors import InputError

CELLS = [f"cell {c}" for c in range(5)]
FACTORS = ["G3", "G17", "G40", "G41"]


def made_genes(seed: int = 0, count: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    values = rng.gamma(0.5, 20, (count, len(CELLS)))
    values[rng.random(values.shape) < 0.3] = 0
    return pd.DataFrame(values, index=[f"G{k}" for k in range(count)], columns=CELLS)


def slow(genes: pd.DataFrame, train: list[str], cell: str, value: float) -> float:
    ordered = [sorted(genes[c]) for c in train]
    rank = min(sum(other < value for other in genes[cell]), len(genes) - 1)
    return math.log(1 + sum(column[rank] for column in ordered) / len(ordered))


def test_vectors_are_those_of_the_slow_loop():
    genes = made_genes()
    train, table = CELLS[:3], genes.loc[FACTORS]
    reference = Reference.fit(table, train, CELLS[3:], genes)
    found = reference.vectors(table, CELLS, genes=genes)
    for row, cell in zip(found, CELLS, strict=True):
        wanted = [slow(genes, train, cell, value) for value in table[cell]]
        np.testing.assert_allclose(row, wanted, rtol=1e-6)
    np.testing.assert_allclose(reference.usual, found[:3].mean(axis=0), rtol=1e-6)


def test_sums_of_factors_may_lie_above_every_gene():
    genes = made_genes(1)
    table = pd.DataFrame([genes.sum()], index=["all; of; them"])
    reference = Reference.fit(table, CELLS, genes=genes)
    found = reference.vectors(table, CELLS, genes=genes)
    np.testing.assert_allclose(found, np.log1p(reference.values[-1]), rtol=1e-6)


def test_how_many_other_factors_are_on_does_not_count():
    genes = made_genes(2)
    silent = genes.copy()
    silent.loc[FACTORS[1:], "cell 4"] = 0.0
    among_all, among_factors = [], []
    for whole in (genes, silent):
        table = whole.loc[FACTORS]
        reference = Reference.fit(table, CELLS[:4], genes=whole)
        among_all.append(reference.vectors(table, ["cell 4"], genes=whole)[0, 0])
        few = Reference.fit(table, CELLS[:4])
        among_factors.append(few.vectors(table, ["cell 4"])[0, 0])
    assert abs(among_all[0] - among_all[1]) < 0.1 < abs(among_factors[0] - among_factors[1])


def test_a_cell_with_fewer_genes_is_spread_over_the_ranks():
    genes = made_genes(3)
    table, reference = genes.loc[FACTORS], None
    reference = Reference.fit(table, CELLS[:4], genes=genes)
    whole = reference.vectors(table, ["cell 4"], genes=genes)
    few = genes.copy()
    lost = [g for g in genes.index[::3] if g not in FACTORS]
    few.loc[lost, "cell 4"] = np.nan
    assert np.abs(reference.vectors(table, ["cell 4"], genes=few) - whole).max() < 0.3
    few.loc[genes.index[50:], "cell 4"] = np.nan
    with pytest.raises(InputError, match="lacks 266 of 300 genes; give a table of all genes"):
        reference.vectors(table, ["cell 4"], genes=few)
    with pytest.raises(InputError, match="give the table of all genes too"):
        reference.vectors(table, ["cell 4"])


def test_a_reference_with_genes_is_kept_to_the_last_bit(tmp_path):
    genes = made_genes(4)
    reference = Reference.fit(genes.loc[FACTORS], CELLS, genes=genes)
    reference.save(tmp_path / "r.json")
    again = Reference.load(tmp_path / "r.json")
    assert again.genes == reference.genes and (again.values == reference.values).all()
    vectors = again.vectors(genes.loc[FACTORS], CELLS, genes=genes)
    write_vectors(tmp_path / "v.npz", CELLS, vectors, again)
    assert read_vectors(tmp_path / "v.npz", reference)[0] == CELLS
    other = Reference.fit(genes.loc[FACTORS], CELLS)
    with pytest.raises(InputError, match="another reference"):
        read_vectors(tmp_path / "v.npz", other)


def test_coding_genes_are_those_of_the_annotation(tmp_path):
    gtf = tmp_path / "a.gtf"
    kinds = {"ENSG01": "protein_coding", "ENSG02": "lincRNA", "ENSG03": "protein_coding"}
    gtf.write_text(
        "".join(
            f'chr1\t.\tgene\t1\t9\t.\t+\t.\tgene_id "{gene}.4"; gene_type "{kind}"; '
            f'gene_name "N{gene[-1]}";\n'
            for gene, kind in kinds.items()
        )
    )
    table = pd.DataFrame({"c": [1.0, 2.0, 3.0, 4.0]}, index=["ENSG03", "ENSG01", "ENSG02", "N3"])
    assert list(coding_rows(table, gtf).index) == ["ENSG01", "ENSG03", "N3"]
    assert len(coding_rows(table)) == 4
    doubled = pd.concat([table, table.iloc[:1]])
    assert coding_rows(doubled, gtf).loc["ENSG03", "c"] == 2
    with pytest.raises(InputError, match="no protein-coding gene"):
        coding_rows(table.loc[["ENSG02"]], gtf)
