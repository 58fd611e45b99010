"""Epiformer learns a planted motif, its place, its strand and its conservation, and no noise."""

from __future__ import annotations

import pytest
import torch

from tests.models.epiformer_windows import (
    MOTIF,
    SPEC,
    codes,
    log_pearson,
    pearson,
    planted,
    predict,
    reverse_complement,
    train,
)

torch.set_num_threads(1)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SETTINGS = {"preset": "tiny", "seq_bp": 4096}
HALF = len(MOTIF) // 2


@pytest.fixture(scope="module")
def learned():
    """A network trained on planted motifs, and held-out windows."""
    torch.manual_seed(0)
    net, data = SPEC.build(SETTINGS), planted(2000, 1)
    train(net, data, steps=300, batch=32)
    return net, planted(200, 2)


def nearby(start: int) -> slice:
    """The five output bins around a motif (crop 2)."""
    middle = (start + HALF) // 128 - 2
    return slice(middle - 2, middle + 3)


def lonely(held: dict) -> list[tuple[int, int]]:
    """(window, start) of motifs that are alone in their window and far from its ends."""
    alone = [(i, s[0]) for i, s in enumerate(held["starts"]) if len(s) == 1]
    return [(i, s) for i, s in alone if 600 < s < 4096 - 600]


def substituted(bases: torch.Tensor, places: range) -> torch.Tensor:
    """One copy for every other base at every place, in order."""
    found = []
    for place in places:
        for step in (1, 2, 3):
            other = bases.clone()
            other[place] = (other[place] + step) % 4
            found.append(other)
    return torch.stack(found)


def variant_score(net, pair: torch.Tensor) -> torch.Tensor:
    """Alternative minus reference, averaged over strands; each allele by itself, so exact."""
    ref, alt = (predict(net, allele[None], strands=True)[0] for allele in pair)
    return alt - ref


def test_a_planted_motif_is_found_in_held_out_windows(learned):
    net, held = learned
    made = predict(net, held["bases"])
    assert log_pearson(made, held["target"]) >= 0.90
    assert pearson(made, held["rate"]) >= 0.95


def test_mutating_the_motif_lowers_the_prediction(learned):
    net, held = learned
    lowered, inside, motifs = 0, 0, lonely(held)[:12]
    for i, start in motifs:
        bins = nearby(start)
        around = range(start - 20, start + len(MOTIF) + 20)
        before = predict(net, held["bases"][i : i + 1])[0, 0, bins].sum()
        effect = predict(net, substituted(held["bases"][i], around))[:, 0, bins].sum(-1) - before
        effect = effect.view(len(around), 3)
        lowered += int((effect[20:-20] < 0).sum())
        top = effect.abs().mean(1).topk(len(MOTIF)).indices
        inside += int(((top >= 20) & (top < 20 + len(MOTIF))).sum())
    assert len(motifs) >= 8
    assert lowered >= 0.95 * 30 * len(motifs)
    assert inside >= 0.90 * len(MOTIF) * len(motifs)


def test_a_variant_that_makes_the_motif_raises_the_prediction(learned):
    net, held = learned
    empty = [i for i, starts in enumerate(held["starts"]) if not starts][:13]
    motif, raised = torch.from_numpy(codes(MOTIF)), 0
    for k, i in enumerate(empty):
        start, changed = 1000 + 150 * k, k % len(MOTIF)
        alt = held["bases"][i].clone()
        alt[start : start + len(MOTIF)] = motif
        ref = alt.clone()
        ref[start + changed] = (ref[start + changed] + 1 + k % 3) % 4
        pair = torch.stack([ref, alt])
        score = variant_score(net, pair)
        raised += bool(score[0, nearby(start)].sum() > 0)
        assert torch.equal(variant_score(net, pair.flip(0)), -score)
        other = variant_score(net, reverse_complement(pair))
        torch.testing.assert_close(other.flip(-1), score, rtol=0, atol=1e-6)
    assert len(empty) >= 8 and raised >= 0.95 * len(empty)


def test_conservation_is_used():
    torch.manual_seed(0)
    net = SPEC.build(SETTINGS)
    train(net, planted(2000, 3, conserved=True), steps=400, batch=16)
    held = planted(200, 4, conserved=True)
    target = held["target"]
    assert log_pearson(predict(net, held["bases"], held["conservation"]), target) >= 0.90
    assert abs(log_pearson(predict(net, held["bases"]), target)) < 0.2
    random = torch.randint(0, 4, held["bases"].shape, generator=torch.Generator().manual_seed(5))
    other = predict(net, random.to(torch.uint8), held["conservation"])
    assert abs(log_pearson(other, target)) < 0.2


def test_shuffled_targets_are_not_learned():
    torch.manual_seed(0)
    net, data = SPEC.build(SETTINGS), planted(2000, 1)
    order = torch.randperm(2000, generator=torch.Generator().manual_seed(6))
    bins = torch.randperm(28, generator=torch.Generator().manual_seed(7))
    train(net, {**data, "target": data["target"][order][..., bins]}, steps=150, batch=16)
    held = planted(200, 2)
    made = predict(net, held["bases"])
    assert abs(log_pearson(made, held["target"])) < 0.05
