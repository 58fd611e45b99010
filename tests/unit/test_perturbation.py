"""Perturbation: intervals, inputs of the variants, and predictions of a real small model."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import models
from epiloom.data.ragged import Ragged
from epiloom.learn import checkpoint
from epiloom.learn.distal import SIZES, PartnerTable
from epiloom.learn.evaluation import predict, variant_predictor
from epiloom.plan.errors import InputError
from epiloom.studies import planted
from epiloom.studies.perturbation import (
    Options,
    Place,
    genomic,
    perturb,
    places,
    todo_list,
    weakened,
    weakened_partners,
)
from tests.unit.test_distal import settings as distal_settings
from tests.unit.test_distal import write

TINY = {"width": 8, "pairwise_layers": 1, "regulation_layers": 1, "regulation_heads": 2}


def settings(**changes) -> dict:
    return distal_settings(marks=["A"], **{**TINY, **changes})


@pytest.fixture
def files(tmp_path):
    made = write(tmp_path)
    genes = pd.read_csv(made["genes"], sep="\t")
    rng = np.random.default_rng(0)
    genes["tss"] = rng.integers(30_000, 900_000, len(genes))
    genes["strand"] = rng.choice(["+", "-"], len(genes))
    genes.to_csv(made["genes"], sep="\t", index=False)
    one = {key: made[key][:1] for key in ("features", "partner_bins")}
    return {**made, **one}


def model(folder, **changes):
    """A random small network and its weights file."""
    torch.manual_seed(1)
    spec = models.load("chromoformer")
    own = settings(**changes)
    net = spec.build(own).eval()
    checkpoint.save(folder / "weights.pt", {"state_dict": net.state_dict(), "settings": own})
    return spec, net, folder / "weights.pt"


# ---- places --------------------------------------------------------------------------------------


def test_the_tiled_places_cover_the_40_kb_once():
    spots = places("tiled")
    assert [p.location for p in spots].count("distal") == 17
    covered = np.zeros(40_000, int)
    for spot in spots:
        covered[spot.first : spot.last] += 1
    assert (covered == 1).all()


def test_the_centred_promoter_is_3_kb_to_either_side():
    spot = places("centred")[0]
    assert genomic(spot, 100_000, "+") == (97_000, 103_000)
    assert genomic(spot, 100_000, "-") == (97_000, 103_000)


@pytest.mark.parametrize("strand", ["+", "-"])
def test_a_spike_of_depth_is_in_the_bin_that_names_its_bases(strand):
    """Depth per base, binned as the features are: only the place over the spike changes it."""
    tss, low = 50_000, 30_000
    for spot in places():
        start, end = genomic(spot, tss, strand)
        assert end - start == spot.last - spot.first
        depth = np.zeros(40_000, np.float32)
        depth[start - low : end - low] = 5.0
        bins = depth.reshape(400, 100).mean(axis=1)
        raw = (bins if strand == "+" else bins[::-1])[:, None]
        todo = [(other, 0.0) for other in places()]
        found = weakened(raw, np.log1p, todo, "depth")
        for size in SIZES:
            changed = np.abs(found[size][1:] - found[size][0]).sum(axis=(1, 2)) > 0
            assert changed.tolist() == [other == spot for other in places()]


# ---- inputs of the variants ----------------------------------------------------------------------


def test_depth_is_weakened_before_the_logarithm_at_the_same_bases_of_all_resolutions():
    raw = np.random.default_rng(0).poisson(4, (400, 2)).astype(np.float32)
    todo = [(Place("distal", 3, 6000, 8000), 0.3), (Place("promoter", 9, 17_000, 23_000), 0.0)]
    found = weakened(raw, np.log1p, todo, "depth")
    bases = np.repeat(raw.astype(np.float64), 100, axis=0)
    for v, (place, factor) in enumerate([(Place("", 0, 0, 0), 1.0), *todo]):
        changed = bases.copy()
        changed[place.first : place.last] *= factor
        for size in SIZES:
            slow = np.log1p(changed.reshape(-1, size, 2).mean(axis=1))
            np.testing.assert_allclose(found[size][v], slow, rtol=1e-5)


def test_the_original_rule_multiplies_transformed_values_in_the_published_bins():
    raw = np.random.default_rng(1).poisson(4, (400, 1)).astype(np.float32)
    promoter, distal = places("centred")[0], Place("distal", 12, 24_000, 26_000)
    found = weakened(raw, np.log1p, [(promoter, 0.5), (distal, 0.0)], "original")
    spans = {100: (170, 230), 500: (34, 46), 2000: (8, 11)}
    for size in SIZES:
        plain = np.log1p(raw.reshape(-1, size // 100, 1).mean(axis=1))
        half, gone = plain.copy(), plain.copy()
        half[slice(*spans[size])] *= 0.5
        gone[12 * 2000 // size : 13 * 2000 // size] = 0
        np.testing.assert_allclose(found[size], [plain, half, gone], rtol=1e-5)


def test_all_places_together_leave_an_empty_promoter():
    raw = np.random.default_rng(2).poisson(4, (400, 1)).astype(np.float32)
    left = raw.copy()
    for spot in places():
        left *= weakened(np.ones((400, 1), np.float32), np.array, [(spot, 0.0)], "depth")[100][1]
    assert not left.any()


def test_partners_lose_what_lies_in_the_interval_and_nothing_else():
    rng = np.random.default_rng(3)
    lengths, starts = np.array([1250, 700]), np.array([10_050, 40_000])
    regions = Ragged(lengths, rng.poisson(5, (20, 1)).astype(np.float32))
    interval = (11_025, 40_310)  # the end of the first, the start of the second, in mid-bin
    slots = np.array([1, 0, -1])
    found = weakened_partners(regions, starts, np.log1p, [(interval, 0.25)], slots)
    for slot, region in ((0, 1), (1, 0)):
        low = regions.first[region]
        values = regions.values[low : regions.first[region + 1], 0].astype(np.float64)
        bases = np.repeat(values, 100)[: lengths[region]]
        place = starts[region] + np.arange(lengths[region])
        weak = np.where((place >= interval[0]) & (place < interval[1]), 0.25, 1.0) * bases
        for size in SIZES:
            for v, depth in ((0, bases), (1, weak)):
                slow = [np.log1p(depth[k : k + size].mean()) for k in range(0, len(depth), size)]
                left = -(-(40_000 // size - len(slow)) // 2)
                got = found[size][v, slot, left : left + len(slow), 0]
                np.testing.assert_allclose(got, slow, rtol=1e-5)
    assert not found[100][:, 2].any()


# ---- predictions ---------------------------------------------------------------------------------


def test_a_table_holds_every_held_out_gene_and_starts_from_the_plain_prediction(files, tmp_path):
    spec, net, weights = model(tmp_path)
    options = Options(factors=(0.5, 0.0))
    table = perturb([(settings(), files, variant_predictor(spec, weights))], options)
    own = PartnerTable.read(settings(), files)
    held = np.flatnonzero(own.promoters.part != "train")
    assert list(dict.fromkeys(table["gene_id"])) == list(own.promoters.gene_ids[held])
    assert len(table) == 18 * len(held) and set(table["part"]) == {"validation", "test"}
    plain = predict(spec, net, own.genes(held), device="cpu")
    np.testing.assert_allclose(table["unperturbed"].to_numpy()[::18], plain, atol=1e-5)
    np.testing.assert_allclose(table["delta_log2"], table["unperturbed"] - table["removed"])
    assert table["p_0.5"].between(-100, 100).all()
    inside = table[table["location"] == "distal"]
    assert (inside["end"] - inside["start"] == 2000).all()


def test_each_variant_is_what_the_model_says_of_that_input(files, tmp_path):
    """One gene by hand: depth of one bin halved in the feature file itself."""
    spec, net, weights = model(tmp_path)
    table = perturb([(settings(), files, variant_predictor(spec, weights))], Options((0.5, 0.0)))
    own = PartnerTable.read(settings(), files)
    row = int(np.flatnonzero(own.promoters.part == "test")[3])
    mine = table[table["gene_id"] == own.promoters.gene_ids[row]]
    raw = np.load(files["features"][0])
    where = np.flatnonzero(
        pd.read_csv(files["genes"], sep="\t")["gene_id"] == mine["gene_id"].iloc[0]
    )
    for spot in (places()[0], places()[5]):
        changed = raw.copy()
        changed[where[0], spot.first // 100 : spot.last // 100] *= 0.5
        np.save(tmp_path / "changed.npy", changed)
        other = PartnerTable.read(settings(), {**files, "features": [tmp_path / "changed.npy"]})
        slow = predict(spec, net, other.genes(np.array([row])), device="cpu")[0]
        line = mine[(mine["bin"] == spot.bin) & (mine["location"] == spot.location)]
        assert line["p_0.5"].iloc[0] == pytest.approx(slow, abs=1e-5)


def test_overlapping_partners_change_the_prediction_only_if_asked(files, tmp_path):
    spec, _, weights = model(tmp_path)
    genes = pd.read_csv(files["genes"], sep="\t")
    partners = pd.read_csv(files["partners"], sep="\t")
    first = partners[partners["gene_id"].isin(genes["gene_id"][genes["chrom"] == "chr2"])].iloc[0]
    at = genes["gene_id"] == first["gene_id"]
    genes.loc[at, ["chrom", "tss"]] = first["chrom"], first["start"] + 5_000
    genes.to_csv(files["genes"], sep="\t", index=False)
    fold = {"name": "f", "validation": ["chr1"], "test": ["chr2", first["chrom"]]}
    own = settings(fold=fold)
    made = {
        asked: perturb(
            [(own, files, variant_predictor(spec, weights))],
            Options(factors=(0.0,), partners=asked),
        ).set_index("gene_id")
        for asked in (False, True)
    }
    differs = made[True]["removed"] != made[False]["removed"]
    assert differs[first["gene_id"]].any()
    others = [g for g in differs.index.unique() if g != first["gene_id"]]
    np.testing.assert_allclose(
        made[True].loc[others, "removed"], made[False].loc[others, "removed"], atol=1e-5
    )
    np.testing.assert_allclose(made[True]["unperturbed"], made[False]["unperturbed"], atol=1e-5)


def test_genes_are_chosen_by_the_cells_median_and_at_most_so_many(files, tmp_path):
    spec, _, weights = model(tmp_path)
    predictor = variant_predictor(spec, weights)
    for genes, label in (("expressed", 1), ("silent", 0)):
        table = perturb([(settings(), files, predictor)], Options((0.0,), genes=genes))
        assert set(table["label"]) == {label}
    few = perturb([(settings(), files, predictor)], Options((0.0,), at_most=3, seed=4))
    again = perturb([(settings(), files, predictor)], Options((0.0,), at_most=3, seed=4))
    assert few["gene_id"].nunique() == 3 and few.equals(again)


def test_options_that_make_no_sense_are_refused_together():
    with pytest.raises(InputError) as err:
        Options(factors=(0.5,), rule="dept", genes="some")
    assert all(word in str(err.value) for word in ("factors", "'dept'", "'some'"))
    assert len(todo_list(Options())) == 18 * 10


def test_planted_bins_are_found_by_chromosome_and_place(tmp_path):
    spots = places()
    rows = []
    for gene, chrom in (("g1", "chr1"), ("g2", "chr2")):
        for spot in spots:
            start, end = genomic(spot, 50_000, "-")
            delta = 1.0 if start <= 60_500 < end else 0.0
            rows.append((gene, chrom, spot.location, spot.bin, start, end, delta))
    names = ["gene_id", "chrom", "location", "bin", "start", "end", "delta_log2"]
    effects = pd.DataFrame(rows, columns=names).assign(cell="E1", mark="m")
    pd.DataFrame(
        {"enhancer": ["e1", "e2", "e3"], "gene_id": ["g1", "g1", "g2"], "distance": 0}
    ).to_csv(tmp_path / "links.tsv", sep="\t", index=False)
    pd.DataFrame(
        {
            **{"element": ["e1", "e2", "e3"], "chrom": ["chr1", "chr1", "chr1"]},
            **{"start": [60_400, 35_000, 60_400], "end": [60_600, 35_100, 60_600]},
            "activity_E1": [0.9, 0.1, 0.9],
        }
    ).to_csv(tmp_path / "elements.tsv", sep="\t", index=False)
    found = planted.planted_bins(effects, tmp_path)
    assert found["planted"].sum() == 1  # e2 is not active, e3 lies on another chromosome
    line = found[found["planted"]].iloc[0]
    assert (line["gene_id"], line["rank"], line["bin"]) == ("g1", 1.0, 4)
    assert planted.summary([effects], tmp_path)["n"].tolist() == [1, 1, 1]
