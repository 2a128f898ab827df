"""PriorNetwork: the default network of in-context classification."""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from tabattn.attention import AttentionFactory, Mechanism, Softmax
from tabattn.contract.checks import check_least
from tabattn.nn.block import Block, table_block
from tabattn.nn.cache import KVCache
from tabattn.nn.gelu import GELU
from tabattn.prior.classifier_network import (
    ContextCache,
    ContextClassifier,
    check_context,
    column_mask,
    described,
)
from tabattn.prior.encoders import CellEncoder, LabelEncoder, NumberEncoder, Statistics
from tabattn.prior.options import DEFAULT_OPTIONS, PriorOptions
from tabattn.prior.pooling import ColumnPooling
from tabattn.prior.row_stage import RowStage
from tabattn.storage.hyperparameters import mechanism


class PriorNetwork(ContextClassifier):
    """In-context classifier after nanoTabPFN: cell tokens, attention along columns and rows, pre-norm.

    Every cell is a token; the label is the last column. Each layer has attention along columns, then along rows (target
    rows attend to context rows only, so they do not influence one another), then an MLP. Pfefferle et al. 2025 (arXiv
    2511.03634), with pre-norm layers, feature groups, missing flags, class embeddings and thinking rows; ``options``
    change the structure further.

    Args:
        attention: Mechanism between context rows, and from target rows to them where it can answer queries from
            outside.
        feature_attention: Mechanism between the columns of a row.
        target_attention: Mechanism from target rows to context rows; None = ``attention`` where it can answer
            queries from outside, else Softmax.
        dim: Width of a token.
        heads: Number of heads.
        hidden: Width of the MLP's hidden layer.
        layers: Number of layers.
        classes: Largest number of classes.
        thinking_rows: Number of learned rows prepended to the context.
        feature_group: Number of columns that each token is embedded from.
        cell_attention: Mechanism between the rows of a column if layers over row tokens follow
            (``options.row_layers``); None = ``attention``.
        options: Structural options.
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
        thinking_rows: int = 16,
        feature_group: int = 3,
        cell_attention: AttentionFactory | None = None,
        options: PriorOptions = DEFAULT_OPTIONS,
    ) -> None:
        super().__init__()
        check_least(dim=(dim, 1), layers=(layers, 1), classes=(classes, 1), hidden=(hidden, 1))
        check_least(thinking_rows=(thinking_rows, 0))
        cell_attention = _of_cells(cell_attention, options)
        self.classes = classes
        self.options, self.targets, self.summary_tokens = options, options.targets, options.summaries
        self.cells = CellEncoder(dim, feature_group, options.radial if options.embedding == "rbf" else 0)
        self.labels = _label_encoder(dim, classes, options)
        self.summaries = nn.Parameter(torch.randn(options.summaries, dim)) if options.summaries else None
        self.rows = _row_stage(dim, classes, thinking_rows, attention, target_attention, options)
        self.thinking = nn.Parameter(torch.randn(thinking_rows, 1, dim)) if thinking_rows and not self.rows else None
        attentions = cell_attention or attention, feature_attention, target_attention
        self.blocks = _blocks(layers, (dim, heads, hidden), attentions, options)
        if (options.row_layers or layers) == 1:
            head = (options.row_heads, options.row_dim) if options.row_layers else (heads, dim)
            _check_used(attention(head[0], head[1] // head[0]), target_attention)
        self.pooling = ColumnPooling(dim, heads, feature_attention) if options.readout == "attention" else None
        read, inner = _read_out(dim, hidden, options)
        self.norm = nn.LayerNorm(read)
        self.decoder = nn.Sequential(nn.Linear(read, inner), GELU(), nn.Linear(inner, classes))
        chosen = {"attention": attention, "feature_attention": feature_attention, "cell_attention": cell_attention}
        self.arguments = described(heads, dim // heads, target_attention=target_attention, **chosen)
        self.arguments |= {"dim": dim, "heads": heads, "hidden": hidden, "layers": layers, "classes": classes}
        self.arguments |= {"thinking_rows": thinking_rows, "feature_group": feature_group, "options": options}

    def forward(self, x: Tensor, y: Tensor, context: int, columns: Tensor | None = None) -> Tensor:
        """Classify target rows.

        Args:
            x: Cells, context rows first, ``(batch, rows, features)``; NaN = missing.
            y: Class indices, ``(batch, at least context)``; only those of context rows are read.
            context: Number of context rows.
            columns: Real columns of each table, ``(batch,)``; None = all.

        Returns:
            Logits, ``(batch, target rows, classes)``.
        """
        check_context(x, y, context)
        statistics = self.cells.statistics(x[:, :context])
        h = self._embed(x, y[:, :context], statistics, columns)
        mask = self._column_mask(x, columns)
        h, extra = self._think(h)
        for block in self._layers():
            h = block(h, context + extra, columns=mask)
        if self.rows is not None:
            return self.decoder(self.norm(self.rows(h.flatten(2), y[:, :context], context)))
        return self._logits(h, mask)

    def prefill(self, x: Tensor, y: Tensor, columns: Tensor | None = None) -> ContextCache:
        check_context(x, y, x.shape[1])
        statistics = self.cells.statistics(x)
        h, _ = self._think(self._embed(x, y, statistics, columns))
        mask = self._column_mask(x, columns)
        layers = [KVCache() for _ in self.blocks]
        for block, cache in zip(self._layers(), layers, strict=True):
            h = block(h, cache=cache, columns=mask)
        rows = [] if self.rows is None else self.rows.prefill(h.flatten(2), y)
        return ContextCache(statistics, self.labels(y, 1)[:, -1:], layers, rows)

    def decode(self, x: Tensor, cache: ContextCache, columns: Tensor | None = None) -> Tensor:
        cells = self.cells(x, cache.statistics, columns)
        h = self._join(cells, cache.label.expand(-1, x.shape[1], -1, -1))
        mask = self._column_mask(x, columns)
        for block, layer in zip(self._layers(), cache.layers, strict=True):
            h = block(h, 0, cache=layer, columns=mask)
        if self.rows is not None:
            return self.decoder(self.norm(self.rows.decode(h.flatten(2), cache.rows)))
        return self._logits(h, mask)

    def _layers(self) -> Iterable[Block]:
        return cast("Iterable[Block]", self.blocks)

    def _embed(self, x: Tensor, y: Tensor, statistics: Statistics, columns: Tensor | None) -> Tensor:
        cells = self.cells(x, statistics, columns)
        return self._join(cells, self.labels(y, x.shape[1] - y.shape[1]))

    def _join(self, cells: Tensor, labels: Tensor) -> Tensor:
        """Labels as the last column; or added to every cell, behind the summaries."""
        if self.summaries is None:
            return torch.cat([cells, labels], dim=2)
        return torch.cat([self.summaries.expand(*cells.shape[:2], -1, -1), cells + labels], dim=2)

    def _column_mask(self, x: Tensor, columns: Tensor | None) -> Tensor | None:
        return column_mask(x, columns, next(iter(self._layers())))

    def _think(self, h: Tensor) -> tuple[Tensor, int]:
        if self.thinking is None:
            return h, 0
        rows = self.thinking.expand(len(h), -1, h.shape[2], -1)
        return torch.cat([rows, h], dim=1), len(self.thinking)

    def _logits(self, h: Tensor, mask: Tensor | None) -> Tensor:
        if self.pooling is not None:
            return self.decoder(self.norm(self.pooling(h, mask)))
        return self.decoder(self.norm(h[:, :, -1] if self.summaries is None else h.flatten(2)))


def _check_used(mechanism: Mechanism, target_attention: AttentionFactory | None) -> None:
    """Refuse a mechanism between context rows that a single layer would not use."""
    used = target_attention is None and mechanism.cross
    if not used and not isinstance(mechanism, Softmax):
        raise ValueError(f"layers must be at least 2 for attention {type(mechanism).__name__}, got 1")


def _of_cells(cell_attention: AttentionFactory | None, options: PriorOptions) -> AttentionFactory | None:
    """Resolve the mechanism between the rows of a column, where it is another than that between row tokens."""
    if cell_attention is None:
        return None
    if not options.row_layers:
        raise ValueError("cell_attention needs options.row_layers of at least 1, got 0")
    return mechanism(cell_attention, "cell_attention")


def _row_stage(
    dim: int,
    classes: int,
    thinking_rows: int,
    attention: AttentionFactory,
    target_attention: AttentionFactory | None,
    options: PriorOptions,
) -> RowStage | None:
    """Layers over row tokens; None where there are none."""
    if not options.row_layers:
        return None
    sizes = options.row_dim, options.row_heads, options.row_hidden, options.row_layers
    labels = _label_encoder(options.row_dim, classes, options)
    return RowStage(options.summaries * dim, *sizes, labels, thinking_rows, attention, target_attention)


def _label_encoder(dim: int, classes: int, options: PriorOptions) -> LabelEncoder | NumberEncoder:
    """Encoder of the targets that the network predicts."""
    return LabelEncoder(dim, classes) if options.targets == "classes" else NumberEncoder(dim)


def _blocks(
    layers: int,
    sizes: tuple[int, int, int],
    attentions: tuple[AttentionFactory, AttentionFactory, AttentionFactory | None],
    options: PriorOptions,
) -> nn.ModuleList:
    """Layers on cells; the last one computes only what is read."""
    return nn.ModuleList(
        table_block(
            *sizes,
            *attentions,
            readout=layer == layers - 1,
            order=options.order,
            summaries=options.summaries,
            all_rows=options.row_layers > 0,
            all_columns=options.readout == "attention",
        )
        for layer in range(layers)
    )


def _read_out(dim: int, hidden: int, options: PriorOptions) -> tuple[int, int]:
    """Widths of what is read out of a row, and of the decoder's hidden layer."""
    if options.row_layers:
        return options.row_dim, options.row_hidden
    return max(1, options.summaries) * dim, hidden
