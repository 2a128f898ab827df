"""Predictive densities from tokens, in the data's own units, and the CRPS."""

from collections.abc import Sequence
from math import e, log, pi

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, MixtureSameFamily, Normal

FLOOR = 1e-3
"""Smallest predicted standard deviation, as a share of that of the data."""
UNIT = log(e - 1)
"""Inverse of softplus at 1."""


class DensityHead(nn.Module):
    """Density head: predicts a Gaussian, or a mixture of Gaussians, from each token.

    At initialisation every density is centred on the offset, with the standard deviation of the data. The components of
    a mixture start at different means, as equal ones would get equal gradients and stay equal.

    Args:
        dim: Width of a token.
        hidden: Width of the hidden layer.
        components: Number of Gaussians in the mixture; 1 = a single Gaussian.
    """

    def __init__(self, dim: int, hidden: int, components: int = 1) -> None:
        super().__init__()
        if components < 1:
            raise ValueError(f"components must be at least 1, got {components}")
        self.components = components
        last = nn.Linear(hidden, 2 if components == 1 else 3 * components)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.SiLU(), last)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        if components > 1:
            with torch.no_grad():
                last.bias[:components].copy_(torch.linspace(-1.0, 1.0, components))

    def forward(self, tokens: Tensor, offset: Tensor, centre: Tensor, spread: Tensor) -> Distribution:
        """Predict the density of each target.

        Args:
            tokens: ``(batch, targets, dim)``.
            offset: Baseline that each mean is predicted as a difference from, standardised, ``(batch, targets)``.
            centre: Mean of the data, a scalar.
            spread: Standard deviation of the data, a scalar.

        Returns:
            A Normal or a MixtureSameFamily of Normals, of batch shape ``(batch, targets)``.
        """
        # Densities have the precision of the values, also if that of the layers is lower.
        mean, deviation, *weights = self.mlp(tokens).to(offset.dtype).split(self.components, dim=-1)
        mean = centre + spread * (mean + offset[..., None])
        deviation = spread * (FLOOR + F.softplus(deviation + UNIT))
        if not weights:
            return Normal(mean[..., 0], deviation[..., 0], validate_args=False)
        return mixture(weights[0], mean, deviation)


def mixture(logits: Tensor, mean: Tensor, deviation: Tensor) -> MixtureSameFamily:
    """Gaussian mixture, with its components in the last dimension of each argument."""
    return MixtureSameFamily(
        Categorical(logits=logits, validate_args=False),
        Normal(mean, deviation, validate_args=False),
        validate_args=False,
    )


def pick(distribution: Distribution, index: int) -> Distribution:
    """Select the densities of one target: batch shape ``(batch, targets)`` to ``(batch,)``."""
    if isinstance(distribution, MixtureSameFamily):
        logits, mean, deviation = (part[:, index] for part in parts(distribution))
        return mixture(logits, mean, deviation)
    normal = _normal(distribution)
    return Normal(normal.loc[:, index], normal.scale[:, index], validate_args=False)


def line_up(distributions: Sequence[Distribution]) -> Distribution:
    """Stack the densities of targets, each of batch shape ``(batch,)``, to ``(batch, targets)``."""
    mixtures = [one for one in distributions if isinstance(one, MixtureSameFamily)]
    if mixtures:
        stacked = zip(*(parts(one) for one in mixtures), strict=True)
        logits, mean, deviation = (torch.stack(part, dim=1) for part in stacked)
        return mixture(logits, mean, deviation)
    normals = [_normal(one) for one in distributions]
    mean = torch.stack([normal.loc for normal in normals], dim=1)
    return Normal(mean, torch.stack([normal.scale for normal in normals], dim=1), validate_args=False)


def crps(distribution: Distribution, y: Tensor) -> Tensor:
    """Continuous ranked probability score in the data's units; the absolute error for zero variance.

    ``E|Y - y| - E|Y - Y'| / 2`` in closed form: Grimit et al. 2006, equation 5, for mixtures.

    Args:
        distribution: A Normal or a MixtureSameFamily of Normals.
        y: True values, of the distribution's batch shape.

    Returns:
        The scores, of the same shape.
    """
    if not isinstance(distribution, MixtureSameFamily):
        normal = _normal(distribution)
        return _distance(y - normal.loc, normal.scale) - normal.scale / pi**0.5
    logits, mean, deviation = parts(distribution)
    weights = logits.softmax(dim=-1)
    error = (weights * _distance(y[..., None] - mean, deviation)).sum(-1)
    apart = mean[..., :, None] - mean[..., None, :]
    together = torch.hypot(deviation[..., :, None], deviation[..., None, :])
    pairs = weights[..., :, None] * weights[..., None, :] * _distance(apart, together)
    return error - pairs.sum((-2, -1)) / 2


def _distance(mean: Tensor, deviation: Tensor) -> Tensor:
    """``E|Z|`` of a Gaussian Z."""
    z = mean / deviation
    density = (-0.5 * z.square()).exp() / (2 * pi) ** 0.5
    return deviation * (2 * density + z * torch.erf(z / 2**0.5))


def _normal(distribution: Distribution) -> Normal:
    if not isinstance(distribution, Normal):
        raise ValueError(f"a density is a Normal or a mixture of Normals, got {type(distribution).__name__}")
    return distribution


def parts(distribution: MixtureSameFamily) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, means and standard deviations of a mixture, components last."""
    normal = _normal(distribution.component_distribution)
    choice = distribution.mixture_distribution
    assert isinstance(choice, Categorical)
    return choice.logits, normal.loc, normal.scale
