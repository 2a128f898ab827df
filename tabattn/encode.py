"""From the columns of a real table to numbers, by what its context rows show and by nothing else."""

from collections.abc import Hashable
from numbers import Real
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

Floats = NDArray[np.float64]

DAY = 86_400
"""Seconds in a day, the unit of dates and durations."""


class TableEncoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Numbers for the columns of a table of any types.

    A column is numeric if every entry of the rows it is fitted to is a number, written as one or as text, a truth
    value, a date or a duration (both in days); otherwise an entry becomes the rank of its category among those of the
    fitted rows, in the declared order of a categorical column and in alphabetical order elsewhere. Missing entries,
    infinities, and entries that the fitted rows could not teach - an unknown category, text in a numeric column -
    become NaN. Columns without two different entries in the fitted rows are dropped.

    Attributes:
        feature_names_in_: Names of the columns of a DataFrame with text names.
        n_features_in_: Number of columns.
        columns_: Numbers of the columns that are kept.
        categories_: For each kept column the codes of its categories, or None where it is numeric.
        categorical_: Whether each kept column holds codes, ``(kept columns,)``.
    """

    feature_names_in_: NDArray[np.object_]

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the kind and the categories of each column from context rows.

        Args:
            X: The rows: a DataFrame or anything two-dimensional.
            y: Ignored.

        Raises:
            ValueError: Not two-dimensional, or no rows.
            TypeError: An entry is neither a number nor text nor another plain value.
        """
        frame = as_frame(X)
        if not len(frame):
            raise ValueError("an encoder needs at least 1 row, got 0")
        self.n_features_in_ = frame.shape[1]
        if hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        if self.n_features_in_ and all(isinstance(name, str) for name in frame.columns):
            self.feature_names_in_ = np.asarray(frame.columns, dtype=object)
        kept: list[int] = []
        self.categories_: list[dict[str, int] | None] = []
        for index in range(self.n_features_in_):
            column = frame.iloc[:, index]
            categories = None if is_numeric(column) else _categories(column)
            values = _encode(column, categories)
            if not _constant(values):
                kept.append(index)
                self.categories_.append(categories)
        self.columns_ = np.asarray(kept, dtype=np.int64)
        self.categorical_ = np.asarray([entry is not None for entry in self.categories_], dtype=bool)
        return self

    def transform(self, X: Any) -> Floats:
        """Encode rows.

        Args:
            X: Rows of the columns that were fitted, in the same order.

        Returns:
            ``(rows, kept columns)``; NaN = missing.

        Raises:
            ValueError: The columns are not those that were fitted.
        """
        check_is_fitted(self)
        frame = as_frame(X)
        if frame.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {frame.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        if isinstance(X, pd.DataFrame) and hasattr(self, "feature_names_in_"):
            given, fitted = list(map(str, frame.columns)), list(self.feature_names_in_)
            if given != fitted:
                wrong = next(pair for pair in zip(given, fitted, strict=True) if pair[0] != pair[1])
                raise ValueError(f"columns must be those of fit, in the same order: got {wrong[0]!r} for {wrong[1]!r}")
        out = np.empty((len(frame), len(self.columns_)))
        for place, (index, categories) in enumerate(zip(self.columns_, self.categories_, strict=True)):
            out[:, place] = _encode(frame.iloc[:, index], categories)
        return out

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the kept columns; ``x0``, ``x1``, ... where they had none."""
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", input_features)
        if names is None:
            names = [f"x{index}" for index in range(self.n_features_in_)]
        return np.asarray(names, dtype=object)[self.columns_]


def encode_labels(y: pd.Series) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Number the classes that occur: in the declared order of categories, else sorted.

    Args:
        y: One label for each row, none missing.

    Returns:
        Class index of each row, and the names of the classes.

    Raises:
        ValueError: A label is missing.
    """
    if missing := int(y.isna().sum()):
        raise ValueError(f"every row needs a label, {missing} of {len(y)} have none")
    if isinstance(y.dtype, pd.CategoricalDtype):
        kept = y.cat.remove_unused_categories().cat
        return kept.codes.to_numpy(np.int64), tuple(map(str, kept.categories))
    codes, classes = pd.factorize(y)
    try:
        order = np.argsort(np.asarray(classes), kind="stable")
    except TypeError:
        order = np.argsort([str(label) for label in classes], kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[codes].astype(np.int64), tuple(str(classes[index]) for index in order)


def recode(x: NDArray[Any], categorical: NDArray[np.bool_], context: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Encode anew, by its context alone, a task cut from a table that is already numbers.

    Args:
        x: Cells, context rows first, ``(rows, columns)``; NaN = missing.
        categorical: Which columns hold codes.
        context: Number of context rows.

    Returns:
        Cells whose codes are ranks among those of the context, NaN for all others, without the columns that are
        constant in the context; and the numbers of the columns that are left.
    """
    x = x.copy()
    for column in np.flatnonzero(categorical):
        known = np.unique(x[:context, column])
        known = known[~np.isnan(known)]
        rank = np.searchsorted(known, x[:, column])
        found = np.append(known, np.nan)[rank] == x[:, column]
        x[:, column] = np.where(found, rank, np.nan)
    missing = np.isnan(x[:context])
    low = np.where(missing, np.inf, x[:context]).min(0)
    high = np.where(missing, -np.inf, x[:context]).max(0)
    kept = np.flatnonzero(low < high)
    return x[:, kept], kept


def as_frame(x: Any) -> pd.DataFrame:
    """Anything two-dimensional as a DataFrame; columns without names are numbered."""
    if isinstance(x, pd.DataFrame):
        return x
    array = np.asarray(x) if hasattr(x, "__array__") else np.asarray(x, dtype=object)
    if array.ndim != 2:
        raise ValueError(f"Expected 2D array, got {array.ndim}D array instead; use reshape(-1, 1) for one column")
    return pd.DataFrame(array)


def is_numeric(column: pd.Series) -> bool:
    """Whether every entry that is not missing is a number, a truth value, a date or a duration."""
    kinds = pd.api.types
    if kinds.is_numeric_dtype(column.dtype) or kinds.is_datetime64_any_dtype(column.dtype):
        return True
    if kinds.is_timedelta64_dtype(column.dtype):
        return True
    entries = column.cat.remove_unused_categories().cat.categories if _declared(column) else column.dropna()
    return not pd.to_numeric(pd.Series(entries, dtype=object), errors="coerce").isna().any()


def _declared(column: pd.Series) -> bool:
    return isinstance(column.dtype, pd.CategoricalDtype)


def _encode(column: pd.Series, categories: dict[str, int] | None) -> Floats:
    if categories is None:
        values = _numbers(column)
        return np.where(np.isfinite(values), values, np.nan)
    codes, entries = _factorize(column)
    ranks = [categories.get(_key(entry), np.nan) for entry in entries]
    return np.asarray([*ranks, np.nan], dtype=np.float64)[codes]


def _numbers(column: pd.Series) -> Floats:
    """Entries as numbers; NaN for what is none."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        zone = column.dt.tz_convert("UTC").dt.tz_localize(None) if column.dt.tz is not None else column
        return ((zone - pd.Timestamp(0)).dt.total_seconds() / DAY).to_numpy(np.float64)
    if pd.api.types.is_timedelta64_dtype(column.dtype):
        return (column.dt.total_seconds() / DAY).to_numpy(np.float64)
    if not pd.api.types.is_numeric_dtype(column.dtype):
        column = pd.to_numeric(column.astype(object), errors="coerce")
    return column.to_numpy(np.float64, na_value=np.nan)


def _categories(column: pd.Series) -> dict[str, int]:
    """Rank of each category of a column."""
    if _declared(column):
        entries = list(column.cat.remove_unused_categories().cat.categories)
        names = [_key(entry) for entry in entries]
    else:
        names = sorted({_key(entry) for entry in _factorize(column)[1]})
    return {name: rank for rank, name in enumerate(names)}


def _factorize(column: pd.Series) -> tuple[NDArray[np.int64], list[Hashable]]:
    """Number of each entry, -1 = missing, and the different entries."""
    try:
        codes, entries = pd.factorize(column)
    except TypeError as ex:
        kind = next(type(entry).__name__ for entry in column if not isinstance(entry, Hashable))
        raise TypeError(f"a cell's argument must be a string or a number, got a {kind}") from ex
    return codes, list(entries)


def _key(entry: Any) -> str:
    """The name of a category: equal for 1, 1.0 and "1", which one column may hold in turn."""
    number = float(entry) if isinstance(entry, Real) else 0.5
    return str(int(number)) if number.is_integer() and not isinstance(entry, bool) else str(entry)


def _constant(values: Floats) -> bool:
    seen = values[~np.isnan(values)]
    return not len(seen) or bool((seen == seen[0]).all())
