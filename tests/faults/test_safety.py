"""Names and files of others stay what they are: nothing in them is run, nothing leads elsewhere."""

from __future__ import annotations

import ast
import csv
import gzip
import os
import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pyBigWig
import pytest
import yaml

from epiloom.plan import runs
from epiloom.plan.errors import InputError
from tests.faults.study import CHROMOSOMES, STUDY

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "config/examples/demo.yaml"
pytestmark = pytest.mark.faults
EVIL = "x; touch pwned"
FOLDER = 'it\'s $(touch pwned) `touch pwned` "q"; touch pwned'
NAME = "a & $(touch pwned)"


def changed(base: dict, path: str, value: object) -> dict:
    """A configuration with the value at `path` (keys joined by dots) replaced."""
    config = deepcopy(base)
    *above, last = path.split(".")
    part = config
    for key in above:
        part = part.setdefault(key, {})
    part[last] = value
    return config


def snakemake(folder: Path, config: dict, *args: str) -> str:
    """All that Snakemake says; it has to end well."""
    (folder / "config.yaml").write_text(yaml.safe_dump(config, allow_unicode=True))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(folder), "--configfile", str(folder / "config.yaml")]
    done = subprocess.run(
        [*command, "--cores", "2", *args],
        **{"cwd": folder, "capture_output": True, "text": True, "timeout": 200},
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout + done.stderr


def harmed(folder: Path) -> list[Path]:
    places = [folder, ROOT, Path.cwd(), Path.home()]
    return [*folder.rglob("pwned"), *(p / "pwned" for p in places if (p / "pwned").exists())]


# ---- values of a configuration ------------------------------------------------------------------

REFUSED = {
    "cells": [EVIL],
    "marks": [EVIL],
    "chromosomes": [*CHROMOSOMES, EVIL],
    f"folds.{EVIL}": STUDY["folds"]["fold1"],
    "folds.a/b": STUDY["folds"]["fold1"],
    f"models.{EVIL}": {},
    "models.promoter_cnn.mark_sets": [EVIL],
    "sources.local.gaps": "/nowhere/{EVIL}.gz",
    "sources.local.blacklist": f"ftp://host/{EVIL}",
}
ASKED = {
    "regions": [f"chr5:1-200; {EVIL}"],
    "factors": [f"chr5:149518; {EVIL}"],
    "contacts": [f"chr5:1-200; {EVIL}"],
    "mutagenesis": ["chr5:1-200/../../x"],
    "variants": "ftp://host/x",
}


@pytest.mark.parametrize("key", REFUSED)
def test_names_that_are_more_than_names_are_refused(key, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        runs.build(changed(STUDY, key, REFUSED[key]), ROOT, "config.yaml")


@pytest.mark.parametrize("key", ASKED)
def test_places_that_are_more_than_places_are_refused(key, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    demo = yaml.safe_load(DEMO.read_text())
    with pytest.raises(InputError):
        runs.build(changed(demo, f"interpret.{key}", ASKED[key]), ROOT, "config.yaml")


@pytest.mark.parametrize("bad", [EVIL, "../../x", "$(touch pwned)", "a b", "a\nb", "a/b"])
@pytest.mark.parametrize("column", ["cell", "mark"])
def test_a_track_table_takes_plain_names_only(column, bad, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    row = {"cell": "E003", "mark": "H3K4me3", "kind": "depth", "file": "x.bw", column: bad}
    with (tmp_path / "tracks.tsv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(row), delimiter="\t")
        table.writeheader()
        table.writerow(row)
    with pytest.raises(InputError, match="may hold letters, digits"):
        runs.build({**STUDY, "tracks": "tracks.tsv"}, ROOT, "config.yaml")


def own_files(folder: Path) -> dict:
    """A study whose own files lie under names that a shell would act upon."""
    place = folder / FOLDER
    place.mkdir()
    with pyBigWig.open(str(folder / "plain.bw"), "w") as file:
        file.addHeader([(chrom, 300_000) for chrom in CHROMOSOMES])
        file.addEntries(["chr1"], [0], ends=[1000], values=[2.0])
    (folder / "plain.bw").rename(place / f"{NAME}.bw")
    (place / f"sizes {NAME}").write_text("".join(f"{c}\t300000\n" for c in CHROMOSOMES))
    (place / f"gaps\n{NAME}.gz").write_bytes(gzip.compress(b""))
    with (folder / f"{NAME}.tsv").open("w", newline="") as file:
        table = csv.writer(file, delimiter="\t")
        table.writerow(["cell", "mark", "kind", "file"])
        table.writerow(["E003", "H3K4me3", "depth", place / f"{NAME}.bw"])
    local = {"chrom_sizes": str(place / f"sizes {NAME}"), "blacklist": "none", "gaps": "none"}
    return STUDY | {"tracks": f"{NAME}.tsv", "sources": {"local": local}}


def test_a_run_over_files_with_such_names_ends_well_and_runs_nothing(tmp_path):
    config = own_files(tmp_path)
    snakemake(tmp_path, config, "results/store/hg19/tracks/E003-H3K4me3.depth.json")
    assert (tmp_path / "results/store/hg19/bins100/E003-H3K4me3.depth.npy").exists()
    assert (tmp_path / f"resources/own/E003-H3K4me3/{NAME}.bw").is_symlink()
    assert harmed(tmp_path) == []


def test_a_name_with_a_line_break_is_harmless(tmp_path):
    config = own_files(tmp_path)
    config["sources"]["local"]["gaps"] = str(tmp_path / FOLDER / f"gaps\n{NAME}.gz")
    snakemake(tmp_path, config, "results/store/hg19/mask/100.npy")
    assert (tmp_path / "results/store/hg19/mask/100.npy").exists()
    assert harmed(tmp_path) == []


def test_files_of_questions_may_have_such_names(tmp_path):
    """A dry run of everything: loops, variants, an expression table, weights to begin with."""
    config = yaml.safe_load(DEMO.read_text())
    place = tmp_path / FOLDER
    place.mkdir()
    for key in ("loops.file", "start"):
        path = place / f"{key} {NAME}.gz"
        path.write_bytes(gzip.compress(b"chr1\t1\t2\tchr1\t5\t6\n"))
        config = changed(config, f"models.epigept.{key}", str(path))
    config["models"]["epigept"]["start_seen"] = "allow"
    (place / f"expression {NAME}.tsv").write_text(f"gene\tmine\t{EVIL}\nG1\t1\t2\n")
    asked = {"matrix": str(place / f"expression {NAME}.tsv"), "cells": ["mine"]}
    config = changed(config, "interpret.expression", asked)
    (place / f"variants {NAME}.vcf").write_text("##fileformat=VCFv4.2\n#CHROM\tPOS\n")
    config = changed(config, "interpret.variants", str(place / f"variants {NAME}.vcf"))
    said = snakemake(tmp_path, config, "-n")
    assert "pwned" in said and harmed(tmp_path) == []


@pytest.mark.parametrize("name", [EVIL, "../../x", "$(touch pwned)"])
def test_columns_of_an_expression_table_are_plain_names(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load(DEMO.read_text())
    (tmp_path / "mine.tsv").write_text(f"gene\t{name}\nG1\t1\n")
    asked = {"matrix": "mine.tsv", "cells": [name]}
    try:
        plan = runs.build(changed(config, "interpret.expression", asked), ROOT, "config.yaml")
    except InputError:
        return
    raise AssertionError(plan)


# ---- what the code may do at all ----------------------------------------------------------------

SOURCES = [
    path
    for part in ("epiloom", "models", "workflow_scripts")
    for path in sorted((ROOT / part).rglob("*.py"))
]
FORBIDDEN = re.compile(
    r"os\.(system|popen)|eval|exec|pickle\.loads?|joblib\.load|(pd|pandas)\.read_pickle"
    r"|tarfile\..*|shutil\.unpack_archive|.*\.extract(all)?|yaml\.(load|unsafe_load|full_load)"
    r"|subprocess\.(getoutput|getstatusoutput)"
)


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    tree = ast.parse(path.read_text())
    return [(ast.unparse(n.func), n) for n in ast.walk(tree) if isinstance(n, ast.Call)]


def wrong_in(path: Path) -> list[str]:
    found = []
    for name, call in calls(path):
        words = {k.arg: ast.unparse(k.value) for k in call.keywords}
        bad = FORBIDDEN.fullmatch(name) and not name.endswith(".str.extract")
        bad = bad or name == "torch.load" and words.get("weights_only") != "True"
        bad = bad or words.get("allow_pickle") == "True" or words.get("verify") == "False"
        bad = bad or "shell" in words
        # a command is a list of words, so that no word of it is read by a shell
        bad = (
            bad
            or name.startswith("subprocess.")
            and isinstance(call.args[0], (ast.Constant, ast.JoinedStr, ast.BinOp))
        )
        if bad:
            found.append(f"{path.relative_to(ROOT)}:{call.lineno}: {ast.unparse(call)[:80]}")
    return found


def test_no_shell_no_foreign_pickle_no_unpacked_archive_no_unchecked_certificate():
    assert len(SOURCES) > 200
    assert [line for path in SOURCES for line in wrong_in(path)] == []


def test_no_rule_builds_a_command_line():
    rules = [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk"), *ROOT.glob("models/*/*.smk")]
    directive = re.compile(r"^\s*(shell|run|wrapper|notebook)\s*:", re.M)
    assert [path.name for path in rules if directive.search(path.read_text())] == []
