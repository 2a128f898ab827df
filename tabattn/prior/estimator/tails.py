"""Tails of numeric targets: isolated outliers, which are winsorised, and heavy tails, which are made logarithmic."""

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from tabattn.contract.columns import Floats

FEWEST = 10
"""Fewest targets among which one counts as far."""

OUTSIDE = 0.05
"""Share of the targets that are not inner ones, on either side."""

FAR = 10.0
"""Ranges of the inner targets beyond them from which on one is far."""

QUARTER = 0.25
"""Share of the distinct targets that are not middle ones, on either side."""

WIDE = 100.0
"""Ranges of the middle ones beyond them from which on one is far."""

ISOLATED = 1.5
"""Ranges of the inner targets beyond them from which on one is an outlier, all as logarithms."""

NARROWEST = 1e-3
"""Least unit of the logarithm, as a share of the longer side of the inner targets."""


class Tails(NamedTuple):
    """Targets without their outliers, and the unit of their logarithm.

    Attributes:
        kept: Targets, outliers of which are winsorised: as far as the farthest other one, ``(rows,)``.
        median: Median of the targets.
        unit: Distance from the median at which the logarithm sets in; None = no tail is heavy.
    """

    kept: Floats
    median: float
    unit: float | None

    @classmethod
    def of(cls, y: Floats) -> Self:
        """Find outliers and heavy tails of targets ``(rows,)``."""
        median = float(np.median(y))
        if not _heavy(y):
            return cls(y, median, None)
        low, high = _inner(y, OUTSIDE)
        sides = sorted((median - low, high - median))
        unit = max(sides[0], NARROWEST * sides[1])
        with np.errstate(over="ignore"):  # Infinite ones are isolated.
            logarithms = np.arcsinh((y - median) / unit)
        inside = y[~_beyond(logarithms, OUTSIDE, ISOLATED)]
        kept = np.clip(y, inside.min(), inside.max())
        return cls(kept, median, unit if _heavy(kept) else None)


def _heavy(y: Floats) -> bool:
    """Whether any target is far from the inner ones, or from the middle ones."""
    return bool(_beyond(y, OUTSIDE, FAR).any() or _beyond(np.unique(y), QUARTER, WIDE).any())


def _beyond(y: Floats, outside: float, ranges: float) -> NDArray[np.bool_]:
    """Which targets are beyond the inner ones by more than this many of their ranges, ``(rows,)``."""
    low, high = _inner(y, outside)
    # Halves, as the range of numbers near the largest is infinite.
    reach = ranges * (high / 2 - low / 2)
    return (low / 2 - y / 2 > reach) | (y / 2 - high / 2 > reach)


def _inner(y: Floats, outside: float) -> tuple[float, float]:
    """Least and largest of the targets without a share on either side: at least one, or fewer if the rest is equal."""
    ordered = np.sort(y)
    number = max(1, int(outside * len(y))) if len(y) >= FEWEST else 0
    while number and ordered[number] == ordered[-1 - number]:
        number //= 2
    return float(ordered[number]), float(ordered[-1 - number])
