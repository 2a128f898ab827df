"""NormalScores: quantile transform of columns to a standard normal distribution."""

import torch
from torch import Tensor, nn

POINTS = 65
"""Quantiles that a column is described by."""
OUTERMOST = 0.01
"""Least distance of a rank from 0 and from 1, so that no score is beyond 2.33."""


class NormalScores(nn.Module):
    """Quantile transform: each number becomes the normal quantile of its rank in its column (van der Waerden scores).

    Skewed columns and columns with outliers become comparable with a target whose slope depends on their rank. Between
    the stored quantiles ranks are interpolated linearly; of equal quantiles the middle rank counts. Before ``fit``
    numbers are left as they are, within the range of scores.

    Args:
        columns: Number of columns.
    """

    quantiles: Tensor

    def __init__(self, columns: int) -> None:
        super().__init__()
        ranks = torch.linspace(OUTERMOST, 1 - OUTERMOST, POINTS).double()
        self.register_buffer("quantiles", torch.special.ndtri(ranks).repeat(columns, 1))

    def fit(self, values: Tensor) -> None:
        """Store the quantiles of columns.

        Args:
            values: Numbers, ``(rows, columns)``; NaN = missing. A column without numbers keeps its quantiles.
        """
        levels = torch.linspace(OUTERMOST, 1 - OUTERMOST, POINTS).to(values.device).double()
        for own, column in zip(self.quantiles, values.double().T, strict=True):
            known = column[~column.isnan()]
            if len(known):
                own.copy_(torch.quantile(known, levels))

    def forward(self, values: Tensor) -> Tensor:
        """Transform numbers, ``(rows, columns)``, to scores in double precision."""
        if not len(self.quantiles):
            return values.double()
        values = values.double().T.contiguous()
        below = _ranks(values, self.quantiles)
        above = 1 - _ranks(-values, -self.quantiles.flip(1))
        ranks = OUTERMOST + (1 - 2 * OUTERMOST) * (below + above) / 2
        return torch.special.ndtri(ranks).T


def _ranks(values: Tensor, quantiles: Tensor) -> Tensor:
    """Ranks from 0 to 1, the lowest among equal quantiles, ``(columns, rows)``."""
    right = torch.searchsorted(quantiles, values).clamp(1, POINTS - 1)
    low, high = quantiles.gather(1, right - 1), quantiles.gather(1, right)
    part = ((values - low) / (high - low).clamp(min=torch.finfo(torch.double).tiny)).clamp(0, 1)
    return (right - 1 + part) / (POINTS - 1)
