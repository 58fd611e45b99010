"""What to simulate: the plan of a run, its random streams, and the chromosomes with their gaps."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from epiloom.plan.errors import InputError

BIN = 25  # bp; resolution of the expected depth and of the signal bigWigs
READ_BP = 36  # length of the consolidated Roadmap reads
ACTIVE_MARKS = ("H3K4me3", "H3K27ac", "H3K9ac")
HISTONE_MARKS = ("H3K4me1", "H3K4me3", "H3K9me3", "H3K27me3", "H3K36me3", "H3K27ac", "H3K9ac")
ASSAYS = (*HISTONE_MARKS, "DNase", "CTCF")
EPIGENOMES = {  # the eleven epigenomes with all seven marks that the expression studies use
    "E003": ("ESC", "ESC.H1", "H1 Cells", "ESC", "PrimaryCulture"),
    "E004": ("ES-deriv", "ESDR.H1.BMP4.MESO", "H1 BMP4 Mesendoderm", "ESC_DERIVED", "ESCDerived"),
    "E005": ("ES-deriv", "ESDR.H1.BMP4.TROP", "H1 BMP4 Trophoblast", "ESC_DERIVED", "ESCDerived"),
    "E006": ("ES-deriv", "ESDR.H1.MSC", "H1 Mesenchymal Stem", "ESC_DERIVED", "ESCDerived"),
    "E007": (
        "ES-deriv",
        "ESDR.H1.NEUR.PROG",
        "H1 Neuronal Progenitor",
        "ESC_DERIVED",
        "ESCDerived",
    ),
    "E016": ("ESC", "ESC.HUES64", "HUES64 Cells", "ESC", "PrimaryCulture"),
    "E066": ("Other", "LIV.ADLT", "Liver", "LIVER", "PrimaryTissue"),
    "E087": ("Other", "PANC.ISLT", "Pancreatic Islets", "PANCREAS", "PrimaryTissue"),
    "E114": ("ENCODE2012", "LNG.A549.ETOH002.CNCR", "A549 EtOH 0.02pct", "LUNG", "CellLine"),
    "E116": ("ENCODE2012", "BLD.GM12878", "GM12878 Lymphoblastoid", "BLOOD", "CellLine"),
    "E118": ("ENCODE2012", "LIV.HEPG2.CNCR", "HepG2 Hepatocellular", "LIVER", "CellLine"),
}


@dataclass(frozen=True)
class Plan:
    """Sizes and contents of a simulated epigenome; equal plans give byte-identical files.

    Attributes:
        seed: every random draw derives from it.
        chromosomes: number of chromosomes, named chr1, chr2, ... (1 to 22).
        length_bp: length of chr1; each further chromosome is about 0.2 % shorter.
        cells: epigenome ids, any of `EPIGENOMES`.
        assays: signal tracks per cell, any of `ASSAYS`.
        read_cells, read_marks: tagAlign files for these cells x marks; None: all cells, all
            histone marks of `assays`.
        fold_change_tracks: (cell, mark) pairs with a fold-change bigWig; None: the first cell's
            active marks.
        bam_tracks: (ENCODE accession, cell, assay) per BAM file; None: one file, of DNase (or the
            first assay) in the last cell.
        assembly: name under which the files are filed.
        gene_spacing_bp: mean distance between protein-coding transcription start sites.
        binding_share: share of the factors of every kind that bind anywhere, CTCF always. Others
            have a motif and are expressed, but no site: what is learnt must not contain them.
        lineages: so many of the first cells have elements of their own; None: all. Further cells
            are mixtures of the factors, and change nothing of what the others are.
    """

    seed: int = 1
    chromosomes: int = 2
    length_bp: int = 4_000_000
    cells: tuple[str, ...] = ("E003", "E004", "E007", "E066", "E116", "E118")
    assays: tuple[str, ...] = (*HISTONE_MARKS, "DNase", "CTCF")
    read_cells: tuple[str, ...] | None = None
    read_marks: tuple[str, ...] | None = None
    fold_change_tracks: tuple[tuple[str, str], ...] | None = None
    bam_tracks: tuple[tuple[str, str, str], ...] | None = None
    assembly: str = "hg19"
    gene_spacing_bp: int = 11_000
    binding_share: float = 1.0
    lineages: int | None = None

    def __post_init__(self) -> None:
        """Fill the defaults and report everything that does not fit at once."""
        set_ = object.__setattr__
        for name in ("cells", "assays"):
            set_(self, name, tuple(getattr(self, name)))
        if self.lineages is None:
            set_(self, "lineages", len(self.cells))
        if self.read_cells is None:
            set_(self, "read_cells", self.cells)
        if self.read_marks is None:
            set_(self, "read_marks", tuple(m for m in self.assays if m in HISTONE_MARKS))
        if self.fold_change_tracks is None:
            marks = [m for m in self.assays if m in ACTIVE_MARKS]
            set_(self, "fold_change_tracks", tuple((c, m) for c in self.cells[:1] for m in marks))
        if self.bam_tracks is None:
            assay = "DNase" if "DNase" in self.assays else next(iter(self.assays), "")
            set_(self, "bam_tracks", tuple(("ENCFF001SIM", c, assay) for c in self.cells[-1:]))
        problems = _problems(self)
        if problems:
            raise InputError("simulation plan", problems)

    @property
    def read_tracks(self) -> set[tuple[str, str]]:
        """(cell, mark) pairs that get a tagAlign file."""
        return {(cell, mark) for cell in self.read_cells for mark in self.read_marks}

    def columns(
        self, purpose: str, rng: np.random.Generator, draw: Callable[..., np.ndarray]
    ) -> np.ndarray:
        """Random numbers with a column per cell, [..., cells].

        Args:
            rng: stream of the cells with a lineage; further cells have streams of their own.
            draw: a generator and a number of columns -> that many columns.
        """
        further = [draw(self.rng(purpose, cell), 1) for cell in self.cells[self.lineages :]]
        return np.concatenate([draw(rng, self.lineages), *further], axis=-1)

    def rng(self, *names: object) -> np.random.Generator:
        """An independent random stream for a named purpose (no order dependence between files)."""
        key = zlib.crc32("/".join(str(name) for name in names).encode())
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, key])))


def _problems(plan: Plan) -> list[str]:
    """Every reason why a plan cannot be simulated."""
    found = []
    if not 1 <= plan.chromosomes <= 22:
        found.append(f"chromosomes = {plan.chromosomes}: choose 1 to 22")
    if plan.length_bp < 150_000:
        found.append(f"length_bp = {plan.length_bp}: choose at least 150000")
    if plan.gene_spacing_bp < 2_000:
        found.append(f"gene_spacing_bp = {plan.gene_spacing_bp}: choose at least 2000")
    if not 0 < plan.binding_share <= 1:
        found.append(f"binding_share = {plan.binding_share}: choose more than 0, at most 1")
    if not 0 <= plan.seed < 2**63:
        found.append(f"seed = {plan.seed}: choose a whole number from 0 to 2^63 - 1")
    if not 1 <= plan.lineages <= max(1, len(plan.cells)):
        found.append(f"lineages = {plan.lineages}: choose 1 to {len(plan.cells)}, the cells")
    if not plan.cells or len(set(plan.cells)) < len(plan.cells):
        found.append(f"cells = {plan.cells}: name at least one epigenome, each once")
    if not plan.assays or len(set(plan.assays)) < len(plan.assays):
        found.append(f"assays = {plan.assays}: name at least one assay, each once")
    known = [("cells", plan.cells, EPIGENOMES), ("assays", plan.assays, ASSAYS)]
    known += [("read_cells", plan.read_cells, plan.cells)]
    known += [("read_marks", plan.read_marks, plan.assays)]
    for key, values, allowed in known:
        for value in sorted(set(values) - set(allowed)):
            found.append(f"{key}: {value!r} is not one of {', '.join(allowed)}")
    pairs = [("fold_change_tracks", pair) for pair in plan.fold_change_tracks]
    pairs += [("bam_tracks", track[1:]) for track in plan.bam_tracks]
    for key, (cell, assay) in pairs:
        if cell not in plan.cells or assay not in plan.assays:
            found.append(f"{key}: {cell}-{assay} is not a track of cells x assays")
    return found


@dataclass(frozen=True)
class Layout:
    """Chromosomes laid end to end, each starting on a multiple of `BIN`.

    "Global" positions count bases over all chromosomes, so global position // BIN is the bin.

    Attributes:
        names: chromosome names. lengths: int64 [chromosomes], bp.
        starts: int64 [chromosomes + 1], global position of each chromosome's first base.
        gaps: int64 [gaps, 3]: chromosome, start, end (0-based half-open, multiples of BIN).
        gap_types: "telomere" or "centromere" per gap.
        blacklist: int64 [regions, 3]: chromosome, start, end of artefact regions.
    """

    names: tuple[str, ...]
    lengths: np.ndarray
    starts: np.ndarray
    gaps: np.ndarray
    gap_types: tuple[str, ...]
    blacklist: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.int64))

    @property
    def size(self) -> int:
        """Global length in bp, including the padding to whole bins."""
        return int(self.starts[-1])

    @property
    def bins(self) -> int:
        """Number of bins over all chromosomes."""
        return self.size // BIN

    def chrom_of(self, position: np.ndarray) -> np.ndarray:
        """Index of the chromosome that holds each global position."""
        return np.searchsorted(self.starts, position, side="right") - 1

    def local(self, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Chromosome names and 0-based positions on them, of global positions."""
        chrom = self.chrom_of(position)
        return np.array(self.names)[chrom], position - self.starts[chrom]

    def flag(self, regions: np.ndarray, step: int = BIN) -> np.ndarray:
        """True for every bin (of `step` bp, a divisor of BIN or BIN) that a region touches."""
        flags = np.zeros(self.size // step, bool)
        for chrom, start, end in regions:
            first = self.starts[chrom] + start
            last = self.starts[chrom] + end
            flags[first // step : -(-last // step)] = True
        return flags

    def covered(self, chrom: int) -> list[tuple[int, int]]:
        """Stretches of a chromosome outside its gaps: (start, end), 0-based half-open."""
        edges = [0]
        for start, end in self.gaps[self.gaps[:, 0] == chrom, 1:].tolist():
            edges += [start, end]
        edges.append(int(self.lengths[chrom]))
        pairs = list(zip(edges[::2], edges[1::2], strict=True))
        return [(start, end) for start, end in pairs if end > start]


def lay_out(plan: Plan) -> Layout:
    """Chromosome lengths, a telomere gap at every start and one centromere-like gap each."""
    index = np.arange(plan.chromosomes)
    lengths = plan.length_bp - index * (plan.length_bp // 500) - 11 * index
    starts = np.concatenate([[0], np.cumsum(-(-lengths // BIN) * BIN)])
    gaps, types = [], []
    for chrom, length in enumerate(lengths.tolist()):
        telomere = min(10_000, length // 50 // BIN * BIN)
        width = max(BIN, length // 50 // BIN * BIN)
        middle = int(length * (0.35 + 0.1 * plan.rng("centromere", chrom).random())) // BIN * BIN
        gaps += [(chrom, 0, telomere), (chrom, middle, middle + width)]
        types += ["telomere", "centromere"]
    names = tuple(f"chr{i + 1}" for i in index)
    return Layout(names, lengths, starts, np.array(gaps, np.int64), tuple(types))
