"""Table encoder: columns of any type as numbers, learned from the context rows alone."""

import warnings
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from tabattn.contract.columns.cells import declared
from tabattn.contract.columns.doubts import about_unread, doubts
from tabattn.contract.columns.frames import as_frame
from tabattn.contract.columns.reading import Reading, learn
from tabattn.contract.columns.text import Floats
from tabattn.contract.errors import TableWarning
from tabattn.contract.fitting import atomic


class TableEncoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Encoder of tables with columns of any type as numbers (a scikit-learn transformer).

    A column is numeric if every entry of the rows it is fitted to is a number, a truth value, a date or a duration
    (both in days), by its type or written as text: numbers also with separators of thousands, decimal commas, percent
    and currency signs; dates in ISO 8601's or another common form. The usual words for a missing cell (``N/A``,
    ``null``, a lone dash, ...) are missing there. Otherwise an entry becomes the rank of its category among those of
    the fitted rows, in the declared order of a categorical column and in alphabetical order elsewhere. Missing entries,
    infinities, and entries unlike the fitted rows (an unknown category, text in a numeric column) become NaN. Columns
    without two different entries in the fitted rows are dropped, unless ``keep_constant``.

    A ``TableWarning`` names what was guessed, what could not be read in a numeric column, and outliers so large that
    the other numbers are equal in single precision.

    Args:
        keep_constant: Whether columns without two different entries are kept too.

    Attributes:
        feature_names_in_: Names of the columns of a DataFrame with text names.
        n_features_in_: Number of columns.
        columns_: Indices of the columns that are kept.
        readings_: The ``Reading`` of each kept column.
        labels_: Names of all columns, of any type.
        categorical_: Whether each kept column holds codes, ``(kept columns,)``.
    """

    feature_names_in_: NDArray[np.object_]

    def __init__(self, keep_constant: bool = False) -> None:
        self.keep_constant = keep_constant

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the kind and the categories of each column from context rows.

        Args:
            X: The rows: a DataFrame or anything two-dimensional.
            y: Ignored.

        Raises:
            ValueError: Not two-dimensional, no rows, or complex numbers.
            TypeError: An entry is neither a number nor text nor another plain value.
        """
        self.fit_transform(X)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> Floats:
        """Fit to rows and encode them."""
        return self.fit_encode(X)

    def fit_encode(self, X: Any, source: str = "", *, nominal: bool = False) -> Floats:
        """Fit to rows and encode them as an array, whatever output scikit-learn is configured for.

        Args:
            X: The rows.
            source: Name of their source, for warnings.
            nominal: Whether columns of pandas' category type without an order hold categories also where these look
                like numbers.
        """
        with atomic(self):
            frame = as_frame(X)
            if not len(frame):
                raise ValueError("an encoder needs at least 1 row, got 0")
            self.n_features_in_ = frame.shape[1]
            if hasattr(self, "feature_names_in_"):
                del self.feature_names_in_
            if self.n_features_in_ and all(isinstance(name, str) for name in frame.columns):
                self.feature_names_in_ = np.asarray(frame.columns, dtype=object)
            self.labels_ = list(frame.columns)
            kept: list[int] = []
            encoded: list[Floats] = []
            self.readings_: list[Reading] = []
            for index in range(self.n_features_in_):
                column = frame.iloc[:, index]
                reading, note = learn(column, categorical=nominal and _nominal(column))
                values, wrong = reading.apply(column)
                for doubt in doubts(column, reading, note, values, wrong):
                    _say(frame, index, doubt, source)
                if self.keep_constant or not _constant(values):
                    kept.append(index)
                    encoded.append(values)
                    self.readings_.append(reading)
            self.columns_ = np.asarray(kept, dtype=np.int64)
            return np.stack(encoded, axis=1) if encoded else np.empty((len(frame), 0))

    def transform(self, X: Any) -> Floats:
        """Encode rows.

        Args:
            X: Rows of the columns that were fitted, in the same order.

        Returns:
            ``(rows, kept columns)``; NaN = missing.

        Raises:
            ValueError: The columns are not those that were fitted.
        """
        return self.encode(X)

    def encode(self, X: Any) -> Floats:
        """Encode rows as ``transform`` does, as a NumPy array ``(rows, kept columns)`` even after ``set_output``.

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
        named = all(isinstance(name, str) for name in frame.columns)
        if named and hasattr(self, "feature_names_in_"):
            given, fitted = list(frame.columns), list(self.feature_names_in_)
            if given != fitted:
                wrong = next(pair for pair in zip(given, fitted, strict=True) if pair[0] != pair[1])
                raise ValueError(f"columns must be those of fit, in the same order: got {wrong[0]!r} for {wrong[1]!r}")
        elif not (named or hasattr(self, "feature_names_in_")):
            self._check_labels(list(frame.columns))
        out = np.empty((len(frame), len(self.columns_)))
        for place, (index, reading) in enumerate(zip(self.columns_, self.readings_, strict=True)):
            out[:, place], unread = reading.apply(frame.iloc[:, index])
            if unread:
                _say(frame, index, about_unread(reading, unread))
        return out

    def _check_labels(self, given: list[Any]) -> None:
        """Check column names that are not text, such as numbers or tuples; 0, 1, 2, ... also mean no names."""
        fitted = getattr(self, "labels_", given)  # encoders read from earlier files have no labels_
        if given != fitted and given != list(range(len(given))):
            wrong = next(pair for pair in zip(given, fitted, strict=True) if pair[0] != pair[1])
            raise ValueError(f"columns must be those of fit, in the same order: got {wrong[0]!r} for {wrong[1]!r}")

    @property
    def categories_(self) -> list[dict[str, int] | None]:
        """Ranks of the categories of each kept column; None where it is numeric."""
        return [reading.categories for reading in self.readings_]

    @property
    def categorical_(self) -> NDArray[np.bool_]:
        """Whether each kept column holds codes, ``(kept columns,)``."""
        return np.asarray([reading.categories is not None for reading in self.readings_], dtype=bool)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the kept columns; ``x0``, ``x1``, ... where they had none."""
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", input_features)
        if names is None:
            names = [f"x{index}" for index in range(self.n_features_in_)]
        return np.asarray(names, dtype=object)[self.columns_]


def _nominal(column: pd.Series) -> bool:
    return declared(column) and not column.cat.ordered


def _constant(values: Floats) -> bool:
    seen = values[~np.isnan(values)]
    return not len(seen) or bool((seen == seen[0]).all())


def _say(frame: pd.DataFrame, index: int, words: str, source: str = "") -> None:
    origin = f" of {source}" if source else ""
    warnings.warn(f"column {frame.columns[index]!r}{origin} {words}", TableWarning, stacklevel=4)
