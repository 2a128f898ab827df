"""Column readings: how a column becomes numbers, learned from the rows of ``fit`` and applied to all others."""

from typing import Any, Literal, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tabattn.contract.columns.cells import Entries, declared, entries_of, key, text_of, texts_of, typed, value_of
from tabattn.contract.columns.notes import about_form, about_notation, two
from tabattn.contract.columns.text import (
    ISO,
    Floats,
    Notation,
    duration,
    form_of,
    is_missing,
    notation_of,
    split_unit,
    to_days,
    to_number,
)

MOSTLY = 0.9
"""Share of a column's entries that must be numbers for the others to count as missing."""

PIECE = 200
"""Texts that are parsed at a time, so that a column of categories is recognised early."""

FEWEST = 10
"""Least number of distinct texts for a warning that categories look like numbers or hardly repeat."""

AS_MISSING = "as missing"
"""Part of a warning that tells which entries are missing for being unreadable."""

Kinds = Literal["number", "date", "duration", "category", "any"]


class Unread(NamedTuple):
    """Entry that is neither missing nor readable as a finite number.

    Attributes:
        text: The entry as text.
        row: The first row that has it, counted from 0.
        infinite: Whether it is of the column's kind, but infinite or beyond double precision.
    """

    text: str
    row: int
    infinite: bool


class Reading(NamedTuple):
    """Parser of a column: how its entries become numbers.

    Attributes:
        kind: ``number``; ``date`` (days since 1970, universal time); ``duration`` (days); ``category`` (ranks); or
            ``any``: numbers, dates and durations by their Python types, in estimators saved by early versions.
        decimal: Decimal mark of numbers in text.
        group: Thousands separator of numbers in text.
        form: Format of dates in text; empty = ISO 8601. Of numbers, the unit behind each, if any.
        categories: Rank of each category by its name.
    """

    kind: Kinds
    decimal: str = "."
    group: str = ""
    form: str = ""
    categories: dict[str, int] | None = None

    def plain(self) -> dict[str, str]:
        """State of the reading in plain values, without the categories."""
        return {"kind": self.kind, "decimal": self.decimal, "group": self.group, "form": self.form}

    @classmethod
    def of(cls, plain: dict[str, Any] | None, categories: dict[str, int] | None) -> Self:
        """Build a reading from its plain values; None = a column of categories, or of any kind."""
        if plain is None:
            return cls("any" if categories is None else "category", categories=categories)
        found = cls(**plain, categories=categories)
        if found.kind not in Kinds.__args__ or (found.kind == "category") != (categories is not None):  # type: ignore[attr-defined]
            raise ValueError(f"a column of kind {found.kind!r} does not fit its categories")
        return found

    def apply(self, column: pd.Series) -> tuple[Floats, list[Unread]]:
        """Apply the reading to a column.

        Returns:
            A number for each row, NaN where it is missing, infinite or unknown; and the distinct entries that could not
            be read. Unknown categories are not listed.
        """
        by_dtype = typed(column) if self.kind != "category" else None
        if by_dtype is not None and self.kind in ("any", by_dtype[0]):
            return _finite(by_dtype[1]), _infinite(by_dtype[1])
        entries = entries_of(column)
        if self.categories is not None:
            ranks = [self.categories.get(key(cell), np.nan) for cell in entries.cells]
            return np.asarray([*ranks, np.nan], np.float64)[entries.codes], []
        values = np.full(len(entries.cells) + 1, np.nan)
        wrong: list[int] = []
        texts: list[int] = []
        for place, cell in enumerate(entries.cells):
            found = value_of(cell)
            if found is None:
                texts.append(place)
            elif self.kind in ("any", found[0]):
                values[place] = found[1]
            else:
                wrong.append(place)
        written = texts_of([entries.cells[place] for place in texts])
        values[texts] = self._read(written)
        unknown = zip(texts, written, np.isnan(values[texts]), strict=True)
        wrong += [place for place, text, missing in unknown if missing and not is_missing(text)]
        infinite = np.flatnonzero(np.isinf(values)).tolist()
        unread = _unread(entries, wrong, False) + _unread(entries, infinite, True)
        return _finite(values)[entries.codes], sorted(unread, key=_row)

    def _read(self, texts: list[str]) -> Floats:
        if self.kind == "date":
            return to_days(texts, self.form or ISO)
        if self.kind == "duration":
            found = [duration(text) for text in texts]
        else:
            if self.form:
                split = [(text, *split_unit(text)) for text in texts]
                texts = [number if unit == self.form else text for text, number, unit in split]
            found = [to_number(text, Notation(self.decimal, self.group)) for text in texts]
        return np.asarray([np.nan if value is None else value for value in found], np.float64)


def is_numeric(column: pd.Series) -> bool:
    """Whether a column is read as numbers, dates or durations, not as categories."""
    return learn(column)[0].kind != "category"


def learn(column: pd.Series, *, categorical: bool = False) -> tuple[Reading, str | None]:
    """Infer how to read a column.

    Args:
        column: The column.
        categorical: Whether it holds categories for certain, also if they look like numbers.

    Returns:
        The reading, and a warning about what was guessed, as text behind the column's name; None = nothing was guessed.

    Raises:
        TypeError: An entry holds several values, such as a list.
        ValueError: A complex number.
    """
    if categorical:
        return Reading("category", categories=_ranks(column, [key(cell) for cell in entries_of(column).cells])), None
    if (by_dtype := typed(column)) is not None:
        return Reading(by_dtype[0]), None
    entries = entries_of(column)
    found = [value_of(cell) for cell in entries.cells]
    kinds: set[str] = {value[0] for value in found if value is not None}
    written = [place for place, value in enumerate(found) if value is None]
    texts = texts_of([entries.cells[place] for place in written])
    spoken = [place for place, text in zip(written, texts, strict=True) if not is_missing(text)]
    texts = [text for text in texts if not is_missing(text)]
    count = np.bincount(entries.codes[entries.codes >= 0], minlength=len(found))
    if len(kinds) <= 1:
        reading, note = _of_texts(texts, next(iter(kinds), None), count[spoken], found, count)
        if reading is not None:
            return reading, note
    names = [key(cell) for cell in entries.cells]
    return Reading("category", categories=_ranks(column, names)), _about_categories(
        texts, kinds, int(count[spoken].sum())
    )


def _ranks(column: pd.Series, names: list[str]) -> dict[str, int]:
    """Ranks of categories: in the declared order, else by name, or by number where all are numbers."""
    if not declared(column):
        names = sorted(set(names))
        numbers = [to_number(name, Notation(".", "")) for name in names]
        if None not in numbers:
            names = [names[place] for place in np.argsort(np.asarray(numbers, np.float64), kind="stable")]
    return {name: rank for rank, name in enumerate(dict.fromkeys(names))}


def _of_texts(
    texts: list[str], kind: str | None, count: Any, found: list[Any], all_count: Any
) -> tuple[Reading | None, str | None]:
    """Infer the reading of texts in a column whose other entries are all of one kind; None = a column of categories."""
    if not texts:
        return Reading(kind or "number"), None  # type: ignore[arg-type]
    if kind in (None, "number"):
        notation, values, doubt = notation_of(texts)
        reading = Reading("number", *notation)
        good = np.asarray([value is not None for value in values])
        if good.all():
            return reading, about_notation(notation, doubt)
        if (measured := _measured(texts)) is not None:
            return measured
    if kind in (None, "date"):
        form, doubt = form_of(texts)
        if form is not None:
            return Reading("date", form="" if form == ISO else form), about_form(form, doubt, texts)
    if kind in (None, "duration") and all(duration(text) is not None for text in texts):
        return Reading("duration"), None
    typed_cells = [int(number) for number, value in zip(all_count, found, strict=True) if value is not None]
    for reading in _nearly(texts, kind):
        fitting = _fitting(reading, texts, count, sum(typed_cells))
        if fitting is not None and int(fitting.sum()) + len(typed_cells) >= FEWEST:
            bad = [text for text, fine in zip(texts, fitting, strict=True) if not fine]
            return reading, f"is read as {reading.kind}s, and {two(bad)} {AS_MISSING}: they are none" if bad else None
    return None, None


def _fitting(reading: Reading, texts: list[str], count: Any, others: int) -> NDArray[np.bool_] | None:
    """Which texts a reading parses; None if it parses less than ``MOSTLY`` of the rows, as soon as that is certain.

    Args:
        reading: The reading.
        texts: Different texts.
        count: Rows of each text.
        others: Number of other rows that the reading parses.
    """
    rows, wrong = others + int(count.sum()), 0
    good = np.zeros(len(texts), bool)
    for start in range(0, len(texts), PIECE):
        piece = slice(start, start + PIECE)
        good[piece] = ~np.isnan(reading._read(texts[piece]))
        wrong += int(count[piece][~good[piece]].sum())
        if rows - wrong < MOSTLY * rows:
            return None
    return good


def _nearly(texts: list[str], kind: str | None) -> list[Reading]:
    """Candidate readings that may parse most of the texts."""
    readings = []
    if kind in (None, "number"):
        readings.append(Reading("number", *notation_of(texts)[0]))
    if kind in (None, "date"):
        form, _ = form_of(texts, MOSTLY)
        readings.append(Reading("date", form="" if form in (None, ISO) else str(form)))
    if kind in (None, "duration"):
        readings.append(Reading("duration"))
    return readings


def _measured(texts: list[str]) -> tuple[Reading, str | None] | None:
    """Reading of numbers that all end in the same unit, such as ``5 kg``; None if they do not."""
    split = [split_unit(text) for text in texts]
    unit = split[0][1]
    if not unit or any(other != unit for _, other in split):
        return None
    notation, values, doubt = notation_of(list(dict.fromkeys(number for number, _ in split)))
    if any(value is None for value in values):
        return None
    return Reading("number", *notation, form=unit), about_notation(notation, doubt)


def _about_categories(texts: list[str], kinds: set[str], cells: int) -> str | None:
    """Warning about a suspicious column of categories; None = nothing is suspicious."""
    if len(kinds) > 1:
        return f"mixes {' and '.join(sorted(kinds))} entries and is read as categories"
    if len(texts) >= FEWEST and (units := _units(texts)):
        return f"has numbers with different units, such as {two(units)}, and is read as categories"
    if len(texts) < FEWEST or len(set(texts)) < MOSTLY * cells:
        return None
    if kinds:
        return f"mixes text with {', '.join(sorted(kinds))}s and is read as categories, such as {two(texts)}"
    return f"is text that hardly ever repeats, such as {two(texts)}: as categories it says nothing of other rows"


def _units(texts: list[str]) -> list[str]:
    """Texts with different units if all are numbers with or without a unit; else none."""
    split = [split_unit(text) for text in texts]
    _, values, _ = notation_of(list(dict.fromkeys(number for number, _ in split)))
    if any(value is None for value in values):
        return []
    return list({unit: text for text, (_, unit) in zip(reversed(texts), reversed(split), strict=True)}.values())[::-1]


def _finite(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, np.nan)


def _infinite(values: Floats) -> list[Unread]:
    """Infinite values among entries of a numeric dtype."""
    rows = np.flatnonzero(np.isinf(values))
    found, first = np.unique(values[rows], return_index=True)
    every = zip(found.tolist(), rows[first].tolist(), strict=True)
    return sorted((Unread(str(value), row, True) for value, row in every), key=_row)


def _unread(entries: Entries, places: list[int], infinite: bool) -> list[Unread]:
    """Unread entries with their first rows."""
    if not places:
        return []
    found, first = np.unique(entries.codes, return_index=True)
    row = dict(zip(found.tolist(), first.tolist(), strict=True))
    return [Unread(text_of(entries.cells[place])[:40], row[place], infinite) for place in places]


def _row(unread: Unread) -> int:
    return unread.row
