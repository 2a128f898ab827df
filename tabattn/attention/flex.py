"""FlexAttention for alpha-entmax on groups of tokens: block masks of tokens in the order of their groups.

Entmax weights are ``p = exp(log(base) / order)`` with ``base = [order s - floor]_+`` and ``order = alpha - 1``, that is
softmax of modified scores once the threshold ``floor`` of each row is known. Its sums over keys are log-sum-exps of
FlexAttention, so that Newton's method needs no scores in memory.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, flex_attention

from tabattn.attention.scores import full_precision

BLOCK = 128
"""Tokens of a block."""

NARROWEST = 16
"""Least width of queries, keys and values of compiled FlexAttention."""

STEPS = 12
"""Newton steps; rows of 8192 normal scores of any spread need at most 11 for sparsemax, and 7 for alpha 1.5."""

SHARP = 16.0
"""Factor of the scores whose log-sum-exp bounds the largest."""

LEAST_BASE = 1e-30
"""Base from which a weight is above zero, whose logarithm has a finite gradient."""

LANES = 512
"""Groups that are told apart in finding blocks that meet; more of them share lanes, which adds empty blocks."""

SHAPES = 256
"""Shapes for which it is compiled."""


class Blocks(NamedTuple):
    """Tokens of a batch in blocks, and the blocks of keys that each block of queries meets.

    Attributes:
        own: Codes of the queries, ``(batch, heads, queries, codes)``.
        theirs: Codes of the keys, ``(batch, heads, keys, codes)``; a pair is joined if it has one in common.
        key_counts: Blocks of keys of each block of queries, ``(batch, heads, query blocks)``, int32.
        keys: Their numbers first, ``(batch, heads, query blocks, key blocks)``, int32.
        query_counts: Blocks of queries of each block of keys, ``(batch, heads, key blocks)``, int32.
        queries: Their numbers first, ``(batch, heads, key blocks, query blocks)``, int32.
    """

    own: Tensor
    theirs: Tensor
    key_counts: Tensor
    keys: Tensor
    query_counts: Tensor
    queries: Tensor

    @classmethod
    def of(cls, own: Tensor, theirs: Tensor) -> "Blocks":
        """Blocks of tokens by their codes; shapes and work depend on no number in them."""
        meet = _lanes(own) @ _lanes(theirs).mT > 0
        return cls(own, theirs, *_listed(meet), *_listed(meet.mT))

    def mask(self) -> BlockMask:
        """Block mask of FlexAttention."""
        own, theirs = self.own, self.theirs

        def joined(item: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            pairs = [(one, other) for one in range(own.shape[-1]) for other in range(theirs.shape[-1])]
            found = own[item, head, query, 0] == theirs[item, head, key, 0]
            for one, other in pairs[1:]:
                found = found | (own[item, head, query, one] == theirs[item, head, key, other])
            return found

        return BlockMask(
            seq_lengths=(own.shape[2], theirs.shape[2]),
            kv_num_blocks=self.key_counts,
            kv_indices=self.keys,
            full_kv_num_blocks=None,
            full_kv_indices=None,
            q_num_blocks=self.query_counts,
            q_indices=self.queries,
            full_q_num_blocks=None,
            full_q_indices=None,
            BLOCK_SIZE=(BLOCK, BLOCK),
            mask_mod=joined,
        )


def _lanes(codes: Tensor) -> Tensor:
    """Which lanes the codes of each block fall into, 0 or 1, ``(batch, heads, blocks, lanes)``."""
    lanes = torch.where(codes < 0, LANES, codes % LANES).unflatten(2, (-1, BLOCK)).flatten(3)
    found = torch.zeros(*lanes.shape[:3], LANES + 1, device=codes.device)
    return found.scatter_(-1, lanes, 1.0)[..., :LANES]


def _listed(meet: Tensor) -> tuple[Tensor, Tensor]:
    """Number of the places that are true in each row, and the numbers of the places, those first."""
    order = meet.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)
    return meet.sum(dim=-1, dtype=torch.int32), order.to(torch.int32).contiguous()


def flex_entmax(q: Tensor, k: Tensor, v: Tensor, alphas: tuple[float, ...], own: Tensor, theirs: Tensor) -> Tensor:
    """Alpha-entmax attention between queries and keys that have a code in common, by FlexAttention.

    Tokens are put in the order of their first codes and filled up to a power of two, so that few shapes are compiled.
    Blocks of queries read blocks of keys that have a code of theirs, which are few where tokens have one code.

    Args:
        q: Queries, ``(batch, heads, queries, head_dim)``.
        k: Keys, ``(batch, heads, keys, head_dim)``.
        v: Values, ``(batch, heads, keys, any)``.
        alphas: Alpha of each head, above 1.
        own: Codes of the queries, whole numbers, ``(batch, heads, queries, codes)``; negative = hidden.
        theirs: Codes of the keys, whole numbers, ``(batch, heads, keys, codes)``; other negative ones = hidden.

    Returns:
        The mixed values, ``(batch, heads, queries, any)``; zeros for queries that share no code with a key.
    """
    scale, width = q.shape[-1] ** -0.5, v.shape[-1]
    queries, keys = own[..., 0].argsort(dim=-1, stable=True), theirs[..., 0].argsort(dim=-1, stable=True)
    blocks = Blocks.of(_ordered(own, queries, -2), _ordered(theirs, keys, -1))
    placed = _ordered(_wide(q), queries, 0), _ordered(_wide(k), keys, 0), _ordered(_wide(v), keys, 0)
    out = _mixed(*placed, _orders(alphas, q.device, full_precision(q).dtype), blocks, scale)
    back = queries.argsort(dim=-1)[..., None].expand(-1, -1, -1, width)
    return out[..., :width].gather(2, back)


@cache
def _orders(alphas: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Alpha - 1 of each head on a device, which is not to wait for a copy in each call."""
    with torch.inference_mode(False):
        return torch.tensor(alphas, device=device, dtype=dtype) - 1


def _ordered(x: Tensor, order: Tensor, fill: int) -> Tensor:
    """Tokens, ``(batch, heads, tokens, any)``, in an order, filled up to a power of two of at least a block."""
    count = x.shape[2]
    size = max(BLOCK, 2 ** math.ceil(math.log2(count)))
    return F.pad(x.gather(2, order[..., None].expand_as(x)), (0, 0, 0, size - count), value=fill)


def _wide(x: Tensor) -> Tensor:
    """Vectors filled with zeros up to a width that compiled FlexAttention takes, a power of two."""
    return F.pad(x, (0, max(NARROWEST, 2 ** math.ceil(math.log2(x.shape[-1]))) - x.shape[-1]))


def _mixed(q: Tensor, k: Tensor, v: Tensor, order: Tensor, blocks: Blocks, scale: float) -> Tensor:
    """Mix values by entmax weights; tokens in blocks.

    FlexAttention at a fixed threshold has the score gradients ``u (dp - <p, dp>)`` with ``u = p^(2 - alpha)``, those of
    entmax are ``u (dp - <u, dp> / sum u)``. The difference is the gradient of the scores' mean by u, times
    ``sum u <dout, out - mean of the values by u>``.
    """
    fixed = q.detach(), k.detach()
    with torch.no_grad():
        floor, hidden = _thresholds(*fixed, order, blocks, scale)
    steep = 1 / order - 1
    out, _ = _run(_weighted, q, k, v, floor, order, 1 / order, blocks, scale)
    if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad):
        with torch.no_grad():
            mean, total = _run(_weighted, *fixed, v.detach(), floor, order, steep, blocks, scale)
            change = full_precision(out - mean) * total.exp()[..., None]
        toward, _ = _run(_weighted, *fixed, k, floor, order, steep, blocks, scale)
        scores = scale * (full_precision(q) * full_precision(toward)).sum(dim=-1, keepdim=True)
        out = _WithGradient.apply(out, scores, change)  # type: ignore[no-untyped-call]
    return out.masked_fill(hidden[..., None], 0.0)


class _WithGradient(torch.autograd.Function):
    """Autograd function that returns the output as it is, and gives the scores' mean ``<dout, change>`` as gradient."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, scores: Tensor, change: Tensor) -> Tensor:
        ctx.save_for_backward(change)
        return out.view_as(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        (change,) = ctx.saved_tensors
        return grad, (grad * change).sum(dim=-1, keepdim=True), None


def _thresholds(q: Tensor, k: Tensor, order: Tensor, blocks: Blocks, scale: float) -> tuple[Tensor, Tensor]:
    """Scores times ``order`` at which weights end, ``(batch, heads, queries)``, and which queries may see nothing.

    Newton's method on the p-norm of the bases, from a lower bound: the largest score is at least
    ``(log-sum-exp(c s) - log(keys)) / c`` for any c, and its weight at most 1.
    """
    few = k[..., :NARROWEST]
    sharp = _run(_log_sum_exp, q, k, few, blocks, SHARP * scale)
    hidden, rows = sharp == -torch.inf, order[:, None]
    floor = (rows * (sharp - math.log(k.shape[2])) / SHARP - 1).masked_fill(hidden, torch.inf)
    for _ in range(STEPS):
        _, total = _run(_weighted, q, k, few, floor, order, 1 / order, blocks, scale)
        _, slope = _run(_weighted, q, k, few, floor, order, 1 / order - 1, blocks, scale)
        step = -torch.expm1(-rows * total) * (total - slope).exp()
        floor = floor + step.clamp(min=0).masked_fill(hidden, 0.0)
    return floor, hidden


def _weighted(
    q: Tensor, k: Tensor, v: Tensor, floor: Tensor, order: Tensor, power: Tensor, blocks: Blocks, scale: float
) -> tuple[Tensor, Tensor]:
    """Mean of the values by weights ``base^power``, and the logarithm of the sum of the weights."""

    def modified(score: Tensor, item: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        base = score * order[head] - floor[item, head, query]
        # What is not a number is no zero.
        return torch.where(base <= LEAST_BASE, -torch.inf, base.clamp(min=LEAST_BASE).log() * power[head])

    sums = AuxRequest(lse=True)
    out, aux = flex_attention(q, k, v, score_mod=modified, block_mask=blocks.mask(), scale=scale, return_aux=sums)
    assert aux.lse is not None
    return out, aux.lse


def _log_sum_exp(q: Tensor, k: Tensor, v: Tensor, blocks: Blocks, scale: float) -> Tensor:
    _, aux = flex_attention(q, k, v, block_mask=blocks.mask(), scale=scale, return_aux=AuxRequest(lse=True))
    assert aux.lse is not None
    return aux.lse


def _run(function: Callable[..., Any], q: Tensor, *others: Any) -> Any:
    """Call a function, compiled on a GPU; a CPU computes FlexAttention without compilation, forward alone."""
    if not q.is_cuda:
        return function(q, *others)
    with torch._dynamo.config.patch(recompile_limit=SHAPES, accumulated_recompile_limit=SHAPES):
        return compiled(function)(q, *others)


@cache
def compiled(function: Callable[..., Any], backend: str | Callable[..., Any] = "inductor") -> Callable[..., Any]:
    """Compile a function as a whole, anew for other shapes but not for other numbers."""
    return torch.compile(function, fullgraph=True, dynamic=False, backend=backend)
