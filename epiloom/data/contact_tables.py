"""Tables of contacts in all their forms, read in chunks of text columns.

Only pairs with a score above `min_score` are kept, so that memory follows what is kept and not the
size of the file. Fragments are 0-based half-open.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import logging
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

BEDPE = ["chrom1", "start1", "end1", "chrom2", "start2", "end2"]
GENE_TABLE = ["gene_id", "chrom", "start", "end", "score"]
LISTS = ["gene_id", "neighbors", "scores"]  # of the published gene table, joined by ;
SCORES = ("score", "dist_res")  # columns taken as the score when none is named after the tissue
CHUNK_LINES = 500_000
MISSING = ["", ".", "NA", "NaN", "nan"]
_NAME = re.compile(r"^([^:\s]+)[.:](\d+)[.-](\d+)$")  # chr1.100.200 or chr1:100-200
_MAGIC = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open}


@dataclass(frozen=True)
class Pairs:
    """Scored pairs of fragments: `first` is the side a promoter may lie in, `second` its partner.

    Attributes:
        fragments: chrom, start, end, one row per fragment.
        first, second: rows of `fragments`, int64 [pairs]; no pair twice.
        score: float64 [pairs].
    """

    fragments: pd.DataFrame
    first: np.ndarray
    second: np.ndarray
    score: np.ndarray


@dataclass(frozen=True)
class GenePartners:
    """Partners given gene by gene: `table` holds the columns GENE_TABLE."""

    table: pd.DataFrame


class ContactTable:
    """A table with tabs (or commas) between columns, plain, gzip or bzip2."""

    def __init__(self, path: str | Path, cell: str, tissue: str, min_score: float):
        self.path, self.cell, self.tissue, self.min_score = Path(path), cell, tissue, min_score
        self.separator = "\t"
        self.skip, fields = self._first_line()
        # BEDPE needs no header: its first line is then already a pair.
        self.headless = len(fields) >= 8 and all(fields[i].isdigit() for i in (1, 2, 4, 5))
        if self.headless:
            fields = [*BEDPE, "name", "score", *(f"column{i}" for i in range(9, len(fields) + 1))]
        else:
            self.skip += 1
        self.columns = fields
        self.highest, self.lines = -np.inf, 0

    def _open(self):
        with self.path.open("rb") as file:
            opener = _MAGIC.get(file.read(2), open)
        return opener(self.path, "rb")

    def _first_line(self) -> tuple[int, list[str]]:
        try:
            with self._open() as file:
                for skip in range(1000):
                    line = file.readline(1_000_000).decode(errors="replace").rstrip("\r\n")
                    if line.startswith(("##", "track", "browser")):
                        continue
                    if line:
                        return skip, self._fields(line)
                    break
        except FileNotFoundError:
            raise InputError(self.path, "there is no such file; check the path") from None
        except (OSError, EOFError, zlib.error) as err:
            raise InputError(self.path, f"cannot be read ({err}); download it again") from err
        raise InputError(self.path, "has no line with column names; give a table of contacts")

    def _fields(self, line: str) -> list[str]:
        """Names in the first line, which also tells what separates the columns."""
        line = line.removeprefix("\ufeff")
        if "\t" not in line and "," in line:
            self.separator = ","
            line = "\t".join(next(csv.reader([line])))
        return [field.strip().lstrip("#") for field in line.split("\t")]

    def _chunks(self, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Chunks of text columns, index = line number in the file."""
        try:
            with (
                self._open() as file,
                pd.read_csv(
                    file,
                    sep=self.separator,
                    header=None,
                    names=self.columns,
                    usecols=list(columns),
                    skiprows=self.skip,
                    dtype=str,
                    chunksize=CHUNK_LINES,
                    na_filter=False,
                    quoting=csv.QUOTE_NONE if self.separator == "\t" else csv.QUOTE_MINIMAL,
                    index_col=False,
                ) as chunks,
            ):
                for chunk in chunks:
                    chunk.index += self.skip + 1
                    self.lines += len(chunk)
                    yield chunk
        except pd.errors.EmptyDataError:
            return
        except (OSError, EOFError, zlib.error, pd.errors.ParserError, UnicodeDecodeError) as err:
            raise InputError(self.path, f"is malformed ({err}); download it again") from err

    def _numbers(self, values: pd.Series, what: str) -> np.ndarray:
        """float64 with NaN where the field is empty.

        Raises:
            InputError: naming the first fields that are no number.
        """
        numbers = pd.to_numeric(values.where(~values.isin(MISSING)), errors="coerce")
        bad = values[numbers.isna() & ~values.isin(MISSING)]
        if len(bad):
            raise InputError(
                self.path,
                [
                    f"line {line}: column {what}: {text!r} is no number; correct the line"
                    for line, text in bad.head(20).items()
                ],
            )
        return numbers.to_numpy(np.float64)

    def _kept(self, chunk: pd.DataFrame, score: str) -> pd.DataFrame:
        """Rows of this cell with a score above the smallest one; column `score` as numbers."""
        for column in ("cell", "tissue"):
            if column in chunk:
                chunk = chunk[chunk[column].isin([self.cell, self.tissue])]
        numbers = self._numbers(chunk[score], score)
        if np.isfinite(numbers).any():
            self.highest = max(self.highest, np.nanmax(numbers))
        with np.errstate(invalid="ignore"):
            keep = numbers > self.min_score
        return chunk[keep].assign(score=numbers[keep])

    def _joined(self, parts: list[pd.DataFrame]) -> pd.DataFrame:
        """All rows that were kept; none is refused."""
        kept = sum(len(part) for part in parts)
        log.info("%s: %d of %d pairs above %g", self.path, kept, self.lines, self.min_score)
        if kept:
            return pd.concat(parts)
        whom = " or ".join(filter(None, [self.cell, self.tissue])) or "this cell"
        if np.isfinite(self.highest):
            raise InputError(
                self.path,
                f"none of its {self.lines} pairs has a score above contacts.min_score = "
                f"{self.min_score:g} for {whom} (highest: {self.highest:g}); lower "
                "contacts.min_score, or give another table or tissue",
            )
        raise InputError(
            self.path,
            f"none of its {self.lines} lines is a scored pair for {whom}; give another table, or "
            "name its tissue in contacts.tissues",
        )

    def _read(self, columns: Sequence[str], score: str) -> pd.DataFrame:
        extra = [c for c in ("cell", "tissue") if c in self.columns and c not in columns]
        wanted = [*dict.fromkeys([*columns, score, *extra])]
        return self._joined([self._kept(chunk, score) for chunk in self._chunks(wanted)])

    def gene_partners(self) -> GenePartners:
        rows = self._read(GENE_TABLE, "score")[GENE_TABLE]
        rows = self._intervals(rows, "start", "end")
        return GenePartners(rows.assign(gene_id=rows["gene_id"].str.split(".").str[0]))

    def neighbour_lists(self) -> GenePartners:
        """One line per gene, and per cell if there is a column eid: partners and scores as lists.

        Raises:
            InputError: no line of the cell, unequal or malformed lists, a gene with two lists; all
                problems at once.
        """
        table = self._of_cell()
        rows, problems = [], []
        for line, gene, neighbours, scores in table.itertuples():
            found, wrong = _listed(neighbours, scores)
            rows += [(gene.split(".")[0], *pair) for pair in found]
            problems += [f"line {line}: gene {gene}: {problem}; correct it" for problem in wrong]
        for gene in table["gene_id"][table["gene_id"].duplicated()].unique():
            problems.append(
                f"gene {gene} has two lists of neighbors; keep one line per gene, or name the cell "
                "of each line in a column eid"
            )
        if problems:
            more = [f"... and {len(problems) - 20} more"] * (len(problems) > 20)
            raise InputError(self.path, problems[:20] + more)
        pairs = pd.DataFrame(rows, columns=GENE_TABLE)
        self.lines = len(pairs)
        self.highest = pairs["score"].max() if rows else self.highest
        return GenePartners(self._joined([pairs[pairs["score"] > self.min_score]]))

    def _of_cell(self) -> pd.DataFrame:
        """The columns LISTS of this cell's lines, repeated lines once."""
        column = next((c for c in ("eid", "cell") if c in self.columns), None)
        parts, seen = [pd.DataFrame(columns=LISTS, dtype=str)], set()
        for chunk in self._chunks([*LISTS, *([column] if column else [])]):
            if column:
                seen.update(chunk[column].unique())
                chunk = chunk[chunk[column] == self.cell]
            parts.append(chunk[LISTS])
        if column and self.cell not in seen:
            raise InputError(
                self.path,
                f"column {column} has no {self.cell}; it has {', '.join(sorted(seen)[:40])}: add "
                "the cell's lines, or give a table of its own with {cell} in contacts.file",
            )
        return pd.concat(parts).drop_duplicates()

    def bedpe(self) -> Pairs:
        if "score" not in self.columns:
            raise InputError(
                self.path, f"has no column score; it has {', '.join(self.columns)}: add the scores"
            )
        rows = self._read(BEDPE, "score")
        # "." and -1 stand for an end that is not known.
        rows = rows[(rows["chrom1"] != ".") & (rows["chrom2"] != ".")]
        rows = self._intervals(self._intervals(rows, "start1", "end1"), "start2", "end2")
        ends = [
            rows[[f"chrom{i}", f"start{i}", f"end{i}"]].set_axis(["chrom", "start", "end"], axis=1)
            for i in (1, 2)
        ]
        both = pd.concat(ends, ignore_index=True)
        code, fragments = _unique(both)
        return _pairs(fragments, code[: len(rows)], code[len(rows) :], rows["score"].to_numpy())

    def _intervals(self, rows: pd.DataFrame, start: str, end: str) -> pd.DataFrame:
        low, high = self._numbers(rows[start], start), self._numbers(rows[end], end)
        bad = rows[~((low >= 0) & (high > low) & (low % 1 == 0) & (high % 1 == 0))]
        if len(bad):
            lines = [f"line {n}: {start} and {end} are no region; correct it" for n in bad.index]
            raise InputError(self.path, lines[:20])
        return rows.assign(**{start: low.astype(np.int64), end: high.astype(np.int64)})

    # --- fragment pairs: one line per pair, fragments named chr.start.end

    def fragment_pairs(self, one_tissue: bool) -> Pairs:
        sample = next(self._chunks(self.columns), pd.DataFrame(columns=self.columns, dtype=str))
        self.lines = 0
        first, second = self._fragment_columns(sample)
        score, tissue_column = self._score_columns(sample, {first, second}, one_tissue)
        columns = [first, second, *([tissue_column] if tissue_column else [])]
        if tissue_column:
            rows = self._read_tissue(columns, tissue_column, score)
        else:
            rows = self._read([first, second], score)
        names = pd.concat([rows[first], rows[second]], ignore_index=True)
        code, unique = pd.factorize(names)
        fragments = named(unique, self.path)
        return _pairs(fragments, code[: len(rows)], code[len(rows) :], rows["score"].to_numpy())

    def _read_tissue(self, columns: list[str], tissue_column: str, score: str) -> pd.DataFrame:
        kept, seen, wanted = [], set(), {self.cell, self.tissue} - {""}
        for chunk in self._chunks([*columns, score]):
            seen.update(chunk[tissue_column].unique())
            kept.append(self._kept(chunk[chunk[tissue_column].isin(wanted)], score))
        if not wanted & seen:
            raise InputError(
                self.path,
                f"column {tissue_column} has no {' or '.join(sorted(wanted))}; it has "
                f"{', '.join(sorted(seen)[:40])}: name one of these in contacts.tissues",
            )
        return self._joined(kept)

    def _fragment_columns(self, sample: pd.DataFrame) -> tuple[str, str]:
        """The two columns of fragments: frag1 and frag2, else the first two that look like it."""
        if {"frag1", "frag2"} <= set(self.columns):
            return "frag1", "frag2"
        head = sample.head(100)
        alike = [c for c in self.columns if len(head) and head[c].str.match(_NAME).all()]
        if len(alike) < 2:
            raise InputError(
                self.path,
                f"its columns ({', '.join(self.columns[:30])}) are neither frag1, frag2 (fragments "
                f"as chr.start.end) and a score, nor {', '.join(BEDPE)}, score, nor "
                f"{', '.join(GENE_TABLE)}, nor {', '.join(LISTS)}; name the columns, or give "
                "another table",
            )
        return alike[0], alike[1]

    def _score_columns(
        self, sample: pd.DataFrame, fragments: set[str], one_tissue: bool
    ) -> tuple[str, str | None]:
        """Column of the score, and column that names the tissue if there is one."""
        if self.tissue and self.tissue in self.columns:
            return self.tissue, None
        others = [c for c in self.columns if c not in fragments]
        score = next((c for c in SCORES if c in others), None)
        texts = [c for c in ("tissue", "cell", "cell_type", "celltype") if c in others]
        texts += [c for c in others if (sample[c] == self.tissue).any() and c not in texts]
        if score and texts:
            return score, texts[0]
        if score and one_tissue:
            return score, None
        raise InputError(
            self.path,
            f"has no score for tissue {self.tissue!r}: neither a column of that name, nor a column "
            f"{' or '.join(SCORES)} beside a column tissue or cell; it has "
            f"{', '.join(others[:40]) or 'no other column'}: name one of these in "
            "contacts.tissues, or give another table",
        )


def _listed(neighbours: str, scores: str) -> tuple[list[tuple], list[str]]:
    """(chrom, start, end, score) of one gene's partners, and what is wrong with its lists."""
    names, told = (
        [] if text.strip() in MISSING else [t.strip() for t in text.split(";")]
        for text in (neighbours, scores)
    )
    if len(names) != len(told):
        return [], [f"{len(names)} neighbors, but {len(told)} scores"]
    pairs, problems = [], []
    for name, text in zip(names, told, strict=True):
        place, score = _NAME.match(name), pd.to_numeric(text, errors="coerce")
        if not place or int(place[2]) >= int(place[3]):
            problems.append(f"neighbor {name!r} is not written as chr:start-end, start before end")
        elif not np.isfinite(score):
            problems.append(f"score {text!r} of {name} is no number")
        else:
            pairs.append((place[1], int(place[2]), int(place[3]), float(score)))
    return pairs, problems


def named(names: Sequence[str], path: str | Path) -> pd.DataFrame:
    """chrom, start, end of fragments named chr.start.end or chr:start-end."""
    found = pd.Series(names, dtype=str).str.extract(_NAME)
    low, high = (pd.to_numeric(found[i], errors="coerce") for i in (1, 2))
    bad = np.flatnonzero(~(high > low).to_numpy())
    if len(bad):
        raise InputError(
            path,
            f"{len(bad)} fragments are not written as chr.start.end with start before end (first: "
            f"{', '.join(repr(names[i]) for i in bad[:5])}); correct them",
        )
    return pd.DataFrame(
        {"chrom": found[0], "start": low.astype(np.int64), "end": high.astype(np.int64)}
    )


def _unique(regions: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame]:
    """Row of each region among the unique ones, and these."""
    grouped = regions.groupby(["chrom", "start", "end"], sort=False)
    return grouped.ngroup().to_numpy(np.int64), regions.drop_duplicates(ignore_index=True)


def _pairs(fragments, first, second, score) -> Pairs:
    """Pairs that count from both sides; of a pair given twice the higher score is kept."""
    one, two = np.concatenate([first, second]), np.concatenate([second, first])
    return without_twins(fragments, one, two, np.concatenate([score, score]))


def without_twins(fragments, first, second, score) -> Pairs:
    order = np.lexsort((-score, second, first))
    first, second, score = first[order], second[order], score[order]
    new = np.ones(len(first), bool)
    new[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    new &= first != second
    return Pairs(fragments, first[new].astype(np.int64), second[new].astype(np.int64), score[new])
