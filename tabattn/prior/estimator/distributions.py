"""Predictive distributions of numeric targets: those of ensemble members, and their mixture."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from scipy import stats
from scipy.special import logsumexp, stdtr

from tabattn.contract.columns import Floats
from tabattn.prior.bars import Bars
from tabattn.prior.estimator.target_scale import TargetScale

NODES = 100
"""Quantiles whose mean is the mean of a transformed distribution."""

HALVINGS = 45
"""Halvings of an interval in the search for a quantile."""


class Distribution(Protocol):
    """Predictive distributions of the targets of rows."""

    def cdf(self, y: Floats) -> Floats:
        """Probability of at most ``y``, ``(rows, values)``: several values for each row."""

    def log_density(self, y: Floats) -> Floats:
        """Log-density of targets ``(rows,)``, in nats."""

    def quantile(self, q: Floats) -> Floats:
        """Quantiles of probabilities ``(values,)``, ``(rows, values)``."""

    def mean(self) -> Floats:
        """Means, ``(rows,)``."""


class StudentTargets(NamedTuple):
    """Student's t distributions of scaled targets.

    Attributes:
        location: Locations, ``(rows,)``.
        scale: Scales, ``(rows,)``.
        freedom: Degrees of freedom.
        targets: Scaling of the targets.
    """

    location: Floats
    scale: Floats
    freedom: float
    targets: TargetScale

    def cdf(self, y: Floats) -> Floats:
        z = (self.targets(y) - self.location[:, None]) / self.scale[:, None]
        return np.asarray(stdtr(self.freedom, z))

    def log_density(self, y: Floats) -> Floats:
        z = (self.targets(y) - self.location) / self.scale
        return np.asarray(stats.t.logpdf(z, self.freedom) - np.log(self.scale) + self.targets.log_slope(y))

    def quantile(self, q: Floats) -> Floats:
        z = self.location[:, None] + self.scale[:, None] * stats.t.ppf(q, self.freedom)
        return self.targets.inverse(z)

    def mean(self) -> Floats:
        if self.targets.linear:
            return self.targets.inverse(self.location)
        return np.asarray(self.quantile((np.arange(NODES) + 0.5) / NODES).mean(1))


class BarTargets(NamedTuple):
    """Bar distributions of scaled targets, or of their standardised residuals.

    Attributes:
        logits: Logits of the bars, ``(rows, bars)``.
        targets: Scaling of the targets.
        location: Centre of the bars among scaled targets, ``(rows,)`` or one for all.
        scale: Their scale.
    """

    logits: torch.Tensor
    targets: TargetScale
    location: Floats = np.zeros(1)
    scale: Floats = np.ones(1)

    @property
    def bars(self) -> Bars:
        """The bars."""
        return Bars(self.logits.shape[-1])

    def cdf(self, y: Floats) -> Floats:
        u = torch.from_numpy((self.targets(y) - self.location[:, None]) / self.scale[:, None]).float()
        return _double(self.bars.cdf(self.logits[:, None].expand(*u.shape, -1), u))

    def log_density(self, y: Floats) -> Floats:
        u = torch.from_numpy((self.targets(y) - self.location) / self.scale).float()
        return _double(self.bars.log_density(self.logits, u)) - np.log(self.scale) + self.targets.log_slope(y)

    def quantile(self, q: Floats) -> Floats:
        found = np.stack([_double(self.bars.quantile(self.logits, float(each))) for each in q], axis=1)
        return self.targets.inverse(self.location[:, None] + self.scale[:, None] * found)

    def mean(self) -> Floats:
        bars = self.bars
        if self.targets.linear:
            return self.targets.inverse(self.location + self.scale * _double(bars.mean(self.logits)))
        # The density is uniform between borders, where the transform is near a line; the tails are at their means.
        borders = bars.borders.double().numpy()
        ends = borders[[0, -1]] + bars.scale * np.array([-1.0, 1.0])
        centres = np.concatenate([ends[:1], (borders[1:] + borders[:-1]) / 2, ends[1:]])
        values = self.targets.inverse(self.location[:, None] + self.scale[:, None] * centres)
        return np.asarray((_double(self.logits.softmax(-1)) * values).sum(1))


class Mixture(NamedTuple):
    """Mixture (linear pool) of distributions.

    Attributes:
        parts: The distributions, of the same rows.
        weights: Weight of each; they sum to 1.
    """

    parts: Sequence[Distribution]
    weights: Sequence[float]

    @classmethod
    def of(cls, weighted: Sequence[tuple["Mixture", float]]) -> Self:
        """Mixture of mixtures with their weights, as one of all their parts."""
        parts = [(part, share * weight) for mixture, share in weighted for part, weight in mixture._used()]
        return cls([part for part, _ in parts], [weight for _, weight in parts])

    def cdf(self, y: Floats) -> Floats:
        return np.asarray(sum(weight * part.cdf(y) for part, weight in self._used()))

    def log_density(self, y: Floats) -> Floats:
        return np.asarray(logsumexp([np.log(weight) + part.log_density(y) for part, weight in self._used()], axis=0))

    def mean(self) -> Floats:
        return np.asarray(sum(weight * part.mean() for part, weight in self._used()))

    def quantile(self, q: Floats) -> Floats:
        """Quantiles by bisection: they lie between the least and the largest of the parts."""
        found = np.stack([part.quantile(q) for part, _ in self._used()])
        low, high = found.min(0), found.max(0)
        for _ in range(HALVINGS):
            middle = low / 2 + high / 2
            below = self.cdf(middle) < q
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return low / 2 + high / 2

    def _used(self) -> list[tuple[Distribution, float]]:
        return [(part, weight) for part, weight in zip(self.parts, self.weights, strict=True) if weight > 0]


def _double(found: torch.Tensor) -> Floats:
    return found.double().numpy()
