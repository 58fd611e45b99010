"""Chromoformer: marks in 40 kb around a TSS and in the regions that touch it -> expression.

Shapes: B genes, S partner slots, M marks, L bins, W width, N partner regions in use, G promoters
that ask each region (1, or all variants of one promoter), K = 1 + S, T tokens in use.
Lee, Yang, Kim, Nature Communications 13:6678 (2022).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.chromoformer.attention import (
    VECTOR,
    EmbeddingLayer,
    Grid,
    PairwiseLayer,
    RegulationLayer,
    Sizes,
    positions,
)
from models.chromoformer.published import import_authors
from models.spec import ModelSpec

BINS_BP = (2000, 500, 100)  # one branch each, in this order
WINDOW_BP = 40_000  # of the promoter, and the longest partner
OUTPUTS = {"regression": 1, "classification": 2}


@dataclass(frozen=True)
class Config:
    """Sizes of the network; the defaults are the paper's (one mark, regression)."""

    marks: int = 1
    outputs: int = 1
    width: int = 128
    head: int = 128  # hidden units of the last map
    embedding: Sizes = Sizes(1, 2, 128, 128)
    pairwise: Sizes = Sizes(2, 2, 128, 256)
    regulation: Sizes = Sizes(6, 8, 256, 256)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Config:
        """The sizes that a run's settings ask for (`marks` is a list of names there).

        Widths that are absent or None keep the paper's proportion to `width`.
        """
        objective = settings.get("objective", "regression")
        if objective not in OUTPUTS:
            raise ValueError(f"objective {objective!r} is unknown; use {' or '.join(OUTPUTS)}")
        width = settings.get("width", cls.width)
        return cls(
            marks=len(settings.get("marks", ["one"])),
            outputs=OUTPUTS[objective],
            width=width,
            head=settings.get("head_width") or width,
            embedding=_sizes(settings, "embedding", cls.embedding, width),
            pairwise=_sizes(settings, "pairwise", cls.pairwise, width),
            regulation=_sizes(settings, "regulation", cls.regulation, width),
        )


def _sizes(settings: Mapping[str, Any], module: str, paper: Sizes, width: int) -> Sizes:
    """One module's sizes; `regulation_heads` and the like are the keys."""
    given = [settings.get(f"{module}_{key}") for key in ("layers", "heads", "attention")]
    layers, heads = given[0] or paper.layers, given[1] or paper.heads
    inner = given[2] or width * paper.inner // Config.width
    if inner % heads or width % 2:
        raise ValueError(
            f"{module}_heads {heads} must divide the attention width {inner}, "
            f"and the width {width} must be even"
        )
    feed_forward = settings.get(f"{module}_feed_forward")
    return Sizes(layers, heads, inner, feed_forward or width * paper.feed_forward // Config.width)


class Embedding(nn.Module):
    """Promoter bins -> embedding of the centre bin (the one that starts at the TSS)."""

    def __init__(self, cfg: Config, bins: int):
        super().__init__()
        self.project = nn.Linear(cfg.marks, cfg.width, bias=False)
        self.layers = nn.ModuleList(
            EmbeddingLayer(cfg.width, cfg.embedding) for _ in range(cfg.embedding.layers)
        )
        self.register_buffer("places_LW", positions(bins, cfg.width), persistent=False)

    def forward(self, signal_BLM: Tensor) -> Tensor:
        if len(self.layers) == 1:
            return self.layers[0].one_row(signal_BLM, self.project.weight, self.places_LW)
        tokens_BLW = self.project(signal_BLM) + self.places_LW
        for layer in self.layers[:-1]:
            tokens_BLW = layer(tokens_BLW, slice(None))
        centre = signal_BLM.shape[1] // 2
        return self.layers[-1](tokens_BLW, slice(centre, centre + 1))[:, 0]


class Pairwise(nn.Module):
    """Promoter embedding and the bins of one partner region -> embedding of the partner."""

    def __init__(self, cfg: Config, bins: int):
        super().__init__()
        # the published module has a normalisation that it never uses
        self.unused_norm = nn.LayerNorm(cfg.width).requires_grad_(False)
        self.project_promoter = nn.Linear(cfg.width, cfg.width, bias=False)
        self.project_partner = nn.Linear(cfg.marks, cfg.width, bias=False)
        self.layers = nn.ModuleList(
            PairwiseLayer(cfg.width, cfg.pairwise) for _ in range(cfg.pairwise.layers)
        )
        self.register_buffer("places_LW", positions(bins, cfg.width), persistent=False)

    def forward(
        self,
        promoter_BW: Tensor,
        gene_NG: Tensor,
        signal_NLM: Tensor,
        outside_NL: Tensor,
        part: slice,
    ) -> Tensor:
        """Embedding (N, G, W) of every region as seen by the promoters of its genes.

        `part` says which of all bins the signal holds.
        """
        projected = (self.project_partner.weight, self.places_LW[part])
        x_NGW = self.project_promoter(promoter_BW)[gene_NG]
        for layer in self.layers:
            x_NGW = layer(x_NGW, signal_NLM, outside_NL, *projected)
        return x_NGW


class Regulation(nn.Module):
    """Promoter and partner embeddings -> promoter embedding that knows its partners."""

    def __init__(self, cfg: Config):
        super().__init__()
        self.layers = nn.ModuleList(
            RegulationLayer(cfg.width, cfg.regulation) for _ in range(cfg.regulation.layers)
        )

    def forward(self, x_TW: Tensor, grid: Grid) -> Tensor:
        for layer in self.layers[:-1]:
            x_TW = layer(x_TW, grid)
        return self.layers[-1].promoters(x_TW, grid)


class Chromoformer(nn.Module):
    """Three branches (bins of 2000, 500, 100 bp) without shared weights, and one head."""

    def __init__(self, cfg: Config):
        super().__init__()
        bins = {str(bp): WINDOW_BP // bp for bp in BINS_BP}
        # built module by module, not branch by branch: the order in which weights are drawn
        self.embed = nn.ModuleDict({bp: Embedding(cfg, n) for bp, n in bins.items()})
        self.pairwise = nn.ModuleDict({bp: Pairwise(cfg, n) for bp, n in bins.items()})
        self.regulation = nn.ModuleDict({bp: Regulation(cfg) for bp in bins})
        hidden = nn.Linear(len(bins) * cfg.width, cfg.head)
        last = nn.Linear(cfg.head, OUTPUTS["classification"])
        if cfg.outputs != OUTPUTS["classification"]:  # the two-output head is drawn, then replaced
            hidden = nn.Linear(len(bins) * cfg.width, cfg.head)
            last = nn.Linear(cfg.head, cfg.outputs)
        self.head = nn.Sequential(hidden, nn.ReLU(), last)

    def forward(self, *batch: Tensor) -> Tensor:
        """Expression (B,), or two logits (B, 2), of the genes of a batch.

        Args:
            batch: the eight tensors of `SPEC.inputs`: ln(1 + mean depth) of the promoters
                (B, L, M) and of the partners (B, S, L, M) at 2000, 500 and 100 bp; lengths of the
                partners in bp (B, S), 0 for none; interaction scores (B, S).
        """
        return self._run(batch[:3], batch[3:6], *batch[6:], shared=False)

    def perturbed(self, *batch: Tensor) -> Tensor:
        """What `forward` returns for V variants of one promoter with the same partners.

        Args:
            batch: as for `forward`, the promoters (V, L, M), the rest with one row; the partners'
                signal is read once, not copied for every variant.
        """
        return self._run(batch[:3], batch[3:6], *batch[6:], shared=True)

    def _run(
        self,
        promoters: Sequence[Tensor],
        partners: Sequence[Tensor],
        lengths_BS: Tensor,
        scores_BS: Tensor,
        shared: bool,
    ) -> Tensor:
        B = len(promoters[0])
        row_N, slot_N = lengths_BS.nonzero(as_tuple=True)
        length_N = lengths_BS[row_N, slot_N]
        if shared:
            gene_NG = torch.arange(B, device=row_N.device).expand(len(row_N), B)
            grid = Grid(F.pad(scores_BS[0, slot_N], (1, 0)).expand(B, -1))
        else:
            gene_NG = row_N[:, None]
            grid = _grid(row_N, slot_N, scores_BS)
        longest = int(length_N.max()) if len(length_N) else 0
        found = []
        for k, bp in enumerate(self.embed):
            part = _part(longest, int(bp), partners[k].shape[2])
            signal_NLM = partners[k][row_N, slot_N, part]
            outside_NL = _outside(length_N, int(bp), partners[k].shape[2])[:, part]
            e_BW = self.embed[bp](promoters[k])
            seen_NGW = self.pairwise[bp](e_BW, gene_NG, signal_NLM, outside_NL, part)
            if shared:  # gene by gene
                tokens_TW = torch.cat([e_BW[None], seen_NGW]).transpose(0, 1).flatten(0, 1)
            else:
                tokens_TW = torch.cat([e_BW, seen_NGW[:, 0]])
            found.append(self.regulation[bp](tokens_TW, grid) + e_BW)
        out_BO = self.head(torch.cat(found, dim=-1))
        return out_BO.squeeze(-1)  # two logits stay two


def _grid(gene_N: Tensor, slot_N: Tensor, scores_BS: Tensor) -> Grid:
    """Places of the promoters, then of the partners region by region."""
    B, K = len(scores_BS), scores_BS.shape[1] + 1
    promoter_B = torch.arange(B, device=gene_N.device) * K
    place_T = torch.cat([promoter_B, gene_N * K + 1 + slot_N])
    empty_BK = torch.ones(B * K, dtype=torch.bool, device=gene_N.device)
    empty_BK = empty_BK.index_fill(0, place_T, False).view(B, K)
    return Grid(F.pad(scores_BS, (1, 0)), place_T, empty_BK)


def _part(longest: int, bin_bp: int, bins: int) -> slice:
    """The middle of the L bins that holds the longest region, in steps of whole vectors."""
    used = -(-longest // bin_bp)
    width = min(bins, max(1, -(-used // VECTOR)) * VECTOR)
    start = min((bins - used + 1) // 2, bins - width)
    return slice(start, start + width)


def _outside(length_N: Tensor, bin_bp: int, bins: int) -> Tensor:
    """True (N, L) at the padding around regions that lie in the middle of L bins."""
    used_N = (length_N + bin_bp - 1) // bin_bp
    left_N = (bins - used_N + 1) // 2  # an odd bin more on the left
    place_L = torch.arange(bins, device=length_N.device)
    return (place_L < left_N[:, None]) | (place_L >= (left_N + used_N)[:, None])


def _loss(prediction: Tensor, batch: Mapping[str, Any]) -> Tensor:
    """Mean squared error (B,) against expression, or cross-entropy (B, 2) against the label."""
    if prediction.ndim == 2 and prediction.shape[1] == OUTPUTS["classification"]:
        return F.cross_entropy(prediction.float(), batch["label"])
    if prediction.shape != batch["expression"].shape:  # (N, 1) and (N,) would give N x N errors
        raise ValueError(
            f"predictions {tuple(prediction.shape)} and expression "
            f"{tuple(batch['expression'].shape)} differ in shape; they must not be broadcast"
        )
    return F.mse_loss(prediction, batch["expression"])


def _output(prediction: Tensor) -> Tensor:
    """The predicted number (B,): expression, or the softmax probability of high expression."""
    return prediction.float().softmax(-1)[:, 1] if prediction.ndim == 2 else prediction


def _truth(settings: Mapping[str, Any]) -> str:
    classify = settings.get("objective", "regression") == "classification"
    return "label" if classify else "expression"


def _example(settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """Eight random genes with 0 to 7 partners; expression is twice the mean of the bins."""
    cfg, rng = Config.of(settings), torch.Generator().manual_seed(0)
    B = S = 8
    level_B11 = torch.rand(B, 1, 1, generator=rng) * 4
    lengths_BS = torch.randint(1, WINDOW_BP + 1, (B, S), generator=rng)
    lengths_BS = lengths_BS * (torch.arange(S) < torch.arange(B)[:, None])
    batch = {}
    for bp in BINS_BP:
        shape = (WINDOW_BP // bp, cfg.marks)
        batch[f"promoter_{bp}"] = level_B11 * torch.rand(B, *shape, generator=rng)
        signal_BSLM = torch.rand(B, S, *shape, generator=rng)
        outside = _outside(lengths_BS.flatten(), bp, shape[0]).view(B, S, -1, 1)
        batch[f"partners_{bp}"] = signal_BSLM.masked_fill(outside, 0.0)
    expression_B = 2 * batch["promoter_100"].mean((1, 2))
    return {
        **batch,
        "lengths": lengths_BS,
        "scores": (1.5 + torch.rand(B, S, generator=rng)) * (lengths_BS > 0),
        "expression": expression_B,
        "label": (expression_B >= expression_B.median()).long(),
    }


SPEC = ModelSpec(
    name="chromoformer",
    build=lambda settings: Chromoformer(Config.of(settings)),
    loss=_loss,
    inputs=(
        *(f"promoter_{bp}" for bp in BINS_BP),
        *(f"partners_{bp}" for bp in BINS_BP),
        "lengths",
        "scores",
    ),
    target="expression",
    example=_example,
    import_published=import_authors,
    truth=_truth,
    output=_output,
)
