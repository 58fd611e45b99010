"""Which examples train, stop and test a classifier of windows: three ways of cutting the genome.

`chromosomes` is the headline: windows of one chromosome overlap and neighbours are alike, so only
whole chromosomes are apart. `shuffled` is what the Epi-LSTM and Avocado studies report and is kept
for comparison with them; `contiguous` lies between the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from epiloom.plan.errors import InputError

SCHEMES = ("chromosomes", "shuffled", "contiguous")


@dataclass(frozen=True)
class Fold:
    """Rows of each part, int64, sorted; no row is in two."""

    name: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    @property
    def parts(self) -> dict[str, np.ndarray]:
        """The three parts by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def among(self, rows: np.ndarray) -> Fold:
        """The same fold when row i is number `rows[i]` of a longer table (rows sorted)."""
        return Fold(self.name, *(rows[part] for part in self.parts.values()))

    def lacks(self, positive: np.ndarray) -> str:
        """Why the fold can neither train nor be scored; empty if it can.

        Args:
            positive: bool [rows].
        """
        for name, part in self.parts.items():
            hits = int(positive[part].sum())
            if len(part) == 0:
                return f"{name} has no example"
            if hits in (0, len(part)):
                which = "positive" if hits == 0 else "negative"
                return f"{name} has {len(part)} examples but no {which} one"
        return ""


def chromosome_folds(
    chroms: Sequence[str], folds: Sequence[Mapping[str, object]]
) -> tuple[Fold, ...]:
    """Folds by whole chromosomes.

    Args:
        chroms: chromosome of every example [n].
        folds: {"name", "validation": [chromosomes], "test": [chromosomes]}; all others train.

    Parts may be empty where there is no example on their chromosomes (see `Fold.lacks`).

    Raises:
        InputError: a chromosome in two parts of a fold, or folds of the same name.
    """
    chroms = np.asarray(chroms, dtype=str)
    names = [str(fold.get("name", i)) for i, fold in enumerate(folds)]
    problems = [
        f"{name}: the name of two folds; give each its own"
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    made = []
    for name, fold in zip(names, folds, strict=True):
        parts = {part: [str(c) for c in fold[part]] for part in ("validation", "test")}
        problems += [
            f"{name}: {chrom} is in both validation and test; keep it in one of the two"
            for chrom in sorted(set(parts["validation"]) & set(parts["test"]))
        ]
        validation, test = (np.isin(chroms, parts[part]) for part in ("validation", "test"))
        masks = (~(validation | test), validation, test)
        made.append(Fold(name, *map(np.flatnonzero, masks)))
    if problems:
        raise InputError("folds", problems)
    return tuple(made)


def shuffled_folds(n: int, k: int, seed: int) -> tuple[Fold, ...]:
    """k folds of n rows in random order: fold i is rows i, i + k, ... of the shuffled table.

    Fold i tests, fold i + 1 (after the last, fold 0) stops the training, the others train: the
    protocol of the Epi-LSTM and Avocado studies.
    """
    _check_count(n, k)
    order = np.random.default_rng(seed).permutation(n)
    return _rotated([order[i::k] for i in range(k)])


def contiguous_folds(n: int, k: int) -> tuple[Fold, ...]:
    """k folds of n rows, each a block of neighbouring rows; parts as in `shuffled_folds`."""
    _check_count(n, k)
    return _rotated(np.array_split(np.arange(n), k))


def _check_count(n: int, k: int) -> None:
    if not 3 <= k <= n:
        raise InputError("folds", f"{k} folds of {n} examples; use from 3 up to {n} folds")


def _rotated(blocks: Sequence[np.ndarray]) -> tuple[Fold, ...]:
    made = []
    for i, test in enumerate(blocks):
        stop = (i + 1) % len(blocks)
        others = [block for j, block in enumerate(blocks) if j not in (i, stop)]
        parts = (np.concatenate(others), blocks[stop], test)
        made.append(Fold(str(i), *(np.sort(part).astype(np.int64) for part in parts)))
    return tuple(made)
