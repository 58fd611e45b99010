"""The annotation of a genome, and what comes back of it, against references of one thing a time."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from epiloom.data.genome import GAP
from epiloom.data.tiles import MISSING, checksum
from epiloom.learn import attribution, latents, reconstruction
from epiloom.learn.latents import Encoder, annotate, stretches
from epiloom.learn.reconstruction import Components, Errors
from epiloom.plan.errors import InputError
from epiloom.studies.latent_tables import Annotated
from tests.made_tiles import (
    BIN,
    CHANNELS,
    FRAME,
    GENOME,
    SPEC,
    made_case,
    make_tiles,
    rows,
    write_weights,
)

CASES = {
    "fast": {},
    "deep": {"layers": 2},
    "both": {"bidirectional": True},
    "paper": {"variant": "paper", "cell": "zeroed"},
    "paper_carried": {"variant": "paper", "cell": "carried"},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_tiles(tmp_path_factory.mktemp("store"), *made_case())


@pytest.fixture(scope="module")
def weights(files, tmp_path_factory) -> Path:
    return write_weights(tmp_path_factory.mktemp("run") / "weights.pt", files)


@pytest.fixture(scope="module")
def annotated(files, weights, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("annotated") / "latents"
    annotate(Encoder.open(SPEC, weights, files, device="cpu"), weights, folder)
    return folder


@pytest.fixture
def encoder(files, weights) -> Encoder:
    return Encoder.open(SPEC, weights, files, device="cpu")


def z_scores(encoder: Encoder, chrom: str) -> np.ndarray:
    """Of all whole bins of a chromosome, 0 where missing, filled up to whole frames."""
    values = np.asarray(encoder.tiles.values[encoder.tiles.rows(chrom)])
    mean, std = encoder.net.mean.numpy(), encoder.net.std.numpy()
    z = np.where(values == MISSING, 0, (values * 0.001 - mean) / std)
    left = -len(z) % FRAME
    return np.concatenate([z, np.zeros((left, z.shape[1]))]).astype(np.float32)


def walked(encoder: Encoder, chrom: str) -> np.ndarray:
    """Latents of a chromosome, frame after frame: a state begins where data begin again."""
    z, flags = z_scores(encoder, chrom), encoder.tiles.flags[encoder.tiles.rows(chrom)]
    made, state, was = [], None, False
    for start in range(0, len(z), FRAME):
        frame = z[start : start + FRAME]
        known = any(flag in (0, 2) for flag in flags[start : start + FRAME].tolist())
        if known and not was:
            state = None
        if not known:
            frame = np.zeros_like(frame)
        with torch.no_grad():
            found, state = encoder.net.encode(torch.from_numpy(frame)[None], state)
        made.append(found[0].numpy())
        was = known
    return np.concatenate(made)[: len(flags)]


# ---- the annotation ------------------------------------------------------------------------------


@pytest.mark.parametrize("side_by_side", [1, 2, 64])
@pytest.mark.parametrize("case", CASES)
def test_latents_are_those_of_one_stretch_after_the_other(
    case, side_by_side, files, tmp_path, monkeypatch
):
    monkeypatch.setattr(latents, "SIDE_BY_SIDE", side_by_side)
    own = write_weights(tmp_path / "weights.pt", files, **CASES[case])
    encoder = Encoder.open(SPEC, own, files, device="cpu")
    annotate(encoder, own, tmp_path / "latents")
    for chrom in GENOME.chromosomes:
        found = np.load(tmp_path / f"latents/{chrom}.npy")
        np.testing.assert_allclose(found, walked(encoder, chrom), rtol=0, atol=1e-6)
    assert np.abs(np.diff(found, axis=0)).max() > 0.05  # there is something to compare


def test_every_whole_bin_has_a_row_of_finite_numbers(annotated):
    bins = [650, 200, 172, 151]  # floor(length / 25)
    for chrom, n in zip(GENOME.chromosomes, bins, strict=True):
        found = np.load(annotated / f"{chrom}.npy")
        assert found.shape == (n, 4) and found.dtype == np.float32
        assert np.isfinite(found).all() and np.abs(found).max() < 1


def test_stretches_hold_every_bin_once(encoder):
    there, empty = stretches(encoder.tiles, GENOME.chromosomes, FRAME)
    held = [row for one in [*there, *empty] for row in range(one.start, one.end)]
    wanted = [r for c in GENOME.chromosomes for r in range(*encoder.tiles.rows(c).indices(10**6))]
    assert sorted(held) == wanted
    first = [(one.start, one.end) for one in there if one.chrom == "chr1"]
    assert first == [(20, 110), (160, 300), (540, 650)]  # blacklisted bins are walked through
    gap = [(one.start, one.end) for one in empty if one.chrom == "chr4"]
    assert gap == [(rows("chr4", 130).start, rows("chr4", 151).start)]


def test_a_chromosome_without_any_data_has_the_latents_of_silence(tmp_path):
    signal, mask = made_case()
    mask[rows("chr3")] = GAP
    signal[rows("chr3")] = np.nan
    files = make_tiles(tmp_path / "store", signal, mask)
    own = write_weights(tmp_path / "weights.pt", files)
    encoder = Encoder.open(SPEC, own, files, device="cpu")
    annotate(encoder, own, tmp_path / "latents")
    found = np.load(tmp_path / "latents/chr3.npy")
    assert np.isfinite(found).all() and np.array_equal(found[-20:-10], found[-10:])
    np.testing.assert_allclose(found, walked(encoder, "chr3"), rtol=0, atol=1e-6)


def test_the_mask_is_that_of_the_genome_and_of_bins_without_data(annotated, files):
    _, mask = made_case()
    flags = np.load(files["flags"])
    for chrom in GENOME.chromosomes:
        found = np.load(annotated / f"{chrom}.mask.npy")
        own = rows(chrom, 0, GENOME.length(chrom) // BIN)
        assert np.array_equal(found, flags[own]) and np.array_equal(found & 3, mask[own])
    empty = np.load(annotated / "chr2.mask.npy")
    assert np.flatnonzero(empty == 8).tolist() == list(range(49, 72))


def test_the_file_beside_it_tells_what_it_was_made_with(annotated, weights):
    parts = {"chr1": "train", "chr2": "train", "chr3": "validation", "chr4": "test"}
    for chrom, part in parts.items():
        facts = json.loads((annotated / f"{chrom}.json").read_text())
        bins = GENOME.length(chrom) // BIN
        assert facts == {
            **{"assembly": "toy", "chromosome": chrom, "length_bp": GENOME.length(chrom)},
            **{"bin_bp": 25, "bins": bins, "latents": 4, "part": part},
            "masked_bins": int((np.load(annotated / f"{chrom}.mask.npy") != 0).sum()),
            **{"channels": 4, "sha256_of_channels": checksum(CHANNELS)},
            "sha256_of_weights": hashlib.sha256(weights.read_bytes()).hexdigest(),
        }


def test_a_second_run_gives_the_same_files_to_the_last_bit(annotated, encoder, weights, tmp_path):
    annotate(encoder, weights, tmp_path)
    names = sorted(path.name for path in annotated.iterdir())
    assert names == sorted(path.name for path in tmp_path.iterdir()) and len(names) == 12
    for name in names:
        assert (tmp_path / name).read_bytes() == (annotated / name).read_bytes()


def test_the_analyses_read_what_was_written(annotated, files):
    found = Annotated.open(annotated, files["manifest"])
    assert list(found.latents) == list(GENOME.chromosomes)
    assert int(found.usable["chr1"].sum()) == 650 - 25 - 65 - 11 - 245
    (annotated / "chr5.npy").write_bytes(b"")  # files of no chromosome are not looked at
    assert list(found.of("chr2").latents) == ["chr2"]
    with pytest.raises(InputError, match="'chr22' is no chromosome"):
        found.of("chr22")
    (annotated / "chr5.npy").unlink()


def test_weights_for_channels_in_another_order_are_refused(weights, tmp_path):
    signal, mask = made_case()
    files = make_tiles(tmp_path, signal[:, ::-1], mask, CHANNELS[::-1])
    with pytest.raises(InputError, match="another order: number 1 is E116-DNase.pval, not E003"):
        Encoder.open(SPEC, weights, files)


# ---- what comes back -----------------------------------------------------------------------------


@pytest.mark.parametrize("chrom", GENOME.chromosomes)
def test_all_usable_values_come_back_with_the_carried_state(chrom, encoder, monkeypatch):
    monkeypatch.setattr(latents, "SIDE_BY_SIDE", 1)  # the longest stretch first
    found = list(latents.reconstructed(encoder, [chrom]))
    truth, made, counts = (np.concatenate(part) for part in zip(*found, strict=True))
    z, first = z_scores(encoder, chrom), encoder.tiles.rows(chrom).start
    values, flags = encoder.tiles.values, encoder.tiles.flags
    at = 0
    for one in sorted(stretches(encoder.tiles, [chrom], FRAME)[0], key=lambda s: s.start - s.end):
        n = one.end - one.start
        whole = torch.from_numpy(z[one.start - first :][: -(-n // FRAME) * FRAME])
        encoder.net.carried = None
        with torch.no_grad():
            wanted = encoder.net(whole[None], torch.tensor([True]))[0, :n].numpy()
        here, rows_here = slice(at, at + n), slice(one.start, one.end)
        np.testing.assert_allclose(truth[here], whole[:n].numpy(), rtol=0, atol=1e-5)
        np.testing.assert_allclose(made[here], wanted, rtol=0, atol=1e-5)
        usable = (flags[rows_here] == 0)[:, None] & (values[rows_here] != MISSING)
        assert np.array_equal(counts[here], usable)
        at += n
    assert at == len(truth)


def test_stretches_side_by_side_give_the_same_errors(encoder, monkeypatch):
    tables = []
    for number in (1, 2, 64):
        monkeypatch.setattr(latents, "SIDE_BY_SIDE", number)
        errors = Errors(4)
        for part in latents.reconstructed(encoder, list(GENOME.chromosomes)):
            errors.add(*part)
        tables.append(errors.table())
    for other in tables[1:]:
        np.testing.assert_allclose(tables[0], other, rtol=1e-5)


def test_sums_over_parts_give_r2_r_and_error_of_all_values():
    rng = np.random.default_rng(0)
    y = rng.normal(2, 1, (500, 4)).astype(np.float32)
    p = (0.7 * y + rng.normal(0, 0.4, y.shape)).astype(np.float32)
    counts = rng.random(y.shape) > 0.3
    y[:, 3], p[~counts] = 1.5, np.nan  # a track that does not vary; values that are not there
    errors = Errors(4)
    for cut in np.array_split(np.arange(500), 7):
        errors.add(y[cut], p[cut], counts[cut])
    table = errors.table()
    for k in range(3):
        truth, made = y[counts[:, k], k].astype(float), p[counts[:, k], k].astype(float)
        squares = ((truth - made) ** 2).sum()
        assert table["n"][k] == counts[:, k].sum()
        np.testing.assert_allclose(table["mse"][k], squares / len(truth), rtol=1e-9)
        around = ((truth - truth.mean()) ** 2).sum()
        np.testing.assert_allclose(table["r2"][k], 1 - squares / around, rtol=1e-9)
        np.testing.assert_allclose(table["r"][k], np.corrcoef(truth, made)[0, 1], rtol=1e-9)
    assert np.isnan(table["r2"][3]) and np.isnan(table["r"][3]) and table["n"][3] > 0
    assert np.isnan(Errors(1).table()["r2"][0]) and Errors(1).table()["n"][0] == 0


@pytest.fixture
def training_z(encoder) -> np.ndarray:
    """z-scores of the usable bins of training frames."""
    tiles = encoder.tiles
    kept = np.r_[rows("chr1"), rows("chr2")]
    kept = kept[tiles.flags[kept] == 0]
    values = np.where(tiles.values[kept] == MISSING, np.nan, tiles.values[kept] * 0.001)
    return np.nan_to_num((values - encoder.scale.mean) / encoder.scale.std)


def test_components_are_those_of_scikit_learn(encoder, training_z, tmp_path):
    own = reconstruction.fit_components(encoder)
    theirs = PCA(4).fit(training_z)
    np.testing.assert_allclose(own.explained, theirs.explained_variance_ratio_, atol=1e-5)
    np.testing.assert_allclose(np.abs(own.axes), np.abs(theirs.components_), atol=1e-3)
    np.testing.assert_allclose(own.mean, theirs.mean_, atol=1e-6)
    assert (own.axes[np.arange(4), np.abs(own.axes).argmax(axis=1)] > 0).all()
    two = Components(own.axes[:2], own.mean, own.explained[:2])
    signs = np.sign((own.axes[:2] * theirs.components_[:2]).sum(axis=1))
    fitted = PCA(2).fit(training_z)
    np.testing.assert_allclose(
        two.scores(training_z), fitted.transform(training_z) * signs, atol=2e-3
    )
    np.testing.assert_allclose(
        two.restored(training_z), fitted.inverse_transform(fitted.transform(training_z)), atol=2e-3
    )
    own.save(tmp_path / "pca.npz")
    again = Components.load(tmp_path / "pca.npz")
    assert all(np.array_equal(vars(own)[key], vars(again)[key]) for key in vars(own))
    (tmp_path / "pca.npz").write_bytes(b"x")
    with pytest.raises(InputError, match="delete it and run again"):
        Components.load(tmp_path / "pca.npz")


def test_a_missing_value_stands_at_the_mean_of_its_track(encoder):
    own = reconstruction.fit_components(encoder)
    z = np.array([[0.5, np.nan, -1.0, np.nan]])
    filled = np.where(np.isnan(z), own.mean, z)
    np.testing.assert_allclose(own.scores(z), own.scores(filled), rtol=1e-6)


def test_the_table_has_every_track_and_all_of_them_together(encoder):
    components = reconstruction.fit_components(encoder)
    table = reconstruction.evaluate(encoder, "epi_lstm", components)
    assert tuple(table.columns) == reconstruction.COLUMNS
    assert len(table) == 2 * 2 * (4 + 1) and set(table["fold"]) == {"f"}
    for part, chrom in (("validation", "chr3"), ("test", "chr4")):
        found = list(latents.reconstructed(encoder, [chrom]))
        truth, made, counts = (np.concatenate(p).astype(float) for p in zip(*found, strict=True))
        known = counts.astype(bool)
        y = np.where(known, truth, np.nan)
        around = np.nansum((y - np.nanmean(y, axis=0)) ** 2)
        for name, p in (("epi_lstm", made), ("pca", components.restored(truth))):
            own = table[(table["part"] == part) & (table["predictor"] == name)]
            squares = ((truth - p) ** 2)[known].sum()
            row = own[own["track"] == "mean"].iloc[0]
            assert row["n"] == known.sum() and own["track"].tolist() == [*CHANNELS, "mean"]
            np.testing.assert_allclose(row["r2"], 1 - squares / around, rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(row["mse"], squares / known.sum(), rtol=1e-6, atol=1e-9)


# ---- attribution ---------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["fast", "paper"])
def test_gradient_times_input_is_that_of_small_steps(case, files, tmp_path):
    own = write_weights(tmp_path / "weights.pt", files, **CASES[case])
    encoder = Encoder.open(SPEC, own, files, device="cpu")
    found = attribution.gradient_times_input(encoder)
    net = encoder.net.double()
    z, flags = z_scores(encoder, "chr4"), encoder.tiles.flags[encoder.tiles.rows("chr4")]
    total, n, step = np.zeros(4), 0, 1e-5
    for start in range(0, 150, FRAME):
        if (flags[start : start + FRAME] != 0).all():
            continue
        frame = torch.from_numpy(z[start : start + FRAME].astype(np.float64))
        n += FRAME
        # every value of a frame is moved alone, all of them side by side
        moved = frame + step * torch.eye(frame.numel(), dtype=torch.float64).view(-1, FRAME, 4)
        back = 2 * frame - moved
        state = tuple(s.double() for s in net.no_state(len(moved), moved))
        with torch.no_grad():
            sums = [net.encode(x, state)[0].sum(dim=1) for x in (moved, back)]
        slope = ((sums[0] - sums[1]) / (2 * step)).view(FRAME, 4, -1)
        total += (slope * frame[..., None]).abs().mean(dim=2).sum(dim=0).numpy()
    np.testing.assert_allclose(found, total / n, rtol=1e-4)


def test_attribution_leaves_the_network_as_it_was(encoder):
    before = attribution.gradient_times_input(encoder)
    assert not encoder.net.training
    assert np.array_equal(attribution.gradient_times_input(encoder), before)
    assert (before > 0).all() and before.shape == (4,)
