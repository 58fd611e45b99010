"""What models that compress tracks were to leave, and the logs that say why something is not there.

Only what the report shows is listed (`plan/channels.py`, `shown`); tiles, latents, labels and the
signal of windows are told of as the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from epiloom.plan.channels import OUTCOMES
from epiloom.plan.downstream import TASKS
from epiloom.plan.sequence import region_name
from epiloom.show.results import Results, Run

if TYPE_CHECKING:
    from epiloom.show.missing import Log

Test = Callable[["Log"], object]
Row = tuple[str, list[str], Test, Test]  # name, files, own log?, log of something it needs?
COMPARED = {"genome_bases", "genome_conservation"}  # what latents are set beside


def channel_signals(plan: dict[str, Any]) -> set[str]:
    """{cell}-{mark} of every track that is compressed: parts of the names of logs."""
    rows = plan.get("frames") or []
    return {track.rpartition(".")[0] for row in rows for track in row.get("channels") or []}


def asked_tasks(found: Results) -> list[str]:
    """Downstream tasks of the plan, in their order."""
    config = found.plan.get("config") or {}
    asked = (config.get("downstream") or {}).get("tasks") or []
    return [task for task in TASKS if task in asked]


def planned(found: Results, about: Callable[[Log], set[str]], shared: Test) -> Iterator[Row]:
    """Everything that the plan asks of these models, in the order of the work."""
    signals, tasks = channel_signals(found.plan), asked_tasks(found)
    for run in found.frames if found.plan else ():
        yield from _of_run(found, run, tasks, lambda g: shared(g) or bool(about(g) & signals))
    models = {run.model for run in found.frames}
    for model in sorted(models) if found.plan else ():
        yield (
            f"table of {model}",
            [f"results/tables/{model}.tsv"],
            lambda log, own=f"{model}/track_table": log.name == own,
            lambda log, own=model: shared(log) or log.parts[0] == own,
        )
    if found.frames and tasks and found.plan:
        names = ("downstream.tsv", "downstream.differences.tsv")
        steps = {"task_labels", "window_signal", "downstream_task"}
        yield (
            "table of downstream tasks",
            [f"results/tables/{name}" for name in names],
            lambda log: log.name == "downstream_table",
            lambda log: shared(log) or log.parts[0] in models or bool(steps & set(log.parts)),
        )


def _of_run(found: Results, run: Run, tasks: list[str], early: Test) -> Iterator[Row]:
    """The results of one run; `early`: whether a log is of something that comes before it."""
    name, folder = f"{run.model}/{run.name}", str(run.folder)

    def own(step: str) -> Test:
        return lambda log: log.name == f"{name}/{step}"

    def after(*steps: str) -> Test:
        known = {f"{run.model}/tile_tracks", *(f"{name}/{s}" for s in ("train_model", *steps))}
        return lambda log: log.name in known or bool(early(log))

    def described(log: Log) -> bool:
        return bool(COMPARED.intersection(log.parts) or after("annotate_genome")(log))

    def made_from(task: str) -> Test:
        known = {f"task_labels/{task}", f"{run.model}/window_signal/{task}"}
        steps = after("annotate_genome", "evaluate_latents")
        return lambda log: log.name in known or bool(steps(log))

    yield name, [f"{folder}/history.tsv"], own("train_model"), after()
    files = [f"{folder}/{n}.tsv" for n in ("metrics", "attribution")]
    yield f"{name} reconstruction", files, own("evaluate_latents"), after()
    files = [f"{folder}/{n}.tsv" for n in ("smoothness", "correlations", "positions")]
    yield f"{name} description", files, own("describe_latents"), described
    for region in _regions(found, run):
        step = own(f"latent_region/{region}")
        yield (
            f"{name} region {region}",
            [f"{folder}/regions/{region}.png"],
            step,
            after("annotate_genome"),
        )
    for task in tasks:
        files = [f"{folder}/downstream/{task}.{end}" for end in OUTCOMES]
        yield f"{name} task {task}", files, own(f"downstream_task/{task}"), made_from(task)


def _regions(found: Results, run: Run) -> list[str]:
    """Regions to be drawn, as parts of file names."""
    models = (found.plan.get("config") or {}).get("models") or {}
    return [region_name(text) for text in (models.get(run.model) or {}).get("regions") or []]
