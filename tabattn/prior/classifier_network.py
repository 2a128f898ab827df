"""Abstract base class of networks for in-context classification, and their KV cache."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from tabattn.attention import MECHANISMS, AttentionFactory, Mechanism
from tabattn.nn.block import Block
from tabattn.nn.cache import KVCache
from tabattn.prior.encoders import Statistics


class ContextCache(NamedTuple):
    """Cache of a context: everything of it that target rows read, above all the KV cache of each layer.

    Attributes:
        statistics: Mean and scale of the columns.
        label: Label embedding of target rows, whose class is unknown.
        layers: KV cache of each layer over cells.
        rows: KV cache of each layer over rows, if there are any.
    """

    statistics: Statistics
    label: Tensor
    layers: list[KVCache]
    rows: list[KVCache] = []  # noqa: RUF012 - the default of a NamedTuple's field, never changed

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        parts: list[Tensor | KVCache] = [*self.statistics, self.label, *self.layers, *self.rows]
        return sum(part.nbytes for part in parts)


class ContextClassifier(nn.Module, ABC):
    """Abstract in-context classifier: reads labelled context rows and classifies target rows in one pass.

    A subclass takes ``(attention, feature_attention, target_attention)`` and, by name, options of its own.
    """

    family: ClassVar[str] = "networks"
    """Plural noun for the subclasses, in messages."""
    classes: int
    """Largest number of classes, or number of bars of a predicted distribution."""
    targets: Literal["classes", "numbers"] = "classes"
    """What is predicted."""
    summary_tokens: int = 0
    """Number of learned tokens before the columns of a row; without any, the target's token is behind them."""
    arguments: dict[str, Any]
    """Constructor arguments in plain values, for files: options, and descriptions of the attentions."""

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor, context: int, columns: Tensor | None = None) -> Tensor:
        """Classify target rows.

        Args:
            x: Cells, context rows first, ``(batch, rows, features)``; NaN = missing.
            y: Class indices, ``(batch, at least context)``; only those of context rows are read.
            context: Number of context rows.
            columns: Number of columns of each table, ``(batch,)``; those behind are padding. None = all are real.

        Returns:
            Logits, ``(batch, target rows, classes)``.
        """

    @abstractmethod
    def prefill(self, x: Tensor, y: Tensor, columns: Tensor | None = None) -> ContextCache:
        """Compute the cache of a context ``(batch, context, features)``, for any number of calls of ``decode``."""

    @abstractmethod
    def decode(self, x: Tensor, cache: ContextCache, columns: Tensor | None = None) -> Tensor:
        """Classify target rows ``(batch, target rows, features)`` from the cache of a context, as ``forward`` does."""


NetworkFactory = Callable[[AttentionFactory, AttentionFactory, AttentionFactory | None], ContextClassifier]
"""Called with ``(attention, feature_attention, target_attention)``; a class, or one with some options filled in."""


def described(heads: int, head_dim: int, **attentions: AttentionFactory | None) -> dict[str, Any]:
    """Class and arguments of the mechanisms that factories make, in plain values, by argument name."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return {
            name: None if attention is None else _described(attention(heads, head_dim))
            for name, attention in attentions.items()
        }


def _described(mechanism: Mechanism) -> dict[str, Any]:
    name = type(mechanism).__name__
    home = "tabattn.attention" if MECHANISMS.get(name) is type(mechanism) else type(mechanism).__module__
    return {"class_path": f"{home}.{name}", "init_args": mechanism.arguments()}


def column_mask(x: Tensor, columns: Tensor | None, block: Block) -> Tensor | None:
    """Key mask of the columns of a table; True = may be seen, None = all.

    Args:
        x: Cells, ``(batch, rows, features)``.
        columns: Number of columns of each table, ``(batch,)``; those behind are padding. None = all are real.
        block: Layer with the attention between columns. Where it has no summary columns before the features, the label
            column is behind them.

    Returns:
        ``(batch, features + 1)``, or ``(batch, summaries + features)``.

    Raises:
        ValueError: The mechanism cannot leave out padding.
    """
    if columns is None:
        return None
    summaries = block.summaries
    if block.features is not None and not block.features.mechanism.cross:
        name = type(block.features.mechanism).__name__
        raise ValueError(f"tables of unequal width cannot share a batch with feature_attention {name}")
    index = torch.arange(max(summaries, 1) + x.shape[2], device=x.device)
    seen = index < summaries + columns[:, None]
    return seen if summaries else seen | (index == x.shape[2])


def check_context(x: Tensor, y: Tensor, context: int) -> None:
    """Raise ValueError unless rows, labels and the size of the context match."""
    if not 1 <= context <= x.shape[1]:
        raise ValueError(f"context must be between 1 and the number of rows ({x.shape[1]}), got {context}")
    if y.shape[1] < context:
        raise ValueError(f"every context row needs a label: got {y.shape[1]} labels for {context} context rows")
    if x.shape[2] < 1:
        raise ValueError("a table needs at least 1 feature, got 0")
