"""Contrastive hinge loss of projected queries and keys, by which a query's attended keys come near to it."""

from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tabattn.attention.scores import full_precision

Distance = Literal["l2", "min"]
Hinge = Literal["query", "pair"]

PAIRS = 2**20
"""Pairs of a query and a key that are computed at a time."""


class Options(NamedTuple):
    """How the loss of a query is computed; the arguments of ``graph_loss``."""

    margin: float
    distance: Distance
    hinge: Hinge
    generator: torch.Generator | None


def graph_loss(
    q: Tensor,
    k: Tensor,
    gold: Tensor,
    seen: Tensor,
    margin: float = 1.0,
    distance: Distance = "l2",
    hinge: Hinge = "query",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Contrastive hinge loss with negative sampling, of the graph that attention weights above zero make.

    For a query with m positives, the keys that it attends to, as many negatives are drawn uniformly and without
    replacement from the other keys that it may see, or all of these where they are fewer. With squared distances D,

        loss = [margin + sum_positives D - sum_negatives D]_+

    of each query is averaged over the queries that see a key, then over the items that have such a query. Memory beyond
    the arguments is linear in the number of queries. Second derivatives are not supported.

    Source: Treviso et al. 2022, arXiv 2109.12188.

    Args:
        q: Projected queries, ``(items, heads, queries, width)``.
        k: Projected keys, ``(items, heads, keys, width)``.
        gold: Pairs whose weight is above zero, ``(items, 1 or heads, queries, keys)`` boolean; hidden ones are none.
        seen: Pairs of a query and a key that it may see, ``(items, 1 or heads, queries, keys)`` boolean.
        margin: By how much negatives shall be farther than positives.
        distance: ``l2``, the squared Euclidean distance, or ``min``, the least squared difference in one dimension.
        hinge: ``query``, as above; or ``pair``, each positive with a negative of its own, which are used again where
            they are fewer, the mean over the query's pairs; without negatives it is 0.
        generator: Random numbers of the negatives; None = PyTorch's own.

    Returns:
        Loss of each head, ``(heads,)``, at least float32; 0 where there is no query.

    Raises:
        ValueError: If ``distance`` or ``hinge`` is unknown.
    """
    for name, value, known in (("distance", distance, Distance), ("hinge", hinge, Hinge)):
        if value not in get_args(known):
            raise ValueError(f"{name} must be one of {', '.join(get_args(known))}, got {value!r}")
    options = Options(margin, distance, hinge, generator)
    sums: Tensor = QueryHinges.apply(full_precision(q), full_precision(k), gold, seen, options)  # type: ignore[no-untyped-call]
    length = seen.any(-1).sum(-1)
    return (sums / length.clamp(min=1)).sum(0) / (length > 0).sum(0).clamp(min=1)


class QueryHinges(torch.autograd.Function):
    """Autograd function of the sum of hinges over queries, which computes gradients along with the loss.

    Negatives are thus drawn once, and neither these nor distances are kept for backward.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, gold: Tensor, seen: Tensor, options: Options) -> Tensor:
        """Sum the hinges; arguments as those of ``graph_loss``; returns ``(items, heads)``."""
        wanted = any(ctx.needs_input_grad)
        sums, dq, dk = q.new_zeros(q.shape[:2]), torch.zeros_like(q), torch.zeros_like(k)
        step = max(1, PAIRS // max(1, q.shape[0] * q.shape[1] * k.shape[2]))
        for start in range(0, q.shape[2], step):
            rows = (slice(None), slice(None), slice(start, start + step))
            with torch.set_grad_enabled(wanted):
                queries, keys = (x.detach().requires_grad_(wanted) for x in (q[rows], k))
                part = query_hinges(queries, keys, gold[rows] & seen[rows], seen[rows], options).sum(-1)
            sums += part.detach()
            if wanted:
                dq[rows], of_keys = torch.autograd.grad(part, (queries, keys), torch.ones_like(part))
                dk += of_keys
        ctx.save_for_backward(dq, dk)
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients with respect to q and k; those of a head depend on the head's own loss alone."""
        dq, dk = ctx.saved_tensors
        grad = grad[..., None, None]
        return grad * dq, grad * dk, None, None, None


def query_hinges(q: Tensor, k: Tensor, positive: Tensor, seen: Tensor, options: Options) -> Tensor:
    """Hinge of each query, ``(items, heads, queries)``; arguments as those of ``graph_loss``.

    Queries that see no key, and keys that no query sees, such as padding, may hold anything.
    """
    positive, seen = (pairs.expand(*q.shape[:3], k.shape[2]) for pairs in (positive, seen))
    q, k = q.where(seen.any(-1)[..., None], 0.0), k.where(seen.any(-2)[..., None], 0.0)
    negative = seen & ~positive
    wanted = positive.sum(-1, keepdim=True)
    drawn = torch.minimum(wanted, negative.sum(-1, keepdim=True))
    slots = torch.arange(int(wanted.max()) if wanted.numel() else 0, device=q.device)
    order = random_scores(seen, options.generator).masked_fill_(~negative, 2.0)
    others = order.topk(len(slots), largest=False).indices
    if options.hinge == "query":
        if options.distance == "l2":
            signs = positive.to(q.dtype).scatter_add_(-1, others, -(slots < drawn).to(q.dtype))
            total = signed_distances(q, k, signs)
        else:
            near, far = (distances(q, k, index, options.distance) for index in (first(positive, slots), others))
            total = near.masked_fill(slots >= wanted, 0.0).sum(-1) - far.masked_fill(slots >= drawn, 0.0).sum(-1)
        return (options.margin + total).relu().masked_fill(~seen.any(-1), 0.0)
    near, far = (distances(q, k, index, options.distance) for index in (first(positive, slots), others))
    far = far.gather(-1, slots % drawn.clamp(min=1))
    hinges = (options.margin + near - far).relu().masked_fill((slots >= wanted) | (drawn == 0), 0.0)
    return hinges.sum(-1) / wanted[..., 0].clamp(min=1)


def first(pairs: Tensor, slots: Tensor) -> Tensor:
    """Keys of each query that are true in ``pairs``, before any others, ``(items, heads, queries, slots)``."""
    return pairs.byte().topk(len(slots)).indices


def signed_distances(q: Tensor, k: Tensor, signs: Tensor) -> Tensor:
    """Sum over keys of signs times squared Euclidean distances, ``(items, heads, queries)``, by matrix products."""
    centre = k.detach().mean(2, keepdim=True)  # Distances do not depend on it, and lose less to rounding.
    q, k = q - centre, k - centre
    of_queries = signs.sum(-1) * q.square().sum(-1)
    of_keys = (signs @ k.square().sum(-1, keepdim=True))[..., 0]
    return of_queries + of_keys - 2 * ((signs @ k) * q).sum(-1)


def random_scores(seen: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw uniform numbers in [0, 1) of the shape of ``seen``, whose order is a random order of the keys."""
    device = seen.device if generator is None else generator.device
    return torch.rand(seen.shape, generator=generator, device=device).to(seen.device)


def distances(q: Tensor, k: Tensor, index: Tensor, distance: Distance) -> Tensor:
    """Squared distances of each query to some keys, ``(items, heads, queries, slots)``, as ``index`` has them."""
    flat = index.flatten(2)[..., None].expand(-1, -1, -1, k.shape[-1])
    squares = (q[..., None, :] - k.gather(2, flat).reshape(*index.shape, k.shape[-1])).square()
    return squares.sum(-1) if distance == "l2" else squares.amin(-1)
