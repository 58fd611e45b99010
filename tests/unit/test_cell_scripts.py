"""Scripts of the rules of cells, as far as no library test covers them."""

from __future__ import annotations

import gzip
import json

import pytest

from epiloom.data.genome import Genome
from epiloom.data.loops import Loops
from epiloom.plan.errors import InputError
from epiloom.plan.jobs import Job
from workflow_scripts import cell_loops, settle_scales


def test_scales_are_not_settled_while_a_twin_is_held_out(tmp_path):
    cells = {
        "tracks": {"one": {}, "two": {}},
        "names": {"one": "IMR-90", "two": "AG04450"},  # both are fibroblasts
        "parts": {"one": "train", "two": "test"},
        "signals": ["DNase"],
        "force": False,
    }
    files = {"manifest": str(tmp_path / "manifest.json")}
    job = Job("settle_scales", input=files, params={"cells": cells, "bin_bp": 128})
    with pytest.raises(InputError, match="group 'fibroblast' is in train: one; test: two; keep it"):
        settle_scales.main(job)
    cells["names"]["two"] = "imr90"
    with pytest.raises(InputError, match="name 'IMR-90' is in train: one; test: two"):
        settle_scales.main(job)


def test_loops_of_another_assembly_are_lifted_and_the_lost_ones_told(tmp_path):
    # chr1 moves by 20 kb, its second half goes to chr2, which the study does not read
    chain = (
        "chain 9 chr1 300000 + 0 150000 chr1 320000 + 20000 170000 1\n150000\n\n"
        "chain 9 chr1 300000 + 150000 290000 chr2 200000 + 0 140000 2\n140000\n\n"
    )
    anchors = [(5, 60), (5, 60), (10, 90), (100, 200), (200, 250), (5, 295)]
    lines = [f"chr1\t{a}000\t{a + 5}000\tchr1\t{b}000\t{b + 5}000\tx\t9\n" for a, b in anchors]
    genome = Genome("hg38", ("chr1",), (320_000,))
    genome.save(tmp_path / "manifest.json", [128])
    (tmp_path / "loops.bedpe").write_text("".join(lines))
    (tmp_path / "a.chain.gz").write_bytes(gzip.compress(chain.encode()))
    names = {"manifest": "manifest.json", "loops": "loops.bedpe", "chain": "a.chain.gz"}
    files = {key: str(tmp_path / name) for key, name in names.items()}
    out = {"loops": str(tmp_path / "c.npz"), "facts": str(tmp_path / "c.json")}
    choice = {"max_q": 1e-3, "weight": "count", "assembly": "hg19"}
    params = {"bin_bp": 128, "choice": choice}
    job = Job("cell_loops", "", files, out, params, {"cell": "c"})
    cell_loops.main(job)
    found = Loops.load(out["loops"], genome).table
    assert (found["first1"] * 128 // 1000).tolist() == [24, 29]
    assert found["weight"].tolist() == [2, 1]
    facts = json.loads((tmp_path / "c.json").read_text())
    assert (facts["read"], facts["elsewhere"], facts["kept"]) == (6, 1, 2)
    lost = {"no_place": 1, "stretched": 0, "two_chromosomes": 1, "out_of_order": 0}
    assert facts["lost"] == lost and facts["table_assembly"] == "hg19"
    cell_loops.main(Job("cell_loops", "", files | {"chain": []}, out, params, {"cell": "c"}))
    assert json.loads((tmp_path / "c.json").read_text())["lost"] == {}
    assert len(Loops.load(out["loops"], genome)) == 5
