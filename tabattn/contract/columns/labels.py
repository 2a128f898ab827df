"""Label encoding: labels of rows as class indices."""

import unicodedata
import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tabattn.contract.columns.text import MISSING, is_missing, strip
from tabattn.contract.errors import TableWarning


def encode_labels(y: pd.Series) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Encode labels as class indices: in the declared order of categories, else sorted.

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
    """Encode labels of any sortable type: numbers, text, dates, intervals, decimals.

    Returns:
        Class index of each row, and the distinct labels, sorted.

    Raises:
        TypeError: The labels cannot be compared with each other, or one of them is a list or the like.
    """
    codes, found = pd.factorize(y)
    classes = list(found)
    order = sorted(range(len(classes)), key=classes.__getitem__)
    rank = np.empty(len(classes), np.int64)
    rank[order] = np.arange(len(classes))
    return rank[codes], [classes[index] for index in order]


class Words(NamedTuple):
    """Labels that look like a missing value.

    Attributes:
        missing: Number of rows of each word that is read as a missing label: empty text, and the markers of delimited
            files.
        doubtful: Number of rows of each word that is read as a class but may mean a missing label.
    """

    missing: dict[str, int]
    doubtful: dict[str, int]


def missing_words(y: Any) -> Words:
    """Find labels that may be missing values, such as ``N/A``.

    Declared categories are always classes, and so is ``-`` where ``+`` occurs too.

    Args:
        y: Labels, ``(rows,)``, of any type.
    """
    labels = pd.Series(y)
    declared = isinstance(labels.dtype, pd.CategoricalDtype)
    if not declared and labels.dtype.kind in "biufcmM":
        return Words({}, {})
    counts = labels.dropna().astype(object).map(_text).dropna().value_counts(sort=False)
    suspects = {str(word): int(rows) for word, rows in counts.items() if rows and is_missing(strip(str(word)))}
    if "+" in counts.index:
        suspects.pop("-", None)
    missing = {} if declared else {word: rows for word, rows in suspects.items() if strip(word) in MISSING}
    return Words(missing, {word: rows for word, rows in suspects.items() if word not in missing})


def told(words: dict[str, int]) -> str:
    """Format words and their numbers of rows for a message."""
    return " and ".join(f"{word!r} in {rows}" for word, rows in words.items())


def warn_of_words(words: Words, column: str, rows: int) -> None:
    """Warn (``TableWarning``) of words for a missing value that are read as classes."""
    if words.doubtful:
        warnings.warn(
            f"{column} has {told(words.doubtful)} of {rows} rows, taken as a class: leave such rows out if they have "
            "no label",
            TableWarning,
            stacklevel=4,
        )


def warn_of_labels(classes: Any, rows: int, column: str) -> None:
    """Warn (``TableWarning``) of classes that may be one, and of so many that they may be numbers to predict.

    Args:
        classes: The different labels, of any type.
        rows: Number of rows that have them.
        column: What the labels are called in messages.
    """
    if alike := alike_labels(classes):
        first, second = alike
        warnings.warn(
            f"{column} has the labels {first!r} and {second!r}, which differ in case, blanks or Unicode form alone: "
            "they are separate classes; write them in one way if they are one",
            TableWarning,
            stacklevel=4,
        )
    if len(classes) > max(MANY, rows / 2):
        warnings.warn(
            f"{column} has {len(classes)} different labels in {rows} rows: are these numbers to predict, or names of "
            "rows, rather than classes?",
            TableWarning,
            stacklevel=4,
        )


MANY = 20
"""Classes that no table has too many of, however few its rows are."""


def alike_labels(classes: Iterable[Any]) -> tuple[str, str] | None:
    """The first two text labels that differ in case, blanks or Unicode form alone; None if there are none."""
    seen: dict[str, str] = {}
    for text in filter(None, map(_text, classes)):
        other = seen.setdefault(" ".join(unicodedata.normalize("NFKC", text).casefold().split()), text)
        if other != text:
            return other, text
    return None


def _text(label: Any) -> str | None:
    if isinstance(label, bytes):
        return label.decode("utf-8", "backslashreplace")
    return str(label) if isinstance(label, str) else None
