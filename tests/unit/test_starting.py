"""Training that begins with other weights: rows by track, frozen trunks, what they have seen."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import models
from epiloom.learn import checkpoint, one_run, starting
from epiloom.plan.errors import InputError
from tests.models import epiformer_full as full
from tests.models.epiformer_windows import SPEC
from tests.models.small import fit, settings, weights

FOLD = {"name": "fold1", "validation": ["chr1"], "test": ["chr2", "chr3"]}


class Windows:
    """Made-up windows whose second track is twice the first."""

    def __init__(self, number: int, tracks: int, seed: int):
        rng = np.random.default_rng(seed)
        self.bases = rng.integers(0, 4, (number, 1024)).astype(np.uint8)
        strong = (self.bases == 1).reshape(number, 8, 128).mean(2)[:, None, 1:-1] * 8
        self.target = np.concatenate([strong, 2 * strong, strong], axis=1)[:, :tracks]
        self.target = self.target.astype(np.float16)

    def __len__(self) -> int:
        return len(self.bases)

    def batch(self, indices):
        bases, target = self.bases[indices], self.target[indices]
        found = {"bases": bases, "conservation": np.zeros_like(bases), "target": target}
        return found | {"valid": np.ones_like(target[:, :1], bool)}

    def names(self, indices):
        return [f"window{i}" for i in indices]


def run(tracks: list[str], **changes) -> dict:
    """Settings of a run of a tiny Epiformer."""
    own = {"preset": "tiny", "seq_bp": 1024, "crop_bins": 1, "width": 16, "first_width": 8}
    own |= {"heads": 2, "tracks": tracks, "fold": FOLD, "windows": {"split": "chromosomes"}}
    own |= {
        "dropout": 0.1,
        "start": None,
        "start_seen": "refuse",
        "frozen": False,
        "feed_forward": 32,
    }
    adam = {"name": "adamw", "learning_rate": 0.01, "epsilon": 1e-8, "weight_decay": 0.0}
    return settings(**own | changes, optimizer=adam)


def trained(folder: Path, wanted: dict, start: Path | None = None, number: int = 64) -> list[dict]:
    parts = [Windows(n, len(wanted["tracks"]), seed) for n, seed in ((number, 0), (16, 1))]
    return fit(folder, wanted, *parts, spec=SPEC, start=start)


@pytest.fixture(scope="module")
def trunk(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trunk")
    trained(folder, run(["a", "b"], epochs=6))
    return folder / "weights.pt"


def begun(wanted: dict, path: Path) -> dict[str, torch.Tensor]:
    net = SPEC.build(wanted)
    starting.begin(SPEC, net, wanted, path)
    return net.state_dict()


def test_known_tracks_keep_their_row_and_new_ones_begin_with_the_mean(trunk):
    before = torch.load(trunk, weights_only=True)["state_dict"]
    after = begun(run(["new", "b"]), trunk)
    for name in SPEC.rows:
        assert torch.equal(after[name][1], before[name][1])
        assert torch.equal(after[name][0], before[name].mean(dim=0))
    rest = [name for name in before if name not in SPEC.rows]
    assert rest and all(torch.equal(after[name], before[name]) for name in rest)


def test_a_frozen_trunk_keeps_every_number_and_the_new_row_is_learnt(trunk, tmp_path):
    wanted = run(["a", "b", "new"], epochs=4, frozen=True)
    losses = [row["validation_loss"] for row in trained(tmp_path, wanted, trunk)]
    before, after = torch.load(trunk, weights_only=True)["state_dict"], weights(tmp_path)
    moved = {name for name in before if name not in SPEC.rows}
    assert all(torch.equal(before[name], after[name]) for name in moved)
    assert not torch.equal(after["head.out.weight"][2], before["head.out.weight"].mean(dim=0))
    fresh = trained(tmp_path / "fresh", run(["a", "b", "new"], epochs=1), None)
    assert losses[-1] < losses[0] < fresh[0]["validation_loss"]


def test_an_interrupted_run_goes_on_and_other_weights_begin_again(trunk, tmp_path, caplog):
    wanted = run(["a"], epochs=1)
    first = trained(tmp_path, wanted, trunk)
    assert trained(tmp_path, wanted, trunk) == first  # it was finished
    given = torch.load(trunk, weights_only=True)
    given["state_dict"]["head.out.bias"] += 1
    torch.save(given, tmp_path / "other.pt")
    again = trained(tmp_path, wanted, tmp_path / "other.pt")
    assert "training starts again" in caplog.text
    assert again[0]["train_loss"] != first[0]["train_loss"]


def test_test_chromosomes_that_the_weights_have_seen_are_refused(trunk):
    part = {"name": "f2", "validation": ["chr2"], "test": ["chr3"]}
    begun(run(["a"]) | {"fold": part}, trunk)  # held out by both
    other = run(["a"]) | {"fold": part | {"test": ["chr3", "chr7", "chr1"]}}
    with pytest.raises(InputError, match="was not tested on chr7, chr1, test chromosomes of fold"):
        begun(other, trunk)
    begun(other | {"start_seen": "allow"}, trunk)


@pytest.mark.parametrize(
    "change", [{"start_seen": "allow"}, {"windows": {"split": "random_windows"}}]
)
def test_weights_that_do_not_tell_are_refused(trunk, tmp_path, change):
    given = torch.load(trunk, weights_only=True)
    torch.save(given | {"settings": given["settings"] | change}, tmp_path / "w.pt")
    with pytest.raises(InputError, match="does not tell which chromosomes"):
        begun(run(["a"]), tmp_path / "w.pt")


def parts(train="AB", validation="C", test="D") -> dict[str, list[str]]:
    return {"train": list(train), "validation": list(validation), "test": list(test)}


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (parts(), None),
        (parts("ABX", "C", "D"), None),
        (parts("A", "C", "DZ"), None),  # Z was not there at all
        (parts("A", "C", "DB"), "was not held out from B, test cells"),
        (parts("A", "B", "D"), "was not held out from B, validation cells"),
        (parts("A", "", "C"), "was not held out from C, test cells"),  # it chose the epoch
        (parts("A", "D", ""), None),
        (parts("ABCD", "", ""), None),
    ],
)
def test_held_out_cells_that_the_weights_have_seen_are_refused(trunk, tmp_path, cells, told):
    given, path = torch.load(trunk, weights_only=True), tmp_path / "w.pt"
    torch.save(given | {"settings": given["settings"] | {"cells": parts()}}, path)
    wanted = run(["a"]) | {"cells": cells}
    if told is None:
        begun(wanted, path)
        return
    with pytest.raises(InputError, match=f"{told}; hold other cells out, or set .*allow"):
        begun(wanted, path)
    begun(wanted | {"start_seen": "allow"}, path)


def test_cells_and_chromosomes_are_told_together(trunk, tmp_path):
    given, path = torch.load(trunk, weights_only=True), tmp_path / "w.pt"
    torch.save(given | {"settings": given["settings"] | {"cells": parts()}}, path)
    other = run(["a"]) | {"cells": parts("C", "B", "A"), "fold": FOLD | {"test": ["chr9"]}}
    with pytest.raises(InputError) as caught:
        begun(other, path)
    assert len(caught.value.problems) == 3


def test_weights_that_do_not_tell_their_cells_are_refused(trunk, tmp_path):
    with pytest.raises(InputError, match="does not tell which cells it was trained on"):
        begun(run(["a"]) | {"cells": parts()}, trunk)
    # began with weights that may have seen any cell it did not hold out itself
    given, path = torch.load(trunk, weights_only=True), tmp_path / "w.pt"
    told = {"cells": parts(), "start": "other.pt"}
    torch.save(given | {"settings": given["settings"] | told}, path)
    begun(run(["a"]) | {"cells": parts()}, path)
    with pytest.raises(InputError, match="was not held out from Z, test cells"):
        begun(run(["a"]) | {"cells": parts("A", "C", "DZ")}, path)


def test_a_network_of_another_form_is_refused_key_by_key(trunk):
    other = run(["a"]) | {"width": 32, "heads": 4, "conservation": "off", "crop_bins": 2}
    with pytest.raises(InputError) as error:
        begun(other, trunk)
    told = str(error.value)
    assert "set models.epiformer.width: 16" in told and "conservation is factor in" in told
    assert "heads is 2 in the weights, 4 in the settings" in told and "crop_bins" not in told


def test_a_checkpoint_of_the_authors_begins_a_run(tmp_path):
    drawn = full.draw(0, {**full.SMALL, "outputs": 18})
    found, state = SPEC.import_published(drawn)
    path = tmp_path / "joint.best_loss.pth.tar"
    told = {"current_valid_corr": np.float64(0.58), "optimizer": {"step": np.int64(3)}}
    torch.save({"state_dict": drawn, "param": {"if_cons": True}, **told}, path)
    sizes = {k: v for k, v in found.items() if k != "tracks"}
    wanted = run(["MGC", "of my own"]) | sizes | {"relative_reach": None}
    with pytest.raises(InputError, match="does not tell which chromosomes"):
        begun(wanted, path)
    after = begun(wanted | {"start_seen": "allow"}, path)
    assert torch.equal(after["head.out.bias"][0], state["head.out.bias"][3])


def test_code_in_a_foreign_file_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "pwned"),)

    path = tmp_path / "w.pt"
    torch.save({"state_dict": Evil(), "settings": {}}, path)
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    for file in (path, tmp_path / "plain.pt"):
        with pytest.raises(InputError, match="give a weights.pt made here"):
            begun(run(["a"]), file)
    assert not (tmp_path / "pwned").exists()


def test_without_epochs_the_weights_are_the_result(trunk, tmp_path):
    wanted = run(["b"], epochs=0)
    out = [tmp_path / name for name in ("weights.pt", "history.tsv")]
    one_run.train(SPEC, wanted, {}, tmp_path / "run", *out, start=trunk)
    before = torch.load(trunk, weights_only=True)["state_dict"]
    made = torch.load(out[0], weights_only=True)
    assert torch.equal(made["state_dict"]["head.out.bias"], before["head.out.bias"][1:])
    assert made["settings"]["tracks"] == ["b"]
    assert len(out[1].read_text().splitlines()) == 1


def test_factors_in_another_order_are_refused(tmp_path):
    """The sizes fit, but every column would be another factor's."""
    own = {"preset": "tiny", "tfs": [f"T{k}" for k in range(13)], "signals": ["a", "b", "c"]}
    own |= {"cells": {"train": ["x"], "validation": [], "test": []}, "start_seen": "allow"}
    spec = models.load("epigept")
    net = spec.build(own)
    checkpoint.save_weights(tmp_path / "weights.pt", net.state_dict(), own)
    starting.begin(spec, net, own, tmp_path / "weights.pt")
    for change in ({"tfs": own["tfs"][::-1]}, {"signals": ["a", "c", "b"]}):
        with pytest.raises(InputError, match="in another order, than in the weights: number [12]"):
            starting.begin(spec, net, own | change, tmp_path / "weights.pt")
