"""Chromoformer: the shortcut against the published form, import, invariances, learning."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import pearsonr
from sklearn.metrics import roc_auc_score

import models
from models.chromoformer import published
from tests.golden.__main__ import compare, original_weights
from tests.models import chromoformer_full as full
from tests.models import e003
from tests.models.chromoformer_full import DEEP, SMALL, made_up

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
DATA = SHARED / "data/roadmap_e003"
real = pytest.mark.skipif(not DATA.exists(), reason="shared data not here")
SPEC = models.load("chromoformer")


@pytest.fixture(scope="module")
def genes():
    return e003.genes(DATA)


@pytest.fixture(scope="module")
def real_batch():
    return e003.batch(DATA)


def run(net, batch):
    return net(*(batch[key] for key in SPEC.inputs))


def build(weights):
    """Our network with weights under published names."""
    settings, state = SPEC.import_published(weights)
    net = SPEC.build(settings)
    net.load_state_dict(state)
    return net


def rows(batch, chosen):
    return {key: tensor[chosen] for key, tensor in batch.items()}


def gradients(weights, batch, outputs):
    """Output and gradients by published name: of the full form, and of ours."""
    grown = {name: value.clone().requires_grad_() for name, value in weights.items()}
    theirs = full.forward(grown, batch)
    SPEC.loss(theirs if outputs == 2 else theirs[:, 0], batch).backward()
    net = build(weights)
    ours = run(net, batch)
    SPEC.loss(ours, batch).backward()
    by_name = dict(net.named_parameters())
    layers = {name: published._layers(weights, name) for name in published.MODULES}
    names = dict(published._names(layers))
    pairs = {name: (grown[name].grad, by_name[our]) for name, our in names.items()}
    return theirs.detach().squeeze(-1), ours.detach(), pairs


def check_same(weights, batch, outputs):
    theirs, ours, pairs = gradients(weights, batch, outputs)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    for name, (reference, parameter) in pairs.items():
        if reference is None:
            assert not parameter.requires_grad and parameter.grad is None, name
            continue
        scale = max(float(reference.norm()), 1e-6)  # below it a gradient is rounding
        assert float((parameter.grad - reference).norm()) < 1e-4 * scale, name
    return pairs


# ---- sizes and first weights ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marks", "objective", "number"),
    [
        (7, "classification", 5_342_672),
        (7, "regression", 5_342_543),
        (2, "classification", 5_338_832),
        (2, "regression", 5_338_703),
        (1, "classification", 5_338_064),
        (1, "regression", 5_337_935),
    ],
)
def test_parameter_counts_are_the_published_ones(marks, objective, number):
    net = SPEC.build({"marks": ["m"] * marks, "objective": objective})
    assert sum(w.numel() for w in net.parameters()) == number
    unused = [w for w in net.parameters() if not w.requires_grad]
    assert (len(unused), sum(w.numel() for w in unused)) == (36, 1086)


@pytest.mark.parametrize("outputs", [1, 2])
def test_first_weights_are_drawn_in_the_published_order(outputs):
    objective = published.OBJECTIVES[outputs]
    torch.manual_seed(123)
    ours = SPEC.build({"marks": ["m"] * 7, "objective": objective}).state_dict()
    drawn = SPEC.import_published(full.draw(123, 7, outputs))[1]
    assert len(drawn) == 370
    assert [key for key in drawn if not torch.equal(drawn[key], ours[key])] == []


@real
def test_untrained_classifier_reproduces_the_published_column(genes, real_batch):
    torch.manual_seed(123)
    net = SPEC.build({"marks": list(e003.MARKS), "objective": "classification"}).eval()
    with torch.no_grad():
        found = run(net, real_batch)[:, 1].sigmoid().numpy()
    np.testing.assert_allclose(found, genes["untrained_clf_sigmoid_logit1"], rtol=0, atol=1e-6)
    assert roc_auc_score(genes["label"], found) == pytest.approx(0.5721, abs=1e-4)


@real
def test_the_slow_reader_reproduces_all_680_golden_rows(genes, real_batch):
    golden = pd.read_csv(DATA / "golden_region_bins.tsv", sep="\t")
    assert len(golden) == 680
    index = {gene: b for b, gene in enumerate(genes["gene_id"])}
    for _, row in golden.iterrows():
        b, slot = index[row["gene_id"]], row["slot"]
        for size in e003.BINS_BP:
            key = f"promoter_{size}" if slot == 0 else f"partners_{size}"
            signal = real_batch[key][b] if slot == 0 else real_batch[key][b, slot - 1]
            length = 40_000 if slot == 0 else int(real_batch["lengths"][b, slot - 1])
            n, left = row[f"n_bins_{size}"], row[f"left_pad_{size}"]
            _, found_n, found_left = e003.binned(np.zeros((length, 1)), size, False)
            assert (found_n, found_left) == (n, left)
            assert signal[:left].abs().sum() == 0 and signal[left + n :].abs().sum() == 0
            sums = row[[f"{mark}_sum_{size}" for mark in e003.MARKS]].to_numpy(float)
            np.testing.assert_allclose(signal.double().sum(0), sums, rtol=0, atol=1e-4)


# ---- shortcut = published form -------------------------------------------------------------------


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("sizes", [SMALL, DEEP], ids=["small", "deep"])
def test_shortcut_equals_full_form_at_any_size(sizes, outputs):
    check_same(full.draw(5, 3, outputs, sizes), made_up([0, 1, 8, 3]), outputs)


@real
def test_shortcut_equals_full_form_at_paper_size_on_real_genes(genes, real_batch):
    minus = (genes["strand"] == "-").to_numpy()
    partners = genes["n_neighbors"].to_numpy()
    chosen = [
        int(np.flatnonzero((partners == p) & (minus == strand))[0])
        for p, strand in [(0, True), (1, True), (8, False), (8, True)]
    ]
    check_same(full.draw(1, 7, 1), rows(real_batch, chosen), 1)


def test_a_batch_in_which_no_gene_has_a_partner():
    weights = full.draw(5, 3, 1, SMALL)
    pairs = check_same(weights, made_up([0, 0]), 1)
    # zeros, not nothing: several devices must agree on which weights have gradients
    assert all(w.grad is not None for _, w in pairs.values() if w.requires_grad)
    batch = made_up([0, 0])
    without = {k: v[:, :0] if k.startswith(("part", "len", "sc")) else v for k, v in batch.items()}
    with torch.no_grad():
        torch.testing.assert_close(run(build(weights), batch), run(build(weights), without))


# ---- invariances ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_net():
    return build(full.draw(5, 3, 1, SMALL)).eval()


PARTNERS = ("partners_2000", "partners_500", "partners_100", "lengths", "scores")


@torch.no_grad()
def test_order_of_partners_and_gaps_among_them_do_not_matter(small_net):
    batch = made_up([0, 1, 8, 3])
    order = torch.tensor([5, 2, 7, 0, 1, 6, 4, 3])
    moved = {k: v[:, order] if k in PARTNERS else v for k, v in batch.items()}
    torch.testing.assert_close(run(small_net, moved), run(small_net, batch), rtol=0, atol=1e-5)


@torch.no_grad()
def test_values_in_padding_and_unused_slots_do_not_matter(small_net):
    batch = made_up([0, 1, 8, 3])
    dirty = dict(batch)
    for size in e003.BINS_BP:
        outside = full.masks(batch, size)[1][:, :, 0, 0, :, None]
        dirty[f"partners_{size}"] = batch[f"partners_{size}"].masked_fill(outside, 77.0)
    dirty["scores"] = batch["scores"].masked_fill(batch["lengths"] == 0, 9.0)
    assert torch.equal(run(small_net, dirty), run(small_net, batch))


@torch.no_grad()
def test_signal_length_and_score_of_a_partner_do_matter(small_net):
    batch = made_up([3])
    before = run(small_net, batch)
    for key in ("partners_100", "lengths", "scores"):
        other = {**batch, key: batch[key] // 2 if key == "lengths" else batch[key] * 2}
        assert (run(small_net, other) - before).abs() > 1e-6, key


@torch.no_grad()
@pytest.mark.parametrize("partners", [0, 1, 5])
def test_variants_of_one_promoter_share_their_partners(small_net, partners):
    gene = [made_up([partners])[key] for key in SPEC.inputs]
    factors = torch.rand(6, 1, 1, generator=torch.Generator().manual_seed(1))
    promoters = [signal * factors for signal in gene[:3]]
    expanded = [tensor.expand(6, *tensor.shape[1:]) for tensor in gene[3:]]
    torch.testing.assert_close(
        small_net.perturbed(*promoters, *gene[3:]),
        small_net(*promoters, *expanded),
        **{"rtol": 0, "atol": 1e-6},
    )


@torch.no_grad()
def test_bfloat16_stays_near_float32(small_net):
    batch = made_up([0, 1, 8, 3])
    with torch.autocast("cpu", torch.bfloat16):
        rough = run(small_net, batch)
    torch.testing.assert_close(rough.float(), run(small_net, batch), rtol=0, atol=0.03)


@pytest.mark.gpu
def test_gpu_and_cpu_agree(small_net):
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    batch = made_up([0, 1, 8, 3])
    with torch.no_grad():
        expected = run(small_net, batch)
        on_gpu = build(full.draw(5, 3, 1, SMALL)).cuda()
        found = run(on_gpu, {key: tensor.cuda() for key, tensor in batch.items()})
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-4)


# ---- loss ----------------------------------------------------------------------------------------


def test_shapes_that_would_broadcast_are_refused():
    batch = {"expression": torch.zeros(4), "label": torch.zeros(4, dtype=torch.long)}
    with pytest.raises(ValueError, match=r"\(4, 1\) and expression \(4,\) differ in shape"):
        SPEC.loss(torch.zeros(4, 1), batch)
    with pytest.raises(ValueError, match="differ in shape"):
        SPEC.loss(torch.zeros(4), {"expression": torch.zeros(4, 1)})


def test_classification_has_logits_a_label_and_a_probability():
    settings = {"objective": "classification", "width": 8, "regulation_layers": 1}
    assert (SPEC.truth(settings), SPEC.truth({})) == ("label", "expression")
    batch = SPEC.example(settings)
    logits = run(SPEC.build(settings), batch).detach()
    assert logits.shape == (8, 2)
    expected = -logits.log_softmax(-1)[torch.arange(8), batch["label"]].mean()
    torch.testing.assert_close(SPEC.loss(logits, batch), expected)
    torch.testing.assert_close(SPEC.output(logits), (logits[:, 1] - logits[:, 0]).sigmoid())
    values = torch.arange(3.0)
    assert SPEC.output(values) is values


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="regulation_heads 3 must divide"):
        SPEC.build({"regulation_heads": 3})
    with pytest.raises(ValueError, match="'rank' is unknown; use regression or classification"):
        SPEC.build({"objective": "rank"})


# ---- published weights ---------------------------------------------------------------------------


def older(name):
    """The name that a tensor had in an early version of the authors' code."""
    module, _, rest = name.partition(".")
    size, _, rest = rest.partition(".")
    rest = rest.replace("lin_proj_pcre", "lin_proj_c")
    early = {
        "embed": f"embed{size}_a.{rest}",
        "pairwise_interaction": f"{'embed500_b' if size == '500' else 'pw_int' + size}.{rest}",
        "regulation": f"transformer{size}.{rest.removeprefix('transformer.')}",
    }
    return early.get(module, name)


@pytest.mark.parametrize("sizes", [SMALL, DEEP], ids=["small", "deep"])
def test_older_names_and_whole_checkpoints_are_imported(sizes):
    weights = full.draw(5, 4, 2, sizes)
    settings, state = SPEC.import_published(weights)
    aged = {older(name): value.numpy() for name, value in weights.items()}
    assert "transformer100.layers.0.self_att.att.weight" in aged
    again, same = SPEC.import_published({"net": aged, "epoch": 9})
    assert again == settings and all(torch.equal(state[key], same[key]) for key in state)
    by_reg = {k.replace("regulation.", "reg", 1): v for k, v in weights.items()}
    assert SPEC.import_published(by_reg)[0] == settings


def test_foreign_weights_are_refused_by_name():
    weights = full.draw(5, 4, 2, SMALL)
    missing = {k: v for k, v in weights.items() if k != "fc_head.0.bias"}
    with pytest.raises(ValueError, match=r"missing fc_head.0.bias; foreign surprise"):
        SPEC.import_published({**missing, "surprise": torch.zeros(1)})
    key = "regulation.500.transformer.layers.1.ff.l1.weight"
    with pytest.raises(ValueError, match=rf"{key} is \(2, 2\), not \(9, 8\)"):
        SPEC.import_published({**weights, key: torch.zeros(2, 2)})
    with pytest.raises(ValueError, match="has 3 outputs"):
        SPEC.import_published({**weights, "fc_head.2.weight": torch.zeros(3, 5)})
    with pytest.raises(ValueError, match="missing embed.100.lin_proj.weight"):
        SPEC.import_published({})


@pytest.mark.skipif(not (SHARED / "golden").exists(), reason="shared data not here")
def test_the_stored_output_of_the_original_is_reproduced():
    model, status, difference, fine = compare(SHARED / "golden/chromoformer_clf.json")
    assert (model, status, fine) == ("chromoformer", "ok", True) and float(difference) < 1e-5


@real
def test_golden_files_of_other_sizes_are_compared(tmp_path):
    golden = {"model": "chromoformer", "variant": "reg", "seed": 6, "marks": 2}
    golden["genes"] = list(e003.genes(DATA)["gene_id"][:5])
    golden["state_dict"] = [[k, list(v.shape)] for k, v in full.draw(0, 2, 1, DEEP).items()]
    weights = {k: torch.from_numpy(v) for k, v in original_weights(golden).items()}
    batch = e003.batch(DATA, golden["genes"], e003.MARKS[:2])
    golden["output"] = full.forward(weights, batch).tolist()
    (tmp_path / "other.json").write_text(json.dumps(golden))
    command = [sys.executable, "-m", "tests.golden", str(tmp_path / "other.json")]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.startswith("other.json chromoformer ok ")


@real
@pytest.mark.parametrize("variant", ["clf", "reg"])
def test_published_weights_reproduce_the_published_columns(genes, real_batch, variant):
    """Set CHROMOFORMER_E003_CLF and _REG to the authors' fold-1 files (tensors only)."""
    path = os.environ.get(f"CHROMOFORMER_E003_{variant.upper()}")
    if not path:
        pytest.skip("the published weights are not here")
    net = build(torch.load(path, map_location="cpu", weights_only=True)).eval()
    with torch.no_grad():
        found = run(net, real_batch)
    if variant == "clf":
        found, column = found[:, 1].sigmoid(), "published_clf_sigmoid_logit1"
        assert roc_auc_score(genes["label"], found) == pytest.approx(0.9330, abs=1e-4)
    else:
        column = "published_reg_log2_rpkm_plus1"
        assert pearsonr(found, genes["log2_rpkm_plus1"])[0] == pytest.approx(0.794, abs=1e-3)
    np.testing.assert_allclose(found, genes[column], rtol=0, atol=1e-4)


# ---- learning ------------------------------------------------------------------------------------


def losses(net, batch, steps, enough=0.0):
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-4, weight_decay=0.01)
    found = []
    for _ in range(steps):
        loss = SPEC.loss(run(net, batch), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
        if found[-1] < enough:
            break
    return found


def test_two_trainings_with_one_seed_agree_to_the_bit():
    settings = {"width": 16, "regulation_layers": 2, "regulation_heads": 2}
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        net, batch = SPEC.build(settings), SPEC.example(settings)
        found.append((losses(net, batch, 4), net.state_dict()))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(found[0][1][key], found[1][1][key]) for key in found[0][1])


@real
@pytest.mark.slow
def test_64_real_genes_are_learned_by_heart(real_batch):
    torch.manual_seed(42)
    net = SPEC.build({"marks": list(e003.MARKS)})
    found = losses(net, rows(real_batch, slice(64)), 200, enough=0.05)
    assert found[0] == pytest.approx(10.7, abs=0.1)
    assert found[-1] < 0.05
