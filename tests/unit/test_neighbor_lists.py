"""Partners from the published gene table: lists of neighbors and scores, one line per gene."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import pandas as pd
import pytest

from epiloom.data.contacts import read_contacts
from epiloom.data.genome import Genome, read_chrom_sizes
from epiloom.data.partners import partner_table
from epiloom.plan.errors import InputError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
GENOME = Genome("tiny", ("chr1", "chr2"), (200_000, 90_050))
LISTS = [
    "gene_id,eid,chrom,start,end,strand,neighbors,scores",
    "A.4,E003,chr1,7,8,+,chr1:40-60;chr1:10-30;chr1:70-90;chr9:1-9,3;2;1.5;8",
    "A.4,E116,chr1,7,8,+,chr1:10-30,9",
    "B,E003,chr1,5,6,-,,",
    "C,E003,chr2,5,6,-,chr2:1-40002;chr2:1-40001;chr2:7-9;chr2:6-9,7;6;2;2",
]
FOUND = [
    ("C", 1, "chr2", 1, 40001, 6),
    ("C", 2, "chr2", 6, 9, 2),
    ("C", 3, "chr2", 7, 9, 2),
    ("A", 1, "chr1", 40, 60, 3),
    ("A", 2, "chr1", 10, 30, 2),
]


def write(path: Path, *lines: str) -> Path:
    text = "\n".join(lines) + "\n"
    packed = {".gz": gzip.compress, ".bz2": bz2.compress}.get(path.suffix, bytes)
    path.write_bytes(packed(text.encode()))
    return path


def genes(*rows: tuple[str, str, int]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["gene_id", "chrom", "tss"])


def named(table: pd.DataFrame) -> list[tuple]:
    return [(r.gene_id, r.rank, r.chrom, r.start, r.end, r.score) for r in table.itertuples()]


@pytest.mark.parametrize("name", ["train.csv", "train.csv.gz", "train.tsv", "train.tsv.bz2"])
def test_the_published_gene_table_gives_the_partners_of_one_cell(tmp_path, name):
    separator = "," if ".csv" in name else "\t"
    path = write(tmp_path / name, *(line.replace(",", separator) for line in LISTS))
    found = genes(("C", "chr2", 5), ("B", "chr1", 5), ("A", "chr1", 7))
    table = partner_table(found, read_contacts("file", [path], "E003", "H1"), GENOME)
    assert named(table) == FOUND
    one = partner_table(found, read_contacts("file", [path], "E116"), GENOME)
    assert named(one) == [("A", 1, "chr1", 10, 30, 9)]


def test_quoted_columns_and_a_table_of_one_cell_without_its_name(tmp_path):
    lines = [line.split(",") for line in LISTS if "E116" not in line]
    text = "\r\n".join(",".join(f'"{f}"' for f in [line[0], *line[2:]]) for line in lines)
    (tmp_path / "t.csv").write_bytes(text.encode("utf-8-sig"))
    found = genes(("C", "chr2", 5), ("A", "chr1", 7))
    contacts = read_contacts("file", [tmp_path / "t.csv"], "liver1")
    assert named(partner_table(found, contacts, GENOME)) == FOUND


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (LISTS, ["column eid has no E117; it has E003, E116", "{cell}"]),
        (
            [
                "gene_id,neighbors,scores",
                "A,chr1:1-5,2;3",
                "B,chr1:1-5;here,2;2",
                "C,chr1:9-5,2",
                "D,chr1:1-5,high",
                "E,chr1:1-5,2",
                "E,chr1:1-6,2",
            ],
            [
                "line 2: gene A: 1 neighbors, but 2 scores",
                "line 3: gene B: neighbor 'here' is not written as chr:start-end",
                "line 4: gene C: neighbor 'chr1:9-5'",
                "line 5: gene D: score 'high' of chr1:1-5 is no number",
                "gene E has two lists of neighbors",
            ],
        ),
        (["gene_id,neighbors,scores", "A,chr1:1-5,1.5"], ["of its 1 pairs", "highest: 1.5"]),
        (["gene_id,neighbors,scores", "A,,"], ["none of its 0 lines is a scored pair"]),
        (["gene_id,neighbors,score", "A,chr1:1-5,2"], ["nor gene_id, neighbors, scores; name the"]),
    ],
)
def test_all_faults_of_neighbor_lists_are_named_at_once(tmp_path, lines, said):
    with pytest.raises(InputError) as err:
        read_contacts("file", [write(tmp_path / "t.csv", *lines)], "E117")
    assert "t.csv" in str(err.value)
    for words in said:
        assert words in str(err.value)


@pytest.mark.skipif(not SHARED.exists(), reason="shared data not here")
def test_the_real_lists_come_out_in_their_published_order():
    path = SHARED / "roadmap_e003" / "genes.tsv"
    told = pd.read_csv(path, sep="\t", keep_default_na=False)
    genome = read_chrom_sizes(SHARED / "reference" / "hg19.chrom.sizes", "hg19")
    found = told.rename(columns={"tss_start": "tss"})[["gene_id", "chrom", "tss"]]
    table = partner_table(found, read_contacts("file", [path], "E003", "H1"), genome)
    names = table["chrom"] + ":" + table["start"].astype(str) + "-" + table["end"].astype(str)
    lists = {
        gene: (";".join(names[rows.index]), [float(score) for score in rows["score"]])
        for gene, rows in table.groupby("gene_id")
    }
    assert len(table) == 580 and len(lists) == 89
    for gene in told.itertuples():
        scores = [float(score) for score in gene.scores.split(";") if score]
        assert lists.get(gene.gene_id, ("", [])) == (gene.neighbors, scores)
    assert (table["rank"] == table.groupby("gene_id").cumcount() + 1).all()
    with pytest.raises(InputError, match="column eid has no E116; it has E003"):
        read_contacts("file", [path], "E116", "GM")
