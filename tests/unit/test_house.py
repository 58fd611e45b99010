"""The house rules: versions agree, layers hold, names match, documents tell the truth."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from epiloom.plan import config as plan_config

ROOT = Path(__file__).resolve().parents[2]

# Wings in order, and what each adds to the third-party modules that it and later wings may import.
WINGS = {
    "plan": {"yaml", "jsonschema"},
    "data": {
        "numpy",
        "pandas",
        "pyBigWig",
        "pyfaidx",
        "pybedtools",
        "pysam",
        "requests",
        "urllib3",
        "filelock",
        "pyliftover",
    },
    "learn": {"torch", "lightning_fabric", "scipy", "sklearn", "tqdm"},
    "studies": {"xgboost"},
    "show": {"matplotlib", "jinja2", "markupsafe", "rocrate"},
}
CONDA_TO_PYPI = {
    "matplotlib-base": "matplotlib",
    "pytorch": "torch",
    "pytorch-lightning": "lightning-fabric",
    "py-xgboost": "xgboost-cpu",
    "snakemake-minimal": "snakemake",
}
PROGRAMS = {"python", "bedtools"}  # not on the Python index, so not in the lock
MODULE_TO_CONDA = {
    "yaml": "pyyaml",
    "sklearn": "scikit-learn",
    "torch": "pytorch",
    "lightning_fabric": "pytorch-lightning",
    "xgboost": "py-xgboost",
    "matplotlib": "matplotlib-base",
}
ENVS = sorted((ROOT / "envs").glob("*.yaml"))


def tracked(*suffixes: str) -> list[Path]:
    """Files that belong to the project (tracked, or new and not ignored), optionally by suffix."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        paths = [ROOT / line for line in listed.stdout.splitlines()]
    else:  # a copy without git: everything but what is generated
        generated = {".git", ".venv", "demo", "real", "e003", "dnase"}
        generated |= {"pilot_dna", "pilot_latents", "pilot_cells"}
        generated |= {"resources", "results", ".snakemake"}
        paths = [p for p in ROOT.rglob("*") if not generated & set(p.relative_to(ROOT).parts)]
    real = [p for p in paths if p.is_file() and "__pycache__" not in p.parts]
    return [p for p in real if not suffixes or p.suffix in suffixes or p.name in suffixes]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def lock() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return dict(line.split("==") for line in lines)


def env_pins(path: Path) -> dict[str, str]:
    return dict(line.split("=") for line in yaml.safe_load(path.read_text())["dependencies"])


def imported(path: Path, *, top_only: bool = False) -> set[str]:
    """Dotted names that a Python file imports, relative ones too; `a.b` for `from a import b`."""
    tree = ast.parse(path.read_text())
    package = list(path.relative_to(ROOT).with_suffix("").parts[:-1])
    names = set()
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def top(name: str) -> str:
    return name.split(".")[0]


def outside(names: set[str]) -> set[str]:
    """The third-party modules among `names`."""
    own = {"epiloom", "models", "workflow_scripts"}
    return {top(n) for n in names} - set(sys.stdlib_module_names) - own


def rules() -> list[tuple[str, str, str]]:
    """(rule, script, conda file) of every rule with a script; rules of a loop have no name."""
    found = []
    for path in [ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))]:
        for block in re.split(r"^ *(?:rule|checkpoint)\b *", path.read_text(), flags=re.M)[1:]:
            script = re.search(r"script:\s+\"([^\"]+)\"", block)
            conda = re.search(r"conda:\s+\"([^\"]+)\"", block)
            if script:
                found.append((block.split(":")[0], script[1], conda[1] if conda else ""))
    return found


# ---- versions ------------------------------------------------------------------------------------


def test_lock_is_exact_sorted_and_without_local_builds():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9.-]+==[0-9][0-9a-z.]*", line)] == []
    assert lines == sorted(lines)


def test_lock_satisfies_every_dependency_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    pins = {canonicalize_name(name): version for name, version in lock().items()}
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])


def test_installed_versions_are_those_of_the_lock():
    other = {
        name: (version, importlib.metadata.version(name))
        for name, version in lock().items()
        if importlib.metadata.version(name).split("+")[0] != version
    }
    assert other == {}, "run: make setup"


@pytest.mark.parametrize("path", ENVS, ids=lambda p: p.stem)
def test_conda_environment_agrees_with_the_lock(path):
    env = yaml.safe_load(path.read_text())
    assert env["channels"] == ["conda-forge", "bioconda", "nodefaults"]
    pins, locked = env_pins(path), lock()
    assert pins["python"] == "3.11"
    assert {"pyyaml", "jsonschema"} <= set(pins), "epiloom.plan needs them in every job"
    different = {
        name: (version, locked.get(CONDA_TO_PYPI.get(name, name)))
        for name, version in pins.items()
        if name not in PROGRAMS and locked.get(CONDA_TO_PYPI.get(name, name)) != version
    }
    assert different == {}


def local_files(name: str) -> list[Path]:
    """The project's files that `import name` runs: the packages on the way, and the module."""
    parts = name.split(".")
    steps = [ROOT.joinpath(*parts[: i + 1]) for i in range(len(parts))]
    files = [f for s in steps for f in (s / "__init__.py", s.with_suffix(".py")) if f.is_file()]
    # models.load imports by name, so any model may follow.
    return files + (sorted((ROOT / "models").glob("*/model.py")) if parts[0] == "models" else [])


def needs(script: Path) -> set[str]:
    """Third-party modules that a script imports, itself or through the project's files.

    What the script and the modules it names import inside functions counts too; further away, only
    what is imported at once.
    """
    modules, todo, seen = set(), [(script, 0)], set()
    while todo:
        path, steps = todo.pop(0)
        if path in seen:
            continue
        seen.add(path)
        names = imported(path, top_only=steps > 1)
        modules |= outside(names)
        if any(n.startswith("torch.utils.tensorboard") for n in names):
            modules.add("tensorboard")
        own = [n for n in names if top(n) in ("epiloom", "models")]
        todo += [(f, steps + 1) for n in own for f in local_files(n)]
    return modules


@pytest.mark.parametrize(("rule", "script", "conda"), rules(), ids=lambda v: str(v).split("/")[-1])
def test_environment_of_a_rule_holds_all_that_its_script_imports(rule, script, conda):
    assert conda, f"rule {rule} names no conda environment"
    pins = env_pins((ROOT / "rules" / conda).resolve())
    wanted = {MODULE_TO_CONDA.get(m, m.lower()) for m in needs((ROOT / "rules" / script).resolve())}
    assert wanted - set(pins) == set()


# ---- layers --------------------------------------------------------------------------------------


def test_wings_import_only_the_wings_before_them():
    order, wrong = list(WINGS), []
    for path in sorted((ROOT / "epiloom").glob("*/**/*.py")):
        wing = path.relative_to(ROOT / "epiloom").parts[0]
        floor = order.index(wing)
        allowed = set().union(*(WINGS[w] for w in order[: floor + 1]))
        if path.name.startswith("motifs"):  # scores motifs on the device if there is one
            allowed |= {"torch"}
        names = imported(path)
        others = {n.split(".")[1] for n in names if top(n) == "epiloom" and "." in n}
        back = {other for other in others if other in order and order.index(other) > floor}
        strangers = outside(names) - allowed
        house = {top(n) for n in names} & {"models", "workflow_scripts", "snakemake"}
        wrong += [f"{name_of(path)}: {bad}" for bad in sorted(back | strangers | house)]
    assert wrong == []


def test_models_import_only_torch_the_interface_and_their_own_folder():
    wrong = []
    for path in sorted((ROOT / "models").rglob("*.py")):
        names = imported(path)
        folder = path.relative_to(ROOT / "models").parts[0]
        wrong += [f"{name_of(path)}: {m}" for m in sorted(outside(names) - {"torch"})]
        for name in names:
            foreign = name.startswith("models.") and name.split(".")[1] not in ("spec", folder)
            if foreign or top(name) in ("epiloom", "workflow_scripts"):
                wrong.append(f"{name_of(path)}: {name}")
    assert wrong == []


def test_rules_import_only_the_planning_side():
    allowed = {"snakemake", *sys.stdlib_module_names}
    wrong = []
    for path in [ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))]:
        for line in re.findall(r"^\s*(?:from|import) .*$", path.read_text(), flags=re.M):
            module = line.split()[1]
            if not (module.startswith("epiloom.plan") or top(module) in allowed):
                wrong.append(f"{name_of(path)}: {line.strip()}")
    assert wrong == []


def test_scripts_import_the_slow_parts_inside_main_and_never_each_other():
    wrong = []
    for path in sorted((ROOT / "workflow_scripts").glob("*.py")):
        at_top = imported(path, top_only=True)
        slow = outside(at_top) | {n for n in at_top if top(n) == "models"}
        each_other = {n for n in imported(path) if top(n) in ("workflow_scripts", "snakemake")}
        wrong += [f"{name_of(path)}: {bad}" for bad in sorted(slow | each_other)]
    assert wrong == []


def test_planning_really_imports_neither_torch_nor_numpy():
    modules = sorted((ROOT / "epiloom/plan").glob("*.py"))
    names = [f"epiloom.plan.{p.stem}" for p in modules if p.stem != "__init__"]
    code = (
        "import importlib, json, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = json.loads(ran.stdout)
    heavy = {"torch", "pandas", "numpy", "models", "snakemake"}
    wings = {f"epiloom.{wing}" for wing in list(WINGS)[1:]}
    assert [m for m in loaded if top(m) in heavy or m in wings] == []


# ---- names ---------------------------------------------------------------------------------------


def test_every_script_is_named_after_its_rule_and_every_rule_has_its_script():
    named = [(rule, Path(script).stem) for rule, script, _ in rules()]
    assert [pair for pair in named if pair[0] and pair[0] != pair[1]] == []
    scripts = {p.stem for p in (ROOT / "workflow_scripts").glob("*.py")} - {"__init__"}
    assert {script for _, script in named} == scripts


def test_no_line_is_longer_than_100():
    long = [
        f"{name_of(path)}:{number}"
        for path in tracked(".py", ".smk", ".sh", "Snakefile", "Makefile", "run")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > 100 and path.suffix != ".py"  # ruff knows the exceptions of Python files
    ]
    assert long == []


def test_no_file_is_longer_than_400_lines():
    big = {name_of(p): n for p in tracked(".py", ".smk") if (n := p.read_text().count("\n")) > 400}
    assert big == {}


def test_no_file_names_this_or_that_machine():
    # Put together here, so that this file does not contain them.
    slash = "/"
    words = [
        *(rf"(?<![\w.}}]){slash}{folder}{slash}" for folder in ("work", "root", "farm")),
        *(f"{a}{b}" for a, b in [("condash", "im"), ("pypi", r"\.org"), ("pythonhos", "ted")]),
        *(f"{a}{b}" for a, b in [("anaconda", r"\.org"), ("cla" + "ude", ""), ("anth", "ropic")]),
        *(f"{a}{b}" for a, b in [("shared/", "spec"), ("shared/", "howto"), ("data_path", r" \d")]),
        "download" + r"\.pytorch\.org",
    ]
    pattern = re.compile("|".join(words), re.I)
    hits = []
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue  # a picture or an array
        lines = enumerate(text.splitlines(), 1)
        hits += [f"{name_of(path)}:{n}: {m[0]}" for n, s in lines if (m := pattern.search(s))]
    assert hits == []


# ---- documents -----------------------------------------------------------------------------------


def documents() -> list[Path]:
    return tracked(".md")


def test_reference_of_the_configuration_is_current():
    text = (ROOT / "config/README.md").read_text()
    assert text == plan_config.reference(ROOT), "run: make docs"


def test_documents_mention_only_files_that_exist():
    ours = "bench|config|docs|envs|epiloom|models|profiles|rules|tests|workflow_scripts"
    in_code = re.compile(rf"`((?:{ours})/[\w./-]*\w|[\w-]+\.(?:toml|lock|cff))`")
    missing = []
    for path in documents():
        text = path.read_text()
        links = [m.split("#")[0] for m in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in m]
        missing += [f"{name_of(path)}: {m}" for m in links if not (path.parent / m).exists()]
        missing += [
            f"{name_of(path)}: {m}" for m in in_code.findall(text) if not (ROOT / m).exists()
        ]
    assert missing == []


def test_documents_mention_only_make_targets_that_exist():
    targets = set(re.findall(r"^([a-z0-9_]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    mentioned = {
        target
        for path in documents()
        for target in re.findall(r"(?:`|^|&& )make ([a-z0-9_]+)", path.read_text(), flags=re.M)
    }
    assert {"setup", "demo", "test"} <= mentioned <= targets


# ---- profiles ------------------------------------------------------------------------------------


def test_default_profile_sets_no_limits():
    default = yaml.safe_load((ROOT / "profiles/default/config.yaml").read_text())
    limits = {"cores", "jobs", "resources", "default-resources", "set-resources", "retries"}
    assert set(default) & limits == set()


def test_slurm_profile_is_found_by_name_and_accepted(tmp_path):
    (tmp_path / "Snakefile").write_text('rule a:\n    output: "x"\n    shell: "touch {output}"\n')
    (tmp_path / "slurm").symlink_to(ROOT / "slurm")
    assert (ROOT / "slurm/config.yaml").samefile(ROOT / "profiles/slurm/config.yaml")
    ran = subprocess.run(
        [sys.executable, "-m", "snakemake", "--profile", "slurm", "--dry-run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    said = ran.stdout + ran.stderr
    assert ran.returncode == 0, said
    assert "mem_mb=2000" in said and "runtime=60" in said
