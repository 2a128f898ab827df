"""Weight files of networks: safetensors, with class and arguments of the network in the header."""

from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tabattn.contract.errors import DataError
from tabattn.prior import NETWORKS
from tabattn.prior.classifier_network import ContextClassifier
from tabattn.prior.earlier import upgrade, upgrade_regression
from tabattn.prior.options import PriorOptions
from tabattn.storage import trusted
from tabattn.storage.checkpoint_files import REMOTE, find
from tabattn.storage.checkpoint_files import read as read_parts
from tabattn.storage.described import class_named, mechanism_named, plain_defaults
from tabattn.storage.finite import non_finite_weight
from tabattn.storage.hyperparameters import import_path, plain
from tabattn.storage.network_check import check_network, check_shapes
from tabattn.storage.weight_files import read, write

PREFIX = "network."
"""Prefix of the names of a network's weights, in weight files and in checkpoints."""

ATTENTIONS = ("attention", "feature_attention", "target_attention", "cell_attention")
"""Network arguments that are mechanisms."""

__all__ = [
    "PREFIX",
    "build",
    "described",
    "load_network",
    "packaged_path",
    "read",
    "read_checkpoint",
    "restore",
    "write",
]


TASKS = ("PriorClassification", "PriorRegression")
"""Tasks whose checkpoints hold such networks."""


def packaged_path(name: str = "prior") -> Path:
    """Path of weights that ship with the package: ``prior``, of the classifier, or ``regression``."""
    return Path(str(resources.files("tabattn"))) / "pretrained" / f"{name}.safetensors"


def load_network(source: str | Path | None = None, name: str = "prior") -> ContextClassifier:
    """Load a trained network from a weight file or a checkpoint.

    Args:
        source: Weight file (.safetensors) or checkpoint of one of ``TASKS`` (.ckpt); None = weights that ship with the
            package.
        name: Name of these; see ``packaged_path``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file holds no such network, or the path is a URL.
    """
    if source is not None and REMOTE.match(str(source)):
        find(source)
    path = packaged_path(name) if source is None else Path(source)
    if not path.is_file():
        hint = "" if source is not None else "; give a file or a network as model, or install the complete package"
        raise FileNotFoundError(f"there are no weights at {path}{hint}")
    if path.suffix == ".safetensors":
        tensors, header = read(path)
        return restore(tensors, header, str(path))
    weights, arguments, _ = read_checkpoint(path)
    return build(arguments, weights, str(path))


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]]:
    """Read weights, class and arguments of the network from a checkpoint of one of ``TASKS``.

    Returns:
        The network's weights, its class and arguments, and facts of its training.

    Raises:
        ValueError: The file is no checkpoint of one of them.
    """
    try:
        checkpoint = read_parts(path)
    except DataError as ex:
        raise ValueError(str(ex)) from ex
    known = checkpoint.get("hyper_parameters", {})
    task = str(known.get("_class_path", "")).rpartition(".")[2]
    if task not in TASKS:
        raise ValueError(f"{path} is no checkpoint of {' or '.join(TASKS)}: its task is {task or 'not named'}")
    weights = {k.removeprefix(PREFIX): v for k, v in checkpoint["state_dict"].items() if k.startswith(PREFIX)}
    facts = {"steps": checkpoint.get("global_step"), "epoch": checkpoint.get("epoch")}
    data = {k: v for k, v in checkpoint.get("datamodule_hyper_parameters", {}).items() if not k.startswith("_")}
    network = described_by(known, str(path), upgrade_regression if task == "PriorRegression" else upgrade)
    return weights, network, facts | {"data": data} if data else facts


def described_by(
    arguments: Mapping[str, Any], where: str, upgrade: Callable[[Mapping[str, Any]], dict[str, Any]] = upgrade
) -> dict[str, Any]:
    """Class and arguments of the network that a task with these arguments, of any version, builds.

    Args:
        arguments: Arguments of the task, or of a network in a file of an earlier version.
        where: Name of their source, for messages.
        upgrade: Migrates arguments of an earlier version.

    Raises:
        ValueError: They describe no network.
    """
    try:
        today = arguments if "network" in arguments else upgrade(arguments)
    except (KeyError, TypeError, ValueError) as ex:
        raise ValueError(f"{where} does not hold the network it describes: {ex}") from ex
    given = today["network"] if isinstance(today["network"], dict) else {"class_path": today["network"]}
    options = given.get("init_args") or {}
    if not isinstance(options, dict):
        raise ValueError(f"{where} has arguments of a network that are not named: {trusted.shortened(options)}")
    attentions = {name: today[name] for name in ATTENTIONS if name in today}
    return {"class_path": given.get("class_path"), "init_args": {**options, **attentions}}


def restore(tensors: Mapping[str, Tensor], header: Mapping[str, Any], where: str) -> ContextClassifier:
    """Build the network that a header describes; see ``build``."""
    described = header.get("network")
    if not isinstance(described, dict):
        raise ValueError(f"{where} describes no network")
    if "class_path" not in described:
        described = described_by(described, where)
    weights = {name.removeprefix(PREFIX): value for name, value in tensors.items() if name.startswith(PREFIX)}
    return build(described, weights, where)


def build(described: Mapping[str, Any], weights: Mapping[str, Tensor], where: str) -> ContextClassifier:
    """Build a network for inference, without touching the global random state.

    Args:
        described: ``class_path`` and ``init_args`` of the network; mechanisms among its arguments likewise.
        weights: All its weights.
        where: Name of their source, for messages.

    Raises:
        ValueError: Arguments and weights do not match.
    """
    cls = class_named(described.get("class_path"), NETWORKS, "tabattn.prior", ContextClassifier, "a network", where)
    given: dict[str, Any] = dict(described.get("init_args") or {})
    given |= {name: mechanism_named(given[name], where) for name in ATTENTIONS if name in given}
    try:
        if isinstance(given.get("options"), dict):
            given["options"] = PriorOptions(**given["options"])
        check_network(cls, given, weights)
        with plain_defaults(), torch.random.fork_rng(devices=[]):
            with torch.device("meta"):
                check_shapes(cls(**given), weights)
            network = cls(**given)
        network.load_state_dict(dict(weights))
    except (TypeError, ValueError, RuntimeError, ArithmeticError, AttributeError, LookupError) as ex:
        raise ValueError(f"{where} does not hold the network it describes: {' '.join(str(ex).split())}") from ex
    if name := non_finite_weight(network, weights):
        raise ValueError(f"{where} holds weights that are not finite, in {name}: its training had diverged")
    return network.eval().requires_grad_(False)


def described(network: ContextClassifier) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights of a network under ``PREFIX``, and its class and arguments in plain values."""
    weights = {PREFIX + name: value for name, value in network.state_dict().items()}
    return weights, {"class_path": import_path(type(network)), "init_args": plain(network.arguments)}
