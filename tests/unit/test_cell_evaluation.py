"""A model of cells, trained and judged: skill on cells and chromosomes that it never saw."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from epiloom.learn import cell_evaluation, checkpoint
from epiloom.learn.cell_metrics import CellMetrics
from epiloom.learn.cell_regions import RegionTable
from epiloom.learn.evaluation import load_weights
from epiloom.plan.errors import InputError
from tests import made_cells as made
from tests.made_cells import BINS, TILE

EPOCHS = 16


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    return made.write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def weights(files, tmp_path_factory) -> Path:
    return made.train(tmp_path_factory.mktemp("run"), files, epochs=EPOCHS)


@pytest.fixture(scope="module")
def metrics(files, weights) -> pd.DataFrame:
    return cell_evaluation.evaluate(made.SPEC, files, weights, device="cpu")


def pooled(metrics: pd.DataFrame, part: str, predictor: str, column: str) -> float:
    rows = metrics[(metrics["part"] == part) & (metrics["predictor"] == predictor)]
    (value,) = rows[(rows["cell"] == "pooled") & (rows["signal"] == "all")][column]
    return value


@pytest.mark.parametrize("part", cell_evaluation.PARTS)
def test_what_was_never_seen_is_predicted_and_only_by_its_own_factors(metrics, part):
    assert pooled(metrics, part, "epigept", "skill") > 0.6
    assert pooled(metrics, part, "epigept", "delta_r") > 0.8
    assert pooled(metrics, part, "epigept", "across_r") > 0.8
    assert pooled(metrics, part, "wrong_cell", "skill") < 0
    assert pooled(metrics, part, "wrong_cell", "across_r") < 0.5
    assert pooled(metrics, part, "training_mean", "skill") == 0


def test_without_factors_nothing_is_gained_over_the_mean(files, weights):
    net, settings = load_weights(made.SPEC, weights)
    table = RegionTable.read(settings, files)
    table.reader.vectors[:] = 0
    part = cell_evaluation.part_metrics(made.SPEC, net, table, "cross_both", torch.device("cpu"))
    rows = part.rows().query("cell == 'pooled' and signal == 'all' and predictor == 'model'")
    assert rows["skill"].item() <= 0 and rows["across_r"].item() == 0


@pytest.mark.parametrize("part", cell_evaluation.PARTS)
def test_sums_are_those_of_the_slow_way(files, weights, metrics, part):
    """One region and cell at a time, from the files."""
    net, settings = load_weights(made.SPEC, weights)
    table = RegionTable.read(settings, files)
    inputs, mask = table.reader.inputs, np.load(files["mask"])
    cells, chrom = {
        "validation": (made.VALIDATION, "chr3"),
        "cross_cell": (made.TEST, "chr1"),
        "cross_region": (made.TRAIN, "chr2"),
        "cross_both": (made.TEST, "chr2"),
    }[part]
    stored = {c: np.load(Path(files["signals"]) / f"{c}.npy").astype(float) for c in made.CELLS}
    slow = CellMetrics(cells, made.SIGNALS)
    offset = int(made.GENOME.offsets(128)[made.GENOME.index(chrom)])
    for start in range(0, made.GENOME.length(chrom) - TILE + 1, TILE):
        rows = slice(offset + start // 128, offset + start // 128 + BINS)
        missing = mask[rows] != 0
        truth, made_up, mean = [], [], []
        for cell in cells:
            own = np.where(missing[:, None], np.nan, stored[cell][rows])
            batch = {k: torch.from_numpy(v) for k, v in inputs.read([chrom], [start]).items()}
            vector = table.reader.vectors[table.reader.cells.index(cell)]
            with torch.no_grad():
                args = (batch["bases"], batch["motifs"], torch.from_numpy(vector)[None, None])
                made_up.append(net(*args)[0, 0].numpy())
            others = [stored[c][rows] for c in made.TRAIN if c != cell]
            truth.append(own)
            mean.append(np.nanmean(others, axis=0))
        slow.add(np.stack(truth), np.stack(made_up), np.stack(mean))
    found = metrics[metrics["part"] == part].reset_index(drop=True)
    wanted = slow.rows()
    for column in ("n", "skill", "delta_r", "across_r", "mse", "pearson"):
        np.testing.assert_allclose(
            found[column].to_numpy(float), wanted[column].to_numpy(float), atol=2e-4
        )


def test_cells_at_once_do_not_matter_and_few_regions_are_spread(files, weights, caplog):
    table = RegionTable.read(load_weights(made.SPEC, weights)[1], files)
    net = load_weights(made.SPEC, weights)[0]
    place = torch.device("cpu")
    with caplog.at_level(logging.INFO):
        one, two = (
            cell_evaluation.part_metrics(made.SPEC, net, table, "cross_cell", place, 5, at_once)
            for at_once in (1, 4)
        )
    assert "cross_cell: 5 of 5 regions, 0 s left" in caplog.text
    np.testing.assert_allclose(one.sums, two.sums, rtol=1e-4, atol=1e-4)
    examples = table.examples("cross_cell", 5)
    assert (examples.region_starts // TILE).tolist() == [0, 8, 16, 24, 32]


def test_table_is_written_whole_and_tells_run_and_parts(files, weights, tmp_path):
    out = tmp_path / "metrics.tsv"
    parts = ("cross_both",)
    found = cell_evaluation.evaluate(made.SPEC, files, weights, out, parts, 2, device="cpu")
    again = pd.read_csv(out, sep="\t")
    assert list(again) == list(found) and len(again) == len(found)
    assert set(again["fold"]) == {"f"} and set(again["part"]) == {"cross_both"}
    assert set(again["cell"]) == {*made.TEST, "pooled", "mean"}


def test_other_data_than_those_of_the_weights_are_refused(files, weights, tmp_path):
    motifs = made.made_motifs()
    own = made.write_block(files, tmp_path, motifs.of(motifs.tfs[::-1]))
    with pytest.raises(InputError, match="motif set or its rule"):
        cell_evaluation.evaluate(made.SPEC, own, weights, device="cpu")
    settings = checkpoint.load(weights)["settings"]
    assert settings["tfs"] == list(motifs.tfs) and settings["belongs_to"]["assembly"] == "toy"


def test_weights_taken_as_they_are_know_their_data_too(files, weights, tmp_path):
    again = checkpoint.load(made.train(tmp_path, files, start=weights, epochs=0))
    first = checkpoint.load(weights)
    assert again["settings"]["belongs_to"] == first["settings"]["belongs_to"]
    assert all(torch.equal(v, first["state_dict"][k]) for k, v in again["state_dict"].items())
