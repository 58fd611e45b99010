"""The plan of loops that are on another assembly than the study."""

from __future__ import annotations

from epiloom.plan import runs, sources, unprofiled
from epiloom.plan.tracks import OwnTrack
from tests.workflow.test_plan_unprofiled import CELLS, ROOT, SIMULATED, laid_out, made

LOOPS = {"file": "all.bedpe"}


def test_loops_of_another_assembly_bring_its_chain_file():
    hg38 = {"tf_expression": {"matrix": "t.tsv"}, "contact_weight": 2}
    tracks = {(c, "DNase"): OwnTrack(c, "DNase", "reads", f"{c}.bam", 2) for c in CELLS}
    loops = LOOPS | {"assembly": "hg19"}
    plan, files, problems = laid_out(hg38 | {"loops": loops}, tracks, assembly="hg38")
    assert problems == []
    assert plan.inputs["loops_chain"] == "resources/liftover_hg19_hg38"
    assert unprofiled.loop_options(plan)["assembly"] == "hg19"
    for assembly in (None, "hg38"):
        given = hg38 | {"loops": loops | {"assembly": assembly}}
        plan = laid_out(given, tracks, assembly="hg38")[0]
        assert "loops_chain" not in plan.inputs
        assert unprofiled.loop_options(plan)["assembly"] == "hg38"
    given = {"contact_weight": 2, "loops": loops | {"assembly": "hg38"}}
    assert made(given).inputs["loops_chain"] == "resources/liftover_hg38_hg19"
    assert "loops_chain" not in made(given | {"contact_weight": 0}).inputs
    given["signal"] = "pval"
    plan = made(given, simulate=SIMULATED)  # a made-up genome has one assembly
    assert "loops_chain" not in plan.inputs
    assert unprofiled.loop_options(plan)["assembly"] == "hg19"


def test_loops_of_another_assembly_are_another_run():
    asked = [{"contact_weight": 2, "loops": LOOPS | {"assembly": a}} for a in (None, "hg38")]
    prints = {runs.fingerprint(made(each).runs["epigept", "a"]) for each in asked}
    assert len(prints) == 2


def test_every_chain_that_loops_can_ask_for_has_an_address():
    rows = sources.catalogue(ROOT)
    for theirs, ours in (("hg19", "hg38"), ("hg38", "hg19")):
        source = sources.resolve(rows, f"liftover_{theirs}_{ours}", assembly=ours)
        assert source.url.endswith(f"/{theirs}To{ours.title()}.over.chain.gz")
        local = {source.key: "my.chain"}
        assert sources.resolve(rows, source.key, assembly=ours, local=local).urls == ["my.chain"]
