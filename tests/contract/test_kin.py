"""Number and date notations of real files are encoded like the same column of clean numbers."""

import datetime as dt
import warnings
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from datamodules.tables.files import read_file
from tabattn import TabularClassifier
from tabattn.contract.columns import Reading, TableEncoder
from tabattn.contract.errors import TableWarning

DAYS = (pd.date_range("2019-01-03", periods=24, freq="17D") - pd.Timestamp("1970-01-01")) / pd.Timedelta("1D")
DATES = [str(day.date()) for day in pd.date_range("2019-01-03", periods=24, freq="17D")]
SIZES = np.r_[9.5, 10.0, -1234.5, 0.25 * np.arange(1, 22)]


def encoded(cells: list[Any], wanted: str = "") -> Any:
    """A column as numbers; what is said of it must hold some words, or nothing is said."""
    frame = pd.DataFrame({"c": pd.Series(cells, dtype=object)})
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        encoder = TableEncoder()
        x = encoder.fit_encode(frame)[:, 0]
        np.testing.assert_array_equal(encoder.encode(frame)[:, 0], x)
    messages = [str(warning.message) for warning in said]
    assert any(wanted in message for message in messages) if wanted else not messages, messages
    return x


@pytest.mark.parametrize(
    "form",
    ["{:.2f} kg", "{:.2f}kg", "{:.2f} \u00b0C", "{:.2f}\u2030", "{:.2f} km/h", "R$ {:.2f}", "{:.2f} kr"],
)
def test_numbers_with_a_unit(form: str) -> None:
    np.testing.assert_allclose(encoded([form.format(size) for size in SIZES]), SIZES)


def test_a_unit_is_the_same_at_prediction() -> None:
    encoder = TableEncoder()
    assert encoder.fit_encode([["1 year"], ["10 years"], ["9 years"]])[:, 0].tolist() == [1, 10, 9]
    assert Reading.of(encoder.readings_[0].plain(), None) == encoder.readings_[0]
    with pytest.warns(TableWarning, match="3 months"):
        x = encoder.encode([["2 years"], ["2"], ["3 months"], [4]])[:, 0]
    np.testing.assert_array_equal(x, [2, 2, np.nan, 4])


def test_a_unit_is_saved(tmp_path: Path) -> None:
    model = TabularClassifier(n_estimators=1).fit([["5 kg"], ["10 kg"], ["9 kg"], ["7 kg"]], [0, 1, 1, 0])
    model.save(tmp_path / "m.safetensors")
    again = TabularClassifier.load(tmp_path / "m.safetensors")
    assert again.encoder_.readings_[0].form == "kg"
    np.testing.assert_array_equal(again.encoder_.encode([["8 kg"]]), [[8.0]])


def test_different_units_are_said() -> None:
    encoded([f"{size} {'kg' if size > 3 else 'g'}" for size in SIZES], "different units, such as")


def test_signs_around_numbers() -> None:
    minus = [f"{abs(size)}-" if size < 0 else f"{size}" for size in SIZES]
    np.testing.assert_allclose(encoded(minus), SIZES)
    dollars = [f"$({abs(size):,.2f})" if size < 0 else f"${size:,.2f}" for size in SIZES]
    np.testing.assert_allclose(encoded(dollars), SIZES)
    powers = [f"{size:.3e}" for size in SIZES]
    np.testing.assert_allclose(encoded([text.replace(".", ",") for text in powers]), [float(text) for text in powers])


@pytest.mark.parametrize("form", ["%d/%m/%y", "%m/%d/%y", "%d.%m.%y", "%d-%b-%y"])
def test_years_of_two_digits(form: str) -> None:
    cells = [dt.date.fromisoformat(day).strftime(form) for day in DATES]
    np.testing.assert_array_equal(encoded(cells, "years of two digits are taken as 1969 to 2068"), DAYS)


def test_versions_are_no_dates() -> None:
    assert set(encoded([f"{number}.{number % 5}.10" for number in range(1, 9)])) == set(range(8))


@pytest.mark.parametrize("form", ["%m/%Y", "%b-%Y", "%B-%Y"])
def test_months(form: str) -> None:
    cells = [dt.date.fromisoformat(day).strftime(form) for day in DATES]
    first = [(dt.date.fromisoformat(day).replace(day=1) - dt.date(1970, 1, 1)).days for day in DATES]
    np.testing.assert_array_equal(encoded(cells), first)


def test_times_with_a_half_of_the_day() -> None:
    x = encoded(["12:00 AM", "1:30 am", "12:00 PM", "1:30 p.m.", "11:59 PM"])
    np.testing.assert_allclose(x * 1440, [0, 90, 720, 810, 1439])


@pytest.mark.parametrize(("word", "said"), [("never", "'never'"), ("NaT", ""), ("(null)", ""), ("0000-00-00", "")])
@pytest.mark.parametrize("cells", [DATES, [dt.date.fromisoformat(day) for day in DATES]])
def test_a_word_among_dates(word: str, said: str, cells: list[Any]) -> None:
    expected = DAYS.to_numpy(copy=True)
    expected[5] = np.nan
    np.testing.assert_array_equal(encoded([*cells[:5], word, *cells[6:]], said), expected)


@pytest.mark.parametrize("last", ["9999-12-31", dt.date(9999, 12, 31), dt.datetime(9999, 12, 31)])
def test_dates_beyond_the_range_of_nanoseconds(last: Any) -> None:
    days = [day if isinstance(last, str) else dt.date.fromisoformat(day) for day in DATES]
    if isinstance(last, dt.datetime):
        days = [dt.datetime.fromisoformat(str(day)) for day in days]
    np.testing.assert_array_equal(encoded([*days, last]), [*DAYS, 2932896])


def test_signalling_nan_is_missing() -> None:
    np.testing.assert_array_equal(encoded([Decimal(1), Decimal("sNaN"), Decimal(3)]), [1, np.nan, 3])


def test_spaces_behind_cells(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b,label\n1 ,x ,yes \n2,x,yes\n3,NA ,no\n")
    frame = read_file(tmp_path / "t.csv")
    assert frame["label"].tolist() == ["yes", "yes", "no"]
    assert frame["b"].tolist()[:2] == ["x", "x"]
    assert frame["b"].isna().tolist() == [False, False, True]
    assert frame["a"].tolist() == [1, 2, 3]


def test_tables_of_other_shapes() -> None:
    rows = [{"a": 1.0, "b": "x"}, {"b": "y", "a": 2.0}]
    assert TableEncoder().fit_encode(rows).tolist() == [[1, 0], [2, 1]]
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
        TabularClassifier().fit(pd.Series([1.0, 2.0]), [0, 1])
    with pytest.raises(ValueError, match="X has several columns 'a': their names must be different"):
        TabularClassifier().fit(pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]), [0, 1])
