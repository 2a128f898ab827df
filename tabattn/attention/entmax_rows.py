"""Alpha-entmax attention as one autograd function that stores no attention weights."""

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tabattn.attention.entmax_solver import solve_rows, weights_and_slopes

CACHED = 2**18
"""Scores of a tile for each thread of a CPU: a megabyte in float32, which about stays in a core's cache."""

Tile = tuple[slice | int, slice | int, slice]
"""Items, heads and queries that are computed at a time, with all keys; a number for one item or head alone."""


class EntmaxRows(torch.autograd.Function):
    """Autograd function of blockwise alpha-entmax attention; backward recomputes each tile of queries.

    A tile holds complete rows of scores, so extra memory is its rows times keys. Saved for backward are the arguments
    and two numbers for each query. Second derivatives are not supported.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        alpha: Tensor | float,
        mask: Tensor | None,
        block: int,
        dropout: float,
        seed: int,
    ) -> Tensor:
        """Forward pass: mix the values by entmax weights.

        Args:
            ctx: Autograd context, which holds the tensors saved for backward.
            q: Scaled queries, ``(batch, heads, queries, head_dim)``.
            k: Keys, ``(batch, heads, keys, head_dim)``.
            v: Values, ``(batch, heads, keys, any)``.
            alpha: Above 1; a number, or one for each head, ``(heads, 1, 1)``.
            mask: Boolean, four-dimensional, broadcastable to the scores; True = may be seen.
            block: Queries computed at a time on a GPU.
            dropout: Probability of dropping an attention weight.
            seed: Seed of the dropout mask, so that forward and backward drop the same weights.

        Returns:
            The mixed values, ``(batch, heads, queries, any)``.
        """
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        order = alpha - 1
        out = q.new_empty(*q.shape[:-1], v.shape[-1])
        peak, shift = (q.new_empty(*q.shape[:-1], 1) for _ in range(2))
        for number, tile in enumerate(tiles(q, k, block)):
            own = of_heads(order, tile)
            rows = solve_rows(scaled_scores(q, k, own, mask, tile), own)
            peak[tile], shift[tile] = rows.peak, rows.shift
            p = rows.p * kept(rows.p, dropout, seed + number) if dropout else rows.p
            out[tile] = p @ v[tile[:2]]
        learned = alpha if isinstance(alpha, Tensor) else None
        ctx.save_for_backward(q, k, v, mask, peak, shift, learned)
        ctx.fixed = None if learned is not None else alpha
        ctx.block, ctx.dropout, ctx.seed = block, dropout, seed
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Backward pass: gradients with respect to q, k, v and alpha."""
        q, k, v, mask, peak, shift, learned = ctx.saved_tensors
        order = (ctx.fixed if learned is None else learned) - 1
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        dalpha = None if learned is None else torch.zeros_like(learned)
        with torch.autocast(q.device.type, enabled=False):
            for number, tile in enumerate(tiles(q, k, ctx.block)):
                own, pairs, dout = of_heads(order, tile), tile[:2], grad[tile]
                excess = scaled_scores(q, k, own, mask, tile).sub_(peak[tile]).sub_(shift[tile])
                p, slope = weights_and_slopes(excess, own)
                dp, dropped = dout @ v[pairs].mT, p
                if ctx.dropout:
                    keep = kept(p, ctx.dropout, ctx.seed + number)
                    dp, dropped = dp * keep, p * keep
                dv[pairs].add_(dropped.mT @ dout)
                centred = centre(dp, slope)
                if dalpha is not None:
                    change = (centred * (p / own - torch.xlogy(p, p)) / own).sum(dim=(-2, -1), keepdim=True)
                    dalpha[tile[1]] += change.sum(dim=0) if change.dim() == 4 else change
                dscores = centred.mul_(slope)
                dq[tile] = dscores @ k[pairs]
                dk[pairs].add_(dscores.mT @ q[tile])
        return dq, dk, dv, dalpha, None, None, None, None


def tiles(q: Tensor, k: Tensor, block: int) -> Iterator[Tile]:
    """Tiles of the queries: on a CPU as many rows as its cache holds, else ``block`` of every item and head."""
    batch, heads, queries = q.shape[:3]
    if q.device.type != "cpu" or torch.compiler.is_compiling():
        yield from ((slice(None), slice(None), slice(row, row + block)) for row in range(0, queries, block))
        return
    scores = max(1, CACHED * torch.get_num_threads() // max(k.shape[-2], 1))
    if queries >= scores:
        yield from itertools.product(range(batch), range(heads), _parts(queries, scores))
    elif heads * queries >= scores:
        yield from itertools.product(range(batch), _parts(heads, scores // max(queries, 1)), [slice(None)])
    else:
        yield from itertools.product(_parts(batch, scores // max(heads * queries, 1)), [slice(None)], [slice(None)])


def _parts(length: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, length, size)]


def of_heads(order: Tensor | float, tile: Tile) -> Tensor | float:
    """Order of the heads of a tile."""
    return order[tile[1]] if isinstance(order, Tensor) else order


def scaled_scores(q: Tensor, k: Tensor, order: Tensor | float, mask: Tensor | None, tile: Tile) -> Tensor:
    """Masked scores of a tile times ``order``; -inf for hidden keys."""
    scores = (q[tile] * order) @ k[tile[:2]].mT
    if mask is None:
        return scores
    own = tuple(_of(size, part) for size, part in zip(mask.shape, tile, strict=False))
    return scores.masked_fill_(~mask[own], -torch.inf)


def _of(size: int, part: slice | int) -> slice | int:
    """The part of a dimension, which may be broadcast."""
    return part if size > 1 else 0 if isinstance(part, int) else slice(None)


def centre(dp: Tensor, slope: Tensor) -> Tensor:
    """Gradients by weight less their mean by slope; ``dp`` is overwritten."""
    # The slopes of a row sum to at least 1, or to 0 if all its keys are hidden.
    mean = torch.linalg.vecdot(slope, dp).unsqueeze(-1) / slope.sum(dim=-1, keepdim=True).clamp(min=1)
    return dp.sub_(mean)


def kept(p: Tensor, dropout: float, seed: int) -> Tensor:
    """Return dropout factors: 0 where dropped, else ``1 / (1 - dropout)``; the same for the same seed."""
    generator = torch.Generator(p.device).manual_seed(seed)
    draws = torch.rand(p.shape, generator=generator, dtype=p.dtype, device=p.device)
    return (draws >= dropout).to(p.dtype) / (1 - dropout)
