"""Distances of projected queries and keys: pairs that are nearer than a threshold are joined."""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from tabattn.attention.entmax_solver import solve_rows
from tabattn.attention.graphs.pattern import Pattern, blank
from tabattn.attention.scores import full_precision

LEAST = 1e-7
"""Least norm that is divided by."""


class Distance(Pattern):
    """Abstract pattern that joins a query and a key whose distance is below the threshold ``knob``.

    Args:
        knob: Threshold, at least 0; None = the pattern's default.

    Raises:
        ValueError: ``knob`` is out of its range.
    """

    default: ClassVar[float] = 0.5

    projected = True

    def __init__(self, knob: float | None = None) -> None:
        super().__init__(knob)
        if not self.knob >= 0:
            raise ValueError(f"knob must be at least 0, got {self.knob}")

    @abstractmethod
    def distance(self, q: Tensor, k: Tensor) -> Tensor:
        """Distances ``(batch, heads, queries, keys)`` of queries and keys, as given to ``edges``."""

    @torch.no_grad()
    def edges(self, q: Tensor, k: Tensor, keys: Tensor | None = None, queries: Tensor | None = None) -> Tensor:
        q, k = full_precision(q), full_precision(k)
        graph, blocks = blank(q, k)
        for block, rows in blocks:
            torch.lt(self.distance(q[..., rows, :], k), self.knob, out=block)
        return graph


class Cosine(Distance):
    """Cosine distance: 1 less the cosine of the angle; a vector of norm zero has distance 1."""

    def distance(self, q: Tensor, k: Tensor) -> Tensor:
        return 1 - _unit(q) @ _unit(k).mT


class Euclidean(Distance):
    """Euclidean distance."""

    def distance(self, q: Tensor, k: Tensor) -> Tensor:
        return _norms(q, k)


class Squared(Distance):
    """Squared Euclidean distance, that of the loss the projections are trained by."""

    def distance(self, q: Tensor, k: Tensor) -> Tensor:
        return _norms(q, k).square_()


class Smallest(Distance):
    """Smallest squared difference in any one dimension."""

    def distance(self, q: Tensor, k: Tensor) -> Tensor:
        return _smallest(q, k)


class Minkowski(Distance):
    """Minkowski distance: p-norm of the difference.

    Args:
        knob: Threshold, at least 0; None = 0.5.
        p: Order of the norm; inf = the largest difference.

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(self, knob: float | None = None, *, p: float = 2.0) -> None:
        super().__init__(knob)
        if not p > 0:
            raise ValueError(f"p must be above 0, got {p}")
        self.p = float(p)

    def distance(self, q: Tensor, k: Tensor) -> Tensor:
        return _norms(q, k, self.p)


class Direction(Minkowski):
    """Distance of directions: p-norm of the difference of vectors over their p-norms."""

    def distance(self, q: Tensor, k: Tensor) -> Tensor:
        return _norms(_unit(q, self.p), _unit(k, self.p), self.p)


class SmallestOfDirections(Minkowski):
    """Smallest squared difference, in any one dimension, of vectors over their p-norms."""

    def distance(self, q: Tensor, k: Tensor) -> Tensor:
        return _smallest(_unit(q, self.p), _unit(k, self.p))


class ProjectedEntmax(Pattern):
    """Entmax of projected queries and keys: pairs with a weight by ``q k^T / sqrt(width)``.

    Args:
        knob: Alpha of entmax, above 1 to 2 (sparsemax); None = 1.5.

    Raises:
        ValueError: ``knob`` is out of its range.
    """

    default: ClassVar[float] = 1.5

    projected = True

    def __init__(self, knob: float | None = None) -> None:
        super().__init__(knob)
        if not 1 < self.knob <= 2:
            raise ValueError(f"knob must be in (1, 2], got {self.knob}")

    @torch.no_grad()
    def edges(self, q: Tensor, k: Tensor, keys: Tensor | None = None, queries: Tensor | None = None) -> Tensor:
        order = float(self.knob) - 1
        q, k = full_precision(q) * (order * q.shape[-1] ** -0.5), full_precision(k)
        graph, blocks = blank(q, k)
        for block, rows in blocks if graph.numel() else ():
            scores = q[..., rows, :] @ k.mT
            scores = scores if keys is None else scores.masked_fill_(~keys, -torch.inf)
            torch.gt(solve_rows(scores, order).p, 0, out=block)
        return graph


def _unit(x: Tensor, p: float = 2.0) -> Tensor:
    """Vectors over their p-norms."""
    return x / torch.linalg.vector_norm(x, p, dim=-1, keepdim=True).clamp(min=LEAST)


def _norms(q: Tensor, k: Tensor, p: float = 2.0) -> Tensor:
    """p-norms of all differences, each by itself, so that none is a difference of large products."""
    return torch.cdist(q, k, p, compute_mode="donot_use_mm_for_euclid_dist")


def _smallest(q: Tensor, k: Tensor) -> Tensor:
    """Smallest squared differences of one dimension."""
    found = q.new_full((*q.shape[:-1], k.shape[-2]), torch.inf)
    for one, other in zip(q.unbind(-1), k.unbind(-1), strict=True):
        found = found.minimum((one[..., :, None] - other[..., None, :]).square_())
    return found
