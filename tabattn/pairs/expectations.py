"""Residual baselines: simple predictions from known values, from which a network learns the difference."""

import torch
from torch import Tensor

from tabattn.pairs.tokens import Points


def levels(known: Points, members: int) -> Tensor:
    """Mean of the known values of each sequence.

    Args:
        known: Points with known values.
        members: Number of sequences.

    Returns:
        Means, ``(batch, members)``; 0 for a sequence without known values.
    """
    own = known.member[:, None] == torch.arange(members, device=known.member.device)[:, None]
    if known.seen is not None:
        own = own & known.seen[:, None]
    return (own * known.y[:, None]).sum(2) / own.sum(2).clamp(min=1)


def nearest(known: Points, asked: Points, visible: Tensor | None = None) -> Tensor:
    """Nearest-neighbour baseline: the value of the nearest known point of the same sequence.

    Args:
        known: Points with known values.
        asked: Points to predict.
        visible: Which known points each may read, boolean, broadcastable to ``(batch, asked, known)``; None = all.

    Returns:
        Values, ``(batch, asked)``; 0 where no point may be read.
    """
    distance = (asked.x[:, :, None] - known.x[:, None]).abs()
    blocked = asked.member[:, :, None] != known.member[:, None]
    if known.seen is not None:
        blocked = blocked | ~known.seen[:, None]
    if visible is not None:
        blocked = blocked | ~visible
    least, index = distance.masked_fill(blocked, torch.inf).min(dim=-1)
    return known.y.gather(1, index).masked_fill(least == torch.inf, 0.0)


def parallel(known: Points, asked: Points, members: int) -> Tensor:
    """Parallel baseline: the other sequences, shifted to the level of the one to predict.

    For each other sequence: its nearest known value, plus the mean difference between the known values of the sequence
    to predict and the other's nearest ones. Averaged over all others; ``nearest`` where there is none. Exact for
    sequences that differ by constants.

    Args:
        known: Points with known values.
        asked: Points to predict.
        members: Number of sequences.

    Returns:
        Values, ``(batch, asked)``; 0 where the sequence has no known point.
    """
    seen = torch.ones_like(known.member, dtype=torch.bool) if known.seen is None else known.seen
    own = (asked.member[:, :, None] == known.member[:, None]) & seen[:, None]
    count = own.sum(2)
    total, others = torch.zeros_like(asked.x), torch.zeros_like(asked.x)
    for member in range(members):
        there = (known.member == member) & seen
        fits = there.any(1, keepdim=True) & (asked.member != member) & (count > 0)
        at_known, at_asked = (_nearest_of(known, there, x) for x in (known.x, asked.x))
        height = (own * (known.y - at_known)[:, None]).sum(2) / count.clamp(min=1)
        total = total + torch.where(fits, at_asked + height, 0.0)
        others = others + fits
    return torch.where(others > 0, total / others.clamp(min=1), nearest(known, asked))


def _nearest_of(known: Points, there: Tensor, x: Tensor) -> Tensor:
    """Values of the points ``there`` that are nearest to locations ``(batch, any)``."""
    distance = (x[:, :, None] - known.x[:, None]).abs().masked_fill(~there[:, None], torch.inf)
    return known.y.gather(1, distance.argmin(2))
