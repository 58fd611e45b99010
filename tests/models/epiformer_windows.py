"""Small Epiformers and made-up windows for tests: random bases, planted motifs, a plain trainer."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import models

SPEC = models.load("epiformer")
TINY = {"preset": "tiny", "tracks": ["a", "b"]}
STILL = {"dropout": 0.0, "attention_dropout": 0.0, "head_dropout": 0.0}
MOTIF = "TGACTCAGCA"


def run(net, batch):
    return net(*(batch[key] for key in SPEC.inputs))


def on_paper(settings):
    """The network without memory or weights."""
    with torch.device("meta"):
        return SPEC.build(settings).eval()


def build(weights, seq_bp, crop, **settings):
    """Our network with weights under published names."""
    param = {"seq_len": seq_bp, "crop_size": crop}
    found, state = SPEC.import_published({"state_dict": weights, "param": param})
    net = SPEC.build({**found, **settings})
    net.load_state_dict(state)
    return net


def made_up(seq_bp, number=2, seed=0):
    """Random bases, N among them, and conservation."""
    rng = torch.Generator().manual_seed(seed)
    bases = torch.randint(0, 5, (number, seq_bp), generator=rng, dtype=torch.uint8)
    conservation = torch.randint(0, 256, bases.shape, generator=rng, dtype=torch.uint8)
    return bases, conservation


def codes(text: str) -> np.ndarray:
    """A C G T in either case -> 0..3, every other letter -> 4."""
    return np.array(["ACGT".find(c) % 5 for c in text.upper()], np.uint8)


def reverse_complement(bases: Tensor) -> Tensor:
    return torch.where(bases < 4, 3 - bases.int(), 4).to(torch.uint8).flip(-1)


def randomized(net, seed=7):
    """`net` in evaluation mode with statistics and weights of normalisations off their defaults."""
    rng = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            for tensor in (module.running_mean, module.bias.data):
                tensor.copy_(0.2 * torch.randn(tensor.shape, generator=rng))
            for tensor in (module.running_var, module.weight.data):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=rng))
    return net.eval()


def pearson(a: Tensor, b: Tensor) -> float:
    return float(np.corrcoef(a.double().flatten(), b.double().flatten())[0, 1])


# ---- planted motif -------------------------------------------------------------------------------


def planted(number: int, seed: int, seq_bp: int = 4096, conserved: bool = False) -> dict:
    """Random windows with Poisson(2) motifs of either orientation, and counts of their activity.

    The rate of a bin is 0.2 + 8 exp(-d^2 / 2 x 100^2) per motif at distance d; the target is a
    Poisson count of 4 x rate, divided by 4. With `conserved` a motif works only where phastCons is
    1; motifs without it and such places without a motif are decoys.
    """
    rng = np.random.default_rng(seed)
    forward = codes(MOTIF)
    size, bins = len(forward), seq_bp // 128
    bases = rng.integers(0, 4, (number, seq_bp)).astype(np.uint8)
    conservation = np.zeros((number, seq_bp), np.uint8)
    rate = np.full((number, bins), 0.2)
    centres = np.arange(bins) * 128 + 64
    starts = []
    for i in range(number):
        places = [int(p) for p in rng.integers(300, seq_bp - 300 - size, rng.poisson(2))]
        for p in places:
            bases[i, p : p + size] = forward if rng.random() < 0.5 else 3 - forward[::-1]
            active = not conserved or rng.random() < 0.5
            if conserved and active:
                conservation[i, p : p + size] = 255
            if active:
                rate[i] += 8 * np.exp(-((centres - p - size / 2) ** 2) / (2 * 100**2))
        for p in rng.integers(300, seq_bp - 300 - size, rng.poisson(1) * conserved):
            if all(abs(int(p) - q) > 2 * size for q in places):
                conservation[i, p : p + size] = 255
        starts.append(places)
    counts = rng.poisson(4 * rate) / 4
    return {
        "bases": torch.from_numpy(bases),
        "conservation": torch.from_numpy(conservation),
        "target": torch.from_numpy(counts[:, None, 2:-2].astype(np.float32)),  # crop 2
        "rate": torch.from_numpy(rate[:, None, 2:-2].astype(np.float32)),
        "starts": starts,
    }


def train(net, data: dict, steps: int, batch: int, seed: int = 0) -> list[float]:
    """AdamW with one cycle up to 2e-3, every second step on the other strand; returns losses."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.01)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    rng = torch.Generator().manual_seed(seed)
    keys, losses = ("bases", "conservation", "target"), []
    net.train()
    for step in range(steps):
        rows = torch.randint(0, len(data["bases"]), (batch,), generator=rng)
        bases, conservation, target = (data[key][rows] for key in keys)
        if step % 2:
            bases = reverse_complement(bases)
            conservation, target = conservation.flip(-1), target.flip(-1)
        loss = SPEC.loss(net(bases, conservation), {"target": target})
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        cycle.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def predict(net, bases: Tensor, conservation: Tensor | None = None, strands: bool = False):
    """Coverage in evaluation mode, 100 windows at a time; averaged over both strands if asked."""
    net.eval()
    found = []
    for i in range(0, len(bases), 100):
        some = bases[i : i + 100]
        kept = torch.zeros_like(some) if conservation is None else conservation[i : i + 100]
        made = F.softplus(net(some, kept))
        if strands:
            other = F.softplus(net(reverse_complement(some), kept.flip(-1)))
            made = (made + other.flip(-1)) / 2
        found.append(made)
    return torch.cat(found)


def log_pearson(a: Tensor, b: Tensor) -> float:
    return pearson((a + 1).log2(), (b + 1).log2())
