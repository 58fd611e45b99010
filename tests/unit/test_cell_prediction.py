"""Questions to a model of cells: tracks, factors, variants and contacts, each the slow way too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyBigWig
import pytest
import torch

from epiloom.data.sequence import decode, encode
from epiloom.learn.region_windows import Tiling
from epiloom.plan.errors import InputError
from epiloom.show.predicted_tracks import write_predictions
from epiloom.studies import cell_prediction, cell_variants, variants
from epiloom.studies.cell_prediction import Asked
from tests import made_cells as made
from tests.made_cells import BIN, BINS, GENOME, TILE

ALONE = Tiling(0, anchor=0)
MOTIFS = made.made_motifs()


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    return made.write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def weights(files, tmp_path_factory) -> Path:
    return made.train(tmp_path_factory.mktemp("run"), files, epochs=16)


@pytest.fixture(scope="module")
def asked(files, weights) -> Asked:
    return Asked.open(made.SPEC, weights, files, MOTIFS, device="cpu")


@pytest.fixture(scope="module")
def vectors(asked, files) -> np.ndarray:
    return asked.cells(files["vectors"], made.TEST[:2])


def joined(blocks, chrom: str = "chr1") -> np.ndarray:
    """Values of the blocks of a chromosome, which must follow one another, [rows, bins]."""
    own = [block for block in blocks if block.chrom == chrom]
    ends = [block.first + block.values.shape[1] for block in own]
    assert [block.first for block in own[1:]] == ends[:-1]
    return np.concatenate([block.values for block in own], axis=1)


def outright(asked: Asked, bases: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Prediction of a sequence of a window and a bin, scanned from the beginning, [C, B, S]."""
    codes = asked.scanner.codes(bases, BIN)[:BINS]
    rows = (bases[:TILE], codes, vectors)
    args = [torch.from_numpy(np.ascontiguousarray(v))[None] for v in rows]
    with torch.no_grad():
        return asked.net(*args)[0].numpy()


# ---- tracks --------------------------------------------------------------------------------------


def test_a_region_is_what_the_network_says_of_its_tiles(asked, vectors):
    regions = [("chr2", TILE, 3 * TILE)]
    found = joined(cell_prediction.predicted(asked, vectors, regions, tiling=ALONE), "chr2")
    assert found.shape == (4, 2 * BINS)
    for k in range(2):
        bases = asked.window("chr2", (k + 1) * TILE, BIN)
        truth = outright(asked, bases, vectors).transpose(0, 2, 1).reshape(4, BINS)
        np.testing.assert_allclose(found[:, k * BINS : (k + 1) * BINS], truth, atol=1e-5)
    names = cell_prediction.track_names(asked, ["a", "b"])
    assert names == ["a.DNase", "a.H3K27ac", "b.DNase", "b.H3K27ac"]


def test_every_bin_is_predicted_once_also_at_the_ends_of_chromosomes(asked, vectors):
    regions = [("chr4", 0, 5000), ("chr1", 100, 9000)]
    blocks = list(cell_prediction.predicted(asked, vectors, regions))
    assert joined(blocks, "chr4").shape == (4, 40)  # the last one is 8 bases long
    assert joined(blocks, "chr1").shape == (4, 71)
    whole = list(cell_prediction.predicted(asked, vectors[:1], None))
    assert [joined(whole, c).shape[1] for c in GENOME.chromosomes] == GENOME.bins(BIN).tolist()


def test_linear_signals_are_those_before_the_logarithm(asked, vectors):
    regions = [("chr3", 0, 5000)]
    logs, linear = (
        joined(cell_prediction.predicted(asked, vectors, regions, scale), "chr3")
        for scale in ("log1p", "linear")
    )
    np.testing.assert_allclose(linear, np.exp(logs.astype(float)) - 1, rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match="choose one of log1p, linear"):
        cell_prediction.predicted(asked, vectors, regions, "log2")
    states = replace(asked, settings={**asked.settings, "loss": "open"})
    with pytest.raises(InputError, match="no linear scale"):
        cell_prediction.predicted(states, vectors, regions, "linear")


def test_motifs_found_on_the_way_are_those_of_the_block(asked, files, weights, vectors, tmp_path):
    bed = tmp_path / "some.bed"
    bed.write_text(f"chr2\t0\t{TILE}\n")
    own = made.write_block(files, tmp_path, MOTIFS, bed)
    partly = Asked.open(made.SPEC, weights, own, MOTIFS, device="cpu")
    for chrom, start in (("chr1", 5 * BIN), ("chr1", -3 * BIN), ("chr4", 4992 - 4 * BIN)):
        assert np.array_equal(partly.codes(chrom, start), asked.codes(chrom, start))
    regions = [("chr1", 0, 4 * TILE), ("chr4", 3000, 5000)]
    for chrom in ("chr1", "chr4"):
        one, two = (
            joined(cell_prediction.predicted(a, vectors, regions), chrom) for a in (asked, partly)
        )
        assert np.array_equal(one, two)
    blind = Asked.open(made.SPEC, weights, own, device="cpu")
    with pytest.raises(InputError, match="was not scanned for motifs"):
        list(cell_prediction.predicted(blind, vectors, regions))


def test_tracks_are_written_as_bigwigs(asked, vectors, tmp_path):
    regions = [("chr1", 0, TILE), ("chr2", 0, 3000)]
    names = cell_prediction.track_names(asked, made.TEST[:2])
    blocks = list(cell_prediction.predicted(asked, vectors, regions, "linear"))
    written = write_predictions(blocks, GENOME, BIN, names, tmp_path)
    assert written.bins == 16 + 24
    with pyBigWig.open(str(written.bigwigs["test1.DNase"])) as file:
        values = file.values("chr1", 0, TILE, numpy=True)
    np.testing.assert_allclose(values[::BIN], joined(blocks)[2], rtol=1e-6)


def test_a_held_out_cell_is_predicted_and_others_are_not(asked, files):
    vectors = asked.cells(files["vectors"], made.TEST)
    found = joined(cell_prediction.predicted(asked, vectors, [("chr2", 0, 8 * TILE)]), "chr2")
    rows = slice(40 * BINS, 48 * BINS)
    truth = [np.load(f"{files['signals']}/{cell}.npy")[rows].T for cell in made.TEST]
    truth = np.concatenate(truth).astype(float)
    known = np.isfinite(truth)
    right, wrong = (
        np.mean((p[known] - truth[known]) ** 2) for p in (found, np.roll(found, 2, axis=0))
    )
    assert right < 0.2 * wrong


# ---- cells ---------------------------------------------------------------------------------------


def test_a_new_table_is_laid_on_the_reference(asked, files, tmp_path):
    table = made.made_expression()[["test0", "test3"]]
    stored = asked.cells(files["vectors"], ["test0", "test3"])
    shuffled = (table * 7.5).rename(columns={"test0": "a", "test3": "b"}).iloc[::-1]
    assert np.array_equal(asked.new_cell(shuffled, ["a", "b"]), stored)
    path = tmp_path / "tpm.tsv"
    shuffled.to_csv(path, sep="\t", index_label="gene")
    assert np.array_equal(asked.new_cell(path, ["b"]), stored[1:])
    ids = table.rename(index={f"T{k}": f"ENSG{k}" for k in range(8)})
    symbols = {f"T{k}": [f"ENSG{k}"] for k in range(8)}
    assert np.array_equal(asked.new_cell(ids, ["test0", "test3"], symbols), stored)
    with pytest.raises(InputError, match="lacks 1 of 8 factors"):
        asked.new_cell(table.drop(index="T2"), ["test0"])
    assert np.isfinite(asked.new_cell(table.drop(index="T2"), ["test0"], missing="usual")).all()
    with pytest.raises(InputError, match="no cell 'nobody'"):
        asked.cells(files["vectors"], ["nobody"])


def test_files_of_another_model_are_refused(files, weights, tmp_path):
    other = made.made_motifs(seed=9)
    with pytest.raises(InputError, match="are not those of the weights"):
        Asked.open(made.SPEC, weights, files, other, device="cpu")
    with pytest.raises(InputError, match="motif set or its rule"):
        own = made.write_block(files, tmp_path, other)
        Asked.open(made.SPEC, weights, own, device="cpu")
    own = {**files, "reference": str(tmp_path / "r.json"), "vectors": str(tmp_path / "v.npz")}
    made.write_cells(own, made.made_expression(), made.TRAIN[:10])
    with pytest.raises(InputError, match="reference of expression"):
        Asked.open(made.SPEC, weights, own, device="cpu")


# ---- factors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("chrom", "position"), [("chr1", 20_000), ("chr2", 300), ("chr4", 4990)])
def test_ranks_are_gradient_by_expression_times_expression(asked, vectors, chrom, position):
    table = cell_prediction.rank_factors(asked, chrom, position, vectors[0], ["H3K27ac"], 300)
    start = (position // BIN - BINS // 2) * BIN
    vector = torch.from_numpy(vectors[0].copy()).requires_grad_()
    codes = torch.from_numpy(asked.codes(chrom, start))[None]
    bases = torch.from_numpy(asked.window(chrom, start))[None]
    made_up = asked.net(bases, codes, vector[None, None])[0, 0]
    near = [b for b in range(BINS) if abs_bin(start, b, position - 300, position + 300)]
    made_up[near, 1].sum().backward()
    truth = dict(zip(asked.settings["tfs"], (vector.grad * vector).detach().tolist(), strict=True))
    found = dict(zip(table["tf"], table["score"], strict=True))
    assert found == pytest.approx(truth, rel=1e-3, abs=1e-5)
    assert table["rank"].tolist() == list(range(1, 9))
    assert table["score"].abs().is_monotonic_decreasing
    with pytest.raises(InputError, match="no 'CTCF'"):
        cell_prediction.rank_factors(asked, chrom, position, vectors[0], ["CTCF"])


def abs_bin(start: int, b: int, low: int, high: int) -> bool:
    """Whether a bin of the window holds a base from low to high."""
    return start + b * BIN <= high and start + (b + 1) * BIN > low


def test_the_factor_that_a_cell_has_and_the_place_binds_ranks_first(asked, vectors):
    bins = np.flatnonzero((np.array(asked.inputs.block.codes[: 30 * BINS]) > 0).sum(axis=1) == 1)
    right = total = 0
    for b in bins[40:80].tolist():
        tf = int(asked.inputs.block.codes[b].argmax())
        if np.expm1(vectors[0, tf]) > 10:
            table = cell_prediction.rank_factors(asked, "chr1", b * BIN + 64, vectors[0], None, 0)
            right += table["tf"][0] == f"T{tf}"
            total += 1
    assert total > 10 and right >= 0.9 * total


# ---- variants ------------------------------------------------------------------------------------


def change_at(asked: Asked, chrom: str, position: int, ref: int, alt: str) -> dict:
    """A variant that takes `ref` bases of the genome."""
    there = decode(asked.inputs.bases.window(chrom, position, ref))
    return {"chrom": chrom, "position": position, "ref": there, "alt": alt, "id": "v"}


def spare(asked: Asked, chrom: str, position: int) -> str:
    """A base that is not there."""
    return "ACGT"[(int(asked.inputs.bases.window(chrom, position, 1)[0]) + 1) % 4]


def sites(asked: Asked, first: int, end: int) -> list[int]:
    """First bases of the motif sites of a stretch of chr1."""
    bases = asked.inputs.bases.window("chr1", first, end - first)
    return (first + np.flatnonzero(asked.scanner.codes(bases, 1).any(axis=1))).tolist()


def made_variants(asked: Asked) -> list[dict]:
    """Six substitutions, most of them inside of sites, then other lengths, one of them a site."""
    inside = [site + 4 for site in sites(asked, 20_000, 22_000)[:4]]
    places = [("chr1", p) for p in [*inside, 20_095]] + [("chr4", 4900)]
    found = [change_at(asked, c, p, 1, spare(asked, c, p)) for c, p in places]
    found.append(change_at(asked, "chr1", 9001, 3, "GATTACA"))
    anchor = decode(asked.inputs.bases.window("chr1", 9100, 1))
    word = decode(MOTIFS.log_odds[2].argmax(axis=1))
    found.append(change_at(asked, "chr1", 9100, 1, anchor + word))
    found.append(change_at(asked, "chr1", 9100, 30, anchor))
    return found


def test_motif_scores_of_both_alleles_are_those_of_a_full_scan(asked):
    moved = 0
    for variant in made_variants(asked):
        row = SimpleNamespace(**variant)
        bases, codes, start = cell_variants.alleles(asked, row)
        wide = asked.inputs.bases.window(row.chrom, start, TILE + 20 * BIN)
        at = row.position - start
        other = np.r_[wide[:at], encode(row.alt), wide[at + len(row.ref) :]]
        for k, whole in enumerate((wide, other)):
            assert np.array_equal(bases[k], whole[:TILE])
            assert np.array_equal(codes[k], asked.scanner.codes(whole, BIN)[:BINS]), variant
        moved += not np.array_equal(*codes)
    assert bases.dtype == codes.dtype == np.uint8 and moved >= 5


def test_a_model_of_fewer_factors_takes_their_columns(files, tmp_path):
    own = {**files, "reference": str(tmp_path / "r.json"), "vectors": str(tmp_path / "v.npz")}
    made.write_cells(own, made.made_expression().loc[["T6", "T0", "T3", "T2"]])
    few = Asked.open(made.SPEC, made.train(tmp_path, own, epochs=1), own, MOTIFS, device="cpu")
    wide = few.window("chr1", TILE, BIN)
    assert np.array_equal(few.codes("chr1", TILE), few.scan(wide))
    assert np.array_equal(few.scan(wide), few.scanner.codes(wide, BIN)[:BINS, [6, 0, 3, 2]])
    for variant in made_variants(few):
        bases, codes, _ = cell_variants.alleles(few, SimpleNamespace(**variant))
        assert codes.shape == (2, BINS, 4)
        assert np.array_equal(few.scan(bases[1])[: BINS - 1], codes[1][: BINS - 1])
    vectors = few.cells(own["vectors"], ["test0"])
    assert joined(cell_prediction.predicted(few, vectors, [("chr1", 0, 999)])).shape == (2, 8)


def test_scores_of_substitutions_are_log_ratios_of_both_predictions(asked, vectors):
    table = pd.DataFrame(made_variants(asked)[:6])
    found = cell_variants.score_variants(asked, table, vectors, ["a", "b"])
    assert len(found) == 6 * 2 * 2 and found["signal"].tolist()[:3] == ["DNase", "H3K27ac", "DNase"]
    for number, row in enumerate(table.itertuples(index=False)):
        start = (row.position // BIN - BINS // 2) * BIN
        whole = asked.inputs.bases.window(row.chrom, start, TILE + BIN)
        other = whole.copy()
        other[row.position - start] = encode(row.alt)[0]
        one, two = (np.expm1(outright(asked, b, vectors)).astype(float) for b in (whole, other))
        near = slice(BINS // 2 - 2, BINS // 2 + 3)
        ratio = np.log2((two[:, near].sum(1) + 1) / (one[:, near].sum(1) + 1))
        own = found[found["variant"] == number]
        np.testing.assert_allclose(own["local_lfc"], ratio.ravel(), atol=1e-4)
        np.testing.assert_allclose(own["sad"], (two - one).sum(1).ravel(), atol=1e-3)


def test_a_lost_site_changes_the_cell_that_has_its_factor(asked, files):
    table = made.made_expression()
    codes = np.array(asked.inputs.block.codes[: 40 * BINS])
    alone = np.flatnonzero((codes > 0).sum(axis=1) == 1)[5:15]
    strong, weak = [], []
    for b in alone.tolist():
        tf = int(codes[b].argmax())
        on = [c for c in made.TEST if table.loc[f"T{tf}", c] > 10][:1]
        off = [c for c in made.TEST if table.loc[f"T{tf}", c] < 10][:1]
        if not on or not off:
            continue
        vectors = asked.cells(files["vectors"], on + off)
        lost = change_at(asked, "chr1", b * BIN, BIN, "A" * BIN)
        found = cell_variants.score_variants(asked, pd.DataFrame([lost]), vectors, on + off, 0)
        size = found.groupby("cell")["local_lfc"].apply(lambda v: v.abs().mean())
        strong.append(size[on[0]])
        weak.append(size[off[0]])
    assert len(strong) > 4 and np.mean(strong) > 3 * np.mean(weak)


def test_insertions_and_deletions_are_compared_base_by_base(asked, vectors):
    table = pd.DataFrame(made_variants(asked)[6:])
    found = cell_variants.score_variants(asked, table, vectors[:1], ["a"])
    assert np.isfinite(found["local_lfc"]).all() and len(found) == 6
    row = table.iloc[2]
    bases, codes, start = cell_variants.alleles(asked, row)
    one, two = np.expm1(asked.predict(bases, codes, vectors[:1]))[:, 0].astype(float)
    change = variants.edit(row.position, row.ref, row.alt)
    pair = variants.aligned(one.T, two.T, change.gap - start, change.lost, change.gained, BIN)
    own = found[found["variant"] == 2]
    np.testing.assert_allclose(own["sad"], (pair[1] - pair[0]).sum(1), rtol=1e-5)


def test_alleles_that_do_not_fit_are_refused_all_at_once(asked, files, weights, vectors):
    good = made_variants(asked)[0]
    bad = [
        {**good, "ref": spare(asked, "chr1", 700), "alt": "G"},
        {**good, "alt": good["ref"]},
        {**good, "alt": "A" * TILE},
    ]
    with pytest.raises(InputError) as told:
        cell_variants.score_variants(asked, pd.DataFrame([good, *bad]), vectors, ["a", "b"])
    assert len(told.value.problems) == 3 and "the genome has" in str(told.value)
    with pytest.raises(InputError, match="no column alt"):
        cell_variants.score_variants(
            asked, pd.DataFrame([good]).drop(columns="alt"), vectors, ["a", "b"]
        )
    blind = Asked.open(made.SPEC, weights, files, device="cpu")
    with pytest.raises(InputError, match="need the motif set"):
        cell_variants.score_variants(blind, pd.DataFrame([good]), vectors, ["a", "b"])


# ---- contacts ------------------------------------------------------------------------------------


def test_contacts_are_the_attention_of_the_last_layer(asked, vectors):
    table = cell_prediction.contact_table(asked, "chr1", 3 * TILE, vectors[0])
    codes = torch.from_numpy(asked.codes("chr1", 3 * TILE))[None]
    bases = torch.from_numpy(asked.window("chr1", 3 * TILE))[None]
    with torch.no_grad():
        weights = asked.net.contacts(bases, codes, torch.from_numpy(vectors[:1])[None])[0, 0]
    assert len(table) == BINS * (BINS - 1) // 2
    for row in table.itertuples():
        i, j = (row.start1 - 3 * TILE) // BIN, (row.start2 - 3 * TILE) // BIN
        assert i < j and row.end1 - row.start1 == BIN
        assert row.forward == pytest.approx(float(weights[i, j]))
        assert row.attention == pytest.approx(float(weights[i, j] + weights[j, i]) / 2)


def test_contacts_are_of_the_chromosome_far_apart_and_the_strongest(asked, vectors):
    start = 4992 - 4 * BIN
    table = cell_prediction.contact_table(asked, "chr4", start, vectors[0])
    assert len(table) == 10 and table["end2"].max() == 5000
    table = cell_prediction.contact_table(asked, "chr1", 0, vectors[0], 5 * BIN, most=7)
    assert len(table) == 7 and (table["start2"] - table["start1"]).min() >= 5 * BIN
    assert table["attention"].is_monotonic_decreasing
    with pytest.raises(InputError, match="is no multiple of 128"):
        cell_prediction.contact_table(asked, "chr1", 5, vectors[0])
