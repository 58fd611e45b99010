"""Baselines of track models: right features, planted relations found, nothing seen of the test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyBigWig
import pysam
import pytest
from scipy import stats
from sklearn.linear_model import Ridge as PlainRidge
from sklearn.preprocessing import StandardScaler

from epiloom.data.genome import Genome
from epiloom.learn import track_baselines
from epiloom.learn.sequence_features import GcConservation, Kmers, canonical
from epiloom.learn.track_baselines import Data, Mean, Profile, Ridge, centred, fit, vectors
from epiloom.learn.track_metrics import metrics_rows
from epiloom.learn.track_sums import Grid
from epiloom.plan.errors import InputError

DNASE = Path(__file__).resolve().parents[3] / "shared" / "data" / "hg38_dnase_windows"
CHROMS = ("chr1", "chr2", "chr3", "chr4")
GENOME = Genome("toy", CHROMS, (128 * 5000 + 70, 128 * 3000, 128 * 1000 + 1, 128 * 6000))
GRID = Grid(GENOME, 128)
BP, BINS = GENOME.total(1), GRID.total
FOLD = {"train": ("chr1", "chr2"), "validation": ("chr3",)}
COMPLEMENT = str.maketrans("ACGT", "TGCA")


def sequence(seed: int = 0) -> np.ndarray:
    """Bases whose GC content changes slowly, with some N."""
    rng = np.random.default_rng(seed)
    gc = np.repeat(rng.beta(4, 5, BP // 1000 + 1), 1000)[:BP]
    strong, second = rng.random(BP) < gc, rng.random(BP) < 0.5
    bases = np.where(strong, np.where(second, 1, 2), np.where(second, 0, 3)).astype(np.uint8)
    bases[rng.random(BP) < 0.001] = 4
    bases[30_000:31_000] = 4
    return bases


def data(**tracks: np.ndarray) -> Data:
    rng = np.random.default_rng(1)
    conservation = np.repeat(rng.integers(0, 256, BP // 300 + 1), 300)[:BP].astype(np.uint8)
    return Data(GRID, tracks, **FOLD, bases=sequence(), conservation=conservation)


def per_bin(values: np.ndarray) -> np.ndarray:
    """Mean of one number per base over each bin of each chromosome."""
    starts = GENOME.offsets(1)
    chunks = [values[a:b] for a, b in zip(starts[:-1], starts[1:], strict=True)]
    return np.concatenate([[c[i : i + 128].mean() for i in range(0, len(c), 128)] for c in chunks])


def held_out(truth: np.ndarray, prediction: np.ndarray, chrom: str = "chr4") -> float:
    y, p = (np.log2(1 + v[GRID.span(chrom)].astype(np.float64)) for v in (truth, prediction))
    return float(stats.pearsonr(y, p).statistic)


@pytest.fixture(scope="module")
def planted():
    """Tracks made of GC, of a 5-mer, of conservation; one without any relation; the fitted."""
    rng = np.random.default_rng(2)
    given = data()
    gc = per_bin((given.bases == 1) | (given.bases == 2))
    text = "".join("ACGTN"[b] for b in given.bases)
    hits = np.zeros(BP)
    for word in ("ACGTC", "GACGT"):  # one k-mer on the two strands
        place = text.find(word)
        while place >= 0:
            hits[place + 2] = 1
            place = text.find(word, place + 1)
    near = np.concatenate(
        [np.convolve(per_bin(hits)[GRID.span(c)] * 128, np.ones(5), mode="same") for c in CHROMS]
    )
    noise = rng.gamma(4, 0.25, (4, BINS))
    tracks = {
        "gc": 10 * gc * noise[0],
        "kmer": (0.2 + 4 * near) * noise[1],
        "conserved": (0.1 + per_bin(given.conservation) / 20) * noise[2],
        "unrelated": noise[3],
    }
    given = replace(given, tracks={k: v.astype(np.float16) for k, v in tracks.items()})
    return given, fit(given, seed=3)


def test_planted_relations_are_found_and_others_are_not(planted):
    given, fitted = planted
    found = {name: vectors(b, GRID, ["chr3", "chr4"], 4) for name, b in fitted.items()}
    r = {
        (name, track): held_out(given.tracks[track], rows[k])
        for name, rows in found.items()
        for k, track in enumerate(given.tracks)
        if name in ("gc_conservation", "kmer_ridge")
    }
    best = held_out(given.tracks["gc"], per_bin((given.bases == 1) | (given.bases == 2)))
    assert r["gc_conservation", "gc"] > 0.95 * best > 0.5
    best = held_out(given.tracks["conserved"], per_bin(given.conservation))
    assert r["gc_conservation", "conserved"] > 0.95 * best > 0.5
    assert r["kmer_ridge", "kmer"] > 0.7
    assert r["gc_conservation", "kmer"] < 0.6 * r["kmer_ridge", "kmer"]
    assert abs(r["gc_conservation", "unrelated"]) < 0.05
    assert abs(r["kmer_ridge", "unrelated"]) < 0.05
    for rows in found.values():
        assert rows.dtype == np.float16 and rows.shape == (4, BINS)
        assert np.isnan(rows[:, GRID.span("chr1")]).all()
        inside = rows[:, GRID.span("chr3").start :]
        assert np.isfinite(inside).all() and (inside >= 0).all()


def test_shuffled_targets_are_not_predicted(planted):
    given, _ = planted
    dice = np.random.default_rng(4)
    moved = {name: dice.permutation(v) for name, v in given.tracks.items()}
    for name, baseline in fit(replace(given, tracks=moved)).items():
        if name in ("gc_conservation", "kmer_ridge", "other_cells"):
            rows = vectors(baseline, GRID, ["chr4"], 4)
            for k, vector in enumerate(moved.values()):
                assert abs(held_out(vector, rows[k])) < 0.05, name


def test_values_of_test_chromosomes_change_no_baseline_but_the_other_cells(planted):
    given, fitted = planted
    changed = {name: v.copy() for name, v in given.tracks.items()}
    for vector in changed.values():
        vector[GRID.span("chr4")] = np.linspace(0, 90, 6000)
    again = fit(replace(given, tracks=changed), seed=3)
    assert set(again) == set(fitted) == {"mean", "gc_conservation", "kmer_ridge", "other_cells"}
    for name in again:
        same = np.array_equal(again[name].predict("chr4"), fitted[name].predict("chr4"))
        assert same == (name != "other_cells"), name


def test_masked_and_missing_bins_do_not_train(planted):
    given, _ = planted
    rng = np.random.default_rng(5)
    mask = (rng.random(BINS) < 0.2).astype(np.uint8) * 2
    missing = rng.random(BINS) < 0.1
    tracks = {name: np.where(missing, np.nan, v) for name, v in given.tracks.items()}
    hidden = {name: np.where(mask > 0, 999, v) for name, v in tracks.items()}
    grid = replace(GRID, mask=mask)
    one, other = (fit(replace(given, grid=grid, tracks=t), seed=1) for t in (tracks, hidden))
    for name in ("mean", "gc_conservation", "kmer_ridge"):
        assert np.array_equal(one[name].predict("chr4"), other[name].predict("chr4")), name


def test_sampling_is_seeded_and_bounded(planted, monkeypatch):
    given, _ = planted
    monkeypatch.setattr(track_baselines, "PIECE", 100)
    grams = [
        track_baselines._gram(given, GcConservation(GRID, given.bases), FOLD["train"], 500, seed)
        for seed in (0, 0, 1)
    ]
    assert 500 <= grams[0][0, 0] < 600
    assert np.array_equal(grams[0], grams[1]) and not np.array_equal(grams[0], grams[2])


# ---- features ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "chrom,bins", [("chr1", (0, 60)), ("chr1", (4980, 5001)), ("chr3", (990, 1001))]
)
def test_gc_cpg_and_conservation_equal_counting(chrom, bins):
    given = data()
    features = GcConservation(GRID, given.bases, given.conservation)(chrom, *bins)
    span = slice(*GENOME.offsets(1)[GENOME.index(chrom) :][:2])
    text = "".join("ACGTN"[b] for b in given.bases[span])
    score = given.conservation[span].astype(float)
    for row, k in zip(features, range(*bins), strict=True):
        wanted = []
        for width in (128, 1000, 10_000):
            low = 128 * k + 64 - width // 2
            part = text[max(low, 0) : low + width]
            known = max(1, sum(map(part.count, "ACGT")))
            wanted += [(part.count("G") + part.count("C")) / known, part.count("CG") / known]
            wanted.append(score[max(low, 0) : low + width].mean())
        assert row == pytest.approx(wanted)
    plain = GcConservation(GRID, given.bases)(chrom, *bins)
    assert np.array_equal(plain, features[:, [0, 1, 3, 4, 6, 7]])


@pytest.mark.parametrize("k", [4, 5])
@pytest.mark.parametrize(
    "chrom,bins", [("chr1", (236, 250)), ("chr1", (4995, 5001)), ("chr2", (0, 4))]
)
def test_kmers_equal_counting(k, chrom, bins):
    given = data()
    features = Kmers(GRID, given.bases, k)(chrom, *bins)
    index = canonical(k)
    assert features.shape == (bins[1] - bins[0], {4: 136, 5: 512}[k])
    span = slice(*GENOME.offsets(1)[GENOME.index(chrom) :][:2])
    text = "".join("ACGTN"[b] for b in given.bases[span])
    before = (k - 1) // 2
    for row, b in zip(features, range(*bins), strict=True):
        wanted = np.zeros(len(row))
        for middle in range(128 * (b - 2), 128 * (b + 3)):
            word = text[middle - before : middle - before + k] if middle >= before else ""
            if len(word) == k and "N" not in word:
                wanted[index[int("".join(str("ACGT".index(c)) for c in word), 4)]] += 1
        assert np.array_equal(row, wanted)


def test_a_kmer_and_its_reverse_complement_share_a_number():
    index = canonical(4)
    words = [f"{a}{b}{c}{d}" for a in "ACGT" for b in "ACGT" for c in "ACGT" for d in "ACGT"]
    number = dict(zip(words, index.tolist(), strict=True))
    for word in words:
        assert number[word] == number[word[::-1].translate(COMPLEMENT)]
    assert len(set(number.values())) == 136


# ---- the models ----------------------------------------------------------------------------------


def test_ridge_equals_the_plain_one_and_takes_the_best_penalty(planted):
    given, _ = planted
    features = Kmers(GRID, given.bases, 4)
    found = Ridge.fit(given, features, seed=0)
    x = {c: features(c, 0, GRID.span(c).stop - GRID.span(c).start) for c in CHROMS}
    y = {
        c: np.stack([np.log2(1 + v[GRID.span(c)].astype(float)) for v in given.tracks.values()], 1)
        for c in CHROMS
    }
    xs, ys = (np.concatenate([z["chr1"], z["chr2"]]) for z in (x, y))
    scaler = StandardScaler().fit(xs)
    errors, plain = [], []
    for penalty in track_baselines.PENALTIES:
        model = PlainRidge(alpha=penalty * len(xs)).fit(scaler.transform(xs), ys)
        plain.append(model.predict(scaler.transform(x["chr3"])))
        errors.append(np.mean((plain[-1] - y["chr3"]) ** 2, axis=0))
    best = np.argmin(errors, axis=0)
    assert np.allclose(found.penalties, track_baselines.PENALTIES[best])
    for k in range(4):
        wanted = np.maximum(np.exp2(plain[best[k]][:, k]) - 1, 0)
        np.testing.assert_allclose(found.predict("chr3")[k], wanted, rtol=2e-3, atol=1e-3)


def test_mean_and_other_cells_equal_loops():
    rng = np.random.default_rng(6)
    tracks = {f"t{k}": (rng.gamma(1, 2, BINS) * (k + 1)).astype(np.float16) for k in range(3)}
    tracks["t1"][rng.random(BINS) < 0.3] = np.nan
    tracks["t2"][rng.random(BINS) < 0.3] = np.nan
    tracks["none"] = np.zeros(BINS, np.float16)
    fitted = fit(data(**tracks))
    ends = [GRID.span(c).stop for c in FOLD["train"]]
    means = [np.nanmean(v[: max(ends)].astype(float)) for v in tracks.values()]
    assert np.allclose(fitted["mean"].predict("chr4")[:, 7], means, rtol=1e-3)
    here = np.stack([v[GRID.span("chr4")].astype(float) for v in tracks.values()])
    rows = fitted["other_cells"].predict("chr4")
    for b in range(200):
        for k in range(4):
            others = [here[j, b] / means[j] for j in range(3) if j != k and here[j, b] >= 0]
            wanted = np.mean(others) * means[k] if others else np.nan
            assert rows[k, b] == pytest.approx(wanted, rel=2e-3, abs=1e-3, nan_ok=True)


def test_a_track_without_training_values_and_wrong_lengths_are_refused():
    empty = np.full(BINS, np.nan, np.float16)
    empty[GRID.span("chr4")] = 1
    with pytest.raises(InputError, match="t: no value on the training chromosomes"):
        fit(data(t=empty))
    half = np.ones((2, BINS), np.float16)
    half[0, ::2], half[1, 1::2] = np.nan, np.nan
    with pytest.raises(InputError, match="has a value in all tracks"):
        fit(data(a=half[0], b=half[1]))
    with pytest.raises(InputError, match="track t: 3 values"):
        data(t=empty[:3])
    with pytest.raises(InputError, match="both training and validation"):
        replace(data(t=empty), validation=("chr1",))


def test_profile_is_the_mean_over_training_windows_and_only_for_centred_ones():
    names = [f"c{k}" for k in range(6)]
    grid = Grid(Genome("contigs", names, [128 * 100] * 6), 128)
    rng = np.random.default_rng(7)
    track = (np.tile(np.exp(-((np.arange(100) - 50) ** 2) / 50), 6) + rng.random(600)).astype("f2")
    track[25] = np.nan
    windows = pd.DataFrame({"chrom": names, "start": 128 * 20, "end": 128 * 80})
    bases = rng.integers(0, 4, 600 * 128).astype(np.uint8)
    given = Data(grid, {"t": track}, names[:4], names[4:5], bases)
    fitted = fit(given, windows)
    assert set(fitted) == {"mean", "profile", "gc", "kmer_ridge"}
    wanted = np.nanmean(track[:400].astype(float).reshape(4, 100)[:, 20:80], axis=0)
    row = fitted["profile"].predict("c5")[0]
    assert np.isnan(row[:20]).all() and np.isnan(row[80:]).all()
    np.testing.assert_allclose(row[20:80], wanted, rtol=1e-3)
    tiled = pd.DataFrame({"chrom": "c0", "start": [0, 6400], "end": [6400, 12800]})
    assert centred(windows) and not centred(tiled)
    assert "profile" not in fit(given, tiled)
    with pytest.raises(InputError, match="no window on a training contig"):
        Profile.fit(given, windows[4:])
    with pytest.raises(InputError, match="leaves"):
        Profile.fit(given, windows.assign(end=128 * 101))


def test_vectors_fill_a_given_array():
    out = np.zeros((2, BINS), np.float16)
    found = vectors(Mean(GRID, np.array([1.0, 2.0])), GRID, ["chr2"], 2, out)
    assert found is out and np.isnan(out[:, 0]).all()
    assert (out[:, GRID.span("chr2")] == [[1], [2]]).all()


# ---- real data -----------------------------------------------------------------------------------


@pytest.mark.skipif(not DNASE.exists(), reason="real DNase windows are not here")
def test_on_real_dnase_the_baselines_rank_as_expected():
    table = pd.read_csv(DNASE / "windows.tsv", sep="\t")
    grid = Grid(Genome("windows", table["contig"], table["length"]), 128)
    codes = np.full(256, 4, np.uint8)
    codes[list(b"ACGTacgt")] = [0, 1, 2, 3] * 2
    with pysam.FastxFile(str(DNASE / "genome.fa.gz")) as file:
        letters = {record.name: record.sequence.encode() for record in file}
    bases = codes[np.frombuffer(b"".join(letters[c] for c in table["contig"]), np.uint8)]
    tracks = {}
    for path in sorted((DNASE / "signal").glob("*.bw")):
        with pyBigWig.open(str(path)) as file:
            values = [file.values(c, 0, 131072, numpy=True) for c in table["contig"]]
        tracks[path.name] = np.concatenate(values).reshape(-1, 128).mean(axis=1).astype(np.float16)
    windows = table.set_axis([*table.columns[:5], "start", "end", "split"], axis=1)
    windows = windows[["contig", "start", "end", "split"]].rename(columns={"contig": "chrom"})
    train, valid, test = (
        tuple(windows.loc[windows["split"] == s, "chrom"]) for s in ("train", "valid", "test")
    )
    fitted = fit(Data(grid, tracks, train, valid, bases), windows)
    rows = {name: vectors(baseline, grid, test, 10) for name, baseline in fitted.items()}
    found = {name: dict(zip(tracks, row, strict=True)) for name, row in rows.items()}
    scores = metrics_rows(grid, {"test": test}, tracks, found, {}, windows=windows)
    assert (scores.loc[scores["track"] != "across", "n"] == 5120).all()
    r = scores.groupby("predictor")["r"].mean()
    assert np.isnan(r["mean"]) and abs(r["profile"]) < 0.05
    assert 0.15 < r["gc"] < r["kmer_ridge"] < r["other_cells"]
    assert r["kmer_ridge"] > 0.3 and r["other_cells"] > 0.55
