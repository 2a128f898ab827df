"""Drawing from Gaussian processes, and what can be known of targets at best: exact predictive densities."""

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
"""Elements of the matrices worked on at a time."""

LOG_TWO_PI = math.log(2 * math.pi)


class Prediction(NamedTuple):
    """What a process says of the targets of each task given its context, in double precision.

    Attributes:
        mean: Mean of each target, ``(batch, targets)``.
        variance: Variance of each target alone, noise included, ``(batch, targets)``.
        joint: Log-density of all targets together, ``(batch,)``.
        evidence: Log-density of the context, ``(batch,)``.
    """

    mean: Tensor
    variance: Tensor
    joint: Tensor
    evidence: Tensor

    def log_density(self, y: Tensor) -> Tensor:
        """Log-density of each target's value alone, ``(batch, targets)``."""
        return -0.5 * ((y - self.mean).square() / self.variance + self.variance.log() + LOG_TWO_PI)


def draw(process: Process, x: Tensor, member: Tensor, normals: Tensor) -> Tensor:
    """Draw one value for each point.

    Args:
        process: Of each task.
        x: Places, ``(batch, points)``.
        member: Sequence of each point, ``(batch, points)``.
        normals: Standard normal numbers, ``(batch, points)``.

    Returns:
        Values, ``(batch, points)``, double precision.

    Raises:
        ValueError: Values depend on each other so closely that they cannot be told apart without noise.
    """
    values = []
    for tasks in _portions(x):
        factor = _factor(process.tasks(tasks), x[tasks], member[tasks])
        values.append((factor @ normals[tasks].double().unsqueeze(2)).squeeze(2))
    return torch.cat(values)


def predict(process: Process, x: Tensor, y: Tensor, member: Tensor, context: int) -> Prediction:
    """Predict targets from the context.

    The factor of the whole covariance, context first, holds all of it: its last rows are the targets' regression on
    the context and the factor of what that leaves open.

    Args:
        process: Of each task.
        x: Places, ``(batch, points)``, those of the context first.
        y: Values, ``(batch, points)``.
        member: Sequence of each point, ``(batch, points)``.
        context: How many leading points are context.

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
    """What is known of the targets by who knows the process; arguments as of ``predict``."""
    known = predict(process, x, y, member, context)
    density = known.log_density(y[:, context:].double())
    return Oracle(known.mean.float(), density.float(), known.joint.float())


def marginal(processes: Iterable[Process], x: Tensor, y: Tensor, member: Tensor, context: int) -> Oracle:
    """What is known of the targets by who knows that the process is one of several, equally likely beforehand.

    The densities are those of the mixture weighted by how well each process explains the context; other arguments as
    of ``predict``.
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
    """Tasks to work on at a time: as many as keep their matrices in a processor's cache."""
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
