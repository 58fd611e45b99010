"""Examples and their order: what the training loop is fed with.

Order, batches and augmentation are pure functions of (seed, epoch, index): neither the prefetch
thread nor a restart nor the number of processes can change which examples a batch holds.

Shapes: n genes, M marks, L bins.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from epiloom.learn.examples import Examples

log = logging.getLogger("epiloom")


def order(examples: int, seed: int, epoch: int) -> np.ndarray:
    """The permutation in which `epoch` (0-based) visits the examples."""
    return np.random.default_rng([seed, epoch]).permutation(examples)


def visits(examples: Examples, seed: int, epoch: int) -> np.ndarray:
    """The examples in the order in which `epoch` (0-based) visits them.

    Shuffled, but for kinds whose examples follow one another (`in_order`).
    """
    if getattr(examples, "in_order", False):
        return np.arange(len(examples))
    return order(len(examples), seed, epoch)


def counted(examples: Examples | None, indices: np.ndarray) -> int:
    """How many of some examples count in a loss: all, but for those that only warm up a state.

    Such a kind has a method `counts(indices)`, bool [n].
    """
    counts = getattr(examples, "counts", None)
    return int(counts(indices).sum()) if counts and len(indices) else len(indices)


def varied(examples: Examples, seed: int, epoch: int) -> Examples:
    """The examples as `epoch` (0-based) shows them: some kinds are augmented, anew every epoch.

    Such a kind has a method `varied(seed, epoch)` whose examples are again a pure function of their
    indices; held-out examples are never varied.
    """
    vary = getattr(examples, "varied", None)
    return vary(seed, epoch) if vary else examples


@dataclass(frozen=True)
class Piece:
    """One forward pass of this process: which examples, and their weight in the update."""

    indices: np.ndarray
    weight: float  # share of the update's examples; 0 for a stand-in


def updates(
    visits: np.ndarray,
    batch: int,
    accumulate: int,
    rank: int = 0,
    world: int = 1,
    examples: Examples | None = None,
) -> list[list[Piece]]:
    """Cut an order into updates of `batch * accumulate` examples, each into this rank's pieces.

    Every process has the same number of pieces. The last update may be smaller: its examples are
    weighted by their true number, so that the gradient is that of one process. A process for which
    nothing is left computes one example with weight 0. `examples` are asked how many count.
    """
    result = []
    for first in range(0, len(visits), batch * accumulate):
        group = visits[first : first + batch * accumulate]
        total = max(1, counted(examples, group))
        pieces = []
        for start in range(0, len(group), batch):
            share = np.array_split(group[start : start + batch], world)[rank]
            weight = counted(examples, share) / total
            pieces.append(Piece(share if len(share) else group[:1], weight))
        result.append(pieces)
    return result


def feed(
    examples: Examples, pieces: Iterable[Piece], device: torch.device, depth: int = 2
) -> Iterator[tuple[Piece, dict[str, torch.Tensor]]]:
    """The given pieces in order, each with its batch as tensors on `device`.

    With `depth` > 0 a thread fetches up to `depth` batches ahead; the batches are the same. On a
    GPU they are copied through pinned memory while the device is busy.
    """

    def fetch(piece: Piece) -> tuple[Piece, dict[str, torch.Tensor]]:
        arrays = examples.batch(piece.indices)
        if device.type == "cuda":
            return piece, {k: torch.from_numpy(v).pin_memory() for k, v in arrays.items()}
        # torch's own memory is aligned; sums over foreign memory may be ordered otherwise
        return piece, {k: torch.from_numpy(v).clone() for k, v in arrays.items()}

    for piece, ready in _ahead(fetch, pieces, depth) if depth > 0 else map(fetch, pieces):
        yield piece, {k: v.to(device, non_blocking=True) for k, v in ready.items()}


def _ahead(fetch: Callable, items: Iterable, depth: int) -> Iterator:
    """`map(fetch, items)` by one thread, `depth` items ahead; its errors are raised here."""
    waiting: queue.Queue = queue.Queue(maxsize=depth)
    leaving = threading.Event()

    def put(entry: tuple) -> bool:
        while not leaving.is_set():
            try:
                waiting.put(entry, timeout=0.1)
                return True
            except queue.Full:  # the consumer is busy, or gone without saying so
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((fetch(item), None)):
                    return
            put((None, StopIteration()))
        except BaseException as err:  # handed over, not swallowed
            put((None, err))

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            value, error = waiting.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield value
    finally:
        leaving.set()
        thread.join()


def digest(examples: Examples) -> str:
    """Fingerprint of the examples: all names, and the numbers of up to 256 of them."""
    everything = np.arange(len(examples))
    total = hashlib.sha256("\n".join(examples.names(everything)).encode())
    for key, values in sorted(examples.batch(everything[:: max(1, len(examples) // 256)]).items()):
        total.update(key.encode())
        total.update(np.ascontiguousarray(values).tobytes())
    return total.hexdigest()
