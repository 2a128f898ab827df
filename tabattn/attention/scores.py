"""Masking, softmax and precision of attention scores, for mechanisms that compute them explicitly."""

import torch
from torch import Tensor


def masked_softmax(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Masked softmax over keys; a row that may see nothing yields zeros with zero gradients.

    Args:
        scores: ``(batch, heads, queries, keys)``.
        mask: Boolean, broadcastable to ``scores``; True = may be seen.

    Returns:
        Weights of the shape of ``scores``.
    """
    if mask is None:
        return scores.softmax(dim=-1)
    # The lowest finite number instead of -inf, so that a row without a visible key has no NaN before it is zeroed.
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~mask, lowest).softmax(dim=-1).masked_fill(~mask, 0.0)


def full_precision(x: Tensor) -> Tensor:
    """Convert half-precision numbers to float32; return others unchanged."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def without_keys(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention without any key: zeros, as for a query that may see nothing, with zero gradients."""
    return (q @ k.mT @ v.to(q.dtype)).to(v.dtype)


def four_dimensional(mask: Tensor) -> Tensor:
    """Return a view of the mask with leading dimensions of size 1 up to ``(batch, heads, queries, keys)``."""
    return mask[(None,) * (4 - mask.dim())]


def mask_rows(mask: Tensor | None, start: int, stop: int) -> Tensor | None:
    """Return the part of a four-dimensional mask that belongs to the queries from ``start`` to ``stop``."""
    return mask if mask is None or mask.shape[-2] == 1 else mask[:, :, start:stop]


def key_mask(mask: Tensor | None, mechanism: object) -> Tensor | None:
    """Return a mask that is the same for every query as ``(batch or 1, heads or 1, 1, keys)``.

    Args:
        mask: Boolean mask given to the mechanism.
        mechanism: Mechanism to name in the error.

    Raises:
        ValueError: If the mask has a row for each query. Whether such rows are equal is not checked.
    """
    if mask is None:
        return None
    mask = four_dimensional(mask)
    if mask.shape[-2] != 1:
        name = type(mechanism).__name__
        raise ValueError(
            f"{name} summarises the keys before any query asks, so its mask must have query dimension 1, "
            f"got a mask of shape {tuple(mask.shape)}"
        )
    return mask
