"""Where each simulated file lies: the public address of the real one, as a path below a folder."""

from __future__ import annotations

from pathlib import Path

from epiloom.data.simulate.layout import Plan
from epiloom.plan import sources

PROJECT = Path(__file__).resolve().parents[3]  # holds config/sources.tsv
LOOPS = "local/hichip_loops.bedpe.gz"  # no public address: given by hand in real life


class Addresses:
    """Paths of a mirror folder: `addresses("roadmap_pval", cell="E003", mark="H3K4me3")`."""

    def __init__(self, plan: Plan, out: Path):
        self.out, self.assembly = Path(out), plan.assembly
        self._rows = sources.catalogue(PROJECT)

    def __call__(self, key: str, **fields: object) -> Path:
        """Path `OUT/HOST/PATH` of a source.

        Raises:
            InputError: the source is not in config/sources.tsv, not for this assembly, or lacks a
                field.
        """
        address = sources.url(self._rows, key, assembly=self.assembly, **fields)
        return self.out / sources.mirror_path(address)

    def truth(self, name: str) -> Path:
        """Path of a file with the simulated truth."""
        return self.out / "truth" / name
