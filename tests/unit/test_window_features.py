"""Features of windows: means of latents, PCA, raw tracks and other annotations, against loops."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from epiloom.data.labels import Labels
from epiloom.data.tiles import MISSING
from epiloom.learn.latents import Encoder, annotate
from epiloom.learn.reconstruction import fit_components
from epiloom.plan.errors import InputError
from epiloom.studies import window_features
from epiloom.studies.window_features import Sources, write_signal
from tests.made_tiles import (
    BIN,
    CHANNELS,
    FOLD,
    GENOME,
    SPEC,
    made_case,
    make_tiles,
    opened,
    write_weights,
)

# two windows a row: overlapping, in gaps, without data, on both sides of an edge, beyond the end
ROWS = [
    ("chr1", (0, 600), (650, 4000)),
    ("chr1", (630, 1210), (2600, 4100)),
    ("chr2", (1225, 1800), (1226, 1227)),
    ("chr1", (2499, 2501), (2400, 2800)),
    ("chr4", (100, 200), (3700, 3790)),
    ("chr3", (4290, 4312), (0, 4312)),
    ("chr2", (2500, 3250), (2000, 5000)),
    ("chr1", (8000, 9000), (16_000, 16_250)),
]


def labels() -> Labels:
    n = len(ROWS)
    windows = {name: np.array([row[k] for row in ROWS]) for k, name in ((1, "here"), (2, "there"))}
    cells = {"E003": np.arange(n) % 2, "E116": np.arange(n) % 3 == 0, "E017": np.full(n, np.nan)}
    return Labels(
        "pairs",
        np.array([f"row{k}" for k in range(n)]),
        np.array([row[0] for row in ROWS]),
        windows,
        {cell: np.asarray(values, np.float32) for cell, values in cells.items()},
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict:
    """Everything that features are read from, as files."""
    folder = tmp_path_factory.mktemp("run")
    files = make_tiles(folder / "store", *made_case())
    weights = write_weights(folder / "weights.pt", files)
    encoder = Encoder.open(SPEC, weights, files, device="cpu")
    annotate(encoder, weights, folder / "latents")
    fit_components(encoder).save(folder / "pca.npz")
    write_signal(opened(files), labels(), folder / "signal.npy")
    return files | {
        **{"weights": str(weights), "latents": str(folder / "latents")},
        **{"signal": str(folder / "signal.npy"), "pca": str(folder / "pca.npz")},
    }


@pytest.fixture
def sources(made) -> Sources:
    return Sources.open(SPEC, made)


def bins_of(chrom: str, span: tuple[int, int], flags: np.ndarray) -> list[int]:
    """Usable whole bins of a chromosome that a window touches."""
    last = min(-(-span[1] // BIN), GENOME.length(chrom) // BIN)
    return [b for b in range(span[0] // BIN, last) if flags[b] == 0]


def slow_means(values_of, flags_of) -> np.ndarray:
    """[rows, windows, k] of `values_of(chrom)` [bins, k], missing values left out one by one."""
    found = []
    for chrom, *spans in ROWS:
        values, flags = values_of(chrom), flags_of(chrom)
        for span in spans:
            kept = bins_of(chrom, span, flags)
            columns = [
                [float(values[b, d]) for b in kept if not np.isnan(values[b, d])]
                for d in range(values.shape[1])
            ]
            found.append([np.mean(c) if c else np.nan for c in columns])
    return np.array(found).reshape(len(ROWS), 2, -1)


def tracks(made) -> np.ndarray:
    """Means of every track, in arcsinh units."""
    tiles = opened(made)

    def values(chrom: str) -> np.ndarray:
        stored = np.asarray(tiles.values[tiles.rows(chrom)])
        return np.where(stored == MISSING, np.nan, stored * 0.001)

    return slow_means(values, lambda chrom: tiles.flags[tiles.rows(chrom)])


def test_the_signal_of_windows_is_the_mean_over_usable_bins_with_a_value(made):
    found = np.load(made["signal"])
    assert found.dtype == np.float32 and found.shape == (len(ROWS), 2, 4)
    wanted = tracks(made)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    assert np.isnan(found[0, 0]).all() and np.isnan(found[2, 1]).all()  # a gap; no data
    assert np.isnan(found[6, 0, 3]) and not np.isnan(found[6, 0, :3]).any()  # one track lacks it


def test_the_number_of_tracks_read_at_a_time_changes_nothing(made, tmp_path, monkeypatch):
    monkeypatch.setattr(window_features, "COLUMNS", 3)
    write_signal(opened(made), labels(), tmp_path / "signal.npy")
    assert (tmp_path / "signal.npy").read_bytes() == Path(made["signal"]).read_bytes()


def test_latents_of_a_window_are_means_over_its_usable_bins(made, sources):
    folder = Path(made["latents"])
    wanted = slow_means(
        lambda chrom: np.load(folder / f"{chrom}.npy"),
        lambda chrom: np.load(folder / f"{chrom}.mask.npy"),
    )
    found = sources.features(labels())["latents"]
    np.testing.assert_allclose(found, wanted.reshape(len(ROWS), 8), rtol=0, atol=1e-6)


def test_pca_of_a_window_is_the_projection_of_its_mean_z_scores(made, sources):
    z = (tracks(made) - sources.mean) / sources.std
    axes, mean = sources.components.axes, sources.components.mean
    wanted = np.zeros((len(ROWS), 2, len(axes)))
    for row, window, axis in np.ndindex(*wanted.shape):
        for d, value in enumerate(z[row, window]):
            if not np.isnan(value):
                wanted[row, window, axis] += axes[axis, d] * (value - mean[d])
    found = sources.features(labels())["pca"]
    np.testing.assert_allclose(found, wanted.reshape(len(ROWS), -1), rtol=0, atol=1e-4)
    assert np.isfinite(found).all()


def test_raw_tracks_are_those_of_the_cell_itself(made, sources):
    raw, signal = sources.features(labels())["raw"], np.load(made["signal"])
    assert set(raw) == {"E003", "E116"}  # of E017 nothing is read
    for cell, own in (("E003", [0, 1]), ("E116", [2, 3])):
        wanted = [[signal[row, k, d] for k in range(2) for d in own] for row in range(len(ROWS))]
        np.testing.assert_array_equal(raw[cell], np.array(wanted, np.float32))


def factor_files(folder: Path, extra: int = 0) -> list[str]:
    rng, paths = np.random.default_rng(4), []
    for chrom, length in zip(GENOME.chromosomes, GENOME.lengths, strict=True):
        path = folder / f"{chrom}.npy"
        np.save(path, rng.normal(size=(length // BIN + extra, 3)).astype(np.float32))
        paths.append(str(path))
    return paths


@pytest.mark.parametrize("extra", [0, 1])
def test_factors_are_means_over_the_bins_that_count_for_the_latents(extra, made, tmp_path):
    sources = Sources.open(SPEC, made | {"factors": factor_files(tmp_path, extra)})
    latents = Path(made["latents"])
    wanted = slow_means(
        lambda chrom: np.load(tmp_path / f"{chrom}.npy"),
        lambda chrom: np.load(latents / f"{chrom}.mask.npy"),
    )
    found = sources.features(labels())["factors"]
    np.testing.assert_allclose(found, wanted.reshape(len(ROWS), 6), rtol=0, atol=1e-6)


def test_without_factors_there_is_no_such_feature(sources):
    assert list(sources.features(labels())) == ["latents", "pca", "raw"]


@pytest.mark.parametrize("shape", [(300, 3), (650,), (652, 3)])
def test_factors_of_other_bins_are_refused(shape, made, tmp_path):
    paths = factor_files(tmp_path)
    np.save(paths[0], np.zeros(shape, np.float32))
    sources = Sources.open(SPEC, made | {"factors": paths})
    with pytest.raises(InputError, match="give one row per 25 bp of chr1, 650"):
        sources.features(labels())


def test_factors_that_cannot_be_read_are_named(made, tmp_path):
    paths = factor_files(tmp_path)
    Path(paths[2]).write_bytes(b"no array")
    sources = Sources.open(SPEC, made | {"factors": paths})
    with pytest.raises(InputError, match=r"chr3\.npy(.|\n)*give a \.npy of numbers"):
        sources.features(labels())


@pytest.mark.parametrize("cut", [np.s_[:-1], np.s_[:, :1], np.s_[:, :, :3]])
def test_signal_of_other_windows_is_refused(cut, made, sources):
    wrong = replace(sources, signal=np.load(made["signal"])[cut])
    with pytest.raises(InputError, match=r"does not fit 8 rows; delete it and run again"):
        wrong.features(labels())


def test_weights_for_other_channels_are_refused(made, tmp_path):
    told = json.loads(Path(made["channels"]).read_text())
    path = tmp_path / "channels.json"
    path.write_text(json.dumps(told | {"channels": CHANNELS[::-1]}))
    with pytest.raises(InputError, match="channels stand in another order"):
        Sources.open(SPEC, made | {"channels": str(path)})


def test_what_an_annotation_has_seen_is_all_but_what_its_fold_held_out(sources):
    seen = sources.trained_on(FOLD)
    assert seen["latents"] == {"chr1", "chr2", "chr3"}  # chr3 chose the epoch
    assert seen["pca"] == {"chr1", "chr2"}
