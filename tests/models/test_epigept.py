"""EpiGePT: sizes, features, attention, the published form and its weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import models
from tests.golden.__main__ import compare, original_weights
from tests.models import epigept_full as full
from tests.models.epigept_full import FORMS, SMALL

SPEC = models.load("epigept")
TINY = {"preset": "tiny"}
GOLDEN = Path(__file__).resolve().parents[3] / "shared/golden/epigept_hg38.json"
torch.set_num_threads(1)


def run(net, batch):
    return net(*(batch[key] for key in SPEC.inputs))


def on_paper(settings):
    """The network without memory or weights."""
    with torch.device("meta"):
        return SPEC.build(settings).eval()


def blank(net, regions=1, cells=1, device="meta"):
    """Inputs of zeros."""
    c = net.cfg
    bases = torch.zeros(regions, c.seq_bp, dtype=torch.uint8, device=device)
    motifs = torch.zeros(regions, c.bins, c.tfs, dtype=torch.uint8, device=device)
    return bases, motifs, torch.zeros(regions, cells, c.tfs, device=device)


# ---- structure -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "number", "shape"),
    [
        ({}, 70_157_576, (1, 2, 1000, 8)),
        ({"preset": "paper_hg19"}, 70_040_264, (1, 2, 1000, 8)),
        ({"preset": "paper_dnase"}, 77_840_177 - 247_808 - 937_992, (1, 2, 50, 1)),
        ({"preset": "modern"}, 26_504_712, (1, 2, 1000, 8)),
        ({"preset": "small"}, 347_544, (1, 2, 1000, 8)),
        (TINY, 19_879, (1, 2, 16, 3)),
        ({"tfs": 678}, None, (1, 2, 1000, 8)),
        ({"preset": "modern", "tfs": 571, "signals": ["a", "b"]}, None, (1, 2, 1000, 2)),
    ],
)
def test_parameter_counts_and_output_shapes(settings, number, shape):
    net = on_paper(settings)
    assert number in (None, sum(w.numel() for w in net.parameters()))
    assert net(*blank(net, 1, 2)).shape == shape


def test_layer_table_of_the_paper():
    net = on_paper({})
    count = [sum(w.numel() for w in part.parameters()) for part in (net.tower, *net.encoder.layers)]
    assert count == [177_088] + [5_740_296] * 12
    assert (net.cfg.token_width, net.cfg.tf_columns, net.cfg.bins) == (968, 712, 1000)
    with FlopCounterMode(display=False) as counter:
        net(*blank(net))
    assert counter.get_total_flops() / 1e9 == pytest.approx(186, rel=0.01)


def test_the_tower_runs_once_for_all_cells_of_a_region():
    net = on_paper({})
    flops = []
    for cells in (1, 3):
        with FlopCounterMode(display=False) as counter:
            net(*blank(net, 1, cells))
        flops.append(counter.get_total_flops() / 1e9)
    assert 3 * flops[0] - flops[1] == pytest.approx(2 * 1.933, rel=0.01)


@pytest.mark.parametrize("average", [False, True])
def test_receptive_field_of_a_token_is_402_bases(monkeypatch, average):
    torch.manual_seed(0)
    net = SPEC.build({**TINY, "seq_bp": 12_800, "channels": [4] * 5, "kernels": [3, 5, 5, 3, 3],
                      "pools": [4, 4, 2, 2, 2]})  # fmt: skip
    x = torch.rand(1, 4, 12_800, requires_grad=True)
    monkeypatch.setattr(net.tower, "encode", lambda _bases: x)
    if average:  # the largest hides the others
        monkeypatch.setattr(torch.nn.functional, "max_pool1d", torch.nn.functional.avg_pool1d)
        monkeypatch.setattr(torch.nn.functional, "relu", lambda y: y)
    net.tower(torch.zeros(1, 12_800))[0, 50].sum().backward()
    touched = x.grad[0].abs().sum(0).nonzero().flatten()
    assert int(touched.max() - touched.min()) < 402
    assert len(touched) == 402 or not average


@pytest.mark.parametrize("tfs", [1, 7, 13, 16])
@pytest.mark.parametrize("combine", [{}, {"combine": "project", "width": 20, "tf_norm": "layer"}])
def test_any_number_of_tfs_works(tfs, combine):
    settings = {**TINY, "tfs": tfs, **combine}
    net, batch = SPEC.build(settings), SPEC.example(settings)
    loss = SPEC.loss(run(net, batch), batch)
    loss.backward()
    assert all(w.grad is not None and w.grad.isfinite().all() for w in net.parameters())
    assert net.cfg.token_width % net.cfg.heads == 0


@pytest.mark.parametrize("change", [
    {"seq_bp": 1000}, {"heads": 5, "tf_width": 13}, {"tf_width": 3}, {"tfs": []}, {"layers": 0},
    {"combine": "project"}, {"dropout": 1.0}, {"pools": [4]}, {"kernels": [3, 4, 5]},
    {"positions": 3}, {"activation": "tanh"}, {"motif_step": 0.0}, {"loss": "l1"},
    {"contact_weight": -1.0},
])  # fmt: skip
def test_sizes_that_do_not_fit_are_refused_by_key(change):
    key = next(iter(change))
    with pytest.raises(ValueError, match=rf"sizes of epigept do not fit: .*\b{key}\b"):
        SPEC.build({**TINY, **change})
    with pytest.raises(ValueError, match="preset 'huge' is unknown; use one of paper_hg38"):
        SPEC.build({"preset": "huge"})


def test_inputs_of_other_sizes_are_refused():
    net = SPEC.build(TINY)
    bases, motifs, expression = blank(net, device="cpu")
    with pytest.raises(ValueError, match="regions of 2000 bp, but seq_bp is 2048"):
        net(bases[:, :2000], motifs, expression)
    with pytest.raises(ValueError, match=r"16 bins and 12 TFs, but the settings say 16 .* 13 tfs"):
        net(bases, motifs[..., :12], expression[..., :12])


# ---- features ------------------------------------------------------------------------------------


def test_features_are_the_products_of_an_explicit_loop():
    net, batch = SPEC.build({**TINY, "motif_step": 0.25}), SPEC.example(TINY)
    steps, expression = batch["motifs"], batch["expression"]
    found = net.features(steps, expression)
    assert found.shape == (2, 2, 16, 13) and found.dtype == torch.float32
    for r, c, b, k in torch.cartesian_prod(*(torch.arange(n) for n in found.shape)).tolist():
        by_hand = float(steps[r, b, k]) * 0.25 * float(expression[r, c, k])
        assert float(found[r, c, b, k]) == pytest.approx(by_hand, rel=1e-6)
    torch.testing.assert_close(net.features(steps.float() * 0.25, expression), found)
    torch.testing.assert_close(net.features((steps.float() * 0.25).half(), expression), found)


@torch.no_grad()
def test_permuting_the_tfs_permutes_the_features_and_nothing_else():
    net, batch = SPEC.build(TINY).eval(), SPEC.example(TINY)
    order = torch.randperm(13, generator=torch.Generator().manual_seed(1))
    features = net.features(batch["motifs"], batch["expression"])
    turned = net.features(batch["motifs"][..., order], batch["expression"][..., order])
    assert torch.equal(turned, features[..., order])
    x = net.combine(net.tower(batch["bases"]), features)
    y = net.combine(net.tower(batch["bases"]), turned)
    assert torch.equal(y[..., :16], x[..., :16])
    assert torch.equal(y[..., 16:29], x[..., 16:29][..., order])
    assert x.shape[-1] == 32 and not x[..., 29:].any()  # zeros until the heads divide


def test_bases_are_rows_a_c_g_t_and_others_are_empty():
    tower = SPEC.build(TINY).tower
    codes = torch.tensor([[0, 1, 2, 3, 4, 78]], dtype=torch.uint8)
    assert torch.equal(tower.encode(codes)[0, :, :4], torch.eye(4))
    assert not tower.encode(codes)[0, :, 4:].any()


# ---- published form ------------------------------------------------------------------------------


def imported(form, seed=0, **param):
    """Weights under published names, and our network of them in evaluation mode."""
    sizes, encoder, pools = FORMS[form]
    weights = full.draw(seed, sizes, encoder)
    settings, state = SPEC.import_published({"state_dict": weights, "param": param})
    net = SPEC.build(settings).eval()
    net.load_state_dict(state)
    return net, weights, pools


@torch.no_grad()
@pytest.mark.parametrize("form", FORMS)
def test_every_form_equals_the_published_one_a_region_and_cell_at_a_time(form):
    net, weights, pools = imported(form)
    c = net.cfg
    assert (c.tfs, c.tf_columns, c.heads, c.layers, c.bins) == (13, 14, 8, 2, 6)
    assert c.bin_bp == (200 if form == "dnase" else 128)
    rng = torch.Generator().manual_seed(1)
    bases = torch.randint(0, 5, (2, c.seq_bp), generator=rng, dtype=torch.uint8)
    motifs = torch.randint(0, 30, (2, 6, 13), generator=rng, dtype=torch.uint8)
    expression = torch.rand(2, 3, 13, generator=rng)
    ours, maps = net(bases, motifs, expression), net.contacts(bases, motifs, expression)
    for r in range(2):
        for k in range(3):
            product = motifs[r].float() * 0.1 * expression[r, k]
            features = torch.cat([product, torch.zeros(6, 1)], dim=-1)
            theirs, attention = full.signals(weights, bases[r], features, pools)
            torch.testing.assert_close(ours[r, k], theirs, rtol=0, atol=2e-6)
            torch.testing.assert_close(maps[r, k], attention[-1].mean(0), rtol=0, atol=1e-6)
    assert (ours > 0).any()


@torch.no_grad()
def test_attention_is_the_explicit_softmax_of_the_chosen_layers_and_heads():
    net, weights, pools = imported("hg38", heads=4)
    batch = SPEC.example({**TINY, "tfs": 13, "seq_bp": 768, "pools": [4, 4, 8]})
    given = [batch[key] for key in SPEC.inputs]
    features = net.features(*given[1:])[0, 0]
    _, maps = full.signals(
        weights, given[0][0], torch.cat([features, torch.zeros(6, 1)], dim=-1), pools, heads=4
    )
    for layers, heads in [((-1,), None), ((0,), None), ((0, 1), (1, 3)), ((1,), (2,))]:
        found = net.contacts(*given, layers=layers, heads=heads)
        assert found.shape == (2, 2, 6, 6)
        torch.testing.assert_close(found.sum(-1), torch.ones(2, 2, 6))
        chosen = torch.stack([maps[n] for n in layers])[:, list(heads or range(4))].mean((0, 1))
        torch.testing.assert_close(found[0, 0], chosen, rtol=0, atol=1e-6)
    plain, _ = net.tokens(given[0], net.features(*given[1:]))
    asked, found = net.tokens(given[0], net.features(*given[1:]), {0, 1})
    torch.testing.assert_close(asked, plain, rtol=0, atol=1e-5)
    assert sorted(found) == [0, 1]


# ---- published weights ---------------------------------------------------------------------------


def test_names_of_wrappers_and_earlier_versions_are_understood():
    weights = full.draw(0, SMALL)
    settings, state = SPEC.import_published(weights)
    assert settings["preset"] == "paper_hg38" and settings["signals"][2] == "H3K27ac"
    assert (settings["tfs"], settings["tf_width"], settings["positions"]) == (13, 14, 6)
    older = {f"model.{k.replace('LayerNorm.weight', 'LayerNorm.gamma')}": v.numpy()
             for k, v in weights.items()}  # fmt: skip
    older = {k.replace("LayerNorm.bias", "LayerNorm.beta"): v for k, v in older.items()}
    older["model.encoder.embeddings.position_ids"] = torch.arange(6)[None].numpy()
    unused = ("model.encoder.pooler.dense.weight", "model.encoder.pooler.dense.bias")
    older = {k: v for k, v in older.items() if k not in unused}
    again, same = SPEC.import_published({"state_dict": older, "epoch": 3})
    assert again == settings and all(torch.equal(same[key], state[key]) for key in state)
    plain, _ = SPEC.import_published(full.draw(0, {**SMALL, "hidden": 0}))  # `encoder` and `fc2`
    assert (plain["preset"], plain["head_hidden"]) == ("paper_hg19", 0)
    longer, _ = SPEC.import_published(full.draw(0, {**FORMS["dnase"][0], "positions": 64}))
    assert (longer["seq_bp"], longer["positions"], longer["signals"]) == (10_000, 64, ["DNase"])


def test_sizes_of_the_paper_are_read_from_its_weights():
    with torch.device("meta"):
        weights = {k: torch.empty(v) for k, v in full.shapes(full.PAPER, words=256).items()}
    assert sum(v.numel() for v in weights.values()) == 71_343_376
    settings, state = SPEC.import_published(weights)
    names = {"tfs": 711, "seq_bp": 128_000, "layers": 12, "feed_forward": 1024, "head_hidden": 128}
    assert {key: settings[key] for key in names} == names
    assert SPEC.form(settings) == SPEC.form({})
    assert sum(v.numel() for v in state.values()) == 70_157_576


def test_foreign_weights_are_refused_by_name():
    weights = full.draw(0, SMALL)
    missing = {k: v for k, v in weights.items() if k != "fc1.bias"}
    with pytest.raises(ValueError, match="missing fc1.bias; foreign surprise"):
        SPEC.import_published({**missing, "surprise": torch.zeros(1)})
    key = "encoder.encoder.layer.1.output.dense.weight"
    with pytest.raises(ValueError, match=rf"{key} is \(2, 2\), not \(24, 14\)"):
        SPEC.import_published({**weights, key: torch.zeros(2, 2)})
    key = "encoder.encoder.layer.0.attention.self.key.weight"
    with pytest.raises(ValueError, match=f"{key} is not as the query"):
        SPEC.import_published({**weights, key: torch.zeros(24, 23)})
    with pytest.raises(ValueError, match=r"fc2.weight is \(8,\), not of 2 dimensions"):
        SPEC.import_published({**weights, "fc2.weight": torch.zeros(8)})
    with pytest.raises(ValueError, match="heads 7 do not divide the width of a token, 24"):
        SPEC.import_published({"state_dict": weights, "param": {"heads": 7}})
    with pytest.raises(ValueError, match="missing convmodule.conv1.bias"):
        SPEC.import_published({})


@pytest.mark.slow
@pytest.mark.skipif(not GOLDEN.exists(), reason="shared data not here")
def test_the_stored_output_of_the_original_is_reproduced():
    model, status, difference, fine = compare(GOLDEN)
    assert (model, status, fine) == ("epigept", "ok", True) and float(difference) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("form", FORMS)
def test_golden_files_of_other_forms_and_sizes_are_compared(tmp_path, form):
    sizes, encoder, pools = FORMS[form]
    golden = {"model": "epigept", "variant": form, "seed": 4, "tf_features": 14, "bins": [0, 3, 5]}
    golden["state_dict"] = [[k, list(v)] for k, v in full.shapes(sizes, encoder).items()]
    golden["output_shape"] = [1, 6, sizes["outputs"]]
    weights = {k: torch.from_numpy(v) for k, v in original_weights(golden).items()}
    rng = np.random.RandomState(4 + 77)
    codes = rng.randint(0, 5, size=(1, 6 * (200 if form == "dnase" else 128)))
    features = np.round(rng.uniform(0, 3, size=(1, 6, 14)), 3).astype(np.float32)
    made, _ = full.signals(weights, *(torch.from_numpy(x)[0] for x in (codes, features)), pools)
    golden["output"] = made[golden["bins"]].tolist()
    (tmp_path / "other.json").write_text(json.dumps(golden))
    assert compare(tmp_path / "other.json")[:2] == ("epigept", "ok")
