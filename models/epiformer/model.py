"""Epiformer: DNA and conservation of 98 kb -> coverage of cell types in bins of 128 bp.

Shapes: B windows, N bases, C channels, L tokens (bins of the whole window), W width, T tracks,
K bins of the output. Base order A, C, G, T.
Li et al., Science 382(6667):eadf7044 (2023).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.epiformer.attention import Block, positions
from models.epiformer.published import import_authors
from models.epiformer.sizes import Config
from models.spec import ModelSpec

BASES = 4
CONSERVED = 255  # phastCons 1.0 in the stored bytes
FLOOR = 1e-6  # of a rate inside the logarithm
LARGEST_LOG_RATE = 30.0


def normalization(kind: str, channels: int) -> nn.Module:
    """Batch statistics of one device (`batch`) or of all (`sync`), or each window's own."""
    if kind == "group":
        return nn.GroupNorm(math.gcd(32, channels), channels)
    return {"batch": nn.BatchNorm1d, "sync": nn.SyncBatchNorm}[kind](channels)


class _LargerOfTwo(torch.autograd.Function):
    """Maximum of neighbours; for the gradient one bit of a pair is kept, not pair and index."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        left, right = x.unflatten(-1, (-1, 2)).unbind(-1)
        ctx.save_for_backward(right > left)
        return torch.maximum(left, right)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (right,) = ctx.saved_tensors
        pairs = gradient.new_empty(*gradient.shape, 2)
        torch.mul(gradient, right, out=pairs[..., 1])
        torch.sub(gradient, pairs[..., 1], out=pairs[..., 0])
        return pairs.flatten(-2)


def larger_of_two(x_BCN: Tensor) -> Tensor:
    """Max pooling by two: (B, C, N / 2)."""
    if torch.is_grad_enabled() and x_BCN.requires_grad:
        return _LargerOfTwo.apply(x_BCN)
    return F.max_pool1d(x_BCN, 2)


class Mix(nn.Module):
    """x + a 1-wide convolution of it, normalised and bent first; then the larger of two bases."""

    def __init__(self, channels: int, norm: str):
        super().__init__()
        self.norm = normalization(norm, channels)
        self.conv = nn.Conv1d(channels, channels, 1)

    def forward(self, x_BCN: Tensor) -> Tensor:
        return larger_of_two(x_BCN + self.conv(F.gelu(self.norm(x_BCN))))


class Stem(nn.Module):
    """Encoded bases -> channels at half the resolution."""

    def __init__(self, inputs: int, channels: int, norm: str):
        super().__init__()
        self.conv = nn.Conv1d(inputs, channels, 15, padding=7)
        self.mix = Mix(channels, norm)

    def forward(self, x_BCN: Tensor) -> Tensor:
        return self.mix(self.conv(x_BCN))


class TowerBlock(nn.Module):
    """Channels of one resolution -> more channels at half of it; only the mixing is residual."""

    def __init__(self, before: int, after: int, norm: str):
        super().__init__()
        self.norm = normalization(norm, before)
        self.conv = nn.Conv1d(before, after, 5, padding=2)
        self.mix = Mix(after, norm)

    def forward(self, x_BCN: Tensor) -> Tensor:
        return self.mix(self.conv(F.gelu(self.norm(x_BCN))))


class Head(nn.Module):
    """Tokens -> one number per track; no dropout after the last map."""

    def __init__(self, cfg: Config):
        super().__init__()
        self.norm = normalization(cfg.norm, cfg.width)
        self.hidden = nn.Conv1d(cfg.width, 2 * cfg.width, 1)
        self.dropout = nn.Dropout(cfg.head_dropout)
        self.out = nn.Conv1d(2 * cfg.width, cfg.tracks, 1)

    def forward(self, x_BWK: Tensor) -> Tensor:
        return self.out(self.dropout(self.hidden(F.gelu(self.norm(x_BWK)))))


class Epiformer(nn.Module):
    """Convolutions down to one token per bin, a transformer over the tokens, and a head."""

    def __init__(self, cfg: Config):
        super().__init__()
        self.cfg = cfg
        widths = cfg.widths
        self.stem = Stem(BASES + (cfg.conservation == "channel"), widths[0], cfg.norm)
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.tower = nn.ModuleList(TowerBlock(a, b, cfg.norm) for a, b in pairs)
        self.layers = nn.ModuleList(Block(cfg) for _ in range(cfg.layers))
        sinusoid = bool(cfg.layers) and cfg.position == "sinusoid"
        places_LW = positions(cfg.tokens, cfg.width) if sinusoid else None
        self.register_buffer("places_LW", places_LW, persistent=False)
        self.head = Head(cfg)

    def forward(self, bases_BN: Tensor, conservation_BN: Tensor | None = None) -> Tensor:
        """Logits (B, T, K); their softplus is the coverage of the central bins.

        Args:
            bases_BN: uint8 codes, A C G T = 0 1 2 3, anything else for other letters.
            conservation_BN: uint8 phastCons x 255; None for none.
        """
        return self.logits(self.encode(bases_BN, conservation_BN))

    def encode(self, bases_BN: Tensor, conservation_BN: Tensor | None = None) -> Tensor:
        """What the stem reads (B, 4, N): one-hot bases x exp(phastCons), zeros for other letters.

        With `conservation: channel` phastCons is a fifth row instead, with `off` it is left out.
        """
        kind, device = self.stem.conv.weight.dtype, bases_BN.device
        if torch.is_autocast_enabled(device.type):
            kind = torch.get_autocast_dtype(device.type)
        letters = torch.arange(BASES, dtype=bases_BN.dtype, device=device)
        x_BCN = (bases_BN[:, None] == letters[:, None]).to(kind)
        if self.cfg.conservation == "off":
            return x_BCN
        if conservation_BN is None:
            conservation_BN = torch.zeros_like(bases_BN)
        conserved_B1N = conservation_BN[:, None].float() / CONSERVED
        if self.cfg.conservation == "channel":
            return torch.cat([x_BCN, conserved_B1N.to(kind)], dim=1)
        return x_BCN * conserved_B1N.exp().to(kind)

    def logits(self, x_BCN: Tensor) -> Tensor:
        """Logits (B, T, K) of windows that are encoded already, as `encode` does it."""
        cfg = self.cfg
        if x_BCN.shape[-1] != cfg.seq_bp:
            raise ValueError(f"windows of {x_BCN.shape[-1]} bp, but seq_bp is {cfg.seq_bp}")
        x_BLW = self.tokens(x_BCN).transpose(1, 2)
        if self.places_LW is not None:
            x_BLW = x_BLW + self.places_LW
        for layer in self.layers:
            x_BLW = layer(x_BLW)
        kept = slice(cfg.crop_bins, cfg.tokens - cfg.crop_bins)
        out_BTK = self.head(x_BLW[:, kept].transpose(1, 2))
        return _logit_of_log_rate(out_BTK.float()) if cfg.log_input else out_BTK

    def tokens(self, x_BCN: Tensor) -> Tensor:
        """The tokens (B, W, L) before the transformer."""
        parts = [self.stem, *self.tower]
        for i, part in enumerate(parts):
            again = self.cfg.checkpointing and self.training and torch.is_grad_enabled() and i < 3
            x_BCN = _recomputed(part, x_BCN) if again else part(x_BCN)
        return x_BCN


def _recomputed(part: nn.Module, x: Tensor) -> Tensor:
    """`part(x)`, computed a second time in the backward pass instead of kept in memory."""

    def contexts() -> tuple[Any, Any]:
        return contextlib.nullcontext(), _statistics_kept(part)

    return checkpoint(part, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)


@contextlib.contextmanager
def _statistics_kept(part: nn.Module) -> Iterator[None]:
    """Running statistics stay as they are: the first computation has updated them."""
    norms = [m for m in part.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [(norm, norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, batches in before:
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(batches)


def _logit_of_log_rate(log_rate: Tensor) -> Tensor:
    """The number whose softplus is exp(log_rate), so that all networks return the same thing."""
    rate = log_rate.clamp(max=LARGEST_LOG_RATE).exp()
    # log(exp(rate) - 1); below the smallest rate the logit is the logarithm itself
    large = rate + torch.log(-torch.expm1(-rate.clamp(min=FLOOR)))
    return torch.where(rate > FLOOR, large, log_rate)


def _loss(logits_BTK: Tensor, batch: Mapping[str, Any]) -> Tensor:
    """Poisson negative log-likelihood: mean over a window's valid bins, then over windows.

    Batch keys: `target` (B, T, K), NaN where missing; optionally `valid`, True (B, T, K) or
    (B, 1, K) at bins that count, and `track_weights` (T) or (B, T). A window without a valid bin
    counts as 0, so that a batch's loss is the mean over its windows however they are divided.
    """
    target_BTK = batch["target"].float()
    if logits_BTK.shape != target_BTK.shape:
        raise ValueError(
            f"predictions {tuple(logits_BTK.shape)} and target {tuple(target_BTK.shape)} differ in "
            "shape; they must not be broadcast"
        )
    seen_BTK = ~target_BTK.isnan()
    if batch.get("valid") is not None:
        seen_BTK = seen_BTK & batch["valid"].bool()
    rate_BTK = F.softplus(logits_BTK.float())
    logarithm_BTK = (rate_BTK + FLOOR).log()
    nll_BTK = rate_BTK - target_BTK.masked_fill(~seen_BTK, 0.0) * logarithm_BTK
    weight_BTK = seen_BTK.float()
    if batch.get("track_weights") is not None:
        weight_BTK = weight_BTK * batch["track_weights"].float().unsqueeze(-1)
    total_B = (nll_BTK.masked_fill(~seen_BTK, 0.0) * weight_BTK).sum((1, 2))
    share_B = weight_BTK.sum((1, 2))
    return (total_B / share_B.masked_fill(share_B == 0, 1.0)).mean()


def _output(logits_BTK: Tensor) -> Tensor:
    """Coverage (B, T, K), in the unit of the target."""
    return F.softplus(logits_BTK.float())


def _example(settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """Two random windows whose coverage grows with the share of C and G in a bin."""
    cfg, rng = Config.of(settings), torch.Generator().manual_seed(0)
    bases_BN = torch.randint(0, 5, (2, cfg.seq_bp), generator=rng, dtype=torch.uint8)
    strong_BL = ((bases_BN == 1) | (bases_BN == 2)).float().unflatten(1, (-1, cfg.bin_bp)).mean(-1)
    kept_BK = strong_BL[:, cfg.crop_bins : cfg.tokens - cfg.crop_bins]
    level_T1 = torch.arange(1, cfg.tracks + 1)[:, None] / cfg.tracks
    target_BTK = (2 + 10 * kept_BK[:, None]) * (1 + level_T1)
    target_BTK[0, :, 0] = torch.nan  # a hole in the track
    return {
        "bases": bases_BN,
        "conservation": torch.randint(0, 256, bases_BN.shape, generator=rng, dtype=torch.uint8),
        "target": target_BTK,
        "valid": torch.ones_like(target_BTK, dtype=torch.bool),
    }


SPEC = ModelSpec(
    name="epiformer",
    build=lambda settings: Epiformer(Config.of(settings)),
    loss=_loss,
    inputs=("bases", "conservation"),
    target="target",
    example=_example,
    import_published=import_authors,
    form=lambda settings: Config.of(settings).form,
    rows=("head.out.weight", "head.out.bias"),
    output=_output,
    compared=lambda coverage: (coverage + 1).log2(),
)
