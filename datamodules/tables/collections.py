"""Sources of many tables: suites of OpenML and folders with an index, with filters."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from lightning.pytorch.utilities import rank_zero_info

from datamodules.tables import filters as bounds
from datamodules.tables.filters import Filters, Measures
from datamodules.tables.openml import SuiteTask, suite
from datamodules.tables.source import Source
from datamodules.tables.sources import Frame, load_frame
from tabattn.contract.errors import DataError

SUITE = "openml:suite/"
"""Begin of the source of a suite."""

INDEX = "index.csv"
"""Table of contents of a folder of tables."""


class Entry(NamedTuple):
    """Table of a collection.

    Attributes:
        name: Its name.
        source: Its source.
        target: Its target column; None = that of the source.
        known: What the collection says of its size.
        reason: Why it cannot be taken; None = it can.
    """

    name: str
    source: str
    target: str | None
    known: Measures
    reason: str | None = None


def is_collection(source: Source) -> bool:
    """Whether a source is a suite of OpenML or a folder: several tables."""
    if not isinstance(source, str):
        return False
    place, _ = bounds.parse(source.partition("::")[0])
    return place.startswith(SUITE) or (bool(place) and Path(place).is_dir())


def load_frames(source: Source, cache_dir: str | Path | None = None) -> Iterator[Frame]:
    """Load the tables of a source: one, or those of a suite or a folder that pass its filters.

    Tables whose sizes, as the collection states them, do not pass are not loaded (OpenML counts row ids as features);
    the others are measured. What is left out is said, with the reason.

    Args:
        source: Source of a table, see ``load_frame``; ``openml:suite/<id or name>``; or a folder with ``index.csv``,
            which has the columns ``name``, ``file`` and ``target``, and may have ``rows``, ``features`` and
            ``classes``. Filters behind it:
            ``:rows=..2000:features=..10:classes=2:minority=.025..:smallest=5..:missing=0``.
        cache_dir: Cache folder of OpenML; none = its default.

    Raises:
        ValueError: No table passes, or the index is not fit.
        DataError: A table cannot be read or fetched.
    """
    if not is_collection(source):
        yield load_frame(source, None, cache_dir)
        return
    whole, _, target = source.partition("::")
    place, filters = bounds.parse(whole)
    if target:
        raise ValueError(f"{place} is several tables, each with a target of its own: leave ::{target} out")
    entries = _of_suite(place, cache_dir) if place.startswith(SUITE) else _of_folder(Path(place))
    passed = 0
    for entry in entries:
        reason = entry.reason or bounds.misfit(filters, entry.known)
        frame = None
        if reason is None:
            frame, reason = _loaded(entry, filters, cache_dir)
        if frame is None:
            rank_zero_info(f"{entry.name} of {place} is left out: {reason}")
            continue
        passed += 1
        yield frame
    if not passed:
        among = f"passes {bounds.written(filters)}" if filters else "is a classification table that can be used"
        raise ValueError(f"none of the {len(entries)} tables of {place} {among}")
    rank_zero_info(f"{passed} of the {len(entries)} tables of {place} are taken")


def _loaded(entry: Entry, filters: Filters, cache_dir: str | Path | None) -> tuple[Frame | None, str | None]:
    """Load a table; where it cannot be used, or does not pass, the reason instead."""
    try:
        frame = load_frame(entry.source, entry.target, cache_dir)
    except ValueError as ex:
        return None, str(ex)
    reason = bounds.misfit(filters, bounds.measures(frame.x, frame.y)) if filters else None
    return (None, reason) if reason else (frame._replace(name=entry.name), None)


def _of_suite(place: str, cache_dir: str | Path | None) -> list[Entry]:
    """Tables of a suite of OpenML; data sets of the same name get their ids behind it."""
    tasks = suite(place.removeprefix(SUITE), cache_dir)
    seen: set[tuple[int, str | None]] = set()
    entries = []
    for task in tasks:
        twice = any(task.name == other.name and task.data_set != other.data_set for other in tasks)
        name = f"{task.name} ({task.data_set})" if twice else task.name
        known = (task.data_set, task.target)
        reason = "its data set and target are those of another task" if known in seen else _no_classes(task)
        seen.add(known)
        entries.append(Entry(name, f"openml:{task.data_set}", task.target, task.known, reason))
    return entries


def _no_classes(task: SuiteTask) -> str | None:
    return None if "classification" in task.kind.lower() else f"OpenML's task {task.number} is {task.kind}"


def _of_folder(folder: Path) -> list[Entry]:
    """Tables of a folder, by its index."""
    path = folder / INDEX
    if not path.is_file():
        raise ValueError(f"{folder} is a folder without {INDEX}: name a file in it, or write one with name,file,target")
    try:
        index = pd.read_csv(path)
    except (OSError, ValueError) as ex:
        raise DataError(f"{path} cannot be read: {str(ex).partition(chr(10))[0]}") from ex
    if missing := [name for name in ("name", "file", "target") if name not in index]:
        raise ValueError(f"{path} has no column {missing[0]!r}, but {', '.join(map(str, index.columns))}")
    lines: list[dict[str, Any]] = index.to_dict("records")
    entries = []
    for line in lines:
        stated = {name: line.get(name) for name in ("rows", "features", "classes")}
        known = {name: float(value) for name, value in stated.items() if value is not None and pd.notna(value)}
        entries.append(Entry(str(line["name"]), str(folder / str(line["file"])), str(line["target"]), known))
    return entries
