"""Regions with cells: batches against slow loops, who may train, and data that do not fit."""

from __future__ import annotations

import copy
import json
import os
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from epiloom.data.genome import Genome
from epiloom.data.loops import Loops, contact_rows
from epiloom.data.signal_targets import Scales
from epiloom.learn import checkpoint, training
from epiloom.learn.cell_regions import RegionTable
from epiloom.learn.cell_settings import BELONGS, settings_from
from epiloom.learn.interrupts import Preempted
from epiloom.learn.kinds import completed, open_table
from epiloom.plan.errors import InputError
from models.epigept.losses import contact_rows as rows_of_batch
from models.epigept.model import mirrored
from tests import made_cells as made
from tests.made_cells import BIN, BINS, GENOME, TILE

HELD = ("validation", "cross_cell", "cross_region", "cross_both")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    return made.write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def table(files) -> RegionTable:
    return open_table("regions", made.settings(), files)


def row(chrom: str, start: int) -> int:
    return int(GENOME.offsets(BIN)[GENOME.index(chrom)]) + start // BIN


def slow(files, chrom: str, start: int, cell: str) -> dict[str, np.ndarray]:
    """One region of one cell, base by base and bin by bin."""
    bases = np.load(files["bases"])[int(GENOME.offsets(1)[GENOME.index(chrom)]) + start :][:TILE]
    codes, mask = np.load(files["motifs"]), np.load(files["mask"])
    signals = np.load(Path(files["signals"]) / f"{cell}.npy")
    with np.load(files["vectors"]) as found:
        vector = found["vectors"][found["cells"].tolist().index(cell)]
    first, target = row(chrom, start), np.full((BINS, 2), np.nan, np.float16)
    for b in range(BINS):
        if mask[first + b] == 0:
            target[b] = signals[first + b]
    motifs = np.array([codes[first + b] for b in range(BINS)])
    return {"bases": bases, "motifs": motifs, "expression": vector, "target": target}


def check(examples, indices, files, other=None) -> None:
    """A batch is the slow one, region by region and cell by cell."""
    batch = examples.batch(indices)
    per = len(examples) // len(examples.region_starts)
    for k, (index, cells) in enumerate(zip(indices, examples.cells(indices), strict=True)):
        chrom, start = examples.region_chroms[index // per], examples.region_starts[index // per]
        for c, cell in enumerate(cells):
            name = examples.reader.cells[cell]
            one = slow(files, chrom, start, name)
            if cell < 0:
                assert np.isnan(batch["target"][k, c]).all()
                continue
            if other is not None and other[index]:
                one["bases"] = np.where(one["bases"] < 4, 3 - one["bases"].astype(int), 4)[::-1]
                one["motifs"], one["target"] = one["motifs"][::-1], one["target"][::-1]
            assert np.array_equal(batch["bases"][k], one["bases"])
            assert np.array_equal(batch["motifs"][k], one["motifs"])
            assert np.array_equal(batch["expression"][k, c], one["expression"])
            np.testing.assert_array_equal(batch["target"][k, c], one["target"])
    assert batch["motifs"].dtype == np.uint8 and batch["target"].dtype == np.float16


@pytest.mark.parametrize("part", HELD)
def test_batches_of_held_out_parts_are_those_of_the_slow_loop(table, files, part):
    check(table.examples(part, most=5), np.arange(5), files)


def test_batches_of_an_epoch_are_those_of_the_slow_loop_on_either_strand(table, files):
    examples = table.examples("train").varied(7, 3)
    reverse = examples.drawn.reverse
    assert 0.2 < reverse.mean() < 0.8
    check(examples, np.arange(len(examples)), files, reverse)
    straight = replace(table, settings={**table.settings, "reverse_complement": False})
    assert not straight.examples("train").varied(7, 3).drawn.reverse.any()


def test_the_other_strand_is_what_the_network_calls_mirrored(table):
    examples = table.examples("train").varied(7, 3)
    turned = np.flatnonzero(examples.drawn.reverse)[:4]
    straight = replace(examples.drawn, reverse=np.zeros(len(examples), bool))
    batch = replace(examples, drawn=straight).batch(turned)
    expected = mirrored({k: torch.from_numpy(v) for k, v in batch.items()})
    for key, values in examples.batch(turned).items():
        np.testing.assert_array_equal(values, expected[key].numpy())


def test_training_sees_every_region_once_and_no_held_out_cell_or_chromosome(table):
    examples = table.examples("train")
    assert len(examples) == 40 and set(examples.chroms) == {"chr1"}
    assert len(set(examples.region_starts)) == 40
    seen: Counter = Counter()
    for epoch in range(25):
        cells = examples.varied(0, epoch).cells(np.arange(40))
        assert cells.shape == (40, 4) and all(len(set(own)) == 4 for own in cells.tolist())
        seen.update(cells.ravel().tolist())
    names = {table.reader.cells[k] for k in seen}
    assert names == set(made.TRAIN)  # all of them, and no other
    assert min(seen.values()) > 0.7 * max(seen.values())


def test_draws_are_a_pure_function_of_seed_and_epoch(table):
    examples = table.examples("train")
    one, two = (examples.varied(1, 4).batch(np.array(k)) for k in ([3, 9, 5], [5, 3]))
    assert all(np.array_equal(one[k][[2, 0]], two[k], equal_nan=k == "target") for k in one)
    for other in ((1, 5), (2, 4)):
        assert not np.array_equal(
            examples.varied(1, 4).cells(np.arange(40)), examples.varied(*other).cells(np.arange(40))
        )
    everything = examples.cells(np.arange(40))  # what the fingerprint of the examples reads
    assert set(everything.ravel()) == set(range(20))


@pytest.mark.parametrize("size", [1, 3, 4, 100])
def test_held_out_parts_show_each_pair_of_region_and_cell_once(table, size):
    for part, chrom, cells in (
        *(("validation", "chr3", made.VALIDATION), ("cross_cell", "chr1", made.TEST)),
        *(("cross_region", "chr2", made.TRAIN), ("cross_both", "chr2", made.TEST)),
    ):
        examples = table.examples(part, cells_at_once=size)
        assert examples.varied(0, 1) is examples and set(examples.chroms) == {chrom}
        places = examples.cells(np.arange(len(examples)))
        starts = examples.region_starts.repeat(len(examples) // len(examples.region_starts))
        pairs = Counter(
            (int(start), examples.reader.cells[k])
            for start, own in zip(starts, places, strict=True)
            for k in own
            if k >= 0
        )
        regions = GENOME.length(chrom) // TILE
        assert len(pairs) == regions * len(cells) and set(pairs.values()) == {1}
        assert {cell for _, cell in pairs} == set(cells)
    assert len(examples.names(np.arange(2))) == 2


def test_masked_and_missing_entries_are_nan(table):
    first = table.examples("cross_cell").reader.target("chr1", 0, [0, 1])
    assert np.isnan(first[:, 5:7]).all() and np.isnan(first[1, :, 1]).all()
    assert np.isfinite(np.delete(first[0], [5, 6], axis=0)).all()
    assert np.isnan(table.reader.target("chr2", TILE, [0])[0, 0]).all()  # bin 41 * 16


def test_a_masked_entry_changes_neither_loss_nor_gradient(table):
    net = made.SPEC.build(table.settings)
    batch = {k: torch.from_numpy(v) for k, v in table.examples("validation").batch([0, 1]).items()}
    batch["target"][0, 1, 3] = torch.nan
    found = []
    for value in (torch.nan, 1e4):
        own = {**batch, "target": batch["target"].clone()}
        own["target"][0, 1, 3] = value
        own["valid"] = ~batch["target"].isnan()
        net.zero_grad()
        loss = made.SPEC.loss(net(*(own[k] for k in made.SPEC.inputs)), own)
        loss.backward()
        found.append([loss.item(), *(float(w.grad.abs().sum()) for w in net.parameters())])
    assert found[0] == found[1]


def test_loops_of_a_batch_are_the_rows_of_the_slow_way(files, tmp_path):
    rng, paths = np.random.default_rng(0), []
    for cell in made.TRAIN[:15]:
        first = rng.integers(0, 40 * BINS - 7, 300) * BIN
        second = first + rng.integers(1, 5, 300) * BIN
        anchors = {"start1": first, "end1": first + 256, "start2": second, "end2": second + 256}
        loops = pd.DataFrame({"chrom": "chr1", **anchors})
        Loops.of(loops.assign(q=1e-5), GENOME, BIN).save(path := tmp_path / f"{cell}.npz")
        paths.append(str(path))
    table = RegionTable.read(made.settings(), {**files, "loops": paths})
    examples = table.examples("train").varied(0, 0)
    cells, batch = examples.cells(np.arange(6)), examples.batch(np.arange(6))
    rows = rows_of_batch(torch.from_numpy(batch["loops"]), 4, BINS, diagonal=1)
    assert rows.sum() > 20
    for k in range(6):
        region = ("chr1", int(examples.region_starts[k]))
        for c, cell in enumerate(cells[k]):
            wanted = np.zeros((BINS, BINS))
            if cell < 15:
                wanted = contact_rows(table.reader.loops[int(cell)], region, BINS, near=1)
            if examples.drawn.reverse[k]:
                wanted = wanted[::-1, ::-1]
            np.testing.assert_allclose(rows[k, c].numpy(), wanted, atol=1e-6)


# ---- what belongs together -----------------------------------------------------------------------


def test_settings_are_completed_by_what_the_data_tell(files):
    found = completed(made.settings(seq_bp=None, signals=None), files)
    told = json.loads(Path(files["motif_facts"]).read_text())
    assert found["tfs"] == told["tfs"] and found["motif_step"] == told["step"]
    assert (found["seq_bp"], found["bin_bp"], found["signals"]) == (TILE, BIN, list(made.SIGNALS))
    assert set(found[BELONGS]) == {"assembly", "motifs", "reference", "scales"}
    assert settings_from(found, files) == found
    assert made.SPEC.build(found).cfg.tfs == made.FACTORS
    other = {"examples": "windows"}
    assert completed(other, {}) is other


def test_weights_refuse_factors_in_another_order_or_another_motif_set(files, tmp_path):
    known, motifs = settings_from(made.settings(), files), made.made_motifs()
    order = motifs.tfs[1:] + motifs.tfs[:1]
    for other in (motifs.of(order), made.made_motifs(seed=5)):
        own = made.write_block(files, tmp_path, other)
        with pytest.raises(InputError, match="motif set or its rule is another one; take the data"):
            RegionTable.read(known, own)
    own = {**files, "reference": str(tmp_path / "r.json"), "vectors": str(tmp_path / "v.npz")}
    made.write_cells(own, made.made_expression().loc[list(order)])
    with pytest.raises(InputError) as told:
        RegionTable.read(known, own)
    assert "tfs stand in another order: number 1 is T1, not T0" in str(told.value)
    assert "reference of expression" in str(told.value)


def test_weights_refuse_another_genome_other_scales_and_sizes(files, tmp_path):
    known = settings_from(made.settings(), files)
    with pytest.raises(InputError, match="genome is toy, not hg38"):
        settings_from({**known, "assembly": "hg38"} | {BELONGS: {}}, files)
    scales = Scales(made.SIGNALS, ("depth",) * 2, (None,) * 2)
    scales.save(tmp_path / "scales.json")
    with pytest.raises(InputError, match="scale of the signals"):
        settings_from(known, {**files, "scales": str(tmp_path / "scales.json")})
    with pytest.raises(InputError) as told:
        settings_from({**known, "bin_bp": 64, "motif_step": 0.2, "tfs": 5}, files)
    assert all(word in str(told.value) for word in ("bin_bp: 64", "motif_step: 0.2", "tfs: 5"))
    with pytest.raises(InputError, match="signal 'CTCF'"):
        settings_from({**known, "signals": ["CTCF"]}, files)
    with pytest.raises(InputError, match="is toy"):
        manifest = tmp_path / "manifest.json"
        Genome("toy2", GENOME.chromosomes, GENOME.lengths).save(manifest, [BIN])
        settings_from(known, {**files, "manifest": str(manifest)})


def test_fewer_factors_and_signals_in_another_order_are_chosen_by_name(files, tmp_path, table):
    own = {**files, "reference": str(tmp_path / "r.json"), "vectors": str(tmp_path / "v.npz")}
    made.write_cells(own, made.made_expression().loc[["T6", "T0", "T3"]])
    names = made.SIGNALS[::-1]
    other = RegionTable.read(made.settings(signals=list(names)), own)
    assert other.settings["tfs"] == ["T6", "T0", "T3"]
    one, two = (t.examples("validation").batch(np.arange(3)) for t in (table, other))
    assert np.array_equal(two["motifs"], one["motifs"][..., [6, 0, 3]])
    np.testing.assert_array_equal(two["target"], one["target"][..., ::-1])


def test_cells_on_two_sides_and_leaking_references_are_refused(files, tmp_path):
    cells = copy.deepcopy(made.settings()["cells"])
    cells["test"] = [*cells["test"], "train3"]
    with pytest.raises(InputError, match="cell 'train3' is there 2 times"):
        RegionTable.read(made.settings(cells=cells), files)
    with pytest.raises(InputError, match="no training cell"):
        RegionTable.read(made.settings(cells={**cells, "train": []}), files)
    own = {**files, "reference": str(tmp_path / "r.json"), "vectors": str(tmp_path / "v.npz")}
    made.write_cells(own, made.made_expression(), [*made.TRAIN, "test2"])
    with pytest.raises(InputError, match="made with test2, which is held out"):
        RegionTable.read(made.settings(), own)
    cells = {"train": ["nobody"], "validation": ["valid0"], "test": []}
    with pytest.raises(InputError, match="nobody"):
        RegionTable.read(made.settings(cells=cells), files)


def test_cells_may_stand_in_a_key_each_and_test_cells_may_be_none(files):
    keys = {"cells": None, "train_cells": made.TRAIN, "validation_cells": ["valid1"]}
    table = RegionTable.read(made.settings(**keys, test_cells=[]), files)
    assert len(table.examples("validation")) == 6 and table.cells("cross_cell") == []
    with pytest.raises(InputError, match="there is no cell"):
        table.examples("cross_cell")
    with pytest.raises(InputError, match="'test' is none of"):
        table.examples("test")


def test_without_validation_cells_training_cells_stop_the_training_on_new_regions(files):
    cells = {"train": made.TRAIN, "validation": [], "test": []}
    examples = RegionTable.read(made.settings(cells=cells), files).examples("validation")
    assert len(examples) == 6 * 5 and set(examples.chroms) == {"chr3"}
    assert set(examples.groups.ravel()) == set(range(20))


def test_regions_that_were_not_scanned_are_refused(files, tmp_path):
    bed = tmp_path / "some.bed"
    bed.write_text(f"chr1\t0\t{TILE * 39}\nchr2\t0\t{TILE * 8}\nchr3\t0\t{TILE * 6}\n")
    own = made.write_block(files, tmp_path, made.made_motifs(), bed)
    with pytest.raises(InputError, match=f"1 regions were not scanned.*chr1:{TILE * 39}"):
        RegionTable.read(made.settings(), own)


# ---- with the trainer ----------------------------------------------------------------------------


class Watched:
    """Examples that ask the process to end before a batch of an epoch."""

    def __init__(self, examples, moment: int, seen: list):
        self.examples, self.moment, self.seen = examples, moment, seen

    def __getattr__(self, name):
        return getattr(self.examples, name)

    def __len__(self) -> int:
        return len(self.examples)

    def varied(self, seed: int, epoch: int):
        return Watched(self.examples.varied(seed, epoch), self.moment, self.seen)

    def batch(self, indices):
        if getattr(self.examples, "drawn", None):
            self.seen.append(1)
            if len(self.seen) == self.moment:
                os.kill(os.getpid(), signal.SIGTERM)
        return self.examples.batch(indices)


def fit(folder: Path, table: RegionTable, moment: int = 0, prefetch: int = 0) -> list:
    train = Watched(table.examples("train"), moment, [])
    outs = {"weights_out": folder / "weights.pt", "history_out": folder / "history.tsv"}
    return training.fit(
        *(made.SPEC, table.settings, train, table.examples("validation"), folder / "run"),
        **outs, device="cpu", progress=False, prefetch=prefetch, threads=1,
    )  # fmt: skip


@pytest.mark.parametrize("moment", [3, 14])
def test_an_interrupted_training_ends_with_the_same_bits(table, tmp_path, moment):
    straight = fit(tmp_path / "a", table)
    with pytest.raises(Preempted):
        fit(tmp_path / "b", table, moment)
    again = fit(tmp_path / "b", table, prefetch=2)
    one, two = (checkpoint.load(tmp_path / n / "weights.pt") for n in "ab")
    assert all(torch.equal(one["state_dict"][k], two["state_dict"][k]) for k in one["state_dict"])
    assert one["settings"] == two["settings"] and one["settings"]["tfs"] == table.settings["tfs"]
    for a, b in zip(straight, again, strict=True):
        assert a["train_loss"] == b["train_loss"] and a["validation_loss"] == b["validation_loss"]
