"""Predicted attention graphs of recorded queries and keys."""

from collections.abc import Mapping

import torch
from torch import Tensor

from tabattn.attention.graphs import Pattern, innermost, named, pattern_named
from tabattn.attention.graphs.extras import always
from tabattn.contract.queries_keys import LayerBatch
from tabattn.sparsity.options import GraphOptions


class NeedsSequence(ValueError):
    """A graph compares positions, and queries and keys are not the same tokens."""


def pattern_of(options: GraphOptions, learned: Mapping[str, Tensor] | None = None) -> Pattern:
    """Pattern of a graph.

    Args:
        options: The graph.
        learned: Buffers of the pattern, such as centroids, of the layer.

    Raises:
        ValueError: The knob is out of the pattern's range.
    """
    own = {"top": options.top} if options.top > 1 else {}
    pattern = pattern_named(options.grouping, options.knob, **own)
    for name, value in (learned or {}).items():
        setattr(innermost(pattern), name, value)
    return pattern


@torch.no_grad()
def predicted(pattern: Pattern, options: GraphOptions, batch: LayerBatch, points: tuple[Tensor, Tensor]) -> Tensor:
    """Predicted graph of a layer, ``(items, heads, queries, keys)`` boolean; only pairs that may be seen.

    Args:
        pattern: Pattern of the graph.
        options: The graph, for its window and ends.
        batch: Queries and keys.
        points: Projected queries and keys.

    Raises:
        NeedsSequence: The graph compares positions, and queries and keys are not those of the same tokens.
    """
    q, k = points if pattern.projected else (batch.q, batch.k)
    count = batch.k.shape[-2]
    if (options.window or options.ends or pattern.one_sequence) and not torch.equal(batch.queries, batch.keys):
        raise NeedsSequence(f"{options.name} compares positions, and queries and keys have other lengths")
    keys, queries = batch.keys[:, None, None], batch.queries[:, None, :, None]
    found = pattern.edges(q, k, keys, queries)
    if options.window or options.ends:
        block = named(options.grouping).tokens
        found = found | always(count, options.window, options.ends, keys, block, q.device)
    return (found & batch.seen).expand(*batch.q.shape[:-1], count)
