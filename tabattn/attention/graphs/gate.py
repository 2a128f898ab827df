"""Block gate distilled from attention: learned products of pooled queries and keys choose blocks of keys."""

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from tabattn.attention.graphs.blocks import fold
from tabattn.attention.graphs.knobs import whole
from tabattn.attention.graphs.pattern import Pattern
from tabattn.attention.mechanism import check_at_least

WEIGHTS = ("of_queries", "of_keys")
"""Names of the buffers of a gate."""


class Pooled(NamedTuple):
    """Blocks of queries and of keys.

    Attributes:
        queries: Mean query of each block, ``(batch, heads, query blocks, head_dim)``.
        keys: Largest, least and mean key of each block, ``(batch, heads, key blocks, 3 head_dim)``.
        seen: Which blocks hold a visible key, boolean, ``(batch, heads, 1, key blocks)``.
    """

    queries: Tensor
    keys: Tensor
    seen: Tensor


class BlockGate(Pattern):
    """Block gate distilled from attention: each query sees the blocks of keys that the gate scores highest.

    Keys are pooled over blocks of consecutive ones, to their largest, least and mean values. The score of a block is
    ``(q of_queries) . (pooled of_keys) / sqrt(width)`` with maps of each head, which are learned apart, by
    ``tabattn.sparsity.gates.fit_gate``, and kept as buffers. Queries and keys may be of different sequences.

    Source: Gao et al. 2024, arXiv 2410.13276 (SeerAttention); queries one by one, Gao et al. 2025, arXiv 2506.08889.

    Args:
        knob: Blocks of keys that a query sees, at least 1.
        block: Keys of a block.
        query_block: Consecutive queries that see the same blocks, by their mean.

    Raises:
        ValueError: An argument is out of its range.
    """

    default: ClassVar[float] = 4

    learned = True

    equivariant = False

    of_queries: Tensor | None
    of_keys: Tensor | None

    def __init__(self, knob: float | None = None, *, block: int = 16, query_block: int = 1) -> None:
        super().__init__(knob)
        whole(self.knob)
        check_at_least(1, block=block, query_block=query_block)
        self.block, self.query_block = block, query_block
        for name in WEIGHTS:
            self.register_buffer(name, None)

    @torch.no_grad()
    def edges(self, q: Tensor, k: Tensor, keys: Tensor | None = None, queries: Tensor | None = None) -> Tensor:
        of_queries, of_keys = self._checked(q)
        pooled = self.pooled(q, k, keys, queries)
        scores = gate_scores(pooled, of_queries.to(pooled.queries), of_keys.to(pooled.keys))
        best = scores.topk(min(whole(self.knob), scores.shape[-1]), dim=-1).indices
        chosen = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, best, True) & pooled.seen
        rows = chosen.repeat_interleave(self.query_block, dim=-2)[..., : q.shape[-2], :]
        return rows.repeat_interleave(self.block, dim=-1)[..., : k.shape[-2]]

    def pooled(self, q: Tensor, k: Tensor, keys: Tensor | None = None, queries: Tensor | None = None) -> Pooled:
        """Pool queries and keys of blocks, in at least float32; arguments as of ``edges``.

        What is hidden has no influence; a block without visible tokens is zero.
        """
        own, counted = fold(q, queries, self.query_block)
        mean = _mean(own, counted)
        theirs, seen = fold(k, None if keys is None else keys.mT, self.block)
        visible = seen.any(dim=-2)
        extremes = [
            (sign * theirs).masked_fill(~seen, -torch.inf).amax(dim=-2).masked_fill(~visible, 0.0) * sign
            for sign in (1, -1)
        ]
        return Pooled(mean, torch.cat((*extremes, _mean(theirs, seen)), dim=-1), visible.mT)

    def _checked(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """Maps of queries and keys, or ValueError where they are missing or do not fit."""
        if self.of_queries is None or self.of_keys is None:
            raise ValueError("the gate has no weights: fit it to attention, or load them")
        heads, head_dim, _ = self.of_queries.shape
        if (heads, head_dim) != (q.shape[1], q.shape[-1]):
            raise ValueError(
                f"the gate is of {heads} heads and width {head_dim}, queries of {q.shape[1]} and {q.shape[-1]}"
            )
        return self.of_queries, self.of_keys


def gate_scores(pooled: Pooled, of_queries: Tensor, of_keys: Tensor) -> Tensor:
    """Scores of blocks, ``(batch, heads, query blocks, key blocks)``; -inf where no key may be seen.

    Args:
        pooled: Blocks of queries and keys.
        of_queries: Map of queries, ``(heads, head_dim, width)``.
        of_keys: Map of pooled keys, ``(heads, 3 head_dim, width)``.
    """
    scores = (pooled.queries @ of_queries) @ (pooled.keys @ of_keys).mT * of_queries.shape[-1] ** -0.5
    return scores.masked_fill(~pooled.seen, -torch.inf)


def _mean(x: Tensor, visible: Tensor) -> Tensor:
    """Mean of the visible tokens of each block; 0 where there is none."""
    return x.masked_fill(~visible, 0.0).sum(dim=-2) / visible.sum(dim=-2).clamp(min=1)
