"""Distribution of residuals: kernel density estimate from the context rows whose fitted values are near."""

from typing import NamedTuple, Self

import numpy as np
import torch
from scipy.special import logsumexp, ndtr

from tabattn.contract.columns import Floats
from tabattn.prior.bars import Bars
from tabattn.prior.estimator.distributions import BarTargets
from tabattn.prior.estimator.gaussian_process import Moments
from tabattn.prior.estimator.target_scale import TargetScale

REACHES = (0.15, 0.4, np.inf)
"""Standard deviations of the fitted values that count as near, among standardised targets."""

BANDWIDTHS = (0.1, 0.2, 0.35)
"""Standard deviations of the smoothing of standardised residuals."""

BARS = 200
"""Bars by which a distribution of residuals is kept."""

LEAST = 1e-9
"""Probability that is added to each bar."""


class LocalResiduals(NamedTuple):
    """Distributions of standardised residuals that change with the fitted value, such as in width and skewness.

    The density of a residual is the mean of normal ones around the leave-one-out residuals of the context rows,
    weighted by the nearness of their fitted values. Reach and bandwidth have the largest leave-one-out density.

    Attributes:
        fitted: Leave-one-out means of the context rows, ``(context,)``.
        residuals: Their residuals, in standard deviations, ``(context,)``.
        reach: Standard deviation of the weights of the fitted values.
        bandwidth: Standard deviation of the smoothing.
    """

    fitted: Floats
    residuals: Floats
    reach: float
    bandwidth: float

    @classmethod
    def fit(cls, left_out: Moments, z: Floats) -> Self:
        """Choose reach and bandwidth.

        Args:
            left_out: Leave-one-out moments of the context rows.
            z: Their standardised targets, ``(context,)``.
        """
        residuals = (z - left_out.mean) / left_out.std
        found = [cls(left_out.mean, residuals, reach, width) for reach in REACHES for width in BANDWIDTHS]
        return max(found, key=lambda each: float(each.left_out_density().mean()))

    def left_out_density(self) -> Floats:
        """Log-density of the residual of each context row given those of the others, ``(context,)``."""
        found = torch.from_numpy(self._logits(self.fitted, without_self=True))
        return Bars(BARS).log_density(found, torch.from_numpy(self.residuals).float()).double().numpy()

    def distribution(self, moments: Moments, targets: TargetScale) -> BarTargets:
        """Predictive distributions of rows with these moments, of scaled targets."""
        logits = torch.from_numpy(self._logits(moments.mean))
        return BarTargets(logits, targets, moments.mean, moments.std)

    def _logits(self, mean: Floats, without_self: bool = False) -> Floats:
        """Logits of the bars at fitted values ``(rows,)``, ``(rows, bars)``."""
        nearness = -0.5 * np.square((mean[:, None] - self.fitted) / self.reach)
        if without_self and len(mean) > 1:
            np.fill_diagonal(nearness, -np.inf)
        weights = np.exp(nearness - logsumexp(nearness, axis=1, keepdims=True))
        borders = Bars(BARS).borders.double().numpy()
        below = weights @ ndtr((borders - self.residuals[:, None]) / self.bandwidth)
        below = np.pad(below, ((0, 0), (1, 1)), constant_values=(0.0, 1.0))
        return np.asarray(np.log(np.maximum(np.diff(below, axis=1), 0.0) + LEAST))
