"""Kernel ridge classifier: the ensemble member that is fitted to the table, beside those of a pretrained network."""

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

WIDTHS = (0.3, 1.0, 3.0)
"""Rates at which the Laplace kernel falls with the mean distance of a column."""

RIDGES = (0.1, 1.0)
"""Penalties of the squared norm."""

LOG_SHARPNESS = (-1.0, 4.0)
"""Bounds of the logarithm of the factor from scores to logits."""

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
        sharpness: Factor from scores to logits.
        weights: Weight of each context row in the score of each class, ``(context, classes)``.
    """

    loss: float
    width: float
    sharpness: float
    weights: Floats


class KernelClassifier:
    """Kernel ridge classifier: ridge regression of class indicators, with a Laplace plus a linear kernel.

    The kernel is ``exp(-width |a - b|) + a b`` of the mean over columns: numbers are standardised and rank-scaled,
    categories one-hot, and a missing number is 0. Width and ridge have the least leave-one-out log-loss, in closed
    form, as has the factor that turns scores into logits. It is fitted at the first prediction.

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
        distance, product = self._compare(self.context)
        found: list[Solution] = []
        for width in WIDTHS:
            kernel = np.exp(-width * distance) + product
            found.extend(self._solve(kernel, width, ridge) for ridge in RIDGES)
        return min(found, key=lambda solution: solution.loss)

    def log_probabilities(self, x: Floats) -> Floats:
        """Log-probabilities of the classes, ``(rows, classes)``, of rows ``(rows, features)``; NaN = missing."""
        parts = [self._scores(x[start : start + CHUNK_ROWS]) for start in range(0, max(len(x), 1), CHUNK_ROWS)]
        return np.maximum(log_softmax(self.solution.sharpness * np.concatenate(parts), axis=1), LEAST)

    def _scores(self, x: Floats) -> Floats:
        distance, product = self._compare(self._cells(x))
        return self.priors + (np.exp(-self.solution.width * distance) + product) @ self.solution.weights

    def _solve(self, kernel: Floats, width: float, ridge: float) -> Solution:
        """Ridge regression in closed form; a leave-one-out residual is the weight over the inverse's diagonal."""
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
        return Solution(float(best.fun), width, float(np.exp(best.x)), weights)

    def _compare(self, rows: Cells) -> tuple[Floats, Floats]:
        """Mean distance and product of the columns, of rows and context rows, each ``(rows, context)``."""
        columns, categories = len(self._cells.categorical), self.context.codes.shape[1]
        distance = np.zeros((len(rows.numbers), len(self.y)))
        product = rows.numbers @ self.context.numbers.T
        if categories < columns:
            distance += cdist(rows.numbers, self.context.numbers, "cityblock")
        if categories:
            differ = cdist(rows.codes, self.context.codes, "hamming") * categories
            distance += 2 * differ
            product += categories - differ
        return distance / columns, product / columns
