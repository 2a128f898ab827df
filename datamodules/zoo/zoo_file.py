"""Zoo files: HDF5 files of trained networks and their tasks, in compressed sparse rows, written atomically."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from datamodules.hdf5 import SEALED, Reader, array
from datamodules.hdf5_write import whole_file
from datamodules.zoo.graph_checks import graph_fault
from datamodules.zoo.tasks import Tasks
from tabattn.contract.activations import ACTIVATIONS
from tabattn.contract.errors import DataError
from tabattn.contract.graphs import Population

FORMAT, VERSION = "tabattn-zoo", 1

Models = dict[str, NDArray[Any]]

MODELS = {
    "run": np.int64,
    "task": np.int32,
    "arch": np.int32,
    "step": np.int32,
    "frac": np.float32,
    "lr": np.float32,
    "train_r2": np.float32,
    "val_r2": np.float32,
    "test_r2": np.float32,
    "constant": np.bool_,
}
"""Facts of each network, and their types in memory."""

GRAPH = {
    "vertex_pointer": np.int64,
    "edge_pointer": np.int64,
    "type": np.uint8,
    "level": np.uint8,
    "flags": np.uint8,
    "bias": np.float32,
    "degree": np.int32,
    "source": np.uint16,
    "weight": np.float32,
}
"""Arrays of a population, and their types in the file."""

TASKS = {
    "x": (np.float32, 3),
    "y": (np.float32, 3),
    "part": (np.uint8, 2),
    "columns": (np.int64, 1),
    "family": (np.uint8, 1),
    "noise": (np.float32, 1),
    "y_mean": (np.float32, 1),
    "y_std": (np.float32, 1),
    "classes": (np.int64, 1),
}
"""Arrays of the tasks: types and dimensions."""

SPLITS = ("network", "task", "architecture")
"""What no two parts of a split share."""
CHUNK = 1 << 16


@dataclass(frozen=True)
class Zoo:
    """Population of trained networks with their tasks.

    Args:
        population: The networks.
        models: Facts of each network, by the names in ``MODELS``, each ``(networks,)``: number of its run (networks of
            one run are its checkpoints; copies of a network have the same number too), of its task and of its
            architecture, steps trained, share of the training, learning rate, R2 on rows of each part of the task,
            and whether it is dead: its outputs are constant or not finite.
        tasks: The tasks.
        splits: Part of each network, 0 = training, 1 = validation, 2 = test, by what the parts do not share.
        architectures: Architectures in words.
        facts: Where the networks come from, in plain values.
        meta: Meta-features of the training rows of each task, ``(tasks, features)``; NaN = undefined.
        names: Their names.
    """

    population: Population
    models: Models
    tasks: Tasks
    splits: dict[str, NDArray[np.uint8]]
    architectures: tuple[str, ...]
    facts: dict[str, Any]
    meta: NDArray[np.float32]
    names: tuple[str, ...]


def write_zoo(path: Path, zoo: Zoo) -> None:
    """Write a zoo atomically, with a checksum.

    Raises:
        DataError: The file cannot be written.
    """
    with whole_file(path) as part:
        file = part.file
        _put(file, "graph", {name: getattr(zoo.population, name).astype(kind) for name, kind in GRAPH.items()})
        _put(file, "models", {name: zoo.models[name].astype(_stored(kind)) for name, kind in MODELS.items()})
        _put(file, "tasks", zoo.tasks._asdict())
        _put(file, "splits", zoo.splits)
        if zoo.names:
            _put(file, "meta", {"values": zoo.meta, "names": _text(zoo.names)})
        file["architectures"] = _text(zoo.architectures)
        facts = {"facts": json.dumps(zoo.facts, sort_keys=True), "activations": json.dumps(list(ACTIVATIONS))}
        file.attrs.update({"format": FORMAT, "version": VERSION, SEALED: True, **facts})


def _put(file: h5py.File, group: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    for name, values in arrays.items():
        chunks = (max(1, min(len(values), CHUNK // max(1, values[0].size))), *values.shape[1:]) if values.size else None
        filters = {"chunks": chunks, "compression": "gzip", "shuffle": True, "fletcher32": True} if chunks else {}
        file.create_dataset(f"{group}/{name}", data=values, **filters)


def _stored(kind: type) -> type:
    return np.uint8 if kind is np.bool_ else kind


def _text(words: tuple[str, ...]) -> NDArray[np.bytes_]:
    return np.asarray([word.encode() for word in words], dtype="S")


def read_zoo(path: Path) -> Zoo:
    """Read a zoo into memory.

    Raises:
        ValueError: There is no such file.
        DataError: It is damaged or no zoo.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give the file of a zoo")
    if not path.is_file():
        raise ValueError(f"there is no file {path}: python -m datamodules.zoo --out {path} makes it")
    with Reader(path).checked() as file:
        _check_format(file)
        graph = {name: _read(file, f"graph/{name}", kind) for name, kind in GRAPH.items()}
        graph |= {name: graph[name].astype(np.int64) for name in ("degree", "source")}
        models: Models = {
            name: _read(file, f"models/{name}", _stored(kind)).astype(kind) for name, kind in MODELS.items()
        }
        tasks = Tasks(**{name: _read(file, f"tasks/{name}", kind, most) for name, (kind, most) in TASKS.items()})
        splits = {name: _read(file, f"splits/{name}", np.uint8) for name in SPLITS}
        words = tuple(word.decode() for word in array(file, "architectures", "S", 1)[()])
        meta, names = np.zeros((len(tasks.x), 0), np.float32), ()
        if "meta" in file:
            meta = array(file, "meta/values", "f", 2)[()]
            names = tuple(word.decode() for word in array(file, "meta/names", "S", 1)[()])
        facts = json.loads(file.attrs["facts"])
        zoo = Zoo(Population(**graph), models, tasks, splits, words, facts, meta, names)
        if fault := fault_of(zoo):
            raise DataError(fault)
    return zoo


def _check_format(file: h5py.File) -> None:
    if file.attrs.get("format") != FORMAT:
        raise DataError("it is no zoo of networks: python -m datamodules.zoo makes one")
    if file.attrs["version"] != VERSION:
        raise DataError(f"it has version {file.attrs['version']}, this package reads version {VERSION}")
    if json.loads(file.attrs["activations"]) != list(ACTIVATIONS):
        raise DataError("it numbers activation functions otherwise than this package")


def _read(file: h5py.File, name: str, kind: type, dimensions: int = 1) -> NDArray[Any]:
    found = array(file, name, np.dtype(kind).kind, dimensions)[()]
    return np.asarray(found, dtype=kind)


def fault_of(zoo: Zoo) -> str:
    """What is wrong with a zoo; empty = nothing."""
    population, count, tasks = zoo.population, len(zoo.population), len(zoo.tasks.x)
    lengths = {"graph/edge_pointer": len(population.edge_pointer) - 1}
    lengths |= {f"models/{name}": len(values) for name, values in zoo.models.items()}
    lengths |= {f"splits/{name}": len(values) for name, values in zoo.splits.items()}
    wrong = next((name for name, length in lengths.items() if length != count), None)
    if wrong is not None:
        return f"{wrong} has {lengths[wrong]} entries for {count} networks"
    if zoo.meta.shape != (tasks, len(zoo.names)):
        return f"meta/values has the shape {zoo.meta.shape}, not {(tasks, len(zoo.names))}"
    rows = {len(getattr(zoo.tasks, name)) for name in zoo.tasks._fields}
    if rows != {tasks}:
        return "its tasks are of several numbers"
    if zoo.tasks.part.shape != zoo.tasks.x.shape[:2] or zoo.tasks.y.shape[:2] != zoo.tasks.x.shape[:2]:
        return "rows of its tasks are of several numbers"
    if ((zoo.tasks.columns < 1) | (zoo.tasks.columns > zoo.tasks.x.shape[2])).any():
        return f"tasks/columns is not within 1 to {zoo.tasks.x.shape[2]}"
    bounds = {"task": tasks, "arch": len(zoo.architectures)}
    for name, bound in bounds.items():
        if ((zoo.models[name] < 0) | (zoo.models[name] >= bound)).any():
            return f"models/{name} is not within 0 to {bound - 1}"
    return graph_fault(population)
