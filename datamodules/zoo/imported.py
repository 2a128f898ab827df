"""Import of users' networks as a zoo: modules, or folders of state dictionaries, with the tables they work on."""

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from datamodules.commands import check_target
from datamodules.zoo.meta import measured
from datamodules.zoo.splits import split_networks, together
from datamodules.zoo.state_dicts import Stored, filled, module_of, read_folder
from datamodules.zoo.targets import targets_of
from datamodules.zoo.tasks import ABSENT, IMPORTED, Tasks, parts
from datamodules.zoo.training import DEAD
from datamodules.zoo.zoo_file import Models, Zoo, write_zoo
from tabattn.contract.activations import ACTIVATIONS
from tabattn.contract.checks import check_least
from tabattn.contract.graphs import OUTPUT, NeuronDAG, Population
from tabattn.contract.modules import UnsupportedModule, from_module, to_module
from tabattn.metafeatures import NAMES

STREAM = 73

Ints = NDArray[np.int64]


class Table(NamedTuple):
    """Table that networks work on.

    Attributes:
        x: Inputs in the units that the networks take, ``(rows, columns)``.
        y: Targets in the units of their outputs, ``(rows,)`` or ``(rows, outputs)``; or, with ``labels``, the class of
            each row, in the order of the outputs.
        labels: Whether targets are classes, of which two may be told apart by one output, a logit; None = words are,
            and so is a column of whole numbers for networks of several outputs, of which a ``TableWarning`` tells.
    """

    x: ArrayLike
    y: ArrayLike
    labels: bool | None = None


def import_networks(
    path: str | Path,
    networks: Iterable[nn.Module | NeuronDAG],
    tables: Table | Sequence[Table],
    task: Sequence[int] | None = None,
    run: Sequence[int] | None = None,
    frac: Sequence[float] | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Write a zoo of networks that are there already.

    Args:
        path: The file to write.
        networks: ``nn.Sequential`` of linear layers and activations, or whatever ``from_module`` takes, or graphs.
        tables: The table that they work on, or several.
        task: Number of the table of each network; none = there is one table.
        run: Number of the training run of each network, so that checkpoints of a run stay together in splits; none =
            each has its own. Copies of a network stay together in any case, also with neurons in another order.
        frac: Share of its training at which each network was kept; none = 1.
        seed: Seed of the parts of rows and networks.
        overwrite: Whether an existing file may be replaced.

    Raises:
        UnsupportedModule: A network has a part that a zoo cannot hold; it is named.
        ValueError: Networks and tables do not fit, or the file exists.
        DataError: The file cannot be written.
    """
    dags = [_graph(number, network) for number, network in enumerate(networks)]
    names = [f"network {number}" for number in range(len(dags))]
    return _write(Path(path), dags, names, tables, task, run, frac, seed, overwrite)


def _write(
    path: Path,
    dags: list[NeuronDAG],
    names: list[str],
    tables: Table | Sequence[Table],
    task: Sequence[int] | None,
    run: Sequence[int] | None,
    frac: Sequence[float] | None,
    seed: int,
    overwrite: bool,
) -> Path:
    """Write a zoo of graphs, whose names are for messages; the other arguments as of ``import_networks``."""
    check_target(path, overwrite)
    check_least(seed=(seed, 0))
    given = [tables] if isinstance(tables, Table) else list(tables)
    if not dags or not given:
        raise ValueError(f"a zoo has at least 1 network and 1 table, got {len(dags)} and {len(given)}")
    numbers = {"task": _column("task", task, np.zeros(len(dags))), "run": _column("run", run, np.arange(len(dags)))}
    if (outside := (numbers["task"] < 0) | (numbers["task"] >= len(given))).any():
        raise ValueError(f"task must be 0 to {len(given) - 1}, got {int(numbers['task'][outside][0])}")
    outputs = {int(own): _outputs(dag) for own, dag in zip(numbers["task"], dags, strict=True)}
    tasks = _tasks(given, outputs, seed)
    share = _column("frac", frac, np.ones(len(dags)))
    models = _models(dags, names, tasks, numbers["task"].astype(np.int64), numbers["run"].astype(np.int64), share)
    arch, words = _architectures(dags)
    models["arch"] = arch
    facts: dict[str, Any] = {"imported": len(dags), "seed": seed}
    splits = split_networks(models, seed)
    write_zoo(path, Zoo(Population.of(dags), models, tasks, splits, words, facts, measured(tasks), tuple(NAMES)))
    return path


def import_folder(
    path: str | Path,
    folder: str | Path,
    architecture: str | nn.Module,
    table: Table,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Write a zoo of the state dictionaries of a folder, which are read without running code of theirs.

    Args:
        path: The file to write.
        folder: Folder of ``.pt`` or ``.safetensors`` files, each a network; the files of a subfolder are the
            checkpoints of one run, in the order of their names.
        architecture: Their architecture, as a module, or in words such as ``4-16relu-3``, or the activation function
            between their linear layers, such as ``relu``.
        table: The table that they work on.
        seed: Seed of the parts of rows and networks.
        overwrite: Whether an existing file may be replaced.

    Raises:
        ValueError: A file does not fit the architecture or the table, or the file to write exists.
        UnsupportedModule: The architecture has a part that a zoo cannot hold.
        DataError: A file cannot be read or written.
    """
    check_target(Path(path), overwrite)
    dags, names, runs, shares = [], [], [], []
    for stored in read_folder(Path(folder)):
        if isinstance(architecture, str):
            empty: nn.Module = module_of(architecture, stored)
        else:
            empty = copy.deepcopy(architecture)
        dags.append(_from_file(stored, empty))
        names.append(str(stored.path))
        runs.append(stored.run)
        shares.append(stored.frac)
    return _write(Path(path), dags, names, table, None, runs, shares, seed, overwrite)


def _from_file(stored: Stored, empty: nn.Module) -> NeuronDAG:
    network = filled(empty, stored)
    try:
        return from_module(network)
    except UnsupportedModule:
        raise
    except ValueError as ex:
        raise ValueError(f"{stored.path}: {ex}") from ex


def _graph(number: int, network: nn.Module | NeuronDAG) -> NeuronDAG:
    if isinstance(network, NeuronDAG):
        return network
    try:
        return from_module(network)
    except UnsupportedModule as ex:
        raise UnsupportedModule(f"{number}.{ex.name}".rstrip("."), ex.module, ex.why) from ex
    except ValueError as ex:
        raise ValueError(f"network {number}: {ex}") from ex


def _column(name: str, values: Sequence[float] | None, default: NDArray[Any]) -> NDArray[Any]:
    if values is not None and len(values) != len(default):
        raise ValueError(f"{name} must have a number for each of {len(default)} networks, got {len(values)}")
    return default if values is None else np.asarray(values)


def _tasks(tables: Sequence[Table], outputs: dict[int, int], seed: int) -> Tasks:
    """Tables as tasks: rows are shuffled, so that those to train on come first."""
    cells = [_cells(number, table, outputs.get(number)) for number, table in enumerate(tables)]
    rows = max(len(x) for x, _, _ in cells)
    x = np.full((len(cells), rows, max(each.shape[1] for each, _, _ in cells)), np.nan, np.float32)
    y = np.full((len(cells), rows, max(each.shape[1] for _, each, _ in cells)), np.nan, np.float32)
    part = np.full((len(cells), rows), ABSENT, np.uint8)
    for task, (inputs, target, _) in enumerate(cells):
        order = np.random.default_rng([seed, STREAM, task]).permutation(len(inputs))
        x[task, : len(order), : inputs.shape[1]] = inputs[order]
        y[task, : len(order), : target.shape[1]] = target[order]
        part[task, : len(order)] = parts(len(order))
    count = len(cells)
    return Tasks(
        x,
        y,
        part,
        np.asarray([each.shape[1] for each, _, _ in cells]),
        np.full(count, IMPORTED, np.uint8),
        np.full(count, np.nan, np.float32),
        np.zeros(count, np.float32),
        np.ones(count, np.float32),
        np.asarray([classes for _, _, classes in cells]),
    )


def _outputs(dag: NeuronDAG) -> int:
    return int(((dag.flags & OUTPUT) > 0).sum())


def _cells(number: int, table: Table, outputs: int | None) -> tuple[NDArray[np.float32], NDArray[np.float32], int]:
    """Inputs, targets and number of classes of a table, whose networks have so many outputs."""
    x, y = np.asarray(table.x, np.float32), np.asarray(table.y)
    if x.ndim != 2 or len(y) != len(x) or y.ndim not in (1, 2) or len(x) < 10:
        raise ValueError(
            f"table {number} must have x (rows, columns) and y (rows,) or (rows, outputs) of at least 10 rows, got "
            f"{x.shape} and {y.shape}"
        )
    target, classes = targets_of(number, y, table.labels, outputs)
    if not (np.isfinite(x).all() and np.isfinite(target).all()):
        raise ValueError(f"table {number} must be finite: networks have no answer for a missing value")
    return x, target, classes


def _models(
    dags: list[NeuronDAG], names: list[str], tasks: Tasks, task: Ints, run: Ints, frac: NDArray[np.float64]
) -> Models:
    """Facts of networks, with their scores."""
    scores = [_scores(name, dag, tasks, int(own)) for name, dag, own in zip(names, dags, task, strict=True)]
    r2 = np.asarray([each for each, _ in scores], np.float32)
    return {
        "run": together(run, _numbers([_fingerprint(dag) for dag in dags])[0]),
        "task": task,
        "step": np.full(len(dags), -1),
        "frac": frac,
        "lr": np.full(len(dags), np.nan, np.float32),
        "train_r2": r2[:, 0],
        "val_r2": r2[:, 1],
        "test_r2": r2[:, 2],
        "constant": np.asarray([dead for _, dead in scores]),
    }


def _scores(name: str, dag: NeuronDAG, tasks: Tasks, task: int) -> tuple[list[float], bool]:
    """R2 of a network in each part of its table, and whether it is dead: its outputs constant, or not all finite."""
    columns, outputs = int(tasks.columns[task]), int(np.isfinite(tasks.y[task, 0]).sum())
    found = dag.inputs, _outputs(dag)
    if found != (columns, outputs):
        raise ValueError(
            f"{name} has {found[0]} inputs and {found[1]} outputs, its table has {columns} columns and "
            f"{outputs} targets"
        )
    own = tasks.part[task] != ABSENT
    with torch.no_grad():
        made = to_module(dag)(torch.from_numpy(tasks.x[task, own, :columns]))
    spread = made.std(0).max()
    # An infinite weight may be within bounds in the outputs, but not in the latent of a network.
    finite = np.isfinite(dag.weight).all() and np.isfinite(dag.bias).all() and made.isfinite().all()
    dead = not bool(finite and spread >= DEAD)
    if tasks.classes[task]:
        made = made.softmax(1) if outputs > 1 else made.sigmoid()
    answer = made.numpy()
    target, part = tasks.y[task, own, :outputs], tasks.part[task, own]
    return [_r2(answer[part == each], target[part == each]) for each in range(3)], dead


def _r2(found: NDArray[np.float32], target: NDArray[np.float32]) -> float:
    total = float(np.square(target - target.mean(0)).sum())
    return 1 - float(np.square(found - target).sum()) / total if total else float("nan")


def _fingerprint(dag: NeuronDAG) -> bytes:
    """What does not change when the hidden neurons of a level change places or signs."""
    child = dag.level[dag.child]
    parts = [np.bincount(dag.level), np.bincount(child)]
    for level in range(int(dag.level[-1]) + 1):
        own = dag.level == level
        parts += [np.sort(dag.type[own]), np.sort(dag.flags[own]), np.sort(np.abs(dag.bias[own]))]
        parts.append(np.sort(np.abs(dag.weight[child == level])))
    return b"".join(part.tobytes() for part in parts)


def _architectures(dags: list[NeuronDAG]) -> tuple[Ints, tuple[str, ...]]:
    """Number of the architecture of each network, and the architectures in words."""
    number, first = _numbers([dag.architecture() for dag in dags])
    return number, tuple(_in_words(dags[i]) for i in first)


def _numbers(keys: list[bytes]) -> tuple[Ints, list[int]]:
    """Number the distinct keys in the order in which they occur; also where each occurs first."""
    known: dict[bytes, int] = {}
    number = np.asarray([known.setdefault(key, len(known)) for key in keys], np.int64)
    return number, np.unique(number, return_index=True)[1].tolist()


def _in_words(dag: NeuronDAG) -> str:
    names, words = list(ACTIVATIONS), [str(dag.inputs)]
    for level in range(1, int(dag.level[-1]) + 1):
        own = dag.level == level
        kinds = {names[code] for code in dag.type[own].tolist()} - {"identity"}
        words.append(f"{int(own.sum())}{'+'.join(sorted(kinds))}")
    return "-".join(words)
