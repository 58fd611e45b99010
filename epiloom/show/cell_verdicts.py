"""The answer in sentences for models that predict cells: better than the mean of those profiled?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from epiloom.learn.cell_metrics import MIN_CELLS
from epiloom.show.canvas import fixed, model_name
from epiloom.show.cell_results import (
    LOOP_MEAN,
    PARTS,
    TOGETHER,
    CellResults,
    PartScores,
    headline,
    loop_rows,
    part_scores,
)
from epiloom.show.verdicts import Verdict

CLOSE = 0.01  # skill by which a model must differ from the mean to be told apart
APART, HARDLY = 0.1, 0.02  # rise of the squared error that a wrong cell's TFs must cost
KNOWS = 0.1  # correlation below which a cell is hardly known
REMARK = (
    "The mean of the training cells reads what was measured in them in the very bins that are "
    "scored, which DNA and TFs alone do not tell: it is a high bar, and the right one, for it "
    "costs nothing."
)
BETTER = "the mean of the training cells predicts these cells better than the model"
SEEN = (
    "{} began with weights that may have seen the test chromosomes or the held-out cells in their "
    "own training (start_seen: allow): its figures are no held-out ones and may be too good."
)
UNGROUPED = (
    "{}: cells were held out one by one (cell_groups: none), so cells of the same tissue may stand "
    "on both sides: how well a cell unlike all training cells is predicted may be worse than this."
)
FROM_MEAN = (
    "{} starts from the mean of the training cells in every bin and predicts what differs in the "
    "cell (from_mean), so skill above 0 is what it adds to that mean."
)


def cell_verdicts(made: CellResults) -> list[Verdict]:
    """The answer of all models that predict cells; empty if there is none in the study."""
    verdicts: list[Verdict] = []
    held_out = {model for model in made.models if made.held(model, "test")}
    for model in made.models:
        scores = headline(made, model)
        if scores is None:
            text = f"{model_name(model)} has not been evaluated yet; see what is missing below."
            verdicts.append(Verdict("unknown", text, lead=True))
        else:
            verdicts.append(_skill(made, model, scores))
            verdicts += [_wrong_cell(model, scores), _knows(model, scores)]
        verdicts += [loops] if (loops := _loops(made, model)) else []
        for models, state, text in (
            (made.lenient, "bad", SEEN),
            (held_out & made.ungrouped, "mixed", UNGROUPED),
            (made.from_mean, "info", FROM_MEAN),
        ):
            verdicts += [Verdict(state, text.format(model_name(model)))] if model in models else []
    return verdicts


# --- skill ---------------------------------------------------------------------------------------


def _who(scores: PartScores) -> str:
    """`3 cells that it never saw`."""
    if scores.part == "cross_region":
        return f"{_cells(scores.cells, 'training')} in regions that it never saw"
    more = ", in regions that it never saw," if scores.part == "cross_both" else ""
    turn = " (held out in turn)" if scores.crossed else ""
    return f"{_cells(scores.cells)} that it never saw{turn}{more}"


def _cells(count: int, kind: str = "") -> str:
    kind = f"{kind} " if kind else ""
    return f"the {kind}cell" if count == 1 else f"{count} {kind}cells"


def _range(skill: dict[str, float]) -> str:
    """`from −0.12 (H3K27ac) to 0.34 (DNase)`, or the one value."""
    low, high = min(skill, key=skill.get), max(skill, key=skill.get)
    if low == high:
        return f"{fixed(skill[low], 2)}"
    return f"from {fixed(skill[low], 2)} ({low}) to {fixed(skill[high], 2)} ({high})"


def _signals(count: int, total: int) -> str:
    if total == 1:
        return "the one signal"
    return f"{'all' if count == total else f'{count} of'} {total} signals"


def _skill(made: CellResults, model: str, scores: PartScores) -> Verdict:
    """In how many signals the model beats the mean of the training cells."""
    better, total, name = scores.better, len(scores.own), model_name(model)
    done, planned = made.done(model), len(made.of(model))
    kind = "runs" if scores.crossed else "folds"
    scope = f" ({done} of {planned} {kind})" if done < planned else ""
    what = "the mean of the training cells"
    if scores.part == "cross_region":
        what = "the mean of the other training cells"
    told = f"skill {_range(scores.own)}"
    if better:
        where = _signals(len(better), total)
        text = f"{name} predicts {_who(scores)}{scope} better than {what} in {where}: {told}."
    else:
        where = f"in none of {total} signals"
        text = f"{name} predicts {_who(scores)}{scope} better than {what} {where}: {told}."
        if total == 1:
            text = f"{name} does not predict {_who(scores)}{scope} better than {what}: {told}."
    state = "good" if len(better) == total else "mixed" if better else "bad"
    worse = [signal for signal, skill in scores.own.items() if skill <= 0]
    if worse:
        text += f" {_worse(worse, total)}"
    elif max(scores.own.values()) < CLOSE:
        state, text = "mixed", f"{text} That is hardly a difference."
    if scores.part == "cross_region":
        text += " No cell was held out, so this says nothing of cells never profiled."
        state = "mixed" if state == "good" else state
    details = [_part_line(made, model, part) for part in PARTS if part != scores.part]
    return Verdict(state, text, tuple(line for line in details if line), lead=True)


def _worse(worse: list[str], total: int) -> str:
    if len(worse) == total:
        return f"{BETTER[0].upper()}{BETTER[1:]}."
    return f"In {_listed(worse)}, {BETTER}."


def _listed(names: list[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _part_line(made: CellResults, model: str, part: str) -> str:
    """The same for another part, as a detail."""
    scores = part_scores(made, model, part)
    if scores is None:
        return ""
    total = len(scores.own)
    told = f"better than the mean in {len(scores.better)} of {total}, skill {_range(scores.own)}"
    more = "" if scores.better else f"; {BETTER}"
    return f"{PARTS[part][0].upper()}{PARTS[part][1:]}: {told}{more}."


# --- does it know the cell? ----------------------------------------------------------------------


def _wrong_cell(model: str, scores: PartScores) -> Verdict:
    """Whether another cell's factors make it worse, as they must."""
    both = {s: (v, scores.wrong[s]) for s, v in scores.own.items() if s in scores.wrong}
    if not both:
        text = (
            f"Whether {model_name(model)} uses the cell's own TFs is open: there is no second "
            f"cell{_in_one_run(scores)} whose TFs could be given instead."
        )
        return Verdict("unknown", text)
    falls = [signal for signal, (own, wrong) in both.items() if wrong < own]
    own, wrong = (float(np.mean(values)) for values in zip(*both.values(), strict=True))
    rise = (own - wrong) / max(1 - own, 1e-9)  # of the squared error
    told = f"mean skill over signals {fixed(wrong, 2)} instead of {fixed(own, 2)}"
    if not falls or rise < HARDLY:
        where = "in any signal" if not falls else "to speak of"
        text = (
            f"Another cell's TFs do not make {model_name(model)} worse {where} ({told}), as they "
            "must: what it predicts does not rest on the cell."
        )
        return Verdict("bad", text)
    text = (
        f"Given another cell's TFs {model_name(model)} gets worse in "
        f"{_signals(len(falls), len(both))}, as it must ({told})"
    )
    if len(falls) < len(both):
        rest = _listed([signal for signal in both if signal not in falls])
        return Verdict("mixed", f"{text}, but not in {rest}.")
    if rise < APART:
        return Verdict("mixed", f"{text}, but little: it makes small use of the cell's own.")
    return Verdict("good", f"{text}: it uses the cell's own.")


def _in_one_run(scores: PartScores) -> str:
    return " held out by the same run" if scores.crossed else ""


def _knows(model: str, scores: PartScores) -> Verdict:
    """How far it knows in which cell a bin is active."""
    if not scores.delta_r:
        text = f"{model_name(model)} predicts nothing but that mean, or no signal differs from it."
        return Verdict("unknown", text)
    delta = float(np.mean(list(scores.delta_r.values())))
    text = (
        "What it predicts beyond the mean of the training cells goes with what is measured beyond "
        f"it at r = {fixed(delta, 2)}"
    )
    if len(scores.delta_r) > 1:
        text += f" on average over signals, {_range(scores.delta_r)}"
    if scores.across_r:
        across = float(np.mean(list(scores.across_r.values())))
        text += f"; across the cells of a bin, where they differ most, at r = {fixed(across, 2)}"
    else:
        across = delta
        text += f"; a correlation across cells needs {MIN_CELLS} of them{_in_one_run(scores)}"
    if min(delta, across) < KNOWS:
        return Verdict("bad", f"It hardly knows one cell from another. {text}.")
    state = "good" if min(delta, across) >= 0.4 else "mixed"
    some = "" if state == "good" else " to some degree"
    return Verdict(state, f"It knows one cell from another{some}. {text}.")


# --- loops ---------------------------------------------------------------------------------------


def shown_loops(made: CellResults, model: str) -> pd.DataFrame:
    """Loops of the hardest part there is, a row per distance and predictor: means over cells."""
    rows = loop_rows(made, model)
    part = next((p for p in ("cross_both", "cross_cell") if (rows["part"] == p).any()), None)
    rows = rows[rows["part"] == (part or (rows["part"].iloc[0] if len(rows) else ""))]
    single = rows[~rows["cell"].isin([*TOGETHER, "all"])]
    keys = ["part", "low_bp", "high_bp", "predictor"]
    means = (single if len(single) else rows).dropna(subset=["auprc"]).groupby(keys, sort=False)
    return means[["prevalence", "auprc"]].mean().reset_index()


def _loops(made: CellResults, model: str) -> Verdict | None:
    """Whether its attention finds loops, beside prevalence and the loops of training cells."""
    rows = shown_loops(made, model)
    own = rows[rows["predictor"] == model]
    if own.empty:
        return None
    wide = rows.pivot_table(index=["low_bp", "high_bp"], columns="predictor", values="auprc")
    above = int((own["auprc"] > own["prevalence"]).sum())
    classes = f"{above} of {len(own)} distance class{'es' if len(own) > 1 else ''}"
    text = (
        f"Attention of {model_name(model)} ranks loops above pairs of the same distance in "
        f"{classes}: area under the precision-recall curve {fixed(own['auprc'].mean(), 2)} on "
        f"average, prevalence {fixed(own['prevalence'].mean(), 2)}"
    )
    ahead = True
    if LOOP_MEAN in wide:
        both = wide[[model, LOOP_MEAN]].dropna()
        ahead = bool(len(both) and both[model].mean() > both[LOOP_MEAN].mean())
        text += f"; the loops of the training cells reach {fixed(wide[LOOP_MEAN].mean(), 2)}"
    state = "bad" if not above else "good" if ahead and above == len(own) else "mixed"
    return Verdict(state, f"{text}.")
