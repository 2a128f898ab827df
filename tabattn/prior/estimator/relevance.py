"""Feature learning of a kernel method: weights of the columns in its distance, from the gradients of a first fit."""

from typing import NamedTuple, Self

import numpy as np

from tabattn.contract.columns import Floats
from tabattn.prior.estimator.cells import Cells


class Metric(NamedTuple):
    """Weighted city-block distance of cells: the weight of each column of numbers, and of each column of codes."""

    numbers: Floats
    codes: Floats

    @classmethod
    def equal(cls, cells: Cells) -> Self:
        """Equal weights, of 1."""
        return cls(np.ones(cells.numbers.shape[1]), np.ones(cells.codes.shape[1]))


class Fit(NamedTuple):
    """Kernel method that was fitted to its context rows.

    Attributes:
        context: Context rows.
        kernel: Laplace part of the kernel of some rows and the context, ``(rows, context)``.
        slope: Rate at which the logarithm of that part falls with the weighted distance of the cells.
        weights: Weight of each context row in the score of each class, ``(context, classes)``.
        metric: The metric of the distance.
        columns: Number of columns, by which the linear part is divided.
    """

    context: Cells
    kernel: Floats
    slope: float
    weights: Floats
    metric: Metric
    columns: int


def learned_metric(rows: Cells, fit: Fit) -> Metric:
    """Metric whose weights are the root mean squared gradients of a fitted kernel method at some rows, of mean 1.

    One step of a recursive feature machine with a diagonal average gradient outer product (Radhakrishnan et al., 2024,
    arXiv 2212.13881; for tables, xRFM, arXiv 2508.10053). The gradient by a category is that by its one-hot code.
    A column of codes counts twice in the mean, as two codes differ in two places. The weights are equal if the scores
    do not depend on any column.

    Args:
        rows: Rows at which the gradients are taken.
        fit: The kernel method at these rows.
    """
    numbers = np.array([_by_number(rows, fit, column) for column in range(rows.numbers.shape[1])])
    codes = np.array([_by_code(rows, fit, column) for column in range(rows.codes.shape[1])])
    mean = (numbers.sum() + 2 * codes.sum()) / max(len(numbers) + 2 * len(codes), 1)
    if not mean > 0:
        return Metric.equal(rows)
    return Metric(numbers / mean, codes / mean)


def _by_number(rows: Cells, fit: Fit, column: int) -> float:
    """Root mean squared gradient by a column of numbers."""
    theirs = fit.context.numbers[:, column]
    signs = np.sign(rows.numbers[:, column, None] - theirs)
    laplace = -fit.slope * fit.metric.numbers[column] * ((signs * fit.kernel) @ fit.weights)
    return _root_mean_square(laplace + theirs @ fit.weights / fit.columns)


def _by_code(rows: Cells, fit: Fit, column: int) -> float:
    """Root of the sum of the mean squared gradients by the one-hot code of a column."""
    ours, theirs = rows.codes[:, column, None], fit.context.codes[:, column]
    slope, total = fit.slope * fit.metric.codes[column], fit.kernel @ fit.weights
    parts = []
    for code in np.unique(theirs):
        same = theirs == code
        own = fit.kernel[:, same] @ fit.weights[same]
        linear = fit.weights[same].sum(0) / fit.columns
        parts.append(_root_mean_square(slope * (own - (ours == code) * total) + linear))
    return float(np.linalg.norm(parts))


def _root_mean_square(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2)))
