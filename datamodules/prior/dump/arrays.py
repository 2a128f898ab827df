"""Ready in-context tasks from arrays into a prior dump."""

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from datamodules.prior.dump.jobs import Job, Written, facts, write_here
from datamodules.prior.dump.read import MOST_CLASSES, Ints
from datamodules.prior.dump.write import DumpPlan, TaskArrays
from tabattn.contract.checks import check_least
from tabattn.contract.errors import TableWarning

SHOWN = 10
"""Most classes that a message names."""

MOST_NAMED = 100
"""Most names of classes in the attributes of a file."""


def write_tasks(
    path: str | Path,
    x: Any,
    y: Any,
    context: Any,
    *,
    shared_classes: bool = True,
    strict: bool = True,
    batch_size: int = 32,
    overwrite: bool = False,
) -> Written:
    """Write ready in-context tasks to a prior dump, which ``PriorDump`` and the loaders of nanoTabPFN's family read.

    Labels that are not 0 to K - 1 are numbered in the order of their values, with a ``TableWarning`` that says so.
    Cells are rounded to single precision; a column whose differences that would lose is standardised by the context
    rows. The file is written atomically; an interrupted call goes on where it was when it is made again.

    Loaders of the other projects take the context of the first task of a batch for all of it: for these, let all tasks
    have one ``context``.

    Args:
        path: The file.
        x: Cells, ``(tasks, rows, features)``, context rows first; NaN = missing. Tasks of different sizes: a list of
            ``(rows, features)``.
        y: Labels, ``(tasks, rows)``: numbers, text or the like. Tasks of different sizes: a list of ``(rows,)``.
        context: Number of context rows: one for all tasks, or ``(tasks,)``.
        shared_classes: Whether equal labels of different tasks are one class; if false, those of each task are numbered
            by themselves, as for tasks of different tables.
        strict: Whether to refuse a task whose context has a single class, or lacks the class of a target. If false, it
            is written, and ``PriorDump`` does not score such a target.
        batch_size: Tasks in a chunk of the file.
        overwrite: Whether a file of this name may be replaced.

    Raises:
        ValueError: Shapes do not fit each other, a cell is infinite or no number, a label is missing, a context has no
            target rows or too few classes, or the file exists.
        DataError: The file cannot be written.
    """
    check_least(batch_size=(batch_size, 1))
    if not len(x) or len(x) != len(y):
        raise ValueError(f"x and y must hold the same number of tasks, at least 1, got {len(x)} and {len(y)}")
    splits = _contexts(context, len(x))
    tasks = [_labels(labels, number) for number, labels in enumerate(y)]
    labels, classes = _numbered(tasks, shared_classes)
    source, digest = ArrayTasks(x, labels, splits, batch_size), hashlib.sha256()
    widths = []
    for number, codes in enumerate(labels):
        cells = source.cells(number)
        _check_split(number, len(codes), int(splits[number]))
        if strict:
            _check_classes(number, codes, int(splits[number]), tasks[number].names)
        widths.append(cells.shape[1])
        digest.update(f"{cells.shape} {splits[number]}".encode())
        digest.update(cells.data)
        digest.update(codes.data)
    count = 1 + max(int(codes.max()) for codes in labels)
    told = facts("arrays", 0, content=digest.hexdigest(), classes=list(classes[:MOST_NAMED]), strict=strict)
    plan = DumpPlan(len(x), batch_size, max(map(len, labels)), max(widths), count, told)
    return write_here(Job(Path(path), source, plan, classes), overwrite)


class Labels(NamedTuple):
    """Labels of a task: class of each row, as an index of its distinct labels, which are sorted."""

    codes: Ints
    names: list[Any]


class ArrayTasks(Dataset[TaskArrays]):
    """Batches of tasks that are at hand.

    Args:
        x: Cells of each task, ``(rows, features)``.
        labels: Class indices of each task, ``(rows,)``.
        context: Number of context rows of each task.
        batch_size: Tasks in a batch.
    """

    def __init__(self, x: Sequence[Any], labels: list[Ints], context: Ints, batch_size: int) -> None:
        self.x = x
        self.labels = labels
        self.context = context
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def __getitem__(self, index: int) -> TaskArrays:
        from tabattn.contract.columns import to_single

        numbers = range(index * self.batch_size, min((index + 1) * self.batch_size, len(self.labels)))
        context = self.context[numbers.start : numbers.stop]
        cells = [to_single(self.cells(number), int(self.context[number])) for number in numbers]
        rows, features = (np.asarray([each.shape[side] for each in cells]) for side in (0, 1))
        x = np.zeros((len(cells), rows.max(), features.max()), np.float32)
        y = np.zeros((len(cells), rows.max()), np.int64)
        for place, (each, number) in enumerate(zip(cells, numbers, strict=True)):
            x[place, : each.shape[0], : each.shape[1]] = each
            y[place, : each.shape[0]] = self.labels[number]
        return TaskArrays(x, y, features, rows, context)

    def cells(self, number: int) -> NDArray[np.float64]:
        """Cells of a task, ``(rows, features)``.

        Raises:
            ValueError: They are not of this shape, or not numbers, or infinite.
        """
        found = _array(self.x[number])
        rows = len(self.labels[number])
        if found.ndim != 2 or not found.size or len(found) != rows:
            raise ValueError(
                f"x of task {number} must be ({rows}, features), as its y has {rows} rows, got {found.shape}"
            )
        if found.dtype.kind not in "fiub":
            raise ValueError(f"x of task {number} must hold numbers, got {found.dtype}: cut_tasks encodes columns")
        if np.isinf(found).any():
            row, column = np.argwhere(np.isinf(found))[0]
            raise ValueError(f"x of task {number} is infinite in row {row}, column {column}")
        return np.ascontiguousarray(found, np.float64)


def _array(values: Any) -> NDArray[Any]:
    """Array of what NumPy takes, and of tensors on any device."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def _contexts(context: Any, tasks: int) -> Ints:
    """Number of context rows of each task."""
    given = _array(context)
    if given.dtype.kind not in "iu" or given.shape not in ((), (tasks,)):
        shape = f"an array of {given.dtype}, {given.shape}" if given.ndim else f"{context!r}"
        raise ValueError(f"context must be one whole number, or one for each of the {tasks} tasks, got {shape}")
    return np.broadcast_to(given, (tasks,)).astype(np.int64)


def _labels(given: Any, number: int) -> Labels:
    """Labels of a task.

    Raises:
        ValueError: A label is missing, or they are no classes.
    """
    from tabattn.contract.columns import check_labels

    y = given.detach().cpu().numpy() if hasattr(given, "detach") else given
    if np.ndim(y) != 1:
        raise ValueError(f"y of task {number} must be (rows,), got {np.shape(y)}")
    try:
        if isinstance(y, np.ndarray) and y.dtype.kind in "biu":
            classes, codes = np.unique(y, return_inverse=True)
        else:
            classes, codes = check_labels(y)
    except ValueError as ex:
        raise ValueError(f"y of task {number}: {ex}") from ex
    return Labels(codes.astype(np.int64), classes.tolist())


def _numbered(tasks: list[Labels], shared: bool) -> tuple[list[Ints], tuple[str, ...]]:
    """Class indices of each task, and the names of the classes that all tasks share."""
    if not shared:
        changed = sum(names != list(range(len(names))) for _, names in tasks)
        if changed:
            _say(f"labels of {changed} of {len(tasks)} tasks are numbered, in each by the order of their values")
        return [codes for codes, _ in tasks], ()
    try:
        classes = sorted({name for _, names in tasks for name in names})
    except TypeError as ex:
        raise ValueError(f"labels of all tasks must be of one kind that can be sorted: {ex}") from ex
    if len(classes) > MOST_CLASSES:
        raise ValueError(f"the tasks must have at most {MOST_CLASSES} classes in all, got {len(classes)}")
    if classes != list(range(len(classes))):
        named = ", ".join(f"{name!r} = {number}" for number, name in enumerate(classes[:SHOWN]))
        _say(f"labels are numbered by the order of their values: {named}{', ...' if len(classes) > SHOWN else ''}")
    numbers = {name: number for number, name in enumerate(classes)}
    translated = [np.asarray([numbers[name] for name in names], np.int64)[codes] for codes, names in tasks]
    return translated, tuple(map(str, classes))


def _say(message: str) -> None:
    warnings.warn(message, TableWarning, stacklevel=4)


def _check_split(number: int, rows: int, context: int) -> None:
    if not 1 <= context < rows:
        raise ValueError(
            f"context of task {number} must be between 1 and {rows - 1}, as it has {rows} rows, got {context}"
        )


def _check_classes(number: int, codes: Ints, context: int, names: list[Any]) -> None:
    """Refuse a task whose context has a single class, or lacks the class of a target."""
    shown, asked = np.unique(codes[:context]), np.unique(codes[context:])
    advice = "draw its rows stratified, or write it with strict=False"
    by_code = dict(zip(np.unique(codes).tolist(), names, strict=True))
    if len(missing := np.setdiff1d(asked, shown)):
        lacked = by_code[int(missing[0])]
        raise ValueError(f"the {context} context rows of task {number} lack a target's class, {lacked!r}: {advice}")
    if len(shown) < 2:
        raise ValueError(f"the {context} context rows of task {number} have a single class, {names[0]!r}: {advice}")
