"""Motif sets: formats, tables of TFs, thresholds against enumeration, checksums, errors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from epiloom.data.motif_sets import Rule, read_motif_set, read_tf_table, score_at
from epiloom.plan.errors import InputError
from tests.made_motifs import made_set

MEME = """MEME version 4

ALPHABET= ACGT

MOTIF one_A A
letter-probability matrix: alength= 4 w= 2 nsites= 20 E= 0
0.7 0.1 0.1 0.1
0.1 0.1 0.1 0.7

MOTIF two_B B
letter-probability matrix: alength= 4 w= 3 nsites= 20 E= 0
0.25 0.25 0.25 0.25
0.1 0.7 0.1 0.1
0.4 0.1 0.4 0.1
"""
TABLE = "one_A\tA\ntwo_B\tB\ntwo_B\tA\nthree\tC\n"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "m.meme").write_text(MEME)
    (tmp_path / "t.tsv").write_text(TABLE)
    return tmp_path


def test_log_odds_are_natural_and_against_the_background(files):
    found = read_motif_set(files / "m.meme", files / "t.tsv")
    assert found.names == ("one_A", "two_B") and found.tfs == ("A", "B")
    assert found.pairs.tolist() == [[0, 0], [0, 1], [1, 1]]
    np.testing.assert_allclose(found.log_odds[0][0], np.log(np.array([0.7, 0.1, 0.1, 0.1]) * 4))
    rule = Rule("none", pseudocount=0.5, gc=0.4)
    other = read_motif_set(files / "m.meme", files / "t.tsv", rule=rule)
    expected = np.log((0.7 + 0.5 * 0.3) / 1.5 / 0.3)
    assert other.log_odds[0][0, 0] == pytest.approx(expected)
    assert other.thresholds.tolist() == [0, 0]


def test_without_a_table_every_motif_is_its_own_tf(files):
    assert read_motif_set(files / "m.meme").tfs == ("one_A", "two_B")


def test_wanted_tfs_come_in_their_order_and_leave_unused_motifs_out(files):
    found = read_motif_set(files / "m.meme", files / "t.tsv", ["B"])
    assert found.names == ("two_B",) and found.tfs == ("B",) and found.pairs.tolist() == [[0, 0]]
    both = read_motif_set(files / "m.meme", files / "t.tsv", ["B", "A"])
    assert both.tfs == ("B", "A") and both.pairs.tolist() == [[0, 1], [1, 0], [1, 1]]
    for tfs, message in ((["B", "X", "Y"], "X, Y"), (["A", "A"], "twice"), ([], "empty")):
        with pytest.raises(InputError, match=message):
            read_motif_set(files / "m.meme", files / "t.tsv", tfs)


def test_homer_files_bring_their_thresholds_and_may_repeat_names(tmp_path):
    block = "\t-3.2\t0\tT:1\n0.7\t0.1\t0.1\t0.1\n0.1\t0.1\t0.1\t0.7\n"
    path = tmp_path / "h.motif"
    path.write_text(f">AT\tone{block.replace('-3.2', '1.5')}>AT\tone{block}")
    found = read_motif_set(path, rule=Rule("homer"))
    assert found.names == ("one", "one") and found.thresholds.tolist() == [1.5, -3.2]
    assert found.tfs == ("one",) and found.pairs.tolist() == [[0, 0], [0, 1]]
    path.write_text(">AT\tone\t1.5\n0.7\t0.1\n>AT\ttwo\tx\n0.7\t0.1\t0.1\t0.1\n")
    with pytest.raises(InputError) as caught:
        read_motif_set(path, rule=Rule("homer"))
    assert len(caught.value.problems) == 2


def test_jaspar_counts(tmp_path):
    text = ">MA1 x\nA [ 8 0 ]\nC [ 0 0 ]\nG [ 0 8 ]\nT [ 0 0 ]\n"
    (tmp_path / "j.pfm").write_text(text)
    found = read_motif_set(tmp_path / "j.pfm")
    assert found.names == ("MA1",)
    assert found.log_odds[0][0, 0] == pytest.approx(np.log(8.5 / 10 * 4))


def test_homer_rule_needs_a_homer_file(files):
    with pytest.raises(InputError, match="no thresholds of its own"):
        read_motif_set(files / "m.meme", rule=Rule("homer"))


def test_probabilities_of_zero_need_a_pseudocount(tmp_path):
    (tmp_path / "m.meme").write_text(MEME.replace("0.7 0.1 0.1 0.1", "1.0 0 0 0"))
    with pytest.raises(InputError, match="give a pseudocount"):
        read_motif_set(tmp_path / "m.meme")
    found = read_motif_set(tmp_path / "m.meme", rule=Rule(pseudocount=0.01))
    assert np.isfinite(found.log_odds[0]).all()


@pytest.mark.parametrize("gc", [0.5, 0.41])
@pytest.mark.parametrize("width", [1, 3, 5, 7])
@pytest.mark.parametrize("p", [0.2, 0.01, 1e-3])
def test_threshold_by_p_is_that_of_all_words(gc, width, p):
    log_odds = made_set([width], 1, seed=width).log_odds[0]
    background = Rule(gc=gc).background
    words = np.array(list(itertools.product(range(4), repeat=width)))
    scores = log_odds[np.arange(width), words].sum(axis=1)
    chance = background[words].prod(axis=1)
    order = np.argsort(-scores)
    beyond = np.cumsum(chance[order])  # P(score >= this word's), all scores being different
    rare = np.flatnonzero(beyond < p * (1 - 1e-9))
    found = score_at(log_odds, p, background)
    if not len(rare):
        assert found == np.inf
        return
    expected = scores[order][rare[-1]]
    assert abs(found - expected) <= 0.001 * (width + 1) + 1e-9
    reached = chance[scores >= found].sum()
    assert reached < p or np.diff(np.sort(scores)).min() < 0.002 * (width + 1)


def test_fraction_is_of_the_largest_score(files):
    found = read_motif_set(files / "m.meme", rule=Rule("fraction", 0.6))
    largest = [m.max(axis=1).sum() for m in found.log_odds]
    np.testing.assert_allclose(found.thresholds, np.array(largest) * 0.6)
    assert found.largest == pytest.approx(max(largest))


def test_checksum_tells_motifs_tfs_order_and_rule(files):
    same = [read_motif_set(files / "m.meme", files / "t.tsv").checksum for _ in range(2)]
    others = [
        read_motif_set(files / "m.meme").checksum,
        read_motif_set(files / "m.meme", files / "t.tsv", ["B", "A"]).checksum,
        read_motif_set(files / "m.meme", files / "t.tsv", rule=Rule("p", 1e-4)).checksum,
        read_motif_set(files / "m.meme", files / "t.tsv", rule=Rule(pseudocount=0.1)).checksum,
    ]
    (files / "m.meme").write_text(MEME.replace("0.4 0.1 0.4 0.1", "0.4 0.1 0.3 0.2"))
    others.append(read_motif_set(files / "m.meme", files / "t.tsv").checksum)
    assert same[0] == same[1] and len({same[0], *others}) == 6


def test_tables_of_two_columns_and_of_hocomoco(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("# remark\nm1\tA\n\nm2\tB\nm3\tNaN\n")
    assert read_tf_table(path) == [("m1", "A"), ("m2", "B")]
    path.write_text("Model\tTranscription factor\tModel length\nm1\tA\t9\n")
    assert read_tf_table(path) == [("m1", "A")]
    path.write_text("length\tsymbol\tmodel\n9\tHSFY1; HSFY2\tm1\n")
    assert read_tf_table(path) == [("m1", "HSFY1; HSFY2")]


def test_faulty_tables_are_refused_with_all_problems(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("m1\nm2\tB\nm3\n")
    with pytest.raises(InputError) as caught:
        read_tf_table(path)
    assert [p[:6] for p in caught.value.problems] == ["line 1", "line 3"]
    for text in ("", "# nothing\n", "m1\tNA\n"):
        path.write_text(text)
        with pytest.raises(InputError, match="names no motif"):
            read_tf_table(path)
    with pytest.raises(InputError, match="no such file"):
        read_tf_table(tmp_path / "none")


def test_a_table_of_other_motifs_is_refused(files):
    (files / "t.tsv").write_text("x\tA\n")
    with pytest.raises(InputError, match="names no motif of"):
        read_motif_set(files / "m.meme", files / "t.tsv")
    with pytest.raises(InputError, match="no such file"):
        read_motif_set(files / "none.meme")


def test_faulty_rules_are_refused_with_all_problems():
    with pytest.raises(InputError) as caught:
        Rule("best", pseudocount=-1, gc=1.0)
    assert len(caught.value.problems) == 3
    with pytest.raises(InputError, match="above 0 and at most 1"):
        Rule("p", 0)
