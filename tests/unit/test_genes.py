"""Genes from an annotation joined to expression, and the signal around their start sites."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pyBigWig
import pytest

from epiloom.data.annotation import GENE_COLUMNS, read_genes
from epiloom.data.genes import gene_table, promoter_features
from epiloom.data.genome import Genome, read_chrom_sizes
from epiloom.plan.errors import InputError

SHARED = Path(__file__).resolve().parents[3] / "shared"
GENOME = Genome("tiny", ("chr2", "chrX", "chrY"), (100_000, 50_000, 20_000))


def gene(chrom, start, end, strand, gene_id, kind="protein_coding", name="N", feature="gene"):
    attributes = f'gene_id "{gene_id}"; gene_type "{kind}"; gene_name "{name}"; level 2;'
    return "\t".join([chrom, "HAVANA", feature, str(start), str(end), ".", strand, ".", attributes])


LINES = [
    "##provider: GENCODE",
    gene("chrX", 1001, 2000, "-", "ENSG3.7", name="THREE"),
    gene("chr2", 501, 900, "+", "ENSG1.2", name="ONE"),
    gene("chr2", 501, 900, "+", "ENSG1.2", feature="transcript"),
    gene("chr2", 100, 400, "-", "ENSG2.1", name="TWO"),
    gene("chr2", 100, 400, "-", "ENSG4.1", kind="lincRNA"),
    gene("chrY", 1001, 2000, "-", "ENSG3.7_PAR_Y", name="THREE"),
    gene("chrM", 1, 20, "+", "ENSG9.1"),
    gene("chr2", 5000, 5100, "+", "ENSG8.1"),
]
# Lines of the Roadmap tables end with a tab, and genes stand in another order.
TABLE = (
    "gene_id\tE003\tE116\t\nENSG2\t2.5\t0\t\nENSG3\t30\t1\t\nENSG1\t0.1\t7\t\nENSG4\t4\t4\t\n"
    "ENSG77\t1\t1\t\n"
)


def files(folder, lines=LINES, table=TABLE):
    gtf, rpkm = folder / "genes.gtf.gz", folder / "rpkm.pc.gz"
    gtf.write_bytes(gzip.compress("\n".join(lines).encode()))
    rpkm.write_bytes(gzip.compress(table.encode()))
    return gtf, rpkm


def test_genes_in_both_tables_are_kept_in_genome_order(tmp_path):
    genes, expression = gene_table(*files(tmp_path), GENOME)
    assert list(genes.columns) == GENE_COLUMNS
    assert genes.to_numpy().tolist() == [
        ["ENSG2", "TWO", "chr2", 399, "-", 99, 400],
        ["ENSG1", "ONE", "chr2", 500, "+", 500, 900],
        ["ENSG3", "THREE", "chrX", 1999, "-", 1000, 2000],
    ]
    assert expression.columns.tolist() == ["gene_id", "E003", "E116"]
    assert expression.to_numpy().tolist() == [
        ["ENSG2", 2.5, 0],
        ["ENSG1", 0.1, 7],
        ["ENSG3", 30, 1],
    ]


def test_plain_files_one_cell_and_all_gene_types(tmp_path):
    (tmp_path / "g.gtf").write_text("\n".join(LINES))
    (tmp_path / "r.tsv").write_text(TABLE)
    genes, expression = gene_table(
        tmp_path / "g.gtf", tmp_path / "r.tsv", GENOME, gene_type="all", cells=["E116"]
    )
    assert genes["gene_id"].tolist() == ["ENSG2", "ENSG4", "ENSG1", "ENSG3"]
    assert expression.columns.tolist() == ["gene_id", "E116"]
    assert len(expression) == 4


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (TABLE.replace("E116", "E117"), "no column for cell E116; it has E003, E117"),
        (TABLE.replace("E003", "E116"), "column E116 stands there twice"),
        (TABLE + "ENSG1\t1\t1\t\n", "ENSG1"),
        (TABLE.replace("2.5", "none"), "column E003: 1 entries.*ENSG2"),
        (TABLE.replace("2.5", "-2.5"), "no number of 0 or more"),
        (TABLE.replace("2.5", ""), "column E003: 1 entries"),
        (TABLE.replace("gene_id", "gene"), "must be gene_id and cells"),
        (TABLE.replace("\t", ","), "separated by tabs"),
        ("", "first line"),
        ("gene_id\tE003\tE116\n", "has no gene"),
        (TABLE.replace("ENSG", "NM_"), "shares no gene"),
        (TABLE + "ENSG5\t1\t1\t5\t6\n", "malformed"),
    ],
)
def test_faulty_expression_tables_are_refused_by_name(tmp_path, table, said):
    with pytest.raises(InputError, match=said) as err:
        gene_table(*files(tmp_path, table=table), GENOME, cells=["E003", "E116"])
    assert "rpkm.pc.gz" in str(err.value)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "no gene line"),
        ([gene("2", 1, 9, "+", "ENSG1.1")], "none on tiny"),
        ([gene("chr2", 1, 9, "+", "ENSG1.1", kind="lincRNA")], "choose all or one of lincRNA"),
        ([gene("chr2", 1, 100_001, "+", "ENSG1.1")], "does not fit the 100000 bases"),
        ([gene("chr2", 1, 9, "?", "ENSG1.1")], "line 1"),
        ([gene("chr2", 1, 9, "+", "ENSG1.1")] * 2, "several lines"),
    ],
)
def test_faulty_annotations_are_refused_by_name(tmp_path, lines, said):
    with pytest.raises(InputError, match=said) as err:
        gene_table(*files(tmp_path, lines=lines), GENOME)
    assert "genes.gtf.gz" in str(err.value)


def test_missing_or_cut_files_are_refused_by_name(tmp_path):
    gtf, rpkm = files(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        gene_table(tmp_path / "none.gtf", rpkm, GENOME)
    rpkm.write_bytes(rpkm.read_bytes()[:40])
    with pytest.raises(InputError, match="download it again"):
        gene_table(gtf, rpkm, GENOME)


# --- a table instead of a GTF ---------------------------------------------------------------------


def table_of(folder: Path, *lines: str, name: str = "genes.tsv") -> Path:
    text = "\n".join(lines)
    path = folder / name
    path.write_text(text if name.endswith(".csv") else text.replace(",", "\t"))
    return path


PLAIN = ["gene_id,chrom,strand,tss", "ENSG3.1,chrX,-,1999", "ENSG2,chr2,-,399", "ENSG1,chr2,+,500"]


def test_a_table_of_start_sites_stands_in_for_an_annotation(tmp_path):
    found = read_genes(table_of(tmp_path, *PLAIN), GENOME, "protein_coding")
    assert list(found.columns) == GENE_COLUMNS
    assert found.iloc[:, :5].to_numpy().tolist() == [
        ["ENSG2", "ENSG2", "chr2", 399, "-"],
        ["ENSG1", "ENSG1", "chr2", 500, "+"],
        ["ENSG3", "ENSG3", "chrX", 1999, "-"],
    ]
    assert found[["gene_start", "gene_end"]].isna().all(axis=None)
    found.to_csv(tmp_path / "again.tsv", sep="\t", index=False)
    assert pd.read_csv(tmp_path / "again.tsv", sep="\t")["tss"].dtype == np.int64
    pd.testing.assert_frame_equal(read_genes(tmp_path / "again.tsv", GENOME, "all"), found)


def test_a_table_and_a_gtf_of_the_same_genes_give_the_same(tmp_path):
    gtf, rpkm = files(tmp_path)
    genes, expression = gene_table(gtf, rpkm, GENOME)
    genes.to_csv(tmp_path / "genes.csv", index=False)
    again = gene_table(tmp_path / "genes.csv", rpkm, GENOME)
    pd.testing.assert_frame_equal(again[0], genes, check_dtype=False)
    pd.testing.assert_frame_equal(again[1], expression)


def test_the_published_table_is_read_with_all_its_cells_and_either_separator(tmp_path):
    lines = [
        "gene_id,expression,eid,label,chrom,start,end,strand,split,neighbors,scores",
        "ENSG1,0.1,E003,0,chr2,500,501,+,3,chr2:1-5;chr2:9-12,2.5;1.7",
        "ENSG2,2.5,E003,1,chr2,399,400,-,3,,",
        "ENSG1,7,E116,1,chr2,500,501,+,3,,",
        "ENSG2,0,E116,0,chr2,399.0,400.0,-,3,,",
        "ENSG9,0,E116,0,chrM,9,10,-,3,,",
    ]
    for name in ("train.csv", "train.tsv"):
        found = read_genes(table_of(tmp_path, *lines, name=name), GENOME, "protein_coding")
        assert found[["gene_id", "tss", "strand"]].to_numpy().tolist() == [
            ["ENSG2", 399, "-"],
            ["ENSG1", 500, "+"],
        ]
    quoted = ['"' + line.replace(",", '","') + '"' for line in lines]
    (tmp_path / "q.csv.gz").write_bytes(
        gzip.compress("\ufeff".encode() + "\r\n".join(quoted).encode())
    )
    pd.testing.assert_frame_equal(read_genes(tmp_path / "q.csv.gz", GENOME, "all"), found)


def test_the_twin_on_chr_y_of_a_table_is_left_out(tmp_path):
    lines = [*PLAIN, "ENSG3,chrY,-,1999", "ENSG4,chrY,+,7"]
    found = read_genes(table_of(tmp_path, *lines), GENOME, "all")
    assert found[["gene_id", "chrom"]].to_numpy().tolist()[2:] == [
        ["ENSG3", "chrX"],
        ["ENSG4", "chrY"],
    ]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["gene_id,chrom,tss", "A,chr2,1"], ["no column strand"]),
        (["gene_id,name", "A,a"], ["no gene line; give a GENCODE GTF, or a table"]),
        (
            ["gene_id,chrom"],
            ["no column strand", "start site (it has gene_id, chrom); name it tss, tss_start"],
        ),
        (["gene_id,chrom,strand,tss,tss", "A,chr2,+,1,1"], ["column tss stands there twice"]),
        (["gene_id,chrom,strand,tss,gene_start"], ["gene_start without gene_end"]),
        ([PLAIN[0], "A,2,+,1"], ["lie on 2, none on tiny"]),
        ([PLAIN[0]], ["has no gene"]),
        (
            [PLAIN[0], "A,chr2,+,100000", "B,chr2,1,7", "C,chr2,+,-3", "D,chr2,+", ",chr2,+,8"],
            [
                "line 2: gene A: tss '100000' is no base of chr2, which has 100000",
                "line 3: gene B: strand '1' is neither",
                "line 4: gene C: tss '-3'",
                "line 5: 3 columns instead of 4",
                "line 6: gene_id is empty",
            ],
        ),
        (
            [PLAIN[0], "A,chr2,+,1", "A,chr2,+,2", "B,chr2,+,7", "B,chr2,-,7", "C,chr2,?,5"],
            [
                "gene A has several start sites (chr2:1 +, chr2:2 +)",
                "gene B has several start sites (chr2:7 +, chr2:7 -)",
                "strand '?'",
            ],
        ),
        (
            ["gene_id,chrom,strand,start,end", "A,chr2,+,100,900"],
            ["start 100 and end '900' are more than the one base"],
        ),
        (
            [
                "gene_id,chrom,strand,tss,gene_start,gene_end",
                "A,chr2,+,5,9,5",
                "B,chr2,+,5,5,100001",
            ],
            ["gene A: gene_start '9' and gene_end '5'", "gene B: gene_start '5'"],
        ),
    ],
)
def test_all_faults_of_a_table_are_named_at_once(tmp_path, lines, said):
    with pytest.raises(InputError) as err:
        read_genes(table_of(tmp_path, *lines), GENOME, "all")
    assert "genes.tsv" in str(err.value)
    for words in said:
        assert words in str(err.value)


def test_of_very_many_faults_twenty_are_named(tmp_path):
    path = table_of(tmp_path, PLAIN[0], *(f"G{i},chr2,+,x" for i in range(30)))
    with pytest.raises(InputError, match="... and 10 more") as err:
        read_genes(path, GENOME, "all")
    assert len(err.value.problems) == 21


@pytest.mark.skipif(not SHARED.exists(), reason="shared data not here")
def test_the_real_table_gives_its_100_genes_with_their_measured_expression():
    data = SHARED / "data"
    genome = read_chrom_sizes(data / "reference" / "hg19.chrom.sizes", "hg19")
    table = data / "roadmap_e003" / "genes.tsv"
    rpkm = data / "roadmap_tables" / "57epigenomes.RPKM.pc.gz"
    genes, expression = gene_table(table, rpkm, genome, cells=["E003"])
    told = pd.read_csv(table, sep="\t").set_index("gene_id").loc[genes["gene_id"]]
    assert len(genes) == 100
    for ours, theirs in (("chrom", "chrom"), ("tss", "tss_start"), ("strand", "strand")):
        assert genes[ours].tolist() == told[theirs].tolist()
    assert expression["E003"].tolist() == told["rpkm"].tolist()


# --- signal ---------------------------------------------------------------------------------------


def test_features_follow_the_direction_of_transcription(tmp_path):
    genes, _ = gene_table(*files(tmp_path), GENOME)
    with pyBigWig.open(str(tmp_path / "x.bw"), "w") as file:
        file.addHeader(list(zip(GENOME.chromosomes, GENOME.lengths, strict=True)))
        # 1 only in the 100 bases downstream of each gene's start on the genome's plus strand.
        for chrom, tss in (("chr2", 399), ("chr2", 500), ("chrX", 1999)):
            file.addEntries([chrom], [tss], ends=[tss + 100], values=[1.0])
    found = promoter_features(tmp_path / "x.bw", genes, GENOME, missing="zero")
    assert found.shape == (3, 400)
    assert found.dtype == np.float32
    assert found[1, 200] == 1  # plus strand: first bin after the start
    assert found[0, 199] == 1  # minus strand: the same bases lie before it
    assert found[2, 199] == 1
    assert np.isnan(found[1, 0])  # 500 - 20,000 lies before the chromosome
    assert np.isnan(found[0, -1])  # and for the minus strand that is the far end
    longer = Genome("t", GENOME.chromosomes, (100_001, 50_000, 20_000))
    with pytest.raises(InputError, match="100000 bases in the file, 100001 in t"):
        promoter_features(tmp_path / "x.bw", genes, longer)
    with pytest.raises(InputError, match="chr2"):
        promoter_features(tmp_path / "x.bw", genes, Genome("t", ("chrX",), (50_000,)))


@pytest.mark.skipif(not SHARED.exists(), reason="shared data not here")
def test_the_real_annotation_and_expression_join_nearly_completely():
    data = SHARED / "data"
    genome = read_chrom_sizes(data / "reference" / "hg19.chrom.sizes", "hg19")
    tables = data / "roadmap_tables"
    genes, expression = gene_table(
        tables / "gencode_10_genes.gtf.gz", tables / "57epigenomes.RPKM.pc.gz", genome
    )
    assert 19_000 < len(genes) <= 19_795
    assert expression.shape == (len(genes), 58)
    assert expression["gene_id"].tolist() == genes["gene_id"].tolist()
    assert genes["gene_id"].is_unique
    first = expression.set_index("gene_id").loc["ENSG00000000003"]
    assert first[["E000", "E003"]].tolist() == [23.265, 43.985]
    with pytest.raises(InputError, match="no column for cell E017"):
        gene_table(
            tables / "gencode_10_genes.gtf.gz",
            tables / "57epigenomes.RPKM.pc.gz",
            genome,
            cells=["E003", "E017"],
        )
