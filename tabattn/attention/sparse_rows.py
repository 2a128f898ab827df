"""Alpha-entmax attention on chosen keys as one autograd function: only these are scored, forward and backward."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tabattn.attention.entmax_rows import centre
from tabattn.attention.entmax_solver import solve_rows, weights_and_slopes


class Tile(NamedTuple):
    """Queries of one head, and the keys that they share.

    Attributes:
        rows: Numbers of the queries.
        keys: Numbers of the keys, each once; None = all.
        seen: Which of these keys each query may see, boolean, ``(rows, keys)``; None = all.
    """

    rows: Tensor
    keys: Tensor | None
    seen: Tensor | None = None


class SparseRows(torch.autograd.Function):
    """Autograd function of alpha-entmax attention over tiles; keys outside of a query's tile have weight 0.

    Saved for backward are the arguments and two numbers for each query. Second derivatives are not supported.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, orders: Sequence[float], tiles: Sequence[Sequence[Tile]]
    ) -> Tensor:
        """Forward pass: mix the values by entmax weights.

        Args:
            ctx: Autograd context, which holds the tensors saved for backward.
            q: Scaled queries, ``(batch x heads, queries, head_dim)``.
            k: Keys, ``(batch x heads, keys, head_dim)``.
            v: Values, ``(batch x heads, keys, any)``.
            orders: alpha - 1 of each head, above 0.
            tiles: Tiles of each head, which hold each query at most once.

        Returns:
            The mixed values, ``(batch x heads, queries, any)``; zeros for queries of no tile.
        """
        out = q.new_zeros(*q.shape[:-1], v.shape[-1])
        peak, shift = (q.new_zeros(*q.shape[:-1], 1) for _ in range(2))
        for head, (order, parts) in enumerate(zip(orders, tiles, strict=True)):
            for tile in parts:
                rows = solve_rows(_scores(q[head], k[head], order, tile), order)
                peak[head, tile.rows], shift[head, tile.rows] = rows.peak, rows.shift
                out[head, tile.rows] = rows.p @ chosen(v[head], tile)
        ctx.save_for_backward(q, k, v, peak, shift)
        ctx.orders, ctx.tiles = orders, tiles
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Backward pass: gradients with respect to q, k and v."""
        q, k, v, peak, shift = ctx.saved_tensors
        dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        with torch.autocast(q.device.type, enabled=False):
            for head, (order, parts) in enumerate(zip(ctx.orders, ctx.tiles, strict=True)):
                for tile in parts:
                    rows, dout = tile.rows, grad[head, tile.rows]
                    excess = _scores(q[head], k[head], order, tile).sub_(peak[head, rows]).sub_(shift[head, rows])
                    p, slope = weights_and_slopes(excess, order)
                    _add(dv[head], tile, p.mT @ dout)
                    dscores = centre(dout @ chosen(v[head], tile).mT, slope).mul_(slope)
                    dq[head, rows] = dscores @ chosen(k[head], tile)
                    _add(dk[head], tile, dscores.mT @ q[head, rows])
        return dq, dk, dv, None, None


def chosen(x: Tensor, tile: Tile) -> Tensor:
    """Keys or values, ``(keys, any)``, of a tile."""
    return x if tile.keys is None else x.index_select(0, tile.keys)


def _add(total: Tensor, tile: Tile, part: Tensor) -> None:
    if tile.keys is None:
        total.add_(part)
    else:
        # Keys of a tile differ, and this is faster than ``index_add_``.
        total[tile.keys] += part


def _scores(q: Tensor, k: Tensor, order: float, tile: Tile) -> Tensor:
    """Scores of a tile times ``order``; -inf for hidden keys."""
    scores = (q.index_select(0, tile.rows) * order) @ chosen(k, tile).mT
    return scores if tile.seen is None else scores.masked_fill_(~tile.seen, -torch.inf)
