"""Reader of columns along one axis, such as measurements over time."""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.pairs.options import Name, Unit
from datamodules.tables.files import read_table
from datamodules.tables.source import Source
from tabattn.contract.checks import listed, nearest
from tabattn.contract.columns import Reading, learn
from tabattn.contract.columns.text import DAY, is_missing, strip
from tabattn.contract.errors import TableWarning

FIRST = 50
"""Distinct entries by which the intended type of an unreadable axis is inferred."""

SECONDS: dict[Unit, int] = {"s": 1, "min": 60, "h": 3600, "D": 86400}


class Series(NamedTuple):
    """Aligned sequences: columns of a table along one axis.

    Attributes:
        names: Names of the columns.
        x: Location of each row, ``(rows,)``, non-decreasing.
        y: Values, ``(rows, columns)``; NaN = not observed.
    """

    names: tuple[str, ...]
    x: NDArray[np.float64]
    y: NDArray[np.float64]


def read_series(source: Source, columns: Sequence[Name], x: Name | None, unit: Unit) -> Series:
    """Read columns of a table as numbers along an axis.

    Args:
        source: A file (csv, tsv, arff, parquet, each plain or with .gz), or a DataFrame.
        columns: Columns to read.
        x: Column of locations, numbers or dates; none = the row number.
        unit: Unit of dates, which count from 1970 (UTC).

    Raises:
        ValueError: No column is named, or one is missing, ambiguous or not numeric, or the axis is decreasing.
        DataError: The file cannot be read.
    """
    frame, path = read_table(source)
    names = tuple(find_column(frame, name, path) for name in columns)
    if not names:
        raise ValueError(f"columns must name at least 1 column of {path}, got none")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"columns must be different, got {twice!r} twice")
    y = np.stack([numbers(frame[name], path) for name in names], 1)
    axis = np.arange(len(frame), dtype=np.float64) if x is None else places(frame[find_column(frame, x, path)], unit)
    if len(falls := np.flatnonzero(np.diff(axis) < 0)):
        row = int(falls[0]) + 1
        raise ValueError(f"x column {x!r} of {path} must never fall, but does at row {row}: sort the table by it")
    return Series(names, axis, y)


def find_column(frame: pd.DataFrame, name: Name, path: str) -> str:
    """Resolve a column given by name or by position.

    Raises:
        ValueError: There is no such column, or there are several.
    """
    known = list(map(str, frame.columns))
    if isinstance(name, int):
        if not 0 <= name < len(known):
            raise ValueError(f"{path} has columns 0 to {len(known) - 1}, got {name}{listed(known)}")
        name = known[name]
    if name not in known:
        raise ValueError(f"{path} has no column {name!r}{nearest(name, known)}{listed(known)}")
    if known.count(name) > 1:
        raise ValueError(f"{path} has {known.count(name)} columns {name!r}: their names must be different")
    return name


def numbers(column: pd.Series, path: str) -> NDArray[np.float64]:
    """Values of a numeric column; NaN = missing.

    Raises:
        ValueError: An entry is not a number, or not a finite one.
    """
    learned, note = learn(column)
    reading = learned if learned.kind == "number" else Reading("number")
    values, _ = reading.apply(column)
    for row in np.flatnonzero(np.isnan(values) & column.notna().to_numpy()):
        cell = column.iloc[row]
        if not (isinstance(cell, str) and is_missing(strip(cell))):
            raise ValueError(f"column {column.name!r} of {path} must hold finite numbers, got {cell}, row {row}")
    if note:
        warnings.warn(f"column {column.name!r} of {path} {note}", TableWarning, stacklevel=2)
    return values


def places(column: pd.Series, unit: Unit) -> NDArray[np.float64]:
    """Locations on an axis from a column of numbers or dates.

    Raises:
        ValueError: An entry is missing, or neither a number nor a date.
    """
    if column.isna().any():
        raise ValueError(f"x column {column.name!r} must have no gaps, got one at row {int(column.isna().argmax())}")
    reading, note = learn(column)
    values, _ = reading.apply(column)
    if reading.kind == "category" or not np.isfinite(values).all():
        row = _odd(column) if reading.kind == "category" else int(np.isnan(values).argmax())
        raise ValueError(
            f"x column {column.name!r} must hold numbers or dates of one form, such as 2016-07-01 00:00, "
            f"got {column.iloc[row]!r} at row {row}"
        )
    if note:
        warnings.warn(f"x column {column.name!r} {note}", TableWarning, stacklevel=2)
    return values if reading.kind == "number" else np.round(values * DAY, 6) / SECONDS[unit]


def _odd(column: pd.Series) -> int:
    """First row whose entry has another type than most of the first ones (numbers, or dates of one format)."""
    learned = [learn(pd.Series([cell], dtype=object))[0] for cell in column.drop_duplicates()[:FIRST]]
    readings = [reading for reading in learned if reading.categories is None] or [Reading("number")]
    kinds = [reading.kind for reading in readings]
    most = max(kinds, key=kinds.count)
    gaps = [np.isnan(reading.apply(column)[0]) for reading in dict.fromkeys(readings) if reading.kind == most]
    return int(min(gaps, key=np.count_nonzero).argmax())
