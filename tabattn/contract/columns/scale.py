"""Standardisation in double precision, so that large numbers such as Unix seconds keep their differences."""

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from tabattn.contract.cells import REACH
from tabattn.contract.columns.text import Floats

EPSILON, LARGEST = float(np.finfo(np.float32).eps), float(np.finfo(np.float32).max) / 4
TOLERANCE = 1e-4
"""Tolerated rounding error of single precision, as a share of the column's standard deviation."""


HUGE = 1e300
"""Numbers beyond which differences are taken of halves, as they may exceed the largest double."""

TOO_LARGE = "has a value of {:g}, beside which single precision does not tell the others apart:"


class Standard(NamedTuple):
    """Standardisation (z-scores): mean and standard deviation of columns, ``(columns,)`` each.

    Attributes:
        mean: Mean without missing cells; 0 where all are missing.
        size: Standard deviation; 1 where a column is constant.
    """

    mean: Floats
    size: Floats

    @classmethod
    def of(cls, x: Floats) -> Self:
        """Compute mean and standard deviation of rows, ``(rows, columns)``; NaN = missing."""
        seen = ~np.isnan(x)
        number = np.maximum(seen.sum(0), 1)
        low = np.where(seen, x, np.inf).min(0, initial=np.inf)
        high = np.where(seen, x, -np.inf).max(0, initial=-np.inf)
        # The mean of equal values may differ from them by rounding.
        mean = np.where(low == high, low, np.where(seen, x / number, 0.0).sum(0))
        part = _part(np.where(seen, np.abs(x), 0.0).max(0, initial=0.0))
        apart = np.where(seen, x * part - mean * part, 0.0)
        size = np.abs(apart).max(0, initial=0.0)
        size[size == 0] = 1.0
        spread = np.sqrt(np.square(apart / size).sum(0) / number)
        return cls(mean, np.where(low < high, size * spread / part, 1.0))

    def __call__(self, x: Floats) -> NDArray[np.float32]:
        """Standardise rows in double precision, then round to single precision."""
        part = _part(np.maximum(np.abs(self.mean), self.size))
        with np.errstate(over="ignore"):  # infinite ones are clipped
            z = (x * part - self.mean * part) / (self.size * part)
        return np.clip(z, -LARGEST, LARGEST).astype(np.float32)


def _part(largest: Floats) -> Floats:
    return np.where(largest.astype(np.float64) > HUGE, 0.5, 1.0)


def drawn_in(z: NDArray[Any]) -> NDArray[Any]:
    """Draw in standardised outliers: beyond ``REACH`` on either side they grow as a logarithm, in their order."""
    far = np.sign(z) * (REACH + np.log1p(np.maximum(np.abs(z) - REACH, 0.0)))
    return np.where(np.abs(z) > REACH, far, z)


def drowning(values: Floats) -> int | None:
    """Row of an outlier so large that most other cells become equal in single precision; None = there is none.

    Args:
        values: A column, ``(rows,)``; NaN = missing.
    """
    present = values[~np.isnan(values)]
    different = len(np.unique(present))
    if different <= 2:
        return None
    scaled = Standard.of(present[:, None])(present[:, None])
    if len(np.unique(scaled)) > different / 2:
        return None
    return int(np.nanargmax(np.abs(values / 2 - np.median(present) / 2)))


def recode(x: NDArray[Any], categorical: NDArray[np.bool_], context: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Re-encode a task cut from an encoded table, by its context rows alone.

    Args:
        x: Cells, context rows first, ``(rows, columns)``; NaN = missing.
        categorical: Which columns hold codes.
        context: Number of context rows.

    Returns:
        Cells in which a category is its rank among those of the context, or NaN if not among them, without the columns
        that are constant in the context; and the indices of the columns kept.
    """
    x = x.copy()
    for column in np.flatnonzero(categorical):
        present = np.unique(x[:context, column])
        present = present[~np.isnan(present)]
        rank = np.searchsorted(present, x[:, column])
        found = np.append(present, np.nan)[rank] == x[:, column]
        x[:, column] = np.where(found, rank, np.nan)
    missing = np.isnan(x[:context])
    low = np.where(missing, np.inf, x[:context]).min(0)
    high = np.where(missing, -np.inf, x[:context]).max(0)
    kept = np.flatnonzero(low < high)
    return x[:, kept], kept


def to_single(x: Floats, context: int) -> NDArray[np.float32]:
    """Round a task's cells to single precision, standardised first where that would lose their differences.

    Columns whose mean is large against their standard deviation (such as Unix seconds), or whose values are too large,
    are standardised in double precision by the context rows; all others keep their values.

    Args:
        x: Cells, context rows first, ``(rows, columns)``; NaN = missing.
        context: Number of context rows.
    """
    standard = Standard.of(x[:context])
    largest = np.where(np.isnan(x[:context]), 0.0, np.abs(x[:context])).max(0, initial=0.0)
    lost = (largest * EPSILON > TOLERANCE * standard.size) | (largest > LARGEST)
    return np.where(lost, standard(x), np.clip(x, -LARGEST, LARGEST).astype(np.float32))
