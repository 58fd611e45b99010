"""Sections of the report on what models of DNA and of cells were asked, and what they answer."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup, escape

from epiloom.show.canvas import model_name
from epiloom.show.results import Results, Run, table_of
from epiloom.show.study_sections import TRUTH, Section
from epiloom.studies.planted import CLEAR

SCORED = ["chrom", "position", "ref", "alt", "track", "local_lfc"]  # columns of variants.tsv
STRONGEST = 10  # variants in the table of a run
PICTURES = 4  # figures of one kind in the report; more are files of their own
PLANTED_CAPTION = (
    "What the model says about variants of the simulation, against what they do. Good: points from "
    "the lower left to the upper right, none in the shaded quarters (wrong sign), and variants in "
    "no site at zero."
)
MAP_CAPTION = (
    "Letters: what the base of the reference is worth (minus the mean effect of its three "
    "replacements; above 0, replacing it lowers the prediction). Below: effect of every "
    "replacement; the base of the reference is marked by a dot, unknown bases are grey."
)
MOTIF_CAPTION = (
    "Motifs found in the attributions, as mean contribution of the bases at their sites, and the "
    "known motif that is most similar, as information, in the same direction and place."
)
REGION_CAPTION = (
    "Predicted (line) and measured (filled) signal along the region, genes below. Bins of test "
    "chromosomes only tell how good the model is."
)


CELLS_CAPTION = (
    "Predicted (line) and measured (filled) signal of every asked cell, and the mean of the "
    "training cells (thin line), which knows the place but not the cell; rows of a signal share "
    "their scale. Good: the line follows what was measured where that differs from the mean, and "
    "its r is above that of the mean. A cell of one's own has nothing measured: believe it as far "
    "as the test cells."
)
FACTORS_CAPTION = (
    "The factors that make up most of the signals around the place, by gradient times expression. "
    "Good: factors known of the cell type lead, and cells differ by factors that they have or "
    "lack. A factor may stand for another one with the same motif or the same expression."
)
CONTACTS_CAPTION = (
    "Attention between the bins around the region (above the diagonal) and loops observed in the "
    "cell (below). Good: both triangles mirror each other away from the diagonal. Of a model "
    "trained without loops (contact_weight 0) nothing but a resemblance can be expected."
)
LOOPS_CAPTION = (
    "Loops against pairs of stretches that are as far apart and have none: area under the "
    "precision-recall curve. Good: the model above the dashed line (what distance alone gives), "
    "and above the loops of the other training cells, which are what one would guess without it."
)


@dataclass(frozen=True)
class _Kind:
    """What a section says of one kind of model.

    `single`: title and caption of figures by name; `several`: the same by folder.
    """

    title: str
    says: str
    good: str
    single: dict[str, tuple[str, str]]
    several: dict[str, tuple[str, str]]


OF_DNA = _Kind(
    "What {model} reads in DNA, {run}",
    "The trained model is asked about single variants, every base of a region, and the "
    "motifs that it has learnt.",
    "Variants that break a binding site lower the prediction nearby and their spread over "
    "strands and shifts is smaller than the score; motifs resemble those of known factors of "
    "the cell type; bases that matter stand together in words of 6 to 20. A model tells what "
    "it has learnt, not what the cell would do: an unexpected answer is a reason for an "
    "experiment.",
    {"variants.truth": ("Planted variants", PLANTED_CAPTION), "motifs": ("Motifs", MOTIF_CAPTION)},
    {"mutagenesis": ("Every base of", MAP_CAPTION), "predict": ("Along", REGION_CAPTION)},
)
OF_CELLS = _Kind(
    "What {model} says of cells, {run}",
    "The trained model is asked about regions, variants, factors and contacts in cells that it "
    "knows by the expression of their factors alone.",
    "Predictions follow what was measured in test cells better than the mean of the training "
    "cells does; variants act in the cells that have the factor whose site they change; attention "
    "finds the loops of cells that were held out. A model tells what it has learnt, not what the "
    "cell would do: an unexpected answer is a reason for an experiment.",
    {"loops": ("Loops", LOOPS_CAPTION), "variants.truth": ("Planted variants", PLANTED_CAPTION)},
    {
        "predict": ("Along", CELLS_CAPTION),
        "factors": ("Factors around", FACTORS_CAPTION),
        "contacts": ("Contacts around", CONTACTS_CAPTION),
    },
)


def asked_sections(found: Results) -> list[Section]:
    """One section per run of a model of DNA or of cells that was asked anything."""
    made = []
    for kind, runs, key in (
        (OF_DNA, found.sequence, "asked"),
        (OF_CELLS, found.unprofiled, "asked_cells"),
    ):
        asked = found.plan.get(key) or []
        for run in runs:
            if run.shuffled:
                continue
            paths = [path for path in asked if Path(path).parts[:3] == Path(run.folder).parts[:3]]
            section = _section(found, run, paths, kind)
            if section is not None:
                made.append(section)
    return made


def _section(found: Results, run: Run, paths: list[str], kind: _Kind) -> Section | None:
    folder = found.work / run.folder
    there = [path for path in _pictures(folder, kind) if path.exists()]
    if not paths and not there:
        return None
    section = Section(
        f"asked-{run.model}-{run.name}".replace(".", "-"),
        kind.title.format(model=model_name(run.model), run=run.name),
        kind.says,
        kind.good,
        [path for path in paths if path.endswith((".tsv", ".png"))],
    )
    section.truth = list(_truth(found, run))
    section.truth_says = (
        "The simulation knows what each variant changes and which factors bind. Effects from "
        f"{CLEAR:g} of full activity on count as clear."
    )
    section.truth_of = "track"
    section.strongest = _strongest(found, run)
    shown = list(_drawn(folder, kind))
    section.figures = [_figure(path, title, caption) for title, path, caption in shown]
    more = len(there) - len(shown)
    if more > 0:
        section.note = f"{more} more figures are files of their own, below {run.folder}/."
    return section


def _truth(found: Results, run: Run) -> Iterator[dict[str, Any]]:
    """Rows on what the simulation planted."""
    for name in ("variants.truth.tsv", "motifs.truth.tsv"):
        table = table_of(found.work / run.folder / name, TRUTH, found.unreadable)
        if table is not None:
            yield from table.reindex(columns=["track", *TRUTH, "low", "high"]).to_dict("records")


def _strongest(found: Results, run: Run) -> list[dict[str, Any]]:
    """The variants with the largest effect in any track, one row each."""
    table = table_of(found.work / run.folder / "variants.tsv", SCORED, found.unreadable)
    if table is None or table.empty:
        return []
    size = pd.to_numeric(table["local_lfc"], errors="coerce").abs()
    ranked = table.loc[size.sort_values(ascending=False, kind="stable").dropna().index]
    own = ranked.drop_duplicates(["chrom", "position", "ref", "alt"]).head(STRONGEST)
    extra = ["id", "local_lfc_sd", "local_lfc_percentile"]
    return own.reindex(columns=[*SCORED, *extra]).to_dict("records")


def _pictures(folder: Path, kind: _Kind) -> list[Path]:
    """Where figures lie, in the order of the page."""
    single = [folder / f"{name}.png" for name in kind.single]
    return [
        *single,
        *(path for name in kind.several for path in sorted(folder.glob(f"{name}/*.png"))),
    ]


def _drawn(folder: Path, kind: _Kind) -> Iterator[tuple[str, Path, str]]:
    """Title, file and caption of the figures that the page shows."""
    count = dict.fromkeys(kind.several, 0)
    for path in _pictures(folder, kind):
        if not path.exists():
            continue
        if path.parent == folder:
            title, caption = kind.single[path.stem]
            yield title, path, caption
        elif count[path.parent.name] < PICTURES:
            count[path.parent.name] += 1
            title, caption = kind.several[path.parent.name]
            yield f"{title} {path.stem.replace('_', ':', 1)}", path, caption


def _figure(path: Path, title: str, caption: str) -> dict[str, Any]:
    """A picture inside the page, which opens without a network and without other files."""
    data = base64.b64encode(path.read_bytes()).decode()
    image = f'<img src="data:image/png;base64,{data}" alt="{escape(f"{title}. {caption}")}">'
    return {"heading": title, "svg": Markup(image), "caption": caption}
