"""Gaussian process regression with relevance of columns (ARD), by marginal likelihood, with leave-one-out residuals."""

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cholesky, lapack
from scipy.optimize import minimize

from tabattn.contract.columns import Floats

MOST_FITTED = 512
"""Most rows from which hyperparameters are estimated."""

STEPS = 40
"""Most steps of the optimiser, at up to ``WIDE`` features; of more features, correspondingly fewer."""

WIDE = 256
"""Number of features from which the optimiser takes fewer steps."""

PRECISION = 0.1
"""Precision of the normal prior of the logarithms of relevances and amplitudes, around where they start."""

VAGUE = 0.05
"""Precision of the prior of the logarithms of the linear amplitude and of the noise."""

LEAST_NOISE = 1e-6
"""Smallest variance of the noise."""

BOUNDS = (-12.0, 6.0)
"""Bounds of the other logarithms."""

TINY = 1e-12
"""Added to squared distances, so that the gradient of their root is finite."""

CHUNK_ROWS = 1000
"""Rows that are predicted at once."""


class Features(NamedTuple):
    """Features and their groups.

    Attributes:
        x: Features, ``(rows, features)``.
        groups: Group of each feature, from 0; those of a group share their relevance, ``(features,)``.
    """

    x: Floats
    groups: NDArray[np.int64]


class Moments(NamedTuple):
    """Predicted means and standard deviations with the noise, each ``(rows,)``."""

    mean: Floats
    std: Floats


class Kernel:
    """Sum of a Matérn-5/2 and a Matérn-1/2 (Laplace) kernel, each with relevances, and a linear kernel.

    A relevance is the inverse squared length scale of a group of features. Hyperparameters are a vector of logarithms:
    relevances and amplitude (variance) of the first kernel, then of the second, then the linear amplitude.

    Args:
        groups: Group of each feature, ``(features,)``.
        columns: Number of columns of the table, by which the linear kernel is divided.
    """

    def __init__(self, groups: NDArray[np.int64], columns: int) -> None:
        self.groups = groups
        self.columns = columns
        self.count = int(groups.max()) + 1

    @property
    def start(self) -> Floats:
        """Hyperparameters from which the optimiser starts, where their prior is centred."""
        relevance, half = np.full(self.count, -np.log(self.columns)), -np.log(2)
        return np.concatenate([relevance, [half], relevance + 1, [half], [-1.0]])

    def __call__(self, theta: Floats, a: Floats, b: Floats) -> Floats:
        """Kernel of rows ``(rows, features)`` and others, ``(rows, others)``."""
        out: Floats = np.exp(theta[-1]) / self.columns * (a @ b.T)
        for (scale, amplitude), profile in zip(self._parts(theta), (matern_5_2, matern_1_2), strict=True):
            out += amplitude * profile(squares(a * scale, b * scale))[0]
        return out

    def diagonal(self, theta: Floats, a: Floats) -> Floats:
        """Kernel of each row with itself, ``(rows,)``."""
        amplitudes = sum(amplitude for _, amplitude in self._parts(theta))
        return np.exp(theta[-1]) / self.columns * np.square(a).sum(1) + amplitudes

    def gradient(self, theta: Floats, a: Floats, outer: Floats) -> Floats:
        """Gradient of the sum of the kernel matrix times a symmetric one, by the hyperparameters."""
        parts: list[Floats] = []
        for (scale, amplitude), profile in zip(self._parts(theta), (matern_5_2, matern_1_2), strict=True):
            scaled = a * scale
            value, slope = profile(squares(scaled, scaled))
            weights = amplitude * outer * slope
            # The squared distance of each feature, summed with these weights, without a matrix for each.
            each = 2 * (np.square(scaled) * weights.sum(1)[:, None] - scaled * (weights @ scaled)).sum(0)
            total = float((outer * value).sum())
            parts += [np.bincount(self.groups, each, self.count).astype(np.float64), np.array([amplitude * total])]
        linear = np.exp(theta[-1]) / self.columns * (a * (outer @ a)).sum()
        return np.concatenate([*parts, [linear]])

    def _parts(self, theta: Floats) -> list[tuple[Floats, float]]:
        """Roots of the relevances of the features, and amplitude, of each Matérn kernel."""
        size = self.count + 1
        halves = theta[:size], theta[size : 2 * size]
        return [(np.exp(0.5 * half[:-1])[self.groups], float(np.exp(half[-1]))) for half in halves]


class GaussianProcess:
    """Gaussian process of mean 0, whose hyperparameters have the largest posterior density given its rows.

    The density is the marginal likelihood of at most ``MOST_FITTED`` rows, times a weak normal prior of the logarithms.
    All rows are the context of predictions. Rasmussen & Williams 2006, chapters 2 and 5.

    Args:
        kernel: The kernel.
        theta: Its hyperparameters, and the logarithm of the variance of the noise.
        x: Context rows, ``(rows, features)``.
        z: Their targets, ``(rows,)``.
    """

    def __init__(self, kernel: Kernel, theta: Floats, x: Floats, z: Floats) -> None:
        self.kernel = kernel
        self.theta = theta
        self.x = x
        self.z = z
        self.inverse, _ = inverted(with_noise(kernel(theta[:-1], x, x), theta[-1]))
        self.weights = self.inverse @ z

    @classmethod
    def fit(cls, features: Features, columns: int, z: Floats, random: np.random.RandomState) -> Self:
        """Estimate the hyperparameters and condition on all rows.

        Args:
            features: Features of the context rows.
            columns: Number of columns of the table.
            z: Standardised targets, ``(rows,)``.
            random: Source of the sample of rows for the hyperparameters.
        """
        kernel = Kernel(features.groups, columns)
        rows = np.sort(random.permutation(len(z))[:MOST_FITTED])
        start = np.append(kernel.start, -3.0)
        precision = np.full(len(start), PRECISION)
        precision[-2:] = VAGUE
        x, chosen = features.x[rows], z[rows]

        def loss(theta: Floats) -> tuple[float, Floats]:
            value, gradient = negative_log_likelihood(kernel, theta, x, chosen)
            apart = theta - start
            return value + 0.5 * float(precision @ np.square(apart)), gradient + precision * apart

        bounds = [BOUNDS] * (len(start) - 1) + [(np.log(LEAST_NOISE), BOUNDS[1])]
        steps = max(5, STEPS * WIDE // max(WIDE, x.shape[1]))
        found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": steps})
        return cls(kernel, found.x, features.x, z)

    def left_out(self) -> Moments:
        """Moments of each context row given all others, in closed form (Rasmussen & Williams, equations 5.12)."""
        precision = self.inverse.diagonal()
        return Moments(self.z - self.weights / precision, 1 / np.sqrt(precision))

    def predict(self, x: Floats) -> Moments:
        """Moments of further rows, ``(rows, features)``."""
        theta, noise = self.theta[:-1], np.exp(self.theta[-1])
        means, variances = [np.zeros(0)], [np.zeros(0)]
        for start in range(0, len(x), CHUNK_ROWS):
            part = x[start : start + CHUNK_ROWS]
            cross = self.kernel(theta, part, self.x)
            known = (cross @ self.inverse * cross).sum(1)
            means.append(cross @ self.weights)
            variances.append(np.maximum(self.kernel.diagonal(theta, part) - known, 0.0) + noise)
        return Moments(np.concatenate(means), np.sqrt(np.concatenate(variances)))


def negative_log_likelihood(kernel: Kernel, theta: Floats, x: Floats, z: Floats) -> tuple[float, Floats]:
    """Negative logarithm of the marginal likelihood without its constant, and its gradient.

    Args:
        kernel: The kernel.
        theta: Its hyperparameters, and the logarithm of the variance of the noise.
        x: Rows, ``(rows, features)``.
        z: Targets, ``(rows,)``.
    """
    try:
        inverse, log_determinant = inverted(with_noise(kernel(theta[:-1], x, x), theta[-1]))
    except LinAlgError:  # The optimiser then takes a smaller step.
        return np.inf, np.zeros_like(theta)
    weights = inverse @ z
    outer = 0.5 * (inverse - np.outer(weights, weights))
    gradient = np.append(kernel.gradient(theta[:-1], x, outer), np.exp(theta[-1]) * np.trace(outer))
    return 0.5 * (float(z @ weights) + log_determinant), gradient


def with_noise(matrix: Floats, log_noise: float) -> Floats:
    """Covariance with the variance of the noise on its diagonal, in place."""
    matrix[np.diag_indices_from(matrix)] += np.exp(log_noise)
    return matrix


def inverted(matrix: Floats) -> tuple[Floats, float]:
    """Inverse and log-determinant of a positive definite matrix."""
    factor = cholesky(matrix, lower=True, check_finite=False)
    lower = np.tril(lapack.dpotri(factor, lower=True)[0])
    return lower + np.tril(lower, -1).T, 2 * float(np.log(factor.diagonal()).sum())


def squares(a: Floats, b: Floats) -> Floats:
    """Squared Euclidean distances of rows, ``(rows, others)``."""
    found: Floats = np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * (a @ b.T)
    return np.maximum(found, 0.0, out=found)


def matern_5_2(square: Floats) -> tuple[Floats, Floats]:
    """Matérn kernel of smoothness 5/2 of squared distances, and its derivative by them."""
    root = np.sqrt(5 * square)
    decay = np.exp(-root)
    return (1 + root + root * root / 3) * decay, -5 / 6 * (1 + root) * decay


def matern_1_2(square: Floats) -> tuple[Floats, Floats]:
    """Matérn kernel of smoothness 1/2 (Laplace) of squared distances, and its derivative by them."""
    root = np.sqrt(square + TINY)
    decay = np.exp(-root)
    return decay, -0.5 * decay / root
