"""Jobs of the writer of prior dumps: the file, its batches and its plan; the command and the functions share them."""

import platform
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import h5py
import numpy as np
import torch
from torch.utils.data import Dataset

from datamodules.prior.dump.write import DumpPlan, Progress, TaskArrays, write_dump
from tabattn.contract.batches import TableBatch
from tabattn.contract.checks import check_least

if TYPE_CHECKING:
    from datamodules.prior.cut import CutOptions
    from datamodules.tables.real import RealTable

Split = Literal["both", "train", "test"]
"""Rows of a table that tasks are cut from; both = each part into a file of its own."""

STREAMS = {"train": 1, "test": 2}
"""Stream of random numbers of the tasks of each part."""


class Written(NamedTuple):
    """Prior dump that was written.

    Attributes:
        path: The file.
        tasks: Number of its tasks.
        sha256: SHA-256 of its content.
        classes: Names of the classes, in the order of their numbers; empty where the numbers of each task are its own.
    """

    path: Path
    tasks: int
    sha256: str
    classes: tuple[str, ...] = ()


class Job(NamedTuple):
    """One dump to write."""

    path: Path
    batches: Dataset[TableBatch] | Dataset[TaskArrays]
    plan: DumpPlan
    classes: tuple[str, ...] = ()

    def write(self, overwrite: bool, progress: Callable[["Job"], Progress] | None = None) -> Written:
        """Write the file atomically; see ``write_dump``."""
        bar = None if progress is None else progress(self)
        checksum = write_dump(self.path, self.batches, self.plan, overwrite, bar)
        return Written(self.path, self.plan.tasks, checksum, self.classes)


def write_here(job: Job, overwrite: bool) -> Written:
    """Write the file of a job for a caller in Python, whose messages name arguments rather than flags."""
    try:
        return job.write(overwrite)
    except ValueError as ex:
        raise ValueError(str(ex).replace("--overwrite", "overwrite=True")) from ex


class Parts(NamedTuple):
    """Parts of a table that tasks are cut from.

    Attributes:
        split: The part; both = each into a file of its own.
        held_out: Share of the rows of the test part, and of its tasks where both parts are written.
        seed: Seed of the split and of the tasks.
    """

    split: Split = "both"
    held_out: float = 0.3
    seed: int = 0


def table_jobs(path: Path, table: "RealTable", cut: "CutOptions", tasks: int, parts: Parts, size: int) -> list[Job]:
    """Jobs of dumps with tasks cut from a real table.

    Args:
        path: The file; where both parts are written, ``<path>_train`` and ``<path>_test``, before the suffix.
        table: The table.
        cut: Options of the tasks.
        tasks: Number of tasks in all.
        parts: Parts of the table.
        size: Tasks in a chunk of the file.

    Raises:
        ValueError: The table has too few rows for such tasks, or a part has no task.
    """
    from datamodules.prior.cut import CutBatches, TaskCutter, split_rows

    split, held_out, seed = parts
    rows = dict(zip(STREAMS, split_rows(table, held_out, seed), strict=True))
    tested = round(held_out * tasks)
    both = split == "both"
    counts = {"train": tasks - tested, "test": tested} if both else {split: tasks}
    jobs = []
    for part, count in counts.items():
        check_least(**{f"tasks of the {part} part": (count, 1)})
        file = path.with_name(f"{path.stem}_{part}{path.suffix}") if both else path
        cutter = TaskCutter(table, rows[part], cut, seed, STREAMS[part])
        told = facts("table", seed, source=table.provenance["source"], part=part, held_out=held_out, **cut._asdict())
        width = cut.features or table.x.shape[1]
        plan = DumpPlan(count, size, cut.rows, width, len(table.classes), {**told, "provenance": table.provenance})
        jobs.append(Job(file, CutBatches(cutter, size, None), plan, () if cut.permute_labels else table.classes))
    return jobs


def facts(prior: str, seed: int, **arguments: Any) -> dict[str, Any]:
    """Provenance in the attributes of a file."""
    versions = {
        "tabattn": _version(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "h5py": h5py.__version__,
    }
    return {"prior": prior, "seed": seed, "versions": versions, "arguments": arguments}


def _version() -> str:
    try:
        return metadata.version("tabattn")
    except metadata.PackageNotFoundError:
        return "not installed"
