"""Contacts from every form they come in, and which of them a configuration asks for."""

from __future__ import annotations

import bz2
import collections
import gzip
import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from epiloom.data.contacts import GENE_TABLE, GenePartners, Pairs, read_contacts
from epiloom.data.genome import Genome
from epiloom.data.partners import (
    PARTNER_COLUMNS,
    partner_table,
    read_regions,
    region_table,
)
from epiloom.data.pickles import read_plain_pickle
from epiloom.plan import contacts as plan_contacts
from epiloom.plan import runs
from epiloom.plan.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
GENOME = Genome("tiny", ("chr1", "chr2"), (200_000, 90_050))


def write(path: Path, *lines: str) -> Path:
    text = "\n".join(line.replace(" ", "\t") for line in lines) + "\n"
    packed = {".gz": gzip.compress, ".bz2": bz2.compress}.get(path.suffix, bytes)
    path.write_bytes(packed(text.encode()))
    return path


def genes(*rows: tuple[str, str, int]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["gene_id", "chrom", "tss"])


def named(table: pd.DataFrame) -> list[tuple]:
    return [(r.gene_id, r.rank, r.chrom, r.start, r.end, r.score) for r in table.itertuples()]


# --- tables ---------------------------------------------------------------------------------------


def scored(pairs: Pairs) -> set[tuple]:
    names = [f"{r.chrom}:{r.start}-{r.end}" for r in pairs.fragments.itertuples()]
    columns = (pairs.first, pairs.second, pairs.score)
    return {(names[a], names[b], s) for a, b, s in zip(*columns, strict=True)}


BOTH_WAYS = {("chr1:1-5", "chr1:9-12", 2.5), ("chr1:9-12", "chr1:1-5", 2.5)}


@pytest.mark.parametrize("ending", [".txt", ".txt.gz", ".txt.bz2"])
@pytest.mark.parametrize(
    "lines",
    [
        ["frag1 frag2 H1 GM", "chr1.1.5 chr1.9.12 9 2.5", "chr1.1.5 chr1.20.30 9 0.5"],
        ["cell gene bait target raw dist_res", "GM x chr1.1.5 chr1.9.12 7 2.5", "H1 . 1 2 3 4"],
        ["frag1 frag2 score tissue", "chr1:1-5 chr1:9-12 2.5 GM", "chr1:1-5 chr1:7-8 9 H1"],
    ],
)
def test_tables_of_all_tissues_are_read_by_their_header(tmp_path, lines, ending):
    if lines[-1].startswith("H1"):
        lines = [*lines[:2], "H1 . chr1.1.5 chr1.7.8 3 9"]
    path = write(tmp_path / f"po{ending}", *lines)
    assert scored(read_contacts("geo", [path], "E116", "GM")) == BOTH_WAYS


def test_a_table_of_one_tissue_needs_no_tissue_column(tmp_path):
    path = write(
        tmp_path / "npc.po.all.txt.bz2", "frag1 frag2 freq dist_res", "chr1.1.5 chr1.9.12 3 2.5"
    )
    assert scored(read_contacts("geo_tissue", [path], "E007", "npc")) == BOTH_WAYS
    with pytest.raises(InputError, match="no score for tissue 'NPC'.*contacts.tissues"):
        read_contacts("geo", [path], "E007", "NPC")


def test_a_pair_given_twice_keeps_its_higher_score(tmp_path):
    lines = ["chr1.1.5 chr1.9.12 2", "chr1.9.12 chr1.1.5 2.5", "chr1.1.5 chr1.9.12 1.7"]
    path = write(tmp_path / "t", "frag1 frag2 GM", *lines)
    assert scored(read_contacts("geo", [path], "E116", "GM")) == BOTH_WAYS


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["frag1 other GM", "chr1.1.5 x 2"], "its columns .frag1, other, GM. are neither"),
        (["frag1 frag2 GM", "chr1.1.5 chr1.9.12 high"], "line 2: column GM: 'high' is no number"),
        (["frag1 frag2 GM", "chr1.5.1 chr1.9.12 2"], "not written as chr.start.end"),
        (["frag1 frag2 GM", "chr1_5 chr1.9.12 2"], "not written as chr.start.end"),
        (["frag1 frag2 GM", "chr1.1.5 chr1.9.12 1.5"], "highest: 1.5.; lower contacts.min_score"),
        (["frag1 frag2 GM"], "none of its 0 lines"),
        (["frag1 frag2 score tissue", "chr1.1.5 chr1.9.12 2 H1"], "it has H1: name one of these"),
        ([""], "has no line with column names"),
    ],
)
def test_faulty_tables_are_refused_with_the_remedy(tmp_path, lines, message):
    with pytest.raises(InputError, match=message):
        read_contacts("geo", [write(tmp_path / "t.tsv", *lines)], "E116", "GM")


def test_cut_short_and_absent_files_are_refused(tmp_path):
    path = tmp_path / "t.gz"
    body = "".join(f"chr1.{i}.{i + 5} chr1.9.12 {i}.77\n" for i in range(1, 20_000))
    whole = gzip.compress(f"frag1 frag2 GM\n{body}".replace(" ", "\t").encode())
    path.write_bytes(whole[: len(whole) // 2])
    for file in (path, tmp_path / "none"):
        with pytest.raises(InputError, match="malformed|cannot be read|no such file"):
            read_contacts("geo", [file], "E116", "GM")


@pytest.mark.parametrize(
    "lines",
    [
        ["chr1 1 5 chr1 9 12 loop1 2.5 . .", "chr1 1 5 chr1 20 30 loop2 1 . ."],
        ["#chrom1 start1 end1 chrom2 start2 end2 name score", "chr1 1 5 chr1 9 12 loop1 2.5"],
        [
            "track name=loops",
            "chrom1 start1 end1 chrom2 start2 end2 score cell",
            "chr1 1 5 chr1 9 12 2.5 E116",
            "chr1 1 5 chr1 40 50 2.5 E003",
            ". -1 -1 chr1 40 50 2.5 E116",
        ],
    ],
)
def test_bedpe_is_read_with_and_without_header(tmp_path, lines):
    path = write(tmp_path / "loops.bedpe.gz", *lines)
    assert scored(read_contacts("file", [path], "E116")) == BOTH_WAYS


def test_faulty_bedpe_lines_are_named(tmp_path):
    path = write(tmp_path / "b", "chr1 1 5 chr1 9 12 a 2", "chr1 5 5 chr1 9 12 b 2")
    with pytest.raises(InputError, match="line 2: start1 and end1 are no region"):
        read_contacts("file", [path], "E116")
    path = write(
        tmp_path / "c", " ".join(["chrom1 start1 end1 chrom2 start2 end2"]), "chr1 1 5 chr1 9 12"
    )
    with pytest.raises(InputError, match="has no column score"):
        read_contacts("file", [path], "E116")


def test_a_ready_partner_table_goes_through_the_same_rules(tmp_path):
    lines = [
        "gene_id chrom start end score",
        "A.4 chr1 10 30 2",
        "A chr1 40 60 3",
        "A chr1 10 30 4",
    ]
    lines += ["B chr1 1 9 1.5", "Z chr1 1 9 5", "A chr9 1 9 5", "A chr1 1 40002 7"]
    contacts = read_contacts("file", [write(tmp_path / "t", *lines)], "E116")
    assert isinstance(contacts, GenePartners) and list(contacts.table.columns) == GENE_TABLE
    found = genes(("B", "chr1", 5), ("A", "chr1", 7))
    table = partner_table(found, contacts, GENOME, source="file")
    assert named(table) == [("A", 1, "chr1", 10, 30, 4), ("A", 2, "chr1", 40, 60, 3)]
    assert set(table["source"]) == {"file"}
    with pytest.raises(InputError, match="no gene of the partner table"):
        partner_table(genes(("Q", "chr1", 5)), contacts, GENOME)


def test_without_contacts_the_tables_are_empty_and_stay_readable(tmp_path):
    table = partner_table(genes(("A", "chr1", 5)), read_contacts("none", []), GENOME)
    regions = region_table(table, GENOME)
    regions.to_csv(tmp_path / "r.tsv", sep="\t", index=False)
    assert list(table.columns) == PARTNER_COLUMNS and len(table) == 0
    assert len(read_regions(tmp_path / "r.tsv", GENOME)) == 0


# --- pickles --------------------------------------------------------------------------------------


class Evil:
    def __reduce__(self):
        return os.system, ("touch harm",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_runs_code_is_refused_and_nothing_is_run(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pickle"
    for content in (Evil(), {"chr1:1-5": Evil()}, print, np.arange(3)):
        path.write_bytes(pickle.dumps(content, protocol))
        with pytest.raises(InputError, match="nothing in it was run"):
            read_plain_pickle(path)
    assert [p.name for p in tmp_path.iterdir()] == ["evil.pickle"]


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickles_are_read(tmp_path, protocol):
    partners = collections.defaultdict(set, {"chr1:1-5": {"chr1:9-12", "chr1:20-30"}})
    content = {"a": [1, 2.5, ("x", None, True)], "b": partners, "c": frozenset({3})}
    path = tmp_path / "plain.pickle"
    path.write_bytes(pickle.dumps(content, protocol))
    assert read_plain_pickle(path) == content
    if protocol > 2:
        path.write_bytes(pickle.dumps([np.float64(2.5), np.float32(0.5), np.int64(-3)], protocol))
        assert read_plain_pickle(path) == [2.5, 0.5, -3]


@pytest.mark.parametrize("content", [b"", b"text", pickle.dumps({"a": 1})[:-4], b"\x80\x04."])
def test_files_that_are_no_pickle_are_refused(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(InputError, match="is no pickle"):
        read_plain_pickle(tmp_path / "x")


def pickles(folder: Path, partners: object, scores: object) -> list[Path]:
    paths = [folder / "frag2neighbors.pickle", folder / "pair2score.pickle"]
    for path, content in zip(paths, (partners, scores), strict=True):
        path.write_bytes(pickle.dumps(content))
    return paths


def test_the_published_pickles_give_their_pairs_as_they_stand(tmp_path):
    partners = {"chr1:1-5": {"chr1:9-12", "chr1:20-30"}, "chr1:9-12": ["chr1:20-30"]}
    scores = {
        ("chr1:1-5", "chr1:9-12"): np.float64(2.5),
        ("chr1:20-30", "chr1:1-5"): 1.5,
        ("chr1:9-12", "chr1:20-30"): 3.0,
    }
    found = scored(read_contacts("authors", pickles(tmp_path, partners, scores)))
    assert found == {("chr1:1-5", "chr1:9-12", 2.5), ("chr1:9-12", "chr1:20-30", 3.0)}


@pytest.mark.parametrize(
    ("partners", "scores", "message"),
    [
        ([1], {}, "holds no dictionary"),
        ({"chr1:1-5": 7}, {}, "is no list of fragments"),
        ({"chr1:1-5": ["chr1:9-12"]}, {}, "has score None"),
        ({"chr1:1-5": ["chr1:9-12"]}, {("chr1:1-5", "chr1:9-12"): 1.5}, "above contacts.min_score"),
        ({"chr1:1-5": ["here"]}, {("chr1:1-5", "here"): 2}, "not written as chr.start.end"),
    ],
)
def test_pickles_of_another_form_are_refused(tmp_path, partners, scores, message):
    with pytest.raises(InputError, match=message):
        read_contacts("authors", pickles(tmp_path, partners, scores))


# --- plan -----------------------------------------------------------------------------------------


@pytest.fixture
def distal(monkeypatch):
    """The promoter model with the card of a model that reads contacts."""
    cards = runs.cards(ROOT)
    card = cards["promoter_cnn"] | {"dataset": plan_contacts.DATASET}
    monkeypatch.setattr(runs, "cards", lambda root: cards | {"promoter_cnn": card})


def config(**changes) -> dict:
    folds = {"f": {"validation": ["chr1"], "test": ["chr2"]}}
    models = {"models": {"promoter_cnn": {}}}
    return {"cells": ["E003", "E116"], "marks": ["H3K4me3"], "folds": folds} | models | changes


def test_a_model_without_partners_needs_no_contacts():
    plan = runs.build(config(cells=["E003", "E122"]), ROOT)
    assert plan.contacts == {}
    with pytest.raises(InputError, match="no model of the configuration reads contacts"):
        plan_contacts.of(plan, "E003")


def test_contacts_of_every_cell_are_in_the_plan(distal):
    plan = runs.build(config(), ROOT)
    one, other = (plan_contacts.of(plan, cell) for cell in ("E003", "E116"))
    assert (one.tissue, other.tissue) == ("H1", "GM")
    assert one.files == other.files and plan.files[one.files[0]].key == "pchic_interactions"
    plan = runs.build(config(contacts={"source": "authors"}), ROOT)
    keys = [plan.files[path].key for path in plan_contacts.of(plan, "E116").files]
    assert keys == ["pchic_frag2neighbors", "pchic_pair2score"]
    assert "GM_pair2score.pickle" in plan_contacts.of(plan, "E116").files[1]
    plan = runs.build(config(contacts={"source": "none"}), ROOT)
    assert plan_contacts.of(plan, "E116") == plan_contacts.CellContacts("none")


def test_own_tables_are_taken_per_cell_or_for_all(distal, tmp_path):
    for name in ("all.bedpe", "E003.bedpe", "E116.bedpe"):
        (tmp_path / name).touch()
    plan = runs.build(config(contacts={"source": "file", "file": f"{tmp_path}/all.bedpe"}), ROOT)
    assert len({c.files for c in plan.contacts.values()}) == 1
    own = {"source": "file", "file": f"{tmp_path}/{{cell}}.bedpe"}
    plan = runs.build(config(contacts=own), ROOT)
    (path,) = plan_contacts.of(plan, "E116").files
    assert plan.files[path].local == f"{tmp_path}/E116.bedpe" and "{" not in path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cells": ["E003", "E122"]}, "no capture Hi-C tissue is known for cell 'E122'"),
        ({"contacts": {"source": "file"}}, "contacts.file: is missing"),
        ({"contacts": {"file": "x.bedpe"}}, "not read with contacts.source geo"),
        ({"contacts": {"source": "file", "file": "x.bedpe"}}, "contacts.file: .*does not exist"),
        ({"contacts": {"tissues": {"E0O3": "H1"}}}, "'E0O3' is no cell"),
        ({"contacts": {"min_scores": 1}}, "unknown key 'min_scores'"),
    ],
)
def test_faults_of_the_configuration_are_named(distal, changes, message):
    with pytest.raises(InputError, match=message):
        runs.build(config(**changes), ROOT)


def test_a_tissue_of_the_configuration_goes_before_the_table(distal):
    plan = runs.build(config(cells=["E122", "E003"], contacts={"tissues": {"E122": "GM"}}), ROOT)
    assert [plan_contacts.of(plan, c).tissue for c in ("E122", "E003")] == ["GM", "H1"]
