"""The stage of a network that sees one token for each row of a table."""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from tabattn.attention import AttentionFactory, Softmax
from tabattn.nn.block import KeysValues, RowBlock
from tabattn.prior.encoders import LabelEncoder


class RowStage(nn.Module):
    """Pre-norm transformer over the rows of a table: labelled rows attend to one another, target rows to them.

    Each row is one token, made from what an earlier stage says of it; context rows add the embedding of their class,
    target rows a learned "unknown". The dataset-wise in-context learning stage of TabICL (arXiv 2502.05564). Its cost
    does not depend on the number of columns.

    Args:
        width: Width of what the earlier stage says of a row.
        dim: Width of a row's token.
        heads: Number of heads.
        hidden: Width of the MLP's hidden layer.
        layers: Number of layers.
        classes: Largest number of classes.
        thinking_rows: Learned tokens put before the context.
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
        classes: int,
        thinking_rows: int = 0,
        attention: AttentionFactory = Softmax,
        target_attention: AttentionFactory | None = None,
    ) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim))
        self.labels = LabelEncoder(dim, classes)
        self.thinking = nn.Parameter(torch.randn(1, thinking_rows, dim)) if thinking_rows else None
        self.blocks = nn.ModuleList(
            RowBlock(dim, heads, hidden, attention, target_attention, readout=last, norm="before")
            for last in [False] * (layers - 1) + [True]
        )
        for block in self._layers():
            for final in (cast("nn.Linear", block.mlp[-1]), *block.rows.outputs()):
                nn.init.zeros_(final.weight)
                nn.init.zeros_(final.bias)

    def forward(self, rows: Tensor, y: Tensor, context: int) -> Tensor:
        """Let target rows read the context.

        Args:
            rows: What is known of each row, context rows first, ``(batch, rows, width)``.
            y: Classes of the context rows, ``(batch, context)``.
            context: Number of context rows.

        Returns:
            Tokens of the target rows, ``(batch, target rows, dim)``.
        """
        x, extra = self._think(self._embed(rows, y))
        for block in self._layers():
            x = block(x, context + extra)
        return x

    def remember(self, rows: Tensor, y: Tensor) -> list[KeysValues]:
        """Read a context once, for any number of calls of ``recall``.

        Args:
            rows: What is known of each context row, ``(batch, context, width)``.
            y: Their classes, ``(batch, context)``.

        Returns:
            Keys and values of each layer.
        """
        x, _ = self._think(self._embed(rows, y))
        layers = []
        for block in self._layers():
            x, keys_values = block.remember(x)
            layers.append(keys_values)
        return layers

    def recall(self, rows: Tensor, memory: list[KeysValues]) -> Tensor:
        """Tokens of target rows ``(batch, target rows, width)``, given what ``remember`` kept."""
        x = self._embed(rows, rows.new_zeros(len(rows), 0, dtype=torch.long))
        for block, keys_values in zip(self._layers(), memory, strict=True):
            x, _ = block.recall(x, keys_values)
        return x

    def _layers(self) -> Iterable[RowBlock]:
        return cast("Iterable[RowBlock]", self.blocks)

    def _embed(self, rows: Tensor, y: Tensor) -> Tensor:
        return self.project(rows) + self.labels(y, rows.shape[1] - y.shape[1])[:, :, 0]

    def _think(self, x: Tensor) -> tuple[Tensor, int]:
        if self.thinking is None:
            return x, 0
        return torch.cat([self.thinking.expand(len(x), -1, -1), x], dim=1), self.thinking.shape[1]
