"""HDF5 cache of tasks: written atomically, and reused only for the same configuration."""

import hashlib
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

from datamodules.hdf5 import SEALED, Reader, array
from datamodules.hdf5_write import Part, in_one_piece, signals_held, writing
from datamodules.pairs.batches import PairBatches
from tabattn.contract.batches import Oracle, PairBatch
from tabattn.contract.errors import DataError

Facts = dict[str, Any]

EARLIER = {"beyond": "0"}
"""Facts that files of earlier versions do not name, as they had to hold."""

CONTEXT, TARGET = 0, 1
"""Values of ``role``."""


class PairCache:
    """HDF5 cache: for each split the arrays ``x, y, k, role``, ``(tasks, points)``, the oracle and ``process``.

    ``k`` is the member of a point, and ``role`` is 0 for context and 1 for a target; ``process`` holds the parameters
    of the process of each task, which files of earlier versions lack. Shorter tasks are padded with NaN; ``points`` and
    ``context`` hold the size of each batch. The configuration of the tasks is in the file's attributes.

    Args:
        path: The file.
        facts: Configuration that the tasks must have, in plain values by name.
    """

    def __init__(self, path: str | Path, facts: Facts) -> None:
        self.path = Path(path)
        self.facts = {name: json.dumps(fact) for name, fact in facts.items()}
        self.reader = Reader(self.path, "; delete it to have it written anew")

    def prepare(self, splits: dict[str, PairBatches]) -> None:
        """Write the cache if it is missing, else check that it holds the tasks of this configuration.

        Args:
            splits: Batches by split; empty splits are not written.

        Raises:
            MisconfigurationException: The file holds tasks of another configuration.
            DataError: The file cannot be read or written.
        """
        if not self.path.exists():
            self._write(splits)
        with self.reader.checked() as file:
            attributes = EARLIER | dict(file.attrs)
            known = set(self.facts) <= set(attributes)
        if not known:
            raise DataError(
                f"{self.path} cannot be used: it is no file of pairs as they are kept now; name another file"
            )
        other = [
            f"{name} {attributes[name]} (not {fact})" for name, fact in self.facts.items() if attributes[name] != fact
        ]
        if other:
            told = ", ".join(other)
            raise MisconfigurationException(f"{self.path} holds tasks of {told}: delete it, or name another file")
        with self.reader.explained(), h5py.File(self.path, "r") as file:
            for name, batches in splits.items():
                if len(batches):
                    _check_arrays(file, name, len(batches))

    def read(self, split: str, index: int) -> PairBatch:
        """Read a batch.

        Raises:
            DataError: The file is damaged.
        """
        with self.reader.explained():
            return _read(self.reader.file()[split], index)

    def _write(self, splits: dict[str, PairBatches]) -> None:
        # Several processes may write at once: each has its own temporary file, and the last rename wins.
        unfinished = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        try:
            with in_one_piece(self.path, unfinished):
                with writing(unfinished, fresh=True) as part:
                    digests = {name: _fill(part, name, batches) for name, batches in splits.items() if len(batches)}
                    with signals_held():
                        versions = {"torch": torch.__version__, "numpy": np.__version__}
                        part.file.attrs.update({"versions": json.dumps(versions), **self.facts, SEALED: True})
                with h5py.File(unfinished, "r") as file:
                    for name, given in digests.items():
                        if given != [_digest(_read(file[name], index)) for index in range(len(given))]:
                            raise DataError(
                                f"{self.path} cannot be written: the disk does not hold what was given to it"
                            )
        finally:
            with suppress(OSError):
                unfinished.unlink()


class CachedPairs(Dataset[PairBatch]):
    """Batches of a cache file, repeated cyclically.

    Args:
        cache: The cache.
        split: Name of the split.
        length: Number of batches of the split.
    """

    def __init__(self, cache: PairCache, split: str, length: int) -> None:
        self.cache = cache
        self.split = split
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> PairBatch:
        return self.cache.read(self.split, index % self.length)


def _read(group: h5py.Group, index: int) -> PairBatch:
    """Read a batch of a split."""
    points, context = int(group["points"][index]), int(group["context"][index])
    size = len(group["x"]) // len(group["points"])
    tasks = slice(index * size, (index + 1) * size)

    def cells(name: str, first: int = 0) -> Tensor:
        return torch.from_numpy(group[name][tasks, first:points])

    known = None
    if "joint" in group:
        joint = torch.from_numpy(group["joint"][tasks])
        known = Oracle(cells("mean", context), cells("log_density", context), joint)
    process = torch.from_numpy(group["process"][tasks]) if "process" in group else None
    return PairBatch(cells("x"), cells("y"), cells("k").long(), context, known, process=process)


def _fill(part: Part, split: str, batches: PairBatches) -> list[str]:
    """Write the batches of one split, tasks that are shorter than the longest padded; return their SHA-256."""
    size, width, count = batches.batch_size, sum(batches.plan.points), len(batches)
    options: dict[str, Any] = {"chunks": (size, width), "shuffle": True, "compression": "lzf", "fletcher32": True}
    types = {"x": "f4", "y": "f4", "k": "u1", "role": "u1"}
    if batches.knowledge is not None:
        types |= {"mean": "f4", "log_density": "f4"}
    with signals_held():
        group = part.file.create_group(split)
        ranges = len(batches.plan.ranges)
        group.create_dataset("process", (count * size, ranges), "f4", chunks=(size, ranges), fletcher32=True)
        if batches.knowledge is not None:
            group.create_dataset("joint", (count * size,), "f4", chunks=(size,), fletcher32=True)
        for name, kind in types.items():
            empty = np.nan if kind == "f4" else 0
            group.create_dataset(name, (count * size, width), kind, fillvalue=empty, **options)
        for name in ("points", "context"):
            group.create_dataset(name, (count,), "i4", chunks=True, fletcher32=True)
    digests = []
    for number in range(count):
        batch = batches[number]
        digests.append(_digest(batch))
        with signals_held():
            _put(group, batch, number, size)
            part.save()
    return digests


def _put(group: h5py.Group, batch: PairBatch, number: int, size: int) -> None:
    tasks = slice(number * size, (number + 1) * size)
    points, context = batch.x.shape[1], batch.context
    group["points"][number], group["context"][number] = points, context
    group["x"][tasks, :points] = batch.x.numpy()
    group["y"][tasks, :points] = batch.y.numpy()
    group["k"][tasks, :points] = batch.member.numpy()
    group["role"][tasks, :context] = CONTEXT
    group["role"][tasks, context:] = TARGET
    if batch.process is not None:
        group["process"][tasks] = batch.process.numpy()
    if batch.oracle is not None:
        group["mean"][tasks, context:points] = batch.oracle.mean.numpy()
        group["log_density"][tasks, context:points] = batch.oracle.log_density.numpy()
        group["joint"][tasks] = batch.oracle.joint.numpy()


def _digest(batch: PairBatch) -> str:
    """SHA-256 of the arrays of a batch in the file."""
    digest = hashlib.sha256(str((batch.context, tuple(batch.x.shape))).encode())
    parts = (batch.x, batch.y, batch.member, *(batch.oracle or ()), batch.process)
    for values in (part for part in parts if part is not None):
        kind = torch.int64 if values is batch.member else torch.float32
        digest.update(values.to(kind).contiguous().numpy().data)
    return digest.hexdigest()


def _check_arrays(file: h5py.File, split: str, count: int) -> None:
    """Raise DataError where a split does not hold ``count`` batches of arrays that fit together."""
    if not isinstance(file.get(split, getlink=True), h5py.HardLink) or not isinstance(file[split], h5py.Group):
        raise DataError(f"it has no group {split}")
    group = file[split]
    x = array(group, "x", "f", 2)
    sizes = [array(group, name, "iu", 1) for name in ("points", "context")]
    names = {"y": "f", "k": "iu", "role": "iu"}
    if "joint" in group:
        names |= {"mean": "f", "log_density": "f"}
        if array(group, "joint", "f", 1).shape != x.shape[:1]:
            raise DataError(f"{split}/joint must have {len(x)} entries")
    for name, kinds in names.items():
        if array(group, name, kinds, 2).shape != x.shape:
            raise DataError(f"{split}/{name} must be of the shape of x, {x.shape}, it is {group[name].shape}")
    if "process" in group and len(array(group, "process", "f", 2)) != len(x):
        raise DataError(f"{split}/process must have {len(x)} rows")
    if any(len(size) != count for size in sizes) or len(x) % count:
        raise DataError(f"{split} must hold {count} batches of equal size, points has {len(sizes[0])} entries")
    points, context = sizes[0][()], sizes[1][()]
    if not ((context >= 1) & (context < points) & (points <= x.shape[1])).all():
        raise DataError(f"{split} must have context below points, and points at most {x.shape[1]}")
