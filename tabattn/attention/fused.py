"""Softmax attention by a fused, exact kernel: the function behind every softmax of this package."""

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from tabattn.attention.dropped import DroppedAttention
from tabattn.attention.scores import four_dimensional

CUDA_BATCH_LIMIT = 65_535
"""Largest batch of one launch of the fused CUDA kernels; larger ones are split."""

READY_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""Kernels without preparation for a new shape. cuDNN's, which torch prefers on recent GPUs, builds a plan for each
shape in 0.1 s or more, which makes training on tables of varying sizes many times slower."""

PADDED = 128
"""Number of keys from which a CPU computes narrow values padded to the width of queries."""

LONG = 4096
"""Number of keys from which cuDNN's kernel is allowed, as its speed then outweighs the time of its plans."""


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, dropout: float = 0.0) -> Tensor:
    """Scaled dot-product attention by a fused kernel; a query that may see nothing yields zeros.

    Args:
        q: Queries, ``(batch, heads, queries, head_dim)``.
        k: Keys, ``(batch, heads, keys, head_dim)``.
        v: Values, ``(batch, heads, keys, any)``.
        mask: Boolean, broadcastable to ``(batch, heads, queries, keys)``; True = may be seen.
        dropout: Probability of dropping a weight now; the caller passes 0 outside training.

    Returns:
        The mixed values, ``(batch, heads, queries, any)``.
    """
    mask = None if mask is None else four_dimensional(mask)
    if q.is_cuda:
        return in_launches(q, k, v, mask, dropout, CUDA_BATCH_LIMIT)
    if dropout and mask is None and q.device.type == "cpu" and q.dtype in (torch.float32, torch.float64):
        mixed: Tensor = DroppedAttention.apply(q, k, v, dropout)  # type: ignore[no-untyped-call]
        return mixed
    # The fused CPU kernel takes values of the queries' width only; its alternative keeps all scores in memory.
    lacking = q.shape[-1] - v.shape[-1]
    if lacking <= 0 or k.shape[-2] < PADDED:
        return F.scaled_dot_product_attention(q, k, v, mask, dropout_p=dropout)
    return F.scaled_dot_product_attention(q, k, F.pad(v, (0, lacking)), mask, dropout_p=dropout)[..., : v.shape[-1]]


def in_launches(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float, limit: int) -> Tensor:
    """Scaled dot-product attention with at most ``limit`` batch elements in each kernel launch.

    Kernels differ in their output for a fully masked row: such a row is unmasked for the kernel, and its output is set
    to zero.

    Args:
        q: Queries, ``(batch, heads, queries, head_dim)``.
        k: Keys, ``(batch, heads, keys, head_dim)``.
        v: Values, ``(batch, heads, keys, any)``.
        mask: Boolean, four-dimensional; True = may be seen.
        dropout: Probability of dropping a weight.
        limit: Largest batch of one launch.

    Returns:
        The mixed values, ``(batch, heads, queries, any)``.
    """
    blind = None if mask is None else ~mask.any(dim=-1, keepdim=True)
    mask = None if mask is None or blind is None else mask | blind
    pieces = max(1, -(-q.shape[0] // limit))
    masks = [mask] * pieces if mask is None or mask.shape[0] == 1 else mask.split(limit)
    parts = zip(q.split(limit), k.split(limit), v.split(limit), masks, strict=True)
    with sdpa_kernel(READY_KERNELS) if k.shape[2] < LONG else nullcontext():
        outs = [F.scaled_dot_product_attention(*part, dropout_p=dropout) for part in parts]
    out = outs[0] if pieces == 1 else torch.cat(outs)
    return out if blind is None else out.masked_fill(blind, 0.0)
