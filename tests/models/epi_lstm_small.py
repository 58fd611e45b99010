"""Small Epi-LSTMs for tests: noise, frames one after the other, a plain trainer."""

from __future__ import annotations

import torch

import models

SPEC = models.load("epi_lstm")
torch.set_num_threads(1)


def net_of(seed: int = 0, **sizes):
    torch.manual_seed(seed)
    sizes = {"channels": ["a", "b", "c", "d", "e"], "latent": 4, "decoder_hidden": 6} | sizes
    return SPEC.build(sizes).eval()


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_frames(net, signal, frame: int, carry: bool = True):
    """Latents and reconstruction of one segment, frame after frame."""
    latents, made = [], []
    net.carried = None
    with torch.no_grad():
        for number, part in enumerate(signal.split(frame)):
            begins = torch.tensor([number == 0 or not carry])
            before = net.carried if number and carry else None
            latents.append(net.encode(part[None], before)[0][0])
            made.append(net(part[None], begins)[0])
    return torch.cat(latents), torch.cat(made)


def trained(net, signal, steps: int) -> list[float]:
    """Plain Adam on one frame; the loss before every step and after the last."""
    adam = torch.optim.Adam(net.parameters(), lr=1e-2)
    batch = {"signal": signal, "valid": torch.ones(*signal.shape[:2], 1, dtype=torch.bool)}
    begins, losses = torch.tensor([True]), []
    for _ in range(steps):
        loss = SPEC.loss(net(signal, begins), batch)
        losses.append(loss.item())
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        adam.step()
    return [*losses, SPEC.loss(net(signal, begins), batch).item()]
