"""EpiGePT: losses, missing entries, cells and regions, the attention term, strands, ranking."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

import models
from models.epigept.losses import Prediction, contact_loss, contact_rows
from models.epigept.model import mirrored

SPEC = models.load("epigept")
TINY = {"preset": "tiny"}
torch.set_num_threads(1)


def run(net, batch):
    return net(*(batch[key] for key in SPEC.inputs))


def loss_and_gradient(values, kind="mse", **batch):
    values = values.clone().requires_grad_()
    loss = SPEC.loss(values if kind == "mse" else Prediction(values, kind), batch)
    loss.backward()
    return loss.item(), values.grad


@pytest.fixture(scope="module")
def case():
    """Values, targets in log1p units and a mask, (2 regions, 3 cells, 5 bins, 4 signals)."""
    rng = torch.Generator().manual_seed(0)
    shape = (2, 3, 5, 4)
    valid = torch.rand(shape, generator=rng) < 0.6
    return torch.rand(shape, generator=rng) + 0.1, torch.rand(shape, generator=rng) * 3, valid


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return SPEC.build(TINY).eval()


# ---- loss ----------------------------------------------------------------------------------------


def test_losses_are_those_of_torch_over_present_entries(case):
    values, target, valid = case
    answer = {
        "mse": lambda y, t: F.mse_loss(y, t),
        "poisson": lambda y, t: F.poisson_nll_loss(y, t.expm1(), log_input=False, eps=1e-6),
        "open": lambda y, t: F.binary_cross_entropy_with_logits(y, (t > 1).float()),
    }
    for kind, by_torch in answer.items():
        truth = (target > 1).float() if kind == "open" else target
        found, _ = loss_and_gradient(values, kind, target=truth, valid=valid)
        parts = [by_torch(y[v], t[v]) for y, t, v in zip(values, target, valid, strict=True)]
        assert found == pytest.approx(float(sum(parts)) / 2, abs=1e-5), kind
    half = SPEC.loss(values.bfloat16(), {"target": target.half()})
    assert half.dtype == torch.float32


@pytest.mark.parametrize("kind", ["mse", "poisson", "open"])
def test_missing_and_masked_entries_change_neither_loss_nor_gradient(case, kind):
    values, target, valid = case
    target = (target > 1).float() if kind == "open" else target
    loss, gradient = loss_and_gradient(values, kind, target=target, valid=valid)
    assert not gradient[~valid].any() and bool(gradient[valid].any())
    for wrong in (torch.nan, 1e6, torch.inf):
        batch = {"target": target.masked_fill(~valid, wrong), "valid": valid}
        again, same = loss_and_gradient(values, kind, **batch)
        assert again == loss and torch.equal(same, gradient)
    again, same = loss_and_gradient(values, kind, target=target.masked_fill(~valid, torch.nan))
    assert again == loss and torch.equal(same, gradient)


def test_masks_broadcast_signals_are_weighted_and_batches_divided(case):
    values, target, valid = case
    for one in (valid[:, :1, :1], valid[..., :1]):
        spread = one.expand(valid.shape)
        loss, gradient = loss_and_gradient(values, target=target, valid=one)
        again, same = loss_and_gradient(values, target=target, valid=spread)
        assert loss == again and torch.equal(gradient, same)
    alone = SPEC.loss(values[..., :1], {"target": target[..., :1]})
    weights = torch.tensor([3.0, 0.0, 0.0, 0.0])
    for w in (weights, weights.expand(2, 4)):
        found = SPEC.loss(values, {"target": target, "signal_weights": w})
        torch.testing.assert_close(found, alone)
    empty = target.clone()
    empty[1] = torch.nan
    parts = [SPEC.loss(values[i : i + 1], {"target": empty[i : i + 1]}).item() for i in (0, 1)]
    assert parts[1] == 0
    assert SPEC.loss(values, {"target": empty}).item() == pytest.approx(parts[0] / 2)
    with pytest.raises(ValueError, match="must not be broadcast"):
        SPEC.loss(values, {"target": target[:, :1]})


def test_states_are_judged_by_cross_entropy(case):
    logits, _, _ = case
    states = torch.randint(0, 4, logits.shape[:3], generator=torch.Generator().manual_seed(1))
    states[0, 0, :2] = -1
    found, gradient = loss_and_gradient(logits, "states", target=states)
    parts = [F.cross_entropy(y[s >= 0], s[s >= 0]) for y, s in zip(logits, states, strict=True)]
    assert found == pytest.approx(float(sum(parts)) / 2, abs=1e-6)
    assert not gradient[0, 0, :2].any()
    wild = states.masked_fill(states < 0, 1_000_000)
    assert loss_and_gradient(logits, "states", target=wild)[0] == found
    one_hot = F.one_hot(states.clamp(min=0), 4).float()
    one_hot[0, 0, :2] = torch.nan
    assert loss_and_gradient(logits, "states", target=one_hot)[0] == pytest.approx(found)


@pytest.mark.parametrize("kind", ["poisson", "open", "states"])
def test_every_head_learns_and_gives_what_the_truth_is_in(kind):
    torch.manual_seed(0)
    settings = {**TINY, "loss": kind}
    net, batch = SPEC.build(settings), SPEC.example(settings)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(80):
        loss = SPEC.loss(run(net, batch), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    made = SPEC.output(run(net, batch))
    seen = ~batch["target"].isnan()
    assert made.shape == batch["target"].shape and losses[-1] < losses[0]
    if kind == "poisson":
        r = torch.corrcoef(torch.stack([made[seen], batch["target"][seen]]))[0, 1]
        assert r > 0.9
    else:
        assert ((made > 0.5)[seen] == (batch["target"] > 0.5)[seen]).float().mean() > 0.9
    if kind == "states":
        torch.testing.assert_close(made.sum(-1), torch.ones(2, 2, 16))


# ---- cells and regions ---------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("change", [{}, {"combine": "project", "width": 24, "tf_norm": "layer"}])
def test_region_major_equals_one_region_and_cell_at_a_time(change):
    settings = {**TINY, **change}
    torch.manual_seed(0)
    net, batch = SPEC.build(settings).eval(), SPEC.example(settings)
    together = run(net, batch)
    for r in range(2):
        for c in range(2):
            expression = batch["expression"][r : r + 1, c : c + 1]
            alone = net(batch["bases"][r : r + 1], batch["motifs"][r : r + 1], expression)
            torch.testing.assert_close(alone[0, 0], together[r, c], rtol=0, atol=1e-5)


@torch.no_grad()
def test_without_expression_all_cells_are_equal_and_without_motifs_too(net):
    batch = SPEC.example(TINY)
    assert not torch.equal(run(net, batch)[:, 0], run(net, batch)[:, 1])
    for key in ("expression", "motifs"):
        made = run(net, {**batch, key: batch[key] * 0})
        assert torch.equal(made[:, 0], made[:, 1])


def test_one_region_with_opposite_targets_in_two_cells_is_learned():
    torch.manual_seed(0)
    net, batch = SPEC.build(TINY), SPEC.example(TINY)
    batch = {key: value[:1] for key, value in batch.items()}
    high = (torch.rand(16, 3, generator=torch.Generator().manual_seed(2)) < 0.5).float() * 3
    batch["target"] = torch.stack([high, 3 - high])[None]
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(200):
        loss = SPEC.loss(run(net, batch), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


@torch.no_grad()
def test_bfloat16_stays_near_float32():
    for change in ({}, {"combine": "project", "width": 24, "tf_norm": "layer", "block": "pre"}):
        torch.manual_seed(0)
        net = SPEC.build({**TINY, **change, "contact_weight": 1.0}).eval()
        batch = SPEC.example(TINY)
        exact = run(net, batch)
        with torch.autocast("cpu", torch.bfloat16):
            assert net.features(batch["motifs"], batch["expression"]).dtype == torch.bfloat16
            rough = run(net, batch)
        for ours, theirs in ((rough[0], exact[0]), (rough[2], exact[2])):
            assert ours.dtype == torch.float32
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0.05)


@pytest.mark.gpu
@torch.no_grad()
def test_gpu_and_cpu_agree(net):
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    batch = SPEC.example(TINY)
    found = run(copy.deepcopy(net).cuda(), {k: v.cuda() for k, v in batch.items()})
    torch.testing.assert_close(found.cpu(), run(net, batch), rtol=0, atol=1e-3)


def test_the_slope_by_tf_features_is_that_of_differences():
    torch.manual_seed(0)
    net, batch = SPEC.build(TINY).double().eval(), SPEC.example(TINY)
    given = [batch["bases"], batch["motifs"].double() / 100, batch["expression"].double()]
    slope = net.gradient(*given, signals=[1], bins=[4, 5])
    assert slope.shape == (2, 2, 16, 13) and bool(slope.isfinite().all())
    features = net.features(*given[1:])

    def total(x):
        return net.predict(given[0], x)[0, 1, 4:6, 1].sum()

    for b, k in ((4, 0), (5, 7), (9, 12)):
        step = torch.zeros_like(features)
        step[0, 1, b, k] = 1e-5
        by_hand = (total(features + step) - total(features - step)) / 2e-5
        assert float(slope[0, 1, b, k]) == pytest.approx(by_hand.item(), rel=1e-4, abs=1e-8)
    expression = given[2].clone().requires_grad_()
    net(*given[:2], expression).sum().backward()
    by_feature = net.gradient(*given) * given[1][:, None]
    torch.testing.assert_close(expression.grad, by_feature.sum(2))


# ---- attention term ------------------------------------------------------------------------------


def loops(regions=2, number=5, cells=3, bins=12):
    """Random loops, some padding, some beyond the region's ends."""
    rng = torch.Generator().manual_seed(0)
    cell = torch.randint(-1, cells, (regions, number), generator=rng)
    first = torch.randint(-2, bins, (regions, number, 2), generator=rng)
    end = first + torch.randint(1, 4, first.shape, generator=rng)
    count = torch.randint(1, 6, cell.shape, generator=rng)
    parts = (cell, first[..., 0], end[..., 0], first[..., 1], end[..., 1], count)
    return torch.stack(parts, dim=-1)


@pytest.mark.parametrize("diagonal", [0, 2])
def test_rows_of_contacts_are_those_of_a_plain_loop(diagonal):
    given = loops()
    slow = torch.zeros(2, 3, 12, 12)
    for r, region in enumerate(given.tolist()):
        for cell, first1, end1, first2, end2, count in region:
            for i in range(max(first1, 0), min(end1, 12)):
                for j in range(max(first2, 0), min(end2, 12)):
                    if cell >= 0 and abs(i - j) > diagonal:
                        share = count / ((end1 - first1) * (end2 - first2))
                        slow[r, cell, i, j] += share
                        slow[r, cell, j, i] += share
    total = slow.sum(-1, keepdim=True)
    slow = torch.where(total > 0, slow / total, 0.0)
    found = contact_rows(given, 3, 12, diagonal)
    torch.testing.assert_close(found, slow)
    assert torch.equal(found > 0, slow > 0) and found.any()


def test_the_attention_term_is_the_mean_cosine_of_rows_with_a_contact():
    rng = torch.Generator().manual_seed(1)
    attention = torch.randn(2, 3, 12, 12, generator=rng).softmax(-1).requires_grad_()
    wanted = contact_rows(loops(), 3, 12, 1)
    wanted[1, 2] = torch.nan  # no contact map of that cell
    loss = contact_loss(attention, wanted)
    by_region = []
    for maps, rows in zip(attention, wanted, strict=True):
        far = [
            1 - (a @ w) / (a.norm() * w.norm())
            for a, w in zip(maps.flatten(0, 1), rows.flatten(0, 1), strict=True)
            if w.isfinite().all() and w.sum() > 0
        ]
        by_region.append(sum(far) / len(far))
    expected = sum(by_region) / 2
    torch.testing.assert_close(loss, expected)
    ours = torch.autograd.grad(loss, attention, retain_graph=True)[0]
    theirs = torch.autograd.grad(expected, attention)[0]
    torch.testing.assert_close(ours, theirs)
    assert not ours[1, 2].any() and bool(ours.isfinite().all())


def test_loops_enter_the_loss_with_their_weight_and_move_the_queries():
    torch.manual_seed(0)
    settings = {**TINY, "contact_weight": 2.0, "contact_diagonal": 1}
    net, batch = SPEC.build(settings), SPEC.example(settings)
    batch["loops"] = loops(cells=2, bins=16)
    returned = run(net, batch)
    maps = net.contacts(*(batch[key] for key in SPEC.inputs))
    torch.testing.assert_close(returned.attention_RCBB, maps)
    wanted = contact_rows(batch["loops"], 2, 16, 1)
    alone = SPEC.loss(SPEC.output(returned), batch)
    loss = SPEC.loss(returned, batch)
    torch.testing.assert_close(loss, alone + 2 * contact_loss(maps, wanted))
    dense = {key: value for key, value in batch.items() if key != "loops"} | {"contacts": wanted}
    torch.testing.assert_close(SPEC.loss(returned, dense), loss)
    (loss - alone).backward()
    last = net.encoder.layers[-1].attention.qkv.weight.grad
    assert bool(last[:64].any()) and not last[64:].any()  # queries and keys, not values
    without = {key: value for key, value in batch.items() if key != "loops"}
    assert SPEC.loss(run(net, without), without).item() == pytest.approx(alone.item())


# ---- strands -------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_other_strand_turns_all_that_lies_along_the_bins(net):
    batch = {**SPEC.example(TINY), "loops": loops(cells=2, bins=16)}
    batch["contacts"] = contact_rows(batch["loops"], 2, 16, 1)
    there = mirrored(batch)
    for key, value in mirrored(there).items():
        assert torch.equal(value.nan_to_num(7), batch[key].nan_to_num(7)), key
    text = torch.tensor([[0, 1, 2, 3, 4]], dtype=torch.uint8)
    assert mirrored({**batch, "bases": text})["bases"].tolist() == [[4, 0, 1, 2, 3]]
    rows = contact_rows(there["loops"], 2, 16, 1)
    torch.testing.assert_close(rows, there["contacts"])
    # a network with mirrored kernels and places sees the same
    twin = copy.deepcopy(net)
    for i, conv in enumerate(twin.tower.convs):
        conv.weight.data = conv.weight.data.flip((1, 2) if i == 0 else (2,))
    twin.encoder.places_LW.data = twin.encoder.places_LW.data.flip(0)
    made = run(twin, there).flip(2)
    torch.testing.assert_close(made, run(net, batch), rtol=0, atol=1e-5)
    assert (run(net, there).flip(2) - run(net, batch)).abs().max() > 1e-3
