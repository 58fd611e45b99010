"""What a latent annotation of the genome says: smoothness, GC, conservation, attribution.

An annotation is one vector per bin of 25 bp, the same for every cell type. Everywhere here it is
given per chromosome, as arrays or memory maps:

    latents   chromosome -> float32 [bins, H], row i = bases [25 i, 25 i + 25), floor(length / 25)
    usable    chromosome -> bool [bins], see `usable_bins`

Chromosomes are read in blocks and their sums added up, so memory does not grow with the genome.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from epiloom.plan.errors import InputError
from epiloom.plan.tracks import KINDS

BIN_BP = 25
NO_DATA = 8  # flag of the annotation's mask: no track has a value; added to the genome's flags
LAGS = (1, 4, 10, 40, 100, 400, 1000, 4000, 10000)  # bins: 25 bp to 250 kb
BLOCK = 1 << 18  # bins read at once
FLAT = 1e-12  # a latent whose variance is not above this does not vary: rounding in float32

Latents = Mapping[str, np.ndarray]
_ENDING = re.compile(rf"\.(?:{'|'.join(KINDS)})(?:\.signal)?(?:\.bigwig)?$", re.I)


def usable_bins(mask: np.ndarray) -> np.ndarray:
    """Bins that count, bool [bins]: no gap (1), no blacklist (2), data in some track (8)."""
    return np.asarray(mask) == 0


def check(latents: Latents, others: Mapping[str, Mapping[str, np.ndarray]]) -> int:
    """Shapes of an annotation and of what lies beside it, name -> chromosome -> [bins].

    Returns:
        H, the number of latents.

    Raises:
        InputError: no chromosome, arrays that are not [bins, H], differing H, or anything beside
            it that is missing or has another number of bins; all problems at once.
    """
    problems = [] if latents else ["there is no chromosome; give at least one"]
    sizes = {}
    for chrom, values in latents.items():
        if np.ndim(values) != 2 or not values.shape[1]:
            problems.append(f"{chrom} has shape {np.shape(values)}; give [bins, latents]")
            continue
        sizes[chrom] = values.shape[1]
        for name, arrays in others.items():
            if chrom not in arrays:
                problems.append(f"{name} of {chrom} is missing; give it for every chromosome")
            elif np.shape(arrays[chrom]) != (len(values),):
                problems.append(
                    f"{name} of {chrom} has shape {np.shape(arrays[chrom])}, the latents have "
                    f"{len(values)} bins; give one value per bin"
                )
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{chrom} {size}" for chrom, size in sizes.items())
        problems.append(f"the number of latents differs ({told}); give one annotation")
    if problems:
        raise InputError("latent annotation", problems)
    return next(iter(sizes.values()))


class _Sums:
    """Sums over pairs of rows from which Pearson r of each column follows; parts simply add up.

    They are taken about fixed centres close to the means, so that large offsets lose no digits.
    """

    def __init__(self, centre_a: np.ndarray, centre_b: np.ndarray):
        self.centre_a, self.centre_b, self.n = centre_a, centre_b, 0
        self.a, self.b, self.aa, self.bb, self.ab = np.zeros((5, len(centre_a)))

    def add(self, a: np.ndarray, b: np.ndarray) -> None:
        """Add rows: a [n, H] and b [n, H] or [n, 1]."""
        a = np.asarray(a, np.float64) - self.centre_a
        b = np.broadcast_to(np.asarray(b, np.float64) - self.centre_b, a.shape)
        self.n += len(a)
        self.a += a.sum(axis=0)
        self.b += b.sum(axis=0)
        self.aa += np.einsum("ij,ij->j", a, a)
        self.bb += np.einsum("ij,ij->j", b, b)
        self.ab += np.einsum("ij,ij->j", a, b)

    def r(self) -> np.ndarray:
        """Pearson r of each column, [H]; NaN with fewer than 3 pairs or where a side is flat."""
        if self.n < 3:
            return np.full(len(self.a), np.nan)
        left = self.aa / self.n - (self.a / self.n) ** 2
        right = self.bb / self.n - (self.b / self.n) ** 2
        both = self.ab / self.n - self.a * self.b / self.n**2
        known = (left > FLAT) & (right > FLAT)
        scale = np.sqrt(np.where(known, left * right, 1))
        return np.where(known, np.clip(both / scale, -1, 1), np.nan)


def _rows(latents: Latents, chrom: str, keep: np.ndarray, start: int) -> np.ndarray:
    """The kept rows of the block that begins at `start`, float64 [kept, H], all finite."""
    rows = np.asarray(latents[chrom][start : start + len(keep)])[keep].astype(np.float64)
    if not np.isfinite(rows).all():
        at = start + int(np.flatnonzero(keep)[np.flatnonzero(~np.isfinite(rows).all(axis=1))[0]])
        raise InputError(
            f"latents of {chrom}",
            f"bin {at} is usable but not finite; mask it, or make the annotation again",
        )
    return rows


def _centre(latents: Latents, usable: Mapping[str, np.ndarray]) -> np.ndarray:
    """Mean of the first usable rows, [H]: near the mean of all. 0 where no bin is usable."""
    for chrom, here in usable.items():
        for start in range(0, len(here) if chrom in latents else 0, BLOCK):
            keep = np.asarray(here[start : start + BLOCK], bool)
            if keep.any():
                return _rows(latents, chrom, keep, start).mean(axis=0)
    return np.zeros(next(iter(latents.values())).shape[1])


# --- smoothness ----------------------------------------------------------------------------------


def smoothness(
    latents: Latents,
    usable: Mapping[str, np.ndarray],
    lags: Sequence[int] = LAGS,
    bin_bp: int = BIN_BP,
) -> pd.DataFrame:
    """How well a latent tells itself some distance away.

    Args:
        latents, usable: see the top of this file. lags: in bins, 1 or more.

    Returns:
        lag (bins), bp, r2, pairs, latents: r2 is the mean over latents of the squared Pearson r
        between positions that far apart, both usable, on the same chromosome, over all
        chromosomes together. A latent that does not vary is left out (`latents` counts those that
        are in); r2 is NaN with fewer than 3 pairs.

    Raises:
        InputError: shapes that do not fit, lags below 1, usable bins that are not finite.
    """
    check(latents, {"usable": usable})
    if bad := [lag for lag in lags if int(lag) != lag or lag < 1]:
        raise InputError("lags", f"{bad[0]} is no distance; give whole numbers of bins from 1 on")
    centre = _centre(latents, usable)
    rows = []
    for lag in map(int, lags):
        sums = _Sums(centre, centre)
        for a, b in _pairs(latents, usable, lag):
            sums.add(a, b)
        squares = sums.r() ** 2
        known = squares[np.isfinite(squares)]
        r2 = float(known.mean()) if len(known) else np.nan
        rows.append((lag, lag * bin_bp, r2, sums.n, len(known)))
    return pd.DataFrame(rows, columns=["lag", "bp", "r2", "pairs", "latents"])


def _pairs(
    latents: Latents, usable: Mapping[str, np.ndarray], lag: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows `lag` bins apart, both usable, block by block: two arrays [n, H]."""
    for chrom, values in latents.items():
        here = np.asarray(usable[chrom], bool)
        for start in range(0, len(values) - lag, BLOCK):
            end = min(start + BLOCK, len(values) - lag)
            keep = here[start:end] & here[start + lag : end + lag]
            yield _rows(latents, chrom, keep, start), _rows(latents, chrom, keep, start + lag)


# --- GC and conservation -------------------------------------------------------------------------


def gc_of_bins(bases: np.ndarray, bin_bp: int = BIN_BP) -> np.ndarray:
    """Share of G and C among the called bases of each bin, float64 [floor(n / bin_bp)].

    Args:
        bases: codes of `sequence.py`, uint8 [n]: A, C, G, T = 0..3, anything else 4. Lower case
            has the codes of upper case.

    NaN where no base of the bin is called.
    """
    bases = np.asarray(bases)
    bins = len(bases) // bin_bp
    shares = np.full(bins, np.nan)
    for start in range(0, bins, BLOCK):
        end = min(start + BLOCK, bins)
        codes = bases[start * bin_bp : end * bin_bp].reshape(-1, bin_bp)
        called = (codes < 4).sum(axis=1)
        gc = ((codes == 1) | (codes == 2)).sum(axis=1)
        np.divide(gc, called, out=shares[start:end], where=called > 0)
    return shares


def conservation_of_bins(stored: np.ndarray, bin_bp: int = BIN_BP) -> np.ndarray:
    """Mean phastCons (0 to 1) over the bases of each bin, float64 [floor(n / bin_bp)].

    Args:
        stored: 255 times the score per base, uint8 [n], as `conservation.py` keeps it. Bases that
            no alignment covers are 0 there, and count as 0 here.
    """
    stored = np.asarray(stored)
    bins = len(stored) // bin_bp
    means = np.empty(bins)
    for start in range(0, bins, BLOCK):
        end = min(start + BLOCK, bins)
        part = stored[start * bin_bp : end * bin_bp].reshape(-1, bin_bp)
        means[start:end] = part.mean(axis=1) / 255
    return means


def correlations(
    latents: Latents,
    usable: Mapping[str, np.ndarray],
    values: Mapping[str, Mapping[str, np.ndarray]],
) -> pd.DataFrame:
    """Pearson r of each latent with properties of the bins, over all chromosomes together.

    Args:
        latents, usable: see the top of this file.
        values: name ("gc", "conservation") -> chromosome -> [bins]; NaN = unknown, left out.

    Returns:
        latent (from 1), value (its name), r, bins (that count); r is NaN where one side is flat.

    Raises:
        InputError: shapes that do not fit, usable bins whose latents are not finite.
    """
    check(latents, {"usable": usable, **values})
    centre, parts = _centre(latents, usable), []
    for name, arrays in values.items():
        sums = _Sums(centre, np.zeros(1))
        for chrom, known in arrays.items():
            if chrom not in latents:
                continue
            for start in range(0, len(known), BLOCK):
                own = np.asarray(known[start : start + BLOCK], np.float64)
                keep = np.asarray(usable[chrom][start : start + BLOCK], bool) & np.isfinite(own)
                sums.add(_rows(latents, chrom, keep, start), own[keep, None])
        number = np.arange(1, len(centre) + 1)
        parts.append(pd.DataFrame({"latent": number, "value": name, "r": sums.r(), "bins": sums.n}))
    columns = ["latent", "value", "r", "bins"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


# --- attribution ---------------------------------------------------------------------------------


def parts_of(channel: str) -> tuple[str, str]:
    """Epigenome and assay of a channel: `E003-H2A.Z.pval` -> E003, H2A.Z. Assays may hold dots.

    Raises:
        InputError: no hyphen, or nothing on one of its sides.
    """
    epigenome, _, assay = _ENDING.sub("", channel).partition("-")
    if not epigenome or not assay:
        raise InputError(f"channel {channel!r}", "is not EPIGENOME-ASSAY; rename it")
    return epigenome, assay


def attribution(gradient_times_input: np.ndarray, channels: Sequence[str]) -> pd.DataFrame:
    """On which assays and epigenomes the annotation rests.

    Args:
        gradient_times_input: |gradient x input| of examples [n, D], or their mean [D]; 0 or more.
        channels: D names such as "E003-H3K4me1.pval".

    Returns:
        kind (assay | epigenome), name, share (of the sum over all channels; each kind adds up to
        1), channels (how many); the largest share first. An assay with many tracks has a large
        share for that alone: compare `share` with `channels` / D.

    Raises:
        InputError: other shapes, negative or infinite values, nothing above 0, unreadable names.
    """
    values = np.asarray(gradient_times_input, np.float64)
    mean = values.mean(axis=0) if values.ndim == 2 and len(values) else values
    problems = []
    if mean.shape != (len(channels),):
        problems.append(f"shape {values.shape} for {len(channels)} channels; give [n, channels]")
    elif not np.isfinite(values).all() or (values < 0).any():
        problems.append("values are negative or not finite; give absolute values")
    elif not mean.sum() > 0:
        problems.append("all values are 0: the annotation depends on no channel; train it first")
    if problems:
        raise InputError("attribution", problems)
    names = [parts_of(channel) for channel in channels]
    table = pd.DataFrame(names, columns=["epigenome", "assay"]).assign(share=mean / mean.sum())
    found = []
    for kind in ("assay", "epigenome"):
        sums = table.groupby(kind, sort=True)["share"].agg(share="sum", channels="size")
        sums = sums.sort_values("share", ascending=False, kind="stable")
        found.append(sums.rename_axis("name").reset_index().assign(kind=kind))
    return pd.concat(found, ignore_index=True)[["kind", "name", "share", "channels"]]
