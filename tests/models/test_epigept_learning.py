"""EpiGePT predicts cells it has never seen, by their TFs alone, and finds planted loops."""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

import models

SPEC = models.load("epigept")
DATA = Path(__file__).resolve().parents[3] / "shared/data"
TABLE = DATA / "epigept/tf_tpm_55cells.tsv.gz"
MOTIFS = DATA / "motifs/HOCOMOCOv11_full_HUMAN_mono.meme.gz"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not (TABLE.exists() and MOTIFS.exists()), reason="shared data not here"),
]
torch.set_num_threads(1)

REGIONS, BINS, BIN_BP, TFS, SIGNALS = 120, 32, 128, 16, 4
SEEN_REGIONS, SEEN_CELLS, CELLS = 96, 40, 55
THRESHOLD = 0.5  # of a motif's highest score; about one site in 8 bins, near p < 1e-3
STEP, STEPS, BATCH = 0.1, 800, 4  # BATCH regions x BATCH cells
SMALL = {
    "preset": "small", "seq_bp": BINS * BIN_BP, "tfs": TFS, "signals": SIGNALS, "motif_step": STEP,
    "channels": [8, 8, 16, 16, 16], "combine": "concat", "tf_norm": "off", "feed_forward": 64,
}  # fmt: skip


# ---- simulation ----------------------------------------------------------------------------------


def read_motifs() -> dict[str, np.ndarray]:
    """Every TF's first model of 8 to 16 positions, probabilities (positions, 4)."""
    found: dict[str, np.ndarray] = {}
    with gzip.open(MOTIFS, "rt") as file:
        blocks = file.read().split("MOTIF ")[1:]
    for block in blocks:
        head, _, *rows = block.strip().splitlines()
        matrix = np.array([row.split() for row in rows if row.strip()], dtype=float)
        if 8 <= len(matrix) <= 16:
            found.setdefault(head.split()[1], matrix)
    return found


def read_expression(rng) -> tuple[list[str], np.ndarray]:
    """TFs, and log1p of quantile-normalised TPM (TFs, cells), cells in random order.

    The reference is the mean of the sorted training columns; ties take their lowest rank.
    """
    with gzip.open(TABLE, "rt") as file:
        _, *rows = csv.reader(file, delimiter="\t")
    tpm = np.array([row[1:] for row in rows], dtype=float)[:, rng.permutation(CELLS)]
    reference = np.sort(tpm[:, :SEEN_CELLS], axis=0).mean(1)
    ranks = np.stack([np.searchsorted(np.sort(column), column) for column in tpm.T], axis=1)
    return [row[0] for row in rows], np.log1p(reference[ranks])


def scan(bases: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Best natural-log odds of sites that begin in a bin, on either strand; 0 below threshold."""
    odds = np.log(matrix / 0.25)
    best = np.full(len(bases), -np.inf)
    starts = len(bases) - len(odds) + 1
    for strand in (odds, odds[::-1, ::-1]):
        scores = sum(strand[i, bases[i : i + starts]] for i in range(len(odds)))
        best[:starts] = np.maximum(best[:starts], scores)
    best[best < THRESHOLD * odds.max(1).sum()] = 0
    return best.reshape(-1, BIN_BP).max(1)


def plant(rng, bases: np.ndarray, matrices: list[np.ndarray]) -> None:
    """Instances of random motifs on random strands, Poisson(0.6) per bin."""
    for _ in range(rng.poisson(0.6 * len(bases) / BIN_BP)):
        matrix = matrices[rng.integers(len(matrices))]
        site = np.array([rng.choice(4, p=row / row.sum()) for row in matrix])
        start = rng.integers(0, len(bases) - len(site))
        bases[start : start + len(site)] = site if rng.random() < 0.5 else 3 - site[::-1]


@dataclass
class World:
    bases: torch.Tensor  # (regions, bases)
    motifs: torch.Tensor  # (regions, bins, TFs), steps
    expression: torch.Tensor  # (cells, TFs)
    truth: torch.Tensor  # (regions, cells, bins, signals), log1p counts


def simulate(seed: int) -> World:
    rng = np.random.default_rng(seed)
    names, expression = read_expression(rng)
    known = read_motifs()
    spread = np.argsort(-expression.std(1))
    chosen = [i for i in spread if names[i] in known][:TFS]
    matrices = [known[names[i]] for i in chosen]
    share = (0.295, 0.205, 0.205, 0.295)  # 41 % G and C
    bases = rng.choice(4, size=(REGIONS, BINS * BIN_BP), p=share)
    for row in bases:
        plant(rng, row, matrices)
    score_RBK = np.stack([np.stack([scan(row, m) for m in matrices], axis=1) for row in bases])
    e_CK = expression[chosen].T
    middle, sd = np.median(e_CK, axis=0), e_CK.std(0)
    on_CK = 1 / (1 + np.exp(-(e_CK - middle) / (0.25 * sd)))
    weight_KA = rng.normal(size=(TFS, SIGNALS))
    activity = np.einsum("rbk,ck,ka->rcba", score_RBK, on_CK, weight_KA)
    padded = np.pad(activity, ((0, 0), (0, 0), (1, 1), (0, 0)))
    smooth = padded[:, :, :-2] / 4 + padded[:, :, 1:-1] / 2 + padded[:, :, 2:] / 4
    rate = np.exp(1.5 + 1.2 * smooth / smooth.std((0, 1, 2)))
    counts = rng.poisson(rate.clip(max=1e4))
    return World(
        torch.from_numpy(bases.astype(np.uint8)),
        torch.from_numpy((score_RBK / STEP).round().clip(0, 255).astype(np.uint8)),
        torch.from_numpy(e_CK.astype(np.float32)),
        torch.from_numpy(np.log1p(counts).astype(np.float32)),
    )


# ---- training and figures ------------------------------------------------------------------------


def batch_of(world: World, regions, cells) -> dict[str, torch.Tensor]:
    return {
        "bases": world.bases[regions],
        "motifs": world.motifs[regions],
        "expression": world.expression[cells].expand(len(regions), -1, -1),
        "target": world.truth[regions][:, cells],
    }


def train(world: World, settings: dict, seed: int, contacts: torch.Tensor | None = None):
    """AdamW with one cycle up to 2e-3 on training regions and cells."""
    torch.manual_seed(seed)
    net = SPEC.build(settings)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.01)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=STEPS)
    for _ in range(STEPS):
        regions = torch.randperm(SEEN_REGIONS)[:BATCH]
        batch = batch_of(world, regions, torch.randperm(SEEN_CELLS)[:BATCH])
        if contacts is not None:
            batch["contacts"] = contacts[regions][:, None].expand(-1, BATCH, -1, -1)
        loss = SPEC.loss(net(*(batch[key] for key in SPEC.inputs)), batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        cycle.step()
    return net.eval()


@torch.no_grad()
def predict(net, world: World, regions, cells) -> torch.Tensor:
    """Signals (regions, cells, bins, signals), region by region."""
    parts = []
    for region in regions:
        batch = batch_of(world, torch.tensor([region]), cells)
        parts.append(SPEC.output(net(*(batch[key] for key in SPEC.inputs))))
    return torch.cat(parts)


def correlation(a: torch.Tensor, b: torch.Tensor, dim: int) -> torch.Tensor:
    a, b = a - a.mean(dim, keepdim=True), b - b.mean(dim, keepdim=True)
    scale = (a.square().sum(dim) * b.square().sum(dim)).sqrt().clamp(min=1e-9)
    return (a * b).sum(dim) / scale


def figures(world: World, made, regions, cells) -> dict[str, float]:
    """What tells cells apart: skill and r against the training cells' mean, r across cells."""
    truth = world.truth[regions][:, cells].double()
    mean = world.truth[regions][:, :SEEN_CELLS].double().mean(1, keepdim=True)
    made = made.double()
    skill = 1 - float((made - truth).square().mean() / (mean - truth).square().mean())
    delta = correlation((made - mean).flatten(), (truth - mean).flatten(), 0)
    varying = truth.var(1)
    upper = varying > varying.median()
    across = correlation(made, truth, 1)[upper].mean()
    return {"skill": skill, "delta": float(delta), "across": float(across)}


HELD_CELLS = torch.arange(SEEN_CELLS, CELLS)
SEEN, HELD = torch.arange(SEEN_REGIONS), torch.arange(SEEN_REGIONS, REGIONS)


@pytest.fixture(scope="module")
def world() -> World:
    return simulate(0)


@pytest.fixture(scope="module")
def learned(world):
    return train(world, SMALL, seed=0)


@pytest.mark.parametrize("regions", [SEEN, HELD], ids=["seen_regions", "held_out_regions"])
def test_cells_never_seen_are_told_apart(world, learned, regions):
    made = predict(learned, world, regions, HELD_CELLS)
    found = figures(world, made, regions, HELD_CELLS)
    assert found["skill"] > 0.10 and found["delta"] > 0.40 and found["across"] > 0.50, found


def test_another_cells_tfs_are_worse_than_the_mean(world, learned):
    other = HELD_CELLS.roll(7)
    made = predict(learned, world, SEEN, other)
    found = figures(world, made, SEEN, HELD_CELLS)
    assert found["skill"] < 0 and found["across"] < 0.3, found


def test_without_tfs_nothing_is_gained_over_the_mean(world, learned):
    blind = World(world.bases, world.motifs, world.expression * 0, world.truth)
    made = predict(learned, blind, SEEN, HELD_CELLS)
    assert torch.equal(made[:, 0], made[:, 1])
    assert figures(world, made, SEEN, HELD_CELLS)["skill"] <= 0


# ---- loops ---------------------------------------------------------------------------------------


def planted_contacts(world: World) -> tuple[torch.Tensor, torch.Tensor]:
    """Bins with one motif touch bins with another, at least three bins away, in every cell.

    The two are those whose TFs the fewest cells lack: without expression a site leaves no feature.

    Returns rows of contacts (regions, bins, bins), and which pairs they are of.
    """
    has = world.motifs > 0
    lowest_K = world.expression.quantile(0.1, dim=0)
    one, other = lowest_K.argsort(descending=True)[:2].tolist()
    pairs = has[:, :, None, one] & has[:, None, :, other]
    pairs = pairs | pairs.transpose(1, 2)
    place = torch.arange(BINS)
    pairs &= (place[:, None] - place).abs() >= 3
    rows = pairs.float()
    return rows / rows.sum(-1, keepdim=True).clamp(min=1), pairs


@torch.no_grad()
def judge(net, world: World, pairs: torch.Tensor) -> tuple[float, float, float]:
    """auPRC against negatives of the same distances, its prevalence, and the prediction's loss."""
    scores, truths, rng = [], [], torch.Generator().manual_seed(0)
    for region in HELD.tolist():
        batch = batch_of(world, torch.tensor([region]), HELD_CELLS[:5])
        attention = net.contacts(*(batch[key] for key in SPEC.inputs))[0]
        symmetric = (attention + attention.transpose(-1, -2))[:, None]
        for distance in range(3, BINS):
            labels = pairs[region].diagonal(distance)
            yes, no = labels.nonzero().flatten(), (~labels).nonzero().flatten()
            no = no[torch.randperm(len(no), generator=rng)][: len(yes)]
            kept = torch.cat([yes, no])
            values = symmetric[:, 0].diagonal(distance, dim1=1, dim2=2)[:, kept]
            scores.append(values.flatten())
            truths.append(labels[kept].expand(len(values), -1).flatten())
    made = predict(net, world, HELD, HELD_CELLS)
    error = float((made - world.truth[HELD][:, HELD_CELLS]).square().mean())
    score, truth = torch.cat(scores).numpy(), torch.cat(truths).numpy()
    return float(average_precision_score(truth, score)), float(truth.mean()), error


def test_planted_loops_are_found_with_the_attention_term_at_little_cost(world, learned):
    rows, pairs = planted_contacts(world)
    with_term = train(world, {**SMALL, "contact_weight": 1.0}, seed=0, contacts=rows)
    found, prevalence, error = judge(with_term, world, pairs)
    without, _, plain = judge(learned, world, pairs)
    assert prevalence < 0.6 and found > 0.90 > without, (found, without)
    assert error < 1.15 * plain, (error, plain)
