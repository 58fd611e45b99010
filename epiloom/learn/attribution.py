"""Which tracks the latents listen to: gradient times input (specification of Epi-LSTM, 6.7)."""

from __future__ import annotations

import numpy as np
import torch

from epiloom.data.folds import part_of
from epiloom.learn.frames import Frames
from epiloom.learn.latents import Encoder

FRAMES = 64  # of the test chromosomes, those with the most signal among `LOOKED_AT`
LOOKED_AT = 1024


def gradient_times_input(encoder: Encoder) -> np.ndarray:
    """Mean over bins and latents of |z-score x d latent / d z-score|, float64 [channels].

    A latent's derivative is that of its sum over a frame, which begins without a state.
    """
    tiles, names = encoder.tiles, np.array(encoder.tiles.genome.chromosomes)
    test = names[part_of(names, encoder.settings["fold"]) == "test"].tolist()
    frames = Frames.of(tiles, test, encoder.bins)
    rng = np.random.default_rng(encoder.settings["seed"])
    n = len(frames.first)
    picked = rng.choice(n, min(n, LOOKED_AT), replace=False)
    level = [tiles.values[f : f + encoder.bins].clip(0).mean() for f in frames.first[picked]]
    first = frames.first[picked[np.argsort(level)[::-1][:FRAMES]]]
    stored = np.stack([tiles.values[f : f + encoder.bins] for f in first])
    signal = torch.from_numpy(encoder.scale.standardized(stored)[0]).to(encoder.device)
    signal.requires_grad_()
    encoder.net.train()  # cuDNN differentiates recurrent layers in this mode only
    try:
        latents = encoder.net.encode(signal)[0]
        total = torch.zeros(signal.shape[2], dtype=torch.float64, device=encoder.device)
        for k in range(latents.shape[2]):
            (slope,) = torch.autograd.grad(latents[..., k].sum(), signal, retain_graph=True)
            total += (slope * signal).abs().double().mean(dim=(0, 1)).detach()
    finally:
        encoder.net.eval()
    return (total / latents.shape[2]).cpu().numpy()
