"""Matched random substitutions, percentiles, and the files of scores."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pysam
import pytest

from epiloom.data.genome import Genome
from epiloom.plan.errors import InputError
from epiloom.studies import variant_background as null
from epiloom.studies import variants
from epiloom.studies.variant_background import Matching
from tests.made_sequences import GEOMETRY, MOTIF, MadeGenome, Toy, quiet, with_motif

TRACKS = ("up", "down")
TEXT = with_motif("".join(np.random.default_rng(3).choice(list("ACGT"), 8000)), 4010)
OTHER = dict(zip("ACGT", "GTAC", strict=True))
GENOME = Genome("toy", ("chr1", "chr2"), (8000, 8000))
READER = MadeGenome(chr1=TEXT, chr2="C" * 4000 + quiet(4000))


def table(*positions: int) -> pd.DataFrame:
    rows = [("chr1", p, TEXT[p], OTHER[TEXT[p]], f"v{p}") for p in positions]
    return pd.DataFrame(rows, columns=["chrom", "position", "ref", "alt", "id"])


def kind(ref: str, alt: str) -> str:
    turn = dict(zip("ACGT", "TGCA", strict=True))
    return f"{ref}{alt}" if ref in "AC" else turn[ref] + turn[alt]


def test_background_has_the_region_the_kind_and_the_genome_s_bases():
    regions = pd.DataFrame({"chrom": ["chr2", "chr1"], "start": [0, 3900], "end": [9000, 4300]})
    own = table(4015, 4100)
    found = null.background(own, READER, GENOME, Matching(count=30, seed=1), regions)
    assert found.groupby("of").size().tolist() == [30, 30]
    for row in found.itertuples():
        source = own.iloc[row.of]
        assert TEXT[row.position] == row.ref and 3900 <= row.position < 4300
        assert kind(row.ref, row.alt) == kind(source["ref"], source["alt"])
        assert row.position != source["position"]
    assert not found.duplicated(["of", "position"]).any()


def test_without_a_region_places_nearby_of_like_gc_are_taken():
    own = table(3000)
    matching = Matching(count=20, reach_bp=2000, gc_bp=100, gc_within=0.03)
    found = null.background(own, READER, GENOME, matching)

    def gc(position):
        part = TEXT[max(position - 50, 0) : position + 51]
        return (part.count("G") + part.count("C")) / len(part)

    assert len(found) == 20 and (abs(found["position"] - 3000) <= 2000).all()
    assert all(abs(gc(p) - gc(3000)) <= 0.03 + 1e-9 for p in found["position"])


def test_background_of_a_variant_depends_on_it_and_the_seed_alone():
    alone = null.background(table(3000), READER, GENOME, Matching(count=9))
    among = null.background(table(100, 3000, 7999), READER, GENOME, Matching(count=9))
    columns = ["chrom", "position", "ref", "alt"]
    among = among[among["of"] == 1].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone[columns], among[columns])
    other = null.background(table(3000), READER, GENOME, Matching(count=9, seed=1))
    assert not alone["position"].equals(other["position"])


def test_few_places_give_fewer_substitutions_and_indels_none():
    regions = pd.DataFrame({"chrom": ["chr1"], "start": [4010], "end": [4020]})
    own = table(4012)
    own.loc[1] = ["chr1", 4012, TEXT[4012], TEXT[4012] + "GG", ""]
    found = null.background(own, READER, GENOME, Matching(), regions)
    same = [base for base in MOTIF if kind(base, OTHER[base]) == kind(MOTIF[2], OTHER[MOTIF[2]])]
    assert len(found) == len(same) - 1 and set(found["of"]) == {0}
    assert len(null.background(own.iloc[1:], READER, GENOME)) == 0


def test_percentile_of_a_broken_motif_is_high_and_ties_count_half():
    own = table(4015, 2000)
    drawn = null.background(own, READER, GENOME, Matching(count=25))
    scored = variants.score(own, Toy(), READER, GEOMETRY, TRACKS)
    others = variants.score(drawn, Toy(), READER, GEOMETRY, TRACKS)
    found = null.percentiles(scored, others, drawn["of"])
    assert (found["background"] == 25).all()
    for row in found.itertuples():
        rows = others[(drawn["of"].to_numpy()[others["variant"]] == row.variant)]
        values = abs(rows.loc[rows["track"] == row.track, "sad"])
        below = (values < abs(row.sad)).sum() + 0.5 * (values == abs(row.sad)).sum()
        assert row.sad_percentile == pytest.approx(100 * below / 25)
    assert found["sad_percentile"].iloc[0] > 90
    none = null.percentiles(scored, others.iloc[:0], drawn["of"])
    assert none["sad_percentile"].isna().all() and (none["background"] == 0).all()


def test_tables_and_vcf_hold_the_scores_in_the_order_of_the_genome(tmp_path):
    own = table(4015, 2000)
    own.loc[2] = ["chr1", 4010, TEXT[4010], TEXT[4010] + "GG", "an id;x"]
    scored = variants.score(own, Toy(), READER, GEOMETRY, TRACKS)
    scored = null.percentiles(scored, scored.iloc[:0], [])
    null.write_table(tmp_path / "a.tsv", scored)
    back = pd.read_csv(tmp_path / "a.tsv", sep="\t")
    assert back["position"].tolist() == [4016, 4016, 2001, 2001, 4011, 4011]
    np.testing.assert_allclose(back["sad"], scored["sad"], rtol=1e-5)
    null.write_vcf(tmp_path / "a.vcf", scored, GENOME, "toy")
    with pysam.VariantFile(str(tmp_path / "a.vcf")) as file:
        assert dict(file.header.contigs)["chr1"].length == 8000
        records = list(file)
    assert [r.pos for r in records] == [2001, 4011, 4016]
    assert [r.id for r in records] == ["v2000", "an_id_x", "v4015"]
    first = scored[scored["variant"] == 0]
    np.testing.assert_allclose(records[2].info["SAD"], first["sad"], rtol=1e-5)
    assert records[2].info["PCT"] == (None, None)
    pysam.tabix_compress(str(tmp_path / "a.vcf"), str(tmp_path / "a.vcf.gz"))
    pysam.tabix_index(str(tmp_path / "a.vcf.gz"), preset="vcf")  # sorted and well formed


def test_a_matching_that_makes_no_sense_is_refused():
    with pytest.raises(InputError, match="positive numbers"):
        Matching(count=0)
