"""Filled cells are entries of the type and the notation of their column."""

import datetime as dt
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tabattn.contract.columns import learn
from tabattn.contract.errors import TableWarning
from tabattn.reconstruction.cell_network import Reconstruction
from tabattn.reconstruction.estimator import TabularImputer
from tabattn.reconstruction.estimator.members import Members
from tabattn.reconstruction.estimator.restore import fill
from tabattn.reconstruction.estimator.writing import Writing
from tests.reconstruction.estimator.test_files import changed
from tests.reconstruction.estimator.tiny import imputer

DAY = 18_262.0
"""2020-01-01."""


def objects(*entries: Any) -> pd.Series:
    return pd.Series(list(entries), dtype=object)


CASES: list[tuple[pd.Series, float, Any]] = [
    (objects(True, False), 0.4, False),
    (objects(3, np.int64(5)), 3.6, 4),
    (objects(3, 5.5), 3.6, 3.6),
    (objects(Decimal("1.25"), Decimal(2)), 1.5, Decimal("1.50")),
    (objects(Fraction(1, 3), Fraction(2)), 0.5, Fraction(1, 2)),
    (objects(dt.date(2020, 1, 1), dt.date(2020, 1, 9)), DAY + 2.7, dt.date(2020, 1, 3)),
    (objects(dt.datetime(2020, 1, 1), dt.date(2020, 1, 9)), DAY + 0.5, pd.Timestamp("2020-01-01 12:00")),
    (objects(dt.time(1), dt.time(2)), 0.25, dt.time(6)),
    (objects(dt.timedelta(1), dt.timedelta(2)), 1.5, pd.Timedelta(hours=36)),
    (
        objects(pd.Timestamp("2020", tz="Asia/Tokyo"), pd.Timestamp("2021", tz="Asia/Tokyo")),
        DAY + 0.25,
        pd.Timestamp("2020-01-01 15:00", tz="Asia/Tokyo"),
    ),
    (pd.Series(["3", "1234567"]), 1_234_567.4, "1234567"),
    (pd.Series(["3", "2.50"]), 1.239, "1.24"),
    (pd.Series(["1,234,567.5", "1,000,000.0"]), 1_234_000.25, "1,234,000.2"),
    (pd.Series(["1.234,5", "2,75"]), 1234.5, "1.234,50"),
    (pd.Series(["3%", "5%"]), 3.7, "4%"),
    (pd.Series(["$3.50", "$4.00"]), -3.129, "$-3.13"),
    (pd.Series(["EUR 3", "EUR 4"]), 3.2, "EUR 3"),
    (pd.Series(["-3", "-0.5"]), -0.04, "0.0"),
    (pd.Series(["(3)", "(4)"]), -4.0, "-4"),
    (pd.Series(["1e3", "2e9"]), 1_234_567.0, "1.23457e+06"),
    (pd.Series(["5 kg", "7.5 kg"]), 6.25, "6.2 kg"),
    (pd.Series(["2020-01-01", "2020-01-09"]), DAY + 2.7, "2020-01-03"),
    (pd.Series(["2020-01-01 10:00:00", "2020-01-09"]), DAY + 0.5, "2020-01-01 12:00:00"),
    (pd.Series(["2020-01-01T10:00Z", "2020-01-09T10:00Z"]), DAY + 0.5, "2020-01-01T12:00Z"),
    (pd.Series(["2020-01-01T10:00:00+02:00", "2020-02-01T10:00:00+02:00"]), DAY + 0.5, "2020-01-01T12:00:00+00:00"),
    (pd.Series(["2020-01", "2020-03"]), DAY + 32.0, "2020-02"),
    (pd.Series(["14.03.2020", "15.03.2020"]), DAY, "01.01.2020"),
    (pd.Series(["03:30:00", "04:00:00"]), 0.25, "06:00:00"),
    (pd.Series(["3:30", "4:00"]), 0.25, "6:00"),
    (pd.Series(["PT3H", "PT4H"]), 0.25, "P0DT6H0M0S"),
    (pd.Series(["1 days 03:00:00", "2 days"]), 0.25, "0 days 06:00:00"),
    (pd.Series(pd.period_range("2020-01", periods=2, freq="M")), DAY + 40, pd.Period("2020-02", freq="M")),
    (pd.Series(np.array(["9999-12-31", "2020-01-01"], "M8[us]")), 2e6, pd.Timestamp(np.datetime64("7445-10-25", "us"))),
    (
        pd.Series(np.array([10**6, 10**5], "m8[D]").astype("m8[s]")),
        500_000.0,
        pd.Timedelta(np.timedelta64(500_000 * 86_400, "s")),
    ),
]


@pytest.mark.parametrize(("column", "number", "entry"), CASES, ids=[str(case[2]) for case in CASES])
def test_a_number_becomes_an_entry_of_its_column(column: pd.Series, number: float, entry: Any) -> None:
    reading, _ = learn(column)
    writing = Writing.of(column, np.ones(len(column), dtype=bool), reading)
    assert writing is not None
    (found,) = writing.write(np.asarray([number]), reading)
    assert found == entry
    assert isinstance(found, type(entry)) or isinstance(entry, type(found))
    again = Writing.of_plain(list(writing), reading)
    assert again is not None
    assert again.write(np.asarray([number]), reading) == [entry]


def test_what_a_column_with_nothing_but_missing_cells_is_filled_by() -> None:
    """The type is that of fit: of truth values no share, of dates no number of days, of text no number."""
    rows = 24
    draws = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "number": draws.normal(size=rows),
            "truth": draws.random(rows) < 0.5,
            "whole": draws.integers(0, 9, rows),
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(draws.integers(0, 9, rows), unit="D"),
            "share": [f"{value}%" for value in draws.integers(0, 9, rows)],
            "word": draws.choice(["x", "y"], rows),
        }
    )
    model = imputer().fit(frame)
    for nothing in (np.nan, None):
        found = model.transform(frame.assign(**dict.fromkeys(frame, nothing)))
        assert found["truth"].isin([True, False]).all()
        assert all(isinstance(value, bool | np.bool_) for value in found["truth"])
        assert all(isinstance(value, int | np.integer) for value in found["whole"])
        assert found["day"].between(frame["day"].min(), frame["day"].max()).all()
        assert found["share"].str.endswith("%").all()
        assert found["word"].isin(["x", "y"]).all()
    assert model.transform(frame.assign(truth=np.nan))["truth"].dtype == bool


def test_a_type_that_cannot_hold_a_value_is_widened() -> None:
    where = np.array([True, False])
    small = fill(pd.Series([None, 3], dtype="Int8"), where, [2600])
    assert (small.dtype, small.tolist()) == ("Int64", [2600, 3])
    mixed = fill(pd.Series([np.nan, 3.0]), where, ["a"])
    assert (mixed.dtype, mixed.tolist()) == (object, ["a", 3.0])
    sparse = fill(pd.Series(pd.arrays.SparseArray([np.nan, 3.0])), where, [2.0])
    assert (str(sparse.dtype), sparse.tolist()) == ("Sparse[float64, nan]", [2.0, 3.0])


def test_numbers_stay_within_the_range_of_fit() -> None:
    """Rounding to single precision does not carry a filled cell beyond the largest entry of its column."""
    draws = np.random.default_rng(0)
    x = draws.normal(size=(60, 1)) @ np.ones((1, 8)) * draws.random(8) + 0.1
    model = imputer().fit(x)
    far = np.where(np.eye(8, dtype=bool), np.nan, x[:8] * 0 + 1e6 * np.array([[1], [-1]] * 4))
    found = np.concatenate([model.transform(far), *model.sample(far, 5, random_state=0)])
    assert (found.reshape(6, 8, 8)[:, np.eye(8, dtype=bool)] <= x.max(0)).all()
    assert (found.reshape(6, 8, 8)[:, np.eye(8, dtype=bool)] >= x.min(0)).all()
    assert model.ranges_.tolist() == [x.min(0).tolist(), x.max(0).tolist()]


@pytest.mark.parametrize("sign", [1, -1])
def test_means_beyond_the_range_of_fit_are_its_bounds(sign: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).normal(size=(60, 8))
    model = imputer().fit(x)
    predict = Members.predict

    def far(own: Members, *given: Any) -> Reconstruction:
        found = predict(own, *given)
        return found._replace(mean=torch.full_like(found.mean, sign * 1e6))

    monkeypatch.setattr(Members, "predict", far)
    found = model.transform(np.where(np.eye(8, dtype=bool), np.nan, x[:8]))
    np.testing.assert_allclose(found.diagonal(), x.max(0) if sign > 0 else x.min(0), rtol=1e-6)
    assert ((x.min(0) <= found.diagonal()) & (found.diagonal() <= x.max(0))).all()


def test_constant_columns_are_filled_where_they_cannot_be_read() -> None:
    x = pd.DataFrame({"a": np.arange(20.0), "same": 5.0, "word": "w", "level": pd.Categorical(["1"] * 20)})
    model = imputer().fit(x)
    row = pd.DataFrame({"a": [1.0], "same": [np.inf], "word": ["v"], "level": pd.Categorical(["2"])})
    with pytest.warns(TableWarning, match="column 'same' has 'inf', which cannot be read as a finite number"):
        found = model.transform(row)
    assert found["same"][0] == 5.0
    assert (found["word"][0], found["level"][0]) == ("v", "2")


def test_categories_that_are_numbers_are_no_numbers_unless_they_have_an_order() -> None:
    codes = ["1", "9"] * 20 + [None]
    kind = pd.Categorical(codes, categories=["1", "5", "9"])
    frame = pd.DataFrame({"kind": kind, "level": kind.as_ordered(), "a": np.arange(41.0)})
    model = imputer().fit(frame)
    assert model.encoder_.categorical_.tolist() == [True, False, False]
    assert model.transform(frame)["kind"][40] in ("1", "9")
    assert list(model.cell_probabilities(frame)) == ["kind"]


def test_files_know_how_entries_are_written(tmp_path: Path) -> None:
    path = tmp_path / "a b.safetensors"
    frame = pd.DataFrame(
        {"truth": [True, False] * 12, "a": np.arange(24.0), "day": pd.date_range("2020", periods=24, tz="CET")}
    )
    model = imputer().fit(frame)
    model.save(path)
    again = TabularImputer.load(path, "cpu")
    blank = frame.assign(truth=None, day=None)
    pd.testing.assert_frame_equal(again.transform(blank), model.transform(blank))
    np.testing.assert_array_equal(again.ranges_, model.ranges_)
    changed(path, lambda header, tensors: (header.pop("writings"), header.pop("ranges")))
    earlier = TabularImputer.load(path, "cpu").transform(frame.assign(truth=None))
    assert earlier["truth"].between(0, 1).all()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("writings", [["number", ""]], "writings must be a list of 2 entries"),
        ("writings", [["other", ""], ["number", ""]], "entries of no known type"),
        ("writings", [["truth", ""], ["date", "Nowhere/Never"]], "holds no estimator that fits together"),
        ("writings", [["text", "1" * 101], ["number", ""]], "entries of no known type"),
        ("ranges", [[0.0, 0.0]], "ranges must be 2 least and largest numbers"),
        ("ranges", [[0.0, 2.0], [1.0, 1.0]], "ranges must be 2 least and largest numbers"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, value: Any, said: str) -> None:
    path = tmp_path / "a.safetensors"
    imputer().fit(pd.DataFrame({"a": [True, False] * 12, "b": pd.date_range("2020", periods=24)})).save(path)
    changed(path, lambda header, tensors: header.update({name: value}))
    with pytest.raises(ValueError, match=said):
        TabularImputer.load(path)
