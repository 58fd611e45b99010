"""What every model folder must do, whichever model it is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import torch
import yaml

import models

ROOT = Path(__file__).resolve().parents[2]
NAMES = models.names()
# The paper's size is what {} stands for; where a CPU cannot train it, smaller settings.
SETTINGS = {
    "epiformer": {"preset": "tiny", "tracks": ["a", "b"], "dropout": 0.0},
    "epigept": {"preset": "tiny"},
}
torch.set_num_threads(1)


@pytest.fixture(params=NAMES)
def spec(request):
    torch.manual_seed(0)
    return models.load(request.param)


def forward(spec, net, batch):
    return net(*(batch[key] for key in spec.inputs))


def small(spec) -> dict:
    return SETTINGS.get(spec.name, {})


def card(name: str) -> dict:
    return yaml.safe_load((ROOT / "models" / name / "model.yaml").read_text())


def test_there_is_a_model_and_an_unknown_one_is_named():
    assert "promoter_cnn" in NAMES
    with pytest.raises(LookupError, match="'promotor_cnn' does not exist; choose one of"):
        models.load("promotor_cnn")


def test_the_card_has_what_planning_needs(spec):
    facts = card(spec.name)
    assert facts["version"] >= 1 and facts["axes"] and facts["dataset"]
    assert {"gpu", "mem_mb", "runtime", "threads"} <= set(facts["resources"])
    assert facts["title"] and facts["paper"]


def test_example_matches_inputs_and_target_and_the_loss_is_finite(spec):
    net, batch = spec.build(small(spec)), spec.example(small(spec))
    assert {*spec.inputs, spec.target} <= set(batch)
    assert len({len(tensor) for tensor in batch.values()}) == 1
    prediction = forward(spec, net, batch)
    assert prediction.shape == batch[spec.target].shape
    loss = spec.loss(prediction, batch)
    assert loss.ndim == 0 and bool(loss.isfinite())


def test_every_model_learns_one_batch(spec):
    net, batch = spec.build(small(spec)), spec.example(small(spec))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = spec.loss(forward(spec, net, batch), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_evaluation_is_deterministic_and_independent_of_the_batch(spec):
    net, batch = spec.build(small(spec)).eval(), spec.example(small(spec))
    with torch.no_grad():
        together = forward(spec, net, batch)
        assert torch.equal(together, forward(spec, net, batch))
        for k in range(len(together)):
            alone = forward(spec, net, {key: v[k : k + 1] for key, v in batch.items()})
            torch.testing.assert_close(alone[0], together[k], rtol=0, atol=1e-5)


def test_the_state_dict_survives_a_file_of_plain_tensors(spec, tmp_path):
    net, batch = spec.build(small(spec)).eval(), spec.example(small(spec))
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    again = spec.build(small(spec)).eval()
    again.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    with torch.no_grad():
        assert torch.equal(forward(spec, net, batch), forward(spec, again, batch))


def test_parameter_count_is_the_one_in_the_readme(spec):
    text = (ROOT / "models" / spec.name / "README.md").read_text()
    stated = int(re.search(r"([\d,]+) parameters", text)[1].replace(",", ""))
    assert sum(w.numel() for w in spec.build({}).parameters()) == stated


@pytest.mark.parametrize("name", NAMES)
def test_a_model_imports_only_torch_and_its_own_folder(name):
    for path in (ROOT / "models" / name).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            found = []
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found = [node.module or ""]
            for module in found:
                own = module == "models.spec" or module.startswith(f"models.{name}")
                assert own or module.split(".")[0] not in ("models", "epiloom", "snakemake"), module
