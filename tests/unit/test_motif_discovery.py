"""Motifs from attributions and their known names, against what was planted."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from epiloom.data import motif_files
from epiloom.data.motif_files import Motif
from epiloom.data.sequence import decode, reverse_complement
from epiloom.data.simulate import Plan
from epiloom.data.simulate.addresses import Addresses
from epiloom.data.simulate.motifs import NAMES, make_factors
from epiloom.data.simulate.tables import write_motifs
from epiloom.data.simulate.world import make_world
from epiloom.plan.errors import InputError
from epiloom.studies import motif_discovery, motif_matching, mutagenesis
from epiloom.studies.motif_discovery import Options, discover
from tests.made_sequences import GEOMETRY, MOTIF, MadeGenome, Toy, other_strand, quiet, with_motif

FACTORS = make_factors(Plan(cells=("E003", "E116")))


def planted(factors=(9, 12, 27), count=120, length=200, noise=0.03, seed=0):
    """Sequences with one site of every factor, attributions = log-odds of the site's bases.

    The last factor (a repressor) has negative attributions.
    """
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, (count, length)).astype(np.uint8)
    values = rng.normal(0, noise, (count, 4, length))
    places = {}
    for k, factor in enumerate(factors):
        pwm = FACTORS.pwms[factor]
        sign = -1 if NAMES[factor] in ("REST", "ZEB1", "GFI1B") else 1
        for row in range(count):
            start = 20 + 60 * k + int(rng.integers(0, 30))
            site = np.array([rng.choice(4, p=p / p.sum()) for p in pwm], np.uint8)
            weight = motif_matching.information(pwm).T * sign
            forward = rng.random() < 0.5
            here = slice(start, start + len(pwm))
            codes[row, here] = site if forward else reverse_complement(site)
            values[row, :, here] += weight if forward else weight[::-1, ::-1]
            places[factor, row] = (start, 1 if forward else -1)
    return codes, values, places


@pytest.fixture(scope="module")
def sequences():
    return planted()


@pytest.fixture(scope="module")
def found(sequences):
    return discover(*sequences[:2])


def test_planted_motifs_are_found_at_their_places_and_called_by_their_names(sequences, found):
    known = [Motif(name, pwm) for name, pwm in zip(NAMES, FACTORS.pwms, strict=True)]
    table = motif_matching.match(found, known, shuffles=200).set_index("match")
    assert sorted(table.index) == sorted(NAMES[k] for k in (9, 12, 27))
    assert (table["score"] > 0.85).all() and (table["q"] < 0.05).all()
    assert table["motif"][NAMES[27]] == "neg_1"
    for factor in (9, 12, 27):
        row = table.loc[NAMES[factor]]
        assert row["seqlets"] > 100
        sites = next(m for m in found if m.name == row["motif"]).sites
        turn = 1 if row["strand"] == "+" else -1
        off = []
        for site in sites.itertuples():
            start, strand = sequences[2][factor, site.sequence]
            off.append(abs(site.start - start))
            assert site.strand == strand * turn
        assert max(off) <= 3


def test_each_of_many_factors_is_found_once_though_a_site_is_longer_than_the_window():
    factors = (0, 8, 9, 12, 14, 20, 27)
    assert len(FACTORS.pwms[8]) == 19 > Options().width
    codes, values, _ = planted(factors, 300, 460, noise=0.3)
    known = [Motif(name, pwm) for name, pwm in zip(NAMES, FACTORS.pwms, strict=True)]
    table = motif_matching.match(discover(codes, values), known, shuffles=20)
    assert sorted(table["match"]) == sorted(NAMES[k] for k in factors)


def test_sites_and_matrices_are_those_of_the_sequences(sequences, found):
    codes, values, _ = sequences
    for motif in found:
        width = len(motif.probabilities)
        counts, total = np.zeros((width, 4)), np.zeros((width, 4))
        for site in motif.sites.itertuples():
            here = slice(site.start, site.start + width)
            hot = mutagenesis.one_hot(codes[site.sequence, here])
            own = values[site.sequence][:, here] * hot
            if site.strand < 0:
                hot, own = hot[::-1, ::-1], own[::-1, ::-1]
            counts += hot.T / len(motif.sites)
            total += own.T / len(motif.sites)
        np.testing.assert_allclose(motif.probabilities, counts, atol=1e-5)
        np.testing.assert_allclose(motif.contribution, total, atol=1e-6)


def test_noise_alone_has_no_motif_and_the_same_data_give_the_same_motifs(sequences, found):
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 4, (100, 200)).astype(np.uint8)
    assert discover(codes, rng.normal(size=(100, 4, 200))) == []
    again = discover(*sequences[:2])
    assert [m.name for m in again] == [m.name for m in found]
    assert all(a.sites.equals(b.sites) for a, b in zip(again, found, strict=True))


def test_mutagenesis_maps_of_the_known_function_give_its_motif():
    maps = []
    for seed in range(25):
        motif = MOTIF if seed % 2 else other_strand(MOTIF)
        text = with_motif(quiet(3000, seed), 1500 + seed, motif)
        genome = MadeGenome(chr1=text)
        options = mutagenesis.Options(strands=False, batch=600)
        predict = Toy()
        maps.append(
            mutagenesis.mutate(
                "chr1", 1460, 1580, predict, genome, GEOMETRY, ("up", "down"), options
            )
        )
    bases = np.stack([m.bases for m in maps])
    motifs = discover(bases, np.stack([m.hypothetical()[0] for m in maps]))
    assert len(motifs) == 1 and len(motifs[0].sites) == 25
    word = motif_matching.consensus(motifs[0].probabilities)
    assert word in (MOTIF, other_strand(MOTIF))


def test_alignment_of_two_stretches_is_that_of_plain_loops():
    rng = np.random.default_rng(3)
    one, two = rng.normal(size=(3, 4, 9)), rng.normal(size=(4, 4, 9))
    r, offset, strand = motif_discovery.best_alignment(one, two, 4)
    for a in range(3):
        for b in range(4):
            options = []
            for sign in (1, -1):
                other = two[b] if sign > 0 else two[b][::-1, ::-1]
                for k in range(-4, 5):
                    dot = sum(
                        one[a][:, x] @ other[:, x - k] for x in range(9) if 0 <= x - k < 9
                    ) / (np.linalg.norm(one[a]) * np.linalg.norm(other))
                    options.append((dot, k, sign))
            expected = max(options)
            assert r[a, b] == pytest.approx(expected[0])
            assert (offset[a, b], strand[a, b]) == expected[1:]


def test_similarity_of_motifs_is_that_of_plain_loops():
    rng = np.random.default_rng(4)
    one = [motif_matching.information(rng.dirichlet([0.3] * 4, w)) for w in (6, 11)]
    two = [motif_matching.information(rng.dirichlet([0.3] * 4, w)) for w in (4, 9, 15)]
    r, offset, strand = motif_matching.similarity(one, two)
    for a, own in enumerate(one):
        for b, theirs in enumerate(two):
            options = []
            for sign in (1, -1):
                other = theirs if sign > 0 else theirs[::-1, ::-1]
                for k in range(-len(other) + 4, len(own) - 3):
                    first, last = min(k, 0), max(len(own), len(other) + k)
                    x, y = np.zeros((2, last - first, 4))
                    x[-first : -first + len(own)] = own
                    y[k - first : k - first + len(other)] = other
                    options.append((np.corrcoef(x.ravel(), y.ravel())[0, 1], k, sign))
            expected = max(options)
            assert r[a, b] == pytest.approx(expected[0])
            assert (offset[a, b], strand[a, b]) == expected[1:]


def test_a_motif_is_like_itself_on_both_strands_and_chance_is_not():
    known = [Motif(name, pwm) for name, pwm in zip(NAMES, FACTORS.pwms, strict=True)]
    weighted = [motif_matching.information(m.probabilities) for m in known]
    r, offset, strand = motif_matching.similarity([m[::-1, ::-1] for m in weighted], weighted)
    np.testing.assert_allclose(np.diag(r), 1)
    assert (np.diag(strand) == -1).all() and (np.diag(offset) == 0).all()
    rng = np.random.default_rng(0)
    made = motif_discovery.Found("x", None, rng.dirichlet([0.4] * 4, 9), np.zeros(30))
    assert motif_matching.match([made], known, shuffles=100)["p"].iloc[0] > 0.02


def test_simulated_collection_is_read_and_written_back(tmp_path):
    plan = Plan(cells=("E003",))
    world, addresses = make_world(plan), Addresses(plan, tmp_path)
    write_motifs(world, addresses)
    motifs = motif_files.read(addresses("hocomoco_meme"))
    assert [m.name.split("_")[0] for m in motifs] == list(NAMES)
    for motif, pwm in zip(motifs, world.factors.pwms, strict=True):
        np.testing.assert_allclose(motif.probabilities, pwm, atol=1e-5)
    motif_files.write_meme(tmp_path / "x.meme", motifs)
    back = motif_files.read(tmp_path / "x.meme")
    assert [m.name for m in back] == [m.name for m in motifs]
    np.testing.assert_allclose(back[3].probabilities, motifs[3].probabilities, atol=1e-5)


def test_jaspar_and_count_tables_give_the_same_motif(tmp_path):
    counts = np.random.default_rng(0).integers(1, 50, (7, 4))
    jaspar = [">MA1 name"] + [
        f"{base} [ {' '.join(map(str, counts[:, k]))} ]" for k, base in enumerate("ACGT")
    ]
    pcm = [">MA1", *("\t".join(map(str, row)) for row in counts)]
    (tmp_path / "a.jaspar").write_text("\n".join(jaspar))
    (tmp_path / "a.pcm.gz").write_bytes(gzip.compress("\n".join(pcm).encode()))
    one = motif_files.read(tmp_path / "a.jaspar")[0]
    two = motif_files.read(tmp_path / "a.pcm.gz")[0]
    assert one.name == two.name == "MA1"
    expected = (counts + 0.5) / (counts + 0.5).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(one.probabilities, expected)
    np.testing.assert_allclose(two.probabilities, expected)


def test_faulty_motif_files_are_refused_with_all_problems(tmp_path):
    path = tmp_path / "a.meme"
    path.write_text(
        "MEME version 4\nMOTIF a\nletter-probability matrix: w= 1\n0.5 0.5 0\n"
        "MOTIF b\nMOTIF c\nletter-probability matrix:\n1 0 0 0\nMOTIF c\n"
        "letter-probability matrix:\n1 0 0 0\nMOTIF d\nletter-probability matrix:\n1 -1 0 0\n"
    )
    with pytest.raises(InputError) as caught:
        motif_files.read(path)
    told = str(caught.value)
    for text in ("a: a line has not four", "b: has no matrix", "c is there twice", "d: holds"):
        assert f"motif {text}" in told
    (tmp_path / "b").write_text("nothing\n")
    with pytest.raises(InputError, match="holds no motif"):
        motif_files.read(tmp_path / "b")
    with pytest.raises(InputError, match="there is no such file"):
        motif_files.read(tmp_path / "c")


def test_attributions_are_written_as_tf_modisco_reads_them(tmp_path, sequences):
    codes, values, _ = sequences
    motif_discovery.write_modisco(tmp_path, codes, values)
    hot, given = (np.load(tmp_path / name)["arr_0"] for name in ("ohe.npz", "attributions.npz"))
    assert hot.shape == given.shape == (len(codes), 4, 200) and hot.dtype == np.int8
    np.testing.assert_array_equal(hot.argmax(axis=1), codes)
    np.testing.assert_allclose(given, values, atol=1e-6)


def test_attributions_that_do_not_fit_are_refused():
    codes = np.zeros((3, 100), np.uint8)
    for values in (np.zeros((3, 100, 4)), np.full((3, 4, 100), np.nan)):
        with pytest.raises(InputError, match="give finite numbers"):
            discover(codes, values)
    with pytest.raises(InputError, match="give longer ones"):
        discover(codes[:, :20], np.zeros((3, 4, 20)))
    with pytest.raises(InputError, match="motif discovery"):
        Options(fdr=2)
    assert decode(codes[0, :3]) == "AAA"
