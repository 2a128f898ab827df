"""GPU kernels of alpha-entmax attention: AdaSplash on all keys, FlexAttention on groups of tokens."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from tabattn.attention.flex import flex_entmax
from tabattn.attention.kernel_choice import TRIAL, Attend, agrees, gpu_lacks, plain_entmax, possible

LARGEST_GRID = 65_535
"""Largest second and third dimension of a grid of CUDA blocks."""

SPLASH_WIDTHS = (16, 32, 64, 128, 256)
"""Values of head_dim of AdaSplash."""

SPLASH_TILE = 64
"""Queries of a tile of AdaSplash; where it does not divide their number, its block mask is written beyond its end."""

WIDEST = 256
"""Greatest head_dim, and width of values, of FlexAttention here."""

Codes = tuple[Tensor, Tensor]
"""Codes of queries and of keys, ``(batch, heads, tokens, codes)``."""


def adasplash_lacks(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, alpha: Tensor | float, dropout: float
) -> str | None:
    """What AdaSplash needs and a call does not have; None = nothing. Arguments as of ``by_adasplash``."""
    if (lack := gpu_lacks(q, "adasplash")) is not None:
        return lack
    if isinstance(alpha, Tensor):
        return "one alpha that is fixed, got one for each head"
    if mask is not None:
        return "all keys visible, got a mask"
    if dropout:
        return f"no dropout, got {dropout}"
    if not q.shape == k.shape == v.shape:
        return f"queries, keys and values of one shape, got {tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}"
    if not q.dtype == k.dtype == v.dtype:
        return f"queries, keys and values of one dtype, got {q.dtype}, {k.dtype} and {v.dtype}"
    batch, heads, tokens, width = q.shape
    if width not in SPLASH_WIDTHS:
        return f"head_dim {', '.join(map(str, SPLASH_WIDTHS[:-1]))} or {SPLASH_WIDTHS[-1]}, got {width}"
    if tokens % SPLASH_TILE:
        return f"a multiple of {SPLASH_TILE} tokens, got {tokens}"
    if max(batch, heads) > LARGEST_GRID:
        return f"at most {LARGEST_GRID} items and heads, got {max(batch, heads)}"
    return "no CUDA graph, as it waits for the device" if torch.cuda.is_current_stream_capturing() else None


def by_adasplash(
    kernel: str, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, alpha: Tensor | float, dropout: float = 0.0
) -> Tensor | None:
    """Dense alpha-entmax attention by AdaSplash, where it is chosen; None = plain torch operations are to compute it.

    Source: Goncalves et al. 2025, arXiv 2502.12082; package ``adasplash``, BSD-3-Clause.

    Args:
        kernel: ``auto``, ``torch`` or ``adasplash``.
        q: Queries, ``(batch, heads, tokens, head_dim)``.
        k: Keys, ``(batch, heads, tokens, head_dim)``.
        v: Values, ``(batch, heads, tokens, head_dim)``.
        mask: Boolean mask, which AdaSplash does not take.
        alpha: Above 1; a number, or one for each head.
        dropout: Probability of dropping a weight now.

    Raises:
        ValueError: ``kernel`` is ``adasplash`` and the call lacks something that it needs.
    """
    if not possible(kernel, "adasplash", adasplash_lacks(q, k, v, mask, alpha, dropout)):
        return None
    fused, plain = partial(_adasplash, alpha=float(alpha)), partial(plain_entmax, alpha=float(alpha), mask=None)
    # An alpha that is annealed is tried each tenth.
    if kernel == "auto" and not agrees("adasplash", q, lambda: (fused, plain), round(float(alpha), 1)):
        return None
    return fused(q, k, v)


def _adasplash(q: Tensor, k: Tensor, v: Tensor, alpha: float) -> Tensor:
    from adasplash import adasplash_v1

    if torch.is_grad_enabled() and (k.requires_grad or v.requires_grad) and not q.requires_grad:
        # Only where the queries need a gradient does it keep what its backward pass reads.
        q = q.detach().requires_grad_()
    # Without lengths it takes powers of two alone.
    lengths = torch.full((len(q),), q.shape[2], dtype=torch.int32, device=q.device)
    with torch.cuda.device_of(q):
        out: Tensor = adasplash_v1(q.contiguous(), k.contiguous(), v.contiguous(), alpha=alpha, varlen=lengths)
    return out


def by_flex(
    kernel: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    alphas: tuple[float, ...],
    codes: Callable[[], Codes | None],
) -> Tensor | None:
    """Alpha-entmax attention between tokens that have a code in common by FlexAttention, where it is chosen, or None.

    Args:
        kernel: ``auto`` or ``flex``.
        q: Queries, ``(batch, heads, queries, head_dim)``.
        k: Keys, ``(batch, heads, keys, head_dim)``.
        v: Values, ``(batch, heads, keys, any)``.
        mask: Boolean mask, four-dimensional; True = may be seen.
        alphas: Alpha of each head, above 1.
        codes: Computes the codes, in which the mask is; None = the graph has no codes.

    Raises:
        ValueError: ``kernel`` is ``flex`` and the call lacks something that FlexAttention needs.
    """
    if not possible(kernel, "flex", flex_lacks(q, k, v, mask)):
        return None
    found = codes()
    if found is None:
        possible(kernel, "flex", "a graph of groups without window and ends, got another")
        return None
    counts = [each.shape[-1] for each in found]
    if kernel == "auto" and not agrees("flex", q, lambda: _trial_of_flex(q, alphas, counts), alphas, *counts):
        return None
    return flex_entmax(q, k, v, alphas, *found)


def flex_lacks(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> str | None:
    """What FlexAttention needs and a call does not have; None = nothing. Arguments as of ``by_flex``."""
    if (lack := gpu_lacks(q, "triton")) is not None:
        return lack
    if not q.dtype == k.dtype == v.dtype:
        return f"queries, keys and values of one dtype, got {q.dtype}, {k.dtype} and {v.dtype}"
    if max(q.shape[-1], v.shape[-1]) > WIDEST:
        return f"head_dim and values of a width to {WIDEST}, got {q.shape[-1]} and {v.shape[-1]}"
    if q.shape[0] * q.shape[1] > LARGEST_GRID:
        return f"at most {LARGEST_GRID} items x heads, got {q.shape[0] * q.shape[1]}"
    if mask is not None and mask.shape[-2] > 1:
        return "a mask that is the same for all queries, got one of a row for each"
    return None


def _trial_of_flex(q: Tensor, alphas: tuple[float, ...], counts: list[int]) -> tuple[Attend, Attend]:
    """FlexAttention on drawn groups, as many for each token, and the same function by torch operations."""
    generator = torch.Generator().manual_seed(1)
    own, theirs = (
        torch.randint(4, (1, q.shape[1], TRIAL, count), generator=generator).to(q.device) for count in counts
    )
    joined = (own[..., :, None, :, None] == theirs[..., None, :, None, :]).flatten(-2).any(dim=-1)
    alpha = torch.tensor(alphas, device=q.device)[:, None, None]
    return partial(flex_entmax, alphas=alphas, own=own, theirs=theirs), partial(plain_entmax, alpha=alpha, mask=joined)
