"""Headers of saved estimators: labels and encoders in plain values, checked before they are built."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tabattn.contract.cells import Column
from tabattn.contract.columns import Reading, TableEncoder
from tabattn.contract.columns.text import FORMS

MOST_LABEL_BYTES = 10**8
"""Largest array of labels of a saved estimator."""

SEEDS = 2**32
"""Upper bound of seeds, exclusive."""

PLAIN: dict[str, type | tuple[type, ...]] = {"b": bool, "i": int, "u": int, "f": (int, float), "U": str, "O": str}
"""Types of labels in a file, by kind."""


def whole(name: str, value: Any, least: int, most: int) -> int:
    """Check an integer and its bounds.

    Raises:
        ValueError: The value is no integer, or out of bounds.
    """
    if type(value) is not int or not least <= value <= most:
        text = repr(value)
        raise ValueError(f"{name} must be a whole number between {least} and {most}, got {text[:40]}")
    return value


def labels(described: Any) -> NDArray[Any]:
    """Validate the labels of a header: distinct and ascending, as ``fit`` makes them.

    Raises:
        ValueError: They are not of the stated type, not ascending, or not distinct.
    """
    values, dtype = described["values"], np.dtype(described["dtype"])
    if dtype.kind not in PLAIN or not isinstance(values, list) or not values:
        raise ValueError(f"labels must be a list of numbers, truth values or text, their type is {dtype}")
    if dtype.itemsize * len(values) > MOST_LABEL_BYTES:
        raise ValueError(f"labels of the type {dtype} need more than {MOST_LABEL_BYTES} bytes")
    kind = PLAIN[dtype.kind]
    if not all(isinstance(value, kind) and (kind is bool or not isinstance(value, bool)) for value in values):
        raise ValueError(f"labels are not all of the type {dtype}")
    found = np.asarray(values, dtype=dtype)
    if found.tolist() != values:
        raise ValueError(f"labels cannot be kept in the type {dtype}")
    if any(not first < second for first, second in itertools.pairwise(values)) or values[0] != values[0]:
        raise ValueError("labels must be different and in rising order")
    return found


def names(given: Any, columns: int) -> NDArray[np.object_] | None:
    """Validate column names; None = the table had none.

    Raises:
        ValueError: They are not one text for each column.
    """
    if given is None:
        return None
    if not isinstance(given, list) or len(given) != columns or not all(isinstance(name, str) for name in given):
        raise ValueError(f"names must be {columns} texts")
    return np.asarray(given, dtype=object)


def plain_name(name: Any) -> Any:
    """Column name that is not text in plain values: a number, or a tuple as a list; dates are marked.

    Raises:
        TypeError: It is of another type.
    """
    if isinstance(name, tuple):
        return [plain_name(part) for part in name]
    if isinstance(name, pd.Timestamp):
        return {"timestamp": name.isoformat()}
    name = name.item() if isinstance(name, np.generic) else name
    if type(name) not in (str, bool, int, float):
        raise TypeError(f"a column name must be text, a number, a date or a tuple of these, got {name!r}")
    return name


def name_of(given: Any) -> Any:
    """Column name from its plain values.

    Raises:
        ValueError: It is something else.
    """
    if isinstance(given, list):
        return tuple(map(name_of, given))
    if isinstance(given, dict) and set(given) == {"timestamp"}:
        return pd.Timestamp(given["timestamp"])
    if type(given) not in (str, bool, int, float):
        raise ValueError(f"a column name must be text, a number, a date or a list of these, got {str(given)[:40]!r}")
    return given


def column_labels(given: Any, columns: int) -> list[Any]:
    """Validate the names of columns that are not all text, different ones.

    Raises:
        ValueError: They are not one name for each column.
    """
    if not isinstance(given, list) or len(given) != columns:
        raise ValueError(f"labels of columns must be {columns} names")
    found = list(map(name_of, given))
    if len(set(found)) < columns:
        raise ValueError("labels of columns must be different")
    return found


def kept_columns(given: Any, columns: int) -> NDArray[np.int64]:
    """Validate the indices of the kept columns, ascending.

    Raises:
        ValueError: They are something else.
    """
    if not isinstance(given, list):
        raise ValueError("kept must be a list of column numbers")
    found = [whole("a kept column", number, 0, columns - 1) for number in given]
    if found != sorted(set(found)):
        raise ValueError("kept columns must be different and in rising order")
    return np.asarray(found, dtype=np.int64)


def categories(given: Any, kept: int) -> list[dict[str, int] | None]:
    """Validate the category codes of each kept column; None = numeric.

    Raises:
        ValueError: They are something else, or codes are not 0, 1, 2, ...
    """
    if not isinstance(given, list) or len(given) != kept:
        count = len(given) if isinstance(given, list) else "no"
        raise ValueError(f"{kept} columns have {count} lists of categories")
    for entry in given:
        if entry is not None and (
            not isinstance(entry, dict)
            or not all(type(code) is int for code in entry.values())
            or sorted(entry.values()) != list(range(len(entry)))
        ):
            raise ValueError("codes of categories must be 0, 1, 2, ...")
    return given


def readings(given: Any, codes: list[dict[str, int] | None]) -> list[Reading]:
    """Validate the readings of the kept columns, which files of earlier versions lack."""
    if given is None:
        return [Reading.of(None, entry) for entry in codes]
    if not isinstance(given, list) or len(given) != len(codes):
        raise ValueError(f"readings must be a list of {len(codes)} entries")
    known = set(Reading("number").plain())
    for entry in given:
        if not isinstance(entry, dict) or set(entry) != known or not all(isinstance(v, str) for v in entry.values()):
            raise ValueError(f"a reading must have the texts {', '.join(sorted(known))}, got {str(entry)[:80]}")
        if (
            entry["decimal"] not in (".", ",")
            or entry["group"] not in ("", ",", ".")
            or (entry["form"] not in ("", *FORMS) if entry["kind"] != "number" else len(entry["form"]) > 20)
        ):
            raise ValueError(f"a reading has signs that are not known: {str(entry)[:80]}")
    return [Reading.of(*both) for both in zip(given, codes, strict=True)]


def check_columns(columns: Sequence[Column], encoder: TableEncoder, labels: list[int]) -> None:
    """Check the columns of a network against the encoder of its features, and the labels behind them.

    Args:
        columns: The columns.
        encoder: The encoder.
        labels: Number of categories of each label; 0 = numbers.

    Raises:
        ValueError: They do not match.
    """
    needed = [len(codes or ()) for codes in encoder.categories_] + labels
    if [len(column.categories) for column in columns] != needed:
        raise ValueError(f"the network's {len(columns)} columns are not those of the encoder and {len(labels)} labels")
    if any(not math.isfinite(column.mean) or not 0 < column.std < math.inf for column in columns):
        raise ValueError("a column's mean or standard deviation is not finite, or not above 0")


def plain_encoder(estimator: Any) -> dict[str, Any]:
    """Describe the fitted encoder of an estimator, and the names of its columns, in plain values."""
    found: TableEncoder = estimator.encoder_
    named = [str(name) for name in getattr(estimator, "feature_names_in_", ())] or None
    try:
        labels = None if named else [plain_name(name) for name in found.labels_]
    except (AttributeError, TypeError):  # Read from an earlier file, or names such as periods: not checked when loaded.
        labels = None
    return {
        "columns": estimator.n_features_in_,
        "names": named,
        "column_labels": labels,
        "kept": found.columns_.tolist(),
        "categories": found.categories_,
        "readings": [reading.plain() for reading in found.readings_],
    }


def encoder(header: Mapping[str, Any]) -> TableEncoder:
    """Rebuild the encoder of a header.

    Raises:
        ValueError: It describes none.
        KeyError: A part is missing.
    """
    found = TableEncoder()
    columns = whole("columns", header["columns"], 1, 2**31)
    found.n_features_in_ = columns
    named = names(header["names"], columns)
    if named is not None:
        found.feature_names_in_ = named
        found.labels_ = named.tolist()
    elif header.get("column_labels") is not None:
        found.labels_ = column_labels(header["column_labels"], columns)
    found.columns_ = kept_columns(header["kept"], columns)
    codes = categories(header["categories"], len(found.columns_))
    found.readings_ = readings(header.get("readings"), codes)
    return found


def plain_labels(classes: NDArray[Any]) -> dict[str, Any]:
    """Labels as plain values, from which equal labels are restored."""
    text = classes.dtype == object and all(isinstance(label, str) for label in classes)
    if classes.dtype.kind not in "biufU" and not text:
        raise ValueError(f"labels must be numbers, truth values or text to be saved, got type {classes.dtype}")
    return {"dtype": "object" if text else classes.dtype.str, "values": classes.tolist()}
