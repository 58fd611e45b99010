"""Best motif score per 128-bp bin and factor: int8 products against float32 and other scanners.

Random sequence of 41 % GC, one core, processor seconds per Mb; HOCOMOCO v11 full (769 motifs of 678
factors). Its MEME file and annotation are those of EPILOOM_MOTIFS (a folder) or of
shared/data/motifs beside the repository; without them, made-up motifs of the same widths serve.
MOODS and memelite run in the Python of EPILOOM_BENCH_PYTHON, if they are installed there; they
report hits, which is less than a score for every bin.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from bench import Figure
from epiloom.data import motifs as module
from epiloom.data.motif_sets import MotifSet, Rule, read_motif_set
from epiloom.data.motifs import Scanner, instructions, int8_works, scan

WIDTHS = {7: 17, 8: 20, 9: 56, 10: 60, 11: 133, 12: 86, 13: 66, 14: 52, 15: 47, 16: 36, 17: 48}
WIDTHS |= {18: 27, 19: 37, 20: 42, 21: 6, 22: 22, 23: 1, 24: 12, 25: 1}
REQUIRED = 2.0  # Mb/s and core, with AVX-512 VNNI
LENGTH = 1 << 19
SHORT = 1 << 16  # what slow ways read
FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "motifs"
FILES = ("HOCOMOCOv11_full_HUMAN_mono.meme.gz", "HOCOMOCOv11_full_HUMAN_annotation.tsv")

# Reads arrays of motifs and bases; prints processor seconds of one scan at p < 0.001.
OTHERS = {
    "MOODS": """
import MOODS.scan, MOODS.tools
ms = [z[k].T.tolist() for k in keys]
ms += [MOODS.tools.reverse_complement(m, 4) for m in ms]
t = [float(v) for v in z["thresholds"]] * 2
s = MOODS.scan.Scanner(7)
s.set_motifs([tuple(map(tuple, m)) for m in ms], [0.25] * 4, t)
text = "".join("ACGT"[b] for b in z["bases"])
run = lambda: s.scan(text)
""",
    "memelite": """
from memelite import fimo
ms = {k: (np.exp(z[k]) / 4).T for k in keys}
hot = np.eye(4, dtype=np.int8)[z["bases"]].T[None]
run = lambda: fimo(ms, hot, threshold=0.001)
run()
""",
}
FRAME = """
import sys, time
import numpy as np
z = np.load(sys.argv[1])
keys = [k for k in z if k.startswith("m")]
{body}
began = time.process_time()
run()
print(time.process_time() - began)
"""


def motif_set() -> tuple[MotifSet, str]:
    """The motifs, and where they are from."""
    folder = Path(os.environ.get("EPILOOM_MOTIFS", FOLDER))
    meme, table = (folder / name for name in FILES)
    if meme.exists() and table.exists():
        return read_motif_set(meme, table), "HOCOMOCO v11 full"
    rng = np.random.default_rng(0)
    widths = [w for w, n in WIDTHS.items() for _ in range(n)]
    odds = tuple(np.log(rng.dirichlet([0.3] * 4, w) * 3.96 + 0.01) for w in widths)
    names = tuple(f"m{i}" for i in range(len(odds)))
    thresholds = np.array([0.6 * m.max(axis=1).sum() for m in odds])
    pairs = np.stack([np.arange(len(odds)) % 678, np.arange(len(odds))], 1)
    pairs = pairs[np.lexsort(pairs.T[::-1])]
    return MotifSet(names, odds, thresholds, names[:678], pairs, Rule("none")), "made-up motifs"


def seconds(function, repeats: int) -> float:
    """Processor seconds of one call: the median of some, after one to warm up."""
    function()
    spent = []
    for _ in range(repeats):
        began = time.process_time()
        function()
        spent.append(time.process_time() - began)
    return float(np.median(spent))


def by_one_hot(motifs: MotifSet, bases: np.ndarray) -> float:
    """Seconds of the plain int8 form: windows of four columns, each strand a column of its own."""
    from epiloom.data.motifs_int8 import NONE

    hot = np.eye(4, dtype=np.int8)[bases]
    groups = []
    for width in sorted(set(motifs.widths.tolist())):
        rows = np.flatnonzero(motifs.widths == width)
        n = -(-2 * len(rows) // 32) * 32
        groups.append((width, torch.zeros((4 * width, n), dtype=torch.int8)))
    least, size = NONE, module.CHUNK

    def run():
        for start in range(0, len(bases) - size - 32, size):
            flat = hot[start : start + size + 32].reshape(-1)
            for width, weights in groups:
                seen = np.ndarray((size, 4 * width), np.int8, flat, 0, (4, 1)).copy()
                out = room[: size * weights.shape[1]].view(size, -1)
                torch._int_mm(torch.from_numpy(seen), weights, out=out)
                out.view(-1, 128, weights.shape[1]).amax(1).clamp_(min=least)

    room = torch.empty(size * max(w.shape[1] for _, w in groups), dtype=torch.int32)
    return seconds(run, 3) / ((len(bases) - 32) // size * size)


def by_other(name: str, motifs: MotifSet, bases: np.ndarray) -> float | None:
    """Seconds per base of another scanner; None if it is not installed."""
    python = os.environ.get("EPILOOM_BENCH_PYTHON", sys.executable)
    with tempfile.TemporaryDirectory() as folder:
        arrays = {f"m{i}": m for i, m in enumerate(motifs.log_odds)}
        np.savez(f"{folder}/x.npz", bases=bases, thresholds=motifs.thresholds, **arrays)
        environment = os.environ | {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        ran = subprocess.run(
            [python, "-c", FRAME.format(body=OTHERS[name]), f"{folder}/x.npz"],
            capture_output=True,
            text=True,
            env=environment,
        )
    if ran.returncode:
        told = ran.stderr.strip().splitlines()[-1:]
        print(f"{name}: not installed or failed ({' '.join(told)[:80]})")
        return None
    return float(ran.stdout) / len(bases)


def figures() -> Iterator[Figure]:
    torch.set_num_threads(1)
    motifs, source = motif_set()
    rng = np.random.default_rng(0)
    bases = rng.choice(4, LENGTH, p=[0.295, 0.205, 0.205, 0.295]).astype(np.uint8)
    scanner = Scanner(motifs)
    print(f"{len(motifs.names)} motifs of {len(motifs.tfs)} factors, {source}; {instructions()}")
    print(f"int8 product: {int8_works()}; step {scanner.step} nat")
    ours = seconds(lambda: scanner.codes(bases), 5) / LENGTH
    print(f"{1e-6 / ours:.2f} Mb/s and core")
    yield Figure("a Mb / what is required of AVX-512 VNNI", ours * 1e6, 1 / REQUIRED, "s")
    reference = seconds(lambda: scan(bases[:SHORT], motifs), 1) / SHORT
    yield Figure("a Mb / float32 conv1d by width", ours * 1e6, reference * 1e6, "s")
    if int8_works():
        plain = by_one_hot(motifs, bases)
        yield Figure("a Mb / int8 over one-hot windows", ours * 1e6, plain * 1e6, "s")
    for name in OTHERS:
        if spent := by_other(name, motifs, bases[:SHORT]):
            yield Figure(f"a Mb / {name}, hits", ours * 1e6, spent * 1e6, "s")
    every = MotifSet(
        motifs.names,
        motifs.log_odds,
        np.zeros(len(motifs.names)),
        motifs.names,
        np.repeat(np.arange(len(motifs.names))[:, None], 2, 1),
        Rule("none"),
    )
    own = Scanner(every)
    apart = np.abs(own.scores(bases[:SHORT]) - scan(bases[:SHORT], every))
    yield Figure("largest error seen / possible", float(apart.max()), own.max_error, "nat")
    print(f"mean error {apart[apart > 0].mean():.3f} nat")
