"""Metrics of predicted attention graphs beside those of entmax, as sums that are exact over ranks."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from tabattn.attention.scores import full_precision

NAMES = ("sparsity", "gold_sparsity", "recall", "precision", "f1", "exact", "dropped_mass", "output_error")
"""Names of the metrics."""


class GraphScores(Metric):
    """Sparsity, recall, precision, F1 and exactness of a predicted attention graph, for each head.

    The gold graph G of an item and head is the pairs whose entmax weight is above zero, the predicted graph E those
    that are predicted; only the pairs V of a query and a key that it may see count, and the queries that may see a key.

    - ``sparsity``: ``1 - |E| / |V|``; ``gold_sparsity``: ``1 - |G| / |V|``
    - ``recall``: ``|E and G| / |G|``; ``precision``: ``|E and G| / |E|``; ``f1``: ``2 |E and G| / (|E| + |G|)``
    - ``exact``: share of the queries with all gold keys in E; their outputs are those of dense entmax
    - ``dropped_mass``: weight outside of E, mean over queries
    - ``output_error``: ``|O' - O| / |O|``, with O the outputs of dense entmax and O' those of entmax on E

    Each is averaged over items; one whose E is empty has no precision.

    Args:
        heads: Number of heads.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = None

    sums: Tensor
    counts: Tensor

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads
        zeros = torch.zeros(len(NAMES), heads, dtype=torch.float64)
        self.add_state("sums", zeros, dist_reduce_fx="sum")
        self.add_state("counts", zeros.clone(), dist_reduce_fx="sum")

    def update(
        self, predicted: Tensor, p: Tensor, seen: Tensor, v: Tensor | None = None, sparse: Tensor | None = None
    ) -> None:
        """Add items.

        Args:
            predicted: The predicted graph, boolean, broadcastable to ``p``; hidden pairs may have any value.
            p: Weights of dense entmax, ``(items, heads, queries, keys)``.
            seen: Pairs of a query and a key that it may see, ``(items, 1 or heads, queries, keys)`` boolean.
            v: Values, broadcastable to ``(items, heads, keys, any)``, of which the outputs are made; None = no output
                error; the identity matrix gives the relative error of the weights themselves.
            sparse: Weights of entmax on the predicted graph, of the shape of ``p``; needed where ``v`` is given.

        Raises:
            ValueError: If the number of heads is another, or ``v`` is given without ``sparse``.
        """
        if p.shape[1] != self.heads:
            raise ValueError(f"p must have {self.heads} heads, got {p.shape[1]}")
        if v is not None and sparse is None:
            raise ValueError("v asks for the output error, which needs sparse, the weights on the predicted graph")
        seen = seen.expand_as(p)
        gold, edges = (p > 0) & seen, predicted & seen
        missed = gold & ~edges
        queries = seen.any(-1)
        pairs, golden, found, lost = (_count(graph, -1, -2) for graph in (seen, gold, edges, missed))
        length, hits = _count(queries, -1), golden - lost
        self._add("sparsity", pairs - found, pairs)
        self._add("gold_sparsity", pairs - golden, pairs)
        self._add("recall", hits, golden)
        self._add("precision", hits, found)
        self._add("f1", 2 * hits, found + golden)
        self._add("exact", _count(queries & ~missed.any(-1), -1), length)
        self._add("dropped_mass", p.masked_fill(~missed, 0.0).sum((-2, -1), dtype=torch.float64), length)
        if v is not None and sparse is not None:
            dense, sparse = (full_precision(weights).masked_fill(~seen, 0.0) for weights in (p, sparse))
            v = full_precision(v).to(dense.dtype)
            error, size = (_norm(weights @ v) for weights in (sparse - dense, dense))
            self._add("output_error", error, size)

    def _wrap_compute(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        """Keep the heads' axis, of which torchmetrics would make a number where there is one head."""
        wrapped = super()._wrap_compute(compute)

        @functools.wraps(wrapped)
        def unsqueezed() -> dict[str, Tensor]:
            return {name: values.reshape(self.heads) for name, values in wrapped().items()}

        return unsqueezed

    def _add(self, name: str, part: Tensor, whole: Tensor) -> None:
        """Add the ratio of each item, ``(items, heads)``, where there is a whole."""
        counted = whole > 0
        row = NAMES.index(name)
        self.sums[row] += (part / whole).masked_fill(~counted, 0.0).sum(0)
        self.counts[row] += counted.sum(0)

    def compute(self) -> dict[str, Tensor]:
        """Compute the metrics of each head, ``(heads,)``, by name; NaN where there is nothing to score.

        ``output_error`` is there only if it was asked for.
        """
        scores = dict(zip(NAMES, self.sums / self.counts, strict=True))
        if not self.counts[-1].any():
            del scores["output_error"]
        return scores


def _count(pairs: Tensor, *axes: int) -> Tensor:
    return pairs.sum(axes, dtype=torch.float64)


def _norm(outputs: Tensor) -> Tensor:
    """Norm over queries and width, ``(items, heads)``."""
    return outputs.double().square().sum((-2, -1)).sqrt()
