"""Contacts between a promoter and distal fragments, from the tables and pickles they come in.

Every reader keeps pairs with a score above `min_score` only, so that memory follows what is kept
and not the size of the file. Fragments are 0-based half-open; their names are chrom:start-end.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from epiloom.data.contact_tables import (
    BEDPE,
    GENE_TABLE,
    LISTS,
    ContactTable,
    GenePartners,
    Pairs,
    named,
    without_twins,
)
from epiloom.data.pickles import read_plain_pickle
from epiloom.plan.errors import InputError


def read_contacts(
    source: str,
    files: Sequence[str | Path],
    cell: str = "",
    tissue: str = "",
    min_score: float = 1.5,
) -> Pairs | GenePartners | None:
    """The contacts of one cell with a score above `min_score`.

    Args:
        source: geo or geo_tissue (table of fragment pairs), authors (two pickles: fragment ->
            neighbours, pair -> score), file (such a table, BEDPE, a ready partner table, or the
            published gene table with its lists; the header tells), none.
        cell, tissue: which rows or which score column, where a table holds several.

    Returns:
        None for "none".

    Raises:
        InputError: unreadable or malformed files, columns missing, no such tissue, no pair left.
    """
    if source == "none":
        return None
    if source == "authors":
        return read_pickles(*files, min_score=min_score)
    table = ContactTable(files[0], cell, tissue, min_score)
    if source == "file" and set(GENE_TABLE) <= set(table.columns):
        return table.gene_partners()
    if source == "file" and set(LISTS) <= set(table.columns):
        return table.neighbour_lists()
    if source == "file" and (table.headless or set(BEDPE) <= set(table.columns)):
        return table.bedpe()
    return table.fragment_pairs(one_tissue=source != "geo")


# --- pickles -------------------------------------------------------------------------------------


def read_pickles(neighbours: str | Path, scores: str | Path, min_score: float = 1.5) -> Pairs:
    """The two pickles of the published distal model: fragment -> partners, (fragment, partner) ->
    score. They are read without running anything in them; pairs count as they are given.

    Raises:
        InputError: content of another form, a pair without score; all at once.
    """
    partners, found = read_plain_pickle(neighbours), read_plain_pickle(scores)
    remedy = "give the published files frag2neighbors and pair2score of one tissue"
    if not isinstance(partners, dict) or not isinstance(found, dict):
        which = neighbours if not isinstance(partners, dict) else scores
        raise InputError(which, f"holds no dictionary; {remedy}")
    rows, problems = [], []
    for one, others in partners.items():
        if not isinstance(one, str) or not isinstance(others, (list, tuple, set, frozenset, dict)):
            problems.append(f"{str(one)[:60]!r}: {str(others)[:60]!r} is no list of fragments")
            continue
        for other in others:
            score = found.get((one, other), found.get((other, one)))
            if isinstance(other, str) and isinstance(score, (int, float)):
                rows += [(one, other, float(score))] if score > min_score else []
            else:
                problems.append(f"pair ({one}, {other}) has score {score!r} in {scores}")
    if problems:
        more = [f"... and {len(problems) - 20} more"] * (len(problems) > 20)
        raise InputError(neighbours, [*(f"{p}; {remedy}" for p in problems[:20]), *more])
    if not rows:
        raise InputError(
            scores, f"no pair has a score above contacts.min_score = {min_score:g}; lower it"
        )
    table = pd.DataFrame(sorted(rows), columns=["first", "second", "score"])
    code, unique = pd.factorize(pd.concat([table["first"], table["second"]], ignore_index=True))
    fragments = named(unique, neighbours)
    n = len(table)
    return without_twins(fragments, code[:n], code[n:], table["score"].to_numpy())
