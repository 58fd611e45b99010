"""The answer in sentences for models of DNA: how well, better than what, does it know the cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from epiloom.show.canvas import fixed, model_name
from epiloom.show.track_results import (
    TrackResults,
    TrackRow,
    TrackScore,
    cell_scores,
    mean_score,
    track_rows,
)
from epiloom.show.verdicts import CHANCE, Verdict

FEW = 4  # tracks up to which each one is named

SEEN = (
    "{} began with weights that may have seen the test chromosomes in their own training "
    "(start_seen: allow): its figures are no held-out ones and may be too good."
)


def track_verdicts(dna: TrackResults, rows: Sequence[TrackRow] | None = None) -> list[Verdict]:
    """The answer of all models of DNA; empty if there is none in the study."""
    if not dna.runs:
        return []
    rows = track_rows(dna) if rows is None else rows
    usable = [row for row in rows if row.usable]
    if not usable:
        text = "No model of DNA has been evaluated yet; see what is missing below."
        return [Verdict("unknown", text, lead=True)]
    made = []
    for model in dna.models:
        own = [row for row in usable if row.model == model]
        if not own:
            made.append(Verdict("unknown", f"{model_name(model)} has not been evaluated yet."))
            continue
        made += [_level(model, own, dna)]
        if model in dna.lenient:
            made.append(Verdict("bad", SEEN.format(model_name(model))))
        made.append(_baselines(model, own))
        made += [v for v in (_others(model, own), _control(model, own, dna)) if v]
        made += [v for v in (_cells(model, dna),) if v]
    return made


def _told(r: float, low: float, high: float) -> str:
    if np.isfinite(low) and np.isfinite(high):
        return f"{fixed(r, 2)} (95% interval {fixed(low, 2)} to {fixed(high, 2)})"
    return fixed(r, 2)


def _score(score: TrackScore) -> str:
    return _told(score.r, score.low, score.high)


def _tracks(count: int) -> str:
    return {1: "the track", 2: "both tracks"}.get(count, f"all {count} tracks")


def _level(model: str, rows: Sequence[TrackRow], dna: TrackResults) -> Verdict:
    """How well the tracks are predicted."""
    scores = [row.score for row in rows]
    done, planned = max(score.folds for score in scores), dna.folds(model)
    scope = f", {done} of {planned} folds" if done < planned else ""
    chroms = f"test chromosomes{scope}"
    if len(rows) == 1:
        text = f"{model_name(model)} predicts {rows[0].track} from DNA with r = {_score(scores[0])}"
        return Verdict("info", f"{text} over {scores[0].n:,} bins of the {chroms}.", lead=True)
    text = (
        f"{model_name(model)} predicts {len(rows)} tracks from DNA with r = "
        f"{_told(*mean_score(scores))} on average over the {chroms}."
    )
    ranked = sorted(rows, key=lambda row: -row.score.r)
    shown = ranked if len(ranked) <= FEW else [ranked[0], ranked[-1]]
    heads = [""] * len(shown) if len(ranked) <= FEW else ["Best: ", "Worst: "]
    lines = [
        f"{head}{row.track}, r = {_score(row.score)}."
        for head, row in zip(heads, shown, strict=True)
    ]
    return Verdict("info", text, tuple(lines), lead=True)


def _baselines(model: str, rows: Sequence[TrackRow]) -> Verdict:
    """Against what reads no measured track of the test chromosomes."""
    judged = [row for row in rows if row.best_of_dna is not None]
    if not judged:
        text = "No baseline from DNA was evaluated, so it is open whether training helps."
        return Verdict("unknown", text)
    name, total = model_name(model), len(judged)
    won = [row for row in judged if row.score.r > row.best_of_dna.r]
    lost = [row for row in judged if row not in won]
    clear = [row for row in won if row.score.low > row.best_of_dna.high]
    against = "every baseline that is made from DNA and training chromosomes alone"
    details = tuple(_lost(row, row.best_of_dna) for row in lost)
    if not lost:
        state = "good" if len(clear) == total else "mixed"
        return Verdict(state, f"{name} beats {against} on {_tracks(total)}{_clearly(won, clear)}.")
    if not won:
        on = "the track" if total == 1 else f"any of {total} tracks"
        return Verdict("bad", f"{name} does not beat {against} on {on}:", details)
    text = f"{name} beats {against} on {len(won)} of {total} tracks{_clearly(won, clear)}. Not on:"
    return Verdict("mixed", text, details)


def _clearly(won: Sequence[TrackRow], clear: Sequence[TrackRow]) -> str:
    """How sure the wins are. Intervals that lie apart prove more than is needed."""
    if not any(row.score.known and row.best_of_dna.known for row in won):
        gap = min(row.score.r - row.best_of_dna.r for row in won)
        ahead = f" by {'at least ' if len(won) > 1 else ''}{fixed(gap, 2)}"
        return f"{ahead} (too few test bins for intervals)"
    if len(clear) == len(won):
        return ", clearly" + (" each time" if len(won) > 1 else "")
    rest = "on the others the intervals overlap, which leaves it open"
    return f", clearly on {len(clear)}; {rest}" if clear else ", but the intervals overlap"


def _lost(row: TrackRow, other: TrackScore) -> str:
    text = f"{row.track}: {other.name} reaches r = {fixed(other.r, 2)}, the model "
    open_ = row.score.known and other.known and row.score.high >= other.low
    return f"{text}{fixed(row.score.r, 2)}{'; the intervals overlap' if open_ else ''}."


def _others(model: str, rows: Sequence[TrackRow]) -> Verdict | None:
    """Beside the mean of the other tracks, which no model of DNA can read."""
    judged = [row for row in rows if row.of_others is not None and np.isfinite(row.of_others.r)]
    if not judged:
        return None
    behind = [row for row in judged if row.of_others.r > row.score.r]
    if not behind:
        text = (
            f"{model_name(model)} even beats the mean of the other tracks on "
            f"{_tracks(len(judged))}, although that reads what was measured on the test "
            "chromosomes."
        )
        return Verdict("good", text)
    where = _tracks(len(judged)) if len(behind) == len(judged) else (
        f"{len(behind)} of {len(judged)} tracks"
    )  # fmt: skip
    text = (
        f"The mean of the other tracks predicts {where} better. It reads what was measured on the "
        "test chromosomes themselves, which a model of DNA never sees, so this is no failure: it "
        "shows how far knowing the place, but not the cell, goes."
    )
    return Verdict("info", text, tuple(_lost(row, row.of_others) for row in behind))


def _control(model: str, rows: Sequence[TrackRow], dna: TrackResults) -> Verdict | None:
    """Whether anything leaks from the test chromosomes into training."""
    controls = [row for row in rows if row.shuffled and np.isfinite(row.shuffled.r)]
    if not controls:
        planned = any(run.model == model and run.shuffled for run in dna.runs)
        why = "it has not finished" if planned else "set shuffled_control: true to add it"
        constant = any(row.shuffled for row in rows)
        if constant:
            text = "With targets out of place the model predicts the same everywhere, so it has "
            return Verdict("good", text + "no r: nothing leaks from the test chromosomes.")
        text = f"The control with targets out of place was not evaluated ({why})."
        return Verdict("unknown", text)
    worst = max(controls, key=lambda row: abs(row.shuffled.r))
    over = [row for row in controls if _off(row.shuffled)]
    text = (
        f"With targets of other windows in training |r| is at most "
        f"{fixed(abs(worst.shuffled.r), 3)} ({worst.track})"
    )
    if not over:
        return Verdict("good", f"{text}: nothing leaks from the test chromosomes into training.")
    text += (
        f". That is more than chance (below {CHANCE:g}, or an interval that holds 0): look for "
        "test chromosomes in the training windows before believing any number here."
    )
    return Verdict("bad", text)


def _off(score: TrackScore) -> bool:
    """Whether r of a control is too far from 0."""
    holds_zero = score.known and score.low <= 0 <= score.high
    return abs(score.r) > CHANCE and not holds_zero


def _cells(model: str, dna: TrackResults) -> Verdict | None:
    """Whether it knows in which track a bin is active; None with fewer than three tracks."""
    found = cell_scores(dna, model)
    if model not in found:
        return None
    mean, median, bins = found.pop(model)
    found.pop(f"{model}_shuffled", None)
    others = {name: value for name, (value, *_) in found.items()}
    text = (
        f"In the {bins:,} bins where the tracks differ most, what it predicts for each track goes "
        f"with what was measured at r = {fixed(mean, 2)} on average (median {fixed(median, 2)}); "
        "a model that knows the place but not the cell has 0"
    )
    if others:
        best = max(others, key=lambda name: others[name])
        named = TrackScore(best, 0, *[np.nan] * 7, 0).name
        text += f", the best baseline ({named}) {fixed(others[best], 2)}"
    if mean <= CHANCE:
        return Verdict("bad", f"It hardly knows one cell from another. {text}.")
    ahead = not others or mean > max(others.values())
    opening = "It knows one cell from another" + (" to some degree." if mean < 0.5 else ".")
    return Verdict("good" if ahead else "mixed", f"{opening} {text}.")
