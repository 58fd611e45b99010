"""Scores of variants against a predictor that is known exactly, and against plain loops."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epiloom.data.sequence import decode, encode, reverse_complement
from epiloom.plan.errors import InputError
from epiloom.studies import variants
from epiloom.studies.variants import Options, edit
from tests.made_sequences import (
    FLAT,
    GEOMETRY,
    HEIGHT,
    MOTIF,
    MadeGenome,
    Toy,
    other_strand,
    quiet,
    strengths,
    with_motif,
)

PLAIN = Options(shifts=(0,), strands=False)
BIN, TRACKS = GEOMETRY.bin_bp, ("up", "down")
PLACE = 64 * 78 + 20  # of the motif: bases 20..29 of a bin, far from its borders
TEXT = quiet(10_000)


def table(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["chrom", "position", "ref", "alt"]).assign(id="")


def score(genome, *rows, options=None, predict=None):
    predict = predict or Toy()
    return variants.score(table(*rows), predict, genome, GEOMETRY, TRACKS, options)


def substitution(text: str, position: int, alt: str) -> tuple:
    return ("chr1", position, text[position], alt)


# --- substitutions --------------------------------------------------------------------------------


@pytest.mark.parametrize("strand", "+-")
def test_a_broken_motif_lowers_its_bin_and_nothing_else(strand):
    motif = MOTIF if strand == "+" else other_strand(MOTIF)
    text = with_motif(TEXT, PLACE, motif)
    place = PLACE + (3 if strand == "+" else 6)
    found = score(MadeGenome(chr1=text), substitution(text, place, "T"))
    up, down = found.iloc[0], found.iloc[1]
    lost = -HEIGHT / 2
    assert [up["sad"], up["max_abs"], up["l2"]] == [lost, lost, -lost]
    assert [down["sad"], down["max_abs"], down["l2"]] == [-lost / 2, -lost / 2, -lost / 2]
    assert up["max_start"] == down["max_start"] == PLACE // BIN * BIN
    sums = 5 * FLAT + np.array([HEIGHT, HEIGHT / 2])
    assert [up["local_ref"], up["local_alt"]] == sums.tolist()
    assert up["local_lfc"] == pytest.approx(math.log2((sums[1] + 1) / (sums[0] + 1)), abs=1e-12)
    assert found[[f"{name}_sd" for name in variants.SCORES]].to_numpy().tolist() == [[0] * 4] * 2


def test_every_substitution_that_creates_the_motif_raises_the_prediction():
    """Acceptance check 19, on a function that is known; exchanged alleles change the sign."""
    for place in range(len(MOTIF)):
        for other in set("ACGT") - {MOTIF[place]}:
            broken = MOTIF[:place] + other + MOTIF[place + 1 :]
            there = MadeGenome(chr1=with_motif(TEXT, PLACE))
            genome = MadeGenome(chr1=with_motif(TEXT, PLACE, broken))
            found = score(genome, ("chr1", PLACE + place, other, MOTIF[place]))
            back = score(there, ("chr1", PLACE + place, MOTIF[place], other))
            near = encode(with_motif(TEXT, PLACE, broken))[None, PLACE - 20 : PLACE + 40]
            gain = HEIGHT - sum(strengths(b).sum() for b in (near, reverse_complement(near)))
            assert gain > 0 and found["sad"].tolist() == [gain, -gain / 2]
            for name in ("sad", "local_lfc", "max_abs"):
                assert (found[name] == -back[name]).all()  # exactly
            assert (found["l2"] == back["l2"]).all()


def test_the_other_strand_scores_the_same_with_both_strands_but_not_with_one():
    text = with_motif(TEXT, PLACE)[: 2 * PLACE // BIN * BIN]
    genome, turned = MadeGenome(chr1=text), MadeGenome(chr1=other_strand(text))
    turned.scores["chr1"] = genome.scores["chr1"][::-1]
    position, alt = PLACE + 5, "T"
    mirrored = len(text) - 1 - position
    rows = [("chr1", position, text[position], alt)]
    back = [("chr1", mirrored, other_strand(text[position]), other_strand(alt))]
    for options, same in ((Options(), True), (Options(strands=False), False)):
        one = score(genome, *rows, options=options, predict=Toy(stranded=True))
        two = score(turned, *back, options=options, predict=Toy(stranded=True))
        for name in ("sad", "local_lfc", "l2"):
            assert np.allclose(one[name], two[name], rtol=1e-12) == same, name
    assert one["sad"].iloc[0] == -HEIGHT / 2 and two["sad"].iloc[0] == 0


def test_the_spread_over_shifts_is_that_of_the_six_predictions():
    edge = 64 * 78 - 4  # the fifth base is the first of a bin: a shift by +1 moves it out
    text = with_motif(TEXT, edge)
    row = substitution(text, edge + 5, "T")
    found = score(MadeGenome(chr1=text), row, predict=Toy(stranded=True), options=Options())
    single = [
        score(
            MadeGenome(chr1=text),
            row,
            predict=Toy(stranded=True),
            options=Options(shifts=(s,), strands=False),
        )["max_abs"].iloc[0]
        for s in (-1, 0, 1)
    ]
    assert single == [-4, -4, -4] and found["sad"].iloc[0] == -2  # one strand of two sees it
    # of six, forward at shifts -1 and 0 fall into the variant's bin
    assert found["max_abs"].iloc[0] == pytest.approx(-4 * 2 / 6)
    expected = np.std([-4, -4, 0, 0, 0, 0], ddof=1)
    assert found["max_abs_sd"].iloc[0] == pytest.approx(expected)
    assert found["sad_sd"].iloc[0] == pytest.approx(np.std([-4] * 3 + [0] * 3, ddof=1))


def test_scoring_is_the_same_in_any_batch_and_order_and_memory_is_bounded():
    text = with_motif(with_motif(TEXT, PLACE), PLACE + 300, other_strand(MOTIF))
    genome = MadeGenome(chr1=text)
    rows = [substitution(text, PLACE + k, "G" if text[PLACE + k] != "G" else "A") for k in range(9)]
    whole = score(genome, *rows, options=Options(batch=1000))
    toy = Toy()
    small = score(genome, *rows, options=Options(batch=24), predict=toy)
    pd.testing.assert_frame_equal(whole, small)
    assert set(toy.calls) == {12, 6}  # two variants x two alleles x three shifts, then the ninth
    turned = score(genome, *rows[::-1], options=Options(batch=24))
    columns = ["position", "track", *variants.SCORES]
    expected = whole[columns].sort_values(["position", "track"], ignore_index=True)
    got = turned[columns].sort_values(["position", "track"], ignore_index=True)
    pd.testing.assert_frame_equal(expected, got)


def test_windows_at_the_ends_of_a_chromosome_are_filled_up():
    text = with_motif(quiet(1500), 3)
    found = score(MadeGenome(chr1=text), substitution(text, 5, "T"))
    assert found["sad"].tolist() == [-HEIGHT / 2, HEIGHT / 4]


# --- insertions and deletions ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ref", "alt", "expected"),
    [
        ("A", "C", (10, 11, 0, 0)),
        ("AC", "GT", (10, 12, 0, 0)),
        ("CA", "C", (11, 11, 1, 0)),
        ("C", "CAT", (11, 11, 0, 2)),
        ("CAT", "CGT", (11, 12, 0, 0)),
        ("AAA", "AA", (12, 12, 1, 0)),
        ("GATC", "GT", (11, 12, 2, 0)),
        ("TTC", "A", (10, 11, 2, 0)),
    ],
)
def test_where_two_alleles_differ(ref, alt, expected):
    assert edit(10, ref, alt) == expected
    first, gap, lost, gained = edit(10, alt, ref)
    assert (first, gap, gained, lost) == expected


def slow_aligned(ref, alt, gap, lost, gained, bin_bp):
    """Base by base: both as tracks of bases, those without counterpart taken out."""
    length = len(ref) * bin_bp
    longer, shorter = (ref, alt) if lost else (alt, ref)
    d = max(lost, gained)
    one, two = np.zeros(len(ref)), np.zeros(len(ref))
    for x in range(length):
        other = x if x < gap else x - d
        if x < gap or x >= gap + d:
            one[x // bin_bp] += longer[x // bin_bp] / bin_bp
            two[x // bin_bp] += shorter[other // bin_bp] / bin_bp
    return (one, two) if lost else (two, one)


@given(
    gap=st.integers(0, 12 * 8),
    d=st.sampled_from([1, 3, 7, 8, 9, 16, 20]),
    deletion=st.booleans(),
    seed=st.integers(0, 99),
)
def test_alignment_of_an_indel_is_that_of_single_bases(gap, d, deletion, seed):
    ref, alt = np.random.default_rng(seed).random((2, 12)).astype(np.float32)
    lost, gained = (d, 0) if deletion else (0, d)
    found = variants.aligned(ref, alt, gap, lost, gained, 8)
    np.testing.assert_allclose(found, slow_aligned(ref, alt, gap, lost, gained, 8), atol=1e-6)


@pytest.mark.parametrize("d", [1, 10, 63, 64, 65, 150])
@pytest.mark.parametrize("deletion", [True, False])
def test_an_indel_that_only_moves_the_motif_changes_no_sum(d, deletion):
    text = with_motif(TEXT, PLACE)
    before = PLACE - 200
    more = text[before] + quiet(d, seed=8)
    if deletion:
        text = text[:before] + more + text[before + 1 :]
        row = ("chr1", before, more, more[0])
    else:
        row = ("chr1", before, text[before], more)
    found = score(MadeGenome(chr1=text), row)
    np.testing.assert_allclose(found["sad"], 0, atol=1e-5)
    if d % BIN == 0:
        np.testing.assert_allclose(found["l2"], 0, atol=1e-5)  # bins fall on bins


@pytest.mark.parametrize("d", [1, 30, 64, 100])
def test_deletion_and_insertion_of_the_motif_are_each_other_with_changed_sign(d):
    """The motif goes with the deleted bases; what is left is compared base by base."""
    text = with_motif(TEXT, PLACE)
    cut = PLACE + 2
    ref = text[cut - 1 : cut + d]
    with_it, without = MadeGenome(chr1=text), MadeGenome(chr1=text[:cut] + text[cut + d :])
    scores = with_it.scores["chr1"]
    zeroed = scores.copy()
    zeroed[cut : cut + d] = 0  # as inserted bases have no conservation
    without.scores["chr1"] = np.r_[scores[:cut], scores[cut + d :]]
    with_it.scores["chr1"] = zeroed
    lost = score(with_it, ("chr1", cut - 1, ref, ref[0]))
    gained = score(without, ("chr1", cut - 1, ref[0], ref))
    for name in ("sad", "local_lfc", "max_abs"):
        assert (lost[name] == -gained[name]).all(), name
    assert (lost["l2"] == gained["l2"]).all()
    assert lost["sad"].iloc[0] < 0 < gained["sad"].iloc[0]
    if d == 30:  # of the motif's bin, 64 - 30 bases are compared; the motif is gone
        assert lost["sad"].iloc[0] == pytest.approx(-HEIGHT * 34 / 64)


def test_windows_of_both_alleles_share_the_left_and_keep_conservation_of_their_bases():
    text = quiet(6000)
    genome = MadeGenome(chr1=text)
    position = 3000
    start = GEOMETRY.around(position + 1)
    for ref, alt in ((text[position : position + 6], text[position]), (text[position], "ACCGG")):
        alt = text[position] + alt[1:]
        row = SimpleNamespace(chrom="chr1", position=position, ref=ref, alt=alt)
        bases, scores = variants.windows(row, genome, GEOMETRY, (-1, 0, 1))
        assert bases.shape == scores.shape == (2, 3, GEOMETRY.seq_bp)
        mutated = text[:position] + alt + text[position + len(ref) :]
        own = genome.scores["chr1"]
        changed = np.r_[
            own[: position + 1],
            np.zeros(max(len(alt) - len(ref), 0), np.uint8),
            own[position + len(ref) :],
        ]
        for s, shift in enumerate((-1, 0, 1)):
            window = slice(start + shift, start + shift + GEOMETRY.seq_bp)
            assert decode(bases[0, s]) == text[window]
            assert decode(bases[1, s]) == mutated[window]
            assert (scores[0, s] == own[window]).all() and (scores[1, s] == changed[window]).all()


def test_a_long_allele_is_left_out_with_a_notice(caplog):
    genome = MadeGenome(chr1=TEXT)
    long = TEXT[100 : 101 + variants.longest(GEOMETRY)]
    rows = [("chr1", 100, long, long[0]), substitution(TEXT, 500, "C")]
    found = score(genome, *rows)
    assert set(found["variant"]) == {1} and "1 variants have an allele of more than" in caplog.text
    assert len(score(genome, rows[0])) == 0


# --- refusals -------------------------------------------------------------------------------------


def test_a_predictor_of_another_geometry_or_with_nan_is_refused():
    genome, row = MadeGenome(chr1=TEXT), substitution(TEXT, 500, "C")
    for wrong, told in (
        (lambda b, c: np.zeros((len(b), 2, 7)), "24 bins"),
        (lambda b, c: np.full((len(b), 2, 24), np.nan), "not finite"),
        (lambda b, c: np.zeros((len(b), 3, 24)), "2 names for 3 outputs"),
    ):
        with pytest.raises(InputError, match=told):
            score(genome, row, predict=wrong)


def test_options_that_make_no_sense_are_refused_at_once():
    with pytest.raises(InputError) as caught:
        Options(shifts=(), pseudo=0, batch=0)
    assert len(caught.value.problems) == 3


def test_reverse_complement_of_codes_keeps_unknown_bases():
    assert decode(reverse_complement(encode("ACGTNNA"))) == "TNNACGT"
