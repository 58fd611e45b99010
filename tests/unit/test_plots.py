"""Figures show the numbers they are given, label their axes, and survive few, many and odd rows."""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ET

import matplotlib
import numpy as np
import pandas as pd
import pytest

from epiloom.show import canvas, plots, plots_data
from epiloom.show.canvas import fixed


def history(epochs: int = 12, best: int = 7) -> pd.DataFrame:
    epoch = np.arange(1, epochs + 1)
    return pd.DataFrame(
        {
            "epoch": epoch,
            "train_loss": 2 + 3 / epoch,
            "validation_loss": 2.5 + 3 / epoch,
            "learning_rate": np.where(epoch > 8, 2e-4, 1e-3),
            "best": (epoch == best).astype(int),
        }
    )


def tracks(count: int = 6) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    names = [f"E{i // 3:03d}-H3K4me{i % 3 + 1}" for i in range(count)]
    return pd.DataFrame(
        {
            **{"track": [f"{name}.reads" for name in names]},
            **{"cell": [name[:4] for name in names], "mark": [name[5:] for name in names]},
            **{"signal": "reads", "mean": rng.uniform(0.3, 1, count), "sd": 2.0},
            **{"q01": 0.0, "q50": 0.2, "q99": 8.0, "q999": 40.0, "max": 500.0},
            **{"missing_fraction": 0.01, "masked_fraction": 0.1, "promoter_share": 0.2},
        }
    )


def metrics(cells: int, marks: int) -> tuple[pd.DataFrame, dict]:
    rows, labels = [], {}
    predictors = ["promoter_cnn", "ridge_6kb", "activity_6kb", "promoter_cnn_shuffled"]
    for cell in range(cells):
        for mark in range(marks):
            labels[f"E{cell:03d}", f"m{mark}"] = f"cell {cell} · m{mark}"
            for place, name in enumerate(predictors):
                r = 0.7 - 0.1 * place
                rows.append((f"E{cell:03d}", f"m{mark}", name, r, r - 0.02, r + 0.02))
    names = ["cell", "marks", "predictor", "r", "r_low", "r_high"]
    return pd.DataFrame(rows, columns=names), labels


def predictions(count: int = 500) -> pd.DataFrame:
    y = np.random.default_rng(2).gamma(2, 2, count)
    return pd.DataFrame({"y": y, "y_hat": 0.5 * y + 1})


def profiles(count: int = 2) -> dict:
    rng = np.random.default_rng(4)
    rpkm = np.tile([0.0, 5.0], 20)
    made = rng.poisson(1 + rpkm[:, None], (40, 400)).astype(np.float32)
    made[3, 7] = np.nan
    return {f"E003 · m{i}": (made, rpkm, "reads") for i in range(count)}


def every_figure() -> dict:
    table, labels = metrics(2, 2)
    bench = {
        "rule": ["train_model", "bin_track"],
        "seconds": [95.0, 0.0],
        "memory_mb": [900, np.nan],
    }
    return {
        "learning": plots.learning_curves({("E003 · H3K4me3", "fold1"): history()}),
        "observed": plots.observed_predicted({"E003 · H3K4me3": predictions()}),
        "comparison": plots.comparison_figure(table, "promoter_cnn", labels),
        "qc": plots.qc_figure(tracks(), ["E000-H3K4me1.reads"]),
        "track": plots.track_figure(tracks().iloc[0]),
        "histogram": plots.track_figure(tracks().iloc[0], np.array([0, 1, 5, np.nan, 300.0])),
        "profile": plots.profile_figure(profiles()),
        "cost": plots.cost_figure(pd.DataFrame(bench)),
    }


FIGURES = every_figure()


def labels_of(figure) -> tuple[list[str], list[str]]:
    axes = [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]
    x = [axis.get_xlabel() for axis in axes if axis.get_xlabel()]
    return x, [axis.get_ylabel() for axis in axes if axis.get_ylabel()]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_becomes_png_and_svg_with_labelled_axes(name, tmp_path):
    figure = FIGURES[name]
    x, _ = labels_of(figure)
    assert x
    plots.save(figure, tmp_path / "figure.png", dpi=60)
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    drawn = canvas.svg(figure, name, 'two "cells" & <marks>')
    root = ET.fromstring(drawn)
    assert root.get("aria-label") == 'two "cells" & <marks>'
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert all(value.startswith(f"{name}-") for value in ids)
    assert canvas.INK not in drawn
    assert "currentColor" in drawn


def test_axes_name_quantity_and_unit():
    assert labels_of(FIGURES["observed"]) == (
        ["observed log2(RPKM + 1)"],
        ["predicted log2(RPKM + 1)"],
    )
    assert "95% interval" in labels_of(FIGURES["comparison"])[0][0]
    assert "reads per base" in labels_of(FIGURES["qc"])[0][0]
    assert labels_of(FIGURES["learning"]) == (["epoch"], ["loss (mean squared error)"])
    assert all("(kb)" in label for label in labels_of(FIGURES["profile"])[0])
    assert "(GB)" in labels_of(FIGURES["cost"])[0][1]


def test_drawing_changes_no_global_setting():
    before = dict(matplotlib.rcParams)
    canvas.png_base64(plots.qc_figure(tracks()), dpi=40)
    assert dict(matplotlib.rcParams) == before


def test_a_figure_is_the_same_when_drawn_twice():
    first, second = (plots.qc_figure(tracks()) for _ in range(2))
    assert canvas.svg(first, "a", "x" * 30) == canvas.svg(second, "a", "x" * 30)
    assert base64.b64decode(canvas.png_base64(first, 40)) == base64.b64decode(
        canvas.png_base64(second, 40)
    )


def overlapping(axis) -> list[tuple[str, str]]:
    """Neighbouring row labels whose boxes touch."""
    shown = [label for label in axis.get_yticklabels() if label.get_text()]
    boxes = [(label.get_window_extent(), label.get_text()) for label in shown]
    return [(a[1], b[1]) for a, b in zip(boxes, boxes[1:], strict=False) if a[0].overlaps(b[0])]


@pytest.mark.parametrize("count", [6, 77])
def test_row_labels_never_overlap_and_stay_inside_the_figure(count):
    table, labels = metrics(count // 2, 2)
    for figure in (
        plots.qc_figure(tracks(count)),
        plots.comparison_figure(table, "promoter_cnn", labels),
    ):
        canvas.png_base64(figure, dpi=30)
        axis = figure.axes[0]
        assert overlapping(axis) == []
        width = figure.bbox.width
        boxes = [label.get_window_extent() for label in axis.get_yticklabels()]
        assert min(box.x0 for box in boxes) >= 0
        assert max(box.x1 for box in boxes) <= width


@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("genes", [60, 500])
def test_nothing_is_cut_off_at_the_edge_of_a_panel_figure(count, genes):
    titles = [f"E003 · H3K4me{i}" for i in range(count)]
    figures = [plots.observed_predicted({title: predictions(genes) for title in titles})]
    if genes == 60:
        figures += [plots.learning_curves({(title, "fold1"): history() for title in titles})]
        figures += [plots.profile_figure(profiles(count))]
    for figure in figures:
        canvas.png_base64(figure, dpi=figure.dpi)
        drawn = figure.get_tightbbox()
        width, height = figure.get_size_inches()
        assert min(drawn.x0, drawn.y0) >= -0.02
        assert drawn.x1 <= width + 0.02
        assert drawn.y1 <= height + 0.02


def test_predictors_differ_in_marker_and_in_colour():
    names = ["promoter_cnn", *[f"activity_{w}kb" for w in ("1.5", "3", "6", "40")]]
    names += ["ridge_6kb", "promoter_cnn_shuffled"]
    drawn = [plots.marker_of(name, "promoter_cnn") for name in names]
    assert len({marker for marker, *_ in drawn}) == len(names)
    assert len({colour for _, colour, _ in drawn}) == len(names)


def test_the_comparison_draws_the_table_s_r():
    table, labels = metrics(1, 2)
    figure = plots.comparison_figure(table, "promoter_cnn", labels)
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert list(lines["promoter CNN"].get_xdata()) == [0.7, 0.7]
    assert list(lines["shuffled labels"].get_xdata()) == pytest.approx([0.4, 0.4])


def test_agreement_is_pearson_r_and_r_squared_of_the_line_of_identity():
    table = predictions()
    r2 = 1 - ((table.y - table.y_hat) ** 2).sum() / ((table.y - table.y.mean()) ** 2).sum()
    assert plots.agreement(table) == f"r 1.00 · R² {fixed(r2, 2)} · n 500"
    flat = table.assign(y_hat=1.0)
    assert plots.agreement(flat).startswith("r undefined")
    assert plots.agreement(table.assign(y=2.0)) == "r undefined · n 500"


def test_the_best_epoch_is_the_one_marked_else_the_lowest_loss():
    assert plots.best_epoch(history(best=7)) == 6
    assert plots.best_epoch(history().drop(columns="best")) == 11
    marked = history().assign(best=["False"] * 11 + ["True"])
    assert plots.best_epoch(marked) == 11
    assert plots.best_epoch(history().assign(best=0, validation_loss=np.nan)) is None


def test_the_learning_rate_cut_stands_at_its_epoch():
    figure = plots.learning_curves({("a", "fold1"): history()})
    bars = [line for line in figure.axes[0].get_lines() if line.get_marker() == "|"]
    assert [list(line.get_xdata()) for line in bars] == [[9.0]]


def test_one_far_first_epoch_does_not_flatten_the_curves():
    table = history(20)
    table.loc[0, ["train_loss", "validation_loss"]] = 5000.0
    figure = plots.learning_curves({("a", "fold1"): table})
    assert figure.axes[0].get_ylim()[1] < 10


def test_a_profile_s_band_is_the_interval_of_the_mean_without_missing_values():
    features, rpkm, _ = profiles()["E003 · m0"]
    mean, half = plots_data.mean_profile(features, rpkm >= 1)
    part = features[rpkm >= 1].astype(float)
    np.testing.assert_allclose(mean, np.nanmean(part, axis=0))
    count = np.isfinite(part).sum(axis=0)
    expected = 1.96 * np.nanstd(part, axis=0, ddof=1) / np.sqrt(count)
    np.testing.assert_allclose(half, expected)


@pytest.mark.parametrize(
    "figure",
    [
        plots.learning_curves({}),
        plots.observed_predicted({}),
        plots.observed_predicted({"a": predictions(0)}),
        plots.comparison_figure(metrics(1, 1)[0].iloc[:0], "promoter_cnn", {}),
        plots.qc_figure(tracks(0)),
        plots.profile_figure({}),
        plots.cost_figure(pd.DataFrame(columns=["rule", "seconds", "memory_mb"])),
    ],
)
def test_nothing_to_draw_gives_a_figure_that_says_so(figure):
    assert figure.texts[0].get_text().startswith("no ")
    assert canvas.svg(figure, "empty", "nothing")


def test_a_dollar_in_a_name_is_no_formula():
    figure = plots.observed_predicted({"$\\frac{$ E003": predictions(30)})
    assert canvas.svg(figure, "dollar", "a name with a dollar sign")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "0.4 s"), (12, "12 s"), (210, "3.5 min"), (7560, "2.1 h"), (np.nan, "not measured")],
)
def test_durations_read_as_people_say_them(seconds, text):
    assert plots_data.duration(seconds) == text


def test_numbers_have_a_true_minus_and_no_negative_zero():
    assert fixed(-0.5, 2) == "−0.50"
    assert fixed(-0.001, 2) == "0.00"
    assert fixed(float("nan"), 2) == "undefined"
