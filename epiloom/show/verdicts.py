"""The answer in sentences: the best mark, distance, baselines, second marks, the control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from epiloom.show.answer import SYMBOLS, Comparison, Score, best_rows, mean_of, models_of
from epiloom.show.canvas import fixed, marks_name, model_name
from epiloom.show.compare import Differences, by_reach
from epiloom.show.facts import cell_group, full_name
from epiloom.show.marks import Gap, gap, grids
from epiloom.show.paired import Difference
from epiloom.show.results import Results
from epiloom.studies.groups import GROUPS

CHANCE = 0.1  # |r| of a model trained on shuffled labels stays below this, or below 3 / sqrt(n)
BEST = "predicts expression best"
FEW = 4  # cells from which on groups of cells are summed up


@dataclass(frozen=True)
class Verdict:
    """One sentence of the answer; `state` is good, mixed, bad, info or unknown."""

    state: str
    text: str
    details: tuple[str, ...] = ()
    lead: bool = False  # answers the question itself


def verdicts(rows: Sequence[Comparison], found: Results, pairs: Differences) -> list[Verdict]:
    """The answer in sentences, of all models."""
    usable = [row for row in rows if row.usable]
    if not usable:
        text = "No model has been evaluated yet, so there is no answer; see what is missing below."
        return [Verdict("unknown", text, lead=True)]
    models = models_of(usable)
    by_model = {model: [row for row in usable if row.model == model] for model in models}
    made = [best_marks(own, found, pairs, named=len(models) > 1) for own in by_model.values()]
    made += [
        distance(far, near, differences, found)
        for (far, near), differences in by_reach(pairs).items()
    ]
    made += [second_mark(each, grid.model) for grid in grids(found) if (each := gap(grid))]
    made += against_baselines(by_model, found)
    return [*made, control(rows, found)]


def interval(score: Score) -> str:
    """`0.71 (95% interval 0.68 to 0.74)`, or the number alone where the interval is undefined."""
    if np.isfinite(score.low) and np.isfinite(score.high):
        low, high = fixed(score.low, 2), fixed(score.high, 2)
        return f"{fixed(score.value, 2)} (95% interval {low} to {high})"
    return fixed(score.value, 2)


def _signed(value: float, digits: int = 2) -> str:
    return f"+{fixed(value, digits)}" if value > 0 else fixed(value, digits)


def _and(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


# --- the best mark -------------------------------------------------------------------------------


def best_marks(
    rows: Sequence[Comparison], found: Results, pairs: Differences, named: bool
) -> Verdict:
    """Which mark predicts best by one model; `named`: say which model."""
    model = rows[0].model
    ranked = {cell: group for (_, cell), group in best_rows(rows).items()}
    start = f"{full_name(model, found.plan.get('config'))}: " if named else ""
    lines, settled = [], True
    for cell, group in ranked.items():
        mark, name = marks_name(group[0].marks), found.cell_name(cell)
        opening = f"{name}: {mark},"
        if len(ranked) == 1:
            opening = f"{mark} {BEST if len(group) > 1 else 'predicts expression'} in {name}:"
        line, clear = _best_line(opening, group, pairs)
        settled &= clear
        lines.append(line)
    state = "good" if settled else "mixed"
    if len(lines) == 1:
        return Verdict(state, start + lines[0], lead=True)
    winners = {cell: marks_name(group[0].marks) for cell, group in ranked.items()}
    compared = len({row.marks for group in ranked.values() for row in group}) > 1
    text = _summary(list(winners.values()))
    if not compared:
        text = f"Only {next(iter(winners.values()))} has been evaluated."
    details = (*_group_lines(ranked), *lines) if compared else tuple(lines)
    return Verdict(state, start + text, details, lead=True)


def _best_line(start: str, ranked: Sequence[Comparison], pairs: Differences) -> tuple[str, bool]:
    """The sentence for one cell, and whether its best mark is clearly ahead."""
    best, symbol = ranked[0], SYMBOLS[ranked[0].score.measure]
    scope = "" if best.scope == "pooled" else f", {best.scope}"
    text = f"{start} {symbol} = {interval(best.score)} over {best.score.n:,} test genes{scope}"
    if len(ranked) == 1:
        return f"{text}; no other marks of this cell have been evaluated.", False
    second = ranked[1]
    other = f"{marks_name(second.marks)} ({symbol} = {fixed(second.value, 2)})"
    ahead = pairs.get((best.key, second.key))
    if ahead is None or not np.isfinite(ahead.low):
        return f"{text}, before {other}.", False
    range_ = f"{fixed(ahead.low, 3)} to {fixed(ahead.high, 3)}"
    if ahead.ahead:
        return f"{text}, ahead of {other} by {fixed(ahead.value, 3)} ({range_}).", True
    return f"{text}; {other} is too close to call (difference {range_}).", False


def _summary(winners: Sequence[str]) -> str:
    """`H3K4me3 predicts expression best in 8 of 11 cells, H3K9ac in 3.`"""
    counts = {name: winners.count(name) for name in dict.fromkeys(winners)}
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    total = len(winners)
    if len(ranked) == 1:
        every = "both" if total == 2 else f"all {total}"
        return f"{ranked[0][0]} {BEST} in {every} cells."
    first, *rest = ranked
    others = [f"{name} in {count}" for name, count in rest]
    return f"{first[0]} {BEST} in {first[1]} of {total} cells, {_and(others)}."


def _group_lines(ranked: dict[str, list[Comparison]]) -> list[str]:
    """The best mark on average by group of cells, where there are groups of several cells."""
    groups: dict[str, list[str]] = {}
    for cell in ranked:
        groups.setdefault(cell_group(cell), []).append(cell)
    if len(ranked) < FEW or len(groups) < 2 or len(groups) == len(ranked):
        return []
    lines = []
    for group in [name for name in GROUPS if name in groups]:
        cells = groups[group]
        by_mark: dict[str, list[Comparison]] = {}
        for cell in cells:
            for row in ranked[cell]:
                by_mark.setdefault(row.marks, []).append(row)
        means = {m: mean_of(own) for m, own in by_mark.items() if len(own) == len(cells)}
        if means:
            best = max(means, key=lambda mark: means[mark])
            symbol = SYMBOLS[ranked[cells[0]][0].score.measure]
            count = f"{len(cells)} cell{'s' if len(cells) > 1 else ''}"
            line = (
                f"{group} ({count}): {marks_name(best)}, mean {symbol} = {fixed(means[best], 2)}."
            )
            lines.append(line)
    return lines


# --- distance and second marks -------------------------------------------------------------------


def distance(
    far: str, near: str, differences: dict[tuple[str, str], Difference], found: Results
) -> Verdict:
    """Whether the model that sees further predicts better on the same genes."""
    config = found.plan.get("config")
    values = list(differences.values())
    ahead, behind = sum(d.ahead for d in values), sum(d.behind for d in values)
    better = sum(d.value > 0 for d in values)
    mean, total = float(np.mean([d.value for d in values])), len(values)
    names = f"{full_name(far, config)} predicts {{}} than the {full_name(near, config)}"
    if total == 1:
        (cell, marks), one = next(iter(differences.items()))
        how = "better" if one.value > 0 else "no better"
        clear = one.ahead or one.behind
        text = (
            f"On the same {one.n:,} genes {names.format(how)}: difference of {_symbol(found, far)} "
            f"{_signed(one.value, 3)} ({fixed(one.low, 3)} to {fixed(one.high, 3)}; "
            f"{found.cell_name(cell)}, {marks_name(marks)})."
        )
        state = "mixed" if not clear else "good" if one.ahead else "bad"
        return Verdict(state, text)
    text = (
        f"On the same genes {names.format('better')} in {better} of {total} combinations of cell "
        f"and marks, clearly in {ahead}; clearly worse in {behind}. Mean difference of "
        f"{_symbol(found, far)}: {_signed(mean, 3)}."
    )
    state = "good" if ahead == total else "bad" if behind > ahead else "mixed"
    return Verdict(state, text, tuple(_by_mark(differences)))


def _symbol(found: Results, model: str) -> str:
    own = found.metrics[found.metrics["predictor"] == model]
    return "AUC" if own["auc"].notna().any() else "r"


def _by_mark(differences: dict[tuple[str, str], Difference]) -> list[str]:
    """A line per mark set, the one that gains most by distance first."""
    marks: dict[str, list[Difference]] = {}
    for (_, name), one in differences.items():
        marks.setdefault(name, []).append(one)
    lines = []
    for name, own in sorted(marks.items(), key=lambda m: -np.mean([d.value for d in m[1]])):
        values = [d.value for d in own]
        line = f"{marks_name(name)}: {_signed(float(np.mean(values)), 3)}"
        if len(own) > 1:
            line += f" on average ({_signed(min(values), 3)} to {_signed(max(values), 3)})"
            line += f", clear in {sum(d.ahead for d in own)} of {len(own)} cells"
        else:
            line += f" ({fixed(own[0].low, 3)} to {fixed(own[0].high, 3)})"
        lines.append(line + ".")
    return lines


def second_mark(each: Gap, model: str) -> Verdict:
    """How far the active marks alone are from all marks, and what a second mark adds."""
    text = (
        f"{model_name(model)} with all {each.marks} marks together reaches {fixed(each.all, 2)} on "
        f"average; a single active mark lies {fixed(each.singles, 3)} below."
    )
    if np.isfinite(each.closed) and each.pair_count:
        text += (
            f" A second mark closes {100 * each.closed:.0f}% of that gap (mean of "
            f"{each.pair_count} pairs); {each.best} adds most."
        )
    return Verdict("info", text)


# --- baselines -----------------------------------------------------------------------------------


def against_baselines(by_model: dict[str, list[Comparison]], found: Results) -> list[Verdict]:
    """Per model, whether training helps."""
    judged = {
        model: [row for row in rows if row.best_baseline is not None]
        for model, rows in by_model.items()
    }
    if not any(judged.values()):
        text = "No baseline was evaluated, so it is open whether training helps."
        return [Verdict("unknown", text)]
    return [_baselines(model, rows, found) for model, rows in judged.items() if rows]


def _baselines(model: str, rows: Sequence[Comparison], found: Results) -> Verdict:
    won = [row for row in rows if row.value > row.best_baseline.strength]
    clear = [row for row in won if row.lead is not None and row.lead.ahead]
    lost = [row for row in rows if row not in won]
    total, name = len(rows), model_name(model)
    where = "" if total == 1 else f" in all {total} combinations of cell and marks"
    details = tuple(_loss(row, found) for row in lost)
    known = _clearly(won, clear)
    if not lost:
        state = "good" if len(clear) == total else "mixed"
        return Verdict(state, f"{_the(name)} beats every baseline{where}{known}.")
    if not won:
        where = where.replace("all", "any of")
        return Verdict("bad", f"{_the(name)} does not beat every baseline{where}:", details)
    text = (
        f"{_the(name)} beats every baseline in {len(won)} of {total} combinations of cell and "
        f"marks{known}. It does not in:"
    )
    return Verdict("mixed", text, details)


def _the(name: str) -> str:
    return name if name[0].isupper() else f"The {name}"


def _clearly(won: Sequence[Comparison], clear: Sequence[Comparison]) -> str:
    """How sure the wins are, from the differences on the same genes."""
    known = [row for row in won if row.lead is not None and np.isfinite(row.lead.low)]
    if not known:
        return " (whether by chance is open: the predictions are not there)"
    if len(won) == 1:
        lead = known[0].lead
        by = f" by {fixed(lead.value, 3)} ({fixed(lead.low, 3)} to {fixed(lead.high, 3)})"
        return by if clear else f"{by}, which may be chance"
    if len(clear) == len(won):
        return ", clearly each time"
    return f", clearly in {len(clear)}" if clear else ", but never clearly"


def _loss(row: Comparison, found: Results) -> str:
    best, symbol = row.best_baseline, SYMBOLS[row.score.measure]
    told = (
        f"{found.cell_name(row.cell)}, {marks_name(row.marks)}: {best.name} reaches "
        f"{best.symbol} = {fixed(best.strength, 2)}, the model {symbol} = {fixed(row.value, 2)}"
    )
    if row.lead is not None and np.isfinite(row.lead.low):
        told += "" if row.lead.behind else "; the difference may be chance"
    return f"{told}."


# --- control -------------------------------------------------------------------------------------


def control(rows: Sequence[Comparison], found: Results) -> Verdict:
    """Whether anything leaks from the test genes into training."""
    controls = [row for row in rows if row.shuffled and np.isfinite(row.shuffled.r)]
    planned = any(run.shuffled for run in found.runs)
    if not controls:
        why = "it has not finished" if planned else "set shuffled_control: true to add it"
        return Verdict("unknown", f"The control with shuffled labels was not evaluated ({why}).")
    worst = max(controls, key=lambda row: abs(row.shuffled.r))
    limit = chance_limit(worst.shuffled.n)
    over = [row for row in controls if abs(row.shuffled.r) > chance_limit(row.shuffled.n)]
    models = models_of(rows)
    model = f"{model_name(worst.model)}, " if len(models) > 1 else ""
    where = f"{model}{found.cell_name(worst.cell)}, {marks_name(worst.marks)}"
    text = f"With shuffled labels |r| is at most {fixed(abs(worst.shuffled.r), 3)} ({where}; "
    text += f"chance stays below {limit:.2f})"
    without = [m for m in models if m not in models_of(controls)]
    open_ = f" Not evaluated for {_and([model_name(m) for m in without])}." if without else ""
    if not over:
        text += f": nothing leaks from the test genes into training.{open_}"
        return Verdict("good", text)
    text += (
        ". That is more than chance: look for genes of the test chromosomes in the training set "
        f"before believing any number here.{open_}"
    )
    return Verdict("bad", text)


def chance_limit(n: int) -> float:
    """Largest |r| of a model without information: 3 / sqrt(n), at least 0.1.

    Three standard errors, because a report may hold a dozen controls and none should cry wolf.
    """
    return max(CHANCE, 3 / np.sqrt(max(n, 1)))
