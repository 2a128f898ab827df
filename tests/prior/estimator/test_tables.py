"""Types of columns and labels in a table."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tabattn import TabularClassifier
from tests.prior.estimator.tiny import MakeTable


def mixed(rows: int = 12) -> Any:
    return pd.DataFrame(
        {
            "number": np.linspace(0, 1, rows),
            "nullable": pd.array([1, None, 3] * (rows // 3), dtype="Int64"),
            "text": ["a", "b", None] * (rows // 3),
            "category": pd.Categorical(["low", "high", "low"] * (rows // 3), categories=["low", "high"]),
            "truth": [True, False, True] * (rows // 3),
            "day": pd.date_range("2020-01-01", periods=rows),
            "object": pd.Series([1, pd.NA, "x"] * (rows // 3), dtype=object),
            "empty": np.full(rows, np.nan),
            "constant": np.ones(rows),
        }
    )


def test_a_frame_of_every_kind() -> None:
    x, y = mixed(), ["no", "yes"] * 6
    model = TabularClassifier().fit(x, y)
    assert list(model.feature_names_in_) == list(x.columns)
    assert model.n_features_in_ == 9
    assert model.x_.shape == (12, 7)
    probabilities = model.predict_proba(x)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-12)
    assert set(model.predict(x)) <= {"no", "yes"}


def test_unknown_entries_are_missing_ones() -> None:
    x, y = mixed(), ["no", "yes"] * 6
    model = TabularClassifier().fit(x, y)
    other, missing = x.head(2).copy(), x.head(2).copy()
    other["text"] = ["never seen", "nor this"]
    missing["text"] = [None, None]
    np.testing.assert_array_equal(model.predict_proba(other), model.predict_proba(missing))


def test_constant_columns_change_nothing(table: MakeTable) -> None:
    x, y = table()
    more = np.column_stack([x, np.full(len(x), 7.0), np.full(len(x), np.nan)])
    np.testing.assert_array_equal(
        TabularClassifier().fit(more, y).predict_proba(more), TabularClassifier().fit(x, y).predict_proba(x)
    )


def test_a_table_of_constant_columns(table: MakeTable) -> None:
    _, y = table()
    x = np.ones((len(y), 2))
    probabilities = TabularClassifier().fit(x, y).predict_proba(x[:3])
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-12)
    assert np.ptp(probabilities, axis=0).max() < 1e-6


def test_scale_of_a_column_does_not_matter(table: MakeTable) -> None:
    x, y = table()
    large = x * [1e-12, 1.0, 1e9, 1e30] + [0.0, 0.0, 1e12, 0.0]
    np.testing.assert_allclose(
        TabularClassifier().fit(large, y).predict_proba(large),
        TabularClassifier().fit(x, y).predict_proba(x),
        atol=1e-4,
    )


def test_one_row_and_one_class() -> None:
    model = TabularClassifier().fit([[1.0, "a"]], ["only"])
    np.testing.assert_array_equal(model.predict_proba([[2.0, "b"], [1.0, "a"]]), np.ones((2, 1)))
    assert list(model.predict([[2.0, "b"]])) == ["only"]


def test_one_row_of_each_class() -> None:
    model = TabularClassifier().fit([[1.0], [2.0]], [0, 1])
    assert model.predict_proba([[1.5]]).shape == (1, 2)


@pytest.mark.parametrize(
    "labels",
    [
        ["b", "a", "c"],
        [3, 0, -2],
        [0.5e1, 1.0, 2.0],
        [True, False, True],
        pd.Categorical(["x", "y", "x"]),
        pd.array([2, 1, 2], dtype="Int64"),
        np.array([True, False, True], dtype=object),
        pd.Series(["p", "q", "p"], dtype="string"),
    ],
    ids=lambda labels: type(labels).__name__,
)
def test_labels_of_any_type(table: MakeTable, labels: Any) -> None:
    x, _ = table(12)
    y = pd.Series(labels).loc[[0, 1, 2] * 4].reset_index(drop=True)
    model = TabularClassifier().fit(x, y)
    assert list(model.classes_) == sorted(set(y))
    assert set(model.predict(x)) <= set(y)
    plain = TabularClassifier().fit(x, np.unique(np.asarray(y.astype(str)), return_inverse=True)[1])
    assert model.predict_proba(x).shape == plain.predict_proba(x).shape


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", None, "b"] * 4, "Input y contains NaN: 4 of 12 rows have no label"),
        (["a", 1, "b"] * 4, "labels must be of one kind that can be sorted"),
        (np.linspace(0, 1, 12), "Unknown label type: continuous"),
        ([0, 1], "inconsistent numbers of samples"),
    ],
)
def test_labels_that_will_not_do(table: MakeTable, labels: Any, message: str) -> None:
    x, _ = table(12)
    y = pd.Series(labels, dtype=object if isinstance(labels, list) else None)
    with pytest.raises(ValueError, match=message):
        TabularClassifier().fit(x, y)


def test_columns_must_be_those_of_fit() -> None:
    x, y = mixed(), ["no", "yes"] * 6
    model = TabularClassifier().fit(x, y)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(x[x.columns[::-1]])
    with pytest.raises(ValueError, match="9 features"):
        TabularClassifier().fit(x.to_numpy(), y).predict(x.to_numpy()[:, :3])
    with pytest.raises(ValueError, match="0 sample"):
        model.predict(x.head(0))
