"""The simulated truth, for tests and demonstrations of what a model has learnt."""

from __future__ import annotations

import numpy as np
import pandas as pd

from epiloom.data.simulate import genes as places
from epiloom.data.simulate.activity import (
    ENHANCER_BIAS,
    bound,
    enhancer_input,
    expressed,
    sigmoid,
)
from epiloom.data.simulate.addresses import Addresses
from epiloom.data.simulate.motifs import NAMES, complement
from epiloom.data.simulate.tables import bed_rows
from epiloom.data.simulate.world import World
from epiloom.data.simulate.writers import write_table

VARIANTS_PER_MB = 60  # in binding sites; as many again lie outside


def write_truth(world: World, addresses: Addresses) -> int:
    """Write all truth tables but the summary; returns the number of variants."""
    columns = list(world.plan.cells)
    genes, layout = world.genes, world.layout
    chrom, tss = layout.local(genes.tss)
    body = bed_rows(layout, genes.start, genes.end)
    table = pd.DataFrame(
        {
            **{"gene_id": genes.ids, "gene_name": genes.names, "chrom": chrom, "tss": tss},
            **{
                "strand": _signs(genes.strand),
                "gene_start": body["start"],
                "gene_end": body["end"],
            },
            "gene_type": np.where(genes.coding, "protein_coding", "lincRNA"),
            "kind": np.array(places.KINDS)[genes.kind],
            "cpg_island": genes.island.astype(int),
            **_per_cell("activity", columns, world.activity.promoter),
            **_per_cell("clean_log2_rpkm", columns, world.activity.clean),
            **_per_cell("log2_rpkm", columns, world.activity.log_rpkm),
        }
    )
    write_table(addresses.truth("genes.tsv"), table)
    names = element_names(world)
    spans = bed_rows(layout, world.regions, world.regions + places.REGION_BP)
    table = pd.DataFrame({"element": names, **spans, "kind": world.element_kinds})
    table = table.assign(**_per_cell("activity", columns, world.element_activity))
    write_table(addresses.truth("elements.tsv"), table)
    links = world.links
    table = pd.DataFrame(
        {
            "enhancer": names[len(genes) + links.enhancer],
            "gene_id": genes.ids[links.gene],
            "distance": links.distance,
        }
    )
    write_table(addresses.truth("links.tsv"), table)
    _write_sites(world, addresses, names)
    host = {int(factor): i for i, factor in enumerate(genes.factor) if factor >= 0}
    ids = [genes.ids[host[f]] if f in host else "" for f in range(len(NAMES))]
    table = pd.DataFrame({"factor": NAMES, "gene_id": ids, "weight": world.factors.weight})
    table = table.assign(**dict(zip(columns, world.factors.log_rpkm.T, strict=True)))
    write_table(addresses.truth("tf_expression.tsv"), table)
    return _write_variants(world, addresses, names)


def _per_cell(name: str, cells: list[str], values: np.ndarray) -> dict[str, np.ndarray]:
    """One column `name_CELL` per cell."""
    return {f"{name}_{cell}": column for cell, column in zip(cells, values.T, strict=True)}


def _signs(strand: np.ndarray) -> np.ndarray:
    """+ and - of strands 1 and -1."""
    return np.where(strand > 0, "+", "-")


def element_names(world: World) -> np.ndarray:
    """Gene ids for promoters, numbered names for enhancers and insulators."""
    enhancers = [f"enhancer{i + 1}" for i in range(len(world.enhancers))]
    insulators = [f"insulator{i + 1}" for i in range(len(world.insulators))]
    return np.array([*world.genes.ids, *enhancers, *insulators])


def _write_sites(world: World, addresses: Addresses, names: np.ndarray) -> None:
    """All planted binding sites, with the sequence on the stated strand."""
    sites = world.sites
    words = np.empty(len(sites.start), dtype=object)
    for width in np.unique(sites.width).tolist():
        here = np.flatnonzero(sites.width == width)
        codes = world.codes[sites.start[here, None] + np.arange(width)]
        codes = np.where(sites.strand[here, None] > 0, codes, complement(codes))
        text = np.frombuffer(b"ACGT", np.uint8)[codes].tobytes().decode()
        words[here] = [text[i : i + width] for i in range(0, len(text), width)]
    table = pd.DataFrame(
        {
            **bed_rows(world.layout, sites.start, sites.start + sites.width),
            "factor": np.array(NAMES)[sites.factor],
            "strength": sites.strength,
            "strand": _signs(sites.strand),
            "element": names[sites.element],
            "sequence": words,
        }
    )
    write_table(addresses.truth("motif_sites.tsv.gz"), table)


def element_logits(world: World) -> np.ndarray:
    """Argument of every element's logistic function (promoters with offset), [elements, cells]."""
    act, count = world.activity, len(world.genes)
    promoter = act.own + enhancer_input(world.links, act.enhancer, count) + act.offset
    return np.vstack([promoter, world.logits[count:]])


def effects(world: World, element: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Change of activity, [n, cells], when elements' summed site effects change by `change`."""
    before = element_logits(world)[element]
    kind = world.element_kinds[element]
    found = np.zeros_like(change)
    rules = {
        "promoter": expressed,
        "enhancer": lambda x: sigmoid(x + ENHANCER_BIAS),
        "insulator": bound,
    }
    for name, rule in rules.items():
        here = kind == name
        found[here] = rule((before + change)[here]) - rule(before[here])
    return found


def _write_variants(world: World, addresses: Addresses, names: np.ndarray) -> int:
    """Single-base variants that break binding sites, and as many that touch none.

    Effects are changes of the element's activity (0 to 1) from reference to alternative base. The
    promoters of genes that encode factors have a given activity: their sites are left out.
    """
    rng = world.plan.rng("variants")
    sites, codes = world.sites, world.codes
    given = np.zeros(len(names), bool)
    given[: len(world.genes)] = world.genes.kind == places.FACTOR
    wanted = max(60, int(VARIANTS_PER_MB * world.layout.size / 1e6))
    free = np.flatnonzero(~given[sites.element])
    pick = np.sort(rng.choice(free, min(wanted, len(free)), replace=False))
    place, alt, loss = broken(world, pick)
    change = loss * world.factors.weight[sites.factor[pick]]
    effect = effects(
        world, sites.element[pick], change[:, None] * world.factors.presence[sites.factor[pick]]
    )
    neutral, inside = _neutral(world, rng, len(pick))
    other = (codes[neutral] + rng.integers(1, 4, len(neutral))) % 4
    chrom, position = world.layout.local(np.concatenate([place, neutral]))
    where = np.where(inside >= 0, "element", "background")
    blank = [""] * len(neutral)
    strongest = effect[np.arange(len(pick)), np.abs(effect).argmax(axis=1)]
    zero = np.zeros((len(neutral), effect.shape[1]))
    table = pd.DataFrame(
        {
            **{"chrom": chrom, "position": position},
            "ref": np.array(list("ACGT"))[codes[np.concatenate([place, neutral])]],
            "alt": np.array(list("ACGT"))[np.concatenate([alt, other])],
            "where": np.concatenate([np.full(len(pick), "site"), where]),
            "element": [*names[sites.element[pick]], *np.where(inside >= 0, names[inside], "")],
            "factor": [*np.array(NAMES)[sites.factor[pick]], *blank],
            "sign": np.concatenate([np.sign(strongest), zero[:, 0]]).astype(int),
            **_per_cell("effect", list(world.plan.cells), np.vstack([effect, zero])),
        }
    )
    order = np.argsort(np.concatenate([place, neutral]), kind="stable")
    write_table(addresses.truth("variants.tsv"), table.iloc[order])
    return len(table)


def broken(world: World, pick: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per site its most harmful variant: global position, alternative base (genome strand), loss.

    The loss is the (negative) change of the site's strength.
    """
    sites = world.sites
    place, alt = np.zeros(len(pick), np.int64), np.zeros(len(pick), np.int64)
    loss = np.zeros(len(pick))
    for factor, pwm in enumerate(world.factors.pwms):
        here = np.flatnonzero(sites.factor[pick] == factor)
        where = sites.start[pick[here], None] + np.arange(len(pwm))
        forward = (sites.strand[pick[here]] > 0)[:, None]
        site = world.codes[where]
        site = np.where(forward, site, complement(site))
        odds = np.log2(pwm / 0.25)
        drop = odds.min(axis=1)[None] - odds[np.arange(len(pwm))[None], site]
        column = drop.argmin(axis=1)
        loss[here] = drop[np.arange(len(here)), column] / odds.max(axis=1).sum()
        base = odds.argmin(axis=1)[column]
        alt[here] = np.where(forward[:, 0], base, 3 - base)
        step = np.where(forward[:, 0], column, len(pwm) - 1 - column)
        place[here] = sites.start[pick[here]] + step
    return place, alt, loss


def _neutral(world: World, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions outside all binding sites, half of them inside elements (else -1), [<= count]."""
    layout, sites = world.layout, world.sites
    element = rng.integers(0, len(world.regions), count)
    near = world.regions[element] + rng.integers(0, places.REGION_BP, count)
    anywhere = rng.integers(0, layout.size, count)
    covered = np.repeat(sites.start, sites.width)
    covered += np.arange(len(covered)) - np.repeat(
        np.cumsum(sites.width) - sites.width, sites.width
    )
    half = np.arange(count) < count // 2
    position = np.where(half, near, anywhere)
    element = np.where(half, element, -1)
    taken = np.isin(position, covered)
    chrom = layout.chrom_of(position)
    taken |= position - layout.starts[chrom] >= layout.lengths[chrom]
    for which, start, end in layout.gaps.tolist():
        local = position - layout.starts[which]
        taken |= (chrom == which) & (local >= start) & (local < end)
    _, first = np.unique(position, return_index=True)
    unique = np.zeros(count, bool)
    unique[first] = True
    keep = ~taken & unique
    return position[keep], element[keep]
