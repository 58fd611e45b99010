"""Which windows train, which stop training, which are scored; and proof that they do not mix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from epiloom.plan.errors import InputError

PARTS = ("train", "validation", "test")


def part_of(chroms: Sequence[str], fold: Mapping[str, object]) -> np.ndarray:
    """Part of every window or gene, by chromosome alone.

    Args:
        chroms: chromosome per window [n].
        fold: {"validation": [chromosomes], "test": [chromosomes]}; every other one trains.

    Returns:
        Text array [n] of "train", "validation", "test".

    Raises:
        InputError: a chromosome in two parts, or a part without any window.
    """
    chroms = np.asarray(chroms, dtype=str)
    where = f"fold {fold.get('name', '')}".strip()
    validation, test = (_names(fold, part, where) for part in ("validation", "test"))
    problems = [
        f"{chrom} is in both validation and test; keep it in one of the two"
        for chrom in sorted(set(validation) & set(test))
    ]
    parts = np.full(len(chroms), "train", dtype="<U10")
    parts[np.isin(chroms, validation)] = "validation"
    parts[np.isin(chroms, test)] = "test"
    there = ", ".join(dict.fromkeys(chroms.tolist())) or "none"
    for part, names in (("validation", validation), ("test", test), ("train", None)):
        if (parts == part).any():
            continue
        of = "all other chromosomes" if names is None else ", ".join(names) or "no chromosome"
        problems.append(
            f"{part} ({of}) has no gene or window; there are some on {there}: choose among these"
        )
    if problems:
        raise InputError(where, problems)
    return parts


def _names(fold: Mapping[str, object], part: str, where: str) -> list[str]:
    names = fold.get(part)
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise InputError(where, f"{part}: {names!r} is not a list; give a list of chromosomes")
    return [str(name) for name in names]


def leaks(
    chroms: Sequence[str],
    starts: Sequence[int],
    ends: Sequence[int],
    parts: Sequence[str],
    margin: int = 0,
) -> np.ndarray:
    """Windows that share a base with a window of another part.

    Args:
        chroms, starts, ends: windows [n], 0-based half-open, with a model's receptive field.
        parts: part of each [n].
        margin: bases by which every window is widened on both sides.

    Returns:
        Indices (int64, sorted) of the offending windows; empty when the parts are apart.
    """
    chroms, parts = np.asarray(chroms, dtype=str), np.asarray(parts, dtype=str)
    starts = np.asarray(starts, np.int64) - margin
    ends = np.asarray(ends, np.int64) + margin
    found = []
    for chrom in np.unique(chroms):
        here = np.flatnonzero(chroms == chrom)
        for part in np.unique(parts[here]):
            own, other = here[parts[here] == part], here[parts[here] != part]
            # Overlaps of [s, e) = windows that begin before e, less those that end by s.
            begun = np.searchsorted(np.sort(starts[other]), ends[own], side="left")
            over = np.searchsorted(np.sort(ends[other]), starts[own], side="right")
            found.append(own[begun > over])
    return np.sort(np.concatenate(found)) if found else np.zeros(0, np.int64)


def check_leaks(
    chroms: Sequence[str],
    starts: Sequence[int],
    ends: Sequence[int],
    parts: Sequence[str],
    margin: int = 0,
) -> None:
    """Raise InputError if windows of different parts overlap (arguments as `leaks`)."""
    found = leaks(chroms, starts, ends, parts, margin)
    if len(found):
        i = int(found[0])
        raise InputError(
            "folds",
            f"{len(found)} windows overlap a window of another part, the first is "
            f"{chroms[i]}:{starts[i]}-{ends[i]} ({parts[i]}); split by whole chromosomes",
        )
