"""Parsing of numbers, dates and durations in text, and of entries of any Python type."""

import datetime as dt
import warnings
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tabattn.contract.columns import TableEncoder, reading, text
from tabattn.contract.columns.text import FORMS, form_of, to_days
from tabattn.contract.errors import TableWarning

NAN = np.nan
DAY_2020 = 18262
"""Days from 1970 to 2020."""


def read(cells: list[Any], dtype: Any = object) -> list[float]:
    """The numbers of one column; cells that say nothing of their own are put beside, so that it is kept."""
    encoder = TableEncoder()
    values: list[float] = encoder.fit_encode(pd.DataFrame({"a": pd.Series(cells, dtype=dtype)}))[:, 0].tolist()
    assert not encoder.categorical_.any(), "read as categories"
    return values


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1", " 2.5 ", "-3", "+4", "\u22125", ".5", "6."], [1, 2.5, -3, 4, -5, 0.5, 6]),
        (["1e3", "2E-1", "3"], [1000, 0.2, 3]),
        (["1,234", "12,345,678", "950"], [1234, 12345678, 950]),
        (["1,234.5", "7"], [1234.5, 7]),
        (["12,34,567", "1,234", "5"], [1234567, 1234, 5]),
        (["1,5", "0,25", "-3"], [1.5, 0.25, -3]),
        (["1.234,5", "12,25"], [1234.5, 12.25]),
        (["1.234.567", "1.000"], [1234567, 1000]),
        (["1.234", "5.678"], [1.234, 5.678]),
        (["1 234", "1\u00a0234,5", "12\u202f000"], [1234, 1234.5, 12000]),
        (["1_000", "5"], [1000, 5]),
        (["1'234.5", "2\u2019000"], [1234.5, 2000]),
        (["5%", "12.5 %"], [5, 12.5]),
        (["$1,200.50", "-$3", "$-4"], [1200.5, -3, -4]),
        (["12 €", "1.200,5 €"], [12, 1200.5]),
        (["USD 5", "USD 7"], [5, 7]),
        (["(1,234.5)", "7"], [-1234.5, 7]),
        ([b"1", b"2.5"], [1, 2.5]),
        (["1", 2, 2.5, True, Decimal("3.5"), Fraction(1, 4)], [1, 2, 2.5, 1, 3.5, 0.25]),
        ([Decimal("1.5"), Decimal("NaN"), 2], [1.5, NAN, 2]),
        ([pd.Interval(0, 2), pd.Interval(2, 6)], [1, 4]),
    ],
    ids=str,
)
def test_numbers(cells: list[Any], values: list[float]) -> None:
    assert_array_equal(read(cells), values)
    assert_array_equal(read([*cells, None, *cells]), [*values, NAN, *values])


@pytest.mark.parametrize(
    "word",
    [
        *("N/A", "n/a", "NULL", "null", "NA", "nan", "NaN", "None", "<NA>", "#N/A", "#DIV/0!"),
        *("-", "--", "\u2014", ".", "\u2026", "?", "??", "*", "", "  ", "\u00a0", None, NAN),
    ],
)
def test_words_for_missing_cells(word: Any) -> None:
    assert_array_equal(read(["1", word, "30"]), [1, NAN, 30])
    assert_array_equal(read([1.5, word, 30]), [1.5, NAN, 30])
    assert_array_equal(read(["2020-01-01", word, "2020-01-02"]), [DAY_2020, NAN, DAY_2020 + 1])


def test_the_same_words_are_categories_among_words() -> None:
    encoder = TableEncoder().fit(pd.DataFrame({"a": ["N/A", "yes", "no"]}))
    assert encoder.categories_ == [{"N/A": 0, "no": 1, "yes": 2}]


@pytest.mark.parametrize(
    ("cells", "days"),
    [
        (["2020-01-01", "2020-02-01 12:00", "2020-01-03T06:00:00Z"], [0, 31.5, 2.25]),
        (["2020-01-02T01:00:00+01:00", "2020-01-03"], [1, 2]),
        (["2020-1-2", "2020-11-01"], [1, 305]),
        (["2020-01", "2020-02"], [0, 31]),
        (["2020/01/02", "2020/01/13"], [1, 12]),
        (["02.01.2020", "03.01.2020"], [1, 2]),
        (["13/01/2020", "02/01/2020"], [12, 1]),
        (["01/13/2020", "01/02/2020"], [12, 1]),
        (["1/13/2020 6:00 PM", "1/2/2020 12:00 AM"], [12.75, 1]),
        (["2 Jan 2020", "13 Jan 2020"], [1, 12]),
        (["Jan 2, 2020", "Feb 1, 2020"], [1, 31]),
        (["January 2, 2020", "February 1, 2020"], [1, 31]),
        ([dt.date(2020, 1, 2), dt.date(2020, 1, 3)], [1, 2]),
        ([dt.datetime(2020, 1, 2, 12), pd.Timestamp("2020-01-02 01:00", tz="Europe/Berlin")], [1.5, 1]),
        ([np.datetime64("2020-01-02"), "2020-01-03"], [1, 2]),
        ([pd.Period("2020-01", "M"), pd.Period("2020-02", "M")], [0, 31]),
    ],
    ids=str,
)
def test_dates_are_days(cells: list[Any], days: list[float]) -> None:
    assert_allclose(read([*cells, None]), [*(DAY_2020 + np.asarray(days)), NAN], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("cells", "days"),
    [
        ([dt.timedelta(hours=12), np.timedelta64(2, "D")], [0.5, 2]),
        (["1 days 06:00:00", "0 days 00:00:00", "-1 days +12:00:00"], [1.25, 0, -0.5]),
        (["12:00", "06:00"], [0.5, 0.25]),
        (["12:00:00", "24:00:00"], [0.5, 1]),
        (["PT12H", "P1D"], [0.5, 1]),
        ([dt.time(12), dt.time(6)], [0.5, 0.25]),
    ],
    ids=str,
)
def test_durations_are_days(cells: list[Any], days: list[float]) -> None:
    assert_allclose(read(cells), days, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "train",
    [
        pd.Series(["2020-01-01", "2020-01-05"], dtype=object),
        pd.Series(["2020-01-01", "2020-01-05"], dtype="string"),
        pd.Series(["2020-01-01", "2020-01-05"], dtype="category"),
        pd.Series(pd.to_datetime(["2020-01-01", "2020-01-05"])),
        pd.Series(pd.to_datetime(["2020-01-01", "2020-01-05"])).dt.tz_localize("UTC"),
        pd.Series(pd.to_datetime(["2020-01-01", "2020-01-05"])).astype(object),
        pd.Series([dt.date(2020, 1, 1), dt.date(2020, 1, 5)], dtype=object),
        pd.Series(pd.PeriodIndex(["2020-01-01", "2020-01-05"], freq="D")),
        *("timestamp[us][pyarrow]", "timestamp[ns, tz=UTC][pyarrow]", "date32[pyarrow]", "date64[pyarrow]"),
    ],
    ids=lambda train: train if isinstance(train, str) else str(train.dtype),
)
def test_unseen_dates_in_every_container(train: Any) -> None:
    if isinstance(train, str):
        pytest.importorskip("pyarrow")
        train = pd.Series(pd.to_datetime(["2020-01-01", "2020-01-05"])).astype(train)
    encoder = TableEncoder().fit(pd.DataFrame({"a": train}))
    for test in (["2020-01-03"], pd.to_datetime(["2020-01-03"]), np.array(["2020-01-03"], "datetime64[D]")):
        assert_array_equal(encoder.transform(pd.DataFrame({"a": test})), [[DAY_2020 + 2]])


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["1,234", "56,789"], "commas separate thousands, in doubt, such as '1,234' and '56,789'"),
        (["5%", "0.05"], "although they have different signs, such as '5%' and '0.05'"),
        (["$5", "€6"], "although they have different signs, such as '$5' and '€6'"),
        (["02/03/2020", "01/02/2020"], "month before the day, in doubt, such as '02/03/2020' and '01/02/2020'"),
        ([*map(str, range(60)), "abc", "<5"], "is read as numbers, and 'abc' and '<5' as missing"),
        ([1, 10**400], "has '1000000000000000000000000000000000000000', which cannot be read as a finite number"),
        ([1, 10**5000], "has 'a whole number of 5000 digits', which cannot be read as a finite number"),
        (["1", "9" * 400], "cannot be read as a finite number"),
        (["1", "1e400"], "has '1e400', which cannot be read as a finite number: taken as missing"),
        ([1.0, np.inf, 2], "has 'inf', which cannot be read as a finite number: taken as missing"),
        ([1.0, "Infinity", 2, -np.inf], "has 'Infinity' and '-inf', which cannot be read as a finite number"),
        ([1.0, 2.0, 3.0, 3e38], "has a value of 3e+38, beside which single precision does not tell the others apart"),
    ],
)
def test_what_is_guessed_is_said(cells: list[Any], words: str) -> None:
    with pytest.warns(TableWarning, match="column 'a' ") as said:
        TableEncoder().fit(pd.DataFrame({"a": pd.Series([*cells, None, cells[0]], dtype=object), "b": 1}))
    assert len(said) == 1
    assert words in str(said[0].message)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([f"name {index}" for index in range(20)], "hardly ever repeats, such as 'name 0' and 'name 1'"),
        ([*range(20), *(f"x{index}" for index in range(20))], "mixes text with numbers and is read as categories"),
        ([dt.date(2020, 1, 1), 5, 6], "mixes date and number entries"),
    ],
)
def test_categories_that_look_wrong_are_said(cells: list[Any], words: str) -> None:
    with pytest.warns(TableWarning, match=words):
        encoder = TableEncoder().fit(pd.DataFrame({"a": pd.Series(cells, dtype=object)}))
    assert encoder.categorical_.tolist() == [True]


@pytest.mark.parametrize(
    "cells",
    [["0", "1", "2", "3+"] * 9, ["2019-20", "2020-21"], ["1-2", "3-4"], ["A1", "B2"] * 9, ["192.168.0.1", "10.0.0.1"]],
    ids=str,
)
def test_ordinary_categories_stay_categories_without_a_word(cells: list[Any]) -> None:
    encoder = TableEncoder().fit(pd.DataFrame({"a": pd.Series(cells, dtype=object)}))
    assert encoder.categorical_.tolist() == [True]


def test_two_missing_words_in_many_incomes_change_nothing() -> None:
    income = np.random.default_rng(0).normal(3e4, 1e4, 160).round()
    for wrong in ("N/A", "n/a", "NULL", "null", "-", "."):
        cells = pd.Series(income).astype(object)
        cells[[3, 90]] = wrong
        expected = np.where(np.isin(np.arange(160), [3, 90]), NAN, income)
        assert_array_equal(read(list(cells)), expected)
        assert_array_equal(read([str(cell) for cell in cells]), expected)


def test_infinities_and_notes_are_both_said() -> None:
    with pytest.warns(TableWarning) as said:
        TableEncoder().fit(pd.DataFrame({"a": ["1,234", "56,789", "inf"]}))
    assert ["in doubt" in str(one.message) for one in said] == [True, False]
    assert "has 'inf', which cannot be read as a finite number" in str(said[1].message)
    assert "the first in row 2)" in str(said[1].message)


@pytest.mark.parametrize("word", ["now", "today", "Today"])
def test_a_word_for_this_day_is_no_date(word: str) -> None:
    dates = [str(day.date()) for day in pd.date_range("2020-01-01", periods=20)]
    with pytest.warns(TableWarning, match=f"'{word}'"):
        found = TableEncoder().fit_encode(pd.DataFrame({"a": [*dates, word]}))[:, 0]
    assert_array_equal(found, [*range(DAY_2020, DAY_2020 + 20), NAN])


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_dates_are_found_by_their_shape(form: str) -> None:
    # What rules out forms before pandas tries them must not rule out the right one.
    stamps = pd.date_range("1999-12-30 23:58:59", periods=30, freq="83h", tz="UTC")
    texts = [stamp.strftime(form) for stamp in stamps]
    found, _ = form_of(texts)
    assert found is not None
    assert_allclose(to_days(texts, found), to_days(texts, form))


def test_most_texts_are_never_tried_as_dates(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    days = text._days
    monkeypatch.setattr(text, "_days", lambda texts, form: tried.append(form) or days(texts, form))
    random = np.random.default_rng(0)
    for cells in (
        [random.bytes(16).hex() for _ in range(300)],
        [f"{a}.{b}.{a % 7}.{b % 5}" for a, b in random.integers(0, 256, (300, 2))],
        [f"word {number} of a text, and 12345 more" for number in range(300)],
    ):
        assert form_of(cells) == (None, [])
    assert not tried


def test_a_reading_that_does_not_fit_is_given_up_early(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(reading, "duration", lambda cell: seen.append(cell))
    cells = [f"id {number}x" for number in range(20_000)]
    with pytest.warns(TableWarning, match="hardly ever repeats"):
        TableEncoder().fit(pd.DataFrame({"a": cells}))
    assert 2000 < len(seen) < 3000  # a tenth of them cannot be durations, and one piece more


@pytest.mark.parametrize("good", [[str(n) for n in range(36)], [f"2020-01-{1 + n % 28:02}" for n in range(36)]])
def test_nine_tenths_that_fit_make_a_column_of_numbers_or_dates(good: list[str]) -> None:
    """Rows count, not different entries; one row less, and they are categories."""
    for words, categorical in ((["w"] * 4, False), (["w"] * 5, True), (list("vwxy"), False), (list("uvwxy"), True)):
        encoder = TableEncoder()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TableWarning)
            encoder.fit(pd.DataFrame({"a": good + words}))
        assert encoder.categorical_.tolist() == [categorical]


@pytest.mark.parametrize("filling", [" ", "\u00a0", "1,", ",", "-", "12 ", "$", "1'", "a1"])
def test_long_texts_take_no_longer_than_they_are(filling: str) -> None:
    # 100,000 signs: anything but linear time would never end.
    cells = ["1" + filling * 50_000 + f"x{number}z" for number in range(3)]
    assert TableEncoder().fit(pd.DataFrame({"a": cells})).categorical_.tolist() == [True]
