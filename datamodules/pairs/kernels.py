"""Covariance functions of Gaussian processes over locations and members, in double precision."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Kernel = Literal["rbf", "matern32", "matern52", "periodic"]


class Term(NamedTuple):
    """Additive term of a covariance: ``members[i, j] * kernel(distance)`` between points of members i and j.

    Attributes:
        kernel: Stationary kernel; None = constant.
        length: Length scale of each task, ``(batch,)``.
        period: Period of each task, ``(batch,)``, of periodic kernels.
        members: Covariance of the members at one location, ``(batch, members, members)``.
    """

    kernel: Kernel | None
    length: Tensor
    period: Tensor
    members: Tensor


class Process(NamedTuple):
    """Gaussian process over (location, member) for each task of a batch: a sum of terms, and noise.

    Attributes:
        terms: Terms of the covariance.
        noise: Variance of the observation noise, ``(batch,)``.
    """

    terms: tuple[Term, ...]
    noise: Tensor

    def tasks(self, which: slice) -> "Process":
        """Process of some of the tasks: every tensor is sliced along the batch axis."""
        terms = (Term(kernel, *(part[which] for part in parts)) for kernel, *parts in self.terms)
        return Process(tuple(terms), self.noise[which])


def rbf(distance: Tensor, length: Tensor, period: Tensor) -> Tensor:
    """RBF (squared exponential) kernel: ``exp(-d^2 / 2 l^2)``."""
    return (distance * (1 / length)).square_().mul_(-0.5).exp_()


def matern32(distance: Tensor, length: Tensor, period: Tensor) -> Tensor:
    """Matern 3/2 kernel: ``(1 + a) exp(-a)``, ``a = sqrt(3) d / l``."""
    scaled = distance * (math.sqrt(3) / length)
    return (1 + scaled).mul_(scaled.neg_().exp_())


def matern52(distance: Tensor, length: Tensor, period: Tensor) -> Tensor:
    """Matern 5/2 kernel: ``(1 + a + a^2 / 3) exp(-a)``, ``a = sqrt(5) d / l``."""
    scaled = distance * (math.sqrt(5) / length)
    return (1 + scaled + scaled.square() / 3).mul_(scaled.neg_().exp_())


def periodic(distance: Tensor, length: Tensor, period: Tensor) -> Tensor:
    """Periodic kernel: ``exp(-2 sin^2(pi d / p) / l^2)``."""
    return (distance * (math.pi / period)).sin_().mul_(1 / length).square_().mul_(-2).exp_()


KERNELS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "rbf": rbf,
    "matern32": matern32,
    "matern52": matern52,
    "periodic": periodic,
}
"""Kernels of variance 1 by name: functions of distance, length scale and period."""


def covariance(process: Process, x: Tensor, member: Tensor) -> Tensor:
    """Covariance matrices of the observations of a batch.

    Args:
        process: Of each task.
        x: Places, ``(batch, points)``.
        member: Sequence of each point, ``(batch, points)``.

    Returns:
        Covariance matrices in double precision, ``(batch, points, points)``.
    """
    x = x.double()
    distance = (x.unsqueeze(2) - x.unsqueeze(1)).abs_()
    total = torch.diag_embed(process.noise.unsqueeze(1).expand_as(x))
    for term in process.terms:
        # A product of indicators is faster than indexing of the elements.
        indicator = torch.nn.functional.one_hot(member, term.members.shape[-1]).double()
        part = indicator @ term.members @ indicator.mT
        if term.kernel is not None:
            part *= KERNELS[term.kernel](distance, term.length[:, None, None], term.period[:, None, None])
        total += part
    return total


def correlations(partial: Tensor, members: int) -> Tensor:
    """Correlation matrices from partial correlations: any numbers in [-1, 1] give a valid one.

    Of two members, the one partial correlation is their correlation.

    Args:
        partial: ``(batch, members * (members - 1) / 2)``, by rows of the lower triangle.
        members: Number of members.

    Returns:
        ``(batch, members, members)``, ones on the diagonal.
    """
    rows, columns = torch.tril_indices(members, members, -1)
    factor = torch.zeros(len(partial), members, members, dtype=torch.float64)
    factor[:, rows, columns] = partial.double()
    # Each row of the Cholesky factor is a unit vector: an element takes a share of the remaining squared length.
    left = torch.ones(len(partial), members, dtype=torch.float64)
    for column in range(members):
        share = factor[:, :, column] * left
        share[:, column] = left[:, column]
        factor[:, :, column] = share
        left = (left.square() - share.square()).clamp_min(0).sqrt()
    return factor.tril() @ factor.tril().mT
