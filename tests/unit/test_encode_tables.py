"""ENCODE's metadata table: columns by name, names compared whole, all problems at once."""

from __future__ import annotations

import pandas as pd
import pytest

from epiloom.data.encode_tables import read, select
from epiloom.plan.errors import InputError

HEADER = {
    "File accession": "",
    "File format": "bam",
    "Output type": "alignments",
    "File assembly": "GRCh38",
    "Experiment accession": "ENCSR000AAA",
    "Assay": "DNase-seq",
    "Biosample term name": "H1",
    "Experiment target": "",
    "md5sum": "0" * 32,
    "File download URL": "https://www.encodeproject.org/files/{}/@@download/{}.bam",
    "Biological replicate(s)": "1",
    "Size": "10",
    "Biosample treatments": "",
    "File Status": "released",
}


def row(accession: str, **changes: str) -> dict[str, str]:
    found = HEADER | {"File accession": accession}
    found["File download URL"] = found["File download URL"].format(accession, accession)
    names = {"assay": "Assay", "cell": "Biosample term name", "target": "Experiment target"}
    names |= {"output": "Output type", "format": "File format", "md5": "md5sum"}
    names |= {"assembly": "File assembly", "experiment": "Experiment accession"}
    names |= {"replicates": "Biological replicate(s)", "treated": "Biosample treatments"}
    names |= {"status": "File Status", "url": "File download URL"}
    return found | {names[key]: value for key, value in changes.items()}


def rna(accession: str, **changes: str) -> dict[str, str]:
    told = {"assay": "total RNA-seq", "output": "gene quantifications", "format": "tsv"}
    return row(accession, **told | changes)


def chip(accession: str, target: str, **changes: str) -> dict[str, str]:
    return row(accession, **{"assay": "Histone ChIP-seq", "target": target} | changes)


def write(tmp_path, rows: list[dict], columns=None):
    path = tmp_path / "metadata.tsv"
    table = pd.DataFrame(rows)
    table[columns or list(table)].to_csv(path, sep="\t", index=False)
    return path


ROWS = [
    rna("ENCFF01"),
    rna("ENCFF02", replicates="2", md5="a" * 32),
    row("ENCFF03"),
    row("ENCFF04", output="unfiltered alignments"),
    row("ENCFF05", assembly="hg19"),
    row("ENCFF06", cell="H1-hESC"),
    chip("ENCFF07", "H3K27ac-human"),
    chip("ENCFF08", "H3K27ac", cell="left lung"),
    chip("ENCFF09", "H3K27ac", treated="dexamethasone"),
    chip("ENCFF10", "H3K27ac", status="archived"),
    rna("ENCFF11", cell="left lung", assay="polyA plus RNA-seq"),
]
CELLS = {"esc": "H1", "lung": "left lung"}


@pytest.mark.parametrize("backwards", [False, True])
def test_files_are_chosen_by_name_wherever_the_columns_stand(tmp_path, backwards):
    columns = list(HEADER)[::-1] if backwards else list(HEADER)
    table = read(write(tmp_path, ROWS, columns))
    found = select(table, CELLS, ["RNA", "DNase", "H3K27ac"], "hg38")
    expected = [
        *(("esc", "RNA", "rsem", "ENCFF01"), ("esc", "RNA", "rsem", "ENCFF02")),
        *(("esc", "DNase", "bam", "ENCFF03"), ("esc", "H3K27ac", "bam", "ENCFF07")),
        *(("lung", "RNA", "rsem", "ENCFF11"), ("lung", "H3K27ac", "bam", "ENCFF08")),
    ]
    files = found.files[["cell", "signal", "kind", "accession"]]
    assert list(files.itertuples(index=False, name=None)) == expected
    assert found.missing == (("lung", "DNase"),)
    assert found.skipped == {"treatments": 1, "status": 1}
    assert found.files["md5"].tolist()[:2] == ["0" * 32, "a" * 32]
    assert found.files["url"][0].endswith("ENCFF01/@@download/ENCFF01.bam")


def test_treated_samples_count_if_asked_for(tmp_path):
    table = read(write(tmp_path, ROWS))
    found = select(table, {"esc": "H1"}, ["H3K27ac"], "hg38", treated=True)
    assert found.files["accession"].tolist() == ["ENCFF07", "ENCFF09"]


def test_pooled_bigwigs_replace_their_replicates(tmp_path):
    told = {"output": "fold change over control", "format": "bigWig"}
    rows = [chip(f"F{k}", "CTCF", replicates=r, **told) for k, r in enumerate(("1", "2", "1, 2"))]
    rows += [chip("F9", "CTCF", replicates="1", experiment="ENCSR2", **told)]
    rows += [row("F5", output="read-depth normalized signal", format="bigWig")]
    found = select(read(write(tmp_path, rows)), {"a": "H1"}, ["CTCF", "DNase"], "hg38", "bigwig")
    assert found.files["accession"].tolist() == ["F2", "F9", "F5"]
    assert found.files["kind"].tolist() == ["fold_change", "fold_change", "depth"]


def test_cells_must_be_named_as_in_the_table(tmp_path):
    table = read(write(tmp_path, ROWS))
    with pytest.raises(InputError) as err:
        select(table, {"a": "h1", "b": "lung", "c": "H1"}, ["DNase"], "hg18", "bed")
    assert len(err.value.problems) == 4
    assert "similar: 'left lung'" in str(err.value) and "assembly 'hg18'" in str(err.value)
    with pytest.raises(InputError, match=r"cell a .H1-hESC.: no RNA-seq gene quantification"):
        select(table, {"a": "H1-hESC"}, ["RNA", "DNase"], "hg38")


def test_faulty_tables_are_refused_with_all_problems(tmp_path):
    rows = [row("F1", md5="xyz"), row("F1"), row("F3", url="ftp://x/y")]
    with pytest.raises(InputError) as err:
        read(write(tmp_path, rows))
    assert [p.split(":")[0] for p in err.value.problems] == ["line 3", "line 2", "line 4"]
    columns = [c for c in HEADER if c not in ("md5sum", "Output type")]
    with pytest.raises(InputError) as err:
        read(write(tmp_path, ROWS, columns))
    assert len(err.value.problems) == 2 and "'md5sum'" in str(err.value)
    (tmp_path / "empty.tsv").write_text("\t".join(HEADER) + "\n")
    with pytest.raises(InputError, match="has no row"):
        read(tmp_path / "empty.tsv")
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "none.tsv")


def test_older_column_names_are_known(tmp_path):
    path = write(tmp_path, ROWS)
    path.write_text(path.read_text().replace("File assembly", "Assembly", 1))
    assert read(path)["assembly"].iloc[0] == "GRCh38"
