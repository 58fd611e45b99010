"""What a file is, told from its content."""

from __future__ import annotations

import bz2
import gzip
import io
import zipfile
from pathlib import Path

import pyBigWig

from epiloom.data.filetypes import BAM_END, problem
from tests.servers import DATA, PAGE


def bigwig(path: Path) -> bytes:
    with pyBigWig.open(str(path), "w") as file:
        file.addHeader([("chr1", 100_000)])
        file.addEntries("chr1", 0, values=[float(i % 7) for i in range(5000)], span=10, step=10)
    return path.read_bytes()


# --- content -------------------------------------------------------------------------------------


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a", DATA[:1000])
    return buffer.getvalue()


def examples(folder: Path) -> dict[str, bytes]:
    bam = gzip.compress(b"BAM\x01" + b"\0" * 8)
    bam = bam[:3] + b"\x04" + bam[4:10] + b"\x06\x00BC\x02\x00\x1b\x00" + bam[10:] + BAM_END
    return {
        "gzip": gzip.compress(DATA[:5000]),
        "fasta-gzip": gzip.compress(b">chr1\n" + b"ACGT" * 500),
        "bzip2": bz2.compress(DATA[:5000]),
        "zip": archive(),
        "bigwig": bigwig(folder / "real.bw"),
        "bam": bam,
        "json": b'{"a": [1, 2]}',
    }


def test_whole_files_pass_and_truncated_ones_are_found(tmp_path):
    path = tmp_path / "x"
    for kind, content in examples(tmp_path).items():
        path.write_bytes(content)
        assert problem(path, kind) == "", kind
        for keep in (0.1, 0.5, 0.9):
            path.write_bytes(content[: int(len(content) * keep)])
            assert problem(path, kind), (kind, keep)
        for other in (PAGE, b"", b"something else entirely"):
            path.write_bytes(other)
            assert problem(path, kind), kind


def test_text_must_be_text(tmp_path):
    path = tmp_path / "x"
    for content in (b"\0\1\2", gzip.compress(b"text"), PAGE, b""):
        path.write_bytes(content)
        assert problem(path, "text")
    path.write_bytes(b"chr1 100\n")
    assert not problem(path, "text") and "no tab" in problem(path, "tsv")
    path.write_bytes(gzip.compress(PAGE))
    assert "HTML" in problem(path, "gzip")
    path.write_bytes(gzip.compress(b"chr1\t1\n"))
    assert "not FASTA" in problem(path, "fasta-gzip")


def test_a_big_endian_bigwig_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"\x88\x8f\xfc\x26" + b"\0" * 200)
    assert "88 8f fc 26 instead of 26 fc 8f 88" in problem(tmp_path / "x", "bigwig")
