"""Models that read DNA: their targets, runs and files. No gene, mark or cell is needed for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from epiloom.plan.checks import chromosomes, trained_folds
from epiloom.plan.config import hint
from epiloom.plan.errors import InputError
from epiloom.plan.targets import Target, read_targets
from epiloom.plan.tracks import SOURCE_OF

if TYPE_CHECKING:
    from epiloom.plan.runs import Plan

DATASET = "windows"
PLANTED = "planted"  # stands for the variants of the simulation, on a fold's test chromosomes
PUBLISHED = "published"  # stands for the authors' weights
_REGION = re.compile(r"([A-Za-z0-9_.]+):([\d,]+)-([\d,]+)")
IN_FOLDER = ("encoder.pth", "decoder.pth")
DRAWN = ("png", "tsv.gz")  # a figure, and its numbers
USUAL = ("sum_stat", "scale", "clip_soft", "clip")


def models(plan: Plan) -> list[str]:
    """Models of the configuration that read DNA."""
    return [m for m in plan.config["models"] if plan.cards[m]["dataset"] == DATASET]


def bin_bp(plan: Plan) -> int:
    """Bin size of the targets, the same for all models of DNA."""
    return next((plan.config["models"][model]["bin_bp"] for model in models(plan)), 128)


def check(plan: Plan) -> Iterator[str]:
    """Problems of the models of DNA and of the block `targets`, as lines."""
    options = plan.config["targets"]
    for model in models(plan):
        own = plan.config["models"][model]
        size, stride = own["bin_bp"], own["stride_bp"]
        if size != bin_bp(plan):
            yield (
                f"models.{model}.bin_bp: {size} differs from {bin_bp(plan)} of another model; "
                "give both the same, since they predict the same targets"
            )
        yield from trained_folds(plan.config, model)
        for key, value in (("frozen", True), ("epochs", 0)):
            if own[key] == value and not own["start"]:
                yield f"models.{model}.{key}: {value} needs weights; name them in `start`"
        if own["seq_bp"] % size:
            yield f"models.{model}.seq_bp: {own['seq_bp']} is no multiple of bin_bp {size}"
        elif 2 * own["crop_bins"] >= own["seq_bp"] // size:
            bins = own["seq_bp"] // size
            yield f"models.{model}.crop_bins: {own['crop_bins']} on each side leave none of {bins}"
        if stride and stride % size:
            yield f"models.{model}.stride_bp: {stride} is no multiple of bin_bp {size}"
    if options["table"]:
        return
    cells = options["cells"] or plan.config["cells"]
    if not cells:
        yield "targets: no cell types; name them in targets.cells, or give your own targets.table"
    sim = plan.config["simulate"]
    for cell in cells:
        if cell not in plan.cells:
            close = hint(cell, sorted(plan.cells))
            yield f"targets.cells: '{cell}' is not in config/cells.tsv{close}; correct it"
        elif sim and cell not in sim["cells"]:
            yield f"targets.cells: '{cell}' is not simulated; add it to simulate.cells"
    for mark in options["marks"]:
        if sim and mark not in sim["assays"]:
            yield f"targets.marks: '{mark}' is not simulated; add it to simulate.assays"
    if plan.assembly != "hg19":
        yield (
            f"targets: the public tracks are on hg19, the study on {plan.assembly}; give your own "
            "targets.table"
        )


def _check_asked(plan: Plan) -> Iterator[str]:
    asked = plan.config["interpret"]
    for key in ("regions", "mutagenesis", "contacts"):
        for text in asked[key]:
            if not is_region(text):
                yield f"interpret.{key}: '{text}' is no region; give CHROM:START-END, 0-based"
    known = ["all", *chromosomes(plan.config)]
    for name in asked["tracks"]:
        if name not in known:
            yield f"interpret.tracks: '{name}' is no chromosome of the study{hint(name, known)}"
    if asked["variants"] == PLANTED and not plan.config["simulate"]:
        yield "interpret.variants: 'planted' is for simulated data; give a VCF or a table"


def add(plan: Plan, root: Path, add_file: Callable[..., str], folds: list[dict]) -> list[str]:
    """Put targets, sequence and conservation into the plan if a model reads DNA.

    Args:
        add_file: resolves a source's key (and an own file) to a path under `resources/`.

    Returns:
        Problems, as lines.
    """
    from epiloom.plan import unprofiled_asked

    if not models(plan) and not _of_cells(plan):
        return []
    problems = [*_check_asked(plan), *unprofiled_asked.add(plan, add_file)]
    _add_asked(plan, add_file)
    if not models(plan):
        return problems
    if problems := [*problems, *check(plan)]:
        return problems
    plan.targets.update(_targets(plan, root, add_file))
    plan.inputs["genome_fasta"] = add_file("genome_fasta")
    if any(_conserved(plan.config["models"][model]) for model in models(plan)):
        key = plan.config["sequence"]["conservation"]
        plan.inputs["conservation"] = add_file(key)
    if within := plan.config["sequence"]["windows"]["within"]:
        where = {"cell": "windows", "mark": "within"}
        plan.inputs["within"] = add_file("own_regions", "sequence.windows.within", within, **where)
    for model in models(plan):
        add_start(plan, model, folds, add_file)
    if plan.config["interpret"]["motifs"]:
        plan.inputs["hocomoco_meme"] = add_file("hocomoco_meme")
    return []


def _of_cells(plan: Plan) -> bool:
    """Whether a model of cells never profiled is asked the same questions."""
    return any(plan.cards[model]["dataset"] == "regions" for model in plan.config["models"])


def _add_asked(plan: Plan, add_file: Callable[..., str]) -> None:
    """Put files of variants and regions that trained models are asked into the plan."""
    asked = plan.config["interpret"]
    if asked["variants"] and asked["variants"] != PLANTED:
        where = {"cell": "all", "mark": "variants"}
        plan.inputs["variants"] = add_file(
            "own_variants", "interpret.variants", asked["variants"], **where
        )
    if asked["bed"]:
        where = {"cell": "all", "mark": "regions"}
        plan.inputs["asked_regions"] = add_file(
            "own_regions", "interpret.bed", asked["bed"], **where
        )


def add_start(plan: Plan, model: str, folds: list[dict], add_file: Callable[..., str]) -> None:
    """Put the weights that trainings of a model begin with into the plan."""
    own = plan.config["models"][model]
    for fold in trained(own, folds) if own["start"] else ():
        name = f"start.{model}.{fold['name']}"
        if Path(own["start"].replace("{fold}", fold["name"])).is_dir():  # the authors' two files
            parts = (str(Path(own["start"]) / part) for part in IN_FOLDER)
            plan.inputs[name] = [_add_start(model, part, fold, add_file) for part in parts]
        else:
            plan.inputs[name] = _add_start(model, own["start"], fold, add_file)


def _add_start(model: str, given: str, fold: dict, add_file: Callable[..., str]) -> str:
    """The file with the weights that a model's training on a fold begins with."""
    if given == PUBLISHED:
        return add_file(f"{model}_weights")
    where = {"cell": fold["name"], "mark": "start", "fold": fold["name"]}
    own = Path("results", model, fold["name"], "weights.pt")
    if Path(given.replace("{fold}", fold["name"])).absolute() == own.absolute():
        raise InputError(
            f"models.{model}.start",
            f"'{given}' is the file that this run writes; train in another folder, or copy it",
        )
    return add_file("own_weights", f"models.{model}.start", given, **where)


def start(plan: Plan, model: str, settings: dict) -> str | list[str]:
    """What a run's training begins with, if not with random weights."""
    return plan.inputs.get(f"start.{model}.{settings['fold']['name']}", [])


def _targets(plan: Plan, root: Path, add_file: Callable[..., str]) -> dict[str, Target]:
    from epiloom.plan.runs import locate

    options = plan.config["targets"]
    usual = {key: options[key] for key in USUAL}
    if options["table"]:
        table = locate(options["table"], root)
        made = []
        for line, target in enumerate(read_targets(table, usual), start=2):
            named = f"{options['table']} line {line}"
            where = {"cell": target.identifier, "mark": "target"}
            file = add_file("own_target", named, target.file, **where)
            peak = target.peak and add_file("own_peaks", named, target.peak, **where)
            made.append(replace(target, file=file, peak=peak))
        return {target.identifier: target for target in made}
    key = SOURCE_OF[options["signal"]]
    return {
        f"{cell}-{mark}": Target(f"{cell}-{mark}", add_file(key, cell=cell, mark=mark), **usual)
        for cell in options["cells"] or plan.config["cells"]
        for mark in options["marks"]
    }


def trained(options: dict, folds: list[dict]) -> list[dict]:
    """The folds that a model trains on."""
    asked = options["folds"]
    return [fold for fold in folds if not asked or of_chromosomes(fold["name"]) in asked]


def of_chromosomes(name: str) -> str:
    """Name of the chromosomes' fold: `fold1`, also of `fold1.E003`, which holds out cells too."""
    return name.partition(".")[0]


def _conserved(options: dict) -> bool:
    return options["conservation"] != "off"


def runs(plan: Plan, model: str, folds: list[dict], shared: dict) -> dict[tuple[str, str], dict]:
    """One run per fold, named by it; with `shuffled_control` also one with targets out of place.

    Args:
        shared: settings that do not depend on the fold.
    """
    options = plan.config["models"][model]
    laid = plan.config["sequence"]["windows"]
    own = shared | {
        "tracks": list(plan.targets),
        "targets": {name: target.values for name, target in plan.targets.items()},
        "conserved_by": plan.config["sequence"]["conservation"] if _conserved(options) else None,
        "windows": {key: value for key, value in laid.items() if key != "within"},
    }
    if laid["within"]:
        own["within"] = laid["within"]  # the regions themselves are a file of the examples
    made = {}
    for fold in trained(options, folds):
        for shuffled in (False, True) if options["shuffled_control"] else (False,):
            name = fold["name"] + (".shuffled" if shuffled else "")
            made[model, name] = own | {"fold": fold, "shuffled": shuffled}
    return made


def example_files(plan: Plan, settings: dict) -> dict[str, str | list[str]]:
    """What the examples of a run are read from, by the names that their reader knows."""
    store, size = f"results/store/{plan.assembly}", settings["bin_bp"]
    files: dict[str, str | list[str]] = {
        "manifest": f"{store}/manifest.json",
        "bases": f"{store}/sequence/bases.npy",
        "mask": f"{store}/mask/{size}.npy",
        "targets": [f"{store}/targets{size}/{name}.npy" for name in settings["tracks"]],
    }
    if settings["conserved_by"]:
        files["conservation"] = f"{store}/conservation/{settings['conserved_by']}.npy"
    if "within" in plan.inputs:
        files["within"] = plan.inputs["within"]
    return files


def variants(plan: Plan, settings: dict) -> str | list[str]:
    """The file of variants that a run scores; planted ones lie where the run has not been."""
    if plan.config["interpret"]["variants"] == PLANTED:
        return f"results/truth/variants.{of_chromosomes(settings['fold']['name'])}.vcf"
    return plan.inputs.get("variants", [])


def is_region(text: str) -> bool:
    """Whether a text is CHROM:START-END."""
    if not _REGION.fullmatch(text):
        return False
    _, start, end = region_parts(text)
    return start < end


def region_parts(text: str) -> tuple[str, int, int]:
    """Chromosome, start and end of a region that was checked."""
    chrom, *ends = _REGION.fullmatch(text).groups()
    start, end = (int(number.replace(",", "") or 0) for number in ends)
    return chrom, start, end


def region_name(text: str) -> str:
    """A region as part of a file's name: `chr1:1,000-2,000` is `chr1_1000-2000`."""
    chrom, start, end = region_parts(text)
    return f"{chrom}_{start}-{end}"


def places(plan: Plan) -> list[str]:
    """What may be predicted as bigWigs: a chromosome, `all` of them, or the regions of `bed`."""
    return named_places(plan.config) if models(plan) else []


def named_places(config: dict) -> list[str]:
    """The same of a configuration, for any kind of model."""
    given = ["bed"] if config["interpret"]["bed"] else []
    return ["all", *given, *chromosomes(config)]


def asked(plan: Plan) -> list[str]:
    """Paths of what models of DNA are asked by the configuration, but for shuffled controls."""
    block, paths = plan.config["interpret"], []
    for (model, run), settings in plan.sequence_runs.items():
        if settings["shuffled"]:
            continue
        own = f"results/{model}/{run}"
        paths += [
            f"{own}/predict/{region_name(r)}.{end}" for r in block["regions"] for end in DRAWN
        ]
        paths += [
            f"{own}/mutagenesis/{region_name(r)}.{end}"
            for r in block["mutagenesis"]
            for end in DRAWN
        ]
        wanted = [*block["tracks"], *(["bed"] if block["bed"] else [])]
        paths += [f"{own}/tracks/{place}" for place in wanted]
        if block["variants"]:
            paths += [f"{own}/variants.tsv", f"{own}/variants.vcf"]
        if block["variants"] == PLANTED:
            paths += [f"{own}/variants.truth.tsv", f"{own}/variants.truth.png"]
        if block["motifs"]:
            paths += [f"{own}/motifs.{end}" for end in ("tsv", "meme", "png")]
        if block["motifs"] and plan.config["simulate"]:
            paths.append(f"{own}/motifs.truth.tsv")
    return paths


def shown(plan: Plan) -> list[str]:
    """Paths of what the report reads: runs, what was asked, the tracks of its example region."""
    names = ("history.tsv", "metrics.tsv", "predictions.npy")
    paths = [f"results/{model}/{run}/{name}" for model, run in plan.sequence_runs for name in names]
    for settings in plan.sequence_runs.values():
        files = example_files(plan, settings)
        paths += [files["manifest"], files["mask"], *files["targets"]]
        paths += [files["conservation"]] if "conservation" in files else []
    return list(dict.fromkeys([*paths, *asked(plan)]))
