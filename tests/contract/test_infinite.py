"""Infinite and huge numbers are encoded and reported alike in every container."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from datamodules import TablePairs
from datamodules.tables.real import load_table
from tabattn.contract.columns import TableEncoder
from tabattn.contract.errors import TableWarning
from tests.helpers import build

ROWS = 40
LABELS = ["xy"[row % 2] for row in range(ROWS)]
ROW = 5
FILES = ["t.csv", "t.arff", "numbers.parquet", "texts.parquet"]

CONTAINERS: dict[str, Callable[[list[str]], Any]] = {
    "frame": lambda cells: pd.DataFrame({"a": np.asarray(cells, float)}),
    "texts": lambda cells: pd.DataFrame({"a": cells}),
    "nullable": lambda cells: pd.DataFrame({"a": pd.array(np.asarray(cells, float), dtype="Float64")}),
    "rows": lambda cells: [{"a": float(cell)} for cell in cells],
    "mixed": lambda cells: pd.DataFrame({"a": pd.Series([float(cell) for cell in cells], dtype=object)}),
}


def column(word: str) -> list[str]:
    return [word if row == ROW else str(row / 2) for row in range(ROWS)]


def write(folder: Path, name: str, word: str) -> str:
    path, cells = folder / name, column(word)
    frame = pd.DataFrame({"a": cells, "b": np.arange(ROWS), "label": LABELS})
    if name.endswith(".arff"):
        head = "@relation r\n@attribute a numeric\n@attribute b numeric\n@attribute label {x,y}\n@data\n"
        path.write_text(head + frame.to_csv(index=False, header=False))
    elif name.endswith(".csv"):
        frame.to_csv(path, index=False)
    else:
        pytest.importorskip("pyarrow")
        frame = frame.assign(a=np.asarray(cells, float)) if name.startswith("numbers") else frame
        frame.to_parquet(path)
    return str(path)


@pytest.mark.parametrize("word", ["inf", "-inf", "Infinity", "1e400", "9" * 400])
@pytest.mark.parametrize("name", FILES)
def test_infinite_cells_of_files(tmp_path: Path, name: str, word: str) -> None:
    path = write(tmp_path, name, word)
    words = rf"column 'a' of .*{name} has '.*', which cannot be read as a finite number: taken as missing .*row {ROW}\)"
    with pytest.warns(TableWarning, match=words):
        x = load_table(path).x[:, 0]
    assert np.flatnonzero(np.isnan(x)).tolist() == [ROW]
    with pytest.raises(ValueError, match=rf"column 'a' of .*{name} must hold finite numbers, got .*, row {ROW}"):
        build(TablePairs, path, ("a", "b"), windows__length=4, windows__stride=2, context=2)


@pytest.mark.parametrize("word", ["inf", "-inf", "1e400"])
@pytest.mark.parametrize("name", CONTAINERS)
def test_infinite_cells_of_containers(name: str, word: str) -> None:
    table = CONTAINERS[name](column(word))
    encoder = TableEncoder()
    for read in (encoder.fit_encode, encoder.encode):
        with pytest.warns(TableWarning, match=rf"column 'a' has .* finite number: taken as missing .*row {ROW}\)"):
            assert np.flatnonzero(np.isnan(read(table)[:, 0])).tolist() == [ROW]


@pytest.mark.parametrize("word", ["3e38", "-1e30", "1e308"])
@pytest.mark.parametrize("name", FILES)
def test_outliers_that_hide_other_numbers_cause_a_warning(tmp_path: Path, name: str, word: str) -> None:
    path = write(tmp_path, name, word)
    with pytest.warns(TableWarning, match=rf"column 'a' of .*{name} has a value of .*38|30|308, beside .*row {ROW}\)"):
        assert load_table(path).x[ROW, 0] == float(word)
    shown = f"{float(word):g}".replace("+", r"\+")
    with pytest.raises(ValueError, match=f"column 'a' has a value of {shown} in the training part, beside which"):
        build(TablePairs, path, ("a", "b"), windows__length=4, windows__stride=2, context=2)


@pytest.mark.parametrize("word", ["", "nan", "NaN", "NA", "?"])
@pytest.mark.parametrize("name", ["t.csv", "t.arff", "texts.parquet"])
def test_missing_cells_need_no_word(tmp_path: Path, name: str, word: str) -> None:
    x = load_table(write(tmp_path, name, word)).x[:, 0]
    assert np.flatnonzero(np.isnan(x)).tolist() == [ROW]
