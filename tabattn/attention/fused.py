"""Softmax attention by the fastest exact kernel: the one function behind every softmax of this package."""

import torch
import torch.nn.functional as F
from torch import Tensor

CUDA_BATCH_LIMIT = 65_535
"""Largest batch the fused CUDA kernels take in one launch; more is cut into pieces."""


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, dropout: float = 0.0) -> Tensor:
    """Softmax attention; a query that may see nothing yields zeros.

    Args:
        q: Queries, ``(batch, heads, queries, head_dim)``.
        k: Keys, ``(batch, heads, keys, head_dim)``.
        v: Values, ``(batch, heads, keys, any)``.
        mask: Boolean, broadcastable to ``(batch, heads, queries, keys)``; True = may be seen.
        dropout: Probability of dropping a weight now; the caller passes 0 outside training.

    Returns:
        The mixed values, ``(batch, heads, queries, any)``.
    """
    if q.is_cuda and q.shape[0] > CUDA_BATCH_LIMIT:
        pieces = -(-q.shape[0] // CUDA_BATCH_LIMIT)
        masks = [mask] * pieces if mask is None or mask.dim() < 4 or mask.shape[0] == 1 else mask.chunk(pieces)
        parts = zip(q.chunk(pieces), k.chunk(pieces), v.chunk(pieces), masks, strict=True)
        return torch.cat([F.scaled_dot_product_attention(*part, dropout_p=dropout) for part in parts])
    return F.scaled_dot_product_attention(q, k, v, mask, dropout_p=dropout)
