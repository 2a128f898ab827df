"""Labels that look like missing values are refused or reported alike in every container."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from datamodules.tables.sources import load_frame
from tabattn import TabularClassifier
from tabattn.contract.columns import missing_words
from tabattn.contract.errors import TableWarning

REFUSED = ["NA", "nan", "NaN", "?"]
DOUBTFUL = ["N/A", "null", "NULL", "-", "n/a", "None", "<NA>", "missing"]


def labels(word: Any) -> list[Any]:
    return [word if row % 5 == 3 else "xy"[row % 2] for row in range(20)]


def write(path: Path, word: Any) -> str:
    frame = pd.DataFrame({"a": np.arange(20.0), "label": labels(word)})
    if path.suffix == ".arff":
        kind = "@attribute a numeric\n@attribute label string\n@data\n"
        rows = "".join(f"{a},'{label}'\n" for a, label in zip(frame["a"], frame["label"], strict=True))
        path.write_text(f"@relation r\n{kind}{rows}")
    elif path.suffix == ".parquet":
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    return str(path)


@pytest.mark.parametrize("word", REFUSED)
@pytest.mark.parametrize("suffix", [".csv", ".arff", ".parquet"])
def test_no_label_in_a_file(tmp_path: Path, suffix: str, word: str) -> None:
    path = write(tmp_path / f"t{suffix}", word)
    with pytest.raises(ValueError, match=r"target 'label' of .* has no label in 4 of 20 rows"):
        load_frame(path)


@pytest.mark.parametrize("word", ["", " "])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_an_empty_label(tmp_path: Path, suffix: str, word: str) -> None:
    with pytest.raises(ValueError, match="has no label in 4 of 20 rows"):
        load_frame(write(tmp_path / f"t{suffix}", word))


@pytest.mark.parametrize("word", DOUBTFUL)
@pytest.mark.parametrize("suffix", [".csv", ".arff", ".parquet"])
def test_a_doubtful_label_in_a_file(tmp_path: Path, suffix: str, word: str) -> None:
    path = write(tmp_path / f"t{suffix}", word)
    with pytest.warns(TableWarning, match=rf"target 'label' of .* has '{word}' in 4 of 20 rows, taken as a class"):
        assert load_frame(path).y.nunique() == 3


def test_a_declared_category_of_a_frame_is_a_class_and_said(tmp_path: Path) -> None:
    y = pd.Series(labels("NA"), dtype="category", name="label")
    with pytest.warns(TableWarning, match=r"y \('label'\) has 'NA' in 4 of 20 rows, taken as a class"):
        model = TabularClassifier(n_estimators=1).fit(np.arange(20.0)[:, None], y)
    assert model.classes_.tolist() == ["NA", "x", "y"]


@pytest.mark.parametrize("make", [list, np.array, pd.Series, lambda y: pd.Series(y, dtype="string"), pd.DataFrame])
def test_labels_of_an_estimator(make: Any) -> None:
    x = np.arange(20.0)[:, None]
    model = TabularClassifier(n_estimators=1)
    with pytest.raises(ValueError, match=r"Input y has rows without a label, 'nan' in 4 of 20"):
        model.fit(x, np.ravel(make(labels("nan"))) if make is pd.DataFrame else make(labels("nan")))
    with pytest.warns(TableWarning, match=r"y has 'N/A' in 4 of 20 rows, taken as a class"):
        model.fit(x, np.ravel(make(labels("N/A"))) if make is pd.DataFrame else make(labels("N/A")))


def test_labels_that_are_no_such_words() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for y in (["+", "-"], ["none of these", "all"], [0, 1], [b"a", b"b"], [True, False], [None, "a"]):
            assert missing_words(y) == ({}, {})
    assert missing_words([b"N/A", b"a"]) == ({}, {"N/A": 1})
