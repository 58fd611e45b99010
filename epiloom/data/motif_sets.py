"""Motifs as they are scanned for: log odds, thresholds, and the factors (TFs) that they stand for.

A score is the sum over a site's positions of ln(probability / background). The background has equal
shares of G and C and of A and T, so that both strands of a site are scored alike.

    rule "p"         smallest score that a random site reaches with a probability below `value`
    rule "fraction"  `value` times the largest score of the motif
    rule "homer"     the threshold of the HOMER file
    rule "none"      every site with a score above 0

The default is p < 0.001 with equal bases: about a fifth of all (128-bp bin, TF) entries of
HOCOMOCO v11 are then not 0, as in EpiGePT's own feature (27 %).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from epiloom.data import motif_files
from epiloom.data.files import open_bytes
from epiloom.plan.errors import InputError

RULES = ("p", "fraction", "homer", "none")
GRID = 0.002  # nat; scores are rounded to it where p-values are counted
SHOWN = 20  # problems told of one file
_MOTIF_COLUMNS = ("model", "motif")
_TF_COLUMNS = ("transcription factor", "symbol", "tf")


@dataclass(frozen=True)
class Rule:
    """How odds are taken and which sites count (see the top of this file).

    `pseudocount` s turns probabilities p into (p + s x background) / (1 + s); `gc` is the share of
    G and C in the background of both scores and p-values.
    """

    threshold: str = "p"
    value: float = 1e-3
    pseudocount: float = 0.0
    gc: float = 0.5

    def __post_init__(self):
        problems = []
        if self.threshold not in RULES:
            problems.append(f"threshold {self.threshold!r}; give one of {', '.join(RULES)}")
        if self.threshold in RULES[:2] and not 0 < self.value <= 1:
            problems.append(f"value {self.value}; give a number above 0 and at most 1")
        if not self.pseudocount >= 0:
            problems.append(f"pseudocount {self.pseudocount}; give 0 or more")
        if not 0 < self.gc < 1:
            problems.append(f"gc {self.gc}; give a share between 0 and 1")
        if problems:
            raise InputError("motif rule", problems)

    @property
    def background(self) -> np.ndarray:
        """Shares of A, C, G, T, float64 [4]."""
        return np.array([1 - self.gc, self.gc, self.gc, 1 - self.gc]) / 2


@dataclass(frozen=True)
class MotifSet:
    """Motifs with log odds and thresholds, and which TFs they stand for.

    Attributes:
        names: of the motifs [M]; log_odds: float64 [width, 4] each (A, C, G, T), in nat.
        thresholds: float64 [M]; a site counts if its score is above 0 and not below it.
        tfs: names of the TFs, the order of all columns [K].
        pairs: int64 [pairs, 2] of (TF, motif), sorted; each TF has a motif.
        rule: how odds and thresholds were made.
    """

    names: tuple[str, ...]
    log_odds: tuple[np.ndarray, ...]
    thresholds: np.ndarray
    tfs: tuple[str, ...]
    pairs: np.ndarray
    rule: Rule = Rule()

    @property
    def widths(self) -> np.ndarray:
        """Positions of each motif, int64 [M]."""
        return np.array([len(m) for m in self.log_odds], np.int64)

    @property
    def largest(self) -> float:
        """The largest score that any site can have, in nat."""
        return float(max(m.max(axis=1).sum() for m in self.log_odds))

    @property
    def checksum(self) -> str:
        """SHA-256 of names, log odds (to 1e-6), thresholds, TFs in their order, and the rule."""
        told = hashlib.sha256(json.dumps([*self.names, "", *self.tfs, vars(self.rule)]).encode())
        thresholds = np.where(np.isfinite(self.thresholds), self.thresholds, 1e6)
        for array in (*self.log_odds, thresholds):
            told.update(np.rint(np.asarray(array) * 1e6).astype("<i8").tobytes())
        told.update(self.pairs.astype("<i8").tobytes())
        return told.hexdigest()

    def of(self, tfs: Sequence[str]) -> MotifSet:
        """The same for these TFs in this order. Raises InputError for those without a motif."""
        place = {tf: k for k, tf in enumerate(self.tfs)}
        absent = [tf for tf in tfs if tf not in place]
        problems = [f"no motif for {', '.join(absent)}; leave them out"] * bool(absent)
        if len(set(tfs)) != len(tfs) or not len(tfs):
            problems.append("the list is empty or names a TF twice; list each once")
        if problems:
            raise InputError("list of TFs", problems)
        found = [(k, m) for k, tf in enumerate(tfs) for m in self._of(place[tf])]
        used = sorted({m for _, m in found})
        renamed = {m: i for i, m in enumerate(used)}
        pairs = np.array(sorted((k, renamed[m]) for k, m in found), np.int64)
        return MotifSet(
            tuple(self.names[m] for m in used),
            tuple(self.log_odds[m] for m in used),
            self.thresholds[used],
            tuple(tfs),
            pairs,
            self.rule,
        )

    def _of(self, tf: int) -> list[int]:
        return self.pairs[self.pairs[:, 0] == tf, 1].tolist()


def read_motif_set(
    path: str | Path,
    table: str | Path | None = None,
    tfs: Sequence[str] | None = None,
    rule: Rule | None = None,
) -> MotifSet:
    """Motifs of a file and the TFs of a table.

    Args:
        path: MEME text, HOMER, JASPAR or HOCOMOCO counts; plain or gzip.
        table: see `read_tf_table`; None: every motif is its own TF. Motifs without a TF are left
            out.
        tfs: TFs wanted, in this order; None: all, sorted by name.

    Raises:
        InputError: unreadable files, probabilities of 0 without a pseudocount, HOMER thresholds
            that the file lacks, no motif with a TF; all problems of a file at once.
    """
    rule = rule or Rule()
    homer = _homer(path)
    motifs = [m for m, _ in homer] if homer else motif_files.read(path)
    own = np.array([t for _, t in homer], float) if homer else None
    owners = read_tf_table(table) if table else [(m.name, m.name) for m in motifs]
    by_name: dict[str, list[int]] = {}
    for i, motif in enumerate(motifs):
        by_name.setdefault(motif.name, []).append(i)
    found = {(tf, i) for name, tf in owners for i in by_name.get(name, [])}
    if not found:
        raise InputError(
            table or path, f"names no motif of {path}; give the table of this collection"
        )
    names = sorted({tf for tf, _ in found})
    place = {tf: k for k, tf in enumerate(names)}
    odds = _log_odds(path, motifs, rule)
    whole = MotifSet(
        tuple(m.name for m in motifs),
        tuple(odds),
        _thresholds(path, odds, own, rule),
        tuple(names),
        np.array(sorted((place[tf], i) for tf, i in found), np.int64),
        rule,
    )
    return whole.of(names if tfs is None else tfs)


def _log_odds(path: str | Path, motifs: list[motif_files.Motif], rule: Rule) -> list[np.ndarray]:
    back, share = rule.background, rule.pseudocount
    odds, zeros = [], []
    for motif in motifs:
        p = (motif.probabilities + share * back) / (1 + share)
        if (p <= 0).any():
            zeros.append(motif.name)
        with np.errstate(divide="ignore"):
            odds.append(np.log(p / back))
    if zeros:
        raise InputError(
            path,
            f"{len(zeros)} motifs hold probabilities of 0 ({', '.join(zeros[:5])}), whose logarithm"
            " has no value; give a pseudocount, such as 0.001",
        )
    return odds


def _thresholds(path, odds: list[np.ndarray], own: np.ndarray | None, rule: Rule) -> np.ndarray:
    if rule.threshold == "homer" and own is None:
        raise InputError(path, "has no thresholds of its own; give a HOMER file or another rule")
    if rule.threshold == "homer":
        return own
    if rule.threshold == "none":
        return np.zeros(len(odds))
    if rule.threshold == "fraction":
        return np.array([rule.value * m.max(axis=1).sum() for m in odds])
    return np.array([score_at(m, rule.value, rule.background) for m in odds])


def score_at(log_odds: np.ndarray, p: float, background: np.ndarray) -> float:
    """The smallest score with P(a random site has it or more) < p; infinite if there is none.

    Counted exactly by dynamic programming over positions, scores rounded to GRID per position.

    Args:
        log_odds: [width, 4]; background: shares of the bases [4].
    """
    steps = np.rint(log_odds / GRID).astype(np.int64)
    low = steps.min(axis=1)
    chance = np.ones(1)
    for row, least in zip(steps, low, strict=True):
        more = row - least
        grown = np.zeros(len(chance) + int(more.max()))
        for step, share in zip(more.tolist(), background.tolist(), strict=True):
            grown[step : step + len(chance)] += share * chance
        chance = grown
    beyond = np.cumsum(chance[::-1])[::-1]
    rare = np.flatnonzero((beyond < p * (1 - 1e-9)) & (chance > 0))
    # Half a step below, so that the site itself, which is not rounded, is not lost.
    return float((rare[0] + low.sum() - 0.5) * GRID) if len(rare) else float("inf")


def read_tf_table(path: str | Path) -> list[tuple[str, str]]:
    """(motif, TF) of every line; a motif may have several TFs and a TF several motifs.

    Two columns with tabs and no header, or HOCOMOCO's annotation (columns `Model` and
    `Transcription factor`; also `motif` or `model` with `TF` or `symbol`).

    Raises:
        InputError: missing, unreadable, lines without two columns (all of them), nothing in it.
    """
    try:
        with open_bytes(path) as file:
            lines = file.read().decode().splitlines()
    except FileNotFoundError:
        raise InputError(path, "there is no such file; check the path") from None
    except (OSError, EOFError, ValueError) as err:
        raise InputError(path, f"cannot be read as text ({err}); get it again") from err
    rows = [(i, line.split("\t")) for i, line in enumerate(lines, 1) if line.strip()]
    rows = [(i, fields) for i, fields in rows if not fields[0].startswith("#")]
    head = [field.strip().lower() for field in rows[0][1]] if rows else []
    motif = next((head.index(c) for c in _MOTIF_COLUMNS if c in head), None)
    tf = next((head.index(c) for c in _TF_COLUMNS if c in head), None)
    if motif is None or tf is None:
        motif, tf = 0, 1
    else:
        rows = rows[1:]
    short = [i for i, fields in rows if len(fields) <= max(motif, tf)]
    problems = [f"line {i}: has no columns MOTIF, tab, TF; correct it" for i in short[:SHOWN]]
    problems += [f"... and {len(short) - SHOWN} more"] * (len(short) > SHOWN)
    if problems:
        raise InputError(path, problems)
    pairs = [(fields[motif].strip(), fields[tf].strip()) for _, fields in rows]
    pairs = [(m, t) for m, t in pairs if m and t and t.lower() not in ("na", "nan", "-")]
    if not pairs:
        raise InputError(path, "names no motif; give lines of MOTIF, tab, TF")
    return pairs


def _homer(path: str | Path) -> list[tuple[motif_files.Motif, float]] | None:
    """Motifs and thresholds of a HOMER file; None if it is none. Names may be there twice.

    `>consensus <tab> name <tab> threshold ...`, then a line of four probabilities per position.
    """
    try:
        with open_bytes(path) as file:
            lines = file.read().decode().splitlines()
    except (OSError, EOFError, ValueError):
        return None  # `motif_files.read` says what is wrong
    heads = [line.split("\t") for line in lines if line.startswith(">")]
    if not heads or len(heads[0]) < 3 or motif_files._numbers(heads[0][2:3]) is None:
        return None
    found, problems, rows = [], [], []
    blocks: list[tuple[list[str], list]] = []
    for line in lines:
        if line.startswith(">"):
            rows = []
            blocks.append((line.split("\t"), rows))
        elif line.strip() and not line.startswith("#"):
            rows.append(motif_files._numbers(line.split()) or ())
    for fields, rows in blocks:
        problem, matrix = motif_files._matrix(rows)
        threshold = motif_files._numbers(fields[2:3])
        if not problem and not threshold:
            problem = "has no threshold in the third column"
        if problem:
            problems.append(f"motif {fields[1:2] or fields}: {problem}; get the file again")
        else:
            found.append((motif_files.Motif(fields[1].strip(), matrix), threshold[0]))
    if problems:
        more = len(problems) - SHOWN
        raise InputError(path, problems[:SHOWN] + [f"... and {more} more"] * (more > 0))
    return found
