"""Reader of prior dumps in this package's, nanoTabPFN's and TFM-Playground's format."""

from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from datamodules.counter import generator
from datamodules.draws import uniform
from datamodules.hdf5 import Reader, array, missing_chunks
from datamodules.prior.dump.write import HASHED, SPLIT_KEYS, check_content
from datamodules.prior.labels import answerable
from tabattn.contract.batches import TableBatch
from tabattn.contract.errors import DataError

Ints = NDArray[np.int64]

MOST_CLASSES = 10_000
"""Most classes that a file may declare."""


LARGEST = 1e18
"""Largest magnitude of a cell that can be standardised in single precision."""


class DumpSizes(NamedTuple):
    """Sizes of the tasks of a dump: rows, context rows and features, ``(tasks,)``, and the most classes."""

    rows: Ints
    context: Ints
    features: Ints
    classes: int


class Dump:
    """Prior dump; the file is opened at first use in each process.

    Args:
        path: The file.

    Raises:
        ValueError: There is no such file.
        DataError: It cannot be read, or holds no classification tasks.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise ValueError(f"there is no file {self.path}")
        self.reader = Reader(self.path)
        with self.reader.checked() as file:
            self.sizes = _sizes(file)
            self.attributes: dict[str, Any] = dict(file.attrs)

    def __len__(self) -> int:
        return len(self.sizes.rows)

    def read(self, tasks: Ints, context: int | None = None) -> TableBatch:
        """Read tasks with equal numbers of rows as one batch, contiguous ones in one read.

        A target whose class is missing in the context gets label -1 and is not scored.

        Args:
            tasks: Indices of the tasks, ascending.
            context: Number of context rows, instead of the stored one.

        Raises:
            DataError: The file is damaged.
        """
        rows, width = int(self.sizes.rows[tasks].max()), int(self.sizes.features[tasks].max())
        if context is None:
            context = int(self.sizes.context[tasks[0]])
        pieces = np.split(tasks, np.flatnonzero(np.diff(tasks) != 1) + 1)
        with self.reader.explained():
            file = self.reader.file()
            x = np.concatenate([file["X"][piece[0] : piece[-1] + 1, :rows, :width] for piece in pieces])
            self._check_cells(x, tasks)
        labels = self.labels(tasks)
        features = torch.from_numpy(self.sizes.features[tasks])
        columns = features if int(features.min()) < width else None
        answered = answerable(torch.from_numpy(labels), context, self.sizes.classes)
        return TableBatch(torch.from_numpy(x.astype(np.float32, copy=False)), answered, context, columns)

    def labels(self, tasks: Ints) -> Ints:
        """Read the labels of tasks, ``(tasks, rows)``; those of absent rows of shorter tasks are 0.

        Args:
            tasks: Indices of the tasks, ascending.

        Raises:
            DataError: The file is damaged, or a label is no class.
        """
        rows = self.sizes.rows[tasks]
        pieces = np.split(tasks, np.flatnonzero(np.diff(tasks) != 1) + 1)
        with self.reader.explained():
            file = self.reader.file()
            y = np.concatenate([file["y"][piece[0] : piece[-1] + 1, : rows.max()] for piece in pieces])
            y = np.where(np.arange(y.shape[1]) < rows[:, None], y, 0)
            if not ((y >= 0) & (y < self.sizes.classes) & (y == np.floor(y))).all():
                first, last = tasks[0], tasks[-1]
                raise DataError(f"labels of tasks {first} to {last} are not 0 to {self.sizes.classes - 1}")
        return y.astype(np.int64)

    def _check_cells(self, x: NDArray[Any], tasks: Ints) -> None:
        """Refuse cells whose squares overflow single precision; NaN = missing."""
        with np.errstate(invalid="ignore"):
            huge = np.abs(x) > LARGEST
        if huge.any():
            place = np.argwhere(huge)[0]
            raise DataError(
                f"task {tasks[place[0]]} holds {x[tuple(place)]:g} in row {place[1]}, column {place[2]}: cells must be "
                f"at most {LARGEST:g} in size"
            )

    def verify(self) -> None:
        """Verify the SHA-256 of the whole content.

        Raises:
            DataError: It differs, or the file has none.
        """
        with self.reader.checked() as file:
            check_content(file)


class DumpBatches(Dataset[TableBatch]):
    """Batches of tasks of a dump, with equal numbers of rows and context rows in a batch.

    Batch i of an endless stream: epoch after epoch, all batches in an order that is a function of (seed, epoch).

    Args:
        dump: The file.
        batch_size: Most tasks in a batch.
        seed: Seed of the order and of resampled contexts; None = file order, with task numbers, so that each task is
            scored alone.
        resample_context: Smallest and largest share of context rows, drawn for each batch; None = as stored.
        tasks: Indices of the tasks to take, ascending; None = all.
    """

    def __init__(
        self,
        dump: Dump,
        batch_size: int,
        seed: int | None,
        resample_context: tuple[float, float] | None = None,
        tasks: Ints | None = None,
    ) -> None:
        self.dump = dump
        self.batch_size = batch_size
        self.seed = seed
        self.resample_context = resample_context
        self.tasks = np.arange(len(dump)) if tasks is None else tasks
        self.order = (-1, np.empty(0, dtype=np.int64))

    @cached_property
    def groups(self) -> list[Ints]:
        """Task indices of each batch."""
        sizes = self.dump.sizes
        every = sizes.rows if self.resample_context else sizes.rows * (sizes.rows.max() + 1) + sizes.context
        keys = every[self.tasks]
        return [
            members[start : start + self.batch_size]
            for key in dict.fromkeys(keys.tolist())
            for members in [self.tasks[keys == key]]
            for start in range(0, len(members), self.batch_size)
        ]

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> TableBatch:
        if self.seed is None:
            tasks = self.groups[index]
            return self.dump.read(tasks)._replace(table=torch.from_numpy(tasks))
        epoch, place = divmod(index, len(self))
        if self.order[0] != epoch:
            self.order = epoch, torch.randperm(len(self), generator=generator(self.seed, epoch)).numpy()
        tasks = self.groups[self.order[1][place]]
        return self.dump.read(tasks, self._context(tasks, index))

    def _context(self, tasks: Ints, index: int) -> int | None:
        if self.resample_context is None or self.seed is None:
            return None
        rows = int(self.dump.sizes.rows[tasks[0]])
        share = uniform(*self.resample_context, generator(self.seed, index, 1))
        return min(max(round(share * rows), 1), rows - 1)


def _sizes(file: h5py.File) -> DumpSizes:
    """Read and check the sizes of the tasks in a file."""
    for key in ("X", "y"):
        if key not in file.keys():  # noqa: SIM118  (a link that leads nowhere is a key too)
            raise DataError(f"it is no dump of tasks: it has no array {key} (but: {', '.join(file) or 'nothing'})")
    x, y = array(file, "X", "fiub", 3), array(file, "y", "fiub", 2)
    if "written" in file.attrs:
        raise DataError(f"it is unfinished, {file.attrs['written']} of {len(x)} tasks")
    problem = _text(file, "problem_type", "classification")
    if problem != "classification":
        raise DataError(f"it holds {problem} tasks, not classification")
    tasks, rows, features = x.shape
    if y.shape != (tasks, rows):
        raise DataError(f"its sizes do not fit: X is {x.shape}, y is {y.shape}")
    split = next((key for key in SPLIT_KEYS if key in file), None)
    if split is None:
        raise DataError(f"it does not say how many rows are context: no array {' or '.join(SPLIT_KEYS)}")
    sizes = DumpSizes(
        _each(file, "num_datapoints", tasks, rows),
        _each(file, split, tasks, rows),
        _each(file, "num_features", tasks, features),
        _classes(file, y),
    )
    if (sizes.context >= sizes.rows).any():
        raise DataError(f"a task has no target rows: {split} must be below num_datapoints")
    if "plan" in file.attrs and (missing := sum(missing_chunks(file[key]) for key in HASHED)):
        raise DataError(f"{missing} of its chunks were never written: tasks are missing, write the file again")
    return sizes


def _each(file: h5py.File, key: str, tasks: int, most: int) -> Ints:
    """Stored size of each task, from 1 to that of the array; that of the array if none is stored."""
    if key not in file:
        return np.full(tasks, most, dtype=np.int64)
    stored = array(file, key, "fiu")
    wrong = stored.size != tasks
    if not wrong:
        values = np.ravel(stored[()])
        wrong = not ((values >= 1) & (values <= most) & (values == np.floor(values))).all()
    if wrong:
        raise DataError(f"{key} must hold {tasks} numbers between 1 and {most}")
    return values.astype(np.int64)


def _classes(file: h5py.File, y: h5py.Dataset) -> int:
    """Largest number of classes of a task: as stored, otherwise one more than the largest label."""
    if "max_num_classes" in file:
        stored = array(file, "max_num_classes", "fiu")
        found = float(np.ravel(stored[()])[0]) if stored.size == 1 else float("nan")
    else:
        step = max(1, y.chunks[0] if y.chunks else 1024)
        found = 1.0 + max(float(np.max(y[start : start + step])) for start in range(0, len(y), step))
    if not (1 <= found <= MOST_CLASSES and found.is_integer()):
        raise DataError(f"max_num_classes must be one whole number between 1 and {MOST_CLASSES}, got {found:g}")
    return int(found)


def _text(file: h5py.File, key: str, default: str) -> str:
    """A stored text."""
    if key not in file:
        return default
    stored = array(file, key, "OSUT")
    value = stored[()] if stored.size == 1 else None
    value = value.item() if isinstance(value, np.ndarray) else value
    if not isinstance(value, (bytes, str)):
        raise DataError(f"{key} must be one text, its shape is {stored.shape} and its type {stored.dtype}")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
