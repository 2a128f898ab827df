"""Row-level stage of ``PriorNetwork``: a transformer over one token for each row."""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from tabattn.attention import AttentionFactory, Softmax
from tabattn.nn.block import Block, row_block, silence
from tabattn.nn.cache import KVCache
from tabattn.prior.encoders import LabelEncoder, NumberEncoder


class RowStage(nn.Module):
    """Pre-norm transformer over row tokens: context rows attend to one another, target rows to them.

    Each row is one token, projected from the output of the cell stage; the embedding of its class or number is added to
    context rows, a learned "unknown" to target rows. The dataset-wise in-context learning stage of TabICL (arXiv
    2502.05564). Its cost does not depend on the number of columns.

    Args:
        width: Width of the output of the cell stage for a row.
        dim: Width of a row token.
        heads: Number of heads.
        hidden: Width of the MLP's hidden layer.
        layers: Number of layers.
        labels: Encoder of the targets, with tokens of width ``dim``.
        thinking_rows: Number of learned tokens prepended to the context.
        attention: Mechanism between context rows.
        target_attention: Mechanism from target rows to context rows; None = ``attention`` where it can answer queries
            from outside, else Softmax.
    """

    def __init__(
        self,
        width: int,
        dim: int,
        heads: int,
        hidden: int,
        layers: int,
        labels: LabelEncoder | NumberEncoder,
        thinking_rows: int = 0,
        attention: AttentionFactory = Softmax,
        target_attention: AttentionFactory | None = None,
    ) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim))
        self.labels = labels
        self.thinking = nn.Parameter(torch.randn(1, thinking_rows, dim)) if thinking_rows else None
        self.blocks = nn.ModuleList(
            row_block(dim, heads, hidden, attention, target_attention, readout=last, norm="before")
            for last in [False] * (layers - 1) + [True]
        )
        for block in self._layers():
            silence(block.mlp[-1], *block.rows.outputs())

    def forward(self, rows: Tensor, y: Tensor, context: int) -> Tensor:
        """Transform rows; target rows read the context.

        Args:
            rows: Outputs of the cell stage, context rows first, ``(batch, rows, width)``.
            y: Class indices or numbers of the context rows, ``(batch, context)``.
            context: Number of context rows.

        Returns:
            Tokens of the target rows, ``(batch, target rows, dim)``.
        """
        x, extra = self._think(self._embed(rows, y))
        for block in self._layers():
            x = block(x, context + extra)
        return x

    def prefill(self, rows: Tensor, y: Tensor) -> list[KVCache]:
        """Compute the KV cache of a context, for any number of calls of ``decode``.

        Args:
            rows: Outputs of the cell stage for context rows, ``(batch, context, width)``.
            y: Class indices or numbers of the context rows, ``(batch, context)``.

        Returns:
            KV cache of each layer.
        """
        x, _ = self._think(self._embed(rows, y))
        caches = [KVCache() for _ in self.blocks]
        for block, cache in zip(self._layers(), caches, strict=True):
            x = block(x, cache=cache)
        return caches

    def decode(self, rows: Tensor, caches: list[KVCache]) -> Tensor:
        """Compute the tokens of target rows ``(batch, target rows, width)`` from the KV caches of ``prefill``."""
        x = self._embed(rows, rows.new_zeros(len(rows), 0, dtype=self.labels.kind))
        for block, cache in zip(self._layers(), caches, strict=True):
            x = block(x, 0, cache=cache)
        return x

    def _layers(self) -> Iterable[Block]:
        return cast("Iterable[Block]", self.blocks)

    def _embed(self, rows: Tensor, y: Tensor) -> Tensor:
        return self.project(rows) + self.labels(y, rows.shape[1] - y.shape[1])[:, :, 0]

    def _think(self, x: Tensor) -> tuple[Tensor, int]:
        if self.thinking is None:
            return x, 0
        return torch.cat([self.thinking.expand(len(x), -1, -1), x], dim=1), self.thinking.shape[1]
