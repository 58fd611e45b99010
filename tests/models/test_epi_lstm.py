"""Epi-LSTM: its sizes, its state from frame to frame, its loss, and that it learns."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from epiloom.learn import carrying, training
from epiloom.plan.errors import InputError
from models.epi_lstm import model
from tests.made_tiles import examples, made_case, make_tiles, settings
from tests.models.epi_lstm_small import SPEC, by_frames, net_of, noise, trained

TABLE = "data/epi_lstm/roadmap_pilot_3regions_25bp_milli_arcsinh.tsv.gz"


# ---- sizes ---------------------------------------------------------------------------------------


def count(*modules) -> int:
    return sum(w.numel() for module in modules for w in module.parameters())


def test_the_paper_form_has_the_parameters_of_the_published_one():
    net = SPEC.build({"variant": "paper"})
    assert net.channels == 1030 and net.latent == 24
    assert count(net.encoder) == 101_376 and count(net.decoder, net.out) == 30_550


def test_sizes_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="latent: 3 is odd"):
        net_of(latent=3, bidirectional=True)
    with pytest.raises(ValueError, match="'fats' is unknown; choose one of fast, paper"):
        net_of(variant="fats")


def test_all_weights_begin_uniform_within_the_published_bound():
    net = net_of(variant="paper", latent=16, channels=[str(k) for k in range(200)])
    for part in (net.encoder, net.decoder):
        drawn = torch.cat([w.flatten() for w in part.parameters()])
        assert drawn.abs().max() <= 0.25 and abs(drawn.std() - 0.25 / 3**0.5) < 0.005


# ---- the fast form -------------------------------------------------------------------------------


def loop(lstm, x, h, c):
    """An LSTM one cell and one bin at a time; states (layers, H)."""
    cells = []
    for layer in range(lstm.num_layers):
        own = torch.nn.LSTMCell(x.shape[1] if layer == 0 else lstm.hidden_size, lstm.hidden_size)
        own.load_state_dict(
            {k: getattr(lstm, f"{k}_l{layer}") for k in ("weight_ih", "weight_hh")}
            | {k: getattr(lstm, f"{k}_l{layer}") for k in ("bias_ih", "bias_hh")}
        )
        cells.append(own)
    h, c, made = list(h), list(c), []
    for value in x:
        for layer, own in enumerate(cells):
            h[layer], c[layer] = own(value, (h[layer], c[layer]))
            value = h[layer]
        made.append(value)
    return torch.stack(made), torch.stack(h), torch.stack(c)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(("latent", "wide"), [(4, 6), (3, 9)])
def test_the_fast_form_is_two_plain_lstms_through_the_latent_alone(latent, wide, layers):
    net = net_of(latent=latent, decoder_hidden=wide, layers=layers)
    signal = noise(40, 5)
    found = by_frames(net, signal, 10)
    with torch.no_grad():
        none = torch.zeros(layers, latent)
        latents, *_ = loop(net.encoder, signal, none, none)
        none = torch.zeros(layers, wide)
        hidden, *_ = loop(net.decoder, latents, none, none)
        wanted = latents, hidden @ net.out.weight.T + net.out.bias
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


# ---- the state -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "bins"),
    [({}, 20_000), ({"layers": 2}, 20_000), ({"variant": "paper", "cell": "carried"}, 4000)],
)
def test_a_sequence_at_once_equals_its_carried_frames(sizes, bins):
    net = net_of(channels=[str(k) for k in range(25)], latent=6, **sizes)
    signal = noise(bins, 25)
    with torch.no_grad():
        at_once = net.encode(signal[None])[0][0]
    carried, _ = by_frames(net, signal, 100)
    assert (at_once - carried).abs().max() <= 1e-6
    apart, _ = by_frames(net, signal, 100, carry=False)
    assert (at_once - apart).abs().max() > 1e-2


def test_the_reconstruction_goes_on_with_the_carried_state_too():
    net = net_of()
    signal = noise(300, 5)
    with torch.no_grad():
        at_once = net(signal[None], torch.tensor([True]))[0]
    _, carried = by_frames(net, signal, 20)
    assert (at_once - carried).abs().max() <= 1e-6


@pytest.mark.parametrize("variant", ["fast", "paper"])
def test_the_same_input_gives_the_same_latents_to_the_last_bit(variant):
    net = net_of(variant=variant)
    signal = noise(3, 200, 5)
    with torch.inference_mode():
        assert torch.equal(net.encode(signal)[0], net.encode(signal)[0])


@pytest.mark.parametrize("variant", ["fast", "paper"])
def test_a_lane_that_begins_forgets_and_the_others_go_on(variant):
    net = net_of(variant=variant)
    first, second = noise(2, 10, 5), noise(2, 10, 5, seed=1)
    with torch.no_grad():
        net(first, torch.tensor([True, True]))
        made = net(second, torch.tensor([True, False]))
        net.carried = None
        anew = net(second, torch.tensor([True, True]))
    torch.testing.assert_close(made[0], anew[0], rtol=0, atol=1e-6)
    assert (made[1] - anew[1]).abs().max() > 1e-3


def test_no_gradient_goes_back_beyond_a_frame():
    net = net_of()
    first = noise(1, 10, 5).requires_grad_()
    net(first, torch.tensor([True]))
    assert not any(part.requires_grad for part in net.carried)
    net(noise(1, 10, 5, seed=1), torch.tensor([False])).sum().backward()
    assert first.grad is None


def test_both_directions_carry_the_forward_one_only():
    net = net_of(bidirectional=True)
    assert net.encoder.hidden_size == 2
    signal = noise(20, 5)
    forward, backward = torch.nn.LSTM(5, 2), torch.nn.LSTM(5, 2)
    for own, end in ((forward, ""), (backward, "_reverse")):
        for name, weight in own.named_parameters():
            weight.data = getattr(net.encoder, name + end).data
    with torch.no_grad():
        found, _ = by_frames(net, signal, 10)
        straight = forward(signal)[0]  # all bins, one after the other
        turned = [backward(part.flip(0))[0].flip(0) for part in signal.split(10)]
    torch.testing.assert_close(found[:, :2], straight, rtol=0, atol=1e-6)
    torch.testing.assert_close(found[:, 2:], torch.cat(turned), rtol=0, atol=1e-6)


def test_both_directions_have_layers_in_the_right_order():
    net = net_of(bidirectional=True, layers=2)
    state = tuple(noise(2, 1, 2, seed=k) for k in range(2))
    signal = noise(1, 10, 5)
    with torch.no_grad():
        none = torch.zeros(1, 2)
        begun = [torch.stack([s[0], none, s[1], none]) for s in state]
        wanted, (h, c) = net.encoder(signal, tuple(begun))
        found, after = net.encode(signal, state)
    assert torch.equal(found, wanted)
    assert torch.equal(after[0], h[[0, 2]]) and torch.equal(after[1], c[[0, 2]])


# ---- learning ------------------------------------------------------------------------------------


@pytest.mark.parametrize("latent", [12, 24])
def test_one_real_frame_is_learnt_by_heart_and_weights_move(latent, shared):
    path = shared / TABLE
    if not path.exists():
        pytest.skip(f"not here: {path}")
    with gzip.open(path, "rt") as file:
        rows = [line.split("\t")[2:] for k, line in enumerate(file) if 0 < k <= 20_002]
    values = np.array(rows, np.float64) / 1000
    z = ((values - values.mean(axis=0)) / values.std(axis=0))[5000:5100]
    signal = torch.from_numpy(z.astype(np.float32))[None]
    net = net_of(channels=[str(k) for k in range(25)], latent=latent, decoder_hidden=64).train()
    before = {name: w.detach().clone() for name, w in net.named_parameters()}
    variance = float(signal.var())
    losses = trained(net, signal, 100)
    assert losses[-1] / variance < 0.10
    assert carrying.change(before, net) > carrying.LEAST
    net = net_of(channels=[str(k) for k in range(25)], latent=latent, decoder_hidden=64).train()
    assert trained(net, signal, 500)[-1] / variance < 0.01


def test_the_published_clipping_is_refused_by_the_trainer(tmp_path):
    files = make_tiles(tmp_path / "store", *made_case())
    run = settings(clip_norm=5e-14, epochs=20, batch=2)
    parts = [examples(files, part, batch=2) for part in ("train", "validation")]
    out = [tmp_path / name for name in ("run", "weights.pt", "history.tsv")]
    with pytest.raises(InputError, match=r"100 updates: nothing is learnt; raise .* clip_norm"):
        training.fit(SPEC, run, *parts, *out, device="cpu", progress=False)
    assert not out[1].exists()


# ---- the loss ------------------------------------------------------------------------------------


def slow_loss(made, batch) -> torch.Tensor:
    """Mean over values that count of each frame, then over frames; one number at a time."""
    frames, valid = [], batch["valid"].expand(batch["signal"].shape)
    for b in range(len(made)):
        total, n = torch.zeros((), dtype=torch.float64), 0
        for t, d in np.ndindex(*batch["signal"].shape[1:]):
            if valid[b, t, d]:
                weight = float(batch["weight"][b, d]) if "weight" in batch else 1.0
                away = made[b, t, d].double() - float(batch["signal"][b, t, d])
                total, n = total + weight * away**2, n + 1
        frames += [total / n] if n else []
    return torch.stack(frames).mean() if frames else torch.zeros((), dtype=torch.float64)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("marks", ["all", "bins", "values", "none"])
def test_loss_and_gradient_are_those_of_a_slow_reference(marks, weighted):
    batch = {"signal": noise(2, 6, 3)}
    shape = (2, 6, 3) if marks == "values" else (2, 6, 1)
    share = {"all": -9.0, "none": 9.0}.get(marks, 0.2)
    batch["valid"] = noise(*shape, seed=3) > share
    if weighted:
        batch["weight"] = torch.tensor([[0.5, 1.0, 1.5]] * 2)
    made = noise(2, 6, 3, seed=4).requires_grad_()
    loss = SPEC.loss(made, batch)
    wanted = slow_loss(made, batch)
    torch.testing.assert_close(loss.double(), wanted, rtol=1e-6, atol=1e-7)
    (slope,) = torch.autograd.grad(loss * 3, made)
    expected = torch.autograd.grad(wanted * 3, made)[0] if marks != "none" else torch.zeros(2, 6, 3)
    torch.testing.assert_close(slope, expected, rtol=1e-5, atol=1e-7)


def test_values_that_do_not_count_may_be_anything():
    batch = {"signal": noise(1, 4, 2), "valid": torch.tensor([[[1], [0], [1], [1]]]).bool()}
    made = noise(1, 4, 2, seed=1)
    before = SPEC.loss(made, batch)
    made[0, 1], batch["signal"][0, 1] = float("inf"), float("nan")
    assert torch.equal(SPEC.loss(made, batch), before)


def test_a_loss_in_half_precision_is_summed_in_single():
    made = noise(2, 500, 3, seed=1)
    batch = {"signal": noise(2, 500, 3), "valid": torch.ones(2, 500, 1).bool()}
    half = made.bfloat16().requires_grad_()
    loss = SPEC.loss(half, batch)
    loss.backward()
    assert loss.dtype == torch.float32 and half.grad.dtype == torch.bfloat16
    torch.testing.assert_close(loss, F.mse_loss(half.float(), batch["signal"]), rtol=1e-5, atol=0)


def test_the_example_is_the_same_each_time():
    one, two = (model.example({"channels": ["a", "b"]}) for _ in range(2))
    assert all(torch.equal(one[key], two[key]) for key in one)
