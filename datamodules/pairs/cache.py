"""Tasks kept in an HDF5 file: written in one piece or not at all, and used only for what they were written for."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.hdf5 import Reader, in_one_piece
from datamodules.pairs.batches import PairBatches
from tabattn.batches import Oracle, PairBatch
from tabattn.errors import DataError

Facts = dict[str, Any]

CONTEXT, TARGET = 0, 1
"""What ``role`` says of a point."""


class PairCache:
    """A file of tasks: for each split the arrays ``x, y, k, role``, ``(tasks, points)``, and their oracle.

    ``k`` is the sequence of a point and ``role`` 0 where it is context, 1 where it is a target. Tasks shorter than the
    longest end in points of value NaN; ``points`` and ``context`` hold the size of each batch. What the tasks were
    drawn from stands in the file's attributes.

    Args:
        path: The file.
        facts: What its tasks must be drawn from; plain types by name.
    """

    def __init__(self, path: str | Path, facts: Facts) -> None:
        self.path = Path(path)
        self.facts = {name: json.dumps(fact) for name, fact in facts.items()}
        self.reader = Reader(self.path, "; delete it to have it written anew")

    def prepare(self, splits: dict[str, PairBatches]) -> None:
        """Write the tasks where the file is not there yet; make sure that it holds them where it is.

        Args:
            splits: Batches by the name of their split; splits without batches are left out.

        Raises:
            MisconfigurationException: The file holds tasks drawn from something else.
            DataError: The file cannot be read or written.
        """
        if not self.path.exists():
            self._write(splits)
        with self.reader.explained(), h5py.File(self.path, "r") as file:
            attributes = dict(file.attrs)
        if not set(self.facts) <= set(attributes):
            raise DataError(
                f"{self.path} cannot be used: it is no file of pairs as they are kept now; name another file"
            )
        other = [
            f"{name} {attributes[name]} (not {fact})" for name, fact in self.facts.items() if attributes[name] != fact
        ]
        if other:
            told = ", ".join(other)
            raise MisconfigurationException(f"{self.path} holds tasks of {told}: delete it, or name another file")

    def read(self, split: str, index: int) -> PairBatch:
        """Read a batch.

        Raises:
            DataError: The file is damaged.
        """
        with self.reader.explained():
            group = self.reader.file()[split]
            points, context = int(group["points"][index]), int(group["context"][index])
            size = len(group["x"]) // len(group["points"])
            tasks = slice(index * size, (index + 1) * size)

            def cells(name: str, first: int = 0) -> Tensor:
                return torch.from_numpy(group[name][tasks, first:points])

            known = None
            if "joint" in group:
                joint = torch.from_numpy(group["joint"][tasks])
                known = Oracle(cells("mean", context), cells("log_density", context), joint)
            return PairBatch(cells("x"), cells("y"), cells("k").long(), context, known)

    def _write(self, splits: dict[str, PairBatches]) -> None:
        # Several processes may do this at once: each has a file of its own, and the last one to finish stays.
        unfinished = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        try:
            with in_one_piece(self.path, unfinished), h5py.File(unfinished, "w") as file:
                for name, batches in splits.items():
                    if len(batches):
                        _fill(file.create_group(name), batches)
                file.attrs.update({"versions": json.dumps({"torch": torch.__version__, "numpy": np.__version__})})
                file.attrs.update(self.facts)
        finally:
            with suppress(OSError):
                unfinished.unlink()


class CachedPairs(Dataset[PairBatch]):
    """Batches of a file, from the first on again when they are at an end.

    Args:
        cache: The file.
        split: Which of its parts.
        length: Batches of that part.
    """

    def __init__(self, cache: PairCache, split: str, length: int) -> None:
        self.cache = cache
        self.split = split
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> PairBatch:
        return self.cache.read(self.split, index % self.length)


def _fill(group: h5py.Group, batches: PairBatches) -> None:
    """Write the batches of one split, tasks that are shorter than the longest padded."""
    size, width, count = batches.batch_size, sum(batches.plan.points), len(batches)
    options: dict[str, Any] = {"chunks": (size, width), "shuffle": True, "compression": "lzf", "fletcher32": True}
    types = {"x": "f4", "y": "f4", "k": "u1", "role": "u1"}
    if batches.knowledge is not None:
        types |= {"mean": "f4", "log_density": "f4"}
        group.create_dataset("joint", (count * size,), "f4", chunks=(size,), fletcher32=True)
    for name, kind in types.items():
        empty = np.nan if kind == "f4" else 0
        group.create_dataset(name, (count * size, width), kind, fillvalue=empty, **options)
    shape = np.zeros((2, count), dtype=np.int32)
    for number in range(count):
        batch = batches[number]
        tasks = slice(number * size, (number + 1) * size)
        points, context = batch.x.shape[1], batch.context
        shape[:, number] = points, context
        group["x"][tasks, :points] = batch.x.numpy()
        group["y"][tasks, :points] = batch.y.numpy()
        group["k"][tasks, :points] = batch.member.numpy()
        group["role"][tasks, :context] = CONTEXT
        group["role"][tasks, context:] = TARGET
        if batch.oracle is not None:
            group["mean"][tasks, context:points] = batch.oracle.mean.numpy()
            group["log_density"][tasks, context:points] = batch.oracle.log_density.numpy()
            group["joint"][tasks] = batch.oracle.joint.numpy()
    for name, values in zip(("points", "context"), shape, strict=True):
        group.create_dataset(name, data=values, chunks=True, fletcher32=True)
