"""Splits of cell types: synonyms stay together, published lists are refused, parts are apart."""

from __future__ import annotations

import itertools

import pandas as pd
import pytest

from epiloom.data import cell_groups as module
from epiloom.data.cell_groups import (
    cell_folds,
    check,
    key,
    part_of,
    read_names,
    read_split,
    split_cells,
    twins,
)
from epiloom.plan.errors import InputError

CELLS = {
    "c1": "left lung",
    "c2": "Upper lobe of LEFT lung",
    "c3": "right cardiac atrium",
    "c4": "right atrium auricular region",
    "c5": "K562",
    "c6": "k-562",
    "c7": "GM12878",
    "c8": "spleen",
    "c9": "thymus",
}


def made(tmp_path, text: str, name: str = "t.tsv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def apart(split: pd.DataFrame) -> None:
    """No name and no group on two sides, pair by pair."""
    rows = [row for row in split.itertuples() if row.part != "unused"]
    for a, b in itertools.combinations(rows, 2):
        if key(a.name) == key(b.name) or a.group == b.group:
            assert a.part == b.part, (a, b)


def test_spelling_does_not_make_two_cells():
    assert key("IMR-90") == key("imr 90") == "imr90"
    split = split_cells(CELLS, ["c5"], ["c8"])
    parts = dict(zip(split["cell"], split["part"], strict=True))
    assert parts["c6"] == "test" and list(split["cell"]) == list(CELLS)


def test_synonyms_follow_the_cell_that_is_named():
    split = split_cells(CELLS, ["c1"], ["c4"])
    parts = dict(zip(split["cell"], split["part"], strict=True))
    assert parts["c2"] == "test" and parts["c3"] == "validation" and parts["c7"] == "train"
    apart(split)


@pytest.mark.parametrize("seed", range(20))
def test_drawn_splits_are_apart(seed):
    split = split_cells(CELLS, 0.3, 0.2, seed=seed)
    apart(split)
    assert set(split["part"]) == {"train", "validation", "test"}
    assert split.equals(split_cells(CELLS, 0.3, 0.2, seed=seed))


def test_groups_asked_for_on_both_sides_and_unknown_cells_are_refused():
    with pytest.raises(InputError) as err:
        split_cells(CELLS, ["c1", "c99"], ["c2"])
    assert len(err.value.problems) == 2 and "'lung' is in test too" in str(err.value)
    with pytest.raises(InputError, match="train: no cell"):
        split_cells({"a": "K562", "b": "K562"}, ["a"], 0.0)


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_folds_test_each_cell_once(folds):
    splits = cell_folds(CELLS, folds, seed=3)
    tested = [cell for split in splits for cell in split["cell"][split["part"] == "test"]]
    assert sorted(tested) == sorted(CELLS)
    for split in splits:
        apart(split)
    with pytest.raises(InputError, match="7 folds of 6 groups"):
        cell_folds(CELLS, 7)


def test_a_names_table_of_ones_own(tmp_path):
    path = made(tmp_path, "cell\tanatomy\nE003\tESC\nE004\tESC\nE116\tBLOOD\n")
    names = read_names(path, "cell", "anatomy")
    cells = {"E003": "E003", "E004": "E004", "E116": "E116", "E118": "E118"}
    split = split_cells(cells, ["E004"], ["E118"], names)
    assert split["group"].tolist() == ["ESC", "ESC", "BLOOD", "E118"]
    assert split["part"].tolist() == ["test", "test", "train", "validation"]
    with pytest.raises(InputError, match="no column name, group"):
        read_names(path)
    bad = made(tmp_path, "name\tgroup\nA\tx\na\ty\n\tz\n", "b.tsv")
    with pytest.raises(InputError) as err:
        read_names(bad)
    assert len(err.value.problems) == 2


def test_a_given_split_is_read_and_repeated_names_stay_apart(tmp_path):
    path = made(tmp_path, "name\tsplit\nH1\ttrain\nH1\ttest\nliver\tdropped\n")
    split = read_split(path)
    assert split["cell"].tolist() == ["H1", "H1.2", "liver"]
    assert split["part"].tolist() == ["train", "test", "unused"]
    with pytest.raises(InputError, match="name 'H1' is in train: H1; test: H1.2"):
        check(split)
    check(split, force=True)
    with pytest.raises(InputError, match="line 2: split 'tests'"):
        read_split(made(tmp_path, "name\tsplit\nH1\ttests\n"))


def test_parts_of_the_evaluation():
    assert part_of("test", "train") == "cross_cell"
    assert part_of("train", "test") == "cross_region"
    assert part_of("test", "test") == "cross_both"
    assert part_of("validation", "validation") == "validation"
    for cell, chrom in (("validation", "train"), ("train", "validation"), ("test", "validation")):
        assert part_of(cell, chrom) == ""


def test_builtin_names_are_in_one_group_each():
    names = [key(n) for names in module.SYNONYMS.values() for n in names.split(";")]
    assert len(names) == len(set(names))


def test_the_published_hg38_lists_are_refused(shared):
    path = shared / "data/epigept/celltypes_hg38.tsv"
    if not path.exists():
        pytest.skip("no published lists")
    split = read_split(path)
    assert split["part"].value_counts().to_dict() == {"train": 72, "test": 19, "unused": 14}
    with pytest.raises(InputError):
        check(split, path)
    found = twins(split)
    assert [t for t in found if t.startswith("name")] == [
        "name 'H1' is in train: H1; test: H1.2",
        "name 'HFFc6' is in train: HFFc6; test: HFFc6.2",
    ]
    assert any("'lung'" in t and "left lung" in t for t in found)
    assert any("'heart'" in t and "right cardiac atrium" in t for t in found)
    check(split, path, force=True)
    cells = dict(zip(split["cell"], split["name"], strict=True))
    assert len(cells) == 105
    for again in cell_folds(cells, 5):
        apart(again)


def test_the_published_hg19_lists_are_read(shared):
    path = shared / "data/epigept/celltypes_hg19.tsv"
    if not path.exists():
        pytest.skip("no published lists")
    split = read_split(path)
    assert split["part"].value_counts().to_dict() == {"train": 20, "test": 8, "unused": 11}
    assert not [t for t in twins(split) if t.startswith("name")]
    assert [t.split("'")[1] for t in twins(split)] != []


def test_the_published_dnase_folds_cover_each_cell_once(shared):
    path = shared / "data/epigept/dnase129_folds.tsv"
    if not path.exists():
        pytest.skip("no published folds")
    table = pd.read_csv(path, sep="\t")
    assert sorted(table["row0"]) == list(range(129))
    assert table["test_fold"].value_counts().sort_index().tolist() == [26, 26, 26, 26, 25]
