"""EpiGePT: DNA, motif scores and TF expression of a cell -> its epigenomic signals in bins.

A cell enters by the expression of its transcription factors alone, so cells that were never
profiled can be predicted. Regions come first: a region's bases and motif scores are read once and
serve all its cells.

Shapes: R regions, C cells, N bases, B bins, K transcription factors (TFs), D channels of the
tower, W width of a token, S signals.
Gao et al., Genome Biology (2024), doi 10.1186/s13059-024-03449-7.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.epigept.encoder import Encoder
from models.epigept.losses import Prediction, loss, output, single
from models.epigept.published import import_authors
from models.epigept.sizes import Config
from models.epigept.start import STRONG, FromMean, Start, prepare
from models.epigept.tower import Tower, arithmetic
from models.spec import ModelSpec


class Combine(nn.Module):
    """Sequence channels and TF block -> tokens: side by side, or both mapped to one width."""

    def __init__(self, cfg: Config):
        super().__init__()
        channels = cfg.channels[-1]
        self.norm = nn.LayerNorm(cfg.tfs) if cfg.tf_norm == "layer" else nn.Identity()
        self.scale = 1 / STRONG if cfg.tf_norm == "scale" else 1.0
        self.zeros = cfg.tf_columns - cfg.tfs
        self.sequence = self.factors = None
        if cfg.combine == "project":
            self.sequence = nn.Linear(channels, cfg.width)
            self.factors = nn.Linear(cfg.tfs, cfg.width, bias=False)

    def forward(self, x_RBD: Tensor, features_RCBK: Tensor) -> Tensor:
        """(R, C, B, W)"""
        features_RCBK = self.norm(features_RCBK) * self.scale
        if self.sequence is not None:
            return self.sequence(x_RBD)[:, None] + self.factors(features_RCBK)
        cells = features_RCBK.shape[1]
        x_RCBD = x_RBD[:, None].expand(-1, cells, -1, -1)
        features_RCBK = F.pad(features_RCBK, (0, self.zeros))
        return torch.cat([x_RCBD, features_RCBK.to(x_RBD.dtype)], dim=-1)


class EpiGePT(nn.Module):
    """Convolutions to one vector per bin, TF features beside it, a transformer, and a head."""

    def __init__(self, cfg: Config):
        super().__init__()
        self.cfg = cfg
        self.tower = Tower(cfg)
        self.combine = Combine(cfg)
        self.encoder = Encoder(cfg)
        width = cfg.token_width
        self.hidden = nn.Linear(width, cfg.head_hidden) if cfg.head_hidden else None
        self.out = nn.Linear(cfg.head_hidden or width, cfg.signals)
        self.start = FromMean(cfg) if cfg.from_mean else None
        if cfg.from_mean:  # at first the prediction is the mean itself
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def forward(
        self,
        bases_RN: Tensor,
        motifs_RBK: Tensor,
        expression_RCK: Tensor,
        mean_RCBS: Tensor | None = None,
    ) -> Tensor | Prediction:
        """Signals (R, C, B, S) in log1p units; with another loss or contacts, a Prediction.

        Args:
            bases_RN: uint8 codes, A C G T = 0 1 2 3, anything else for other letters.
            motifs_RBK: a bin's best motif score per TF, 0 for none: nats, or uint8 steps of
                `motif_step` nats.
            expression_RCK: log1p of the quantile-normalised expression.
            mean_RCBS: with `from_mean` the mean signal of the training cells (without the cell
                itself), 0 where none is known.
        """
        features = self.features(motifs_RBK, expression_RCK)
        return self.predict(bases_RN, features, self.started(motifs_RBK, mean_RCBS))

    def started(self, motifs_RBK: Tensor, mean_RCBS: Tensor | None) -> Start | None:
        """Where predictions start, with `from_mean`."""
        if self.start is None:
            return None
        if mean_RCBS is None:
            raise ValueError("from_mean needs the mean of the training cells, (R, C, B, S)")
        usual_R1K = self.start.usual.expand(len(motifs_RBK), 1, -1)
        return Start(mean_RCBS, self.features(motifs_RBK, usual_R1K))

    def features(self, motifs_RBK: Tensor, expression_RCK: Tensor) -> Tensor:
        """TF features (R, C, B, K): motif score times expression, made where the tensors are."""
        kind = arithmetic(self.out.weight)
        if not motifs_RBK.is_floating_point():  # the step goes with the smaller of the two
            expression_RCK = expression_RCK * self.cfg.motif_step
        return motifs_RBK[:, None].to(kind) * expression_RCK[:, :, None].to(kind)

    def predict(
        self, bases_RN: Tensor, features_RCBK: Tensor, start: Start | None = None
    ) -> Tensor | Prediction:
        """What `forward` returns, from TF features."""
        cfg = self.cfg
        asked = {cfg.layers - 1} if cfg.contact_weight else set()
        x_RCBW, found = self.tokens(bases_RN, features_RCBK, asked, start)
        hidden = x_RCBW if self.hidden is None else F.relu(self.hidden(x_RCBW))
        made_RCBS = single(self.out(hidden))
        if self.start is not None:
            made_RCBS = made_RCBS + single(self.start.difference(features_RCBK, start.usual_R1BK))
            made_RCBS = made_RCBS + single(start.mean_RCBS)
            if not self.training:  # a floor in training would stop the gradient of what is below
                made_RCBS = made_RCBS.clamp(min=0)
        elif cfg.loss == "mse" and cfg.activation != "none":
            made_RCBS = F.relu(made_RCBS) if cfg.activation == "relu" else F.softplus(made_RCBS)
        elif cfg.loss == "poisson":
            made_RCBS = F.softplus(made_RCBS)
        if cfg.loss == "mse" and not asked:
            return made_RCBS
        attention = next(iter(found.values())).mean(2) if asked else None
        return Prediction(made_RCBS, cfg.loss, attention, cfg.contact_weight, cfg.contact_diagonal)

    def tokens(
        self,
        bases_RN: Tensor,
        features_RCBK: Tensor,
        asked: Collection[int] = (),
        start: Start | None = None,
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Tokens (R, C, B, W) after the encoder; attention weights (R, C, H, B, B) by layer."""
        self._check(bases_RN, features_RCBK)
        x_RCBW = self.combine(self.tower(bases_RN), features_RCBK)
        if self.start is not None:
            x_RCBW = x_RCBW + self.start.level(start.mean_RCBS.to(self.start.level.weight.dtype))
        x_NBW, found = self.encoder(x_RCBW.flatten(0, 1), asked)
        pairs = features_RCBK.shape[:2]
        return x_NBW.unflatten(0, pairs), {n: w.unflatten(0, pairs) for n, w in found.items()}

    def contacts(
        self,
        bases_RN: Tensor,
        motifs_RBK: Tensor,
        expression_RCK: Tensor,
        mean_RCBS: Tensor | None = None,
        *,
        layers: Collection[int] = (-1,),
        heads: Collection[int] | None = None,
    ) -> Tensor:
        """Attention (R, C, B, B) from a bin (row) to all bins, mean over `layers` and `heads`.

        The last layer and all heads unless told otherwise; every row sums to 1.
        """
        asked = {range(self.cfg.layers)[n] for n in layers}
        features = self.features(motifs_RBK, expression_RCK)
        start = self.started(motifs_RBK, mean_RCBS)
        _, found = self.tokens(bases_RN, features, asked, start)
        chosen = list(range(self.cfg.heads) if heads is None else heads)
        return sum(weights[:, :, chosen].mean(2) for weights in found.values()) / len(found)

    def gradient(
        self,
        bases_RN: Tensor,
        motifs_RBK: Tensor,
        expression_RCK: Tensor,
        mean_RCBS: Tensor | None = None,
        *,
        signals: Collection[int] | None = None,
        bins: Collection[int] | None = None,
    ) -> Tensor:
        """Slope (R, C, B, K) of the predictions, summed over `signals` and `bins`, by TF feature.

        Summed over the bins of a gene's surroundings it ranks the TFs; times the feature it tells
        how much of a prediction a TF makes up.
        """
        with torch.enable_grad():
            features = self.features(motifs_RBK, expression_RCK).detach().requires_grad_()
            start = self.started(motifs_RBK, mean_RCBS)
            made = output(self.predict(bases_RN, features, start))
            made = made if bins is None else made[:, :, list(bins)]
            made = made if signals is None else made[..., list(signals)]
            (slope,) = torch.autograd.grad(made.sum(), features)
        return slope

    def _check(self, bases_RN: Tensor, features_RCBK: Tensor) -> None:
        cfg = self.cfg
        if bases_RN.shape[-1] != cfg.seq_bp:
            raise ValueError(f"regions of {bases_RN.shape[-1]} bp, but seq_bp is {cfg.seq_bp}")
        found, wanted = tuple(features_RCBK.shape[2:]), (cfg.bins, cfg.tfs)
        if found != wanted:
            raise ValueError(
                f"motif scores and expression of {found[0]} bins and {found[1]} TFs, but the "
                f"settings say {wanted[0]} bins (seq_bp / product of pools) and {wanted[1]} tfs"
            )


def mirrored(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The batch as read on the other strand, for augmentation: all that lies along the bins turns.

    Motif scores are those of the same bins in reverse order; a site that crosses a bin's edge
    would, scanned again, begin in the neighbouring bin.
    """
    turned = dict(batch)
    bases_RN = batch["bases"]
    turned["bases"] = torch.where(bases_RN < 4, 3 - bases_RN, bases_RN).flip(-1)
    turned["motifs"] = batch["motifs"].flip(1)
    for key in ("target", "valid", "mean"):
        if batch.get(key) is not None and batch[key].shape[2] > 1:
            turned[key] = batch[key].flip(2)
    if batch.get("contacts") is not None:
        turned["contacts"] = batch["contacts"].flip(2, 3)
    if batch.get("loops") is not None:
        bins = batch["motifs"].shape[1]
        cell, first1, end1, first2, end2, count = batch["loops"].unbind(-1)
        ends = (cell, bins - end1, bins - first1, bins - end2, bins - first2, count)
        turned["loops"] = torch.stack(ends, dim=-1)
    return turned


def _example(settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """Two random regions of two cells, whose signals grow with a TF's feature."""
    cfg, rng = Config.of(settings), torch.Generator().manual_seed(0)
    bases_RN = torch.randint(0, 5, (2, cfg.seq_bp), generator=rng, dtype=torch.uint8)
    shape = (2, cfg.bins, cfg.tfs)
    sites = torch.rand(shape, generator=rng) < 0.2
    motifs_RBK = torch.randint(40, 120, shape, generator=rng, dtype=torch.uint8) * sites
    expression_RCK = 4 * torch.rand(2, 2, cfg.tfs, generator=rng)
    features = (motifs_RBK[:, None] * expression_RCK[:, :, None] * 0.1)[..., :1]
    target_RCBS = (features / 8 + 0.5) * torch.linspace(0.5, 1.5, cfg.signals)
    if cfg.loss in ("open", "states"):
        target_RCBS = (target_RCBS == target_RCBS.amax(-1, keepdim=True)).float()
    target_RCBS[0, 0, 0] = torch.nan  # a hole in the track
    level = {"mean": target_RCBS.nan_to_num().flip(1).clone()} if cfg.from_mean else {}
    return level | {
        "bases": bases_RN,
        "motifs": motifs_RBK,
        "expression": expression_RCK,
        "target": target_RCBS,
        "valid": torch.ones_like(target_RCBS, dtype=torch.bool),
    }


SPEC = ModelSpec(
    name="epigept",
    build=lambda settings: EpiGePT(Config.of(settings)),
    loss=loss,
    inputs=("bases", "motifs", "expression"),
    optional=("mean",),
    target="target",
    example=_example,
    import_published=import_authors,
    form=lambda settings: Config.of(settings).form,
    output=output,
    prepare=prepare,
)
