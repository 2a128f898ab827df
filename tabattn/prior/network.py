"""PriorNetwork: the default network of in-context classification."""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from tabattn.attention import AttentionFactory, Mechanism, Softmax
from tabattn.nn.block import Block, table_block
from tabattn.nn.cache import KVCache
from tabattn.prior.classifier_network import (
    ContextCache,
    ContextClassifier,
    check_context,
    check_least,
    column_mask,
    described,
)
from tabattn.prior.encoders import CellEncoder, LabelEncoder, Statistics
from tabattn.prior.options import DEFAULT_OPTIONS, PriorOptions
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
        if cell_attention is not None:
            cell_attention = mechanism(cell_attention, "cell_attention")
            if not options.row_layers:
                raise ValueError("cell_attention needs options.row_layers of at least 1, got 0")
        self.classes = classes
        self.options = options
        radial = options.radial if options.embedding == "rbf" else 0
        self.cells = CellEncoder(dim, feature_group, radial)
        self.labels = LabelEncoder(dim, classes)
        self.summaries = nn.Parameter(torch.randn(options.summaries, dim)) if options.summaries else None
        width, hidden_out = (options.row_dim, options.row_hidden) if options.row_layers else (dim, hidden)
        self.rows: RowStage | None = None
        if options.row_layers:
            sizes = options.summaries * dim, width, options.row_heads, hidden_out, options.row_layers, classes
            self.rows = RowStage(*sizes, thinking_rows, attention, target_attention)
        thinking = thinking_rows and self.rows is None
        self.thinking = nn.Parameter(torch.randn(thinking_rows, 1, dim)) if thinking else None
        of_cells = attention if cell_attention is None else cell_attention
        self.blocks = nn.ModuleList(
            table_block(
                dim,
                heads,
                hidden,
                of_cells,
                feature_attention,
                target_attention,
                readout=last,
                order=options.order,
                summaries=options.summaries,
                all_rows=options.row_layers > 0,
            )
            for last in [False] * (layers - 1) + [True]
        )
        if layers == 1 and not options.row_layers:
            _check_used(attention(heads, dim // heads), target_attention)
        if options.row_layers == 1:
            _check_used(attention(options.row_heads, width // options.row_heads), target_attention)
        read = width if self.rows is not None else max(1, options.summaries) * dim
        self.norm = nn.LayerNorm(read)
        self.decoder = nn.Sequential(nn.Linear(read, hidden_out), nn.GELU(), nn.Linear(hidden_out, classes))
        others = {"target_attention": target_attention, "cell_attention": cell_attention}
        self.arguments = described(
            heads, dim // heads, attention=attention, feature_attention=feature_attention, **others
        )
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
        return self._logits(h)

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
        return self._logits(h)

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

    def _logits(self, h: Tensor) -> Tensor:
        return self.decoder(self.norm(h[:, :, -1] if self.summaries is None else h.flatten(2)))


def _check_used(mechanism: Mechanism, target_attention: AttentionFactory | None) -> None:
    """Refuse a mechanism between context rows that a single layer would not use."""
    used = target_attention is None and mechanism.cross
    if not used and not isinstance(mechanism, Softmax):
        raise ValueError(f"layers must be at least 2 for attention {type(mechanism).__name__}, got 1")
