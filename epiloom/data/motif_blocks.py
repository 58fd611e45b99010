"""Best motif scores of all bins of a genome, written once per genome and motif set for all cells.

    motifs{B}/{name}.npy          uint8 [genome.total(B), K]: score / step, 0 = no site counted
    motifs{B}/{name}.flags.npy    uint8 [genome.total(B)]: 0 scanned, 1 not asked for
    motifs{B}/{name}.json         TFs in their order, step, error, rule, checksum of the motif set

Only sequence matters, so the block is the same for every cell: the cell's expression is multiplied
with it where a model reads it. Bins of 4 = N have no site and are 0, which is then the truth.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from epiloom.data.bed import read_bed
from epiloom.data.files import atomic
from epiloom.data.genome import Genome
from epiloom.data.motif_sets import MotifSet
from epiloom.data.sequence import stored_bases
from epiloom.data.vectors import new_matrix, open_matrix
from epiloom.plan.errors import InputError
from epiloom.plan.runs import DATA_VERSION

log = logging.getLogger("epiloom")

BIN_BP = 128
NOT_SCANNED = 1
BLOCK_BP = 1 << 20  # bases of one progress step, whole bins
HITS = 1 << 20  # lines of HOMER's output read at a time


def checksum(tfs: list[str]) -> str:
    """Fingerprint of TFs and their order."""
    return hashlib.sha256("\n".join(tfs).encode()).hexdigest()


def write_motif_block(
    store_folder: str | Path,
    genome: Genome,
    motifs: MotifSet,
    out: str | Path,
    flags_out: str | Path,
    about_out: str | Path,
    regions: str | Path | None = None,
    threads: int = 1,
    bin_bp: int = BIN_BP,
) -> dict:
    """Scan the sequence of a store.

    Args:
        genome: must be the store's.
        out, flags_out, about_out: files to write (see the top of this file); the last tells that
            the others are whole.
        regions: BED; only bins that hold a base of it are scanned. None: all.

    Returns:
        What `about_out` holds.

    Raises:
        InputError: no sequence in the store, faulty regions.
    """
    from epiloom.data.motifs import Scanner, instructions  # torch is slow to import

    bases, scanner = stored_bases(store_folder, genome), Scanner(motifs)
    wanted = _wanted(genome, bin_bp, regions)
    about = _about(genome, motifs, bin_bp, scanner.step, scanner.max_error, "scan")
    spans = list(_spans(genome, bin_bp, wanted))
    total, done, began = sum(last - first for _, _, first, last in spans), 0, time.monotonic()
    kind = "float32" if scanner.exact else f"int8 ({instructions()})"
    log.info("motifs: %d motifs of %d TFs, %s", len(motifs.names), len(motifs.tfs), kind)
    reach = int(motifs.widths.max())
    with _files(out, flags_out, about_out, about, wanted) as block:
        for chrom, offset, first, last in spans:
            start, end = first * bin_bp, min(last * bin_bp + reach, genome.length(chrom))
            codes = scanner.codes(bases.window(chrom, start, end - start), bin_bp, threads)
            block[offset + first : offset + last] = codes[: last - first]
            done += last - first
            _tell(chrom, done, total, began)
    return about


def import_homer(
    hits: str | Path,
    genome: Genome,
    motifs: MotifSet,
    out: str | Path,
    flags_out: str | Path,
    about_out: str | Path,
    bins: str | Path | None = None,
    bin_bp: int = BIN_BP,
) -> dict:
    """The same files from hits of HOMER (`findMotifsGenome.pl BINS.bed ... -find MOTIFS`).

    Args:
        hits: its output: bin number (from 1) in the first column, motif name in the fourth, score
            in the last. Its own thresholds and window rule hold.
        motifs: only names and TFs are used.
        bins: the BED given to HOMER, a bin of the genome per line; None: all bins of the genome.

    Raises:
        InputError: unreadable hits, bins off the grid, unknown bins or motifs.
    """
    places = _places(genome, bin_bp, bins)
    wanted = np.zeros(genome.total(bin_bp), bool)
    wanted[places] = True
    about = _about(genome, motifs, bin_bp, _step(motifs), 0.0, Path(hits).name)
    factors: dict[str, list[int]] = {}
    for tf, motif in motifs.pairs.tolist():
        factors.setdefault(motifs.names[motif], []).append(tf)
    with _files(out, flags_out, about_out, about, wanted) as block:
        for number, motif, score in _hits(hits, len(places), set(motifs.names)):
            codes = np.clip(np.rint(score / about["step"]), 1, 255).astype(np.uint8)
            rows = places[number - 1]
            for name, at in pd.Series(range(len(motif))).groupby(motif).indices.items():
                for tf in factors.get(str(name), ()):
                    np.maximum.at(block, (rows[at], tf), codes[at])
    return about


def _hits(path: str | Path, bins: int, names: set[str]) -> Iterator[tuple[np.ndarray, ...]]:
    """Bin number, motif name and score of a million lines at a time; scores above 0 only."""
    try:
        for part in pd.read_csv(path, sep="\t", chunksize=HITS):
            if part.shape[1] < 5:
                raise ValueError(f"{part.shape[1]} columns")
            number = pd.to_numeric(part.iloc[:, 0]).to_numpy(np.int64)
            motif = part.iloc[:, 3].astype(str).to_numpy(object)
            score = pd.to_numeric(part.iloc[:, -1]).to_numpy(np.float64)
            problems = []
            if len(number) and (number.min() < 1 or number.max() > bins):
                problems.append(
                    f"bin {number.min()} or {number.max()} is not one of 1 to {bins}; give the BED "
                    "that HOMER read"
                )
            if unknown := sorted(set(motif) - names):
                problems.append(
                    f"motifs {', '.join(unknown[:5])} ({len(unknown)} in all) are not in the motif "
                    "file; give the file that HOMER read"
                )
            if not np.isfinite(score).all():
                problems.append("holds scores that are no numbers; make it again")
            if problems:
                raise InputError(path, problems)
            kept = score > 0
            yield number[kept], motif[kept], score[kept]
    except FileNotFoundError:
        raise InputError(path, "there is no such file; check the path") from None
    except InputError:
        raise
    except (ValueError, OSError, EOFError) as err:
        raise InputError(path, f"is not HOMER's -find output ({err}); make it again") from err


def _places(genome: Genome, bin_bp: int, bins: str | Path | None) -> np.ndarray:
    """Row of the block of each of HOMER's bins, int64 [bins]."""
    if bins is None:
        return np.arange(genome.total(bin_bp))
    table = read_bed(bins, genome)
    start = table["start"].to_numpy(np.int64)
    chrom = np.array([genome.index(str(c)) for c in table["chrom"]], np.int64)
    wrong = (start % bin_bp != 0) | (table["end"].to_numpy(np.int64) - start > bin_bp)
    if wrong.any():
        raise InputError(
            bins,
            f"{int(wrong.sum())} regions are no bins of {bin_bp} bp, the first on line "
            f"{int(wrong.argmax()) + 1}; give starts that are multiples of {bin_bp}",
        )
    return genome.offsets(bin_bp)[chrom] + start // bin_bp


def _wanted(genome: Genome, bin_bp: int, regions: str | Path | None) -> np.ndarray:
    """bool [genome.total(bin_bp)]: bins that hold a base of the regions."""
    if regions is None:
        return np.ones(genome.total(bin_bp), bool)
    wanted, offsets = np.zeros(genome.total(bin_bp), bool), genome.offsets(bin_bp)
    table = read_bed(regions, genome)
    for chrom, start, end in zip(table["chrom"], table["start"], table["end"], strict=True):
        first = int(offsets[genome.index(str(chrom))])
        wanted[first + int(start) // bin_bp : first - (-int(end) // bin_bp)] = True
    return wanted


def _spans(genome: Genome, bin_bp: int, wanted: np.ndarray) -> Iterator[tuple[str, int, int, int]]:
    """(chromosome, its offset, first bin, end) of runs of wanted bins, at most BLOCK_BP long."""
    most, offsets = max(1, BLOCK_BP // bin_bp), genome.offsets(bin_bp).tolist()
    for i, chrom in enumerate(genome.chromosomes):
        here = wanted[offsets[i] : offsets[i + 1]].astype(np.int8)
        edges = np.flatnonzero(np.diff(here, prepend=0, append=0))
        for first, end in edges.reshape(-1, 2).tolist():
            for at in range(first, end, most):
                yield chrom, offsets[i], at, min(at + most, end)


def _step(motifs: MotifSet) -> float:
    from epiloom.data.motifs import step_of

    return step_of(motifs)


def _about(genome, motifs: MotifSet, bin_bp: int, step: float, error: float, source: str) -> dict:
    return {
        "data_version": DATA_VERSION,
        "assembly": genome.assembly,
        "bin_bp": bin_bp,
        "source": source,
        "step": step,
        "max_error": round(error + step / 2, 6),
        "rule": vars(motifs.rule),
        "tfs": list(motifs.tfs),
        "sha256_of_tfs": checksum(list(motifs.tfs)),
        "motifs": len(motifs.names),
        "sha256_of_motifs": motifs.checksum,
    }


@contextlib.contextmanager
def _files(out, flags_out, about_out, about: dict, wanted: np.ndarray) -> Iterator[np.ndarray]:
    """The block to fill, 0 throughout; the JSON is the last to appear."""
    with new_matrix(out, np.uint8, (len(wanted), len(about["tfs"]))) as block:
        yield block
    with atomic(flags_out) as tmp:
        np.save(tmp, np.where(wanted, 0, NOT_SCANNED).astype(np.uint8))
    with atomic(about_out) as tmp:
        tmp.write_text(json.dumps(about, indent=1) + "\n")


def _tell(chrom: str, done: int, total: int, began: float) -> None:
    spent = time.monotonic() - began
    left = spent * (total - done) / max(1, done)
    log.info("motifs: %s, %.0f %% of the bins, %.0f s left", chrom, 100 * done / total, left)


@dataclass(frozen=True)
class MotifBlock:
    """A block as it is read: a memory map and what belongs to it."""

    genome: Genome
    bin_bp: int
    codes: np.ndarray  # uint8 [genome.total(bin_bp), K]
    flags: np.ndarray  # uint8 [genome.total(bin_bp)]
    tfs: list[str]
    step: float  # nat
    about: dict

    @classmethod
    def open(
        cls, manifest: str | Path, codes: str | Path, flags: str | Path, about: str | Path
    ) -> MotifBlock:
        """Open files of `write_motif_block` or `import_homer` on the genome of `manifest`.

        Raises:
            InputError: files that are missing, damaged or do not belong together.
        """
        genome, again = Genome.load(manifest), "delete it and make the motif block again"
        try:
            told = json.loads(Path(about).read_text())
            tfs, bin_bp, step = list(told["tfs"]), int(told["bin_bp"]), float(told["step"])
            same = told["sha256_of_tfs"] == checksum(tfs) and bool(told["sha256_of_motifs"])
            version, assembly = told["data_version"], told["assembly"]
        except FileNotFoundError:
            raise InputError(about, "there is no such file; make the motif block first") from None
        except (KeyError, TypeError, ValueError) as err:
            raise InputError(about, f"is damaged ({err!r}); {again}") from err
        problems = []
        if not same:
            problems.append(f"the TFs are not those of its checksum; {again}")
        if version != DATA_VERSION:
            problems.append(f"data version {version}, this program reads {DATA_VERSION}; {again}")
        if assembly != genome.assembly:
            problems.append(f"made on {assembly}, {manifest} is {genome.assembly}; {again}")
        if problems:
            raise InputError(about, problems)
        total = genome.total(bin_bp)
        block = open_matrix(codes, np.uint8, (total, len(tfs)), "the motif block")
        return cls(
            genome,
            bin_bp,
            block,
            open_matrix(flags, np.uint8, (total,), "the motif block"),
            tfs,
            step,
            told,
        )

    def check(self, tfs: list[str], motifs: str) -> None:
        """Refuse a block of other TFs, another order or another motif set than a model's.

        Args:
            tfs: of the model; motifs: its `sha256_of_motifs`.
        """
        problems = []
        if list(tfs) != self.tfs:
            problems.append("its TFs or their order are not the model's")
        if motifs != self.about["sha256_of_motifs"]:
            problems.append("its motif set or rule is not the model's")
        if problems:
            remedy = "make it with the model's motif file and rule"
            raise InputError("motif block", [f"{p}; {remedy}" for p in problems])

    def scores(self, chrom: str, first: int, end: int) -> np.ndarray:
        """Scores of bins [first, end) of a chromosome in nat, float32 [bins, K].

        Raises:
            InputError: bins outside the chromosome, or not scanned.
        """
        i = self.genome.index(chrom)
        offset, count = self.genome.offsets(self.bin_bp)[i], self.genome.bins(self.bin_bp)[i]
        if not 0 <= first < end <= count:
            raise InputError(f"bins {first}-{end} of {chrom}", f"it has {count}; give some of them")
        rows = slice(int(offset) + first, int(offset) + end)
        if self.flags[rows].any():
            raise InputError(
                f"bins {first}-{end} of {chrom}",
                "were not scanned; make the motif block for regions that hold them",
            )
        return self.codes[rows] * np.float32(self.step)
