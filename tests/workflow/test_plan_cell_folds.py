"""Cross-validation by cell: the plan's cell folds, and that no held-out cell leaks into its run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from epiloom.data.genome import Genome
from epiloom.data.signal_counts import COUNTS
from epiloom.data.vectors import write_about
from epiloom.plan import results, runs, unprofiled, unprofiled_asked
from epiloom.plan.errors import InputError
from epiloom.plan.jobs import Job
from tests.workflow.test_plan_unprofiled import CELLS, FOLDS, ROOT, SIMULATED, asked, made, refused
from tests.workflow.test_plan_unprofiled_asked import dry_run
from workflow_scripts import cell_signals, mean_signal, settle_scales, tf_reference

TWO = {"one": {"validation": ["E114"], "test": ["E116"]}, "two": {"test": ["E003", "E114"]}}
GENOME = Genome("hg19", ("chr1", "chr2"), (128 * 50, 128 * 30))


def runs_of(plan: runs.Plan) -> list[str]:
    return [run for _, run in plan.runs]


# ---- the plan ------------------------------------------------------------------------------------


def test_runs_are_folds_of_chromosomes_times_folds_of_cells():
    plan = made({"cell_folds": TWO})
    assert runs_of(plan) == ["a.one", "a.two", "b.one", "b.two"]
    own = plan.runs["epigept", "b.one"]
    assert own["fold"] == {"name": "b.one", "validation": ["chr3"], "test": ["chr4"]}
    assert own["cells"] == {"train": ["E003", "E066"], "validation": ["E114"], "test": ["E116"]}
    other = plan.runs["epigept", "a.two"]["cells"]
    assert other == {"train": ["E066", "E116"], "validation": [], "test": ["E003", "E114"]}
    assert "cell_folds" not in own
    assert runs_of(made({"cell_folds": TWO, "folds": ["b"]})) == ["b.one", "b.two"]


def test_each_holds_out_every_cell_once_alone_or_with_its_group():
    plan = made({"cell_folds": "each"})
    assert [s["cells"]["test"] for s in plan.runs.values()][:4] == [[cell] for cell in CELLS]
    grouped = {"cells": ["E066", "E003", "E118"], "cell_folds": "each"}  # two of the liver
    plan = made(grouped)
    tested = {run: own["cells"]["test"] for (_, run), own in plan.runs.items() if run[0] == "a"}
    assert tested == {"a.E066": ["E066", "E118"], "a.E003": ["E003"]}
    assert len(runs_of(made(grouped | {"cell_groups": "none"}))) == 6


def test_names_of_ones_own_cells_give_runs_whose_folds_can_be_told_apart(tmp_path):
    groups = tmp_path / "g.tsv"
    groups.write_text("name\tgroup\nE003\ta.b\n")
    plan = made({"cell_folds": "each", "cell_groups": str(groups)})
    assert runs_of(plan)[:4] == ["a.E003", "a.E066", "a.E116", "a.E114"]
    plan.cell_tracks["epigept"] = {"my.cell": {}, "my-cell": {}}
    from epiloom.plan import cell_folds

    assert cell_folds.settle(plan, ROOT, "epigept") == []
    assert unprofiled.folds_of(plan, "epigept") == ["my_cell", "my_cell_"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"cell_folds": {"x": {"test": ["E117"]}}}, "cell_folds.x.test: 'E117' is not among"),
        (
            {"cell_folds": {"x": {"validation": ["E11"], "test": ["E003"]}}},
            "cell_folds.x.validation: 'E11' is not among",
        ),
        ({"cell_folds": {"x": {"test": CELLS}}}, "cell_folds.x: no cell is left for training"),
        (
            {"cell_folds": {"x": {"test": ["E003"]}, "y": {"test": ["E003"]}}},
            "cell_folds.y.test: 'E003' is tested in x too",
        ),
        (
            {"cell_folds": {"x": {"test": ["E003"], "validation": ["E003"]}}},
            "'E003' is in cell_folds.x.validation too",
        ),
        (
            {"cell_folds": "each", "test_cells": ["E003"], "validation_cells": ["E114"]},
            "test_cells: cell_folds tells which cells are held out",
        ),
        ({"cell_folds": "each", "cells": ["E066", "E118"]}, "all cells are of group LIVER"),
        (
            {"cells": ["E066", "E118", "E003"], "cell_folds": {"x": {"test": ["E118"]}}},
            "cell_folds.x: group LIVER is divided (train: E066; test: E118)",
        ),
        (
            {"cells": ["E003", "E066"], "cell_folds": "each", "signals": ["DNase", "H3K4me3"]},
            "no training cell of cell fold E003 has DNase",  # E066 has none
        ),
    ],
)
def test_faulty_cell_folds_are_refused(options, told):
    assert told in refused(options)


def test_problems_of_all_folds_are_told_at_once():
    folds = {"x": {"test": ["E117"]}, "y": {"test": ["E003"], "validation": ["E003", "E9"]}}
    found = refused({"cell_folds": folds, "validation_cells": ["E114"]}).splitlines()
    assert len(found) == 4
    with pytest.raises(InputError, match="other"):
        made({"cell_folds": "other"})
    with pytest.raises(InputError, match=r"'a\.b' is no valid name"):
        made({"cell_folds": {"a.b": {"test": ["E003"]}}})


def test_signals_are_those_that_all_folds_can_learn():
    cells = ["E003", "E066", "E118"]
    options = {"cells": cells, "cell_groups": "none"}
    with_dnase = [c for c in cells if "DNase" in made(options).cell_tracks["epigept"][c]]
    assert len(with_dnase) > 1  # so that one of them can be held out
    assert "DNase" in unprofiled.signals(made(options | {"cell_folds": "each"}), "epigept")
    few = options | {"cells": ["E003", "E066"]}
    assert "DNase" in unprofiled.signals(made(few), "epigept")
    assert "DNase" not in unprofiled.signals(made(few | {"cell_folds": "each"}), "epigept")


def test_what_depends_on_who_trains_has_a_folder_of_its_own_and_nothing_else():
    plan = made({"cell_folds": TWO})
    one, two = (unprofiled.example_files(plan, "epigept", fold) for fold in ("one", "two"))
    own = {"scales", "signals", "cell_facts", "mean", "mean_facts", "reference", "vectors"}
    assert {key for key in one if one[key] != two[key]} == own
    assert one["scales"] == "results/epigept/one/signals/scales.json"
    assert one["regions"] == "results/epigept/regions.bed"
    files = runs.example_files(plan, plan.runs["epigept", "b.two"])
    assert files == two
    order = [Path(path).stem for path in two["signals"]]
    assert order == ["E066", "E116", "E003", "E114"]
    assert not any("E116" in path for path in unprofiled.train_raw(plan, "epigept", "one"))
    assert unprofiled.divisions(plan) == {
        "epigept/one": ("epigept", "one"),
        "epigept/two": ("epigept", "two"),
    }
    assert unprofiled.divisions(made()) == {"epigept": ("epigept", "")}
    assert set(unprofiled.data(plan)) > {one["mean"], two["mean"]}
    assert {one["scales"], two["scales"]} < set(unprofiled.shown(plan))
    plain = made({"test_cells": ["E116"]})
    assert unprofiled.disk_bytes(plan, 1e9) > unprofiled.disk_bytes(plain, 1e9)


def test_weights_to_begin_with_are_those_of_the_run(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"a.{name}.pt").write_text("")
    start = {"start": str(tmp_path / "{fold}.pt"), "folds": ["a"]}
    plan = made({"cell_folds": TWO} | start)
    given = {name for name in plan.inputs if name.startswith("start.")}
    assert given == {"start.epigept.a.one", "start.epigept.a.two"}


def test_each_run_is_asked_about_the_cells_that_it_held_out():
    given = asked({"cell_folds": TWO, "signal": "pval"}, simulate=SIMULATED, marks=[])
    plan = runs.build(given | {"interpret": {"variants": "planted"}}, ROOT)
    assert unprofiled_asked.question(plan, "epigept", "two")["cells"] == ["E003", "E114"]
    assert unprofiled_asked.cells(plan, "epigept", "one") == ["E116"]
    told = results.as_dict(plan)["cell_models"]
    assert [(row["run"], row["fold"], row["cell_fold"]) for row in told] == [
        *(("a.one", "a", "one"), ("a.two", "a", "two")),
        *(("b.one", "b", "one"), ("b.two", "b", "two")),
    ]
    assert told[1]["cells"]["test"] == ["E003", "E114"]
    # planted variants lie on the test chromosomes, whoever is held out
    from epiloom.plan import sequence

    path = sequence.variants(plan, plan.runs["epigept", "a.two"])
    assert path == "results/truth/variants.a.vcf"
    asked_for = unprofiled_asked.asked(plan)
    assert "results/epigept/a.two/variants.tsv" in asked_for


def test_rules_make_all_of_it(tmp_path):
    options = {"cell_folds": "each", "signal": "pval", "contact_weight": 1.0, "preset": "small"}
    given = asked(options, simulate=SIMULATED | {"length_bp": 600_000}, marks=[])
    given |= {"interpret": {"regions": ["chr2:1000-2000"]}, "folds": {"a": FOLDS["a"]}}
    done = dry_run(tmp_path, given)
    assert done.returncode == 0, done.stdout + done.stderr
    counted = dict(line.split() for line in done.stdout.splitlines() if len(line.split()) == 2)
    n = str(len(CELLS))
    for rule in ("settle_scales", "mean_signal", "tf_reference", "train_model", "evaluate_cells"):
        assert counted[rule] == n
    assert counted["cell_signals"] == str(len(CELLS) ** 2) and counted["predict_cells"] == n
    assert counted["choose_regions"] == counted["genome_motifs"] == "1"


# ---- no leak -------------------------------------------------------------------------------------

SHARED = ("scales", "mean", "mean_facts", "reference")


def write_inputs(folder: Path, plan: runs.Plan, nonsense: str = "") -> dict[str, str]:
    """Counts of every track, and expression; those of one cell may be nonsense."""
    store = folder / "store/raw128"
    store.mkdir(parents=True, exist_ok=True)
    GENOME.save(folder / "store/manifest.json", [128])
    table = {}
    for c, cell in enumerate(plan.cell_tracks["epigept"]):
        rng = np.random.default_rng(c)
        odd = cell == nonsense
        for track in plan.cell_tracks["epigept"][cell].values():
            counts = rng.poisson(5 + c, GENOME.total(128)).astype(np.float32)
            counts = np.ones_like(counts) if odd else counts  # the smallest depth of all
            np.save(store / f"{track}.npy", counts)
            told = {"kind": COUNTS, "bin_bp": 128, "total": int(counts.sum())}
            write_about(store / f"{track}.json", GENOME, store / f"{track}.npy", **told)
        table[cell] = 1e6 / rng.gamma(1, 9, 30) if odd else rng.gamma(1, 9, 30)
    lines = ["\t".join(["gene", *table])]
    lines += [f"T{k}\t" + "\t".join(f"{v[k]:.6f}" for v in table.values()) for k in range(30)]
    (folder / "matrix.tsv").write_text("\n".join(lines) + "\n")
    motif = "letter-probability matrix: alength= 4 w= 2\n0.7 0.1 0.1 0.1\n0.1 0.1 0.1 0.7\n"
    motifs = "".join(f"MOTIF T{k}\n{motif}" for k in range(5))
    (folder / "m.meme").write_text(f"MEME version 4\n\n{motifs}")
    np.save(folder / "mask.npy", np.zeros(GENOME.total(128), np.uint8))
    return {"manifest": str(folder / "store/manifest.json"), "mask": str(folder / "mask.npy")}


def made_data(folder: Path, plan: runs.Plan, fold: str, nonsense: str = "") -> dict:
    """What the rules make of one cell fold, by their scripts and with the plan's parameters."""
    given = write_inputs(folder, plan, nonsense)
    found = unprofiled.example_files(plan, "epigept", fold)
    paths = {k: v for k, v in found.items() if k in (*SHARED, "vectors", "signals", "cell_facts")}
    lists = {key: [v] if isinstance(v, str) else v for key, v in paths.items()}
    place = {key: [str(folder / path) for path in each] for key, each in lists.items()}
    for path in (p for each in place.values() for p in each):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    parts = unprofiled.parts(plan, "epigept", fold)
    known = {"bin_bp": 128, "data_version": runs.DATA_VERSION}
    scales = {"scales": place["scales"][0]}
    params = known | {"cells": unprofiled.described(plan, "epigept", fold)}
    settle_scales.main(Job("settle_scales", "", given, scales, params))
    for k, cell in enumerate(unprofiled.cells(plan, "epigept", fold)):
        params = known | {"tracks": unprofiled.tracks(plan, "epigept", cell)}
        out = {"signals": place["signals"][k], "facts": place["cell_facts"][k]}
        cell_signals.main(Job("cell_signals", "", given | scales, out, params))
    out = {"mean": place["mean"][0], "facts": place["mean_facts"][0]}
    params = known | {"cells": parts["train"]}
    mean_signal.main(Job("mean_signal", "", given | scales, out, params))
    files = {"matrix": str(folder / "matrix.tsv"), "motifs": str(folder / "m.meme")}
    out = {"reference": place["reference"][0], "vectors": place["vectors"][0]}
    params = {"cells": parts, "scoring": {}, "tfs": None, "missing": "refuse"}
    tf_reference.main(Job("tf_reference", "", files, out, params))
    return place


@pytest.mark.parametrize("fold", ["E003", "E114"])
def test_a_held_out_cell_never_enters_what_its_fold_is_trained_with(tmp_path, fold):
    plan = made({"cell_folds": "each"})
    right = made_data(tmp_path / "right", plan, fold)
    wrong = made_data(tmp_path / "wrong", plan, fold, nonsense=fold)

    def same(key: str, k: int = 0) -> bool:
        return Path(right[key][k]).read_bytes() == Path(wrong[key][k]).read_bytes()

    assert all(same(key) for key in SHARED)
    cells = unprofiled.cells(plan, "epigept", fold)
    held = cells.index(fold)
    for k in range(len(cells)):
        assert same("signals", k) == (k != held)
        assert same("cell_facts", k)
    vectors = []
    for files in (right, wrong):
        with np.load(files["vectors"][0]) as file:
            assert file["cells"].tolist() == cells
            vectors.append(file["vectors"])
    equal = (vectors[0] == vectors[1]).all(axis=1)
    assert equal.tolist() == [cell != fold for cell in cells]
    # the same nonsense in a cell that trains is seen: the test could fail
    shutil.rmtree(tmp_path / "wrong")
    other = next(cell for cell in cells if cell != fold)
    wrong = made_data(tmp_path / "wrong", plan, fold, nonsense=other)
    assert not any(same(key) for key in ("scales", "mean", "reference"))
    assert json.loads(Path(wrong["mean_facts"][0]).read_text())["cells"] == cells[:-1]
