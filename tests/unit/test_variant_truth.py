"""Variants planted in the simulation: read, checked, and scored by scanning for their motif."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from epiloom.data import variants as tables
from epiloom.data.genome import Genome
from epiloom.data.sequence import decode, reverse_complement
from epiloom.data.simulate import Plan
from epiloom.data.simulate.addresses import Addresses
from epiloom.data.simulate.motifs import NAMES
from epiloom.data.simulate.truth import write_truth
from epiloom.data.simulate.world import make_world
from epiloom.studies import planted_motifs, planted_variants, variants
from tests.made_sequences import GEOMETRY, MadeGenome


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    plan = Plan(cells=("E003", "E116"))
    world, addresses = make_world(plan), Addresses(plan, folder)
    write_truth(world, addresses)
    layout = world.layout
    spans = zip(layout.names, layout.starts, layout.lengths, strict=False)
    text = {name: decode(world.codes[start : start + n]) for name, start, n in spans}
    genome = Genome("hg19", tuple(text), tuple(map(len, text.values())))
    truth = pd.read_csv(addresses.truth("variants.tsv"), sep="\t", keep_default_na=False)
    table = truth.assign(position=truth["position"] + 1)[["chrom", "position", "ref", "alt"]]
    table.to_csv(folder / "variants.tsv", sep="\t", index=False)
    checked = tables.check(
        tables.read(folder / "variants.tsv"), "truth", genome, MadeGenome(**text)
    )
    return world, MadeGenome(**text), truth, checked


def scanning(pwm: np.ndarray):
    """A predictor: summed odds of the factor's sites, on both strands, by bin."""
    odds = np.log2(np.vstack([pwm.T / 0.25, np.ones(len(pwm))]))  # [5, width]

    def predict(bases, conservation):
        total = np.zeros(bases.shape)
        width = len(pwm)
        for codes, turn in ((bases, False), (reverse_complement(bases), True)):
            score = sum(odds[codes[:, j : codes.shape[1] - width + 1 + j], j] for j in range(width))
            strength = 2.0 ** (score - odds.max(axis=0).sum())
            at = width // 2
            found = np.zeros(bases.shape)
            found[:, at : at + score.shape[1]] = strength
            total += found[:, ::-1] if turn else found
        binned = total.reshape(len(bases), -1, GEOMETRY.bin_bp).sum(axis=2)[:, None]
        return binned[..., GEOMETRY.crop_bins : GEOMETRY.crop_bins + GEOMETRY.bins]

    return predict


def test_all_planted_variants_fit_the_simulated_genome(simulated):
    _, _, truth, checked = simulated
    assert checked.counts == {"given": len(truth), "kept": len(truth)}


def test_variants_that_break_a_site_lose_its_factor_and_neutral_ones_do_not(simulated):
    world, reader, truth, checked = simulated
    keys = ["chrom", "position", "ref", "alt"]
    table = checked.table.merge(truth[[*keys, "where", "factor"]], on=keys, validate="1:1")
    options = variants.Options(shifts=(0,))
    losses = []
    for factor in ("SP1", "CTCF", "REST"):
        predict = scanning(world.factors.pwms[NAMES.index(factor)])
        own = table[table["factor"] == factor].head(15)
        others = table[table["where"] == "background"].head(15)
        broken = variants.score(own, predict, reader, GEOMETRY, (factor,), options)
        neutral = variants.score(others, predict, reader, GEOMETRY, (factor,), options)
        assert len(broken) > 3 and (broken["sad"] < 0).all()
        at = broken["max_start"] + GEOMETRY.bin_bp / 2
        assert (abs(at - broken["position"]) <= GEOMETRY.bin_bp).all()
        losses.append(broken["sad"].median() / neutral["sad"].abs().median())
    assert max(losses) < -10


def test_scores_are_judged_by_sign_rank_and_cell(tmp_path):
    addresses = Addresses(Plan(cells=("E003", "E116")), tmp_path)
    write_truth(make_world(Plan(cells=("E003", "E116"))), addresses)
    folder = addresses.truth("x").parent
    truth = planted_variants.choose(planted_variants.read_truth(folder), ["chr1"])
    tables = []
    for cell in ("E003", "E116"):
        effect = truth[f"effect_{cell}"].astype(float)
        told = truth[planted_variants.KEY].assign(track=f"{cell}-DNase", local_ref=2.0)
        tables.append(told.assign(position=told["position"] + 1, local_alt=2 + 9 * effect))
    right = planted_variants.summary(pd.concat(tables), folder).set_index(["track", "what"])[
        "figure"
    ]
    sign, rank = "sign of clear effects is right", "Spearman r of score and effect"
    for track in ("E003-DNase", "E116-DNase"):
        assert right[track, sign] == 1 and right[track, rank] == pytest.approx(1)
        assert right[track, "AUROC of clear against neutral"] == 1
    assert right["all", "change is larger in the right cell"] == right["all", sign] == 1
    names = {"E003-DNase": "E116-DNase", "E116-DNase": "E003-DNase"}
    swapped = pd.concat([table.replace({"track": names}) for table in tables])
    wrong = planted_variants.summary(swapped, folder).set_index(["track", "what"])["figure"]
    assert wrong["all", "change is larger in the right cell"] == 0
    turned = pd.concat([t.assign(local_alt=4 - t["local_alt"]) for t in tables])
    wrong = planted_variants.summary(turned, folder).set_index(["track", "what"])["figure"]
    assert wrong["E003-DNase", sign] == 0 and wrong["E003-DNase", rank] == pytest.approx(-1)


def test_motifs_that_come_back_and_motifs_that_bind_nowhere(tmp_path):
    plan = Plan(chromosomes=1, length_bp=400_000, cells=("E003", "E116"), binding_share=0.4)
    addresses = Addresses(plan, tmp_path)
    write_truth(make_world(plan), addresses)
    names = ["SP1", "SOX2", "SOX2", "CTCF", "TP63", "REST", "YY1"]  # TP63 binds nowhere
    q = [0.01, 0.001, 0.02, 0.05, 0.04, 0.03, 0.2]  # YY1 is not clear
    matches = pd.DataFrame({"match": [f"{n}_HUMAN.H11MO.0.A" for n in names], "q": q})
    table = planted_motifs.summary(matches, addresses.truth("x").parent).set_index("what")
    back, wrong = table.loc[planted_motifs.KNOWN], table.loc[planted_motifs.FALSE]
    assert (back["n"], back["figure"]) == (15, pytest.approx(4 / 15))
    assert (wrong["n"], wrong["figure"]) == (5, pytest.approx(1 / 5))
    assert wrong["chance"] == pytest.approx(15 / 30) and back["chance"] == pytest.approx(5 / 30)
    none = planted_motifs.summary(matches.head(0), addresses.truth("x").parent)
    assert none["figure"].tolist() == [0.0]
