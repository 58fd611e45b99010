"""Epiformer: strands, evaluation, unusual bases, missing bins, a batch learned by heart."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from epiloom.learn.schedules import Schedule
from tests.models.epiformer_windows import (
    SPEC,
    STILL,
    TINY,
    codes,
    made_up,
    pearson,
    randomized,
    reverse_complement,
    run,
)

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return randomized(SPEC.build(TINY))


def strand_average(net, bases, conservation):
    other = SPEC.output(net(reverse_complement(bases), conservation.flip(-1)))
    return (SPEC.output(net(bases, conservation)) + other.flip(-1)) / 2


# ---- strands -------------------------------------------------------------------------------------


def test_the_other_strand_of_the_other_strand_is_the_first(net):
    bases, conservation = made_up(2048)
    assert torch.equal(reverse_complement(reverse_complement(bases)), bases)
    x = net.encode(bases, conservation)
    assert torch.equal(net.encode(reverse_complement(bases), conservation.flip(-1)), x.flip(1, 2))
    text = "ACGTNacgtRN"
    other = text.upper().translate(str.maketrans("ACGTRN", "TGCAYN"))[::-1]
    given = torch.from_numpy(codes(text))[None]
    assert torch.equal(reverse_complement(given)[0], torch.from_numpy(codes(other)))


def mirrored(net):
    """The network that reads the other strand as `net` reads this one."""
    twin = copy.deepcopy(net)
    for module in twin.modules():
        if isinstance(module, torch.nn.Conv1d):
            module.weight.data = module.weight.data.flip(-1)
        if isinstance(module, torch.nn.Embedding):
            module.weight.data = module.weight.data.flip(0)
    twin.stem.conv.weight.data = twin.stem.conv.weight.data.flip(1)
    if twin.places_LW is not None:
        twin.places_LW = twin.places_LW.flip(0)
    return twin


@torch.no_grad()
@pytest.mark.parametrize(
    "change",
    [{}, {"relative": "off"}, {"block": "pre", "gate": "swiglu", "norm": "group"}, {"bin_bp": 64}],
)
def test_the_mirrored_network_sees_the_mirrored_window(change):
    torch.manual_seed(1)
    net = randomized(SPEC.build({**TINY, **change})).double()
    bases, conservation = made_up(2048)
    there = net(bases, conservation)
    back = mirrored(net)(reverse_complement(bases), conservation.flip(-1)).flip(-1)
    assert there.dtype == torch.float64
    assert float((back - there).abs().max()) < 1e-13
    plain = net(reverse_complement(bases), conservation.flip(-1)).flip(-1)
    assert float((plain - there).abs().max()) > 1e-3


@torch.no_grad()
def test_the_average_of_both_strands_is_the_same_from_either(net):
    bases, conservation = made_up(2048)
    one = strand_average(net, bases, conservation)
    other = strand_average(net, reverse_complement(bases), conservation.flip(-1))
    assert torch.equal(other.flip(-1), one)
    assert (SPEC.output(net(bases, conservation)) - one).abs().max() > 1e-3


# ---- evaluation ----------------------------------------------------------------------------------


@torch.no_grad()
def test_evaluation_repeats_itself_and_no_output_is_dropped(net):
    bases, conservation = made_up(2048, 4)
    first = SPEC.output(net(bases, conservation))
    assert torch.equal(first, SPEC.output(net(bases, conservation)))
    assert not torch.isclose(first, torch.tensor(2.0).log(), rtol=0, atol=1e-7).any()
    net.train()
    trained = SPEC.output(copy.deepcopy(net)(bases, conservation))
    net.eval()
    assert not torch.isclose(trained, torch.tensor(2.0).log(), rtol=0, atol=1e-7).any()


@torch.no_grad()
def test_a_window_alone_is_predicted_as_in_a_batch(net):
    bases, conservation = made_up(2048, 4)
    together = net(bases, conservation)
    for i in range(4):
        alone = net(bases[i : i + 1], conservation[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-5)


@torch.no_grad()
def test_bfloat16_stays_near_float32(net):
    batch = dict(zip(SPEC.inputs, made_up(2048), strict=True))
    with torch.autocast("cpu", torch.bfloat16):
        assert net.encode(*batch.values()).dtype == torch.bfloat16
        rough = run(net, batch)
    torch.testing.assert_close(rough.float(), run(net, batch), rtol=0, atol=0.05)


@pytest.mark.gpu
@torch.no_grad()
def test_gpu_and_cpu_agree(net):
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    bases, conservation = made_up(2048)
    found = copy.deepcopy(net).cuda()(bases.cuda(), conservation.cuda())
    torch.testing.assert_close(found.cpu(), net(bases, conservation), rtol=0, atol=1e-3)


# ---- bases and conservation ----------------------------------------------------------------------


def test_bases_are_encoded_with_conservation_as_a_factor_or_a_row(net):
    bases = torch.from_numpy(codes("ACGTacgtNRY-"))[None]
    conserved = torch.linspace(0, 255, 12).round().to(torch.uint8)[None]
    x = net.encode(bases, conserved)
    assert x.dtype == torch.float32 and x.shape == (1, 4, 12)
    expected = torch.eye(4).repeat(1, 2) * (conserved[0, :8] / 255).exp()
    torch.testing.assert_close(x[0, :, :8], expected)
    assert torch.equal(x[0, :, 8:], torch.zeros(4, 4))
    assert torch.equal(net.encode(bases), net.encode(bases, torch.zeros_like(bases)))
    row = SPEC.build({**TINY, "conservation": "channel"}).encode(bases, conserved)
    assert torch.equal(row[0, :4, :8], torch.eye(4).repeat(1, 2))
    assert torch.equal(row[0, 4], conserved[0] / 255)
    without = SPEC.build({**TINY, "conservation": "off"}).encode(bases, conserved)
    assert torch.equal(without, row[:, :4])


@torch.no_grad()
def test_a_window_of_unknown_bases_and_one_of_other_length(net):
    nothing = torch.full((1, 2048), 4, dtype=torch.uint8)
    out = net(nothing, nothing)
    assert bool(out.isfinite().all())
    other = torch.full((1, 2048), 78, dtype=torch.uint8)  # any other number means the same
    assert torch.equal(net(other, nothing), out)
    with pytest.raises(ValueError, match="windows of 2000 bp, but seq_bp is 2048"):
        net(nothing[:, :2000], nothing[:, :2000])


# ---- loss ----------------------------------------------------------------------------------------


def loss_and_gradient(logits, **batch):
    logits = logits.clone().requires_grad_()
    loss = SPEC.loss(logits, batch)
    loss.backward()
    return loss.item(), logits.grad


@pytest.fixture(scope="module")
def case():
    rng = torch.Generator().manual_seed(0)
    return torch.randn(3, 2, 5, generator=rng), torch.rand(3, 2, 5, generator=rng) * 9


def test_loss_is_the_poisson_likelihood_of_the_softplus(case):
    logits, target = case
    expected = F.poisson_nll_loss(F.softplus(logits), target, log_input=False, eps=1e-6)
    assert loss_and_gradient(logits, target=target)[0] == pytest.approx(expected.item(), abs=1e-6)
    half = SPEC.loss(logits, {"target": target.half()})
    assert half.dtype == torch.float32 and half.item() == pytest.approx(expected.item(), abs=1e-2)
    low = SPEC.loss(logits.bfloat16(), {"target": target})
    assert low.dtype == torch.float32


def test_missing_and_masked_bins_change_neither_loss_nor_gradient(case):
    logits, target = case
    valid = torch.rand(3, 2, 5, generator=torch.Generator().manual_seed(1)) < 0.6
    valid[:, 0, 0] = True
    loss, gradient = loss_and_gradient(logits, target=target, valid=valid)
    by_hand = [
        F.poisson_nll_loss(F.softplus(a[v]), t[v], log_input=False, eps=1e-6)
        for a, t, v in zip(logits, target, valid, strict=True)
    ]
    assert loss == pytest.approx(float(sum(by_hand)) / 3, abs=1e-6)
    assert not gradient[~valid].any() and bool(gradient[valid].all())
    missing = target.masked_fill(~valid, torch.nan)
    for batch in ({"target": missing}, {"target": missing, "valid": valid}):
        again, same = loss_and_gradient(logits, **batch)
        assert again == loss and torch.equal(same, gradient)
    wild = loss_and_gradient(logits, target=target.masked_fill(~valid, 1e9), valid=valid)
    assert wild[0] == loss and torch.equal(wild[1], gradient)
    row = valid[:, :1]  # one mask for all tracks
    one = loss_and_gradient(logits, target=target, valid=row)
    assert one[0] == loss_and_gradient(logits, target=target, valid=row.expand(3, 2, 5))[0]


def test_a_window_without_valid_bins_has_no_gradient_and_a_batch_may_be_divided(case):
    logits, target = case
    target = target.clone()
    target[1] = torch.nan
    loss, gradient = loss_and_gradient(logits, target=target)
    assert (
        not gradient[1].any() and bool(gradient[[0, 2]].any()) and bool(gradient.isfinite().all())
    )
    parts = [SPEC.loss(logits[i : i + 1], {"target": target[i : i + 1]}).item() for i in range(3)]
    assert parts[1] == 0 and loss == pytest.approx(sum(parts) / 3, abs=1e-6)
    empty = loss_and_gradient(logits, target=torch.full_like(target, torch.nan))
    assert empty[0] == 0 and not empty[1].any()


def test_blacklisted_bins_do_not_train_the_network():
    torch.manual_seed(0)
    net, batch = SPEC.build({**TINY, **STILL}), SPEC.example(TINY)
    batch["valid"] = torch.zeros_like(batch["valid"])
    SPEC.loss(run(net, batch), batch).backward()
    assert all(w.grad is None or not w.grad.any() for w in net.parameters())


def test_tracks_can_be_weighted(case):
    logits, target = case
    alone = SPEC.loss(logits[:, :1], {"target": target[:, :1]})
    for weights in (torch.tensor([2.0, 0.0]), torch.tensor([[2.0, 0.0]]).expand(3, 2)):
        found = SPEC.loss(logits, {"target": target, "track_weights": weights})
        torch.testing.assert_close(found, alone)


def test_shapes_that_would_broadcast_are_refused(case):
    with pytest.raises(ValueError, match=r"\(3, 2, 5\) and target \(3, 1, 5\) differ in shape"):
        SPEC.loss(case[0], {"target": case[1][:, :1]})


def test_a_head_of_log_rates_returns_what_the_softplus_expects():
    settings = {**TINY, **STILL, "log_input": True}
    torch.manual_seed(0)
    net, batch = SPEC.build(settings).eval(), SPEC.example(settings)
    seen = []
    net.head.register_forward_hook(lambda _m, _i, out: seen.append(out))
    for shift in (0.0, 5.0, -25.0):
        net.head.out.bias.data.fill_(shift)
        coverage = SPEC.output(run(net, batch))
        torch.testing.assert_close(coverage, seen[-1].exp(), rtol=2e-5, atol=0)
        net.zero_grad()
        SPEC.loss(run(net, batch), batch).backward()
        assert all(bool(w.grad.isfinite().all()) for w in net.parameters())


# ---- learning ------------------------------------------------------------------------------------


def test_the_first_update_has_a_rate_and_the_highest_is_the_one_asked_for():
    schedule = Schedule(1e-4, {"name": "warmup_cosine"}, 1000)
    rates = [schedule.rate(k) for k in range(1000)]
    assert rates[0] > 0 and max(rates) == pytest.approx(1e-4)


def test_eight_random_windows_are_learned_by_heart():
    torch.manual_seed(2)
    settings = {"preset": "tiny", **STILL}
    net = SPEC.build(settings)
    rng = torch.Generator().manual_seed(0)
    bases = torch.randint(0, 4, (8, 2048), generator=rng, dtype=torch.uint8)
    target = torch.randint(0, 6, (8, 1, 12), generator=rng).float()
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.01)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=100)
    for _ in range(100):
        loss = SPEC.loss(net(bases), {"target": target})
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        cycle.step()
    floor = (target - torch.special.xlogy(target, target)).mean()
    assert abs(loss.item() - float(floor)) < 0.01
    with torch.no_grad():
        assert pearson(SPEC.output(net.eval()(bases)), target) > 0.99


def test_two_trainings_with_one_seed_agree_to_the_bit():
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        net, batch = SPEC.build(TINY), SPEC.example(TINY)
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
        for _ in range(3):
            loss = SPEC.loss(run(net, batch), batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        found.append(net.state_dict())
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])
    assert np.isfinite(loss.item())
