"""Transformer block over one sequence of tokens, context first, for context and target rows."""

from typing import Literal

import torch
from torch import Tensor, nn

from tabattn.attention import AttentionFactory, Softmax
from tabattn.nn.rows import RowAttention

KeysValues = tuple[Tensor, Tensor]
Norm = Literal["after", "before"]


class RowBlock(nn.Module):
    """Transformer block over rows, post-norm or pre-norm: row attention, then an MLP for each row.

    Context rows attend to one another, target rows to the context. Post-norm keeps the first updates of attention
    large: on endless streams of sequences it learns several times sooner than pre-norm.

    Args:
        dim: Width of a token.
        heads: Number of heads.
        hidden: Width of the MLP's hidden layer.
        attention: Mechanism between context rows.
        target_attention: Mechanism from target rows to context rows; None = ``attention`` where it can answer queries
            from outside, else Softmax.
        readout: Whether to compute target rows only, as in a last layer, after which nothing reads the context rows.
        norm: Layer normalisation: ``after`` = post-norm, of the sum behind each sublayer; ``before`` = pre-norm, of the
            input of each sublayer.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        hidden: int,
        attention: AttentionFactory = Softmax,
        target_attention: AttentionFactory | None = None,
        *,
        readout: bool = False,
        norm: Norm = "after",
    ) -> None:
        super().__init__()
        if norm not in ("after", "before"):
            raise ValueError(f"norm must be after or before, got {norm!r}")
        self.norm = norm
        self.readout = readout
        self.rows = RowAttention(dim, heads, attention, target_attention, readout=readout)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.SiLU(), nn.Linear(hidden, dim))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))

    def forward(self, x: Tensor, context: int, mask: Tensor | None = None) -> Tensor:
        """Transform context and target rows.

        Args:
            x: Context rows first, ``(batch, rows, dim)``.
            context: Number of context rows.
            mask: Key mask of context rows, ``(batch, 1, 1, context)`` boolean; True = may be seen. None = all.

        Returns:
            ``(batch, rows, dim)``; only the target rows where ``readout``.
        """
        mixed = self.rows(self._read(x), context, mask)
        return self._each(x[:, context:] + mixed if self.readout else x + mixed)

    def remember(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, KeysValues]:
        """Prefill: transform context rows, and return the KV cache that later rows read.

        Args:
            x: Context rows, ``(batch, context, dim)``.
            mask: Key mask, ``(batch, 1, 1, context)`` boolean; True = may be seen. None = all.

        Returns:
            The transformed rows (none where ``readout``), and the KV cache: their keys and values.
        """
        read = self._read(x)
        memory = self.rows.keys_values(read)
        if self.readout:
            return x[:, :0], memory
        return self._each(x + self.rows(read, x.shape[1], mask)), memory

    def recall(
        self, x: Tensor, memory: KeysValues, own: int = 0, mask: Tensor | None = None
    ) -> tuple[Tensor, KeysValues]:
        """Decode: transform rows behind the context, given its KV cache.

        Args:
            x: Rows, ``(batch, rows, dim)``.
            memory: KV cache: keys and values, each ``(batch, heads, keys, head_dim)``.
            own: Number of leading rows whose keys and values are appended to the cache before any row reads it.
            mask: Boolean, broadcastable to ``(batch, heads, rows, keys + own)``; True = may be seen. None = all.

        Returns:
            The transformed rows (without the leading ``own`` where ``readout``), and the extended KV cache.
        """
        if own:
            pairs = zip(memory, self.rows.keys_values(self._read(x[:, :own])), strict=True)
            k, v = (torch.cat(pair, dim=2) for pair in pairs)
            memory = k, v
        if self.readout:
            x = x[:, own:]
            mask = mask if mask is None or mask.shape[-2] == 1 else mask[..., own:, :]
        return self._each(x + self.rows.answer(self._read(x), *memory, mask)), memory

    def _read(self, x: Tensor) -> Tensor:
        return self.norms[0](x) if self.norm == "before" else x

    def _each(self, x: Tensor) -> Tensor:
        if self.norm == "before":
            return x + self.mlp(self.norms[1](x))
        x = self.norms[0](x)
        return self.norms[1](x + self.mlp(x))
