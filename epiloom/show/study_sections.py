"""Sections of the report for the studies: mark activity, perturbation, causal eQTLs.

A section appears when its tables are there, or when the plan asks for them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from epiloom.plan import activity
from epiloom.plan.errors import InputError
from epiloom.plan.studies import EQTL_TABLE
from epiloom.show import plots_activity, plots_eqtl, plots_perturbation
from epiloom.show.canvas import model_name, svg
from epiloom.show.results import Results, table_of

TRUTH = ["what", "n", "figure", "chance", "verdict"]  # columns of perturbation/truth.tsv
PROFILED = 3  # cells whose profiles are drawn in the report; more are files of their own
Drawn = list[tuple[str, str, Figure]]


@dataclass
class Section:
    """One study: `says` what it is about, `good` what a good result looks like.

    `truth`: rows on what the simulation planted, of a `cell` and `mark` or of a `track`.
    `strongest`: rows on the variants with the largest effects.
    """

    id: str
    title: str
    says: str
    good: str
    files: list[str]
    figures: list[dict[str, Any]] = field(default_factory=list)
    truth: list[dict[str, Any]] = field(default_factory=list)
    truth_says: str = (
        "The simulation knows which bins hold an enhancer of the gene. Here is how the "
        "perturbation ranks them."
    )
    truth_of: str = "mark"
    strongest: list[dict[str, Any]] = field(default_factory=list)
    note: str = ""


def sections(found: Results) -> list[Section]:
    """The studies that are there or asked for, in the order of the report."""
    asked = found.plan.get("studies") or []
    folders = {Path(path).parent for path in asked}
    folders |= {p.relative_to(found.work) for p in found.work.glob("results/*/perturbation")}
    made = []
    if _wanted(found, f"{activity.FOLDER}/summary.tsv"):
        made.append(_activity(found))
    made += [_perturbation(found, f) for f in sorted(folders) if f.name == "perturbation"]
    if _wanted(found, EQTL_TABLE):
        made.append(_eqtl(found))
    return made


def _wanted(found: Results, path: str) -> bool:
    return path in (found.plan.get("studies") or ()) or (found.work / path).exists()


def _activity(found: Results) -> Section:
    section = Section(
        "activity",
        "Mark activity",
        "How much of a mark lies around a gene's start, and how well that alone goes with "
        "expression, without any training.",
        "On real data the activity of H3K4me3, H3K27ac and H3K9ac within 6 kb correlates with "
        "expression at about 0.6 to 0.7, that of H3K27me3 and H3K9me3 at about zero or below. A "
        "wider window helps marks of gene bodies (H3K36me3) and dilutes those of promoters.",
        [f"{activity.FOLDER}/summary.tsv"],
    )

    def draw(folder: Path) -> Drawn:
        drawings = list(plots_activity.drawings(folder))
        profiles = [one for one in drawings if one.name.startswith("profiles")]
        cells = {one.name.rpartition(".")[2] for one in profiles}
        if len(cells) > PROFILED:
            section.note = (
                f"Profiles of the {len(cells)} cells are figures of their own: "
                f"snakemake {activity.FOLDER}/profiles_6kb.{min(cells)}.svg makes them all."
            )
            drawings = [one for one in drawings if one not in profiles]
        return [(one.title, one.caption, one.figure) for one in drawings]

    section.figures = _figures(found, draw, activity.FOLDER, "activity")
    return section


def _perturbation(found: Results, folder: Path) -> Section:
    """The section of one model."""
    model = folder.parent.name
    section = Section(
        f"perturbation-{model}",
        f"In-silico perturbation, {model_name(model)}",
        "The mark is taken away in one interval after the other, and the model of the fold that "
        "has not seen the gene predicts again: where does the prediction depend on it?",
        "Removing an active mark (H3K27ac, H3K4me3) at the promoter of expressed genes lowers the "
        "prediction by far the most; a distal effect that stands out from its neighbours points to "
        "an enhancer. Removing H3K27me3 at silent genes raises the prediction. A model tells what "
        "it has learned, not what the cell would do.",
        [f"{folder}/*.tsv.gz"],
    )
    section.figures = _figures(found, plots_perturbation.figures, folder, section.id)
    truth = table_of(found.work / folder / "truth.tsv", TRUTH, found.unreadable)
    if truth is not None:
        columns = ["cell", "mark", *TRUTH, "low", "high"]
        section.truth = truth.reindex(columns=columns).to_dict("records")
    return section


def _eqtl(found: Results) -> Section:
    section = Section(
        "eqtl",
        "Causal eQTLs",
        "Do the distal regions that matter to the model hold variants that are known to change "
        "the expression of the same gene in the same tissue?",
        "The tenth decile stands clearly above 1 and above the first ones, with q below 0.05, and "
        "not below the nearest bins, which anyone could have picked without a model.",
        [EQTL_TABLE],
    )
    section.figures = _figures(found, plots_eqtl.figures, Path(EQTL_TABLE).parent, "eqtl")
    return section


def _figures(
    found: Results, draw: Callable[[Path], Drawn], folder: str | Path, name: str
) -> list[dict[str, Any]]:
    """Figures for the page; a table that cannot be read is listed and leaves none."""
    try:
        drawn = draw(found.work / folder)
    except (InputError, KeyError, ValueError) as err:
        found.unreadable.append(f"{folder}: {str(err).strip()}")
        return []
    return [
        {
            "heading": title,
            "svg": Markup(svg(figure, f"{name}{i}", f"{title}. {caption}")),
            "caption": caption,
        }
        for i, (title, caption, figure) in enumerate(drawn)
    ]
