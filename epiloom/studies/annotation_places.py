"""Where the vectors of a latent annotation lie: a sample of bins by class, clusters, two axes.

The annotation is given per chromosome, see `annotation.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from epiloom.plan.errors import InputError
from epiloom.studies.annotation import BIN_BP, Latents, check

CLASSES = ("TSS ± 1 kb", "gene body", "elsewhere")  # codes 0, 1, 2
TSS, BODY, ELSEWHERE = range(3)
UNUSABLE = 255
AROUND_TSS = 1000  # bp to each side
CLUSTERS = 6


@dataclass(frozen=True)
class Positions:
    """A sample of bins.

    Attributes:
        table: chrom, bin, start (bp), class, cluster (1 = the largest), pc1, pc2.
        explained: shares of the variance of the sampled latents on the two axes.
    """

    table: pd.DataFrame
    explained: tuple[float, float]


def classes_of_bins(
    genes: pd.DataFrame, usable: Mapping[str, np.ndarray], bin_bp: int = BIN_BP
) -> dict[str, np.ndarray]:
    """Class of every bin, chromosome -> uint8 [bins]: index into `CLASSES`, 255 if not usable.

    Args:
        genes: chrom, tss, gene_start, gene_end (0-based, half-open); genes without a body count
            with their TSS alone.
        usable: chromosome -> bool [bins].

    A bin belongs to a TSS if one of its bases is at most 1 kb from it, else to a gene body if one
    of its bases lies in a gene, else to neither.
    """
    found = {}
    for chrom, keep in usable.items():
        own = genes[genes["chrom"] == chrom]
        classes = np.full(len(keep), ELSEWHERE, np.uint8)
        bodies = own.dropna(subset=["gene_start", "gene_end"])
        low, high = bodies["gene_start"].to_numpy(), bodies["gene_end"].to_numpy()
        classes[_touched(low, high, len(keep), bin_bp)] = BODY
        tss = own["tss"].to_numpy()
        classes[_touched(tss - AROUND_TSS, tss + AROUND_TSS + 1, len(keep), bin_bp)] = TSS
        classes[~np.asarray(keep, bool)] = UNUSABLE
        found[chrom] = classes
    return found


def _touched(low: np.ndarray, high: np.ndarray, bins: int, bin_bp: int) -> np.ndarray:
    """Bins that hold a base of one of the stretches [low, high), bool [bins]."""
    low, high = low.astype(np.int64), high.astype(np.int64)
    step = np.zeros(bins + 1, np.int64)
    np.add.at(step, np.clip(low // bin_bp, 0, bins), 1)
    np.add.at(step, np.clip(-(-high // bin_bp), 0, bins), -1)
    return np.cumsum(step[:-1]) > 0


def positions(
    latents: Latents,
    classes: Mapping[str, np.ndarray],
    seed: int,
    at_most: int = 5000,
    clusters: int = CLUSTERS,
    names: Sequence[str] = CLASSES,
    bin_bp: int = BIN_BP,
) -> Positions:
    """A sample of bins with as many of each class, its k-means clusters and principal components.

    Args:
        latents: chromosome -> [bins, H]; classes: chromosome -> uint8 [bins], index into `names`;
            other values are never drawn.
        seed: of sample and clusters. at_most: bins in all; at most `at_most` / classes of each.
        clusters: fewer where there are fewer different vectors.

    Raises:
        InputError: shapes that do not fit, fewer than 3 bins to draw, latents not finite.
    """
    size = check(latents, {"classes": classes})
    rng = np.random.default_rng(seed)
    parts = [
        _drawn(latents, classes, code, at_most // len(names), rng).assign(**{"class": name})
        for code, name in enumerate(names)
    ]
    table = pd.concat(parts, ignore_index=True)
    if len(table) < 3:
        raise InputError("latent annotation", f"{len(table)} bins to draw from; give 3 or more")
    vectors = np.empty((len(table), size))
    for chrom, rows in table.groupby("chrom", sort=False):
        vectors[rows.index] = latents[str(chrom)][rows["bin"].to_numpy()]
    if not np.isfinite(vectors).all():
        raise InputError("latent annotation", "usable bins are not finite; make it again")
    with np.errstate(invalid="ignore"):  # 0 / 0 where nothing varies
        axes = PCA(min(2, size), svd_solver="full").fit(vectors)
    places = np.zeros((len(table), 2))
    places[:, : axes.n_components_] = axes.transform(vectors)
    shares = np.nan_to_num([*axes.explained_variance_ratio_, 0.0])[:2]
    table["start"] = table["bin"] * bin_bp
    table["cluster"] = _clustered(vectors, clusters, seed)
    table["pc1"], table["pc2"] = places.T
    columns = ["chrom", "bin", "start", "class", "cluster", "pc1", "pc2"]
    return Positions(table[columns], (float(shares[0]), float(shares[1])))


def _drawn(
    latents: Latents,
    classes: Mapping[str, np.ndarray],
    code: int,
    wanted: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """chrom and bin of bins of one class, each of the genome equally likely, in genome order."""
    counts = [int((classes[chrom] == code).sum()) for chrom in latents]
    total = sum(counts)
    chosen = np.sort(rng.choice(total, min(wanted, total), replace=False))
    parts, before = [], 0
    for chrom, count in zip(latents, counts, strict=True):
        own = chosen[(chosen >= before) & (chosen < before + count)] - before
        before += count
        at = np.flatnonzero(classes[chrom] == code)[own]
        parts.append(pd.DataFrame({"chrom": chrom, "bin": at}))
    return pd.concat(parts, ignore_index=True)


def _clustered(vectors: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """Cluster of each row by k-means, int64 [n], numbered from the largest, 1, to the smallest."""
    count = min(clusters, len(np.unique(vectors, axis=0)))
    labels = KMeans(count, n_init=5, random_state=seed).fit_predict(vectors)
    order = np.argsort(-np.bincount(labels, minlength=count), kind="stable")
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(1, count + 1)
    return rank[labels]
