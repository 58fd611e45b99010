"""Is a variant's score large? Scores of random substitutions around it, and tables of the results.

Each single-base variant is compared with random substitutions of its kind (the same two bases, on
either strand): in the same region (peak) where one is given, otherwise nearby at places with a
similar share of G and C. Insertions and deletions have no such background and get no percentile.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from epiloom.data.files import atomic
from epiloom.data.genome import Genome
from epiloom.learn.predict_regions import Reader
from epiloom.plan.errors import InputError

INFO = {
    "SAD": ("sad", "Sum over bins of alt - ref"),
    "LFC": ("local_lfc", "log2 of the sums of alt and ref around the variant"),
    "MAXABS": ("max_abs", "Difference of the bin where it is largest"),
    "L2": ("l2", "Root of the summed squares of differences"),
    "SADSD": ("sad_sd", "Standard deviation of SAD over strands and shifts"),
    "PCT": ("sad_percentile", "Percentile of |SAD| among matched random substitutions"),
}


@dataclass(frozen=True)
class Matching:
    """How random substitutions are chosen.

    Attributes:
        count: number for each variant (fewer where the region has fewer places).
        seed: the choice for a variant depends on it and on the variant only.
        reach_bp: how far away they may lie, where no region is given.
        gc_bp: bases around a place in which G and C are counted.
        gc_within: largest difference of that share; if too few places fit, the nearest are taken.
    """

    count: int = 100
    seed: int = 0
    reach_bp: int = 20_000
    gc_bp: int = 200
    gc_within: float = 0.05

    def __post_init__(self) -> None:
        if self.count < 1 or self.reach_bp < 1 or self.gc_bp < 1 or not 0 <= self.gc_within <= 1:
            raise InputError("background of variants", f"{self}; give positive numbers")


def background(
    table: pd.DataFrame,
    reader: Reader,
    genome: Genome,
    matching: Matching | None = None,
    regions: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Random substitutions for every single-base variant of a table.

    Args:
        table: as in `data.variants.Variants`.
        regions: chrom, start, end; a variant inside one (the first that holds it) is matched there.

    Returns:
        chrom, position, ref, alt, id (empty) and `of`, the row of the variant in the table.
    """
    matching = matching or Matching()
    peaks = {}
    for chrom, rows in () if regions is None else regions.groupby("chrom", sort=False):
        peaks[chrom] = rows[["start", "end"]].to_numpy(np.int64)
    found = []
    for i, row in enumerate(table.itertuples(index=False)):
        if len(row.ref) == len(row.alt) == 1:
            region = _region(row, peaks)
            drawn = _drawn(row, region, reader, genome, matching)
            found.append(drawn.assign(chrom=row.chrom, id="", of=i))
    columns = ["chrom", "position", "ref", "alt", "id", "of"]
    if not found:
        return pd.DataFrame(columns=columns)
    return pd.concat(found, ignore_index=True)[columns]


def _region(row: NamedTuple, peaks: dict[str, np.ndarray]) -> tuple[int, int] | None:
    """The first peak (start, end) that holds a variant; None without any."""
    own = peaks.get(row.chrom, np.zeros((0, 2), np.int64))
    hit = np.flatnonzero((own[:, 0] <= row.position) & (own[:, 1] > row.position))
    return (int(own[hit[0], 0]), int(own[hit[0], 1])) if len(hit) else None


def _drawn(
    row: NamedTuple,
    region: tuple[int, int] | None,
    reader: Reader,
    genome: Genome,
    matching: Matching,
) -> pd.DataFrame:
    """position, ref, alt of the random substitutions of one variant."""
    reach = matching.reach_bp
    first, last = region or (row.position - reach, row.position + reach + 1)
    first, last = max(first, 0), min(last, genome.length(row.chrom))
    half = matching.gc_bp // 2
    codes = reader.bases(row.chrom, first - half, last - first + 2 * half)
    own = "ACGT".index(row.ref)
    middle = codes[half : len(codes) - half]
    fits = (middle == own) | (middle == 3 - own)
    fits[row.position - first] = False
    places = np.flatnonzero(fits)
    rng = np.random.default_rng([matching.seed, zlib.crc32(_key(row).encode())])
    if region is None and len(places):
        places = _similar(places, _gc(codes, half), row.position - first, matching, rng)
    places = np.sort(rng.permutation(places)[: matching.count])
    changed = "ACGT".index(row.alt)
    same = middle[places] == own
    letters = np.array(list("ACGT"))
    return pd.DataFrame(
        {
            "position": places.astype(np.int64) + first,
            "ref": letters[middle[places]],
            "alt": letters[np.where(same, changed, 3 - changed)],
        }
    )


def _key(row: NamedTuple) -> str:
    return f"{row.chrom}:{row.position}:{row.ref}:{row.alt}"


def _gc(codes: np.ndarray, half: int) -> np.ndarray:
    """Share of G and C within `half` bases of every place but the outer ones."""
    sums = []
    for member in ((codes == 1) | (codes == 2), codes < 4):
        total = np.concatenate([[0], np.cumsum(member)])
        sums.append(total[2 * half + 1 :] - total[: -2 * half - 1])
    return sums[0] / np.maximum(sums[1], 1)


def _similar(
    places: np.ndarray, gc: np.ndarray, own: int, matching: Matching, rng: np.random.Generator
) -> np.ndarray:
    """Places of similar share; at least `count` of them, the most similar first."""
    off = np.abs(gc[places] - gc[own])
    near = places[off <= matching.gc_within]
    if len(near) >= matching.count:
        return near
    order = np.lexsort((rng.random(len(places)), off))
    return places[order[: matching.count]]


def percentiles(
    scored: pd.DataFrame,
    background_scored: pd.DataFrame,
    of: Sequence[int],
    names: Sequence[str] = ("sad", "local_lfc"),
) -> pd.DataFrame:
    """Scores with `{name}_percentile` and `background` (number of random substitutions) added.

    The percentile is the share of the random substitutions with a smaller absolute score (equal
    ones count half), in percent; NaN without any.

    Args:
        scored, background_scored: as `studies.variants.score` gives them.
        of: the variant of every row of the table that the background was scored from.
    """
    of = np.asarray(of)
    own = of[background_scored["variant"].to_numpy(int)] if len(background_scored) else of[:0]
    grouped = background_scored.assign(of=own).groupby(["of", "track"], sort=False)
    groups = dict(list(grouped))
    keys = list(zip(scored["variant"], scored["track"], strict=True))
    added = {"background": [len(groups[key]) if key in groups else 0 for key in keys]}
    for name in names:
        values = np.abs(scored[name].to_numpy(float))
        added[f"{name}_percentile"] = [
            _percentile(value, np.abs(groups[key][name].to_numpy(float)))
            if key in groups
            else np.nan
            for key, value in zip(keys, values, strict=True)
        ]
    return scored.assign(**added)


def _percentile(value: float, others: np.ndarray) -> float:
    return 100 * float((others < value).sum() + 0.5 * (others == value).sum()) / len(others)


# --- files ----------------------------------------------------------------------------------------


def write_table(path: str | Path, scored: pd.DataFrame) -> None:
    """Scores, a row per variant and track, tab-separated; positions 1-based as in the input."""
    table = scored.drop(columns="variant").assign(position=scored["position"] + 1)
    if "max_start" in table:
        table = table.assign(max_start=table["max_start"] + 1)
    with atomic(path) as tmp:
        table.to_csv(tmp, sep="\t", index=False, float_format="%.6g", lineterminator="\n")


def write_vcf(path: str | Path, scored: pd.DataFrame, genome: Genome, source: str) -> None:
    """Scores as INFO fields of a VCF, each with one value per track (`.`: none), in genome order.

    Args:
        source: what predicted, for the header.
    """
    tracks = list(dict.fromkeys(scored["track"]))
    keys = {key: (name, text) for key, (name, text) in INFO.items() if name in scored}
    lines = ["##fileformat=VCFv4.3", f"##source={source}", f"##reference={genome.assembly}"]
    lines += [
        f"##contig=<ID={chrom},length={length}>"
        for chrom, length in zip(genome.chromosomes, genome.lengths, strict=True)
    ]
    lines += [
        f'##INFO=<ID={key},Number=.,Type=Float,Description="{text}; one value per track, in the '
        'order of ##tracks">'
        for key, (_, text) in keys.items()
    ]
    lines += [f"##tracks={','.join(tracks)}", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    order = {chrom: i for i, chrom in enumerate(genome.chromosomes)}
    scored = scored.assign(order=scored["chrom"].map(order))
    rows = scored.sort_values(["order", "position", "variant"], kind="stable")
    for _, own in rows.groupby("variant", sort=False):
        own = own.set_index("track").reindex(tracks)
        info = ";".join(
            f"{key}={','.join('.' if np.isnan(v) else f'{v:.6g}' for v in own[name].astype(float))}"
            for key, (name, _) in keys.items()
        )
        row = own.iloc[0]
        name = re.sub(r"[\s;]+", "_", row["id"]) or "."
        fields = (row["chrom"], int(row["position"]) + 1, name, row["ref"], row["alt"])
        lines.append("\t".join([*map(str, fields), ".", ".", info]))
    with atomic(path) as tmp:
        tmp.write_text("\n".join(lines) + "\n")
