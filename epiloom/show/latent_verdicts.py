"""The answer in sentences for models that compress tracks: what is kept, what it is good for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from epiloom.plan.channels import OWN_FOLDS
from epiloom.show.canvas import fixed, model_name
from epiloom.show.latent_results import (
    LATENTS,
    PCA,
    Kept,
    LatentResults,
    against,
    headline,
    kept,
    of_tasks,
    unseen,
)
from epiloom.show.plots_latent_tasks import predictor_name, task_name
from epiloom.show.results import Run
from epiloom.show.track_verdicts import SEEN
from epiloom.show.verdicts import Verdict

CLOSE = 0.01  # R2 by which two annotations must differ to be told apart
BIN_BP = 25
CELL_AVERAGE, PREVALENCE = "cell_average", "prevalence"
COMPARED = (PCA, "factors", "raw", CELL_AVERAGE, PREVALENCE)  # in the order of a sentence
CALLED = {PCA: "PCA of equal size", "raw": "the raw tracks of the cell type"}
CALLED |= {"factors": "the Avocado factors", CELL_AVERAGE: "the cell average"}
CALLED |= {PREVALENCE: "prevalence alone"}


def called(predictor: str) -> str:
    """How a predictor is called in a sentence."""
    return CALLED.get(predictor, predictor_name(predictor))


def latent_verdicts(latents: LatentResults) -> list[Verdict]:
    """The answer of all models that compress tracks; empty if there is none in the study."""
    if not latents.runs:
        return []
    made: list[Verdict] = []
    for model in latents.models:
        found = kept(latents, model)
        if found is None:
            text = f"{model_name(model)} has not been evaluated yet; see what is missing below."
            made.append(Verdict("unknown", text, lead=True))
        else:
            made.append(_kept(found))
        if model in latents.lenient:
            made.append(Verdict("bad", SEEN.format(model_name(model))))
        for run in (run for run in latents.judged if run.model == model):
            made += [v for v in (_tasks(latents, run), _seen(latents, run)) if v]
    return made


def _share(value: float) -> str:
    return f"{fixed(100 * value, 0)}%" if np.isfinite(value) else "an unknown share"


def _kept(found: Kept) -> Verdict:
    """How much of the tracks comes back, beside PCA."""
    scope = f" ({found.done} of {found.planned} folds)" if found.done < found.planned else ""
    text = (
        f"{model_name(found.model)}: {found.latent} numbers per {BIN_BP} bp keep "
        f"{_share(found.r2)} of the variance of {found.tracks:,} tracks on chromosomes never "
        f"seen{scope}"
    )
    if not np.isfinite(found.pca):
        return Verdict("info", f"{text}; PCA of equal size was not evaluated.", few(found), True)
    gap = found.r2 - found.pca
    text += f"; PCA of equal size keeps {_share(found.pca)}."
    if found.compared:
        text += f" It is ahead of PCA on {found.better:,} of {found.compared:,} tracks."
    state = "good" if gap > CLOSE else "bad" if gap < -CLOSE else "mixed"
    if state == "bad":
        text += " PCA is faster and easier to explain: use that, or train longer, with more width."
    if state == "mixed":
        text += " That is hardly a difference: the network is not worth its training here."
    return Verdict(state, text, few(found), lead=True)


def few(found: Kept) -> tuple[str, ...]:
    """The assays that are kept best and worst."""
    rows = found.assays.dropna(subset=["r2"])
    if len(rows) < 2:
        return ()
    ends = (("Best", rows.iloc[0]), ("Worst", rows.iloc[-1]))
    return tuple(
        f"{word} kept assay: {row['assay']}, median R² = {fixed(row['r2'], 2)} of "
        f"{int(row['tracks'])} track{'s' if row['tracks'] > 1 else ''}."
        for word, row in ends
    )


# --- downstream ----------------------------------------------------------------------------------


def first_results(latents: LatentResults, run: Run) -> pd.DataFrame:
    """Differences over all cells, of each task by its headline folds."""
    rows = against(latents, run)
    chosen = [row["scheme"] == headline(rows, row["task"]) for row in rows.to_dict("records")]
    return rows[np.array(chosen, dtype=bool)]


def _tasks(latents: LatentResults, run: Run) -> Verdict | None:
    """What latents are worth as features, over all tasks; None if none was asked for or done."""
    rows = first_results(latents, run)
    if rows.empty:
        return None
    tasks = list(dict.fromkeys(rows["task"]))
    words = {
        other: list(rows.loc[rows["predictor"] == other, "word"])
        for other in (*COMPARED, *sorted(set(rows["predictor"]) - set(COMPARED)))
        if (rows["predictor"] == other).any()
    }
    which = f" of {run.name}" if len(latents.of(run.model)) > 1 else ""
    which = ", each fold by the model that held it out," if run.name == OWN_FOLDS else which
    if {word for found in words.values() for word in found} == {"open"}:
        text = (
            f"What the latents{which} are worth as features beside others is open: too few "
            "stretches of the genome for intervals."
        )
    else:
        told = "; ".join(_counted(other, found) for other, found in words.items())
        text = f"As features of a classifier the latents{which} do, by 95% intervals, {told}."
    details = tuple(_task_line(latents, run, task, rows[rows["task"] == task]) for task in tasks)
    return Verdict(_state(words), text, details)


def _counted(other: str, words: Sequence[str]) -> str:
    """`better than PCA of equal size in 2 of 5 tasks and worse in 1`."""
    better, worse, total = words.count("better"), words.count("worse"), len(words)
    text = f"better than {called(other)} in {better} of {total} task{'s' if total > 1 else ''}"
    text += f" and worse in {worse}" if worse else ""
    return text + (f" ({words.count('open')} open)" if "open" in words else "")


def _state(words: dict[str, list[str]]) -> str:
    """Good: never worse than what knows no more than the other cells, and better somewhere."""
    every = [word for found in words.values() for word in found]
    if set(every) == {"open"}:
        return "unknown"
    if "better" not in words.get(PREVALENCE, ["better"]):
        return "bad"
    judged = words.get(CELL_AVERAGE) or words.get(PCA) or every
    return "good" if "worse" not in every and "better" in judged else "mixed"


def _task_line(latents: LatentResults, run: Run, task: str, rows: pd.DataFrame) -> str:
    """One task: average precision beside prevalence, and the differences."""
    scheme, cells = str(rows["scheme"].iloc[0]), int(rows["cells"].max())
    own = of_tasks(latents, run)
    own = own[(own["task"] == task) & (own["scheme"] == scheme) & (own["predictor"] == LATENTS)]
    told = task_name(task)
    told = f"{told[0].upper()}{told[1:]} ({cells} cell{'s' if cells > 1 else ''}"
    told += ")" if scheme == "chromosomes" else f"; {scheme} folds only)"
    if len(own):
        told += (
            f": average precision {fixed(own['ap'].mean(), 2)}, prevalence "
            f"{fixed(own['prevalence'].mean(), 2)}"
        )
    order = {name: place for place, name in enumerate(COMPARED)}
    ranked = sorted(
        (row for row in rows.to_dict("records") if row["predictor"] != PREVALENCE),
        key=lambda row: order.get(row["predictor"], len(order)),
    )
    lines = [told, *(difference(row) for row in ranked)]
    open_ = " (no interval: too little genome)" if "open" in set(rows["word"]) else ""
    return f"{'; '.join(lines)}{open_}."


def difference(row: dict) -> str:
    """`better than PCA of equal size by 0.03 (0.01 to 0.05)`."""
    name, value = called(row["predictor"]), float(row["difference"])
    if not np.isfinite(value):
        return f"no difference from {name} known"
    if row["word"] == "open":
        far = f"{fixed(abs(value), 2)} {'above' if value > 0 else 'below'} {name}"
        return far if abs(value) >= 5e-3 else f"level with {name}"
    low, high = sorted((row["low"], row["high"]))
    if row["word"] == "not clear":
        return f"not clearly different from {name} ({fixed(low, 2)} to {fixed(high, 2)})"
    if row["word"] == "worse":
        low, high, value = -high, -low, -value
    return f"{row['word']} than {name} by {fixed(value, 2)} ({fixed(low, 2)} to {fixed(high, 2)})"


def _seen(latents: LatentResults, run: Run) -> Verdict | None:
    """Whether the model that made the features was trained on the test chromosomes."""
    fresh, total = unseen(latents, run)
    if not total or fresh == total:
        return None
    which = f" {run.name}" if len(latents.of(run.model)) > 1 else ""
    text = (
        f"In {total - fresh} of {total} folds of the tasks the latents{which} come from a model "
        "that was trained on test chromosomes. No label leaks that way, but it may know these "
        f"chromosomes too well{'' if fresh else ', and no fold is free of it'}: see the column "
        "“unseen folds” below."
    )
    return Verdict("info", text)
