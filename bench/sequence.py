"""Data of sequence models: making the store, its size, and windows per second out of it.

One chromosome of 5 Mb, windows of 98,304 bp in bins of 128 bp, four tracks as in bench/binning.py
(36 bp per interval), conservation base by base. All on one core and from the page cache.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyBigWig

from bench import Figure, paired
from bench.binning import LENGTH, make_track
from epiloom.data.conservation import write_conservation
from epiloom.data.genome import Genome, mask
from epiloom.data.geometry import Geometry
from epiloom.data.sequence import write_bases
from epiloom.data.store import write_mask
from epiloom.data.targets import write_target
from epiloom.data.window_reader import WindowReader

GENOME = Genome("synthetic", ("chr1",), (LENGTH,))
SHAPE = Geometry(98_304, 128, 64)
TRACKS = 4
BATCH = 8
MEASURED = 6  # windows that the slow ways read
BUILT = 200  # windows per second that making the store should reach
ROOM = 210_000  # bytes per window that it may take
WINDOWS = LENGTH / SHAPE.seq_bp


def make_files(folder: Path) -> None:
    """x.fa, c.bw and 0.bw .. 3.bw."""
    rng = np.random.default_rng(0)
    letters = np.frombuffer(b"ACGTacgtN", np.uint8)[rng.integers(0, 9, LENGTH)]
    lines = letters.reshape(-1, 50)
    ends = np.full((len(lines), 1), ord("\n"), np.uint8)
    (folder / "x.fa").write_bytes(b">chr1\n" + np.hstack([lines, ends]).tobytes())
    scores = np.round(rng.random(LENGTH) ** 4, 3)
    with pyBigWig.open(str(folder / "c.bw"), "w") as file:
        file.addHeader([("chr1", LENGTH)])
        file.addEntries("chr1", 0, values=scores, span=1, step=1)
    for k in range(TRACKS):
        make_track(folder / f"{k}.bw", 36)


def make_store(folder: Path) -> None:
    """All that windows are read from."""
    store = folder / "store"
    GENOME.save(store / "manifest.json", bins=(SHAPE.bin_bp,))
    write_bases(store, folder / "x.fa", GENOME)
    write_conservation(store, "phast", folder / "c.bw", GENOME)
    for k in range(TRACKS):
        write_target(store, str(k), folder / f"{k}.bw", GENOME, SHAPE.bin_bp, {"clip": 128.0})
    write_mask(store, mask(GENOME, SHAPE.bin_bp), SHAPE.bin_bp)


def library_windows(folder: Path, starts: list[int]) -> np.ndarray:
    """Targets of windows by pyBigWig's own binning, exact: float64 [n, tracks, all bins]."""
    files = [pyBigWig.open(str(folder / f"{k}.bw")) for k in range(TRACKS)]
    bins = SHAPE.seq_bp // SHAPE.bin_bp
    found = [
        [file.stats("chr1", s, s + SHAPE.seq_bp, nBins=bins, exact=True) for file in files]
        for s in starts
    ]
    return np.array(found, np.float64)


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder)
        (built,) = paired([lambda: make_store(folder)], 3)
        rate = WINDOWS / built
        yield Figure("making the store, per window / allowed", 1 / rate, 1 / BUILT, "s")
        starts = [SHAPE.bin_bp * k for k in range(2000, 30_000, 28_000 // MEASURED)][:MEASURED]
        began = time.perf_counter()
        library = library_windows(folder, starts)
        spent = (time.perf_counter() - began) / len(starts)
        yield Figure("one window / stats(nBins) of its targets alone", 1 / rate, spent, "s")
        size = sum(p.stat().st_size for p in (folder / "store").rglob("*.npy"))
        yield Figure("bytes per window / allowed", size / WINDOWS, ROOM, "B")
        reader = WindowReader.stored(folder / "store", list("0123"), "phast", SHAPE)
        _compare(reader.batch("chr1", starts)["target"], library)
        yield from _loading(reader, folder)


def _compare(ours: np.ndarray, library: np.ndarray) -> None:
    """Stop if our targets are not the library's: fewer bases than half a bin are missing to us."""
    crop = SHAPE.crop_bins
    library = np.clip(library[..., crop:-crop], 0, 128)
    there = ~np.isnan(ours)
    if not np.allclose(ours[there], library[there], rtol=2**-10, atol=1e-6):
        raise RuntimeError("ours and stats(nBins) disagree")


def _loading(reader: WindowReader, folder: Path) -> Iterator[Figure]:
    """Seconds per window of batches, each against its bare copies or against streaming."""
    n, rounds = BATCH, 40
    last = (LENGTH - SHAPE.seq_bp) // SHAPE.bin_bp
    order = random.Random(0)
    starts = [SHAPE.bin_bp * order.randrange(last) for _ in range(n * rounds)]
    batches = [starts[i : i + n] for i in range(0, len(starts), n)]
    out, half = reader.room(n), np.arange(n) % 2 == 0
    source = np.zeros((2, LENGTH), np.uint8)

    def plain():
        for own in batches:
            reader.batch("chr1", own, out=out)

    def augmented():
        for own in batches:
            reader.batch("chr1", own, half, half * 3, out=out)

    def copies():
        for own in batches:
            for row, start in enumerate(own):
                out["bases"][row] = source[0, start : start + SHAPE.seq_bp]
                out["conservation"][row] = source[1, start : start + SHAPE.seq_bp]

    settings = [(folder / f"{k}.bw", {"clip": 128.0}) for k in range(TRACKS)]
    files = WindowReader.streamed(GENOME, folder / "x.fa", SHAPE, settings, folder / "c.bw")

    def streamed():
        files.batch("chr1", batches[0], out=out)

    times = paired([plain, augmented, copies, streamed], 10)
    files.close()
    mine, turned, bare = (t / len(starts) for t in times[:3])
    yield Figure("a window from the store / its two copies alone", mine, bare, "s")
    yield Figure("the same, half of them turned and shifted", turned, bare, "s")
    yield Figure("a window from the store / streamed from files", mine, times[3] / n, "s")
