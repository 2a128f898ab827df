"""Conversion of tables (arrays, lists, data frames, sparse matrices) to pandas data frames."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

MOST_CELLS = 10**8
"""Most cells of a sparse table that is converted to a dense one."""

NESTED = (list, dict, set, frozenset, tuple, np.ndarray, pd.Series, pd.DataFrame, pd.Index)


def as_frame(x: Any) -> pd.DataFrame:
    """Convert a two-dimensional container to a DataFrame; columns without names are numbered.

    Args:
        x: A DataFrame of pandas, or of another library that speaks Arrow (``__arrow_c_stream__``) or the interchange
            protocol (``__dataframe__``); an array of any dtype, also structured or masked; a sparse matrix; rows as
            lists or dictionaries.

    Raises:
        ValueError: Not two-dimensional, complex numbers, or a sparse matrix of too many cells.
    """
    frame = _frame(x)
    if any(getattr(dtype, "kind", "O") == "c" for dtype in frame.dtypes):
        raise ValueError("Complex data not supported: a cell must be a real number, a date or text")
    return frame


def checked_table(estimator: BaseEstimator, x: Any, *, reset: bool, y: Any = "no_validation") -> pd.DataFrame:
    """Convert the table given to an estimator; check its columns against those of ``fit``, unless ``reset``.

    Args:
        estimator: The estimator, whose ``n_features_in_`` and ``feature_names_in_`` are set by ``reset``.
        x: The table.
        reset: Whether this is the table to fit.
        y: The labels; None is refused by estimators that need some.

    Raises:
        ValueError: Not two-dimensional, without rows, with two columns of one name, or other columns than in ``fit``.
    """
    table = as_frame(x)
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()][0]
        raise ValueError(f"X has several columns {twice!r}: their names must be different")
    # for scikit-learn's usual messages about sizes
    check_array(np.empty(table.shape, dtype=bool), estimator=estimator)
    # Labels are checked separately, as scikit-learn's check refuses bytes.
    validate_data(estimator, table, None if y is None else "no_validation", reset=reset, skip_check_array=True)
    return table


def check_cells(frame: pd.DataFrame) -> None:
    """Check that each cell holds a single value.

    Raises:
        ValueError: A column has lists, records or the like in its cells; the message names it.
    """
    for place in range(frame.shape[1]):
        column = frame.iloc[:, place]
        if plain_dtype(column.dtype):
            continue
        if (cell := next((cell for cell in column.array if isinstance(cell, NESTED)), None)) is not None:
            raise ValueError(
                f"column {column.name!r} holds a {type(cell).__name__} in a cell: a cell must be a number, a date or "
                "text, so spread it over columns of its own or leave it out"
            )


def plain_dtype(dtype: Any) -> bool:
    """Whether a dtype is numeric, boolean or text."""
    return getattr(dtype, "kind", "O") in "biufSUMm" or isinstance(dtype, pd.StringDtype)


def _frame(x: Any) -> pd.DataFrame:
    if isinstance(x, pd.DataFrame):
        return x
    if isinstance(x, (list, tuple)) and len(x) and all(isinstance(row, dict) for row in x):
        return pd.DataFrame(list(x))
    if sparse.issparse(x):
        if (cells := int(np.prod(x.shape, dtype=object))) > MOST_CELLS:
            raise ValueError(f"a sparse table of {x.shape[0]} x {x.shape[1]} = {cells} cells is more than {MOST_CELLS}")
        return pd.DataFrame(x.toarray())
    if isinstance(x, (pd.Series, pd.Index)):
        x = x.to_numpy()
    if hasattr(x, "__arrow_c_stream__") or hasattr(x, "__dataframe__"):
        return _exchanged(x)
    if not (hasattr(x, "__array__") or isinstance(x, Sequence)):
        raise ValueError(
            f"a table must be a DataFrame, an array or a list of rows, got a {type(x).__name__}"
            + (": collect it first" if hasattr(x, "collect") else "")
        )
    if isinstance(x, np.ma.MaskedArray):
        array = _unmasked(x) if x.dtype.names is None else x
    else:
        array = np.asarray(x) if hasattr(x, "__array__") else _rows(x)
    if array.dtype.names is not None and array.ndim == 1:
        return pd.DataFrame({name: _field(array[name]) for name in array.dtype.names})
    if array.ndim != 2 or array.dtype.kind == "V":
        # complains in scikit-learn's words
        check_array(np.zeros(array.shape) if array.dtype.kind == "V" else array, dtype=None, ensure_all_finite=False)
        raise ValueError(f"a table must be two-dimensional with plain cells, got an array of type {array.dtype}")
    frame = pd.DataFrame(array)
    return frame.infer_objects() if array.dtype == object else frame


def _rows(x: Any) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(x, dtype=object)
    except ValueError as ex:
        raise ValueError(f"rows must all have the same number of cells: {ex}") from ex


def _field(field: Any) -> Any:
    if isinstance(field, np.ma.MaskedArray):
        return pd.Series(_unmasked(field)).infer_objects()
    return field


def _unmasked(array: Any) -> np.ndarray[Any, Any]:
    """Masked array as an object array, with None for masked entries."""
    cells = np.array(array.data, dtype=object)
    cells[np.ma.getmaskarray(array)] = None
    return cells


def _exchanged(x: Any) -> pd.DataFrame:
    """Convert a DataFrame of another library.

    Raises:
        ValueError: It is one column alone, or pyarrow is not installed.
    """
    if not hasattr(x, "__arrow_c_stream__"):
        return pd.api.interchange.from_dataframe(x)
    try:
        return pd.DataFrame.from_arrow(x)
    except ValueError as ex:
        raise ValueError(f"a table must be two-dimensional, got a {type(x).__name__}, which is no table: {ex}") from ex
    except ImportError as ex:
        raise ValueError(f"a {type(x).__name__} needs pyarrow to be read: pip install pyarrow") from ex
