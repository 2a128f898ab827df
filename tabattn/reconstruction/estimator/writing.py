"""Inverse of a column's reading: numbers as entries of the column's own type and notation."""

import datetime as dt
import re
from decimal import Decimal
from fractions import Fraction
from numbers import Integral
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tabattn.contract.columns import Floats, Reading
from tabattn.contract.columns.text import DAY, SPACES

Kind = Literal["number", "whole", "truth", "decimal", "fraction", "date", "day", "period", "duration", "time", "text"]
SIGNS = "-+\u2212\u2013("
"""Signs of numbers in text, beside which no sign of another is written."""
BODY = re.compile(r"\d(?:.*\d)?")
"""Digits of a number in text, with all between."""
LONGEST = 100
"""Longest example."""
CLOCK = re.compile(r"^\d{1,3}:\d\d(:\d\d)?$")
"""Durations in text as hours and minutes, and perhaps seconds."""


class Writing(NamedTuple):
    """Inverse of a ``Reading``: how numbers, days of dates and days of durations are written in a column.

    Attributes:
        kind: Type of the entries: ``number`` (floating point), ``whole`` numbers, ``truth`` values, ``decimal`` and
            ``fraction`` (Python's), ``date`` with a time of day, ``day`` without, ``period`` (of pandas), ``duration``,
            ``time`` of day, or ``text``.
        example: Of texts and decimals one whose notation others have; of dates the time zone, if any; of periods the
            frequency.
    """

    kind: Kind
    example: str = ""

    @classmethod
    def of(cls, column: pd.Series, known: NDArray[np.bool_], reading: Reading) -> Self | None:
        """Learn from the entries of a column that its reading parses; None if there are none.

        Args:
            column: The column.
            known: Which of its entries are parsed, ``(rows,)``.
            reading: The reading, not of categories.
        """
        if not known.any():
            return None
        if isinstance(column.dtype, pd.PeriodDtype):
            return cls("period", str(column.dtype).removeprefix("period[").removesuffix("]"))
        if zone := _zone(getattr(column.dtype, "pyarrow_dtype", column.dtype)):
            return cls("date", zone)
        by_dtype: dict[str, Kind] = {
            "b": "truth",
            "i": "whole",
            "u": "whole",
            "f": "number",
            "M": "date",
            "m": "duration",
        }
        if (kind := by_dtype.get(getattr(column.dtype, "kind", "O"))) is not None:
            return cls(kind)
        return cls._of_entries(column[known].astype(object).tolist(), reading)

    @classmethod
    def _of_entries(cls, entries: list[Any], reading: Reading) -> Self:
        def all_of(*types: type) -> bool:
            return all(isinstance(entry, types) for entry in entries)

        if reading.kind == "number":
            if all_of(bool, np.bool_):
                return cls("truth")
            if all_of(Integral):
                return cls("whole")
            if all_of(Decimal):
                return cls("decimal", f"{min(entries, key=lambda entry: entry.as_tuple().exponent):f}")
            if all_of(Fraction):
                return cls("fraction")
        if all_of(str, bytes):
            texts = [entry.strip() for entry in entries if isinstance(entry, str)]
            return cls("text", max(texts, key=lambda text: _rank(text, reading), default="")[:LONGEST])
        if reading.kind == "date":
            days = all_of(dt.date) and not any(isinstance(entry, dt.datetime) for entry in entries)
            zones = set(map(_zone, entries))
            return cls("day") if days else cls("date", zones.pop() if len(zones) == 1 else "")
        if reading.kind == "duration":
            return cls("time" if all_of(dt.time) else "duration")
        return cls("number")

    @classmethod
    def fitted(cls, column: pd.Series, codes: Floats, reading: Reading) -> Self | None:
        """Learn from a column that varies in ``fit``; None if it holds categories."""
        return None if reading.categories is not None else cls.of(column, ~np.isnan(codes), reading)

    @classmethod
    def of_plain(cls, given: Any, reading: Reading) -> Self | None:
        """Build from plain values, which files of earlier versions lack.

        Raises:
            ValueError: They describe none.
        """
        if reading.categories is not None:
            return None
        if given is None:
            return cls("number" if reading.kind == "any" else reading.kind)  # type: ignore[arg-type]
        found = cls(*map(str, given))  # type: ignore[arg-type]
        if found.kind not in Kind.__args__ or len(found.example) > LONGEST:  # type: ignore[attr-defined]
            raise ValueError(f"entries of no known type: {str(given)[:40]}")
        found.write(np.zeros(1), reading)  # A time zone or a frequency may be unknown.
        return found

    def write(self, values: Floats, reading: Reading) -> list[Any]:
        """Numbers as entries.

        Args:
            values: The numbers; of dates and durations days.
            reading: The reading, which parses the entries as these numbers again, but for rounding.
        """
        if self.kind == "text":
            return [_text(value, self.example, reading) for value in values.tolist()]
        if self.kind in ("truth", "whole", "decimal", "fraction", "number"):
            return [self._number(value) for value in values.tolist()]
        if reading.kind == "duration":
            spans = [_duration(value) for value in values.tolist()]
            return (
                [(dt.datetime.min + span % dt.timedelta(1)).time() for span in spans] if self.kind == "time" else spans
            )
        stamps = [_date(value) for value in values.tolist()]
        if self.kind == "day":
            return [stamp.date() for stamp in stamps]
        if self.kind == "period":
            return [pd.Period(stamp, freq=self.example) for stamp in stamps]
        return [stamp.tz_localize("UTC").tz_convert(self.example) if self.example else stamp for stamp in stamps]

    def _number(self, value: float) -> Any:
        if self.kind == "truth":
            return value >= 0.5
        if self.kind == "whole":
            return round(value)
        if self.kind == "decimal":
            return Decimal(f"{value:.{len(self.example.partition('.')[2])}f}")
        return Fraction(value).limit_denominator(1000) if self.kind == "fraction" else value


def _zone(dated: Any) -> str:
    """Name of the time zone of a date or of a type of dates; empty = none that pandas knows by its name."""
    zone = getattr(dated, "tz", None) or getattr(dated, "tzinfo", None)
    try:
        return "" if zone is None else str(pd.Timestamp(0, tz=str(zone)).tz)
    except (ValueError, KeyError, TypeError):
        return ""


def _duration(days: float) -> pd.Timedelta:
    return pd.Timedelta(np.timedelta64(round(days * DAY * 1e6), "us"))


def _date(days: float) -> pd.Timestamp:
    return pd.Timestamp(np.datetime64(round(days * DAY * 1e6), "us"))


def _decimals(text: str, decimal: str) -> int:
    body = BODY.search(text)
    return len(body[0].partition(decimal)[2]) if body else 0


def _rank(text: str, reading: Reading) -> tuple[bool, int]:
    """How good an example a text is: without a sign, and with many decimals, or of dates with a time of day."""
    if reading.kind != "number":
        return True, len(text)
    return text[:1] not in SIGNS, _decimals(text, reading.decimal)


def _text(value: float, example: str, reading: Reading) -> str:
    """A number, date or duration as text like the example."""
    if reading.kind == "date":
        return _date_text(_date(value), example, reading.form)
    if reading.kind == "duration":
        return _duration_text(_duration(value), example)
    body = BODY.search(example)
    if body is None or re.search("[eE]", body[0]):
        return f"{value:.6g}".replace(".", reading.decimal)
    number = f"{abs(value):,.{_decimals(example, reading.decimal)}f}"
    signs: dict[str, str | int | None] = {",": reading.group or None, ".": reading.decimal}
    number = number.translate(str.maketrans(signs))
    before, after = example[: body.start()].rstrip(SIGNS + SPACES), example[body.end() :].rstrip(")")
    sign = "-" if value < 0 and any(digit in number for digit in "123456789") else ""
    gap = " " if before and example[len(before) : body.start()].isspace() else ""
    return f"{before}{gap}{sign}{number}{after}"


def _date_text(stamp: pd.Timestamp, example: str, form: str) -> str:
    if form:
        return str(stamp.strftime(form))
    if ":" not in example:
        return str(stamp.strftime("%Y-%m" if len(example) == len("2020-01") else "%Y-%m-%d"))
    zone = "Z" if example.endswith("Z") else "+00:00" if re.search(r"[+-]\d\d:?\d*$", example[10:]) else ""
    seconds = "seconds" if example.count(":") > 1 + zone.count(":") else "minutes"
    return f"{stamp.isoformat(sep=example[10], timespec=seconds)}{zone}"


def _duration_text(span: pd.Timedelta, example: str) -> str:
    if example.startswith(("P", "-P")):
        return str(span.round("s").isoformat())
    clock = CLOCK.match(example)
    if clock is None or span < pd.Timedelta(0):
        return str(span.round("s"))
    minutes, seconds = divmod(round(span.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:0{example.index(':')}d}:{minutes:02d}" + (f":{seconds:02d}" if clock[1] else "")
