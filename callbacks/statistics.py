"""Statistics of attention maps for each query."""

from typing import NamedTuple

import torch
from torch import Tensor


class Spread(NamedTuple):
    """Entropy, support and largest weight of each query; NaN for a query that sees nothing.

    Attributes:
        entropy: Entropy in nats, ``(items, heads, queries)``: 0 = one key, ln(keys) = all keys alike.
        support: Number of keys with a non-zero weight, ``(items, heads, queries)``.
        largest: Largest weight, ``(items, heads, queries)``.
    """

    entropy: Tensor
    support: Tensor
    largest: Tensor


def spread(weights: Tensor) -> Spread:
    """Compute the statistics of a map ``(items, heads, queries, keys)``.

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
