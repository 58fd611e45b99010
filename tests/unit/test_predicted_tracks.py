"""Files of predicted regions: every bin in its place, in the bigWig and in the table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyBigWig
import pytest

from epiloom.data.genome import Genome
from epiloom.data.geometry import Geometry
from epiloom.data.sequence import reverse_complement
from epiloom.learn.predict_regions import Block, predict_regions
from epiloom.learn.region_windows import Tiling
from epiloom.plan.errors import InputError
from epiloom.show.predicted_tracks import bigwig_paths, file_name, write_predictions

GENOME = Genome("toy", ("chr1", "chr2"), (5_003, 2_048))
WINDOW = Geometry(seq_bp=1024, bin_bp=128, crop_bins=2)  # 4 predicted bins
TRACKS = ["K562 (H3K4me3)", "microglia"]
PULSE = 2_816  # bin 22 of chr1 and no other holds A


class Pulse:
    """A genome of C but for one bin of A, and one A in the last bin, which is short."""

    def __init__(self):
        self.base = {"chr1": np.full(5_003, 1, np.uint8), "chr2": np.full(2_048, 1, np.uint8)}
        self.base["chr1"][PULSE : PULSE + 128] = 0
        self.base["chr1"][5_002] = 0

    def bases(self, chrom, start, length):
        at = np.arange(start, start + length)
        whole = self.base[chrom]
        inside = (at >= 0) & (at < len(whole))
        return np.where(inside, whole[np.clip(at, 0, len(whole) - 1)], 4).astype(np.uint8)

    def conservation(self, chrom, start, length):
        return np.zeros(length, np.uint8)


def count_a(bases, conservation):
    """A on this strand and T on the other, per bin; the second track is half of the first."""
    inner = bases[:, WINDOW.crop_bp : -WINDOW.crop_bp].reshape(len(bases), 1, -1, 128)
    hits = np.isin(inner, (0, 3)).sum(-1).astype(np.float32)
    return np.concatenate([hits, hits / 2], axis=1)


def from_the_other_strand(bases, conservation):
    return count_a(reverse_complement(bases), conservation)[..., ::-1]


@pytest.mark.parametrize("predict", [count_a, from_the_other_strand])
@pytest.mark.parametrize("tiling", [Tiling(), Tiling(2), Tiling(0, 1)])
@pytest.mark.parametrize("strands", [False, True])
def test_a_pulse_is_found_where_it_lies_in_the_bigwig(tmp_path, predict, tiling, strands):
    blocks = predict_regions(predict, Pulse(), None, GENOME, WINDOW, tiling, strands)
    written = write_predictions(blocks, GENOME, 128, TRACKS, folder=tmp_path)
    assert written.bins == 40 + 16
    for track, height in zip(TRACKS, (128, 64), strict=True):
        with pyBigWig.open(str(written.bigwigs[track])) as bigwig:
            assert bigwig.chroms() == {"chr1": 5_003, "chr2": 2_048}
            bases = bigwig.values("chr1", 0, 5_003, numpy=True)
            assert np.flatnonzero(bases == height).tolist() == list(range(PULSE, PULSE + 128))
            assert np.flatnonzero(bases == height / 128).tolist() == list(range(4_992, 5_003))
            assert (bases[:PULSE] == 0).all() and not np.isnan(bases).any()
            assert (bigwig.values("chr2", 0, 2_048, numpy=True) == 0).all()


def test_regions_leave_the_rest_without_value(tmp_path):
    regions = [("chr2", 130, 140), ("chr1", 4_900, 5_003), ("chr2", 100, 200)]
    blocks = predict_regions(count_a, Pulse(), regions, GENOME, WINDOW)
    written = write_predictions(blocks, GENOME, 128, TRACKS, tmp_path, tmp_path / "t.tsv")
    with pyBigWig.open(str(written.bigwigs["microglia"])) as bigwig:
        assert bigwig.intervals("chr1") == ((4_864, 4_992, 0.0), (4_992, 5_003, 0.5))
        assert bigwig.intervals("chr2") == ((0, 256, 0.0),)
    table = pd.read_csv(tmp_path / "t.tsv", sep="\t")
    assert list(table) == ["chrom", "start", "end", "track", "predicted"]
    places = table[["chrom", "start", "end"]].drop_duplicates().to_numpy().tolist()
    assert places == [["chr1", 4_864, 4_992], ["chr1", 4_992, 5_003], ["chr2", 0, 128],
                      ["chr2", 128, 256]]  # fmt: skip
    assert table["track"].tolist() == TRACKS * 4 and written.bins == 4 and written.r == {}


@pytest.mark.parametrize("name", ["t.tsv", "t.tsv.gz"])
def test_observed_stands_next_to_predicted(tmp_path, name):
    draw = np.random.default_rng(2)
    observed = draw.gamma(1, 3, GENOME.total(128)).astype(np.float16)
    observed[[21, 41]] = np.nan
    blocks = [
        Block("chr1", 20, draw.gamma(1, 3, (2, 4)).astype(np.float32)),
        Block("chr2", 0, draw.gamma(1, 3, (2, 3)).astype(np.float32)),
    ]
    given = {"microglia": observed}
    path = tmp_path / name
    written = write_predictions(iter(blocks), GENOME, 128, TRACKS, None, path, given)
    table = pd.read_csv(path, sep="\t")
    own = table[table["track"] == "microglia"]
    np.testing.assert_allclose(own["observed"], observed[[20, 21, 22, 23, 40, 41, 42]], rtol=1e-5)
    expected = np.concatenate([b.values[1] for b in blocks])
    np.testing.assert_allclose(own["predicted"], expected, rtol=1e-5)
    assert table.loc[table["track"] == TRACKS[0], "observed"].isna().all()
    there = own.dropna()
    r = np.corrcoef(np.log2(there["observed"] + 1), np.log2(there["predicted"] + 1))[0, 1]
    assert written.r == {"microglia": pytest.approx(r, abs=1e-4)}
    assert [p.name for p in tmp_path.iterdir()] == [name] and written.bigwigs == {}


def test_names_of_files_hold_nothing_that_a_file_system_or_a_viewer_stumbles_over():
    assert file_name("chr1:100-200") == "chr1_100-200"
    assert file_name("run/1", "K4 (me3)", "chr1:5-9") == "run_1.K4_me3.chr1_5-9"
    paths = bigwig_paths("out", ["a:b", "H3K27ac.pval"])
    assert [p.name for p in paths.values()] == ["a_b.bw", "H3K27ac.pval.bw"]


@pytest.mark.parametrize("tracks", [["a:b", "a b"], ["a", "A"], ["a", "a"], []])
def test_tracks_that_would_share_a_file_are_refused(tracks):
    with pytest.raises(InputError, match="its own name|at least one"):
        bigwig_paths("out", tracks)


def test_what_fails_on_the_way_leaves_no_file(tmp_path):
    def broken():
        yield Block("chr1", 0, np.ones((2, 3), np.float32))
        raise InputError("prediction", "went wrong")

    for table in ("t.tsv", "t.tsv.gz"):
        with pytest.raises(InputError, match="went wrong"):
            write_predictions(broken(), GENOME, 128, TRACKS, tmp_path, tmp_path / table)
        assert list(tmp_path.iterdir()) == []


def test_names_and_observed_must_fit_the_prediction(tmp_path):
    block = Block("chr1", 0, np.ones((2, 3), np.float32))
    with pytest.raises(InputError, match="1 names, but the model predicts 2 tracks"):
        write_predictions([block], GENOME, 128, ["a"], tmp_path)
    given = {"microglia": np.zeros(5, np.float16), "x": np.zeros(6, np.float16)}
    with pytest.raises(InputError, match="56 bins of 128 bp") as error:
        write_predictions([block], GENOME, 128, TRACKS, tmp_path, observed=given)
    assert len(error.value.problems) == 2
    assert list(tmp_path.iterdir()) == []
