"""A written annotation as its analyses take it: latents, masks and what lies beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from epiloom.data.annotation import read_genes
from epiloom.data.conservation import stored_conservation
from epiloom.data.genome import Genome
from epiloom.data.sequence import stored_bases
from epiloom.plan.config import hint
from epiloom.plan.errors import InputError
from epiloom.studies import annotation
from epiloom.studies.annotation_places import classes_of_bins, positions


@dataclass(frozen=True)
class Annotated:
    """An annotation on disk: chromosome -> latents float32 [bins, H] and mask uint8 [bins]."""

    genome: Genome
    latents: dict[str, np.ndarray]
    masks: dict[str, np.ndarray]
    store: Path

    @classmethod
    def open(cls, folder: str | Path, manifest: str | Path) -> Annotated:
        """Map the files of `learn.latents.annotate`.

        Raises:
            InputError: a chromosome is missing, or its arrays do not fit it.
        """
        folder, genome = Path(folder), Genome.load(manifest)
        latents, masks, problems = {}, {}, []
        for chrom in genome.chromosomes:
            try:
                values = np.load(folder / f"{chrom}.npy", mmap_mode="r", allow_pickle=False)
                mask = np.load(folder / f"{chrom}.mask.npy", allow_pickle=False)
            except (OSError, ValueError, EOFError) as err:
                problems.append(f"{chrom}: cannot be read ({err}); annotate the genome again")
                continue
            bins = genome.length(chrom) // annotation.BIN_BP
            if values.ndim != 2 or len(values) != bins or mask.shape != (bins,):
                problems.append(f"{chrom}: has {len(values)} bins, not {bins}; annotate it again")
            latents[chrom], masks[chrom] = values, mask
        if problems:
            raise InputError(folder, problems)
        return cls(genome, latents, masks, Path(manifest).parent)

    @property
    def usable(self) -> dict[str, np.ndarray]:
        """Bins that count, per chromosome."""
        return {chrom: annotation.usable_bins(mask) for chrom, mask in self.masks.items()}

    def of(self, place: str) -> Annotated:
        """One chromosome of it, or `all`.

        Raises:
            InputError: no such chromosome.
        """
        if place == "all":
            return self
        if place not in self.latents:
            known = ["all", *self.latents]
            raise InputError("tracks", f"'{place}' is no chromosome{hint(place, known)}")
        genome = Genome(self.genome.assembly, (place,), (self.genome.length(place),))
        latents, masks = ({place: part[place]} for part in (self.latents, self.masks))
        return replace(self, genome=genome, latents=latents, masks=masks)

    def smoothness(self) -> pd.DataFrame:
        """R2 of latents some bins apart (`annotation.smoothness`)."""
        return annotation.smoothness(self.latents, self.usable)

    def correlations(self, files: Mapping[str, Any], conserved_by: str) -> pd.DataFrame:
        """r of every latent with GC and conservation, of those that `files` has."""
        values: dict[str, dict[str, np.ndarray]] = {}
        if files.get("gc"):
            bases = stored_bases(self.store, self.genome)
            values["gc"] = {c: self._of_bins(bases, c, annotation.gc_of_bins) for c in self.latents}
        if files.get("conservation"):
            stored = stored_conservation(self.store, conserved_by, self.genome)
            turn = annotation.conservation_of_bins
            values["conservation"] = {c: self._of_bins(stored, c, turn) for c in self.latents}
        return annotation.correlations(self.latents, self.usable, values)

    def _of_bins(self, vector: Any, chrom: str, turn: Any) -> np.ndarray:
        """Values of a chromosome's bins, made of its bases."""
        length = len(self.latents[chrom]) * annotation.BIN_BP
        return turn(vector.window(chrom, 0, length))

    def positions(self, genes: str | Path | None, gene_type: str, seed: int) -> pd.DataFrame:
        """A sample of bins in the plane of their first two principal components.

        The columns `explained1` and `explained2` hold the components' shares of the variance.
        """
        empty = pd.DataFrame(columns=["chrom", "tss", "strand", "gene_start", "gene_end"])
        table = read_genes(genes, self.genome, gene_type) if genes else empty
        found = positions(self.latents, classes_of_bins(table, self.usable), seed)
        first, second = found.explained
        return found.table.assign(explained1=first, explained2=second)
