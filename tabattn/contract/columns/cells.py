"""Distinct entries of a column, and the number that each is by its Python type."""

import datetime as dt
from decimal import Decimal
from fractions import Fraction
from numbers import Real
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tabattn.contract.columns.frames import NESTED
from tabattn.contract.columns.text import DAY, EPOCH, Floats, strip

Kind = Literal["number", "date", "duration"]


class Entries(NamedTuple):
    """Factorised column: its distinct entries and a code for each row.

    Attributes:
        codes: Index into ``cells`` for each row, ``(rows,)``; -1 = missing.
        cells: The distinct entries; bytes are decoded to text.
    """

    codes: NDArray[np.int64]
    cells: list[Any]


def declared(column: pd.Series) -> bool:
    """Whether the dtype of a column declares its categories (a pandas categorical)."""
    return isinstance(column.dtype, pd.CategoricalDtype)


def typed(column: pd.Series) -> tuple[Kind, Floats] | None:
    """Numbers of a column with a numeric, date or duration dtype (in days); None for any other dtype."""
    kinds = pd.api.types
    if isinstance(column.dtype, (pd.ArrowDtype, pd.CategoricalDtype, pd.IntervalDtype)):
        if not (isinstance(column.dtype, pd.ArrowDtype) and column.dtype.kind in "biuf"):
            return None
    elif isinstance(column.dtype, pd.PeriodDtype):
        column = column.dt.to_timestamp()
    if kinds.is_datetime64_any_dtype(column.dtype):
        zone = column.dt.tz_convert("UTC").dt.tz_localize(None) if column.dt.tz is not None else column
        return "date", ((zone - EPOCH.tz_localize(None)).dt.total_seconds() / DAY).to_numpy(np.float64)
    if kinds.is_timedelta64_dtype(column.dtype):
        return "duration", (column.dt.total_seconds() / DAY).to_numpy(np.float64)
    if kinds.is_numeric_dtype(column.dtype):
        return "number", column.to_numpy(np.float64, na_value=np.nan)
    return None


def entries_of(column: pd.Series) -> Entries:
    """Factorise a column; of declared categories keep those that occur, in the declared order.

    Raises:
        TypeError: An entry holds several values, such as a list.
    """
    if declared(column):
        column = column.cat.remove_unused_categories()
        codes, cells = column.cat.codes.to_numpy(np.int64), list(column.cat.categories.astype(object))
    else:
        column = column.astype(object)
        try:
            codes, found = pd.factorize(column)
        except TypeError:
            codes, found = pd.factorize(column.map(_hashable))
        codes, cells = codes.astype(np.int64), list(found)
    if nested := next((cell for cell in cells if isinstance(cell, NESTED)), None):
        raise TypeError(f"a cell's argument must be a string or a number, got a {type(nested).__name__}")
    return Entries(codes, [_plain(cell) for cell in cells])


def value_of(cell: Any) -> tuple[Kind, float] | None:
    """Number of an entry by its Python type, in days for dates and durations; None = text or another type.

    Raises:
        ValueError: A complex number.
    """
    if isinstance(cell, (dt.timedelta, np.timedelta64)):  # Python's ``numbers.Integral`` includes NumPy integers.
        return "duration", float(pd.Timedelta(cell).total_seconds()) / DAY
    if isinstance(cell, (bool, np.bool_, Real, Decimal, Fraction)):
        return "number", _float(cell)
    if isinstance(cell, (complex, np.complexfloating)):
        raise ValueError("Complex data not supported: a cell must be a real number, a date or text")
    if isinstance(cell, pd.Interval):
        return value_of(cell.mid)
    if isinstance(cell, dt.time):
        return "duration", (cell.hour * 3600 + cell.minute * 60 + cell.second + cell.microsecond / 1e6) / DAY
    if isinstance(cell, pd.Period):
        cell = cell.start_time
    if isinstance(cell, (dt.date, np.datetime64)):
        return "date", _days(cell)
    return None


def key(cell: Any) -> str:
    """Key of a category: the same for 1, 1.0 and "1", which may occur in one column."""
    plain = isinstance(cell, (Real, Decimal)) and not isinstance(cell, (bool, np.timedelta64))
    number = _float(cell) if plain else 0.5
    return str(int(number)) if number.is_integer() else text_of(cell)


def _hashable(cell: Any) -> Any:
    """Hashable form of an entry; a signalling NaN is missing.

    Raises:
        TypeError: The entry holds several values.
    """
    try:
        hash(cell)
    except TypeError as ex:
        if isinstance(cell, Decimal):
            return None
        raise TypeError(f"a cell's argument must be a string or a number, got a {type(cell).__name__}") from ex
    return cell


def _plain(cell: Any) -> Any:
    """Bytes as text."""
    if isinstance(cell, (bytes, bytearray, np.bytes_)):
        return bytes(cell).decode("utf-8", "backslashreplace")
    return cell


def _float(cell: Any) -> float:
    try:
        return float(cell)
    except (OverflowError, ValueError):
        return float("inf") if cell == cell and cell > 0 else float("-inf")


def _days(cell: Any) -> float:
    try:
        stamp = pd.Timestamp(cell)
    except (ValueError, OverflowError):
        return float("nan")
    stamp = stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")
    return float((stamp - EPOCH).total_seconds()) / DAY


def text_of(cell: Any) -> str:
    """Convert an entry to text."""
    if isinstance(cell, int) and cell.bit_length() > 10_000:
        # Python does not convert integers of so many digits to text.
        return f"a whole number of {int(cell.bit_length() * 0.30103)} digits"
    return str(cell)


def texts_of(cells: list[Any]) -> list[str]:
    """Convert entries to text, stripped of surrounding spaces."""
    return [strip(text_of(cell)) for cell in cells]
