"""Cells of kernel methods: scaled numbers and category codes."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tabattn.contract.columns import Floats
from tabattn.prior.estimator.ensemble import RANKS, STANDARD, Scales

FARTHEST = 8.0
"""Largest standardised number, in absolute value."""


class Cells(NamedTuple):
    """Scaled numbers ``(rows, 2 numeric columns)`` and category codes ``(rows, categorical columns)``."""

    numbers: Floats
    codes: Floats


class CellScaler:
    """Scaling of encoded rows for kernels: numbers are standardised and rank-scaled, and a missing one is 0.

    Args:
        scales: Scalings of the columns, fitted to the context rows.
        categorical: Which columns hold codes of categories.
    """

    def __init__(self, scales: Scales, categorical: NDArray[np.bool_]) -> None:
        self.scales = scales
        self.categorical = categorical

    def __call__(self, x: Floats) -> Cells:
        """Cells of rows ``(rows, features)``; NaN = missing, which is the code -1 of a category."""
        views = self.scales(x)
        standard = np.clip(views[STANDARD][:, ~self.categorical], -FARTHEST, FARTHEST)
        numbers = np.concatenate([standard, views[RANKS][:, ~self.categorical]], axis=1).astype(np.float64)
        codes = x[:, self.categorical]
        return Cells(np.nan_to_num(numbers) * np.sqrt(0.5), np.where(np.isnan(codes), -1.0, codes))
