"""Labels that may be one class, and more classes than a classifier can tell apart: said or refused in one line."""

import unicodedata
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from datamodules.tables.real import load_tables
from datamodules.tables.sources import load_frame
from tabattn import TabularClassifier
from tabattn.contract.columns import warn_of_labels
from tabattn.contract.columns.labels import alike_labels
from tabattn.contract.errors import TableWarning
from tabattn.prior.estimator import ensemble

ALIKE = r"has the labels 'YES' and 'Yes', which differ in case, blanks or Unicode form alone: they are separate classes"


@pytest.mark.parametrize("make", [list, np.array, pd.Series, lambda y: pd.Series(y, dtype="category"), pd.Index])
def test_labels_of_an_estimator_that_differ_in_case(make: Any) -> None:
    with pytest.warns(TableWarning, match=f"^y {ALIKE}") as said:
        model = TabularClassifier(n_estimators=1).fit(np.arange(20.0)[:, None], make(["Yes", "yes ", "YES", "no"] * 5))
    assert len(said) == 1
    assert sorted(model.classes_) == ["YES", "Yes", "no", "yes "]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_labels_of_a_file_that_differ_in_case(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame({"a": np.arange(20.0), "label": ["YES", "Yes", "no", "no"] * 5})
    path = tmp_path / f"t{suffix}"
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
    with pytest.warns(TableWarning, match=f"^target 'label' of .* {ALIKE}") as said:
        assert load_frame(str(path)).y.nunique() == 3
    assert len(said) == 1


@pytest.mark.parametrize(
    ("classes", "alike"),
    [
        (["a", "b", " a"], ("a", " a")),
        (["new  york", "New York"], ("new  york", "New York")),
        (["a\u00a0b", "a b"], ("a\u00a0b", "a b")),
        ([unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD")], ("caf\u00e9", "cafe\u0301")),
        (["STRASSE", "stra\u00dfe"], ("STRASSE", "stra\u00dfe")),
        ([b"a", b"A"], ("a", "A")),
        (["a", "b", 1, None, ""], None),
        (["a-b", "a_b", "ab"], None),
        ([1, 1.5, True], None),
    ],
)
def test_what_is_alike(classes: list[Any], alike: tuple[str, str] | None) -> None:
    assert alike_labels(classes) == alike


def test_many_classes_are_said_and_few_are_not() -> None:
    with pytest.warns(TableWarning, match=r"^y has 30 different labels in 50 rows: are these numbers to predict"):
        warn_of_labels(range(30), 50, "y")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_labels(range(20), 20, "y")
        warn_of_labels(range(30), 60, "y")


@pytest.mark.parametrize("make", [np.arange, lambda n: np.arange(n) * 1.0, lambda n: [f"row {i}" for i in range(n)]])
@pytest.mark.filterwarnings("ignore:.* 10000 (rows|different)")
def test_more_classes_than_rows_of_context(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before the codes of all classes are made, which would fill the memory."""
    monkeypatch.setattr(ensemble, "class_codes", lambda *_: pytest.fail("codes were made"))
    with pytest.raises(ValueError, match=r"^max_context must be at least the number of classes \(10000\), got 2000$"):
        TabularClassifier().fit(np.arange(10_000.0)[:, None], make(10_000))


@pytest.mark.filterwarnings("ignore:target 'y'")
def test_a_file_whose_target_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    pd.DataFrame({"a": np.arange(500.0), "y": np.random.default_rng(0).normal(size=500)}).to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"t has 500 classes in 500 rows, the smallest of 1: to draw at most max_rows"):
        load_tables((str(path),), 100, 0)
