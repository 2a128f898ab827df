"""Numbers that say what an attention map looks like, one for every query."""

from typing import NamedTuple

import torch
from torch import Tensor


class Spread(NamedTuple):
    """How each query spreads its attention; NaN for a query that sees nothing.

    Attributes:
        entropy: Nats, not normalised: 0 = one key, ln(keys) = all keys alike; ``(items, heads, queries)``.
        support: Keys with a weight other than exactly zero, ``(items, heads, queries)``.
        largest: Largest weight, ``(items, heads, queries)``.
    """

    entropy: Tensor
    support: Tensor
    largest: Tensor


def spread(weights: Tensor) -> Spread:
    """Describe a map ``(items, heads, queries, keys)``.

    The entropy is that of the weights' magnitudes scaled to sum to one, so that approximations with rows that do not
    sum to one, or with negative weights, still have one.
    """
    weights = weights.float()
    size = weights.abs()
    support = (weights != 0).sum(-1)
    blind = support == 0
    share = size / size.sum(-1, keepdim=True)
    return Spread(
        entropy=torch.special.entr(share).sum(-1).masked_fill(blind, torch.nan),
        support=support.float().masked_fill(blind, torch.nan),
        largest=weights.amax(-1).masked_fill(blind, torch.nan),
    )
