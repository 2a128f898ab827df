"""Filters of tables by size and balance, of single tables and of folders with an index."""

from pathlib import Path

import pandas as pd
import pytest

from datamodules.tables import collections
from datamodules.tables.collections import load_frames
from datamodules.tables.filters import Range, parse, written
from datamodules.tables.real import load_tables
from datamodules.tables.sources import load_columns, load_frame
from tabattn.contract.errors import DataError


def test_filters_are_read_and_written() -> None:
    place, filters = parse("openml:suite/457:rows=..2000:features=3..10:classes=2:minority=.025..")
    assert place == "openml:suite/457"
    assert filters == {
        "rows": Range(None, 2000),
        "features": Range(3, 10),
        "classes": Range(2, 2),
        "minority": Range(0.025, None),
    }
    assert written(filters) == "rows=..2000:features=3..10:classes=2:minority=0.025.."
    assert parse("a:year=2/b.csv") == ("a:year=2/b.csv", {})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("sklearn:wine:row=5", r"no filter of tables is called 'row' \(did you mean 'rows'\?\); known: rows, features"),
        ("sklearn:wine:rows=many", "filter rows=many must be a number or a range, least..most"),
        ("sklearn:wine:rows=5..2", "filter rows=5..2 must be"),
        ("sklearn:wine:rows=..", "filter rows=.. must be"),
        ("sklearn:wine:rows=1:rows=2", "gives two filters rows: give one"),
        ("sklearn:wine:classes=2", "sklearn:wine does not pass its filters: its number of classes is 3, not classes=2"),
        ("sklearn:wine:rows=..177", "its number of rows is 178, not rows=..177"),
        ("sklearn:wine:features=14..", "its number of columns without the target is 13, not features=14.."),
        ("sklearn:wine:minority=.3..", "its share of the rows of the smallest class is 0.2697, not minority=0.3.."),
        ("sklearn:wine:smallest=..47", "its number of rows of the smallest class is 48, not smallest=..47"),
        ("sklearn:wine:missing=.1..", "its share of missing cells among the features is 0, not missing=0.1.."),
    ],
)
def test_a_table_that_does_not_pass_says_why(source: str, message: str) -> None:
    for load in (load_frame, load_columns):
        with pytest.raises(ValueError, match=message):
            load(source)


def test_a_table_that_passes_is_the_table() -> None:
    assert load_frame("sklearn:wine:rows=178:missing=0").provenance == load_frame("sklearn:wine").provenance


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of three tables; the index is wrong about the sizes of the second."""
    for name, rows in (("a", 20), ("b", 30), ("c", 40)):
        table = pd.DataFrame({"x": range(rows), "kind": ["p", "q"] * (rows // 2), "y": [1.5, None] * (rows // 2)})
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    lines = [("first", "a.csv", "kind", 20), ("second", "b.csv", "kind", 10), ("third", "c.csv", "kind", 40)]
    pd.DataFrame(lines, columns=["name", "file", "target", "rows"]).to_csv(tmp_path / "index.csv", index=False)
    return tmp_path


def test_a_folder_is_several_tables(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(collections, "rank_zero_info", said.append)
    assert [table.name for table in load_tables((str(folder), "sklearn:iris"), 1000, 0)] == [
        *("first", "second", "third"),
        "iris",
    ]
    said.clear()
    (folder / "c.csv").unlink()
    (frame,) = load_frames(f"{folder}:rows=..25:missing=.25")
    assert (frame.name, frame.y.name) == ("first", "kind")
    assert said == [
        f"second of {folder} is left out: its number of rows is 30, not rows=..25",
        f"third of {folder} is left out: its number of rows is 40, not rows=..25",
        f"1 of the 3 tables of {folder} are taken",
    ]


def test_folders_that_cannot_be_used(folder: Path) -> None:
    with pytest.raises(ValueError, match=rf"none of the 3 tables of {folder} passes rows=..5:classes=2$"):
        load_tables(f"{folder}:rows=..5:classes=2", 1000, 0)
    with pytest.raises(ValueError, match="is several tables, each with a target of its own: leave ::kind out"):
        load_tables(f"{folder}::kind", 1000, 0)
    with pytest.raises(ValueError, match="is a folder, where one table is asked for"):
        load_frame(str(folder))
    (folder / "index.csv").write_text("name,file\nfirst,a.csv\n")
    with pytest.raises(ValueError, match=r"index\.csv has no column 'target', but name, file"):
        load_tables(str(folder), 1000, 0)
    (folder / "index.csv").write_text("")
    with pytest.raises(DataError, match=r"index\.csv cannot be read: No columns"):
        load_tables(str(folder), 1000, 0)
    (folder / "index.csv").unlink()
    with pytest.raises(ValueError, match=r"is a folder without index\.csv"):
        load_tables(str(folder), 1000, 0)
