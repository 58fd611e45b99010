"""The promoter CNN: layers, import of Keras weights, learning, over-fitting of real genes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import models
from epiloom.learn import evaluation
from epiloom.learn.examples import PromoterBins
from models.promoter_cnn.model import SameConv
from tests.golden.__main__ import compare, promoter_cnn
from tests.models.small import fit, genes, settings

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(__file__).resolve().parents[3] / "shared"
GOLDEN = ROOT / "tests/golden/promoter_cnn.json"
SPEC = models.load("promoter_cnn")


def keras_arrays(filters, dense, widths, marks, positions, seed=3):
    """Random arrays in Keras layout for a network of these sizes."""
    rng = np.random.default_rng(seed)
    sizes_c, sizes_d = [marks, *filters], [positions * filters[-1], *dense, 1]
    found = {}
    for k in range(3):
        found[f"conv{k + 1}.kernel"] = rng.normal(size=(widths[k], sizes_c[k], sizes_c[k + 1]))
        found[f"conv{k + 1}.bias"] = rng.normal(size=sizes_c[k + 1])
        found[f"dense{k + 1}.kernel"] = rng.normal(size=(sizes_d[k], sizes_d[k + 1]))
        found[f"dense{k + 1}.bias"] = rng.normal(size=sizes_d[k + 1])
    return {name: array.astype(np.float32) / 4 for name, array in found.items()}


def slow_keras(weights, signal_LM):
    """The original network on one gene, written with loops in Keras' own layout."""

    def pooled(x_LC, width):
        return np.array(
            [x_LC[i : i + width].max(0) for i in range(0, len(x_LC) - width + 1, width)]
        )

    x = signal_LM.astype(np.float64)
    for layer, pool in (("conv1", 4), ("conv2", 2), ("conv3", 2)):
        kernel = weights[f"{layer}.kernel"].astype(np.float64)
        width = len(kernel)
        padded = np.pad(x, (((width - 1) // 2, width // 2), (0, 0)))
        y = [np.einsum("wi,wio->o", padded[i : i + width], kernel) for i in range(len(x))]
        x = pooled(np.maximum(np.array(y) + weights[f"{layer}.bias"], 0), pool)
    x = x.reshape(-1)
    for layer in ("dense1", "dense2"):
        x = np.maximum(x @ weights[f"{layer}.kernel"] + weights[f"{layer}.bias"], 0)
    return (x @ weights["dense3.kernel"] + weights["dense3.bias"])[0]


def test_layers_have_the_shapes_of_the_paper():
    net = SPEC.build({})
    assert sum(w.numel() for w in net.parameters()) == 2_619_126
    assert [tuple(layer.conv.weight.shape) for layer in net.convs] == [
        (175, 1, 8),
        (350, 175, 4),
        (700, 350, 4),
    ]
    assert [tuple(layer.weight.shape) for layer in net.dense] == [(625, 2100), (125, 625), (1, 125)]
    assert net.dense[0].bias.abs().max() == 0  # Keras starts with zero biases
    limit = (6 / (2100 + 625)) ** 0.5  # Glorot
    assert 0.99 * limit < net.dense[0].weight.abs().max() <= limit


def test_an_even_kernel_pads_one_more_on_the_right():
    conv = SameConv(1, 1, 8)
    torch.nn.init.zeros_(conv.conv.bias)
    conv.conv.weight.data = torch.arange(8.0).reshape(1, 1, 8)
    impulse = torch.zeros(1, 1, 20)
    impulse[0, 0, 10] = 1
    out = conv(impulse)[0, 0]
    assert out[6:14].tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    assert out.shape == (20,) and out[:6].abs().sum() == 0 and out[14:].abs().sum() == 0


def test_the_stored_output_of_the_original_is_reproduced():
    model, status, difference, fine = compare(GOLDEN)
    assert (model, status, fine) == ("promoter_cnn", "ok", True) and float(difference) < 2e-5


@pytest.mark.parametrize(
    "sizes",
    [
        ([5, 6, 7], [9, 4], (8, 4, 4), 3, 3),
        ([4, 3, 8], [5, 6], (5, 3, 2), 1, 2),
        ([4, 3, 8], [5, 6], (8, 4, 4), 2, 5),
    ],
)
def test_keras_weights_of_any_size_give_the_output_of_a_slow_reference(sizes):
    filters, dense, widths, marks, positions = sizes
    arrays = keras_arrays(filters, dense, widths, marks, positions)
    chosen, state = SPEC.import_published(arrays)
    assert len(chosen["marks"]) == marks and chosen["filters"] == filters
    net = SPEC.build(chosen).eval()
    net.load_state_dict(state)
    bins = chosen["window_bp"] // 100
    signal = np.random.default_rng(5).uniform(0, 4, (3, bins, marks)).astype(np.float32)
    with torch.no_grad():
        ours = net(torch.from_numpy(signal).transpose(1, 2)).numpy()
    theirs = [slow_keras(arrays, gene) for gene in signal]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_foreign_weights_are_refused():
    arrays = keras_arrays([5, 6, 7], [9, 4], (8, 4, 4), 1, 3)
    with pytest.raises(ValueError, match="conv1.bias missing or new"):
        SPEC.import_published({k: v for k, v in arrays.items() if k != "conv1.bias"})
    with pytest.raises(ValueError, match="do not follow one another"):
        SPEC.import_published({**arrays, "dense2.kernel": np.zeros((3, 4), np.float32)})


def test_the_golden_program_prints_a_line_per_file_and_fails_on_a_difference(tmp_path):
    stored = json.loads(GOLDEN.read_text())
    stored["output"][3] += 0.001
    (tmp_path / "wrong.json").write_text(json.dumps(stored))
    (tmp_path / "later.json").write_text('{"model": "not_yet", "seed": 1, "output": []}')
    small = keras_arrays([5, 6, 7], [9, 4], (8, 4, 4), 2, 3)
    other = {
        "model": "promoter_cnn",
        "seed": 4,
        "keras_weights": [[name, list(array.shape)] for name, array in small.items()],
        "output": [0.0] * 5,
    }
    other["output"] = promoter_cnn(other).tolist()  # other sizes, two marks, five genes
    (tmp_path / "other.json").write_text(json.dumps(other))
    run = subprocess.run(
        [sys.executable, "-m", "tests.golden", GOLDEN, *sorted(tmp_path.glob("*.json"))],
        **{"cwd": ROOT, "capture_output": True, "text": True},
    )
    lines = run.stdout.splitlines()
    assert run.returncode == 1, run.stderr
    assert lines[0].startswith("promoter_cnn.json promoter_cnn ok ")
    assert lines[1] == "later.json not_yet not built -"
    assert lines[2] == "other.json promoter_cnn ok 0.0e+00"
    assert lines[3].startswith("wrong.json promoter_cnn differs 1.0e-03")


def test_a_known_function_of_the_bins_is_learned_and_shuffled_labels_are_not(tmp_path):
    run = settings(filters=[16, 24, 32], dense=[32, 16], epochs=12, batch=32)
    run["optimizer"]["learning_rate"] = 0.002
    train, valid, test = genes(1200, 0), genes(150, 1), genes(2000, 2)
    fit(tmp_path / "real", run, train, valid)
    net = evaluation.load_model(SPEC, tmp_path / "real/weights.pt")
    assert np.corrcoef(evaluation.predict(SPEC, net, test, "cpu"), test.expression)[0, 1] > 0.9

    rng = np.random.default_rng(7)
    parts = [
        PromoterBins(p.marks, rng.permutation(p.expression), p.gene_ids, p.chroms)
        for p in (train, valid, test)
    ]
    fit(tmp_path / "shuffled", {**run, "shuffled": True, "epochs": 4}, *parts[:2])
    net = evaluation.load_model(SPEC, tmp_path / "shuffled/weights.pt")
    r = np.corrcoef(evaluation.predict(SPEC, net, test, "cpu"), parts[2].expression)[0, 1]
    assert abs(r) < 0.1


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="shared data not here")
def test_single_mark_models_can_learn_64_real_genes_by_heart(tmp_path):
    folder = SHARED / "data/roadmap_e003"
    table = pd.read_csv(folder / "golden_promoter_6kb_100bp.tsv.gz", sep="\t")
    rpkm = pd.read_csv(folder / "genes.tsv", sep="\t").set_index("gene_id")["log2_rpkm_plus1"]
    for mark, rows in table.groupby("mark"):
        rows = rows.iloc[:64]
        bins = rows.filter(like="bin").to_numpy(np.float32)[:, None, :]
        y = rpkm.loc[rows["gene_id"]].to_numpy(np.float32)
        examples = PromoterBins(bins, y, list(rows["gene_id"]), np.full(64, "chr1", object))
        run = settings(filters=[32, 64, 96], dense=[96, 32], dropout=[0.0, 0.0], epochs=40)
        run.update(batch=16, schedule={"name": "constant"}, stop_patience=0)
        run["optimizer"]["learning_rate"] = 0.002
        fit(tmp_path / mark, run, examples, examples)
        net = evaluation.load_model(SPEC, tmp_path / mark / "weights.pt")
        mse = np.mean((evaluation.predict(SPEC, net, examples, "cpu") - y) ** 2)
        assert mse < 0.1 * y.var(), mark
