"""Plots of trajectories: points and colours."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch.distributions import Categorical, MixtureSameFamily, Normal

from callbacks.curves import (
    CONTEXT,
    EXACT,
    GIVEN,
    MEAN,
    SAMPLE,
    Task,
    broken,
    draw_task,
    draw_trajectories,
    exact_bands,
    sheet,
    task_of,
)
from callbacks.heatmaps import render
from callbacks.steps import LARGEST, LOOKED, TARGET, draw_step, most_attended
from tabattn.contract.batches import PairBatch
from tabattn.contract.views import ExactDensity
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


def named(drawn: Trajectories, exact: ExactDensity | None = None) -> list[tuple[str, Task]]:
    return [(f"task {number}", task_of(drawn, number, exact)) for number in range(2)]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


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
    figure = draw_trajectories(named(found(mean, samples)), "title")
    pixels = render(figure)
    assert has(pixels, CONTEXT)
    assert has(pixels, MEAN) == mean
    assert has(pixels, SAMPLE) == (samples > 0)
    assert {(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes} == {("location x", "value y")}
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [f"task {number}: first error +0.50, RMSE 0.50" if mean else f"task {number}" for number in (0, 1)]


def test_a_step_shows_its_target_and_the_points_it_looked_at() -> None:
    weights = torch.tensor([[0.1, 0.2, 0.0, 0.3, 0.4]])
    figure = draw_step(found(), 0, [Attended(2, "layer", weights)], None, "title")
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
    pixels = render(draw_trajectories(named(some._replace(batch=some.batch._replace(y=y))), "title"))
    assert has(pixels, MEAN)


def has_colour(dots: Any, colour: str) -> bool:
    face = dots.get_facecolor()
    return bool(len(face)) and bool(np.allclose(face[0, :3], to_rgb(colour)))


def exact_density() -> ExactDensity:
    """Mixtures of two Gaussians for the targets of ``found``, one of which is padding."""
    means = torch.arange(12.0, dtype=torch.double).view(2, 3, 2)
    means[1, 2] = math.nan
    return ExactDensity(torch.tensor([[0.25, 0.75], [1.0, 0.0]]).double(), means, torch.full_like(means, 0.5))


def test_exact_bands_are_the_mean_and_quantiles_of_a_mixture() -> None:
    exact = exact_density()
    mean, low, high = exact_bands(exact, 0)
    mixture = MixtureSameFamily(Categorical(exact.weights[:1]), Normal(exact.means[0], exact.stds[0]))
    np.testing.assert_allclose(mean, mixture.mean)
    for ends, level in ((low, 0.05), (high, 0.95)):
        np.testing.assert_allclose(mixture.cdf(torch.as_tensor(ends)), level, atol=1e-6)
    assert np.isnan(exact_bands(exact, 1)[:, 2]).all()


def test_the_exact_density_is_drawn_beside_the_prediction() -> None:
    with_exact = draw_trajectories(named(found(), exact_density()), "title")
    lines = [line for line in with_exact.axes[0].lines if line.get_color() == EXACT]
    expected = exact_bands(exact_density(), 0)
    for line, values in zip(lines, expected, strict=True):
        np.testing.assert_allclose(line.get_xydata(), np.stack([[4, 5, 6], values], 1))
    assert [line.get_linestyle() for line in lines] == ["--", ":", ":"]
    low, high = with_exact.axes[0].get_ylim()
    assert low < expected.min() < expected.max() < high
    assert has(render(with_exact), EXACT)
    missed = np.sqrt(np.mean((expected[0] - [4, 5, 6]) ** 2))
    assert with_exact.axes[0].get_title() == f"task 0: first error +0.50, RMSE 0.50 (exact {missed:.2f})"
    assert texts(with_exact)[-2:] == ["exact mean", "exact 90 % interval"]
    without = draw_trajectories(named(found()), "title")
    assert not any("exact" in text for text in texts(without))


def test_single_sequences_have_no_given_one() -> None:
    single = found()._replace(batch=found().batch._replace(member=torch.zeros(2, 7).long()))
    assert "given sequence" not in texts(draw_trajectories(named(single), "title"))
    assert "given sequence" in texts(draw_trajectories(named(found()), "title"))


def test_each_head_of_each_layer_has_a_panel_with_points_by_weight() -> None:
    weights = torch.tensor([[0.5, 0.25, 0.0, 0.25, 0.0], [0.0, 0.0, 0.999, 0.0, 0.001]])
    looks = [Attended(2, name, weights) for name in ("first", "second")]
    figure = draw_step(found(), 0, looks, [1, 0], "title")
    assert [axes.get_title() for axes in figure.axes] == [
        f"{layer}\nhead {head}, largest weight {weight}"
        for layer in ("first", "second")
        for head, weight in ((1, "1.00"), (0, "0.50"))
    ]
    for axes, areas in zip(figure.axes[:2], ([LARGEST], [LARGEST, LARGEST / 2, LARGEST / 2]), strict=True):
        (dots,) = [each for each in axes.collections if has_colour(each, LOOKED)]
        assert dots.get_sizes().tolist() == pytest.approx(areas)
    assert "attended (area: weight)" in texts(figure)
    assert has(render(figure), GIVEN)
    nothing = draw_step(found(), 0, [Attended(1, "layer", torch.zeros(1, 4))], [0], "title")
    assert not any(len(each.get_offsets()) for each in nothing.axes[0].collections if has_colour(each, LOOKED))


def test_lines_break_at_context_and_a_single_target_is_a_short_level_line() -> None:
    x = np.array([9.0, 0, 1, 5, 4])
    places, (line,) = broken(x, 10 * x[None], context=np.array([7.0, 2, 6]))
    half = 0.004 * 9
    assert np.nan_to_num(places, nan=-1) == pytest.approx([0, 1, -1, 4, 5, -1, 9 - half, 9 + half])
    assert np.nan_to_num(line, nan=-1) == pytest.approx([0, 10, -1, 40, 50, -1, 90, 90])


@pytest.mark.parametrize("context", [[], [-1.0], [0.0], [2.5]])
def test_lines_without_context_between_targets_do_not_break(context: list[float]) -> None:
    places, lines = broken(np.array([2.0, 0, 1]), np.array([[2.0, 0, 1], [5, 3, 4]]), np.array(context))
    assert places.tolist() == [0, 1, 2]
    assert lines.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_bands_and_exact_lines_break_at_context_of_their_own_sequence() -> None:
    x = np.array([0.0, 1, 3, 4])
    bands = np.arange(5.0)[:, None] + x
    task = Task(
        x=np.array([2.0, 0.5]),
        y=np.zeros(2),
        member=np.array([0.0, 1]),
        target_x=x,
        target_y=x,
        target_member=np.zeros(4),
        mean=None,
        samples=np.zeros((0, 4)),
        quantiles=bands,
        exact=bands[:3],
    )
    axes = sheet(1, "")[1][0]
    draw_task(axes, task)
    exact = [line for line in axes.lines if line.get_color() == EXACT]
    assert [np.nan_to_num(line.get_xdata(), nan=-1).tolist() for line in exact] == [[0, 1, -1, 3, 4]] * 3
    assert np.nan_to_num(exact[0].get_ydata(), nan=-1).tolist() == [0, 1, -1, 3, 4]
    wide, narrow = axes.collections[:2]
    for band, low, high in ((wide, 0, 4), (narrow, 1, 3)):
        parts = [path.vertices for path in band.get_paths()]
        assert [(part[:, 0].min(), part[:, 0].max()) for part in parts] == [(0, 1), (3, 4)]
        assert (parts[0][:, 1].min(), parts[0][:, 1].max()) == (low, high + 1)
