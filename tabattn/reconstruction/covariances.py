"""Covariances of Gaussian processes: the kernel, Cholesky factors, and inverses."""

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


def covariance_factor(inputs: Tensor, kernel: Kernel, noise: float) -> Tensor:
    """Cholesky factor of the covariance of rows; the noise is raised tenfold where it is not positive definite."""
    covariance = inputs.new_empty(len(inputs), len(inputs))
    for _ in range(RAISES):
        for start in range(0, len(inputs), BLOCK):
            covariance[start : start + BLOCK] = kernel(inputs[start : start + BLOCK], inputs)
        covariance.diagonal().add_(noise)
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if not failed:
            break
        noise *= 10
    return factor


def inverse_diagonal(factor: Tensor) -> Tensor:
    """Diagonal of the inverse of a matrix from its Cholesky factor, ``(rows,)``, some columns at a time."""
    diagonal = factor.new_empty(len(factor))
    for start in range(0, len(factor), BLOCK):
        rest = factor[start:, start:]
        columns = torch.eye(len(rest), min(BLOCK, len(rest)), dtype=factor.dtype, device=factor.device)
        solved = torch.linalg.solve_triangular(rest, columns, upper=False)
        diagonal[start : start + BLOCK] = solved.square().sum(0)
    return diagonal


def thinned(rows: Tensor, most: int) -> Tensor:
    """Return at most so many of the rows, evenly spaced."""
    return rows if len(rows) <= most else rows[torch.linspace(0, len(rows) - 1, most, device=rows.device).long()]
