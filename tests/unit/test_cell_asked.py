"""What the rules ask of a model of cells: their scripts on a made world, held against slow ways."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyBigWig
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from epiloom.data.loops import Loops, contact_rows
from epiloom.learn.cell_regions import RegionTable
from epiloom.learn.evaluation import load_weights
from epiloom.plan.errors import InputError
from epiloom.plan.jobs import Job
from epiloom.plan.runs import DATA_VERSION
from epiloom.show import results
from epiloom.show.asked_sections import asked_sections
from epiloom.show.plots_cell_asked import factors_figure, loops_figure
from epiloom.studies import cell_loops, cell_prediction, cell_questions, cell_variants
from epiloom.studies.cell_loops import COLUMNS, score_loops
from epiloom.studies.loop_truth import pairs_of
from tests import made_cells as made
from tests.made_cells import BIN, BINS, GENOME, TILE
from workflow_scripts import (
    draw_contacts,
    mean_signal,
    predict_cell_tracks,
    predict_cells,
    rank_factors,
)
from workflow_scripts import (
    score_loops as loops_script,
)

MOTIFS = made.made_motifs()
QUESTION = {
    **{"cells": ["test0", "test1"], "columns": None, "missing": "refuse", "scale": "linear"},
    **{"scoring": {}, "tfs": None, "scan": "genome", "kind": "fold_change"},
}
WITH_LOOPS = ["train0", "train3", "test0", "test2"]


def made_loops(cell: str) -> pd.DataFrame:
    """Loops of two bins at each end, of nearly every region; those of a cell are its own half."""
    rng = np.random.default_rng(len(cell) + ord(cell[-1]))
    rows = []
    for chrom, tiles in (("chr1", 40), ("chr2", 8)):
        for tile in range(tiles):
            first = tile * TILE + BIN * int(rng.integers(0, 4))
            second = first + BIN * int(rng.integers(8, 11))
            rows.append((chrom, first, first + 2 * BIN, second, second + 2 * BIN, 1e-6))
    return pd.DataFrame(rows, columns=["chrom", "start1", "end1", "start2", "end2", "q"])


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("world")
    files = made.write_world(folder)
    mean = {
        key: f"{files['signals']}/mean.{end}" for key, end in (("mean", "npy"), ("facts", "json"))
    }
    inputs = {key: files[key] for key in ("manifest", "scales")}
    params = {"cells": made.TRAIN, "bin_bp": BIN, "data_version": DATA_VERSION}
    mean_signal.main(Job("mean_signal", input=inputs, output=mean, params=params))
    for cell in WITH_LOOPS:
        Loops.of(made_loops(cell), GENOME, BIN).save(folder / f"loops/{cell}.npz")
    genes = "gene_id\tgene_name\tchrom\tstrand\ttss\tgene_start\tgene_end\n"
    genes += "G1\tNEAR1\tchr2\t+\t5000\t5000\t9000\nG2\tTWICE\tchr1\t-\t900\t100\t901\n"
    (folder / "genes.tsv").write_text(genes + "G3\tTWICE\tchr3\t+\t50\t50\t700\n")
    table = made.made_expression()[["test0", "test3"]] * 7.5
    table = table.rename(columns={"test0": "mine", "test3": "yours"}).iloc[::-1]
    table.insert(0, "about", "a gene")
    table.to_csv(folder / "tpm.tsv", sep="\t", index_label="gene")
    own = {"mean": mean["mean"], "mean_facts": mean["facts"]}
    own |= {"loops": [f"{folder}/loops/{cell}.npz" for cell in WITH_LOOPS]}
    own |= {"expression": f"{folder}/tpm.tsv", "annotation": f"{folder}/genes.tsv"}
    own["weights"] = str(made.train(folder, files, epochs=6))
    return files | own


@pytest.fixture(scope="module")
def asked(files) -> cell_prediction.Asked:
    return cell_prediction.Asked.open(made.SPEC, files["weights"], files, MOTIFS, device="cpu")


def job(files: dict, out: dict, question: dict | None = None, **wildcards: str) -> Job:
    params = {"question": QUESTION | (question or {}), "gene_type": "all"}
    wildcards = {"model": "epigept", "run": "f"} | wildcards
    return Job("any", input=files, output=out, params=params, wildcards=wildcards)


# ---- cells ---------------------------------------------------------------------------------------


def test_new_cells_are_the_columns_with_numbers_laid_on_the_reference(asked, files):
    cells = cell_questions.cells_of(asked, files, QUESTION)
    assert cells.names == ["test0", "test1", "mine", "yours"] and cells.stored == 2
    stored = asked.cells(files["vectors"], ["test0", "test1", "test0", "test3"])
    assert np.array_equal(cells.vectors, stored)
    some = cell_questions.cells_of(asked, files, QUESTION | {"columns": ["yours"]})
    assert some.names == ["test0", "test1", "yours"]
    alone = {key: path for key, path in files.items() if key != "expression"}
    assert cell_questions.cells_of(asked, alone, QUESTION).names == ["test0", "test1"]


def test_new_cells_must_not_bear_the_names_of_the_models(asked, files, tmp_path):
    path = tmp_path / "tpm.tsv"
    made.made_expression()[["train4"]].assign(mine=1.0).to_csv(path, sep="\t")
    with pytest.raises(InputError, match="'train4' bears the name of a cell of the model; rename"):
        cell_questions.cells_of(asked, files | {"expression": str(path)}, QUESTION)
    path.write_text("gene\twhat\nT0\tx\nT1\ty\n")
    with pytest.raises(InputError, match="no column holds numbers; it has gene, what"):
        cell_questions.number_columns(path)


def test_a_table_by_symbol_is_ranked_among_gene_ids():
    table = pd.DataFrame({"x": [1.0, 2.0, 3.0]}, index=["A", "B", "C"])
    symbols = {"A": ["ENSG9", "ENSG1"], "B": ["ENSG2"]}
    found = cell_questions.as_ranked(table, ["ENSG1", "ENSG2", "ENSG3"], symbols)
    assert found.index.tolist() == ["ENSG1", "ENSG2", "C"]
    for genes, known in (([], symbols), (["A", "B"], symbols), (["ENSG1"], None)):
        assert cell_questions.as_ranked(table, genes, known) is table


# ---- regions -------------------------------------------------------------------------------------


def test_a_region_has_every_cell_with_what_was_measured_and_the_mean(asked, files, tmp_path):
    out = {"table": str(tmp_path / "r.tsv.gz"), "figure": str(tmp_path / "r.png")}
    predict_cells.main(job(files, out, region="chr2_3000-8000"))
    table = pd.read_csv(out["table"], sep="\t")
    first, bins = 3000 // BIN, -(-8000 // BIN) - 3000 // BIN
    assert len(table) == 4 * 2 * bins and (tmp_path / "r.png").stat().st_size > 5000
    assert table["start"].tolist()[:bins] == [(first + k) * BIN for k in range(bins)]
    rows = slice(40 * BINS + first, 40 * BINS + first + bins)
    mean = np.load(files["mean"])[rows].astype(float)
    for cell in ("test0", "test1"):
        stored = np.load(f"{files['signals']}/{cell}.npy")[rows].astype(float)
        for k, signal in enumerate(made.SIGNALS):
            own = table[(table["cell"] == cell) & (table["signal"] == signal)]
            np.testing.assert_allclose(own["observed"], np.expm1(stored[:, k]), rtol=1e-5)
            np.testing.assert_allclose(own["mean"], np.expm1(mean[:, k]), rtol=1e-5)
    vectors = asked.cells(files["vectors"], ["test1"])
    blocks = cell_prediction.predicted(asked, vectors, [("chr2", 3000, 8000)], "linear")
    values = np.concatenate([block.values for block in blocks], axis=1)
    own = table[table["cell"] == "test1"]["predicted"].to_numpy().reshape(2, -1)
    np.testing.assert_allclose(own, values, rtol=1e-4, atol=1e-5)
    by = dict(list(table.groupby("cell")["predicted"]))
    assert np.array_equal(by["mine"].to_numpy(), by["test0"].to_numpy())
    assert table.loc[table["cell"] == "mine", "observed"].isna().all()


def test_a_model_that_starts_from_the_mean_is_given_it(files, tmp_path):
    weights = made.train(tmp_path, files, epochs=1, from_mean=True)
    own = cell_prediction.Asked.open(made.SPEC, weights, files, device="cpu")
    vectors = own.cells(files["vectors"], ["test0", "test1"])
    first = 40 * BINS
    mean = np.nan_to_num(np.load(files["mean"])[first : first + BINS].astype(np.float32))
    rows = (own.window("chr2", 0), own.codes("chr2", 0), vectors, np.stack([mean, mean]))
    with torch.no_grad():
        truth = own.net(*(torch.from_numpy(np.ascontiguousarray(row))[None] for row in rows))[0]
    found = own.predict(rows[0][None], rows[1][None], vectors, [("chr2", 0)])[0]
    np.testing.assert_allclose(found, truth.numpy(), atol=1e-5)
    out = {"table": str(tmp_path / "f.tsv"), "figure": str(tmp_path / "f.png")}
    rank_factors.main(job(files | {"weights": str(weights)}, out, place="NEAR1"))
    assert len(pd.read_csv(out["table"], sep="\t")) == 4 * made.FACTORS
    assert len(score_loops(made.SPEC, files, weights, most=2, device="cpu"))
    without = {key: path for key, path in files.items() if not key.startswith("mean")}
    blind = cell_prediction.Asked.open(made.SPEC, weights, without, device="cpu")
    with pytest.raises(InputError, match="give the mean of the training cells"):
        blind.attention("chr2", 0, vectors)


def test_bigwigs_hold_what_is_predicted(asked, files, tmp_path):
    folder = tmp_path / "tracks"
    predict_cell_tracks.main(job(files, {"folder": str(folder)}, {"scale": "log1p"}, place="chr2"))
    names = [f"{c}.{s}.bw" for c in ("mine", "test0", "test1", "yours") for s in made.SIGNALS]
    assert sorted(path.name for path in folder.iterdir()) == names
    vectors = asked.cells(files["vectors"], ["test0", "test1"])
    blocks = list(cell_prediction.predicted(asked, vectors, [("chr2", 0, 8 * TILE)]))
    values = np.concatenate([block.values for block in blocks], axis=1)
    for row, name in zip(
        values, cell_prediction.track_names(asked, ["test0", "test1"]), strict=True
    ):
        with pyBigWig.open(str(folder / f"{name}.bw")) as file:
            found = file.values("chr2", 0, 8 * TILE, numpy=True)
        np.testing.assert_allclose(found[::BIN], row, rtol=1e-6)
    with pyBigWig.open(str(folder / "mine.DNase.bw")) as file:
        assert np.array_equal(file.values("chr2", 0, 8 * TILE, numpy=True)[::BIN], values[0])


def test_regions_of_a_bed_file_have_a_table_too(files, tmp_path):
    (tmp_path / "my.bed").write_text("chr3\t100\t700\nchr1\t0\t128\n")
    own = {key: path for key, path in files.items() if key != "expression"}
    own["bed"] = str(tmp_path / "my.bed")
    predict_cell_tracks.main(job(own, {"folder": str(tmp_path / "bed")}, place="bed"))
    table = pd.read_csv(tmp_path / "bed/predicted.tsv.gz", sep="\t")
    assert len(table) == 4 * 7 and set(table["track"]) == {
        f"{cell}.{signal}" for cell in ("test0", "test1") for signal in made.SIGNALS
    }


# ---- variants ------------------------------------------------------------------------------------


def test_variants_are_scored_in_every_cell(asked, files, tmp_path):
    there = "ACGT"[int(asked.window("chr2", 5120)[7])]
    alt = "ACGT"[("ACGT".index(there) + 1) % 4]
    path = tmp_path / "v.tsv"
    lines = [f"chr2\t5128\t{there}\t{alt}\tone", f"chr2\t5128\t{there}\t{there}{'A' * TILE}\tlong"]
    path.write_text("\n".join(["chrom\tposition\tref\talt\tid", *lines]) + "\n")
    cells = cell_questions.cells_of(asked, files, QUESTION)
    found = cell_questions.scored(asked, cells, path)
    assert found["track"].tolist() == [f"{c}-{s}" for c in cells.names for s in made.SIGNALS]
    table = pd.DataFrame([{"chrom": "chr2", "position": 5127, "ref": there, "alt": alt}])
    truth = cell_variants.score_variants(asked, table, cells.vectors, cells.names)
    for name in ("sad", "local_lfc", "max_abs", "l2", "local_ref", "local_alt"):
        assert np.array_equal(found[name], truth[name])
    assert found["id"].eq("one").all() and not any(name.endswith("_sd") for name in found)


# ---- factors -------------------------------------------------------------------------------------


def test_places_are_positions_or_start_sites_of_genes(files):
    genes = files["annotation"]
    assert cell_questions.place_of("NEAR1", GENOME, genes) == ("chr2", 5000)
    assert cell_questions.place_of("G3", GENOME, genes) == ("chr3", 50)
    assert cell_questions.place_of("chr4_4999", GENOME, None) == ("chr4", 4999)
    for name, told in (
        ("NEAR2", r"did you mean 'NEAR1'.*give CHROM:POSITION"),
        ("TWICE", "several genes are called so, at chr1:900, chr3:50; give"),
        ("chr4_5000", "chr4 has 5000 bases"),
    ):
        with pytest.raises(InputError, match=told):
            cell_questions.place_of(name, GENOME, genes)
    with pytest.raises(InputError, match="no annotation of genes"):
        cell_questions.place_of("NEAR1", GENOME, None)


def test_factors_are_ranked_in_every_cell(asked, files, tmp_path):
    out = {"table": str(tmp_path / "f.tsv"), "figure": str(tmp_path / "f.png")}
    rank_factors.main(job(files, out, place="NEAR1"))
    table = pd.read_csv(out["table"], sep="\t")
    assert table.columns.tolist() == ["cell", "rank", "tf", "score", "near", "expression", "sites"]
    vectors = asked.cells(files["vectors"], ["test0", "test1"])
    for cell, vector in zip(["test0", "test1"], vectors, strict=True):
        truth = cell_prediction.rank_factors(asked, "chr2", 5000, vector)
        own = table[table["cell"] == cell]
        assert own["tf"].tolist() == truth["tf"].tolist()
        np.testing.assert_allclose(own["score"], truth["score"], rtol=1e-4, atol=1e-7)
    mine, test = (table[table["cell"] == cell].drop(columns="cell") for cell in ("mine", "test0"))
    assert np.array_equal(mine.to_numpy(), test.to_numpy())
    axes = factors_figure(table, "NEAR1", top=3).axes
    assert len(axes) == 4 and all(len(axis.patches) == 3 for axis in axes)


# ---- contacts and loops --------------------------------------------------------------------------


def test_contacts_are_of_the_window_around_the_region(asked, files, tmp_path):
    out = {"table": str(tmp_path / "c.tsv.gz"), "figure": str(tmp_path / "c.png")}
    draw_contacts.main(job(files, out, region="chr2_4000-5000"))
    table = pd.read_csv(out["table"], sep="\t")
    start = (4500 // BIN - BINS // 2) * BIN
    vectors = asked.cells(files["vectors"], ["test1"])
    truth = cell_prediction.contact_table(asked, "chr2", start, vectors[0])
    own = table[table["cell"] == "test1"].reset_index(drop=True)
    assert own["start2"].tolist() == truth["start2"].tolist()
    np.testing.assert_allclose(own["attention"], truth["attention"], rtol=1e-3)
    cells = cell_questions.cells_of(asked, files, QUESTION)
    found = cell_questions.contacts_around(asked, cells, files, ("chr2", 4000, 5000))
    assert set(found.loops) == {"test0"} and found.attention.shape == (4, BINS, BINS)
    loops = Loops.load(files["loops"][2], GENOME)
    assert np.array_equal(found.loops["test0"], contact_rows(loops, ("chr2", start), BINS))
    with pytest.raises(InputError, match="is longer than the 2048 bases that the model sees"):
        cell_questions.contacts_around(asked, cells, files, ("chr2", 0, 2049))


def slow_scores(files: dict, part: str, cell: str) -> pd.DataFrame:
    """Pairs of a cell with both scores, pair by pair and bin by bin."""
    net, settings = load_weights(made.SPEC, files["weights"])
    table = RegionTable.read(settings, files)
    reader, place = table.reader, table.reader.cells.index(cell)
    chroms = {"cross_cell": ["chr1"], "cross_region": ["chr2"], "cross_both": ["chr2"]}[part]
    regions = table.regions[table.regions["chrom"].isin(chroms)]
    pairs = pairs_of(reader.loops[place], regions, seed=[123, place], bins=BINS)
    others = [c for c in ("train0", "train3") if c != cell]
    scores = {"model": [], "training_loops": []}
    for row in pairs.itertuples():
        batch = reader.batch([row.chrom], [row.start], np.array([[place]]))
        inputs = [torch.from_numpy(batch[key]) for key in made.SPEC.inputs]
        with torch.no_grad():
            matrix = net.contacts(*inputs)[0, 0].double().numpy()
        boxes = [(i, j) for i in range(row.first1, row.last1) for j in range(row.first2, row.last2)]
        both = [(matrix[i, j] + matrix[j, i]) / 2 for i, j in boxes]
        scores["model"].append(np.mean(both))
        hits = 0
        for other in others:
            there = made_loops(other)
            low = row.start // BIN
            near = {
                (one - low, two - low)
                for loop in there[there["chrom"] == row.chrom].itertuples()
                for one in range(loop.start1 // BIN, loop.end1 // BIN)
                for two in range(loop.start2 // BIN, loop.end2 // BIN)
            }
            hits += bool(near & set(boxes))
        scores["training_loops"].append(hits / len(others))
    return pairs.assign(**scores)


def test_loops_are_judged_as_by_a_slow_reference(files):
    found = score_loops(made.SPEC, files, files["weights"], device="cpu")
    assert tuple(found.columns) == COLUMNS and set(found["part"]) == set(cell_loops.PARTS)
    whole = found[np.isinf(found["high_bp"].astype(float))]
    assert whole["row_cosine"].notna().all()
    assert found.drop(whole.index)["row_cosine"].isna().all()
    held = ["test0", "test2"]
    for part, cells in (("cross_both", held), ("cross_region", ["train0", "train3"])):
        slow = {cell: slow_scores(files, part, cell) for cell in cells}
        slow["all"] = pd.concat(slow.values())
        assert set(found.loc[found["part"] == part, "cell"]) == set(slow)
        for cell, pairs in slow.items():
            for name in ("model", "training_loops"):
                own = whole[(whole["part"] == part) & (whole["predictor"] == name)]
                (row,) = own[own["cell"] == cell].itertuples()
                assert (row.pairs, row.loops) == (len(pairs), pairs["label"].sum())
                truth = average_precision_score(pairs["label"], pairs[name])
                assert row.auprc == pytest.approx(truth, abs=1e-6)
                truth = roc_auc_score(pairs["label"], pairs[name])
                assert row.auroc == pytest.approx(truth, abs=1e-6)


def test_the_script_writes_table_and_figure_of_loops(files, tmp_path):
    out = {"table": str(tmp_path / "loops.tsv"), "figure": str(tmp_path / "loops.png")}
    loops_script.main(job(files, out))
    table = pd.read_csv(out["table"], sep="\t")
    assert tuple(table.columns) == COLUMNS and Path(out["figure"]).stat().st_size > 5000
    assert len(loops_figure(table).axes) == 3
    assert "No loop" in loops_figure(table[:0]).texts[0].get_text()
    none = {key: path for key, path in files.items() if key != "loops"}
    with pytest.raises(InputError, match="no cell has any"):
        score_loops(made.SPEC, none, files["weights"], device="cpu")


# ---- the report ----------------------------------------------------------------------------------


def test_the_report_shows_what_was_asked_with_what_good_looks_like(tmp_path):
    own = tmp_path / "results/epigept/f"
    names = ["loops.png", "variants.truth.png", "factors/MYC.png", "contacts/chr1_0-9.png"]
    names += [f"predict/chr1_{k}-{k + 9}.png" for k in range(6)]
    for name in names:
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_bytes(b"\x89PNG")
    rows = [{"model": "epigept", "run": run, "fold": run} for run in ("f", "g")]
    asked = [f"results/epigept/f/{name}" for name in (*names, "loops.tsv")]
    found = results.read(tmp_path, {"cell_models": rows, "asked_cells": asked})
    (section,) = asked_sections(found)
    assert section.id == "asked-epigept-f" and "results/epigept/f/loops.tsv" in section.files
    told = [figure["heading"] for figure in section.figures]
    assert told[:3] == ["Loops", "Planted variants", "Along chr1:0-9"] and len(told) == 8
    assert told[-2:] == ["Factors around MYC", "Contacts around chr1:0-9"]
    assert all("Good:" in figure["caption"] for figure in section.figures)
    assert "2 more figures are files of their own" in section.note
