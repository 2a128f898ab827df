"""Writing tasks to an HDF5 file: in one piece or not at all, and resumed where it was interrupted."""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from torch.utils.data import Dataset

from datamodules.hdf5 import in_one_piece
from tabattn.batches import TableBatch

SPLIT_KEYS = ("single_eval_pos", "train_test_split_index")
"""The two names under which dumps keep the number of context rows; both are written, either is read."""

HASHED = ("X", "y", "num_features", "num_datapoints", "single_eval_pos")
"""The arrays whose content a dump's checksum covers."""

Progress = Callable[[Iterable[int], int], Iterable[int]]
"""Shows how far a loop over batch numbers is, given the number of the batch it starts with."""


class DumpPlan(NamedTuple):
    """What a dump is to hold.

    Attributes:
        tasks: Number of tasks.
        batch_size: Tasks in each of the batches it is made of, the last of which may be cut short.
        rows: Most rows of a task.
        features: Most features of a task.
        classes: Most classes of a task.
        facts: Where the tasks come from: prior, source, seed, versions; in plain types.
    """

    tasks: int
    batch_size: int
    rows: int
    features: int
    classes: int
    facts: dict[str, Any]


def write_dump(
    path: Path, batches: Dataset[TableBatch], plan: DumpPlan, overwrite: bool = False, progress: Progress | None = None
) -> str:
    """Write a dump under a temporary name and give it its own when it is whole and checked.

    Args:
        path: The file.
        batches: The tasks; batch i must be a function of i.
        plan: What the dump is to hold.
        overwrite: Whether a file of this name may be replaced.
        progress: Shows how far the writing is.

    Returns:
        SHA-256 of the content.

    Raises:
        ValueError: The file exists; or an interrupted one was begun with another plan.
        DataError: The file cannot be written.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists: give another name, or --overwrite")
    unfinished = path.with_name(f"{path.name}.tmp")
    with in_one_piece(path, unfinished), _begin(unfinished, plan) as file:
        written = int(file.attrs.get("written", plan.tasks))
        numbers = range(-(-written // plan.batch_size), -(-plan.tasks // plan.batch_size))
        for number in progress(numbers, numbers.start) if progress else numbers:
            _put(file, batches[number], plan, number * plan.batch_size)
        checksum = content_hash(file, plan.batch_size)
        file.attrs["sha256"] = checksum
        file.attrs.pop("written", None)
    return checksum


def content_hash(file: h5py.File, step: int) -> str:
    """SHA-256 of a dump's arrays, read a few tasks at a time."""
    digest = hashlib.sha256()
    for key in HASHED:
        for start in range(0, len(file[key]), step):
            digest.update(np.ascontiguousarray(file[key][start : start + step]).tobytes())
    return digest.hexdigest()


def _begin(path: Path, plan: DumpPlan) -> h5py.File:
    """Open an unfinished dump of the same plan, or start a new one."""
    described = json.dumps(plan._asdict(), sort_keys=True)
    if path.exists():
        try:
            file = h5py.File(path, "r+")
        except BlockingIOError:
            raise
        except OSError:
            # Interrupted in the middle of a write: what is in it is lost.
            path.unlink()
        else:
            if file.attrs.get("plan") == described:
                return file
            file.close()
            raise ValueError(f"{path} was begun with other arguments: give them again, or delete it")
    file = h5py.File(path, "w")
    tasks, batch = plan.tasks, min(plan.batch_size, plan.tasks)
    for key, shape in (("X", (plan.rows, plan.features)), ("y", (plan.rows,))):
        file.create_dataset(
            key, (tasks, *shape), "f4", chunks=(batch, *shape), shuffle=True, compression="lzf", fletcher32=True
        )
    for key in ("num_features", "num_datapoints", *SPLIT_KEYS):
        file.create_dataset(key, (tasks,), "i4", chunks=(min(tasks, 4096),), fletcher32=True)
    file["max_num_classes"] = np.asarray([plan.classes], dtype=np.int32)
    file["original_batch_size"] = np.asarray([plan.batch_size], dtype=np.int32)
    file["problem_type"] = "classification"
    for name, fact in plan.facts.items():
        file.attrs[name] = fact if isinstance(fact, (str, int, float)) else json.dumps(fact, sort_keys=True)
    file.attrs["plan"] = described
    file.attrs["written"] = 0
    file.flush()
    return file


def _put(file: h5py.File, batch: TableBatch, plan: DumpPlan, start: int) -> None:
    """Write one batch behind the tasks that are there, padded with zeros, and note how far the file is."""
    count = min(len(batch.x), plan.tasks - start)
    _, rows, features = batch.x.shape
    x = np.zeros((count, plan.rows, plan.features), dtype=np.float32)
    y = np.zeros((count, plan.rows), dtype=np.float32)
    x[:, :rows, :features] = batch.x[:count].numpy()
    y[:, :rows] = batch.y[:count].numpy()
    stop = start + count
    file["X"][start:stop] = x
    file["y"][start:stop] = y
    file["num_features"][start:stop] = features if batch.columns is None else batch.columns[:count].numpy()
    file["num_datapoints"][start:stop] = rows
    for key in SPLIT_KEYS:
        file[key][start:stop] = batch.context
    file.flush()
    file.attrs["written"] = stop
    file.flush()
