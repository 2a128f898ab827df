"""Summaries of meta-features that have a value for each column, pair or leaf."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Values = float | Floats
"""A meta-feature: a number, or several that are summarised."""


def summarised(values: Values) -> list[float]:
    """Return the number, or mean and standard deviation of the finite ones among several; NaN where undefined.

    The standard deviation divides by one less than their number.
    """
    if not isinstance(values, np.ndarray):
        return [float(values)]
    values = values[np.isfinite(values)]
    mean = float(values.mean()) if len(values) else float("nan")
    return [mean, float(values.std(ddof=1)) if len(values) > 1 else float("nan")]
