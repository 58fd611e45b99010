"""Tables of windows: the published counts, and parts that share no bin whatever the settings."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epiloom.data.genome import HUMAN, Genome, mask, read_chrom_sizes
from epiloom.data.geometry import Geometry
from epiloom.data.windows import check_apart, masked_share, windows
from epiloom.plan.errors import InputError
from tests.made_genome import GENOME

EPIFORMER = Geometry(98_304, 128, 64)
SMALL = Geometry(4096, 128, 4)
FOLD = {"name": "f", "validation": ["chr2"], "test": ["chr3"]}


@pytest.fixture(scope="module")
def human(shared):
    """hg38 and its blacklisted bins."""
    genome = read_chrom_sizes(shared / "data/reference/hg38.chrom.sizes", "hg38", HUMAN)
    return genome, mask(genome, 128, None, shared / "data/reference/hg38-blacklist.v2.bed.gz")


@pytest.mark.parametrize(
    ("stride", "all_of_them"), [(98_304, 31_402), (81_920, 37_680), (49_152, 62_795)]
)
def test_counts_of_the_human_genome_are_those_measured(human, shared, stride, all_of_them):
    genome, flags = human
    fold = {"validation": ["chr10"], "test": ["chr8", "chr9"]}
    strides = {"stride_bp": stride, "held_out_stride_bp": stride}
    found = windows(genome, EPIFORMER, fold, **strides)
    assert len(found) == all_of_them
    found = windows(genome, EPIFORMER, fold, **strides, flags=flags, rule="drop_any")
    check_apart(found)
    if stride == 98_304:
        assert len(found) == 28_526
    bed = shared / "data/reference/hg38-blacklist.v2.bed.gz"
    assert list(zip(found["chrom"], found["start"], strict=True)) == untouched(genome, stride, bed)


def untouched(genome, stride, bed):
    """Windows that share no base with a region, by comparing each with all of its chromosome."""
    regions = {chrom: [] for chrom in genome.chromosomes}
    for line in gzip.decompress(bed.read_bytes()).decode().splitlines():
        chrom, start, end = line.split()[:3]
        regions.get(chrom, []).append((int(start), int(end)))
    return [
        (chrom, start)
        for chrom, length in zip(genome.chromosomes, genome.lengths, strict=True)
        for start in range(0, length - 98_304 + 1, stride)
        if not any(a < start + 98_304 and start < b for a, b in regions[chrom])
    ]


def slow_windows(stride, held_stride, flags, rule, limit):
    """The table by loops over positions and bins."""
    rows = []
    for i, chrom in enumerate(GENOME.chromosomes):
        part = {"chr2": "validation", "chr3": "test"}.get(chrom, "train")
        for start in range(0, GENOME.length(chrom), stride if part == "train" else held_stride):
            if start + 4096 > GENOME.length(chrom):
                continue
            first = GENOME.offsets(128)[i] + start // 128
            own = [flags[first + k] > 0 for k in range(32)]
            bad = sum(own) > (0 if rule == "drop_any" else limit * 32) or all(own[4:28])
            if not bad:
                rows.append((chrom, start, part))
    return rows


@settings(max_examples=25)
@given(
    seed=st.integers(0, 999),
    stride=st.sampled_from([128, 1280, 4096, 8192]),
    held_stride=st.sampled_from([None, 2048]),
    rule=st.sampled_from(["drop_any", "max_masked"]),
    limit=st.sampled_from([0.0, 0.25, 1.0]),
)
def test_windows_equal_loops_and_no_test_bin_trains_with_any_shift(
    seed, stride, held_stride, rule, limit
):
    rng = np.random.default_rng(seed)
    flags = (rng.random(GENOME.total(128)) < 0.003).astype(np.uint8)
    at = int(rng.integers(0, len(flags) - 200))
    flags[at : at + 200] = 2
    found = windows(GENOME, SMALL, FOLD, stride, held_stride, flags, rule, limit)
    expected = slow_windows(stride, held_stride or SMALL.target_bp, flags, rule, limit)
    assert list(found.itertuples(index=False, name=None)) == expected
    check_apart(found)
    # Bins of the store that each part may touch, with shifts of up to 1,000 bases.
    seen = {}
    for part, rows in found.groupby("part"):
        own = set()
        for chrom, start in zip(rows["chrom"], rows["start"], strict=True):
            low, high = max(start - 1000, 0), min(start + 5096, GENOME.length(chrom))
            first = GENOME.offsets(128)[GENOME.index(chrom)]
            own |= set(range(first + low // 128, first + -(-high // 128)))
        seen[part] = own
    assert not seen["train"] & (seen["validation"] | seen["test"])
    assert not seen["validation"] & seen["test"]


def test_held_out_windows_predict_every_bin_once():
    found = windows(GENOME, SMALL, FOLD, stride_bp=128)
    for chrom, rows in found[found["part"] != "train"].groupby("chrom"):
        starts = rows["start"].to_numpy() // 128 + SMALL.crop_bins
        bins = (starts[:, None] + np.arange(SMALL.bins)).ravel()
        assert bins.tolist() == list(range(4, 4 + len(bins))), chrom


def test_windows_around_regions_lie_on_the_grid_inside_and_once():
    regions = pd.DataFrame(
        [("chr3", 100_000, 100_001), ("chr1", 5000, 5400), ("chr1", 5010, 5400), ("chr1", 0, 90)]
        + [("chr2", 299_000, 300_000), ("chr2", 150_000, 150_128)],
        columns=["chrom", "start", "end"],
    )
    found = windows(GENOME, SMALL, FOLD, regions=regions)
    assert found["chrom"].tolist() == ["chr1", "chr2", "chr3"]
    assert found["part"].tolist() == ["train", "validation", "test"]
    for start, middle in zip(found["start"], (5200, 150_064, 100_000), strict=True):
        assert start % 128 == 0 and abs(start + 2048 - middle) <= 128


WITHIN = [("chr2", 150_001, 160_000), ("chr2", 160_000, 170_000), ("chr3", 40_000, 41_000)]
WITHIN += [("chr1", 0, 90), ("chr1", 0, 9000), ("chr1", 20_000, 24_000), ("chr1", 23_000, 50_100)]


def test_what_windows_within_regions_predict_tiles_these():
    regions = pd.DataFrame(WITHIN, columns=["chrom", "start", "end"])
    found = windows(GENOME, SMALL, FOLD, stride_bp=1280, within=regions)
    predicted = {
        chrom: (rows["start"].to_numpy()[:, None] // 128 + 4 + np.arange(24)).tolist()
        for chrom, rows in found.groupby("chrom")
    }
    # chr1: whole bins of 0..9000, but for a window that would begin before the chromosome, and of
    # 20,000..50,100; chr2: of 150,001..170,000; the last window of each ends with it
    firsts = [row[0] for row in predicted["chr1"]]
    assert firsts == [10, 20, 30, 40, 9000 // 128 - 24, *range(157, 367, 10), 50_100 // 128 - 24]
    assert [row[0] for row in predicted["chr2"]] == [*range(1172, 1304, 24), 1304]
    assert predicted["chr2"][-1][-1] == 170_000 // 128 - 1
    # chr3: a region of fewer bins than are predicted (313..320) stands in the middle
    assert predicted["chr3"] == [list(range(305, 329))]
    assert found["part"].tolist() == sorted(
        found["part"], key=["train", "validation", "test"].index
    )
    with pytest.raises(InputError, match="multiple of the bin size"):
        windows(GENOME, SMALL, FOLD, stride_bp=100, within=regions)


def test_the_middle_of_a_contig_takes_one_window_around_it():
    genome = Genome("contigs", ("c0", "c1", "c2"), (131_072,) * 3)
    middle = pd.DataFrame({"chrom": genome.chromosomes, "start": 32_768, "end": 98_304})
    shape, fold = Geometry(98_304, 128, 128), {"validation": ["c1"], "test": ["c2"]}
    found = windows(genome, shape, fold, within=middle)
    assert (
        found["start"].tolist()
        == [16_384] * 3
        == windows(genome, shape, fold, regions=middle)["start"].tolist()
    )


def test_masked_shares_are_those_of_the_bins():
    genome = Genome("t", ("chr1", "chr2"), (10_000, 10_000))
    flags = np.zeros(genome.total(128), np.uint8)
    flags[79 + 10 : 79 + 26] = 1  # chr2 begins at bin 79
    whole, inner = masked_share(["chr1", "chr2", "chr2"], [0, 0, 1280], flags, genome, SMALL)
    assert whole.tolist() == [0, 0.5, 0.5]
    assert inner.tolist() == [0, 16 / 24, 12 / 24]


def test_random_windows_are_dealt_four_to_one_the_same_each_time():
    found = windows(GENOME, SMALL, {}, split="random_windows", seed=3)
    assert (found["part"] == "train").mean() == pytest.approx(0.8, abs=0.01)
    assert set(found["part"]) == {"train", "validation"}
    pd.testing.assert_frame_equal(found, windows(GENOME, SMALL, {}, split="random_windows", seed=3))
    other = windows(GENOME, SMALL, {}, split="random_windows", seed=4)
    assert (found["part"] != other["part"]).any()
    with pytest.raises(InputError, match="chr1 is in .*; split by whole chromosomes"):
        check_apart(found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stride_bp": 100}, "stride:.*multiple of the bin size, 128 bp"),
        ({"rule": "some"}, "rule 'some'; choose one of max_masked, drop_any"),
        ({"max_masked": 50}, "max_masked 50; give a share"),
        ({"split": "x"}, "split 'x'"),
        ({"fold": {"validation": ["chr2"], "test": ["chr2", "chr3"]}}, "both validation and test"),
        ({"fold": {"validation": ["chr2"], "test": ["chr9"]}}, "test .chr9. has no gene or window"),
        ({"flags": np.ones(GENOME.total(128), np.uint8)}, "has no gene or window"),
        ({"flags": np.zeros(7, np.uint8)}, "has shape .7,.; give the one of bins of 128 bp"),
        ({"geometry": Geometry(500_224, 128)}, "has no gene or window"),
    ],
)
def test_unusable_windows_are_refused(change, said):
    with pytest.raises(InputError, match=f"(?s){said}"):
        windows(**{"genome": GENOME, "geometry": SMALL, "fold": FOLD, **change})
