"""Epi-LSTM against the published loop with a call per bin: training, encoding, and its data.

1,030 channels, 24 latents, frames of 100 bins, float32, two threads. All times are for 1,000 bins,
so that model and data stand side by side: 50 ms are 20,000 bins/s, 5 ms are 200,000. Training is a
whole update: loss, backward, clipping, Adam.
"""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import models
from bench import Figure, paired
from epiloom.data.genome import Genome
from epiloom.data.store import GenomeStore
from epiloom.data.tiles import write_tiles
from epiloom.learn.frames import FrameExamples, FrameTable
from tests import made_tiles

CHANNELS, LATENT, WIDE, FRAME = 1030, 24, 64, 100
SEGMENTS = (128, 64)  # the default, and half of it
LONG = 20  # frames of a chromosome that is encoded as one stretch
THREADS, ROUNDS = 2, 7
TRAINING, ENCODING = 20_000, 200_000  # bins/s that are asked for
TIMES_TRAINING, TIMES_ENCODING = 10, 40  # as fast as the published loop, likewise
COPIES = 6  # of the signal: an update reads or writes as many numbers as the signal 12 times
NAMES = [f"E{k // 10:03}-mark{k % 10}.pval" for k in range(CHANNELS)]
GENOME = Genome("bench", ("chr1", "chr2", "chr3"), (25 * FRAME * 256, 25 * FRAME, 25 * FRAME))
SPEC = models.load("epi_lstm")
Step = Callable[[], object]


def figures() -> Iterator[Figure | str]:
    """Ours beside a reference or a limit, as the name says; ratio above 1 is better."""
    torch.set_num_threads(THREADS)  # after made_tiles, which sets one
    policy = os.environ.get("OMP_WAIT_POLICY", "not set")  # on busy cores `passive` is better
    yield f"{THREADS} threads, OMP_WAIT_POLICY {policy}"
    with tempfile.TemporaryDirectory(prefix="epi_lstm_") as folder:
        files, store = _made(Path(folder))
        examples = FrameTable.read(_settings(), files).examples("train")
        batch = {k: torch.from_numpy(v) for k, v in examples.batch(np.arange(SEGMENTS[0])).items()}
        batch["valid"][:] = True
        yield from _exactness(batch)
        yield from _training(batch)
        yield from _encoding(batch)
        yield from _data(examples, store, Path(folder))
    if torch.cuda.is_available():
        yield from _gpu(batch)
    else:
        yield "there is no GPU here, so nothing is measured on one"


class PerBin:
    """The published loop (specification 8.1): one vector at a time, one step per frame.

    Weights begin as those of `net`, a paper variant of one layer.
    """

    def __init__(self, net: nn.Module):
        net = copy.deepcopy(net)
        self.encoder, self.decoder, self.out = net.encoder[0], net.decoder[0], net.out
        self.parts = [nn.ModuleList([self.encoder]), nn.ModuleList([self.decoder, self.out])]
        self.adams = [torch.optim.Adam(part.parameters(), lr=1e-2) for part in self.parts]
        self.hidden = torch.zeros(1, net.latent)

    @staticmethod
    def cell(own: nn.Module, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """One bin through one cell."""
        given = own.input(x) + own.recurrent(hidden)
        i, f, o = torch.sigmoid(given[:, : 3 * own.hidden]).chunk(3, dim=1)
        cell = f * cell + i * F.softsign(given[:, 3 * own.hidden :])
        return o * F.softsign(cell), cell

    def encode(self, signal: np.ndarray) -> list[tuple[Tensor, Tensor]]:
        """Hidden and cell state of every bin of a frame [T, D]."""
        hidden, cell = self.hidden, torch.zeros_like(self.hidden)
        states = []
        for row in signal:
            hidden, cell = self.cell(self.encoder, torch.from_numpy(row)[None], hidden, cell)
            states.append((hidden, cell))
        self.hidden = hidden.detach()
        return states

    def loss(self, signal: np.ndarray) -> Tensor:
        """Sum over the bins of a frame of the mean square error."""
        states, total = self.encode(signal), torch.zeros(())
        theirs = states[-1][0]
        for row, (hidden, cell) in zip(signal, states, strict=True):
            theirs, _ = self.cell(self.decoder, hidden, theirs, cell)
            total = total + F.mse_loss(self.out(theirs), torch.from_numpy(row)[None])
        return total

    def train(self, signal: np.ndarray) -> None:
        """One frame: a step of both optimisers."""
        loss = self.loss(signal)
        for adam in self.adams:
            adam.zero_grad()
        loss.backward()
        for part, adam in zip(self.parts, self.adams, strict=True):
            nn.utils.clip_grad_norm_(part.parameters(), 1.0)
            adam.step()


def _settings() -> dict:
    fold = {"name": "f", "validation": ["chr2"], "test": ["chr3"]}
    sizes = {"latent": LATENT, "decoder_hidden": WIDE, "frame": FRAME, "batch": SEGMENTS[0]}
    return made_tiles.settings(channels=NAMES, fold=fold, **sizes)


def _made(folder: Path) -> tuple[dict[str, str], GenomeStore]:
    """A store of slowly changing tracks, and its tiles: 26 M values, 53 MB."""
    rng, total = np.random.default_rng(0), GENOME.total(25)
    drawn = rng.exponential(size=(-(-total // 4), CHANNELS)).astype(np.float16)
    signal = np.repeat(drawn, 4, axis=0)[:total]
    files = made_tiles.make_tiles(folder, signal, np.zeros(total, np.uint8), NAMES, GENOME)
    return files, GenomeStore(folder)


def _network(variant: str, device: str = "cpu") -> nn.Module:
    torch.manual_seed(0)
    return SPEC.build({**_settings(), "variant": variant}).to(device)


def _per_1000(steps: list[Step], bins: list[int], rounds: int = ROUNDS) -> list[float]:
    """Milliseconds for 1,000 bins of steps that take so many bins each."""
    return [s * 1e6 / n for s, n in zip(paired(steps, rounds), bins, strict=True)]


def _exactness(batch: dict[str, Tensor]) -> Iterator[Figure]:
    """The paper variant gives the published loop's numbers."""
    net, frame = _network("paper"), batch["signal"][:1]
    slow = PerBin(net)
    with torch.no_grad():
        ours = net(frame, torch.ones(1, dtype=torch.bool))
        difference = abs(float(F.mse_loss(ours, frame) * FRAME - slow.loss(frame[0].numpy())))
    yield Figure("Epi-LSTM: difference of a frame's loss / allowed", difference, 1e-3, "")


def _training(batch: dict[str, Tensor]) -> Iterator[Figure]:
    frame = batch["signal"][0].contiguous().numpy()
    slow = PerBin(_network("paper"))
    kinds = [(variant, n) for variant in ("fast", "paper") for n in SEGMENTS]
    steps = [_train(variant, _lanes(batch, n)) for variant, n in kinds]
    bins = [n * FRAME for _, n in kinds]
    limits = [_products(variant, SEGMENTS[0], True) for variant in ("fast", "paper")]
    target = torch.empty_like(batch["signal"])
    limits.append(lambda: [target.copy_(batch["signal"]) for _ in range(COPIES)])
    all_steps = [*steps, *limits, lambda: slow.train(frame)]
    times = _per_1000(all_steps, [*bins, *[SEGMENTS[0] * FRAME] * 3, FRAME])
    *_, fast_products, paper_products, copies, reference = times
    for (variant, n), ours in zip(kinds, times[: len(kinds)], strict=True):
        yield Figure(f"training, {variant}, {n} segments / loop per bin", ours, reference, "ms")
    yield Figure("training, fast, 128 / 20,000 bins/s", times[0], 1e6 / TRAINING, "ms")
    allowed = reference / TIMES_TRAINING
    yield Figure("training, fast, 128 / a tenth of the loop", times[0], allowed, "ms")
    for name, ours, products in (
        ("fast", times[0], fast_products),
        ("paper", times[2], paper_products),
    ):
        yield Figure(f"training, {name}, 128 / its matrix products", ours, products, "ms")
        limit = products + copies
        yield Figure(f"training, {name}, 128 / these and memory", ours, limit, "ms")


def _encoding(batch: dict[str, Tensor]) -> Iterator[Figure]:
    """Exactly, with the state handed on: stretches side by side, and a single one."""
    slow = PerBin(_network("paper"))
    frame = batch["signal"][0].contiguous().numpy()
    many = _lanes(batch, 64)["signal"]
    one = batch["signal"][:LONG].reshape(1, -1, CHANNELS).contiguous()
    kinds = [(v, name, x) for v in ("fast", "paper") for name, x in (("64", many), ("1", one))]
    steps = [_encode(_network(variant), x) for variant, _, x in kinds]
    bins = [x.shape[0] * x.shape[1] for _, _, x in kinds]
    per_bin = [lambda: slow.encode(frame)]  # the published code records gradients here too
    per_bin.append(torch.no_grad()(per_bin[0]))
    all_steps = [*steps, _products("fast", 64, False), *per_bin]
    times = _per_1000(all_steps, [*bins, 64 * FRAME, FRAME, FRAME])
    *_, products, reference, bare = times
    for (variant, name, _), ours in zip(kinds, times[: len(kinds)], strict=True):
        yield Figure(f"encoding, {variant}, {name} side by side / per bin", ours, reference, "ms")
    yield Figure("encoding, fast, 64 / per bin without gradients", times[0], bare, "ms")
    yield Figure("encoding, fast, 64 / 200,000 bins/s", times[0], 1e6 / ENCODING, "ms")
    allowed = reference / TIMES_ENCODING
    yield Figure("encoding, fast, 64 / a fortieth of the loop", times[0], allowed, "ms")
    yield Figure("encoding, fast, 64 / its matrix products", times[0], products, "ms")


def _lanes(batch: dict[str, Tensor], n: int, device: str = "cpu") -> dict[str, Tensor]:
    """The first segments of a batch; in memory bins stand outermost, as the loader puts them."""
    signal = batch["signal"][:n].transpose(0, 1).contiguous().transpose(0, 1)
    begins = torch.zeros(n, dtype=torch.bool)
    made = {"signal": signal, "begins": begins, "valid": batch["valid"][:n]}
    return {key: value.to(device) for key, value in made.items()}


def _train(variant: str, lanes: dict[str, Tensor]) -> Step:
    """An update like that of the trainer."""
    net = _network(variant, lanes["signal"].device.type)
    adam = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        adam.zero_grad()
        loss = SPEC.loss(net(lanes["signal"], lanes["begins"]), lanes)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        adam.step()
        loss.item()  # the trainer looks at it after every update

    return step


def _encode(net: nn.Module, signal: Tensor) -> Step:
    """Latents of all of it, frame after frame."""

    def step() -> None:
        state = None
        with torch.inference_mode():
            for frame in signal.split(FRAME, dim=1):
                latents, state = net.encode(frame, state)
            latents.cpu()

    return step


def _products(variant: str, segments: int, training: bool, device: str = "cpu") -> Step:
    """The same matrix products, all bins at once, with nothing between them (the limit)."""
    n, wide = segments * FRAME, WIDE if variant == "fast" else LATENT
    sizes = [(CHANNELS, 4 * LATENT), (LATENT, 4 * LATENT)]
    if training:
        sizes += [(LATENT, 4 * wide), (wide, 4 * wide), (wide, CHANNELS)]
    work = []
    for k, (inner, outer) in enumerate(sizes):
        x, w = torch.rand(n, inner, device=device), torch.rand(inner, outer, device=device)
        slope = torch.rand(n, outer, device=device)
        work.append((x, w, torch.empty_like(slope)))
        if training:
            work.append((x.T, slope, torch.empty_like(w)))
        if training and k:  # nothing is asked of the signal's gradient
            work.append((slope, w.T, torch.empty_like(x)))

    def step() -> None:
        for a, b, out in work:
            torch.mm(a, b, out=out)
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def _data(examples: FrameExamples, store: GenomeStore, folder: Path) -> Iterator[Figure]:
    """Tiles and loader on one core, against copies of the same numbers."""
    own = [folder / name for name in ("again.npy", "again.flags.npy", "again.json")]
    vectors = [np.asarray(store.track(name, 25)) for name in NAMES]
    total, n = len(vectors[0]), SEGMENTS[0]
    stored = np.asarray(examples.tiles.values[: n * FRAME])

    def turned() -> None:
        made = np.lib.format.open_memmap(folder / "turned.npy", "w+", np.float16, (total, CHANNELS))
        for first in range(0, total, 4096):
            made[first : first + 4096] = np.stack([v[first : first + 4096] for v in vectors]).T
        made.flush()

    build = [lambda: write_tiles(store, NAMES, 25, *own), turned]
    ours, limit = _per_1000(build, [total] * 2, 3)
    yield Figure("building tiles / turning the vectors alone", ours, limit, "ms")
    read = [lambda: examples.batch(np.arange(n)), lambda: stored.astype(np.float32)]
    ours, limit = _per_1000(read, [n * FRAME] * 2)
    yield Figure("loader, 128 segments / int16 to float32 alone", ours, limit, "ms")


def _gpu(batch: dict[str, Tensor]) -> Iterator[Figure | str]:
    """The same on a GPU, against its matrix products; per second for a frame of 100 bins."""
    n = SEGMENTS[0]
    lanes = _lanes(batch, n, "cuda")
    for variant in ("fast", "paper"):
        net = _network(variant, "cuda")
        jobs = {
            "training": (_train(variant, lanes), True),
            "encoding": (_encode(net, lanes["signal"]), False),
        }
        for name, (step, training) in jobs.items():
            limit = _products(variant, n, training, "cuda")
            ours, products = _per_1000([step, limit], [n * FRAME] * 2)
            yield Figure(f"GPU: {name}, {variant}, {n} / matrix products", ours, products, "ms")
            yield f"GPU: {name}, {variant}: {1e6 / ours / FRAME:,.0f} frames/s"
