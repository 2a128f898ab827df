"""Cells of a table as an estimator's network sees them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.reconstruction.splits import parted
from datamodules.reconstruction.table import quantiles
from tabattn.contract.cells import Column
from tabattn.contract.columns import Floats, Standard, TableEncoder, drawn_in

LEAST_ROWS = 10
"""Least number of rows of which some are held out for validation."""


def columns_of(encoder: TableEncoder, x: Floats, *, target: bool) -> tuple[Column, ...]:
    """Columns of an encoded table, with the mean and standard deviation of its rows.

    Args:
        encoder: The fitted encoder.
        x: The encoded rows, ``(rows, columns)``; NaN = missing.
        target: Whether they are targets.
    """
    standard = Standard.of(x)
    columns = []
    for place, (index, codes) in enumerate(zip(encoder.columns_, encoder.categories_, strict=True)):
        name = str(encoder.labels_[index])
        if codes is None:
            columns.append(numeric(name, x[:, place], float(standard.mean[place]), float(standard.size[place]), target))
        else:
            columns.append(Column(name, tuple(codes), target=target))
    return tuple(columns)


def numeric(name: str, values: Floats, mean: float, std: float, target: bool) -> Column:
    """Numeric column, with the quantiles of its standardised values; NaN = missing."""
    column = Column(name, (), mean, std, target)
    return column._replace(quantiles=quantiles(standardised(values[:, None], (column,))[:, 0]))


def standardised(x: Floats, columns: tuple[Column, ...]) -> NDArray[np.float32]:
    """Standardise numbers by the statistics of ``fit``; outliers beyond ``REACH`` are drawn in, in their order."""
    mean = np.asarray([column.mean for column in columns])
    std = np.asarray([column.std for column in columns])
    z = Standard(mean, std)(x)
    numeric = np.asarray([not column.categories for column in columns], dtype=bool)
    return np.where(numeric, drawn_in(z), z).astype(np.float32)


def in_units(z: Floats, mean: Floats | float, std: Floats | float) -> Floats:
    """Standardised numbers in the units of the data; beyond the largest double they are this one."""
    with np.errstate(over="ignore"):
        half = np.asarray(mean) / 2 + np.asarray(std) / 2 * z
    return np.asarray(2 * np.clip(half, -np.finfo(np.float64).max / 2, np.finfo(np.float64).max / 2))


def held_out(rows: int, classes: NDArray[np.int64] | None, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split rows at random into those to learn from and those to validate on; of few rows none validate.

    Args:
        rows: Number of rows.
        classes: Class of each row, whose shares are kept where each has rows enough; None = there are none.
        share: Share of the rows that validate; at least one row is left to learn from.
        seed: Seed.
    """
    count = min(round(share * rows), rows - 1)
    every = torch.arange(rows)
    if rows < LEAST_ROWS or count < 1:
        return every, every[:0]
    train, val, _ = parted(np.arange(rows), classes, count, seed)
    return torch.from_numpy(np.sort(train)), torch.from_numpy(np.sort(val))
