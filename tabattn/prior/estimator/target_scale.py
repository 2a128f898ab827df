"""Numeric targets: their checks, and scalings that standardise them or make them more normal by a power first."""

from decimal import Decimal
from fractions import Fraction
from numbers import Real
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import minimize_scalar
from scipy.special import boxcox1p, inv_boxcox1p
from sklearn.utils import column_or_1d

from tabattn.contract.columns import Floats, Standard

LARGEST = 1e300
"""Largest target, in absolute value."""

POWERS = (-1.0, 3.0)
"""Bounds of the power of the transform."""

FINEST = 1e-6
"""Standard deviation of constant targets, as a share of their size."""


class TargetScale(NamedTuple):
    """Increasing map from targets to standardised ones, and back.

    Targets are standardised, transformed by Yeo & Johnson's power transform, and standardised again. Beyond the targets
    from which the map is made it is linear, so that no far prediction is out of its range.

    Attributes:
        mean: Mean of the targets.
        size: Their standard deviation.
        power: Power of the transform; 1 = none.
        ends: Least and largest standardised target, between which it acts.
        centre: Mean of the transformed targets.
        spread: Their standard deviation.
    """

    mean: float
    size: float
    power: float
    ends: tuple[float, float]
    centre: float
    spread: float

    @classmethod
    def of(cls, y: Floats, *, power: bool = False) -> Self:
        """Make the map of targets ``(rows,)``, with the ``power`` of largest likelihood or none."""
        mean, size = (float(part[0]) for part in Standard.of(y[:, None]))
        if y.min() == y.max():
            size = max(abs(mean) * FINEST, np.finfo(np.float64).tiny) if mean else 1.0
            return cls(mean, size, 1.0, (0.0, 0.0), 0.0, 1.0)
        v = (y - mean) / size
        ends = float(v.min()), float(v.max())
        if not power:
            return cls(mean, size, 1.0, ends, 0.0, 1.0)
        best = float(minimize_scalar(_negative_log_likelihood, args=(v,), bounds=POWERS, method="bounded").x)
        transformed = _transformed(v, best)
        return cls(mean, size, best, ends, float(transformed.mean()), float(transformed.std()))

    def __call__(self, y: Floats) -> Floats:
        """Standardise targets of any shape."""
        v = (y - self.mean) / self.size
        inside = np.clip(v, *self.ends)
        t = _transformed(inside, self.power) + (v - inside) * np.exp(_log_slope(inside, self.power))
        return np.asarray((t - self.centre) / self.spread)

    def inverse(self, z: Floats) -> Floats:
        """Targets of standardised ones, of any shape."""
        t = self.centre + self.spread * z
        inside = np.clip(t, *_transformed(np.asarray(self.ends), self.power))
        v = np.clip(_restored(inside, self.power), *self.ends)
        v = v + (t - inside) * np.exp(-_log_slope(v, self.power))
        return np.asarray(self.mean + self.size * v)

    def log_slope(self, y: Floats) -> Floats:
        """Logarithm of the derivative of the map at targets of any shape."""
        inside = np.clip((y - self.mean) / self.size, *self.ends)
        return np.asarray(_log_slope(inside, self.power) - np.log(self.spread) - np.log(self.size))


def check_targets(y: Any) -> Floats:
    """Check numeric targets, and convert them to double precision.

    Args:
        y: The targets, ``(rows,)``: numbers of any type.

    Raises:
        ValueError: They are not one real, finite number for each row, of at most ``LARGEST`` in absolute value.
    """
    if sparse.issparse(y):
        raise ValueError(f"y must be dense, got a sparse matrix of the shape {y.shape}")
    if np.asarray(y).dtype.kind == "c" or any(isinstance(value, complex) for value in _objects(np.asarray(y).ravel())):
        raise ValueError("Complex data not supported: a target must be a real number")
    given = column_or_1d(y, warn=True, dtype=None)
    if given.dtype.kind not in "biufO":
        raise ValueError(f"y must hold numbers, got {given[:1].tolist()}, of type {given.dtype}")
    if missing := int(pd.isna(given).sum()):
        raise ValueError(f"Input y contains NaN: {missing} of {len(given)} rows have no target")
    if odd := [value for value in _objects(given) if not isinstance(value, (Real, Decimal, Fraction, np.bool_))]:
        raise ValueError(f"y must hold numbers, got {odd[0]!r}")
    try:
        numbers = given.astype(np.float64)
    except OverflowError:
        numbers = np.array([_number(value) for value in given])
    if infinite := int(np.isinf(numbers).sum()):
        raise ValueError(f"Input y contains infinity or a value too large for float64, in {infinite} of its rows")
    if len(numbers) and (largest := float(np.abs(numbers).max())) > LARGEST:
        raise ValueError(f"targets must be at most {LARGEST:g} in absolute value, got {largest:g}")
    return numbers


def _objects(y: NDArray[Any]) -> NDArray[Any]:
    """Entries of an array of objects; none of another."""
    return y if y.dtype == object else y[:0]


def _number(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return np.inf


def _transformed(v: Floats, power: float) -> Floats:
    """Power transform of Yeo & Johnson 2000."""
    positive = boxcox1p(np.maximum(v, 0.0), power)
    return np.asarray(positive - boxcox1p(np.maximum(-v, 0.0), 2 - power))


def _restored(t: Floats, power: float) -> Floats:
    positive = inv_boxcox1p(np.maximum(t, 0.0), power)
    return np.asarray(positive - inv_boxcox1p(np.maximum(-t, 0.0), 2 - power))


def _log_slope(v: Floats, power: float) -> Floats:
    return np.asarray((power - 1) * np.sign(v) * np.log1p(np.abs(v)))


def _negative_log_likelihood(power: float, v: Floats) -> float:
    """Negative log-likelihood of transformed values as normal ones, per value."""
    return float(0.5 * np.log(_transformed(v, power).var()) - _log_slope(v, power).mean())
