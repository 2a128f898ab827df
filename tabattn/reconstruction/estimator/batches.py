"""Batches of the estimators: rows to learn from, and rows to validate behind a context."""

from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset

from datamodules.counter import generator
from tabattn.contract.cells import CellBatch

ORDER, MASKS, VALIDATION, CONTEXTS = 21, 22, 23, 24
"""Numbers that give each use of randomness a stream of its own."""


def partition(rows: Tensor, classes: Tensor | None, parts: int, source: Generator) -> list[Tensor]:
    """Partition rows at random into parts of nearly equal size, with the shares of the classes in each.

    Args:
        rows: Numbers of the rows, ``(rows,)``.
        classes: Class of each row of the table; None = there are none.
        parts: Number of parts.
        source: Source of randomness.
    """
    if parts == 1:
        return [rows]
    rows = rows[torch.randperm(len(rows), generator=source)]
    if classes is not None:
        rows = rows[torch.argsort(classes[rows], stable=True)]
    return [rows[part::parts] for part in range(parts)]


def contexts_of(rows: Tensor, classes: Tensor | None, most: int, count: int, seed: int) -> list[Tensor]:
    """Contexts of at most ``most`` of the rows: all of them if they are so few, else up to ``count`` disjoint parts."""
    parts = -(-len(rows) // most)
    return [part.sort().values for part in partition(rows, classes, parts, generator(seed, CONTEXTS))[:count]]


BORROWED = 0.5
"""Share of the rows of which a training without labels hides what other rows lack: what is to be filled."""


class Hiding(NamedTuple):
    """Feature cells to hide in a training.

    Attributes:
        rates: Least and largest probability that a cell is hidden, drawn for each row.
        patterns: Cells that rows of the table lack, ``(patterns, columns)`` boolean; there may be none.
        borrowed: Share of the rows of which those of one of the patterns are hidden instead, if there are any.
    """

    rates: tuple[float, float]
    patterns: Tensor
    borrowed: float

    @classmethod
    def of(cls, cells: Tensor, rates: tuple[float, float], borrowed: float) -> "Hiding":
        """Find the patterns of a table, ``(rows, columns)``; NaN = missing."""
        missing = cells.isnan()
        return cls(rates, missing[missing.any(1)], borrowed)

    def draw(self, rows: int, source: Generator) -> Tensor:
        """Draw the cells to hide of some rows, ``(rows, columns)`` boolean."""
        low, high = self.rates
        rates = low + (high - low) * torch.rand(rows, 1, generator=source)
        drawn = torch.rand(rows, self.patterns.shape[1], generator=source) < rates
        if not len(self.patterns):
            return drawn
        chosen = torch.rand(rows, 1, generator=source) < self.borrowed
        return torch.where(chosen, self._patterns(rows, source), drawn)

    def held_out(self, rows: int, seed: int) -> Tensor:
        """Cells of held-out rows to hide: at a low, a middle and a high rate, or by patterns and at a middle rate.

        Returns:
            ``(3, rows, columns)`` boolean.
        """
        source = generator(seed, VALIDATION)
        low, high = self.rates
        shape = rows, self.patterns.shape[1]
        drawn = [torch.rand(shape, generator=source) < low + (high - low) * part for part in (0.2, 0.5, 0.8)]
        if self.borrowed and len(self.patterns):
            drawn[0], drawn[2] = self._patterns(rows, source), self._patterns(rows, source)
        return torch.stack(drawn)

    def _patterns(self, rows: int, source: Generator) -> Tensor:
        return self.patterns[torch.randint(len(self.patterns), (rows,), generator=source)]


class TrainingRows(Dataset[CellBatch]):
    """Endless training batches: each epoch partitions the rows anew, and each batch hides other cells.

    A part of the rows is the context, to which all attend. Where there are labels, those are hidden of all rows behind
    the context, and of no other.

    Args:
        cells: Standardised cells, ``(rows, columns)``; NaN = missing.
        rows: Numbers of the rows to learn from.
        labels: Which columns hold the labels to predict, ``(columns,)``; none = all columns are alike.
        classes: Class of each row; None = there are none.
        hiding: Which feature cells are hidden.
        targets: Share of the rows whose labels are hidden.
        most: Most rows of a batch.
        seed: Seed.
    """

    def __init__(
        self,
        cells: Tensor,
        rows: Tensor,
        labels: Tensor,
        classes: Tensor | None,
        hiding: Hiding,
        targets: float,
        most: int,
        seed: int,
    ) -> None:
        self.cells = cells
        self.rows = rows
        self.labels = labels
        self.classes = classes
        self.hiding = hiding
        self.targets = targets
        self.parts = -(-len(rows) // most)
        self.seed = seed

    def __len__(self) -> int:
        """Batches in an epoch, in which each row occurs once."""
        return self.parts

    def __getitem__(self, index: int) -> CellBatch:
        epoch, part = divmod(index, self.parts)
        order = generator(self.seed, ORDER, epoch)
        rows = partition(self.rows, self.classes, self.parts, order)[part]
        source = generator(self.seed, MASKS, index)
        rows = rows[torch.randperm(len(rows), generator=source)]
        truth = self.cells[rows]
        present = ~truth.isnan()
        drawn = self.hiding.draw(len(rows), source)
        share = self.targets if self.labels.any() else 0.5 * float(torch.rand(1, generator=source))
        context = min(max(1, round((1 - share) * len(rows))), max(1, len(rows) - 1))
        drawn[:, self.labels] = (torch.arange(len(rows)) >= context)[:, None]
        scored = drawn & present
        if not scored.any():
            drawn = scored = present
        hidden = drawn | ~present
        x = torch.where(hidden, 0.0, truth)
        return CellBatch(x[None], hidden[None], truth[None], scored[None], context, rows[None])


class HeldOutRows(Dataset[CellBatch]):
    """Validation batches: rows behind a context, with cells to predict.

    Args:
        cells: Standardised cells, ``(rows, columns)``; NaN = missing.
        context: Numbers of the context rows.
        asked: Numbers of the rows to validate.
        hidden: Cells to hide and to score, ``(draws, asked rows, columns)`` boolean.
        most: Most rows behind the context in a batch.
    """

    def __init__(self, cells: Tensor, context: Tensor, asked: Tensor, hidden: Tensor, most: int) -> None:
        self.cells = cells
        self.context = context
        self.asked = asked
        self.hidden = hidden
        self.most = most
        self.chunks = -(-len(asked) // most)

    def __len__(self) -> int:
        return len(self.hidden) * self.chunks

    def __getitem__(self, index: int) -> CellBatch:
        if not 0 <= index < len(self):
            raise IndexError(index)
        draw, chunk = divmod(index, self.chunks)
        part = slice(chunk * self.most, (chunk + 1) * self.most)
        rows = torch.cat([self.context, self.asked[part]])
        truth = self.cells[rows]
        asked = torch.zeros_like(truth, dtype=torch.bool)
        asked[len(self.context) :] = self.hidden[draw, part]
        hidden = asked | truth.isnan()
        x = torch.where(hidden, 0.0, truth)
        return CellBatch(
            x[None], hidden[None], truth[None], (asked & ~truth.isnan())[None], len(self.context), rows[None]
        )
