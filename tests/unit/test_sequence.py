"""Sequence: the codes of every source equal the text, letter by letter."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epiloom.data.genome import Genome, mask, read_chrom_sizes
from epiloom.data.geometry import Geometry
from epiloom.data.sequence import (
    decode,
    encode,
    open_bases,
    reverse_complement,
    stored_bases,
    write_bases,
)
from epiloom.data.twobit import TwoBit
from epiloom.data.windows import windows
from epiloom.plan.errors import InputError
from tests.made_genome import GENOME, codes_of, random_text, write_fasta, write_twobit

SMALL = Genome("small", ("chrA", "chrB"), (50, 33))
TEXTS = {"chrA": "ACGTNacgtnRYKM" * 3 + "ACGTACGT", "other": "GG", "chrB": "TTTACGNNNAC" * 3}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder with the toy genome as FASTA, BGZF, .2bit and store; and its text."""
    folder = tmp_path_factory.mktemp("sequence")
    texts = random_text(np.random.default_rng(0))
    write_fasta(folder / "x.fa", {**texts, "chrUn": "ACGT"})
    write_fasta(folder / "x.fa.gz", texts)
    write_twobit(folder / "x.2bit", texts)
    write_bases(folder / "store", folder / "x.fa", GENOME)
    return folder, texts


@given(st.text("ACGTNacgtnRYx-", max_size=60))
def test_codes_equal_letters_and_reverse_complement_is_undone_by_itself(text):
    codes = encode(text)
    assert codes.tolist() == codes_of(text)
    assert decode(codes) == "".join("ACGTN"[c] for c in codes_of(text))
    turned = reverse_complement(codes)
    pairs = {"A": "T", "C": "G", "G": "C", "T": "A", "N": "N"}
    assert decode(turned) == "".join(pairs[c] for c in reversed(decode(codes)))
    np.testing.assert_array_equal(reverse_complement(turned), codes)


@pytest.mark.parametrize("name", ["x.fa", "x.plain.gz", "x.fa.gz", "x.2bit", "crlf.fa", "open.fa"])
def test_the_store_holds_the_text_of_every_kind_of_file(tmp_path, name):
    if name.endswith("2bit"):
        path = write_twobit(tmp_path / name, TEXTS)
    else:
        path = write_fasta(tmp_path / name, TEXTS, 7, "\r\n" if name == "crlf.fa" else "\n")
    if name == "open.fa":  # no line end at the end
        path.write_bytes(path.read_bytes().rstrip())
    about = write_bases(tmp_path / "store", path, SMALL)
    vector = np.load(tmp_path / "store/sequence/bases.npy")
    assert vector.dtype == np.uint8
    assert vector.tolist() == codes_of(TEXTS["chrA"] + TEXTS["chrB"])
    assert about == json.loads((tmp_path / "store/sequence/bases.json").read_text())
    assert list(about["counts"].values()) == [vector.tolist().count(c) for c in range(5)]


@settings(max_examples=40)
@given(
    chroms=st.lists(st.sampled_from(GENOME.chromosomes), min_size=3, max_size=3),
    starts=st.lists(st.integers(-6000, 501_000), min_size=3, max_size=3),
    length=st.sampled_from([1, 17, 4096]),
)
@pytest.mark.parametrize("source", ["store", "x.fa", "x.fa.gz", "x.2bit"])
def test_windows_of_every_source_equal_the_text(made, readers, source, chroms, starts, length):
    _, texts = made
    found = readers[source].windows(chroms, starts, length)
    assert found.dtype == np.uint8
    for row, chrom, start in zip(found, chroms, starts, strict=True):
        low, high = max(start, 0), max(start + length, 0)
        text = "N" * (low - start) + texts[chrom][low:high]
        assert row.tolist() == codes_of(text[:length].ljust(length, "N"))
        np.testing.assert_array_equal(readers[source].window(chrom, start, length), row)


@pytest.fixture(scope="module")
def readers(made):
    folder, _ = made
    names = ("x.fa", "x.fa.gz", "x.2bit")
    found = {name: open_bases(folder / name, GENOME) for name in names}
    yield {"store": stored_bases(folder / "store", GENOME), **found}
    for reader in found.values():
        reader.close()


def test_a_turned_window_equals_the_window_of_the_turned_genome(made, tmp_path):
    folder, texts = made
    pairs = str.maketrans("ACGTacgt", "TGCAtgca")
    turned = {chrom: text[::-1].translate(pairs) for chrom, text in texts.items()}
    write_bases(tmp_path, write_fasta(tmp_path / "rc.fa", turned), GENOME)
    there, back = stored_bases(folder / "store", GENOME), stored_bases(tmp_path, GENOME)
    for chrom, start, length in (("chr1", 900, 700), ("chr2", -50, 333), ("chr3", 200_500, 999)):
        mirrored = GENOME.length(chrom) - start - length
        np.testing.assert_array_equal(
            reverse_complement(there.window(chrom, start, length)),
            back.window(chrom, mirrored, length),
        )


def test_twobit_of_both_byte_orders_and_versions_equals_the_usual_library(tmp_path):
    py2bit = pytest.importorskip("py2bit")
    for order, wide in (("<", False), (">", False), ("<", True)):
        path = write_twobit(tmp_path / "x.2bit", TEXTS, order, wide)
        ours = TwoBit(path)
        assert ours.lengths == {"chrA": 50, "other": 2, "chrB": 33}
        for start in range(0, 33, 3):
            expected = codes_of(TEXTS["chrB"][start : start + 9])
            assert ours.codes("chrB", start, min(start + 9, 33)).tolist() == expected
        if order == "<" and not wide:  # the library reads these only
            with py2bit.open(str(path)) as theirs:
                assert codes_of(theirs.sequence("chrA")) == ours.codes("chrA", 0, 50).tolist()


def test_all_chromosomes_that_do_not_fit_are_told_at_once(tmp_path):
    genome = Genome("small", ("chrA", "chrB", "chrC"), (50, 34, 9))
    for path in (
        write_fasta(tmp_path / "x.fa", TEXTS),
        write_twobit(tmp_path / "x.2bit", TEXTS),
    ):
        for ask in (
            lambda p: write_bases(tmp_path / "s", p, genome),
            lambda p: open_bases(p, genome),
        ):
            with pytest.raises(InputError) as caught:
                ask(path)
            said = str(caught.value)
            assert "chrB has 33 bases in the file, 34 in small" in said
            assert "chrC of small are not in the file" in said
    assert not (tmp_path / "s/sequence/bases.npy").exists()
    bare = {name.removeprefix("chr"): text for name, text in TEXTS.items()}
    with pytest.raises(InputError, match='lack the "chr"'):
        write_bases(tmp_path / "s", write_fasta(tmp_path / "y.fa", bare), SMALL)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("x.fa", lambda d: d[: len(d) - 20], "chrB has"),
        ("x.plain.gz", lambda d: d[:-12], "cut short"),
        ("x.fa.gz", lambda d: d[: len(d) // 2], "cut short"),
        ("x.2bit", lambda d: d[:-2], "cut short"),
        ("x.2bit", lambda d: d[:21], "cut short"),
        ("x.2bit", lambda d: d[:10], "cut short"),
        ("x.fa", lambda d: d + b">chrA\nAC\n", "'chrA' is there twice"),
        ("x.fa", lambda d: b"chr1\t0\t5\n" + d, "is not FASTA"),
        ("x.fa", lambda d: b"", "holds no sequence"),
    ],
)
def test_damaged_sequence_is_refused(tmp_path, name, change, said):
    write = write_twobit if name.endswith("2bit") else write_fasta
    path = write(tmp_path / name, TEXTS)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=said):
        write_bases(tmp_path / "store", path, SMALL)
    assert not (tmp_path / "store/sequence/bases.npy").exists()


def test_random_access_needs_bgzf_and_lines_of_one_length(tmp_path):
    path = write_fasta(tmp_path / "x.plain.gz", TEXTS)
    with pytest.raises(InputError, match="gzip but not BGZF"):
        open_bases(path, SMALL)
    (tmp_path / "bad.fa").write_text(">chrA\nACGT\nAC\nACGT\n>chrB\nAC\n")
    with pytest.raises(InputError, match="cannot be indexed"):
        open_bases(tmp_path / "bad.fa", SMALL)
    with pytest.raises(InputError, match="cannot be read"):
        open_bases(tmp_path / "absent.fa", SMALL)


def test_a_stored_sequence_of_another_genome_is_not_opened(made):
    folder, _ = made
    with pytest.raises(InputError, match="made on toy"):
        stored_bases(folder / "store", Genome("hg38", GENOME.chromosomes, GENOME.lengths))
    with pytest.raises(InputError, match="manifest asks for"):
        stored_bases(folder / "store", Genome("toy", ("chr1",), (5,)))
    with pytest.raises(InputError, match="not in the store"):
        stored_bases(folder, GENOME)


def test_real_windows_have_the_gc_and_the_unknown_bases_of_their_readme(shared, tmp_path):
    real = shared / "data/hg38_dnase_windows"
    names = [line.split()[0] for line in (real / "chrom.sizes").read_text().splitlines()]
    genome = read_chrom_sizes(real / "chrom.sizes", "windows", names)
    about = write_bases(tmp_path, real / "genome.fa.gz", genome)
    assert round(about["gc"], 3) == 0.415 and about["counts"]["other"] == 1000
    stored, streamed = stored_bases(tmp_path, genome), open_bases(real / "genome.fa.gz", genome)
    starts = np.arange(len(names)) * 77 - 500
    np.testing.assert_array_equal(
        stored.windows(names, starts, 98_304), streamed.windows(names, starts, 98_304)
    )


def test_real_windows_without_unknown_bases_are_those_outside_the_gaps(shared, tmp_path):
    genome, shape = Genome("hg38", ("chr1",), (1_000_000,)), Geometry(16_384, 128, 8)
    write_bases(tmp_path, shared / "data/reference/hg38.chr1_0_1000000.fa.gz", genome)
    stored = stored_bases(tmp_path, genome)
    gaps = [(0, 10_000), (207_666, 257_666), (297_968, 347_968), (535_988, 585_988)]
    unknown = np.zeros(1_000_000, bool)
    for start, end in gaps:
        unknown[start:end] = True
    np.testing.assert_array_equal(stored.window("chr1", 0, 1_000_000) == 4, unknown)
    (tmp_path / "gaps.bed").write_text("".join(f"chr1\t{a}\t{b}\n" for a, b in gaps))
    flags = mask(genome, 128, tmp_path / "gaps.bed")
    found = windows(genome, shape, {}, 1280, None, flags, "drop_any", split="random_windows")
    free = [s for s in range(0, 983_617, 1280) if not unknown[s : s + 16_384].any()]
    assert found["start"].tolist() == free


def test_real_exons_begin_and_end_at_splice_sites(shared, tmp_path):
    real = shared / "data/hg19_pilot_mini"
    genome = read_chrom_sizes(real / "chrom.sizes", "hg19", ["chr5", "chr6", "chr7", "chr22"])
    write_bases(tmp_path, real / "genome.fa.gz", genome)
    stored = stored_bases(tmp_path, genome)
    exons = [line.split()[:3] for line in (real / "annotation/refseq.exons.bed").open()]
    pairs = [
        (decode(stored.window(c, int(a) - 2, 2)), decode(stored.window(c, int(b), 2)))
        for c, a, b in exons
    ]
    fit = {("AG", "GT"), ("AC", "CT")}  # on either strand; first and last exons have one site only
    assert sum(pair in fit for pair in pairs) > 0.5 * len(pairs)
    shifted = [
        (decode(stored.window(c, int(a) - 1, 2)), decode(stored.window(c, int(b) + 1, 2)))
        for c, a, b in exons
    ]
    assert sum(pair in fit for pair in shifted) < 0.05 * len(pairs)
