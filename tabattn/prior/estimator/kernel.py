"""Kernel ridge classifier: the ensemble member that is fitted to the table, beside those of a pretrained network."""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, cholesky, lapack
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import cdist
from scipy.special import log_softmax

from tabattn.contract.columns import Floats
from tabattn.prior.estimator.cells import Cells, CellScaler
from tabattn.prior.estimator.codes import Codes, sample_rows
from tabattn.prior.estimator.ensemble import Scales
from tabattn.prior.estimator.relevance import Fit, Metric, learned_metric

WIDTH, WIDTHS = 1.0, (0.3, 3.0)
"""Rate at which the Laplace kernel falls with the mean distance of a column: that which is tried first, and others."""

RIDGES = (0.1, 1.0)
"""Penalties of the squared norm."""

LOG_SHARPNESS = (-1.0, 4.0)
"""Bounds of the logarithm of the factor from scores to logits."""

GRADIENT_ROWS = 200
"""Most rows at which gradients are taken."""

MOST_ROWS = 2000
"""Most rows of a fit, whose time grows with their cube."""

LEAST = float(np.log(1e-6))
"""Smallest log-probability of a class."""

CHUNK_ROWS = 1000
"""Rows whose kernel is computed at once."""


class Solution(NamedTuple):
    """Solution for one width and ridge.

    Attributes:
        loss: Mean leave-one-out log-loss.
        width: Rate of the Laplace kernel.
        ridge: Penalty of the squared norm.
        sharpness: Factor from scores to logits.
        weights: Weight of each context row in the score of each class, ``(context, classes)``.
        metric: Weights of the columns in the distance.
    """

    loss: float
    width: float
    ridge: float
    sharpness: float
    weights: Floats
    metric: Metric


class KernelClassifier:
    """Kernel ridge classifier: ridge regression of class indicators, with a Laplace plus a linear kernel.

    The kernel is ``exp(-width |a - b|) + a b`` of the mean over columns: numbers are standardised and rank-scaled,
    categories one-hot, and a missing number is 0. Ridge and width are those with the least leave-one-out log-loss, in
    closed form, as is the factor that turns scores into logits. A second fit weights the columns of the distance by the
    gradients of the first (``relevance``), and is kept if its leave-one-out log-loss is lower. All of it happens at the
    first prediction.

    Args:
        x: Context rows, ``(rows, features)``; NaN = missing.
        y: Class of each row, ``(rows,)``; every class occurs.
        categorical: Which columns hold codes of categories.
        scales: Scalings of the columns, fitted to the context rows.
        limit: Most rows; of more, a stratified sample is drawn. Never more than ``MOST_ROWS``, if there are as few
            classes.
        seed: Seed of the sample.
    """

    def __init__(
        self, x: Floats, y: Codes, categorical: NDArray[np.bool_], scales: Scales, limit: int, seed: int
    ) -> None:
        self._cells = CellScaler(scales, categorical)
        most = max(min(limit, MOST_ROWS), int(y.max()) + 1)
        rows = sample_rows(y, most, np.random.RandomState(seed))
        self.context = self._cells(x[rows])
        self.y = y[rows]

    @cached_property
    def priors(self) -> Floats:
        """Share of each class, ``(classes,)``."""
        return np.bincount(self.y) / len(self.y)

    @cached_property
    def solution(self) -> Solution:
        """Solution with the least leave-one-out log-loss."""
        first, width = self._first, self._first.width
        learned = self._search(self._learned, width, (width / 2, 2 * width), (first.ridge,))
        return min(first, learned, key=lambda solution: solution.loss)

    @cached_property
    def relevance(self) -> Floats:
        """Relevance of each column: its weight in the learned distance, ``(features,)``."""
        metric, flags = self._learned, self._cells.categorical
        found = np.zeros(len(flags))
        found[~flags] = metric.numbers.reshape(2, -1).sum(0)
        found[flags] = 2 * metric.codes
        return found

    @cached_property
    def _first(self) -> Solution:
        """Solution with equal weights of all columns."""
        return self._search(Metric.equal(self.context), WIDTH, WIDTHS, RIDGES)

    @cached_property
    def _learned(self) -> Metric:
        """Weights of the columns by the gradients of the first solution, at rows spread evenly."""
        at = np.linspace(0, len(self.y) - 1, min(len(self.y), GRADIENT_ROWS)).astype(np.int64)
        rows = Cells(self.context.numbers[at], self.context.codes[at])
        first, columns = self._first, len(self._cells.categorical)
        distance, _ = self._compare(rows, first.metric)
        kernel, slope = np.exp(-first.width * distance), first.width / columns
        return learned_metric(rows, Fit(self.context, kernel, slope, first.weights, first.metric, columns))

    def log_probabilities(self, x: Floats) -> Floats:
        """Log-probabilities of the classes, ``(rows, classes)``, of rows ``(rows, features)``; NaN = missing."""
        parts = [self._scores(x[start : start + CHUNK_ROWS]) for start in range(0, max(len(x), 1), CHUNK_ROWS)]
        return np.maximum(log_softmax(self.solution.sharpness * np.concatenate(parts), axis=1), LEAST)

    def _scores(self, x: Floats) -> Floats:
        distance, product = self._compare(self._cells(x), self.solution.metric)
        return self.priors + (np.exp(-self.solution.width * distance) + product) @ self.solution.weights

    def _search(self, metric: Metric, width: float, widths: Sequence[float], ridges: Sequence[float]) -> Solution:
        """Solution with the least loss: of the ridges at one width, then of other widths with the best ridge."""
        distance, product = self._compare(self.context, metric)

        def solve(width: float, ridge: float) -> Solution:
            loss, sharpness, weights = self._solve(np.exp(-width * distance) + product, ridge)
            return Solution(loss, width, ridge, sharpness, weights, metric)

        best = min((solve(width, ridge) for ridge in ridges), key=lambda solution: solution.loss)
        others = (solve(other, best.ridge) for other in widths)
        return min((best, *others), key=lambda solution: solution.loss)

    def _solve(self, kernel: Floats, ridge: float) -> tuple[float, float, Floats]:
        """Leave-one-out loss, sharpness and weights of a ridge regression.

        In closed form: a leave-one-out residual is the weight over the inverse's diagonal.
        """
        kernel = kernel.copy(order="F")
        kernel[np.diag_indices_from(kernel)] += ridge
        factor = cholesky(kernel, lower=True, overwrite_a=True, check_finite=False)
        inverse = lapack.dpotri(factor, lower=True, overwrite_c=True)[0]
        targets = np.eye(len(self.priors))[self.y] - self.priors
        weights = blas.dsymm(1.0, inverse, targets, lower=True)
        left_out = targets + self.priors - weights / inverse.diagonal()[:, None]
        rows = np.arange(len(self.y))

        def loss(log_sharpness: float) -> float:
            return -float(log_softmax(np.exp(log_sharpness) * left_out, axis=1)[rows, self.y].mean())

        best = minimize_scalar(loss, bounds=LOG_SHARPNESS, method="bounded", options={"maxiter": 12})
        return float(best.fun), float(np.exp(best.x)), weights

    def _compare(self, rows: Cells, metric: Metric) -> tuple[Floats, Floats]:
        """Mean weighted distance and mean product of the columns, of rows and context, each ``(rows, context)``."""
        columns, categories = len(self._cells.categorical), self.context.codes.shape[1]
        distance = np.zeros((len(rows.numbers), len(self.y)))
        product = rows.numbers @ self.context.numbers.T
        if categories < columns:
            distance += cdist(rows.numbers * metric.numbers, self.context.numbers * metric.numbers, "cityblock")
        if categories:
            product += categories - cdist(rows.codes, self.context.codes, "hamming") * categories
            if (total := metric.codes.sum()) > 0:
                distance += 2 * total * cdist(rows.codes, self.context.codes, "hamming", w=metric.codes / total)
        return distance / columns, product / columns
