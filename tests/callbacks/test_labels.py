"""Text in figures: names with any characters."""

import warnings

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter

from callbacks.heatmaps import TokenNames, picture, render
from callbacks.labels import drawable, without_mathematics
from callbacks.projector import write_points

NAMES = [
    "from_$_to_$",
    r"a\b",
    r"$\frac{1}{2",
    "年龄",
    "x" * 400,
    "two\nlines",
    "tab\there",
    "bell\x07",
    "_under",
    "",
    "\ud800",
]


def test_texts_are_made_drawable() -> None:
    shown = [
        "from_$_to_$",
        r"a\b",
        r"$\frac{1}{2",
        "□□",
        "x" * 400,
        "two lines",
        "tab here",
        "bell",
        " _under",
        "",
        "□",
    ]
    assert [drawable(name) for name in NAMES] == shown


def test_maps_are_drawn_with_any_names() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = picture(torch.rand(1, 1, 11, 11), [0], "a $title_", 64, TokenNames(NAMES, NAMES))
    assert image.ndim == 3


@pytest.mark.parametrize("place", ["title", "label", "tick", "legend"])
def test_no_text_of_a_figure_is_mathematics(place: str) -> None:
    figure = Figure()
    axes = figure.subplots()
    bad = r"$\frac{1}{$"
    axes.plot([0, 1], label=drawable(bad))
    {
        "title": lambda: axes.set_title(bad),
        "label": lambda: axes.set_xlabel(bad),
        "tick": lambda: axes.set_xticks([0, 1], [bad, bad]),
        "legend": axes.legend,
    }[place]()
    with pytest.raises(ValueError, match="Expected"):
        FigureCanvasAgg(figure).draw()
    without_mathematics(figure)
    assert render(figure).std() > 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_maps_that_are_not_finite_are_drawn(value: float) -> None:
    weights = torch.rand(1, 2, 5, 5)
    weights[0, 0] = value
    assert picture(weights, [0, 1], "title", 64).ndim == 3
    assert picture(torch.full((1, 1, 3, 3), value), [0], "title", 64).ndim == 3


def test_points_that_are_not_finite_are_left_out_and_cells_stay_cells(tmp_path) -> None:
    points = torch.randn(3, 4)
    points[1, 2] = torch.nan
    columns = {"na\tme\n": ["a\tb", "c", "d\x07\ud800"], "row": [0, 1, 2]}
    writer = SummaryWriter(str(tmp_path))
    with pytest.warns(UserWarning, match="1 of 3 points are not finite"):
        write_points(writer, "layer", 1, points, columns, sprites=True, keep=1)
    lines = next(tmp_path.rglob("metadata.tsv")).read_text().splitlines()
    assert lines == ["na me\trow", "a b\t0", "d ?\t2"]
    assert len(next(tmp_path.rglob("tensors.tsv")).read_text().splitlines()) == 2
    with pytest.warns(UserWarning, match="3 of 3 points are not finite"):
        write_points(writer, "layer", 2, points * torch.nan, columns, sprites=True, keep=1)
