"""Types of cells in Parquet files."""

import contextlib
import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from datamodules.tables.files import read_file
from datamodules.tables.real import load_table
from datamodules.tables.sources import load_frame
from tabattn.contract.errors import DataError

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def write(folder: Path, cells: Any, kind: Any = None) -> str:
    column = cells if isinstance(cells, arrow.Array) else arrow.array(cells, kind)
    parquet.write_table(arrow.table({"a": column, "label": ["x", "y"]}), folder / "t.parquet")
    return f"{folder}/t.parquet"


@pytest.mark.parametrize(
    ("cells", "kind", "word"),
    [
        ([[1, 2], [3]], None, "ndarray"),
        ([{"b": 1}, {"b": 2}], None, "dict"),
        ([[("k", 1)], [("l", 2)]], arrow.map_(arrow.string(), arrow.int64()), "list"),
        ([None, [[1]]], arrow.list_(arrow.list_(arrow.int64())), "ndarray"),
    ],
)
def test_cells_of_several_values_are_refused(tmp_path: Path, cells: Any, kind: Any, word: str) -> None:
    with pytest.raises(DataError, match=f"column 'a' holds a {word} in a cell"):
        load_frame(write(tmp_path, cells, kind))


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        ([Decimal("1.5"), Decimal("2.25")], None, [1.5, 2.25]),
        ([b"abc", b"\xff"], None, [1, 0]),
        ([b"1", b"2"], None, [1, 2]),
        ([dt.date(1970, 1, 2), dt.date(1970, 1, 3)], None, [1, 2]),
        ([dt.datetime(1970, 1, 2), dt.datetime(1970, 1, 3)], arrow.timestamp("ns", "Asia/Tokyo"), [1, 2]),
        ([dt.timedelta(days=1), dt.timedelta(hours=12)], None, [1, 0.5]),
        ([dt.time(12), dt.time(6)], None, [0.5, 0.25]),
        ([True, False], None, [1, 0]),
        ([1, 2], arrow.uint8(), [1, 2]),
        ([1.5, 2.5], arrow.float16(), [1.5, 2.5]),
    ],
)
def test_plain_cells(tmp_path: Path, cells: Any, kind: Any, values: list[float]) -> None:
    if kind == arrow.float16():
        cells = np.array(cells, np.float16)
    np.testing.assert_array_equal(load_table(write(tmp_path, cells, kind)).x[:, 0], values)


def test_categories_of_text_and_of_numbers(tmp_path: Path) -> None:
    text = arrow.array(["b", "a"]).dictionary_encode()
    assert load_table(write(tmp_path, text)).x[:, 0].tolist() == [0, 1]
    numbers = arrow.array([30, 4]).dictionary_encode()
    assert load_table(write(tmp_path, numbers)).x[:, 0].tolist() == [30, 4]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    pd.DataFrame({0: [1, 2], 1: ["x", "y"]}).to_parquet(tmp_path / "t.parquet")
    assert load_frame(f"{tmp_path}/t.parquet").x.columns.tolist() == ["0"]


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    path = Path(write(tmp_path, [1, 2]))
    whole = path.read_bytes()
    for place in range(4, len(whole) - 4, 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with contextlib.suppress(DataError, ValueError):
            load_frame(str(path))
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError):
        load_frame(str(path))


def test_a_changed_byte_is_noticed_where_pages_have_checksums(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    frame = pd.DataFrame({"a": np.arange(100) * 1.25, "label": ["x", "y"] * 50})
    frame.to_parquet(path, compression=None, write_page_checksum=True, use_dictionary=False)
    pd.testing.assert_frame_equal(read_file(path), frame)
    content = path.read_bytes()
    place = content.index(np.float64(50 * 1.25).tobytes())
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(DataError, match=r"t.parquet cannot be read: .*CRC"):
        read_file(path)
