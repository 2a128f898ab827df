"""Metrics of predictive distributions of numbers, pooled over the folds of each table."""

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

QUANTILES = tuple(level / 40 for level in range(1, 40))
"""Probabilities of the quantiles from which the CRPS is computed; the second and the last but one bound 90 %."""


class RegressionScores(NamedTuple):
    """Scores of one table.

    Attributes:
        rmse: Root mean squared error of the mean.
        r2: Coefficient of determination of the mean.
        log_likelihood: Mean log-density of the numbers, in nats.
        crps: Continuous ranked probability score: twice the mean pinball loss over ``QUANTILES``.
        coverage: Share of numbers in the central 90 % interval.
    """

    rmse: float
    r2: float
    log_likelihood: float
    crps: float
    coverage: float


class TableRegressionScores(Metric):
    """Metric that scores each table on all its predictions, gathered over ranks and pooled over its folds."""

    full_state_update = False
    is_differentiable = False
    higher_is_better = None

    def __init__(self) -> None:
        super().__init__()
        self.add_state("lines", [], dist_reduce_fx="cat")
        self.lines: list[Tensor] | Tensor

    def update(self, mean: Tensor, log_density: Tensor, quantiles: Tensor, targets: Tensor, tables: Tensor) -> None:
        """Add predictions.

        Args:
            mean: Predicted means, ``(batch, rows)``.
            log_density: Log-densities of the targets, ``(batch, rows)``.
            quantiles: Predicted quantiles, ``(batch, rows, quantiles)``.
            targets: Numbers, ``(batch, rows)``; NaN = not scored.
            tables: Table of each batch element, ``(batch,)``.
        """
        levels = torch.tensor(QUANTILES, device=targets.device)
        off = targets[..., None] - quantiles
        crps = 2 * torch.maximum(levels * off, (levels - 1) * off).mean(-1)
        inside = (quantiles[..., 1] <= targets) & (targets <= quantiles[..., -2])
        numbers = tables[:, None].expand_as(targets)
        parts = [numbers, targets, mean, log_density, crps, inside]
        lines = torch.stack([part.double() for part in parts], dim=-1)
        self.lines = [*self.lines, lines[torch.isfinite(targets)]]

    def settle(self) -> None:
        """Add an empty entry, so that an idle rank can take part in the collective call."""
        self.lines = [*self.lines, torch.zeros(0, 6, dtype=torch.float64, device=self.device)]

    def compute(self) -> dict[int, RegressionScores]:
        """Compute the scores of each table, by its index."""
        lines = self.lines if isinstance(self.lines, Tensor) else torch.cat(self.lines)
        return {int(table): _score(lines[lines[:, 0] == table][:, 1:]) for table in lines[:, 0].unique().tolist()}


def _score(lines: Tensor) -> RegressionScores:
    targets, mean, log_density, crps, inside = lines.T
    squared = (targets - mean).square().mean()
    spread = targets.var(correction=0)
    parts = squared.sqrt(), 1 - squared / spread, log_density.mean(), crps.mean(), inside.mean()
    return RegressionScores(*(float(part) for part in parts))
