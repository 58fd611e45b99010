"""Variants: read in any form, checked against the genome, every fault told."""

from __future__ import annotations

import gzip

import numpy as np
import pysam
import pytest

from epiloom.data import variants
from epiloom.data.genome import Genome
from epiloom.plan.errors import InputError
from tests.made_sequences import MadeGenome

SEQUENCE = "".join(np.random.default_rng(5).choice(list("ACGT"), 400))
CHROMOSOMES = {"chr1": SEQUENCE, "chr2": "N" * 20 + SEQUENCE[::-1].lower(), "chrM": SEQUENCE[:90]}
GENOME = Genome("toy", tuple(CHROMOSOMES), tuple(map(len, CHROMOSOMES.values())))
READER = MadeGenome(**CHROMOSOMES)
OTHER = dict(zip("ACGT", "CGTA", strict=True))


def row(position: int, chrom: str = "chr1", width: int = 1, name: str = ".") -> list:
    """A true substitution of the last base of `width` bases, position 1-based."""
    ref = CHROMOSOMES[chrom][position - 1 : position - 1 + width].upper()
    return [chrom, position, name, ref, ref[:-1] + OTHER[ref[-1]]]


def vcf(path, *rows, packed=None, head="##fileformat=VCFv4.2\n"):
    lines = ["#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    lines += ["\t".join(map(str, [*fields, ".", "PASS", "AC=1"])) for fields in rows]
    text = head + "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    return path


def table(path, *rows, header="chrom\tposition\tref\talt\tid"):
    lines = ["\t".join(map(str, (c, p, r, a, i))) for c, p, i, r, a in rows]
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def checked(path, **options):
    return variants.check(variants.read(path), path, GENOME, READER, **options)


def refused(path, **options) -> str:
    with pytest.raises(InputError) as caught:
        checked(path, **options)
    return str(caught.value)


def test_vcf_and_table_plain_gzip_and_bgzip_give_the_same_variants(tmp_path):
    rows = [row(7, name="rs1"), row(23, "chr2", 22), row(200), row(50)]
    plain = checked(vcf(tmp_path / "a.vcf", *rows)).table
    assert plain["position"].tolist() == [6, 49, 199, 22]
    packed = checked(vcf(tmp_path / "b.vcf.gz", *rows, packed=True)).table
    pysam.tabix_compress(str(tmp_path / "a.vcf"), str(tmp_path / "c.vcf.gz"))
    assert packed.equals(plain) and checked(tmp_path / "c.vcf.gz").table.equals(plain)
    from_table = checked(table(tmp_path / "a.tsv", *rows)).table
    columns = list(variants.FIELDS)
    assert from_table[columns].equals(plain[columns])
    assert plain["id"].tolist() == ["rs1", "", "", ""]


def test_several_alternatives_become_rows_and_those_without_sequence_are_counted(tmp_path):
    ref = SEQUENCE[9]
    others = [base for base in "ACGT" if base != ref]
    rows = [
        ["chr1", 10, ".", ref, ",".join(others)],
        ["chr1", 10, ".", ref, f"<DEL>,*,{others[0]}"],
        ["chr1", 10, ".", ref, f"{ref}[chr2:50["],
        ["chr1", 10, ".", ref, "."],
        ["chr1", 10, ".", ref, "R"],
        ["chr1", 10, ".", ref.lower(), ref.lower() + "tt"],
    ]
    found = variants.read(vcf(tmp_path / "a.vcf", *rows))
    assert found.table["alt"].tolist() == [*others, ref + "TT"]
    assert found.counts == {
        **{"given": 10, "symbolic": 2, "duplicates": 1, "breakend": 1},
        **{"no_alternative": 1, "ambiguous_letters": 1, "kept": 4},
    }


def test_names_without_chr_are_matched_with_a_notice_and_unknown_ones_counted(tmp_path, caplog):
    first, mito = row(20), row(30, "chrM")
    rows = [["1", *first[1:]], first, ["MT", *mito[1:]], ["GL000.1", 5, ".", "A", "C"]]
    found = checked(vcf(tmp_path / "a.vcf", *rows))
    assert found.table["chrom"].tolist() == ["chr1", "chrM"]
    assert found.counts["duplicates"] == 1 and found.counts["other_chromosome"] == 1
    assert "called as in the genome (1 -> chr1" in caplog.text and "GL000.1" in caplog.text
    told = refused(vcf(tmp_path / "b.vcf", ["scaffold_1", 5, ".", "A", "C"]))
    assert "no variant lies on a chromosome of toy" in told and "scaffold_1" in told


def test_rows_are_put_in_the_order_of_the_genome(tmp_path):
    rows = [row(50, "chr2"), row(90), row(5, "chrM"), row(8), row(8, width=3)]
    found = checked(vcf(tmp_path / "a.vcf", *rows)).table
    assert found["chrom"].tolist() == ["chr1"] * 3 + ["chr2", "chrM"]
    assert found["position"].tolist() == [7, 7, 89, 49, 4]


def test_alleles_are_compared_without_regard_to_case(tmp_path):
    lower = row(60, "chr2")
    lower[3:] = [text.lower() for text in lower[3:]]
    found = checked(vcf(tmp_path / "a.vcf", lower)).table  # chr2 is lower case in the genome
    assert found["ref"].iloc[0] == CHROMOSOMES["chr2"][59].upper()


def test_swapped_alleles_are_named_as_such(tmp_path):
    rows = [row(k) for k in (10, 20, 30)]
    for fields in rows:
        fields[3], fields[4] = fields[4], fields[3]
    told = refused(vcf(tmp_path / "a.vcf", *rows))
    assert told.count("the genome has alt there; swap ref and alt") == 3
    assert "every one has its alleles swapped" in told and "line 3:" in told


def test_positions_counted_from_0_and_other_assemblies_are_recognised(tmp_path):
    rows = [row(k) for k in range(20, 60)]
    for fields in rows:
        fields[1] -= 1
    assert "positions look 0-based" in refused(vcf(tmp_path / "a.vcf", *rows))
    rows = [[c, (p * 37) % 390 + 1, n, r, a] for c, p, n, r, a in map(row, range(20, 60))]
    told = refused(vcf(tmp_path / "b.vcf", *rows), strict=False)
    assert "on another assembly" in told and "more lines: ref is not the base" in told
    assert told.count("line ") == 20


def test_single_mismatches_are_refused_or_left_out_as_wished(tmp_path):
    rows = [row(k) for k in range(20, 60, 3)]
    position = next(k for k in range(100, 200) if len(set(SEQUENCE[k - 2 : k + 1])) == 3)
    ref, alt = (b for b in "ACGT" if b not in SEQUENCE[position - 1 : position + 1])
    path = vcf(tmp_path / "a.vcf", *rows, ["chr1", position, ".", ref, alt])
    has = SEQUENCE[position - 1]
    assert f"chr1:{position} {ref}>{alt}: the genome has {has}; correct the row" in refused(path)
    found = checked(path, strict=False)
    assert found.counts["mismatches"] == 1 and len(found.table) == len(rows)


def test_unknown_bases_and_places_beyond_the_chromosome_are_told(tmp_path):
    rows = [["chr2", 5, ".", "A", "C"], ["chr1", 401, ".", "A", "C"], row(20)]
    rows.append(["chr1", 399, ".", SEQUENCE[398:] + "A", SEQUENCE[398]])
    told = refused(vcf(tmp_path / "a.vcf", *rows))
    assert "the genome has N (unknown bases)" in told
    assert "line 4: chr1:401 A>C: position lies beyond the end of chr1 (400 bases" in told
    assert "the end of ref lies beyond" in told


def test_all_malformed_lines_are_told_at_once(tmp_path):
    rows = [
        *(["chr1", "0", ".", "A", "C"], ["chr1", "x1", ".", "A", "C"]),
        *(["chr1", 5, ".", "A", "a"], ["chr1", 5, ".", "-", "A"], ["chr1", 5, ".", "A1", "C"]),
    ]
    path = vcf(tmp_path / "a.vcf", *rows)
    path.write_text(path.read_text() + "chr1\t5\n")
    told = refused(path)
    for number, what in (
        *((3, "position '0'"), (4, "position 'x1'"), (5, "ref and alt are both A")),
        *((6, "allele '-'"), (7, "allele 'A1'"), (8, "2 columns between tabs")),
    ):
        assert f"line {number}: {what}" in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        ("##fileformat=VCFv4.2\nchr1\t5\t.\tA\tC\n", "no #CHROM line"),
        ("##fileformat=VCFv4.2\n#CHROM\tPOS\tREF\tALT\tID\n", "must begin with #CHROM POS ID"),
        ("chrom\tstart\tend\nchr1\t4\t5\n", "no column position, ref, alt"),
        ("chr1 5 A C\n", "no column chrom"),
        ("chrom\tpos\tref\talt\n", "has no variants"),
        ("chrom\tpos\tref\talt\tstrand\nchr1\t5\tA\tC\t-\n", "both alleles on the + strand"),
    ],
)
def test_files_that_are_no_variants_are_refused(tmp_path, text, told):
    path = tmp_path / "a.txt"
    path.write_text(text)
    assert told in refused(path)


def test_missing_binary_and_cut_files_are_refused(tmp_path):
    assert "there is no such file" in refused(tmp_path / "none.vcf")
    (tmp_path / "a.bcf").write_bytes(gzip.compress(b"BCF\x02\x02" + bytes(range(128, 256))))
    assert "bcftools view" in refused(tmp_path / "a.bcf")
    path = vcf(tmp_path / "a.vcf.gz", *[row(k) for k in range(1, 300)], packed=True)
    path.write_bytes(path.read_bytes()[:-200])
    assert "is cut short" in refused(path)
