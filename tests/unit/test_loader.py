"""Examples: order, shares of processes, prefetch, and genes read from the run's files."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from epiloom.learn import loader
from epiloom.learn.examples import PromoterTable
from epiloom.learn.kinds import open_table
from epiloom.learn.loader import feed, order, updates
from epiloom.plan.errors import InputError
from tests.models.small import genes, settings

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


def write_genes(folder: Path, number: int = 40, marks: int = 1, seed: int = 0) -> dict:
    """Files of a run: genes on chr1 (validation), chr2 (test), chr3 and chr4 (training)."""
    rng = np.random.default_rng(seed)
    names = [f"ENSG{k:04d}" for k in range(number)]
    chroms = [f"chr{1 + 4 * k // number}" for k in range(number)]
    pd.DataFrame({"gene_id": names, "chrom": chroms, "tss": range(number)}).to_csv(
        folder / "genes.tsv", sep="\t", index=False
    )
    rpkm = rng.gamma(1.0, 5.0, size=number)
    pd.DataFrame({"gene_id": names, "E003": rpkm[::-1], "E116": rpkm}).to_csv(
        folder / "expression.tsv", sep="\t", index=False
    )
    features = []
    for k in range(marks):
        signal = rng.gamma(1.0, 2.0, size=(number, 400)).astype(np.float32)
        np.save(folder / f"mark{k}.npy", signal)
        features.append(folder / f"mark{k}.npy")
    return {
        "genes": folder / "genes.tsv",
        "expression": folder / "expression.tsv",
        "features": features,
    }


# ---- order and shares ----------------------------------------------------------------------------


def test_every_epoch_visits_all_examples_in_its_own_seeded_order():
    one, two = order(100, 7, 0), order(100, 7, 1)
    assert sorted(one) == sorted(two) == list(range(100))
    assert not np.array_equal(one, two) and not np.array_equal(one, order(100, 8, 0))
    assert np.array_equal(one, order(100, 7, 0))


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize(
    ("examples", "batch", "accumulate"), [(161, 16, 1), (50, 8, 3), (5, 16, 2)]
)
def test_shares_of_all_processes_make_up_each_update(examples, batch, accumulate, world):
    visits = order(examples, 1, 0)
    plans = [updates(visits, batch, accumulate, rank, world) for rank in range(world)]
    seen = []
    for together in zip(*plans, strict=True):
        assert len({len(pieces) for pieces in together}) == 1  # same number of passes everywhere
        assert abs(sum(p.weight for pieces in together for p in pieces) - 1) < 1e-12
        for k in range(len(together[0])):
            seen += [i for pieces in together for i in pieces[k].indices if pieces[k].weight]
    assert seen == list(visits)


def test_the_rest_of_an_epoch_is_what_an_interrupted_one_left():
    whole = updates(order(50, 3, 2), 8, 1)
    rest = updates(order(50, 3, 2), 8, 1)[4:]
    assert [p[0].indices.tolist() for p in whole[4:]] == [p[0].indices.tolist() for p in rest]


# ---- feeding -------------------------------------------------------------------------------------


def test_prefetch_gives_the_same_batches_in_the_same_order():
    examples = genes(30, 0)
    pieces = [piece for (piece,) in updates(order(30, 0, 0), 7, 1)]
    plain = list(feed(examples, pieces, CPU, depth=0))
    for depth in (1, 2, 50):
        ahead = list(feed(examples, pieces, CPU, depth=depth))
        assert len(ahead) == len(plain) == 5
        for (_, one), (_, other) in zip(plain, ahead, strict=True):
            assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_fault_in_the_thread_reaches_the_caller_at_its_batch():
    class Broken:
        def batch(self, indices):
            if 3 in indices:
                raise KeyError("three")
            return {"x": np.zeros(len(indices), np.float32)}

    pieces = [loader.Piece(np.array([k]), 1.0) for k in range(6)]
    batches = feed(Broken(), pieces, CPU, depth=2)
    assert [len(next(batches)[1]["x"]) for _ in range(3)] == [1, 1, 1]
    with pytest.raises(KeyError, match="three"):
        next(batches)


def test_leaving_early_ends_the_thread():
    before = threading.active_count()
    batches = feed(genes(30, 0), [loader.Piece(np.arange(2), 1.0)] * 100, CPU, depth=3)
    next(batches)
    batches.close()
    assert threading.active_count() == before


# ---- genes of a run ------------------------------------------------------------------------------


def test_window_transform_and_target(tmp_path):
    files = write_genes(tmp_path, marks=2)
    run = settings(marks=["A", "B"])
    raw = [np.load(path) for path in files["features"]]
    rpkm = pd.read_csv(files["expression"], sep="\t")["E116"].to_numpy()
    test = open_table("promoter_bins", run, files).examples("test")
    batch = test.batch(np.array([3, 0]))
    assert batch["marks"].shape == (2, 2, 60) and batch["marks"].dtype == np.float32
    np.testing.assert_allclose(batch["marks"][0, 1], np.log(1 + raw[1][13, 170:230]), rtol=1e-6)
    np.testing.assert_allclose(batch["expression"], np.log2(rpkm[[13, 10]] + 1), rtol=1e-6)
    assert batch["expression"].dtype == np.float32
    assert test.names(np.array([3, 0])) == ["ENSG0013", "ENSG0010"] and set(test.chroms) == {"chr2"}
    for name, function in (("arcsinh", np.arcsinh), ("none", lambda x: x)):
        wider = settings(**{**run, "transform": name, "window_bp": 40000})
        other = open_table("promoter_bins", wider, files).examples("test")
        np.testing.assert_allclose(other.marks[3, 1], function(raw[1][13]), rtol=1e-6)


def test_one_mark_alone_can_be_given_as_a_single_path(tmp_path):
    files = write_genes(tmp_path)
    alone = {**files, "features": str(files["features"][0])}
    one, other = (PromoterTable.read(settings(), f).examples("test") for f in (files, alone))
    assert np.array_equal(one.marks, other.marks)


def test_genes_with_missing_bins_are_dropped_or_filled_as_asked(tmp_path, caplog):
    files = write_genes(tmp_path)
    signal = np.load(files["features"][0])
    signal[0, 200] = np.nan  # one of 60 bins, in the window
    signal[1, 170:200] = np.nan  # half of them
    signal[2, 10] = np.nan  # outside the window
    np.save(files["features"][0], signal)
    with caplog.at_level("INFO", logger="epiloom"):
        strict = PromoterTable.read(settings(), files)
    assert list(strict.gene_ids[:2]) == ["ENSG0002", "ENSG0003"] and len(strict.gene_ids) == 38
    assert "2 left out for missing bins" in caplog.text
    loose = PromoterTable.read(settings(max_missing=0.1), files)
    assert len(loose.gene_ids) == 39
    marks = loose.examples("validation").marks
    assert marks[0, 0, 30] == 0 and np.isfinite(marks).all()


def test_a_value_the_transform_cannot_take_is_not_hidden(tmp_path):
    files = write_genes(tmp_path)
    signal = np.load(files["features"][0])
    signal[0, 200] = -5.0
    np.save(files["features"][0], signal)
    with np.errstate(invalid="ignore"):
        marks = PromoterTable.read(settings(), files).examples("validation").marks
    assert np.isnan(marks).sum() == 1


def test_genes_without_expression_are_dropped(tmp_path):
    files = write_genes(tmp_path)
    table = pd.read_csv(files["expression"], sep="\t")
    table.loc[5, "E116"] = np.nan
    table.to_csv(files["expression"], sep="\t", index=False)
    assert "ENSG0005" not in PromoterTable.read(settings(), files).gene_ids


def test_shuffling_permutes_labels_over_all_genes_by_the_seed(tmp_path):
    files = write_genes(tmp_path, number=400)
    plain, mixed, again, other = (
        PromoterTable.read(settings(shuffled=shuffled, seed=seed), files)
        for shuffled, seed in ((False, 1), (True, 1), (True, 1), (True, 2))
    )
    assert np.array_equal(mixed.expression, again.expression)
    assert not np.array_equal(mixed.expression, other.expression)
    assert sorted(mixed.expression) == sorted(plain.expression)
    assert np.mean(mixed.expression == plain.expression) < 0.02
    # labels move between the parts, the signal stays with its gene
    assert not np.isin(mixed.examples("test").expression, plain.examples("test").expression).all()
    assert np.array_equal(mixed.examples("test").marks, plain.examples("test").marks)


def test_files_that_do_not_fit_together_are_refused(tmp_path):
    files = write_genes(tmp_path, marks=2)
    np.save(files["features"][1], np.zeros((39, 400), np.float32))
    with pytest.raises(InputError) as refused:
        PromoterTable.read(settings(marks=["A", "B", "C"]), files)
    assert "2 files for the 3 marks A, B, C" in str(refused.value)
    assert "shape (39, 400) instead of (40, 400)" in str(refused.value)
    with pytest.raises(InputError, match="cell E999 has no column; there are E003, E116"):
        PromoterTable.read(settings(cell="E999"), write_genes(tmp_path))
    with pytest.raises(InputError, match="window_bp"):
        PromoterTable.read(settings(window_bp=6100), write_genes(tmp_path))
    files = write_genes(tmp_path)
    pd.read_csv(files["expression"], sep="\t").iloc[::-1].to_csv(
        files["expression"], sep="\t", index=False
    )
    with pytest.raises(InputError, match="gene_id differs from the gene table"):
        PromoterTable.read(settings(), files)
    with pytest.raises(InputError, match="'other_bins' is no kind of examples"):
        open_table("other_bins", settings(), files)


def test_the_split_is_the_same_under_every_hash_seed(tmp_path):
    files = {k: str(v) for k, v in write_genes(tmp_path).items() if k != "features"}
    files["features"] = str(tmp_path / "mark0.npy")
    code = (
        "import json, sys\n"
        "from epiloom.learn.examples import PromoterTable\n"
        "t = PromoterTable.read(*json.loads(sys.argv[1]))\n"
        "print([(p, list(t.gene_ids[t.rows(p)])) for p in ('train', 'validation', 'test')])"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code, json.dumps([settings(), files])],
            **{"cwd": ROOT, "capture_output": True, "text": True, "check": True},
            env={"PYTHONHASHSEED": str(seed), "PYTHONPATH": str(ROOT)},
        ).stdout
        for seed in (1, 2)
    }
    assert len(printed) == 1 and "ENSG0000" in printed.pop()
