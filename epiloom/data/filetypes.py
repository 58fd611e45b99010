"""Whether a file is what it should be, told from its content and not from its name."""

from __future__ import annotations

import bz2
import gzip
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

BLOCK = 1 << 20
HTML = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html)[\s>]",
    re.IGNORECASE | re.DOTALL,
)
# The empty BGZF block that ends every whole BAM file (SAM/BAM specification, section 4.1.2).
BAM_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def is_html(head: bytes) -> bool:
    """Whether content begins like an HTML page (an error page where data were expected)."""
    return HTML.match(head[:4096]) is not None


def problem(path: str | Path, format: str) -> str:
    """What is wrong with a file of a format (a key of `CHECKS`), or an empty string.

    Compressed files are read through, which finds truncation and damage; of bigWig files the
    header and the reach of every index are checked, of BAM files header and last block.

    Raises:
        OSError: the file cannot be read.
    """
    path = Path(path)
    if not path.stat().st_size:
        return "the file is empty"
    with path.open("rb") as file:
        head = file.read(4096)
    if format != "html" and is_html(head):
        return f"an HTML page instead of {NAMES[format]}"
    return CHECKS[format](path, head)


def _start(head: bytes, *magics: bytes) -> bool:
    return any(head.startswith(magic) for magic in magics)


def _not(name: str, head: bytes, magic: bytes) -> str:
    found, wanted = head[: len(magic)].hex(" "), magic.hex(" ")
    return f"not {NAMES[name]}: it begins with {found} instead of {wanted}"


def _gzip(path: Path, head: bytes) -> str:
    if not _start(head, b"\x1f\x8b"):
        return _not("gzip", head, b"\x1f\x8b")
    try:
        with gzip.open(path, "rb") as file:
            first = file.read(4096)
            while file.read(BLOCK):
                pass
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        return f"the gzip file is truncated or damaged ({error})"
    return "the gzip file holds an HTML page" if is_html(first) else ""


def _fasta_gzip(path: Path, head: bytes) -> str:
    wrong = _gzip(path, head)
    if wrong:
        return wrong
    with gzip.open(path, "rb") as file:
        first = file.read(1)
    return "" if first in (b">", b";") else f"not FASTA: begins with {first!r} instead of '>'"


def _bzip2(path: Path, head: bytes) -> str:
    if not _start(head, b"BZh"):
        return _not("bzip2", head, b"BZh")
    try:
        with bz2.open(path, "rb") as file:
            while file.read(BLOCK):
                pass
    except (EOFError, OSError, ValueError) as error:
        return f"the bzip2 file is truncated or damaged ({error})"
    return ""


def _bigwig(path: Path, head: bytes) -> str:
    magic = b"\x26\xfc\x8f\x88"
    if not _start(head, magic):
        return _not("bigwig", head, magic)
    size = path.stat().st_size
    if size < 64:
        return "the bigWig file is truncated: its header is not complete"
    _, zooms, _, _, index = struct.unpack_from("<HHQQQ", head, 4)
    with path.open("rb") as file:
        levels = file.read(64 + 24 * zooms)[64:]
        if len(levels) < 24 * zooms:
            return "the bigWig file is truncated: its header is not complete"
        offsets = [index, *(struct.unpack_from("<Q", levels, 24 * i + 16)[0] for i in range(zooms))]
        if 0 in offsets:
            return "the bigWig file is empty: it holds no values"
        for offset in offsets:
            file.seek(min(offset, size))
            tree = file.read(48)
            if len(tree) < 48 or struct.unpack_from("<Q", tree, 32)[0] > size:
                return f"the bigWig file is truncated: an index reaches beyond its {size:,} bytes"
            if struct.unpack_from("<I", tree)[0] != 0x2468ACE0:
                return f"the bigWig file is damaged: no index at byte {offset:,}"
    return ""


def _bam(path: Path, head: bytes) -> str:
    if not _start(head, b"\x1f\x8b\x08\x04"):
        return _not("bam", head, b"\x1f\x8b\x08\x04")
    try:
        with gzip.open(path, "rb") as file:
            name = file.read(4)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        return f"the BAM file is damaged ({error})"
    if name != b"BAM\x01":
        return f"not a BAM file: the content begins with {name!r}"
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - len(BAM_END)))
        whole = file.read() == BAM_END
    return "" if whole else "the BAM file is truncated: its end marker is missing"


def _twobit(path: Path, head: bytes) -> str:
    magic = b"\x43\x27\x41\x1a"
    return "" if _start(head, magic, magic[::-1]) else _not("2bit", head, magic)


def _text(path: Path, head: bytes) -> str:
    for name, magic in (("gzip", b"\x1f\x8b"), ("bzip2", b"BZh9"), ("zip", b"PK\x03\x04")):
        if _start(head, magic):
            return f"{NAMES[name]} instead of plain text"
    return "not text: it holds zero bytes" if b"\0" in head else ""


def _tsv(path: Path, head: bytes) -> str:
    return _text(path, head) or ("" if b"\t" in head else "not a table: no tab near its beginning")


def _json(path: Path, head: bytes) -> str:
    try:
        json.loads(path.read_bytes())
    except ValueError as error:
        return f"not valid JSON ({error})"
    return ""


def _zip(path: Path, head: bytes) -> str:
    if not _start(head, b"PK"):
        return _not("zip", head, b"PK")
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        return f"the zip file is truncated or damaged ({error})"
    return f"the zip file is damaged at {bad}" if bad else ""


def _hdf5(path: Path, head: bytes) -> str:
    magic = b"\x89HDF\r\n\x1a\n"
    return "" if _start(head, magic) else _not("hdf5", head, magic)


def _anything(path: Path, head: bytes) -> str:
    return ""


CHECKS: dict[str, Callable[[Path, bytes], str]] = {
    "": _anything,
    "2bit": _twobit,
    "bam": _bam,
    "bigwig": _bigwig,
    "binary": _anything,
    "bzip2": _bzip2,
    "fasta-gzip": _fasta_gzip,
    "gzip": _gzip,
    "hdf5": _hdf5,
    "html": _anything,
    "json": _json,
    "text": _text,
    "tsv": _tsv,
    "zip": _zip,
}
NAMES = {
    "": "the file",
    "2bit": "a 2bit file",
    "bam": "a BAM file",
    "bigwig": "a bigWig",
    "binary": "a binary file",
    "bzip2": "a bzip2 file",
    "fasta-gzip": "a gzip file",
    "gzip": "a gzip file",
    "hdf5": "an HDF5 file",
    "html": "an HTML page",
    "json": "JSON",
    "text": "a text file",
    "tsv": "a table",
    "zip": "a zip file",
}
