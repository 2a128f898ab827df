"""Blocks over tables of tokens, which fold axes so that a mechanism works along columns or along rows."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from tabattn.attention import AttentionFactory, Softmax
from tabattn.nn.multihead import MultiheadAttention
from tabattn.nn.rows import RowAttention

KeysValues = tuple[Tensor, Tensor]
Order = Literal["columns", "rows"]


class TableBlock(nn.Module):
    """Pre-norm layer over a table of tokens: attention along columns, along rows, and an MLP in each cell.

    Args:
        dim: Width of a token.
        heads: Number of heads.
        hidden: Width of the MLP's hidden layer.
        attention: Mechanism between context rows.
        feature_attention: Mechanism between the columns of a row.
        target_attention: Mechanism from target rows to context rows; None = ``attention`` where it can answer queries
            from outside, else Softmax.
        readout: Whether to compute only what is read after the last layer: of target rows the last column, or the
            summary columns if there are any. The result is the same.
        order: Order of the sublayers: ``columns`` -> rows -> MLP, or ``rows`` -> MLP -> columns.
        summaries: Number of leading summary columns, which belong to no feature: they take part in attention along
            columns and in the MLP, but not in attention along rows. Needs order ``rows``.
        all_rows: With ``readout``, whether to compute the summaries of context rows too.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        hidden: int,
        attention: AttentionFactory = Softmax,
        feature_attention: AttentionFactory = Softmax,
        target_attention: AttentionFactory | None = None,
        *,
        readout: bool = False,
        order: Order = "columns",
        summaries: int = 0,
        all_rows: bool = False,
    ) -> None:
        super().__init__()
        if order not in ("columns", "rows"):
            raise ValueError(f"order must be columns or rows, got {order!r}")
        if summaries and order == "columns":
            raise ValueError(f"summaries must be 0 with order columns, got {summaries}")
        self.readout = readout
        self.order = order
        self.summaries = summaries
        self.features = MultiheadAttention(dim, heads, feature_attention)
        self.rows = RowAttention(dim, heads, attention, target_attention, readout=readout and not all_rows)
        narrow = nn.Linear(hidden, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), narrow)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        for last in (self.features.out, narrow, *self.rows.outputs()):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, context: int, mask: Tensor | None = None) -> Tensor:
        """Transform a table of tokens.

        Args:
            x: Tokens, context rows first and the target column last, ``(batch, rows, columns, dim)``.
            context: Number of context rows.
            mask: Column mask, ``(batch, columns)`` boolean; True = may be seen. None = all.

        Returns:
            ``(batch, rows, columns, dim)``; where ``readout``, ``(batch, target rows, 1 or summaries, dim)``, or all
            rows.
        """
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
        if self.order == "columns":
            return self._in_cells(self._along_rows(self._along_columns(x, mask), mix))
        return self._along_columns(self._in_cells(self._along_rows(x, mix)), mask)

    def _along_columns(self, x: Tensor, mask: Tensor | None) -> Tensor:
        tokens = self.norms[0](x).flatten(0, 1)
        if mask is not None:
            mask = mask.repeat_interleave(x.shape[1], dim=0)[:, None, None]
        read = slice(0, self.summaries) if self.summaries else slice(-1, None)
        if self.readout and self.features.mechanism.cross:
            mixed = self.features(tokens[:, read], tokens, mask)
        else:
            mixed = self.features(tokens, mask=mask)
            mixed = mixed[:, read] if self.readout else mixed
        if self.readout:
            x = x[:, :, read]
        return x + mixed.view(x.shape)

    def _along_rows(self, x: Tensor, mix: Callable[[Tensor], Tensor]) -> Tensor:
        apart, x = x.split([self.summaries, x.shape[2] - self.summaries], dim=2)
        rows, columns = x.shape[1:3]
        tokens = self.norms[1](x).transpose(1, 2).flatten(0, 1)
        mixed = mix(tokens).unflatten(0, (-1, columns)).transpose(1, 2)
        asked = slice(rows - mixed.shape[1], None)
        x = x[:, asked] + mixed
        return torch.cat([apart[:, asked], x], dim=2) if self.summaries else x

    def _in_cells(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norms[2](x))
