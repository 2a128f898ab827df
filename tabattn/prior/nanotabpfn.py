"""NanoTabPFN: nanoTabPFN as published, numerically equal, with any mechanism between its rows."""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from tabattn.attention import AttentionFactory, Mechanism, Softmax
from tabattn.contract.checks import check_least
from tabattn.nn.block import Block
from tabattn.nn.cache import KVCache
from tabattn.nn.gelu import GELU
from tabattn.nn.multihead import MultiheadAttention
from tabattn.nn.rows import ContextAttention, rows_of
from tabattn.prior.classifier_network import (
    ContextCache,
    ContextClassifier,
    check_context,
    column_mask,
    described,
)
from tabattn.prior.encoders import Statistics


class NanoTabPFN(ContextClassifier):
    """Original nanoTabPFN: post-norm, linear embeddings, separate projections for context and target rows.

    Pfefferle et al. 2025 (arXiv 2511.03634), with any mechanism, as in its attention fork.

    Every cell is a token; the label is the last column. Each post-norm layer attends along columns, then along rows,
    then applies an MLP. Context and target rows have projections of their own.

    Args:
        attention: Mechanism between context rows.
        feature_attention: Mechanism between the columns of a row.
        target_attention: Mechanism from target rows to context rows; None = Softmax.
        dim: Width of a token.
        heads: Number of heads.
        hidden: Width of the MLP's hidden layer.
        layers: Number of layers.
        classes: Largest number of classes.
    """

    def __init__(
        self,
        attention: AttentionFactory = Softmax,
        feature_attention: AttentionFactory = Softmax,
        target_attention: AttentionFactory | None = None,
        *,
        dim: int = 96,
        heads: int = 4,
        hidden: int = 192,
        layers: int = 3,
        classes: int = 10,
    ) -> None:
        super().__init__()
        check_least(dim=(dim, 1), layers=(layers, 1), classes=(classes, 1), hidden=(hidden, 1))
        self.classes = classes
        self.cells = NanoCellEncoder(dim)
        self.labels = NanoLabelEncoder(dim)
        self.blocks = nn.ModuleList(
            nano_block(dim, heads, hidden, attention, feature_attention, target_attention, readout=last)
            for last in [False] * (layers - 1) + [True]
        )
        if layers == 1 and not isinstance(mechanism := attention(heads, dim // heads), Softmax):
            raise ValueError(f"layers must be at least 2 for attention {type(mechanism).__name__}, got 1")
        self.decoder = nn.Sequential(nn.Linear(dim, hidden), GELU(), nn.Linear(hidden, classes))
        attentions = {"feature_attention": feature_attention, "target_attention": target_attention}
        self.arguments = described(heads, dim // heads, attention=attention, **attentions)
        self.arguments |= {"dim": dim, "heads": heads, "hidden": hidden, "layers": layers, "classes": classes}

    def forward(self, x: Tensor, y: Tensor, context: int, columns: Tensor | None = None) -> Tensor:
        check_context(x, y, context)
        statistics = self.cells.statistics(x[:, :context])
        labels = self.labels(y[:, :context], x.shape[1] - context)
        h = torch.cat([self.cells(x, statistics), labels], dim=2)
        mask = self._column_mask(x, columns)
        for block in self._layers():
            h = block(h, context, columns=mask)
        return self.decoder(h[:, :, -1])

    def prefill(self, x: Tensor, y: Tensor, columns: Tensor | None = None) -> ContextCache:
        check_context(x, y, x.shape[1])
        statistics = self.cells.statistics(x)
        h = torch.cat([self.cells(x, statistics), self.labels(y, 0)], dim=2)
        mask = self._column_mask(x, columns)
        layers = [KVCache() for _ in self.blocks]
        for block, cache in zip(self._layers(), layers, strict=True):
            h = block(h, cache=cache, columns=mask)
        return ContextCache(statistics, self.labels(y, 1)[:, -1:], layers)

    def decode(self, x: Tensor, cache: ContextCache, columns: Tensor | None = None) -> Tensor:
        cells = self.cells(x, cache.statistics)
        h = torch.cat([cells, cache.label.expand(-1, x.shape[1], -1, -1)], dim=2)
        mask = self._column_mask(x, columns)
        for block, layer in zip(self._layers(), cache.layers, strict=True):
            h = block(h, 0, cache=layer, columns=mask)
        return self.decoder(h[:, :, -1])

    def _layers(self) -> Iterable[Block]:
        return cast("Iterable[Block]", self.blocks)

    def _column_mask(self, x: Tensor, columns: Tensor | None) -> Tensor | None:
        return column_mask(x, columns, next(iter(self._layers())))


def nano_block(
    dim: int,
    heads: int,
    hidden: int,
    attention: AttentionFactory,
    feature_attention: AttentionFactory,
    target_attention: AttentionFactory | None = None,
    *,
    readout: bool = False,
) -> Block:
    """Make nanoTabPFN's transformer block over tables: post-norm, with separate projections of context and target rows.

    Args:
        dim: Width of a token.
        heads: Number of heads.
        hidden: Width of the MLP's hidden layer.
        attention: Mechanism between context rows.
        feature_attention: Mechanism between the columns of a row.
        target_attention: Mechanism from target rows to context rows; None = Softmax.
        readout: Whether to compute only the last column of target rows, as in the last layer. The result is the same.
    """
    features = MultiheadAttention(dim, heads, feature_attention)
    rows = SplitRowAttention(dim, heads, attention, target_attention, readout=readout)
    mlp = nn.Sequential(nn.Linear(dim, hidden), GELU(), nn.Linear(hidden, dim))
    return Block(dim, rows, mlp, features, norm="after", readout=readout)


class SplitRowAttention(ContextAttention):
    """Row attention with separate projections for context and target rows, as in nanoTabPFN's attention fork.

    The KV cache holds what target rows read. Context rows read keys of other projections, which it does not hold, so a
    context is prefilled in one call.

    Args:
        dim: Width of a token.
        heads: Number of heads.
        attention: Mechanism between context rows.
        target_attention: Mechanism from target rows to context rows; None = Softmax.
        readout: Whether to compute target rows only, as in the last layer, after which nothing reads the context rows.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        attention: AttentionFactory,
        target_attention: AttentionFactory | None = None,
        *,
        readout: bool = False,
    ) -> None:
        super().__init__()
        self.context = None if readout else MultiheadAttention(dim, heads, attention)
        self.target = MultiheadAttention(dim, heads, target_attention or Softmax)

    def forward(
        self, x: Tensor, context: int | None = None, mask: Tensor | None = None, cache: KVCache | None = None
    ) -> Tensor:
        context = x.shape[1] if context is None else context
        # One split, rather than a slice for each use, spares the backward pass tables of zeros.
        known, asked = x.split([context, x.shape[1] - context], dim=1)
        q = self.target.queries(asked)
        k, v = self.target.keys_values(known)
        if cache is not None:
            if context and len(cache):
                raise ValueError(
                    f"NanoTabPFN prefills a context in one call: the KV cache has {len(cache)} rows already"
                )
            k, v = cache.append(k, v)
        mixed = self.target.mechanism(q, k, v, rows_of(mask, slice(context, None)))
        answers = self.target.out(self.target.merge(mixed))
        if self.context is None or not context:
            return answers
        return torch.cat([self.context(known, mask=rows_of(mask, slice(context))), answers], dim=1)

    @property
    def outsiders(self) -> Mechanism:
        return self.target.mechanism

    def outputs(self) -> list[nn.Linear]:
        return [self.target.out] if self.context is None else [self.context.out, self.target.out]


class NanoCellEncoder(nn.Module):
    """Cell encoder of nanoTabPFN: missing cells are zero before statistics, unbiased std, hard clip at 100.

    Args:
        dim: Width of a token.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(1, dim)

    def statistics(self, x: Tensor) -> Statistics:
        """Compute mean and scale of the columns of at least 2 context rows ``(batch, rows, features)``."""
        if x.shape[1] < 2:
            raise ValueError(f"NanoTabPFN needs at least 2 context rows, got {x.shape[1]}")
        x = torch.nan_to_num(x, nan=0.0)
        return Statistics(x.mean(1, keepdim=True), x.std(1, keepdim=True) + 1e-20)

    def forward(self, x: Tensor, statistics: Statistics) -> Tensor:
        """Embed cells ``(batch, rows, features)`` as ``(batch, rows, features, dim)``."""
        z = (torch.nan_to_num(x, nan=0.0) - statistics.mean) / statistics.scale
        return self.linear(z.clamp(-100, 100).unsqueeze(-1))


class NanoLabelEncoder(nn.Module):
    """Label encoder of nanoTabPFN: the class index as a number; target rows get the context mean.

    Args:
        dim: Width of a token.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(1, dim)

    def forward(self, y: Tensor, targets: int) -> Tensor:
        """Embed the context labels ``(batch, context)`` and ``targets`` means: ``(batch, rows, 1, dim)``."""
        y = y.to(self.linear.weight.dtype)
        y = torch.cat([y, y.mean(1, keepdim=True).expand(-1, targets)], dim=1)
        return self.linear(y[:, :, None, None])
