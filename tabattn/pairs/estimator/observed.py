"""Readers of what ``SequenceInferrer`` is given: wide tables and long ones, as observations of tasks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from datamodules.pairs.long import counted
from datamodules.pairs.long_series import Observations, arranged
from datamodules.pairs.options import LongNames, Unit, WindowOptions, check_unit
from datamodules.pairs.series import find_column, numbers, places
from tabattn.contract.checks import nearest
from tabattn.contract.columns import as_frame

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LongOptions:
    """Options of long tables: names of the columns, and the axis.

    Args:
        task: Column of tasks.
        member: Column of sequences.
        x: Column of locations, numbers or dates.
        y: Column of values; empty = not observed.
        unit: Unit of dates: ``s``, ``min``, ``h`` or ``D`` (days).
        from_start: Whether locations count from the first one of their task.
    """

    task: str = "task"
    member: str = "member"
    x: str = "x"
    y: str = "y"
    unit: Unit = "h"
    from_start: bool = False

    def __post_init__(self) -> None:
        check_unit("unit", self.unit)


Layout = WindowOptions | LongOptions
"""How tables are laid out: wide, with a column for each sequence, or long, with a row for each observation."""


class Observed(NamedTuple):
    """Observations of tasks, sorted by task, sequence, location and value, so that the order of rows does not matter.

    Attributes:
        names: Names of the sequences.
        labels: Names of the tasks, by their numbers.
        table: Columns ``task`` and ``member`` (numbers), ``x`` (counted from the start of its task, where it is), ``y``
            (NaN = not observed), ``row`` (place in the order of what was given), ``entry`` (location as it was given).
        start: Location of each task that is 0 on the network's axis.
    """

    names: tuple[str, ...]
    labels: list[Any]
    table: pd.DataFrame
    start: Floats

    def observations(self) -> Observations:
        """The same as tasks of a datamodule."""
        return arranged(self.table, len(self.names))


def read(X: Any, y: Any, layout: Layout, names: Sequence[str] | None) -> Observed:
    """Read a table of observations.

    Args:
        X: A wide table: a DataFrame or an array ``(rows, columns)`` of one task, or an array ``(tasks, rows,
            columns)``; a long one: a DataFrame or an array with the columns task, member, x and, without ``y``, values.
        y: Values of the rows of a long table, ``(rows,)``; None = they are in its column.
        layout: Layout of the table.
        names: Names of the sequences that may occur; None = all that do.

    Raises:
        ValueError: A column or a sequence is unknown, or entries are not what they must be.
    """
    if isinstance(layout, LongOptions):
        return _read_long(X, y, layout, names)
    if y is not None:
        raise ValueError("y must be None for a wide table, whose columns hold the values")
    array = np.asarray(X) if isinstance(X, np.ndarray) else None
    frames = [wide_frame(part) for part in (array if array is not None and array.ndim == 3 else [X])]
    parts = [_read_wide(frame, layout, names) for frame in frames]
    columns, start = parts[0][0], [part[2] for part in parts]
    tables = [table.assign(task=number) for number, (_, table, _) in enumerate(parts)]
    for number, table in enumerate(tables):
        table["row"] += number * len(table)
    return Observed(columns, list(range(len(parts))), _sorted(pd.concat(tables)), np.asarray(start))


def read_places(at: Any, layout: Layout, known: Observed) -> Observed:
    """Read the locations to infer.

    Args:
        at: Of a long table, rows of task, member and x; of a wide one, rows of member and x, or locations alone,
            ``(locations,)``, at each of which all sequences are inferred.
        layout: Layout of the table.
        known: What is observed.

    Raises:
        ValueError: A task or a sequence is unknown, or entries are not what they must be.
    """
    if isinstance(layout, LongOptions):
        frame = _named(at, (layout.task, layout.member, layout.x))
        path = "at"
        task, member, x = (frame[find_column(frame, name, path)] for name in (layout.task, layout.member, layout.x))
        labels = pd.Index(known.labels, dtype=object)
        tasks = labels.get_indexer(pd.Index(task.astype(object)))
        if (tasks < 0).any():
            raise ValueError(f"at names a task that X does not have: {task[tasks < 0].iloc[0]!r}")
        unit = layout.unit
    else:
        if len(known.labels) > 1:
            raise ValueError(f"at must be None for several wide tables, of which there are {len(known.labels)}")
        frame, unit = _wide_places(at, known.names), layout.unit
        member, x, tasks = frame["member"], frame["x"], np.zeros(len(frame), dtype=np.int64)
    members = _numbers(member, known.names)
    place = places(x, unit)
    table = pd.DataFrame({"task": tasks, "member": members, "entry": x.to_numpy(), "y": np.nan})
    table["x"] = place - known.start[tasks]
    return known._replace(table=_sorted(table.assign(row=np.arange(len(table)))))


def wide_frame(X: Any) -> pd.DataFrame:
    """A wide table whose columns have names: of an array x0, x1, ..."""
    frame = as_frame(X)
    if list(frame.columns) == list(range(frame.shape[1])):
        frame = frame.set_axis([f"x{place}" for place in range(frame.shape[1])], axis=1)
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1).reset_index(drop=True)
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise ValueError(f"X has several columns {twice!r}: their names must be different")
    if frame.empty:
        raise ValueError(f"X holds {len(frame)} rows of {frame.shape[1]} columns: nothing to read")
    return frame


def wide_names(frame: pd.DataFrame, layout: WindowOptions, names: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the sequences of a wide table.

    Raises:
        ValueError: One is unknown.
    """
    axis = None if layout.x is None else find_column(frame, layout.x, "X")
    found = [name for name in frame.columns if name != axis]
    _check_known(found, names)
    if not found:
        raise ValueError("X has no column beside that of locations")
    return tuple(found if names is None else names)


def axis_of_rows(frame: pd.DataFrame, layout: WindowOptions) -> Floats:
    """Location of each row of a wide table."""
    if layout.x is None:
        return np.arange(len(frame), dtype=np.float64)
    return places(frame[find_column(frame, layout.x, "X")], layout.unit)


def _read_wide(
    frame: pd.DataFrame, layout: WindowOptions, names: Sequence[str] | None
) -> tuple[tuple[str, ...], pd.DataFrame, float]:
    """One task of a wide table: its sequences, its observations, and where its axis starts."""
    known = wide_names(frame, layout, names)
    place = axis_of_rows(frame, layout)
    entries = place if layout.x is None else frame[find_column(frame, layout.x, "X")].to_numpy()
    first = float(place.min())
    start = first if layout.cycle is None else float(np.floor(first / layout.cycle) * layout.cycle)
    values = np.stack([numbers(frame[name], "X") for name in frame.columns if name in known], 1)
    members = [known.index(name) for name in frame.columns if name in known]
    count = len(members)
    table = pd.DataFrame(
        {
            "member": np.tile(members, len(frame)),
            "entry": entries.repeat(count),
            "x": (place - start).repeat(count),
            "y": values.ravel(),
            "row": np.arange(values.size),
        }
    )
    return known, table, start


def _read_long(X: Any, y: Any, layout: LongOptions, names: Sequence[str] | None) -> Observed:
    roles = LongNames(layout.task, layout.member, layout.x, layout.y)
    frame = _named(X, roles if y is None else roles[:3])
    task, member, x = (frame[find_column(frame, name, "X")] for name in roles[:3])
    value = frame[find_column(frame, layout.y, "X")] if y is None else pd.Series(np.asarray(y).ravel(), name="y")
    if len(value) != len(frame):
        raise ValueError(f"y must have a value for each of the {len(frame)} rows of X, got {len(value)}")
    for column in (task, member):
        if column.isna().any():
            row = int(column.isna().argmax())
            raise ValueError(f"column {column.name!r} must have no gaps, got one at row {row}")
    found = sorted(member.astype(str).unique())
    _check_known(found, names)
    known = tuple(found if names is None else names)
    codes, labels = pd.factorize(task.astype(object))
    order = sorted(range(len(labels)), key=lambda code: _sortable(labels[code]))
    tasks = np.argsort(order)[codes]
    place = places(x, layout.unit)
    table = pd.DataFrame({"task": tasks, "member": _numbers(member, known), "entry": x.to_numpy(), "x": place})
    table = _sorted(table.assign(y=numbers(value, "X"), row=np.arange(len(frame))))
    made = Observed(known, [labels[code] for code in order], table, np.zeros(len(labels)))
    if not layout.from_start:
        return made
    x0 = counted(made.observations()).numpy()
    start = table["x"].to_numpy() - x0
    starts = np.zeros(len(labels))
    starts[table["task"].to_numpy()] = start
    return made._replace(table=table.assign(x=x0), start=starts)


def _named(X: Any, roles: Sequence[str]) -> pd.DataFrame:
    """A long table; the columns of an array are named by their order."""
    frame = as_frame(X)
    if list(frame.columns) == list(range(frame.shape[1])):
        if frame.shape[1] != len(roles):
            raise ValueError(
                f"an array of observations has the columns {', '.join(roles)}, got {frame.shape[1]} columns"
            )
        frame = frame.set_axis(list(roles), axis=1)
    if frame.empty:
        raise ValueError(f"a long table must have at least 1 row, got {len(frame)}")
    return frame.set_axis([str(name) for name in frame.columns], axis=1).reset_index(drop=True)


def _wide_places(at: Any, names: tuple[str, ...]) -> pd.DataFrame:
    array = np.asarray(at) if not isinstance(at, pd.DataFrame) else None
    if array is not None and array.ndim == 1:
        place = pd.Series(array, name="x").repeat(len(names)).reset_index(drop=True)
        return pd.DataFrame({"member": list(names) * len(array), "x": place})
    frame = _named(at, ("member", "x"))
    return pd.DataFrame({name: frame[find_column(frame, name, "at")] for name in ("member", "x")})


def _numbers(member: pd.Series, names: tuple[str, ...]) -> NDArray[np.int64]:
    """Numbers of sequences by name.

    Raises:
        ValueError: One is unknown.
    """
    _check_known(list(member.astype(str).unique()), names)
    return np.asarray(pd.Index(names).get_indexer(pd.Index(member.astype(str))), dtype=np.int64)


def _check_known(found: Sequence[str], names: Sequence[str] | None) -> None:
    if names is None:
        return
    if unknown := next((name for name in found if name not in names), None):
        raise ValueError(f"sequence {unknown!r} was not fitted{nearest(unknown, names)}; sequences: {', '.join(names)}")


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values(["task", "member", "x", "y", "row"], kind="stable").reset_index(drop=True)


def _sortable(label: Any) -> tuple[int, float, str]:
    """Key by which tasks of any type are sorted: numbers by size, all others as text."""
    number = isinstance(label, (int, float, np.integer, np.floating))
    return (0, float(label), "") if number else (1, 0.0, str(label))


def check_known(observed: Observed) -> None:
    """Raise ValueError unless something is observed."""
    if not np.isfinite(observed.table["y"]).any():
        raise ValueError("X must hold at least 1 observed value, got none")


def as_tensors(table: pd.DataFrame) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Locations, values and members of observations."""
    x, y = (torch.from_numpy(table[name].to_numpy(dtype=np.float64).copy()) for name in ("x", "y"))
    return x, y, torch.from_numpy(table["member"].to_numpy(dtype=np.int64).copy())
