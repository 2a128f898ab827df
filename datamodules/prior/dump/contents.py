"""Contents of a prior dump: sizes and classes of every task, and cells of a sample of tasks, in bounded memory."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.counter import generator
from datamodules.prior.dump.read import Dump, Ints

Shares = NDArray[np.float64]

SAMPLE = 500
"""Most tasks whose cells are read."""

CELLS = 20_000_000
"""Most cells that are read; at least one task is."""

LABELS = 2_000_000
"""Most labels, and most counts of classes, that are held at a time."""

EDGES = np.linspace(-5.0, 5.0, 51)
"""Bins of standardised cells, in standard deviations."""

FEW = 10
"""Most values of a column that counts as one of few values."""


class Classes(NamedTuple):
    """Classes of each task, ``(tasks,)``.

    Attributes:
        distinct: Number of classes.
        largest: Share of the rows of the largest class.
        smallest: Share of the rows of the smallest class that occurs.
        unseen: Number of targets whose class is absent in the context.
    """

    distinct: Ints
    largest: Shares
    smallest: Shares
    unseen: Ints


class Cells(NamedTuple):
    """Cells of a sample of tasks.

    Attributes:
        tasks: Number of tasks in the sample.
        counts: Number of cells in each bin of ``EDGES``, standardised by the context rows of their column.
        beyond: Share of the standardised cells outside of the bins.
        missing: Share of missing cells.
        columns: Number of columns.
        gaps: Share of the columns with a missing cell.
        constant: Share of the columns that are constant, or missing, in the context.
        few: Share of the other columns with at most ``FEW`` values.
    """

    tasks: int
    counts: Ints
    beyond: float
    missing: float
    columns: int
    gaps: float
    constant: float
    few: float


def classes_of(dump: Dump) -> Classes:
    """Count the classes of every task, a few tasks at a time.

    Raises:
        DataError: The file is damaged, or a label is no class.
    """
    parts = [_counted(dump, part) for part in _chunks(dump)]
    return Classes(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def _chunks(dump: Dump) -> Iterator[Ints]:
    step = max(1, LABELS // max(int(dump.sizes.rows.max()), dump.sizes.classes))
    for start in range(0, len(dump), step):
        yield np.arange(start, min(start + step, len(dump)))


def _counted(dump: Dump, tasks: Ints) -> Classes:
    labels, rows, context = dump.labels(tasks), dump.sizes.rows[tasks], dump.sizes.context[tasks]
    place, shown = np.arange(labels.shape[1]), np.zeros((len(tasks), dump.sizes.classes), np.int64)
    all_rows, all_targets = shown.copy(), shown.copy()
    for counts, kept in (
        (all_rows, place < rows[:, None]),
        (shown, place < context[:, None]),
        (all_targets, (place >= context[:, None]) & (place < rows[:, None])),
    ):
        task, row = np.nonzero(kept)
        np.add.at(counts, (task, labels[task, row]), 1)
    present = np.where(all_rows > 0, all_rows, all_rows.max() + 1)
    return Classes(
        (all_rows > 0).sum(1),
        all_rows.max(1) / rows,
        present.min(1) / rows,
        np.where(shown == 0, all_targets, 0).sum(1),
    )


def cells_of(dump: Dump, seed: int = 0) -> Cells:
    """Read the cells of a random sample of tasks, and standardise each column by its context rows.

    Raises:
        DataError: The file is damaged.
    """
    order = torch.randperm(len(dump), generator=generator(seed)).numpy()[:SAMPLE]
    read = np.cumsum(dump.sizes.rows[order] * dump.sizes.features[order])
    sample = np.sort(order[: max(1, int(np.searchsorted(read, CELLS, side="right")))])
    counts, totals = np.zeros(len(EDGES) - 1, np.int64), np.zeros(7, np.int64)
    for task in sample:
        batch = dump.read(np.asarray([task]))
        found, more = _columns(batch.x[0].numpy().astype(np.float64), batch.context)
        counts += found
        totals += more
    cells, missing, beyond, columns, gaps, constant, few = map(int, totals)
    standard, varied = beyond + int(counts.sum()), columns - constant
    return Cells(
        len(sample),
        counts,
        beyond=beyond / max(1, standard),
        missing=missing / max(1, cells),
        columns=columns,
        gaps=gaps / columns,
        constant=constant / columns,
        few=few / max(1, varied),
    )


def _columns(x: Shares, context: int) -> tuple[Ints, Ints]:
    """Histogram of the standardised cells of a task, and counts.

    Returns:
        Cells in each bin, and the numbers of cells, missing ones, those outside of the bins, columns, columns with a
        missing cell, columns that are constant in the context, and others of few values.
    """
    known = ~np.isnan(x)
    varied = np.asarray(
        [len(np.unique(each[:context][told[:context]])) > 1 for each, told in zip(x.T, known.T, strict=True)]
    )
    few = sum(len(np.unique(each[told])) <= FEW for each, told in zip(x.T[varied], known.T[varied], strict=True))
    kept = x[:, varied]
    # Columns that vary in the context have cells there.
    with np.errstate(invalid="ignore"):
        z = (kept - np.nanmean(kept[:context], 0)) / np.nanstd(kept[:context], 0)
    z = z[~np.isnan(z)]
    counts = np.histogram(z, EDGES)[0]
    gaps = int((~known).any(0).sum())
    totals = [x.size, int((~known).sum()), z.size - counts.sum(), x.shape[1], gaps, x.shape[1] - varied.sum(), few]
    return counts, np.asarray(totals, np.int64)
