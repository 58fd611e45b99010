"""Labels of regions: pairs, FIREs, domain boundaries, replication timing, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from epiloom.data import label_regions
from epiloom.data.genome import Genome
from epiloom.plan.errors import InputError
from tests.made_genome import GENOME, random_bases, write_bigwig


def text(path, *lines: str):
    path.write_text("\n".join(lines) + "\n")
    return path


def problems(function, *arguments, **options) -> str:
    with pytest.raises(InputError) as caught:
        function(*arguments, **options)
    return str(caught.value)


# --- enhancer-promoter pairs ----------------------------------------------------------------------

PAIR = "enhancer_chrom,enhancer_start,enhancer_end,promoter_chrom,promoter_start,promoter_end,label"


def test_all_pairs_of_all_cells_are_kept_with_the_window_between(tmp_path):
    one = text(
        tmp_path / "one.csv",
        PAIR,
        "chr1,100,200,chr1,900,1000,1",
        "chr1,2000,2100,chr1,900,1000,0",
        "chrX,2000,2100,chrX,900,1000,0",
        "chr1,950,1100,chr1,900,1000,0",
        "chr1,100,200,chr1,900,1000,0",
    )
    two = text(
        tmp_path / "two.csv",
        f"{PAIR},window_chrom,window_start,window_end",
        "chr2,100,200,chr2,900,1000,0,chr2,201,899",
        "chr1,100,200,chr1,900,1000,0,chr1,200,900",
    )
    made = label_regions.promoter_enhancer({"E116": one, "E123": two}, GENOME)
    assert list(made.windows) == ["promoter", "enhancer", "between"]
    assert made.windows["between"].tolist() == [[200, 900], [1000, 2000], [201, 899]]
    assert made.chroms.tolist() == ["chr1", "chr1", "chr2"]
    assert np.array_equal(made.labels["E116"], [1, 0, np.nan], equal_nan=True)
    assert np.array_equal(made.labels["E123"], [0, np.nan, 0], equal_nan=True)
    assert made.names[1] == "chr1:900-1000|2000-2100"


def test_faulty_pairs_are_refused_with_all_lines(tmp_path):
    path = text(
        tmp_path / "a.csv",
        f"{PAIR},window_start,window_end",
        "chr1,200,100,chr1,900,1000,1,200,900",
        "chr1,100,200,chr2,900,1000,1,200,900",
        "chr1,100,200,chr1,900,600000,1,200,900",
        "chr1,100,200,chr1,900,1000,0.5,200,900",
        "chr1,100,200,chr1,900,1000,0,50,900",
    )
    message = problems(label_regions.promoter_enhancer, {"E116": path}, GENOME)
    for word in (
        "line 2: enhancer_start '200' and enhancer_end '100'",
        "line 3: promoter and enhancer on two",
        "line 4: chr1:900-600000 lies beyond the end of chr1 (500123 in toy)",
        "line 5: label is not 0 or 1",
        "line 6: window 50-900 is not between",
    ):
        assert word in message
    short = text(tmp_path / "b.csv", "enhancer_start,label", "1,2")
    assert "no column promoter_start, promoter_end, enhancer_end, promoter_chrom" in problems(
        label_regions.promoter_enhancer, {"E116": short}, GENOME
    )
    strange = text(tmp_path / "c.csv", PAIR, "7,100,200,7,900,1000,1")
    assert "no row lies on toy" in problems(
        label_regions.promoter_enhancer, {"E116": strange}, GENOME
    )


# --- frequently interacting regions ---------------------------------------------------------------


def fire_table(**columns) -> pd.DataFrame:
    starts = [0, 40_000, 80_000, 480_000]
    table = pd.DataFrame({"chr": "1", "start": starts, "end": np.array(starts) + 40_000})
    return table.assign(**(columns or {"GM12878": [0, 1, np.nan, 1], "H1": [1, 0, 0, 0]}))


def test_calls_are_read_from_spreadsheet_and_text_alike_and_the_last_bin_is_cut(tmp_path):
    table, samples = fire_table(), {"E116": "GM12878", "E003": "h1"}
    table.to_excel(tmp_path / "a.xlsx", sheet_name="primary_cohort", index=False)
    table.to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    table.rename(columns={"chr": "#chr"}).to_csv(tmp_path / "b.csv", index=False)
    for name in ("a.xlsx", "a.tsv", "b.csv"):
        made = label_regions.fire(tmp_path / name, GENOME, samples)
        assert made.chroms.tolist() == ["chr1"] * 4
        assert made.windows["bin"][[0, 3]].tolist() == [[0, 40_000], [480_000, 500_123]]
        assert np.array_equal(made.labels["E116"], [0, 1, np.nan, 1], equal_nan=True)
        assert made.labels["E003"].tolist() == [1, 0, 0, 0]


def test_scores_are_refused_until_the_cutoff_is_stated(tmp_path):
    fire_table(GM12878=[0.2, 1.5, 3.25, ""], calls=[0, 1, 0, 1]).to_csv(tmp_path / "a.csv")
    arguments = tmp_path / "a.csv", GENOME, {"E116": "GM12878", "x": "calls"}
    message = problems(label_regions.fire, *arguments)
    assert "GM12878 holds scores (0.2 to 3.25)" in message and "67% of the bins" in message
    assert "downstream.fire.cutoff" in message and "calls holds" not in message
    made = label_regions.fire(*arguments, cutoff=3.25)
    assert np.array_equal(made.labels["E116"], [0, 0, 1, np.nan], equal_nan=True)
    assert made.labels["x"].tolist() == [0, 1, 0, 1]  # calls need no cutoff


def test_faulty_fire_tables_are_refused_with_all_problems(tmp_path):
    table = fire_table(GM12878=["0", "yes", "1", "0"]).astype(str)
    table.loc[2, "start"], table.loc[3, ["start", "end"]] = "0", ("640000", "680000")
    table.loc[0, "end"] = "80000.5"
    table.to_csv(tmp_path / "a.csv", index=False)
    message = problems(label_regions.fire, tmp_path / "a.csv", GENOME, {"E116": "GM12878"})
    for word in (
        "line 2: start '0' and end '80000.5' are no region",
        "line 3: GM12878 'yes' is no number",
        "line 5: chr1:640000-680000 lies beyond the end of chr1 (500123 in toy)",
        "another assembly",
    ):
        assert word in message
    fire_table().to_csv(tmp_path / "b.csv", index=False)
    asked = {"E017": "IMR90", "E116": "GM12878"}
    message = problems(label_regions.fire, tmp_path / "b.csv", GENOME, asked)
    assert "no column IMR90 (E017); it has GM12878, H1" in message
    fire_table().drop(columns="end").to_csv(tmp_path / "c.csv", index=False)
    assert "no column end" in problems(label_regions.fire, tmp_path / "c.csv", GENOME, asked)
    pd.concat([fire_table(), fire_table()[:1]]).to_csv(tmp_path / "d.csv", index=False)
    message = problems(label_regions.fire, tmp_path / "d.csv", GENOME, {"E003": "H1"})
    assert "line 6: chr1:0-40000 stands there a second time" in message
    fire_table().to_excel(tmp_path / "e.xlsx", sheet_name="other", index=False)
    message = problems(label_regions.fire, tmp_path / "e.xlsx", GENOME, asked)
    assert "no sheet 'primary_cohort'; it has other" in message


# --- domain boundaries ----------------------------------------------------------------------------


def test_bins_that_a_boundary_overlaps_are_positive_and_gaps_are_left_out(tmp_path):
    rng = np.random.default_rng(5)
    starts = rng.integers(0, 460_000, 4).tolist()
    spans = [(start, start + int(rng.integers(1, 60_000))) for start in starts]
    rows = [("chr1", *span, "GM12878") for span in spans] + [("chr2", 40_000, 80_000, "H1")]
    table = pd.DataFrame(rows, columns=["chr", "start", "end", "cell"])
    table.to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    with pd.ExcelWriter(tmp_path / "a.xlsx") as book:
        for name, part in table.groupby("cell"):
            part.drop(columns="cell").to_excel(book, sheet_name=name, index=False)
    gaps = text(tmp_path / "gaps.bed", "chr2\t200000\t225000", "chr2\t240000\t250000")
    for name in ("a.tsv", "a.xlsx"):
        samples = {"E116": "GM12878", "E003": "H1"}
        made = label_regions.tad_boundary(tmp_path / name, GENOME, samples, gaps)
        assert set(made.chroms) == {"chr1", "chr2"}  # chr3 has no boundary in any cell
        first = made.chroms == "chr1"
        for (low, high), label in zip(
            made.windows["bin"][first], made.labels["E116"][first], strict=True
        ):
            assert label == any(start < high and end > low for start, end in spans)
        assert np.isnan(made.labels["E003"][first]).all()
        assert np.isnan(made.labels["E116"][~first]).all()
        second = made.windows["bin"][~first]
        assert made.labels["E003"][~first].sum() == made.labels["E003"][~first][1] == 1
        assert 200_000 not in second[:, 0] and 240_000 in second[:, 0]
        assert second[-1].tolist() == [280_000, 300_000]


def test_unknown_samples_of_boundaries_are_refused(tmp_path):
    table = pd.DataFrame({"chr": ["chr1"], "start": [5], "end": [9], "cell": ["H1"]})
    table.to_csv(tmp_path / "a.csv", index=False)
    message = problems(label_regions.tad_boundary, tmp_path / "a.csv", GENOME, {"E017": "IMR90"})
    assert "neither IMR90 nor E017; it has H1" in message and "downstream.samples" in message
    table.drop(columns="cell").to_excel(tmp_path / "a.xlsx", sheet_name="H1", index=False)
    message = problems(label_regions.tad_boundary, tmp_path / "a.xlsx", GENOME, {"E017": "IMR90"})
    assert "no sheet 'IMR90'; it has H1" in message
    table.drop(columns="cell").to_csv(tmp_path / "b.csv", index=False)
    message = problems(label_regions.tad_boundary, tmp_path / "b.csv", GENOME, {"E017": "IMR90"})
    assert "no column cell" in message


# --- replication timing ---------------------------------------------------------------------------


def test_a_bigwig_is_early_from_its_own_median_on_where_enough_is_known(tmp_path):
    bases = random_bases(np.random.default_rng(8), hole=False)
    bases["chr1"][20_000:50_000] = np.nan  # two windows of 10 kb have nothing, one has all
    bases["chr1"][96_000:100_000] = np.nan
    bases["chr1"][100_000:106_000] = np.nan
    path = write_bigwig(tmp_path / "a.bw", bases)
    made = label_regions.replication_timing({"E116": path}, GENOME, 10_000)
    means = {}
    for chrom, length in zip(GENOME.chromosomes, GENOME.lengths, strict=True):
        for start in range(0, length, 10_000):
            values = bases[chrom][start : start + 10_000]
            if np.isfinite(values).mean() >= 0.5:
                end = min(start + 10_000, length)
                means[f"{chrom}:{start}-{end}"] = np.nanmean(values.astype(np.float64))
    assert made.names.tolist() == list(means)
    middle = np.median(list(means.values()))
    assert made.labels["E116"].tolist() == [float(m >= middle) for m in means.values()]
    assert "chr1:90000-100000" in means and "chr1:100000-110000" not in means
    low = label_regions.replication_timing({"E116": path}, GENOME, 10_000, cutoff=-1.0)
    assert low.labels["E116"].min() == 1


def test_text_files_are_early_from_zero_on_in_the_windows_of_their_rows(tmp_path):
    rows = ["1\t100\t5000\t-0.5", "chr1\t5000\t9000\t0", "chrM\t1\t5\t2", "chr2\t7\t8\t1e-3"]
    one = text(tmp_path / "a.txt", "# cell line: K562", "chr\tstart\tend\tRT", *rows)
    two = text(tmp_path / "b.bedgraph", "track type=bedGraph", "chr2 7 8 NA", "chr3 0 9 -1")
    made = label_regions.replication_timing({"E123": one, "E017": two}, GENOME)
    assert made.names.tolist() == ["chr1:100-5000", "chr1:5000-9000", "chr2:7-8", "chr3:0-9"]
    assert np.array_equal(made.labels["E123"], [0, 1, 1, np.nan], equal_nan=True)
    assert np.array_equal(made.labels["E017"], [np.nan, np.nan, np.nan, 0], equal_nan=True)


def test_timing_of_another_assembly_is_refused(tmp_path):
    path = text(tmp_path / "a.txt", "chr1\t0\t500124\t1", "chr1\t9\t5\t1", "chr1\t9\t50\tlate")
    message = problems(label_regions.replication_timing, {"E123": path}, GENOME)
    assert "line 1: chr1:0-500124 lies beyond the end of chr1 (500123 in toy)" in message
    assert "give one on toy" in message
    assert "line 2: start '9' and end '5'" in message and "line 3: value 'late'" in message
    other = Genome("toy", ("chr1",), (400_000,))
    path = write_bigwig(tmp_path / "a.bw", random_bases(np.random.default_rng(1)))
    assert "chr1" in problems(label_regions.replication_timing, {"E123": path}, other)
