"""Figures of a latent annotation: what is drawn is what the tables hold, labelled and readable."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from epiloom.plan.errors import InputError
from epiloom.show import canvas, plots_latents
from epiloom.show.plots_latent_region import COLUMNS, latent_region_figure
from epiloom.show.plots_latent_tasks import CURVES
from epiloom.show.plots_region import Place

DRAW = np.random.default_rng(1)
BINS, H = 4_000, 24
PLACE = Place("chr21", 20_000, 60_000)


def texts(figure: Figure) -> list[str]:
    """All that is written in a figure."""
    with canvas.style():
        FigureCanvasAgg(figure).draw()
    found = [t.get_text() for t in figure.texts]
    for axis in figure.axes:
        found += [axis.get_xlabel(), axis.get_ylabel(), axis.get_title(loc="left")]
        found += [t.get_text() for t in axis.texts]
        found += [t.get_text() for t in (*axis.get_xticklabels(), *axis.get_yticklabels())]
        legend = axis.get_legend()
        found += [t.get_text() for t in legend.get_texts()] if legend else []
    return found + [t.get_text() for legend in figure.legends for t in legend.get_texts()]


def readable(figure: Figure, path) -> None:
    """Saved as PNG and SVG; nothing written lies outside the page, no tick label over another."""
    canvas.save(figure, path / "x.png", dpi=50)
    assert (path / "x.png").read_bytes()[:4] == b"\x89PNG"
    assert canvas.svg(figure, "one", "what it shows", dpi=50).startswith("<svg")
    drawer = FigureCanvasAgg(figure).get_renderer()
    with canvas.style():
        figure.draw(drawer)
    page = figure.bbox.padded(1)
    for axis in figure.axes:
        for written in (axis.xaxis, axis.yaxis):
            labels = [t for t in written.get_ticklabels() if t.get_text() and t.get_visible()]
            low, high = sorted(written.get_view_interval())
            labels = [t for t, x in zip(labels, written.get_ticklocs(), strict=False)
                      if low <= x <= high]  # fmt: skip
            boxes = [t.get_window_extent(drawer) for t in labels]
            assert all(page.contains(b.x0, b.y0) and page.contains(b.x1, b.y1) for b in boxes)
            if any(t.get_rotation() for t in labels):
                continue  # boxes around slanted text overlap though the text does not
            for one, two in zip(boxes[:-1], boxes[1:], strict=True):
                assert not one.padded(-0.5).overlaps(two.padded(-0.5))


# --- regions -------------------------------------------------------------------------------------


def annotated(bins: int = BINS, size: int = H) -> tuple[np.ndarray, np.ndarray]:
    latents = np.tanh(DRAW.normal(size=(bins, size)).cumsum(axis=0) / 30).astype(np.float32)
    mask = np.zeros(bins, np.uint8)
    mask[1_000:1_200], mask[1_300:1_302] = 1, 8
    return latents, mask


def genes(count: int = 5) -> pd.DataFrame:
    starts = np.linspace(0, 99_000, count).astype(int)
    table = {"gene_id": [f"ENSG{k}" for k in range(count)], "chrom": "chr21", "strand": "+",
             "gene_name": [f"NAME{k}" for k in range(count)], "tss": starts,
             "gene_start": starts, "gene_end": starts + 9_000}  # fmt: skip
    return pd.DataFrame(table)


def drawn(figure: Figure) -> np.ndarray:
    """The heat map, [H, columns]; NaN where nothing is drawn."""
    (mesh,) = figure.axes[-2].collections
    return mesh.get_array().filled(np.nan)


def test_the_heat_map_shows_each_latent_where_it_lies(tmp_path):
    latents, mask = annotated()
    place = Place("chr21", 25_010, 45_000)  # the first bin begins before the region
    figure = latent_region_figure(latents, mask, place, order="number", title="Epi-LSTM $x")
    values = drawn(figure)
    first, last = 1_000, 1_800
    wanted = np.where(mask[first:last] > 0, np.nan, latents[first:last].T)
    np.testing.assert_allclose(values, wanted, rtol=1e-6)
    heat = figure.axes[-2]
    (mesh,) = heat.collections
    assert mesh.norm.vmin == -mesh.norm.vmax
    assert heat.get_xlim() == (place.start, place.end)
    edges = mesh.get_coordinates()[0, :, 0]
    assert (edges[0], edges[-1], len(edges)) == (25_000, 45_000, 801)
    said = texts(figure)
    for text in ("chr21 (kb)", "latents (number)", "latent (no unit)", "24"):
        assert text in said
    assert "Epi-LSTM \\$x · chr21:25,010–45,000 (20.0 kb)" in said
    readable(figure, tmp_path)


def test_masked_stretches_are_hatched_in_every_row_and_named():
    latents, mask = annotated()
    tracks = {"E003-H3K4me1": DRAW.gamma(1, size=BINS), "E003-DNase": DRAW.gamma(1, size=BINS)}
    figure = latent_region_figure(latents, mask, PLACE, tracks, genes())
    lane, *rows, _ = figure.axes
    for axis in rows:
        spans = [p for p in axis.patches if p.get_hatch()]
        found = [(p.get_x(), p.get_x() + p.get_width()) for p in spans]
        assert found == [(25_000, 30_000), (32_500, 32_550)]
    said = texts(figure)
    for text in ("gap, blacklist or no data", "signal (arcsinh)", "E003-DNase", "genes", "NAME2"):
        assert text in said
    clean = latent_region_figure(latents, 0 * mask, PLACE, tracks, genes())
    assert "gap, blacklist or no data" not in texts(clean)


def test_a_part_of_the_chromosome_is_drawn_like_the_whole():
    latents, mask = annotated()
    whole = latent_region_figure(latents, mask, PLACE)
    part = slice(700, 2_500)
    other = latent_region_figure(latents[part], mask[part], PLACE, first_bin=700)
    np.testing.assert_array_equal(drawn(whole), drawn(other))


def test_long_regions_are_drawn_as_means_of_usable_bins(tmp_path):
    latents, mask = annotated(120_000)
    place = Place("chr21", 0, 3_000_000)
    tracks = {f"E{k:03d}-H3K4me1": DRAW.gamma(1, size=120_000) for k in range(10)}
    figure = latent_region_figure(latents, mask, place, tracks, genes(40), order="number")
    values = drawn(figure)
    assert values.shape == (H, COLUMNS)
    np.testing.assert_allclose(values[3, 20], latents[2_400:2_520, 3].mean(), rtol=1e-5)
    kept = [i for i in range(1_200, 1_320) if not mask[i]]
    np.testing.assert_allclose(values[3, 10], latents[kept, 3].mean(), rtol=1e-5)
    said = texts(figure)
    assert any("means of 120 bins" in text for text in said) and "chr21 (Mb)" in said
    assert "E007-H3K4me1" in said and "E008-H3K4me1" not in said  # eight at most
    readable(figure, tmp_path)


def test_similar_latents_become_neighbours_and_keep_their_numbers():
    bins = 600
    waves = [np.sin(np.arange(bins) / 20), np.cos(np.arange(bins) / 7)]
    latents = np.array([waves[k % 2] + 0.01 * DRAW.normal(size=bins) for k in range(6)]).T
    figure = latent_region_figure(latents, np.zeros(bins), Place("chr1", 0, 25 * bins))
    labels = [int(t.get_text()) for t in figure.axes[-2].get_yticklabels()]
    assert sorted(labels) == [1, 2, 3, 4, 5, 6]
    assert len({k % 2 for k in labels[:3]}) == len({k % 2 for k in labels[3:]}) == 1
    np.testing.assert_allclose(drawn(figure), latents.T[np.array(labels) - 1])


def test_centred_latents_have_mean_zero_over_what_is_drawn():
    latents, mask = annotated()
    figure = latent_region_figure(latents, mask, PLACE, centred=True)
    np.testing.assert_allclose(np.nanmean(drawn(figure), axis=1), 0, atol=1e-6)
    assert "latent − its mean" in texts(figure)


@pytest.mark.parametrize("size", [1, 2, 110])
def test_any_number_of_latents_fits(size, tmp_path):
    latents, mask = annotated(size=size)
    figure = latent_region_figure(latents, mask, PLACE, {}, genes(0))
    assert figure.get_figheight() < 9
    readable(figure, tmp_path)


def test_a_region_that_is_masked_throughout_is_hatched_throughout(recwarn, tmp_path):
    latents, mask = annotated()
    figure = latent_region_figure(latents, mask + 1, PLACE, {"E003-DNase": latents[:, 0]},
                                  centred=True)  # fmt: skip
    assert np.isnan(drawn(figure)).all()
    readable(figure, tmp_path)
    assert not [w for w in recwarn.list if "nan" in str(w.message).lower()]


def test_regions_and_arrays_that_do_not_fit_are_refused_all_at_once():
    latents, mask = annotated()
    with pytest.raises(InputError) as error:
        latent_region_figure(latents, mask[1:], Place("chr21", 100_000, 120_000),
                             {"a": mask[2:]}, order="size")  # fmt: skip
    assert len(error.value.problems) == 4
    assert "annotate it first" in str(error.value)


# --- the annotation ------------------------------------------------------------------------------


def reconstructed(assays: int = 24, tracks: int = 6) -> pd.DataFrame:
    rows = []
    for a in range(assays):
        for t in range(tracks):
            r2 = 0.9 - 0.02 * a + 0.01 * DRAW.normal()
            rows += [(f"E{t:03d}-assay{a}", f"assay{a}", "pca", r2 - 0.1)]
            rows += [(f"E{t:03d}-assay{a}", f"assay{a}", "epi_lstm", r2)]
    return pd.DataFrame(rows, columns=["track", "assay", "method", "r2"])


@pytest.mark.parametrize("assays", [1, 5, 24])
def test_every_track_is_a_pair_of_joined_dots_by_assay(assays, tmp_path):
    table = reconstructed(assays)
    figure = plots_latents.reconstruction_figure(table)
    (axis,) = figure.axes
    pairs = [line for line in axis.lines if len(line.get_xdata()) == 2]
    found = sorted(tuple(line.get_ydata()) for line in pairs if line.get_linestyle() == "-")
    wide = table.pivot(index="track", columns="method", values="r2")[["epi_lstm", "pca"]]
    np.testing.assert_allclose([f for f in found if f != (0, 0)], sorted(map(tuple, wide.values)))
    assert [t.get_text() for t in axis.get_xticklabels()][0] == "assay0 (6)"  # the best one
    said = texts(figure)
    for text in ("R² on the test chromosomes", "Epi-LSTM", "PCA", "median"):
        assert text in said
    readable(figure, tmp_path)


def test_hopeless_tracks_do_not_flatten_the_others_and_undefined_ones_are_left_out():
    table = reconstructed(3)
    table.loc[0, "r2"], table.loc[2, "r2"] = -7, np.nan
    figure = plots_latents.reconstruction_figure(table)
    assert figure.axes[0].get_ylim() == (plots_latents.LOWEST, 1)
    assert any(text.startswith("below −0.2") for text in texts(figure))
    only = plots_latents.reconstruction_figure(table[table["method"] == "epi_lstm"])
    assert "PCA" not in texts(only)
    nothing = plots_latents.reconstruction_figure(table.assign(r2=np.nan))
    assert "no track has been reconstructed yet" in texts(nothing)


def curve(top: float) -> pd.DataFrame:
    bp = 25 * np.array([1, 4, 10, 40, 100, 400, 1_000, 4_000, 10_000])
    return pd.DataFrame({"bp": bp, "r2": top * np.linspace(1, 0, 9)})


def test_smoothness_is_drawn_over_distances_in_bp(tmp_path):
    curves = {"epi_lstm": curve(0.99), "pca": curve(0.9)}
    curves["pca"].loc[8, "r2"] = np.nan
    figure = plots_latents.smoothness_figure(curves)
    (axis,) = figure.axes
    one, two = axis.lines
    np.testing.assert_allclose(one.get_ydata(), curves["epi_lstm"]["r2"])
    assert len(two.get_xdata()) == 8 and axis.get_xscale() == "log"
    said = texts(figure)
    assert {"100 bp", "1 kb", "10 kb", "100 kb", "Epi-LSTM", "PCA"} <= set(said)
    assert "R² (mean over latents)" in said
    readable(figure, tmp_path)
    assert plots_latents.distance(1e6) == "1 Mb" and plots_latents.distance(250_000) == "250 kb"
    nothing = plots_latents.smoothness_figure({"pca": curve(1).assign(r2=np.nan)})
    assert any("no pair" in text for text in texts(nothing))


@pytest.mark.parametrize("size", [2, 24, 110])
def test_correlations_are_ordered_by_the_first_property(size, tmp_path):
    parts = [pd.DataFrame({"latent": np.arange(1, size + 1), "value": value,
                           "r": DRAW.uniform(-0.6, 0.6, size)})
             for value in ("gc", "conservation")]  # fmt: skip
    table = pd.concat(parts, ignore_index=True)
    figure = plots_latents.correlation_figure(table)
    (axis,) = figure.axes
    first, second = axis.lines[:2]
    order = np.argsort(parts[0]["r"].to_numpy())
    np.testing.assert_allclose(first.get_ydata(), parts[0]["r"].to_numpy()[order])
    np.testing.assert_allclose(second.get_ydata(), parts[1]["r"].to_numpy()[order])
    assert axis.get_xticklabels()[0].get_text() == str(order[0] + 1)
    assert {"GC content", "conservation", "Pearson r over bins"} <= set(texts(figure))
    readable(figure, tmp_path)


def test_latents_without_any_correlation_are_left_out():
    table = pd.DataFrame({"latent": [1, 2], "value": "gc", "r": [np.nan, 0.2]})
    assert len(plots_latents.correlation_figure(table).axes[0].lines[0].get_xdata()) == 1
    nothing = plots_latents.correlation_figure(table.assign(r=np.nan))
    assert any("no latent" in text for text in texts(nothing))


def test_positions_are_coloured_by_class_and_by_cluster(tmp_path):
    classes = ["TSS ± 1 kb", "gene body", "elsewhere"]
    table = pd.DataFrame({"class": np.repeat(classes, 200), "pc1": DRAW.normal(size=600)})
    table = table.assign(pc2=DRAW.normal(size=600), cluster=np.arange(600) % 6 + 1)
    figure = plots_latents.positions_figure(table, (0.41, 0.22))
    for axis in figure.axes:
        (points,) = axis.collections
        found = sorted(map(tuple, points.get_offsets().tolist()))
        assert found == sorted(zip(table["pc1"], table["pc2"], strict=True))
    counts = [len(np.unique(a.collections[0].get_facecolors(), axis=0)) for a in figure.axes]
    assert counts == [3, 6]
    said = texts(figure)
    for text in ("component 1 (41% of the variance)", "component 2 (22% of the variance)",
                 "TSS ± 1 kb (200)", "cluster 6 (100)"):  # fmt: skip
        assert text in said
    readable(figure, tmp_path)
    assert any("none is usable" in t for t in texts(plots_latents.positions_figure(table[:0], ())))


def shares(kind: str, count: int) -> pd.DataFrame:
    share = np.sort(DRAW.gamma(1, size=count))[::-1]
    names = [f"{kind}{k}" for k in range(count)]
    return pd.DataFrame({"kind": kind, "name": names, "share": share / share.sum(), "channels": 2})


@pytest.mark.parametrize("count", [1, 24, 127])
def test_attribution_is_bars_of_shares_and_the_rest_is_told(count, tmp_path):
    table = pd.concat([shares("assay", 24), shares("epigenome", count)], ignore_index=True)
    figure = plots_latents.attribution_figure(table)
    for axis, kind in zip(figure.axes, ("assay", "epigenome"), strict=True):
        own = 100 * table.loc[table["kind"] == kind, "share"].to_numpy()
        widths = [bar.get_width() for bar in axis.patches]
        np.testing.assert_allclose(widths, own[: len(widths)])
        assert len(widths) == min(len(own), 24)
    said = texts(figure)
    assert {"by assay", "by epigenome", "share of the attribution (%)"} <= set(said)
    rest = 100 * table.loc[table["kind"] == "epigenome", "share"].to_numpy()[24:].sum()
    assert ("103 others" in said) == (count == 127)
    assert count < 127 or f" together {rest:.0f}% (of the channels 81%)" in said
    readable(figure, tmp_path)
    assert any("no attribution" in t for t in texts(plots_latents.attribution_figure(table[:0])))


# --- downstream tasks ----------------------------------------------------------------------------

PREDICTORS = ("latents", "pca", "raw", "factors", "cell_average", "prevalence")
CELLS = {"gene_expression": 20, "fire": 7, "replication_timing": 1}


def scored() -> tuple[pd.DataFrame, pd.DataFrame]:
    metrics, curves = [], []
    for task, count in CELLS.items():
        for cell in (f"E{k:03d}" for k in range(count)):
            for predictor in PREDICTORS:
                for scheme, plus in (("shuffled", 0.1), ("chromosomes", 0)):
                    same = {"task": task, "cell": cell, "scheme": scheme, "predictor": predictor}
                    ap = 0.3 if predictor == "prevalence" else DRAW.uniform(0.4, 0.8) + plus
                    row = {"prevalence": 0.3, "ap": ap, "ap_low": ap - 0.03, "ap_high": ap + 0.03}
                    row |= {"seen": "yes" if (task, predictor) == ("fire", "latents") else "no"}
                    metrics.append(same | row | {"fold": "mean"})
                    metrics.append(same | row | {"fold": "0", "ap": 0.0})
                    curves += [same | {"recall": x, "precision": 1 - x * 0.7} for x in (0, 0.5, 1)]
    return pd.DataFrame(metrics), pd.DataFrame(curves)


def test_every_task_is_a_panel_with_all_predictors_and_the_prevalence(tmp_path):
    metrics, _ = scored()
    figure = plots_latents.tasks_figure(metrics)
    mean = metrics[(metrics["fold"] == "mean") & (metrics["scheme"] == "chromosomes")]
    assert len(figure.axes) == len(CELLS)
    for axis, (task, count) in zip(figure.axes, CELLS.items(), strict=True):
        own = mean[(mean["task"] == task) & (mean["predictor"] != "prevalence")]
        dots = [x for line in axis.lines if line.get_marker() != "None" for x in line.get_xdata()]
        np.testing.assert_allclose(sorted(dots), sorted(own["ap"]))
        bars = [s for c in axis.collections for s in c.get_segments()]
        upright = [s for s in bars if s[0][0] == s[1][0]]
        assert len(upright) == count and all(s[0][0] == 0.3 for s in upright)
        assert len(bars) - len(upright) == len(own)
        best = own[own["predictor"] == "latents"].sort_values("ap")["cell"].iloc[-1]
        assert axis.get_yticklabels()[0].get_text() == best
    said = texts(figure)
    title = "FIRE · whole chromosomes held out · the latents were trained on the test chromosomes"
    assert title in said
    assert "gene expression · whole chromosomes held out" in said
    assert "average precision of the positive class (95% interval)" in said
    assert {"latents", "PCA", "raw tracks", "Avocado factors", "cell average"} <= set(said)
    readable(figure, tmp_path)


def test_the_scheme_can_be_chosen_and_own_predictors_are_drawn_without_intervals_too(tmp_path):
    metrics, _ = scored()
    metrics.loc[metrics["predictor"] == "raw", ["ap_low", "ap_high"]] = np.nan
    metrics["predictor"] = metrics["predictor"].replace("factors", "my_features")
    figure = plots_latents.tasks_figure(metrics, "shuffled")
    readable(figure, tmp_path)
    said = texts(figure)
    assert "gene expression · shuffled windows held out" in said and "my features" in said
    for nothing in (plots_latents.tasks_figure(metrics, "contiguous"),
                    plots_latents.tasks_figure(metrics[:0])):  # fmt: skip
        assert "no downstream task has been evaluated yet" in texts(nothing)


def test_curves_show_six_pairs_of_task_and_cell_from_all_tasks(tmp_path):
    metrics, curves = scored()
    figure = plots_latents.curves_figure(curves, metrics)
    assert len(figure.axes) == CURVES
    said = texts(figure)
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert sum(t.startswith("gene expression") for t in titles) == 3
    assert "FIRE · E000" in titles and "replication timing · E000" in titles
    assert "whole chromosomes held out; 6 of 28 pairs of task and cell" in said
    assert {"recall", "precision", "prevalence"} <= set(said)
    *lines, level = figure.axes[0].lines
    assert len(lines) == 5 and set(level.get_ydata()) == {0.3}
    np.testing.assert_allclose(lines[0].get_ydata(), [1, 0.65, 0.3])
    readable(figure, tmp_path)


def test_one_curve_without_metrics_and_none_at_all(tmp_path):
    _, curves = scored()
    one = curves[(curves["task"] == "fire") & (curves["cell"] == "E001")]
    figure = plots_latents.curves_figure(one)
    assert len(figure.axes) == 1 and len(figure.axes[0].lines) == 6
    readable(figure, tmp_path)
    assert "no precision-recall curve yet" in texts(plots_latents.curves_figure(curves[:0]))
