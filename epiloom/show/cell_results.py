"""Results of models that predict cells never profiled: their metrics, who was held out, loops.

Whatever is absent is left out; a file that is there but cannot be understood is listed in
`Results.unreadable`. Over several folds every number is the mean; where runs hold out different
cells (cell folds), that of a cell is the mean over the runs that held it out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from epiloom.learn.cell_metrics import ALL, COLUMNS, MEAN, OVER_CELLS, POOLED, WRONG
from epiloom.plan.unprofiled import cell_fold, folder
from epiloom.show.canvas import model_name
from epiloom.show.facts import name_of_cell
from epiloom.show.results import HISTORY, Results, Run, numbers_of, table_of

KEYS = list(COLUMNS[:6])
NUMBERS = list(COLUMNS[6:])
NEEDED = [*KEYS, "n", "skill", "delta_r", "across_r", "mse", "pearson"]
LOOPS = ["model", "fold", "part", "cell", "predictor", "low_bp", "high_bp"]
OF_LOOPS = ["pairs", "loops", "prevalence", "auprc", "auroc", "row_cosine"]
LOOP_MEAN = "training_loops"
# the parts that are judged; validation chose the epoch, so its numbers flatter
PARTS = {
    "cross_cell": "new cells, known regions",
    "cross_region": "known cells, new regions",
    "cross_both": "new cells, new regions",
}
SIDES = ("train", "validation", "test")  # of cells and of chromosomes
EVALUATED = {"train": "cross_region", "validation": "validation", "test": "cross_cell"}
TOGETHER = (POOLED, OVER_CELLS)  # rows that are of no single cell
_TEXT = {*KEYS, *LOOPS[:5]}


@dataclass
class CellResults:
    """What was found of models that predict cells.

    Attributes:
        divisions: model -> cell fold -> part -> ids, as planned, else as found; one fold, named
            "", where all runs hold out the same cells. signals: model -> names.
        metrics: columns `cell_metrics.COLUMNS`; loops: `LOOPS` and `OF_LOOPS`.
        regions: model -> chromosome -> number. seq_bp: model -> bp of a region.
        tfs: model -> TFs read, TFs left out. kinds: model -> signal -> what its values are.
        lenient, ungrouped, from_mean: models with start_seen: allow, cell_groups: none, from_mean.
    """

    runs: list[Run]
    divisions: dict[str, dict[str, dict[str, list[str]]]] = field(default_factory=dict)
    signals: dict[str, list[str]] = field(default_factory=dict)
    metrics: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(COLUMNS)))
    loops: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=[*LOOPS, *OF_LOOPS]))
    histories: dict[Run, pd.DataFrame] = field(default_factory=dict)
    regions: dict[str, dict[str, int]] = field(default_factory=dict)
    seq_bp: dict[str, int] = field(default_factory=dict)
    tfs: dict[str, tuple[int, int]] = field(default_factory=dict)
    kinds: dict[str, dict[str, str]] = field(default_factory=dict)
    lenient: set[str] = field(default_factory=set)
    ungrouped: set[str] = field(default_factory=set)
    from_mean: set[str] = field(default_factory=set)

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(run.model for run in self.runs))

    def of(self, model: str) -> list[Run]:
        """The runs of a model."""
        return [run for run in self.runs if run.model == model]

    def crossed(self, model: str) -> bool:
        """Whether its runs hold out different cells."""
        return set(self.divisions[model]) != {""}

    def held(self, model: str, side: str) -> list[str]:
        """Cells of a part in any run."""
        every = (cell for fold in self.divisions[model].values() for cell in fold[side])
        return list(dict.fromkeys(every))

    def done(self, model: str) -> int:
        """Runs that were evaluated."""
        return int(self.metrics.loc[self.metrics["model"] == model, "fold"].nunique())


# --- reading -------------------------------------------------------------------------------------


def read_cells(found: Results) -> CellResults:
    """Tables of all runs of models that predict cells."""
    made = CellResults(list(found.unprofiled))
    tables = [table for model in made.models for table in _metrics(found, made.of(model))]
    if tables:
        whole = pd.concat(tables, ignore_index=True).reindex(columns=list(COLUMNS))
        made.metrics = whole.drop_duplicates(KEYS, ignore_index=True)
    loops = []
    for run in made.runs:
        table = table_of(found.work / run.folder / "history.tsv", HISTORY, found.unreadable)
        if table is not None and len(table):
            made.histories[run] = table
        table = _table(found, found.work / run.folder / "loops.tsv", [*LOOPS, *OF_LOOPS[:4]])
        loops += [] if table is None or table.empty else [table]
    if loops:
        made.loops = pd.concat(loops, ignore_index=True).reindex(columns=[*LOOPS, *OF_LOOPS])
    for model in made.models:
        _names(found, made, model)
        _read_data(found, made, model)
        _options(found, made, model)
    return made


def _table(found: Results, path: Path, columns: Sequence[str]) -> pd.DataFrame | None:
    """A table whose numbers are numbers: what cannot be read as one is NaN."""
    table = numbers_of(path, columns, found.unreadable, _TEXT)
    if table is None:
        return None
    return table.astype({name: float for name in table.columns if name not in _TEXT})


def _metrics(found: Results, runs: Sequence[Run]) -> list[pd.DataFrame]:
    """The table over all runs of a model; without it, the runs' own."""
    path = found.work / "results/tables" / f"{runs[0].model}.tsv"
    whole = _table(found, path, NEEDED)
    if whole is not None:
        return [whole] if len(whole) else []
    tables = [_table(found, found.work / run.folder / "metrics.tsv", NEEDED) for run in runs]
    return [table for table in tables if table is not None and len(table)]


def _read_data(found: Results, made: CellResults, model: str) -> None:
    """Regions, TFs and kinds of signals, from the files that the data rules leave."""
    place = found.work / "results"
    rows = _regions(place / model / "regions.bed", found.unreadable)
    if rows:
        made.regions[model] = {}
        for chrom, *_ in rows:
            made.regions[model][chrom] = made.regions[model].get(chrom, 0) + 1
        made.seq_bp[model] = rows[0][2] - rows[0][1]
    for fold in made.divisions[model]:  # TFs and kinds are the same in all
        own = place / folder(model, fold)
        told = _json(own / "factors/reference.json", found.unreadable)
        if isinstance(told.get("factors"), list):
            made.tfs[model] = (len(told["factors"]), len(told.get("left_out") or []))
        told = _json(own / "signals/scales.json", found.unreadable)
        names, kinds = told.get("signals"), told.get("kinds")
        if isinstance(names, list) and isinstance(kinds, list):
            made.kinds[model] = {str(s): str(kind) for s, kind in zip(names, kinds, strict=False)}


def _regions(path: Path, unreadable: list[str]) -> list[tuple[str, int, int]]:
    """Chromosome, start and end of each region."""
    if not path.exists():
        return []
    try:
        lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
        return [(line[0], int(line[1]), int(line[2])) for line in lines]
    except (OSError, ValueError, IndexError) as err:
        unreadable.append(f"{path}: cannot be read ({err}); delete it and run the workflow again")
        return []


def _json(path: Path, unreadable: list[str]) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        told = json.loads(path.read_text())
    except (OSError, ValueError) as err:
        unreadable.append(f"{path}: cannot be read ({err}); delete it and run the workflow again")
        return {}
    return told if isinstance(told, dict) else {}


def _planned(found: Results, model: str) -> Mapping[str, Any]:
    rows = found.plan.get("cell_models") or []
    return next((row for row in rows if row["model"] == model), {})


def _names(found: Results, made: CellResults, model: str) -> None:
    """Cells by part and signals: those of the plan, else those of the tables."""
    row, own = _planned(found, model), made.metrics[made.metrics["model"] == model]
    planned = {
        r.get("cell_fold", ""): r["cells"]
        for r in found.plan.get("cell_models") or []
        if r["model"] == model and r.get("cells")
    }
    made.divisions[model] = {}
    for fold in planned or dict.fromkeys(cell_fold(run.name) for run in made.of(model)):
        cells = planned.get(fold) or _seen(own[own["fold"].map(cell_fold) == fold])
        made.divisions[model][fold] = {side: list(cells.get(side) or []) for side in SIDES}
    known = [signal for signal in dict.fromkeys(own["signal"]) if signal != ALL]
    made.signals[model] = list(row.get("signals") or known)


def _seen(own: pd.DataFrame) -> dict[str, list[str]]:
    """Cells by part, of the metrics of runs that held out the same ones."""
    seen = {
        side: [c for c in dict.fromkeys(own.loc[own["part"] == part, "cell"]) if c not in TOGETHER]
        for side, part in EVALUATED.items()
    }
    # without validation cells the training cells choose the epoch
    seen["validation"] = [c for c in seen["validation"] if c not in seen["train"]]
    return seen


def _options(found: Results, made: CellResults, model: str) -> None:
    """What a reader has to know of the settings."""
    options = settings(found, model)
    if options.get("start_seen") == "allow" and options.get("start", True):
        made.lenient.add(model)
    if options.get("cell_groups") == "none":
        made.ungrouped.add(model)
    if options.get("from_mean") or _planned(found, model).get("from_mean"):
        made.from_mean.add(model)


def settings(found: Results, model: str) -> dict[str, Any]:
    """A model's settings in the configuration; empty where they are not known."""
    return ((found.plan.get("config") or {}).get("models") or {}).get(model) or {}


# --- numbers -------------------------------------------------------------------------------------


def cell_label(found: Results, cell: str) -> str:
    """`GM12878 Lymphoblastoid Cells (E116)`, or the id where no name is known."""
    name = found.cells.get(cell) or ""
    name = name if name not in ("", cell) else name_of_cell(cell)
    return f"{name} ({cell})" if name and name != cell else cell


def parts_of(made: CellResults, model: str) -> list[str]:
    """Parts with a number, in the order of `PARTS`."""
    own = made.metrics[(made.metrics["model"] == model) & (made.metrics["n"] > 0)]
    return [part for part in PARTS if (own["part"] == part).any()]


def means(made: CellResults, model: str, part: str) -> pd.DataFrame:
    """Rows of a part: cell, signal, predictor and all measures, means over runs.

    A cell's row is the mean over the runs that scored it, that of the cells pooled over all runs;
    the mean over cells is that of the cells' rows, however many a run held out.
    """
    own = made.metrics[(made.metrics["model"] == model) & (made.metrics["part"] == part)]
    own = own.astype(dict.fromkeys(NUMBERS, float))
    keys = ["cell", "signal", "predictor"]
    found = own.groupby(keys, sort=False)[NUMBERS].mean().reset_index()
    if not made.crossed(model):
        return found
    single = found[~found["cell"].isin(TOGETHER)].groupby(keys[1:])
    over = single[NUMBERS].mean().assign(n=single["n"].sum())
    rows = found["cell"] == OVER_CELLS
    at = pd.MultiIndex.from_frame(found.loc[rows, keys[1:]])
    found.loc[rows, NUMBERS] = over.reindex(at)[NUMBERS].to_numpy()
    return found


@dataclass(frozen=True)
class PartScores:
    """A model in one part, all cells pooled; signals without the measure are left out.

    Attributes:
        own, wrong: signal -> skill of the model, of the model given another cell's factors.
        whole: of all signals together (model, wrong cell; NaN = undefined): skill.
        delta_r, across_r: signal -> value of the model.
        cells: number of cells. crossed: whether runs hold out different ones.
    """

    part: str
    own: dict[str, float]
    wrong: dict[str, float]
    whole: tuple[float, float]
    delta_r: dict[str, float]
    across_r: dict[str, float]
    wrong_across: dict[str, float]
    cells: int
    crossed: bool = False

    @property
    def better(self) -> list[str]:
        """Signals in which the model beats the mean of the training cells."""
        return [signal for signal, skill in self.own.items() if skill > 0]


def part_scores(made: CellResults, model: str, part: str) -> PartScores | None:
    """The pooled numbers of a part; None before it has been evaluated."""
    table = means(made, model, part)
    pooled = table[table["cell"] == POOLED]

    def values(predictor: str, measure: str) -> dict[str, float]:
        rows = pooled[pooled["predictor"] == predictor].dropna(subset=[measure])
        return {str(k): float(v) for k, v in zip(rows["signal"], rows[measure], strict=True)}

    own, wrong = values(model, "skill"), values(WRONG, "skill")
    whole = (own.pop(ALL, np.nan), wrong.pop(ALL, np.nan))
    if not own:
        return None
    across = {name: values(name, "across_r") for name in (model, WRONG)}
    delta = values(model, "delta_r")
    for each in (delta, *across.values()):
        each.pop(ALL, None)
    counted = table[~table["cell"].isin(TOGETHER) & (table["n"] > 0)]
    return PartScores(
        *(part, own, wrong, whole, delta, across[model], across[WRONG]),
        int(counted["cell"].nunique()),
        made.crossed(model),
    )


def headline(made: CellResults, model: str) -> PartScores | None:
    """What answers the question: new cells in known regions; without new cells, new regions."""
    found = (part_scores(made, model, part) for part in PARTS)
    return next((scores for scores in found if scores), None)


def missing_signals(made: CellResults, model: str) -> dict[str, list[str]]:
    """Cell -> signals without a single value; of cells that were evaluated."""
    own = made.metrics[(made.metrics["model"] == model) & (made.metrics["predictor"] == model)]
    own = own[~own["cell"].isin(TOGETHER) & (own["signal"] != ALL)]
    most = own.groupby(["cell", "signal"], sort=False)["n"].max()
    gone: dict[str, list[str]] = {}
    for (cell, signal), n in most.items():
        if not n > 0:
            gone.setdefault(str(cell), []).append(str(signal))
    return gone


def predictor_names(model: str) -> dict[str, str]:
    """Predictor -> how it is called."""
    return {model: model_name(model), MEAN: "training mean", WRONG: "wrong cell's TFs"}


def loop_rows(made: CellResults, model: str) -> pd.DataFrame:
    """Loops by part, cell, distance and predictor, means over folds."""
    own = made.loops[made.loops["model"] == model]
    keys = ["part", "cell", "low_bp", "high_bp", "predictor"]
    return own.groupby(keys, sort=False)[OF_LOOPS].mean().reset_index()
