"""Reader of long tables: one observation in each row."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from datamodules.pairs.options import LongNames, Roles, Unit
from datamodules.pairs.series import find_column, numbers, places
from datamodules.pairs.tasks import Points
from datamodules.tables.files import read_table
from datamodules.tables.source import Source
from tabattn.contract.checks import nearest


class Observations(NamedTuple):
    """Irregular tasks of any size: the points of each sequence of a task are contiguous and sorted by location.

    Attributes:
        x: Locations, ``(rows,)`` double.
        y: Values, ``(rows,)`` double; NaN = not observed.
        member: Member of each point, ``(rows,)``.
        task: Task of each point, numbered in the order of the table, ``(rows,)``.
        first: First row of each sequence of each task, ``(tasks, members)``.
        size: Number of rows of each sequence of each task, ``(tasks, members)``.
        least: Least padded length of each sequence in a batch.
    """

    x: Tensor
    y: Tensor
    member: Tensor
    task: Tensor
    first: Tensor
    size: Tensor
    least: int = 1

    def take(self, numbers: Tensor) -> Points:
        """Return tasks by index, each sequence padded to the longest of them."""
        parts = [self._sequence(numbers, member) for member in range(self.size.shape[1])]
        x, y, member, padding = (torch.cat(part, 1) for part in zip(*parts, strict=True))
        return Points(x, y, member, padding)

    def known(self, numbers: Tensor, shown: int) -> tuple[Tensor, Tensor]:
        """Number of observed values among the first points of each sequence, and among the others."""
        place = torch.arange(len(self.y)) - self.first[self.task, self.member]
        seen = self.y.isfinite()
        group = self.task * self.first.shape[1] + self.member
        counts = [
            torch.bincount(group[chosen], minlength=self.first.numel()).view_as(self.first)[numbers]
            for chosen in (seen & (place < shown), seen & (place >= shown))
        ]
        return counts[0], counts[1]

    def _sequence(self, numbers: Tensor, member: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        first, count = self.first[numbers, member, None], self.size[numbers, member, None]
        place = torch.arange(max(self.least, int(count.max())))
        there = place < count
        rows = first + torch.where(there, place, count - 1).clamp(min=0)
        x = self.x[rows.clamp(max=len(self.x) - 1)].float()
        # What pads a sequence comes behind its last point.
        x = torch.where(there, x, x.nextafter(torch.tensor(torch.inf)))
        y = self.y[rows.clamp(max=len(self.y) - 1)].float().masked_fill(~there, torch.nan)
        return x, y, torch.full(rows.shape, member), ~there


def read_long(
    source: Source, columns: Roles, sequences: tuple[str, ...] | None, unit: Unit
) -> tuple[tuple[str, ...], Observations]:
    """Read a long table.

    Args:
        source: A file (csv, tsv, arff, parquet, each plain or with .gz), or a DataFrame.
        columns: Which column is what; of a mapping, roles that it leaves out have their own names.
        sequences: The sequences to read, in this order; none = all, in order of their names.
        unit: Unit of dates, which count from 1970 (UTC).

    Returns:
        Names of the sequences, and the tasks.

    Raises:
        ValueError: A column or a sequence is not there, or its entries are not what they must be.
        DataError: The file cannot be read.
    """
    frame, path = read_table(source)
    task, member, x, y = (frame[find_column(frame, name, path)] for name in named_roles(columns))
    for column in (task, member):
        if column.isna().any():
            row = int(column.isna().argmax())
            raise ValueError(f"column {column.name!r} of {path} must have no gaps, got one at row {row}")
    known = [str(name) for name in sorted(member.unique())]
    names = tuple(known if sequences is None else sequences)
    if not names:
        raise ValueError(f"{path} must have at least 1 sequence to read, got none")
    if unknown := next((name for name in names if name not in known), None):
        raise ValueError(f"{path} has no sequence {unknown!r}{nearest(unknown, known)}; sequences: {', '.join(known)}")
    codes = pd.Index(names).get_indexer(pd.Index(member.astype(str)))
    rows = codes >= 0
    table = pd.DataFrame({"task": pd.factorize(task[rows])[0], "member": codes[rows]})
    table["x"], table["y"] = places(x, unit)[rows], numbers(y, path)[rows]
    return names, arranged(table.sort_values(["task", "member", "x"], kind="stable"), len(names))


def named_roles(columns: Roles) -> LongNames:
    """Columns by their roles.

    Raises:
        ValueError: There is no such role.
    """
    if isinstance(columns, LongNames):
        return columns
    roles = ", ".join(LongNames._fields)
    if not isinstance(columns, Mapping):
        raise ValueError(f"columns must name those of the roles {roles}, as {{'task': 'patient'}}, got {columns!r}")
    if unknown := next((role for role in columns if role not in LongNames._fields), None):
        raise ValueError(f"columns has no role {unknown!r}{nearest(str(unknown), LongNames._fields)}; roles: {roles}")
    return LongNames(**columns)


def arranged(table: pd.DataFrame, members: int) -> Observations:
    """Observations of a table with the columns task and member (numbers from 0), x and y, sorted by the first three."""
    x, y, member, task = (torch.from_numpy(np.array(table[name])) for name in ("x", "y", "member", "task"))
    member, task = member.long(), task.long()
    tasks = int(task.max()) + 1
    count = torch.bincount(task * members + member, minlength=tasks * members)
    first = count.cumsum(0) - count
    return Observations(x, y, member, task, first.view(tasks, members), count.view(tasks, members))
