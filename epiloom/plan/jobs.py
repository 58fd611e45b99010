"""One job = one plain description: it runs the same under Snakemake, by hand and in a test.

`run(main, snakemake)` is the last line of every script of `workflow_scripts/`. Under Snakemake it
builds the `Job` from the `snakemake` object, saves it as `<log>.job.json`, and logs to `<log>`.
By hand, `python -m workflow_scripts.NAME LOG.job.json` runs the very same job again.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from epiloom.plan import gpus
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

_READ_ONLY = "make the folder writable, or work elsewhere with `snakemake --directory FOLDER`"
REMEDIES = {
    errno.ENOSPC: "free some space, or work on a larger disk with `snakemake --directory FOLDER`",
    errno.EDQUOT: "your quota is used up; free some space or ask for more",
    errno.EROFS: _READ_ONLY,
    errno.EACCES: _READ_ONLY,
}


@dataclass(frozen=True)
class Job:
    """What a script needs to know, as plain values (text, numbers, lists, mappings)."""

    rule: str
    script: str = ""  # its name in workflow_scripts/: the rule's, but for rules made in a loop
    input: dict[str, Any] = field(default_factory=dict)
    output: dict[str, Any] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    wildcards: dict[str, str] = field(default_factory=dict)
    threads: int = 1
    gpus: int = 0
    gpus_shared: int = 1  # jobs that may use one GPU together, where no scheduler assigns them
    log: str | None = None

    @classmethod
    def from_snakemake(cls, smk: Any, script: str) -> Job:
        """The job of a `script:` directive. Only named inputs, outputs and params are kept."""
        return cls(
            rule=smk.rule,
            script=script,
            input=_named(smk.input),
            output=_named(smk.output),
            params=_named(smk.params),
            wildcards=_named(smk.wildcards),
            threads=int(smk.threads),
            gpus=int(getattr(smk.resources, "gpu", 0)),
            gpus_shared=int(getattr(smk, "config", {}).get("gpus_shared") or 1),
            log=str(smk.log[0]) if smk.log else None,
        )

    @classmethod
    def from_json(cls, path: str | Path) -> Job:
        """The job that an earlier run saved beside its log."""
        return cls(**json.loads(Path(path).read_text()))


def _named(values: Any) -> dict[str, Any]:
    return {key: _plain(value) for key, value in values.items()}


def _plain(value: Any) -> Any:
    """Snakemake's own classes (Namedlist, IOFile, paths) as plain Python values."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return str(value)
    return [_plain(v) for v in value]


def run(main: Callable[[Job], None], snakemake: Any = None) -> None:
    """Run a script's `main` with its log, its job file and readable errors.

    An `InputError` is shown as it is, a full or read-only disk as one; anything else with its
    traceback. All end with exit status 1.
    """
    if snakemake is not None:
        # Snakemake runs a copy of the script, named .snakemake/scripts/{random}.{name}.py.
        name = Path(main.__code__.co_filename).name.removesuffix(".py").rsplit(".", 1)[-1]
        job = Job.from_snakemake(snakemake, name)
    elif len(sys.argv) == 2:
        job = Job.from_json(sys.argv[1])
    else:
        sys.exit(f"usage: python -m workflow_scripts.{Path(sys.argv[0]).stem} LOG.job.json")
    _start_log(job)
    # Read when torch is loaded. Threads that wait for each other in a busy loop lose their cores
    # where other programs run: 18 times the time was seen (docs/benchmarks.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    began = time.time()
    try:
        gpus.assign(job.gpus, job.gpus_shared)
        main(job)
    except Exception as err:
        problem = err if isinstance(err, InputError) else _disk_problem(err)
        if problem:
            log.info("%s", traceback.format_exc())
        log.error("%s", problem or traceback.format_exc())
        _say_how_to_repeat(job)
        sys.exit(1)
    log.info("%s: done in %.1f s", job.rule, time.time() - began)


def command(job: Job) -> str:
    """What repeats the job by hand, from the working directory; empty without a log.

    The project's folder must be on PYTHONPATH where the working directory is another one.
    """
    if not job.log:
        return ""
    return f"python -m workflow_scripts.{job.script} {shlex.quote(f'{job.log}.job.json')}"


def run_in_parallel(job: Job, processes: int) -> None:
    """Run the very same job in several processes, one per GPU, that train together.

    Raises:
        subprocess.CalledProcessError: a process failed; its own message is in the job's log.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes), "-m", f"workflow_scripts.{job.script}"]
    root = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    subprocess.run(
        [*command, f"{job.log}.job.json"], env=os.environ | {"PYTHONPATH": paths}, check=True
    )


def _disk_problem(err: BaseException) -> InputError | None:
    """A full or read-only disk, in words; None for any other error."""
    if not isinstance(err, OSError):
        return None
    code = err.errno
    if code is None and "free space" in str(err) or "requested and" in str(err):
        code = errno.ENOSPC  # numpy tells a short write in words only
    if code not in REMEDIES:
        return None
    place = Path(str(err.filename or Path.cwd())).absolute()
    folder = next((p for p in (place, *place.parents) if p.is_dir()), Path("/"))
    free = shutil.disk_usage(folder).free / 1e9
    return InputError(folder, f"{os.strerror(code)} ({free:.3f} GB free): {REMEDIES[code]}")


def _start_log(job: Job) -> None:
    """Everything goes to the log file; warnings and errors also to the terminal."""
    log.setLevel(logging.INFO)
    log.handlers.clear()
    log.propagate = False
    screen = logging.StreamHandler(sys.stderr)
    screen.setLevel(logging.INFO if sys.stderr.isatty() else logging.WARNING)
    log.addHandler(screen)
    if job.log and os.environ.get("RANK", "0") == "0":  # of several processes one writes
        path = Path(job.log)
        path.parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(path, mode="w")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(file)
        Path(f"{path}.job.json").write_text(json.dumps(asdict(job), indent=1, sort_keys=True))
    log.info("%s %s on %s, python %s", job.rule, job.wildcards, platform.node(), sys.version[:6])


def _say_how_to_repeat(job: Job) -> None:
    if job.log:
        root = Path(__file__).resolve().parents[2]
        log.error(
            "log: %s\nrepeat this job by hand: cd %s && PYTHONPATH=%s %s -m workflow_scripts.%s %s",
            job.log,
            *map(shlex.quote, (str(Path.cwd()), str(root), sys.executable, job.script)),
            shlex.quote(f"{job.log}.job.json"),
        )
