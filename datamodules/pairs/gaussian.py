"""Gaussian processes: sampling, and exact predictive densities of targets (the oracle)."""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from datamodules.pairs.kernels import Process, covariance
from tabattn.contract.batches import Oracle

JITTER = 1e-10
"""Share of the mean variance that is added to the diagonal before a matrix is factorised."""

CACHED = 2**18
"""Most matrix elements that are processed at a time."""

LOG_TWO_PI = math.log(2 * math.pi)


class Prediction(NamedTuple):
    """Predictive distribution of the targets of each task given its context, in double precision.

    Attributes:
        mean: Mean of each target, ``(batch, targets)``.
        variance: Marginal variance of each target, noise included, ``(batch, targets)``.
        joint: Joint log-density of all targets, ``(batch,)``, nats.
        evidence: Log marginal likelihood of the context, ``(batch,)``, nats.
    """

    mean: Tensor
    variance: Tensor
    joint: Tensor
    evidence: Tensor

    def log_density(self, y: Tensor) -> Tensor:
        """Marginal log-density of the value of each target, ``(batch, targets)``, nats."""
        return -0.5 * ((y - self.mean).square() / self.variance + self.variance.log() + LOG_TWO_PI)


def draw(process: Process, x: Tensor, member: Tensor, normals: Tensor) -> Tensor:
    """Sample the process at given locations.

    Args:
        process: Gaussian process of each task.
        x: Locations, ``(batch, points)``.
        member: Member of each point, ``(batch, points)``.
        normals: Standard normal samples, ``(batch, points)``.

    Returns:
        Values, ``(batch, points)``, double precision.

    Raises:
        ValueError: The covariance is singular in double precision; more noise helps.
    """
    values = []
    for tasks in _portions(x):
        factor = _factor(process.tasks(tasks), x[tasks], member[tasks])
        values.append((factor @ normals[tasks].double().unsqueeze(2)).squeeze(2))
    return torch.cat(values)


def predict(process: Process, x: Tensor, y: Tensor, member: Tensor, context: int) -> Prediction:
    """Gaussian process regression: predict targets from the context.

    One Cholesky factor of the whole covariance, context first, is enough: its last rows hold the regression of the
    targets on the context and the factor of their posterior covariance.

    Args:
        process: Gaussian process of each task.
        x: Locations, ``(batch, points)``, context first.
        y: Values, ``(batch, points)``.
        member: Member of each point, ``(batch, points)``.
        context: Number of leading points that are context.

    Raises:
        ValueError: As ``draw`` does.
    """
    parts = []
    for tasks in _portions(x):
        factor = _factor(process.tasks(tasks), x[tasks], member[tasks])
        normals = torch.linalg.solve_triangular(factor, y[tasks].double().unsqueeze(2), upper=False)
        density = -0.5 * (normals.squeeze(2).square() + LOG_TWO_PI) - factor.diagonal(dim1=1, dim2=2).log()
        mean = (factor[:, context:, :context] @ normals[:, :context]).squeeze(2)
        variance = factor[:, context:, context:].square().sum(2)
        parts.append((mean, variance, density[:, context:].sum(1), density[:, :context].sum(1)))
    return Prediction(*(torch.cat(part) for part in zip(*parts, strict=True)))


def oracle(process: Process, x: Tensor, y: Tensor, member: Tensor, context: int) -> Oracle:
    """Oracle that knows the process of each task; arguments as for ``predict``."""
    known = predict(process, x, y, member, context)
    density = known.log_density(y[:, context:].double())
    return Oracle(known.mean.float(), density.float(), known.joint.float())


def marginal(processes: Iterable[Process], x: Tensor, y: Tensor, member: Tensor, context: int) -> Oracle:
    """Oracle that knows the distribution of processes: a mixture over equally likely ones.

    The processes are weighted by the likelihood of the context (Bayesian model averaging); other arguments as for
    ``predict``.
    """
    found = [predict(process, x, y, member, context) for process in processes]
    targets = y[:, context:].double()
    weights = torch.stack([each.evidence for each in found]).log_softmax(0)
    means = torch.stack([each.mean for each in found])
    densities = torch.stack([each.log_density(targets) for each in found])
    joints = torch.stack([each.joint for each in found])
    return Oracle(
        (weights.exp().unsqueeze(2) * means).sum(0).float(),
        (weights.unsqueeze(2) + densities).logsumexp(0).float(),
        (weights + joints).logsumexp(0).float(),
    )


def _portions(x: Tensor) -> Iterator[slice]:
    """Slices of tasks whose matrices fit a processor's cache together."""
    step = max(1, CACHED // x.shape[1] ** 2)
    return (slice(start, start + step) for start in range(0, len(x), step))


def _factor(process: Process, x: Tensor, member: Tensor) -> Tensor:
    """The lower Cholesky factor of the covariance, ``(batch, points, points)``."""
    matrix = covariance(process, x, member)
    diagonal = matrix.diagonal(dim1=1, dim2=2)
    diagonal += JITTER * diagonal.mean(1, keepdim=True)
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if failed.any():
        least = float(process.noise.min().sqrt())
        raise ValueError(f"eps must be larger for points as many and lengths as long as these, got {least:g}")
    return factor
