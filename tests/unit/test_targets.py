"""Targets: every statistic against loops over bases; stored and streamed agree."""

from __future__ import annotations

import json

import numpy as np
import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epiloom.data.genome import Genome, read_chrom_sizes
from epiloom.data.signal import bin_bigwig
from epiloom.data.statistics import Statistic
from epiloom.data.targets import StoredTargets, StreamedTargets, level_warnings, write_target
from epiloom.plan.errors import InputError
from epiloom.plan.targets import STATISTICS
from tests.made_genome import GENOME, random_bases, write_bigwig

B = 128
SETTINGS = {
    **{name: {"sum_stat": name} for name in STATISTICS},
    "clipped": {"sum_stat": "mean", "clip": 3.0},
    "soft": {"sum_stat": "sum", "scale": 0.25, "clip_soft": 32.0, "clip": 60.0},
    "scaled": {"sum_stat": "mean_sqrt", "scale": 2.5},
}


def slow_bin(values, sum_stat="mean", scale=1.0, clip_soft=None, clip=None):
    """One bin in plain words."""
    there = [float(v) * scale for v in values if not np.isnan(v)]
    if len(there) < len(values) / 2:
        return np.nan
    x = {
        "mean": lambda: sum(there) / len(there),
        "sum": lambda: sum(there),
        "mean_sqrt": lambda: -1 + (1 + sum(there) / len(there)) ** 0.5,
        "sum_sqrt": lambda: -1 + (1 + sum(there)) ** 0.5,
        "median": lambda: float(np.median(there)),
        "max": lambda: max(there),
        "peak": lambda: min((4 * sum(there) / len(there)) ** 0.5, 1),
    }[sum_stat]()
    if clip_soft is not None and x > clip_soft:
        x = clip_soft - 1 + (x - clip_soft + 1) ** 0.5
    return x if clip is None else min(max(x, 0), clip)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder with x.bw and a store with a target per setting; and the values per base."""
    folder = tmp_path_factory.mktemp("targets")
    bases = random_bases(np.random.default_rng(2), top=10.0)
    write_bigwig(folder / "x.bw", bases)
    for name, values in SETTINGS.items():
        write_target(folder, name, folder / "x.bw", GENOME, B, values)
    return folder, bases


@pytest.mark.parametrize("name", SETTINGS)
def test_stored_bins_equal_loops_over_bases(made, name):
    folder, bases = made
    found = np.load(folder / f"targets{B}" / f"{name}.npy")
    expected = [
        slow_bin(bases[chrom][k : k + B], **SETTINGS[name])
        for chrom in GENOME.chromosomes
        for k in range(0, len(bases[chrom]), B)
    ]
    assert found.dtype == np.float16 and len(found) == GENOME.total(B)
    np.testing.assert_allclose(found, expected, rtol=2**-10, atol=1e-6)
    assert 0.05 < np.isnan(found).mean() < 0.5


def test_the_plain_mean_equals_the_binning_of_other_tracks_bit_by_bit(made):
    folder, _ = made
    found = np.load(folder / f"targets{B}/mean.npy")
    np.testing.assert_array_equal(found, bin_bigwig(folder / "x.bw", GENOME, [B]).values[B])


def test_the_facts_beside_a_target_are_those_of_its_bins(made):
    folder, _ = made
    about = json.loads((folder / f"targets{B}/clipped.json").read_text())
    found = np.load(folder / f"targets{B}/clipped.npy").astype(float)
    there = found[~np.isnan(found)]
    assert about["values"] == Statistic(clip=3.0).values
    assert about["mean"] == pytest.approx(there.mean())
    assert about["quantiles"]["0.99"] == pytest.approx(np.quantile(there, 0.99))
    assert about["missing"] == pytest.approx(np.isnan(found).mean())
    assert about["at_clip"] == pytest.approx((there == 3).mean()) and about["at_clip"] > 0.1


@settings(max_examples=40)
@given(
    chroms=st.lists(st.sampled_from(GENOME.chromosomes), min_size=3, max_size=3),
    firsts=st.lists(st.integers(-20, 4000), min_size=3, max_size=3),
    bins=st.sampled_from([1, 16, 100]),
)
def test_streamed_windows_equal_stored_ones_within_float16(made, opened, chroms, firsts, bins):
    stored, streamed = opened
    found, again = (x.windows(chroms, firsts, bins) for x in (stored, streamed))
    assert found.shape == again.shape == (3, len(SETTINGS), bins)
    assert found.dtype == again.dtype == np.float16
    np.testing.assert_allclose(again, found, rtol=2**-10, atol=1e-6)
    whole = np.load(made[0] / f"targets{B}/median.npy")
    for row, chrom, first in zip(found, chroms, firsts, strict=True):
        i, o = GENOME.index(chrom), GENOME.offsets(B)
        own = np.concatenate([np.full(9999, np.nan), whole[o[i] : o[i + 1]], np.full(9999, np.nan)])
        k = list(SETTINGS).index("median")
        np.testing.assert_array_equal(row[k], own[9999 + first : 9999 + first + bins])


@pytest.fixture(scope="module")
def opened(made):
    folder, _ = made
    streamed = StreamedTargets(
        [folder / "x.bw"] * len(SETTINGS), list(SETTINGS.values()), GENOME, B
    )
    yield StoredTargets(folder, list(SETTINGS), GENOME, B), streamed
    streamed.close()


@settings(max_examples=60)
@given(
    values=st.lists(
        st.one_of(st.just(float("nan")), st.floats(0, 1000, width=32)), min_size=1, max_size=40
    ),
    stat=st.sampled_from(STATISTICS),
    bin_bp=st.sampled_from([1, 4, 7]),
)
def test_statistics_of_any_bases_equal_loops(values, stat, bin_bp):
    data = np.array(values, np.float32)
    found = Statistic(stat, scale=0.5).of_bins(data, bin_bp, "x")
    expected = [slow_bin(data[k : k + bin_bp], stat, 0.5) for k in range(0, len(data), bin_bp)]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sum_stat": "average"}, "sum_stat 'average'; choose one of mean, sum"),
        ({"scale": 0}, "scale 0; give a number above 0"),
        ({"clip": "128", "clip_soft": -1.0}, "(?s)clip_soft -1.0.*clip '128'"),
    ],
)
def test_unusable_settings_are_all_named(values, said):
    with pytest.raises(InputError, match=said):
        Statistic(**values)


def test_a_root_of_negative_values_is_refused_and_leaves_nothing(tmp_path):
    genome = Genome("t", ("chr1",), (1000,))
    bases = {"chr1": np.full(1000, -2.0, np.float32)}
    path = write_bigwig(tmp_path / "x.bw", bases, genome)
    with pytest.raises(InputError, match="a bin is negative .-2., mean_sqrt takes"):
        write_target(tmp_path, "x", path, genome, B, {"sum_stat": "mean_sqrt"})
    assert not list(tmp_path.glob("targets*/*"))
    write_target(tmp_path, "x", path, genome, B, {"clip": 9.0})
    assert set(np.load(tmp_path / f"targets{B}/x.npy").tolist()) == {0.0}


def test_foreign_and_cut_tracks_are_refused(made, tmp_path):
    folder, _ = made
    with pytest.raises(InputError, match="chr1 has 500123 bases in the file"):
        write_target(tmp_path, "x", folder / "x.bw", Genome("t", ("chr1",), (50,)), B)
    (tmp_path / "cut.bw").write_bytes((folder / "x.bw").read_bytes()[:-50])
    with pytest.raises(InputError, match="cut short"):
        write_target(tmp_path, "x", tmp_path / "cut.bw", GENOME, B)
    with pytest.raises(InputError, match="cut short"):
        StreamedTargets([folder / "x.bw", tmp_path / "cut.bw"], [{}, {}], GENOME, B)
    for content, said in (
        (b"CRAM\x03", "convert it with"),
        (b"\x1f\x8b\x08\x00", "cannot be read"),
    ):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(InputError, match=said):
            write_target(tmp_path, "x", tmp_path / "x", GENOME, B)
    with pytest.raises(InputError, match="cannot be read"):
        write_target(tmp_path, "x", tmp_path / "absent.bw", GENOME, B)
    with pytest.raises(InputError, match="not in the store"):
        StoredTargets(folder, ["mean", "absent"], GENOME, B)


def test_a_chromosome_that_a_track_lacks_is_missing_both_ways(tmp_path):
    """Samples without a Y chromosome: the file does not name it, and nothing stands for it."""
    genome, few = Genome("t", ("chr1", "chrY"), (900, 700)), Genome("t", ("chr1",), (900,))
    path = write_bigwig(tmp_path / "x.bw", {"chr1": np.full(900, 2, np.float32)}, few)
    write_target(tmp_path, "x", path, genome, B)
    stored = StoredTargets(tmp_path, ["x"], genome, B).windows(["chr1", "chrY"], [0, 0], 5)
    streamed = StreamedTargets([path], [{}], genome, B)
    np.testing.assert_array_equal(streamed.windows(["chr1", "chrY"], [0, 0], 5), stored)
    assert (stored[0] == 2).all() and np.isnan(stored[1]).all()
    streamed.close()


def test_values_beyond_float16_are_cut_and_counted(tmp_path):
    genome = Genome("t", ("chr1",), (1280,))
    bases = {"chr1": np.repeat(np.float32([1000, 1]), 640)}
    path = write_bigwig(tmp_path / "x.bw", bases, genome)
    about = write_target(tmp_path, "x", path, genome, B, {"sum_stat": "sum"})
    stored = StoredTargets(tmp_path, ["x"], genome, B).windows("chr1", [0], 10)[0, 0]
    assert about["clipped"] == 5 and stored.tolist() == [65504] * 5 + [128] * 5
    streamed = StreamedTargets([path], [{"sum_stat": "sum"}], genome, B)
    np.testing.assert_array_equal(streamed.windows("chr1", [0], 10)[0, 0], stored)
    streamed.close()


def test_tracks_of_very_different_level_are_told():
    assert level_warnings({"a": 1.0, "b": 9.0}) == []
    (said,) = level_warnings({"a": 0.5, "b": 1.0, "c": 50.0})
    assert "c (50) and a (0.5) differ 100-fold" in said
    assert "b has mean 0" in level_warnings({"a": 1.0, "b": 0})[0]
    assert "no signal" in level_warnings({"a": None})[0]


@pytest.mark.slow
def test_a_bam_becomes_coverage_in_reads_per_kilobase_and_million(tmp_path):
    genome = Genome("t", ("chr1", "chr2"), (10_000, 5000))
    header = {"HD": {"VN": "1.6", "SO": "coordinate"}}
    header["SQ"] = [{"SN": "chr1", "LN": 10_000}, {"SN": "chr2", "LN": 5000}]
    with pysam.AlignmentFile(str(tmp_path / "x.bam"), "wb", header=header) as file:
        for i, start in enumerate([1024, 1060, 5000, 5200]):
            read = pysam.AlignedSegment(file.header)
            read.query_name, read.query_sequence, read.cigarstring = f"r{i}", "A" * 64, "64M"
            read.reference_id, read.reference_start = 0, start
            read.mapping_quality, read.flag = 60, 0
            file.write(read)
    (tmp_path / "x.bam").rename(tmp_path / "noname")  # told from its content
    about = write_target(tmp_path, "x", tmp_path / "noname", genome, B, {"scale": 1e-4})
    found = np.load(tmp_path / f"targets{B}/x.npy").astype(float)
    # Each 32-bp piece counts the reads that touch it, per kilobase of piece and million reads.
    touched = np.zeros(15_000 // 32)
    for start in (1024, 1060, 5000, 5200):
        touched[start // 32 : (start + 63) // 32 + 1] += 1
    per = touched / (32 / 1000) / (4 / 1e6) * 1e-4
    np.testing.assert_allclose(found[8:48], per[32:192].reshape(40, 4).mean(axis=1), rtol=1e-3)
    assert found[20] == 0 and about["source"]["name"] == "noname" and about["missing"] == 0


def test_real_tracks_stand_in_the_middle_half_of_their_contigs_only(shared, tmp_path):
    real = shared / "data/hg38_dnase_windows"
    names = [line.split()[0] for line in (real / "chrom.sizes").read_text().splitlines()]
    genome = read_chrom_sizes(real / "chrom.sizes", "windows", names)
    tracks = sorted((real / "signal").glob("*.bw"))[:3]
    for path in tracks:
        write_target(tmp_path, path.stem, path, genome, B)
    stored = StoredTargets(tmp_path, [p.stem for p in tracks], genome, B)
    found = stored.windows(names, [0] * 65, 1024)
    assert np.isnan(found[:, :, :256]).all() and np.isnan(found[:, :, 768:]).all()
    assert not np.isnan(found[:, :, 256:768]).any()
    streamed = StreamedTargets(tracks, [{}] * 3, genome, B)
    np.testing.assert_allclose(streamed.windows(names, [128] * 65, 768), found[:, :, 128:896])
    streamed.close()
