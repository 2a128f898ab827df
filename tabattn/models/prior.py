"""The in-context classifier of tables: nanoTabPFN with any attention, in today's form or in its original one."""

from collections.abc import Iterable
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from tabattn.attention import AttentionFactory, Mechanism, Softmax
from tabattn.nn.block import KeysValues, TableBlock
from tabattn.nn.encode import CellEncoder, LabelEncoder, LegacyCellEncoder, LegacyLabelEncoder, Statistics

THINKING_ROWS, FEATURE_GROUP = 16, 3
"""What the default profile has where it is not said."""


class Memory(NamedTuple):
    """All that target rows read of a context: column statistics, their own label token, keys and values by layer."""

    statistics: Statistics
    label: Tensor
    layers: list[KeysValues]


class PriorNetwork(nn.Module):
    """Reads labelled context rows and classifies target rows in one forward pass.

    Every cell is a token; the label is the last column. Each layer attends along columns, then along rows (target
    rows read context rows only, so they do not influence one another), then applies an MLP. Pfefferle et al. 2025
    (arXiv 2511.03634); the default profile adds pre-normalisation, feature groups, missing flags, class embeddings
    and thinking rows.

    Args:
        dim: Width of a token.
        heads: Number of heads.
        hidden: Width of the MLP's hidden layer.
        layers: Number of layers.
        classes: Largest number of classes.
        attention: Mechanism between context rows (and from target rows to them, where it can).
        feature_attention: Mechanism between the columns of a row.
        target_attention: Mechanism from target rows to context rows; None = ``attention`` where it can answer
            queries from outside, else Softmax.
        profile: ``default``, or ``legacy``: the original network, number for number.
        thinking_rows: Learned rows put before the context; None = 16. The legacy profile has none.
        feature_group: Columns each token sees; None = 3. The legacy profile has no groups.
    """

    cells: CellEncoder | LegacyCellEncoder
    labels: LabelEncoder | LegacyLabelEncoder

    def __init__(
        self,
        dim: int = 96,
        heads: int = 4,
        hidden: int = 192,
        layers: int = 3,
        classes: int = 10,
        attention: AttentionFactory = Softmax,
        feature_attention: AttentionFactory = Softmax,
        target_attention: AttentionFactory | None = None,
        profile: Literal["default", "legacy"] = "default",
        thinking_rows: int | None = None,
        feature_group: int | None = None,
    ) -> None:
        super().__init__()
        legacy = _is_legacy(profile, thinking_rows=thinking_rows, feature_group=feature_group)
        thinking_rows = THINKING_ROWS if thinking_rows is None else thinking_rows
        feature_group = FEATURE_GROUP if feature_group is None else feature_group
        _check_least(layers=(layers, 1), classes=(classes, 1), hidden=(hidden, 1), thinking_rows=(thinking_rows, 0))
        self.classes = classes
        self.cells: CellEncoder | LegacyCellEncoder = (
            LegacyCellEncoder(dim) if legacy else CellEncoder(dim, feature_group)
        )
        self.labels = LegacyLabelEncoder(dim) if legacy else LabelEncoder(dim, classes)
        self.thinking = None if legacy or not thinking_rows else nn.Parameter(torch.randn(thinking_rows, 1, dim))
        self.blocks = nn.ModuleList(
            TableBlock(dim, heads, hidden, attention, feature_attention, target_attention, legacy=legacy, readout=last)
            for last in [False] * (layers - 1) + [True]
        )
        if layers == 1:
            _check_used(attention(heads, dim // heads), target_attention, legacy)
        self.norm = nn.Identity() if legacy else nn.LayerNorm(dim)
        self.decoder = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, classes))

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
        _check_context(x, y, context)
        statistics = self.cells.statistics(x[:, :context])
        h = self._embed(x, y[:, :context], statistics, columns)
        mask = self._column_mask(x, columns)
        h, extra = self._think(h)
        for block in self.blocks:
            h = block(h, context + extra, mask)
        return self._decode(h)

    def remember(self, x: Tensor, y: Tensor, columns: Tensor | None = None) -> Memory:
        """Read a context ``(batch, context, features)`` once, for any number of calls of ``recall``."""
        _check_context(x, y, x.shape[1])
        statistics = self.cells.statistics(x)
        h, _ = self._think(self._embed(x, y, statistics, columns))
        mask = self._column_mask(x, columns)
        layers = []
        for block in self._layers():
            h, keys_values = block.remember(h, mask)
            layers.append(keys_values)
        return Memory(statistics, self.labels(y, 1)[:, -1:], layers)

    def recall(self, x: Tensor, memory: Memory, columns: Tensor | None = None) -> Tensor:
        """Classify target rows ``(batch, target rows, features)`` from a memory: equal to ``forward``."""
        cells = self.cells(x, memory.statistics, columns)
        h = torch.cat([cells, memory.label.expand(-1, x.shape[1], -1, -1)], dim=2)
        mask = self._column_mask(x, columns)
        for block, keys_values in zip(self._layers(), memory.layers, strict=True):
            h = block.recall(h, keys_values, mask)
        return self._decode(h)

    def _layers(self) -> Iterable[TableBlock]:
        return cast("Iterable[TableBlock]", self.blocks)

    def _embed(self, x: Tensor, y: Tensor, statistics: Statistics, columns: Tensor | None) -> Tensor:
        cells = self.cells(x, statistics, columns)
        return torch.cat([cells, self.labels(y, x.shape[1] - y.shape[1])], dim=2)

    def _column_mask(self, x: Tensor, columns: Tensor | None) -> Tensor | None:
        if columns is None:
            return None
        mechanism = next(iter(self._layers())).features.mechanism
        if not mechanism.cross:
            name = type(mechanism).__name__
            raise ValueError(f"tables of unequal width cannot share a batch with feature_attention {name}")
        index = torch.arange(x.shape[2] + 1, device=x.device)
        return (index < columns[:, None]) | (index == x.shape[2])

    def _think(self, h: Tensor) -> tuple[Tensor, int]:
        if self.thinking is None:
            return h, 0
        rows = self.thinking.expand(len(h), -1, h.shape[2], -1)
        return torch.cat([rows, h], dim=1), len(self.thinking)

    def _decode(self, h: Tensor) -> Tensor:
        return self.decoder(self.norm(h[:, :, -1]))


def _is_legacy(profile: str, **of_default: int | None) -> bool:
    """Whether the profile is legacy; refuses other names, and arguments that would go unused."""
    if profile not in ("default", "legacy"):
        raise ValueError(f"profile must be default or legacy, got {profile!r}")
    for name, value in of_default.items():
        if profile == "legacy" and value is not None:
            raise ValueError(f"{name} is of the default profile alone, got {value} with profile legacy")
    return profile == "legacy"


def _check_least(**sizes: tuple[int, int]) -> None:
    for name, (size, least) in sizes.items():
        if size < least:
            raise ValueError(f"{name} must be at least {least}, got {size}")


def _check_used(mechanism: Mechanism, target_attention: AttentionFactory | None, legacy: bool) -> None:
    """With one layer nothing reads the context rows' own attention: refuse a choice that would go unused."""
    used = target_attention is None and not legacy and mechanism.cross
    if not used and not isinstance(mechanism, Softmax):
        raise ValueError(f"layers must be at least 2 for attention {type(mechanism).__name__}, got 1")


def _check_context(x: Tensor, y: Tensor, context: int) -> None:
    if not 1 <= context <= x.shape[1]:
        raise ValueError(f"context must be between 1 and the number of rows ({x.shape[1]}), got {context}")
    if y.shape[1] < context:
        raise ValueError(f"every context row needs a label: got {y.shape[1]} labels for {context} context rows")
    if x.shape[2] < 1:
        raise ValueError("a table needs at least 1 feature, got 0")
