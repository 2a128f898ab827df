"""Restoration of filled cells: numbers and codes of categories as entries of the table's own types."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tabattn.contract.columns import Floats, Reading, TableEncoder, about_unread, declared, learn
from tabattn.contract.errors import TableWarning
from tabattn.reconstruction.estimator.writing import Writing


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
    writings: list[Writing | None],
    values: Floats,
    missing: NDArray[np.bool_],
) -> dict[int, pd.Series]:
    """Columns that vary, with their missing cells filled, by their index.

    Args:
        table: The table.
        encoder: Its encoder.
        entries: Entries of the categories of each encoded column.
        writings: How each encoded column of numbers was written in ``fit``, for one that has no entry now.
        values: Encoded cells, ``(rows, encoded columns)``.
        missing: Cells to fill, of that shape.
    """
    out = {}
    for place, (index, reading) in enumerate(zip(encoder.columns_.tolist(), encoder.readings_, strict=True)):
        gaps, own = missing[:, place], entries[place]
        cells, column = values[gaps, place], table.iloc[:, index]
        writing = None if own else Writing.of(column, ~gaps, reading) or writings[place]
        if writing is None:
            found = [own[int(code)] for code in cells]
        elif isinstance(column.dtype, (pd.CategoricalDtype, pd.IntervalDtype)) and gaps.any():
            found = _nearest(column, cells, reading)
        else:
            found = writing.write(cells, reading)
        out[index] = fill(column, gaps, found)
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
        if index not in found:
            gaps = _missing_constants(column, constants.get(index))
            column = fill(column, gaps, [constants.get(index, 0)] * int(gaps.sum()))
        columns.append(found.get(index, column))
    out = pd.concat(columns, axis=1) if columns else pd.DataFrame(index=table.index)
    out.columns = table.columns[kept]
    return out


def _missing_constants(column: pd.Series, entry: Any) -> NDArray[np.bool_]:
    """Which cells of a column are to be filled that had a single entry in ``fit``; None = it had none."""
    missing: NDArray[np.bool_] = column.isna().to_numpy(dtype=bool)
    if entry is None or declared(column):
        return missing
    reading = learn(pd.Series([entry], dtype=object))[0]
    values, unread = reading.apply(column)
    if unread:
        warnings.warn(f"column {column.name!r} {about_unread(reading, unread)}", TableWarning, stacklevel=5)
    return missing_cells(column, values, reading)


def fill(column: pd.Series, where: NDArray[np.bool_], values: list[Any]) -> pd.Series:
    """Fill cells of a column in its own type, or in a wider one if that cannot hold the values.

    A column of floating-point numbers without any takes the type of the values: so a column of another type comes that
    has nothing but missing cells.

    Args:
        column: The column.
        where: Cells to fill, ``(rows,)``.
        values: Their entries.
    """
    if not where.any():
        return column
    if isinstance(column.dtype, pd.SparseDtype):
        dense = fill(column.sparse.to_dense(), where, values)
        return dense.astype(pd.SparseDtype(dense.dtype, column.dtype.fill_value))
    if isinstance(column.dtype, pd.CategoricalDtype):
        known = set(column.cat.categories)
        column = column.cat.add_categories([entry for entry in dict.fromkeys(values) if entry not in known])
    untyped = (
        where.all() and getattr(column.dtype, "kind", "O") == "f" and not all(isinstance(v, float) for v in values)
    )
    if untyped or column.dtype == object or isinstance(column.dtype, pd.CategoricalDtype):
        out = column.astype(object).to_numpy(copy=True)
        filler = np.empty(len(values), dtype=object)
        filler[:] = values
        out[where] = filler
        filled = pd.Series(out, index=column.index, name=column.name, dtype=object if untyped else column.dtype)
        return filled.infer_objects() if untyped else filled
    try:
        own = pd.array(values, dtype=column.dtype)
    except (TypeError, ValueError, OverflowError):
        wider = pd.concat([column[~where], pd.Series(values, name=column.name)]).dtype
        return fill(column.astype(object if wider == column.dtype else wider), where, values)
    out = column.copy()
    out.iloc[np.flatnonzero(where)] = own
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
