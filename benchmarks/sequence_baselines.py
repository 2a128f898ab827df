"""Baselines of ``benchmarks.sequence_inferrer``: densities of the hidden values of a window, without a network."""

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import RidgeCV

Floats = NDArray[np.float64]
LAGS = 3
"""Rows before and after a row whose values of the complete sequences the ridge regression reads."""
PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
LEARNED = 8
"""Training windows that give the Gaussian process its hyperparameters."""
RINGS = 4
"""Number of ranges of the distance to the context, each with a standard deviation of its own."""


class Window(NamedTuple):
    """Part of a table: the sequence to infer, some of whose values are hidden, and complete sequences.

    Attributes:
        x: Location of each row, ``(rows,)``.
        y: Values of the sequence to infer, ``(rows,)``; NaN = not observed.
        others: Values of the complete sequences, ``(rows, sequences)``.
        shown: Whether the value is context, ``(rows,)`` boolean.
    """

    x: Floats
    y: Floats
    others: Floats
    shown: NDArray[np.bool_]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Rows of the context with a value."""
        return self.shown & np.isfinite(self.y)

    @property
    def hidden(self) -> NDArray[np.bool_]:
        """Rows to infer whose value is known to the score."""
        return ~self.shown & np.isfinite(self.y)

    @property
    def distance(self) -> Floats:
        """Distance of each row to infer to the nearest context."""
        gaps = np.abs(self.x[self.hidden, None] - self.x[None, self.known])
        return np.asarray(gaps.min(1)) if self.known.any() else np.full(int(self.hidden.sum()), np.inf)


class Method(Protocol):
    """Function of a window to means and standard deviations of its hidden values."""

    def __call__(self, window: Window) -> tuple[Floats, Floats]: ...


def marginal(train: Sequence[Window]) -> Method:
    """Normal distribution of all values of the training windows."""
    values = np.concatenate([window.y[np.isfinite(window.y)] for window in train])
    mean, std = float(values.mean()), float(values.std())

    def infer(window: Window) -> tuple[Floats, Floats]:
        count = int(window.hidden.sum())
        return np.full(count, mean), np.full(count, std)

    return infer


def interpolation(train: Sequence[Window]) -> Method:
    """Straight lines between the values of the context, and the nearest value outside them."""
    middle = float(np.nanmean(np.concatenate([window.y for window in train])))

    def mean(window: Window) -> Floats:
        if not window.known.any():
            return np.full(int(window.hidden.sum()), middle)
        return np.interp(window.x[window.hidden], window.x[window.known], window.y[window.known])

    return spread(mean, train)


def ridge(train: Sequence[Window]) -> Method:
    """Ridge regression on the complete sequences at a row and near it, learned on all training windows."""
    return spread(_regression(train), train)


def shifted_ridge(train: Sequence[Window]) -> Method:
    """The same, shifted to the level of the context."""
    predict = _regression(train, hidden=False)

    def mean(window: Window) -> Floats:
        found, known = predict(window), window.known
        off = float((window.y[known] - found[known]).mean()) if known.any() else 0.0
        return np.asarray(found[window.hidden] + off)

    return spread(mean, train)


def gaussian_process(train: Sequence[Window]) -> Method:
    """Gaussian process of the sequence to infer over locations, with the hyperparameters of training windows."""
    values = np.concatenate([window.y[np.isfinite(window.y)] for window in train])
    middle, scale = float(values.mean()), float(values.std())
    span = float(np.ptp(train[0].x))
    kernel = ConstantKernel(1.0, (0.05, 20.0)) * RBF(span / 8, (span / 100, 4 * span)) + WhiteKernel(0.01, (1e-5, 1.0))
    chosen = train[:: max(1, len(train) // LEARNED)][:LEARNED]
    apart = [1e3 * span * number + window.x[np.isfinite(window.y)] for number, window in enumerate(chosen)]
    seen = np.concatenate([window.y[np.isfinite(window.y)] for window in chosen])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        learned = GaussianProcessRegressor(kernel).fit(np.concatenate(apart)[:, None], (seen - middle) / scale).kernel_

    def infer(window: Window) -> tuple[Floats, Floats]:
        known, hidden = window.known, window.hidden
        if not known.any():
            return np.full(int(hidden.sum()), middle), np.full(int(hidden.sum()), scale)
        process = GaussianProcessRegressor(learned, optimizer=None)
        process.fit(window.x[known, None], (window.y[known] - middle) / scale)
        mean, std = process.predict(window.x[hidden, None], return_std=True)
        return middle + scale * mean, scale * std

    return infer


BASELINES: dict[str, Callable[[Sequence[Window]], Method]] = {
    "marginal normal": marginal,
    "linear interpolation": interpolation,
    "ridge": ridge,
    "ridge, shifted to the context": shifted_ridge,
    "Gaussian process": gaussian_process,
}
"""Methods by name: what they learn from training windows."""


def spread(mean: Callable[[Window], Floats], train: Sequence[Window]) -> Method:
    """Means with the root mean squared error in training as standard deviation, by distance to the context."""
    errors = np.concatenate([window.y[window.hidden] - mean(window) for window in train])
    distances = np.concatenate([window.distance for window in train])
    ends = np.unique(np.quantile(distances, np.linspace(0, 1, RINGS + 1)[1:-1], method="lower"))
    ring = np.searchsorted(ends, distances)
    whole = float(np.sqrt((errors**2).mean()))
    stds = [
        float(np.sqrt((errors[ring == own] ** 2).mean())) if (ring == own).any() else whole
        for own in range(len(ends) + 1)
    ]
    table = np.maximum(np.array(stds), 1e-3 * whole)

    def infer(window: Window) -> tuple[Floats, Floats]:
        return mean(window), table[np.searchsorted(ends, window.distance)]

    return infer


def _regression(train: Sequence[Window], hidden: bool = True) -> Callable[[Window], Floats]:
    """Prediction of all rows of a window, or of the hidden ones."""
    features = np.concatenate([_features(window)[np.isfinite(window.y)] for window in train])
    values = np.concatenate([window.y[np.isfinite(window.y)] for window in train])
    mean, std = features.mean(0), features.std(0) + 1e-12
    model = RidgeCV(alphas=PENALTIES).fit((features - mean) / std, values)

    def predict(window: Window) -> Floats:
        found = np.asarray(model.predict((_features(window) - mean) / std))
        return found[window.hidden] if hidden else found

    return predict


def _features(window: Window) -> Floats:
    """Complete sequences at each row and the rows near it; at the ends those of the end."""
    rows = np.arange(len(window.x))
    filled = np.nan_to_num(window.others, nan=float(np.nanmean(window.others)))
    near = [filled[np.clip(rows + lag, 0, len(rows) - 1)] for lag in range(-LAGS, LAGS + 1)]
    return np.concatenate(near, axis=1)
