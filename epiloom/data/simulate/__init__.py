"""A simulated epigenome with known truth, written in the formats and layout of the public servers.

`simulate(Plan(...), folder)` writes every file as `folder/HOST/PATH` of its public address, so that
the whole workflow can run from download to report without a network, and `folder/truth/` with what
a model should find.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

from epiloom.data.files import atomic
from epiloom.data.simulate import contacts, eqtls, labels, tables, tracks, truth
from epiloom.data.simulate.addresses import Addresses
from epiloom.data.simulate.layout import Plan
from epiloom.data.simulate.signal import Signal
from epiloom.data.simulate.world import World, make_world

__all__ = ["Plan", "simulate"]

log = logging.getLogger("epiloom")


def simulate(plan: Plan, out: str | Path, processes: int = 1) -> dict:
    """Write the simulated epigenome below `out`; equal plans give byte-identical files.

    Args:
        plan: sizes and contents.
        out: folder that stands for the servers (`download.mirror` of the configuration).
        processes: how many write tracks side by side.

    Returns:
        The summary that is also written, last, to `out/truth/summary.json`: the plan, chromosome
        lengths, counts of genes, elements, sites, links, variants, eQTLs, and reads per track.

    Raises:
        InputError: config/sources.tsv lacks an address that is needed.
        OSError: the folder cannot be written.
    """
    addresses = Addresses(plan, Path(out))
    world = make_world(plan)
    log.info(
        "simulated genome: %d chromosomes, %d genes, %d enhancers, %d binding sites",
        *(plan.chromosomes, len(world.genes), len(world.enhancers), len(world.sites.start)),
    )
    tables.write_genome(world, addresses)
    owner, exons = tables.make_exons(world)
    tables.write_annotation(world, addresses, owner, exons)
    tables.write_expression(world, addresses)
    tables.write_metadata(world, addresses)
    tables.write_motifs(world, addresses)
    contacts.write_conservation(world, addresses, exons)
    pairs = contacts.write_capture(world, addresses)
    loops = contacts.write_loops(world, addresses)
    timed = contacts.write_timing(world, addresses)
    variants = truth.write_truth(world, addresses)
    planted = eqtls.write_eqtls(world, addresses)
    labelled = labels.write_labels(world, addresses)
    reads = tracks.write_tracks(world, Signal(world), addresses, processes)
    counts = {"variants": variants, "capture_pairs": pairs, "loops": loops, "eqtls": planted}
    counts |= labelled
    summary = _summary(world, counts, timed, reads)
    with atomic(addresses.truth("summary.json")) as tmp:
        tmp.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return summary


def _summary(world: World, counts: dict[str, int], timed: list[str], reads: dict) -> dict:
    """What was made, for `truth/summary.json`."""
    layout = world.layout
    return {
        "plan": dataclasses.asdict(world.plan),
        "lengths": dict(zip(layout.names, layout.lengths.tolist(), strict=True)),
        "counts": {
            "genes": len(world.genes),
            "coding_genes": int(world.genes.coding.sum()),
            "enhancers": len(world.enhancers),
            "insulators": len(world.insulators),
            "sites": len(world.sites.start),
            "links": len(world.links.gene),
            "blacklist_regions": len(layout.blacklist),
            **counts,
        },
        "replication_timing": timed,
        "reads": reads,
    }
