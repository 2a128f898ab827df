"""Balanced tree of points, split along principal directions: an order in which neighbours are near to one another."""

import math

import torch
from torch import Tensor

POWER_STEPS = 3
"""Steps of the power iteration for a principal direction, from the covariances of the coordinate that varies most."""


def tree_order(points: Tensor, leaf: int) -> Tensor:
    """Order of points by the leaves of a balanced tree, each split at the median of the first principal component.

    Like a k-d tree, along principal directions (Sproull 1991). Leaves have equal size, so that boxes around them are
    small. Permuted points have the same leaves, except for ties.

    Args:
        points: ``(sets, points, width)``.
        leaf: Most points of a leaf.

    Returns:
        Numbers of the points in order, ``(sets, leaves x leaf)``; where the points end before the leaves do, numbers
        from ``points`` on fill the places.
    """
    sets, count, width = points.shape
    levels = max(0, math.ceil(math.log2(max(count / leaf, 1))))
    size = leaf * 2**levels
    order = torch.arange(size, device=points.device).expand(sets, size)
    for level in range(levels):
        nodes = 2**level
        # Places beyond the points count as the last one.
        place = order.clamp(max=count - 1)[..., None].expand(-1, -1, width)
        own = points.gather(1, place).view(sets * nodes, size // nodes, width)
        along = (own @ principal_directions(own)).squeeze(-1)
        order = order.reshape(sets * nodes, -1).gather(1, along.argsort(dim=1)).view(sets, size)
    return order


def principal_directions(points: Tensor) -> Tensor:
    """First principal direction of each set of points, approximately.

    Args:
        points: ``(sets, points, width)``.

    Returns:
        ``(sets, width, 1)``; zeros for equal points.
    """
    centred = points - points.mean(dim=1, keepdim=True)
    covariance = centred.mT @ centred
    most = covariance.diagonal(dim1=-2, dim2=-1).argmax(dim=-1)
    direction = covariance[torch.arange(len(covariance), device=points.device), most].unsqueeze(-1)
    for _ in range(POWER_STEPS):
        tiny = torch.finfo(direction.dtype).tiny
        direction = direction / direction.abs().amax(dim=1, keepdim=True).clamp(min=tiny)
        direction = covariance @ direction
    return direction / direction.norm(dim=1, keepdim=True).clamp(min=torch.finfo(direction.dtype).tiny)
