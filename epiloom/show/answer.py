"""From the metrics tables to what they say: rows of the comparison and the answer in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from epiloom.show.canvas import fixed, marks_name, model_name, predictor_name
from epiloom.show.results import Results

CHANCE = 0.1  # |r| of a model trained on shuffled labels stays below this, or below 3 / sqrt(n)

PREDICTS = "predicts expression best"

# Pearson r, mean over eleven Roadmap cells, read (+-0.005) from the notebooks of June 2023 in the
# repository of Murphy et al., Nucleic Acids Research 53(4), gkae1212 (2025). Another model
# (Chromoformer, 40 kb and promoter contacts), and r averaged over batches of 64 genes.
PUBLISHED = {
    "H3K4me3": 0.763,
    "H3K9ac": 0.759,
    "H3K27ac": 0.752,
    "H3K36me3": 0.701,
    "H3K4me1": 0.650,
    "H3K27me3": 0.576,
    "H3K9me3": 0.400,
}


@dataclass(frozen=True)
class Score:
    """One predictor's numbers on the test genes of one cell and mark set (NaN = undefined)."""

    predictor: str
    n: int
    r: float
    low: float
    high: float
    spearman: float
    r2: float
    mse: float

    @property
    def name(self) -> str:
        """The predictor's name for people."""
        return predictor_name(self.predictor)

    @property
    def strength(self) -> float:
        """r, or |r| for the activity of a mark, which may predict by being absent."""
        return abs(self.r) if self.predictor.startswith("activity") else self.r


@dataclass
class Comparison:
    """One row of the comparison: a model on one cell and mark set, its baselines and control."""

    model: str
    cell: str
    marks: str
    scope: str  # "pooled", or what the numbers are when the folds were not pooled
    score: Score | None
    baselines: list[Score] = field(default_factory=list)
    shuffled: Score | None = None
    folds: dict[str, float] = field(default_factory=dict)  # fold -> r of the model

    @property
    def best_baseline(self) -> Score | None:
        """The baseline with the largest strength, None if there is none."""
        known = [score for score in self.baselines if np.isfinite(score.r)]
        return max(known, key=lambda score: score.strength, default=None)

    @property
    def usable(self) -> bool:
        """Whether the model has a defined r."""
        return self.score is not None and np.isfinite(self.score.r)


@dataclass(frozen=True)
class Verdict:
    """One sentence of the answer; `state` is good, mixed, bad or unknown."""

    state: str
    text: str
    details: tuple[str, ...] = ()


def comparisons(found: Results) -> list[Comparison]:
    """Rows by cell (order of the plan), the best mark set first."""
    rows = []
    for (model, cell, marks), table in found.metrics.groupby(
        ["model", "cell", "marks"], sort=False
    ):
        rows.append(_comparison(str(model), str(cell), str(marks), table))
    order = {cell: i for i, cell in enumerate(found.cells)}

    def place(row: Comparison) -> tuple:
        r = row.score.r if row.usable else -2.0
        return order.get(row.cell, len(order)), row.cell, -r, row.marks

    return sorted(rows, key=place)


def _comparison(model: str, cell: str, marks: str, table: pd.DataFrame) -> Comparison:
    pooled = table[table["fold"] == "pooled"]
    single = table[table["fold"] != "pooled"]
    ours = single[single["predictor"] == model].dropna(subset=["r"])
    folds = {str(fold): float(r) for fold, r in zip(ours["fold"], ours["r"], strict=True)}
    if (pooled["predictor"] == model).any():
        scope, shown = "pooled", pooled
    else:
        scope, shown = _unpooled(single, model)
    scores = {row["predictor"]: _score(row) for _, row in shown.iterrows()}
    control = scores.pop(f"{model}_shuffled", None)
    if control is None:
        rest = table[table["predictor"] == f"{model}_shuffled"]
        control = _score(rest.iloc[0]) if len(rest) else None
    main = scores.pop(model, None)
    return Comparison(model, cell, marks, scope, main, list(scores.values()), control, folds)


def _unpooled(single: pd.DataFrame, model: str) -> tuple[str, pd.DataFrame]:
    """One fold as it is; of several folds the mean, without an interval (they were not pooled).

    Baselines are taken over the folds that the model has, to be judged on the same genes.
    """
    folds = sorted(set(single.loc[single["predictor"] == model, "fold"]))
    control = single["predictor"] == f"{model}_shuffled"
    shown = single[single["fold"].isin(folds) | control] if folds else single
    numbers = ["n", "r", "r_low", "r_high", "spearman", "r2", "mse"]
    groups = shown.groupby("predictor", sort=False)
    rows = groups[numbers].mean().assign(n=groups["n"].sum())
    rows.loc[groups.size() > 1, ["r_low", "r_high"]] = np.nan
    scope = f"{folds[0]} only" if len(folds) == 1 else f"mean of {len(folds)} folds"
    return scope if folds else "no fold", rows.reset_index()


def _score(row: pd.Series) -> Score:
    number = {key: float(row[key]) for key in ("r", "r_low", "r_high", "spearman", "r2", "mse")}
    n = int(row["n"]) if np.isfinite(row["n"]) else 0
    return Score(
        str(row["predictor"]),
        n,
        *(number["r"], number["r_low"], number["r_high"]),
        *(number["spearman"], number["r2"], number["mse"]),
    )


# --- the answer ----------------------------------------------------------------------------------


def verdicts(rows: Sequence[Comparison], found: Results) -> list[Verdict]:
    """The answer in sentences: the best mark, the baselines, the control."""
    usable = [row for row in rows if row.usable]
    if not usable:
        text = "No model has been evaluated yet, so there is no answer; see what is missing below."
        return [Verdict("unknown", text)]
    return [_best_marks(usable, found), _against_baselines(usable, found), _control(rows, found)]


def interval(score: Score) -> str:
    """`0.71 (95% interval 0.68 to 0.74)`, or the number alone where the interval is undefined."""
    if np.isfinite(score.low) and np.isfinite(score.high):
        return f"{fixed(score.r, 2)} (95% interval {fixed(score.low, 2)} to {fixed(score.high, 2)})"
    return fixed(score.r, 2)


def _best_marks(rows: Sequence[Comparison], found: Results) -> Verdict:
    by_cell: dict[str, list[Comparison]] = {}
    for row in rows:
        by_cell.setdefault(row.cell, []).append(row)
    several = len({row.model for row in rows}) > 1
    lines, winners, settled = [], [], True
    for cell, ranked in by_cell.items():
        ranked = sorted(ranked, key=lambda row: -row.score.r)
        best = ranked[0]
        winners.append(marks_name(best.marks))
        name = found.cell_name(cell)
        start = f"{marks_name(best.marks)}{f' ({model_name(best.model)})' if several else ''}"
        if len(by_cell) > 1:
            start = f"{name}: {start},"
        else:
            start += f" {PREDICTS if len(ranked) > 1 else 'predicts expression'} in {name}:"
        line, clear = _best_line(start, ranked)
        settled &= clear
        lines.append(line)
    state = "good" if settled else "mixed"
    if len(lines) == 1:
        return Verdict(state, lines[0])
    compared = any(row.marks != rows[0].marks for row in rows)
    text = _summary(winners) if compared else f"Only {winners[0]} has been evaluated."
    return Verdict(state, text, tuple(lines))


def _best_line(start: str, ranked: Sequence[Comparison]) -> tuple[str, bool]:
    """The sentence for one cell, and whether its best marks are clearly ahead."""
    best = ranked[0]
    scope = "" if best.scope == "pooled" else f", {best.scope}"
    text = f"{start} r = {interval(best.score)} over {best.score.n:,} test genes{scope}"
    if len(ranked) == 1:
        return f"{text}; no other marks of this cell have been evaluated.", False
    second = ranked[1]
    other = f"{marks_name(second.marks)} (r = {fixed(second.score.r, 2)})"
    if np.isfinite(best.score.low) and np.isfinite(second.score.high):
        if best.score.low > second.score.high:
            return f"{text}, clearly ahead of {other}.", True
        return f"{text}; {other} is too close to call, as the intervals overlap.", False
    return f"{text}, before {other}.", False


def _summary(winners: Sequence[str]) -> str:
    """`H3K4me3 predicts expression best in 8 of 11 cells, H3K9ac in 3.`"""
    counts = {name: winners.count(name) for name in dict.fromkeys(winners)}
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    total = len(winners)
    if len(ranked) == 1:
        every = "both" if total == 2 else f"all {total}"
        return f"{ranked[0][0]} {PREDICTS} in {every} cells."
    first, *rest = ranked
    others = [f"{name} in {count}" for name, count in rest]
    return f"{first[0]} {PREDICTS} in {first[1]} of {total} cells, {_and(others)}."


def _and(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def _against_baselines(rows: Sequence[Comparison], found: Results) -> Verdict:
    judged = [row for row in rows if row.best_baseline is not None]
    if not judged:
        return Verdict(
            "unknown", "No baseline was evaluated, so it is open whether training helps."
        )
    won = [row for row in judged if row.score.r > row.best_baseline.strength]
    # activity's r may be negative: its interval is then mirrored for the comparison of strengths
    clear = [row for row in won if row.score.low > _upper(row.best_baseline)]
    lost = [row for row in judged if row not in won]
    total = len(judged)
    names = _and(sorted({model_name(row.model) for row in judged}))
    details = tuple(_loss(row, found) for row in lost)
    overlap = _overlap(len(clear), len(won), total)
    if not lost:
        subject = f"The {names} beats every baseline"
        where = "" if total == 1 else f" in all {total} combinations of cell and marks"
        return Verdict("good" if len(clear) == total else "mixed", f"{subject}{where}{overlap}")
    if not won:
        where = "" if total == 1 else f" in any of {total} combinations of cell and marks"
        return Verdict("bad", f"The {names} does not beat every baseline{where}:", details)
    text = (
        f"The {names} beats every baseline in {len(won)} of {total} combinations of cell and marks"
        f"{overlap} It does not in:"
    )
    return Verdict("mixed", text, details)


def _upper(score: Score) -> float:
    return max(abs(score.low), abs(score.high)) if score.strength != score.r else score.high


def _overlap(clear: int, won: int, total: int) -> str:
    if total == 1:
        return (
            ", but the intervals overlap." if not clear else ", and the intervals do not overlap."
        )
    if clear == won:
        return ", and the intervals never overlap."
    if not clear:
        return ", but the intervals overlap each time."
    return f"; in {clear} of these {won} the intervals do not overlap."


def _loss(row: Comparison, found: Results) -> str:
    best = row.best_baseline
    sign = "|r|" if best.strength != best.r else "r"
    return (
        f"{found.cell_name(row.cell)}, {marks_name(row.marks)}: {best.name} reaches "
        f"{sign} = {fixed(best.strength, 2)}, the model r = {fixed(row.score.r, 2)}."
    )


def _control(rows: Sequence[Comparison], found: Results) -> Verdict:
    controls = [row for row in rows if row.shuffled and np.isfinite(row.shuffled.r)]
    planned = any(run.shuffled for run in found.runs)
    if not controls:
        why = "it has not finished" if planned else "set shuffled_control: true to add it"
        return Verdict("unknown", f"The control with shuffled labels was not evaluated ({why}).")
    worst = max(controls, key=lambda row: abs(row.shuffled.r))
    limit = chance_limit(worst.shuffled.n)
    over = [row for row in controls if abs(row.shuffled.r) > chance_limit(row.shuffled.n)]
    where = f"{found.cell_name(worst.cell)}, {marks_name(worst.marks)}"
    text = f"With shuffled labels |r| is at most {fixed(abs(worst.shuffled.r), 3)} ({where}; "
    if not over:
        text += f"chance stays below {limit:.2f}): nothing leaks from the test genes into training."
        return Verdict("good", text)
    text += (
        f"chance stays below {limit:.2f}). That is more than chance: look for genes of the test "
        "chromosomes in the training set before believing any number here."
    )
    return Verdict("bad", text)


def chance_limit(n: int) -> float:
    """Largest |r| of a model without information: 3 / sqrt(n), at least 0.1.

    Three standard errors, because a report may hold a dozen controls and none should cry wolf.
    """
    return max(CHANCE, 3 / np.sqrt(max(n, 1)))
