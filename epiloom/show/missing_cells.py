"""What models that predict cells were to leave, and the logs that say why something is not there.

Only what the report shows is listed (`plan/unprofiled.py`, `shown`); signals of cells, motif scores
and the mean over training cells are told of as the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from epiloom.plan.unprofiled import folder as folder_of
from epiloom.show.results import Results

if TYPE_CHECKING:
    from epiloom.show.missing import Log

Test = Callable[["Log"], object]
Row = tuple[str, list[str], Test, Test]  # name, files, own log?, log of something it needs?
GENOME = {"genome_bases", "genome_motifs"}  # what every such model reads beside its cells
OF_MODEL = ("settle_scales", "choose_regions", "tf_reference", "mean_signal")


def cell_signals(plan: dict[str, Any]) -> set[str]:
    """{cell}-{signal} of every track that is read: parts of the names of logs."""
    return {track for row in plan.get("cell_models") or [] for track in _tracks(row)}


def _tracks(row: dict[str, Any], parts: tuple[str, ...] = ()) -> set[str]:
    """The same of one model; `parts`: of cells, all if empty."""
    known = row.get("cells") or {}
    cells = [cell for part, names in known.items() if part in parts or not parts for cell in names]
    return {f"{cell}-{signal}" for cell in cells for signal in row.get("signals") or ()}


def planned(found: Results, about: Callable[[Log], set[str]], shared: Test) -> Iterator[Row]:
    """Everything that the plan asks of these models, in the order of the work."""
    rows = found.plan.get("cell_models") or []
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        yield from _regions(model, shared)
        for row in {row.get("cell_fold", ""): row for row in own}.values():
            yield from _data(row, about, shared)
        for row in own:
            yield from _of_run(row, about, shared)
        yield (
            f"table of {model}",
            [f"results/tables/{model}.tsv"],
            _named(f"{model}/track_table"),
            lambda log, own=model: shared(log) or log.parts[0] == own,
        )
    for path in asked(found):
        yield _asked(path)


def asked(found: Results) -> list[str]:
    """Tables that these models were asked for; figures and bigWigs come with them."""
    return [p for p in found.plan.get("asked_cells") or () if p.endswith((".tsv", ".tsv.gz"))]


def _asked(path: str) -> Row:
    """A table of a question: results/{model}/{run}/[{kind}/]{name}.tsv[.gz]."""
    _, model, run, *rest = path.split("/")
    name = rest[-1].removesuffix(".gz").removesuffix(".tsv")
    kind = rest[0] if len(rest) > 1 else name
    told = kind.rpartition(".")[2].rstrip("s")  # part of the rule's name

    def own(log: Log) -> bool:
        fits = len(rest) == 1 or log.parts[-1] == name
        return log.name.startswith(f"{model}/{run}/") and told in log.parts[2] and fits

    return f"{model}/{run} {kind}", [path], own, lambda log: log.name.startswith(f"{model}/{run}/")


def _named(name: str) -> Test:
    return lambda log: log.name == name


def _regions(model: str, shared: Test) -> Iterator[Row]:
    """Regions of a model: the same in all its runs."""
    files = [f"results/{model}/regions.bed"]
    yield f"regions of {model}", files, _named(f"{model}/choose_regions"), shared


def _division(row: dict[str, Any]) -> str:
    """The part of paths that tells which cells train."""
    return folder_of(row["model"], row.get("cell_fold", ""))


def _data(row: dict[str, Any], about: Callable, shared: Test) -> Iterator[Row]:
    """Scales and TFs of all runs with the same training cells."""
    model, training = _division(row), _tracks(row, ("train",))
    folder = f"results/{model}"
    yield (
        f"scales of {model}",
        [f"{folder}/signals/scales.json"],
        _named(f"{model}/settle_scales"),
        lambda log: shared(log) or bool(about(log) & training),
    )
    name, files = f"TFs of {model}", [f"{folder}/factors/reference.json"]
    yield name, files, _named(f"{model}/tf_reference"), shared


def _of_run(row: dict[str, Any], about: Callable, shared: Test) -> Iterator[Row]:
    """Training and evaluation of one run."""
    model, tracks = row["model"], _tracks(row)
    name, folder = f"{model}/{row['run']}", f"results/{model}/{row['run']}"
    cells = {cell for names in (row.get("cells") or {}).values() for cell in names}
    steps = {f"{_division(row)}/{step}" for step in OF_MODEL} | {f"{model}/choose_regions"}

    def early(log: Log) -> bool:
        own = log.name in steps or log.name.startswith(f"{_division(row)}/cell_signals/")
        loops = log.parts[0] == "cell_loops" and log.parts[-1] in cells
        genome = bool(GENOME.intersection(log.parts))
        return bool(shared(log) or own or loops or genome or about(log) & tracks)

    trained = _named(f"{name}/train_model")
    yield name, [f"{folder}/history.tsv"], trained, early
    yield (
        f"{name} evaluation",
        [f"{folder}/metrics.tsv"],
        _named(f"{name}/evaluate_cells"),
        lambda log: bool(trained(log) or early(log)),
    )
