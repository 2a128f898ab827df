"""What can be expected of a value before any learning: that of a neighbour, or of another sequence moved alongside."""

import torch
from torch import Tensor

from tabattn.pairs.tokens import Points


def levels(known: Points, members: int) -> Tensor:
    """The mean of the known values of each sequence.

    Args:
        known: Points that may be read.
        members: Number of sequences.

    Returns:
        Means, ``(batch, members)``; 0 where nothing of a sequence is known.
    """
    own = known.member[:, None] == torch.arange(members, device=known.member.device)[:, None]
    if known.seen is not None:
        own = own & known.seen[:, None]
    return (own * known.y[:, None]).sum(2) / own.sum(2).clamp(min=1)


def nearest(known: Points, asked: Points, visible: Tensor | None = None) -> Tensor:
    """The value of the nearest known point of the same sequence, for each point that is asked for.

    Args:
        known: Points that may be read.
        asked: Points whose value is asked for.
        visible: Which known point each may read, broadcastable to ``(batch, asked, known)``; None = all.

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
    """The other sequences moved to the height of the one that is asked for: right where they differ by constants.

    The nearest known value of each other sequence, plus the mean difference between the known values of one's own and
    the nearest of the other to each; the mean over all others, and the nearest known value of one's own where there is
    none.

    Args:
        known: Points that may be read.
        asked: Points whose value is asked for.
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
    """Values of the points ``there`` that are nearest to places ``(batch, any)``."""
    distance = (x[:, :, None] - known.x[:, None]).abs().masked_fill(~there[:, None], torch.inf)
    return known.y.gather(1, distance.argmin(2))
