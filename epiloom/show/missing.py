"""What was planned and is not there, why, and how to repeat it: from the plan and the logs."""

from __future__ import annotations

import functools
import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from epiloom.show import missing_cells, missing_latents
from epiloom.show.facts import reads_partners
from epiloom.show.results import Results, Run, track_names
from epiloom.show.track_example import target_paths

NEEDED = "something it needs failed"
TABLE = "table of "  # and the model: the name of a gap
TAIL = 12  # lines of a log shown
WIDEST = 300  # characters of a line shown
READ = 65536  # bytes read from the end of a log
# steps that every later one needs
SEQUENCE = {"genome_bases", "genome_conservation"}  # what every model of DNA needs
SHARED = {"download", "gene_table", "genome_manifest", "genome_mask", "simulate_epigenome"}


@dataclass(frozen=True)
class Log:
    """A job's log. `status` is failed, finished, unfinished or empty."""

    path: str
    status: str
    tail: tuple[str, ...]
    command: str

    @property
    def name(self) -> str:
        """The path without `logs/` and suffix: `{model}/{run}/{rule}`, `{rule}/{track}`, ..."""
        return self.path.removeprefix("logs/").removesuffix(".log")

    @property
    def parts(self) -> list[str]:
        """The name's folders and its end."""
        return self.name.split("/")


@dataclass(frozen=True)
class Gap:
    """A planned result that is not there."""

    name: str
    files: tuple[str, ...]
    reason: str
    logs: tuple[Log, ...]


@dataclass(frozen=True)
class _Planned:
    """A result: its files, whether a log is of the job that makes it, or of one made before."""

    name: str
    files: list[str]
    own: Callable[[Log], bool]
    before: Callable[[Log], bool]


def gaps(found: Results, logs: Sequence[Log]) -> list[Gap]:
    """Every planned table, track, run and study with a missing file, with the logs that say why."""
    listed = []
    for planned in _planned(found):
        missing = tuple(file for file in planned.files if not (found.work / file).exists())
        if missing:
            listed.append(Gap(planned.name, missing, *_why(planned, logs)))
    return [_with_runs(gap, listed) for gap in listed]


def _with_runs(gap: Gap, listed: Sequence[Gap]) -> Gap:
    """A model's table waits for all its runs: what keeps them keeps it."""
    model = gap.name.removeprefix(TABLE)
    if model == gap.name or gap.logs:
        return gap
    runs = [other for other in listed if other.name.startswith(f"{model}/")]
    logs = {log.path: log for other in runs for log in other.logs if log.status == "failed"}
    return replace(gap, reason=NEEDED, logs=tuple(logs.values())) if logs else gap


def _why(planned: _Planned, logs: Sequence[Log]) -> tuple[str, tuple[Log, ...]]:
    """The reason in words, and the logs that show it."""
    own = [log for log in logs if planned.own(log)]
    if failed := [log for log in own if log.status == "failed"]:
        return "failed", tuple(failed)
    if ended := [log for log in own if log.status in ("unfinished", "empty")]:
        why = "its log ends without a result: still running, or stopped from outside (time, memory)"
        return why, tuple(ended)
    if before := [log for log in logs if log.status == "failed" and planned.before(log)]:
        return NEEDED, tuple(before)
    if own:
        return "a later step has not run yet", ()
    return "not started: no log, so its turn has not come yet", ()


# --- what was planned ----------------------------------------------------------------------------


def _planned(found: Results) -> Iterator[_Planned]:
    """Everything the plan asks for, in the order of the work."""
    signals = {f"{run.cell}-{mark}" for run in found.runs for mark in run.marks.split("+")}
    signals |= {track.rpartition(".")[0] for track in track_names(found)}
    signals |= missing_latents.channel_signals(found.plan) | missing_cells.cell_signals(found.plan)
    targets = list(found.plan.get("targets") or {})

    @functools.cache  # a thousand tracks are looked for in thousands of logs
    def about(log: Log) -> set[str]:
        # a download is named after its file, so it holds the cell and the mark, but not the signal
        return {signal for signal in signals if signal in log.path}

    def shared(log: Log) -> bool:
        # a step whose log names no track serves all
        return bool(SHARED.intersection(log.parts)) and not about(log) and not aim(log)

    def aim(log: Log) -> set[str]:
        # targets that a log names: a target may be called like the beginning of another
        return {t for t in targets if re.search(rf"(?<!\w){re.escape(t)}(?!\w)", log.path)}

    if found.plan and found.about_genes:
        files = ["results/genes/genes.tsv", "results/genes/expression.tsv"]
        yield _Planned("genes and expression", files, _named("gene_table"), shared)
    for model in sorted({run.model for run in found.runs}) if found.plan else ():
        yield _table(model, shared, "metrics_table")
    for model in sorted({run.model for run in found.sequence}) if found.plan else ():
        yield _table(model, shared, "track_table")
    if track_names(found):
        files = ["results/qc/tracks.tsv"]
        either = _either(shared, about)
        yield _Planned("quality table", files, _named("qc_table"), either)
    for track in track_names(found):
        yield _track(track, about, shared)
    for run in found.runs:
        yield _run(run, about, shared)
    for target, path in target_paths(found.plan).items():
        yield _target(target, path, aim, shared)
    for run in found.sequence if found.plan else ():
        yield _sequence_run(run, aim, shared)
    for row in missing_latents.planned(found, about, shared):
        yield _Planned(*row)
    for row in missing_cells.planned(found, about, shared):
        yield _Planned(*row)
    for path in found.plan.get("studies") or ():
        yield _study(path, about, shared)
    for path in asked_tables(found):
        yield _asked(path)


def asked_tables(found: Results) -> list[str]:
    """Tables that models of DNA were asked for; figures and bigWigs come with them."""
    return [p for p in found.plan.get("asked") or () if p.endswith((".tsv", ".tsv.gz"))]


def _named(name: str) -> Callable[[Log], bool]:
    return lambda log: log.name == name


def _either(*tests: Callable[[Log], object]) -> Callable[[Log], bool]:
    return lambda log: any(test(log) for test in tests)


def _table(model: str, shared: Callable, rule: str) -> _Planned:
    path, own = f"results/tables/{model}.tsv", _named(f"{model}/{rule}")
    return _Planned(TABLE + model, [path], own, _either(shared, lambda g: model in g.parts))


def _track(track: str, about: Callable, shared: Callable) -> _Planned:
    def before(log: Log) -> bool:
        return shared(log) or track.rpartition(".")[0] in about(log)

    return _Planned(track, [f"results/qc/{track}.tsv"], lambda log: log.parts[-1] == track, before)


def _run(run: Run, about: Callable, shared: Callable) -> _Planned:
    files = [str(run.folder / n) for n in ("history.tsv", "predictions.tsv", "metrics.tsv")]
    signals = {f"{run.cell}-{mark}" for mark in run.marks.split("+")}
    # a job that trains several runs is named after their model and cell, or the marks, too
    together = {f"{run.model}_{run.cell}", f"{run.model}_{run.cell}.{run.marks}"}
    together = {"train_many/" + re.sub(r"\W", "_", name) for name in together}

    def own(log: Log) -> bool:
        return log.name.startswith(f"{run.model}/{run.name}/") or log.name in together

    def before(log: Log) -> bool:
        contacts = reads_partners(run.model) and {"partner_table", run.cell} <= set(log.parts)
        return bool(shared(log) or contacts or signals & about(log))

    return _Planned(f"{run.model}/{run.name}", files, own, before)


def _target(target: str, path: str, aim: Callable, shared: Callable) -> _Planned:
    """A track that models of DNA predict."""
    own = _named(f"bin_target/{target}")
    return _Planned(f"target {target}", [path], own, lambda g: shared(g) or target in aim(g))


def _sequence_run(run: Run, aim: Callable, shared: Callable) -> _Planned:
    """A run of a model of DNA: it needs all targets, bases and conservation."""
    names = ("history.tsv", "predictions.npy", "metrics.tsv")

    def before(log: Log) -> bool:
        return shared(log) or bool(aim(log)) or bool(SEQUENCE.intersection(log.parts))

    own = f"{run.model}/{run.name}/"
    return _Planned(
        f"{run.model}/{run.name}",
        [str(run.folder / name) for name in names],
        lambda log: log.name.startswith(own),
        before,
    )


def _study(path: str, about: Callable, shared: Callable) -> _Planned:
    """A table of a study, from its path: mark activity, perturbation (and its truth), eQTLs."""
    name = path.removeprefix("results/").removesuffix(".gz").removesuffix(".tsv")
    folder, _, end = name.rpartition("/")
    one = _named(f"{folder}/{end}")
    if folder == "mark_activity":
        return _Planned(
            name,
            [path],
            _named("mark_activity_tables"),
            _either(shared, about, lambda log: log.parts[0] == folder),
        )
    if folder == "eqtl_enrichment":
        return _Planned(
            name, [path], _named(folder), _either(shared, lambda log: "perturbation" in log.parts)
        )
    model = folder.partition("/")[0]
    made_from = f"{folder}/" if end == "truth" else f"{model}/{end}."
    return _Planned(name, [path], one, _either(shared, lambda g: g.name.startswith(made_from)))


ASKED_RULES = {
    "variants": "score_variants",
    "variants.truth": "variant_truth",
    "motifs": "find_motifs",
    "motifs.truth": "motif_truth",
    "predict": "predict_region",
    "mutagenesis": "mutate_region",
}


def _asked(path: str) -> _Planned:
    """A table that a model of DNA was asked for: results/{model}/{run}/[{kind}/]{name}.tsv[.gz]."""
    _, model, run, *rest = path.split("/")
    name = rest[-1].removesuffix(".gz").removesuffix(".tsv")
    kind = rest[0] if len(rest) > 1 else name
    own = f"{model}/{run}/{ASKED_RULES[kind]}" + (f"/{name}" if len(rest) > 1 else "")

    def before(log: Log) -> bool:
        return log.name.startswith(f"{model}/{run}/")

    return _Planned(f"{model}/{run} {kind}", [path], _named(own), before)


def others(logs: Sequence[Log], listed: Iterable[Gap]) -> list[Log]:
    """Failed logs that no gap names."""
    named = {log.path for gap in listed for log in gap.logs}
    return [log for log in logs if log.status == "failed" and log.path not in named]


# --- logs ----------------------------------------------------------------------------------------


def read_logs(work: str | Path) -> list[Log]:
    """All `logs/**/*.log` of a working directory, in order of their names."""
    work = Path(work)
    return [_read_log(work, path) for path in sorted((work / "logs").rglob("*.log"))]


def _read_log(work: Path, path: Path) -> Log:
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - READ))
        lines = file.read().decode("utf-8", "replace").splitlines()
    # how to repeat the job is said once, by the report, without the machine's own paths
    hints = ("repeat this job by hand: ",)
    lines = [line for line in lines if line.strip() and not line.startswith(hints)]
    lines = [line for line in lines if " ERROR log: " not in line]
    tail = tuple(line if len(line) <= WIDEST else f"{line[:WIDEST]} ..." for line in lines[-TAIL:])
    relative = path.relative_to(work)
    return Log(str(relative), _status(lines), tail, _repeat(work, relative))


def _status(lines: Sequence[str]) -> str:
    if not lines:
        return "empty"
    if any(" ERROR " in line for line in lines):
        return "failed"
    # a tool that only leaves its own words there counts as finished: its output would be missing
    # otherwise, and then the last lines are shown all the same
    return "finished" if ": done in " in lines[-1] else "unfinished"


def _repeat(work: Path, log: Path) -> str:
    """The command that repeats the job, from its job file; empty without one."""
    file = work / f"{log}.job.json"
    if not file.exists():
        return ""
    try:
        job = json.loads(file.read_text())
        script = str(job.get("script") or job["rule"])  # rules made in a loop share a script
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        script = log.name.removesuffix(".log")
    return f"python -m workflow_scripts.{script} {shlex.quote(f'{log}.job.json')}"
