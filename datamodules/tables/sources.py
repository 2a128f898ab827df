"""Sources of tables: ``sklearn:<name>``, ``openml:<id or name>``, ``poker:<hands>`` or a file, with ``::<target>``."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from sklearn import datasets

from datamodules.tables import filters as bounds
from datamodules.tables.arff_files import DECLARED
from datamodules.tables.files import read_file, read_table, stem
from datamodules.tables.openml import fetch
from datamodules.tables.poker import poker_hands
from datamodules.tables.source import Source
from tabattn.contract.checks import listed, nearest
from tabattn.contract.columns import check_cells, is_numeric, missing_words, told, warn_of_labels, warn_of_words
from tabattn.contract.errors import DataError

SKLEARN_TABLES = ("breast_cancer", "wine", "iris", "digits", "diabetes")


class Frame(NamedTuple):
    """Real table as a data frame, with its labels and provenance.

    Attributes:
        name: Short name of the table.
        x: Feature columns.
        y: Labels; categorical where the source declares the order of the classes.
        categorical: Names of the categorical columns.
        provenance: Source, target, sizes and SHA-256 of the content, in plain values.
    """

    name: str
    x: pd.DataFrame
    y: pd.Series
    categorical: tuple[str, ...]
    provenance: dict[str, Any]


class Columns(NamedTuple):
    """Columns of a real table before its targets are taken out.

    Attributes:
        name: Short name of the table.
        place: Its source, for messages.
        columns: All columns.
        target: Target column that the source names (``::<column>``) or proposes; None = it proposes none.
        named: Whether the source names the target.
        facts: Facts of the provenance, in plain values.
    """

    name: str
    place: str
    columns: pd.DataFrame
    target: str | None
    named: bool
    facts: dict[str, Any]


def load_frame(source: Source, target: str | None = None, cache_dir: str | Path | None = None) -> Frame:
    """Load a real table by its source as a data frame.

    Args:
        source: ``sklearn:<name>``, ``openml:<id or name>``, ``poker:<hands>`` (generated), or the path of a file (csv,
            tsv, arff, parquet, each plain or with .gz); ``::<column>`` behind any of them names the target, and filters
            before that bound its sizes (``:rows=..2000:classes=2``). Or a DataFrame.
        target: Target column; none = the source's ``::<column>``, else OpenML's default, else the last column.
        cache_dir: Cache folder of OpenML; none = ``$OPENML_CACHE_DIR``, else OpenML's default.

    Raises:
        ValueError: No such source or target, or a target without two classes or with missing labels.
        DataError: The table cannot be read or fetched.
    """
    raw, filters = _filtered(source, cache_dir)
    place, chosen = raw.place, target or raw.target
    if raw.named and target not in (None, raw.target):
        raise ValueError(f"two targets were given for {place}: {raw.target!r} and {target!r}")
    if chosen is None:
        raise ValueError(f"{place} proposes no target: name one as {place}::<column>{listed(raw.columns.columns)}")
    if chosen not in raw.columns.columns:
        hint = nearest(chosen, raw.columns.columns)
        raise ValueError(f"{place} has no column {chosen!r}{hint}{listed(raw.columns.columns)}")
    y = raw.columns[chosen]
    x = raw.columns.drop(columns=chosen)
    _check_labels(place, y)
    if not len(x.columns):
        note = (
            "" if ":" in place else "; fields of a text file are separated by commas, semicolons, tabs, bars or spaces"
        )
        raise ValueError(f"{place} has no column but its target {chosen!r}{note}")
    provenance = {
        "source": place,
        "target": chosen,
        "rows": len(x),
        "features": len(x.columns),
        "classes": int(y.nunique()),
        "sha256": content_hash(raw.columns),
        **raw.facts,
    }
    bounds.check(filters, x, y, place)
    categorical = tuple(name for name, column in x.items() if not is_numeric(column))
    return Frame(raw.name, x, y, categorical, provenance)


def load_columns(source: Source, cache_dir: str | Path | None = None) -> Columns:
    """Load all columns of a real table by its source; see ``load_frame``.

    Raises:
        ValueError: No such source.
        DataError: The table cannot be read or fetched.
    """
    raw, filters = _filtered(source, cache_dir)
    if filters and raw.target in raw.columns.columns:
        bounds.check(filters, raw.columns.drop(columns=raw.target), raw.columns[raw.target], raw.place)
    elif filters:
        raise ValueError(f"filters of {raw.place} need a target: name one as ::<column>{listed(raw.columns.columns)}")
    return raw


def _filtered(source: Source, cache_dir: str | Path | None) -> tuple[Columns, bounds.Filters]:
    """Columns of a table, and the filters of its source, which are to be checked."""
    if not isinstance(source, str):
        return _at_hand(source), {}
    whole, _, suffix = source.partition("::")
    place, filters = bounds.parse(whole)
    raw = _load(place, cache_dir)
    return (raw._replace(target=suffix, named=True) if suffix else raw), filters


def content_hash(frame: pd.DataFrame) -> str:
    """SHA-256 of a table's column names and cells."""
    digest = hashlib.sha256()
    for name in frame.columns:
        digest.update(f"{name}\n".encode())
        cells = frame[name].astype(object).where(frame[name].notna(), None)
        digest.update("\n".join(map(str, cells)).encode() + b"\n")
    return digest.hexdigest()


def _load(place: str, cache_dir: str | Path | None) -> Columns:
    kind, colon, name = place.partition(":")
    if kind == "sklearn" and colon:
        return _sklearn(place, name)
    if kind == "openml" and colon:
        if not name:
            raise ValueError("openml: needs the id or the name of a data set, such as openml:31")
        if name.startswith("suite/"):
            raise ValueError(f"{place} is several tables, where one is asked for: name one of its data sets")
        fetched = fetch(name, cache_dir)
        return Columns(fetched.name, place, fetched.frame, fetched.target, False, fetched.facts)
    if kind == "poker" and colon:
        return _poker(place, name)
    if not place:
        raise ValueError("a table must be sklearn:<name>, openml:<id or name>, poker:<hands> or a file, got ''")
    path = Path(place)
    if path.is_dir():
        raise ValueError(f"{place} is a folder, where one table is asked for: name a file in it")
    if colon and kind.isalpha() and len(kind) > 1 and not path.exists():
        raise ValueError(
            f"no table is called {place!r}: a source is sklearn:<name>, openml:<id or name>, poker:<hands> or a file"
        )
    frame = read_file(path)
    try:
        check_cells(frame)
    except ValueError as ex:
        raise DataError(f"{path}: {ex}") from ex
    return Columns(stem(path), place, frame, str(frame.columns[-1]), False, {"file": path.name})


def _at_hand(source: pd.DataFrame) -> Columns:
    frame, _ = read_table(source)
    check_cells(frame)
    return Columns(str(source.attrs.get("name", "table")), "the DataFrame", frame, str(frame.columns[-1]), False, {})


def _sklearn(place: str, name: str) -> Columns:
    if name not in SKLEARN_TABLES:
        known = ", ".join(f"sklearn:{table}" for table in SKLEARN_TABLES)
        raise ValueError(f"no table is called {place!r}{nearest(name, SKLEARN_TABLES)}; known: {known}")
    load: Callable[[], Any] = getattr(datasets, f"load_{name}")
    bunch = load()
    columns = pd.DataFrame(bunch.data, columns=list(map(str, bunch.feature_names)))
    columns["target"] = bunch.target
    if "target_names" in bunch:
        classes = list(map(str, bunch.target_names))
        columns["target"] = pd.Categorical.from_codes(bunch.target, categories=classes)
    return Columns(name, place, columns, "target", False, {})


def _poker(place: str, name: str) -> Columns:
    numbers = name.split(":")
    if len(numbers) > 2 or not all(number.isascii() and number.isdigit() for number in numbers):
        raise ValueError(f"poker hands are poker:<hands> or poker:<hands>:<seed>, such as poker:25010, got {place!r}")
    columns = poker_hands(*map(int, numbers))
    return Columns("poker", place, columns, str(columns.columns[-1]), False, {})


def _check_labels(place: str, y: pd.Series) -> None:
    words = missing_words(y)
    missing = int(y.isna().sum()) + sum(words.missing.values())
    if missing:
        note = f" ({told(words.missing)}; a declared category may have such a name)" if words.missing else ""
        raise ValueError(f"target {y.name!r} of {place} has no label in {missing} of {len(y)} rows{note}")
    if not (y.attrs.get(DECLARED) and isinstance(y.dtype, pd.CategoricalDtype)):
        warn_of_words(words, f"target {y.name!r} of {place}", len(y))
        warn_of_labels(y.unique(), len(y), f"target {y.name!r} of {place}")
    if y.nunique() < 2:
        raise ValueError(f"target {y.name!r} of {place} has a single class, {y.iloc[0]!r}: nothing to tell apart")
