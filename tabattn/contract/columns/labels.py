"""Labels of rows as class numbers."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


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
    try:
        codes, classes = sorted_labels(y)
    except TypeError:
        codes, found = pd.factorize(y)
        order = np.argsort([str(label) for label in found], kind="stable")
        return np.argsort(order)[codes].astype(np.int64), tuple(str(found[index]) for index in order)
    return codes, tuple(map(str, classes))


def sorted_labels(y: Any) -> tuple[NDArray[np.int64], list[Any]]:
    """Number labels of any type that can be sorted: numbers, text, dates, intervals, decimals.

    Returns:
        Class index of each row, and the different labels in their order.

    Raises:
        TypeError: The labels cannot be compared with each other, or one of them is a list or the like.
    """
    codes, found = pd.factorize(y)
    classes = list(found)
    order = sorted(range(len(classes)), key=classes.__getitem__)
    rank = np.empty(len(classes), np.int64)
    rank[order] = np.arange(len(classes))
    return rank[codes], [classes[index] for index in order]
