"""What models of cells never profiled need: their settings checked, their files in the plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from epiloom.plan import cell_folds, channels, sequence, sources, unprofiled_asked
from epiloom.plan.checks import trained_folds
from epiloom.plan.config import hint
from epiloom.plan.tracks import OwnTrack, Track
from epiloom.plan.unprofiled import (
    SIGNALS,
    asked_signals,
    cells,
    loop_assembly,
    loop_cells,
    models,
    parts,
    run_folds,
    sizes,
)

if TYPE_CHECKING:
    from epiloom.plan.runs import Plan

RESERVED = ("mean", "scales")  # names of files that lie beside those of the cells
COUNTED = {"reads": "counts", "bam": "counts"}  # kinds of track; any other is its own kind
TARGETS = ("mse", "poisson")  # losses whose targets the rules make
LOOPS = "simulated/local/hichip_loops.bedpe.gz"
OWN = "own_table"  # source key of tables of the user's own


def check(
    plan: Plan, known_marks: Mapping[str, dict], own: Mapping[tuple[str, str], OwnTrack]
) -> Iterator[str]:
    """Problems of these models' settings, as lines."""
    for model in models(plan):
        problems = [
            *_check_cells(plan, model, own),
            *_check_signals(plan, model, known_marks, own),
            *_check_inputs(plan, model),
            *_check_training(plan, model),
        ]
        yield from (f"models.{model}.{line}" for line in problems)
        yield from trained_folds(plan.config, model)


def _check_cells(plan: Plan, model: str, own: Mapping) -> Iterator[str]:
    options = plan.config["models"][model]
    asked = channels.asked_cells(plan, model, own)
    known = sorted({*plan.cells, *(cell for cell, _ in own)})
    if not asked:
        yield "cells: neither this key nor `cells` names any; name some"
    for cell in asked:
        if cell not in known:
            yield (
                f"cells: '{cell}' is neither in config/cells.tsv nor in your tracks table"
                f"{hint(cell, known)}; correct it"
            )
        elif cell in RESERVED:
            yield f"cells: '{cell}' is the name of another file; give the cell another name"
        elif options["cells"] != channels.ALL and not _expressed(plan, model, cell):
            yield (
                f"cells: '{cell}' has no column in the Roadmap expression table; leave it out, or "
                "give your own table with tf_expression.matrix"
            )
    yield from cell_folds.check(options, asked)
    for cell in options["loops"]["cells"] or ():
        if cell not in asked:
            yield (
                f"loops.cells: '{cell}' is not among the model's cells{hint(cell, asked)}; correct "
                "it or leave it out"
            )


def _expressed(plan: Plan, model: str, cell: str) -> bool:
    """Whether a cell's expression is known; of own tables only their reader can tell."""
    own = plan.config["models"][model]["tf_expression"]["matrix"]
    if own or "roadmap_rpkm" in plan.config["sources"]["local"] or plan.config["simulate"]:
        return True
    return plan.cells.get(cell, {}).get("expression") == "1"


def _check_signals(
    plan: Plan, model: str, known_marks: Mapping[str, dict], own: Mapping
) -> Iterator[str]:
    options = plan.config["models"][model]
    if isinstance(options["signals"], int):
        yield f"signals: {options['signals']} is a number; name the signals, or leave it null"
    if isinstance(options["tfs"], int):
        yield (
            f"tfs: {options['tfs']} is a number; name the TFs, or leave it null for all of the "
            "motif set"
        )
    known = sorted({*known_marks, *SIGNALS, *(mark for _, mark in own)})
    for name in options["signals"] if isinstance(options["signals"], list) else ():
        if name not in known:
            yield (
                f"signals: '{name}' is neither in config/marks.tsv nor in your tracks table"
                f"{hint(name, known)}; correct it"
            )
    if plan.config["simulate"] and options["signal"] == "fold_change":
        yield "signal: fold_change is simulated for one cell only; use pval or reads"
    if options["loss"] not in (None, *TARGETS):
        yield (
            f"loss: no rule makes the targets of '{options['loss']}'; use {' or '.join(TARGETS)}, "
            "or train the network from Python"
        )
    if options["loss"] == "poisson" and options["signal"] != "reads":
        yield f"loss: poisson needs counts, signal {options['signal']} has none; set it to reads"


def _check_inputs(plan: Plan, model: str) -> Iterator[str]:
    options = plan.config["models"][model]
    seq_bp, size = sizes(options)
    if seq_bp % size:
        near = seq_bp // size * size or size
        yield f"seq_bp: {seq_bp} is no multiple of the bin, {size} bp; give such as {near}"
    motifs = options["motifs"]
    if motifs["table"] and not motifs["file"]:
        yield "motifs.table: belongs to a file of your own; give motifs.file too, or remove it"
    if motifs["threshold"] == "homer" and not motifs["file"]:
        yield "motifs.threshold: homer needs a HOMER file with thresholds; give motifs.file"
    if motifs["threshold"] in ("p", "fraction") and motifs["value"] > 1:
        yield f"motifs.value: {motifs['value']} is above 1; give a share, such as 0.001"
    if not options["tf_expression"]["matrix"] and plan.assembly != "hg19":
        yield (
            f"tf_expression.matrix: the public table goes with hg19, the study is on "
            f"{plan.assembly}; give your own table (genes x cells, TPM or RPKM)"
        )
    if _contacts(options) and not _loops_given(plan, model):
        yield (
            "loops.file: contact_weight needs loops (HiChIP); give a table, with {cell} in its "
            "path or a column cell, or set contact_weight to 0"
        )


def _contacts(options: Mapping) -> bool:
    return bool(options["contact_weight"])


def _loops_given(plan: Plan, model: str) -> bool:
    own = plan.config["models"][model]["loops"]["file"]
    return bool(own or plan.config["simulate"] or "hichip_loops" in plan.config["sources"]["local"])


def _check_training(plan: Plan, model: str) -> Iterator[str]:
    options = plan.config["models"][model]
    if options["epochs"] == 0 and not options["start"]:
        yield "epochs: 0 needs weights; name them in `start`"


# --- files ----------------------------------------------------------------------------------------


def add(
    plan: Plan,
    root: Path,
    add_file: Callable[..., str],
    own: Mapping[tuple[str, str], OwnTrack],
    folds: list[dict],
) -> list[str]:
    """Put tracks, sequence, motifs, expression and regions of these models into the plan.

    Returns:
        Problems, as lines.
    """
    problems = []
    for model in models(plan):
        found = [
            *_add_tracks(plan, root, add_file, own, model),
            *_add_loops(plan, root, add_file, model),
        ]
        problems += [f"models.{model}.{line}" for line in found]
        plan.inputs["genome_fasta"] = add_file("genome_fasta")
        _add_motifs(plan, add_file, model)
        _add_expression(plan, add_file, model)
        problems += _add_regions(plan, root, add_file, model)
        sequence.add_start(plan, model, run_folds(plan, model, folds), add_file)
    if not problems:
        problems += dict.fromkeys(unprofiled_asked.check(plan))
    return problems


def _add_regions(plan: Plan, root: Path, add_file: Callable[..., str], model: str) -> Iterator[str]:
    """Own regions, or the peak files that tell them."""
    from epiloom.plan.runs import locate

    asked = plan.config["models"][model]["regions"]
    if asked["bed"]:
        where = {"cell": model, "mark": "regions"}
        named = f"models.{model}.regions.bed"
        plan.inputs["region_bed"] = add_file("own_regions", named, asked["bed"], **where)
    if asked["bed"] and asked["peaks"]:
        yield f"models.{model}.regions.peaks: regions.bed tells the regions already; remove one"
        return
    paths: list[str] = []
    for pattern in asked["peaks"]:
        folder = locate(str(Path(pattern).parent), root)
        found = sorted(str(path) for path in folder.glob(Path(pattern).name))
        if not found:
            yield (
                f"models.{model}.regions.peaks: '{pattern}' fits no file in {folder.absolute()}; "
                "correct it"
            )
        paths += [path for path in found if path not in paths]
    for number, path in enumerate(paths):
        where = {"cell": model, "mark": f"peaks{number}"}
        named = f"models.{model}.regions.peaks"
        plan.inputs[f"region_peaks.{number}"] = add_file("own_peaks", named, path, **where)
    if paths and len(paths) < asked["least_files"]:
        yield (
            f"models.{model}.regions.least_files: {asked['least_files']} files can never touch a "
            f"bin where {len(paths)} are given; lower it, or give more"
        )


def _add_tracks(
    plan: Plan, root: Path, add_file: Callable[..., str], own: Mapping, model: str
) -> Iterator[str]:
    options = plan.config["models"][model]
    found: dict[str, dict[str, Track]] = {}
    for cell in channels.asked_cells(plan, model, own):
        for mark in asked_signals(plan, model) if _expressed(plan, model, cell) else ():
            row = own.get((cell, mark))
            if not row and _not_simulated(plan, mark, options["signal"]):
                continue
            track = channels.track_of(plan, root, add_file, row, cell, mark, options["signal"])
            if track:
                found.setdefault(cell, {})[mark] = track
                plan.channel_tracks[track.name] = track
    plan.cell_tracks[model] = {c: {s: t.name for s, t in of.items()} for c, of in found.items()}
    kind, held = options["signal"], cell_folds.named(options)
    for cell in channels.asked_cells(plan, model, own):
        if cell not in found and (options["cells"] != channels.ALL or cell in held):
            yield (
                f"cells: '{cell}' has none of the signals with signal {kind}, or no expression; "
                "leave it out, or add its tracks to your tracks table"
            )
    yield from cell_folds.settle(plan, root, model)
    for name in plan.cell_folds[model]:
        yield from _untrained(options, parts(plan, model, name)["train"], found, name)
    yield from _mixed(found)


def _untrained(
    options: Mapping, train: list[str], found: Mapping[str, Mapping], name: str
) -> Iterator[str]:
    """Signals that no training cell has, in one division of the cells."""
    kind, of = options["signal"], f" of cell fold {name}" if name else ""
    if not train:
        yield (
            f"signal: no training cell{of} has a track with signal {kind}; use another, or add "
            "tracks"
        )
    for signal in options["signals"] or ():
        if train and not options["start"] and not any(signal in found[cell] for cell in train):
            yield (
                f"signals: no training cell{of} has {signal} with signal {kind}, so it cannot be "
                "learnt; leave it out, or add tracks"
            )


def _not_simulated(plan: Plan, mark: str, signal: str) -> bool:
    """The simulation writes reads of histone marks only."""
    return bool(plan.config["simulate"]) and signal == "reads" and not mark.startswith("H")


def _mixed(found: Mapping[str, Mapping[str, Track]]) -> Iterator[str]:
    """Signals of two kinds, which a model would take for differences between cells."""
    kinds: dict[str, dict[str, list[str]]] = {}
    for cell, of in found.items():
        for signal, track in of.items():
            kind = COUNTED.get(track.kind, track.kind)
            kinds.setdefault(signal, {}).setdefault(kind, []).append(cell)
    for signal, by in kinds.items():
        if len(by) > 1:
            each = "; ".join(f"{kind} in {', '.join(names[:5])}" for kind, names in by.items())
            yield f"signal: {signal} is of several kinds ({each}); give one kind in all cells"


def _add_motifs(plan: Plan, add_file: Callable[..., str], model: str) -> None:
    asked = plan.config["models"][model]["motifs"]
    where = {"cell": model, "mark": "motifs"}
    for key, public in (("file", "hocomoco_meme"), ("table", "hocomoco_annotation")):
        if asked[key]:
            path = add_file(OWN, f"models.{model}.motifs.{key}", asked[key], **where)
            plan.inputs[f"motif_{key}"] = path
        elif not asked["file"]:
            plan.inputs[f"motif_{key}"] = add_file(public)


def _add_expression(plan: Plan, add_file: Callable[..., str], model: str) -> None:
    asked = plan.config["models"][model]["tf_expression"]
    public = not asked["matrix"] or plan.config["simulate"]
    usual = {"matrix": "roadmap_rpkm", "symbols": "roadmap_genes" if public else "gencode"}
    for key in ("matrix", "symbols", "aliases"):
        where = {"cell": model, "mark": key}
        if asked[key] and asked[key] != "none":
            path = add_file(OWN, f"models.{model}.tf_expression.{key}", asked[key], **where)
            plan.inputs[f"tf_{key}"] = path
        elif key in usual and asked[key] != "none":
            plan.inputs[f"tf_{key}"] = add_file(usual[key])


def _add_loops(plan: Plan, root: Path, add_file: Callable[..., str], model: str) -> Iterator[str]:
    from epiloom.plan.runs import locate

    options = plan.config["models"][model]
    asked = options["loops"]
    if not _contacts(options):
        return
    named, own = f"models.{model}.loops.file", asked["file"]
    for cell in asked["cells"] or cells(plan, model):
        if own:
            path = own.replace("{cell}", cell)
            if not asked["cells"] and "{cell}" in own and not locate(path, root).exists():
                continue  # not every cell has loops
            where = {"cell": cell if "{cell}" in own else "all", "mark": "loops"}
            plan.inputs[f"loops.{cell}"] = add_file(OWN, named, path, **where)
        elif plan.config["simulate"] and "hichip_loops" not in plan.config["sources"]["local"]:
            plan.inputs[f"loops.{cell}"] = _simulated_loops(plan)
        else:
            plan.inputs[f"loops.{cell}"] = add_file("hichip_loops", cell=cell)
    theirs = loop_assembly(plan, model)
    if loop_cells(plan, model) and theirs != plan.assembly:
        plan.inputs["loops_chain"] = add_file(f"liftover_{theirs}_{plan.assembly}")
    if not loop_cells(plan, model):
        yield f"loops.file: '{own}' is there for no cell; correct the path, or name loops.cells"


def _simulated_loops(plan: Plan) -> str:
    told = {"licence": "simulated", "used_for": "loops between bins"}
    kept = f"resources/local/hichip_loops/{LOOPS.rpartition('/')[2]}"
    plan.files[kept] = sources.Source(
        "hichip_loops", LOOPS, (), None, "", "gzip", path=kept, local=LOOPS, **told
    )
    return kept
