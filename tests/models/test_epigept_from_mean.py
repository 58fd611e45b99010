"""EpiGePT that starts from the mean of training cells: against slow loops, and what it knows."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import models
from models.epigept.model import mirrored
from models.epigept.start import STRONG

SPEC = models.load("epigept")
TINY = {"preset": "tiny", "from_mean": True, "local_reach": 2}
torch.set_num_threads(1)


@pytest.fixture
def batch():
    return SPEC.example(TINY)


@pytest.fixture
def net(batch):
    """A network with weights as after some training, and a usual cell."""
    torch.manual_seed(0)
    made = SPEC.build(TINY).eval()
    with torch.no_grad():
        for weight in (made.out.weight, made.start.local.weight):
            weight.normal_(0, 0.3)
        made.start.usual.uniform_(0, 3)
    return made


def test_before_any_training_the_prediction_is_the_mean(batch):
    made = SPEC.build(TINY)
    torch.testing.assert_close(made(*SPEC.given(batch)), batch["mean"])


def test_given_takes_the_mean_where_a_batch_has_one(batch):
    keys = [*SPEC.inputs, *SPEC.optional]
    assert [id(x) for x in SPEC.given(batch)] == [id(batch[key]) for key in keys]
    without = {key: batch[key] for key in SPEC.inputs}
    assert len(SPEC.given(without)) == 3
    with pytest.raises(ValueError, match="mean of the training cells"):
        SPEC.build(TINY)(*SPEC.given(without))


def test_sites_nearby_count_by_how_much_their_factors_differ(net, batch):
    """The local part is the explicit sum over bins, factors and signals."""
    motifs = batch["motifs"].numpy().astype(float) * net.cfg.motif_step
    changed = batch["expression"].numpy() - net.start.usual.numpy()
    weight = net.start.local.weight.detach().numpy()
    usual = net.features(batch["motifs"], net.start.usual.expand(2, 1, -1))
    found = net.start.difference(net.features(batch["motifs"], batch["expression"]), usual)
    regions, cells, bins, signals = found.shape
    slow = np.zeros(found.shape)
    for r, c, b, s in np.ndindex(regions, cells, bins, signals):
        for step in range(-2, 3):
            if 0 <= b + step < bins:
                feature = motifs[r, b + step] * changed[r, c] / STRONG
                slow[r, c, b, s] += (feature * weight[s, :, step + 2]).sum()
    np.testing.assert_allclose(found.detach().numpy(), slow, atol=1e-4)


def test_the_usual_cell_differs_by_the_transformer_alone(net, batch):
    usual = net.start.usual.expand(2, 2, -1)
    features = net.features(batch["motifs"], usual)
    assert not net.start.difference(features, features[:, :1]).any()


def test_nothing_below_zero_is_predicted_but_training_sees_it(net, batch):
    low = {**batch, "mean": batch["mean"] * 0}
    assert net(*SPEC.given(low)).min() == 0
    assert net.train()(*SPEC.given(low)).min() < 0


def test_cells_do_not_meet_and_other_means_give_other_predictions(net, batch):
    whole = net(*SPEC.given(batch))
    for c in range(2):
        own = {**batch, "expression": batch["expression"][:, [c]], "mean": batch["mean"][:, [c]]}
        torch.testing.assert_close(net(*SPEC.given(own)), whole[:, [c]])
    other = {**batch, "mean": batch["mean"] + 1}
    assert (net(*SPEC.given(other)) - whole).abs().max() > 0.5


def test_gradients_reach_the_features_by_both_ways(net, batch):
    given = SPEC.given({key: batch[key] for key in (*SPEC.inputs, "mean")})
    slope = net.gradient(*given, signals=[0], bins=[5])
    assert slope[:, :, 3:8].abs().amax() > 0
    for parameter in (*net.combine.parameters(), *net.encoder.parameters()):
        parameter.data.zero_()
    net.out.weight.data.zero_()
    alone = net.gradient(*given, signals=[0], bins=[5])
    wanted = net.start.local.weight[0].T / STRONG  # of bins 3 to 7
    high = net.predict(given[0], net.features(*given[1:3]), net.started(given[1], given[3]))
    for r, c in np.argwhere(high[:, :, 5, 0].detach().numpy() > 0):  # elsewhere 0 is the floor
        torch.testing.assert_close(alone[r, c, 3:8], wanted)


def test_the_mean_turns_with_the_strand(batch):
    torch.testing.assert_close(mirrored(batch)["mean"], batch["mean"].flip(2))


def test_prepare_keeps_the_training_cells_expression():
    rng = np.random.default_rng(0)
    reader = SimpleNamespace(
        vectors=rng.random((5, 13), dtype=np.float32), train=np.array([0, 2, 3])
    )
    made = SPEC.build(TINY)
    SPEC.prepare(made, SimpleNamespace(reader=reader))
    np.testing.assert_allclose(made.start.usual, reader.vectors[[0, 2, 3]].mean(axis=0), rtol=1e-6)
    SPEC.prepare(SPEC.build({"preset": "tiny"}), None)  # others keep nothing
    assert "start.usual" in made.state_dict()


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="from_mean starts from log1p signals, loss poisson"):
        SPEC.build(TINY | {"loss": "poisson"})
    assert SPEC.form(TINY) != SPEC.form({"preset": "tiny"})


def test_a_site_of_a_bin_tells_how_much_of_its_factor_there_is():
    """With tf_norm layer, as spread over the bin's TFs, one site looks the same at any level."""
    spread = {}
    for norm in ("scale", "layer"):
        torch.manual_seed(1)
        made = SPEC.build({"preset": "tiny", "combine": "project", "width": 16, "tf_norm": norm})
        features = torch.zeros(1, 2, 1, 13)
        features[0, :, 0, 4] = torch.tensor([10.0, 60.0])  # the same site in two cells
        tokens = made.combine(torch.zeros(1, 1, 16), features)
        spread[norm] = (tokens[0, 0] - tokens[0, 1]).abs().max().item()
    assert spread["scale"] > 0.1 and spread["layer"] < 1e-3
