"""A latent annotation as bigWigs for a genome browser: one file per latent, and one of the mask."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from epiloom.data.genome import Genome
from epiloom.plan.errors import InputError
from epiloom.show.tracks import open_bins

BLOCK = 1 << 16  # bins read at once, for all latents


def latent_paths(folder: str | Path, latents: int) -> list[Path]:
    """`latent_01.bw`, `latent_02.bw`, ...; as many digits as the last needs, at least two."""
    digits = max(2, len(str(latents)))
    return [Path(folder) / f"latent_{k:0{digits}d}.bw" for k in range(1, latents + 1)]


def write_latent_tracks(
    folder: str | Path,
    genome: Genome,
    latents: Mapping[str, np.ndarray],
    masks: Mapping[str, np.ndarray],
    bin_bp: int = 25,
) -> list[Path]:
    """Write one bigWig per latent and `mask.bw`; all appear together at the end.

    Values stand wherever the annotation has one, in masked bins too: a recurrent encoder runs
    through them, and a reader who wants them out has the mask (0 usable, 1 gap, 2 blacklist, 8 no
    data, added up). NaN and the bases after the last whole bin get no value.

    Args:
        genome: the header of the files; chromosomes without latents are in it without values.
        latents: chromosome -> [floor(length / bin_bp), H], arrays or memory maps; read in blocks.
        masks: chromosome -> flags, uint8 [floor(length / bin_bp)].

    Returns:
        the files, the mask last.

    Raises:
        InputError: unknown chromosomes, numbers of bins or latents that do not fit, infinite
            values, a latent without any value.
    """
    size = _check(folder, genome, latents, masks, bin_bp)
    paths = [*latent_paths(folder, size), Path(folder) / "mask.bw"]
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(open_bins(path, genome, bin_bp)) for path in paths]
        for chrom in genome.chromosomes:
            for first in range(0, len(latents.get(chrom, ())), BLOCK):
                part = slice(first, first + BLOCK)
                # one latent after the other: columns of the file are far apart, those of a copy not
                columns = [*np.array(latents[chrom][part].T, order="C"), masks[chrom][part]]
                for writer, values in zip(writers, columns, strict=True):
                    writer.add(chrom, first, values)
    return paths


def _check(
    folder: str | Path,
    genome: Genome,
    latents: Mapping[str, np.ndarray],
    masks: Mapping[str, np.ndarray],
    bin_bp: int,
) -> int:
    """The number of latents."""
    problems = [] if latents else ["there is no chromosome; annotate at least one"]
    for chrom, values in latents.items():
        if chrom not in genome:
            problems.append(f"{chrom} is not part of {genome.assembly}; give its own genome")
            continue
        bins = genome.length(chrom) // bin_bp
        if np.ndim(values) != 2 or len(values) != bins:
            problems.append(
                f"latents of {chrom} have shape {np.shape(values)}, it has {bins} whole bins of "
                f"{bin_bp} bp; give [bins, latents]"
            )
        if np.shape(masks.get(chrom, ())) != (bins,):
            told = f"shape {np.shape(masks[chrom])}" if chrom in masks else "none"
            problems.append(f"mask of {chrom}: {told}, it has {bins} bins; give one flag per bin")
    sizes = {np.shape(values)[-1] for values in latents.values() if np.ndim(values) == 2}
    if len(sizes) > 1:
        problems.append(f"{sorted(sizes)} latents; every chromosome must have as many")
    if problems:
        raise InputError(folder, problems)
    return sizes.pop()
