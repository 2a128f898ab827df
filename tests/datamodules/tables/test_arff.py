"""ARFF files in the dialects of Weka, OpenML and hand-written files."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from datamodules.tables.files import read_file
from datamodules.tables.real import load_table
from tabattn.contract.errors import DataError, TableWarning

TEN = pd.Timestamp("2020-01-01 10:00")
HEADER = "@relation r\n@attribute x numeric\n@attribute c {a,b}\n"


def read(folder: Path, text: str, encoding: str = "utf-8") -> Any:
    (folder / "t.arff").write_bytes(text.encode(encoding))
    return read_file(folder / "t.arff")


def test_a_nominal_attribute_that_declares_a_question_mark(tmp_path: Path) -> None:
    frame = read(
        tmp_path, "@relation r\n@attribute sex {male, ?, female}\n@attribute x real\n@data\nmale,1\n?,2\nfemale,?\n"
    )
    assert frame["sex"].cat.categories.tolist() == ["male", "female"]
    assert frame["sex"].isna().tolist() == [False, True, False]


@pytest.mark.parametrize("word", ["NA", "none", "null", "nan", "N/A", "None", "-"])
def test_a_declared_class_is_a_class_whatever_it_is_called(tmp_path: Path, word: str) -> None:
    text = f"@relation r\n@attribute x real\n@attribute class {{yes,{word}}}\n@data\n1,yes\n2,{word}\n3,{word}\n"
    (tmp_path / "t.arff").write_text(text)
    table = load_table(f"{tmp_path}/t.arff")
    assert table.classes == ("yes", word)
    assert table.y.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("line", "cells", "expected"),
    [
        ("@attribute\tv\tREAL", ["1", "?"], [1, None]),
        ("@ATTRIBUTE v Integer % a note", ["1", "-2"], [1, -2]),
        ("@Attribute v NUMERIC", ["1e3", "NA"], [1000, None]),
        ("@attribute v {red,'dark blue',\"a,b\"}", ["'dark blue'", '"a,b"'], ["dark blue", "a,b"]),
        ("@attribute v{x,y}", ["y", " x "], ["y", "x"]),
        ("@attribute v { x , y }", ["y", "x"], ["y", "x"]),
        ("@attribute v {'it\\'s',b}", ["'it\\'s'", "b"], ["it's", "b"]),
        ("@attribute v {'50%', 'a%b'}", ["'50%'", "'a%b'"], ["50%", "a%b"]),
        ("@attribute v {x,\n  y}", ["y", "x"], ["y", "x"]),
        ("@attribute v STRING", ["'a, b'", '"say %"'], ["a, b", "say %"]),
        ("@attribute v date", ["2020-01-01T10:00:00", "?"], [TEN, None]),
        ("@attribute v DATE 'yyyy-MM-dd HH:mm:ss'", ["'2020-01-01 10:00:00'", "?"], [TEN, None]),
        ('@attribute v date "dd.MM.yyyy"', ["01.01.2020", "?"], [TEN.normalize(), None]),
        ("@attribute v date yyyy-MM-dd'T'HH:mm", ["2020-01-01T10:00", "?"], [TEN, None]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_attributes(tmp_path: Path, line: str, cells: list[str], expected: list[Any], end: str) -> None:
    text = (
        f"\ufeff% note\n@RELATION 'a b'\n\n{line}\n@attribute c {{a,b}}\n@DATA\n{cells[0]},a\n% note\n\n{cells[1]},b\n"
    )
    frame = read(tmp_path, text.replace("\n", end))
    assert [None if pd.isna(cell) else cell for cell in frame.iloc[:, 0]] == expected
    assert frame["c"].tolist() == ["a", "b"]


def test_names_with_spaces_quotes_and_signs(tmp_path: Path) -> None:
    names = ["'a b'", '"c, d"', "'it\\'s'", "e%f", "'100%'", "Größe"]
    header = "".join(f"@attribute {name} numeric\n" for name in names)
    frame = read(tmp_path, f"@relation r\n{header}@data\n1,2,3,4,5,6\n")
    assert frame.columns.tolist() == ["a b", "c, d", "it's", "e%f", "100%", "Größe"]


def test_weights_of_rows_are_left_out_and_said(tmp_path: Path) -> None:
    for rows in ("1,a,{5}\n2,b, {0.5}\n", "{0 1},{5}\n{0 2, 1 b}, {1}\n"):
        with pytest.warns(TableWarning, match="gives weights to its rows, which are left out"):
            frame = read(tmp_path, f"{HEADER}@data\n{rows}")
        assert frame.to_numpy().tolist() == [[1, "a"], [2, "b"]]


def test_sparse_rows(tmp_path: Path) -> None:
    frame = read(tmp_path, f"{HEADER}@attribute s string\n@data\n% note\n{{0 1.5, 2 'x y'}}\n{{}}\n{{1 b, 0 ?}}\n")
    assert frame["x"].fillna(-1).tolist() == [1.5, 0, -1]
    assert frame["c"].tolist() == ["a", "a", "b"]
    assert frame["s"].isna().tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEADER}@data\n1,c\n", "attribute 'c' does not declare the value 'c'"),
        (f"{HEADER}@data\nx,a\n", "attribute 'x' has a cell that is no number: .*'x'"),
        (f"{HEADER}@data\n1,a\n1\n", "line 6"),
        (f"{HEADER}@data\n1,'a\n", "cannot be read"),
        (HEADER, "it has no @data"),
        ("@relation r\n@data\n1\n", "its header has no @attribute"),
        ("@relation r\n@attribute x relational\n@data\n1\n", "line 2: attribute 'x' has a type that is not supported"),
        ("@relation r\n@attribute x\n@data\n1\n", "line 2 is no @attribute with a name and a type"),
        ("@relation r\n@attribute x date 'qqq'\n@data\n1\n", "date format 'qqq' is not supported"),
        ("@relation r\n@attribute x date\n@data\nlater\n", "attribute 'x' has a cell that is no date"),
        ("@relation r\n@attribute x real\n@attribute x real\n@data\n1,2\n", "has 2 columns 'x'"),
        ("some text\n", "line 1 is neither @attribute nor @data: 'some text'"),
        (f"{HEADER}@data\n{{0 1, 7 2}}\n", "cannot be read"),
    ],
)  # fmt: skip
def test_what_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_gzipped_file_in_latin_1(tmp_path: Path) -> None:
    (tmp_path / "t.arff.gz").write_bytes(gzip.compress(f"{HEADER}@data\n1,a\n".replace("b}", "é}").encode("latin-1")))
    with pytest.warns(TableWarning, match="is read as Windows-1252"):
        frame = read_file(tmp_path / "t.arff.gz")
    assert frame["c"].cat.categories.tolist() == ["a", "é"]
    assert np.isfinite(frame["x"]).all()
