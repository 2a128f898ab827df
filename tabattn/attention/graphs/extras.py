"""Pairs of query and key that are kept whatever is predicted: neighbours, and the first and last token."""

import torch
from torch import Tensor

from tabattn.attention.graphs.blocks import fold


def near(count: int, window: int, device: torch.device | None = None) -> Tensor:
    """Sliding window: the ``window`` keys around each query of a sequence.

    Keys from ``-(window // 2)`` to ``window // 2`` for an odd window, from ``-(window / 2 - 1)`` to ``window / 2`` for
    an even one; fewer at the borders.

    Args:
        count: Tokens of the sequence.
        window: Keys of a query; 0 = none.
        device: Device of the result.

    Returns:
        Boolean, ``(count, count)``.
    """
    if not window:
        return torch.zeros(count, count, dtype=torch.bool, device=device)
    return torch.ones(count, count, dtype=torch.bool, device=device).tril_(window // 2).triu_(-((window - 1) // 2))


def ends(count: int, tokens: int, keys: Tensor | None = None, device: torch.device | None = None) -> Tensor:
    """Global tokens at the ends: the first (``tokens`` 1), or the first and the last that is visible (2).

    Such a token is seen by all queries, and as a query sees all keys, like ``[CLS]`` in a language model.

    Args:
        count: Tokens of the sequence.
        tokens: 0, 1 or 2.
        keys: Which tokens are visible, ``(..., 1, count)``; None = all.
        device: Device of the result.

    Returns:
        Boolean, ``(..., count, count)``.
    """
    place = torch.arange(count, device=device)
    visible = torch.ones(1, count, dtype=torch.bool, device=device) if keys is None else keys
    last = place.masked_fill(~visible, -1).amax(dim=-1, keepdim=True)
    first = place.masked_fill(~visible, count).amin(dim=-1, keepdim=True)
    end = (place == first) if tokens else torch.zeros_like(visible)
    if tokens > 1:
        end = end | (place == last)
    return end | end.mT


def always(count: int, window: int, tokens: int, keys: Tensor | None, block: int, device: torch.device) -> Tensor:
    """Pairs that are kept whatever is predicted: those of ``near`` and of ``ends``, both of blocks.

    Args:
        count: Tokens of the sequence.
        window: Blocks around that of a query; 0 = none.
        tokens: Blocks at the ends, 0, 1 or 2.
        keys: Which tokens are visible, ``(batch, 1 or heads, 1, count)``; None = all.
        block: Consecutive tokens of a block; 1 = tokens are meant.
        device: Device of the result.

    Returns:
        Boolean, ``(..., count, count)``.
    """
    if block == 1:
        found = near(count, window, device)
        return found | ends(count, tokens, keys, device) if tokens else found
    blocks = -(-count // block)
    if keys is not None:
        keys = fold(keys.mT, keys.mT, block)[1].any(dim=-2).mT
    found = near(blocks, window, device) | ends(blocks, tokens, keys, device)
    return found.repeat_interleave(block, dim=-2).repeat_interleave(block, dim=-1)[..., :count, :count]
