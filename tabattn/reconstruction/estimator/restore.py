"""Restoration of filled cells: numbers and codes of categories as entries of the table's own types."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tabattn.contract.columns import Floats, Reading, TableEncoder, learn

EPOCH = pd.Timestamp("1970-01-01")


def entries_of(column: pd.Series, codes: Floats, reading: Reading) -> list[Any]:
    """First entry of each category of a fitted column, in the order of the categories; none for a numeric column."""
    if reading.categories is None:
        return []
    known = np.flatnonzero(~np.isnan(codes))
    found, first = np.unique(codes[known], return_index=True)
    rows = dict(zip(found.astype(int).tolist(), known[first].tolist(), strict=True))
    return [column.iloc[rows[code]] for code in range(len(reading.categories))]


def constants_of(table: pd.DataFrame, encoder: TableEncoder) -> tuple[dict[int, Any], list[int]]:
    """Entry of each column that does not vary, by its index, and indices of columns without a value."""
    constants: dict[int, Any] = {}
    empty: list[int] = []
    for index in sorted(set(range(table.shape[1])) - set(encoder.columns_.tolist())):
        column = table.iloc[:, index]
        known = np.flatnonzero(~np.isnan(learn(column)[0].apply(column)[0]))
        if len(known):
            constants[index] = column.iloc[known[0]]
        else:
            empty.append(index)
    return constants, empty


def missing_cells(column: pd.Series, codes: Floats, reading: Reading) -> NDArray[np.bool_]:
    """Which cells of a column are to be filled.

    Those that have no value, and of numbers those that cannot be read as one. An unknown category is an entry, and
    stays.
    """
    return np.isnan(codes) if reading.categories is None else column.isna().to_numpy(dtype=bool)


def filled_columns(
    table: pd.DataFrame,
    encoder: TableEncoder,
    entries: list[list[Any]],
    values: Floats,
    missing: NDArray[np.bool_],
) -> dict[int, pd.Series]:
    """Columns that vary, with their missing cells filled, by their index.

    Args:
        table: The table.
        encoder: Its encoder.
        entries: Entries of the categories of each encoded column.
        values: Encoded cells, ``(rows, encoded columns)``.
        missing: Cells to fill, of that shape.
    """
    out = {}
    for place, (index, reading) in enumerate(zip(encoder.columns_.tolist(), encoder.readings_, strict=True)):
        gaps, own = missing[:, place], entries[place]
        cells = values[gaps, place]
        found = [own[int(code)] for code in cells] if own else cells.tolist()
        out[index] = fill(table.iloc[:, index], gaps, found, None if own else reading)
    return out


def filled_table(
    table: pd.DataFrame, kept: list[int], found: dict[int, pd.Series], constants: dict[int, Any]
) -> pd.DataFrame:
    """Join filled columns, in the order of their indices.

    Args:
        table: The table with gaps.
        kept: Indices of the columns to return.
        found: Filled columns by their index; the others are filled by a constant.
        constants: Entry of each constant column by its index; 0 where there is none.
    """
    columns = []
    for index in kept:
        column = table.iloc[:, index]
        gaps = column.isna().to_numpy(dtype=bool)
        constant = [constants.get(index, 0)] * int(gaps.sum())
        columns.append(found[index] if index in found else fill(column, gaps, constant, None))
    out = pd.concat(columns, axis=1) if columns else pd.DataFrame(index=table.index)
    out.columns = table.columns[kept]
    return out


def fill(column: pd.Series, where: NDArray[np.bool_], values: list[Any], reading: Reading | None) -> pd.Series:
    """Fill cells of a column in its own type.

    Args:
        column: The column.
        where: Cells to fill, ``(rows,)``.
        values: Their values: numbers (days of dates and durations) by the reading, or entries.
        reading: Reading of a numeric column; None = ``values`` are entries.
    """
    if not where.any():
        return column
    if reading is not None and isinstance(column.dtype, (pd.CategoricalDtype, pd.IntervalDtype)):
        values = _nearest(column, np.asarray(values, dtype=np.float64), reading)
    elif reading is not None:
        values = _typed(column, np.asarray(values, dtype=np.float64), reading)
    elif isinstance(column.dtype, pd.CategoricalDtype):
        known = set(column.cat.categories)
        column = column.cat.add_categories([entry for entry in dict.fromkeys(values) if entry not in known])
    if column.dtype == object or isinstance(column.dtype, pd.CategoricalDtype):
        out = column.astype(object).to_numpy(copy=True)
        filler = np.empty(len(values), dtype=object)
        filler[:] = values
        out[where] = filler
        return pd.Series(out, index=column.index, name=column.name, dtype=column.dtype)
    out = column.copy()
    out.iloc[np.flatnonzero(where)] = pd.array(values, dtype=column.dtype)
    return out


def _nearest(column: pd.Series, values: Floats, reading: Reading) -> list[Any]:
    """Entries of a column of numeric categories or intervals that are nearest to numbers.

    Raises:
        ValueError: The column has none.
    """
    declared = isinstance(column.dtype, pd.CategoricalDtype)
    entries = pd.Series(column.cat.categories if declared else column.dropna().unique())
    numbers = reading.apply(entries)[0]
    if not np.isfinite(numbers).any():
        raise ValueError(
            f"column {column.name!r} of the type {column.dtype} has no entry that a cell could be filled by"
        )
    apart = np.abs(values[:, None] - numbers)
    return [entries.iloc[place] for place in np.nanargmin(apart, axis=1)]


def _typed(column: pd.Series, values: Floats, reading: Reading) -> list[Any]:
    """Numbers as entries of a column's type: days as dates, whole numbers where it holds whole ones, or text."""
    dtype = column.dtype
    kind = getattr(dtype, "kind", "O")
    if kind == "b":
        return [bool(value >= 0.5) for value in values]
    if kind in "iu":
        return [round(value) for value in values]
    if kind in "fc":
        return values.tolist()
    entries: list[Any] = values.tolist()
    if reading.kind == "duration":
        entries = list(pd.to_timedelta(values, unit="D").round("us"))
    if reading.kind == "date":
        entries = list(EPOCH + pd.to_timedelta(values, unit="D").round("us"))
        zone = getattr(dtype, "tz", None)
        entries = [each.tz_localize("UTC").tz_convert(zone) for each in entries] if zone is not None else entries
        if isinstance(dtype, pd.PeriodDtype):
            entries = [pd.Period(each, freq=dtype.freq) for each in entries]
    present = column.dropna()
    text = isinstance(dtype, pd.StringDtype) or (
        pd.api.types.is_object_dtype(dtype) and len(present) and all(isinstance(entry, str) for entry in present)
    )
    return [_text(entry, reading) for entry in entries] if text else entries


def _text(entry: Any, reading: Reading) -> str:
    """A number, date or duration as text, such as the column has it."""
    if isinstance(entry, pd.Timestamp):
        return entry.strftime(reading.form or "%Y-%m-%d")
    if reading.kind != "number":
        return str(entry)
    number = f"{entry:.6g}".replace(".", reading.decimal)
    return f"{number} {reading.form}" if reading.form else number


def is_frame(x: Any) -> bool:
    """Whether a table is returned as a DataFrame: one that has named columns of their own types."""
    if isinstance(x, pd.DataFrame) or (hasattr(x, "__dataframe__") or hasattr(x, "__arrow_c_stream__")):
        return True
    if isinstance(x, np.ndarray) and x.dtype.names is not None:
        return True
    return isinstance(x, (list, tuple)) and len(x) > 0 and isinstance(x[0], dict)


def like(x: Any, table: pd.DataFrame) -> Any:
    """Return a filled table in the container kind of the given one: a DataFrame, or an array."""
    if is_frame(x):
        return table
    given = getattr(x, "dtype", None)
    if not all(getattr(dtype, "kind", "O") in "biuf" for dtype in table.dtypes):
        return table.to_numpy(object)
    known = isinstance(given, np.dtype) and given.kind in "biufO"
    return table.to_numpy(given) if known else table.to_numpy()
