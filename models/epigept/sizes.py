"""Sizes of EpiGePT: the presets, single keys that override them, and what must fit together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

SIGNALS = ("DNase", "CTCF", "H3K27ac", "H3K4me3", "H3K36me3", "H3K27me3", "H3K9me3", "H3K4me1")
CHOICES = {
    "combine": ("concat", "project"),
    "tf_norm": ("off", "scale", "layer"),
    "block": ("post", "pre"),
    "activation": ("relu", "softplus", "none"),
    "loss": ("mse", "poisson", "open", "states"),
}
NAMED = ("tfs", "signals")  # lists of names in a run's settings; the network only needs how many
PUBLISHED_POOLS = {128: (4, 4, 2, 2, 2), 200: (5, 5, 2, 2, 2)}  # bases of a bin -> poolings


@dataclass(frozen=True)
class Config:
    """Sizes of the network; the defaults are those of the published hg38 form."""

    seq_bp: int = 128_000
    tfs: int = 711
    signals: int = 8
    motif_step: float = 0.1  # nats per step of motif scores stored as bytes
    channels: tuple[int, ...] = (32, 64, 96, 128, 256)  # of the tower, block by block
    kernels: tuple[int, ...] = (3, 5, 5, 3, 3)
    pools: tuple[int, ...] = PUBLISHED_POOLS[128]  # their product is the bin
    tower_dropout: float = 0.2  # after the middle and the last block
    combine: str = "concat"  # sequence and TF block side by side, or both mapped to `width`
    tf_width: int = 0  # columns of the TF block with `concat`; 0 = so many that heads divide
    tf_norm: str = "off"
    width: int = 0  # of a token with `project`; with `concat` it follows
    layers: int = 12
    heads: int = 8
    feed_forward: int = 1024
    block: str = "post"  # normalisation after the sum, or before the map
    norm_epsilon: float = 1e-12
    positions: int = 0  # learned places; 0 = as many as bins
    token_types: int = 2  # rows of a second learned table, of which the first is used
    dropout: float = 0.1
    attention_dropout: float = 0.1
    head_hidden: int = 128  # units between the encoder and the signals; 0 = none
    activation: str = "relu"  # of the output, with loss `mse`
    loss: str = "mse"
    from_mean: bool = False  # predict what differs from the mean of the training cells
    local_reach: int = 8  # with it: bins on either side whose sites count, each by itself
    contact_weight: float = 0.0  # of the attention term
    contact_diagonal: int = 2  # bins on either side of the diagonal that are no contact

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Config:
        """The sizes that a run's settings ask for (`tfs` and `signals` may be lists of names).

        Keys that are absent or None take the value of the `preset`, which is `paper_hg38` by
        default.

        Raises:
            ValueError: keys that do not fit together, all of them named.
        """
        preset = settings.get("preset") or "paper_hg38"
        if preset not in PRESETS:
            raise ValueError(f"preset {preset!r} is unknown; use one of {', '.join(PRESETS)}")
        chosen = dict(PRESETS[preset])
        names = [field.name for field in fields(cls)]
        chosen |= {key: settings[key] for key in names if settings.get(key) is not None}
        for key in NAMED:
            if key in chosen and not isinstance(chosen[key], int):
                chosen[key] = len(chosen[key])
        for key in ("channels", "kernels", "pools"):
            if key in chosen:
                chosen[key] = tuple(chosen[key])
        config = cls(**chosen)
        problems = list(_problems(config))
        if problems:
            raise ValueError(f"sizes of epigept do not fit: {'; '.join(problems)}")
        return config

    @property
    def form(self) -> dict[str, Any]:
        """What weights depend on: networks of one form compute the same from the same weights."""
        free = ["motif_step", "tower_dropout", "dropout", "attention_dropout", "tf_width"]
        free += ["contact_weight", "contact_diagonal", "positions", "width"]
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in free}
        own |= {key: list(own[key]) for key in ("channels", "kernels", "pools")}
        return own | {"width": self.token_width, "positions": self.places}

    @property
    def bin_bp(self) -> int:
        """Bases of a bin, which is one token of the encoder."""
        return math.prod(self.pools)

    @property
    def bins(self) -> int:
        return self.seq_bp // self.bin_bp

    @property
    def places(self) -> int:
        """Rows of the table of positions."""
        return self.positions or self.bins

    @property
    def tf_columns(self) -> int:
        """Columns of the TF block beside the sequence: the TFs, and zeros until heads divide."""
        wanted = self.channels[-1] + self.tfs
        return self.tf_width or -(-wanted // self.heads) * self.heads - self.channels[-1]

    @property
    def token_width(self) -> int:
        if self.combine == "project":
            return self.width
        return self.channels[-1] + self.tf_columns


def _problems(c: Config) -> Iterator[str]:
    """What does not fit, each naming its keys."""
    for key, allowed in CHOICES.items():
        if getattr(c, key) not in allowed:
            yield f"{key} {getattr(c, key)!r} is not one of {', '.join(allowed)}"
    for key in ("tfs", "signals", "layers", "heads", "feed_forward"):
        if getattr(c, key) < 1:
            yield f"{key} is {getattr(c, key)}, less than 1"
    for key in ("tower_dropout", "dropout", "attention_dropout"):
        if not 0 <= getattr(c, key) < 1:
            yield f"{key} {getattr(c, key)} is not in [0, 1)"
    if c.from_mean and c.loss != "mse":
        yield f"from_mean starts from log1p signals, loss {c.loss} has other numbers; use mse"
    if not c.motif_step > 0:
        yield f"motif_step {c.motif_step} is not above 0"
    for key in ("contact_weight", "contact_diagonal", "local_reach"):
        if getattr(c, key) < 0:
            yield f"{key} {getattr(c, key)} is below 0"
    if not c.channels or not len(c.channels) == len(c.kernels) == len(c.pools):
        yield (
            f"channels {list(c.channels)}, kernels {list(c.kernels)} and pools {list(c.pools)} are "
            "not of the same length"
        )
    elif min(*c.channels, *c.kernels, *c.pools) < 1 or not all(k % 2 for k in c.kernels):
        yield "channels, kernels and pools must be 1 or more, kernels odd"
    elif c.seq_bp < c.bin_bp or c.seq_bp % c.bin_bp:
        yield f"seq_bp {c.seq_bp} is no multiple of the bin, {c.bin_bp} bp (product of pools)"
    elif c.places < c.bins:
        yield f"positions {c.positions} are less than the {c.bins} bins of seq_bp"
    if c.channels and c.heads > 0:
        yield from _width_problems(c)


def _width_problems(c: Config) -> Iterator[str]:
    if c.combine == "concat" and c.tf_width and c.tf_width < c.tfs:
        yield f"tf_width {c.tf_width} is less than the number of tfs, {c.tfs}"
    if c.combine == "project" and c.width < 1:
        yield f"width is {c.width}; combine: project needs one"
    elif c.token_width % c.heads:
        yield f"heads {c.heads} do not divide the width of a token, {c.token_width}"


PRESETS: dict[str, dict[str, Any]] = {
    "paper_hg38": {},
    "paper_hg19": {"tower_dropout": 0.0, "head_hidden": 0},
    "paper_dnase": {
        "seq_bp": 10_000,
        "signals": 1,
        "pools": PUBLISHED_POOLS[200],
        "tower_dropout": 0.0,
        "layers": 16,
        "feed_forward": 512,
        "positions": 512,
        "head_hidden": 0,
    },
    "modern": {
        "channels": (64, 64, 128, 128, 256),
        "combine": "project",
        "tf_norm": "scale",
        "width": 512,
        "layers": 8,
        "feed_forward": 2048,
        "block": "pre",
        "norm_epsilon": 1e-5,
        "token_types": 0,
        "activation": "softplus",
    },
    "small": {
        "channels": (16, 32, 32, 64, 64),
        "tower_dropout": 0.0,
        "combine": "project",
        "tf_norm": "scale",
        "width": 96,
        "layers": 2,
        "heads": 4,
        "feed_forward": 192,
        "block": "pre",
        "norm_epsilon": 1e-5,
        "token_types": 0,
        "dropout": 0.0,
        "attention_dropout": 0.0,  # a sixth of the time of a step on a CPU
        "head_hidden": 0,
        "activation": "softplus",
    },
    "tiny": {
        "seq_bp": 2048,
        "tfs": 13,
        "signals": 3,
        "channels": (8, 12, 16),
        "kernels": (3, 5, 5),
        "pools": (4, 4, 8),
        "tower_dropout": 0.0,
        "layers": 2,
        "heads": 4,
        "feed_forward": 64,
        "norm_epsilon": 1e-5,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "head_hidden": 16,
        "activation": "softplus",
    },
}
