"""Gaussian mixtures as tensors, and their quantiles."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, MixtureSameFamily, Normal

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Probabilities of the quantiles: the median between intervals of 50 and 90 %."""
HALVINGS = 30


def components(density: Distribution) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, means and standard deviations of a Gaussian or a mixture, each ``(..., components)``."""
    if isinstance(density, MixtureSameFamily):
        parts = density.component_distribution
        return density.mixture_distribution.probs, parts.mean, parts.stddev
    return torch.ones_like(density.mean)[..., None], density.mean[..., None], density.stddev[..., None]


def quantiles(weights: Tensor, means: Tensor, stds: Tensor, probabilities: Sequence[float] = LEVELS) -> Tensor:
    """Quantiles of mixtures of Gaussians ``(..., components)``, ``(probabilities, ...)``."""
    shares = weights / weights.sum(-1, keepdim=True)
    mixture = MixtureSameFamily(Categorical(shares, validate_args=False), Normal(means, stds, validate_args=False))
    ends = torch.stack([(means - 6 * stds).amin(-1), (means + 6 * stds).amax(-1)])
    low, high = (end.expand(len(probabilities), *end.shape) for end in ends)
    levels = torch.tensor(probabilities, device=means.device, dtype=means.dtype).view(-1, *[1] * (means.dim() - 1))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        below = mixture.cdf(middle) < levels
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2
