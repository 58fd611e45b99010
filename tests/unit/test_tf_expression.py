"""Factors' expression: tables as they come, and the common scale against a slow loop."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from epiloom.data.expression_tables import (
    cell_expression,
    plain_id,
    read_aliases,
    read_matrix,
    read_quantification,
    read_symbols,
)
from epiloom.data.tf_expression import Reference, factor_rows, read_vectors, write_vectors
from epiloom.plan.errors import InputError

RSEM = "gene_id\ttranscript_id(s)\tlength\teffective_length\texpected_count\tTPM\tFPKM\n"
FACTORS = [f"TF{k}" for k in range(40)]


def made_table(seed: int = 0, cells: int = 6, ties: bool = False) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    values = rng.gamma(0.5, 20, (len(FACTORS), cells)) * rng.uniform(0.1, 5, cells)
    if ties:
        values[rng.random(values.shape) < 0.3] = 0
        values = np.where(rng.random(values.shape) < 0.3, np.round(values), values)
    return pd.DataFrame(values, index=FACTORS, columns=[f"cell {c}" for c in range(cells)])


def slow(table: pd.DataFrame, train: list[str], cell: str) -> np.ndarray:
    """Value by value, as the definition reads."""
    ordered = [sorted(table[c]) for c in train]
    mean = [sum(column[k] for column in ordered) / len(ordered) for k in range(len(table))]
    column = list(table[cell])
    return np.array(
        [math.log(1 + mean[sum(other < value for other in column)]) for value in column]
    )


@pytest.mark.parametrize("ties", [False, True])
def test_vectors_are_those_of_the_slow_loop(ties):
    table = made_table(1, ties=ties)
    train = list(table)[:4]
    reference = Reference.fit(table, train)
    found = reference.vectors(table, list(table))
    for row, cell in zip(found, table, strict=True):
        np.testing.assert_allclose(row, slow(table, train, cell), rtol=1e-6)


def test_training_cells_get_the_same_sorted_values():
    table = made_table(2)
    reference = Reference.fit(table, list(table)[:5])
    found = np.sort(reference.vectors(table, list(table)[:5]), axis=1)
    assert (found == found[0]).all()
    np.testing.assert_allclose(found[0], np.log1p(reference.values), rtol=1e-6)


def test_mapping_is_monotone_and_scale_does_not_count():
    table = made_table(3, ties=True)
    reference = Reference.fit(table, list(table)[:3])
    vector = reference.vectors(table, ["cell 5"])[0]
    order = np.argsort(table["cell 5"].to_numpy(), kind="stable")
    assert (np.diff(vector[order]) >= 0).all()
    again = reference.vectors(table * 17.5, ["cell 5"])[0]
    assert (again == vector).all()  # RPKM and TPM differ by a factor per cell


def test_zeros_tie_at_the_lowest_value():
    table = made_table(4, ties=True)
    reference = Reference.fit(table, list(table)[:3])
    zero = (table["cell 4"] == 0).to_numpy()
    vector = reference.vectors(table, ["cell 4"])[0]
    assert zero.sum() > 3
    np.testing.assert_allclose(vector[zero], np.log1p(reference.values[0]), rtol=1e-6)


def test_a_new_cell_changes_nothing_of_the_old_ones():
    table = made_table(5)
    train = list(table)[:4]
    reference = Reference.fit(table, train, held_out=["cell 5"])
    before = reference.vectors(table, train)
    wider = table.assign(new=np.random.default_rng(9).gamma(1, 1000, len(table)))
    wider["cell 5"] *= 1e6  # nor does a held-out cell's level
    assert (Reference.fit(wider, train).values == reference.values).all()
    assert (reference.vectors(wider, [*train, "new"])[:4] == before).all()


def test_a_held_out_cell_is_refused_in_the_reference():
    table = made_table()
    with pytest.raises(InputError, match="cell 1 is held out"):
        Reference.fit(table, ["cell 0", "cell 1"], held_out=["cell 1"])
    with pytest.raises(InputError) as err:
        Reference.fit(table, ["cell 0", "cell 0", "else"])
    assert len(err.value.problems) == 2


def test_order_of_rows_does_not_matter_but_that_of_the_reference_stays():
    table = made_table(6)
    reference = Reference.fit(table, list(table)[:4])
    shuffled = table.sample(frac=1, random_state=1)
    assert (reference.vectors(shuffled, ["cell 5"]) == reference.vectors(table, ["cell 5"])).all()


def test_missing_factors_are_never_zero():
    table = made_table(7)
    table.iloc[3, 1] = np.nan
    reference = Reference.fit(table, list(table)[:4])
    assert reference.left_out == ("TF3",) and "TF3" not in reference.factors
    table.loc["TF8", "cell 5"] = np.nan
    with pytest.raises(InputError, match="cell 5 lacks 1 of 39 factors .TF8"):
        reference.vectors(table, ["cell 5"])
    found = reference.vectors(table, ["cell 5"], missing="usual")[0]
    place = reference.factors.index("TF8")
    expected = reference.vectors(table, list(table)[:4])[:, place].mean()
    assert found[place] == pytest.approx(expected, rel=1e-6)
    rest = np.delete(found, place)
    # the others still reach from the lowest to the highest value of the reference
    assert rest.min() == np.float32(np.log1p(reference.values[0]))
    assert rest.max() == np.float32(np.log1p(reference.values[-1]))


def test_reference_is_kept_to_the_last_bit_and_damage_is_seen(tmp_path):
    path = tmp_path / "reference.json"
    reference = Reference.fit(made_table(8), ["cell 0", "cell 2"])
    reference.save(path)
    again = Reference.load(path)
    assert again.factors == reference.factors and again.cells == reference.cells
    assert (again.values == reference.values).all() and again.checksum == reference.checksum
    told = json.loads(path.read_text())
    told["factors"][:2] = told["factors"][1::-1]
    path.write_text(json.dumps(told))
    with pytest.raises(InputError, match="not as it was written"):
        Reference.load(path)
    path.write_text("{")
    with pytest.raises(InputError, match="damaged"):
        Reference.load(path)
    with pytest.raises(InputError, match="no such file"):
        Reference.load(tmp_path / "none.json")


def test_vectors_belong_to_their_reference(tmp_path):
    table, path = made_table(9), tmp_path / "vectors.npz"
    reference = Reference.fit(table, ["cell 0", "cell 1"])
    two = ["cell 5", "cell 0"]
    write_vectors(path, two, reference.vectors(table, two), reference)
    cells, vectors = read_vectors(path, reference)
    assert cells == two and vectors.shape == (2, 40)
    turned = Reference.fit(table.iloc[::-1], ["cell 0", "cell 1"])
    with pytest.raises(InputError, match="another reference"):
        read_vectors(path, turned)
    path.write_bytes(b"x")
    with pytest.raises(InputError, match="damaged"):
        read_vectors(path, reference)


# ---- tables --------------------------------------------------------------------------------------


def rsem(path, rows: dict[str, float], header: str = RSEM):
    lines = [f"{gene}\tENST0\t1000.00\t900.00\t5.00\t{tpm}\t0.5\n" for gene, tpm in rows.items()]
    path.write_text(header + "".join(lines))
    return path


def test_replicates_are_averaged_and_versions_do_not_matter(tmp_path):
    one = rsem(tmp_path / "1.tsv", {"ENSG00000000003.14": 4, "ENSG00000000005.5": 0})
    two = rsem(tmp_path / "2.tsv", {"ENSG00000000003.14": 6, "ENSG00000000005.5": 3}, header="")
    found = cell_expression([one, two])
    assert found.to_dict() == {"ENSG00000000003": 5.0, "ENSG00000000005": 1.5}
    swapped = tmp_path / "3.tsv"
    swapped.write_text("gene_id\tTPM\nENSG00000000003.1\t8\n")
    assert read_quantification(swapped)["ENSG00000000003"] == 8


def test_pseudoautosomal_copies_are_one_gene(tmp_path):
    path = rsem(tmp_path / "a.tsv", {"ENSG00000182378.13": 4, "ENSG00000182378.13_PAR_Y": 1})
    assert read_quantification(path).to_dict() == {"ENSG00000182378": 5.0}
    assert plain_id("ENSGR0000182378.8") == "ENSG00000182378"
    assert plain_id("SOX2") == "SOX2" and plain_id("10904") == "10904"


def test_faulty_quantifications_are_refused_with_all_lines(tmp_path):
    path = rsem(tmp_path / "a.tsv", {"ENSG01.1": "x", "ENSG02.1": -1, "ENSG03.1": 2})
    with pytest.raises(InputError) as err:
        read_quantification(path)
    assert [p.split(":")[0] for p in err.value.problems] == ["line 2", "line 3"]
    path.write_text(RSEM + "ENSG01.1\t.\t1\t1\t1\t2\t1\nENSG01.1\t.\t1\t1\t1\tNA\t1\n")
    with pytest.raises(InputError) as err:
        read_quantification(path)
    assert len(err.value.problems) == 2
    path.write_text("gene\tcount\nA\t3\n")
    with pytest.raises(InputError, match="has no column TPM"):
        read_quantification(path)


def test_matrices_of_all_forms_are_read(tmp_path):
    path = tmp_path / "m.tsv"
    path.write_text("symbol\tleft lung\tH1\nSOX2\t1\t2.5\nTP63\tNA\t0\n")
    found = read_matrix(path)
    assert list(found) == ["left lung", "H1"] and found.loc["SOX2", "H1"] == 2.5
    assert np.isnan(found.loc["TP63", "left lung"])
    path.write_text('"left, lung",H1\nSOX2,1,2\n')  # as R writes it
    assert read_matrix(path, ["H1"]).to_dict() == {"H1": {"SOX2": 2.0}}
    path.write_text("gene_id\tE000\tE003\nENSG00000000003\t1\t2\t\n")  # as Roadmap writes it
    assert list(read_matrix(path)) == ["E000", "E003"]
    path.write_text("gene_id\tE000\tE003\t\nENSG00000000003.2\t1\t2\t\n")
    assert read_matrix(path).loc["ENSG00000000003"].tolist() == [1, 2]
    path.write_text("symbol\tA\tB\nSOX2\t1\t2\nSPI1\t1\t\n")  # an empty field is no value
    assert np.isnan(read_matrix(path).loc["SPI1", "B"])


def test_faulty_matrices_are_refused(tmp_path):
    path = tmp_path / "m.tsv"
    path.write_text("gene\tA\tB\nSOX2\t-1\t2\n")
    with pytest.raises(InputError, match="line 2: column A is '-1'"):
        read_matrix(path)
    with pytest.raises(InputError, match="no column for C; it has A, B"):
        read_matrix(path, ["A", "C"])
    path.write_text("gene\tA\tA\nSOX2\t1\t2\n")
    with pytest.raises(InputError, match="stands there twice"):
        read_matrix(path)
    path.write_text("gene\tA\tB\nSOX2\t1\n")
    with pytest.raises(InputError, match="3 names, the next 2 fields"):
        read_matrix(path)
    path.write_text("gene\tA\tB\nSOX2\t1\t2\nSPI1\t1\n")
    with pytest.raises(InputError, match="line 3: 2 columns instead of 3"):
        read_matrix(path)


def test_factors_are_found_by_symbol_id_and_alias():
    ids = pd.DataFrame({"c": [1.0, 2.0, 3.0, 4.0]}, index=["ENSG1", "ENSG2", "ENSG3", "ENSG4"])
    symbols = {"SOX2": ["ENSG1"], "HSFY1": ["ENSG2"], "HSFY2": ["ENSG3"], "NSD2": ["ENSG4"]}
    found = factor_rows(ids, ["SOX2", "HSFY1; HSFY2", "WHSC1", "GONE"], symbols, {"WHSC1": "NSD2"})
    assert found.values["c"].tolist()[:3] == [1, 5, 4] and np.isnan(found.values.loc["GONE", "c"])
    assert found.missing == ("GONE",) and found.renamed == {"WHSC1": "NSD2"}
    named = pd.DataFrame({"c": [1.0, np.nan], "d": [2.0, 3.0]}, index=["SOX2", "SOX2"])
    assert factor_rows(named, ["SOX2"]).values.loc["SOX2"].tolist() == [1, 5]
    with pytest.raises(InputError, match="holds none of 1 factors"):
        factor_rows(ids, ["SOX2"])
    with pytest.raises(InputError, match="SOX2 is named twice"):
        factor_rows(named, ["SOX2", "SOX2"])


def test_aliases_are_read(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("symbol\talias\nWHSC1\tNSD2\n")
    assert read_aliases(path) == {"WHSC1": "NSD2"}
    path.write_text("symbol\talias\nA\tB\nA\tC\nD\t\n")
    with pytest.raises(InputError) as err:
        read_aliases(path)
    assert len(err.value.problems) == 2
    path.write_text("symbol\tother\nA\tB\n")
    with pytest.raises(InputError, match="needs the columns"):
        read_aliases(path)


def test_symbols_come_from_gtf_or_table_and_coding_genes_first(tmp_path):
    path = tmp_path / "g.gtf"
    line = 'chrQ\tx\tgene\t1\t9\t.\t+\t.\tgene_id "{}"; gene_type "{}"; gene_name "{}";\n'
    path.write_text(
        "##x\n"
        + line.format("ENSG00000000001.2", "lincRNA", "A")
        + line.format("ENSG00000000002.2", "protein_coding", "A")
    )
    assert read_symbols(path) == {"A": ["ENSG00000000002", "ENSG00000000001"]}
    path.write_text("gene_id\tgene_name\nENSG00000000003.1\tB\n")
    assert read_symbols(path) == {"B": ["ENSG00000000003"]}
    path.write_text("nothing\n")
    with pytest.raises(InputError, match="no gene line"):
        read_symbols(path)


# ---- real tables ---------------------------------------------------------------------------------


def test_real_factor_table_is_normalised(shared):
    path = shared / "data/epigept/tf_tpm_55cells.tsv.gz"
    if not path.exists():
        pytest.skip("no table of factors")
    table = read_matrix(path)
    assert table.shape == (678, 55)
    reference = Reference.fit(table, list(table)[:40])
    found = reference.vectors(table, list(table))
    assert found.shape == (55, 678) and np.isfinite(found).all()
    assert found[0].mean() == pytest.approx(found[30].mean(), rel=0.05)
    levels = table.mean()
    assert levels.max() / levels.min() > 20  # which is why


def test_roadmap_matrix_gives_the_factors_by_gene_id(shared):
    folder = shared / "data/roadmap_tables"
    if not folder.exists():
        pytest.skip("no Roadmap tables")
    table = read_matrix(folder / "57epigenomes.RPKM.pc.gz")
    symbols = read_symbols(folder / "gencode_10_genes.gtf.gz")
    names = read_matrix(shared / "data/epigept/tf_tpm_55cells.tsv.gz").index
    found = factor_rows(table, list(names), symbols)
    assert found.values.shape == (678, 57)
    assert len(found.missing) < 0.1 * len(names)
    assert found.values.loc["POU5F1", "E003"] > 10 * found.values.loc["POU5F1", "E066"]
    kept = Reference.fit(found.values, [c for c in table if c not in ("E000", "E116")])
    assert set(kept.left_out) == set(found.missing)
    assert np.isfinite(kept.vectors(found.values, ["E116"])).all()
