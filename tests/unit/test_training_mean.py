"""The mean of the training cells as an input: whose it is, in training, validation and tests."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from epiloom.data.signal_targets import CellSignals, Scales, write_mean
from epiloom.learn import cell_evaluation
from epiloom.learn.cell_metrics import CellMetrics
from epiloom.learn.cell_regions import RegionTable
from epiloom.learn.evaluation import load_weights
from epiloom.learn.region_reader import turned
from epiloom.plan.errors import InputError
from epiloom.plan.runs import DATA_VERSION
from tests import made_cells as made
from tests.made_cells import BIN, BINS, GENOME, TILE


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    return add_mean(made.write_world(tmp_path_factory.mktemp("world")))


def add_mean(files: dict[str, str], train=made.TRAIN) -> dict[str, str]:
    scales, folder = Scales.load(files["scales"]), Path(files["signals"])
    write_mean(folder / "mean.npy", CellSignals(folder, train, GENOME, BIN, scales))
    about = {"data_version": DATA_VERSION, "assembly": "toy", "bin_bp": BIN, "cells": train}
    about |= {"signals": list(scales.signals), "sha256_of_scales": scales.checksum}
    (folder / "mean.json").write_text(json.dumps(about))
    return files | {"mean": f"{folder}/mean.npy", "mean_facts": f"{folder}/mean.json"}


@pytest.fixture(scope="module")
def table(files) -> RegionTable:
    return RegionTable.read(made.settings(from_mean=True), files)


def stored(files, cell: str, chrom: str, start: int) -> np.ndarray:
    """Signals of a region as they are in the file, without masked bins."""
    first = int(GENOME.offsets(BIN)[GENOME.index(chrom)]) + start // BIN
    rows = slice(first, first + BINS)
    values = np.load(Path(files["signals"]) / f"{cell}.npy")[rows].astype(float)
    values[np.load(files["mask"])[rows] != 0] = np.nan
    return values


@pytest.mark.parametrize("part", ["train", "validation", "cross_cell", "cross_region"])
def test_a_training_cell_is_left_out_of_its_own_mean_but_in_training(table, files, part):
    examples = table.examples(part)
    examples = examples.varied(1, 0)
    index = np.array([0, min(3, len(examples) - 1)])
    batch = examples.batch(index)
    for k, place in enumerate(index):
        region = place // max(1, len(examples) // len(examples.region_starts))
        chrom, start = str(examples.region_chroms[region]), int(examples.region_starts[region])
        for c, cell in enumerate(examples.cells(index)[k]):
            if cell < 0:
                continue
            name = table.reader.cells[cell]
            others = [t for t in made.TRAIN if part == "train" or t != name]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # masked everywhere: NaN
                slow = np.nanmean([stored(files, t, chrom, start) for t in others], axis=0)
            own = batch["mean"][k, c]
            if part == "train" and examples.drawn.reverse[place]:
                own = own[::-1]
            known = ~np.isnan(slow)
            np.testing.assert_allclose(own[known], slow[known], rtol=2e-3)


def test_where_no_training_cell_has_a_signal_nothing_is_learnt(files, tmp_path):
    signals = {cell: np.load(Path(files["signals"]) / f"{cell}.npy").copy() for cell in made.CELLS}
    for cell in made.TRAIN:
        signals[cell][4, 0] = np.nan
    signals[made.TRAIN[0]][7, 1] = 3
    for cell in made.TRAIN[1:]:
        signals[cell][7, 1] = np.nan  # the first cell alone has it: its own mean is nobody's
    folder = tmp_path / "signals"
    made.write_signals(folder, signals, Scales.load(files["scales"]))
    own = add_mean({**files, "signals": str(folder)})
    reader = RegionTable.read(made.settings(from_mean=True), own).reader
    cells = np.array([[reader.cells.index(made.TRAIN[0]), reader.cells.index("test0")]])
    held = reader.batch(["chr1"], [0], cells)
    assert (held["mean"][0, :, 4, 0] == 0).all() and np.isnan(held["target"][0, :, 4, 0]).all()
    assert held["mean"][0, 0, 7, 1] == 0 and np.isnan(held["target"][0, 0, 7, 1])
    assert held["mean"][0, 1, 7, 1] == 3 and np.isfinite(held["mean"]).all()
    assert reader.batch(["chr1"], [0], cells, training=True)["mean"][0, 0, 7, 1] == 3


def test_the_mean_turns_with_its_region(table):
    batch = table.reader.batch(["chr1", "chr2"], [0, TILE], np.array([[0, 1], [2, 3]]))
    plain = {key: value.copy() for key, value in batch.items()}
    found = turned(batch, np.array([False, True]))
    np.testing.assert_array_equal(found["mean"][0], plain["mean"][0])
    np.testing.assert_array_equal(found["mean"][1], plain["mean"][1][:, ::-1])


def test_it_is_read_only_where_it_is_asked_for(files):
    reader = RegionTable.read(made.settings(), files).reader
    assert "mean" not in reader.batch(["chr1"], [0], np.array([[0]]))


def test_a_mean_of_other_cells_is_refused(files):
    about = json.loads(Path(files["mean_facts"]).read_text())
    other = Path(files["mean_facts"]).with_name("other.json")
    other.write_text(json.dumps(about | {"cells": made.TRAIN[1:]}))
    with pytest.raises(InputError, match="the model's training cells are train0"):
        RegionTable.read(made.settings(from_mean=True), files | {"mean_facts": str(other)})


@pytest.fixture(scope="module")
def weights(files, tmp_path_factory) -> Path:
    return made.train(tmp_path_factory.mktemp("run"), files, from_mean=True, epochs=8)


def test_it_predicts_new_cells_better_than_the_mean_and_only_by_their_factors(files, weights):
    found = cell_evaluation.evaluate(made.SPEC, files, weights, threads=1)
    pooled = found.query("cell == 'pooled' and signal == 'all'").set_index(["part", "predictor"])
    for part in cell_evaluation.PARTS:
        assert pooled.loc[(part, "epigept"), "skill"] > 0.4
        assert pooled.loc[(part, "epigept"), "across_r"] > 0.6
        assert pooled.loc[(part, "wrong_cell"), "skill"] < 0
    assert pooled.loc[("cross_region", "wrong_cell"), "across_r"] < 0.5


def test_the_wrong_cell_keeps_its_own_mean(files, weights):
    """Against one cell after the other, the partner's factors with the cell's mean."""
    net, settings = load_weights(made.SPEC, weights)
    table = RegionTable.read(settings, files)
    place = torch.device("cpu")
    found = cell_evaluation.part_metrics(made.SPEC, net, table, "cross_region", place, 2)
    slow = CellMetrics(made.TRAIN, made.SIGNALS)
    examples = table.examples("cross_region", 2, cells_at_once=1)
    starts = examples.region_starts.tolist()
    places = {cell: table.reader.cells.index(cell) for cell in made.TRAIN}
    for chrom, start in zip(examples.region_chroms, starts, strict=True):
        truth, right, wrong, means = [], [], [], []
        for k, cell in enumerate(made.TRAIN):
            row = table.reader.batch([str(chrom)], [start], np.array([[places[cell]]]))
            given = {key: torch.from_numpy(value) for key, value in row.items()}
            partner = places[made.TRAIN[(k + 1) % len(made.TRAIN)]]
            other = given | {"expression": torch.tensor(table.reader.vectors[partner])[None, None]}
            with torch.no_grad():
                right.append(net(*made.SPEC.given(given))[0, 0].numpy())
                wrong.append(net(*made.SPEC.given(other))[0, 0].numpy())
            truth.append(row["target"][0, 0])
            means.append(row["mean"][0, 0])
        slow.add(*map(np.stack, (truth, right, means, wrong)))
    for a, b in ((found.rows(), slow.rows()),):
        for column in ("skill", "delta_r", "across_r", "mse"):
            np.testing.assert_allclose(a[column].astype(float), b[column].astype(float), atol=3e-4)


def test_what_is_added_to_the_mean_is_what_counts_across_cells():
    """A model that adds nothing has no r across cells, though its means (without the cell) do."""
    rng = np.random.default_rng(0)
    truth = rng.random((5, 40, 1)) + 1
    mean = (truth.sum(axis=0) - truth) / 4
    found = CellMetrics([*"abcde"], ["x"])
    found.add(truth, mean, mean, wrong=mean)
    rows = found.rows().query("cell == 'pooled' and signal == 'x' and predictor == 'model'")
    assert rows["across_r"].item() == 0 and rows["skill"].item() == 0
    plain = CellMetrics([*"abcde"], ["x"])
    plain.add(truth, mean, mean)
    assert plain.rows().query("cell == 'pooled' and predictor == 'model'")["across_r"].min() < -0.9
