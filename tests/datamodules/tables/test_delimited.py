"""Delimited text: separators, encodings, comments, and refused rows."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets

from datamodules.tables.files import read_file
from datamodules.tables.real import fold_batches, load_table
from datamodules.tables.sources import load_frame
from tabattn.contract.errors import DataError, TableWarning

NAN = np.nan


def read(folder: Path, content: str | bytes, name: str = "t.csv") -> Any:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_file(path)


AB = (["a", "b"], [[1, "x"], [2, "y"]])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a,b\n1,x,\n2,y,\n", AB),
        ("a,b\n1,x,\n2,y\n", AB),
        ("a,b,\n1,x,\n2,y,\n", AB),
        ("a,b,,\n1,x,,\n2,y,,\n", AB),
        ('"a","b"\n"1",1,x\n"2",2,y\n', AB),
        ('"","a","b"\n"1",1,x\n"2",2,y\n', AB),
        (",a,b\n0,1,x\n1,2,y\n", AB),
        ("a,b\nfirst,1,x\nsecond,2,y\n", AB),
        ("a;b\n1;x\n2;y\n", AB),
        ("a\tb\n1\tx\n2\ty\n", AB),
        ("a|b\n1|x\n2|y\n", AB),
        ("a b\n 1  x \n2 y\n", AB),
        ("sep=;\na;b\n1;x\n2;y\n", AB),
        ("\ufeffa,b\r\n1,x\r\n2,y\r\n", AB),
        ("a,b\r1,x\r2,y\r", AB),
        ("\n\na,b\n\n1,x\n\n2,y\n", AB),
        ("# a note\n# of two, parts\na,b\n1,x\n# another\n2,y", AB),
        ("#a,b\n1,x\n2,y", AB),
        (" a , b\n 1, x\n2,y\n", AB),
        ("a,b\n1,x\n2,y\n".encode("utf-16"), AB),
        ("a,b\n1,x\n2,y\n".encode("utf-16-le"), AB),
        ("a,b\n1,x\n2,y\n".encode("utf-32"), AB),
        ('a,b\n1,"x, y\nz"\n2,"say ""hi"""\n', (["a", "b"], [[1, "x, y\nz"], [2, 'say "hi"']])),
        ('a,"b, c\nd"\n1,x\n', (["a", "b, c\nd"], [[1, "x"]])),
        ("a,b\n#tag,x\nother,y\n", (["a", "b"], [["#tag", "x"], ["other", "y"]])),
        ("a;b\n1,5;x\n2,5;y\n", (["a", "b"], [["1,5", "x"], ["2,5", "y"]])),
        ("country,2019,2020\nA,1,2\n", (["country", "2019", "2020"], [["A", 1, 2]])),
        ("0,1,2\n1,2,3\n", (["0", "1", "2"], [[1, 2, 3]])),
        ("a,,b\n1,2,3\n", (["a", "Unnamed: 1", "b"], [[1, 2, 3]])),
    ],
)
def test_what_is_read(tmp_path: Path, content: str | bytes, expected: tuple[list[str], list[list[Any]]]) -> None:
    frame = read(tmp_path, content)
    assert (frame.columns.tolist(), frame.to_numpy(dtype=object).tolist()) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("age,income,label,city\n31,1000,no,Rome,x\n25,2,yes,Paris,y\n", "every row has 5 fields, the header 4, and"),
        ("a,b\n1,x\n2,y,z\n", "line 3 has 3 fields, the header 2: .*; columns: a, b"),
        ("a,b\n1,x,z\n2,y\n", "1 of 2 rows have a field more than the header"),
        ("a,b,c\n1,x\n2,y,z\n", "line 2 has 2 fields, the header 3"),
        ("a,b\n1,x,3,4\n", "line 2 has 4 fields, the header 2"),
        ('a,b\n"1,x\n2,y\n', "fields, the header 2|quotation mark"),
        ("label ,a,label\n1,2,3\n", "has 2 columns 'label': their names must be different"),
        ("5.1,3.5,0.2,x\n4.9,3.0,0.2,y\n", "first line is no header but a row of data, 5.1,3.5,0.2,x"),
        ("39,State,7,x\n50,Self,8,y\n", "first line is no header but a row of data, 39,State,7,x"),
        ("2,2,no,yes\n1,2,3,0\n3,4,5,1\n", "no header but begins with counts, 2,2,no,yes"),
        (b"a,b\n1,\x00\x01\n", "not a text file in UTF-8 or UTF-16"),
        (b"\x89PNG\r\n\x1a\n\x01\x02", "not a text file in UTF-8"),
    ],
)
def test_what_is_refused_in_one_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["wine_data.csv", "breast_cancer.csv", "iris.csv", "digits.csv.gz"])
def test_scikit_learns_own_files_have_no_header(tmp_path: Path, name: str) -> None:
    shutil.copy(Path(sklearn.datasets.__file__).parent / "data" / name, tmp_path)
    with pytest.raises(DataError, match=r"first line is no header|line 2 has \d+ fields, the header \d"):
        load_frame(str(tmp_path / name))


def test_western_text_is_read_and_said(tmp_path: Path) -> None:
    with pytest.warns(TableWarning, match=r"t\.csv is not UTF-8 and is read as Windows-1252"):
        frame = read(tmp_path, "a,b\n1,caf\u00e9\n".encode("latin-1"))
    assert frame["b"].tolist() == ["caf\u00e9"]


def test_the_label_is_read_from_its_column(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("age,income,label,city\n31,1000,no,Rome,\n25,2000,yes,Paris,\n")
    frame = load_frame(f"{tmp_path}/t.csv::label")
    assert frame.y.tolist() == ["no", "yes"]
    assert frame.x["age"].tolist() == [31, 25]


def test_european_numbers_are_numbers(tmp_path: Path) -> None:
    rows = "".join(f"{number},5;1.{number:03},25;{number * 3}%;{'ab'[number % 2]}\n" for number in range(8))
    (tmp_path / "t.csv").write_text(f"a;b;c;label\n{rows}")
    table = load_table(f"{tmp_path}/t.csv")
    assert not table.categorical.any()
    expected = [[number + 0.5, 1000.25 + number, 3 * number] for number in range(8)]
    np.testing.assert_array_equal(table.x, expected)


def test_words_for_missing_numbers_in_a_file(tmp_path: Path) -> None:
    cells = ["1", "N/A", "n/a", "NULL", "null", "-", ".", "?", "", "30"]
    rows = "".join(f"{cell},{number % 2}\n" for number, cell in enumerate(cells))
    (tmp_path / "t.csv").write_text(f"a,label\n{rows}")
    assert load_frame(f"{tmp_path}/t.csv").categorical == ()
    np.testing.assert_array_equal(load_table(f"{tmp_path}/t.csv").x[:, 0], [1, *[NAN] * 8, 30])


def test_dates_in_a_file_are_days(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("when,label\n1970-01-02,a\n1970-01-03 12:00,b\n")
    np.testing.assert_array_equal(load_table(f"{tmp_path}/t.csv").x[:, 0], [1, 2.5])


def test_unix_seconds_keep_their_differences(tmp_path: Path) -> None:
    rows = "".join(f"{1_700_000_000 + 10 * number},{number},{number % 2}\n" for number in range(40))
    (tmp_path / "t.csv").write_text(f"when,small,label\n{rows}")
    for batch in fold_batches(load_table(f"{tmp_path}/t.csv"), 0, 4, 0):
        when, small = batch.x[0].T.double()
        assert len(when.unique()) == 40
        context = small[: batch.context]
        np.testing.assert_allclose(when, (small - context.mean()) / context.std(correction=0), rtol=0, atol=1e-6)


def test_numbers_too_long_are_missing_and_said(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"a,label\n{'9' * 400},x\n5,y\n6,x\n")
    with pytest.warns(TableWarning, match="column 'a' of .*t.csv has '9{40}', which cannot be read as a finite number"):
        table = load_table(f"{tmp_path}/t.csv")
    np.testing.assert_array_equal(table.x[:, 0], [NAN, 5, 6])


def test_a_file_of_one_column_says_what_separates_fields(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a^b\n1^x\n2^y\n")
    with pytest.raises(ValueError, match="no column but its target 'a\\^b'; fields of a text file are separated by"):
        load_frame(f"{tmp_path}/t.csv")


def test_a_first_line_of_words_that_the_columns_hold_is_no_header(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,y,z\nx,y,w\nu,y,z\nu,v,w\n")
    with pytest.raises(DataError, match="first line is no header, for each name is a cell of its own column, x,y,z"):
        read_file(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("x,y,label\nx,y,w\nu,y,z\nu,v,w\n")
    assert list(read_file(tmp_path / "t.csv").columns) == ["x", "y", "label"]
