"""The plan and its small input functions; the logic is in epiloom/plan, where it is tested."""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from epiloom.plan import jobs
from epiloom.plan import results as plan_results
from epiloom.plan import runs as plan_runs
from epiloom.plan import sequence as plan_sequence
from epiloom.plan import studies as plan_studies
from epiloom.plan import unprofiled as plan_unprofiled
from epiloom.plan import unprofiled_asked as plan_unprofiled_asked
from epiloom.plan.errors import InputError
from epiloom.plan.tracks import mark_of

ROOT = Path(workflow.basedir)


def from_root(path):
    """A path as seen from the workflow's folder, where that is shorter; no report names a home."""
    path = Path(path).absolute()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


FILES = [from_root(path) for path in workflow.overwrite_configfiles]
WHERE = ", ".join(FILES) or "config/config.yaml"

try:
    PLAN = plan_runs.build(config, ROOT, WHERE)
except InputError as err:
    sys.exit(str(err))

STORE = f"results/store/{PLAN.assembly}"
RESULTS = plan_results.results(PLAN)
DOWNLOADS = "|".join(re.escape(path.removeprefix("resources/")) for path in PLAN.files)
PLAIN_PLAN = plan_results.as_dict(PLAN) | {
    "options": shlex.join(
        ["--cores", "all"]
        + (["--directory", from_root(Path.cwd())] if Path.cwd() != ROOT else [])
        + (["--configfile", *FILES] if FILES else [])
    )
}


def one_of(names):
    """A pattern that fits these names; none fits nothing."""
    return "|".join(map(re.escape, names)) or "(?!)"


GENE_MODELS = one_of(PLAN.gene_models)
SEQUENCE_MODELS = one_of(plan_sequence.models(PLAN))
FRAME_MODELS = one_of(PLAN.channels)
CELL_MODELS = one_of(plan_unprofiled.models(PLAN))
# Who trains settles scales, means and TFs: each cell fold, if there are any, has its own folder.
DIVISIONS = plan_unprofiled.divisions(PLAN)


wildcard_constraints:
    model="|".join(PLAN.cards),
    run=r"[A-Za-z0-9_.+-]+",
    track=r"[A-Za-z0-9_.]+-[A-Za-z0-9_.]+",
    bin=r"\d+",
    cell=one_of(PLAN.config["cells"]),
    mark=one_of(PLAN.config["marks"]),
    target=one_of(PLAN.targets),
    assembly="hg19|hg38",


def settings(wc):
    """Settings of one run; a run that is not in the plan is an error that names the nearest."""
    return plan_runs.settings(PLAN, wc.model, wc.run)


def run_dir(wc):
    return f"runs/{wc.model}/{wc.run}/{plan_runs.fingerprint(settings(wc))}"


def runs_of(wc):
    return [run for model, run in PLAN.runs if model == wc.model]


def card_resource(name):
    """A resource of the model's card; memory and time grow with every attempt."""
    return lambda wc, attempt: PLAN.cards[wc.model]["resources"][name] * attempt


def card_version(wc):
    """Results of a model are made again when its code gives other numbers."""
    return PLAN.cards[wc.model]["version"]


def at_most(threads):
    """Cores of a data job: one for a simulated genome, so that long trainings share the rest."""
    return 1 if PLAN.config["simulate"] else threads


def card_threads(wc):
    """Cores of a model's jobs: those that the configuration names, else the card's."""
    named = PLAN.config["models"][wc.model].get("threads")
    return named or PLAN.cards[wc.model]["resources"]["threads"]


def gpus(wc):
    return PLAN.config["models"][wc.model]["gpu"]


def example_files(wc):
    """What a run's examples are made of."""
    return plan_runs.example_files(PLAN, settings(wc))


def cells_by_part(wc):
    """Cells that train, choose the epoch, and are held out."""
    return plan_unprofiled.parts(PLAN, *DIVISIONS[wc.division])


def cell_tracks(wc):
    """Track of every signal of a cell."""
    return plan_unprofiled.tracks(PLAN, DIVISIONS[wc.division][0], wc.cell)


def question(wc):
    """Which cells a model is asked about, and how."""
    return plan_unprofiled_asked.question(PLAN, wc.model, plan_unprofiled.cell_fold(wc.run))


def question_files(wc):
    """Motifs, genes and the table of new cells."""
    return plan_unprofiled_asked.question_files(PLAN)


def drawn_tracks(wc):
    """Tracks drawn beside latents: one per assay, of the cell types in turn."""
    marks = {}
    for name in PLAN.channels[wc.model]:
        marks.setdefault(mark_of(name), []).append(name)
    return [names[k % len(names)] for k, names in enumerate(marks.values())][:8]


def files_of(each):
    """All input files of one run, given as (model, run)."""
    for files in plan_runs.example_files(PLAN, PLAN.runs[each]).values():
        yield from [files] if isinstance(files, str) else files


def described(model, run):
    """A run as a job of many needs it: all that a job of its own would be given."""
    own = PLAN.runs[model, run]
    return {
        "model": model,
        "run": run,
        "settings": own,
        "run_dir": f"runs/{model}/{run}/{plan_runs.fingerprint(own)}",
        "files": plan_runs.example_files(PLAN, own),
    }


def perturbed_runs(wc):
    """The runs whose models a perturbation asks, one per fold."""
    return plan_studies.runs_of(PLAN, wc.model, wc.cell, wc.mark)


def perturbed_files(wc):
    """What the examples of a perturbation are read from: those of all its folds are the same."""
    own = plan_runs.settings(PLAN, wc.model, perturbed_runs(wc)[0])
    return plan_runs.example_files(PLAN, own)


def signal_file(wc):
    """The file a track's numbers are read from: its bigWig, or its sorted reads."""
    track = plan_runs.track(PLAN, wc.track)
    if track.kind == "reads":
        return [f"{STORE}/reads/{track.name}.{part}" for part in ("starts.npy", "ends.npy", "json")]
    if track.kind == "bam":
        return [f"results/tracks/{track.name}.bamcoverage.bw"]
    return [track.file]


def local_input(wc):
    """What a download waits for: the local file it is taken from, or the simulation."""
    if PLAN.config["simulate"]:
        return "simulated/truth/summary.json"
    source = PLAN.files[f"resources/{wc.file}"]
    return source.local if source.local and "://" not in source.local else []


def check_place():
    """Before the first job: room and permission to write, in words."""
    try:
        plan_results.check_place(PLAN, Path.cwd())
    except InputError as err:
        sys.exit(str(err))


def without_rate_limit():
    """Drop Snakemake's usual limit of 100 jobs a second; another one, from the user, stays.

    With a limit, Snakemake 9.27 looks at its queue once more per second for every job that has
    ever finished: a fifth of a core after 180 jobs.
    """
    scheduler = getattr(workflow, "scheduler", None)
    limit = getattr(scheduler, "job_rate_limiter", None)
    if limit and (limit.max_jobs, limit.timespan) == (100, 1):
        scheduler.job_rate_limiter = None


def report_partial():
    """After a failure: the same job that `snakemake report_now` runs."""
    job = jobs.Job("report_now", params={"plan": PLAIN_PLAN}, log="logs/report_now.log")
    path = Path("logs/report_now.log.job.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(asdict(job)))
    command = [sys.executable, "-m", "workflow_scripts.report_now", str(path)]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
