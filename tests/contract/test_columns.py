"""Column encoding depends on the fitted rows only."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone

from tabattn.contract.columns import Standard, TableEncoder, encode_labels, recode, to_single
from tabattn.contract.errors import TableWarning

NAN = np.nan


def encoded(train: list[Any], test: list[Any], **options: Any) -> list[float]:
    """The codes of one column's test entries, after a fit to its train entries."""
    encoder = TableEncoder().fit(pd.DataFrame({"a": pd.Series(train, **options)}))
    codes: list[float] = encoder.transform(pd.DataFrame({"a": pd.Series(test, **options)}))[:, 0].tolist()
    return codes


@pytest.mark.parametrize(
    ("train", "test", "options", "expected"),
    [
        ([1, 2], [3, 1], {}, [3, 1]),
        ([1.5, None, 2], [None, 3, 7], {}, [NAN, 3, 7]),
        ([True, False], [True, False], {}, [1, 0]),
        ([True, False, None], [None, True, False], {"dtype": object}, [NAN, 1, 0]),
        ([1, 2, None], [3, None, 1], {"dtype": "Int64"}, [3, NAN, 1]),
        ([0.5, None, 1], [pd.NA, 2, 3], {"dtype": "Float64"}, [NAN, 2, 3]),
        (["3", "10", None], ["2", "n/a", None], {"dtype": object}, [2, NAN, NAN]),
        (["3", "10"], ["2", "10"], {"dtype": "category"}, [2, 10]),
        (["b", "a", "c"], ["a", "b", "d"], {}, [0, 1, NAN]),
        (["b", None, "a"], [None, "b", "a"], {"dtype": object}, [NAN, 1, 0]),
        (["b", pd.NA, "a"], [pd.NA, "b", "a"], {"dtype": "string"}, [NAN, 1, 0]),
        (["b", "a"], ["a", "b"], {"dtype": pd.CategoricalDtype(["c", "b", "a"])}, [1, 0]),
        ([1, "x", None], ["x", 1, 1.0], {"dtype": object}, [1, 0, 0]),
        ([1, "x", None], ["1", 2, True], {"dtype": object}, [0, NAN, NAN]),
    ],
)
def test_every_kind_of_column(
    train: list[Any], test: list[Any], options: dict[str, Any], expected: list[float]
) -> None:
    assert_array_equal(encoded(train, test, **options), expected)


def test_dates_and_durations_are_days() -> None:
    dates = ["1970-01-02", "1970-01-03 12:00", None]
    assert_array_equal(encoded(*[list(map(pd.Timestamp, dates))] * 2), [1, 2.5, NAN])
    zoned = [pd.Timestamp(f"1970-01-0{day} 01:00", tz="Europe/Berlin") for day in (2, 3)]
    assert encoded(zoned, zoned) == [1, 2]
    assert encoded([pd.Timedelta(days=2), pd.Timedelta(hours=12)], [pd.Timedelta(hours=6)]) == [0.25]


def test_a_column_may_change_its_type_after_the_fit() -> None:
    encoder = TableEncoder().fit(pd.DataFrame({"a": ["1", "2", "x"], "b": [1, 2, 3]}))
    with pytest.warns(TableWarning, match="column 'b' has 'y', which cannot be read as a number: taken as missing"):
        found = encoder.transform(pd.DataFrame({"a": [2.0, 1.0], "b": ["3", "y"]}))
    assert_array_equal(found, [[1, 3], [0, NAN]])


def test_constant_columns_are_dropped() -> None:
    frame = pd.DataFrame(
        {"one": [1, 1, 1], "gaps": [NAN, 2, NAN], "none": [None] * 3, "text": ["a"] * 3, "x": [1, 2, 3]}
    )
    encoder = TableEncoder().fit(frame)
    assert encoder.get_feature_names_out().tolist() == ["x"]
    assert encoder.columns_.tolist() == [4]
    assert_array_equal(encoder.transform(frame), [[1], [2], [3]])


def test_rows_after_the_fitted_ones_change_nothing() -> None:
    frame = pd.DataFrame({"a": ["b", "a", "z", "c"], "b": [1, 2, "text", 3], "c": [1, 1, 2, 3]})
    with pytest.warns(TableWarning, match="column 'b' has 'text'"):
        alone = TableEncoder().fit(frame[:2]).transform(frame)
    assert_array_equal(alone, [[1, 1], [0, 2], [NAN, NAN], [NAN, 3]])


def test_arrays_of_any_type() -> None:
    encoder = TableEncoder().fit(np.array([["a", 1], ["b", 2]], dtype=object))
    assert encoder.categorical_.tolist() == [True, False]
    assert encoder.get_feature_names_out().tolist() == ["x0", "x1"]
    assert not hasattr(encoder, "feature_names_in_")
    assert_array_equal(encoder.transform([["b", 3]]), [[1, 3]])
    assert_array_equal(clone(encoder).fit_transform(np.eye(2)), np.eye(2))


def test_columns_without_rows_to_fit_or_of_another_table_are_refused() -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": [3, 4]})
    encoder = TableEncoder().fit(frame)
    with pytest.raises(ValueError, match="X has 1 features, but TableEncoder is expecting 2 features as input"):
        encoder.transform(frame[["a"]])
    with pytest.raises(ValueError, match="same order: got 'b' for 'a'"):
        encoder.transform(frame[["b", "a"]])
    with pytest.raises(ValueError, match="at least 1 row, got 0"):
        TableEncoder().fit(frame[:0])
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
        TableEncoder().fit([1, 2])
    with pytest.raises(TypeError, match="must be a string or a number, got a dict"):
        TableEncoder().fit(np.array([[{}], [1]], dtype=object))


@pytest.mark.parametrize(
    ("labels", "codes", "names"),
    [
        (pd.Series([5, 0, 2, 5]), [2, 0, 1, 2], ("0", "2", "5")),
        (pd.Series(["b", "a"]), [1, 0], ("a", "b")),
        (pd.Series(pd.Categorical(["b", "a"], categories=["c", "b", "a"])), [0, 1], ("b", "a")),
        (pd.Series([True, False]), [1, 0], ("False", "True")),
        (pd.Series([1, "a"], dtype=object), [0, 1], ("1", "a")),
    ],
)
def test_labels_are_numbered(labels: pd.Series, codes: list[int], names: tuple[str, ...]) -> None:
    found, classes = encode_labels(labels)
    assert found.tolist() == codes
    assert classes == names


def test_a_missing_label_is_refused() -> None:
    with pytest.raises(ValueError, match="every row needs a label, 1 of 3 have none"):
        encode_labels(pd.Series(["a", None, "b"]))


def test_recoding_by_a_context_equals_a_fit_to_it() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "number": rng.normal(size=30),
            "text": rng.choice(list("abcdefgh"), 30),
            "gaps": pd.Series(rng.choice(list("xyz"), 30)).where(rng.random(30) < 0.5),
            "constant": np.r_[np.zeros(8), np.ones(22)],
        }
    )
    whole = TableEncoder().fit(frame)
    x, kept = recode(whole.transform(frame), whole.categorical_, 8)
    alone = TableEncoder().fit(frame[:8])
    assert kept.tolist() == alone.columns_.tolist() == [0, 1, 2]
    assert_array_equal(x, alone.transform(frame))
    assert np.isnan(x[8:, 1]).any()


@pytest.mark.parametrize(
    ("names", "others"),
    [([5, 6], [6, 5]), ([0, 1], [1, 0]), ([("a", 1), ("b", 1)], [("b", 1), ("a", 1)]), ([1, "a"], ["a", 1])],
)
def test_columns_whose_names_are_no_text_keep_their_order(names: list[Any], others: list[Any]) -> None:
    cells = [[1.0, 2.0], [3.0, 5.0]]
    encoder = TableEncoder().fit(pd.DataFrame(cells, columns=names))
    assert_array_equal(encoder.transform(pd.DataFrame(cells, columns=names)), cells)
    assert_array_equal(encoder.transform(cells), cells)
    with pytest.raises(ValueError, match="columns must be those of fit, in the same order: got"):
        encoder.transform(pd.DataFrame(cells, columns=others))


@pytest.mark.parametrize(
    "cells",
    [
        np.arange(5, dtype=np.uint64) + np.uint64(2**63),
        [str(10**18 + number) for number in range(5)],
        [10**30 + number for number in range(5)],
        pd.array([10**18 + number for number in range(5)], dtype="Int64"),
    ],
)
def test_whole_numbers_beyond_double_precision_are_said(cells: Any) -> None:
    with pytest.warns(TableWarning, match="column 'a' has whole numbers that double precision does not tell apart"):
        TableEncoder().fit(pd.DataFrame({"a": cells}))


def test_columns_are_kept_by_the_context_alone() -> None:
    """What is constant among context rows is dropped, however it varies among targets, and missing cells are none."""
    nan = NAN
    x = np.array(
        [[1.0, 5.0, nan, 2.0, 1.0], [1.0, 6.0, 3.0, 2.0, 0.0], [9.0, 5.0, 4.0, nan, 7.0], [8.0, 5.0, 5.0, 1.0, 7.0]]
    )
    cells, kept = recode(x, np.array([False, False, False, False, True]), 2)
    assert kept.tolist() == [1, 4]
    assert_array_equal(cells, [[5.0, 1.0], [6.0, 0.0], [5.0, nan], [5.0, nan]])


def test_large_numbers_are_standardised_by_the_context_alone() -> None:
    """Unix seconds a minute apart: targets of other years change nothing of the context's cells."""
    seconds = 1.7e9 + 60 * np.arange(6.0)
    small = np.arange(6.0)
    near, far = (np.stack([np.r_[seconds, target], np.r_[small, 1e3]], 1) for target in (1.7e9, 1e9))
    found = to_single(far, 6)
    assert_array_equal(found[:6], to_single(near, 6)[:6])
    np.testing.assert_allclose(found[:6, 0].mean(), 0, atol=1e-6)
    np.testing.assert_allclose(found[:6, 0].std(), 1, rtol=1e-6)
    np.testing.assert_allclose(found[6, 0], (1e9 - seconds.mean()) / seconds.std(), rtol=1e-6)
    assert_array_equal(found[:, 1], [*small, 1e3])


def test_mean_and_deviation_are_those_of_the_cells_that_are_there() -> None:
    x = np.array([[1.0, 1e300, NAN], [NAN, -1e300, NAN], [4.0, 5e299, NAN], [7.0, 0.0, NAN]])
    standard = Standard.of(x)
    np.testing.assert_allclose(standard.mean, [4, 1.25e299, 0])
    np.testing.assert_allclose(standard.size[:2], [6**0.5, 1e300 * np.std([1, -1, 0.5, 0])])
    np.testing.assert_allclose(standard(x)[:, 0], [-(1.5**0.5), NAN, 0, 1.5**0.5], rtol=1e-6)


def test_single_precision_is_standardised_as_double() -> None:
    x = np.array([[1.0, 3365.0], [2.0, -59.0], [4.0, NAN]])
    for of_single, of_double in zip(Standard.of(x.astype(np.float32)), Standard.of(x), strict=True):
        np.testing.assert_allclose(of_single, of_double, rtol=1e-6)


def test_a_constant_column_has_its_value_as_mean_and_a_deviation_of_1() -> None:
    # The sum of six sixths of 0.1 is not 0.1.
    standard = Standard.of(np.array([[0.1, 5.0, NAN], *[[0.1, NAN, NAN]] * 5]))
    assert standard.mean.tolist() == [0.1, 5.0, 0.0]
    assert standard.size.tolist() == [1.0, 1.0, 1.0]
    assert Standard.of(np.empty((0, 2))).size.tolist() == [1.0, 1.0]


def test_what_is_one_dimensional_is_shown_as_it_is() -> None:
    for given in (["a", "b"], np.array(["a", "b"]), pd.Series(["a", "b"])):
        with pytest.raises(ValueError, match=r"got 1D array instead:\narray=\['a' 'b'\]"):
            TableEncoder().fit(given)


def test_numbers_far_beyond_those_of_fit_are_clipped_without_a_warning() -> None:
    z = Standard.of(np.array([[1e-320], [3e-320]]))(np.array([[1.0], [-1.0], [2e-320]]))
    assert np.isfinite(z).all()
    assert z[:, 0].tolist() == [-z[1, 0], z[1, 0], 0.0]
    assert z[0, 0] > 1e6
