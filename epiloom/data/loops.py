"""Chromatin loops (HiChIP) of one cell as a sparse list on a grid of bins, and as rows of a region.

Read:  HiChIPdb csv (anchor1, anchor2 as chrom:start-end, qValue), BEDPE with or without header; the
       q-value is a column q (qvalue, Q-Value_Bias, fdr ...), else 10^-score of a column score.
Lifted: anchors by a chain file (HiChIPdb is on hg19), both of them or none.
Kept:  per loop the bins that each anchor touches and a weight, npz; 26 bytes a loop. A dense matrix
       of a 128-kb region would be 4 MB.
Used:  `contact_rows` spreads a loop evenly over bins x bins of its anchors (5 kb: about 39 x 39),
       in both directions, sets the diagonal and `near` bins beside it to 0, and divides every row
       by its sum. Rows without a loop are 0.

Loops between chromosomes are left out and counted.
"""

from __future__ import annotations

import csv
import gzip
import logging
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from epiloom.data.eqtls import Convert
from epiloom.data.files import atomic, open_bytes
from epiloom.data.genome import Genome, _prefix_hint
from epiloom.data.labels import refuse
from epiloom.plan.errors import InputError
from epiloom.plan.runs import DATA_VERSION

log = logging.getLogger("epiloom")

MAX_Q = 1e-3
BIN_BP, REGION_BINS = 128, 1000
NEAR = 8  # bins (1 kb) beside the diagonal that are set to 0
STRETCH = 2  # so many times longer or shorter may an anchor become in a lift-over
COLUMNS = ["chrom", "start1", "end1", "start2", "end2", "q"]
BEDPE = ("chrom1", "start1", "end1", "chrom2", "start2", "end2")
_ALSO = {"chr1": "chrom1", "chr2": "chrom2", "s1": "start1", "e1": "end1", "s2": "start2"}
_ALSO |= {"e2": "end2"}
Q_NAMES = ("qvalue", "qvaluebias", "q", "qval", "fdr", "padj")  # without case and punctuation
_ANCHOR = re.compile(r"^([^:\s]+?)[:._-](\d+)[._-](\d+)$")
_CODES = {"chrom": np.uint16, "first1": np.int32, "last1": np.int32, "first2": np.int32}
_CODES |= {"last2": np.int32, "weight": np.float32}


# --- tables ---------------------------------------------------------------------------------------


def read_loops(path: str | Path, cell: str = "", max_q: float = MAX_Q) -> pd.DataFrame:
    """Loops within chromosomes with q below `max_q`: columns `COLUMNS`, 0-based half-open.

    Args:
        path: see the top of this file; plain or gzip, tabs or commas.
        cell: where the table has a column cell, only its rows count.

    Raises:
        InputError: unreadable, columns missing, malformed lines, no loop left; all at once.
    """
    table = _text(path)
    if "cell" in table:
        known = sorted(set(table["cell"]))
        table = table[table["cell"] == cell]
        if table.empty:
            raise InputError(
                path, f"column cell has no {cell!r}; it has {', '.join(known[:40])}: name one"
            )
    first, second, problems = *_anchors(table, path), []
    ends = [np.stack([_whole(a[1]), _whole(a[2])]) for a in (first, second)]
    with np.errstate(invalid="ignore"):
        for what, (low, high) in zip(("first", "second"), ends, strict=True):
            bad = table.index[~((low >= 0) & (high > low))]
            problems += [f"line {n}: its {what} anchor is no region; correct it" for n in bad]
    q = _q_values(table, path, problems)
    refuse(path, problems)
    # a start of 1 beyond a whole kb is written from 1 on
    (low1, high1), (low2, high2) = ((low - (low % 1000 == 1), high) for low, high in ends)
    same = (first[0] == second[0]).to_numpy()
    keep = same & (q < max_q)
    found = pd.DataFrame(
        {"chrom": first[0], "start1": low1, "end1": high1, "start2": low2, "end2": high2, "q": q}
    )[keep]
    log.info(
        "%s: %d of %d loops with q < %g, %d between chromosomes left out",
        *(path, len(found), len(table), max_q, int((~same).sum())),
    )
    if found.empty:
        raise InputError(
            path,
            f"none of {len(table)} lines is a loop within a chromosome with q < {max_q:g} "
            f"(smallest: {q.min() if len(q) else 'none'}); raise max_q or give another table",
        )
    ints = dict.fromkeys(COLUMNS[1:5], np.int64)
    return found.astype(ints).reset_index(drop=True)


def _text(path: str | Path) -> pd.DataFrame:
    """All columns as text, by lower-case name; the index is the line."""
    try:
        with open_bytes(path) as file:
            lines = file.read().decode("utf-8-sig").splitlines()
    except FileNotFoundError:
        raise InputError(path, "there is no such file; check the path") from None
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, gzip.BadGzipFile) as err:
        raise InputError(path, f"cannot be read ({err}); get it again") from err
    numbered = [
        (n, line)
        for n, line in enumerate(lines, 1)
        if line.strip() and not line.startswith(("##", "track", "browser"))
    ]
    if not numbered:
        raise InputError(path, "is empty; give a table of loops")
    separator = "\t" if "\t" in numbered[0][1] else ","
    rows = list(csv.reader((line for _, line in numbered), delimiter=separator))
    header = [name.strip().lstrip("#").lower() for name in rows[0]]
    header = [_ALSO.get(name, name) for name in header]
    if len(header) >= 6 and all(header[i].isdigit() for i in (1, 2, 4, 5)):
        extra = ["name", "score", *(f"column{i}" for i in range(9, len(header) + 1))]
        header = [*BEDPE, *extra][: len(header)]
    else:
        rows, numbered = rows[1:], numbered[1:]
    problems = [
        f"line {n}: {len(row)} columns instead of {len(header)}; correct it"
        for (n, _), row in zip(numbered, rows, strict=True)
        if len(row) != len(header)
    ]
    refuse(path, problems)
    return pd.DataFrame(rows, columns=header, index=[n for n, _ in numbered], dtype=object)


def _anchors(table: pd.DataFrame, path) -> tuple[list[pd.Series], list[pd.Series]]:
    """(chrom, start, end) of both anchors, as text."""
    if set(BEDPE) <= set(table):
        return tuple([table[f"{c}{i}"] for c in ("chrom", "start", "end")] for i in (1, 2))
    if {"anchor1", "anchor2"} <= set(table):
        parts = [table[name].str.strip().str.extract(_ANCHOR) for name in ("anchor1", "anchor2")]
        bad = table.index[parts[0][0].isna() | parts[1][0].isna()]
        refuse(path, [f"line {n}: an anchor is not written as chr1:5000-10000" for n in bad])
        return tuple([part[k] for k in range(3)] for part in parts)
    raise InputError(
        path,
        f"its columns ({', '.join(map(str, table.columns[:12]))}) are neither anchor1, anchor2 nor "
        f"{', '.join(BEDPE)}; name the columns",
    )


def _whole(texts: pd.Series) -> np.ndarray:
    values = pd.to_numeric(texts, errors="coerce").to_numpy(np.float64)
    return np.where(values % 1 == 0, values, np.nan)


def _q_values(table: pd.DataFrame, path, problems: list[str]) -> np.ndarray:
    plain = {re.sub(r"[^a-z]", "", str(name)): name for name in table}
    column = next((plain[name] for name in Q_NAMES if name in plain), None)
    if column is None and "score" not in table:
        raise InputError(
            path,
            f"has no q-value: none of its columns ({', '.join(map(str, table.columns[:12]))}) is "
            "called qValue, FDR or score (-log10 of q); name it",
        )
    texts = table[column if column is not None else "score"]
    values = pd.to_numeric(texts, errors="coerce").to_numpy(np.float64)
    # bounded, so that a high score does not become q = 0
    found = values if column is not None else 10.0 ** -np.clip(values, -300, 300)
    with np.errstate(invalid="ignore"):
        bad = ~(values >= 0) | (np.full(len(values), column is not None) & (values > 1))
    problems += [f"line {n}: {texts[n]!r} is no q-value or score" for n in table.index[bad]]
    return found


def lift_loops(table: pd.DataFrame, convert: Convert) -> tuple[pd.DataFrame, dict[str, int]]:
    """Loops on another assembly, and how many are lost for which reason.

    Lost are loops of which an anchor has no place there (`no_place`) or no longer half to twice its
    length (`stretched`), and those whose anchors lie on two chromosomes (`two_chromosomes`) or
    overlap or follow one another otherwise than before (`out_of_order`).

    Args:
        convert: of a chain file (see `epiloom.data.chains`).

    Raises:
        InputError: no loop is left.
    """
    places: dict[tuple, tuple | str] = {}
    lost = dict.fromkeys(("no_place", "stretched", "two_chromosomes", "out_of_order"), 0)
    rows = []
    for chrom, start1, end1, start2, end2, q in table[COLUMNS].itertuples(index=False, name=None):
        pair = (chrom, start1, end1), (chrom, start2, end2)
        for anchor in pair:
            if anchor not in places:
                places[anchor] = _lifted(*anchor, convert)
        one, two = (places[anchor] for anchor in pair)
        if why := _lost(pair, one, two):
            lost[why] += 1
        else:
            rows.append((*one, *two[1:], q))
    gone = ", ".join(f"{count} {why}" for why, count in lost.items())
    log.info("lift-over: %d of %d loops have a place (%s)", len(rows), len(table), gone)
    if not rows:
        raise InputError(
            "loops",
            f"none of {len(table)} has a place on the other assembly ({gone}); name the assembly "
            "that they are on, and the chain file from there to the study's",
        )
    return pd.DataFrame(rows, columns=COLUMNS), lost


def _lifted(chrom: str, start: int, end: int, convert: Convert) -> tuple[str, int, int] | str:
    """Where an anchor lies, or why it is lost."""
    ends = [(convert(chrom, place) or [None])[0] for place in (start, end - 1)]
    if None in ends:
        return "no_place"
    low, high = sorted((ends[0][1], ends[1][1]))
    ratio = (high + 1 - low) / (end - start)
    if ends[0][0] != ends[1][0] or not 1 / STRETCH <= ratio <= STRETCH:
        return "stretched"
    return ends[0][0], low, high + 1


def _lost(pair: tuple[tuple, tuple], one: tuple | str, two: tuple | str) -> str:
    """Why a loop is lost; "" if it is not."""
    for found in (one, two):
        if isinstance(found, str):
            return found
    if one[0] != two[0]:
        return "two_chromosomes"
    before, after = (_order(a[1:], b[1:]) for a, b in (pair, (one, two)))
    return "" if before == after else "out_of_order"


def _order(one: tuple[int, int], two: tuple[int, int]) -> int:
    """-1 or 1: the first or the second anchor comes first; 0: they overlap."""
    return (one[0] >= two[1]) - (two[0] >= one[1])


# --- the list -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loops:
    """Loops of one cell on a grid of bins.

    Attributes:
        genome, bin_bp: the grid.
        table: chrom (number), first1, last1, first2, last2 (bins within the chromosome, half-open,
            anchor 1 before anchor 2), weight; sorted by chrom and first1.
    """

    genome: Genome
    bin_bp: int
    table: pd.DataFrame

    @classmethod
    def of(
        cls, table: pd.DataFrame, genome: Genome, bin_bp: int = BIN_BP, weight: str = "count"
    ) -> Loops:
        """From the columns `COLUMNS`; the same pair of anchors twice adds up.

        Args:
            weight: "count" (every loop 1, as published), or "score" (-log10 q).

        Raises:
            InputError: anchors beyond a chromosome, no loop on the genome, unknown weight.
        """
        if weight not in ("count", "score"):
            raise InputError("loops", f"weight {weight!r}; choose count or score")
        there = table["chrom"].isin(genome.chromosomes)
        rows = table[there]
        if rows.empty:
            hint = _prefix_hint(dict.fromkeys(table["chrom"], 1), genome.chromosomes)
            raise InputError("loops", f"none lies on {genome.assembly}{hint}; give others")
        ends = rows["chrom"].map(genome.length).to_numpy(np.int64)
        beyond = rows[["end1", "end2"]].max(axis=1) > -(-ends // 5_000) * 5_000
        if beyond.any():
            row = rows[beyond].iloc[0]
            raise InputError(
                "loops",
                f"{int(beyond.sum())} lie beyond a chromosome of {genome.assembly} (first: "
                f"{row['chrom']}:{row['start1']}-{row['end2']}); name the assembly they are on",
            )
        swap = (rows["start1"] > rows["start2"]).to_numpy()
        found = {"chrom": rows["chrom"].map(genome.index).to_numpy()}
        for k in (1, 2):
            own, other = rows[[f"start{k}", f"end{k}"]], rows[[f"start{3 - k}", f"end{3 - k}"]]
            low, high = np.where(swap[:, None], other, own).T
            found[f"first{k}"] = low // bin_bp
            found[f"last{k}"] = -(-np.minimum(high, ends) // bin_bp)
        q = np.maximum(rows["q"].to_numpy(np.float64), 1e-300)
        found["weight"] = np.ones(len(rows)) if weight == "count" else -np.log10(q)
        keys = list(_CODES)[:-1]
        merged = pd.DataFrame(found).groupby(keys, as_index=False)["weight"].sum()
        return cls(genome, bin_bp, merged.astype(_CODES)[list(_CODES)])

    def __len__(self) -> int:
        return len(self.table)

    def inside(self, chrom: str, first: int, bins: int = REGION_BINS) -> pd.DataFrame:
        """Loops of which both anchors touch bins first .. first + bins, counted from `first`."""
        i, chroms = self.genome.index(chrom), self.table["chrom"].to_numpy()
        span = slice(*np.searchsorted(chroms, [i, i + 1]))
        rows = self.table[span]
        low = int(np.searchsorted(rows["first1"].to_numpy(), first - self._widest))
        high = int(np.searchsorted(rows["first1"].to_numpy(), first + bins))
        rows = rows[low:high]
        rows = rows[(rows["last1"] > first) & (rows["last2"] > first)]
        rows = rows[rows["first2"] < first + bins]
        places = list(_CODES)[1:-1]
        return rows.assign(**{name: rows[name] - first for name in places})

    @property
    def _widest(self) -> int:
        """Bins of the longest first anchor."""
        return int((self.table["last1"] - self.table["first1"]).max()) if len(self) else 0

    def save(self, path: str | Path) -> None:
        """Write it as npz."""
        about = {"assembly": self.genome.assembly, "bin_bp": self.bin_bp, "version": DATA_VERSION}
        columns = {name: self.table[name].to_numpy() for name in _CODES}
        with atomic(path) as tmp, open(tmp, "wb") as file:
            np.savez_compressed(file, **columns, **about)

    @classmethod
    def load(cls, path: str | Path, genome: Genome) -> Loops:
        """Read it. Raises InputError if it is missing, damaged or of another genome."""
        again = "delete it and make it again"
        try:
            with np.load(path, allow_pickle=False) as file:
                table = pd.DataFrame({name: file[name] for name in _CODES})
                told = str(file["assembly"]), int(file["version"])
                bin_bp = int(file["bin_bp"])
        except FileNotFoundError:
            raise InputError(path, "there is no such file; make the loops first") from None
        except (OSError, ValueError, KeyError, EOFError) as err:
            raise InputError(path, f"is damaged ({err}); {again}") from err
        if told != (genome.assembly, DATA_VERSION):
            raise InputError(
                path, f"is of {told[0]}, version {told[1]}, not {genome.assembly}, "
                f"{DATA_VERSION}; {again}"
            )  # fmt: skip
        return cls(genome, bin_bp, table)


def contact_rows(
    loops: Loops,
    region: tuple[str, int],
    bins: int = REGION_BINS,
    near: int = NEAR,
) -> np.ndarray:
    """Contacts of a region, float32 [bins, bins]: every row sums to 1, or is 0 without a loop.

    Args:
        region: chromosome and start in bases, a multiple of the bin.
        near: bins on both sides of the diagonal that are set to 0, besides itself.
    """
    chrom, start = region
    if start % loops.bin_bp:
        raise InputError(f"region {chrom}:{start}", f"is no multiple of {loops.bin_bp}; shift it")
    found = np.zeros((bins, bins))
    for row in loops.inside(chrom, start // loops.bin_bp, bins).itertuples(index=False):
        share = row.weight / ((row.last1 - row.first1) * (row.last2 - row.first2))
        one, two = (
            slice(max(low, 0), min(high, bins))
            for low, high in ((row.first1, row.last1), (row.first2, row.last2))
        )
        found[one, two] += share
        found[two, one] += share
    for k in range(-near, near + 1):
        rows = np.arange(max(0, -k), min(bins, bins - k))
        found[rows, rows + k] = 0
    total = found.sum(axis=1, keepdims=True)
    return np.divide(found, total, out=np.zeros_like(found), where=total > 0).astype(np.float32)
