"""Expression of transcription factors per cell, on the scale of the training cells.

r_k is the mean over the training cells of their k-th smallest value, k = 0..K-1; a value of a cell
with rank k among its K factors (ties take their lowest rank) becomes log(1 + r_k), natural.

With a table of genes, ranks and r are those among all of them: among a few factors alone, most of
which are silent in most cells, a rank says how many others are on rather than how much this one is.

Only ranks within a cell count, so TPM, RPKM and any scale factor give the same vector. The
reference is of training cells alone: a new cell is laid on it and changes nothing.

A factor that a table does not have is NaN, never 0: it is left out of the reference, or a new cell
without it is refused (or given the training cells' mean, `missing="usual"`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from epiloom.data.annotation import read_text
from epiloom.data.expression_tables import plain_id
from epiloom.data.files import atomic
from epiloom.data.labels import refuse
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

SCHEMA = 1
MISSING = ("refuse", "usual")
_TOLD = re.compile(r'(gene_id|gene_name|gene_type|gene_biotype) "([^"]*)"')


@dataclass(frozen=True)
class Factors:
    """Expression of the wanted factors.

    Attributes:
        values: float64 [factors x cells] in the wanted order, NaN = the table does not tell.
        missing: factors without a row. renamed: factor -> name under which it was found.
    """

    values: pd.DataFrame
    missing: tuple[str, ...]
    renamed: dict[str, str] = field(default_factory=dict)


def factor_rows(
    table: pd.DataFrame,
    factors: Sequence[str],
    symbols: Mapping[str, Sequence[str]] | None = None,
    aliases: Mapping[str, str] | None = None,
    where: object = "expression",
) -> Factors:
    """The rows of some factors.

    Args:
        table: genes x cells, as `read_matrix` gives it (a Series of one cell: `to_frame(cell)`).
        factors: symbols; "HSFY1; HSFY2" is the sum of both, for they share their motif.
        symbols: symbol -> gene ids, of `read_symbols`; needed for tables by gene id.
        aliases: symbol of the motif set -> symbol of the annotation or table.

    Several rows of one symbol are added up, as TPM may be. The log has the number of missing ones.

    Raises:
        InputError: a factor named twice, or none found (another kind of names).
    """
    twice = sorted({f for f in factors if list(factors).count(f) > 1})
    if twice:
        raise InputError(where, f"factor {', '.join(twice[:20])} is named twice; name each once")
    there, lines, renamed, missing = set(table.index), {}, {}, []
    for factor in factors:
        names: list[str] = []
        for symbol in (part.strip() for part in factor.split(";")):
            known = (symbol, (aliases or {}).get(symbol, ""))
            ids = [(name, _ids(name, symbols, there)) for name in known if name]
            name, found = next((pair for pair in ids if pair[1]), ("", []))
            names += found
            if found and name != symbol:
                renamed[symbol] = name
        if names:
            lines[factor] = names
        else:
            missing.append(factor)
    if not lines:
        raise InputError(
            where,
            f"holds none of {len(factors)} factors ({', '.join(list(factors)[:4])}); its genes are "
            f"{', '.join(map(str, table.index[:4]))}: give an annotation (GTF) if they are ids, "
            "or another list of factors",
        )
    # min_count: a sum of nothing but NaN is NaN
    rows = [table.loc[table.index.isin(names)].sum(min_count=1) for names in lines.values()]
    values = pd.DataFrame(rows, index=list(lines)).reindex(list(factors))[list(table.columns)]
    if missing or renamed:
        log.warning(
            "%s: %d of %d factors are missing (%s), %d found under another name",
            *(where, len(missing), len(factors), ", ".join(missing[:20]), len(renamed)),
        )
    return Factors(values.astype(np.float64), tuple(missing), renamed)


def _ids(name: str, symbols: Mapping[str, Sequence[str]] | None, there: set[str]) -> list[str]:
    """Rows of a symbol: its own, else those of its gene ids."""
    if name in there:
        return [name]
    return [gene for gene in (symbols or {}).get(name, ()) if gene in there]


def coding_rows(
    table: pd.DataFrame, annotation: str | Path | None = None, where: object = "expression"
) -> pd.DataFrame:
    """The rows of protein-coding genes; all, if the annotation does not tell which they are.

    Args:
        table: genes x cells, as `read_matrix` gives it, by id or symbol; equal names are added up.
        annotation: GENCODE GTF.
    """
    whole = table.groupby(level=0, sort=True).sum(min_count=1)
    known = _coding_names(annotation) if annotation else set()
    kept = whole[whole.index.isin(known)] if known else whole
    log.info("%s: %d of %d genes are the ground of the ranks", where, len(kept), len(whole))
    if kept.empty:
        raise InputError(where, f"has no protein-coding gene of {annotation}; give that of its ids")
    return kept


def _coding_names(annotation: str | Path) -> set[str]:
    """Ids and symbols of protein-coding genes."""
    found: set[str] = set()
    for line in read_text(annotation).split("\n"):
        fields = line.split("\t")
        if len(fields) > 8 and fields[2] == "gene":
            told = dict(_TOLD.findall(fields[8]))
            if told.get("gene_type", told.get("gene_biotype")) == "protein_coding":
                found |= {plain_id(told.get("gene_id", "")), told.get("gene_name", "")}
    return found - {""}


# --- the common scale -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """What cells are normalised to; kept beside the model.

    Attributes:
        factors: in the order of every vector.
        cells: training cells it was made from.
        values: float64 [genes, or factors if there are none], ascending: mean over the cells of the
            k-th smallest value.
        usual: float64 [factors], mean over the cells of each factor's normalised value.
        left_out: factors that some training cell lacks.
        genes: among which factors are ranked; none: among the factors.
    """

    factors: tuple[str, ...]
    cells: tuple[str, ...]
    values: np.ndarray
    usual: np.ndarray
    left_out: tuple[str, ...] = ()
    genes: tuple[str, ...] = ()

    @classmethod
    def fit(
        cls,
        table: pd.DataFrame,
        train: Sequence[str],
        held_out: Sequence[str] = (),
        genes: pd.DataFrame | None = None,
    ) -> Reference:
        """The reference of the training cells.

        Args:
            table: float64 [factors x cells], as `factor_rows` gives it; other columns are not read.
            train: cells. held_out: cells that must not take part.
            genes: float64 [genes x cells], as `coding_rows` gives it: rank among these.

        Raises:
            InputError: a held-out cell among the training cells, cells without a column, no factor
                that all of them have.
        """
        both = sorted(set(train) & set(held_out))
        problems = [f"cell {c} is held out; it must not be in the reference" for c in both]
        problems += [f"no column for cell {c}; add it" for c in train if c not in table.columns]
        problems += [f"cell {c} is named twice" for c in set(train) if list(train).count(c) > 1]
        if not train:
            problems.append("no training cell; name at least one")
        refuse("reference of the factors' expression", sorted(problems))
        own = table[list(train)].to_numpy(np.float64)
        known = ~np.isnan(own).any(axis=1)
        names = [str(name) for name in table.index]
        left_out = tuple(name for name, there in zip(names, known, strict=True) if not there)
        if not known.any():
            raise InputError("reference of the factors' expression", "no factor is in all cells")
        if left_out:
            log.warning("%d factors left out, missing in a training cell", len(left_out))
        ground, among = own[known], ()
        if genes is not None:
            ground = genes[list(train)].to_numpy(np.float64)
            everywhere = ~np.isnan(ground).any(axis=1)
            ground, among = ground[everywhere], tuple(map(str, genes.index[everywhere]))
            if not among:
                raise InputError("reference of the factors' expression", "no gene is in all cells")
        values = np.sort(ground, axis=0).mean(axis=1)
        kept = tuple(name for name, there in zip(names, known, strict=True) if there)
        ranks = [_lowest_ranks(*pair) for pair in zip(own[known].T, ground.T, strict=True)]
        normal = values[np.minimum(ranks, len(values) - 1)]
        usual = np.log1p(normal).mean(axis=0)
        return cls(kept, tuple(train), values, usual, left_out, among)

    def vectors(
        self,
        table: pd.DataFrame,
        cells: Sequence[str],
        missing: str = "refuse",
        genes: pd.DataFrame | None = None,
    ) -> np.ndarray:
        """Normalised expression of some cells, float32 [cells, factors], log(1 + value).

        Args:
            table: [factors x cells]; its rows may be more and in another order.
            missing: a factor that a cell lacks - "refuse", or "usual": the mean of the training
                cells. The ranks of the others are then spread over the reference.
            genes: [genes x cells], needed if the reference has genes; a cell may lack up to half of
                them (other annotations do), ranks are then spread.

        Raises:
            InputError: absent cells, factors or genes.
        """
        if missing not in MISSING:
            raise InputError("missing", f"{missing!r}; choose one of {', '.join(MISSING)}")
        problems = [f"no column for cell {c}; add it" for c in cells if c not in table.columns]
        rows = table.reindex(self.factors)
        for cell in [c for c in cells if c in table.columns]:
            lacking = rows.index[rows[cell].isna()].tolist()
            if len(lacking) == len(self.factors) or (lacking and missing == "refuse"):
                problems.append(
                    f"cell {cell} lacks {len(lacking)} of {len(self.factors)} factors "
                    f"({', '.join(lacking[:5])}); complete its table, give aliases, or set the "
                    "policy for missing factors to usual"
                )
        ground = rows
        if self.genes and genes is None:
            problems.append("the reference ranks among genes; give the table of all genes too")
        elif self.genes:
            ground = genes.reindex(self.genes)
            for cell in [c for c in cells if c in genes.columns]:
                lack = int(ground[cell].isna().sum())
                if 2 * lack > len(self.genes):
                    problems.append(
                        f"cell {cell} lacks {lack} of {len(self.genes)} genes; give a table of all "
                        "genes, with the same kind of names"
                    )
        refuse("factors' expression", problems)
        pairs = [(rows[c].to_numpy(np.float64), ground[c].to_numpy(np.float64)) for c in cells]
        return np.stack([self._vector(*pair) for pair in pairs])

    def _vector(self, column: np.ndarray, ground: np.ndarray) -> np.ndarray:
        there, known = ~np.isnan(column), ground[~np.isnan(ground)]
        out, last = self.usual.copy(), len(ground) - 1
        rank = _lowest_ranks(column[there], known)
        if len(known) < len(ground):
            rank = np.rint(rank * last / max(1, len(known) - 1)).astype(np.int64)
        out[there] = np.log1p(self.values[np.minimum(rank, last)])
        return out.astype(np.float32)

    @property
    def checksum(self) -> str:
        """Fingerprint of factors, their order, cells and values."""
        told = [list(self.factors), list(self.cells), self.values.tolist(), self.usual.tolist()]
        told += [list(self.genes)] if self.genes else []
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def save(self, path: str | Path) -> None:
        """Write it as JSON; numbers are kept to the last bit."""
        about = {"schema": SCHEMA, "factors": self.factors, "cells": self.cells}
        about |= {"values": self.values.tolist(), "usual": self.usual.tolist()}
        about |= {"left_out": self.left_out, "genes": self.genes, "sha256": self.checksum}
        with atomic(path) as tmp:
            tmp.write_text(json.dumps(about) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Reference:
        """Read it. Raises InputError if it is missing, damaged, or not what was saved."""
        remedy = "take the file that belongs to the weights, or train again"
        try:
            told = json.loads(Path(path).read_text())
            names = (tuple(told[key]) for key in ("factors", "cells"))
            numbers = (np.array(told[key], np.float64) for key in ("values", "usual"))
            rest = (tuple(told.get(key, ())) for key in ("left_out", "genes"))
            found = cls(*names, *numbers, *rest)
            same = told["schema"] == SCHEMA and told["sha256"] == found.checksum
        except FileNotFoundError:
            raise InputError(path, f"there is no such file; {remedy}") from None
        except (KeyError, TypeError, ValueError) as err:
            raise InputError(path, f"is damaged ({err!r}); {remedy}") from err
        if not same or len(found.values) != len(found.genes or found.factors):
            raise InputError(path, f"is not as it was written; {remedy}")
        return found


def write_vectors(
    path: str | Path, cells: Sequence[str], vectors: np.ndarray, reference: Reference
) -> None:
    """Vectors of some cells, float32 [cells, factors], and what they were laid on, as npz."""
    with atomic(path) as tmp, open(tmp, "wb") as file:
        np.savez(
            file,
            cells=np.array(cells, dtype=str),
            factors=np.array(reference.factors, dtype=str),
            vectors=np.asarray(vectors, np.float32),
            sha256=reference.checksum,
        )


def read_vectors(path: str | Path, reference: Reference) -> tuple[list[str], np.ndarray]:
    """Cells and their vectors, float32 [cells, factors].

    Raises:
        InputError: missing, damaged, or laid on another reference.
    """
    again = "delete it and make it again"
    try:
        with np.load(path, allow_pickle=False) as file:
            cells, vectors = file["cells"].tolist(), file["vectors"]
            same = str(file["sha256"]) == reference.checksum
    except FileNotFoundError:
        raise InputError(path, "there is no such file; make the vectors first") from None
    except (OSError, ValueError, KeyError, EOFError) as err:
        raise InputError(path, f"is damaged ({err}); {again}") from err
    if not same:
        raise InputError(
            path, f"was made with another reference (factors, their order, or cells); {again}"
        )
    if vectors.shape != (len(cells), len(reference.factors)) or not np.isfinite(vectors).all():
        raise InputError(path, f"holds {vectors.shape} for {len(cells)} cells; {again}")
    return cells, vectors


def _lowest_ranks(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Rank of each value among others from 0, ties take their lowest; int64 as `values`."""
    return np.searchsorted(np.sort(among), values, side="left")
