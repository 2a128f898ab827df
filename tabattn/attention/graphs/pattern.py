"""Abstract base class of predicted attention graphs, also called sparsity patterns or mask providers."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

PAIRS = 2**18
"""Pairs of query and key that are compared at a time, so that what is between fits into a core's cache."""


class Pattern(nn.Module, ABC):
    """Predicted attention graph: the pairs of query and key that may have a weight; all others are taken for zero.

    A pattern has no trained parameters; what it keeps, such as centroids, are buffers. ``knob`` is the one number that
    trades sparsity for recall; its meaning is the pattern's own.

    Shapes: q ``(batch, heads, queries, width)``, k ``(batch, heads, keys, width)``; boolean visibility of keys and of
    queries ``(batch, 1 or heads, 1, keys)`` and ``(batch, 1 or heads, queries, 1)``, or None = all.

    Args:
        knob: Sparsity against recall; None = the pattern's default.
    """

    default: ClassVar[float]
    """Default of ``knob``."""

    projected: ClassVar[bool] = False
    """Whether queries and keys are those that learned projections bring near to one another, not the mechanism's."""

    learned: ClassVar[bool] = False
    """Whether it has buffers that are learned, such as centroids, without which it predicts nothing."""

    one_sequence: ClassVar[bool] = False
    """Whether positions of queries and of keys are compared, so that both must be the tokens of one sequence."""

    equivariant: bool = True
    """Whether permuted tokens have the same graph, permuted; if not, the pattern reads their order."""

    def __init__(self, knob: float | None = None) -> None:
        super().__init__()
        self.knob = self.default if knob is None else knob

    @abstractmethod
    def edges(self, q: Tensor, k: Tensor, keys: Tensor | None = None, queries: Tensor | None = None) -> Tensor:
        """Predict the graph.

        Args:
            q: Queries, ``(batch, heads, queries, width)``.
            k: Keys, ``(batch, heads, keys, width)``.
            keys: Which keys may be seen, boolean, ``(batch, 1 or heads, 1, keys)``; None = all.
            queries: Which queries count, boolean, ``(batch, 1 or heads, queries, 1)``; None = all.

        Returns:
            Boolean, broadcastable to ``(batch, heads, queries, keys)``; hidden keys may have any value.
        """

    def codes(
        self, q: Tensor, k: Tensor, keys: Tensor | None = None, queries: Tensor | None = None
    ) -> tuple[Tensor, Tensor] | None:
        """Codes of the graph, where it has such: a query and a key are joined if they have a code in common.

        With them a computation needs no comparison of all pairs. Arguments as of ``edges``.

        Returns:
            Whole numbers, ``(batch, heads, queries, codes)`` and ``(batch, heads, keys, codes)``, in any order; hidden
            tokens have negative ones, which join nothing. None = this pattern has no codes.
        """
        return None

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        for name, kept in self._buffers.items():
            given = state_dict.get(f"{prefix}{name}")
            if isinstance(given, Tensor):
                # How many of them there are, such as clusters, is the file's to say.
                like = given if kept is None else kept
                setattr(self, name, torch.empty_like(given, device=like.device, dtype=like.dtype))
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def blank(q: Tensor, k: Tensor) -> tuple[Tensor, Iterator[tuple[Tensor, slice]]]:
    """Graph without edges, and views of blocks of its rows with the queries that they belong to.

    Args:
        q: Queries, ``(batch, heads, queries, width)``.
        k: Keys, ``(batch, heads, keys, width)``.
    """
    graph = torch.zeros(*q.shape[:-1], k.shape[-2], dtype=torch.bool, device=q.device)
    rows = max(1, PAIRS // max(1, q.shape[0] * q.shape[1] * k.shape[-2]))
    starts = range(0, q.shape[-2], rows)
    return graph, ((graph[..., start : start + rows, :], slice(start, start + rows)) for start in starts)
