"""Sizes of Epiformer: the presets, single keys that override them, and what must fit together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

CHOICES = {
    "norm": ("batch", "group", "sync"),
    "position": ("sinusoid", "off"),
    "relative": ("table", "rotary", "off"),
    "conservation": ("factor", "channel", "off"),
    "block": ("post", "pre"),
    "gate": ("square", "swiglu"),
}


@dataclass(frozen=True)
class Config:
    """Sizes of the network; the defaults are the paper's (one cell type)."""

    seq_bp: int = 98_304
    bin_bp: int = 128
    crop_bins: int = 64  # cut from each side of the window
    tracks: int = 1
    conservation: str = "factor"
    width: int = 768  # of a token
    first_width: int = 384  # channels of the stem
    channels: tuple[int, ...] = ()  # of the stem and every tower block; () = a geometric series
    channel_multiple: int = 1  # channel widths of that series are rounded up to a multiple of it
    norm: str = "batch"
    layers: int = 8
    heads: int = 4
    feed_forward: int = 2048  # two thirds of it with gate `swiglu`, which has two input maps
    gate: str = "square"  # silu(x) * x, or silu(a) * b of two maps
    block: str = "post"  # normalisation after the sum, or before the map
    output_projection: bool = False  # a map after the heads
    position: str = "sinusoid"
    relative: str = "table"
    relative_reach: int = 0  # tokens that a table covers; 0 = those of the window
    dropout: float = 0.4
    attention_dropout: float = 0.4
    head_dropout: float = 0.1
    checkpointing: bool = False
    log_input: bool = False

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Config:
        """The sizes that a run's settings ask for (`tracks` is a list of names there).

        Keys that are absent or None take the value of the `preset`, which is `paper` by default.

        Raises:
            ValueError: keys that do not fit together, all of them named.
        """
        preset = settings.get("preset") or "paper"
        if preset not in PRESETS:
            raise ValueError(f"preset {preset!r} is unknown; use one of {', '.join(PRESETS)}")
        chosen = dict(PRESETS[preset])
        names = [field.name for field in fields(cls)]
        chosen |= {key: settings[key] for key in names if settings.get(key) is not None}
        if not isinstance(chosen.get("tracks", 1), int):
            chosen["tracks"] = len(chosen["tracks"])
        chosen["channels"] = tuple(chosen.get("channels", ()))
        config = cls(**chosen)
        problems = list(_problems(config))
        if problems:
            raise ValueError(f"sizes of epiformer do not fit: {'; '.join(problems)}")
        return config

    @property
    def form(self) -> dict[str, Any]:
        """What weights depend on: networks of one form compute the same from the same weights."""
        free = ["tracks", "crop_bins", "checkpointing", "first_width", "channel_multiple"]
        free += ["dropout", "attention_dropout", "head_dropout", "relative_reach"]
        if self.relative != "table":
            free.append("seq_bp")
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in free}
        return own | {"channels": list(self.widths)}

    @property
    def tokens(self) -> int:
        """Bins of the whole window; each is one token of the transformer."""
        return self.seq_bp // self.bin_bp

    @property
    def reach(self) -> int:
        """Tokens that the relative table covers on either side."""
        return self.relative_reach or self.tokens

    @property
    def bins(self) -> int:
        """Bins of the output."""
        return self.tokens - 2 * self.crop_bins

    @property
    def halvings(self) -> int:
        """Poolings by two from bases to bins: one after the stem, one in every tower block."""
        return self.bin_bp.bit_length() - 1

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels after each halving; the last is the width of a token."""
        if self.channels:
            return self.channels
        steps = self.halvings - 1
        if not steps:
            return (self.width,)
        ratio = self.width / self.first_width
        series = (round(self.first_width * ratio ** (i / steps)) for i in range(steps))
        wanted = (-(-c // self.channel_multiple) * self.channel_multiple for c in series)
        return (*wanted, self.width)

    @property
    def hidden(self) -> int:
        """Units inside the feed-forward part."""
        if self.gate == "square":
            return self.feed_forward
        unit = 64 if self.feed_forward >= 512 else 2
        return max(1, round(2 * self.feed_forward / 3 / unit)) * unit


def _problems(c: Config) -> Iterator[str]:
    """What does not fit, each naming its keys."""
    for key, allowed in CHOICES.items():
        if getattr(c, key) not in allowed:
            yield f"{key} {getattr(c, key)!r} is not one of {', '.join(allowed)}"
    for key in ("width", "first_width", "channel_multiple", "heads", "feed_forward", "tracks"):
        if getattr(c, key) < 1:
            yield f"{key} is {getattr(c, key)}, less than 1"
    for key in ("dropout", "attention_dropout", "head_dropout"):
        if not 0 <= getattr(c, key) < 1:
            yield f"{key} {getattr(c, key)} is not in [0, 1)"
    if c.bin_bp < 2 or c.bin_bp & (c.bin_bp - 1):
        yield f"bin_bp {c.bin_bp} is no power of two (every halving pools two neighbours)"
    elif c.seq_bp < c.bin_bp or c.seq_bp % c.bin_bp:
        yield f"seq_bp {c.seq_bp} is no multiple of bin_bp {c.bin_bp}"
    elif c.crop_bins < 0 or c.bins < 1:
        yield (
            f"crop_bins {c.crop_bins} on each side leaves nothing of the {c.tokens} bins "
            f"(seq_bp {c.seq_bp} / bin_bp {c.bin_bp})"
        )
    elif c.reach < c.tokens:
        yield f"relative_reach {c.relative_reach} is less than the {c.tokens} bins of seq_bp"
    if c.channels and (len(c.channels) != c.halvings or c.channels[-1] != c.width):
        yield (
            f"channels {list(c.channels)} are not {c.halvings} numbers (bin_bp {c.bin_bp}) "
            f"that end with width {c.width}"
        )
    if c.layers < 0:
        yield f"layers is {c.layers}; 0 is a network of convolutions only"
    if c.layers and c.heads > 0 and c.width % c.heads:
        yield f"heads {c.heads} do not divide width {c.width}"
    elif c.layers and c.heads > 0 and c.relative == "rotary" and c.width // c.heads % 2:
        yield f"width {c.width} / heads {c.heads} is odd, which relative: rotary cannot turn"
    if c.layers and c.position == "sinusoid" and c.width % 2:
        yield f"width {c.width} is odd, which position: sinusoid cannot fill"


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "joint": {
        "width": 1152,
        "first_width": 576,
        "layers": 11,
        "heads": 8,
        "relative_reach": 1152,  # as published: the width by accident, of which 768 are used
        "tracks": 18,
    },
    "modern": {
        "channel_multiple": 64,
        "norm": "group",
        "gate": "swiglu",
        "block": "pre",
        "output_projection": True,
        "position": "off",
        "dropout": 0.2,
        "attention_dropout": 0.1,
    },
    "small": {
        "width": 192,
        "first_width": 16,
        "layers": 2,
        "heads": 4,
        "feed_forward": 1024,
        "gate": "swiglu",
        "block": "pre",
        "output_projection": True,
        "position": "off",
        "relative": "rotary",
        "dropout": 0.1,
        "attention_dropout": 0.0,  # a sixth of the time of a step on a CPU
    },
    "tiny": {
        "seq_bp": 2048,
        "crop_bins": 2,
        "width": 64,
        "first_width": 32,
        "layers": 2,
        "heads": 4,
        "feed_forward": 128,
        "dropout": 0.1,
        "attention_dropout": 0.1,
    },
}
