"""Files of known binding motifs: MEME text, JASPAR and HOCOMOCO's tables of counts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from epiloom.data.files import atomic, open_bytes
from epiloom.plan.errors import InputError

PSEUDO = 0.5  # added to every count of a table of counts


@dataclass(frozen=True)
class Motif:
    """A motif; `probabilities` float64 [width, 4] (A, C, G, T), each row with sum 1."""

    name: str
    probabilities: np.ndarray


def read(path: str | Path) -> list[Motif]:
    """Read motifs, plain or gzip; the format is recognised.

    MEME: blocks `MOTIF name`, `letter-probability matrix: ...`, a line of four numbers per
    position. JASPAR: `>name`, then lines `A [ 1 2 3 ]` for A, C, G, T. HOCOMOCO (pcm, pwm not):
    `>name`, then a line of four counts per position.

    Raises:
        InputError: not such a file, malformed matrices, names twice; all problems at once.
    """
    try:
        with open_bytes(path) as file:
            lines = file.read().decode().splitlines()
    except FileNotFoundError:
        raise InputError(path, "there is no such file; check the path") from None
    except (OSError, EOFError, ValueError) as err:
        raise InputError(path, f"cannot be read as text ({err}); get it again") from err
    blocks = _meme(lines) if any(line.startswith("MOTIF") for line in lines) else _tables(lines)
    motifs: dict[str, Motif] = {}
    problems = []
    for name, rows in blocks:
        problem, matrix = _matrix(rows)
        if problem:
            problems.append(f"motif {name}: {problem}; correct it or get the file again")
        elif name in motifs:
            problems.append(f"motif {name} is there twice; keep one of the two")
        else:
            motifs[name] = Motif(name, matrix)
    if not blocks:
        problems.append("holds no motif; give MEME text, JASPAR or HOCOMOCO count tables")
    if problems:
        more = len(problems) - 20
        raise InputError(path, problems[:20] + [f"... and {more} more"] * (more > 0))
    return list(motifs.values())


def _meme(lines: list[str]) -> list[tuple[str, list]]:
    """(name, rows [width][4]) of each block; rows end at the first line without numbers."""
    blocks: list[tuple[str, list]] = []
    inside = False
    for line in lines:
        words = line.split()
        if words[:1] == ["MOTIF"]:
            blocks.append((words[1] if len(words) > 1 else "?", []))
            inside = False
        elif line.startswith("letter-probability matrix") and blocks:
            inside = True
        elif inside and words and _numbers(words) is not None:
            blocks[-1][1].append(_numbers(words))
        elif words:
            inside = False
    return blocks


def _tables(lines: list[str]) -> list[tuple[str, list]]:
    """(name, rows of four) of each block that begins with `>`."""
    blocks: list[tuple[str, list]] = []
    by_base: dict[str, list] = {}
    for line in lines:
        if line.startswith(">"):
            blocks.append(((line[1:].split() or ["?"])[0], []))
            by_base = {}
        elif blocks and (found := re.fullmatch(r"\s*([ACGT])\s*\[?([^\]]*)\]?\s*", line)):
            by_base[found[1]] = _numbers(found[2].split()) or []
            if len(by_base) == 4:
                same = len({len(values) for values in by_base.values()}) == 1
                columns = [by_base[base] for base in "ACGT"]
                blocks[-1][1].extend(zip(*columns, strict=True) if same else [()])
        elif blocks and line.strip():
            blocks[-1][1].append(_numbers(line.split()) or ())
    return blocks


def _numbers(words: list[str]) -> list[float] | None:
    try:
        return [float(word) for word in words]
    except ValueError:
        return None


def _matrix(rows: list) -> tuple[str, np.ndarray]:
    """What is wrong (or ""), and the probabilities."""
    none = np.zeros((0, 4))
    if not rows:
        return "has no matrix", none
    if any(len(row) != 4 for row in rows):
        return "a line has not four numbers", none
    values = np.array(rows, float)
    if not np.isfinite(values).all() or (values < 0).any() or (values.sum(axis=1) <= 0).any():
        return "holds numbers below 0 or rows without any", none
    if not np.allclose(values.sum(axis=1), 1, atol=0.02):
        values = values + PSEUDO
    return "", values / values.sum(axis=1, keepdims=True)


def write_meme(path: str | Path, motifs: list[Motif], sites: list[int] | None = None) -> None:
    """Write motifs as MEME text, which most motif tools read."""
    lines = ["MEME version 4", "", "ALPHABET= ACGT", "", "strands: + -", ""]
    for i, motif in enumerate(motifs):
        count = sites[i] if sites else 20
        width = len(motif.probabilities)
        lines += [f"MOTIF {motif.name}"]
        lines += [f"letter-probability matrix: alength= 4 w= {width} nsites= {count}"]
        lines += ["\t".join(f"{v:.6f}" for v in row) for row in motif.probabilities.tolist()]
        lines += [""]
    with atomic(path) as tmp:
        tmp.write_text("\n".join(lines))
