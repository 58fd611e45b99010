"""Causal expression variants (eQTLs) in the form of the published spreadsheet, with their truth.

Every variant breaks a binding site of an active enhancer and so changes the expression of a gene
that the enhancer serves, 4-20 kb from the start site, by the rules of the simulation. As published,
a variant stands in one tissue only. Rows of a tissue that stands for no cell have no effect.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from epiloom.data import eqtls
from epiloom.data.simulate import genes as places
from epiloom.data.simulate.activity import DECAY_BP, ENHANCER_EFFECT, MAX_LOG_RPKM, expressed
from epiloom.data.simulate.addresses import Addresses
from epiloom.data.simulate.motifs import NAMES
from epiloom.data.simulate.tables import versioned
from epiloom.data.simulate.truth import broken, effects, element_logits, element_names
from epiloom.data.simulate.world import World
from epiloom.data.simulate.writers import write_book, write_table

PER_MB = 8  # variants per Mb and tissue
NEAREST_BP, FARTHEST_BP = 4_000, 20_000  # distance from the start site
ACTIVE = 0.25  # least activity of the enhancer in the tissue's cells
LEAST = 0.02  # least change of log2(RPKM + 1)
DECOY = "Whole_Blood"  # stands for none of the simulated cells
BIN_BP, FIRST_BP = 2_000, -20_000  # bins of the perturbation study, from the start site on


def write_eqtls(world: World, addresses: Addresses) -> int:
    """Write the spreadsheet and `truth/eqtls.tsv`; returns how many have an effect."""
    table = pd.concat([_true(world), _decoys(world)], ignore_index=True)
    table = table.sort_values(["tissue", "chrom", "position", "gene_id"], ignore_index=True)
    number = {gene: versioned(gene) for gene in world.genes.ids.tolist()}
    place = (table["position"] + 1).astype(str)
    sheet = pd.DataFrame(
        {
            "tissue": table["tissue"],
            "gene": table["gene_id"].map(number),
            "variant": table["chrom"] + ":" + place + ":" + table["ref"] + ":" + table["alt"],
        }
    )
    write_book(addresses("causal_eqtl"), {eqtls.SHEET: sheet})
    write_table(addresses.truth("eqtls.tsv"), table)
    return int((table["element"] != "").sum())


def _true(world: World) -> pd.DataFrame:
    """Variants with an effect, no variant in two tissues."""
    cells = list(world.plan.cells)
    tissues: dict[str, list[int]] = {}
    for cell, names in eqtls.tissues_of(cells).items():
        for name in names:
            tissues.setdefault(name, []).append(cells.index(cell))
    found = _candidates(world)
    wanted = max(10, round(PER_MB * world.layout.size / 1e6))
    parts, taken = [], np.zeros(len(found["gene"]), bool)
    for tissue, columns in sorted(tissues.items()):
        change = found["change"][:, columns].mean(axis=1)
        active = found["active"][:, columns].mean(axis=1) >= ACTIVE
        free = np.flatnonzero(active & (np.abs(change) >= LEAST) & ~taken)
        # Gumbel noise on log weights: the largest are a draw without replacement.
        noise = world.plan.rng("eqtls", tissue).gumbel(size=len(change))[free]
        pick = free[np.argsort(-np.log(np.abs(change[free])) - noise, kind="stable")[:wanted]]
        taken |= np.isin(found["place"], found["place"][pick])
        parts.append(_rows(world, tissue, found, pick, change))
    parts = parts or [_rows(world, "", found, [], np.zeros(0))]
    return pd.concat(parts, ignore_index=True)


def _candidates(world: World) -> dict[str, np.ndarray]:
    """Every site of an enhancer x gene that the enhancer serves at a fitting distance.

    Arrays [candidates]: gene, site, place (global), alt; [candidates, cells]: change (of the
    gene's log2(RPKM + 1), variant against reference), active (the enhancer's activity).
    """
    genes, links, sites = world.genes, world.links, world.sites
    count = len(genes)
    element = links.enhancer + count
    first, last = np.searchsorted(sites.element, [element, element + 1])
    link = np.repeat(np.arange(len(links.gene)), last - first)
    site = np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)])
    place, alt, loss = broken(world, site)
    gene, factor = links.gene[link], sites.factor[site]
    away = np.abs(place - genes.tss[gene])
    keep = (away > NEAREST_BP) & (away < FARTHEST_BP) & genes.coding[gene]
    keep &= genes.kind[gene] != places.FACTOR  # their expression is given
    link, site, place, alt, loss, gene, factor = (
        part[keep] for part in (link, site, place, alt, loss, gene, factor)
    )
    strength = (loss * world.factors.weight[factor])[:, None] * world.factors.presence[factor]
    change = effects(world, sites.element[site], strength)
    logit = element_logits(world)[gene]
    step = ENHANCER_EFFECT * np.exp(-links.distance[link] / DECAY_BP)[:, None] * change
    return {
        **{"gene": gene, "site": site, "place": place, "alt": alt},
        "change": MAX_LOG_RPKM * (expressed(logit + step) - expressed(logit)),
        "active": world.activity.enhancer[links.enhancer[link]],
    }


def _rows(
    world: World, tissue: str, found: dict[str, np.ndarray], pick: np.ndarray, change: np.ndarray
) -> pd.DataFrame:
    """Rows of the truth for the picked candidates."""
    pick = np.asarray(pick, np.int64)
    site = found["site"][pick]
    table = _table(world, tissue, found["gene"][pick], found["place"][pick], found["alt"][pick])
    return table.assign(
        element=element_names(world)[world.sites.element[site]],
        factor=np.array(NAMES)[world.sites.factor[site]],
        effect=change[pick],
    )


def _table(
    world: World, tissue: str, gene: np.ndarray, place: np.ndarray, alt: np.ndarray
) -> pd.DataFrame:
    genes, letters = world.genes, np.array(list("ACGT"))
    chrom, position = world.layout.local(place)
    # On the minus strand bin j ends where the plus strand's would begin, as the features have it.
    ahead = np.where(genes.strand[gene] > 0, place - genes.tss[gene], genes.tss[gene] - place - 1)
    return pd.DataFrame(
        {
            **{"tissue": tissue, "gene_id": genes.ids[gene], "chrom": chrom, "position": position},
            **{"ref": letters[world.codes[place]], "alt": letters[alt], "distance": ahead},
            "bin": (ahead - FIRST_BP) // BIN_BP,
        }
    )


def _decoys(world: World) -> pd.DataFrame:
    """Variants of a tissue without a cell, near any gene, outside gaps."""
    genes, layout = world.genes, world.layout
    rng = world.plan.rng("eqtls", DECOY)
    count = max(10, round(PER_MB / 2 * layout.size / 1e6))
    gene = rng.choice(np.flatnonzero(genes.coding), count)
    place = genes.tss[gene] + rng.integers(NEAREST_BP, FARTHEST_BP, count) * rng.choice(
        [-1, 1], count
    )
    alt = (world.codes[place.clip(0, layout.size - 1)] + rng.integers(1, 4, count)) % 4
    chrom = layout.chrom_of(place)
    keep = (chrom == layout.chrom_of(genes.tss[gene])) & (place >= 0)
    keep &= place - layout.starts[chrom] < layout.lengths[chrom.clip(0, len(layout.names) - 1)]
    for which, start, end in layout.gaps.tolist():
        local = place - layout.starts[which]
        keep &= ~((chrom == which) & (local >= start) & (local < end))
    table = _table(world, DECOY, gene[keep], place[keep], alt[keep])
    table = table.assign(element="", factor="", effect=0.0)
    return table.drop_duplicates(["gene_id", "chrom", "position"])
