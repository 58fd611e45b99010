"""The plan: from a checked configuration to runs, tracks and files. Nothing here reads data."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Container
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import yaml

from epiloom.plan import (
    channels,
    checks,
    contacts,
    downstream,
    sequence,
    sources,
    studies,
    unprofiled,
)
from epiloom.plan.config import hint, resolve
from epiloom.plan.errors import InputError
from epiloom.plan.targets import Target
from epiloom.plan.tracks import SOURCE_OF, OwnTrack, Track, read_own_tracks, read_table, serves

# Raise when the same inputs would give other stored numbers (not for tidying code): it is a
# parameter of every data rule, so old results are made again.
DATA_VERSION = 3  # raise it when data rules give other numbers

PLANNING_ONLY = ("mark_sets", "folds", "shuffled_control", "gpu", "threads")  # no run sees these

KINDS = (sequence, channels, unprofiled)  # models whose examples are not genes
SIMULATED = "simulated"  # the mirror's folder in the working directory


@dataclass(frozen=True)
class Plan:
    """Everything the rules need to know.

    `runs` maps (model, run) to its settings; `tracks` maps a track's name to it; `files` maps a
    path under `resources/` to the source it comes from; `inputs` maps a source key to its path;
    `contacts` maps a cell to its capture Hi-C, where a model reads any; `targets` maps a name to
    the track that models of DNA predict; `channels` maps a model that reads all tracks to their
    names, in order, and `channel_tracks` a name to the track; `cell_tracks` maps a model of cells
    never profiled to its cells, each with the track of every signal; `cell_folds` see there.
    """

    config: dict
    where: str
    cards: dict[str, dict]
    cells: dict[str, dict]
    runs: dict[tuple[str, str], dict] = field(default_factory=dict)
    tracks: dict[str, Track] = field(default_factory=dict)
    files: dict[str, sources.Source] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    contacts: dict[str, contacts.CellContacts] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)
    channels: dict[str, list[str]] = field(default_factory=dict)
    channel_tracks: dict[str, Track] = field(default_factory=dict)
    cell_tracks: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    cell_folds: dict[str, dict[str, dict[str, list[str]]]] = field(default_factory=dict)

    @property
    def assembly(self) -> str:
        return self.config["assembly"]

    @property
    def gene_models(self) -> list[str]:
        """Models of the configuration that predict one number per gene."""
        return [m for m in self.config["models"] if self.cards[m]["dataset"] in checks.OF_GENES]

    @property
    def about_genes(self) -> bool:
        """Whether marks of genes are read: by a model of genes, or for their own sake."""
        return bool(self.gene_models) or not self.config["models"]

    @property
    def gene_runs(self) -> dict[tuple[str, str], dict]:
        """Their runs; each has a cell and marks."""
        return {k: s for k, s in self.runs.items() if k[0] in self.gene_models}

    @property
    def sequence_runs(self) -> dict[tuple[str, str], dict]:
        """Runs of models that read DNA and predict tracks."""
        return {k: s for k, s in self.runs.items() if s["examples"] == sequence.DATASET}

    @property
    def frame_runs(self) -> dict[tuple[str, str], dict]:
        """Runs of models that read all tracks along the genome."""
        return {k: s for k, s in self.runs.items() if s["examples"] == channels.DATASET}

    def track_names(self, settings: dict) -> list[str]:
        """Track names that a run reads, in the order of its marks."""
        signal = settings["signal"]
        by_pair = {(t.cell, t.mark): t for t in self.tracks.values() if serves(t.kind) == signal}
        return [by_pair[settings["cell"], mark].name for mark in settings["marks"]]


def cards(root: str | Path) -> dict[str, dict]:
    """`model.yaml` of every model folder, by name."""
    paths = sorted(Path(root).glob("models/*/model.yaml"))
    return {path.parent.name: yaml.safe_load(path.read_text()) for path in paths}


def fingerprint(settings: dict) -> str:
    """Short digest of a run's settings: other settings never find this run's training state."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def build(config: dict, root: str | Path, where: str = "config/config.yaml") -> Plan:
    """Check the configuration and lay out the whole plan.

    Raises:
        InputError: all problems of the configuration at once.
    """
    root = Path(root)
    config = resolve(config, root, where)
    own = read_own_tracks(locate(config["tracks"], root)) if config["tracks"] else {}
    plan = Plan(config, where, cards(root), read_table(root / "config/cells.tsv", "cell"))
    known_marks = read_table(root / "config/marks.tsv", "mark")
    problems = [
        *checks.selection(config, plan.about_genes),
        *checks.cells(config, plan.cells, own, bool(plan.gene_models)),
        *checks.marks(config, known_marks, own),
        *checks.folds(config),
        *checks.mark_sets(config),
        *checks.one_job(config),
        *(checks.pairs(config, plan.cells, known_marks, own) if plan.about_genes else ()),
        *checks.simulation(config),
        *channels.check(plan, known_marks, own),
        *unprofiled.check(plan, known_marks, own),
        *checks.datasets(config, plan.cards, [kind.DATASET for kind in KINDS]),
    ]
    if not problems:
        studies.narrow(config)
        active = {m for m, row in known_marks.items() if row["group"] == "active promoter"}
        for model in plan.gene_models:
            plan.runs.update(_gene_runs(plan, model, active))
        problems = _add_files(plan, root, own)
    if problems:
        raise InputError(where, problems)
    for kind in KINDS:
        for model in kind.models(plan):
            plan.runs.update(kind.runs(plan, model, folds(config), _shared(plan, model)))
    return plan


# --- runs ----------------------------------------------------------------------------------------


def mark_sets(entries: list[str], marks: list[str], active: Container[str] = ()) -> list[list[str]]:
    """Mark sets of a model, without repeats, in the order given.

    `each` is every mark alone, `pairs` every unordered pair, `active_pairs` those with at least one
    mark of `active`, `all` all marks; anything else is a list of marks joined by +.
    """
    sets: list[list[str]] = []
    for entry in entries:
        if entry == "each":
            sets += [[mark] for mark in marks]
        elif entry in ("pairs", "active_pairs"):
            pairs = [list(pair) for pair in itertools.combinations(marks, 2)]
            sets += [p for p in pairs if entry == "pairs" or p[0] in active or p[1] in active]
        elif entry == "all":
            sets.append(list(marks))
        else:
            sets.append(sorted(entry.split("+"), key=marks.index))
    unique = {tuple(s): s for s in sets}
    return list(unique.values())


def folds(config: dict) -> list[dict]:
    """The folds as {name, validation, test}; with `swap_folds` also the exchanged ones."""
    made = [{"name": name, **fold} for name, fold in config["folds"].items()]
    if config["swap_folds"]:
        made += [
            {"name": f"{f['name']}s", "validation": f["test"], "test": f["validation"]}
            for f in made
        ]
    return made


def _gene_runs(plan: Plan, model: str, active: Container[str]) -> dict[tuple[str, str], dict]:
    """One entry per training job of a model, named {cell}.{marks}.{fold}[.shuffled]."""
    config, options = plan.config, plan.config["models"][model]
    shared = _shared(plan, model)
    if shared["examples"] == contacts.DATASET:
        shared["contacts"] = config["contacts"]
    sets = mark_sets(options["mark_sets"], config["marks"], active)
    made = {}
    for cell, marks, fold in itertools.product(config["cells"], sets, folds(config)):
        controls = [False, True] if options["shuffled_control"] and marks == sets[0] else [False]
        for shuffled in controls:
            name = f"{cell}.{'+'.join(marks)}.{fold['name']}" + (".shuffled" if shuffled else "")
            own = {"cell": cell, "marks": marks, "fold": fold, "shuffled": shuffled}
            made[model, name] = shared | own
    return made


def _shared(plan: Plan, model: str) -> dict:
    """Settings that all runs of a model have in common."""
    card, options = plan.cards[model], plan.config["models"][model]
    # A setting left open (null) takes the value of the recipe that is chosen.
    recipe = card.get("recipes", {}).get(options.get("recipe"), {})
    options = options | {k: v for k, v in recipe.items() if options.get(k) is None}
    shared = {k: v for k, v in options.items() if k not in PLANNING_ONLY}
    shared.setdefault("keep", "best")
    shared |= {"version": card["version"], "data_version": DATA_VERSION}
    shared |= {"seed": plan.config["seed"], "assembly": plan.assembly}
    shared["examples"] = card["dataset"]
    if "window_bp" in card:
        shared["window_bp"] = card["window_bp"]
    return shared | _optimization(options, card)


def _optimization(options: dict, card: dict) -> dict:
    """Optimizer and schedule as the trainer takes them."""
    keras = options["schedule"] == "plateau_keras"
    decay = {"decay": card["decay"]} if "decay" in card else {}
    return {
        "optimizer": {
            "name": "adamw" if options["weight_decay"] else "adam",
            "learning_rate": options["learning_rate"],
            "epsilon": card["epsilon"],
            "weight_decay": options["weight_decay"],
            **decay,
        },
        "schedule": {
            "name": options["schedule"],
            "factor": options.get("factor", 0.2),
            "patience": 3,
            "min_delta": 1e-4,
            "floor": 0.0 if keras else 1e-6,
        },
    }


# --- files ---------------------------------------------------------------------------------------


def locate(path: str, root: Path) -> Path:
    """A path of the configuration: in the working directory, else beside the Snakefile."""
    given = Path(path).expanduser()
    if given.is_absolute() or given.exists():
        return given
    beside = root / given
    return beside if beside.exists() else given


def _add_files(plan: Plan, root: Path, own: dict[tuple[str, str], OwnTrack]) -> list[str]:
    """Resolve every file the plan needs; returns problems (missing local files, bad overrides)."""
    config, problems = plan.config, []
    rows = sources.catalogue(root)
    mirror = SIMULATED if config["simulate"] else config["download"]["mirror"]
    local = config["sources"]["local"]
    known = sorted({row.key for row in rows})
    problems += [
        f"sources.local.{key}: no such source{hint(key, known)}; keys are in config/sources.tsv"
        for key in local
        if key not in known
    ]

    def add(key: str, named: str | None = None, override: str | None = None, **fields: str) -> str:
        chosen = {key: override} if override else local
        source = sources.resolve(
            rows, key, assembly=plan.assembly, local=chosen, mirror=mirror, **fields
        )
        if source.local and "://" not in source.local:
            found = locate(source.local, root)
            source = replace(source, local=str(found.absolute()))
            if not found.exists():
                tried = f"{found.absolute()} does not exist; correct the path or fetch the file"
                problems.append(f"{named or f'sources.local.{key}'}: {tried}")
        if override:  # two own files may have one name
            folder = f"resources/own/{fields['cell']}-{fields['mark']}"
            path = f"{folder}/{Path(source.path).name}"
            source = replace(source, path=path, key=named or key)
        plan.files[source.path] = source
        return source.path

    try:
        genes = ("roadmap_genes", "roadmap_rpkm") if plan.about_genes else ()
        genes = genes or (("roadmap_genes",) if channels.models(plan) else ())
        for key in ("chrom_sizes", "gaps", "blacklist", *genes):
            if local.get(key) != "none":
                plan.inputs[key] = add(key)
        problems += _add_tracks(plan, own, add)
        problems += contacts.add(plan, add)
        problems += studies.add(plan, add)
        problems += sequence.add(plan, root, add, folds(config))
        problems += channels.add(plan, root, add, own, folds(config))
        problems += unprofiled.add(plan, root, add, own, folds(config))
        problems += downstream.add(plan, add)
    except InputError as err:
        problems += err.problems
    return problems


def _add_tracks(plan: Plan, own: dict[tuple[str, str], OwnTrack], add: Callable) -> list[str]:
    """One track per cell, mark and signal that a model reads; returns own tracks of no use."""
    signals = sorted({plan.config["models"][model]["signal"] for model in plan.gene_models})
    problems = []
    pairs = itertools.product(plan.config["cells"], plan.config["marks"])
    for cell, mark in pairs if plan.about_genes else ():
        row = own.get((cell, mark))
        wanted = signals or ([serves(row.kind)] if row else ["reads"])
        if row and serves(row.kind) not in wanted:
            problems.append(
                f"{plan.config['tracks']} line {row.line}: kind '{row.kind}' of {cell} {mark} is "
                f"read by no model: their `signal` is {', '.join(wanted)}. Give a file of that "
                "kind or change `signal`"
            )
            continue
        for signal in wanted:
            if row and signal == serves(row.kind):
                named = f"{plan.config['tracks']} line {row.line}"
                key = {"bam": "own_bam", "depth": "own_depth"}.get(row.kind, SOURCE_OF[signal])
                track = Track(cell, mark, row.kind, add(key, named, row.file, cell=cell, mark=mark))
            else:
                track = Track(cell, mark, signal, add(SOURCE_OF[signal], cell=cell, mark=mark))
            plan.tracks[track.name] = track
    return problems


# --- what the rules ask --------------------------------------------------------------------------


def example_files(plan: Plan, settings: dict) -> dict[str, str | list[str]]:
    """What the examples of a run are read from, by the names that their reader knows."""
    if settings["examples"] == sequence.DATASET:
        return sequence.example_files(plan, settings)
    if settings["examples"] == channels.DATASET:
        return channels.example_files(plan, settings["model"])
    if settings["examples"] == unprofiled.DATASET:
        fold = unprofiled.cell_fold(settings["fold"]["name"])
        return unprofiled.example_files(plan, settings["model"], fold)
    tracks, cell = plan.track_names(settings), settings["cell"]
    files: dict[str, str | list[str]] = {
        "genes": "results/genes/genes.tsv",
        "expression": "results/genes/expression.tsv",
        "features": [f"results/features/{track}.npy" for track in tracks],
    }
    if settings["examples"] == contacts.DATASET and plan.contacts[cell].source != "none":
        files |= {
            "partners": f"results/partners/{cell}.tsv",
            "regions": f"results/partners/{cell}.regions.tsv",
            "partner_bins": [f"results/partners/{track}.npy" for track in tracks],
        }
    return files


def jobs_of_many(plan: Plan) -> dict[str, list[tuple[str, str]]]:
    """Runs that one process trains and predicts, by the job's name; none if each is a job."""
    jobs: dict[str, list[tuple[str, str]]] = {}
    for (model, run), s in plan.gene_runs.items() if plan.config["one_job_per"] != "run" else ():
        marks = "" if plan.config["one_job_per"] == "cell" else "." + "+".join(s["marks"])
        name = re.sub(r"\W", "_", f"{model}_{s['cell']}{marks}")
        jobs.setdefault(name, []).append((model, run))
    return jobs


def settings(plan: Plan, model: str, run: str) -> dict:
    """Settings of one run.

    Raises:
        InputError: the run is not in the plan; names the nearest one.
    """
    if (model, run) not in plan.runs:
        names = [name for m, name in plan.runs if m == model]
        raise InputError(
            plan.where,
            f"run '{run}' of {model} is not in the plan{hint(run, names)}; its cell, marks and "
            "fold must be in the configuration",
        )
    return plan.runs[model, run]


def track(plan: Plan, name: str) -> Track:
    """One track by name.

    Raises:
        InputError: the track is not in the plan; names the nearest one.
    """
    known = plan.channel_tracks | plan.tracks
    if name not in known:
        raise InputError(
            plan.where,
            f"track '{name}' is not in the plan{hint(name, list(known))}; "
            "add its cell and mark to the configuration",
        )
    return known[name]


def source_dict(plan: Plan, path: str) -> dict:
    """One file's source as plain values, for a rule's params."""
    return asdict(plan.files[path])
