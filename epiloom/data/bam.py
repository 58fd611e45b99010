"""BAM to normalised coverage bigWig, by deepTools bamCoverage."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pysam

from epiloom.data.files import atomic
from epiloom.data.genome import Genome, check_chromosomes
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

NORMALIZE = ("RPKM", "CPM", "BPM", None)
NOT_NORMAL = ("chrX", "chrY", "chrM")


def bam_to_bigwig(
    bam: str | Path,
    out: str | Path,
    genome: Genome,
    blacklist: str | Path | None = None,
    threads: int = 1,
    binsize: int = 32,
    normalize: str | None = "RPKM",
    min_mapping_quality: int = 30,
    ignore_duplicates: bool = True,
) -> None:
    """Coverage of a sorted BAM as bigWig, by the recipe used for the Epiformer tracks.

    Bins of 32 bp, RPKM without chrX, chrY, chrM in the total, mapping quality >= 30, duplicates
    ignored, blacklisted regions left out, reads extended to fragments only if they are paired.
    Bins without reads are written as 0.

    Args:
        bam: coordinate-sorted; it is indexed in a temporary folder, so its own folder may be
            read-only.
        out: the bigWig.
        genome: the chromosomes of the BAM header are checked against it.
        blacklist: BED, plain or gzip; None leaves nothing out.
        threads: processes of bamCoverage.
        binsize, normalize, min_mapping_quality, ignore_duplicates: the recipe; normalize None
            writes raw coverage.

    Raises:
        InputError: unreadable, unsorted or empty BAM, other assembly, failure of bamCoverage.
    """
    if normalize not in NORMALIZE:
        names = ", ".join(str(n) for n in NORMALIZE)
        raise InputError(bam, f"normalize: {normalize!r}; choose one of {names}")
    with tempfile.TemporaryDirectory(prefix="epiloom-bam-") as folder, atomic(out) as tmp:
        link = Path(folder) / "reads.bam"
        link.symlink_to(Path(bam).resolve())
        paired = _index(bam, link, genome)
        command = [
            _bam_coverage(),
            *("--bam", str(link), "--outFileName", str(tmp), "--outFileFormat", "bigwig"),
            *("--binSize", str(binsize), "--normalizeUsing", normalize or "None"),
            *("--minMappingQuality", str(min_mapping_quality)),
            *("--numberOfProcessors", str(threads)),
        ]
        if normalize:
            command += ["--ignoreForNormalization", *NOT_NORMAL]
        if ignore_duplicates:
            command.append("--ignoreDuplicates")
        if paired:
            command.append("--extendReads")
        if blacklist is not None:
            command += ["--blackListFileName", str(blacklist)]
        log.info("%s", " ".join(command))
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "TMPDIR": folder},
        )
        if done.returncode != 0 or tmp.stat().st_size == 0:
            said = " / ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
            raise InputError(
                bam,
                f"bamCoverage failed (status {done.returncode}): {said}; check the BAM with "
                "`samtools quickcheck`, and that it holds reads outside chrX, chrY and chrM",
            )


def _index(bam: str | Path, link: Path, genome: Genome) -> bool:
    """Index the BAM beside `link`, check its header; returns whether its reads are paired."""
    try:
        pysam.index(str(link))
        with pysam.AlignmentFile(str(link), "rb") as file:
            check_chromosomes(dict(zip(file.references, file.lengths, strict=True)), bam, genome)
            first = list(itertools.islice(file.fetch(until_eof=True), 1000))
    except (pysam.SamtoolsError, OSError, ValueError) as err:
        if isinstance(err, InputError):
            raise
        said = " ".join(str(err).split())[-200:]
        raise InputError(
            bam, f"cannot be indexed ({said}); give a complete BAM, sorted with `samtools sort`"
        ) from err
    if not first:
        raise InputError(bam, "holds no read; give another BAM")
    return any(read.is_paired for read in first)


def _bam_coverage() -> str:
    """The bamCoverage of this Python environment, else the one on PATH."""
    beside = Path(sys.executable).parent / "bamCoverage"
    found = str(beside) if beside.exists() else shutil.which("bamCoverage")
    if found is None:
        raise InputError(
            "bamCoverage", "is not installed beside Python or on PATH; install deepTools 3.5"
        )
    return found
