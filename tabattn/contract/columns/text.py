"""Parsing of numbers, dates and durations in text, and the markers of missing cells."""

import calendar
import re
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DAY = 86_400
"""Seconds in a day, the unit of dates and durations."""

WORDS = frozenset(
    [
        *("", "na", "n/a", "n.a.", "n.a", "<na>", "nan", "-nan", "null", "none", "nil", "missing"),
        *("#n/a", "#n/a n/a", "#na", "#value!", "#div/0!", "#ref!", "#null!", "#num!", "#name?"),
        *("nat", "(null)", "[null]", "<null>", "\\n", "#nv", "0000-00-00", "0000-00-00 00:00:00", "00/00/0000"),
        *("-1.#ind", "1.#ind", "-1.#qnan", "1.#qnan", "1.#inf", "-1.#inf"),
    ]
)
"""Markers of a missing cell, in lower case: those of pandas and of spreadsheets."""

MISSING = ("?", "", "NA", "NaN", "nan")
"""Markers of a missing cell in any column of delimited text, and of a missing label in any container."""

MARKS = re.compile(r"^(?:[-\u2010-\u2015\u2212]+|[.\u2026]+|\?+|\*+)$")
"""Markers of a missing cell that consist of dashes, dots, question marks or asterisks."""

SPACES = " \u00a0\u2007\u2009\u202f"
NEUTRAL = SPACES + "_'\u2019"
"""Thousands separators that are never decimal marks."""

MINUS = "-\u2212\u2013"
CURRENCY = (
    r"(?:(?:US|NZ|HK|[ACRS])?\$|[\u00a2-\u00a5\u20a0-\u20cf\u0e3f]|(?:USD|EUR|GBP|CHF|JPY|CNY|INR|AUD|CAD|NZD|HKD|SGD|BRL|MXN|"
    r"SEK|NOK|DKK|PLN|CZK|HUF|ZAR|KRW|kr\.?|z\u0142|K\u010d|Ft|Rs\.?)(?![a-z]))"
)

NUMBER = re.compile(
    rf"""^(?:(?P<ahead>{CURRENCY})\s*+(?=\())?(?P<open>\()?\s*+(?P<sign>[{MINUS}+]?)\s*+(?P<before>{CURRENCY}?)\s*+(?P<second>[{MINUS}+]?)
    (?P<body>(?:\d|[.,](?=\d))(?:[{NEUTRAL}]*+[\d.,]++)*+)(?P<power>[eE][{MINUS}+]?\d+)?(?P<last>[{MINUS}]?)\s*+(?P<after>%|{CURRENCY}|)\s*+(?P<close>\))?$""",
    re.VERBOSE | re.IGNORECASE,
)
"""A number with its signs. Repetitions are possessive (``*+``), so that a text of any length takes linear time."""

INFINITY = re.compile(r"^[+-]?inf(?:inity)?$", re.IGNORECASE)


class Notation(NamedTuple):
    """Number notation of a column: its decimal mark and thousands separator.

    Attributes:
        decimal: Decimal mark.
        group: Thousands separator, allowed beside spaces, underscores and apostrophes.
    """

    decimal: str = "."
    group: str = ""


NOTATIONS = (Notation(), Notation(".", ","), Notation(","), Notation(",", "."))
"""Number notations in order of preference."""


JUDGED = 500
"""Number of texts that decide whether a longer column is numeric at all."""


def is_missing(text: str) -> bool:
    """Whether a text marks a missing cell in a column of numbers or dates."""
    return text.casefold() in WORDS or MARKS.match(text) is not None


def strip(text: str) -> str:
    """Strip spaces, also non-breaking ones, and byte-order marks from a text."""
    return text.strip().strip("\ufeff\u200b").strip()


@cache
def _body(notation: Notation) -> re.Pattern[str]:
    decimal, group = re.escape(notation.decimal), f"[{re.escape(notation.group + NEUTRAL)}]"
    # Groups of digits with one separator, the first neither empty nor zero; in lakhs all but the last have two digits.
    thousands = rf"[1-9]\d{{0,2}}(?P<g>{group})\d{{3}}(?:(?P=g)\d{{3}})*"
    lakhs = r"|[1-9]\d?(?:,\d\d)+,\d{3}" if notation.group == "," else ""
    return re.compile(rf"^(?:(?:\d+|{thousands}{lakhs})(?:{decimal}\d*)?|{decimal}\d+)$")


def to_number(text: str, notation: Notation) -> float | None:
    """Parse a number in a notation; infinite beyond double precision, None where it is none."""
    if text[-1:].isdigit() and notation == NOTATIONS[0] and "_" not in text:
        try:
            return float(text)  # the common case: Python's own notation
        except ValueError:
            pass
    if INFINITY.match(text):
        return float(text)
    found = NUMBER.match(text)
    if found is None or not _body(notation).match(found["body"]):
        return None
    signs = found["sign"] + found["second"] + found["last"]
    if len(signs) > 1 or (found["open"] is None) != (found["close"] is None) or (found["open"] and signs):
        return None
    if bool(found["ahead"]) + bool(found["before"]) + bool(found["after"]) > 1:
        return None
    if found["power"] and notation.group and notation.group in found["body"]:
        return None  # with an exponent the mark is decimal, not thousands
    digits = re.sub(rf"[{re.escape(notation.group + NEUTRAL)}]", "", found["body"]).replace(notation.decimal, ".")
    power = re.sub(f"[{MINUS}]", "-", found["power"] or "")
    value = float(digits + power)
    return -value if found["open"] or signs.strip("+") else value


def unit(text: str) -> str:
    """Percent or currency sign of a number, if any."""
    if text[:1].isdigit() and text[-1:].isdigit():
        return ""
    found = NUMBER.match(text)
    return (found["ahead"] or found["before"] or found["after"]).upper() if found else ""


def notation_of(texts: list[str]) -> tuple[Notation, list[float | None], list[str]]:
    """Infer the number notation of texts.

    Args:
        texts: Different texts.

    Returns:
        The first notation that parses most of them; the numbers, None where a text is none; and two texts that make the
        notation ambiguous, or none.
    """
    few = texts[:: 1 + len(texts) // JUDGED]
    if all(sum(to_number(text, notation) is not None for text in few) < len(few) / 2 for notation in NOTATIONS):
        return NOTATIONS[0], [None] * len(texts), []  # ordinary text, with a number here and there
    read = {NOTATIONS[0]: [to_number(text, NOTATIONS[0]) for text in texts]}
    if any(value is None for value in read[NOTATIONS[0]]):
        read |= {notation: [to_number(text, notation) for text in texts] for notation in NOTATIONS[1:]}
    count = {notation: sum(value is not None for value in values) for notation, values in read.items()}
    best = max(read, key=lambda notation: count[notation])  # of equally good ones the first
    doubt: list[str] = []
    if best == NOTATIONS[1] and count[best] == count[NOTATIONS[2]]:
        # Three digits follow each comma: thousands or decimals. Small integers in the column decide.
        short = re.compile(r"^\D*\d{1,3}\D*$")
        plain = [text for text in texts if "," not in text and to_number(text, best) is not None]
        if not plain or not all(short.match(text) for text in plain):
            doubt = [text for text in texts if "," in text and to_number(text, best) is not None][:2]
    units: dict[str, str] = {}
    for text, value in zip(texts, read[best], strict=True):
        if value is not None:
            units.setdefault(unit(text), text)
    return best, read[best], doubt or (list(units.values())[:2] if len(units) > 1 else [])


COUNTED = re.compile(r"\d(?P<unit>\D++)$")
LONGEST_UNIT = 20


def split_unit(text: str) -> tuple[str, str]:
    """Split a number in text from its unit: ``5 kg`` is ``5`` and ``kg``; the unit of ``2 years`` is ``year``."""
    found = COUNTED.search(text)
    word = found["unit"].strip() if found else ""
    if found is None or not 0 < len(word) <= LONGEST_UNIT:
        return text, ""
    return text[: found.start() + 1], word[:-1] if len(word) > 3 and word.isalpha() and word.endswith("s") else word


ISO = "ISO8601"
ISO_TEXT = re.compile(
    r"^[+-]?\d{4,}-\d{1,2}(?:-\d{1,2}(?:[T ]+\d{1,2}(?::\d{2}(?::\d{2}(?:[.,]\d+)?)?)?"
    r"\s*(?:Z|UTC|GMT|[+-]\d{2}:?(?:\d{2})?)?)?)?$"
)
TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
DATES = (
    *(f"%Y{sign}%m{sign}%d" for sign in "-/."),
    *("%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y", "%d-%m-%Y"),
    *(f"%d{sign}{month}{sign}%Y" for month in ("%b", "%B") for sign in " -/"),
    *(f"{month} %d{sign} %Y" for month in ("%b", "%B") for sign in (",", "")),
    *("%m/%Y", "%b-%Y", "%B-%Y", "%m/%d/%y", "%d/%m/%y", "%d.%m.%y", "%d-%b-%y", "%d %b %y"),
    *("%a, %d %b %Y", "%A, %d %B %Y", "%A, %B %d, %Y", "%b %Y", "%B %Y"),
)
FORMS = (
    *(date + time for date in DATES for time in TIMES),
    *("%a, %d %b %Y %H:%M:%S %z", "%a, %d %b %Y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y", "%Y%m%dT%H%M%S"),
)
DATE_WORDS = frozenset(
    word.lower()
    for names in (
        calendar.month_name,
        calendar.month_abbr,
        calendar.day_name,
        calendar.day_abbr,
        ("am pm gmt utc t z",),
    )
    for name in names
    for word in re.findall(r"[^\W\d_]+", name)
)
TWINS = {"%m/%d/%Y": "%d/%m/%Y", "%m-%d-%Y": "%d-%m-%Y", "%m/%d/%y": "%d/%m/%y"}
PADDED = re.compile(r"^\d\d\.\d\d\.\d\d(?!\d)")
"""Dates with dots and two-digit years; other numbers with two dots are version numbers and the like."""
DIGITS = re.compile(r"\d")
SAMPLE = 20
EPOCH = pd.Timestamp("1970-01-01", tz="UTC").as_unit("s")
"""Epoch in seconds, the coarsest unit, so that differences from it do not overflow."""


def _shape(text: str) -> str:
    """Shape of a text: 0 for each number and word; empty if a word is none that occurs in dates."""
    found = re.findall(r"[^\W\d_]+", text)
    return re.sub(r"\w+", "0", re.sub(r"\s+", " ", text)) if DATE_WORDS.issuperset(map(str.lower, found)) else ""


SHAPES = {
    form: frozenset(
        _shape(pd.Timestamp("2020-01-02 03:04:05.678").strftime(form.replace("%z", zone)))
        for zone in ("Z", *(sign + hours for sign in "+-" for hours in ("0", "0:0", "0:0:0")))
    )
    for form in FORMS
}
"""Shapes of the dates of each format, to exclude most formats before pandas tries them."""


def form_of(texts: list[str], share: float = 1.0) -> tuple[str | None, list[str]]:
    """Infer the format of dates in text.

    Args:
        texts: Different texts.
        share: Share of them that must match the format.

    Returns:
        The format that parses all of them, None where there is none; and two texts for which day and month are
        ambiguous, or none.
    """
    few = texts[:: 1 + len(texts) // SAMPLE]
    enough = share if share == 1 else share / 2  # of the first few texts
    if not texts or sum(len(DIGITS.findall(text)) >= 4 for text in few) < enough * len(few):
        return None, []
    if sum(ISO_TEXT.match(text) is not None for text in texts) >= share * len(texts):
        return (ISO if np.isfinite(to_days(texts, ISO)).mean() >= share else None), []
    shapes = [_shape(text) for text in few]
    for form in FORMS:
        date, *rest = form.split(" ", 1)
        if sum(shape in SHAPES[form] for shape in shapes) < enough * len(few):
            continue
        if date == "%d.%m.%y" and not all(PADDED.match(text) for text in few):
            continue
        if np.isfinite(_days(few, form)).mean() >= enough and np.isfinite(_days(texts, form)).mean() >= share:
            twin = " ".join([TWINS[date], *rest]) if date in TWINS else None
            return form, texts[:2] if twin and np.isfinite(_days(texts, twin)).mean() >= share else []
    return None, []


def to_days(texts: list[str], form: str) -> Floats:
    """Parse dates as days since 1970 (UTC); NaN where a text is no date of this format or ISO 8601's."""
    days = _days(texts, form)
    if form != ISO:
        return days
    # Accept ISO 8601 dates without leading zeros, or with a comma before decimals, too.
    for index in np.flatnonzero(np.isnan(days)):
        if ISO_TEXT.match(texts[index]):
            days[index] = _days([re.sub(r"(?<!\d)(\d)(?!\d)", r"0\1", texts[index].replace(",", "."))], ISO)[0]
    return days


def _days(texts: Iterable[str], form: str) -> Floats:
    # A date has a digit; pandas parses "now" and "today" in every format.
    digits = [text if DIGITS.search(text) else None for text in texts]
    stamps = pd.to_datetime(pd.Series(digits, dtype=object), format=form, errors="coerce", utc=True)
    return np.array((stamps - EPOCH).dt.total_seconds() / DAY, np.float64)


DURATION = re.compile(
    r"^(?P<minus>-)?\s*+(?:(?P<days>\d+) ?d(?:ays?)?,?)?\s*+"
    r"(?:[+]?(?P<hours>\d{1,3}):(?P<minutes>[0-5]\d)(?::(?P<seconds>[0-5]\d(?:\.\d+)?))?"
    r"(?:\s*+(?P<half>[ap])\.?m\.?)?)?$",
    re.IGNORECASE,
)
ISO_DURATION = re.compile(r"^-?P(?:\d+D)?(?:T(?:\d+H)?(?:\d+M)?(?:[\d.]+S)?)?$")


def duration(text: str) -> float | None:
    """Parse a duration or a time of day, such as ``2 days 03:00:00`` or ``12:30``, in days; None = it is none."""
    if ISO_DURATION.match(text) and DIGITS.search(text):
        return float(pd.Timedelta(text).total_seconds()) / DAY
    found = DURATION.match(text)
    if found is None or (found["days"] is None and found["hours"] is None):
        return None
    days, hours, minutes, seconds = (float(found[name] or 0) for name in ("days", "hours", "minutes", "seconds"))
    if found["half"]:
        if days or not 1 <= hours <= 12:
            return None
        hours = hours % 12 + 12 * (found["half"] in "pP")
    clock = (hours * 3600 + minutes * 60 + seconds) / DAY
    # pandas writes negative durations as -1 days +23:00:00, where the time of day is added.
    if found["minus"]:
        return clock - days if "+" in text or (days and clock == 0) else -(days + clock)
    return days + clock
