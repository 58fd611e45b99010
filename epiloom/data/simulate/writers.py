"""Writers of the public file formats; the same content always gives the same bytes."""

from __future__ import annotations

import gzip
import io
import re
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyBigWig
import pysam

from epiloom.data.files import atomic
from epiloom.data.simulate.layout import BIN, READ_BP, Layout

FASTA_LINE = 50
_STAMP = (2021, 6, 7, 0, 0, 0)


@contextmanager
def gzip_file(path: Path) -> Iterator[BinaryIO]:
    """A gzip file open for writing that appears whole or not at all, without name and time."""
    with (
        atomic(path) as tmp,
        tmp.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as file,
    ):
        yield file


def write_text(path: Path, lines: Iterable[str]) -> None:
    """Lines (without ends) to a text file, gzipped where the name ends in .gz."""
    data = "".join(f"{line}\n" for line in lines).encode()
    if path.suffix == ".gz":
        with gzip_file(path) as file:
            file.write(data)
    else:
        with atomic(path) as tmp:
            tmp.write_bytes(data)


def write_table(path: Path, table: pd.DataFrame, decimals: int = 4) -> None:
    """A table with a header row, tab separated; gzipped where the name ends in .gz."""
    text = table.to_csv(sep="\t", index=False, float_format=f"%.{decimals}f", lineterminator="\n")
    write_text(path, [text.rstrip("\n")])


def write_book(path: Path, sheets: Mapping[str, pd.DataFrame]) -> None:
    """An .xlsx file without the time of writing; NaN becomes an empty field."""
    raw = io.BytesIO()
    with pd.ExcelWriter(raw, engine="openpyxl") as book:
        for name, table in sheets.items():
            table.to_excel(book, sheet_name=name, index=False)
    with (
        zipfile.ZipFile(raw) as old,
        atomic(path) as tmp,
        zipfile.ZipFile(tmp, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            data = old.read(name)
            if name == "docProps/core.xml":
                data = re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", b"2021-06-07T00:00:00Z", data)
            new.writestr(zipfile.ZipInfo(name, _STAMP), data, zipfile.ZIP_DEFLATED)


def write_fasta(path: Path, chromosomes: Iterable[tuple[str, np.ndarray]]) -> None:
    """Chromosomes (name, ASCII bases) as gzipped FASTA with 50 bases per line."""
    with gzip_file(path) as file:
        for name, bases in chromosomes:
            file.write(f">{name}\n".encode())
            whole = len(bases) // FASTA_LINE * FASTA_LINE
            lines = bases[:whole].reshape(-1, FASTA_LINE)
            file.write(np.insert(lines, FASTA_LINE, ord("\n"), axis=1).tobytes())
            if whole < len(bases):
                file.write(bases[whole:].tobytes() + b"\n")


@contextmanager
def _bigwig(path: Path, layout: Layout) -> Iterator[pyBigWig.pyBigWig]:
    """A bigWig open for writing with all chromosomes in its header."""
    with atomic(path) as tmp:
        file = pyBigWig.open(str(tmp), "w")
        sizes = zip(layout.names, layout.lengths.tolist(), strict=True)
        file.addHeader(list(sizes), maxZooms=0)  # a third of the time, and nothing here reads them
        yield file
        file.close()


def write_signal(path: Path, layout: Layout, values: np.ndarray, step: int = BIN) -> None:
    """A bigWig with one value per `step` bp; zeros are written, gaps have no value.

    Args:
        values: [layout.size // step] over all chromosomes; `step` is BIN or divides it.
    """
    with _bigwig(path, layout) as file:
        for chrom, name in enumerate(layout.names):
            first = int(layout.starts[chrom])
            for start, end in layout.covered(chrom):
                low, count = (first + start) // step, (end - start) // step
                part = np.asarray(values[low : low + count + 1], np.float64)
                if count:
                    file.addEntries(name, start, values=part[:count], span=step, step=step)
                left = start + count * step
                if left < end:
                    file.addEntries([name], [left], ends=[end], values=[float(part[-1])])


def write_runs(
    path: Path, layout: Layout, starts: np.ndarray, ends: np.ndarray, values: np.ndarray
) -> None:
    """A bigWig of runs of equal values; global sorted half-open runs within chromosomes."""
    with _bigwig(path, layout) as file:
        for chrom, name in enumerate(layout.names):
            begin, stop = layout.starts[chrom : chrom + 2]
            low, high = np.searchsorted(starts, [begin, stop])
            if low == high:
                continue
            file.addEntries(
                [name] * int(high - low),
                (starts[low:high] - begin).tolist(),
                ends=(ends[low:high] - begin).tolist(),
                values=values[low:high].astype(np.float64).tolist(),
            )


def digits(values: np.ndarray, width: int) -> np.ndarray:
    """Decimal digits, uint8 [n, width]; bytes before the first digit are 0 (see `squeeze`)."""
    rest = values.astype(np.uint32)
    out = np.empty((len(rest), width), np.uint8)
    for column in range(width - 1, -1, -1):
        following = rest // 10
        out[:, column] = (rest - following * 10) + 48
        if column < width - 1:
            out[rest == 0, column] = 0
        rest = following
    return out


def squeeze(columns: Sequence[np.ndarray | bytes], rows: int) -> bytes:
    """Text of `rows` lines from byte columns (constant or [rows, width]); 0 bytes are left out."""
    parts = [
        np.broadcast_to(np.frombuffer(part, np.uint8), (rows, len(part)))
        if isinstance(part, bytes)
        else part
        for part in columns
    ]
    flat = np.hstack(parts).ravel()
    return flat[flat != 0].tobytes()


def write_tagalign(
    path: Path, layout: Layout, starts: Sequence[np.ndarray], strands: Sequence[np.ndarray]
) -> None:
    """Reads as gzipped tagAlign: `chrom start end N 1000 strand`, sorted.

    Args:
        starts: per chromosome, sorted 0-based starts. strands: per chromosome, b"+" or b"-" codes.
    """
    with gzip_file(path) as file:
        for name, start, strand in zip(layout.names, starts, strands, strict=True):
            width = len(str(int(start.max(initial=0)) + READ_BP))
            head = f"{name}\t".encode()
            columns = [head, digits(start, width), b"\t", digits(start + READ_BP, width)]
            columns += [b"\tN\t1000\t", strand[:, None], b"\n"]
            file.write(squeeze(columns, len(start)))


def write_bam(
    path: Path,
    layout: Layout,
    starts: Sequence[np.ndarray],
    strands: Sequence[np.ndarray],
    bases: Iterable[np.ndarray],
) -> None:
    """The same reads as a coordinate-sorted BAM file, with the bases of the genome.

    Args:
        bases: per chromosome, ASCII bases in upper case.
    """
    with atomic(path) as tmp, tempfile.TemporaryDirectory(dir=tmp.parent) as folder:
        sam = Path(folder) / "reads.sam"
        with sam.open("wb") as file:
            file.write(b"@HD\tVN:1.6\tSO:coordinate\n")
            for name, length in zip(layout.names, layout.lengths.tolist(), strict=True):
                file.write(f"@SQ\tSN:{name}\tLN:{length}\n".encode())
            before = 0
            for name, start, strand, text in zip(layout.names, starts, strands, bases, strict=True):
                file.write(_sam_lines(name, start, strand, text, before))
                before += len(start)
        pysam.view("--no-PG", "-b", "-o", str(tmp), str(sam), catch_stdout=False)


def _sam_lines(
    name: str, start: np.ndarray, strand: np.ndarray, bases: np.ndarray, before: int
) -> bytes:
    """SAM lines of one chromosome's reads; names are numbered from `before`."""
    minus = strand == ord("-")
    flag = np.where(minus[:, None], np.frombuffer(b"16", np.uint8), [[0, ord("0")]])
    sequence = bases[start[:, None] + np.arange(READ_BP)]
    number = digits(np.arange(before, before + len(start)) + 100_000_000, 9)
    columns = [b"read", number, b"\t", flag.astype(np.uint8), f"\t{name}\t".encode()]
    columns += [digits(start + 1, 9), f"\t30\t{READ_BP}M\t*\t0\t0\t".encode(), sequence]
    columns += [b"\t" + b"I" * READ_BP + b"\n"]
    return squeeze(columns, len(start))
