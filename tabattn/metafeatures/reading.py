"""Arrays of numbers from whatever holds a table: arrays, lists, tensors, data frames."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tabattn.metafeatures.summaries import Floats

NEITHER = "cmMV"
"""Kinds of arrays that are neither numbers nor labels: complex numbers, dates, durations, records."""


def numbers(name: str, values: ArrayLike) -> Floats:
    """Convert to double precision; NaN = missing, which in objects is None, NaN or a missing value of pandas.

    Args:
        name: Name of the argument, for the message.
        values: Numbers, of any shape.

    Raises:
        ValueError: Some are no numbers; the first is named, with its column.
    """
    found = plain(name, values)
    if found.dtype.kind == "O":
        found = np.where(missing(found), np.nan, found)
    try:
        return found.astype(float)
    except (TypeError, ValueError, OverflowError) as ex:
        place = next(place for place, value in np.ndenumerate(found) if not _is_number(value))
        names = getattr(values, "columns", None)
        column = "" if len(place) < 2 else f"in column {place[1] if names is None else names[place[1]]!r} "
        raise ValueError(f"{name} must be numbers, got {found[place]!s:.40} {column}of row {place[0]}") from ex


def plain(name: str, values: ArrayLike) -> NDArray[Any]:
    """Convert to an array of numbers, labels or objects.

    Raises:
        ValueError: They are complex numbers, dates or records.
    """
    found = np.asarray(values)
    if found.dtype.kind in NEITHER:
        raise ValueError(f"{name} must be numbers, got {found.dtype}")
    return found


def missing(values: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Which objects are missing values: None, NaN, or those of pandas."""
    return np.array([_is_missing(value) for value in values.flat], bool).reshape(values.shape)


def _is_missing(value: Any) -> bool:
    try:
        return value is None or bool(value != value)
    except TypeError:
        # Of pandas' NA, no comparison is true or false.
        return True


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True
