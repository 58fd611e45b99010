"""The table of eQTLs: read in any form, checked against the genome, lifted over, simulated."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest
from pyliftover import LiftOver

from epiloom.data import eqtls
from epiloom.data.simulate import Plan
from epiloom.data.simulate import eqtls as planted
from epiloom.data.simulate.addresses import Addresses
from epiloom.data.simulate.tables import write_genome
from epiloom.data.simulate.world import make_world
from epiloom.plan.errors import InputError
from epiloom.studies import eqtl

DISTAL = [j for j in range(20) if j not in (8, 9, 10)]
B_CELLS = "Cells_EBV-transformed_lymphocytes"


def write_fasta(path, **bases):
    lines = []
    for name, text in bases.items():
        lines += [f">{name} made up", *(text[i : i + 50] for i in range(0, len(text), 50))]
    with gzip.open(path, "wt") as file:
        file.write("\n".join(lines) + "\n")
    return path


def sequence(seed: int, length: int = 3_000) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGTacgt"), length))


def variants(bases: str, count: int = 200, offset: int = 0) -> pd.DataFrame:
    """A table as published, with the alleles of `bases`, positions moved by `offset`."""
    rng = np.random.default_rng(9)
    places = rng.integers(100, len(bases) - 100, count)
    other = {"A": "C", "C": "G", "G": "T", "T": "A"}
    rows = []
    for i, place in enumerate(places.tolist()):
        ref = bases[place].upper()
        alleles = (ref, other[ref]) if i % 3 else (other[ref], ref)  # order is not to be trusted
        variant = f"chr1:{place + 1 + offset}:{alleles[0]}:{alleles[1]}"
        rows.append((B_CELLS, f"ENSG{i:011d}.{i % 9 + 1}", variant))
    return pd.DataFrame(rows, columns=["tissue", "gene", "variant"])


def as_file(table: pd.DataFrame, path):
    table.to_csv(path, sep="\t", index=False)
    return path


def test_spreadsheet_and_text_file_give_the_same_table(tmp_path):
    table = variants(sequence(1))
    table.to_excel(tmp_path / "a.xlsx", sheet_name=eqtls.SHEET, index=False)
    table["variant"] = table["variant"].str.replace(":", "_") + "_b38"
    with gzip.open(tmp_path / "a.tsv.gz", "wt") as file:
        table[["variant", "gene", "tissue"]].to_csv(file, sep="\t", index=False)
    one, two = eqtls.read(tmp_path / "a.xlsx"), eqtls.read(tmp_path / "a.tsv.gz")
    pd.testing.assert_frame_equal(one, two)
    assert tuple(one.columns) == eqtls.FIELDS and one["gene_id"].str.fullmatch(r"ENSG\d{11}").all()
    stated = int(table["variant"].iloc[0].split("_")[1])
    assert one["position"].iloc[0] == stated - 1  # 1-based in the file


def test_faulty_tables_are_refused_with_all_problems(tmp_path):
    table = variants(sequence(1), 5)
    table.loc[1, "variant"] = "chr1:12:A"
    table.loc[3, "variant"] = "1-12-A-C"
    with pytest.raises(InputError) as caught:
        eqtls.read(as_file(table, tmp_path / "a.tsv"))
    assert "row 3" in str(caught.value) and "row 5" in str(caught.value)
    with pytest.raises(InputError, match="no column variant"):
        eqtls.read(as_file(table.drop(columns="variant"), tmp_path / "a.tsv"))
    table.to_excel(tmp_path / "a.xlsx", sheet_name="other", index=False)
    with pytest.raises(InputError, match="no sheet 'put_causal_eqtls_tissue_unique'; it has other"):
        eqtls.read(tmp_path / "a.xlsx")


def test_a_table_of_another_assembly_is_refused_with_the_share_that_fits(tmp_path):
    bases = sequence(2)
    fasta = write_fasta(tmp_path / "genome.fa.gz", chr2=sequence(3), chr1=bases)
    good = eqtls.read(as_file(variants(bases), tmp_path / "good.tsv"))
    found = eqtls.prepare(good, "good", "hg19", "hg19", fasta)
    assert len(found.table) == 200 and found.counts["allele_changed"] == 0
    wrong = eqtls.read(as_file(variants(bases, offset=37), tmp_path / "wrong.tsv"))
    with pytest.raises(InputError, match=r"only \d\d% of its 200 variants.*eqtl_assembly = hg19"):
        eqtls.prepare(wrong, "wrong", "hg19", "hg19", fasta)
    with pytest.raises(InputError, match=r"is on another assembly.*liftover_hg38_hg19"):
        eqtls.prepare(wrong, "wrong", "auto", "hg19", fasta)
    with pytest.raises(InputError, match="is on hg38, the run on hg19"):
        eqtls.prepare(wrong, "wrong", "hg38", "hg19")
    with pytest.raises(InputError, match="auto needs the sequence"):
        eqtls.prepare(good, "good", "auto", "hg19")


def chain_file(path):
    """hg38-like chr1 of 4000 bases to 3000: 0-499 gone, 500-1999 moved, 2000-2999 turned round."""
    text = (
        "chain 900 chr1 4000 + 500 2000 chr1 3000 + 0 1500 1\n1500\n\n"
        "chain 800 chr1 4000 + 2000 3000 chr1 3000 - 0 1000 2\n1000\n\n"
    )
    path.write_text(text)
    return path


def test_lift_over_follows_the_chain_and_counts_what_is_lost(tmp_path):
    new = sequence(7)  # 3000 bases
    swap = str.maketrans("ACGTacgt", "TGCAtgca")
    old = sequence(8, 500) + new[:1_500] + new[2_000:].translate(swap)[::-1] + sequence(9, 1_000)
    fasta = write_fasta(tmp_path / "new.fa.gz", chr1=new)
    lift = LiftOver(str(chain_file(tmp_path / "a.chain"))).convert_coordinate
    table = eqtls.read(as_file(variants(old, 400), tmp_path / "old.tsv"))
    for stated in ("hg38", "auto"):
        found = eqtls.prepare(table, "old", stated, "hg19", fasta, lift)
        inside = (table["position"] >= 500) & (table["position"] < 3_000)
        assert found.counts["unmapped"] == int((~inside).sum()) > 0
        assert found.counts["kept"] == int(inside.sum()) and found.counts["allele_changed"] == 0
    forward = table[(table["position"] >= 500) & (table["position"] < 2_000)]
    lifted, _ = eqtls.lift(forward, lift)
    assert lifted["position"].tolist() == (forward["position"] - 500).tolist()
    turned = table[(table["position"] >= 2_000) & (table["position"] < 3_000)]
    lifted, _ = eqtls.lift(turned, lift)
    assert lifted["position"].tolist() == (4_999 - turned["position"]).tolist()
    assert lifted["ref"].tolist() == turned["ref"].str.translate(swap).tolist()
    changed = new[:800] + sequence(20, 60) + new[860:]  # an allele that the new assembly lost
    fasta = write_fasta(tmp_path / "changed.fa.gz", chr1=changed)
    found = eqtls.prepare(table, "old", "hg38", "hg19", fasta, lift)
    assert 0 < found.counts["allele_changed"] <= 20


def test_longer_alleles_are_lifted_whole():
    def convert(chrom, place):
        return [(chrom, 1_000 - place, "-", 5)] if place != 33 else []

    rows = [("t", "g", "chr1", 20, "ACC", "A"), ("t", "g", "chr1", 32, "AG", "A")]
    table, lost = eqtls.lift(pd.DataFrame(rows, columns=list(eqtls.FIELDS)), convert)
    assert lost == 1
    assert table.iloc[0][["position", "ref", "alt"]].tolist() == [978, "GGT", "T"]


def test_simulated_eqtls_lie_in_distal_bins_and_match_the_genome(tmp_path):
    plan = Plan(chromosomes=2, length_bp=400_000, cells=("E003", "E007", "E116"), assays=("DNase",))
    world, paths = make_world(plan), Addresses(plan, tmp_path)
    number = planted.write_eqtls(world, paths)
    write_genome(world, paths)
    table = eqtls.read(paths("causal_eqtl"))
    found = eqtls.prepare(table, "simulated", "hg19", "hg19", paths("genome_fasta"))
    assert found.counts == {"given": len(table), "unmapped": 0, "allele_changed": 0} | {
        "kept": len(table)
    }
    truth = pd.read_csv(paths.truth("eqtls.tsv"), sep="\t", keep_default_na=False)
    pd.testing.assert_frame_equal(table, truth[list(eqtls.FIELDS)], check_dtype=False)
    real = truth[truth["element"] != ""]
    assert len(real) == number and set(real["tissue"]) == {
        *("Brain_Cerebellum", "Brain_Hippocampus", B_CELLS)
    }
    assert (
        not real.duplicated(["chrom", "position"]).any()
        or real.groupby(["chrom", "position"])["tissue"].nunique().max() == 1
    )
    assert (real["effect"].abs() >= 0.02).all() and real["distance"].abs().between(4e3, 2e4).all()
    where = {gene: i for i, gene in enumerate(world.genes.ids.tolist())}
    row = truth["gene_id"].map(where).to_numpy()
    tss = world.layout.local(world.genes.tss)[1][row]
    strand = np.where(world.genes.strand[row] > 0, "+", "-")
    start, end = eqtl.bin_interval(tss, strand, truth["bin"])
    assert ((truth["position"] >= start) & (truth["position"] < end)).all()
    assert set(real["bin"]) <= set(DISTAL)


def test_the_simulated_spreadsheet_has_the_same_bytes_every_time(tmp_path):
    plan = Plan(chromosomes=1, length_bp=200_000, cells=("E116",), assays=("DNase",))
    for name in ("a", "b"):
        planted.write_eqtls(make_world(plan), Addresses(plan, tmp_path / name))
    one, two = (Addresses(plan, tmp_path / name)("causal_eqtl").read_bytes() for name in "ab")
    assert one == two and b"2021-06-07" not in one[:200]
    sheet = pd.read_excel(Addresses(plan, tmp_path / "a")("causal_eqtl"), sheet_name=eqtls.SHEET)
    assert list(sheet.columns) == ["tissue", "gene", "variant"]
    assert sheet["gene"].str.fullmatch(r"ENSG\d{11}\.\d").all()
