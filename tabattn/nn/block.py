"""Transformer block: over a sequence of tokens, or over a table of them along both of its axes."""

from typing import Literal

import torch
from torch import Tensor, nn

from tabattn.attention import AttentionFactory, Softmax
from tabattn.nn.cache import KVCache
from tabattn.nn.gelu import GELU
from tabattn.nn.multihead import MultiheadAttention
from tabattn.nn.rows import ContextAttention, RowAttention

Norm = Literal["after", "before"]
Order = Literal["columns", "rows"]


class Block(nn.Module):
    """Transformer block: attention between rows, an MLP for each token, and in tables attention between columns.

    It is made of its parts, and serves an encoder (all rows attend to all), a causal decoder (a mask with a row for
    each query, and a KV cache) and in-context prediction (target rows attend to the context rows, which come first).
    ``row_block`` and ``table_block`` make the usual ones.

    Args:
        dim: Width of a token.
        rows: Attention between rows.
        mlp: MLP for each token.
        features: Attention between the columns of a row; None = a sequence, with one token for each row.
        norm: Layer normalisation: ``after`` = post-norm, of the sum behind each sublayer; ``before`` = pre-norm, of the
            input of each sublayer.
        order: Order of the sublayers of a table: ``columns`` -> rows -> MLP, or ``rows`` -> MLP -> columns.
        summaries: Number of leading summary columns, which belong to no feature: they take part in attention along
            columns and in the MLP, but not in attention along rows. Needs order ``rows``.
        readout: Whether to compute of a table only the columns that are read after the last layer: the last one, or
            the summary columns if there are any. The result is the same.
        dropout: Probability of dropout on what each sublayer adds.
    """

    def __init__(
        self,
        dim: int,
        rows: ContextAttention,
        mlp: nn.Sequential,
        features: MultiheadAttention | None = None,
        *,
        norm: Norm = "after",
        order: Order = "columns",
        summaries: int = 0,
        readout: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if norm not in ("after", "before"):
            raise ValueError(f"norm must be after or before, got {norm!r}")
        if order not in ("columns", "rows"):
            raise ValueError(f"order must be columns or rows, got {order!r}")
        if summaries and order == "columns":
            raise ValueError(f"summaries must be 0 with order columns, got {summaries}")
        self.norm = norm
        self.order = order
        self.summaries = summaries
        self.readout = readout
        self.dropout = nn.Dropout(dropout)
        self.features = features
        self.rows = rows
        self.mlp = mlp
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2 if features is None else 3))

    def forward(
        self,
        x: Tensor,
        context: int | None = None,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
        columns: Tensor | None = None,
        locations: Tensor | None = None,
    ) -> Tensor:
        """Transform rows, which attend to the context rows and to those that the KV cache holds.

        To prefill a cache, give it with the context rows. To decode, give it with target rows and ``context=0``, or
        with rows that later ones may read too, such as the next token of a decoder.

        Args:
            x: Tokens of rows, context rows first: ``(batch, rows, dim)``, or ``(batch, rows, columns, dim)`` of tables,
                whose target column is the last.
            context: Number of leading rows that may be attended to; None = all.
            mask: Mask between rows, boolean, ``(batch or 1, heads or 1, rows or 1, keys)``, where keys are the rows in
                the cache, then the context rows; True = may be seen. None = all.
            cache: KV cache, to which the keys and values of the context rows are appended; None = none.
            columns: Column mask of tables, ``(batch, columns)`` boolean; True = may be seen. None = all.
            locations: Location features of the rows of a sequence, for the distance bias of ``RowAttention``,
                ``(batch, rows, features)``; None = none.

        Returns:
            Of the shape of ``x``; only the target rows where the attention between rows computes no others, and only
            the last column or the summary columns where ``readout``.
        """
        if self.features is None:
            return self._in_tokens(self._along_sequence(x, context, mask, cache, locations))
        if locations is not None:
            raise ValueError("locations must be None for tables, whose rows have none")
        if self.order == "columns":
            x = self._between_columns(self.features, x, columns)
            return self._in_tokens(self._between_rows(x, context, mask, cache))
        x = self._in_tokens(self._between_rows(x, context, mask, cache))
        return self._between_columns(self.features, x, columns)

    def _between_columns(self, features: MultiheadAttention, x: Tensor, columns: Tensor | None) -> Tensor:
        tokens = self._read(self.norms[0], x).flatten(0, 1)
        mask = None if columns is None else columns.repeat_interleave(x.shape[1], dim=0)[:, None, None]
        read = slice(0, self.summaries) if self.summaries else slice(-1, None)
        if self.readout and features.mechanism.cross:
            mixed = features(tokens[:, read], tokens, mask)
        else:
            mixed = features(tokens, mask=mask)
            mixed = mixed[:, read] if self.readout else mixed
        if self.readout:
            x = x[:, :, read]
        return self._added(self.norms[0], x, mixed.view(x.shape))

    def _along_sequence(
        self, x: Tensor, context: int | None, mask: Tensor | None, cache: KVCache | None, locations: Tensor | None
    ) -> Tensor:
        norm = self.norms[-2]
        read = self._read(norm, x)
        if locations is None:
            mixed = self.rows(read, context, mask, cache)
        elif isinstance(self.rows, RowAttention):
            mixed = self.rows(read, context, mask, cache, locations)
        else:
            raise ValueError(f"locations need a RowAttention, got {type(self.rows).__name__}")
        return self._added(norm, x[:, x.shape[1] - mixed.shape[1] :], mixed)

    def _between_rows(self, x: Tensor, context: int | None, mask: Tensor | None, cache: KVCache | None) -> Tensor:
        norm = self.norms[-2]
        apart = x[:, :, : self.summaries]
        x = x[:, :, self.summaries :]
        columns = x.shape[2]
        if mask is not None and mask.shape[0] > 1:
            mask = mask.repeat_interleave(columns, dim=0)
        tokens = self._read(norm, x).transpose(1, 2).flatten(0, 1)
        mixed = self.rows(tokens, context, mask, cache).unflatten(0, (-1, columns)).transpose(1, 2)
        left = slice(x.shape[1] - mixed.shape[1], None)
        x = self._added(norm, x[:, left], mixed)
        return torch.cat([apart[:, left], x], dim=2) if self.summaries else x

    def _in_tokens(self, x: Tensor) -> Tensor:
        return self._added(self.norms[-1], x, self.mlp(self._read(self.norms[-1], x)))

    def _read(self, norm: nn.Module, x: Tensor) -> Tensor:
        """Input of a sublayer."""
        return norm(x) if self.norm == "before" else x

    def _added(self, norm: nn.Module, x: Tensor, mixed: Tensor) -> Tensor:
        """Residual connection around a sublayer."""
        mixed = self.dropout(mixed)
        return x + mixed if self.norm == "before" else norm(x + mixed)


def row_block(
    dim: int,
    heads: int,
    hidden: int,
    attention: AttentionFactory = Softmax,
    target_attention: AttentionFactory | None = None,
    *,
    readout: bool = False,
    norm: Norm = "after",
    waves: int = 0,
    relative: bool = False,
) -> Block:
    """Make a transformer block over a sequence of rows, each one token.

    Post-norm keeps the first updates of attention large: on endless streams of sequences it learns several times sooner
    than pre-norm.

    Args:
        dim: Width of a token.
        heads: Number of heads.
        hidden: Width of the MLP's hidden layer.
        attention: Mechanism between context rows.
        target_attention: Mechanism from target rows to context rows; None = ``attention`` where it can answer queries
            from outside, else Softmax.
        readout: Whether to compute target rows only, as in a last layer, after which nothing reads the context rows.
        norm: Layer normalisation: ``after`` = post-norm, ``before`` = pre-norm.
        waves: Number of wavelengths of the distance bias (see ``DistanceBias``); 0 = none.
        relative: Whether values are rotated by location (see ``rotated``).
    """
    rows = RowAttention(dim, heads, attention, target_attention, readout=readout, waves=waves, relative=relative)
    return Block(dim, rows, nn.Sequential(nn.Linear(dim, hidden), nn.SiLU(), nn.Linear(hidden, dim)), norm=norm)


def table_block(
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
    all_columns: bool = False,
    dropout: float = 0.0,
) -> Block:
    """Make a pre-norm transformer block over tables, whose sublayers add nothing at first.

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
        order: Order of the sublayers; see ``Block``.
        summaries: Number of leading summary columns; see ``Block``.
        all_rows: With ``readout``, whether to compute the summaries of context rows too.
        all_columns: With ``readout``, whether to compute all columns.
        dropout: Probability of dropout on what each sublayer adds.
    """
    features = MultiheadAttention(dim, heads, feature_attention)
    rows = RowAttention(dim, heads, attention, target_attention, readout=readout and not all_rows)
    narrow = nn.Linear(hidden, dim)
    mlp = nn.Sequential(nn.Linear(dim, hidden), GELU(), narrow)
    silence(features.out, narrow, *rows.outputs())
    narrowed = readout and not all_columns
    return Block(
        dim, rows, mlp, features, norm="before", order=order, summaries=summaries, readout=narrowed, dropout=dropout
    )


def silence(*layers: nn.Module) -> None:
    """Set weights and biases of linear layers to zero, so that a residual branch adds nothing at first."""
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
