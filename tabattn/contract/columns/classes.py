"""Labels of classifiers: sorted classes, and the class index of each row."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from tabattn.contract.columns.labels import missing_words, sorted_labels, told, warn_of_labels, warn_of_words


def check_labels(y: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Check labels and encode them as indices of sorted classes.

    Args:
        y: Labels, ``(rows,)``, of any type whose values can be sorted.

    Returns:
        The distinct labels, sorted, and the class index of each row.

    Raises:
        ValueError: A label is missing or infinite, or the labels are continuous or not sortable.
    """
    given = _entries(_plain(y))
    y = column_or_1d(given, warn=True)
    if missing := int(pd.isna(y).sum()):
        raise ValueError(f"Input y contains NaN: {missing} of {len(y)} rows have no label")
    words = missing_words(given if isinstance(given, pd.Series) else y)
    if words.missing:
        raise ValueError(
            f"Input y has rows without a label, {told(words.missing)} of {len(y)}: leave them out, or declare the "
            "classes as categories if one has such a name"
        )
    name = "y" if getattr(given, "name", None) is None else f"y ({given.name!r})"
    warn_of_words(words, name, len(y))
    if y.dtype.kind == "f" and np.isinf(y).any():
        raise ValueError("Input y contains infinity")
    if y.dtype == object:
        y = pd.Series(y).infer_objects().to_numpy()
    if y.dtype.kind in "fc":
        with warnings.catch_warnings():
            # Said below, for labels of any type.
            warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
            check_classification_targets(y)
    if y.dtype != object:
        classes, codes = np.unique(y, return_inverse=True)
    else:
        try:
            codes, found = sorted_labels(y)
        except TypeError as ex:
            raise ValueError(f"labels must be of one kind that can be sorted: {ex}") from ex
        classes = _objects(found)
    warn_of_labels(classes, len(y), name)
    return classes, codes


def number_labels(y: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.int64]:
    """Class index of each label; -1 = not among the classes."""
    known = {label: number for number, label in enumerate(pd.Series(classes))}
    return np.asarray([known.get(label, -1) for label in pd.Series(y)], np.int64)


def _plain(y: Any) -> Any:
    """Convert extension types of pandas and Arrow to NumPy types of the same kind."""
    dtype = y.dtypes.iloc[0] if isinstance(y, pd.DataFrame) and y.shape[1] == 1 else getattr(y, "dtype", None)
    known = getattr(dtype, "numpy_dtype", None) if isinstance(dtype, pd.api.extensions.ExtensionDtype) else None
    if known is None or known.kind not in "biuf" or np.asarray(pd.isna(y)).any():
        return y
    return y.to_numpy(dtype=known)


def _entries(y: Any) -> Any:
    """Array of a list whose entries NumPy would convert to text, such as a missing one among texts, as objects."""
    if isinstance(y, (list, tuple)) and any(isinstance(label, str) for label in y):
        return y if all(isinstance(label, str) for label in y) else _objects(list(y))
    return y


def _objects(values: list[Any]) -> NDArray[Any]:
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out
