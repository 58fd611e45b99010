"""Distal partners of every gene, chosen from its promoter's contacts, and the regions they lie in.

The choice follows Lee, Yang, Kim (Nature Communications 2022): of all fragments that touch a
fragment with a start site of the gene, those scored above a threshold and not too long, the
highest scores first.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from epiloom.data.contacts import GenePartners, Pairs
from epiloom.data.genome import Genome, check_chromosomes
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

PARTNER_COLUMNS = ["gene_id", "rank", "chrom", "start", "end", "score", "source", "tissue"]
REGION_COLUMNS = ["chrom", "start", "end", "first_bin"]
BIN_BP = 100  # width of a feature bin; the last one of a region may be shorter
FEW = 0.01  # share of regions beyond a chromosome's end that is left out instead of refused

Region = tuple[str, int, int]
Pool = Iterable[tuple[Region, float]]


@dataclass(frozen=True)
class Rules:
    """Which contacts become partners: score above `min_score`, at most `max_length_bp` long."""

    min_score: float = 1.5
    max_partners: int = 8
    max_length_bp: int = 40_000


PUBLISHED = Rules()


def name_of(region: Region) -> str:
    return f"{region[0]}:{region[1]}-{region[2]}"


def select(pools: Iterable[Pool], rules: Rules) -> list[tuple[Region, float]]:
    """The partners of one gene, highest score first; ties by the region's name.

    Args:
        pools: what touches the fragment of each start site of the gene, in the order of the start
            sites. A region met before keeps its first score.
    """
    taken: dict[Region, float] = {}
    for pool in pools:
        for region, score in pool:
            short = region[2] - region[1] <= rules.max_length_bp
            if score > rules.min_score and short and region not in taken:
                taken[region] = score
    return sorted(taken.items(), key=lambda item: (-item[1], name_of(item[0])))[
        : rules.max_partners
    ]


def partner_table(
    genes: pd.DataFrame,
    contacts: Pairs | GenePartners | None,
    genome: Genome,
    rules: Rules = PUBLISHED,
    source: str = "",
    tissue: str = "",
) -> pd.DataFrame:
    """The partners of every gene.

    Args:
        genes: gene_id, chrom, tss; a gene with several start sites stands on several rows.
        contacts: as `read_contacts` returns them; None: no gene has a partner.

    Returns:
        PARTNER_COLUMNS, in the order of `genes`, then by rank from 1. A gene without partners has
        no row.

    Raises:
        InputError: contacts of another assembly, or of genes with other names.
    """
    if contacts is None:
        return pd.DataFrame(columns=PARTNER_COLUMNS)
    if isinstance(contacts, GenePartners):
        pools = _given_pools(contacts, genes, genome)
    else:
        pools = _pools(contacts, genes, genome)
    rows = []
    for gene in genes["gene_id"].drop_duplicates():
        for rank, (region, score) in enumerate(select(pools.get(gene, []), rules), 1):
            rows.append((gene, rank, *region, score, source, tissue))
    table = pd.DataFrame(rows, columns=PARTNER_COLUMNS)
    log.info(
        "%d of %d genes have partners, %d in all, %d have all %d",
        *(table["gene_id"].nunique(), genes["gene_id"].nunique(), len(table)),
        *(int((table["rank"] == rules.max_partners).sum()), rules.max_partners),
    )
    return table


def _usable(regions: pd.DataFrame, genome: Genome) -> np.ndarray:
    """True for regions on the genome; the others are counted, or refused if they are many."""
    chroms = regions["chrom"].unique()
    if not any(c in genome for c in chroms):
        check_chromosomes(dict.fromkeys(chroms, 1), "contacts", genome)
    here = regions["chrom"].isin(genome.chromosomes).to_numpy()
    lengths = dict(zip(genome.chromosomes, genome.lengths, strict=True))
    beyond = (regions["end"] > regions["chrom"].map(lengths)).to_numpy()  # NaN compares as False
    if beyond.sum() > FEW * here.sum():
        first = regions[beyond].iloc[0]
        raise InputError(
            "contacts",
            f"{int(beyond.sum())} of {int(here.sum())} regions lie beyond the end of their "
            f"chromosome (first: {first['chrom']}:{first['start']}-{first['end']}, "
            f"{first['chrom']} has {lengths[first['chrom']]} bases in {genome.assembly}); give "
            f"contacts on {genome.assembly}",
        )
    if not here.all() or beyond.any():
        log.info(
            "of %d regions %d are not on the genome's chromosomes, %d beyond their end: left out",
            *(len(regions), int((~here).sum()), int(beyond.sum())),
        )
    return here & ~beyond


def _regions(table: pd.DataFrame) -> list[Region]:
    return list(zip(*(table[c].tolist() for c in ("chrom", "start", "end")), strict=True))


def _given_pools(given: GenePartners, genes: pd.DataFrame, genome: Genome) -> dict:
    """One pool per gene of a ready partner table; a region given twice has its higher score."""
    table = given.table[_usable(given.table, genome)].sort_values("score", ascending=False)
    ours = table[table["gene_id"].isin(genes["gene_id"])]
    if ours.empty:
        raise InputError(
            "contacts",
            f"no gene of the partner table is in the gene table ("
            f"{', '.join(given.table['gene_id'].head(3))} against "
            f"{', '.join(genes['gene_id'].head(3))}); use Ensembl gene ids",
        )
    log.info("%d partners of genes outside the gene table left out", len(table) - len(ours))
    return {
        gene: [list(zip(_regions(part), part["score"].tolist(), strict=True))]
        for gene, part in ours.groupby("gene_id", sort=False)
    }


def _pools(pairs: Pairs, genes: pd.DataFrame, genome: Genome) -> dict[str, list[Pool]]:
    """Gene -> what touches the fragments of its start sites, one pool per fragment."""
    usable = _usable(pairs.fragments, genome)
    keep = usable[pairs.first] & usable[pairs.second]
    first, second, score = pairs.first[keep], pairs.second[keep], pairs.score[keep]
    order = np.argsort(first, kind="stable")
    first, second, score = first[order], second[order], score[order]
    regions = _regions(pairs.fragments)
    baits = np.unique(first)
    begin, end = (np.searchsorted(first, baits, side=side) for side in ("left", "right"))
    finder = _Finder(pairs.fragments.iloc[baits])
    pools: dict[str, list[Pool]] = {}
    for gene, chrom, tss in zip(genes["gene_id"], genes["chrom"], genes["tss"], strict=True):
        for bait in finder.holding(chrom, int(tss)):
            span = range(begin[bait], end[bait])
            pool = [(regions[second[i]], float(score[i])) for i in span]
            pools.setdefault(gene, []).append(pool)
    return pools


class _Finder:
    """Which fragments hold a base; they may overlap."""

    def __init__(self, fragments: pd.DataFrame):
        self.by_chrom = {}
        rows = np.arange(len(fragments))
        for chrom in fragments["chrom"].unique():
            here = rows[(fragments["chrom"] == chrom).to_numpy()]
            start, end = (fragments[c].to_numpy()[here] for c in ("start", "end"))
            order = np.lexsort((end, start))
            longest = int((end - start).max())
            self.by_chrom[chrom] = (here[order], start[order], end[order], longest)

    def holding(self, chrom: str, base: int) -> np.ndarray:
        """Numbers of the fragments with this base, by start, then end."""
        if chrom not in self.by_chrom:
            return np.zeros(0, np.int64)
        rows, start, end, longest = self.by_chrom[chrom]
        low = np.searchsorted(start, base - longest, side="right")
        high = np.searchsorted(start, base, side="right")
        return rows[low:high][end[low:high] > base]


def region_table(partners: pd.DataFrame, genome: Genome) -> pd.DataFrame:
    """The regions of a partner table, each once, REGION_COLUMNS.

    `first_bin` is the number of the region's first 100-bp bin when the bins of all regions stand
    one after the other, ceil(length / 100) each.
    """
    regions = partners[["chrom", "start", "end"]].drop_duplicates()
    regions = (
        regions.assign(place=regions["chrom"].map(genome.index))
        .sort_values(["place", "start", "end"])
        .drop(columns="place")
        .reset_index(drop=True)
    )
    counts = -(-(regions["end"] - regions["start"]).to_numpy(np.int64) // BIN_BP)
    return regions.assign(first_bin=np.cumsum(counts) - counts)


def read_regions(path: str | Path, genome: Genome) -> pd.DataFrame:
    """A table of regions as `region_table` makes it.

    Raises:
        InputError: other columns, regions outside the genome, or bins that do not follow.
    """
    table = pd.read_csv(path, sep="\t", dtype={"chrom": str})
    remedy = "make it again (delete it and rerun)"
    if list(table.columns) != REGION_COLUMNS:
        raise InputError(path, f"has columns {', '.join(table.columns)}; {remedy}")
    problems = _misplaced(table, genome)
    counts = -(-(table["end"] - table["start"]).to_numpy(np.int64) // BIN_BP)
    if (table["first_bin"].to_numpy() != np.cumsum(counts) - counts).any():
        problems.append(f"first_bin does not count the bins before; {remedy}")
    if problems:
        raise InputError(path, problems)
    return table


def _misplaced(table: pd.DataFrame, genome: Genome) -> Sequence[str]:
    lengths = dict(zip(genome.chromosomes, genome.lengths, strict=True))
    room = table["chrom"].map(lengths).fillna(-1)
    bad = table[(table["start"] < 0) | (table["end"] <= table["start"]) | (table["end"] > room)]
    return [
        f"{name_of(region)} does not lie on {genome.assembly}; make the partner table again"
        for region in _regions(bad)[:20]
    ]
