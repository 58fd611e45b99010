"""Checks of the configuration that a schema cannot express; each yields its problems as lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from epiloom.plan.config import hint
from epiloom.plan.tracks import SOURCE_OF

MARK_SETS = ("each", "pairs", "active_pairs", "all")
OF_GENES = ("promoter_bins", "promoter_and_partners")  # kinds of examples, one per gene
MAIN_CHROMOSOMES = [f"chr{c}" for c in [*range(1, 23), "X", "Y"]]


def selection(config: dict, genes: bool) -> Iterator[str]:
    """Cells and marks are needed where genes are; a study of DNA alone may have none."""
    for key, what in (("cells", "cell type"), ("marks", "mark")):
        if genes and not config[key]:
            yield f"{key}: key '{key}' is missing or empty; name at least one {what}"


def cells(config: dict, cells: dict, own: dict, genes: bool) -> Iterator[str]:
    known = {*cells, *(cell for cell, _ in own)}
    for cell in config["cells"]:
        if cell not in known:
            yield (
                f"cells: '{cell}' is neither in config/cells.tsv nor in your tracks table"
                f"{hint(cell, sorted(known))}; correct it or add its tracks to the table"
            )
        elif (
            genes
            and cell in cells
            and cells[cell]["expression"] != "1"
            and "roadmap_rpkm" not in config["sources"]["local"]
        ):
            yield (
                f"cells: '{cell}' has no column in the Roadmap expression table; leave it out, or "
                "give your own table with the key sources.local.roadmap_rpkm"
            )


def marks(config: dict, known_marks: dict, own: dict) -> Iterator[str]:
    known = {*known_marks, *(mark for _, mark in own)}
    asked = [("marks", mark) for mark in config["marks"]]
    asked += [("perturbation.marks", mark) for mark in config["perturbation"]["marks"]]
    for key, mark in asked:
        if mark not in known:
            yield (
                f"{key}: '{mark}' is neither in config/marks.tsv nor in your tracks table"
                f"{hint(mark, sorted(known))}; correct it or add its tracks to the table"
            )


def pairs(config: dict, cells: dict, known_marks: dict, own: dict) -> Iterator[str]:
    overridden = {SOURCE_OF[k] for k in SOURCE_OF} & set(config["sources"]["local"])
    if config["simulate"] or overridden:
        return  # other files than Roadmap's own; whether they exist is checked file by file
    for cell in config["cells"]:
        if cell not in cells:
            missing = [m for m in config["marks"] if (cell, m) not in own]
            for mark in missing:
                yield f"tracks: no row for {cell} {mark}; add one, or drop the cell or the mark"
            continue
        has = cells[cell]["marks"].split(",")
        for mark in config["marks"]:
            if mark not in has and (cell, mark) not in own and mark in known_marks:
                yield (
                    f"marks: Roadmap has no {mark} for {cell} ({cells[cell]['name']}); it has "
                    f"{', '.join(has[:8])}. Drop the cell or the mark, or add your own track"
                )


def chromosomes(config: dict) -> list[str]:
    """Names of the chromosomes in use, in order."""
    if config["simulate"]:
        return [f"chr{i + 1}" for i in range(config["simulate"]["chromosomes"])]
    return config["chromosomes"] or MAIN_CHROMOSOMES


def folds(config: dict) -> Iterator[str]:
    tested: dict[str, str] = {}
    known = chromosomes(config)
    for name, fold in config["folds"].items():
        for chrom in set(fold["validation"]) & set(fold["test"]):
            yield (
                f"folds.{name}: {chrom} is in validation and in test; a held-out chromosome may be "
                "in one of them only"
            )
        for part in ("validation", "test"):
            for chrom in fold[part]:
                if chrom not in known:
                    yield (
                        f"folds.{name}.{part}: '{chrom}' is not a chromosome in use"
                        f"{hint(chrom, known)}; in use: {', '.join(known)}"
                    )
        for chrom in fold["test"]:
            if chrom in tested:
                yield (
                    f"folds.{name}.test: {chrom} is tested in {tested[chrom]} too, so its genes "
                    "would count twice; keep it in one fold"
                )
            tested[chrom] = name
        if not set(known) - set(fold["validation"]) - set(fold["test"]):
            yield f"folds.{name}: no chromosome is left for training; hold out fewer"


def trained_folds(config: dict, model: str) -> Iterator[str]:
    """Folds that a model is to be trained on, and that are none."""
    named = [*config["folds"]]
    named += [f"{name}s" for name in named if config["swap_folds"]]
    for fold in config["models"][model]["folds"] or ():
        if fold not in named:
            yield f"models.{model}.folds: there is no fold '{fold}'{hint(fold, named)}; correct it"


def mark_sets(config: dict) -> Iterator[str]:
    for model, settings in config["models"].items():
        for entry in settings.get("mark_sets", []):
            if entry in MARK_SETS:
                continue
            marks = entry.split("+")
            for mark in marks:
                if mark not in config["marks"]:
                    yield (
                        f"models.{model}.mark_sets: '{mark}' is not in `marks`"
                        f"{hint(mark, [*config['marks'], *MARK_SETS])}; add it there"
                    )
            if len(set(marks)) < len(marks):
                yield f"models.{model}.mark_sets: '{entry}' names a mark twice; name it once"


def one_job(config: dict) -> Iterator[str]:
    for model, settings in config["models"].items():
        if config["one_job_per"] != "run" and settings["gpu"] > 1:
            yield (
                f"one_job_per: '{config['one_job_per']}' trains on one GPU, but models.{model}.gpu "
                f"is {settings['gpu']}; set it to 1, or one_job_per to run"
            )


def simulation(config: dict) -> Iterator[str]:
    sim = config["simulate"]
    if not sim:
        return
    for key, made in (("cells", sim["cells"]), ("marks", sim["assays"])):
        for name in config[key]:
            if name not in made:
                where = "cells" if key == "cells" else "assays"
                yield f"{key}: '{name}' is not simulated; add it to simulate.{where}"
    if (sim["lineages"] or 1) > len(sim["cells"]):
        yield (
            f"simulate.lineages: {sim['lineages']} of {len(sim['cells'])} cells; give that many at "
            "most"
        )
    for name in sim["read_cells"] or ():
        if name not in sim["cells"]:
            yield f"simulate.read_cells: '{name}' is not in simulate.cells; add it there"


def datasets(config: dict, cards: dict[str, dict], others: Sequence[str]) -> Iterator[str]:
    """Models whose examples no rule makes yet."""
    for model in config["models"]:
        kind = cards[model]["dataset"]
        if kind not in (*OF_GENES, *others):
            yield (
                f"models.{model}: no rule makes its examples ({kind}) yet; leave it out, or use "
                f"the network from Python with models.load('{model}')"
            )
