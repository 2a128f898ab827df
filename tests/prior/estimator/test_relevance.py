"""Weights of columns: root mean squared gradients, against finite differences of the scores."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tabattn.prior.estimator.cells import Cells
from tabattn.prior.estimator.relevance import Fit, Metric, learned_metric

SLOPE, COLUMNS = 0.4, 4
METRIC = Metric(np.array([0.5, 1.5, 1.0, 2.0]), np.array([0.7, 1.8]))


def one_hot(cells: Cells) -> NDArray[np.float64]:
    """Numbers, and a column for each code of each column of codes."""
    return np.column_stack([cells.numbers, *(cells.codes[:, [j]] == np.arange(-1, 3) for j in range(2))])


def laplace(rows: NDArray[np.float64], context: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.concatenate([METRIC.numbers, np.repeat(METRIC.codes, 4)])
    return np.exp(-SLOPE * (weights * np.abs(rows[:, None] - context[None])).sum(-1))


def scores(
    rows: NDArray[np.float64], context: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    return (laplace(rows, context) + rows @ context.T / COLUMNS) @ weights


def made() -> tuple[Cells, Cells, NDArray[np.float64]]:
    """Rows, context and weights of three classes; the numbers of rows differ from those of the context."""
    source = np.random.default_rng(0)
    rows, context = (Cells(source.normal(size=(n, 4)), source.integers(-1, 3, (n, 2)) * 1.0) for n in (7, 15))
    return rows, context, source.normal(size=(15, 3))


def test_weights_are_root_mean_squared_gradients() -> None:
    rows, context, weights = made()
    x, z = one_hot(rows), one_hot(context)
    squares, step = [], 1e-6
    for column in range(x.shape[1]):
        ends = []
        for change in (-step, step):
            moved = x.copy()
            moved[:, column] += change
            ends.append(scores(moved, z, weights))
        gradient = (ends[1] - ends[0]) / (2 * step)
        squares.append(np.mean(gradient**2))
    expected = np.sqrt(np.array([*squares[:4], sum(squares[4:8]), sum(squares[8:])]))
    expected /= (expected[:4].sum() + 2 * expected[4:].sum()) / 8
    kernel = laplace(x, z)
    found = learned_metric(rows, Fit(context, kernel, SLOPE, weights, METRIC, COLUMNS))
    np.testing.assert_allclose([*found.numbers, *found.codes], expected, rtol=1e-4)
    assert (found.numbers.sum() + 2 * found.codes.sum()) / 8 == pytest.approx(1)


def test_weights_are_equal_without_any_gradient() -> None:
    rows, context, weights = made()
    fit = Fit(context, np.zeros((7, 15)), SLOPE, 0 * weights, METRIC, COLUMNS)
    found = learned_metric(rows, fit)
    assert (found.numbers.tolist(), found.codes.tolist()) == ([1.0] * 4, [1.0] * 2)
