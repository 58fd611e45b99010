"""Frames of the genome in lanes: what is read when, and what counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from epiloom.data.genome import GAP
from epiloom.data.tiles import MISSING
from epiloom.learn import loader
from epiloom.learn.frames import Frames, FrameTable, Scale, channel_weights, runs
from epiloom.learn.kinds import open_table
from epiloom.plan.errors import InputError
from tests.made_tiles import (
    BIN,
    CHANNELS,
    FRAME,
    GENOME,
    examples,
    made_case,
    make_tiles,
    opened,
    rows,
    settings,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_tiles(tmp_path_factory.mktemp("store"), *made_case())


def frames_of(tiles, chroms) -> list[int]:
    """First rows of frames with a usable bin, the slow way."""
    found = []
    for chrom in chroms:
        first, n = rows(chrom).start, GENOME.length(chrom) // BIN
        for k in range(n // FRAME):
            row = first + k * FRAME
            if any(tiles.flags[row + i] == 0 for i in range(FRAME)):
                found.append(row)
    return found


def epoch(shown, lanes: int) -> list[list[tuple[int, bool, bool]]]:
    """Per lane, what an epoch reads: row of the frame, whether it begins, whether it counts."""
    read: list[list[tuple[int, bool, bool]]] = [[] for _ in range(lanes)]
    visits = loader.visits(shown, 0, 0)
    for (piece,) in loader.updates(visits, lanes, 1):
        batch, names = shown.batch(piece.indices), shown.names(piece.indices)
        assert len(names) == lanes
        for lane, name in enumerate(names):
            chrom, _, start = name.partition(":")
            row = rows(chrom).start + int(start) // BIN
            counts = bool(batch["valid"][lane].any())
            read[lane].append((row, bool(batch["begins"][lane]), counts))
    return read


LAID = [(1, 0, 1), (4, 0, 7), (4, 1, 2), (4, 3, 9), (7, 2, 3), (16, 5, 4), (200, 1, 5)]


@pytest.mark.parametrize(("lanes", "warmup", "seed"), LAID)
def test_every_frame_counts_once_per_epoch(lanes, warmup, seed, files):
    train = examples(files, batch=lanes, warmup_frames=warmup)
    wanted = frames_of(train.tiles, ["chr1", "chr2"])
    for number in range(3):
        shown = train.varied(seed, number)
        read = [step for lane in epoch(shown, lanes) for step in lane]
        assert sorted(row for row, _, counts in read if counts) == wanted
        assert len(read) == len(shown)


@pytest.mark.parametrize(("lanes", "warmup", "seed"), LAID)
def test_a_lane_goes_on_frame_after_frame_and_begins_anew_after_a_break(lanes, warmup, seed, files):
    train = examples(files, batch=lanes, warmup_frames=warmup).varied(seed, 1)
    wanted = frames_of(train.tiles, ["chr1", "chr2"])
    for lane in epoch(train, lanes):
        assert lane[0][1]  # nothing comes before its first frame
        for (row, _, _), (following, begins, _) in zip(lane[:-1], lane[1:], strict=True):
            assert following == wanted[(wanted.index(row) + 1) % len(wanted)]
            assert begins == (following != row + FRAME or following == rows("chr2").start)


def test_lanes_begin_elsewhere_in_every_epoch_and_held_out_ones_never_do(files):
    train, valid = examples(files), examples(files, "validation")
    begun = {epoch(train.varied(1, number), 4)[0][0][0] for number in range(8)}
    assert len(begun) > 3
    assert train.varied(1, 2) == train.varied(1, 2)
    assert valid.varied(1, 2) is valid


def test_a_state_begins_at_chromosomes_and_after_stretches_without_data(files):
    tiles = opened(files)
    frames = Frames.of(tiles, ["chr1", "chr2", "chr4"], FRAME)
    begun = [int(row) for row in frames.first[frames.begins]]
    # gaps of chr1 end inside frames 2, 16 and 54; frame 21 is blacklisted, 5 and 6 of chr2 empty
    inside = [20, 160, 220, 540]
    assert begun == [*inside, rows("chr2").start, rows("chr2", 70).start, rows("chr4").start]
    assert frames.chroms[frames.begins].tolist() == ["chr1"] * 4 + ["chr2"] * 2 + ["chr4"]


def test_stretches_are_those_between_beginnings(files):
    frames = Frames.of(opened(files), ["chr1", "chr2"], FRAME)
    found = list(runs(frames))
    assert [first for first, _ in found] == np.flatnonzero(frames.begins).tolist()
    for first, end in found:
        assert np.all(np.diff(frames.first[first:end]) == FRAME)
        assert len(set(frames.chroms[first:end])) == 1
    assert found[-1][1] == len(frames.first)


def test_bins_that_do_not_fill_a_frame_are_left_out(files):
    frames = Frames.of(opened(files), ["chr3"], FRAME)
    assert len(frames.first) == 17  # of 172 bins and a shorter one
    assert frames.first.max() + FRAME <= rows("chr3", 172).start


# ---- numbers -------------------------------------------------------------------------------------


def test_z_scores_have_the_statistics_of_the_training_chromosomes(files):
    train = examples(files)
    tiles = train.tiles
    kept = np.r_[rows("chr1"), rows("chr2")]
    kept = kept[tiles.flags[kept] == 0]
    values = np.where(tiles.values[kept] == MISSING, np.nan, tiles.values[kept] * 0.001)
    mean, std = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    np.testing.assert_allclose(train.scale.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(train.scale.std, std, rtol=1e-12)
    z, missing = train.scale.standardized(tiles.values[kept])
    expected = np.nan_to_num((values - mean) / std)
    np.testing.assert_allclose(z, expected, rtol=0, atol=2e-6)
    assert np.array_equal(missing, np.isnan(values))


def test_held_out_chromosomes_change_nothing_of_the_training(files, tmp_path):
    signal, mask = made_case()
    held = np.r_[rows("chr3"), rows("chr4")]
    signal[held] = signal[held] * 7 + 3
    other = examples(make_tiles(tmp_path, signal, mask))
    own = examples(files)
    assert np.array_equal(own.scale.mean, other.scale.mean)
    assert np.array_equal(own.scale.std, other.scale.std)
    everything = np.arange(len(own))
    assert np.array_equal(own.batch(everything)["signal"], other.batch(everything)["signal"])
    frames = Frames.of(own.tiles, ["chr4"], FRAME)
    held_out = [
        replace(each, frames=frames).batch(everything[:8])["signal"] for each in (own, other)
    ]
    assert not np.array_equal(*held_out)


def test_a_track_that_never_changes_keeps_its_unit_and_is_named(files, tmp_path, caplog):
    signal, mask = made_case()
    signal[:, 1] = 2
    with caplog.at_level("WARNING", "epiloom"):
        scale = Scale.of(opened(make_tiles(tmp_path, signal, mask)), ["chr1", "chr2"])
    assert scale.std[1] == 1 and "E003-H2A.Z.pval is the same in every bin" in caplog.text


def test_masked_and_missing_values_never_count(files):
    train = examples(files, warmup_frames=0, batch=1)
    found = train.batch(np.arange(len(train)))
    assert found["valid"].shape == found["signal"].shape
    for k, first in enumerate(train.frames.first):
        stored = np.asarray(train.tiles.values[first : first + FRAME])
        flags = np.asarray(train.tiles.flags[first : first + FRAME])
        for t in range(FRAME):
            for d in range(len(CHANNELS)):
                missing = stored[t, d] == MISSING
                assert found["valid"][k, t, d] == (flags[t] == 0 and not missing)
                assert not missing or found["signal"][k, t, d] == 0


def test_without_missing_values_one_mark_per_bin_is_enough(tmp_path):
    signal, mask = made_case()
    full = np.where(np.isnan(signal) & (mask != GAP)[:, None], np.float16(1), signal)
    train = examples(make_tiles(tmp_path, full, mask), warmup_frames=0, batch=1)
    found = train.batch(np.arange(len(train)))
    assert found["valid"].shape == (len(train), FRAME, 1)
    flags = np.stack([train.tiles.flags[f : f + FRAME] for f in train.frames.first])
    assert np.array_equal(found["valid"][..., 0], flags == 0)


def test_frames_that_warm_a_lane_up_are_read_but_do_not_count(files):
    train = examples(files, batch=4, warmup_frames=2)
    for step in range(2):
        batch = train.batch(np.arange(4) + 4 * step)
        assert not batch["valid"].any() and np.abs(batch["signal"]).max() > 0
    assert train.batch(np.arange(8, 12))["valid"].any(axis=(1, 2)).all()


# ---- weights of assays ---------------------------------------------------------------------------


def test_balanced_assays_count_the_same_however_many_tracks_they_have():
    weights = channel_weights(settings(assay_weights="balanced"))
    marks = np.array(["H3K4me3", "H2A.Z", "H3K4me3", "DNase"])
    sums = [weights[marks == mark].sum() for mark in ("H3K4me3", "H2A.Z", "DNase")]
    np.testing.assert_allclose(sums, sums[0])
    assert weights.dtype == np.float32 and abs(weights.mean() - 1) < 1e-6


def test_a_mapping_gives_a_factor_per_assay():
    weights = channel_weights(settings(assay_weights={"H2A.Z": 3.0, "DNase": 0.5}))
    np.testing.assert_allclose(weights / weights[0], [1, 3, 1, 0.5], rtol=1e-6)
    assert abs(weights.mean() - 1) < 1e-6


def test_weights_are_part_of_a_batch_only_if_asked_for(files):
    assert "weight" not in examples(files).batch(np.arange(3))
    found = examples(files, assay_weights="balanced").batch(np.arange(3))["weight"]
    expected = channel_weights(settings(assay_weights="balanced"))
    assert np.array_equal(found, np.stack([expected] * 3))


# ---- refusals, names, order ----------------------------------------------------------------------


def test_channels_in_another_order_are_refused(files):
    turned = [CHANNELS[k] for k in (0, 2, 1, 3)]
    with pytest.raises(InputError) as refused:
        FrameTable.read(settings(channels=turned), files)
    assert "another order: number 2 is E003-H2A.Z.pval, not E116-H3K4me3.pval" in str(refused.value)
    assert "all.json" in str(refused.value) and "train again" in str(refused.value)


def test_other_channels_are_named(files):
    with pytest.raises(InputError) as refused:
        FrameTable.read(settings(channels=[*CHANNELS[:3], "E003-DNase.pval"]), files)
    assert "E116-DNase.pval not known to the model" in str(refused.value)
    assert "E003-DNase.pval missing" in str(refused.value)


def test_a_part_without_data_is_refused(tmp_path):
    signal, mask = made_case()
    mask[rows("chr4")] = GAP
    table = open_table("frames", settings(), make_tiles(tmp_path, signal, mask))
    assert len(table.examples("validation")) > 0
    with pytest.raises(InputError, match="no bin of chr4 has data; hold out others"):
        table.examples("test")


def test_frames_are_named_by_their_first_base(files):
    test = examples(files, "test", batch=1, warmup_frames=0)
    names = test.names(np.arange(len(test)))
    assert names[:3] == ["chr4:0", "chr4:250", "chr4:500"]
    assert len(names) == 13 and set(test.chroms) == {"chr4"}  # the gap begins inside frame 12


def test_order_and_digest_are_the_same_each_time(files):
    one, two = examples(files), examples(files)
    assert loader.digest(one) == loader.digest(two)
    assert loader.digest(one) != loader.digest(examples(files, "validation"))
    for number in range(2):
        assert np.array_equal(loader.visits(one, 5, number), np.arange(len(one)))
    a, b = (each.varied(9, 4).batch(np.arange(12)) for each in (one, two))
    assert all(np.array_equal(a[key], b[key]) for key in a)
