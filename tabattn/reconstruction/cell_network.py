"""Abstract base class of networks that reconstruct hidden cells of a table, and their predictions."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import MixtureSameFamily

from tabattn.attention import AttentionFactory
from tabattn.contract.cells import CellBatch, Column
from tabattn.reconstruction.sites import Site


class Kinds(NamedTuple):
    """Places of the columns of each kind.

    Attributes:
        numeric: Places of the numeric columns.
        categorical: Places of the categorical columns.
        counts: Number of categories of each categorical column.
    """

    numeric: list[int]
    categorical: list[int]
    counts: list[int]

    @classmethod
    def of(cls, columns: Sequence[Column]) -> "Kinds":
        """Find the places."""
        numeric = [place for place, column in enumerate(columns) if not column.categories]
        categorical = [place for place, column in enumerate(columns) if column.categories]
        return cls(numeric, categorical, [len(columns[place].categories) for place in categorical])


class Reconstruction(NamedTuple):
    """Predictions of all cells of a table.

    Attributes:
        mean: Point prediction of the cells of numeric columns, standardised, ``(tables, rows, numeric columns)``.
        density: Their predictive density, of that batch shape; its mean may differ from ``mean``.
        logits: Logits of the cells of categorical columns, ``(tables, rows, categorical columns, categories)``; -inf
            behind the last category of a column.
    """

    mean: Tensor
    density: MixtureSameFamily
    logits: Tensor


class CellNetwork(nn.Module, ABC):
    """Abstract network that predicts every cell of a table from those that are not hidden.

    A subclass takes ``(columns, attention, attribute_attention)`` and, by name, options of its own.
    """

    family: ClassVar[str] = "networks"
    """Plural noun for the subclasses, in messages."""
    kinds: Kinds
    """Places of numeric and categorical columns."""
    reads_rows: ClassVar[bool] = False
    """Whether ``forward`` takes the numbers of the rows too, as ``row``."""
    token_of: Sequence[int] | None = None
    """Number of each column's token among those of a row; None = each column is a token."""

    def sites(self) -> list[Site]:
        """Where it attends between rows and between columns; empty = unknown, so that maps have no names."""
        return []

    def begin(self, truth: Tensor, total: int | None = None, row: Tensor | None = None) -> None:
        """Prepare for a training, once before its first step; a network that need not be prepared does nothing.

        Args:
            truth: True cells of rows to learn from, ``(rows, columns)``; NaN = missing.
            total: Number of rows that the training learns from; None = these are all.
            row: Number of each row in the table, as ``CellBatch.row`` has them, ``(rows,)``; None = unknown.
        """

    def reconstruct(self, batch: CellBatch) -> Reconstruction:
        """Predict all cells of a batch."""
        more = {"row": batch.row} if self.reads_rows else {}
        found: Reconstruction = self(batch.x, batch.hidden, batch.context, **more)
        return found

    @abstractmethod
    def forward(self, x: Tensor, hidden: Tensor, context: int) -> Reconstruction:
        """Predict all cells.

        Args:
            x: Standardised numbers and indices of categories, context rows first, ``(tables, rows, columns)``.
            hidden: Hidden or missing cells, of the same shape, boolean.
            context: Number of leading rows that all rows attend to.
        """


NetworkFactory = Callable[[tuple[Column, ...], AttentionFactory, AttentionFactory], CellNetwork]
"""Called with ``(columns, attention, attribute_attention)``; a class, or one with some options filled in."""


def check_cells(x: Tensor, hidden: Tensor, context: int, columns: int) -> None:
    """Raise ValueError unless cells, mask and the size of the context match."""
    if x.dim() != 3 or x.shape != hidden.shape or x.shape[2] != columns:
        raise ValueError(
            f"cells and their mask must be (tables, rows, {columns}), got {tuple(x.shape)} and {tuple(hidden.shape)}"
        )
    if not 1 <= context <= x.shape[1]:
        raise ValueError(f"context must be between 1 and the number of rows ({x.shape[1]}), got {context}")


def padded_categories(counts: Sequence[int]) -> Tensor:
    """Mask of categories behind the last of each column, ``(columns, categories)`` boolean; True = there is none."""
    most = max(counts, default=0)
    return torch.arange(most) >= torch.tensor(list(counts), dtype=torch.long)[:, None]
