"""Heat maps and statistics of attention maps."""

import math

import numpy as np
import pytest
import torch

from callbacks.attention_maps import _names_of
from callbacks.heatmaps import ZERO, TokenNames, _ticks, picture
from callbacks.statistics import spread


def test_statistics_of_fully_masked_queries_and_negative_weights() -> None:
    weights = torch.tensor([[[[0.0, 0.0, 0.0], [0.5, 0.0, 0.5], [1.5, -0.5, 0.0]]]])
    found = spread(weights)
    assert found.entropy[0, 0, 0].isnan()
    assert found.support[0, 0, 0].isnan()
    assert found.entropy[0, 0, 1:].tolist() == pytest.approx([math.log(2), -sum(p * math.log(p) for p in (0.75, 0.25))])
    assert found.support[0, 0, 1:].tolist() == [2, 2]
    assert found.largest[0, 0, 1:].tolist() == [0.5, 1.5]


def test_exact_zeros_have_their_own_colour() -> None:
    grey = np.array([int(ZERO[place : place + 2], 16) for place in (1, 3, 5)])
    dense, sparse = torch.full((1, 1, 4, 4), 0.25), torch.eye(4)[None, None]
    share = [(picture(maps, [0], "map", 64) == grey).all(-1).mean() for maps in (dense, sparse)]
    assert share[0] < 0.01
    assert share[1] > 0.15


def test_pictures_stay_bounded_and_long_maps_are_cropped() -> None:
    maps = torch.rand(4, 16, 200, 150)
    image = picture(maps, range(16), "map", 128)
    assert image.shape[0] <= 1500
    assert image.shape[1] <= 2300
    hidden = maps.clone()
    hidden[..., 128:, :] = 0.9
    hidden[..., :, 128:] = 0.9
    assert np.array_equal(image, picture(hidden, range(16), "map", 128))


def test_names_are_drawn_on_the_axis_they_fit() -> None:
    weights = torch.full((1, 1, 3, 2), 0.5)
    names = {"features": ["age", "sex", "label"], "rows": ["first", "second"]}
    found = _names_of("network.blocks.0.features.mechanism", weights, names)
    assert found == TokenNames(queries=["age", "sex", "label"], keys=None)
    assert _names_of("network.blocks.0.rows", weights, names) == TokenNames(None, ["first", "second"])
    bare, named = picture(weights, [0], "map", 64), picture(weights, [0], "map", 64, found)
    assert bare.shape == named.shape
    assert not np.array_equal(bare, named)


def test_names_that_do_not_fit_are_thinned() -> None:
    names = [f"column {place}" for place in range(31)]
    assert _ticks(names, 31, 4.0).labels == names
    few = _ticks(names, 31, 1.5)
    assert few.labels == names[::2]
    assert few.places == list(range(0, 31, 2))
    assert _ticks(None, 31, 1.5).labels == ["0", "5", "10", "15", "20", "25", "30"]


def test_neighbours_of_one_name_have_it_once() -> None:
    found = _ticks(["benign"] * 5 + ["malignant"] * 3, 8, 3.0)
    assert found.labels == ["benign", "malignant"]
    assert found.places == [2.0, 6.0]
    assert found.bounds == [4.5]
    assert _ticks(["a", "b", "a"], 3, 3.0).bounds == ()


def test_uniform_maps_look_alike_however_few_of_their_keys_are_drawn() -> None:
    whole, part = torch.full((1, 1, 4, 40), 1 / 40), torch.full((1, 1, 4, 4), 1 / 40)
    pixel = [tuple(picture(maps, [0], "map", 64, keys=40)[120, 100]) for maps in (whole, part)]
    assert pixel[0] == pixel[1]
    assert tuple(picture(part, [0], "map", 64)[120, 100]) != pixel[0]


def test_nothing_finite_to_draw_still_draws() -> None:
    assert picture(torch.full((1, 1, 2, 2), torch.nan), [0], "map", 64).ndim == 3
