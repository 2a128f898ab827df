"""Files of fitted estimators: tensors and plain values only, so that loading runs no code of the file."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tabattn.attention import AttentionFactory, Softmax
from tabattn.contract.cells import Column
from tabattn.contract.columns import Floats, Reading
from tabattn.reconstruction import NETWORKS
from tabattn.reconstruction.cell_network import CellNetwork
from tabattn.reconstruction.estimator.arguments import check_arguments
from tabattn.reconstruction.estimator.members import Members
from tabattn.reconstruction.estimator.settings import TrainingSettings
from tabattn.reconstruction.estimator.writing import Writing
from tabattn.storage import table_headers
from tabattn.storage.described import class_named, mechanism_named, plain_defaults
from tabattn.storage.finite import non_finite_weight
from tabattn.storage.hyperparameters import mechanism, plain
from tabattn.storage.network_check import check_network, check_shapes
from tabattn.storage.weight_files import read, write

KIND = "tabattn.reconstruction.estimator"
"""Kind of these files, in their metadata."""

ATTENTIONS = ("attention", "attribute_attention")
MACHINE = ("device", "verbose", "settings", "random_state", *ATTENTIONS)
"""Arguments that are not saved as they are; of the settings only the network is."""

MOST_MEMBERS = 10_000
"""Largest ensemble of a saved estimator."""

Estimator = TypeVar("Estimator")


def save(estimator: Any, path: str | Path, default: TrainingSettings, facts: Mapping[str, Any]) -> None:
    """Save a fitted estimator.

    Args:
        estimator: The estimator.
        path: The file.
        default: Settings where ``settings`` is None.
        facts: What its class adds to the header.

    Raises:
        ValueError: A part cannot be written.
    """
    members: Members | None = estimator.members_
    settings = estimator.settings or default
    arguments = estimator.get_params(deep=False)
    tensors: dict[str, Tensor] = {}
    if members is not None:
        tensors["known"] = members.known
        tensors |= {f"context.{number}": rows for number, rows in enumerate(members.contexts)}
        for number, network in enumerate(members.networks):
            tensors |= {f"member.{number}.{name}": value for name, value in network.state_dict().items()}
    header = {
        "estimator": type(estimator).__name__,
        "parameters": {name: value for name, value in arguments.items() if name not in MACHINE},
        "random_state": estimator.random_state if isinstance(estimator.random_state, Integral) else None,
        "seed": estimator.seed_,
        "network": plain(settings.network),
        **{name: plain(mechanism(arguments[name], name)) for name in ATTENTIONS},
        "members": None if members is None else [len(members.networks), len(members.contexts)],
        "table": [] if members is None else [column.plain() for column in members.columns],
        "losses": estimator.validation_losses_,
        **table_headers.plain_encoder(estimator),
        **facts,
    }
    write(path, tensors, header, KIND)


def load(
    cls: type[Estimator], path: str | Path, device: str | torch.device, default: TrainingSettings
) -> tuple[Estimator, dict[str, Any]]:
    """Load what is common to the estimators.

    Returns:
        The estimator, and the header.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, or of another estimator.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    tensors, header = read(path, KIND)
    if header.get("estimator") != cls.__name__:
        raise ValueError(f"{path} holds no {cls.__name__}, but {str(header.get('estimator'))[:40]!r}")
    with refusing(path):
        attentions = {name: mechanism_named(header[name], str(path)) or Softmax for name in ATTENTIONS}
        factory = _network(header["network"], str(path))
        parameters = _parameters(cls, header["parameters"])
        seed = header["random_state"]
        if seed is not None:
            table_headers.whole("random_state", seed, 0, table_headers.SEEDS - 1)
        settings = replace(default, network=factory)
        maker: Any = cls
        made = maker(**attentions, **parameters, settings=settings, device=device, random_state=seed)
        check_arguments(made.get_params(deep=False), default)
        made.seed_ = table_headers.whole("seed", header["seed"], 0, table_headers.SEEDS - 1)
        made.encoder_ = table_headers.encoder(header)
        made.n_features_in_ = header["columns"]
        if hasattr(made.encoder_, "feature_names_in_"):
            made.feature_names_in_ = made.encoder_.feature_names_in_
        made.validation_losses_ = [[float(loss) for loss in losses] for losses in header["losses"]]
        columns = tuple(map(Column.of, header["table"]))
        made.members_ = _members(header["members"], columns, tensors, factory, attentions)
    return made, header


@contextmanager
def refusing(path: str | Path) -> Iterator[None]:
    """Context in which parts of a file that do not fit together are one ValueError that names the file."""
    try:
        yield
    except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError, AttributeError) as ex:
        raise ValueError(f"{path} holds no estimator that fits together: {' '.join(str(ex).split())}") from ex


def _parameters(cls: type, given: Any) -> dict[str, Any]:
    """Arguments of the constructor: those that are saved, each of the type of its default."""
    defaults = {name: value for name, value in cls().get_params(deep=False).items() if name not in MACHINE}
    if not isinstance(given, dict) or set(given) != set(defaults):
        raise ValueError(f"its parameters must be {', '.join(defaults)}, got {list(given)[:9]}")
    for name, default in defaults.items():
        if type(given[name]) is not type(default) and not (type(default) is float and type(given[name]) is int):
            raise ValueError(f"{name} must be of the type {type(default).__name__}, got {str(given[name])[:40]!r}")
    return given


def _network(described: Any, where: str) -> partial[CellNetwork]:
    """Factory of the networks, whose class is allowed."""
    given = described if isinstance(described, dict) else {}
    path = given.get("class_path")
    found = class_named(path, NETWORKS, "tabattn.reconstruction", CellNetwork, "a network", where)
    options = given.get("init_args") or {}
    if not isinstance(options, dict):
        raise ValueError("arguments of a network must be named")

    return partial(found, **options)


def _members(
    sizes: Any,
    columns: tuple[Column, ...],
    tensors: Mapping[str, Tensor],
    factory: partial[CellNetwork],
    attentions: Mapping[str, AttentionFactory],
) -> Members | None:
    """Build the networks of a file, and check their weights and the table."""
    if sizes is None:
        return None
    count, parts = (table_headers.whole("members", size, 1, MOST_MEMBERS) for size in sizes)
    known = tensors["known"]
    if known.shape[1:] != (len(columns),) or known.dtype != torch.float32 or known.isinf().any():
        raise ValueError(f"its table has the shape {tuple(known.shape)}, not (rows, {len(columns)}), or infinite cells")
    for place, column in enumerate(columns):
        codes = known[:, place][~known[:, place].isnan()]
        if column.categories and not torch.isin(codes, torch.arange(len(column.categories))).all():
            raise ValueError(f"column {column.name!r} of its table holds codes of no category")
    contexts = [tensors[f"context.{number}"] for number in range(parts)]
    for rows in contexts:
        if rows.dtype != torch.int64 or rows.dim() != 1 or not len(rows) or rows.min() < 0 or rows.max() >= len(known):
            raise ValueError("a context names rows that its table does not have")
    networks = [_restored(f"member.{number}.", columns, tensors, factory, attentions) for number in range(count)]
    return Members(networks, columns, known, contexts)


def _restored(
    prefix: str,
    columns: tuple[Column, ...],
    tensors: Mapping[str, Tensor],
    factory: partial[CellNetwork],
    attentions: Mapping[str, AttentionFactory],
) -> CellNetwork:
    weights = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    check_network(cast("type", factory.func), factory.keywords, weights)
    mechanisms = [attentions[name] for name in ATTENTIONS]
    with plain_defaults(), torch.random.fork_rng(devices=[]):
        with torch.device("meta"):
            check_shapes(factory(columns, *mechanisms), weights)
        network: CellNetwork = factory(columns, *mechanisms)
    network.load_state_dict(weights)
    if name := non_finite_weight(network, weights):
        raise ValueError(f"weights are not finite, in {name}: their training had diverged")
    return network.eval().requires_grad_(False)


def plain_entry(entry: Any) -> Any:
    """An entry of a column in plain values.

    Raises:
        ValueError: It is neither a number, a truth value, text nor a date.
    """
    if isinstance(entry, np.generic) and not isinstance(entry, (np.datetime64, np.timedelta64)):
        entry = entry.item()
    if isinstance(entry, pd.Timestamp):
        return {"timestamp": entry.isoformat()}
    if type(entry) not in (str, bool, int, float):
        raise ValueError(f"entries must be numbers, truth values, text or dates to be saved, got {entry!r}")
    return entry


def entry_of(given: Any) -> Any:
    """Entry from its plain values.

    Raises:
        ValueError: It is something else.
    """
    if isinstance(given, dict) and set(given) == {"timestamp"}:
        return pd.Timestamp(given["timestamp"])
    if type(given) not in (str, bool, int, float):
        raise ValueError(f"an entry must be a number, a truth value, text or a date, got {str(given)[:40]!r}")
    return given


def entries_of(given: Any, categories: list[dict[str, int] | None]) -> list[list[Any]]:
    """Entries of the categories of each column, as many as it has categories."""
    sizes = [len(codes or ()) for codes in categories]
    if not isinstance(given, list) or [len(entries) for entries in given] != sizes:
        raise ValueError(f"its columns need {sum(sizes)} entries of categories")
    return [[entry_of(entry) for entry in entries] for entries in given]


def writings_of(given: Any, readings: list[Reading]) -> list[Writing | None]:
    """How the entries of each column are written; files of earlier versions do not say."""
    every = [None] * len(readings) if given is None else given
    if not isinstance(every, list) or len(every) != len(readings):
        raise ValueError(f"writings must be a list of {len(readings)} entries")
    return [Writing.of_plain(each, reading) for each, reading in zip(every, readings, strict=True)]


def ranges_of(given: Any, columns: int) -> Floats:
    """Least and largest number of each column, ``(2, columns)``; files of earlier versions do not say."""
    if given is None:
        return np.stack([np.full(columns, -np.inf), np.full(columns, np.inf)])
    found = np.asarray(given, dtype=np.float64)
    if found.shape != (2, columns) or not (found[0] <= found[1]).all():
        raise ValueError(f"ranges must be {columns} least and largest numbers")
    return found


def others_of(header: Mapping[str, Any], columns: int, kept: Any) -> tuple[dict[int, Any], list[int]]:
    """Values of the constant columns, and the empty columns: together all that the encoder does not keep."""
    constants = {int(index): entry_of(entry) for index, entry in header["constants"].items()}
    empty = [table_headers.whole("an empty column", index, 0, columns - 1) for index in header["empty"]]
    if sorted([*constants, *empty, *kept]) != list(range(columns)):
        raise ValueError("its columns are not constant, empty or kept, each once")
    return constants, empty
