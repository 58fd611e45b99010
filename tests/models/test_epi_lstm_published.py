"""Epi-LSTM's paper form against stored outputs and a slow reference; weights of the authors."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from models.epi_lstm import published
from tests.golden import __main__ as golden
from tests.models import epi_lstm_full as full
from tests.models.epi_lstm_small import SPEC, by_frames, net_of, noise, trained


def authors_names(net) -> tuple[dict, dict]:
    """Weights of our paper form under the authors' names, in double precision."""
    parts = {"encoder": {}, "decoder": {}}
    ends = {"input": "i2h", "recurrent": "h2h"}
    norms = ("ln_i2h", "ln_h2h", "ln_cell")
    for name, weight in net.state_dict().items():
        part, _, rest = name.partition(".")
        weight = weight.double().numpy()
        if part == "out":
            parts["decoder"][name] = weight
        elif part in parts:
            layer, kind, *end = rest.split(".")
            if kind == "norms":
                end = [norms[int(end[0])], {"weight": "alpha", "bias": "beta"}[end[1]]]
                kind = None
            where = ".".join([f"lstm.params.{layer}", *([ends[kind]] if kind else []), *end])
            parts[part][where] = weight
    return parts["encoder"], parts["decoder"]


# ---- the same numbers as the published code ------------------------------------------------------


def test_the_stored_output_of_the_original_code_is_reproduced(shared):
    path = shared / "golden/epi_lstm_paper.json"
    if not path.exists():
        pytest.skip(f"not here: {path}")
    _, status, difference, fine = golden.compare(path)
    assert fine and status == "ok" and float(difference) < 1e-5


@pytest.mark.parametrize(
    "sizes",
    [
        {"channels": 7, "latent": 3, "frame": 20, "frames": 3, "layers": 1},
        {"channels": 3, "latent": 5, "frame": 1, "frames": 9, "layers": 1},
        {"channels": 9, "latent": 4, "frame": 13, "frames": 2, "layers": 2},
        {"channels": 2, "latent": 1, "frame": 30, "frames": 2, "layers": 3},
    ],
)
def test_weights_of_the_authors_of_any_size_give_the_output_of_a_slow_reference(sizes, tmp_path):
    layers = sizes.pop("layers")
    encoder, decoder = full.shapes(sizes["channels"], sizes["latent"], layers)
    told = {"model": "epi_lstm", "seed": 5, **sizes, "bins": [0, 3, 8]}
    told |= {"encoder_state_dict": encoder, "decoder_state_dict": decoder}
    parts = [
        full.without_norms(golden.original_weights({"seed": 5 + k, "state_dict": names}))
        for k, names in enumerate((encoder, decoder))
    ]
    bins = sizes["frame"] * sizes["frames"]
    signal = np.random.RandomState(5 + 77).normal(size=(bins, sizes["channels"]))
    latents, made = full.run(*parts, signal, sizes["frame"], sizes["latent"], layers)
    told["latent_at_bins"] = latents[[0, 3, 8]].tolist()
    told["reconstruction_at_bins"] = made[[0, 3, 8]].tolist()
    told["mean_squared_error"] = float(((made - signal) ** 2).mean())
    (tmp_path / "one.json").write_text(json.dumps(told))
    name, status, difference, fine = golden.compare(tmp_path / "one.json")
    assert (name, status, fine) == ("epi_lstm", "ok", True) and float(difference) < 1e-5


@pytest.mark.parametrize("cell", ["zeroed", "carried"])
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_paper_form_computes_what_the_description_says(layers, layer_norm, cell):
    net = net_of(variant="paper", layers=layers, layer_norm=layer_norm, cell=cell)
    if layer_norm:  # norms off their defaults
        for name, weight in net.named_parameters():
            if ".norms." in name:
                weight.data += 0.3 * noise(*weight.shape, seed=len(name))
    signal = noise(45, 5)
    carry = cell == "carried"
    found = by_frames(net, signal, 15)
    wanted = full.run(*authors_names(net), signal.numpy(), 15, 4, layers, carry)
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=2e-6)


def test_only_with_layer_norm_do_numbers_depend_on_it():
    plain, normed = (net_of(variant="paper", layer_norm=on) for on in (False, True))
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, normed.state_dict()[name])
    one, two = (by_frames(net, noise(30, 5), 15)[0] for net in (plain, normed))
    assert (one - two).abs().max() > 0.01


# ---- weights of the authors ----------------------------------------------------------------------


def authors(channels: int = 5, latent: int = 4, layers: int = 1) -> dict[str, dict]:
    parts = full.shapes(channels, latent, layers, norms=False)
    return {
        name: golden.original_weights({"seed": k, "state_dict": shapes})
        for k, (name, shapes) in enumerate(zip(("encoder", "decoder"), parts, strict=True))
    }


def test_weights_saved_from_several_gpus_are_known_too():
    given = authors(layers=2)
    wrapped = {k: {f"module.{n}": w for n, w in part.items()} for k, part in given.items()}
    one, two = (SPEC.import_published(weights) for weights in (given, wrapped))
    assert one[0] == two[0] and one[0]["layers"] == 2 and len(one[0]["channels"]) == 5
    assert all(torch.equal(one[1][key], two[1][key]) for key in one[1])


def broken(kind: str) -> dict[str, dict]:
    given = authors()
    if kind == "part":
        del given["decoder"]
    elif kind == "missing":
        del given["encoder"]["lstm.params.0.h2h.bias"]
    elif kind == "foreign":
        given["decoder"]["conv.weight"] = np.zeros(3, "f4")
    elif kind == "layers":
        given["encoder"] = authors(layers=2)["encoder"]
    elif kind == "shape":
        given["decoder"] = authors(latent=3)["decoder"]
    elif kind == "out":
        given["decoder"]["out.weight"] = np.zeros((6, 4), "f4")
    return given


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("part", "give encoder and decoder state dictionaries"),
        ("missing", "encoder of Epi-LSTM: missing encoder.0.recurrent.bias; foreign nothing"),
        ("foreign", "not the decoder of Epi-LSTM: missing nothing; foreign conv.weight"),
        ("layers", "2 layers of encoder, 1 of decoder"),
        ("shape", "decoder, layer 0, input.weight: shape (12, 3), not (16, 4)"),
        ("out", "out.weight: shape (6, 4) does not fit"),
    ],
)
def test_files_that_are_not_those_of_the_authors_are_refused(kind, said):
    with pytest.raises(ValueError) as refused:
        SPEC.import_published(broken(kind))
    assert said in str(refused.value)


def drawn_as_published() -> dict[str, dict]:
    """Fresh weights of our network under the names of the authors."""
    net = net_of(variant="paper", latent=8, channels=[str(k) for k in range(60)])
    return dict(zip(("encoder", "decoder"), authors_names(net), strict=True))


def test_weights_that_were_never_trained_are_recognised():
    net = net_of(variant="paper", latent=8, channels=[str(k) for k in range(60)])
    assert published.random_weights(net.state_dict())
    trained(net.train(), noise(1, 50, 60), 30)
    assert not published.random_weights(net.state_dict())
    assert published.random_weights(SPEC.import_published(drawn_as_published())[1])
