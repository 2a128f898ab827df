"""Doubts about a column that has been read: guesses, cells that could not be read, and numbers that rounding merges."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from tabattn.contract.columns.reading import AS_MISSING, Reading, Unread
from tabattn.contract.columns.scale import TOO_LARGE, drowning
from tabattn.contract.columns.text import Floats

WHOLE = 2.0**53
"""Largest integer up to which double precision represents every integer exactly."""


def doubts(
    column: pd.Series, reading: Reading, note: str | None, values: Floats, unread: list[Unread]
) -> Iterator[str]:
    """Yield what is in doubt of a column, as text behind its name.

    Args:
        column: The column.
        reading: How it is read.
        note: What ``learn`` has guessed; None = nothing.
        values: Its numbers, ``(rows,)``; NaN = missing.
        unread: The entries that could not be read.
    """
    if note:
        yield note
        unread = [entry for entry in unread if AS_MISSING not in note or entry.infinite]
    if unread:
        yield about_unread(reading, unread)
    if reading.categories is None and (row := drowning(values)) is not None:
        yield f"{TOO_LARGE.format(values[row])} is it right? (row {row})"
    elif reading.kind == "number" and _merged(column, values):
        yield "has whole numbers that double precision does not tell apart: is it text?"


def about_unread(reading: Reading, unread: list[Unread]) -> str:
    """What a column has that could not be read, as text behind its name; at least one entry."""
    word = "number" if reading.kind == "any" else reading.kind
    kind = f"finite {word}" if any(entry.infinite for entry in unread) else word
    shown = " and ".join(repr(entry.text) for entry in unread[:2])
    count = f"{len(unread)} different in all, the first in row {unread[0].row}"
    return f"has {shown}, which cannot be read as a {kind}: taken as missing ({count})"


def _merged(column: pd.Series, values: Floats) -> bool:
    """Whether distinct entries, such as identifiers of 19 digits, have become equal in double precision."""
    if not (np.abs(values) >= WHOLE).any():
        return False
    large = np.abs(values) >= WHOLE
    return int(column[large].nunique()) > len(np.unique(values[large]))
