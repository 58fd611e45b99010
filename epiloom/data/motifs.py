"""Best motif score of every bin and transcription factor (TF), by matrix products over sequence.

A site belongs to the bin that holds its first base on the plus strand, whatever its strand; it may
run past the bin's end, not past the end of the sequence. A window with an N gives no site. The
feature of EpiGePT: the best score over the sites of all motifs of a TF, 0 if none is counted.

The fast way scores both strands at once in int8, see motifs_int8.py: a motif's score is a + b on
one strand and a - b on the other, so the better one is a + |b|: two products of half the depth, 2.6
times less work than four columns per base and strand. Each motif has its own step; `error` says
what rounding can change at most. `scan`, in float32, is the reference, and serves where torch has
no int8 product.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from epiloom.data import motifs_int8
from epiloom.data.motif_sets import MotifSet
from epiloom.plan.errors import InputError

BIN_BP = 128
CHUNK = 8192  # positions scored at a time: two matrices of 4 MB stay in the shared cache
STEP = 0.1  # nat per step of a stored score


@functools.cache
def int8_works() -> bool:
    """Whether torch has the int8 product here, and its result is right and int32."""
    try:
        one = torch.arange(-60, 60, dtype=torch.int8).view(8, 15)
        two = torch.arange(-120, 120, dtype=torch.int16).to(torch.int8).view(15, 16)
        found = torch._int_mm(one, two)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return found.dtype == torch.int32 and torch.equal(found, one.int() @ two.int())


def instructions() -> str:
    """The vector instructions that the int8 product can use, in words."""
    try:
        with open("/proc/cpuinfo") as file:
            flags = set(next((s for s in file if s.startswith("flags")), "").split())
    except OSError:
        flags = set()
    level = "AVX-512" if "avx512bw" in flags else "AVX2" if "avx2" in flags else "other"
    return f"{level}, VNNI" if {"avx512_vnni", "avx_vnni"} & flags else f"{level} without VNNI"


class Scanner:
    """A motif set made ready to scan on the CPU.

    Attributes:
        motifs: what is scanned for; step: nat per step of `codes`.
        exact: whether float32 serves, for want of an int8 product or for motifs too wide for it.
        error: float64 [M], the largest possible |score - exact score| of each motif, in nat.
    """

    def __init__(self, motifs: MotifSet, step: float | None = None):
        self.motifs = motifs
        self.step = step or step_of(motifs)
        self.exact = not int8_works() or int(motifs.widths.max()) > motifs_int8.WIDEST
        self.error = np.zeros(len(motifs.names))
        self._reach, self._free = int(motifs.widths.max()), deque()
        if self.exact:
            return
        halves = [motifs_int8.halves(m) for m in motifs.log_odds]
        scale = np.array([max(np.abs(h).max() / 127, 1e-9) for h in halves])
        whole = [np.rint(h / s).astype(np.int8) for h, s in zip(halves, scale, strict=True)]
        constant = np.array([m.mean(axis=1).sum() for m in motifs.log_odds])
        for i, (half, rounded) in enumerate(zip(halves, whole, strict=True)):
            odd = bool(motifs.widths[i] % 2)
            self.error[i] = motifs_int8.error(half, rounded * scale[i], odd)
        self._groups = list(motifs_int8.groups(motifs.widths, whole))
        # Sums that count: at the threshold or above it, above 0, and of a window without an N.
        least = np.ceil((motifs.thresholds - constant) / scale - 1e-9)
        least = np.maximum(least, np.floor(-constant / scale) + 1)
        self._lowest = np.clip(least, motifs_int8.NONE, 1 << 30).astype(np.int32)[:, None]
        self._scale, self._constant = (v.astype(np.float32)[:, None] for v in (scale, constant))

    @property
    def max_error(self) -> float:
        """Largest possible error of a score, in nat; rounding to codes adds half a step."""
        return float(self.error.max())

    def scores(self, bases: np.ndarray, bin_bp: int = BIN_BP, threads: int = 1) -> np.ndarray:
        """Best scores, float32 [ceil(L / bin_bp), K]; 0 where no site is counted.

        Args:
            bases: uint8 [L], 0..3 = A, C, G, T, anything else is no base (see sequence.py).
        """
        if self.exact:
            return scan(bases, self.motifs, bin_bp)
        return self._scan(bases, bin_bp, threads, self._finish, np.float32)

    def codes(self, bases: np.ndarray, bin_bp: int = BIN_BP, threads: int = 1) -> np.ndarray:
        """The same as steps, uint8; a counted site has 1 or more, 0 says that there is none."""
        if self.exact:
            return encode(scan(bases, self.motifs, bin_bp), self.step)
        return self._scan(bases, bin_bp, threads, self._coded, np.uint8)

    def _scan(self, bases, bin_bp: int, threads: int, finish, dtype) -> np.ndarray:
        bases = _checked(bases, bin_bp)
        out = np.zeros((-(-len(bases) // bin_bp), len(self.motifs.tfs)), dtype)
        per = max(1, CHUNK // bin_bp)
        cuts = [(b, min(b + per, len(out))) for b in range(0, len(out), per)]

        def fill(cut: tuple[int, int]) -> None:
            first, end = cut
            torch.set_num_threads(1)  # of this thread; chunks are what runs side by side
            try:
                room = self._free.pop()
            except IndexError:
                room = {}
            best = self._best(bases, first * bin_bp, end - first, bin_bp, room)
            self._free.append(room)
            out[first:end] = finish(best)

        before = torch.get_num_threads()
        try:
            if threads > 1:
                with ThreadPoolExecutor(threads) as pool:
                    list(pool.map(fill, cuts))
            else:
                list(map(fill, cuts))
        finally:
            torch.set_num_threads(before)
        return out

    def _best(self, bases, start: int, bins: int, bin_bp: int, room: dict) -> np.ndarray:
        """Best sum of each motif over the sites of a bin, int32 [M, bins]; see `_finish`."""
        before = self._reach // 2 + 1
        margin = self._reach + before + motifs_int8.LINE
        codes = _piece(bases, start - before, start + bins * bin_bp + margin)
        numbers, other = np.stack([b[codes] for b in motifs_int8.BASES]), bool(codes.max() > 3)
        found = np.empty((len(self.motifs.names), bins), np.int32)
        for group in self._groups:
            at, size = before + group.low, group.columns(bins * bin_bp)
            a, b, both = self._room(group, size, room)
            motifs_int8.features(numbers, at, both, group)
            plus, first, second = group.plus, *both
            if other:
                plus, first = motifs_int8.with_other_letters(codes, at, first, group)
            torch._int_mm(plus, torch.from_numpy(first), out=a)
            torch._int_mm(group.minus, torch.from_numpy(second), out=b)
            a += b.abs_()
            for width, low, high in group.widths:
                shift = width // 2 - group.low
                sites = a[low:high, shift : shift + bins * bin_bp]
                best = sites.reshape(high - low, bins, bin_bp).amax(2)
                found[group.rows[low:high]] = best.numpy()
        return found

    def _room(self, group: motifs_int8.Group, size: int, room: dict) -> tuple:
        """Two int32 [n, size] and int8 [2, depth, size] of a room that is used again and again.

        Fresh memory would cost more than the products.
        """
        rows = max(len(g.rows) for g in self._groups)
        depth = max(g.depth for g in self._groups)
        if room.get("size", 0) < size:
            room["size"] = size
            room["sums"] = torch.empty((2, rows * size), dtype=torch.int32)
            room["features"] = np.empty(2 * depth * size, np.int8)
        n = len(group.rows)
        a, b = (half[: n * size].view(n, size) for half in room["sums"])
        both = room["features"][: 2 * group.depth * size].reshape(2, group.depth, size)
        both[:, 3 * group.pairs :] = 0
        return a, b, both

    def _finish(self, best: np.ndarray) -> np.ndarray:
        """Scores of TFs, float32 [bins, K], of sums of motifs [M, bins]."""
        score = best * self._scale + self._constant
        score *= best >= self._lowest
        return _per_tf(score, self.motifs)

    def _coded(self, best: np.ndarray) -> np.ndarray:
        """The same as codes; many small steps in place, since they are a tenth of the time."""
        steps = best * (self._scale / np.float32(self.step))
        steps += self._constant / np.float32(self.step)
        np.clip(np.rint(steps, out=steps), 1, 255, out=steps)
        codes = steps.astype(np.uint8)
        codes *= (best >= self._lowest).view(np.uint8)
        return _per_tf(codes, self.motifs)

    def block_of_windows(
        self, bases: np.ndarray, start: int, end: int, bin_bp: int = BIN_BP
    ) -> tuple[int, np.ndarray]:
        """Codes of those bins only that can differ once bases [start, end) were changed.

        Args:
            bases: the changed sequence, uint8 [L]; for insertions, up to its end.

        Returns:
            First bin, and uint8 [bins, K] as `codes` has them there.
        """
        bases = _checked(bases, bin_bp)
        if not 0 <= start < end <= len(bases):
            raise InputError(
                "changed bases", f"{start}-{end} of {len(bases)}; give some that are there"
            )
        first = max(0, start - self._reach + 1) // bin_bp
        last = -(-end // bin_bp)
        piece = bases[first * bin_bp : last * bin_bp + self._reach]
        return first, self.codes(piece, bin_bp)[: last - first]


def scan(
    bases: np.ndarray,
    motifs: MotifSet,
    bin_bp: int = BIN_BP,
    device: str | torch.device = "cpu",
) -> np.ndarray:
    """The same in float32 by convolutions, for any device: reference and fallback.

    Args:
        bases: uint8 [L], 0..3 = A, C, G, T, anything else is no base.

    Returns:
        float32 [ceil(L / bin_bp), K], 0 where no site is counted.
    """
    bases = _checked(bases, bin_bp)
    bins, reach = -(-len(bases) // bin_bp), int(motifs.widths.max())
    kernels = [(w, rows, _kernel(motifs, rows).to(device)) for w, rows in _by_width(motifs.widths)]
    out = np.zeros((bins, len(motifs.tfs)), np.float32)
    per = max(1, CHUNK // bin_bp)
    for first in range(0, bins, per):
        n = min(per, bins - first)
        piece = _piece(bases, first * bin_bp, (first + n) * bin_bp + reach)
        codes = torch.from_numpy(piece).to(device)
        hot = torch.stack([codes == k for k in range(4)]).float()[None]
        known = torch.cumsum(torch.nn.functional.pad((codes > 3).int(), (1, 0)), 0)
        best = np.empty((len(motifs.names), n), np.float32)
        for width, rows, kernel in kernels:
            size = n * bin_bp
            score = torch.nn.functional.conv1d(hot[..., : size + width - 1], kernel)[0]
            score = torch.maximum(*score.chunk(2))
            bad = known[width : width + size] > known[:size]
            score = score.masked_fill(bad, -torch.inf).view(len(rows), n, bin_bp)
            best[rows] = score.amax(2).cpu().numpy()
        best[(best < motifs.thresholds[:, None]) | (best <= 0)] = 0
        out[first : first + n] = _per_tf(best, motifs)
    return out


def step_of(motifs: MotifSet) -> float:
    """nat per step of a stored score: STEP, or more if the largest score has no code otherwise."""
    return max(STEP, float(np.ceil(motifs.largest / 255 * 1000) / 1000))


def encode(scores: np.ndarray, step: float) -> np.ndarray:
    """Scores as steps, uint8; what is above 0 has 1 or more."""
    codes = np.minimum(np.rint(scores / step), 255).astype(np.uint8)
    return np.maximum(codes, (scores > 0).view(np.uint8))


def _kernel(motifs: MotifSet, rows: np.ndarray) -> torch.Tensor:
    """float32 [2 n, 4, width]: forward, then reverse complement."""
    odds = np.stack([motifs.log_odds[m].T for m in rows])
    both = np.concatenate([odds, odds[:, ::-1, ::-1]])
    return torch.from_numpy(np.ascontiguousarray(both, np.float32))


def _by_width(widths: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for width in sorted(set(widths.tolist())):
        yield width, np.flatnonzero(widths == width)


def _per_tf(scores: np.ndarray, motifs: MotifSet) -> np.ndarray:
    """Best score of every TF, float32 [bins, K], from [M, bins] of motifs, 0 if not counted."""
    starts = np.searchsorted(motifs.pairs[:, 0], np.arange(len(motifs.tfs)))
    return np.maximum.reduceat(scores[motifs.pairs[:, 1]], starts, axis=0).T


def _checked(bases: np.ndarray, bin_bp: int) -> np.ndarray:
    bases = np.asarray(bases)
    if bases.dtype != np.uint8 or bases.ndim != 1 or bin_bp < 1:
        raise InputError(
            "bases", f"{bases.dtype} {bases.shape}, bins of {bin_bp}; give uint8 [L] and 1 or more"
        )
    return bases


def _piece(bases: np.ndarray, start: int, end: int) -> np.ndarray:
    """bases[start:end], 4 beyond the ends."""
    piece = np.full(end - start, 4, np.uint8)
    low, high = max(start, 0), min(end, len(bases))
    if low < high:
        np.minimum(bases[low:high], 4, out=piece[low - start : high - start])
    return piece
