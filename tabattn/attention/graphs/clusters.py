"""k-means clusters of tokens, found where they are needed, for each item and head by itself."""

import torch
import torch.nn.functional as F
from torch import Tensor

STEPS = 10
"""Iterations of k-means."""

TIES = 1e-9
"""Weight of the random direction, by which equal distances are told apart."""


def find_clusters(points: Tensor, visible: Tensor, clusters: int, seed: int, unit: bool = False) -> Tensor:
    """Centroids by k-means, from points that are far from one another; empty clusters keep theirs.

    The first point is the farthest in a random direction, and each next one the farthest from all before. So neither
    the order of the points nor hidden ones matter.

    Args:
        points: ``(batch, heads, points, width)``, in float64.
        visible: Which points count, ``(batch, heads, points)``.
        clusters: Number of centroids.
        seed: Seed of the direction.
        unit: Whether centroids have length 1, as in spherical k-means.

    Returns:
        ``(batch, heads, clusters, width)``; zeros where there is no point.
    """
    if not points.shape[-2]:
        return points.new_zeros(*points.shape[:2], clusters, points.shape[-1])
    points = points.masked_fill(~visible[..., None], 0.0)
    centroids = _far_points(points, visible, clusters, seed)
    for _ in range(STEPS):
        member = F.one_hot(nearest(points, centroids), clusters).to(points.dtype) * visible[..., None]
        number = member.sum(dim=-2)[..., None]
        means = member.mT @ points / number.clamp(min=1)
        centroids = torch.where(number > 0, F.normalize(means, dim=-1) if unit else means, centroids)
    return centroids


def nearest(points: Tensor, centroids: Tensor) -> Tensor:
    """Number of the nearest centroid of each point, ``(..., points)``."""
    return (points @ centroids.mT - centroids.square().sum(dim=-1)[..., None, :] / 2).argmax(dim=-1)


def _far_points(points: Tensor, visible: Tensor, number: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(points.shape[-1], 1, generator=generator, dtype=points.dtype).to(points.device)
    along = (points @ direction).squeeze(-1)
    far, distance = along, torch.full_like(along, torch.inf)
    chosen = []
    for _ in range(number):
        place = far.masked_fill(~visible, -torch.inf).argmax(dim=-1)[..., None, None]
        chosen.append(points.gather(-2, place.expand(*place.shape[:-1], points.shape[-1])))
        distance = distance.minimum((points - chosen[-1]).square().sum(dim=-1))
        far = distance + TIES * along
    return torch.cat(chosen, dim=-2)
