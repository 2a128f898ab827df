"""Covariances of Gaussian processes: the kernel, and Cholesky factors."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

BLOCK = 512
"""Rows or columns of a large covariance that are computed at a time."""
LEAST = 1e-5
"""Least variance of the noise of a standardised target."""
RAISES = 8
"""Most times that the diagonal of a covariance is raised."""
Kernel = Callable[[Tensor, Tensor], Tensor]
"""Covariance of two sets of rows without noise, ``(a, width)`` and ``(b, width)`` to ``(a, b)``."""


def kernel(a: Tensor, b: Tensor, logs: Sequence[Tensor]) -> Tensor:
    """Matern-5/2 plus linear kernel with automatic relevance determination (ARD), ``(a, b)``.

    Args:
        a: Rows, ``(a, width)``.
        b: Other rows, ``(b, width)``.
        logs: Logarithms of scale, noise (not used), length scales and slopes.
    """
    scale, _, lengths, slopes = logs
    ones, others = a / lengths.exp(), b / lengths.exp()
    square = ones.square().sum(1)[:, None] + others.square().sum(1) - 2 * ones @ others.T
    distance = (5 * square.clamp(min=1e-12)).sqrt()
    matern = scale.exp() * (1 + distance + distance.square() / 3) * (-distance).exp()
    return matern + (a * (2 * slopes).exp()) @ b.T


def cholesky_factor(covariance: Tensor) -> Tensor:
    """Cholesky factor; the diagonal is raised tenfold at a time where rounding has left no positive definite matrix."""
    raised = LEAST * covariance.diagonal().mean() * torch.eye(len(covariance), device=covariance.device).double()
    factor, failed = torch.linalg.cholesky_ex(covariance)
    for power in range(RAISES):
        if not failed:
            break
        factor, failed = torch.linalg.cholesky_ex(covariance + 10.0**power * raised)
    return factor


def thinned(rows: Tensor, most: int) -> Tensor:
    """Return at most so many of the rows, evenly spaced."""
    return rows if len(rows) <= most else rows[torch.linspace(0, len(rows) - 1, most, device=rows.device).long()]
