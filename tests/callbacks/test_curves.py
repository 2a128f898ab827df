"""Plots of trajectories: points and colours."""

import math

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from callbacks.curves import (
    CONTEXT,
    LOOKED,
    MEAN,
    SAMPLE,
    TARGET,
    draw_step,
    draw_trajectories,
    most_attended,
    task_of,
)
from callbacks.heatmaps import render
from tabattn.contract.batches import PairBatch
from tabattn.pairs import Attended, Trajectories


def found(mean: bool = True, samples: int = 2) -> Trajectories:
    """Two tasks of four known points and three targets; the second has a point of padding on either side."""
    x = torch.arange(7.0).expand(2, 7).clone()
    y = torch.tensor([[0.0, 1, 2, 3, 4, 5, 6], [0, 1, 2, math.nan, 4, 5, math.nan]])
    member = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [0, 0, 1, 0, 1, 1, 0]])
    values = y[:, 4:] + 0.5
    quantiles = torch.stack([values + shift for shift in (-2, -1, 0, 1, 2)])
    batch = PairBatch(x, y, member, 4)
    path = torch.arange(3).expand(2, 3)
    return Trajectories(batch, path, values if mean else None, values.expand(samples, 2, 3), quantiles)


def has(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], colour: str) -> bool:
    return bool((np.abs(pixels.astype(int) - np.round(np.multiply(to_rgb(colour), 255))) <= 3).all(-1).any())


def test_a_task_has_no_padding() -> None:
    whole, padded = (task_of(found(), number) for number in range(2))
    assert whole.x.tolist() == [0, 1, 2, 3]
    assert padded.y.tolist() == [0, 1, 2]
    assert padded.target_x.tolist() == [4, 5]
    assert padded.mean is not None
    assert padded.mean.tolist() == [4.5, 5.5]
    assert padded.samples.shape == (2, 2)
    assert padded.quantiles[:, 0].tolist() == [2.5, 3.5, 4.5, 5.5, 6.5]
    assert whole.given(0)
    assert not whole.given(1)
    assert [part.tolist() for part in padded.sequence(1)] == [[2, 4, 5], [2, 4, 5]]


@pytest.mark.parametrize(("mean", "samples"), [(True, 2), (False, 2), (True, 0)])
def test_only_what_was_inferred_is_drawn(mean: bool, samples: int) -> None:
    figure = draw_trajectories(found(mean, samples), "title")
    pixels = render(figure)
    assert has(pixels, CONTEXT)
    assert has(pixels, MEAN) == mean
    assert has(pixels, SAMPLE) == (samples > 0)
    assert {(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes} == {("location x", "value y")}
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [f"task {number}: first error +0.50, RMSE 0.50" if mean else f"task {number}" for number in (0, 1)]


def test_a_step_shows_its_target_and_the_points_it_looked_at() -> None:
    weights = torch.tensor([[0.1, 0.2, 0.0, 0.3, 0.4]])
    figure = draw_step(found(), 0, 1, Attended("layer", weights), "title")
    pixels = render(figure)
    assert all(has(pixels, colour) for colour in (TARGET, LOOKED, CONTEXT, MEAN))
    drawn = {
        tuple(np.round(np.asarray(dots.get_facecolor())[0, :3], 3)): np.asarray(dots.get_offsets()).tolist()
        for dots in figure.axes[0].collections
    }
    assert drawn[tuple(np.round(to_rgb(TARGET), 3))] == [[5, 5.5]]
    assert drawn[tuple(np.round(to_rgb(LOOKED), 3))] == [[4, 4.5], [3, 3], [1, 1], [0, 0]]


def test_keys_are_counted_over_heads() -> None:
    weights = torch.zeros(3, 12)
    weights[:, 7] = 0.2
    weights[:2, 3] = 0.3
    weights[0, 1] = 0.9
    assert most_attended(weights) == [7, 3, 1]
    assert most_attended(torch.ones(2, 3)) == [0, 1, 2]
    assert most_attended(torch.ones(2, 0)) == []
    assert len(most_attended(torch.rand(30, 40))) == 10


def test_targets_of_unknown_value_and_flat_ones_are_drawn() -> None:
    some = found()
    y = some.batch.y.clone()
    y[:, 4:] = math.nan
    y[:, :4] = 1.0
    pixels = render(draw_trajectories(some._replace(batch=some.batch._replace(y=y)), "title"))
    assert has(pixels, MEAN)
