"""The small public files: genome tables, annotation, expression matrices, motifs, metadata."""

from __future__ import annotations

import numpy as np
import pandas as pd

from epiloom.data.simulate.addresses import Addresses
from epiloom.data.simulate.layout import EPIGENOMES, Layout
from epiloom.data.simulate.motifs import NAMES
from epiloom.data.simulate.sequence import letters
from epiloom.data.simulate.world import World
from epiloom.data.simulate.writers import write_fasta, write_table, write_text

MILLION_READS = 40.0  # depth of the expression experiments
MOTIF_PAGE = "https://hocomoco11.autosome.org/motif/"
ANNOTATION_COLUMNS = (
    *("Model", "Transcription factor", "Model length", "Quality", "Model rank", "Consensus"),
    *("Model release", "Data source", "Best auROC (human)", "Best auROC (mouse)"),
    *("Peak sets in benchmark (human)", "Peak sets in benchmark (mouse)", "Aligned words"),
    *("TF family", "TF subfamily", "HGNC", "EntrezGene", "UniProt ID", "UniProt AC"),
)


def write_genome(world: World, addresses: Addresses) -> None:
    """FASTA, chromosome sizes, gap table and blacklist."""
    layout = world.layout
    count = world.plan.chromosomes
    text = (letters(layout, world.codes, world.lower, chrom) for chrom in range(count))
    write_fasta(addresses("genome_fasta"), zip(layout.names, text, strict=True))
    sizes = zip(layout.names, layout.lengths.tolist(), strict=True)
    write_text(addresses("chrom_sizes"), [f"{name}\t{length}" for name, length in sizes])
    lines = []
    for row, ((chrom, start, end), kind) in enumerate(
        zip(layout.gaps.tolist(), layout.gap_types, strict=True)
    ):
        lines.append(
            f"{ucsc_bin(start, end)}\t{layout.names[chrom]}\t{start}\t{end}\t{row % 2 + 1}"
            f"\tN\t{end - start}\t{kind}\tno"
        )
    write_text(addresses("gaps"), lines)
    regions = [
        f"{layout.names[chrom]}\t{start}\t{end}\tHigh Signal Region"
        for chrom, start, end in layout.blacklist.tolist()
    ]
    write_text(addresses("blacklist"), regions)


def ucsc_bin(start: int, end: int) -> int:
    """Number of the smallest bin of the UCSC scheme that holds a half-open interval."""
    first, last = start >> 17, (end - 1) >> 17
    for offset in (585, 73, 9, 1, 0):
        if first == last:
            return offset + first
        first, last = first >> 3, last >> 3
    return 0


def make_exons(world: World) -> tuple[np.ndarray, np.ndarray]:
    """Exons of all genes: owner index [exons] and global half-open spans [exons, 2], in order."""
    rng = world.plan.rng("exons")
    genes = world.genes
    owners, spans = [], []
    for index, (start, end) in enumerate(
        zip(genes.start.tolist(), genes.end.tolist(), strict=True)
    ):
        number = 1 + int(rng.integers(0, max(1, min(8, (end - start) // 900))))
        cuts = np.sort(rng.choice(np.arange(40, end - start - 40), 2 * (number - 1), replace=False))
        edges = np.r_[start, start + cuts, end].reshape(-1, 2)
        owners.append(np.full(len(edges), index))
        spans.append(edges)
    return np.concatenate(owners), np.concatenate(spans)


def write_annotation(
    world: World, addresses: Addresses, owner: np.ndarray, exons: np.ndarray
) -> None:
    """GENCODE-like GTF with gene, transcript and exon lines."""
    genes, layout = world.genes, world.layout
    chrom, start = layout.local(genes.start)
    end = start + genes.end - genes.start
    shift = genes.start - start
    first = np.searchsorted(owner, np.arange(len(genes) + 1))
    lines = ["##description: simulated annotation in the layout of GENCODE version 10 (Ensembl 65)"]
    lines += ["##provider: epiloom simulation", "##format: gtf"]
    for i in range(len(genes)):
        strand = "+" if genes.strand[i] > 0 else "-"
        gene, transcript, told = _attributes(world, i)
        head = f"{chrom[i]}\tHAVANA"
        tail = f'.\t{strand}\t.\tgene_id "{gene}"; transcript_id "{{}}"; {told}'
        span = f"{start[i] + 1}\t{end[i]}"
        lines.append(f"{head}\tgene\t{span}\t{tail.format(gene)}")
        lines.append(f"{head}\ttranscript\t{span}\t{tail.format(transcript)}")
        mine = exons[first[i] : first[i + 1]] - shift[i]
        for low, high in mine[:: int(genes.strand[i])].tolist():
            lines.append(f"{head}\texon\t{low + 1}\t{high}\t{tail.format(transcript)}")
    write_text(addresses("roadmap_genes"), lines)


def _attributes(world: World, i: int) -> tuple[str, str, str]:
    """Versioned gene id, transcript id and the remaining GTF attributes of a gene."""
    genes = world.genes
    number = int(genes.ids[i][4:])
    kind = "protein_coding" if genes.coding[i] else "lincRNA"
    name = genes.names[i]
    told = (
        f'gene_type "{kind}"; gene_status "KNOWN"; gene_name "{name}"; transcript_type "{kind}"; '
        f'transcript_status "KNOWN"; transcript_name "{name}-001"; level 2; '
        f'havana_gene "OTTHUMG{number:011d}.1";'
    )
    return versioned(genes.ids[i]), f"ENST{number:011d}.1", told


def versioned(gene: str) -> str:
    """A gene id with its version."""
    return f"{gene}.{int(gene[4:]) % 9 + 1}"


def write_expression(world: World, addresses: Addresses) -> None:
    """RPKM and read counts of protein-coding genes, by gene id.

    As published, every row but the header ends in a tab.
    """
    genes = world.genes
    order = np.argsort(genes.ids)
    order = order[genes.coding[order]]
    rpkm = np.exp2(world.activity.log_rpkm[order]) - 1
    rpkm = np.column_stack([rpkm.mean(axis=1), rpkm])  # E000: the universal reference
    length = (genes.end - genes.start)[order, None] / 1_000
    counts = np.rint(rpkm * length * MILLION_READS * 0.3).astype(np.int64)
    header = "\t".join(["gene_id", "E000", *world.plan.cells])
    for key, values, form in (("rpkm", rpkm, "{:.3f}"), ("counts", counts, "{:d}")):
        lines = [header]
        for gene, row in zip(genes.ids[order], values.tolist(), strict=True):
            lines.append("\t".join([gene, *map(form.format, row)]) + "\t")
        write_text(addresses(f"roadmap_{key}"), lines)


def write_metadata(world: World, addresses: Addresses) -> None:
    """Epigenome names and groups of the simulated cells."""
    rows = []
    for cell in world.plan.cells:
        group, mnemonic, name, anatomy, kind = EPIGENOMES[cell]
        rows.append((cell, group, mnemonic, name, anatomy, kind))
    columns = ["EID", "GROUP", "MNEMONIC", "STD_NAME", "ANATOMY", "TYPE"]
    write_table(addresses("roadmap_metadata"), pd.DataFrame(rows, columns=columns))


def model_name(factor: int) -> str:
    """HOCOMOCO-like name of a factor's motif model."""
    return f"{NAMES[factor]}_HUMAN.H11MO.0.A"


def write_motifs(world: World, addresses: Addresses) -> None:
    """Motifs in MEME format and their annotation table."""
    lines = ["MEME version 4", "", "ALPHABET= ACGT", "", "strands: + -", ""]
    lines += ["Background letter frequencies", "A 0.25 C 0.25 G 0.25 T 0.25", ""]
    rows = []
    for factor, pwm in enumerate(world.factors.pwms):
        model = model_name(factor)
        lines += [f"MOTIF {model}"]
        lines += [f"letter-probability matrix: alength= 4 w= {len(pwm)} nsites= 500"]
        lines += ["\t".join(f"{value:.6f}" for value in row) for row in pwm.tolist()]
        lines += ["", f"URL {MOTIF_PAGE}{model}", ""]
        word = "".join("ACGT"[base] for base in pwm.argmax(axis=1))
        numbers = (f"{1000 + factor}", f"{5000 + factor}")
        rows.append(
            (model, NAMES[factor], len(pwm), "A", 0, word, "HOCOMOCOv11", "ChIP-Seq", "0.95")
            + ("", 1, 0, 500, "simulated", "", *numbers, f"{NAMES[factor]}_HUMAN", "")
        )
    write_text(addresses("hocomoco_meme"), lines)
    table = pd.DataFrame(rows, columns=list(ANNOTATION_COLUMNS))
    write_table(addresses("hocomoco_annotation"), table)


def bed_rows(layout: Layout, start: np.ndarray, end: np.ndarray) -> dict[str, np.ndarray]:
    """Columns chrom, start, end of global half-open spans."""
    chrom, local = layout.local(start)
    return {"chrom": chrom, "start": local, "end": local + end - start}
