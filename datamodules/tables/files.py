"""Table files: CSV, TSV, ARFF and Parquet, each plain or gzipped."""

import gzip
import io
import os
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from datamodules.tables.arff_files import read_arff
from datamodules.tables.delimited import read_delimited
from datamodules.tables.source import Source
from tabattn.contract.errors import DataError
from tabattn.contract.extras import remedy

Reader = Callable[[bytes, str], pd.DataFrame]


def read_file(path: Path) -> pd.DataFrame:
    """Read a table file into a data frame.

    Args:
        path: The file; its suffix determines the format.

    Raises:
        ValueError: There is no such file, or its suffix is unknown.
        DataError: The file cannot be read or parsed.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    read = _reader(path)
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix.lower() == ".gz" else path.read_bytes()
        frame = read(content, str(path))
    except ImportError as ex:
        raise DataError(f"{path} needs pyarrow to be read: {remedy('pyarrow')}") from ex
    except (OSError, EOFError, ValueError, zlib.error) as ex:
        reason = str(ex).partition("\n")[0] or type(ex).__name__
        raise DataError(f"{path} cannot be read: {reason}") from ex
    if not len(frame) or not len(frame.columns):
        raise DataError(f"{path} holds no rows")
    names = [str(name).strip() for name in frame.columns]
    if twice := next((name for name, count in Counter(names).items() if count > 1), None):
        raise DataError(f"{path} has {names.count(twice)} columns {twice!r}: their names must be different")
    return frame.set_axis(names, axis=1)


def read_table(source: Source) -> tuple[pd.DataFrame, str]:
    """Read a table from a file, or take one that is at hand; returns it with what it is called in messages.

    Args:
        source: Path of a file, or a frame, which is not changed and whose index does not count.

    Raises:
        ValueError: There is no such file, or the source is neither; the frame is empty, or two columns have one name.
        DataError: The file cannot be read or parsed.
    """
    if isinstance(source, str | os.PathLike):
        return read_file(Path(source)), str(source)
    if not isinstance(source, pd.DataFrame):
        hint = f" of {type(source).__module__.partition('.')[0]}; give it as .to_pandas()" if _converts(source) else ""
        raise ValueError(f"a table is the path of a file or a DataFrame of pandas, got {type(source).__name__}{hint}")
    names = [str(name) for name in source.columns]
    if source.empty:
        raise ValueError(f"the DataFrame holds {len(source)} rows of {len(names)} columns: nothing to learn from")
    if twice := next((name for name, count in Counter(names).items() if count > 1), None):
        raise ValueError(f"the DataFrame has {names.count(twice)} columns {twice!r}: their names must be different")
    return source.set_axis(names, axis=1).reset_index(drop=True), "the DataFrame"


def _converts(source: object) -> bool:
    """Whether this is a data frame of another library."""
    return hasattr(source, "to_pandas") and hasattr(source, "columns")


def stem(path: Path) -> str:
    """Table name from a file name: without the suffixes of format and compression."""
    name = path.name
    for suffix in (".gz", *READERS):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
    return name or path.name


def _reader(path: Path) -> Reader:
    suffix = next((end for end in reversed([part.lower() for part in path.suffixes]) if end != ".gz"), "")
    if suffix not in READERS:
        raise ValueError(f"{path} has no known suffix: tables are {', '.join(READERS)}, each plain or with .gz")
    return READERS[suffix]


def _csv(content: bytes, name: str) -> pd.DataFrame:
    return read_delimited(content, ",", name)


def _tsv(content: bytes, name: str) -> pd.DataFrame:
    return read_delimited(content, "\t", name)


def _parquet(content: bytes, name: str) -> pd.DataFrame:
    try:
        return pd.read_parquet(io.BytesIO(content), engine="pyarrow", page_checksum_verification=True)
    except (TypeError, KeyError, NotImplementedError, MemoryError) as ex:  # what pyarrow raises for damaged files
        raise ValueError(str(ex) or type(ex).__name__) from ex


READERS: dict[str, Reader] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".arff": read_arff,
    ".parquet": _parquet,
    ".pq": _parquet,
}
"""How each format is read, by its suffix."""
