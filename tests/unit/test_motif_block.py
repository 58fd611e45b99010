"""The motif block: the fast scan and the reference against a double loop, and its files."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from epiloom.data import motif_blocks, motifs, motifs_int8
from epiloom.data.genome import Genome
from epiloom.data.motif_blocks import MotifBlock, import_homer, write_motif_block
from epiloom.data.motif_sets import read_motif_set
from epiloom.data.motifs import Scanner, encode, scan
from epiloom.data.sequence import decode, reverse_complement, write_bases
from epiloom.data.sequence import encode as letters
from epiloom.plan.errors import InputError
from tests.made_motifs import by_loop, made_bases, made_set, sites

WIDTHS = [1, 2, 4, 5, 7, 8, 8, 9, 11, 12, 13, 14, 19, 20, 25]
SET = made_set(WIDTHS, 5)
BASES = made_bases(5000)


def close(found: np.ndarray, truth: np.ndarray, motif_set, error: np.ndarray) -> None:
    """Equal within the error of the motifs; what lies so near a threshold may count or not."""
    loose = replace(motif_set, thresholds=motif_set.thresholds - error)
    tight = replace(motif_set, thresholds=motif_set.thresholds + error)
    most = float(error.max())
    assert (found <= by_loop(BASES, loose) + most + 1e-5).all()
    assert (found >= by_loop(BASES, tight) - most - 1e-5).all()
    assert ((found > 0) == (truth > 0)).mean() > 0.99


def test_reference_is_the_double_loop():
    np.testing.assert_allclose(scan(BASES, SET), by_loop(BASES, SET), atol=1e-5)


def test_fast_scan_is_the_double_loop_within_its_error():
    scanner = Scanner(SET)
    assert not scanner.exact and 0 < scanner.max_error < 0.4
    truth = by_loop(BASES, SET)
    assert 0.1 < (truth > 0).mean() < 1
    close(scanner.scores(BASES), truth, SET, scanner.error)


@pytest.mark.parametrize("i", range(len(WIDTHS)))
def test_every_motif_is_within_its_own_error_of_float32(i):
    one = replace(SET, thresholds=np.zeros(len(WIDTHS))).of(SET.tfs)
    pairs = np.array([[0, 0]])
    one = replace(
        one, names=("m",), log_odds=(SET.log_odds[i],), thresholds=np.zeros(1), tfs=("T",)
    )
    one = replace(one, pairs=pairs)
    scanner = Scanner(one)
    apart = np.abs(scanner.scores(BASES, 1) - scan(BASES, one, 1))
    assert apart.max() <= scanner.max_error + 1e-5
    # the stated error is that of the worst site, not a loose bound
    if len(SET.log_odds[i]) <= 5:
        both = scan(BASES, one, 1) > scanner.max_error
        assert apart[both].max(initial=scanner.max_error) > 0.3 * scanner.max_error


@pytest.mark.parametrize("bin_bp", [1, 7, 128, 200, 6000])
def test_bins_of_any_size(bin_bp):
    truth = by_loop(BASES, SET, bin_bp)
    np.testing.assert_allclose(scan(BASES, SET, bin_bp), truth, atol=1e-5)
    fast = Scanner(replace(SET, thresholds=np.zeros(len(WIDTHS))))
    none = by_loop(BASES, fast.motifs, bin_bp)
    assert np.abs(fast.scores(BASES, bin_bp) - none).max() <= fast.max_error + 1e-5


@pytest.mark.parametrize("length", [0, 1, 6, 24, 25, 26, 127, 128, 129, 255, 8191, 8192, 8193])
def test_sequences_of_any_length_end_where_they_end(length):
    motif_set = replace(SET, thresholds=np.zeros(len(WIDTHS)))
    bases, scanner = made_bases(length), Scanner(motif_set)
    found = scanner.scores(bases)
    assert found.shape == (-(-length // 128), 5)
    np.testing.assert_allclose(found, scan(bases, motif_set), atol=scanner.max_error + 1e-5)


def test_lower_case_is_upper_case_and_n_has_no_site():
    text = decode(made_bases(400, other=0))
    assert np.array_equal(scan(letters(text), SET), scan(letters(text.lower()), SET))
    nothing = letters("N" * 300 + text[:3])
    wide = made_set([8, 9], 2, threshold=0.0)
    assert not scan(nothing, wide).any() and not Scanner(wide).codes(nothing).any()


def test_a_site_across_a_bin_edge_belongs_to_the_bin_of_its_first_base():
    word = "ACGTTGCAAC"
    odds = np.where(np.eye(4)[letters(word)] > 0, 1.3, -3.0)
    one = replace(made_set([10], 1), log_odds=(odds,), thresholds=np.array([12.0]))
    for text in (word, decode(reverse_complement(letters(word)))):
        for start, expected in ((118, 0), (119, 0), (127, 0), (128, 1)):
            bases = letters("T" * start + text + "T" * 200)
            for found in (scan(bases, one), Scanner(one).scores(bases)):
                assert np.flatnonzero(found[:, 0]).tolist() == [expected]


def test_reverse_complement_has_the_mirrored_sites():
    for odds in SET.log_odds:
        width = len(odds)
        turned = sites(reverse_complement(BASES[:700]), odds)
        mirrored = {
            (700 - start - width, "+-"[strand == "+"]): score for start, strand, score in turned
        }
        straight = {(start, strand): score for start, strand, score in sites(BASES[:700], odds)}
        assert straight.keys() == mirrored.keys()
        assert all(abs(straight[k] - mirrored[k]) < 1e-9 for k in straight)


def test_block_of_the_reverse_complement_is_mirrored_site_by_site():
    # With bins of one base every site has its own: that of its first base on the strand read.
    one = replace(made_set([9], 1), thresholds=np.zeros(1))
    for found in (lambda b: scan(b, one, 1), lambda b: Scanner(one).scores(b, 1)):
        there, back = found(BASES)[:, 0], found(reverse_complement(BASES))[:, 0]
        np.testing.assert_allclose(there[: 5000 - 8], back[: 5000 - 8][::-1], atol=1e-5)


@pytest.mark.parametrize("tfs", [1, 2, 7, 15])
def test_any_number_of_tfs(tfs):
    motif_set = made_set(WIDTHS, tfs)
    found = scan(BASES, motif_set)
    assert found.shape == (40, tfs)
    np.testing.assert_allclose(found, by_loop(BASES, motif_set), atol=1e-5)


def test_order_of_tfs_permutes_columns_and_nothing_else():
    order = [3, 0, 4, 2, 1]
    other = SET.of([SET.tfs[k] for k in order])
    assert np.array_equal(scan(BASES, SET)[:, order], scan(BASES, other))
    assert np.array_equal(Scanner(SET).codes(BASES)[:, order], Scanner(other).codes(BASES))


def test_codes_are_steps_of_the_scores():
    scanner = Scanner(SET)
    scores, codes = scanner.scores(BASES), scanner.codes(BASES)
    assert np.array_equal(codes > 0, scores > 0)
    assert np.abs(codes.astype(int) - encode(scores, scanner.step)).max() <= 1  # ties
    assert np.abs(codes * scanner.step - scores).max() <= scanner.step / 2 + 1e-4
    assert encode(np.array([0, 0.001, 0.26, 99.0]), 0.1).tolist() == [0, 1, 3, 255]


def test_threads_and_chunks_change_nothing(monkeypatch):
    bases = made_bases(40_000)
    whole = Scanner(SET).codes(bases)
    before = torch.get_num_threads()
    assert np.array_equal(Scanner(SET).codes(bases, threads=3), whole)
    assert torch.get_num_threads() == before
    monkeypatch.setattr(motifs, "CHUNK", 1000)
    monkeypatch.setattr(motifs_int8, "ROWS", 3)
    assert np.array_equal(Scanner(SET).codes(bases), whole)


def test_without_an_int8_product_float32_serves(monkeypatch):
    monkeypatch.setattr(motifs, "int8_works", lambda: False)
    scanner = Scanner(SET)
    assert scanner.exact and scanner.max_error == 0
    assert np.array_equal(scanner.scores(BASES), scan(BASES, SET))
    assert np.array_equal(scanner.codes(BASES), encode(scan(BASES, SET), scanner.step))


def test_motifs_wider_than_int8_sums_allow():
    wide = made_set([37, 38, 60], 3, threshold=0.0)
    assert Scanner(wide).exact and not Scanner(wide.of(["T0"])).exact
    for found in (wide.of(["T0"]), wide):
        apart = Scanner(found).scores(BASES) - by_loop(BASES, found)
        assert np.abs(apart).max() <= Scanner(found).max_error + 1e-4


@pytest.mark.parametrize("change", [(0, 1), (130, 131), (1000, 1040), (4990, 5000)])
def test_only_bins_that_a_change_can_reach_are_made_again(change):
    start, end = change
    scanner, altered = Scanner(SET), BASES.copy()
    altered[start:end] = (altered[start:end] + 1) % 4
    first, again = scanner.block_of_windows(altered, start, end)
    patched = scanner.codes(BASES)
    patched[first : first + len(again)] = again
    assert np.array_equal(patched, scanner.codes(altered))
    assert len(again) <= (end - start + 24) // 128 + 2


def test_faulty_arguments_are_refused():
    for bases in (BASES.astype(int), BASES[None]):
        with pytest.raises(InputError, match="uint8"):
            Scanner(SET).codes(bases)
    with pytest.raises(InputError, match="some that are there"):
        Scanner(SET).block_of_windows(BASES, 10, 10)


# ---- files ---------------------------------------------------------------------------------------

GENOME = Genome("made", ("chr1", "chr2"), (3000, 1111))
ENDS = (".npy", ".flags.npy", ".json")


@pytest.fixture
def store(tmp_path):
    GENOME.save(tmp_path / "manifest.json", bins=(128,))
    text = ">chr1\n" + decode(made_bases(3000)) + "\n>chr2\n" + decode(made_bases(1111, 2)).lower()
    (tmp_path / "x.fa").write_text(text + "\n")
    write_bases(tmp_path, tmp_path / "x.fa", GENOME)
    return tmp_path


def names(store):
    return [store / f"motifs128/set{end}" for end in ENDS]


def test_a_stored_block_is_the_scan_of_each_chromosome(store, monkeypatch):
    monkeypatch.setattr(motif_blocks, "BLOCK_BP", 500)
    about = write_motif_block(store, GENOME, SET, *names(store), threads=2)
    block, scanner = MotifBlock.open(store / "manifest.json", *names(store)), Scanner(SET)
    truth = np.concatenate([scanner.codes(made_bases(3000)), scanner.codes(made_bases(1111, 2))])
    assert np.array_equal(block.codes, truth) and not block.flags.any()
    assert block.tfs == list(SET.tfs) and about["sha256_of_motifs"] == SET.checksum
    assert about["max_error"] == pytest.approx(scanner.max_error + about["step"] / 2, abs=1e-5)
    np.testing.assert_allclose(block.scores("chr2", 1, 4), truth[25:28] * np.float32(block.step))
    block.check(list(SET.tfs), SET.checksum)
    with pytest.raises(InputError, match="order") as caught:
        block.check(list(SET.tfs)[::-1], "0")
    assert len(caught.value.problems) == 2


def test_regions_restrict_what_is_scanned(store):
    (store / "r.bed").write_text("chr1\t100\t300\nchr2\t1000\t1111\n")
    write_motif_block(store, GENOME, SET, *names(store), regions=store / "r.bed")
    block = MotifBlock.open(store / "manifest.json", *names(store))
    scanned = np.flatnonzero(block.flags == 0)
    assert scanned.tolist() == [0, 1, 2, 24 + 7, 24 + 8]
    whole = Scanner(SET).codes(made_bases(3000))
    assert np.array_equal(block.codes[:3], whole[:3]) and not block.codes[3:24].any()
    with pytest.raises(InputError, match="not scanned"):
        block.scores("chr1", 2, 4)
    with pytest.raises(InputError, match="it has 24"):
        block.scores("chr1", 2, 25)


def test_an_interrupted_job_leaves_no_file(store, monkeypatch):
    monkeypatch.setattr(motif_blocks, "_tell", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_motif_block(store, GENOME, SET, *names(store))
    assert list((store / "motifs128").iterdir()) == []


def test_files_that_do_not_belong_together_are_refused(store):
    files = names(store)
    write_motif_block(store, GENOME, SET, *files)
    told = json.loads(files[2].read_text())
    damage = {
        "not those of its checksum": {"tfs": told["tfs"][::-1]},
        "data version": {"data_version": -1},
        "made on hg0": {"assembly": "hg0"},
        "damaged": {"step": None},
    }
    for message, change in damage.items():
        files[2].write_text(json.dumps(told | change))
        with pytest.raises(InputError, match=message):
            MotifBlock.open(store / "manifest.json", *files)
    files[2].write_text(json.dumps(told))
    np.save(files[0], np.zeros((3, 3), np.uint8))
    with pytest.raises(InputError, match=r"holds uint8 \(3, 3\)"):
        MotifBlock.open(store / "manifest.json", *files)
    files[2].unlink()
    with pytest.raises(InputError, match="make the motif block first"):
        MotifBlock.open(store / "manifest.json", *files)


HITS = "PositionID\tOffset\tSequence\tMotif Name\tStrand\tMotifScore\n"


def test_hits_of_homer_become_a_block(store):
    lines = ["1\t3\tA\tm1\t+\t4.25", "1\t9\tA\tm1\t-\t6.0", "2\t0\tA\tm0\t+\t2.0"]
    lines += ["33\t0\tA\tm3\t+\t40.0", "33\t0\tA\tm2\t+\t-1.0"]
    (store / "hits.tsv").write_text(HITS + "\n".join(lines) + "\n")
    about = import_homer(store / "hits.tsv", GENOME, SET, *names(store))
    block = MotifBlock.open(store / "manifest.json", *names(store))
    expected = np.zeros((33, 5), np.uint8)
    for row, motif, score in ((0, 1, 6.0), (1, 0, 2.0), (32, 3, 40.0)):
        for tf in SET.pairs[SET.pairs[:, 1] == motif, 0]:
            expected[row, tf] = min(255, round(score / about["step"]))
    assert np.array_equal(block.codes, expected) and about["source"] == "hits.tsv"


def test_hits_of_homer_on_chosen_bins(store):
    (store / "hits.tsv").write_text(HITS + "2\t0\tA\tm0\t+\t2.0\n")
    (store / "bins.bed").write_text("chr2\t128\t256\nchr1\t256\t384\n")
    import_homer(store / "hits.tsv", GENOME, SET, *names(store), bins=store / "bins.bed")
    block = MotifBlock.open(store / "manifest.json", *names(store))
    assert np.flatnonzero(block.flags == 0).tolist() == [2, 25]
    assert np.flatnonzero(block.codes.any(axis=1)).tolist() == [2]
    (store / "bins.bed").write_text("chr2\t100\t256\n")
    with pytest.raises(InputError, match="multiples of 128"):
        import_homer(store / "hits.tsv", GENOME, SET, *names(store), bins=store / "bins.bed")


def test_faulty_hits_are_refused_with_all_problems(store):
    (store / "hits.tsv").write_text(HITS + "34\t0\tA\tother\t+\t2.0\n")
    with pytest.raises(InputError, match="not one of 1 to 33") as caught:
        import_homer(store / "hits.tsv", GENOME, SET, *names(store))
    assert len(caught.value.problems) == 2 and not names(store)[0].exists()
    (store / "hits.tsv").write_text("a\tb\n1\t2\n")
    with pytest.raises(InputError, match="HOMER"):
        import_homer(store / "hits.tsv", GENOME, SET, *names(store))
    with pytest.raises(InputError, match="no such file"):
        import_homer(store / "none.tsv", GENOME, SET, *names(store))


def test_the_whole_of_hocomoco(shared):
    folder = shared / "data/motifs"
    motif_set = read_motif_set(
        folder / "HOCOMOCOv11_full_HUMAN_mono.meme.gz",
        folder / "HOCOMOCOv11_full_HUMAN_annotation.tsv",
    )
    assert len(motif_set.names) == 769 and len(motif_set.tfs) == 678
    bases, scanner = made_bases(6400), Scanner(motif_set)
    found, truth = scanner.scores(bases), scan(bases, motif_set)
    assert scanner.max_error < 0.35 and ((found > 0) != (truth > 0)).mean() < 0.01
    assert 0.15 < (truth > 0).mean() < 0.35
