"""Results of models of DNA: metrics of the tracks that they predict, and learning curves.

Over several folds the values are means; the half-widths of their intervals are combined as those
of independent samples, since folds are tested on different chromosomes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from epiloom.learn.track_metrics import ACROSS, COLUMNS, OF_OTHERS
from epiloom.show.canvas import predictor_name
from epiloom.show.results import HISTORY, Results, Run, table_of

KEYS = list(COLUMNS[:5])
NUMBERS = list(COLUMNS[5:])
NEEDED = [*KEYS, "n", "r", "r_low", "r_high", "spearman", "deviance_explained", "window_r"]


@dataclass(frozen=True)
class TrackScore:
    """One predictor on the test chromosomes of one track; NaN = undefined."""

    predictor: str
    n: int  # bins of all folds
    r: float
    low: float
    high: float
    spearman: float
    deviance: float
    window_r: float
    auroc: float
    folds: int

    @property
    def name(self) -> str:
        return predictor_name(self.predictor)

    @property
    def value(self) -> float:
        return self.r

    @property
    def known(self) -> bool:
        """Whether it has an interval."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))


@dataclass
class TrackRow:
    """A model on one track, beside its baselines and its control."""

    model: str
    track: str
    description: str
    score: TrackScore | None
    baselines: list[TrackScore] = field(default_factory=list)
    shuffled: TrackScore | None = None

    @property
    def usable(self) -> bool:
        return self.score is not None and bool(np.isfinite(self.score.r))

    @property
    def best_of_dna(self) -> TrackScore | None:
        """The best baseline of those that read no measured track of the test chromosomes."""
        known = [s for s in self.baselines if s.predictor != OF_OTHERS and np.isfinite(s.r)]
        return max(known, key=lambda score: score.r, default=None)

    @property
    def of_others(self) -> TrackScore | None:
        """The mean of the other tracks."""
        return next((s for s in self.baselines if s.predictor == OF_OTHERS), None)


@dataclass
class TrackResults:
    """What was found of models of DNA.

    `targets`: track -> description; `metrics`: test part; `lenient`: models that began with weights
    which may have seen the test chromosomes.
    """

    runs: list[Run]
    targets: dict[str, str]
    metrics: pd.DataFrame
    histories: dict[Run, pd.DataFrame] = field(default_factory=dict)
    lenient: set[str] = field(default_factory=set)

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(run.model for run in self.runs))

    def folds(self, model: str) -> int:
        """Folds that were planned."""
        return sum(run.model == model and not run.shuffled for run in self.runs)


def read_tracks(found: Results) -> TrackResults:
    """Tables of all runs of models of DNA; what is absent is left out."""
    tables = [_table(found, model) for model in dict.fromkeys(r.model for r in found.sequence)]
    tables = [table for table in tables if table is not None and len(table)]
    metrics = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)
    metrics = metrics.reindex(columns=COLUMNS)
    metrics[NUMBERS] = metrics[NUMBERS].astype(float)
    metrics = metrics[metrics["part"] == "test"].drop_duplicates(KEYS).reset_index(drop=True)
    named = [track for track in metrics["track"].unique() if track != ACROSS]
    targets = dict(found.plan.get("targets") or dict.fromkeys(named, ""))
    made = TrackResults(found.sequence, targets, metrics)
    asked = (found.plan.get("config") or {}).get("models") or {}
    made.lenient = {m for m in made.models if (asked.get(m) or {}).get("start_seen") == "allow"}
    for run in found.sequence:
        table = table_of(found.work / run.folder / "history.tsv", HISTORY, found.unreadable)
        if table is not None and len(table):
            made.histories[run] = table
    return made


def _table(found: Results, model: str) -> pd.DataFrame | None:
    """The table over all runs of a model; without it, the runs' own."""
    path = found.work / "results/tables" / f"{model}.tsv"
    whole = table_of(path, NEEDED, found.unreadable)
    if whole is not None:
        return whole
    own = [run for run in found.sequence if run.model == model]
    paths = [found.work / run.folder / "metrics.tsv" for run in own]
    tables = [table_of(path, NEEDED, found.unreadable) for path in paths]
    tables = [table for table in tables if table is not None and len(table)]
    return pd.concat(tables, ignore_index=True) if tables else None


def track_rows(dna: TrackResults) -> list[TrackRow]:
    """A row per model and track, in the order of the targets."""
    grouped = {
        key: _score(str(key[2]), rows)
        for key, rows in dna.metrics.groupby(["model", "track", "predictor"], sort=False)
    }
    rows = []
    for model in dna.models:
        for track, description in dna.targets.items():
            own = {p: s for (m, t, p), s in grouped.items() if (m, t) == (model, track)}
            score, shuffled = own.pop(model, None), own.pop(f"{model}_shuffled", None)
            rows.append(TrackRow(model, track, description, score, list(own.values()), shuffled))
    return rows


def _score(predictor: str, rows: pd.DataFrame) -> TrackScore:
    r, low, high = (rows[name].to_numpy(float) for name in ("r", "r_low", "r_high"))
    mean = float(r.mean())
    low = mean - float(np.sqrt(np.sum((r - low) ** 2))) / len(rows)
    high = mean + float(np.sqrt(np.sum((high - r) ** 2))) / len(rows)
    names = ("spearman", "deviance_explained", "window_r", "auroc")
    others = (float(rows[name].to_numpy(float).mean()) for name in names)
    return TrackScore(predictor, int(rows["n"].sum()), mean, low, high, *others, len(rows))


def mean_score(scores: Sequence[TrackScore]) -> tuple[float, float, float]:
    """Mean r over tracks with the widest interval that it can have: the tracks share their bins."""
    return tuple(float(np.mean([getattr(s, name) for s in scores])) for name in _RANGE)


_RANGE = ("r", "low", "high")


def cell_scores(dna: TrackResults, model: str) -> dict[str, tuple[float, float, int]]:
    """Predictor -> cell_r (mean of its bins), its median, and the number of bins; means of folds.

    Empty with fewer tracks than it takes.
    """
    rows = dna.metrics
    rows = rows[(rows["model"] == model) & (rows["track"] == ACROSS)].dropna(subset=["cell_r"])
    return {
        str(name): (float(own["cell_r"].mean()), float(own["cell_r_median"].mean()),
                    int(own["n"].sum()))
        for name, own in rows.groupby("predictor", sort=False)
    }  # fmt: skip
