"""Which tiles a model trains on: the published rule against a slow loop, masks, given regions."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest

from epiloom.data.genome import Genome, read_chrom_sizes
from epiloom.data.region_choice import (
    count_bins,
    count_files,
    from_mask,
    from_peaks,
    grid,
    read_regions,
    write_regions,
)
from epiloom.plan.errors import InputError

GENOME = Genome("toy", ("chr1", "chr2", "chrY"), (12_900, 5_000, 9_000))
BIN, TILE = 128, 1280


def made_peaks(tmp_path, files: int = 6):
    rng = np.random.default_rng(1)
    paths, rows = [], []
    for k in range(files):
        chosen = []
        for _ in range(40):
            chrom = GENOME.chromosomes[int(rng.integers(3))]
            start = int(rng.integers(0, GENOME.length(chrom) - 400))
            chosen.append((chrom, start, start + int(rng.integers(1, 400))))
        path = tmp_path / f"{k}.narrowPeak.gz"
        with gzip.open(path, "wt") as file:
            file.writelines(f"{c}\t{a}\t{b}\tx\t1\n" for c, a, b in chosen)
        paths.append(path)
        rows.append(chosen)
    return paths, rows


def slow(rows, least: int, more_than: int):
    """Tile by tile, bin by bin, file by file, as the rule reads."""
    kept = []
    for chrom, length in zip(GENOME.chromosomes, GENOME.lengths, strict=True):
        for tile in range(0, length - TILE + 1, TILE):
            count = 0
            for low in range(tile, tile + TILE, BIN):
                marked = sum(
                    any(c == chrom and a < low + BIN and b > low for c, a, b in peaks)
                    for peaks in rows
                )
                count += marked >= least
            if count > more_than and chrom != "chrY":
                kept.append((chrom, tile, tile + TILE, count))
    return kept


@pytest.mark.parametrize(("least", "more_than"), [(1, 5), (3, 2), (4, 0)])
def test_chosen_tiles_are_those_of_the_slow_loop(tmp_path, least, more_than):
    paths, rows = made_peaks(tmp_path)
    files = count_files(paths, GENOME, BIN)
    found = from_peaks(files, GENOME, BIN, TILE, least, more_than)
    expected = slow(rows, least, more_than)
    assert len(expected) > 1 and list(found.itertuples(index=False, name=None)) == expected


def test_thresholds_that_leave_nothing_are_told(tmp_path):
    paths, _ = made_peaks(tmp_path, 2)
    files = count_files(paths, GENOME, BIN)
    with pytest.raises(InputError, match="most files on a bin: 2"):
        from_peaks(files, GENOME, BIN, TILE, least_files=10)
    with pytest.raises(InputError, match="no peak file"):
        count_files([], GENOME)
    with pytest.raises(InputError, match="no multiple"):
        from_peaks(files, GENOME, BIN, 1000)


def test_tiles_are_whole_and_without_y():
    tiles = grid(GENOME, TILE)
    assert set(tiles["chrom"]) == {"chr1", "chr2"}
    assert len(tiles) == 10 + 3 and (tiles["start"] % TILE == 0).all()
    with pytest.raises(InputError, match="no chromosome of toy holds a tile"):
        grid(GENOME)


def test_without_peaks_usable_tiles_are_taken():
    flags = np.zeros(GENOME.total(BIN), np.uint8)
    flags[:6] = 1
    flags[10:14] = 2
    found = from_mask(flags, GENOME, BIN, TILE, least_usable=0.5)
    assert found["start"].tolist()[:2] == [1280, 2560] and found["count"].tolist()[:2] == [6, 10]
    with pytest.raises(InputError, match="no tile has 100% usable bins"):
        from_mask(np.ones_like(flags), GENOME, BIN, TILE, 1.0)
    with pytest.raises(InputError, match="least_usable 0"):
        from_mask(flags, GENOME, BIN, TILE, 0)


def test_given_regions_are_checked_all_at_once(tmp_path):
    path = tmp_path / "r.bed"
    path.write_text("chr1\t1280\t2560\t7\nchr2\t128\t1408\n")
    found = read_regions(path, GENOME, BIN, TILE)
    assert found["start"].tolist() == [1280, 128]
    path.write_text("chr1\t0\t1280\nchr1\t1152\t2432\nchr1\t5000\t6280\nchr2\t0\t640\n")
    with pytest.raises(InputError) as err:
        read_regions(path, GENOME, BIN, TILE)
    assert [p.split(":")[0] for p in err.value.problems] == ["line 3", "line 4", "line 2"]


def test_regions_are_written_as_published(tmp_path):
    regions = pd.DataFrame([("chr1", 0, 1280, 9)], columns=["chrom", "start", "end", "count"])
    write_regions(tmp_path / "r.bed", regions)
    assert (tmp_path / "r.bed").read_text() == "chr1\t0\t1280\t9\n"
    assert len(read_regions(tmp_path / "r.bed", GENOME, BIN, TILE)) == 1


def test_published_regions_follow_the_rule(shared):
    path = shared / "data/epigept/regions_hg19.128k.bed.gz"
    if not path.exists():
        pytest.skip("no published regions")
    genome = read_chrom_sizes(shared / "data/reference/hg19.chrom.sizes", "hg19")
    regions = read_regions(path, genome)
    table = pd.read_csv(path, sep="\t", names=["chrom", "start", "end", "count"])
    assert len(regions) == 13_300 and (table["count"] > 50).all() and table["count"].min() == 51
    assert (table["start"] % 128_000 == 0).all() and "chrY" not in set(table["chrom"])
    assert table["count"].sum() == 3_674_778
    tiles = set(grid(genome).itertuples(index=False, name=None))
    assert set(regions.itertuples(index=False, name=None)) <= tiles
    # A synthetic union with these counts is found again by the rule.
    files, rng = np.zeros(genome.total(128), np.uint16), np.random.default_rng(0)
    offsets = genome.offsets(128)
    for chrom, start, _, count in table.itertuples(index=False, name=None):
        first = offsets[genome.index(chrom)] + start // 128
        files[first + rng.permutation(1000)[:count]] = 10
    assert (count_bins(files >= 10, table, genome) == table["count"]).all()
    found = from_peaks(files, genome)
    ordered = table.assign(at=table["chrom"].map(genome.index)).sort_values(["at", "start"])
    assert found.to_numpy().tolist() == ordered.drop(columns="at").to_numpy().tolist()
    hg38 = read_chrom_sizes(shared / "data/reference/hg38.chrom.sizes", "hg38")
    assert len(read_regions(path.with_name("regions_hg38.128k.bed.gz"), hg38)) == 15_870
