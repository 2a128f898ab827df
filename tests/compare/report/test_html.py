"""HTML page of comparisons: valid, self-contained, complete."""

import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tabattn.compare.report import figures, maps, swap, write
from tabattn.compare.report.drawing import COLOURS, MARKS, styles
from tabattn.compare.report.frame import read
from tabattn.compare.report.lines import groups
from tabattn.compare.swap.measure import Agreement, Timing
from tabattn.compare.swap.results import Row, Table
from tests.compare.folders import CPU, edit, fail, make, put

VOID = {"meta", "img", "br", "line", "link", "input"}
OTHER = {"cpu": "Intel Xeon 8481C", "gpu": "NVIDIA H100", "cores": 16, "threads": 4}


class Checked(HTMLParser):
    """Parser that checks nesting, unique identifiers, and references to them."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.outside: list[str] = []
        self.headings: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            self.references += re.findall(r"url\(#([^)]+)\)", value or "")
            if name in ("href", "src") or name.endswith(":href"):
                (self.references if (value or "").startswith("#") else self.outside).append((value or "").lstrip("#"))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data)
        if "style" not in self.open:
            self.text += data


def page_of(folder: Path) -> Checked:
    write(folder, 100)
    text = (folder / "report.html").read_text()
    assert "<script" not in text
    assert not re.search(r"https?:|//|@import", re.sub(r"data:image/png;base64,[\w+/=]+", "", text))
    found = Checked()
    found.feed(text)
    found.close()
    assert found.open == []
    assert len(set(found.ids)) == len(found.ids)
    assert set(found.references) <= set(found.ids)
    assert all(one.startswith("data:image/png;base64,") for one in found.outside)
    return found


def test_page_is_valid_and_complete(tmp_path: Path) -> None:
    put(
        tmp_path / "baselines.json",
        {"rows": [{"name": "random forest", "scores": {"test/auroc": 0.7, "test/set 1/auroc": 0.75}}]},
    )
    found = page_of(make(tmp_path))
    assert found.headings[:3] == ["Comparison of attention: prior", "AMD EPYC 7B13, 1 thread", "Quality against cost"]
    assert found.headings[3:7] == ["Learning curves", "Single data sets", "Ranks over data sets", "Attention maps"]
    assert found.headings[7:] == [
        *(f"network.layers.{layer}.rows.mechanism" for layer in range(3)),
        "How it was measured",
    ]
    for words in ("Best quality: Entmax", "baseline: random forest", "0.7500", "500steps", "abc123", "exactly 0"):
        assert words in found.text
    text = (tmp_path / "report.html").read_text()
    # Two pictures of cost, four of learning, one of ranks, beside the samples of the legend.
    assert text.count('role="img"') == 7
    # Four mechanisms in three layers, each with its scale.
    assert text.count("<img") == 15
    assert "currentColor" in text
    assert "#010203" not in text


def test_pages_of_machines(tmp_path: Path) -> None:
    found = page_of(make(tmp_path, ("Softmax", "Linear"), 2, machines=(CPU, OTHER)))
    assert "NVIDIA H100, Intel Xeon 8481C, 4 threads" in found.headings
    assert found.headings.count("Attention maps") == 2
    assert "Rows of different machines are not compared" in found.text


@pytest.mark.parametrize(
    "options",
    [
        {"labels": ("Softmax",)},
        {"seeds": 1},
        {"labels": ("Softmax",), "seeds": 1, "sets": 0},
        {"curves": False, "maps": False},
        {"sets": 3},
        {"mode": "min", "metric": "test/loss"},
        {"labels": tuple(f"Mechanism{at}" for at in range(12))},
    ],
)
def test_parts_that_are_not_there(tmp_path: Path, options: dict[str, object]) -> None:
    found = page_of(make(tmp_path, **options))  # type: ignore[arg-type]
    assert ("Ranks over data sets" in found.headings) == (
        options.get("sets", 6) == 6 and len(options.get("labels", "ab")) > 1
    )  # type: ignore[arg-type]
    assert ("Learning curves" in found.headings) == (options.get("curves") is not False)
    assert ("Attention maps" in found.headings) == (options.get("maps") is not False)
    assert ("Quality against cost" in found.headings) == (options.get("labels") != ("Softmax",))


def test_parts_of_one_data_set_are_not_ranked(tmp_path: Path) -> None:
    found = page_of(make(tmp_path, ("Softmax", "Linear"), 2, task="pairs", curves=False, maps=False))
    assert "Parts of the data" in found.headings
    assert "Ranks over data sets" not in found.headings
    assert "Ranks are compared" not in found.text


def test_failures_and_words_of_others_are_escaped(tmp_path: Path) -> None:
    folder = make(tmp_path, ("Softmax", "Local(window=<b>)"))
    fail(folder, "0102", "ValueError: <script>alert('x')</script> & more")
    edit(folder / "comparison.json", command="python & <img src=x>")
    found = page_of(folder)
    assert "Failed: Local(window=<b>), seed 2: ValueError: <script>alert('x')</script> & more" in found.text
    assert "python & <img src=x>" in found.text


def test_comparison_without_any_result(tmp_path: Path) -> None:
    folder = make(tmp_path)
    for cell in (folder / "cells").iterdir():
        (cell / "result.json").unlink()
    found = page_of(folder)
    assert "No cell has a score yet." in found.text


def swapped(label: str, seconds: float, lost: float, context: int | None = 500, **others: Any) -> Row:
    timing = Timing(seconds, seconds / 2, 2 * seconds, 3, 0.5, 100.0)
    row = Row(label, label.partition(":")[0], context, score=0.9 - lost, lost=lost, faster=1 / seconds, timing=timing)
    return replace(row, agreement=Agreement(0.25, 0.1, 0.75), scores={"auroc": 0.9 - lost}, **others)


def swap_table(folder: Path, *rows: Row) -> None:
    versions = {"torch": "2.13.0", "commit": {"commit": "abc123", "changed": False}}
    table = Table(
        *(
            "a.ckpt",
            "PriorClassification",
            ["attention"],
            "auroc",
            "max",
            "iris",
            "CPU",
            dict(CPU),
            versions,
            list(rows),
        )
    )
    put(folder / "swap.json", table.plain())


MANY = [swapped("Softmax", 1.0, 0.0, trained=True), *(swapped(f"Local:window={at}", 0.5, 0.1 * at) for at in range(8))]


@pytest.mark.parametrize("alone", [True, False])
def test_swap_tables(tmp_path: Path, alone: bool) -> None:
    if not alone:
        make(tmp_path, ("Softmax",), 1, 0, curves=False, maps=False)
    failed = Row("<i>", "TopK", 500, reason="takes <too> long")
    swap_table(tmp_path, *MANY, failed, replace(MANY[0], context=None), replace(MANY[1], context=None))
    found = page_of(tmp_path)
    own = ["Swap table: a.ckpt"] if alone else ["Swap table"]
    at = found.headings.index(own[0])
    parts = ["500 context rows", "Test of the task", "Quality lost against time gained", "How it was measured"]
    assert found.headings[at:] == [*own, *parts]
    for words in (
        *("Softmax (trained)", "Local:window=7", "0.2000", "2.00x", "(0.25-1)", "75.0%", "auroc (higher is better)"),
        *("How much auroc is lost", "Without a result: <i>: takes <too> long.", "swap.csv and swap.json"),
    ):
        assert words in found.text, words
    assert "commit abc123" in found.text
    assert ("standard error over seeds; a difference" in found.text) is not alone
    text = (tmp_path / "report.html").read_text()
    assert text.count('role="img"') == 2
    assert text.count('<tr class="best">') == 2 + (not alone)


def test_the_report_of_a_swap_table_alone_is_a_page(tmp_path: Path) -> None:
    swap_table(tmp_path, *MANY[:2])
    report = write(tmp_path)
    assert [path.name for path in report.paths] == ["report.html"]
    assert "Softmax (trained)" in report.text


def test_names_of_many_swapped_mechanisms_are_those_of_the_front(monkeypatch: pytest.MonkeyPatch) -> None:
    named: list[set[str]] = []
    monkeypatch.setattr(swap, "beside", lambda axes, points, look: named.append(set(points)))
    table = Table("a", "b", ["c"], "auroc", "max", "", "CPU", {}, {})
    for rows in (MANY, MANY[:3], MANY[:1]):
        drawn = swap.picture(table, "test", rows)
        assert bool(drawn) is (len(rows) > 1)
        assert "mathdefault" not in drawn
    assert named == [{"Softmax", "Local:window=0"}, {"Softmax", "Local:window=0", "Local:window=1"}]


def test_damaged_swap_tables_are_refused(tmp_path: Path) -> None:
    for content in ({"rows": []}, [1], {"rows": [{}]}):
        put(tmp_path / "swap.json", content)
        with pytest.raises(ValueError, match=r"swap\.json is damaged: "):
            write(tmp_path)


def test_the_same_results_give_the_same_page(tmp_path: Path) -> None:
    for name, attempt in (("a", 1), ("b", 4)):
        write(make(tmp_path / name, ("Softmax", "Linear"), 2, attempt=attempt), 100)
    assert (tmp_path / "a" / "report.html").read_text() == (tmp_path / "b" / "report.html").read_text()


@pytest.mark.parametrize("module", ["jinja2", "bencheval.evaluator"])
def test_without_the_extra(tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    report = write(make(tmp_path), 100)
    assert "Best quality: Entmax" in report.text
    names = {path.name for path in report.paths}
    if module == "jinja2":
        assert names == {"report.csv", "report.json"}
        assert report.notes == [
            "report.html is not written: the package jinja2 is missing: pip install 'tabattn[report]'"
        ]
        return
    assert names == {"report.csv", "report.json", "report.html"}
    assert "Elo and win rates are left out: the package bencheval is missing: pip install 'tabattn[report]'" in (
        tmp_path / "report.html"
    ).read_text().replace("&#39;", "'")
    assert json.loads((tmp_path / "report.json").read_text())["results"]["sets"][0]["board"] == []


def test_earlier_pages_go_where_they_cannot_be_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(make(tmp_path, ("Softmax",), 1, 0, curves=False, maps=False), 100)
    assert (tmp_path / "report.html").exists()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    write(tmp_path, 100)
    assert not (tmp_path / "report.html").exists()


def test_curves_are_means_at_shared_steps() -> None:
    one = {"step": [0, 10, 20], "seconds": [1, 2, 3], "loss": [3, 2, 1], "score": [np.nan, 0.5, 0.6]}
    two = {"step": [0, 20, 30], "seconds": [3, 7, 9], "loss": [5, 2, 1], "score": [0.1, 0.8, 0.9]}
    curves = [{name: np.array(values, dtype=float) for name, values in curve.items()} for curve in (one, two)]
    found = figures.over_seeds(curves, "seconds", "loss").T
    assert found == pytest.approx(np.array([[2, 4, 3, 5], [5, 1.5, 1, 2]]))
    found = figures.over_seeds(curves, "step", "score").T
    assert found == pytest.approx(np.array([[20, 0.7, 0.6, 0.8]]))


def test_long_losses_are_averaged() -> None:
    curve = {name: np.arange(400.0) for name in ("step", "seconds", "score")}
    curve["loss"] = np.where(np.arange(400) % 2, 1.0, 3.0)
    curve["loss"][7] = np.nan
    x, mean, low, high = figures.over_seeds([curve], "step", "loss")
    assert len(x) == 399
    assert mean == pytest.approx(np.full(399, 2.0), abs=0.21)
    assert (low == high).all()


def test_front() -> None:
    points = [(1.0, 0.5), (2.0, 0.4), (2.0, 0.7), (3.0, 0.7), (4.0, 0.9)]
    assert figures.front(points, 1) == [0, 2, 4]
    assert figures.front(points, -1) == [0, 1]


@pytest.mark.parametrize("mode", ["max", "min"])
def test_better_is_up_in_pictures_of_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    drawn = []
    monkeypatch.setattr(figures, "as_svg", lambda figure, described: drawn.append(figure) or "")
    comparison = read(make(tmp_path, ("Softmax", "Linear"), 2, 0, curves=False, maps=False, mode=mode))
    figures.pareto(comparison, groups(comparison)[0].lines, "step time, ms", styles(comparison.labels, "Softmax"))
    assert drawn[0].axes[0].yaxis_inverted() == (mode == "min")


def test_curves_without_a_column_are_refused(tmp_path: Path) -> None:
    folder = make(tmp_path)
    (folder / "cells" / "0000" / "attempts" / "1" / "curve.csv").write_text("step,seconds\n1,2\n")
    with pytest.raises(ValueError, match=r"curve.csv is no learning curve: it has no column 'loss'"):
        write(folder)


def test_damaged_maps_are_refused(tmp_path: Path) -> None:
    folder = make(tmp_path)
    (folder / "cells" / "0000" / "attempts" / "1" / "maps.npz").write_bytes(b"no maps")
    with pytest.raises(ValueError, match=r"maps.npz holds no attention maps"):
        write(folder)


def test_maps_share_a_scale_and_zeros_are_grey() -> None:
    strong = np.zeros((1, 2, 2), dtype=np.float32)
    strong[0, 0] = 0.0, 1.0
    weak = np.full((6, 2, 2), 0.25, dtype=np.float32)
    layers = maps.layers({"A": {f"l{at}": strong for at in range(9)}, "B": {"l0": weak, "l1": weak}})
    # Of l0 there are 24 weights of .25 in four heads, and one of 1 above the 98th percentile.
    assert layers[0].largest == pytest.approx(0.25 + 0.75 * 0.68, abs=1e-6)
    assert layers[3].largest == 1
    assert [layer.name for layer in layers] == ["l0", "l1", "l2", "l8"]
    many = {f"l{at}": weak for at in range(9)}
    assert [layer.name for layer in maps.layers({"A": many, "B": many})] == ["l0", "l3", "l5", "l8"]
    assert [strip.label for strip in layers[0].strips] == ["A", "B"]
    assert layers[0].strips[0].described == "1 heads, 2 queries, 2 keys, 75% exactly 0"
    assert layers[0].strips[1].described == "4 heads, 2 queries, 2 keys"
    found = maps.colours(strong[0], 1.0)
    assert tuple(found[1, 1]) == maps.ZERO
    assert tuple(found[0, 1]) != maps.ZERO
    assert tuple(maps.colours(strong[0], 0.5)[0, 1]) == tuple(found[0, 1])
    # A quarter of the largest weight has half the scale.
    assert maps.colours(weak[0], 1.0)[0, 0] == pytest.approx(maps.colours(np.float32([[1.0]]), 4.0)[0, 0])


def test_maps_of_few_keys_are_widened() -> None:
    narrow, square = np.ones((1, 8, 2), dtype=np.float32), np.ones((1, 8, 8), dtype=np.float32)
    strips = maps.layers({"A": {"l": narrow}, "B": {"l": square}})[0].strips
    assert strips[0].image == strips[1].image
    assert strips[0].described == "1 heads, 8 queries, 2 keys"


def test_maps_without_finite_weights(tmp_path: Path) -> None:
    layers = maps.layers({"A": {"l": np.full((1, 2, 2), np.nan, dtype=np.float32)}})
    assert layers[0].largest == 1
    assert layers[0].strips[0].image.startswith("data:image/png;base64,")


def test_styles_tell_many_attentions_apart() -> None:
    labels = [f"m{at}" for at in range(len(COLOURS) * len(MARKS))]
    found = styles(labels, "m3")
    assert found["m3"].colour == COLOURS[0]
    assert len({(style.colour, style.mark) for style in found.values()}) == len(labels)
    assert len({(style.colour, style.dashes) for style in found.values()}) == len(labels)
