"""Quality figures of a track, on values small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pyBigWig
import pytest

from epiloom.data.genome import Genome, mask
from epiloom.data.qc import COLUMNS, qc_row
from epiloom.data.store import GenomeStore, write_mask, write_track
from epiloom.plan.errors import InputError

GENOME = Genome("tiny", ("chr1", "chr2"), (10_000, 2_000))
TRACK = "E001-H3K4me3.pval"


@pytest.fixture
def store(tmp_path):
    """Value 1 everywhere on chr1 but 9 at 4,000-4,200; chr2 has no value; 1,000-1,500 is masked."""
    GENOME.save(tmp_path / "manifest.json")
    with pyBigWig.open(str(tmp_path / "in.bw"), "w") as file:
        file.addHeader([("chr1", 10_000), ("chr2", 2_000)])
        file.addEntries(
            ["chr1"] * 4,
            [0, 4000, 4200, 9900],
            ends=[4000, 4200, 9900, 10_000],
            values=[1.0, 9.0, 1.0, 1e6],
        )
    write_track(tmp_path, TRACK, tmp_path / "in.bw", GENOME, bins=(100,))
    (tmp_path / "black.bed").write_text("chr1\t1000\t1500\nchr1\t9900\t10000\n")
    write_mask(tmp_path, mask(GENOME, 100, None, tmp_path / "black.bed"), 100)
    return GenomeStore(tmp_path)


def test_a_row_counts_bins_with_a_value_outside_the_mask(store):
    row = qc_row(store, TRACK, 100, ["chr1", "chr2", "chr1"], [4100, 500, 4101])
    assert list(row) == COLUMNS
    assert [row[k] for k in ("cell", "mark", "signal")] == ["E001", "H3K4me3", "pval"]
    assert row["source"] == "in.bw"
    used = np.r_[np.ones(92), 9, 9]  # 100 bins, 6 masked
    assert row["mean"] == pytest.approx(used.mean())
    assert row["sd"] == pytest.approx(used.std())
    assert row["q50"] == 1
    assert row["max"] == 9
    assert row["missing_fraction"] == pytest.approx(20 / 120)
    assert row["masked_fraction"] == pytest.approx(6 / 120)
    assert row["clipped_bins"] == 1
    # TSS 4100 and 4101: bins 31 to 51, two of them with 9.
    assert row["promoter_share"] == pytest.approx((19 + 18) / used.sum())


def test_without_a_mask_every_bin_counts(store):
    row = qc_row(store, TRACK, 100, ["chr1"], [0], masked=False)
    assert row["max"] == 65504
    assert row["masked_fraction"] == 0
    assert row["promoter_share"] == pytest.approx(10 / (97 + 18 + 65504))


def test_a_track_without_signal_has_empty_figures_not_an_error(store, tmp_path):
    with pyBigWig.open(str(tmp_path / "zero.bw"), "w") as file:
        file.addHeader([("chr1", 10_000), ("chr2", 2_000)])
        file.addEntries(["chr1"], [1000], ends=[1500], values=[0.0])
    write_track(tmp_path, "E001-zero.pval", tmp_path / "zero.bw", GENOME, bins=(100,))
    row = qc_row(store, "E001-zero.pval", 100, ["chr1"], [500])
    assert row["mean"] is row["q50"] is row["promoter_share"] is None
    with pytest.raises(InputError, match="1 chromosomes, 2 positions"):
        qc_row(store, TRACK, 100, ["chr1"], [1, 2])
