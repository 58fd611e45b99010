"""The table of public inputs: complete, safe to fill, replaceable by local files."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epiloom.plan import sources
from epiloom.plan.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
ROWS = sources.catalogue(ROOT)
VALUES = st.from_regex(r"[A-Za-z0-9_.+-]{1,12}", fullmatch=True).filter(lambda v: set(v) != {"."})

NEEDED = """
    roadmap_pval roadmap_fold_change roadmap_reads roadmap_rpkm roadmap_counts roadmap_rpkm_nc
    roadmap_rpkm_rb roadmap_genes roadmap_gene_info roadmap_metadata roadmap_names roadmap_chromhmm
    genome_fasta genome_2bit chrom_sizes gaps centromeres refgene phastcons liftover gencode
    blacklist encode_file encode_object hocomoco_meme hocomoco_annotation hocomoco12_meme
    pchic_interactions pchic_frag2neighbors pchic_pair2score fire_scores tad_boundaries
    enhancer_pairs replication_timing hichip_loops catlas_targets epigept_weights
    epiformer_weights chromoformer_weights causal_eqtl avocado_pilot own_bam own_depth
"""


def test_every_needed_key_is_in_the_table():
    assert not set(NEEDED.split()) - {row.key for row in ROWS}


def test_every_row_has_licence_and_purpose_and_every_address_a_place():
    fields = {
        name: "X1" for row in ROWS for item in (row.url, row.checksum) for name in _names(item)
    }
    for row in ROWS:
        assert row.licence and row.used_for, row
        for address in filter(None, (row.url, *row.mirrors)):
            place = sources.place(sources.fill(address, fields))
            assert place.startswith("resources/"), row
            assert not re.search(r"[\s{}?*]", place), row


def _names(text: str) -> list[str]:
    return sources.FIELD.findall(text)


def test_mirrors_need_no_other_fields_than_the_first_address():
    for row in ROWS:
        for mirror in row.mirrors:
            assert set(_names(mirror)) == set(_names(row.url)), row


def test_a_template_is_filled_and_kept_under_its_host():
    source = sources.resolve(ROWS, "roadmap_pval", cell="E003", mark="H3K4me3")
    tail = (
        "egg2.wustl.edu/roadmap/data/byFileType/signal/consolidated/macs2signal/pval/"
        "E003-H3K4me3.pval.signal.bigwig"
    )
    assert source.urls == [f"https://{tail}", f"http://{tail}"]
    assert source.path == f"resources/{tail}"
    assert source.format == "bigwig"


def test_the_format_of_a_portal_file_follows_its_extension():
    for extension, kind in (("bigWig", "bigwig"), ("bam", "bam"), ("bed.gz", "gzip")):
        fields = {"accession": "ENCFF000AAA", "extension": extension}
        assert sources.resolve(ROWS, "encode_file", **fields).format == kind


def test_a_query_becomes_a_file_name_beside_the_file():
    source = sources.resolve(ROWS, "encode_object", accession="ENCFF000AAA")
    assert source.path == "resources/www.encodeproject.org/files/ENCFF000AAA/format=json"
    first = sources.place("https://h.org/search/?" + "a=1&" * 100)
    second = sources.place("https://h.org/search/?" + "a=1&" * 101)
    assert first != second and len(PurePosixPath(first).name) < 100


@pytest.mark.parametrize("assembly", ["hg19", "hg38"])
def test_each_assembly_has_its_own_row(assembly):
    source = sources.resolve(ROWS, "chrom_sizes", assembly=assembly)
    assert source.path.endswith(f"{assembly}.chrom.sizes")


def test_an_unknown_key_is_refused_with_a_suggestion():
    with pytest.raises(InputError, match="did you mean 'roadmap_pval'"):
        sources.resolve(ROWS, "roadmap_pvals", cell="E003", mark="H3K4me3")


def test_a_missing_assembly_or_an_unavailable_one_names_the_choices():
    with pytest.raises(InputError, match="hg19, hg38"):
        sources.resolve(ROWS, "chrom_sizes")
    with pytest.raises(InputError, match="'mm10' is not available"):
        sources.resolve(ROWS, "chrom_sizes", assembly="mm10")


def test_all_missing_and_unsafe_fields_are_named_at_once():
    with pytest.raises(InputError) as caught:
        sources.resolve(ROWS, "roadmap_pval", cel="E003", mark="../../etc/passwd")
    text = str(caught.value)
    assert "needs {cell} (did you mean 'cel'?)" in text and "../../etc/passwd" in text


def test_a_source_without_address_asks_for_a_local_file():
    with pytest.raises(InputError, match="sources.local.fire_scores"):
        sources.resolve(ROWS, "fire_scores")
    local = {"fire_scores": "tables/FIRE_scores.xlsx"}
    source = sources.resolve(ROWS, "fire_scores", local=local)
    assert source.path == "resources/local/fire_scores/FIRE_scores.xlsx"


def test_a_local_replacement_wins_and_is_not_held_to_published_checksums():
    local = {"roadmap_rpkm": "my/rpkm.tsv"}
    source = sources.resolve(ROWS, "roadmap_rpkm", local=local, mirror="simulated")
    assert source.urls == ["my/rpkm.tsv"] == [source.local]
    assert (source.bytes, source.checksum, source.mirrors) == (None, "", ())
    assert source.format == "tsv"


def test_replacements_of_two_cells_never_share_a_place():
    for template in ("{cell}/signal.bw", "file:///data/{cell}/signal.bw", "x/{cell}.bw"):
        places = {
            sources.resolve(
                ROWS, "roadmap_pval", local={"roadmap_pval": template}, cell=cell, mark="H3K4me3"
            ).path
            for cell in ("E003", "E004")
        }
        assert len(places) == 2


def test_bad_replacements_are_all_named_at_once():
    local = {"roadmap_pvall": "x", "gaps": "", "blacklist": "s3://bucket/x", "refgene": "file://x"}
    with pytest.raises(InputError) as caught:
        sources.resolve(ROWS, "roadmap_rpkm", local=local)
    assert len(caught.value.problems) == 4
    assert "did you mean 'roadmap_pval'" in str(caught.value)


def test_a_replacement_with_a_misspelt_field_is_refused():
    with pytest.raises(InputError, match="sources.local.roadmap_pval") as caught:
        sources.resolve(
            ROWS, "roadmap_pval", local={"roadmap_pval": "{cel}.bw"}, cell="E003", mark="H3K4me3"
        )
    assert "did you mean 'cell'" in str(caught.value)


def test_a_mirror_changes_the_address_but_not_the_place():
    public = sources.resolve(ROWS, "roadmap_rpkm")
    for mirror in ("simulated", "simulated/", "file:///data/copy", "http://127.0.0.1:8000"):
        copy = sources.resolve(ROWS, "roadmap_rpkm", mirror=mirror)
        assert copy.url == f"{mirror.rstrip('/')}/{sources.mirror_path(public.url)}"
        assert copy.path == public.path
        assert (copy.bytes, copy.checksum, copy.mirrors) == (None, "", ())


@given(cell=VALUES, mark=VALUES)
def test_safe_values_survive_filling_and_placing(cell, mark):
    template = "https://host.org/data/{cell}/x_{mark}~.bw"
    place = sources.place(sources.fill(template, {"cell": cell, "mark": mark}))
    found = re.fullmatch(r"resources/host\.org/data/([^/]+)/x_([^/]+)~\.bw", place)
    assert found and found.groups() == (cell, mark)


@given(value=st.text(max_size=12))
def test_no_value_leads_out_of_the_folder(value):
    template = "https://host.org/data/{cell}/{mark}"
    try:
        place = sources.place(sources.fill(template, {"cell": value, "mark": "x"}))
    except InputError:
        return
    parts = PurePosixPath(place).parts
    assert parts[:3] == ("resources", "host.org", "data") and len(parts) == 5
    assert ".." not in parts


@pytest.mark.parametrize(
    "address",
    [
        *("ftp://h.org/x", "https://h.org", "https://h.org/", "https://h.org/a/../b"),
        *("https://h.org/a/%2e%2e/b", "file:///etc/passwd", "x"),
    ],
)
def test_addresses_without_a_safe_place_are_refused(address):
    with pytest.raises(InputError):
        sources.place(address)


def test_a_damaged_table_is_refused_with_every_line_named(tmp_path):
    header = "\t".join(sources.COLUMNS)
    lines = [
        header,
        "a\t\tftp://h/x\t\tmany\tmd5:12\tmp3\tfree\tthis",
        "b\t\thttps://h/x\t\t1\t\ttext\tfree\tthis",
        "b\t\thttps://h/y\t\t1\t\ttext\tfree\tthis",
        "c\t\thttps://h/y",
    ]
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "sources.tsv").write_text("\n".join(lines))
    with pytest.raises(InputError) as caught:
        sources.catalogue(tmp_path)
    assert len(caught.value.problems) == 6
    with pytest.raises(InputError, match="cannot be read"):
        sources.catalogue(tmp_path / "elsewhere")


def test_the_report_counts_files_sizes_and_what_is_there(tmp_path):
    rpkm = sources.resolve(ROWS, "roadmap_rpkm")
    pval = sources.resolve(ROWS, "roadmap_pval", cell="E003", mark="H3K4me3")
    fasta = sources.resolve(ROWS, "genome_fasta", assembly="hg38")
    (tmp_path / rpkm.path).parent.mkdir(parents=True)
    (tmp_path / rpkm.path).write_bytes(b"x" * 2_000_000)
    (tmp_path / "mine.bed").write_bytes(b"x" * 3_000_000)
    mine = sources.resolve(ROWS, "blacklist", assembly="hg19", local={"blacklist": "mine.bed"})
    text = sources.report([rpkm, pval, fasta, mine, pval], tmp_path)
    assert text.count("\n") == 1 + 4 + 1
    assert "unknown\tno\tRoadmap data" in text and "0.984\tno" in text and "0.002\tyes" in text
    assert "4 files; 0.989 GB known, 1 of unknown size; 1 already here (0.002 GB)" in text


@pytest.mark.parametrize("asked", [{"local": {"gencode": "https://me:secret@host/x.gtf"}},
                                   {"mirror": "https://me:secret@host/copies"}])  # fmt: skip
def test_a_password_in_an_address_is_refused_and_not_repeated(asked):
    with pytest.raises(InputError, match="put them into ~/.netrc") as told:
        sources.resolve(sources.catalogue(ROOT), "gencode", assembly="hg19", **asked)
    assert "secret" not in str(told.value)
