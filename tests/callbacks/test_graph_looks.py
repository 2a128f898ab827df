"""Looks of attention graphs in pictures."""

import math
from pathlib import Path

import pytest

from callbacks.graph_looks import called, kept, look, own
from callbacks.graph_scores import curves
from callbacks.swap_results import Result, drawn, write
from tabattn.attention.graphs import PATTERNS
from tabattn.attention.swap import Agreement


def test_no_two_patterns_look_alike() -> None:
    looks = [(look(name)["color"], look(name)["marker"]) for name in PATTERNS]
    assert len(set(looks)) == len(looks)


def test_sparsefinder_is_told_from_baselines() -> None:
    ours = [name for name in PATTERNS if own(name)]
    assert {"fixed", "quantile", "dynamic", "kmeans", "cos", "euclidean", "l2"} <= set(ours)
    assert not {"window", "bigbird", "lsh", "routing", "clustered", "pages", "gaussian", "topk", "gate"} & set(ours)
    assert {look(name)["linestyle"] for name in ours} == {"-"}
    assert {look(name)["linestyle"] for name in PATTERNS if name not in ours} == {"--"}
    assert (called("kmeans"), called("lsh"), called("topk")) == (
        "Sparsefinder: kmeans",
        "baseline: lsh",
        "oracle: topk",
    )


def test_blocks_look_like_their_pattern_with_dots() -> None:
    plain, blocks, larger = look("kmeans"), look("kmeans/8"), look("kmeans/32")
    assert (blocks["color"], blocks["marker"], blocks["linestyle"]) == (plain["color"], plain["marker"], ":")
    assert blocks["markersize"] < larger["markersize"]
    assert (called("kmeans/8"), called("pages/4"), called("topk/2")) == (
        "Sparsefinder: kmeans/8",
        "baseline: pages/4",
        "oracle: topk/2",
    )


def test_sparsity_is_drawn_by_the_share_that_is_kept() -> None:
    assert (kept(0.0), kept(0.9), kept(1.0)) == (1.0, pytest.approx(0.1), 1e-4)


def test_curves_have_a_line_for_each_pattern_with_a_score() -> None:
    facts = {"top": 1, "window": 0, "ends": 0, "gold_sparsity": 0.8}
    points = [("topk", 2, 0.95, 0.9), ("kmeans", 4, 0.5, 0.9), ("kmeans", 8, 1.0, 0.0), ("window", 1, 0.9, math.nan)]
    rows = [
        {"graph": f"{name} {knob}", "grouping": name, "knob": knob, "sparsity": sparsity, "recall": recall, **facts}
        for name, knob, sparsity, recall in points
    ]
    figure = curves(rows, "recall", "recall")
    (axes,) = figure.axes
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["Sparsefinder: kmeans", "oracle: topk", "sparsity of the attention itself"]
    lines = {str(line.get_label()): list(map(float, line.get_xdata())) for line in axes.lines}
    assert lines["Sparsefinder: kmeans"] == [0.5, 1e-4]
    assert lines["sparsity of the attention itself"] == pytest.approx([0.2, 0.2])
    # Sparser is to the right, and all is within the axis.
    left, right = axes.get_xlim()
    assert left > 0.5
    assert right < 1e-4
    ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    assert [(float(place), label.get_text()) for place, label in ticks][:2] == [
        (0.5, "0.5"),
        (pytest.approx(0.2), "0.8"),
    ]


def test_variants_are_drawn_as_their_patterns() -> None:
    names = ["entmax", "sparsefinder exact", "sparsefinder entmax", "sparsefinder fixed 8", "window 3", "topk 11"]
    results = [Result(name, Agreement(0.1 * place, 0.5, 0.5), 0.9, 1.0, {}) for place, name in enumerate(names)]
    figure = drawn(results, "test/auroc")
    lines = {str(line.get_label()): line for line in figure.axes[0].lines}
    assert set(names) <= set(lines)
    assert [lines[name].get_marker() for name in names[:2]] == ["*", "*"]
    assert lines["entmax"].get_color() != lines["sparsefinder exact"].get_color()
    for name, pattern in (("sparsefinder entmax", "entmax"), ("sparsefinder fixed 8", "fixed"), ("window 3", "window")):
        assert (lines[name].get_marker(), lines[name].get_color()) == (look(pattern)["marker"], look(pattern)["color"])
    assert figure.axes[0].get_ylabel() == "test/auroc"


def test_results_of_different_metrics_have_all_columns(tmp_path: Path) -> None:
    agreement = Agreement(*[0.5] * len(Agreement._fields))
    results = [
        Result("entmax", agreement, 0.9, 1.0, {"test/auroc": 0.9}),
        Result("window 3", agreement, 0.8, 1.0, {"test/auroc": 0.8, "test/loss": 1.5}),
    ]
    write(tmp_path, results, drawn(results, "test/auroc"))
    first, entmax, window = (tmp_path / "attention_swap.csv").read_text().splitlines()
    assert first.endswith("seconds,test/auroc,test/loss")
    assert entmax.endswith("0.9,")
    assert window.endswith("0.8,1.5")
