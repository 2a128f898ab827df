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
from tabattn.prior.estimator.tails import Tails

LARGEST = 1e300
"""Largest target, in absolute value."""

POWERS = (-1.0, 3.0)
"""Bounds of the power of the transform."""

FARTHEST = 1e30
"""Largest standardised target, in absolute value, so that its density is a number above 0 in single precision."""

FINEST = 1e-6
"""Standard deviation of constant targets, as a share of their size."""


class TargetScale(NamedTuple):
    """Increasing map from targets to standardised ones, and back.

    Targets are standardised, transformed by Yeo & Johnson's power transform, and standardised again. Beyond the targets
    from which the map is made it is linear, so that no far prediction is out of its range. Outliers among these count
    as the farthest other target, and targets with heavy tails are transformed as inverse hyperbolic sines (``Tails``).

    Attributes:
        mean: Mean of the targets; their median with heavy tails.
        size: Their standard deviation; the unit of the logarithm with heavy tails.
        power: Power of the transform; 1 = none.
        ends: Least and largest standardised target, between which it acts.
        centre: Mean of the transformed targets.
        spread: Their standard deviation.
        logarithmic: Whether the inverse hyperbolic sine is transformed.
    """

    mean: float
    size: float
    power: float
    ends: tuple[float, float]
    centre: float
    spread: float
    logarithmic: bool = False

    @classmethod
    def of(cls, y: Floats, *, power: bool = False) -> Self:
        """Make the map of targets ``(rows,)``, with the ``power`` of largest likelihood or none."""
        kept, median, unit = Tails.of(y)
        mean, size = (float(part[0]) for part in Standard.of(kept[:, None])) if unit is None else (median, unit)
        if kept.min() == kept.max():
            size = max(abs(mean) * FINEST, np.finfo(np.float64).tiny) if mean else 1.0
            return cls(mean, size, 1.0, (0.0, 0.0), 0.0, 1.0)
        v = (kept - mean) / size
        ends = float(v.min()), float(v.max())
        u = v if unit is None else np.arcsinh(v)
        best = 1.0
        if power:
            best = float(minimize_scalar(_negative_log_likelihood, args=(u,), bounds=POWERS, method="bounded").x)
        elif unit is None:
            return cls(mean, size, best, ends, 0.0, 1.0)
        t = _transformed(u, best)
        return cls(mean, size, best, ends, float(t.mean()), float(t.std()), unit is not None)

    @property
    def linear(self) -> bool:
        """Whether the map is linear everywhere."""
        return self.power == 1 and not self.logarithmic

    def __call__(self, y: Floats) -> Floats:
        """Standardise targets of any shape."""
        v = self._standardised(y)
        inside = np.clip(v, *self.ends)
        t = self._bent(inside) + (v - inside) * np.exp(self._log_bend(inside))
        return np.asarray((t - self.centre) / self.spread)

    def labels(self, y: Floats) -> Floats:
        """Standardise context targets of any shape, as far as the farthest from which the map is made."""
        inside = np.clip(self._standardised(y), *self.ends)
        return np.asarray((self._bent(inside) - self.centre) / self.spread)

    def inverse(self, z: Floats) -> Floats:
        """Targets of standardised ones, of any shape."""
        t = self.centre + self.spread * z
        inside = np.clip(t, *self._bent(np.asarray(self.ends)))
        v = _restored(inside, self.power)
        v = np.clip(np.sinh(v) if self.logarithmic else v, *self.ends)
        v = v + (t - inside) * np.exp(-self._log_bend(v))
        return np.asarray(self.mean + self.size * v)

    def log_slope(self, y: Floats) -> Floats:
        """Logarithm of the derivative of the map at targets of any shape."""
        inside = np.clip(self._standardised(y), *self.ends)
        return np.asarray(self._log_bend(inside) - np.log(self.spread) - np.log(self.size))

    def _standardised(self, y: Floats) -> Floats:
        with np.errstate(over="ignore"):  # Infinite ones are clipped.
            return np.clip((y - self.mean) / self.size, -FARTHEST, FARTHEST)

    def _bent(self, v: Floats) -> Floats:
        """Transform of standardised targets between the ends."""
        return _transformed(np.arcsinh(v) if self.logarithmic else v, self.power)

    def _log_bend(self, v: Floats) -> Floats:
        """Logarithm of its derivative."""
        if not self.logarithmic:
            return _log_slope(v, self.power)
        return _log_slope(np.arcsinh(v), self.power) - np.log(np.hypot(1.0, v))


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
