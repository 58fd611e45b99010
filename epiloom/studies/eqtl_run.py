"""The eQTL enrichment from files to its table."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from epiloom.data import eqtls as variants
from epiloom.plan.errors import InputError
from epiloom.studies import eqtl
from epiloom.studies.enrichment import as_table

log = logging.getLogger("epiloom")

DEFAULTS = {
    "mark": "H3K27ac",
    "effect": "delta",
    "label": 1,
    "assembly": "hg19",
    "eqtl_assembly": "auto",
    "draws": 10_000,
    "seed": 0,
    "chromosomes": list(eqtl.AUTOSOMES),
    "tissues": {},
}


def run(
    settings: Mapping[str, Any],
    files: Mapping[str, Any],
    convert: variants.Convert | None = None,
) -> pd.DataFrame:
    """The result table.

    Args:
        settings: `cells` (in the order of `features` and `partners`) and any of DEFAULTS; `tissues`
            replaces, cell by cell, those of config/eqtl_tissues.tsv.
        files: `perturbation` (tables), `eqtls`, `genes`; and, if there, `fasta`, `features` (of
            `mark`) and `partners` (one per cell each).
        convert: lift-over to `assembly`, for a table on another one.

    Raises:
        InputError: files or settings that do not fit; see the readers.
    """
    chosen = DEFAULTS | dict(settings)
    _check(chosen, files)
    tissues = variants.tissues_of(chosen["cells"], chosen["tissues"])
    if not tissues:
        log.warning("no cell has a GTEx tissue (config/eqtl_tissues.tsv): nothing to test")
        return as_table([])
    where = files["eqtls"]
    prepared = variants.prepare(
        variants.read(where),
        *(where, chosen["eqtl_assembly"], chosen["assembly"]),
        *(files.get("fasta") or None, convert),
    )
    bins = eqtl.read_perturbations(
        files["perturbation"],
        *(chosen["mark"], chosen["effect"], chosen["label"], chosen["chromosomes"]),
    )
    bins = bins[bins["cell"].isin(tissues)].reset_index(drop=True)
    genes = pd.read_csv(files["genes"], sep="\t", dtype={"gene_id": str, "chrom": str})
    told = eqtl.told_apart(bins, prepared.table, genes, tissues)
    log.info("eQTLs: %s", ", ".join(f"{count} {what}" for what, count in told.items()))
    picked = _comparators(bins, genes, [c for c in chosen["cells"] if c in tissues], chosen, files)
    return eqtl.study(bins, prepared.table, tissues, picked, chosen["draws"], chosen["seed"])


def _check(chosen: Mapping[str, Any], files: Mapping[str, Any]) -> None:
    problems = []
    for name in ("features", "partners"):
        given = files.get(name) or []
        if given and len(given) != len(chosen["cells"]):
            problems.append(
                f"{name}: {len(given)} files for {len(chosen['cells'])} cells; give one per cell"
            )
    if chosen["draws"] < 1:
        problems.append(f"draws = {chosen['draws']}; give 1 or more")
    if chosen["eqtl_assembly"] not in ("auto", "hg19", "hg38"):
        problems.append(f"eqtl_assembly = {chosen['eqtl_assembly']!r}; use auto, hg19 or hg38")
    if problems:
        raise InputError("eqtl_enrichment", problems)


def _comparators(
    bins: pd.DataFrame,
    genes: pd.DataFrame,
    cells: list[str],
    chosen: Mapping[str, Any],
    files: Mapping[str, Any],
) -> dict[str, np.ndarray]:
    """The bins that each comparator picks; those whose files are not given are left out."""
    found = {"proximity": eqtl.nearest(bins)}
    if files.get("features"):
        paths = dict(zip(chosen["cells"], files["features"], strict=True))
        features = {cell: np.load(paths[cell], mmap_mode="r") for cell in cells}
        found["activity"] = eqtl.most_active(bins, eqtl.activity_of(bins, genes, features))
    if files.get("partners"):
        paths = dict(zip(chosen["cells"], files["partners"], strict=True))
        found["hic"] = eqtl.in_contact(bins, {cell: _partners(paths[cell]) for cell in cells})
    return found


def _partners(path: str | Path) -> pd.DataFrame:
    columns = ["gene_id", "chrom", "start", "end"]
    try:
        return pd.read_csv(path, sep="\t", usecols=columns, dtype={"gene_id": str, "chrom": str})
    except (OSError, ValueError) as err:
        raise InputError(path, f"cannot be read ({err}); make the table again") from err
