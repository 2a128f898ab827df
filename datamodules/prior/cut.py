"""In-context tasks cut from one real table, with disjoint rows for training and for evaluation."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator
from torch.utils.data import Dataset

from datamodules.counter import generator
from datamodules.prior.scm import Table
from datamodules.tables.real import RealTable
from tabattn.contract.batches import TableBatch
from tabattn.contract.columns import recode, to_single
from tabattn.contract.errors import DataError

MOST_DRAWS = 100
"""Draws of a task before its table counts as one without usable columns."""

Ints = NDArray[np.int64]


class CutOptions(NamedTuple):
    """Options of tasks cut from a table.

    Attributes:
        rows: Number of rows of a task.
        context: Number of context rows of a task.
        features: Number of columns of a task; None = all. A task has fewer where fewer vary in its context.
        permute_labels: Whether each task permutes the class indices.
        permute_columns: Whether each task permutes its columns.
        fixed_columns: Whether all tasks have the same columns; otherwise each draws its own.
    """

    rows: int = 100
    context: int = 80
    features: int | None = None
    permute_labels: bool = True
    permute_columns: bool = True
    fixed_columns: bool = False


class TaskCutter:
    """Cuts tasks from some rows of a table: task i is a function of (seed, stream, i).

    Rows are drawn without replacement and stratified; each class occurs in the context and among the targets.
    Categories are encoded by the task's context rows; columns that are constant there are dropped.

    Args:
        table: The table.
        part: Indices of the rows to draw from.
        options: Options of the tasks.
        seed: Seed of the tasks.
        stream: Number of their random stream.
        scored: Indices of the rows that may be targets, a subset of ``part``; None = all.

    Raises:
        ValueError: The rows are too few for such a task.
    """

    def __init__(
        self, table: RealTable, part: Ints, options: CutOptions, seed: int, stream: int, scored: Ints | None = None
    ) -> None:
        self.table = table
        self.options = options
        self.seed = seed
        self.stream = stream
        self.members = [part[table.y[part] == label] for label in range(len(table.classes))]
        self.scored = [members if scored is None else np.intersect1d(members, scored) for members in self.members]
        self.columns = np.arange(table.x.shape[1])
        _check_sizes(table, self.members, options)
        if options.fixed_columns and options.features is not None:
            picked = torch.randperm(len(self.columns), generator=generator(seed))[: options.features]
            self.columns = self.columns[np.sort(picked.numpy())]

    def task(self, number: int) -> Table:
        """Cut one task: its context rows first."""
        source = generator(self.seed, self.stream, number)
        for _ in range(MOST_DRAWS):
            rows = self._draw_rows(source)
            categorical = self.table.categorical[self.columns]
            x, kept = recode(self.table.x[rows][:, self.columns], categorical, self.options.context)
            if len(kept):
                break
        else:
            raise DataError(f"no column of {self.table.name} tells {self.options.context} context rows apart")
        features = self.options.features or len(kept)
        order = torch.randperm(len(kept), generator=source)[:features].numpy()
        cells = to_single(x[:, order if self.options.permute_columns else np.sort(order)], self.options.context)
        labels = torch.from_numpy(self.table.y[rows])
        if self.options.permute_labels:
            labels = torch.randperm(len(self.table.classes), generator=source)[labels]
        return Table(torch.from_numpy(np.ascontiguousarray(cells)), labels)

    def _draw_rows(self, source: Generator) -> Ints:
        rows, context = self.options.rows, self.options.context
        sizes = np.asarray([len(rows_of_class) for rows_of_class in self.members])
        drawn = apportion(rows, sizes, np.full_like(sizes, 2), sizes, source)
        most = np.asarray([len(rows_of_class) for rows_of_class in self.scored])
        shown = apportion(context, drawn, np.maximum(drawn - most, 1), drawn - 1, source)
        if shown.sum() != context:
            raise ValueError(
                f"{self.table.name} has too few rows to score in tasks of {rows} rows, {context} of context"
            )
        sides: tuple[list[Ints], list[Ints]] = ([], [])
        for members, scored, count, first in zip(self.members, self.scored, drawn, shown, strict=True):
            picked = members[torch.randperm(len(members), generator=source).numpy()]
            behind = picked[first:] if len(scored) == len(members) else picked[np.isin(picked, scored)]
            targets = behind[: count - first]
            sides[0].append(picked[~np.isin(picked, targets)][:first])
            sides[1].append(targets)
        mixed = [np.concatenate(side) for side in sides]
        return np.concatenate([side[torch.randperm(len(side), generator=source).numpy()] for side in mixed])


class CutBatches(Dataset[TableBatch]):
    """Batches of cut tasks: an endless stream, or a finite list that is repeated.

    Args:
        cutter: Source of the tasks.
        batch_size: Tasks in a batch.
        tasks: Number of distinct tasks; None = endless.
        scored: Whether a batch holds the number of each task, so that each is scored alone; the last batch may be
            short.
    """

    def __init__(self, cutter: TaskCutter, batch_size: int, tasks: int | None, scored: bool = False) -> None:
        self.cutter = cutter
        self.batch_size = batch_size
        self.tasks = tasks
        self.scored = scored

    def __len__(self) -> int:
        if self.tasks is None:
            raise TypeError("an endless stream has no length")
        return -(-self.tasks // self.batch_size)

    def __getitem__(self, index: int) -> TableBatch:
        numbers = range(index * self.batch_size, (index + 1) * self.batch_size)
        if self.scored:
            numbers = numbers[: (self.tasks or 0) - numbers.start]
        tasks = [self.cutter.task(number % self.tasks if self.tasks else number) for number in numbers]
        batch = stack_tables(tasks, self.cutter.options.context)
        return batch._replace(table=torch.tensor(numbers)) if self.scored else batch


def stack_tables(tables: list[Table], context: int) -> TableBatch:
    """Stack tables with equal numbers of rows to one batch; narrow ones are zero-padded."""
    widths = torch.tensor([table.x.shape[1] for table in tables])
    widest = int(widths.max())
    x = torch.stack([torch.nn.functional.pad(table.x, (0, widest - table.x.shape[1])) for table in tables])
    columns = widths if int(widths.min()) < widest else None
    return TableBatch(x, torch.stack([table.y for table in tables]), context, columns)


def split_rows(table: RealTable, held_out: float, seed: int) -> tuple[Ints, Ints]:
    """Stratified split of the rows of a table into training and held-out ones.

    Raises:
        ValueError: The share is not between 0 and 1, or a class has fewer than 4 rows (2 for each part).
    """
    if not 0 < held_out < 1:
        raise ValueError(f"held_out must be between 0 and 1, got {held_out}")
    sizes = np.bincount(table.y)
    if sizes.min() < 4:
        rare = table.classes[int(sizes.argmin())]
        raise ValueError(f"class {rare!r} of {table.name} has {sizes.min()} rows: tasks need at least 4 of each class")
    source = generator(seed)
    counts = apportion(round(held_out * len(table.y)), sizes, np.full_like(sizes, 2), sizes - 2, source)
    parts: tuple[list[Any], list[Any]] = ([], [])
    for label, count in enumerate(counts):
        rows = np.flatnonzero(table.y == label)[torch.randperm(int(sizes[label]), generator=source).numpy()]
        parts[0].append(rows[count:])
        parts[1].append(rows[:count])
    return np.sort(np.concatenate(parts[0])), np.sort(np.concatenate(parts[1]))


def halves(table: RealTable, rows: Ints, seed: int) -> tuple[Ints, Ints]:
    """Stratified split of rows into two halves: scored in validation, and scored in the test."""
    source = generator(seed, 1)
    shares: tuple[list[Any], list[Any]] = ([], [])
    for label in range(len(table.classes)):
        own = rows[table.y[rows] == label]
        mixed = own[torch.randperm(len(own), generator=source).numpy()]
        shares[0].append(mixed[: len(own) // 2])
        shares[1].append(mixed[len(own) // 2 :])
    return np.sort(np.concatenate(shares[0])), np.sort(np.concatenate(shares[1]))


def apportion(total: int, weights: Ints, low: Ints, high: Ints, source: Generator) -> Ints:
    """Apportion a total: randomly rounded integers by weight, within bounds, that sum to it or nearly so."""
    total = min(max(total, int(low.sum())), int(high.sum()))
    quota = total * weights / weights.sum()
    # Steps of one common random offset: each share is rounded up as often as its fraction says, and the sum stays.
    ends = np.floor(quota.cumsum() + torch.rand((), generator=source).item() + 1e-9)
    counts = np.clip(np.diff(ends, prepend=0), low, high).astype(np.int64)
    while (excess := int(counts.sum()) - total) != 0:
        free = counts > low if excess > 0 else counts < high
        gap = np.where(free, (counts - quota) * np.sign(excess), -np.inf)
        counts[gap.argmax()] -= np.sign(excess)
    return counts


def _check_sizes(table: RealTable, members: list[Ints], options: CutOptions) -> None:
    rows, context, features = options.rows, options.context, options.features
    classes, available = len(members), sum(map(len, members))
    if not classes <= context <= rows - classes:
        raise ValueError(
            f"context must leave each of the {classes} classes of {table.name} a row on both sides: "
            f"{classes} <= context <= rows - {classes}, got context {context} of {rows} rows"
        )
    if rows > available:
        raise ValueError(f"rows must be at most the {available} of this part of {table.name}, got {rows}")
    if min(map(len, members)) < 2:
        rare = min(range(classes), key=lambda label: len(members[label]))
        raise ValueError(f"class {table.classes[rare]!r} of {table.name} has fewer than 2 rows in this part")
    if features is not None and not 1 <= features <= table.x.shape[1]:
        raise ValueError(f"features must be between 1 and the {table.x.shape[1]} of {table.name}, got {features}")
