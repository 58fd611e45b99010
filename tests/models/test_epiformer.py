"""Epiformer: sizes, variants, attention and network against the published form, import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from models.epiformer.attention import relative_scores
from models.epiformer.model import larger_of_two
from tests.golden.__main__ import compare, original_weights
from tests.models import epiformer_full as full
from tests.models.epiformer_full import PAPER, SMALL
from tests.models.epiformer_windows import SPEC, STILL, TINY, build, made_up, on_paper, run

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT.parent / "shared/golden/epiformer_small.json"


# ---- structure -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "number", "shape"),
    [
        ({}, 54_819_693, (1, 1, 640)),
        ({"layers": 4}, 33_947_245, (1, 1, 640)),
        ({"tracks": ["t"] * 18}, 54_845_822, (1, 18, 640)),
        ({"preset": "joint"}, 128_888_910, (1, 18, 640)),
        ({"preset": "modern"}, 60_029_569, (1, 1, 640)),
        ({"preset": "small"}, 1_471_029, (1, 1, 640)),
        ({"preset": "tiny", "relative_reach": 64}, 157_108, (1, 1, 12)),
        ({"layers": 0}, 11_890_540 + 1_182_720 + 1_537, (1, 1, 640)),
    ],
)
def test_parameter_counts_and_output_shapes(settings, number, shape):
    net = on_paper(settings)
    assert sum(w.numel() for w in net.parameters()) == number
    assert net.logits(torch.zeros(1, 4, net.cfg.seq_bp, device="meta")).shape == shape


def test_layer_table_of_the_paper():
    net = on_paper({})
    shapes = []
    for part in [net.stem, *net.tower]:
        part.register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape[1:])))
    net.logits(torch.zeros(1, 4, 98_304, device="meta"))
    widths = (384, 431, 484, 543, 610, 684, 768)
    assert shapes == [(c, 98_304 >> (i + 1)) for i, c in enumerate(widths)]
    assert sum(w.numel() for m in (net.stem, net.tower) for w in m.parameters()) == 11_890_540
    assert {sum(w.numel() for w in layer.parameters()) for layer in net.layers} == {5_218_112}
    assert on_paper({"preset": "joint"}).cfg.widths == (576, 647, 726, 815, 914, 1026, 1152)
    assert on_paper({"preset": "modern"}).cfg.widths == (384, 448, 512, 576, 640, 704, 768)


@pytest.mark.parametrize(
    ("settings", "gflop"),
    [({}, 369.6), ({"layers": 4}, 328.5), ({"preset": "joint"}, 835.6)],
)
def test_forward_operations_are_those_of_the_cost_model(settings, gflop):
    net = on_paper(settings)
    with FlopCounterMode(display=False) as counter:
        net.logits(torch.zeros(1, 4, 98_304, device="meta"))
    assert counter.get_total_flops() / 1e9 == pytest.approx(gflop, rel=0.01)


def test_a_training_step_of_small_suits_a_cpu():
    net = on_paper({"preset": "small"})
    with FlopCounterMode(display=False) as counter:
        net.logits(torch.zeros(1, 4, 98_304, device="meta"))
    assert 3 * counter.get_total_flops() / 98_304 == pytest.approx(155_000, rel=0.01)


@pytest.mark.parametrize("average", [False, True])
def test_receptive_field_of_a_token_is_646_bases(monkeypatch, average):
    if average:  # the larger of two bases hides the other, so that its gradient is zero
        pool = "models.epiformer.model.larger_of_two"
        monkeypatch.setattr(pool, lambda x: F.avg_pool1d(x, 2))
    net = SPEC.build({"preset": "tiny", "seq_bp": 12_288, "layers": 0}).eval()
    x = torch.rand(1, 4, 12_288, requires_grad=True)
    net.tokens(x)[0, :, 48].sum().backward()
    touched = x.grad[0].abs().sum(0).nonzero().flatten()
    first, last = 128 * 48 - 259, 128 * 48 + 386
    assert (first, last) == (5885, 6530)
    assert touched.min() >= first and touched.max() <= last
    assert len(touched) == 646 or not average


@pytest.mark.parametrize("settings", [
    {"seq_bp": 1000}, {"bin_bp": 96}, {"crop_bins": 384}, {"heads": 5}, {"tracks": []},
    {"dropout": 1.0}, {"layers": -1}, {"channels": [8, 768]}, {"relative_reach": 9},
    {"norm": "layer"}, {"width": 30, "heads": 2, "relative": "rotary"},
])  # fmt: skip
def test_sizes_that_do_not_fit_are_refused_by_key(settings):
    key = next(iter(settings))
    with pytest.raises(ValueError, match=rf"sizes of epiformer do not fit: .*\b{key}\b"):
        SPEC.build(settings)


def test_all_problems_come_in_one_message_and_presets_are_named():
    with pytest.raises(ValueError, match=r"seq_bp 1000 is no multiple of bin_bp 128.*heads 5 do"):
        SPEC.build({"seq_bp": 1000, "heads": 5})
    with pytest.raises(ValueError, match="preset 'huge' is unknown; use one of paper, joint"):
        SPEC.build({"preset": "huge"})
    assert SPEC.build({**TINY, "layers": None}).cfg == SPEC.build(TINY).cfg


def test_pooling_is_the_one_of_torch_in_value_and_gradient():
    x = torch.randint(0, 4, (2, 3, 40), generator=torch.Generator().manual_seed(0)).double()
    x[0, 0, 3] = torch.nan
    cotangent = torch.rand(2, 3, 20, generator=torch.Generator().manual_seed(1)).double()
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    found, expected = larger_of_two(ours), F.max_pool1d(theirs, 2)
    assert torch.equal(found.nan_to_num(9), expected.nan_to_num(9))  # ties and NaN too
    assert bool(found[0, 0, 1].isnan())
    found.backward(cotangent)
    expected.backward(cotangent)
    assert torch.equal(ours.grad[1], theirs.grad[1])


ABLATIONS = [
    {"conservation": "off"}, {"conservation": "channel"}, {"position": "off"}, {"layers": 0},
    {"relative": "off"}, {"relative": "rotary"}, {"norm": "group"}, {"norm": "sync"},
    {"block": "pre"}, {"gate": "swiglu"}, {"output_projection": True}, {"log_input": True},
    {"bin_bp": 64}, {"bin_bp": 2, "seq_bp": 64}, {"channel_multiple": 16},
]  # fmt: skip


@pytest.mark.parametrize("change", ABLATIONS, ids=str)
def test_every_variant_runs_and_every_weight_has_a_gradient(change):
    settings = {**TINY, **change}
    net, batch = SPEC.build(settings), SPEC.example(settings)
    SPEC.loss(run(net, batch), batch).backward()
    without = [
        n for n, w in net.named_parameters() if w.grad is None or not w.grad.isfinite().all()
    ]
    assert without == []
    other = run(net.eval(), {**batch, "conservation": 255 - batch["conservation"]})
    assert torch.equal(other, run(net, batch)) == (change.get("conservation") == "off")


# ---- published form ------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [12, 7, 16])
@pytest.mark.parametrize("reach", [16, 40])
def test_relative_scores_are_those_of_a_vector_per_pair(tokens, reach):
    rng = torch.Generator().manual_seed(0)
    q = torch.randn(3, 2, tokens, 6, generator=rng, dtype=torch.float64, requires_grad=True)
    table = torch.randn(2 * reach - 1, 6, generator=rng, dtype=torch.float64, requires_grad=True)
    place = torch.arange(tokens)
    pairs = table[place[:, None] - place + reach - 1]
    slow = torch.einsum("bhld,lrd->bhlr", q, pairs)
    cotangent = torch.randn(slow.shape, generator=rng, dtype=torch.float64)
    expected = torch.autograd.grad((slow * cotangent).sum(), (q, table))
    found = relative_scores(q, table)
    torch.testing.assert_close(found, slow, rtol=0, atol=1e-12)
    for ours, theirs in zip(
        torch.autograd.grad((found * cotangent).sum(), (q, table)), expected, strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def attention_pair(seq_bp=2048, seed=3):
    weights = full.draw(seed, SMALL)
    net = build(weights, seq_bp, 2, attention_dropout=0.0)
    x = torch.randn(3, seq_bp // 64, 24, generator=torch.Generator().manual_seed(1))
    return weights, net.layers[1].attention, x


@pytest.mark.parametrize("seq_bp", [1536, 832])
def test_attention_equals_the_published_form_in_output_and_gradients(seq_bp):
    weights, attention, x = attention_pair(seq_bp)
    name = "trans.layers.1.mha"
    grown = {k: v.clone().requires_grad_() for k, v in weights.items() if k.startswith(name)}
    x = x.requires_grad_()
    theirs, ours = full.attention(grown, name, x), attention(x)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    (x_theirs,) = torch.autograd.grad(theirs.square().sum(), x, retain_graph=True)
    (x_ours,) = torch.autograd.grad(ours.square().sum(), x, retain_graph=True)
    torch.testing.assert_close(x_ours, x_theirs, rtol=0, atol=1e-5)
    theirs.square().mean().backward()
    ours.square().mean().backward()
    table = grown[f"{name}.distance_embedding.weight"].grad
    tokens = seq_bp // 64
    assert torch.equal(table[: 24 - tokens], torch.zeros(24 - tokens, 8))  # out of reach
    torch.testing.assert_close(
        attention.table.weight.grad, table[24 - tokens : 23 + tokens], rtol=0, atol=1e-5
    )
    for part in ("query", "key", "value"):
        found = getattr(attention, part).weight.grad
        torch.testing.assert_close(found, grown[f"{name}.{part}.weight"].grad, rtol=0, atol=1e-5)


@torch.no_grad()
def test_attention_in_bfloat16_stays_near_float32():
    weights, attention, x = attention_pair(1536)
    with torch.autocast("cpu", torch.bfloat16):
        rough = attention(x)
    expected = full.attention(weights, "trans.layers.1.mha", x)
    torch.testing.assert_close(rough.float(), expected, rtol=0, atol=0.05)


@pytest.mark.parametrize("training", [False, True])
def test_whole_network_equals_the_published_form(training):
    weights = full.draw(5, SMALL)
    grown = {k: v.clone() for k, v in weights.items()}
    learned = [k for k, v in grown.items() if v.is_floating_point() and "running" not in k]
    for name in learned:
        grown[name].requires_grad_()
    net = build(weights, 1536, 4, **STILL).train(training)
    bases, conservation = made_up(1536)
    theirs = full.logits(grown, full.encode(bases, conservation / 255), 4, training)
    ours = net(bases, conservation)
    assert ours.shape == (2, 2, 16)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    target = torch.rand(2, 2, 16, generator=torch.Generator().manual_seed(2)) * 5
    F.poisson_nll_loss(F.softplus(theirs) + 1e-6, target, log_input=False, eps=0).backward()
    SPEC.loss(ours, {"target": target}).backward()
    pairs = {
        "conv.stem.0.weight": net.stem.conv.weight,
        "conv.tower.2.0.2.weight": net.tower[2].conv.weight,
        "trans.layers.0.mha.query.weight": net.layers[0].attention.query.weight,
        "trans.layers.1.linear_net.0.weight": net.layers[1].feed_forward.up.weight,
        "ptw.conv.2.weight": net.head.hidden.weight,
    }
    for name, parameter in pairs.items():
        expected = grown[name].grad
        assert float((parameter.grad - expected).norm()) < 1e-4 * float(expected.norm()), name


@pytest.mark.slow
@torch.no_grad()
def test_paper_size_equals_the_published_form():
    weights = full.draw(1, PAPER)
    bases, conservation = made_up(98_304, 1)
    ours = build(weights, 98_304, 64).eval()(bases, conservation)
    theirs = full.logits(weights, full.encode(bases, conservation / 255), 64)
    assert ours.shape == (1, 1, 640)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_recomputing_the_first_blocks_changes_nothing():
    found = []
    for again in (False, True):
        torch.manual_seed(0)
        net = SPEC.build({**TINY, **STILL, "checkpointing": again})
        batch = SPEC.example(TINY)
        SPEC.loss(run(net, batch), batch).backward()
        found.append((net.state_dict(), {n: w.grad for n, w in net.named_parameters()}))
    for before, after in zip(*found, strict=True):
        assert [name for name in before if not torch.equal(before[name], after[name])] == []


# ---- published weights ---------------------------------------------------------------------------


def test_window_and_crop_come_from_the_checkpoint_or_are_the_published_ones():
    weights = full.draw(0, {**SMALL, "outputs": 18})
    settings, state = SPEC.import_published(weights)
    assert (settings["seq_bp"], settings["bin_bp"], settings["crop_bins"]) == (1536, 64, 2)
    assert settings["tracks"][3] == "MGC" and len(settings["tracks"]) == 18
    assert settings["channels"] == [6, 8, 9, 10, 11, 24] and settings["heads"] == 3
    param = {"seq_len": 768, "crop_size": 1, "if_cons": False}
    parallel = {f"module.{name}": value.numpy() for name, value in weights.items()}
    again, used = SPEC.import_published({"state_dict": parallel, "param": param, "optimizer": {}})
    assert (again["seq_bp"], again["crop_bins"], again["conservation"]) == (768, 1, "off")
    table = "layers.0.attention.table.weight"
    assert torch.equal(used[table], state[table][12:-12]) and len(used[table]) == 23
    with torch.device("meta"):
        paper = SPEC.import_published({k: v.to("meta") for k, v in full.draw(0, PAPER).items()})[0]
    assert (paper["seq_bp"], paper["crop_bins"], paper["tracks"]) == (98_304, 64, ["track1"])


def test_foreign_weights_are_refused_by_name():
    weights = full.draw(0, SMALL)
    missing = {k: v for k, v in weights.items() if k != "ptw.conv.2.bias"}
    with pytest.raises(ValueError, match=r"missing ptw.conv.2.bias; foreign surprise"):
        SPEC.import_published({**missing, "surprise": torch.zeros(1)})
    key = "trans.layers.1.mha.key.weight"
    with pytest.raises(ValueError, match=rf"{key} is \(2, 2\), not \(24, 24\)"):
        SPEC.import_published({**weights, key: torch.zeros(2, 2)})
    with pytest.raises(
        ValueError, match=r"distance_embedding.weight reaches 24 tokens, the window"
    ):
        SPEC.import_published({"state_dict": weights, "param": {"seq_len": 64 * 25}})
    with pytest.raises(ValueError, match="missing conv.stem.0.bias"):
        SPEC.import_published({})


@pytest.mark.skipif(not GOLDEN.exists(), reason="shared data not here")
def test_the_stored_output_of_the_original_is_reproduced():
    model, status, difference, fine = compare(GOLDEN)
    assert (model, status, fine) == ("epiformer", "ok", True) and float(difference) < 1e-5


@pytest.mark.parametrize("conserved", [True, False])
def test_golden_files_of_other_sizes_are_compared(tmp_path, conserved):
    settings = {"seq_len": 1024, "crop": 3, "conservation": conserved}
    golden = {"model": "epiformer", "seed": 4, "settings": settings}
    golden["state_dict"] = [[k, list(v)] for k, v in full.shapes(SMALL).items()]
    weights = {k: torch.from_numpy(v) for k, v in original_weights(golden).items()}
    rng = np.random.RandomState(4 + 77)
    bases = torch.from_numpy(rng.randint(0, 5, size=(2, 1024)))
    phastcons = torch.from_numpy(rng.uniform(0, 1, size=(2, 1024)).round(3)) * conserved
    golden["output"] = F.softplus(full.logits(weights, full.encode(bases, phastcons), 3)).tolist()
    (tmp_path / "other.json").write_text(json.dumps(golden))
    command = [sys.executable, "-m", "tests.golden", str(tmp_path / "other.json")]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.startswith("other.json epiformer ok ")
