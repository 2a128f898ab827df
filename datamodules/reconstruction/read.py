"""Reading a table to reconstruct: its split, and its cells as numbers."""

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from datamodules.counter import generator
from datamodules.reconstruction.batches import Cells
from datamodules.reconstruction.options import ContextOptions, MaskOptions, SplitOptions
from datamodules.reconstruction.splits import TEST, TRAIN, roles_of
from datamodules.reconstruction.table import CellEncoder, CellTable, duplicated, is_categorical
from datamodules.tables.source import Source
from datamodules.tables.sources import Columns, load_columns
from tabattn.contract.cells import Column
from tabattn.contract.checks import listed, nearest
from tabattn.contract.columns import learn
from tabattn.contract.errors import TableWarning

MISSING_STREAM = 7


class Prepared(NamedTuple):
    """Table that is ready to cut batches from.

    Attributes:
        name: Short name of the table.
        cells: The cells, with roles and options.
        table: The cells in the data's units, and what their numbers stand for.
        duplicated: Which rows equal a training row in all features, ``(rows,)``.
    """

    name: str
    cells: Cells
    table: CellTable
    duplicated: NDArray[np.bool_]

    def told(self) -> str:
        """Describe the table and its split in one line."""
        counts = torch.bincount(self.cells.roles, minlength=3).tolist()
        unlabelled = int(self.cells.truth[:, self.cells.targets].isnan().all(1).sum())
        unnamed = f", {unlabelled} of them without a label" if unlabelled else ""
        targets = ", ".join(f"{column.name} ({_kind(column)})" for column in self.cells.columns if column.target)
        return (
            f"{self.name}: {len(self.cells.columns)} columns, target {targets}; "
            f"{counts[0]} rows train, {counts[1]} validate, {counts[2]} test{unnamed}"
        )


def prepare(
    source: Source,
    targets: tuple[str, ...],
    drop: tuple[str, ...],
    categorical: tuple[str, ...],
    cache_dir: str | Path | None,
    split: SplitOptions,
    masks: MaskOptions,
    context: ContextOptions,
    seed: int,
) -> Prepared:
    """Load a table by its source, split its rows, and encode its cells.

    Args:
        source: Source of the table.
        targets: Target columns; none = that of the source.
        drop: Columns to leave out.
        categorical: Columns that are categorical, also if their categories are numbers.
        cache_dir: Cache folder of OpenML.
        split: Options of the split.
        masks: Options of hidden cells.
        context: Options of the rows that are seen together.
        seed: Seed.

    Raises:
        ValueError: No such source or column.
        DataError: The table cannot be read or fetched.
    """
    raw = load_columns(source, cache_dir)
    if raw.named and targets and targets != (raw.target,):
        raise ValueError(f"two targets were given for {raw.place}: {raw.target!r} and {', '.join(map(repr, targets))}")
    targets = targets or ((raw.target,) if raw.target is not None else ())
    if not targets:
        raise ValueError(f"{raw.place} proposes no target: name one{listed(raw.columns.columns)}")
    _check_names(raw, targets, drop, categorical)
    frame = raw.columns.drop(columns=list(drop)).reset_index(drop=True)
    known, classes = _labels(frame, targets, categorical)
    if not known.any():
        raise ValueError(f"target {', '.join(map(repr, targets))} of {raw.place} has no value in any row")
    roles = np.full(len(frame), TEST)
    roles[known] = roles_of(int(known.sum()), None if classes is None else classes[known], split, seed)
    train, every = np.flatnonzero(roles == TRAIN), np.arange(len(frame))
    table = CellEncoder(targets, categorical).fit(frame, every if context.transductive else train, train).encode(frame)
    truth = torch.from_numpy(table.standardised())
    asked = torch.tensor([column.target for column in table.columns])
    if asked.all():
        what = ", ".join(map(repr, targets))
        warnings.warn(f"{raw.place} has no column but {what}: predictions are alike", TableWarning, stacklevel=3)
    if masks.missing:
        hide = torch.rand(truth.shape, generator=generator(seed, MISSING_STREAM)) < masks.missing
        truth = torch.where(hide & ~asked, torch.nan, truth)
    cells = Cells(truth, torch.from_numpy(roles), table.columns, classes, masks.chosen(table.columns), context, seed)
    return Prepared(raw.name, cells, table, duplicated(table.cells[:, ~asked.numpy()], roles))


def _check_names(raw: Columns, targets: tuple[str, ...], drop: tuple[str, ...], categorical: tuple[str, ...]) -> None:
    names = raw.columns.columns
    for name in (*drop, *targets, *categorical):
        if name not in names:
            raise ValueError(f"{raw.place} has no column {name!r}{nearest(name, map(str, names))}{listed(names)}")
    twice = next((name for name in targets if targets.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"target {twice!r} is given twice")
    both = next((name for name in targets if name in drop), None)
    if both is not None:
        raise ValueError(f"column {both!r} is both a target and to be dropped: leave it out of one of the two")


def _kind(column: Column) -> str:
    return f"{len(column.categories)} categories" if column.categories else "a number"


def _labels(
    frame: pd.DataFrame, targets: tuple[str, ...], categorical: tuple[str, ...]
) -> tuple[NDArray[np.bool_], NDArray[np.int64] | None]:
    """Which rows have a label, and their classes, -1 = missing, if there is a single target, which is categorical."""
    known = np.zeros(len(frame), dtype=bool)
    for name in targets:
        reading, _ = learn(frame[name], categorical=is_categorical(frame[name], categorical))
        codes = reading.apply(frame[name])[0]
        known |= ~np.isnan(codes)
    if len(targets) > 1 or reading.categories is None:
        return known, None
    return known, np.nan_to_num(codes, nan=-1).astype(np.int64)
