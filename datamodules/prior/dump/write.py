"""Writer of prior dumps: atomic, and resumable after an interruption."""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from datamodules.commands import check_target
from datamodules.hdf5 import SEALED, Reader, missing_chunks
from datamodules.hdf5_write import in_one_piece, signals_held, writing
from tabattn.contract.batches import TableBatch
from tabattn.contract.errors import DataError

SPLIT_KEYS = ("single_eval_pos", "train_test_split_index")
"""Names of the array with the number of context rows; both are written, either is read."""

HASHED = ("X", "y", "num_features", "num_datapoints", "single_eval_pos")
"""Arrays that the checksum of a dump covers."""

DIGESTS = "batch_sha256"
"""Array with the SHA-256 of each batch as passed to the writer, ``(batches, 32)``."""

Progress = Callable[[Iterable[int], int], Iterable[int]]
"""Progress bar: wraps a loop over batch numbers, given the first one."""


class TaskArrays(NamedTuple):
    """Batch of tasks of any sizes, padded to the largest.

    Attributes:
        x: Cells, ``(tasks, rows, features)``; NaN = missing.
        y: Class indices, ``(tasks, rows)``.
        features: Number of features of each task, ``(tasks,)``.
        rows: Number of rows of each task.
        context: Number of context rows of each task.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    features: NDArray[Any]
    rows: NDArray[Any]
    context: NDArray[Any]

    @classmethod
    def of(cls, batch: TableBatch) -> "TaskArrays":
        """Arrays of a batch of tasks with equal numbers of rows and context rows."""
        count, rows, width = batch.x.shape
        features = np.full(count, width) if batch.columns is None else batch.columns.numpy()
        return cls(batch.x.numpy(), batch.y.numpy(), features, np.full(count, rows), np.full(count, batch.context))


class DumpPlan(NamedTuple):
    """Plan of a dump: its sizes and its provenance.

    Attributes:
        tasks: Number of tasks.
        batch_size: Tasks in each batch; the last one may be cut short.
        rows: Most rows of a task.
        features: Most features of a task.
        classes: Most classes of a task.
        facts: Provenance of the tasks (prior, source, seed, versions), in plain values.
    """

    tasks: int
    batch_size: int
    rows: int
    features: int
    classes: int
    facts: dict[str, Any]


def write_dump(
    path: Path,
    batches: Dataset[TableBatch] | Dataset[TaskArrays],
    plan: DumpPlan,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> str:
    """Write a dump atomically: it is renamed to its path once complete and verified.

    Args:
        path: The file.
        batches: Batches of tasks; batch i must be a function of i.
        plan: Plan of the dump.
        overwrite: Whether an existing file may be replaced.
        progress: Progress bar around the loop over batches.

    Returns:
        SHA-256 of the content.

    Raises:
        ValueError: The file exists, or an interrupted one has another plan.
        DataError: The file cannot be written; the batches written so far are kept, and the same call resumes from them.
    """
    path = Path(path)
    check_target(path, overwrite)
    unfinished = path.with_name(f"{path.name}.tmp")
    with in_one_piece(path, unfinished):
        fresh = not _can_go_on(unfinished, plan)
        with writing(unfinished, fresh=fresh) as part:
            if fresh:
                with signals_held():
                    _begin(part.file, plan)
                    part.save()
            else:
                _forget_bad_batches(part.file, plan)
            written = int(part.file.attrs.get("written", plan.tasks))
            numbers = range(-(-written // plan.batch_size), -(-plan.tasks // plan.batch_size))
            for number in progress(numbers, numbers.start) if progress else numbers:
                batch = batches[number]
                with signals_held():
                    _put(part.file, batch, plan, number)
                    part.save()
            with signals_held():
                checksum = hashlib.sha256(part.file[DIGESTS][()].tobytes()).hexdigest()
                part.file.attrs.update({"sha256": checksum, SEALED: True})
                part.file.attrs.pop("written", None)
        with h5py.File(unfinished, "r") as file:
            check_content(file)
    return checksum


def check_content(file: h5py.File) -> None:
    """Verify all tasks of a file against the checksums of the batches as handed in.

    Raises:
        DataError: Tasks are missing or differ, or the file has no checksum.
    """
    if "sha256" not in file.attrs:
        raise DataError("it has no checksum")
    for key in HASHED:
        if missing := missing_chunks(file[key]):
            raise DataError(f"{missing} chunks of {key} were never written: tasks are missing, write the file again")
    if DIGESTS not in file:
        # Earlier versions: a single checksum of all arrays.
        if _content_hash(file, 64) != file.attrs["sha256"]:
            raise DataError("its content is not what its checksum says")
        return
    stated = file[DIGESTS][()]
    if hashlib.sha256(stated.tobytes()).hexdigest() != file.attrs["sha256"]:
        raise DataError("its content is not what its checksum says")
    for number, digest in enumerate(stated):
        if _stored_digest(file, number) != digest.tobytes():
            raise DataError(f"its content is not what its checksum says, in batch {number} of {len(stated)}")


def _content_hash(file: h5py.File, step: int) -> str:
    """SHA-256 of a dump's arrays, read a few tasks at a time."""
    digest = hashlib.sha256()
    for key in HASHED:
        for start in range(0, len(file[key]), step):
            digest.update(np.ascontiguousarray(file[key][start : start + step]).tobytes())
    return digest.hexdigest()


def _stored_digest(file: h5py.File, number: int) -> bytes:
    size = int(file["original_batch_size"][0])
    tasks = slice(number * size, (number + 1) * size)
    return _digest([file[key][tasks] for key in HASHED])


def _digest(arrays: Iterable[NDArray[Any]]) -> bytes:
    digest = hashlib.sha256()
    for values in arrays:
        digest.update(np.ascontiguousarray(values).data)
    return digest.digest()


def _can_go_on(path: Path, plan: DumpPlan) -> bool:
    """Whether there is a readable unfinished file of the same plan.

    Raises:
        ValueError: It is of another plan.
    """
    if not path.exists():
        return False
    try:
        with Reader(path).checked(unfinished=True) as file:
            begun, digests = file.attrs.get("plan"), DIGESTS in file
    except DataError as ex:
        if isinstance(ex.__cause__, BlockingIOError):
            raise ex.__cause__ from ex
        return False
    if begun != _described(plan):
        raise ValueError(f"{path} was begun with other arguments: give them again, or delete it")
    return digests


def _forget_bad_batches(file: h5py.File, plan: DumpPlan) -> None:
    """Discard batches from the first damaged one on, as after a crash of the machine."""
    written = int(file.attrs.get("written", plan.tasks))
    for number in range(-(-written // plan.batch_size)):
        try:
            whole = _stored_digest(file, number) == file[DIGESTS][number].tobytes()
        except OSError:
            whole = False
        if not whole:
            file.attrs["written"] = number * plan.batch_size
            return


def _described(plan: DumpPlan) -> str:
    return json.dumps(plan._asdict(), sort_keys=True)


def _begin(file: h5py.File, plan: DumpPlan) -> None:
    """Create the arrays of an empty file."""
    tasks, batch = plan.tasks, min(plan.batch_size, plan.tasks)
    for key, shape in (("X", (plan.rows, plan.features)), ("y", (plan.rows,))):
        file.create_dataset(
            key, (tasks, *shape), "f4", chunks=(batch, *shape), shuffle=True, compression="lzf", fletcher32=True
        )
    for key in ("num_features", "num_datapoints", *SPLIT_KEYS):
        file.create_dataset(key, (tasks,), "i4", chunks=(min(tasks, 4096),), fletcher32=True)
    count = -(-tasks // plan.batch_size)
    file.create_dataset(DIGESTS, (count, 32), "u1", chunks=(min(count, 512), 32), fletcher32=True)
    file["max_num_classes"] = np.asarray([plan.classes], dtype=np.int32)
    file["original_batch_size"] = np.asarray([plan.batch_size], dtype=np.int32)
    file["problem_type"] = "classification"
    for name, fact in plan.facts.items():
        file.attrs[name] = fact if isinstance(fact, (str, int, float)) else json.dumps(fact, sort_keys=True)
    file.attrs["plan"] = _described(plan)
    file.attrs["written"] = 0


def _put(file: h5py.File, batch: TableBatch | TaskArrays, plan: DumpPlan, number: int) -> None:
    """Write one batch, padded with zeros, with its checksum, and update the number of batches written."""
    tasks = TaskArrays.of(batch) if isinstance(batch, TableBatch) else batch
    start = number * plan.batch_size
    count = min(len(tasks.x), plan.tasks - start)
    _, rows, features = tasks.x.shape
    x = np.zeros((count, plan.rows, plan.features), dtype=np.float32)
    y = np.zeros((count, plan.rows), dtype=np.float32)
    x[:, :rows, :features] = tasks.x[:count]
    y[:, :rows] = tasks.y[:count]
    sizes = [size[:count] for size in (tasks.features, tasks.rows, tasks.context)]
    arrays = dict(zip(HASHED, [x, y, *(size.astype(np.int32) for size in sizes)], strict=True))
    stop = start + count
    for key, values in arrays.items():
        file[key][start:stop] = values
    file[SPLIT_KEYS[1]][start:stop] = arrays[SPLIT_KEYS[0]]
    file[DIGESTS][number] = np.frombuffer(_digest(arrays.values()), dtype=np.uint8)
    file.attrs["written"] = stop
