"""Tables in files: CSV, TSV, ARFF and Parquet, each plain or gzipped."""

import gzip
import io
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from tabattn.errors import DataError

MISSING = ["?", "", "NA", "NaN", "nan"]
"""What stands for a missing cell in text files."""

MOST_CELLS = 10**8
"""Sparse tables of more cells than this are not spread out in memory."""

SPARSE = re.compile(r"^\s*@data\s*\n(?:\s*(?:%.*)?\n)*\s*\{", re.IGNORECASE | re.MULTILINE)
"""The first row of a sparse ARFF file."""


def read_file(path: Path) -> pd.DataFrame:
    """Read a table.

    Args:
        path: The file; its suffix tells its format.

    Raises:
        ValueError: There is no such file, or its suffix is not known.
        DataError: The file cannot be read or understood.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    read = _reader(path)
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix.lower() == ".gz" else path.read_bytes()
        frame = read(content)
    except ImportError as ex:
        raise DataError(f"{path} needs pyarrow to be read: pip install 'tabattn[parquet]'") from ex
    except UnicodeDecodeError as ex:
        raise DataError(f"{path} is not a text file in UTF-8") from ex
    except (OSError, EOFError, ValueError, zlib.error) as ex:
        reason = str(ex).partition("\n")[0] or type(ex).__name__
        raise DataError(f"{path} cannot be read: {reason}") from ex
    if not len(frame) or not len(frame.columns):
        raise DataError(f"{path} holds no rows")
    return frame.set_axis([str(name).strip() for name in frame.columns], axis=1)


def stem(path: Path) -> str:
    """Name of a table: its file's without the suffixes of format and compression."""
    name = path.name
    for suffix in (".gz", *READERS):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
    return name or path.name


def _reader(path: Path) -> Callable[[bytes], pd.DataFrame]:
    suffix = next((end for end in reversed([part.lower() for part in path.suffixes]) if end != ".gz"), "")
    if suffix not in READERS:
        raise ValueError(f"{path} has no known suffix: tables are {', '.join(READERS)}, each plain or with .gz")
    return READERS[suffix]


def _csv(content: bytes, separator: str = ",") -> pd.DataFrame:
    options: dict[str, Any] = {"na_values": MISSING, "keep_default_na": False, "low_memory": False}
    return pd.read_csv(io.BytesIO(content), sep=separator, skipinitialspace=True, **options)


def _tsv(content: bytes) -> pd.DataFrame:
    return _csv(content, "\t")


def _parquet(content: bytes) -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO(content))


def _arff(content: bytes) -> pd.DataFrame:
    import arff  # type: ignore[import-untyped]

    text = content.decode("utf-8").replace("\r\n", "\n")
    sparse = SPARSE.search(text) is not None
    try:
        parsed = arff.loads(text, return_type=arff.LOD if sparse else arff.DENSE)
    except arff.ArffException as ex:
        raise ValueError(str(ex)) from ex
    names = [name for name, _ in parsed["attributes"]]
    rows = _spread(parsed["data"], parsed["attributes"]) if sparse else parsed["data"]
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    series = [_arff_column(list(cells), kind) for cells, (_, kind) in zip(columns, parsed["attributes"], strict=True)]
    return pd.DataFrame(dict(enumerate(series))).set_axis(names, axis=1)


def _arff_column(cells: list[Any], kind: str | list[str]) -> pd.Series:
    if isinstance(kind, list):
        return pd.Series(pd.Categorical(cells, categories=[name for name in kind if name not in MISSING]))
    return pd.Series(cells, dtype=object if kind.upper() == "STRING" else float)


def _spread(rows: list[dict[int, Any]], attributes: list[tuple[str, Any]]) -> list[list[Any]]:
    """Write out what a sparse file leaves away: zeros, and the first value of nominal attributes."""
    if len(rows) * len(attributes) > MOST_CELLS:
        raise ValueError(f"sparse table of {len(rows)} x {len(attributes)} cells, more than {MOST_CELLS} in all")
    silent = [kind[0] if isinstance(kind, list) else 0.0 for _, kind in attributes]
    return [[row.get(index, default) for index, default in enumerate(silent)] for row in rows]


READERS: dict[str, Callable[[bytes], pd.DataFrame]] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".arff": _arff,
    ".parquet": _parquet,
    ".pq": _parquet,
}
"""How each format is read, by its suffix."""
