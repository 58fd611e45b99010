"""Regions that users give, and peaks as labels of bins."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epiloom.data.bed import parse_region, read_bed
from epiloom.data.genome import Genome
from epiloom.data.peaks import peak_labels, write_peaks
from epiloom.plan.errors import InputError

TOY = Genome("toy", ("chr1", "chr2"), (1000, 650))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("chr1:100-200", ("chr1", 100, 200)),
        (" chr1:0-1,000 ", ("chr1", 0, 1000)),
        ("chr2", ("chr2", 0, 650)),
    ],
)
def test_regions_are_read_as_they_are_written(text, found):
    assert parse_region(text, TOY) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("chr1:200-100", "start 200 is not before end 100"),
        ("chr1:5-5", "start 5 is not before"),
        ("chr2:600-700", r"beyond the end of chr2 \(650 in toy\); end it at 650"),
        ("chr7:1-2", "chr7 is not a chromosome of toy"),
        ("1:1-2", 'lack the "chr"'),
        ("chr1:-5-20", "neither CHROM:START-END"),
        ("chr1 100 200", "neither CHROM:START-END"),
    ],
)
def test_regions_that_cannot_be_are_refused_kindly(text, said):
    with pytest.raises(InputError, match=said):
        parse_region(text, TOY)


def test_all_faulty_lines_are_told_with_their_numbers(tmp_path):
    (tmp_path / "x.bed").write_text(
        "track name=a\n# remark\nchr1\t5\t9\tname\t0\t+\n\nchr1\t9\t5\nchr1\tx\t5\nchr3\t1\t2\n"
        "chr2\t0\t651\nchr2 1 2\n"
    )
    with pytest.raises(InputError) as caught:
        read_bed(tmp_path / "x.bed", TOY)
    problems = caught.value.problems
    assert [p.split(":")[0] for p in problems] == ["line 5", "line 6", "line 7", "line 8"]
    with pytest.raises(InputError, match="no such file"):
        read_bed(tmp_path / "y.bed", TOY)
    (tmp_path / "cut.bed.gz").write_bytes(gzip.compress(b"chr1\t1\t2\n" * 9)[:-9])
    with pytest.raises(InputError, match="cut short"):
        read_bed(tmp_path / "cut.bed.gz", TOY)


def test_regions_keep_their_order_and_others_may_be_skipped(tmp_path):
    (tmp_path / "x.bed").write_text("chr2\t1\t2\nchrUn\t5\t900000\nchr1\t0\t1000\tx\n")
    found = read_bed(tmp_path / "x.bed", TOY, others="skip")
    assert found.to_numpy().tolist() == [["chr2", 1, 2, 1], ["chr1", 0, 1000, 3]]
    assert found.attrs["skipped"] == 1
    (tmp_path / "y.bed").write_text("1\t1\t2\n2\t5\t9\n")
    with pytest.raises(InputError, match='lack the "chr"'):
        read_bed(tmp_path / "y.bed", TOY, others="skip")


@settings(max_examples=60)
@given(
    peaks=st.lists(
        st.tuples(st.sampled_from(TOY.chromosomes), st.integers(0, 649), st.integers(1, 300)),
        max_size=12,
    ),
    bin_bp=st.sampled_from([1, 50, 128]),
    packed=st.booleans(),
)
def test_labels_equal_overlap_of_every_bin_with_every_peak(tmp_path_factory, peaks, bin_bp, packed):
    peaks = [(c, a, min(a + n, TOY.length(c))) for c, a, n in peaks]
    text = "".join(f"{c}\t{a}\t{b}\tp\t{i}\n" for i, (c, a, b) in enumerate(peaks)).encode()
    path = tmp_path_factory.mktemp("p") / "x.bed"
    path.write_bytes(gzip.compress(text) if packed else text)
    expected = [
        int(any(c == chrom and a < low + bin_bp and low < b for c, a, b in peaks))
        for chrom in TOY.chromosomes
        for low in range(0, TOY.length(chrom), bin_bp)
    ]
    found = peak_labels(path, TOY, bin_bp)
    assert found.dtype == np.uint8 and found.tolist() == expected


def test_peaks_on_bin_borders_label_no_bin_too_many(tmp_path):
    (tmp_path / "x.bed").write_text("chr1\t256\t384\nchr1\t511\t513\nchr2\t640\t650\n")
    share = write_peaks(tmp_path, "cell", tmp_path / "x.bed", TOY, 128)
    found = np.load(tmp_path / "peaks128/cell.npy")
    assert found.tolist() == [0, 0, 1, 1, 1, 0, 0, 0] + [0, 0, 0, 0, 0, 1]
    assert share == pytest.approx(4 / 14)
    (tmp_path / "y.bed").write_text("chr1\t0\t9\nchr1\t900\t1001\n")
    with pytest.raises(InputError, match="line 2: .*beyond the end of chr1"):
        peak_labels(tmp_path / "y.bed", TOY, 128)
