"""Made-up tables of the studies, as their rules write them, for tests of the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from epiloom.studies import enrichment, groups, planted
from epiloom.studies.mark_activity import MEASURES, POOLED, PROFILES, SUMMARY

ACTIVITY = [f"results/mark_activity/{name}.tsv" for name in ("summary", "groups", "profiles")]
EQTL = "results/eqtl_enrichment/enrichment.tsv"
SCALE = "log1p(reads)"
PERTURBED = "results/chromoformer/perturbation/{}.{}.tsv.gz"
TRUTH = "results/chromoformer/perturbation/truth.tsv"


def write_studies(work: Path, cells: list[str], marks: list[str]) -> list[str]:
    """All tables of all studies; returns the paths that a plan names."""
    rng = np.random.default_rng(2)
    tables = dict(zip(ACTIVITY, _activity(cells, marks, rng), strict=True))
    for cell in cells:
        tables[PERTURBED.format(cell, marks[0])] = _perturbed(cell, marks[0], rng)
    tables[TRUTH] = pd.DataFrame(
        [(cells[0], marks[0], "rank of planted bins", 80, 0.71, 0.65, 0.77, 0.5, "above chance")],
        columns=list(planted.COLUMNS),
    )
    tables[EQTL] = _enrichment(cells, rng)
    for path, table in tables.items():
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(work / path, sep="\t", index=False)
    return list(tables)


def _activity(cells: list[str], marks: list[str], rng) -> tuple[pd.DataFrame, ...]:
    pairs = [(cell, mark) for cell in cells for mark in marks]
    group = {cell: groups.GROUPS[i % 4] for i, cell in enumerate(cells)}
    summary = [
        (cell, group[cell], mark, measure, POOLED, 900, *rng.uniform(0.2, 0.7, 3))
        for cell, mark in pairs
        for measure in MEASURES
    ]
    present = list(dict.fromkeys(group.values()))
    compared = [
        ("four", mark, "activity_6kb", genes, a, b, 90, 90, 0.4, 0.3, 4000, 0.6, 0.2, 1e-4, 1e-3)
        for mark in marks
        for genes in groups.SETS
        for a, b in zip(present, present[1:], strict=False)
    ]
    profiles = [
        (genes, window, cell, mark, fold, label, 400, i, place, 1.0 + label, 0.5, 0.9, 2.0, SCALE)
        for genes, window, half, fold in (
            ("training", "6kb", 3000, "fold1"),
            ("all", "40kb", 20000, "all"),
        )
        for cell, mark in pairs
        for label in (0, 1)
        for i, place in enumerate(range(50 - half, half, 100))
    ]
    return (
        pd.DataFrame(summary, columns=list(SUMMARY)),
        pd.DataFrame(compared, columns=list(groups.COLUMNS)),
        pd.DataFrame(profiles, columns=list(PROFILES)),
    )


def _perturbed(cell: str, mark: str, rng, genes: int = 20) -> pd.DataFrame:
    rows = []
    for i in range(genes):
        tss, strand = 50_000 + 41_000 * i, "+-"[i % 2]
        place = (f"G{i}", "chr1", tss, strand, cell, mark, "fold1", "test", 1)
        for location, bin_ in [("promoter", -1), *(("distal", j) for j in range(20))]:
            first = -3000 if location == "promoter" else 2000 * bin_ - 20_000
            size = 6000 if location == "promoter" else 2000
            start = tss + first if strand == "+" else tss - first - size
            loss = float(rng.gamma(2, 0.5 if location == "promoter" else 0.05))
            spot = (location, bin_, start, start + size)
            rows.append((*place, *spot, 5.0, 5.0 - loss, loss, loss / (5 - loss), 5.0 - loss / 2))
    columns = ["gene_id", "chrom", "tss", "strand", "cell", "mark", "fold", "part", "label"]
    columns += ["location", "bin", "start", "end", "unperturbed", "removed", "delta_log2", "ratio"]
    return pd.DataFrame(rows, columns=[*columns, "p_0.5"])


def _enrichment(cells: list[str], rng) -> pd.DataFrame:
    rows = []
    for cell in cells:
        for name in [*range(1, 11), "proximity"]:
            predictor, decile = ("perturbation", name) if isinstance(name, int) else (name, np.nan)
            fold = float(rng.gamma(8, 0.13))
            counts = (500, 5000, 12, 120, 0.1, 12)
            tail = (fold, fold - 0.2, fold + 0.3, 0.04, 0.2, 1000)
            rows.append((cell, "Liver", predictor, decile, *counts, *tail))
    return pd.DataFrame(rows, columns=list(enrichment.COLUMNS))
