"""NanoTabPFN: nanoTabPFN as published, numerically equal, with any mechanism between its rows."""

from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor, nn

from tabattn.attention import AttentionFactory, Softmax
from tabattn.nn.multihead import MultiheadAttention
from tabattn.nn.table import KeysValues
from tabattn.prior.classifier_network import (
    ContextClassifier,
    Memory,
    check_context,
    check_least,
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
        check_least(layers=(layers, 1), classes=(classes, 1), hidden=(hidden, 1))
        self.classes = classes
        self.cells = NanoCellEncoder(dim)
        self.labels = NanoLabelEncoder(dim)
        self.blocks = nn.ModuleList(
            NanoBlock(dim, heads, hidden, attention, feature_attention, target_attention, readout=last)
            for last in [False] * (layers - 1) + [True]
        )
        if layers == 1 and not isinstance(mechanism := attention(heads, dim // heads), Softmax):
            raise ValueError(f"layers must be at least 2 for attention {type(mechanism).__name__}, got 1")
        self.decoder = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, classes))
        attentions = {"feature_attention": feature_attention, "target_attention": target_attention}
        self.arguments = described(heads, dim // heads, attention=attention, **attentions)
        self.arguments |= {"dim": dim, "heads": heads, "hidden": hidden, "layers": layers, "classes": classes}

    def forward(self, x: Tensor, y: Tensor, context: int, columns: Tensor | None = None) -> Tensor:
        check_context(x, y, context)
        statistics = self.cells.statistics(x[:, :context])
        labels = self.labels(y[:, :context], x.shape[1] - context)
        h = torch.cat([self.cells(x, statistics), labels], dim=2)
        mask = self._column_mask(x, columns)
        for block in self.blocks:
            h = block(h, context, mask)
        return self.decoder(h[:, :, -1])

    def remember(self, x: Tensor, y: Tensor, columns: Tensor | None = None) -> Memory:
        check_context(x, y, x.shape[1])
        statistics = self.cells.statistics(x)
        h = torch.cat([self.cells(x, statistics), self.labels(y, 0)], dim=2)
        mask = self._column_mask(x, columns)
        layers = []
        for block in self._layers():
            h, keys_values = block.remember(h, mask)
            layers.append(keys_values)
        return Memory(statistics, self.labels(y, 1)[:, -1:], layers)

    def recall(self, x: Tensor, memory: Memory, columns: Tensor | None = None) -> Tensor:
        cells = self.cells(x, memory.statistics)
        h = torch.cat([cells, memory.label.expand(-1, x.shape[1], -1, -1)], dim=2)
        mask = self._column_mask(x, columns)
        for block, keys_values in zip(self._layers(), memory.layers, strict=True):
            h = block.recall(h, keys_values, mask)
        return self.decoder(h[:, :, -1])

    def _layers(self) -> Iterable["NanoBlock"]:
        return cast("Iterable[NanoBlock]", self.blocks)

    def _column_mask(self, x: Tensor, columns: Tensor | None) -> Tensor | None:
        return column_mask(x, columns, next(iter(self._layers())).features.mechanism)


class NanoBlock(nn.Module):
    """Post-norm layer over a table of tokens: attention along columns, along rows, and an MLP in each cell.

    Args:
        dim: Width of a token.
        heads: Number of heads.
        hidden: Width of the MLP's hidden layer.
        attention: Mechanism between context rows.
        feature_attention: Mechanism between the columns of a row.
        target_attention: Mechanism from target rows to context rows; None = Softmax.
        readout: Whether to compute only the last column of target rows, as in the last layer. The result is the same.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        hidden: int,
        attention: AttentionFactory,
        feature_attention: AttentionFactory,
        target_attention: AttentionFactory | None = None,
        *,
        readout: bool = False,
    ) -> None:
        super().__init__()
        self.readout = readout
        self.features = MultiheadAttention(dim, heads, feature_attention)
        self.rows = SplitRowAttention(dim, heads, attention, target_attention, readout=readout)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))

    def forward(self, x: Tensor, context: int, mask: Tensor | None = None) -> Tensor:
        """Transform a table ``(batch, rows, columns, dim)``; see ``tabattn.nn.table.TableBlock.forward``."""
        return self._sublayers(x, mask, lambda rows: self.rows(rows, context))

    def remember(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, KeysValues]:
        """Prefill: transform context rows alone; also return the KV cache that target rows read."""
        memory: list[KeysValues] = []

        def mix(rows: Tensor) -> Tensor:
            memory.append(self.rows.keys_values(rows))
            return self.rows(rows, rows.shape[1])

        return self._sublayers(x, mask, mix), memory[0]

    def recall(self, x: Tensor, memory: KeysValues, mask: Tensor | None = None) -> Tensor:
        """Decode: transform target rows alone, given the KV cache of ``remember``."""
        return self._sublayers(x, mask, lambda rows: self.rows.answer(rows, *memory))

    def _sublayers(self, x: Tensor, mask: Tensor | None, mix: Callable[[Tensor], Tensor]) -> Tensor:
        x = self.norms[0](self._along_columns(x, mask))
        rows, columns = x.shape[1:3]
        mixed = mix(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (-1, columns)).transpose(1, 2)
        x = self.norms[1](x[:, rows - mixed.shape[1] :] + mixed)
        return self.norms[2](x + self.mlp(x))

    def _along_columns(self, x: Tensor, mask: Tensor | None) -> Tensor:
        tokens = x.flatten(0, 1)
        if mask is not None:
            mask = mask.repeat_interleave(x.shape[1], dim=0)[:, None, None]
        if self.readout and self.features.mechanism.cross:
            mixed = self.features(tokens[:, -1:], tokens, mask)
        else:
            mixed = self.features(tokens, mask=mask)
            mixed = mixed[:, -1:] if self.readout else mixed
        x = x[:, :, -1:] if self.readout else x
        return x + mixed.view(x.shape)


class SplitRowAttention(nn.Module):
    """Row attention with separate projections for context and target rows, as in nanoTabPFN's attention fork.

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

    def forward(self, x: Tensor, context: int) -> Tensor:
        """Attention of all rows to the context rows; see ``RowAttention.forward``."""
        # One split, rather than a slice for each use, spares the backward pass tables of zeros.
        known, asked = x.split([context, x.shape[1] - context], dim=1)
        answers = self.target(asked, known)
        return answers if self.context is None else torch.cat([self.context(known), answers], dim=1)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """KV cache: keys and values of context rows, by the projections of target rows."""
        return self.target.keys_values(x)

    def answer(self, x: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of target rows ``(batch, target rows, dim)``, given keys and values of the context."""
        return self.target.out(self.target.merge(self.target.mechanism(self.target.queries(x), k, v)))

    def outputs(self) -> list[nn.Linear]:
        """Output projections."""
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
