"""Distillation of block gates: which blocks of keys each query attends to, learned from attention weights."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from tabattn.attention.graphs.gate import BlockGate, Pooled, gate_scores
from tabattn.attention.mechanism import check_at_least
from tabattn.attention.scores import full_precision
from tabattn.contract.queries_keys import LayerBatch
from tabattn.sparsity.projections import LayerMaps

ITEMS = 8
"""Items whose attention weights are computed at a time."""

MOST = 64
"""Most items of a layer that a gate is fitted to."""


class Lesson(NamedTuple):
    """Attention that a gate is to learn.

    Attributes:
        q: Queries, ``(items, heads, queries, head_dim)``.
        k: Keys, ``(items, heads, keys, head_dim)``.
        p: Weights of the attention, ``(items, heads, queries, keys)``; 0 where a key may not be seen.
        keys: Which keys may be seen, boolean, ``(items, 1 or heads, 1, keys)``; None = all.
        queries: Which queries count, boolean, ``(items, 1 or heads, queries, 1)``; None = all.
    """

    q: Tensor
    k: Tensor
    p: Tensor
    keys: Tensor | None = None
    queries: Tensor | None = None


def gate_loss(scores: Tensor, target: Tensor) -> Tensor:
    """Distillation loss of a block gate: KL divergence of its softmax from the largest attention of each block.

    Source: Gao et al. 2024, arXiv 2410.13276.

    Args:
        scores: Scores of blocks, ``(items, heads, query blocks, key blocks)``; -inf = hidden.
        target: Distribution over key blocks, of that shape; rows of zeros do not count.

    Returns:
        Mean over the items' query blocks, of each head, ``(heads,)``; 0 where there are none.
    """
    counted = target.any(dim=-1, keepdim=True)
    # Blocks that are hidden have no target: 0 instead of -inf, whose product with 0 is no number.
    log_gate = scores.masked_fill(~counted, 0.0).log_softmax(dim=-1)
    log_gate = log_gate.masked_fill(target == 0, 0.0)
    divergence = (torch.xlogy(target, target) - target * log_gate).sum(dim=(0, 2, 3))
    return divergence / counted.sum(dim=(0, 2, 3)).clamp(min=1)


def gate_target(p: Tensor, queries: Tensor | None, block: int, query_block: int) -> Tensor:
    """Target of a block gate: the largest attention weight of each block of queries and keys, over their sum.

    Args:
        p: Attention weights, ``(items, heads, queries, keys)``.
        queries: Which queries count, boolean, ``(items, 1 or heads, queries, 1)``; None = all.
        block: Keys of a block.
        query_block: Queries of a block.

    Returns:
        ``(items, heads, query blocks, key blocks)``; each row sums to 1, or is zero without attention.
    """
    p = full_precision(p) if queries is None else full_precision(p).masked_fill(~queries, 0.0)
    p = pad(p, (0, -p.shape[-1] % block, 0, -p.shape[-2] % query_block))
    largest = p.unflatten(-1, (-1, block)).amax(dim=-1).unflatten(-2, (-1, query_block)).amax(dim=-2)
    total = largest.sum(dim=-1, keepdim=True)
    return largest / total.masked_fill(total == 0, 1.0)


def fit_gate(
    gate: BlockGate,
    lessons: Iterable[Lesson],
    *,
    width: int | None = None,
    steps: int = 300,
    lr: float = 0.003,
    seed: int = 0,
) -> Tensor:
    """Fit the weights of a block gate to attention, by Adam on one lesson after another.

    The gate's weights are replaced. At the start it scores blocks like the mean of their keys would be.

    Args:
        gate: Gate to fit; its sizes of blocks are used, its knob is not.
        lessons: Attention of the training items, by parts that fit in memory; read once.
        width: Width of the products; None = head_dim.
        steps: Steps of Adam.
        lr: Learning rate.
        seed: Seed of the initial weights.

    Returns:
        Loss of each head, mean over lessons, by the weights that were found, ``(heads,)``.

    Raises:
        ValueError: There are no lessons, or a size is below 1.
    """
    # Validation runs in inference mode, in which nothing is trained.
    with torch.inference_mode(False), torch.enable_grad():
        parts = [_part(gate, lesson) for lesson in lessons]
        if not parts:
            raise ValueError("lessons must hold at least 1 part, got none")
        queries = parts[0][0].queries
        width = queries.shape[-1] if width is None else width
        check_at_least(1, steps=steps, width=width)
        weights = _initial(queries, width, seed)
        optimizer = torch.optim.Adam(weights, lr=lr)
        for step in range(steps):
            pooled, target = parts[step % len(parts)]
            optimizer.zero_grad()
            gate_loss(gate_scores(pooled, *weights), target).sum().backward()
            optimizer.step()
        gate.of_queries, gate.of_keys = (each.detach() for each in weights)
        losses = [gate_loss(gate_scores(pooled, gate.of_queries, gate.of_keys), target) for pooled, target in parts]
    return torch.stack(losses).mean(dim=0)


def gate_weights(maps: LayerMaps, batch: LayerBatch, block: int = 16) -> dict[str, Tensor]:
    """Buffers of a block gate that is fitted to a layer's attention.

    Args:
        maps: The layer, for its weights.
        batch: Queries and keys of training items, of which at most 64 are used, evenly many left out.
        block: Keys of a block.
    """
    gate = BlockGate(block=block)
    fit_gate(gate, _lessons(maps, batch))
    return dict(gate.named_buffers())


def _lessons(maps: LayerMaps, batch: LayerBatch) -> Iterator[Lesson]:
    count = len(batch.q)
    chosen = torch.linspace(0, count - 1, min(count, MOST)).long().to(batch.q.device)
    for items in chosen.split(ITEMS) if count else ():
        mask = None if batch.mask is None else batch.mask[items]
        part = LayerBatch(batch.q[items], batch.k[items], batch.queries[items], batch.keys[items], mask)
        yield Lesson(part.q, part.k, maps.weights(part), part.keys[:, None, None], part.queries[:, None, :, None])


@torch.no_grad()
def _part(gate: BlockGate, lesson: Lesson) -> tuple[Pooled, Tensor]:
    """What is pooled of a lesson, which has no trained parts, and the target."""
    target = gate_target(lesson.p, lesson.queries, gate.block, gate.query_block)
    return gate.pooled(lesson.q, lesson.k, lesson.keys, lesson.queries), target


def _initial(queries: Tensor, width: int, seed: int) -> list[Tensor]:
    """Maps that are near to orthogonal ones for queries and means of keys, and small for extremes of keys."""
    generator = torch.Generator().manual_seed(seed)
    heads, head_dim = queries.shape[1], queries.shape[-1]
    base = torch.randn(heads, head_dim, width, generator=generator)
    base = torch.linalg.qr(base if width <= head_dim else base.mT)[0]
    base = base if width <= head_dim else base.mT
    base = base * (width / head_dim) ** 0.25
    extremes = 0.01 * torch.randn(heads, 2 * head_dim, width, generator=generator)
    return [each.to(queries).requires_grad_() for each in (base, torch.cat((extremes, base), dim=1))]
