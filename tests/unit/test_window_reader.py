"""Batches of windows against plain loops over the files' contents, from the store and streamed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epiloom.data.conservation import write_conservation
from epiloom.data.genome import Genome, mask
from epiloom.data.geometry import Geometry
from epiloom.data.sequence import reverse_complement, write_bases
from epiloom.data.store import write_mask
from epiloom.data.targets import write_target
from epiloom.data.window_reader import WindowReader
from epiloom.data.windows import windows
from epiloom.plan.errors import InputError
from tests.made_genome import (
    GENOME,
    codes_of,
    random_bases,
    random_text,
    write_bigwig,
    write_fasta,
    write_twobit,
)

SHAPE = Geometry(4096, 128, 4)
GAPS = "0\tchr1\t0\t1000\t1\tN\t1000\ttelomere\tno\n0\tchr1\t499423\t500123\t9\tN\t700\tx\tno\n"
BLACK = "chr2\t1000\t1001\nchr3\t12800\t14080\nchr3\t199999\t200777\n"
FLAGGED = {
    "chr1": [(0, 1000), (499_423, 500_123)],
    "chr2": [(1000, 1001)],
    "chr3": [(12_800, 14_080), (199_999, 200_777)],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Everything of a toy genome: files, store, and the contents as Python objects."""
    folder, rng = tmp_path_factory.mktemp("reader"), np.random.default_rng(5)
    texts = random_text(rng)
    scores = random_bases(rng, top=1.0)
    tracks = [random_bases(rng, top=9.0), random_bases(rng, top=300.0)]
    write_fasta(folder / "x.fa", texts)
    write_twobit(folder / "x.2bit", texts)
    write_bigwig(folder / "c.bw", scores)
    (folder / "gaps.txt").write_text(GAPS)
    (folder / "black.bed").write_text(BLACK)
    GENOME.save(folder / "manifest.json", bins=(128,))
    write_bases(folder, folder / "x.2bit", GENOME)
    write_conservation(folder, "phast", folder / "c.bw", GENOME)
    for k, bases in enumerate(tracks):
        write_bigwig(folder / f"{k}.bw", bases)
        write_target(folder, f"t{k}", folder / f"{k}.bw", GENOME, 128, {"clip": 100.0})
    flags = mask(GENOME, 128, folder / "gaps.txt", folder / "black.bed")
    write_mask(folder, flags, 128)
    return folder, texts, scores, tracks


@pytest.fixture(scope="module")
def readers(made):
    folder = made[0]
    targets = [(folder / f"{k}.bw", {"clip": 100.0}) for k in range(2)]
    more = (folder / "c.bw", folder / "gaps.txt", folder / "black.bed")
    found = {
        "stored": WindowReader.stored(folder, ["t0", "t1"], "phast", SHAPE),
        "fasta": WindowReader.streamed(GENOME, folder / "x.fa", SHAPE, targets, *more),
        "2bit": WindowReader.streamed(GENOME, folder / "x.2bit", SHAPE, targets, *more),
    }
    yield found
    for reader in found.values():
        reader.close()


def slow_window(made, chrom, start, reverse, shift):
    """One window in plain loops: bases, conservation, targets, valid."""
    _, texts, scores, tracks = made
    places = range(start + shift, start + shift + SHAPE.seq_bp)
    length = GENOME.length(chrom)
    codes = codes_of([texts[chrom][p] if 0 <= p < length else "N" for p in places])
    kept = [scores[chrom][p] if 0 <= p < length else np.nan for p in places]
    kept = [0 if np.isnan(v) else int(255 * float(v) + 0.5) for v in kept]
    target, valid = [[] for _ in tracks], []
    for k in range(SHAPE.crop_bins, SHAPE.seq_bp // 128 - SHAPE.crop_bins):
        low, high = start + 128 * k, min(start + 128 * (k + 1), length)
        inside = 0 <= low < length
        hit = any(a < high and low < b for a, b in FLAGGED[chrom])
        valid.append(inside and not hit)
        for line, bases in zip(target, tracks, strict=True):
            own = bases[chrom][low:high] if inside else np.array([])
            there = own[~np.isnan(own)]
            full = len(there) > 0 and len(there) >= len(own) / 2
            line.append(min(float(there.mean(dtype=float)), 100.0) if full else np.nan)
    if reverse:
        codes = [3 - c if c < 4 else 4 for c in reversed(codes)]
        kept, valid = kept[::-1], valid[::-1]
        target = [line[::-1] for line in target]
    return codes, kept, target, valid


@settings(max_examples=12)
@given(
    windows=st.lists(
        st.tuples(
            st.sampled_from(GENOME.chromosomes),
            st.one_of(st.integers(-40, 40), st.integers(1530, 1600), st.integers(0, 3920)),
            st.booleans(),
            st.integers(-200, 200),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_batches_of_every_source_equal_plain_loops(made, readers, windows):
    chroms, firsts, reverse, shift = (list(x) for x in zip(*windows, strict=True))
    starts = [128 * first for first in firsts]
    for reader in readers.values():
        found = reader.batch(chroms, starts, reverse, shift)
        assert {k: v.dtype.name for k, v in found.items()} == {
            **{"bases": "uint8", "conservation": "uint8", "target": "float16", "valid": "bool"}
        }
        assert found["valid"].shape == (len(windows), 1, SHAPE.bins)
        for i, (chrom, first, flip, move) in enumerate(windows):
            codes, kept, target, valid = slow_window(made, chrom, 128 * first, flip, move)
            assert found["bases"][i].tolist() == codes
            assert found["conservation"][i].tolist() == kept
            np.testing.assert_allclose(found["target"][i], target, rtol=2**-10, atol=1e-6)
            assert found["valid"][i, 0].tolist() == valid


def test_every_window_of_the_table_is_the_same_stored_and_streamed(readers):
    fold = {"validation": ["chr2"], "test": ["chr3"]}
    table = windows(GENOME, SHAPE, fold)
    chroms, starts = table["chrom"].tolist(), table["start"].to_numpy()
    stored, streamed = (readers[k].batch(chroms, starts) for k in ("stored", "2bit"))
    for name in ("bases", "conservation", "valid"):
        np.testing.assert_array_equal(stored[name], streamed[name])
    np.testing.assert_allclose(streamed["target"], stored["target"], rtol=2**-10, atol=1e-6)
    assert np.isnan(stored["target"]).any() and not stored["valid"].all()


def test_arrays_of_a_batch_can_be_filled_again(readers):
    reader = readers["stored"]
    room = reader.room(3)
    reader.batch("chr1", [-1280, 0, 499_968], [True, False, True], out=room)
    found = reader.batch(["chr2", "chr3", "chr1"], [1280, -128, 299_904], out=room)
    fresh = reader.batch(["chr2", "chr3", "chr1"], [1280, -128, 299_904])
    for name, values in fresh.items():
        assert found[name] is room[name]
        np.testing.assert_array_equal(found[name], values)


def test_turning_flips_all_parts_together(readers):
    there = readers["stored"].batch("chr3", [12_288, 0], [False, False], [3, -7])
    back = readers["stored"].batch("chr3", [12_288, 0], [True, True], [3, -7])
    np.testing.assert_array_equal(back["bases"], reverse_complement(there["bases"]))
    for name in ("conservation", "target", "valid"):
        np.testing.assert_array_equal(back[name], there[name][..., ::-1])
    assert (back["valid"] != there["valid"]).any()


def test_a_pulse_stays_at_its_place_through_store_crop_and_both_strands(tmp_path):
    genome = Genome("t", ("chr1", "chr2"), (20_000, 30_000))
    at = 12_800
    bases = {c: np.zeros(n, np.float32) for c, n in zip(*_both(genome), strict=True)}
    bases["chr2"][at : at + 128] = 8
    texts = {c: "A" * n for c, n in zip(*_both(genome), strict=True)}
    texts["chr2"] = "A" * at + "C" * 128 + "A" * (30_000 - at - 128)
    genome.save(tmp_path / "manifest.json", bins=(128,))
    write_bases(tmp_path, write_fasta(tmp_path / "x.fa", texts), genome)
    write_target(tmp_path, "p", write_bigwig(tmp_path / "p.bw", bases, genome), genome, 128)
    write_mask(tmp_path, mask(genome, 128), 128)
    reader = WindowReader.stored(tmp_path, ["p"], None, SHAPE)
    for first in range(at // 128 - 27, at // 128 - 4):
        for reverse in (False, True):
            found = reader.batch("chr2", [128 * first], [reverse])
            assert "conservation" not in found
            (bin_,) = np.flatnonzero(found["target"][0, 0])
            letter = 2 if reverse else 1  # C, and G on the other strand
            (marked,) = np.nonzero(found["bases"][0] == letter)
            assert marked.tolist() == list(range(128 * (bin_ + 4), 128 * (bin_ + 5)))
            place = SHAPE.bins - 1 - bin_ if reverse else bin_
            assert 128 * (first + SHAPE.crop_bins + place) == at
    assert reader.conservation("chr2", -5, 9).tolist() == [0] * 9
    assert reader.bases("chr2", at - 2, 4).tolist() == [0, 0, 1, 1]


def _both(genome):
    return genome.chromosomes, genome.lengths


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda r: r.batch("chr1", [0, 100]), "1 starts are no multiple of 128, the first is 100"),
        (lambda r: r.batch("chr9", [0]), "chromosome 'chr9' is not part"),
        (lambda r: r.batch(["chr1"], [0, 128]), "1 chromosomes for 2 starts"),
        (lambda r: r.batch("chr1", [0], reverse=[True, False]), "reverse has shape"),
        (lambda r: r.batch("chr1", [0], shift=[1, 2]), "shift has shape"),
    ],
)
def test_windows_that_cannot_be_are_refused(readers, ask, said):
    with pytest.raises(InputError, match=said):
        ask(readers["stored"])


def test_what_is_missing_in_the_store_is_named(made, tmp_path):
    folder = made[0]
    for targets, conservation in ((["t9"], None), ([], "phyloP")):
        with pytest.raises(InputError, match="(t9|phyloP).json:\n.*not in the store"):
            WindowReader.stored(folder, targets, conservation, SHAPE)
    with pytest.raises(InputError, match="mask/64.npy"):
        WindowReader.stored(folder, [], None, Geometry(4096, 64))
