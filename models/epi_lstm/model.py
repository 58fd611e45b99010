"""Epi-LSTM: all tracks of the epigenome, bin by bin -> a short latent vector per bin -> all tracks.

Two forms with the same inputs and outputs (README.md says what differs from the paper):

    fast    stock LSTMs; the decoder is wider than the latent, and only the latent reaches it
    paper   the published cell and wiring; the decoder also sees the encoder's cell state

Shapes: B segments of the genome side by side, T bins, D channels, H latent, W decoder width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.epi_lstm import published
from models.epi_lstm.cells import SoftsignLSTM
from models.spec import ModelSpec

DEFAULTS: dict[str, Any] = {
    "variant": "fast",
    "latent": 24,
    "decoder_hidden": 64,
    "layers": 1,
    "bidirectional": False,
    "layer_norm": False,
    "cell": "zeroed",
    "dropout": 0.0,
}
CHANNELS = 1030  # of the published run
State = tuple[Tensor, ...]


class EpiLSTM(nn.Module):
    """What both forms share: the state that is carried from frame to frame of a segment.

    `carried` holds the values of the last forward pass, without gradient (truncated
    backpropagation through time), each tensor (layers, B, ...); None before the first one.
    """

    def __init__(self, channels: int, latent: int):
        super().__init__()
        self.channels, self.latent = channels, latent
        # of the signal before it was standardized, in arcsinh units; they go with the weights
        self.register_buffer("mean", torch.zeros(channels, dtype=torch.float64))
        self.register_buffer("std", torch.ones(channels, dtype=torch.float64))
        self.carried: State | None = None

    def forward(self, signal: Tensor, begins: Tensor) -> Tensor:
        """Reconstruction of a frame, (B, T, D).

        Args:
            signal: (B, T, D), standardized per channel, 0 where missing.
            begins: bool (B,), whether a segment begins here; the others go on from `carried`.
        """
        before = self.carried
        if before is None or before[0].shape[1] != len(signal):
            before = self.no_state(len(signal), signal)
        goes_on = (~begins).view(1, -1, 1)
        made, after = self.frame(signal, tuple(s * goes_on for s in before))
        self.carried = tuple(s.detach() for s in after)
        return made

    def no_state(self, segments: int, like: Tensor) -> State:
        """The state before the first bin of a chromosome: zeros."""
        sizes = self.state_sizes()
        return tuple(torch.zeros(n, segments, width, device=like.device) for n, width in sizes)

    def state_sizes(self) -> list[tuple[int, int]]:
        """Layers and width of every part of the state; those of the encoder stand first."""
        raise NotImplementedError

    def frame(self, signal: Tensor, state: State) -> tuple[Tensor, State]:
        """Reconstruction (B, T, D) of one frame, and the state after it."""
        raise NotImplementedError

    def restored(self, hidden: Tensor) -> Tensor:
        """All tracks (B, T, D) from the decoder's state; bins outermost in memory, as there."""
        return self.out(hidden.transpose(0, 1)).transpose(0, 1)

    def encode(self, signal: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Latents (B, T, H) of a frame or of a whole chromosome, and the state after it.

        The same numbers come out however a chromosome is cut, as long as the state is handed on.
        """
        raise NotImplementedError


class FastEpiLSTM(EpiLSTM):
    """Encoder D -> H, decoder H -> W, and a linear map W -> D (specification 3.7)."""

    def __init__(
        self,
        channels: int,
        latent: int,
        decoder_hidden: int,
        layers: int,
        bidirectional: bool,
        dropout: float,
    ):
        super().__init__(channels, latent)
        ways = 2 if bidirectional else 1
        if latent % ways:
            raise ValueError(f"latent: {latent} is odd; both directions have half of it")
        self.encoder = nn.LSTM(
            channels, latent // ways, layers, batch_first=True, bidirectional=bidirectional
        )
        self.dropout = nn.Dropout(dropout)
        self.decoder = nn.LSTM(latent, decoder_hidden, layers, batch_first=True)
        self.out = nn.Linear(decoder_hidden, channels)
        self.ways = ways

    def state_sizes(self) -> list[tuple[int, int]]:
        # The backward direction is not carried: it begins anew at the end of every frame.
        own = (self.encoder.num_layers, self.encoder.hidden_size)
        wide = (self.decoder.num_layers, self.decoder.hidden_size)
        return [own, own, wide, wide]

    def frame(self, signal: Tensor, state: State) -> tuple[Tensor, State]:
        latent, encoded = self.encode(signal, state[:2])
        hidden, decoded = self.decoder(self.dropout(latent), state[2:])
        return self.restored(hidden), (*encoded, *decoded)

    def encode(self, signal: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        state = self.no_state(len(signal), signal)[:2] if state is None else state[:2]
        if self.ways == 1:
            return self.encoder(signal, state)
        begun = tuple(self._both(s) for s in state)
        latent, after = self.encoder(signal, begun)
        return latent, tuple(s[0::2] for s in after)

    @staticmethod
    def _both(forward: Tensor) -> Tensor:
        """States of both directions, layer by layer; the backward one is zero."""
        return torch.stack([forward, torch.zeros_like(forward)], dim=1).flatten(0, 1)


class PaperEpiLSTM(EpiLSTM):
    """The published wiring (specification 3.1 to 3.3).

    At bin t the decoder receives the encoder's hidden state as input and its cell state in place
    of a cell state of its own; its hidden state begins as the encoder's last one of the frame.

    Args:
        cell: "zeroed" or "carried", what becomes of the encoder's cell state between frames. (The
            published code draws it at random, so that its latents differ from run to run.)
    """

    def __init__(
        self,
        channels: int,
        latent: int,
        layers: int,
        layer_norm: bool,
        cell: str,
        dropout: float,
    ):
        super().__init__(channels, latent)
        inputs = [channels] + [latent] * (layers - 1)
        self.encoder = nn.ModuleList(SoftsignLSTM(n, latent, layer_norm) for n in inputs)
        self.dropout = nn.Dropout(dropout)
        self.decoder = nn.ModuleList(
            SoftsignLSTM(latent, latent, layer_norm) for _ in range(layers)
        )
        self.out = nn.Linear(latent, channels)
        self.cell = cell

    def state_sizes(self) -> list[tuple[int, int]]:
        return [(len(self.encoder), self.latent)] * 2

    def frame(self, signal: Tensor, state: State) -> tuple[Tensor, State]:
        hiddens, cells = self._encoded(signal, state)
        made = self.dropout(hiddens[-1])
        for own, theirs, cell in zip(self.decoder, hiddens, cells, strict=True):
            made, _ = own(made, theirs[:, -1], cell[:, 0], cells=cell)
        return self.restored(made), self._after(hiddens, cells)

    def encode(self, signal: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        state = self.no_state(len(signal), signal) if state is None else state
        hiddens, cells = self._encoded(signal, state)
        return hiddens[-1], self._after(hiddens, cells)

    def _encoded(self, signal: Tensor, state: State) -> tuple[list[Tensor], list[Tensor]]:
        """Hidden and cell states of all layers, (B, T, H) each."""
        hidden, cell = state
        if self.cell == "zeroed":
            cell = torch.zeros_like(cell)
        hiddens, cells, x = [], [], signal
        for layer, own in enumerate(self.encoder):
            x, after = own(x, hidden[layer], cell[layer])
            hiddens.append(x)
            cells.append(after)
        return hiddens, cells

    def _after(self, hiddens: list[Tensor], cells: list[Tensor]) -> State:
        return tuple(torch.stack([each[:, -1] for each in part]) for part in (hiddens, cells))


def settings_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes of a run, with the defaults for what is not told."""
    own = DEFAULTS | {k: settings[k] for k in DEFAULTS if settings.get(k) is not None}
    channels = settings.get("channels")
    return own | {"channels": CHANNELS if channels is None else len(channels)}


def build(settings: Mapping[str, Any]) -> EpiLSTM:
    """The network of a run; `channels` of the settings lists its tracks in their order.

    Raises:
        ValueError: sizes that do not go together.
    """
    own = settings_of(settings)
    variant, names = own.pop("variant"), set(own)
    known = {
        "fast": (FastEpiLSTM, names - {"layer_norm", "cell"}),
        "paper": (PaperEpiLSTM, names - {"decoder_hidden", "bidirectional"}),
    }
    if variant not in known:
        raise ValueError(f"variant: '{variant}' is unknown; choose one of {', '.join(known)}")
    form, used = known[variant]
    return form(**{key: own[key] for key in used})


def form(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What weights depend on; those of the authors do not tell the names of their channels."""
    own = settings_of(settings)
    kept = ["variant", "latent", "layers", "channels"]
    kept += ["decoder_hidden", "bidirectional"] if own["variant"] == "fast" else ["layer_norm"]
    told = {key: own[key] for key in kept}
    if settings.get("channels") and not settings.get("unnamed_channels"):
        told["channel_order"] = ", ".join(settings["channels"])
    return told


def remark(state: Mapping[str, Tensor]) -> str:
    """Whether weights look trained."""
    if "encoder.0.input.weight" in state and published.random_weights(state):
        return (
            "these weights are uniform in +-1/sqrt(latent), as drawn before any training; their "
            "encoder is a random projection (so are the released ones)"
        )
    return "weights of an earlier training"


def prepare(net: EpiLSTM, examples: Any) -> None:
    """Take over how the examples were standardized (`scale` with mean and std per channel)."""
    net.mean.copy_(torch.as_tensor(examples.scale.mean))
    net.std.copy_(torch.as_tensor(examples.scale.std))


def loss(prediction: Tensor, batch: Mapping[str, Any]) -> Tensor:
    """Mean square of the residuals over the values that count in a frame, mean over frames.

    Frames in which nothing counts are left out, so that a batch may be divided over devices.
    `valid` of the batch is (B, T, 1), or (B, T, D) where single channels have missing values;
    `weight`, if there, weights channels.
    """
    return _MeanSquare.apply(prediction, batch["signal"], batch["valid"], batch.get("weight"))


class _MeanSquare(torch.autograd.Function):
    """Few passes over (B, T, D): half of a step would go into a loss of separate operations."""

    @staticmethod
    def forward(ctx, prediction, signal, valid, weight):  # noqa: D102
        residual = prediction.float() - signal
        whole = valid.shape[-1] == 1  # bins count as a whole, so that a number per bin will do
        if not whole:
            residual.masked_fill_(~valid, 0.0)
        weight = None if weight is None else weight[:, None]
        root = residual if weight is None else residual * weight.sqrt()
        squares = torch.linalg.vector_norm(root, dim=-1, keepdim=True).square()
        squares = squares.where(valid, 0.0) if whole else squares
        count = valid.sum(dim=(1, 2), keepdim=True) * (signal.shape[-1] if whole else 1)
        share = 1 / (count.clamp(min=1) * (count > 0).sum().clamp(min=1))  # of a value, by frame
        ctx.save_for_backward(residual, valid if whole else None, weight, share)
        ctx.dtype = prediction.dtype
        return (squares * share).sum()

    @staticmethod
    def backward(ctx, slope):  # noqa: D102
        residual, valid, weight, share = ctx.saved_tensors
        factor = 2 * slope * share
        factor = factor if valid is None else factor * valid
        pull = residual.mul_(factor if weight is None else factor * weight)  # it is of no more use
        return pull.to(ctx.dtype), None, None, None


def example(settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """Two short segments of slowly changing signal."""
    own = settings_of(settings)
    draw = torch.Generator().manual_seed(0)
    steps = torch.randn(2, 40, own["channels"], generator=draw)
    return {
        "signal": torch.cumsum(steps, dim=1) / 6,
        "begins": torch.ones(2, dtype=torch.bool),
        "valid": torch.ones(2, 40, 1, dtype=torch.bool),
    }


SPEC = ModelSpec(
    name="epi_lstm",
    build=build,
    loss=loss,
    inputs=("signal", "begins"),
    target="signal",
    example=example,
    import_published=published.import_authors,
    form=form,
    remark=remark,
    prepare=prepare,
    plain_loss=1.0,  # the signal is standardized
    tracks_last=True,
)
